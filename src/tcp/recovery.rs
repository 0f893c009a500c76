//! NewReno loss recovery (RFC 6582): duplicate ACKs start it, partial acknowledgments resend, "recover" ends it.

use super::congestion::{Conditions, Congestion};
use crate::seq::Seq;

/// Loss recovery of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// Recovery ends when this is acknowledged (RFC 6582 "recover").
    recover: Seq,
    /// Duplicate ACKs in a row.
    pub duplicates: u8,
    /// Fast recovery is on.
    pub recovering: bool,
}

impl Recovery {
    /// The state after the handshake.
    pub fn start(snd_una: Seq) -> Recovery {
        Recovery { recover: snd_una, ..Recovery::default() }
    }

    /// `acked` octets of new data were acknowledged up to `snd_una`. Returns whether the first unacknowledged segment
    /// must be resent at once (a partial acknowledgment during recovery, RFC 6582 3.2 step 3).
    pub fn acknowledged(&mut self, window: &mut Congestion, acked: u32, snd_una: Seq, conditions: &Conditions) -> bool {
        let &Conditions { mss, flight, .. } = conditions;
        self.duplicates = 0;
        if !self.recovering {
            // Keeps "recover" from falling half the sequence space behind on a connection without losses.
            self.recover = self.recover.max(snd_una);
            window.acknowledged(acked, conditions);
            return false;
        }
        if snd_una.ge(self.recover) {
            self.recovering = false;
            self.recover = snd_una;
            window.cwnd = window.ssthresh.min(flight.max(mss).saturating_add(mss));
            return false;
        }
        window.cwnd = window.cwnd.saturating_sub(acked).saturating_add(mss).max(mss);
        true
    }

    /// A duplicate ACK (RFC 5681 2). Returns whether to fast-retransmit now (the third in a row).
    pub fn duplicate(&mut self, window: &mut Congestion, snd_una: Seq, snd_nxt: Seq, conditions: &Conditions) -> bool {
        self.duplicates = self.duplicates.saturating_add(1);
        if self.recovering {
            window.cwnd = window.cwnd.saturating_add(conditions.mss);
            return false;
        }
        // RFC 6582 3.2 step 2: after a time-out no new recovery for what was sent before it.
        if self.duplicates != 3 || snd_una.lt(self.recover) {
            return false;
        }
        window.reduce(conditions);
        window.cwnd += 3 * conditions.mss;
        self.recover = snd_nxt;
        self.recovering = true;
        true
    }

    /// The retransmission timer expired: recovery ends, and none begins for what was sent before `snd_nxt`.
    pub fn timed_out(&mut self, snd_nxt: Seq) {
        *self = Recovery::start(snd_nxt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::congestion::CongestionControl;
    use crate::tick::Tick;

    const MSS: u32 = 1000;

    fn with_flight(flight: u32) -> Conditions {
        let algorithm = CongestionControl::Reno;
        Conditions { algorithm, mss: MSS, flight, limited: true, srtt_us: 0, now: Tick(1) }
    }

    /// Shows RFC 6582, RFC 2525 2.8.
    #[test]
    fn third_duplicate_halves_and_full_acknowledgment_ends_recovery() {
        let (mut window, mut recovery) = (Congestion::start(MSS, false), Recovery::start(Seq(0)));
        let (una, nxt, at) = (Seq(5000), Seq(15_000), with_flight(10_000));
        assert!(!recovery.duplicate(&mut window, una, nxt, &at));
        assert!(!recovery.duplicate(&mut window, una, nxt, &at));
        assert!(recovery.duplicate(&mut window, una, nxt, &at));
        assert_eq!((window.ssthresh, window.cwnd, recovery.recovering), (5000, 8000, true));
        assert!(recovery.acknowledged(&mut window, 1000, Seq(6000), &with_flight(9000)), "a partial one resends");
        assert!(!recovery.acknowledged(&mut window, 9000, nxt, &with_flight(0)));
        assert!(!recovery.recovering && window.cwnd <= 5000);
    }

    #[test]
    fn no_recovery_starts_before_what_a_time_out_covered_is_acknowledged() {
        let (mut window, mut recovery) = (Congestion::start(MSS, false), Recovery::start(Seq(0)));
        let at = with_flight(1000);
        recovery.timed_out(Seq(10_000));
        assert!(!(0..5).any(|_| recovery.duplicate(&mut window, Seq(0), Seq(10_000), &at)));
        assert!(!recovery.acknowledged(&mut window, 10_000, Seq(10_000), &at));
        assert!((0..3).any(|_| recovery.duplicate(&mut window, Seq(10_000), Seq(20_000), &at)));
    }
}
