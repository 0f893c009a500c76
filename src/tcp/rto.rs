//! The retransmission time-out (RFC 6298; RFC 9293 3.8.1).

use crate::limits::{RTO_INITIAL_MS, RTO_MAX_MS, RTO_MIN_MS, RTO_MIN_PATIENT_MS, RTO_MIN_RECOVERING_MS};

/// Estimator and current time-out of one connection. Times in microseconds, so that short paths keep their digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rto {
    /// SRTT, us; 0 before the first measurement.
    pub srtt_us: u32,
    /// RTTVAR, us.
    pub rttvar_us: u32,
    /// RTO without backoff and minimum, ms.
    base_ms: u16,
    /// Times the RTO has been doubled since the last acknowledgment that measured the path or showed that it had done so (RFC 6298 5.5;
    /// Karn: one of what was sent again shows nothing).
    pub backoff: u8,
    patience: Patience,
}

/// Which minimum of the time-out holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Patience {
    /// How often the smallest time-out of fast recovery is doubled, in the lowest three bits; above them what is known of the peer.
    packed: u8,
}

impl Patience {
    const fn has(self, what: u8) -> bool {
        self.packed & what != 0
    }

    const fn doublings(self) -> u8 {
        self.packed & DOUBLINGS
    }

    fn set_doublings(&mut self, doublings: u8) {
        self.packed = self.packed & !DOUBLINGS | doublings.min(DOUBLINGS);
    }
}

impl Default for Rto {
    fn default() -> Rto {
        Rto { srtt_us: 0, rttvar_us: 0, base_ms: RTO_INITIAL_MS as u16, backoff: 0, patience: Patience::default() }
    }
}

impl Rto {
    /// Takes one round-trip time (RFC 6298 2.2, 2.3). Karn: the caller measures no retransmitted segment without
    /// timestamps (MUST-18).
    #[inline(always)]
    pub fn measured(&mut self, rtt_us: u32) {
        let rtt_us = rtt_us.clamp(1, RTO_MAX_MS * 1000);
        if self.srtt_us == 0 {
            self.srtt_us = rtt_us;
            self.rttvar_us = rtt_us / 2;
        } else {
            let error = self.srtt_us.abs_diff(rtt_us);
            self.rttvar_us = self.rttvar_us - self.rttvar_us / 4 + error / 4;
            self.srtt_us = self.srtt_us - self.srtt_us / 8 + rtt_us / 8;
        }
        // Both are at most RTO_MAX_MS: five times that is far from an overflow.
        let rto_us = self.srtt_us + (4 * self.rttvar_us).max(1000);
        self.base_ms = rto_us.div_ceil(1000).min(RTO_MAX_MS) as u16;
    }

    /// The time-out in force, ms: doubled per backoff, at most [`RTO_MAX_MS`] (RFC 6298 2.5).
    #[inline]
    pub fn current_ms(&self) -> u32 {
        let known = self.patience.packed & (TIMESTAMPS | DELAYS);
        self.at_least(if known == TIMESTAMPS { RTO_MIN_MS } else { RTO_MIN_PATIENT_MS })
    }

    /// The same in loss recovery.
    pub fn in_recovery_ms(&self) -> u32 {
        self.at_least(if self.patience.has(TIMESTAMPS) { RTO_MIN_MS } else { RTO_MIN_PATIENT_MS })
    }

    /// The same in fast recovery: the peer misses something and answers all that comes at once, so that on a short path four
    /// round trips are enough, unless the peer has been slower lately.
    pub fn in_fast_recovery_ms(&self) -> u32 {
        if !self.patience.has(TIMESTAMPS) {
            return self.in_recovery_ms();
        }
        let least_ms = RTO_MIN_RECOVERING_MS << self.patience.doublings();
        self.at_least((self.srtt_us / 250).max(least_ms).min(RTO_MIN_MS))
    }

    #[inline]
    fn at_least(&self, min_ms: u32) -> u32 {
        (u32::from(self.base_ms).max(min_ms) << self.backoff.min(16)).min(RTO_MAX_MS)
    }

    /// Timestamps were agreed: they show whether a time-out was spurious (RFC 3522), so that the smaller minimum does no harm twice.
    pub fn trust_timestamps(&mut self) {
        self.patience.packed |= TIMESTAMPS;
    }

    /// A time-out came although the octets had arrived, such as one on a peer that delays its ACKs for long: RFC 6298's minimum holds
    /// from now on, but for recovery.
    pub fn was_spurious(&mut self) {
        self.patience.packed |= DELAYS;
    }

    /// A time-out in fast recovery was answered. If it was spurious, the next one waits twice as long, otherwise half as long again:
    /// a peer that another process keeps from answering does so now and then.
    pub fn answered_in_fast_recovery(&mut self, was_spurious: bool) {
        let doublings = self.patience.doublings();
        self.patience.set_doublings(if was_spurious { doublings + 1 } else { doublings.saturating_sub(1) });
    }

    /// The timer has expired (RFC 6298 5.5).
    pub fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// The handshake is over. Without a measurement, and after a SYN that was sent again, the first time-out is three times as long
    /// (RFC 6298 5.7): the path may be slower than it was taken to be.
    #[inline]
    pub fn opened(&mut self, syn_was_lost: bool) {
        self.progressed();
        if syn_was_lost && self.srtt_us == 0 {
            self.base_ms = RTO_AFTER_LOST_SYN_MS;
        }
    }

    /// An acknowledgment says that the path needs no longer time-out: the backoff ends.
    pub fn progressed(&mut self) {
        self.backoff = 0;
    }
}

/// The first time-out for text where the SYN timed out and nothing was measured, ms. Origin: RFC 6298 5.7.
const RTO_AFTER_LOST_SYN_MS: u16 = 3000;

/// The bits of [`Patience`] that hold its doublings.
const DOUBLINGS: u8 = 7;

/// Timestamps tell whether a time-out was spurious.
const TIMESTAMPS: u8 = 8;

/// A time-out outside recovery was spurious: the peer delays its ACKs for longer than the smaller minimum.
const DELAYS: u8 = 16;

const _: () = assert!(RTO_MAX_MS <= u16::MAX as u32);
const _: () =
    assert!(RTO_MIN_RECOVERING_MS << DOUBLINGS >= RTO_MIN_MS, "doubled often enough it is no smaller than any other");

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows RFC 6298, RFC 2525 2.7.
    #[test]
    fn first_measurement_sets_srtt_and_half_of_it_as_variance() {
        let mut rto = Rto::default();
        assert_eq!(rto.current_ms(), 1000);
        rto.measured(800_000);
        assert_eq!((rto.srtt_us, rto.rttvar_us, rto.current_ms()), (800_000, 400_000, 2400));
    }

    /// Shows MUST-19, RFC 6298, RFC 2525 2.10.
    #[test]
    fn b11_backoff_doubles_up_to_the_maximum_and_ends_with_progress() {
        let mut rto = Rto::default();
        let mut waits = [0; 9];
        for wait in &mut waits {
            *wait = rto.current_ms();
            rto.back_off();
        }
        assert_eq!(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 64_000, 64_000]);
        rto.progressed();
        assert_eq!(rto.current_ms(), 1000);
    }

    #[test]
    fn steady_short_path_stays_at_the_minimum() {
        let mut rto = Rto::default();
        for _ in 0..100 {
            rto.measured(50);
        }
        assert_eq!(rto.current_ms(), RTO_MIN_PATIENT_MS);
        rto.trust_timestamps();
        rto.measured(50);
        assert_eq!((rto.current_ms(), rto.in_fast_recovery_ms()), (RTO_MIN_MS, RTO_MIN_RECOVERING_MS));
        rto.was_spurious();
        assert_eq!((rto.current_ms(), rto.in_recovery_ms()), (RTO_MIN_PATIENT_MS, RTO_MIN_MS));
        assert_eq!(rto.in_fast_recovery_ms(), RTO_MIN_RECOVERING_MS, "nothing is acknowledged late there");
    }

    #[test]
    fn spurious_time_outs_in_fast_recovery_make_the_next_later_and_others_sooner() {
        let mut rto = Rto::default();
        rto.trust_timestamps();
        rto.measured(50);
        for doubled in 1..20 {
            rto.answered_in_fast_recovery(true);
            let expected = (RTO_MIN_RECOVERING_MS << doubled.min(DOUBLINGS)).min(RTO_MIN_MS);
            assert_eq!((rto.in_fast_recovery_ms(), rto.current_ms()), (expected, RTO_MIN_MS));
        }
        for _ in 0..DOUBLINGS {
            rto.answered_in_fast_recovery(false);
        }
        assert_eq!(rto.in_fast_recovery_ms(), RTO_MIN_RECOVERING_MS);
    }

    #[test]
    fn minimum_in_fast_recovery_is_four_round_trips_of_a_short_path_only() {
        for (rtt_us, expected) in [(12_000, 48), (49_000, 196), (80_000, RTO_MIN_MS)] {
            let mut rto = Rto::default();
            rto.trust_timestamps();
            for _ in 0..100 {
                rto.measured(rtt_us);
            }
            let least = rto.in_fast_recovery_ms();
            assert!(least.abs_diff(expected) <= 1, "{rtt_us} us: {least}");
        }
    }
}
