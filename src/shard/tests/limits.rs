//! What happens at each limit: a typed error or a counted drop, never more memory.

use super::*;
use crate::api::{ConnectError, ListenError};
use crate::shard::ConfigError;
use crate::tcp::cookie::SynCookies;

fn remote() -> SocketAddr {
    "10.0.0.2:80".parse().expect("an end")
}

#[test]
fn b10_half_open_limit_drops_syns_and_counts_them() {
    let limits = Limits { half_open_max: 4, ..Setup::default().limits };
    let settings = Settings { syn_cookies: SynCookies::Off, ..Settings::default() };
    let mut world = World::with_settings(&Setup { connections: 50, limits, ..Setup::default() }, settings);
    for _ in 0..400_000 {
        world.turn(1000);
        if world.client.application().closed.len() == 50 {
            break;
        }
    }
    assert_eq!(world.client.application().closed.len(), 50, "the peers try again");
    assert!(world.server.counters().syn_dropped_full > 0);
    assert!(world.client.counters().retransmitted_syn > 0);
}

#[test]
fn tcb_limit_refuses_opens_with_a_typed_error() {
    let limits = Limits { tcbs_max: 3, ..Setup::default().limits };
    let mut world = World::new(&Setup { connections: 0, limits, ..Setup::default() });
    for _ in 0..3 {
        world.client.calls(world.now).connect(remote(), &ConnectOptions::default()).expect("room");
    }
    let full = world.client.calls(world.now).connect(remote(), &ConnectOptions::default());
    assert_eq!(full, Err(ConnectError::TooManyConnections(3)));
}

#[test]
fn b46_time_wait_limit_refuses_opens_and_never_evicts() {
    let limits = Limits { time_wait_max: 10, ..Setup::default().limits };
    let mut world = World::new(&Setup { connections: 40, limits, ..Setup::default() });
    for _ in 0..5000 {
        world.turn(50);
    }
    assert_eq!(world.client.application().closed.len(), 10);
    assert!(world.client.application().refused > 0);
    let full = world.client.calls(world.now).connect(remote(), &ConnectOptions::default());
    assert_eq!(full, Err(ConnectError::TimeWaitFull(10)));
    let counters = world.client.counters();
    assert_eq!((counters.time_wait_created, counters.time_wait_evicted, counters.time_wait_skipped), (10, 0, 0));
}

#[test]
fn invalid_ends_are_refused_with_typed_errors() {
    let mut world = World::new(&Setup { connections: 0, ..Setup::default() });
    let mut calls = world.client.calls(world.now);
    let plain = ConnectOptions::default();
    for text in ["224.0.0.1:80", "255.255.255.255:80", "127.0.0.1:80", "0.0.0.0:80", "10.0.0.2:0"] {
        let end = text.parse().expect("an end");
        assert_eq!(calls.connect(end, &plain), Err(ConnectError::InvalidRemote(end)), "MUST-46");
    }
    let elsewhere = "192.0.2.1:80".parse().expect("an end");
    assert_eq!(calls.connect(elsewhere, &plain), Err(ConnectError::NoRoute(elsewhere.ip())));
    let foreign = ConnectOptions { local_address: Some(elsewhere.ip()), ..plain };
    assert_eq!(calls.connect(remote(), &foreign), Err(ConnectError::NotOurAddress(elsewhere.ip())));
    let fixed = ConnectOptions { local_port: Some(5), ..plain };
    calls.connect(remote(), &fixed).expect("a free port");
    assert_eq!(calls.connect(remote(), &fixed), Err(ConnectError::PortInUse(5)));
    let own = "10.0.0.1".parse().expect("an address");
    assert_eq!(calls.listen(own, 0), Err(ListenError::PortZero));
    assert_eq!(calls.listen(elsewhere.ip(), 80), Err(ListenError::NotOurAddress(elsewhere.ip())));
    let listener = calls.listen(own, 80).expect("free");
    assert_eq!(calls.listen(own, 80), Err(ListenError::InUse(SocketAddr::new(own, 80))));
    assert!(calls.stop_listening(listener) && !calls.stop_listening(listener));
}

const NOTHING: Limits = Limits {
    tcbs_max: 0,
    time_wait_max: 0,
    half_open_max: 0,
    cookies_remembered_max: 0,
    chunks_max: 0,
    reassemblies_max: 0,
    destinations_max: 0,
    neighbors_max: 0,
    listeners_max: 0,
    handover_batches_max: 0,
    events_per_turn: 0,
    burst: 1,
};

#[test]
fn capacity_0_refuses_everything_and_never_panics() {
    let macs = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];
    let (a, b) = pair(MemoryConfig::default(), macs);
    let now = Now::from_ms(5_000);
    let mut nothing = shard_with(a, "10.0.0.2", NOTHING).expect("limits of 0 are limits");
    let mut peer = shard_with(b, "10.0.0.1", Setup::default().limits).expect("a shard");
    assert_eq!(nothing.calls(now).listen(remote().ip(), 80), Err(ListenError::TooMany(0)));
    let refused = nothing.calls(now).connect("10.0.0.1:80".parse().expect("an end"), &ConnectOptions::default());
    assert_eq!(refused, Err(ConnectError::TooManyConnections(0)));
    peer.calls(now).connect(remote(), &ConnectOptions::default()).expect("the peer has room");
    for turn in 0..100 {
        let now = now.plus_ms(turn * 50);
        peer.turn(now);
        nothing.turn(now);
    }
    assert!(nothing.link().levels().conserved());
    assert_eq!(nothing.connections_live(), 0);
}

#[test]
fn each_limit_alone_at_0_refuses_opens_or_serves_and_never_panics() {
    let zeroed = |zero: fn(&mut Limits)| {
        let mut limits = Setup::default().limits;
        zero(&mut limits);
        limits
    };
    let all: [fn(&mut Limits); 8] = [
        |limits| limits.tcbs_max = 0,
        |limits| limits.time_wait_max = 0,
        |limits| limits.half_open_max = 0,
        |limits| limits.chunks_max = 0,
        |limits| limits.destinations_max = 0,
        |limits| limits.neighbors_max = 0,
        |limits| limits.listeners_max = 0,
        |limits| limits.events_per_turn = 0,
    ];
    for (at, zero) in all.into_iter().enumerate() {
        let (a, b) = pair(MemoryConfig::default(), [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])]);
        let mut bounded = shard_with(a, "10.0.0.2", zeroed(zero)).expect("a limit of 0 is a limit");
        let mut peer = shard_with(b, "10.0.0.1", Setup::default().limits).expect("a shard");
        let now = Now::from_ms(5_000);
        let _ = bounded.calls(now).listen(remote().ip(), 80);
        let _ = bounded.calls(now).connect("10.0.0.1:80".parse().expect("an end"), &ConnectOptions::default());
        let _ = peer.calls(now).connect(remote(), &ConnectOptions::default());
        for turn in 0..100 {
            bounded.turn(now.plus_ms(turn * 50));
            peer.turn(now.plus_ms(turn * 50));
        }
        assert!(bounded.link().levels().conserved(), "limit {at}");
    }
}

#[test]
fn tables_past_memory_fail_with_the_bill() {
    let (a, _) = pair(MemoryConfig::default(), [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])]);
    // 8 TB of chunks: more than any address space limit or overcommit heuristic lets through.
    let limits = Limits { chunks_max: u32::MAX, ..Limits::default() };
    let Err(error) = shard_with(a, "10.0.0.1", limits) else { panic!("8 TB were granted") };
    assert!(matches!(error, ConfigError::NoMemory { available_bytes: None, .. }), "{error}");
    let text = alloc::string::ToString::to_string(&error);
    assert!(text.contains("lower limits.chunks_max") && text.contains("bytes/item"), "{text}");
}

/// An application that does nothing.
struct Mute;

impl Application for Mute {
    fn on_event(&mut self, _: &mut Calls<'_>, _: Event<'_>) {}
}

fn shard_with(link: MemoryLink, address: &str, limits: Limits) -> Result<Shard<MemoryLink, Mute>, ConfigError> {
    let address = LocalAddress { address: address.parse().expect("an address"), prefix_len: 24 };
    let config = ShardConfig { limits, addresses: vec![address], ..ShardConfig::default() };
    Shard::new(link, Mute, config, Now::from_ms(5_000))
}

#[test]
fn t19_connection_that_completes_after_its_listener_has_gone_is_turned_away() {
    let mut world = World::new(&Setup { connections: 1, ..Setup::default() });
    while world.server.core.half_open == 0 {
        world.turn(50);
    }
    let own = "10.0.0.2".parse().expect("an address");
    let mut calls = world.server.calls(world.now);
    assert!(calls.stop_listening(crate::ids::ListenerId(0)));
    calls.listen(own, 8443).expect("free");
    world.run(10_000);
    assert_eq!(world.server.application().accepted, 0, "8443's application is not told of a connection to 80");
    assert_eq!(world.client.application().closed, [CloseReason::Reset]);
    world.assert_clean();
}
