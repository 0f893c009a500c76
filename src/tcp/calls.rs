//! RFC 9293 3.10.2 to 3.10.5: what the application asks of a connection.

use super::congestion::Congestion;
use super::state::{CloseReason, State};
use super::tcb::{Fact, Owed, Tcb};
use super::{Context, output, waits};
use crate::tick::{Deadline, Tick};

/// Why the state does not allow a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The handshake has not completed.
    NotOpen,
    /// Our direction is closed already.
    Closing,
    /// The connection has ended.
    Ended,
}

/// SEND: how many of `offered` octets the send buffer takes.
#[inline]
pub fn send_room(tcb: &Tcb, offered: usize, cx: &Context<'_>) -> Result<usize, Refused> {
    match tcb.state {
        State::Established | State::CloseWait if !tcb.facts.has(Fact::FIN_QUEUED) => {
            let room = cx.send_buffer_bytes().saturating_sub(tcb.send_queued_bytes());
            Ok(offered.min(room as usize))
        }
        State::SynSent | State::SynReceived => Err(Refused::NotOpen),
        State::Closed => Err(Refused::Ended),
        State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait | State::Closing | State::LastAck => {
            Err(Refused::Closing)
        }
    }
}

/// SEND, second half: `taken` octets are in the send buffer.
#[inline]
pub fn sent(tcb: &mut Tcb, taken: usize, cx: &Context<'_>) {
    let was_idle = waits::is_idle(tcb);
    if was_idle {
        restart_after_silence(tcb, cx);
    }
    tcb.send_end += taken as u32;
    tcb.owed.add(Owed::DATA);
    waits::queued(tcb, was_idle, cx);
}

/// RFC 5681 4.1: after a silence longer than the time-out the window says nothing of the path any more.
#[inline]
fn restart_after_silence(tcb: &mut Tcb, cx: &Context<'_>) {
    let restart = Congestion::initial_window(tcb.mss.into());
    let silent = || tcb.timed.silent_for(cx.now.tick()).is_some_and(|ticks| ticks > tcb.rto.current_ms());
    if tcb.congestion.cwnd > restart && silent() {
        tcb.congestion.cwnd = restart;
    }
}

/// RECEIVE: the application has taken `taken` octets; the window may open.
#[inline]
pub fn received(tcb: &mut Tcb, taken: u32, cx: &Context<'_>) {
    tcb.unread_bytes -= taken;
    window_opens(tcb, cx);
}

/// A window that is larger than it was said to be is worth a segment when what was said is small, or so small that the peer's
/// silly-window avoidance waits for more; otherwise it rides on ACKs.
#[inline]
fn window_opens(tcb: &mut Tcb, cx: &Context<'_>) {
    if !tcb.state.can_receive() {
        return;
    }
    let buffer = output::receive_buffer_bytes(tcb, cx);
    let free = buffer.saturating_sub(tcb.unread_bytes);
    let step = output::window_step(tcb, cx);
    // Less than a unit was said to be nothing.
    let small = tcb.rcv_wnd() < (buffer / 8).max(step).max(output::window_unit(tcb));
    if small && free.saturating_sub(tcb.rcv_wnd()) >= step {
        tcb.owed.add(Owed::WINDOW_UPDATE);
    }
}

/// What CLOSE comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// A FIN follows what is queued, or has already.
    FinFollows,
    /// The connection is gone at once; nobody needs to be told on the wire (SYN-SENT).
    Gone,
    /// Bytes were not read: the connection is aborted with a RST (RFC 2525 2.17).
    Aborts,
}

/// CLOSE of our direction; with `both`, the application takes no more bytes either.
#[inline]
pub fn close(tcb: &mut Tcb, both: bool, cx: &Context<'_>) -> Result<Closed, Refused> {
    if both && tcb.unread_bytes > 0 && tcb.state != State::Closed {
        return Ok(Closed::Aborts);
    }
    let next = match tcb.state {
        State::Closed => return Err(Refused::Ended),
        State::SynSent => return Ok(Closed::Gone),
        // An active open that has crossed a SYN: the FIN waits for the handshake (RFC 9293 3.10.4).
        State::SynReceived if !tcb.facts.has(Fact::FIN_QUEUED) => State::SynReceived,
        State::Established => State::FinWait1,
        State::CloseWait => State::LastAck,
        State::SynReceived | State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck => {
            if !both {
                return Err(Refused::Closing);
            }
            tcb.facts.add(Fact::APP_CLOSED);
            if tcb.state == State::FinWait2 {
                waits::restart(tcb, cx);
            }
            return Ok(Closed::FinFollows);
        }
    };
    let was_idle = waits::is_idle(tcb);
    tcb.state = next;
    tcb.facts.add(Fact::FIN_QUEUED);
    tcb.facts.add_if(Fact::APP_CLOSED, both);
    tcb.owed.add_if(Owed::DATA, next != State::SynReceived);
    waits::queued(tcb, was_idle, cx);
    Ok(Closed::FinFollows)
}

/// ABORT (RFC 9293 3.10.5) of a connection that has not ended: straight to CLOSED, with a RST for the peer where it is owed.
pub fn abort(tcb: &mut Tcb) {
    let owes_reset = abort_owes_reset(tcb);
    tcb.end(CloseReason::Aborted);
    tcb.owed.set(Owed::RESET, owes_reset);
}

/// Whether ABORT gives the peer a RST. Once both FINs have been sent there is nothing to abort any more.
pub(super) fn abort_owes_reset(tcb: &Tcb) -> bool {
    match tcb.state {
        State::Closed | State::SynSent => false,
        State::SynReceived | State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait => true,
        // The RFC enters these with everything queued on its way; here a FIN may still wait behind text.
        State::Closing | State::LastAck => !tcb.fin_is_sent(),
    }
}

/// The connection's options have changed.
pub fn options_changed(tcb: &mut Tcb, cx: &Context<'_>) {
    tcb.mss = tcb.mss.min(cx.options.mss_max.unwrap_or(u16::MAX));
    // What Nagle's algorithm holds back may go now.
    let unsent = tcb.state.can_send() && output::has_unsent(tcb);
    tcb.owed.add_if(Owed::DATA, unsent);
    window_opens(tcb, cx);
    waits::options_changed(tcb, cx);
}

/// Accepting is deferred until text comes, or until then; the caller looks whether it has.
pub fn defer_accept(tcb: &mut Tcb, until: Tick) {
    tcb.facts.add(Fact::ACCEPT_DEFERRED);
    tcb.waits_until = Deadline::at(until);
}

/// The application hears of the connection. Returns whether that was deferred, and another wait begins.
#[inline]
pub fn accept(tcb: &mut Tcb, cx: &Context<'_>) -> bool {
    let waits = tcb.facts.take(Fact::ACCEPT_DEFERRED) && tcb.state != State::Closed;
    if waits {
        waits::restart(tcb, cx);
    }
    waits
}
