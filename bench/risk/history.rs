//! What the wire remembers of a 4-tuple's earlier incarnations: segments to send again, and where their text lay.

use super::wire::Fill;
use super::workload::End;
use rand::RngExt;
use rand::rngs::SmallRng;
use synfin::seq::Seq;
use synfin::wire::tcp::{Flags, Segment, Timestamps};

/// A segment of an earlier incarnation, as it was delivered. Its text is not kept: it is a function of its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Old {
    pub from: End,
    pub flags: Flags,
    pub seq: Seq,
    pub ack: Seq,
    pub wnd: u16,
    pub timestamps: Option<Timestamps>,
    /// The incarnation that sent it.
    pub incarnation: u32,
    /// Where its text begins in the stream, and how long it is.
    pub text: (u32, u16),
    pub sent_us: u64,
}

/// Which old segments are wanted most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// Any.
    Any,
    /// With text.
    Text,
}

/// One incarnation.
#[derive(Clone, Debug)]
struct Incarnation {
    number: u32,
    /// The initial sequence numbers as they were delivered, by sender.
    isns: [Option<Seq>; 2],
    segments: Vec<Old>,
}

/// The running incarnation of a 4-tuple and earlier ones. Those kept are the last one, and ever fewer the older they are, so that
/// ages are spread from the last rest to 2MSL.
#[derive(Clone, Debug)]
pub(crate) struct History {
    current: Incarnation,
    kept: [Incarnation; KEPT],
    /// Number and initial sequence numbers of the last incarnations.
    recent: [(u32, [Option<Seq>; 2]); RECENT],
}

impl History {
    pub(crate) fn new() -> History {
        let none = Incarnation { number: 0, isns: [None; 2], segments: Vec::with_capacity(SEGMENTS_MAX) };
        History { current: none.clone(), kept: std::array::from_fn(|_| none.clone()), recent: [(0, [None; 2]); RECENT] }
    }

    /// The client's first SYN of an incarnation is on its way.
    pub(crate) fn begin(&mut self, number: u32) {
        let place = (number.trailing_zeros() / KEPT_EVERY_LOG2).min(KEPT as u32 - 1) as usize;
        self.recent[self.current.number as usize % RECENT] = (self.current.number, self.current.isns);
        std::mem::swap(&mut self.current, &mut self.kept[place]);
        self.current.number = number;
        self.current.isns = [None; 2];
        self.current.segments.clear();
    }

    /// Notes the initial sequence number that `from` has sent in the running incarnation. After its text it is no longer this
    /// incarnation's: an old SYN has met a listener.
    pub(crate) fn set_isn(&mut self, from: End, isn: Seq) {
        if self.current.segments.iter().any(|segment| segment.from == from && segment.text.1 > 0) {
            return;
        }
        self.current.isns[from as usize] = Some(isn);
    }

    /// Remembers a segment of the running incarnation, as it is delivered.
    pub(crate) fn note(&mut self, from: End, segment: &Segment, now_us: u64) {
        let Some(isn) = self.current.isns[from as usize] else { return };
        let begins = segment.seq - isn;
        // What lies before the ISN is of an earlier one, late.
        if self.current.segments.len() == SEGMENTS_MAX || begins >= STREAM_MAX {
            return;
        }
        self.current.segments.push(Old {
            from,
            flags: segment.flags,
            seq: segment.seq,
            ack: segment.ack,
            wnd: segment.wnd,
            timestamps: segment.options.timestamps,
            incarnation: self.current.number,
            text: (begins.wrapping_sub(1), segment.payload_len),
            sent_us: now_us,
        });
    }

    /// A segment that `from` sent in an earlier incarnation at most `age_max_us` ago.
    pub(crate) fn draw(
        &self,
        from: End,
        wanted: Wanted,
        now_us: u64,
        age_max_us: u64,
        random: &mut SmallRng,
    ) -> Option<Old> {
        let fits = |old: &&Old| {
            let young = now_us.saturating_sub(old.sent_us) <= age_max_us;
            old.from == from && young && (wanted == Wanted::Any || old.text.1 > 0)
        };
        let first = random.random_range(0..KEPT);
        (0..KEPT).map(|step| &self.kept[(first + step) % KEPT]).find_map(|incarnation| {
            let fitting = incarnation.segments.iter().filter(fits).count();
            let chosen = if fitting > 0 { random.random_range(0..fitting) } else { 0 };
            incarnation.segments.iter().filter(fits).nth(chosen).copied()
        })
    }

    /// How many of `bytes`, which `to` has received at `offset` of incarnation `number`, are none that its peer has sent in it,
    /// and how many of those stood at the same sequence numbers in an earlier one. Where none did, the whole may be an earlier
    /// one's own stream: the peer has given that up and begun `number`, and `to` completes it late, by frames that the wire held.
    pub(crate) fn explain(
        &self,
        fill: Fill,
        tuple: usize,
        to: End,
        number: u32,
        offset: u32,
        bytes: &[u8],
    ) -> Explained {
        let from = to.other();
        let octet = |incarnation, offset| {
            let mut octet = [0];
            fill(tuple, incarnation, from, offset, &mut octet);
            octet[0]
        };
        let mut explained = Explained::default();
        for (&byte, offset) in bytes.iter().zip(offset..) {
            if byte == octet(number, offset) {
                continue;
            }
            let of_old = self.isn_of(number, from).is_some_and(|isn| {
                let seq = isn + 1 + offset;
                self.earlier(number).any(|(old, isns)| {
                    let begins = isns[from as usize].map(|isn| seq - (isn + 1));
                    begins.is_some_and(|at| at < STREAM_MAX && octet(old, at) == byte)
                })
            });
            explained.old_bytes += u64::from(of_old);
            explained.other_bytes += u64::from(!of_old);
        }
        if explained.other_bytes > 0 && self.is_of_an_earlier_stream(fill, (tuple, from), number, offset, bytes) {
            return Explained { late_bytes: bytes.len() as u64, ..Explained::default() };
        }
        explained
    }

    /// Whether `from` has sent just these octets at this place of the stream of an earlier incarnation than `number`.
    fn is_of_an_earlier_stream(
        &self,
        fill: Fill,
        (tuple, from): (usize, End),
        number: u32,
        offset: u32,
        bytes: &[u8],
    ) -> bool {
        let mut sent = vec![0; bytes.len()];
        bytes.len() >= TELLING_BYTES
            && self.earlier(number).any(|(earlier, _)| {
                fill(tuple, earlier, from, offset, &mut sent);
                sent == bytes
            })
    }

    fn isn_of(&self, number: u32, from: End) -> Option<Seq> {
        self.known().find(|(known, _)| *known == number).and_then(|(_, isns)| isns[from as usize])
    }

    fn earlier(&self, number: u32) -> impl Iterator<Item = (u32, [Option<Seq>; 2])> {
        self.known().filter(move |(known, _)| *known < number)
    }

    fn known(&self) -> impl Iterator<Item = (u32, [Option<Seq>; 2])> {
        let whole =
            [&self.current].into_iter().chain(&self.kept).map(|incarnation| (incarnation.number, incarnation.isns));
        whole.chain(self.recent.iter().copied())
    }
}

/// Where wrong octets come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Explained {
    /// An earlier incarnation sent them, and they lay in the window of this one.
    pub old_bytes: u64,
    /// An earlier incarnation sent them, and it is that one which took them.
    pub late_bytes: u64,
    /// Nobody did.
    pub other_bytes: u64,
}

/// Earlier incarnations whose segments are kept: in place n one of every 4^n.
const KEPT: usize = 8;
const KEPT_EVERY_LOG2: u32 = 2;

/// Segments kept of an incarnation.
const SEGMENTS_MAX: usize = 12;

/// Incarnations whose initial sequence numbers are known.
const RECENT: usize = 64;

/// As many octets as nothing but their sender has in common.
const TELLING_BYTES: usize = 8;

/// No stream is longer, octets.
const STREAM_MAX: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::super::text::{Text, fill};
    use super::*;
    use rand::SeedableRng;

    fn segment(seq: u32, payload_len: u16) -> Segment {
        Segment { seq: Seq(seq), payload_len, flags: Flags::ACK, ..Segment::default() }
    }

    /// Incarnations 1 to `last`, a millisecond and 1,000 sequence numbers apart, each with one text of 10 octets.
    fn played(last: u32) -> History {
        let mut history = History::new();
        for number in 1..=last {
            history.begin(number);
            history.set_isn(End::Client, Seq(number * 1000));
            history.note(End::Client, &segment(number * 1000 + 1, 10), u64::from(number) * 1000);
        }
        history
    }

    #[test]
    fn drawn_segments_are_of_earlier_incarnations_and_no_older_than_asked() {
        let (history, mut random) = (played(1000), SmallRng::seed_from_u64(1));
        let (mut oldest, mut youngest) = (u64::MAX, 0);
        for _ in 0..1000 {
            let old = history.draw(End::Client, Wanted::Text, 1_000_000, 900_000, &mut random).expect("one");
            assert!(old.incarnation < 1000 && old.sent_us >= 100_000);
            (oldest, youngest) = (oldest.min(old.sent_us), youngest.max(old.sent_us));
        }
        assert_eq!(youngest, 999_000);
        assert!(oldest < 800_000, "{oldest}");
        assert_eq!(history.draw(End::Server, Wanted::Any, 1_000_000, 900_000, &mut random), None);
    }

    #[test]
    fn octets_of_an_earlier_incarnation_are_told_from_others() {
        let mut history = played(7);
        history.begin(8);
        history.set_isn(End::Client, Seq(7000 - 100));
        // Octet 100 of incarnation 8 lies where octet 0 of incarnation 7 lay.
        let mut bytes = [0; 10];
        Text::of(0, 7, End::Client).fill(0, &mut bytes);
        let mut own = [0; 10];
        Text::of(0, 8, End::Client).fill(100, &mut own);
        let own = own.iter().zip(bytes).filter(|(own, byte)| **own == *byte).count();
        let explained = history.explain(fill, 0, End::Server, 8, 100, &bytes);
        assert_eq!(explained, Explained { old_bytes: 10 - own as u64, ..Explained::default() });
        Text::of(0, 8, End::Client).fill(100, &mut bytes);
        assert_eq!(history.explain(fill, 0, End::Server, 8, 100, &bytes), Explained::default());
        bytes[3] ^= 1;
        assert_eq!(history.explain(fill, 0, End::Server, 8, 100, &bytes).other_bytes, 1);
    }

    #[test]
    fn stream_of_an_earlier_incarnation_that_opens_late_is_its_own() {
        let history = played(7);
        let mut bytes = [0; 64];
        Text::of(0, 5, End::Client).fill(0, &mut bytes);
        let late = Explained { late_bytes: 64, ..Explained::default() };
        assert_eq!(history.explain(fill, 0, End::Server, 7, 0, &bytes), late);
        bytes[3] ^= 1;
        assert!(history.explain(fill, 0, End::Server, 7, 0, &bytes).other_bytes > 0);
    }
}
