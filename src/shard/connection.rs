//! The record of one connection: the protocol's TCB, and the links and chains by which containers hold it. What the connection is called
//! lies beside it ([`super::name`]).

use crate::bits::Bits;
use crate::flow::chunks::Chain;
use crate::flow::list::{Link, Linked};
use crate::flow::slab::Record;
use crate::flow::time_wait::TimeWaitRecord;
use crate::ids::{Handle, Kind, NONE, Value};
use crate::tcp::state::CloseReason;
use crate::tcp::tcb::Tcb;
use crate::tcp::time_wait::{TimeWaitV4, TimeWaitV6};
use crate::tick::Tick;
use crate::timer::wheel::{Timed, WheelLink};
use ::core::mem::offset_of;

/// One connection of a shard: three cache lines exactly. Its fields lie as they are written, and what every segment asks for is in the
/// first two of them; the third has what sending, acknowledgments and losses change.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Connection {
    generation: u32,
    /// Octets that the peer has not acknowledged.
    pub to_send: Chain,
    /// Octets that the application has not taken.
    pub unread: Chain,
    owing: Link,
    telling: Link,
    wheel: WheelLink,
    /// What the application has not been told.
    pub tell: Bits<Tell>,
    /// What else is true of it.
    pub facts: Bits<Fact>,
    /// As bits of a [`Value`], or [`NONE`]: until the handshake has completed the TIME-WAIT record of the former incarnation
    /// (B44); after that, with [`Kind::Tcb`] for want of a kind of its own, the record of what is missing.
    aside: u32,
    /// The protocol's state.
    pub tcb: Tcb,
    /// With [`Fact::SPLICED`] the number of its splice; with [`Fact::CONSUMED`] octets at the front of `unread` that the application has
    /// taken during an event, not yet out of the chain; otherwise nothing.
    consumed_or_splice: u32,
}

/// What the application has yet to be told, in the order in which it is told, and what that depends on.
#[derive(Debug)]
pub(super) enum Tell {}

impl Tell {
    /// Accepted or Connected.
    pub(super) const OPENED: Bits<Tell> = Bits::bit(0);
    /// Bytes are buffered.
    pub(super) const READABLE: Bits<Tell> = Bits::bit(1);
    /// There is room to send again.
    pub(super) const WRITABLE: Bits<Tell> = Bits::bit(2);
    /// The peer's FIN.
    pub(super) const PEER_CLOSED: Bits<Tell> = Bits::bit(3);
    /// The end.
    pub(super) const CLOSED: Bits<Tell> = Bits::bit(4);
    /// A SEND took less than asked: room is worth an event.
    pub(super) const WANTS_WRITABLE: Bits<Tell> = Bits::bit(5);
    /// R1 retransmissions have brought nothing.
    pub(super) const STALLED: Bits<Tell> = Bits::bit(6);
    /// Urgent data begins.
    pub(super) const URGENT: Bits<Tell> = Bits::bit(7);
}

/// What is true of a connection in the shard.
#[derive(Debug)]
pub(super) enum Fact {}

impl Fact {
    /// The end was told; only what is owed to the peer keeps the record.
    pub(super) const TOLD_CLOSED: Bits<Fact> = Bits::bit(0);
    /// The connection is in its neighbour's list, not in that of what is owed.
    pub(super) const WAITS_FOR_NEIGHBOR: Bits<Fact> = Bits::bit(1);
    /// The application has let CLOSE-WAIT last, which has been counted (B37).
    pub(super) const CLOSE_WAIT_LASTS: Bits<Fact> = Bits::bit(2);
    /// The connection is one end of a splice.
    pub(super) const SPLICED: Bits<Fact> = Bits::bit(3);
    /// It had ended when the application closed or aborted it: unread bytes are not wanted.
    pub(super) const GIVEN_UP: Bits<Fact> = Bits::bit(4);
    /// The application has taken octets that are in the chain yet. Never with [`Fact::SPLICED`].
    const CONSUMED: Bits<Fact> = Bits::bit(5);
}

/// The list of connections that owe the peer something, or wait for one neighbour.
#[derive(Debug)]
pub(super) enum Owing {}

/// The list of connections with something to tell.
#[derive(Debug)]
pub(super) enum Telling {}

impl Default for Connection {
    fn default() -> Connection {
        Connection {
            generation: 0,
            to_send: Chain::default(),
            unread: Chain::default(),
            owing: Link::default(),
            telling: Link::default(),
            wheel: WheelLink::default(),
            tell: Bits::NONE,
            facts: Bits::NONE,
            aside: NONE,
            tcb: Tcb::default(),
            consumed_or_splice: 0,
        }
    }
}

impl Connection {
    /// A connection that begins, in no list.
    #[inline(always)]
    pub(super) fn new(tcb: Tcb) -> Connection {
        Connection { tcb, ..Connection::default() }
    }

    /// The application wants to hear of nothing but the end: it has aborted the connection, or closed it after its end.
    #[inline]
    pub(super) fn is_given_up(&self) -> bool {
        self.tcb.reason == Some(CloseReason::Aborted) || self.facts.has(Fact::GIVEN_UP)
    }

    /// The application's handle of the connection in slot `number`.
    pub(super) fn handle(&self, number: u32) -> Handle {
        Handle { number, generation: self.generation }
    }
}

impl Connection {
    /// Octets at the front of `unread` that the application has taken during an event, not yet out of the chain. Those of a spliced
    /// connection its splice knows.
    #[inline]
    pub(super) fn consumed_bytes(&self) -> u32 {
        if self.facts.has(Fact::CONSUMED) { self.consumed_or_splice } else { 0 }
    }

    /// The application has taken `count` octets more. The connection must not be spliced.
    #[inline]
    pub(super) fn consume(&mut self, count: u32) {
        debug_assert!(!self.facts.has(Fact::SPLICED));
        self.consumed_or_splice = self.consumed_bytes() + count;
        self.facts.add(Fact::CONSUMED);
    }

    /// Returns what [`Connection::consumed_bytes`] says, and is 0 from now on.
    #[inline]
    pub(super) fn take_consumed(&mut self) -> u32 {
        let consumed = self.consumed_bytes();
        self.facts.remove(Fact::CONSUMED);
        consumed
    }

    /// The number of its splice.
    pub(super) fn splice(&self) -> Option<u32> {
        self.facts.has(Fact::SPLICED).then_some(self.consumed_or_splice)
    }

    /// It is one end of splice number `splice` from now on. Returns the octets that it had consumed.
    pub(super) fn begin_splice(&mut self, splice: u32) -> u32 {
        let consumed = self.take_consumed();
        self.facts.add(Fact::SPLICED);
        self.consumed_or_splice = splice;
        consumed
    }

    /// It is spliced no longer, and has consumed nothing.
    pub(super) fn end_splice(&mut self) {
        self.facts.remove(Fact::SPLICED);
    }
}

impl Connection {
    fn aside(&self) -> Option<Value> {
        (self.aside != NONE).then(|| Value::from_bits(self.aside))
    }

    /// The TIME-WAIT record of the former incarnation.
    pub(super) fn former(&self) -> Option<Value> {
        self.aside().filter(|value| value.kind() != Kind::Tcb)
    }

    /// Keeps the former incarnation's record in mind.
    pub(super) fn set_former(&mut self, former: Option<Value>) {
        self.aside = former.map_or(NONE, Value::to_bits);
    }

    /// Forgets the former incarnation's record and returns it.
    pub(super) fn take_former(&mut self) -> Option<Value> {
        let former = self.former()?;
        self.aside = NONE;
        Some(former)
    }

    /// Neither text nor pieces of it have come.
    pub(super) fn has_received_nothing(&self) -> bool {
        self.tcb.unread_bytes == 0 && self.gaps().is_none()
    }

    /// The record of what is missing.
    #[inline]
    pub(super) fn gaps(&self) -> Option<u32> {
        self.aside().filter(|value| value.kind() == Kind::Tcb).map(Value::number)
    }

    /// Attaches a record of what is missing. There must be no former incarnation's.
    pub(super) fn set_gaps(&mut self, gaps: u32) {
        debug_assert!(self.aside == NONE);
        self.aside = Value::new(Kind::Tcb, gaps).to_bits();
    }

    /// Detaches the record of what is missing and returns it.
    pub(super) fn take_gaps(&mut self) -> Option<u32> {
        let gaps = self.gaps()?;
        self.aside = NONE;
        Some(gaps)
    }
}

impl Record for Connection {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }

    fn next_free(&mut self) -> &mut u32 {
        &mut self.aside
    }
}

impl Linked<Owing> for Connection {
    fn link(&self) -> &Link {
        &self.owing
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.owing
    }
}

impl Linked<Telling> for Connection {
    fn link(&self) -> &Link {
        &self.telling
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.telling
    }
}

impl Timed for Connection {
    fn wheel_link(&self) -> &WheelLink {
        &self.wheel
    }

    fn wheel_link_mut(&mut self) -> &mut WheelLink {
        &mut self.wheel
    }

    fn deadline(&self) -> Option<Tick> {
        self.tcb.deadline()
    }
}

/// Three cache lines. An idle connection costs this much, its name and its place in the index, together at most 256.
const _: () = assert!(size_of::<Connection>() == 192 && align_of::<Connection>() == 64);
/// What every segment asks for: two cache lines.
const _: () = assert!(offset_of!(Connection, tcb) + Tcb::HOT_BYTES <= 128);

/// Gives a TIME-WAIT record to the store's rules.
macro_rules! time_wait_record {
    ($record:ty) => {
        impl TimeWaitRecord for $record {
            fn is_live(&self) -> bool {
                self.numbers.is_live()
            }

            fn mark_hole(&mut self) {
                self.numbers.mark_hole();
            }

            fn deadline(&self) -> Tick {
                self.numbers.deadline
            }

            fn set_deadline(&mut self, deadline: Tick) {
                self.numbers.deadline = deadline;
            }
        }
    };
}

time_wait_record!(TimeWaitV4);
time_wait_record!(TimeWaitV6);
