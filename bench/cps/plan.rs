//! What will be run: durations, addresses, and enough 4-tuples that nobody waits for a port.

use super::args::{CpsArgs, RateChoice};
use super::rounds::Stack;
use crate::failure::Failure;
use crate::policy::{Phases, Tw};
use crate::role::Closer;
use rand::TryRng;
use rand::rngs::SysRng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

/// The run, with every default filled in.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Rounds of every stack.
    pub rounds: u32,
    /// Measured window of a round, s.
    pub duration_s: f64,
    /// Time before the window, s.
    pub warmup_s: f64,
    /// Connections in flight.
    pub conns: u32,
    /// Who closes first.
    pub closer: Closer,
    /// CPU of the client and of the server.
    pub cpus: (usize, usize),
    /// CPUs of the client's and of the server's shards.
    pub shard_cpus: (Vec<usize>, Vec<usize>),
    /// 4-tuples.
    pub tuples: Tuples,
    /// What everything random is drawn from.
    pub seed: u64,
    /// The phases, if there are any.
    pub phases: Option<Phases>,
}

/// The 4-tuples that a round has, and how many it needs.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tuples {
    /// Local ports of the client.
    pub ports: u64,
    /// Source addresses of the client.
    pub sources: u64,
    /// Addresses and ports of the server.
    pub destinations: u64,
    /// Connections/s that they are meant for.
    pub rate_max: u64,
    /// What a tuple stays taken for, s: the round, at most 2MSL.
    pub held_s: f64,
}

impl Plan {
    /// The plan for these options.
    pub(crate) fn new(args: &CpsArgs) -> Result<Plan, Failure> {
        let duration_s = args.duration.unwrap_or(if args.quick { 1.5 } else { 2.5 });
        let warmup_s = args.warmup.unwrap_or(if args.quick { 0.2 } else { 0.5 });
        let (clients, servers) = cpus(args)?;
        let (client, server) = (clients[0], servers[0]);
        if args.queues > 1 && (args.stack != [Stack::Synfin] || args.inject_old || args.phases.is_some()) {
            return Err(Failure::usage(
                "--queues: only synfin has several shards, and phases and the sweep have one; give --stack synfin without these",
            ));
        }
        if args.queues > 1 && (args.resident > 0 || args.faults.any()) {
            return Err(Failure::usage("--queues: --resident and faults are of an end with one shard; leave one out"));
        }
        if args.closer == Closer::Server && args.tw.contains(&Tw::RstClose) {
            return Err(Failure::usage(
                "--tw rst-close with --closer server: a server that resets discards its response; leave one out",
            ));
        }
        if args.end.is_some() {
            check_end(args)?;
        } else if !matches!(args.nic.as_slice(), [] | [_, _])
            || args.nic.first() == args.nic.get(1) && !args.nic.is_empty()
        {
            return Err(Failure::usage(
                "--nic: give two interfaces, the client's and the server's, as in --nic eth1,eth2",
            ));
        }
        if args.resident > 0 && !args.stack.contains(&Stack::Synfin) {
            return Err(Failure::usage("--resident: only synfin's store is filled; have synfin in --stack"));
        }
        let two_msl_s = args.msl.map_or(TWO_MSL_S, |msl| 2.0 * msl);
        let rate = if let RateChoice::At(rate) = args.rate { Some(rate) } else { None };
        let mut tuples = Tuples::enough(warmup_s + duration_s, &Have::of(args), two_msl_s);
        tuples.rate_max = rate.map_or(tuples.rate_max, |rate| (CATCHES_UP * rate) as u64);
        let unasked = (args.is_whole() && args.end.is_none()).then(|| PHASES.parse().ok()).flatten();
        let phases = args.phases.clone().or(unasked);
        if args.sim && phases.is_some() && args.src_ips.unwrap_or(1) * u32::from(args.dst_ports) > 1 {
            return Err(Failure::usage(
                "--sim: its phases have one address and one port of the server; leave --src-ips and --dst-ports out, or give --ports",
            ));
        }
        Ok(Plan {
            rounds: args.rounds,
            duration_s,
            warmup_s,
            conns: args.conns,
            closer: args.closer,
            cpus: (client, server),
            shard_cpus: (clients, servers),
            tuples,
            seed: args.seed.unwrap_or_else(|| SysRng.try_next_u64().unwrap_or(1)).max(1),
            phases,
        })
    }

    /// Where the server listens.
    pub(crate) fn server(&self) -> SocketAddrV4 {
        SocketAddrV4::new(SERVER, PORT)
    }

    /// Whether shards of an end, one for each of its queues, share a CPU.
    pub(crate) fn shares_cpus(&self, queues: u32) -> bool {
        let (clients, servers) = &self.shard_cpus;
        [clients, servers].iter().any(|cpus| cpus.iter().collect::<BTreeSet<_>>().len() < queues as usize)
    }

    /// Window of a single echo run, s: all of them together take as long as a round of a stack, at most 10 s.
    pub(crate) fn echo_s(&self, runs: usize) -> f64 {
        (self.duration_s.min(ECHO_MAX_S) / runs.max(1) as f64).max(ECHO_MIN_S)
    }
}

/// `--end` takes one interface, and nothing that needs both ends.
fn check_end(args: &CpsArgs) -> Result<(), Failure> {
    if args.nic.len() != 1 {
        return Err(Failure::usage(
            "--end: name the interface that leads to the other host, as in --end client --nic eth1",
        ));
    }
    let needs_both = args.phases.is_some() || args.inject_old || args.sim || args.resident > 0;
    if needs_both || args.rate == RateChoice::Find || args.tw.len() > 1 {
        return Err(Failure::usage(
            "--end: phases, --inject-old, --sim, --resident, --rate find and several policies need both ends; leave them out",
        ));
    }
    let writes = args.out.is_some() || args.json.is_some() || !args.outputs.are_none();
    if args.end == Some(Closer::Server) && writes {
        return Err(Failure::usage(
            "--end server: the figures are the client's; give --out, --json, --csv, --hlog, --markdown and --fail-if to that end",
        ));
    }
    Ok(())
}

/// The CPUs of either end: one each, or one for every shard.
fn cpus(args: &CpsArgs) -> Result<(Vec<usize>, Vec<usize>), Failure> {
    let each = args.cpus.len() / 2;
    if !args.cpus.len().is_multiple_of(2) || ![1, args.queues as usize].contains(&each) {
        return Err(Failure::usage(
            "--cpus: give two CPUs, the client's and the server's, as in --cpus 0,1; with --queues N these, or N of the client and N of \
             the server",
        ));
    }
    let (client, server) = args.cpus.split_at(each);
    if let Some(both) = client.iter().find(|cpu| server.contains(cpu)) {
        return Err(Failure::usage(format!("--cpus: client and server need CPUs of their own, and both have {both}")));
    }
    Ok((client.to_vec(), server.to_vec()))
}

/// What the options say of the 4-tuples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Have {
    ports: u64,
    sources: Option<u64>,
    destinations: u64,
}

impl Have {
    fn of(args: &CpsArgs) -> Have {
        Have {
            ports: u64::from(args.ports.count()),
            sources: args.src_ips.map(u64::from),
            destinations: u64::from(args.dst_ports),
        }
    }
}

impl Tuples {
    /// Tuples for a run of `run_s` seconds; the number of source addresses follows from it unless it is given.
    pub(crate) fn enough(run_s: f64, have: &Have, two_msl_s: f64) -> Tuples {
        let Have { ports, sources, destinations } = *have;
        let held_s = run_s.min(two_msl_s);
        let mut tuples = Tuples { ports, sources: 1, destinations, rate_max: RATE_MAX, held_s };
        let needed = tuples.needed(RATE_MAX as f64).div_ceil(ports * destinations);
        tuples.sources = sources.unwrap_or(needed.clamp(u64::from(SOURCES_MIN), u64::from(SOURCES_MAX)));
        tuples
    }

    /// TIME-WAIT places that the closing end needs: every tuple may be in TIME-WAIT.
    pub(crate) fn time_wait_places(&self) -> u32 {
        let needed = self.needed(self.rate_max as f64).min(self.count() + self.count() / 8 + 8192);
        u32::try_from(needed).unwrap_or(u32::MAX)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.ports * self.sources * self.destinations
    }

    /// How many a rate of `rate` connections/s needs: half as many again as it uses while they are held.
    pub(crate) fn needed(&self, rate: f64) -> u64 {
        (1.5 * rate * self.held_s).ceil() as u64
    }

    /// The computation for a rate, with its verdict.
    pub(crate) fn text(&self, rate: f64) -> String {
        let (count, needed) = (self.count(), self.needed(rate));
        format!(
            "{} ports x {} sources x {} destinations = {count} 4-tuples {} 1.5 x {rate:.0}/s x {:.1} s = {needed}{}",
            self.ports,
            self.sources,
            self.destinations,
            if count >= needed { ">=" } else { "<" },
            self.held_s,
            if count >= needed { "" } else { ": TOO FEW, raise --src-ips" },
        )
    }
}

/// Address of the server; `wire.sh` sets the same for the kernel's rounds.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// First source address of the client: all of 10.77.128.0/17 is the client's in `wire.sh`.
pub(crate) const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 77, 128, 1);
/// The client as the kernel's server knows it in `wire.sh`: its own address, and the gateway to the sources.
pub(crate) const PEER_OF_KERNEL: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The part of the network that is the client's own.
pub(crate) const CLIENT_NETWORK: Ipv4Addr = Ipv4Addr::new(10, 77, 128, 0);
/// Bits of that prefix.
pub(crate) const CLIENT_NETWORK_BITS: u8 = 17;
/// Prefix that server and sources have in common, bits.
pub(crate) const PREFIX_BITS: u8 = 16;
/// Port of the server.
pub(crate) const PORT: u16 = 7000;
/// Fewest source addresses by default: the kernel's connect() prefers ports of one parity, and few sources make it search.
pub(crate) const SOURCES_MIN: u32 = 64;
/// Most source addresses: the client's half of the prefix, less the first and the last.
pub(crate) const SOURCES_MAX: u32 = 32_766;
/// How long TIME-WAIT holds a tuple, s (RFC 9293 3.4.2 with the MSL that Linux and synfin use).
pub(crate) const TWO_MSL_S: f64 = 60.0;
/// Connections/s that the tuples must suffice for. Above what a wire between two cores carries.
const RATE_MAX: u64 = 450_000;
/// An open loop that was held up begins what is overdue at this many times its rate, and TIME-WAIT must have room for that.
const CATCHES_UP: f64 = 3.0;
/// Phases of the default run: with 2MSL of 7 s and tuples that last 5 s a collapse of 2 s, and the recovery.
const PHASES: &str = "strict:9s,timestamp:4s";
/// Longest window of all echo runs of a round together, s.
const ECHO_MAX_S: f64 = 10.0;
/// Shortest echo run that still gives a rate, s.
const ECHO_MIN_S: f64 = 0.3;

#[cfg(test)]
mod tests {
    use super::super::args::tests::parse;
    use super::*;

    const ALL: Have = Have { ports: 64_512, sources: None, destinations: 1 };

    #[test]
    fn tuples_follow_from_rate_and_duration() {
        let short = Tuples::enough(5.5, &ALL, 60.0);
        assert_eq!((short.ports, short.sources), (64_512, 64));
        assert_eq!(short.count(), 4_128_768);
        assert_eq!(short.needed(100_000.0), 825_000);
        let long = Tuples::enough(600.0, &ALL, 60.0);
        assert_eq!(long.held_s, 60.0);
        assert!(long.count() >= long.needed(RATE_MAX as f64));
        assert!(long.sources > 64 && long.sources <= u64::from(SOURCES_MAX));
    }

    #[test]
    fn an_open_loop_has_room_to_catch_up() {
        let plan = Plan::new(&parse(&["--rate", "20000", "--duration", "30m"]).expect("good")).expect("plan");
        assert!(plan.tuples.time_wait_places() >= 3 * 20_000 * 60, "{:?}", plan.tuples);
    }

    #[test]
    fn shards_that_share_a_cpu_are_told_however_the_cpus_are_given() {
        for (cpus, shared) in [("0,1", true), ("0,0,1,1", true), ("0,1,2,2", true), ("0,1,2,3", false)] {
            let args = parse(&["--stack", "synfin", "--queues", "2", "--cpus", cpus]).expect("good");
            assert_eq!(Plan::new(&args).expect("plan").shares_cpus(args.queues), shared, "{cpus}");
        }
        assert!(!Plan::new(&parse(&[]).expect("good")).expect("plan").shares_cpus(1));
    }

    #[test]
    fn a_server_by_itself_is_asked_for_no_figures() {
        for option in ["--out", "--json", "--csv", "--hlog", "--markdown"].map(|option| [option, "file"]) {
            for (end, refused) in [("server", true), ("client", false)] {
                let args = parse(&["--end", end, "--nic", "eth1", option[0], option[1]]).expect("parses");
                assert_eq!(
                    Plan::new(&args).err().map(|failure| failure.exit),
                    refused.then_some(2),
                    "{end} {option:?}"
                );
            }
        }
        let args = parse(&["--end", "server", "--nic", "eth1", "--fail-if", "errors>0"]).expect("parses");
        assert_eq!(Plan::new(&args).err().map(|failure| failure.exit), Some(2));
    }

    #[test]
    fn simulated_phases_have_one_source_and_one_destination() {
        for (options, refused) in [
            (&["--sim"][..], false),
            (&["--sim", "--src-ips", "4"], true),
            (&["--sim", "--dst-ports", "2", "--phases", "strict:3s"], true),
            (&["--sim", "--src-ips", "4", "--quick"], false),
            (&["--src-ips", "4"], false),
        ] {
            let plan = Plan::new(&parse(options).expect("parses"));
            assert_eq!(plan.err().map(|failure| failure.exit), refused.then_some(2), "{options:?}");
        }
    }

    #[test]
    fn too_few_tuples_are_said_to_be() {
        let few = Tuples::enough(60.0, &Have { sources: Some(1), ..ALL }, 60.0);
        assert_eq!(few.count(), 64_512);
        assert!(few.text(40_000.0).contains("TOO FEW"));
        assert!(few.text(700.0).ends_with(">= 1.5 x 700/s x 60.0 s = 63000"));
    }

    #[test]
    fn default_run_takes_about_a_minute_and_quick_half() {
        let seconds = |options: &[&str]| {
            let args = parse(options).expect("good");
            let plan = Plan::new(&args).expect("plan");
            let rounds = f64::from(plan.rounds)
                * (2.0 * (plan.warmup_s + plan.duration_s) + 6.0 * (plan.echo_s(6) + plan.warmup_s));
            let phases = plan.phases.map_or(0.0, |phases| 2.0 * f64::from(phases.seconds()));
            let sweep = if args.sweeps() { super::super::sweep::seconds(&args) } else { 0.0 };
            rounds + phases + sweep
        };
        assert!((50.0..76.0).contains(&seconds(&[])), "{}", seconds(&[]));
        assert!(seconds(&["--quick"]) < 21.0, "{}", seconds(&["--quick"]));
    }
}
