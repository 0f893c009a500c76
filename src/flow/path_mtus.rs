//! Path MTUs by remote address: what new connections begin with (RFC 1191 6.2, RFC 8201 5.2).
//!
//! Sets of four places, found by a keyed hash. A full set forgets what it learned first, and every place what is older than
//! ten minutes: then the path is tried at full size again. Entries come only from errors that a connection has believed.

use crate::keyed_hash::TableHash;
use crate::limits::PATH_MTU_AGE_S;
use crate::tick::Now;
use alloc::boxed::Box;
use alloc::vec;
use core::net::{IpAddr, Ipv4Addr};

/// The path MTUs of a shard.
#[derive(Debug)]
pub struct PathMtus {
    sets: Box<[[Entry; WAYS]]>,
    hash: TableHash,
    /// When the youngest entry is too old, seconds: while nothing is known, a look-up is one comparison.
    until_s: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    remote: IpAddr,
    mtu: u16,
    /// When it is too old, seconds; 0 if there is none.
    until_s: u64,
}

impl PathMtus {
    /// Room for at least `max` addresses. `key` must be secret and random.
    pub fn new(max: u32, key: (u64, u64)) -> PathMtus {
        let nothing = Entry { remote: IpAddr::V4(Ipv4Addr::UNSPECIFIED), mtu: 0, until_s: 0 };
        PathMtus { sets: vec![[nothing; WAYS]; sets(max)].into(), hash: TableHash::new(key), until_s: 0 }
    }

    /// Bytes that room for `max` addresses takes.
    pub const fn bill(max: u32) -> u64 {
        (sets(max) * size_of::<[Entry; WAYS]>()) as u64
    }

    /// The largest IP packet that is known to reach `remote`, bytes.
    #[inline]
    pub fn get(&self, remote: IpAddr, now: Now) -> Option<u16> {
        if seconds(now) >= self.until_s {
            return None;
        }
        let set = &self.sets[self.set_of(remote)];
        set.iter().find(|entry| entry.remote == remote && seconds(now) < entry.until_s).map(|entry| entry.mtu)
    }

    /// Packets larger than `mtu` bytes do not reach `remote`.
    pub fn learn(&mut self, remote: IpAddr, mtu: u16, now: Now) {
        self.until_s = seconds(now) + u64::from(PATH_MTU_AGE_S);
        let set = self.set_of(remote);
        let set = &mut self.sets[set];
        let place = set.iter().position(|entry| entry.remote == remote).or_else(|| {
            let oldest = set.iter().enumerate().min_by_key(|(_, entry)| entry.until_s);
            oldest.map(|(place, _)| place)
        });
        if let Some(place) = place {
            set[place] = Entry { remote, mtu, until_s: self.until_s };
        }
    }

    fn set_of(&self, remote: IpAddr) -> usize {
        self.hash.address(remote) as usize & (self.sets.len() - 1)
    }
}

const fn sets(max: u32) -> usize {
    let sets = (max as usize).div_ceil(WAYS).next_power_of_two();
    if sets == 0 { 1 } else { sets }
}

fn seconds(now: Now) -> u64 {
    now.us() / 1_000_000
}

/// Places of one set. Origin: a cache line or two; more would be looked through for every new connection.
const WAYS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn remote(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    proptest! {
        /// A map knows what was learned last of each, and when: a set forgets one only for four that were learned no sooner.
        #[test]
        fn any_lessons_agree_with_a_map(
            max in 0..40u32,
            key in any::<(u64, u64)>(),
            start_ms in 0..1u64 << 50,
            ops in proptest::collection::vec((0..40u32, 1280..1500u16, prop_oneof![0..3_000u64, 0..400_000u64]), 1..150),
        ) {
            let mut known = PathMtus::new(max, key);
            let mut model = HashMap::<u32, (u16, u64)>::new();
            let mut now = Now::from_ms(start_ms);
            for (number, mtu, later_ms) in ops {
                now = now.plus_ms(later_ms);
                known.learn(remote(number), mtu, now);
                model.insert(number, (mtu, seconds(now)));
                for (&number, &(mtu, at_s)) in &model {
                    let got = known.get(remote(number), now);
                    let age_s = seconds(now) - at_s;
                    prop_assert!(got.is_none() || (got == Some(mtu) && age_s < PATH_MTU_AGE_S.into()), "{:?} of {}", got, age_s);
                    let set = known.set_of(remote(number));
                    let no_sooner = model.iter().filter(|(other, (_, other_s))| {
                        **other != number && *other_s >= at_s && known.set_of(remote(**other)) == set
                    });
                    let must = no_sooner.count() < WAYS && age_s < PATH_MTU_AGE_S.into();
                    prop_assert!(got.is_some() || !must, "{} is forgotten after {} s", number, age_s);
                }
                prop_assert_eq!(known.get(remote(40), now), None);
            }
        }
    }

    #[test]
    fn a_path_mtu_is_known_for_ten_minutes_and_the_last_word_counts() {
        let mut known = PathMtus::new(64, (1, 2));
        assert_eq!(known.get(remote(1), Now::from_ms(0)), None);
        known.learn(remote(1), 1400, Now::from_ms(0));
        known.learn(remote(1), 1300, Now::from_ms(1000));
        assert_eq!(known.get(remote(1), Now::from_ms(600_000)), Some(1300));
        assert_eq!(known.get(remote(2), Now::from_ms(600_000)), None);
        known.learn(remote(2), 1280, Now::from_ms(600_000));
        assert_eq!(known.get(remote(1), Now::from_ms(601_000)), None, "too old while another is young");
        assert_eq!(known.get(remote(2), Now::from_ms(601_000)), Some(1280));
    }

    #[test]
    fn t27_many_addresses_take_no_more_memory_and_the_youngest_stay() {
        for max in [0, 1, 64] {
            let mut known = PathMtus::new(max, (3, 4));
            for number in 0..10_000 {
                known.learn(remote(number), 1280, Now::from_ms(u64::from(number) * 10));
                assert_eq!(known.get(remote(number), Now::from_ms(u64::from(number) * 10)), Some(1280));
            }
            let now = Now::from_ms(100_000);
            let left = (0..10_000).filter(|number| known.get(remote(*number), now).is_some()).count() as u64;
            assert!(left * size_of::<Entry>() as u64 <= PathMtus::bill(max), "{left} of {max}");
        }
    }
}
