//! The connection index: from a 4-tuple's keyed hash to a kind and a record number.
//!
//! Buckets are cache lines of twelve entries: an 8-bit tag and a 32-bit [`Value`] each. The hash names an entry's home; if
//! that is full the entry lies in the first bucket after it that is not, and every full bucket it passed counts it. A
//! look-up goes on past a bucket only while that count is not zero, so absent 4-tuples are known to be absent after 1.2
//! lines on average at the bound. The 4-tuple itself is in the record: whoever looks up compares it there.
//!
//! A burst is looked up in stages: `hash` and `prefetch` for all, then `candidate` for all (and a prefetch of the records),
//! then `find` for each. What find returns is a hint as long as `change_count` of its hash has not moved.
//!
//! Chosen 4-tuples (T30): the hash is SipHash-1-3 with a secret key, so that a peer cannot know which of its 4-tuples
//! share a bucket. A flood of n of them probes like n random ones.

use crate::four_tuple::FourTuple;
use crate::ids::Value;
use crate::prefetch::prefetch;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::size_of;
use siphasher::sip::SipHasher13;

/// A 4-tuple's keyed hash in one index. The high bits name the home bucket, the low eight the tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hash(u64);

/// The index holds as many entries as it was made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the connection index is full: raise the limit on TCBs or TIME-WAIT records")]
pub struct Full;

/// The map from 4-tuples to records. It never grows, moves or rehashes an entry.
pub struct Index {
    buckets: Vec<Bucket>,
    key: SipHasher13,
    len: u32,
    entries_max: u32,
}

impl Index {
    /// An index for `entries_max` entries, four fifths of its places. `key` must be secret and random.
    pub fn new(entries_max: u32, key: (u64, u64)) -> Index {
        Index {
            buckets: vec![Bucket::EMPTY; bucket_count(entries_max)],
            key: SipHasher13::new_with_keys(key.0, key.1),
            len: 0,
            entries_max,
        }
    }

    /// Bytes that an index for `entries_max` entries takes.
    pub const fn bill(entries_max: u32) -> u64 {
        (bucket_count(entries_max) * size_of::<Bucket>()) as u64
    }

    /// The keyed hash of a 4-tuple.
    #[inline]
    pub fn hash(&self, tuple: &FourTuple) -> Hash {
        let (key, used) = tuple.key_bytes();
        Hash(self.key.hash(&key[..used]))
    }

    /// Asks the processor to load the home bucket of `hash`.
    #[inline]
    pub fn prefetch(&self, hash: Hash) {
        prefetch(&self.buckets[self.home(hash)]);
    }

    /// The first value whose tag matches, without a look at its record: nearly always the only one.
    #[inline]
    pub fn candidate(&self, hash: Hash) -> Option<Value> {
        self.find(hash, |_| true)
    }

    /// The value of `hash` for which `is_it` holds, which compares the 4-tuple in the record.
    #[inline]
    pub fn find(&self, hash: Hash, is_it: impl Fn(Value) -> bool) -> Option<Value> {
        let mut at = self.home(hash);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            let found = places(bucket.matches(hash.tag())).map(|place| bucket.values[place]).find(|&v| is_it(v));
            if found.is_some() || bucket.passed == 0 {
                return found;
            }
            at = self.after(at);
        }
        None
    }

    /// Adds an entry. It must not be there yet.
    pub fn insert(&mut self, hash: Hash, value: Value) -> Result<(), Full> {
        if self.len >= self.entries_max {
            return Err(Full);
        }
        let home = self.home(hash);
        let mut at = home;
        // A fifth of the places is free: this ends.
        let place = loop {
            match places(self.buckets[at].matches(EMPTY)).next() {
                Some(place) => break place,
                None => self.buckets[at].pass(),
            }
            at = self.after(at);
        };
        self.buckets[at].tags[place] = hash.tag();
        self.buckets[at].values[place] = value;
        self.buckets[home].changed();
        self.len += 1;
        Ok(())
    }

    /// Puts `new` in the place of `old`; `false` if `old` is not there.
    pub fn replace(&mut self, hash: Hash, old: Value, new: Value) -> bool {
        let Some((at, place)) = self.place_of(hash, old) else { return false };
        let home = self.home(hash);
        self.buckets[at].values[place] = new;
        self.buckets[home].changed();
        true
    }

    /// Removes an entry; `false` if it is not there.
    pub fn remove(&mut self, hash: Hash, value: Value) -> bool {
        let Some((end, place)) = self.place_of(hash, value) else { return false };
        self.buckets[end].tags[place] = EMPTY;
        let home = self.home(hash);
        let mut at = home;
        while at != end {
            self.buckets[at].unpass();
            at = self.after(at);
        }
        self.buckets[home].changed();
        self.len -= 1;
        true
    }

    /// A count, modulo 2^16, that moves whenever an entry with the same home as `hash` is added, replaced or removed.
    #[inline]
    pub fn change_count(&self, hash: Hash) -> u16 {
        self.buckets[self.home(hash)].change_count
    }

    /// Entries.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is no entry.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that the index takes.
    pub fn bytes(&self) -> u64 {
        (self.buckets.len() * size_of::<Bucket>()) as u64
    }

    /// The most buckets that a look-up of an absent 4-tuple may read now. Reads the whole index: for tests and metrics.
    pub fn longest_probe(&self) -> u32 {
        let (mut longest, mut run) = (0, 0);
        // Twice around, so that a run across the end counts whole.
        for bucket in self.buckets.iter().chain(&self.buckets).take(2 * self.buckets.len()) {
            run = if bucket.passed == 0 { 0 } else { run + 1 };
            longest = longest.max(run + 1);
        }
        longest.min(self.buckets.len() as u32)
    }

    fn place_of(&self, hash: Hash, value: Value) -> Option<(usize, usize)> {
        let mut at = self.home(hash);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            if let Some(place) = places(bucket.matches(hash.tag())).find(|&place| bucket.values[place] == value) {
                return Some((at, place));
            }
            if bucket.passed == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// The home bucket: the hash as a fraction of 2^64, scaled to the number of buckets.
    #[inline]
    fn home(&self, hash: Hash) -> usize {
        ((u128::from(hash.0) * self.buckets.len() as u128) >> 64) as usize
    }

    #[inline]
    fn after(&self, at: usize) -> usize {
        if at + 1 == self.buckets.len() { 0 } else { at + 1 }
    }
}

impl Hash {
    #[inline]
    const fn tag(self) -> u8 {
        let tag = self.0 as u8;
        if tag == EMPTY { 1 } else { tag }
    }
}

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Bucket {
    /// [`EMPTY`], or the low bits of the hash.
    tags: [u8; PLACES],
    /// Moves with every change to an entry whose home is here.
    change_count: u16,
    /// Entries that found this bucket full and lie further on. Once at its maximum it stays there, which is safe.
    passed: u16,
    values: [Value; PLACES],
}

impl Bucket {
    const EMPTY: Bucket =
        Bucket { tags: [EMPTY; PLACES], change_count: 0, passed: 0, values: [Value::from_bits(0); PLACES] };

    /// A bit (the top one of each byte) for every place whose tag is `tag`.
    #[inline]
    fn matches(&self, tag: u8) -> u128 {
        let mut tags = [!tag; 16];
        tags[..PLACES].copy_from_slice(&self.tags);
        let differ = u128::from_le_bytes(tags) ^ (EACH_BYTE * u128::from(tag));
        // A byte of `differ` is zero exactly if neither its low bits carry into the top one nor that is set.
        !((differ & LOW_BITS).wrapping_add(LOW_BITS) | differ | LOW_BITS)
    }

    #[inline]
    const fn changed(&mut self) {
        self.change_count = self.change_count.wrapping_add(1);
    }

    #[inline]
    const fn pass(&mut self) {
        self.passed = self.passed.saturating_add(1);
    }

    #[inline]
    const fn unpass(&mut self) {
        if self.passed != u16::MAX {
            self.passed = self.passed.saturating_sub(1);
        }
    }
}

/// The places of the bits of [`Bucket::matches`].
#[inline]
fn places(mut matches: u128) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        if matches == 0 {
            return None;
        }
        let place = matches.trailing_zeros() as usize / 8;
        matches &= matches - 1;
        Some(place)
    })
}

/// Buckets for `entries_max` entries at a load of four fifths, at least one.
const fn bucket_count(entries_max: u32) -> usize {
    let places = (entries_max as u64 * 5).div_ceil(4);
    let buckets = places.div_ceil(PLACES as u64);
    if buckets == 0 { 1 } else { buckets as usize }
}

/// Entries per bucket: what a cache line holds beside the two counts.
const PLACES: usize = 12;

/// The tag of a place without an entry.
const EMPTY: u8 = 0;

/// Each byte 0x01, and each byte 0x7f.
const EACH_BYTE: u128 = u128::from_le_bytes([0x01; 16]);
const LOW_BITS: u128 = EACH_BYTE * 0x7f;

const _: () = assert!(size_of::<Bucket>() == 64);
