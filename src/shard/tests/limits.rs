//! What happens at each limit: a typed error or a counted drop, never more memory.

use super::options::Bench;
use super::*;
use crate::api::{ConnectError, ConnectionOptions, ListenError, SpliceError, TimerError};
use crate::counters::Counters;
use crate::shard::ConfigError;
use crate::tcp::cookie::SynCookies;
use crate::wire::tcp::{Flags, Segment};

pub(super) fn remote() -> SocketAddr {
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
    let refused = world.client.application().refused as u64;
    assert!(refused > 0);
    let full = world.client.calls(world.now).connect(remote(), &ConnectOptions::default());
    assert_eq!(full, Err(ConnectError::TimeWaitFull(10)));
    let counters = world.client.counters();
    assert_eq!((counters.time_wait_created, counters.time_wait_evicted, counters.time_wait_skipped), (10, 0, 0));
    assert_eq!((counters.opens_refused_time_wait, counters.ports_exhausted), (refused + 1, 0), "each is counted");
    // A port that was asked for makes no difference.
    let fixed = ConnectOptions { local_port: Some(5), ..ConnectOptions::default() };
    assert_eq!(world.client.calls(world.now).connect(remote(), &fixed), Err(ConnectError::TimeWaitFull(10)));
    assert_eq!(world.client.counters().opens_refused_time_wait, refused + 2);
}

#[test]
fn destination_limit_refuses_opens_with_its_own_error_whatever_else_is_full() {
    // With one place in TIME-WAIT, the first connection takes the last.
    for (time_wait_max, same) in [(4096, None), (1, Some(ConnectError::TimeWaitFull(1)))] {
        let limits = Limits { destinations_max: 1, time_wait_max, ..Setup::default().limits };
        let mut world = World::new(&Setup { connections: 0, limits, ..Setup::default() });
        let mut calls = world.client.calls(world.now);
        calls.connect(remote(), &ConnectOptions::default()).expect("the first destination");
        let other = SocketAddr::new(remote().ip(), 81);
        let refused = calls.connect(other, &ConnectOptions::default());
        assert_eq!(refused, Err(ConnectError::DestinationsExhausted(1)));
        assert_eq!(calls.connect(remote(), &ConnectOptions::default()).err(), same);
        let counters = world.client.counters();
        assert_eq!((counters.ports_exhausted, counters.opens_refused_time_wait), (1, u64::from(same.is_some())));
    }
}

/// Shows MUST-46.
#[test]
fn invalid_ends_are_refused_with_typed_errors() {
    let mut world = World::new(&Setup { connections: 0, ..Setup::default() });
    let mut calls = world.client.calls(world.now);
    let plain = ConnectOptions::default();
    for text in ["224.0.0.1:80", "255.255.255.255:80", "127.0.0.1:80", "0.0.0.0:80", "10.0.0.255:80", "10.0.0.2:0"] {
        let end = text.parse().expect("an end");
        assert_eq!(calls.connect(end, &plain), Err(ConnectError::InvalidRemote(end)), "MUST-46");
    }
    calls.connect("10.0.0.0:80".parse().expect("an end"), &plain).expect("the network's own address may be a host's");
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

#[test]
fn where_the_kernel_has_the_addresses_only_claimed_ports_are_used() {
    let (link, _peer) = pair(MemoryConfig::default(), [1, 2].map(|last| MacAddress([2, 0, 0, 0, 0, last])));
    let (_, (server, config)) = ends(&Setup::default(), Settings::default());
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let config = ShardConfig { claimed: Some(vec![(80, 80), (90, 99)]), ..config };
    let mut shard = Shard::new(link, server, config, Now::from_ms(5_000)).expect("a shard");
    let mut calls = shard.calls(Now::from_ms(5_000));
    let (everywhere, own) = (address("0.0.0.0"), address("10.0.0.2"));
    for at in [everywhere, own] {
        assert_eq!(calls.listen(at, 81), Err(ListenError::NotClaimed(81)));
        assert!(calls.listen(at, 99).is_ok());
    }
    let listener = calls.listen(everywhere, 80).expect("claimed");
    // One that stops may come back.
    assert!(calls.stop_listening(listener) && calls.listen(everywhere, 80).is_ok());
    let client = "10.0.0.1:80".parse().expect("an end");
    let from = |port| ConnectOptions { local_port: Some(port), ..ConnectOptions::default() };
    assert_eq!(calls.connect(client, &from(100)), Err(ConnectError::NotClaimed(100)));
    let drawn = calls.connect(client, &ConnectOptions::default());
    assert!(matches!(drawn, Err(ConnectError::NotClaimed(32_768..=60_999))), "{drawn:?}");
    assert!(calls.connect(client, &from(90)).is_ok());
}

#[test]
fn of_addresses_that_the_stack_stands_in_for_it_has_every_port() {
    let (link, _peer) = pair(MemoryConfig::default(), [1, 2].map(|last| MacAddress([2, 0, 0, 0, 0, last])));
    let (_, (server, config)) = ends(&Setup::default(), Settings::default());
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let transparent = vec![LocalAddress { address: address("198.51.100.0"), prefix_len: 24 }];
    let config = ShardConfig { claimed: Some(vec![(80, 80)]), transparent, ..config };
    let mut shard = Shard::new(link, server, config, Now::from_ms(5_000)).expect("a shard");
    let mut calls = shard.calls(Now::from_ms(5_000));
    assert_eq!(calls.listen(address("10.0.0.2"), 81), Err(ListenError::NotClaimed(81)));
    assert_eq!(calls.listen(address("::"), 81), Err(ListenError::NotClaimed(81)), "of this family there are none");
    for at in ["198.51.100.7", "0.0.0.0"] {
        assert!(calls.listen(address(at), 81).is_ok(), "{at}");
    }
    let client = "10.0.0.1:80".parse().expect("an end");
    let from = |text| ConnectOptions { local_address: Some(address(text)), ..ConnectOptions::default() };
    assert!(matches!(calls.connect(client, &from("10.0.0.2")), Err(ConnectError::NotClaimed(_))));
    assert!(calls.connect(client, &from("198.51.100.7")).is_ok());
}

pub(super) const NOTHING: Limits = Limits {
    tcbs_max: 0,
    time_wait_max: 0,
    half_open_max: 0,
    accept_max: 1,
    cookies_remembered_max: 0,
    chunks_max: 2,
    reassemblies_max: 0,
    splices_max: 0,
    histories_max: 0,
    timers_max: 0,
    destinations_max: 0,
    neighbors_max: 0,
    listeners_max: 0,
    handover_batches_max: 0,
    events_per_turn: 1,
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

/// What a shard does with one limit at 0.
struct AtZero {
    limit: &'static str,
    zero: fn(&mut Limits),
    listens: Result<(), ListenError>,
    connects: Result<(), ConnectError>,
    /// Connections that come to be: those that the shard opens, and those of its peer.
    opened: u32,
    accepted: u32,
    /// Those that the peer takes for open.
    peer_connects: u32,
    /// What is counted, when something is.
    counts: fn(&Counters) -> u64,
}

#[test]
fn each_limit_alone_at_0_refuses_what_it_bounds_and_nothing_else() {
    let serves = AtZero {
        limit: "",
        zero: |_| (),
        listens: Ok(()),
        connects: Ok(()),
        opened: 1,
        accepted: 1,
        peer_connects: 1,
        counts: |_| 1,
    };
    let all = [
        AtZero {
            limit: "tcbs_max",
            zero: |limits| limits.tcbs_max = 0,
            connects: Err(ConnectError::TooManyConnections(0)),
            opened: 0,
            accepted: 0,
            peer_connects: 0,
            counts: |counters| counters.syn_dropped_full,
            ..serves
        },
        AtZero {
            limit: "time_wait_max",
            zero: |limits| limits.time_wait_max = 0,
            connects: Err(ConnectError::TimeWaitFull(0)),
            opened: 0,
            accepted: 0,
            peer_connects: 0,
            counts: |counters| counters.opens_refused_time_wait.min(counters.syn_dropped_full),
            ..serves
        },
        // Without half-open state a SYN is answered by a cookie.
        AtZero {
            limit: "half_open_max",
            zero: |limits| limits.half_open_max = 0,
            counts: |counters| counters.syn_cookies_accepted,
            ..serves
        },
        AtZero {
            limit: "destinations_max",
            zero: |limits| limits.destinations_max = 0,
            connects: Err(ConnectError::DestinationsExhausted(0)),
            opened: 0,
            counts: |counters| counters.ports_exhausted,
            ..serves
        },
        AtZero {
            limit: "neighbors_max",
            zero: |limits| limits.neighbors_max = 0,
            connects: Err(ConnectError::NeighborsFull(0)),
            opened: 0,
            accepted: 0,
            // A SYN is answered by a cookie, so that the peer thinks that it is connected; its ACK meets the limit.
            counts: |counters| counters.syn_dropped_no_neighbor,
            ..serves
        },
        AtZero {
            limit: "listeners_max",
            zero: |limits| limits.listeners_max = 0,
            listens: Err(ListenError::TooMany(0)),
            accepted: 0,
            peer_connects: 0,
            counts: |counters| counters.rst_sent,
            ..serves
        },
        AtZero { limit: "cookies_remembered_max", zero: |limits| limits.cookies_remembered_max = 0, ..serves },
        AtZero { limit: "reassemblies_max", zero: |limits| limits.reassemblies_max = 0, ..serves },
        AtZero { limit: "splices_max", zero: |limits| limits.splices_max = 0, ..serves },
        AtZero { limit: "histories_max", zero: |limits| limits.histories_max = 0, ..serves },
        AtZero { limit: "timers_max", zero: |limits| limits.timers_max = 0, ..serves },
        AtZero { limit: "handover_batches_max", zero: |limits| limits.handover_batches_max = 0, ..serves },
    ];
    for expected in all {
        let mut limits = Setup::default().limits;
        (expected.zero)(&mut limits);
        let (a, b) = pair(MemoryConfig::default(), MACS);
        let mut bounded = shard_with(a, "10.0.0.2", limits).expect("a limit of 0 is a limit");
        let mut peer = shard_with(b, "10.0.0.1", Setup::default().limits).expect("a shard");
        let (now, to_peer) = (Now::from_ms(5_000), "10.0.0.1:80".parse().expect("an end"));
        let limit = expected.limit;
        peer.calls(now).listen("10.0.0.1".parse().expect("an address"), 80).expect("room");
        assert_eq!(bounded.calls(now).listen(remote().ip(), 80).map(|_| ()), expected.listens, "{limit}");
        assert_eq!(
            bounded.calls(now).connect(to_peer, &ConnectOptions::default()).map(|_| ()),
            expected.connects,
            "{limit}"
        );
        peer.calls(now).connect(remote(), &ConnectOptions::default()).expect("the peer has room");
        for turn in 0..100 {
            bounded.turn(now.plus_ms(turn * 50));
            peer.turn(now.plus_ms(turn * 50));
        }
        assert!(bounded.link().levels().conserved(), "{limit}");
        let told = bounded.application();
        assert_eq!((told.connected, told.accepted), (expected.opened, expected.accepted), "{limit}");
        let told = peer.application();
        assert_eq!((told.connected, told.accepted), (expected.peer_connects, expected.opened), "{limit}, at the peer");
        assert!((expected.counts)(bounded.counters()) > 0, "{limit}: {:?}", bounded.counters());
    }
}

/// What connections need only sometimes: without a place for it they work as ever, and whoever asks for it is told.
#[test]
fn nothing_kept_beside_connections_leaves_them_whole() {
    let limits = Limits {
        cookies_remembered_max: 0,
        reassemblies_max: 0,
        splices_max: 0,
        histories_max: 0,
        timers_max: 0,
        ..Setup::default().limits
    };
    let setup = Setup { connections: 20, request_bytes: 20_000, limits, ..Setup::default() };
    let settings = Settings { syn_cookies: SynCookies::Always, ..Settings::default() };
    let mut world = World::with_settings(&setup, settings);
    world.run(400_000);
    assert_eq!(world.client.application().closed, [CloseReason::Graceful; 20]);
    assert_eq!(world.server.counters().syn_cookies_accepted, 20);
    world.assert_clean();

    let mut bench = Bench::with_limits(Settings::default(), false, limits);
    bench.listen(ConnectionOptions::default()).expect("a listener");
    bench.open();
    let first = bench.handle();
    let mut calls = bench.shard.calls(bench.now);
    assert_eq!(calls.start_timer(::core::time::Duration::ZERO, 1), Err(TimerError::TooMany(0)));
    assert!(calls.info(first).expect("live").history.is_none());
    // Text out of order is left for the peer to send again.
    let ahead = Segment { seq: bench.seq + 3, ..bench.next(Flags::ACK) };
    assert_eq!(bench.exchange(&ahead, b"def")[0].seg.ack, bench.seq);
    assert_eq!(bench.shard.counters().out_of_order_refused, 1);
    bench.exchange(&bench.next(Flags::ACK), b"abc");
    bench.exchange(&ahead, b"def");
    bench.seq += 6;
    // What is lost is sent again without a scoreboard.
    bench.shard.calls(bench.now).send(first, &[7; 10_000]).expect("open");
    let lost = bench.turn(1)[0].seg;
    let duplicates = (0..3).flat_map(|_| bench.exchange(&bench.next(Flags::ACK), &[])).collect::<Vec<_>>();
    assert!(duplicates.iter().any(|heard| heard.seg.seq == lost.seq), "{duplicates:?}");
    assert_eq!(bench.shard.counters().fast_recoveries, 1);
    bench.tuple.local_port += 1;
    bench.open();
    let second = bench.handle();
    assert_eq!(bench.shard.calls(bench.now).splice(first, second), Err(SpliceError::TooMany(0)));
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

#[test]
fn more_records_than_numbers_can_name_are_refused() {
    let macs = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];
    for (limits, says) in [
        (Limits { tcbs_max: 1 << 30, ..Limits::default() }, "lower limits.tcbs_max"),
        (Limits { time_wait_max: (1 << 30) - 1, ..Limits::default() }, "lower limits.time_wait_max"),
    ] {
        let Err(error) = shard_with(pair(MemoryConfig::default(), macs).0, "10.0.0.1", limits) else {
            panic!("it starts")
        };
        assert!(matches!(error, ConfigError::TooManyRecords { .. }), "{error}");
        assert!(alloc::string::ToString::to_string(&error).contains(says), "{error}");
    }
}

#[test]
fn limits_with_which_nothing_works_are_refused_with_the_limit_and_its_least_value() {
    let sound = Setup::default().limits;
    let small = [
        (Limits { accept_max: 0, ..sound }, "limits.accept_max of 0 lets no connection work: it must be at least 1"),
        (Limits { chunks_max: 0, ..sound }, "limits.chunks_max of 0 lets no connection work: it must be at least 2"),
        (Limits { chunks_max: 1, ..sound }, "limits.chunks_max of 1 lets no connection work: it must be at least 2"),
        (
            Limits { events_per_turn: 0, ..sound },
            "limits.events_per_turn of 0 lets no connection work: it must be at least 1",
        ),
    ];
    for (limits, says) in small {
        let (link, _) = pair(MemoryConfig::default(), MACS);
        let Err(error) = shard_with(link, "10.0.0.2", limits) else { panic!("{says}") };
        assert_eq!(alloc::string::ToString::to_string(&error), says);
    }
}

#[test]
fn more_neighbors_than_connections_can_name_are_refused() {
    let limits = Limits { neighbors_max: 65_536, ..Setup::default().limits };
    let (link, _) = pair(MemoryConfig::default(), MACS);
    let Err(error) = shard_with(link, "10.0.0.2", limits) else { panic!("65,536 neighbours were granted") };
    let says = "65536 neighbours are more than 65535: lower limits.neighbors_max";
    assert_eq!(alloc::string::ToString::to_string(&error), says);
}

#[test]
fn with_two_chunks_bytes_still_arrive_whole() {
    let limits = Limits { chunks_max: 2, ..Setup::default().limits };
    let mut world = World::new(&Setup { request_bytes: 20_000, limits, ..Setup::default() });
    world.run(400_000);
    assert_eq!(world.client.application().closed, [CloseReason::Graceful]);
    world.assert_clean();
}

#[test]
fn t28_a_full_neighbour_cache_is_no_full_backlog() {
    let limits = Limits { neighbors_max: 0, ..Setup::default().limits };
    let settings = Settings { syn_cookies: SynCookies::Off, ..Settings::default() };
    let (a, b) = pair(MemoryConfig::default(), MACS);
    let now = Now::from_ms(5_000);
    let addresses = vec![LocalAddress { address: remote().ip(), prefix_len: 24 }];
    let config = ShardConfig { limits, settings, addresses, ..ShardConfig::seeded(0) };
    let mut full = Shard::new(b, Mute::default(), config, now).expect("a shard");
    full.calls(now).listen(remote().ip(), 80).expect("a listener");
    let mut client = shard_with(a, "10.0.0.1", Setup::default().limits).expect("a shard");
    client.calls(now).connect(remote(), &ConnectOptions::default()).expect("room");
    for _ in 0..5 {
        client.turn(now);
        full.turn(now);
    }
    assert_eq!((full.counters().syn_dropped_no_neighbor, full.counters().syn_dropped_full), (1, 0));
}

/// An application that counts and does nothing.
#[derive(Default)]
pub(super) struct Mute {
    connected: u32,
    accepted: u32,
}

impl Application for Mute {
    fn on_event(&mut self, _: &mut Calls<'_>, event: Event<'_>) {
        self.connected += u32::from(matches!(event, Event::Connected { .. }));
        self.accepted += u32::from(matches!(event, Event::Accepted { .. }));
    }
}

pub(super) fn shard_with(
    link: MemoryLink,
    address: &str,
    limits: Limits,
) -> Result<Shard<MemoryLink, Mute>, ConfigError> {
    let address = LocalAddress { address: address.parse().expect("an address"), prefix_len: 24 };
    let config = ShardConfig { limits, addresses: vec![address], ..ShardConfig::seeded(0) };
    Shard::new(link, Mute::default(), config, Now::from_ms(5_000))
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

#[test]
fn t19_no_listener_of_the_other_ip_version_gets_the_connection() {
    for (v6, any) in [(false, "::"), (true, "0.0.0.0")] {
        let mut world = World::new(&Setup { connections: 1, v6, ..Setup::default() });
        while world.server.core.half_open == 0 {
            world.turn(50);
        }
        let mut calls = world.server.calls(world.now);
        assert!(calls.stop_listening(crate::ids::ListenerId(0)));
        let other = calls.listen(any.parse().expect("an address"), 80).expect("free");
        assert_eq!(other, crate::ids::ListenerId(0), "it has the number of the one that has gone");
        world.run(10_000);
        assert_eq!(
            (world.server.application().accepted, world.client.application().closed.as_slice()),
            (0, &[CloseReason::Reset][..])
        );
        world.assert_clean();
    }
}

#[test]
fn t19_what_a_connection_brings_that_is_turned_away_leaves_nothing() {
    for (beyond, text) in [(100, &b"out of order"[..]), (0, b"in order")] {
        let mut bench = Bench::new(Settings::default(), false);
        let listener = bench.listen(ConnectionOptions::default()).expect("a listener");
        let syn_ack = bench.exchange(&bench.next(Flags::SYN), &[]);
        bench.ack = syn_ack[0].seg.seq + 1;
        assert!(bench.shard.calls(bench.now).stop_listening(listener));
        let answer = bench.exchange(&Segment { seq: bench.seq + 1 + beyond, ..bench.next(Flags::ACK) }, text);
        assert!(answer.len() == 1 && answer[0].seg.flags.has(Flags::RST), "{answer:?}");
        assert!(bench.shard.application().events.is_empty());
        bench.turn(1);
        assert_shard_clean(&bench.shard);
    }
}
