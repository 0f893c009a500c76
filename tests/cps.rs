//! `synfin-bench cps` on real wires, as `bench/cps.sh` calls it. Needs root.

mod common;

use common::{INTERFACE, Netns, VethPair, privileged_trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use synfin::link::xdp::Interface;

fn main() {
    let trials = vec![
        privileged_trial("zero_copy_on_veth_is_refused_with_one_line", zero_copy),
        privileged_trial("two_shards_per_end_find_their_connections", two_shards),
        privileged_trial("two_ends_on_hosts_of_their_own_meet_and_give_the_interfaces_back", two_hosts),
    ];
    common::run(trials).exit();
}

/// Nothing is measured in another mode than asked for.
fn zero_copy() {
    let run = Run::new("zc");
    let refused = run.output(&["--stack", "synfin", "--mode", "zc", "--rounds", "1", "--duration", "1"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    let complaints: Vec<&str> = said.lines().filter(|line| line.starts_with("synfin-bench:")).collect();
    assert!(matches!(complaints.as_slice(), [one] if one.contains("no zero-copy")), "{said}");
    assert!(refused.stdout.is_empty());
}

fn two_shards() {
    let run = Run::new("queues");
    let file = run.directory.join("result.json");
    let json = file.display().to_string();
    let options = ["--stack", "synfin", "--queues", "2", "--rounds", "1", "--duration", "1", "--json", &json];
    let output = run.output(&options);
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    for expected in ["client: 2 shards, wrong_shard 0 of", "server: 2 shards, wrong_shard 0 of", "share one CPU"] {
        assert!(table.contains(expected), "{expected}: {table}");
    }
    let result: Value = serde_json::from_slice(&fs::read(file).expect("was written")).expect("JSON");
    let synfin = &result["stacks"]["synfin"];
    assert!(synfin["connections_total"].as_u64() > Some(100), "{synfin}");
    assert_eq!(synfin["time_wait_created"], synfin["connections_total"]);
    assert_eq!(synfin["counters"]["client.wrong_shard"], 0);
}

/// Two namespaces stand for the hosts: each knows its own interface only.
fn two_hosts() {
    let hosts = VethPair::new(1);
    for host in [&hosts.left, &hosts.right] {
        host.ip(&["addr", "flush", "dev", INTERFACE]);
    }
    let (server, client) = (Run::new("server"), Run::new("client"));
    let options = |end| ["--end", end, "--nic", INTERFACE, "--duration", "1", "--mode", "skb"];
    let mut serving = spawn(server.command(Some(&hosts.left), &options("server")));
    let mut errors = BufReader::new(serving.stderr.take().expect("piped"));
    let mut said = String::new();
    while !said.contains("the server is ready") {
        assert!(errors.read_line(&mut said).is_ok_and(|bytes| bytes > 0), "the server ended: {said}");
    }
    assert!(said.contains("on the other host: bench/cps.sh --end client --nic INTERFACE"), "{said}");
    assert!(said.contains("untested on two hosts until someone has"), "{said}");
    let measured = client.command(Some(&hosts.right), &options("client")).output().expect("runs");
    let table = String::from_utf8_lossy(&measured.stdout);
    assert!(measured.status.success(), "{table}{}", String::from_utf8_lossy(&measured.stderr));
    assert!(table.contains("connections/s") && !table.contains("ERRORS"), "{table}");
    // It is the program that is asked to end, and not ip: that has become the program.
    kill(Pid::from_raw(serving.id() as i32), Signal::SIGINT).expect("it runs");
    // A ^C through the script comes as more than one signal.
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(5));
        kill(Pid::from_raw(serving.id() as i32), Signal::SIGTERM).expect("it is not waited for yet");
    }
    let mut served = String::new();
    serving.stdout.take().expect("piped").read_to_string(&mut served).expect("reads");
    assert!(serving.wait().expect("ends").success(), "{served}");
    assert!(served.starts_with("server: ") && served.contains(" 0 errors"), "{served}");
    assert!(!served.contains(" 0 connections served"), "{served}");
    for host in [&hosts.left, &hosts.right] {
        host.enter(|| Interface::query(INTERFACE)).expect("the interface is given back");
    }
}

/// A run with namespaces and a directory of its own.
struct Run {
    namespaces: [String; 2],
    directory: PathBuf,
}

impl Run {
    fn new(name: &str) -> Run {
        let id = std::process::id();
        let directory = std::env::temp_dir().join(format!("synfin-cps-{name}-{id}"));
        fs::create_dir_all(&directory).expect("a directory for the test");
        Run { namespaces: ["a", "b"].map(|end| format!("synfin-{name}-{end}-{id}")), directory }
    }

    fn output(&self, options: &[&str]) -> Output {
        self.command(None, options).output().expect("synfin-bench runs")
    }

    fn command(&self, host: Option<&Netns>, options: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_synfin-bench");
        let mut command = host.map_or_else(|| Command::new(program), |host| host.command(program));
        let [a, b] = &self.namespaces;
        command.args(["cps", "--netns-a", a, "--netns-b", b, "--wire", &wire()]).args(options);
        command
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let [a, b] = &self.namespaces;
        let _ = Command::new(wire()).args(["down", a, b]).status();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn wire() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/wire.sh").display().to_string()
}

fn spawn(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs")
}
