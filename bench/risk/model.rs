//! What should come out, by arithmetic alone: how many 4-tuples there are, how long they last, and how they come back.

use serde::{Serialize, Serializer};
use std::collections::VecDeque;
use synfin::flow::capacity::{Places, Reuse, capacity};
use synfin::tcp::time_wait::{Full, Policy};

/// What opens meet.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Supply {
    /// 4-tuples: ports x source addresses x destinations, of as many pairs of the latter as have records.
    pub tuples: u64,
    /// How long a 4-tuple stays in TIME-WAIT, s.
    pub two_msl_s: f64,
    /// How long it stays out of use at least where reuse is allowed, s.
    pub delay_s: f64,
    /// Opens tried per second.
    pub rate: f64,
    /// Places in TIME-WAIT; `null` are enough.
    pub time_wait_places: Option<u32>,
    /// What becomes of who finds none.
    #[serde(serialize_with = "name")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub time_wait_full: Full,
}

fn name<S: Serializer>(full: &Full, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(full.name())
}

/// What follows from it for one policy.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Prediction {
    pub policy: &'static str,
    /// How long a closed connection's 4-tuple cannot be opened, s.
    pub held_s: f64,
    /// Connections per second on average at most: tuples / held; `null` where 4-tuples do not bound it.
    pub ceiling: Option<f64>,
    /// When the last tuple is taken at `rate`; `None` if they come back in time.
    pub exhausted_after_s: Option<f64>,
    /// When the first is free again after that. Until then every open is refused.
    pub free_again_at_s: Option<f64>,
    /// TIME-WAIT entries at most.
    pub time_wait_max: f64,
}

impl Supply {
    /// What this policy makes of it. Without timestamps an active open may reuse nothing: then all but `none` are `strict`.
    pub(crate) fn predict(&self, policy: Policy) -> Prediction {
        let capacity = capacity(self.tuples, self.places(), self.reuse(policy), ms(self.two_msl_s), 0);
        let exhausted_after_s = capacity.seconds_until_exhausted_at(self.rate);
        let held_s = f64::from(capacity.held_ms) / 1000.0;
        let in_time_wait = if policy == Policy::None { 0.0 } else { self.rate * self.two_msl_s };
        Prediction {
            policy: policy.name(),
            held_s,
            ceiling: capacity.connections_per_second,
            exhausted_after_s,
            free_again_at_s: exhausted_after_s.map(|_| held_s),
            time_wait_max: in_time_wait
                .min(capacity.tuples as f64)
                .min(self.time_wait_places.map_or(f64::MAX, f64::from)),
        }
    }

    fn places(&self) -> Places {
        match (self.time_wait_places, self.time_wait_full) {
            (None, _) => Places::Enough,
            (Some(places), Full::RefuseOpen) => Places::RefuseOpen(places),
            (Some(places), Full::EvictOldest) => Places::EvictOldest(places),
            (Some(places), Full::Skip) => Places::Skip(places),
        }
    }

    fn reuse(&self, policy: Policy) -> Reuse {
        match policy {
            Policy::Strict => Reuse::After2Msl,
            Policy::Timestamp | Policy::TimestampOrSequence => Reuse::AfterDelay(ms(self.delay_s)),
            Policy::None => Reuse::AtOnce,
        }
    }

    /// Connections opened in each part of a second, of `parts` each, while the policies follow one another, each for so
    /// many seconds.
    pub(crate) fn series(&self, phases: &[(Policy, u32)], parts: u32) -> Vec<f64> {
        let mut ports = Ports { fresh: self.tuples as f64, closed: VecDeque::new() };
        let (steps, wanted) = (STEPS / parts, self.rate / f64::from(STEPS));
        let parts_of = |&(policy, seconds): &(Policy, u32)| (0..seconds * parts).map(move |_| policy);
        let in_part = |(part, policy): (usize, Policy)| {
            let first = part as u32 * steps;
            let held_s = self.predict(policy).held_s;
            (first..first + steps).map(|step| ports.open(f64::from(step) / f64::from(STEPS), wanted, held_s)).sum()
        };
        phases.iter().flat_map(parts_of).enumerate().map(in_part).collect()
    }
}

fn ms(seconds: f64) -> u32 {
    (seconds * 1000.0).round() as u32
}

/// 4-tuples as an amount that flows.
struct Ports {
    /// Those that were never used.
    fresh: f64,
    /// When and how many were closed, the first ones first.
    closed: VecDeque<(f64, f64)>,
}

impl Ports {
    /// Opens as much of `wanted` at `now` as has been closed for `held_s`; all of it closes at once.
    fn open(&mut self, now: f64, wanted: f64, held_s: f64) -> f64 {
        if held_s == 0.0 {
            return wanted;
        }
        let mut opened = wanted.min(self.fresh);
        self.fresh -= opened;
        while opened < wanted
            && let Some((at, count)) = self.closed.front_mut()
            && now - *at >= held_s
        {
            let taken = count.min(wanted - opened);
            opened += taken;
            *count -= taken;
            if *count <= 0.0 {
                self.closed.pop_front();
            }
        }
        if opened > 0.0 {
            self.closed.push_back((now, opened));
        }
        opened
    }
}

/// Steps of the series in a second; a multiple of the parts that are asked for.
const STEPS: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Supply = Supply {
        tuples: 28_232,
        two_msl_s: 60.0,
        delay_s: 1.0,
        rate: 200_000.0,
        time_wait_places: None,
        time_wait_full: Full::RefuseOpen,
    };

    #[test]
    fn one_pair_of_addresses_carries_470_connections_per_second() {
        let strict = PAIR.predict(Policy::Strict);
        assert!((strict.ceiling.expect("there is one") - 470.5).abs() < 0.1);
        assert!((strict.exhausted_after_s.expect("runs out") - 0.141).abs() < 0.001);
        assert_eq!((strict.free_again_at_s, strict.time_wait_max), (Some(60.0), 28_232.0));
        let timestamp = PAIR.predict(Policy::Timestamp);
        assert_eq!((timestamp.ceiling, timestamp.free_again_at_s), (Some(28_232.0), Some(1.0)));
        assert_eq!(PAIR.predict(Policy::None).exhausted_after_s, None);
    }

    #[test]
    fn too_few_places_are_a_ceiling_or_none_as_the_policy_for_a_full_store_says() {
        let with =
            |time_wait_full| Supply { time_wait_places: Some(6000), time_wait_full, ..PAIR }.predict(Policy::Strict);
        let refuses = with(Full::RefuseOpen);
        assert_eq!((refuses.ceiling, refuses.time_wait_max), (Some(100.0), 6000.0));
        for makes_room in [with(Full::EvictOldest), with(Full::Skip)] {
            assert_eq!(
                (makes_room.ceiling, makes_room.exhausted_after_s, makes_room.time_wait_max),
                (None, None, 6000.0)
            );
        }
    }

    #[test]
    fn a_series_collapses_stays_empty_and_comes_back() {
        let supply = Supply { tuples: 5000, two_msl_s: 10.0, delay_s: 1.0, rate: 1000.0, ..PAIR };
        let series = supply.series(&[(Policy::Strict, 12), (Policy::Timestamp, 3)], 1);
        let rounded: Vec<u64> = series.iter().map(|opened| opened.round() as u64).collect();
        assert_eq!(rounded, [1000, 1000, 1000, 1000, 1000, 0, 0, 0, 0, 0, 1000, 1000, 1000, 1000, 1000]);
        assert_eq!(supply.series(&[(Policy::None, 2), (Policy::Strict, 1)], 1), [1000.0, 1000.0, 1000.0]);
        let tenths = supply.series(&[(Policy::Strict, 6)], 10);
        assert!((tenths.len(), tenths[49].round(), tenths[50].round()) == (60, 100.0, 0.0), "{tenths:?}");
    }
}
