//! What other threads ask of a shard: a bounded queue that the shard empties between turns.

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
}

/// The queue of one shard.
#[derive(Debug)]
pub(super) struct Commands(ArrayQueue<Command>);

impl Commands {
    pub(super) fn new() -> Commands {
        Commands(ArrayQueue::new(COMMANDS_MAX))
    }

    /// Queues a command; `false` when the queue is full.
    pub(super) fn push(&self, command: Command) -> bool {
        self.0.push(command).is_ok()
    }

    /// The commands that are queued, at most as many as the queue holds.
    pub(super) fn take(&self) -> impl Iterator<Item = Command> {
        (0..COMMANDS_MAX).map_while(|_| self.0.pop())
    }
}

/// Commands that wait for one shard. Smaller refuses who asks often; larger lets a slow shard fall behind.
const COMMANDS_MAX: usize = 64;
