//! Urgent data (RFC 9293 3.8.5, RFC 6093): it stays in line, and only its end is known. From the first on SND.UP and RCV.UP are
//! dragged along, so that comparing them never wraps. Few connections ever have any: of the others neither is looked at.

use super::Outcome;
use super::tcb::{Fact, Owed, Tcb};
use crate::seq::Seq;
use crate::wire::tcp::{Flags, Segment};

/// A segment with URG: RCV.UP moves only forward, and the application is told once per stretch of urgent data (MUST-32). The
/// pointer may lie anywhere past the text, or before it (T15): no octet is looked at because of it.
pub(super) fn arrives(tcb: &mut Tcb, seg: &Segment, out: &mut Outcome) {
    begin(tcb);
    goes_on(tcb);
    let read = tcb.read_up_to();
    let up = seg.seq + u32::from(seg.up);
    if up.gt(tcb.rcv_up) {
        out.urgent = tcb.rcv_up == read;
        tcb.rcv_up = up;
    }
}

/// How many octets, unread or still to come, lead to the end of the peer's urgent data; 0 when there is none (MUST-33).
pub fn bytes_left(tcb: &Tcb) -> u32 {
    let read = tcb.read_up_to();
    if tcb.facts.has(Fact::URGENT) && tcb.rcv_up.gt(read) { tcb.rcv_up - read } else { 0 }
}

/// SEND with the urgent flag, after the octets were queued: all that is queued is urgent, of any length (MUST-31).
pub fn sent(tcb: &mut Tcb) {
    begin(tcb);
    tcb.snd_up = tcb.send_end;
    // A closed window stops the octets, not the word that they are there.
    tcb.owed.add_if(Owed::WINDOW_UPDATE, tcb.snd_wnd == 0);
}

/// URG and the pointer of a segment at `seq`: to the first octet that is not urgent (MUST-62), or as far as the field reaches.
#[inline]
pub(super) fn mark(tcb: &Tcb, seq: Seq) -> (Flags, u16) {
    if tcb.facts.has(Fact::URGENT) && tcb.snd_up.gt(tcb.snd_una) && tcb.snd_up.gt(seq) {
        (Flags::URG, (tcb.snd_up - seq).min(u32::from(u16::MAX)) as u16)
    } else {
        (Flags(0), 0)
    }
}

/// SND.UNA has moved: SND.UP is not behind it.
#[inline]
pub(super) fn acknowledged(tcb: &mut Tcb) {
    if tcb.facts.has(Fact::URGENT) {
        tcb.snd_up = tcb.snd_up.max(tcb.snd_una);
    }
}

/// The application may have read on: RCV.UP is not behind it.
#[inline]
pub(super) fn goes_on(tcb: &mut Tcb) {
    if tcb.facts.has(Fact::URGENT) {
        tcb.rcv_up = tcb.rcv_up.max(tcb.read_up_to());
    }
}

/// There is urgent data for the first time: until now nothing was urgent.
fn begin(tcb: &mut Tcb) {
    if !tcb.facts.has(Fact::URGENT) {
        tcb.facts.add(Fact::URGENT);
        tcb.snd_up = tcb.snd_una;
        tcb.rcv_up = tcb.read_up_to();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::state::State;

    #[test]
    fn first_urgent_data_of_either_side_counts_from_there_wherever_its_numbers_are() {
        for at in [Seq(7), Seq(1 << 31), Seq(u32::MAX)] {
            let mut tcb =
                Tcb { state: State::Established, rcv_nxt: at, snd_una: at, send_end: at + 5, ..Tcb::default() };
            assert_eq!((bytes_left(&tcb), mark(&tcb, at)), (0, (Flags(0), 0)));
            let mut out = Outcome::default();
            arrives(&mut tcb, &Segment { seq: at, flags: Flags::URG, up: 3, ..Segment::default() }, &mut out);
            assert_eq!((out.urgent, bytes_left(&tcb), mark(&tcb, at)), (true, 3, (Flags(0), 0)));
            sent(&mut tcb);
            assert_eq!(mark(&tcb, at), (Flags::URG, 5));
        }
    }
}
