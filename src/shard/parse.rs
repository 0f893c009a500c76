//! Stage 2: each frame to what it means, or to a counted drop.

use super::burst::{Arrival, Burst, Control, Message};
use super::core::Core;
use crate::counters::DropReason;
use crate::link::Link;
use crate::wire::ethernet::{self, MacAddress};
use crate::wire::{self, Expect, Parsed, TcpPacket, ndp};
use ::core::net::IpAddr;

/// Parses the frame in place `place` of the burst.
#[inline(always)]
pub(super) fn parse_frame<L: Link>(link: &L, burst: &mut Burst, core: &mut Core, expect: &Expect, place: u16) {
    let Some(frame) = &burst.frames[usize::from(place)] else { return };
    let bytes = link.bytes(frame);
    match wire::parse(bytes, expect) {
        Ok(parsed) if !is_for_us(&parsed, core) => drop_frame(burst, DropReason::NotOurAddress, bytes),
        Ok(Parsed::Tcp(packet)) => {
            core.counters.segments_received += 1;
            burst.arrivals.push(arrival(&packet, ethernet::source(bytes), place));
        }
        Ok(Parsed::Arp(packet)) => burst.controls.push(Control { frame: place, message: Message::Arp(packet) }),
        Ok(Parsed::Ndp(packet)) => burst.controls.push(Control { frame: place, message: Message::Ndp(packet) }),
        Ok(Parsed::Echo(packet)) => burst.controls.push(Control { frame: place, message: Message::Echo(packet) }),
        Ok(Parsed::IcmpError(error)) => burst.controls.push(Control { frame: place, message: Message::Error(error) }),
        Err(reason) => drop_frame(burst, reason, bytes),
    }
}

/// Only what is addressed to the stack goes on.
#[inline(always)]
fn is_for_us(parsed: &Parsed, core: &Core) -> bool {
    match parsed {
        Parsed::Tcp(packet) => core.routes.is_local(packet.tuple.local()),
        Parsed::Echo(echo) => core.routes.is_own(echo.dst),
        // A sender with an own address is a conflict.
        Parsed::Arp(packet) => {
            core.routes.is_own(IpAddr::V4(packet.target_ip)) || core.routes.is_own(IpAddr::V4(packet.sender_ip))
        }
        Parsed::Ndp(ndp::Packet::Solicitation(solicitation)) => core.routes.is_own(IpAddr::V6(solicitation.target)),
        Parsed::IcmpError(error) => core.routes.is_local(error.quoted.src),
        Parsed::Ndp(ndp::Packet::Advertisement(_)) => true,
    }
}

#[inline]
fn arrival(packet: &TcpPacket, src_mac: MacAddress, place: u16) -> Arrival {
    Arrival {
        tuple: packet.tuple,
        segment: packet.segment,
        frame: place,
        src_mac,
        hash: Default::default(),
        hint: None,
        change_count: 0,
    }
}

#[cold]
fn drop_frame(burst: &mut Burst, reason: DropReason, bytes: &[u8]) {
    if burst.drops.count(reason) && burst.first_drops.len() < DropReason::ALL.len() {
        let src_mac = bytes.get(6..12).and_then(|mac| mac.try_into().ok()).unwrap_or_default();
        burst.first_drops.push((reason, MacAddress(src_mac)));
    }
}
