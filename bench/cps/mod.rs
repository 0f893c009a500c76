//! `synfin-bench cps`: the main job. Runs synfin, the kernel's TCP and the raw echo in turn, and puts them side by side.

pub(crate) mod child;
pub(crate) mod live;
pub(crate) mod machine;
pub(crate) mod plan;
mod report;
pub(crate) mod result;
pub(crate) mod rounds;
pub(crate) mod statistics;
mod table;

use crate::failure::Failure;
use crate::kernel::sys;
use crate::role::{Closer, Mode};
use clap::Args;
use live::Live;
use machine::Machine;
use plan::Plan;
use report::{Flags, Report};
use rounds::{Bench, Stack, Wire};
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Options of the main job; `cps.sh` hands its own over.
#[derive(Args, Clone, Debug)]
pub(crate) struct CpsArgs {
    /// Namespace of the client, made and removed by the wire script
    #[arg(long, value_name = "NS", hide = true)]
    pub netns_a: String,
    /// Namespace of the server
    #[arg(long, value_name = "NS", hide = true)]
    pub netns_b: String,
    /// The script that makes and removes the namespaces and the veth pair
    #[arg(long, value_name = "FILE", hide = true)]
    pub wire: PathBuf,
    /// Under 30 s: rounds of 1.5 s
    #[arg(long)]
    pub quick: bool,
    /// Who closes first, and so keeps TIME-WAIT
    #[arg(long, value_enum, default_value_t = Closer::Client)]
    pub closer: Closer,
    /// Write the result to FILE
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Measured window of each round, s [default: 5, with --quick 1.5]
    #[arg(long, value_name = "S")]
    pub duration: Option<f64>,
    /// Rounds of each stack
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Connections in flight
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pub conns: u32,
    /// Source addresses of the client [default: as many as the 4-tuples need, at least 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(plan::SOURCES_MAX)))]
    pub src_ips: Option<u32>,
    /// How the XDP program is attached
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    pub mode: Mode,
    /// CPUs of the client and of the server
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "0,1")]
    pub cpus: Vec<usize>,
    /// What to run, in this order
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "synfin,kernel,echo")]
    pub stack: Vec<Stack>,
    /// Leave the last pair of namespaces for inspection
    #[arg(long)]
    pub keep: bool,
}

/// Runs it all, prints the table, writes the JSON file.
pub(crate) fn run(args: &CpsArgs) -> Result<(), Failure> {
    let plan = Plan::new(args)?;
    if sys::effective_user() != 0 {
        return Err(Failure::environment("root is needed for namespaces and AF_XDP: run it with sudo"));
    }
    let json = args.json.as_deref().map(Json::open).transpose()?;
    let mut live = Live::begin()?;
    eprintln!("4-tuples: {}", plan.tuples.text(plan.tuples.rate_max as f64));
    let report = measure(args, &plan, &mut live)?;
    live.clear();
    println!("{}", table::text(&report).trim_end());
    if let Some(json) = json {
        json.write(&report)?;
    }
    match report.errors_total() {
        0 => Ok(()),
        errors => Err(Failure::failed(format!("{errors} errors: the figures above are not to be relied on"))),
    }
}

fn measure(args: &CpsArgs, plan: &Plan, live: &mut Live) -> Result<Report, Failure> {
    let (client, server) = (args.netns_a.clone(), args.netns_b.clone());
    let wire = Wire { script: args.wire.clone(), client, server, keep: args.keep };
    let bench = Bench { plan, mode: args.mode, wire };
    let (mut synfin, mut kernel, mut echo) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=plan.rounds {
        let label = format!("round {round}/{}", plan.rounds);
        for &stack in &args.stack {
            live.doing(format!("{label} {}", stack.name()), "connections/s");
            match stack {
                Stack::Synfin => synfin.push(bench.round(stack, live)?),
                Stack::Kernel => kernel.push(bench.round(stack, live)?),
                Stack::Echo => echo.push(bench.echo(live, &label)?),
            }
        }
    }
    let flags = Flags {
        closer: plan.closer.name().to_string(),
        duration_s: plan.duration_s,
        warmup_s: plan.warmup_s,
        rounds: plan.rounds,
        conns: plan.conns,
        mode: args.mode.name().to_string(),
        cpus: plan.cpus,
        tuples: plan.tuples,
    };
    Ok(Report::new(Machine::read(), flags, &synfin, &kernel, &echo))
}

/// The file for the result, opened before the run so that a bad path costs no minute.
pub(crate) struct Json<'a> {
    path: &'a Path,
    file: std::fs::File,
}

impl Json<'_> {
    /// Opens `path`, which need not exist.
    pub(crate) fn open(path: &Path) -> Result<Json<'_>, Failure> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| {
            Failure::usage(format!("--json {}: {error}; name a file that can be written", path.display()))
        })?;
        Ok(Json { path, file })
    }

    /// Writes `report` in place of what was there.
    pub(crate) fn write(mut self, report: &impl Serialize) -> Result<(), Failure> {
        let failed = |what: String| Failure::failed(format!("--json {}: {what}", self.path.display()));
        let text = serde_json::to_string_pretty(report).map_err(|error| failed(error.to_string()))?;
        let written = self.file.set_len(0).and_then(|()| self.file.write_all(text.as_bytes()));
        let written = written.and_then(|()| self.file.write_all(b"\n")).and_then(|()| self.file.sync_all());
        written.map_err(|error| failed(format!("{error}; is the disk full?")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: CpsArgs,
    }

    fn parse(options: &[&str]) -> Result<CpsArgs, clap::Error> {
        let given = ["cps", "--netns-a", "a", "--netns-b", "b", "--wire", "w"];
        Command::try_parse_from(given.iter().chain(options)).map(|command| command.args)
    }

    #[test]
    fn script_help_names_every_option() {
        let help = include_str!("../cps.sh");
        for option in Command::command().get_arguments().filter(|option| !option.is_hide_set()) {
            let name = option.get_long().expect("all options are long");
            assert!(help.contains(&format!("--{name}")), "bench/cps.sh --help does not name --{name}");
        }
    }

    #[test]
    fn options_out_of_range_are_usage_errors() {
        assert_eq!(parse(&["--cpus", "0,1"]).expect("good").cpus, [0, 1]);
        for bad in [
            &["--rounds", "0"][..],
            &["--conns", "0"],
            &["--mode", "fast"],
            &["--closer", "nobody"],
            &["--src-ips", "40000"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        for bad in [
            &["--cpus", "0"][..],
            &["--cpus", "1,1"],
            &["--cpus", "0,1,2"],
            &["--duration", "0"],
            &["--duration", "NaN"],
        ] {
            let plan = Plan::new(&parse(bad).expect("parses"));
            assert_eq!(plan.expect_err("refused").exit, 2, "{bad:?}");
        }
    }

    #[test]
    fn default_run_takes_about_a_minute_and_quick_half() {
        let seconds = |options: &[&str]| {
            let args = parse(options).expect("good");
            let plan = Plan::new(&args).expect("plan");
            f64::from(plan.rounds) * (2.0 * (plan.warmup_s + plan.duration_s) + 6.0 * (plan.echo_s(6) + plan.warmup_s))
        };
        assert!((45.0..60.0).contains(&seconds(&[])), "{}", seconds(&[]));
        assert!(seconds(&["--quick"]) < 21.0, "{}", seconds(&["--quick"]));
    }
}
