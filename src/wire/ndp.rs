//! Neighbour discovery (RFC 4861): solicitations and advertisements. Router discovery and redirects are not spoken.

use super::ethernet::{self, MacAddress};
use super::{Network, PROTOCOL_ICMPV6, Path, emit_headers, icmp, ipv6};
use crate::counters::DropReason;
use crate::four_tuple::Addresses;
use core::net::Ipv6Addr;

/// A valid message (RFC 4861 7.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packet {
    /// Who has the target address?
    Solicitation(Solicitation),
    /// The target address is here.
    Advertisement(Advertisement),
}

/// A neighbour solicitation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Solicitation {
    /// Who put the frame on this wire.
    pub src_mac: MacAddress,
    /// Who asks; unspecified during duplicate address detection (RFC 4862 5.4), which tells nothing about the sender.
    pub src: Ipv6Addr,
    /// The address asked for, unicast.
    pub target: Ipv6Addr,
    /// The source link-layer address option: where `src` is.
    pub source_link: Option<MacAddress>,
}

/// A neighbour advertisement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Advertisement {
    /// Who put the frame on this wire.
    pub src_mac: MacAddress,
    /// Who answers.
    pub src: Ipv6Addr,
    /// The address that the message is about, unicast.
    pub target: Ipv6Addr,
    /// The target link-layer address option: where `target` is. An answer to a unicast question may leave it out.
    pub target_link: Option<MacAddress>,
    /// It answers a solicitation.
    pub solicited: bool,
    /// It may replace what is known.
    pub override_known: bool,
}

/// Whether the ICMPv6 packet is a solicitation or an advertisement.
#[inline]
pub(super) fn is_ndp(frame: &[u8], network: &Network) -> bool {
    let (begin, end) = network.upper;
    matches!(frame[begin..end].first(), Some(&(SOLICITATION | ADVERTISEMENT)))
}

/// Reads a solicitation or an advertisement and checks it as RFC 4861 7.1 says.
pub(super) fn parse(frame: &[u8], network: &Network, header: &ipv6::Header) -> Result<Packet, DropReason> {
    let message = icmp::checked(frame, network, network.pseudo).map_err(|reason| match reason {
        DropReason::Icmp => DropReason::Ndp,
        other => other,
    })?;
    if header.hop_limit != HOP_LIMIT || message[1] != 0 || message.len() < MESSAGE_BYTES {
        return Err(DropReason::Ndp);
    }
    let target = ipv6::address(message, 8);
    if !ipv6::is_unicast(target) {
        return Err(DropReason::Ndp);
    }
    let (src_mac, src) = (network.src_mac, header.src);
    if message[0] == SOLICITATION {
        let source_link = link_option(&message[MESSAGE_BYTES..], SOURCE_LINK)?;
        let valid = if src.is_unspecified() {
            header.dst == solicited_node(target) && source_link.is_none()
        } else {
            ipv6::is_unicast(src)
        };
        let packet = Packet::Solicitation(Solicitation { src_mac, src, target, source_link });
        return if valid { Ok(packet) } else { Err(DropReason::Ndp) };
    }
    let target_link = link_option(&message[MESSAGE_BYTES..], TARGET_LINK)?;
    let (solicited, override_known) = (message[4] & SOLICITED != 0, message[4] & OVERRIDE != 0);
    if !ipv6::is_unicast(src) || (solicited && header.dst.is_multicast()) {
        return Err(DropReason::Ndp);
    }
    Ok(Packet::Advertisement(Advertisement { src_mac, src, target, target_link, solicited, override_known }))
}

/// Writes a frame that asks who has `target`, to its solicited-node group; returns the frame's length. Panics if
/// `frame` is shorter than 90 bytes.
pub fn emit_solicitation(
    frame: &mut [u8],
    src_mac: MacAddress,
    vlan: Option<u16>,
    src: Ipv6Addr,
    target: Ipv6Addr,
) -> usize {
    let dst = solicited_node(target);
    let path = path(src_mac, group_mac(dst), vlan, src, dst);
    emit(frame, &path, [SOLICITATION, 0], target, SOURCE_LINK)
}

/// Writes a frame that asks whether anybody has `target`, from no address and so without a link-layer address (RFC 4862
/// 5.4.2); returns the frame's length. Panics if `frame` is shorter than 82 bytes.
pub fn emit_probe(frame: &mut [u8], src_mac: MacAddress, vlan: Option<u16>, target: Ipv6Addr) -> usize {
    let dst = solicited_node(target);
    let path = path(src_mac, group_mac(dst), vlan, Ipv6Addr::UNSPECIFIED, dst);
    let (begin, pseudo) = emit_headers(frame, &path, PROTOCOL_ICMPV6, MESSAGE_BYTES);
    let message = &mut frame[begin..begin + MESSAGE_BYTES];
    message[..8].copy_from_slice(&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
    message[8..24].copy_from_slice(&target.octets());
    let checksum = pseudo.bytes(message).finish();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    ethernet::pad(frame, begin + MESSAGE_BYTES)
}

/// Writes the answer to `solicitation`: its target is at `mac`. Returns the frame's length; panics if `frame` is
/// shorter than 90 bytes. `frame` may be the one that brought the question.
///
/// The answer goes back to where the frame came from; one to duplicate address detection goes to all nodes
/// (RFC 4861 7.2.4).
pub fn emit_advertisement(frame: &mut [u8], solicitation: &Solicitation, mac: MacAddress, vlan: Option<u16>) -> usize {
    let target = solicitation.target;
    let (path, flags) = if solicitation.src.is_unspecified() {
        (path(mac, group_mac(ALL_NODES), vlan, target, ALL_NODES), OVERRIDE)
    } else {
        (path(mac, solicitation.src_mac, vlan, target, solicitation.src), SOLICITED | OVERRIDE)
    };
    emit(frame, &path, [ADVERTISEMENT, flags], target, TARGET_LINK)
}

/// The group in which the owner of `target` listens (RFC 4291 2.7.1).
pub const fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(SOLICITED_NODE.to_bits() | (target.to_bits() & 0xff_ffff))
}

/// The Ethernet address of a multicast group (RFC 2464 7).
pub const fn group_mac(group: Ipv6Addr) -> MacAddress {
    let [.., a, b, c, d] = group.octets();
    MacAddress([0x33, 0x33, a, b, c, d])
}

fn emit(frame: &mut [u8], path: &Path, [kind, flags]: [u8; 2], target: Ipv6Addr, option: u8) -> usize {
    let (begin, pseudo) = emit_headers(frame, path, PROTOCOL_ICMPV6, MESSAGE_BYTES + LINK_OPTION_BYTES);
    let message = &mut frame[begin..begin + MESSAGE_BYTES + LINK_OPTION_BYTES];
    message[..8].copy_from_slice(&[kind, 0, 0, 0, flags, 0, 0, 0]);
    message[8..24].copy_from_slice(&target.octets());
    message[24..26].copy_from_slice(&[option, 1]);
    message[26..32].copy_from_slice(&path.src_mac.0);
    let checksum = pseudo.bytes(message).finish();
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    ethernet::pad(frame, begin + MESSAGE_BYTES + LINK_OPTION_BYTES)
}

fn path(src_mac: MacAddress, dst_mac: MacAddress, vlan: Option<u16>, src: Ipv6Addr, dst: Ipv6Addr) -> Path {
    Path { src_mac, dst_mac, vlan, addresses: Addresses::V6 { local: src, remote: dst }, ttl: HOP_LIMIT, dscp_ecn: 0 }
}

/// The Ethernet address in the option `kind`, if there is one. Every option must have a length (RFC 4861 7.1); each
/// step consumes 8 bytes at least.
fn link_option(mut options: &[u8], kind: u8) -> Result<Option<MacAddress>, DropReason> {
    let mut link = None;
    while !options.is_empty() {
        let len = options.get(1).map_or(0, |units| usize::from(*units) * 8);
        let option = options.get(..len).ok_or(DropReason::Ndp)?;
        match option {
            [] => return Err(DropReason::Ndp),
            [found, 1, a, b, c, d, e, f] if *found == kind => link = Some(MacAddress([*a, *b, *c, *d, *e, *f])),
            _ => {}
        }
        options = &options[len..];
    }
    // A group is nobody's place.
    if link.is_some_and(MacAddress::is_multicast) { Err(DropReason::Ndp) } else { Ok(link) }
}

/// Any other shows that the message has passed a router (RFC 4861 7.1).
const HOP_LIMIT: u8 = 255;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const SOLICITED_NODE: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0);
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const SOURCE_LINK: u8 = 1;
const TARGET_LINK: u8 = 2;
/// Bytes of a message up to its options.
const MESSAGE_BYTES: usize = 24;
/// Bytes of a link-layer address option for Ethernet.
const LINK_OPTION_BYTES: usize = 8;
