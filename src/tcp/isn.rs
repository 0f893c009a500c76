//! Initial sequence numbers (RFC 9293 3.4.1, RFC 6528) and the timestamp offset (RFC 7323 5.4).
//!
//! ISN = M + F(4-tuple, secret): M counts every 4 microseconds (MUST-8), F is SipHash-2-4 under a secret of the stack
//! that nobody outside can compute (MUST-9, SHLD-1). Each incarnation of a 4-tuple so begins beyond the last, as long
//! as it sent less than 250 kB/s.

use crate::four_tuple::FourTuple;
use crate::keyed_hash::WireHash;
use crate::seq::Seq;
use crate::tick::Now;

/// What a connection that opens now begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// Its ISS.
    pub iss: Seq,
    /// See [`timestamp_offset`].
    pub ts_offset: u32,
}

/// The ISS and the timestamp offset of a connection that opens now.
#[inline]
pub fn start(secret: (u64, u64), tuple: &FourTuple, now: Now) -> Start {
    let keyed = WireHash::new(secret).tuple(tuple);
    let clock = (now.us() / 4) as u32;
    Start { iss: Seq(clock.wrapping_add(keyed as u32)), ts_offset: high_half(keyed) }
}

/// The offset of a 4-tuple's timestamp clock: TSval = clock in ms + offset. The same for each incarnation, so that TSval
/// grows across them and a TIME-WAIT record can recompute it.
pub fn timestamp_offset(secret: (u64, u64), tuple: &FourTuple) -> u32 {
    high_half(WireHash::new(secret).tuple(tuple))
}

/// One hash serves both: the ISN takes the low half, the offset the high half.
const fn high_half(keyed: u64) -> u32 {
    (keyed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn tuple(port: u16) -> FourTuple {
        FourTuple::new(Ipv4Addr::new(10, 0, 0, 1).into(), port, Ipv4Addr::new(10, 0, 0, 2).into(), 80)
    }

    fn iss(secret: (u64, u64), tuple: &FourTuple, now: Now) -> Seq {
        start(secret, tuple, now).iss
    }

    /// Shows MUST-8, MUST-9, SHLD-1, RFC 6528.
    #[test]
    fn b07_isn_moves_with_the_clock_and_differs_per_tuple_and_secret() {
        let at = Now::from_ms(1000);
        assert_eq!(iss((1, 2), &tuple(1), at.plus_ms(4)) - iss((1, 2), &tuple(1), at), 1000);
        assert_ne!(iss((1, 2), &tuple(1), at), iss((1, 2), &tuple(2), at));
        assert_ne!(iss((1, 2), &tuple(1), at), iss((1, 3), &tuple(1), at));
        let offset = timestamp_offset((1, 2), &tuple(1));
        assert_eq!(
            (start((1, 2), &tuple(1), at).ts_offset, start((1, 2), &tuple(1), at.plus_ms(4)).ts_offset),
            (offset, offset)
        );
    }

    /// A million ISNs of as many 4-tuples at one time, and of one 4-tuple after as many restarts. Shows MUST-9.
    #[test]
    fn t09_neither_isns_nor_their_differences_prefer_any_byte() {
        let now = Now::from_ms(1000);
        let of_tuples = |number: u32| {
            let [low, high, rest @ ..] = number.to_be_bytes().map(u16::from);
            let remote = Ipv4Addr::new(10, 0, low as u8, high as u8);
            let port = rest[0] << 8 | rest[1];
            iss((7, 9), &FourTuple::new(Ipv4Addr::new(10, 0, 0, 1).into(), port, remote.into(), 80), now).0
        };
        let of_restarts = |number: u32| iss((u64::from(number), 9), &tuple(1), now).0;
        assert_even("4-tuples", (0..SAMPLES).map(of_tuples));
        assert_even("differences", (0..SAMPLES).map(|at| of_tuples(at + 1).wrapping_sub(of_tuples(at))));
        assert_even("restarts", (0..SAMPLES).map(of_restarts));
        assert_even(
            "differences of restarts",
            (0..SAMPLES).map(|at| of_restarts(at + 1).wrapping_sub(of_restarts(at))),
        );
    }

    #[test]
    #[should_panic(expected = "a counter")]
    fn t09_numbers_that_count_are_not_taken_for_random() {
        assert_even("a counter", 0..SAMPLES);
    }

    /// Each of the four bytes passes a chi-square test of 255 degrees of freedom (mean 255, deviation 22.6): it lies within 4.5
    /// deviations, above which chance alone comes once in 40,000. What counts up is too even.
    fn assert_even(what: &str, numbers: impl Iterator<Item = u32>) {
        let mut counts = [[0u32; 256]; 4];
        for number in numbers {
            for (counts, byte) in counts.iter_mut().zip(number.to_le_bytes()) {
                counts[usize::from(byte)] += 1;
            }
        }
        let expected = f64::from(SAMPLES) / 256.0;
        let off = |count: u32| (f64::from(count) - expected) * (f64::from(count) - expected) / expected;
        let chi_squares = counts.map(|counts| counts.into_iter().map(off).sum::<f64>());
        assert!(chi_squares.iter().all(|value| (153.0..357.0).contains(value)), "{what}: {chi_squares:?}");
    }

    const SAMPLES: u32 = 1_000_000;
}
