//! TIME-WAIT and its reuse: behaviours B40 to B46, by policy.

use super::options::Bench;
use super::*;
use crate::api::{ConnectError, ConnectionOptions};
use crate::counters::Counters;
use crate::ids::Value;
use crate::tcp::Settings;
use crate::tcp::time_wait::{Full, Policy};
use crate::wire::tcp::Flags;

/// A client that closes first and has one port: its second connection meets the first one's TIME-WAIT.
fn one_port(settings: Settings) -> World {
    let setup = Setup { connections: 1, ports: (40_000, 40_000), ..Setup::default() };
    World::with_settings(&setup, settings)
}

fn connect(world: &mut World) -> Result<Handle, ConnectError> {
    let remote = world.client.application().remote;
    world.client.calls(world.now).connect(remote, &ConnectOptions::default())
}

/// After the first connection and `wait_ms` more, a second one from the same port.
fn second_connection(policy: Policy, timestamps: bool, wait_ms: u64) -> (World, Result<Handle, ConnectError>) {
    let mut world = one_port(Settings { time_wait_policy: policy, timestamps, ..Settings::default() });
    world.run(1000);
    world.now = world.now.plus_ms(wait_ms);
    let second = connect(&mut world);
    (world, second)
}

fn finish(world: &mut World) -> (Counters, Counters) {
    world.run(10_000);
    world.assert_clean();
    (*world.client.counters(), *world.server.counters())
}

/// Shows SHLD-4.
#[test]
fn b45_active_reuse_waits_for_the_delay_and_needs_timestamps() {
    let refused = |result: &Result<Handle, ConnectError>| matches!(result, Err(ConnectError::PortsExhausted { .. }));
    for (policy, timestamps, wait_ms, reused) in [
        (Policy::Strict, true, 59_000, false),
        (Policy::Timestamp, true, 900, false),
        (Policy::Timestamp, true, 1100, true),
        (Policy::Timestamp, false, 59_000, false),
        (Policy::TimestampOrSequence, true, 1100, true),
        (Policy::TimestampOrSequence, false, 59_000, false),
        (Policy::None, false, 0, true),
    ] {
        let (mut world, second) = second_connection(policy, timestamps, wait_ms);
        assert_eq!(refused(&second), !reused, "{} {timestamps} {wait_ms}: {second:?}", policy.name());
        if reused {
            let (client, _) = finish(&mut world);
            assert_eq!(client.closed_graceful, 2);
            assert_eq!(client.time_wait_reused, u64::from(policy != Policy::None));
            assert_eq!(world.client.time_wait_live(), usize::from(policy != Policy::None));
        }
    }
}

#[test]
fn b45_the_new_iss_lies_beyond_everything_the_old_incarnation_sent() {
    let (world, second) = second_connection(Policy::Timestamp, true, 1100);
    let handle = second.expect("reused");
    let tcb = &world.client.core.connections[handle.number()].tcb;
    let former = world.client.core.connections[handle.number()].former().expect("kept");
    let numbers = world.client.core.time_wait_numbers(former).expect("kept");
    assert!(tcb.iss().gt(numbers.snd_nxt + 65_535));
}

#[test]
fn b45_a_refused_reuse_restores_time_wait_with_its_remaining_time() {
    let (mut world, second) = second_connection(Policy::Timestamp, true, 1100);
    second.expect("reused");
    let deadline = world.client.core.time_wait_v4.next_deadline();
    let listener = crate::ids::ListenerId(0);
    assert!(world.server.calls(world.now).stop_listening(listener));
    for _ in 0..20 {
        world.turn(50);
    }
    assert_eq!(world.client.application().closed, [CloseReason::Graceful, CloseReason::Refused]);
    assert_eq!((world.client.time_wait_live(), world.client.core.index.len()), (1, 1));
    assert_eq!(world.client.core.time_wait_v4.next_deadline(), deadline, "2MSL goes on");
    assert_eq!(world.client.counters().time_wait_reused, 0);
}

#[test]
fn b44_old_record_that_expires_during_the_handshake_leaves_no_trace() {
    let (mut world, second) = second_connection(Policy::Timestamp, true, 59_500);
    second.expect("reused");
    // The server does not answer until the old record's 2MSL is over.
    for _ in 0..20 {
        world.client.turn(world.now);
        world.now = world.now.plus_ms(100);
    }
    assert_eq!((world.client.time_wait_live(), world.client.counters().time_wait_expired), (0, 1));
    let (client, _) = finish(&mut world);
    assert_eq!((client.closed_graceful, client.time_wait_reused), (2, 0));
}

/// The server closes first, so a SYN from the same port meets TIME-WAIT there. The client's own store is out of the way.
fn passive(policy: Policy, timestamps: bool, wait_ms: u64) -> World {
    let settings = Settings { time_wait_policy: policy, timestamps, ..Settings::default() };
    let setup = Setup { closer: Closer::Server, ports: (40_000, 40_000), ..Setup::default() };
    let mut world = World::with_settings(&setup, settings);
    world.run(1000);
    assert_eq!((world.client.time_wait_live(), world.server.time_wait_live()), (0, 1));
    world.now = world.now.plus_ms(wait_ms);
    connect(&mut world).expect("the client's port is free");
    world
}

/// Shows SHLD-4, MAY-2, RFC 6191.
#[test]
fn b44_passive_reuse_follows_the_policy() {
    for (policy, timestamps, reopens) in [
        (Policy::Strict, true, false),
        (Policy::Timestamp, true, true),
        (Policy::Timestamp, false, false),
        (Policy::TimestampOrSequence, true, true),
        (Policy::TimestampOrSequence, false, true),
    ] {
        let mut world = passive(policy, timestamps, 50);
        for _ in 0..40 {
            world.turn(50);
        }
        let name = policy.name();
        assert_eq!(world.server.application().accepted, 1 + usize::from(reopens), "{name} {timestamps}");
        assert_eq!(world.server.counters().time_wait_reused, u64::from(reopens), "{name} {timestamps}");
        if !reopens {
            // RFC 9293 3.10.7.4: the SYN is answered by an ACK, and that by a RST, which TIME-WAIT ignores.
            assert!(world.server.counters().time_wait_acks > 0);
            assert!(world.server.counters().time_wait_rst_ignored > 0);
            assert_eq!(world.server.time_wait_live(), 1);
        }
    }
}

#[test]
fn b44_half_open_reuse_that_is_reset_restores_the_record() {
    let mut world = passive(Policy::Timestamp, true, 50);
    world.client.turn(world.now);
    world.server.turn(world.now);
    assert_eq!(world.server.core.half_open, 1);
    assert_eq!(world.server.time_wait_live(), 1, "the old record is kept");
    // The client gives up before the SYN-ACK reaches it: it answers that with a RST.
    let handle = Handle { number: 0, generation: world.client.core.connections[0].handle(0).generation };
    world.client.calls(world.now).close(handle).expect("in SYN-SENT");
    for _ in 0..20 {
        world.turn(50);
    }
    assert_eq!((world.server.core.half_open, world.server.application().accepted), (0, 1));
    assert_eq!((world.server.time_wait_live(), world.server.core.index.len()), (1, 1));
    assert_eq!((world.server.counters().time_wait_reused, world.server.counters().half_open_failed), (0, 1));
    assert_shard_clean(&world.server);
}

#[test]
fn b46_a_full_store_still_lets_an_incarnation_take_over_its_own_place() {
    for closer in [Closer::Client, Closer::Server] {
        let limits = Limits { time_wait_max: 1, ..Setup::default().limits };
        let setup = Setup { closer, limits, ports: (40_000, 40_009), ..Setup::default() };
        let mut world = World::new(&setup);
        world.run(1000);
        for _ in 0..3 {
            world.now = world.now.plus_ms(1100);
            // Where the server's store is full, the client must take the port that is in it.
            let in_store = world.server.core.time_wait_v4.oldest();
            let local_port = in_store.map(|number| world.server.core.time_wait_v4[number].tuple().remote_port);
            let remote = world.client.application().remote;
            let options = ConnectOptions { local_port, ..ConnectOptions::default() };
            world.client.calls(world.now).connect(remote, &options).expect("it takes over the only place");
            world.run(10_000);
        }
        let counters = if closer == Closer::Client { world.client.counters() } else { world.server.counters() };
        assert_eq!((counters.time_wait_reused, counters.time_wait_created, counters.syn_dropped_full), (3, 4, 0));
        assert_eq!(counters.time_wait_evicted + counters.time_wait_skipped, 0);
        world.assert_clean();
    }
}

#[test]
fn b46_full_store_evicts_or_skips_by_policy_and_counts() {
    for (full, evicted, skipped) in [(Full::EvictOldest, 30, 0), (Full::Skip, 0, 30)] {
        let limits = Limits { time_wait_max: 10, ..Setup::default().limits };
        let settings = Settings { time_wait_full: full, ..Settings::default() };
        let mut world = World::with_settings(&Setup { connections: 40, limits, ..Setup::default() }, settings);
        world.run(20_000);
        world.assert_clean();
        let counters = world.client.counters();
        assert_eq!((counters.time_wait_evicted, counters.time_wait_skipped), (evicted, skipped), "{}", full.name());
        assert_eq!(counters.time_wait_created, 40 - skipped);
        assert_eq!(world.client.time_wait_live(), 10);
    }
}

#[test]
fn policies_have_names_that_are_read_back() {
    for policy in Policy::ALL {
        assert_eq!(Policy::from_name(policy.name()), Some(policy));
    }
    for full in Full::ALL {
        assert_eq!(Full::from_name(full.name()), Some(full));
    }
    assert_eq!(Policy::from_name("sometimes"), None);
}

/// The index entry of the peer's 4-tuple.
fn indexed(bench: &Bench) -> Option<Value> {
    let (core, tuple) = (&bench.shard.core, bench.tuple.reversed());
    core.index.find(core.index.hash(&tuple), |value| core.is_record_of(value, &tuple))
}

#[test]
fn b41_last_ack_that_is_lost_restarts_2msl_and_the_index_follows_the_record() {
    for v6 in [false, true] {
        let mut bench = Bench::new(Settings::default(), v6);
        bench.listen(ConnectionOptions::default()).expect("a listener");
        bench.open();
        let fin = bench.end_in_time_wait();
        for restarts in 1..=3 {
            let before = indexed(&bench).expect("in TIME-WAIT");
            // Within the 2MSL of the last restart, beyond that of the first.
            bench.turn(40_000);
            let answers = bench.exchange(&fin, &[]);
            assert_eq!(
                answers.iter().map(|heard| (heard.seg.flags, heard.seg.ack)).collect::<Vec<_>>(),
                [(Flags::ACK, fin.end())]
            );
            let after = indexed(&bench).expect("still in TIME-WAIT");
            assert_ne!(before, after, "the record has moved");
            let deadline = bench.shard.core.time_wait_numbers(after).expect("a record").deadline;
            assert_eq!(deadline, bench.now.plus_ms(60_000).tick());
            let counters = bench.shard.counters();
            assert_eq!((counters.time_wait_restarted, counters.time_wait_expired), (restarts, 0));
            assert_eq!((bench.shard.time_wait_live(), bench.shard.core.index.len()), (1, 1));
        }
        bench.turn(59_999);
        assert_eq!(bench.shard.time_wait_live(), 1);
        bench.turn(600);
        assert_eq!((bench.shard.time_wait_live(), bench.shard.counters().time_wait_expired), (0, 1));
        assert_shard_clean(&bench.shard);
    }
}

/// Shows RFC 1337.
#[test]
fn b43_reset_ends_the_record_where_that_is_set_and_is_counted() {
    for (rst_ends_time_wait, live) in [(false, 1), (true, 0)] {
        let mut bench = Bench::new(Settings { rst_ends_time_wait, ..Settings::default() }, false);
        bench.listen(ConnectionOptions::default()).expect("a listener");
        bench.open();
        bench.end_in_time_wait();
        assert!(bench.exchange(&bench.next(Flags::RST), &[]).is_empty());
        assert_eq!(bench.shard.time_wait_live(), live);
        let counters = bench.shard.counters();
        assert_eq!((counters.time_wait_ended_by_rst, counters.time_wait_rst_ignored), (1 - live as u64, live as u64));
        assert_shard_clean(&bench.shard);
    }
}

#[test]
fn b44_record_evicted_during_the_handshake_that_reuses_it_leaves_no_trace() {
    for completes in [true, false] {
        let settings = Settings { time_wait_full: Full::EvictOldest, ..Settings::default() };
        let limits = Limits { time_wait_max: 1, ..Setup::default().limits };
        let mut bench = Bench::with_limits(settings, false, limits);
        bench.listen(ConnectionOptions::default()).expect("a listener");
        bench.open();
        bench.end_in_time_wait();
        let beyond = bench.seq + 100_000;
        bench.tuple.local_port += 1;
        bench.open();
        let other = (bench.seq, bench.ack);
        // The first 4-tuple again, half-open over its former incarnation's record.
        (bench.tuple.local_port, bench.seq) = (bench.tuple.local_port - 1, beyond);
        let syn_ack = bench.exchange(&bench.next(Flags::SYN), &[]);
        assert_eq!((syn_ack.len(), bench.shard.half_open_live(), bench.shard.time_wait_live()), (1, 1, 1));
        let again = (bench.seq + 1, syn_ack[0].seg.seq + 1);
        // The other connection needs the only place.
        (bench.tuple.local_port, (bench.seq, bench.ack)) = (bench.tuple.local_port + 1, other);
        bench.end_in_time_wait();
        assert_eq!((bench.shard.time_wait_live(), bench.shard.counters().time_wait_evicted), (1, 1));
        assert_eq!(bench.shard.core.index.len(), 2);
        (bench.tuple.local_port, (bench.seq, bench.ack)) = (bench.tuple.local_port - 1, again);
        if completes {
            bench.exchange(&bench.next(Flags::ACK), &[]);
            bench.end_in_time_wait();
        } else {
            bench.exchange(&bench.next(Flags::RST), &[]);
            assert_eq!((indexed(&bench), bench.shard.counters().half_open_failed), (None, 1), "nothing to restore");
        }
        let counters = bench.shard.counters();
        assert_eq!((counters.time_wait_reused, counters.time_wait_evicted), (0, 1 + u64::from(completes)));
        assert_eq!((bench.shard.time_wait_live(), bench.shard.core.index.len()), (1, 1));
        assert_shard_clean(&bench.shard);
    }
}
