//! Whether a backend is up, from the outcomes of its checks.

use std::fmt;
use std::time::Duration;

/// How a backend is checked: a connection is opened and closed again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct HealthCheck {
    /// From the begin of one check to the begin of the next.
    pub(super) interval: Duration,
    /// How long the handshake may take.
    pub(super) timeout: Duration,
    /// Checks in a row that must succeed before a backend that is down is up.
    pub(super) rise: u32,
    /// Checks in a row that must fail before a backend that is up is down.
    pub(super) fall: u32,
}

impl Default for HealthCheck {
    /// Interval, rise and fall as HAProxy has them.
    fn default() -> HealthCheck {
        HealthCheck { interval: Duration::from_secs(2), timeout: Duration::from_secs(1), rise: 2, fall: 3 }
    }
}

impl fmt::Display for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HealthCheck { interval, timeout, rise, fall } = self;
        write!(f, "every {interval:?} within {timeout:?}, rise {rise}, fall {fall}")
    }
}

/// What is known of a backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Health {
    up: bool,
    /// Outcomes in a row that speak against `up`.
    against: u32,
    /// No check has ended yet.
    is_new: bool,
}

impl Health {
    /// Before the first check a backend is up; the first check alone may take it out.
    pub(super) const NEW: Health = Health { up: true, against: 0, is_new: true };

    /// A check has ended; returns whether the backend is up, if that has changed.
    pub(super) fn checked(&mut self, succeeded: bool, check: &HealthCheck) -> Option<bool> {
        let was_new = std::mem::replace(&mut self.is_new, false);
        if succeeded == self.up {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let enough = if self.up { check.fall } else { check.rise };
        if self.against < enough && !was_new {
            return None;
        }
        *self = Health { up: succeeded, against: 0, is_new: false };
        Some(succeeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: HealthCheck =
        HealthCheck { interval: Duration::from_secs(1), timeout: Duration::from_secs(1), rise: 2, fall: 3 };

    fn outcomes(outcomes: &str) -> String {
        let mut health = Health::NEW;
        outcomes
            .chars()
            .map(|outcome| match health.checked(outcome == '+', &CHECK) {
                None => '.',
                Some(true) => 'U',
                Some(false) => 'D',
            })
            .collect()
    }

    #[test]
    fn falls_after_fall_failures_in_a_row_and_rises_after_rise_successes() {
        assert_eq!(outcomes("+---++"), "...D.U");
        assert_eq!(outcomes("+--+--+---"), ".........D");
        assert_eq!(outcomes("+---+-+-++"), "...D.....U");
        assert_eq!(outcomes("+---------"), "...D......");
    }

    #[test]
    fn first_check_alone_takes_a_backend_out_that_was_never_seen() {
        assert_eq!(outcomes("-++---"), "D.U..D");
        assert_eq!(outcomes("+-"), "..");
    }
}
