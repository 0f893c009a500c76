//! Tests of `wheel`.

use super::*;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

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

/// Timers in a wheel, and the model: a heap of deadlines on a clock that does not wrap.
struct Fixture {
    wheel: Wheel,
    timers: Timers,
    now: Tick,
    /// The time on that clock, ms.
    elapsed_ms: u64,
    /// When each timer is due; of what the heap has only that counts.
    due_at: Vec<Option<u64>>,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
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
        Fixture {
            wheel: Wheel::new(slots, granule_ms, now),
            timers: Timers(vec![Timer::default(); timers]),
            now,
            elapsed_ms: 1 << 40,
            due_at: vec![None; timers],
            heap: BinaryHeap::new(),
        }
    }

    /// The model's part of a new deadline.
    fn due_in(&mut self, number: u32, delay_ms: u32) {
        let at = self.elapsed_ms + u64::from(delay_ms);
        self.due_at[number as usize] = Some(at);
        self.heap.push(Reverse((at, number)));
        self.timers[number].deadline = Some(self.now.plus(delay_ms));
    }

    /// The deadline goes, and the wheel is not told.
    fn forget(&mut self, number: u32) {
        self.due_at[number as usize] = None;
        self.timers[number].deadline = None;
    }

    /// The deadline that comes first.
    fn first(&mut self) -> Option<(u64, u32)> {
        while let Some(&Reverse((at, number))) = self.heap.peek() {
            if self.due_at[number as usize] == Some(at) {
                return Some((at, number));
            }
            self.heap.pop();
        }
        None
    }

    fn arm(&mut self, number: u32, delay_ms: u32) {
        self.due_in(number, delay_ms);
        self.wheel.arm(&mut self.timers, number, self.now.plus(delay_ms));
    }

    fn stop(&mut self, number: u32) {
        self.forget(number);
        self.wheel.stop(&mut self.timers, number);
    }

    fn granule_ms(&self) -> u32 {
        1 << self.wheel.shift
    }

    /// Moves the clock and expires; checks that nothing fires early or twice, that nothing is late unless the budget was used up, and all links.
    fn advance(&mut self, by_ms: u32, budget: usize) -> Vec<u32> {
        self.now = self.now.plus(by_ms);
        self.elapsed_ms = self.elapsed_ms.wrapping_add_signed((by_ms as i32).into());
        let mut due = Vec::new();
        self.wheel.expire(&mut self.timers, self.now, budget, &mut due);
        assert!(due.len() <= budget);
        for &number in &due {
            let at = self.due_at[number as usize].expect("fires once");
            assert!(at <= self.elapsed_ms, "timer {number} fires early");
            assert!(!self.timers[number].link.is_armed());
            self.forget(number);
        }
        self.check_links();
        due
    }

    /// Every record hangs in one list, whose links agree both ways, in the slot that it names; bits say which slots have one.
    fn check_links(&self) {
        let mut hanging = 0;
        let begun = (None, self.wheel.begun);
        let slots = self.wheel.heads.iter().enumerate().map(|(slot, &head)| (Some(slot), head));
        for (slot, head) in slots.chain([begun]) {
            let (mut before, mut number) = (NONE, head);
            while number != NONE {
                let link = self.timers.0[number as usize].link;
                let (prev, named) = (link.prev, usize::from(link.slot));
                assert_eq!(prev, before, "timer {number}");
                assert!(slot.is_none_or(|slot| slot == named) && link.is_armed(), "timer {number} hangs in {slot:?}");
                hanging += 1;
                assert!(hanging <= self.wheel.len(), "a list without an end");
                (before, number) = (number, link.next);
            }
            if let Some(slot) = slot {
                let bit = self.wheel.occupied[slot / 64] >> (slot % 64) & 1;
                assert_eq!(bit == 1, head != NONE, "slot {slot}");
            }
        }
        assert_eq!(hanging, self.wheel.len());
    }

    /// Expires by `budget` at a time with the clock still: each call looks at so many until nothing is left to do,
    /// and at each twice at most: where it hung, and where its deadline says, if that slot comes in a later lap too.
    fn catch_up(&mut self, budget: usize) {
        let most = (2 * self.wheel.len() as usize).div_ceil(budget) + 1;
        for _ in 0..most {
            self.advance(0, budget);
        }
        assert_eq!(self.wheel.begun, NONE, "a backlog has not gone after {most} calls");
        self.check_nothing_is_late();
    }

    /// Checks that nothing is late by a granule, that every deadline is in the wheel and the wheel sleeps no deadline away.
    fn check_nothing_is_late(&mut self) {
        if let Some((at, number)) = self.first() {
            assert!(self.elapsed_ms <= at + u64::from(self.granule_ms()), "timer {number} is late");
        }
        let wake = self.wheel.next_deadline(self.now);
        for (number, timer) in self.timers.0.iter().enumerate() {
            let Some(deadline) = timer.deadline else { continue };
            assert!(timer.link.is_armed(), "timer {number} is lost");
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
    CatchUp(usize),
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
        2 => (0..5_000u32, 0..4usize).prop_map(|(by, budget)| Op::AdvanceWithBudget(by, budget)),
        1 => (1..4usize).prop_map(Op::CatchUp),
    ]
}

proptest! {
    #[test]
    fn any_operations_agree_with_a_heap_of_deadlines(
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
                    if f.due_at[n as usize].is_some_and(|at| at < f.elapsed_ms + u64::from(delay)) {
                        f.due_in(n, delay);
                    }
                }
                Op::Forget(n) => f.forget(n),
                Op::Stop(n) => f.stop(n),
                Op::Advance(by) => {
                    f.advance(by, usize::MAX);
                    f.check_nothing_is_late();
                }
                Op::AdvanceWithBudget(by, budget) => { f.advance(by, budget); }
                Op::CatchUp(budget) => f.catch_up(budget),
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
fn what_is_armed_before_anything_is_asked_after_the_longest_gap_comes_in_time() {
    for others in [0, 1] {
        let mut f = Fixture::new(64, 1, u32::MAX - 5, 3);
        (0..others).for_each(|_| f.arm(2, 24 * DAY_MS));
        f.now = f.now.plus(1 << 30);
        f.elapsed_ms += 1 << 30;
        f.arm(0, 24 * DAY_MS);
        f.arm(1, 5);
        assert_eq!((f.advance(4, 10), f.advance(1, 10)), (Vec::new(), vec![1]));
        f.check_nothing_is_late();
        let left = 24 * DAY_MS - 6;
        let due = [left / 2, left - left / 2].map(|by| f.advance(by, 10).len());
        assert_eq!(due.iter().sum::<usize>(), others, "{due:?}");
        assert_eq!(f.advance(1, 10), [0]);
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
