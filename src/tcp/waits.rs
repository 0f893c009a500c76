//! How long a connection waits for what must come next: one deadline, whose meaning is what it waits for.
//!
//! | it waits for | how long | then |
//! | --- | --- | --- |
//! | the handshake | connect deadline, user timeout | it ends |
//! | the first text, with accepting deferred | as the listener says | the application is told |
//! | progress of what was sent, or of a closed window | user timeout (RFC 9293 3.9.1, B25, T03) | RST, it ends |
//! | the peer's FIN, with the application gone | [`FIN_WAIT_2_MS`] (B37) | it ends |
//! | the application's CLOSE, after the peer's | keepalive, or [`CLOSE_WAIT_MS`] (B37) | it is counted; a probe with keepalive |
//! | the peer, with nothing under way | keepalive (RFC 9293 3.8.4, B24) | a probe; after the last one RST, it ends |

use super::connection_options::ticks;
use super::state::State;
use super::tcb::{Fact, Owed, Tcb};
use super::{Context, Note, Outcome, output, recovery, timeouts};
use crate::limits::{CLOSE_WAIT_MS, FIN_WAIT_2_MS};
use crate::seq::Seq;
use crate::tick::Deadline;

/// What must come next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WaitsFor {
    Handshake,
    Text,
    Progress,
    Fin,
    Application,
    Peer,
    Nothing,
}

/// The wait begins anew, from now on. The handshake's has been set when the connection was opened.
#[inline(always)]
pub(super) fn restart(tcb: &mut Tcb, cx: &Context<'_>) {
    if may_run(tcb, cx) {
        begin(tcb, waits_for(tcb), cx);
    }
}

#[inline(never)]
fn begin(tcb: &mut Tcb, waits_for: WaitsFor, cx: &Context<'_>) {
    let keepalive_idle = cx.options.keepalive.map(|keepalive| ticks(keepalive.idle));
    let wait_ticks = match waits_for {
        WaitsFor::Handshake | WaitsFor::Text | WaitsFor::Nothing => return,
        WaitsFor::Progress => cx.options.user_timeout.map(ticks),
        WaitsFor::Fin => Some(FIN_WAIT_2_MS),
        WaitsFor::Application => Some(keepalive_idle.unwrap_or(CLOSE_WAIT_MS)),
        WaitsFor::Peer => keepalive_idle,
    };
    tcb.keepalive_probes = 0;
    tcb.waits_until = wait_ticks.map_or(Deadline::NONE, |wait| Deadline::at(cx.now.tick().plus(wait)));
}

/// A segment with an acceptable acknowledgment has arrived; before it SND.UNA and SND.WND were these. The peer is there
/// (MUST-26), but what was sent has made progress only if it was acknowledged or may go on.
#[inline(always)]
pub(super) fn heard(tcb: &mut Tcb, snd_una_before: Seq, snd_wnd_before: u32, cx: &Context<'_>) {
    if !may_run(tcb, cx) {
        return;
    }
    let progressed = tcb.snd_una != snd_una_before || (snd_wnd_before == 0 && tcb.snd_wnd > 0);
    match waits_for(tcb) {
        WaitsFor::Handshake | WaitsFor::Text | WaitsFor::Fin | WaitsFor::Nothing => {}
        WaitsFor::Progress if !progressed => {}
        waits_for @ (WaitsFor::Progress | WaitsFor::Application | WaitsFor::Peer) => begin(tcb, waits_for, cx),
    }
}

/// Whether any wait runs or may begin. Most connections have neither user timeout nor keepalive, and are asked at each segment:
/// then only an application that does not close, or a peer that does not, is waited for.
#[inline]
fn may_run(tcb: &Tcb, cx: &Context<'_>) -> bool {
    let bounded = matches!(tcb.state, State::CloseWait | State::FinWait2);
    bounded || tcb.waits_until.is_set() || cx.options.user_timeout.is_some() || cx.options.keepalive.is_some()
}

/// The application has queued something, or a FIN; `was_idle` if nothing was under way before.
#[inline]
pub(super) fn queued(tcb: &mut Tcb, was_idle: bool, cx: &Context<'_>) {
    if was_idle {
        restart(tcb, cx);
    }
}

/// The ACK of the peer's FIN leaves alone: the application has not closed at once.
#[inline]
pub(super) fn acknowledged_alone(tcb: &mut Tcb, cx: &Context<'_>) {
    if tcb.state == State::CloseWait && waits_for(tcb) == WaitsFor::Application {
        restart(tcb, cx);
    }
}

/// The options have changed. What the handshake and the peer's FIN wait for is none of theirs.
pub(super) fn options_changed(tcb: &mut Tcb, cx: &Context<'_>) {
    match waits_for(tcb) {
        WaitsFor::Handshake | WaitsFor::Text | WaitsFor::Fin | WaitsFor::Nothing => {}
        WaitsFor::Progress | WaitsFor::Application | WaitsFor::Peer => restart(tcb, cx),
    }
}

/// Nothing that was queued waits to be sent or acknowledged.
#[inline]
pub(super) fn is_idle(tcb: &Tcb) -> bool {
    tcb.flight() == 0 && !output::has_unsent(tcb)
}

/// The wait is over.
pub(super) fn due(tcb: &mut Tcb, cx: &Context<'_>, out: &mut Outcome) {
    tcb.waits_until = Deadline::NONE;
    match waits_for(tcb) {
        // The shard has looked to it.
        WaitsFor::Text | WaitsFor::Nothing => {}
        WaitsFor::Handshake | WaitsFor::Fin => timeouts::end(tcb, out),
        WaitsFor::Progress => {
            out.note = Some(Note::UserTimeout);
            abort(tcb, out);
        }
        WaitsFor::Application => {
            out.close_wait_lasts = true;
            if cx.options.keepalive.is_some() {
                keepalive(tcb, cx, out);
            }
        }
        WaitsFor::Peer => keepalive(tcb, cx, out),
    }
}

/// One probe, which the peer answers with an ACK; lost answers are forgiven until the last (MUST-29).
fn keepalive(tcb: &mut Tcb, cx: &Context<'_>, out: &mut Outcome) {
    let Some(keepalive) = cx.options.keepalive else { return };
    if tcb.keepalive_probes >= keepalive.count {
        out.note = Some(Note::KeepaliveTimeout);
        return abort(tcb, out);
    }
    out.note = Some(Note::KeepaliveProbe);
    tcb.keepalive_probes += 1;
    tcb.owed.add(Owed::PROBE);
    tcb.waits_until = Deadline::at(cx.now.tick().plus(ticks(keepalive.interval)));
}

/// For how long at least nothing that is queued has moved, as the doublings of the time-out tell, ms. 0 before the
/// handshake is over.
pub fn stalled_ms(tcb: &Tcb) -> u32 {
    match tcb.state {
        State::Closed | State::SynSent | State::SynReceived => 0,
        State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait | State::Closing | State::LastAck => {
            // Those that have passed were half of the next one, a quarter, and so on.
            let next_ms = recovery::time_out_ms(tcb);
            // The backoff may outlast progress, but what a closed window answers ends only the count of retransmissions.
            let doubled = if tcb.snd_wnd > 0 { tcb.rto.backoff.min(tcb.retries) } else { tcb.rto.backoff };
            next_ms - next_ms.checked_shr(doubled.into()).unwrap_or(0)
        }
    }
}

/// The application has closed, and all that the connection still waits for is the peer's word on text or FIN: while it answers probes of
/// its closed window, nothing but a user timeout (MUST-37) or the shard's need of memory (T03) ends it.
pub fn is_left_to_the_peer(tcb: &Tcb) -> bool {
    tcb.facts.has(Fact::APP_CLOSED) && waits_for(tcb) == WaitsFor::Progress
}

/// The shard needs the memory of a connection that makes no progress (T03): it ends as if it had timed out.
pub fn give_up(tcb: &mut Tcb) -> Outcome {
    let mut out = Outcome { note: Some(Note::StalledEnded), ..Outcome::default() };
    abort(tcb, &mut out);
    out
}

/// Straight to CLOSED; the peer gets a RST, should it be there after all.
fn abort(tcb: &mut Tcb, out: &mut Outcome) {
    timeouts::end(tcb, out);
    tcb.owed.add(Owed::RESET);
}

#[inline]
fn waits_for(tcb: &Tcb) -> WaitsFor {
    match tcb.state {
        State::SynSent | State::SynReceived => WaitsFor::Handshake,
        State::Established | State::CloseWait if tcb.facts.has(Fact::ACCEPT_DEFERRED) => WaitsFor::Text,
        State::FinWait2 if tcb.facts.has(Fact::APP_CLOSED) => WaitsFor::Fin,
        State::FinWait1 | State::Closing | State::LastAck => WaitsFor::Progress,
        State::Established | State::FinWait2 | State::CloseWait if !is_idle(tcb) => WaitsFor::Progress,
        State::CloseWait => WaitsFor::Application,
        State::Established | State::FinWait2 => WaitsFor::Peer,
        State::Closed => WaitsFor::Nothing,
    }
}
