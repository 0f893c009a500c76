//! How many connections per second a set of 4-tuples carries, before any is opened.
//!
//! Each connection that this end closes first holds its 4-tuple while it lives and then in TIME-WAIT. What leaves can only be
//! what was there: 4-tuples divided by the time that each is held, however fast the machine is (Little's law).

/// When a 4-tuple may be drawn again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    /// When its 2MSL is over.
    After2Msl,
    /// So long after its connection closed, ms, where the rules on timestamps and sequence numbers allow it (B45); at most 2MSL.
    AfterDelay(u32),
    /// At once: there is no TIME-WAIT.
    AtOnce,
}

/// What a set of 4-tuples carries.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Capacity {
    /// 4-tuples of use: sources x destinations x ports, but no more than there are places in TIME-WAIT.
    pub tuples: u64,
    /// How long a connection holds one, ms.
    pub held_ms: u32,
    /// The highest rate that lasts, connections per second.
    pub connections_per_second: f64,
}

/// The capacity of `sources` local addresses, `destinations` remote ends and `ports` local ports, where this end closes
/// first. `places` are those in TIME-WAIT where opens are refused without one: under `refuse-open` `time_wait_max` of all
/// shards together, less the connections that live.
/// `life_ms` is how long a connection lives before it closes; over a short path it hardly counts.
pub fn capacity(
    (sources, destinations, ports): (u32, u32, u32),
    places: Option<u32>,
    reuse: Reuse,
    two_msl_ms: u32,
    life_ms: u32,
) -> Capacity {
    let tuples = u64::from(sources).saturating_mul(u64::from(destinations)).saturating_mul(u64::from(ports));
    Capacity::of(tuples, places, reuse, two_msl_ms, life_ms)
}

impl Capacity {
    /// As [`capacity`], of so many 4-tuples. Each holds a place in TIME-WAIT at most, which its next connection takes over: of
    /// more 4-tuples than places only as many are of use.
    pub fn of(tuples: u64, places: Option<u32>, reuse: Reuse, two_msl_ms: u32, life_ms: u32) -> Capacity {
        let (waits_ms, places) = match reuse {
            Reuse::After2Msl => (two_msl_ms, places),
            Reuse::AfterDelay(delay_ms) => (delay_ms.min(two_msl_ms), places),
            Reuse::AtOnce => (0, None),
        };
        let tuples = places.map_or(tuples, |places| tuples.min(places.into()));
        let held_ms = waits_ms.saturating_add(life_ms);
        let connections_per_second = match (tuples, held_ms) {
            (0, _) => 0.0,
            (_, 0) => f64::INFINITY,
            _ => tuples as f64 * 1000.0 / f64::from(held_ms),
        };
        Capacity { tuples, held_ms, connections_per_second }
    }

    /// How long a rate lasts from a start without TIME-WAIT, s; `None` if it lasts for ever.
    pub fn seconds_until_exhausted_at(&self, connections_per_second: f64) -> Option<f64> {
        let lasts = connections_per_second <= self.connections_per_second || connections_per_second.is_nan();
        (!lasts).then(|| self.tuples as f64 / connections_per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_and_destination_carry_470_per_second_as_on_linux() {
        let linux = capacity((1, 1, 28_232), None, Reuse::After2Msl, 60_000, 0);
        assert!((linux.connections_per_second - 470.5).abs() < 0.1);
        assert_eq!(linux.seconds_until_exhausted_at(470.0), None);
        assert_eq!(linux.seconds_until_exhausted_at(28_232.0), Some(1.0));
    }

    #[test]
    fn a_million_per_second_take_60_million_tuples() {
        let many = capacity((100, 10, 64_512), None, Reuse::After2Msl, 60_000, 0);
        assert!(many.connections_per_second > 1e6);
        assert_eq!(capacity((100, 10_000, 64_512), None, Reuse::After2Msl, 60_000, 0).tuples, 64_512_000_000);
    }

    #[test]
    fn reuse_never_waits_longer_than_2msl_and_life_counts() {
        let strict = capacity((1, 1, 1000), None, Reuse::After2Msl, 60_000, 0);
        assert_eq!(capacity((1, 1, 1000), None, Reuse::AfterDelay(90_000), 60_000, 0), strict);
        assert_eq!(capacity((1, 1, 1000), None, Reuse::AfterDelay(1000), 60_000, 0).connections_per_second, 1000.0);
        assert_eq!(capacity((1, 1, 1000), None, Reuse::AfterDelay(1000), 60_000, 1000).connections_per_second, 500.0);
    }

    #[test]
    fn nothing_and_too_much_are_numbers() {
        let none = capacity((0, 10, 10), None, Reuse::After2Msl, 60_000, 0);
        assert_eq!((none.connections_per_second, none.seconds_until_exhausted_at(1.0)), (0.0, Some(0.0)));
        let at_once = capacity((1, 1, 1), None, Reuse::AfterDelay(0), 60_000, 0);
        assert_eq!(at_once.seconds_until_exhausted_at(1e12), None);
        assert_eq!(capacity((u32::MAX, u32::MAX, u32::MAX), None, Reuse::After2Msl, 1, 0).tuples, u64::MAX);
        assert_eq!(at_once.seconds_until_exhausted_at(f64::NAN), None);
    }

    #[test]
    fn places_in_time_wait_are_a_ceiling_where_opens_are_refused_without_one() {
        let of = |places, reuse| capacity((1, 1, 28_232), places, reuse, 60_000, 0).connections_per_second;
        assert_eq!(of(Some(6000), Reuse::After2Msl), 100.0);
        assert_eq!(of(Some(6000), Reuse::AfterDelay(1000)), 6000.0);
        assert_eq!(of(Some(100_000), Reuse::After2Msl), of(None, Reuse::After2Msl));
        assert_eq!((of(Some(0), Reuse::After2Msl), of(Some(0), Reuse::AtOnce)), (0.0, f64::INFINITY));
    }
}
