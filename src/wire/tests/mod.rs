//! What is common to the tests: two ends, on IPv4 and IPv6, with and without a tag.

mod drops;
mod oracle;
mod random;

use super::tcp::{Flags, Options, SegmentOut};
use super::{Expect, MacAddress, Parsed, Path, TcpPacket, parse, tcp};
use crate::counters::DropReason;
use crate::four_tuple::Addresses;
use crate::seq::Seq;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

pub(super) const OURS: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0x01]);
pub(super) const THEIRS: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0x02]);
pub(super) const OURS_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(super) const THEIRS_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(super) const OURS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
pub(super) const THEIRS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

/// This end, as it accepts frames.
pub(super) fn expect() -> Expect {
    Expect { mac: OURS, mtu: 1500, vlan: None, verify_checksums: true }
}

/// The way of a frame from them to us.
pub(super) fn path_v4() -> Path {
    let addresses = Addresses::V4 { local: THEIRS_V4, remote: OURS_V4 };
    Path { src_mac: THEIRS, dst_mac: OURS, vlan: None, addresses, ttl: 64, dscp_ecn: 0 }
}

/// The same over IPv6.
pub(super) fn path_v6() -> Path {
    between(THEIRS_V6, OURS_V6, path_v4())
}

/// The same way between other addresses.
pub(super) fn between(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, path: Path) -> Path {
    Path { addresses: Addresses::new(src.into(), dst.into()), ..path }
}

/// A plain ACK.
pub(super) fn segment(options: &Options) -> SegmentOut<'_> {
    let (seq, ack) = (Seq(0x01020304), Seq(0x05060708));
    SegmentOut { src_port: 40000, dst_port: 80, seq, ack, wnd: 1024, up: 0, flags: Flags::ACK, options, sack: &[] }
}

/// The frame that [`tcp::emit`] makes.
pub(super) fn frame(path: &Path, segment: &SegmentOut<'_>, payload: [&[u8]; 2]) -> Vec<u8> {
    let mut frame = std::vec![0xaa; 9000];
    let len = tcp::emit(&mut frame, path, segment, &payload);
    frame.truncate(len);
    frame
}

/// A frame with a payload of 8 bytes, longer than the shortest.
pub(super) fn plain(path: &Path) -> Vec<u8> {
    frame(path, &segment(&Options::default()), [b"12345678", b""])
}

/// The TCP packet in `frame`, and its payload.
pub(super) fn tcp_of<'a>(frame: &'a [u8], expect: &Expect) -> (TcpPacket, &'a [u8]) {
    match parse(frame, expect) {
        Ok(Parsed::Tcp(packet)) => {
            let begin = usize::from(packet.segment.payload_offset);
            (packet, &frame[begin..begin + usize::from(packet.segment.payload_len)])
        }
        other => panic!("not a TCP packet: {other:?}"),
    }
}

/// Sets the IPv4 header checksum of an untagged frame anew, after a change.
pub(super) fn fix_ipv4(frame: &mut [u8]) {
    let len = usize::from(frame[14] & 0x0f) * 4;
    frame[24..26].fill(0);
    let checksum = super::checksum::Sum::default().bytes(&frame[14..14 + len]).finish();
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

/// Sets the TCP or ICMPv6 checksum anew; the upper header begins at `at` and its checksum field `field` bytes after it.
pub(super) fn fix_upper(frame: &mut [u8], src: IpAddr, dst: IpAddr, protocol: u8, at: usize, field: usize) {
    let len = frame.len() - at;
    let sum = super::checksum::Sum::default();
    let sum = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => sum.pseudo_v4(src, dst, protocol, len),
        (IpAddr::V6(src), IpAddr::V6(dst)) => sum.pseudo_v6(src, dst, protocol, len),
        _ => panic!("mixed families"),
    };
    frame[at + field..at + field + 2].fill(0);
    let checksum = sum.bytes(&frame[at..]).finish();
    frame[at + field..at + field + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// The reason why `frame` is dropped.
pub(super) fn dropped(frame: &[u8]) -> DropReason {
    parse(frame, &expect()).expect_err("the frame must be dropped")
}
