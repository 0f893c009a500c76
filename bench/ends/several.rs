//! An end of several shards, one per queue of its interface: the stack's own threads, with a client or a server as the
//! application of each. Connections in flight and the rate are divided among them; what each counted is added.

use super::client::{Client, sources};
use super::server::Server;
use super::{config, seed, time_wait_bytes, time_wait_of};
use crate::failure::Failure;
use crate::lines::{Final, Ready, TimeWait, added};
use crate::meter::Meter;
use crate::policy::Tw;
use crate::proc::{self, Threads, interface_frames};
use crate::role::{Mode, RoleArgs, Stop, obtained};
use crate::waited;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use synfin::counters::Counters;
use synfin::link::xdp::XdpConfig;
use synfin::stack::{Idle, Service, ShardSnapshot, Stack, StackConfig, StackError};

/// Runs until the window is over and the last connection of every shard is closed.
pub(super) fn run_client(args: &RoleArgs) -> Result<Final, Failure> {
    let client = Client::new(&of_one_shard(args), None)?;
    run(args, sources(args), |counters| counters.closed_aborted, move |shard| client.clone().of_shard(shard))
}

/// Serves until the orchestrator closes standard input.
pub(super) fn run_server(args: &RoleArgs) -> Result<Final, Failure> {
    let server = Server::new(&of_one_shard(args))?;
    run(args, vec![*args.server.ip()], |counters| counters.closed_reset, move |shard| server.clone().of_shard(shard))
}

/// What one shard has counted.
pub(super) struct Counted {
    /// Connections and latencies.
    pub meter: Meter,
    /// Octets of earlier incarnations, and connections in which there were any.
    pub old_bytes: (u64, u64),
}

/// The application of a shard, which has counted something.
pub(super) trait Part: Service {
    /// What it has counted.
    fn counted(self) -> Counted;
}

/// `by_rst` is how this end counts connections that end by a RST where all do.
fn run<S: Part>(
    args: &RoleArgs,
    addresses: Vec<Ipv4Addr>,
    by_rst: fn(&Counters) -> u64,
    make: impl Fn(usize) -> S + Send + Sync + 'static,
) -> Result<Final, Failure> {
    let stop = Stop::begin_unpinned()?;
    let frames_before = interface_frames(&args.interface)?;
    let mut over_time = Meter::start(Duration::from_millis(args.warmup_ms), Duration::from_millis(args.duration_ms))?;
    let stack = Stack::start(&stack_config(args, addresses)?, make).map_err(refused)?;
    over_time.restart();
    tell_ready(args, &stack);
    while !stack.running().is_finished() && !stop.asked() {
        let now = Instant::now();
        if over_time.sample_is_due(now) {
            let shards = stack.running().snapshots();
            let ended = shards.iter().map(|shard| ended(args, &shard.counters, by_rst));
            let (completed, failed) = ended.fold((0, 0), |sum, shard| (sum.0 + shard.0, sum.1 + shard.1));
            over_time.count_all(completed, failed);
            sample(&mut over_time, now, &shards);
            waited::look();
        }
        std::thread::sleep(TICK);
    }
    stack.running().stop();
    let (parts, report) = stack.join().map_err(refused)?;
    let (mut old_bytes, mut with_old_bytes) = (0, 0);
    let mut sum = Meter::start(Duration::from_millis(args.warmup_ms), Duration::from_millis(args.duration_ms))?;
    for counted in parts.into_iter().map(Part::counted) {
        sum.add(&counted.meter)?;
        (old_bytes, with_old_bytes) = (old_bytes + counted.old_bytes.0, with_old_bytes + counted.old_bytes.1);
    }
    let of_shards = report.shards.iter().map(|shard| time_wait_of(&shard.counters, shard.policies.time_wait));
    Ok(Final {
        old_bytes,
        with_old_bytes,
        samples: over_time.samples().to_vec(),
        frames_total: interface_frames(&args.interface)? - frames_before,
        time_wait: of_shards.fold(TimeWait::default(), TimeWait::plus),
        counters: counters(&report.shards),
        ..sum.result()
    })
}

/// What each shard is told: its part of the connections in flight, of the rate and of the places.
fn of_one_shard(args: &RoleArgs) -> RoleArgs {
    let shards = args.queues.max(1);
    RoleArgs {
        conns: args.conns.div_ceil(shards),
        rate: args.rate / f64::from(shards),
        time_wait: args.time_wait.div_ceil(shards) + args.time_wait / SPARE,
        ..args.clone()
    }
}

/// Whether some of the shards run on the same CPU.
fn shares_cpus(args: &RoleArgs) -> bool {
    let different: BTreeSet<usize> = args.shard_cpus.iter().copied().collect();
    different.len() < args.queues as usize
}

fn stack_config(args: &RoleArgs, addresses: Vec<Ipv4Addr>) -> Result<StackConfig, Failure> {
    let shares = shares_cpus(args);
    // Shards that share a CPU must leave it to each other.
    let spins = args.idle_us == 0 && !shares;
    Ok(StackConfig {
        queues: Some(args.queues as usize),
        cores: args.shard_cpus.clone(),
        mode: args.mode.for_xdp(),
        link: XdpConfig { zero_copy: args.mode == Mode::Zc, ..XdpConfig::default() },
        shard: config(&of_one_shard(args), addresses, seed(args)?),
        idle: if spins { Idle::Spin } else { Idle::Sleep },
        share_cores: shares,
        ..StackConfig::new(&args.interface)
    })
}

fn tell_ready<S: Service>(args: &RoleArgs, stack: &Stack<S>) {
    let report = stack.report();
    let mode = report.interfaces.first().map(|interface| obtained(interface.mode, interface.umem.zero_copy));
    let time_wait_bytes = Some(time_wait_bytes(&of_one_shard(args)));
    // Shards on one CPU wait for each other, which says nothing of others.
    let threads = (!shares_cpus(args)).then_some(Threads::Shards);
    waited::ready(Ready { mode, mac: proc::mac(&args.interface), time_wait_bytes }, threads);
}

/// Connections that a shard has completed, and opens of it that were refused or failed.
fn ended(args: &RoleArgs, counters: &Counters, by_rst: fn(&Counters) -> u64) -> (u64, u64) {
    let completed = counters.closed_graceful + if args.tw == Tw::RstClose { by_rst(counters) } else { 0 };
    // In the closed loop who is refused tries again.
    let refused = if args.rate > 0.0 { counters.ports_exhausted + counters.opens_refused_time_wait } else { 0 };
    (completed, counters.closed() - completed + refused)
}

fn sample(meter: &mut Meter, now: Instant, shards: &[ShardSnapshot]) {
    let sum = |of: fn(&ShardSnapshot) -> u64| shards.iter().map(of).sum::<u64>();
    let busy_us = |shard: &ShardSnapshot| {
        let lengths = shard.turn_us.iter_recorded();
        lengths.map(|length| length.value_iterated_to() * length.count_at_value()).sum()
    };
    let busy = Duration::from_micros(sum(busy_us) / shards.len().max(1) as u64);
    let (time_wait, in_use) = (sum(|shard| shard.time_wait_live), sum(|shard| shard.connections_live));
    meter.sample(now, time_wait, in_use, busy);
}

/// Everything that shards and links have counted and that is not 0; what came to the wrong shard in any case.
fn counters(shards: &[ShardSnapshot]) -> BTreeMap<String, u64> {
    let of_shard = |shard: &ShardSnapshot| {
        let counters = shard.counters.iter().map(|(name, count)| (name.to_string(), count));
        let dropped = shard.drops.iter().map(|(name, count)| (format!("drop.{name}"), *count));
        let of_link = shard.link.iter().map(|(name, count)| (format!("link.{name}"), count));
        let of_kernel = shard.kernel.iter().map(|(name, count)| (format!("xsk.{name}"), count));
        counters.chain(dropped).chain(of_link).chain(of_kernel).collect::<Vec<_>>()
    };
    added(shards.iter().flat_map(of_shard).filter(|(name, count)| *count > 0 || name == WRONG_SHARD))
}

fn refused(error: StackError) -> Failure {
    Failure::environment(error.to_string())
}

/// The counter of frames that came to another shard than the connection's.
pub(crate) const WRONG_SHARD: &str = "wrong_shard";

/// How often it is looked whether the shards have ended.
const TICK: Duration = Duration::from_millis(10);
/// A hash does not divide evenly: each shard has room for this part of all more than its share.
const SPARE: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::parse_role;
    use hdrhistogram::Histogram;
    use synfin::limits::Limits;
    use synfin::link::{KernelCounters, Levels, LinkCounters};
    use synfin::shard::{Policies, StateCounts};
    use synfin::stack::Tables;

    fn parse(options: &[&str]) -> RoleArgs {
        let given = ["--interface", "x", "--cpu", "0", "--server", "10.0.0.1:7", "--source", "10.0.0.2"];
        parse_role(given.iter().chain(options)).expect("good")
    }

    #[test]
    fn every_port_of_the_server_has_a_place_for_its_listener() {
        let listeners = |options: &[&str]| config(&parse(options), Vec::new(), 1).limits.listeners_max;
        assert_eq!((listeners(&["--dst-ports", "1024"]), listeners(&[])), (1024, Limits::default().listeners_max));
    }

    #[test]
    fn frames_that_the_kernel_dropped_are_counted_of_every_shard() {
        let histogram = Histogram::new(2).expect("bounds");
        let shard = ShardSnapshot {
            counters: Counters::default(),
            drops: Vec::new(),
            link: LinkCounters::default(),
            levels: Levels::default(),
            connections_live: 0,
            time_wait_live: 0,
            turns_slow: 0,
            states: StateCounts::default(),
            policies: Policies::default(),
            kernel: KernelCounters { rx_dropped: 5, ..KernelCounters::default() },
            turn_us: histogram.clone(),
            application_ns: histogram,
            tables: Tables::default(),
        };
        assert_eq!(counters(&[shard.clone(), shard])["xsk.rx_dropped"], 10);
    }

    #[test]
    fn connections_that_end_by_a_rst_as_they_were_to_are_complete() {
        let ended = |options: &[&str]| {
            let args = parse(options);
            let counters = Counters {
                closed_graceful: 1,
                closed_aborted: 20,
                closed_reset: 300,
                ports_exhausted: 4000,
                opens_refused_time_wait: 50_000,
                ..Counters::default()
            };
            ended(&args, &counters, |counters| counters.closed_aborted)
        };
        assert_eq!((ended(&[]), ended(&["--tw", "rst-close"])), ((1, 320), (21, 300)));
        assert_eq!(ended(&["--rate", "5"]), (1, 54_320), "an open loop does not ask again");
    }
}
