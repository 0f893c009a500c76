//! B08: a SYN long dead. T21, B42: every frame of a first incarnation again, at every moment of the second one of the same
//! 4-tuple.

use super::flood::forge;
use super::*;
use crate::four_tuple::FourTuple;
use crate::seq::Seq;
use crate::tcp::time_wait::Policy;
use crate::wire::tcp::{Flags, Options, Segment};

/// A way between two ends that remembers what went over it.
struct Way {
    ends: [MemoryLink; 2],
    /// Who gets it, and the frame.
    seen: Vec<(usize, Vec<u8>)>,
}

impl Way {
    /// Carries everything that is under way to one side.
    fn pass(&mut self, to: usize) {
        let mut frames = Vec::with_capacity(256);
        let from = 1 - to;
        self.ends[from].receive(&mut frames, 256);
        for frame in frames {
            let bytes = self.ends[from].bytes(&frame).to_vec();
            self.ends[from].give_back(frame);
            self.give(to, &bytes);
            self.seen.push((to, bytes));
        }
        self.ends[from].flush();
    }

    fn give(&mut self, to: usize, bytes: &[u8]) {
        let mut frame = self.ends[to].take().expect("a free frame");
        self.ends[to].bytes_mut(&mut frame)[..bytes.len()].copy_from_slice(bytes);
        self.ends[to].send(frame, bytes.len()).expect("room to send");
        self.ends[to].flush();
    }
}

/// How the second incarnation comes about, and what guards it.
#[derive(Clone, Copy, Debug)]
struct Reuse {
    closer: Closer,
    timestamps: bool,
    policy: Policy,
    /// Between the two, ms.
    wait_ms: u64,
}

/// One client with one port, its first connection over, and all TCP frames of that one.
fn first(reuse: Reuse) -> (World, Way) {
    let limits = Limits { tcbs_max: 4, time_wait_max: 8, chunks_max: 64, neighbors_max: 4, ..Limits::default() };
    let setup = Setup {
        closer: reuse.closer,
        connections: 1,
        ports: (40_000, 40_000),
        request_bytes: 2000,
        limits,
        ..Setup::default()
    };
    let settings = Settings { timestamps: reuse.timestamps, time_wait_policy: reuse.policy, ..Settings::default() };
    let memory = MemoryConfig { frames: 64, queue_frames: 64, ..MemoryConfig::default() };
    let (client, left) = pair(memory, MACS);
    let (right, server) = pair(memory, MACS);
    let mut world = World::over(&setup, settings, (client, server));
    let mut way = Way { ends: [left, right], seen: Vec::new() };
    run(&mut world, &mut way, |_, _| ());
    way.seen.retain(|(_, frame)| frame[12..14] == [0x08, 0x00]);
    world.now = world.now.plus_ms(reuse.wait_ms);
    // What has expired goes before an old FIN can restart it.
    world.turn(0);
    (world, way)
}

/// Turns until no connection is left; `before` comes before each turn of the client.
fn run(world: &mut World, way: &mut Way, mut before: impl FnMut(&mut World, &mut Way)) {
    for _ in 0..20_000 {
        before(world, way);
        world.client.turn(world.now);
        way.pass(1);
        world.server.turn(world.now);
        way.pass(0);
        world.now = Now::from_us(world.now.us() + 10_000);
        let over = world.client.application().to_open == 0;
        if over && world.client.connections_live() == 0 && world.server.connections_live() == 0 {
            return;
        }
    }
    panic!("not done: client {:?}, server {:?}", world.client.counters(), world.server.counters());
}

/// The second incarnation, with other bytes; `old` of the first one's frames come when it has sent and received `moment` frames.
/// Returns how many frames it took.
fn second(reuse: Reuse, moment: usize, old: core::ops::Range<usize>) -> (usize, usize) {
    let (mut world, mut way) = first(reuse);
    let former = core::mem::take(&mut way.seen);
    let request = &mut world.client.application.request;
    request[..4].copy_from_slice(&2u32.to_be_bytes());
    request[4..].reverse();
    world.client.application.to_open += 1;
    let mut waiting = true;
    run(&mut world, &mut way, |_, way| {
        if waiting && way.seen.len() >= moment {
            waiting = false;
            former[old.clone()].iter().for_each(|(to, frame)| way.give(*to, frame));
        }
    });
    let client = world.client.application();
    // The client compares every byte that it got with what it sent; the server sends back what it got.
    let place = format!("{reuse:?}, frames {old:?} at {moment}");
    assert_eq!(client.closed, [CloseReason::Graceful; 2], "{place}");
    assert_eq!(world.server.application().closed, [CloseReason::Graceful; 2], "{place}");
    assert_eq!(world.server.application().accepted, 2, "{place}: an old SYN opened nothing");
    (way.seen.len(), former.len())
}

/// Shows B42.
#[test]
fn t21_old_duplicates_at_every_moment_never_reach_a_new_incarnation() {
    for reuse in [
        // The client waited in TIME-WAIT, and timestamps guard what it opens (B45).
        Reuse { closer: Closer::Client, timestamps: true, policy: Policy::Timestamp, wait_ms: 1100 },
        // The server is in TIME-WAIT, and a SYN opens out of it: by timestamp, by sequence (B44).
        Reuse { closer: Closer::Server, timestamps: true, policy: Policy::TimestampOrSequence, wait_ms: 20 },
        Reuse { closer: Closer::Server, timestamps: false, policy: Policy::TimestampOrSequence, wait_ms: 1100 },
        // 2MSL is over: only the ISN's clock guards (RFC 9293 3.4.1).
        Reuse { closer: Closer::Client, timestamps: false, policy: Policy::Strict, wait_ms: 61_000 },
    ] {
        let (frames, old) = second(reuse, usize::MAX, 0..0);
        assert!(frames >= 6 && old >= 6, "{reuse:?}: {frames} and {old} frames");
        for moment in 0..=frames {
            for at in 0..old {
                second(reuse, moment, at..at + 1);
            }
            second(reuse, moment, 0..old);
        }
    }
}

#[test]
fn b08_old_syn_that_its_host_no_longer_knows_brings_a_reset_and_leaves_nothing() {
    for v6 in [false, true] {
        let mut world = World::new(&Setup { connections: 0, v6, ..Setup::default() });
        let remote = world.client.application().remote;
        let local: IpAddr = if v6 { "fd00::1" } else { "10.0.0.1" }.parse().expect("an address");
        let tuple = FourTuple::new(local, 40_000, remote.ip(), remote.port());
        for number in [0, 7_000, u32::MAX] {
            let options = Options { mss: Some(1460), ..Options::default() };
            let syn = Segment { seq: Seq(number), wnd: 8000, flags: Flags::SYN, options, ..Segment::default() };
            let reset = world.client.counters().rst_sent;
            forge(world.client.link_mut(), &tuple, &syn, &[]);
            crate::link::Link::flush(world.client.link_mut());
            world.server.turn(world.now);
            assert_eq!((world.server.core.half_open, world.server.connections_live()), (1, 1));
            for _ in 0..10 {
                world.turn(1000);
            }
            assert_eq!(world.client.counters().rst_sent, reset + 1, "the host knows of no such connection");
            assert_eq!(world.server.application().accepted + world.server.application().closed.len(), 0);
            assert_eq!((world.server.connections_live(), world.server.time_wait_live()), (0, 0));
            assert_eq!((world.server.core.index.len(), world.server.core.neighbors.in_use()), (0, 0));
            assert_eq!(world.server.counters().rst_sent, 0, "no RST answers a RST");
            world.assert_clean();
        }
    }
}
