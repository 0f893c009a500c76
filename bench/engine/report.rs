//! The result of an engine run: a table for people, JSON for programs.

use crate::failure::Failure;
use serde::Serialize;
use std::fmt;
use std::io::Write;

/// Everything that a run found.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Report {
    /// Version of this layout.
    pub schema_version: u32,
    /// Rounds of each combination; every figure is their median.
    pub rounds: u32,
    /// Length of a round, ms.
    pub round_ms: u64,
    /// What synfin did, one entry per combination.
    pub synfin: Vec<Entry>,
    /// What smoltcp did at its numbers of connections, with TIME-WAIT cut short and, where entries are resident, kept.
    pub smoltcp: Vec<Entry>,
    /// Combinations that were not run, and why.
    pub left_out: Vec<String>,
}

/// One combination.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Entry {
    /// Connections open at a time.
    pub live: u64,
    /// TIME-WAIT entries asked for.
    pub resident: u64,
    /// TIME-WAIT entries at the end.
    pub time_wait_resident: u64,
    /// Both ends, one thread.
    pub lifecycles_per_second: f64,
    /// Over all segments, built once and taken once each.
    pub ns_per_segment: f64,
    /// Segments of a lifecycle.
    pub segments_per_lifecycle: f64,
    /// Memory of the process over that of the same run without entries, per entry that is resident when it has been filled.
    pub bytes_per_entry: Option<f64>,
    /// Rate over that of the same live connections without entries, which play the same lifecycles at the same pace.
    pub ratio_to_empty: Option<f64>,
    /// Rate over that of smoltcp with as many connections, its TIME-WAIT cut short.
    pub ratio_to_smoltcp: Option<f64>,
    /// Rate over that of smoltcp with as many connections, which keeps its TIME-WAIT entries.
    pub ratio_to_smoltcp_time_wait: Option<f64>,
    /// Bytes of tables on huge pages.
    pub huge_page_bytes: u64,
    /// Bytes of tables that huge pages were refused for.
    pub huge_page_bytes_refused: u64,
}

impl Default for Report {
    fn default() -> Report {
        Report {
            schema_version: 1,
            rounds: 0,
            round_ms: 0,
            synfin: Vec::new(),
            smoltcp: Vec::new(),
            left_out: Vec::new(),
        }
    }
}

impl Report {
    /// Puts the ratios in.
    pub(crate) fn compare(&mut self) {
        let rates: Vec<(u64, u64, f64)> =
            self.synfin.iter().map(|entry| (entry.live, entry.resident, entry.lifecycles_per_second)).collect();
        for entry in &mut self.synfin {
            let empty = rates.iter().find(|(live, resident, _)| *live == entry.live && *resident == 0);
            entry.ratio_to_empty = empty.map(|(.., rate)| entry.lifecycles_per_second / rate);
            let ratio_to = |keeps: bool| {
                let same = |other: &&Entry| other.live == entry.live && keeps == (other.resident > 0);
                self.smoltcp.iter().find(same).map(|other| entry.lifecycles_per_second / other.lifecycles_per_second)
            };
            (entry.ratio_to_smoltcp, entry.ratio_to_smoltcp_time_wait) = (ratio_to(false), ratio_to(true));
        }
    }
}

/// Writes the report as JSON and a line end.
pub(crate) fn write_json(report: &Report, mut to: impl Write) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(report).map_err(|error| Failure::failed(format!("--json: {error}")))?;
    writeln!(to, "{text}").map_err(|error| Failure::failed(format!("--json: {error}; is the disk full?")))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<8}{:>9}{:>12}{:>14}{:>9}{:>8}{:>9}{:>8}{:>11}{:>13}",
            "stack",
            "live",
            "TIME-WAIT",
            "lifecycles/s",
            "ns/seg",
            "seg",
            "B/entry",
            "ratio",
            "x smoltcp",
            "x its T-WAIT"
        )?;
        for (stack, entries) in [("synfin", &self.synfin), ("smoltcp", &self.smoltcp)] {
            for entry in entries {
                let optional = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.2}"));
                writeln!(
                    f,
                    "{:<8}{:>9}{:>12}{:>14.0}{:>9.1}{:>8.2}{:>9}{:>8}{:>11}{:>13}",
                    stack,
                    entry.live,
                    entry.time_wait_resident,
                    entry.lifecycles_per_second,
                    entry.ns_per_segment,
                    entry.segments_per_lifecycle,
                    optional(entry.bytes_per_entry),
                    optional(entry.ratio_to_empty),
                    optional(entry.ratio_to_smoltcp),
                    optional(entry.ratio_to_smoltcp_time_wait),
                )?;
            }
        }
        writeln!(
            f,
            "medians of {} interleaved rounds of {} ms; one thread plays both ends",
            self.rounds, self.round_ms
        )?;
        let (obtained, refused) = self.synfin.iter().fold((0, 0), |(obtained, refused), entry| {
            (obtained + entry.huge_page_bytes, refused + entry.huge_page_bytes_refused)
        });
        writeln!(f, "x smoltcp: its TIME-WAIT cut short; x its T-WAIT: as many connections, its TIME-WAIT kept")?;
        writeln!(f, "huge pages: {} MB obtained, {} MB refused", obtained >> 20, refused >> 20)?;
        self.left_out.iter().try_for_each(|what| writeln!(f, "left out: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let entry =
            |live, resident, lifecycles_per_second| Entry { live, resident, lifecycles_per_second, ..Entry::default() };
        let mut report = Report {
            synfin: vec![entry(1000, 0, 1e6), entry(1000, 10, 7e5), entry(5, 10, 1.0)],
            smoltcp: vec![entry(1000, 0, 1e5), entry(1000, 10, 1e4)],
            ..Report::default()
        };
        report.compare();
        report
    }

    #[test]
    fn ratios_are_to_the_same_live_connections() {
        let report = report();
        assert_eq!(report.synfin[1].ratio_to_empty, Some(0.7));
        assert_eq!(report.synfin[0].ratio_to_smoltcp, Some(10.0));
        assert_eq!(report.synfin[0].ratio_to_smoltcp_time_wait, Some(100.0));
        assert_eq!((report.synfin[2].ratio_to_empty, report.synfin[2].ratio_to_smoltcp), (None, None));
    }

    #[test]
    fn json_has_the_promised_fields() {
        let mut text = Vec::new();
        write_json(&report(), &mut text).expect("memory takes it");
        let json: serde_json::Value = serde_json::from_slice(&text).expect("it is JSON");
        assert_eq!(json["schema_version"], 1);
        for pointer in ["/synfin/0/lifecycles_per_second", "/synfin/1/ratio_to_empty", "/smoltcp/0/ns_per_segment"] {
            assert!(json.pointer(pointer).is_some_and(serde_json::Value::is_number), "{pointer}");
        }
    }
}
