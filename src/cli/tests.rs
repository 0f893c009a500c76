//! The services over a memory link, with virtual time, against an application that plays the peer.

use super::arguments::{ServiceAt, ServiceKind};
use super::services::Services;
use super::{Exit, Failure};
use crate::api::{Application, CloseReason, ConnectError, ConnectOptions, ConnectionOptions, Event};
use crate::ids::Handle;
use crate::limits::Limits;
use crate::link::Link;
use crate::link::memory::{MemoryConfig, MemoryLink, pair};
use crate::shard::{Calls, ConfigError, LocalAddress, Shard, ShardConfig};
use crate::stack::{Service, StackError};
use crate::tick::Now;
use crate::wire::ethernet::MacAddress;
use crate::wire::tcp::Flags;
use crate::wire::{self, Expect, Parsed};
use std::net::IpAddr;

const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

const MACS: [MacAddress; 2] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];

/// Sends `text`, then closes its direction if told to; reads at most `appetite` bytes per turn.
struct Peer {
    text: Vec<u8>,
    sent: usize,
    closes: bool,
    /// Never closes, whatever the server does.
    keeps_open: bool,
    appetite: usize,
    handle: Option<Handle>,
    received: Vec<u8>,
    peer_closed: bool,
    ended: Option<CloseReason>,
}

impl Peer {
    fn push(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        self.sent += calls.send(handle, &self.text[self.sent..]).unwrap_or(0);
        if self.sent == self.text.len() && self.closes {
            self.closes = false;
            calls.shutdown_write(handle).unwrap();
        }
    }
}

impl Application for Peer {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { handle } => {
                self.handle = Some(handle);
                self.push(calls, handle);
            }
            Event::Writable { handle } => self.push(calls, handle),
            Event::PeerClosed { handle } => {
                self.peer_closed = true;
                if !self.keeps_open {
                    // Refused when this side has closed already.
                    let _ = calls.shutdown_write(handle);
                }
            }
            Event::Closed { reason, .. } => {
                self.handle = None;
                self.ended = Some(reason);
            }
            // A peer of any appetite reads at once, others in their own turn.
            Event::Readable { handle, bytes } if self.appetite == usize::MAX => {
                self.received.extend_from_slice(bytes);
                calls.consume(handle, bytes.len()).unwrap();
            }
            Event::Readable { .. } | Event::Accepted { .. } => {}
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } | Event::Timer { .. } => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        let Some(handle) = self.handle else { return };
        let bytes = calls.received(handle).unwrap_or_default();
        let bytes = bytes[..bytes.len().min(self.appetite)].to_vec();
        calls.consume(handle, bytes.len()).unwrap();
        self.received.extend(bytes);
    }
}

/// The peer, about to connect, and the service on port 80.
fn ends(
    kind: ServiceKind,
    text: &[u8],
    closes: bool,
    appetite: usize,
) -> (Shard<MemoryLink, Peer>, Shard<MemoryLink, Services>) {
    let (a, b) = pair(MemoryConfig::default(), MACS);
    ends_on(a, b, kind, text, closes, appetite)
}

/// The same with the service on `a`, and the peer on `b`.
fn ends_on(
    a: MemoryLink,
    b: MemoryLink,
    kind: ServiceKind,
    text: &[u8],
    closes: bool,
    appetite: usize,
) -> (Shard<MemoryLink, Peer>, Shard<MemoryLink, Services>) {
    let config = |address| ShardConfig {
        limits: Limits { tcbs_max: 16, time_wait_max: 64, half_open_max: 8, chunks_max: 64, ..Limits::default() },
        addresses: vec![LocalAddress { address, prefix_len: 24 }],
        ..ShardConfig::seeded(0)
    };
    let services = Services::new(&[ServiceAt { kind, port: 80 }], &[SERVER], ConnectionOptions::default());
    let peer = Peer {
        text: text.to_vec(),
        sent: 0,
        closes,
        keeps_open: false,
        appetite,
        handle: None,
        received: Vec::new(),
        peer_closed: false,
        ended: None,
    };
    let mut server: Shard<MemoryLink, Services> = Shard::new(a, services, config(SERVER), Now::default()).unwrap();
    server.with_calls(Now::default(), |services, calls| services.start(calls)).unwrap();
    let mut client = Shard::new(b, peer, config(CLIENT), Now::default()).unwrap();
    client.calls(Now::default()).connect((SERVER, 80).into(), &ConnectOptions::default()).unwrap();
    (client, server)
}

/// One exchange with the service; the peer as it was at the end.
fn exchange(kind: ServiceKind, text: &[u8], closes: bool, appetite: usize) -> Peer {
    let (mut client, mut server) = ends(kind, text, closes, appetite);
    for turn in 1..200_000 {
        let now = Now::from_us(turn * 100);
        client.turn(now);
        server.turn(now);
        if client.application().ended.is_some() && server.connections_live() == 0 {
            break;
        }
    }
    client.into_application()
}

#[test]
fn echo_returns_every_byte_and_closes_after_the_peer() {
    let text: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let peer = exchange(ServiceKind::Echo, &text, true, usize::MAX);
    assert!(peer.received == text, "{} bytes came back", peer.received.len());
    assert_eq!(peer.ended, Some(CloseReason::Graceful));
}

/// Every segment of the server's is looked at on its way.
#[test]
fn shld_13_shld_23_echo_sends_no_urgent_text_and_one_code_point() {
    let (a, mut near_server) = pair(MemoryConfig::default(), MACS);
    let (mut near_client, b) = pair(MemoryConfig::default(), MACS);
    let (mut client, mut server) = ends_on(a, b, ServiceKind::Echo, &[7; 100_000], true, usize::MAX);
    let (mut segments, mut code_points) = (0, Vec::new());
    for turn in 1..200_000 {
        let now = Now::from_us(turn * 100);
        client.turn(now);
        carry(&mut near_client, &mut near_server, |_| {});
        server.turn(now);
        carry(&mut near_server, &mut near_client, |bytes| {
            let expect = Expect { mac: MACS[1], mtu: 1500, vlan: None, verify_checksums: true };
            if let Ok(Parsed::Tcp(packet)) = wire::parse(bytes, &expect) {
                assert!(!packet.segment.flags.has(Flags::URG), "{:?}", packet.segment);
                code_points.push(packet.dscp_ecn);
                segments += 1;
            }
        });
        if client.application().ended.is_some() && server.connections_live() == 0 {
            break;
        }
    }
    assert_eq!(
        (client.application().received.len(), client.application().ended),
        (100_000, Some(CloseReason::Graceful))
    );
    assert!(segments > 60 && code_points.iter().all(|code_point| *code_point == 0), "{segments}: {code_points:?}");
}

/// Whatever waits at one link goes to the other, seen on its way.
fn carry(from: &mut MemoryLink, to: &mut MemoryLink, mut see: impl FnMut(&[u8])) {
    let mut frames = Vec::with_capacity(256);
    from.receive(&mut frames, 256);
    for frame in frames {
        let mut copy = to.take().expect("a free frame");
        let bytes = from.bytes(&frame);
        see(bytes);
        to.bytes_mut(&mut copy)[..bytes.len()].copy_from_slice(bytes);
        to.send(copy, bytes.len()).expect("room to send");
        from.give_back(frame);
    }
    to.flush();
}

#[test]
fn echo_whose_last_bytes_and_fin_come_in_one_burst_ends_gracefully() {
    let peer = exchange(ServiceKind::Echo, b"hello", true, usize::MAX);
    assert_eq!((&peer.received[..], peer.ended), (&b"hello"[..], Some(CloseReason::Graceful)));
}

#[test]
fn echo_to_a_slow_reader_waits_and_loses_nothing() {
    let text: Vec<u8> = (0..200_000_u32).map(|number| (number % 241) as u8).collect();
    let peer = exchange(ServiceKind::Echo, &text, true, 100);
    assert!(peer.received == text, "{} bytes came back", peer.received.len());
    assert_eq!(peer.ended, Some(CloseReason::Graceful));
}

#[test]
fn discard_answers_nothing_and_closes_after_the_peer() {
    let peer = exchange(ServiceKind::Discard, &[1; 50_000], true, usize::MAX);
    assert_eq!((peer.received.len(), peer.ended), (0, Some(CloseReason::Graceful)));
}

#[test]
fn http_answers_after_the_empty_line_and_closes_first() {
    let peer = exchange(ServiceKind::Http, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", false, usize::MAX);
    let answer = String::from_utf8(peer.received).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello, world\n"), "{answer}");
    assert_eq!((peer.peer_closed, peer.ended), (true, Some(CloseReason::Graceful)));
}

#[test]
fn b37_http_client_that_never_closes_is_not_waited_for_for_ever() {
    let (mut client, mut server) = ends(ServiceKind::Http, b"GET / HTTP/1.1\r\n\r\n", false, usize::MAX);
    client.application_mut().keeps_open = true;
    let mut now = Now::default();
    for step_ms in [1, 1000] {
        for _ in 0..100 {
            now = now.plus_ms(step_ms);
            client.turn(now);
            server.turn(now);
        }
        let expected = if step_ms == 1 { (1, None) } else { (0, None) };
        assert_eq!((server.connections_live(), client.application().ended), expected, "after {now:?}");
    }
    assert!(client.application().received.ends_with(b"hello, world\n"));
}

#[test]
fn http_without_a_whole_request_closes_without_an_answer() {
    let peer = exchange(ServiceKind::Http, b"GET / HTTP/1.1\r\nHost:", true, usize::MAX);
    assert_eq!((peer.received.len(), peer.ended), (0, Some(CloseReason::Graceful)));
}

#[test]
fn refusals_that_name_a_limit_name_the_setting_of_their_front_end() {
    let limits = Limits { time_wait_max: 1 << 29, ..Limits::default() };
    let addresses = vec![LocalAddress { address: CLIENT, prefix_len: 24 }];
    let bill = Box::new(ShardConfig { limits, addresses, ..ShardConfig::seeded(0) }.bill());
    let no_memory = || StackError::Config(ConfigError::NoMemory { bill: bill.clone(), available_bytes: Some(1) });
    let full = || Failure::new(Exit::Failed, ConnectError::TimeWaitFull(262_144));
    for failure in [full(), Failure::from(no_memory())] {
        let failure = failure.naming(&super::OPTIONS);
        let says = "(limits.time_wait_max is --time-wait-max, divided among the shards)";
        assert!(failure.message.ends_with(says), "{failure}");
    }
    for failure in [full(), Failure::from(no_memory())] {
        let failure = super::proxy::in_words_of_the_file(failure);
        let says = "(limits.time_wait_max is stack.time_wait_max, divided among the shards)";
        assert!(failure.message.ends_with(says) && !failure.message.contains("--"), "{failure}");
    }
    let records = || Failure::new(Exit::Failed, ConnectError::TooManyConnections(1));
    let other = records().naming(&super::OPTIONS);
    assert!(!other.message.contains("time-wait"), "{other}");
    let other = super::proxy::in_words_of_the_file(records());
    assert!(
        other.message.contains("(limits.tcbs_max is the default or, if that is more, what connections_max needs"),
        "{other}"
    );
}

#[test]
fn refusals_of_a_stack_that_name_options_name_keys_in_a_proxy() {
    let never_idle = StackError::SharedCoreNeverIdle { idle: crate::stack::Idle::Spin };
    let failure = super::proxy::in_words_of_the_file(Failure::from(never_idle));
    assert!(failure.exit == Exit::Usage && failure.message.ends_with("or leave stack.share_cores out"), "{failure}");
    let words = "give --time-wait-full or --queues 2, `ss --xdp`, not --config my--idle.toml";
    let failure = super::proxy::in_words_of_the_file(Failure::new(Exit::Failed, words));
    assert_eq!(failure.message, "give stack.time_wait_full or stack.queues 2, `ss --xdp`, not --config my--idle.toml");
}
