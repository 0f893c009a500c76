//! SipHash of a 4-tuple or an address, straight from their words: half the time of hashing the same bytes from memory, and it
//! is paid for every segment. The value is that of SipHash-C-D over the bytes in network order.

use crate::four_tuple::{FourTuple, KeyWords};
use core::fmt;
use core::net::IpAddr;

/// SipHash with `C` rounds per word and `D` at the end: the state that the secret key makes of its constants.
#[derive(Clone, Copy)]
pub struct KeyedHash<const C: usize, const D: usize>([u64; 4]);

/// SipHash-1-3: for tables, where a guess is worth little (T30).
pub type TableHash = KeyedHash<1, 3>;

/// SipHash-2-4: for numbers that go out on the wire (RFC 6528).
pub type WireHash = KeyedHash<2, 4>;

impl<const C: usize, const D: usize> KeyedHash<C, D> {
    /// The hash under `key`, which must be secret and random.
    #[inline]
    pub const fn new(key: (u64, u64)) -> KeyedHash<C, D> {
        KeyedHash([START[0] ^ key.0, START[1] ^ key.1, START[2] ^ key.0, START[3] ^ key.1])
    }

    /// The hash of a 4-tuple: 12 bytes over IPv4, 36 over IPv6.
    #[inline(always)]
    pub const fn tuple(&self, tuple: &FourTuple) -> u64 {
        match tuple.key_words() {
            KeyWords::V4([addresses, ports]) => self.words([addresses, ports | 12 << 56]),
            KeyWords::V6([a, b, c, d, ports]) => self.words([a, b, c, d, ports | 36 << 56]),
        }
    }

    /// The hash of a 4-tuple with two words: each part filled up to words, 32 bytes over IPv4, 56 over IPv6.
    #[inline]
    pub const fn tuple_with(&self, tuple: &FourTuple, x: u64, y: u64) -> u64 {
        match tuple.key_words() {
            KeyWords::V4([addresses, ports]) => self.words([addresses, ports, x, y, 32 << 56]),
            KeyWords::V6([a, b, c, d, ports]) => self.words([a, b, c, d, ports, x, y, 56 << 56]),
        }
    }

    /// The hash of a number: 8 bytes.
    #[inline]
    pub const fn number(&self, number: u64) -> u64 {
        self.words([number, 8 << 56])
    }

    /// The hash of an address: 4 bytes for IPv4, 16 for IPv6.
    #[inline(always)]
    pub const fn address(&self, address: IpAddr) -> u64 {
        match address {
            IpAddr::V4(v4) => self.words([u32::from_le_bytes(v4.octets()) as u64 | 4 << 56]),
            IpAddr::V6(v6) => {
                let bits = u128::from_le_bytes(v6.octets());
                self.words([bits as u64, (bits >> 64) as u64, 16 << 56])
            }
        }
    }

    /// The hash of whole words, of which the last ends with the number of bytes (modulo 256) in its top byte.
    #[inline(always)]
    const fn words<const WORDS: usize>(&self, words: [u64; WORDS]) -> u64 {
        let mut v = self.0;
        let mut at = 0;
        while at < WORDS {
            v[3] ^= words[at];
            v = rounds::<C>(v);
            v[0] ^= words[at];
            at += 1;
        }
        v[2] ^= 0xff;
        v = rounds::<D>(v);
        v[0] ^ v[1] ^ v[2] ^ v[3]
    }
}

/// Says nothing of the key.
impl<const C: usize, const D: usize> fmt::Debug for KeyedHash<C, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SipHash-{C}-{D}")
    }
}

#[inline]
const fn rounds<const COUNT: usize>(mut v: [u64; 4]) -> [u64; 4] {
    let mut done = 0;
    while done < COUNT {
        v = round(v);
        done += 1;
    }
    v
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

/// "somepseudorandomlygeneratedbytes": SipHash's initial state.
const START: [u64; 4] = [0x736f_6d65_7073_6575, 0x646f_7261_6e64_6f6d, 0x6c79_6765_6e65_7261, 0x7465_6462_7974_6573];

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher;
    use proptest::prelude::*;
    use siphasher::sip::{SipHasher13, SipHasher24};

    proptest! {
        #[test]
        fn hashes_agree_with_another_siphash(
            key in any::<(u64, u64)>(),
            v4 in any::<([u8; 4], [u8; 4])>(),
            v6 in any::<([u8; 16], [u8; 16])>(),
            ports in any::<(u16, u16)>(),
            words in any::<(u64, u64)>(),
        ) {
            let (table, wire) = (TableHash::new(key), WireHash::new(key));
            let oracle = |bytes: &[u8]| {
                let (mut table, mut wire) =
                    (SipHasher13::new_with_keys(key.0, key.1), SipHasher24::new_with_keys(key.0, key.1));
                table.write(bytes);
                wire.write(bytes);
                (table.finish(), wire.finish())
            };
            let ports_bytes = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
            for (tuple, bytes) in [
                (FourTuple::new(v4.0.into(), ports.0, v4.1.into(), ports.1), [v4.0, v4.1].concat()),
                (FourTuple::new(v6.0.into(), ports.0, v6.1.into(), ports.1), [v6.0, v6.1].concat()),
            ] {
                let bytes = [bytes, ports_bytes.clone()].concat();
                prop_assert_eq!((table.tuple(&tuple), wire.tuple(&tuple)), oracle(&bytes));
                let bytes = [bytes, vec![0; 4], words.0.to_le_bytes().into(), words.1.to_le_bytes().into()].concat();
                let with = (table.tuple_with(&tuple, words.0, words.1), wire.tuple_with(&tuple, words.0, words.1));
                prop_assert_eq!(with, oracle(&bytes));
            }
            prop_assert_eq!((table.number(words.0), wire.number(words.0)), oracle(&words.0.to_le_bytes()));
            prop_assert_eq!((table.address(v4.0.into()), wire.address(v4.0.into())), oracle(&v4.0));
            prop_assert_eq!((table.address(v6.0.into()), wire.address(v6.0.into())), oracle(&v6.0));
        }
    }
}
