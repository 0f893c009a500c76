//! The half-open connections of all shards, listed for whoever asks (B14).
//!
//! The memory is the asker's, and a shard looks at some of its slots between two turns, so that a flood's worth of entries holds up
//! none of them for long.

use crate::shard::{self, HalfOpen, Shard};
use crate::tick::Now;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The half-open connections of a stack. What came or went while they were listed may be among them or not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HalfOpenReport {
    /// By shard; `None` where one did not answer in time, or has ended.
    pub shards: Vec<Option<Vec<HalfOpen>>>,
}

impl HalfOpenReport {
    /// All of them, each with the number of its shard.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &HalfOpen)> {
        let listed = |(shard, list)| Option::iter(list).flatten().map(move |half_open| (shard, half_open));
        self.shards.iter().enumerate().flat_map(listed)
    }

    /// How many each source has, most first.
    pub fn by_source(&self) -> Vec<(IpAddr, u32)> {
        shard::by_source(self.iter().map(|(_, half_open)| half_open))
    }

    /// The shards whose connections are missing.
    pub fn silent(&self) -> impl Iterator<Item = usize> {
        self.shards.iter().enumerate().filter(|(_, list)| list.is_none()).map(|(shard, _)| shard)
    }
}

/// What one shard is asked for.
#[derive(Debug)]
pub(super) struct Listing {
    listed: Mutex<Vec<HalfOpen>>,
    done: AtomicBool,
}

impl Listing {
    /// With room for `expected`, and for more.
    pub(super) fn new(expected: u32) -> Listing {
        Listing { listed: Mutex::new(Vec::with_capacity(expected as usize)), done: AtomicBool::new(false) }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// What was listed, once that is done.
    pub(super) fn take(&self) -> Option<Vec<HalfOpen>> {
        self.is_done().then(|| std::mem::take(&mut *self.listed.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// How far a shard has come with a list.
#[derive(Debug)]
pub(super) struct Walk {
    listing: Arc<Listing>,
    next: u32,
}

impl Walk {
    pub(super) fn begin(listing: Arc<Listing>) -> Walk {
        Walk { listing, next: 0 }
    }

    /// Looks at the next slots of `shard`; returns whether those were the last.
    pub(super) fn go_on<L, A>(&mut self, shard: &Shard<L, A>, now: Now) -> bool {
        let end = self.next.saturating_add(SLOTS_PER_STEP);
        let mut listed = self.listing.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.extend(shard.half_open_in(self.next..end, now));
        self.next = end;
        let over = end >= shard.slots();
        self.listing.done.store(over, Ordering::Release);
        over
    }
}

/// Slots that a shard looks at between two turns. Origin: as many reads of memory that is in no cache take some 0.4 ms. Larger lets
/// frames wait, smaller makes the answer of a shard late that is large and busy.
const SLOTS_PER_STEP: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Application, ConnectOptions, Event};
    use crate::limits::Limits;
    use crate::link::memory::{MemoryConfig, MemoryLink, pair};
    use crate::shard::{Calls, LocalAddress, ShardConfig};
    use crate::wire::ethernet::MacAddress;

    /// Does nothing.
    struct Idle;

    impl Application for Idle {
        fn on_event(&mut self, _calls: &mut Calls<'_>, _event: Event<'_>) {}
    }

    fn shard(link: MemoryLink, last: u8) -> Shard<MemoryLink, Idle> {
        let limits = Limits {
            tcbs_max: 2 * SLOTS_PER_STEP + 1,
            time_wait_max: 64,
            half_open_max: 64,
            chunks_max: 64,
            ..Limits::default()
        };
        let addresses = vec![LocalAddress { address: [10, 0, 0, last].into(), prefix_len: 24 }];
        Shard::new(link, Idle, ShardConfig { limits, addresses, ..ShardConfig::seeded(0) }, Now::default()).unwrap()
    }

    #[test]
    fn b14_a_shard_lists_in_steps_of_so_many_slots_and_says_when_it_is_done() {
        let macs = [1, 2].map(|last| MacAddress([2, 0, 0, 0, 0, last]));
        let (a, b) = pair(MemoryConfig::default(), macs);
        let (mut server, mut client) = (shard(a, 1), shard(b, 2));
        let now = Now::default();
        server.calls(now).listen([10, 0, 0, 1].into(), 7).unwrap();
        for _ in 0..3 {
            client.calls(now).connect(([10, 0, 0, 1], 7).into(), &ConnectOptions::default()).unwrap();
        }
        // Where the server is is asked first. The client then hears nothing of its answers.
        for ms in 0..2 {
            client.turn(now.plus_ms(ms));
            server.turn(now.plus_ms(ms));
        }
        assert_eq!(server.half_open_live(), 3);
        let listing = Arc::new(Listing::new(1));
        let mut walk = Walk::begin(Arc::clone(&listing));
        let mut steps = 1;
        while !walk.go_on(&server, now) {
            assert!(!listing.is_done() && listing.take().is_none(), "it is not done after {steps} steps");
            steps += 1;
        }
        assert_eq!(steps, 3, "two whole steps and the slot that is left");
        let report = HalfOpenReport { shards: vec![None, listing.take(), Some(Vec::new())] };
        assert_eq!((report.iter().count(), report.by_source()), (3, vec![([10, 0, 0, 2].into(), 3)]));
        assert_eq!(report.silent().collect::<Vec<_>>(), [0]);
        assert!(report.iter().all(|(shard, half_open)| shard == 1 && half_open.retries == 0), "{report:?}");
    }
}
