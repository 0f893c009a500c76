//! RFC 9293 3.10.7.3: a segment arrives in SYN-SENT.

use super::closed::reset_of;
use super::congestion::Congestion;
use super::recovery::Recovery;
use super::state::{CloseReason, State};
use super::tcb::{Owed, Tcb};
use super::{Context, End, Note, Outcome, options, waits};
use crate::seq::Seq;
use crate::tick::Deadline;
use crate::wire::tcp::{Segment, Timestamps};
use core::ops::ControlFlow::{self, Break, Continue};

/// The five steps. Text on the segment is not taken (B02). `out` is the default before.
pub fn arrives(tcb: &mut Tcb, seg: &Segment, cx: &Context<'_>, out: &mut Outcome) {
    let _ = five_steps(tcb, seg, cx, out);
    tcb.invariants();
}

fn five_steps(tcb: &mut Tcb, seg: &Segment, cx: &Context<'_>, out: &mut Outcome) -> ControlFlow<()> {
    first_check_ack(tcb, seg, out)?;
    check_inherited_timestamp(tcb, seg, out)?;
    second_check_rst(tcb, seg, out)?;
    third_check_security();
    fourth_check_syn(tcb, seg, cx, out)?;
    fifth_drop(out)
}

/// An ACK of anything but our SYN is answered by RST (B09), whatever else the segment carries.
fn first_check_ack(tcb: &Tcb, seg: &Segment, out: &mut Outcome) -> ControlFlow<()> {
    if !seg.flags.ack() || (seg.ack.gt(tcb.iss()) && seg.ack.le(tcb.snd_nxt)) {
        return Continue(());
    }
    out.note = Some(Note::BadAck);
    if !seg.flags.rst() {
        out.answer = Some(reset_of(seg));
    }
    Break(())
}

/// B45: an answer that the former incarnation's timestamps prove old is dropped; the SYN is sent again.
fn check_inherited_timestamp(tcb: &Tcb, seg: &Segment, out: &mut Outcome) -> ControlFlow<()> {
    let older = |timestamps: Timestamps| Seq(timestamps.val).lt(Seq(tcb.ts_recent));
    if tcb.inherits_ts_recent() && !seg.flags.rst() && seg.options.timestamps.is_none_or(older) {
        out.note = Some(Note::Paws);
        return Break(());
    }
    Continue(())
}

/// A RST counts only with an acceptable ACK.
fn second_check_rst(tcb: &mut Tcb, seg: &Segment, out: &mut Outcome) -> ControlFlow<()> {
    if !seg.flags.rst() {
        return Continue(());
    }
    if seg.flags.ack() {
        tcb.end(CloseReason::Refused);
        out.end = Some(End::Closed(CloseReason::Refused));
        out.note = Some(Note::RstAccepted);
    } else {
        out.note = Some(Note::RstIgnored);
    }
    Break(())
}

/// Nothing to ask: RFC 9293 A.1 compares no precedence any more, and security compartments are not implemented: every segment is
/// in the one there is, whatever DSCP or label its IP header carries.
fn third_check_security() {}

fn fourth_check_syn(tcb: &mut Tcb, seg: &Segment, cx: &Context<'_>, out: &mut Outcome) -> ControlFlow<()> {
    if !seg.flags.syn() {
        return Continue(());
    }
    let syn_was_lost = tcb.retries > 0;
    tcb.rcv_nxt = seg.seq + 1;
    tcb.rcv_edge = tcb.rcv_nxt;
    tcb.last_ack_sent = tcb.rcv_nxt;
    options::agree(tcb, seg, cx);
    // A window on a SYN is never scaled (RFC 7323 2.2).
    tcb.snd_wnd = u32::from(seg.wnd);
    tcb.snd_wnd_max = tcb.snd_wnd;
    tcb.snd_wl1 = seg.seq;
    if !seg.flags.ack() {
        // Simultaneous open (MUST-10): our SYN again, now with an ACK.
        tcb.state = State::SynReceived;
        tcb.owed.add(Owed::SYN);
        return Break(());
    }
    super::round_trip::measure(tcb, seg, &[], cx);
    tcb.snd_una = seg.ack;
    tcb.snd_resume = tcb.snd_nxt;
    tcb.state = State::Established;
    tcb.retransmit_at = Deadline::NONE;
    tcb.retries = 0;
    tcb.rto.opened(syn_was_lost);
    tcb.congestion = Congestion::start(u32::from(tcb.mss), syn_was_lost);
    tcb.recovery = Recovery::start(tcb.snd_una);
    tcb.owed.remove(Owed::SYN);
    tcb.owed.add(Owed::ACK_NOW);
    waits::restart(tcb, cx);
    out.established = true;
    Break(())
}

/// Neither SYN nor RST.
fn fifth_drop(out: &mut Outcome) -> ControlFlow<()> {
    out.note = Some(Note::Ignored);
    Break(())
}
