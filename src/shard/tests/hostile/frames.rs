//! The frames of the hostile peer: segments of all kinds, errors that quote the stack, and bytes changed with or without checksums
//! that fit.

use super::*;
use crate::four_tuple::Addresses;
use crate::wire::tcp::{Options, SegmentOut, Timestamps, emit};
use crate::wire::{Path, arp};
use etherparse::PacketBuilder;

/// A segment on connection `port`, relative to what the stack last said there.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    /// The peer's port less 1000.
    pub port: u8,
    /// Over IPv6.
    pub v6: bool,
    /// To port 81, where nobody listens.
    pub to_closed: bool,
    pub flags: u8,
    /// Beyond what the stack has acknowledged.
    pub seq: i32,
    /// Beyond what the stack has sent.
    pub ack: i32,
    pub len: u16,
    pub wnd: u16,
    /// Bits of what it offers: MSS 1 (a tiny one with 96), window scale 2, timestamps 4, SACK 8, an echo in the timestamps 16.
    pub options: u8,
    /// It has timestamps where the stack has sent some, whatever `options` says.
    pub as_agreed: bool,
    /// Its ACK is of what is acknowledged already, so that what the stack has sent stays in flight.
    pub withholds: bool,
    /// TSval beyond the last one that the stack has echoed.
    pub tsval: i32,
    /// SACK blocks: where each begins, beyond what the stack has sent, and its length.
    pub sack: Vec<(i32, u16)>,
}

/// Where the connection's last word is kept.
pub(super) fn place(port: u8, v6: bool) -> usize {
    usize::from(port % PORTS) + if v6 { usize::from(PORTS) } else { 0 }
}

impl Sent {
    /// The frame, where `heard` is what the stack last said and `snd_una` what of it is acknowledged.
    pub(super) fn frame(&self, heard: &Segment, snd_una: Option<Seq>) -> Vec<u8> {
        let timestamps = heard.options.timestamps.unwrap_or_default();
        let agreed = heard.options.timestamps.is_some() && self.as_agreed;
        let options = Options {
            mss: (self.options & 1 != 0).then_some(if self.options & 96 == 96 { self.options.into() } else { 1460 }),
            window_scale: (self.options & 2 != 0).then_some(self.options >> 4),
            sack_permitted: self.options & 8 != 0,
            timestamps: (agreed || self.options & 4 != 0).then_some(Timestamps {
                val: timestamps.ecr.max(1).wrapping_add_signed(self.tsval),
                ecr: if self.options & 16 != 0 { timestamps.val } else { 0 },
            }),
        };
        let blocks: Vec<(Seq, Seq)> = self
            .sack
            .iter()
            .map(|(left, len)| {
                let left = Seq(heard.end().0.wrapping_add_signed(*left));
                (left, left + u32::from(*len))
            })
            .collect();
        let segment = SegmentOut {
            src_port: FIRST_PORT + u16::from(self.port % PORTS),
            dst_port: if self.to_closed { 81 } else { 80 },
            seq: Seq(heard.ack.0.wrapping_add_signed(self.seq)),
            ack: Seq(snd_una.filter(|_| self.withholds).unwrap_or(heard.end()).0.wrapping_add_signed(self.ack)),
            wnd: self.wnd,
            up: self.len,
            flags: Flags(self.flags),
            options: &options,
            sack: &blocks,
        };
        let addresses = Addresses::new(address(PEER, self.v6), address(STACK, self.v6));
        segment_frame(addresses, &segment, usize::from(self.len))
    }
}

/// `segment` with `len` octets of text, from the peer's MAC address.
pub(super) fn segment_frame(addresses: Addresses, segment: &SegmentOut<'_>, len: usize) -> Vec<u8> {
    let path = Path { src_mac: PEER_MAC, dst_mac: STACK_MAC, vlan: None, addresses, ttl: 64, dscp_ecn: 0 };
    let mut frame = vec![0; 1600];
    // Each octet says where it lies.
    let text: Vec<u8> =
        (0..len as u32).map(|at| ((segment.seq.0.wrapping_add(at)).wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
    let len = emit(&mut frame, &path, segment, &[&text, &[]]);
    frame.truncate(len);
    frame
}

/// An ICMP error, or its like of ICMPv6, that quotes a segment to `port` with SEG.SEQ `seq`; kind 8 is an echo request.
pub(super) fn error_frame((port, v6): (u8, bool), (kind, code): (u8, u8), mtu: u16, seq: Seq) -> Vec<u8> {
    let port = FIRST_PORT + u16::from(port % PORTS);
    let (mut quote, mut frame) = (Vec::new(), Vec::new());
    let ethernet = PacketBuilder::ethernet2(PEER_MAC.0, STACK_MAC.0);
    let [high, low] = mtu.to_be_bytes();
    let rest = [0, 0, high, low];
    match (address(STACK, v6), address(PEER, v6)) {
        (IpAddr::V4(stack), IpAddr::V4(peer)) => {
            let segment = PacketBuilder::ipv4(stack.octets(), peer.octets(), 64).tcp(80, port, seq.0, 0);
            segment.write(&mut quote, &[]).expect("a packet");
            let error = ethernet.ipv4([10, 0, 0, 9], stack.octets(), 64).icmpv4_raw(kind, code, rest);
            error.write(&mut frame, &quote[..28]).expect("a packet");
        }
        (IpAddr::V6(stack), IpAddr::V6(peer)) => {
            let segment = PacketBuilder::ipv6(stack.octets(), peer.octets(), 64).tcp(80, port, seq.0, 0);
            segment.write(&mut quote, &[]).expect("a packet");
            // What is "too big" with code 4 over IPv4 has a type of its own.
            let kind = match (kind, code) {
                (3, 4) => 2,
                (8, _) => 128,
                (11, _) => 3,
                (12, _) => 4,
                _ => 1,
            };
            let error = ethernet.ipv6(peer.octets(), stack.octets(), 64).icmpv6_raw(kind, code, rest);
            error.write(&mut frame, &quote[..48]).expect("a packet");
        }
        _ => unreachable!("both ends have addresses of both families"),
    }
    frame
}

/// Who has the stack's address?
pub(super) fn question_frame(v6: bool) -> Vec<u8> {
    let mut frame = vec![0; 90];
    let len = match (address(PEER, v6), address(STACK, v6)) {
        (IpAddr::V4(peer), IpAddr::V4(stack)) => arp::emit_request(&mut frame, PEER_MAC, None, peer, stack),
        (IpAddr::V6(peer), IpAddr::V6(stack)) => ndp::emit_solicitation(&mut frame, PEER_MAC, None, peer, stack),
        _ => unreachable!("both ends have addresses of both families"),
    };
    frame.truncate(len);
    frame
}

/// Makes the IP length and all checksums of an untagged frame fit, as far as its headers let them.
pub(super) fn repair(frame: &mut [u8]) {
    let pseudo_and_upper = match (frame.get(12..14), frame.len()) {
        (Some([0x08, 0x00]), 34..) => repair_ipv4(frame),
        (Some([0x86, 0xdd]), 54..) => {
            let len = (frame.len() - 54) as u16;
            frame[18..20].copy_from_slice(&len.to_be_bytes());
            Some((22..54, 54, frame[20]))
        }
        _ => None,
    };
    let Some((addresses, upper, protocol)) = pseudo_and_upper else { return };
    let at = match protocol {
        6 => upper + 16,
        1 | 58 => upper + 2,
        _ => return,
    };
    if frame.len() < at + 2 {
        return;
    }
    frame[at..at + 2].fill(0);
    // The checksum of ICMP, unlike that of ICMPv6, is its message's alone.
    let pseudo = match protocol {
        1 => 0,
        _ => sum_of(&frame[addresses]) + u32::from(protocol) + (frame.len() - upper) as u32,
    };
    let checksum = folded(pseudo + sum_of(&frame[upper..]));
    frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// RFC 791's checksum of a header whose checksum field is 0.
pub(super) fn header_checksum(header: &[u8]) -> u16 {
    folded(sum_of(header))
}

/// Where the addresses of an IPv4 packet lie, where its upper header begins, and its protocol.
fn repair_ipv4(frame: &mut [u8]) -> Option<(core::ops::Range<usize>, usize, u8)> {
    let upper = 14 + 4 * usize::from(frame[14] & 15);
    if !(34..=frame.len()).contains(&upper) {
        return None;
    }
    let len = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    frame[24..26].fill(0);
    let checksum = header_checksum(&frame[14..upper]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    Some((26..34, upper, frame[23]))
}

fn sum_of(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum()
}

fn folded(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    !((once & 0xffff) + (once >> 16)) as u16
}
