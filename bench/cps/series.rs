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
    let window = window_of(round);
    Run {
        round: number,
        series,
        busy: Busy {
            client: busy(&round.client, window).unwrap_or(0.0),
            server: busy(&round.server, window).unwrap_or(0.0),
        },
    }
}

/// The part of the window that the client and the server were busy, where it is known.
pub(crate) fn busy_ends(round: &Round) -> [Option<f64>; 2] {
    [&round.client, &round.server].map(|end| busy(end, window_of(round)))
}

/// Begin and end of the measured window, ms since 1970.
fn window_of(round: &Round) -> [u64; 2] {
    let started_ms = round.client.samples.first().map_or(0, |sample| sample.at_ms);
    round.client.window_ms.map(|ms| started_ms + ms)
}

/// The last sample at or before a time; zeros before the first.
fn at(samples: &[Sample], at_ms: u64) -> Sample {
    let after = samples.partition_point(|sample| sample.at_ms <= at_ms);
    after.checked_sub(1).map(|place| samples[place]).unwrap_or_default()
}

/// The part of the window that an end was busy; of a window without two samples nothing is known.
fn busy(end: &Final, [begin_ms, end_ms]: [u64; 2]) -> Option<f64> {
    let within = |sample: &&Sample| (begin_ms..=end_ms).contains(&sample.at_ms);
    let mut samples = end.samples.iter().filter(within);
    let (first, last) = (samples.next()?, samples.next_back()?);
    let took_us = 1000 * last.at_ms.saturating_sub(first.at_ms);
    let busy_us = last.busy_us.saturating_sub(first.busy_us);
    (took_us > 0).then(|| (busy_us as f64 / took_us as f64).min(1.0))
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
        assert_eq!(busy_ends(&round), [Some(1.0), None], "of the server there is one sample in the window");
    }
}
