//! Deadlines to the microsecond, of connections that have lost something: a wheel beside that of all connections, of finer granules, on which
//! the records of what is missing hang. It counts microseconds.
//!
//! The large wheel has such a connection too, for the tick in which its deadline lies or the next: should a record be given back, nothing is late
//! by more than any other deadline.

use super::core::Core;
use super::gaps::Gaps;
use crate::flow::slab::Slab;
use crate::tcp::recovery;
use crate::tick::{Micros, Now, Tick};
use crate::timer::wheel::{Timed, Wheel, WheelLink};
use alloc::vec::Vec;

/// The wheel.
pub(super) struct Exact {
    wheel: Wheel,
    /// When it was last asked what is due.
    asked: Now,
}

impl Exact {
    /// The wheel, empty.
    pub(super) fn new(now: Now) -> Exact {
        Exact { wheel: Wheel::new(SLOTS, GRANULE_US, in_wheel(now.micros())), asked: now }
    }

    /// Records on it.
    pub(super) fn len(&self) -> u32 {
        self.wheel.len()
    }

    /// Takes the record off it.
    pub(super) fn stop(&mut self, gaps: &mut Slab<Gaps>, attached: u32) {
        self.wheel.stop(gaps, attached);
    }

    /// When the next deadline comes; a lower bound.
    pub(super) fn next_deadline(&self, now: Now) -> Option<Now> {
        let Tick(at) = self.wheel.next_deadline(in_wheel(now.micros()))?;
        Some(Now::from_us(now.us() + u64::from(now.micros().until(Micros(at)))))
    }
}

/// Bytes that it takes.
pub(super) fn bill() -> u64 {
    Wheel::bill(SLOTS, GRANULE_US)
}

/// Puts the connection on it, if its record has a deadline. One that is more than a lap away is left to the large wheel, whose granule is
/// not much of that: each lap would wake the shard.
pub(super) fn arm(core: &mut Core, number: u32, attached: u32, now: Now) {
    let at = recovery::exact_deadline(&core.connections[number].tcb, &core.gaps[attached].sent);
    if let Some(at) = at.filter(|&at| now.micros().until(at) < SLOTS * GRANULE_US) {
        core.exact.wheel.arm(&mut core.gaps, attached, in_wheel(at));
    }
}

/// Brings up to `budget` connections whose deadline has come.
pub(super) fn expire(core: &mut Core, now: Now, budget: usize, due: &mut Vec<u32>) {
    let Exact { wheel, asked } = &mut core.exact;
    if now.us().saturating_sub(asked.us()) > UNASKED_US_MAX {
        // No slot says any more when its records are due. All that hung there in the last turn are, and the large wheel has them and what
        // this turn has armed.
        wheel.clear(&mut core.gaps);
    }
    *asked = now;
    wheel.expire(&mut core.gaps, in_wheel(now.micros()), budget, due);
    for place in due {
        *place = core.gaps[*place].connection;
    }
}

impl Timed for Gaps {
    fn wheel_link(&self) -> &WheelLink {
        &self.exact
    }

    fn wheel_link_mut(&mut self) -> &mut WheelLink {
        &mut self.exact
    }

    fn deadline(&self) -> Option<Tick> {
        self.sent.deadline().map(in_wheel)
    }
}

/// What is a tick for that wheel.
const fn in_wheel(at: Micros) -> Tick {
    Tick(at.0)
}

/// Slots and granule, us. Origin: a lap of 65 ms holds the shortest time-outs, and a granule is less than a round trip within a host. Fewer slots,
/// and deadlines are looked at twice; a longer granule, and each loss costs a short path more.
const SLOTS: u32 = 1024;
const GRANULE_US: u32 = 64;

/// Longest time for which the wheel is not asked and microseconds still tell what is over from what is to come, us: half of what they do, for what
/// hangs there is at most a lap ahead. A process that was stopped leaves such a gap. Longer, and the wheel stands still for half an hour.
const UNASKED_US_MAX: u64 = 1 << 30;
