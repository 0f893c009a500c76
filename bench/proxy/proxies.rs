//! The proxies, as processes in the server's namespace: each on one CPU, without a log, ended with its round.

use super::ProxyKind;
use crate::cps::live::Live;
use crate::cps::plan::{PORT, PREFIX_BITS, SERVER};
use crate::cps::rounds::SERVER_INTERFACE;
use crate::failure::Failure;
use crate::role::Mode;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// A proxy that listens. Dropping it ends it.
pub(crate) struct Proxy {
    child: Child,
    config: PathBuf,
    /// It has said what it does (synfin only).
    said: Receiver<()>,
}

impl Proxy {
    /// Starts it and waits until it listens.
    pub(crate) fn start(
        kind: ProxyKind,
        namespace: &str,
        cpu: usize,
        mode: Mode,
        conns: u32,
        backends: &[SocketAddrV4],
        live: &mut Live,
    ) -> Result<Proxy, Failure> {
        let connections_max = conns + CONNECTIONS_MORE;
        let config = std::env::temp_dir().join(format!("synfin-bench-{}-{}.conf", std::process::id(), kind.name()));
        let text = match kind {
            ProxyKind::Synfin => synfin(cpu, mode, connections_max, backends),
            ProxyKind::Haproxy => haproxy(connections_max, backends),
        };
        fs::write(&config, text)
            .map_err(|error| Failure::environment(format!("cannot write {}: {error}", config.display())))?;
        if kind == ProxyKind::Haproxy {
            allow_reuse(namespace)?;
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, "taskset", "-c", &cpu.to_string()]);
        match kind {
            ProxyKind::Synfin => command.arg(beside_this()?).args(["proxy", "--config"]).arg(&config),
            ProxyKind::Haproxy => command.args(["haproxy", "-db", "-q", "-f"]).arg(&config),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child =
            child.map_err(|error| Failure::environment(format!("cannot run ip: {error}; install iproute2")))?;
        let said = first_line(child.stdout.take());
        let mut proxy = Proxy { child, config, said };
        proxy.wait_ready(kind, live)?;
        Ok(proxy)
    }

    fn wait_ready(&mut self, kind: ProxyKind, live: &mut Live) -> Result<(), Failure> {
        let name = kind.name();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            live.check()?;
            if let Ok(Some(status)) = self.child.try_wait() {
                let advice = "scripts/setup.sh installs it, and what it said is above";
                return Err(Failure::environment(format!("{name} ended at once ({status}): {advice}")));
            }
            if self.is_ready(kind) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Failure::failed(format!("{name} does not listen after {} s", PATIENCE.as_secs())))
    }

    fn is_ready(&self, kind: ProxyKind) -> bool {
        match kind {
            ProxyKind::Synfin => self.said.try_recv().is_ok(),
            // A listener of its namespace; `ip` and `taskset` have replaced themselves by it.
            ProxyKind::Haproxy => {
                let table = fs::read_to_string(format!("/proc/{}/net/tcp", self.child.id())).unwrap_or_default();
                table.lines().any(|line| line.contains(&format!(":{PORT:04X} 00000000:0000 0A ")))
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It has nothing to finish: the load has ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
    }
}

/// Lets the kernel connect from ports that have been in TIME-WAIT for a second, as synfin's proxy does: where the
/// client closes first, the proxy is the first to close towards the backend, and is out of ports within seconds
/// otherwise.
fn allow_reuse(namespace: &str) -> Result<(), Failure> {
    let sysctl = ["netns", "exec", namespace, "sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1"];
    match Command::new("ip").args(sysctl).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(Failure::environment(format!("cannot set tcp_tw_reuse in {namespace}: {status}; install procps")))
        }
        Err(error) => Err(Failure::environment(format!("cannot run ip: {error}; install iproute2"))),
    }
}

/// Hears of the first line; what follows is read and dropped, so that the proxy never waits for a reader.
fn first_line(stream: Option<ChildStdout>) -> Receiver<()> {
    let (sender, receiver) = channel();
    if let Some(stream) = stream {
        std::thread::spawn(move || {
            for _ in BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = sender.send(());
            }
        });
    }
    receiver
}

/// The `synfin` command that was built with this program.
fn beside_this() -> Result<PathBuf, Failure> {
    let this =
        std::env::current_exe().map_err(|error| Failure::failed(format!("cannot find this program: {error}")))?;
    let synfin = this.with_file_name("synfin");
    if synfin.exists() {
        return Ok(synfin);
    }
    Err(Failure::environment(format!("{} is not there: build it, or run bench/proxy.sh", synfin.display())))
}

fn synfin(cpu: usize, mode: Mode, connections_max: u32, backends: &[SocketAddrV4]) -> String {
    let backends: Vec<String> = backends.iter().map(|backend| format!("{{ address = \"{backend}\" }}")).collect();
    format!(
        "connections_max = {connections_max}\n\
         [stack]\ninterface = \"{SERVER_INTERFACE}\"\naddress = \"{SERVER}/{PREFIX_BITS}\"\ncpus = \"{cpu}\"\nmode = \"{}\"\n\
         [[listeners]]\nname = \"bench\"\naddress = \"{SERVER}:{PORT}\"\nbackends = [{}]\n",
        mode.name(),
        backends.join(", ")
    )
}

/// One thread on the one CPU, TCP mode, no log, no checks: nothing that synfin's has not. Its time-outs must be set.
fn haproxy(connections_max: u32, backends: &[SocketAddrV4]) -> String {
    let servers: String = backends.iter().map(|backend| format!("  server {backend} {backend}\n")).collect();
    format!(
        "global\n  nbthread 1\n  maxconn {connections_max}\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 5m\n  timeout server 5m\n\
         listen bench\n  bind {SERVER}:{PORT} backlog 65535\n{servers}"
    )
}

/// Client connections that a proxy takes beyond those in flight: some have ended for the client and not yet for the
/// proxy. More than a few thousand, and HAProxy needs a higher limit on open files.
const CONNECTIONS_MORE: u32 = 4096;
/// How long a proxy may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
