//! The proxy over a memory link, with virtual time, against an application that plays the client and the backends.

use super::application::Proxy;
use super::backends::Shared;
use super::config::Config;
use super::notes::{Ended, Note, Notes};
use crate::api::{Application, CloseReason, ConnectOptions, Event};
use crate::ids::{Handle, ListenerId};
use crate::limits::Limits;
use crate::link::memory::{MemoryConfig, MemoryLink, pair};
use crate::owner::Spread;
use crate::shard::{Calls, LocalAddress, Shard, ShardConfig};
use crate::stack::{self, Idle, Seat, Service};
use crate::tick::Now;
use crate::wire::ethernet::MacAddress;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

const MACS: [MacAddress; 2] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];

/// What has happened to one connection of the peer.
#[derive(Debug, Default)]
struct Seen {
    received: Vec<u8>,
    peer_closed: bool,
    ended: Option<CloseReason>,
}

/// Both sides of the proxy. What it accepts it answers with "answer" after the first bytes.
#[derive(Debug, Default)]
struct Peer {
    seen: HashMap<Handle, Seen>,
    accepted: Vec<Handle>,
    answers: bool,
}

impl Application for Peer {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Accepted { handle, .. } => {
                self.accepted.push(handle);
                self.seen.insert(handle, Seen::default());
            }
            Event::Readable { handle, bytes } => {
                self.seen.entry(handle).or_default().received.extend_from_slice(bytes);
                calls.consume(handle, bytes.len()).unwrap();
                if self.answers && self.accepted.contains(&handle) {
                    calls.send(handle, b"answer").unwrap();
                }
            }
            Event::PeerClosed { handle } => {
                self.seen.entry(handle).or_default().peer_closed = true;
                // Refused when this side has closed first.
                let _ = calls.shutdown_write(handle);
            }
            Event::Closed { handle, reason } => self.seen.entry(handle).or_default().ended = Some(reason),
            _ => {}
        }
    }
}

struct World {
    proxy: Shard<MemoryLink, Proxy>,
    peer: Shard<MemoryLink, Peer>,
    notes: Notes,
    shared: Arc<Shared>,
    now: Now,
}

impl World {
    /// A proxy at port 80 with these lines about its listener.
    fn new(listener: &str) -> World {
        World::with("", listener)
    }

    fn with(settings: &str, listener: &str) -> World {
        World::with_stack(settings, "", listener)
    }

    fn with_stack(settings: &str, stack: &str, listener: &str) -> World {
        let limits = Limits { tcbs_max: 64, time_wait_max: 64, half_open_max: 16, chunks_max: 64, ..Limits::default() };
        World::within(limits, settings, stack, listener)
    }

    /// The same with other limits of the proxy and of its peer.
    fn within(limits: Limits, settings: &str, stack: &str, listener: &str) -> World {
        let text = format!(
            "{settings}\naccess_log = \"-\"\n[stack]\n{stack}\ninterface = \"any\"\naddress = \"10.0.0.1/24\"\n\
             [[listeners]]\nname = \"web\"\naddress = \"10.0.0.1:80\"\n{listener}\n"
        );
        let config = Config::parse(&text).unwrap();
        let of = |address| ShardConfig {
            limits,
            addresses: vec![LocalAddress { address, prefix_len: 24 }],
            ..ShardConfig::seeded(0)
        };
        let (a, b) = pair(MemoryConfig::default(), MACS);
        let notes = Notes::new(64);
        let shared = Arc::new(Shared::new(&config));
        let application = Proxy::new(&config, &shared, &notes, 0, 1);
        let mut proxy = Shard::new(a, application, of(PROXY), Now::default()).unwrap();
        proxy.with_calls(Now::default(), |proxy, calls| proxy.start(calls)).unwrap();
        let peer = Shard::new(b, Peer { answers: true, ..Peer::default() }, of(PEER), Now::default()).unwrap();
        World { proxy, peer, notes, shared, now: Now::default() }
    }

    fn listen(&mut self, port: u16) -> ListenerId {
        self.peer.calls(self.now).listen(PEER, port).unwrap()
    }

    fn connect(&mut self) -> Handle {
        self.peer.calls(self.now).connect(SocketAddr::new(PROXY, 80), &ConnectOptions::default()).unwrap()
    }

    fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now = self.now.plus_ms(1);
            self.peer.turn(self.now);
            self.proxy.turn(self.now);
        }
    }

    /// The peer has vanished.
    fn run_proxy_ms(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now = self.now.plus_ms(1);
            self.proxy.turn(self.now);
        }
    }

    fn seen(&self, handle: Handle) -> &Seen {
        &self.peer.application().seen[&handle]
    }

    fn seen_end(&self, handle: Handle) -> Option<CloseReason> {
        self.peer.application().seen.get(&handle).and_then(|seen| seen.ended)
    }

    /// The connections that have ended, as letters, backend, retries and bytes to the client.
    fn ended(&self) -> Vec<(String, Option<u16>, u8, u64)> {
        ended(&self.notes)
    }
}

fn ended(notes: &Notes) -> Vec<(String, Option<u16>, u8, u64)> {
    let brief =
        |ended: Ended| (ended.termination.letters().iter().collect(), ended.backend, ended.retries, ended.bytes_read);
    notes.take().filter_map(|note| if let Note::Ended(ended) = note { Some(brief(ended)) } else { None }).collect()
}

const ONE: &str = "backends = [{ address = \"10.0.0.2:8001\" }]";
const TWO: &str = "backends = [{ address = \"10.0.0.2:8001\" }, { address = \"10.0.0.2:8002\" }]";

fn letters(letters: &str, backend: Option<u16>, retries: u8, bytes: u64) -> (String, Option<u16>, u8, u64) {
    (letters.to_owned(), backend, retries, bytes)
}

#[test]
fn header_goes_before_what_the_client_sent_and_the_answer_comes_back() {
    let mut world = World::new(&format!("proxy_protocol = \"v1\"\n{ONE}"));
    world.listen(8001);
    let client = world.connect();
    world.run_ms(5);
    let tuple = world.peer.calls(world.now).four_tuple(client).unwrap();
    world.peer.calls(world.now).send(client, b"question").unwrap();
    world.run_ms(5);
    let backend = world.peer.application().accepted[0];
    let expected = format!("PROXY TCP4 10.0.0.2 10.0.0.1 {} 80\r\nquestion", tuple.local_port);
    assert_eq!(String::from_utf8_lossy(&world.seen(backend).received), expected);
    world.peer.calls(world.now).shutdown_write(client).unwrap();
    world.run_ms(5);
    let seen = world.seen(client);
    assert!(seen.received.ends_with(b"answer") && seen.peer_closed && seen.ended == Some(CloseReason::Graceful));
    let [(how, backend, retries, bytes)] = &world.ended()[..] else { panic!("one has ended") };
    assert_eq!((how.as_str(), *backend, *retries), ("--", Some(0), 0));
    assert!(*bytes == 6 || *bytes == 12, "{bytes}");
}

#[test]
fn refused_tries_wait_a_second_each_at_the_only_backend() {
    let mut world = World::new(&format!("retries = 2\n{ONE}"));
    let client = world.connect();
    world.run_ms(1990);
    assert_eq!(world.seen_end(client), None);
    world.run_ms(30);
    assert_eq!(world.seen_end(client), Some(CloseReason::Reset));
    assert_eq!(world.ended(), [letters("SC", Some(0), 2, 0)]);
    // One that comes up meanwhile gets the client.
    let client = world.connect();
    world.run_ms(500);
    world.listen(8001);
    world.run_ms(600);
    world.peer.calls(world.now).send(client, b"question").unwrap();
    world.run_ms(5);
    assert_eq!(world.seen(client).received, b"answer");
}

#[test]
fn refused_try_goes_to_another_backend_at_once() {
    let mut world = World::new(TWO);
    world.listen(8002);
    let client = world.connect();
    world.run_ms(5);
    world.peer.calls(world.now).abort(client).unwrap();
    world.run_ms(5);
    assert_eq!(world.ended(), [letters("CD", Some(1), 1, 0)]);
}

/// Two clients, the second of which waits: the fourth connection, to its backend, has no place in TIME-WAIT, and `refused` of its tries
/// were refused within half a second.
fn second_without_a_place(retries: u8, refused: u64) -> (World, [Handle; 2]) {
    let limits = Limits { tcbs_max: 64, time_wait_max: 3, half_open_max: 16, chunks_max: 64, ..Limits::default() };
    let mut world = World::within(limits, "", "", &format!("retries = {retries}\n{TWO}"));
    world.listen(8001);
    world.listen(8002);
    let first = world.connect();
    world.run_ms(5);
    let second = world.connect();
    world.run_ms(500);
    assert_eq!((world.seen_end(second), world.proxy.counters().opens_refused_time_wait), (None, refused));
    (world, [first, second])
}

#[test]
fn b46_client_waits_for_a_place_in_time_wait_though_there_are_other_backends() {
    for place_comes in [true, false] {
        let (mut world, [first, second]) = second_without_a_place(3, 2);
        if place_comes {
            world.peer.calls(world.now).abort(first).unwrap();
            world.run_ms(600);
            world.peer.calls(world.now).send(second, b"question").unwrap();
            world.run_ms(5);
            assert_eq!(world.seen(second).received, b"answer");
        } else {
            world.run_ms(1490);
            assert_eq!(world.seen_end(second), None);
            world.run_ms(30);
            assert_eq!(world.seen_end(second), Some(CloseReason::Reset));
            assert_eq!(world.ended(), [letters("RC", Some(0), 3, 0)]);
        }
    }
}

#[test]
fn b46_client_with_one_retry_waits_for_a_place_in_time_wait() {
    for place_comes in [true, false] {
        let (mut world, [first, second]) = second_without_a_place(1, 1);
        if place_comes {
            world.peer.calls(world.now).abort(first).unwrap();
        }
        world.run_ms(600);
        if place_comes {
            world.peer.calls(world.now).send(second, b"question").unwrap();
            world.run_ms(5);
            assert_eq!(world.seen(second).received, b"answer");
        } else {
            assert_eq!(world.seen_end(second), Some(CloseReason::Reset));
            assert_eq!(world.ended(), [letters("RC", Some(0), 1, 0)]);
        }
    }
}

#[test]
fn client_that_goes_while_connecting_takes_the_try_with_it() {
    // Nobody has that address: the try waits for a neighbour.
    let mut world = World::new("backends = [{ address = \"10.0.0.9:80\" }]");
    let client = world.connect();
    world.run_ms(5);
    world.peer.calls(world.now).abort(client).unwrap();
    world.run_ms(5);
    assert_eq!(world.ended(), [letters("CC", Some(0), 0, 0)]);
    assert_eq!(world.proxy.connections_live(), 0);
}

#[test]
fn idle_pair_ends_after_its_time_and_one_that_moves_does_not() {
    let mut world = World::new(&format!("idle_timeout = \"10s\"\n{ONE}"));
    world.listen(8001);
    let (idle, moves) = (world.connect(), world.connect());
    for _ in 0..20 {
        world.run_ms(500);
        assert_eq!(world.seen_end(idle), None);
        world.peer.calls(world.now).send(moves, b".").unwrap();
    }
    world.run_ms(1100);
    assert_eq!((world.seen_end(idle), world.seen_end(moves)), (Some(CloseReason::Reset), None));
    assert_eq!(world.ended(), [letters("cD", Some(0), 0, 0)]);
}

/// A pair whose client vanishes when the backend has closed: it acknowledges nothing, or the answer alone.
fn client_vanishes(listener: &str, answer_waits: bool) -> World {
    let mut world = World::new(&format!("{listener}\n{ONE}"));
    world.listen(8001);
    let client = world.connect();
    world.run_ms(5);
    world.peer.calls(world.now).send(client, b"question").unwrap();
    if !answer_waits {
        world.run_ms(100);
    }
    world.peer.calls(world.now).shutdown_write(client).unwrap();
    for _ in 0..100 {
        world.run_ms(1);
        // What the proxy has said to the client in this turn nobody hears.
        if world.proxy.time_wait_live() == 1 || world.proxy.connections_live() == 1 {
            break;
        }
    }
    assert_eq!((world.proxy.connections_live(), world.ended().len()), (1, 0));
    world
}

#[test]
fn t04_client_that_vanishes_behind_its_fin_keeps_its_pair_no_longer_than_idle_ones() {
    for answer_waits in [false, true] {
        let mut world = client_vanishes("idle_timeout = \"10s\"", answer_waits);
        assert_eq!(world.shared.counts(0, Some(0)).backend, 0, "the backend is free at once");
        world.run_proxy_ms(9_500);
        assert_eq!(world.proxy.connections_live(), 1);
        world.run_proxy_ms(5_500);
        assert_eq!(world.proxy.connections_live(), 0, "answer waits: {answer_waits}");
        assert_eq!(world.ended(), [letters("--", Some(0), 0, 6)]);
    }
}

#[test]
fn t04_fin_alone_is_waited_for_half_a_minute_and_bytes_as_long_as_idle_ones_are() {
    for (answer_waits, after_s) in [(false, 30), (true, 120)] {
        let mut world = client_vanishes("idle_timeout = \"2m\"", answer_waits);
        world.run_proxy_ms((after_s - 2) * 1000);
        assert_eq!(world.proxy.connections_live(), 1, "answer waits: {answer_waits}");
        world.run_proxy_ms(5_000);
        assert_eq!(world.proxy.connections_live(), 0, "answer waits: {answer_waits}");
    }
}

#[test]
fn connections_of_both_sides_have_the_options_of_the_stack() {
    let mut world = World::with_stack("", "keepalive = \"1,60,3\"", ONE);
    world.listen(8001);
    world.connect();
    world.run_ms(1500);
    assert_eq!(world.proxy.counters().keepalive_probes, 2);
}

#[test]
fn checks_take_a_backend_out_and_bring_it_back() {
    let check = "health_check = { interval = \"1s\", timeout = \"500ms\", rise = 2, fall = 2 }";
    let mut world = World::new(&format!("{TWO}\n{check}"));
    let listener = world.listen(8001);
    world.listen(8002);
    world.run_ms(1500);
    world.peer.calls(world.now).stop_listening(listener);
    world.run_ms(2500);
    let health = |world: &World| -> Vec<(u16, bool)> {
        let changes = world.notes.take();
        changes
            .filter_map(|note| if let Note::Health { backend, up, .. } = note { Some((backend, up)) } else { None })
            .collect()
    };
    assert_eq!(health(&world), [(0, false)]);
    for _ in 0..4 {
        let client = world.connect();
        world.run_ms(5);
        world.peer.calls(world.now).abort(client).unwrap();
    }
    world.run_ms(5);
    assert_eq!(world.ended(), vec![letters("CD", Some(1), 0, 0); 4]);
    world.listen(8001);
    world.run_ms(2500);
    assert_eq!(health(&world), [(0, true)]);
}

#[test]
fn clients_beyond_the_limit_wait_until_one_has_gone() {
    let mut world = World::with("connections_max = 2", ONE);
    world.listen(8001);
    let clients = [world.connect(), world.connect(), world.connect()];
    world.run_ms(20);
    assert_eq!(world.peer.application().accepted.len(), 2);
    world.peer.calls(world.now).abort(clients[0]).unwrap();
    world.run_ms(20);
    assert_eq!(world.peer.application().accepted.len(), 3);
}

#[test]
fn client_that_waited_for_its_turn_when_the_drain_began_goes_to_its_own_backend() {
    let second =
        "[[listeners]]\nname = \"two\"\naddress = \"10.0.0.1:81\"\nbackends = [{ address = \"10.0.0.2:8002\" }]";
    let mut world = World::with("connections_max = 1", &format!("{ONE}\n{second}"));
    world.listen(8001);
    world.listen(8002);
    world.connect();
    world.run_ms(5);
    let waits = world.peer.calls(world.now).connect(SocketAddr::new(PROXY, 81), &ConnectOptions::default()).unwrap();
    world.run_ms(5);
    assert_eq!(world.peer.application().accepted.len(), 1);
    world.proxy.with_calls(world.now, |proxy, calls| proxy.drain(calls));
    world.run_ms(5);
    let [_, backend] = world.peer.application().accepted[..] else { panic!("both are through") };
    assert_eq!(world.peer.calls(world.now).four_tuple(backend).unwrap().local_port, 8002);
    world.peer.calls(world.now).abort(waits).unwrap();
    world.run_ms(5);
    assert_eq!(world.ended(), [letters("CD", Some(0), 0, 0)]);
}

#[test]
fn what_is_left_at_the_end_of_a_drain_is_killed() {
    let mut world = World::new(ONE);
    world.listen(8001);
    let client = world.connect();
    world.run_ms(5);
    world.proxy.with_calls(world.now, |proxy, calls| proxy.drain(calls));
    let refused = world.connect();
    world.run_ms(50);
    assert_eq!((world.seen_end(client), world.seen_end(refused)), (None, Some(CloseReason::Refused)));
    world.proxy.abort_all(world.now);
    world.run_ms(5);
    assert_eq!(world.seen_end(client), Some(CloseReason::Reset));
    assert_eq!(world.ended(), [letters("KD", Some(0), 0, 0)]);
}

#[test]
fn thousands_that_are_left_at_the_end_of_a_drain_are_each_reset_and_logged() {
    const PAIRS: usize = 5000;
    let text = format!(
        "access_log = \"-\"\n[stack]\ninterface = \"any\"\naddress = \"10.0.0.1/24\"\n\
         [[listeners]]\nname = \"web\"\naddress = \"10.0.0.1:80\"\n{ONE}\n"
    );
    let config = Config::parse(&text).unwrap();
    let limits = Limits { tcbs_max: 16 * 1024, time_wait_max: 16 * 1024, chunks_max: 64, ..Limits::default() };
    let of = |address| {
        let addresses = vec![LocalAddress { address, prefix_len: 24 }];
        ShardConfig { limits, addresses, ..ShardConfig::seeded(0) }
    };
    // The RSTs of all are more than a turn can send.
    let memory = MemoryConfig { queue_frames: 12 * 1024, ..MemoryConfig::default() };
    let (a, b) = pair(memory, MACS);
    let (notes, shared) = (Notes::new(64), Arc::new(Shared::new(&config)));
    let shards_notes = notes.clone();
    let make = move |shard| Proxy::new(&config, &shared, &shards_notes, shard, 1);
    let seats = vec![Seat { link: a, core: None }];
    let stack = stack::run(seats, &Spread::Symmetric, &of(PROXY), Idle::Sleep, make).unwrap();
    let mut peer = Shard::new(b, Peer::default(), of(PEER), stack.now()).unwrap();
    peer.calls(stack.now()).listen(PEER, 8001).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut opened = 0;
    while peer.application().accepted.len() < PAIRS {
        assert!(Instant::now() < deadline, "{} pairs", peer.application().accepted.len());
        // A few hundred at a time, so that no queue overflows.
        while opened < PAIRS && opened < peer.application().accepted.len() + 300 {
            peer.calls(stack.now()).connect(SocketAddr::new(PROXY, 80), &ConnectOptions::default()).unwrap();
            opened += 1;
        }
        peer.turn(stack.now());
    }
    (0..100).for_each(|_| _ = peer.turn(stack.now()));
    stack.drain(Duration::ZERO);
    let (_, last) = stack.join().unwrap();
    assert_eq!((last[0].connections_live, last[0].counters.rst_sent), (0, 2 * PAIRS as u64));
    let ended = ended(&notes);
    assert!(ended.iter().all(|(how, ..)| how.starts_with('K')), "{:?}", ended.iter().find(|(how, ..)| how != "KD"));
    assert_eq!(ended.len(), PAIRS);
}
