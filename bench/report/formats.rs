//! The result in formats of others: CSV, Markdown, and HdrHistogram's log.

use super::claims::Standing;
use super::escape::{csv as field, markdown as cell};
use super::number::{grouped, latency_us, trimmed};
use super::risk_section;
use crate::cps::report::{Report, StackReport};
use crate::cps::result::Run;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::fmt::{Debug, Display, Write};
use std::time::{Duration, SystemTime};

/// One figure a row: which part it is of, which stack and policy, which round, when, what, and how much.
pub(super) fn csv(report: &Report) -> String {
    let mut rows = Csv("part,stack,policy,round,t_s,quantity,value\n".to_owned());
    for (name, policy, stack) in stacks(report) {
        let mut row = |quantity: &str, value: &dyn Display| rows.row(["total", name, policy, "", ""], quantity, value);
        row("connections_per_second", &stack.connections_per_second);
        let latency = stack.connect_latency_us;
        let us = [("p50", latency.p50), ("p99", latency.p99), ("p999", latency.p999), ("max", latency.max)];
        us.iter().for_each(|(percentile, us)| row(&format!("connect_latency_{percentile}_us"), us));
        row("connections", &stack.connections_total);
        row("errors", &stack.errors);
        row("time_wait_created", &stack.time_wait_created);
        row("time_wait_evicted", &stack.time_wait_evicted);
        row("segments_per_connection", &stack.segments_per_connection);
        stack.counters.iter().for_each(|(counter, count)| row(counter, count));
        for (index, rate) in stack.connections_per_second_rounds.iter().enumerate() {
            rows.row(["round", name, policy, &(index + 1).to_string(), ""], "connections_per_second", rate);
        }
        stack.runs.iter().for_each(|run| rows.run("series", name, policy, run));
    }
    if let Some(limit) = &report.limit {
        rows.row(["total", "limit", "", "", ""], "frames_per_second", &limit.frames_per_second);
    }
    if let Some(phases) = &report.phases {
        for (stack, predicted) in [("synfin", &phases.predicted), ("kernel", &phases.predicted_kernel)] {
            for (t, rate) in predicted {
                rows.row(["phases", stack, "", "", &t.to_string()], "predicted_connections_per_second", rate);
            }
        }
        for (stack, run) in [("synfin", &phases.synfin), ("kernel", &phases.kernel)] {
            run.iter().for_each(|run| rows.run("phases", stack, "", run));
        }
    }
    for sweep in report.sweep.iter().flat_map(|sweep| sweep.rows.iter().chain(&sweep.control)) {
        let value = serde_json::to_value(sweep).unwrap_or_default();
        let case = format!("{} closer {} ISNs {}", sweep.policy, sweep.closer, sweep.isns);
        for (quantity, value) in value.as_object().into_iter().flatten().filter(|(_, value)| value.is_number()) {
            rows.row(["sweep", &sweep.server, &case, "", ""], quantity, value);
        }
    }
    rows.0
}

/// The tables for a text that is kept in Markdown.
pub(super) fn markdown(report: &Report) -> String {
    let mut out = String::new();
    let standing = Standing::of(report);
    let _ = writeln!(out, "**{}** {}\n", standing.word(), cell(&standing.reasons().join("; ")));
    let _ = writeln!(
        out,
        "| | connections/s, median (min..max) | p50 / p99 / p99.9 / max | segments | errors | TIME-WAIT made / ended early |"
    );
    let _ = writeln!(out, "| --- | --- | --- | --- | --- | --- |");
    for (name, policy, stack) in stacks(report) {
        let (spread, latency) = (stack.connections_per_second_spread, stack.connect_latency_us);
        let times = [latency.p50, latency.p99, latency.p999, latency.max].map(latency_us).join(" / ");
        let _ = writeln!(
            out,
            "| {} | {} ({}..{}) | {times} | {:.2} | {} | {} / {} |",
            cell(format!("{name} {policy}").trim()),
            grouped(spread.median),
            grouped(spread.min),
            grouped(spread.max),
            stack.segments_per_connection,
            stack.errors,
            grouped(stack.time_wait_created as f64),
            grouped(stack.time_wait_evicted as f64)
        );
    }
    if let Some(connections) = report.limit.as_ref().and_then(|limit| limit.connections_per_second) {
        let _ = writeln!(out, "| limit | {} | | | | |", grouped(connections));
    }
    let shown = |ratio: Option<f64>| ratio.map_or("-".into(), |ratio| trimmed(ratio, 2));
    let (kernel, limit) = (shown(report.ratio_to_kernel()), shown(report.ratios.synfin_to_limit));
    if standing == Standing::Valid {
        let without = if report.is_without_time_wait() { ", WITHOUT TIME-WAIT" } else { "" };
        let _ = writeln!(out, "\nsynfin/kernel {kernel}, synfin/limit {limit}{without}");
    }
    if let Some(sweep) = &report.sweep {
        let _ = writeln!(
            out,
            "\n| policy | server | closer | connections/s | p99 | old segments aimed | old bytes taken | rate |"
        );
        let _ = writeln!(out, "| --- | --- | --- | --- | --- | --- | --- | --- |");
        for row in sweep.rows.iter().chain(&sweep.control) {
            let control = if sweep.control.as_ref() == Some(row) { " (positive control)" } else { "" };
            let _ = writeln!(
                out,
                "| {}{control} | {} | {} | {} | {} | {} | {} | {} |",
                cell(&row.policy),
                cell(&row.server),
                cell(&row.closer),
                grouped(row.cps),
                latency_us(row.connect_latency_us.p99),
                grouped(row.aimed as f64),
                grouped(row.old_bytes_accepted as f64),
                cell(&risk_section::rate(row).to_string())
            );
        }
    }
    let machine = &report.machine;
    let _ = writeln!(
        out,
        "\n{}, {} CPUs, kernel {}, {}, {}",
        cell(&machine.cpu),
        machine.cpus,
        cell(&machine.kernel),
        cell(&machine.os),
        cell(report.mode.as_deref().unwrap_or("no XDP"))
    );
    out
}

/// Connect latencies of each stack, all rounds together, as an interval log; the tag is the stack's name. An error in words if
/// there are none.
pub(super) fn hlog(report: &Report) -> Result<Vec<u8>, String> {
    let (mut log, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let failed = |error: &dyn Debug| format!("the log was not made: {error:?}");
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("connect latency, ns; the largest value of a line in ms")
        .with_start_time(SystemTime::now())
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut log, &mut serializer)
        .map_err(|error| failed(&error))?;
    let length = Duration::try_from_secs_f64(report.flags.duration_s * f64::from(report.flags.rounds));
    let length = length.map_err(|error| failed(&error))?;
    let mut lines = 0;
    for (name, policy, stack) in stacks(report) {
        if stack.latency_histogram_ns.is_empty() {
            continue;
        }
        // A tag holds neither a comma nor white space.
        let tag = format!("{name} {policy}").trim().replace([',', ' '], "-");
        let histogram = histogram(stack)?;
        writer.write_histogram(&histogram, Duration::ZERO, length, Tag::new(&tag)).map_err(|error| failed(&error))?;
        lines += 1;
    }
    drop(writer);
    if lines > 0 {
        Ok(log)
    } else {
        Err("the result has no histogram: nothing was measured, or by an earlier version".into())
    }
}

fn histogram(stack: &StackReport) -> Result<Histogram<u64>, String> {
    let mut histogram = Histogram::new(3).map_err(|error| error.to_string())?;
    for (value, count) in &stack.latency_histogram_ns {
        histogram.record_n(*value, *count).map_err(|error| error.to_string())?;
    }
    Ok(histogram)
}

/// Every stack, with its policy where there are several.
fn stacks(report: &Report) -> Vec<(&'static str, &str, &StackReport)> {
    let first = report.policies.first().map_or("", |first| first.policy.as_str());
    let mut found: Vec<_> = report.stacks.synfin.iter().map(|stack| ("synfin", first, stack)).collect();
    found.extend(report.policies.iter().skip(1).map(|policy| ("synfin", policy.policy.as_str(), &policy.stack)));
    found.extend(report.stacks.kernel.iter().map(|stack| ("kernel", "", stack)));
    found.extend(report.kernel_reuse.iter().map(|stack| ("kernel", "tw_reuse 1", stack)));
    found
}

struct Csv(String);

impl Csv {
    fn row(&mut self, case: [&str; 5], quantity: &str, value: &dyn Display) {
        let case = case.map(field).join(",");
        let _ = writeln!(self.0, "{case},{},{value}", field(quantity));
    }

    fn run(&mut self, part: &str, stack: &str, policy: &str, run: &Run) {
        let round = run.round.to_string();
        for moment in &run.series {
            let t = moment.t.to_string();
            let mut row =
                |quantity: &str, value: &dyn Display| self.row([part, stack, policy, &round, &t], quantity, value);
            row("connections_per_second", &moment.cps);
            row("failed_per_second", &moment.failed);
            row("time_wait", &moment.time_wait);
            row("free_ports", &moment.free_ports);
            row("rss_client_bytes", &moment.rss.0);
            row("rss_server_bytes", &moment.rss.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn csv_has_seven_fields_in_every_row() {
        let text = csv(&sample::full());
        assert!(text.lines().count() > 1000);
        for line in text.lines() {
            assert_eq!(line.split(',').count(), 7, "{line}");
        }
        assert!(text.contains("round,synfin,,2,,connections_per_second,148700\n"), "{}", &text[..400]);
        assert!(text.contains("phases,kernel,,,0.1,predicted_connections_per_second,8000\n"));
        assert!(text.contains(",old_bytes_accepted,951680\n"), "the control");
    }

    #[test]
    fn markdown_has_a_headline_only_where_one_may_be() {
        let mut report = sample::full();
        assert!(markdown(&report).contains("synfin/kernel 5.24, synfin/limit 0.72"));
        report.sweep.as_mut().expect("the sample has a sweep").valid = false;
        let text = markdown(&report);
        assert!(text.starts_with("**INVALID**") && !text.contains("synfin/kernel"), "{text}");
    }

    #[test]
    fn log_has_a_line_for_each_stack() {
        let mut report = sample::full();
        assert!(hlog(&report).expect_err("the sample has none").contains("no histogram"));
        let counts = vec![(626_000, 990), (4_106_000, 10)];
        report.stacks.synfin.as_mut().expect("synfin was run").latency_histogram_ns = counts.clone();
        report.stacks.kernel.as_mut().expect("the kernel was run").latency_histogram_ns = counts;
        let log = hlog(&report).expect("has histograms");
        let read = |entry| match entry {
            Ok(LogEntry::Interval(interval)) => {
                let tag = interval.tag().map_or("", |tag| tag.as_str());
                Some((tag.to_owned(), interval.duration().as_secs(), interval.max().round()))
            }
            _ => None,
        };
        let lines: Vec<_> = IntervalLogIterator::new(&log).filter_map(read).collect();
        assert_eq!(lines, [("synfin".to_owned(), 15, 4.0), ("kernel".to_owned(), 15, 4.0)]);
    }
}
