//! The Internet checksum (RFC 1071): the one's complement of the one's complement sum of 16-bit words.
//!
//! The sum does not depend on byte order (RFC 1071 2(B)), so words are added as the machine loads them and swapped
//! once.

use core::net::{Ipv4Addr, Ipv6Addr};

/// A one's complement sum under way. Pieces are added in any order; each must begin at an even offset.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sum(u64);

impl Sum {
    /// Adds `bytes`; an odd last byte counts as if a zero followed.
    #[must_use]
    #[inline(always)]
    pub fn bytes(self, bytes: &[u8]) -> Sum {
        let (wide, narrow) = bytes.as_chunks::<32>();
        // Four sums at a time: one would wait for its own carry at each word.
        let mut lanes = [self, Sum(0), Sum(0), Sum(0)];
        for chunk in wide {
            for (lane, word) in lanes.iter_mut().zip(chunk.as_chunks::<8>().0) {
                *lane = lane.plus(u64::from_ne_bytes(*word));
            }
        }
        let [first, second, third, fourth] = lanes;
        let mut sum = first.plus(second.0).plus(third.0).plus(fourth.0);
        if narrow.is_empty() {
            return sum;
        }
        // Less than 32: no loop.
        let (pieces, tail) = narrow.as_chunks::<16>();
        if let [piece] = pieces {
            sum = sum.array(piece);
        }
        let (words, tail) = tail.as_chunks::<8>();
        if let [word] = words {
            sum = sum.array(word);
        }
        let (words, tail) = tail.as_chunks::<4>();
        if let [word] = words {
            sum = sum.array(word);
        }
        // Spelled out: a copy of unknown length would be a call of memcpy.
        let last = match *tail {
            [a] => [a, 0, 0, 0],
            [a, b] => [a, b, 0, 0],
            [a, b, c] => [a, b, c, 0],
            _ => return sum,
        };
        sum.plus(u32::from_ne_bytes(last).into())
    }

    /// Adds `bytes`, a multiple of 4: without a loop.
    #[inline(always)]
    #[must_use]
    pub fn array<const BYTES: usize>(mut self, bytes: &[u8; BYTES]) -> Sum {
        const { assert!(BYTES.is_multiple_of(4), "whole words only") };
        let (wide, rest) = bytes.as_chunks::<8>();
        for word in wide {
            self = self.plus(u64::from_ne_bytes(*word));
        }
        for word in rest.as_chunks::<4>().0 {
            self = self.plus(u32::from_ne_bytes(*word).into());
        }
        self
    }

    /// Writes `words` to the front of `bytes` in network order and adds them: less work than to read what has only just
    /// been written. Panics if `bytes` is shorter.
    #[inline(always)]
    #[must_use]
    pub fn emit<const WORDS: usize>(self, bytes: &mut [u8], words: [u32; WORDS]) -> Sum {
        let places = &mut bytes.as_chunks_mut::<4>().0[..WORDS];
        let mut sum = 0;
        for (place, word) in places.iter_mut().zip(words) {
            let word = word.to_be();
            *place = word.to_ne_bytes();
            sum += u64::from(word);
        }
        self.plus(sum)
    }

    /// Adds one word, host order.
    #[inline]
    #[must_use]
    pub const fn word(self, word: u16) -> Sum {
        self.plus(word.to_be() as u64)
    }

    /// Adds the pseudo-header of an upper layer over IPv4 (RFC 9293 3.1): `len` bytes of `protocol`.
    #[inline]
    #[must_use]
    pub fn pseudo_v4(self, src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: usize) -> Sum {
        let [src, dst] = [src, dst].map(|address| u64::from(u32::from_ne_bytes(address.octets())));
        self.plus(src).plus(dst).word(protocol.into()).word(len as u16)
    }

    /// Adds the pseudo-header of an upper layer over IPv6 (RFC 8200 8.1): `len` bytes of `protocol`.
    #[inline]
    #[must_use]
    pub fn pseudo_v6(self, src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, len: usize) -> Sum {
        let [src, dst] = [src, dst].map(|address| halves(u128::from_ne_bytes(address.octets())));
        self.plus(src).plus(dst).word(protocol.into()).word(len as u16)
    }

    /// One's complement addition in 64 bits: what is carried out comes back at the other end.
    #[inline]
    const fn plus(self, word: u64) -> Sum {
        let (sum, carry) = self.0.overflowing_add(word);
        Sum(sum + carry as u64)
    }

    /// The sum in 16 bits, host order, not complemented.
    #[inline]
    pub const fn fold(self) -> u16 {
        let (sum, carry) = (self.0 as u32).overflowing_add((self.0 >> 32) as u32);
        let sum = sum + carry as u32;
        let (sum, carry) = (sum as u16).overflowing_add((sum >> 16) as u16);
        u16::from_be(sum + carry as u16)
    }

    /// The checksum, host order: the complement of the sum.
    #[inline]
    pub const fn finish(self) -> u16 {
        !self.fold()
    }

    /// Whether the sum, taken over a packet with its checksum in place, says that the packet is whole.
    #[inline]
    pub const fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// The four 32-bit words of an IPv6 address, added.
#[inline]
const fn halves(address: u128) -> u64 {
    let (high, low) = ((address >> 64) as u64, address as u64);
    (high >> 32) + (high & 0xffff_ffff) + (low >> 32) + (low & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 4.1, as slowly as it is written there.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum: u64 = 0;
        for pair in bytes.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
        while sum >> 16 != 0 {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        sum as u16
    }

    #[test]
    fn rfc_1071_example_sums_to_ddf2() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().bytes(&bytes).fold(), 0xddf2);
        assert_eq!(Sum::default().bytes(&bytes).finish(), !0xddf2);
    }

    #[test]
    fn largest_packet_of_ones_does_not_overflow() {
        assert_eq!(Sum::default().bytes(&[0xff; 65535]).fold(), plain(&[0xff; 65535]));
    }

    proptest! {
        #[test]
        fn sum_equals_the_plain_one(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..100) {
            let at = (at * 2).min(bytes.len() & !1);
            let (front, back) = bytes.split_at(at);
            prop_assert_eq!(Sum::default().bytes(&bytes).fold(), plain(&bytes));
            prop_assert_eq!(Sum::default().bytes(back).bytes(front).fold(), plain(&bytes));
        }

        #[test]
        fn words_are_added_as_they_are_written(words: [u32; 5], before: [u8; 8]) {
            let mut bytes = [0; 21];
            let sum = Sum::default().array(&before).emit(&mut bytes, words);
            prop_assert_eq!(&bytes[..20], &words.map(u32::to_be_bytes).concat()[..]);
            prop_assert_eq!(sum.fold(), plain(&[&before[..], &bytes[..20]].concat()));
            prop_assert_eq!(Sum::default().array(&before).array(bytes[..20].as_array::<20>().unwrap()).fold(), sum.fold());
        }

        #[test]
        fn pseudo_headers_equal_their_bytes(src: [u8; 16], dst: [u8; 16], protocol: u8, len: u16) {
            let mut v6 = [0; 40];
            v6[..16].copy_from_slice(&src);
            v6[16..32].copy_from_slice(&dst);
            v6[34..36].copy_from_slice(&len.to_be_bytes());
            v6[39] = protocol;
            prop_assert_eq!(Sum::default().pseudo_v6(src.into(), dst.into(), protocol, len.into()).fold(), plain(&v6));
            let (src, dst) = ([src[0], src[1], src[2], src[3]], [dst[0], dst[1], dst[2], dst[3]]);
            let mut v4 = [0; 12];
            v4[..4].copy_from_slice(&src);
            v4[4..8].copy_from_slice(&dst);
            v4[9] = protocol;
            v4[10..].copy_from_slice(&len.to_be_bytes());
            prop_assert_eq!(Sum::default().pseudo_v4(src.into(), dst.into(), protocol, len.into()).fold(), plain(&v4));
        }
    }
}
