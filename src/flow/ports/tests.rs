//! Tests of `ports`.

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
        }
    }

    fn status(&self, destination: u32, port: u16) -> PortStatus {
        let end = (destination, port);
        self.asked.set(self.asked.get() + 1);
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

    /// Opens with a port that was given back.
    fn open_again(&mut self, destination: u32) -> Result<u16, DrawError> {
        self.open_by(destination, QUEUED_ASKED_MAX + REPEATED_ASKED_MAX, |destinations, now, status| {
            destinations.draw_again(&key(destination), now, status)
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
    /// A queue beside one destination knows which port is next: each once around the range, then the one given back first.
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
                    let front = queue.front().copied();
                    let ready = front.filter(|&port| {
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
                        prop_assert_eq!(drawn.ok(), ready, "{:?} of {:?}", front, queue);
                        if ready.is_some() { queue.pop_front(); }
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
fn lap_takes_every_port_once_and_then_the_oldest_returned() {
    let mut f = Fixture::new(limits(1, 1000), (2000, 2099), 5);
    let first: Vec<u16> = (0..100).map(|_| f.open(0).unwrap()).collect();
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 100);
    assert_eq!(
        f.open(0),
        Err(DrawError::PortsExhausted { owned: 100, in_use: 100, time_wait: 0, next_free_in_ms: None })
    );
    for &port in &first[..50] {
        f.close(0, port, TWO_MSL_MS);
        f.now = f.now.plus(10);
    }
    let exhausted =
        DrawError::PortsExhausted { owned: 100, in_use: 50, time_wait: 50, next_free_in_ms: Some(TWO_MSL_MS - 500) };
    assert_eq!(f.open(0), Err(exhausted));
    for &port in &first[..50] {
        f.now = f.time_wait[&(0, port)];
        assert_eq!(f.open(0), Ok(port), "oldest first, as soon as its 2MSL has ended");
        assert!(f.open(0).is_err());
    }
}

#[test]
fn restarted_time_wait_does_not_hold_up_the_ports_behind_it() {
    let mut f = Fixture::new(limits(1, 1000), (2000, 2009), 5);
    let ports: Vec<u16> = (0..10).map(|_| f.open(0).unwrap()).collect();
    ports.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.now = f.now.plus(TWO_MSL_MS - 1);
    for port in &ports[..5] {
        *f.time_wait.get_mut(&(0, *port)).unwrap() = f.now.plus(TWO_MSL_MS);
    }
    f.now = f.now.plus(1);
    let drawn: Vec<u16> = (0..5).map(|_| f.open(0).unwrap()).collect();
    assert_eq!(drawn, ports[5..]);
    assert!(matches!(f.open(0), Err(DrawError::PortsExhausted { next_free_in_ms: Some(59_999), .. })));
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

#[test]
fn few_ports_of_ours_among_many_are_drawn_at_once() {
    let mut f = Fixture::among(limits(1, 1000), Owners::new(&Spread::Symmetric, 256, (1, u16::MAX)), 5);
    let drawn: Vec<u16> = (0..256).map(|_| f.open(0).unwrap()).collect();
    assert_eq!(
        f.open(0),
        Err(DrawError::PortsExhausted { owned: 256, in_use: 256, time_wait: 0, next_free_in_ms: None })
    );
    drawn.into_iter().for_each(|port| f.close(0, port, 0));
    assert!(f.open(0).is_ok());
}

#[test]
fn port_of_another_shard_after_a_change_is_not_queued() {
    let mut f = Fixture::new(limits(1, 1000), (2000, 2009), 5);
    let ports: Vec<u16> = (0..10).map(|_| f.open(0).unwrap()).collect();
    f.owners = Arc::new(Owners::new(&Spread::Symmetric, 3, (2000, 2009)));
    f.destinations.change_owners(&f.owners);
    let ours = ports.iter().filter(|port| f.owns(0, **port)).count() as u32;
    assert!((1..10).contains(&ours), "{ours}");
    ports.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.now = f.now.plus(TWO_MSL_MS);
    (0..ours).for_each(|_| assert!(f.open(0).is_ok()));
    assert!(
        matches!(f.open(0), Err(DrawError::PortsExhausted { owned, in_use, .. }) if owned == ours && in_use == ours)
    );
}

/// The ports in use lie next to each other in the new lap, for they were drawn in the order of the former.
#[test]
fn draws_after_a_change_of_owners_come_past_all_ports_in_use_and_queue_none() {
    let mut f = Fixture::new(limits(1, 100_000), (20_000, 59_999), 5);
    let in_use: Vec<u16> = (0..10_000).map(|_| f.open(0).unwrap()).collect();
    f.destinations.change_owners(&f.owners);
    let mut asked = 0;
    let mut more = Vec::new();
    for _ in 0..100 {
        more.push(f.open(0).unwrap());
        asked += f.asked.get();
    }
    assert!(asked <= 10_000 + 100, "each port of the lap is asked about once, not {asked} of them");
    assert_eq!(f.destinations.ports_of(0), (10_100, 0), "none of them is in TIME-WAIT");
    in_use.iter().chain(&more).for_each(|&port| f.close(0, port, TWO_MSL_MS));
    assert_eq!(f.destinations.ports_of(0), (0, 10_100));
}

/// The connections that a change has left with another shard: their ports lie next to each other in the lap, and in the
/// queue after it.
#[test]
fn draws_come_past_many_ports_that_somebody_else_has() {
    let mut f = Fixture::new(limits(1, 100_000), (20_000, 59_999), 5);
    let left: Vec<u16> = (0..10_000).map(|_| f.open(0).unwrap()).collect();
    left.iter().for_each(|&port| f.close(0, port, 0));
    f.destinations.change_owners(&f.owners);
    f.by_hand = left.iter().map(|&port| (0, port)).collect();
    let (mut failed, mut failed_most) = (0, 0);
    for _ in 0..100_000 {
        match f.open(0) {
            Ok(port) => {
                f.close(0, port, 0);
                failed = 0;
            }
            Err(error) => {
                assert!(matches!(error, DrawError::PortsExhausted { next_free_in_ms: Some(0), .. }), "{error:?}");
                failed += 1;
                failed_most = failed.max(failed_most);
            }
        }
    }
    assert!(failed_most <= 20, "{failed_most} draws in a row failed");
}

#[test]
fn draw_promises_nothing_when_somebody_else_has_every_port() {
    let mut f = Fixture::new(limits(1, 100_000), (20_000, 29_999), 5);
    f.by_hand = (20_000..30_000).map(|port| (0, port)).collect();
    let promises = (0..100).map(|_| match f.open(0) {
        Err(DrawError::PortsExhausted { next_free_in_ms, .. }) => next_free_in_ms,
        other => panic!("{other:?}"),
    });
    let promises: Vec<_> = promises.collect();
    assert!(promises[..10].contains(&Some(0)) && promises[30..].iter().all(Option::is_none), "{promises:?}");
}

#[test]
fn draws_in_vain_stay_short_when_the_queues_are_full() {
    let mut f = Fixture::new(limits(1, 0), (20_000, 59_999), 5);
    let ports: Vec<u16> = (0..40_000).map(|_| f.open(0).unwrap()).collect();
    ports[20_000..].iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    for _ in 0..50_000 {
        assert!(f.open(0).is_err());
        assert!(f.asked.get() <= 2 * REPEATED_ASKED_MAX + 2 * QUEUED_ASKED_MAX, "{}", f.asked.get());
        f.now = f.now.plus(1);
    }
    f.now = f.now.plus(TWO_MSL_MS);
    assert!((0..100).any(|_| f.open(0).is_ok()));
}

/// One destination with clients and servers that close first in turn: what has no TIME-WAIT is free, whatever waits before it.
#[test]
fn ports_that_are_free_at_once_are_drawn_before_those_that_wait() {
    let mut f = Fixture::new(limits(1, 10_000), (20_000, 21_999), 5);
    let ports: Vec<u16> = (0..2000).map(|_| f.open(0).unwrap()).collect();
    for (number, port) in ports.into_iter().enumerate() {
        f.close(0, port, if number % 4 < 3 { TWO_MSL_MS } else { 0 });
    }
    let mut asked = 0;
    for draw in 0..10_000 {
        let port = f.open(0).expect("500 are free");
        asked += f.asked.get();
        f.close(0, port, if draw % 25 == 0 { TWO_MSL_MS } else { 0 });
        f.now = f.now.plus(1);
    }
    assert!(asked <= 10_000 + 10_000 / 25 * QUEUED_ASKED_MAX, "{asked}");
}

/// Their 2MSL was longer, or was restarted: neither may keep those behind them.
#[test]
fn ports_behind_many_that_wait_for_longer_come_before_long() {
    for queued_ports_max in [10_000, 0] {
        let mut f = Fixture::new(limits(1, queued_ports_max), (20_000, 20_999), 5);
        let ports: Vec<u16> = (0..1000).map(|_| f.open(0).unwrap()).collect();
        for (number, &port) in ports.iter().enumerate() {
            f.close(0, port, if number < 100 { TWO_MSL_MS } else { 2000 });
        }
        f.now = f.now.plus(3000);
        let drawn = (0..2000).filter(|_| f.open(0).is_ok()).count();
        assert_eq!(drawn, 900, "with {queued_ports_max} places in queues");
    }
}

/// The eight at the front are open for as long as others take to go around once, and close just before it is their turn.
#[test]
fn few_that_closed_late_do_not_hold_up_a_lap() {
    let mut f = Fixture::new(limits(1, 1000), (20_000, 29_999), 5);
    let (mut held, mut time_wait) = (Vec::new(), VecDeque::new());
    let mut failed = 0;
    for draw in 0..60_000 {
        if draw % 10 == 0 {
            f.now = f.now.plus(1);
        }
        if draw % 10_000 == 9_000 {
            time_wait.extend(held.iter().map(|&port| (0, port)));
            held.drain(..).for_each(|port| f.close(0, port, TWO_MSL_MS));
        }
        match f.open(0) {
            Ok(port) if draw % 10_000 < 10 => held.push(port),
            Ok(port) => {
                f.close(0, port, TWO_MSL_MS);
                time_wait.push_back((0, port));
            }
            Err(_) => failed += 1,
        }
        while time_wait.len() > 1000 {
            f.time_wait.remove(&time_wait.pop_front().expect("full"));
        }
    }
    assert_eq!(failed, 0, "9,000 ports are free");
}

/// Ports that come back while a sweep goes on stay behind those that were there before.
#[test]
fn the_order_outlasts_a_sweep() {
    let mut f = Fixture::new(limits(1, 100_000), (10_000, 50_448), 5);
    let mut ports: VecDeque<u16> = (0..40_449).map(|_| f.open(0).unwrap()).collect();
    let late = ports.split_off(40_000);
    for (number, &port) in ports.iter().enumerate() {
        f.close(0, port, TWO_MSL_MS);
        f.now = f.now.plus((number % 2) as u32);
    }
    for &port in &late {
        assert!(f.open(0).is_err());
        f.close(0, port, TWO_MSL_MS);
        f.now = f.now.plus(1);
    }
    for port in ports.into_iter().chain(late) {
        f.now = f.now.plus(f.now.until(f.time_wait[&(0, port)]));
        assert_eq!(f.open(0), Ok(port));
    }
}

#[test]
fn ports_opened_by_hand_do_not_hide_the_free_ones_behind_them() {
    let mut f = Fixture::new(limits(1, 1000), (2000, 2099), 5);
    let ports: Vec<u16> = (0..100).map(|_| f.open(0).unwrap()).collect();
    ports.iter().for_each(|&port| f.close(0, port, 0));
    f.by_hand = ports[..20].iter().map(|&port| (0, port)).collect();
    assert_eq!((next_free(&mut f), next_free(&mut f)), (Some(0), Some(0)));
    ports[20..].iter().for_each(|&port| assert_eq!(f.open(0), Ok(port)));
}

/// What a draw costs where all ports wait, most of the time.
#[test]
fn draws_in_vain_ask_about_few_ports() {
    let mut f = Fixture::new(limits(1, 100_000), (20_000, 59_999), 5);
    let ports: Vec<u16> = (0..40_000).map(|_| f.open(0).unwrap()).collect();
    ports.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    let mut asked = 0;
    for _ in 0..10_000 {
        assert!(f.open(0).is_err());
        asked += f.asked.get();
        f.now = f.now.plus(1);
    }
    assert!(asked <= 10_000 * QUEUED_ASKED_MAX + 40_000 + 10_000, "{asked}");
    f.now = f.now.plus(TWO_MSL_MS);
    ports.iter().for_each(|&port| assert_eq!(f.open(0), Ok(port), "the order is what it was"));
}

/// TIME-WAIT holds a part of the ports and gives up its oldest record for each new one: the others are free, and every draw
/// finds one soon, though the queues remember no more ports than TIME-WAIT does.
#[test]
fn draws_succeed_while_far_more_ports_go_around_than_the_queues_remember() {
    let cases = [(1, 1000, 900), (4, 2000, 100), (40, 4000, 1), (3, 1999, 2000)];
    for ((destinations, time_wait_max, in_flight_max), tenths) in
        cases.into_iter().flat_map(|case| [12, 15, 22, 100].map(|tenths| (case, tenths)))
    {
        let count = tenths * (time_wait_max + in_flight_max as u32) / 10 / destinations;
        let ports = (20_000, 20_000 + count as u16 - 1);
        let mut f = Fixture::new(limits(destinations, time_wait_max), ports, 5);
        let mut random = SmallRng::seed_from_u64(1);
        let mut in_flight = VecDeque::new();
        let mut time_wait = VecDeque::new();
        let (mut asked, mut asked_most) = (0, 0);
        let draws = 30 * time_wait_max;
        for draw in 0..draws {
            let destination = random.random_range(0..destinations);
            match f.open(destination) {
                Ok(port) => in_flight.push_back((destination, port)),
                Err(error) => {
                    assert!(
                        !f.has_free(destination),
                        "draw {draw} of {destinations} destinations, {count} ports each: {error:?}"
                    );
                }
            }
            (asked, asked_most) = (asked + f.asked.get(), asked_most.max(f.asked.get()));
            if in_flight.len() > in_flight_max {
                let end = in_flight.pop_front().expect("some are open");
                f.close(end.0, end.1, TWO_MSL_MS);
                time_wait.push_back(end);
            }
            if time_wait.len() > time_wait_max as usize {
                f.time_wait.remove(&time_wait.pop_front().expect("full"));
            }
        }
        assert!(asked <= 2 * draws, "{asked} ports asked about in {draws} draws, at most {asked_most} in one");
    }
}

/// A port that comes back before the new lap has come to it: drawn in the lap, it must not be in the queue as well.
#[test]
fn port_that_comes_back_ahead_of_a_lap_is_not_queued() {
    let mut f = Fixture::new(limits(1, 1000), (2000, 2009), 5);
    let ports: Vec<u16> = (0..10).map(|_| f.open(0).unwrap()).collect();
    f.destinations.change_owners(&f.owners);
    ports.iter().for_each(|&port| f.close(0, port, 0));
    assert_eq!(f.destinations.ports_of(0), (0, 0));
    let again: Vec<u16> = (0..5).map(|_| f.open(0).unwrap()).collect();
    again.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    assert_eq!(f.destinations.ports_of(0), (0, 5), "what the lap has passed waits in the queue");
    f.now = f.now.plus(TWO_MSL_MS);
    (0..10).for_each(|_| assert!(f.open(0).is_ok()));
    assert!(f.open(0).is_err());
    assert_eq!(f.destinations.ports_of(0), (10, 0));
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
fn a_new_lap_of_ports_in_time_wait_promises_the_first_of_their_ends() {
    let mut f = Fixture::new(limits(1, 1000), (2000, 2009), 5);
    let ports: Vec<u16> = (0..10).map(|_| f.open(0).unwrap()).collect();
    ports.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.destinations.change_owners(&f.owners);
    assert_eq!((next_free(&mut f), next_free(&mut f)), (Some(TWO_MSL_MS), Some(TWO_MSL_MS)));
}

#[test]
fn queued_ports_that_leave_the_queue_are_no_turn_around_it() {
    let mut f = Fixture::new(limits(1, 10_000), (2000, 2999), 5);
    let ports: Vec<u16> = (0..1000).map(|_| f.open(0).unwrap()).collect();
    ports.iter().for_each(|&port| f.close(0, port, TWO_MSL_MS));
    f.time_wait.clear();
    f.open = ports[..600].iter().map(|&port| ((0, port), 0)).collect();
    f.by_hand = ports[600..990].iter().map(|&port| (0, port)).collect();
    assert!((0..3).any(|_| f.open(0).is_ok()), "the last ten are free");
}

#[test]
fn what_was_found_taken_before_a_change_of_owners_counts_no_more() {
    let mut f = Fixture::new(limits(1, 100_000), (20_000, 29_999), 5);
    f.by_hand = (20_000..30_000).map(|port| (0, port)).collect();
    let promises: Vec<_> = (0..40).map(|_| next_free(&mut f)).collect();
    assert_eq!(promises.last(), Some(&None));
    f.destinations.change_owners(&f.owners);
    assert_eq!(next_free(&mut f), None, "all have been asked about");
    assert_eq!(next_free(&mut f), Some(0), "any may have been given back since");
}
