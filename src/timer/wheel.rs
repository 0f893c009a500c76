//! A hashed timer wheel: start, stop and expiry in O(1), one link of 10 bytes per record.
//!
//! A slot stands for every `slots`-th granule of time; a record hangs in the slot of the granule that begins at or after
//! its deadline, so that it never fires early and fires at most one granule late. Deadlines further away than one
//! lap stay in their slot and are looked at once per lap.
//!
//! Re-arming is lazy: a record whose deadline moved away keeps its place; when its slot comes, it is asked for its
//! [`Timed::deadline`] again and hung where that says. So a timer that is put off by every segment costs nothing per
//! segment. One without a deadline by then just leaves.
//!
//! A tick is a millisecond, or whatever else all callers of a wheel count. Ticks wrap, and so do granules: both are
//! powers of two. While something is armed, `expire` must be called at least every 2^31 ticks (24 days; 35 minutes
//! where they are microseconds), or [`Wheel::clear`] before it is.

use crate::ids::NONE;
use crate::tick::Tick;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::size_of;
use core::ops::IndexMut;

/// A record's place in a wheel. The default is in none. Packed, so that it takes no more than it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, packed(2))]
pub struct WheelLink {
    prev: u32,
    next: u32,
    slot: u16,
}

impl WheelLink {
    /// Whether the record is in a wheel.
    #[inline]
    pub const fn is_armed(&self) -> bool {
        self.slot != NO_SLOT
    }
}

impl Default for WheelLink {
    fn default() -> WheelLink {
        WheelLink { prev: NONE, next: NONE, slot: NO_SLOT }
    }
}

/// A record with a deadline.
pub trait Timed {
    /// The record's place in the wheel.
    fn wheel_link(&self) -> &WheelLink;

    /// The record's place in the wheel, for the wheel to change.
    fn wheel_link_mut(&mut self) -> &mut WheelLink;

    /// The earliest moment at which something is due; `None` if nothing will be.
    fn deadline(&self) -> Option<Tick>;
}

/// A wheel over records that it does not own. Every call must be given the same ones.
pub struct Wheel {
    /// The first record of each slot.
    heads: Vec<u32>,
    /// A bit per slot that has a record.
    occupied: Vec<u64>,
    /// What is left of the slot that `expire` has begun: it is emptied before its records are looked at.
    begun: u32,
    /// The first granule that `expire` has not begun.
    next: u32,
    /// log2 of a granule in ms.
    shift: u32,
    len: u32,
}

impl Wheel {
    /// A wheel of `slots` slots of `granule_ms` each that starts at `now`. Both are rounded up to powers of two, the slots
    /// to at least 64, at most 2^15, and a lap is kept within 2^31 ms.
    pub fn new(slots: u32, granule_ms: u32, now: Tick) -> Wheel {
        let (slots, shift) = layout(slots, granule_ms);
        Wheel {
            heads: vec![NONE; slots as usize],
            occupied: vec![0; slots as usize / 64],
            begun: NONE,
            next: now.0 >> shift,
            shift,
            len: 0,
        }
    }

    /// Bytes that such a wheel takes.
    pub fn bill(slots: u32, granule_ms: u32) -> u64 {
        let (slots, _) = layout(slots, granule_ms);
        u64::from(slots) * size_of::<u32>() as u64 + u64::from(slots / 64) * size_of::<u64>() as u64
    }

    /// Makes sure that record `number` is looked at when `deadline` has come, or at most a granule later.
    ///
    /// A record that will be looked at earlier anyway keeps its place.
    #[inline(always)]
    pub fn arm<S: IndexMut<u32>>(&mut self, records: &mut S, number: u32, deadline: Tick)
    where
        S::Output: Timed,
    {
        let link = records[number].wheel_link();
        if !link.is_armed() || self.granules_to(link.slot.into()) > self.granules_until(deadline) {
            self.move_to(records, number, deadline);
        }
    }

    /// Takes record `number` out. One that is not in the wheel stays so.
    #[inline]
    pub fn stop<S: IndexMut<u32>>(&mut self, records: &mut S, number: u32)
    where
        S::Output: Timed,
    {
        if records[number].wheel_link().is_armed() {
            self.unlink(records, number);
        }
    }

    /// Takes every record out. For a clock that has jumped further than ticks tell apart.
    pub fn clear<S: IndexMut<u32>>(&mut self, records: &mut S)
    where
        S::Output: Timed,
    {
        while self.begun != NONE {
            self.unlink(records, self.begun);
        }
        for slot in 0..self.heads.len() {
            while self.heads[slot] != NONE {
                self.unlink(records, self.heads[slot]);
            }
        }
    }

    /// Looks at up to `budget` records whose slots have come by `now`: those that are due leave the wheel and are appended
    /// to `due`, which must have room for `budget`; the others hang where their deadline says.
    ///
    /// What the budget leaves is first in the next call. After a clock jump every slot is begun at most once per call.
    pub fn expire<S: IndexMut<u32>>(&mut self, records: &mut S, now: Tick, budget: usize, due: &mut Vec<u32>)
    where
        S::Output: Timed,
    {
        let mut budget = budget;
        let reached = (now.0 >> self.shift).wrapping_add(1);
        if self.is_empty() {
            self.next = reached;
            return;
        }
        let mut granules = self.granules_from_next(reached).max(0) as u32;
        if granules > self.slots() {
            // More than a lap: the last lap visits every slot.
            self.next = reached.wrapping_sub(self.slots());
            granules = self.slots();
        }
        loop {
            self.look_at_begun(records, now, &mut budget, due);
            if self.begun != NONE || granules == 0 {
                return;
            }
            match self.occupied_within(granules) {
                Some(skipped) => {
                    self.begin_slot(skipped);
                    granules -= skipped + 1;
                }
                None => {
                    self.next = reached;
                    return;
                }
            }
        }
    }

    /// The tick before which `expire` has nothing to do, at least `now`; `None` if the wheel is empty. Reads the whole
    /// bitmap at worst: for deciding how long to sleep.
    pub fn next_deadline(&self, now: Tick) -> Option<Tick> {
        if self.begun != NONE {
            return Some(now);
        }
        let granule = self.next.wrapping_add(self.occupied_within(self.slots())?);
        let tick = Tick(granule << self.shift);
        Some(if tick.is_before(now) { now } else { tick })
    }

    /// Records in the wheel.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether no record is in the wheel.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Empties the slot begun, as far as the budget goes.
    fn look_at_begun<S: IndexMut<u32>>(&mut self, records: &mut S, now: Tick, budget: &mut usize, due: &mut Vec<u32>)
    where
        S::Output: Timed,
    {
        while self.begun != NONE && *budget > 0 {
            *budget -= 1;
            let number = self.begun;
            self.unlink(records, number);
            match records[number].deadline() {
                Some(deadline) if deadline.is_at_or_before(now) => due.push(number),
                Some(deadline) => self.link(records, number, self.slot_of(deadline)),
                None => {}
            }
        }
    }

    /// Begins the slot `skipped` granules after the next one.
    fn begin_slot(&mut self, skipped: u32) {
        let granule = self.next.wrapping_add(skipped);
        let slot = granule & self.mask();
        self.next = granule.wrapping_add(1);
        self.begun = core::mem::replace(&mut self.heads[slot as usize], NONE);
        self.set_occupied(slot, false);
    }

    /// Granules from the next one to the first occupied slot, if that is less than `granules`.
    fn occupied_within(&self, granules: u32) -> Option<u32> {
        let mut passed = 0;
        while passed < granules {
            let slot = self.next.wrapping_add(passed) & self.mask();
            let word = self.occupied[slot as usize / 64] >> (slot % 64);
            if word != 0 {
                return Some(passed + word.trailing_zeros()).filter(|&distance| distance < granules);
            }
            passed += 64 - slot % 64;
        }
        None
    }

    /// Hangs the record where `deadline` says. Not inlined: most of those who ask need not be moved.
    #[inline(never)]
    fn move_to<S: IndexMut<u32>>(&mut self, records: &mut S, number: u32, deadline: Tick)
    where
        S::Output: Timed,
    {
        self.stop(records, number);
        self.link(records, number, self.slot_of(deadline));
    }

    #[inline(always)]
    fn link<S: IndexMut<u32>>(&mut self, records: &mut S, number: u32, slot: u32)
    where
        S::Output: Timed,
    {
        let head = core::mem::replace(&mut self.heads[slot as usize], number);
        *records[number].wheel_link_mut() = WheelLink { prev: NONE, next: head, slot: slot as u16 };
        if head == NONE {
            self.set_occupied(slot, true);
        } else {
            records[head].wheel_link_mut().prev = number;
        }
        self.len += 1;
    }

    #[inline(always)]
    fn unlink<S: IndexMut<u32>>(&mut self, records: &mut S, number: u32)
    where
        S::Output: Timed,
    {
        let WheelLink { prev, next, slot } = core::mem::take(records[number].wheel_link_mut());
        if prev != NONE {
            records[prev].wheel_link_mut().next = next;
        } else if self.begun == number {
            self.begun = next;
        } else {
            self.heads[usize::from(slot)] = next;
            if next == NONE {
                self.set_occupied(slot.into(), false);
            }
        }
        if next != NONE {
            records[next].wheel_link_mut().prev = prev;
        }
        self.len -= 1;
    }

    /// The slot of the granule that begins at or after `deadline`; the next one to come for a deadline that has passed.
    #[inline]
    fn slot_of(&self, deadline: Tick) -> u32 {
        self.next.wrapping_add(self.granules_until(deadline)) & self.mask()
    }

    /// Granules from the next one to the one that begins at or after `deadline`; 0 if that has passed.
    #[inline]
    fn granules_until(&self, deadline: Tick) -> u32 {
        let granule = deadline.plus((1 << self.shift) - 1).0 >> self.shift;
        self.granules_from_next(granule).max(0) as u32
    }

    /// Granules from the next one to `granule`, negative if that lies before it.
    #[inline]
    fn granules_from_next(&self, granule: u32) -> i32 {
        // Granules wrap at 2^(32 - shift): moved up to the top, the sign comes out right.
        (granule.wrapping_sub(self.next) << self.shift) as i32 >> self.shift
    }

    /// Granules from the next one to the next visit of `slot`.
    #[inline]
    fn granules_to(&self, slot: u32) -> u32 {
        slot.wrapping_sub(self.next) & self.mask()
    }

    #[inline]
    fn set_occupied(&mut self, slot: u32, occupied: bool) {
        let (word, bit) = (&mut self.occupied[slot as usize / 64], 1 << (slot % 64));
        if occupied { *word |= bit } else { *word &= !bit }
    }

    #[inline]
    fn slots(&self) -> u32 {
        self.heads.len() as u32
    }

    #[inline]
    fn mask(&self) -> u32 {
        self.slots() - 1
    }
}

/// Slots, and log2 of a granule in ms, for a wheel that is asked for with these.
fn layout(slots: u32, granule_ms: u32) -> (u32, u32) {
    let shift = granule_ms.clamp(1, GRANULE_MAX_MS).next_power_of_two().trailing_zeros();
    (slots.clamp(64, SLOTS_MAX.min(LAP_MAX_MS >> shift)).next_power_of_two(), shift)
}

/// Longest granule, ms. Longer ones would leave less than 64 slots within a lap.
const GRANULE_MAX_MS: u32 = LAP_MAX_MS / 64;

/// Longest lap, ms: a quarter of what ticks can tell apart, so that the order of granules is never in doubt.
const LAP_MAX_MS: u32 = 1 << 30;

/// In no slot.
const NO_SLOT: u16 = u16::MAX;

/// Most slots, a power of two: those that a link can name.
const SLOTS_MAX: u32 = 1 << 15;

const _: () = assert!(size_of::<WheelLink>() == 10);
const _: () = assert!(SLOTS_MAX <= NO_SLOT as u32);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default, Clone)]
    struct Timer {
        link: WheelLink,
        deadline: Option<Tick>,
    }

    impl Timed for Timer {
        fn wheel_link(&self) -> &WheelLink {
            &self.link
        }
        fn wheel_link_mut(&mut self) -> &mut WheelLink {
            &mut self.link
        }
        fn deadline(&self) -> Option<Tick> {
            self.deadline
        }
    }

    /// Timers in a wheel; the deadlines are the model.
    struct Fixture {
        wheel: Wheel,
        timers: Timers,
        now: Tick,
    }

    struct Timers(Vec<Timer>);

    impl core::ops::Index<u32> for Timers {
        type Output = Timer;
        fn index(&self, number: u32) -> &Timer {
            &self.0[number as usize]
        }
    }

    impl IndexMut<u32> for Timers {
        fn index_mut(&mut self, number: u32) -> &mut Timer {
            &mut self.0[number as usize]
        }
    }

    impl Fixture {
        fn new(slots: u32, granule_ms: u32, start: u32, timers: usize) -> Fixture {
            let now = Tick(start);
            Fixture { wheel: Wheel::new(slots, granule_ms, now), timers: Timers(vec![Timer::default(); timers]), now }
        }

        fn arm(&mut self, number: u32, delay_ms: u32) {
            let deadline = self.now.plus(delay_ms);
            self.timers[number].deadline = Some(deadline);
            self.wheel.arm(&mut self.timers, number, deadline);
        }

        fn stop(&mut self, number: u32) {
            self.timers[number].deadline = None;
            self.wheel.stop(&mut self.timers, number);
        }

        fn granule_ms(&self) -> u32 {
            1 << self.wheel.shift
        }

        /// Moves the clock and expires; checks that nothing fires early or twice.
        fn advance(&mut self, by_ms: u32, budget: usize) -> Vec<u32> {
            self.now = self.now.plus(by_ms);
            let mut due = Vec::new();
            self.wheel.expire(&mut self.timers, self.now, budget, &mut due);
            assert!(due.len() <= budget);
            for &number in &due {
                let deadline = self.timers[number].deadline.take().expect("fires once");
                assert!(deadline.is_at_or_before(self.now), "timer {number} fires early");
                assert!(!self.timers[number].link.is_armed());
            }
            due
        }

        /// Checks that nothing is late by a granule, that every deadline is in the wheel and the wheel sleeps no deadline away.
        fn check_nothing_is_late(&self) {
            let wake = self.wheel.next_deadline(self.now);
            for (number, timer) in self.timers.0.iter().enumerate() {
                let Some(deadline) = timer.deadline else { continue };
                assert!(timer.link.is_armed(), "timer {number} is lost");
                assert!(self.now.is_at_or_before(deadline.plus(self.granule_ms())), "timer {number} is late");
                assert!(wake.unwrap().is_at_or_before(deadline.plus(self.granule_ms())), "timer {number} sleeps");
            }
            let armed = self.timers.0.iter().filter(|timer| timer.link.is_armed()).count();
            assert_eq!(armed, self.wheel.len() as usize);
            assert!(wake.is_some() || self.wheel.is_empty());
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Arm(u32, u32),
        PutOff(u32, u32),
        Forget(u32),
        Stop(u32),
        Advance(u32),
        AdvanceWithBudget(u32, usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        let number = 0..TIMERS as u32;
        let delay = prop_oneof![0..20u32, 0..2_000u32, 0..10_000_000u32];
        prop_oneof![
            4 => (number.clone(), delay.clone()).prop_map(|(n, d)| Op::Arm(n, d)),
            2 => (number.clone(), delay).prop_map(|(n, d)| Op::PutOff(n, d)),
            1 => number.clone().prop_map(Op::Forget),
            1 => number.prop_map(Op::Stop),
            4 => prop_oneof![0..5u32, 0..3_000u32, 0..20_000_000u32].prop_map(Op::Advance),
            1 => (0..5_000u32, 0..4usize).prop_map(|(by, budget)| Op::AdvanceWithBudget(by, budget)),
        ]
    }

    proptest! {
        #[test]
        fn any_operations_agree_with_the_deadlines_themselves(
            start in any::<u32>(),
            granule in 1..40u32,
            ops in proptest::collection::vec(op(), 1..200),
        ) {
            // Near the wrap half of the time.
            let start = if start % 2 == 0 { start } else { u32::MAX - start % 5000 };
            let mut f = Fixture::new(64, granule, start, TIMERS);
            for op in ops {
                match op {
                    Op::Arm(n, delay) => f.arm(n, delay),
                    Op::PutOff(n, delay) => {
                        let later = f.now.plus(delay);
                        if let Some(old) = f.timers[n].deadline && old.is_before(later) {
                            f.timers[n].deadline = Some(later);
                        }
                    }
                    Op::Forget(n) => f.timers[n].deadline = None,
                    Op::Stop(n) => f.stop(n),
                    Op::Advance(by) => {
                        f.advance(by, usize::MAX);
                        f.check_nothing_is_late();
                    }
                    Op::AdvanceWithBudget(by, budget) => { f.advance(by, budget); }
                }
            }
            f.advance(0, usize::MAX);
            f.check_nothing_is_late();
        }
    }

    #[test]
    fn deadline_in_this_tick_fires_at_once_and_not_before() {
        let mut f = Fixture::new(64, 1, u32::MAX - 1, 2);
        f.advance(0, 10);
        f.arm(0, 3);
        assert!(f.advance(2, 10).is_empty());
        assert_eq!(f.advance(1, 10), [0]);
    }

    #[test]
    fn put_off_timer_is_not_moved_until_its_slot_comes() {
        let mut f = Fixture::new(64, 1, 0, 1);
        f.arm(0, 10);
        let hung = f.timers[0].link;
        f.arm(0, 50);
        assert_eq!(f.timers[0].link, hung, "a later deadline costs no move");
        assert!(f.advance(49, 10).is_empty());
        assert_eq!(f.advance(1, 10), [0]);
        f.arm(0, 50);
        f.arm(0, 5);
        assert_eq!(f.advance(5, 10), [0], "an earlier deadline moves it");
    }

    #[test]
    fn budget_leaves_the_rest_for_the_next_turn() {
        let mut f = Fixture::new(64, 1, 7, 10);
        (0..10).for_each(|n| f.arm(n, 5));
        f.stop(4);
        let mut all = f.advance(5, 4);
        assert_eq!(all.len(), 4);
        assert_eq!(f.wheel.next_deadline(f.now), Some(f.now));
        let left = (0..10).find(|&n| f.timers[n].link.is_armed()).unwrap();
        f.stop(left);
        all.extend(f.advance(0, 100));
        assert_eq!(all.len(), 8, "one stopped before, one stopped in the slot begun");
    }

    #[test]
    fn clock_jump_of_a_day_looks_at_each_record_once() {
        let mut f = Fixture::new(1024, 1, u32::MAX - 10, 1000);
        (0..1000).for_each(|n| f.arm(n, n * 100));
        assert_eq!(f.advance(DAY_MS, usize::MAX).len(), 1000);
        (0..1000).for_each(|n| f.arm(n, DAY_MS + 1));
        // Nothing is due: a second look at any record would need more than this budget.
        assert!(f.advance(DAY_MS, 1000).is_empty());
        assert_eq!(f.wheel.begun, NONE);
        assert_eq!(f.advance(1, usize::MAX).len(), 1000);
    }

    #[test]
    fn cleared_wheel_has_forgotten_all_and_goes_on_after_any_jump() {
        let mut f = Fixture::new(64, 1, 7, 10);
        (0..10).for_each(|n| f.arm(n, 5 + n / 5 * 40));
        assert_eq!(f.advance(5, 2).len(), 2, "the other three stay in the slot begun");
        f.wheel.clear(&mut f.timers);
        assert!(f.wheel.is_empty() && f.timers.0.iter().all(|timer| !timer.link.is_armed()));
        assert!(f.wheel.occupied.iter().all(|word| *word == 0));
        assert!(f.advance(u32::MAX / 2 + 1000, 10).is_empty());
        (0..10).for_each(|n| f.arm(n, 5));
        assert_eq!((f.advance(4, 10).len(), f.advance(1, 10).len()), (0, 10));
    }

    #[test]
    fn clock_going_back_fires_nothing_and_loses_nothing() {
        let mut f = Fixture::new(64, 1, 1000, 1);
        f.advance(100, 10);
        f.arm(0, 10);
        assert!(f.advance(0u32.wrapping_sub(50), 10).is_empty());
        assert_eq!(f.advance(60, 10), [0]);
    }

    #[test]
    fn fifty_and_five_hundred_days_lose_and_delay_nothing() {
        for (days, start) in [(50u64, 0u32), (500, u32::MAX - 12_345)] {
            let mut f = Fixture::new(4096, 8, start, 64);
            let (mut elapsed_ms, mut fired, mut step) = (0u64, 0u64, 1u32);
            (0..64).for_each(|n| f.arm(n, 1 + n * 977));
            while elapsed_ms < days * u64::from(DAY_MS) {
                // Steps from 1 ms to 25 h, in no simple relation to slots, laps or days.
                step = step.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let by = ((step >> 8) % 90_000_000) >> ((step >> 4) % 27);
                elapsed_ms += u64::from(by);
                let due = f.advance(by, usize::MAX);
                f.check_nothing_is_late();
                fired += due.len() as u64;
                for n in due {
                    f.arm(n, ((step >> 5) % 200_000_000) >> (n % 28));
                }
            }
            assert_eq!(f.wheel.len(), 64);
            assert!(fired > days * 64, "{fired} timers fired in {days} days");
        }
    }

    #[test]
    fn an_empty_wheel_that_nobody_has_asked_for_long_goes_on_with_the_clock() {
        let mut f = Fixture::new(64, 1, 7, 1);
        for _ in 0..3 {
            assert!(f.advance(u32::MAX / 2 + 1000, 1).is_empty());
            f.arm(0, 5);
            assert_eq!((f.advance(4, 1), f.advance(1, 1)), (Vec::new(), vec![0]));
        }
    }

    #[test]
    fn odd_sizes_are_rounded_and_never_panic() {
        for (slots, granule) in [(0, 0), (1, 1), (65, 3), (u32::MAX, 1), (u32::MAX, u32::MAX)] {
            let mut f = Fixture::new(slots, granule, 5, 1);
            f.arm(0, 100);
            f.advance(100 + f.granule_ms(), 10);
            assert!(f.wheel.is_empty());
        }
    }

    const TIMERS: usize = 12;
    const DAY_MS: u32 = 86_400_000;
}
