//! Sets of up to eight named things in one byte: records are small, and asking whether a set is empty is one comparison.

use core::fmt;
use core::marker::PhantomData;
use core::ops::BitOr;

/// A set of the things that `Of` names with constants made by [`Bits::bit`].
pub struct Bits<Of> {
    bits: u8,
    of: PhantomData<fn() -> Of>,
}

impl<Of> Bits<Of> {
    /// The empty set.
    pub const NONE: Bits<Of> = Bits { bits: 0, of: PhantomData };

    /// The set of one thing, number 0 to 7.
    #[inline]
    pub const fn bit(number: u8) -> Bits<Of> {
        assert!(number < 8, "a byte has eight bits");
        Bits { bits: 1 << number, of: PhantomData }
    }

    /// Both sets together; `|` where that need not be a constant.
    #[inline]
    #[must_use]
    pub const fn with(self, other: Bits<Of>) -> Bits<Of> {
        Bits { bits: self.bits | other.bits, of: PhantomData }
    }

    /// Whether any of `what` is in the set.
    #[inline]
    pub const fn has(self, what: Bits<Of>) -> bool {
        self.bits & what.bits != 0
    }

    /// Puts all of `what` into the set.
    #[inline]
    pub const fn add(&mut self, what: Bits<Of>) {
        self.bits |= what.bits;
    }

    /// Puts all of `what` into the set if `condition` holds; otherwise the set stays as it is.
    #[inline]
    pub const fn add_if(&mut self, what: Bits<Of>, condition: bool) {
        if condition {
            self.add(what);
        }
    }

    /// Takes all of `what` out of the set.
    #[inline]
    pub const fn remove(&mut self, what: Bits<Of>) {
        self.bits &= !what.bits;
    }

    /// Puts all of `what` into the set or takes it out.
    #[inline]
    pub const fn set(&mut self, what: Bits<Of>, is_in: bool) {
        self.remove(what);
        self.add_if(what, is_in);
    }

    /// Whether any of `what` was in the set; now nothing of it is.
    #[inline]
    pub const fn take(&mut self, what: Bits<Of>) -> bool {
        let was_in = self.has(what);
        self.remove(what);
        was_in
    }
}

impl<Of> Clone for Bits<Of> {
    #[inline]
    fn clone(&self) -> Bits<Of> {
        *self
    }
}

impl<Of> Copy for Bits<Of> {}

impl<Of> PartialEq for Bits<Of> {
    #[inline]
    fn eq(&self, other: &Bits<Of>) -> bool {
        self.bits == other.bits
    }
}

impl<Of> Eq for Bits<Of> {}

impl<Of> Default for Bits<Of> {
    #[inline]
    fn default() -> Bits<Of> {
        Bits::NONE
    }
}

impl<Of> BitOr for Bits<Of> {
    type Output = Bits<Of>;
    #[inline]
    fn bitor(self, other: Bits<Of>) -> Bits<Of> {
        self.with(other)
    }
}

impl<Of> fmt::Debug for Bits<Of> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010b}", self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in_and_not_taken_out() {
        enum Letter {}
        let [a, b, h] = [0, 1, 7].map(Bits::<Letter>::bit);
        let mut set = a | h;
        assert!(set.has(a) && !set.has(b) && set.has(b | h));
        assert!(set.take(a | b) && !set.take(a) && set == h);
        set.add_if(b, false);
        set.set(h, false);
        assert_eq!(set, Bits::NONE);
        set.set(b, true);
        set.add_if(a, true);
        assert_eq!(set, a | b);
    }
}
