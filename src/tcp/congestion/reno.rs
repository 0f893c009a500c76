//! Reno's congestion avoidance (RFC 5681 3.1): one segment per window, half at a loss.

use super::{Algorithm, Conditions, Congestion};

/// RFC 5681.
pub(super) enum Reno {}

impl Algorithm for Reno {
    #[inline(never)]
    fn avoid(window: &mut Congestion, acked: u32, conditions: &Conditions) {
        window.acked = window.acked.saturating_add(acked);
        if window.acked >= window.cwnd {
            window.acked -= window.cwnd;
            window.cwnd = window.cwnd.saturating_add(conditions.mss);
        }
    }

    fn reduced(_window: &mut Congestion, conditions: &Conditions) -> u32 {
        (conditions.flight / 2).max(2 * conditions.mss)
    }

    fn unused(_window: &mut Congestion) {}
}
