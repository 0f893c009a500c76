//! Short paths, whose round trips are shorter than a tick: what is lost, and when that shows, to the microsecond.

use super::*;

/// A client with a round trip of 100 us and `segments` full segments in flight.
fn sending_nearby(segments: u32) -> (End, Vec<Plan>) {
    let (mut client, sent) = sending(segments);
    client.tcb.rto.srtt_us = 0;
    client.tcb.rto.measured(100);
    (client, sent)
}

fn later_us(client: &mut End, us: u64) {
    client.now = Now::from_us(client.now.us() + us);
}

/// What is due now; the connection's deadline may not have come.
fn due(client: &mut End) -> Option<Note> {
    let (settings, options) = (client.settings, client.options);
    let cx = Context { now: client.now, settings: &settings, options: &options, receive_room: true };
    timeouts::due(&mut client.tcb, client.board.as_mut(), &cx).note
}

/// A client that has just recovered from the loss of the first of six segments, with two more in flight; all of it within a
/// millisecond.
fn recovered_nearby() -> (End, Vec<Plan>) {
    let (mut client, sent) = sending_nearby(6);
    later_us(&mut client, 100);
    acked(&mut client, &sent, 0, &[(1, 6)]);
    assert_eq!(seqs(&client.sends(), &sent), [0]);
    later_us(&mut client, 100);
    acked(&mut client, &sent, 6, &[]);
    assert!(client.tcb.recovery.is_open());
    client.queue(2 * MSS as usize);
    assert_eq!(seqs(&client.sends(), &sent), [6, 7]);
    (client, sent)
}

/// Shows RFC 8985.
#[test]
fn rack_what_left_before_a_retransmission_in_its_millisecond_does_not_show_it_lost() {
    let (mut client, sent) = sending_nearby(6);
    later_us(&mut client, 100);
    acked(&mut client, &sent, 0, &[(1, 3)]);
    client.queue(MSS as usize);
    assert_eq!(seqs(&client.sends(), &sent), [6]);
    later_us(&mut client, 50);
    acked(&mut client, &sent, 0, &[(1, 4)]);
    assert_eq!(seqs(&client.sends(), &sent), [0]);
    later_us(&mut client, 50);
    acked(&mut client, &sent, 0, &[(1, 7)]);
    assert_eq!(client.sends(), [], "segment 6 had left before 0 was sent again");
    client.queue(MSS as usize);
    assert_eq!(seqs(&client.sends(), &sent), [7]);
    let ssthresh = client.tcb.congestion.ssthresh;
    later_us(&mut client, 100);
    acked(&mut client, &sent, 0, &[(1, 8)]);
    assert_eq!(seqs(&client.sends(), &sent), [0], "segment 7 left after it, and is there");
    assert!(client.tcb.congestion.ssthresh < ssthresh, "a second congestion event");
}

/// Shows RFC 8985.
#[test]
fn rack_the_reordering_window_of_a_short_path_is_over_to_the_microsecond() {
    let (mut client, sent) = sending_nearby(3);
    later_us(&mut client, 100);
    acked(&mut client, &sent, 0, &[(1, 2)]);
    assert_eq!(client.sends(), [], "it may have been overtaken");
    later_us(&mut client, 249);
    assert_eq!((due(&mut client), client.sends()), (None, Vec::new()));
    later_us(&mut client, 1);
    due(&mut client);
    assert_eq!(seqs(&client.sends(), &sent), [0]);
}

/// A process that was stopped for more than half the wrap of the microseconds.
#[test]
fn what_is_long_overdue_is_due() {
    let (mut client, sent) = recovered_nearby();
    later(&mut client, 40 * 60 * 1000);
    assert!(due(&mut client).is_some());
    assert_eq!(seqs(&client.sends(), &sent), [7]);
}

/// Shows RFC 8985.
#[test]
fn tlp_a_path_that_has_just_lost_something_is_probed_after_a_millisecond() {
    let (mut client, sent) = recovered_nearby();
    later_us(&mut client, 999);
    assert_eq!(due(&mut client), None);
    later_us(&mut client, 1);
    assert_eq!(due(&mut client), Some(Note::TailProbe));
    assert_eq!(seqs(&client.sends(), &sent), [7]);
    later_us(&mut client, 4999);
    assert_eq!(due(&mut client), None);
    later_us(&mut client, 1);
    assert_eq!(due(&mut client), Some(Note::TimedOut), "the probe is lost too");
}

#[test]
fn the_scoreboard_stays_while_more_is_sent_on_a_path_that_has_just_lost_something() {
    let stays = |client: &End| {
        crate::tcp::recovery::stays(&client.tcb, client.board.as_ref().expect("a scoreboard"), client.now)
    };
    let (mut client, sent) = recovered_nearby();
    assert!(stays(&client));
    acked(&mut client, &sent, 8, &[]);
    assert!(!stays(&client), "nothing is in flight, and nothing waits");
    let (mut client, sent) = recovered_nearby();
    client.tcb.rto.srtt_us = 20_000;
    assert!(!stays(&client), "a long path");
    client.tcb.rto.srtt_us = 100;
    later(&mut client, 200);
    acked(&mut client, &sent, 7, &[]);
    assert!(!stays(&client), "for long nothing has been lost");
}

/// A peer without room, while the scoreboard stays for what waits.
#[test]
fn a_window_that_closes_after_a_recovery_is_probed() {
    let (mut client, sent) = recovered_nearby();
    client.queue(1000 * MSS as usize);
    let full = Segment { ack: edge(&sent, 8), wnd: 0, ..without_echo(&client) };
    let flight = client.tcb.flight();
    client.sends();
    assert!(client.tcb.flight() >= flight);
    let ack = Segment { ack: client.tcb.snd_nxt, ..full };
    client.arrives(ack);
    assert_eq!((client.tcb.flight(), client.sends()), (0, Vec::new()));
    client.time_out();
    let probe = client.sends();
    assert_eq!((probe.len(), probe[0].text_len), (1, 1));
}

/// Shows RFC 3522: told by the echo, and by the D-SACK that an answer to what was sent again brings.
#[test]
fn time_outs_in_fast_recovery_come_later_where_they_were_spurious() {
    for (echo_before, twice, times, expected) in
        [(true, false, 1, 10), (true, false, 2, 10), (true, true, 1, 5), (false, false, 1, 5)]
    {
        let (mut client, sent) = sending_nearby(6);
        let ecr = client.tcb.ts_offset.wrapping_add(client.now.tick().0);
        later_us(&mut client, 100);
        acked(&mut client, &sent, 0, &[(1, 6)]);
        client.sends();
        for _ in 0..times {
            assert_eq!(client.time_out().1.note, Some(Note::TimedOut));
            assert_eq!(seqs(&client.sends(), &sent), [0]);
        }
        let sent_again_at = client.tcb.ts_offset.wrapping_add(client.now.tick().0);
        later_us(&mut client, 200);
        // It fills the gap, and so acknowledges what lies behind it too.
        let mut seg = Segment { ack: edge(&sent, 6), ..client.next(ACK) };
        let echo = if echo_before { ecr } else { sent_again_at };
        seg.options.timestamps = seg.options.timestamps.map(|timestamps| Timestamps { ecr: echo, ..timestamps });
        let blocks = [(edge(&sent, 0), edge(&sent, 1)), (edge(&sent, 1), edge(&sent, 2))];
        client.arrives_with(seg, &blocks[..usize::from(twice)]);
        // The next ACK measures the path and ends the backoff.
        client.tcb.rto.progressed();
        client.tcb.rto.srtt_us = 0;
        client.tcb.rto.measured(100);
        assert_eq!(client.tcb.rto.in_fast_recovery_ms(), expected, "{echo_before} {twice} {times}");
        assert_eq!(client.tcb.rto.current_ms(), 200, "peers do not delay ACKs because of that");
    }
}
