//! RACK-TLP (RFC 8985): losses found by time, and a probe for those at the tail that nothing else would show.
//!
//! Times are microseconds, and SRTT stands for the smallest round trip. What was sent before the scoreboard was on counts
//! as sent one SRTT before that, which is never later than it was.

use super::sack::{Delivered, Scoreboard};
use super::tcb::Tcb;
use crate::seq::Seq;
use crate::tick::{Deadline, Micros, Tick};

/// RACK's and TLP's variables beside the scoreboard's ranges.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Rack {
    /// RACK.xmit_ts, RACK.end_seq and RACK.rtt: what was sent last of all that the peer has.
    latest: Option<Latest>,
    /// The probe that is out.
    pub(super) probe: Option<Probe>,
    /// When cwnd was last reduced.
    pub(super) reduced_at: Option<Micros>,
    /// The retransmission deadline to the microsecond, beside the tick that it is the exact time of.
    pub(super) due: Option<(Deadline, Micros)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Latest {
    sent_at: Micros,
    end: Seq,
    rtt_us: u32,
}

/// A tail loss probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Probe {
    /// It has yet to be sent.
    Due,
    /// New octets were sent, up to TLP.end_seq.
    Sent(Seq),
    /// The last octets were sent again, up to TLP.end_seq.
    SentAgain(Seq),
}

/// RACK.reordering_seen, RACK.reo_wnd_mult and RACK.reo_wnd_persist: how wide the reordering window is, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Reordering {
    /// Quarters of SRTT in the lowest three bits, 0 while no reordering was seen; above them the recoveries for which they
    /// still hold.
    packed: u8,
}

impl Reordering {
    /// The width in quarters of SRTT; 0 while no reordering was seen.
    #[inline]
    pub(super) const fn quarters(self) -> u8 {
        self.packed & QUARTERS
    }

    /// Reordering was seen for the first time, or a D-SACK has come since.
    pub(super) fn widen(&mut self) {
        let quarters = self.quarters();
        let persist = if quarters == 0 { 0 } else { PERSIST_RECOVERIES };
        self.packed = (quarters + 1).min(REORDERING_MAX) | persist << QUARTERS.count_ones();
    }

    /// A recovery is over: after so many without a D-SACK the window is as wide as at first.
    pub(super) fn recovered(&mut self) {
        let persist = (self.packed >> QUARTERS.count_ones()).saturating_sub(1);
        let quarters = if persist == 0 { self.quarters().min(1) } else { self.quarters() };
        self.packed = quarters | persist << QUARTERS.count_ones();
    }
}

/// What [`detect`] has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Found {
    /// Something is lost that had been sent again since cwnd was last reduced (RFC 5681 4.3).
    pub(super) lost_again: bool,
    /// Something will be lost in so many microseconds if it is not acknowledged.
    pub(super) wait_us: Option<u32>,
}

impl Rack {
    /// RACK_update: octets were delivered. What was sent again and came sooner than a round trip takes was not that (RFC 8985
    /// 6.2 step 2).
    pub(super) fn delivered(&mut self, octets: &Delivered, now: Micros, srtt_us: u32) {
        let rtt_us = now.since(octets.sent_at);
        if octets.again && rtt_us < srtt_us / 2 {
            return;
        }
        if self.latest.is_none_or(|latest| sent_after(octets.sent_at, octets.end, latest.sent_at, latest.end)) {
            self.latest = Some(Latest { sent_at: octets.sent_at, end: octets.end, rtt_us });
        }
    }

    /// A time-out has given up all that was sent: what came before it tells nothing of what follows.
    pub(super) const fn timed_out(&mut self) {
        self.latest = None;
        self.probe = None;
    }

    /// TLP_process_ack: the probe is answered. Returns whether it has made good a loss, to which the window must react.
    pub(super) fn probe_answered(&mut self, ack: Seq, duplicate: Option<(Seq, Seq)>, is_plain_duplicate: bool) -> bool {
        match self.probe {
            Some(Probe::Sent(end)) if ack.ge(end) => {
                self.probe = None;
                false
            }
            Some(Probe::SentAgain(end)) if ack.ge(end) => {
                let came_twice = duplicate.is_some_and(|(_, right)| right == end);
                let repaired = !came_twice && ack.gt(end);
                if came_twice || repaired || is_plain_duplicate {
                    self.probe = None;
                }
                repaired
            }
            _ => false,
        }
    }
}

/// RACK_detect_loss: what was sent before something that the peer has is lost once its round trip and the reordering window
/// are over.
pub(super) fn detect(board: &mut Scoreboard, now: Micros, window_us: u32) -> Found {
    let mut found = Found::default();
    let Rack { latest: Some(latest), reduced_at, .. } = board.rack else { return found };
    board.lose_if(|range| {
        if !sent_after(latest.sent_at, latest.end, range.sent_at, range.end) {
            return false;
        }
        let remaining = now.until(range.sent_at.plus(latest.rtt_us.saturating_add(window_us)));
        if remaining > 0 {
            found.wait_us = found.wait_us.max(Some(remaining));
            return false;
        }
        found.lost_again |= range.again && reduced_at.is_none_or(|at| at.is_at_or_before(range.sent_at));
        true
    });
    found
}

/// RACK_update_reo_wnd: how long something may be overtaken before it counts as lost, us.
pub(super) fn reordering_window(tcb: &Tcb, board: &Scoreboard) -> u32 {
    let srtt_us = least_srtt_us(tcb);
    match tcb.recovery.reordering.quarters() {
        0 if !tcb.recovery.is_open() || board.sacked() >= super::sack::DUP_THRESH * u32::from(tcb.mss) => 0,
        times => (srtt_us / 4).saturating_mul(times.max(1).into()).min(srtt_us),
    }
}

/// SRTT, us, but at least what timestamps can tell.
pub(super) fn least_srtt_us(tcb: &Tcb) -> u32 {
    tcb.rto.srtt_us.max(TICK_US)
}

/// TLP_calc_PTO: how long after the last transmission a probe is worth it, us; none if the time-out comes first.
#[inline]
pub(super) fn probe_after_us(tcb: &Tcb) -> Option<u32> {
    if tcb.rto.srtt_us == 0 {
        return None;
    }
    let delay = if tcb.flight() <= u32::from(tcb.mss) { ACK_DELAY_US } else { 0 };
    let after_us = (2 * tcb.rto.srtt_us).max(PROBE_US_MIN) + delay;
    (after_us < tcb.rto.current_ms() * TICK_US).then_some(after_us)
}

/// RACK_sent_after.
fn sent_after(at: Micros, end: Seq, other_at: Micros, other_end: Seq) -> bool {
    other_at.is_before(at) || (at == other_at && end.gt(other_end))
}

/// The bits of [`Reordering`] that hold its width.
const QUARTERS: u8 = 7;

/// Largest RACK.reo_wnd_mult: four quarters of SRTT are all that the reordering window may be.
const REORDERING_MAX: u8 = 4;

/// RACK.reo_wnd_persist: recoveries after which a wide window is forgotten. Origin: RFC 8985 6.2 step 4.
const PERSIST_RECOVERIES: u8 = 16;

/// TLP.max_ack_delay, us: how long a peer may keep the ACK of a lone segment. Origin: RFC 8985 7.2.
const ACK_DELAY_US: u32 = 200_000;

/// Shortest time to a probe, us. Origin: RFC 8985 has none; smaller probes peers that another process keeps from answering.
const PROBE_US_MIN: u32 = 1000;

/// Microseconds per tick.
pub(super) const TICK_US: u32 = 1_000_000 / Tick::PER_SECOND;

/// Longest SRTT of a short path, us, where a probe is the last segment again and the scoreboard stays for a while after a
/// loss. Origin: a quarter of the delay of an ACK; on a longer path what is sent twice costs more than that delay, and a
/// granule of the wheel is not much.
pub(super) const SHORT_PATH_US: u32 = 10_000;

/// How long a path counts as one that loses, us. Origin: a thousand segments of a short path, of which two or three may be lost.
pub(super) const LOSSY_US: u32 = 100_000;
