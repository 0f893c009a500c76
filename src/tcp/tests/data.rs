//! Behaviours B20 and B22: the byte stream, its retransmission and its windows.

use super::*;
use crate::tcp::rto::Rto;
use crate::tcp::state::CloseReason;
use crate::tcp::tcb::Owed;
use crate::tcp::{End as Ends, Note};
use crate::tick::Deadline;

/// Shows RFC 2525 2.14.
#[test]
fn b20_lost_segment_is_sent_again_after_the_time_out_from_the_first_octet() {
    let (mut client, _) = established_with(without_sack());
    client.queue(4000);
    let first = client.sends();
    assert_eq!(first.iter().map(|plan| plan.text_len).collect::<Vec<_>>(), [1448, 1448, 1104]);
    assert_eq!(client.time_out().0, 200);
    let again = client.sends();
    assert_eq!(again.len(), 1, "after a time-out one segment goes (RFC 5681 3.1)");
    assert!(again[0].again && again[0].seq == first[0].seq && again[0].text_offset == 0);
}

#[test]
fn b20_after_a_time_out_acknowledgments_clock_out_the_rest_again() {
    let (mut client, mut server) = established_with(without_sack());
    client.queue(4000);
    client.sends();
    client.time_out();
    let mut delivered = 0;
    for _ in 0..10 {
        for plan in client.sends() {
            if let Some((_, len)) = server.arrives(as_received(plan)).text {
                delivered += usize::from(len);
            }
        }
        server.consume_all();
        server.tcb.owed.add(Owed::ACK_NOW);
        for plan in server.sends() {
            client.arrives(as_received(plan));
        }
    }
    assert_eq!((delivered, client.tcb.flight(), client.tcb.retransmit_at), (4000, 0, Deadline::NONE));
}

/// Shows RFC 5681.
#[test]
fn b20_three_duplicate_acks_resend_the_first_segment_at_once() {
    let (mut client, _) = established_with(plain());
    client.arrives(client.next(ACK));
    client.queue(8000);
    let sent = client.sends();
    let ack = Segment { ack: client.tcb.snd_una, ..client.next(ACK) };
    for _ in 0..2 {
        client.arrives(ack);
        client.expect_nothing();
    }
    client.arrives(ack);
    let again = client.expect(ACK);
    assert_eq!((again.seq, again.again), (sent[0].seq, true));
}

#[test]
fn b20_duplicate_acks_go_before_text_so_that_they_count() {
    let (mut client, _) = established_with(plain());
    client.queue(100);
    for off in [1000, 2000] {
        client.arrives(Segment { seq: client.tcb.rcv_nxt + off, payload_len: 10, ..client.next(ACK) });
    }
    assert_eq!(client.sends().iter().map(|plan| plan.text_len).collect::<Vec<_>>(), [0, 0, 100]);
}

/// Shows SHLD-11, RFC 2525 2.14.
#[test]
fn data_times_out_after_the_retransmission_limit() {
    let (mut client, _) = established_with(without_sack());
    client.queue(1);
    client.sends();
    let mut total = 0;
    let end = loop {
        let (waited, out) = client.time_out();
        total += waited;
        if let Some(end) = out.end {
            break end;
        }
        assert_eq!(client.sends().len(), 1, "one segment per time-out (RFC 2525)");
    };
    assert_eq!(end, Ends::Closed(CloseReason::TimedOut));
    assert!(total >= 100_000, "SHLD-11: R2 is at least 100 s, was {total} ms");
}

/// Shows MAY-16.
#[test]
fn must_17_shld_7_small_segments_wait_for_the_acknowledgment_unless_told_not_to() {
    for no_delay in [false, true] {
        let (mut client, _) = established();
        client.options.no_delay = no_delay;
        client.queue(10);
        client.expect(PSH_ACK);
        client.queue(10);
        assert_eq!(client.sends().len(), usize::from(no_delay));
    }
}

/// Shows RFC 2525 2.13.
#[test]
fn shld_19_every_second_full_segment_is_acknowledged_at_once_and_one_is_delayed() {
    let (mut client, mut server) = established();
    client.queue(2 * 1448);
    let segments = client.sends();
    server.arrives(as_received(segments[0]));
    server.consume_all();
    server.expect_nothing();
    assert!(server.tcb.delayed_ack_at.is_set());
    server.arrives(as_received(segments[1]));
    server.consume_all();
    server.expect(ACK);
    assert_eq!(server.tcb.delayed_ack_at, Deadline::NONE);
}

/// Shows SHLD-18.
#[test]
fn must_40_a_delayed_ack_leaves_within_half_a_second() {
    let (mut client, mut server) = established();
    client.queue(10);
    let plan = client.expect(PSH_ACK);
    server.arrives(as_received(plan));
    server.consume_all();
    server.expect_nothing();
    let (waited, _) = server.time_out();
    assert!(waited < 500);
    server.expect(ACK);
}

/// Shows MUST-39, MAY-8.
#[test]
fn b22_window_closes_while_nobody_reads_and_opens_by_a_step_worth_sending() {
    let small = Settings { receive_buffer_bytes: 4000, ..plain() };
    let (_, syn) = syn_sent(small);
    let (mut server, _) = syn_received(small, &syn);
    server.arrives(server.next(ACK));
    for len in [1460, 1460, 1080] {
        assert!(server.arrives(Segment { payload_len: len, ..server.next(ACK) }).text.is_some());
        server.sends();
    }
    assert_eq!(server.tcb.rcv_wnd(), 0);
    let out = server.arrives(Segment { payload_len: 1, ..server.next(ACK) });
    assert_eq!(out.text, None, "nothing is taken beyond the window");
    assert_eq!(server.expect(ACK).wnd, 0);
    let cx = Context { now: start(), settings: &small, options: &ConnectionOptions::DEFAULT, receive_room: true };
    calls::received(&mut server.tcb, 100, &cx);
    server.expect_nothing();
    calls::received(&mut server.tcb, 3900, &cx);
    assert_eq!(server.expect(ACK).wnd, 4000);
}

/// Shows MUST-35, SHLD-29, SHLD-30.
#[test]
fn b22_must_37_probes_of_a_closed_window_go_on_while_they_are_acknowledged() {
    let (mut client, _) = established_with(plain());
    client.arrives(Segment { wnd: 0, ..client.next(ACK) });
    client.queue(100);
    client.expect_nothing();
    let mut waits = Vec::new();
    for _ in 0..30 {
        let (waited, out) = client.time_out();
        assert_eq!(out.end, None, "a connection that is acknowledged does not time out");
        waits.push(waited);
        let probe = client.sends();
        assert_eq!(probe.iter().map(|plan| plan.text_len).collect::<Vec<_>>(), [1]);
        let still_closed = Segment { ack: client.tcb.snd_una, wnd: 0, ..client.next(ACK) };
        client.arrives(still_closed);
        client.expect_nothing();
    }
    assert_eq!(waits[..4], [1000, 2000, 4000, 8000], "SHLD-29, SHLD-30");
    client.arrives(Segment { ack: client.tcb.snd_una, wnd: 5000, ..client.next(ACK) });
    let plans = client.sends();
    assert_eq!(plans.iter().map(|plan| plan.text_len).sum::<u16>(), 100);
    assert_eq!(plans[0].text_offset, 0);
}

#[test]
fn text_beyond_a_chunk_and_our_mss_is_left_for_the_peer_to_send_again() {
    let (mut client, _) = established_with(Settings { mtu: 9000, ..plain() });
    let out = client.arrives(Segment { payload_len: 5000, ..client.next(ACK) });
    assert_eq!(out.text, Some((0, 2048)));
    assert_eq!(
        client.arrives(Segment { seq: client.tcb.rcv_nxt, payload_len: 100, ..client.next(ACK) }).text,
        Some((0, 100))
    );
}

#[test]
fn no_receive_room_text_is_left_for_the_peer_to_send_again() {
    let (mut client, _) = established_with(plain());
    let settings = client.settings;
    let cx =
        Context { now: client.now, settings: &settings, options: &ConnectionOptions::DEFAULT, receive_room: false };
    let seg = Segment { payload_len: 5, ..client.next(ACK) };
    let mut out = Outcome::default();
    others::arrives(&mut client.tcb, &seg, None, &cx, &mut out);
    assert_eq!((out.text, out.note), (None, Some(Note::NoReceiveRoom)));
    assert_eq!(client.arrives(seg).text, Some((0, 5)));
}

#[test]
fn sequence_numbers_wrap_in_the_middle_of_a_transfer() {
    let (mut client, _) = established_with(plain());
    let shift = u32::MAX - client.tcb.snd_nxt.0 - 1000;
    let tcb = &mut client.tcb;
    for seq in [&mut tcb.snd_una, &mut tcb.snd_nxt, &mut tcb.snd_resume, &mut tcb.send_end] {
        *seq += shift;
    }
    client.tcb.recovery = crate::tcp::recovery::Recovery::start(client.tcb.snd_una);
    client.queue(4000);
    let plans = client.sends();
    assert_eq!(plans.iter().map(|plan| u32::from(plan.text_len)).sum::<u32>(), 4000);
    assert!(client.tcb.snd_nxt.0 < 4000, "wrapped");
    assert_eq!(client.arrives(client.next(ACK)).acked_bytes, 4000);
    assert_eq!(client.tcb.flight(), 0);
}

/// FIN in flight, the peer's window 0, the FIN is lost.
#[test]
fn b22_fin_lost_into_a_closed_window_is_sent_again() {
    let (mut client, _) = established_with(plain());
    client.arrives(Segment { wnd: 0, ..client.next(ACK) });
    client.close();
    client.expect(FIN_ACK);
    client.time_out();
    let sent = client.sends();
    assert!(!sent.is_empty() && client.tcb.deadline().is_some(), "{sent:?} {:?}", client.tcb.deadline());
}

/// Everything queued is in flight, the peer closes its window, the rest is lost. RFC 2525 2.12.
#[test]
fn b22_text_lost_into_a_closed_window_is_sent_again() {
    let (mut client, _) = established_with(plain());
    client.queue(1000);
    client.sends();
    client.arrives(Segment { wnd: 0, ack: client.tcb.snd_una + 400, ..client.next(ACK) });
    client.time_out();
    let sent = client.sends();
    assert!(!sent.is_empty() && client.tcb.deadline().is_some(), "{sent:?} {:?}", client.tcb.deadline());
}

/// One octet queued against a closed window: the second probe. MUST-36, RFC 2525 2.12.
#[test]
fn b22_one_octet_is_probed_again_and_again() {
    let (mut client, _) = established_with(plain());
    client.arrives(Segment { wnd: 0, ..client.next(ACK) });
    client.queue(1);
    client.expect_nothing();
    client.time_out();
    assert_eq!(client.sends().len(), 1);
    client.time_out();
    let sent = client.sends();
    assert!(!sent.is_empty() && client.tcb.deadline().is_some(), "{sent:?} {:?}", client.tcb.deadline());
}

#[test]
fn b22_a_window_that_opens_ends_the_time_out_of_its_probes() {
    for settings in [plain(), without_sack()] {
        let (mut client, _) = established_with(settings);
        client.arrives(Segment { wnd: 0, ..client.next(ACK) });
        client.queue(1000);
        client.expect_nothing();
        for _ in 0..5 {
            client.time_out();
            client.expect(ACK);
            client.arrives(Segment { wnd: 0, ack: client.tcb.snd_una, ..client.next(ACK) });
        }
        let (probed_in, rto) = (client.now.tick().until(client.tcb.deadline().expect("a probe")), Rto::default());
        assert!(probed_in > rto.current_ms(), "the probes have backed off");
        client.now = client.now.plus_ms(u64::from(probed_in) - 1);
        // The probe's octet was not taken, and all of it is sent again with the whole time to be acknowledged.
        client.arrives(Segment { ack: client.tcb.snd_una, ..client.next(ACK) });
        assert_eq!(client.expect(PSH_ACK).text_len, 1000);
        let time_out = client.tcb.rto.current_ms();
        assert_eq!((client.tcb.retries, client.tcb.rto.backoff), (0, 0));
        assert_eq!(client.now.tick().until(client.tcb.deadline().expect("a time-out")), time_out);
        client.arrives(client.next(ACK));
        assert_eq!(client.tcb.deadline(), None);
    }
}

/// Text and a FIN, or a FIN alone, which the peer's window takes as little.
#[test]
fn must_37_shld_17_a_closed_window_that_is_acknowledged_outlives_the_applications_close() {
    for octets in [1000, 0] {
        let (mut client, _) = established_with(plain());
        client.arrives(Segment { wnd: 0, ..client.next(ACK) });
        client.queue(octets);
        client.close();
        client.sends();
        for probe in 0..100 {
            let (_, out) = client.time_out();
            assert_eq!(out.end, None, "{octets} octets, after {probe} probes that were acknowledged");
            assert_eq!(client.sends().len(), 1);
            client.arrives(Segment { wnd: 0, ack: client.tcb.snd_una, ..client.next(ACK) });
            client.expect_nothing();
        }
        client.arrives(Segment { ack: client.tcb.snd_una, ..client.next(ACK) });
        let sent = client.sends();
        assert_eq!(sent.iter().map(|plan| usize::from(plan.text_len)).sum::<usize>(), octets);
        assert!(sent.last().is_some_and(|plan| plan.flags.fin()), "{sent:?}");
        client.arrives(client.next(ACK));
        assert_eq!(client.tcb.state, State::FinWait2);
    }
}

#[test]
fn must_37_probes_that_nobody_acknowledges_end_the_connection_at_r2() {
    let (mut client, _) = established_with(plain());
    client.arrives(Segment { wnd: 0, ..client.next(ACK) });
    client.queue(1000);
    client.close();
    client.sends();
    let mut probes = 0;
    while client.time_out().1.end.is_none() {
        probes += client.sends().len();
    }
    assert_eq!(probes, usize::from(client.options.retries2));
}

/// Shows RFC 5681 4.2.
#[test]
fn what_fills_a_gap_brings_one_ack_whatever_came_before_it_in_the_burst() {
    let (mut client, _) = established_with(plain());
    let filler = Segment { payload_len: 1000, ..client.next(ACK) };
    for early in 1..5 {
        client.arrives(Segment { seq: filler.seq + early * 1000, ..filler });
    }
    assert_eq!(client.arrives(filler).text, Some((0, 1000)));
    assert_eq!(client.expect(ACK).ack, filler.seq + 1000, "one with the new number, and no duplicate of it");
}

/// Shows RFC 2525 2.13.
#[test]
fn shld_19_segments_that_a_path_keeps_below_our_mss_are_full_sized_too() {
    // Of a path MTU of 1400 with timestamps and with SACK blocks; smaller ones by octets.
    for (lens, acked_at) in
        [(&[1348, 1348][..], 1), (&[1320, 1348], 1), (&[1448, 12], 2), (&[700, 700, 700, 700, 700], 4)]
    {
        let (mut client, _) = established_with(plain());
        for (at, &payload_len) in lens.iter().enumerate() {
            client.arrives(Segment { payload_len, ..client.next(ACK) });
            client.consume_all();
            assert_eq!(client.sends().len(), usize::from(at == acked_at), "{lens:?} {at}");
        }
    }
}

#[test]
fn b22_a_window_too_small_for_a_segment_is_opened_though_it_is_much_of_the_buffer() {
    let small = Settings { receive_buffer_bytes: 8000, ..plain() };
    let (_, syn) = syn_sent(small);
    let (mut server, _) = syn_received(small, &syn);
    server.arrives(server.next(ACK));
    for payload_len in [1460, 1460, 1460, 1460, 900] {
        server.arrives(Segment { payload_len, ..server.next(ACK) });
        server.sends();
    }
    assert_eq!(server.tcb.rcv_wnd(), 1260, "the peer waits for more (RFC 9293 3.8.6.2.1)");
    server.consume_all();
    assert_eq!(server.expect(ACK).wnd, 8000);
    let mut updates = 0;
    for _ in 0..100 {
        server.arrives(Segment { payload_len: 1460, ..server.next(ACK) });
        server.sends();
        server.consume_all();
        updates += server.sends().len();
    }
    assert!(updates <= 25, "{updates} window updates in 100 segments");
}

/// Shows RFC 6298.
#[test]
fn what_leaves_when_a_small_window_grows_has_a_whole_time_out() {
    let (mut client, _) = established_with(Settings { window_scale: false, ..without_sack() });
    client.arrives(Segment { wnd: 1000, ..client.next(ACK) });
    client.queue(5000);
    client.expect_nothing();
    let persist_ms = client.now.tick().until(client.tcb.deadline().expect("the persist timer"));
    client.now = client.now.plus_ms(u64::from(persist_ms) - 1);
    client.arrives(Segment { ack: client.tcb.snd_una, ..client.next(ACK) });
    assert_eq!(client.sends().len(), 4);
    let time_out = client.now.tick().until(client.tcb.deadline().expect("a time-out"));
    assert_eq!(time_out, client.tcb.rto.current_ms());
}

#[test]
fn b22_what_is_taken_of_a_probe_leaves_no_time_out_of_a_closed_window() {
    let (mut client, _) = established_with(plain());
    client.arrives(Segment { wnd: 0, ..client.next(ACK) });
    client.queue(1000);
    client.expect_nothing();
    for _ in 0..6 {
        client.time_out();
        client.expect(ACK);
        client.arrives(Segment { wnd: 0, ack: client.tcb.snd_una, ..client.next(ACK) });
    }
    assert_eq!(client.tcb.rto.backoff, 6);
    client.arrives(Segment { ack: client.tcb.snd_una + 1, ..client.next(ACK) });
    assert_eq!(client.tcb.rto.backoff, 0);
    assert_eq!(client.expect(PSH_ACK).text_len, 999);
}

/// SND.WL1 and SND.UNA (RFC 9293 3.10.7.4, fifth check): what was overtaken says what the window was.
#[test]
fn b22_a_segment_that_was_overtaken_neither_opens_nor_shrinks_the_window() {
    for (rcv_nxt, last, before) in
        [(7000, 0, 5000), (7000, 5000, 0), (u32::MAX - 50, 0, 5000), (u32::MAX - 50, 5000, 100)]
    {
        let (mut client, _) = established_with(plain());
        let (shift, rcv_nxt) = (client.tcb.agreed.snd_shift(), Seq(rcv_nxt));
        (client.tcb.rcv_nxt, client.tcb.rcv_edge, client.tcb.snd_wl1) = (rcv_nxt, rcv_nxt + 10_000, rcv_nxt);
        client.queue(10);
        client.sends();
        let first = Segment { wnd: before, payload_len: 100, ..client.next(ACK) };
        let second = Segment { seq: rcv_nxt + 100, wnd: last, ..first };
        client.arrives(second);
        assert_eq!(client.tcb.snd_wnd, u32::from(last) << shift);
        assert_eq!(client.arrives(first).text, Some((0, 100)));
        assert_eq!(client.tcb.snd_wnd, u32::from(last) << shift, "by its number");
        let old_ack = Segment { seq: rcv_nxt + 100, ack: first.ack.back(1), wnd: before, ..first };
        assert_eq!(client.arrives(old_ack).text, Some((0, 100)));
        assert_eq!(client.tcb.snd_wnd, u32::from(last) << shift, "by its acknowledgment");
        client.arrives(Segment { wnd: 700, ..client.next(ACK) });
        assert_eq!(client.tcb.snd_wnd, 700 << shift, "what comes after it counts");
    }
}

/// RFC 7323 2.3: a buffer that was made smaller than the units of the window field that the SYNs agreed on.
#[test]
fn shld_14_a_receive_buffer_below_the_agreed_scale_still_opens_the_window() {
    for buffer in [1, 100, 8000, 1 << 14, 17_000, 40_000] {
        let large = Settings { receive_buffer_bytes: 1 << 30, ..plain() };
        let (_, syn) = syn_sent(large);
        let (mut server, syn_ack) = syn_received(large, &syn);
        server.options.receive_buffer = Some(buffer);
        server.options_change();
        server.arrives(Segment { ack: syn_ack.seq + 1, seq: syn.seq + 1, wnd: 1000, flags: ACK, ..Segment::default() });
        let mut edge = server.tcb.rcv_edge;
        for octets in [1000; 100] {
            assert_eq!(server.arrives(Segment { payload_len: octets, ..server.next(PSH_ACK) }).text, Some((0, octets)));
            server.consume_all();
            server.tcb.owed.add(Owed::ACK_NOW);
            let ack = server.expect(ACK);
            assert!(ack.wnd > 0, "{buffer}: all has been taken");
            edge = edge.max(ack.ack + (u32::from(ack.wnd) << 14));
            assert!(edge.le(server.tcb.rcv_edge), "no more is offered than is taken");
        }
        while server.tcb.rcv_wnd() >= 1 << 14 {
            server.arrives(Segment { payload_len: 1000, ..server.next(PSH_ACK) });
            server.sends();
        }
        server.consume_all();
        assert!(server.expect(ACK).wnd > 0, "{buffer}: the peer is told that its window opens");
    }
}
