//! What former divisions of connections have left with other shards, so that no draw of a port meets it: a filter of 4-tuples that all
//! shards of a stack share.
//!
//! After a change each shard looks through its TCBs (see `handover`) and marks those that are another's now. Until all have done so, a
//! 4-tuple that the former function gave to another shard counts as left there. A mark may be somebody else's, which costs a port for
//! a while, never a connection. TIME-WAIT is not marked: its peer is in CLOSED and answers a SYN as that of any new connection.

use crate::flow::index::Hash;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The filter, and how far each shard has come. Every shard hashes with the same key.
#[derive(Debug)]
pub(super) struct Strangers {
    marks: Box<[AtomicU64]>,
    /// By shard, the number of the change up to which it has marked what it has.
    marked_to: Box<[AtomicU32]>,
}

impl Strangers {
    /// Those of as many shards; a shard alone has none.
    pub(super) fn new(shards: u16) -> Strangers {
        let words = if shards > 1 { MARKS / 64 } else { 0 };
        Strangers {
            marks: (0..words).map(|_| AtomicU64::new(0)).collect(),
            marked_to: (0..shards).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Bytes of the filter, which all shards share.
    pub(super) const fn bill() -> u64 {
        (MARKS / 8) as u64
    }

    /// A connection of `hash` is with a shard that does not own it any more.
    pub(super) fn mark(&self, hash: Hash) {
        for (word, bit) in places(hash) {
            if let Some(word) = self.marks.get(word) {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// `shard` has marked what it has, up to its change number `changes`.
    pub(super) fn marked(&self, shard: u16, changes: u32) {
        if let Some(marked_to) = self.marked_to.get(usize::from(shard)) {
            marked_to.store(changes, Ordering::Release);
        }
    }

    /// Whether a connection of `hash` may be left with another shard; `None` where none is marked while not all have marked theirs
    /// up to `changes`.
    pub(super) fn may_have(&self, hash: Hash, changes: u32) -> Option<bool> {
        let all = self.marked_to.iter().all(|marked_to| marked_to.load(Ordering::Acquire) >= changes);
        let is_set = |(word, bit): (usize, u64)| {
            self.marks.get(word).is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
        };
        let marked = places(hash).into_iter().all(is_set);
        (all || marked).then_some(marked)
    }

    /// Nothing is left anywhere.
    pub(super) fn forget(&self) {
        self.marks.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

/// The two marks of a 4-tuple: word and bit.
fn places(hash: Hash) -> [(usize, u64); 2] {
    [hash.bits(), hash.bits() >> 32].map(|bits| {
        let mark = bits as usize % MARKS;
        (mark / 64, 1 << (mark % 64))
    })
}

/// Marks of the filter. Origin: with 10,000 connections left elsewhere, one port in 10,000 is skipped for nothing; 128 kB.
const MARKS: usize = 1 << 20;
