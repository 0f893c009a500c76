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

/// What a connection may still answer with ACKs that nothing but unacceptable segments asks for. One byte of every TCB: in the
/// high half the window, modulo 16, in the low half how many are left in it. After a silence of 16 windows, or a multiple of
/// that, what was left is taken for what is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckBudget(u8);

impl Default for AckBudget {
    /// A connection that has answered nothing: enough for a window, should it seem to be within one already.
    fn default() -> AckBudget {
        AckBudget(CHALLENGES_MAX / 2)
    }
}

impl AckBudget {
    /// Whether the connection may send one more such ACK now. When windows begin and what they hold comes from `seed`, which
    /// a third party does not know.
    pub fn take(&mut self, now: Tick, seed: u32) -> bool {
        let window = now.0.wrapping_add(seed) / CHALLENGE_WINDOW_MS;
        let high = (window as u8) << 4;
        let mut left = self.0 & 0x0f;
        if self.0 & 0xf0 != high {
            let drawn = (window ^ seed).wrapping_mul(0x9e37_79b1) >> 24;
            left = CHALLENGES_MAX / 2 + drawn as u8 % (CHALLENGES_MAX / 2 + 1);
        }
        self.0 = high | left.saturating_sub(1);
        left > 0
    }
}

impl Tcb {
    /// Whether this connection may answer one more unacceptable segment (RFC 5961 7).
    pub(super) fn may_challenge(&mut self, cx: &Context<'_>) -> bool {
        self.ack_budget.take(cx.now.tick(), self.ts_offset)
    }
}

/// One answer in the bucket's units.
const ANSWER: u64 = 1_000_000;

const _: () = assert!(CHALLENGES_MAX < 16, "what is left fits into half a byte");
const _: () = assert!(CHALLENGE_WINDOW_MS.is_power_of_two(), "windows go on when ticks wrap");
