//! The risk as a table for people and as JSON.

use super::moment::Moment;
use super::rate::Rate;
use super::sweep::Played;
use super::workload::{self, Cell, End};
use super::world::Tally;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use synfin::tcp::time_wait::Policy;

/// Everything that a sweep found, as it goes to `--json`.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(super) struct Report {
    /// Version of this layout.
    pub schema_version: u32,
    /// Fewer incarnations than it takes to say much.
    pub quick: bool,
    /// What everything random was drawn from: the same seed replays exactly.
    pub seed: u64,
    /// What was asked for, of each policy.
    pub incarnations: u64,
    /// The positive control has taken old octets; without that no figure counts.
    pub valid: bool,
    /// Every policy against what is aimed into the window; the last one is the positive control.
    pub aimed: Vec<Row>,
    /// Every cell.
    pub rows: Vec<Row>,
    /// Each policy over all its workloads, with RST in TIME-WAIT ignored and not.
    pub policies: Vec<Row>,
}

/// One cell, or several together.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Deserialize, Serialize)]
pub(super) struct Row {
    /// The policy of both ends.
    pub policy: String,
    /// The kind of connections; `all` for all of them together.
    pub workload: String,
    /// Who closed first; `null` for all together.
    pub closer: Option<End>,
    /// Whether timestamps were used; `null` for all together.
    pub timestamps: Option<bool>,
    /// Whether a RST ends TIME-WAIT (RFC 9293) instead of being ignored (RFC 1337).
    pub rst_ends_time_wait: bool,
    /// Incarnations that took an octet of an earlier one, of those at which old text was aimed.
    pub took_old_bytes: Rate,
    /// Old segments sent again.
    pub old_segments_aimed: u64,
    /// The same by the moment of the connection that they were aimed at.
    pub aimed_at: BTreeMap<String, u64>,
    /// Everything that was counted.
    pub tally: Tally,
}

impl Report {
    pub(super) fn new(aimed: &[Played], played: &[Played], quick: bool, seed: u64, incarnations: u64) -> Report {
        let mut policies = Vec::new();
        for policy in Policy::ALL {
            for rst_ends_time_wait in [false, true] {
                let of_both = |played: &&Played| {
                    (played.cell.policy, played.cell.rst_ends_time_wait) == (policy, rst_ends_time_wait)
                };
                let tallies: Vec<Tally> = played.iter().filter(of_both).map(|played| played.tally).collect();
                if !tallies.is_empty() {
                    let tally = tallies.into_iter().reduce(Tally::plus).unwrap_or_default();
                    policies.push(Row::new(policy, "all", None, rst_ends_time_wait, tally));
                }
            }
        }
        Report {
            schema_version: 1,
            quick,
            seed,
            incarnations,
            valid: aimed.last().is_some_and(|control| control.tally.old_bytes > 0),
            aimed: aimed.iter().map(Row::of).collect(),
            rows: played.iter().map(Row::of).collect(),
            policies,
        }
    }

    /// Octets that nobody has sent: the stack's own fault, or the simulator's.
    pub(super) fn other_bytes(&self) -> u64 {
        self.rows.iter().chain(&self.aimed).map(|row| row.tally.other_bytes).sum()
    }
}

impl Row {
    /// The cell that this row is of, by its name; `None` for several together, and for what this version does not play.
    pub(super) fn played(&self) -> Option<Played> {
        let policy = Policy::from_name(&self.policy)?;
        let (timestamps, rst_ends_time_wait) = (self.timestamps?, self.rst_ends_time_wait);
        let aimed = workload::aimed(policy, timestamps).workload;
        let known = workload::all().into_iter().chain([aimed]);
        let workload =
            known.into_iter().find(|known| (known.name, known.timestamps) == (&self.workload, timestamps))?;
        Some(Played { cell: Cell { policy, workload, rst_ends_time_wait }, tally: self.tally })
    }

    fn of(played: &Played) -> Row {
        let Played { cell, tally } = played;
        let ends = Some((cell.workload.closer, cell.workload.timestamps));
        Row::new(cell.policy, cell.workload.name, ends, cell.rst_ends_time_wait, *tally)
    }

    fn new(policy: Policy, workload: &str, ends: Option<(End, bool)>, rst_ends_time_wait: bool, tally: Tally) -> Row {
        Row {
            policy: policy.name().to_owned(),
            workload: workload.to_owned(),
            closer: ends.map(|(closer, _)| closer),
            timestamps: ends.map(|(_, timestamps)| timestamps),
            rst_ends_time_wait,
            took_old_bytes: Rate::of(tally.incarnations_with_old_bytes, tally.passed.incarnations_aimed),
            old_segments_aimed: tally.passed.aimed.iter().sum(),
            aimed_at: Moment::ALL
                .iter()
                .map(|moment| (moment.name().to_owned(), tally.passed.aimed[*moment as usize]))
                .collect(),
            tally,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "What TIME-WAIT reuse risks: incarnations that took octets of an earlier one, of those at which")?;
        writeln!(f, "old text was aimed, with a 95 % interval. Simulated, virtual time, seed {}.", self.seed)?;
        if self.quick {
            writeln!(f, "--quick: {} incarnations per policy; for rates take more.", self.incarnations)?;
        }
        writeln!(f)?;
        self.controls(f)?;
        for rst_ends in [false, true] {
            writeln!(f)?;
            let rule =
                if rst_ends { "ends TIME-WAIT (RFC 9293 3.10.7.4)" } else { "is ignored in TIME-WAIT (RFC 1337)" };
            writeln!(f, "RST {rule}")?;
            self.workloads(f, rst_ends)?;
        }
        writeln!(f)?;
        self.totals(f)
    }
}

/// A line of the table of totals: its name, and what it says of each policy.
type Line = (&'static str, fn(&Row) -> String);

impl Report {
    fn controls(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Random ISNs at both ends, given that they came to where an old text lies in the window:")?;
        for row in &self.aimed {
            let timestamps = if row.timestamps == Some(true) { "on" } else { "off" };
            writeln!(f, "{:<22} timestamps {timestamps:<4} {}", row.policy, row.took_old_bytes)?;
        }
        writeln!(f, "The last one is the positive control: {}", if self.valid { "valid" } else { "INVALID" })
    }

    fn workloads(&self, f: &mut fmt::Formatter<'_>, rst_ends: bool) -> fmt::Result {
        let policies: Vec<&str> = self
            .policies
            .iter()
            .filter(|row| row.rst_ends_time_wait == rst_ends)
            .map(|row| row.policy.as_str())
            .collect();
        write!(f, "{:<39} {:<3}", "workload", "TS")?;
        for policy in &policies {
            write!(f, " {policy:<28}")?;
        }
        writeln!(f)?;
        let of_rule = |row: &&Row| row.rst_ends_time_wait == rst_ends;
        let first = policies.first().copied().unwrap_or_default();
        for row in self.rows.iter().filter(of_rule).filter(|row| row.policy == first) {
            write!(f, "{:<39} {:<3}", row.workload, if row.timestamps == Some(true) { "on" } else { "off" })?;
            let same = |other: &&Row| (&other.workload, other.timestamps) == (&row.workload, row.timestamps);
            for cell in self.rows.iter().filter(of_rule).filter(same) {
                write!(f, " {:<28}", cell.took_old_bytes)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn totals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<46}", "all workloads together")?;
        for row in &self.policies {
            write!(f, " {:>22}", row.policy)?;
        }
        writeln!(f)?;
        let lines: [Line; 13] = [
            ("RST in TIME-WAIT", |row| if row.rst_ends_time_wait { "ends it" } else { "ignored" }.into()),
            ("incarnations", |row| row.tally.incarnations.to_string()),
            ("old segments aimed", |row| row.old_segments_aimed.to_string()),
            ("of them with text", |row| row.tally.passed.aimed_with_text.to_string()),
            ("of them within a window", |row| row.tally.passed.reached_a_window.to_string()),
            ("old octets accepted", |row| row.tally.old_bytes.to_string()),
            ("by incarnations", |row| row.tally.incarnations_with_old_bytes.to_string()),
            ("opened by an old SYN (B08)", |row| row.tally.server.opened_by_old_syn.to_string()),
            ("ended by an early FIN", |row| (row.tally.client.cut_short + row.tally.server.cut_short).to_string()),
            ("reset", |row| (row.tally.client.reset + row.tally.server.reset).to_string()),
            ("connects refused, the port in TIME-WAIT", |row| row.tally.client.refused_connects.to_string()),
            ("SYNs and SYN-ACKs sent again", |row| row.tally.retransmitted_syn.to_string()),
            ("TIME-WAITs reused / ended by RST", |row| {
                format!("{}/{}", row.tally.time_wait_reused, row.tally.time_wait_ended_by_rst)
            }),
        ];
        for (name, value) in lines {
            write!(f, "{name:<46}")?;
            for row in &self.policies {
                write!(f, " {:>22}", value(row))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
