//! RFC 9293 3.10.7.1: a segment arrives and there is no connection.

use super::Answer;
use crate::seq::Seq;
use crate::wire::tcp::{Flags, Segment};

/// The RST that answers the segment; none for a RST (B36).
pub fn arrives(seg: &Segment) -> Option<Answer> {
    if seg.flags.rst() { None } else { Some(reset_of(seg)) }
}

/// The RST whose numbers the segment itself gives: <SEQ=SEG.ACK><CTL=RST>, or without ACK
/// <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>.
pub fn reset_of(seg: &Segment) -> Answer {
    let (seq, ack, flags) =
        if seg.flags.ack() { (seg.ack, Seq(0), Flags::RST) } else { (Seq(0), seg.end(), Flags::RST | Flags::ACK) };
    Answer { seq, ack, flags, wnd: 0, timestamps: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b36_closed_ack_arrives_reset_takes_its_number() {
        let seg = Segment { ack: Seq(77), flags: Flags::ACK, ..Segment::default() };
        let answer = arrives(&seg).expect("a RST");
        assert_eq!((answer.seq, answer.flags), (Seq(77), Flags::RST));
    }

    #[test]
    fn b36_closed_syn_arrives_reset_acknowledges_it() {
        let seg = Segment { seq: Seq(u32::MAX), flags: Flags::SYN, payload_len: 3, ..Segment::default() };
        let answer = arrives(&seg).expect("a RST");
        assert_eq!((answer.seq, answer.ack, answer.flags), (Seq(0), Seq(3), Flags::RST | Flags::ACK));
    }

    #[test]
    fn b36_closed_rst_arrives_is_never_answered() {
        assert_eq!(arrives(&Segment { flags: Flags::RST | Flags::ACK, ..Segment::default() }), None);
    }
}
