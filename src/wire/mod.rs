//! Bytes and their meaning: one file per protocol, parse and emit side by side.
//!
//! Panic contract: `parse` never panics, whatever the bytes. An `emit` panics when its buffer is shorter than the
//! length that its own doc states; callers hand whole frames, whose size is asserted once at start. Nothing in this
//! module knows TCP's state. Inside it addresses are source and destination; above it they are local and remote.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod tcp;
pub mod usual;

use crate::counters::DropReason;
use crate::four_tuple::{Addresses, FourTuple};
use ethernet::MacAddress;
use tcp::Segment;

/// What this end accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expect {
    /// This end's Ethernet address; broadcast and group frames pass only for ARP and neighbour discovery.
    pub mac: MacAddress,
    /// The largest IP packet, bytes.
    pub mtu: usize,
    /// The VLAN that this end is on; a tag with VLAN 0 counts as none (IEEE 802.1Q 9.6).
    pub vlan: Option<u16>,
    /// Whether TCP checksums are verified. Those of IPv4 headers, ICMP and neighbour discovery always are.
    pub verify_checksums: bool,
}

/// What an accepted frame carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed {
    /// A TCP segment.
    Tcp(TcpPacket),
    /// An ARP packet.
    Arp(arp::Packet),
    /// A neighbour solicitation or advertisement.
    Ndp(ndp::Packet),
    /// An echo request.
    Echo(icmp::Echo),
    /// An ICMP error about a TCP segment.
    IcmpError(icmp::Error),
}

/// A TCP segment with the headers that brought it. Both addresses are unicast, of one family, and differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpPacket {
    /// The connection as this end names it: local is the destination, which the caller must check to be this stack's. Ports
    /// are never 0.
    pub tuple: FourTuple,
    /// DSCP and ECN: the second byte of IPv4's header, IPv6's traffic class.
    pub dscp_ecn: u8,
    /// The segment.
    pub segment: Segment,
}

/// Link and network headers of a frame to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// This end's Ethernet address.
    pub src_mac: MacAddress,
    /// The next hop's.
    pub dst_mac: MacAddress,
    /// The VLAN to tag the frame with.
    pub vlan: Option<u16>,
    /// Source (local) and destination (remote).
    pub addresses: Addresses,
    /// TTL, or hop limit.
    pub ttl: u8,
    /// DSCP and ECN.
    pub dscp_ecn: u8,
}

impl Path {
    /// Bytes of the link and network headers: where the TCP header begins.
    #[inline]
    pub const fn headers_len(&self) -> usize {
        let network = if self.addresses.is_v4() { ipv4::HEADER_BYTES } else { ipv6::HEADER_BYTES };
        ethernet::header_len(self.vlan) + network
    }
}

/// Reads a frame, or says why it is dropped. Reads every byte at most a small constant number of times.
pub fn parse(frame: &[u8], expect: &Expect) -> Result<Parsed, DropReason> {
    let link = ethernet::parse(frame, expect)?;
    if link.ether_type == ethernet::IPV4 {
        let (network, protocol) = network_v4(frame, &link)?;
        return match protocol {
            PROTOCOL_TCP => tcp::parse(frame, network, expect.verify_checksums).map(Parsed::Tcp),
            PROTOCOL_ICMP => icmp::parse_v4(frame, &network),
            _ => Err(DropReason::Protocol),
        };
    }
    match link.ether_type {
        ethernet::IPV6 => parse_v6(frame, &link, expect),
        ethernet::ARP => arp::parse(&frame[link.len..]).map(Parsed::Arp),
        _ => Err(DropReason::EtherType),
    }
}

/// The network header of a packet, of either family, as the upper layers see it.
#[derive(Clone, Copy, Debug)]
struct Network {
    src_mac: MacAddress,
    /// Destination (local) and source (remote).
    addresses: Addresses,
    dscp_ecn: u8,
    /// Sum of the pseudo-header: addresses, protocol and upper length.
    pseudo: checksum::Sum,
    /// Where the upper header begins and the packet ends, bytes from the start of the frame.
    upper: (usize, usize),
}

/// Writes the link and network headers for `upper_len` bytes of `protocol`; returns the length of the headers and the
/// sum of the pseudo-header.
#[inline(always)]
fn emit_headers(frame: &mut [u8], path: &Path, protocol: u8, upper_len: usize) -> (usize, checksum::Sum) {
    let sum = checksum::Sum::default();
    match path.addresses {
        Addresses::V4 { local: src, remote: dst } => {
            let at = ethernet::emit(frame, path.src_mac, path.dst_mac, path.vlan, ethernet::IPV4);
            let header = ipv4::Emit { src, dst, ttl: path.ttl, dscp_ecn: path.dscp_ecn, protocol };
            (at + header.emit(&mut frame[at..], upper_len), sum.pseudo_v4(src, dst, protocol, upper_len))
        }
        Addresses::V6 { local: src, remote: dst } => {
            let at = ethernet::emit(frame, path.src_mac, path.dst_mac, path.vlan, ethernet::IPV6);
            let header = ipv6::Emit { src, dst, hop_limit: path.ttl, dscp_ecn: path.dscp_ecn, protocol };
            (at + header.emit(&mut frame[at..], upper_len), sum.pseudo_v6(src, dst, protocol, upper_len))
        }
    }
}

/// The IPv4 header as the upper layers see it, and their protocol.
#[inline(always)]
fn network_v4(frame: &[u8], link: &ethernet::Header) -> Result<(Network, u8), DropReason> {
    link.unicast_only()?;
    let header = ipv4::parse(&frame[link.len..])?;
    if !ipv4::is_unicast(header.src) || !ipv4::is_unicast(header.dst) || header.src == header.dst {
        return Err(DropReason::Address);
    }
    let upper = (link.len + header.len, link.len + header.total_len);
    let network = Network {
        src_mac: link.src,
        addresses: Addresses::V4 { local: header.dst, remote: header.src },
        dscp_ecn: header.dscp_ecn,
        pseudo: checksum::Sum::default().pseudo_v4(header.src, header.dst, header.protocol, upper.1 - upper.0),
        upper,
    };
    Ok((network, header.protocol))
}

fn parse_v6(frame: &[u8], link: &ethernet::Header, expect: &Expect) -> Result<Parsed, DropReason> {
    let header = ipv6::parse(&frame[link.len..])?;
    let upper = (link.len + header.len, link.len + header.total_len);
    let network = Network {
        src_mac: link.src,
        addresses: Addresses::V6 { local: header.dst, remote: header.src },
        dscp_ecn: header.dscp_ecn,
        pseudo: checksum::Sum::default().pseudo_v6(header.src, header.dst, header.protocol, upper.1 - upper.0),
        upper,
    };
    if header.protocol == PROTOCOL_ICMPV6 && ndp::is_ndp(frame, &network) {
        return ndp::parse(frame, &network, &header).map(Parsed::Ndp);
    }
    link.unicast_only()?;
    if !ipv6::is_unicast(header.src) || !ipv6::is_unicast(header.dst) || header.src == header.dst {
        return Err(DropReason::Address);
    }
    match header.protocol {
        PROTOCOL_TCP => tcp::parse(frame, network, expect.verify_checksums).map(Parsed::Tcp),
        PROTOCOL_ICMPV6 => icmp::parse_v6(frame, &network),
        _ => Err(DropReason::Protocol),
    }
}

/// `bytes[at]` and the next one as a number; the caller has checked the length.
#[inline]
fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes from `bytes[at]` on as a number; the caller has checked the length.
#[inline]
fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// ICMP in IPv4's protocol field.
const PROTOCOL_ICMP: u8 = 1;
/// TCP in either protocol field.
const PROTOCOL_TCP: u8 = 6;
/// ICMPv6 in IPv6's next-header field.
const PROTOCOL_ICMPV6: u8 = 58;

#[cfg(test)]
mod tests;
