//! CUBIC (RFC 9438): the window is a cubic function of the time since the last congestion event, and never less than what
//! Reno would have.
//!
//! All of it in integers. The curve is `W_max + C d^3` with `d = t - K`. Instead of the stage's start and K the moment is kept
//! at which the curve reaches W_max again ([`Cubic::inflection`]), so that `d` is one subtraction.

use super::{Algorithm, Conditions, Congestion};
use crate::tick::{Deadline, Tick};

/// What CUBIC remembers. Eight bytes of every TCB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Cubic {
    /// When the curve reaches `w_max`; none between two congestion avoidance stages.
    inflection: Deadline,
    /// W_max, segments; 0 when no congestion event is remembered.
    w_max: u16,
    /// W_est, what Reno would have, segments.
    w_est: u16,
}

impl Algorithm for Cubic {
    #[inline(never)]
    fn avoid(window: &mut Congestion, acked: u32, conditions: &Conditions) {
        let &Conditions { mss, now, srtt_us, .. } = conditions;
        let inflection = match window.cubic.inflection.tick() {
            Some(inflection) => inflection,
            None => begin_stage(window, conditions),
        };
        estimate_reno(window, acked, mss);
        let now_ms = since(now, inflection);
        let reno = u32::from(window.cubic.w_est).saturating_mul(mss);
        if w_cubic(window.cubic.w_max, now_ms, mss) < u64::from(reno) {
            window.cwnd = window.cwnd.max(reno);
            return;
        }
        let then_ms = now_ms.saturating_add((srtt_us / 1000) as i32);
        if then_ms > DISTANCE_MAX_MS {
            // The curve has long been steeper than anything that is allowed; staying here keeps ticks comparable.
            window.cubic.inflection = Deadline::at(now.back(DISTANCE_MAX_MS as u32));
        }
        let cwnd = u64::from(window.cwnd);
        let target = w_cubic(window.cubic.w_max, then_ms, mss).clamp(cwnd, cwnd + cwnd / 2);
        let growth = (target - cwnd) * u64::from(acked) / cwnd.max(1);
        window.cwnd = window.cwnd.saturating_add(growth.min(target - cwnd) as u32);
    }

    /// RFC 9438 4.6, 4.7 (fast convergence).
    fn reduced(window: &mut Congestion, conditions: &Conditions) -> u32 {
        let mss = conditions.mss;
        let segments = u16::try_from(window.cwnd / mss).unwrap_or(u16::MAX);
        let converges = segments < window.cubic.w_max;
        let w_max = if converges { u32::from(segments) * (BETA.1 + BETA.0) / (2 * BETA.1) } else { segments.into() };
        window.cubic = Cubic { inflection: Deadline::NONE, w_max: w_max as u16, w_est: 0 };
        (u64::from(conditions.flight) * u64::from(BETA.0) / u64::from(BETA.1)).max(2 * u64::from(mss)) as u32
    }

    /// RFC 9438 5.8: time in which the window was not used is no time for the curve.
    fn unused(window: &mut Congestion) {
        window.cubic.inflection = Deadline::NONE;
    }
}

/// A congestion avoidance stage begins: K (RFC 9438 4.2 equation 2) from here.
fn begin_stage(window: &mut Congestion, conditions: &Conditions) -> Tick {
    let &Conditions { mss, now, .. } = conditions;
    let segments = u16::try_from(window.cwnd / mss).unwrap_or(u16::MAX);
    let w_max = window.cubic.w_max.max(segments);
    let short_bytes = (u64::from(w_max) * u64::from(mss)).saturating_sub(u64::from(window.cwnd));
    // K = cbrt(short / C) s: in ms, cbrt(short / 0.4 x 10^9).
    let k_ms = cube_root(short_bytes * 2_500_000_000 / u64::from(mss));
    let inflection = now.plus(k_ms);
    window.cubic = Cubic { inflection: Deadline::at(inflection), w_max, w_est: segments };
    window.acked = 0;
    inflection
}

/// RFC 9438 4.3 equation 4: W_est grows by alpha segments per window acknowledged, alpha = 3 (1 - beta) / (1 + beta) until
/// it has come to where the window was before the congestion event, then 1.
fn estimate_reno(window: &mut Congestion, acked: u32, mss: u32) {
    let prior = u64::from(window.ssthresh) * u64::from(BETA.1) / u64::from(BETA.0);
    let regained = u64::from(window.cubic.w_est) * u64::from(mss) >= prior;
    let counted = if regained { acked } else { (u64::from(acked) * ALPHA.0 / ALPHA.1) as u32 };
    window.acked = window.acked.saturating_add(counted);
    if window.acked >= window.cwnd {
        window.acked -= window.cwnd;
        window.cubic.w_est = window.cubic.w_est.saturating_add(1);
    }
}

/// W_cubic, bytes, `ms` after the inflection (RFC 9438 4.2 equation 1).
fn w_cubic(w_max: u16, ms: i32, mss: u32) -> u64 {
    let ms = i64::from(ms.clamp(-DISTANCE_MAX_MS, DISTANCE_MAX_MS));
    let beyond = ms * ms * ms / 1000 * i64::from(mss) * 4 / 10_000_000;
    (i64::from(w_max) * i64::from(mss) + beyond).max(0) as u64
}

/// Milliseconds from `inflection` to `now`, negative before it.
fn since(now: Tick, inflection: Tick) -> i32 {
    now.since(inflection) as i32
}

/// The largest number whose cube is at most `value`, for values below 2^63.
fn cube_root(value: u64) -> u32 {
    let mut root = 0_u64;
    for bit in (0..21).rev() {
        let next = root | 1 << bit;
        root = if next * next * next <= value { next } else { root };
    }
    root as u32
}

/// beta_cubic (RFC 9438 4.6).
const BETA: (u32, u32) = (7, 10);

/// alpha_cubic = 3 (1 - 0.7) / (1 + 0.7) (RFC 9438 4.3).
const ALPHA: (u64, u64) = (9, 17);

/// The curve is followed this far from its inflection, ms: 400,000 segments.
const DISTANCE_MAX_MS: i32 = 100_000;

#[cfg(test)]
mod tests {
    use super::super::{Congestion, CongestionControl};
    use super::*;
    use proptest::prelude::*;

    /// The RFC's equations in floating point, segments and seconds.
    struct Oracle {
        cwnd: f64,
        w_max: f64,
        cwnd_prior: f64,
        k: f64,
        w_est: f64,
    }

    impl Oracle {
        fn curve(&self, t: f64) -> f64 {
            0.4 * (t - self.k).powi(3) + self.w_max
        }

        fn acknowledged(&mut self, segments: f64, t: f64, rtt: f64) {
            let alpha = if self.w_est >= self.cwnd_prior { 1.0 } else { 9.0 / 17.0 };
            self.w_est += alpha * segments / self.cwnd;
            if self.curve(t) < self.w_est {
                self.cwnd = self.cwnd.max(self.w_est);
            } else {
                let target = self.curve(t + rtt).clamp(self.cwnd, 1.5 * self.cwnd);
                self.cwnd += (target - self.cwnd) / self.cwnd * segments;
            }
        }
    }

    fn conditions(mss: u32, flight: u32, rtt_ms: u32, now: Tick) -> Conditions {
        Conditions { algorithm: CongestionControl::Cubic, mss, flight, limited: true, srtt_us: rtt_ms * 1000, now }
    }

    /// A window of `segments` that has just lost one and recovered.
    fn after_loss(segments: u32, mss: u32, now: Tick) -> Congestion {
        let mut window = Congestion { cwnd: segments * mss, ..Congestion::start(mss, false) };
        window.reduce(&conditions(mss, segments * mss, 10, now));
        window
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Shows MAY-18, RFC 9438.
        #[test]
        fn window_follows_the_equations(segments in 20..3000_u32, mss in 500..9000_u32, rtt_ms in 2..150_u32, origin: u32) {
            let start = Tick(origin);
            let mut window = after_loss(segments, mss, start);
            let w = f64::from(segments);
            let cwnd = f64::from(window.cwnd) / f64::from(mss);
            let k = ((w - cwnd) / 0.4).cbrt();
            let mut oracle = Oracle { cwnd, w_max: w, cwnd_prior: w, k, w_est: cwnd.floor() };
            let mut t_ms = 0;
            // Until well beyond the inflection, at 2 acknowledged segments an ACK.
            while f64::from(t_ms) < 1500.0 * k + 3000.0 && window.cwnd < 20_000 * mss {
                let acks = (window.cwnd / mss / 2).max(1);
                for _ in 0..acks {
                    window.acknowledged(2 * mss, &conditions(mss, window.cwnd, rtt_ms, start.plus(t_ms)));
                    oracle.acknowledged(2.0, f64::from(t_ms) / 1000.0, f64::from(rtt_ms) / 1000.0);
                }
                let ours = f64::from(window.cwnd) / f64::from(mss);
                let off = (ours - oracle.cwnd).abs();
                prop_assert!(off < 2.0 + 0.02 * oracle.cwnd, "after {t_ms} ms {ours} instead of {}", oracle.cwnd);
                t_ms += rtt_ms;
            }
        }

        #[test]
        fn cube_roots_are_exact(value in 0..1_u64 << 62) {
            let root = u128::from(cube_root(value));
            prop_assert!(root.pow(3) <= u128::from(value) && u128::from(value) < (root + 1).pow(3));
        }
    }

    #[test]
    fn loss_takes_three_tenths_and_a_second_one_below_w_max_yields_more() {
        let mut window = after_loss(100, 1000, Tick(1));
        assert_eq!((window.cwnd, window.ssthresh, window.cubic.w_max), (70_000, 70_000, 100));
        window.reduce(&conditions(1000, 70_000, 10, Tick(1)));
        assert_eq!((window.cwnd, window.cubic.w_max), (49_000, 59), "fast convergence: 70 x 0.85");
    }

    #[test]
    fn after_a_time_out_avoidance_begins_flat_where_slow_start_ended() {
        let mut window = Congestion { cwnd: 100_000, ..Congestion::start(1000, false) };
        window.timed_out(true, &conditions(1000, 100_000, 100, Tick(1)));
        assert_eq!((window.cwnd, window.ssthresh), (1000, 70_000));
        while window.cwnd < window.ssthresh {
            window.acknowledged(1000, &conditions(1000, window.cwnd, 100, Tick(500)));
        }
        window.acknowledged(1000, &conditions(1000, window.cwnd, 100, Tick(500)));
        assert_eq!((window.cubic.w_max, window.cubic.inflection.tick()), (70, Some(Tick(500))));
        assert!(window.cwnd < 71_100);
    }

    #[test]
    fn time_without_use_of_the_window_does_not_count() {
        let mut window = after_loss(1000, 1000, Tick(1));
        let at = |ms| conditions(1000, 700_000, 10, Tick(ms));
        window.acknowledged(2000, &at(1));
        let idle = Conditions { limited: false, ..at(60_000) };
        window.acknowledged(2000, &idle);
        let before = window.cwnd;
        window.acknowledged(2000, &at(60_001));
        assert!(window.cwnd - before < 2000, "a minute of silence opened the window by {}", window.cwnd - before);
    }

    #[test]
    fn a_stage_longer_than_ticks_can_tell_still_grows() {
        let mut window = after_loss(100, 1000, Tick(1));
        let mut now = Tick(1);
        for _ in 0..100 {
            window.cwnd = 200_000;
            let before = window.cwnd;
            window.acknowledged(2000, &conditions(1000, window.cwnd, 10, now));
            assert!(now.0 < 20_000 || window.cwnd > before, "no growth at {now:?}");
            now = now.plus(1 << 26);
        }
    }

    #[test]
    fn no_window_and_no_number_overflows() {
        for cwnd in [0, 1, u32::MAX / 2, u32::MAX] {
            for mss in [48, 9000] {
                let mut window = Congestion { cwnd, ssthresh: 0, ..Congestion::start(mss, false) };
                for acked in [0, 1, u32::MAX] {
                    window.acknowledged(acked, &conditions(mss, u32::MAX, u32::MAX / 1000, Tick(7)));
                    window.acknowledged(acked, &conditions(mss, u32::MAX, u32::MAX / 1000, Tick(1 << 31)));
                    window.reduce(&conditions(mss, u32::MAX, 0, Tick(9)));
                    assert!(window.cwnd >= 2 * mss);
                }
            }
        }
    }
}
