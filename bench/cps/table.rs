//! The result of a run, as it goes to the terminal.

use super::report::{Report, StackReport};
use std::fmt::Write;

/// The table, its ratios, and everything that makes a figure less than it seems.
pub(crate) fn text(report: &Report) -> String {
    let mut out = String::new();
    let flags = &report.flags;
    let mode = report.mode.as_deref().unwrap_or("no XDP");
    let _ = writeln!(
        out,
        "connections/s: 64 B request and response, {} closes first, {} in flight, CPUs {} and {}, {mode}; median (min..max) of {} rounds of {} s",
        flags.closer, flags.conns, flags.cpus.0, flags.cpus.1, flags.rounds, flags.duration_s
    );
    let _ = writeln!(
        out,
        "{:<8}{:>32}{:>10}{:>10}{:>10}{:>10}{:>8}   TIME-WAIT created / expired / evicted",
        "", "connections/s", "p50 us", "p99 us", "p99.9 us", "seg/conn", "errors"
    );
    for (name, stack) in [("synfin", &report.stacks.synfin), ("kernel", &report.stacks.kernel)] {
        if let Some(stack) = stack {
            row(&mut out, name, stack);
        }
    }
    if let Some(limit) = &report.limit {
        let spread = limit.frames_per_second_spread;
        let frames = format!("{:.0} ({:.0}..{:.0}) frames/s", spread.median, spread.min, spread.max);
        let connections = limit.connections_per_second.map(|rate| format!("{rate:.0}")).unwrap_or_else(|| "-".into());
        let best: Vec<String> = limit.best.iter().map(|(batch, window)| format!("{batch}/{window}")).collect();
        let _ = writeln!(
            out,
            "{:<8}{connections:>32}   raw AF_XDP echo: {frames}, best batch/window {}",
            "limit",
            best.join(" ")
        );
    }
    let shown = |ratio: Option<f64>| ratio.map_or_else(|| "-".to_string(), |ratio| format!("{ratio:.2}"));
    let (kernel, limit) = (shown(report.ratios.synfin_to_kernel), shown(report.ratios.synfin_to_limit));
    let _ = writeln!(out, "synfin/kernel {kernel}   synfin/limit {limit}");
    for (name, stack) in [("synfin", &report.stacks.synfin), ("kernel", &report.stacks.kernel)] {
        if let Some(stack) = stack {
            let rate = stack.connections_per_second;
            let _ = writeln!(out, "{name}: {}", flags.tuples.text(rate));
            warnings(&mut out, name, stack);
            let waited = stack.waited_for_cpu(f64::from(flags.rounds) * (flags.warmup_s + flags.duration_s));
            if waited > WAITED_MAX {
                let percent = 100.0 * waited;
                let _ = writeln!(
                    out,
                    "WARNING: {name}: waited {percent:.0} % of the time for a CPU: something else runs there"
                );
            }
        }
    }
    if let Some(obtained) = &report.mode
        && flags.mode != "auto"
        && !obtained.starts_with(&flags.mode)
    {
        let _ = writeln!(out, "WARNING: mode {} was asked for, {obtained} was obtained", flags.mode);
    }
    out
}

fn row(out: &mut String, name: &str, stack: &StackReport) {
    let spread = stack.connections_per_second_spread;
    let rate = format!("{:.0} ({:.0}..{:.0})", spread.median, spread.min, spread.max);
    let latency = stack.connect_latency_us;
    let time_wait = if stack.time_wait_overflowed() {
        "TIME-WAIT not kept".to_string()
    } else {
        format!("{} / {} / {}", stack.time_wait_created, stack.time_wait_expired, stack.time_wait_evicted)
    };
    let _ = writeln!(
        out,
        "{name:<8}{rate:>32}{:>10.0}{:>10.0}{:>10.0}{:>10.2}{:>8}   {time_wait}",
        latency.p50, latency.p99, latency.p999, stack.segments_per_connection, stack.errors
    );
}

fn warnings(out: &mut String, name: &str, stack: &StackReport) {
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
    if stack.time_wait_created != stack.connections_total {
        let (made, closed) = (stack.time_wait_created, stack.connections_total);
        let _ = writeln!(out, "WARNING: {name}: {made} TIME-WAIT entries for {closed} connections closed");
    }
}

/// Largest part of the time that an end may wait for its CPU without a word: ksoftirqd and timers take about 1 %.
const WAITED_MAX: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cps::report::tests::report;

    #[test]
    fn table_shows_ratios_and_errors() {
        let text = text(&report());
        assert!(text.contains("synfin/kernel 6.00   synfin/limit 0.50"), "{text}");
        assert!(text.contains("150000 (100000..200000)"), "{text}");
        assert!(text.contains("ERRORS: kernel: client.reset 2"), "{text}");
        assert!(!text.contains("WARNING"), "{text}");
    }

    #[test]
    fn table_says_when_time_wait_was_not_kept_or_the_mode_is_another() {
        let mut report = report();
        report.flags.mode = "drv".into();
        if let Some(kernel) = &mut report.stacks.kernel {
            kernel.counters.insert("client.TcpExt.TCPTimeWaitOverflow".into(), 1);
            kernel.time_wait_created -= 1;
            kernel.counters.insert("server.waited_for_cpu_ms".into(), 3000);
        }
        let text = text(&report);
        assert!(text.contains("TIME-WAIT not kept"), "{text}");
        assert!(text.contains("mode drv was asked for, skb copy was obtained"), "{text}");
        assert!(text.contains("TIME-WAIT entries for 150030 connections closed"), "{text}");
        assert!(text.contains("kernel: waited 40 % of the time for a CPU"), "{text}");
    }
}
