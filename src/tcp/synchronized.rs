//! RFC 9293 3.10.7.4: a segment arrives in SYN-RECEIVED or any synchronized state but TIME-WAIT.
//!
//! Eight checks in the RFC's order; a check that breaks is the RFC's "and return". With RFC 5961's changes to RST, SYN
//! and ACK, which RFC 9293 has taken in.

use super::closed::reset_of;
use super::congestion::Congestion;
use super::recovery::{self, Recovery, Sack};
use super::sack;
use super::state::{CloseReason, State};
use super::tcb::{DUPLICATE_ACKS_MAX, Fact, Opened, Owed, Tcb, Timed};
use super::{Answer, Context, End, Note, Outcome, options, output, round_trip, urgent, waits};
use crate::limits::CHUNK_BYTES;
use crate::seq::Seq;
use crate::tick::Deadline;
use crate::wire::tcp::{Flags, Segment};
use core::ops::ControlFlow::{self, Break, Continue};

/// The eight checks; `sack` is there if the connection has a scoreboard or the segment blocks. `out` is the default before.
#[inline(always)]
pub fn arrives(tcb: &mut Tcb, seg: &Segment, sack: Option<Sack<'_>>, cx: &Context<'_>, out: &mut Outcome) {
    let _ = match sack {
        None => eight_checks(tcb, seg, None, cx, out),
        some => eight_checks_with_sack(tcb, seg, some, cx, out),
    };
    tcb.invariants();
}

/// Not inlined: few segments tell of a loss.
#[cold]
#[inline(never)]
fn eight_checks_with_sack(
    tcb: &mut Tcb,
    seg: &Segment,
    sack: Option<Sack<'_>>,
    cx: &Context<'_>,
    out: &mut Outcome,
) -> ControlFlow<()> {
    eight_checks(tcb, seg, sack, cx, out)
}

#[inline(always)]
fn eight_checks(
    tcb: &mut Tcb,
    seg: &Segment,
    sack: Option<Sack<'_>>,
    cx: &Context<'_>,
    out: &mut Outcome,
) -> ControlFlow<()> {
    first_check_sequence(tcb, seg, cx, out)?;
    second_check_rst(tcb, seg, cx, out)?;
    third_check_security();
    fourth_check_syn(tcb, seg, cx, out)?;
    fifth_check_ack(tcb, seg, sack, cx, out)?;
    sixth_check_urg(tcb, seg, out);
    seventh_process_text(tcb, seg, cx, out)?;
    eighth_check_fin(tcb, seg, cx, out)
}

/// PAWS (RFC 7323 5.3), then the four cases of acceptability (RFC 9293 3.4).
#[inline(always)]
fn first_check_sequence(tcb: &mut Tcb, seg: &Segment, cx: &Context<'_>, out: &mut Outcome) -> ControlFlow<()> {
    let now = cx.now.tick();
    if options::paws_refuses(tcb, seg, now) {
        out.note = Some(Note::Paws);
        if seg.options.timestamps.is_some() {
            answer_unacceptable(tcb, seg, cx, out);
        }
        return Break(());
    }
    if is_acceptable(tcb, seg) { Continue(()) } else { meet_unacceptable(tcb, seg, cx, out) }
}

/// What is not acceptable by its numbers: a RST is dropped, the rest is answered.
#[cold]
#[inline(never)]
fn meet_unacceptable(tcb: &mut Tcb, seg: &Segment, cx: &Context<'_>, out: &mut Outcome) -> ControlFlow<()> {
    if seg.flags.rst() {
        out.note = Some(Note::OutOfWindow);
        return Break(());
    }
    match (tcb.state, tcb.opened()) {
        (State::SynReceived, Opened::Actively) if is_syn_ack_again(tcb, seg) => return Continue(()),
        (State::SynReceived, _) if seg.flags.syn() && seg.seq == tcb.irs() => repeat_syn(tcb, cx, out),
        // T25: one that an old SYN made and the peer's TIME-WAIT would acknowledge each other until it times out; the SYN-ACK
        // that the timer repeats says all there is to say.
        (State::SynReceived, Opened::Passively) => {}
        (State::SynReceived, Opened::Actively)
        | (
            State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait | State::Closing | State::LastAck,
            _,
        ) => {
            if is_keepalive(tcb, seg) {
                waits::heard(tcb, tcb.snd_una, tcb.snd_wnd, cx);
            }
            answer_unacceptable(tcb, seg, cx, out);
        }
        (State::Closed | State::SynSent, _) => {}
    }
    out.note = Some(Note::OutOfWindow);
    Break(())
}

/// The peer's SYN again: our SYN-ACK was lost, so it is that which is owed (B12).
#[cold]
#[inline(never)]
fn repeat_syn(tcb: &mut Tcb, cx: &Context<'_>, out: &mut Outcome) {
    let may = tcb.owed.has(Owed::SYN) || tcb.may_challenge(cx);
    tcb.owed.add_if(Owed::SYN, may);
    out.challenge_suppressed = !may;
    out.note = Some(Note::OutOfWindow);
}

/// An ACK for a segment that is unacceptable by its numbers. Text and FIN from a window before RCV.NXT, and probes of keepalive or
/// of a closed window, with an acceptable ACK, are always answered: their sender waits for an acknowledgment that was lost. All else
/// has a limit, so that neither two stacks duel nor a third party makes us talk, and the peer take that for duplicate ACKs (T25).
#[cold]
#[inline(never)]
fn answer_unacceptable(tcb: &mut Tcb, seg: &Segment, cx: &Context<'_>, out: &mut Outcome) {
    let before = (1..=cx.receive_buffer_bytes().max(65_535)).contains(&(tcb.rcv_nxt - seg.seq));
    let repeats = !seg.is_empty() && !seg.flags.syn() && before;
    let awaited = (repeats && seg.flags.ack() && has_acceptable_ack(tcb, seg)) || is_keepalive(tcb, seg);
    let may = awaited || tcb.owed.has(Owed::ACK_NOW) || tcb.may_challenge(cx);
    tcb.owed.add_if(Owed::ACK_NOW, may);
    out.challenge_suppressed = !may;
}

/// RFC 5961's challenge ACK, as often as this connection may send one (T08).
#[cold]
#[inline(never)]
fn challenge(tcb: &mut Tcb, cx: &Context<'_>, out: &mut Outcome) {
    if tcb.owed.has(Owed::ACK_NOW) || tcb.may_challenge(cx) {
        out.note = Some(Note::ChallengeAck);
        tcb.owed.add(Owed::ACK_NOW);
    } else {
        out.challenge_suppressed = true;
    }
}

/// RFC 9293 3.4 table 6. With a closed window a segment at RCV.NXT still counts for its ACK and RST (MUST-66), and its FIN if that
/// comes alone, for which no room is needed.
fn is_acceptable(tcb: &Tcb, seg: &Segment) -> bool {
    let (window, len) = (tcb.rcv_wnd(), seg.len());
    let in_window = |seq: Seq| seq - tcb.rcv_nxt < window;
    match (len, window) {
        (_, 0) => seg.seq == tcb.rcv_nxt,
        (0, _) => in_window(seg.seq),
        (_, _) => in_window(seg.seq) || in_window(seg.seq + (len - 1)),
    }
}

/// RFC 5961 5.2's range (T07): from SND.UNA - MAX.SND.WND to SND.NXT. How far it reaches back is asked only of what is older than SND.UNA.
#[inline(always)]
fn has_acceptable_ack(tcb: &Tcb, seg: &Segment) -> bool {
    seg.ack - tcb.snd_una <= tcb.snd_nxt - tcb.snd_una || tcb.snd_una - seg.ack <= tcb.snd_wnd_max
}

/// A probe of the peer's keepalive (RFC 9293 3.8.4), or as some probe a closed window: the octet before the next, and an ACK
/// that is as good as any. Two stacks that are out of step by one do not take each other's ACKs for it, for these are beyond.
fn is_keepalive(tcb: &Tcb, seg: &Segment) -> bool {
    seg.flags.ack() && seg.seq == tcb.rcv_nxt.back(1) && tcb.snd_una.le(seg.ack) && seg.ack.le(tcb.snd_nxt)
}

/// Simultaneous open (RFC 9293 3.5 figure 8): in SYN-RECEIVED the peer's SYN-ACK repeats the SYN that has been taken already,
/// so only its ACK is new.
fn is_syn_ack_again(tcb: &Tcb, seg: &Segment) -> bool {
    seg.flags.has(Flags::SYN | Flags::ACK) && seg.seq == tcb.irs()
}

/// RFC 5961 3.2 (T05): only a RST at exactly RCV.NXT counts; in the window it gets a challenge ACK.
#[inline]
fn second_check_rst(tcb: &mut Tcb, seg: &Segment, cx: &Context<'_>, out: &mut Outcome) -> ControlFlow<()> {
    if !seg.flags.rst() {
        return Continue(());
    }
    if seg.seq != tcb.rcv_nxt {
        challenge(tcb, cx, out);
        return Break(());
    }
    out.note = Some(Note::RstAccepted);
    let end = match (tcb.state, tcb.opened()) {
        (State::SynReceived, Opened::Passively) => End::Listen,
        (State::SynReceived, Opened::Actively) => End::Closed(CloseReason::Refused),
        (
            State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait | State::Closing | State::LastAck,
            _,
        ) => End::Closed(CloseReason::Reset),
        (State::Closed | State::SynSent, _) => return Break(()),
    };
    finish(tcb, out, end);
    Break(())
}

/// Nothing to ask: RFC 9293 A.1 compares no precedence any more, and security compartments are not implemented: every segment is
/// in the one there is, whatever DSCP or label its IP header carries.
fn third_check_security() {}

/// RFC 5961 4.2 (T06): a SYN in a synchronized state gets a challenge ACK; a half-open passive one returns to LISTEN.
#[inline]
fn fourth_check_syn(tcb: &mut Tcb, seg: &Segment, cx: &Context<'_>, out: &mut Outcome) -> ControlFlow<()> {
    if !seg.flags.syn() {
        return Continue(());
    }
    match (tcb.state, tcb.opened()) {
        (State::SynReceived, Opened::Actively) if is_syn_ack_again(tcb, seg) => return Continue(()),
        // The SYN again with text or a FIN, which lie in the window where it does not. B12 goes before the RFC, which trims the SYN off
        // and drops the rest for want of an ACK: our SYN-ACK was lost, and the peer sends its text again behind the handshake.
        (State::SynReceived, _) if seg.seq == tcb.irs() => repeat_syn(tcb, cx, out),
        (State::SynReceived, Opened::Passively) => {
            out.note = Some(Note::ReturnedToListen);
            finish(tcb, out, End::Listen);
        }
        (State::SynReceived, Opened::Actively)
        | (
            State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait | State::Closing | State::LastAck,
            _,
        ) => challenge(tcb, cx, out),
        (State::Closed | State::SynSent, _) => {}
    }
    Break(())
}

/// The ACK field, state by state.
#[inline(always)]
fn fifth_check_ack(
    tcb: &mut Tcb,
    seg: &Segment,
    sack: Option<Sack<'_>>,
    cx: &Context<'_>,
    out: &mut Outcome,
) -> ControlFlow<()> {
    if !seg.flags.ack() {
        out.note = Some(Note::Ignored);
        return Break(());
    }
    let (snd_una, snd_wnd) = (tcb.snd_una, tcb.snd_wnd);
    match tcb.state {
        State::SynReceived => complete_handshake(tcb, seg, cx, out)?,
        State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait | State::Closing | State::LastAck => {
            take_acknowledgment(tcb, seg, sack, cx, out)?;
        }
        State::Closed | State::SynSent => return Break(()),
    }
    waits::heard(tcb, snd_una, snd_wnd, cx);
    fin_may_be_acknowledged(tcb, seg, cx, out)
}

/// The fifth check, second half, in the state that the first has led to: whether our FIN is acknowledged.
#[inline(always)]
fn fin_may_be_acknowledged(tcb: &mut Tcb, seg: &Segment, cx: &Context<'_>, out: &mut Outcome) -> ControlFlow<()> {
    let fin_is_acknowledged = tcb.fin_is_acknowledged();
    match tcb.state {
        State::Established | State::CloseWait | State::FinWait2 => Continue(()),
        State::FinWait1 if fin_is_acknowledged => {
            enter_fin_wait_2(tcb, cx);
            Continue(())
        }
        State::Closing if fin_is_acknowledged => {
            if tcb.owed.has(Owed::ACK_NOW) {
                // What it answers, the peer's FIN or a challenged segment, came in the same burst: the ACK outlives the TCB.
                out.answer = Some(output::acknowledgment(tcb, cx));
            }
            finish(tcb, out, End::TimeWait);
            Break(())
        }
        State::LastAck if fin_is_acknowledged => {
            finish(tcb, out, End::Closed(CloseReason::Graceful));
            Break(())
        }
        State::FinWait1 => Continue(()),
        State::Closing | State::LastAck => {
            ignore_behind_fin(seg, out);
            Break(())
        }
        State::Closed | State::SynSent | State::SynReceived => Break(()),
    }
}

/// SYN-RECEIVED: the ACK of our SYN opens the connection, any other gets RST (B09).
#[inline(never)]
fn complete_handshake(tcb: &mut Tcb, seg: &Segment, cx: &Context<'_>, out: &mut Outcome) -> ControlFlow<()> {
    if !(tcb.snd_una.lt(seg.ack) && seg.ack.le(tcb.snd_nxt)) {
        out.note = Some(Note::BadAck);
        out.answer = Some(reset_of(seg));
        return Break(());
    }
    options::update_ts_recent(tcb, seg, cx.now.tick());
    round_trip::measure(tcb, seg, &[], cx);
    let syn_was_lost = tcb.retries > 0;
    // The application is told before it can send: nothing is queued behind our SYN.
    tcb.snd_una = seg.ack;
    tcb.snd_resume = tcb.snd_nxt;
    // A CLOSE that came during the handshake is processed now (RFC 9293 3.10.4).
    let closes = tcb.facts.has(Fact::FIN_QUEUED);
    tcb.state = if closes { State::FinWait1 } else { State::Established };
    tcb.owed.add_if(Owed::DATA, closes);
    tcb.retransmit_at = Deadline::NONE;
    tcb.retries = 0;
    tcb.rto.opened(syn_was_lost);
    // Simultaneous open: the peer's SYN and SYN-ACK came together, and nothing has acknowledged the SYN yet.
    let unanswered = tcb.owed.take(Owed::SYN) && tcb.opened() == Opened::Actively;
    tcb.owed.add_if(Owed::ACK_NOW, unanswered);
    tcb.congestion = Congestion::start(u32::from(tcb.mss), syn_was_lost);
    tcb.recovery = Recovery::start(tcb.snd_una);
    // A window on a SYN is never scaled (RFC 7323 2.2), nor that of the SYN-ACK of a simultaneous open.
    let shift = if seg.flags.syn() { 0 } else { tcb.agreed.snd_shift() };
    update_send_window(tcb, seg, shift);
    out.established = true;
    Continue(())
}

/// ESTABLISHED and after: the acceptable range, SND.UNA, the window, loss signals.
#[inline(always)]
fn take_acknowledgment(
    tcb: &mut Tcb,
    seg: &Segment,
    sack: Option<Sack<'_>>,
    cx: &Context<'_>,
    out: &mut Outcome,
) -> ControlFlow<()> {
    if !has_acceptable_ack(tcb, seg) {
        out.note = Some(Note::BadAck);
        answer_unacceptable(tcb, seg, cx, out);
        return Break(());
    }
    // Only a segment whose ACK is acceptable moves TS.Recent: one forged without would lock the peer out (T23).
    options::update_ts_recent(tcb, seg, cx.now.tick());
    let window_before = tcb.snd_wnd;
    let may_update = tcb.snd_wl1.le(seg.seq);
    if seg.ack.ge(tcb.snd_una) && may_update {
        update_send_window(tcb, seg, tcb.agreed.snd_shift());
    }
    let blocks = sack.as_ref().map_or(&[][..], |sack| sack.blocks);
    let acked = if seg.ack.gt(tcb.snd_una) { advance_snd_una(tcb, seg, blocks, cx, out) } else { 0 };
    if acked > 0 && window_before == 0 {
        // Probes have backed off for a closed window, not for the path.
        tcb.rto.progressed();
    }
    let duplicate = acked == 0 && is_duplicate(tcb, seg, blocks, window_before);
    if acked == 0 && !duplicate && seg.ack == tcb.snd_una {
        output::window_answered(tcb, window_before);
    }
    if acked > 0 || duplicate || sack.is_some() {
        out.recovery_begins = recovery::heard(tcb, sack, recovery::Heard { ack: seg.ack, acked, duplicate }, cx);
    }
    Continue(())
}

/// RFC 5681 2: an ACK that says nothing but that something else has arrived; one that says only that something came twice
/// (RFC 2883) tells of nothing that is missing (RFC 6675 2).
fn is_duplicate(tcb: &Tcb, seg: &Segment, blocks: &[(Seq, Seq)], window_before: u32) -> bool {
    let unchanged = tcb.snd_wnd == window_before && tcb.snd_wnd > 0;
    let came_twice = blocks.len() == 1 && sack::duplicate(blocks, seg.ack).is_some();
    seg.ack == tcb.snd_una && tcb.flight() > 0 && seg.is_empty() && unchanged && !came_twice
}

/// Moves SND.UNA; returns by how many octets.
#[inline(always)]
fn advance_snd_una(tcb: &mut Tcb, seg: &Segment, blocks: &[(Seq, Seq)], cx: &Context<'_>, out: &mut Outcome) -> u32 {
    let measured = round_trip::measure(tcb, seg, blocks, cx);
    let acked = seg.ack - tcb.snd_una;
    // What is acknowledged beyond the text is our FIN.
    let text = acked.min(tcb.send_end - tcb.snd_una);
    tcb.snd_una = seg.ack;
    urgent::acknowledged(tcb);
    tcb.snd_resume = tcb.snd_resume.max(tcb.snd_una);
    if tcb.flight() == 0 {
        tcb.timed = Timed::over(cx.now.tick());
    }
    out.acked_bytes = text;
    tcb.retries = 0;
    tcb.facts.remove(Fact::SOFT_ERROR);
    tcb.facts.add_if(Fact::LARGE_ACKNOWLEDGED, text >= u32::from(tcb.mss));
    if measured {
        tcb.rto.progressed();
    }
    let unsent = output::has_unsent(tcb);
    tcb.owed.set(Owed::DATA, unsent);
    acked
}

#[inline]
fn update_send_window(tcb: &mut Tcb, seg: &Segment, shift: u8) {
    let wnd = u32::from(seg.wnd) << shift;
    if wnd > tcb.snd_wnd {
        tcb.snd_wnd_max = tcb.snd_wnd_max.max(wnd);
    }
    tcb.snd_wnd = wnd;
    tcb.snd_wl1 = seg.seq;
}

#[inline]
fn enter_fin_wait_2(tcb: &mut Tcb, cx: &Context<'_>) {
    tcb.state = State::FinWait2;
    waits::restart(tcb, cx);
}

/// RFC 6093, RFC 9293 3.8.5: urgent data stays in line, so the pointer changes nothing about delivery.
#[inline]
fn sixth_check_urg(tcb: &mut Tcb, seg: &Segment, out: &mut Outcome) {
    match tcb.state {
        State::Established | State::FinWait1 | State::FinWait2 if seg.flags.has(Flags::URG) => {
            urgent::arrives(tcb, seg, out);
        }
        State::Established | State::FinWait1 | State::FinWait2 => urgent::goes_on(tcb),
        // After the peer's FIN this cannot be.
        State::CloseWait | State::Closing | State::LastAck => {}
        State::Closed | State::SynSent | State::SynReceived => {}
    }
}

/// The segment's text, trimmed to the window; only text that is next in order is taken.
#[inline(always)]
fn seventh_process_text(tcb: &mut Tcb, seg: &Segment, cx: &Context<'_>, out: &mut Outcome) -> ControlFlow<()> {
    match tcb.state {
        State::Established | State::FinWait1 | State::FinWait2 => {}
        State::CloseWait | State::Closing | State::LastAck => {
            ignore_behind_fin(seg, out);
            return Continue(());
        }
        State::Closed | State::SynSent | State::SynReceived => return Break(()),
    }
    if seg.seq.gt(tcb.rcv_nxt) {
        if !seg.is_empty() {
            out.note = Some(Note::OutOfOrder);
            tcb.owed.duplicate_acks = (tcb.owed.duplicate_acks + 1).min(DUPLICATE_ACKS_MAX);
        }
        return Break(());
    }
    if seg.payload_len == 0 {
        return Continue(());
    }
    // A SYN's octet precedes the text (only a SYN-ACK of a simultaneous open comes so far with one).
    let text_seq = seg.seq + u32::from(seg.flags.syn());
    let skip = (tcb.rcv_nxt - text_seq).min(u32::from(seg.payload_len));
    // One chunk is reserved per segment: what a peer sends beyond it and our MSS, it sends again.
    let taken = (u32::from(seg.payload_len) - skip).min(tcb.rcv_wnd()).min(CHUNK_BYTES as u32);
    if taken == 0 {
        tcb.owed.add(Owed::ACK_NOW);
        return Continue(());
    }
    if tcb.facts.has(Fact::APP_CLOSED) {
        // RFC 1122 4.2.2.13, SHLD-3: bytes that nobody will read end the connection with a RST.
        out.answer = Some(Answer {
            seq: tcb.snd_nxt,
            ack: tcb.rcv_nxt,
            flags: Flags::RST | Flags::ACK,
            wnd: 0,
            timestamps: options::current_timestamps(tcb, cx),
        });
        finish(tcb, out, End::Closed(CloseReason::Aborted));
        return Break(());
    }
    if !cx.receive_room {
        out.note = Some(Note::NoReceiveRoom);
        return Break(());
    }
    tcb.rcv_nxt += taken;
    tcb.unread_bytes += taken;
    out.text = Some((skip as u16, taken as u16));
    tcb.owed.add(Owed::ACK);
    // What fills a gap is acknowledged at once and once (RFC 5681 4.2): duplicates still owed would repeat the new number.
    let fills = core::mem::take(&mut tcb.owed.duplicate_acks) > 0;
    let due = fills || is_second_full_segment(tcb, taken);
    tcb.owed.add_if(Owed::ACK_NOW, due);
    Continue(())
}

/// Nothing comes behind the peer's FIN (RFC 9293 3.10.7.4, seventh and eighth): text there and a second FIN are ignored.
#[inline]
fn ignore_behind_fin(seg: &Segment, out: &mut Outcome) {
    if !seg.is_empty() {
        out.note = Some(Note::Ignored);
    }
}

/// SHLD-19: `taken` octets are the second full-sized segment, or the last of as many octets, that no ACK of ours has covered. The
/// path's segments may be smaller than our MSS: any as large as half of it is full if the one before was not larger.
#[inline]
fn is_second_full_segment(tcb: &Tcb, taken: u32) -> bool {
    let mss = u32::from(tcb.mss);
    let full = if 2 * taken >= mss { taken } else { mss };
    tcb.rcv_nxt - tcb.last_ack_sent + OPTIONS_ROOM >= 2 * full
}

/// A FIN counts once everything before it has been taken.
#[inline(always)]
fn eighth_check_fin(tcb: &mut Tcb, seg: &Segment, cx: &Context<'_>, out: &mut Outcome) -> ControlFlow<()> {
    if seg.flags.fin() && seg.end() == tcb.rcv_nxt + 1 {
        take_fin_in_state(tcb, cx, out);
    }
    Break(())
}

/// A FIN that came before its turn (SHLD-31) is next in order now.
pub fn take_early_fin(tcb: &mut Tcb, cx: &Context<'_>, out: &mut Outcome) {
    take_fin_in_state(tcb, cx, out);
    tcb.invariants();
}

#[inline(always)]
fn take_fin_in_state(tcb: &mut Tcb, cx: &Context<'_>, out: &mut Outcome) {
    match tcb.state {
        State::Established => tcb.state = State::CloseWait,
        State::FinWait1 => tcb.state = State::Closing,
        State::FinWait2 => {
            take_fin(tcb, out);
            tcb.owed.remove(Owed::ACK_NOW);
            out.answer = Some(output::acknowledgment(tcb, cx));
            return finish(tcb, out, End::TimeWait);
        }
        State::CloseWait | State::Closing | State::LastAck => return,
        State::Closed | State::SynSent | State::SynReceived => return,
    }
    take_fin(tcb, out);
}

#[inline]
fn take_fin(tcb: &mut Tcb, out: &mut Outcome) {
    tcb.rcv_nxt += 1;
    tcb.rcv_edge = tcb.rcv_edge.max(tcb.rcv_nxt);
    tcb.owed.add(Owed::ACK_NOW);
    out.peer_closed = true;
}

/// The TCB's life is over; the shard moves what is left of it.
#[inline]
fn finish(tcb: &mut Tcb, out: &mut Outcome, end: End) {
    tcb.end(match end {
        End::Closed(reason) => reason,
        End::TimeWait => CloseReason::Graceful,
        End::Listen => CloseReason::Reset,
    });
    out.end = Some(end);
}

/// What options take from the text of two full-sized segments, bytes: timestamps with two NOPs from each, 12, and from one three
/// SACK blocks, 28, but no more than 40 from one.
const OPTIONS_ROOM: u32 = 52;
