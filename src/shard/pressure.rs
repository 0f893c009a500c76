//! What gives way when memory runs short (T03, T12): peers that hold it and let nothing move.
//!
//! Nothing is done, and nothing kept, while a quarter of each pool is free. After that a few connections are looked at, once per tick:
//!
//! - While send chunks are short, the connection that has made no progress for longest is ended with a RST, at most one per
//!   tick. How often its time-out has doubled says how long that is, for a closed window as for a silent peer. A peer that opens its
//!   window now and then, or acknowledges an octet, makes progress by this measure: only a user timeout or the application bounds it.
//! - While records of what is missing, or chunks for text out of order, are short, text out of order to which nothing was added
//!   for a while is forgotten, as RFC 2018 8 allows: its sender has it still.

use super::core::Core;
use super::gaps;
use crate::flow::chunks::Chunks;
use crate::tcp::waits;
use crate::tick::{Now, Tick};

/// Where the search goes on, and what it has found.
#[derive(Debug)]
pub(super) struct Pressure {
    /// The connection that is looked at next.
    next: u32,
    /// When connections were looked at last.
    looked_at: Tick,
    /// Time-outs in a row that end a connection on this lap: as many as the worst of the last lap had.
    bar: u8,
    /// The most on this lap.
    most: u8,
}

impl Default for Pressure {
    fn default() -> Pressure {
        Pressure { next: 0, looked_at: Tick::default(), bar: u8::MAX, most: 0 }
    }
}

impl Pressure {
    /// The next of `max` connections.
    fn step(&mut self, max: u32) -> u32 {
        if self.next >= max {
            *self = Pressure { next: 0, bar: self.most.max(STALLED_TIME_OUTS), most: 0, ..*self };
        }
        self.next += 1;
        self.next - 1
    }

    /// Whether a connection with so many time-outs in a row is among those that have stalled for longest.
    fn is_worst(&mut self, time_outs: u8) -> bool {
        self.most = self.most.max(time_outs);
        time_outs >= self.bar
    }
}

/// Looks at some connections if memory is short.
#[inline]
pub(super) fn relieve(core: &mut Core, receiving: &mut Chunks, now: Now) {
    let quarter = core.limits.chunks_max / 2 / 4;
    let sending = core.sending.free() < quarter;
    let missing = gaps::are_scarce(core) || receiving.free() <= quarter + gaps::CHUNKS_FOR_PIECE + 1;
    if (sending || missing) && core.pressure.looked_at != now.tick() {
        core.pressure.looked_at = now.tick();
        look(core, receiving, sending, missing, now);
    }
}

#[inline(never)]
fn look(core: &mut Core, receiving: &mut Chunks, sending: bool, missing: bool, now: Now) {
    let max = core.connections.max();
    for _ in 0..max.min(LOOKED_AT) {
        let number = core.pressure.step(max);
        if !core.connections.is_live(number) {
            continue;
        }
        if missing {
            gaps::forget(core, receiving, number, now);
        }
        if sending && end_if_worst(core, number, now) {
            return;
        }
    }
}

/// Ends the connection if it holds send chunks and has stalled for longest. Returns whether it did.
fn end_if_worst(core: &mut Core, number: u32, now: Now) -> bool {
    let connection = &mut core.connections[number];
    if connection.to_send.is_empty() || !core.pressure.is_worst(waits::time_outs_in_a_row(&connection.tcb)) {
        return false;
    }
    let outcome = waits::give_up(&mut connection.tcb);
    core.settle(number, &outcome, now);
    true
}

/// Connections looked at per tick. Origin: about a burst; each may cost a cache miss.
const LOOKED_AT: u32 = 64;

/// Time-outs in a row with which a connection counts as stalled. Origin: 25 s from a time-out of 200 ms on, 5 s from the smallest of
/// a short path; fewer end what a failed link has stopped for a moment, each more doubles the time for which memory is short.
const STALLED_TIME_OUTS: u8 = 7;
