//! ICMP errors and path MTU: RFC 9293 3.9.2.2, RFC 1191, RFC 8201, RFC 5927 (T27).

use super::*;
use crate::tcp::icmp::{arrives, begin_with_path_mtu, packet_bytes};
use crate::tcp::state::CloseReason;
use crate::tcp::status;
use crate::tcp::{End as Ends, Note};
use crate::tick::Deadline;
use crate::wire::ethernet::MacAddress;
use crate::wire::icmp::{Error, ErrorKind, Quoted};
use core::net::{IpAddr, Ipv6Addr};
use proptest::prelude::*;

const NET_UNREACHABLE: ErrorKind = ErrorKind::Unreachable { code: 0 };
const PORT_UNREACHABLE: ErrorKind = ErrorKind::Unreachable { code: 3 };

impl End {
    /// An error arrives that quotes the segment at `seq`.
    pub(super) fn error(&mut self, kind: ErrorKind, seq: Seq) -> Outcome {
        let FourTuple { addresses, local_port: src_port, remote_port: dst_port } = tuple();
        let quoted = Quoted { src: addresses.local(), dst: addresses.remote(), src_port, dst_port, seq };
        let router: IpAddr = Ipv4Addr::new(192, 0, 2, 1).into();
        let error = Error { kind, src_mac: MacAddress::default(), from: router, quoted };
        let settings = self.settings;
        let cx =
            Context { now: self.now, settings: &settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
        arrives(&mut self.tcb, &error, &cx)
    }

    /// Text in flight, all of it sent; returns where it begins.
    fn in_flight(&mut self, octets: usize) -> Seq {
        let from = self.tcb.snd_nxt;
        self.queue(octets);
        self.sends();
        from
    }

    /// Time-outs until the connection ends; returns the reason.
    fn until_it_ends(&mut self) -> CloseReason {
        for _ in 0..20 {
            if let Some(Ends::Closed(reason)) = self.time_out().1.end {
                return reason;
            }
            self.sends();
        }
        panic!("the retransmission limit does not end it");
    }
}

#[test]
fn must_54_hard_error_ends_a_connect_at_once_and_says_why() {
    let (mut client, syn) = syn_sent(settings());
    let out = client.error(PORT_UNREACHABLE, syn.seq);
    assert_eq!(out.end, Some(Ends::Closed(CloseReason::Unreachable)));
    assert_eq!((out.note, client.tcb.state), (Some(Note::IcmpHard), State::Closed));
    client.expect_nothing();
}

#[test]
fn shld_26_hard_error_returns_a_half_open_connection_to_listen() {
    let (_, syn) = syn_sent(settings());
    let (mut server, syn_ack) = syn_received(settings(), &syn);
    assert_eq!(server.error(PORT_UNREACHABLE, syn_ack.seq).end, Some(Ends::Listen));
}

/// Shows RFC 5927.
#[test]
fn t27_hard_error_ends_no_synchronized_connection() {
    let (mut client, _) = established();
    for seq in [client.in_flight(100), client.tcb.snd_una] {
        let out = client.error(PORT_UNREACHABLE, seq);
        assert_eq!((out.end, out.note), (None, Some(Note::IcmpSoft)));
    }
    assert_eq!(client.tcb.state, State::Established);
}

#[test]
fn must_56_soft_errors_end_nothing_and_shld_25_tells_them_at_once_and_when_time_is_out() {
    let kinds = [NET_UNREACHABLE, ErrorKind::TimeExceeded, ErrorKind::ParameterProblem];
    for kind in kinds {
        let (mut client, syn) = syn_sent(settings());
        let out = client.error(kind, syn.seq);
        assert_eq!((out.end, out.note, client.tcb.state), (None, Some(Note::IcmpSoft), State::SynSent));
        assert_eq!(client.until_it_ends(), CloseReason::Unreachable, "{kind:?}");
        let (mut client, _) = established();
        let seq = client.in_flight(100);
        assert!(!status::info(&client.tcb).unreachable);
        assert_eq!(client.error(kind, seq).end, None);
        assert!(status::info(&client.tcb).unreachable, "{kind:?}");
        assert_eq!(client.until_it_ends(), CloseReason::Unreachable, "{kind:?}");
    }
    assert_eq!(syn_sent(settings()).0.until_it_ends(), CloseReason::TimedOut, "nobody said anything");
}

#[test]
fn shld_25_an_error_before_the_last_progress_is_not_the_reason() {
    let (mut client, _) = established();
    let seq = client.in_flight(100);
    client.error(NET_UNREACHABLE, seq);
    client.arrives(client.next(ACK));
    assert!(!status::info(&client.tcb).unreachable);
    client.in_flight(100);
    assert_eq!(client.until_it_ends(), CloseReason::TimedOut);
}

#[test]
fn must_55_source_quench_changes_nothing() {
    let (mut client, _) = established();
    let seq = client.in_flight(4000);
    let before = std::format!("{:?}", client.tcb);
    let out = client.error(ErrorKind::SourceQuench, seq);
    assert_eq!(out, Outcome { note: Some(Note::SourceQuench), ..Outcome::default() });
    assert_eq!(std::format!("{:?}", client.tcb), before);
}

/// Shows RFC 5927.
#[test]
fn t27_errors_about_what_is_not_in_flight_change_nothing() {
    let (mut client, _) = established();
    let seq = client.in_flight(4000);
    client.arrives(Segment { ack: seq + 1000, ..client.next(ACK) });
    client.sends();
    let before = std::format!("{:?}", client.tcb);
    for wrong in [seq, seq + 999, seq + 4000, seq + 4001, seq.back(70_000), seq + (1 << 31)] {
        for kind in [PORT_UNREACHABLE, NET_UNREACHABLE, ErrorKind::TooBig { mtu: 600 }] {
            assert_eq!(client.error(kind, wrong).note, Some(Note::IcmpUnmatched), "{wrong:?}");
        }
    }
    assert_eq!(std::format!("{:?}", client.tcb), before);
    let (mut client, syn) = syn_sent(settings());
    assert_eq!(client.error(PORT_UNREACHABLE, syn.seq + 1).note, Some(Note::IcmpUnmatched));
}

#[test]
fn shld_6_too_big_sends_everything_again_at_once_in_smaller_segments() {
    let (mut client, _) = established();
    let cwnd = client.tcb.congestion.cwnd;
    let seq = client.in_flight(4000);
    client.now = client.now.plus_ms(300);
    let out = client.error(ErrorKind::TooBig { mtu: 1000 }, seq);
    assert_eq!((out.note, packet_bytes(&client.tcb)), (Some(Note::PathMtuLowered), 1000));
    let again = client.sends();
    // MUST-16: 1000 - 40 of headers - 12 of timestamps.
    assert_eq!(again.iter().map(|plan| plan.text_len).collect::<Vec<_>>(), [948, 948, 948, 948, 208]);
    assert!(again[0].seq == seq && again.iter().all(|plan| plan.again));
    assert_eq!(client.tcb.congestion.cwnd, cwnd, "nothing was lost by congestion");
    let time_out = client.tcb.rto.current_ms().into();
    assert_eq!(client.tcb.retransmit_at, Deadline::at(client.now.plus_ms(time_out).tick()));
    assert_eq!(client.error(ErrorKind::TooBig { mtu: 1000 }, seq + 1448).note, Some(Note::PathMtuRefused));
    client.expect_nothing();
}

/// Shows RFC 8201.
#[test]
fn t27_path_mtu_never_falls_below_552_or_1280_and_never_rises() {
    let (mut client, _) = established();
    let seq = client.in_flight(8000);
    assert_eq!(client.error(ErrorKind::TooBig { mtu: 68 }, seq).note, Some(Note::PathMtuLowered));
    assert_eq!(packet_bytes(&client.tcb), 552);
    for mtu in [1, 552, 1500, 65_535, u32::MAX] {
        assert_eq!(client.error(ErrorKind::TooBig { mtu }, seq).note, Some(Note::PathMtuRefused), "{mtu}");
    }
    let mut client = established_v6();
    let seq = client.in_flight(8000);
    for mtu in [0, 68, 1279, 1500, u32::MAX] {
        assert_eq!(client.error(ErrorKind::TooBig { mtu }, seq).note, Some(Note::PathMtuRefused), "{mtu}");
    }
    assert_eq!(client.error(ErrorKind::TooBig { mtu: 1280 }, seq).note, Some(Note::PathMtuLowered));
    assert_eq!(packet_bytes(&client.tcb), 1280);
}

/// Shows RFC 1191.
#[test]
fn shld_6_old_router_that_names_no_mtu_means_the_next_plateau() {
    let (mut client, _) = established();
    let seq = client.in_flight(8000);
    for plateau in [1492, 1006, 552] {
        assert_eq!(client.error(ErrorKind::TooBig { mtu: 0 }, seq).note, Some(Note::PathMtuLowered));
        assert_eq!(packet_bytes(&client.tcb), plateau);
        client.sends();
    }
    assert_eq!(client.error(ErrorKind::TooBig { mtu: 0 }, seq).note, Some(Note::PathMtuRefused));
}

#[test]
fn t27_a_segment_that_was_smaller_than_the_claim_was_never_too_big() {
    let (mut client, _) = established();
    let seq = client.in_flight(200);
    assert_eq!(client.error(ErrorKind::TooBig { mtu: 600 }, seq).note, Some(Note::PathMtuRefused));
    let (mut client, syn) = syn_sent(settings());
    assert_eq!(client.error(ErrorKind::TooBig { mtu: 552 }, syn.seq).note, Some(Note::PathMtuRefused));
}

#[test]
fn t27_while_large_segments_arrive_a_claim_waits_for_a_time_out() {
    let (mut client, _) = established_with(without_sack());
    client.in_flight(4000);
    client.arrives(client.next(ACK));
    let seq = client.in_flight(4000);
    assert_eq!(client.error(ErrorKind::TooBig { mtu: 1000 }, seq).note, Some(Note::PathMtuRefused));
    client.time_out();
    client.sends();
    assert_eq!(client.error(ErrorKind::TooBig { mtu: 1000 }, seq).note, Some(Note::PathMtuLowered));
    assert_eq!(client.sends()[0].text_len, 948, "at once");
}

#[test]
fn shld_6_a_known_path_mtu_holds_from_the_first_segment_on() {
    let (mut client, _) = established();
    begin_with_path_mtu(&mut client.tcb, 1000);
    client.queue(20_000);
    let sent = client.sends();
    assert!(sent.iter().all(|plan| plan.text_len == 948));
    assert_eq!(sent.len(), 10, "RFC 6928: ten segments of the size that arrives");
    begin_with_path_mtu(&mut client.tcb, 1500);
    assert_eq!(packet_bytes(&client.tcb), 1000, "never larger than the peer and the link take");
}

fn established_v6() -> End {
    let tuple = FourTuple::new(Ipv6Addr::LOCALHOST.into(), 40_000, Ipv6Addr::from_bits(9).into(), 80);
    let settings = settings();
    let cx = Context { now: start(), settings: &settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
    let mut client = End::new(Tcb::open_actively(&tuple, &cx), settings, start());
    let syn = as_received(client.expect(SYN));
    let cx = Context { now: start(), settings: &settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
    let mut server = End::new(Tcb::open_passively(&tuple.reversed(), &syn, &cx), settings, start());
    let syn_ack = as_received(server.expect(SYN_ACK));
    assert!(client.arrives(syn_ack).established);
    client.expect(ACK);
    client
}

proptest! {
    /// Whatever errors arrive in whatever order, every octet is still sent, in segments within the bounds.
    #[test]
    fn t27_any_errors_leave_every_octet_to_be_sent(
        errors in proptest::collection::vec((0..5u8, any::<u16>(), 0..9000u32), 0..20),
    ) {
        let (mut client, mut server) = established();
        client.queue(8000);
        let mut delivered = 0;
        let mut errors = errors.into_iter();
        for _ in 0..200 {
            for plan in client.sends() {
                prop_assert!(u32::from(plan.text_len) + 52 <= u32::from(packet_bytes(&client.tcb)));
                delivered += server.arrives(as_received(plan)).text.map_or(0, |(_, len)| usize::from(len));
            }
            server.consume_all();
            if let Some((kind, mtu, offset)) = errors.next() {
                let kind = match kind {
                    0 => PORT_UNREACHABLE,
                    1 => NET_UNREACHABLE,
                    2 => ErrorKind::SourceQuench,
                    _ => ErrorKind::TooBig { mtu: mtu.into() },
                };
                prop_assert_eq!(client.error(kind, client.tcb.snd_una + offset).end, None);
                prop_assert!((552..=1500).contains(&packet_bytes(&client.tcb)));
                continue;
            }
            for plan in server.sends() {
                client.arrives(as_received(plan));
            }
            if delivered == 8000 && client.tcb.flight() == 0 {
                return Ok(());
            }
            if client.tcb.deadline().is_some() && !client.tcb.owes() {
                client.time_out();
            }
            if server.tcb.deadline().is_some() && !server.tcb.owes() {
                server.time_out();
            }
        }
        prop_assert!(false, "{} delivered", delivered);
    }
}
