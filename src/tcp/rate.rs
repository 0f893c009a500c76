//! How often hostile input is answered (T02, T08, T25).
//!
//! What concerns a connection is limited by that connection alone, and by a number that changes: the limit of one says
//! nothing about another (CVE-2016-5696, RFC 5961 7). What concerns none is limited by a bucket of the shard, whose
//! tokens have random prices, so that counting one's own answers does not tell what others were sent.

use super::tcb::Tcb;
use super::{Context, Settings};
use crate::limits::{CHALLENGE_WINDOW_MS, CHALLENGES_MAX};
use crate::tick::{Now, Tick};

/// A token bucket for answers that belong to no connection.
#[derive(Clone, Copy, Debug)]
pub struct AnswerBucket {
    /// Millionths of an answer.
    level: u64,
    filled_at: Now,
}

impl AnswerBucket {
    /// A full bucket.
    pub fn new(settings: &Settings, now: Now) -> AnswerBucket {
        AnswerBucket { level: capacity(settings), filled_at: now }
    }

    /// Whether one more answer may be sent now. `random` sets its price, half an answer to one and a half.
    pub fn take(&mut self, settings: &Settings, now: Now, random: u32) -> bool {
        let elapsed_us = now.us().saturating_sub(self.filled_at.us());
        self.filled_at = now;
        let gained = elapsed_us.saturating_mul(u64::from(settings.answers_per_second));
        self.level = self.level.saturating_add(gained).min(capacity(settings));
        let price = ANSWER / 2 + u64::from(random) % (ANSWER + 1);
        // The dearest must be affordable, or those who try often would pay less.
        let may = self.level >= ANSWER / 2 + ANSWER;
        self.level -= if may { price } else { 0 };
        may
    }
}

fn capacity(settings: &Settings) -> u64 {
    u64::from(settings.answers_burst) * ANSWER + ANSWER / 2
}

/// What a connection may still answer with ACKs that nothing but unacceptable segments asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckBudget {
    until: Tick,
    left: u8,
}

impl Default for AckBudget {
    /// A connection that has answered nothing: enough for a window, should it seem to be within one already.
    fn default() -> AckBudget {
        AckBudget { until: Tick(0), left: CHALLENGES_MAX / 2 }
    }
}

impl AckBudget {
    /// Whether the connection may send one more such ACK now. Number and time of a window come from `seed`, which a
    /// third party does not know.
    pub fn take(&mut self, now: Tick, seed: u32) -> bool {
        // A window that is over, or so old that the comparison has wrapped.
        if !(1..=WINDOW_MAX_MS).contains(&now.until(self.until)) {
            let drawn = (seed ^ now.0).wrapping_mul(0x9e37_79b1);
            self.until = now.plus(CHALLENGE_WINDOW_MS + (drawn >> 8) % (CHALLENGE_WINDOW_MS / 2));
            self.left = CHALLENGES_MAX / 2 + (drawn >> 24) as u8 % (CHALLENGES_MAX / 2 + 1);
        }
        let may = self.left > 0;
        self.left -= u8::from(may);
        may
    }
}

impl Tcb {
    /// Whether this connection may answer one more unacceptable segment (RFC 5961 7).
    pub(super) fn may_challenge(&mut self, cx: &Context<'_>) -> bool {
        self.ack_budget.take(cx.now.tick(), self.ts_offset ^ self.iss.0)
    }
}

/// One answer in the bucket's units.
const ANSWER: u64 = 1_000_000;

/// The longest window, ms.
const WINDOW_MAX_MS: u32 = CHALLENGE_WINDOW_MS + CHALLENGE_WINDOW_MS / 2;
