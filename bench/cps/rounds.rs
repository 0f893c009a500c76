//! The rounds: every round of every stack on a wire of its own, in turn.
//!
//! A fresh pair of namespaces and a fresh veth pair for each means that no TIME-WAIT entry, timer, cached metric or neighbour of one
//! round is there in the next: the kernel's TIME-WAIT timers would otherwise fire a minute later, on the cores that another stack
//! is being measured on.

use super::child::Role;
use super::live::Live;
use super::plan::{Plan, SOURCE};
use crate::failure::Failure;
use crate::lines::Final;
use crate::role::{Closer, Mode};
use clap::ValueEnum;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Stack {
    /// This stack.
    Synfin,
    /// The kernel's TCP.
    Kernel,
    /// The raw AF_XDP echo, which gives the limit.
    Echo,
}

impl Stack {
    /// The word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Stack::Synfin => "synfin",
            Stack::Kernel => "kernel",
            Stack::Echo => "echo",
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

    /// Errors of both ends.
    pub(crate) fn errors_total(&self) -> u64 {
        self.client.errors_total() + self.server.errors_total()
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
    pub(crate) fn round(&self, stack: Stack, live: &mut Live) -> Result<Round, Failure> {
        let up =
            self.wire.up(if stack == Stack::Kernel { Ends::Kernel } else { Ends::Xdp }, self.plan.tuples.count())?;
        let window_s = self.plan.warmup_s + self.plan.duration_s;
        let args = |interface: &str, cpu| self.role_args(interface, cpu, self.plan.duration_s, self.plan.conns, 64);
        let (client_cpu, server_cpu) = self.plan.cpus;
        let name = stack.name();
        let mut server =
            Role::spawn(&self.wire.server, &format!("{name}-server"), &args(SERVER_INTERFACE, server_cpu))?;
        let server_ready = server.wait_ready(live)?;
        let mut client =
            Role::spawn(&self.wire.client, &format!("{name}-client"), &args(CLIENT_INTERFACE, client_cpu))?;
        let client_ready = client.wait_ready(live)?;
        if client_ready.mode != server_ready.mode {
            let of = |mode: Option<String>| mode.unwrap_or_else(|| "none".into());
            let (client, server) = (of(client_ready.mode), of(server_ready.mode));
            return Err(Failure::failed(format!(
                "client and server got different XDP modes, {client} and {server}: ask for one with --mode"
            )));
        }
        let client_result = client.wait_final(Duration::from_secs_f64(window_s + 20.0), live)?;
        let server_result = server.stop(live)?;
        drop(client);
        drop(up);
        Ok(Round { client: client_result, server: server_result, mode: client_ready.mode })
    }

    /// The best of every batch and window.
    pub(crate) fn echo(&self, live: &mut Live, round: &str) -> Result<Echo, Failure> {
        let windows = [self.plan.conns, 2 * self.plan.conns];
        let runs: Vec<(u32, u32)> = BATCHES.iter().flat_map(|&batch| windows.map(|window| (batch, window))).collect();
        let seconds = self.plan.echo_s(runs.len());
        let _up = self.wire.up(Ends::Xdp, self.plan.tuples.count())?;
        let mut best: Option<Echo> = None;
        for (batch, window) in runs {
            live.doing(format!("{round} echo, batch {batch}, window {window}"), "frames/s");
            let echo = self.echo_once(live, seconds, batch, window)?;
            if best.as_ref().is_none_or(|best| echo.frames_per_second > best.frames_per_second) {
                best = Some(echo);
            }
        }
        best.ok_or_else(|| Failure::failed("no echo was run"))
    }

    fn echo_once(&self, live: &mut Live, seconds: f64, batch: u32, window: u32) -> Result<Echo, Failure> {
        let args = |interface: &str, cpu| self.role_args(interface, cpu, seconds, window, batch);
        let (client_cpu, server_cpu) = self.plan.cpus;
        let mut reflector = Role::spawn(&self.wire.server, "echo-reflector", &args(SERVER_INTERFACE, server_cpu))?;
        reflector.wait_ready(live)?;
        let mut generator = Role::spawn(&self.wire.client, "echo-generator", &args(CLIENT_INTERFACE, client_cpu))?;
        generator.wait_ready(live)?;
        let result = generator.wait_final(Duration::from_secs_f64(seconds + 20.0), live)?;
        reflector.stop(live)?;
        Ok(Echo { frames_per_second: result.frames_per_second, batch, window, mode: result.mode })
    }

    fn role_args(&self, interface: &str, cpu: usize, duration_s: f64, conns: u32, batch: u32) -> Vec<String> {
        let plan = self.plan;
        let pairs = [
            ("--interface", interface.to_string()),
            ("--cpu", cpu.to_string()),
            ("--conns", conns.to_string()),
            ("--closer", closer(plan.closer)),
            ("--duration-ms", ms(duration_s)),
            ("--warmup-ms", ms(plan.warmup_s)),
            ("--server", plan.server().to_string()),
            ("--source", SOURCE.to_string()),
            ("--src-ips", plan.tuples.sources.to_string()),
            ("--mode", self.mode.name().to_string()),
            ("--batch", batch.to_string()),
            ("--time-wait", plan.time_wait_places().to_string()),
        ];
        pairs.into_iter().flat_map(|(name, value)| [name.to_string(), value]).collect()
    }
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
}

/// A wire that is up; dropping it takes it down.
pub(crate) struct Up<'a>(&'a Wire);

impl Wire {
    /// Makes the wire anew; a kernel end keeps at most `time_wait_max` TIME-WAIT entries.
    pub(crate) fn up(&self, ends: Ends, time_wait_max: u64) -> Result<Up<'_>, Failure> {
        self.run(&["down", &self.client, &self.server])?;
        let up = Up(self);
        let ends = match ends {
            Ends::Kernel => "kernel",
            Ends::Xdp => "xdp",
            Ends::XdpKernel => "xdp-kernel",
            Ends::KernelXdp => "kernel-xdp",
        };
        self.run(&["up", &self.client, &self.server, ends, &time_wait_max.to_string()])?;
        Ok(up)
    }

    fn run(&self, args: &[&str]) -> Result<(), Failure> {
        let output = Command::new(&self.script).args(args).output();
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

fn closer(closer: Closer) -> String {
    closer.name().to_string()
}

fn ms(seconds: f64) -> String {
    format!("{:.0}", seconds * 1000.0)
}

/// Interface names that `wire.sh` gives.
pub(crate) const CLIENT_INTERFACE: &str = "client0";
pub(crate) const SERVER_INTERFACE: &str = "server0";
/// Frames per ring operation that the echo is tried with.
const BATCHES: [u32; 3] = [16, 64, 256];
