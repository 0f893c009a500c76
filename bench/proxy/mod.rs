//! `synfin-bench proxy`: connections through an L4 proxy, synfin's own and HAProxy, in turn. Clients and backend are synfin's
//! and have one CPU; the proxy has the other.

mod busy;
mod load;
mod proxies;
mod report;

pub(crate) use load::{LoadArgs, run as load};

use crate::cps::child::Role;
use crate::cps::live::Live;
use crate::cps::plan::{PORT, SERVER, SOURCE, SOURCES_MIN};
use crate::cps::rounds::{CLIENT_INTERFACE, Ends, Wire, ms, options};
use crate::cps::{Json, machine::Machine};
use crate::failure::Failure;
use crate::kernel::sys;
use crate::lines::Final;
use crate::policy::Tw;
use crate::role::{Closer, Mode, two_cpus};
use clap::{Args, ValueEnum};
use proxies::Proxy;
use report::{Flags, Report};
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

/// Options; `proxy.sh` hands its own over.
#[derive(Args, Clone, Debug)]
pub(crate) struct ProxyArgs {
    /// Namespace of clients and backend, made and removed by the wire script
    #[arg(long, value_name = "NS", hide = true)]
    pub netns_a: String,
    /// Namespace of the proxy
    #[arg(long, value_name = "NS", hide = true)]
    pub netns_b: String,
    /// The script that makes and removes the namespaces and the veth pair
    #[arg(long, value_name = "FILE", hide = true)]
    pub wire: PathBuf,
    /// Under 30 s: rounds of 1.5 s
    #[arg(long)]
    pub quick: bool,
    /// Who closes first
    #[arg(long, value_enum, default_value_t = Closer::Server)]
    pub closer: Closer,
    /// Write the result to FILE
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Measured window of each round, s [default: 5, with --quick 1.5]
    #[arg(long, value_name = "S")]
    pub duration: Option<f64>,
    /// Rounds of each proxy
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Connections in flight
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    pub conns: u32,
    /// How the XDP programs are attached
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    pub mode: Mode,
    /// CPUs of the load and of the proxy
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "0,1")]
    pub cpus: Vec<usize>,
    /// What to run, in this order
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "synfin,haproxy")]
    pub proxy: Vec<ProxyKind>,
    /// Leave the last pair of namespaces for inspection
    #[arg(long)]
    pub keep: bool,
}

/// A proxy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProxyKind {
    /// `synfin proxy` on AF_XDP.
    Synfin,
    /// HAProxy on the kernel's TCP.
    Haproxy,
}

impl ProxyKind {
    /// The word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ProxyKind::Synfin => "synfin",
            ProxyKind::Haproxy => "haproxy",
        }
    }
}

/// One round of one proxy.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Round {
    /// The proxy.
    pub proxy: ProxyKind,
    /// The load's result, with what the CPUs were busy with.
    pub load: Final,
    /// The XDP mode that the load got.
    pub mode: Option<String>,
}

/// Runs it all, prints the table, writes the JSON file.
pub(crate) fn run(args: &ProxyArgs) -> Result<(), Failure> {
    let flags = flags(args)?;
    if sys::effective_user() != 0 {
        return Err(Failure::environment("root is needed for namespaces and AF_XDP: run it with sudo"));
    }
    let json = args.json.as_deref().map(Json::open).transpose()?;
    let mut live = Live::begin()?;
    let mut rounds = Vec::new();
    for round in 1..=flags.rounds {
        for &proxy in &args.proxy {
            live.doing(format!("round {round}/{} {}", flags.rounds, proxy.name()), "connections/s");
            rounds.push(one_round(args, &flags, proxy, &mut live)?);
        }
    }
    live.clear();
    let report = Report::new(Machine::read(), flags, &rounds);
    println!("{}", report.text().trim_end());
    if let Some(json) = json {
        json.write(&report)?;
    }
    Failure::unless_clean(report.errors_total())
}

fn flags(args: &ProxyArgs) -> Result<Flags, Failure> {
    let seconds = args.duration.unwrap_or(if args.quick { 1.5 } else { 5.0 });
    if !(0.1..=3600.0).contains(&seconds) {
        return Err(Failure::usage(format!("--duration {seconds}: give seconds from 0.1 to 3600")));
    }
    let cpus = two_cpus(&args.cpus, ["load", "proxy"])?;
    let warmup_s = if args.quick { 0.3 } else { 1.0 };
    Ok(Flags { seconds, warmup_s, rounds: args.rounds, conns: args.conns, closer: args.closer, cpus })
}

/// One proxy on a wire of its own.
fn one_round(args: &ProxyArgs, flags: &Flags, kind: ProxyKind, live: &mut Live) -> Result<Round, Failure> {
    let wire = Wire::veth(&args.wire, [&args.netns_a, &args.netns_b], args.keep);
    let up = wire.up(if kind == ProxyKind::Synfin { Ends::Xdp } else { Ends::XdpKernel }, TIME_WAIT_MAX)?;
    let backends: Vec<SocketAddrV4> = load::backends(BACKEND, BACKENDS).collect();
    let proxy = Proxy::start(kind, &wire.server, flags.cpus.1, args.mode, flags.conns, &backends, live)?;
    let mut load = Role::spawn(&wire.client, "proxy-load", &load_options(args.mode, flags))?;
    let mode = load.wait_ready(live)?.mode;
    let limit = Duration::from_secs_f64(flags.seconds + flags.warmup_s + 20.0);
    let result = load.wait_final(limit, live)?;
    drop((load, proxy, up));
    Ok(Round { proxy: kind, load: result, mode })
}

/// The load's command line.
fn load_options(mode: Mode, flags: &Flags) -> Vec<String> {
    let pairs = [
        ("--interface", CLIENT_INTERFACE.to_string()),
        ("--cpu", flags.cpus.0.to_string()),
        ("--conns", flags.conns.to_string()),
        ("--closer", flags.closer.name().to_string()),
        ("--duration-ms", ms(flags.seconds)),
        ("--warmup-ms", ms(flags.warmup_s)),
        ("--server", SocketAddrV4::new(SERVER, PORT).to_string()),
        ("--source", SOURCE.to_string()),
        ("--src-ips", SOURCES_MIN.to_string()),
        ("--mode", mode.name().to_string()),
        ("--time-wait", TIME_WAIT_MAX.to_string()),
        ("--tw", TIME_WAIT_REUSE.name().to_string()),
        ("--backend", BACKEND.to_string()),
        ("--backends", BACKENDS.to_string()),
    ];
    options(pairs)
}

/// The first backend, at the address through which a kernel end reaches the clients.
const BACKEND: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 2), PORT);
/// Backends, taken in turn. The proxy's ports are used again after a second at the earliest where it keeps TIME-WAIT:
/// with one backend that, and not the proxy's work, would be the limit (28,232 ports of synfin's).
const BACKENDS: u16 = 8;
/// TIME-WAIT places of each end: every connection of a round, and more.
const TIME_WAIT_MAX: u64 = 4 << 20;
/// A proxy has one address and few backends, so that its ports come back within seconds, while the backend that closed
/// first still has them in TIME-WAIT. A backend that opens them again is what a proxy meets with any kernel; one that
/// never does leaves every such connection unfinished, until all in flight are.
const TIME_WAIT_REUSE: Tw = Tw::TimestampOrSequence;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{names_every_option, parse, parse_role};
    use synfin::tcp::time_wait::Policy;

    #[test]
    fn script_help_names_every_option() {
        names_every_option::<ProxyArgs>(include_str!("../proxy.sh"));
    }

    #[test]
    fn ports_that_the_proxy_uses_again_may_leave_the_backends_time_wait() {
        let flags = flags(&parse(&[]).expect("parses")).expect("in range");
        let load: LoadArgs = parse_role(load_options(Mode::Auto, &flags)).expect("parses");
        // Guarded reuse, as a kernel's: refused, every connection ends up waiting; without any TIME-WAIT the load would
        // save work.
        let policy = load.role.tw.policy();
        assert!(matches!(policy, Policy::Timestamp | Policy::TimestampOrSequence), "{}", policy.name());
    }

    #[test]
    fn options_out_of_range_are_usage_errors() {
        for bad in [&["--rounds", "0"][..], &["--proxy", "nginx"], &["--conns", "0"]] {
            assert!(parse::<ProxyArgs>(bad).is_err(), "{bad:?}");
        }
        for bad in [&["--duration", "0"][..], &["--duration", "NaN"], &["--cpus", "0"], &["--cpus", "1,1"]] {
            let flags = flags(&parse(bad).expect("parses"));
            assert_eq!(flags.expect_err("refused").exit, 2, "{bad:?}");
        }
    }
}
