//! The time of a turn. Ticks are milliseconds that wrap: two of them say which came first only if they are less than 2^31 apart, 24.8 days.
//! Deadlines lie up to 24 days ahead, so a process that was stopped for longer must not find them all at once on the wrong side.

use super::core::Core;
use crate::tick::Now;

impl Core {
    /// The time that a turn at `now` has: `now`, unless the last turn was longer ago than [`STEP_US`]. Then time catches up, a step per turn, and
    /// none while deadlines that have come wait for their budget.
    #[inline]
    pub(super) fn begin_turn(&mut self, now: Now) -> Now {
        let gap_us = now.us().saturating_sub(self.turned_at.us());
        self.turned_at = if gap_us <= STEP_US { now } else { self.catch_up(gap_us) };
        self.turned_at
    }

    /// What is `now` for a call between turns: no later than the next turn is.
    #[inline]
    pub(super) fn between_turns(&self, now: Now) -> Now {
        Now::from_us(now.us().min(self.turned_at.us().saturating_add(STEP_US)))
    }

    /// Whether the next turn at `now` would come no further than a step: there are more to come at once.
    pub(super) fn lags(&self, now: Now) -> bool {
        now.us().saturating_sub(self.turned_at.us()) > STEP_US
    }

    #[cold]
    #[inline(never)]
    fn catch_up(&self, gap_us: u64) -> Now {
        if self.is_behind(self.turned_at) {
            return self.turned_at;
        }
        // Whole rounds of the ticks change nothing that ticks tell. One is left, in which every deadline comes.
        let skipped_us = (gap_us / ROUND_US).saturating_sub(1) * ROUND_US;
        Now::from_us(self.turned_at.us() + skipped_us + (gap_us - skipped_us).min(STEP_US))
    }

    /// Whether something was due at `at` and is not done.
    fn is_behind(&self, at: Now) -> bool {
        let tick = at.tick();
        let wheels = [self.wheel.next_deadline(tick), self.timers.next_deadline(tick)];
        let stores = [self.time_wait_v4.next_deadline(), self.time_wait_v6.next_deadline()];
        wheels.into_iter().chain(stores).flatten().any(|due| due.is_at_or_before(tick))
    }
}

/// The most by which time moves from one turn to the next, us: a quarter of a round. What was due within it is told from what is due 24 days
/// after it.
const STEP_US: u64 = ROUND_US / 4;

/// After which ticks come again, us: 49.7 days.
const ROUND_US: u64 = 1000 << 32;
