//! `synfin-bench cps`: the main job. Runs synfin, the kernel's TCP and the raw echo in turn, and puts them side by side; then the
//! collapse and the recovery, and the risk beside the gain.

mod args;
pub(crate) mod child;
mod interface;
pub(crate) mod live;
pub(crate) mod machine;
mod one_end;
mod phases;
pub(crate) mod plan;
pub(crate) mod report;
pub(crate) mod result;
pub(crate) mod rounds;
mod search;
mod series;
pub(crate) mod statistics;
pub(crate) mod sweep;
mod table;
mod verdict;

pub(crate) use args::CpsArgs;

use crate::failure::Failure;
use crate::kernel::sys;
use crate::policy::Tw;
use crate::report::page;
use crate::risk::simulated;
use crate::role::Closer;
use crate::{compare, output};
use args::RateChoice;
use live::Live;
use machine::Machine;
use plan::Plan;
use report::{Flags, PolicyReport, Report, StackReport};
use result::{Memory, Phases, Resident};
use rounds::{Bench, Echo, Ends, Round, Spec, Stack, Wire};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Runs it all, prints the table, writes the result.
pub(crate) fn run(args: &CpsArgs) -> Result<(), Failure> {
    if let Some([before, after]) = args.compare.as_deref() {
        return compare::run(before, after);
    }
    let plan = Plan::new(args)?;
    args.outputs.check()?;
    let prediction = verdict::predict(args, &plan);
    eprintln!("prediction: {}", prediction.text);
    eprintln!("4-tuples: {}", plan.tuples.text(prediction.rate));
    if let Some(end) = args.end {
        eprintln!("on the other host: {}", one_end::command(args, &plan, end));
        eprintln!("{}", one_end::UNTESTED);
    }
    if args.dry_run {
        return output::print(&dry_run(args, &plan));
    }
    if !args.sim && sys::effective_user() != 0 {
        return Err(Failure::environment(
            "root is needed for namespaces and AF_XDP: run it with sudo, or with --sim for a simulation, which is no measurement",
        ));
    }
    let json = args.json.as_deref().map(Json::open).transpose()?;
    // The figures are the client's.
    let serves_another_host = args.end == Some(Closer::Server);
    let out = if serves_another_host { None } else { out_directory(args)? };
    let mut live = Live::begin()?;
    let report = if args.sim { simulate(args, &plan)? } else { measure(args, &plan, &mut live)? };
    live.clear();
    if serves_another_host {
        return judge(&report);
    }
    output::print(&table::text(&report))?;
    if let Some(out) = out {
        write_out(&out, &report)?;
    }
    if let Some(json) = json {
        json.write(&report)?;
    }
    args.outputs.write(&report)?;
    args.outputs.judge(&report)?;
    judge(&report)
}

/// The result and its page.
fn write_out(out: &Path, report: &Report) -> Result<(), Failure> {
    let raw = serde_json::to_string_pretty(report)
        .map_err(|error| Failure::failed(format!("--out {}: {error}", out.display())))?;
    output::write("--out", &out.join("result.json"), format!("{raw}\n").as_bytes())?;
    let path = out.join("report.html");
    output::write("--out", &path, page::page(report, &raw).as_bytes())?;
    eprintln!("report: {}", path.display());
    Ok(())
}

/// Whether the figures count.
fn judge(report: &Report) -> Result<(), Failure> {
    if report.sweep.as_ref().is_some_and(|sweep| !sweep.valid) {
        return Err(Failure::failed("INVALID: the positive control took no old octet, so that none would be seen"));
    }
    Failure::unless_clean(report.errors_total())
}

fn measure(args: &CpsArgs, plan: &Plan, live: &mut Live) -> Result<Report, Failure> {
    let wire = Wire {
        queues: args.queues,
        nics: args.nic.clone(),
        ..Wire::veth(&args.wire, [&args.netns_a, &args.netns_b], args.keep)
    };
    let bench = Bench { plan, mode: args.mode, wire };
    if let Some(end) = args.end {
        let round = one_end::run(&bench, args, end, live)?;
        live.clear();
        if end == Closer::Server {
            output::print(&one_end::of_server(&round))?;
        }
        let rounds = Rounds { synfin: [(0, vec![round])].into(), ..Rounds::default() };
        let mut report = rounds.report(args, plan);
        report.verdict = verdict::judge(args, &report);
        return Ok(report);
    }
    let interfaces = {
        let _up = bench.wire.up(Ends::Xdp, plan.tuples.count())?;
        interface::read(&bench.wire, args.queues)
    };
    let mut rounds = Rounds::default();
    if args.rate == RateChoice::Find {
        rounds.search = search::search(&bench, args, first(&args.tw), live)?;
    }
    rounds.play(&bench, args, live)?;
    let mut report = rounds.report(args, plan);
    report.interfaces = interfaces;
    if let Some(phases) = &plan.phases {
        report.phases = Some(phases::measure(&bench, args, phases, live)?);
    }
    if args.sweeps() {
        report.sweep = Some(sweep::measure(&bench, args, live)?);
    }
    report.verdict = verdict::judge(args, &report);
    Ok(report)
}

/// Everything of which there are rounds.
#[derive(Default)]
struct Rounds {
    synfin: BTreeMap<usize, Vec<Round>>,
    resident: Vec<Round>,
    kernel: Vec<Round>,
    kernel_reuse: Vec<Round>,
    echo: Vec<Echo>,
    search: Vec<result::RateStep>,
}

impl Rounds {
    fn play(&mut self, bench: &Bench<'_>, args: &CpsArgs, live: &mut Live) -> Result<(), Failure> {
        let plan = bench.plan;
        let rate = match args.rate {
            RateChoice::Max => 0.0,
            RateChoice::At(rate) => rate,
            RateChoice::Find => search::best(&self.search).map_or(0.0, |step| step.rate),
        };
        let spec = |tw| Spec { rate, ..Spec::new(args, plan, tw) };
        for number in 1..=plan.rounds {
            let label = format!("round {number}/{}", plan.rounds);
            for &stack in &args.stack {
                live.doing(format!("{label} {}", stack.name()), "connections/s");
                match stack {
                    Stack::Synfin => self.synfin(bench, args, &spec, &label, live)?,
                    // Frames can be lost or delayed on purpose by synfin's side only.
                    Stack::Kernel | Stack::KernelReuse if args.faults.any() => {}
                    Stack::Kernel => self.kernel.push(bench.round(stack, &spec(Tw::Strict), live)?),
                    Stack::KernelReuse => self.kernel_reuse.push(bench.round(stack, &spec(Tw::Timestamp), live)?),
                    Stack::Echo => self.echo.push(bench.echo(&spec(Tw::Strict), live, &label)?),
                }
            }
        }
        Ok(())
    }

    fn synfin(
        &mut self,
        bench: &Bench<'_>,
        args: &CpsArgs,
        spec: &dyn Fn(Tw) -> Spec,
        label: &str,
        live: &mut Live,
    ) -> Result<(), Failure> {
        for (place, &tw) in args.tw.iter().enumerate() {
            live.doing(format!("{label} synfin {}", tw.name()), "connections/s");
            self.synfin.entry(place).or_default().push(bench.round(Stack::Synfin, &spec(tw), live)?);
        }
        if args.resident > 0 {
            live.doing(format!("{label} synfin, {} in TIME-WAIT", args.resident), "connections/s");
            let spec = Spec { resident: args.resident, ..spec(first(&args.tw)) };
            self.resident.push(bench.round(Stack::Synfin, &spec, live)?);
        }
        Ok(())
    }

    fn report(self, args: &CpsArgs, plan: &Plan) -> Report {
        let tuples = plan.tuples.count();
        let none = Vec::new();
        let synfin = self.synfin.get(&0).unwrap_or(&none);
        let mut report = Report::new(Machine::read(), flags(args, plan), synfin, &self.kernel, &self.echo);
        report.policies = self
            .synfin
            .iter()
            .filter_map(|(place, rounds)| {
                let policy = args.tw.get(*place)?.name().to_string();
                Some(PolicyReport { policy, stack: StackReport::new(rounds, tuples)? })
            })
            .collect();
        report.kernel_reuse = StackReport::new(&self.kernel_reuse, tuples);
        report.memory = memory(&report, synfin);
        report.resident = StackReport::new(&self.resident, tuples).map(|resident| Resident {
            entries: u64::from(args.resident),
            connections_per_second: resident.connections_per_second,
            connections_per_second_empty: report
                .stacks
                .synfin
                .as_ref()
                .map_or(0.0, |synfin| synfin.connections_per_second),
            errors: resident.errors,
            time_wait_evicted: resident.time_wait_evicted,
        });
        report.rate_search = self.search;
        report.command = command();
        report.seed = plan.seed;
        report.prediction = verdict::predict(args, plan);
        report
    }
}

/// The simulated sweep and phases; nothing is measured.
fn simulate(args: &CpsArgs, plan: &Plan) -> Result<Report, Failure> {
    let mut report = Report::new(Machine::read(), flags(args, plan), &[], &[], &[]);
    report.measurement = false;
    report.command = command();
    report.seed = plan.seed;
    report.prediction = verdict::predict(args, plan);
    report.sweep = Some(simulated::sweep(plan.seed)?);
    if let Some(phases) = &plan.phases {
        let (supply, _) = phases::supply(args);
        let synfin = Some(simulated::collapse(&supply, phases)?);
        report.phases = Some(Phases { synfin, ..phases::predict(&supply, phases) });
    }
    Ok(report)
}

/// What would be done, a line each.
fn dry_run(args: &CpsArgs, plan: &Plan) -> String {
    let mut lines = Vec::new();
    if args.sim {
        lines.push("simulate the sweep in virtual time, without wire or privilege: no measurement".to_string());
    } else {
        let (a, b) = (&args.netns_a, &args.netns_b);
        lines.push(match args.nic.as_slice() {
            [client, server] => {
                format!("move {client} to namespace {a} and {server} to {b}, for each run; give them back after it")
            }
            [nic] => format!("move {nic} to a namespace, and give it back afterwards"),
            _ => format!("make namespaces {a} and {b} joined by a veth pair, for each run; remove them after it"),
        });
        if let Some(end) = args.end {
            lines.push(format!("run the {} of synfin alone", end.name()));
            return lines.into_iter().map(|line| format!("would {line}\n")).collect();
        }
        let names: Vec<&str> = args.stack.iter().map(|stack| stack.name()).collect();
        let policies: Vec<&str> = args.tw.iter().map(|tw| tw.name()).collect();
        lines.push(format!(
            "{} rounds of {} s after {} s of warm-up: {} (synfin: {}), {} closes first, CPUs {} and {}",
            plan.rounds,
            plan.duration_s,
            plan.warmup_s,
            names.join(", "),
            policies.join(", "),
            plan.closer.name(),
            plan.cpus.0,
            plan.cpus.1
        ));
        if args.sweeps() {
            lines.push(format!("the sweep with its positive control, about {:.0} s", sweep::seconds(args)));
        }
    }
    if let Some(phases) = &plan.phases {
        lines.push(format!("the phases {phases}"));
    }
    match (&args.out, &args.out_default) {
        (Some(out), _) | (None, Some(out)) => lines.push(format!("write the result to {}", out.display())),
        (None, None) => {}
    }
    lines.into_iter().map(|line| format!("would {line}\n")).collect()
}

/// The directory of the result, made before the run so that a bad path costs no minute.
fn out_directory(args: &CpsArgs) -> Result<Option<PathBuf>, Failure> {
    let Some(out) = args.out.clone().or(args.out_default.clone()) else { return Ok(None) };
    std::fs::create_dir_all(&out).map_err(|error| {
        Failure::usage(format!("--out {}: {error}; name a directory that can be written", out.display()))
    })?;
    Ok(Some(out))
}

fn flags(args: &CpsArgs, plan: &Plan) -> Flags {
    Flags {
        closer: plan.closer.name().to_string(),
        duration_s: plan.duration_s,
        warmup_s: plan.warmup_s,
        rounds: plan.rounds,
        conns: plan.conns,
        mode: args.mode.name().to_string(),
        cpus: plan.cpus,
        tuples: plan.tuples,
        tw: args.tw.iter().map(|tw| tw.name().to_string()).collect(),
        msl_s: args.msl.unwrap_or(plan::TWO_MSL_S / 2.0),
        tw_delay_ms: args.tw_delay,
        ports: args.ports.to_string(),
        payload: args.payload.to_string(),
        rate: match args.rate {
            RateChoice::Max => "max".to_string(),
            RateChoice::Find => "find".to_string(),
            RateChoice::At(rate) => rate.to_string(),
        },
        queues: args.queues,
        shared_cpus: plan.shares_cpus(args.queues),
        sleep: args.sleep,
        faults: args.faults,
        nic: args.nic.clone(),
        stack: args.stack.iter().map(|stack| stack.name().to_string()).collect(),
    }
}

fn memory(report: &Report, synfin: &[Round]) -> Memory {
    let rss = report.stacks.synfin.iter().flat_map(|stack| &stack.runs).flat_map(|run| &run.series);
    Memory {
        synfin_bytes_per_time_wait: synfin.iter().find_map(|round| round.time_wait_bytes),
        kernel_bytes_per_time_wait: machine::kernel_time_wait_bytes(),
        synfin_rss_max: rss.map(|moment| moment.rss.0.max(moment.rss.1)).max(),
    }
}

fn first(policies: &[Tw]) -> Tw {
    policies.first().copied().unwrap_or(Tw::Strict)
}

/// The command that repeats this run: the options that a user gives, not those of the script.
fn command() -> String {
    let mut words = vec!["bench/cps.sh".to_string()];
    let mut given = std::env::args().skip(2);
    while let Some(word) = given.next() {
        if ["--netns-a", "--netns-b", "--wire", "--out-default"].contains(&word.as_str()) {
            given.next();
        } else {
            words.push(quoted(&word));
        }
    }
    words.join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=+,./:%@".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The file for the result, tried before the run so that a bad path costs no minute.
pub(crate) struct Json<'a> {
    path: &'a Path,
}

impl Json<'_> {
    /// Tries `path`, which need not exist.
    pub(crate) fn open(path: &Path) -> Result<Json<'_>, Failure> {
        output::check("--json", path)?;
        Ok(Json { path })
    }

    /// Writes `report` in place of what was there.
    pub(crate) fn write(self, report: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(report)
            .map_err(|error| Failure::failed(format!("--json {}: {error}", self.path.display())))?;
        output::write("--json", self.path, format!("{text}\n").as_bytes())
    }
}
