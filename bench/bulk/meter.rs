//! How fast bytes come, in a window that begins some time after the first of them.

use crate::lines::{Final, Line, Second, tell};
use crate::role::RoleArgs;
use std::time::{Duration, Instant};

/// The receiver's meter.
pub(super) struct Meter {
    warmup: Duration,
    measured: Duration,
    total_bytes: u64,
    started: Option<Instant>,
    /// When the window opened and what had come by then.
    opened: Option<(Instant, u64)>,
    /// How long the window was open in the end, and what came in it.
    window: Option<(Duration, u64)>,
    second: Option<(Instant, u64)>,
}

impl Meter {
    /// A meter that waits for the first byte.
    pub(super) fn new(args: &RoleArgs) -> Meter {
        Meter {
            warmup: Duration::from_millis(args.warmup_ms),
            measured: Duration::from_millis(args.duration_ms),
            total_bytes: 0,
            started: None,
            opened: None,
            window: None,
            second: None,
        }
    }

    /// `bytes` more have come.
    #[inline]
    pub(super) fn add(&mut self, bytes: usize) {
        self.total_bytes += bytes as u64;
    }

    /// Looks at the clock: after every read, or once a turn.
    pub(super) fn sample(&mut self, now: Instant) {
        let total = self.total_bytes;
        if total == 0 {
            return;
        }
        let started = *self.started.get_or_insert(now);
        match self.opened {
            None if now >= started + self.warmup => self.opened = Some((now, total)),
            Some((opened, before)) if self.window.is_none() && now >= opened + self.measured => {
                self.window = Some((now - opened, total - before));
            }
            _ => {}
        }
        let (since, before) = *self.second.get_or_insert((now, total));
        if now >= since + Duration::from_secs(1) {
            self.second = Some((now, total));
            let per_second = mbit(total - before, now - since);
            tell(&Line::Second(Second { per_second, ..Second::default() }));
        }
    }

    /// The result, without what only the role knows. A window that never closed measured nothing.
    pub(super) fn result(&self) -> Final {
        let (open, bytes) = self.window.unwrap_or_default();
        Final { seconds: open.as_secs_f64(), bytes, bytes_total: self.total_bytes, ..Final::default() }
    }
}

/// Mbit/s.
fn mbit(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 * 8.0 / 1e6 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_opens_after_the_warm_up_and_closes_once() {
        let mut meter = Meter {
            warmup: Duration::from_millis(100),
            measured: Duration::from_millis(200),
            total_bytes: 0,
            started: None,
            opened: None,
            window: None,
            second: None,
        };
        let zero = Instant::now();
        for ms in [0, 50, 150, 250, 400, 500] {
            if ms > 0 {
                meter.add(1000);
            }
            meter.sample(zero + Duration::from_millis(ms));
        }
        let result = meter.result();
        // From 150 ms, 100 ms after the first byte at 50 ms, to the first sample 200 ms later.
        assert_eq!((result.bytes, result.bytes_total, result.seconds), (2000, 5000, 0.25));
    }
}
