//! The checks of RFC 9293 3.10.7.4 against hostile and stale segments (B21, T05 to T07, T23, T25).

use super::*;
use crate::tcp::{End as Ends, Note};

/// Shows MAY-12, RFC 5961.
#[test]
fn t05_established_reset_in_the_window_but_not_exact_gets_a_challenge_ack() {
    let (mut client, _) = established_with(plain());
    let out = client.arrives(Segment { seq: client.tcb.rcv_nxt + 1, ..client.next(RST) });
    assert_eq!((out.end, out.note), (None, Some(Note::ChallengeAck)));
    client.expect(ACK);
}

#[test]
fn t05_established_reset_outside_the_window_is_dropped() {
    let (mut client, _) = established_with(plain());
    for off in [u32::MAX, client.tcb.rcv_wnd()] {
        let out = client.arrives(Segment { seq: client.tcb.rcv_nxt + off, ..client.next(RST) });
        assert_eq!((out.end, out.note), (None, Some(Note::OutOfWindow)));
        client.expect_nothing();
    }
}

/// Shows MAY-12, RFC 5961.
#[test]
fn t06_established_syn_arrives_gets_a_challenge_ack_and_lives() {
    let (mut client, _) = established_with(plain());
    let out = client.arrives(client.next(SYN));
    assert_eq!((out.end, out.note), (None, Some(Note::ChallengeAck)));
    client.expect(ACK);
}

/// Shows MAY-12, RFC 5961.
#[test]
fn t07_ack_of_data_not_sent_is_refused_and_its_text_not_taken() {
    let (mut client, _) = established_with(plain());
    for ack in [client.tcb.snd_nxt + 1, client.tcb.snd_una.back(client.tcb.snd_wnd_max + 1)] {
        let out = client.arrives(Segment { ack, payload_len: 5, ..client.next(ACK) });
        assert_eq!((out.text, out.note), (None, Some(Note::BadAck)));
        client.expect(ACK);
    }
}

#[test]
fn b21_segment_outside_the_window_is_answered_by_one_ack() {
    let (mut client, _) = established_with(plain());
    let wnd = client.tcb.rcv_wnd();
    for (off, payload_len) in [(wnd, 1), (wnd, 0), (u32::MAX - 9, 10), (1 << 31, 1)] {
        let out = client.arrives(Segment { seq: client.tcb.rcv_nxt + off, payload_len, ..client.next(ACK) });
        assert_eq!((out.text, out.note), (None, Some(Note::OutOfWindow)), "{off} {payload_len}");
        client.expect(ACK);
    }
}

#[test]
fn b21_segment_that_overlaps_the_left_edge_gives_only_what_is_new() {
    let (mut client, _) = established_with(plain());
    client.arrives(Segment { payload_len: 100, ..client.next(ACK) });
    let overlapping = Segment { seq: client.tcb.rcv_nxt.back(60), payload_len: 100, ..client.next(ACK) };
    assert_eq!(client.arrives(overlapping).text, Some((60, 40)));
}

/// Shows MAY-13.
#[test]
fn b20_out_of_order_text_is_not_taken_and_brings_a_duplicate_ack() {
    let (mut client, _) = established_with(plain());
    let out = client.arrives(Segment { seq: client.tcb.rcv_nxt + 100, payload_len: 100, ..client.next(ACK) });
    assert_eq!((out.text, out.note), (None, Some(Note::OutOfOrder)));
    assert_eq!(client.expect(ACK).ack, client.tcb.rcv_nxt);
}

/// Shows RFC 7323.
#[test]
fn t23_paws_refuses_an_older_timestamp_and_answers() {
    let (mut client, _) = established();
    client.tcb.ts_recent = 1000;
    let old = Options { timestamps: Some(Timestamps { val: 999, ecr: 0 }), ..Options::default() };
    let out = client.arrives(Segment { payload_len: 5, options: old, ..client.next(ACK) });
    assert_eq!((out.text, out.note), (None, Some(Note::Paws)));
    client.expect(ACK);
}

#[test]
fn t23_timestamps_absent_after_agreement_are_dropped_in_silence() {
    let (mut client, _) = established();
    let bare = Segment { payload_len: 5, options: Options::default(), ..client.next(ACK) };
    let out = client.arrives(bare);
    assert_eq!((out.text, out.note), (None, Some(Note::Paws)));
    client.expect_nothing();
}

#[test]
fn t23_reset_is_exempt_from_paws() {
    let (mut client, _) = established();
    let bare = Segment { options: Options::default(), ..client.next(RST) };
    assert!(matches!(client.arrives(bare).end, Some(Ends::Closed(_))));
}

#[test]
fn segment_without_ack_is_ignored_in_every_state() {
    for state in 0..8 {
        let mut end = in_state(state);
        let out = end.arrives(Segment { payload_len: 5, ..end.next(Flags::PSH) });
        assert_eq!((out.text, out.note), (None, Some(Note::Ignored)), "{:?}", end.tcb.state);
        end.expect_nothing();
    }
}

/// RFC 9293 3.10.7.4, seventh and eighth: text and a FIN behind the peer's FIN "should not occur".
#[test]
fn text_and_fin_behind_the_peers_fin_are_ignored_and_their_ack_is_taken() {
    for (state, flags, payload_len) in [5, 6, 7].into_iter().flat_map(|at| [(at, ACK, 5), (at, FIN_ACK, 0)]) {
        let mut end = in_state(state);
        let (before, rcv_nxt) = (end.tcb.state, end.tcb.rcv_nxt);
        let seg = Segment { payload_len, ack: end.tcb.snd_una, wnd: 77, ..end.next(flags) };
        let out = end.arrives(seg);
        assert_eq!((out.text, out.peer_closed, out.note), (None, false, Some(Note::Ignored)), "{before:?}");
        assert_eq!(
            (end.tcb.state, end.tcb.rcv_nxt, end.tcb.snd_wnd),
            (before, rcv_nxt, 77 << end.tcb.agreed.snd_shift())
        );
        end.expect_nothing();
    }
}

#[test]
fn pure_ack_is_never_noted() {
    for state in 1..8 {
        let mut end = in_state(state);
        let before = end.tcb.state;
        assert_eq!(end.arrives(end.next(ACK)).note, None, "{before:?}");
    }
}

#[test]
fn must_66_closed_window_still_takes_ack_and_reset() {
    let (mut client, _) = established_with(plain());
    client.queue(10);
    client.expect(PSH_ACK);
    client.tcb.rcv_edge = client.tcb.rcv_nxt;
    let out = client.arrives(Segment { payload_len: 5, ..client.next(ACK) });
    assert_eq!((out.text, out.acked_bytes), (None, 10));
    assert!(matches!(client.arrives(client.next(RST)).end, Some(Ends::Closed(_))));
}

/// What any segment is drawn from: which of its fields are near, SEQ, ACK, control bits, text, window, TSval, and a block of SACK.
type Drawn = (u32, i64, i64, u8, u16, u16, i32, (i32, u16));

fn any_segment() -> impl proptest::prelude::Strategy<Value = Drawn> {
    use proptest::prelude::any;
    let near = -70_000i64..70_000;
    (0u32..32, near.clone(), near, any::<u8>(), 0u16..1500, any::<u16>(), -9..9i32, (-9000..900i32, 0..4000u16))
}

proptest::proptest! {
    /// Whatever arrives, in whatever state, with and without timestamps and SACK: no panic, and the invariants hold (`arrives` asserts
    /// them). What is neither noted nor answered has an ACK.
    #[test]
    fn any_segment_in_any_state_keeps_the_invariants(
        state in 0usize..8,
        agreed in proptest::prelude::any::<bool>(),
        segments in proptest::collection::vec(any_segment(), 1..40),
    ) {
        let settings = if agreed { settings() } else { plain() };
        let mut end = in_state_with(state, settings);
        end.board = agreed.then(Scoreboard::default);
        for (kind, seq, ack, flags, payload_len, wnd, tsval, (left, len)) in segments {
            if end.tcb.state == State::Closed {
                break;
            }
            let near = |base: Seq, off: i64| if kind & 4 == 0 { Seq(base.0.wrapping_add(off as u32)) } else { base };
            let timestamps = Timestamps { val: end.tcb.ts_recent.wrapping_add_signed(tsval), ecr: end.tcb.ts_offset };
            let seg = Segment {
                seq: near(end.tcb.rcv_nxt, seq),
                ack: near(end.tcb.snd_nxt, ack),
                flags: Flags(flags),
                payload_len: if kind & 1 == 0 { 0 } else { payload_len },
                wnd,
                options: Options { timestamps: (kind & 8 == 0).then_some(timestamps), ..Options::default() },
                ..Segment::default()
            };
            let left = Seq(end.tcb.snd_nxt.0.wrapping_add_signed(left));
            let blocks = [(left, left + u32::from(len))];
            let (before, blocks) = (end.tcb.state, if kind & 16 == 0 { &blocks[..] } else { &[] });
            let out = end.arrives_with(seg, blocks);
            let silent = out.note.is_none() && out.answer.is_none() && !out.challenge_suppressed;
            let opens = before == State::SynSent && seg.flags.syn();
            proptest::prop_assert!(!silent || seg.flags.ack() || opens, "{before:?} {seg:?}");
            if kind & 2 == 0 {
                end.sends();
            }
            if end.tcb.deadline().is_some() && kind == 7 {
                end.time_out();
                end.sends();
            }
            end.consume_all();
        }
    }
}

/// An end in each state that a TCB can be in, without timestamps.
fn in_state(state: usize) -> End {
    in_state_with(state, plain())
}

fn in_state_with(state: usize, settings: Settings) -> End {
    let (mut client, mut server) = established_with(settings);
    let fin = client.next(FIN_ACK);
    match state {
        0 => return syn_sent(settings).0,
        1 => {
            let (_, syn) = syn_sent(settings);
            return syn_received(settings, &syn).0;
        }
        2 => client.queue(5000),
        3 | 4 | 6 => {
            client.close();
            client.sends().len()
        }
        _ => 0,
    };
    match state {
        4 => drop(client.arrives(client.next(ACK))),
        5 | 7 => drop(client.arrives(fin)),
        6 => drop(client.arrives(Segment { ack: client.tcb.snd_una, ..fin })),
        _ => {}
    }
    if state == 7 {
        client.close();
    }
    client.sends();
    server.expect_nothing();
    client
}

/// No ACK bit, a TSval far ahead: does it lock the peer out?
#[test]
fn t23_forged_timestamp_without_ack_does_not_lock_the_peer_out() {
    let (mut client, _) = established();
    let good = client.next(ACK);
    let mut forged = Segment { flags: Flags(0), payload_len: 1, ..good };
    forged.options.timestamps = Some(Timestamps { val: client.tcb.ts_recent.wrapping_add(1 << 30), ecr: 0 });
    client.arrives(forged);
    client.sends();
    let out = client.arrives(Segment { payload_len: 10, ..good });
    assert_eq!(out.text, Some((0, 10)), "{out:?}");
}

/// Shows RFC 7323.
#[test]
fn after_24_days_of_silence_ts_recent_follows_whatever_comes() {
    let (mut client, _) = established();
    let silence_ms = 25 * 86_400_000;
    client.now = client.now.plus_ms(silence_ms);
    let mut seg = Segment { payload_len: 10, ..client.next(ACK) };
    let val = client.tcb.ts_recent.wrapping_add(silence_ms as u32);
    seg.options.timestamps = Some(Timestamps { val, ecr: 0 });
    assert_eq!(client.arrives(seg).text, Some((0, 10)));
    assert_eq!(client.tcb.ts_recent, val, "what comes next is compared with this one");
}
