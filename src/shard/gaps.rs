//! What is missing in either direction of a connection: a bounded pool of records, each attached to its connection only
//! while something is.
//!
//! Of what is received, the record has the ranges ([`tcp::reassembly`](crate::tcp::reassembly)) and the octets, in chains of
//! chunks; of what is sent, the scoreboard ([`tcp::sack`](crate::tcp::sack)). Without a free record text out of order is left
//! for the peer to send again, and losses are recovered by duplicate ACKs alone.

use super::core::Core;
use super::exact;
use crate::flow::chunks::{Chain, Chunks};
use crate::flow::slab::Record;
use crate::limits::{PIECES_MAX, REASSEMBLY_BYTES_MAX};
use crate::seq::Seq;
use crate::tcp::output::Plan;
use crate::tcp::reassembly::Reassembly;
use crate::tcp::sack::{self, Scoreboard};
use crate::tcp::state::State;
use crate::tcp::tcb::Tcb;
use crate::tcp::{Context, Note, Outcome, recovery, synchronized, timeouts};
use crate::tick::{Now, Tick};
use crate::timer::wheel::WheelLink;
use crate::wire::tcp::{SackBlocks, Segment};

/// What is missing of one connection.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    generation: u32,
    /// The connection of which it is missing.
    pub connection: u32,
    /// Its place on the wheel of exact deadlines.
    pub exact: WheelLink,
    /// What was received out of order.
    received: Reassembly,
    chains: [Chain; PIECES_MAX],
    /// A chunk of the receive pool is reserved, for the copy of a piece.
    reserved: bool,
    /// When something was last kept.
    kept_at: Tick,
    /// What became of what was sent.
    pub sent: Scoreboard,
}

impl Gaps {
    /// The SACK blocks of a segment about to be sent, if it can have any.
    #[cold]
    #[inline(never)]
    pub(super) fn take_blocks(&mut self, tcb: &Tcb, plan: &Plan) -> Option<SackBlocks> {
        (!plan.flags.rst()).then(|| self.received.take_blocks(plan.sack_room(tcb)))
    }
}

impl Record for Gaps {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }

    fn next_free(&mut self) -> &mut u32 {
        &mut self.connection
    }
}

/// Keeps what is missing of a segment out of order, if record and chunks are there; otherwise the peer sends it again.
#[cold]
#[inline(never)]
pub(super) fn keep(core: &mut Core, receiving: &mut Chunks, number: u32, seg: &Segment, payload: &[u8], now: Now) {
    // The rest of the pool is for text in order: whoever leaves gaps must not stop the others.
    if receiving.free() <= core.limits.chunks_max / 2 / RESERVED_SHARE + chunks_for(payload.len()) {
        core.counters.out_of_order_refused += 1;
        return;
    }
    let Some(attached) = for_receiving(core, number) else {
        core.counters.out_of_order_refused += 1;
        return;
    };
    let gaps = &mut core.gaps[attached];
    if let Some(kept) = gaps.received.keep(&core.connections[number].tcb, seg, REASSEMBLY_BYTES_MAX) {
        if !gaps.reserved {
            gaps.reserved = receiving.reserve(1);
            debug_assert!(gaps.reserved, "the pool was looked at before");
        }
        if kept.new {
            gaps.chains[kept.piece..].rotate_right(1);
        }
        let from = usize::from(kept.skip);
        let taken = receiving.append(&mut gaps.chains[kept.piece], &payload[from..from + usize::from(kept.len)]);
        debug_assert!(taken == usize::from(kept.len), "the pool was looked at before");
        gaps.kept_at = now.tick();
        core.counters.out_of_order_kept += 1;
    }
}

/// Forgets what the connection has kept, if nothing was added to it for a while: memory is short.
pub(super) fn forget(core: &mut Core, receiving: &mut Chunks, number: u32, now: Now) {
    let Some(attached) = core.connections[number].gaps() else { return };
    let gaps = &mut core.gaps[attached];
    if now.tick().since(gaps.kept_at) < FORGOTTEN_AFTER_TICKS || !gaps.received.forget() {
        return;
    }
    for chain in &mut gaps.chains {
        receiving.clear(chain);
    }
    receiving.unreserve(u32::from(::core::mem::take(&mut gaps.reserved)));
    core.counters.out_of_order_forgotten += 1;
    look_after(core, receiving, number, now);
}

/// Whether records are too few for more text out of order: the last quarter is for what is sent.
#[inline]
pub(super) fn are_scarce(core: &Core) -> bool {
    core.gaps.len() >= core.gaps.max() - core.gaps.max() / 4
}

/// In-order text has come: whatever follows it from the pieces is in order too, and so may be a FIN. Returns how many pieces
/// the application is to be given after the text.
#[inline]
pub(super) fn deliver(core: &mut Core, number: u32, out: &mut Outcome, now: Now) -> u8 {
    match core.connections[number].gaps() {
        Some(attached) if out.end.is_none() => deliver_pieces(core, number, attached, out, now),
        _ => 0,
    }
}

#[cold]
#[inline(never)]
fn deliver_pieces(core: &mut Core, number: u32, attached: u32, out: &mut Outcome, now: Now) -> u8 {
    let connection = &mut core.connections[number];
    let options = core.options.get(connection.tcb.options);
    let cx = Context { now, settings: &core.settings, options, receive_room: false };
    let ranges = &mut core.gaps[attached].received;
    let ready = ranges.deliver(&mut connection.tcb);
    if ranges.fin_is_next(&connection.tcb) {
        synchronized::take_early_fin(&mut connection.tcb, &cx, out);
    }
    ready
}

/// Moves `count` pieces behind the unread bytes of the connection.
pub(super) fn take(core: &mut Core, receiving: &mut Chunks, number: u32, count: u8, now: Now) {
    let connection = &mut core.connections[number];
    let Some(attached) = connection.gaps() else { return };
    let gaps = &mut core.gaps[attached];
    for _ in 0..count {
        let Some(overtaken) = gaps.received.take() else { break };
        gaps.chains.rotate_left(1);
        let chain = &mut gaps.chains[PIECES_MAX - 1];
        receiving.consume(chain, overtaken);
        // Moving needs one chunk more for a moment: the one that the record has reserved.
        receiving.unreserve(1);
        receiving.move_behind(&mut connection.unread, chain);
        let reserved = receiving.reserve(1);
        debug_assert!(reserved, "moving leaves at least as many chunks free");
    }
    look_after(core, receiving, number, now);
}

/// Whether what a segment did can have attached a record, or is to be told as having come twice.
#[inline]
pub(super) fn may_be_new(outcome: &Outcome) -> bool {
    outcome.note.is_some() || outcome.text.is_some_and(|(skip, _)| skip > 0)
}

/// A segment has met its connection: what came twice is noted, and a record in which nothing is missing any more given back.
#[cold]
#[inline(never)]
pub(super) fn arrived(
    core: &mut Core,
    receiving: &mut Chunks,
    number: u32,
    seg: &Segment,
    outcome: &Outcome,
    now: Now,
) {
    note_twice(core, number, seg, outcome);
    look_after(core, receiving, number, now);
}

/// What comes twice is told to the peer with the next ACK (RFC 2883), if a record is free.
fn note_twice(core: &mut Core, number: u32, seg: &Segment, outcome: &Outcome) {
    let end = match outcome.text {
        Some((0, _)) => return,
        Some((skip, _)) => seg.seq + u32::from(skip),
        None if outcome.note == Some(Note::OutOfWindow) => seg.seq + u32::from(seg.payload_len),
        None => return,
    };
    let tcb = &core.connections[number].tcb;
    if !tcb.agreed.sack() || seg.seq.ge(end) || end.gt(tcb.rcv_nxt) || outcome.end.is_some() || !is_open(tcb.state) {
        return;
    }
    if let Some(attached) = for_receiving(core, number) {
        core.gaps[attached].received.came_twice(seg.seq, end);
    }
}

/// The connection's record for an arriving segment: there already, or attached now because the segment's SACK blocks say that
/// something may be lost.
#[inline]
pub(super) fn for_arrival(core: &mut Core, number: u32, blocks: &[(Seq, Seq)]) -> Option<u32> {
    let connection = &core.connections[number];
    let attached = connection.gaps();
    if attached.is_some() || blocks.is_empty() {
        return attached;
    }
    attach_for_blocks(core, number, blocks)
}

#[cold]
#[inline(never)]
fn attach_for_blocks(core: &mut Core, number: u32, blocks: &[(Seq, Seq)]) -> Option<u32> {
    let tcb = &core.connections[number].tcb;
    let news = blocks.iter().any(|&block| sack::is_valid(block, tcb.snd_una, tcb.snd_nxt));
    if tcb.agreed.sack() && news && is_open(tcb.state) { for_sending(core, number) } else { None }
}

/// The connection's record for a time-out: there already, or attached now because something may be sent again.
pub(super) fn for_time_out(core: &mut Core, number: u32, now: Now) -> Option<u32> {
    let connection = &core.connections[number];
    let options = core.options.get(connection.tcb.options);
    let cx = Context { now, settings: &core.settings, options, receive_room: false };
    let wants = timeouts::wants_scoreboard(&connection.tcb, &cx);
    if wants { for_sending(core, number) } else { connection.gaps() }
}

/// Gives back what the connection has kept, whatever it is.
#[inline(always)]
pub(super) fn release(core: &mut Core, receiving: &mut Chunks, number: u32) {
    let Some(attached) = core.connections[number].take_gaps() else { return };
    let gaps = &mut core.gaps[attached];
    for chain in &mut gaps.chains {
        receiving.clear(chain);
    }
    receiving.unreserve(u32::from(gaps.reserved));
    core.exact.stop(&mut core.gaps, attached);
    core.gaps.remove(attached);
}

/// Looks after the record that the connection may have, when something has come or was sent: for which nothing is missing any more, and soon will
/// not be, gives it back; another hangs by its exact deadline.
#[inline]
pub(super) fn look_after(core: &mut Core, receiving: &mut Chunks, number: u32, now: Now) {
    if let Some(attached) = core.connections[number].gaps() {
        keep_or_release(core, receiving, number, attached, now);
    }
}

#[cold]
#[inline(never)]
fn keep_or_release(core: &mut Core, receiving: &mut Chunks, number: u32, attached: u32, now: Now) {
    let (tcb, gaps) = (&core.connections[number].tcb, &core.gaps[attached]);
    let received = gaps.received.is_empty(tcb.rcv_nxt) && !gaps.received.tells_twice();
    let repaired = !gaps.sent.is_on() || (gaps.sent.is_plain() && tcb.recovery.is_open());
    if received && repaired && (are_scarce(core) || !recovery::stays(tcb, &gaps.sent, now)) {
        release(core, receiving, number);
    } else {
        exact::arm(core, number, attached, now);
    }
}

/// The connection's record for what it receives. The last quarter of the pool is for what is sent: peers that leave gaps and
/// fall silent must not cost the others their loss recovery (T12).
fn for_receiving(core: &mut Core, number: u32) -> Option<u32> {
    if are_scarce(core) && core.connections[number].gaps().is_none() {
        return None;
    }
    attach(core, number)
}

fn for_sending(core: &mut Core, number: u32) -> Option<u32> {
    let attached = attach(core, number);
    core.counters.scoreboards_refused += u64::from(attached.is_none());
    attached
}

/// The connection's record, a new one if it has none; `None` without a free one.
fn attach(core: &mut Core, number: u32) -> Option<u32> {
    let connection = &mut core.connections[number];
    // With the segment that completes the handshake the former incarnation's record has the place until it is settled.
    if connection.gaps().is_none() && connection.former().is_none() {
        let attached = core.gaps.insert()?;
        core.gaps[attached].connection = number;
        connection.set_gaps(attached);
    }
    connection.gaps()
}

/// Whether the handshake is over and the connection is not.
fn is_open(state: State) -> bool {
    !matches!(state, State::SynSent | State::SynReceived | State::Closed)
}

/// Chunks that `len` bytes take at most, the record's reservation counted.
fn chunks_for(len: usize) -> u32 {
    (len / crate::limits::CHUNK_BYTES) as u32 + CHUNKS_FOR_PIECE
}

/// Chunks for a piece shorter than one, the record's reservation counted.
pub(super) const CHUNKS_FOR_PIECE: u32 = 2;

/// How long nothing must have been added to text out of order before it is forgotten for want of memory, ticks. Origin: five of
/// the smallest time-outs; who is still sending has filled the gap or added to it by then.
const FORGOTTEN_AFTER_TICKS: u32 = Tick::PER_SECOND;

/// The share of the receive pool that is never used for text out of order: one in so many chunks.
const RESERVED_SHARE: u32 = 4;
