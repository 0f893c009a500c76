//! The octets behind [`tcp::reassembly`](crate::tcp::reassembly): a bounded pool of records, each attached to its connection
//! only while something is missing, and chains of chunks for the pieces.

use super::core::Core;
use crate::flow::chunks::{Chain, Chunks};
use crate::flow::slab::Record;
use crate::limits::{PIECES_MAX, REASSEMBLY_BYTES_MAX};
use crate::tcp::reassembly::Reassembly;
use crate::tcp::{Context, Outcome, synchronized};
use crate::tick::Now;
use crate::wire::tcp::Segment;

/// What one connection has received out of order. Holds one reservation in the receive pool, for the copy of a piece.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    generation: u32,
    ranges: Reassembly,
    chains: [Chain; PIECES_MAX],
}

impl Record for Pieces {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }
}

/// Keeps what is missing of a segment out of order, if record and chunks are there; otherwise the peer sends it again.
pub(super) fn keep(core: &mut Core, receiving: &mut Chunks, number: u32, seg: &Segment, payload: &[u8]) {
    // The rest of the pool is for text in order: whoever leaves gaps must not stop the others.
    if receiving.free() <= core.limits.chunks_max / 2 / RESERVED_SHARE + chunks_for(payload.len()) {
        core.counters.out_of_order_refused += 1;
        return;
    }
    let connection = &mut core.connections[number];
    let attached = match connection.pieces() {
        Some(attached) => attached,
        None => {
            // The segment that completes the handshake: the former incarnation's record has the place until it is settled.
            let place_is_free = connection.former().is_none();
            let Some(attached) = place_is_free.then(|| core.pieces.insert()).flatten() else {
                core.counters.out_of_order_refused += 1;
                return;
            };
            let reserved = receiving.reserve(1);
            debug_assert!(reserved, "the pool was looked at before");
            connection.set_pieces(attached);
            attached
        }
    };
    let pieces = &mut core.pieces[attached];
    match pieces.ranges.keep(&connection.tcb, seg, REASSEMBLY_BYTES_MAX) {
        Some(kept) => {
            if kept.new {
                pieces.chains[kept.piece..].rotate_right(1);
            }
            let from = usize::from(kept.skip);
            let taken = receiving.append(&mut pieces.chains[kept.piece], &payload[from..from + usize::from(kept.len)]);
            debug_assert!(taken == usize::from(kept.len), "the pool was looked at before");
            core.counters.out_of_order_kept += 1;
        }
        None => detach_if_empty(core, receiving, number),
    }
}

/// In-order text has come: whatever follows it from the pieces is in order too, and so may be a FIN. Returns how many pieces
/// the application is to be given after the text.
pub(super) fn deliver(core: &mut Core, number: u32, out: &mut Outcome, now: Now) -> u8 {
    let connection = &mut core.connections[number];
    let Some(attached) = connection.pieces().filter(|_| out.end.is_none()) else { return 0 };
    let options = core.options.get(connection.options);
    let cx = Context { now, settings: &core.settings, options, receive_room: false };
    let ranges = &mut core.pieces[attached].ranges;
    let ready = ranges.deliver(&mut connection.tcb);
    if ranges.fin_is_next(&connection.tcb) {
        synchronized::take_early_fin(&mut connection.tcb, &cx, out);
    }
    ready
}

/// Moves `count` pieces behind the unread bytes of the connection.
pub(super) fn take(core: &mut Core, receiving: &mut Chunks, number: u32, count: u8) {
    let connection = &mut core.connections[number];
    let Some(attached) = connection.pieces() else { return };
    let pieces = &mut core.pieces[attached];
    for _ in 0..count {
        let Some(overtaken) = pieces.ranges.take() else { break };
        pieces.chains.rotate_left(1);
        let chain = &mut pieces.chains[PIECES_MAX - 1];
        receiving.consume(chain, overtaken);
        // Moving needs one chunk more for a moment: the one that the record has reserved.
        receiving.unreserve(1);
        receiving.move_behind(&mut connection.unread, chain);
        let reserved = receiving.reserve(1);
        debug_assert!(reserved, "moving leaves at least as many chunks free");
    }
    detach_if_empty(core, receiving, number);
}

/// Gives back what the connection has kept, whatever it is.
pub(super) fn release(core: &mut Core, receiving: &mut Chunks, number: u32) {
    let Some(attached) = core.connections[number].take_pieces() else { return };
    for chain in &mut core.pieces[attached].chains {
        receiving.clear(chain);
    }
    receiving.unreserve(1);
    core.pieces.remove(attached);
}

/// Gives back the record of a connection for which nothing is missing any more.
pub(super) fn detach_if_empty(core: &mut Core, receiving: &mut Chunks, number: u32) {
    let connection = &core.connections[number];
    if connection.pieces().is_some_and(|attached| core.pieces[attached].ranges.is_empty(connection.tcb.rcv_nxt)) {
        release(core, receiving, number);
    }
}

/// Chunks that `len` bytes take at most, the record's reservation counted.
fn chunks_for(len: usize) -> u32 {
    (len / crate::limits::CHUNK_BYTES) as u32 + 2
}

/// The share of the receive pool that is never used for text out of order: one in so many chunks.
const RESERVED_SHARE: u32 = 4;
