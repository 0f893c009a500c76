//! What the privileged tests share: network namespaces that disappear with their guard, veth pairs between them, and
//! trials that do not pass where the privilege is missing.

use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use std::fmt::Debug;
use std::fs::{self, File};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// Runs `trials` one after the other: they share two cores, and some of them measure.
pub(crate) fn run(trials: Vec<Trial>) -> Conclusion {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    libtest_mimic::run(&arguments, trials)
}

/// A test that needs privileges: without them it fails in continuous integration and is listed as ignored elsewhere, never as
/// passed.
pub(crate) fn privileged_trial(name: &str, body: impl FnOnce() + Send + 'static) -> Trial {
    let missing = !privileged();
    let in_ci = std::env::var_os("CI").is_some();
    let body = move || -> Result<(), Failed> {
        if missing {
            return Err("CAP_NET_ADMIN, CAP_NET_RAW or CAP_SYS_ADMIN is missing: run it as root".into());
        }
        body();
        Ok(())
    };
    Trial::test(name, body).with_ignored_flag(missing && !in_ci)
}

/// Whether this process may make namespaces, interfaces, raw sockets and BPF programs.
pub(crate) fn privileged() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    effective & CAPABILITIES == CAPABILITIES
}

/// A network namespace of this process, removed on drop (a panic included) with everything in it.
#[derive(Debug)]
pub(crate) struct Netns {
    name: String,
}

impl Netns {
    /// Makes a namespace with a unique name and its loopback up.
    pub(crate) fn new() -> Netns {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("synfin-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]);
        let netns = Netns { name };
        netns.ip(&["link", "set", "lo", "up"]);
        netns
    }

    /// The name, for `ip netns exec`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` with `arguments` in this namespace; panics if it fails.
    pub(crate) fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.name], arguments].concat());
    }

    /// A command that will run `program` in this namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs `body` on a thread of its own inside this namespace and returns what it returns; a panic is passed on.
    pub(crate) fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.join();
                body()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into this namespace for good.
    pub(crate) fn join(&self) {
        let file = expect(File::open(format!("/run/netns/{}", self.name)), "open the namespace");
        expect(nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET), "enter the namespace");
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let removed = Command::new("ip").args(["netns", "del", &self.name]).status();
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!("network namespace {} is left over: remove it with ip netns del {}", self.name, self.name);
        }
    }
}

/// Two namespaces joined by a veth pair; the interface is called [`INTERFACE`] in both.
#[derive(Debug)]
pub(crate) struct VethPair {
    /// The end with the kernel addresses 10.77.0.1 and fd77::1.
    pub(crate) left: Netns,
    /// The end with the kernel addresses 10.77.0.2 and fd77::2.
    pub(crate) right: Netns,
}

impl VethPair {
    /// Makes the pair with `queues` receive and transmit queues at each end, offloads off, both ends up.
    pub(crate) fn new(queues: u32) -> VethPair {
        let pair = VethPair { left: Netns::new(), right: Netns::new() };
        let queues = queues.to_string();
        let count = ["numrxqueues", &queues, "numtxqueues", &queues];
        let here = ["link", "add", INTERFACE];
        let there = ["type", "veth", "peer", "name", INTERFACE, "netns", pair.right.name()];
        pair.left.ip(&[&here[..], &count[..], &there[..], &count[..]].concat());
        for (netns, host) in [(&pair.left, "1"), (&pair.right, "2")] {
            netns.ip(&["addr", "add", &format!("10.77.0.{host}/24"), "dev", INTERFACE]);
            netns.ip(&["addr", "add", &format!("fd77::{host}/64"), "dev", INTERFACE, "nodad"]);
            let off = ["-K", INTERFACE, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"];
            let status = netns.command("ethtool").args(off).output();
            assert!(status.is_ok_and(|output| output.status.success()), "ethtool -K failed in {}", netns.name());
        }
        for netns in [&pair.left, &pair.right] {
            netns.ip(&["link", "set", INTERFACE, "up"]);
        }
        pair
    }
}

fn ip(arguments: &[&str]) {
    let output = expect(Command::new("ip").args(arguments).output(), "run ip (package iproute2)");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {}", arguments.join(" "), errors.trim());
}

fn expect<T, E: Debug>(result: Result<T, E>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("cannot {what}: {error:?}"))
}

/// Name of the interface in each namespace of a [`VethPair`].
pub(crate) const INTERFACE: &str = "veth0";

/// CAP_NET_ADMIN, CAP_NET_RAW and CAP_SYS_ADMIN, as bits of CapEff.
const CAPABILITIES: u64 = 1 << 12 | 1 << 13 | 1 << 21;
