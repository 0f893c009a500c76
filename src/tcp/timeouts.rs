//! RFC 9293 3.10.8: a deadline of a TCB has come.

use super::rack::Probe;
use super::recovery::{self, Timer};
use super::sack::Scoreboard;
use super::state::{CloseReason, State};
use super::tcb::{Fact, Opened, Owed, Tcb, Timed};
use super::{Context, End, Note, Outcome, output, waits};
use crate::tick::Deadline;

/// Whether what is due at the context's time is better done with a scoreboard: a retransmission, or the probe before it.
pub fn wants_scoreboard(tcb: &Tcb, cx: &Context<'_>) -> bool {
    tcb.agreed.sack()
        && !tcb.syn_is_unacknowledged()
        && tcb.flight() > 0
        && tcb.snd_wnd > 0
        && tcb.retransmit_at.is_due(cx.now.tick())
}

/// Everything that is due at the context's time; `board` is there if the connection has a scoreboard.
pub fn due(tcb: &mut Tcb, board: Option<&mut Scoreboard>, cx: &Context<'_>) -> Outcome {
    let now = cx.now.tick();
    let mut out = Outcome::default();
    if tcb.waits_until.is_due(now) {
        waits::due(tcb, cx, &mut out);
        if tcb.state == State::Closed {
            return out;
        }
    }
    if tcb.delayed_ack_at.is_due(now) {
        tcb.delayed_ack_at = Deadline::NONE;
        tcb.owed.add(Owed::ACK_NOW);
    }
    if recovery::is_due(tcb, board.as_deref(), cx) {
        tcb.retransmit_at = Deadline::NONE;
        match (tcb.recovery.take_timer(), board) {
            (Timer::Reordering, Some(board)) => out.recovery_begins = recovery::reordering_over(tcb, board, cx),
            (Timer::Probe, Some(board)) if tcb.flight() > 0 && tcb.snd_wnd > 0 => tail_probe(tcb, board, cx, &mut out),
            (Timer::Reordering, None) | (Timer::Probe, _) if tcb.flight() > 0 => recovery::arm_time_out(tcb, cx),
            (Timer::Reordering, None) | (Timer::Probe, _) => {}
            (Timer::Retransmission, board) => retransmission(tcb, board, cx, &mut out),
        }
    }
    tcb.invariants();
    out
}

/// TLP_send_probe (RFC 8985 7.3): one segment, so that the peer says what it has.
fn tail_probe(tcb: &mut Tcb, board: &mut Scoreboard, cx: &Context<'_>, out: &mut Outcome) {
    if tcb.snd_resume != tcb.snd_nxt || !tcb.recovery.is_open() {
        return recovery::arm_time_out(tcb, cx);
    }
    if !board.is_on() {
        recovery::begin(tcb, board, cx);
    }
    board.rack.probe = Some(Probe::Due);
    tcb.owed.add(Owed::PROBE);
    out.note = Some(Note::TailProbe);
}

/// The retransmission time-out (RFC 6298 5.4 to 5.7), or the persist time-out when nothing is in flight.
fn retransmission(tcb: &mut Tcb, board: Option<&mut Scoreboard>, cx: &Context<'_>, out: &mut Outcome) {
    let syn = tcb.syn_is_unacknowledged();
    if !syn && tcb.flight() == 0 && !output::has_unsent(tcb) {
        return;
    }
    let probing = !syn && (tcb.snd_wnd == 0 || tcb.flight() == 0);
    // MUST-37: probes go on as long as they are acknowledged; an acknowledgment clears `retries`.
    if retries_max(tcb, cx).is_some_and(|retries_max| tcb.retries >= retries_max) {
        return end(tcb, out);
    }
    out.stalled = tcb.retries.checked_add(1) == Some(cx.options.retries1);
    tcb.retries = tcb.retries.saturating_add(1);
    tcb.rto.back_off();
    if !tcb.agreed.timestamps() {
        tcb.timed = Timed::NONE;
    } else if tcb.retries == 1 {
        tcb.timed = Timed::segment(tcb.snd_una + 1, cx.now.tick());
    }
    if syn {
        tcb.owed.add(Owed::SYN);
        return;
    }
    if probing {
        // What is in flight lies beyond the closed window: it is sent again from the first octet, or the FIN.
        tcb.snd_resume = tcb.snd_una;
        tcb.owed.add(Owed::PROBE);
        return;
    }
    out.note = Some(Note::TimedOut);
    let conditions = tcb.conditions(cx);
    tcb.congestion.timed_out(tcb.retries == 1, &conditions);
    let probed = board.as_deref().is_some_and(|board| recovery::is_probed(tcb, board));
    tcb.recovery.timed_out(tcb.snd_nxt, probed);
    tcb.owed.add(Owed::DATA);
    match board {
        // RFC 6675 5.1; what was SACKed counts until a second time-out says that the peer has thrown it away (RFC 2018 8).
        Some(board) => {
            if recovery::in_use(tcb, board).is_none() {
                recovery::begin(tcb, board, cx);
            }
            tcb.snd_resume = tcb.snd_nxt;
            board.lose_all(tcb.retries > 1);
            board.rack.timed_out();
        }
        None => tcb.snd_resume = tcb.snd_una,
    }
}

/// What is owed cannot leave: no next hop answers. Text and FIN wait for the retransmission time-out, whose limit decides
/// (MUST-20); an ACK is dropped, as if it had been lost.
pub fn could_not_send(tcb: &mut Tcb, cx: &Context<'_>) {
    tcb.owed = Owed::default();
    if !tcb.retransmit_at.is_set() && (tcb.flight() > 0 || output::has_unsent(tcb)) {
        recovery::arm_time_out(tcb, cx);
    }
}

/// R2 of RFC 9293 3.8.3 in retransmissions; `None` while a user timeout runs for the same text or FIN, which then is R2 (RFC 5482 1).
fn retries_max(tcb: &Tcb, cx: &Context<'_>) -> Option<u8> {
    match (tcb.state, tcb.opened()) {
        (State::SynSent, _) | (State::SynReceived, Opened::Actively) => Some(cx.options.syn_retries),
        (State::SynReceived, Opened::Passively) => Some(cx.settings.syn_ack_retries),
        (
            State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait | State::Closing | State::LastAck,
            _,
        ) => {
            let user_timeout = cx.options.user_timeout.is_some() && tcb.waits_until.is_set();
            (!user_timeout).then_some(cx.options.retries2)
        }
        // Nothing is sent any more.
        (State::Closed, _) => Some(0),
    }
}

pub(super) fn end(tcb: &mut Tcb, out: &mut Outcome) {
    let half_open = tcb.is_half_open_passively();
    // SHLD-25: a router's or host's word on why nothing was heard is worth more than that nothing was.
    let reason = if tcb.facts.has(Fact::SOFT_ERROR) { CloseReason::Unreachable } else { CloseReason::TimedOut };
    tcb.end(reason);
    out.end = Some(if half_open { End::Listen } else { End::Closed(reason) });
}
