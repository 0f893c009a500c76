//! Behaviours B40 to B43 on the compact record.

use super::*;
use crate::tcp::Note;
use crate::tcp::time_wait::{self, Arrived, Numbers};

/// The record of a client that closed first, and a segment of the server that is next in order.
fn record(settings: &Settings) -> (Numbers, Segment) {
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
    time_wait::arrives(numbers, &tuple(), &seg, &cx)
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
