//! Who has each slot of the UMEM. Checked in release too: what the kernel hands over must be a slot that it had (T32).
//!
//! Invariants:
//! 1. Every slot is in exactly one [`State`]; `levels` counts the slots of each, and `free` lists the free ones.
//! 2. `fill` is at most `fill_max`, so the FILL ring always has room for what [`Slots::fill`] hands out.
//! 3. Slots in TX, completions due, and places promised to taken slots together are at most `transmit_max`, so the TX
//!    and COMPLETION rings always have room for a taken slot.

use crate::link::Levels;

/// The ownership table of one UMEM.
#[derive(Debug)]
pub(super) struct Slots {
    states: Vec<State>,
    free: Vec<u32>,
    levels: Levels,
    /// Slots in hand that [`Slots::take`] handed out and that hold a place in TX.
    taken: u32,
    /// Bytes per slot, as a power of two.
    slot_bits: u32,
    fill_max: u32,
    transmit_max: u32,
}

/// Where a slot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum State {
    /// Ready for use.
    Free,
    /// In hand, with a received frame.
    Received,
    /// In hand, with a place in TX.
    Taken,
    /// In the FILL or RX ring or with the kernel.
    Fill,
    /// Queued for TX or with the kernel, not completed.
    Transmit,
}

impl Slots {
    /// A table of `total` free slots of `1 << slot_bits` bytes.
    pub(super) fn new(total: u32, slot_bits: u32, fill_max: u32, transmit_max: u32) -> Slots {
        Slots {
            states: vec![State::Free; total as usize],
            // The lowest slot on top: few slots in use means few pages in use.
            free: (0..total).rev().collect(),
            levels: Levels { total, free: total, ..Levels::default() },
            taken: 0,
            slot_bits,
            fill_max,
            transmit_max,
        }
    }

    /// How many slots are where.
    pub(super) fn levels(&self) -> Levels {
        self.levels
    }

    /// Whether `slot` is in hand.
    #[inline]
    pub(super) fn is_in_hand(&self, slot: u32) -> bool {
        matches!(self.states.get(slot as usize), Some(State::Received | State::Taken))
    }

    /// How many slots FILL has room for.
    #[inline]
    pub(super) fn fill_room(&self) -> u32 {
        (self.fill_max - self.levels.fill).min(self.levels.free)
    }

    /// Moves a free slot to FILL; `None` when none is free or FILL is full.
    #[inline]
    pub(super) fn fill(&mut self) -> Option<u32> {
        if self.levels.fill == self.fill_max {
            return None;
        }
        let slot = self.pop_free(State::Fill)?;
        self.levels.fill += 1;
        Some(slot)
    }

    /// Takes back a slot that FILL did not accept.
    pub(super) fn unfill(&mut self, slot: u32) {
        if self.states.get(slot as usize) == Some(&State::Fill) {
            self.levels.fill -= 1;
            self.push_free(slot);
        }
    }

    /// The kernel says that `len` bytes were received at `address` of the UMEM. The slot and the offset in it, now in
    /// hand, or `None` if that cannot be: outside the UMEM, across slots, or a slot that the kernel did not have.
    #[inline]
    pub(super) fn received(&mut self, address: usize, len: usize) -> Option<(u32, u16)> {
        let (slot, offset) = self.locate(address)?;
        let state = self.states.get_mut(slot as usize)?;
        if *state != State::Fill || len > (1 << self.slot_bits) - offset {
            return None;
        }
        *state = State::Received;
        self.levels.fill -= 1;
        self.levels.in_hand += 1;
        Some((slot, offset as u16))
    }

    /// The kernel says that the frame at `address` was sent. The slot, now free, or `None` if that cannot be.
    #[inline]
    pub(super) fn completed(&mut self, address: usize) -> Option<u32> {
        let (slot, _) = self.locate(address)?;
        if self.states.get(slot as usize) != Some(&State::Transmit) {
            return None;
        }
        self.levels.transmit -= 1;
        self.push_free(slot);
        Some(slot)
    }

    /// A free slot with a place in TX; `None` when there is no slot or no place.
    #[inline]
    pub(super) fn take(&mut self) -> Option<u32> {
        if self.levels.transmit + self.taken >= self.transmit_max {
            return None;
        }
        let slot = self.pop_free(State::Taken)?;
        self.taken += 1;
        self.levels.in_hand += 1;
        Some(slot)
    }

    /// Moves a slot in hand to TX; `false` if TX has no place for it or it is not in hand.
    #[inline]
    pub(super) fn transmit(&mut self, slot: u32) -> bool {
        let Some(state) = self.states.get_mut(slot as usize) else { return false };
        match *state {
            State::Taken => self.taken -= 1,
            State::Received if self.levels.transmit + self.taken < self.transmit_max => {}
            State::Received | State::Free | State::Fill | State::Transmit => return false,
        }
        *state = State::Transmit;
        self.levels.in_hand -= 1;
        self.levels.transmit += 1;
        true
    }

    /// Frees a slot in hand; `false` if it is not in hand.
    #[inline]
    pub(super) fn give_back(&mut self, slot: u32) -> bool {
        match self.states.get(slot as usize) {
            Some(State::Received) => {}
            Some(State::Taken) => self.taken -= 1,
            _ => return false,
        }
        self.levels.in_hand -= 1;
        self.push_free(slot);
        true
    }

    #[inline]
    fn locate(&self, address: usize) -> Option<(u32, usize)> {
        let slot = u32::try_from(address >> self.slot_bits).ok()?;
        Some((slot, address & ((1 << self.slot_bits) - 1)))
    }

    #[inline]
    fn pop_free(&mut self, to: State) -> Option<u32> {
        let slot = self.free.pop()?;
        self.states[slot as usize] = to;
        self.levels.free -= 1;
        Some(slot)
    }

    /// `free` was made with room for every slot: this does not allocate.
    #[inline]
    fn push_free(&mut self, slot: u32) {
        self.states[slot as usize] = State::Free;
        self.free.push(slot);
        self.levels.free += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SLOT_BITS: u32 = 11;

    fn address(slot: usize) -> usize {
        (slot << SLOT_BITS) + 256
    }

    /// Shows T32.
    #[test]
    fn fill_received_twice_is_refused_once() {
        let mut slots = Slots::new(4, SLOT_BITS, 2, 2);
        assert_eq!((slots.fill(), slots.fill(), slots.fill()), (Some(0), Some(1), None));
        assert_eq!(slots.received(address(1), 60), Some((1, 256)));
        assert_eq!(slots.received(address(1), 60), None);
        assert!(slots.levels().conserved());
    }

    /// Shows T32.
    #[test]
    fn fill_received_outside_or_across_slots_is_refused() {
        let mut slots = Slots::new(2, SLOT_BITS, 2, 2);
        while slots.fill().is_some() {}
        let levels = slots.levels();
        for (at, len) in [(address(2), 60), (usize::MAX, 60), (address(0), 2048 - 255), (address(1), usize::MAX)] {
            assert_eq!(slots.received(at, len), None, "{at} {len}");
        }
        assert_eq!(slots.levels(), levels);
        assert_eq!(slots.received(address(0), 2048 - 256), Some((0, 256)));
    }

    #[test]
    fn completion_of_a_slot_not_in_tx_is_refused() {
        let mut slots = Slots::new(3, SLOT_BITS, 1, 2);
        slots.fill();
        let taken = slots.take().unwrap();
        assert_eq!(
            (slots.completed(address(0)), slots.completed(address(1)), slots.completed(address(9))),
            (None, None, None)
        );
        assert!(slots.transmit(taken));
        assert_eq!(slots.completed(address(1)), Some(1));
        assert_eq!(slots.completed(address(1)), None);
    }

    #[test]
    fn taken_slots_keep_their_place_in_tx() {
        let mut slots = Slots::new(4, SLOT_BITS, 2, 2);
        slots.fill();
        slots.received(address(0), 60).unwrap();
        let (first, second) = (slots.take().unwrap(), slots.take().unwrap());
        assert_eq!(slots.take(), None);
        assert!(!slots.transmit(0), "a received frame must not take a promised place");
        assert!(slots.transmit(first) && slots.transmit(second));
        slots.completed(address(first as usize)).unwrap();
        assert!(slots.transmit(0));
    }

    proptest! {
        /// Whatever is asked for in whatever order, the table agrees with a map from slot to owner.
        #[test]
        fn any_order_of_calls_agrees_with_an_oracle(calls in prop::collection::vec((0..7_u8, 0..20_usize), 0..400)) {
            let (total, fill_max, transmit_max) = (16, 8, 6);
            let mut slots = Slots::new(total, SLOT_BITS, fill_max, transmit_max);
            let mut owners = vec!['f'; total as usize];
            let count = |owners: &[char], of: &str| owners.iter().filter(|&&owner| of.contains(owner)).count() as u32;
            for (call, slot) in calls {
                let owner = owners.get(slot).copied().unwrap_or('?');
                let places = transmit_max - count(&owners, "tp");
                match call {
                    0 => {
                        let room = count(&owners, "f").min(fill_max - count(&owners, "k"));
                        prop_assert_eq!(slots.fill_room(), room);
                        let filled = slots.fill();
                        prop_assert_eq!(filled.is_some(), room > 0);
                        if let Some(filled) = filled { owners[filled as usize] = 'k'; }
                    }
                    1 => {
                        let received = slots.received(address(slot), 100).is_some();
                        prop_assert_eq!(received, owner == 'k');
                        if received { owners[slot] = 'r'; }
                    }
                    2 => {
                        let taken = slots.take();
                        prop_assert_eq!(taken.is_some(), places > 0 && count(&owners, "f") > 0);
                        if let Some(taken) = taken { owners[taken as usize] = 'p'; }
                    }
                    3 => {
                        let sent = slots.transmit(slot as u32);
                        prop_assert_eq!(sent, owner == 'p' || owner == 'r' && places > 0);
                        if sent { owners[slot] = 't'; }
                    }
                    4 => {
                        let completed = slots.completed(address(slot)).is_some();
                        prop_assert_eq!(completed, owner == 't');
                        if completed { owners[slot] = 'f'; }
                    }
                    5 => {
                        let returned = slots.give_back(slot as u32);
                        prop_assert_eq!(returned, owner == 'p' || owner == 'r');
                        if returned { owners[slot] = 'f'; }
                    }
                    _ => {
                        slots.unfill(slot as u32);
                        if owner == 'k' { owners[slot] = 'f'; }
                    }
                }
                prop_assert_eq!(slots.is_in_hand(slot as u32), matches!(owners.get(slot), Some('r' | 'p')));
                let expected = Levels {
                    total,
                    free: count(&owners, "f"),
                    in_hand: count(&owners, "rp"),
                    fill: count(&owners, "k"),
                    transmit: count(&owners, "t"),
                };
                prop_assert_eq!(slots.levels(), expected);
            }
        }
    }
}
