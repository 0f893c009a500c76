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
    let first = address.octets()[0];
    first != 0 && first != 127 && first < 224
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
    let sum = Sum::default().bytes(fixed).bytes(&packet[HEADER_BYTES..len]);
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
        let header = &mut packet[..HEADER_BYTES];
        let first = 0x4500 | u16::from(self.dscp_ecn);
        let total_len = (HEADER_BYTES + upper_len) as u16;
        let ttl_protocol = u16::from(self.ttl) << 8 | u16::from(self.protocol);
        // Summed from the values, not from the bytes: those have only just been written.
        let sum = Sum::default().word(first).word(total_len).word(DONT_FRAGMENT);
        let checksum = sum.pseudo_v4(self.src, self.dst, 0, 0).word(ttl_protocol).finish();
        let words = [first, total_len, 0, DONT_FRAGMENT, ttl_protocol, checksum];
        for (bytes, word) in header.as_chunks_mut::<2>().0.iter_mut().zip(words) {
            *bytes = word.to_be_bytes();
        }
        header[12..16].copy_from_slice(&self.src.octets());
        header[16..20].copy_from_slice(&self.dst.octets());
        HEADER_BYTES
    }
}

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
/// In units of 8 bytes.
pub(super) const FRAGMENT_OFFSET: u16 = 0x1fff;
