//! Time-outs beside loss recovery: how soon they come, what makes them short, and what shows that they were spurious.

use super::*;

/// A client whose peer delays the ACK of a lone segment for `delay_ms`, unless a second copy comes.
fn time_outs_with_delayed_acks(settings: Settings, delay_ms: u64, rounds: usize) -> usize {
    let (mut client, mut server) = established_with(settings);
    client.board = settings.sack.then(Scoreboard::default);
    let mut time_outs = 0;
    for _ in 0..rounds {
        client.queue(100);
        let plan = client.expect(PSH_ACK);
        server.now = client.now;
        assert!(server.arrives(as_received(plan)).text.is_some());
        server.consume_all();
        server.tcb.delayed_ack_at = crate::tick::Deadline::NONE;
        let answer_at = client.now.plus_ms(delay_ms);
        let mut answered = false;
        while !answered && client.tcb.deadline().is_some_and(|at| at.is_before(answer_at.tick())) {
            let (_, out) = client.time_out();
            time_outs += usize::from(out.note == Some(Note::TimedOut));
            server.now = client.now;
            for again in client.sends() {
                server.arrives(as_received(again));
                answered = true;
            }
        }
        client.now = if answered { client.now.plus_ms(1) } else { answer_at };
        server.now = client.now;
        server.tcb.owed.add(crate::tcp::tcb::Owed::ACK_NOW);
        let ack = server.expect(ACK);
        client.arrives(as_received(ack));
        client.sends();
        assert_eq!(client.tcb.flight(), 0);
    }
    time_outs
}

#[test]
fn delayed_acks_cost_at_most_one_spurious_time_out() {
    for settings in [settings(), without_sack(), plain()] {
        for (delay_ms, time_outs_max) in [(40, 0), (195, 0), (300, 1), (500, 1)] {
            let time_outs = time_outs_with_delayed_acks(settings, delay_ms, 50);
            assert!(time_outs <= time_outs_max, "{time_outs} at {delay_ms} ms with {settings:?}");
        }
    }
}

#[test]
fn a_time_out_in_recovery_comes_after_200_ms_even_where_acks_are_delayed() {
    let (mut client, sent) = sending(6);
    client.tcb.rto.was_spurious();
    assert_eq!(client.tcb.rto.current_ms(), 1000);
    later(&mut client, 100);
    acked(&mut client, &sent, 1, &[(2, 5)]);
    client.sends();
    acked(&mut client, &sent, 2, &[(3, 5)]);
    client.sends();
    let (waited, out) = client.time_out();
    assert_eq!(out.note, Some(Note::TimedOut));
    assert!((200..400).contains(&waited), "{waited}");
}

#[test]
fn a_time_out_in_fast_recovery_on_a_short_path_comes_soon_and_doubles() {
    let (mut client, sent) = sending(6);
    client.tcb.rto.srtt_us = 0;
    client.tcb.rto.measured(1000);
    later(&mut client, 1);
    acked(&mut client, &sent, 0, &[(1, 5)]);
    client.sends();
    for expected in [5, 10, 20] {
        let (waited, out) = client.time_out();
        assert_eq!((waited, out.note), (expected, Some(Note::TimedOut)));
        client.sends();
    }
}

/// Shows RFC 5681 4.1.
#[test]
fn after_a_silence_of_a_time_out_transmission_starts_as_at_first() {
    for (silence_ms, segments) in [(190, 50), (5000, 10)] {
        let (mut client, sent) = sending(50);
        later(&mut client, 100);
        acked(&mut client, &sent, 20, &[]);
        acked(&mut client, &sent, 50, &[]);
        let ssthresh = client.tcb.congestion.ssthresh;
        later(&mut client, silence_ms);
        client.queue(50 * MSS as usize);
        assert_eq!((client.sends().len(), client.tcb.congestion.ssthresh), (segments, ssthresh), "{silence_ms} ms");
    }
}

/// Shows RFC 5681 4.1.
#[test]
fn without_timestamps_a_silence_behind_a_retransmission_is_one_too() {
    for again in [false, true] {
        for (silence_ms, segments) in [(190, 50), (5000, 10)] {
            let (mut client, _) = established_with(plain());
            client.queue(5 * MSS as usize);
            client.sends();
            if again {
                client.time_out();
                assert!(client.expect(ACK).again);
            }
            later(&mut client, 100);
            client.arrives(client.next(ACK));
            client.tcb.congestion.cwnd = 50 * u32::from(client.tcb.mss);
            (client.tcb.snd_wnd, client.tcb.snd_wnd_max) = (1 << 20, 1 << 20);
            later(&mut client, silence_ms);
            client.queue(100 * MSS as usize);
            assert_eq!(client.sends().len(), segments, "{silence_ms} ms, a retransmission was the last: {again}");
        }
    }
}

/// The probe or its answer was lost.
#[test]
fn a_time_out_after_a_probe_on_a_short_path_comes_soon_and_doubles() {
    let (mut client, _) = probed_on_a_short_path(3);
    for expected in [5, 10, 20] {
        let (waited, out) = client.time_out();
        assert_eq!((waited, out.note), (expected, Some(Note::TimedOut)));
        client.sends();
    }
}

/// A client on a short path that has repeated the last of `segments` in flight by a probe.
fn probed_on_a_short_path(segments: u32) -> (End, Vec<Plan>) {
    let (mut client, sent) = sending(segments);
    client.tcb.rto.srtt_us = 0;
    client.tcb.rto.measured(1000);
    client.tcb.retransmit_at = crate::tick::Deadline::at(client.now.tick().plus(2));
    assert_eq!(client.time_out(), (2, note(Note::TailProbe)));
    assert!(client.sends()[0].again);
    (client, sent)
}

/// Shows RFC 8985: what is acknowledged without a D-SACK leaves nothing behind for what follows.
#[test]
fn a_probe_that_was_for_what_is_acknowledged_shortens_no_later_time_out() {
    // The record is kept, as if it had text out of order.
    let (mut client, sent) = probed_on_a_short_path(2);
    later(&mut client, 1);
    acked(&mut client, &sent, 2, &[]);
    client.queue(MSS as usize);
    client.sends();
    for expected in [200, 400] {
        assert_eq!(client.time_out(), (expected, note(Note::TimedOut)));
        client.sends();
    }
    let (mut client, sent) = probed_on_a_short_path(2);
    later(&mut client, 1);
    acked(&mut client, &sent, 2, &[]);
    client.queue(2 * MSS as usize);
    client.sends();
    assert_eq!(client.time_out(), (2, note(Note::TailProbe)), "the next tail has a probe of its own");
}

/// Shows RFC 8985.
#[test]
fn what_leaves_between_a_probe_and_its_answer_has_a_whole_time_out() {
    let (mut client, sent) = probed_on_a_short_path(2);
    client.queue(MSS as usize);
    client.sends();
    later(&mut client, 1);
    acked(&mut client, &sent, 2, &[]);
    assert_eq!(client.time_out(), (200, note(Note::TimedOut)));
}

#[test]
fn a_retransmission_that_came_twice_ends_the_backoff() {
    for (answered, time_out) in [(false, 1), (true, 0)] {
        let (mut client, sent) = sending(2);
        let ecr = client.tcb.ts_offset.wrapping_add(client.now.tick().0);
        assert_eq!(client.time_out().1.note, Some(Note::TailProbe));
        client.sends();
        assert_eq!(client.time_out().1.note, Some(Note::TimedOut));
        client.sends();
        // The ACK of what was sent first was lost, or is late: only what it says of the second copy tells.
        later(&mut client, 1);
        let mut seg = Segment { ack: edge(&sent, 2), ..client.next(ACK) };
        seg.options.timestamps = seg.options.timestamps.map(|timestamps| Timestamps { ecr, ..timestamps });
        let twice = [(edge(&sent, 0), edge(&sent, 1))];
        client.arrives_with(seg, &twice[..usize::from(answered)]);
        assert_eq!((client.tcb.flight(), client.tcb.rto.backoff), (0, time_out));
    }
}

#[test]
fn a_time_out_because_acks_were_lost_is_not_taken_for_a_delayed_ack() {
    // It stays doubled until an ACK that says more.
    for (segments, time_out) in [(1, 1000), (2, 400)] {
        let (mut client, mut server) = established();
        client.tcb.rto.trust_timestamps();
        client.queue(segments * MSS as usize);
        for plan in client.sends() {
            server.arrives(as_received(plan));
        }
        server.consume_all();
        // What the server answers is lost.
        server.sends();
        let before = client.tcb.rto.srtt_us;
        client.tcb.recovery.take_timer();
        assert_eq!(client.time_out().1.note, Some(Note::TimedOut));
        server.now = client.now;
        for plan in client.sends() {
            server.arrives(as_received(plan));
        }
        for plan in server.sends() {
            client.arrives(as_received(plan));
        }
        assert_eq!((client.tcb.flight(), client.tcb.rto.current_ms()), (0, time_out));
        assert_eq!(client.tcb.rto.srtt_us == before, segments > 1, "the time until then is no round trip");
    }
}

/// Shows MUST-18, RFC 6298.
#[test]
fn without_timestamps_the_backoff_stays_until_something_is_measured() {
    // The round trip has grown to 5 s: each time-out of a second is too early, and what was sent again measures nothing.
    let (mut client, _) = established_with(plain());
    let mut time_outs = Vec::new();
    for _ in 0..8 {
        client.queue(100);
        client.expect(PSH_ACK);
        let (answer, answer_at) = (client.next(ACK), client.now.plus_ms(5000));
        time_outs.push(0);
        while client.tcb.deadline().is_some_and(|at| at.is_before(answer_at.tick())) {
            client.time_out();
            client.sends();
            *time_outs.last_mut().expect("one a round") += 1;
        }
        client.now = answer_at;
        client.arrives(answer);
        assert_eq!((client.tcb.flight(), crate::tcp::waits::stalled_ms(&client.tcb)), (0, 0));
    }
    assert_eq!((time_outs[0], &time_outs[4..]), (2, &[0; 4][..]), "{time_outs:?}");
}
