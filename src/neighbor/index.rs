//! Address to entry number: open addressing with linear probing and a keyed hash (T30).

use crate::ids::NONE;
use crate::keyed_hash::TableHash;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::size_of;
use core::net::IpAddr;

/// The table. It is at most half full, so that a probe ends soon; the addresses themselves are in the entries.
#[derive(Debug)]
pub(super) struct Index {
    slots: Vec<Slot>,
    key: TableHash,
}

/// The number of an entry, or [`NONE`], and the hash of its address.
#[derive(Clone, Copy, Debug)]
struct Slot {
    number: u32,
    hash: u32,
}

impl Index {
    /// A table for `max` entries.
    pub(super) fn new(max: u32, key: (u64, u64)) -> Index {
        Index { slots: vec![EMPTY; slot_count(max)], key: TableHash::new(key) }
    }

    /// Bytes that a table for `max` entries takes.
    pub(super) const fn bill(max: u32) -> u64 {
        (slot_count(max) * size_of::<Slot>()) as u64
    }

    /// The number of the entry for `ip`; `is_it` says whether the address of an entry is `ip`.
    pub(super) fn find(&self, ip: IpAddr, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = self.hash(ip);
        let mut at = self.home(hash);
        loop {
            let slot = self.slots[at];
            if slot.number == NONE {
                return None;
            }
            if slot.hash == hash && is_it(slot.number) {
                return Some(slot.number);
            }
            at = self.after(at);
        }
    }

    /// Adds entry `number` for `ip`, which has none.
    pub(super) fn insert(&mut self, ip: IpAddr, number: u32) {
        let hash = self.hash(ip);
        let mut at = self.home(hash);
        while self.slots[at].number != NONE {
            at = self.after(at);
        }
        self.slots[at] = Slot { number, hash };
    }

    /// Takes out entry `number` of `ip`, and moves later slots of the probe up so that none is cut off.
    pub(super) fn remove(&mut self, ip: IpAddr, number: u32) {
        let mut hole = self.home(self.hash(ip));
        while self.slots[hole].number != number {
            if self.slots[hole].number == NONE {
                debug_assert!(false, "an entry is not in the index");
                return;
            }
            hole = self.after(hole);
        }
        let mut at = self.after(hole);
        while self.slots[at].number != NONE {
            // A slot may move to the hole unless its home lies behind the hole.
            let distance_home = at.wrapping_sub(self.home(self.slots[at].hash)) & (self.slots.len() - 1);
            let distance_hole = at.wrapping_sub(hole) & (self.slots.len() - 1);
            if distance_home >= distance_hole {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
            at = self.after(at);
        }
        self.slots[hole] = EMPTY;
    }

    fn hash(&self, ip: IpAddr) -> u32 {
        self.key.address(ip) as u32
    }

    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }
}

/// Slots of a table for `max` entries: a power of two, at least twice as many.
const fn slot_count(max: u32) -> usize {
    let count = (max as usize * 2).next_power_of_two();
    if count < 2 { 2 } else { count }
}

const EMPTY: Slot = Slot { number: NONE, hash: 0 };
