//! Timers of the application's own: a bounded pool of records on a wheel like that of the connections.

use super::calls::Calls;
use super::core::{WHEEL_GRANULE_MS, WHEEL_SLOTS};
use super::tell::Teller;
use crate::api::{Application, Event, TimerError};
use crate::flow::slab::{Record, Slab};
use crate::ids::TimerId;
use crate::limits::DEADLINE_MAX_MS;
use crate::tick::{Now, Tick};
use crate::timer::wheel::{Timed, Wheel, WheelLink};
use crate::touched::room;
use ::core::time::Duration;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The timers of a shard.
pub(super) struct Timers {
    records: Slab<Timer>,
    wheel: Wheel,
    /// What a call of `expire` brings.
    due: Vec<u32>,
    /// Timers that are due and not yet told, in order. One that is stopped meanwhile is stale here.
    untold: VecDeque<TimerId>,
}

#[derive(Debug, Default)]
struct Timer {
    generation: u32,
    deadline: Tick,
    token: u64,
    link: WheelLink,
}

impl Record for Timer {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }

    fn next_free(&mut self) -> &mut u32 {
        &mut self.deadline.0
    }
}

impl Timed for Timer {
    fn wheel_link(&self) -> &WheelLink {
        &self.link
    }

    fn wheel_link_mut(&mut self) -> &mut WheelLink {
        &mut self.link
    }

    fn deadline(&self) -> Option<Tick> {
        Some(self.deadline)
    }
}

impl Timers {
    /// `budget` is how many of them one turn treats.
    pub(super) fn new(timers_max: u32, budget: usize, now: Tick) -> Timers {
        Timers {
            records: Slab::new(timers_max),
            wheel: Wheel::new(WHEEL_SLOTS, WHEEL_GRANULE_MS, now),
            due: room(budget, || 0),
            untold: room(budget, || TimerId { number: 0, generation: 0 }).into(),
        }
    }

    /// Bytes that they take.
    pub(super) fn bill(timers_max: u32, budget: usize) -> u64 {
        let lists = budget * (size_of::<u32>() + size_of::<TimerId>());
        Slab::<Timer>::bill(timers_max) + Wheel::bill(WHEEL_SLOTS, WHEEL_GRANULE_MS) + lists as u64
    }

    /// Takes what is due off the wheel, at most as much as there is room to tell.
    pub(super) fn expire(&mut self, now: Tick, budget: usize) {
        let room = budget.saturating_sub(self.untold.len());
        self.wheel.expire(&mut self.records, now, room, &mut self.due);
        for number in self.due.drain(..) {
            self.untold.push_back(TimerId { number, generation: self.records[number].generation });
        }
    }

    /// The earliest moment at which one may be due; a lower bound.
    pub(super) fn next_deadline(&self, now: Tick) -> Option<Tick> {
        if self.untold.is_empty() { self.wheel.next_deadline(now) } else { Some(now) }
    }

    /// Timers that run, or are due and not yet told.
    pub(super) fn len(&self) -> u32 {
        self.records.len()
    }

    /// The token of the next timer that is due; it runs no longer.
    fn take_due(&mut self) -> Option<u64> {
        loop {
            let TimerId { number, generation } = self.untold.pop_front()?;
            if let Some(&Timer { token, .. }) = self.records.get(number, generation) {
                self.records.remove(number);
                return Some(token);
            }
        }
    }
}

impl Calls<'_> {
    /// Starts a timer of the application's own: [`Event::Timer`] with `token` is told once, when `after` is over and at most one
    /// granule of the wheel (8 ms) and one turn later, never earlier. At most 24 days.
    pub fn start_timer(&mut self, after: Duration, token: u64) -> Result<TimerId, TimerError> {
        if after.as_millis() >= u128::from(DEADLINE_MAX_MS) {
            return Err(TimerError::TooLong(after));
        }
        // Ticks are whole milliseconds: what is left of one counts as one.
        let deadline = Now::from_us((self.now().us() + after.as_micros() as u64).next_multiple_of(1000)).tick();
        let timers = &mut self.core.timers;
        let number = timers.records.insert().ok_or(TimerError::TooMany(timers.records.max()))?;
        let timer = &mut timers.records[number];
        (timer.deadline, timer.token) = (deadline, token);
        let id = TimerId { number, generation: timer.generation };
        timers.wheel.arm(&mut timers.records, number, deadline);
        Ok(id)
    }

    /// Stops a timer. Returns whether it ran: one that was told, or was stopped before, does not.
    pub fn stop_timer(&mut self, timer: TimerId) -> bool {
        let timers = &mut self.core.timers;
        let runs = timers.records.get(timer.number, timer.generation).is_some();
        if runs {
            timers.wheel.stop(&mut timers.records, timer.number);
            timers.records.remove(timer.number);
        }
        runs
    }
}

impl<A: Application> Teller<'_, A> {
    /// The application's timers that are due. They have a budget of their own: bytes do not keep them waiting.
    pub(super) fn timers(&mut self) {
        let budget = self.core.expire_budget();
        self.core.timers.expire(self.now.tick(), budget);
        for _ in 0..budget {
            let Some(token) = self.core.timers.take_due() else { return };
            self.application.on_event(&mut Calls::new(self.core, self.receiving, self.now), Event::Timer { token });
        }
    }
}
