//! Urgent data (RFC 9293 3.8.5, RFC 6093): it stays in line, and only its end is known. SND.UP and RCV.UP are dragged along
//! when there is none, so that comparing them never wraps.

use super::Outcome;
use super::tcb::{Owed, Tcb};
use crate::seq::Seq;
use crate::wire::tcp::{Flags, Segment};

/// A segment with URG: RCV.UP moves only forward, and the application is told once per stretch of urgent data (MUST-32). The
/// pointer may lie anywhere past the text, or before it (T15): no octet is looked at because of it.
pub(super) fn arrives(tcb: &mut Tcb, seg: &Segment, out: &mut Outcome) {
    let read = tcb.read_up_to();
    tcb.rcv_up = tcb.rcv_up.max(read);
    let up = seg.seq + u32::from(seg.up);
    if up.gt(tcb.rcv_up) {
        out.urgent = tcb.rcv_up == read;
        tcb.rcv_up = up;
    }
}

/// How many octets, unread or still to come, lead to the end of the peer's urgent data; 0 when there is none (MUST-33).
pub fn bytes_left(tcb: &Tcb) -> u32 {
    let read = tcb.read_up_to();
    if tcb.rcv_up.gt(read) { tcb.rcv_up - read } else { 0 }
}

/// SEND with the urgent flag, after the octets were queued: all that is queued is urgent, of any length (MUST-31).
pub fn sent(tcb: &mut Tcb) {
    tcb.snd_up = tcb.send_end;
    // A closed window stops the octets, not the word that they are there.
    tcb.owed.add_if(Owed::WINDOW_UPDATE, tcb.snd_wnd == 0);
}

/// URG and the pointer of a segment at `seq`: to the first octet that is not urgent (MUST-62), or as far as the field reaches.
#[inline]
pub(super) fn mark(tcb: &Tcb, seq: Seq) -> (Flags, u16) {
    if tcb.snd_up.gt(tcb.snd_una) && tcb.snd_up.gt(seq) {
        (Flags::URG, (tcb.snd_up - seq).min(u32::from(u16::MAX)) as u16)
    } else {
        (Flags(0), 0)
    }
}
