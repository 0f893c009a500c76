//! T23: TSval at every place where it is compared, around 0, 2^31 and 2^32 - 1.

use super::time_wait::record;
use super::*;
use crate::tcp::time_wait::{self, Policy};
use crate::tcp::{Note, options};

/// Where the last TSval lay.
const EDGES: [u32; 6] = [0, 1, (1 << 31) - 1, 1 << 31, u32::MAX - 1, u32::MAX];

/// How far another TSval lies from the last, and whether it is older (RFC 7323 5.3: by less than 2^31).
const STEPS: [(i32, bool); 6] =
    [(0, false), (1, false), (i32::MAX, false), (-1, true), (-1000, true), (-i32::MAX, true)];

fn stamped(seg: Segment, val: u32) -> Segment {
    let timestamps = Some(Timestamps { val, ecr: 0 });
    Segment { options: Options { timestamps, ..seg.options }, ..seg }
}

/// Calls `check` with every last TSval, every other one, and whether that is older.
fn at_every_edge(mut check: impl FnMut(u32, u32, bool)) {
    for last in EDGES {
        for (step, older) in STEPS {
            check(last, last.wrapping_add_signed(step), older);
        }
    }
}

/// Shows RFC 7323.
#[test]
fn t23_paws_and_ts_recent_hold_where_timestamps_wrap() {
    at_every_edge(|last, val, older| {
        let (mut client, _) = established();
        client.tcb.ts_recent = last;
        let seg = stamped(Segment { payload_len: 5, ..client.next(ACK) }, val);
        assert_eq!(options::paws_refuses(&client.tcb, &seg, client.now.tick()), older, "{val:#x} after {last:#x}");
        let out = client.arrives(seg);
        let expected = if older { (None, Some(Note::Paws), last) } else { (Some((0, 5)), None, val) };
        assert_eq!((out.text, out.note, client.tcb.ts_recent), expected, "{val:#x} after {last:#x}");
    });
}

#[test]
fn t23_ts_recent_is_not_moved_by_what_lies_beyond_the_last_acknowledgment() {
    at_every_edge(|last, val, older| {
        let (mut client, _) = established();
        client.tcb.ts_recent = last;
        for (beyond, moves) in [(1, false), (0, !older), (u32::MAX, !older)] {
            let mut tcb = client.tcb.clone();
            let seg = stamped(Segment { seq: tcb.last_ack_sent + beyond, ..client.next(ACK) }, val);
            options::update_ts_recent(&mut tcb, &seg, client.now.tick());
            assert_eq!(tcb.ts_recent, if moves { val } else { last }, "{val:#x} after {last:#x}, {beyond} beyond");
        }
    });
}

/// Shows RFC 6191.
#[test]
fn b44_time_wait_tells_older_from_newer_where_timestamps_wrap() {
    at_every_edge(|last, val, older| {
        let (mut numbers, fin) = record(&settings());
        numbers.ts_recent = last;
        let syn = stamped(Segment { seq: numbers.rcv_nxt, flags: SYN, ..fin }, val);
        let settings = Settings { time_wait_policy: Policy::Timestamp, ..settings() };
        let cx = Context::without_connection(start(), &settings);
        let arrived = time_wait::arrives(&mut numbers, &tuple(), &syn, &cx);
        // Equal: only with a sequence number beyond, which this one has not.
        assert_eq!(arrived.reopens, !older && val != last, "{val:#x} after {last:#x}");
    });
}

#[test]
fn b45_inherited_timestamp_refuses_older_ones_where_timestamps_wrap() {
    at_every_edge(|last, val, older| {
        let (mut client, syn) = syn_sent(settings());
        let (_, syn_ack) = syn_received(settings(), &syn);
        let (mut former, _) = record(&settings());
        former.ts_recent = last;
        client.tcb.inherit_ts_recent(&former, client.now);
        let out = client.arrives(stamped(syn_ack, val));
        assert_eq!((out.established, out.note), (!older, older.then_some(Note::Paws)), "{val:#x} after {last:#x}");
        assert_eq!(client.tcb.ts_recent, if older { last } else { val });
    });
}
