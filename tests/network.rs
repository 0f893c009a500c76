//! The `synfin` command on real interfaces: what it says of them, and what it does when they change. Needs root.

#[path = "common/command.rs"]
mod command;
mod common;

use command::{SYNFIN, Server, counts, finish, synfin};
use common::{INTERFACE, Netns, VethPair, privileged_trial};
use std::fs;
use std::process::Output;
use std::thread;
use std::time::Duration;

fn main() {
    let trials = vec![
        privileged_trial("doctor_finds_a_veth_ready_and_names_what_stops", doctor),
        privileged_trial("idle_shards_under_sleep_use_next_to_no_cpu", idle_sleep),
        privileged_trial("busy_poll_serves_and_spins", busy_poll),
    ];
    common::run(trials).exit();
}

/// Exit 0 on a veth that is up; 3, with the command that mends it, when it is down or another program is attached.
fn doctor() {
    let pair = VethPair::new(2);
    let healthy = examine(&pair.left);
    let json = said(&healthy);
    assert_eq!(healthy.status.code(), Some(0), "{json}");
    for expected in
        ["\"driver\":\"veth\"", "\"queues\":2", "\"zero_copy\":false", "\"stops\":false", "\"rss_key\":null"]
    {
        assert!(json.contains(expected), "{expected}: {json}");
    }
    let server = Server::start(&pair.left, "10.77.0.8/24", &[]);
    let taken = examine(&pair.left);
    assert_eq!(taken.status.code(), Some(3));
    assert!(said(&taken).contains("\"xdp_attached\":\"drv\""), "{}", said(&taken));
    server.end();
    pair.left.ip(&["link", "set", INTERFACE, "down"]);
    let down = examine(&pair.left);
    assert_eq!(down.status.code(), Some(3));
    assert!(said(&down).contains("ip link set veth0 up"), "{}", said(&down));
    let missing = pair.left.command(SYNFIN).args(["doctor", "--interface", "nosuch0"]).output().expect("it runs");
    assert_eq!(missing.status.code(), Some(3));
}

fn examine(netns: &Netns) -> Output {
    netns.command(SYNFIN).args(["doctor", "--interface", INTERFACE, "--json"]).output().expect("synfin runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Two shards without a packet: below 2 % of a core, while spinning takes nearly all of one.
fn idle_sleep() {
    let pair = VethPair::new(2);
    for (idle, ticks) in [("sleep", 0..=4), ("spin", 50..=400)] {
        let server = Server::start(&pair.left, "10.77.0.8/24", &["--idle", idle]);
        thread::sleep(Duration::from_millis(500));
        let before = cpu_ticks(server.child.0.id());
        thread::sleep(Duration::from_secs(2));
        let used = cpu_ticks(server.child.0.id()) - before;
        println!("idle {idle}: {used} ticks of 10 ms in 2 s, two shards");
        assert!(ticks.contains(&used), "idle {idle}: {used} ticks in 2 s");
        server.end();
    }
}

/// User and system time of a process, in ticks of 10 ms.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    // The name, in brackets, may hold anything.
    let fields = stat.rsplit(')').next().expect("there is a rest").split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

fn busy_poll() {
    let pair = VethPair::new(2);
    let server = Server::start(&pair.left, "10.77.0.8/24", &["--idle", "busy-poll"]);
    let mut timed = pair.right.command("timeout");
    let client = synfin(timed.args(["60", SYNFIN]), "connect", "10.77.0.8:7", "10.77.0.9/24");
    let output = finish(client.args(["--count", "100", "--send", "hello", "--share-cores"]));
    assert_eq!(counts(&said(&output), "closed_graceful").iter().sum::<u64>(), 100);
    server.end();
}
