//! What `flow::capacity` predicts, compared with what two shards in memory do with as many connections as they can open.

use super::*;
use crate::flow::capacity::{Reuse, capacity};
use crate::tcp::time_wait::Policy;
use core::net::Ipv4Addr;

#[test]
fn strict_rate_is_the_predicted_one() {
    compare(Policy::Strict, Reuse::After2Msl, None);
}

#[test]
fn rate_with_reuse_after_a_delay_is_the_predicted_one() {
    compare(Policy::Timestamp, Reuse::AfterDelay(DELAY_MS), None);
}

#[test]
fn rate_with_fewer_places_in_time_wait_than_ports_is_the_predicted_one() {
    compare(Policy::Strict, Reuse::After2Msl, Some(SOURCES * DESTINATIONS * PORTS / 3));
}

/// Runs both ends for 6 times the period of the ports and compares the rate of the last 4 with the prediction.
#[track_caller]
fn compare(policy: Policy, reuse: Reuse, places: Option<u32>) {
    let mut world = world(policy, places);
    let predicted = capacity((SOURCES, DESTINATIONS, PORTS), places, reuse, TWO_MSL_MS, 0);
    let period_us = u64::from(predicted.held_ms) * 1000;
    let (begun, mut counted_from) = (world.now.us(), 0);
    while world.now.us() < begun + 6 * period_us {
        world.turn(250);
        if world.now.us() < begun + 2 * period_us {
            counted_from = world.client.application().closed;
        }
    }
    let closed = world.client.application().closed - counted_from;
    let measured = closed as f64 / (4.0 * period_us as f64 / 1e6);
    let ratio = measured / predicted.connections_per_second;
    assert!(
        (0.98..=1.02).contains(&ratio),
        "{measured:.1}/s measured, {:.1}/s predicted",
        predicted.connections_per_second
    );
    assert!(world.client.application().exhausted > 0, "the ports were the limit");
    assert_eq!(world.client.application().failed, 0);
}

/// Opens on every source towards every destination until ports run out, in each turn; closes once connected.
struct Hungry {
    closed: u64,
    exhausted: u64,
    failed: u64,
}

impl Application for Hungry {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { handle } => self.failed += u64::from(calls.close(handle).is_err()),
            Event::Closed { reason: CloseReason::Graceful, .. } => self.closed += 1,
            Event::Closed { .. } => self.failed += 1,
            _ => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
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

fn world(policy: Policy, places: Option<u32>) -> Pair {
    let macs = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];
    let (a, b) = pair(MemoryConfig::default(), macs);
    let now = Now::from_ms(5_000);
    let config = |first: Ipv4Addr, count: u32, seed| ShardConfig {
        limits: Limits {
            time_wait_max: places.unwrap_or(Setup::default().limits.time_wait_max),
            ..Setup::default().limits
        },
        addresses: (0..count)
            .map(|at| LocalAddress { address: Ipv4Addr::from_bits(first.to_bits() + at).into(), prefix_len: 16 })
            .collect(),
        msl_ms: TWO_MSL_MS / 2,
        ports: (40_000, 40_000 + PORTS as u16 - 1),
        settings: Settings { time_wait_policy: policy, time_wait_delay_ms: DELAY_MS, ..Settings::default() },
        ..ShardConfig::seeded(seed)
    };
    let hungry = Hungry { closed: 0, exhausted: 0, failed: 0 };
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

/// Short, so that many periods fit into a test; long beside the life of a connection, about 1 ms.
const TWO_MSL_MS: u32 = 4_000;
const DELAY_MS: u32 = 1_000;
