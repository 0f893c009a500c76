//! Loss recovery of a connection: limited transmit, fast recovery, RACK and TLP.

mod exact;
mod time_outs;

use super::*;
use crate::tcp::Note;
use crate::tcp::congestion::CongestionControl;
use crate::tcp::rto::Rto;
use proptest::prelude::*;

const MSS: u32 = 1448;

/// A client with a scoreboard, its round trip of 100 ms measured, and `segments` full segments in flight.
fn sending(segments: u32) -> (End, Vec<Plan>) {
    let (mut client, _) = established_with(Settings { congestion: CongestionControl::Reno, ..settings() });
    client.arrives(client.next(ACK));
    client.board = Some(Scoreboard::default());
    client.tcb.rto = Rto::default();
    client.tcb.rto.trust_timestamps();
    client.tcb.rto.measured(100_000);
    client.tcb.congestion.cwnd = 100 * MSS;
    client.queue((segments * MSS) as usize);
    let sent = client.sends();
    assert_eq!(sent.len() as u32, segments);
    (client, sent)
}

/// Where segment `number` begins.
fn edge(sent: &[Plan], number: usize) -> Seq {
    sent[0].seq + number as u32 * MSS
}

/// The next segment; without an echo the round-trip time stays as it was measured.
fn without_echo(client: &End) -> Segment {
    let mut seg = client.next(ACK);
    seg.options.timestamps = seg.options.timestamps.map(|timestamps| Timestamps { ecr: 0, ..timestamps });
    seg
}

/// An ACK of everything before segment `ack` arrives, with these blocks, counted in segments.
fn acked(client: &mut End, sent: &[Plan], ack: usize, blocks: &[(usize, usize)]) -> Outcome {
    let seg = Segment { ack: edge(sent, ack), ..without_echo(client) };
    let blocks: Vec<_> = blocks.iter().map(|&(from, to)| (edge(sent, from), edge(sent, to))).collect();
    client.arrives_with(seg, &blocks)
}

fn seqs(plans: &[Plan], sent: &[Plan]) -> Vec<u32> {
    plans.iter().map(|plan| (plan.seq - sent[0].seq) / MSS).collect()
}

fn later(client: &mut End, ms: u64) {
    client.now = client.now.plus_ms(ms);
}

fn note(note: Note) -> Outcome {
    Outcome { note: Some(note), ..Outcome::default() }
}

#[test]
fn b20_two_holes_are_filled_in_one_round_trip() {
    let (mut client, sent) = sending(10);
    later(&mut client, 100);
    acked(&mut client, &sent, 1, &[(2, 4)]);
    client.expect_nothing();
    acked(&mut client, &sent, 1, &[(5, 10), (2, 4)]);
    assert_eq!(seqs(&client.sends(), &sent), [1, 4], "each hole once");
    later(&mut client, 100);
    acked(&mut client, &sent, 10, &[]);
    assert!(client.tcb.recovery.is_open() && client.tcb.flight() == 0);
    assert_eq!(client.tcb.congestion.cwnd, client.tcb.congestion.ssthresh);
}

/// Shows RFC 3042.
#[test]
fn b20_limited_transmit_sends_a_new_segment_for_each_of_two_duplicates() {
    let with_board = Some(Scoreboard::default());
    for (settings, board) in [(settings(), with_board), (settings(), None), (without_sack(), None)] {
        let (mut client, _) = established_with(settings);
        client.board = board;
        client.arrives(client.next(ACK));
        client.tcb.congestion.cwnd = 4 * MSS;
        client.queue(10 * MSS as usize);
        let sent = client.sends();
        assert_eq!(sent.len(), 4);
        let news: &[usize] = if settings.sack { &[2, 3, 4] } else { &[] };
        let blocks = |at| news.get(at).map(|&end| (1, end));
        for at in 0..2 {
            acked(&mut client, &sent, 0, blocks(at).as_slice());
            let new = client.sends();
            assert_eq!((new.len(), new[0].again), (1, false));
        }
        acked(&mut client, &sent, 0, blocks(2).as_slice());
        assert_eq!(seqs(&client.sends(), &sent)[0], 0, "the third resends");
    }
}

/// Shows RFC 6675, RFC 3042.
#[test]
fn t26_duplicates_without_news_slow_nobody_who_has_sack() {
    for (board, known) in [(None, false), (Some(Scoreboard::default()), false), (Some(Scoreboard::default()), true)] {
        let (mut client, sent) = sending(10);
        client.board = board;
        client.queue(10 * MSS as usize);
        client.tcb.congestion.cwnd = 10 * MSS;
        if known {
            acked(&mut client, &sent, 0, &[(2, 3)]);
            client.sends();
        }
        let congestion = client.tcb.congestion;
        for _ in 0..10 {
            let blocks = [(2, 3)];
            acked(&mut client, &sent, 0, &blocks[..usize::from(known)]);
            client.expect_nothing();
        }
        assert_eq!((client.tcb.recovery.is_open(), client.tcb.congestion), (true, congestion), "{known}");
    }
}

/// A third party that knows only the 4-tuple has the peer say again what it has said.
#[test]
fn t26_duplicates_that_a_third_party_brings_about_start_no_recovery() {
    let (mut client, mut server) = established();
    client.arrives(client.next(ACK));
    client.queue(20 * MSS as usize);
    let in_flight = client.sends().len();
    let (congestion, mut answers) = (client.tcb.congestion, 0);
    for _ in 0..100 {
        let options = Options { timestamps: None, ..Options::default() };
        let blind = Segment { seq: server.tcb.rcv_nxt + (1 << 24), payload_len: 1, options, ..server.next(ACK) };
        for blind in [blind, Segment { options: server.next(ACK).options, ..blind }] {
            server.arrives(blind);
            for plan in server.sends() {
                answers += 1;
                client.arrives(as_received(plan));
                client.expect_nothing();
            }
        }
    }
    assert!(in_flight > 3 && (3..100).contains(&answers), "{answers}");
    assert_eq!((client.tcb.recovery.is_open(), client.tcb.congestion), (true, congestion));
}

/// Shows RFC 6675, RFC 2883.
#[test]
fn what_came_twice_is_no_duplicate_acknowledgment() {
    for board in [None, Some(Scoreboard::default())] {
        let (mut client, sent) = sending(10);
        client.board = board;
        later(&mut client, 100);
        acked(&mut client, &sent, 3, &[]);
        let cwnd = client.tcb.congestion.cwnd;
        for at in 0..3 {
            acked(&mut client, &sent, 3, &[(at, at + 1)]);
            client.expect_nothing();
        }
        assert_eq!((client.tcb.recovery.is_open(), client.tcb.congestion.cwnd), (true, cwnd));
    }
}

/// Shows RFC 6675.
#[test]
fn the_window_is_halved_once_per_recovery_and_the_pipe_keeps_to_it() {
    let (mut client, sent) = sending(20);
    client.queue(100 * MSS as usize);
    client.tcb.congestion.cwnd = 20 * MSS;
    client.sends();
    later(&mut client, 100);
    for at in 2..20 {
        let out = acked(&mut client, &sent, 1, &[(2, at + 1)]);
        assert_eq!(out.recovery_begins, at == 4, "{at}");
        client.sends();
    }
    assert_eq!(client.tcb.congestion.cwnd, 21 * MSS / 2, "the first acknowledgment has made 21 of 20");
    let pipe = client.board.as_ref().expect("a scoreboard").pipe();
    assert!(pipe <= client.tcb.congestion.cwnd && pipe + MSS > client.tcb.congestion.cwnd, "{pipe}");
}

#[test]
fn rack_a_lost_retransmission_is_sent_again_without_a_time_out() {
    let (mut client, sent) = sending(10);
    client.queue(100 * MSS as usize);
    later(&mut client, 100);
    acked(&mut client, &sent, 0, &[(1, 10)]);
    let again = client.sends();
    assert_eq!(seqs(&again, &sent)[0], 0);
    assert!(again.len() > 2, "new text follows");
    // What followed the retransmission arrives, the retransmission does not.
    later(&mut client, 105);
    let news = (seqs(&again, &sent)[1] as usize, seqs(&again, &sent)[1] as usize + 3);
    let before = client.tcb.congestion.cwnd;
    acked(&mut client, &sent, 0, &[(1, news.1)]);
    let third = client.sends();
    assert_eq!(seqs(&third, &sent)[0], 0, "RFC 8985");
    assert!(client.tcb.congestion.cwnd < before, "two indications of congestion (RFC 5681 4.3)");
}

/// Shows RFC 8985.
#[test]
fn rack_one_segment_beyond_makes_a_hole_lost_after_the_reordering_window() {
    let (mut client, sent) = sending(2);
    later(&mut client, 100);
    acked(&mut client, &sent, 0, &[(1, 2)]);
    client.expect_nothing();
    let (waited, out) = client.time_out();
    assert!(waited <= 26, "a quarter of the round trip, was {waited}");
    assert!(out.recovery_begins);
    assert_eq!(seqs(&client.sends(), &sent), [0]);
}

#[test]
fn rack_reordering_once_seen_makes_the_sender_wait() {
    let (mut client, sent) = sending(10);
    later(&mut client, 100);
    acked(&mut client, &sent, 0, &[(1, 2)]);
    acked(&mut client, &sent, 2, &[]);
    client.sends();
    acked(&mut client, &sent, 2, &[(3, 8)]);
    client.expect_nothing();
    acked(&mut client, &sent, 8, &[]);
    client.expect_nothing();
    assert!(client.tcb.recovery.is_open(), "nothing was lost");
}

/// Shows RFC 2883.
#[test]
fn rack_blocks_of_an_ack_that_was_overtaken_say_of_nothing_that_it_came_twice() {
    let (mut client, sent) = sending(10);
    later(&mut client, 100);
    acked(&mut client, &sent, 0, &[(1, 2)]);
    acked(&mut client, &sent, 2, &[]);
    assert_eq!(client.tcb.recovery.reordering.quarters(), 1);
    acked(&mut client, &sent, 5, &[(8, 9)]);
    for _ in 0..3 {
        acked(&mut client, &sent, 2, &[(3, 4)]);
    }
    assert_eq!(client.tcb.recovery.reordering.quarters(), 1);
    acked(&mut client, &sent, 5, &[(3, 4)]);
    assert_eq!(client.tcb.recovery.reordering.quarters(), 2, "a D-SACK widens the window (RFC 8985 6.2 step 4)");
}

/// Shows RFC 8985.
#[test]
fn rack_a_wide_reordering_window_is_forgotten_after_sixteen_recoveries() {
    let (mut client, sent) = sending(40);
    later(&mut client, 100);
    acked(&mut client, &sent, 0, &[(1, 2)]);
    acked(&mut client, &sent, 2, &[]);
    for at in 0..5 {
        acked(&mut client, &sent, 2, &[(0, 1 + at % 2)]);
    }
    acked(&mut client, &sent, 40, &[]);
    for recoveries in 0..17 {
        let quarters = if recoveries < 16 { 4 } else { 1 };
        assert_eq!(client.tcb.recovery.reordering.quarters(), quarters, "{recoveries}");
        // The first of two is lost.
        client.queue(2 * MSS as usize);
        client.sends();
        later(&mut client, 200);
        let (una, nxt) = (client.tcb.snd_una, client.tcb.snd_nxt);
        let ack = Segment { ack: una, ..without_echo(&client) };
        client.arrives_with(ack, &[(nxt.back(MSS), nxt)]);
        let (waited, out) = client.time_out();
        assert_eq!((waited, out.recovery_begins), (25 * u32::from(quarters), true));
        client.sends();
        later(&mut client, 100);
        client.arrives(without_echo(&client));
    }
}

#[test]
fn recovery_that_begins_with_text_out_of_order_is_noted_beside_it() {
    let (mut client, sent) = sending(10);
    later(&mut client, 100);
    let seg = without_echo(&client);
    let seg = Segment { seq: seg.seq + 100, ack: edge(&sent, 1), payload_len: 50, ..seg };
    let out = client.arrives_with(seg, &[(edge(&sent, 4), edge(&sent, 9))]);
    assert_eq!((out.recovery_begins, out.note), (true, Some(Note::OutOfOrder)));
}

/// Shows RFC 8985.
#[test]
fn tlp_the_last_segment_is_probed_before_the_time_out() {
    let (mut client, sent) = sending(4);
    later(&mut client, 100);
    acked(&mut client, &sent, 1, &[]);
    let (waited, out) = client.time_out();
    assert_eq!((waited, out.note), (200, Some(Note::TailProbe)), "twice the round trip");
    let probe = client.sends();
    assert_eq!((seqs(&probe, &sent), probe[0].again), (Vec::from([3]), true));
    later(&mut client, 100);
    acked(&mut client, &sent, 1, &[(3, 4)]);
    assert_eq!(seqs(&client.sends(), &sent), [1, 2], "sent before the probe, which has arrived");
}

/// Shows RFC 8985.
#[test]
fn tlp_is_put_off_by_what_follows_no_longer_than_the_time_out() {
    for settings in [settings(), Settings { timestamps: false, ..settings() }] {
        let (mut client, _) = established_with(settings);
        client.board = Some(Scoreboard::default());
        client.tcb.rto.measured(20_000);
        client.tcb.congestion.cwnd = 1 << 20;
        (client.tcb.snd_wnd, client.tcb.snd_wnd_max) = (1 << 20, 1 << 20);
        let time_out = client.tcb.rto.current_ms();
        let mut probed_after = None;
        for elapsed in 0..2 * time_out {
            if client.tcb.retransmit_at.is_due(client.now.tick()) {
                probed_after = client.time_out().1.note.map(|note| (note, elapsed));
                break;
            }
            // Small messages, more often than probes are due, into a path that is dead.
            if elapsed % 4 == 0 {
                client.queue(800);
                client.sends();
            }
            later(&mut client, 1);
        }
        assert_eq!(probed_after, Some((Note::TailProbe, time_out)));
        client.sends();
        assert_eq!(client.time_out().1.note, Some(Note::TimedOut));
    }
}

#[test]
fn tlp_comes_after_the_last_of_a_burst_and_not_of_its_first() {
    let (mut client, _) = sending(2);
    later(&mut client, 50);
    client.queue(MSS as usize);
    client.sends();
    assert_eq!(client.time_out().0, 200, "twice the round trip");
}

/// Shows RFC 8985.
#[test]
fn tlp_the_first_of_a_burst_is_not_taken_for_a_lone_segment() {
    let (mut client, sent) = sending(1);
    client.tcb.rto.was_spurious();
    acked(&mut client, &sent, 1, &[]);
    client.queue(2 * MSS as usize);
    client.sends();
    assert_eq!(client.time_out(), (200, note(Note::TailProbe)), "twice the round trip, without a delayed ACK's time");
}

/// Shows RFC 8985.
#[test]
fn tlp_repeats_the_last_segment_on_a_short_path_and_sends_a_new_one_on_a_long() {
    for (srtt_us, back) in [(400, MSS), (100_000, 0)] {
        let (mut client, sent) = sending(4);
        client.tcb.rto.srtt_us = srtt_us;
        later(&mut client, 1);
        client.tcb.congestion.cwnd = 3 * MSS;
        client.queue(10 * MSS as usize);
        acked(&mut client, &sent, 1, &[]);
        client.sends();
        let end = client.tcb.snd_nxt;
        assert_eq!(client.time_out().1, note(Note::TailProbe));
        assert_eq!(client.sends()[0].seq, end.back(back));
    }
}

/// Shows RFC 8985.
#[test]
fn tlp_no_probe_is_due_once_recovery_has_begun() {
    let (mut client, sent) = sending(10);
    later(&mut client, 100);
    let out = acked(&mut client, &sent, 0, &[(1, 10)]);
    assert_eq!((out.recovery_begins, seqs(&client.sends(), &sent)), (true, Vec::from([0])));
    // What was sent again is lost, too.
    let (waited, out) = client.time_out();
    assert_eq!((waited, out.note), (client.tcb.rto.in_recovery_ms() / 2, Some(Note::TimedOut)));
}

#[test]
fn tlp_a_probe_that_repairs_the_only_loss_costs_half_the_window() {
    let (mut client, sent) = sending(4);
    client.queue(MSS as usize);
    client.tcb.congestion.cwnd = 4 * MSS;
    later(&mut client, 100);
    acked(&mut client, &sent, 3, &[]);
    client.sends();
    client.tcb.snd_wnd = client.tcb.flight();
    client.time_out();
    assert!(client.sends()[0].again);
    let before = client.tcb.congestion.cwnd;
    client.tcb.snd_wnd = 0xffff;
    client.queue(MSS as usize);
    client.sends();
    acked(&mut client, &sent, 6, &[]);
    assert!(client.tcb.congestion.cwnd < before);
}

#[test]
fn after_a_time_out_what_the_peer_has_is_not_sent_again() {
    let (mut client, sent) = sending(5);
    client.tcb.congestion.cwnd = 5 * MSS;
    later(&mut client, 100);
    acked(&mut client, &sent, 0, &[(3, 4)]);
    client.sends();
    client.tcb.recovery.take_timer();
    let (_, out) = client.time_out();
    assert_eq!(out.note, Some(Note::TimedOut));
    assert_eq!(seqs(&client.sends(), &sent), [0], "one segment (RFC 5681 3.1)");
    later(&mut client, 100);
    acked(&mut client, &sent, 1, &[(3, 4)]);
    assert_eq!(seqs(&client.sends(), &sent), [1, 2]);
    later(&mut client, 100);
    acked(&mut client, &sent, 4, &[]);
    assert_eq!(seqs(&client.sends(), &sent), [4]);
}

#[test]
fn t24_forged_sack_costs_a_time_out_and_no_more() {
    let (mut client, sent) = sending(6);
    later(&mut client, 100);
    // The peer has nothing of what somebody says that it has.
    acked(&mut client, &sent, 0, &[(1, 6)]);
    assert_eq!(seqs(&client.sends(), &sent), [0]);
    later(&mut client, 100);
    acked(&mut client, &sent, 1, &[]);
    assert_eq!(seqs(&client.sends(), &sent)[0], 1, "SND.UNA stands at what was SACKed: it is sent again");
    for at in 2..=6 {
        later(&mut client, 100);
        acked(&mut client, &sent, at, &[]);
        client.sends();
    }
    assert_eq!(client.tcb.flight(), 0);
}

#[test]
fn b05_sack_is_offered_and_agreed_only_by_both() {
    for (mine, theirs) in [(true, true), (true, false), (false, true)] {
        let (client, syn) = syn_sent(Settings { sack: mine, ..settings() });
        assert_eq!(syn.options.sack_permitted, mine);
        let (server, syn_ack) = syn_received(Settings { sack: theirs, ..settings() }, &syn);
        assert_eq!((syn_ack.options.sack_permitted, server.tcb.agreed.sack()), (mine && theirs, mine && theirs));
        let mut client = client;
        client.arrives(syn_ack);
        assert_eq!(client.tcb.agreed.sack(), mine && theirs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// T24: whatever a peer says it has, a silent one gets the first octet again within two time-outs, and one that is
    /// honest from then on gets everything.
    #[test]
    fn t24_no_sack_stalls_the_connection(ops in proptest::collection::vec((0..6u8, 0..30usize, 0..30usize, 0..400u64), 0..40)) {
        let (mut client, sent) = sending(12);
        for (op, from, to, wait) in ops {
            match op {
                0 => { client.queue(to * 700); }
                1 => {
                    let una = ((client.tcb.snd_una - sent[0].seq) / MSS) as usize;
                    if edge(&sent, una + from % 3).le(client.tcb.snd_nxt) {
                        acked(&mut client, &sent, una + from % 3, &[(from, to), (to, from)]);
                    }
                }
                2 | 3 => {
                    let mut seg = Segment { ack: client.tcb.snd_una, ..client.next(ACK) };
                    seg.options.timestamps = seg.options.timestamps.map(|echo| Timestamps { ecr: 0, ..echo });
                    client.arrives_with(seg, &[(edge(&sent, from), edge(&sent, to)), (edge(&sent, to) + 7, edge(&sent, to + 2))]);
                }
                4 if client.tcb.deadline().is_some() => { client.time_out(); }
                _ => later(&mut client, wait),
            }
            client.sends();
        }
        prop_assume!(client.tcb.retries < 8);
        let (mut waited, una) = (0, client.tcb.snd_una);
        for _ in 0..5 {
            if client.tcb.flight() == 0 {
                break;
            }
            prop_assert!(client.tcb.deadline().is_some(), "nothing is due for what is in flight");
            waited += client.time_out().0;
            if client.sends().iter().any(|plan| plan.seq == una) {
                break;
            }
            prop_assert!(waited < 3 * client.tcb.rto.current_ms(), "after {} ms nothing", waited);
        }
        for _ in 0..200 {
            later(&mut client, 100);
            client.arrives(client.next(ACK));
            client.sends();
        }
        prop_assert_eq!((client.tcb.flight(), client.tcb.send_queued_bytes()), (0, 0));
    }
}
