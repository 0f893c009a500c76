//! Policies that change while the shard runs (B40, B45, B46), and the quiet time after a start (B48).

use super::*;
use crate::api::ConnectError;
use crate::four_tuple::{Addresses, FourTuple};
use crate::shard::{ConfigError, Policies};
use crate::tcp::cookie::SynCookies;
use crate::tcp::time_wait::Policy;
use ::core::net::Ipv4Addr;

impl World {
    /// One more connection, until it has ended on both sides.
    #[track_caller]
    fn one_more(&mut self) {
        let remote = self.client.application().remote;
        self.client.calls(self.now).connect(remote, &ConnectOptions::default()).expect("a free port");
        self.run(10_000);
    }

    fn set_client(&mut self, change: impl FnOnce(&mut Policies)) {
        let mut policies = self.client.policies();
        change(&mut policies);
        self.client.set_policies(&policies, self.now).expect("sound policies");
        assert_eq!(self.client.policies(), policies);
    }

    /// TIME-WAIT records of the client after `ms` more.
    fn time_wait_after(&mut self, ms: u64) -> usize {
        self.now = self.now.plus_ms(ms);
        for _ in 0..4 {
            self.turn(50);
        }
        self.client.time_wait_live()
    }
}

#[test]
fn b40_a_changed_msl_holds_for_time_wait_that_begins_from_then_on() {
    let mut world = World::new(&Setup { connections: 0, ..Setup::default() });
    world.one_more();
    world.set_client(|policies| policies.msl_ms = 1000);
    world.one_more();
    assert_eq!(world.time_wait_after(1900), 2);
    // Granules stay those of the 60 s that the store was laid out for: half a second.
    assert_eq!(world.time_wait_after(700), 1, "2 s are over for the second");
    world.set_client(|policies| policies.msl_ms = 300_000);
    world.one_more();
    assert_eq!(world.time_wait_after(56_500), 2, "60 s are not over for the first");
    assert_eq!(world.time_wait_after(1500), 1);
    // Ten times what the store was laid out for.
    assert_eq!(world.time_wait_after(538_000), 1);
    assert_eq!(world.time_wait_after(10_000), 0);
    assert_eq!(world.client.counters().policies_changed, 2);
    world.assert_clean();
}

#[test]
fn b45_a_longer_msl_makes_no_record_look_as_if_it_had_waited() {
    let setup = Setup { connections: 1, ports: (40_000, 40_000), ..Setup::default() };
    let mut world = World::new(&setup);
    world.run(1000);
    world.set_client(|policies| policies.msl_ms = 60_000);
    let remote = world.client.application().remote;
    for (wait_ms, free) in [(0, false), (900, false), (200, true)] {
        world.now = world.now.plus_ms(wait_ms);
        let reused = world.client.calls(world.now).connect(remote, &ConnectOptions::default());
        assert_eq!(reused.is_ok(), free, "{wait_ms}: {reused:?}");
    }
    world.run(10_000);
    world.assert_clean();
}

#[test]
fn b45_policy_and_delay_change_for_what_is_in_time_wait_already() {
    let setup = Setup { connections: 1, ports: (40_000, 40_000), ..Setup::default() };
    let mut world = World::with_settings(&setup, Settings { time_wait_policy: Policy::Strict, ..Settings::default() });
    world.run(1000);
    let remote = world.client.application().remote;
    world.now = world.now.plus_ms(1100);
    let connect = |world: &mut World| world.client.calls(world.now).connect(remote, &ConnectOptions::default());
    assert!(matches!(connect(&mut world), Err(ConnectError::PortsExhausted { .. })));
    world.set_client(|policies| (policies.time_wait, policies.time_wait_delay_ms) = (Policy::Timestamp, 5000));
    assert!(matches!(connect(&mut world), Err(ConnectError::PortsExhausted { .. })));
    world.set_client(|policies| policies.time_wait_delay_ms = 1000);
    connect(&mut world).expect("reused");
    world.run(10_000);
    assert_eq!(world.client.counters().time_wait_reused, 1);
}

#[test]
fn b46_without_time_wait_every_connection_is_counted_as_skipped() {
    let mut world = World::new(&Setup { connections: 0, ..Setup::default() });
    world.one_more();
    world.set_client(|policies| policies.time_wait = Policy::None);
    world.one_more();
    world.one_more();
    let counters = world.client.counters();
    assert_eq!((counters.time_wait_created, counters.time_wait_skipped, world.client.time_wait_live()), (1, 2, 1));
    world.assert_clean();
}

#[test]
fn records_put_into_time_wait_stay_for_two_msl_and_are_in_nobodys_way() {
    let mut world = World::new(&Setup { connections: 0, ..Setup::default() });
    let addresses = Addresses::V4 { local: Ipv4Addr::new(10, 0, 0, 1), remote: Ipv4Addr::new(10, 9, 0, 1) };
    let tuple = FourTuple { addresses, local_port: 80, remote_port: 5 };
    assert!(world.client.put_time_wait(tuple, world.now));
    assert!(!world.client.put_time_wait(tuple, world.now), "the 4-tuple is in TIME-WAIT");
    world.one_more();
    assert_eq!(world.time_wait_after(40_000), 2);
    assert_eq!(world.time_wait_after(22_000), 0);
    world.assert_clean();
}

/// An application that nothing happens to.
struct Quiet;

impl Application for Quiet {
    fn on_event(&mut self, _calls: &mut Calls<'_>, _event: Event<'_>) {}
}

#[test]
fn b46_each_ip_version_has_time_wait_places_of_its_own() {
    let macs = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];
    let (link, _peer) = pair(MemoryConfig::default(), macs);
    let addresses = [("10.0.0.1", 24), ("fd00::1", 64)]
        .map(|(address, prefix_len)| LocalAddress { address: address.parse().expect("an address"), prefix_len });
    let config = ShardConfig {
        limits: Limits { time_wait_max: 4, ..Setup::default().limits },
        addresses: addresses.to_vec(),
        ..ShardConfig::seeded(1)
    };
    let now = Now::from_ms(5_000);
    let mut shard = Shard::new(link, Quiet, config, now).expect("a shard");
    // One version's connections and records take none of the other's places.
    for (version, (own, remote)) in [("10.0.0.1", "10.0.0.9"), ("fd00::1", "fd00::9")].into_iter().enumerate() {
        let [own, remote]: [IpAddr; 2] = [own, remote].map(|text| text.parse().expect("an address"));
        for port in 0..2 {
            assert!(shard.put_time_wait(FourTuple::new(own, 80, remote, port), now), "{own} {port}");
        }
        let mut connect = || shard.calls(now).connect(SocketAddr::new(remote, 80), &ConnectOptions::default());
        for _ in 0..2 {
            connect().expect("a place");
        }
        assert_eq!(connect(), Err(ConnectError::TimeWaitFull(4)));
        assert_eq!(shard.time_wait_live(), 4 * version + 2);
        // Records for a measurement reserve nothing, and have as many.
        assert_eq!((2..9).filter(|&port| shard.put_time_wait(FourTuple::new(own, 80, remote, port), now)).count(), 2);
    }
}

#[test]
fn b13_cookies_can_be_turned_on_and_off_and_those_out_stay_valid() {
    let mut world = World::new(&Setup { connections: 0, ..Setup::default() });
    let cookies = |world: &mut World, syn_cookies| {
        let policies = Policies { syn_cookies, ..world.server.policies() };
        world.server.set_policies(&policies, world.now).expect("sound policies");
    };
    world.one_more();
    cookies(&mut world, SynCookies::Always);
    let remote = world.client.application().remote;
    world.client.calls(world.now).connect(remote, &ConnectOptions::default()).expect("a free port");
    world.client.turn(world.now);
    world.server.turn(world.now);
    cookies(&mut world, SynCookies::Off);
    world.run(10_000);
    world.one_more();
    let counters = world.server.counters();
    assert_eq!((counters.syn_cookies_sent, counters.syn_cookies_accepted, counters.established), (1, 1, 3));
}

/// Fewer for those that are half-open already, too: during a flood that is what frees their places.
#[test]
fn b11_fewer_tries_of_syn_acks_hold_for_half_open_connections_from_their_next_time_out_on() {
    let mut world = World::new(&Setup { connections: 0, ..Setup::default() });
    world.one_more();
    let remote = world.client.application().remote;
    world.client.calls(world.now).connect(remote, &ConnectOptions::default()).expect("a free port");
    world.client.turn(world.now);
    // The client is not there any more.
    let mut gone_after_ms = 0;
    for ms in (0..70_000).step_by(10) {
        if ms == 3500 {
            assert_eq!(world.server.half_open(world.now).next().map(|one| one.retries), Some(2));
            let policies = Policies { syn_ack_retries: 2, ..world.server.policies() };
            world.server.set_policies(&policies, world.now).expect("sound policies");
        }
        world.server.turn(world.now.plus_ms(ms));
        gone_after_ms = ms;
        if ms > 0 && world.server.half_open_live() == 0 {
            break;
        }
    }
    assert!((7000..=7050).contains(&gone_after_ms), "1 + 2 + 4 s, and not a third time again: {gone_after_ms} ms");
    assert_eq!(world.server.counters().half_open_failed, 1);
}

#[test]
fn b11_too_many_tries_of_syn_acks_are_refused_at_the_start_and_later() {
    let mut world = World::new(&Setup { connections: 0, ..Setup::default() });
    let before = world.server.policies();
    let wrong = Policies { syn_ack_retries: 16, ..before };
    assert_eq!(world.server.set_policies(&wrong, world.now), Err(ConfigError::BadSynAckRetries(16)));
    assert_eq!(world.server.policies(), before);
    let addresses = vec![LocalAddress { address: "10.0.0.2".parse().expect("an address"), prefix_len: 24 }];
    let settings = Settings { syn_ack_retries: 16, ..Settings::default() };
    let config = ShardConfig { limits: Setup::default().limits, addresses, settings, ..ShardConfig::seeded(0) };
    let server = Server { closer: Closer::Client, request_bytes: 64, ..world.server.into_application() };
    let refused = Shard::new(pair(MemoryConfig::default(), MACS).0, server, config, world.now).err().expect("refused");
    assert_eq!(refused.to_string(), "16 retransmissions of a SYN-ACK are out of range: 0 to 15");
}

#[test]
fn an_msl_out_of_range_changes_nothing() {
    let mut world = World::new(&Setup { connections: 0, ..Setup::default() });
    let before = world.client.policies();
    for msl_ms in [0, 3_600_001, u32::MAX] {
        let wrong = Policies { msl_ms, time_wait: Policy::None, ..before };
        assert_eq!(world.client.set_policies(&wrong, world.now), Err(ConfigError::BadMsl(msl_ms)));
    }
    assert_eq!((world.client.policies(), world.client.counters().policies_changed), (before, 0));
}

/// A server that has just started, with a quiet time, and a client that knows nothing of that.
fn with_quiet_server(quiet_time_ms: u32) -> World {
    let (a, b) = pair(MemoryConfig::default(), MACS);
    let mut world = World::over(&Setup::default(), Settings::default(), (a, pair(MemoryConfig::default(), MACS).1));
    let addresses = vec![LocalAddress { address: "10.0.0.2".parse().expect("an address"), prefix_len: 24 }];
    let config = ShardConfig { limits: Setup::default().limits, addresses, quiet_time_ms, ..ShardConfig::seeded(0) };
    let server = Server { closer: Closer::Client, request_bytes: 64, ..world.server.into_application() };
    world.server = Shard::new(b, server, config, world.now).expect("a shard");
    world.server.calls(world.now).listen("10.0.0.2".parse().expect("an address"), 80).expect("a listener");
    world
}

#[test]
fn b48_in_the_quiet_time_nothing_opens_and_syns_meet_silence() {
    let mut world = with_quiet_server(5000);
    let began = world.now;
    let back = "10.0.0.1:81".parse().expect("an end");
    while world.now.us() < began.us() + 4_990_000 {
        let refused = world.server.calls(world.now).connect(back, &ConnectOptions::default());
        assert!(matches!(refused, Err(ConnectError::QuietTime(1..=5000))), "{refused:?}");
        world.turn(10_000);
    }
    let counters = world.server.counters();
    assert_eq!((counters.rst_sent, counters.segments_sent, counters.opens_passive), (0, 0, 0));
    assert_eq!(counters.syn_dropped_quiet, 3, "at 0, 1 and 3 s");
    for _ in 0..300 {
        world.turn(10_000);
    }
    assert_eq!(world.client.application().closed, [CloseReason::Graceful], "the SYN after 7 s is answered");
    world.server.calls(world.now).connect(back, &ConnectOptions::default()).expect("the quiet time is over");
}

#[test]
fn b48_without_a_quiet_time_the_first_syn_is_answered() {
    let mut world = with_quiet_server(0);
    world.run(1000);
    assert_eq!(world.server.counters().syn_dropped_quiet, 0);
}
