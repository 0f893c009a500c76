//! Samples of both ends put on one axis, and what they say of how busy the ends were.

use super::result::{Busy, Moment, Run};
use super::rounds::Round;
use crate::lines::{Final, Sample};

/// A round over time. `tuples` is how many 4-tuples there are.
pub(crate) fn run(number: u32, round: &Round, tuples: u64) -> Run {
    let (client, server) = (&round.client.samples, &round.server.samples);
    let started_ms = client.first().map_or(0, |sample| sample.at_ms);
    let moment = |pair: &[Sample]| {
        let (before, now) = (pair[0], pair[1]);
        let seconds = (now.at_ms.saturating_sub(before.at_ms).max(1)) as f64 / 1000.0;
        let beside = at(server, now.at_ms);
        let time_wait = now.time_wait + beside.time_wait;
        Moment {
            t: now.at_ms.saturating_sub(started_ms) as f64 / 1000.0,
            cps: (now.completed - before.completed) as f64 / seconds,
            failed: (now.failed - before.failed) as f64 / seconds,
            time_wait,
            free_ports: tuples.saturating_sub(time_wait + now.in_use),
            rss: (now.rss, beside.rss),
        }
    };
    let series = client.windows(2).map(moment).collect();
    let window = round.client.window_ms.map(|ms| started_ms + ms);
    Run {
        round: number,
        series,
        busy: Busy { client: busy(&round.client, window), server: busy(&round.server, window) },
    }
}

/// The last sample at or before a time; zeros before the first.
fn at(samples: &[Sample], at_ms: u64) -> Sample {
    let after = samples.partition_point(|sample| sample.at_ms <= at_ms);
    after.checked_sub(1).map(|place| samples[place]).unwrap_or_default()
}

/// The part of the window that an end was busy; of a window without two samples nothing is known, and it is 0.
fn busy(end: &Final, [begin_ms, end_ms]: [u64; 2]) -> f64 {
    let within = |sample: &&Sample| (begin_ms..=end_ms).contains(&sample.at_ms);
    let mut samples = end.samples.iter().filter(within);
    let (Some(first), Some(last)) = (samples.next(), samples.next_back()) else { return 0.0 };
    let took_us = 1000 * last.at_ms.saturating_sub(first.at_ms);
    if took_us == 0 { 0.0 } else { (last.busy_us.saturating_sub(first.busy_us) as f64 / took_us as f64).min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: u64, completed: u64, time_wait: u64, busy_us: u64) -> Sample {
        Sample { at_ms, completed, time_wait, in_use: 5, busy_us, ..Sample::default() }
    }

    #[test]
    fn both_ends_are_put_on_the_clients_axis() {
        let client = Final {
            samples: vec![sample(1000, 0, 0, 0), sample(1100, 10, 10, 50_000), sample(1200, 40, 40, 150_000)],
            window_ms: [100, 200],
            ..Final::default()
        };
        let server = Final { samples: vec![sample(950, 0, 0, 0), sample(1150, 0, 7, 0)], ..Final::default() };
        let round = Round { client, server, mode: None, time_wait_bytes: None };
        let run = run(1, &round, 100);
        let seen: Vec<_> = run.series.iter().map(|at| (at.t, at.cps, at.time_wait, at.free_ports)).collect();
        assert_eq!(seen, [(0.1, 100.0, 10, 85), (0.2, 300.0, 47, 48)]);
        assert_eq!(run.busy, Busy { client: 1.0, server: 0.0 });
    }
}
