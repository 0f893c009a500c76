//! What other threads ask of a shard: a bounded queue that the shard empties between turns.

use super::alarm::Alarm;
use super::half_open::Listing;
use crate::owner::Owners;
use crate::shard::Policies;
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;

/// One request.
#[derive(Clone, Debug)]
pub(super) enum Command {
    /// Other policies.
    SetPolicies(Policies),
    /// Another division of connections between the shards.
    ChangeOwners(Arc<Owners>),
    /// Another Ethernet address and MTU of an interface.
    #[cfg(feature = "xdp")]
    ChangeLink {
        /// Its number.
        interface: u8,
        /// The address.
        mac: crate::wire::ethernet::MacAddress,
        /// The MTU, bytes.
        mtu: usize,
    },
    /// Where a neighbour is.
    #[cfg(feature = "xdp")]
    Learn {
        /// The number of the interface that leads to it.
        interface: u8,
        /// Its address.
        ip: std::net::IpAddr,
        /// Its Ethernet address.
        mac: crate::wire::ethernet::MacAddress,
    },
    /// Tell the neighbours where the own addresses are.
    Announce,
    /// List the half-open connections.
    ListHalfOpen(Arc<Listing>),
}

/// The queue of one shard, and what wakes it.
#[derive(Debug)]
pub(super) struct Commands {
    queue: ArrayQueue<Command>,
    alarm: Arc<Alarm>,
}

impl Commands {
    pub(super) fn new(alarm: Arc<Alarm>) -> Commands {
        Commands { queue: ArrayQueue::new(COMMANDS_MAX), alarm }
    }

    /// Queues a command; `false` when the queue is full.
    pub(super) fn push(&self, command: Command) -> bool {
        let pushed = self.queue.push(command).is_ok();
        self.alarm.ring();
        pushed
    }

    /// Whether none is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The commands that are queued, at most as many as the queue holds.
    pub(super) fn take(&self) -> impl Iterator<Item = Command> {
        (0..COMMANDS_MAX).map_while(|_| self.queue.pop())
    }
}

/// Commands that wait for one shard. Smaller refuses who asks often; larger lets a slow shard fall behind.
const COMMANDS_MAX: usize = 64;
