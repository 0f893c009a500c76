//! The `synfin` command on real interfaces: what it says of them, and what it does when they change. Needs root.

#[path = "common/command.rs"]
mod command;
mod common;

use command::{Guard, SYNFIN, Server, counts, finish, first_line, spawn, synfin};
use common::{INTERFACE, Netns, VethPair, privileged_trial};
use std::fs;
use std::io::{BufRead, Read, Write};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use synfin::link::xdp::Interface;

fn main() {
    let trials = vec![
        privileged_trial("doctor_finds_a_veth_ready_and_names_what_stops", doctor),
        privileged_trial("idle_shards_under_sleep_use_next_to_no_cpu", idle_sleep),
        privileged_trial("busy_poll_serves_and_spins", busy_poll),
        privileged_trial("address_that_another_host_has_is_refused_with_its_mac", conflict),
        privileged_trial("kernel_learns_the_addresses_from_announcements_alone", announced),
        privileged_trial("gateway_that_does_not_answer_is_unreachable_after_the_configured_time", silent_gateway),
        privileged_trial("hundreds_of_source_addresses_as_a_range_all_connect", range),
        privileged_trial("vlan_tags_both_ways", vlan),
        privileged_trial("connection_lives_on_through_a_flap_another_mtu_and_another_mac", flap),
        privileged_trial("removed_interface_ends_the_stack_and_says_so", removed),
        privileged_trial("drain_answers_the_control_socket_and_ends_at_a_second_signal", drain_is_served),
        privileged_trial("reader_that_has_stalled_holds_up_neither_signals_nor_the_end", stalled_reader),
        privileged_trial("access_log_that_nobody_reads_does_not_hold_up_the_end", unread_log),
        privileged_trial("frames_of_4096_bytes_carry_larger_segments", large_frames),
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
    for (idle, ticks) in [("sleep", 0..=4), ("spin", 10..=400)] {
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

fn conflict() {
    let pair = VethPair::new(2);
    for taken in ["10.77.0.2/24", "fd77::2/64"] {
        let mut timed = pair.left.command("timeout");
        let output = synfin(timed.args(["60", SYNFIN]), "serve", "echo:7", taken).output().expect("synfin runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        let mac = pair.right.enter(|| Interface::query(INTERFACE).expect("it is there").mac.to_string());
        assert_eq!(output.status.code(), Some(3), "{errors}");
        assert!(errors.contains(&mac) && errors.contains("has it already"), "{errors}");
    }
    // A later conflict is counted.
    let server = Server::start(&pair.left, "10.77.0.8/24", &[]);
    pair.right.ip(&["addr", "add", "10.77.0.8/24", "dev", INTERFACE]);
    // The other host's kernel asks for a neighbour with the address as its own.
    let ask = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('10.77.0.8', 0)); \
               s.sendto(b'x', ('10.77.0.99', 9))";
    finish(pair.right.command("python3").args(["-c", ask]));
    thread::sleep(Duration::from_millis(300));
    let state = server.end();
    assert!(counts(&state, "address_conflicts").iter().sum::<u64>() > 0, "{state}");
}

/// The kernel at the other end has an entry of the address without having asked for it (arp_accept), and keeps it right
/// when the MAC address was another.
fn announced() {
    let pair = VethPair::new(1);
    finish(pair.right.command("sysctl").args(["-q", "-w", "net.ipv4.conf.all.arp_accept=1"]));
    finish(pair.right.command("sysctl").args(["-q", "-w", &format!("net.ipv4.conf.{INTERFACE}.arp_accept=1")]));
    let stale = ["neigh", "replace", "fd77::8", "lladdr", "02:00:00:00:00:99", "nud", "reachable", "dev", INTERFACE];
    pair.right.ip(&stale);
    let server = Server::start(&pair.left, "10.77.0.8/24,fd77::8/64", &[]);
    let mac = pair.left.enter(|| Interface::query(INTERFACE).expect("it is there").mac.to_string());
    thread::sleep(Duration::from_millis(500));
    let output = finish(pair.right.command("ip").args(["neigh", "show"]));
    let neighbours = said(&output);
    for address in ["10.77.0.8", "fd77::8"] {
        let line = neighbours.lines().find(|line| line.starts_with(&format!("{address} ")));
        assert!(line.is_some_and(|line| line.contains(&mac)), "{address} at {mac}: {neighbours}");
    }
    let state = server.end();
    assert!(counts(&state, "addresses_announced").iter().sum::<u64>() >= 2, "{state}");
}

fn silent_gateway() {
    let pair = VethPair::new(1);
    let began = Instant::now();
    let mut timed = pair.right.command("timeout");
    let client = synfin(timed.args(["60", SYNFIN]), "connect", "192.0.2.1:7", "10.77.0.9/24");
    let output = client.args(["--gateway", "10.77.0.99", "--neighbor-timeout", "2"]).output().expect("synfin runs");
    let took = began.elapsed();
    assert!(said(&output).contains("\"ended\":\"unreachable\""), "{}", said(&output));
    assert!((Duration::from_secs(2)..Duration::from_secs(5)).contains(&took), "{took:?}");
}

fn range() {
    let pair = VethPair::new(2);
    let server = Server::start(&pair.left, "10.9.0.1/16", &[]);
    let mut timed = pair.right.command("timeout");
    let client = synfin(timed.args(["60", SYNFIN]), "connect", "10.9.0.1:7", "10.9.0.2-10.9.1.250/16");
    let output = finish(client.args(["--count", "1000", "--send", "hello"]));
    assert_eq!(counts(&said(&output), "closed_graceful").iter().sum::<u64>(), 1000);
    let state = server.end();
    assert_eq!(counts(&state, "opens_passive").iter().sum::<u64>(), 1000, "{state}");
}

/// Every frame of both ends bears the tag; who has none, or another, is not heard, and its frames are the kernel's.
fn vlan() {
    let pair = VethPair::new(1);
    let server = Server::start(&pair.left, "10.77.0.8/24,fd77::8/64", &["--vlan", "42"]);
    let capture = std::env::temp_dir().join(format!("synfin-vlan-{}.pcapng", std::process::id()));
    let connect = |family: &Family, more: &[&str]| {
        let mut timed = pair.right.command("timeout");
        let client = synfin(timed.args(["60", SYNFIN]), "connect", family.server, family.client);
        said(&client.args(["--send", "tagged"]).args(more).output().expect("synfin runs"))
    };
    for family in &FAMILIES {
        let tagged = connect(family, &["--vlan", "42", "--capture", capture.to_str().expect("a name")]);
        let frames = fs::read(&capture).expect("the capture is there");
        fs::remove_file(&capture).expect("the capture can go");
        assert!(tagged.contains("\"received\":\"tagged\""), "{tagged}");
        // A question for the neighbour, its answer and a lifecycle, each with 802.1Q and VLAN 42. On a busy machine bytes and FIN of each
        // side leave together: five segments then.
        let tags = frames.windows(4).filter(|bytes| *bytes == [0x81, 0, 0, 42]).count();
        assert!(tags >= 7, "{tags} tags");
        for other in [&["--vlan", "43", "--neighbor-timeout", "1"][..], &["--neighbor-timeout", "1"]] {
            assert!(connect(family, other).contains("\"ended\":\"unreachable\""), "{family:?} {other:?}");
        }
    }
    let state = server.end();
    assert!(counts(&state, "pass_vlan").iter().sum::<u64>() > 0, "{state}");
    assert_eq!(counts(&state, "vlan"), [0], "none of them came to the stack: {state}");
}

/// Where `synfin serve` is asked from, by IP version.
#[derive(Debug)]
struct Family {
    server: &'static str,
    client: &'static str,
}

const FAMILIES: [Family; 2] =
    [Family { server: "10.77.0.8:7", client: "10.77.0.9/24" }, Family { server: "[fd77::8]:7", client: "fd77::9/64" }];

/// One connection of the kernel's, which echoes a line after each change of the server's end.
fn flap() {
    let pair = VethPair::new(2);
    let server = Server::start(&pair.left, "10.77.0.8/24", &[]);
    let mut client = Guard(spawn(pair.right.command("python3").args(["-c", LINES]).stdin(Stdio::piped())));
    let mut lines = client.0.stdin.take().expect("is piped");
    let (first, mut echoed) = first_line(&mut client.0);
    assert_eq!(first, "connected\n");
    let mut echo = |text: &str| {
        writeln!(lines, "{text}").expect("the client reads");
        let mut line = String::new();
        echoed.read_line(&mut line).expect("the client writes");
        assert_eq!(line.trim_end(), text);
    };
    echo("before");
    for (netns, what) in [(&pair.left, "own end"), (&pair.right, "other end")] {
        netns.ip(&["link", "set", INTERFACE, "down"]);
        thread::sleep(Duration::from_millis(400));
        netns.ip(&["link", "set", INTERFACE, "up"]);
        echo(what);
    }
    for netns in [&pair.right, &pair.left] {
        netns.ip(&["link", "set", INTERFACE, "mtu", "1300"]);
    }
    thread::sleep(Duration::from_millis(500));
    echo(&"long".repeat(2_000));
    pair.left.ip(&["link", "set", INTERFACE, "address", "02:00:00:00:77:08"]);
    echo("another address");
    drop(lines);
    thread::sleep(Duration::from_millis(1_200));
    let state = server.end();
    // The kernel may tell of two flaps within a second as of one.
    for event in ["down", "up", "mtu_changed", "mac_changed"] {
        assert!(counts(&state, event).first().is_some_and(|count| *count >= 1), "{event}: {state}");
    }
    assert_eq!(counts(&state, "opens_passive").iter().sum::<u64>(), 1, "{state}");
    assert_eq!(counts(&state, "closed_graceful").iter().sum::<u64>(), 1, "{state}");
}

/// An interface that is deleted and made again under its old name is not the one that the sockets are bound to.
fn removed() {
    let pair = VethPair::new(2);
    let mut timed = pair.left.command("timeout");
    let mut server =
        Guard(spawn(synfin(timed.args(["60", SYNFIN]), "serve", "echo:7", "10.77.0.8/24").stderr(Stdio::piped())));
    let (line, _output) = first_line(&mut server.0);
    assert!(line.starts_with("{\"addresses\""), "{line}");
    pair.left.ip(&["link", "del", INTERFACE]);
    pair.left.ip(&["link", "add", INTERFACE, "type", "veth", "peer", "name", "other0"]);
    pair.left.ip(&["link", "set", "other0", "up"]);
    pair.left.ip(&["link", "set", INTERFACE, "up"]);
    let mut errors = String::new();
    server.0.stderr.take().expect("is piped").read_to_string(&mut errors).expect("errors are text");
    assert_eq!(server.0.wait().expect("it ends").code(), Some(3), "{errors}");
    assert!(errors.contains(&format!("interface {INTERFACE}: it was removed")), "{errors}");
    assert!(!errors.contains("up again"), "{errors}");
}

/// While a connection holds up a drain, the control socket answers; a second SIGTERM ends it long before its time.
fn drain_is_served() {
    let pair = VethPair::new(2);
    let path = std::env::temp_dir().join(format!("synfin-network-{}.sock", std::process::id()));
    let path = path.to_str().expect("is text");
    let server = Server::start(&pair.left, "10.77.0.8/24", &["--drain", "60", "--control", path]);
    let mut client = Guard(spawn(pair.right.command("python3").args(["-c", LINES]).stdin(Stdio::piped())));
    let (connected, _echoed) = first_line(&mut client.0);
    assert_eq!(connected, "connected\n");
    let pid = server.child.0.id().to_string();
    finish(pair.left.command("kill").args(["-TERM", &pid]));
    thread::sleep(Duration::from_millis(500));
    let status = finish(pair.left.command(SYNFIN).args(["control", path, "status"]));
    assert_eq!(counts(&said(&status), "connections_live").iter().sum::<u64>(), 1, "{}", said(&status));
    let began = Instant::now();
    let state = server.end();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}: {state}", began.elapsed());
    assert_eq!(counts(&state, "connections_live").iter().sum::<u64>(), 0, "{state}");
}

/// Nobody reads what SIGUSR1 prints, much more than a pipe holds; the control socket and SIGTERM are heard none the
/// less, and the end does not wait for a reader of the last state.
fn stalled_reader() {
    let pair = VethPair::new(1);
    let path = std::env::temp_dir().join(format!("synfin-stalled-{}.sock", std::process::id()));
    let path = path.to_str().expect("is text");
    let mut command = pair.left.command(SYNFIN);
    let command = synfin(&mut command, "serve", "echo:7", "10.77.0.8/24");
    let mut server = Guard(spawn(command.args(["--control", path]).stderr(Stdio::piped())));
    let (first, unread) = first_line(&mut server.0);
    assert!(first.starts_with("{\"addresses\""), "{first}");
    let pid = server.0.id().to_string();
    for _ in 0..40 {
        finish(pair.left.command("kill").args(["-USR1", &pid]));
        thread::sleep(Duration::from_millis(50));
    }
    let status = finish(pair.left.command(SYNFIN).args(["control", path, "status"]));
    assert!(said(&status).contains("connections_live"), "{}", said(&status));
    ends_without_its_reader(&mut server);
    drop(unread);
}

/// A proxy whose access log goes to a pipe that is full, as what it says itself does.
fn unread_log() {
    let pair = VethPair::new(1);
    let config = std::env::temp_dir().join(format!("synfin-unread-{}.toml", std::process::id()));
    fs::write(&config, UNREAD).expect("a file can be written");
    let (unread, mut full) = std::io::pipe().expect("a pipe");
    full.write_all(&[b'.'; 1 << 16]).expect("as much as a pipe holds");
    let mut command = pair.left.command(SYNFIN);
    let command = command.args(["proxy", "--config", config.to_str().expect("is text")]);
    let mut proxy = Guard(command.stdout(full).stderr(Stdio::piped()).spawn().expect("it starts"));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !pair.right.enter(|| std::net::TcpStream::connect("10.77.0.8:80").is_ok()) {
        assert!(Instant::now() < deadline, "the proxy does not listen");
        thread::sleep(Duration::from_millis(50));
    }
    fs::remove_file(&config).expect("the file can go");
    ends_without_its_reader(&mut proxy);
    drop(unread);
}

/// SIGTERM ends it within its time, with word of what nobody has read.
fn ends_without_its_reader(child: &mut Guard) {
    let asked = Instant::now();
    finish(Command::new("kill").args(["-TERM", &child.0.id().to_string()]));
    let ended = loop {
        if let Some(status) = child.0.try_wait().expect("it can be asked") {
            break status;
        }
        assert!(asked.elapsed() < Duration::from_secs(15), "it waits for its reader");
        thread::sleep(Duration::from_millis(20));
    };
    let mut errors = String::new();
    child.0.stderr.take().expect("is piped").read_to_string(&mut errors).expect("errors are text");
    assert!(ended.success() && errors.contains("lines of standard output were lost"), "{ended}: {errors}");
}

fn large_frames() {
    let pair = VethPair::new(2);
    for netns in [&pair.left, &pair.right] {
        netns.ip(&["link", "set", INTERFACE, "mtu", "3000"]);
    }
    let server = Server::start(&pair.left, "10.77.0.8/24", &["--frame-size", "4096", "--huge-pages"]);
    let output = finish(pair.right.command("timeout").args(["60", "python3", "-c", MEGABYTE]));
    assert_eq!(said(&output), "True\n");
    let state = server.end();
    let received = |name| counts(&state, name).iter().sum::<u64>();
    // Segments of up to 2948 bytes, and the ACKs of what comes back.
    assert!(received("rx_bytes") > 600 * received("rx_frames"), "{state}");
    assert!(received("tx_bytes") > 1_600 * received("segments_sent").max(1) / 2, "{state}");
    assert!(state.contains("\"frame_bytes\":4096") && state.contains("\"huge_pages\":"), "{state}");
    assert!(state.contains("\"xsk\":{") && state.contains("\"rx_ring_full\":0"), "{state}");
    let wrong = synfin(&mut pair.left.command(SYNFIN), "serve", "echo:7", "10.77.0.8/24")
        .args(["--frame-size", "1000"])
        .output();
    assert_eq!(wrong.expect("synfin runs").status.code(), Some(2));
}

const UNREAD: &str = r#"
access_log = "-"
drain_timeout = "1s"
[stack]
interface = "veth0"
address = "10.77.0.8/24"
[[listeners]]
name = "web"
address = "10.77.0.8:80"
backends = [{ address = "10.77.0.2:9" }]
"#;

const LINES: &str = r#"
import socket, sys
s = socket.create_connection(("10.77.0.8", 7), 30)
print("connected", flush=True)
for line in sys.stdin:
    s.sendall(line.encode())
    got = b""
    while not got.endswith(b"\n"):
        piece = s.recv(65536)
        if not piece:
            sys.exit("closed")
        got += piece
    print(got.decode(), end="", flush=True)
"#;

const MEGABYTE: &str = r#"
import socket, threading
s = socket.create_connection(("10.77.0.8", 7), 30)
text = bytes(range(256)) * 4096
def send():
    s.sendall(text)
    s.shutdown(1)
threading.Thread(target=send).start()
got = b""
while piece := s.recv(65536):
    got += piece
print(got == text)
"#;
