//! A shard with a queue of each of two interfaces: clients on one wire, a server on the other.

use super::*;
use crate::api::ConnectError;
use crate::four_tuple::FourTuple;
use crate::link::several::Several;
use crate::neighbor::Heard;
use crate::owner::{Owners, Spread};
use crate::shard::{Attachment, ConfigError, Place};
use crate::wire::{self, Expect, Parsed, arp};
use alloc::sync::Arc;
use core::net::Ipv4Addr;
use etherparse::PacketBuilder;

/// Joins what it accepts to a connection of its own to the server.
struct Relay {
    onwards: SocketAddr,
    fronts: BTreeMap<Handle, Handle>,
    ended: usize,
}

impl Application for Relay {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Accepted { handle, .. } => {
                let back = calls.connect(self.onwards, &ConnectOptions::default()).expect("there is a way");
                self.fronts.insert(back, handle);
            }
            Event::Connected { handle } => {
                calls.splice(self.fronts[&handle], handle).expect("both are open and of this shard");
            }
            Event::SpliceEnded { .. } => self.ended += 1,
            _ => {}
        }
    }
}

/// A relay at 10.0.0.9 on the wire of the clients and at 10.1.0.9, VLAN 42, on that of the server.
struct Two {
    client: Shard<MemoryLink, Client>,
    server: Shard<MemoryLink, Server>,
    relay: Shard<Several<MemoryLink>, Relay>,
    now: Now,
}

fn mac(last: u8) -> MacAddress {
    MacAddress([2, 0, 0, 0, 0, last])
}

fn own(text: &str) -> LocalAddress {
    LocalAddress { address: text.parse().expect("an address"), prefix_len: 24 }
}

fn links() -> (Several<MemoryLink>, [MemoryLink; 2]) {
    let (near_client, client) = pair(MemoryConfig::default(), [mac(10), mac(1)]);
    let (near_server, server) = pair(MemoryConfig::default(), [mac(11), mac(2)]);
    (Several::new(vec![near_client, near_server]).expect("two links"), [client, server])
}

fn second() -> Attachment {
    Attachment { addresses: vec![own("10.1.0.9")], gateways: vec![own("10.1.0.2").address], vlan: Some(42) }
}

fn relay_over<L: Link>(link: L, beside: Vec<Attachment>) -> Result<Shard<L, Relay>, ConfigError> {
    let (_, (_, config)) = ends(&Setup::default(), Settings::default());
    let config = ShardConfig { addresses: vec![own("10.0.0.9")], gateways: Vec::new(), beside, ..config };
    let onwards = "10.1.0.2:80".parse().expect("an end");
    Shard::new(link, Relay { onwards, fronts: BTreeMap::new(), ended: 0 }, config, START)
}

impl Two {
    fn new(setup: &Setup) -> Two {
        let (several, [to_client, to_server]) = links();
        let ((mut client, client_config), (server, server_config)) = ends(setup, Settings::default());
        client.remote = "10.0.0.9:80".parse().expect("an end");
        let server_config =
            ShardConfig { addresses: vec![own("10.1.0.2")], vlan: Some(42), gateways: Vec::new(), ..server_config };
        let mut relay = relay_over(several, vec![second()]).expect("a relay");
        relay.calls(START).listen(Ipv4Addr::UNSPECIFIED.into(), 80).expect("a listener");
        let client = Shard::new(to_client, client, client_config, START).expect("a client");
        let mut server = Shard::new(to_server, server, server_config, START).expect("a server");
        server.calls(START).listen(Ipv4Addr::UNSPECIFIED.into(), 80).expect("a listener");
        Two { client, server, relay, now: START }
    }

    fn turn(&mut self) {
        self.client.turn(self.now);
        self.relay.turn(self.now);
        self.server.turn(self.now);
        self.now = Now::from_us(self.now.us() + 50);
    }
}

const START: Now = Now::from_ms(5_000);

#[test]
fn clients_of_one_interface_are_spliced_to_a_server_of_the_other() {
    for closer in [Closer::Client, Closer::Server] {
        let setup = Setup { closer, connections: 100, request_bytes: 5_000, ..Setup::default() };
        let mut two = Two::new(&setup);
        for _ in 0..20_000 {
            two.turn();
            let client = two.client.application();
            if client.to_open == 0 && two.client.connections_live() + two.relay.connections_live() == 0 {
                break;
            }
        }
        (0..10).for_each(|_| two.turn());
        assert_eq!(two.client.application().closed, [CloseReason::Graceful; 100]);
        assert_eq!((two.server.application().accepted, two.relay.application().ended), (100, 100));
        assert_shard_clean(&two.relay);
        assert_shard_clean(&two.server);
        assert_eq!(two.relay.drops().iter().map(|(_, count)| count).sum::<u64>(), 0);
    }
}

/// What the far end of a wire has received, VLAN tags or not.
fn received(peer: &mut MemoryLink, vlan: Option<u16>) -> Vec<Parsed> {
    let mut burst = Vec::with_capacity(64);
    peer.receive(&mut burst, 64);
    let expect = Expect { mac: peer.mac(), mtu: 1500, vlan, verify_checksums: true };
    let parsed = burst.iter().map(|frame| wire::parse(peer.bytes(frame), &expect).expect("a frame")).collect();
    burst.into_iter().for_each(|frame| peer.give_back(frame));
    peer.flush();
    parsed
}

#[test]
fn each_interface_announces_and_answers_for_its_own_addresses_alone() {
    let (several, [mut first_wire, mut second_wire]) = links();
    let mut relay = relay_over(several, vec![second()]).expect("a relay");
    relay.announce(START);
    relay.turn(START);
    let senders = |frames: Vec<Parsed>| -> Vec<_> {
        let sender = |parsed: &Parsed| match parsed {
            Parsed::Arp(packet) => (packet.sender_ip.octets(), packet.sender_mac),
            other => panic!("{other:?}"),
        };
        frames.iter().map(sender).collect()
    };
    assert_eq!(senders(received(&mut first_wire, None)), [([10, 0, 0, 9], mac(10))]);
    assert_eq!(senders(received(&mut second_wire, Some(42))), [([10, 1, 0, 9], mac(11))]);
    for (target, answers) in [([10, 0, 0, 9], 1), ([10, 1, 0, 9], 0)] {
        let mut frame = first_wire.take().expect("a frame");
        let (asker, target) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::from(target));
        let len = arp::emit_request(first_wire.bytes_mut(&mut frame), mac(1), None, asker, target);
        first_wire.send(frame, len).expect("room");
        first_wire.flush();
        relay.turn(START);
        assert_eq!(senders(received(&mut first_wire, None)).len(), answers, "{target}");
    }
}

#[test]
fn neighbour_is_learned_only_from_the_interface_that_it_is_on() {
    let (several, _wires) = links();
    let mut relay = relay_over(several, vec![second()]).expect("a relay");
    let server = IpAddr::from([10, 1, 0, 2]);
    relay.calls(START).connect("10.1.0.2:80".parse().expect("an end"), &ConnectOptions::default()).expect("a way");
    relay.turn(START);
    relay.core.learn(0, server, mac(66), Heard::Answer, START);
    assert_eq!(relay.core.neighbors.lookup(server), None);
    relay.core.learn(1, server, mac(2), Heard::Answer, START);
    assert_eq!(relay.core.neighbors.lookup(server), Some(mac(2)));
}

/// Nothing leaves on the second interface, as when its cable is out: the first goes on, and the shard does not spin.
#[test]
fn interface_without_tx_frames_keeps_no_other_waiting() {
    let mut two = Two::new(&Setup { connections: 0, ..Setup::default() });
    let held: Vec<_> = core::iter::from_fn(|| two.relay.link.take_on(1)).collect();
    for (interface, remote, peer) in [(1, "10.1.0.2:81", 2), (0, "10.0.0.1:81", 1)] {
        let remote: SocketAddr = remote.parse().expect("an end");
        two.relay.calls(START).connect(remote, &ConnectOptions::default()).expect("a way");
        two.relay.core.learn(interface, remote.ip(), mac(peer), Heard::Answer, START);
    }
    (0..10).for_each(|_| two.turn());
    assert_eq!(two.relay.counters().closed_refused, 1, "by the client; the server was not reached");
    let next = two.relay.next_deadline(two.now).expect("a SYN waits");
    assert_eq!(two.now.tick().until(next.tick()), 1);
    held.into_iter().for_each(|frame| two.relay.link.give_back(frame));
    (0..10).for_each(|_| two.turn());
    assert_eq!(two.relay.counters().closed_refused, 2);
    assert_shard_clean(&two.relay);
}

/// Frames of both interfaces wait for a shard that has no frame of the second: only those of that one are lost.
#[test]
fn handed_over_frames_wait_for_no_other_interface() {
    let ((_, config), _) = ends(&Setup::default(), Settings::default());
    let owners = Arc::new(Owners::new(&Spread::Symmetric, 2, config.ports));
    let second = Attachment { addresses: vec![own("10.1.0.9")], ..Attachment::default() };
    let config = ShardConfig { addresses: vec![own("10.0.0.9")], gateways: vec![], beside: vec![second], ..config };
    let shards = Place::all(&owners, &config.limits).into_iter().map(|place| {
        let (link, wires) = links();
        let relay = Relay { onwards: "10.1.0.2:80".parse().expect("an end"), fronts: BTreeMap::new(), ended: 0 };
        (Shard::new_among(link, relay, config.clone(), place, START).expect("a shard"), wires)
    });
    let mut shards: Vec<_> = shards.collect();
    let owner = &mut shards[1].0;
    let held: Vec<_> = core::iter::from_fn(|| owner.link.take_on(1)).collect();
    for interface in [1_u8, 0] {
        let (here, there) = ([10, interface, 0, 9], [10, interface, 0, 2]);
        let is_of_owner = |port: &u16| owners.owner(&FourTuple::new(here.into(), 80, there.into(), *port)) == 1;
        let port = (2000..).find(is_of_owner).expect("half of them are");
        let builder = PacketBuilder::ethernet2(mac(1).0, mac(10 + interface).0).ipv4(there, here, 64);
        let mut syn = Vec::new();
        builder.tcp(port, 80, 7, 1000).syn().write(&mut syn, &[]).expect("a packet");
        let (shard, wires) = &mut shards[0];
        let wire = &mut wires[usize::from(interface)];
        let mut frame = wire.take().expect("a frame");
        wire.copy_in(&mut frame, &syn);
        wire.send(frame, syn.len()).expect("room");
        wire.flush();
        shard.turn(START);
        assert_eq!(shard.counters().wrong_shard, 2 - u64::from(interface));
    }
    let (owner, wires_of_owner) = &mut shards[1];
    (0..3).for_each(|_| _ = owner.turn(START));
    assert_eq!((owner.counters().handover_received, owner.counters().handover_without_frame), (1, 1));
    assert_eq!(received(&mut wires_of_owner[0], None).len(), 1, "nobody listens: RST");
    held.into_iter().for_each(|frame| owner.link.give_back(frame));
    assert_shard_clean(owner);
}

/// As above for what is told of own addresses.
#[test]
fn announcements_wait_for_no_other_interface() {
    let (several, [_, mut second_wire]) = links();
    let mut relay = relay_over(several, vec![second()]).expect("a relay");
    let _held: Vec<_> = core::iter::from_fn(|| relay.link.take_on(0)).collect();
    relay.announce(START);
    relay.turn(START);
    assert_eq!(received(&mut second_wire, Some(42)).len(), 1);
}

#[test]
fn open_goes_by_its_own_network_else_by_the_interface_that_has_a_gateway() {
    let (several, _wires) = links();
    let mut relay = relay_over(several, vec![second()]).expect("a relay");
    let mut local = |remote: &str| {
        let handle = relay.calls(START).connect(remote.parse().expect("an end"), &ConnectOptions::default())?;
        Ok(relay.calls(START).four_tuple(handle).expect("live").local())
    };
    assert_eq!(local("10.0.0.1:80"), Ok(own("10.0.0.9").address));
    assert_eq!(local("10.1.0.77:80"), Ok(own("10.1.0.9").address));
    assert_eq!(local("192.0.2.1:80"), Ok(own("10.1.0.9").address), "only that interface has a gateway");
    let v6 = "2001:db8::1".parse().expect("an address");
    assert_eq!(local("[2001:db8::1]:80"), Err(ConnectError::NoRoute(v6)));
}

#[test]
fn smaller_mtu_of_one_interface_holds_for_all_and_each_follows_its_own_mac() {
    let (several, _wires) = links();
    let mut relay = relay_over(several, vec![second()]).expect("a relay");
    assert!(relay.change_link(1, mac(99), 1_000));
    assert_eq!(relay.core.settings.mtu, 1_000);
    assert!(relay.change_link(0, mac(10), 1_400));
    assert_eq!(
        (relay.core.settings.mtu, relay.core.interfaces[1].mac, relay.core.interfaces[0].mac),
        (1_000, mac(99), mac(10))
    );
    assert!(relay.change_link(1, mac(99), 1_500));
    assert_eq!(relay.core.settings.mtu, 1_400);
    assert!(!relay.change_link(2, mac(99), 1_500), "there is no third");
}

#[test]
fn links_and_configuration_must_be_of_as_many_interfaces() {
    let error = |links, beside| relay_over(links, beside).err();
    assert_eq!(error(links().0, vec![]), Some(ConfigError::Interfaces { links: 2, configured: 1 }));
    assert_eq!(error(links().0, vec![second(), second()]), Some(ConfigError::Interfaces { links: 2, configured: 3 }));
    let overlapping = Attachment { addresses: vec![own("10.0.0.5")], ..Attachment::default() };
    assert!(matches!(error(links().0, vec![overlapping]), Some(ConfigError::Overlap(..))));
}
