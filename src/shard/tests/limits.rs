//! What happens at each limit: a typed error or a counted drop, never more memory.

use super::options::Bench;
use super::*;
use crate::api::{ConnectError, ConnectionOptions, ListenError, SpliceError, TimerError};
use crate::counters::Counters;
use crate::flow::chunks::Chain;
use crate::limits::CHUNK_BYTES;
use crate::seq::Seq;
use crate::shard::ConfigError;
use crate::tcp::cookie::SynCookies;
use crate::wire::tcp::{Flags, Segment};

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

const NOTHING: Limits = Limits {
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

/// Counts Writable.
#[derive(Default)]
struct Starving {
    connected: Vec<Handle>,
    writable: Vec<Handle>,
}

impl Application for Starving {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { handle } => self.connected.push(handle),
            Event::Writable { handle } => {
                self.writable.push(handle);
                calls.send(handle, &[0; 100]).expect("open");
            }
            _ => {}
        }
    }
}

#[test]
fn who_starves_for_the_send_pool_is_told_once_when_chunks_come_back() {
    let limits = Limits { chunks_max: 8, ..Setup::default().limits };
    let (a, b) = pair(MemoryConfig::default(), MACS);
    let address = |text: &str| vec![LocalAddress { address: text.parse().expect("an address"), prefix_len: 24 }];
    let config = ShardConfig { limits, addresses: address("10.0.0.1"), ..ShardConfig::seeded(0) };
    let now = Now::from_ms(5_000);
    let mut client = Shard::new(a, Starving::default(), config, now).expect("a shard");
    let mut server = shard_with(b, "10.0.0.2", Setup::default().limits).expect("a shard");
    server.calls(now).listen(remote().ip(), 80).expect("a listener");
    for _ in 0..3 {
        client.calls(now).connect(remote(), &ConnectOptions::default()).expect("room");
    }
    for turn in 0..10 {
        client.turn(now.plus_ms(turn));
        server.turn(now.plus_ms(turn));
    }
    let [greedy, first, second] = client.application().connected[..] else { panic!("three are open") };
    let now = now.plus_ms(20);
    assert_eq!(client.calls(now).send(greedy, &[0; 100_000]), Ok(4 * 2048), "the pool is empty");
    for starved in [first, second, first] {
        assert_eq!(client.calls(now).send(starved, &[0; 100]), Ok(0));
    }
    // The server's acknowledgments do not come back yet.
    for turn in 0..50 {
        client.turn(now.plus_ms(turn));
    }
    assert_eq!(client.application().writable, [], "nobody is told in vain");
    for turn in 50..200 {
        server.turn(now.plus_ms(turn));
        client.turn(now.plus_ms(turn));
    }
    let mut told = client.application().writable.clone();
    told.retain(|handle| *handle != greedy);
    assert_eq!(told, [first, second]);
    assert_eq!(client.next_deadline(now.plus_ms(300)).filter(|due| *due < now.plus_ms(300)), None);
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
struct Mute {
    connected: u32,
    accepted: u32,
}

impl Application for Mute {
    fn on_event(&mut self, _: &mut Calls<'_>, event: Event<'_>) {
        self.connected += u32::from(matches!(event, Event::Connected { .. }));
        self.accepted += u32::from(matches!(event, Event::Accepted { .. }));
    }
}

fn shard_with(link: MemoryLink, address: &str, limits: Limits) -> Result<Shard<MemoryLink, Mute>, ConfigError> {
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

#[test]
fn t12_who_leaves_gaps_leaves_records_for_the_loss_recovery_of_others() {
    let mut bench = Bench::new(Settings::default(), false);
    let core = &mut bench.shard.core;
    let all = core.gaps.max();
    while core.gaps.len() < all - all / 4 {
        assert!(core.gaps.insert().is_some());
    }
    bench.listen(ConnectionOptions::default()).expect("a listener");
    bench.open();
    bench.exchange(&Segment { seq: bench.seq + 100, ..bench.next(Flags::ACK) }, b"beyond a gap");
    let core = &bench.shard.core;
    assert_eq!((core.counters.out_of_order_refused, core.counters.out_of_order_kept), (1, 0));
    assert_eq!(core.gaps.len(), all - all / 4);
}

#[test]
fn t12_gaps_of_silent_peers_are_forgotten_when_records_run_short() {
    let mut bench = Bench::new(Settings::default(), false);
    bench.listen(ConnectionOptions::default()).expect("a listener");
    bench.open();
    bench.exchange(&Segment { seq: bench.seq + 100, ..bench.next(Flags::ACK) }, b"beyond a gap");
    bench.turn(5000);
    assert_eq!(bench.shard.core.gaps.len(), 1, "nothing is forgotten while there is room");
    let core = &mut bench.shard.core;
    while !crate::shard::gaps::are_scarce(core) {
        core.gaps.insert();
    }
    let before = core.gaps.len();
    bench.turn(1);
    let core = &bench.shard.core;
    assert_eq!((core.counters.out_of_order_forgotten, core.gaps.len()), (1, before - 1));
    assert_eq!(bench.shard.receiving.free(), core.limits.chunks_max / 2);
}

/// A shard that sends, and one that takes nothing: at the start the shards, `count` connections and their handles.
fn stalling(count: usize) -> (Shard<MemoryLink, Starving>, Shard<MemoryLink, Mute>, Vec<Handle>) {
    stalling_with(count, Limits { chunks_max: 64, ..Setup::default().limits })
}

fn stalling_with(count: usize, limits: Limits) -> (Shard<MemoryLink, Starving>, Shard<MemoryLink, Mute>, Vec<Handle>) {
    let (a, b) = pair(MemoryConfig::default(), MACS);
    let addresses = |text: &str| vec![LocalAddress { address: text.parse().expect("an address"), prefix_len: 24 }];
    let now = Now::from_ms(5_000);
    let config = ShardConfig { limits, addresses: addresses("10.0.0.1"), ..ShardConfig::seeded(0) };
    let mut client = Shard::new(a, Starving::default(), config, now).expect("a shard");
    let settings = Settings { receive_buffer_bytes: 2048, ..Settings::default() };
    let config = ShardConfig { settings, addresses: addresses("10.0.0.2"), ..ShardConfig::seeded(0) };
    let mut server = Shard::new(b, Mute::default(), config, now).expect("a shard");
    server.calls(now).listen(remote().ip(), 80).expect("a listener");
    for _ in 0..count {
        client.calls(now).connect(remote(), &ConnectOptions::default()).expect("room");
    }
    for turn in 0..10 {
        client.turn(now.plus_ms(turn));
        server.turn(now.plus_ms(turn));
    }
    let handles = client.application().connected.clone();
    assert_eq!(handles.len(), count);
    (client, server, handles)
}

#[test]
fn t03_who_has_stalled_for_longest_is_ended_when_send_chunks_run_short() {
    let (mut client, mut server, handles) = stalling(3);
    let run = |client: &mut Shard<_, Starving>, server: &mut Shard<_, Mute>, from_s: u64, to_s: u64| {
        for ms in (from_s * 1000..to_s * 1000).step_by(10) {
            client.turn(Now::from_ms(ms));
            server.turn(Now::from_ms(ms));
        }
    };
    let [first, second, third] = handles[..] else { panic!("three are open") };
    // Half of the pool each; their peers take 2 kB and close the window.
    assert_eq!(client.calls(Now::from_ms(6_000)).send(first, &[0; 28_000]), Ok(28_000));
    run(&mut client, &mut server, 6, 40);
    assert_eq!(client.counters().stalled_ended, 0, "there is memory");
    assert!(client.calls(Now::from_ms(40_000)).send(second, &[0; 60_000]).expect("open") > 28_000);
    run(&mut client, &mut server, 40, 42);
    assert_eq!(client.counters().stalled_ended, 1);
    let mut calls = client.calls(Now::from_ms(42_000));
    assert!(calls.send(first, &[0]).is_err(), "the first has stalled for longest");
    assert_eq!(calls.send(third, &[0; 1000]), Ok(1000), "there is memory for others");
    run(&mut client, &mut server, 42, 50);
    assert_eq!(client.counters().stalled_ended, 1, "the second has not stalled for long");
}

#[test]
fn t03_must_37_who_keeps_what_the_application_has_closed_is_ended_when_records_run_short() {
    let limits = Limits { tcbs_max: 8, ..Setup::default().limits };
    let (mut client, mut server, handles) = stalling_with(6, limits);
    let run = |client: &mut Shard<_, Starving>, server: &mut Shard<_, Mute>, from_s: u64, to_s: u64| {
        for ms in (from_s * 1000..to_s * 1000).step_by(20) {
            client.turn(Now::from_ms(ms));
            server.turn(Now::from_ms(ms));
        }
    };
    for (handle, octets) in handles.iter().zip([10_000, 4000, 6000, 10_000, 4000, 0]) {
        assert_eq!(client.calls(Now::from_ms(6_000)).send(*handle, &vec![0; octets]), Ok(octets));
    }
    run(&mut client, &mut server, 6, 8);
    for handle in &handles[..3] {
        client.calls(Now::from_ms(8_000)).close(*handle).expect("open");
    }
    run(&mut client, &mut server, 8, 1500);
    let live = |client: &Shard<_, Starving>| (client.counters().stalled_ended, client.connections_live());
    assert_eq!(live(&client), (0, 6), "the peers acknowledge each probe, and there is room");
    let mut from_s = 1500;
    for ended in 1..=3 {
        while client.calls(Now::from_ms(from_s * 1000)).connect(remote(), &ConnectOptions::default()).is_ok() {}
        run(&mut client, &mut server, from_s, from_s + 60);
        from_s += 60;
        assert_eq!(live(&client), (ended, 7), "one gives way");
    }
    client.calls(Now::from_ms(from_s * 1000)).connect(remote(), &ConnectOptions::default()).expect("room");
    run(&mut client, &mut server, from_s, from_s + 60);
    assert_eq!(live(&client), (3, 8), "what applications still have is theirs");
}

/// A peer to which 60 kB wait, and more as there is room for it, and which takes so many octets every so often, its
/// window closed in between or not; five minutes, in which send chunks are short or not. Whether its connection is
/// ended.
fn is_ended(octets: u32, every_ms: u64, closed_between: bool, short: bool) -> bool {
    let mut bench = Bench::accepted(ConnectionOptions { no_delay: true, ..ConnectionOptions::default() });
    let (handle, end) = (bench.handle(), bench.now.plus_ms(300_000));
    bench.shard.calls(bench.now).send(handle, &[7; 60_000]).expect("open");
    let mut filler = Chain::default();
    if short {
        let sending = &mut bench.shard.core.sending;
        let bytes = vec![0; (sending.free() as usize - 30) * CHUNK_BYTES];
        assert_eq!(sending.append(&mut filler, &bytes), bytes.len());
    }
    let mut sent = bench.ack;
    while bench.now.us() < end.us() && bench.shard.application().reason.is_none() {
        bench.shard.calls(bench.now).send(handle, &[7; 60_000]).expect("open");
        let mut room = octets;
        loop {
            let heard = bench.exchange(&bench.next(Flags::ACK), &[]);
            sent = heard.iter().map(|one| one.seg.end()).fold(sent, Seq::max);
            let taken = room.min(sent - bench.ack);
            if taken == 0 {
                break;
            }
            (bench.ack, room) = (bench.ack + taken, room - taken);
        }
        if closed_between {
            bench.exchange(&Segment { wnd: 0, ..bench.next(Flags::ACK) }, &[]);
        }
        for _ in 0..every_ms / 100 {
            bench.turn(100);
        }
    }
    bench.shard.core.sending.clear(&mut filler);
    let reason = bench.shard.application().reason;
    assert_eq!(bench.shard.counters().stalled_ended, u64::from(reason == Some(CloseReason::TimedOut)));
    reason.is_some()
}

#[test]
fn t03_who_lets_a_little_go_now_and_then_holds_nothing_for_long_when_send_chunks_run_short() {
    for (octets, every_ms, closed_between) in
        [(1, 1000, false), (1, 10_000, true), (1460, 10_000, true), (0, 5000, false)]
    {
        assert!(is_ended(octets, every_ms, closed_between, true), "{octets} octets every {every_ms} ms");
        assert!(octets == 0 || !is_ended(octets, every_ms, closed_between, false), "there is memory");
    }
    for (octets, every_ms, closed_between) in [(1460, 1000, false), (2920, 2000, true), (14_600, 10_000, true)] {
        assert!(
            !is_ended(octets, every_ms, closed_between, true),
            "slow, but honest: {octets} octets every {every_ms} ms"
        );
    }
}
