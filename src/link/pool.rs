//! Which slot of a link's memory is where: one state per slot, one free list, and totals that add up.
//!
//! A slot leaves a state only through [`Pool::take`] or [`Pool::shift`], which check the state that it is claimed to be
//! in, in release too. So a token that came twice is refused instead of handing one slot to two owners.

use super::Levels;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// Where a slot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(in crate::link) enum Place {
    /// Ready for use.
    Free,
    /// Given out as a `Frame`.
    InHand,
    /// Queued for transmission.
    Transmit,
}

/// The slots of one link.
#[derive(Debug)]
pub(in crate::link) struct Pool {
    places: Box<[Place]>,
    /// Last in, first out: the slot used last is the one still in the cache.
    free: Vec<u32>,
    /// Slots queued for transmission; what is neither there nor free is in hand.
    transmit: u32,
}

impl Pool {
    /// `count` slots, all free.
    pub(in crate::link) fn new(count: u32) -> Pool {
        Pool { places: vec![Place::Free; count as usize].into(), free: (0..count).rev().collect(), transmit: 0 }
    }

    /// A free slot, now in hand; `None` when there is none.
    #[inline]
    pub(in crate::link) fn take(&mut self) -> Option<u32> {
        let slot = self.free.pop()?;
        self.places[slot as usize] = Place::InHand;
        Some(slot)
    }

    /// Moves `slot` from one place to another. False, and nothing is changed, when it is not at `from` or does not exist.
    #[inline]
    pub(in crate::link) fn shift(&mut self, slot: u32, from: Place, to: Place) -> bool {
        match self.places.get_mut(slot as usize) {
            Some(place) if *place == from => *place = to,
            _ => return false,
        }
        self.transmit -= u32::from(from == Place::Transmit);
        self.transmit += u32::from(to == Place::Transmit);
        if to == Place::Free {
            self.free.push(slot);
        }
        true
    }

    /// How many slots are free.
    #[inline]
    pub(in crate::link) fn free(&self) -> u32 {
        self.free.len() as u32
    }

    /// Where the slots are.
    pub(in crate::link) fn levels(&self) -> Levels {
        let (total, free, transmit) = (self.places.len() as u32, self.free(), self.transmit);
        Levels { total, free, in_hand: total - free - transmit, transmit, ..Levels::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_slot_returned_twice_is_refused() {
        let mut pool = Pool::new(2);
        let slot = pool.take().unwrap();
        assert!(pool.shift(slot, Place::InHand, Place::Free));
        assert!(!pool.shift(slot, Place::InHand, Place::Free));
        assert!(!pool.shift(99, Place::InHand, Place::Free));
        assert_eq!(pool.levels(), Levels { total: 2, free: 2, ..Levels::default() });
    }

    #[test]
    fn pool_gives_each_slot_once_and_reuses_the_last() {
        let mut pool = Pool::new(3);
        let (a, b, c) = (pool.take().unwrap(), pool.take().unwrap(), pool.take().unwrap());
        assert!(a != b && b != c && a != c);
        assert_eq!(pool.take(), None);
        assert!(pool.shift(b, Place::InHand, Place::Transmit));
        assert!(pool.shift(b, Place::Transmit, Place::Free));
        assert_eq!((pool.take(), pool.free()), (Some(b), 0));
    }
}
