//! `synfin-bench cps` on real wires, as `bench/cps.sh` calls it. Needs root.

mod common;

use common::{INTERFACE, Netns, VethPair, privileged_trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use synfin::link::xdp::Interface;

fn main() {
    let trials = vec![
        privileged_trial("zero_copy_on_veth_is_refused_with_one_line", zero_copy),
        privileged_trial("a_server_of_a_thousand_ports_is_measured", many_ports),
        privileged_trial("two_shards_per_end_find_their_connections", two_shards),
        privileged_trial("interfaces_come_back_as_they_were_moved_or_not", give_back),
        privileged_trial("two_ends_on_hosts_of_their_own_meet_and_give_the_interfaces_back", two_hosts),
    ];
    common::run(trials).exit();
}

/// Nothing is measured in another mode than asked for.
fn zero_copy() {
    let run = Run::new("zc");
    for stack in ["synfin", "echo"] {
        let refused = run.output(&["--stack", stack, "--mode", "zc", "--rounds", "1", "--duration", "1"]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(3), "{stack}: {said}");
        let complaints: Vec<&str> = said.lines().filter(|line| line.starts_with("synfin-bench:")).collect();
        assert!(matches!(complaints.as_slice(), [one] if one.contains("no zero-copy")), "{said}");
        assert!(refused.stdout.is_empty());
    }
}

/// More 4-tuples than the kernel can count, and more ports than a process may have files open.
fn many_ports() {
    let run = Run::new("ports");
    let file = run.directory.join("result.json");
    let json = file.display().to_string();
    let options =
        ["--stack", "synfin,kernel", "--dst-ports", "1024", "--rounds", "1", "--duration", "1", "--json", &json];
    let output = run.output(&options);
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    assert!(table.contains("x 1024 destinations"), "{table}");
    let result: Value = serde_json::from_slice(&fs::read(file).expect("was written")).expect("JSON");
    for stack in ["synfin", "kernel"] {
        let counters = &result["stacks"][stack]["counters"];
        for end in ["client", "server"] {
            let [waited, watched] = ["waited_for_cpu_ms", "watched_for_cpu_waits_ms"]
                .map(|name| counters[format!("{end}.{name}")].as_u64().unwrap_or_else(|| panic!("{end}: {counters}")));
            // Warm-up, window and what comes after it.
            assert!(waited <= watched && (1_400..8_000).contains(&watched), "{stack} {end}: {waited} of {watched} ms");
        }
    }
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
    let waited = &synfin["counters"]["client.waited_for_cpu_ms"];
    assert!(waited.is_null(), "shards that share a CPU wait for each other: {waited}");
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

/// Up, with the addresses and routes that they had; a bridge, which may not be moved, has lost nothing either.
fn give_back() {
    let host = Netns::new();
    host.ip(&["link", "add", "nic1", "type", "veth", "peer", "name", "nic2"]);
    host.ip(&["link", "add", "bridge0", "type", "bridge"]);
    for (nic, net) in [("nic1", "1"), ("nic2", "2"), ("bridge0", "3")] {
        host.ip(&["addr", "add", &format!("10.9.{net}.1/24"), "dev", nic]);
        host.ip(&["addr", "add", &format!("fd09:{net}::1/64"), "dev", nic, "nodad"]);
        host.ip(&["link", "set", nic, "up"]);
        let (gateway, onward) = (format!("10.9.{net}.254"), format!("192.0.{net}.0/24"));
        host.ip(&["route", "add", &onward, "dev", nic]);
        host.ip(&["route", "add", "default", "via", &gateway, "metric", net]);
        host.ip(&["route", "add", "198.51.100.0/24", "via", &gateway, "table", &format!("7{net}")]);
        let (gateway, own) = (format!("fd09:{net}::fe"), format!("fd09:{net}::1"));
        host.ip(&["-6", "route", "add", "default", "via", &gateway, "metric", net]);
        host.ip(&["-6", "route", "add", &format!("2001:db8:{net}::/48"), "via", &gateway, "src", &own]);
    }
    let [a, b] = ["a", "b"].map(|end| format!("synfin-wire-{end}-{}", std::process::id()));
    for (first, seen) in [("nic1", "up away back"), ("bridge0", "refused there back")] {
        let nics = [first, "nic2"];
        let before = nics.map(|nic| state(&host, nic));
        assert!(before.iter().all(|state| state.contains("UP") && state.contains("default via 10.9.")), "{before:?}");
        // In one shell: namespaces that are made under `ip netns exec` are seen there alone.
        let output =
            host.command("sh").args(["-c", UP_AND_DOWN, &wire(), &a, &b]).args(nics).output().expect("sh runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.split_whitespace().collect::<Vec<_>>().join(" "), seen, "{output:?}");
        assert_eq!(nics.map(|nic| state(&host, nic)), before);
    }
}

/// Says whether the wire came up, whether the first interface is still there then, and whether everything was given back.
const UP_AND_DOWN: &str = r#"
    "$0" up "$1" "$2" xdp 1000 "$3" "$4" && echo up || echo refused
    ip link show dev "$3" >/dev/null 2>&1 && echo there || echo away
    "$0" down "$1" "$2" && echo back
"#;

/// The interface's flags, its addresses, and what goes through it.
fn state(host: &Netns, nic: &str) -> String {
    let said = |words: &[&str]| {
        let output = host.command("ip").args(words).args(["dev", nic]).output().expect("ip runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (link, addresses) = (said(&["-o", "link", "show"]), said(&["-o", "addr", "show", "scope", "global"]));
    let flags = link.split(['<', '>']).nth(1).unwrap_or_default();
    let addresses: Vec<&str> = addresses.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
    let routes = ["-4", "-6"].map(|family| said(&[family, "route", "show", "table", "all"])).concat();
    // Those of the kernel come with the link and its addresses, some of them late.
    let routes: BTreeSet<&str> = routes.lines().filter(|line| !line.contains("proto kernel")).map(str::trim).collect();
    format!("{flags} {addresses:?} {routes:#?}")
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
