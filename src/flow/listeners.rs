//! Who listens where: local address and port to listener number.
//!
//! A small open-addressed table. What it holds is chosen by the application, not by peers, so a plain mix of the bits does.

use crate::ids::NONE;
use crate::touched::filled;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::size_of;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why a listener cannot be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AddError {
    /// There is a listener with the same address and port.
    #[error("the address and port already have a listener: close it or choose another port")]
    InUse,
    /// There are as many listeners as the limit allows.
    #[error("all listeners are in use: raise the limit on listeners")]
    Full,
}

/// The listeners of a shard, numbered from 0.
pub struct Listeners {
    /// Address and port by listener number.
    ends: Vec<Option<(IpAddr, u16)>>,
    /// Listener numbers, each at or after the place that its hash names, without a gap between.
    table: Vec<u32>,
    len: u32,
}

impl Listeners {
    /// Room for `max` listeners.
    pub fn new(max: u32) -> Listeners {
        Listeners { ends: filled(max as usize, || None), table: vec![NONE; places(max)], len: 0 }
    }

    /// Bytes that room for `max` listeners takes.
    pub const fn bill(max: u32) -> u64 {
        max as u64 * size_of::<Option<(IpAddr, u16)>>() as u64 + (places(max) * size_of::<u32>()) as u64
    }

    /// Adds a listener for an address, or for every address of the family if it is unspecified, and returns its number:
    /// one that nobody has and that is `free` otherwise, too.
    pub fn add(&mut self, address: IpAddr, port: u16, free: impl Fn(u32) -> bool) -> Result<u32, AddError> {
        let end = (address, port);
        let place = self.place_of(end);
        if self.table[place] != NONE {
            return Err(AddError::InUse);
        }
        let mut numbered = self.ends.iter().zip(0..);
        let number = numbered.position(|(end, number)| end.is_none() && free(number)).ok_or(AddError::Full)?;
        self.ends[number] = Some(end);
        self.table[place] = number as u32;
        self.len += 1;
        Ok(number as u32)
    }

    /// Removes a listener. A number that has none stays so.
    pub fn remove(&mut self, number: u32) {
        let Some(end) = self.ends.get_mut(number as usize).and_then(Option::take) else { return };
        self.len -= 1;
        let mut place = self.home(end);
        while self.table[place] != number {
            place = self.after(place);
        }
        self.table[place] = NONE;
        // What followed without a gap may have been pushed there by this one.
        place = self.after(place);
        while self.table[place] != NONE {
            let moved = core::mem::replace(&mut self.table[place], NONE);
            if let Some(end) = self.ends[moved as usize] {
                let home = self.place_of(end);
                self.table[home] = moved;
            }
            place = self.after(place);
        }
    }

    /// The listener for exactly this address and port, else the one for all addresses of the family and this port.
    #[inline(always)]
    pub fn find(&self, address: IpAddr, port: u16) -> Option<u32> {
        let any = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        [address, any].into_iter().map(|address| self.table[self.place_of((address, port))]).find(|&n| n != NONE)
    }

    /// Address and port of a listener.
    #[inline]
    pub fn end(&self, number: u32) -> Option<(IpAddr, u16)> {
        self.ends.get(number as usize).copied().flatten()
    }

    /// Listeners.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether nobody listens.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The place that holds `end`, or the free one where it would be. There is always a free place.
    #[inline]
    fn place_of(&self, end: (IpAddr, u16)) -> usize {
        let mut place = self.home(end);
        while self.table[place] != NONE && self.ends[self.table[place] as usize] != Some(end) {
            place = self.after(place);
        }
        place
    }

    #[inline]
    fn home(&self, (address, port): (IpAddr, u16)) -> usize {
        let bits = match address {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 ^ v6.to_bits() as u64 ^ 1 << 63,
        };
        let mixed = (bits ^ u64::from(port) << 40).wrapping_mul(MIX);
        (mixed >> 32) as usize & (self.table.len() - 1)
    }

    #[inline]
    fn after(&self, place: usize) -> usize {
        (place + 1) & (self.table.len() - 1)
    }
}

/// Places of a table for `max` listeners: at least twice as many and one.
const fn places(max: u32) -> usize {
    (max as usize * 2 + 1).next_power_of_two()
}

/// An odd number without a pattern: 2^64 divided by the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            Just(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            Just(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
            (0..3u8).prop_map(|last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))),
            (0..3u16).prop_map(|last| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last))),
        ]
    }

    proptest! {
        #[test]
        fn any_operations_agree_with_a_map(
            max in 0..12u32,
            ops in proptest::collection::vec((any::<bool>(), address(), 1..6u16, 0..14u32), 1..150),
        ) {
            let mut listeners = Listeners::new(max);
            let mut model: HashMap<(IpAddr, u16), u32> = HashMap::new();
            for (add, address, port, number) in ops {
                if add {
                    match listeners.add(address, port, |_| true) {
                        Ok(number) => {
                            prop_assert!(number < max && !model.values().any(|&n| n == number));
                            prop_assert_eq!(model.insert((address, port), number), None);
                        }
                        Err(AddError::InUse) => prop_assert!(model.contains_key(&(address, port))),
                        Err(AddError::Full) => prop_assert_eq!(model.len(), max as usize),
                    }
                } else {
                    listeners.remove(number);
                    model.retain(|_, n| *n != number);
                }
                prop_assert_eq!(listeners.len() as usize, model.len());
                for (&(address, port), &number) in &model {
                    prop_assert_eq!((listeners.find(address, port), listeners.end(number)), (Some(number), Some((address, port))));
                }
                let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
                let expected = model.get(&(address, port)).or(model.get(&(any, port))).copied();
                prop_assert_eq!(listeners.find(address, port), expected);
            }
        }
    }
}
