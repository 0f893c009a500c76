//! What `flow::capacity` predicts, compared with what two shards in memory do with as many connections as they can open.

use super::*;
use crate::flow::capacity::{Capacity, Places, Reuse, capacity, tuples};
use crate::tcp::time_wait::{Full, Policy};
use alloc::collections::VecDeque;
use core::net::Ipv4Addr;

#[test]
fn strict_rate_is_the_predicted_one() {
    compare(Supply::default());
}

#[test]
fn rate_with_reuse_after_a_delay_is_the_predicted_one() {
    compare(Supply { policy: Policy::Timestamp, reuse: Reuse::AfterDelay(DELAY_MS), ..Supply::default() });
}

#[test]
fn rate_with_fewer_places_in_time_wait_than_ports_is_the_predicted_one() {
    compare(Supply { places: Places::RefuseOpen(TUPLES / 3), ..Supply::default() });
}

#[test]
fn rate_with_fewer_destination_records_than_pairs_is_the_predicted_one() {
    let most = compare(Supply::default());
    let fewer = compare(Supply { destinations_max: SOURCES * DESTINATIONS / 2, ..Supply::default() });
    assert!(fewer < 0.51 * most);
}

#[test]
fn rate_is_the_predicted_one_where_a_record_makes_room_or_none_is_made() {
    for places in [Places::EvictOldest(TUPLES / 3), Places::Skip(TUPLES / 3)] {
        compare(Supply { places, life_ms: 100, ..Supply::default() });
    }
}

#[test]
fn ports_do_not_bound_the_rate_where_a_record_makes_room_or_none_is_made() {
    for places in [Places::EvictOldest(TUPLES / 3), Places::Skip(TUPLES / 3)] {
        let supply = Supply { places, ..Supply::default() };
        assert_eq!(supply.predicted().connections_per_second, None);
        let with_all = capacity(TUPLES.into(), Places::Enough, Reuse::After2Msl, TWO_MSL_MS, 0);
        let mut world = world(&supply);
        let begun = world.now.us();
        while world.now.us() < begun + 100_000 {
            world.turn(250);
        }
        let measured = world.client.application().closed as f64 * 10.0;
        let bound = with_all.connections_per_second.expect("bounded by ports");
        assert!(measured > 100.0 * bound, "{places:?}: {measured}/s, {bound}/s with room for all");
    }
}

/// Runs both ends for 6 times the period of the ports and compares the rate of the last 4, which it returns, with the prediction.
#[track_caller]
fn compare(supply: Supply) -> f64 {
    let mut world = world(&supply);
    let capacity = supply.predicted();
    let predicted = capacity.connections_per_second.expect("bounded by ports");
    let period_us = u64::from(capacity.held_ms) * 1000;
    let (begun, mut counted_from) = (world.now.us(), 0);
    while world.now.us() < begun + 6 * period_us {
        world.turn(250);
        if world.now.us() < begun + 2 * period_us {
            counted_from = world.client.application().closed;
        }
    }
    let closed = world.client.application().closed - counted_from;
    let measured = closed as f64 / (4.0 * period_us as f64 / 1e6);
    let ratio = measured / predicted;
    assert!((0.98..=1.02).contains(&ratio), "{supply:?}: {measured:.1}/s measured, {predicted:.1}/s predicted");
    assert!(world.client.application().exhausted > 0, "the ports were the limit");
    assert_eq!(world.client.application().failed, 0);
    measured
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
struct Supply {
    policy: Policy,
    reuse: Reuse,
    places: Places,
    destinations_max: u32,
    life_ms: u32,
}

impl Default for Supply {
    fn default() -> Supply {
        Supply {
            policy: Policy::Strict,
            reuse: Reuse::After2Msl,
            places: Places::Enough,
            destinations_max: SOURCES * DESTINATIONS,
            life_ms: 0,
        }
    }
}

impl Supply {
    fn predicted(&self) -> Capacity {
        let tuples = tuples((SOURCES, DESTINATIONS, PORTS), self.destinations_max);
        capacity(tuples, self.places, self.reuse, TWO_MSL_MS, self.life_ms)
    }

    fn full(&self) -> (u32, Full) {
        match self.places {
            Places::Enough => (Setup::default().limits.time_wait_max, Full::RefuseOpen),
            Places::RefuseOpen(places) => (places, Full::RefuseOpen),
            Places::EvictOldest(places) => (places, Full::EvictOldest),
            Places::Skip(places) => (places, Full::Skip),
        }
    }
}

/// Opens on every source towards every destination until ports run out, in each turn; closes those that have lived for long enough.
struct Hungry {
    life_ms: u32,
    open: VecDeque<(u64, Handle)>,
    closed: u64,
    exhausted: u64,
    failed: u64,
}

impl Application for Hungry {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { handle } if self.life_ms == 0 => self.failed += u64::from(calls.close(handle).is_err()),
            Event::Connected { handle } => {
                self.open.push_back((calls.now().us() + u64::from(self.life_ms) * 1000, handle));
            }
            Event::Closed { reason: CloseReason::Graceful, .. } => self.closed += 1,
            Event::Closed { .. } => self.failed += 1,
            _ => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        while let Some((_, handle)) = self.open.pop_front_if(|(until_us, _)| *until_us <= calls.now().us()) {
            self.failed += u64::from(calls.close(handle).is_err());
        }
        for at in 0..SOURCES * DESTINATIONS {
            let source = Ipv4Addr::from_bits(CLIENT.to_bits() + at % SOURCES);
            let options = ConnectOptions { local_address: Some(source.into()), ..ConnectOptions::default() };
            let remote = SocketAddr::new(SERVER.into(), 80 + (at / SOURCES) as u16);
            while calls.connect(remote, &options).is_ok() {}
            self.exhausted += 1;
        }
    }
}

/// Closes when the peer has.
struct Polite;

impl Application for Polite {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        if let Event::PeerClosed { handle } = event {
            calls.close(handle).expect("open");
        }
    }
}

struct Pair {
    client: Shard<MemoryLink, Hungry>,
    server: Shard<MemoryLink, Polite>,
    now: Now,
}

impl Pair {
    fn turn(&mut self, step_us: u64) {
        self.client.turn(self.now);
        self.server.turn(self.now);
        self.now = Now::from_us(self.now.us() + step_us);
    }
}

fn world(supply: &Supply) -> Pair {
    let macs = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];
    let (a, b) = pair(MemoryConfig::default(), macs);
    let now = Now::from_ms(5_000);
    let (time_wait_max, time_wait_full) = supply.full();
    let config = |first: Ipv4Addr, count: u32, seed| ShardConfig {
        limits: Limits { time_wait_max, destinations_max: supply.destinations_max, ..Setup::default().limits },
        addresses: (0..count)
            .map(|at| LocalAddress { address: Ipv4Addr::from_bits(first.to_bits() + at).into(), prefix_len: 16 })
            .collect(),
        msl_ms: TWO_MSL_MS / 2,
        ports: (40_000, 40_000 + PORTS as u16 - 1),
        settings: Settings {
            time_wait_policy: supply.policy,
            time_wait_full,
            time_wait_delay_ms: DELAY_MS,
            ..Settings::default()
        },
        ..ShardConfig::seeded(seed)
    };
    let hungry = Hungry { life_ms: supply.life_ms, open: VecDeque::new(), closed: 0, exhausted: 0, failed: 0 };
    let client = Shard::new(a, hungry, config(CLIENT, SOURCES, 1), now).expect("a client shard");
    let mut server = Shard::new(b, Polite, config(SERVER, 1, 2), now).expect("a server shard");
    for at in 0..DESTINATIONS {
        server.calls(now).listen(SERVER.into(), 80 + at as u16).expect("a listener");
    }
    Pair { client, server, now }
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 1);
const SOURCES: u32 = 3;
const DESTINATIONS: u32 = 4;
const PORTS: u32 = 20;
const TUPLES: u32 = SOURCES * DESTINATIONS * PORTS;

/// Short, so that many periods fit into a test; long beside the life of a connection, about 1 ms.
const TWO_MSL_MS: u32 = 4_000;
const DELAY_MS: u32 = 1_000;
