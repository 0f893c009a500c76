//! What gives way when memory runs short (T03, T12): peers that hold it and let little or nothing move.
//!
//! Nothing is done, and nothing kept, while half of the send chunks, a quarter of the others and a 64th of the connection records are
//! free. After that a few connections are looked at, once per tick:
//!
//! - While send chunks are short, so that nobody gets as many as he likes, of the connections whose octets will stay for longest
//!   the first is ended with a RST, at most one per tick ([`paces`]).
//! - While connection records are short, the same of those whose application has closed: nobody else can give theirs back.
//! - While records of what is missing, or chunks for text out of order, are short, text out of order to which nothing was added
//!   for a while is forgotten, as RFC 2018 8 allows: its sender has it still.

mod paces;

use self::paces::Paces;
use super::core::Core;
use super::gaps;
use crate::flow::chunks::Chunks;
use crate::tcp::waits;
use crate::tick::{Now, Tick};

/// Where the search goes on, and what it has found.
#[derive(Debug, Default)]
pub(super) struct Pressure {
    /// The connection that is looked at next.
    next: u32,
    /// When connections were looked at last.
    looked_at: Tick,
    /// How long octets must be going to stay to end their connection on this lap, s: as long as the worst of the last lap.
    bar_s: Option<u32>,
    /// The most on this lap, s.
    most_s: u32,
    paces: Paces,
}

impl Pressure {
    /// What it takes, bytes.
    pub(super) const fn bill() -> u64 {
        Paces::bill()
    }

    /// Connections of which it knows the pace at most.
    pub(super) const fn items() -> u32 {
        Paces::MAX as u32
    }

    /// The next of `max` connections.
    fn step(&mut self, max: u32) -> u32 {
        if self.next >= max {
            (self.next, self.bar_s, self.most_s) = (0, Some(self.most_s.max(paces::PATIENCE_S)), 0);
        }
        self.next += 1;
        self.next - 1
    }

    /// Whether octets that will stay so long are among those that will stay for longest.
    fn is_worst(&mut self, stays_s: u32) -> bool {
        self.most_s = self.most_s.max(stays_s);
        self.bar_s.is_some_and(|bar_s| stays_s >= bar_s)
    }
}

/// Looks at some connections if memory is short.
#[inline]
pub(super) fn relieve(core: &mut Core, receiving: &mut Chunks, now: Now) {
    let quarter = core.limits.chunks_max / 2 / 4;
    let max = core.connections.max();
    let short = Short {
        sending: core.sending.is_short(),
        records: max - core.connections.len() <= max / RECORDS_SHORT,
        missing: gaps::are_scarce(core) || receiving.free() <= quarter + gaps::CHUNKS_FOR_PIECE + 1,
    };
    if short != Short::default() && core.pressure.looked_at != now.tick() {
        core.pressure.looked_at = now.tick();
        look(core, receiving, short, now);
    }
}

/// What there is too little of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Short {
    /// Send chunks.
    sending: bool,
    /// Records of connections.
    records: bool,
    /// Records of what is missing, or chunks for text out of order.
    missing: bool,
}

#[cold]
#[inline(never)]
fn look(core: &mut Core, receiving: &mut Chunks, short: Short, now: Now) {
    let max = core.connections.max();
    if short.sending || short.records {
        core.pressure.paces.short_at(now.tick());
    }
    for _ in 0..max.min(LOOKED_AT) {
        let number = core.pressure.step(max);
        if !core.connections.is_live(number) {
            continue;
        }
        if short.missing {
            gaps::forget(core, receiving, number, now);
        }
        if (short.sending || short.records) && end_if_worst(core, number, short, now) {
            return;
        }
    }
}

/// Ends the connection if it holds what is short and will do so for longest. Returns whether it did.
fn end_if_worst(core: &mut Core, number: u32, short: Short, now: Now) -> bool {
    let Core { connections, pressure, .. } = core;
    let connection = &connections[number];
    let handle = connection.handle(number);
    let chunks = short.sending && !connection.to_send.is_empty();
    let record = short.records && waits::is_left_to_the_peer(&connection.tcb);
    if !chunks && !record {
        pressure.paces.forget(handle);
        return false;
    }
    let is_live = |other: crate::ids::Handle| connections.get(other.number, other.generation).is_some();
    let by_pace = pressure.paces.stays_s(handle, &connection.tcb, is_live, now.tick());
    let stays_s = by_pace.max(paces::stays_stalled_s(&connection.tcb));
    if !pressure.is_worst(stays_s) {
        return false;
    }
    let outcome = waits::give_up(&mut connections[number].tcb);
    core.settle(number, &outcome, now);
    true
}

/// Records are short while no more than one in so many is free. Origin: of 16,384 the last 256, which a burst of handshakes may take;
/// fewer refuse new connections before old ones give way, more end some while there is room.
const RECORDS_SHORT: u32 = 64;

/// Connections looked at per tick. Origin: about a burst; each may cost a cache miss.
const LOOKED_AT: u32 = 64;
