//! What ordinary segments ask for lies in the first part of a TCB ([`Tcb::HOT_BYTES`]): whatever stands in the rest, they do the same,
//! and leave it alone.

use super::*;
use crate::tcp::tcb::Timed;
use crate::tick::Tick;
use alloc::format;
use alloc::string::String;

/// The same connection, the rest of its TCB that of one which has lost text, or nonsense.
fn with_another_rest(end: &End) -> End {
    let (mut other, _) = established();
    other.queue(30_000);
    other.sends();
    other.time_out();
    other.sends();
    let Tcb { rto, congestion, recovery, .. } = other.tcb;
    let tcb = Tcb {
        snd_wnd_max: u32::MAX / 2,
        snd_up: end.tcb.snd_una + 77,
        rcv_up: end.tcb.rcv_nxt + 77,
        rto,
        congestion,
        recovery,
        timed: Timed::segment(Seq(5), Tick(9)),
        ..end.tcb.clone()
    };
    End { tcb, board: None, settings: end.settings, options: end.options, now: end.now }
}

/// The rest of a TCB, for comparison.
fn rest(tcb: &Tcb) -> String {
    let Tcb { snd_wnd_max, snd_up, rcv_up, rto, congestion, recovery, timed, .. } = tcb;
    format!("{snd_wnd_max} {snd_up} {rcv_up} {rto:?} {congestion:?} {recovery:?} {timed:?}")
}

/// The first part of a TCB, for comparison.
fn hot(tcb: &Tcb) -> String {
    let Tcb { snd_wnd_max, snd_up, rcv_up, rto, congestion, recovery, timed, .. } = Tcb::default();
    format!("{:?}", Tcb { snd_wnd_max, snd_up, rcv_up, rto, congestion, recovery, timed, ..tcb.clone() })
}

#[test]
fn ordinary_segments_do_not_depend_on_the_third_line() {
    let seen = |end: &End, seq_back: u32, flags: Flags, text: u16| {
        let next = end.next(flags);
        Segment { seq: next.seq.back(seq_back), payload_len: text, ..next }
    };
    // Text, a second one that is acknowledged at once, text that has come before, text out of order, an ACK of nothing new, a probe, a
    // window that shrinks, an octet beyond the window, RST beside RCV.NXT, SYN; at last FIN, and its end.
    let acts: [&dyn Fn(&End) -> Segment; 12] = [
        &|end| seen(end, 0, PSH_ACK, 1000),
        &|end| seen(end, 0, ACK, 1448),
        &|end| seen(end, 1000, ACK, 1000),
        &|end| Segment { seq: end.tcb.rcv_nxt + 3000, payload_len: 1000, ..end.next(ACK) },
        &|end| seen(end, 0, ACK, 0),
        &|end| seen(end, 1, ACK, 0),
        &|end| Segment { wnd: 100, ..end.next(ACK) },
        &|end| Segment { seq: end.tcb.rcv_edge + 1, payload_len: 1, ..end.next(ACK) },
        &|end| Segment { seq: end.tcb.rcv_nxt + 1, ..end.next(RST) },
        &|end| seen(end, 0, SYN, 0),
        &|end| seen(end, 0, FIN_ACK, 100),
        &|end| seen(end, 0, ACK, 0),
    ];
    for settings in [settings(), plain()] {
        let (_, mut end) = established_with(settings);
        // The first window that is scaled is the largest.
        end.arrives(end.next(ACK));
        let mut other = with_another_rest(&end);
        let (rest_before, others_before) = (rest(&end.tcb), rest(&other.tcb));
        for (number, act) in acts.iter().enumerate() {
            let seg = act(&end);
            let (out, others) = (end.arrives(seg), other.arrives(seg));
            assert_eq!(format!("{out:?}"), format!("{others:?}"), "act {number}");
            let sent = end.sends();
            assert_eq!(sent, other.sends(), "act {number}");
            assert!(sent.len() <= 1);
            assert_eq!(hot(&end.tcb), hot(&other.tcb), "act {number}");
            assert_eq!(
                (rest(&end.tcb), rest(&other.tcb)),
                (rest_before.clone(), others_before.clone()),
                "act {number}"
            );
        }
        assert_eq!(end.tcb.state, State::CloseWait);
    }
}
