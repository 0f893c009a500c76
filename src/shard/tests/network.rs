//! The stack among its neighbours: announcements, conflicts, answers to whoever sent the SYN, gateways that are silent.

use super::*;
use crate::shard::ConfigError;
use crate::shard::announce::{claimed_by, emit_probe};
use crate::wire::{self, Expect, Parsed, arp};
use core::net::Ipv4Addr;

const SERVER_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// A server alone on its wire, and the other end of it; `change` its configuration.
fn alone(change: impl FnOnce(&mut ShardConfig)) -> (MemoryLink, Shard<MemoryLink, Server>) {
    let (_, (server, mut config)) = ends(&Setup::default(), Settings::default());
    change(&mut config);
    let (peer, link) = pair(MemoryConfig::default(), MACS);
    (peer, Shard::new(link, server, config, START).expect("a shard"))
}

const START: Now = Now::from_ms(5_000);

/// Frames that the peer has received, as it reads them.
fn received(peer: &mut MemoryLink) -> Vec<Parsed> {
    let mut burst = Vec::with_capacity(64);
    peer.receive(&mut burst, 64);
    let expect = Expect { mac: MACS[0], mtu: 1500, vlan: None, verify_checksums: true };
    let parsed = burst.iter().map(|frame| wire::parse(peer.bytes(frame), &expect).expect("a frame")).collect();
    burst.into_iter().for_each(|frame| peer.give_back(frame));
    peer.flush();
    parsed
}

fn send(peer: &mut MemoryLink, emit: impl FnOnce(&mut [u8]) -> usize) {
    let mut frame = peer.take().expect("a frame");
    let len = emit(peer.bytes_mut(&mut frame));
    peer.send(frame, len).expect("room");
    peer.flush();
}

#[test]
fn addresses_are_announced_twice_whatever_their_number() {
    let own = |last: u8| LocalAddress { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), prefix_len: 24 };
    let v6 = LocalAddress { address: "fd00::2".parse().expect("an address"), prefix_len: 64 };
    let (mut peer, mut server) = alone(|config| config.addresses = (2..102).map(own).chain([v6]).collect());
    server.announce(START);
    for announced_at in [0, 2_000] {
        let mut heard = Vec::new();
        for turn in 0..8 {
            let now = START.plus_ms(announced_at + turn);
            server.turn(now);
            heard.extend(received(&mut peer).iter().filter_map(claimed_by).map(|claim| claim.address));
        }
        heard.sort();
        heard.dedup();
        assert_eq!(heard.len(), 101, "{heard:?}");
    }
    server.turn(START.plus_ms(10_000));
    assert_eq!((received(&mut peer).len(), server.next_deadline(START.plus_ms(10_000))), (0, None));
    assert_eq!(server.counters().addresses_announced, 202);
}

#[test]
fn host_with_an_own_address_is_counted_reported_and_told_once_in_10_s() {
    let (mut peer, mut server) = alone(|_| {});
    for (ms, defences) in [(0, 1), (1_000, 0), (9_999, 0), (10_001, 1)] {
        send(&mut peer, |frame| arp::emit_request(frame, MACS[0], None, SERVER_IP, Ipv4Addr::new(10, 0, 0, 77)));
        server.turn(START.plus_ms(ms));
        let claims: Vec<_> = received(&mut peer).iter().filter_map(claimed_by).collect();
        assert_eq!(claims.len(), defences, "after {ms} ms: {claims:?}");
        let conflict = server.take_conflict().expect("it is reported");
        assert_eq!((conflict.address, conflict.mac), (IpAddr::V4(SERVER_IP), MACS[0]));
    }
    assert_eq!((server.counters().address_conflicts, server.take_conflict()), (4, None));
}

#[test]
fn each_contested_address_is_defended_by_itself() {
    let own = |last: u8| LocalAddress { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)), prefix_len: 24 };
    let (mut peer, mut server) = alone(|config| config.addresses = [4, 2, 3].map(own).to_vec());
    for (ms, contested, defended) in [(0, [3, 2], vec![2, 3]), (1_000, [2, 4], vec![4]), (10_001, [3, 4], vec![3])] {
        for last in contested {
            let sender = Ipv4Addr::new(10, 0, 0, last);
            send(&mut peer, |frame| arp::emit_request(frame, MACS[0], None, sender, Ipv4Addr::new(10, 0, 0, 77)));
        }
        server.turn(START.plus_ms(ms));
        let mut heard: Vec<_> = received(&mut peer).iter().filter_map(claimed_by).map(|claim| claim.address).collect();
        heard.sort();
        let expected: Vec<_> = defended.into_iter().map(|last| own(last).address).collect();
        assert_eq!(heard, expected, "after {ms} ms");
    }
    assert_eq!(server.counters().address_conflicts, 6);
}

#[test]
fn probe_is_answered_and_no_conflict() {
    for v6 in [false, true] {
        let address = if v6 { "fd00::2".parse().expect("an address") } else { IpAddr::V4(SERVER_IP) };
        let (mut peer, mut server) = alone(|config| {
            config.addresses = vec![LocalAddress { address, prefix_len: 64.min(if v6 { 64 } else { 24 }) }]
        });
        send(&mut peer, |frame| emit_probe(frame, MACS[0], None, address));
        server.turn(START);
        let claims: Vec<_> = received(&mut peer).iter().filter_map(claimed_by).collect();
        assert!(matches!(&claims[..], [claim] if claim.address == address && claim.mac == MACS[1]), "{claims:?}");
        assert_eq!(server.counters().address_conflicts, 0);
    }
}

#[test]
fn syn_without_a_way_back_is_answered_only_to_its_sender() {
    for reply_to_sender in [false, true] {
        let ((mut client, client_config), (server, server_config)) = ends(&Setup::default(), Settings::default());
        client.to_open = 1;
        let remote = client.remote;
        // The server's network holds nobody else, and there is no gateway.
        let addresses = vec![LocalAddress { prefix_len: 32, ..server_config.addresses[0] }];
        let server_config = ShardConfig { addresses, gateways: Vec::new(), reply_to_sender, ..server_config };
        let (a, b) = pair(MemoryConfig::default(), MACS);
        let client = Shard::new(a, client, client_config, START).expect("a shard");
        let mut server = Shard::new(b, server, server_config, START).expect("a shard");
        server.calls(START).listen(remote.ip(), remote.port()).expect("a listener");
        let mut world = World { client, server, now: START };
        (0..200).for_each(|_| world.turn(50));
        let counters = world.server.counters();
        assert_eq!(
            (counters.established, counters.closed_graceful, counters.syn_dropped_no_neighbor > 0),
            if reply_to_sender { (1, 1, false) } else { (0, 0, true) }
        );
        assert_eq!(world.server.core.neighbors.in_use(), 0, "whoever ends lets its neighbour go");
    }
}

#[test]
fn gateway_that_is_silent_makes_an_open_unreachable_after_the_configured_time() {
    for seconds in [1, 2, 5] {
        let ((mut client, config), _) = ends(&Setup::default(), Settings::default());
        client.remote = "192.0.2.1:80".parse().expect("an address");
        let gateways = vec!["10.0.0.254".parse().expect("an address")];
        let (link, _peer) = pair(MemoryConfig::default(), MACS);
        let config = ShardConfig { gateways, neighbor_timeout_s: seconds, ..config };
        let mut client = Shard::new(link, client, config, START).expect("a shard");
        let mut ended_at = None;
        for ms in (0..10_000).step_by(10) {
            client.turn(START.plus_ms(ms));
            if client.application().closed == [CloseReason::Unreachable] {
                ended_at = Some(ms);
                break;
            }
        }
        let expected = u64::from(seconds) * 1000;
        assert!(ended_at.is_some_and(|ms| (expected..expected + 50).contains(&ms)), "{seconds} s: {ended_at:?} ms");
    }
}

#[test]
fn connections_follow_another_mac_and_a_smaller_mtu() {
    let mut world = World::new(&Setup { connections: 1, request_bytes: 40_000, ..Setup::default() });
    (0..4).for_each(|_| world.turn(50));
    let other = MacAddress([2, 0, 0, 0, 0, 0x77]);
    assert!(!world.server.change_link(0, MACS[1], 100), "no MTU for TCP");
    assert!(world.server.change_link(0, other, 900));
    world.server.announce(world.now);
    assert_eq!(world.server.core.settings.mtu, 900);
    // A neighbour just confirmed is not believed to be elsewhere by one announcement (T28); the second comes after 2 s.
    for _ in 0..20_000 {
        world.turn(1_000);
    }
    assert_eq!(world.client.application().closed, [CloseReason::Graceful]);
    let learned = world.client.core.neighbors.lookup(IpAddr::V4(SERVER_IP));
    assert_eq!(learned, Some(other), "the client has learned where the server is");
    assert!(world.client.counters().segments_received > 40_000 / 860, "no segment is larger than the MTU");
}

/// RFC 8200 5.
#[test]
fn an_mtu_below_1280_is_refused_where_addresses_are_ipv6() {
    for v6 in [false, true] {
        for (mtu, fits) in [(575, false), (576, !v6), (1279, !v6), (1280, true), (1500, true)] {
            let (_, (server, config)) = ends(&Setup { v6, ..Setup::default() }, Settings::default());
            let (_peer, link) = pair(MemoryConfig { mtu, ..MemoryConfig::default() }, MACS);
            match Shard::new(link, server, config, START) {
                Ok(_) => assert!(fits, "{mtu}"),
                Err(error) => assert_eq!((fits, error), (false, ConfigError::BadMtu(mtu.into()))),
            }
            let (_peer, mut server) = alone(|config| {
                config.addresses[0].address =
                    if v6 { "fd00::2".parse().expect("an address") } else { SERVER_IP.into() };
            });
            assert_eq!(server.change_link(0, MACS[1], mtu.into()), fits, "{mtu}");
        }
    }
}
