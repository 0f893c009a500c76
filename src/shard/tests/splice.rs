//! Spliced connections. One shard plays clients and servers, the other the relay between them, over a wire that may lose.

mod of_every_seed;
mod slow_readers;

use super::simulation::{FAIR_MSL_MS, TRIES, identity};
use super::*;
use crate::api::{CallError, ConnectionOptions, SpliceError};
use crate::limits::CHUNK_BYTES;
use crate::link::faults::{FaultConfig, Faults};
use crate::tcp::state::State;
use ::core::time::Duration;

/// Plays clients and servers: sends what it is told to, keeps what it receives.
#[derive(Default)]
struct Ends {
    /// It takes no bytes while this holds, but for those that listen.
    full: bool,
    listens: Vec<Handle>,
    connected: Vec<Handle>,
    accepted: Vec<Handle>,
    to_send: BTreeMap<Handle, Vec<u8>>,
    received: BTreeMap<Handle, Vec<u8>>,
    peer_closed: Vec<Handle>,
    closed: BTreeMap<Handle, CloseReason>,
}

impl Ends {
    fn push(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        let Some(bytes) = self.to_send.get_mut(&handle) else { return };
        let taken = calls.send(handle, bytes).expect("open");
        bytes.drain(..taken);
    }

    fn received(&self, handle: Handle) -> &[u8] {
        self.received.get(&handle).map_or(&[], Vec::as_slice)
    }
}

impl Application for Ends {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { handle } => self.connected.push(handle),
            Event::Accepted { handle, .. } => self.accepted.push(handle),
            Event::Readable { handle, .. } if self.full && !self.listens.contains(&handle) => {}
            Event::Readable { handle, bytes } => {
                self.received.entry(handle).or_default().extend_from_slice(bytes);
                calls.consume(handle, bytes.len()).expect("lent");
            }
            Event::Writable { handle } => self.push(calls, handle),
            Event::PeerClosed { handle } => self.peer_closed.push(handle),
            Event::Closed { handle, reason } => _ = self.closed.insert(handle, reason),
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } | Event::Timer { .. } => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        if self.full {
            return;
        }
        // What came while it took nothing.
        for handle in self.connected.iter().chain(&self.accepted) {
            while let Ok(bytes) = calls.received(*handle).map(<[u8]>::to_vec) {
                if bytes.is_empty() {
                    break;
                }
                calls.consume(*handle, bytes.len()).expect("unread");
                self.received.entry(*handle).or_default().extend_from_slice(&bytes);
            }
        }
    }
}

/// Connects onwards what it accepts, and splices both.
struct Relay {
    onwards: SocketAddr,
    connection: ConnectionOptions,
    /// Read from the front and written to the back before the splice.
    prefix: Option<(usize, &'static [u8])>,
    /// Front and back.
    pairs: Vec<[Handle; 2]>,
    refused: Vec<SpliceError>,
    ended: Vec<[u64; 2]>,
    closed: BTreeMap<Handle, CloseReason>,
    /// What was told of spliced connections and must not be.
    told: usize,
}

impl Relay {
    fn new(onwards: SocketAddr) -> Relay {
        Relay {
            onwards,
            connection: ConnectionOptions::default(),
            prefix: None,
            pairs: Vec::new(),
            refused: Vec::new(),
            ended: Vec::new(),
            closed: BTreeMap::new(),
            told: 0,
        }
    }

    fn join(&mut self, calls: &mut Calls<'_>, front: Handle, back: Handle) {
        if calls.spliced_with(front).is_some() {
            return;
        }
        if let Some((skipped, written)) = self.prefix {
            if calls.received(front).map_or(0, <[u8]>::len) < skipped {
                return;
            }
            calls.consume(front, skipped).expect("they are there");
            assert_eq!(calls.send(back, written), Ok(written.len()));
        }
        let unread = calls.received(front).map(<[u8]>::to_vec);
        match calls.splice(front, back) {
            Ok(()) => {
                assert_eq!(calls.received(front).map(<[u8]>::to_vec), unread, "what was consumed stays so");
                self.pairs.push([front, back]);
            }
            Err(error) => {
                self.refused.push(error);
                let _ = calls.abort(back);
            }
        }
    }
}

impl Application for Relay {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Accepted { handle, .. } => {
                let options =
                    ConnectOptions { user: handle.to_bits(), connection: self.connection, ..ConnectOptions::default() };
                let back = calls.connect(self.onwards, &options).expect("limits have room");
                calls.set_user(handle, back.to_bits()).expect("just accepted");
                let _ = calls.set_options(handle, &self.connection);
            }
            Event::Connected { handle } => {
                let front = Handle::from_bits(calls.user(handle).expect("live"));
                self.join(calls, front, handle);
            }
            Event::Readable { handle, .. } => {
                self.told += usize::from(calls.spliced_with(handle).is_some());
                let back = Handle::from_bits(calls.user(handle).expect("live"));
                if calls.state(back).is_ok_and(State::can_send) && self.prefix.is_some() {
                    self.join(calls, handle, back);
                }
            }
            Event::Writable { handle } | Event::PeerClosed { handle } => {
                self.told += usize::from(calls.spliced_with(handle).is_some());
            }
            Event::SpliceEnded { a, b, a_to_b, b_to_a } => {
                assert!(self.pairs.contains(&[a, b]), "told of what was joined, in its order");
                assert!(!self.closed.contains_key(&a) && !self.closed.contains_key(&b), "before Closed");
                self.ended.push([a_to_b, b_to_a]);
            }
            Event::Closed { handle, reason } => {
                assert!(calls.spliced_with(handle).is_none());
                _ = self.closed.insert(handle, reason);
                // An end that was never joined takes the other with it.
                let other = Handle::from_bits(calls.user(handle).expect("live"));
                if calls.spliced_with(other).is_none() && !self.pairs.iter().flatten().any(|end| *end == handle) {
                    let _ = calls.abort(other);
                }
            }
            Event::Stalled { .. } | Event::Urgent { .. } | Event::Timer { .. } => {}
        }
    }
}

struct Setup {
    faults: FaultConfig,
    limits: Limits,
    /// Those of the ends where they differ.
    of_ends: Option<Limits>,
    settings: Settings,
    connection: ConnectionOptions,
    prefix: Option<(usize, &'static [u8])>,
    /// The fate of frames follows from the frames, and none is lost for ever.
    fair: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        let limits = super::Setup::default().limits;
        let faults = FaultConfig { delay_us: (500, 500), held_max: 2048, ..FaultConfig::default() };
        Setup {
            faults,
            limits,
            of_ends: None,
            settings: Settings::default(),
            connection: Default::default(),
            prefix: None,
            fair: false,
        }
    }
}

/// The ends, the relay, and the wire between them.
struct Relayed<E: Application> {
    ends: Shard<Faults<MemoryLink>, E>,
    relay: Shard<Faults<MemoryLink>, Relay>,
    now: Now,
}

impl<E: Application> Relayed<E> {
    fn over(ends: E, setup: &Setup, seed: u64, mtu: u16) -> Relayed<E> {
        let memory = MemoryConfig { frames: 1024, frame_bytes: mtu + 18, mtu, queue_frames: 1024 };
        let (a, b) = pair(memory, MACS);
        let now = Now::from_ms(5000);
        let none = FaultConfig { held_max: 0, ..FaultConfig::default() };
        let [of_ends, of_relay] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().expect("an address"));
        let config = |address, limits, seed| ShardConfig {
            limits,
            addresses: vec![LocalAddress { address, prefix_len: 24 }],
            settings: setup.settings,
            msl_ms: if setup.fair { FAIR_MSL_MS } else { MSL_MS },
            ..ShardConfig::seeded(seed)
        };
        let relay =
            Relay { connection: setup.connection, prefix: setup.prefix, ..Relay::new(SocketAddr::new(of_ends, 80)) };
        let [link_a, link_b] = [(a, 0), (b, 1)].map(|(link, end)| {
            let link = Faults::new(link, setup.faults, none, seed + end);
            if setup.fair { link.by_frame(identity, TRIES) } else { link }
        });
        let config_of_ends = config(of_ends, setup.of_ends.unwrap_or(setup.limits), seed);
        let mut ends = Shard::new(link_a, ends, config_of_ends, now).expect("a shard");
        let mut relay = Shard::new(link_b, relay, config(of_relay, setup.limits, seed + 1), now).expect("a shard");
        ends.calls(now).listen(of_ends, 80).expect("a listener");
        relay.calls(now).listen(of_relay, 80).expect("a listener");
        Relayed { ends, relay, now }
    }

    /// Both take what is there; time goes on by 100 us.
    fn step(&mut self) {
        for _ in 0..4 {
            self.ends.turn(self.now);
            self.relay.turn(self.now);
        }
        self.now = Now::from_us(self.now.us() + 100);
    }

    #[track_caller]
    fn until(&mut self, what: &str, done: impl Fn(&Relayed<E>) -> bool) {
        for _ in 0..STEPS_MAX {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("not {what}: ends {:?}, relay {:?}", self.ends.states(), self.relay.states());
    }

    fn run_ms(&mut self, ms: u64) {
        for _ in 0..10 * ms {
            self.step();
        }
    }

    #[track_caller]
    fn assert_over(&mut self) {
        self.until("over", |world| world.ends.connections_live() + world.relay.connections_live() == 0);
        assert_shard_clean(&self.ends);
        assert_shard_clean(&self.relay);
        assert_eq!(self.relay.application().told, 0, "bytes and FINs of spliced connections are not told");
    }
}

type World = Relayed<Ends>;

impl Relayed<Ends> {
    fn new(setup: &Setup) -> World {
        Relayed::over(Ends::default(), setup, 7, 1500)
    }

    /// `count` clients connected through the relay: each client's handle and its server's, joined in the relay.
    fn opened(setup: &Setup, count: usize) -> (World, Vec<[Handle; 2]>) {
        let mut world = World::new(setup);
        for _ in 0..count {
            let remote = SocketAddr::new("10.0.0.2".parse().expect("an address"), 80);
            world.ends.calls(world.now).connect(remote, &ConnectOptions::default()).expect("room");
        }
        world.until("joined", |world| {
            let joined = world.relay.application().pairs.len() == count || setup.prefix.is_some();
            joined
                && world.ends.application().accepted.len() == count
                && world.ends.application().connected.len() == count
        });
        let pairs = world.ends_joined();
        (world, pairs)
    }

    /// Which client talks to which server, by the ports that the relay sees.
    fn ends_joined(&mut self) -> Vec<[Handle; 2]> {
        let (now, pairs) = (self.now, self.relay.application().pairs.clone());
        let Ends { connected, accepted, .. } = self.ends.application();
        let (connected, accepted) = (connected.clone(), accepted.clone());
        let ports = |calls: &Calls<'_>, handle| {
            let tuple = calls.four_tuple(handle).expect("live");
            (tuple.local_port, tuple.remote_port)
        };
        let find = |calls: &Calls<'_>, handles: &[Handle], (local, remote): (u16, u16)| {
            *handles.iter().find(|handle| ports(calls, **handle) == (remote, local)).expect("the other end")
        };
        let seen: Vec<_> = pairs.iter().map(|pair| pair.map(|end| ports(&self.relay.calls(now), end))).collect();
        let calls = self.ends.calls(now);
        seen.iter().map(|[front, back]| [find(&calls, &connected, *front), find(&calls, &accepted, *back)]).collect()
    }

    fn send(&mut self, handle: Handle, bytes: &[u8]) {
        self.ends.with_calls(self.now, |ends, calls| {
            ends.to_send.entry(handle).or_default().extend_from_slice(bytes);
            ends.push(calls, handle);
        });
    }

    fn close(&mut self, handle: Handle) {
        self.ends.calls(self.now).shutdown_write(handle).expect("open");
    }

    /// Everything queued has left the application.
    fn all_sent(&self) -> bool {
        self.ends.application().to_send.values().all(Vec::is_empty)
    }
}

fn text(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32).map(|at| ((at ^ seed).wrapping_mul(0x9e37_79b1) >> 24) as u8).collect()
}

#[test]
fn splice_delivers_every_byte_once_both_ways_on_a_wire_that_loses() {
    for loss in [0.0, 0.02] {
        let faults =
            FaultConfig { loss, duplication: loss, reordering: loss, reordering_us: 900, ..Setup::default().faults };
        let limits = Limits { histories_max: 1, ..Setup::default().limits };
        let (mut world, pairs) = World::opened(&Setup { faults, limits, ..Setup::default() }, 1);
        let [client, server] = pairs[0];
        let (up, down) = (text(600_000, 1), text(400_000, 2));
        world.send(client, &up);
        world.send(server, &down);
        world.until("sent", World::all_sent);
        world.until("there", |world| world.ends.application().received(client).len() == 400_000);
        world.until("there", |world| world.ends.application().received(server).len() == 600_000);
        world.run_ms(50);
        let now = world.now;
        let history =
            world.ends.calls(now).info(client).expect("open").history.expect("the first connection's is kept");
        assert_eq!((history.bytes_acked, history.bytes_received), (600_000, 400_000));
        assert!((1..now.us() / 1000 - 4990).contains(&history.age_ms.into()), "{history:?}");
        assert_eq!(history.total_retrans > 0, loss > 0.0, "{history:?}");
        assert!(matches!(history.min_rtt_us, Some(1000..3000)), "twice 0.5 ms: {history:?}");
        assert_eq!(world.ends.calls(now).info(server).expect("open").history, None, "there is room for one");
        world.close(client);
        world.close(server);
        world.until("over", |world| world.ends.application().closed.len() == 2);
        let ends = world.ends.application();
        assert!(ends.received(server) == up && ends.received(client) == down, "every byte once and in order");
        assert!(ends.closed.values().all(|reason| *reason == CloseReason::Graceful));
        assert_eq!(world.relay.application().ended, [[600_000, 400_000]]);
        world.assert_over();
        assert!(world.relay.application().closed.values().all(|reason| *reason == CloseReason::Graceful));
        assert_eq!(world.relay.counters().splices, 1);
    }
}

#[test]
fn half_close_is_carried_across_in_both_orders() {
    for first in [0, 1] {
        let (mut world, pairs) = World::opened(&Setup::default(), 1);
        let (one, other) = (pairs[0][first], pairs[0][1 - first]);
        world.send(one, b"the last words");
        world.close(one);
        world.until("told", |world| world.ends.application().peer_closed == [other]);
        assert_eq!(world.ends.application().received(other), b"the last words");
        world.run_ms(100);
        assert_eq!(
            (world.relay.splices_live(), world.ends.application().closed.len()),
            (1, 0),
            "the other way is open"
        );
        let answer = text(50_000, 3);
        world.send(other, &answer);
        world.until("sent", World::all_sent);
        world.close(other);
        world.until("over", |world| world.ends.application().closed.len() == 2);
        assert_eq!(world.ends.application().received(one), answer);
        assert!(world.ends.application().closed.values().all(|reason| *reason == CloseReason::Graceful));
        let mut counts = [14, 50_000];
        counts.rotate_left(first);
        assert_eq!(world.relay.application().ended, [counts]);
        world.assert_over();
    }
}

#[test]
fn reset_of_one_end_aborts_the_other_in_both_directions() {
    for first in [0, 1] {
        let (mut world, pairs) = World::opened(&Setup::default(), 1);
        let (one, other) = (pairs[0][first], pairs[0][1 - first]);
        world.send(one, b"a word");
        world.until("heard", |world| world.ends.application().received(other) == b"a word");
        world.ends.calls(world.now).abort(one).expect("open");
        world.assert_over();
        let ends = world.ends.application();
        assert_eq!((ends.closed[&one], ends.closed[&other]), (CloseReason::Aborted, CloseReason::Reset));
        let relay = world.relay.application();
        let mut reasons = [CloseReason::Reset, CloseReason::Aborted];
        reasons.rotate_left(first);
        assert_eq!(relay.pairs[0].map(|end| relay.closed[&end]), reasons);
        let mut counts = [6, 0];
        counts.rotate_left(first);
        assert_eq!(relay.ended, [counts]);
    }
}

#[test]
fn reset_of_an_end_whose_bytes_wait_leaves_nothing() {
    let (mut world, pairs) = World::opened(&Setup::default(), 1);
    let [client, server] = pairs[0];
    world.ends.application_mut().full = true;
    world.send(client, &text(1_000_000, 1));
    world.run_ms(500);
    let relay = world.relay.application().pairs[0];
    let unread = world.relay.calls(world.now).info(relay[0]).expect("open").unread;
    assert!(unread > 200_000, "{unread} bytes wait for the other end");
    world.ends.calls(world.now).abort(client).expect("open");
    world.until("over", |world| world.relay.connections_live() == 0);
    world.ends.application_mut().full = false;
    world.assert_over();
    assert_eq!(world.ends.application().closed[&server], CloseReason::Reset);
    let relay = world.relay.application();
    assert_eq!(relay.pairs[0].map(|end| relay.closed[&end]), [CloseReason::Reset, CloseReason::Aborted]);
}

#[test]
fn time_out_of_one_end_aborts_the_other() {
    let connection = ConnectionOptions { user_timeout: Some(Duration::from_secs(1)), ..ConnectionOptions::default() };
    let (mut world, pairs) = World::opened(&Setup { connection, ..Setup::default() }, 1);
    let [client, _] = pairs[0];
    world.ends.application_mut().full = true;
    world.send(client, &text(1_000_000, 1));
    world.until("over", |world| world.ends.application().closed.contains_key(&client));
    assert_eq!(world.ends.application().closed[&client], CloseReason::Reset);
    let relay = world.relay.application();
    assert_eq!(relay.pairs[0].map(|end| relay.closed[&end]), [CloseReason::Aborted, CloseReason::TimedOut]);
    assert_eq!(relay.ended.len(), 1);
}

#[test]
fn abort_of_a_spliced_connection_ends_both() {
    let (mut world, pairs) = World::opened(&Setup::default(), 1);
    let [front, _] = world.relay.application().pairs[0];
    world.relay.calls(world.now).abort(front).expect("abort works while spliced");
    world.assert_over();
    assert_eq!(world.relay.application().ended, [[0, 0]]);
    let ends = world.ends.application();
    assert_eq!(pairs[0].map(|end| ends.closed[&end]), [CloseReason::Reset; 2]);
}

#[test]
fn slow_reader_slows_the_sender_at_the_other_end_at_bounded_memory() {
    let settings = Settings { send_buffer_bytes: 64 * 1024, receive_buffer_bytes: 64 * 1024, ..Settings::default() };
    let (mut world, pairs) = World::opened(&Setup { settings, ..Setup::default() }, 1);
    let [client, server] = pairs[0];
    let bytes = text(2_000_000, 5);
    world.ends.application_mut().full = true;
    world.send(client, &bytes);
    let whole = world.relay.chunks_free();
    let mut most = 0;
    for _ in 0..3000 {
        world.run_ms(1);
        most = most.max(whole - world.relay.chunks_free());
    }
    let buffers = (64 * 1024 / CHUNK_BYTES) as u32;
    assert!((2 * buffers..=2 * buffers + 4).contains(&most), "one send and one receive buffer: {most} chunks");
    // Four buffers are full: one at each end, two in the relay.
    let left = world.ends.application().to_send[&client].len();
    assert!((bytes.len() - left).abs_diff(4 * 64 * 1024) < 8 * 1024, "the sender has been stopped: {left} left");
    world.ends.application_mut().full = false;
    world.until("sent", World::all_sent);
    world.close(client);
    world.close(server);
    world.until("over", |world| world.ends.application().closed.len() == 2);
    assert!(world.ends.application().received(server) == bytes);
    world.assert_over();
}

#[test]
fn prefix_is_read_and_another_written_before_the_rest_goes_across() {
    let setup = Setup { prefix: Some((5, b"PROXY ")), ..Setup::default() };
    let (mut world, _) = World::opened(&setup, 1);
    let client = world.ends.application().connected[0];
    let server = world.ends.application().accepted[0];
    let bytes = text(5000, 6);
    world.send(client, b"hel");
    world.run_ms(20);
    assert!(world.relay.application().pairs.is_empty(), "the prefix is not there yet");
    world.send(client, b"lo");
    world.send(client, &bytes);
    world.close(client);
    world.until("told", |world| world.ends.application().peer_closed == [server]);
    assert_eq!(world.ends.application().received(server), [b"PROXY ", bytes.as_slice()].concat());
    world.close(server);
    world.assert_over();
    assert_eq!(world.relay.application().ended, [[5000, 0]], "what was sent before is not counted");
}

#[test]
fn prefix_that_was_buffered_before_the_splice_does_not_go_across() {
    let mut world = World::new(&Setup { prefix: Some((5, b"PROXY ")), ..Setup::default() });
    let remote = SocketAddr::new("10.0.0.2".parse().expect("an address"), 80);
    let client = world.ends.calls(world.now).connect(remote, &ConnectOptions::default()).expect("room");
    world.until("connected", |world| world.ends.application().connected == [client]);
    // It arrives while the relay connects onwards, and is taken when that succeeds.
    let bytes = text(5000, 6);
    world.send(client, &[b"hello", bytes.as_slice()].concat());
    world.close(client);
    world.until("told", |world| world.ends.application().peer_closed.len() == 1);
    let server = world.ends.application().accepted[0];
    assert_eq!(world.ends.application().received(server), [b"PROXY ", bytes.as_slice()].concat());
    world.close(server);
    world.assert_over();
    assert_eq!(world.relay.application().ended, [[5000, 0]], "what was consumed before is not counted");
}

#[test]
fn many_splices_with_few_chunks_each_deliver_their_own_bytes() {
    let limits = Limits { chunks_max: 96, ..super::Setup::default().limits };
    let settings = Settings { send_buffer_bytes: 8192, receive_buffer_bytes: 8192, ..Settings::default() };
    let (mut world, pairs) = World::opened(&Setup { limits, settings, ..Setup::default() }, 120);
    for (at, [client, server]) in (0..).zip(&pairs) {
        world.send(*client, &text(9000, at));
        world.send(*server, &text(7000, at + 1000));
    }
    world.until("sent", World::all_sent);
    for end in pairs.iter().flatten() {
        world.close(*end);
    }
    world.until("over", |world| world.ends.application().closed.len() == 240);
    let ends = world.ends.application();
    for (at, [client, server]) in (0..).zip(&pairs) {
        assert!(
            ends.received(*server) == text(9000, at) && ends.received(*client) == text(7000, at + 1000),
            "pair {at}"
        );
    }
    assert_eq!(world.relay.application().ended, vec![[9000, 7000]; 120]);
    world.assert_over();
}

#[test]
fn splices_that_cannot_be_are_typed_errors_and_change_nothing() {
    let limits = Limits { splices_max: 1, ..super::Setup::default().limits };
    let (mut world, _) = World::opened(&Setup { limits, ..Setup::default() }, 1);
    let [front, back] = world.relay.application().pairs[0];
    let now = world.now;
    let remote = SocketAddr::new("10.0.0.1".parse().expect("an address"), 80);
    let mut calls = world.relay.calls(now);
    assert_eq!(calls.splice(front, front), Err(SpliceError::Itself));
    assert_eq!(calls.splice(front, back), Err(SpliceError::AlreadySpliced(front)));
    let opening = calls.connect(remote, &ConnectOptions { user: front.to_bits(), ..Default::default() }).expect("room");
    assert_eq!(calls.splice(opening, back), Err(SpliceError::NotOpen(opening)));
    let stale = Handle::from_bits(back.to_bits() ^ 2 << 32);
    assert_eq!(calls.splice(stale, back), Err(SpliceError::Stale(stale)));
    for refused in [
        calls.send(front, b"x").map(drop),
        calls.consume(front, 0),
        calls.shutdown_write(front),
        calls.close(back),
        calls.send_urgent(back, b"x").map(drop),
    ] {
        assert_eq!(refused, Err(CallError::Spliced));
    }
    assert_eq!(calls.spliced_with(front), Some(back));
    assert!(calls.info(front).is_ok() && calls.set_no_delay(back, true).is_ok() && calls.user(front).is_ok());
    calls.set_no_delay(back, false).expect("open");
    // The one that was opening opens, but there is no splice left for it and for another.
    let another = calls.connect(remote, &ConnectOptions { user: front.to_bits(), ..Default::default() }).expect("room");
    world.run_ms(20);
    let mut calls = world.relay.calls(world.now);
    assert_eq!(calls.splice(opening, another), Err(SpliceError::TooMany(1)));
    assert_eq!(calls.send(opening, b"x"), Ok(1), "nothing has changed");
    calls.shutdown_write(another).expect("open");
    assert_eq!(calls.splice(opening, another), Err(SpliceError::Closing(another)));
    calls.abort(another).expect("open");
    assert_eq!(calls.splice(opening, another), Err(SpliceError::Ended(another)));
    calls.abort(opening).expect("open");
    calls.abort(front).expect("open");
    world.assert_over();
}

/// Steps of one test at most.
const STEPS_MAX: usize = 2_000_000;
