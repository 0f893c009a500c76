//! The Toeplitz hash of receive-side scaling (RSS): how a NIC chooses the queue of a received packet.
//!
//! The hash is the XOR, over every set bit of the input, of the 32 bits of the key that begin at that bit. So it is linear: each
//! part of a 4-tuple has a share of its own, and the hash is the XOR of the shares. `flow::ports` rests on that.
//!
//! The input is that of a packet **as it arrives here**: source address (the peer's), destination address (ours), source
//! port, destination port, in network order; 12 bytes over IPv4, 36 over IPv6.

use crate::four_tuple::{Addresses, FourTuple};
use core::fmt;

/// The hash under one key, as a table of the shares of every half byte: 4.6 kB.
#[derive(Clone)]
pub struct Toeplitz([[Shares; 2]; INPUT_BYTES]);

/// Shares of the 16 values of one half byte.
type Shares = [u32; 16];

impl Toeplitz {
    /// The hash under `key`. Of a longer key the rest plays no part.
    pub fn new(key: &[u8; KEY_BYTES]) -> Toeplitz {
        let share = |bit: usize, half: usize| {
            (0..4).filter(|at| half & (8 >> at) != 0).fold(0, |share, at| share ^ window(key, bit + at))
        };
        Toeplitz(core::array::from_fn(|byte| [0, 4].map(|at| core::array::from_fn(|half| share(8 * byte + at, half)))))
    }

    /// The hash of a TCP segment of the connection `tuple` that arrives here.
    #[inline]
    pub fn tuple(&self, tuple: &FourTuple) -> u32 {
        let is_v4 = tuple.is_v4();
        self.addresses(&tuple.addresses)
            ^ self.remote_port(is_v4, tuple.remote_port)
            ^ self.local_port(is_v4, tuple.local_port)
    }

    /// The share of both addresses; of a packet without ports it is the whole hash.
    #[inline]
    pub fn addresses(&self, addresses: &Addresses) -> u32 {
        match addresses {
            Addresses::V4 { local, remote } => self.at(0, remote.octets()) ^ self.at(4, local.octets()),
            Addresses::V6 { local, remote } => self.at(0, remote.octets()) ^ self.at(16, local.octets()),
        }
    }

    /// The share of the peer's port.
    #[inline]
    pub fn remote_port(&self, is_v4: bool, port: u16) -> u32 {
        self.at(if is_v4 { 8 } else { 32 }, port.to_be_bytes())
    }

    /// The share of our port.
    #[inline]
    pub fn local_port(&self, is_v4: bool, port: u16) -> u32 {
        self.at(if is_v4 { 10 } else { 34 }, port.to_be_bytes())
    }

    /// The share of `bytes`, which begin at byte `offset` of the input.
    #[inline]
    fn at<const N: usize>(&self, offset: usize, bytes: [u8; N]) -> u32 {
        bytes
            .iter()
            .zip(&self.0[offset..])
            .fold(0, |share, (byte, [high, low])| share ^ high[usize::from(byte >> 4)] ^ low[usize::from(byte & 15)])
    }
}

impl fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Toeplitz")
    }
}

/// The 32 bits of the key that begin at `bit`.
fn window(key: &[u8; KEY_BYTES], bit: usize) -> u32 {
    (bit..bit + 32).fold(0, |window, at| window << 1 | u32::from(key[at / 8] >> (7 - at % 8) & 1))
}

/// Bytes of a key that a hash over IPv6 reads: 36 of input and one window.
pub const KEY_BYTES: usize = 40;

/// The longest input, bytes: two IPv6 addresses and two ports.
const INPUT_BYTES: usize = 36;

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;
    use proptest::prelude::*;

    /// The key and the packets of Microsoft's "Verifying the RSS Hash Calculation": destination, source, hash without
    /// and with ports.
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca,
        0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b,
        0xbe, 0xac, 0x01, 0xfa,
    ];
    const PUBLISHED: [(&str, &str, u32, u32); 8] = [
        ("161.142.100.80:1766", "66.9.149.187:2794", 0x323e_8fc2, 0x51cc_c178),
        ("65.69.140.83:4739", "199.92.111.2:14230", 0xd718_262a, 0xc626_b0ea),
        ("12.22.207.184:38024", "24.19.198.95:12898", 0xd2d0_a5de, 0x5c2b_394a),
        ("209.142.163.6:2217", "38.27.205.30:48228", 0x8298_9176, 0xafc7_327f),
        ("202.188.127.2:1303", "153.39.163.191:44251", 0x5d18_09c5, 0x10e8_28a2),
        ("[3ffe:2501:200:3::1]:1766", "[3ffe:2501:200:1fff::7]:2794", 0x2cc1_8cd5, 0x4020_7d3d),
        ("[ff02::1]:4739", "[3ffe:501:8::260:97ff:fe40:efab]:14230", 0x0f0c_461c, 0xdde5_1bbf),
        ("[fe80::200:f8ff:fe21:67cf]:38024", "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", 0x4b61_e985, 0x02d1_feef),
    ];

    #[test]
    fn published_vectors_of_ipv4_and_ipv6_hold_with_and_without_ports() {
        let toeplitz = Toeplitz::new(&KEY);
        for (local, remote, addresses, whole) in PUBLISHED {
            let (to, from): (SocketAddr, SocketAddr) =
                (local.parse().expect("an end"), remote.parse().expect("an end"));
            let tuple = FourTuple::new(to.ip(), to.port(), from.ip(), from.port());
            assert_eq!(toeplitz.addresses(&tuple.addresses), addresses, "{tuple}");
            assert_eq!(toeplitz.tuple(&tuple), whole, "{tuple}");
        }
    }

    proptest! {
        #[test]
        fn hash_is_that_of_the_definition_bit_by_bit(halves: [[u8; 20]; 2], source: [u8; 16], dest: [u8; 16], ports: [u16; 2]) {
            let key = core::array::from_fn(|at| halves[at / 20][at % 20]);
            let tuple = FourTuple::new(dest.into(), ports[1], source.into(), ports[0]);
            let input = [&source[..], &dest, &ports[0].to_be_bytes(), &ports[1].to_be_bytes()].concat();
            let mut expected = 0;
            for bit in (0..8 * input.len()).filter(|bit| input[bit / 8] >> (7 - bit % 8) & 1 == 1) {
                let five = key[bit / 8..][..5].iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
                expected ^= (five >> (8 - bit % 8)) as u32;
            }
            prop_assert_eq!(Toeplitz::new(&key).tuple(&tuple), expected);
        }
    }
}
