//! Time as a value. Nothing below floor 4 reads a clock: `Now` enters a turn once and is handed down.

use core::fmt;
use core::num::NonZeroU32;

/// One instant: microseconds since an origin that the stack chose. 64 bits never wrap in practice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Now {
    us: u64,
    /// The same in ticks, which nearly everybody asks for: divided once.
    tick: Tick,
}

impl Now {
    /// The instant `micros` microseconds after the origin.
    pub const fn from_us(micros: u64) -> Now {
        Now { us: micros, tick: Tick((micros / 1000) as u32) }
    }

    /// The instant `millis` milliseconds after the origin.
    pub const fn from_ms(millis: u64) -> Now {
        Now::from_us(millis * 1000)
    }

    /// Microseconds since the origin.
    pub const fn us(self) -> u64 {
        self.us
    }

    /// The same instant in ticks.
    #[inline]
    pub const fn tick(self) -> Tick {
        self.tick
    }

    /// The same instant in microseconds, as records store it.
    #[inline]
    pub const fn micros(self) -> Micros {
        Micros(self.us as u32)
    }

    /// The instant at which `tick` begins, if that is not over; otherwise this one.
    pub const fn until_tick(self, tick: Tick) -> Now {
        match self.tick.until(tick) {
            0 => self,
            ticks => Now::from_ms(self.us / 1000 + ticks as u64),
        }
    }

    /// The instant `millis` milliseconds later.
    #[must_use]
    pub const fn plus_ms(self, millis: u64) -> Now {
        Now::from_us(self.us + millis * 1000)
    }
}

/// A point in time as records store it: milliseconds modulo 2^32 (49.7 days).
///
/// Like sequence numbers, two ticks compare correctly only while they are less than 2^31 ms (24.8 days) apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tick(pub u32);

impl Tick {
    /// Ticks per second.
    pub const PER_SECOND: u32 = 1000;
}

/// A point in time for what is over within half an hour: microseconds modulo 2^32 (71.6 minutes). Two compare correctly only
/// while they are less than half of that apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(pub u32);

/// Points in time that wrap.
macro_rules! wrapping_time {
    ($time:ident) => {
        impl $time {
            /// `self` is at or before `other`.
            #[inline]
            pub const fn is_at_or_before(self, other: $time) -> bool {
                (other.0.wrapping_sub(self.0) as i32) >= 0
            }

            /// `self` is strictly before `other`.
            #[inline]
            pub const fn is_before(self, other: $time) -> bool {
                (other.0.wrapping_sub(self.0) as i32) > 0
            }

            /// The moment `count` units later.
            #[inline]
            #[must_use]
            pub const fn plus(self, count: u32) -> $time {
                $time(self.0.wrapping_add(count))
            }

            /// The moment `count` units earlier.
            #[inline]
            #[must_use]
            pub const fn back(self, count: u32) -> $time {
                $time(self.0.wrapping_sub(count))
            }

            /// Units from `earlier` to `self`, modulo 2^32.
            #[inline]
            pub const fn since(self, earlier: $time) -> u32 {
                self.0.wrapping_sub(earlier.0)
            }

            /// Units from `self` until `later`; 0 when `later` has passed.
            #[inline]
            pub const fn until(self, later: $time) -> u32 {
                let distance = later.0.wrapping_sub(self.0) as i32;
                if distance > 0 { distance as u32 } else { 0 }
            }

            /// The earlier of two moments.
            #[inline]
            #[must_use]
            pub const fn min(self, other: $time) -> $time {
                if other.is_before(self) { other } else { self }
            }

            /// The later of two moments.
            #[inline]
            #[must_use]
            pub const fn max(self, other: $time) -> $time {
                if self.is_before(other) { other } else { self }
            }
        }
    };
}

wrapping_time!(Tick);
wrapping_time!(Micros);

/// A moment at which something is due, or none: 4 bytes, where an `Option<Tick>` takes 8. The one tick in 49.7 days that is 0
/// is taken as the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Deadline(Option<NonZeroU32>);

impl Deadline {
    /// Nothing is due.
    pub const NONE: Deadline = Deadline(None);

    /// Due at `tick`.
    #[inline]
    pub const fn at(tick: Tick) -> Deadline {
        match NonZeroU32::new(tick.0) {
            None => Deadline(Some(NonZeroU32::MIN)),
            some => Deadline(some),
        }
    }

    /// When something is due.
    #[inline]
    pub const fn tick(self) -> Option<Tick> {
        match self.0 {
            Some(tick) => Some(Tick(tick.get())),
            None => None,
        }
    }

    /// Whether anything will be due.
    #[inline]
    pub const fn is_set(self) -> bool {
        self.0.is_some()
    }

    /// Whether it is due at `now`.
    #[inline]
    pub const fn is_due(self, now: Tick) -> bool {
        match self.tick() {
            Some(tick) => tick.is_at_or_before(now),
            None => false,
        }
    }

    /// The earlier of two deadlines.
    #[inline]
    #[must_use]
    pub const fn earlier(self, other: Deadline) -> Deadline {
        match (self.tick(), other.tick()) {
            (Some(one), Some(two)) if two.is_before(one) => other,
            (Some(_), _) => self,
            (None, _) => other,
        }
    }
}

impl fmt::Debug for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

impl fmt::Debug for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} us", self.0)
    }
}

/// A point in time to 65.5 s, in two bytes: what only days matter to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CoarseTick(u16);

impl CoarseTick {
    /// The coarse tick that `tick` lies in.
    #[inline]
    pub const fn of(tick: Tick) -> CoarseTick {
        CoarseTick((tick.0 >> 16) as u16)
    }

    /// Days from `self` to `now`, rounded down; wrong after 49.7 days, as ticks are.
    #[inline]
    pub const fn days_until(self, now: Tick) -> u32 {
        let coarse = CoarseTick::of(now).0.wrapping_sub(self.0);
        ((coarse as u64) * 65_536 / 86_400_000) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_compare_across_the_wrap() {
        let a = Tick(u32::MAX - 2);
        let b = a.plus(5);
        assert_eq!(b, Tick(2));
        assert!(a.is_before(b) && a.is_at_or_before(a) && !a.is_before(a));
        assert_eq!((b.since(a), a.until(b), b.until(a)), (5, 5, 0));
        assert_eq!(a.min(b), a);
        assert_eq!(b.min(a), a);
    }

    #[test]
    fn deadlines_compare_and_tick_0_is_taken_as_the_next() {
        let (none, soon, late) = (Deadline::NONE, Deadline::at(Tick(u32::MAX)), Deadline::at(Tick(0)));
        assert_eq!((none.tick(), soon.tick(), late.tick()), (None, Some(Tick(u32::MAX)), Some(Tick(1))));
        for (one, two, earlier) in [(none, none, none), (none, soon, soon), (late, none, late), (late, soon, soon)] {
            assert_eq!((one.earlier(two), two.earlier(one)), (earlier, earlier));
        }
        assert_eq!([none, soon, late].map(|deadline| deadline.is_due(Tick(0))), [false, true, false]);
    }

    #[test]
    fn coarse_ticks_count_days_across_the_wrap() {
        let day = 86_400_000;
        let at = Tick(u32::MAX - day);
        for (later, days) in [(0, 0), (day - 70_000, 0), (day + 70_000, 1), (24 * day + 70_000, 24)] {
            assert_eq!(CoarseTick::of(at).days_until(at.plus(later)), days);
        }
    }

    #[test]
    fn now_becomes_ticks_modulo_2_32() {
        assert_eq!(Now::from_ms(1 << 32).plus_ms(7).tick(), Tick(7));
    }
}
