//! The result of a run, for `--json` and for people.

use super::{Direction, Round};
use crate::cps::machine::Machine;
use crate::cps::statistics::{Spread, ratio};
use crate::lines::{added, named};
use crate::waited;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Everything that was measured. Numbers are medians of the rounds unless they say otherwise.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Report {
    /// Version of this layout.
    pub schema_version: u32,
    /// Where.
    pub machine: Machine,
    /// The XDP mode that the binds really got; `null` when nothing was bound.
    pub mode: Option<String>,
    /// The options, defaults filled in.
    pub flags: Flags,
    /// Each direction that was run.
    pub directions: Vec<DirectionReport>,
}

/// The options of the run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Flags {
    /// Measured window of a round, s.
    pub seconds: f64,
    /// Time before the window, s.
    pub warmup_s: f64,
    /// Rounds.
    pub rounds: u32,
    /// The XDP mode asked for.
    pub mode: String,
    /// CPUs of sender and receiver.
    pub cpus: (usize, usize),
}

/// One direction.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct DirectionReport {
    /// Who sends to whom.
    pub direction: Direction,
    /// Octets of the stream, 10^6 bit/s.
    pub mbit_per_second: Spread,
    /// The same, round by round.
    pub mbit_per_second_rounds: Vec<f64>,
    /// To kernel -> kernel, ratio of medians; `null` where that was not run, and where a kernel sends with GSO.
    pub to_kernel: Option<f64>,
    /// To kernel -> kernel with GSO; `null` where that was not run, and where a kernel sends without.
    pub to_kernel_gso: Option<f64>,
    /// Frames both ways per megabyte of the stream, at the sender's interface.
    pub frames_per_megabyte: f64,
    /// Errors of both ends, all rounds.
    pub errors: u64,
    /// Counters of both ends, all rounds.
    pub counters: BTreeMap<String, u64>,
}

impl Report {
    /// The rounds taken together.
    pub(crate) fn new(machine: Machine, flags: Flags, rounds: &[Round]) -> Report {
        let mut order: Vec<Direction> = rounds.iter().map(|round| round.direction).collect();
        order.sort();
        order.dedup();
        let of = |direction| rounds.iter().filter(move |round| round.direction == direction);
        let baselines = [Direction::KernelKernel, Direction::KernelKernelGso]
            .map(|baseline| Spread::of(of(baseline).map(mbit)).map(|spread| spread.median));
        let directions =
            order.into_iter().map(|direction| DirectionReport::new(direction, of(direction).collect(), baselines));
        let directions = directions.collect();
        let mode = rounds.iter().find_map(|round| round.mode.clone());
        Report { schema_version: SCHEMA_VERSION, machine, mode, flags, directions }
    }

    /// Errors of all rounds.
    pub(crate) fn errors_total(&self) -> u64 {
        self.directions.iter().map(|direction| direction.errors).sum()
    }

    /// The table.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let (flags, mode) = (&self.flags, self.mode.as_deref().unwrap_or("no XDP"));
        let _ = writeln!(
            out,
            "one stream, MTU 1500, offloads off (but GSO where named), CPUs {} and {}, {mode}; \
             median (min..max) of {} rounds of {} s",
            flags.cpus.0, flags.cpus.1, flags.rounds, flags.seconds
        );
        let columns = ["Mbit/s", "to kernel", "to GSO", "frames/MB", "errors"];
        let [rate, to_kernel, to_gso, frames, errors] = columns;
        let _ = writeln!(out, "{:<23}{rate:>24}{to_kernel:>11}{to_gso:>8}{frames:>11}{errors:>8}", "");
        for direction in &self.directions {
            let Spread { median, min, max } = direction.mbit_per_second;
            let rate = format!("{median:.0} ({min:.0}..{max:.0})");
            let [to_kernel, to_gso] = [direction.to_kernel, direction.to_kernel_gso]
                .map(|ratio| ratio.map_or_else(|| "-".to_string(), |ratio| format!("{ratio:.2}")));
            let (name, frames, errors) = (direction.direction.text(), direction.frames_per_megabyte, direction.errors);
            let _ = writeln!(out, "{name:<23}{rate:>24}{to_kernel:>11}{to_gso:>8}{frames:>11.0}{errors:>8}");
        }
        for direction in &self.directions {
            waited::warn(&mut out, &direction.direction.text(), &direction.counters);
        }
        out
    }
}

impl DirectionReport {
    fn new(direction: Direction, rounds: Vec<&Round>, baselines: [Option<f64>; 2]) -> DirectionReport {
        let each: Vec<f64> = rounds.iter().map(|round| mbit(round)).collect();
        let spread = Spread::of(each.iter().copied()).unwrap_or_default();
        let frames: u64 = rounds.iter().map(|round| round.sender.frames_total).sum();
        let bytes: u64 = rounds.iter().map(|round| round.receiver.bytes_total).sum();
        let ends = rounds.iter().flat_map(|round| [("sender", &round.sender), ("receiver", &round.receiver)]);
        DirectionReport {
            direction,
            mbit_per_second: spread,
            mbit_per_second_rounds: each,
            to_kernel: ratio(Some(spread.median), baselines[0]).filter(|_| direction.kernel_gso() != Some(true)),
            to_kernel_gso: ratio(Some(spread.median), baselines[1]).filter(|_| direction.kernel_gso() != Some(false)),
            frames_per_megabyte: frames as f64 / (bytes as f64 / 1e6).max(f64::MIN_POSITIVE),
            errors: rounds.iter().map(|round| errors(round)).sum(),
            counters: added(ends.flat_map(|(end, result)| named(end, &result.counters))),
        }
    }
}

/// Errors of both ends; bytes that were sent and did not arrive, or a window that never closed, are one.
fn errors(round: &Round) -> u64 {
    let whole = round.sender.bytes_total == round.receiver.bytes_total && round.receiver.seconds > 0.0;
    round.sender.errors_total() + round.receiver.errors_total() + u64::from(!whole)
}

fn mbit(round: &Round) -> f64 {
    round.receiver.bytes as f64 * 8.0 / 1e6 / round.receiver.seconds.max(f64::MIN_POSITIVE)
}

/// Raised when a field changes its meaning or goes.
const SCHEMA_VERSION: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Final;

    fn round(direction: Direction, megabytes: u64) -> Round {
        let bytes_total = 2 * megabytes * 1_000_000;
        let sender = Final { bytes_total, frames_total: 1400 * megabytes, ..Final::default() };
        let receiver = Final { bytes_total, bytes: megabytes * 1_000_000, seconds: 1.0, ..Final::default() };
        Round { direction, sender, receiver, mode: Some("skb copy".into()) }
    }

    fn report(rounds: &[Round]) -> Report {
        let flags = Flags { seconds: 1.0, warmup_s: 0.3, rounds: 1, mode: "auto".into(), cpus: (0, 1) };
        Report::new(Machine::read(), flags, rounds)
    }

    #[test]
    fn ratios_are_to_the_kernels_median() {
        let report = report(&[
            round(Direction::SynfinKernel, 90),
            round(Direction::KernelKernel, 100),
            round(Direction::KernelKernelGso, 160),
            round(Direction::SynfinKernel, 70),
        ]);
        let synfin = &report.directions[0];
        assert_eq!((synfin.mbit_per_second.median, synfin.to_kernel, synfin.errors), (640.0, Some(0.8), 0));
        let text = report.text();
        assert_eq!(synfin.to_kernel_gso, Some(0.5));
        assert!(text.contains("640 (560..720)") && text.contains("0.80") && text.contains("0.50"), "{text}");
    }

    #[test]
    fn a_kernel_that_sends_is_compared_with_one_that_segments_alike() {
        let all = [Direction::SynfinKernel, Direction::KernelSynfin, Direction::KernelSynfinGso]
            .into_iter()
            .chain([Direction::KernelKernel, Direction::KernelKernelGso]);
        let report = report(&all.map(|direction| round(direction, 100)).collect::<Vec<_>>());
        let compared =
            report.directions.iter().map(|one| [one.to_kernel, one.to_kernel_gso].map(|ratio| ratio.is_some()));
        let (both, without, with) = ([true, true], [true, false], [false, true]);
        assert_eq!(compared.collect::<Vec<_>>(), [both, without, with, without, with]);
    }

    #[test]
    fn lost_bytes_and_windows_that_never_closed_are_errors() {
        let mut lost = round(Direction::KernelSynfin, 5);
        lost.receiver.bytes_total -= 1;
        let mut short = round(Direction::KernelKernel, 5);
        short.receiver.seconds = 0.0;
        assert_eq!(report(&[lost, short]).errors_total(), 2);
    }
}
