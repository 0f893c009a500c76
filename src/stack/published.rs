//! What a shard shows to other threads: counts in atomics, written by the shard alone, and details on request.

use crate::api::Application;
use crate::counters::{Counters, DropReason};
use crate::link::{KernelCounters, Levels, Link, LinkCounters};
use crate::memory::HugePages;
use crate::shard::{Bill, Policies, Shard, StateCounts};
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

/// A shard as it was at one moment.
#[derive(Clone, Debug)]
pub struct ShardSnapshot {
    /// Events.
    pub counters: Counters,
    /// Dropped frames, by the name of their reason.
    pub drops: Vec<(&'static str, u64)>,
    /// The link's counts.
    pub link: LinkCounters,
    /// Where the link's frames are.
    pub levels: Levels,
    /// TCBs in use.
    pub connections_live: u64,
    /// TIME-WAIT records in use.
    pub time_wait_live: u64,
    /// Turns longer than 10 ms.
    pub turns_slow: u64,
    /// Connections by state.
    pub states: StateCounts,
    /// The policies in force.
    pub policies: Policies,
    /// What the kernel counts for the link.
    pub kernel: KernelCounters,
    /// Lengths of busy turns, us.
    pub turn_us: Histogram<u64>,
    /// Time inside the application per event, ns, of every 64th event.
    pub application_ns: Histogram<u64>,
    /// The memory of its tables.
    pub tables: Tables,
}

/// The memory of a shard's tables, as it was made before the first packet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tables {
    /// What each costs.
    pub bill: Bill,
    /// What of the large ones lies on huge pages.
    pub huge_pages: HugePages,
}

/// The shared place of one shard.
#[derive(Debug)]
pub(super) struct Published {
    values: Box<[AtomicU64]>,
    asked: AtomicU32,
    answered: AtomicU32,
    details: Mutex<Details>,
    tables: OnceLock<Tables>,
}

/// What is only made on request, because it walks or copies much.
#[derive(Clone, Debug)]
pub(super) struct Details {
    pub(super) states: StateCounts,
    pub(super) policies: Policies,
    pub(super) kernel: KernelCounters,
    pub(super) turn_us: Histogram<u64>,
    pub(super) application_ns: Histogram<u64>,
}

impl Default for Details {
    fn default() -> Details {
        Details {
            states: StateCounts::default(),
            policies: Policies::default(),
            kernel: KernelCounters::default(),
            turn_us: histogram(),
            application_ns: histogram(),
        }
    }
}

impl Published {
    pub(super) fn new() -> Published {
        Published {
            values: (0..VALUES).map(|_| AtomicU64::new(0)).collect(),
            asked: AtomicU32::new(0),
            answered: AtomicU32::new(0),
            details: Mutex::default(),
            tables: OnceLock::new(),
        }
    }

    /// Shows the tables, once they are made.
    pub(super) fn set_tables(&self, tables: Tables) {
        let first = self.tables.set(tables).is_ok();
        debug_assert!(first, "a shard makes its tables once");
    }

    /// Asks for details; returns the number under which they will be answered.
    pub(super) fn ask(&self) -> u32 {
        self.asked.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    pub(super) fn answered(&self, asked: u32) -> bool {
        self.answered.load(Ordering::Acquire).wrapping_sub(asked) as i32 >= 0
    }

    /// Whether somebody waits for details.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed) != self.answered.load(Ordering::Relaxed)
    }

    /// Writes the counts. Only the shard's thread calls this.
    pub(super) fn write<L: Link, A: Application>(&self, shard: &Shard<L, A>, turns_slow: u64) {
        let levels = shard.link().levels();
        let levels = [levels.total, levels.free, levels.in_hand, levels.fill, levels.transmit].map(u64::from);
        let others = [shard.connections_live() as u64, shard.time_wait_live() as u64, turns_slow];
        let drops = shard.drops();
        let values = shard
            .counters()
            .values()
            .into_iter()
            .chain(shard.link().counters().values())
            .chain(levels)
            .chain(others)
            .chain(DropReason::ALL.iter().map(|reason| drops.of(*reason)));
        for (place, value) in self.values.iter().zip(values) {
            place.store(value, Ordering::Relaxed);
        }
    }

    /// Writes the details that were asked for.
    pub(super) fn write_details(&self, details: &Details) {
        let asked = self.asked.load(Ordering::Relaxed);
        if let Ok(mut place) = self.details.lock() {
            place.clone_from(details);
        }
        self.answered.store(asked, Ordering::Release);
    }

    pub(super) fn snapshot(&self) -> ShardSnapshot {
        let mut values = self.values.iter().map(|value| value.load(Ordering::Relaxed));
        let mut next = || values.next().unwrap_or(0);
        let counters = Counters::from_values(std::array::from_fn(|_| next()));
        let link = LinkCounters::from_values(std::array::from_fn(|_| next()));
        let [total, free, in_hand, fill, transmit] = std::array::from_fn(|_| next() as u32);
        let [connections_live, time_wait_live, turns_slow] = std::array::from_fn(|_| next());
        let drops = DropReason::ALL.iter().map(|reason| (reason.name(), next())).collect();
        let details = self.details.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        ShardSnapshot {
            counters,
            drops,
            link,
            levels: Levels { total, free, in_hand, fill, transmit },
            connections_live,
            time_wait_live,
            turns_slow,
            states: details.states,
            policies: details.policies,
            kernel: details.kernel,
            turn_us: details.turn_us,
            application_ns: details.application_ns,
            tables: self.tables.get().cloned().unwrap_or_default(),
        }
    }
}

/// A histogram of up to a minute (us) or 60 ms (ns), to two digits.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, VALUE_MAX, 2).expect("constant bounds are valid")
}

/// The largest value of a histogram; longer turns count as this.
pub(super) const VALUE_MAX: u64 = 60_000_000;

/// Published counts of a shard.
const VALUES: usize = Counters::NAMES.len() + LinkCounters::NAMES.len() + 5 + 3 + DropReason::ALL.len();
