//! The accept queue: its limit, pausing, deferring (B10).

use super::options::Bench;
use super::*;
use crate::api::{CallError, ConnectionOptions, Keepalive, ListenOptions};
use crate::ids::ListenerId;
use crate::tcp::cookie::SynCookies;
use core::time::Duration;

/// Logs what it is told, takes all bytes, and closes when the peer has.
#[derive(Default)]
struct Log {
    accepted: Vec<Handle>,
    bytes: Vec<(Handle, usize)>,
    closed: Vec<(Handle, CloseReason)>,
    leaves_bytes: bool,
}

impl Application for Log {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Accepted { handle, .. } => self.accepted.push(handle),
            Event::Connected { .. } | Event::Writable { .. } => {}
            Event::Readable { handle, bytes } => {
                assert!(self.accepted.contains(&handle), "Accepted comes first");
                if self.leaves_bytes {
                    return;
                }
                calls.consume(handle, bytes.len()).expect("lent");
                self.bytes.push((handle, bytes.len()));
            }
            // The client has closed already.
            Event::PeerClosed { handle } => drop(calls.close(handle)),
            Event::Closed { handle, reason } => self.closed.push((handle, reason)),
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } | Event::Timer { .. } => {}
        }
    }
}

/// A server that logs, and the client end of [`World`], driven by calls.
struct Pair {
    client: Shard<MemoryLink, Log>,
    server: Shard<MemoryLink, Log>,
    listener: ListenerId,
    now: Now,
}

impl Pair {
    fn new(accept_max: u32, syn_cookies: SynCookies, defer_ms: u64) -> Pair {
        let (a, b) = pair(MemoryConfig::default(), MACS);
        let now = Now::from_ms(5_000);
        let end = |link, text: &str, seed| {
            let config = ShardConfig {
                limits: Limits { accept_max, ..Setup::default().limits },
                addresses: vec![LocalAddress { address: text.parse().expect("an address"), prefix_len: 24 }],
                settings: Settings { syn_cookies, ..Settings::default() },
                ..ShardConfig::seeded(seed)
            };
            Shard::new(link, Log::default(), config, now).expect("a shard")
        };
        let (client, mut server) = (end(a, "10.0.0.1", 1), end(b, "10.0.0.2", 2));
        let defer_accept = (defer_ms > 0).then(|| Duration::from_millis(defer_ms));
        let options = ListenOptions { defer_accept, ..ListenOptions::default() };
        let own = "10.0.0.2".parse().expect("an address");
        let listener = server.calls(now).listen_with(own, 80, &options).expect("a listener");
        Pair { client, server, listener, now }
    }

    fn connect(&mut self, count: usize) -> Vec<Handle> {
        let remote = "10.0.0.2:80".parse().expect("an end");
        let mut connect = || self.client.calls(self.now).connect(remote, &ConnectOptions::default()).expect("room");
        (0..count).map(|_| connect()).collect()
    }

    fn send(&mut self, handle: Handle, octets: usize) {
        assert_eq!(self.client.calls(self.now).send(handle, &vec![7; octets]), Ok(octets));
    }

    /// Both ends turn for so long, ms.
    fn turns(&mut self, ms: u64) {
        for _ in 0..ms {
            self.client.turn(self.now);
            self.server.turn(self.now);
            self.now = self.now.plus_ms(1);
        }
    }

    /// Everything is closed by the client, and nothing is left.
    fn finish(&mut self, handles: &[Handle]) {
        for handle in handles {
            self.client.calls(self.now).close(*handle).expect("open");
        }
        self.turns(200);
        assert_shard_clean(&self.client);
        assert_shard_clean(&self.server);
    }
}

#[test]
fn b10_paused_listener_tells_nothing_and_after_that_everything_in_order() {
    for syn_cookies in [SynCookies::Auto, SynCookies::Always] {
        let mut pair = Pair::new(100, syn_cookies, 0);
        assert!(pair.server.calls(pair.now).pause_accepting(pair.listener));
        let handles = pair.connect(5);
        pair.turns(50);
        pair.send(handles[1], 3000);
        pair.turns(50);
        let before = pair.server.counters().turns_idle;
        pair.turns(50);
        assert_eq!(pair.server.counters().turns_idle - before, 50, "who waits costs no turns");
        assert_eq!(pair.server.application().accepted, []);
        assert_eq!((pair.server.calls(pair.now).accepts_waiting(), pair.server.counters().established), (5, 5));
        assert!(pair.server.calls(pair.now).resume_accepting(pair.listener));
        pair.turns(2);
        let log = pair.server.application();
        assert_eq!((log.accepted.len(), pair.server.core.accept.len()), (5, 0));
        let octets: usize = log.bytes.iter().map(|(_, octets)| octets).sum();
        assert!(octets == 3000 && log.bytes.iter().all(|(handle, _)| *handle == log.accepted[1]), "{:?}", log.bytes);
        pair.finish(&handles);
    }
}

#[test]
fn b10_full_accept_queue_ignores_the_ack_and_the_peer_gets_in_when_there_is_room() {
    for syn_cookies in [SynCookies::Off, SynCookies::Always] {
        // One that is paused has half of the queue.
        let mut pair = Pair::new(6, syn_cookies, 0);
        pair.server.calls(pair.now).pause_accepting(pair.listener);
        let handles = pair.connect(8);
        pair.turns(500);
        assert_eq!((pair.server.counters().established, pair.server.core.accept.len()), (3, 3));
        assert!(pair.server.counters().accept_queue_full >= 5);
        assert_eq!(pair.server.counters().rst_sent, 0, "ignored, not refused");
        for handle in &handles {
            // Some of the peers believe that they are open; what they send is answered in the end.
            let _ = pair.client.calls(pair.now).send(*handle, b"hello");
        }
        pair.turns(500);
        assert_eq!(pair.server.counters().established, 3);
        pair.server.calls(pair.now).resume_accepting(pair.listener);
        pair.turns(8_000);
        let log = pair.server.application();
        assert_eq!((log.accepted.len(), pair.server.counters().established), (8, 8));
        pair.finish(&handles);
    }
}

#[test]
fn b10_one_paused_listener_does_not_hold_up_another() {
    let mut pair = Pair::new(4, SynCookies::Auto, 0);
    let own = "10.0.0.2".parse().expect("an address");
    pair.server.calls(pair.now).listen(own, 81).expect("a listener");
    pair.server.calls(pair.now).pause_accepting(pair.listener);
    let mut handles = pair.connect(2);
    let remote = SocketAddr::new(own, 81);
    handles.push(pair.client.calls(pair.now).connect(remote, &ConnectOptions::default()).expect("room"));
    // More wait for the paused one than it may have.
    handles.extend(pair.connect(3));
    pair.turns(50);
    assert_eq!(pair.server.application().accepted.len(), 1);
    assert_eq!(pair.server.calls(pair.now).accepts_waiting(), 2);
    assert!(!pair.server.calls(pair.now).pause_accepting(ListenerId(77)));
    // A listener that stops has told of everything that was established.
    assert!(pair.server.calls(pair.now).stop_listening(pair.listener));
    pair.turns(2);
    assert_eq!(pair.server.application().accepted.len(), 3);
    pair.finish(&handles);
}

#[test]
fn b10_who_is_reset_while_it_waits_is_told_and_closed_later() {
    let mut pair = Pair::new(100, SynCookies::Auto, 0);
    pair.server.calls(pair.now).pause_accepting(pair.listener);
    let handles = pair.connect(2);
    pair.turns(50);
    pair.client.calls(pair.now).abort(handles[0]).expect("open");
    pair.turns(50);
    assert_eq!(pair.server.core.accept.len(), 2, "both still count");
    pair.server.calls(pair.now).resume_accepting(pair.listener);
    pair.turns(2);
    let log = pair.server.application();
    assert_eq!((log.accepted.len(), &log.closed[..]), (2, &[(log.accepted[0], CloseReason::Reset)][..]));
    pair.finish(&handles[1..]);
}

/// Its end waits behind bytes that nobody reads; who gives the connection up hears of the end all the same.
#[test]
fn b10_who_is_reset_with_unread_bytes_is_closed_when_the_application_gives_it_up() {
    type GiveUp = fn(&mut Calls<'_>, Handle) -> Result<(), CallError>;
    let give_up: [GiveUp; 2] = [|calls, handle| calls.close(handle), |calls, handle| calls.abort(handle)];
    for (give_up, paused, one_burst) in
        give_up.into_iter().flat_map(|call| [(call, true, true), (call, false, true), (call, false, false)])
    {
        let mut pair = Pair::new(100, SynCookies::Auto, 0);
        pair.server.application_mut().leaves_bytes = true;
        if paused {
            assert!(pair.server.calls(pair.now).pause_accepting(pair.listener));
        }
        let handles = pair.connect(1);
        pair.turns(20);
        pair.send(handles[0], 3000);
        if one_burst {
            // The server finds text and RST together.
            pair.client.turn(pair.now);
        } else {
            pair.turns(20);
        }
        pair.client.calls(pair.now).abort(handles[0]).expect("open");
        pair.turns(20);
        pair.server.calls(pair.now).resume_accepting(pair.listener);
        pair.turns(20);
        let handle = pair.server.application().accepted[0];
        assert_eq!(pair.server.application().closed, [], "bytes come before the end");
        assert_eq!(give_up(&mut pair.server.calls(pair.now), handle), Err(CallError::Ended));
        pair.turns(2);
        assert_eq!(pair.server.application().closed, [(handle, CloseReason::Reset)]);
        assert_eq!(give_up(&mut pair.server.calls(pair.now), handle), Err(CallError::Stale));
        assert_shard_clean(&pair.server);
    }
}

#[test]
fn b10_deferred_connection_is_told_with_its_first_text_or_fin_and_not_before() {
    for syn_cookies in [SynCookies::Auto, SynCookies::Always] {
        let mut pair = Pair::new(100, syn_cookies, 3000);
        let handles = pair.connect(3);
        pair.turns(1000);
        assert_eq!((pair.server.application().accepted.len(), pair.server.core.accept.len()), (0, 3));
        pair.send(handles[2], 10);
        pair.turns(50);
        let log = pair.server.application();
        assert_eq!(log.bytes, [(log.accepted[0], 10)]);
        pair.client.calls(pair.now).close(handles[0]).expect("open");
        pair.turns(50);
        assert_eq!(pair.server.application().accepted.len(), 2, "a FIN is an end that the application should hear of");
        assert_eq!(pair.server.counters().accept_defer_expired, 0);
        pair.turns(10_000);
        // The third had its deadline; the first's has no effect on a connection that was told.
        let log = pair.server.application();
        assert_eq!((log.accepted.len(), log.closed.len()), (3, 1), "{:?}", log.closed);
        assert_eq!(pair.server.counters().accept_defer_expired, 1);
        pair.finish(&handles[1..]);
    }
}

#[test]
fn b10_deferred_connection_that_is_reset_is_never_told() {
    let mut pair = Pair::new(100, SynCookies::Auto, 3000);
    let handles = pair.connect(2);
    pair.turns(50);
    for handle in handles {
        pair.client.calls(pair.now).abort(handle).expect("open");
    }
    pair.turns(50);
    let log = pair.server.application();
    assert!(log.accepted.is_empty() && log.closed.is_empty());
    assert_eq!(pair.server.counters().closed_reset, 2);
    pair.finish(&[]);
}

#[test]
fn b10_deferred_connection_whose_text_and_rst_come_in_one_burst_is_told_of_both() {
    let mut pair = Pair::new(100, SynCookies::Auto, 3000);
    let handles = pair.connect(1);
    pair.turns(50);
    pair.send(handles[0], 10);
    pair.client.turn(pair.now);
    pair.client.calls(pair.now).abort(handles[0]).expect("open");
    pair.client.turn(pair.now);
    pair.turns(50);
    let log = pair.server.application();
    assert_eq!((log.accepted.len(), log.bytes.len(), log.closed.len()), (1, 1, 1));
    pair.finish(&[]);
}

#[test]
fn b10_deferred_connection_of_a_paused_listener_waits_for_both() {
    let mut pair = Pair::new(100, SynCookies::Auto, 500);
    pair.server.calls(pair.now).pause_accepting(pair.listener);
    let handles = pair.connect(2);
    pair.turns(50);
    pair.send(handles[0], 10);
    pair.turns(1000);
    assert_eq!((pair.server.application().accepted.len(), pair.server.core.accept.len()), (0, 2));
    pair.server.calls(pair.now).resume_accepting(pair.listener);
    pair.turns(2);
    let log = pair.server.application();
    assert_eq!((log.accepted.len(), log.bytes.len(), log.closed.len()), (2, 1, 0));
    pair.finish(&handles);
}

#[test]
fn b24_keepalive_begins_when_a_deferral_ends_without_text() {
    let keepalive = Keepalive { idle: Duration::from_secs(10), interval: Duration::from_secs(5), count: 2 };
    let connection = ConnectionOptions { keepalive: Some(keepalive), ..ConnectionOptions::default() };
    let mut bench = Bench::new(Settings::default(), false);
    let options = ListenOptions { connection, defer_accept: Some(Duration::from_secs(1)) };
    let own = "10.0.0.2".parse().expect("an address");
    bench.shard.calls(bench.now).listen_with(own, 80, &options).expect("a listener");
    bench.open();
    for _ in 0..30 {
        bench.turn(1000);
    }
    let counters = bench.shard.counters();
    assert_eq!((counters.accept_defer_expired, counters.keepalive_timeouts), (1, 1));
    assert_eq!(bench.shard.application().events, ["accepted", "closed"]);
}

#[test]
fn number_of_a_listener_is_not_given_again_while_a_connection_waits_for_it() {
    let mut world = World::new(&Setup { connections: 1, ..Setup::default() });
    let listener = ListenerId(0);
    assert!(world.server.calls(world.now).pause_accepting(listener));
    (0..20).for_each(|_| world.turn(50));
    assert_eq!(world.server.calls(world.now).accepts_waiting(), 1);
    let (address, port) = world.server.core.listeners.end(0).expect("it listens");
    let mut calls = world.server.calls(world.now);
    assert!(calls.stop_listening(listener));
    let second = calls.listen(address, port).expect("the end is free");
    assert_ne!(second, listener);
    assert!(calls.pause_accepting(second) && !calls.pause_accepting(listener));
    world.run(2_000);
    assert_eq!(world.server.application().accepted, 1, "told although the second is paused");
    let mut calls = world.server.calls(world.now);
    assert_eq!(calls.listen(address, port + 1), Ok(listener), "nobody waits any more");
}
