//! `synfin-bench predict`: the prediction before the measurement, and a simulated collapse and recovery beside it.

use super::chart;
use super::model::{Prediction, Supply};
use super::phases::{Second, play};
use super::{check, publish};
use crate::failure::Failure;
use crate::policy::Phases;
use clap::Args;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use synfin::flow::capacity::tuples;
use synfin::limits::{self, Limits};
use synfin::tcp::time_wait::{Full, Policy};

/// Options of `synfin-bench predict`.
#[derive(Args, Clone, Debug)]
pub(crate) struct PredictArgs {
    /// Ports that active opens draw from
    #[arg(long, value_name = "N", default_value_t = u32::from(limits::PORTS.1 - limits::PORTS.0) + 1, value_parser = clap::value_parser!(u32).range(1..=64_512))]
    ports: u32,
    /// Source addresses x destinations (an address and a port each)
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pairs: u32,
    /// Pairs that may have ports in use or in TIME-WAIT at a time (`destinations_max` of each shard)
    #[arg(long, value_name = "N", default_value_t = Limits::default().destinations_max)]
    destinations_max: u32,
    /// Places in TIME-WAIT, of all shards together [default: as many as are needed]
    #[arg(long, value_name = "N", conflicts_with = "phases")]
    time_wait_max: Option<u32>,
    /// What becomes of who finds none of them: refuse-open, evict-oldest or skip
    #[arg(long, value_name = "POLICY", default_value = Full::default().name(), value_parser = full, requires = "time_wait_max")]
    time_wait_full: Full,
    /// 2MSL, seconds [default: 60; 10 with --phases]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=7200))]
    two_msl: Option<u32>,
    /// Opens tried per second [default: 200000; with --phases what takes the last port after 5 s]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: Option<u32>,
    /// Simulate policies that follow one another in one run, such as strict:15s,timestamp:10s
    #[arg(long, value_name = "POLICY:SECONDSs,...")]
    phases: Option<Phases>,
    /// Write the result to FILE as JSON; `-` writes it to standard output instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is predicted, and what a simulation came to.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Report {
    /// Version of this layout.
    schema_version: u32,
    /// What opens meet.
    supply: Supply,
    /// What follows from it, a policy each.
    predictions: Vec<Prediction>,
    /// The simulated collapse and recovery, second by second; empty without `--phases`.
    seconds: Vec<Second>,
}

/// Predicts, simulates where asked, and reports.
pub(crate) fn run(args: &PredictArgs) -> Result<(), Failure> {
    check(args.json.as_deref())?;
    let simulated = args.phases.is_some();
    let tuples = tuples((1, args.pairs, args.ports), args.destinations_max);
    if simulated && args.pairs != 1 {
        return Err(Failure::usage(
            "--pairs with --phases: the simulation has one pair of addresses; leave --pairs out",
        ));
    }
    let default_rate = if simulated { (args.ports / EXHAUSTED_AFTER_S).max(1) } else { 200_000 };
    let supply = Supply {
        tuples,
        two_msl_s: args.two_msl.unwrap_or(if simulated { 10 } else { 60 }).into(),
        delay_s: f64::from(limits::TIME_WAIT_DELAY_MS) / 1000.0,
        rate: args.rate.unwrap_or(default_rate).into(),
        time_wait_places: args.time_wait_max,
        time_wait_full: args.time_wait_full,
    };
    let seconds = match &args.phases {
        Some(phases) => play(&supply, phases).map_err(Failure::failed)?,
        None => Vec::new(),
    };
    let predictions = Policy::ALL.map(|policy| supply.predict(policy)).to_vec();
    let report = Report { schema_version: 1, supply, predictions, seconds };
    publish(&report, args.json.as_deref())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Supply { tuples, two_msl_s, delay_s, rate, time_wait_places, time_wait_full } = self.supply;
        writeln!(f, "{tuples} 4-tuples, 2MSL {two_msl_s} s, reuse after {delay_s} s, {rate} opens per second tried")?;
        if let Some(places) = time_wait_places {
            writeln!(f, "{places} places in TIME-WAIT; full: {}", time_wait_full.name())?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "{:<22} {:>6} {:>16} {:>14} {:>14} {:>12}",
            "policy", "held s", "ceiling, conn/s", "none free at s", "first free at", "TIME-WAIT"
        )?;
        for prediction in &self.predictions {
            let or_never = |seconds: Option<f64>| seconds.map_or("never".into(), |seconds| format!("{seconds:.2}"));
            writeln!(
                f,
                "{:<22} {:>6} {:>16} {:>14} {:>14} {:>12.0}",
                prediction.policy,
                prediction.held_s,
                prediction.ceiling.map_or("none".into(), |ceiling| format!("{ceiling:.1}")),
                or_never(prediction.exhausted_after_s),
                prediction.free_again_at_s.map_or("-".into(), |seconds| format!("{seconds:.2}")),
                prediction.time_wait_max
            )?;
        }
        writeln!(
            f,
            "The ceiling is an average: above it all ports go at once, and nothing is free until the first comes back. \
             None: ports do not bound the rate."
        )?;
        if !self.seconds.is_empty() {
            writeln!(f)?;
            chart::write(f, &self.seconds)?;
        }
        Ok(())
    }
}

fn full(text: &str) -> Result<Full, String> {
    let names = Full::ALL.map(Full::name).join(", ");
    Full::from_name(text).ok_or_else(|| format!("no policy {text:?} for a full store: there are {names}"))
}

/// When the ports of a simulation run out unless a rate is given, s.
const EXHAUSTED_AFTER_S: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schema;

    #[test]
    fn schema_in_the_repository_is_that_of_predict_and_its_result_has_it() {
        schema::is_kept::<Report>("predict.json");
        let supply = Supply { tuples: 500, two_msl_s: 2.0, delay_s: 1.0, rate: 100.0, ..Supply::default() };
        let seconds = play(&supply, &"strict:1s,none:1s".parse().expect("phases")).expect("plays");
        let predictions = Policy::ALL.map(|policy| supply.predict(policy)).to_vec();
        let report = Report { schema_version: 1, supply, predictions, seconds };
        let mut result = serde_json::to_value(&report).expect("serializes");
        let faults = |result: &serde_json::Value| schema::faults(include_str!("../schema/predict.json"), result);
        assert_eq!(faults(&result), Vec::<String>::new());
        result["supply"]["rate"] = "fast".into();
        assert_eq!(faults(&result).len(), 1);
    }
}
