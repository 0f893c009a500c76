//! The table of policies: what each gains on the wire, and what it risks there.

use super::escape::html;
use super::number::grouped;
use super::pictures::{self, GainAndRisk, Interval};
use super::table::Table;
use crate::cps::report::Report;
use crate::cps::result::{Sweep, SweepRow};
use crate::cps::sweep::LIFTED;
use crate::risk::rate::Rate;

/// Picture and table of a run's sweep; what to do where there was none.
pub(super) fn of_run(report: &Report) -> String {
    let Some(sweep) = &report.sweep else {
        return "<p class=\"muted\">No policies were swept in this run.</p>\n".into();
    };
    let words = words(sweep);
    let rows: Vec<GainAndRisk> =
        sweep.rows.iter().chain(&sweep.control).map(|row| picture_row(row, sweep, report.measurement)).collect();
    let picture = pictures::gain_and_risk(&rows, &words);
    let mut table = Table::new(&[
        "policy",
        "payload",
        "server",
        "closer",
        "TS",
        "ISNs",
        "RST in TIME-WAIT",
        "connections/s",
        "a figure of the",
        "the policy's ceiling",
        "p50",
        "p99",
        "p99.9",
        "max",
        "SYNs again",
        "stalls 1 s",
        "RSTs",
        "challenge ACKs",
        "PAWS",
        "errors",
        "old segments",
        "aimed at",
        "in the window",
        "old bytes taken",
        "rate",
    ]);
    for row in &sweep.rows {
        table.row(cells(&row.policy, row));
    }
    if let Some(control) = &sweep.control {
        table.row(cells(&format!("{} (positive control)", control.policy), control));
    }
    let verdict = if sweep.valid {
        "The positive control has taken old bytes: they would have been seen elsewhere too."
    } else {
        "INVALID: the positive control has taken no old byte, so no figure of this section counts."
    };
    format!(
        "<p>{}</p>\n<figure>{picture}<figcaption>{}</figcaption></figure>\n{}",
        html(verdict),
        html(&words),
        table.html()
    )
}

fn words(sweep: &Sweep) -> String {
    let faults = &sweep.faults;
    let percent = |share: f64| super::number::trimmed(share * 100.0, 3);
    let aimed = if faults.inject_old {
        "at every incarnation old segments of earlier ones were aimed"
    } else {
        "no old segments were aimed"
    };
    format!(
        "{} 4-tuples opened over and over, 2MSL {} s; {aimed}. Loss {} %, reordering {} %, duplication {} %, delay {} ms, each direction; \
         {}. The line is the interval that holds the share of incarnations which took old bytes with 95 %; where none did, its upper end is 3 / n.",
        grouped(sweep.tuples as f64),
        super::number::trimmed(sweep.two_msl_s, 2),
        percent(faults.loss),
        percent(faults.reorder),
        percent(faults.dup),
        super::number::trimmed(faults.delay_ms, 3),
        LIFTED
    )
}

fn picture_row(row: &SweepRow, sweep: &Sweep, measured: bool) -> GainAndRisk {
    let rate = rate(row);
    let hit = rate.hits > 0;
    let control = sweep.control.as_ref() == Some(row);
    GainAndRisk {
        name: if control { format!("positive control: {}, {} ISNs", row.policy, row.isns) } else { name(row, sweep) },
        gain: measured.then_some(row.cps),
        risk: (rate.trials > 0).then(|| Interval {
            low: hit.then_some(rate.low),
            measured: hit.then(|| rate.hits as f64 / rate.trials as f64),
            high: rate.high,
        }),
        words: short(&rate),
        control,
    }
}

/// The policy, and of what the rows differ in how this one differs from the usual.
fn name(row: &SweepRow, sweep: &Sweep) -> String {
    let mut words = vec![row.policy.clone()];
    let differ = |of: fn(&SweepRow) -> String| sweep.rows.iter().any(|other| of(other) != of(row));
    let mut add = |wanted: bool, word: String| words.extend(wanted.then_some(word));
    add(differ(|row| row.closer.clone()), format!("{} closes", row.closer));
    add(!row.timestamps, "no timestamps".into());
    add(row.isns != "clocked", format!("{} ISNs", row.isns));
    add(differ(|row| format!("{:?}", row.payload)), format!("{} B", grouped(f64::from(row.payload.1))));
    add(row.rst_ends_time_wait, "RST ends TIME-WAIT".into());
    add(row.server != "synfin", format!("server {}", row.server));
    words.join(", ")
}

fn cells(policy: &str, row: &SweepRow) -> Vec<String> {
    let latency = row.connect_latency_us;
    let payload = format!("{}:{}", row.payload.0, row.payload.1);
    let mut cells = vec![policy.to_owned(), payload, row.server.clone(), row.closer.clone()];
    cells.push(if row.timestamps { "on" } else { "off" }.into());
    cells.push(row.isns.clone());
    cells.push(if row.rst_ends_time_wait { "ends it" } else { "ignored" }.into());
    cells.push(grouped(row.cps));
    cells.push(if row.limited_by.is_empty() { "-".into() } else { row.limited_by.clone() });
    cells.push(row.ceiling.map_or_else(|| "-".into(), grouped));
    cells.extend([latency.p50, latency.p99, latency.p999, latency.max].map(super::number::latency_us));
    let counts = [row.syn_retransmits, row.stalls_1s, row.rsts, row.challenge_acks, row.paws_rejects, row.errors];
    cells.extend(counts.map(|count| grouped(count as f64)));
    cells.extend([row.aimed, row.incarnations_aimed, row.reached_a_window].map(|count| grouped(count as f64)));
    cells.push(grouped(row.old_bytes_accepted as f64));
    cells.push(rate(row).to_string());
    cells
}

/// Incarnations that took old bytes, of those at which old text was aimed.
pub(super) fn rate(row: &SweepRow) -> Rate {
    Rate::of(row.incarnations_with_old_bytes, row.incarnations_aimed)
}

/// Without its interval: the picture shows that.
pub(super) fn short(rate: &Rate) -> String {
    match *rate {
        Rate { trials: 0, .. } => "none aimed".into(),
        Rate { hits: 0, high, .. } => format!("< {high:.1e}"),
        Rate { hits, trials, .. } => format!("{:.1e}", hits as f64 / trials as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn no_old_byte_is_shown_as_less_than_three_by_n() {
        let text = of_run(&sample::full());
        assert!(text.contains("&lt; 3.0e-4"), "{text}");
        assert!(text.contains("(positive control)") && !text.contains("INVALID"));
    }

    #[test]
    fn control_that_saw_nothing_makes_the_section_invalid() {
        let mut report = sample::full();
        report.sweep.as_mut().expect("the sample has a sweep").valid = false;
        assert!(of_run(&report).contains("INVALID"));
    }
}
