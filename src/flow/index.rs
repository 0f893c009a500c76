//! The connection index: from a 4-tuple's keyed hash to a kind and a record number.
//!
//! Buckets are cache lines of twelve entries: an 8-bit tag and a 32-bit [`Value`] each. The hash names an entry's home; if
//! that is full the entry goes on in steps of its own (1, 2, 4 .. 128 buckets, by the low bits of its tag, so that full buckets
//! do not grow into runs) to the first bucket that is not. The home counts its entries that are away and keeps how far the
//! furthest went, which is how far a look-up goes. The 4-tuple is in the record: whoever looks up compares it there.
//!
//! A burst is looked up in stages: `hash` and `prefetch` for all, then `candidate` for all (and a prefetch of the records),
//! then `find` for each. What find returns is a hint as long as `change_count` of its hash has not moved.
//!
//! Chosen 4-tuples (T30): the hash is SipHash-1-3 with a secret key, so that a peer cannot know which of its 4-tuples
//! share a bucket. A flood of n of them probes like n random ones.

use crate::four_tuple::FourTuple;
use crate::ids::Value;
use crate::keyed_hash::TableHash;
use crate::prefetch::prefetch;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::size_of;
use core::ops::Range;

/// A 4-tuple's keyed hash in one index. The high bits name the home bucket, the low eight the tag. They are the same bits from 16
/// million buckets on, for 160 million entries: there tags begin to say less.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hash(u32);

/// The index holds as many entries as it was made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the connection index is full: raise the limit on TCBs or TIME-WAIT records")]
pub struct Full;

/// The map from 4-tuples to records. It never grows, moves or rehashes an entry.
pub struct Index {
    buckets: Vec<Bucket>,
    key: TableHash,
    len: u32,
    entries_max: u32,
}

impl Index {
    /// An index for `entries_max` entries, four fifths of its places. `key` must be secret and random.
    pub fn new(entries_max: u32, key: (u64, u64)) -> Index {
        Index { buckets: vec![Bucket::EMPTY; bucket_count(entries_max)], key: TableHash::new(key), len: 0, entries_max }
    }

    /// Bytes that an index for `entries_max` entries takes.
    pub const fn bill(entries_max: u32) -> u64 {
        (bucket_count(entries_max) * size_of::<Bucket>()) as u64
    }

    /// The addresses of the buckets.
    pub fn region(&self) -> Range<*const u8> {
        let range = self.buckets.as_ptr_range();
        range.start.cast()..range.end.cast()
    }

    /// The keyed hash of a 4-tuple.
    #[inline]
    pub fn hash(&self, tuple: &FourTuple) -> Hash {
        Hash((self.wide_hash(tuple) >> 32) as u32)
    }

    /// The same in 64 bits, for uses beside the index.
    #[inline]
    pub fn wide_hash(&self, tuple: &FourTuple) -> u64 {
        self.key.tuple(tuple)
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
    #[inline(always)]
    pub fn find(&self, hash: Hash, is_it: impl Fn(Value) -> bool) -> Option<Value> {
        let home = &self.buckets[self.home(hash)];
        match home.find(hash, &is_it) {
            None if home.reach > 0 => self.find_away(hash, is_it),
            found => found,
        }
    }

    /// As [`Index::find`], beyond the home bucket.
    #[cold]
    #[inline(never)]
    fn find_away(&self, hash: Hash, is_it: impl Fn(Value) -> bool) -> Option<Value> {
        let mut at = self.home(hash);
        for _ in 1..self.probes(at) {
            at = self.after(at, hash);
            let found = self.buckets[at].find(hash, &is_it);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Adds an entry. It must not be there yet.
    #[inline(always)]
    pub fn insert(&mut self, hash: Hash, value: Value) -> Result<(), Full> {
        if self.len >= self.entries_max {
            return Err(Full);
        }
        let home = self.home(hash);
        let (mut at, mut distance) = (home, 0);
        // A fifth of the places is free and every step leads through all buckets: this ends.
        let place = loop {
            if let Some(place) = places(self.buckets[at].matches(EMPTY)).next() {
                break place;
            }
            at = self.after(at, hash);
            distance += 1;
        };
        self.buckets[at].tags[place] = hash.tag();
        self.buckets[at].values[place] = value;
        self.buckets[home].sent(distance);
        self.buckets[home].changed();
        self.len += 1;
        Ok(())
    }

    /// Puts `new` in the place of `old`; `false` if `old` is not there.
    #[inline(always)]
    pub fn replace(&mut self, hash: Hash, old: Value, new: Value) -> bool {
        let Some((at, place, _)) = self.place_of(hash, old) else { return false };
        let home = self.home(hash);
        self.buckets[at].values[place] = new;
        self.buckets[home].changed();
        true
    }

    /// Removes an entry; `false` if it is not there.
    #[inline(always)]
    pub fn remove(&mut self, hash: Hash, value: Value) -> bool {
        let Some((at, place, distance)) = self.place_of(hash, value) else { return false };
        let home = self.home(hash);
        self.buckets[at].tags[place] = EMPTY;
        self.buckets[home].lost(distance);
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

    /// The most buckets that a look-up may read now. Reads the whole index: for tests and metrics.
    pub fn longest_probe(&self) -> u32 {
        (0..self.buckets.len()).map(|home| self.probes(home) as u32).max().unwrap_or(0)
    }

    /// Bucket, place in it, and distance from home in steps.
    #[inline(always)]
    fn place_of(&self, hash: Hash, value: Value) -> Option<(usize, usize, usize)> {
        let home = self.home(hash);
        match self.buckets[home].place_of(hash, value) {
            Some(place) => Some((home, place, 0)),
            None => self.place_away(hash, value),
        }
    }

    /// As [`Index::place_of`], beyond the home bucket.
    #[cold]
    #[inline(never)]
    fn place_away(&self, hash: Hash, value: Value) -> Option<(usize, usize, usize)> {
        let mut at = self.home(hash);
        for distance in 1..self.probes(at) {
            at = self.after(at, hash);
            if let Some(place) = self.buckets[at].place_of(hash, value) {
                return Some((at, place, distance));
            }
        }
        None
    }

    /// Buckets in which an entry with this home can be.
    #[inline]
    fn probes(&self, home: usize) -> usize {
        match self.buckets[home].reach {
            u8::MAX => self.buckets.len(),
            reach => usize::from(reach) + 1,
        }
    }

    /// The home bucket: the hash as a fraction of 2^32, scaled to the number of buckets, which is less.
    #[inline]
    fn home(&self, hash: Hash) -> usize {
        ((u64::from(hash.0) * self.buckets.len() as u64) >> 32) as usize
    }

    /// The bucket that an entry goes on to. The number of buckets is odd, so a power of two leads through all of them.
    #[inline]
    fn after(&self, at: usize, hash: Hash) -> usize {
        let next = at + hash.step();
        // Spelled out: a division takes longer than the rest of a look-up.
        if next < self.buckets.len() { next } else { next % self.buckets.len() }
    }
}

impl Hash {
    /// All of the hash, for uses beside the index.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Buckets past each full one. It depends on what the tag is made of, and so on nothing that names the home.
    #[inline]
    const fn step(self) -> usize {
        1 << (self.0 & (STEPS - 1))
    }

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
    /// Entries whose home is here and that lie elsewhere. Once at its maximum it stays there, which is safe.
    away: u8,
    /// Steps to the furthest of those since there were none; at its maximum it means all buckets.
    reach: u8,
    values: [Value; PLACES],
}

impl Bucket {
    const EMPTY: Bucket =
        Bucket { tags: [EMPTY; PLACES], change_count: 0, away: 0, reach: 0, values: [Value::from_bits(0); PLACES] };

    /// A bit for every place whose tag is `tag`, as [`places`] reads them.
    #[inline]
    fn matches(&self, tag: u8) -> u64 {
        let [a, b, c, d, e, f, g, h, last @ ..] = self.tags;
        let (first, last) = (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from(u32::from_le_bytes(last)));
        let each = EACH_BYTE * u64::from(tag);
        zero_bytes(first ^ each) >> 7 | (zero_bytes(last ^ each) & TOP_BITS_OF_LAST) >> 6
    }

    /// The value for which `is_it` holds of those whose tag is that of `hash`.
    #[inline(always)]
    fn find(&self, hash: Hash, is_it: impl Fn(Value) -> bool) -> Option<Value> {
        places(self.matches(hash.tag())).map(|place| self.values[place]).find(|&value| is_it(value))
    }

    /// The place of `value`, whose tag is that of `hash`.
    #[inline(always)]
    fn place_of(&self, hash: Hash, value: Value) -> Option<usize> {
        places(self.matches(hash.tag())).find(|&place| self.values[place] == value)
    }

    #[inline]
    const fn changed(&mut self) {
        self.change_count = self.change_count.wrapping_add(1);
    }

    /// Notes an entry that was put `distance` steps away.
    #[inline]
    fn sent(&mut self, distance: usize) {
        if distance > 0 {
            self.away = self.away.saturating_add(1);
            self.reach = self.reach.max(u8::try_from(distance).unwrap_or(u8::MAX));
        }
    }

    /// Notes that an entry `distance` steps away is gone.
    #[inline]
    const fn lost(&mut self, distance: usize) {
        if distance > 0 && self.away != u8::MAX {
            self.away = self.away.saturating_sub(1);
            if self.away == 0 {
                self.reach = 0;
            }
        }
    }
}

/// The top bit of every byte that is zero.
#[inline]
const fn zero_bytes(bytes: u64) -> u64 {
    // A byte is zero exactly if neither its low bits carry into the top one nor that is set.
    !((bytes & LOW_BITS).wrapping_add(LOW_BITS) | bytes | LOW_BITS)
}

/// The places of the bits of [`Bucket::matches`]: the first eight have the lowest bit of their byte, the others the second.
#[inline]
fn places(mut matches: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        if matches == 0 {
            return None;
        }
        let bit = matches.trailing_zeros() as usize;
        matches &= matches - 1;
        Some(bit >> 3 | (bit & 1) << 3)
    })
}

/// Buckets for `entries_max` entries at a load of four fifths: an odd number.
const fn bucket_count(entries_max: u32) -> usize {
    let places = (entries_max as u64 * 5).div_ceil(4);
    let buckets = places.div_ceil(PLACES as u64);
    buckets as usize | 1
}

/// Entries per bucket: what a cache line holds beside the two counts.
const PLACES: usize = 12;

/// How many steps there are past a full bucket, a power of two. Fewer let runs of full buckets grow, more leave the page.
const STEPS: u32 = 8;

/// The tag of a place without an entry.
const EMPTY: u8 = 0;

/// Each byte 0x01, and each byte 0x7f.
const EACH_BYTE: u64 = u64::from_le_bytes([0x01; 8]);
const LOW_BITS: u64 = EACH_BYTE * 0x7f;

/// The top bits of the last four places' tags.
const TOP_BITS_OF_LAST: u64 = 0x8080_8080;

const _: () = assert!(size_of::<Bucket>() == 64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Kind;
    use core::net::Ipv4Addr;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn tuple(number: u32) -> FourTuple {
        let [a, b, c, d] = number.to_be_bytes();
        FourTuple::new(Ipv4Addr::new(10, 0, 0, 1).into(), 80, Ipv4Addr::new(10, a, b, c).into(), u16::from(d))
    }

    fn value(number: u32) -> Value {
        Value::new(Kind::Tcb, number)
    }

    proptest! {
        #[test]
        fn any_operations_agree_with_a_map(
            max in 0..60u32,
            key in any::<(u64, u64)>(),
            same_home in any::<bool>(),
            changed in any::<u16>(),
            ops in proptest::collection::vec((0..4u8, 0..80u32, 0..1000u32), 1..300),
        ) {
            let mut index = Index::new(max, key);
            // Counts near their wrap half of the time.
            let changed = if changed.is_multiple_of(2) { changed } else { u16::MAX - changed % 20 };
            index.buckets.iter_mut().for_each(|bucket| bucket.change_count = changed);
            // Either real hashes, or hashes of which many share a home and a tag.
            let hash_of = |index: &Index, n: u32| if same_home { Hash((n % 3) << 29 | (n & 7)) } else { index.hash(&tuple(n)) };
            let mut model: HashMap<u32, Value> = HashMap::new();
            for (op, n, number) in ops {
                let hash = hash_of(&index, n);
                let before = index.change_count(hash);
                let new = value(n * 1000 + number);
                let changed = match (op, model.get(&n).copied()) {
                    (0 | 1, None) => {
                        let inserted = index.insert(hash, new);
                        prop_assert_eq!(inserted.is_ok(), model.len() < max as usize);
                        if inserted.is_ok() { model.insert(n, new); }
                        inserted.is_ok()
                    }
                    (0 | 1, Some(old)) => {
                        prop_assert!(index.replace(hash, old, new));
                        model.insert(n, new);
                        true
                    }
                    (_, Some(old)) => {
                        prop_assert!(index.remove(hash, old) && !index.remove(hash, old));
                        model.remove(&n);
                        true
                    }
                    (_, None) => {
                        prop_assert!(!index.replace(hash, new, new));
                        false
                    }
                };
                prop_assert_eq!(index.change_count(hash) != before, changed);
                prop_assert_eq!(index.len() as usize, model.len());
                for n in 0..80 {
                    let found = index.find(hash_of(&index, n), |v| v.number() / 1000 == n);
                    prop_assert_eq!(found, model.get(&n).copied());
                    prop_assert!(found.is_none() || index.candidate(hash_of(&index, n)).is_some());
                }
            }
            for (n, old) in model {
                prop_assert!(index.remove(hash_of(&index, n), old));
            }
            prop_assert!(index.buckets.iter().all(|bucket| bucket.reach == 0 && bucket.tags == [EMPTY; PLACES]));
        }
    }

    #[test]
    fn filled_to_its_bound_finds_everything_within_few_buckets() {
        let mut index = Index::new(FLOOD, (3, 4));
        for n in 0..FLOOD {
            index.insert(index.hash(&tuple(n)), value(n)).unwrap();
        }
        assert_eq!(index.insert(index.hash(&tuple(FLOOD)), value(FLOOD)), Err(Full));
        assert!((0..FLOOD).all(|n| index.find(index.hash(&tuple(n)), |v| v.number() == n).is_some()));
        assert!(index.longest_probe() <= 20, "{}", index.longest_probe());
        assert!(index.bytes() <= u64::from(FLOOD) * 667 / 100 + 128);
        assert_eq!(index.bytes(), Index::bill(FLOOD));
    }

    /// T30: 4-tuples that an attacker made collide under a key it guessed scatter under the real one, in a full index as in an empty one.
    #[test]
    fn flood_of_chosen_tuples_keeps_probes_short() {
        let (guessed, real) = ((0, 0), (0x5eed, 0xca5e));
        let chosen = Index::new(FLOOD, guessed);
        let chosen: Vec<_> =
            (0..).map(tuple).filter(|tuple| chosen.home(chosen.hash(tuple)) < 64).take(CHOSEN as usize).collect();
        let others: Vec<_> = (0..FLOOD - CHOSEN).map(|n| tuple(n).reversed()).collect();
        let longest = |key, others: &[FourTuple]| {
            let mut index = Index::new(FLOOD, key);
            for (number, tuple) in (0..).zip(others.iter().chain(&chosen)) {
                index.insert(index.hash(tuple), value(number)).unwrap();
            }
            index.longest_probe()
        };
        assert!(
            longest(guessed, &[]) > 100 && longest(guessed, &others) > 100,
            "they do collide under the guessed key"
        );
        assert!(longest(real, &[]) <= 2, "{}", longest(real, &[]));
        assert!(longest(real, &others) <= 20, "{}", longest(real, &others));
    }

    #[test]
    fn counts_at_their_maximum_stay_and_lose_nothing() {
        let mut index = Index::new(6000, (1, 2));
        let home = Hash(7);
        (0..4000).for_each(|n| index.insert(home, value(n)).unwrap());
        assert_eq!((index.buckets[0].away, index.buckets[0].reach), (u8::MAX, u8::MAX));
        assert!((0..4000).all(|n| index.find(home, |v| v.number() == n).is_some()));
        (0..4000).for_each(|n| assert!(index.remove(home, value(n))));
        assert_eq!((index.find(home, |_| true), index.buckets[0].reach), (None, u8::MAX));
    }

    #[test]
    fn probes_stay_short_while_entries_come_and_go_at_the_bound() {
        let mut index = Index::new(FLOOD, (3, 4));
        for n in 0..5 * FLOOD {
            if n >= FLOOD {
                assert!(index.remove(index.hash(&tuple(n - FLOOD)), value(n - FLOOD)));
            }
            index.insert(index.hash(&tuple(n)), value(n)).unwrap();
        }
        assert!(index.longest_probe() <= 24, "{}", index.longest_probe());
    }

    #[test]
    fn families_and_directions_hash_apart() {
        let index = Index::new(1, (1, 2));
        let v4 = tuple(77);
        assert_ne!(index.hash(&v4), index.hash(&v4.reversed()));
        let v6 = FourTuple::new(
            Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into(),
            80,
            Ipv4Addr::new(10, 0, 0, 0).to_ipv6_mapped().into(),
            77,
        );
        assert_ne!(index.hash(&v4), index.hash(&v6));
    }

    const FLOOD: u32 = 200_000;
    const CHOSEN: u32 = 2000;
}
