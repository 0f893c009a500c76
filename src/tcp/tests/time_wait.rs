//! Behaviours B40 to B43 on the compact record.

use super::*;
use crate::tcp::Note;
use crate::tcp::time_wait::{self, Arrived, Numbers, Policy};
use alloc::format;

/// The record of a client that closed first, and a segment of the server that is next in order.
pub(super) fn record(settings: &Settings) -> (Numbers, Segment) {
    let (mut client, _) = established_with(*settings);
    client.close();
    client.sends();
    client.arrives(client.next(ACK));
    let fin = client.next(FIN_ACK);
    assert!(client.arrives(fin).end.is_some());
    let cx = Context { now: start(), settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
    (Numbers::of(&client.tcb, &cx), fin)
}

fn arrives(numbers: &Numbers, seg: Segment, settings: &Settings) -> Arrived {
    let cx = Context { now: start(), settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
    time_wait::arrives(&mut numbers.clone(), &tuple(), &seg, &cx)
}

#[test]
fn b40_two_msl_is_sixty_seconds_by_default() {
    let (numbers, _) = record(&settings());
    assert_eq!(numbers.deadline.since(start().tick()), 60_000);
}

#[test]
fn b41_fin_again_is_acknowledged_again_and_restarts_two_msl() {
    let (numbers, fin) = record(&settings());
    let arrived = arrives(&numbers, fin, &settings());
    assert!(arrived.restart);
    let answer = arrived.answer.expect("an ACK");
    assert_eq!((answer.seq, answer.ack, answer.flags), (numbers.snd_nxt, numbers.rcv_nxt, ACK));
    assert_eq!(answer.timestamps.map(|timestamps| timestamps.ecr), Some(numbers.ts_recent));
}

/// RFC 7323 4.3: TS.Recent follows what the peer sends last, and guards the next incarnation (RFC 6191).
#[test]
fn b41_fin_again_moves_ts_recent_forward_and_never_back() {
    let settings = settings();
    let (mut numbers, fin) = record(&settings);
    let first = numbers.ts_recent;
    for (val, recent) in [(first.wrapping_add(500), 500), (first, 500), (first.wrapping_add(700), 700)] {
        let options = Options { timestamps: Some(Timestamps { val, ecr: 0 }), ..Options::default() };
        let cx = Context::without_connection(start(), &settings);
        let arrived = time_wait::arrives(&mut numbers, &tuple(), &Segment { options, ..fin }, &cx);
        let echoed = arrived.answer.and_then(|answer| answer.timestamps).map(|timestamps| timestamps.ecr);
        assert_eq!((numbers.ts_recent, echoed), (first.wrapping_add(recent), Some(first.wrapping_add(recent))));
    }
}

/// RFC 9293 3.10.7.4, fifth check: without ACK a segment is dropped, whatever else it carries.
#[test]
fn b41_fin_without_ack_restarts_nothing() {
    let (numbers, fin) = record(&plain());
    assert!(!arrives(&numbers, Segment { flags: Flags::FIN, ..fin }, &plain()).restart);
    assert!(arrives(&numbers, fin, &plain()).restart);
}

/// What the peer can still send: its FIN, with the text before it, an ACK or a RST.
#[test]
fn segment_is_the_records_own_by_its_acknowledgment_and_its_end() {
    let (numbers, fin) = record(&plain());
    let is_own = |seg: Segment| time_wait::is_own(&numbers, &seg);
    let ack = Segment { flags: ACK, seq: numbers.rcv_nxt, ..fin };
    assert!(is_own(fin) && is_own(ack) && is_own(Segment { seq: fin.seq.back(100), payload_len: 60, ..ack }));
    for ack_number in [numbers.snd_nxt + 1, numbers.snd_nxt.back(1)] {
        assert!(!is_own(Segment { ack: ack_number, ..fin }) && !is_own(Segment { ack: ack_number, ..ack }));
    }
    assert!(!is_own(Segment { seq: fin.seq + 1, ..fin }), "it ends beyond the peer's FIN");
    assert!(!is_own(Segment { flags: Flags::FIN, ..fin }), "without ACK the number says nothing");
    assert!(!is_own(Segment { flags: SYN, ..fin }) && !is_own(Segment { flags: SYN_ACK, ..fin }));
    let rst = Segment { flags: Flags::RST, ack: Seq(0), ..ack };
    assert!(is_own(rst) && !is_own(Segment { seq: numbers.rcv_nxt + 1, ..rst }));
}

#[test]
fn b42_old_data_is_answered_by_an_ack_and_changes_nothing() {
    let (numbers, fin) = record(&plain());
    let old = Segment { seq: fin.seq.back(500), payload_len: 100, flags: ACK, ..fin };
    let arrived = arrives(&numbers, old, &plain());
    assert!(arrived.answer.is_some() && !arrived.restart && !arrived.ends);
}

/// Shows RFC 1337.
#[test]
fn b43_reset_is_ignored_by_default_and_ends_it_where_set_so() {
    let (numbers, fin) = record(&plain());
    let reset = Segment { seq: numbers.rcv_nxt, flags: RST, ..fin };
    let arrived = arrives(&numbers, reset, &plain());
    assert_eq!(arrived, Arrived { note: Some(Note::RstIgnored), ..Arrived::default() });
    let by_rfc_9293 = Settings { rst_ends_time_wait: true, ..plain() };
    assert!(arrives(&numbers, reset, &by_rfc_9293).ends);
    let inexact = Segment { seq: numbers.rcv_nxt + 1, ..reset };
    assert!(!arrives(&numbers, inexact, &by_rfc_9293).ends);
}

#[test]
fn t25_pure_ack_in_order_is_not_answered() {
    let (numbers, fin) = record(&plain());
    let ack = Segment { seq: numbers.rcv_nxt, ack: numbers.snd_nxt, flags: ACK, ..fin };
    assert_eq!(arrives(&numbers, ack, &plain()), Arrived { note: Some(Note::Ignored), ..Arrived::default() });
}

/// What a SYN says, in terms of the record: its TSval less TS.Recent, where both have timestamps, and its number less RCV.NXT.
type Says = (Option<i32>, i32);

/// Which of [`Policy::ALL`] let a SYN open a new incarnation. Written from RFC 6191 2 and RFC 9293 3.6.1, MAY-2.
const REOPENS: [(Says, [bool; 4]); 16] = [
    // Newer: whatever the number.
    ((Some(1), 1), [false, true, true, true]),
    ((Some(1), 0), [false, true, true, true]),
    ((Some(1), -1), [false, true, true, true]),
    ((Some(i32::MAX), i32::MIN + 1), [false, true, true, true]),
    // Equal: the number must lie beyond.
    ((Some(0), 1), [false, true, true, true]),
    ((Some(0), i32::MAX), [false, true, true, true]),
    ((Some(0), 0), [false, false, false, true]),
    ((Some(0), -1), [false, false, false, true]),
    // Older: never by the number.
    ((Some(-1), 1), [false, false, false, true]),
    ((Some(-1), i32::MAX), [false, false, false, true]),
    ((Some(-1), 0), [false, false, false, true]),
    ((Some(-i32::MAX), 1), [false, false, false, true]),
    // One side at least has none: the number alone, where the policy trusts it.
    ((None, 1), [false, false, true, true]),
    ((None, i32::MAX), [false, false, true, true]),
    ((None, 0), [false, false, false, true]),
    ((None, -1), [false, false, false, true]),
];

/// Shows RFC 6191, MAY-2.
#[test]
fn b44_timestamps_decide_alone_and_sequence_numbers_only_without_them() {
    for ((stamp, off), by_policy) in REOPENS {
        // The record's side and the SYN's have timestamps, or either has not, or neither.
        let sides: &[(bool, bool)] =
            if stamp.is_some() { &[(true, true)] } else { &[(true, false), (false, true), (false, false)] };
        for (of_record, of_syn) in sides {
            let (numbers, fin) = record(&Settings { timestamps: *of_record, ..settings() });
            let val = numbers.ts_recent.wrapping_add_signed(stamp.unwrap_or(1));
            let options = Options { timestamps: of_syn.then_some(Timestamps { val, ecr: 0 }), ..Options::default() };
            let seq = Seq(numbers.rcv_nxt.0.wrapping_add_signed(off));
            let syn = Segment { seq, flags: SYN, options, ..fin };
            for (policy, reopens) in Policy::ALL.into_iter().zip(by_policy) {
                let settings = Settings { time_wait_policy: policy, ..settings() };
                let place = format!("{} {stamp:?} {off} {of_record} {of_syn}", policy.name());
                let arrived = arrives(&numbers, syn, &settings);
                assert_eq!((arrived.reopens, arrived.answer.is_none()), (reopens, reopens), "{place}");
                assert!(!arrived.restart && !arrived.ends, "{place}");
                let syn_ack = arrives(&numbers, Segment { flags: SYN_ACK, ..syn }, &settings);
                assert!(!syn_ack.reopens && syn_ack.answer.is_some(), "{place}: a SYN-ACK opens nothing");
            }
        }
    }
}

/// The floor is SND.NXT and the largest unscaled window.
#[test]
fn b44_the_next_iss_is_the_clocked_one_or_lies_beyond_the_floor() {
    let (mut numbers, _) = record(&settings());
    for snd_nxt in [0, u32::MAX - 65_535, u32::MAX - 65_534, u32::MAX, 1 << 31] {
        numbers.snd_nxt = Seq(snd_nxt);
        let floor = numbers.snd_nxt + 65_535;
        for beyond in [1, 1000, (1 << 31) - 1] {
            assert_eq!(time_wait::iss_beyond(&numbers, floor + beyond, 7), floor + beyond);
        }
        for behind in [0, 1, 65_535, 1 << 30] {
            for random in [0, u16::MAX] {
                let iss = time_wait::iss_beyond(&numbers, floor.back(behind), random);
                assert_eq!(iss - floor, u32::from(random) + 1, "SND.NXT {snd_nxt:#x}, {behind} behind");
            }
        }
    }
}
