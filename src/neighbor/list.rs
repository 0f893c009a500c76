//! Doubly linked lists over entry numbers: first in, first out, with removal from the middle.

use crate::ids::NONE;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::size_of;

/// The links of every entry for one set of lists; an entry is in at most one list of the set.
#[derive(Debug)]
pub(super) struct Links(Vec<Link>);

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
}

/// One list of a set.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
}

impl Links {
    /// Links for `count` entries, all in no list.
    pub(super) fn new(count: usize) -> Links {
        Links(vec![Link { previous: NONE, next: NONE }; count])
    }

    /// Bytes that links for `count` entries take.
    pub(super) const fn bill(count: u32) -> u64 {
        count as u64 * size_of::<Link>() as u64
    }
}

impl List {
    /// No entries.
    pub(super) const EMPTY: List = List { head: NONE, tail: NONE };

    /// The first entry.
    pub(super) fn first(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    /// Adds `number`, which is in no list of the set, at the end.
    pub(super) fn push_back(&mut self, links: &mut Links, number: u32) {
        links.0[number as usize] = Link { previous: self.tail, next: NONE };
        match self.tail {
            NONE => self.head = number,
            tail => links.0[tail as usize].next = number,
        }
        self.tail = number;
    }

    /// Adds `number`, which is in no list of the set, at the start.
    pub(super) fn push_front(&mut self, links: &mut Links, number: u32) {
        links.0[number as usize] = Link { previous: NONE, next: self.head };
        match self.head {
            NONE => self.tail = number,
            head => links.0[head as usize].previous = number,
        }
        self.head = number;
    }

    /// Takes out `number`, which is in this list.
    pub(super) fn remove(&mut self, links: &mut Links, number: u32) {
        let Link { previous, next } = links.0[number as usize];
        match previous {
            NONE => self.head = next,
            previous => links.0[previous as usize].next = next,
        }
        match next {
            NONE => self.tail = previous,
            next => links.0[next as usize].previous = previous,
        }
    }
}
