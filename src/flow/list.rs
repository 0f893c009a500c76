//! First-in first-out lists through the records of a slab: no memory beside the 8 bytes in each record.
//!
//! `Which` is an empty type that names the list, so that one record can be in several. Lists that share a `Which` share
//! the link: a record is in at most one of them, and is removed from the one it is in.

use super::slab::{Record, Slab};
use crate::ids::NONE;
use core::marker::PhantomData;

/// A record's place in a list. The default is in none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    prev: u32,
    next: u32,
}

impl Link {
    /// Whether the record is in a list, be it alone.
    #[inline]
    pub const fn is_linked(&self) -> bool {
        self.next != UNLINKED
    }
}

impl Default for Link {
    fn default() -> Link {
        Link { prev: UNLINKED, next: UNLINKED }
    }
}

/// A record that can be in a list called `Which`.
pub trait Linked<Which>: Record {
    /// The record's place in that list.
    fn link(&self) -> &Link;

    /// The record's place in that list, for the list to change.
    fn link_mut(&mut self) -> &mut Link;
}

/// A list of records of one slab. Every call must be given the same slab.
#[derive(Debug)]
pub struct List<Which> {
    head: u32,
    tail: u32,
    len: u32,
    which: PhantomData<fn() -> Which>,
}

impl<Which> List<Which> {
    /// An empty list.
    pub const fn new() -> List<Which> {
        List { head: NONE, tail: NONE, len: 0, which: PhantomData }
    }

    /// Appends record `number`. A record that is in such a list already stays where it is.
    #[inline]
    pub fn push_back<R: Linked<Which>>(&mut self, slab: &mut Slab<R>, number: u32) {
        let link = slab[number].link_mut();
        if link.is_linked() {
            return;
        }
        *link = Link { prev: self.tail, next: NONE };
        match self.tail {
            NONE => self.head = number,
            tail => slab[tail].link_mut().next = number,
        }
        self.tail = number;
        self.len += 1;
    }

    /// Takes the oldest record out.
    #[inline]
    pub fn pop_front<R: Linked<Which>>(&mut self, slab: &mut Slab<R>) -> Option<u32> {
        let number = self.front()?;
        self.head = core::mem::take(slab[number].link_mut()).next;
        match self.head {
            NONE => self.tail = NONE,
            next => slab[next].link_mut().prev = NONE,
        }
        self.len -= 1;
        Some(number)
    }

    /// Takes record `number` out, wherever it is in this list. A record in no list stays so.
    #[inline]
    pub fn remove<R: Linked<Which>>(&mut self, slab: &mut Slab<R>, number: u32) {
        let link = core::mem::take(slab[number].link_mut());
        if !link.is_linked() {
            return;
        }
        match link.prev {
            NONE => self.head = link.next,
            prev => slab[prev].link_mut().next = link.next,
        }
        match link.next {
            NONE => self.tail = link.prev,
            next => slab[next].link_mut().prev = link.prev,
        }
        self.len -= 1;
    }

    /// Whether record `number` is in a list called `Which`.
    #[inline]
    pub fn is_linked<R: Linked<Which>>(slab: &Slab<R>, number: u32) -> bool {
        slab[number].link().is_linked()
    }

    /// The oldest record.
    #[inline]
    pub const fn front(&self) -> Option<u32> {
        if self.head == NONE { None } else { Some(self.head) }
    }

    /// The newest record.
    #[inline]
    pub const fn back(&self) -> Option<u32> {
        if self.tail == NONE { None } else { Some(self.tail) }
    }

    /// The record after `number`, which must be in this list.
    #[inline]
    pub fn after<R: Linked<Which>>(&self, slab: &Slab<R>, number: u32) -> Option<u32> {
        Some(slab[number].link().next).filter(|&next| next < UNLINKED)
    }

    /// Whether no record is in the list.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// Records in the list.
    #[inline]
    pub const fn len(&self) -> u32 {
        self.len
    }
}

impl<Which> Default for List<Which> {
    fn default() -> List<Which> {
        List::new()
    }
}

/// In no list. [`NONE`] means the end of one.
const UNLINKED: u32 = NONE - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Default)]
    struct Item {
        generation: u32,
        next_free: u32,
        ready: Link,
        idle: Link,
    }

    struct Ready;
    struct Idle;

    impl Record for Item {
        fn generation(&self) -> u32 {
            self.generation
        }
        fn set_generation(&mut self, generation: u32) {
            self.generation = generation;
        }
        fn next_free(&mut self) -> &mut u32 {
            &mut self.next_free
        }
    }

    impl Linked<Ready> for Item {
        fn link(&self) -> &Link {
            &self.ready
        }
        fn link_mut(&mut self) -> &mut Link {
            &mut self.ready
        }
    }

    impl Linked<Idle> for Item {
        fn link(&self) -> &Link {
            &self.idle
        }
        fn link_mut(&mut self) -> &mut Link {
            &mut self.idle
        }
    }

    fn numbers<Which>(list: &List<Which>, slab: &Slab<Item>) -> Vec<u32>
    where
        Item: Linked<Which>,
    {
        std::iter::successors(list.front(), |&number| list.after(slab, number)).collect()
    }

    proptest! {
        #[test]
        fn any_operations_agree_with_two_deques(ops in proptest::collection::vec((0..6u8, 0..ITEMS), 1..200)) {
            let mut slab = Slab::<Item>::new(ITEMS);
            while slab.insert().is_some() {}
            let (mut ready, mut idle) = (List::<Ready>::new(), List::<Idle>::new());
            let (mut ready_model, mut idle_model) = (VecDeque::new(), VecDeque::new());
            for (op, number) in ops {
                match op {
                    0 => {
                        ready.push_back(&mut slab, number);
                        if !ready_model.contains(&number) { ready_model.push_back(number) }
                    }
                    1 => {
                        idle.push_back(&mut slab, number);
                        if !idle_model.contains(&number) { idle_model.push_back(number) }
                    }
                    2 => prop_assert_eq!(ready.pop_front(&mut slab), ready_model.pop_front()),
                    3 => prop_assert_eq!(idle.pop_front(&mut slab), idle_model.pop_front()),
                    4 => {
                        ready.remove(&mut slab, number);
                        ready_model.retain(|&n| n != number);
                    }
                    _ => {
                        idle.remove(&mut slab, number);
                        idle_model.retain(|&n| n != number);
                    }
                }
                prop_assert_eq!(&ready_model, &numbers(&ready, &slab));
                prop_assert_eq!(&idle_model, &numbers(&idle, &slab));
                prop_assert_eq!((ready.len() as usize, ready.is_empty()), (ready_model.len(), ready_model.is_empty()));
                prop_assert_eq!((ready.front(), ready.back()), (ready_model.front().copied(), ready_model.back().copied()));
                prop_assert_eq!(List::<Idle>::is_linked(&slab, number), idle_model.contains(&number));
            }
        }
    }

    #[test]
    fn alone_in_a_list_is_linked() {
        let mut slab = Slab::<Item>::new(1);
        let number = slab.insert().unwrap();
        let mut list = List::<Ready>::new();
        assert!(!List::<Ready>::is_linked(&slab, number));
        list.push_back(&mut slab, number);
        assert!(List::<Ready>::is_linked(&slab, number) && !List::<Idle>::is_linked(&slab, number));
        assert_eq!(list.pop_front(&mut slab), Some(number));
        assert!(!List::<Ready>::is_linked(&slab, number));
    }

    const ITEMS: u32 = 8;
}
