//! Two connections joined: what arrives on one is sent on the other, both ways, without the application.
//!
//! Text goes straight from its frame into the other's send buffer. What that cannot take stays unread in the receive buffer and
//! closes the window: whoever reads slowly slows the sender at the other end, at the cost of one send and one receive buffer
//! per direction. A FIN follows the last byte; a RST or a time-out of one end aborts the other. What one connection has to
//! do for the other it does when it would otherwise be told: a connection that is not joined pays for one bit.

use super::calls::{self, Calls};
use super::connection::{Connection, Fact, Tell};
use super::core::Core;
use super::tell::Teller;
use crate::api::{Application, Event, SpliceError};
use crate::bits::Bits;
use crate::flow::slab::{Record, Slab};
use crate::ids::Handle;
use crate::tcp::calls::Refused;
use crate::tcp::state::{CloseReason, State};
use crate::tcp::{self, Context};
use crate::tick::Now;

/// The splices of a shard.
pub(super) struct Splices {
    records: Slab<Splice>,
}

/// Two connections, and what has gone from each to the other.
#[derive(Clone, Copy, Debug, Default)]
struct Splice {
    generation: u32,
    ends: [u32; 2],
    /// By end, octets at the front of what is unread that the application had consumed during the event in which it spliced.
    consumed: [u32; 2],
    /// By the end that they came from, bytes in the other's send buffer or beyond.
    bytes: [u64; 2],
    /// By the end that it came from, the FIN has been carried across.
    finished: [bool; 2],
}

impl Record for Splice {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }

    fn next_free(&mut self) -> &mut u32 {
        &mut self.ends[0]
    }
}

impl Splices {
    pub(super) fn new(splices_max: u32) -> Splices {
        Splices { records: Slab::new(splices_max) }
    }

    /// Bytes that they take.
    pub(super) fn bill(splices_max: u32) -> u64 {
        Slab::<Splice>::bill(splices_max)
    }

    /// Splices in use.
    pub(super) fn len(&self) -> u32 {
        self.records.len()
    }
}

impl Core {
    /// The number of a connection's splice, and which of its ends the connection is.
    fn splice_of(&self, number: u32) -> Option<(u32, usize)> {
        let splice = self.connections[number].splice()?;
        Some((splice, usize::from(self.splices.records[splice].ends[1] == number)))
    }

    /// Octets at the front of what is unread of a connection that the application has taken during an event.
    pub(super) fn consumed_bytes(&self, number: u32) -> u32 {
        match self.splice_of(number) {
            Some((splice, side)) => self.splices.records[splice].consumed[side],
            None => self.connections[number].consumed_bytes(),
        }
    }
}

impl Calls<'_> {
    /// Joins two open connections for the rest of their lives: what arrives on one is sent on the other, both ways, without the
    /// application. Bytes that were received and not consumed go first, behind those that were sent already, so a prefix
    /// may be read and another written before.
    ///
    /// A window opens only as the other end takes bytes. A FIN is carried across behind the last byte, each direction for
    /// itself; a RST or a time-out of one end, or [`Calls::abort`], aborts the other, and then what has not been delivered is
    /// lost. When both directions have ended [`Event::SpliceEnded`] is told once, with the bytes of each, then Closed for either
    /// end; nothing else is told of them. The application need not close them. Until then sending, consuming and closing are
    /// refused ([`CallError::Spliced`](crate::api::CallError::Spliced)); options, `info` and `abort` work.
    ///
    /// Urgent data is carried as what it is, bytes in line.
    pub fn splice(&mut self, a: Handle, b: Handle) -> Result<(), SpliceError> {
        if a == b {
            return Err(SpliceError::Itself);
        }
        for handle in [a, b] {
            self.may_splice(handle)?;
        }
        let max = self.core.splices.records.max();
        let splice = self.core.splices.records.insert().ok_or(SpliceError::TooMany(max))?;
        self.core.counters.splices += 1;
        for (side, handle) in [a, b].into_iter().enumerate() {
            let connection = &mut self.core.connections[handle.number];
            let record = &mut self.core.splices.records[splice];
            record.ends[side] = handle.number;
            record.consumed[side] = connection.begin_splice(splice);
            connection.tell.remove(NOT_TOLD);
            self.core.tell(handle.number);
        }
        Ok(())
    }

    /// The other end of a spliced connection; `None` for one that is not, or no longer.
    pub fn spliced_with(&self, handle: Handle) -> Option<Handle> {
        let (splice, side) = self.splice_of(handle)?;
        let other = splice.ends[1 - side];
        Some(self.core.connections[other].handle(other))
    }

    /// Bytes that have gone from this end of a splice to the other, and the other way; `None` for a connection that is
    /// not spliced, or no longer. Two readings that are equal say that nothing has moved between them: the way to an
    /// idle time-out.
    pub fn spliced_bytes(&self, handle: Handle) -> Option<(u64, u64)> {
        let (splice, side) = self.splice_of(handle)?;
        Some((splice.bytes[side], splice.bytes[1 - side]))
    }

    /// The splice of a connection, and which of its ends the connection is.
    fn splice_of(&self, handle: Handle) -> Option<(Splice, usize)> {
        self.core.connections.get(handle.number, handle.generation)?;
        let (splice, side) = self.core.splice_of(handle.number)?;
        Some((self.core.splices.records[splice], side))
    }

    /// Whether both directions of the connection are the application's to give away.
    fn may_splice(&self, handle: Handle) -> Result<(), SpliceError> {
        let connection = self.core.connections.get(handle.number, handle.generation);
        let known = |connection: &&Connection| {
            !connection.facts.has(Fact::TOLD_CLOSED) && !connection.tcb.is_half_open_passively()
        };
        let connection = connection.filter(known).ok_or(SpliceError::Stale(handle))?;
        if connection.facts.has(Fact::SPLICED) {
            return Err(SpliceError::AlreadySpliced(handle));
        }
        let options = self.core.options.get(connection.tcb.options);
        let cx = Context { now: self.now(), settings: &self.core.settings, options, receive_room: false };
        match tcp::calls::send_room(&connection.tcb, 0, &cx) {
            Ok(_) => Ok(()),
            Err(Refused::NotOpen) => Err(SpliceError::NotOpen(handle)),
            Err(Refused::Closing) => Err(SpliceError::Closing(handle)),
            Err(Refused::Ended) => Err(SpliceError::Ended(handle)),
        }
    }
}

impl<A: Application> Teller<'_, A> {
    /// Text of a spliced connection, for which a chunk is reserved; `bytes` lie in its frame.
    pub(super) fn splice_text(&mut self, number: u32, bytes: &[u8]) {
        // What came before goes first.
        let waits = !self.core.connections[number].unread.is_empty();
        let taken = if waits { 0 } else { forward(self.core, number, bytes, self.now) };
        if taken < bytes.len() {
            self.receiving.append_reserved(&mut self.core.connections[number].unread, &bytes[taken..]);
        } else {
            self.receiving.unreserve(1);
        }
    }

    /// Does for either end what the other calls for: bytes, then FINs, then the end. Returns whether the splice lives on.
    pub(super) fn splice_goes_on(&mut self, number: u32) -> bool {
        self.core.connections[number].tell.remove(NOT_TOLD);
        let Some((splice, _)) = self.core.splice_of(number) else { return false };
        let ends = self.core.splices.records[splice].ends;
        let breaks = ends.iter().any(|&end| {
            let tcb = &self.core.connections[end].tcb;
            tcb.state == State::Closed && tcb.reason != Some(CloseReason::Graceful)
        });
        if breaks {
            for end in ends {
                calls::abort(self.core, end, self.now);
            }
        } else {
            for side in [0, 1] {
                self.forward_unread(splice, side);
                self.carry_fin(splice, side);
            }
        }
        let goes_on = !breaks && self.core.splices.records[splice].finished != [true; 2];
        if !goes_on {
            self.end_splice(splice);
        }
        goes_on
    }

    /// What waits unread, as far as the other end takes it and the budget goes.
    fn forward_unread(&mut self, splice: u32, side: usize) {
        let record = &mut self.core.splices.records[splice];
        let (from, consumed) = (record.ends[side], core::mem::take(&mut record.consumed[side]));
        self.receiving.consume(&mut self.core.connections[from].unread, consumed);
        while !self.core.connections[from].unread.is_empty() {
            if self.budget == 0 {
                return self.core.tell(from);
            }
            self.budget -= 1;
            let bytes = self.receiving.front(&self.core.connections[from].unread);
            let taken = forward(self.core, from, bytes, self.now);
            let all = taken == bytes.len();
            self.receiving.consume(&mut self.core.connections[from].unread, taken as u32);
            if !all {
                // The other end has asked to hear when there is room.
                return;
            }
        }
    }

    /// Closes the other direction once everything has gone there and the peer of this one has closed.
    fn carry_fin(&mut self, splice: u32, side: usize) {
        let Splice { ends, finished, .. } = self.core.splices.records[splice];
        let tcb = &self.core.connections[ends[side]].tcb;
        if finished[side] || tcb.unread_bytes > 0 || !tcb.has_their_fin() {
            return;
        }
        self.core.splices.records[splice].finished[side] = true;
        let closed = calls::finish(self.core, ends[1 - side], false, self.now);
        debug_assert!(closed.is_ok(), "nobody but the splice closes its ends");
    }

    /// Both directions have ended: the application is told, and later of both connections that they are closed.
    fn end_splice(&mut self, splice: u32) {
        let Splice { ends, bytes, .. } = self.core.splices.records[splice];
        self.core.splices.records.remove(splice);
        for end in ends {
            let connection = &mut self.core.connections[end];
            connection.end_splice();
            connection.tell.remove(NOT_TOLD | Tell::WANTS_WRITABLE);
            self.receiving.clear(&mut connection.unread);
            // Nobody waits for them any more: a peer that takes nothing does not keep them for ever.
            let _ = calls::finish(self.core, end, true, self.now);
            if self.core.connections[end].tell.has(Tell::CLOSED) {
                self.core.tell(end);
            }
        }
        let [a, b] = ends.map(|end| self.core.connections[end].handle(end));
        self.event(None, Event::SpliceEnded { a, b, a_to_b: bytes[0], b_to_a: bytes[1] });
    }
}

/// Queues bytes that came on `from` at the other end. Returns how many it took; after fewer than all it is told when there is
/// room.
fn forward(core: &mut Core, from: u32, bytes: &[u8], now: Now) -> usize {
    let Some((splice, side)) = core.splice_of(from) else { return 0 };
    let to = core.splices.records[splice].ends[1 - side];
    let handle = core.connections[to].handle(to);
    let Ok(taken) = calls::queue(core, handle, bytes, now) else { return 0 };
    if taken > 0 {
        core.splices.records[splice].bytes[side] += taken as u64;
        let connection = &mut core.connections[from];
        let options = core.options.get(connection.tcb.options);
        let cx = Context { now, settings: &core.settings, options, receive_room: false };
        tcp::calls::received(&mut connection.tcb, taken as u32, &cx);
        core.owe(from);
    }
    taken
}

/// What the application is not told of the ends of a splice.
const NOT_TOLD: Bits<Tell> =
    Tell::READABLE.with(Tell::WRITABLE).with(Tell::PEER_CLOSED).with(Tell::STALLED).with(Tell::URGENT);
