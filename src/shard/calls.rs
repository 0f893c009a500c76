//! What an application may do: the calls of RFC 9293 3.9.1 on one shard. They act at once; segments leave at the end of the turn.

use super::connection::{Connection, Fact, Tell};
use super::core::Core;
use crate::api::{CallError, ConnectError, ConnectOptions, ConnectionOptions, Info, ListenError, ListenOptions};
use crate::flow::chunks::Chunks;
use crate::flow::listeners::AddError;
use crate::flow::slab::Slab;
use crate::four_tuple::FourTuple;
use crate::ids::{Handle, ListenerId};
use crate::tcp::Context;
use crate::tcp::calls::{self, Closed, Refused};
use crate::tcp::state::{CloseReason, State};
use crate::tcp::{status, urgent};
use crate::tick::Now;
use ::core::net::{IpAddr, SocketAddr};

/// The calls of one shard, for the time of one event.
pub struct Calls<'a> {
    pub(super) core: &'a mut Core,
    received: &'a Chunks,
    now: Now,
    pub(super) lent: Option<Lent<'a>>,
}

/// Bytes that the event lends.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    pub handle: Handle,
    pub bytes: &'a [u8],
    /// How many of them the application has consumed.
    pub taken: usize,
}

impl<'a> Calls<'a> {
    pub(super) fn new(core: &'a mut Core, received: &'a Chunks, now: Now) -> Calls<'a> {
        Calls { core, received, now, lent: None }
    }

    /// The turn's time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// Takes connections to `port` at `address`, one of the stack's or the unspecified address of a family (MUST-41,
    /// MUST-42); that takes connections to addresses that the stack stands in for too. They have the default options.
    pub fn listen(&mut self, address: IpAddr, port: u16) -> Result<ListenerId, ListenError> {
        self.listen_with(address, port, &ListenOptions::default())
    }

    /// As [`Calls::listen`], with options.
    pub fn listen_with(
        &mut self,
        address: IpAddr,
        port: u16,
        options: &ListenOptions,
    ) -> Result<ListenerId, ListenError> {
        if port == 0 {
            return Err(ListenError::PortZero);
        }
        let routes = &self.core.routes;
        if !address.is_unspecified() && !routes.is_local(address) {
            return Err(ListenError::NotOurAddress(address));
        }
        let is_own = routes.is_own(address) || (address.is_unspecified() && !routes.stands_in(address.is_ipv4()));
        if is_own && !self.core.is_claimed(port) {
            return Err(ListenError::NotClaimed(port));
        }
        let set = self.core.options.acquire(&options.connection)?;
        // A connection that still waits for a listener that is gone knows it by its number.
        let accept = &self.core.accept;
        match self.core.listeners.add(address, port, |number| accept.is_empty_of(number)) {
            Ok(number) => {
                self.core.listener_options[number as usize] = set;
                self.core.accept.begin(number, options.defer_accept);
                Ok(ListenerId(number))
            }
            Err(error) => {
                self.core.options.release(set);
                Err(match error {
                    AddError::InUse => ListenError::InUse(SocketAddr::new(address, port)),
                    AddError::Full => ListenError::TooMany(self.core.limits.listeners_max),
                })
            }
        }
    }

    /// Takes no more connections; those that exist live on. Returns whether the listener existed.
    pub fn stop_listening(&mut self, listener: ListenerId) -> bool {
        let listens = self.core.listeners.end(listener.0).is_some();
        if listens {
            self.resume_accepting(listener);
            self.core.listeners.remove(listener.0);
            self.core.options.release(self.core.listener_options[listener.0 as usize]);
        }
        listens
    }

    /// As [`Calls::stop_listening`], for all listeners of the shard.
    pub fn stop_listening_all(&mut self) {
        for number in 0..self.core.limits.listeners_max {
            self.stop_listening(ListenerId(number));
        }
    }

    /// Opens a connection (RFC 9293 3.9.1.1, active). The outcome comes as Connected or Closed.
    #[inline]
    pub fn connect(&mut self, remote: SocketAddr, options: &ConnectOptions) -> Result<Handle, ConnectError> {
        self.core.open_actively(remote, options, self.now)
    }

    /// Queues bytes to be sent (RFC 9293 3.9.1.2); returns how many were taken. After fewer than asked, Writable follows.
    #[inline]
    pub fn send(&mut self, handle: Handle, bytes: &[u8]) -> Result<usize, CallError> {
        own(&mut self.core.connections, handle)?;
        queue(self.core, handle, bytes, self.now).map_err(refused)
    }

    /// As [`Calls::send`], of several pieces that follow one another.
    pub fn send_vectored(&mut self, handle: Handle, pieces: &[&[u8]]) -> Result<usize, CallError> {
        own(&mut self.core.connections, handle)?;
        let mut taken = 0;
        for piece in pieces {
            let count = self.send(handle, piece)?;
            taken += count;
            if count < piece.len() {
                break;
            }
        }
        Ok(taken)
    }

    /// Sends on `to` what is unread on `from`, as much as lies together and `to` takes, and consumes that much there; returns how
    /// many bytes. What is left of an event's bytes stays; of buffered ones the next are told as Readable.
    pub fn forward(&mut self, from: Handle, to: Handle) -> Result<usize, CallError> {
        let bytes = self.unread(from)?;
        let taken = self.send(to, bytes)?;
        self.consume(from, taken)?;
        Ok(taken)
    }

    /// As [`Calls::send`], with the urgent flag (MUST-30): the peer hears at once that urgent data is on its way, and
    /// that it ends with these bytes; they stay in line. New applications should not use it (SHLD-13).
    pub fn send_urgent(&mut self, handle: Handle, bytes: &[u8]) -> Result<usize, CallError> {
        let taken = self.send(handle, bytes)?;
        if taken > 0 {
            urgent::sent(&mut live(&mut self.core.connections, handle)?.tcb);
        }
        Ok(taken)
    }

    /// How many bytes, unread or still to come, lead to the end of the peer's urgent data; 0 when there is none (MUST-33).
    pub fn urgent_bytes(&self, handle: Handle) -> Result<u32, CallError> {
        self.record(handle).map(|connection| urgent::bytes_left(&connection.tcb))
    }

    /// Takes `count` of the lent or buffered bytes (RFC 9293 3.9.1.3); the window opens by as much.
    #[inline]
    pub fn consume(&mut self, handle: Handle, count: usize) -> Result<(), CallError> {
        let connection = own(&mut self.core.connections, handle)?;
        let options = self.core.options.get(connection.tcb.options);
        let cx = Context { now: self.now, settings: &self.core.settings, options, receive_room: false };
        let lent = self.lent.as_mut().filter(|lent| lent.handle == handle);
        let unread = match &lent {
            Some(lent) => lent.bytes.len() - lent.taken,
            None => (connection.unread.len() - connection.consumed_bytes()) as usize,
        };
        if count > unread {
            return Err(CallError::TooMuchConsumed { asked: count, unread });
        }
        match lent {
            Some(lent) => lent.taken += count,
            None => connection.consume(count as u32),
        }
        calls::received(&mut connection.tcb, count as u32, &cx);
        if connection.facts.has(Fact::WAITS_FOR_NEIGHBOR) {
            // Its turn to send, where what is consumed leaves the chain, may not come.
            self.core.tell(handle.number);
        }
        self.core.owe(handle.number);
        Ok(())
    }

    /// The next unread bytes: as many as lie together, all of them over several calls with [`Calls::consume`].
    pub fn received(&self, handle: Handle) -> Result<&[u8], CallError> {
        self.unread(handle)
    }

    /// As [`Calls::received`]: the bytes outlive other calls.
    fn unread(&self, handle: Handle) -> Result<&'a [u8], CallError> {
        if let Some(lent) = self.lent.as_ref().filter(|lent| lent.handle == handle) {
            return Ok(&lent.bytes[lent.taken..]);
        }
        let connection = self.core.connections.get(handle.number, handle.generation).ok_or(CallError::Stale)?;
        let front = self.received.front(&connection.unread);
        let consumed = self.core.consumed_bytes(handle.number) as usize;
        if consumed <= front.len() {
            return Ok(&front[consumed..]);
        }
        // More than one chunk was consumed during this event; the rest is told in the next.
        Ok(&[])
    }

    /// Closes our direction behind what is queued (RFC 9293 3.9.1.4); bytes are still received. Before Connected the open is
    /// given up (RFC 9293 3.10.4), and Closed with reason Aborted follows; one that has met the peer's own SYN goes on, and its
    /// FIN follows the handshake.
    pub fn shutdown_write(&mut self, handle: Handle) -> Result<(), CallError> {
        self.close_direction(handle, false)
    }

    /// Closes the connection: FIN behind what is queued, and no more bytes are wanted. Unread bytes make it an abort
    /// (RFC 2525 2.17). Of a connection that has ended they are forgotten ([`CallError::Ended`]), and Closed follows.
    #[inline]
    pub fn close(&mut self, handle: Handle) -> Result<(), CallError> {
        let closed = self.close_direction(handle, true);
        if closed == Err(CallError::Ended) {
            give_up(self.core, handle.number);
        }
        closed
    }

    /// Ends the connection at once with a RST (RFC 9293 3.9.1.5). Closed with reason Aborted follows. Of a connection that has
    /// ended already what is unread is forgotten ([`CallError::Ended`]), and Closed follows with the reason that it had.
    pub fn abort(&mut self, handle: Handle) -> Result<(), CallError> {
        let connection = live(&mut self.core.connections, handle)?;
        if connection.tcb.state == State::Closed {
            if let Some(other) = self.spliced_with(handle) {
                // What has ended may still hold bytes for the other end.
                abort(self.core, other.number, self.now);
                self.core.tell(other.number);
                return Ok(());
            }
            give_up(self.core, handle.number);
            return Err(CallError::Ended);
        }
        abort(self.core, handle.number, self.now);
        Ok(())
    }

    /// The connection's state.
    pub fn state(&self, handle: Handle) -> Result<State, CallError> {
        self.record(handle).map(|connection| connection.tcb.state)
    }

    /// STATUS (RFC 9293 3.9.1.6): the connection at this moment.
    pub fn info(&self, handle: Handle) -> Result<Info, CallError> {
        let info = self.record(handle).map(|connection| status::info(&connection.tcb))?;
        Ok(Info { history: self.core.histories.get(handle.number, self.now), ..info })
    }

    /// The connection's 4-tuple.
    pub fn four_tuple(&self, handle: Handle) -> Result<FourTuple, CallError> {
        self.record(handle).map(|_| self.core.names[handle.number].tuple)
    }

    /// The application's own number.
    pub fn user(&self, handle: Handle) -> Result<u64, CallError> {
        self.record(handle).map(|_| self.core.names[handle.number].user)
    }

    /// Sets the application's own number.
    pub fn set_user(&mut self, handle: Handle, user: u64) -> Result<(), CallError> {
        live(&mut self.core.connections, handle)?;
        self.core.names[handle.number].user = user;
        Ok(())
    }

    /// Turns Nagle's algorithm off or on (MUST-17).
    pub fn set_no_delay(&mut self, handle: Handle, no_delay: bool) -> Result<(), CallError> {
        let options = *self.options(handle)?;
        self.set_options(handle, &ConnectionOptions { no_delay, ..options })
    }

    /// The connection's options.
    pub fn options(&self, handle: Handle) -> Result<&ConnectionOptions, CallError> {
        self.record(handle).map(|connection| self.core.options.get(connection.tcb.options))
    }

    /// Changes the connection's options, at once: timers that run take the new times. Refused options change nothing. The receive
    /// buffer waits for the end of the handshake, in which its window scale is agreed ([`CallError::NotOpen`]).
    pub fn set_options(&mut self, handle: Handle, options: &ConnectionOptions) -> Result<(), CallError> {
        let connection = live(&mut self.core.connections, handle)?;
        if connection.tcb.state == State::Closed {
            return Err(CallError::Ended);
        }
        let handshake = matches!(connection.tcb.state, State::SynSent | State::SynReceived);
        if handshake && options.receive_buffer != self.core.options.get(connection.tcb.options).receive_buffer {
            // The window scale that was offered has to be the one that is used.
            return Err(CallError::NotOpen);
        }
        let former = connection.tcb.options;
        connection.tcb.options = self.core.options.acquire(options)?;
        self.core.options.release(former);
        let options = self.core.options.get(connection.tcb.options);
        let cx = Context { now: self.now, settings: &self.core.settings, options, receive_room: false };
        calls::options_changed(&mut connection.tcb, &cx);
        self.core.schedule(handle.number);
        Ok(())
    }

    #[inline]
    fn close_direction(&mut self, handle: Handle, both: bool) -> Result<(), CallError> {
        own(&mut self.core.connections, handle)?;
        finish(self.core, handle.number, both, self.now).map_err(refused)
    }

    fn record(&self, handle: Handle) -> Result<&Connection, CallError> {
        self.core.connections.get(handle.number, handle.generation).ok_or(CallError::Stale)
    }
}

/// The record that the handle names. A handle whose end was told is stale, and so is one that was guessed of a connection that
/// no application knows yet.
#[inline]
fn live(connections: &mut Slab<Connection>, handle: Handle) -> Result<&mut Connection, CallError> {
    connections
        .get_mut(handle.number, handle.generation)
        .filter(|connection| !connection.facts.has(Fact::TOLD_CLOSED) && !connection.tcb.is_half_open_passively())
        .ok_or(CallError::Stale)
}

/// As [`live`], of a connection that the application has not given away: one that is spliced is refused.
#[inline]
fn own(connections: &mut Slab<Connection>, handle: Handle) -> Result<&mut Connection, CallError> {
    let connection = connections.get_mut(handle.number, handle.generation).ok_or(CallError::Stale)?;
    if connection.facts.has(Fact::TOLD_CLOSED | Fact::SPLICED) || connection.tcb.is_half_open_passively() {
        return Err(if connection.facts.has(Fact::SPLICED) { CallError::Spliced } else { CallError::Stale });
    }
    Ok(connection)
}

/// SEND; returns how many bytes were taken. After fewer than asked the connection is told when there is room.
#[inline]
pub(super) fn queue(core: &mut Core, handle: Handle, bytes: &[u8], now: Now) -> Result<usize, Refused> {
    let connection = &mut core.connections[handle.number];
    let options = core.options.get(connection.tcb.options);
    let cx = Context { now, settings: &core.settings, options, receive_room: false };
    let room = calls::send_room(&connection.tcb, bytes.len(), &cx)?;
    // While few chunks are free, one that holds many gets no more (T04): what of it is acknowledged makes room for others.
    let share = core.sending.share_bytes().saturating_sub(connection.to_send.len());
    let taken = core.sending.append(&mut connection.to_send, &bytes[..room.min(share as usize)]);
    let waits = connection.tell.has(Tell::WANTS_WRITABLE);
    if taken < bytes.len() {
        connection.tell.add(Tell::WANTS_WRITABLE);
        core.counters.send_pool_exhausted += u64::from(taken < room);
    }
    if taken > 0 {
        calls::sent(&mut connection.tcb, taken, &cx);
        // A wait that begins with it runs before a segment has left (B25).
        let waits = connection.tcb.waits_until.is_set();
        core.owe(handle.number);
        if waits {
            core.arm(handle.number);
        }
    } else if connection.to_send.is_empty() && !bytes.is_empty() && !waits {
        // No acknowledgment of this connection's own will say when there is room.
        core.wait_for_chunks(handle);
    }
    Ok(taken)
}

/// CLOSE of our direction of a live connection; with `both`, no more bytes are wanted either.
#[inline]
pub(super) fn finish(core: &mut Core, number: u32, both: bool, now: Now) -> Result<(), Refused> {
    let connection = &mut core.connections[number];
    let options = core.options.get(connection.tcb.options);
    let cx = Context { now, settings: &core.settings, options, receive_room: false };
    match calls::close(&mut connection.tcb, both, &cx)? {
        Closed::FinFollows => core.schedule(number),
        Closed::Gone => {
            connection.tcb.end(CloseReason::Aborted);
            let left = core.leave_index(number);
            core.close(number, CloseReason::Aborted, left, now);
        }
        Closed::Aborts => abort(core, number, now),
    }
    Ok(())
}

/// ABORT of a live connection; one that has ended stays as it is.
pub(super) fn abort(core: &mut Core, number: u32, now: Now) {
    let connection = &mut core.connections[number];
    if connection.tcb.state == State::Closed {
        return;
    }
    calls::abort(&mut connection.tcb);
    let left = core.leave_index(number);
    core.close(number, CloseReason::Aborted, left, now);
}

/// The application wants nothing more of a connection that has ended: its end waits for unread bytes no longer.
fn give_up(core: &mut Core, number: u32) {
    core.connections[number].facts.add(Fact::GIVEN_UP);
    core.tell(number);
}

fn refused(refused: Refused) -> CallError {
    match refused {
        Refused::NotOpen => CallError::NotOpen,
        Refused::Closing => CallError::Closing,
        Refused::Ended => CallError::Ended,
    }
}
