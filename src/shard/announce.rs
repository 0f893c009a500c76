//! Own addresses on the wire: told to the neighbours at the start and when the link comes back, and defended when
//! another host has one (RFC 5227 for IPv4, RFC 4861 7.2.6 for IPv6).

use super::core::Core;
use super::{Shard, respond};
use crate::api::Application;
use crate::link::Link;
use crate::tick::{Now, Tick};
use crate::wire::ethernet::MacAddress;
use crate::wire::{Parsed, arp, ndp};
use ::core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use alloc::vec::Vec;

/// Another host that says that it has an own address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// The address.
    pub address: IpAddr,
    /// Who has it too.
    pub mac: MacAddress,
}

/// The address that the sender of a packet says it has, or is about to take, and its MAC address: an ARP packet's sender or the
/// target of a probe, a neighbour advertisement's target, or that of a duplicate address detection.
pub fn claimed_by(parsed: &Parsed) -> Option<Conflict> {
    let (address, mac) = match parsed {
        Parsed::Arp(packet) if packet.sender_ip.is_unspecified() => (packet.target_ip.into(), packet.sender_mac),
        Parsed::Arp(packet) => (packet.sender_ip.into(), packet.sender_mac),
        Parsed::Ndp(ndp::Packet::Advertisement(packet)) => {
            (packet.target.into(), packet.target_link.unwrap_or(packet.src_mac))
        }
        Parsed::Ndp(ndp::Packet::Solicitation(packet)) if packet.src.is_unspecified() => {
            (packet.target.into(), packet.src_mac)
        }
        Parsed::Ndp(ndp::Packet::Solicitation(_)) | Parsed::Tcp(_) | Parsed::Echo(_) | Parsed::IcmpError(_) => {
            return None;
        }
    };
    Some(Conflict { address, mac })
}

/// Writes the question whether anybody has `address`, which tells nothing about the sender (RFC 5227 2.1.1, RFC 4862
/// 5.4.2); returns the frame's length. Panics if `frame` is shorter than 90 bytes.
pub fn emit_probe(frame: &mut [u8], mac: MacAddress, vlan: Option<u16>, address: IpAddr) -> usize {
    match address {
        IpAddr::V4(address) => arp::emit_request(frame, mac, vlan, Ipv4Addr::UNSPECIFIED, address),
        IpAddr::V6(address) => ndp::emit_probe(frame, mac, vlan, address),
    }
}

/// What is to be told about own addresses.
#[derive(Debug)]
pub(super) struct Claims {
    /// In rising order.
    all: Vec<Claim>,
    /// The next to be told; none at the end.
    next: usize,
    /// When all are told once more.
    again_at: Option<Tick>,
    /// Those to be defended, as numbers in `all`; no more than there are.
    defend: Vec<u32>,
    /// What was seen last and not yet reported.
    conflict: Option<Conflict>,
}

/// One own address.
#[derive(Debug)]
struct Claim {
    address: IpAddr,
    /// When it was to be defended last.
    defended_at: Option<Now>,
}

impl Claims {
    pub(super) fn new(mut all: Vec<IpAddr>) -> Claims {
        all.sort();
        let all: Vec<Claim> = all.into_iter().map(|address| Claim { address, defended_at: None }).collect();
        Claims { next: all.len(), defend: Vec::with_capacity(all.len()), all, again_at: None, conflict: None }
    }

    /// Bytes that so many addresses take.
    pub(super) const fn bill(addresses: usize) -> u64 {
        (addresses * (size_of::<Claim>() + size_of::<u32>())) as u64
    }

    pub(super) fn next_deadline(&self, now: Tick) -> Option<Tick> {
        if self.next < self.all.len() || !self.defend.is_empty() { Some(now) } else { self.again_at }
    }

    /// Notes that somebody else has an own address, which is to be defended unless that was so less than 10 s ago
    /// (RFC 5227 2.4 b).
    fn contested(&mut self, conflict: Conflict, now: Now) {
        self.conflict = Some(conflict);
        let Ok(number) = self.all.binary_search_by_key(&conflict.address, |claim| claim.address) else { return };
        let is_due = |at: Now| now.us() - at.us() >= DEFEND_INTERVAL_US;
        if self.all[number].defended_at.is_none_or(is_due) && self.defend.len() < self.all.len() {
            self.all[number].defended_at = Some(now);
            self.defend.push(number as u32);
        }
    }

    /// The next address to tell of.
    fn first(&mut self, now: Tick) -> Option<IpAddr> {
        if self.again_at.take_if(|at| at.is_at_or_before(now)).is_some() {
            self.next = 0;
        }
        let number = self.defend.last().map_or(self.next, |number| *number as usize);
        self.all.get(number).map(|claim| claim.address)
    }

    /// [`Claims::first`] was told.
    fn told(&mut self) {
        if self.defend.pop().is_none() {
            self.next += 1;
        }
    }
}

impl Core {
    /// Somebody on interface number `interface` says that it has `claim`. An own address of this end is a conflict:
    /// counted, kept for the report, and defended once in 10 s (RFC 5227 2.4 b). Returns whether it was one.
    pub(super) fn is_conflict(&mut self, claim: Option<Conflict>, interface: u8, now: Now) -> bool {
        let mac = self.interfaces[usize::from(interface)].mac;
        let is_own = |address| self.routes.is_own(address) && self.is_on(address, interface);
        let Some(conflict) = claim.filter(|claim| claim.mac != mac && is_own(claim.address)) else {
            return false;
        };
        self.counters.address_conflicts += 1;
        self.claims.contested(conflict, now);
        true
    }
}

/// Stage 7: what is due of the announcements, as far as frames and the turn's share go.
pub(super) fn announce_due<L: Link>(link: &mut L, core: &mut Core, now: Now) {
    for _ in 0..ANNOUNCED_PER_TURN {
        if core.claims.next_deadline(now.tick()).is_none_or(|at| !at.is_at_or_before(now.tick())) {
            return;
        }
        let Some(address) = core.claims.first(now.tick()) else { return };
        let interface = core.routes.interface_of(address);
        let frame = link.take_on(interface);
        if frame.is_none() {
            core.counters.respond_without_frame += 1;
            if !L::SEVERAL {
                // It is tried again next turn. Those of other interfaces must not wait for this one.
                return;
            }
        }
        core.claims.told();
        let Some(mut frame) = frame else { continue };
        let own = &core.interfaces[usize::from(interface)];
        let bytes = link.bytes_mut(&mut frame);
        let len = match address {
            IpAddr::V4(address) => arp::emit_request(bytes, own.mac, own.vlan, address, address),
            IpAddr::V6(target) => {
                let nobody = ndp::Solicitation {
                    src_mac: MacAddress::default(),
                    src: Ipv6Addr::UNSPECIFIED,
                    target,
                    source_link: None,
                };
                ndp::emit_advertisement(bytes, &nobody, own.mac, own.vlan)
            }
        };
        core.counters.addresses_announced += 1;
        respond::transmit(link, &mut core.counters, frame, len);
    }
}

impl<L: Link, A: Application> Shard<L, A> {
    /// Tells the neighbours where the own addresses are, now and once more 2 s later: gratuitous ARP (RFC 5227 2.3), unsolicited
    /// advertisements (RFC 4861 7.2.6). For the start, and when the link has come back; one shard of a stack does it for all.
    pub fn announce(&mut self, now: Now) {
        if self.core.neighbors_elsewhere {
            // The addresses are the kernel's to announce.
            return;
        }
        let claims = &mut self.core.claims;
        claims.next = 0;
        claims.again_at = Some(now.tick().plus(ANNOUNCE_INTERVAL_MS));
    }

    /// The last address conflict since this was called last.
    pub fn take_conflict(&mut self) -> Option<Conflict> {
        self.core.claims.conflict.take()
    }
}

/// Between the two announcements, ms. Origin: ANNOUNCE_INTERVAL of RFC 5227 1.1.
const ANNOUNCE_INTERVAL_MS: u32 = 2_000;

/// Between two defences of an address, us. Origin: DEFEND_INTERVAL of RFC 5227 1.1.
const DEFEND_INTERVAL_US: u64 = 10_000_000;

/// Announcements of one turn. More would take the frames of connections, fewer make hundreds of addresses slow.
const ANNOUNCED_PER_TURN: usize = 32;
