//! The half-open connections, one by one and by source (B14): for reports, not for turns.

use super::Shard;
use super::connection::Connection;
use crate::four_tuple::FourTuple;
use crate::tcp::state::State;
use crate::tcp::tcb::Opened;
use crate::tick::Now;
use ::core::cmp::Reverse;
use ::core::net::IpAddr;
use ::core::ops::Range;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// One connection in SYN-RECEIVED.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HalfOpen {
    /// Its name.
    pub tuple: FourTuple,
    /// By a listener, or by a simultaneous open.
    pub opened: Opened,
    /// How often its SYN-ACK was sent again.
    pub retries: u8,
    /// When that happens next, or it ends, ms from now; `None` before the first was sent.
    pub next_in_ms: Option<u32>,
}

/// How many of `half_open` each source has, most first.
pub fn by_source<'a>(half_open: impl IntoIterator<Item = &'a HalfOpen>) -> Vec<(IpAddr, u32)> {
    let mut counts = BTreeMap::new();
    for half_open in half_open {
        *counts.entry(half_open.tuple.remote()).or_insert(0u32) += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    counts
}

impl<L, A> Shard<L, A> {
    /// The half-open connections, in no order that matters. Walks the TCBs.
    pub fn half_open(&self, now: Now) -> impl Iterator<Item = HalfOpen> {
        self.half_open_in(0..self.slots(), now)
    }

    /// Those among the slots of this range, of which there are [`Shard::slots`]: a walk in steps.
    pub fn half_open_in(&self, slots: Range<u32>, now: Now) -> impl Iterator<Item = HalfOpen> {
        let half_open = |(_, connection): &(u32, &Connection)| connection.tcb.state == State::SynReceived;
        self.core.connections.iter_in(slots).filter(half_open).map(move |(number, connection)| HalfOpen {
            tuple: self.core.names[number].tuple,
            opened: connection.tcb.opened(),
            retries: connection.tcb.retries,
            next_in_ms: connection.tcb.retransmit_at.tick().map(|deadline| now.tick().until(deadline)),
        })
    }

    /// Slots for connections, as many as `limits.tcbs_max`.
    pub fn slots(&self) -> u32 {
        self.core.connections.max()
    }

    /// How many half-open connections each source has, most first. Walks the TCBs and allocates.
    pub fn half_open_by_source(&self, now: Now) -> Vec<(IpAddr, u32)> {
        by_source(&self.half_open(now).collect::<Vec<_>>())
    }

    /// Passive opens of which the handshake has not completed.
    pub fn half_open_live(&self) -> usize {
        self.core.half_open as usize
    }
}
