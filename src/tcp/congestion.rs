//! Congestion control: NewReno (RFC 5681, RFC 6582) with initial window 10 (RFC 6928).

use crate::seq::Seq;

/// Congestion state of one connection, bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Congestion {
    /// cwnd, bytes.
    pub cwnd: u32,
    /// ssthresh, bytes.
    pub ssthresh: u32,
    /// Octets acknowledged since cwnd last grew in congestion avoidance (RFC 3465's counting, T26).
    acked: u32,
    /// Recovery ends when this is acknowledged (RFC 6582 "recover").
    recover: Seq,
    /// Duplicate ACKs in a row.
    pub duplicates: u8,
    /// Fast recovery is on.
    pub recovering: bool,
}

impl Congestion {
    /// The state after the handshake (RFC 6928; after a lost SYN one segment, RFC 5681 3.1).
    pub fn start(mss: u32, syn_was_lost: bool, snd_una: Seq) -> Congestion {
        let cwnd = if syn_was_lost { mss } else { (10 * mss).min(14_600.max(2 * mss)) };
        Congestion { cwnd, ssthresh: u32::MAX, recover: snd_una, ..Congestion::default() }
    }

    /// `acked` octets of new data were acknowledged up to `snd_una`. Returns whether the first unacknowledged segment
    /// must be resent at once (a partial acknowledgment during recovery, RFC 6582 3.2 step 3).
    pub fn acknowledged(&mut self, acked: u32, snd_una: Seq, flight: u32, mss: u32) -> bool {
        self.duplicates = 0;
        if self.recovering {
            if snd_una.ge(self.recover) {
                self.recovering = false;
                self.cwnd = self.ssthresh.min(flight.max(mss).saturating_add(mss));
                return false;
            }
            self.cwnd = self.cwnd.saturating_sub(acked).saturating_add(mss).max(mss);
            return true;
        }
        if self.cwnd < self.ssthresh {
            self.cwnd = self.cwnd.saturating_add(acked.min(2 * mss));
        } else {
            self.acked = self.acked.saturating_add(acked);
            if self.acked >= self.cwnd {
                self.acked -= self.cwnd;
                self.cwnd = self.cwnd.saturating_add(mss);
            }
        }
        false
    }

    /// A duplicate ACK (RFC 5681 2). Returns whether to fast-retransmit now (the third in a row).
    pub fn duplicate(&mut self, flight: u32, snd_una: Seq, snd_nxt: Seq, mss: u32) -> bool {
        self.duplicates = self.duplicates.saturating_add(1);
        if self.recovering {
            self.cwnd = self.cwnd.saturating_add(mss);
            return false;
        }
        // RFC 6582 3.2 step 2: after a time-out no new recovery for what was sent before it.
        if self.duplicates != 3 || snd_una.lt(self.recover) {
            return false;
        }
        self.ssthresh = (flight / 2).max(2 * mss);
        self.cwnd = self.ssthresh + 3 * mss;
        self.recover = snd_nxt;
        self.recovering = true;
        true
    }

    /// The retransmission timer expired (RFC 5681 3.1: loss window of one segment).
    pub fn timed_out(&mut self, flight: u32, snd_nxt: Seq, mss: u32, first: bool) {
        if first {
            self.ssthresh = (flight / 2).max(2 * mss);
        }
        self.cwnd = mss;
        self.recover = snd_nxt;
        self.recovering = false;
        self.duplicates = 0;
        self.acked = 0;
    }

    /// Keeps "recover" from falling half the sequence space behind on a connection without losses.
    pub fn forget_recovery(&mut self, snd_una: Seq) {
        if !self.recovering && snd_una.ge(self.recover) {
            self.recover = snd_una;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    const MSS: u32 = 1000;

    #[test]
    fn slow_start_doubles_and_avoidance_adds_one_segment_per_window() {
        let mut congestion = Congestion::start(MSS, false, Seq(0));
        assert_eq!(congestion.cwnd, 10 * MSS);
        for _ in 0..10 {
            congestion.acknowledged(MSS, Seq(0), 0, MSS);
        }
        assert_eq!(congestion.cwnd, 20 * MSS);
        congestion.ssthresh = 20 * MSS;
        for _ in 0..20 {
            congestion.acknowledged(MSS, Seq(0), 0, MSS);
        }
        assert_eq!(congestion.cwnd, 21 * MSS);
    }

    #[test]
    fn third_duplicate_halves_and_full_acknowledgment_ends_recovery() {
        let mut congestion = Congestion::start(MSS, false, Seq(0));
        let (una, nxt) = (Seq(5000), Seq(15_000));
        assert!(!congestion.duplicate(10_000, una, nxt, MSS));
        assert!(!congestion.duplicate(10_000, una, nxt, MSS));
        assert!(congestion.duplicate(10_000, una, nxt, MSS));
        assert_eq!((congestion.ssthresh, congestion.cwnd, congestion.recovering), (5000, 8000, true));
        assert!(congestion.acknowledged(1000, Seq(6000), 9000, MSS), "a partial acknowledgment resends");
        assert!(!congestion.acknowledged(9000, nxt, 0, MSS));
        assert!(!congestion.recovering && congestion.cwnd <= 5000);
    }

    #[test]
    fn t26_growth_counts_bytes_not_acks() {
        let mut congestion = Congestion::start(MSS, false, Seq(0));
        for _ in 0..1000 {
            congestion.acknowledged(1, Seq(0), 0, MSS);
        }
        assert_eq!(congestion.cwnd, 11 * MSS);
        congestion.acknowledged(1_000_000, Seq(0), 0, MSS);
        assert_eq!(congestion.cwnd, 13 * MSS, "one acknowledgment adds at most two segments");
    }

    #[test]
    fn time_out_begins_again_from_one_segment() {
        let mut congestion = Congestion::start(MSS, false, Seq(0));
        congestion.timed_out(10_000, Seq(10_000), MSS, true);
        assert_eq!((congestion.cwnd, congestion.ssthresh), (MSS, 5 * MSS));
        assert!(!(0..5).any(|_| congestion.duplicate(1000, Seq(0), Seq(10_000), MSS)), "no recovery before `recover`");
    }
}
