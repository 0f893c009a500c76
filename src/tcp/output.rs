//! What may be sent now (RFC 9293 3.8.6, RFC 5681 4.2), one segment at a time.
//!
//! [`next`] is called with a TX frame in hand: what it returns is sent, and the record already says so.

use super::options;
use super::rack::{self, Probe};
use super::recovery;
use super::sack::Scoreboard;
use super::state::State;
use super::tcb::{Fact, Owed, Tcb, Timed};
use super::{Answer, Context, urgent, waits};
use crate::limits::CHUNK_BYTES;
use crate::seq::Seq;
use crate::tick::{Deadline, Tick};
use crate::wire::tcp::{Flags, Options};

/// One segment to build.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// SEG.SEQ.
    pub seq: Seq,
    /// SEG.ACK.
    pub ack: Seq,
    /// The control bits.
    pub flags: Flags,
    /// The urgent pointer; 0 without URG.
    pub up: u16,
    /// The header's window field.
    pub wnd: u16,
    /// Options.
    pub options: Options,
    /// Where the text begins, octets from the front of the send buffer.
    pub text_offset: u32,
    /// Octets of text.
    pub text_len: u16,
    /// The segment was sent before.
    pub again: bool,
}

impl Plan {
    /// How many SACK blocks the segment has room for beside its text: full-sized ones have none.
    pub fn sack_room(&self, tcb: &Tcb) -> usize {
        let room = if tcb.agreed.sack() { segment_room(tcb).saturating_sub(u32::from(self.text_len)) } else { 0 };
        (room.saturating_sub(SACK_HEADER) / SACK_BLOCK) as usize
    }
}

/// The next segment that is owed and may be sent, or `None` when nothing may be sent now; then nothing is owed either.
/// `board` is there if the connection has a scoreboard.
#[inline(always)]
pub fn next(tcb: &mut Tcb, board: Option<&mut Scoreboard>, cx: &Context<'_>) -> Option<Plan> {
    match board {
        None => next_segment(tcb, None, cx),
        Some(board) => next_by_scoreboard(tcb, board, cx),
    }
}

/// Not inlined: few connections have lost anything.
#[cold]
#[inline(never)]
fn next_by_scoreboard(tcb: &mut Tcb, board: &mut Scoreboard, cx: &Context<'_>) -> Option<Plan> {
    let board = recovery::in_use_to_send(tcb, board, cx);
    next_segment(tcb, board, cx)
}

#[inline(always)]
fn next_segment(tcb: &mut Tcb, mut board: Option<&mut Scoreboard>, cx: &Context<'_>) -> Option<Plan> {
    let plan = match tcb.state {
        State::Closed => reset(tcb, cx),
        State::SynSent => syn(tcb, cx, Flags::SYN),
        State::SynReceived => syn(tcb, cx, Flags::SYN | Flags::ACK).or_else(|| pure_ack(tcb, cx)),
        State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait | State::Closing | State::LastAck => {
            let after_loss = tcb.owed.duplicate_acks > 0 || tcb.owed.has(Owed::RESEND_FIRST | Owed::PROBE);
            let first = if after_loss { before_text(tcb, board.as_deref_mut(), cx) } else { None };
            match first {
                None => match text_or_fin(tcb, board, cx) {
                    None => pure_ack(tcb, cx),
                    text => text,
                },
                lost => lost,
            }
        }
    };
    if plan.is_none() {
        tcb.owed = Default::default();
    }
    tcb.invariants();
    plan
}

/// The pure ACK of a connection that is about to have no TCB.
#[inline]
pub fn acknowledgment(tcb: &mut Tcb, cx: &Context<'_>) -> Answer {
    let wnd = offer_window(tcb, cx);
    Answer {
        seq: tcb.snd_nxt,
        ack: tcb.rcv_nxt,
        flags: Flags::ACK,
        wnd,
        timestamps: options::current_timestamps(tcb, cx),
    }
}

/// Whether octets or a FIN wait beyond what has been sent (again).
#[inline]
pub fn has_unsent(tcb: &Tcb) -> bool {
    tcb.snd_resume.lt(tcb.send_end) || (tcb.facts.has(Fact::FIN_QUEUED) && tcb.snd_resume == tcb.send_end)
}

/// The peer has said its window without acknowledging anything new.
pub fn window_answered(tcb: &mut Tcb, window_before: u32) {
    if tcb.snd_wnd == 0 || window_before == 0 {
        // MUST-37: a closed window that is acknowledged may stay closed for ever, whether an application waits for it or has
        // closed. What ends it are the user timeout and the shard's need of memory (T03).
        tcb.retries = 0;
    }
    if tcb.snd_wnd > 0 && window_before == 0 {
        // What probes sent beyond the closed window was not taken: transmission continues where the peer is, and with a
        // time-out of its own.
        tcb.snd_resume = tcb.snd_una;
        tcb.rto.progressed();
        tcb.retransmit_at = Deadline::NONE;
        tcb.timed = Timed::NONE;
    }
    if tcb.snd_wnd != window_before {
        let unsent = has_unsent(tcb);
        tcb.owed.add_if(Owed::DATA, unsent);
    }
}

/// The RST of an ABORT, at SND.NXT (RFC 9293 3.10.5). With a closed window the peer drops any that is not at RCV.NXT, in silence
/// (3.10.7.4, first check), and would never hear of the end; and who knows whether it took the octet of a probe, or a FIN alone,
/// which needs no room? So there are two then, the first for a peer that took nothing. A window that has been opened
/// meanwhile takes the second, or answers it (RFC 5961 3.2).
fn reset(tcb: &mut Tcb, cx: &Context<'_>) -> Option<Plan> {
    if !tcb.owed.has(Owed::RESET) {
        return None;
    }
    let closed_window = tcb.snd_wnd == 0 && tcb.snd_wnd_max > 0;
    let seq = if closed_window { tcb.snd_una } else { tcb.snd_nxt };
    tcb.owed.set(Owed::RESET, seq != tcb.snd_nxt);
    tcb.snd_una = tcb.snd_nxt;
    Some(Plan {
        seq,
        ack: tcb.rcv_nxt,
        flags: Flags::RST | Flags::ACK,
        up: 0,
        wnd: 0,
        // RFC 7323 3.2: a RST should have them too.
        options: options::of_segment(tcb, cx),
        text_offset: 0,
        text_len: 0,
        again: false,
    })
}

/// Our SYN or SYN-ACK, first or again.
#[inline(never)]
fn syn(tcb: &mut Tcb, cx: &Context<'_>, flags: Flags) -> Option<Plan> {
    if !tcb.owed.has(Owed::SYN) {
        return None;
    }
    tcb.owed.remove(Owed::SYN);
    let again = tcb.snd_nxt != tcb.iss();
    // A window on a SYN is never scaled (RFC 7323 2.2).
    let wnd = cx.receive_buffer_bytes().min(65_535) as u16;
    if flags.ack() {
        tcb.owed.remove(Owed::ACK_NOW);
        tcb.rcv_edge = tcb.rcv_edge.max(tcb.rcv_nxt + u32::from(wnd));
        tcb.last_ack_sent = tcb.rcv_nxt;
    }
    let plan = Plan {
        seq: tcb.iss(),
        ack: tcb.rcv_nxt,
        flags,
        up: 0,
        wnd,
        options: options::of_syn(tcb, cx),
        text_offset: 0,
        text_len: 0,
        again,
    };
    tcb.snd_nxt = tcb.iss() + 1;
    tcb.snd_resume = tcb.snd_nxt;
    tcb.timed = if again { Timed::NONE } else { Timed::segment(tcb.snd_nxt, cx.now.tick()) };
    recovery::arm_time_out(tcb, cx);
    Some(plan)
}

/// What goes before new text when segments were lost or a window is closed.
#[cold]
#[inline(never)]
fn before_text(tcb: &mut Tcb, mut board: Option<&mut Scoreboard>, cx: &Context<'_>) -> Option<Plan> {
    duplicate_ack(tcb, cx).or_else(|| resend_first(tcb, board.as_deref_mut(), cx)).or_else(|| probe(tcb, board, cx))
}

/// The first segment that is lost, whatever cwnd says (RFC 6675 5 step 4.3); without a scoreboard the first unacknowledged
/// one, for fast retransmit and partial acknowledgments (RFC 6582).
fn resend_first(tcb: &mut Tcb, board: Option<&mut Scoreboard>, cx: &Context<'_>) -> Option<Plan> {
    if !tcb.owed.take(Owed::RESEND_FIRST) || tcb.flight() == 0 {
        return None;
    }
    if let Some(board) = board {
        let (seq, len) = next_lost(tcb, board)?;
        return Some(segment_again(tcb, Some(board), cx, seq, len));
    }
    let len = tcb.send_queued_bytes().min(segment_room(tcb));
    Some(segment_again(tcb, None, cx, tcb.snd_una, len))
}

/// RFC 6675's NextSeg, rule 1: where the first lost segment begins and how many octets of text it has, if the peer's window
/// takes it. Rule 2 is [`text_or_fin`]; RACK and TLP stand for rules 3 and 4.
fn next_lost(tcb: &Tcb, board: &Scoreboard) -> Option<(Seq, u32)> {
    let (seq, end) = board.next_lost()?;
    let text_end = if end.lt(tcb.send_end) { end } else { tcb.send_end };
    let len = if seq.lt(text_end) { (text_end - seq).min(segment_room(tcb)) } else { 0 };
    (seq == tcb.snd_una || seq - tcb.snd_una + len <= tcb.snd_wnd).then_some((seq, len))
}

/// What the window takes, at least one octet beyond a closed one (RFC 9293 3.8.6.1, override of 3.8.6.2.1). With nothing under
/// way, a keepalive probe: no octet, at a number that the peer has acknowledged and must answer (RFC 9293 3.8.4, SHLD-12).
fn probe(tcb: &mut Tcb, board: Option<&mut Scoreboard>, cx: &Context<'_>) -> Option<Plan> {
    if !tcb.owed.take(Owed::PROBE) {
        return None;
    }
    if tcb.keepalive_probes > 0 && waits::is_idle(tcb) {
        // The peer throws the segment away before it reads its ACK and window: what they would have told is still owed.
        let untold = tcb.owed.has(Owed::ACK | Owed::ACK_NOW | Owed::WINDOW_UPDATE);
        let plan = plan_from(tcb, cx, tcb.snd_nxt.back(1), 0, 0, Flags::ACK);
        tcb.owed.add_if(Owed::ACK_NOW, untold);
        return Some(plan);
    }
    if let Some(board) = board {
        return tail_probe(tcb, board, cx);
    }
    if !has_unsent(tcb) {
        return None;
    }
    let len = tcb.send_queued_bytes().min(tcb.snd_wnd.max(1)).min(segment_room(tcb));
    Some(segment_again(tcb, None, cx, tcb.snd_una, len))
}

/// A tail loss probe (RFC 8985 7.3): the next new segment, or without one the last segment again. On a short path the last
/// again in any case: a peer that has everything, and whose ACK was lost, answers what it has at once and what is new late.
fn tail_probe(tcb: &mut Tcb, board: &mut Scoreboard, cx: &Context<'_>) -> Option<Plan> {
    if board.rack.probe != Some(Probe::Due) || tcb.flight() == 0 {
        return None;
    }
    let room = segment_room(tcb);
    let sent_end = if tcb.snd_nxt.lt(tcb.send_end) { tcb.snd_nxt } else { tcb.send_end };
    let new = (tcb.send_end - sent_end).min(room).min(tcb.snd_wnd.saturating_sub(tcb.flight()));
    if new > 0 && tcb.rto.srtt_us > rack::SHORT_PATH_US {
        board.rack.probe = Some(Probe::Sent(tcb.snd_nxt + new));
        return Some(segment_again(tcb, Some(board), cx, tcb.snd_nxt, new));
    }
    board.rack.probe = Some(Probe::SentAgain(tcb.snd_nxt));
    let len = (sent_end - tcb.snd_una).min(room);
    Some(segment_again(tcb, Some(board), cx, sent_end.back(len), len))
}

/// The next octets of the send buffer that windows and algorithms allow, with the FIN behind the last.
#[inline(always)]
fn text_or_fin(tcb: &mut Tcb, mut board: Option<&mut Scoreboard>, cx: &Context<'_>) -> Option<Plan> {
    if !tcb.owed.has(Owed::DATA) {
        return None;
    }
    let (cwnd, mut outstanding) = (tcb.congestion.cwnd, tcb.snd_resume - tcb.snd_una);
    if let Some(board) = &board {
        outstanding = board.pipe();
    }
    if let Some(board) = board.as_deref_mut().filter(|board| board.next_lost().is_some()) {
        let next = next_lost(tcb, board).filter(|(_, len)| outstanding + len <= cwnd);
        tcb.owed.set(Owed::DATA, next.is_some());
        return next.map(|(seq, len)| segment_again(tcb, Some(board), cx, seq, len));
    }
    let unsent = tcb.send_end - tcb.snd_resume.max(tcb.snd_una);
    if tcb.snd_resume.gt(tcb.send_end) || (unsent == 0 && !tcb.facts.has(Fact::FIN_QUEUED)) {
        tcb.owed.remove(Owed::DATA);
        return None;
    }
    let in_flight = tcb.snd_resume - tcb.snd_una;
    let cwnd = if board.is_some() { cwnd } else { cwnd + tcb.recovery.limited_transmit(u32::from(tcb.mss)) };
    let window = tcb.snd_wnd.saturating_sub(in_flight).min(cwnd.saturating_sub(outstanding));
    let len = unsent.min(segment_room(tcb)).min(window);
    if !may_send(tcb, cx, unsent, len, in_flight) {
        tcb.owed.remove(Owed::DATA);
        if in_flight == 0 && !tcb.retransmit_at.is_set() {
            // Nothing is on its way that could open the window: the persist timer runs (SHLD-29).
            recovery::arm_time_out(tcb, cx);
        }
        return None;
    }
    Some(segment(tcb, board, cx, tcb.snd_resume, len))
}

/// Sender's silly-window avoidance and Nagle (RFC 9293 3.8.6.2.1, 3.7.4; MUST-38).
#[inline]
fn may_send(tcb: &Tcb, cx: &Context<'_>, unsent: u32, len: u32, in_flight: u32) -> bool {
    if unsent == 0 {
        // A FIN alone: it needs no window of octets, only something to follow.
        return true;
    }
    let room = segment_room(tcb);
    let again = tcb.snd_resume.lt(tcb.snd_nxt);
    len > 0
        && (len == room
            || (len == unsent && (in_flight == 0 || tcb.facts.has(Fact::FIN_QUEUED) || cx.options.no_delay || again))
            || len >= tcb.snd_wnd_max / 2
            || (again && in_flight == 0))
}

/// A duplicate ACK for a segment out of order. It goes before text, for one that carries text starts no fast retransmit
/// (RFC 5681 2).
#[inline]
fn duplicate_ack(tcb: &mut Tcb, cx: &Context<'_>) -> Option<Plan> {
    if tcb.owed.duplicate_acks > 0 { pure_ack(tcb, cx) } else { None }
}

/// An ACK that nothing else carries (SHLD-18, SHLD-19, MUST-58).
#[inline]
fn pure_ack(tcb: &mut Tcb, cx: &Context<'_>) -> Option<Plan> {
    let due = tcb.owed.has(Owed::ACK_NOW | Owed::WINDOW_UPDATE) || tcb.owed.duplicate_acks > 0;
    if !due {
        if tcb.owed.has(Owed::ACK) && !tcb.delayed_ack_at.is_set() {
            tcb.delayed_ack_at = Deadline::at(cx.now.tick().plus(DELAYED_ACK_TICKS));
        }
        return None;
    }
    waits::acknowledged_alone(tcb, cx);
    let duplicates = tcb.owed.duplicate_acks.saturating_sub(1);
    let plan = plan_from(tcb, cx, tcb.snd_nxt, 0, 0, Flags::ACK);
    tcb.owed.duplicate_acks = duplicates;
    Some(plan)
}

/// As [`segment`], where it is not the usual one.
#[cold]
#[inline(never)]
fn segment_again(tcb: &mut Tcb, board: Option<&mut Scoreboard>, cx: &Context<'_>, seq: Seq, len: u32) -> Plan {
    segment(tcb, board, cx, seq, len)
}

/// Octets `len` from `seq` on, with the FIN if it is next, as a segment; the record takes note.
#[inline(always)]
fn segment(tcb: &mut Tcb, mut board: Option<&mut Scoreboard>, cx: &Context<'_>, seq: Seq, len: u32) -> Plan {
    let end = seq + len;
    let with_fin = tcb.facts.has(Fact::FIN_QUEUED) && end == tcb.send_end;
    let mut flags = Flags::ACK;
    if with_fin {
        flags = flags | Flags::FIN;
    }
    if len > 0 && end == tcb.send_end {
        // MUST-61: the last octets that are queued are pushed.
        flags = flags | Flags::PSH;
    }
    let again = seq.lt(tcb.snd_nxt);
    let mut plan = plan_from(tcb, cx, seq, seq - tcb.snd_una, len, flags);
    plan.again = again;
    let end = end + u32::from(with_fin);
    if !again && !tcb.timed.is_on() {
        tcb.timed = Timed::segment(end, cx.now.tick());
    } else if again && !tcb.agreed.timestamps() {
        tcb.timed = Timed::NONE;
    }
    if tcb.flight() == 0 {
        // The persist timer of a small window is no time-out of what leaves now (RFC 6298 5.1).
        tcb.retransmit_at = Deadline::NONE;
    }
    if seq.le(tcb.snd_resume) {
        tcb.snd_resume = tcb.snd_resume.max(end);
    }
    tcb.snd_nxt = tcb.snd_nxt.max(end);
    if let Some(board) = &mut board {
        board.sent(seq, end, cx.now.micros());
    }
    let unsent = board.is_some() || has_unsent(tcb);
    tcb.owed.set(Owed::DATA, unsent);
    recovery::arm_after_sending(tcb, board, cx);
    plan
}

/// A segment with everything that any segment settles: window, ACK, timestamps.
#[inline]
fn plan_from(tcb: &mut Tcb, cx: &Context<'_>, seq: Seq, text_offset: u32, len: u32, flags: Flags) -> Plan {
    let wnd = offer_window(tcb, cx);
    tcb.owed.remove(Owed::ACK | Owed::ACK_NOW | Owed::WINDOW_UPDATE);
    tcb.owed.duplicate_acks = 0;
    tcb.delayed_ack_at = Deadline::NONE;
    tcb.last_ack_sent = tcb.rcv_nxt;
    let (urg, up) = urgent::mark(tcb, seq);
    Plan {
        seq,
        ack: tcb.rcv_nxt,
        flags: flags | urg,
        up,
        wnd,
        options: options::of_segment(tcb, cx),
        text_offset,
        text_len: len as u16,
        again: false,
    }
}

/// The window field: the right edge moves only forward (SHLD-14) and by steps worth sending (MUST-39). The field is rounded
/// down: rounded up, it would offer a little more than the buffer holds with each ACK of a small segment, without end. So it may
/// tell less than before, and what was told is taken (RFC 7323 2.4).
#[inline]
fn offer_window(tcb: &mut Tcb, cx: &Context<'_>) -> u16 {
    let shift = tcb.agreed.rcv_shift();
    let free = receive_buffer_bytes(tcb, cx).saturating_sub(tcb.unread_bytes);
    // What the field cannot say is not offered, and so not in the window.
    let edge = tcb.rcv_nxt + free.min(65_535 << shift);
    if edge.gt(tcb.rcv_edge) && edge - tcb.rcv_edge >= window_step(tcb, cx) {
        tcb.rcv_edge = edge;
    }
    (tcb.rcv_wnd() >> shift).min(65_535) as u16
}

/// Receiver's silly-window avoidance: half the buffer or one segment, whichever is less (RFC 9293 3.8.6.2.2).
#[inline]
pub fn window_step(tcb: &Tcb, cx: &Context<'_>) -> u32 {
    (receive_buffer_bytes(tcb, cx) / 2).min(u32::from(tcb.mss))
}

/// The receive buffer as long as the connection lasts: at least two units of the window field, for one that has been made
/// smaller than that since the SYNs agreed on the unit would never be offered (RFC 7323 2.3).
#[inline]
pub fn receive_buffer_bytes(tcb: &Tcb, cx: &Context<'_>) -> u32 {
    cx.receive_buffer_bytes().max(window_unit(tcb) << 1)
}

/// What one in the window field stands for, bytes.
#[inline]
pub fn window_unit(tcb: &Tcb) -> u32 {
    1 << tcb.agreed.rcv_shift()
}

/// Octets of text that one segment takes: the MSS less options (MUST-16), and what two chunks hold.
#[inline]
fn segment_room(tcb: &Tcb) -> u32 {
    let options = if tcb.agreed.timestamps() { 12 } else { 0 };
    (u32::from(tcb.mss) - options).min(CHUNK_BYTES as u32)
}

/// Bytes of a SACK option before its blocks, with two NOPs, and of each block (RFC 2018 3).
const SACK_HEADER: u32 = 4;
const SACK_BLOCK: u32 = 8;

/// Delay of an ACK that nothing carries, ticks. Origin: Linux's 40 ms; MUST-40 allows less than 500.
const DELAYED_ACK_TICKS: u32 = 40 * Tick::PER_SECOND / 1000;
