//! Loss recovery: when something is taken to be lost, and when that is over.
//!
//! With a [`Scoreboard`] by SACK (RFC 6675) and time (RFC 8985), without one by duplicate ACKs alone (NewReno, RFC 6582).

use super::congestion::{Conditions, Congestion};
use super::rack::{self, Found, Probe, Reordering};
use super::sack::{self, Scoreboard};
use super::tcb::{Owed, Tcb};
use super::{Context, output};
use crate::seq::Seq;
use crate::tick::{Deadline, Micros, Now};

/// Loss recovery of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// One past the highest octet sent when recovery began, or at a time-out: once everything before it is
    /// acknowledged, recovery ends. One past RFC 6582's "recover" and RFC 6675's RecoveryPoint; before SND.UNA if there
    /// was none.
    recover: Seq,
    /// Duplicate ACKs in a row.
    pub duplicates: u8,
    phase: Phase,
    /// What the retransmission deadline is for.
    timer: Timer,
    /// How far segments may be overtaken (RFC 8985 6.2 step 4).
    pub(super) reordering: Reordering,
}

/// What goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Phase {
    /// Nothing is being recovered.
    #[default]
    Open,
    /// Fast recovery.
    Fast,
    /// What a time-out has given up is sent again.
    Loss,
    /// The same after a time-out in fast recovery or after a tail loss probe: time-outs go on from the one that held there.
    Relapse,
}

/// What the retransmission deadline is for: a connection is on the wheel once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Timer {
    /// The retransmission or persist time-out (RFC 6298, RFC 9293 3.8.6.1).
    #[default]
    Retransmission,
    /// The tail loss probe (RFC 8985 7).
    Probe,
    /// The reordering window (RFC 8985 6).
    Reordering,
}

/// The SACK side of an arriving segment.
#[derive(Debug)]
pub struct Sack<'a> {
    /// The connection's scoreboard, if it has one.
    pub board: Option<&'a mut Scoreboard>,
    /// The segment's blocks.
    pub blocks: &'a [(Seq, Seq)],
}

/// What an acceptable ACK says beside its SACK blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// SEG.ACK; below SND.UNA if the segment was overtaken.
    pub ack: Seq,
    /// Octets more that are acknowledged. SND.UNA has moved already.
    pub acked: u32,
    /// It is a duplicate ACK as RFC 5681 2 has it.
    pub duplicate: bool,
}

impl Recovery {
    /// The state after the handshake.
    pub fn start(snd_una: Seq) -> Recovery {
        Recovery { recover: snd_una.back(1), ..Recovery::default() }
    }

    /// Nothing is being recovered.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// What a time-out in fast recovery or after a tail loss probe has given up is sent again.
    #[inline]
    pub fn has_relapsed(&self) -> bool {
        self.phase == Phase::Relapse
    }

    /// Octets that limited transmit lets leave beyond cwnd (RFC 3042): one segment for each of the first two duplicate ACKs.
    #[inline]
    pub fn limited_transmit(&self, mss: u32) -> u32 {
        if self.duplicates > 0 && self.is_open() { u32::from(self.duplicates.min(2)) * mss } else { 0 }
    }

    /// The retransmission timer expired, `probed` if that came after a tail loss probe: recovery ends, and none begins
    /// for what was sent before `snd_nxt`.
    pub fn timed_out(&mut self, snd_nxt: Seq, probed: bool) {
        let phase = match self.phase {
            Phase::Open if probed => Phase::Relapse,
            Phase::Open | Phase::Loss => Phase::Loss,
            Phase::Fast | Phase::Relapse => Phase::Relapse,
        };
        *self = Recovery { recover: snd_nxt, phase, reordering: self.reordering, ..Recovery::default() };
    }

    /// What the deadline that has come was for.
    pub fn take_timer(&mut self) -> Timer {
        core::mem::take(&mut self.timer)
    }

    /// `acked` octets of new data were acknowledged up to `snd_una`. Returns whether the first unacknowledged segment
    /// must be resent at once (a partial acknowledgment during recovery, RFC 6582 3.2 step 3).
    #[inline(always)]
    fn acknowledged(&mut self, window: &mut Congestion, acked: u32, snd_una: Seq, conditions: &Conditions) -> bool {
        let &Conditions { mss, flight, .. } = conditions;
        self.duplicates = 0;
        let done = snd_una.ge(self.recover);
        // Keeps "recover" from falling half the sequence space behind on a connection without losses.
        self.recover = self.recover.max(snd_una.back(1));
        if self.phase != Phase::Fast {
            window.acknowledged(acked, conditions);
            if done {
                self.end();
            }
            return false;
        }
        if done {
            self.end();
            window.cwnd = window.ssthresh.min(flight.max(mss).saturating_add(mss));
            return false;
        }
        window.cwnd = window.cwnd.saturating_sub(acked).saturating_add(mss).max(mss);
        true
    }

    /// Everything is acknowledged that recovery was for.
    #[inline]
    fn end(&mut self) {
        if self.phase != Phase::Open {
            self.phase = Phase::Open;
            self.reordering.recovered();
        }
    }

    /// A duplicate ACK (RFC 5681 2). Returns whether to fast-retransmit now (the third in a row).
    #[cold]
    #[inline(never)]
    fn duplicate(&mut self, window: &mut Congestion, snd_una: Seq, snd_nxt: Seq, conditions: &Conditions) -> bool {
        self.duplicates = self.duplicates.saturating_add(1);
        if self.phase == Phase::Fast {
            // T26: no more can have left the network than was in it when recovery began (RFC 5681 5).
            let inflated_max = window.ssthresh.saturating_add(self.recover - snd_una);
            if window.cwnd < inflated_max {
                window.cwnd = window.cwnd.saturating_add(conditions.mss);
            }
            return false;
        }
        // RFC 6582 3.2 step 2: no new recovery before more is acknowledged than was sent when the last began, or before the
        // time-out: what was sent again, and had come, brings duplicates as well.
        if self.duplicates != sack::DUP_THRESH as u8 || snd_una.le(self.recover) {
            return false;
        }
        // What limited transmit has sent beyond cwnd does not count (RFC 5681 3.2 step 2).
        window.reduce(&Conditions { flight: conditions.flight.min(window.cwnd), ..*conditions });
        window.cwnd += 3 * conditions.mss;
        self.recover = snd_nxt;
        self.phase = Phase::Fast;
        true
    }
}

/// An acceptable ACK has come that acknowledges more, or is a duplicate, or brings SACK blocks. Returns whether fast recovery
/// begins.
#[inline(always)]
pub fn heard(tcb: &mut Tcb, sack: Option<Sack<'_>>, heard: Heard, cx: &Context<'_>) -> bool {
    // RFC 6675 2: with SACK a duplicate brings news of what has come. Anyone can make a peer say again what it has said (T26).
    let brings_news = || !tcb.agreed.sack() || sack.as_ref().is_some_and(|sack| has_news(tcb, sack.blocks));
    let duplicate = heard.duplicate && brings_news();
    let board = sack.and_then(|sack| begun(tcb, sack, cx));
    let begins = match board {
        Some((board, blocks)) => return by_scoreboard(tcb, board, blocks, heard, cx),
        None => by_duplicates(tcb, heard.acked, duplicate, cx),
    };
    if heard.acked > 0 || begins {
        arm(tcb, cx);
    }
    begins
}

/// The scoreboard while it is on. While everything is sent again from the first octet on it is not: blocks would speak of what
/// has not been sent again.
#[inline]
pub(super) fn in_use<'a>(tcb: &Tcb, board: &'a mut Scoreboard) -> Option<&'a mut Scoreboard> {
    if board.is_on() && tcb.snd_resume != tcb.snd_nxt {
        board.clear();
    }
    board.is_on().then_some(board)
}

/// Whether the scoreboard stays although nothing is missing: while more is sent on a short path that has just lost
/// something, what is lost next shows by its exact deadlines.
pub fn stays(tcb: &Tcb, board: &Scoreboard, now: Now) -> bool {
    let lossy = board.rack.reduced_at.is_some_and(|at| now.micros().since(at) < rack::LOSSY_US);
    lossy && tcb.rto.srtt_us <= rack::SHORT_PATH_US && (tcb.flight() > 0 || output::has_unsent(tcb))
}

/// The scoreboard in use for what is sent next, or begun now because it stays.
pub(super) fn in_use_to_send<'a>(tcb: &Tcb, board: &'a mut Scoreboard, cx: &Context<'_>) -> Option<&'a mut Scoreboard> {
    // With nothing in flight a probe is one of the window.
    if !board.is_on() && tcb.flight() == 0 && !tcb.owed.has(Owed::PROBE) && stays(tcb, board, cx.now) {
        restart(tcb, board, cx);
        return Some(board);
    }
    in_use(tcb, board)
}

/// The scoreboard in use, or begun now because the segment's blocks are a reason to.
#[cold]
#[inline(never)]
fn begun<'a>(tcb: &mut Tcb, sack: Sack<'a>, cx: &Context<'_>) -> Option<(&'a mut Scoreboard, &'a [(Seq, Seq)])> {
    let Sack { board, blocks } = sack;
    let board = board?;
    let in_use = in_use(tcb, board).is_some();
    if !in_use && (tcb.snd_resume != tcb.snd_nxt || !has_news(tcb, blocks)) {
        return None;
    }
    if !in_use {
        begin(tcb, board, cx);
    }
    Some((board, blocks))
}

/// Whether the blocks speak of anything in flight.
fn has_news(tcb: &Tcb, blocks: &[(Seq, Seq)]) -> bool {
    blocks.iter().any(|&block| sack::is_valid(block, tcb.snd_una, tcb.snd_nxt))
}

/// Turns the scoreboard on for what is in flight.
pub(super) fn begin(tcb: &mut Tcb, board: &mut Scoreboard, cx: &Context<'_>) {
    restart(tcb, board, cx);
    if tcb.recovery.phase == Phase::Fast {
        // From here on the pipe is known: the window need not be inflated for what has left it.
        tcb.congestion.cwnd = tcb.congestion.cwnd.min(tcb.congestion.ssthresh);
    }
}

fn restart(tcb: &Tcb, board: &mut Scoreboard, cx: &Context<'_>) {
    let reduced_at = board.rack.reduced_at;
    board.begin(tcb.snd_una, tcb.snd_nxt, cx.now.micros().back(rack::least_srtt_us(tcb)));
    board.rack.reduced_at = reduced_at;
}

#[inline(always)]
fn by_duplicates(tcb: &mut Tcb, acked: u32, duplicate: bool, cx: &Context<'_>) -> bool {
    let conditions = tcb.conditions(cx);
    let open = tcb.recovery.is_open();
    if acked > 0 {
        let resend = tcb.recovery.acknowledged(&mut tcb.congestion, acked, tcb.snd_una, &conditions);
        tcb.owed.set(Owed::RESEND_FIRST, resend);
    } else if duplicate {
        let resend = tcb.recovery.duplicate(&mut tcb.congestion, tcb.snd_una, tcb.snd_nxt, &conditions);
        tcb.owed.add_if(Owed::RESEND_FIRST, resend);
        tcb.owed.add(Owed::DATA);
    }
    open && tcb.recovery.phase == Phase::Fast
}

/// RFC 6675 5 and RFC 8985 6.2 for one ACK. Not inlined: few ACKs tell of a loss.
#[cold]
#[inline(never)]
fn by_scoreboard(
    tcb: &mut Tcb,
    board: &mut Scoreboard,
    blocks: &[(Seq, Seq)],
    Heard { ack, acked, duplicate }: Heard,
    cx: &Context<'_>,
) -> bool {
    let (now, srtt_us) = (cx.now.micros(), tcb.rto.srtt_us);
    // Of an ACK that was overtaken, what is acknowledged since had come for the first time (RFC 2883 4).
    let twice = sack::duplicate(blocks, ack);
    let news = &blocks[usize::from(twice.is_some())..];
    let seen = tcb.recovery.reordering.quarters() > 0;
    let (mut rack, mut reordered) = (board.rack, twice.is_some() && seen);
    let mut delivered = |octets| {
        rack.delivered(&octets, now, srtt_us);
        reordered |= octets.reordered && !seen;
    };
    board.advance(tcb.snd_una, &mut delivered);
    let sacked = board.take(news, &mut delivered);
    let repaired = rack.probe_answered(ack, twice, duplicate && blocks.is_empty());
    board.rack = rack;
    // RFC 8985 6.2 step 4: wider once there is reordering, and again with each D-SACK.
    if reordered {
        tcb.recovery.reordering.widen();
    }
    if twice.is_some() && acked > 0 {
        // What was sent again has been answered: the backoff is not for the path, and ACKs of what was sent first were lost.
        tcb.rto.progressed();
    }
    let partial = count_acknowledged(tcb, board, acked, sacked > 0 || (duplicate && !tcb.agreed.sack()), cx);
    if repaired && tcb.recovery.is_open() {
        reduce(tcb, board, cx);
    }
    let found = find_losses(tcb, board, partial, cx);
    let begins = react(tcb, board, found, cx);
    // Recovery begins with a time-out of its own: no probe is due in it (RFC 8985 7.2).
    if acked > 0 || begins || found.wait_us.is_some() || (sacked > 0 && tcb.recovery.is_open()) {
        arm_exactly(tcb, board, found.wait_us, cx);
    }
    tcb.owed.add(Owed::DATA);
    begins
}

/// Counts duplicates, ends recovery at the recovery point, and grows the window outside fast recovery. Returns whether this is
/// a partial acknowledgment.
fn count_acknowledged(tcb: &mut Tcb, board: &Scoreboard, acked: u32, duplicate: bool, cx: &Context<'_>) -> bool {
    // What waits to be sent again is held back by cwnd as much as what is new.
    let waits = matches!(tcb.recovery.phase, Phase::Loss | Phase::Relapse) && board.next_lost().is_some();
    let conditions = tcb.conditions(cx);
    let conditions = Conditions { limited: conditions.limited || waits, ..conditions };
    let recovery = &mut tcb.recovery;
    if acked == 0 {
        recovery.duplicates = recovery.duplicates.saturating_add(u8::from(duplicate));
        return false;
    }
    recovery.duplicates = 0;
    let fast = recovery.phase == Phase::Fast;
    if tcb.snd_una.ge(recovery.recover) {
        recovery.end();
        recovery.recover = recovery.recover.max(tcb.snd_una.back(1));
    }
    if !fast {
        tcb.congestion.acknowledged(acked, &conditions);
    }
    fast && recovery.phase == Phase::Fast
}

/// All that may be lost: by SACKed octets beyond it, by duplicates, by time.
fn find_losses(tcb: &Tcb, board: &mut Scoreboard, partial: bool, cx: &Context<'_>) -> Found {
    let mss = u32::from(tcb.mss);
    let found = rack::detect(board, cx.now.micros(), rack::reordering_window(tcb, board));
    if tcb.recovery.reordering.quarters() == 0 {
        board.mark_lost(mss);
        let enough = u32::from(tcb.recovery.duplicates) >= sack::DUP_THRESH && tcb.recovery.is_open();
        // A peer that has no room for what comes out of order says nothing of it: RFC 6582 then.
        if enough || (partial && board.sacked() == 0) {
            board.lose_first(mss);
        }
    }
    found
}

/// Fast recovery begins with the first loss; one that hits what was sent again counts once more (RFC 5681 4.3). Returns
/// whether it begins now.
fn react(tcb: &mut Tcb, board: &mut Scoreboard, found: Found, cx: &Context<'_>) -> bool {
    match tcb.recovery.phase {
        Phase::Open if board.next_lost().is_some() => {
            reduce(tcb, board, cx);
            tcb.recovery.recover = tcb.snd_nxt;
            tcb.recovery.phase = Phase::Fast;
            tcb.owed.add(Owed::RESEND_FIRST);
            true
        }
        Phase::Fast if found.lost_again => {
            reduce(tcb, board, cx);
            false
        }
        Phase::Open | Phase::Fast | Phase::Loss | Phase::Relapse => false,
    }
}

fn reduce(tcb: &mut Tcb, board: &mut Scoreboard, cx: &Context<'_>) {
    let (cwnd, conditions) = (tcb.congestion.cwnd, tcb.conditions(cx));
    // What limited transmit has sent beyond cwnd does not count (RFC 5681 3.2 step 2), nor what has left the network since.
    tcb.congestion.reduce(&Conditions { flight: conditions.flight.min(cwnd), ..conditions });
    board.rack.reduced_at = Some(cx.now.micros());
}

/// The reordering window is over (RFC 8985 6.3). Returns whether fast recovery begins.
pub(super) fn reordering_over(tcb: &mut Tcb, board: &mut Scoreboard, cx: &Context<'_>) -> bool {
    let Some(board) = in_use(tcb, board) else {
        arm(tcb, cx);
        return false;
    };
    let found = find_losses(tcb, board, false, cx);
    let begins = react(tcb, board, found, cx);
    // What still waits is for an acknowledgment to show, or the time-out: one deadline must not put off the other for ever.
    arm_exactly(tcb, board, None, cx);
    tcb.owed.add(Owed::DATA);
    begins
}

/// Sets the one deadline that losses have: the end of the reordering window, else a tail loss probe, else the time-out
/// (RFC 6298 5.2, 5.3; RFC 8985 7.2). Off when nothing is in flight.
#[inline(always)]
fn arm(tcb: &mut Tcb, cx: &Context<'_>) {
    if tcb.flight() == 0 {
        tcb.retransmit_at = Deadline::NONE;
        return;
    }
    let (timer, after) = match probe_after_us(tcb, None) {
        Some(after_us) => (Timer::Probe, in_ticks(after_us)),
        None => (Timer::Retransmission, time_out_ms(tcb)),
    };
    tcb.recovery.timer = timer;
    tcb.retransmit_at = Deadline::at(cx.now.tick().plus(after));
}

/// The same where there is a scoreboard, which keeps the deadline to the microsecond; `wait_us` is what is left of the reordering
/// window.
fn arm_exactly(tcb: &mut Tcb, board: &mut Scoreboard, wait_us: Option<u32>, cx: &Context<'_>) {
    if tcb.flight() == 0 {
        tcb.retransmit_at = Deadline::NONE;
        return;
    }
    let (timer, after_us) = match (wait_us, probe_after_us(tcb, Some(board))) {
        (Some(wait_us), _) => (Timer::Reordering, wait_us.min(time_out_ms(tcb) * rack::TICK_US)),
        (None, Some(after_us)) => (Timer::Probe, after_us),
        // What the peer has, and what is out of order for it, it answers at once.
        (None, None) if is_probed(tcb, board) => (Timer::Retransmission, tcb.rto.in_fast_recovery_ms() * rack::TICK_US),
        (None, None) => (Timer::Retransmission, time_out_ms(tcb) * rack::TICK_US),
    };
    set_exactly(tcb, board, timer, after_us, cx);
}

fn set_exactly(tcb: &mut Tcb, board: &mut Scoreboard, timer: Timer, after_us: u32, cx: &Context<'_>) {
    let tick = Now::from_us(cx.now.us() + u64::from(after_us + rack::TICK_US - 1)).tick();
    tcb.recovery.timer = timer;
    tcb.retransmit_at = Deadline::at(tick);
    board.rack.due = Some((tcb.retransmit_at, cx.now.micros().plus(after_us)));
}

/// The retransmission deadline to the microsecond, where a scoreboard keeps it.
pub fn exact_deadline(tcb: &Tcb, board: &Scoreboard) -> Option<Micros> {
    let (of, at) = board.rack.due?;
    (of.is_set() && of == tcb.retransmit_at).then_some(at)
}

/// Whether the retransmission deadline has come.
pub(super) fn is_due(tcb: &Tcb, board: Option<&Scoreboard>, cx: &Context<'_>) -> bool {
    // The tick is never before the exact time, and tells times apart that microseconds do not: a process may have been
    // stopped for longer than half their wrap.
    let exact = board.and_then(|board| exact_deadline(tcb, board));
    tcb.retransmit_at.is_due(cx.now.tick()) || exact.is_some_and(|at| at.is_at_or_before(cx.now.micros()))
}

/// A tail loss probe has repeated the last segment, which is not acknowledged yet. Whether the probe came twice may be
/// told later; no deadline of what follows is for that.
pub(super) fn is_probed(tcb: &Tcb, board: &Scoreboard) -> bool {
    board.is_on() && matches!(board.rack.probe, Some(Probe::SentAgain(end)) if tcb.snd_una.lt(end))
}

/// Sets the retransmission or persist time-out, whatever else may be due.
pub(super) fn arm_time_out(tcb: &mut Tcb, cx: &Context<'_>) {
    tcb.recovery.timer = Timer::Retransmission;
    tcb.retransmit_at = Deadline::at(cx.now.tick().plus(time_out_ms(tcb)));
}

/// Something was sent: a deadline runs from now on (RFC 6298 5.1), and that of a probe begins again with each segment,
/// but never past the time-out (RFC 8985 7.2): of what was sent first and is being timed, or of the last progress. The
/// first segment of a burst is alone only for a moment: the next one takes the allowance for a delayed ACK back.
#[inline(always)]
pub(super) fn arm_after_sending(tcb: &mut Tcb, board: Option<&mut Scoreboard>, cx: &Context<'_>) {
    if let Some(board) = board {
        return arm_exactly_after_sending(tcb, board, cx);
    }
    let Some(due) = tcb.retransmit_at.tick() else { return arm(tcb, cx) };
    let Some(after_us) = probe_after_us(tcb, None) else { return };
    let probe = cx.now.tick().plus(in_ticks(after_us));
    let at = match tcb.recovery.timer {
        Timer::Reordering => return,
        Timer::Retransmission => probe.min(due),
        Timer::Probe => {
            let time_out = tcb.timed.sent_at().map_or(probe, |sent_at| sent_at.plus(time_out_ms(tcb)));
            probe.min(time_out.max(due))
        }
    };
    tcb.recovery.timer = Timer::Probe;
    tcb.retransmit_at = Deadline::at(at);
}

/// The same where there is a scoreboard.
#[cold]
#[inline(never)]
fn arm_exactly_after_sending(tcb: &mut Tcb, board: &mut Scoreboard, cx: &Context<'_>) {
    let until_us = |tick| cx.now.tick().until(tick).saturating_mul(rack::TICK_US);
    let exact = exact_deadline(tcb, board).map(|at| cx.now.micros().until(at));
    let Some(due_us) = exact.or_else(|| tcb.retransmit_at.tick().map(until_us)) else {
        return arm_exactly(tcb, board, None, cx);
    };
    let Some(after_us) = probe_after_us(tcb, Some(board)) else { return };
    let after_us = match tcb.recovery.timer {
        Timer::Reordering => return,
        Timer::Retransmission => after_us.min(due_us),
        Timer::Probe => {
            let time_out_us = tcb.timed.sent_at().map_or(after_us, |sent_at| until_us(sent_at.plus(time_out_ms(tcb))));
            after_us.min(time_out_us.max(due_us))
        }
    };
    set_exactly(tcb, board, Timer::Probe, after_us, cx);
}

/// When a probe is worth it, us from now (RFC 8985 7.2): only with SACK, outside recovery, for text, into an open window, not
/// after a time-out, and one at a time.
#[inline]
fn probe_after_us(tcb: &Tcb, board: Option<&Scoreboard>) -> Option<u32> {
    let may = tcb.agreed.sack()
        && tcb.recovery.is_open()
        && tcb.rto.backoff == 0
        && tcb.snd_una.lt(tcb.send_end)
        && tcb.snd_wnd > 0
        && board.is_none_or(|board| board.rack.probe.is_none() || !board.is_on());
    if may { rack::probe_after_us(tcb) } else { None }
}

/// So many microseconds in ticks, two at least: times are told to a tick, so that one could be none.
#[inline]
fn in_ticks(after_us: u32) -> u32 {
    after_us.div_ceil(rack::TICK_US).max(2)
}

/// The retransmission time-out now. In fast recovery nothing is acknowledged with delay (RFC 5681 4.2).
pub(super) fn time_out_ms(tcb: &Tcb) -> u32 {
    match tcb.recovery.phase {
        Phase::Open => tcb.rto.current_ms(),
        Phase::Fast | Phase::Relapse => tcb.rto.in_fast_recovery_ms(),
        Phase::Loss => tcb.rto.in_recovery_ms(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::congestion::CongestionControl;
    use crate::tick::Tick;

    const MSS: u32 = 1000;

    fn with_flight(flight: u32) -> Conditions {
        let algorithm = CongestionControl::Reno;
        Conditions { algorithm, mss: MSS, flight, limited: true, srtt_us: 0, now: Tick(1) }
    }

    /// Shows RFC 6582, RFC 2525 2.8.
    #[test]
    fn third_duplicate_halves_and_full_acknowledgment_ends_recovery() {
        let (mut window, mut recovery) = (Congestion::start(MSS, false), Recovery::start(Seq(0)));
        let (una, nxt, at) = (Seq(5000), Seq(15_000), with_flight(10_000));
        assert!(!recovery.duplicate(&mut window, una, nxt, &at));
        assert!(!recovery.duplicate(&mut window, una, nxt, &at));
        assert!(recovery.duplicate(&mut window, una, nxt, &at));
        assert_eq!((window.ssthresh, window.cwnd, recovery.is_open()), (5000, 8000, false));
        assert!(recovery.acknowledged(&mut window, 1000, Seq(6000), &with_flight(9000)), "a partial one resends");
        assert!(!recovery.acknowledged(&mut window, 9000, nxt, &with_flight(0)));
        assert!(recovery.is_open() && window.cwnd <= 5000);
    }

    /// Shows RFC 5681.
    #[test]
    fn what_limited_transmit_has_sent_does_not_widen_the_halved_window() {
        let (mut window, mut recovery) = (Congestion::start(MSS, false), Recovery::start(Seq(0)));
        for flight in [10_000, 11_000, 12_000] {
            recovery.duplicate(&mut window, Seq(0), Seq(flight), &with_flight(flight));
        }
        assert_eq!((window.ssthresh, recovery.is_open()), (5000, false));
    }

    #[test]
    fn t26_duplicates_inflate_the_window_by_no_more_than_was_in_flight() {
        let (mut window, mut recovery) = (Congestion::start(MSS, false), Recovery::start(Seq(0)));
        let at = with_flight(10_000);
        for _ in 0..1000 {
            recovery.duplicate(&mut window, Seq(5000), Seq(15_000), &at);
        }
        assert_eq!((window.ssthresh, window.cwnd), (5000, 15_000));
        recovery.acknowledged(&mut window, 4000, Seq(9000), &with_flight(6000));
        for _ in 0..1000 {
            recovery.duplicate(&mut window, Seq(9000), Seq(25_000), &at);
        }
        assert_eq!(window.cwnd, 12_000, "a partial acknowledgment leaves a segment more");
    }

    /// Shows RFC 6582.
    #[test]
    fn no_recovery_starts_before_more_is_acknowledged_than_a_time_out_covered() {
        let (mut window, mut recovery) = (Congestion::start(MSS, false), Recovery::start(Seq(0)));
        let at = with_flight(1000);
        recovery.timed_out(Seq(10_000), false);
        assert!(!(0..5).any(|_| recovery.duplicate(&mut window, Seq(0), Seq(10_000), &at)));
        // Exactly that: what was sent again and had come brings these. One octet more, and they tell of a loss.
        assert!(!recovery.acknowledged(&mut window, 10_000, Seq(10_000), &at) && recovery.is_open());
        assert!(!(0..5).any(|_| recovery.duplicate(&mut window, Seq(10_000), Seq(20_000), &at)));
        assert!(!recovery.acknowledged(&mut window, 1, Seq(10_001), &at));
        assert!((0..3).any(|_| recovery.duplicate(&mut window, Seq(10_001), Seq(20_000), &at)));
    }
}
