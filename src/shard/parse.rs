//! Stage 2: each frame to what it means, or to a counted drop.

use super::burst::{Arrival, Burst, Control, Message};
use super::core::Core;
use crate::counters::DropReason;
use crate::link::Link;
use crate::wire::ethernet::{self, MacAddress};
use crate::wire::{self, Parsed, TcpPacket, ndp, usual};
use ::core::net::IpAddr;

/// Parses the frame in place `place` of the burst.
#[inline(always)]
pub(super) fn parse_frame<L: Link>(link: &L, burst: &mut Burst, core: &mut Core, place: u16) {
    let Some(frame) = &burst.frames[usize::from(place)] else { return };
    let bytes = link.bytes(frame);
    let interface = link.interface_of(frame);
    match usual::parse(bytes, &core.interfaces[usize::from(interface)]) {
        Some(packet) if core.routes.is_local(packet.tuple.local()) => {
            segment(burst, core, &packet, bytes, place, interface);
        }
        Some(_) | None => parse_any(burst, core, bytes, place, interface),
    }
}

/// Not inlined, so that the usual frame keeps the registers to itself.
#[inline(never)]
fn parse_any(burst: &mut Burst, core: &mut Core, bytes: &[u8], place: u16, interface: u8) {
    match wire::parse(bytes, &core.interfaces[usize::from(interface)]) {
        Ok(parsed) if !is_for_us(&parsed, interface, core) => drop_frame(burst, DropReason::NotOurAddress, bytes),
        Ok(Parsed::Tcp(packet)) => segment(burst, core, &packet, bytes, place, interface),
        Ok(Parsed::Arp(packet)) => control(burst, place, interface, Message::Arp(packet)),
        Ok(Parsed::Ndp(packet)) => control(burst, place, interface, Message::Ndp(packet)),
        Ok(Parsed::Echo(packet)) => control(burst, place, interface, Message::Echo(packet)),
        Ok(Parsed::IcmpError(error)) => control(burst, place, interface, Message::Error(error)),
        Err(reason) => drop_frame(burst, reason, bytes),
    }
}

/// Only what is addressed to the stack goes on.
fn is_for_us(parsed: &Parsed, interface: u8, core: &Core) -> bool {
    // Who asks on a network for an address of another one is not told: the way there is by a router.
    let is_own_there = |address| core.routes.is_own(address) && core.is_on(address, interface);
    match parsed {
        Parsed::Tcp(packet) => core.routes.is_local(packet.tuple.local()),
        Parsed::Echo(echo) => core.routes.is_own(echo.dst),
        // A sender with an own address is a conflict.
        Parsed::Arp(packet) => is_own_there(IpAddr::V4(packet.target_ip)) || is_own_there(IpAddr::V4(packet.sender_ip)),
        Parsed::Ndp(ndp::Packet::Solicitation(solicitation)) => is_own_there(IpAddr::V6(solicitation.target)),
        Parsed::IcmpError(error) => core.routes.is_local(error.quoted.src),
        Parsed::Ndp(ndp::Packet::Advertisement(_)) => true,
    }
}

#[cold]
#[inline(never)]
fn control(burst: &mut Burst, frame: u16, interface: u8, message: Message) {
    burst.controls.push(Control { frame, interface, message });
}

#[inline(always)]
fn segment(burst: &mut Burst, core: &mut Core, packet: &TcpPacket, bytes: &[u8], place: u16, interface: u8) {
    core.counters.segments_received += 1;
    burst.arrivals.push(Arrival {
        tuple: packet.tuple,
        segment: packet.segment,
        frame: place,
        src_mac: ethernet::source(bytes),
        interface,
        hash: Default::default(),
        hint: None,
        change_count: 0,
    });
}

#[cold]
fn drop_frame(burst: &mut Burst, reason: DropReason, bytes: &[u8]) {
    if burst.drops.count(reason) && burst.first_drops.len() < DropReason::ALL.len() {
        let src_mac = bytes.get(6..12).and_then(|mac| mac.try_into().ok()).unwrap_or_default();
        burst.first_drops.push((reason, MacAddress(src_mac)));
    }
}
