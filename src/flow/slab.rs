//! A slab: a fixed number of records of one type, named by number and generation.
//!
//! A slot's generation is odd while its record is live and even while it is free; it only ever counts up (modulo 2^32), so
//! that a number kept beside the generation it was seen with never reaches a later record of the same slot.

use crate::prefetch::prefetch_two_lines;
use alloc::vec::Vec;
use core::mem::size_of;
use core::ops::{Index, IndexMut};

/// A record that a [`Slab`] can hold.
pub trait Record: Default {
    /// The generation of the record's slot.
    fn generation(&self) -> u32;

    /// Keeps the generation. Only the slab calls this.
    fn set_generation(&mut self, generation: u32);
}

/// A fixed number of records. Slots are taken last out, first in, so that few connections stay on few cache lines.
pub struct Slab<R> {
    records: Vec<R>,
    free: Vec<u32>,
}

impl<R: Record> Slab<R> {
    /// A slab of `max` records, all of them free and all memory touched.
    pub fn new(max: u32) -> Slab<R> {
        let mut records = Vec::with_capacity(max as usize);
        records.resize_with(max as usize, R::default);
        Slab { records, free: (0..max).rev().collect() }
    }

    /// Bytes that a slab of `max` records takes.
    pub const fn bill(max: u32) -> u64 {
        max as u64 * (size_of::<R>() + size_of::<u32>()) as u64
    }

    /// Takes a free slot and returns its number; `None` when all are live.
    ///
    /// The record is `R::default()` with the slot's next odd generation.
    #[inline]
    pub fn insert(&mut self) -> Option<u32> {
        let number = self.free.pop()?;
        let record = &mut self.records[number as usize];
        let generation = record.generation().wrapping_add(1) | 1;
        *record = R::default();
        record.set_generation(generation);
        Some(number)
    }

    /// Frees the slot `number`. A slot that is free already stays so.
    #[inline]
    pub fn remove(&mut self, number: u32) {
        let record = &mut self.records[number as usize];
        debug_assert!(is_live(record.generation()), "record {number} is freed twice");
        if is_live(record.generation()) {
            record.set_generation(record.generation().wrapping_add(1));
            self.free.push(number);
        }
    }

    /// The record `number` if it is live and of this generation.
    #[inline]
    pub fn get(&self, number: u32, generation: u32) -> Option<&R> {
        self.records.get(number as usize).filter(|record| record.generation() == generation && is_live(generation))
    }

    /// The record `number` if it is live and of this generation, to change.
    #[inline]
    pub fn get_mut(&mut self, number: u32, generation: u32) -> Option<&mut R> {
        self.records.get_mut(number as usize).filter(|record| record.generation() == generation && is_live(generation))
    }

    /// Whether slot `number` exists and holds a live record.
    #[inline]
    pub fn is_live(&self, number: u32) -> bool {
        self.records.get(number as usize).is_some_and(|record| is_live(record.generation()))
    }

    /// Asks the processor to load the first two cache lines of record `number`. Any number is harmless.
    #[inline]
    pub fn prefetch(&self, number: u32) {
        if let Some(record) = self.records.get(number as usize) {
            prefetch_two_lines(record);
        }
    }

    /// The live records and their numbers, in the order of the numbers. Reads every slot: for listings.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &R)> {
        (0..).zip(&self.records).filter(|(_, record)| is_live(record.generation()))
    }

    /// Live records.
    #[inline]
    pub fn len(&self) -> u32 {
        (self.records.len() - self.free.len()) as u32
    }

    /// Whether no record is live.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
