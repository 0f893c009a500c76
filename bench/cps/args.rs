//! Options of the main job; `cps.sh` hands its own over.

use super::plan;
use super::rounds::Stack;
use crate::payload::Payload;
use crate::policy::{Phases, PortRange, Tw};
use crate::report::Outputs;
use crate::role::{Closer, FaultArgs, Mode};
use clap::Args;
use std::path::PathBuf;
use std::str::FromStr;
use synfin::limits;

/// Options of `synfin-bench cps`.
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
    /// Where the result goes unless `--out` says otherwise
    #[arg(long, value_name = "DIR", hide = true)]
    pub out_default: Option<PathBuf>,
    /// Under 30 s: rounds of 1.5 s, the table alone
    #[arg(long)]
    pub quick: bool,
    /// Who closes first, and so keeps TIME-WAIT
    #[arg(long, value_enum, default_value_t = Closer::Client)]
    pub closer: Closer,
    /// What becomes of closed connections' 4-tuples; of several each is run
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "strict")]
    pub tw: Vec<Tw>,
    /// How long a 4-tuple stays in TIME-WAIT at least where reuse is allowed, ms
    #[arg(long, value_name = "MS", default_value_t = limits::TIME_WAIT_DELAY_MS, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    pub tw_delay: u32,
    /// MSL of synfin, s [default: 30; 3.5 in the phases]
    #[arg(long, value_name = "S", value_parser = msl)]
    pub msl: Option<f64>,
    /// What to run, in this order
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "synfin,kernel,echo")]
    pub stack: Vec<Stack>,
    /// Open loop at so many connections per second, closed loop, or a search for the highest clean rate
    #[arg(long, value_name = "R|max|find", default_value = "max")]
    pub rate: RateChoice,
    /// Local ports of the client
    #[arg(long, value_name = "LO-HI", default_value_t = PortRange::ALL)]
    pub ports: PortRange,
    /// Source addresses of the client [default: as many as the 4-tuples need, at least 64]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(plan::SOURCES_MAX)))]
    pub src_ips: Option<u32>,
    /// Ports of the server
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub dst_ports: u16,
    /// Connections in flight
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pub conns: u32,
    /// Bytes of a request and of a response
    #[arg(long, value_name = "REQ:RESP", default_value_t = Payload::default())]
    pub payload: Payload,
    /// Queues of the wire, and shards of each of synfin's ends; with --stack synfin
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub queues: u32,
    /// CPUs of the client and of the server; with --queues N two, which the shards of an end share, or N and N
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0,1")]
    pub cpus: Vec<usize>,
    /// Synfin's ends sleep when they have nothing to do, instead of spinning: for a steady rate on a machine that others use too
    #[arg(long)]
    pub sleep: bool,
    /// How the XDP program is attached
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    pub mode: Mode,
    /// Measured window of each round, s; 30m and 1h are understood [default: 2.5, with --quick 1.5]
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub duration: Option<f64>,
    /// Time before each window, s [default: 0.5, with --quick 0.2]
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub warmup: Option<f64>,
    /// Rounds of each stack
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Switch the policy of running stacks, such as strict:10s,timestamp:10s: the collapse and the recovery
    #[arg(long, value_name = "LIST")]
    pub phases: Option<Phases>,
    /// Aim old segments of earlier incarnations at new ones: the sweep over policies and closers
    #[arg(long)]
    pub inject_old: bool,
    /// TIME-WAIT entries that are there before each round of synfin, beside rounds with none
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000_000))]
    pub resident: u32,
    /// One end of synfin alone, on the interface of --nic; the other end is another host's, and the command for it is printed
    #[arg(long, value_enum)]
    pub end: Option<Closer>,
    /// Two interfaces of this machine in place of a veth pair; each is moved to a namespace and given back
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub nic: Vec<String>,
    /// Take an interface that has the default route or addresses as well
    #[arg(long)]
    pub yes: bool,
    /// Where the result goes [default: bench/out/TIME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write the result to FILE too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// What everything random is drawn from [default: the system]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seed: Option<u64>,
    /// No wire and no privilege: the sweep and the phases in virtual time, which is no measurement
    #[arg(long)]
    pub sim: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Leave the last pair of namespaces for inspection
    #[arg(long)]
    pub keep: bool,
    /// What else is made of the result
    #[command(flatten)]
    pub outputs: Outputs,
    /// Run nothing: compare two results that --json has written
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    pub compare: Option<Vec<PathBuf>>,
    /// What is done to frames on synfin's side
    #[command(flatten)]
    pub faults: FaultArgs,
}

impl CpsArgs {
    /// Whether nothing was asked for that would make phases and sweep a surprise: then both are run beside the table.
    pub(crate) fn is_whole(&self) -> bool {
        let all = Stack::DEFAULT.iter().all(|stack| self.stack.contains(stack));
        all && !self.quick
            && self.tw == [Tw::Strict]
            && self.rate == RateChoice::Max
            && self.duration.is_none()
            && self.resident == 0
    }

    /// Whether the sweep is run.
    pub(crate) fn sweeps(&self) -> bool {
        self.inject_old || self.is_whole()
    }
}

/// `--rate`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum RateChoice {
    /// The closed loop: as many as there are places for.
    Max,
    /// The open loop, connections per second.
    At(f64),
    /// Search of the highest clean rate.
    Find,
}

impl RateChoice {
    /// Connections per second of the open loop; 0 is the closed loop.
    pub(crate) fn steady(self) -> f64 {
        if let RateChoice::At(rate) = self { rate } else { 0.0 }
    }
}

impl FromStr for RateChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<RateChoice, String> {
        match text {
            "max" => Ok(RateChoice::Max),
            "find" => Ok(RateChoice::Find),
            _ => {
                let rate = text.parse().ok().filter(|rate: &f64| (1.0..=10e6).contains(rate));
                rate.map(RateChoice::At)
                    .ok_or_else(|| "give connections per second from 1 to 10000000, max or find".into())
            }
        }
    }
}

/// Seconds, or minutes or hours with their letter.
fn seconds(text: &str) -> Result<f64, String> {
    let (number, unit_s) = match text.chars().last() {
        Some('s') => (&text[..text.len() - 1], 1.0),
        Some('m') => (&text[..text.len() - 1], 60.0),
        Some('h') => (&text[..text.len() - 1], 3600.0),
        _ => (text, 1.0),
    };
    let seconds = number.parse().ok().map(|number: f64| number * unit_s);
    let seconds = seconds.filter(|seconds| (0.1..=86_400.0).contains(seconds));
    seconds.ok_or_else(|| "give seconds from 0.1 to 86400, or 30m, or 1h".to_string())
}

fn msl(text: &str) -> Result<f64, String> {
    let msl = text.parse().ok().filter(|msl: &f64| (0.05..=300.0).contains(msl));
    msl.ok_or_else(|| "give seconds from 0.05 to 300".to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::plan::Plan;
    use super::*;
    use crate::script::{self, names_every_option};

    pub(in crate::cps) fn parse(options: &[&str]) -> Result<CpsArgs, clap::Error> {
        script::parse(options)
    }

    #[test]
    fn script_help_names_every_option() {
        names_every_option::<CpsArgs>(include_str!("../cps.sh"));
    }

    #[test]
    fn script_knows_every_option_before_anything_is_built() {
        let script = include_str!("../cps.sh");
        let (_, known) = script.split_once("check_options() {").expect("the script checks its options");
        names_every_option::<CpsArgs>(known);
    }

    #[test]
    fn options_out_of_range_are_usage_errors() {
        assert_eq!(parse(&["--cpus", "0,1"]).expect("good").cpus, [0, 1]);
        assert_eq!(parse(&["--duration", "30m"]).expect("good").duration, Some(1800.0));
        for bad in [
            &["--rounds", "0"][..],
            &["--conns", "0"],
            &["--mode", "fast"],
            &["--closer", "nobody"],
            &["--src-ips", "40000"],
            &["--tw", "sometimes"],
            &["--rate", "0"],
            &["--rate", "fast"],
            &["--ports", "9-1"],
            &["--dst-ports", "0"],
            &["--payload", "8:8"],
            &["--loss", "2"],
            &["--msl", "0"],
            &["--phases", "strict"],
            &["--duration", "0"],
            &["--duration", "NaN"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        for bad in [
            &["--cpus", "0"][..],
            &["--cpus", "1,1"],
            &["--cpus", "0,1,2"],
            &["--nic", "a"],
            &["--nic", "a,a"],
            &["--tw", "rst-close", "--closer", "server"],
            &["--resident", "5", "--stack", "kernel"],
        ] {
            let plan = Plan::new(&parse(bad).expect("parses"));
            assert_eq!(plan.expect_err("refused").exit, 2, "{bad:?}");
        }
    }

    #[test]
    fn only_the_default_run_has_phases_and_sweep_unasked() {
        assert!(parse(&[]).expect("good").is_whole());
        assert!(parse(&["--closer", "server", "--json", "x"]).expect("good").is_whole());
        for narrow in [&["--quick"][..], &["--stack", "kernel"], &["--duration", "5"], &["--tw", "none"]] {
            assert!(!parse(narrow).expect("good").is_whole(), "{narrow:?}");
        }
        assert!(parse(&["--quick", "--inject-old"]).expect("good").sweeps());
    }
}
