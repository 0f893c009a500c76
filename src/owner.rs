//! Which shard a connection belongs to: one pure function of the 4-tuple, for accepted and opened connections alike.
//!
//! ```text
//!   hash = Toeplitz(remote, local, remote port, local port)      owner = table[hash & mask]
//! ```
//! Key and table are the NIC's where they can be read: then what arrives on a queue belongs to the shard of that queue. Elsewhere
//! the key is one that makes the hash symmetric, so that two ends of a link with as many shards each agree on the number.
//!
//! The hash is linear. For one destination everything but the local port is a constant `base`, so the entry of the table is
//! `base xor class(port)`, and a table of the ports of each class, one for all destinations, lists what a shard owns.

use crate::four_tuple::{Addresses, FourTuple};
use crate::toeplitz::{KEY_BYTES, Toeplitz};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::{size_of, size_of_val};

/// How packets come to queues.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Spread {
    /// The NIC's hash is known.
    Rss(Rss),
    /// It is not, or there is none.
    Symmetric,
}

impl Spread {
    /// Its name in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Spread::Rss(_) => "rss",
            Spread::Symmetric => "symmetric",
        }
    }
}

/// Key and indirection table of a NIC that hashes TCP by Toeplitz over addresses and ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rss {
    key: [u8; KEY_BYTES],
    table: Vec<u16>,
}

/// Why a NIC's settings cannot be followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RssError {
    /// The key is too short for IPv6.
    #[error("an RSS key of {0} bytes is shorter than {KEY_BYTES}")]
    Key(usize),
    /// The table is no power of two, or larger than [`TABLE_MAX`].
    #[error("an RSS indirection table of {0} entries is no power of two up to {TABLE_MAX}")]
    Table(usize),
}

impl Rss {
    /// From the key and the table: the queue of each entry.
    pub fn new(key: &[u8], table: Vec<u16>) -> Result<Rss, RssError> {
        let key = *key.first_chunk().ok_or(RssError::Key(key.len()))?;
        if !table.len().is_power_of_two() || table.len() > TABLE_MAX {
            return Err(RssError::Table(table.len()));
        }
        Ok(Rss { key, table })
    }

    /// The hash key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// How many queues the table needs.
    pub fn queues(&self) -> usize {
        self.table.iter().max().map_or(0, |queue| usize::from(*queue) + 1)
    }
}

/// The function, and the ports that it leaves to each shard.
#[derive(Debug)]
pub struct Owners {
    toeplitz: Toeplitz,
    /// The shard of each entry, a power of two of them.
    table: Box<[u16]>,
    /// The entries of each shard, ascending.
    entries: Box<[Box<[u16]>]>,
    ports: (u16, u16),
    /// How many changes have led to it.
    changes: u32,
    classes_v4: Classes,
    classes_v6: Classes,
}

impl Owners {
    /// The function over `shards` shards (at least 1), of which each serves the queue of its number, and the local ports
    /// from `ports.0` to `ports.1`. A table's queue beyond the last shard counts from the first again.
    pub fn new(spread: &Spread, shards: u16, ports: (u16, u16)) -> Owners {
        let shards = shards.max(1);
        let (key, table): (&[u8; KEY_BYTES], Vec<u16>) = match spread {
            _ if shards == 1 => (&SYMMETRIC_KEY, vec![0]),
            Spread::Rss(rss) => (&rss.key, rss.table.iter().map(|queue| queue % shards).collect()),
            Spread::Symmetric => (&SYMMETRIC_KEY, (0..SYMMETRIC_TABLE).map(|entry| entry % shards).collect()),
        };
        let toeplitz = Toeplitz::new(key);
        let entries_of = |shard| (0..=u16::MAX).zip(&table).filter(move |(_, owner)| **owner == shard);
        let entries = (0..shards).map(|shard| entries_of(shard).map(|(entry, _)| entry).collect()).collect();
        let ports = (ports.0.min(ports.1), ports.0.max(ports.1));
        let mask = table.len() - 1;
        let classes = |is_v4| Classes::new(ports, table.len(), |port| toeplitz.local_port(is_v4, port) as usize & mask);
        let (classes_v4, classes_v6) = (classes(true), classes(false));
        Owners { toeplitz, table: table.into(), entries, ports, changes: 0, classes_v4, classes_v6 }
    }

    /// What comes after this function when packets come to queues by `spread`: as many shards, the same ports.
    pub fn changed(&self, spread: &Spread) -> Owners {
        Owners { changes: self.changes + 1, ..Owners::new(spread, self.shards(), self.ports) }
    }

    /// The function of a shard that is alone.
    pub fn alone(ports: (u16, u16)) -> Owners {
        Owners::new(&Spread::Symmetric, 1, ports)
    }

    /// Bytes that the tables take, once for all shards.
    pub fn bytes(&self) -> u64 {
        let entries = 2 * size_of_val(&*self.table);
        let classes = [&self.classes_v4, &self.classes_v6]
            .map(|classes| size_of_val(&*classes.starts) + size_of_val(&*classes.ports));
        (size_of::<Owners>() + entries + classes[0] + classes[1]) as u64
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.entries.len() as u16
    }

    /// How many changes have led to it, which numbers the functions of a stack.
    pub fn changes(&self) -> u32 {
        self.changes
    }

    /// First and last local port.
    pub fn ports(&self) -> (u16, u16) {
        self.ports
    }

    /// The shard to which the connection belongs.
    #[inline]
    pub fn owner(&self, tuple: &FourTuple) -> u16 {
        if self.table.len() == 1 { self.table[0] } else { self.table[self.entry(self.toeplitz.tuple(tuple))] }
    }

    /// A lap through the ports that `shard` owns for connections between `addresses` to `remote_port`. `random` says
    /// where it starts.
    pub fn lap(&self, shard: u16, addresses: &Addresses, remote_port: u16, random: u64) -> Lap {
        let is_v4 = addresses.is_v4();
        let share = self.toeplitz.addresses(addresses) ^ self.toeplitz.remote_port(is_v4, remote_port);
        let base = self.entry(share) as u16;
        let (entries, classes) = (self.entries_of(shard), self.classes(is_v4));
        let owned: usize = entries.iter().map(|entry| classes.of(entry ^ base).len()).sum();
        let owned = owned.min(usize::from(u16::MAX)) as u16;
        let below = |random: u64, count: usize| (((random & 0xffff_ffff) * count as u64) >> 32) as u16;
        let place = below(random, entries.len());
        let class = entries.get(usize::from(place)).map_or(&[][..], |entry| classes.of(entry ^ base));
        let at = Position { place, offset: below(random >> 32, class.len()) };
        Lap { is_v4, base, start: at, at, left: owned, owned }
    }

    /// The next port of a lap of `shard`; `None` when each has been there once. O(1) for a key that spreads ports evenly, at
    /// worst a step per entry of the table.
    #[inline]
    pub fn next_port(&self, shard: u16, lap: &mut Lap) -> Option<u16> {
        lap.left = lap.left.checked_sub(1)?;
        let (entries, classes) = (self.entries_of(shard), self.classes(lap.is_v4));
        for _ in 0..=entries.len() {
            let Position { place, offset } = &mut lap.at;
            let entry = entries.get(usize::from(*place))?;
            if let Some(port) = classes.of(entry ^ lap.base).get(usize::from(*offset)) {
                *offset += 1;
                return Some(*port);
            }
            *offset = 0;
            *place = if usize::from(*place) + 1 == entries.len() { 0 } else { *place + 1 };
        }
        None
    }

    /// Once around again: from `first` on if the shard owns that port, otherwise from where the lap has ended.
    pub fn again(&self, shard: u16, lap: &mut Lap, first: Option<u16>) {
        let first = first.and_then(|port| self.position(shard, lap, port));
        lap.at = first.unwrap_or(lap.at);
        (lap.start, lap.left) = (lap.at, lap.owned);
    }

    /// Whether the port has been there in this lap. `shard` must own it.
    pub fn is_passed(&self, shard: u16, lap: &Lap, port: u16) -> bool {
        if lap.left == 0 || lap.left == lap.owned {
            return lap.left == 0;
        }
        self.position(shard, lap, port).is_some_and(|at| match lap.start <= lap.at {
            true => (lap.start..lap.at).contains(&at),
            false => !(lap.at..lap.start).contains(&at),
        })
    }

    /// Where the port lies in laps like this one, if the shard owns it.
    fn position(&self, shard: u16, lap: &Lap, port: u16) -> Option<Position> {
        let class = self.entry(self.toeplitz.local_port(lap.is_v4, port)) as u16;
        let place = self.entries_of(shard).binary_search(&(class ^ lap.base)).ok()? as u16;
        let offset = offset_of(self.classes(lap.is_v4).of(class), port)? as u16;
        Some(Position { place, offset })
    }

    fn entry(&self, hash: u32) -> usize {
        hash as usize & (self.table.len() - 1)
    }

    fn entries_of(&self, shard: u16) -> &[u16] {
        self.entries.get(usize::from(shard)).map_or(&[], |entries| entries)
    }

    fn classes(&self, is_v4: bool) -> &Classes {
        if is_v4 { &self.classes_v4 } else { &self.classes_v6 }
    }
}

/// Where `port` lies among `ports`, which ascend. Those of a shard alone follow each other without a gap: then nothing is searched.
fn offset_of(ports: &[u16], port: u16) -> Option<usize> {
    let guess = usize::from(port.checked_sub(*ports.first()?)?);
    if ports.get(guess) == Some(&port) { Some(guess) } else { ports.binary_search(&port).ok() }
}

/// How far a destination has come through the ports that a shard owns for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lap {
    /// Ports that are still to come.
    left: u16,
    /// Ports of the whole lap: 0 is none.
    owned: u16,
    /// The entry of the table for a port of class 0.
    base: u16,
    /// Where it began.
    start: Position,
    /// What comes next.
    at: Position,
    is_v4: bool,
}

/// A place in a lap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Position {
    /// Which of the shard's entries.
    place: u16,
    /// Which port of its class; past the last it stands for the next place.
    offset: u16,
}

impl Lap {
    /// Whether each port has been there once.
    pub const fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Ports that are still to come.
    pub const fn left(&self) -> u32 {
        self.left as u32
    }

    /// A lap through those that have been there.
    pub const fn passed(&self) -> Lap {
        Lap { at: self.start, left: self.owned - self.left, ..*self }
    }

    /// How many ports the shard owns for this destination.
    pub const fn owned(&self) -> u32 {
        self.owned as u32
    }
}

/// The ports of a range by class.
#[derive(Debug)]
struct Classes {
    /// Where each class begins among the ports, and the end.
    starts: Box<[u32]>,
    /// Every port of the range, class by class, ascending within each.
    ports: Box<[u16]>,
}

impl Classes {
    /// `ports` sorted by what `class` says of each, a number below `count`.
    fn new(ports: (u16, u16), count: usize, class: impl Fn(u16) -> usize) -> Classes {
        let mut starts = vec![0_u32; count + 1];
        for port in ports.0..=ports.1 {
            starts[class(port) + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut next = starts.clone();
        let mut sorted = vec![0; usize::from(ports.1 - ports.0) + 1];
        for port in ports.0..=ports.1 {
            let place = &mut next[class(port)];
            sorted[*place as usize] = port;
            *place += 1;
        }
        Classes { starts: starts.into(), ports: sorted.into() }
    }

    /// The ports of one class.
    #[inline]
    fn of(&self, class: u16) -> &[u16] {
        let class = usize::from(class);
        &self.ports[self.starts[class] as usize..self.starts[class + 1] as usize]
    }
}

/// The largest indirection table, entries. Origin: NICs have 128 to 4096.
pub const TABLE_MAX: usize = 1 << 14;

/// A key that repeats every 16 bits hashes both directions alike (Woo and Park, "Scalable TCP Session Monitoring with
/// Symmetric Receive-side Scaling", 2012). It is no secret: both ends of a link know it.
const SYMMETRIC_KEY: [u8; KEY_BYTES] = {
    let mut key = [0x6d; KEY_BYTES];
    let mut at = 1;
    while at < KEY_BYTES {
        key[at] = 0x5a;
        at += 2;
    }
    key
};

/// Entries of the table beside that key. Smaller is uneven for numbers of shards that are no power of two.
const SYMMETRIC_TABLE: u16 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn rss() -> Spread {
        let key: Vec<u8> = (0..40_u32).map(|at| (at * 151 + 7) as u8).collect();
        Spread::Rss(Rss::new(&key, (0..128).map(|entry| entry * 5 % 8).collect()).expect("a key and a table"))
    }

    fn tuple(remote: IpAddr, local_port: u16, remote_port: u16) -> FourTuple {
        let local: IpAddr = if remote.is_ipv4() { [10, 0, 0, 1].into() } else { [0xfd; 16].into() };
        FourTuple::new(local, local_port, remote, remote_port)
    }

    proptest! {
        /// Two ends with as many shards agree, and every lap lists exactly the ports that the function gives its shard.
        #[test]
        fn laps_of_all_shards_are_the_range_split_by_owner(
            remote in prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)],
            remote_port: u16, random: u64, shards in 1..10_u16, symmetric: bool, low in 1..65_000_u16, range in 0..200_u16,
        ) {
            let ports = (low, low + range);
            let owners = Owners::new(&if symmetric { Spread::Symmetric } else { rss() }, shards, ports);
            let mut seen = BTreeSet::new();
            for shard in 0..shards {
                let addresses = tuple(remote, 1, remote_port).addresses;
                let mut lap = owners.lap(shard, &addresses, remote_port, random);
                let owned = lap.owned();
                let mut count = 0;
                let mut own = Vec::new();
                while let Some(port) = owners.next_port(shard, &mut lap) {
                    own.push(port);
                    prop_assert_eq!(owners.owner(&tuple(remote, port, remote_port)), shard);
                    prop_assert!(seen.insert(port), "{} came twice", port);
                    count += 1;
                }
                prop_assert!(lap.is_done() && count == owned);
                // Again from a port on, or from where the lap has ended: the same ports in the same order, passed one by one.
                for first in [None, own.get(random as usize % own.len().max(1)).copied()] {
                    owners.again(shard, &mut lap, first);
                    let begin = own.iter().position(|port| Some(*port) == first).unwrap_or(0);
                    own.rotate_left(begin);
                    for passed in 0..=own.len() {
                        let is_passed = |port: &u16| owners.is_passed(shard, &lap, *port);
                        prop_assert!(own[..passed].iter().all(is_passed) && !own[passed..].iter().any(is_passed));
                        prop_assert_eq!(owners.next_port(shard, &mut lap), own.get(passed).copied());
                    }
                }
            }
            prop_assert_eq!(seen.len(), usize::from(range) + 1);
            let there = tuple(remote, low, remote_port);
            prop_assert!(!symmetric || owners.owner(&there) == owners.owner(&there.reversed()));
        }
    }

    #[test]
    fn shards_get_even_parts_of_ports_and_of_peers() {
        for (spread, off) in [(rss(), 1.15), (Spread::Symmetric, 1.05)] {
            for shards in [2_u16, 4, 8] {
                let owners = Owners::new(&spread, shards, (32_768, 60_999));
                let mut peers = vec![0_u32; usize::from(shards)];
                for peer in 0..20_000_u32 {
                    let remote = IpAddr::from(Ipv4Addr::from_bits(0x0a01_0000 + peer / 100));
                    peers[usize::from(owners.owner(&tuple(remote, 80, 40_000 + (peer % 100) as u16)))] += 1;
                }
                let even = 20_000.0 / f64::from(shards);
                assert!(peers.iter().all(|count| f64::from(*count) < even * off), "{spread:?} {shards}: {peers:?}");
                let addresses = tuple([10, 0, 0, 2].into(), 1, 80).addresses;
                let owned = (0..shards).map(|shard| owners.lap(shard, &addresses, 80, 0).owned());
                let even = 28_232.0 / f64::from(shards);
                assert!(
                    owned.clone().all(|count| f64::from(count) < even * off),
                    "{shards}: {:?}",
                    owned.collect::<Vec<_>>()
                );
            }
        }
    }

    #[test]
    fn tables_that_cannot_be_followed_are_refused() {
        assert_eq!(Rss::new(&[0; 16], vec![0]), Err(RssError::Key(16)));
        assert_eq!(Rss::new(&[0; 40], vec![0; 96]), Err(RssError::Table(96)));
        assert_eq!(Rss::new(&[0; 40], Vec::new()), Err(RssError::Table(0)));
        assert_eq!(Rss::new(&[0; 52], vec![0, 3]).map(|rss| rss.queues()), Ok(4));
    }

    #[test]
    fn key_of_zeros_leaves_all_to_one_shard_and_still_ends() {
        let owners = Owners::new(&Spread::Rss(Rss::new(&[0; 40], vec![0, 1]).expect("a table")), 2, (9, 3));
        let addresses = tuple([10, 0, 0, 2].into(), 1, 80).addresses;
        let owned = [0, 1].map(|shard| owners.lap(shard, &addresses, 80, u64::MAX).owned());
        assert_eq!((owned, owners.ports()), ([7, 0], (3, 9)));
        assert_eq!(owners.next_port(1, &mut owners.lap(1, &addresses, 80, 1)), None);
    }
}
