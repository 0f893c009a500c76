//! What former divisions of connections have left with other shards, so that no draw of a port meets it: a filter of
//! 4-tuples that all shards of a stack share.
//!
//! After a change each shard looks through its TCBs (see `handover`) and marks those that are another's now. Until all
//! have done so, a 4-tuple that a former function gave to another shard counts as left there. A mark may be somebody
//! else's, which costs a port for a while, never a connection. TIME-WAIT is not marked: its peer is in CLOSED and
//! answers a SYN as that of any new connection, whose segments a record that they meet elsewhere lets pass.

use crate::flow::index::Hash;
use crate::four_tuple::FourTuple;
use crate::owner::Owners;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// The filter, and how far each shard has come. Every shard hashes with the same key.
#[derive(Debug)]
pub(super) struct Strangers {
    marks: Box<[AtomicU64]>,
    /// By shard, the number of the change ([`Owners::changes`](crate::owner::Owners::changes)) up to which it has
    /// marked what it has.
    marked_to: Box<[AtomicU32]>,
    /// A shard is taking all marks away.
    forgetting: AtomicBool,
}

impl Strangers {
    /// Those of as many shards; a shard alone has none.
    pub(super) fn new(shards: u16) -> Strangers {
        let words = if shards > 1 { MARKS / 64 } else { 0 };
        Strangers {
            marks: (0..words).map(|_| AtomicU64::new(0)).collect(),
            marked_to: (0..shards).map(|_| AtomicU32::new(0)).collect(),
            forgetting: AtomicBool::new(false),
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

    /// The number of the change up to which `shard` has marked what it has.
    pub(super) fn marked_to(&self, shard: u16) -> u32 {
        self.marked_to.get(usize::from(shard)).map_or(u32::MAX, |marked_to| marked_to.load(Ordering::Relaxed))
    }

    /// Whether a connection of `hash` may be left with another shard; `None` where none is marked while not all have
    /// marked theirs up to `changes`.
    pub(super) fn may_have(&self, hash: Hash, changes: u32) -> Option<bool> {
        let all = self.marked_to.iter().all(|marked_to| marked_to.load(Ordering::Acquire) >= changes);
        let is_set = |(word, bit): (usize, u64)| {
            self.marks.get(word).is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
        };
        let marked = places(hash).into_iter().all(is_set);
        (all || marked).then_some(marked)
    }

    /// Takes all marks away unless one `is_needed`, which is asked when nobody begins to mark any more; false if it is.
    ///
    /// A shard that obeys a change first says that it may need marks and then asks [`Strangers::is_forgetting`]: one of
    /// the two sees the other, in the one order of sequentially consistent operations.
    pub(super) fn forget(&self, is_needed: impl Fn() -> bool) -> bool {
        if is_needed() || self.forgetting.swap(true, Ordering::SeqCst) {
            return false;
        }
        let is_needed = is_needed();
        if !is_needed {
            self.marks.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        self.forgetting.store(false, Ordering::SeqCst);
        !is_needed
    }

    /// Whether marks that are made now may be taken away: marking has to wait.
    pub(super) fn is_forgetting(&self) -> bool {
        self.forgetting.load(Ordering::SeqCst)
    }
}

/// What one shard knows of the divisions that held before.
#[derive(Debug)]
pub(super) struct Former {
    /// The newest first; empty when nothing of theirs is left anywhere.
    owners: Vec<Arc<Owners>>,
    /// The number of the last change.
    changes: u32,
}

impl Former {
    /// None.
    pub(super) fn new() -> Former {
        Former { owners: Vec::with_capacity(FORMER_MAX), changes: 0 }
    }

    /// Change number `changes` has put `former`, the newest first and at most [`FORMER_MAX`], out of force.
    pub(super) fn set(&mut self, former: &[Arc<Owners>], changes: u32) {
        self.clear();
        self.owners.extend(former.iter().take(FORMER_MAX).cloned());
        self.changes = changes;
    }

    /// Nothing of theirs is left.
    pub(super) fn clear(&mut self) {
        self.owners.clear();
    }

    /// Whether another shard than `shard` may still have a connection of that name. Where as many as can be are kept, one before
    /// them may be unknown.
    #[inline]
    pub(super) fn may_be_elsewhere(&self, strangers: &Strangers, shard: u16, tuple: &FourTuple, hash: Hash) -> bool {
        let given_elsewhere =
            || self.owners.len() == FORMER_MAX || self.owners.iter().any(|former| former.owner(tuple) != shard);
        !self.owners.is_empty() && strangers.may_have(hash, self.changes).unwrap_or_else(given_elsewhere)
    }
}

/// The two marks of a 4-tuple: word and bit.
fn places(hash: Hash) -> [(usize, u64); 2] {
    // The upper 20 bits and the lower 20: they share eight, which makes less than one port in 100,000 more skipped for nothing.
    [hash.bits(), hash.bits() >> 12].map(|bits| {
        let mark = bits as usize % MARKS;
        (mark / 64, 1 << (mark % 64))
    })
}

/// Functions before the current one that are asked. Fewer lose connections when the table changes often.
pub(super) const FORMER_MAX: usize = 3;

/// Marks of the filter. Origin: with 10,000 connections left elsewhere, one port in 2,750 is skipped for nothing; 128 kB.
const MARKS: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::index::Index;
    use core::cell::Cell;

    /// The shard that obeys a change just when another finds that nothing is left.
    #[test]
    fn marks_of_a_newer_change_outlive_forgetting() {
        let strangers = Strangers::new(2);
        let hash = Index::new(1, (1, 2)).hash(&FourTuple::default());
        strangers.mark(hash);
        let asked = Cell::new(0);
        let forgot = strangers.forget(|| {
            asked.set(asked.get() + 1);
            assert_eq!(strangers.is_forgetting(), asked.get() == 2, "a shard that obeys a change now waits");
            asked.get() == 2
        });
        assert!(!forgot && !strangers.is_forgetting());
        assert_eq!(strangers.may_have(hash, 0), Some(true));
        assert!(strangers.forget(|| false) && !strangers.is_forgetting());
        assert_eq!(strangers.may_have(hash, 0), Some(false));
    }
}
