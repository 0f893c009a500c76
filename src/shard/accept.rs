//! The accept queue (B10): connections that are established and of which the application does not know yet.
//!
//! It has a limit of its own. A connection is in it for the rest of the turn, as long as its listener is paused, or where
//! accepting is deferred, until its first text, its FIN or a deadline. When the queue is full, SYNs and the ACKs that would
//! complete a handshake are ignored, as on Linux: the peer sends again, and gets in when there is room.

use super::calls::Calls;
use super::connection::{Fact, Tell, Telling};
use super::core::Core;
use crate::bits::Bits;
use crate::flow::list::List;
use crate::ids::ListenerId;
use crate::limits::DEADLINE_MAX_MS;
use crate::tcp::tcb::Opened;
use crate::tcp::{Context, calls};
use crate::tick::{Deadline, Now};
use crate::touched::filled;
use ::core::time::Duration;
use alloc::vec::Vec;

/// The accept queue of a shard.
#[derive(Debug)]
pub(super) struct AcceptQueue {
    /// By number of the listener.
    listeners: Vec<Accepting>,
    /// Connections in the queue.
    len: u32,
    /// Those that only wait for their listener to go on, in order.
    parked: List<Telling>,
}

/// How a listener accepts.
#[derive(Clone, Copy, Debug, Default)]
struct Accepting {
    paused: bool,
    /// For how long accepting waits for text, ms; 0 where it is not deferred.
    defer_ms: u32,
    /// Its connections in the queue.
    waiting: u32,
}

impl AcceptQueue {
    pub(super) fn new(listeners_max: u32) -> AcceptQueue {
        AcceptQueue { listeners: filled(listeners_max as usize, Accepting::default), len: 0, parked: List::new() }
    }

    /// Bytes that the queue takes: its connections are TCBs.
    pub(super) fn bill(listeners_max: u32) -> u64 {
        u64::from(listeners_max) * size_of::<Accepting>() as u64
    }

    /// A new listener accepts at once, or waits for text up to so long.
    pub(super) fn begin(&mut self, listener: u32, defer: Option<Duration>) {
        let defer_ms = defer.map_or(0, |defer| defer.as_millis().min(DEADLINE_MAX_MS.into()) as u32);
        if let Some(accepting) = self.listeners.get_mut(listener as usize) {
            *accepting = Accepting { paused: false, defer_ms, ..*accepting };
        }
    }

    /// Whether no connection of the listener is in the queue.
    pub(super) fn is_empty_of(&self, listener: u32) -> bool {
        self.of(listener).waiting == 0
    }

    /// Connections in the queue.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    fn entered(&mut self, listener: u32) {
        self.len += 1;
        if let Some(accepting) = self.listeners.get_mut(listener as usize) {
            accepting.waiting += 1;
        }
    }

    #[inline]
    fn left(&mut self, listener: u32) {
        self.len -= 1;
        if let Some(accepting) = self.listeners.get_mut(listener as usize) {
            accepting.waiting -= 1;
        }
    }

    #[inline]
    fn of(&self, listener: u32) -> Accepting {
        self.listeners.get(listener as usize).copied().unwrap_or_default()
    }
}

impl Core {
    /// Whether no connection may be established passively with the listener now; counts the segment that asked for it. One that
    /// is paused or defers has half of the queue at most, so that it does not hold up the others.
    #[inline]
    pub(super) fn refuses_to_accept(&mut self, listener: u32) -> bool {
        let Accepting { paused, defer_ms, waiting } = self.accept.of(listener);
        let held = (paused || defer_ms > 0) && waiting >= self.limits.accept_max.div_ceil(2);
        let full = held || self.accept.len >= self.limits.accept_max;
        self.counters.accept_queue_full += u64::from(full);
        full
    }

    /// A connection has been established: the application is to be told, at once unless accepting is deferred.
    #[inline(always)]
    pub(super) fn enter_accept_queue(&mut self, number: u32, now: Now) {
        let connection = &mut self.connections[number];
        connection.tell.add(Tell::OPENED);
        if connection.tcb.opened() == Opened::Actively {
            return self.tell(number);
        }
        let listener = self.names[number].origin;
        self.accept.entered(listener);
        match self.accept.of(listener).defer_ms {
            0 => self.tell(number),
            defer_ms => calls::defer_accept(&mut connection.tcb, now.tick().plus(defer_ms)),
        }
    }

    /// The application is about to hear of the connection. Returns `false` if it is not: its listener is paused, and the
    /// connection waits in the queue.
    #[inline(always)]
    pub(super) fn leave_accept_queue(&mut self, number: u32, now: Now) -> bool {
        let connection = &mut self.connections[number];
        if connection.tcb.opened() == Opened::Passively {
            let options = self.options.get(connection.tcb.options);
            let cx = Context { now, settings: &self.settings, options, receive_room: false };
            let listener = self.names[number].origin;
            if calls::accept(&mut connection.tcb, &cx) {
                self.arm(number);
            }
            if self.accept.of(listener).paused {
                if !List::<Telling>::is_linked(&self.connections, number) {
                    self.accept.parked.push_back(&mut self.connections, number);
                }
                return false;
            }
            self.accept.left(listener);
        }
        self.connections[number].tell.remove(Tell::OPENED);
        true
    }

    /// Whether the connection waits in the queue for its first text.
    #[inline]
    pub(super) fn is_deferred(&self, number: u32) -> bool {
        let connection = &self.connections[number];
        connection.tell.has(Tell::OPENED)
            && connection.tcb.opened() == Opened::Passively
            && !List::<Telling>::is_linked(&self.connections, number)
    }

    /// The deadline of deferral has come without text: the application is told now. Returns whether that was it.
    pub(super) fn defer_no_longer(&mut self, number: u32, now: Now) -> bool {
        if !self.connections[number].tcb.waits_until.is_due(now.tick()) || !self.is_deferred(number) {
            return false;
        }
        self.connections[number].tcb.waits_until = Deadline::NONE;
        self.counters.accept_defer_expired += 1;
        self.tell(number);
        true
    }

    /// A connection in the queue is not to be told of any more.
    pub(super) fn drop_from_accept_queue(&mut self, number: u32) {
        let connection = &mut self.connections[number];
        self.accept.left(self.names[number].origin);
        connection.tell = Bits::NONE;
        connection.facts.add(Fact::TOLD_CLOSED);
        self.telling.remove(&mut self.connections, number);
    }

    /// What waited for a listener to go on is told, in order; what waits for another goes on waiting.
    fn unpark(&mut self) {
        for _ in 0..self.accept.parked.len() {
            let Some(number) = self.accept.parked.pop_front(&mut self.connections) else { return };
            self.telling.push_back(&mut self.connections, number);
        }
    }
}

impl Calls<'_> {
    /// Tells of no more connections of this listener until [`Calls::resume_accepting`]. They are established all the same and
    /// wait with what they have received, up to `limits.accept_max` of the shard; beyond that peers get no answer and try
    /// again. Returns whether the listener exists.
    pub fn pause_accepting(&mut self, listener: ListenerId) -> bool {
        self.set_paused(listener, true)
    }

    /// Tells of the connections that have waited, in order, and of those to come. Returns whether the listener exists.
    pub fn resume_accepting(&mut self, listener: ListenerId) -> bool {
        let exists = self.set_paused(listener, false);
        self.core.unpark();
        exists
    }

    /// Connections of this shard that are established and not told yet.
    pub fn accepts_waiting(&self) -> u32 {
        self.core.accept.len
    }

    fn set_paused(&mut self, listener: ListenerId, paused: bool) -> bool {
        let exists = self.core.listeners.end(listener.0).is_some();
        if let Some(accepting) = self.core.accept.listeners.get_mut(listener.0 as usize) {
            accepting.paused = paused && exists;
        }
        exists
    }
}
