//! `synfin-bench engine`: the stack without a wire. One thread plays both ends through the whole turn: parse, checksum,
//! tables, state machine, emit.
//!
//! Rounds of all combinations of one number of live connections are interleaved, and of smoltcp at its own; the medians count.

mod checks;
mod compared;
mod entries;
mod report;
mod world;

use crate::failure::Failure;
use crate::kernel::sys::release_freed_memory;
use clap::Args;
use compared::Smoltcp;
use report::{Entry, Report, write_json};
use std::time::Duration;
use synfin::memory::{available_bytes, resident_bytes};
use world::{Sample, TimeWaitEnds, World, WorldConfig};

/// Options of `synfin-bench engine`.
#[derive(Args, Clone, Debug)]
pub(crate) struct EngineArgs {
    /// A few seconds: 1,000 live connections, 0 and 1 million TIME-WAIT entries
    #[arg(long)]
    quick: bool,
    /// Write the result to FILE; `-` writes it to standard output instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<String>,
    /// Live connections to measure with [default: 1000 100000 1000000]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    live: Option<Vec<u32>>,
    /// Resident TIME-WAIT entries to measure with, all at the pace at which the most stay for a minute [default: 0 10000000
    /// 60000000]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(0..=500_000_000))]
    resident: Option<Vec<u32>>,
    /// Rounds of each combination
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Leave the tables on small pages
    #[arg(long)]
    no_huge_pages: bool,
    /// Over IPv6 instead of IPv4 (smoltcp stays on IPv4)
    #[arg(long)]
    ipv6: bool,
    /// Instead: N lifecycles with a short 2MSL, and a tenth as many each where TIME-WAIT is reused and where it is evicted; then
    /// every count must balance and nothing be leaked
    #[arg(long, value_name = "N", conflicts_with = "idle")]
    soak: Option<u64>,
    /// Instead: N lifecycles beside 1,000 live connections, and nothing measured: for counting their instructions
    #[arg(long, value_name = "N", conflicts_with_all = ["idle", "soak"])]
    lifecycles: Option<u64>,
    /// Instead: N idle established connections at each end, and the bytes that each takes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    idle: Option<u32>,
    /// Instead: fills TIME-WAIT with N entries, and the bytes that each takes, its place in the index included
    #[arg(long, value_name = "N", conflicts_with_all = ["idle", "soak", "lifecycles"], value_parser = clap::value_parser!(u32).range(1..=500_000_000))]
    entries: Option<u32>,
}

/// Runs what was asked for.
pub(crate) fn run(args: &EngineArgs) -> Result<(), Failure> {
    if let Some(lifecycles) = args.soak {
        return checks::soak(lifecycles, config(1000, 0, PACE_NS, args));
    }
    if let Some(lifecycles) = args.lifecycles {
        return checks::lifecycles(lifecycles, config(1000, 0, PACE_NS, args));
    }
    if let Some(connections) = args.idle {
        return checks::idle(connections, config(1000, 0, PACE_NS, args));
    }
    if let Some(entries) = args.entries {
        return entries::entries(entries, args.ipv6);
    }
    let report = measure(args)?;
    match args.json.as_deref() {
        Some("-") => write_json(&report, std::io::stdout()),
        Some(path) => {
            print!("{report}");
            let file = std::fs::File::create(path)
                .map_err(|error| Failure::usage(format!("--json {path}: {error}; name a file that can be written")))?;
            write_json(&report, file)
        }
        None => {
            print!("{report}");
            Ok(())
        }
    }
}

fn measure(args: &EngineArgs) -> Result<Report, Failure> {
    let live = args.live.clone().unwrap_or(if args.quick { vec![1000] } else { vec![1000, 100_000, 1_000_000] });
    let resident =
        args.resident.clone().unwrap_or(if args.quick { vec![0, 1_000_000] } else { vec![0, 10_000_000, 60_000_000] });
    let (rounds, round) = if args.quick { (3, QUICK_ROUND) } else { (args.rounds, ROUND) };
    let mut report = Report { rounds, round_ms: round.as_millis() as u64, ..Report::default() };
    let pace_ns = pace_ns(&resident);
    for (number, live) in live.into_iter().enumerate() {
        let configs: Vec<WorldConfig> =
            resident.iter().map(|&resident| config(live, resident, pace_ns, args)).collect();
        let mut worlds = build(&configs, &mut report)?;
        // smoltcp takes part once, in the first group.
        let mut compared = Vec::new();
        if number == 0 {
            for (connections, time_wait) in COMPARED {
                compared.push((
                    connections,
                    Smoltcp::new(connections, time_wait).map_err(Failure::failed)?,
                    Vec::new(),
                ));
            }
        }
        for at in 0..rounds {
            eprintln!("engine: {live} live, round {} of {rounds}", at + 1);
            for (_, world, samples) in &mut worlds {
                samples.push(world.measure(round).map_err(Failure::failed)?);
            }
            for (_, smoltcp, samples) in &mut compared {
                samples.push(smoltcp.measure(round).map_err(Failure::failed)?);
            }
        }
        for (mut entry, world, samples) in worlds {
            entry.huge_page_bytes = world.huge.obtained_bytes;
            entry.huge_page_bytes_refused = world.huge.refused_bytes;
            entry.time_wait_resident = world.client.time_wait_live() as u64;
            report.synfin.push(with_medians(entry, &samples));
        }
        for (connections, mut smoltcp, samples) in compared {
            let resident = smoltcp.time_wait() as u64;
            let entry = Entry { live: connections as u64, resident, time_wait_resident: resident, ..Entry::default() };
            report.smoltcp.push(with_medians(entry, &samples));
        }
    }
    report.compare();
    Ok(report)
}

/// Makes and fills the worlds of one group, as many as fit; the others are named in the report.
fn build(configs: &[WorldConfig], report: &mut Report) -> Result<Vec<(Entry, World, Vec<Sample>)>, Failure> {
    let mut worlds: Vec<(Entry, World, Vec<Sample>)> = Vec::new();
    let mut empty_bytes = None;
    // What the group before has freed goes back to the system: else this one's first world would seem smaller than it is.
    release_freed_memory();
    for config in configs {
        let needed = World::bill_bytes(config);
        // A tenth is left for the rest of the system.
        if available_bytes().is_some_and(|available| needed > available - available / 10) {
            report.left_out.push(format!(
                "{} live x {} TIME-WAIT: {needed} bytes of memory are not there",
                config.live, config.resident
            ));
            continue;
        }
        eprintln!("engine: {} live, filling {} TIME-WAIT entries", config.live, config.resident);
        let before = resident_bytes().unwrap_or(0);
        let mut world = World::new(config).map_err(Failure::environment)?;
        world.fill(config, |closed| eprintln!("engine: {closed} connections closed")).map_err(Failure::failed)?;
        let grown = resident_bytes().unwrap_or(0).saturating_sub(before);
        if config.resident == 0 {
            empty_bytes = Some(grown);
        }
        let bytes_per_entry = empty_bytes
            .filter(|_| config.resident > 0)
            .map(|empty| grown.saturating_sub(empty) as f64 / world.client.time_wait_live() as f64);
        let entry =
            Entry { live: config.live.into(), resident: config.resident.into(), bytes_per_entry, ..Entry::default() };
        worlds.push((entry, world, Vec::new()));
    }
    Ok(worlds)
}

/// The pace at which the most entries asked for stay for a 2MSL of a minute. One for all: columns with fewer entries have a shorter
/// 2MSL, not other lifecycles.
fn pace_ns(resident: &[u32]) -> u32 {
    let most = resident.iter().copied().max().unwrap_or(0);
    if most == 0 { PACE_NS } else { (60_000_000_000 / u64::from(most)).min(PACE_NS_MAX) as u32 }
}

fn config(live: u32, resident: u32, ns_per_lifecycle: u32, args: &EngineArgs) -> WorldConfig {
    WorldConfig {
        live,
        resident,
        ns_per_lifecycle,
        exchange: true,
        huge_pages: !args.no_huge_pages,
        ipv6: args.ipv6,
        time_wait: TimeWaitEnds::Expired,
    }
}

fn with_medians(entry: Entry, samples: &[Sample]) -> Entry {
    let of = |value: fn(&Sample) -> f64| median(samples.iter().map(value).collect());
    Entry {
        lifecycles_per_second: of(|sample| sample.lifecycles_per_second),
        ns_per_segment: of(|sample| sample.ns_per_segment),
        segments_per_lifecycle: of(|sample| sample.segments_per_lifecycle),
        ..entry
    }
}

/// The value in the middle, or the mean of the two; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        len => (values[(len - 1) / 2] + values[len / 2]) / 2.0,
    }
}

/// Virtual time per lifecycle where no entries stay, ns.
const PACE_NS: u32 = 10_000;

/// Longest virtual time per lifecycle, ns: a few entries asked for have a shorter 2MSL instead.
const PACE_NS_MAX: u64 = 1_000_000_000;

const ROUND: Duration = Duration::from_secs(1);
const QUICK_ROUND: Duration = Duration::from_millis(300);

/// Connections open at a time at which smoltcp is measured, and sockets in TIME-WAIT beside them; 0 cuts TIME-WAIT
/// short. It looks each segment's socket up one by one, so more say nothing new.
const COMPARED: [(usize, usize); 4] = [(1, 0), (100, 0), (1000, 0), (1000, 10_000)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_value_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn columns_of_a_group_play_the_same_lifecycles() {
        let pace = pace_ns(&[0, 10_000_000, 60_000_000]);
        let of = |resident| WorldConfig {
            live: 1000,
            resident,
            ns_per_lifecycle: pace,
            exchange: true,
            huge_pages: false,
            ipv6: false,
            time_wait: TimeWaitEnds::Expired,
        };
        assert_eq!(
            (pace, of(0).two_msl_ms(), of(10_000_000).two_msl_ms(), of(60_000_000).two_msl_ms()),
            (1000, 2, 10_000, 60_000)
        );
        assert_eq!((pace_ns(&[0]), pace_ns(&[1]), pace_ns(&[500_000_000])), (10_000, 1_000_000_000, 120));
    }

    #[test]
    fn few_lifecycles_of_both_stacks_end_as_they_should() {
        let config = WorldConfig {
            live: 100,
            resident: 2000,
            ns_per_lifecycle: 30_000_000,
            exchange: true,
            huge_pages: false,
            ipv6: false,
            time_wait: TimeWaitEnds::Expired,
        };
        let mut world = World::new(&config).expect("a world");
        world.fill(&config, |_| ()).expect("lifecycles");
        let sample = world.measure(Duration::from_millis(50)).expect("more lifecycles");
        assert!((6.9..8.1).contains(&sample.segments_per_lifecycle), "{sample:?}");
        let resident = world.client.time_wait_live();
        assert!((1900..2200).contains(&resident), "{resident} are resident");
        for time_wait in [0, 50] {
            let mut smoltcp = Smoltcp::new(3, time_wait).expect("sockets");
            // Long enough that the three that are cut off at either end do not count, on a busy machine too.
            let sample = smoltcp.measure(Duration::from_millis(300)).expect("lifecycles");
            assert!((6.9..7.2).contains(&sample.segments_per_lifecycle), "{sample:?}");
            assert_eq!(smoltcp.time_wait(), time_wait);
        }
    }
}
