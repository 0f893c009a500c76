//! `synfin-bench risk`: what TIME-WAIT reuse risks, by policy, as numbers.
//!
//! Two shards open, use and close the same few 4-tuples over and over, in virtual time. The wire between them keeps segments of
//! earlier incarnations, up to 2MSL old, and sends one of them again at each moment of every new one: when the client is in
//! SYN-SENT, the server in SYN-RECEIVED, at the first text of either, at the close and in TIME-WAIT. Each octet says which
//! connection and incarnation it is of, so that one that reaches an application in the wrong one is seen.
//!
//! ```text
//!   client shard -- link --> wire (history, aim, random ISNs) -- link --> faults --> server shard      (and back)
//! ```

mod chart;
mod ends;
mod history;
pub(crate) mod model;
mod moment;
mod phases;
pub(crate) mod predict;
pub(crate) mod rate;
mod report;
pub(crate) mod simulated;
mod sweep;
mod text;
pub(crate) mod wire;
pub(crate) mod workload;
mod world;

use crate::failure::Failure;
use crate::output;
use clap::Args;
use report::Report;
use serde::Serialize;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use sweep::Plan;
use synfin::tcp::time_wait::Policy;
use workload::PolicyName;

/// Options of `synfin-bench risk`.
#[derive(Args, Clone, Debug)]
pub(crate) struct RiskArgs {
    /// Under 20 s: fewer incarnations, whose rates say less
    #[arg(long)]
    quick: bool,
    /// Incarnations of each policy, over all workloads [default: 10000000, 150000 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000_000))]
    incarnations: Option<u64>,
    /// Policies to play [default: all]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    policies: Option<Vec<PolicyName>>,
    /// What everything random is drawn from: the same seed replays exactly
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the result to FILE as JSON; `-` writes it to standard output instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Plays the positive control and the sweep, and reports.
pub(crate) fn run(args: &RiskArgs) -> Result<(), Failure> {
    check(args.json.as_deref())?;
    let report = measure(args)?;
    publish(&report, args.json.as_deref())?;
    judge(&report)
}

fn measure(args: &RiskArgs) -> Result<Report, Failure> {
    let incarnations = args.incarnations.unwrap_or(if args.quick { QUICK_INCARNATIONS } else { INCARNATIONS });
    let policies = match &args.policies {
        Some(names) => names.iter().map(|name| name.policy()).collect(),
        None => Policy::ALL.to_vec(),
    };
    let aimed = sweep::play_aimed(args.seed).map_err(Failure::failed)?;
    let played = sweep::play(&Plan { policies, incarnations, seed: args.seed }).map_err(Failure::failed)?;
    Ok(Report::new(&aimed, &played, args.quick, args.seed, incarnations))
}

/// Whether the figures count at all.
fn judge(report: &Report) -> Result<(), Failure> {
    if !report.valid {
        return Err(Failure::failed("INVALID: the positive control took no old octet, so that none would be seen"));
    }
    match report.other_bytes() {
        0 => Ok(()),
        octets => Err(Failure::failed(format!(
            "{octets} octets were delivered that no incarnation had sent; replay with --seed {}",
            report.seed
        ))),
    }
}

/// Prints a report, or writes it where `--json` says: whole or not at all.
fn publish<R: Serialize + Display>(report: &R, json: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = json else { return output::print(&report.to_string()) };
    let text =
        serde_json::to_string_pretty(report).map_err(|error| Failure::failed(format!("--json: {error}")))? + "\n";
    if path == Path::new("-") {
        return output::print(&text);
    }
    output::print(&report.to_string())?;
    output::write("--json", path, text.as_bytes())
}

/// Whether the file for the result can be written, told before a run that takes minutes.
fn check(json: Option<&Path>) -> Result<(), Failure> {
    json.filter(|path| *path != Path::new("-")).map_or(Ok(()), |path| output::check("--json", path))
}

/// Incarnations of each policy.
const INCARNATIONS: u64 = 10_000_000;
const QUICK_INCARNATIONS: u64 = 150_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema;

    #[test]
    fn schema_in_the_repository_is_that_of_risk_and_its_result_has_it() {
        schema::is_kept::<Report>("risk.json");
        let result = serde_json::to_value(small()).expect("serializes");
        let faults = |result| schema::faults(include_str!("../schema/risk.json"), result);
        assert_eq!(faults(&result), Vec::<String>::new());
        let mut without = result.clone();
        without["rows"][0].as_object_mut().expect("a row").remove("tally");
        assert_eq!(faults(&without).len(), 1);
    }

    #[test]
    fn a_result_can_be_read_again_and_shown_as_the_simulation_that_it_is() {
        let report = small();
        let raw = serde_json::to_string(&report).expect("serializes");
        let shown = simulated::from_risk(&raw).expect("it is one");
        let sweep = shown.sweep.as_ref().expect("the rows");
        assert!(!shown.measurement && sweep.valid);
        assert_eq!(sweep.rows.len(), report.rows.len());
        let old = |control: &crate::cps::result::SweepRow| control.old_bytes_accepted;
        assert_eq!(sweep.control.as_ref().map(old), report.aimed.last().map(|row| row.tally.old_bytes));
        assert!(crate::report::page::page(&shown, &raw).contains("positive control"));
        assert!(simulated::from_risk("{}").is_none());
    }

    #[test]
    fn a_file_that_cannot_be_is_refused_before_anything_is_played() {
        assert_eq!(check(Some(Path::new("/no/such/file"))).expect_err("cannot be").exit, 2);
        assert_eq!(check(Some(Path::new("-"))), Ok(()));
    }

    fn small() -> Report {
        let aimed = sweep::play_aimed(3).expect("plays");
        let plan = Plan { policies: vec![Policy::Strict, Policy::None], incarnations: 360, seed: 3 };
        Report::new(&aimed, &sweep::play(&plan).expect("plays"), true, 3, 360)
    }

    #[test]
    fn a_run_whose_control_shows_nothing_is_invalid() {
        let mut aimed = sweep::play_aimed(3).expect("plays");
        let report = |aimed: &[sweep::Played]| Report::new(aimed, &[], true, 3, 0);
        assert_eq!(judge(&report(&aimed)), Ok(()));
        aimed.last_mut().expect("the control").tally.old_bytes = 0;
        let refused = judge(&report(&aimed)).expect_err("no control, no figures");
        assert_eq!(refused.exit, 1);
        assert!(refused.message.starts_with("INVALID"));
    }
}
