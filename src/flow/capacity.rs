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

/// How many places TIME-WAIT has, of all shards together and less those that other connections take, and what becomes of a connection
/// that finds none (B46).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Places {
    /// As many as are needed.
    #[default]
    Enough,
    /// So many, and opens are refused without one: a connection holds its place from its open on.
    RefuseOpen(u32),
    /// So many, and the oldest record makes room: its 4-tuple may be drawn again before its time.
    EvictOldest(u32),
    /// So many, and who finds none is CLOSED at once: its 4-tuple may be drawn again.
    Skip(u32),
}

/// What a set of 4-tuples carries.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Capacity {
    /// 4-tuples of use: where opens are refused without a place in TIME-WAIT no more than there are places.
    pub tuples: u64,
    /// How long a connection holds one, ms, where it finds a place in TIME-WAIT.
    pub held_ms: u32,
    /// The highest rate that lasts, evenly spread, connections per second; `None` if ports do not bound it.
    pub connections_per_second: Option<f64>,
}

/// 4-tuples of `sources` local addresses, `destinations` remote ends and `ports` local ports. Each pair of a local address and a remote
/// end takes a record, of which a shard has `destinations_max`: no more pairs have ports in use or in TIME-WAIT at a time. Each shard has its
/// own ports of every pair, so that this is so however many shards there are.
pub fn tuples((sources, destinations, ports): (u32, u32, u32), destinations_max: u32) -> u64 {
    let pairs = u64::from(sources) * u64::from(destinations);
    pairs.min(destinations_max.into()).saturating_mul(ports.into())
}

/// The capacity of so many 4-tuples, see [`tuples`], where this end closes first.
/// `life_ms` is how long a connection lives before it closes; over a short path it hardly counts, unless there are too few places and
/// opens are not refused: then 4-tuples without a record move as fast as connections live.
pub fn capacity(tuples: u64, places: Places, reuse: Reuse, two_msl_ms: u32, life_ms: u32) -> Capacity {
    let waits_ms = match reuse {
        Reuse::After2Msl => two_msl_ms,
        Reuse::AfterDelay(delay_ms) => delay_ms.min(two_msl_ms),
        Reuse::AtOnce => 0,
    };
    let held_ms = waits_ms.saturating_add(life_ms);
    let keeps = reuse != Reuse::AtOnce;
    let (tuples, moving, each_ms) = match places {
        // The next connection of a 4-tuple takes its place over: of more 4-tuples than places only as many are of use.
        Places::RefuseOpen(places) if keeps => (tuples.min(places.into()), tuples.min(places.into()), held_ms),
        // With all 4-tuples in use more of them would wait than there are places: those without one only live.
        Places::EvictOldest(places) | Places::Skip(places) if waiting(tuples, waits_ms, held_ms) > places.into() => {
            (tuples, tuples - u64::from(places), life_ms)
        }
        _ => (tuples, tuples, held_ms),
    };
    let connections_per_second = match (moving, each_ms) {
        (0, _) => Some(0.0),
        (_, 0) => None,
        _ => Some(moving as f64 * 1000.0 / f64::from(each_ms)),
    };
    Capacity { tuples, held_ms, connections_per_second }
}

impl Capacity {
    /// How long a rate lasts from a start without TIME-WAIT, s; `None` if it lasts for ever.
    pub fn seconds_until_exhausted_at(&self, connections_per_second: f64) -> Option<f64> {
        let most = self.connections_per_second?;
        let lasts = connections_per_second <= most || connections_per_second.is_nan();
        (!lasts).then(|| self.tuples as f64 / connections_per_second)
    }
}

/// Of `tuples` that are each held for `held_ms`, those that are in the part of it that waits.
fn waiting(tuples: u64, waits_ms: u32, held_ms: u32) -> u64 {
    (u128::from(tuples) * u128::from(waits_ms)).checked_div(held_ms.into()).unwrap_or(0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of one source and destination and `ports` ports, with a 2MSL of a minute.
    fn of(ports: u32, places: Places, reuse: Reuse, life_ms: u32) -> Option<f64> {
        capacity(tuples((1, 1, ports), 1), places, reuse, 60_000, life_ms).connections_per_second
    }

    #[test]
    fn one_source_and_destination_carry_470_per_second_as_on_linux() {
        let linux = capacity(tuples((1, 1, 28_232), 4096), Places::Enough, Reuse::After2Msl, 60_000, 0);
        assert!(linux.connections_per_second.is_some_and(|rate| (rate - 470.5).abs() < 0.1));
        assert_eq!(linux.seconds_until_exhausted_at(470.0), None);
        assert_eq!(linux.seconds_until_exhausted_at(28_232.0), Some(1.0));
    }

    #[test]
    fn a_million_per_second_take_60_million_tuples() {
        let many = capacity(tuples((100, 10, 64_512), 4096), Places::Enough, Reuse::After2Msl, 60_000, 0);
        assert!(many.connections_per_second.is_some_and(|rate| rate > 1e6));
    }

    #[test]
    fn pairs_without_a_record_of_a_destination_carry_nothing() {
        assert_eq!(tuples((100, 10_000, 64_512), 4096), 4096 * 64_512);
        assert_eq!(tuples((100, 10_000, 64_512), 1_000_000), 64_512_000_000);
        assert_eq!(tuples((100, 10_000, 64_512), 0), 0);
        assert_eq!(tuples((u32::MAX, u32::MAX, u32::MAX), u32::MAX), u64::from(u32::MAX) * u64::from(u32::MAX));
    }

    #[test]
    fn reuse_never_waits_longer_than_2msl_and_life_counts() {
        let strict = of(1000, Places::Enough, Reuse::After2Msl, 0);
        assert_eq!(of(1000, Places::Enough, Reuse::AfterDelay(90_000), 0), strict);
        assert_eq!(of(1000, Places::Enough, Reuse::AfterDelay(1000), 0), Some(1000.0));
        assert_eq!(of(1000, Places::Enough, Reuse::AfterDelay(1000), 1000), Some(500.0));
    }

    #[test]
    fn nothing_and_too_much_are_told_by_type() {
        let none = capacity(0, Places::Enough, Reuse::After2Msl, 60_000, 0);
        assert_eq!((none.connections_per_second, none.seconds_until_exhausted_at(1.0)), (Some(0.0), Some(0.0)));
        let at_once = capacity(1, Places::Enough, Reuse::AfterDelay(0), 60_000, 0);
        assert_eq!((at_once.connections_per_second, at_once.seconds_until_exhausted_at(1e12)), (None, None));
        assert_eq!(at_once.seconds_until_exhausted_at(f64::NAN), None);
        let most = capacity(u64::MAX, Places::Skip(u32::MAX), Reuse::After2Msl, u32::MAX, u32::MAX);
        assert_eq!(most.tuples, u64::MAX);
    }

    #[test]
    fn places_in_time_wait_are_a_ceiling_where_opens_are_refused_without_one() {
        let rate = |places, reuse| of(28_232, Places::RefuseOpen(places), reuse, 0);
        assert_eq!(rate(6000, Reuse::After2Msl), Some(100.0));
        assert_eq!(rate(6000, Reuse::AfterDelay(1000)), Some(6000.0));
        assert_eq!(rate(100_000, Reuse::After2Msl), of(28_232, Places::Enough, Reuse::After2Msl, 0));
        assert_eq!((rate(0, Reuse::After2Msl), rate(0, Reuse::AtOnce)), (Some(0.0), None));
    }

    #[test]
    fn where_room_is_made_ports_without_a_record_move_as_fast_as_connections_live() {
        for with in [Places::EvictOldest, Places::Skip] {
            assert_eq!(of(240, with(80), Reuse::After2Msl, 0), None, "the other 160 never wait");
            assert_eq!(of(240, with(80), Reuse::After2Msl, 100), Some(1600.0));
            assert_eq!(of(240, with(240), Reuse::After2Msl, 0), Some(4.0), "all wait");
            assert_eq!(of(240, with(120), Reuse::After2Msl, 60_000), Some(2.0), "half live, half wait");
            assert_eq!(of(240, with(0), Reuse::After2Msl, 1000), Some(240.0));
            assert_eq!(of(240, with(0), Reuse::AtOnce, 0), None);
        }
    }
}
