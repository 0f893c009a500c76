//! The moments of a connection at which an old segment is aimed, by the segments that pass on the wire.

use super::workload::End;
use synfin::wire::tcp::Segment;

/// A moment of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Moment {
    /// The client's SYN is on its way; the old segment reaches the client before the SYN-ACK.
    SynSent,
    /// The SYN-ACK is on its way; the old segment reaches the server before the ACK.
    SynReceived,
    /// The first text of the client is on its way, behind the old segment.
    FirstText,
    /// The first text of the server is.
    Middle,
    /// The first FIN is.
    Close,
    /// Both FINs are; the old segment follows to the end that closed first.
    TimeWait,
}

impl Moment {
    /// All of them, in order.
    pub(crate) const ALL: [Moment; 6] =
        [Moment::SynSent, Moment::SynReceived, Moment::FirstText, Moment::Middle, Moment::Close, Moment::TimeWait];

    /// The name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Moment::SynSent => "SYN-SENT",
            Moment::SynReceived => "SYN-RECEIVED",
            Moment::FirstText => "first data",
            Moment::Middle => "middle",
            Moment::Close => "close",
            Moment::TimeWait => "TIME-WAIT",
        }
    }
}

/// How far an incarnation has come. Each moment comes once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Progress {
    /// A bit per moment that has come.
    come: u8,
    /// Who has sent FIN, the first one first.
    fins: [Option<End>; 2],
}

impl Progress {
    /// The moment that this segment of `from` brings about.
    pub(crate) fn passes(&mut self, from: End, segment: &Segment) -> Option<Moment> {
        let moment = match (from, segment.flags.syn()) {
            (End::Client, true) => Moment::SynSent,
            (End::Server, true) => Moment::SynReceived,
            _ if segment.flags.fin() && self.is_second_fin(from) => Moment::TimeWait,
            _ if segment.flags.fin() => Moment::Close,
            (End::Client, false) if segment.payload_len > 0 => Moment::FirstText,
            (End::Server, false) if segment.payload_len > 0 => Moment::Middle,
            _ => return None,
        };
        let bit = 1 << moment as u8;
        let first = self.come & bit == 0;
        self.come |= bit;
        first.then_some(moment)
    }

    /// Who has sent FIN first.
    pub(crate) const fn closed_first(&self) -> Option<End> {
        self.fins[0]
    }

    fn is_second_fin(&mut self, from: End) -> bool {
        match self.fins {
            [None, _] => {
                self.fins[0] = Some(from);
                false
            }
            [Some(first), None] if first != from => {
                self.fins[1] = Some(from);
                true
            }
            [Some(_), None] => false,
            [Some(_), Some(second)] => second == from,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synfin::wire::tcp::Flags;

    #[test]
    fn moments_come_in_order_and_once() {
        let mut progress = Progress::default();
        let segment = |flags: Flags, payload_len| Segment { flags, payload_len, ..Segment::default() };
        let (syn, fin) = (Flags::SYN, Flags::FIN | Flags::ACK);
        let passed = [
            (End::Client, segment(syn, 0)),
            (End::Client, segment(syn, 0)),
            (End::Server, segment(Flags::SYN | Flags::ACK, 0)),
            (End::Client, segment(Flags::ACK, 0)),
            (End::Client, segment(Flags::ACK, 64)),
            (End::Server, segment(Flags::ACK, 64)),
            (End::Server, segment(fin, 0)),
            (End::Server, segment(fin, 0)),
            (End::Client, segment(fin, 0)),
            (End::Client, segment(fin, 0)),
        ];
        let came: Vec<Moment> = passed.iter().filter_map(|(from, segment)| progress.passes(*from, segment)).collect();
        assert_eq!(came, Moment::ALL);
        assert_eq!(progress.closed_first(), Some(End::Server));
    }
}
