//! What happens at each limit: a typed error or a counted drop, never more memory.

use super::*;
use crate::api::{ConnectError, ListenError};

fn remote() -> SocketAddr {
    "10.0.0.2:80".parse().expect("an end")
}

#[test]
fn b10_half_open_limit_drops_syns_and_counts_them() {
    let limits = Limits { half_open_max: 4, ..Setup::default().limits };
    let mut world = World::new(&Setup { connections: 50, limits, ..Setup::default() });
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
