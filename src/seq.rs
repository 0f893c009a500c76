//! Sequence numbers: 32-bit, compared modulo 2^32 (RFC 9293 3.4).
//!
//! A comparison is meaningful only for numbers less than 2^31 apart, as the RFC assumes everywhere.

use core::fmt;
use core::ops::{Add, AddAssign, Sub};

/// A TCP sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seq(pub u32);

impl Seq {
    /// `self < other` modulo 2^32.
    #[inline]
    pub const fn lt(self, other: Seq) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// `self =< other` modulo 2^32.
    #[inline]
    pub const fn le(self, other: Seq) -> bool {
        (self.0.wrapping_sub(other.0) as i32) <= 0
    }

    /// `self > other` modulo 2^32.
    #[inline]
    pub const fn gt(self, other: Seq) -> bool {
        other.lt(self)
    }

    /// `self >= other` modulo 2^32.
    #[inline]
    pub const fn ge(self, other: Seq) -> bool {
        other.le(self)
    }

    /// The later of two sequence numbers.
    #[inline]
    pub const fn max(self, other: Seq) -> Seq {
        if self.lt(other) { other } else { self }
    }

    /// The sequence number `count` octets earlier.
    #[inline]
    pub const fn back(self, count: u32) -> Seq {
        Seq(self.0.wrapping_sub(count))
    }
}

impl Add<u32> for Seq {
    type Output = Seq;
    #[inline]
    fn add(self, count: u32) -> Seq {
        Seq(self.0.wrapping_add(count))
    }
}

impl AddAssign<u32> for Seq {
    #[inline]
    fn add_assign(&mut self, count: u32) {
        *self = *self + count;
    }
}

/// The number of octets from `other` up to `self`, modulo 2^32.
impl Sub for Seq {
    type Output = u32;
    #[inline]
    fn sub(self, other: Seq) -> u32 {
        self.0.wrapping_sub(other.0)
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_hold_across_the_wrap() {
        for base in [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX] {
            let (a, b) = (Seq(base), Seq(base) + 5);
            assert!(a.lt(b) && a.le(b) && b.gt(a) && b.ge(a) && a.le(a) && a.ge(a));
            assert!(!b.lt(a) && !a.lt(a));
            assert_eq!(b - a, 5);
            assert_eq!(a.max(b), b);
            assert_eq!(b.back(5), a);
        }
    }
}
