//! TIME-WAIT in the tables, against a peer that is played by hand: B41, B43, B44.

use super::options::Bench;
use super::*;
use crate::api::{ConnectError, ConnectionOptions};
use crate::four_tuple::FourTuple;
use crate::ids::Value;
use crate::tcp::Settings;
use crate::tcp::time_wait::{Full, Policy};
use crate::wire::tcp::Flags;

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

/// Strict: the port may be drawn only when the record has left the store, at most a granule after its 2MSL.
#[test]
fn b40_a_record_whose_2msl_is_over_promises_no_port_at_once() {
    let mut world = World::with_settings(
        &Setup { ports: (40_000, 40_000), ..Setup::default() },
        Settings { time_wait_policy: Policy::Strict, ..Settings::default() },
    );
    world.run(1000);
    let record = world.client.core.time_wait_v4.oldest().expect("in TIME-WAIT");
    let deadline = world.client.core.time_wait_v4[record].numbers.deadline;
    world.now = world.now.plus_ms(u64::from(world.now.tick().until(deadline)));
    let remote = world.client.application().remote;
    let mut refused = 0;
    for _ in 0..600 {
        world.client.turn(world.now);
        match world.client.calls(world.now).connect(remote, &ConnectOptions::default()) {
            Ok(_) => break,
            Err(ConnectError::PortsExhausted { next_free_in_ms, .. }) => assert_eq!(next_free_in_ms, Some(1)),
            other => panic!("{other:?}"),
        }
        (refused, world.now) = (refused + 1, world.now.plus_ms(1));
    }
    assert!((1..600).contains(&refused), "{refused}");
}

/// 18 of the ports are free again when other destinations fill the store; two are in it, of connections that closed late.
#[test]
fn b46_a_full_store_lets_an_open_take_over_a_place_that_is_behind_free_ports() {
    let limits = Limits { time_wait_max: 40, ..Setup::default().limits };
    let setup = Setup { connections: 18, ports: (40_000, 40_019), limits, ..Setup::default() };
    let mut world = World::new(&setup);
    world.run(5000);
    world.now = world.now.plus_ms(59_000);
    let remote = world.client.application().remote;
    for _ in 0..2 {
        world.client.calls(world.now).connect(remote, &ConnectOptions::default()).expect("a fresh port");
    }
    world.run(5000);
    for _ in 0..3000 {
        world.turn(1000);
    }
    assert_eq!(world.client.time_wait_live(), 2);
    let other = |port| FourTuple::new("10.0.0.1".parse().expect("own"), 80, "10.0.0.9".parse().expect("a peer"), port);
    assert_eq!((1..100).filter(|&port| world.client.put_time_wait(other(port), world.now)).count(), 38);
    for _ in 0..2 {
        world.client.calls(world.now).connect(remote, &ConnectOptions::default()).expect("a place to take over");
    }
    let refused = world.client.calls(world.now).connect(remote, &ConnectOptions::default());
    assert_eq!(refused, Err(ConnectError::TimeWaitFull(40)));
    assert_eq!(world.client.counters().opens_refused_time_wait, 1);
}
