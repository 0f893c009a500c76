//! IPv6 headers and the extension headers that end nodes must skip (RFC 8200). Fragments are refused (T13).

use super::be16;
use crate::counters::DropReason;
use core::net::Ipv6Addr;

/// Bytes of the header without extension headers.
pub const HEADER_BYTES: usize = 40;

/// What the headers of an accepted packet say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) src: Ipv6Addr,
    pub(super) dst: Ipv6Addr,
    /// What follows the last extension header.
    pub(super) protocol: u8,
    pub(super) dscp_ecn: u8,
    pub(super) hop_limit: u8,
    /// Bytes of the header with its extension headers.
    pub(super) len: usize,
    /// Bytes of the packet; what follows in the frame is padding.
    pub(super) total_len: usize,
}

/// Whether a TCP packet or an echo may come from or go to `address` (MUST-57, MUST-63, T18): not multicast, loopback,
/// unspecified or an IPv4 address in disguise.
#[inline]
pub const fn is_unicast(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    bits >> 120 != 0xff && bits > 1 && bits >> 32 != 0xffff
}

/// Reads the headers at the start of `packet`, which is the rest of the frame.
#[inline]
pub(super) fn parse(packet: &[u8]) -> Result<Header, DropReason> {
    let fixed = packet.first_chunk::<HEADER_BYTES>().ok_or(DropReason::Truncated)?;
    if fixed[0] >> 4 != 6 {
        return Err(DropReason::Ipv6Header);
    }
    let total_len = HEADER_BYTES + usize::from(be16(fixed, 4));
    let packet = packet.get(..total_len).ok_or(DropReason::Truncated)?;
    let (protocol, len) = skip_extensions(packet, fixed[6])?;
    let (src, dst) = (address(fixed, 8), address(fixed, 24));
    let dscp_ecn = fixed[0] << 4 | fixed[1] >> 4;
    Ok(Header { src, dst, protocol, dscp_ecn, hop_limit: fixed[7], len, total_len })
}

/// The protocol after the extension headers of `packet`, whose first header names `next`, and where it begins.
#[inline]
pub(super) fn skip_extensions(packet: &[u8], next: u8) -> Result<(u8, usize), DropReason> {
    if !matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
        return Ok((next, HEADER_BYTES));
    }
    let (mut next, mut at) = (next, HEADER_BYTES);
    for _ in 0..EXTENSIONS_MAX {
        match next {
            // Only directly after the fixed header (RFC 8200 4.1).
            HOP_BY_HOP if at != HEADER_BYTES => return Err(DropReason::Ipv6Header),
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {}
            FRAGMENT => return Err(DropReason::Fragment),
            protocol => return Ok((protocol, at)),
        }
        let rest = packet.get(at..).unwrap_or_default();
        let len = usize::from(*rest.get(1).ok_or(DropReason::Truncated)?) * 8 + 8;
        let header = rest.get(..len).ok_or(DropReason::Truncated)?;
        if next == ROUTING {
            // Segments left: with 0 the header is done with (RFC 8200 4.4).
            if header[3] != 0 {
                return Err(DropReason::Ipv6Header);
            }
        } else {
            check_options(&header[2..])?;
        }
        next = header[0];
        at += len;
    }
    Err(DropReason::Ipv6Header)
}

/// Writes the header of a packet to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Emit {
    pub(super) src: Ipv6Addr,
    pub(super) dst: Ipv6Addr,
    pub(super) hop_limit: u8,
    pub(super) dscp_ecn: u8,
    pub(super) protocol: u8,
}

impl Emit {
    /// Writes the header, with flow label 0, of a packet with `upper_len` bytes after it. Returns its length; panics if
    /// `packet` is shorter.
    #[inline]
    pub(super) fn emit(&self, packet: &mut [u8], upper_len: usize) -> usize {
        let header = &mut packet[..HEADER_BYTES];
        header[0..4].copy_from_slice(&(6 << 28 | u32::from(self.dscp_ecn) << 20).to_be_bytes());
        header[4..6].copy_from_slice(&(upper_len as u16).to_be_bytes());
        header[6] = self.protocol;
        header[7] = self.hop_limit;
        header[8..24].copy_from_slice(&self.src.octets());
        header[24..40].copy_from_slice(&self.dst.octets());
        HEADER_BYTES
    }
}

/// The address at `bytes[at]`; the caller has checked the length.
#[inline]
pub(super) fn address(bytes: &[u8], at: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&bytes[at..at + 16]);
    octets.into()
}

/// Whether every option may be skipped by one that does not know it (RFC 8200 4.2): its two highest bits say so.
fn check_options(mut options: &[u8]) -> Result<(), DropReason> {
    for _ in 0..OPTIONS_MAX {
        options = match options {
            [] => return Ok(()),
            [PAD1, rest @ ..] => rest,
            [kind, len, rest @ ..] if kind >> 6 == 0 => rest.get(usize::from(*len)..).ok_or(DropReason::Ipv6Header)?,
            _ => return Err(DropReason::Ipv6Header),
        };
    }
    if options.is_empty() { Ok(()) } else { Err(DropReason::Ipv6Header) }
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// The option of one byte.
const PAD1: u8 = 0;

/// Extension headers walked. Origin: RFC 8200 4.1 knows one of each, destination options twice; more is an attack on time.
const EXTENSIONS_MAX: usize = 8;

/// Options looked at per extension header. Origin: RFC 8504 5.3 allows a limit of 8 that are not padding; padding counts here.
const OPTIONS_MAX: usize = 32;
