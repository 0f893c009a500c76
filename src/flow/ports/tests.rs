//! Tests of `ports`.

mod full;
mod laps;
mod queues;

use super::draw::{FRESH_ASKED_MAX, QUEUED_ASKED_MAX, REPEATED_ASKED_MAX};
use super::*;
use crate::owner::Spread;
use core::net::Ipv4Addr;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

fn key(destination: u32) -> DestinationKey {
    let remote = Ipv4Addr::from_bits(0x0a01_0000 + destination).into();
    DestinationKey { local: Ipv4Addr::new(10, 0, 0, 1).into(), remote, remote_port: 80 }
}

fn limits(destinations_max: u32, queued_ports_max: u32) -> DestinationLimits {
    DestinationLimits { destinations_max, queued_ports_max, two_msl_ms: TWO_MSL_MS }
}

/// Destinations beside what the index of a shard would know: who has which port, and until when it is in TIME-WAIT.
struct Fixture {
    destinations: Destinations,
    open: BTreeMap<(u32, u16), u32>,
    time_wait: BTreeMap<(u32, u16), Tick>,
    by_hand: BTreeSet<(u32, u16)>,
    now: Tick,
    /// Whose ports are whose; the fixture is shard 0.
    owners: Arc<Owners>,
    reuse_after_ms: u32,
    asked: Cell<u32>,
    /// The port that the last draw asked about first.
    asked_first: Cell<u16>,
}

impl Fixture {
    fn new(limits: DestinationLimits, ports: (u16, u16), start: u32) -> Fixture {
        Fixture::among(limits, Owners::alone(ports), start)
    }

    fn among(limits: DestinationLimits, owners: Owners, start: u32) -> Fixture {
        let owners = Arc::new(owners);
        Fixture {
            destinations: Destinations::new(limits, (7, u64::from(start)), Arc::clone(&owners), 0),
            open: BTreeMap::new(),
            time_wait: BTreeMap::new(),
            by_hand: BTreeSet::new(),
            now: Tick(start),
            owners,
            reuse_after_ms: u32::MAX,
            asked: Cell::new(0),
            asked_first: Cell::new(0),
        }
    }

    fn status(&self, destination: u32, port: u16) -> PortStatus {
        let end = (destination, port);
        if self.asked.replace(self.asked.get() + 1) == 0 {
            self.asked_first.set(port);
        }
        if self.open.contains_key(&end) {
            return PortStatus::InUse;
        }
        if self.by_hand.contains(&end) {
            return PortStatus::Busy;
        }
        match self.time_wait.get(&end) {
            Some(&until) if self.now.is_before(until) => {
                let free_in_ms = self.now.until(until);
                let reusable = TWO_MSL_MS.saturating_sub(free_in_ms) >= self.reuse_after_ms;
                PortStatus::TimeWait { free_in_ms, reusable }
            }
            _ => PortStatus::Free,
        }
    }

    fn open(&mut self, destination: u32) -> Result<u16, DrawError> {
        let asked_max = FRESH_ASKED_MAX + 3 * QUEUED_ASKED_MAX + 2 * REPEATED_ASKED_MAX;
        self.open_by(destination, asked_max, |destinations, now, status| {
            destinations.draw(&key(destination), now, status)
        })
    }

    /// Opens while TIME-WAIT is full.
    fn open_again(&mut self, destination: u32) -> Result<u16, DrawError> {
        let asked_max = FRESH_ASKED_MAX + QUEUED_ASKED_MAX + 2 * REPEATED_ASKED_MAX;
        self.open_by(destination, asked_max, |destinations, now, status| {
            destinations.draw_again(&key(destination), now, |port| match status(port) {
                PortStatus::Free => PortStatus::NoPlace,
                status => status,
            })
        })
    }

    fn open_by(
        &mut self,
        destination: u32,
        asked_max: u32,
        draw: impl FnOnce(&mut Destinations, Tick, &mut dyn FnMut(u16) -> PortStatus) -> Result<(u32, u16), DrawError>,
    ) -> Result<u16, DrawError> {
        self.asked.set(0);
        let mut destinations = std::mem::replace(
            &mut self.destinations,
            Destinations::new(limits(0, 0), (0, 0), Arc::clone(&self.owners), 0),
        );
        let drawn = draw(&mut destinations, self.now, &mut |port| self.status(destination, port));
        self.destinations = destinations;
        assert!(self.asked.get() <= asked_max, "asked about {} ports", self.asked.get());
        let (number, port) = drawn?;
        let end = (destination, port);
        assert!(self.owns(destination, port), "port {port} is another shard's");
        assert!(!self.by_hand.contains(&end) && self.open.insert(end, number).is_none(), "port {port} is taken");
        let in_time_wait = self.time_wait.remove(&end).map_or(0, |until| self.now.until(until));
        assert!(in_time_wait == 0 || TWO_MSL_MS - in_time_wait >= self.reuse_after_ms);
        Ok(port)
    }

    fn has_free(&self, destination: u32) -> bool {
        let (low, high) = self.owners.ports();
        let is_free = |port| self.owns(destination, port) && self.status(destination, port) == PortStatus::Free;
        (low..=high).any(is_free)
    }

    /// Whether a port in TIME-WAIT may be drawn that its destination has drawn before, and that was not free when it came back.
    fn has_reusable(&self, destination: u32) -> bool {
        let record = self.destinations.slab.iter().find(|(_, record)| record.key == Some(key(destination)));
        let Some((_, record)) = record else { return false };
        let may_be_drawn = |port| record.kind != LapKind::First || self.owners.is_passed(0, &record.lap, port);
        let (low, high) = self.owners.ports();
        (low..=high).filter(|&port| self.owns(destination, port) && may_be_drawn(port)).any(|port| {
            let status = self.status(destination, port);
            matches!(status, PortStatus::TimeWait { reusable: true, .. })
                && !self.destinations.queues.iter(&record.free).any(|free| free == port)
        })
    }

    fn owns(&self, destination: u32, port: u16) -> bool {
        let DestinationKey { local, remote, remote_port } = key(destination);
        self.owners.owner(&FourTuple::new(local, port, remote, remote_port)) == 0
    }

    fn close(&mut self, destination: u32, port: u16, time_wait_ms: u32) {
        let number = self.open.remove(&(destination, port)).expect("open");
        self.time_wait.insert((destination, port), self.now.plus(time_wait_ms));
        let left = if time_wait_ms == 0 { Left::Nothing } else { Left::TimeWait };
        self.destinations.give_back(number, port, left, self.now);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Open(u32),
    OpenAgain(u32),
    Close(usize, u32),
    ByHand(u32, u16),
    Restart(usize),
    Advance(u32),
    ChangeOwners(u16),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..4u32).prop_map(Op::Open),
        2 => (0..4u32).prop_map(Op::OpenAgain),
        5 => (any::<usize>(), prop_oneof![6 => Just(TWO_MSL_MS), 2 => Just(0), 2 => Just(2000)])
            .prop_map(|(n, wait_ms)| Op::Close(n, wait_ms)),
        1 => (0..4u32, 1000..1040u16).prop_map(|(d, port)| Op::ByHand(d, port)),
        1 => any::<usize>().prop_map(Op::Restart),
        1 => (1..4u16).prop_map(Op::ChangeOwners),
        2 => prop_oneof![0..50u32, 0..3_000u32, Just(TWO_MSL_MS)].prop_map(Op::Advance),
    ]
}

proptest! {
    /// Safety: no port twice, none in TIME-WAIT, none of another shard (all in `open`). Liveness: what is exhausted
    /// is not exhausted for ever.
    #[test]
    fn any_operations_draw_only_ports_that_may_be_drawn(
        destinations_max in 0..5u32,
        queued_ports_max in prop_oneof![Just(0u32), Just(60), Just(10_000)],
        start in any::<u32>(),
        shards in 1..4u16,
        reuse_after_ms in prop_oneof![Just(u32::MAX), Just(100u32)],
        ops in proptest::collection::vec((op(), 1..30usize), 1..120),
    ) {
        let start = near_the_wrap(start);
        let range = (1000, 1039);
        let owners = |shards| Owners::new(&Spread::Symmetric, shards, range);
        let mut f = Fixture::among(limits(destinations_max, queued_ports_max), owners(shards), start);
        f.reuse_after_ms = reuse_after_ms;
        for (op, times) in ops {
            match op {
                Op::Open(d) | Op::OpenAgain(d) => for _ in 0..times {
                    match if matches!(op, Op::Open(_)) { f.open(d) } else { f.open_again(d) } {
                        Err(DrawError::DestinationsExhausted) => prop_assert!(f.destinations.len() == destinations_max),
                        Err(DrawError::PortsExhausted { owned, in_use, .. }) => {
                            prop_assert_eq!(owned as usize, (1000..1040).filter(|port| f.owns(d, *port)).count());
                            prop_assert_eq!(in_use as usize, f.open.range((d, 0)..(d + 1, 0)).count());
                            // Whoever comes again is not refused for long while a port is free.
                            prop_assert!(!f.has_free(d) || matches!(op, Op::OpenAgain(_)) || (0..200).any(|_| {
                                f.now = f.now.plus(1);
                                f.open(d).is_ok()
                            }), "{} has a free port", d);
                            prop_assert!(matches!(op, Op::Open(_)) || (0..200).any(|_| {
                                f.now = f.now.plus(1);
                                !f.has_reusable(d) || f.open_again(d).is_ok()
                            }), "{} has a port whose place may be taken over", d);
                        }
                        Ok(_) => {}
                    }
                }
                Op::Close(n, wait_ms) => for _ in 0..times {
                    let ends: Vec<_> = f.open.keys().copied().collect();
                    let Some(&(d, port)) = ends.get(n % ends.len().max(1)) else { break };
                    f.close(d, port, wait_ms);
                }
                Op::ByHand(d, port) => if !f.open.contains_key(&(d, port)) {
                    f.by_hand.insert((d, port));
                }
                Op::Restart(n) => {
                    let until = f.now.plus(TWO_MSL_MS);
                    let count = f.time_wait.len().max(1);
                    f.time_wait.values_mut().nth(n % count).into_iter().for_each(|old| *old = until);
                }
                Op::ChangeOwners(shards) => {
                    f.owners = Arc::new(owners(shards));
                    f.destinations.change_owners(&f.owners);
                }
                Op::Advance(by) => {
                    f.now = f.now.plus(by);
                    f.time_wait.retain(|_, until| f.now.is_before(*until));
                }
            }
        }
        let ends: Vec<_> = f.open.keys().copied().collect();
        ends.into_iter().for_each(|(d, port)| f.close(d, port, TWO_MSL_MS));
        f.by_hand.clear();
        f.now = f.now.plus(TWO_MSL_MS);
        f.time_wait.clear();
        if destinations_max > 0 {
            let mut drawn = 0;
            (0..200).for_each(|_| drawn += u32::from(f.open(1).is_ok()));
            prop_assert_eq!(drawn, (1000..1040).filter(|port| f.owns(1, *port)).count() as u32);
        }
    }
}

/// Near the wrap half of the time.
fn near_the_wrap(start: u32) -> u32 {
    if start.is_multiple_of(2) { start } else { u32::MAX - start % 100_000 }
}

#[derive(Clone, Debug)]
enum Step {
    Draw { again: bool, times: usize },
    GiveBack(usize),
    Advance(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (any::<bool>(), 1..30usize).prop_map(|(again, times)| Step::Draw { again, times }),
        4 => any::<usize>().prop_map(Step::GiveBack),
        2 => prop_oneof![0..50u32, 0..3_000u32, Just(TWO_MSL_MS)].prop_map(Step::Advance),
    ]
}

proptest! {
    /// A queue beside one destination knows which port is next: each once around the range, then the one given back first;
    /// while TIME-WAIT is full, the first that is still there.
    #[test]
    fn what_comes_after_the_lap_comes_in_the_order_of_a_queue(
        start in any::<u32>(),
        reuse_after_ms in prop_oneof![Just(u32::MAX), Just(100u32)],
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let mut f = Fixture::new(limits(1, 1000), (1000, 1039), near_the_wrap(start));
        f.reuse_after_ms = reuse_after_ms;
        let (mut lap, mut queue) = (Vec::new(), VecDeque::new());
        for step in steps {
            match step {
                Step::Draw { again, times } => for _ in 0..times {
                    let passed = |port: &u16| again && f.status(0, *port) == PortStatus::Free;
                    let place = queue.iter().take_while(|port| passed(port)).count();
                    let next = queue.get(place).copied();
                    let ready = next.filter(|&port| {
                        let status = f.status(0, port);
                        matches!(status, PortStatus::Free | PortStatus::TimeWait { reusable: true, .. })
                    });
                    let drawn = if again { f.open_again(0) } else { f.open(0) };
                    if !again && lap.len() < 40 {
                        let port = drawn.expect("the lap has more ports");
                        // Side by side from wherever it began, around the range.
                        let next = lap.last().map(|last| 1000 + (last - 999) % 40);
                        prop_assert!(!lap.contains(&port) && next.is_none_or(|next| next == port), "{} in {:?}", port, lap);
                        lap.push(port);
                    } else {
                        prop_assert_eq!(drawn.ok(), ready, "{:?} of {:?}", next, queue);
                        if ready.is_some() { queue.remove(place); }
                    }
                }
                Step::GiveBack(n) => {
                    let ends: Vec<_> = f.open.keys().copied().collect();
                    let Some(&(_, port)) = ends.get(n % ends.len().max(1)) else { continue };
                    f.close(0, port, TWO_MSL_MS);
                    queue.push_back(port);
                }
                Step::Advance(by) => f.now = f.now.plus(by),
            }
        }
    }
}

#[test]
fn destination_with_ports_in_use_or_in_time_wait_is_not_evicted() {
    let mut f = Fixture::new(limits(2, 1000), (2000, 2009), u32::MAX - 70_000);
    let port = f.open(0).unwrap();
    f.open(1).unwrap();
    assert_eq!(f.open(2), Err(DrawError::DestinationsExhausted));
    f.close(0, port, TWO_MSL_MS);
    f.now = f.now.plus(TWO_MSL_MS - 1);
    assert_eq!(f.open(2), Err(DrawError::DestinationsExhausted));
    f.now = f.now.plus(1);
    f.open(2).unwrap();
    assert_eq!((f.open(0), f.destinations.len()), (Err(DrawError::DestinationsExhausted), 2));
    f.destinations.set_two_msl(0);
}

/// Neither who never had a TIME-WAIT nor who has outlived it stands behind one that waits.
#[test]
fn destinations_without_time_wait_give_way_at_once() {
    let mut f = Fixture::new(limits(3, 1000), (2000, 2009), u32::MAX - 70_000);
    let port = f.open(0).unwrap();
    f.close(0, port, TWO_MSL_MS);
    for destination in 1..100 {
        let port = f.open(destination).unwrap();
        f.close(destination, port, 0);
        f.now = f.now.plus(1);
    }
    assert_eq!(f.destinations.len(), 3);
    let port = f.open(0).unwrap();
    f.close(0, port, 0);
    f.open(98).unwrap();
    f.open(99).unwrap();
    assert_eq!(f.open(100), Err(DrawError::DestinationsExhausted), "the first one's TIME-WAIT goes on");
    f.now = f.now.plus(TWO_MSL_MS - 99);
    f.open(100).unwrap();
    // One whose TIME-WAIT began before, and whose last port came back after.
    let mut f = Fixture::new(limits(2, 1000), (2000, 2009), 5);
    let ports = [0, 0, 1].map(|destination| f.open(destination).unwrap());
    f.close(0, ports[0], TWO_MSL_MS);
    f.now = f.now.plus(TWO_MSL_MS - 1000);
    f.close(1, ports[2], TWO_MSL_MS);
    f.close(0, ports[1], 0);
    f.now = f.now.plus(1000);
    f.open(2).unwrap();
    assert_eq!(f.open(3), Err(DrawError::DestinationsExhausted));
}

/// T10: where a destination starts says nothing about where another does. RFC 6056.
#[test]
fn t10_starts_are_spread_over_the_range() {
    let mut f = Fixture::new(limits(1000, 0), (32_768, 60_999), 5);
    let starts: BTreeSet<u16> = (0..1000).map(|d| f.open(d).unwrap()).collect();
    assert!(starts.len() > 950);
    let widest = starts.iter().zip(starts.iter().skip(1)).map(|(a, b)| b - a).max().unwrap();
    assert!(widest < 600, "{widest}");
}

/// With as many places for ports as for TIME-WAIT records, as by default: far fewer nodes than destinations, and the lap goes on without them.
#[test]
fn ten_thousand_destinations_of_a_hundred_sources_fit() {
    let limits = limits(1_000_000, 1 << 20);
    let mut destinations = Destinations::new(limits, (7, 8), Arc::new(Owners::alone((32_768, 60_999))), 0);
    let bytes = |destinations: &Destinations| {
        destinations.slab.region().end as u64 - destinations.slab.region().start as u64
            + destinations.index.bytes()
            + destinations.queues.bytes()
    };
    assert_eq!(bytes(&destinations), Destinations::bill(&limits));
    assert!(Destinations::bill(&limits) < 190 * 1_000_000, "{} bytes", Destinations::bill(&limits));
    let key = |number: u32| {
        let [_, _, a, b] = (number / 100).to_be_bytes();
        let local = Ipv4Addr::new(10, 0, 0, (number % 100) as u8).into();
        DestinationKey { local, remote: Ipv4Addr::new(10, 1, a, b).into(), remote_port: 80 }
    };
    let mut in_use = Vec::with_capacity(1_000_000);
    let mut before: Vec<(u32, u16)> = Vec::new();
    for _ in 0..2 {
        for number in 0..1_000_000 {
            let mut asked = 0;
            let drawn = destinations.draw(&key(number), Tick(5), |_| {
                asked += 1;
                PortStatus::Free
            });
            in_use.push(drawn.expect("there is room"));
            assert_eq!(asked, 1, "destination {number}");
        }
        assert!(in_use.iter().zip(&before).all(|(now, before)| now.0 == before.0 && now.1 != before.1));
        let more = destinations.draw(&key(1_000_000), Tick(5), |_| PortStatus::Free);
        assert_eq!((more, destinations.len()), (Err(DrawError::DestinationsExhausted), 1_000_000));
        in_use.iter().for_each(|&(number, port)| destinations.give_back(number, port, Left::TimeWait, Tick(5)));
        before = core::mem::take(&mut in_use);
    }
    assert!((0..1_000_000).all(|number| destinations.ports_of(number) == (0, 2)));
    assert_eq!(bytes(&destinations), Destinations::bill(&limits), "nothing has grown");
}

const TWO_MSL_MS: u32 = 60_000;

fn next_free(f: &mut Fixture) -> Option<u32> {
    match f.open(0) {
        Err(DrawError::PortsExhausted { next_free_in_ms, .. }) => next_free_in_ms,
        other => panic!("{other:?}"),
    }
}

#[test]
fn next_asked_is_what_the_next_draw_asks_about_first() {
    for (queued_max, seed) in [(1000, 1), (1000, 2), (0, 3)] {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut f = Fixture::new(limits(1, queued_max), (2000, 2063), near_the_wrap(7));
        f.open(0).unwrap();
        let (mut opened, mut told) = (vec![*f.open.keys().next().unwrap()], 0);
        for _ in 0..3000 {
            if random.random_bool(0.5) || opened.is_empty() {
                // A lap of ports that were forgotten begins only with the draw.
                let number = 0;
                let record = &f.destinations.slab[number];
                let next =
                    if record.lap.is_done() && record.forgotten > 0 { None } else { f.destinations.next_asked(number) };
                if let Ok(port) = f.open(0) {
                    opened.push((0, port));
                }
                if let Some(next) = next {
                    assert_eq!(f.asked_first.get(), next);
                    told += 1;
                }
            } else {
                let (_, port) = opened.swap_remove(random.random_range(0..opened.len()));
                f.close(0, port, if random.random_bool(0.3) { 0 } else { TWO_MSL_MS });
            }
            f.now = f.now.plus(random.random_range(0..2000));
        }
        assert!(told > 500, "told {told} times");
    }
}
