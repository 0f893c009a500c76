//! What shards tell the thread that writes it down: ends of connections, and health that has changed. A shard never writes
//! to a file; what finds the queue full is counted.

use super::backends::Counts;
use super::termination::Termination;
use crossbeam::queue::ArrayQueue;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One thing to write down.
#[derive(Clone, Debug)]
pub(super) enum Note {
    /// A client connection has ended.
    Ended(Ended),
    /// A backend went down or came up; why it went down.
    Health { listener: u16, backend: u16, up: bool, because: String },
}

/// A client connection that has ended. Times are of the stack's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ended {
    pub(super) client: SocketAddr,
    pub(super) listener: u16,
    /// The last that was tried.
    pub(super) backend: Option<u16>,
    pub(super) accepted_us: u64,
    /// When the backend's handshake was complete.
    pub(super) connected_us: Option<u64>,
    pub(super) ended_us: u64,
    /// From the backend to the client.
    pub(super) bytes_read: u64,
    pub(super) termination: Termination,
    pub(super) counts: Counts,
    pub(super) retries: u8,
    /// A retry went to another backend.
    pub(super) redispatched: bool,
}

/// The queue from one shard.
#[derive(Clone, Debug)]
pub(super) struct Notes(Arc<Queue>);

#[derive(Debug)]
struct Queue {
    notes: ArrayQueue<Note>,
    dropped: AtomicU64,
}

impl Notes {
    /// Of a shard that may have so many pairs, which may all end at once: with their backend, or a drain.
    pub(super) fn new(pairs_max: u32) -> Notes {
        let room = NOTES_MIN.max(pairs_max as usize);
        Notes(Arc::new(Queue { notes: ArrayQueue::new(room), dropped: AtomicU64::new(0) }))
    }

    pub(super) fn push(&self, note: Note) {
        if self.0.notes.push(note).is_err() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that wait, at most as many as the queue holds.
    pub(super) fn take(&self) -> impl Iterator<Item = Note> {
        (0..self.0.notes.capacity()).map_while(|_| self.0.notes.pop())
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u64 {
        self.0.notes.len() as u64
    }

    /// How many found the queue full.
    pub(super) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

/// Notes of one shard that may wait at least. Origin: that thread looks every 20 ms; a shard of 200,000 connections a
/// second ends 4,000 in that time.
const NOTES_MIN: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_a_shard_may_end_at_once() {
        let down = || Note::Health { listener: 0, backend: 0, up: false, because: String::new() };
        for (pairs_max, room) in [(100, NOTES_MIN), (60_000, 60_000)] {
            let notes = Notes::new(pairs_max);
            (0..room).for_each(|_| notes.push(down()));
            assert_eq!((notes.waiting(), notes.dropped()), (room as u64, 0));
            notes.push(down());
            assert_eq!((notes.take().count(), notes.dropped()), (room, 1));
        }
    }
}
