//! Keepalive (B24), user timeout (B25), R1 and R2, CLOSE-WAIT that lasts (B37).

use super::*;
use crate::limits::CLOSE_WAIT_MS;
use crate::tcp::connection_options::Keepalive;
use crate::tcp::state::CloseReason;
use crate::tcp::tcb::Owed;
use crate::tcp::{End as Ends, Note};
use core::time::Duration;

fn with_keepalive(idle: u64, interval: u64, count: u8) -> ConnectionOptions {
    let (idle, interval) = (Duration::from_secs(idle), Duration::from_secs(interval));
    ConnectionOptions { keepalive: Some(Keepalive { idle, interval, count }), ..ConnectionOptions::DEFAULT }
}

fn with_user_timeout(seconds: u64) -> ConnectionOptions {
    ConnectionOptions { user_timeout: Some(Duration::from_secs(seconds)), ..ConnectionOptions::DEFAULT }
}

/// An established client with these options, as if it had been opened with them.
fn client_with(options: ConnectionOptions) -> End {
    let (mut client, _) = established_with(plain());
    client.options = ConnectionOptions { no_delay: true, ..options };
    client.options_change();
    client.expect_nothing();
    client
}

/// Segments sent when the next deadline comes.
fn next_sends(end: &mut End) -> (u32, Outcome, Vec<Plan>) {
    let (waited, out) = end.time_out();
    (waited, out, end.sends())
}

#[test]
fn must_25_without_keepalive_an_idle_connection_waits_for_nothing() {
    let client = client_with(ConnectionOptions::DEFAULT);
    assert_eq!(client.tcb.deadline(), None);
}

/// Shows MUST-24, MUST-28, SHLD-12, MAY-5, RFC 2525 2.11.
#[test]
fn b24_must_26_must_27_must_29_probes_come_at_their_times_and_the_last_unanswered_one_ends() {
    let default = ConnectionOptions { keepalive: Some(Keepalive::default()), ..ConnectionOptions::DEFAULT };
    for (options, idle_ms, interval_ms, count) in
        [(default, 7_200_000, 75_000, 10), (with_keepalive(60, 7, 3), 60_000, 7_000, 3)]
    {
        let mut client = client_with(options);
        for probe in 0..count {
            let (waited, out, plans) = next_sends(&mut client);
            let due_ms = if probe == 0 { idle_ms } else { interval_ms };
            assert_eq!((waited, out.note), (due_ms, Some(Note::KeepaliveProbe)));
            // SHLD-12: no octet of data, at a number that must be answered.
            assert_eq!(plans.len(), 1);
            assert_eq!((plans[0].flags, plans[0].seq, plans[0].text_len), (ACK, client.tcb.snd_nxt.back(1), 0));
        }
        let (waited, out, plans) = next_sends(&mut client);
        assert_eq!((waited, out.note), (interval_ms, Some(Note::KeepaliveTimeout)));
        assert_eq!(out.end, Some(Ends::Closed(CloseReason::TimedOut)));
        assert_eq!(plans.iter().map(|plan| plan.flags).collect::<Vec<_>>(), [RST_ACK]);
    }
}

/// Shows RFC 2525 2.9.
#[test]
fn b24_must_29_an_answer_to_the_last_probe_starts_over() {
    let mut client = client_with(with_keepalive(60, 1, 3));
    for _ in 0..3 {
        next_sends(&mut client);
    }
    client.arrives(client.next(ACK));
    assert_eq!((client.tcb.keepalive_probes, client.time_out().0), (0, 60_000));
    client.expect(ACK);
}

#[test]
fn b24_must_26_whatever_the_peer_sends_puts_the_probe_off_and_its_own_probe_too() {
    let mut client = client_with(with_keepalive(60, 1, 3));
    for seg in [client.next(ACK), Segment { seq: client.tcb.rcv_nxt.back(1), ..client.next(ACK) }] {
        client.now = client.now.plus_ms(50_000);
        client.arrives(seg);
        client.sends();
        assert_eq!(client.now.tick().until(client.tcb.deadline().expect("keepalive")), 60_000);
    }
    // What is no segment of this connection does not: forged numbers keep nothing alive.
    client.now = client.now.plus_ms(50_000);
    client.arrives(Segment { seq: client.tcb.rcv_nxt.back(2), ..client.next(ACK) });
    client.arrives(Segment { ack: client.tcb.snd_nxt + 1, ..client.next(ACK) });
    client.sends();
    assert_eq!(client.now.tick().until(client.tcb.deadline().expect("keepalive")), 10_000);
}

#[test]
fn b24_must_26_no_probe_while_data_is_under_way_but_retransmissions() {
    let mut client = client_with(with_keepalive(1, 1, 1));
    client.queue(10);
    client.expect(PSH_ACK);
    for _ in 0..5 {
        let (_, out, plans) = next_sends(&mut client);
        assert!(plans.iter().all(|plan| plan.text_len == 10) && out.note != Some(Note::KeepaliveProbe), "{plans:?}");
    }
    client.arrives(client.next(ACK));
    assert_eq!(next_sends(&mut client).1.note, Some(Note::KeepaliveProbe));
}

#[test]
fn b24_the_peer_answers_a_probe_with_an_ack() {
    let (mut client, mut server) = established();
    client.options = with_keepalive(60, 1, 3);
    client.options_change();
    let (_, _, plans) = next_sends(&mut client);
    server.now = client.now;
    server.arrives(as_received(plans[0]));
    let answer = server.expect(ACK);
    client.arrives(as_received(answer));
    client.expect_nothing();
    assert_eq!(client.tcb.keepalive_probes, 0);
}

#[test]
fn b24_a_probe_takes_no_window_update_along_into_nothing() {
    let mut client = client_with(with_keepalive(60, 1, 3));
    let (_, out) = client.time_out();
    assert_eq!(out.note, Some(Note::KeepaliveProbe));
    // The application reads in the same turn.
    client.tcb.owed.add(Owed::WINDOW_UPDATE);
    let plans = client.sends();
    assert_eq!(plans.iter().map(|plan| plan.seq).collect::<Vec<_>>(), [client.tcb.snd_nxt.back(1), client.tcb.snd_nxt]);
}

/// Shows T04.
#[test]
fn b25_no_acknowledgment_for_the_user_timeout_sends_rst_and_ends() {
    let mut client = client_with(with_user_timeout(10));
    assert_eq!(client.tcb.deadline(), None, "nothing is under way");
    client.queue(10);
    let begin = client.now;
    client.expect(PSH_ACK);
    let (_, out, plans) = loop {
        let step = next_sends(&mut client);
        if step.1.end.is_some() {
            break step;
        }
    };
    assert_eq!(client.now.us() - begin.us(), 10_000_000);
    assert_eq!((out.end, out.note), (Some(Ends::Closed(CloseReason::TimedOut)), Some(Note::UserTimeout)));
    assert_eq!(plans.iter().map(|plan| plan.flags).collect::<Vec<_>>(), [Flags(RST.0 | ACK.0)]);
    assert_eq!(client.tcb.state, State::Closed);
}

/// Shows MUST-21.
#[test]
fn b25_a_user_timeout_beyond_r2_is_what_ends_the_connection() {
    for seconds in [7200, 20 * 86_400] {
        let mut client = client_with(ConnectionOptions { retries1: u8::MAX, ..with_user_timeout(seconds) });
        client.queue(10);
        let begin = client.now;
        client.expect(PSH_ACK);
        let mut stalled = 0;
        let (out, plans) = loop {
            let (_, out, plans) = next_sends(&mut client);
            stalled += u32::from(out.stalled);
            if out.end.is_some() {
                break (out, plans);
            }
        };
        assert_eq!(client.now.us() - begin.us(), seconds * 1_000_000);
        assert_eq!((out.end, out.note), (Some(Ends::Closed(CloseReason::TimedOut)), Some(Note::UserTimeout)));
        assert_eq!(plans.iter().map(|plan| plan.flags).collect::<Vec<_>>(), [Flags(RST.0 | ACK.0)]);
        assert_eq!(stalled, u32::from(seconds > 255 * 64), "R1 is told once");
    }
}

#[test]
fn b25_progress_of_one_octet_gives_the_rest_the_whole_time_again() {
    let mut client = client_with(with_user_timeout(10));
    client.queue(100);
    client.expect(PSH_ACK);
    client.now = client.now.plus_ms(9_000);
    client.arrives(Segment { ack: client.tcb.snd_una + 1, ..client.next(ACK) });
    assert_eq!(client.now.tick().until(client.tcb.waits_until.tick().expect("a user timeout")), 10_000);
    // A duplicate is no progress.
    client.now = client.now.plus_ms(4_000);
    client.arrives(Segment { ack: client.tcb.snd_una, ..client.next(ACK) });
    assert_eq!(client.now.tick().until(client.tcb.waits_until.tick().expect("a user timeout")), 6_000);
    client.arrives(client.next(ACK));
    assert_eq!(client.tcb.waits_until.tick(), None);
}

/// Shows MUST-37.
#[test]
fn t03_acknowledged_zero_window_lasts_for_ever_or_until_the_user_timeout() {
    for (timeout, closed) in [(None, false), (None, true), (Some(3600), false), (Some(3600), true)] {
        let mut client = client_with(timeout.map_or(ConnectionOptions::DEFAULT, with_user_timeout));
        client.arrives(Segment { wnd: 0, ..client.next(ACK) });
        client.queue(1000);
        if closed {
            client.close();
        }
        client.sends();
        let begin = client.now;
        let mut ended = None;
        for _ in 0..2000 {
            let (_, out, _) = next_sends(&mut client);
            if out.end.is_some() {
                ended = out.end;
                break;
            }
            // MUST-37: the peer acknowledges each probe, and takes nothing.
            client.arrives(Segment { wnd: 0, ack: client.tcb.snd_una, ..client.next(ACK) });
        }
        match timeout {
            None => {
                let state = if closed { State::FinWait1 } else { State::Established };
                assert_eq!((ended, client.tcb.state), (None, state));
            }
            Some(seconds) => {
                assert_eq!(ended, Some(Ends::Closed(CloseReason::TimedOut)));
                assert_eq!(client.now.us() - begin.us(), seconds * 1_000_000);
            }
        }
    }
}

#[test]
fn b25_user_timeout_holds_for_the_handshake_too() {
    let options = ConnectionOptions { user_timeout: Some(Duration::from_secs(5)), ..ConnectionOptions::DEFAULT };
    let settings = settings();
    let cx = Context { now: start(), settings: &settings, options: &options, receive_room: true };
    let mut client = End::new(Tcb::open_actively(&tuple(), &cx), settings, start());
    client.options = options;
    client.expect(SYN);
    let out = loop {
        let (_, out) = client.time_out();
        client.sends();
        if out.end.is_some() {
            break out;
        }
    };
    assert_eq!(out.end, Some(Ends::Closed(CloseReason::TimedOut)));
    assert_eq!(client.now.us() - start().us(), 5_000_000);
}

/// Shows SHLD-9. MUST-47.
#[test]
fn must_20_must_21_r1_is_told_once_and_r2_ends_as_the_options_say() {
    let options = ConnectionOptions { retries1: 2, retries2: 4, ..ConnectionOptions::DEFAULT };
    let mut client = client_with(options);
    client.queue(10);
    client.expect(PSH_ACK);
    let mut stalled = Vec::new();
    loop {
        let (_, out) = client.time_out();
        if out.end.is_some() {
            assert_eq!(out.end, Some(Ends::Closed(CloseReason::TimedOut)));
            break;
        }
        // Without a scoreboard the first deadline may be a tail probe's, which sends nothing.
        if !client.sends().is_empty() {
            stalled.push(out.stalled);
        }
    }
    assert_eq!(stalled, [false, true, false, false]);
}

#[test]
fn shld_20_r1_past_r2_tells_nothing() {
    let mut client = client_with(ConnectionOptions { retries1: 255, retries2: 4, ..ConnectionOptions::DEFAULT });
    client.queue(10);
    client.expect(PSH_ACK);
    loop {
        let (_, out, _) = next_sends(&mut client);
        assert!(!out.stalled);
        if out.end.is_some() {
            break;
        }
    }
}

#[test]
fn must_22_r1_of_a_syn_and_of_a_syn_ack_is_told_once_as_that_of_text() {
    for retries1 in 1..=5 {
        let (mut client, syn) = syn_sent(settings());
        let (mut server, _) = syn_received(settings(), &syn);
        for (end, sent_again) in [(&mut client, 7), (&mut server, 5)] {
            end.options.retries1 = retries1;
            let mut told_at = Vec::new();
            for retry in 1..=sent_again {
                if end.time_out().1.stalled {
                    told_at.push(retry);
                }
                assert_eq!(end.sends().len(), 1);
            }
            assert_eq!(told_at, [retries1]);
            let (_, out) = end.time_out();
            assert!(out.end.is_some() && !out.stalled, "R2");
        }
    }
}

#[test]
fn must_22_syn_retries_of_the_options_end_an_open() {
    for (syn_retries, seconds) in [(1, 3), (7, 191)] {
        let (mut client, _) = syn_sent(settings());
        client.options.syn_retries = syn_retries;
        let out = loop {
            let (_, out) = client.time_out();
            client.sends();
            if out.end.is_some() {
                break out;
            }
        };
        assert_eq!(out.end, Some(Ends::Closed(CloseReason::TimedOut)));
        // MUST-23: by default more than three minutes.
        assert_eq!(client.now.us() - start().us(), seconds * 1_000_000);
    }
}

#[test]
fn must_23_shld_10_shld_11_defaults_are_three_retransmissions_a_hundred_seconds_and_three_minutes() {
    let mut client = client_with(ConnectionOptions::DEFAULT);
    client.queue(10);
    client.expect(PSH_ACK);
    let begin = client.now;
    let (mut sent_again, mut told_after) = (0, None);
    loop {
        let (_, out, plans) = next_sends(&mut client);
        sent_again += plans.len();
        if out.stalled {
            told_after = Some(sent_again);
        }
        if out.end.is_some() {
            break;
        }
    }
    assert!(told_after.is_some_and(|retransmissions| retransmissions >= 3), "R1 (SHLD-10): {told_after:?}");
    assert!(client.now.us() - begin.us() >= 100_000_000, "R2 of text (SHLD-11)");
    let (mut client, _) = syn_sent(settings());
    while client.time_out().1.end.is_none() {
        client.sends();
    }
    assert!(client.now.us() - start().us() >= 180_000_000, "R2 of a SYN (MUST-23)");
}

#[test]
fn b37_close_wait_that_lasts_is_counted_once_and_stays_the_applications() {
    let mut client = client_with(ConnectionOptions::DEFAULT);
    client.arrives(client.next(FIN_ACK));
    client.expect(ACK);
    let (waited, out) = client.time_out();
    assert_eq!((waited, out.close_wait_lasts, out.end), (CLOSE_WAIT_MS, true, None));
    client.expect_nothing();
    assert_eq!((client.tcb.state, client.tcb.deadline()), (State::CloseWait, None));
    client.close();
    client.expect(FIN_ACK);
}

#[test]
fn b37_application_that_closes_at_once_leaves_no_wait_behind() {
    let mut client = client_with(ConnectionOptions::DEFAULT);
    client.arrives(client.next(FIN_ACK));
    client.close();
    client.expect(FIN_ACK);
    assert_eq!(client.tcb.waits_until.tick(), None);
}

#[test]
fn b37_fin_wait_2_ends_although_the_peer_keeps_sending_acks() {
    let mut client = client_with(with_keepalive(60, 1, 3));
    client.close();
    client.expect(FIN_ACK);
    client.arrives(client.next(ACK));
    assert_eq!(client.tcb.state, State::FinWait2);
    for _ in 0..5 {
        client.now = client.now.plus_ms(10_000);
        client.arrives(client.next(ACK));
        client.sends();
    }
    let (waited, out) = client.time_out();
    assert_eq!((waited, out.end), (10_000, Some(Ends::Closed(CloseReason::TimedOut))));
}
