//! One stack on two interfaces with two queues each: shards that have a queue of either, clients on one wire and
//! servers on the other. Needs root.

#[path = "common/command.rs"]
mod command;
mod common;

use command::{Guard, SYNFIN, Server, counts, finish, first_line, spawn, synfin};
use common::{INTERFACE, Netns, VethPair, privileged_trial};
use std::fs;
use std::process::Stdio;
use synfin::link::xdp::Interface;

fn main() {
    let trials = vec![
        privileged_trial("listeners_answer_on_both_interfaces_and_each_on_its_own", serve_on_both),
        privileged_trial("proxy_takes_clients_on_one_interface_and_reaches_servers_on_the_other", two_armed_proxy),
        privileged_trial("addresses_of_both_interfaces_are_shared_with_the_kernel", shared_on_both),
        privileged_trial("connect_picks_the_interface_by_route", connect_by_route),
        privileged_trial("interfaces_that_do_not_fit_are_refused_with_one_line", refused),
        privileged_trial("interfaces_with_different_queues_are_refused_until_the_advice_is_followed", different_queues),
    ];
    common::run(trials).exit();
}

/// Two hosts, each joined to the stack's by a wire of its own: 10.77.0.1 by veth0, 10.78.0.1 by b0.
struct Wires {
    pair: VethPair,
    second: Netns,
}

impl Wires {
    fn new() -> Wires {
        let wires = Wires { pair: VethPair::new(2), second: Netns::new() };
        let (stack, second) = (wires.stack(), &wires.second);
        let count = ["numrxqueues", "2", "numtxqueues", "2"];
        let there = ["type", "veth", "peer", "name", INTERFACE, "netns", second.name()];
        stack.ip(&[&["link", "add", "b0"][..], &count, &there, &count].concat());
        second.ip(&["addr", "add", "10.78.0.1/24", "dev", INTERFACE]);
        second.ip(&["addr", "add", "fd78::1/64", "dev", INTERFACE, "nodad"]);
        for (netns, interface) in [(stack, "b0"), (second, INTERFACE)] {
            let off = ["-K", interface, "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"];
            finish(netns.command("ethtool").args(off));
            netns.ip(&["link", "set", interface, "up"]);
        }
        wires
    }

    fn stack(&self) -> &Netns {
        &self.pair.right
    }

    fn first(&self) -> &Netns {
        &self.pair.left
    }

    fn is_free(&self) -> bool {
        let attached = |name| self.stack().enter(|| Interface::query(name).expect("it is there").attached);
        attached(INTERFACE).is_none() && attached("b0").is_none()
    }
}

fn clients(host: &Netns, server: &str, port: &str, count: &str) -> String {
    let output = finish(host.command("timeout").args(["90", "python3", "-c", CLIENTS, server, port, count]));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn serve_on_both() {
    let wires = Wires::new();
    let server = Server::start(wires.stack(), FIRST, &SECOND);
    for (host, net) in [(wires.first(), 77), (&wires.second, 78)] {
        for address in [format!("10.{net}.0.9"), format!("fd{net}::9")] {
            assert_eq!(clients(host, &address, "7", "200"), "200 echoed, 0 errors\n", "{address}");
        }
    }
    // The address of the other wire is not there, as the way to it is by a router.
    wires.first().ip(&["route", "add", "10.78.0.0/24", "dev", INTERFACE]);
    assert_eq!(clients(wires.first(), "10.78.0.9", "7", "1").split(',').next(), Some("0 echoed"));
    let state = server.end();
    assert_eq!(counts(&state, "opens_passive").iter().sum::<u64>(), 800, "{state}");
    assert_eq!(counts(&state, "opens_passive").len(), 2, "two shards, each with a queue of either: {state}");
    assert_eq!(counts(&state, "redirect_tcp_own").len(), 2, "{state}");
    assert!(counts(&state, "redirect_tcp_own").iter().all(|count| *count > 1_000), "{state}");
    assert!(wires.is_free(), "the kernel has the traffic of both again");
}

fn two_armed_proxy() {
    let wires = Wires::new();
    let mut servers = Vec::new();
    for address in ["10.78.0.1", "fd78::1"] {
        let mut server = Guard(spawn(wires.second.command("python3").args(["-c", SERVER, address])));
        assert_eq!(first_line(&mut server.0).0, "ready\n");
        servers.push(server);
    }
    let path = std::env::temp_dir().join(format!("synfin-interfaces-{}.toml", std::process::id()));
    fs::write(&path, PROXY).expect("the directory is there");
    let mut command = wires.stack().command("timeout");
    command.args(["100", SYNFIN, "proxy", "--config"]).arg(&path);
    let proxy = Server::run(&mut command, "{\"interface\":\"veth0,b0\"");
    fs::remove_file(&path).expect("it is there");
    for address in ["10.77.0.9", "fd77::9"] {
        assert_eq!(clients(wires.first(), address, "80", "500"), "500 echoed, 0 errors\n", "{address}");
    }
    let state = proxy.end();
    let total = |name| counts(&state, name).iter().sum::<u64>();
    assert_eq!((total("opens_passive"), total("opens_active")), (1_000, 1_000), "{state}");
    // Of each connection the client's segments came by one interface and the server's by the other.
    let by = counts(&state, "redirect_tcp_own");
    assert!(by.len() == 2 && by.iter().all(|count| *count > 4_000), "{state}");
    assert!(wires.is_free());
}

/// The kernel keeps the addresses of both interfaces, and the stack has port 7 of each.
fn shared_on_both() {
    let wires = Wires::new();
    wires.stack().ip(&["addr", "add", "10.78.0.2/24", "dev", "b0"]);
    let server = Server::start(wires.stack(), "10.77.0.2/24", &["--interface", "b0=10.78.0.2/24", "--shared"]);
    for (host, address) in [(wires.first(), "10.77.0.2"), (&wires.second, "10.78.0.2")] {
        assert_eq!(clients(host, address, "7", "100"), "100 echoed, 0 errors\n", "{address}");
    }
    let state = server.end();
    let by = counts(&state, "redirect_tcp_port");
    assert!(by.len() == 2 && by.iter().all(|count| *count > 500), "{state}");
}

fn connect_by_route() {
    let wires = Wires::new();
    let mut server = Guard(spawn(wires.second.command("python3").args(["-c", SERVER, "10.78.0.1"])));
    assert_eq!(first_line(&mut server.0).0, "ready\n");
    // Beyond both networks, behind the host on the second wire.
    wires.second.ip(&["addr", "add", "192.0.2.1/32", "dev", "lo"]);
    let mut far = Guard(spawn(wires.second.command("python3").args(["-c", SERVER, "192.0.2.1"])));
    assert_eq!(first_line(&mut far.0).0, "ready\n");
    for remote in ["10.78.0.1:8080", "192.0.2.1:8080"] {
        let mut timed = wires.stack().command("timeout");
        let client = synfin(timed.args(["60", SYNFIN]), "connect", remote, FIRST).args(SECOND);
        let output = finish(client.args(["--gateway", "10.78.0.1", "--count", "50", "--send", "hello"]));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.matches("\"received\":\"hello\"").count(), 50, "{said}");
        // The part of the other interfaces, `beside`, comes first.
        let by = counts(&said, "redirect_tcp_own");
        assert!(by[0] > 100 && by[1] == 0, "all by the second interface: {said}");
    }
}

fn refused() {
    let wires = Wires::new();
    wires.stack().ip(&["link", "add", "c0", "type", "veth", "peer", "name", "c1"]);
    for (interfaces, code, says) in [
        (&["veth0=10.77.0.9/24", "veth0=10.78.0.9/24"][..], 2, "it is given twice"),
        (&["veth0=10.77.0.9/24", "b0=10.77.0.8/24"], 2, "overlap"),
        (&["veth0=10.77.0.9/24", "b0"], 2, "it has no address"),
        (&["veth0=10.77.0.9/24", "nosuch0=10.78.0.9/24"], 3, "nosuch0"),
        (&["veth0=10.77.0.9/24", "c0=10.78.0.9/24"], 3, "c0"),
    ] {
        let mut command = wires.stack().command("timeout");
        command.args(["60", SYNFIN, "serve", "echo:7"]).stderr(Stdio::piped());
        interfaces.iter().for_each(|interface| _ = command.args(["--interface", interface]));
        let output = command.output().expect("synfin runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), errors.lines().count()), (Some(code), 1), "{interfaces:?}: {errors}");
        assert!(errors.contains(says), "{interfaces:?}: {errors}");
        assert!(wires.is_free(), "{interfaces:?}");
    }
}

fn different_queues() {
    let wires = Wires::new();
    // A veth has no combined queues, but so many of either kind; and the other end may not send on more than there are.
    let one_queue = |netns: &Netns, interface: &str| {
        finish(netns.command("ethtool").args(["-L", interface, "rx", "1", "tx", "1"]));
    };
    one_queue(wires.stack(), "b0");
    one_queue(&wires.second, INTERFACE);
    let mut command = wires.stack().command("timeout");
    let command = synfin(command.args(["60", SYNFIN]), "serve", "echo:7", FIRST).args(SECOND).stderr(Stdio::piped());
    let output = command.output().expect("synfin runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), errors.lines().count()), (Some(3), 1), "{errors}");
    assert!(errors.contains("veth0 has 2, b0 has 1,"), "{errors}");
    assert!(errors.contains("give --queues 1 and `ethtool -L veth0 combined 1`"), "{errors}");
    one_queue(wires.stack(), INTERFACE);
    one_queue(wires.first(), INTERFACE);
    let server = Server::start(wires.stack(), FIRST, &[&SECOND[..], &["--queues", "1"]].concat());
    server.end();
}

/// What the stack has on the first interface, and that it is on a second one.
const FIRST: &str = "10.77.0.9/24,fd77::9/64";
const SECOND: [&str; 2] = ["--interface", "b0=10.78.0.9/24,fd78::9/64"];

const PROXY: &str = r#"
[stack]
interface = ["veth0=10.77.0.9/24", "fd77::9/64", "b0=10.78.0.9/24", "fd78::9/64"]
mode = "drv"
json = true

[[listeners]]
name = "web"
address = "10.77.0.9:80"
backends = [{ address = "10.78.0.1:8080" }]

[[listeners]]
name = "web6"
address = "[fd77::9]:80"
backends = [{ address = "[fd78::1]:8080" }]
"#;

const CLIENTS: &str = r#"
import socket, sys
address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
echoed, errors = 0, []
for number in range(count):
    try:
        with socket.create_connection((address, port), 2 if count == 1 else 30) as s:
            text = b"%d" % number * 1000
            s.sendall(text)
            s.shutdown(socket.SHUT_WR)
            got = b""
            while piece := s.recv(65536):
                got += piece
            echoed += got == text
    except OSError as error:
        errors.append(error)
print(f"{echoed} echoed, {len(errors)} errors")
"#;

const SERVER: &str = r#"
import socket, sys, threading
server = socket.create_server((sys.argv[1], 8080), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, backlog=1000)
print("ready", flush=True)
def serve(peer):
    with peer:
        while piece := peer.recv(65536):
            peer.sendall(piece)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"#;
