//! What connections are called: a table beside that of their records, by the same numbers.
//!
//! The records are so whole cache lines, and this is read by who looks a connection up, writes a header, or begins and ends it.

use crate::flow::index::Hash;
use crate::four_tuple::FourTuple;
use crate::ids::NONE;
use crate::neighbor::NeighborId;
use crate::prefetch::prefetch_record;
use crate::tcp::tcb::{Opened, Tcb};
use ::core::mem::size_of;
use ::core::ops::{Index, IndexMut, Range};
use alloc::vec;
use alloc::vec::Vec;

/// What a connection is called, by whom, and where it leads: what its record does without.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Name {
    /// Its local and remote socket.
    pub tuple: FourTuple,
    /// Its next hop.
    pub neighbor: NeighborId,
    /// Hash of the 4-tuple: leaving the index needs no second one.
    pub hash: Hash,
    /// Opened passively, the listener that it came to; actively, the destination that its port belongs to, or [`NONE`].
    pub origin: u32,
    /// The application's own number.
    pub user: u64,
}

/// That of a slot that no connection has had.
impl Default for Name {
    fn default() -> Name {
        let (tuple, hash) = (FourTuple::default(), Hash::default());
        Name { tuple, neighbor: NeighborId::NONE, hash, origin: NONE, user: 0 }
    }
}

impl Name {
    /// The port of the connection whose TCB is `tcb` was drawn for a destination, to which it goes back.
    #[inline]
    pub(super) fn is_from_destination(&self, tcb: &Tcb) -> bool {
        tcb.opened() == Opened::Actively && self.origin != NONE
    }
}

/// The names of a shard's connections. A free record's is that of its last connection: whoever has a handle asks the slab first.
pub(super) struct Names {
    names: Vec<Name>,
}

impl Names {
    /// Names of `max` connections, all memory touched.
    pub(super) fn new(max: u32) -> Names {
        Names { names: vec![Name::default(); max as usize] }
    }

    /// Bytes that the names of `max` connections take.
    pub(super) const fn bill(max: u32) -> u64 {
        max as u64 * size_of::<Name>() as u64
    }

    /// The addresses of the names.
    pub(super) fn region(&self) -> Range<*const u8> {
        let range = self.names.as_ptr_range();
        range.start.cast()..range.end.cast()
    }

    /// Asks the processor to load name `number`. Any number is harmless.
    #[inline]
    pub(super) fn prefetch(&self, number: u32) {
        if let Some(name) = self.names.get(number as usize) {
            prefetch_record(name);
        }
    }
}

/// The name of the live connection of this number.
impl Index<u32> for Names {
    type Output = Name;

    #[inline]
    fn index(&self, number: u32) -> &Name {
        &self.names[number as usize]
    }
}

impl IndexMut<u32> for Names {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut Name {
        &mut self.names[number as usize]
    }
}

const _: () = assert!(size_of::<Name>() == 56);

#[cfg(test)]
mod tests {
    use crate::api::{Application, CallError, ConnectOptions, Event};
    use crate::shard::{Calls, Sim};
    use ::core::net::SocketAddr;

    struct Quiet;

    impl Application for Quiet {
        fn on_event(&mut self, _: &mut Calls<'_>, _: Event<'_>) {}
    }

    #[test]
    fn dead_handle_reads_and_writes_nobodys_name() {
        let mut sim = Sim::new(Quiet, Quiet).expect("a pair");
        let mut open = |port, user| {
            let remote = SocketAddr::new(Sim::<Quiet, Quiet>::RIGHT, port);
            let mut calls = sim.left_calls();
            let handle = calls.connect(remote, &ConnectOptions { user, ..ConnectOptions::default() }).expect("room");
            assert_eq!(calls.four_tuple(handle).map(|tuple| tuple.remote_port), Ok(port));
            // The peer refuses.
            sim.run(5);
            assert_eq!(sim.left.connections_live(), 0);
            handle
        };
        let dead = open(80, 1);
        let heir = open(81, 2);
        assert_eq!(dead.number(), heir.number(), "of the same slot");
        let remote = SocketAddr::new(Sim::<Quiet, Quiet>::RIGHT, 82);
        let mut calls = sim.left_calls();
        let live = calls.connect(remote, &ConnectOptions { user: 3, ..ConnectOptions::default() }).expect("room");
        assert_eq!(live.number(), dead.number(), "of the same slot");
        for dead in [dead, heir] {
            assert_eq!(calls.four_tuple(dead), Err(CallError::Stale));
            assert_eq!(calls.user(dead), Err(CallError::Stale));
            assert_eq!(calls.set_user(dead, 7), Err(CallError::Stale));
        }
        assert_eq!(calls.user(live), Ok(3));
    }
}
