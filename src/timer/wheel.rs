//! A hashed timer wheel: start, stop and expiry in O(1), one link of 10 bytes per record.
//!
//! A slot stands for every `slots`-th granule of time; a record hangs in the slot of the granule that begins at or after
//! its deadline, so that it never fires early and fires at most one granule late. Deadlines further away than one
//! lap stay in their slot and are looked at once per lap.
//!
//! Re-arming is lazy: a record whose deadline moved away keeps its place; when its slot comes, it is asked for its
//! [`Timed::deadline`] again and hung where that says. So a timer that is put off by every segment costs nothing per
//! segment. One without a deadline by then just leaves.
//!
//! A tick is a millisecond, or whatever else all callers of a wheel count. Ticks wrap, and so do granules: both are
//! powers of two. `expire` must be called at least every 2^30 ticks (12 days; 18 minutes where they are microseconds),
//! or [`Wheel::clear`] before it is; an empty wheel may be left for longer, if it is called before something is armed.

use crate::ids::NONE;
use crate::tick::Tick;
use crate::touched::filled;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::size_of;
use core::ops::IndexMut;

/// A record's place in a wheel. The default is in none. Packed, so that it takes no more than it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, packed(2))]
pub struct WheelLink {
    prev: u32,
    next: u32,
    slot: u16,
}

impl WheelLink {
    /// Whether the record is in a wheel.
    #[inline]
    pub const fn is_armed(&self) -> bool {
        self.slot != NO_SLOT
    }
}

impl Default for WheelLink {
    fn default() -> WheelLink {
        WheelLink { prev: NONE, next: NONE, slot: NO_SLOT }
    }
}

/// A record with a deadline.
pub trait Timed {
    /// The record's place in the wheel.
    fn wheel_link(&self) -> &WheelLink;

    /// The record's place in the wheel, for the wheel to change.
    fn wheel_link_mut(&mut self) -> &mut WheelLink;

    /// The earliest moment at which something is due; `None` if nothing will be.
    fn deadline(&self) -> Option<Tick>;
}

/// A wheel over records that it does not own. Every call must be given the same ones.
pub struct Wheel {
    /// The first record of each slot.
    heads: Vec<u32>,
    /// A bit per slot that has a record.
    occupied: Vec<u64>,
    /// What is left of the slot that `expire` has begun: it is emptied before its records are looked at.
    begun: u32,
    /// The first granule that `expire` has not begun.
    next: u32,
    /// log2 of a granule in ms.
    shift: u32,
    len: u32,
}

impl Wheel {
    /// A wheel of `slots` slots of `granule_ms` each that starts at `now`. Both are rounded up to powers of two, the slots
    /// to at least 64, at most 2^15, and a lap is kept within 2^31 ms.
    pub fn new(slots: u32, granule_ms: u32, now: Tick) -> Wheel {
        let (slots, shift) = layout(slots, granule_ms);
        Wheel {
            heads: vec![NONE; slots as usize],
            occupied: filled(slots as usize / 64, || 0),
            begun: NONE,
            next: now.0 >> shift,
            shift,
            len: 0,
        }
    }

    /// Bytes that such a wheel takes.
    pub fn bill(slots: u32, granule_ms: u32) -> u64 {
        let (slots, _) = layout(slots, granule_ms);
        u64::from(slots) * size_of::<u32>() as u64 + u64::from(slots / 64) * size_of::<u64>() as u64
    }

    /// Makes sure that record `number` is looked at when `deadline` has come, or at most a granule later.
    ///
    /// A record that will be looked at earlier anyway keeps its place.
    #[inline(always)]
    pub fn arm<S: IndexMut<u32>>(&mut self, records: &mut S, number: u32, deadline: Tick)
    where
        S::Output: Timed,
    {
        let link = records[number].wheel_link();
        if !link.is_armed() || self.granules_to(link.slot.into()) > self.granules_until(deadline) {
            self.move_to(records, number, deadline);
        }
    }

    /// Takes record `number` out. One that is not in the wheel stays so.
    #[inline]
    pub fn stop<S: IndexMut<u32>>(&mut self, records: &mut S, number: u32)
    where
        S::Output: Timed,
    {
        if records[number].wheel_link().is_armed() {
            self.unlink(records, number);
        }
    }

    /// Takes every record out. For a clock that has jumped further than ticks tell apart.
    pub fn clear<S: IndexMut<u32>>(&mut self, records: &mut S)
    where
        S::Output: Timed,
    {
        while self.begun != NONE {
            self.unlink(records, self.begun);
        }
        for slot in 0..self.heads.len() {
            while self.heads[slot] != NONE {
                self.unlink(records, self.heads[slot]);
            }
        }
    }

    /// Looks at up to `budget` records whose slots have come by `now`: those that are due leave the wheel and are appended
    /// to `due`, which must have room for `budget`; the others hang where their deadline says.
    ///
    /// What the budget leaves is first in the next call. After a clock jump every slot is begun at most once per call.
    pub fn expire<S: IndexMut<u32>>(&mut self, records: &mut S, now: Tick, budget: usize, due: &mut Vec<u32>)
    where
        S::Output: Timed,
    {
        let mut budget = budget;
        let reached = (now.0 >> self.shift).wrapping_add(1);
        if self.is_empty() {
            self.next = reached;
            return;
        }
        let mut granules = self.granules_from_next(reached).max(0) as u32;
        if granules > self.slots() {
            // More than a lap: the last lap visits every slot.
            self.next = reached.wrapping_sub(self.slots());
            granules = self.slots();
        }
        loop {
            self.look_at_begun(records, now, &mut budget, due);
            if self.begun != NONE || granules == 0 {
                return;
            }
            match self.occupied_within(granules) {
                Some(skipped) => {
                    self.begin_slot(skipped);
                    granules -= skipped + 1;
                }
                None => {
                    self.next = reached;
                    return;
                }
            }
        }
    }

    /// The tick before which `expire` has nothing to do, at least `now`; `None` if the wheel is empty. Reads the whole
    /// bitmap at worst: for deciding how long to sleep.
    pub fn next_deadline(&self, now: Tick) -> Option<Tick> {
        if self.begun != NONE {
            return Some(now);
        }
        let granule = self.next.wrapping_add(self.occupied_within(self.slots())?);
        let tick = Tick(granule << self.shift);
        Some(if tick.is_before(now) { now } else { tick })
    }

    /// Records in the wheel.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether no record is in the wheel.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Empties the slot begun, as far as the budget goes.
    fn look_at_begun<S: IndexMut<u32>>(&mut self, records: &mut S, now: Tick, budget: &mut usize, due: &mut Vec<u32>)
    where
        S::Output: Timed,
    {
        while self.begun != NONE && *budget > 0 {
            *budget -= 1;
            let number = self.begun;
            self.unlink(records, number);
            match records[number].deadline() {
                Some(deadline) if deadline.is_at_or_before(now) => due.push(number),
                Some(deadline) => self.link(records, number, self.slot_of(deadline)),
                None => {}
            }
        }
    }

    /// Begins the slot `skipped` granules after the next one.
    fn begin_slot(&mut self, skipped: u32) {
        let granule = self.next.wrapping_add(skipped);
        let slot = granule & self.mask();
        self.next = granule.wrapping_add(1);
        self.begun = core::mem::replace(&mut self.heads[slot as usize], NONE);
        self.set_occupied(slot, false);
    }

    /// Granules from the next one to the first occupied slot, if that is less than `granules`.
    fn occupied_within(&self, granules: u32) -> Option<u32> {
        let mut passed = 0;
        while passed < granules {
            let slot = self.next.wrapping_add(passed) & self.mask();
            let word = self.occupied[slot as usize / 64] >> (slot % 64);
            if word != 0 {
                return Some(passed + word.trailing_zeros()).filter(|&distance| distance < granules);
            }
            passed += 64 - slot % 64;
        }
        None
    }

    /// Hangs the record where `deadline` says. Not inlined: most of those who ask need not be moved.
    #[inline(never)]
    fn move_to<S: IndexMut<u32>>(&mut self, records: &mut S, number: u32, deadline: Tick)
    where
        S::Output: Timed,
    {
        self.stop(records, number);
        self.link(records, number, self.slot_of(deadline));
    }

    #[inline(always)]
    fn link<S: IndexMut<u32>>(&mut self, records: &mut S, number: u32, slot: u32)
    where
        S::Output: Timed,
    {
        let head = core::mem::replace(&mut self.heads[slot as usize], number);
        *records[number].wheel_link_mut() = WheelLink { prev: NONE, next: head, slot: slot as u16 };
        if head == NONE {
            self.set_occupied(slot, true);
        } else {
            records[head].wheel_link_mut().prev = number;
        }
        self.len += 1;
    }

    #[inline(always)]
    fn unlink<S: IndexMut<u32>>(&mut self, records: &mut S, number: u32)
    where
        S::Output: Timed,
    {
        let WheelLink { prev, next, slot } = core::mem::take(records[number].wheel_link_mut());
        if prev != NONE {
            records[prev].wheel_link_mut().next = next;
        } else if self.begun == number {
            self.begun = next;
        } else {
            self.heads[usize::from(slot)] = next;
            if next == NONE {
                self.set_occupied(slot.into(), false);
            }
        }
        if next != NONE {
            records[next].wheel_link_mut().prev = prev;
        }
        self.len -= 1;
    }

    /// The slot of the granule that begins at or after `deadline`; the next one to come for a deadline that has passed.
    #[inline]
    fn slot_of(&self, deadline: Tick) -> u32 {
        self.next.wrapping_add(self.granules_until(deadline)) & self.mask()
    }

    /// Granules from the next one to the one that begins at or after `deadline`; 0 if that has passed.
    #[inline]
    fn granules_until(&self, deadline: Tick) -> u32 {
        let granule = deadline.plus((1 << self.shift) - 1).0 >> self.shift;
        self.granules_from_next(granule).max(0) as u32
    }

    /// Granules from the next one to `granule`, negative if that lies before it.
    #[inline]
    fn granules_from_next(&self, granule: u32) -> i32 {
        // Granules wrap at 2^(32 - shift): moved up to the top, the sign comes out right.
        (granule.wrapping_sub(self.next) << self.shift) as i32 >> self.shift
    }

    /// Granules from the next one to the next visit of `slot`.
    #[inline]
    fn granules_to(&self, slot: u32) -> u32 {
        slot.wrapping_sub(self.next) & self.mask()
    }

    #[inline]
    fn set_occupied(&mut self, slot: u32, occupied: bool) {
        let (word, bit) = (&mut self.occupied[slot as usize / 64], 1 << (slot % 64));
        if occupied { *word |= bit } else { *word &= !bit }
    }

    #[inline]
    fn slots(&self) -> u32 {
        self.heads.len() as u32
    }

    #[inline]
    fn mask(&self) -> u32 {
        self.slots() - 1
    }
}

/// Slots, and log2 of a granule in ms, for a wheel that is asked for with these.
fn layout(slots: u32, granule_ms: u32) -> (u32, u32) {
    let shift = granule_ms.clamp(1, GRANULE_MAX_MS).next_power_of_two().trailing_zeros();
    (slots.clamp(64, SLOTS_MAX.min(LAP_MAX_MS >> shift)).next_power_of_two(), shift)
}

/// Longest granule, ms. Longer ones would leave less than 64 slots within a lap.
const GRANULE_MAX_MS: u32 = LAP_MAX_MS / 64;

/// Longest lap, ms: a quarter of what ticks can tell apart, so that the order of granules is never in doubt.
const LAP_MAX_MS: u32 = 1 << 30;

/// In no slot.
const NO_SLOT: u16 = u16::MAX;

/// Most slots, a power of two: those that a link can name.
const SLOTS_MAX: u32 = 1 << 15;

const _: () = assert!(size_of::<WheelLink>() == 10);
const _: () = assert!(SLOTS_MAX <= NO_SLOT as u32);

#[cfg(test)]
mod tests;
