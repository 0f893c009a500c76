//! ARP for IPv4 over Ethernet (RFC 826).

use super::ethernet::{self, MacAddress};
use super::{be16, ipv4};
use crate::counters::DropReason;
use core::net::Ipv4Addr;

/// What an ARP packet is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has its address.
    Reply,
}

/// An ARP packet. The sender's MAC address is one interface's, its IP address unicast or (in a probe, RFC 5227) 0.0.0.0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Request or reply.
    pub operation: Operation,
    /// The sender's Ethernet address.
    pub sender_mac: MacAddress,
    /// The sender's IPv4 address; 0.0.0.0 in a probe, which tells nothing about the sender.
    pub sender_ip: Ipv4Addr,
    /// The target's Ethernet address; meaningless in a request.
    pub target_mac: MacAddress,
    /// The target's IPv4 address.
    pub target_ip: Ipv4Addr,
}

/// Reads the packet at the start of `bytes`; what follows is padding.
pub(super) fn parse(bytes: &[u8]) -> Result<Packet, DropReason> {
    let bytes = bytes.first_chunk::<PACKET_BYTES>().ok_or(DropReason::Truncated)?;
    if bytes[..6] != ETHERNET_AND_IPV4 {
        return Err(DropReason::Arp);
    }
    let operation = match be16(bytes, 6) {
        REQUEST => Operation::Request,
        REPLY => Operation::Reply,
        _ => return Err(DropReason::Arp),
    };
    let (sender_mac, sender_ip) = end(bytes, 8);
    let (target_mac, target_ip) = end(bytes, 18);
    let probe = operation == Operation::Request && sender_ip.is_unspecified();
    if sender_mac.is_multicast() || sender_mac == MacAddress::default() || !(ipv4::is_unicast(sender_ip) || probe) {
        return Err(DropReason::Arp);
    }
    Ok(Packet { operation, sender_mac, sender_ip, target_mac, target_ip })
}

/// Writes a broadcast frame that asks who has `target_ip`; returns its length. Panics if `frame` is shorter than 60 bytes.
pub fn emit_request(
    frame: &mut [u8],
    sender_mac: MacAddress,
    vlan: Option<u16>,
    sender_ip: Ipv4Addr,
    target_ip: Ipv4Addr,
) -> usize {
    let target_mac = MacAddress::default();
    let packet = Packet { operation: Operation::Request, sender_mac, sender_ip, target_mac, target_ip };
    emit(frame, MacAddress::BROADCAST, vlan, &packet)
}

/// Writes the answer to `request`: its target address is at `mac`. Returns the frame's length; panics if `frame` is
/// shorter than 60 bytes. `frame` may be the one that brought the request.
pub fn emit_reply(frame: &mut [u8], request: &Packet, mac: MacAddress, vlan: Option<u16>) -> usize {
    let reply = Packet {
        operation: Operation::Reply,
        sender_mac: mac,
        sender_ip: request.target_ip,
        target_mac: request.sender_mac,
        target_ip: request.sender_ip,
    };
    emit(frame, request.sender_mac, vlan, &reply)
}

fn emit(frame: &mut [u8], dst: MacAddress, vlan: Option<u16>, packet: &Packet) -> usize {
    let at = ethernet::emit(frame, packet.sender_mac, dst, vlan, ethernet::ARP);
    let operation = match packet.operation {
        Operation::Request => REQUEST,
        Operation::Reply => REPLY,
    };
    let bytes = &mut frame[at..at + PACKET_BYTES];
    bytes[..6].copy_from_slice(&ETHERNET_AND_IPV4);
    bytes[6..8].copy_from_slice(&operation.to_be_bytes());
    bytes[8..14].copy_from_slice(&packet.sender_mac.0);
    bytes[14..18].copy_from_slice(&packet.sender_ip.octets());
    bytes[18..24].copy_from_slice(&packet.target_mac.0);
    bytes[24..28].copy_from_slice(&packet.target_ip.octets());
    ethernet::pad(frame, at + PACKET_BYTES)
}

/// The MAC and IP address at `bytes[at]`.
fn end(bytes: &[u8; PACKET_BYTES], at: usize) -> (MacAddress, Ipv4Addr) {
    let mut mac = MacAddress::default();
    mac.0.copy_from_slice(&bytes[at..at + 6]);
    (mac, Ipv4Addr::new(bytes[at + 6], bytes[at + 7], bytes[at + 8], bytes[at + 9]))
}

/// Hardware type 1, protocol type 0x0800, address lengths 6 and 4.
const ETHERNET_AND_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
const PACKET_BYTES: usize = 28;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
