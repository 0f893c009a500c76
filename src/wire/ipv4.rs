//! IPv4 headers (RFC 791). Options are skipped (MUST-50), fragments refused (T13).

use super::{be16, checksum::Sum};
use crate::counters::DropReason;
use core::net::Ipv4Addr;

/// Bytes of the header without options.
pub const HEADER_BYTES: usize = 20;

/// What the header of an accepted packet says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) src: Ipv4Addr,
    pub(super) dst: Ipv4Addr,
    pub(super) protocol: u8,
    pub(super) dscp_ecn: u8,
    /// Bytes of the header with its options.
    pub(super) len: usize,
    /// Bytes of the packet; what follows in the frame is padding.
    pub(super) total_len: usize,
}

/// Whether a TCP or ICMP packet may come from or go to `address` (MUST-57, MUST-63, T18): not 0/8, loopback,
/// multicast, reserved or broadcast.
#[inline]
pub const fn is_unicast(address: Ipv4Addr) -> bool {
    matches!(address.octets()[0], 1..=126 | 128..=223)
}

/// Reads the header at the start of `packet`, which is the rest of the frame.
#[inline]
pub(super) fn parse(packet: &[u8]) -> Result<Header, DropReason> {
    let fixed = packet.first_chunk::<HEADER_BYTES>().ok_or(DropReason::Truncated)?;
    let len = usize::from(fixed[0] & 0x0f) * 4;
    let total_len = usize::from(be16(fixed, 2));
    if fixed[0] >> 4 != 4 || len < HEADER_BYTES || total_len < len {
        return Err(DropReason::Ipv4Header);
    }
    if total_len > packet.len() {
        return Err(DropReason::Truncated);
    }
    let mut sum = Sum::default().array(fixed);
    if len > HEADER_BYTES {
        sum = sum.bytes(&packet[HEADER_BYTES..len]);
    }
    if !sum.is_valid() {
        return Err(DropReason::Ipv4Checksum);
    }
    if be16(fixed, 6) & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0 {
        return Err(DropReason::Fragment);
    }
    let src = Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]);
    let dst = Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]);
    Ok(Header { src, dst, protocol: fixed[9], dscp_ecn: fixed[1], len, total_len })
}

/// What the header of a packet to be sent says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Emit {
    pub(super) src: Ipv4Addr,
    pub(super) dst: Ipv4Addr,
    pub(super) ttl: u8,
    pub(super) dscp_ecn: u8,
    pub(super) protocol: u8,
}

impl Emit {
    /// Writes the header of a packet with `upper_len` bytes after it: never to be fragmented, hence identification 0
    /// (RFC 6864 4.1). Returns its length; panics if `packet` is shorter.
    #[inline]
    pub(super) fn emit(&self, packet: &mut [u8], upper_len: usize) -> usize {
        let first = 0x4500_0000 | u32::from(self.dscp_ecn) << 16 | (HEADER_BYTES + upper_len) as u32 & 0xffff;
        let ttl_protocol = u32::from(self.ttl) << 24 | u32::from(self.protocol) << 16;
        let words = [first, DONT_FRAGMENT.into(), ttl_protocol, self.src.to_bits(), self.dst.to_bits()];
        let checksum = Sum::default().emit(packet, words).finish();
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        HEADER_BYTES
    }
}

pub(super) const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
/// In units of 8 bytes.
pub(super) const FRAGMENT_OFFSET: u16 = 0x1fff;
