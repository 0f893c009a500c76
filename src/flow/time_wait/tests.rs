//! Tests of `time_wait`.

use super::*;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// A record of `WORDS` words and two: 32 bytes for 6, 56 bytes for 12.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Item<const WORDS: usize> {
    name: u32,
    deadline: Tick,
    content: [u32; WORDS],
}

impl<const WORDS: usize> Item<WORDS> {
    fn new(name: u32, deadline: Tick) -> Item<WORDS> {
        Item { name, deadline, content: [name; WORDS] }
    }
}

impl<const WORDS: usize> Default for Item<WORDS> {
    fn default() -> Self {
        Item::new(0, Tick(0))
    }
}

impl<const WORDS: usize> TimeWaitRecord for Item<WORDS> {
    fn is_live(&self) -> bool {
        self.name != 0
    }
    fn mark_hole(&mut self) {
        self.name = 0;
    }
    fn deadline(&self) -> Tick {
        self.deadline
    }
    fn set_deadline(&mut self, deadline: Tick) {
        self.deadline = deadline;
    }
}

impl<R: TimeWaitRecord> TimeWaitStore<R> {
    /// The number of the record whose 2MSL ends first. Reads them all.
    pub fn oldest(&self) -> Option<u32> {
        let live = (0..self.records.len() as u32).filter(|&number| self.get(number).is_some());
        live.reduce(|a, b| if self[b].deadline().is_before(self[a].deadline()) { b } else { a })
    }
}

type V4 = Item<6>;
type V6 = Item<12>;

const _: () = assert!(size_of::<V4>() == 32 && size_of::<V6>() == 56);

#[derive(Clone, Debug)]
enum Op {
    Insert(u32),
    Release(usize),
    Restart(usize, u32),
    Evict,
    Advance(u32),
    AdvanceWithBudget(u32, usize),
}

fn op() -> impl Strategy<Value = Op> {
    // Mostly the 2MSL in force; sometimes shorter, as after a change, or far beyond what the slots are made for.
    let two_msl = prop_oneof![4 => Just(TWO_MSL_MS), 1 => 0..TWO_MSL_MS, 1 => 0..1_000_000u32];
    prop_oneof![
        8 => two_msl.clone().prop_map(Op::Insert),
        2 => any::<usize>().prop_map(Op::Release),
        2 => (any::<usize>(), two_msl).prop_map(|(n, d)| Op::Restart(n, d)),
        1 => Just(Op::Evict),
        2 => prop_oneof![0..300u32, 0..70_000u32, 0..90_000_000u32].prop_map(Op::Advance),
        2 => (0..20_000u32, 0..5usize).prop_map(|(by, budget)| Op::AdvanceWithBudget(by, budget)),
    ]
}

/// A store beside a map from name to number and deadline, and a heap that knows who is first.
struct Fixture {
    store: TimeWaitStore<V4>,
    model: HashMap<u32, (u32, Tick)>,
    /// Deadlines, ms since the start, which do not wrap; those that were released or restarted stay in.
    heap: BinaryHeap<Reverse<(u64, u32)>>,
    start: Tick,
    elapsed_ms: u64,
    now: Tick,
    names: u32,
}

impl Fixture {
    fn new(records_max: u32, start: u32) -> Fixture {
        let store = TimeWaitStore::new(records_max, TWO_MSL_MS);
        let start = Tick(start);
        Fixture { store, model: HashMap::new(), heap: BinaryHeap::new(), start, elapsed_ms: 0, now: start, names: 0 }
    }

    fn pick(&self, n: usize) -> Option<u32> {
        let mut names: Vec<_> = self.model.keys().copied().collect();
        names.sort_unstable();
        names.get(n % names.len().max(1)).copied()
    }

    fn insert(&mut self, delay_ms: u32) {
        self.names += 1;
        let deadline = self.now.plus(delay_ms);
        let number = self.store.insert(V4::new(self.names, deadline), self.now);
        assert_eq!(number.is_some(), self.model.len() < self.store.max() as usize);
        if let Some(number) = number {
            self.model.insert(self.names, (number, deadline));
            self.heap.push(Reverse((self.elapsed_ms + u64::from(delay_ms), self.names)));
        }
    }

    fn release(&mut self, name: u32) {
        let (number, _) = self.model.remove(&name).unwrap();
        self.store.release(number);
        assert_eq!(self.store.get(number), None);
        self.store.release(number);
    }

    fn restart(&mut self, name: u32, delay_ms: u32) {
        let deadline = self.now.plus(delay_ms);
        let (old, _) = self.model[&name];
        let number = self.store.restart(old, deadline).expect("a live record can be restarted");
        assert!(number == old || self.store.get(old).is_none());
        self.model.insert(name, (number, deadline));
        self.heap.push(Reverse((self.elapsed_ms + u64::from(delay_ms), name)));
    }

    /// Whose 2MSL ends first, by the heap.
    fn first(&mut self) -> Option<Tick> {
        loop {
            let &Reverse((ms, name)) = self.heap.peek()?;
            let deadline = self.start.plus(ms as u32);
            if self.model.get(&name).is_some_and(|live| live.1 == deadline) {
                return Some(deadline);
            }
            self.heap.pop();
        }
    }

    fn evict(&mut self) {
        let first = self.first();
        let ahead = first.map(|first| self.store.granules_from_next(self.store.granule_of(first)) as usize);
        // Beyond the lap there is no order, and one eviction puts right only so many pages.
        let ordered =
            ahead.is_some_and(|ahead| ahead < self.store.slots.len() - 1) && self.early_pages() < EARLY_PAGES_MAX;
        let evicted = self.store.evict_oldest();
        assert_eq!(evicted.is_some(), first.is_some());
        if let (Some(first), Some((number, record))) = (first, evicted) {
            assert_eq!(self.model.remove(&record.name), Some((number, record.deadline)));
            let latest = first.max(self.now).plus(LATE_MS);
            let in_order = record.deadline.is_at_or_before(latest);
            assert!(in_order || !ordered, "evicted {record:?}, the first was {first:?} at {:?}", self.now);
        }
    }

    /// Pages that hang earlier than any of their records is due.
    fn early_pages(&self) -> u32 {
        let early = |&(number, page): &(u32, &Page)| {
            let first = self.store.first_of(number).map(|first| self.store.granule_of(self.store[first].deadline));
            first.is_some_and(|first| first != page.granule)
        };
        self.store.pages.iter().filter(early).count() as u32
    }

    fn advance(&mut self, by_ms: u32, budget: usize) -> usize {
        self.elapsed_ms += u64::from(by_ms);
        self.now = self.now.plus(by_ms);
        let mut out = Vec::new();
        self.store.expire(self.now, budget, &mut out);
        assert!(out.len() <= budget);
        for (number, record) in &out {
            assert!(record.deadline.is_at_or_before(self.now), "released before its deadline");
            assert_eq!(self.model.remove(&record.name), Some((*number, record.deadline)));
        }
        out.len()
    }

    fn check(&self, late_ms: u32) {
        for (name, (number, deadline)) in &self.model {
            assert_eq!(self.store.get(*number), Some(&V4::new(*name, *deadline)));
            assert!(self.now.is_at_or_before(deadline.plus(late_ms)), "{name} is late");
            assert!(self.store.next_deadline().unwrap().is_at_or_before(deadline.plus(late_ms)));
        }
        assert_eq!(self.store.len() as usize, self.model.len());
        let live: u32 = self.store.pages.iter().map(|(_, page)| page.live.count_ones()).sum();
        assert_eq!(live, self.store.len());
        assert_eq!(self.store.holes(), self.store.pages.len() * PAGE - live);
        let roomy = self.store.pages.iter().filter(|(_, page)| page.live != FULL).count();
        assert_eq!(roomy, self.store.roomy.len() as usize);
        let hung: u32 = self.store.slots.iter().map(List::len).sum();
        assert_eq!(hung, self.store.pages.len());
    }
}

proptest! {
    #[test]
    fn any_operations_agree_with_a_map(
        records_max in prop_oneof![0..5u32, 0..400u32],
        start in any::<u32>(),
        few_pages in any::<bool>(),
        ops in proptest::collection::vec((op(), 1..20usize), 1..150),
    ) {
        let start = if start % 2 == 0 { start } else { u32::MAX - start % 100_000 };
        let mut f = Fixture::new(records_max, start);
        if few_pages {
            // As if every page but those for `records_max` were full of holes: new records fill holes.
            f.store.pages = Slab::new(records_max.div_ceil(PAGE));
        }
        for (op, times) in ops {
            match op {
                Op::Insert(delay) => (0..times * 5).for_each(|_| f.insert(delay)),
                Op::Release(n) => (n..n.saturating_add(times)).for_each(|n| { f.pick(n).into_iter().for_each(|name| f.release(name)) }),
                Op::Restart(n, delay) => { f.pick(n).into_iter().for_each(|name| f.restart(name, delay)) }
                Op::Evict => f.evict(),
                Op::Advance(by) => {
                    f.advance(by, usize::MAX);
                    f.check(LATE_MS);
                }
                Op::AdvanceWithBudget(by, budget) => {
                    f.advance(by, budget);
                    f.check(1 << 30);
                }
            }
        }
        // With a small budget everything still goes, within a bounded number of turns.
        let mut turns = 0;
        while !f.model.is_empty() {
            f.advance(1000, 3);
            turns += 1;
            prop_assert!(turns < 20_000);
        }
        prop_assert_eq!((f.store.len(), f.store.holes(), f.store.next_deadline()), (0, 0, None));
    }
}

#[test]
fn steady_load_expires_in_order_and_evicts_the_oldest() {
    let mut f = Fixture::new(1000, u32::MAX - 30_000);
    for _ in 0..3000 {
        if f.store.len() == 1000 {
            f.evict();
        }
        f.insert(TWO_MSL_MS);
        f.advance(20, 8);
    }
    f.check(LATE_MS);
}

#[test]
fn shorter_2msl_at_run_time_is_kept_even_where_holes_are_filled() {
    let mut f = Fixture::new(200, 0);
    f.store.pages = Slab::new(4);
    (0..200).for_each(|_| f.insert(TWO_MSL_MS));
    (1..=100).for_each(|name| f.release(name));
    (0..100).for_each(|_| f.insert(1000));
    assert_eq!(f.advance(1000 + LATE_MS, usize::MAX), 100);
    f.check(LATE_MS);
}

#[test]
fn restart_in_a_full_store_keeps_the_number() {
    let mut f = Fixture::new(3, 9);
    (0..3).for_each(|_| f.insert(TWO_MSL_MS));
    let before = f.model[&2].0;
    f.advance(30_000, 10);
    f.restart(2, TWO_MSL_MS);
    assert_eq!(f.model[&2].0, before);
    assert_eq!(f.advance(30_000 + LATE_MS, 10), 2);
    assert_eq!(f.advance(30_000, 10), 1);
}

#[test]
fn record_restarted_in_a_full_store_is_evicted_after_those_that_end_before_it() {
    let mut f = Fixture::new(3, 9);
    for _ in 0..3 {
        f.insert(TWO_MSL_MS);
        f.advance(1000, 10);
    }
    f.restart(1, TWO_MSL_MS);
    let evicted = [0; 3].map(|_| f.store.evict_oldest().map(|(_, record)| record.name));
    assert_eq!(evicted, [2, 3, 1].map(Some));
}

#[test]
fn bytes_per_record_stay_within_the_design() {
    for records in [1_000_000, 10_000_000, 60_000_000] {
        let index = super::super::index::Index::bill(records);
        let v4 = (TimeWaitStore::<V4>::bill(records, 60_000) + index) as f64 / f64::from(records);
        let v6 = (TimeWaitStore::<V6>::bill(records, 60_000) + index) as f64 / f64::from(records);
        // One half-filled page per slot weighs 0.9 bytes per record in the smallest of these, IPv6.
        let v6_max = if records == 1_000_000 { 64.1 } else { 63.5 };
        assert!(v4 <= 40.0 && v6 <= v6_max, "{v4:.2} and {v6:.2} bytes for {records} records");
    }
    let store = TimeWaitStore::<V4>::new(1000, 60_000);
    assert_eq!(store.bytes(), TimeWaitStore::<V4>::bill(1000, 60_000));
}

#[test]
fn odd_limits_never_panic() {
    for (records, two_msl) in [(0, 0), (1, 0), (1, u32::MAX), (70, 1)] {
        let mut store = TimeWaitStore::<V6>::new(records, two_msl);
        for name in 0..=records {
            assert_eq!(store.insert(V6::new(name + 1, Tick(5)), Tick(4)).is_some(), name < records);
        }
        let mut out = Vec::new();
        store.expire(Tick(5).plus(1 << 23), 1000, &mut out);
        assert_eq!((out.len() as u32, store.restart(7, Tick(0))), (records, None));
        store.prefetch(u32::MAX);
    }
}

#[test]
fn a_store_for_nothing_takes_almost_nothing_and_one_for_few_not_much_more_than_they_do() {
    let bill = |records_max| TimeWaitStore::<V6>::bill(records_max, TWO_MSL_MS);
    assert!(bill(0) <= 16, "{}", bill(0));
    let record = size_of::<V6>() as u64;
    let slots = bill(1) - 2 * (u64::from(PAGE) * record + size_of::<Page>() as u64);
    assert!(slots <= 512 * 12, "{slots}");
    for records_max in [64, 1000, 10_000] {
        let most = (2 * u64::from(records_max) + 2 * u64::from(PAGE)) * (record + 1) + slots;
        assert!(bill(records_max) <= most, "{records_max}: {}", bill(records_max));
    }
    let mut nothing = TimeWaitStore::<V6>::new(0, TWO_MSL_MS);
    assert_eq!((nothing.insert(V6::default(), Tick(5)), nothing.next_deadline()), (None, None));
    nothing.expire(Tick(u32::MAX), 10, &mut Vec::new());
    assert!(nothing.evict_oldest().is_none());
}

const TWO_MSL_MS: u32 = 60_000;
/// A granule, which is 1/128 of the 2MSL at most, and one more for what was due when it was added.
const LATE_MS: u32 = 512;
