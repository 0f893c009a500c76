//! ICMP errors and path MTU over the whole turn: a way that is narrower than both links (SHLD-6, T27, MUST-54).

use super::*;
use crate::api::ConnectOptions;
use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder};

/// A way that drops what is larger than its MTU and says so, as a router does.
struct Narrow {
    ends: [MemoryLink; 2],
    mtu: u16,
    /// What the errors name; 0 for the honest one's.
    claims: u16,
    dropped: usize,
    /// TCP frames that passed, and the largest packet among them, bytes.
    passed: usize,
    largest: usize,
}

impl Narrow {
    /// Carries everything that is under way, in both directions.
    fn pass(&mut self) {
        for from in 0..2 {
            let mut frames = Vec::with_capacity(256);
            self.ends[from].receive(&mut frames, 256);
            for frame in frames {
                let bytes = self.ends[from].bytes(&frame).to_vec();
                self.ends[from].give_back(frame);
                let packet_bytes = bytes.len() - 14;
                let fits = packet_bytes <= usize::from(self.mtu);
                let (to, bytes) = if fits { (1 - from, bytes) } else { (from, self.too_big(&bytes)) };
                if fits {
                    self.passed += 1;
                    self.largest = self.largest.max(packet_bytes);
                } else {
                    self.dropped += 1;
                }
                let mut frame = self.ends[to].take().expect("a free frame");
                self.ends[to].bytes_mut(&mut frame)[..bytes.len()].copy_from_slice(&bytes);
                self.ends[to].send(frame, bytes.len()).expect("room to send");
            }
        }
        for end in &mut self.ends {
            end.flush();
        }
    }

    /// The error about a frame, back to its sender.
    fn too_big(&self, frame: &[u8]) -> Vec<u8> {
        let mac = |at: usize| frame[at..at + 6].try_into().expect("six bytes");
        let ethernet = PacketBuilder::ethernet2(mac(0), mac(6));
        let mtu = if self.claims == 0 { self.mtu } else { self.claims };
        let mut error = Vec::new();
        if frame[12..14] == [0x08, 0x00] {
            assert!(frame[20] & 0x40 != 0, "DF is set: otherwise the router would have cut the packet");
            let needed = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
            let sender = frame[26..30].try_into().expect("four bytes");
            let builder = ethernet.ipv4([10, 0, 0, 254], sender, 64);
            let builder = builder.icmpv4(Icmpv4Type::DestinationUnreachable(needed));
            builder.write(&mut error, &frame[14..42]).expect("a packet");
        } else {
            let mut router = [0; 16];
            (router[0], router[15]) = (0xfd, 0xfe);
            let sender = frame[22..38].try_into().expect("sixteen bytes");
            let builder = ethernet.ipv6(router, sender, 64);
            let builder = builder.icmpv6(Icmpv6Type::PacketTooBig { mtu: mtu.into() });
            builder.write(&mut error, &frame[14..14 + 1232]).expect("a packet");
        }
        error
    }
}

/// Both ends, and the narrow way between them.
fn narrow(setup: &Setup, mtu: u16, claims: u16) -> (World, Narrow) {
    let (client, left) = pair(MemoryConfig::default(), MACS);
    let (right, server) = pair(MemoryConfig::default(), MACS);
    let world = World::over(setup, Settings::default(), (client, server));
    (world, Narrow { ends: [left, right], mtu, claims, dropped: 0, passed: 0, largest: 0 })
}

impl World {
    /// Turns until `to_close` connections of the client have ended; returns how long that took, ms.
    #[track_caller]
    fn run_over(&mut self, way: &mut Narrow, to_close: usize) -> u64 {
        let began = self.now;
        for _ in 0..400_000 {
            self.client.turn(self.now);
            way.pass();
            self.server.turn(self.now);
            way.pass();
            self.now = Now::from_us(self.now.us() + 50);
            let live = self.client.connections_live() + self.server.connections_live();
            if self.client.application().closed.len() == to_close && live == 0 {
                return (self.now.us() - began.us()) / 1000;
            }
        }
        panic!("not done: client {:?}, server {:?}", self.client.counters(), self.server.counters());
    }
}

fn bulk(v6: bool) -> Setup {
    Setup { request_bytes: 100_000, v6, ..Setup::default() }
}

#[test]
fn shld_6_both_directions_find_a_narrow_path_without_waiting_and_remember_it() {
    for (v6, mtu) in [(false, 1000), (true, 1300)] {
        let (mut world, mut way) = narrow(&bulk(v6), mtu, 0);
        let took_ms = world.run_over(&mut way, 1);
        assert_eq!(world.client.application().closed, [CloseReason::Graceful], "every byte came back");
        assert!(took_ms < 900, "no retransmission time-out was waited for: {took_ms} ms");
        assert!(way.dropped > 0 && way.largest == usize::from(mtu), "{} {}", way.dropped, way.largest);
        for counters in [world.client.counters(), world.server.counters()] {
            assert_eq!((counters.path_mtu_lowered, counters.path_mtu_known), (1, 0), "{counters:?}");
        }
        // The next connection begins with what is known, at both ends.
        let dropped = way.dropped;
        world.client.application_mut().to_open = 1;
        world.client.application_mut().request[3] += 1;
        world.run_over(&mut way, 2);
        assert_eq!(way.dropped, dropped, "nothing is too big any more");
        for counters in [world.client.counters(), world.server.counters()] {
            assert_eq!((counters.path_mtu_lowered, counters.path_mtu_known), (1, 1), "{counters:?}");
        }
        world.assert_clean();
    }
}

/// Shows RFC 1191.
#[test]
fn shld_6_after_ten_minutes_the_path_is_tried_at_full_size_again() {
    let (mut world, mut way) = narrow(&bulk(false), 1000, 0);
    world.run_over(&mut way, 1);
    way.mtu = 1500;
    world.now = world.now.plus_ms(601_000);
    world.client.application_mut().to_open = 1;
    world.client.application_mut().request[3] += 1;
    world.run_over(&mut way, 2);
    assert_eq!((way.largest, world.client.counters().path_mtu_known), (1500, 0));
}

#[test]
fn t27_a_router_that_names_68_bytes_gets_packets_of_552() {
    let (mut world, mut way) = narrow(&bulk(false), 600, 68);
    world.run_over(&mut way, 1);
    assert_eq!((way.largest, world.client.application().closed[0]), (552, CloseReason::Graceful));
}

#[test]
fn must_54_errors_reach_the_connection_that_they_quote_and_no_other() {
    let mut world = World::new(&Setup { connections: 0, ..Setup::default() });
    let remote = "10.0.0.9:80".parse().expect("an end");
    let fixed = |port| ConnectOptions { local_port: Some(port), ..ConnectOptions::default() };
    for port in [1001, 1002] {
        world.client.calls(world.now).connect(remote, &fixed(port)).expect("room");
    }
    // Who answers for the neighbour is the server's end of the wire; it reads the SYNs and answers as the far host would.
    let own = "10.0.0.9".parse().expect("an address");
    world.client.core.learn(0, own, MACS[1], crate::neighbor::Heard::Answer, world.now);
    world.client.turn(world.now);
    let link = world.server.link_mut();
    let mut frames = Vec::with_capacity(64);
    link.receive(&mut frames, 64);
    for frame in frames {
        let quote = link.bytes(&frame)[14..].to_vec();
        link.give_back(frame);
        let port = u16::from_be_bytes([quote[20], quote[21]]);
        let unreachable = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port);
        let mut quote = quote[..28].to_vec();
        if port == 1002 {
            // A sequence number that is not in flight.
            quote[27] ^= 1;
        }
        let mut error = Vec::new();
        let builder = PacketBuilder::ethernet2(MACS[1].0, MACS[0].0).ipv4([10, 0, 0, 9], [10, 0, 0, 1], 64);
        builder.icmpv4(unreachable).write(&mut error, &quote).expect("a packet");
        let mut frame = link.take().expect("a free frame");
        link.bytes_mut(&mut frame)[..error.len()].copy_from_slice(&error);
        link.send(frame, error.len()).expect("room to send");
    }
    link.flush();
    world.client.turn(world.now);
    assert_eq!(world.client.application().closed, [CloseReason::Unreachable]);
    assert_eq!(world.client.connections_live(), 1);
    let counters = world.client.counters();
    assert_eq!((counters.icmp_hard, counters.icmp_unmatched, counters.closed_unreachable), (1, 1, 1));
}
