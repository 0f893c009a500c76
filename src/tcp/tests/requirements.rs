//! Requirements of RFC 9293 that no other test of behaviour happens to show, one test each.

use super::*;
use crate::tcp::tcb::Owed;
use crate::tcp::{End as Ends, Note};

/// Shows T24.
#[test]
fn must_1_rec_1_windows_are_unsigned_and_kept_in_32_bits() {
    let (mut client, _) = established_with(plain());
    client.tcb.agreed = client.tcb.agreed.scaled(14, 0);
    client.arrives(Segment { wnd: u16::MAX, ..client.next(ACK) });
    assert_eq!(client.tcb.snd_wnd, 65_535 << 14);
    client.queue(10_000);
    assert!(!client.sends().is_empty(), "a window whose high bit is set in its field is large, not negative");
}

/// RFC 7323 2.3: a larger one could express windows beyond 2^30, which cannot be told from old sequence numbers.
#[test]
fn t24_a_window_shift_beyond_14_in_a_syn_or_a_syn_ack_counts_as_14() {
    for shift in [13, 14].into_iter().chain(15..=u8::MAX) {
        let used = shift.min(14);
        let scaled = |segment: Segment| {
            let options = Options { window_scale: Some(shift), ..segment.options };
            Segment { options, ..segment }
        };
        let (mut client, syn) = syn_sent(plain());
        let (mut server, syn_ack) = syn_received(plain(), &scaled(syn));
        assert!(client.arrives(scaled(syn_ack)).established);
        client.expect(ACK);
        for end in [&mut client, &mut server] {
            end.arrives(Segment { wnd: u16::MAX, ..end.next(ACK) });
            assert_eq!((end.tcb.state, end.tcb.agreed.snd_shift()), (State::Established, used), "{shift}");
            assert_eq!(end.tcb.snd_wnd, 65_535 << used, "{shift}");
        }
    }
}

#[test]
fn must_15_without_mss_option_1220_octets_over_ipv6() {
    let addresses = ["fd00::2", "fd00::1"].map(|text| text.parse().expect("an address"));
    let tuple = FourTuple::new(addresses[0], 80, addresses[1], 40_000);
    let cx = Context { now: start(), settings: &plain(), options: &ConnectionOptions::DEFAULT, receive_room: true };
    let syn = Segment { seq: Seq(7), wnd: 1000, flags: SYN, ..Segment::default() };
    assert_eq!(Tcb::open_passively(&tuple, &syn, &cx).mss, 1220);
}

/// Shows RFC 2525 2.18.
#[test]
fn must_16_segments_are_as_large_as_the_mss_less_their_options() {
    for (settings, room) in [(plain(), 1460), (settings(), 1448)] {
        let (mut client, _) = established_with(settings);
        client.queue(5000);
        let sent = client.sends();
        assert!(sent.iter().all(|plan| plan.text_len <= room) && sent[0].text_len == room, "{sent:?}");
    }
}

#[test]
fn must_18_a_segment_that_was_sent_twice_measures_no_round_trip() {
    let (mut client, _) = established_with(Settings { sack: false, ..plain() });
    let before = client.tcb.rto;
    client.queue(100);
    client.sends();
    client.time_out();
    assert_eq!(client.sends().len(), 1, "sent again");
    client.now = client.now.plus_ms(300);
    client.arrives(client.next(ACK));
    assert_eq!((client.tcb.rto.srtt_us, client.tcb.rto.rttvar_us), (before.srtt_us, before.rttvar_us));
    client.queue(100);
    client.sends();
    client.now = client.now.plus_ms(300);
    client.arrives(client.next(ACK));
    assert_ne!(client.tcb.rto.srtt_us, before.srtt_us, "one that was sent once does");
}

/// Shows T24.
#[test]
fn must_34_shld_15_shld_16_shld_17_a_window_that_shrinks_stops_new_text_and_ends_nothing() {
    let (mut client, _) = established_with(Settings { sack: false, ..unscaled() });
    client.arrives(client.next(ACK));
    client.queue(2000);
    let sent = client.sends();
    let edge = client.tcb.snd_nxt;
    // The right edge moves back behind what has been sent.
    let shrunk = Segment { wnd: 500, ack: client.tcb.snd_una, ..client.next(ACK) };
    client.arrives(shrunk);
    client.queue(1000);
    client.expect_nothing();
    assert_eq!(client.tcb.snd_nxt, edge, "no new text (SHLD-15)");
    for _ in 0..20 {
        let (_, out) = client.time_out();
        assert_eq!(out.end, None, "not timed out while the peer answers (SHLD-17)");
        let again = client.sends();
        assert!(again.iter().all(|plan| plan.again), "only what was sent before (SHLD-16): {again:?}");
        assert_eq!(again[0].seq, sent[0].seq);
        client.arrives(Segment { ack: client.tcb.snd_una, wnd: 0, ..client.next(ACK) });
    }
    client.arrives(Segment { ack: edge, wnd: 5000, ..client.next(ACK) });
    let rest = client.sends();
    assert_eq!(rest.iter().map(|plan| plan.text_len).sum::<u16>(), 1000);
}

#[test]
fn must_38_the_sender_waits_for_a_window_worth_a_segment() {
    let (mut client, _) = established_with(unscaled());
    client.arrives(Segment { wnd: 10_000, ..client.next(ACK) });
    client.queue(30_000);
    let first = client.sends();
    assert_eq!(first.len(), 6, "the seventh would have 1240 octets of window: {first:?}");
    // 1340 octets of window open behind the flight: too few for a segment, and for half of the largest window.
    let ack = first[0].seq + u32::from(first[0].text_len);
    let in_flight = client.tcb.snd_nxt - ack;
    client.arrives(Segment { ack, wnd: in_flight as u16 + 1340, ..client.next(ACK) });
    client.expect_nothing();
    client.arrives(Segment { ack, wnd: in_flight as u16 + 1460, ..client.next(ACK) });
    assert_eq!(client.sends().iter().map(|plan| plan.text_len).collect::<Vec<_>>(), [1460]);
}

/// Shows RFC 2525 2.13: what comes together is no stretch.
#[test]
fn must_58_must_59_segments_of_one_burst_are_acknowledged_together() {
    let (mut client, _) = established_with(plain());
    for _ in 0..5 {
        client.arrives(Segment { payload_len: 1460, ..client.next(ACK) });
    }
    client.consume_all();
    let ack = client.expect(ACK);
    assert_eq!(ack.ack, client.tcb.rcv_nxt);
}

#[test]
fn must_60_must_61_shld_27_shld_28_text_goes_in_full_segments_and_the_last_is_pushed() {
    let (mut client, _) = established_with(plain());
    // Three SENDs, each of which would be pushed by itself.
    for _ in 0..3 {
        client.queue(1000);
    }
    let sent: Vec<_> = client.sends().iter().map(|plan| (plan.text_len, plan.flags.has(Flags::PSH))).collect();
    assert_eq!(sent, [(1460, false), (1460, false), (80, true)], "nothing stays in the buffer");
}

#[test]
fn must_65_only_syns_carry_an_mss_option() {
    let (mut client, mut server) = established();
    client.queue(5000);
    client.close();
    server.arrives(server.next(PSH_ACK));
    let sent: Vec<Plan> = client.sends().into_iter().chain(server.sends()).collect();
    assert!(!sent.is_empty() && sent.iter().all(|plan| plan.options.mss.is_none()), "{sent:?}");
}

#[test]
fn shld_2_a_reset_may_carry_text() {
    let (mut client, _) = established_with(plain());
    let out = client.arrives(Segment { payload_len: 40, ..client.next(RST) });
    assert_eq!((out.text, out.note), (None, Some(Note::RstAccepted)));
    assert!(matches!(out.end, Some(Ends::Closed(_))));
}

#[test]
fn shld_14_the_right_edge_offered_never_moves_back() {
    // A shift would cut off less than one unit of itself (RFC 7323 2.4).
    let (mut client, _) = established_with(unscaled());
    let mut edge = client.tcb.rcv_edge;
    for octets in [1460, 7, 700, 1460, 1] {
        client.arrives(Segment { payload_len: octets, ..client.next(PSH_ACK) });
        client.tcb.owed.add(Owed::ACK_NOW);
        let ack = client.expect(ACK);
        let offered = ack.ack + u32::from(ack.wnd);
        assert!(offered.ge(edge), "{offered} before {edge}");
        edge = offered;
    }
}

/// Shows RFC 7323.
#[test]
fn shld_14_a_scaled_field_tells_less_by_less_than_its_unit_and_all_that_was_told_is_taken() {
    for receive_buffer_bytes in [256 * 1024, 1 << 30] {
        let (mut client, _) = established_with(Settings { receive_buffer_bytes, ..plain() });
        let shift = client.tcb.agreed.rcv_shift();
        assert!(shift > 0);
        let mut farthest = client.tcb.rcv_nxt;
        for octets in [1460, 7, 700, 1460, 1, 1, 1, 1460] {
            let before = client.tcb.rcv_edge;
            assert_eq!(client.arrives(Segment { payload_len: octets, ..client.next(PSH_ACK) }).text, Some((0, octets)));
            client.tcb.owed.add(Owed::ACK_NOW);
            let ack = client.expect(ACK);
            let told = ack.ack + (u32::from(ack.wnd) << shift);
            assert!(client.tcb.rcv_edge.ge(before) && told.le(client.tcb.rcv_edge), "{octets}");
            farthest = farthest.max(told);
            assert!(farthest - told < 1 << shift, "back by {} of {}", farthest - told, 1 << shift);
        }
        let last = Segment { seq: farthest.back(1), payload_len: 1, ..client.next(ACK) };
        assert_eq!(client.arrives(last).note, Some(crate::tcp::Note::OutOfOrder), "in the window that was told");
        client.sends();
        let beyond = Segment { seq: client.tcb.rcv_edge, ..last };
        assert_eq!(client.arrives(beyond).note, Some(crate::tcp::Note::OutOfWindow));
    }
}

/// Shows RFC 6928, RFC 2525 2.2, RFC 2525 2.3.
#[test]
fn rfc_2525_2_1_2_2_2_3_transmission_starts_slowly_with_and_without_an_mss_option() {
    let by_time_outs = Settings { sack: false, ..plain() };
    for mss in [Some(1460), None] {
        let (mut client, syn) = syn_sent(by_time_outs);
        let (_, mut syn_ack) = syn_received(by_time_outs, &syn);
        syn_ack.options.mss = mss;
        client.arrives(syn_ack);
        client.sends();
        client.queue(200_000);
        let text: u32 = client.sends().iter().map(|plan| u32::from(plan.text_len)).sum();
        let segment = u32::from(mss.unwrap_or(536));
        assert!(text >= 2 * segment && text <= 10 * segment, "{text} octets at once of an MSS of {segment}");
        client.time_out();
        let again = client.sends();
        assert_eq!(again.len(), 1, "slow start after a time-out: {again:?}");
        assert_eq!(again[0].text_offset, 0);
    }
}

#[test]
fn rfc_2525_2_15_fin_rides_on_the_last_text() {
    let (mut client, _) = established_with(plain());
    client.queue(100);
    client.close();
    assert_eq!(client.sends().iter().map(|plan| (plan.text_len, plan.flags.fin())).collect::<Vec<_>>(), [(100, true)]);
}

/// Shows RFC 6093.
#[test]
fn b23_t15_text_with_any_urgent_pointer_stays_in_line() {
    let (mut client, _) = established_with(plain());
    let urg = Flags(ACK.0 | Flags::URG.0);
    for (up, payload_len) in [(0, 10), (5, 10), (10, 10), (u16::MAX, 10), (u16::MAX, 0), (0, 0)] {
        let out = client.arrives(Segment { up, payload_len, ..client.next(urg) });
        assert_eq!(out.text, (payload_len > 0).then_some((0, payload_len)), "pointer {up}, {payload_len} octets");
        client.consume_all();
    }
    client.arrives(Segment { up: 1, ..client.next(Flags(urg.0 | Flags::FIN.0)) });
    assert_eq!(client.tcb.state, State::CloseWait);
}

/// Windows are what their field says.
fn unscaled() -> Settings {
    Settings { window_scale: false, receive_buffer_bytes: 60_000, ..plain() }
}

/// RFC 6298 5.7.
#[test]
fn rfc_6298_after_a_lost_syn_and_without_a_measurement_the_first_time_out_takes_three_seconds() {
    for (lost, time_out) in [(false, 1000), (true, 3000)] {
        let (mut client, syn) = syn_sent(plain());
        let (mut server, mut syn_ack) = syn_received(plain(), &syn);
        if lost {
            client.time_out();
            server.now = client.now;
            server.time_out();
            server.now = client.now;
            (_, syn_ack) = (client.expect(SYN), as_received(server.expect(SYN_ACK)));
        }
        client.arrives(syn_ack);
        server.arrives(as_received(client.expect(ACK)));
        for end in [&client, &server] {
            assert_eq!((end.tcb.state, end.tcb.rto.current_ms()), (State::Established, time_out), "{lost}");
        }
    }
}

/// Shows RFC 7323 3.2.
#[test]
fn resets_of_a_connection_carry_timestamps_where_all_else_does() {
    for (settings, has) in [(settings(), true), (plain(), false)] {
        let (mut client, mut server) = established_with(settings);
        client.tcb.end(crate::tcp::state::CloseReason::Aborted);
        client.tcb.owed.add(crate::tcp::tcb::Owed::RESET);
        assert_eq!(client.expect(RST_ACK).options.timestamps.is_some(), has);
        server.close();
        let text = Segment { payload_len: 10, ..server.next(ACK) };
        assert_eq!(server.arrives(text).answer.map(|reset| reset.timestamps.is_some()), Some(has));
    }
}

/// Shows RFC 9438, RFC 5681 3.1: what is not used says nothing of the path.
#[test]
fn a_congestion_window_that_is_not_used_does_not_grow() {
    let (mut client, _) = established_with(plain());
    let before = client.tcb.congestion.cwnd;
    for _ in 0..100 {
        client.queue(1000);
        client.sends();
        client.arrives(client.next(ACK));
    }
    assert_eq!(client.tcb.congestion.cwnd, before);
    client.queue(200_000);
    client.sends();
    client.arrives(client.next(ACK));
    assert!(client.tcb.congestion.cwnd > before, "one that is used up does");
}
