//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echo requests, and errors about TCP segments. Neighbour discovery is in `ndp`.

use super::ethernet::{self, MacAddress};
use super::{Expect, Network, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, Parsed, Path};
use super::{be16, be32, checksum::Sum, emit_headers, ipv4, ipv6};
use crate::counters::DropReason;
use crate::four_tuple::Addresses;
use crate::seq::Seq;
use core::net::{IpAddr, Ipv4Addr};

/// An echo request to one of two unicast addresses that differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo {
    /// Who put the frame on this wire; the reply goes back there.
    pub src_mac: MacAddress,
    /// Source address.
    pub src: IpAddr,
    /// Destination address; whether it is this stack's is for the caller to say.
    pub dst: IpAddr,
    /// DSCP and ECN of the request.
    pub dscp_ecn: u8,
    /// Identifier.
    pub ident: u16,
    /// Sequence number.
    pub sequence: u16,
    /// Where the ICMP message begins, bytes from the start of the frame.
    pub message_offset: u16,
    /// Bytes of the ICMP message, its 8 bytes of header included.
    pub message_len: u16,
}

/// An ICMP error about a TCP segment that `quoted.src` is said to have sent. Anyone can forge one (RFC 5927).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error {
    /// What went wrong.
    pub kind: ErrorKind,
    /// Who put the frame on this wire.
    pub src_mac: MacAddress,
    /// The host or router that complains.
    pub from: IpAddr,
    /// The segment that it is about.
    pub quoted: Quoted,
}

/// What went wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// Destination unreachable.
    Unreachable {
        /// The code, which ICMP and ICMPv6 number differently; [`Error::is_hard`] tells what it means for TCP.
        code: u8,
    },
    /// The packet did not fit a link on the way (ICMP type 3 code 4, ICMPv6 type 2).
    TooBig {
        /// What would have fitted, bytes of IP packet; 0 from a router older than RFC 1191. To be checked (T27).
        mtu: u32,
    },
    /// The TTL ran out.
    TimeExceeded,
    /// A router or host did not understand the IP header.
    ParameterProblem,
    /// Source quench, to be ignored (MUST-55).
    SourceQuench,
}

/// The segment that an error quotes: its first 8 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quoted {
    /// Its source address, the destination of the error.
    pub src: IpAddr,
    /// Its destination address.
    pub dst: IpAddr,
    /// Its source port.
    pub src_port: u16,
    /// Its destination port.
    pub dst_port: u16,
    /// Its SEG.SEQ, which must be in flight for the error to be believed (RFC 5927 4.1).
    pub seq: Seq,
}

impl Error {
    /// Whether RFC 9293 3.9.2.2 calls the error hard: protocol or port unreachable, or administratively prohibited over
    /// IPv6.
    pub const fn is_hard(&self) -> bool {
        match self.kind {
            ErrorKind::Unreachable { code } if self.quoted.src.is_ipv4() => matches!(code, 2 | 3),
            ErrorKind::Unreachable { code } => matches!(code, 1 | 4),
            _ => false,
        }
    }
}

/// Reads an ICMP message.
pub(super) fn parse_v4(frame: &[u8], network: &Network) -> Result<Parsed, DropReason> {
    let message = checked(frame, network, Sum::default())?;
    let kind = match (message[0], message[1]) {
        (8, 0) => return Ok(Parsed::Echo(echo(message, network))),
        (3, 4) => ErrorKind::TooBig { mtu: be16(message, 6).into() },
        (3, code) => ErrorKind::Unreachable { code },
        (4, _) => ErrorKind::SourceQuench,
        (11, _) => ErrorKind::TimeExceeded,
        (12, _) => ErrorKind::ParameterProblem,
        _ => return Err(DropReason::IcmpIgnored),
    };
    error(kind, quoted_v4(&message[HEADER_BYTES..])?, network)
}

/// Reads an ICMPv6 message that is not neighbour discovery.
pub(super) fn parse_v6(frame: &[u8], network: &Network) -> Result<Parsed, DropReason> {
    let message = checked(frame, network, network.pseudo)?;
    let kind = match (message[0], message[1]) {
        (128, 0) => return Ok(Parsed::Echo(echo(message, network))),
        (1, code) => ErrorKind::Unreachable { code },
        (2, _) => ErrorKind::TooBig { mtu: be32(message, 4) },
        (3, _) => ErrorKind::TimeExceeded,
        (4, _) => ErrorKind::ParameterProblem,
        _ => return Err(DropReason::IcmpIgnored),
    };
    error(kind, quoted_v6(&message[HEADER_BYTES..])?, network)
}

/// Turns the frame that brought `echo` into its reply, in place: a reply is never longer than its request (T29).
/// Returns the frame's length.
///
/// `frame` is the frame's whole room, the request at its start. Panics if it is shorter than 60 bytes, or is not the
/// frame that `echo` was read from.
pub fn emit_reply(frame: &mut [u8], echo: &Echo, ours: &Expect, ttl: u8) -> usize {
    let path = Path {
        src_mac: ours.mac,
        dst_mac: echo.src_mac,
        vlan: ours.vlan,
        addresses: Addresses::new(echo.dst, echo.src),
        ttl,
        // The reply keeps the class of service, not the congestion mark.
        dscp_ecn: echo.dscp_ecn & !3,
    };
    let (begin, len) = (usize::from(echo.message_offset), usize::from(echo.message_len));
    // Options and extension headers are not sent back, so the message may move towards the start, never to the end.
    let at = path.headers_len();
    frame.copy_within(begin..begin + len, at);
    let (protocol, kind) = if echo.dst.is_ipv4() { (PROTOCOL_ICMP, 0) } else { (PROTOCOL_ICMPV6, 129) };
    let (_, pseudo) = emit_headers(frame, &path, protocol, len);
    let message = &mut frame[at..at + len];
    message[0] = kind;
    message[2..4].fill(0);
    let sum = if echo.dst.is_ipv4() { Sum::default() } else { pseudo };
    let checksum = sum.bytes(message).finish();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    ethernet::pad(frame, at + len)
}

/// The message of the packet, if it has a header and its checksum over `pseudo` and itself is right.
pub(super) fn checked<'a>(frame: &'a [u8], network: &Network, pseudo: Sum) -> Result<&'a [u8], DropReason> {
    let message = &frame[network.upper.0..network.upper.1];
    if message.len() < HEADER_BYTES {
        return Err(DropReason::Truncated);
    }
    if pseudo.bytes(message).is_valid() { Ok(message) } else { Err(DropReason::Icmp) }
}

fn echo(message: &[u8], network: &Network) -> Echo {
    Echo {
        src_mac: network.src_mac,
        src: network.addresses.remote(),
        dst: network.addresses.local(),
        dscp_ecn: network.dscp_ecn,
        ident: be16(message, 4),
        sequence: be16(message, 6),
        message_offset: network.upper.0 as u16,
        message_len: message.len() as u16,
    }
}

/// An error goes to whoever sent what it quotes; another one asks nothing of this stack.
fn error(kind: ErrorKind, quoted: Quoted, network: &Network) -> Result<Parsed, DropReason> {
    if quoted.src != network.addresses.local() {
        return Err(DropReason::IcmpIgnored);
    }
    Ok(Parsed::IcmpError(Error { kind, src_mac: network.src_mac, from: network.addresses.remote(), quoted }))
}

/// The segment in `quote`. Its checksum and total length may have been changed or cut on the way, and are not looked
/// at.
fn quoted_v4(quote: &[u8]) -> Result<Quoted, DropReason> {
    let header = quote.first_chunk::<{ ipv4::HEADER_BYTES }>().ok_or(DropReason::Icmp)?;
    let len = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || len < ipv4::HEADER_BYTES {
        return Err(DropReason::Icmp);
    }
    if header[9] != PROTOCOL_TCP || be16(header, 6) & ipv4::FRAGMENT_OFFSET != 0 {
        return Err(DropReason::IcmpIgnored);
    }
    let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]).into();
    quoted_segment(quote, len, address(12), address(16))
}

fn quoted_v6(quote: &[u8]) -> Result<Quoted, DropReason> {
    let header = quote.first_chunk::<{ ipv6::HEADER_BYTES }>().ok_or(DropReason::Icmp)?;
    if header[0] >> 4 != 6 {
        return Err(DropReason::Icmp);
    }
    // This stack sends no extension headers, so a quote that has any is not of its making.
    if header[6] != PROTOCOL_TCP {
        return Err(DropReason::IcmpIgnored);
    }
    let (src, dst) = (ipv6::address(header, 8), ipv6::address(header, 24));
    quoted_segment(quote, ipv6::HEADER_BYTES, src.into(), dst.into())
}

fn quoted_segment(quote: &[u8], at: usize, src: IpAddr, dst: IpAddr) -> Result<Quoted, DropReason> {
    let segment = quote.get(at..at + 8).ok_or(DropReason::Icmp)?;
    Ok(Quoted { src, dst, src_port: be16(segment, 0), dst_port: be16(segment, 2), seq: Seq(be32(segment, 4)) })
}

/// Bytes of an ICMP message's header.
const HEADER_BYTES: usize = 8;
