//! Own addresses and next hops.

use super::ConfigError;
use crate::four_tuple::Families;
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

impl LocalAddress {
    /// Whether the network holds `other`.
    pub fn holds(&self, other: IpAddr) -> bool {
        contains(self, other)
    }

    /// Whether a host may have the address: unicast, its prefix no longer than itself, not its network's broadcast address.
    pub fn is_usable(&self) -> bool {
        let bits = if self.address.is_ipv4() { 32 } else { 128 };
        self.prefix_len <= bits && is_unicast(self.address) && !is_broadcast_of(self, self.address)
    }
}

/// The stack's addresses, as ranges for look-up, and its gateways.
#[derive(Debug)]
pub(super) struct Routes {
    /// Own addresses in rising order; those that follow one another are one range, so a block of them is one comparison.
    own_v4: Vec<RangeInclusive<u32>>,
    own_v6: Vec<RangeInclusive<u128>>,
    /// One per network, in the order given: the source of an active open that names none (MUST-44).
    networks: Vec<LocalAddress>,
    gateways: Vec<IpAddr>,
    /// Networks of others, whose addresses connections may have at this end.
    transparent: Vec<LocalAddress>,
}

impl Routes {
    pub(super) fn new(addresses: &[LocalAddress], gateways: &[IpAddr]) -> Result<Routes, ConfigError> {
        if addresses.is_empty() {
            return Err(ConfigError::NoAddress);
        }
        for own in addresses {
            if !own.is_usable() {
                return Err(ConfigError::BadAddress(own.address, own.prefix_len));
            }
        }
        let mut networks: Vec<LocalAddress> = Vec::new();
        for own in addresses {
            if !networks.iter().any(|network| network.prefix_len == own.prefix_len && contains(network, own.address)) {
                networks.push(*own);
            }
        }
        let mut own: Vec<IpAddr> = addresses.iter().map(|own| own.address).collect();
        own.sort();
        let (mut own_v4, mut own_v6) = (Vec::new(), Vec::new());
        for address in own {
            match address {
                IpAddr::V4(v4) => add(&mut own_v4, v4.to_bits(), v4.to_bits().saturating_sub(1)),
                IpAddr::V6(v6) => add(&mut own_v6, v6.to_bits(), v6.to_bits().saturating_sub(1)),
            }
        }
        Ok(Routes { own_v4, own_v6, networks, gateways: gateways.to_vec(), transparent: Vec::new() })
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
    #[inline(never)]
    fn is_transparent(&self, address: IpAddr) -> bool {
        let stands_in = self.transparent.iter().any(|network| contains(network, address));
        stands_in && is_unicast(address) && !self.is_broadcast(address)
    }

    /// Whether the address is the stack's.
    #[inline]
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => is_within(&self.own_v4, v4.to_bits()),
            IpAddr::V6(v6) => is_within(&self.own_v6, v6.to_bits()),
        }
    }

    /// Whether the address is the broadcast address of a network that the stack is on (MUST-46, MUST-57).
    pub(super) fn is_broadcast(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| is_broadcast_of(network, address))
    }

    /// The families that the stack has addresses of.
    pub(super) fn families(&self) -> Families {
        Families { v4: !self.own_v4.is_empty(), v6: !self.own_v6.is_empty() }
    }

    /// The neighbour to send to on the way to `remote`.
    #[inline]
    pub(super) fn next_hop(&self, remote: IpAddr) -> Option<IpAddr> {
        if self.networks.iter().any(|network| contains(network, remote)) {
            return Some(remote);
        }
        self.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == remote.is_ipv4())
    }

    /// The own address on the way to `remote`.
    pub(super) fn source(&self, remote: IpAddr) -> Option<IpAddr> {
        let hop = self.next_hop(remote)?;
        let on_link = self.networks.iter().find(|network| contains(network, hop));
        let any = self.networks.iter().find(|network| network.address.is_ipv4() == remote.is_ipv4());
        on_link.or(any).map(|network| network.address)
    }
}

/// Whether a host may have the address on a wire.
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

    #[test]
    fn next_hop_is_the_neighbour_itself_or_the_gateway_of_its_family() {
        let gateways = ["10.0.0.254".parse().expect("an address")];
        let routes = Routes::new(&[own("10.0.0.2", 24), own("fd00::2", 64)], &gateways).expect("routes");
        let hop = |text: &str| routes.next_hop(text.parse().expect("an address")).map(|hop| alloc::format!("{hop}"));
        assert_eq!(hop("10.0.0.9").as_deref(), Some("10.0.0.9"));
        assert_eq!(hop("192.0.2.1").as_deref(), Some("10.0.0.254"));
        assert_eq!(hop("fd00::9").as_deref(), Some("fd00::9"));
        assert_eq!(hop("2001:db8::1"), None);
        assert_eq!(routes.source("192.0.2.1".parse().expect("an address")), Some("10.0.0.2".parse().expect("it")));
    }

    #[test]
    fn own_addresses_are_those_given_and_no_others() {
        let given = ["10.0.0.9", "10.0.0.1", "10.0.0.3", "10.0.0.2", "10.0.0.2", "fd00::1", "fd00::2", "fd00::4"];
        let routes = Routes::new(&given.map(|text| own(text, 8)), &[]).expect("routes");
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
            assert!(Routes::new(&[own(text, prefix_len)], &[]).is_err(), "{text}/{prefix_len}");
        }
        assert_eq!(Routes::new(&[], &[]).err(), Some(ConfigError::NoAddress));
    }

    #[test]
    fn must_57_the_broadcast_address_of_an_own_network_is_known() {
        let routes = Routes::new(&[own("10.0.0.2", 24), own("10.1.0.2", 31), own("fd00::2", 64)], &[]).expect("routes");
        let is_broadcast = |text: &str| routes.is_broadcast(text.parse().expect("an address"));
        assert!(is_broadcast("10.0.0.255"));
        for text in ["10.0.0.254", "10.0.1.255", "10.1.0.3", "192.0.2.255", "fd00::ffff:ffff:ffff:ffff"] {
            assert!(!is_broadcast(text), "{text}");
        }
        assert!(Routes::new(&[own("10.0.0.255", 24)], &[]).is_err(), "no host has it");
    }

    #[test]
    fn addresses_of_others_are_local_where_the_stack_stands_in_for_them() {
        let routes = Routes::new(&[own("10.0.0.2", 24)], &[]).expect("routes");
        let routes = routes.with_transparent(&[own("192.0.2.0", 24), own("10.0.0.0", 8)]).expect("networks");
        let is_local = |text: &str| routes.is_local(text.parse().expect("an address"));
        for (text, local) in [("10.0.0.2", true), ("192.0.2.9", true), ("10.9.9.9", true), ("192.0.3.9", false)] {
            assert_eq!(is_local(text), local, "{text}");
        }
        assert!(!is_local("10.0.0.255"), "the broadcast address of an own network is nobody's");
        assert!(!routes.is_own("192.0.2.9".parse().expect("an address")));
        for (text, prefix_len) in [("192.0.2.0", 33), ("fd00::", 64)] {
            let routes = Routes::new(&[own("10.0.0.2", 24)], &[]).expect("routes");
            assert!(routes.with_transparent(&[own(text, prefix_len)]).is_err(), "{text}/{prefix_len}");
        }
    }

    #[test]
    fn prefix_lengths_0_and_full_do_not_overflow() {
        let any = Routes::new(&[own("10.0.0.2", 0)], &[]).expect("routes");
        assert!(any.next_hop("192.0.2.1".parse().expect("an address")).is_some());
        let host = Routes::new(&[own("10.0.0.2", 32)], &[]).expect("routes");
        assert_eq!(host.next_hop("10.0.0.3".parse().expect("an address")), None);
    }
}
