//! Own addresses and next hops.

use super::ConfigError;
use alloc::vec::Vec;
use core::net::IpAddr;

/// One own address with the length of its network's prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalAddress {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network's prefix.
    pub prefix_len: u8,
}

/// The stack's addresses, sorted for look-up, and its gateways.
#[derive(Debug)]
pub(super) struct Routes {
    /// Sorted by address.
    own: Vec<LocalAddress>,
    /// One per network, in the order given: the source of an active open that names none (MUST-44).
    networks: Vec<LocalAddress>,
    gateways: Vec<IpAddr>,
}

impl Routes {
    pub(super) fn new(addresses: &[LocalAddress], gateways: &[IpAddr]) -> Result<Routes, ConfigError> {
        if addresses.is_empty() {
            return Err(ConfigError::NoAddress);
        }
        for own in addresses {
            let bits = if own.address.is_ipv4() { 32 } else { 128 };
            if own.prefix_len > bits || !is_unicast(own.address) {
                return Err(ConfigError::BadAddress(own.address, own.prefix_len));
            }
        }
        let mut networks: Vec<LocalAddress> = Vec::new();
        for own in addresses {
            if !networks.iter().any(|network| network.prefix_len == own.prefix_len && contains(network, own.address)) {
                networks.push(*own);
            }
        }
        let mut own = addresses.to_vec();
        own.sort_by_key(|own| own.address);
        own.dedup_by_key(|own| own.address);
        Ok(Routes { own, networks, gateways: gateways.to_vec() })
    }

    /// Whether the address is the stack's.
    #[inline]
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.own.binary_search_by_key(&address, |own| own.address).is_ok()
    }

    /// Whether the stack has an IPv6 address.
    pub(super) fn has_v6(&self) -> bool {
        self.own.iter().any(|own| own.address.is_ipv6())
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
    fn addresses_that_no_host_has_are_refused() {
        for (text, prefix_len) in
            [("224.0.0.1", 4), ("127.0.0.1", 8), ("0.0.0.0", 0), ("10.0.0.1", 33), ("ff02::1", 64)]
        {
            assert!(Routes::new(&[own(text, prefix_len)], &[]).is_err(), "{text}/{prefix_len}");
        }
        assert_eq!(Routes::new(&[], &[]).err(), Some(ConfigError::NoAddress));
    }

    #[test]
    fn prefix_lengths_0_and_full_do_not_overflow() {
        let any = Routes::new(&[own("10.0.0.2", 0)], &[]).expect("routes");
        assert!(any.next_hop("192.0.2.1".parse().expect("an address")).is_some());
        let host = Routes::new(&[own("10.0.0.2", 32)], &[]).expect("routes");
        assert_eq!(host.next_hop("10.0.0.3".parse().expect("an address")), None);
    }
}
