//! A slab: a fixed number of records of one type, named by number and generation.
//!
//! A slot's generation is odd while its record is live and even while it is free; it only ever counts up (modulo 2^32), so
//! that a number kept beside the generation it was seen with never reaches a later record of the same slot.

use crate::prefetch::prefetch_record;
use alloc::vec::Vec;
use core::mem::size_of;
use core::ops::{Index, IndexMut, Range};

/// A record that a [`Slab`] can hold.
pub trait Record: Default {
    /// The generation of the record's slot.
    fn generation(&self) -> u32;

    /// Keeps the generation. Only the slab calls this.
    fn set_generation(&mut self, generation: u32);

    /// Where the slab keeps the number of the next free slot while the record is free: a field that means something else, or
    /// nothing, while it is live. Only the slab calls this.
    fn next_free(&mut self) -> &mut u32;
}

/// A fixed number of records. Slots are taken last out, first in, so that few connections stay on few cache lines. The free
/// ones are chained through their records: the slab takes no memory beside them.
pub struct Slab<R> {
    records: Vec<R>,
    /// The number of the slot to take next; one past the last when all are live.
    first_free: u32,
    len: u32,
}

impl<R: Record> Slab<R> {
    /// A slab of `max` records, all of them free and all memory touched.
    pub fn new(max: u32) -> Slab<R> {
        let free = |number| {
            let mut record = R::default();
            *record.next_free() = number + 1;
            record
        };
        Slab { records: (0..max).map(free).collect(), first_free: 0, len: 0 }
    }

    /// Bytes that a slab of `max` records takes.
    pub const fn bill(max: u32) -> u64 {
        max as u64 * size_of::<R>() as u64
    }

    /// The addresses of the records.
    pub fn region(&self) -> Range<*const u8> {
        let range = self.records.as_ptr_range();
        range.start.cast()..range.end.cast()
    }

    /// Takes a free slot and returns its number; `None` when all are live.
    ///
    /// The record is `R::default()` with the slot's next odd generation.
    #[inline]
    pub fn insert(&mut self) -> Option<u32> {
        self.insert_with(R::default)
    }

    /// As [`Slab::insert`], with what `make` returns in the place of the default.
    #[inline(always)]
    pub fn insert_with(&mut self, make: impl FnOnce() -> R) -> Option<u32> {
        let number = self.first_free;
        let record = self.records.get_mut(number as usize)?;
        debug_assert!(!is_live(record.generation()), "record {number} is live, and yet it was said to be free");
        let generation = record.generation().wrapping_add(1) | 1;
        self.first_free = *record.next_free();
        *record = make();
        record.set_generation(generation);
        self.len += 1;
        // The one after it is written soon, and whoever takes it has to wait for its number of the next.
        self.prefetch(self.first_free);
        Some(number)
    }

    /// Frees the slot `number`. A slot that is free already stays so.
    #[inline]
    pub fn remove(&mut self, number: u32) {
        let record = &mut self.records[number as usize];
        debug_assert!(is_live(record.generation()), "record {number} is freed twice");
        if is_live(record.generation()) {
            record.set_generation(record.generation().wrapping_add(1));
            *record.next_free() = self.first_free;
            self.first_free = number;
            self.len -= 1;
        }
    }

    /// The record `number` if it is live and of this generation.
    #[inline]
    pub fn get(&self, number: u32, generation: u32) -> Option<&R> {
        match self.records.get(number as usize) {
            Some(record) if record.generation() == generation && is_live(generation) => Some(record),
            _ => None,
        }
    }

    /// The record `number` if it is live and of this generation, to change.
    #[inline]
    pub fn get_mut(&mut self, number: u32, generation: u32) -> Option<&mut R> {
        match self.records.get_mut(number as usize) {
            Some(record) if record.generation() == generation && is_live(generation) => Some(record),
            _ => None,
        }
    }

    /// Whether slot `number` exists and holds a live record.
    #[inline]
    pub fn is_live(&self, number: u32) -> bool {
        self.records.get(number as usize).is_some_and(|record| is_live(record.generation()))
    }

    /// Asks the processor to load record `number`. Any number is harmless.
    #[inline]
    pub fn prefetch(&self, number: u32) {
        if let Some(record) = self.records.get(number as usize) {
            prefetch_record(record);
        }
    }

    /// The live records and their numbers, in the order of the numbers. Reads every slot: for listings.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &R)> {
        self.iter_in(0..self.max())
    }

    /// Those of them whose numbers are in this range; numbers that no slot has are none.
    pub fn iter_in(&self, numbers: Range<u32>) -> impl Iterator<Item = (u32, &R)> {
        let end = numbers.end.min(self.max());
        let start = numbers.start.min(end);
        let records = &self.records[start as usize..end as usize];
        (start..).zip(records).filter(|(_, record)| is_live(record.generation()))
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
    pub fn max(&self) -> u32 {
        self.records.len() as u32
    }
}

/// The live record of this number.
impl<R: Record> Index<u32> for Slab<R> {
    type Output = R;

    #[inline]
    fn index(&self, number: u32) -> &R {
        let record = &self.records[number as usize];
        debug_assert!(is_live(record.generation()), "record {number} is free");
        record
    }
}

impl<R: Record> IndexMut<u32> for Slab<R> {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut R {
        let record = &mut self.records[number as usize];
        debug_assert!(is_live(record.generation()), "record {number} is free");
        record
    }
}

#[inline]
const fn is_live(generation: u32) -> bool {
    generation & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    #[derive(Default, Debug, PartialEq)]
    struct Item {
        generation: u32,
        /// While the item is free, the next free one: whoever writes to it then breaks the slab.
        owner: u32,
        content: u64,
    }

    impl Record for Item {
        fn generation(&self) -> u32 {
            self.generation
        }
        fn set_generation(&mut self, generation: u32) {
            self.generation = generation;
        }
        fn next_free(&mut self) -> &mut u32 {
            &mut self.owner
        }
    }

    proptest! {
        #[test]
        fn any_operations_agree_with_a_map(max in 0..6u32, start in any::<u32>(), ops in proptest::collection::vec((any::<bool>(), any::<u32>()), 1..100)) {
            let mut slab = Slab::<Item>::new(max);
            // Half of the slabs have slots at the end of their generations.
            let start = if start % 2 == 0 { 0 } else { u32::MAX - start % 8 } & !1;
            slab.records.iter_mut().for_each(|item| item.generation = start);
            let mut model = HashMap::new();
            let mut names = HashSet::new();
            for (insert, pick) in ops {
                if insert {
                    let taken = slab.insert();
                    prop_assert_eq!(taken.is_some(), model.len() < max as usize);
                    let Some(number) = taken else { continue };
                    prop_assert_eq!((slab[number].content, slab[number].owner), (0, 0), "records start as default");
                    let generation = slab[number].generation;
                    prop_assert!(names.insert((number, generation)), "a name is given once");
                    // What is kept there while it is live must not reach the slab.
                    (slab[number].owner, slab[number].content) = (pick, u64::from(pick) + 1);
                    model.insert(number, (generation, u64::from(pick) + 1));
                } else if let Some((&number, &(generation, _))) = model.iter().nth(pick as usize % model.len().max(1)) {
                    slab.remove(number);
                    model.remove(&number);
                    prop_assert_eq!(slab.get(number, generation), None);
                    prop_assert_eq!(slab.get_mut(number, generation.wrapping_add(1)), None);
                }
                prop_assert_eq!(slab.len() as usize, model.len());
                for (&number, &(generation, content)) in &model {
                    prop_assert_eq!(slab.get(number, generation).map(|item| item.content), Some(content));
                    prop_assert_eq!(slab.get(number, generation.wrapping_sub(2)), None);
                }
                let start = pick % (max + 2);
                for end in 0..max + 2 {
                    let within = slab.iter().map(|(number, _)| number).filter(|number| (start..end).contains(number));
                    prop_assert!(slab.iter_in(start..end).map(|(number, _)| number).eq(within), "{}..{}", start, end);
                }
                prop_assert!(slab.iter().map(|(number, item)| (number, (item.generation, item.content))).collect::<HashMap<_, _>>() == model);
            }
        }
    }

    #[test]
    fn last_slot_freed_is_first_taken() {
        let mut slab = Slab::<Item>::new(3);
        assert_eq!([slab.insert(), slab.insert(), slab.insert(), slab.insert()], [Some(0), Some(1), Some(2), None]);
        slab.remove(0);
        slab.remove(2);
        assert_eq!([slab.insert(), slab.insert()], [Some(2), Some(0)]);
    }

    #[test]
    fn numbers_past_the_end_are_nobody() {
        let slab = Slab::<Item>::new(0);
        assert_eq!((slab.get(0, 1), slab.is_live(u32::MAX), slab.max()), (None, false, 0));
        slab.prefetch(7);
        assert_eq!(Slab::<Item>::bill(10), 160);
    }
}
