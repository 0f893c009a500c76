//! The shape that nearly every frame has: TCP over IPv4, without a VLAN tag or IPv4 options, and with the usual TCP options.
//! Everything in its headers has a fixed place, and nothing is asked but whether all is as it should be.
//!
//! What is accepted here [`super::parse`] accepts too, and reads the same; a frame of any other shape, or with
//! anything wrong, is left to that one, which knows how to say why.

use super::checksum::Sum;
use super::ethernet::{self, MacAddress};
use super::tcp::{self, Flags, Options, SackPlace, Segment};
use super::{Expect, PROTOCOL_TCP, TcpPacket, be16, be32, ipv4};
use crate::four_tuple::{Addresses, FourTuple};
use crate::seq::Seq;
use core::net::Ipv4Addr;

/// The segment in a frame of the usual shape in which nothing is wrong.
#[inline(always)]
pub fn parse(frame: &[u8], expect: &Expect) -> Option<TcpPacket> {
    let head = frame.first_chunk::<HEAD_BYTES>()?;
    let (src, dst) = (Ipv4Addr::from_bits(be32(head, SRC)), Ipv4Addr::from_bits(be32(head, DST)));
    let end = IP + usize::from(be16(head, IP + 2));
    let data = TCP + usize::from(head[TCP + 12] >> 4) * 4;
    let is_usual = be32(head, IP - 2) >> 8 == TYPE_AND_VERSION
        && MacAddress::at(head, 0) == expect.mac
        && expect.vlan.is_none()
        && frame.len() <= IP + expect.mtu
        && head[IP + 9] == PROTOCOL_TCP
        && be16(head, IP + 6) & !ipv4::DONT_FRAGMENT == 0
        && !MacAddress::at(head, 6).is_multicast()
        && ipv4::is_unicast(src)
        && ipv4::is_unicast(dst)
        && src != dst
        && data <= end
        && end <= frame.len();
    let (flags, list) = (Flags(head[TCP + 13]), frame.get(HEAD_BYTES..)?);
    let options = match data - TCP {
        tcp::HEADER_BYTES => Options::default(),
        TIMESTAMPS => Options { timestamps: Some(tcp::timestamps_only(list.first_chunk()?)?), ..Options::default() },
        SYN if flags.syn() => tcp::usual_syn_options(list.first_chunk()?)?,
        _ => return None,
    };
    if !is_usual || !Sum::default().array(head[IP..].first_chunk::<{ ipv4::HEADER_BYTES }>()?).is_valid() {
        return None;
    }
    let (header, rest) = frame[TCP..end].split_first_chunk::<{ tcp::HEADER_BYTES }>()?;
    if expect.verify_checksums {
        let pseudo = Sum::default().pseudo_v4(src, dst, PROTOCOL_TCP, end - TCP);
        if !tcp::checksum_of(header, rest, pseudo).is_valid() {
            return None;
        }
    }
    let (remote_port, local_port) = (be16(header, 0), be16(header, 2));
    if remote_port == 0 || local_port == 0 {
        return None;
    }
    let segment = Segment {
        seq: Seq(be32(header, 4)),
        ack: Seq(be32(header, 8)),
        wnd: be16(header, 14),
        up: be16(header, 18),
        flags,
        options,
        sack: SackPlace::default(),
        payload_offset: data as u16,
        payload_len: (end - data) as u16,
    };
    let tuple = FourTuple { addresses: Addresses::V4 { local: dst, remote: src }, local_port, remote_port };
    Some(TcpPacket { tuple, dscp_ecn: head[IP + 1], segment })
}

/// Where the IPv4 header begins, its addresses lie and the TCP header begins, bytes from the start of the frame.
const IP: usize = ethernet::HEADER_BYTES;
const SRC: usize = IP + 12;
const DST: usize = IP + 16;
const TCP: usize = IP + ipv4::HEADER_BYTES;

/// Bytes of all headers without TCP's options.
const HEAD_BYTES: usize = TCP + tcp::HEADER_BYTES;

/// Bytes of a TCP header with timestamps alone, and of the usual SYN's.
const TIMESTAMPS: usize = tcp::HEADER_BYTES + tcp::TIMESTAMPS_AND_NOPS;
const SYN: usize = tcp::HEADER_BYTES + tcp::USUAL_SYN_OPTIONS;

/// The EtherType, and IPv4's version and header length without options.
const TYPE_AND_VERSION: u32 = (ethernet::IPV4 as u32) << 8 | 0x45;
