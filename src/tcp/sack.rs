//! The scoreboard (RFC 6675): what became of everything between SND.UNA and SND.NXT, as far as the peer's SACK blocks
//! (RFC 2018, RFC 2883) and our own transmissions tell.
//!
//! The octets are covered by at most [`SCOREBOARD_RANGES_MAX`] ranges without gaps. Whatever the peer says, an
//! acknowledgment costs a few passes over them (T11): a block for which there is no range left is forgotten, which RFC 2018
//! allows, for SACK is advice. Blocks outside SND.UNA..SND.NXT say nothing (T24).

use crate::limits::SCOREBOARD_RANGES_MAX;
use crate::seq::Seq;
use crate::tick::Micros;

/// What happened to the octets from SND.UNA on. Off, and empty, until something may have been lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scoreboard {
    /// Where the first range begins: SND.UNA.
    start: Seq,
    /// In order; each begins where the one before ends.
    ranges: [Range; SCOREBOARD_RANGES_MAX],
    count: u8,
    /// What RACK and TLP know besides.
    pub(super) rack: super::rack::Rack,
}

/// Octets that have one fate, up to `end`, exclusively.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Range {
    pub(super) end: Seq,
    /// When they were sent last, or a guess at it for what was sent before the scoreboard was on.
    pub(super) sent_at: Micros,
    pub(super) fate: Fate,
    /// They were sent more than once.
    pub(super) again: bool,
}

/// What became of octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Fate {
    /// Sent, and nothing is known.
    #[default]
    InFlight,
    /// Taken to be lost and not sent since.
    Lost,
    /// The peer has them.
    Sacked,
}

/// Octets that the peer has got for the first time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Delivered {
    pub(super) end: Seq,
    pub(super) sent_at: Micros,
    pub(super) again: bool,
    /// Octets behind them, sent once too, had come before.
    pub(super) reordered: bool,
}

impl Scoreboard {
    /// Everything from `snd_una` to `snd_nxt` is in flight and was sent at `sent_at`.
    pub fn begin(&mut self, snd_una: Seq, snd_nxt: Seq, sent_at: Micros) {
        *self = Scoreboard { start: snd_una, ..Scoreboard::default() };
        self.append(snd_nxt, sent_at);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Scoreboard::default();
    }

    /// Whether there is anything in flight that it keeps track of.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.count > 0
    }

    /// The retransmission deadline to the microsecond, if one was set since it is on; it may be over or put off by now.
    pub fn deadline(&self) -> Option<Micros> {
        self.rack.due.map(|(_, at)| at)
    }

    /// Whether it says no more than SND.UNA and SND.NXT do.
    pub fn is_plain(&self) -> bool {
        self.rack.probe.is_none() && self.used().iter().all(|range| range.fate == Fate::InFlight && !range.again)
    }

    /// Octets from `seq` to `end` are sent at `now`: new ones at the end, or some again.
    pub fn sent(&mut self, seq: Seq, end: Seq, now: Micros) {
        let known = self.end();
        if seq.lt(known) {
            let upper = if end.lt(known) { end } else { known };
            self.make_room();
            let from = self.split(seq).unwrap_or_else(|| self.place_of(seq));
            let to = self.split(upper).unwrap_or_else(|| self.place_of(upper) + 1);
            for range in &mut self.ranges[from..to] {
                if range.fate != Fate::Sacked {
                    *range = Range { sent_at: now, fate: Fate::InFlight, again: true, ..*range };
                }
            }
        }
        if end.gt(known) {
            self.append(end, now);
        }
        self.merge();
    }

    /// SND.UNA has moved to `snd_una`. Tells `delivered` what the peer had not SACKed before. If SND.UNA stands now where a
    /// SACKed range begins, the peer has thrown it away (RFC 2018 8): all SACKed octets are lost then.
    pub(super) fn advance(&mut self, snd_una: Seq, mut delivered: impl FnMut(Delivered)) {
        let highest = self.highest_delivered();
        let gone = self.used().iter().take_while(|range| range.end.le(snd_una)).count();
        // A range that is acknowledged in part is delivered in part.
        let partly = gone < usize::from(self.count) && snd_una.gt(self.start_of(gone));
        for place in 0..gone + usize::from(partly) {
            let range = self.ranges[place];
            if range.fate != Fate::Sacked {
                let end = if range.end.lt(snd_una) { range.end } else { snd_una };
                delivered(range.delivered(end, highest));
            }
        }
        self.ranges.copy_within(gone..usize::from(self.count), 0);
        self.count -= gone as u8;
        self.start = self.start.max(snd_una);
        if self.used().first().is_some_and(|first| first.fate == Fate::Sacked) {
            self.forget_sacked();
        }
    }

    /// Takes SACK blocks, D-SACK excluded. Tells `delivered` what is new and returns how many octets that is.
    pub(super) fn take(&mut self, blocks: &[(Seq, Seq)], mut delivered: impl FnMut(Delivered)) -> u32 {
        let highest = self.highest_delivered();
        let mut octets = 0;
        for &(left, right) in blocks {
            if !is_valid((left, right), self.start, self.end()) {
                continue;
            }
            self.make_room();
            let (Some(from), Some(to)) = (self.split(left), self.split(right)) else { continue };
            for place in from..to {
                let range = self.ranges[place];
                if range.fate != Fate::Sacked {
                    octets += range.end - self.start_of(place);
                    delivered(range.delivered(range.end, highest));
                    self.ranges[place] = Range { fate: Fate::Sacked, again: false, ..range };
                }
            }
            self.merge();
        }
        octets
    }

    /// RFC 6675's IsLost for everything that was sent once: three SACKed ranges, or more than two segments, lie beyond.
    pub(super) fn mark_lost(&mut self, mss: u32) {
        let (mut ranges, mut octets) = (0, 0);
        for place in (0..usize::from(self.count)).rev() {
            let len = self.ranges[place].end - self.start_of(place);
            let range = &mut self.ranges[place];
            match range.fate {
                Fate::Sacked => {
                    ranges += 1;
                    octets += len;
                }
                Fate::InFlight if !range.again && (ranges >= DUP_THRESH || octets > (DUP_THRESH - 1) * mss) => {
                    range.fate = Fate::Lost;
                }
                Fate::InFlight | Fate::Lost => {}
            }
        }
        self.merge();
    }

    /// The first segment in flight is lost: duplicate ACKs or a partial acknowledgment say so. Not one sent again already.
    pub(super) fn lose_first(&mut self, mss: u32) {
        let end = self.start + mss;
        self.make_room();
        let to = self.split(if end.lt(self.end()) { end } else { self.end() }).unwrap_or(1);
        for range in &mut self.ranges[..to] {
            if range.fate == Fate::InFlight && !range.again {
                range.fate = Fate::Lost;
            }
        }
        self.merge();
    }

    /// A time-out: everything that the peer has not is lost (RFC 6675 5.1). With `forget`, what it said it had is, too.
    pub fn lose_all(&mut self, forget: bool) {
        if forget {
            self.forget_sacked();
        }
        for range in &mut self.ranges[..usize::from(self.count)] {
            if range.fate == Fate::InFlight {
                range.fate = Fate::Lost;
            }
        }
        self.merge();
    }

    /// RFC 6675's pipe: octets that are still on their way.
    pub fn pipe(&self) -> u32 {
        self.octets(Fate::InFlight)
    }

    /// Octets that the peer has beyond SND.UNA.
    pub fn sacked(&self) -> u32 {
        self.octets(Fate::Sacked)
    }

    /// RFC 6675's NextSeg, rule 1: the first octets to be sent again.
    pub fn next_lost(&self) -> Option<(Seq, Seq)> {
        let place = self.used().iter().position(|range| range.fate == Fate::Lost)?;
        Some((self.start_of(place), self.ranges[place].end))
    }

    /// What `is_lost` says so of is lost; it is asked of everything in flight.
    pub(super) fn lose_if(&mut self, mut is_lost: impl FnMut(&Range) -> bool) {
        for range in &mut self.ranges[..usize::from(self.count)] {
            if range.fate == Fate::InFlight && is_lost(range) {
                range.fate = Fate::Lost;
            }
        }
        self.merge();
    }

    fn octets(&self, fate: Fate) -> u32 {
        let places = (0..usize::from(self.count)).filter(|&place| self.ranges[place].fate == fate);
        places.map(|place| self.ranges[place].end - self.start_of(place)).sum()
    }

    fn forget_sacked(&mut self) {
        for range in &mut self.ranges[..usize::from(self.count)] {
            if range.fate == Fate::Sacked {
                range.fate = Fate::Lost;
            }
        }
        self.merge();
    }

    fn used(&self) -> &[Range] {
        &self.ranges[..usize::from(self.count)]
    }

    fn start_of(&self, place: usize) -> Seq {
        if place == 0 { self.start } else { self.ranges[place - 1].end }
    }

    fn end(&self) -> Seq {
        self.start_of(usize::from(self.count))
    }

    /// One past the highest octet that the peer is known to have.
    fn highest_delivered(&self) -> Seq {
        let sacked = self.used().iter().rfind(|range| range.fate == Fate::Sacked);
        sacked.map_or(self.start, |range| range.end)
    }

    /// New octets up to `end`. Without a range for them the last one takes them, as if sent with them.
    fn append(&mut self, end: Seq, sent_at: Micros) {
        if end.le(self.end()) {
            return;
        }
        self.make_room();
        let count = usize::from(self.count);
        if count == SCOREBOARD_RANGES_MAX {
            self.ranges[count - 1] = Range { end, sent_at, ..Range::default() };
        } else {
            self.ranges[count] = Range { end, sent_at, ..Range::default() };
            self.count += 1;
        }
    }

    /// The range that holds the octet at `seq`, which must lie in one; otherwise the last.
    fn place_of(&self, seq: Seq) -> usize {
        let last = usize::from(self.count).saturating_sub(1);
        self.used().iter().position(|range| range.end.gt(seq)).unwrap_or(last)
    }

    /// Makes a range begin at `seq`, and returns its place; `None` if there is none left.
    fn split(&mut self, seq: Seq) -> Option<usize> {
        let count = usize::from(self.count);
        let Some(place) = self.used().iter().position(|range| range.end.gt(seq)) else { return Some(count) };
        if self.start_of(place).ge(seq) {
            return Some(place);
        }
        if count == SCOREBOARD_RANGES_MAX {
            return None;
        }
        self.ranges.copy_within(place..count, place + 1);
        self.ranges[place].end = seq;
        self.count += 1;
        Some(place + 1)
    }

    /// Joins neighbours that are alike.
    fn merge(&mut self) {
        self.join(|one, other| {
            let timed = one.fate == Fate::InFlight && one.sent_at != other.sent_at;
            one.fate == other.fate && one.again == other.again && !timed
        });
    }

    /// When ranges run out, neighbours that differ only in when they were sent become one, sent at the later time: those of one
    /// millisecond first.
    fn make_room(&mut self) {
        for same_time in [|at: Micros| at.0 >> 10, |_| 0] {
            if usize::from(self.count) + 2 <= SCOREBOARD_RANGES_MAX {
                return;
            }
            self.join(|one, other| {
                one.fate == other.fate && one.again == other.again && same_time(one.sent_at) == same_time(other.sent_at)
            });
        }
    }

    fn join(&mut self, alike: impl Fn(&Range, &Range) -> bool) {
        let mut kept = 0;
        for place in 1..usize::from(self.count) {
            let range = self.ranges[place];
            let before = &mut self.ranges[kept];
            if alike(before, &range) {
                before.end = range.end;
                before.sent_at = if before.sent_at.is_before(range.sent_at) { range.sent_at } else { before.sent_at };
            } else {
                kept += 1;
                self.ranges[kept] = range;
            }
        }
        self.count = self.count.min(kept as u8 + 1);
    }
}

impl Range {
    fn delivered(&self, end: Seq, highest: Seq) -> Delivered {
        Delivered { end, sent_at: self.sent_at, again: self.again, reordered: !self.again && end.lt(highest) }
    }
}

/// Whether a SACK block may speak of octets in flight: inside `snd_una..snd_nxt`, and not of the octet at SND.UNA, which the
/// same segment would acknowledge (RFC 2018 3).
pub fn is_valid((left, right): (Seq, Seq), snd_una: Seq, snd_nxt: Seq) -> bool {
    snd_una.lt(left) && left.lt(right) && right.le(snd_nxt)
}

/// The first block as a D-SACK (RFC 2883 4): a duplicate below SEG.ACK, or inside the second block.
pub fn duplicate(blocks: &[(Seq, Seq)], ack: Seq) -> Option<(Seq, Seq)> {
    let &(left, right) = blocks.first()?;
    let inside = blocks.get(1).is_some_and(|second| second.0.le(left) && right.le(second.1));
    (left.lt(right) && (right.le(ack) || inside)).then_some((left, right))
}

/// DupThresh of RFC 6675.
pub const DUP_THRESH: u32 = 3;

#[cfg(test)]
#[path = "tests/sack.rs"]
mod tests;
