//! SipHash-1-3 of a 4-tuple, straight from the addresses to words: half the time of hashing the same bytes from memory,
//! and it is paid for every segment. The value is that of SipHash-1-3 over [`FourTuple::key_bytes`].

use crate::four_tuple::FourTuple;
use core::net::{IpAddr, Ipv4Addr};

/// The state that the secret key makes of SipHash's constants.
#[derive(Clone, Copy)]
pub(super) struct KeyedHash([u64; 4]);

impl KeyedHash {
    /// The hash under `key`, which must be secret and random.
    pub(super) const fn new(key: (u64, u64)) -> KeyedHash {
        KeyedHash([START[0] ^ key.0, START[1] ^ key.1, START[2] ^ key.0, START[3] ^ key.1])
    }

    /// The hash of a 4-tuple.
    #[inline]
    pub(super) fn hash(&self, tuple: &FourTuple) -> u64 {
        let ports = u64::from(tuple.local_port.swap_bytes()) | u64::from(tuple.remote_port.swap_bytes()) << 16;
        match (tuple.local, tuple.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                self.finish([v4_word(local) | v4_word(remote) << 32, ports | V4_BYTES << 56])
            }
            _ => {
                let (key, _) = tuple.key_bytes();
                let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|byte| key[at + byte]));
                self.finish([word(0), word(8), word(16), word(24), ports | V6_BYTES << 56])
            }
        }
    }

    #[inline]
    fn finish<const WORDS: usize>(&self, words: [u64; WORDS]) -> u64 {
        let mut v = self.0;
        for word in words {
            v[3] ^= word;
            v = round(v);
            v[0] ^= word;
        }
        v[2] ^= 0xff;
        v = round(round(round(v)));
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }
}

/// SipRound, in the names of the paper's figure.
#[inline]
const fn round([mut v0, mut v1, mut v2, mut v3]: [u64; 4]) -> [u64; 4] {
    v0 = v0.wrapping_add(v1);
    v2 = v2.wrapping_add(v3);
    v1 = v1.rotate_left(13) ^ v0;
    v3 = v3.rotate_left(16) ^ v2;
    v0 = v0.rotate_left(32).wrapping_add(v3);
    v2 = v2.wrapping_add(v1);
    v3 = v3.rotate_left(21) ^ v0;
    v1 = v1.rotate_left(17) ^ v2;
    [v0, v1, v2.rotate_left(32), v3]
}

/// The address's bytes in network order, read as a little-endian word.
#[inline]
fn v4_word(address: Ipv4Addr) -> u64 {
    u64::from(u32::from_le_bytes(address.octets()))
}

/// "somepseudorandomlygeneratedbytes": SipHash's initial state.
const START: [u64; 4] = [0x736f_6d65_7073_6575, 0x646f_7261_6e64_6f6d, 0x6c79_6765_6e65_7261, 0x7465_6462_7974_6573];

/// Bytes that are hashed for each family: SipHash ends with their number.
const V4_BYTES: u64 = 12;
const V6_BYTES: u64 = 36;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use siphasher::sip::SipHasher13;

    proptest! {
        #[test]
        fn hashes_agree_with_another_siphash(
            key in any::<(u64, u64)>(),
            v4 in any::<([u8; 4], [u8; 4])>(),
            v6 in any::<([u8; 16], [u8; 16])>(),
            ports in any::<(u16, u16)>(),
        ) {
            let (hash, oracle) = (KeyedHash::new(key), SipHasher13::new_with_keys(key.0, key.1));
            for tuple in [
                FourTuple::new(v4.0.into(), ports.0, v4.1.into(), ports.1),
                FourTuple::new(v6.0.into(), ports.0, v6.1.into(), ports.1),
            ] {
                let (bytes, used) = tuple.key_bytes();
                prop_assert_eq!(hash.hash(&tuple), oracle.hash(&bytes[..used]));
            }
        }
    }
}
