//! TIME-WAIT and its reuse: behaviours B40 to B46, by policy.

use super::flood::forge;
use super::*;
use crate::api::ConnectError;
use crate::counters::Counters;
use crate::four_tuple::FourTuple;
use crate::neighbor::Heard;
use crate::seq::Seq;
use crate::shard::Policies;
use crate::tcp::state::State;
use crate::tcp::time_wait::{Full, Numbers, Policy};
use crate::tcp::{Settings, isn};
use crate::wire::tcp::{Flags, Options, Segment, Timestamps};
use alloc::format;
use core::time::Duration;

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

/// What a refused open is told to wait, ms.
#[track_caller]
fn promise(refused: Result<Handle, ConnectError>) -> Option<u32> {
    match refused {
        Err(ConnectError::PortsExhausted { next_free_in_ms, .. }) => next_free_in_ms,
        other => panic!("{other:?}"),
    }
}

/// With a 2MSL of 60 s.
#[test]
fn b45_refused_open_that_waits_as_long_as_it_is_told_is_let_in_and_not_before() {
    for ((policy, timestamps, delay_ms), promised) in [
        ((Policy::Timestamp, true, 1000), 900..=990),
        ((Policy::TimestampOrSequence, true, 1000), 900..=990),
        ((Policy::TimestampOrSequence, true, 60_000), 59_900..=59_990),
        ((Policy::TimestampOrSequence, true, 90_000), 59_900..=59_990),
        ((Policy::TimestampOrSequence, false, 1000), 59_900..=59_990),
        ((Policy::Strict, true, 1000), 59_900..=59_990),
    ] {
        let name = format!("{} {timestamps} {delay_ms}", policy.name());
        let settings =
            Settings { time_wait_policy: policy, timestamps, time_wait_delay_ms: delay_ms, ..Settings::default() };
        let mut world = one_port(settings);
        world.run(1000);
        world.now = world.now.plus_ms(10);
        let wait = promise(connect(&mut world)).expect("the only port is in TIME-WAIT");
        assert!(promised.contains(&wait), "{name}: {wait}");
        world.now = world.now.plus_ms(u64::from(wait) - 1);
        assert_eq!(promise(connect(&mut world)), Some(1), "{name}: not before");
        world.now = world.now.plus_ms(1);
        let reuses = timestamps && policy != Policy::Strict && delay_ms <= 60_000;
        if !reuses {
            // The record itself has to go, which may be 1/64 of the MSL late.
            assert_eq!(promise(connect(&mut world)), Some(1), "{name}");
            world.now = world.now.plus_ms(1000);
            (0..4).for_each(|_| world.turn(1000));
        }
        connect(&mut world).expect(&name);
        let (client, _) = finish(&mut world);
        assert_eq!((client.closed_graceful, client.time_wait_reused), (2, u64::from(reuses)), "{name}");
    }
}

/// What the former MSL makes of the record's age is not known: the delay counts from the change.
#[test]
fn b45_promise_holds_after_a_change_of_the_msl_and_none_is_needed_without_a_delay() {
    let mut world = one_port(Settings { time_wait_policy: Policy::Timestamp, ..Settings::default() });
    world.run(1000);
    let before = world.client.policies();
    world.now = world.now.plus_ms(500);
    let longer = Policies { msl_ms: 2 * before.msl_ms, ..before };
    world.client.set_policies(&longer, world.now).expect("a possible MSL");
    assert_eq!(promise(connect(&mut world)), Some(before.time_wait_delay_ms));
    world.now = world.now.plus_ms(100);
    // The record's end lies farther away than the 2MSL that holds now.
    let shorter = Policies { msl_ms: before.msl_ms / 2, ..before };
    world.client.set_policies(&shorter, world.now).expect("a possible MSL");
    let wait = promise(connect(&mut world)).expect("it is reusable then");
    assert!((30_300..=30_400).contains(&wait), "{wait}");
    world.now = world.now.plus_ms(u64::from(wait) - 1);
    assert_eq!(promise(connect(&mut world)), Some(1));
    let at_once = Policies { time_wait_delay_ms: 0, ..shorter };
    world.client.set_policies(&at_once, world.now).expect("no delay");
    connect(&mut world).expect("reusable at once");
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

/// A port that leads nowhere (something on the way may still know its former connection) is not tried again at once.
#[test]
fn b45_after_a_reuse_without_an_answer_the_next_try_takes_another_port() {
    let setup = Setup { connections: 2, ports: (40_000, 40_001), ..Setup::default() };
    let mut world =
        World::with_settings(&setup, Settings { time_wait_policy: Policy::Timestamp, ..Settings::default() });
    world.run(1000);
    assert_eq!(world.client.time_wait_live(), 2);
    world.now = world.now.plus_ms(1100);
    let mut tried = Vec::new();
    for answered_by_reset in [false, true, false] {
        let remote = world.client.application().remote;
        let options = ConnectOptions { deadline: Some(Duration::from_secs(2)), ..ConnectOptions::default() };
        let handle = world.client.calls(world.now).connect(remote, &options).expect("a port is reusable");
        tried.push(world.client.core.names[handle.number()].tuple.local_port);
        if answered_by_reset {
            assert!(world.server.calls(world.now).stop_listening(crate::ids::ListenerId(0)));
        }
        for _ in 0..30 {
            world.client.turn(world.now);
            if answered_by_reset {
                world.server.turn(world.now);
            }
            world.now = world.now.plus_ms(100);
        }
        assert_eq!((world.client.connections_live(), world.client.time_wait_live()), (0, 2), "{tried:?}");
    }
    let closed = &world.client.application().closed[2..];
    assert_eq!(closed, [CloseReason::TimedOut, CloseReason::Refused, CloseReason::TimedOut]);
    assert!(tried[0] != tried[1] && tried[1] != tried[2], "{tried:?}");
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
    let mut world = server_waits(policy, timestamps, MSL_MS);
    world.now = world.now.plus_ms(wait_ms);
    connect(&mut world).expect("the client's port is free");
    world
}

/// The server has closed first and is in TIME-WAIT.
fn server_waits(policy: Policy, timestamps: bool, msl_ms: u32) -> World {
    let settings = Settings { time_wait_policy: policy, timestamps, ..Settings::default() };
    let setup = Setup { closer: Closer::Server, ports: (40_000, 40_000), msl_ms, ..Setup::default() };
    let mut world = World::with_settings(&setup, settings);
    world.run(1000);
    assert_eq!((world.client.time_wait_live(), world.server.time_wait_live()), (0, 1));
    world
}

/// The server's only record, and its 4-tuple as the client sees it.
fn server_record(world: &World) -> (Numbers, FourTuple) {
    let store = &world.server.core.time_wait_v4;
    let record = &store[store.oldest().expect("a record")];
    (record.numbers, record.tuple().reversed())
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
    let (former, _) = server_record(&world);
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
    assert_restored(&world, &former);
}

/// The server's record is found again as it was: its numbers, and the end of its 2MSL.
#[track_caller]
fn assert_restored(world: &World, former: &Numbers) {
    assert_eq!(server_record(world).0, *former);
    assert_eq!((world.server.time_wait_live(), world.server.core.index.len()), (1, 1));
    let counters = world.server.counters();
    assert_eq!((counters.time_wait_reused, counters.time_wait_expired, counters.half_open_failed), (0, 0, 1));
    assert_shard_clean(&world.server);
}

/// With the usual MSL the record ends first: the SYN-ACK is given up after 63 s, 2MSL is 60 s.
#[test]
fn b44_half_open_reuse_that_times_out_restores_what_is_left_of_the_record() {
    for (msl_ms, is_left) in [(120_000, true), (MSL_MS, false)] {
        let mut world = server_waits(Policy::Timestamp, true, msl_ms);
        world.now = world.now.plus_ms(50);
        connect(&mut world).expect("the client's port is free");
        let (former, tuple) = server_record(&world);
        world.client.turn(world.now);
        world.server.turn(world.now);
        assert_eq!((world.server.core.half_open, world.server.time_wait_live()), (1, 1));
        // The client's host is there, and does not answer the SYN-ACKs.
        let began = world.now;
        while world.server.core.half_open > 0 {
            world.now = world.now.plus_ms(100);
            world.server.core.learn(0, tuple.local(), MACS[0], Heard::Answer, world.now);
            world.server.turn(world.now);
            assert!(world.now < began.plus_ms(70_000), "half-open for ever");
        }
        assert!(world.now > began.plus_ms(62_000), "{:?} after {began:?}", world.now);
        if is_left {
            assert_restored(&world, &former);
            // It guards the 4-tuple as before, and for as long.
            let old = Segment { seq: former.rcv_nxt.back(500), flags: Flags::ACK, wnd: 1000, ..Segment::default() };
            forge(world.client.link_mut(), &tuple, &old, b"old");
            crate::link::Link::flush(world.client.link_mut());
            world.server.turn(world.now);
            assert_eq!(world.server.counters().time_wait_acks, 1);
            world.now =
                world.now.plus_ms(u64::from(world.now.tick().until(former.deadline)) + 2 * u64::from(msl_ms) / 64);
            world.server.turn(world.now);
        }
        assert_eq!((world.server.time_wait_live(), world.server.core.index.len()), (0, 0), "MSL {msl_ms} ms");
        assert_eq!(world.server.counters().time_wait_expired, 1);
        assert_shard_clean(&world.server);
    }
}

#[test]
fn b44_the_new_iss_lies_beyond_everything_the_old_incarnation_sent() {
    // So soon that the clock has not come so far; then by the clock, as for any other connection.
    for (wait_ms, by_clock) in [(50, false), (10_000, true)] {
        let mut world = passive(Policy::Timestamp, true, wait_ms);
        let (former, _) = server_record(&world);
        world.client.turn(world.now);
        world.server.turn(world.now);
        let core = &world.server.core;
        let (number, opened) = core.connections.iter().next().expect("a half-open connection");
        assert_eq!(opened.tcb.state, State::SynReceived);
        let clocked = isn::start(core.settings.isn_secret, &core.names[number].tuple, world.now).iss;
        assert_eq!(opened.tcb.iss() == clocked, by_clock, "{wait_ms} ms");
        let beyond = opened.tcb.iss() - (former.snd_nxt + 65_535);
        assert!((1..1 << 31).contains(&beyond) && (by_clock || beyond <= 65_536), "{wait_ms} ms: {beyond}");
    }
}

/// Shows RFC 6191.
#[test]
fn b44_syn_with_an_older_timestamp_is_acknowledged_however_far_its_number_lies_beyond() {
    for (stamp, beyond, opens) in [(-1, 1, false), (-1, 1 << 30, false), (0, 0, false), (0, 1, true), (1, 0, true)] {
        let mut world = server_waits(Policy::TimestampOrSequence, true, MSL_MS);
        let (former, tuple) = server_record(&world);
        let val = former.ts_recent.wrapping_add_signed(stamp);
        let options = Options { timestamps: Some(Timestamps { val, ecr: 0 }), ..Options::default() };
        let seq: Seq = former.rcv_nxt + beyond;
        let syn = Segment { seq, wnd: 8000, flags: Flags::SYN, options, ..Segment::default() };
        forge(world.client.link_mut(), &tuple, &syn, &[]);
        crate::link::Link::flush(world.client.link_mut());
        world.server.turn(world.now);
        let place = format!("TSval {stamp}, SEQ {beyond} beyond");
        assert_eq!(world.server.core.half_open, u32::from(opens), "{place}");
        assert_eq!(world.server.counters().time_wait_acks, u64::from(!opens), "{place}");
        assert_eq!(server_record(&world).0, former, "{place}: the record is kept");
    }
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
