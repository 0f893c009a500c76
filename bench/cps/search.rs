//! `--rate find`: the highest rate at which nothing fails and nobody waits long.

use super::args::CpsArgs;
use super::live::Live;
use super::result::RateStep;
use super::rounds::{Bench, Spec, Stack};
use crate::failure::Failure;
use crate::policy::Tw;

/// Steps in the order they went: the closed loop first, whose rate is the upper end, then halves of what is left.
pub(crate) fn search(bench: &Bench<'_>, args: &CpsArgs, tw: Tw, live: &mut Live) -> Result<Vec<RateStep>, Failure> {
    let plain = Spec::new(args, bench.plan, tw);
    let mut step = |rate: f64| -> Result<RateStep, Failure> {
        live.doing(
            format!("search at {}", if rate > 0.0 { format!("{rate:.0}/s") } else { "full load".into() }),
            "connections/s",
        );
        let round = bench.round(Stack::Synfin, &Spec { rate, ..plain.clone() }, live)?;
        let achieved = round.connections_per_second();
        let p99_us = round.client.connect_latency_us.map_or(f64::INFINITY, |latency| latency.p99);
        let errors = round.errors_total() + round.refused();
        let kept_up = rate > 0.0 && achieved >= KEPT_UP * rate;
        Ok(RateStep { rate, achieved, p99_us, errors, clean: kept_up && errors == 0 && p99_us <= P99_MAX_US })
    };
    let closed = step(0.0)?;
    let (mut low, mut high) = (0.0, 1.1 * closed.achieved);
    let mut steps = vec![closed];
    for _ in 0..STEPS {
        let rate = (low + high) / 2.0;
        let mut clean = false;
        for _ in 0..TRIES_MAX {
            let tried = step(rate)?;
            clean = tried.clean;
            steps.push(tried);
            if clean {
                break;
            }
        }
        if clean { low = rate } else { high = rate }
    }
    Ok(steps)
}

/// The highest clean one.
pub(crate) fn best(steps: &[RateStep]) -> Option<&RateStep> {
    steps.iter().filter(|step| step.clean).max_by(|a, b| a.rate.total_cmp(&b.rate))
}

/// Halvings: the last is a hundredth of the first.
const STEPS: usize = 7;
/// A rate is given up when it was not clean this often in a row: where the host takes the processor away for a few ms, every
/// connection of these ms waits, at any rate.
const TRIES_MAX: u32 = 3;
/// Share of the rate that counts as all of it: the edges of the window cut a few.
const KEPT_UP: f64 = 0.995;
/// Longest 99th percentile of the connect latency that is called clean, us.
const P99_MAX_US: f64 = 10_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_is_the_highest_clean_rate() {
        let step = |rate, clean| RateStep { rate, clean, ..RateStep::default() };
        let steps = [step(0.0, false), step(100.0, true), step(150.0, false), step(125.0, true)];
        assert_eq!(best(&steps).map(|step| step.rate), Some(125.0));
        assert_eq!(best(&steps[..1]), None);
    }
}
