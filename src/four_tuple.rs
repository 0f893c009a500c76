//! The name of a connection (behaviour B01).

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A connection's name as this stack sees it: local and remote address and port.
///
/// Both addresses are always of one family; [`FourTuple::new`] is given addresses from one packet or one route.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FourTuple {
    /// Our address.
    pub local: IpAddr,
    /// The peer's address.
    pub remote: IpAddr,
    /// Our port, host order.
    pub local_port: u16,
    /// The peer's port, host order.
    pub remote_port: u16,
}

impl FourTuple {
    /// The 4-tuple of a connection between `local` and `remote`.
    #[inline]
    pub const fn new(local: IpAddr, local_port: u16, remote: IpAddr, remote_port: u16) -> FourTuple {
        FourTuple { local, remote, local_port, remote_port }
    }

    /// The same connection as the peer names it.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> FourTuple {
        FourTuple::new(self.remote, self.remote_port, self.local, self.local_port)
    }

    /// Whether the connection runs over IPv4.
    #[inline]
    pub const fn is_v4(&self) -> bool {
        self.local.is_ipv4()
    }

    /// The 4-tuple as the 12 bytes (IPv4) or 36 bytes (IPv6) that keyed hashes read; the length says how many count.
    #[inline]
    pub fn key_bytes(&self) -> ([u8; 36], usize) {
        let mut key = [0; 36];
        let used = match (self.local, self.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                key[0..4].copy_from_slice(&local.octets());
                key[4..8].copy_from_slice(&remote.octets());
                8
            }
            (local, remote) => {
                key[0..16].copy_from_slice(&v6_octets(local));
                key[16..32].copy_from_slice(&v6_octets(remote));
                32
            }
        };
        key[used..used + 2].copy_from_slice(&self.local_port.to_be_bytes());
        key[used + 2..used + 4].copy_from_slice(&self.remote_port.to_be_bytes());
        (key, used + 4)
    }

    /// Our end.
    pub const fn local_end(&self) -> SocketAddr {
        SocketAddr::new(self.local, self.local_port)
    }

    /// The peer's end.
    pub const fn remote_end(&self) -> SocketAddr {
        SocketAddr::new(self.remote, self.remote_port)
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

const fn v6_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv6Addr;

    #[test]
    fn key_bytes_are_in_network_order_and_distinguish_direction() {
        let tuple = FourTuple::new(Ipv4Addr::new(10, 0, 0, 1).into(), 80, Ipv4Addr::new(10, 0, 0, 2).into(), 0x1234);
        let (key, used) = tuple.key_bytes();
        assert_eq!(&key[..used], &[10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 0x12, 0x34]);
        assert_ne!(tuple.key_bytes().0, tuple.reversed().key_bytes().0);
        assert_eq!(tuple.reversed().reversed(), tuple);
        let v6 = FourTuple::new(Ipv6Addr::LOCALHOST.into(), 1, Ipv6Addr::UNSPECIFIED.into(), 2);
        assert_eq!(v6.key_bytes().1, 36);
    }
}
