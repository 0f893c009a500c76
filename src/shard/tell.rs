//! Stage 6: events to the application, in order, at most so many per turn.
//!
//! Text of this burst is lent from its frames; what the application leaves is copied to the receive pool, where arrive
//! has reserved room. Then every connection on the telling list is told the rest, in one order: opened, readable,
//! writable, peer closed, closed.

use super::burst::Text;
use super::calls::{Calls, Lent};
use super::connection::{Fact, Tell, Telling};
use super::core::Core;
use super::gaps;
use crate::api::{Application, Event};
use crate::bits::Bits;
use crate::flow::chunks::Chunks;
use crate::flow::list::List;
use crate::ids::ListenerId;
use crate::tcp::state::State;
use crate::tcp::tcb::Opened;
use crate::tick::Now;

/// What stage 6 works with.
pub(super) struct Teller<'a, A> {
    pub application: &'a mut A,
    pub core: &'a mut Core,
    pub receiving: &'a mut Chunks,
    pub now: Now,
    /// Events that may still be told this turn.
    pub budget: u32,
}

impl<A: Application> Teller<'_, A> {
    /// In-order text of one segment, and what came before it and follows it: `bytes` lie in its frame.
    pub(super) fn text(&mut self, text: &Text, bytes: &[u8]) {
        self.lend(text.number, bytes);
        if text.pieces > 0 {
            gaps::take(self.core, self.receiving, text.number, text.pieces, self.now);
            self.core.connections[text.number].tell.add(Tell::READABLE);
            self.core.tell(text.number);
        }
    }

    /// Lends bytes that lie in a frame; what the application leaves is buffered.
    fn lend(&mut self, number: u32, bytes: &[u8]) {
        let known = self.opened(number);
        let connection = &mut self.core.connections[number];
        if connection.is_given_up() {
            self.receiving.unreserve(1);
            return;
        }
        if connection.facts.has(Fact::SPLICED) {
            return self.splice_text(number, bytes);
        }
        if !known || !connection.unread.is_empty() || self.budget == 0 {
            self.receiving.append_reserved(&mut connection.unread, bytes);
            connection.tell.add(Tell::READABLE);
            self.core.tell(number);
            return;
        }
        let handle = connection.handle(number);
        let taken = self.event(Some(Lent { handle, bytes, taken: 0 }), Event::Readable { handle, bytes });
        let connection = &mut self.core.connections[number];
        if taken < bytes.len() && !connection.is_given_up() {
            self.receiving.append_reserved(&mut connection.unread, &bytes[taken..]);
        } else {
            self.receiving.unreserve(1);
        }
    }

    /// Everything else, connection by connection.
    pub(super) fn rest(&mut self) {
        self.core.tell_starved();
        // Whoever is told again during this pass waits for the next turn: a pass ends.
        for _ in 0..self.core.telling.len() {
            if self.budget == 0 {
                return;
            }
            let Some(number) = self.core.telling.pop_front(&mut self.core.connections) else { return };
            self.one(number);
        }
    }

    /// The application's own turn.
    pub(super) fn turn(&mut self) {
        let mut calls = Calls::new(self.core, self.receiving, self.now);
        self.application.on_turn(&mut calls);
    }

    fn one(&mut self, number: u32) {
        if !self.opened(number) {
            return;
        }
        if self.core.connections[number].facts.has(Fact::SPLICED) && self.splice_goes_on(number) {
            return;
        }
        let connection = &self.core.connections[number];
        if connection.tell.has(Tell::READABLE) || connection.consumed_bytes() > 0 || connection.is_given_up() {
            self.readable(number);
        }
        if self.core.connections[number].tell.has(Tell::URGENT | Tell::STALLED | Tell::WRITABLE) {
            self.while_open(number);
        }
        let connection = &mut self.core.connections[number];
        let handle = connection.handle(number);
        if !connection.unread.is_empty() || connection.facts.has(Fact::SPLICED) {
            // Bytes come before the end; it is told when they have been taken. One that was spliced just now is on the list
            // again: its splice ends before it does.
            return;
        }
        if connection.tell.take(Tell::PEER_CLOSED) && !connection.is_given_up() {
            self.event(None, Event::PeerClosed { handle });
        }
        let connection = &mut self.core.connections[number];
        if !connection.facts.has(Fact::SPLICED)
            && let (true, Some(reason)) = (connection.tell.take(Tell::CLOSED), connection.tcb.reason)
        {
            self.event(None, Event::Closed { handle, reason });
            self.told_closed(number);
        }
    }

    /// What few connections are told, and none that has ended.
    #[cold]
    #[inline(never)]
    fn while_open(&mut self, number: u32) {
        let connection = &mut self.core.connections[number];
        let handle = connection.handle(number);
        if connection.tell.take(Tell::URGENT) && connection.tcb.state != State::Closed {
            self.event(None, Event::Urgent { handle });
        }
        let connection = &mut self.core.connections[number];
        if connection.tell.take(Tell::STALLED) && connection.tcb.state != State::Closed {
            self.event(None, Event::Stalled { handle });
        }
        let connection = &mut self.core.connections[number];
        if connection.tell.take(Tell::WRITABLE) && connection.tcb.state.can_send() {
            self.event(None, Event::Writable { handle });
        }
    }

    /// Accepted or Connected, if it has not been told. Returns whether the application knows of the connection.
    #[inline]
    fn opened(&mut self, number: u32) -> bool {
        !self.core.connections[number].tell.has(Tell::OPENED) || self.open(number)
    }

    #[inline(never)]
    fn open(&mut self, number: u32) -> bool {
        if !self.core.leave_accept_queue(number, self.now) {
            return false;
        }
        let connection = &self.core.connections[number];
        let handle = connection.handle(number);
        let event = match connection.tcb.opened() {
            Opened::Passively => Event::Accepted { handle, listener: ListenerId(self.core.names[number].origin) },
            Opened::Actively => Event::Connected { handle },
        };
        self.event(None, event);
        true
    }

    /// Buffered bytes, chunk by chunk, as long as the application takes them. Not inlined: most text is lent from its frame.
    #[inline(never)]
    fn readable(&mut self, number: u32) {
        let connection = &mut self.core.connections[number];
        if connection.is_given_up() {
            connection.tell.remove(Tell::READABLE);
            self.receiving.clear(&mut connection.unread);
            connection.take_consumed();
            return;
        }
        settle_consumed(self.core, self.receiving, number);
        if !self.core.connections[number].tell.take(Tell::READABLE) {
            return;
        }
        while self.budget > 0 {
            let connection = &self.core.connections[number];
            let handle = connection.handle(number);
            let bytes = self.receiving.front(&connection.unread);
            if bytes.is_empty() {
                return;
            }
            self.budget -= 1;
            let mut calls = Calls::new(self.core, self.receiving, self.now);
            calls.lent = Some(Lent { handle, bytes, taken: 0 });
            self.application.on_event(&mut calls, Event::Readable { handle, bytes });
            let taken = calls.lent.map_or(0, |lent| lent.taken);
            let connection = &mut self.core.connections[number];
            self.receiving.consume(&mut connection.unread, taken as u32);
            if taken == 0 || connection.is_given_up() || connection.facts.has(Fact::SPLICED) {
                return;
            }
        }
        self.core.connections[number].tell.add(Tell::READABLE);
        self.core.tell(number);
    }

    /// One event; returns how many of the lent bytes were consumed.
    pub(super) fn event(&mut self, lent: Option<Lent<'_>>, event: Event<'_>) -> usize {
        self.budget = self.budget.saturating_sub(1);
        let mut calls = Calls::new(self.core, self.receiving, self.now);
        calls.lent = lent;
        self.application.on_event(&mut calls, event);
        calls.lent.map_or(0, |lent| lent.taken)
    }

    /// The application has heard the last of the connection: it goes, unless it still owes the peer a RST.
    fn told_closed(&mut self, number: u32) {
        gaps::release(self.core, self.receiving, number);
        let connection = &mut self.core.connections[number];
        self.receiving.clear(&mut connection.unread);
        connection.take_consumed();
        connection.tell = Bits::NONE;
        connection.facts.add(Fact::TOLD_CLOSED);
        let told_again = List::<Telling>::is_linked(&self.core.connections, number);
        if told_again {
            self.core.telling.remove(&mut self.core.connections, number);
        }
        if !self.core.connections[number].tcb.owes() {
            // A call during the last events may have put it on the list.
            self.core.owing_remove(number);
            self.core.let_go(number);
        }
    }
}

/// Takes out of the chain what the application consumed during an event that lent something else, and tells the end that
/// waited for it.
#[inline]
pub(super) fn settle_consumed(core: &mut Core, receiving: &mut Chunks, number: u32) {
    let consumed = core.connections[number].take_consumed();
    if consumed > 0 {
        take_out(core, receiving, number, consumed);
    }
}

fn take_out(core: &mut Core, receiving: &mut Chunks, number: u32, consumed: u32) {
    let connection = &mut core.connections[number];
    receiving.consume(&mut connection.unread, consumed);
    if !connection.unread.is_empty() {
        // Only one chunk at a time can be seen from outside of Readable; the next is offered.
        connection.tell.add(Tell::READABLE);
        core.tell(number);
    } else if connection.tell.has(Tell::PEER_CLOSED | Tell::CLOSED) {
        core.tell(number);
    }
}
