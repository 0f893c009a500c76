//! The half-open connections (B14) as JSON for programs and, made of that, as a table for people, in the manner of `ss`.

use crate::shard::HalfOpen;
use crate::stack::HalfOpenReport;
use crate::tcp::state::State;
use crate::tcp::tcb::Opened;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::fmt::Write;

/// The half-open connections as JSON, with `schema_version` 1: of the `limit` at most that have waited longest each, beside how many
/// there are.
pub fn list(report: &HalfOpenReport, limit: usize) -> Value {
    let mut all: Vec<(usize, &HalfOpen)> = report.iter().collect();
    all.sort_by_key(|(_, one)| (Reverse(one.retries), one.next_in_ms.unwrap_or(u32::MAX)));
    let one = |(shard, one): &(usize, &HalfOpen)| {
        json!({
            "state": State::SynReceived.name(),
            "local": one.tuple.local_end().to_string(),
            "peer": one.tuple.remote_end().to_string(),
            "shard": shard,
            "opened": match one.opened {
                Opened::Passively => "passively",
                Opened::Actively => "actively",
            },
            "retries": one.retries,
            "next_in_ms": one.next_in_ms,
        })
    };
    json!({
        "schema_version": 1,
        "total": all.len(),
        "half_open": all.iter().take(limit).map(one).collect::<Value>(),
        "shards_silent": report.silent().collect::<Vec<_>>(),
    })
}

/// How many half-open connections each source has as JSON, with `schema_version` 1: of the `limit` at most that have most, beside how
/// many connections and sources there are.
pub fn by_source(report: &HalfOpenReport, limit: usize) -> Value {
    let all = report.by_source();
    let one = |(source, count): &(std::net::IpAddr, u32)| json!({"source": source.to_string(), "count": count});
    json!({
        "schema_version": 1,
        "total": report.iter().count(),
        "sources": all.len(),
        "by_source": all.iter().take(limit).map(one).collect::<Value>(),
        "shards_silent": report.silent().collect::<Vec<_>>(),
    })
}

/// [`list`] or [`by_source`] as a table. The answer may be another process's: what is not there is a dash, or nothing.
pub fn text(answer: &Value) -> String {
    let (rows, columns, of) = match answer.get("by_source") {
        Some(rows) => (rows, &BY_SOURCE[..], "sources"),
        None => (&answer["half_open"], &LIST[..], "total"),
    };
    let rows = rows.as_array().map_or(&[][..], |rows| rows);
    let mut out = table(columns, rows);
    let count = |name| answer.get(name).and_then(Value::as_u64);
    let named = ["total", "sources"].into_iter().filter_map(|name| Some(format!("{name} {}", count(name)?)));
    line(&mut out, &named.collect::<Vec<_>>().join(", "));
    let hidden = count(of).unwrap_or(0).saturating_sub(rows.len() as u64);
    if hidden > 0 {
        line(&mut out, &format!("{hidden} more are not shown: see --limit"));
    }
    let silent: Vec<String> =
        answer["shards_silent"].as_array().into_iter().flatten().map(|shard| format!("shard {shard}")).collect();
    if !silent.is_empty() {
        line(&mut out, &format!("no answer in time from {}: not counted, ask again", silent.join(", ")));
    }
    out
}

/// A line of heads and one for each row, every column as wide as its widest cell.
fn table(columns: &[(&str, &str)], rows: &[Value]) -> String {
    let cell = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let heads = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let cells = rows.iter().map(|row| columns.iter().map(|(_, key)| cell(&row[*key])).collect());
    let lines: Vec<Vec<String>> = [heads].into_iter().chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut out = String::new();
    for cells in &lines {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        line(&mut out, padded.join("  ").trim_end());
    }
    out
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// Heads of the columns, and the names of what stands in them.
const LIST: [(&str, &str); 7] = [
    ("State", "state"),
    ("Local Address:Port", "local"),
    ("Peer Address:Port", "peer"),
    ("Shard", "shard"),
    ("Opened", "opened"),
    ("Retries", "retries"),
    ("Next in ms", "next_in_ms"),
];

/// The same by source.
const BY_SOURCE: [(&str, &str); 2] = [("Count", "count"), ("Source", "source")];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::four_tuple::FourTuple;

    /// Three connections of two sources on two shards of three; the third has not answered.
    fn report() -> HalfOpenReport {
        let one = |peer: &str, port, retries, next_in_ms| HalfOpen {
            tuple: FourTuple::new("10.0.0.2".parse().unwrap(), 80, peer.parse().unwrap(), port),
            opened: Opened::Passively,
            retries,
            next_in_ms,
        };
        let v6 = HalfOpen {
            tuple: FourTuple::new("fd00::2".parse().unwrap(), 80, "fd00::1".parse().unwrap(), 4),
            opened: Opened::Actively,
            retries: 0,
            next_in_ms: None,
        };
        let first = vec![one("10.0.0.7", 1, 0, Some(300)), v6];
        HalfOpenReport { shards: vec![Some(first), Some(vec![one("10.0.0.7", 3, 2, Some(7))]), None] }
    }

    #[test]
    fn b14_half_open_connections_are_a_table_the_longest_waiting_first() {
        let says = "\
State         Local Address:Port  Peer Address:Port  Shard  Opened     Retries  Next in ms
SYN-RECEIVED  10.0.0.2:80         10.0.0.7:3         1      passively  2        7
SYN-RECEIVED  10.0.0.2:80         10.0.0.7:1         0      passively  0        300
SYN-RECEIVED  [fd00::2]:80        [fd00::1]:4        0      actively   0        -
total 3
no answer in time from shard 2: not counted, ask again
";
        assert_eq!(text(&list(&report(), 3)), says);
        let cut = text(&list(&report(), 1));
        assert!(
            cut.contains(":3 ") && !cut.contains(":1 ") && cut.contains("\ntotal 3\n2 more are not shown"),
            "{cut}"
        );
    }

    #[test]
    fn b14_half_open_connections_are_counted_by_source_in_a_table() {
        let says = "\
Count  Source
2      10.0.0.7
1      fd00::1
total 3, sources 2
no answer in time from shard 2: not counted, ask again
";
        assert_eq!(text(&by_source(&report(), 2)), says);
        let cut = text(&by_source(&report(), 1));
        assert!(cut.contains("total 3, sources 2\n1 more are not shown") && !cut.contains("fd00"), "{cut}");
    }

    /// The most lines that may be asked for, and the time that an answer has, count on it.
    #[test]
    fn no_connection_takes_more_than_250_bytes() {
        let address = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        let longest = HalfOpen {
            tuple: FourTuple::new(address, u16::MAX, address, u16::MAX),
            opened: Opened::Passively,
            retries: u8::MAX,
            next_in_ms: Some(u32::MAX),
        };
        let report = HalfOpenReport { shards: vec![Some(vec![longest])] };
        let bytes = list(&report, 1)["half_open"][0].to_string().len();
        assert!((200..=250).contains(&bytes), "{bytes} bytes");
    }

    #[test]
    fn answers_of_another_shape_are_tables_without_what_is_missing() {
        assert_eq!(text(&json!({"by_source": [{"count": 1}]})), "Count  Source\n1      -\n\n");
        assert_eq!(text(&json!(7)).lines().count(), 2);
    }
}
