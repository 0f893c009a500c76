//! Ethernet II frames (with at most one IEEE 802.1Q tag).

use super::{Expect, be16};
use crate::counters::DropReason;
use core::fmt;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// EtherType of an IEEE 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of an outer IEEE 802.1ad tag, which this stack never takes.
pub const SERVICE_VLAN: u16 = 0x88a8;

/// Bytes of the header without a tag.
pub const HEADER_BYTES: usize = 14;
/// Bytes of one tag.
pub const TAG_BYTES: usize = 4;
/// Bytes of the shortest frame without its FCS (IEEE 802.3 3.2.8); emitted frames are padded to it.
pub const FRAME_BYTES_MIN: usize = 60;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: MacAddress = MacAddress([0xff; 6]);

    /// The address in `bytes[at..]`; the caller has checked the length.
    #[inline]
    pub(super) fn at(bytes: &[u8], at: usize) -> MacAddress {
        let mut address = [0; 6];
        address.copy_from_slice(&bytes[at..at + 6]);
        MacAddress(address)
    }

    /// Whether the address names a group (broadcast included).
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the header of an accepted frame says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) src: MacAddress,
    /// The frame was sent to a group: only ARP and neighbour discovery may be.
    pub(super) to_group: bool,
    pub(super) ether_type: u16,
    /// Where the network header begins, bytes from the start of the frame.
    pub(super) len: usize,
}

impl Header {
    /// Refuses a frame that was sent to a group.
    pub(super) fn unicast_only(&self) -> Result<(), DropReason> {
        if self.to_group { Err(DropReason::NotOurMac) } else { Ok(()) }
    }
}

/// Reads the Ethernet header, with the tag if there is one.
#[inline]
pub(super) fn parse(frame: &[u8], expect: &Expect) -> Result<Header, DropReason> {
    let header = frame.first_chunk::<HEADER_BYTES>().ok_or(DropReason::Truncated)?;
    let (dst, src) = (MacAddress::at(header, 0), MacAddress::at(header, 6));
    let to_group = dst != expect.mac;
    if to_group && !dst.is_multicast() {
        return Err(DropReason::NotOurMac);
    }
    if src.is_multicast() {
        return Err(DropReason::Address);
    }
    let mut header = Header { src, to_group, ether_type: be16(header, 12), len: HEADER_BYTES };
    let mut vlan = None;
    if header.ether_type == VLAN {
        let tag = frame[HEADER_BYTES..].first_chunk::<TAG_BYTES>().ok_or(DropReason::Truncated)?;
        let id = u16::from_be_bytes([tag[0], tag[1]]) & VLAN_ID;
        vlan = (id != 0).then_some(id);
        header.ether_type = u16::from_be_bytes([tag[2], tag[3]]);
        header.len += TAG_BYTES;
    }
    if vlan != expect.vlan || matches!(header.ether_type, VLAN | SERVICE_VLAN) {
        return Err(DropReason::Vlan);
    }
    if frame.len() > header.len + expect.mtu {
        return Err(DropReason::TooLong);
    }
    Ok(header)
}

/// Who put an accepted frame on this wire: the peer or a router. Panics if `frame` has no header.
#[inline]
pub fn source(frame: &[u8]) -> MacAddress {
    MacAddress::at(frame, 6)
}

/// Bytes of the header that [`emit`] writes.
#[inline]
pub const fn header_len(vlan: Option<u16>) -> usize {
    if vlan.is_some() { HEADER_BYTES + TAG_BYTES } else { HEADER_BYTES }
}

/// Writes the header; returns its length. Panics if `frame` is shorter than [`header_len`].
#[inline(always)]
pub fn emit(frame: &mut [u8], src: MacAddress, dst: MacAddress, vlan: Option<u16>, ether_type: u16) -> usize {
    frame[0..6].copy_from_slice(&dst.0);
    frame[6..12].copy_from_slice(&src.0);
    let Some(id) = vlan else {
        frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
        return HEADER_BYTES;
    };
    frame[12..14].copy_from_slice(&VLAN.to_be_bytes());
    frame[14..16].copy_from_slice(&(id & VLAN_ID).to_be_bytes());
    frame[16..18].copy_from_slice(&ether_type.to_be_bytes());
    HEADER_BYTES + TAG_BYTES
}

/// Pads a frame of `len` bytes with zeros to the shortest legal one; returns its length then.
///
/// Panics if `frame` is shorter than that.
#[inline]
pub(super) fn pad(frame: &mut [u8], len: usize) -> usize {
    if len < FRAME_BYTES_MIN {
        frame[len..FRAME_BYTES_MIN].fill(0);
    }
    len.max(FRAME_BYTES_MIN)
}

/// The bits of a tag that name the VLAN.
const VLAN_ID: u16 = 0x0fff;
