//! `synfin-bench bulk`: one stream of bytes at a time, synfin and the kernel's TCP as either end, side by side.

mod kernel;
mod meter;
mod report;
mod stream;

pub(crate) use kernel::{receive as kernel_receiver, send as kernel_sender};
pub(crate) use stream::{receive as synfin_receiver, send as synfin_sender};

use crate::cps::child::Role;
use crate::cps::live::Live;
use crate::cps::plan::{PORT, SERVER};
use crate::cps::rounds::{Ends, Wire, ms, options};
use crate::cps::{Json, machine::Machine};
use crate::failure::Failure;
use crate::kernel::sys;
use crate::lines::Final;
use crate::role::{Mode, two_cpus};
use clap::{Args, ValueEnum};
use report::{Flags, Report};
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

/// Options; `bulk.sh` hands its own over.
#[derive(Args, Clone, Debug)]
pub(crate) struct BulkArgs {
    /// Namespace of the sender, made and removed by the wire script
    #[arg(long, value_name = "NS", hide = true)]
    pub netns_a: String,
    /// Namespace of the receiver
    #[arg(long, value_name = "NS", hide = true)]
    pub netns_b: String,
    /// The script that makes and removes the namespaces and the veth pair
    #[arg(long, value_name = "FILE", hide = true)]
    pub wire: PathBuf,
    /// Under 30 s: rounds of 1 s
    #[arg(long)]
    pub quick: bool,
    /// Write the result to FILE; - is standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Measured window of each round, s [default: 4, with --quick 1]
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// Rounds of each direction
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// How the XDP program is attached
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    pub mode: Mode,
    /// Send and receive buffer of synfin's ends, KiB; the kernel's grow by themselves
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub buffer_kb: u32,
    /// CPUs of the sender and of the receiver
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "0,1")]
    pub cpus: Vec<usize>,
    /// What to run, in this order
    #[arg(
        long,
        value_enum,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "synfin-kernel,kernel-synfin,kernel-synfin-gso,kernel-kernel,kernel-kernel-gso"
    )]
    pub direction: Vec<Direction>,
    /// Leave the last pair of namespaces for inspection
    #[arg(long)]
    pub keep: bool,
}

/// Who sends to whom.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Direction {
    /// synfin sends, the kernel receives.
    SynfinKernel,
    /// The kernel sends, synfin receives.
    KernelSynfin,
    /// The same, with the kernel's segmentation in software.
    KernelSynfinGso,
    /// The kernel at both ends: the baseline.
    KernelKernel,
    /// The same, with the kernel's segmentation in software: the second baseline.
    KernelKernelGso,
    /// synfin at both ends.
    SynfinSynfin,
}

impl Direction {
    /// The sender's stack, the receiver's, and who has the ends of the wire.
    const fn ends(self) -> (&'static str, &'static str, Ends) {
        match self {
            Direction::SynfinKernel => ("synfin", "kernel", Ends::XdpKernel),
            Direction::KernelSynfin | Direction::KernelSynfinGso => ("kernel", "synfin", Ends::KernelXdp),
            Direction::KernelKernel | Direction::KernelKernelGso => ("kernel", "kernel", Ends::Kernel),
            Direction::SynfinSynfin => ("synfin", "synfin", Ends::Xdp),
        }
    }

    /// Whether the kernel leaves segmentation to the way out, if it is the kernel that sends.
    pub(crate) const fn kernel_gso(self) -> Option<bool> {
        match self {
            Direction::SynfinKernel | Direction::SynfinSynfin => None,
            Direction::KernelSynfin | Direction::KernelKernel => Some(false),
            Direction::KernelSynfinGso | Direction::KernelKernelGso => Some(true),
        }
    }

    /// The wire as this direction has it.
    fn over(self, wire: Wire) -> Wire {
        Wire { gso: self.kernel_gso() == Some(true), ..wire }
    }

    /// For people.
    pub(crate) fn text(self) -> String {
        let (from, to, _) = self.ends();
        format!("{from}{} -> {to}", if self.kernel_gso() == Some(true) { ", GSO" } else { "" })
    }
}

/// One round of one direction.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Round {
    /// Who sent to whom.
    pub direction: Direction,
    /// The sender's result.
    pub sender: Final,
    /// The receiver's result.
    pub receiver: Final,
    /// The XDP mode that a bind got.
    pub mode: Option<String>,
}

/// Runs it all, prints the table, writes the JSON file.
pub(crate) fn run(args: &BulkArgs) -> Result<(), Failure> {
    let flags = flags(args)?;
    if sys::effective_user() != 0 {
        return Err(Failure::environment("root is needed for namespaces and AF_XDP: run it with sudo"));
    }
    let to_stdout = args.json.as_deref().is_some_and(|path| path.as_os_str() == "-");
    let json = args.json.as_deref().filter(|_| !to_stdout).map(Json::open).transpose()?;
    let mut live = Live::begin()?;
    let mut rounds = Vec::new();
    for round in 1..=flags.rounds {
        for &direction in &args.direction {
            live.doing(format!("round {round}/{} {}", flags.rounds, direction.text()), "Mbit/s");
            rounds.push(one_round(args, &flags, direction, &mut live)?);
        }
    }
    live.clear();
    let report = Report::new(Machine::read(), flags, &rounds);
    if to_stdout {
        println!("{}", serde_json::to_string_pretty(&report).map_err(|error| Failure::failed(error.to_string()))?);
    } else {
        println!("{}", report.text().trim_end());
    }
    if let Some(json) = json {
        json.write(&report)?;
    }
    Failure::unless_clean(report.errors_total())
}

fn flags(args: &BulkArgs) -> Result<Flags, Failure> {
    let seconds = args.seconds.unwrap_or(if args.quick { 1.0 } else { 4.0 });
    if !(0.1..=3600.0).contains(&seconds) {
        return Err(Failure::usage(format!("--seconds {seconds}: give seconds from 0.1 to 3600")));
    }
    let cpus = two_cpus(&args.cpus, ["sender", "receiver"])?;
    let warmup_s = if args.quick { 0.3 } else { 0.5 };
    let mode = args.mode.name().to_string();
    Ok(Flags { seconds, warmup_s, rounds: args.rounds, mode, cpus })
}

/// One stream on a wire of its own.
fn one_round(args: &BulkArgs, flags: &Flags, direction: Direction, live: &mut Live) -> Result<Round, Failure> {
    let (from, to, ends) = direction.ends();
    let wire = direction.over(Wire::veth(&args.wire, [&args.netns_a, &args.netns_b], args.keep));
    let up = wire.up(ends, TIME_WAIT_MAX)?;
    let role = |interface: &str, cpu: usize| -> Vec<String> {
        let pairs = [
            ("--interface", interface.to_string()),
            ("--cpu", cpu.to_string()),
            ("--conns", "1".to_string()),
            ("--duration-ms", ms(flags.seconds)),
            ("--warmup-ms", ms(flags.warmup_s)),
            ("--server", SocketAddrV4::new(SERVER, PORT).to_string()),
            ("--source", SENDER.to_string()),
            ("--buffer-bytes", args.buffer_kb.saturating_mul(1024).to_string()),
            ("--mode", args.mode.name().to_string()),
        ];
        options(pairs)
    };
    let receiver_role = role(crate::cps::rounds::SERVER_INTERFACE, flags.cpus.1);
    let mut receiver = Role::spawn(&wire.server, &format!("{to}-receiver"), &receiver_role)?;
    let receiver_ready = receiver.wait_ready(live)?;
    let sender_role = role(crate::cps::rounds::CLIENT_INTERFACE, flags.cpus.0);
    let mut sender = Role::spawn(&wire.client, &format!("{from}-sender"), &sender_role)?;
    let sender_ready = sender.wait_ready(live)?;
    let limit = Duration::from_secs_f64(flags.seconds + flags.warmup_s + 20.0);
    let sent = sender.wait_final(limit, live)?;
    let received = receiver.stop(live)?;
    drop(up);
    Ok(Round { direction, sender: sent, receiver: received, mode: receiver_ready.mode.or(sender_ready.mode) })
}

/// The sender's address.
const SENDER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// TIME-WAIT places of a kernel end: more than a handful of connections never need.
const TIME_WAIT_MAX: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{names_every_option, parse};

    #[test]
    fn script_help_names_every_option() {
        names_every_option::<BulkArgs>(include_str!("../bulk.sh"));
    }

    #[test]
    fn options_out_of_range_are_usage_errors() {
        for bad in [&["--rounds", "0"][..], &["--direction", "up"], &["--mode", "fast"]] {
            assert!(parse::<BulkArgs>(bad).is_err(), "{bad:?}");
        }
        for bad in [&["--seconds", "0"][..], &["--seconds", "NaN"], &["--cpus", "0"], &["--cpus", "1,1"]] {
            let flags = flags(&parse(bad).expect("parses"));
            assert_eq!(flags.expect_err("refused").exit, 2, "{bad:?}");
        }
    }

    /// The script's default is "on": a direction that said nothing would be measured against another baseline.
    #[test]
    fn each_direction_by_its_name_tells_the_script_whether_the_kernel_segments_late() {
        let expected = [
            ("synfin-kernel", "off"),
            ("kernel-synfin", "off"),
            ("kernel-synfin-gso", "on"),
            ("kernel-kernel", "off"),
            ("kernel-kernel-gso", "on"),
            ("synfin-synfin", "off"),
        ];
        assert_eq!(expected.len(), Direction::value_variants().len(), "every direction is here");
        for (name, gso) in expected {
            let args: BulkArgs = parse(&["--direction", name]).expect("a direction");
            let wire = args.direction[0].over(Wire::veth(&args.wire, ["a", "b"], false));
            assert!(
                wire.variables().contains(&("SYNFIN_BENCH_GSO", gso.to_string())),
                "{name}: {:?}",
                wire.variables()
            );
        }
        assert!(include_str!("../wire.sh").contains("gso=${SYNFIN_BENCH_GSO:-on}"), "the script reads it");
    }
}
