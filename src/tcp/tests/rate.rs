//! Limits of answers (T02, T08, T25).

use super::*;
use crate::limits::{CHALLENGE_WINDOW_MS, CHALLENGES_MAX};
use crate::tcp::Note;
use crate::tcp::rate::{AckBudget, AnswerBucket};
use crate::tcp::tcb::Owed;

/// How many of `tries` segments, one a turn and a ms, `end` answers.
fn answered(end: &mut End, tries: u32, segment: impl Fn(&End) -> Segment) -> u32 {
    let mut acks = 0;
    for _ in 0..tries {
        let seg = segment(end);
        let out = end.arrives(seg);
        let sent = end.sends();
        assert!(sent.len() <= 1 && sent.iter().all(|plan| plan.flags == ACK && plan.text_len == 0));
        assert_eq!(out.challenge_suppressed, sent.is_empty());
        acks += sent.len() as u32;
        end.now = end.now.plus_ms(1);
    }
    acks
}

fn blind_reset(end: &End) -> Segment {
    Segment { seq: end.tcb.rcv_nxt + 100, ..end.next(RST) }
}

#[test]
fn t08_challenge_acks_are_limited_per_connection_and_the_limit_changes() {
    let bounds = u32::from(CHALLENGES_MAX / 2)..=2 * u32::from(CHALLENGES_MAX);
    let (mut client, mut other) = established();
    let mut seen = [false; 256];
    for _ in 0..40 {
        let acks = answered(&mut client, CHALLENGE_WINDOW_MS, blind_reset);
        assert!(bounds.contains(&acks), "{acks}");
        seen[acks as usize] = true;
        client.now = client.now.plus_ms(u64::from(CHALLENGE_WINDOW_MS));
    }
    assert!(seen.iter().filter(|seen| **seen).count() > 1, "the number must not be known beforehand");
    assert_eq!((client.tcb.state, client.tcb.owes()), (State::Established, false));
    // Another connection has its whole limit, whatever the first has used.
    let acks = answered(&mut other, 100, blind_reset);
    assert!(bounds.contains(&acks), "{acks}");
}

#[test]
fn t08_challenge_for_a_blind_syn_has_the_same_limit() {
    let (mut client, _) = established();
    let acks = answered(&mut client, 500, |end| end.next(SYN));
    assert!(acks <= 2 * u32::from(CHALLENGES_MAX));
}

#[test]
fn t25_two_ends_out_of_step_fall_silent() {
    let (mut one, mut other) = established_with(plain());
    // Each believes in numbers that the other finds unacceptable: every ACK asks for one.
    one.tcb.rcv_nxt += 1 << 20;
    one.tcb.rcv_edge += 1 << 20;
    other.tcb.rcv_nxt += 1 << 20;
    other.tcb.rcv_edge += 1 << 20;
    one.tcb.owed.add(Owed::ACK_NOW);
    let mut crossed = 0;
    for _ in 0..200 {
        for plan in one.sends() {
            other.arrives(as_received(plan));
            crossed += 1;
        }
        for plan in other.sends() {
            one.arrives(as_received(plan));
            crossed += 1;
        }
    }
    assert!((2..=2 * u32::from(CHALLENGES_MAX) + 1).contains(&crossed), "{crossed} segments");
    one.expect_nothing();
    other.expect_nothing();
}

#[test]
fn t25_b22_what_the_peer_has_sent_again_and_its_probes_are_always_acknowledged() {
    let (mut client, _) = established_with(plain());
    client.arrives(Segment { payload_len: 1000, ..client.next(ACK) });
    client.sends();
    client.queue(10);
    client.sends();
    // A third party has spent what may be answered.
    answered(&mut client, CHALLENGE_WINDOW_MS, blind_reset);
    let again = |back, payload_len, flags| {
        move |end: &End| Segment {
            seq: end.tcb.rcv_nxt.back(back),
            ack: end.tcb.snd_una,
            payload_len,
            ..end.next(flags)
        }
    };
    for (back, payload_len, flags) in [(10, 10, PSH_ACK), (1000, 500, ACK), (1, 0, FIN_ACK), (1, 0, ACK), (1, 1, ACK)] {
        let acks = answered(&mut client, 100, again(back, payload_len, flags));
        assert_eq!(acks, 100, "the peer waits for it: {back} {payload_len}");
    }
    // The application does not read.
    client.tcb.rcv_edge = client.tcb.rcv_nxt;
    client.tcb.unread_bytes = client.settings.receive_buffer_bytes;
    for (back, payload_len) in [(0, 1), (0, 1000), (10, 20), (1, 0)] {
        let acks = answered(&mut client, 100, again(back, payload_len, ACK));
        assert_eq!(acks, 100, "the window is closed: {back} {payload_len}");
    }
}

/// What no peer that keeps to the window sends, and a third party may guess.
#[test]
fn t25_text_beyond_the_window_or_with_no_acceptable_ack_is_answered_within_the_limit() {
    for (off, ack, payload_len, flags) in [
        (1 << 24, 0, 1, ACK),
        (1 << 30, 0, 1000, PSH_ACK),
        (1 << 24, 0, 0, FIN_ACK),
        (u32::MAX - 9, 1, 10, ACK),
        (u32::MAX - 9, 1 << 31, 10, ACK),
        (u32::MAX, 1, 0, ACK),
        (u32::MAX - 9, 0, 10, Flags::PSH),
    ] {
        let (mut client, _) = established_with(plain());
        let blind = |end: &End| Segment {
            seq: end.tcb.rcv_nxt + off,
            ack: end.tcb.snd_nxt + ack,
            payload_len,
            ..end.next(flags)
        };
        let acks = answered(&mut client, 500, blind);
        assert!((u32::from(CHALLENGES_MAX / 2)..=2 * u32::from(CHALLENGES_MAX)).contains(&acks), "{off} {ack}: {acks}");
    }
}

#[test]
fn t25_acks_of_what_was_never_sent_are_answered_within_the_limit_with_text_or_fin_too() {
    for (flags, payload_len) in [(ACK, 0), (ACK, 1), (FIN_ACK, 0)] {
        let (mut client, _) = established_with(plain());
        let bad = |end: &End| Segment { ack: end.tcb.snd_nxt + 1, payload_len, ..end.next(flags) };
        let acks = answered(&mut client, 500, bad);
        assert!((u32::from(CHALLENGES_MAX / 2)..=2 * u32::from(CHALLENGES_MAX)).contains(&acks), "{acks}");
    }
}

#[test]
fn suppressed_challenge_is_no_challenge() {
    let (mut client, _) = established();
    answered(&mut client, 100, blind_reset);
    let out = client.arrives(blind_reset(&client));
    assert!(out.challenge_suppressed && out.note != Some(Note::ChallengeAck));
}

#[test]
fn t08_budget_is_whole_again_in_the_next_window_whenever_ticks_wrap() {
    let mut budget = AckBudget::default();
    for (seed, begin) in [(1, Tick(u32::MAX - 5)), (0xdead_beef, Tick(0)), (77, Tick(u32::MAX / 2))] {
        for windows in 1..100 {
            let now = begin.plus(windows * CHALLENGE_WINDOW_MS);
            let taken = (0..100).filter(|_| budget.take(now, seed)).count();
            assert!((usize::from(CHALLENGES_MAX / 2)..=usize::from(CHALLENGES_MAX)).contains(&taken), "{taken}");
        }
    }
}

#[test]
fn t02_bucket_lets_a_burst_and_then_its_rate_pass() {
    let settings = Settings { answers_per_second: 100, answers_burst: 50, ..settings() };
    let mut bucket = AnswerBucket::new(&settings, start());
    let mut random = 1u32;
    let mut pass = |bucket: &mut AnswerBucket, now, tries| {
        let mut passed = 0;
        for _ in 0..tries {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            passed += u32::from(bucket.take(&settings, now, random >> 4));
        }
        passed
    };
    assert!((40..=60).contains(&pass(&mut bucket, start(), 10_000)));
    let mut passed = 0;
    for ms in 0..10_000 {
        passed += pass(&mut bucket, start().plus_ms(ms), 10);
    }
    assert!((900..=1100).contains(&passed), "{passed} in ten seconds");
    assert!((40..=60).contains(&pass(&mut bucket, Now::from_us(u64::MAX), 10_000)), "never more than a burst");
    let none = Settings { answers_per_second: 0, answers_burst: 0, ..settings };
    assert!(!AnswerBucket::new(&none, start()).take(&none, start().plus_ms(1 << 40), 0));
}
