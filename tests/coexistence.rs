//! Shared-address mode: the kernel keeps the address and every port that the stack has not claimed. Needs root.

#[path = "common/command.rs"]
mod command;
mod common;

use command::{Guard, SYNFIN, Server, counts, finish, first_line, spawn, synfin};
use common::{INTERFACE, Netns, VethPair, privileged_trial};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use synfin::link::xdp::Interface;

fn main() {
    let trials = vec![
        privileged_trial("kernel_service_on_the_same_address_answers_every_request_beside_the_stack", beside),
        privileged_trial("kernel_answers_within_100_ms_of_sigkill", killed),
        privileged_trial("opens_from_a_reserved_range_which_is_given_back_at_the_end", reserved),
        privileged_trial("stacks_that_reserve_ports_at_once_wait_for_each_other", reserved_at_once),
        privileged_trial("address_or_port_that_cannot_be_shared_is_refused", refused),
    ];
    common::run(trials).exit();
}

/// 1,000 requests to the kernel's port 8080 while the stack serves port 7 of the same address, 10,000 connections a
/// second where it is optimised; over IPv4 and IPv6.
fn beside() {
    // No more than the client's one address has ports, as each stays in TIME-WAIT; few at a time, so that they last as
    // long as the requests.
    let (count, parallel, least) =
        if cfg!(debug_assertions) { (20_000, "64", 1_000.0) } else { (26_000, "6", 10_000.0) };
    for (own, prefix_len, client) in [("10.77.0.1", 24, "10.77.0.9/24"), ("fd77::1", 64, "fd77::9/64")] {
        let pair = VethPair::new(2);
        let mut service = kernel_service(&pair.left, own, 8080);
        let server = Server::start(&pair.left, &format!("{own}/{prefix_len}"), &["--shared"]);
        let remote = if own.contains(':') { format!("[{own}]:7") } else { format!("{own}:7") };
        let mut timed = pair.right.command("timeout");
        let opener = synfin(timed.args(["100", SYNFIN]), "connect", &remote, client);
        let mut opener =
            Guard(spawn(opener.args(["--count", &count.to_string(), "--parallel", parallel, "--send", "hello"])));
        let (_, mut output) = first_line(&mut opener.0);
        let began = Instant::now();
        let stack = thread::spawn(move || {
            let mut said = String::new();
            output.read_to_string(&mut said).expect("output is text");
            (said, began.elapsed())
        });
        let requests = finish(pair.right.command("timeout").args(["100", "python3", "-c", REQUESTS, own]));
        let (asked_for, overlapped) = (began.elapsed(), !stack.is_finished());
        let (said, took) = stack.join().expect("the stack's connections succeed");
        assert_eq!(counts(&said, "closed_graceful").iter().sum::<u64>(), count);
        assert_eq!(String::from_utf8_lossy(&requests.stdout), "1000 of 1000\n");
        let rate = count as f64 / took.as_secs_f64();
        println!(
            "{own}: {rate:.0} connections/s through the stack, {asked_for:?} for 1,000 requests, all beside it: {overlapped}"
        );
        assert!(rate >= least, "{rate} connections/s");
        let state = server.end();
        assert_eq!(counts(&state, "opens_passive").iter().sum::<u64>(), count, "{state}");
        service.0.kill().expect("the service runs");
    }
}

fn killed() {
    let pair = VethPair::new(2);
    let mut server = Server::start(&pair.left, "10.77.0.1/24", &["--shared"]);
    let mut client = Guard(spawn(pair.right.command("python3").args(["-c", REFUSED]).stdin(Stdio::piped())));
    let (first, mut rest) = first_line(&mut client.0);
    assert_eq!(first, "served\n");
    server.child.0.kill().expect("it runs");
    server.child.0.wait().expect("it has ended");
    let mut lines = client.0.stdin.take().expect("is piped");
    writeln!(lines, "now").expect("the client reads");
    let mut answer = String::new();
    rest.read_to_string(&mut answer).expect("the client writes");
    let millis: f64 = answer.trim().parse().expect("milliseconds");
    println!("the kernel answered {millis:.1} ms after SIGKILL");
    assert!(millis < 100.0, "{millis} ms");
    assert_eq!(pair.left.enter(|| Interface::query(INTERFACE).expect("it is there").attached), None);
}

/// SIGTERM gives the range back; SIGKILL cannot, and the next start does. What others have reserved stays, in a list
/// that is longer than the kernel tells to whoever reads by small pieces.
fn reserved() {
    let pair = VethPair::new(2);
    let _service = kernel_service(&pair.left, "10.77.0.1", 8080);
    finish(pair.right.command("sysctl").args(["-qw", &format!("net.ipv4.ip_local_reserved_ports={OTHERS}")]));
    let holder = || {
        let mut timed = pair.right.command(SYNFIN);
        let client = synfin(&mut timed, "connect", "10.77.0.1:8080", "10.77.0.2/24");
        let client =
            Guard(spawn(client.args(["--shared", "--ports", "22000-22999", "--count", "100000", "--parallel", "1"])));
        until("something is reserved", || ports(&pair.right) != OTHERS);
        assert_eq!(ports(&pair.right), OTHERS_AND_OURS);
        client
    };
    let mut ended = holder();
    let pid = ended.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().is_ok_and(|status| status.success()));
    // It may be writing what it has done.
    let mut output = String::new();
    ended.0.stdout.take().expect("is piped").read_to_string(&mut output).expect("output is text");
    ended.0.wait().expect("it has ended");
    assert_eq!(ports(&pair.right), OTHERS, "given back");
    drop(holder());
    assert_eq!(ports(&pair.right), OTHERS_AND_OURS, "SIGKILL leaves it");
    let mut timed = pair.right.command("timeout");
    let client = synfin(timed.args(["60", SYNFIN]), "connect", "10.77.0.1:8080", "10.77.0.2/24");
    let more = ["--shared", "--ports", "22500-23499", "--count", "200", "--send", "hello"];
    let output = finish(client.args(more));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(counts(&said, "closed_graceful").iter().sum::<u64>(), 200, "{said}");
    assert_eq!(counts(&said, "addresses_announced").iter().sum::<u64>(), 0, "the kernel's to announce");
    assert_eq!(ports(&pair.right), OTHERS, "the dead process's too");
    let mut timed = pair.right.command("timeout");
    let client = synfin(timed.args(["60", SYNFIN]), "connect", "10.77.0.1:8080", "10.77.0.2/24");
    let output = client.args(["--shared", "--ports", "29000-30099"]).output().expect("synfin runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(3) && errors.contains("30000 is reserved for another"), "{errors}");
    assert_eq!(ports(&pair.right), OTHERS, "a refused start changes nothing");
}

/// Two stacks in one namespace start, and end, while somebody else changes the list: each waits, and neither forgets
/// the other's part.
fn reserved_at_once() {
    let pair = VethPair::new(2);
    pair.left.ip(&["link", "add", "b0", "type", "veth", "peer", "name", "b0", "netns", pair.right.name()]);
    for (netns, host) in [(&pair.left, "1"), (&pair.right, "2")] {
        netns.ip(&["addr", "add", &format!("10.78.0.{host}/24"), "dev", "b0"]);
        netns.ip(&["link", "set", "b0", "up"]);
    }
    let _services = ["10.77.0.1", "10.78.0.1"].map(|address| kernel_service(&pair.left, address, 8080));
    for _ in 0..3 {
        let lock = held_lock();
        let mut stacks = [(INTERFACE, 77, "21000-21999"), ("b0", 78, "23000-23999")].map(|(interface, net, range)| {
            let (remote, own) = (format!("10.{net}.0.1:8080"), format!("{interface}=10.{net}.0.2/24"));
            let mut client = pair.right.command(SYNFIN);
            client.args(["connect", &remote, "--interface", &own, "--shared", "--ports", range, "--share-cores"]);
            Guard(spawn(client.args(["--json", "--count", "100000", "--parallel", "1"])))
        });
        thread::sleep(Duration::from_millis(300));
        assert_eq!(ports(&pair.right), "", "both wait for the lock");
        drop(lock);
        until("both have reserved", || ports(&pair.right) == "21000-21999,23000-23999");
        let lock = held_lock();
        for stack in &stacks {
            finish(Command::new("kill").args(["-TERM", &stack.0.id().to_string()]));
        }
        thread::sleep(Duration::from_millis(300));
        drop(lock);
        for stack in &mut stacks {
            let mut output = String::new();
            stack.0.stdout.take().expect("is piped").read_to_string(&mut output).expect("output is text");
            stack.0.wait().expect("it has ended");
        }
        assert_eq!(ports(&pair.right), "", "both have given back");
    }
}

/// The lock of the list, held as another stack would while it changes the list.
fn held_lock() -> File {
    fs::create_dir_all("/run/synfin").expect("/run is there");
    let lock = File::create("/run/synfin/lock").expect("the directory is there");
    lock.lock().expect("nobody holds it for long");
    lock
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not so after 20 s: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn refused() {
    let pair = VethPair::new(2);
    let _service = kernel_service(&pair.left, "10.77.0.1", 7);
    for (address, reason) in [("10.77.0.1/24", "port 7 of 10.77.0.1"), ("10.77.0.55/24", "cannot be shared")] {
        let mut timed = pair.left.command("timeout");
        let output = synfin(timed.args(["60", SYNFIN]), "serve", "echo:7", address).arg("--shared").output();
        let output = output.expect("synfin runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{errors}");
        assert!(errors.contains(reason), "{errors}");
    }
}

/// Echoes of the kernel's own TCP.
fn kernel_service(netns: &Netns, address: &str, port: u16) -> Guard {
    let mut service = Guard(spawn(netns.command("python3").args(["-c", SERVICE, address, &port.to_string()])));
    assert_eq!(first_line(&mut service.0).0, "ready\n");
    service
}

/// What the kernel does not choose.
fn ports(netns: &Netns) -> String {
    let output = finish(netns.command("cat").arg("/proc/sys/net/ipv4/ip_local_reserved_ports"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What others have reserved, and the list with 22000 to 22999.
const OTHERS: &str = "8080,9148,10000-10100,20000-21000,30000-30100,40000-40100";
const OTHERS_AND_OURS: &str = "8080,9148,10000-10100,20000-21000,22000-22999,30000-30100,40000-40100";

const SERVICE: &str = r#"
import socket, socketserver, sys
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while piece := self.request.recv(100):
            self.request.sendall(piece)
class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 1000
    allow_reuse_address = True
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
server = Server((sys.argv[1], int(sys.argv[2])), Echo)
print("ready", flush=True)
server.serve_forever()
"#;

const REQUESTS: &str = r#"
import socket, sys
answered = 0
for number in range(1000):
    with socket.create_connection((sys.argv[1], 8080), 10) as s:
        text = b"request %d" % number
        s.sendall(text)
        s.shutdown(socket.SHUT_WR)
        got = b""
        while piece := s.recv(100):
            got += piece
        answered += got == text
print(f"{answered} of 1000")
"#;

const REFUSED: &str = r#"
import socket, sys, time
with socket.create_connection(("10.77.0.1", 7), 10) as s:
    s.sendall(b"hello")
    assert s.recv(100) == b"hello"
print("served", flush=True)
sys.stdin.readline()
began = time.monotonic()
while True:
    try:
        socket.create_connection(("10.77.0.1", 7), 0.02)
    except ConnectionRefusedError:
        break
    except OSError:
        pass
print((time.monotonic() - began) * 1000)
"#;
