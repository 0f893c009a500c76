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

    /// Shows MUST-9.
    #[test]
    fn t09_isn_low_bits_spread_evenly() {
        let mut buckets = [0u32; 16];
        for port in 0..64_000u16 {
            buckets[(iss((7, 9), &tuple(port), Now::default()).0 >> 28) as usize] += 1;
        }
        assert!(buckets.iter().all(|&count| (3_600..4_400).contains(&count)), "{buckets:?}");
    }
}
