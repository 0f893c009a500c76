//! The name of a connection (behaviour B01).

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The addresses of a connection or a packet, of one family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Addresses {
    /// IPv4.
    V4 {
        /// Ours; in a packet on its way out, its source.
        local: Ipv4Addr,
        /// The peer's.
        remote: Ipv4Addr,
    },
    /// IPv6.
    V6 {
        /// Ours; in a packet on its way out, its source.
        local: Ipv6Addr,
        /// The peer's.
        remote: Ipv6Addr,
    },
}

impl Addresses {
    /// The pair of two addresses of one family. One of each, which no packet has, becomes a pair of IPv6.
    #[inline]
    pub const fn new(local: IpAddr, remote: IpAddr) -> Addresses {
        match (local, remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => Addresses::V4 { local, remote },
            (local, remote) => Addresses::V6 { local: to_v6(local), remote: to_v6(remote) },
        }
    }

    /// Our address.
    #[inline]
    pub const fn local(&self) -> IpAddr {
        match *self {
            Addresses::V4 { local, .. } => IpAddr::V4(local),
            Addresses::V6 { local, .. } => IpAddr::V6(local),
        }
    }

    /// The peer's address.
    #[inline]
    pub const fn remote(&self) -> IpAddr {
        match *self {
            Addresses::V4 { remote, .. } => IpAddr::V4(remote),
            Addresses::V6 { remote, .. } => IpAddr::V6(remote),
        }
    }

    /// The same pair as the peer sees it.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> Addresses {
        match self {
            Addresses::V4 { local, remote } => Addresses::V4 { local: remote, remote: local },
            Addresses::V6 { local, remote } => Addresses::V6 { local: remote, remote: local },
        }
    }

    /// Whether the pair is of IPv4.
    #[inline]
    pub const fn is_v4(&self) -> bool {
        matches!(self, Addresses::V4 { .. })
    }
}

/// The families that a stack has addresses of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Families {
    /// IPv4 alone.
    pub const V4: Families = Families { v4: true, v6: false };
    /// IPv6 alone.
    pub const V6: Families = Families { v4: false, v6: true };
    /// Both.
    pub const BOTH: Families = Families { v4: true, v6: true };
}

/// A connection's name as this stack sees it: local and remote address and port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FourTuple {
    /// Both addresses.
    pub addresses: Addresses,
    /// Our port, host order.
    pub local_port: u16,
    /// The peer's port, host order.
    pub remote_port: u16,
}

/// The words of [`FourTuple::key_words`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyWords {
    /// 12 bytes: both addresses, both ports.
    V4([u64; 2]),
    /// 36 bytes: each address in two words, both ports.
    V6([u64; 5]),
}

impl FourTuple {
    /// The 4-tuple of a connection between `local` and `remote`, which are of one family.
    #[inline]
    pub const fn new(local: IpAddr, local_port: u16, remote: IpAddr, remote_port: u16) -> FourTuple {
        FourTuple { addresses: Addresses::new(local, remote), local_port, remote_port }
    }

    /// Our address.
    #[inline]
    pub const fn local(&self) -> IpAddr {
        self.addresses.local()
    }

    /// The peer's address.
    #[inline]
    pub const fn remote(&self) -> IpAddr {
        self.addresses.remote()
    }

    /// The same connection as the peer names it.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> FourTuple {
        let FourTuple { addresses, local_port, remote_port } = self;
        FourTuple { addresses: addresses.reversed(), local_port: remote_port, remote_port: local_port }
    }

    /// Whether the connection runs over IPv4.
    #[inline]
    pub const fn is_v4(&self) -> bool {
        self.addresses.is_v4()
    }

    /// What keyed hashes read: addresses and ports in network order, as little-endian words.
    #[inline]
    pub const fn key_words(&self) -> KeyWords {
        let ports = (self.local_port.swap_bytes() as u64) | (self.remote_port.swap_bytes() as u64) << 16;
        match self.addresses {
            Addresses::V4 { local, remote } => KeyWords::V4([v4_word(local) | v4_word(remote) << 32, ports]),
            Addresses::V6 { local, remote } => {
                let (local, remote) = (v6_words(local), v6_words(remote));
                KeyWords::V6([local[0], local[1], remote[0], remote[1], ports])
            }
        }
    }

    /// Our end.
    pub const fn local_end(&self) -> SocketAddr {
        SocketAddr::new(self.local(), self.local_port)
    }

    /// The peer's end.
    pub const fn remote_end(&self) -> SocketAddr {
        SocketAddr::new(self.remote(), self.remote_port)
    }
}

impl Default for FourTuple {
    fn default() -> FourTuple {
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        FourTuple::new(nobody, 0, nobody, 0)
    }
}

impl fmt::Display for FourTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <-> {}", self.local_end(), self.remote_end())
    }
}

const fn to_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// The address's bytes in network order, read as a little-endian word.
#[inline]
const fn v4_word(address: Ipv4Addr) -> u64 {
    u32::from_le_bytes(address.octets()) as u64
}

#[inline]
const fn v6_words(address: Ipv6Addr) -> [u64; 2] {
    let bits = u128::from_le_bytes(address.octets());
    [bits as u64, (bits >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_words_are_in_network_order_and_distinguish_direction() {
        let tuple = FourTuple::new(Ipv4Addr::new(10, 0, 0, 1).into(), 80, Ipv4Addr::new(10, 0, 0, 2).into(), 0x1234);
        let words = [[10, 0, 0, 1, 10, 0, 0, 2], [0, 80, 0x12, 0x34, 0, 0, 0, 0]].map(u64::from_le_bytes);
        assert_eq!(tuple.key_words(), KeyWords::V4(words));
        assert_ne!(tuple.key_words(), tuple.reversed().key_words());
        assert_eq!(tuple.reversed().reversed(), tuple);
        let v6 = FourTuple::new(Ipv6Addr::LOCALHOST.into(), 1, Ipv6Addr::UNSPECIFIED.into(), 2);
        assert_eq!(v6.key_words(), KeyWords::V6([0, 1 << 56, 0, 0, 0x0200_0100]));
    }

    #[test]
    fn addresses_of_two_families_become_a_pair_of_ipv6() {
        let (v4, v6) = (Ipv4Addr::new(10, 0, 0, 1), Ipv6Addr::LOCALHOST);
        let pair = Addresses::new(v4.into(), v6.into());
        assert_eq!((pair.is_v4(), pair.local(), pair.remote()), (false, v4.to_ipv6_mapped().into(), v6.into()));
    }
}
