//! RFC 9293 3.10.7.2: a segment arrives at a listener.

use super::closed::reset_of;
use super::isn;
use super::state::State;
use super::tcb::{Fact, Owed, Tcb};
use super::{Answer, Context, options};
use crate::four_tuple::FourTuple;
use crate::wire::tcp::Segment;

/// What a listener does with a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listened {
    /// Nothing: a RST, or a segment that means nothing here.
    Ignored,
    /// An ACK for no connection is answered by RST.
    Refused(Answer),
    /// A SYN: a connection may open.
    Opens,
}

/// The four steps.
#[inline]
pub fn arrives(seg: &Segment) -> Listened {
    // First, RST.
    if seg.flags.rst() {
        return Listened::Ignored;
    }
    // Second, ACK.
    if seg.flags.ack() {
        return Listened::Refused(reset_of(seg));
    }
    // Third, SYN.
    if seg.flags.syn() {
        return Listened::Opens;
    }
    // Fourth, other data or control.
    Listened::Ignored
}

impl Tcb {
    /// The half-open TCB that a SYN makes: SYN-RECEIVED, owing its SYN-ACK. Text and FIN on the SYN are not taken and
    /// not acknowledged (B02): the peer sends them again.
    #[inline(always)]
    pub fn open_passively(tuple: &FourTuple, syn: &Segment, cx: &Context<'_>) -> Tcb {
        let isn::Start { iss, ts_offset } = isn::start(cx.settings.isn_secret, tuple, cx.now);
        let mut tcb = Tcb {
            state: State::SynReceived,
            facts: Fact::of(tuple),
            snd_una: iss,
            snd_nxt: iss,
            snd_resume: iss,
            send_end: iss + 1,
            rcv_nxt: syn.seq + 1,
            rcv_edge: syn.seq + 1,
            snd_wnd: u32::from(syn.wnd),
            snd_wnd_max: u32::from(syn.wnd),
            snd_wl1: syn.seq,
            ts_offset,
            last_ack_sent: syn.seq + 1,
            ..Tcb::default()
        };
        options::agree(&mut tcb, syn, cx);
        tcb.owed.add(Owed::SYN);
        tcb
    }
}
