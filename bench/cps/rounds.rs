//! The rounds: every round of every stack on a wire of its own, in turn.
//!
//! A fresh pair of namespaces and a fresh veth pair for each means that no TIME-WAIT entry, timer, cached metric or
//! neighbour of one round is there in the next: the kernel's TIME-WAIT timers would otherwise fire a minute later, on
//! the cores that another stack is being measured on.

use super::child::Role;
use super::live::Live;
use super::plan::{Plan, SOURCE, TWO_MSL_S, Tuples};
use crate::failure::Failure;
use crate::lines::{Final, Ready};
use crate::payload::Payload;
use crate::policy::{Phases, PortRange, Tw};
use crate::role::{Closer, ErrorKind, FaultArgs, Mode};
use clap::ValueEnum;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use synfin::limits;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Stack {
    /// This stack
    Synfin,
    /// The kernel's TCP with tcp_tw_reuse 0
    Kernel,
    /// The kernel's TCP with tcp_tw_reuse 1
    KernelReuse,
    /// The raw AF_XDP echo, which gives the limit
    Echo,
}

impl Stack {
    /// What is run unless something else is asked for.
    pub(crate) const DEFAULT: [Stack; 3] = [Stack::Synfin, Stack::Kernel, Stack::Echo];

    /// The word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stack::Synfin => "synfin",
            Stack::Kernel => "kernel",
            Stack::KernelReuse => "kernel-reuse",
            Stack::Echo => "echo",
        }
    }

    /// The roles of its ends begin with this.
    fn role(self) -> &'static str {
        match self {
            Stack::Synfin => "synfin",
            Stack::Kernel | Stack::KernelReuse => "kernel",
            Stack::Echo => "echo",
        }
    }
}

/// What the ends of one run are told.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// Who closes first.
    pub closer: Closer,
    /// What becomes of 4-tuples.
    pub tw: Tw,
    /// Connections in flight.
    pub conns: u32,
    /// Measured window, s.
    pub duration_s: f64,
    /// Time before it, s.
    pub warmup_s: f64,
    /// Connections begun per second; 0 is the closed loop.
    pub rate: f64,
    /// 4-tuples.
    pub tuples: Tuples,
    /// First source address.
    pub source: Ipv4Addr,
    /// Local ports of the client.
    pub ports: PortRange,
    /// MSL of synfin, ms.
    pub msl_ms: u32,
    /// How long a 4-tuple rests at least, ms.
    pub tw_delay_ms: u32,
    /// Bytes each way.
    pub payload: Payload,
    /// Policies that follow one another.
    pub phases: Option<Phases>,
    /// TIME-WAIT entries there before.
    pub resident: u32,
    /// Faults on synfin's side.
    pub faults: FaultArgs,
    /// Without timestamps.
    pub no_timestamps: bool,
    /// RST in TIME-WAIT ends it.
    pub rst_ends_time_wait: bool,
    /// Answers of a synfin shard to what is not acceptable, per second.
    pub answers_per_second: u32,
    /// How long an end of synfin sleeps when there is nothing to do, us; 0 spins.
    pub idle_us: u64,
    /// Further options of the client's role.
    pub of_client: Vec<String>,
}

impl Spec {
    /// What the options say, for one policy.
    pub(crate) fn new(args: &super::CpsArgs, plan: &Plan, tw: Tw) -> Spec {
        Spec {
            closer: plan.closer,
            tw,
            conns: plan.conns,
            duration_s: plan.duration_s,
            warmup_s: plan.warmup_s,
            rate: 0.0,
            tuples: plan.tuples,
            source: SOURCE,
            ports: args.ports,
            msl_ms: args.msl.map_or(TWO_MSL_S * 500.0, |msl| msl * 1000.0) as u32,
            tw_delay_ms: args.tw_delay,
            payload: args.payload,
            phases: None,
            resident: 0,
            faults: args.faults,
            no_timestamps: false,
            rst_ends_time_wait: false,
            answers_per_second: limits::ANSWERS_PER_SECOND,
            idle_us: if args.sleep { IDLE_US } else { 0 },
            of_client: Vec::new(),
        }
    }
}

/// A round of a stack.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Round {
    /// The client's result.
    pub client: Final,
    /// The server's result.
    pub server: Final,
    /// The XDP mode that both binds got.
    pub mode: Option<String>,
    /// Bytes that a place in TIME-WAIT costs synfin.
    pub time_wait_bytes: Option<f64>,
}

impl Round {
    /// Connections per second in the measured window.
    pub(crate) fn connections_per_second(&self) -> f64 {
        self.client.connections as f64 / self.client.seconds.max(f64::MIN_POSITIVE)
    }

    /// Frames that the client's interface sent and received, per connection.
    pub(crate) fn segments_per_connection(&self) -> f64 {
        self.client.frames_total as f64 / self.client.connections_total.max(1) as f64
    }

    /// Errors of both ends. A port that was not free is none: that is what TIME-WAIT is for.
    pub(crate) fn errors_total(&self) -> u64 {
        self.client.errors_total() + self.server.errors_total() - self.refused()
    }

    /// Opens refused because no port was free.
    pub(crate) fn refused(&self) -> u64 {
        self.client.errors.get(ErrorKind::NoPort.name()).copied().unwrap_or(0)
    }

    /// A counter of both ends, by its name in either stack.
    pub(crate) fn counted(&self, names: &[&str]) -> u64 {
        let ends = [&self.client, &self.server];
        ends.iter().flat_map(|end| names.iter().filter_map(|name| end.counters.get(*name))).sum()
    }
}

/// The best echo of a round.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Echo {
    /// Frames per second, both directions added.
    pub frames_per_second: f64,
    /// Frames per ring operation.
    pub batch: u32,
    /// Frames in flight.
    pub window: u32,
    /// The XDP mode that the bind got.
    pub mode: Option<String>,
}

/// Runs rounds.
pub(crate) struct Bench<'a> {
    /// What to run.
    pub plan: &'a Plan,
    /// XDP mode asked for.
    pub mode: Mode,
    /// Makes and removes the wire.
    pub wire: Wire,
}

impl Bench<'_> {
    /// One round of synfin or of the kernel.
    pub(crate) fn round(&self, stack: Stack, spec: &Spec, live: &mut Live) -> Result<Round, Failure> {
        let ends = if stack == Stack::Synfin { Ends::Xdp } else { Ends::Kernel };
        let tw = if stack == Stack::KernelReuse { Tw::Timestamp } else { spec.tw };
        let spec = Spec { tw, ..spec.clone() };
        let role = stack.role();
        self.between(ends, &format!("{role}-client"), &format!("{role}-server"), &spec, live)
    }

    /// A run between two roles on a wire of its own.
    pub(crate) fn between(
        &self,
        ends: Ends,
        client: &str,
        server: &str,
        spec: &Spec,
        live: &mut Live,
    ) -> Result<Round, Failure> {
        let up = self.wire.up(ends, spec.tuples.count())?;
        let mut server = Role::spawn(&self.wire.server, server, &self.options(SERVER_INTERFACE, spec, Closer::Server))?;
        let filling = Duration::from_secs(u64::from(spec.resident / FILLED_PER_S));
        let server_ready = server.wait_ready_after(filling, live)?;
        let mut of_client = self.options(CLIENT_INTERFACE, spec, Closer::Client);
        of_client.extend(spec.faults.options());
        of_client.extend(spec.of_client.iter().cloned());
        if client == RIG {
            of_client.extend(["--peer-mac".to_string(), server_ready.mac.clone().unwrap_or_default()]);
        }
        let mut client = Role::spawn(&self.wire.client, client, &of_client)?;
        let client_ready = client.wait_ready_after(filling, live)?;
        let mode = same_mode(ends, &client_ready, &server_ready)?;
        let window = Duration::from_secs_f64(spec.warmup_s + spec.duration_s + 20.0);
        let client_result = client.wait_final(window, live)?;
        let server_result = server.stop(live)?;
        drop(client);
        drop(up);
        let time_wait_bytes = client_ready.time_wait_bytes.or(server_ready.time_wait_bytes);
        Ok(Round { client: client_result, server: server_result, mode, time_wait_bytes })
    }

    /// The options of an end of either stack.
    pub(crate) fn options(&self, interface: &str, spec: &Spec, end: Closer) -> Vec<String> {
        let cpu = if end == Closer::Client { self.plan.cpus.0 } else { self.plan.cpus.1 };
        // What does not close first has no TIME-WAIT to be there before.
        let resident = if spec.closer == end { spec.resident } else { 0 };
        let mut options = self.role_args(interface, cpu, spec, 64);
        options.extend(["--resident".to_string(), resident.to_string()]);
        options.extend(self.shards(end));
        options
    }

    /// How many shards an end of synfin has, and where.
    fn shards(&self, end: Closer) -> Vec<String> {
        let (client, server) = &self.plan.shard_cpus;
        let cpus = if end == Closer::Client { client } else { server };
        let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
        let options = ["--queues", &self.wire.queues.to_string(), "--shard-cpus", &cpus.join(",")];
        options.map(str::to_string).to_vec()
    }

    /// The best of every batch and window.
    pub(crate) fn echo(&self, spec: &Spec, live: &mut Live, round: &str) -> Result<Echo, Failure> {
        let windows = [self.plan.conns, 2 * self.plan.conns];
        let runs: Vec<(u32, u32)> = BATCHES.iter().flat_map(|&batch| windows.map(|window| (batch, window))).collect();
        let seconds = self.plan.echo_s(runs.len());
        let _up = self.wire.up(Ends::Xdp, self.plan.tuples.count())?;
        let mut best: Option<Echo> = None;
        for (batch, window) in runs {
            live.doing(format!("{round} echo, batch {batch}, window {window}"), "frames/s");
            let echo = self.echo_once(spec, live, seconds, batch, window)?;
            if best.as_ref().is_none_or(|best| echo.frames_per_second > best.frames_per_second) {
                best = Some(echo);
            }
        }
        best.ok_or_else(|| Failure::failed("no echo was run"))
    }

    fn echo_once(&self, spec: &Spec, live: &mut Live, seconds: f64, batch: u32, window: u32) -> Result<Echo, Failure> {
        let spec = Spec { duration_s: seconds, conns: window, ..spec.clone() };
        let args = |interface: &str, cpu| self.role_args(interface, cpu, &spec, batch);
        let (client_cpu, server_cpu) = self.plan.cpus;
        let mut reflector = Role::spawn(&self.wire.server, "echo-reflector", &args(SERVER_INTERFACE, server_cpu))?;
        reflector.wait_ready(live)?;
        let mut generator = Role::spawn(&self.wire.client, "echo-generator", &args(CLIENT_INTERFACE, client_cpu))?;
        generator.wait_ready(live)?;
        let result = generator.wait_final(Duration::from_secs_f64(seconds + 20.0), live)?;
        reflector.stop(live)?;
        Ok(Echo { frames_per_second: result.frames_per_second, batch, window, mode: result.mode })
    }

    fn role_args(&self, interface: &str, cpu: usize, spec: &Spec, batch: u32) -> Vec<String> {
        let pairs = [
            ("--interface", interface.to_string()),
            ("--cpu", cpu.to_string()),
            ("--conns", spec.conns.to_string()),
            ("--closer", spec.closer.name().to_string()),
            ("--duration-ms", ms(spec.duration_s)),
            ("--warmup-ms", ms(spec.warmup_s)),
            ("--server", self.plan.server().to_string()),
            ("--source", spec.source.to_string()),
            ("--src-ips", spec.tuples.sources.to_string()),
            ("--dst-ports", spec.tuples.destinations.to_string()),
            ("--mode", self.mode.name().to_string()),
            ("--batch", batch.to_string()),
            ("--time-wait", spec.tuples.time_wait_places().to_string()),
            ("--ports", spec.ports.to_string()),
            ("--payload", spec.payload.to_string()),
            ("--tw", spec.tw.name().to_string()),
            ("--tw-delay-ms", spec.tw_delay_ms.to_string()),
            ("--msl-ms", spec.msl_ms.to_string()),
            ("--rate", spec.rate.to_string()),
            ("--seed", self.plan.seed.to_string()),
            ("--idle-us", spec.idle_us.to_string()),
            ("--answers-per-second", spec.answers_per_second.to_string()),
        ];
        let mut options = options(pairs);
        if let Some(phases) = &spec.phases {
            options.extend(["--phases".to_string(), phases.to_string()]);
        }
        options.extend(spec.no_timestamps.then(|| "--no-timestamps".to_string()));
        options.extend(spec.rst_ends_time_wait.then(|| "--rst-ends-time-wait".to_string()));
        options
    }
}

/// The XDP mode that was obtained; an error if two binds got different ones.
fn same_mode(ends: Ends, client: &Ready, server: &Ready) -> Result<Option<String>, Failure> {
    if ends == Ends::Xdp && client.mode != server.mode {
        let of = |ready: &Ready| ready.mode.clone().unwrap_or_else(|| "none".into());
        let (client, server) = (of(client), of(server));
        return Err(Failure::failed(format!(
            "client and server got different XDP modes, {client} and {server}: ask for one with --mode"
        )));
    }
    Ok(client.mode.clone().or(server.mode.clone()))
}

/// The two namespaces, made and removed by `wire.sh`.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    /// The script.
    pub script: PathBuf,
    /// Namespace of the client.
    pub client: String,
    /// Namespace of the server.
    pub server: String,
    /// Whether to leave the last one.
    pub keep: bool,
    /// Queues of the veth pair.
    pub queues: u32,
    /// Whether the kernel's TCP may leave segmentation to the way out of a veth pair (GSO), as it does by default.
    pub gso: bool,
    /// Interfaces to use in place of a veth pair: the client's and the server's, or none.
    pub nics: Vec<String>,
}

/// Who has the ends of the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ends {
    /// The kernel's TCP: addresses, routes, widened ports.
    Kernel,
    /// AF_XDP: no address.
    Xdp,
    /// The client's AF_XDP, the server's the kernel's.
    XdpKernel,
    /// The other way round.
    KernelXdp,
    /// AF_XDP at this end; the other is another host's.
    One(Closer),
}

/// A wire that is up; dropping it takes it down.
pub(crate) struct Up<'a>(&'a Wire);

impl Wire {
    /// A veth pair of one queue between two namespaces, the client's and the server's.
    pub(crate) fn veth(script: &Path, [client, server]: [&str; 2], keep: bool) -> Wire {
        let (client, server) = (client.to_string(), server.to_string());
        Wire { script: script.to_path_buf(), client, server, keep, queues: 1, nics: Vec::new(), gso: true }
    }

    /// Makes the wire anew; a kernel end keeps at most `time_wait_max` TIME-WAIT entries.
    pub(crate) fn up(&self, ends: Ends, time_wait_max: u64) -> Result<Up<'_>, Failure> {
        self.run(&["down", &self.client, &self.server])?;
        let up = Up(self);
        let ends = match ends {
            Ends::Kernel => "kernel",
            Ends::Xdp => "xdp",
            Ends::XdpKernel => "xdp-kernel",
            Ends::KernelXdp => "kernel-xdp",
            Ends::One(end) => return self.up_one(up, end),
        };
        // The largest that net.ipv4.tcp_max_tw_buckets takes.
        let time_wait_max = time_wait_max.min(i32::MAX as u64).to_string();
        let mut command = vec!["up", &self.client, &self.server, ends, &time_wait_max];
        command.extend(self.nics.iter().map(String::as_str));
        self.run(&command)?;
        Ok(up)
    }

    fn up_one<'a>(&self, up: Up<'a>, end: Closer) -> Result<Up<'a>, Failure> {
        let (namespace, name) = match end {
            Closer::Client => (&self.client, CLIENT_INTERFACE),
            Closer::Server => (&self.server, SERVER_INTERFACE),
        };
        let nic = self.nics.first().map_or("", String::as_str);
        self.run(&["up-end", namespace, nic, name])?;
        Ok(up)
    }

    /// What the script reads from its environment.
    pub(crate) fn variables(&self) -> [(&'static str, String); 2] {
        let gso = if self.gso { "on" } else { "off" };
        [("SYNFIN_BENCH_QUEUES", self.queues.to_string()), ("SYNFIN_BENCH_GSO", gso.to_string())]
    }

    fn run(&self, args: &[&str]) -> Result<(), Failure> {
        let output = Command::new(&self.script).args(args).envs(self.variables()).output();
        let script = self.script.display();
        let output = output.map_err(|error| Failure::environment(format!("cannot run {script}: {error}")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().lines().last().unwrap_or("no message").to_string();
        let advice = "root, iproute2, ethtool and the veth module are needed";
        Err(Failure::environment(format!("{script} {}: {said}; {advice}", args.join(" "))))
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        if !self.0.keep
            && let Err(failure) = self.0.run(&["down", &self.0.client, &self.0.server])
        {
            eprintln!("synfin-bench: {failure}");
        }
    }
}

/// Options and their values as a role takes them.
pub(crate) fn options<const N: usize>(pairs: [(&str, String); N]) -> Vec<String> {
    pairs.into_iter().flat_map(|(name, value)| [name.to_string(), value]).collect()
}

/// A time as a role takes it.
pub(crate) fn ms(seconds: f64) -> String {
    format!("{:.0}", seconds * 1000.0)
}

/// Interface names that `wire.sh` gives.
pub(crate) const CLIENT_INTERFACE: &str = "client0";
pub(crate) const SERVER_INTERFACE: &str = "server0";
/// The role of the client whose wire aims old segments.
pub(crate) const RIG: &str = "rig-client";
/// TIME-WAIT entries that a slow machine puts into an empty store in a second.
const FILLED_PER_S: u32 = 300_000;
/// How long an end of synfin sleeps with `--sleep`, us; the system's timers add some 50.
const IDLE_US: u64 = 50;
/// Frames per ring operation that the echo is tried with.
const BATCHES: [u32; 3] = [16, 64, 256];
