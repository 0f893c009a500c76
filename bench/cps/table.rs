//! The result of a run, as it goes to the terminal.

use super::report::{Report, StackReport, leaves_no_time_wait};
use super::result::{Phases, Run, Sweep, SweepRow};
use super::search;
use crate::ends::WRONG_SHARD;
use crate::risk::rate::Rate;
use crate::role::Mode;
use clap::ValueEnum;
use std::fmt::Write;

/// The table, its ratios, and everything that makes a figure less than it seems; then phases, sweep and verdict.
pub(crate) fn text(report: &Report) -> String {
    let mut out = String::new();
    if !report.measurement {
        out.push_str("SIMULATION in virtual time: nothing below is a measurement\n");
    }
    stacks(&mut out, report);
    if let Some(phases) = &report.phases {
        phases_text(&mut out, phases);
    }
    if let Some(sweep) = &report.sweep {
        sweep_text(&mut out, sweep);
    }
    if let Some(verdict) = &report.verdict {
        let _ = writeln!(out, "predicted: {}", report.prediction.text);
        let _ = writeln!(out, "measured: {}", verdict.text);
        for reason in &verdict.untrue {
            let _ = writeln!(out, "NOT TO BE QUOTED: {reason}");
        }
        let _ = writeln!(out, "limited by: {}", verdict.limited_by.name());
    }
    out
}

fn stacks(out: &mut String, report: &Report) {
    let flags = &report.flags;
    let named = report.named();
    if named.is_empty() && report.limit.is_none() {
        return;
    }
    let mode = report.mode.as_deref().unwrap_or("no XDP");
    let _ = writeln!(
        out,
        "connections/s: {} B request and response, {} closes first, {} in flight, CPUs {} and {}, {mode}; median (min..max) of {} rounds of {} s",
        flags.payload.replace(':', " and "),
        flags.closer,
        flags.conns,
        flags.cpus.0,
        flags.cpus.1,
        flags.rounds,
        flags.duration_s
    );
    let _ = writeln!(
        out,
        "{:<30}{:>28}{:>10}{:>10}{:>10}{:>10}{:>8}   TIME-WAIT created / expired / evicted",
        "", "connections/s", "p50 us", "p99 us", "p99.9 us", "seg/conn", "errors"
    );
    for (name, stack) in &named {
        row(out, name, stack);
    }
    if let Some(limit) = &report.limit {
        let spread = limit.frames_per_second_spread;
        let frames = format!("{:.0} ({:.0}..{:.0}) frames/s", spread.median, spread.min, spread.max);
        let connections = limit.connections_per_second.map(|rate| format!("{rate:.0}")).unwrap_or_else(|| "-".into());
        let best: Vec<String> = limit.best.iter().map(|(batch, window)| format!("{batch}/{window}")).collect();
        let _ = writeln!(
            out,
            "{:<30}{connections:>28}   raw AF_XDP echo: {frames}, best batch/window {}",
            "limit",
            best.join(" ")
        );
    }
    let shown = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_string(), |ratio| format!("{ratio:.2}"));
    let (kernel, limit) = (shown(report.ratio_to_kernel()), shown(report.ratios.synfin_to_limit));
    let _ = writeln!(out, "synfin/kernel {kernel}   synfin/limit {limit}");
    if report.is_without_time_wait() {
        let _ = writeln!(out, "synfin's figures are WITHOUT TIME-WAIT");
    }
    shards(out, report);
    for step in &report.rate_search {
        let clean = if step.clean { "clean" } else { "" };
        let _ = writeln!(
            out,
            "rate {:>10.0}/s: {:>10.0}/s, p99 {:.0} us, {} failed {clean}",
            step.rate, step.achieved, step.p99_us, step.errors
        );
    }
    if !report.rate_search.is_empty() {
        let _ = match search::best(&report.rate_search) {
            Some(best) => writeln!(out, "highest clean rate: {:.0}/s, at which the rounds were run", best.rate),
            None => writeln!(
                out,
                "WARNING: no rate was clean, so the rounds are of a closed loop: something else runs here"
            ),
        };
    }
    if let Some(resident) = &report.resident {
        let (with, empty) = (resident.connections_per_second, resident.connections_per_second_empty);
        let _ = writeln!(
            out,
            "with {} entries in TIME-WAIT beforehand: {with:.0}/s, {:.2} of the {empty:.0}/s with none, {} errors, {} evicted",
            resident.entries,
            with / empty.max(f64::MIN_POSITIVE),
            resident.errors,
            resident.time_wait_evicted
        );
    }
    for (name, stack) in &named {
        let rate = stack.connections_per_second;
        let _ = writeln!(out, "{name}: {}", flags.tuples.text(rate));
        warnings(out, name, stack, is_without_time_wait(name, report));
    }
    if let Some(obtained) = &report.mode
        && Mode::from_str(&flags.mode, false).is_ok_and(|mode| !mode.is_obtained(obtained))
    {
        let _ = writeln!(out, "WARNING: mode {} was asked for, {obtained} was obtained", flags.mode);
    }
}

/// How frames found their shards, where there were several.
fn shards(out: &mut String, report: &Report) {
    let flags = &report.flags;
    let Some(synfin) = report.stacks.synfin.as_ref().filter(|_| flags.queues > 1) else { return };
    let of = |end: &str, name: &str| synfin.counters.get(&format!("{end}.{name}")).copied().unwrap_or(0);
    for end in ["client", "server"] {
        let (wrong, received) = (of(end, WRONG_SHARD), of(end, "frames_received"));
        let _ = writeln!(out, "{end}: {} shards, wrong_shard {wrong} of {received} frames received", flags.queues);
    }
    if flags.shared_cpus {
        let _ = writeln!(
            out,
            "WARNING: the {} shards of each end share one CPU, and sleep when idle: no figure of {} cores",
            flags.queues, flags.queues
        );
    }
}

fn phases_text(out: &mut String, phases: &Phases) {
    let _ = writeln!(
        out,
        "phases: {} 4-tuples at {:.0} opens/s, 2MSL {} s of synfin, 60 s of the kernel",
        phases.tuples, phases.rate, phases.two_msl_s
    );
    let _ = writeln!(
        out,
        "{:>4} {:<22}{:>10}{:>10}{:>12}{:>12}{:>10}{:>10}",
        "s", "policy", "predicted", "synfin", "TIME-WAIT", "free ports", "predicted", "kernel"
    );
    let seconds = phases.phases.last().map_or(0, |phase| phase.to_s as u32);
    for second in 1..=seconds {
        let (from, to) = (f64::from(second - 1), f64::from(second));
        let policy = phases.phases.iter().find(|phase| from < phase.to_s).map_or("", |phase| phase.policy.as_str());
        let predicted =
            |series: &[(f64, f64)]| mean(series.iter().filter(|(t, _)| is_within(*t, from)).map(|(_, cps)| *cps));
        let measured = |run: &Option<Run>| {
            let moments = run.iter().flat_map(|run| &run.series).filter(|moment| is_within(moment.t, from));
            moments.map(|moment| moment.cps).collect::<Vec<f64>>()
        };
        let last = phases.synfin.iter().flat_map(|run| &run.series).rfind(|moment| moment.t <= to + HALF_A_MOMENT_S);
        let shown =
            |cps: Vec<f64>| if cps.is_empty() { "-".to_string() } else { format!("{:.0}", mean(cps.into_iter())) };
        let _ = writeln!(
            out,
            "{second:>4} {policy:<22}{:>10.0}{:>10}{:>12}{:>12}{:>10.0}{:>10}",
            predicted(&phases.predicted),
            shown(measured(&phases.synfin)),
            last.map_or(0, |moment| moment.time_wait),
            last.map_or(0, |moment| moment.free_ports),
            predicted(&phases.predicted_kernel),
            shown(measured(&phases.kernel)),
        );
    }
}

/// Whether an interval that ends at `t` lies in the second from `from` on.
fn is_within(t: f64, from: f64) -> bool {
    t > from + HALF_A_MOMENT_S && t <= from + 1.0 + HALF_A_MOMENT_S
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0.0, 0.0), |(count, sum), value| (count + 1.0, sum + value));
    if count > 0.0 { sum / count } else { 0.0 }
}

fn sweep_text(out: &mut String, sweep: &Sweep) {
    let _ = writeln!(
        out,
        "risk: {} 4-tuples opened over and over, old segments aimed at each incarnation; 2MSL {} s, loss {}, reordering {}, \
         duplication {}, delay {} ms",
        sweep.tuples, sweep.two_msl_s, sweep.faults.loss, sweep.faults.reorder, sweep.faults.dup, sweep.faults.delay_ms
    );
    let _ = writeln!(
        out,
        "{:<7} {:<22}{:<7} {:<34}{:>9} {:<8}{:>9}{:>8}{:>9}{:>8}{:>7}{:>7}{:>7}{:>8}{:>9}{:>10} {:>9}",
        "server",
        "policy",
        "closer",
        "",
        "conn/s",
        "of",
        "ceiling",
        "p50 us",
        "p99 us",
        "SYN rtx",
        ">= 1 s",
        "RSTs",
        "chall.",
        "PAWS",
        "aimed at",
        "old bytes",
        "share"
    );
    for row in &sweep.rows {
        sweep_row(out, row);
    }
    let _ = writeln!(out, "{}", super::sweep::LIFTED);
    if sweep.rows.iter().any(|row| row.limited_by == POLICY) {
        out.push_str(OF_WHAT);
    }
    if let Some(control) = &sweep.control {
        let _ = writeln!(out, "positive control, which must show old bytes:");
        sweep_row(out, control);
    }
    if !sweep.valid {
        let _ = writeln!(out, "INVALID: the positive control took no old octet, so that none would be seen");
    }
}

fn sweep_row(out: &mut String, row: &SweepRow) {
    let timestamps = if row.timestamps { "timestamps" } else { "no timestamps" };
    let mut kind = format!("{timestamps}, ISNs {}", row.isns);
    if row.payload.0 != 64 {
        let _ = write!(kind, ", {} B", row.payload.0);
    }
    if row.rst_ends_time_wait {
        kind.push_str(", RST");
    }
    let share = match Rate::of(row.incarnations_with_old_bytes, row.incarnations_aimed) {
        Rate { trials: 0, .. } if row.ceiling.is_some() => "none aimed: none came back before 2MSL".to_string(),
        rate => rate.to_string(),
    };
    let _ = writeln!(
        out,
        "{:<7} {:<22}{:<7} {kind:<34}{:>9.0} {:<8}{:>9}{:>8}{:>9}{:>8}{:>7}{:>7}{:>7}{:>8}{:>9}{:>10} {share}",
        row.server,
        row.policy,
        row.closer,
        row.cps,
        if row.limited_by.is_empty() { "-" } else { &row.limited_by },
        row.ceiling.map_or("-".to_string(), |ceiling| format!("{ceiling:.0}")),
        latency(row.connect_latency_us.p50),
        latency(row.connect_latency_us.p99),
        row.syn_retransmits,
        row.stalls_1s,
        row.rsts,
        row.challenge_acks,
        row.paws_rejects,
        row.incarnations_aimed,
        row.old_bytes_accepted
    );
}

fn row(out: &mut String, name: &str, stack: &StackReport) {
    let spread = stack.connections_per_second_spread;
    let rate = format!("{:.0} ({:.0}..{:.0})", spread.median, spread.min, spread.max);
    let us = stack.connect_latency_us;
    let time_wait = if stack.time_wait_overflowed() {
        "TIME-WAIT not kept".to_string()
    } else {
        format!("{} / {} / {}", stack.time_wait_created, stack.time_wait_expired, stack.time_wait_evicted)
    };
    let _ = writeln!(
        out,
        "{name:<30}{rate:>28}{:>10}{:>10}{:>10}{:>10.2}{:>8}   {time_wait}",
        latency(us.p50),
        latency(us.p99),
        latency(us.p999),
        stack.segments_per_connection,
        stack.errors
    );
}

fn warnings(out: &mut String, name: &str, stack: &StackReport, without_time_wait: bool) {
    if stack.refused > 0 {
        let _ = writeln!(out, "{name}: {} opens found no free port", stack.refused);
    }
    if stack.errors > 0 {
        let kinds: Vec<String> = stack.errors_by_kind.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        let _ = writeln!(out, "ERRORS: {name}: {}", kinds.join(", "));
    }
    if stack.time_wait_evicted > 0 {
        let _ = writeln!(
            out,
            "WARNING: {name}: {} TIME-WAIT entries ended early or were never made",
            stack.time_wait_evicted
        );
    }
    if stack.time_wait_created != stack.connections_total && !without_time_wait {
        let (made, closed) = (stack.time_wait_created, stack.connections_total);
        let _ = writeln!(out, "WARNING: {name}: {made} TIME-WAIT entries for {closed} connections closed");
    }
}

/// Whether there is no TIME-WAIT to be made by synfin under the policy of this row.
fn is_without_time_wait(name: &str, report: &Report) -> bool {
    match name.strip_prefix("synfin ") {
        Some(policy) => leaves_no_time_wait(policy),
        None => name == "synfin" && report.is_without_time_wait(),
    }
}

/// A latency, us; what failed counts as 100 s in the histogram.
fn latency(us: f64) -> String {
    if us >= 100e6 { "failed".to_string() } else { format!("{us:.0}") }
}

/// What a sweep's rate is a figure of, where its ends had time left.
const POLICY: &str = "policy";
const OF_WHAT: &str = "of: a figure of the policy, where 4-tuples were wanting, to be multiplied with their number; or of the machine and of the wire \
                       that aims.\nceiling: what the policy allows these 4-tuples on average; of strict none comes back in a row's window\n";
/// Half of the period of samples, s.
const HALF_A_MOMENT_S: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cps::report::tests::report;
    use crate::cps::result::RateStep;

    #[test]
    fn table_shows_ratios_and_errors() {
        let text = text(&report());
        assert!(text.contains("synfin/kernel 6.00   synfin/limit 0.50"), "{text}");
        assert!(text.contains("150000 (100000..200000)"), "{text}");
        assert!(text.contains("ERRORS: kernel: client.reset 2"), "{text}");
        assert!(!text.contains("WARNING"), "{text}");
    }

    #[test]
    fn table_names_the_highest_clean_rate_or_that_there_was_none() {
        let step = |rate, clean| RateStep { rate, clean, ..RateStep::default() };
        let mut report = report();
        report.rate_search = vec![step(0.0, false), step(900.0, true), step(1200.0, false)];
        assert!(text(&report).contains("highest clean rate: 900/s"));
        report.rate_search.remove(1);
        assert!(text(&report).contains("WARNING: no rate was clean"));
    }

    #[test]
    fn table_says_when_time_wait_was_not_kept_or_the_mode_is_another() {
        let mut report = report();
        report.flags.mode = "drv".into();
        if let Some(kernel) = &mut report.stacks.kernel {
            kernel.counters.insert("client.TcpExt.TCPTimeWaitOverflow".into(), 1);
            kernel.time_wait_created -= 1;
        }
        let text = text(&report);
        assert!(text.contains("TIME-WAIT not kept"), "{text}");
        assert!(text.contains("mode drv was asked for, skb copy was obtained"), "{text}");
        assert!(text.contains("TIME-WAIT entries for 150030 connections closed"), "{text}");
    }
}
