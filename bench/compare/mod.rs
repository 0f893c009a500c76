//! `synfin-bench compare`: two results side by side. What lies within the spread of their rounds is called no change.

pub(crate) mod condition;
mod statistics;

use crate::cps::report::{Report, StackReport};
use crate::failure::Failure;
use crate::lines::Latency;
use crate::{output, report};
use clap::Args;
use statistics::{Change, Ratio};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Options of `synfin-bench compare`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CompareArgs {
    /// The result before, written by `cps --json`
    #[arg(value_name = "A.json")]
    pub before: PathBuf,
    /// The result after
    #[arg(value_name = "B.json")]
    pub after: PathBuf,
}

/// Prints the comparison of two files.
pub(crate) fn run(before: &Path, after: &Path) -> Result<(), Failure> {
    let text = text(&report::read(before)?.0, &report::read(after)?.0);
    output::print(&text)
}

/// The comparison as text: what differed in how they were run, then a row per quantity.
fn text(before: &Report, after: &Report) -> String {
    let mut out = String::new();
    for difference in differences(before, after) {
        let _ = writeln!(out, "NOTE: not the same: {difference}");
    }
    let _ = writeln!(out, "{:<40}{:>14}{:>14}{:>9}  {:<20}", "mean of the rounds", "A", "B", "B/A", "95 %");
    let mut rows = 0;
    let of_before = quantities(before);
    for (name, values) in quantities(after) {
        let Some((_, earlier)) = of_before.iter().find(|(other, _)| *other == name) else { continue };
        let Some(ratio) = Ratio::of(earlier, &values) else { continue };
        let interval = ratio.interval.map_or("-".into(), |(low, high)| format!("{low:.3}..{high:.3}"));
        let change = match ratio.change() {
            Change::NotSignificant => "no significant change",
            Change::Higher => "higher",
            Change::Lower => "lower",
            Change::Unknown => "one round: no interval",
        };
        let means = [earlier, &values].map(|values| mean(values));
        let _ =
            writeln!(out, "{name:<40}{:>14.0}{:>14.0}{:>9.3}  {interval:<20}{change}", means[0], means[1], ratio.ratio);
        rows += 1;
    }
    if rows == 0 {
        let _ = writeln!(out, "the two results have nothing in common");
    }
    out
}

/// What each round gave, by the name of the quantity.
fn quantities(report: &Report) -> Vec<(String, Vec<f64>)> {
    let mut found = Vec::new();
    let mut stack = |name: &str, stack: &StackReport| {
        found.push((format!("{name}, connections/s"), stack.connections_per_second_rounds.clone()));
        let each = |of: fn(&Latency) -> f64| stack.connect_latency_us_rounds.iter().map(of).collect();
        found.push((format!("{name}, connect p50 us"), each(|latency| latency.p50)));
        found.push((format!("{name}, connect p99 us"), each(|latency| latency.p99)));
    };
    for (name, report) in [("synfin", &report.stacks.synfin), ("kernel", &report.stacks.kernel)] {
        if let Some(report) = report {
            stack(name, report);
        }
    }
    for policy in report.policies.iter().skip(1) {
        stack(&format!("synfin {}", policy.policy), &policy.stack);
    }
    if let Some(reuse) = &report.kernel_reuse {
        stack("kernel tw_reuse 1", reuse);
    }
    found
}

/// What makes the two hard to compare.
fn differences(before: &Report, after: &Report) -> Vec<String> {
    let plain = |report: &Report| {
        let machine = serde_json::to_value(&report.machine).unwrap_or_default();
        let flags = serde_json::to_value(&report.flags).unwrap_or_default();
        serde_json::json!({"machine": machine, "flags": flags, "mode": report.mode})
    };
    let (before, after) = (plain(before), plain(after));
    let mut found = Vec::new();
    differ("", &before, &after, &mut found);
    found
}

fn differ(path: &str, a: &serde_json::Value, b: &serde_json::Value, found: &mut Vec<String>) {
    match (a.as_object(), b.as_object()) {
        (Some(fields), Some(others)) => {
            for (name, value) in fields {
                let other = others.get(name).unwrap_or(&serde_json::Value::Null);
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                differ(&path, value, other, found);
            }
        }
        _ if a != b => found.push(format!("{path}: {a} and {b}")),
        _ => {}
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_result_is_no_change_from_itself() {
        let report = sample::full();
        let text = text(&report, &report);
        assert!(!text.contains("NOTE"), "{text}");
        assert_eq!(text.matches("no significant change").count(), 2, "{text}");
        assert!(text.contains("synfin, connections/s"), "{text}");
    }

    #[test]
    fn connect_latencies_of_rounds_are_compared_too() {
        let with = |p99: [f64; 3]| {
            let mut report = sample::full();
            let synfin = report.stacks.synfin.as_mut().expect("synfin was run");
            synfin.connect_latency_us_rounds =
                p99.map(|p99| Latency { p50: 500.0, p99, ..Latency::default() }).to_vec();
            report
        };
        let text = text(&with([800.0, 810.0, 790.0]), &with([1600.0, 1620.0, 1580.0]));
        let says = |name: &str, change: &str| text.lines().any(|line| line.starts_with(name) && line.ends_with(change));
        assert!(says("synfin, connect p99 us", "higher"), "{text}");
        assert!(says("synfin, connect p50 us", "no significant change"), "{text}");
    }

    #[test]
    fn what_was_run_otherwise_is_said_and_a_loss_is_seen() {
        let (before, mut after) = (sample::full(), sample::full());
        after.flags.closer = "server".into();
        let synfin = after.stacks.synfin.as_mut().expect("synfin was run");
        synfin.connections_per_second_rounds.iter_mut().for_each(|rate| *rate *= 0.5);
        let text = text(&before, &after);
        assert!(text.contains("NOTE: not the same: flags.closer: \"client\" and \"server\""), "{text}");
        assert!(text.lines().any(|line| line.starts_with("synfin") && line.ends_with("lower")), "{text}");
    }
}
