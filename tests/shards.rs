//! The `synfin` command with a shard on each of two queues, over veth in native mode. Needs root.

#[path = "common/command.rs"]
mod command;
mod common;

use command::{Guard, SYNFIN, Server, counts, finish, first_line, spawn, synfin};
use common::{INTERFACE, Netns, VethPair, privileged_trial};
use synfin::link::xdp::{EgressSpread, Interface};

fn main() {
    let trials = vec![
        privileged_trial("synfin_at_both_ends_agrees_on_owners", synfin_at_both_ends),
        privileged_trial("kernel_clients_reach_two_shards", kernel_clients),
        privileged_trial("kernel_clients_whose_veth_spreads_by_hash_reach_their_shards_at_once", spread_clients),
        privileged_trial("connect_from_two_shards_reaches_a_kernel_server", kernel_server),
        privileged_trial("two_shards_on_one_core_are_refused_unless_shared", one_core),
    ];
    common::run(trials).exit();
}

/// Both ends divide by the same symmetric hash, and veth keeps the queue: nothing crosses.
fn synfin_at_both_ends() {
    let pair = VethPair::new(2);
    let server = Server::start(&pair.left, "10.77.0.8/24", &[]);
    let (client, state) = (connect(&pair.right, "10.77.0.8:7", "2000", &[]), server.end());
    assert_eq!(counts(&client, "closed_graceful"), [1000, 1000], "{client}");
    for report in [&client, &state] {
        assert_eq!(counts(report, "wrong_shard"), [0, 0], "{report}");
        assert!(report.contains("\"spread\":\"symmetric\"") && report.contains("\"mode\":\"drv\""), "{report}");
    }
    assert_eq!(counts(&state, "opens_passive"), [1000, 1000], "{state}");
    for netns in [&pair.left, &pair.right] {
        let attached = netns.enter(|| Interface::query(INTERFACE).expect("the interface is there").attached);
        assert_eq!(attached, None, "the kernel has the traffic again");
    }
}

/// The kernel spreads its connections otherwise: their frames are handed over.
fn kernel_clients() {
    let pair = VethPair::new(2);
    let server = Server::start(&pair.left, "10.77.0.8/24", &[]);
    let output = finish(pair.right.command("timeout").args(["60", "python3", "-c", CLIENTS, "10.77.0.8"]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1000 connections, 0 errors\n");
    let state = server.end();
    let (opened, crossed) = (counts(&state, "opens_passive"), counts(&state, "wrong_shard"));
    assert!(opened.iter().sum::<u64>() == 1000 && opened.iter().all(|count| *count > 300), "{state}");
    assert!(crossed.iter().sum::<u64>() > 0, "{state}");
    assert_eq!(counts(&state, "handover_full"), [0, 0], "{state}");
}

/// The same with a program at the clients' end that does what RSS does: nothing crosses but what is no TCP.
fn spread_clients() {
    for (address, server) in [("10.77.0.8/24", "10.77.0.8"), ("fd77::8/64", "fd77::8")] {
        let pair = VethPair::new(2);
        let running = Server::start(&pair.left, address, &[]);
        let spread = pair.right.enter(|| EgressSpread::attach(INTERFACE, 2).expect("the program is attached"));
        let output = finish(pair.right.command("timeout").args(["60", "python3", "-c", CLIENTS, server]));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1000 connections, 0 errors\n");
        drop(spread);
        let state = running.end();
        let opened = counts(&state, "opens_passive");
        assert!(opened.iter().sum::<u64>() == 1000 && opened.iter().all(|count| *count > 300), "{state}");
        assert_eq!(counts(&state, "wrong_shard"), [0, 0], "{state}");
    }
}

fn kernel_server() {
    let pair = VethPair::new(2);
    let mut server = Guard(spawn(pair.left.command("python3").args(["-c", SERVER])));
    assert_eq!(first_line(&mut server.0).0, "ready\n");
    let client = connect(&pair.right, "10.77.0.1:7", "1000", &[]);
    assert_eq!(counts(&client, "closed_graceful"), [500, 500], "{client}");
}

fn one_core() {
    let pair = VethPair::new(2);
    let mut timed = pair.left.command("timeout");
    let refused = synfin(timed.args(["60", SYNFIN]), "serve", "echo:7", "10.77.0.8/24");
    let output = refused.args(["--cpus", "0"]).output().expect("synfin runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), errors.lines().count()), (Some(3), 1), "{errors}");
    assert!(errors.contains("2 shards on 1 cores") && errors.contains("--share-cores"), "{errors}");
    let shared = ["--cpus", "0", "--share-cores"];
    let server = Server::start(&pair.left, "10.77.0.8/24", &shared);
    let client = connect(&pair.right, "10.77.0.8:7", "200", &shared);
    assert_eq!(counts(&client, "closed_graceful"), [100, 100], "{client}");
    server.end();
}

/// The report of `synfin connect`, after all connections have ended gracefully.
fn connect(netns: &Netns, remote: &str, count: &str, more: &[&str]) -> String {
    let mut timed = netns.command("timeout");
    let command = synfin(timed.args(["60", SYNFIN]), "connect", remote, "10.77.0.9/24");
    let output = finish(command.args(["--count", count, "--send", "hello"]).args(more));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said.matches("\"received\":\"hello\"").count().to_string(), count, "{said}");
    said
}

const CLIENTS: &str = r#"
import socket, sys, threading
errors = []
def work():
    for _ in range(250):
        try:
            with socket.create_connection((sys.argv[1], 7), 30) as s:
                s.sendall(b"hello")
                s.shutdown(socket.SHUT_WR)
                got = b""
                while piece := s.recv(100):
                    got += piece
                if got != b"hello":
                    errors.append(got)
        except OSError as error:
            errors.append(error)
threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(f"1000 connections, {len(errors)} errors")
"#;

const SERVER: &str = r#"
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while piece := self.request.recv(100):
            self.request.sendall(piece)
class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 1000
    allow_reuse_address = True
server = Server(("10.77.0.1", 7), Echo)
print("ready", flush=True)
server.serve_forever()
"#;
