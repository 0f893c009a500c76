//! Own addresses and next hops.

use super::ConfigError;
use crate::four_tuple::Families;
use crate::limits::INTERFACES_MAX;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::ops::RangeInclusive;

/// One own address with the length of its network's prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalAddress {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network's prefix.
    pub prefix_len: u8,
}

/// What the stack has on one interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attachment {
    /// The stack's addresses there, at least one. No other interface has their networks, nor a part of them.
    pub addresses: Vec<LocalAddress>,
    /// Next hops there for everything beyond all interfaces' networks, at most one per family.
    pub gateways: Vec<IpAddr>,
    /// The VLAN that the stack is on there.
    pub vlan: Option<u16>,
}

impl LocalAddress {
    /// Whether the network holds `other`.
    pub fn holds(&self, other: IpAddr) -> bool {
        contains(self, other)
    }

    /// Whether `other` is the network's broadcast address.
    ///
    /// The network's own address is not. RFC 1122 3.2.1.3 gives it to no host, but does not name it a broadcast address, and Linux has let hosts have
    /// it since 5.14. What is sent to such a peer goes to one host, if to any: it is a peer as others.
    pub fn is_broadcast(&self, other: IpAddr) -> bool {
        is_broadcast_of(self, other)
    }

    /// Whether the stack may have the address: unicast, its prefix no longer than itself, neither its network's broadcast address
    /// nor the network's own, which older hosts take for one (RFC 1122 3.3.6).
    pub fn is_usable(&self) -> bool {
        let bits = if self.address.is_ipv4() { 32 } else { 128 };
        self.prefix_len <= bits
            && is_unicast(self.address)
            && !is_broadcast_of(self, self.address)
            && !self.is_network()
    }

    /// Whether the host part is all zeros, which names the network (RFC 1122 3.2.1.3). A prefix of 31 or 32 bits leaves none (RFC 3021).
    fn is_network(&self) -> bool {
        match self.address {
            IpAddr::V4(v4) => self.prefix_len < 31 && v4.to_bits() & (u32::MAX >> self.prefix_len) == 0,
            IpAddr::V6(_) => false,
        }
    }
}

/// The stack's addresses, as ranges for look-up, and its gateways.
#[derive(Debug)]
pub(super) struct Routes {
    /// Own addresses in rising order; those that follow one another are one range, so a block of them is one comparison.
    own_v4: Vec<RangeInclusive<u32>>,
    own_v6: Vec<RangeInclusive<u128>>,
    /// One per network, in the order given, with its interface: the source of an active open that names none (MUST-44).
    networks: Vec<(LocalAddress, u8)>,
    /// With their interfaces.
    gateways: Vec<(IpAddr, u8)>,
    /// Networks of others, whose addresses connections may have at this end.
    transparent: Vec<LocalAddress>,
}

impl Routes {
    /// The routes of a stack that has `attachments`, by number of the interface.
    pub(super) fn new(attachments: &[Attachment]) -> Result<Routes, ConfigError> {
        let configured = attachments.len();
        if configured > INTERFACES_MAX {
            return Err(ConfigError::Interfaces { links: configured, configured });
        }
        let mut networks: Vec<(LocalAddress, u8)> = Vec::new();
        let mut gateways = Vec::new();
        for (attachment, interface) in attachments.iter().zip(0..) {
            add_networks(&mut networks, &attachment.addresses, interface)?;
            for gateway in &attachment.gateways {
                if attachments.len() > 1 && !attachment.addresses.iter().any(|own| contains(own, *gateway)) {
                    return Err(ConfigError::GatewayElsewhere(*gateway));
                }
                gateways.push((*gateway, interface));
            }
        }
        let all = attachments.iter().flat_map(|attachment| &attachment.addresses);
        let mut own: Vec<IpAddr> = all.map(|own| own.address).collect();
        own.sort();
        let (mut own_v4, mut own_v6) = (Vec::new(), Vec::new());
        for address in own {
            match address {
                IpAddr::V4(v4) => add(&mut own_v4, v4.to_bits(), v4.to_bits().saturating_sub(1)),
                IpAddr::V6(v6) => add(&mut own_v6, v6.to_bits(), v6.to_bits().saturating_sub(1)),
            }
        }
        Ok(Routes { own_v4, own_v6, networks, gateways, transparent: Vec::new() })
    }

    /// Whether the stack has an IPv6 address on interface number `interface`.
    pub(super) fn has_v6_on(&self, interface: u8) -> bool {
        self.networks.iter().any(|(network, on)| *on == interface && network.address.is_ipv6())
    }

    /// The same, with networks of others, each of a family of which the stack has an address.
    pub(super) fn with_transparent(self, transparent: &[LocalAddress]) -> Result<Routes, ConfigError> {
        for network in transparent {
            let (bits, has_own) = match network.address {
                IpAddr::V4(_) => (32, !self.own_v4.is_empty()),
                IpAddr::V6(_) => (128, !self.own_v6.is_empty()),
            };
            if network.prefix_len > bits || !has_own {
                return Err(ConfigError::BadTransparent(network.address, network.prefix_len));
            }
        }
        Ok(Routes { transparent: transparent.to_vec(), ..self })
    }

    /// Whether connections may have the address at this end: the stack's, or one of those that it stands in for.
    #[inline]
    pub(super) fn is_local(&self, address: IpAddr) -> bool {
        self.is_own(address) || self.is_transparent(address)
    }

    /// Whether the address is another's, and the stack stands in for it.
    #[cold]
    #[inline(never)]
    fn is_transparent(&self, address: IpAddr) -> bool {
        let stands_in = self.transparent.iter().any(|network| contains(network, address));
        stands_in && is_unicast(address) && !self.is_broadcast(address)
    }

    /// Whether there is any address of a family that the stack stands in for.
    pub(super) fn stands_in(&self, is_v4: bool) -> bool {
        self.transparent.iter().any(|network| network.address.is_ipv4() == is_v4)
    }

    /// Whether the address is the stack's.
    #[inline]
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => is_within(&self.own_v4, v4.to_bits()),
            IpAddr::V6(v6) => is_within(&self.own_v6, v6.to_bits()),
        }
    }

    /// Whether the address is the broadcast address of a network that the stack is on (MUST-46, MUST-57;
    /// [`LocalAddress::is_broadcast`]).
    #[inline]
    pub(super) fn is_broadcast(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|(network, _)| is_broadcast_of(network, address))
    }

    /// The families that the stack has addresses of.
    pub(super) fn families(&self) -> Families {
        Families { v4: !self.own_v4.is_empty(), v6: !self.own_v6.is_empty() }
    }

    /// The interface on whose network the address is: that of an own address, or of a neighbour. The first where it is on none.
    pub(super) fn interface_of(&self, address: IpAddr) -> u8 {
        self.networks.iter().find(|(network, _)| contains(network, address)).map_or(0, |(_, interface)| *interface)
    }

    /// The neighbour to send to on the way to `remote`, of which interface [`Routes::interface_of`] tells: itself on an
    /// own network, else a gateway, first that of the interface of `local`.
    #[inline]
    pub(super) fn next_hop(&self, local: Option<IpAddr>, remote: IpAddr) -> Option<IpAddr> {
        if self.networks.iter().any(|(network, _)| contains(network, remote)) {
            return Some(remote);
        }
        let near = local.filter(|_| self.gateways.len() > 1).map(|local| self.interface_of(local));
        let of_family = || self.gateways.iter().filter(|(gateway, _)| gateway.is_ipv4() == remote.is_ipv4());
        let found = of_family().find(|(_, interface)| Some(*interface) == near).or_else(|| of_family().next());
        found.map(|(gateway, _)| *gateway)
    }

    /// The own address on the way to `remote`.
    pub(super) fn source(&self, remote: IpAddr) -> Option<IpAddr> {
        let hop = self.next_hop(None, remote)?;
        let on_link = self.networks.iter().find(|(network, _)| contains(network, hop));
        let any = self.networks.iter().find(|(network, _)| network.address.is_ipv4() == remote.is_ipv4());
        on_link.or(any).map(|(network, _)| network.address)
    }
}

/// Adds the networks of interface number `interface`, none of which may have a part of another one's.
fn add_networks(
    networks: &mut Vec<(LocalAddress, u8)>,
    addresses: &[LocalAddress],
    interface: u8,
) -> Result<(), ConfigError> {
    if addresses.is_empty() {
        return Err(ConfigError::NoAddress);
    }
    for own in addresses {
        if !own.is_usable() {
            return Err(ConfigError::BadAddress(own.address, own.prefix_len));
        }
        let shared = networks
            .iter()
            .find(|(network, other)| *other != interface && overlap(network, own))
            .map(|(network, _)| network);
        if let Some(network) = shared {
            return Err(ConfigError::Overlap(network.address, network.prefix_len, own.address, own.prefix_len));
        }
        let same = |network: &LocalAddress| network.prefix_len == own.prefix_len && contains(network, own.address);
        if !networks.iter().any(|(network, _)| same(network)) {
            networks.push((*own, interface));
        }
    }
    Ok(())
}

/// Whether one network holds the other.
fn overlap(a: &LocalAddress, b: &LocalAddress) -> bool {
    let (wide, narrow) = if a.prefix_len <= b.prefix_len { (a, b) } else { (b, a) };
    contains(wide, narrow.address)
}

/// Whether a host may have the address on a wire.
#[inline]
pub(super) fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_loopback()
                || v4.octets()[0] == 0
                || v4.octets()[0] >= 240)
        }
        IpAddr::V6(v6) => {
            !(v6.is_multicast() || v6.is_unspecified() || v6.is_loopback() || v6.to_ipv4_mapped().is_some())
        }
    }
}

/// Adds an address to ranges that end before it or with it; `before` is the one before it.
fn add<A: Copy + PartialOrd>(ranges: &mut Vec<RangeInclusive<A>>, address: A, before: A) {
    match ranges.last_mut() {
        Some(last) if *last.end() >= before => *last = *last.start()..=address,
        Some(_) | None => ranges.push(address..=address),
    }
}

#[inline]
fn is_within<A: PartialOrd>(ranges: &[RangeInclusive<A>], address: A) -> bool {
    match ranges {
        [only] => only.contains(&address),
        _ => is_within_any(ranges, address),
    }
}

#[inline(never)]
fn is_within_any<A: PartialOrd>(ranges: &[RangeInclusive<A>], address: A) -> bool {
    let begun = ranges.partition_point(|range| *range.start() <= address);
    ranges[..begun].last().is_some_and(|range| *range.end() >= address)
}

#[inline]
fn contains(network: &LocalAddress, address: IpAddr) -> bool {
    match (network.address, address) {
        (IpAddr::V4(network_v4), IpAddr::V4(address)) => {
            let shift = 32 - u32::from(network.prefix_len);
            (network_v4.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V6(network_v6), IpAddr::V6(address)) => {
            let shift = 128 - u32::from(network.prefix_len);
            (network_v6.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// Whether the address is the network's, its host part all ones. A prefix of 31 or 32 bits leaves none (RFC 3021).
fn is_broadcast_of(network: &LocalAddress, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) if network.prefix_len < 31 && contains(network, address) => {
            let host = u32::MAX >> network.prefix_len;
            v4.to_bits() & host == host
        }
        IpAddr::V4(_) | IpAddr::V6(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(text: &str, prefix_len: u8) -> LocalAddress {
        LocalAddress { address: text.parse().expect("an address"), prefix_len }
    }

    /// The routes of a stack on one interface.
    fn alone(addresses: &[LocalAddress], gateways: &[IpAddr]) -> Result<Routes, ConfigError> {
        Routes::new(&[Attachment { addresses: addresses.to_vec(), gateways: gateways.to_vec(), vlan: None }])
    }

    #[test]
    fn more_interfaces_than_a_stack_can_have_are_an_error() {
        for count in [INTERFACES_MAX + 1, 256, 1000] {
            let attachment = |at: usize| {
                let address = core::net::Ipv4Addr::from_bits(0x0a00_0001 + ((at as u32) << 8)).into();
                Attachment { addresses: vec![LocalAddress { address, prefix_len: 24 }], ..Attachment::default() }
            };
            let attachments: Vec<_> = (0..count).map(attachment).collect();
            assert!(Routes::new(&attachments[..INTERFACES_MAX]).is_ok());
            let refused = Routes::new(&attachments).map(|_| ());
            assert_eq!(refused, Err(ConfigError::Interfaces { links: count, configured: count }));
        }
    }

    #[test]
    fn next_hop_is_the_neighbour_itself_or_the_gateway_of_its_family() {
        let gateways = ["10.0.0.254".parse().expect("an address")];
        let routes = alone(&[own("10.0.0.2", 24), own("fd00::2", 64)], &gateways).expect("routes");
        let hop =
            |text: &str| routes.next_hop(None, text.parse().expect("an address")).map(|hop| alloc::format!("{hop}"));
        assert_eq!(hop("10.0.0.9").as_deref(), Some("10.0.0.9"));
        assert_eq!(hop("192.0.2.1").as_deref(), Some("10.0.0.254"));
        assert_eq!(hop("fd00::9").as_deref(), Some("fd00::9"));
        assert_eq!(hop("2001:db8::1"), None);
        assert_eq!(routes.source("192.0.2.1".parse().expect("an address")), Some("10.0.0.2".parse().expect("it")));
    }

    #[test]
    fn own_addresses_are_those_given_and_no_others() {
        let given = ["10.0.0.9", "10.0.0.1", "10.0.0.3", "10.0.0.2", "10.0.0.2", "fd00::1", "fd00::2", "fd00::4"];
        let routes = alone(&given.map(|text| own(text, 8)), &[]).expect("routes");
        assert_eq!((routes.own_v4.len(), routes.own_v6.len(), routes.families()), (2, 2, Families::BOTH));
        for last in 0..=15 {
            let is_own = |text: alloc::string::String| routes.is_own(text.parse().expect("an address"));
            assert_eq!(is_own(alloc::format!("10.0.0.{last}")), matches!(last, 1..=3 | 9), "10.0.0.{last}");
            assert_eq!(is_own(alloc::format!("fd00::{last:x}")), matches!(last, 1 | 2 | 4), "fd00::{last:x}");
        }
    }

    #[test]
    fn addresses_that_no_host_has_are_refused() {
        for (text, prefix_len) in
            [("224.0.0.1", 4), ("127.0.0.1", 8), ("0.0.0.0", 0), ("10.0.0.1", 33), ("ff02::1", 64)]
        {
            assert!(alone(&[own(text, prefix_len)], &[]).is_err(), "{text}/{prefix_len}");
        }
        assert_eq!(alone(&[], &[]).err(), Some(ConfigError::NoAddress));
    }

    #[test]
    fn must_57_the_broadcast_address_of_an_own_network_is_known() {
        let routes = alone(&[own("10.0.0.2", 24), own("10.1.0.2", 31), own("fd00::2", 64)], &[]).expect("routes");
        let is_broadcast = |text: &str| routes.is_broadcast(text.parse().expect("an address"));
        assert!(is_broadcast("10.0.0.255"));
        for text in ["10.0.0.254", "10.0.0.0", "10.0.1.255", "10.1.0.3", "192.0.2.255", "fd00::ffff:ffff:ffff:ffff"] {
            assert!(!is_broadcast(text), "{text}");
        }
        assert!(alone(&[own("10.0.0.255", 24)], &[]).is_err(), "no host has it");
    }

    #[test]
    fn stack_has_neither_the_first_nor_the_last_address_of_a_network_but_on_a_link_of_two() {
        for (text, prefix_len, usable) in [
            ("10.9.0.0", 24, false),
            ("10.9.0.255", 24, false),
            ("10.9.0.4", 30, false),
            ("10.9.1.0", 16, true),
            ("10.9.0.0", 31, true),
            ("10.9.0.1", 31, true),
            ("10.9.0.0", 32, true),
            ("10.9.0.2", 0, true),
            ("10.9.0.2", 33, false),
            ("fd00::", 64, true),
        ] {
            assert_eq!(own(text, prefix_len).is_usable(), usable, "{text}/{prefix_len}");
            assert_eq!(alone(&[own(text, prefix_len)], &[]).is_ok(), usable, "{text}/{prefix_len}");
        }
    }

    #[test]
    fn addresses_of_others_are_local_where_the_stack_stands_in_for_them() {
        let routes = alone(&[own("10.0.0.2", 24)], &[]).expect("routes");
        let routes = routes.with_transparent(&[own("192.0.2.0", 24), own("10.0.0.0", 8)]).expect("networks");
        let is_local = |text: &str| routes.is_local(text.parse().expect("an address"));
        for (text, local) in [("10.0.0.2", true), ("192.0.2.9", true), ("10.9.9.9", true), ("192.0.3.9", false)] {
            assert_eq!(is_local(text), local, "{text}");
        }
        assert!(!is_local("10.0.0.255"), "the broadcast address of an own network is nobody's");
        assert!(!routes.is_own("192.0.2.9".parse().expect("an address")));
        for (text, prefix_len) in [("192.0.2.0", 33), ("fd00::", 64)] {
            let routes = alone(&[own("10.0.0.2", 24)], &[]).expect("routes");
            assert!(routes.with_transparent(&[own(text, prefix_len)]).is_err(), "{text}/{prefix_len}");
        }
    }

    #[test]
    fn prefix_lengths_0_and_full_do_not_overflow() {
        let any = alone(&[own("10.0.0.2", 0)], &[]).expect("routes");
        assert!(any.next_hop(None, "192.0.2.1".parse().expect("an address")).is_some());
        let host = alone(&[own("10.0.0.2", 32)], &[]).expect("routes");
        assert_eq!(host.next_hop(None, "10.0.0.3".parse().expect("an address")), None);
    }

    fn attachment(addresses: &[(&str, u8)], gateways: &[&str]) -> Attachment {
        let addresses = addresses.iter().map(|(text, prefix_len)| own(text, *prefix_len)).collect();
        let gateways = gateways.iter().map(|text| text.parse().expect("an address")).collect();
        Attachment { addresses, gateways, vlan: None }
    }

    #[test]
    fn interface_is_that_of_the_own_network_else_of_a_gateway_first_that_of_the_local_address() {
        let routes = Routes::new(&[
            attachment(&[("10.0.0.2", 24), ("fd00::2", 64)], &["10.0.0.254"]),
            attachment(&[("10.1.0.2", 24)], &["10.1.0.254"]),
        ])
        .expect("routes");
        let address = |text: &str| text.parse().expect("an address");
        let hop = |local: Option<&str>, remote: &str| {
            let hop = routes.next_hop(local.map(address), address(remote))?;
            Some((alloc::format!("{hop}"), routes.interface_of(hop)))
        };
        for local in [None, Some("10.0.0.2"), Some("10.1.0.2")] {
            assert_eq!(hop(local, "10.1.0.9"), Some(("10.1.0.9".into(), 1)), "its own network comes first");
        }
        assert_eq!(hop(None, "192.0.2.1"), Some(("10.0.0.254".into(), 0)));
        assert_eq!(hop(Some("10.1.0.2"), "192.0.2.1"), Some(("10.1.0.254".into(), 1)));
        assert_eq!(routes.source(address("10.1.0.9")), Some(address("10.1.0.2")));
        assert_eq!(hop(None, "2001:db8::1"), None);
    }

    #[test]
    fn interfaces_whose_networks_overlap_are_refused_and_gateways_beyond_theirs() {
        let first = attachment(&[("10.0.0.2", 24)], &[]);
        for (text, prefix_len) in [("10.0.0.2", 24), ("10.0.0.3", 32), ("10.9.9.9", 8)] {
            let routes = Routes::new(&[first.clone(), attachment(&[(text, prefix_len)], &[])]);
            let expected = ConfigError::Overlap(own("10.0.0.2", 24).address, 24, own(text, 0).address, prefix_len);
            assert_eq!(routes.err(), Some(expected));
        }
        let second = attachment(&[("10.1.0.2", 24)], &["10.0.0.254"]);
        let elsewhere = ConfigError::GatewayElsewhere(second.gateways[0]);
        assert_eq!(Routes::new(&[first.clone(), second]).err(), Some(elsewhere));
        assert_eq!(Routes::new(&[first, attachment(&[], &[])]).err(), Some(ConfigError::NoAddress));
    }
}
