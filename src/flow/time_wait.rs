//! The TIME-WAIT store: compact records without links, expired by walking memory in order.
//!
//! Records lie in pages of 64. A page hangs in the slot of the deadlines it was filled with, so a slot that has come
//! is a list of pages to walk from front to back; a page whose last record has gone is free again as a whole.
//!
//! ```text
//!   slots   | .. | s | s+1 | ..      a slot per granule: 1/256 to 1/128 of the longest 2MSL, a ring
//!                  |     |
//!                page   page          64 records and a bit for each that is live
//!                  |
//!                page                 the last page of a slot is the one being filled
//! ```
//! The deadline that counts is the record's own: one that has not come when its page is walked keeps its place, and the
//! page hangs in a later slot. So nothing is released early whatever the 2MSL is at run time. A record that is released or
//! restarted (B41) leaves a hole; once no page is free, new records fill the holes of any page, so that there is room for
//! a record exactly as long as fewer than `records_max` are live.

use super::list::{Link, Linked, List};
use super::slab::{Record, Slab};
use crate::prefetch::prefetch_record;
use crate::tick::Tick;
use alloc::vec::Vec;
use core::mem::size_of;
use core::ops::{Index, IndexMut, Range};

/// A record that a [`TimeWaitStore`] can hold.
pub trait TimeWaitRecord: Copy + Default {
    /// Whether the record stands for a 4-tuple in TIME-WAIT; `false` for a default one and after [`Self::mark_hole`].
    fn is_live(&self) -> bool;

    /// Makes the record match no 4-tuple.
    fn mark_hole(&mut self);

    /// When the 2MSL ends.
    fn deadline(&self) -> Tick;

    /// Sets when the 2MSL ends.
    fn set_deadline(&mut self, deadline: Tick);
}

/// TIME-WAIT records of one type, by number.
pub struct TimeWaitStore<R> {
    records: Vec<R>,
    pages: Slab<Page>,
    /// Pages by the granule of their deadline, modulo the number of slots.
    slots: Vec<List<InSlot>>,
    /// Pages with a free place.
    roomy: List<Roomy>,
    /// The first granule that `expire` has not begun.
    next: u32,
    /// The slot that `expire` has begun, and how many of its pages it has still to walk.
    begun: usize,
    begun_pages: u32,
    /// No granule from `next` up to this one has a page.
    earliest: u32,
    /// log2 of a granule in ms.
    shift: u32,
    len: u32,
    records_max: u32,
}

impl<R: TimeWaitRecord> TimeWaitStore<R> {
    /// A store for `records_max` records with deadlines up to `two_msl_max_ms` ahead, all memory touched. Later deadlines
    /// are held as well, only less cheaply.
    pub fn new(records_max: u32, two_msl_max_ms: u32) -> TimeWaitStore<R> {
        let layout = Layout::new(records_max, two_msl_max_ms);
        let mut records = Vec::with_capacity(layout.pages as usize * PAGE as usize);
        records.resize(layout.pages as usize * PAGE as usize, R::default());
        TimeWaitStore {
            records,
            pages: Slab::new(layout.pages),
            slots: (0..layout.slots).map(|_| List::new()).collect(),
            roomy: List::new(),
            next: 0,
            begun: 0,
            begun_pages: 0,
            earliest: 0,
            shift: layout.shift,
            len: 0,
            records_max: records_max.min(RECORDS_MAX),
        }
    }

    /// Bytes that such a store takes.
    pub fn bill(records_max: u32, two_msl_max_ms: u32) -> u64 {
        let layout = Layout::new(records_max, two_msl_max_ms);
        u64::from(layout.pages) * u64::from(PAGE) * size_of::<R>() as u64
            + Slab::<Page>::bill(layout.pages)
            + u64::from(layout.slots) * size_of::<List<InSlot>>() as u64
    }

    /// The addresses of the records.
    pub fn region(&self) -> Range<*const u8> {
        let range = self.records.as_ptr_range();
        range.start.cast()..range.end.cast()
    }

    /// Adds a record and returns its number; `None` when `records_max` are live.
    #[inline]
    pub fn insert(&mut self, record: R, now: Tick) -> Option<u32> {
        if self.len >= self.records_max {
            return None;
        }
        if self.len == 0 {
            self.rewind(now);
        }
        self.add(record)
    }

    /// The record of this number, if it is live.
    #[inline]
    pub fn get(&self, number: u32) -> Option<&R> {
        self.records.get(number as usize).filter(|record| record.is_live())
    }

    /// The record of this number, if it is live, to change. Its deadline is changed by [`TimeWaitStore::restart`].
    #[inline]
    pub fn get_mut(&mut self, number: u32) -> Option<&mut R> {
        self.records.get_mut(number as usize).filter(|record| record.is_live())
    }

    /// Asks the processor to load the record. Any number is harmless.
    #[inline]
    pub fn prefetch(&self, number: u32) {
        if let Some(record) = self.records.get(number as usize) {
            prefetch_record(record);
        }
    }

    /// Removes a record before its time, which leaves a hole. A number that is not live stays so.
    #[inline(always)]
    pub fn release(&mut self, number: u32) {
        if self.get(number).is_none() {
            return;
        }
        self.records[number as usize].mark_hole();
        let page = number / PAGE;
        let full = self.pages[page].live == FULL;
        self.pages[page].live &= !(1 << (number % PAGE));
        self.len -= 1;
        if self.pages[page].live == 0 {
            self.free_page(page);
        } else if full {
            self.roomy.push_back(&mut self.pages, page);
        }
    }

    /// Moves the end of a record's 2MSL (B41): appends a copy with the new deadline, leaves a hole and returns the copy's
    /// number. When the store is full the record stays where it is, under the same number. `None` if it is not live.
    pub fn restart(&mut self, number: u32, deadline: Tick) -> Option<u32> {
        let mut record = *self.get(number)?;
        record.set_deadline(deadline);
        if self.len >= self.records_max {
            self.records[number as usize] = record;
            self.hang_no_later(number / PAGE, deadline);
            return Some(number);
        }
        let copy = self.add(record)?;
        self.release(number);
        Some(copy)
    }

    /// Removes records whose deadline has come by `now` and appends them to `out`, at most `budget` of them and from at most
    /// `budget` pages. `out` must have room for `budget`. What is left is first in the next call.
    ///
    /// A record leaves at most a granule after its deadline, 1/128 of the 2MSL that the store was made for; never before it.
    pub fn expire(&mut self, now: Tick, budget: usize, out: &mut Vec<(u32, R)>) {
        let mut budget = budget;
        let reached = (now.0 >> self.shift).wrapping_add(1);
        let mut granules = self.granules_from_next(reached);
        if granules as usize > self.slots.len() {
            // More than a lap: the last lap begins every slot.
            granules = self.slots.len() as u32;
            self.next = reached.wrapping_sub(granules);
        }
        self.earliest = self.next.wrapping_add(self.granules_from_next(self.earliest));
        loop {
            if !self.walk_begun(now, &mut budget, out) || granules == 0 {
                return;
            }
            self.begun = self.slot(self.next);
            self.begun_pages = self.slots[self.begun].len();
            self.next = self.next.wrapping_add(1);
            granules -= 1;
        }
    }

    /// Removes the record whose 2MSL ends first, as precisely as the slots are: the policy `evict-oldest`. Any if all end later than the store
    /// was made for.
    pub fn evict_oldest(&mut self) -> Option<(u32, R)> {
        let mut oldest: Option<(u32, R)> = None;
        for _ in 0..EARLY_PAGES_MAX {
            let (slot, granule) = self.first_slot()?;
            self.earliest = granule;
            let page = self.slots[slot].front()?;
            let number = self.first_of(page)?;
            let record = self.records[number as usize];
            if oldest.is_none_or(|(_, first)| record.deadline().is_before(first.deadline())) {
                oldest = Some((number, record));
            }
            let due = self.granule_of(record.deadline());
            if self.granules_from_next(due) <= self.granules_from_next(granule) {
                break;
            }
            // Its first records were released or restarted: it goes where the others say.
            self.unhang(page);
            self.hang(page, due);
        }
        let (number, record) = oldest?;
        self.release(number);
        Some((number, record))
    }

    /// The tick before which `expire` has nothing to do; it may lie in the past. `None` if the store is empty.
    pub fn next_deadline(&self) -> Option<Tick> {
        self.first_slot().map(|(_, granule)| Tick(granule << self.shift))
    }

    /// Live records.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether no record is live.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most records that can be live.
    #[inline]
    pub const fn max(&self) -> u32 {
        self.records_max
    }

    /// Places without a record in pages that have one: not filled yet, released, restarted or expired.
    pub fn holes(&self) -> u32 {
        self.pages.len() * PAGE - self.len
    }

    /// Bytes that the store takes.
    pub fn bytes(&self) -> u64 {
        self.records.len() as u64 * size_of::<R>() as u64
            + Slab::<Page>::bill(self.pages.max())
            + (self.slots.len() * size_of::<List<InSlot>>()) as u64
    }

    /// Adds a record, for which there is room.
    #[inline(always)]
    fn add(&mut self, record: R) -> Option<u32> {
        let page = self.page_for(record.deadline())?;
        let place = (!self.pages[page].live).trailing_zeros();
        self.pages[page].live |= 1 << place;
        if self.pages[page].live == FULL {
            self.roomy.remove(&mut self.pages, page);
        }
        self.len += 1;
        let number = page * PAGE + place;
        self.records[number as usize] = record;
        Some(number)
    }

    /// A page with a free place for a record of this deadline: the one its slot is filling, a free one, or any.
    #[inline(always)]
    fn page_for(&mut self, deadline: Tick) -> Option<u32> {
        let granule = self.granule_of(deadline);
        if let Some(page) = self.slots[self.slot(granule)].back()
            && self.pages[page].live != FULL
        {
            self.hang_no_later(page, deadline);
            return Some(page);
        }
        if let Some(page) = self.pages.insert() {
            self.roomy.push_back(&mut self.pages, page);
            self.hang(page, granule);
            return Some(page);
        }
        let page = self.roomy.front()?;
        self.hang_no_later(page, deadline);
        Some(page)
    }

    /// The number of the page's record whose 2MSL ends first.
    fn first_of(&self, page: u32) -> Option<u32> {
        places(self.pages[page].live).map(|place| page * PAGE + place).reduce(|a, b| {
            if self.records[b as usize].deadline().is_before(self.records[a as usize].deadline()) { b } else { a }
        })
    }

    /// Walks what is left of the slot begun; `false` if the budget ended first.
    fn walk_begun(&mut self, now: Tick, budget: &mut usize, out: &mut Vec<(u32, R)>) -> bool {
        while self.begun_pages > 0 {
            let Some(page) = self.slots[self.begun].front() else { break };
            if !self.walk(page, now, budget, out) {
                return false;
            }
            self.begun_pages -= 1;
        }
        self.begun_pages = 0;
        true
    }

    /// Removes the records of a page that are due and hangs the page where the others are; `false` if the budget ended first.
    fn walk(&mut self, page: u32, now: Tick, budget: &mut usize, out: &mut Vec<(u32, R)>) -> bool {
        let mut left: Option<Tick> = None;
        for place in places(self.pages[page].live) {
            let number = page * PAGE + place;
            let record = self.records[number as usize];
            let deadline = record.deadline();
            if !deadline.is_at_or_before(now) {
                left = Some(left.map_or(deadline, |left| left.min(deadline)));
            } else if *budget > 0 {
                *budget -= 1;
                out.push((number, record));
                self.release(number);
            } else {
                return false;
            }
        }
        if let Some(left) = left {
            if *budget == 0 {
                return false;
            }
            *budget -= 1;
            self.unhang(page);
            self.hang(page, self.granule_of(left));
        }
        true
    }

    /// Hangs a page into an earlier slot if it would be walked later than a record of it is due.
    fn hang_no_later(&mut self, page: u32, deadline: Tick) {
        let granule = self.granule_of(deadline);
        if self.granules_from_next(granule) < self.granules_from_next(self.pages[page].granule) {
            self.unhang(page);
            self.hang(page, granule);
        }
    }

    fn hang(&mut self, page: u32, granule: u32) {
        let slot = self.slot(granule);
        self.pages[page].granule = granule;
        self.slots[slot].push_back(&mut self.pages, page);
        if self.granules_from_next(granule) < self.granules_from_next(self.earliest) {
            self.earliest = granule;
        }
    }

    fn unhang(&mut self, page: u32) {
        let slot = self.slot(self.pages[page].granule);
        self.slots[slot].remove(&mut self.pages, page);
    }

    fn free_page(&mut self, page: u32) {
        self.unhang(page);
        self.roomy.remove(&mut self.pages, page);
        self.pages.remove(page);
    }

    /// Begins at `now` what has no record yet.
    fn rewind(&mut self, now: Tick) {
        self.next = now.0 >> self.shift;
        self.earliest = self.next;
        self.begun_pages = 0;
    }

    /// The first slot that has a page, and its granule.
    fn first_slot(&self) -> Option<(usize, u32)> {
        // Pages that were still to be walked may have gone meanwhile; what hangs there since is for the next lap.
        let begun = self.slots[self.begun].front().filter(|_| self.begun_pages > 0);
        if begun.is_some_and(|page| self.granules_from_next(self.pages[page].granule) == 0) {
            return Some((self.begun, self.next.wrapping_sub(1)));
        }
        let from = self.next.wrapping_add(self.granules_from_next(self.earliest));
        (0..self.slots.len() as u32)
            .map(|distance| from.wrapping_add(distance))
            .map(|granule| (self.slot(granule), granule))
            .find(|&(slot, _)| !self.slots[slot].is_empty())
    }

    /// The granule that begins at or after `deadline`: the next one to come if that has passed, the last of the lap if that is further away.
    #[inline]
    fn granule_of(&self, deadline: Tick) -> u32 {
        let granule = deadline.plus((1 << self.shift) - 1).0 >> self.shift;
        self.next.wrapping_add(self.granules_from_next(granule).min(self.slots.len() as u32 - 1))
    }

    /// Granules from the next one to `granule`; 0 if that lies before it.
    #[inline]
    fn granules_from_next(&self, granule: u32) -> u32 {
        // Granules wrap at 2^(32 - shift): moved up to the top, the sign comes out right.
        ((granule.wrapping_sub(self.next) << self.shift) as i32 >> self.shift).max(0) as u32
    }

    #[inline]
    fn slot(&self, granule: u32) -> usize {
        granule as usize & (self.slots.len() - 1)
    }
}

/// The live record of this number.
impl<R> Index<u32> for TimeWaitStore<R> {
    type Output = R;

    #[inline]
    fn index(&self, number: u32) -> &R {
        &self.records[number as usize]
    }
}

impl<R> IndexMut<u32> for TimeWaitStore<R> {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut R {
        &mut self.records[number as usize]
    }
}

/// Where the 64 records of a page hang, and which are live.
#[derive(Default)]
struct Page {
    live: u64,
    generation: u32,
    granule: u32,
    in_slot: Link,
    roomy: Link,
}

/// Names the list of the pages of one slot.
struct InSlot;

/// Names the list of the pages with a free place.
struct Roomy;

impl Record for Page {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }

    fn next_free(&mut self) -> &mut u32 {
        &mut self.granule
    }
}

impl Linked<InSlot> for Page {
    fn link(&self) -> &Link {
        &self.in_slot
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.in_slot
    }
}

impl Linked<Roomy> for Page {
    fn link(&self) -> &Link {
        &self.roomy
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.roomy
    }
}

/// How large the parts of a store are.
struct Layout {
    pages: u32,
    slots: u32,
    shift: u32,
}

impl Layout {
    fn new(records_max: u32, two_msl_max_ms: u32) -> Layout {
        let two_msl_max_ms = two_msl_max_ms.min(TWO_MSL_MAX_MS);
        let full = records_max.min(RECORDS_MAX).div_ceil(PAGE);
        let shift = two_msl_max_ms.div_ceil(SLOTS_PER_2MSL).next_power_of_two().trailing_zeros();
        let slots_filled = (two_msl_max_ms >> shift) + 2;
        // One page more per slot, because each has one that is not full. Few records share theirs, which are walked more often.
        let pages = full + slots_filled.min(full);
        let slots = if pages == 0 { 1 } else { slots_filled.next_power_of_two() };
        Layout { pages, slots, shift }
    }
}

/// The places of the bits of `live`.
fn places(mut live: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let place = live.trailing_zeros();
        live &= live.wrapping_sub(1);
        Some(place).filter(|&place| place < PAGE)
    })
}

/// Records of a page: one for each bit of a word. Fewer cost more per record, more leave more half-filled pages.
const PAGE: u32 = u64::BITS;

/// All records of a page are live.
const FULL: u64 = u64::MAX;

/// Slots that the longest 2MSL is divided into. More release closer to the deadline and leave more half-filled pages.
const SLOTS_PER_2MSL: u32 = 256;

/// Pages that hang too early and that one eviction moves. Each was emptied of 64 records that others must have released or restarted, so that fewer
/// evict a later record only while nearly all are restarted; more make one eviction slower.
const EARLY_PAGES_MAX: u32 = 16;

/// Longest 2MSL that slots are made for, ms: a quarter of what ticks can tell apart.
const TWO_MSL_MAX_MS: u32 = 1 << 30;

/// Most records of a store, so that with the half-filled pages every number fits into a [`Value`](crate::ids::Value).
pub const RECORDS_MAX: u32 = (1 << 30) - (1 << 16);

const _: () = assert!(size_of::<Page>() == 32);
const _: () = assert!((SLOTS_PER_2MSL + 2) * PAGE < 1 << 16);

#[cfg(test)]
mod tests;
