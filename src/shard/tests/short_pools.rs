//! Pools that run short: who starves is told, who holds what others need is ended, and nothing is lost.

use super::limits::{Mute, remote, shard_with};
use super::options::Bench;
use super::*;
use crate::api::ConnectionOptions;
use crate::flow::chunks::Chain;
use crate::limits::CHUNK_BYTES;
use crate::seq::Seq;
use crate::wire::tcp::{Flags, Segment};

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
