//! A stack's state as text for people and as JSON for programs: one list of numbers, two forms.

use crate::shard::Policies;
use crate::stack::{InterfaceReport, ShardSnapshot, StackReport, Umem};
use crate::tcp::time_wait::Policy;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// The report as indented text; counts of 0 are left out.
pub fn text(report: &StackReport) -> String {
    let mut out = String::new();
    for InterfaceReport { interface, mode, umem, link_events, verdicts } in &report.interfaces {
        line(
            &mut out,
            format_args!(
                "interface {} ({}), mtu {}, receive queues {}, mode {mode}, spread {}",
                interface.name, interface.mac, interface.mtu, interface.queues, report.spread
            ),
        );
        line(&mut out, format_args!("{}", memory(umem)));
        section(&mut out, "link events", link_events.iter());
        if let Some(verdicts) = verdicts {
            section(&mut out, "xdp verdicts", verdicts.iter());
        }
    }
    for (number, shard) in report.shards.iter().enumerate() {
        line(&mut out, format_args!("shard {number}"));
        section(&mut out, "  states", shard.states.iter().map(|(name, count)| (name, u64::from(count))));
        line(&mut out, format_args!("  policies: {}", shard.policies));
        if shard.policies.time_wait == Policy::None {
            line(&mut out, format_args!("  {NO_TIME_WAIT}"));
        }
        section(&mut out, "  counters", shard.counters.iter());
        section(&mut out, "  drops", shard.drops.iter().copied());
        section(&mut out, "  link", shard.link.iter());
        section(&mut out, "  xsk", shard.kernel.iter());
        section(&mut out, "  rings", rings(shard).into_iter());
        section(&mut out, "  turns us", quantiles(&shard.turn_us).into_iter());
        section(&mut out, "  application ns", quantiles(&shard.application_ns).into_iter());
        line(&mut out, format_args!("  turns over 10 ms: {}", shard.turns_slow));
        section(&mut out, "  tables bytes", table_bytes(shard));
        section(&mut out, "  tables on huge pages bytes", huge_page_bytes(shard).into_iter());
    }
    out
}

/// The report as JSON, with `schema_version` 1: the first interface's part stands on top, that of each other one in `beside`.
pub fn json(report: &StackReport) -> Value {
    let mut interfaces = report.interfaces.iter().map(interface_json);
    let mut all = interfaces.next().unwrap_or_default();
    all.extend([
        ("schema_version".to_owned(), json!(1)),
        ("beside".to_owned(), interfaces.map(Value::Object).collect()),
        ("spread".to_owned(), json!(report.spread)),
        ("shards".to_owned(), report.shards.iter().map(shard_json).collect()),
    ]);
    Value::Object(all)
}

fn interface_json(report: &InterfaceReport) -> Map<String, Value> {
    let InterfaceReport { interface, mode, link_events, umem, verdicts } = report;
    let named = [
        (
            "interface",
            json!({
                "name": interface.name,
                "mac": interface.mac.to_string(),
                "mtu": interface.mtu,
                "queues": interface.queues,
            }),
        ),
        ("mode", json!(mode.to_string())),
        ("link_events", object(link_events.iter())),
        (
            "umem",
            json!({
                "frame_bytes": umem.frame_bytes,
                "zero_copy": umem.zero_copy,
                "huge_pages": umem.huge_pages,
            }),
        ),
        ("xdp_verdicts", json!(verdicts.map(|verdicts| object(verdicts.iter())))),
    ];
    named.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn shard_json(shard: &ShardSnapshot) -> Value {
    json!({
        "states": object(shard.states.iter().map(|(name, count)| (name, u64::from(count)))),
        "policies": policies(&shard.policies),
        "counters": object(shard.counters.iter()),
        "drops": object(shard.drops.iter().copied()),
        "link": object(shard.link.iter()),
        "xsk": object(shard.kernel.iter()),
        "rings": object(rings(shard).into_iter()),
        "connections_live": shard.connections_live,
        "time_wait_live": shard.time_wait_live,
        "turns_slow": shard.turns_slow,
        "turn_us": object(quantiles(&shard.turn_us).into_iter()),
        "application_ns": object(quantiles(&shard.application_ns).into_iter()),
        "table_bytes": object(table_bytes(shard)),
        "huge_page_bytes": object(huge_page_bytes(shard).into_iter()),
    })
}

/// Policies as JSON.
pub fn policies(policies: &Policies) -> Value {
    json!({
        "msl_ms": policies.msl_ms,
        "time_wait": policies.time_wait.name(),
        "time_wait_delay_ms": policies.time_wait_delay_ms,
        "time_wait_full": policies.time_wait_full.name(),
        "rst_ends_time_wait": policies.rst_ends_time_wait,
        "syn_cookies": policies.syn_cookies.name(),
        "syn_ack_retries": policies.syn_ack_retries,
        "warning": (policies.time_wait == Policy::None).then_some(NO_TIME_WAIT),
    })
}

/// The frames' memory in words.
fn memory(umem: &Umem) -> String {
    let copy = if umem.zero_copy { "zero-copy" } else { "copied once" };
    let pages = if umem.huge_pages { "huge" } else { "ordinary" };
    format!("frames of {} bytes, {copy}, on {pages} pages", umem.frame_bytes)
}

/// What each table takes, and all together.
fn table_bytes(shard: &ShardSnapshot) -> impl Iterator<Item = (&'static str, u64)> {
    let bill = &shard.tables.bill;
    bill.lines().iter().map(|table| (table.what, table.bytes)).chain([("total", bill.total_bytes())])
}

/// What became of the wish to have the large ones on huge pages.
fn huge_page_bytes(shard: &ShardSnapshot) -> [(&'static str, u64); 3] {
    let huge = shard.tables.huge_pages;
    [("obtained", huge.obtained_bytes), ("refused", huge.refused_bytes), ("unaligned", huge.unaligned_bytes)]
}

fn rings(shard: &ShardSnapshot) -> [(&'static str, u64); 5] {
    let levels = shard.levels;
    [
        ("frames_total", levels.total),
        ("free", levels.free),
        ("in_hand", levels.in_hand),
        ("fill", levels.fill),
        ("transmit", levels.transmit),
    ]
    .map(|(name, count)| (name, u64::from(count)))
}

fn quantiles(histogram: &hdrhistogram::Histogram<u64>) -> [(&'static str, u64); 4] {
    [
        ("p50", histogram.value_at_quantile(0.5)),
        ("p99", histogram.value_at_quantile(0.99)),
        ("p999", histogram.value_at_quantile(0.999)),
        ("max", histogram.max()),
    ]
}

fn object(counts: impl Iterator<Item = (&'static str, u64)>) -> Value {
    Value::Object(counts.map(|(name, count)| (name.to_owned(), count.into())).collect::<Map<_, _>>())
}

fn section(out: &mut String, title: &str, counts: impl Iterator<Item = (&'static str, u64)>) {
    let shown: Vec<String> =
        counts.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    let shown = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
    line(out, format_args!("{title}: {shown}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// What reports and the start say of a stack without TIME-WAIT.
pub const NO_TIME_WAIT: &str = "WARNING: time-wait none: old duplicates reach new connections; for the laboratory only (counted as time_wait_skipped)";
