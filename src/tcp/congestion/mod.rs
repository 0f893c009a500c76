//! The congestion window: how it starts (RFC 6928), grows with acknowledged octets, and falls at a congestion event or a
//! time-out (RFC 5681).
//!
//! What differs between CUBIC (RFC 9438) and Reno (RFC 5681) is behind one small trait. When something was lost, and what is
//! sent again, is the matter of [`recovery`](super::recovery).

mod cubic;
mod reno;

use crate::tick::Tick;
use cubic::Cubic;
use reno::Reno;

/// The algorithms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CongestionControl {
    /// CUBIC (RFC 9438).
    #[default]
    Cubic,
    /// Reno's window (RFC 5681).
    Reno,
}

impl CongestionControl {
    /// All of them.
    pub const ALL: [CongestionControl; 2] = [CongestionControl::Cubic, CongestionControl::Reno];

    /// The name on a command line.
    pub const fn name(self) -> &'static str {
        match self {
            CongestionControl::Cubic => "cubic",
            CongestionControl::Reno => "reno",
        }
    }

    /// The algorithm of this name.
    pub fn from_name(name: &str) -> Option<CongestionControl> {
        CongestionControl::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// The congestion window of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Congestion {
    /// cwnd, bytes.
    pub cwnd: u32,
    /// ssthresh, bytes.
    pub ssthresh: u32,
    /// Octets acknowledged since cwnd, or CUBIC's W_est, last grew in congestion avoidance (RFC 3465's counting, T26).
    acked: u32,
    /// CUBIC's own state.
    cubic: Cubic,
}

/// What the rules may know of the connection at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conditions {
    /// The stack's algorithm.
    pub algorithm: CongestionControl,
    /// The effective send MSS, bytes.
    pub mss: u32,
    /// Octets in flight (FlightSize).
    pub flight: u32,
    /// At least a segment waits that nothing but cwnd holds back.
    pub limited: bool,
    /// SRTT, us; 0 before the first measurement.
    pub srtt_us: u32,
    /// The turn's time.
    pub now: Tick,
}

/// In what algorithms differ.
trait Algorithm {
    /// Congestion avoidance: `acked` octets were acknowledged while cwnd is at or above ssthresh.
    fn avoid(window: &mut Congestion, acked: u32, conditions: &Conditions);

    /// ssthresh after a congestion event, bytes; at least two segments (RFC 5681 equation 4).
    fn reduced(window: &mut Congestion, conditions: &Conditions) -> u32;

    /// Octets were acknowledged, but the window was not used up.
    fn unused(window: &mut Congestion);
}

impl Congestion {
    /// The window after the handshake (RFC 6928; after a lost SYN one segment, RFC 5681 3.1).
    #[inline]
    pub fn start(mss: u32, syn_was_lost: bool) -> Congestion {
        let cwnd = if syn_was_lost { mss } else { Congestion::initial_window(mss) };
        Congestion { cwnd, ssthresh: u32::MAX, ..Congestion::default() }
    }

    /// The initial window, bytes (RFC 6928 2).
    #[inline]
    pub fn initial_window(mss: u32) -> u32 {
        (10 * mss).min(14_600.max(2 * mss))
    }

    /// `acked` octets of new data were acknowledged outside loss recovery. A window that is not used up says nothing about
    /// the path, so it does not grow (RFC 9438 5.8).
    #[inline(always)]
    pub fn acknowledged(&mut self, acked: u32, conditions: &Conditions) {
        match conditions.algorithm {
            CongestionControl::Cubic => self.grow::<Cubic>(acked, conditions),
            CongestionControl::Reno => self.grow::<Reno>(acked, conditions),
        }
    }

    /// A congestion event, at most one per round trip: cwnd and ssthresh fall.
    pub fn reduce(&mut self, conditions: &Conditions) {
        self.ssthresh = self.reduced(conditions);
        self.cwnd = self.ssthresh;
    }

    /// The retransmission timer has expired, for the first time for this segment or again (RFC 5681 3.1: loss window of one
    /// segment).
    pub fn timed_out(&mut self, first: bool, conditions: &Conditions) {
        if first {
            self.ssthresh = self.reduced(conditions);
        }
        // RFC 9438 4.8: the next stage starts with K = 0 and W_max = cwnd.
        *self = Congestion { cwnd: conditions.mss, ssthresh: self.ssthresh, ..Congestion::default() };
    }

    #[inline(always)]
    fn grow<A: Algorithm>(&mut self, acked: u32, conditions: &Conditions) {
        if !conditions.limited {
            A::unused(self);
        } else if self.cwnd < self.ssthresh {
            self.cwnd = self.cwnd.saturating_add(acked.min(2 * conditions.mss));
        } else {
            A::avoid(self, acked, conditions);
        }
    }

    fn reduced(&mut self, conditions: &Conditions) -> u32 {
        match conditions.algorithm {
            CongestionControl::Cubic => Cubic::reduced(self, conditions),
            CongestionControl::Reno => Reno::reduced(self, conditions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    fn with_flight(flight: u32) -> Conditions {
        let algorithm = CongestionControl::Reno;
        Conditions { algorithm, mss: MSS, flight, limited: true, srtt_us: 0, now: Tick(1) }
    }

    /// Shows MUST-19, RFC 5681, RFC 2525 2.6.
    #[test]
    fn slow_start_doubles_and_avoidance_adds_one_segment_per_window() {
        let mut congestion = Congestion::start(MSS, false);
        assert_eq!(congestion.cwnd, 10 * MSS);
        for _ in 0..10 {
            congestion.acknowledged(MSS, &with_flight(0));
        }
        assert_eq!(congestion.cwnd, 20 * MSS);
        congestion.ssthresh = 20 * MSS;
        for _ in 0..20 {
            congestion.acknowledged(MSS, &with_flight(0));
        }
        assert_eq!(congestion.cwnd, 21 * MSS);
    }

    /// Shows RFC 2525 2.13: what an ACK of many segments does to the window.
    #[test]
    fn t26_growth_counts_bytes_not_acks() {
        let mut congestion = Congestion::start(MSS, false);
        for _ in 0..1000 {
            congestion.acknowledged(1, &with_flight(0));
        }
        assert_eq!(congestion.cwnd, 11 * MSS);
        congestion.acknowledged(1_000_000, &with_flight(0));
        assert_eq!(congestion.cwnd, 13 * MSS, "one acknowledgment adds at most two segments");
    }

    #[test]
    fn a_window_that_is_not_used_up_does_not_grow() {
        for algorithm in CongestionControl::ALL {
            let mut congestion = Congestion::start(MSS, false);
            congestion.acknowledged(MSS, &Conditions { algorithm, limited: false, ..with_flight(0) });
            assert_eq!(congestion.cwnd, 10 * MSS);
        }
    }

    /// Shows MUST-19, RFC 5681, RFC 2525 2.2.
    #[test]
    fn time_out_begins_again_from_one_segment() {
        let mut congestion = Congestion::start(MSS, false);
        congestion.timed_out(true, &with_flight(10_000));
        assert_eq!((congestion.cwnd, congestion.ssthresh), (MSS, 5 * MSS));
        congestion.timed_out(false, &with_flight(1000));
        assert_eq!((congestion.cwnd, congestion.ssthresh), (MSS, 5 * MSS), "the same loss halves once");
    }
}
