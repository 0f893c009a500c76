//! Text and FIN out of order (SHLD-31; RFC 9293 3.10.7.4 seventh and eighth check): which octets are kept, when they are
//! next, and what the peer is told of them (RFC 2018 4, RFC 2883).
//!
//! The record knows ranges only; whoever holds the octets does what [`Reassembly::keep`] and [`Reassembly::deliver`] say.
//! Pieces are disjoint and in order. What came first stays: later text fills only what is missing, so overlaps cannot
//! change what an application reads (T12). Every call looks at [`PIECES_MAX`] pieces at most.

use super::state::State;
use super::tcb::{Fact, Owed, Tcb};
use crate::limits::PIECES_MAX;
use crate::seq::Seq;
use crate::wire::tcp::{SackBlocks, Segment};

/// What one connection has received beyond RCV.NXT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reassembly {
    pieces: [Piece; PIECES_MAX],
    /// Pieces in use.
    count: u8,
    /// Of these, how many at the front have become next in order and wait to be taken out.
    ready: u8,
    /// Where a FIN stands that came too early.
    fin: Option<Seq>,
    /// An octet of each of the blocks that came last, the latest first; of those that have been delivered, too.
    recent: [Option<Seq>; BLOCKS_MAX],
    /// Octets that came twice, and of which the peer has not been told.
    twice: Option<(Seq, Seq)>,
}

/// Octets from `start` up to `end`, exclusively.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Piece {
    start: Seq,
    end: Seq,
    /// Octets at the front that have come in order in the meantime.
    overtaken: u32,
}

/// Where the text of a segment is to be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The piece, by its place.
    pub piece: usize,
    /// The piece is new: those from its place on have moved up by one.
    pub new: bool,
    /// Octets to skip at the front of the segment's text.
    pub skip: u16,
    /// Octets to append to the piece.
    pub len: u16,
}

impl Reassembly {
    /// A segment beyond RCV.NXT has come. Notes its FIN, and says what of its text to keep: the first stretch that is
    /// missing, inside the window, as long as pieces and `bytes_max` octets in all suffice.
    pub fn keep(&mut self, tcb: &Tcb, seg: &Segment, bytes_max: u32) -> Option<Kept> {
        if !tcb.state.can_receive() || tcb.facts.has(Fact::APP_CLOSED) {
            return None;
        }
        let text_end = seg.seq + u32::from(seg.payload_len);
        if seg.flags.fin() && text_end.le(tcb.rcv_edge) {
            self.fin = self.fin.or(Some(text_end));
        }
        let end = if text_end.le(tcb.rcv_edge) { text_end } else { tcb.rcv_edge };
        let Some((piece, new, start, end)) = self.missing(seg.seq, end) else {
            self.came_twice(seg.seq, end);
            self.remember(seg.seq);
            return None;
        };
        if self.bytes() + (end - start) > bytes_max || (new && usize::from(self.count) == PIECES_MAX) {
            return None;
        }
        if new {
            self.pieces.copy_within(piece..usize::from(self.count), piece + 1);
            self.pieces[piece] = Piece { start, end, overtaken: 0 };
            self.count += 1;
        } else {
            self.pieces[piece].end = end;
        }
        self.remember(start);
        Some(Kept { piece, new, skip: (start - seg.seq) as u16, len: (end - start) as u16 })
    }

    /// RCV.NXT has moved: takes what is next in order now. Returns how many pieces have become ready. Text beyond a FIN that has
    /// been taken is none of the stream's, whoever sent it (3.10.7.4, seventh check).
    pub fn deliver(&mut self, tcb: &mut Tcb) -> u8 {
        let before = self.ready;
        while self.ready < self.count && tcb.state.can_receive() {
            let piece = &mut self.pieces[usize::from(self.ready)];
            if piece.start.gt(tcb.rcv_nxt) {
                break;
            }
            piece.overtaken = (tcb.rcv_nxt - piece.start).min(piece.end - piece.start);
            let octets = piece.end - piece.start - piece.overtaken;
            tcb.rcv_nxt += octets;
            tcb.unread_bytes += octets;
            self.ready += 1;
        }
        // RFC 5681 4.2: what fills a gap is acknowledged at once, whole or in part. The record may be there for what is sent.
        let filled = !self.is_empty(tcb.rcv_nxt);
        tcb.owed.add_if(Owed::ACK_NOW, filled);
        self.ready - before
    }

    /// The FIN that came too early is next in order.
    pub fn fin_is_next(&self, tcb: &Tcb) -> bool {
        tcb.state != State::Closed && self.fin == Some(tcb.rcv_nxt)
    }

    /// Takes the first ready piece out. Returns how many octets at its front have come in order already.
    pub fn take(&mut self) -> Option<u32> {
        if self.ready == 0 {
            return None;
        }
        let overtaken = self.pieces[0].overtaken;
        self.pieces.copy_within(1..usize::from(self.count), 0);
        self.count -= 1;
        self.ready -= 1;
        Some(overtaken)
    }

    /// Forgets everything, for want of memory: the peer sends it again (RFC 2018 8). Not what is about to be taken out. Returns
    /// whether there was anything.
    pub fn forget(&mut self) -> bool {
        let forgets = self.ready == 0 && (self.count > 0 || self.fin.is_some());
        if forgets {
            *self = Reassembly::default();
        }
        forgets
    }

    /// Octets from `start` to `end` came although they had come before (RFC 2883).
    pub fn came_twice(&mut self, start: Seq, end: Seq) {
        if start.lt(end) {
            self.twice = Some((start, end));
        }
    }

    /// Whether the peer is to be told of octets that came twice.
    pub fn tells_twice(&self) -> bool {
        self.twice.is_some()
    }

    /// The SACK blocks of an ACK with room for `blocks_max`: octets that came twice, once; then the block that came last, and
    /// those before it (RFC 2018 4).
    pub fn take_blocks(&mut self, blocks_max: usize) -> SackBlocks {
        let mut sack = SackBlocks::default();
        let mut add = |block| {
            let count = usize::from(sack.count);
            let is_new = !sack.blocks[..count].contains(&block);
            if count < blocks_max.min(sack.blocks.len()) && (is_new || count == 1) {
                sack.blocks[count] = block;
                sack.count += 1;
            }
        };
        if blocks_max > 0
            && let Some(twice) = self.twice.take()
        {
            add(twice);
        }
        for block in self.recent.iter().flatten().filter_map(|&octet| self.block_around(octet)) {
            add(block);
        }
        sack
    }

    /// The pieces without a gap around the octet at `seq`, if there are any still to come.
    fn block_around(&self, seq: Seq) -> Option<(Seq, Seq)> {
        let mut block: Option<(Seq, Seq)> = None;
        for piece in &self.pieces[usize::from(self.ready)..usize::from(self.count)] {
            match &mut block {
                Some((_, end)) if *end == piece.start => *end = piece.end,
                Some((start, end)) if start.le(seq) && seq.lt(*end) => break,
                _ => block = Some((piece.start, piece.end)),
            }
        }
        block.filter(|(start, end)| start.le(seq) && seq.lt(*end))
    }

    /// The block around `octet` came last.
    fn remember(&mut self, octet: Seq) {
        let Some(block) = self.block_around(octet) else { return };
        let inside = |other: &Option<Seq>| other.is_none_or(|seq| block.0.le(seq) && seq.lt(block.1));
        let place = self.recent.iter().position(inside).unwrap_or(BLOCKS_MAX - 1);
        self.recent[..=place].rotate_right(1);
        self.recent[0] = Some(octet);
    }

    /// Whether nothing is kept that is still to come; a FIN before `rcv_nxt` has been taken.
    pub fn is_empty(&self, rcv_nxt: Seq) -> bool {
        self.count == 0 && self.fin.is_none_or(|fin| fin.lt(rcv_nxt))
    }

    /// Octets in all pieces.
    fn bytes(&self) -> u32 {
        self.pieces[..usize::from(self.count)].iter().map(|piece| piece.end - piece.start).sum()
    }

    /// The first stretch of `start..end` that no piece holds: the piece that it extends, or the place of a new one.
    fn missing(&self, mut start: Seq, end: Seq) -> Option<(usize, bool, Seq, Seq)> {
        for at in usize::from(self.ready)..usize::from(self.count) {
            let piece = self.pieces[at];
            if piece.end.lt(start) {
                continue;
            }
            let upper = if end.lt(piece.start) { end } else { piece.start };
            if start.lt(piece.start) {
                return start.lt(upper).then_some((at, true, start, upper));
            }
            start = piece.end;
            let next = self.pieces[..usize::from(self.count)].get(at + 1).map_or(end, |next| next.start);
            let upper = if next.lt(end) { next } else { end };
            if start.lt(upper) {
                return Some((at, false, start, upper));
            }
            if end.le(start) {
                return None;
            }
        }
        start.lt(end).then_some((usize::from(self.count), true, start, end))
    }
}

/// Blocks that are remembered in the order in which they came: as many as an ACK can carry.
const BLOCKS_MAX: usize = 4;
