//! Text and FIN out of order (SHLD-31, T12), against a model that holds every octet by itself.

use super::*;
use crate::limits::{PIECES_MAX, REASSEMBLY_BYTES_MAX};
use crate::seq::Seq;
use crate::tcp::reassembly::{Kept, Reassembly};
use alloc::collections::BTreeMap;
use proptest::prelude::*;

/// A connection in ESTABLISHED and a segment of it that lies `off` octets beyond RCV.NXT.
fn early(end: &End, off: u32, payload_len: u16) -> Segment {
    Segment { seq: end.tcb.rcv_nxt + off, payload_len, ..end.next(ACK) }
}

/// Shows RFC 2525 2.5.
#[test]
fn shld_31_text_out_of_order_is_delivered_when_the_gap_is_filled() {
    let (mut client, _) = established_with(plain());
    let mut kept = Reassembly::default();
    let start = client.tcb.rcv_nxt;
    let later = early(&client, 100, 50);
    assert_eq!(kept.keep(&client.tcb, &later, 1000), Some(Kept { piece: 0, new: true, skip: 0, len: 50 }));
    let behind = early(&client, 150, 50);
    assert_eq!(kept.keep(&client.tcb, &behind, 1000), Some(Kept { piece: 0, new: false, skip: 0, len: 50 }));
    client.arrives(Segment { payload_len: 100, ..client.next(ACK) });
    assert_eq!((kept.deliver(&mut client.tcb), client.tcb.rcv_nxt - start, client.tcb.unread_bytes), (1, 200, 200));
    assert_eq!(client.expect(ACK).ack, start + 200, "what fills a gap is acknowledged at once");
    assert_eq!((kept.take(), kept.take(), kept.is_empty(client.tcb.rcv_nxt)), (Some(0), None, true));
}

/// Shows RFC 5681.
#[test]
fn shld_18_text_in_order_is_acknowledged_with_delay_where_there_is_no_gap() {
    let (mut client, _) = established_with(plain());
    let mut kept = Reassembly::default();
    client.arrives(Segment { payload_len: 100, ..client.next(ACK) });
    kept.deliver(&mut client.tcb);
    client.expect_nothing();
    // A gap that is filled in part, then whole.
    let later = early(&client, 200, 50);
    kept.keep(&client.tcb, &later, 1000);
    for (len, ready) in [(100, 0), (100, 1)] {
        client.arrives(Segment { payload_len: len, ..client.next(ACK) });
        assert_eq!(kept.deliver(&mut client.tcb), ready);
        client.expect(ACK);
    }
    kept.take();
    client.arrives(Segment { payload_len: 100, ..client.next(ACK) });
    kept.deliver(&mut client.tcb);
    client.expect_nothing();
}

#[test]
fn t12_overlapping_text_fills_only_what_is_missing() {
    let (client, _) = established_with(plain());
    let mut kept = Reassembly::default();
    for (off, len, expected) in [
        (100, 50, Some(Kept { piece: 0, new: true, skip: 0, len: 50 })),
        (100, 50, None),
        (110, 20, None),
        (90, 70, Some(Kept { piece: 0, new: true, skip: 0, len: 10 })),
        (95, 100, Some(Kept { piece: 1, new: false, skip: 55, len: 45 })),
        (80, 20, Some(Kept { piece: 0, new: true, skip: 0, len: 10 })),
    ] {
        assert_eq!(kept.keep(&client.tcb, &early(&client, off, len), 1000), expected, "{off} {len}");
    }
}

#[test]
fn t12_pieces_and_octets_are_bounded() {
    let (client, _) = established_with(plain());
    let mut kept = Reassembly::default();
    for at in 0..PIECES_MAX as u32 {
        assert!(kept.keep(&client.tcb, &early(&client, 10 + 10 * at, 1), 1000).is_some());
    }
    assert_eq!(kept.keep(&client.tcb, &early(&client, 500, 1), 1000), None);
    assert!(kept.keep(&client.tcb, &early(&client, 11, 1), 1000).is_some(), "a piece that exists may grow");
    assert_eq!(kept.keep(&client.tcb, &early(&client, 12, 4), PIECES_MAX as u32 + 4), None);
}

#[test]
fn text_beyond_the_window_is_trimmed() {
    let (client, _) = established_with(plain());
    let mut kept = Reassembly::default();
    let wnd = client.tcb.rcv_wnd();
    let kept = kept.keep(&client.tcb, &early(&client, wnd - 10, 100), REASSEMBLY_BYTES_MAX);
    assert_eq!(kept, Some(Kept { piece: 0, new: true, skip: 0, len: 10 }));
}

#[test]
fn shld_31_fin_out_of_order_closes_when_everything_before_it_has_come() {
    let (mut client, _) = established_with(plain());
    let mut kept = Reassembly::default();
    let fin = Segment { flags: FIN_ACK, ..early(&client, 100, 50) };
    assert!(kept.keep(&client.tcb, &fin, 1000).is_some());
    assert!(!kept.fin_is_next(&client.tcb));
    client.arrives(Segment { payload_len: 100, ..client.next(ACK) });
    kept.deliver(&mut client.tcb);
    assert!(kept.fin_is_next(&client.tcb));
    let (settings, mut out) = (client.settings, Outcome::default());
    let cx = Context { now: client.now, settings: &settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
    others::take_early_fin(&mut client.tcb, &cx, &mut out);
    assert_eq!((client.tcb.state, out.peer_closed), (State::CloseWait, true));
    assert!(!kept.fin_is_next(&client.tcb), "a FIN counts once");
}

#[test]
fn close_wait_text_beyond_the_fin_is_not_delivered() {
    let (mut client, _) = established_with(plain());
    let mut kept = Reassembly::default();
    let start = client.tcb.rcv_nxt;
    assert!(kept.keep(&client.tcb, &early(&client, 50, 200), 1000).is_some());
    let out = client.arrives(Segment { payload_len: 100, flags: FIN_ACK, ..client.next(ACK) });
    assert!(out.peer_closed);
    assert_eq!(kept.deliver(&mut client.tcb), 0);
    assert_eq!((client.tcb.rcv_nxt - start, client.tcb.unread_bytes), (101, 100), "the FIN is the end");
}

#[test]
fn fin_wait_2_fin_out_of_order_ends_in_time_wait() {
    let (mut client, mut server) = established_with(plain());
    client.close();
    server.arrives(as_received(client.expect(FIN_ACK)));
    client.arrives(as_received(server.expect(ACK)));
    client.tcb.facts.remove(Fact::APP_CLOSED);
    let mut kept = Reassembly::default();
    kept.keep(&client.tcb, &Segment { flags: FIN_ACK, ..early(&client, 10, 0) }, 1000);
    client.arrives(Segment { payload_len: 10, ..client.next(ACK) });
    kept.deliver(&mut client.tcb);
    let (settings, mut out) = (client.settings, Outcome::default());
    let cx = Context { now: client.now, settings: &settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
    assert!(kept.fin_is_next(&client.tcb));
    others::take_early_fin(&mut client.tcb, &cx, &mut out);
    assert_eq!(out.end, Some(crate::tcp::End::TimeWait));
}

proptest! {
    #[test]
    fn t12_any_segments_are_kept_once_and_delivered_up_to_the_first_gap(
        start: u32, segments in proptest::collection::vec((0u32..400, 1u16..60), 1..80),
    ) {
        let (mut client, _) = established_with(plain());
        client.tcb.rcv_nxt = Seq(start);
        client.tcb.rcv_edge = Seq(start) + 300;
        let mut kept = Reassembly::default();
        // Which octets are held, by their distance from the start, and the pieces as their holder has them.
        let (mut held, mut chains) = (BTreeMap::new(), Vec::<Vec<u32>>::new());
        for (number, (off, len)) in segments.into_iter().enumerate() {
            let nxt = client.tcb.rcv_nxt - Seq(start);
            let seg = Segment { seq: Seq(start) + off, payload_len: len, ..Segment::default() };
            if off > nxt {
                let Some(told) = kept.keep(&client.tcb, &seg, 150) else { continue };
                if told.new {
                    chains.insert(told.piece, Vec::new());
                }
                let from = off + u32::from(told.skip);
                for at in from..from + u32::from(told.len) {
                    prop_assert!(at < 300, "beyond the window");
                    prop_assert_eq!(held.insert(at, number), None, "octet {} is kept twice", at);
                    chains[told.piece].push(at);
                }
            } else if off + u32::from(len) > nxt {
                client.tcb.rcv_nxt = Seq(start) + (off + u32::from(len)).min(300);
                let in_order = client.tcb.rcv_nxt - Seq(start);
                let expected = (in_order..).find(|at| !held.contains_key(at)).unwrap_or(in_order);
                let ready = kept.deliver(&mut client.tcb);
                prop_assert_eq!(client.tcb.rcv_nxt - Seq(start), expected);
                let mut delivered = Vec::new();
                for _ in 0..ready {
                    let overtaken = kept.take().expect("ready") as usize;
                    delivered.extend(chains.remove(0).split_off(overtaken));
                }
                prop_assert_eq!(delivered, (in_order..expected).collect::<Vec<u32>>());
                held.retain(|at, _| *at >= expected);
            }
            prop_assert!(held.len() <= 150 && chains.len() <= PIECES_MAX);
        }
    }
}

/// Shows RFC 2018.
#[test]
fn sack_blocks_begin_with_the_one_that_came_last_and_name_those_before_it() {
    let (client, _) = established_with(plain());
    let mut kept = Reassembly::default();
    let at = |from: u32| client.tcb.rcv_nxt + from;
    let mut come = |from: u32, len: u16| {
        kept.keep(&client.tcb, &Segment { seq: at(from), payload_len: len, ..client.next(ACK) }, 1 << 20);
        kept.take_blocks(3).as_slice().iter().map(|(l, r)| (*l - at(0), *r - at(0))).collect::<Vec<_>>()
    };
    assert_eq!(come(100, 10), [(100, 110)]);
    assert_eq!(come(300, 10), [(300, 310), (100, 110)]);
    assert_eq!(come(200, 10), [(200, 210), (300, 310), (100, 110)]);
    assert_eq!(come(310, 10), [(300, 320), (200, 210), (100, 110)]);
    assert_eq!(come(400, 10), [(400, 410), (300, 320), (200, 210)], "three beside timestamps");
    assert_eq!(come(210, 90), [(200, 320), (400, 410), (100, 110)], "pieces that touch are one block");
    assert_eq!(come(205, 10), [(205, 215), (200, 320), (400, 410)], "RFC 2883: twice, inside the block around it");
    assert_eq!(kept.take_blocks(3).count, 3, "told once");
}
