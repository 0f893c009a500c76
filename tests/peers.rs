//! The `synfin` command against peers of the kernel's stack: curl, Python, tshark; and against bad input. Needs root.

mod command;
mod common;

use command::{Guard, SYNFIN, Server, python, run, synfin, wait};
use common::{INTERFACE, Netns, VethPair, privileged_trial};
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;
use synfin::link::xdp::Interface;

fn main() {
    let trials = vec![
        privileged_trial("curl_gets_the_page_over_ipv4_and_ipv6", curl_gets_the_page),
        privileged_trial("ten_thousand_kernel_connections_echo_without_error", ten_thousand_connections),
        privileged_trial("b13_kernel_connects_by_syn_cookies", kernel_connects_by_cookies),
        privileged_trial("large_transfers_return_byte_for_byte", large_transfers),
        privileged_trial("shld_6_narrow_path_behind_a_kernel_router_is_found", narrow_path),
        privileged_trial("without_time_wait_the_start_and_the_report_warn", without_time_wait),
        privileged_trial("connect_reaches_a_kernel_server", connect_reaches_a_kernel_server),
        privileged_trial("capture_reads_in_tshark_without_malformed_frames", capture_reads_in_tshark),
        privileged_trial("must_48_must_49_dscp_and_ttl_of_serve_and_connect_are_on_the_wire", dscp_and_ttl),
        privileged_trial("kernel_keeps_its_own_address_while_serving", kernel_keeps_its_own_address),
        privileged_trial("sigusr1_prints_state_and_sigterm_ends_with_0", signals_print_and_end),
        privileged_trial("control_socket_tells_the_state_changes_policies_and_drains", control_socket),
        privileged_trial("b14_half_open_connections_are_told_by_the_control_socket", half_open),
        privileged_trial("sigkill_leaves_nothing_attached", sigkill_leaves_nothing),
        privileged_trial("bad_input_is_one_line_and_leaves_nothing", bad_input),
        privileged_trial("offloading_peer_is_named_with_the_command_that_mends_it", offloading_peer),
        privileged_trial("two_queues_two_shards_serve_kernel_clients", two_queues),
        privileged_trial("more_queues_than_shards_is_refused_with_advice", queues_left_over),
        privileged_trial("fewer_queues_than_shards_is_refused_with_both_counts", queues_too_few),
    ];
    common::run(trials).exit();
}

fn curl_gets_the_page() {
    let pair = VethPair::new(1);
    let server = serve(&pair.right, &["http:80"], &[]);
    for url in ["http://10.77.0.9/", "http://[fd77::9]/"] {
        let output = run(pair.left.command("curl").args(["-sS", "--max-time", "10", "-i", url]));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(text.starts_with("HTTP/1.1 200 OK") && text.ends_with("hello, world\n"), "{url}: {text}");
    }
    server.end();
}

fn ten_thousand_connections() {
    let pair = VethPair::new(1);
    let server = serve(&pair.right, &["echo:7"], &[]);
    let output = python(&pair.left, ECHO_CLIENT, &["10000", "64"]);
    assert_eq!(output, "10000 connections, 0 errors\n");
    let state = server.end();
    assert!(state.contains("established 10000") && state.contains("closed_graceful 10000"), "{state}");
}

fn kernel_connects_by_cookies() {
    let pair = VethPair::new(1);
    let server = serve(&pair.right, &["echo:7"], &["--syn-cookies", "always"]);
    assert_eq!(python(&pair.left, ECHO_CLIENT, &["1000", "64"]), "1000 connections, 0 errors\n");
    assert_eq!(python(&pair.left, ECHO_CLIENT, &["4", "1000000"]), "4 connections, 0 errors\n");
    let state = server.end();
    for line in ["syn_cookies_sent 1004", "syn_cookies_accepted 1004", "closed_graceful 1004"] {
        assert!(state.contains(line), "{line}: {state}");
    }
    assert!(!state.contains("syn_cookies_invalid") || state.contains("syn_cookies_invalid 0"), "{state}");
}

fn large_transfers() {
    let pair = VethPair::new(1);
    let server = serve(&pair.right, &["echo:7", "discard:9"], &[]);
    assert_eq!(python(&pair.left, ECHO_CLIENT, &["8", "1000000"]), "8 connections, 0 errors\n");
    server.end();
}

/// A kernel router whose far side is narrower: it answers what is too big by ICMP, over IPv4 and IPv6.
fn narrow_path() {
    let pair = VethPair::new(1);
    let (router, far) = (&pair.left, Netns::new());
    router.ip(&["link", "add", "far0", "type", "veth", "peer", "name", "far0", "netns", far.name()]);
    for (netns, host) in [(router, "1"), (&far, "2")] {
        netns.ip(&["addr", "add", &format!("10.88.0.{host}/24"), "dev", "far0"]);
        netns.ip(&["addr", "add", &format!("fd88::{host}/64"), "dev", "far0", "nodad"]);
        let off = ["-K", "far0", "tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"];
        assert!(run(netns.command("ethtool").args(off)).status.success());
        netns.ip(&["link", "set", "far0", "up"]);
    }
    router.ip(&["link", "set", "far0", "mtu", "1300"]);
    for forward in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
        assert!(run(router.command("sysctl").args(["-w", forward])).status.success());
    }
    // The far end sends what fits, and says nothing of that in its SYN.
    let wide = |gateway, mss| ["route", "add", "default", "via", gateway, "mtu", "lock", "1300", "advmss", mss];
    far.ip(&wide("10.88.0.1", "1460"));
    far.ip(&[&["-6"], &wide("fd88::1", "1440")[..]].concat());
    let server = serve(&pair.right, &["echo:7"], &["--gateway", "10.77.0.1,fd77::1"]);
    assert_eq!(python(&far, ECHO_CLIENT, &["2", "300000"]), "2 connections, 0 errors\n");
    assert_eq!(python(&far, ECHO_CLIENT, &["4", "300000"]), "4 connections, 0 errors\n");
    let state = server.end();
    assert!(state.contains("path_mtu_lowered 2") && state.contains("path_mtu_known 4"), "{state}");
}

fn without_time_wait() {
    let pair = VethPair::new(1);
    let more = ["--time-wait", "none", "--quiet-time", "5"];
    let mut server = serve_with(&pair.right, &["echo:7"], &more, Stdio::piped());
    assert_eq!(python(&pair.left, ECHO_CLIENT, &["20", "64"]), "20 connections, 0 errors\n");
    let mut errors = server.child.0.stderr.take().expect("is piped");
    let state = server.end();
    let mut said = String::new();
    errors.read_to_string(&mut said).expect("output is text");
    let warning = "WARNING: time-wait none: old duplicates reach new connections";
    assert!(
        said.contains(warning) && state.contains(warning) && state.contains("time-wait none, delay"),
        "{said}{state}"
    );
    assert!(state.contains("syn_dropped_quiet"), "{state}");
}

fn connect_reaches_a_kernel_server() {
    let pair = VethPair::new(1);
    let server = pair.left.command("python3").args(["-c", UPPERCASE_SERVER]).stdout(Stdio::piped()).spawn();
    let mut server = Guard(server.expect("python3 starts"));
    let mut ready = [0; 6];
    server.0.stdout.as_mut().expect("is piped").read_exact(&mut ready).expect("the server says ready");
    for remote in ["10.77.0.1:5000", "[fd77::1]:5000"] {
        let arguments = [&["connect", remote, "--count", "200", "--send", "hello"], &OPTIONS[..]].concat();
        let output = run(synfin(&pair.right).args(arguments));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(text.matches("graceful, 5 bytes \"HELLO\"").count(), 200, "{text}");
        assert!(text.contains("200 graceful, 0 otherwise, 0 not ended"), "{text}");
    }
    let arguments = [&["connect", "10.77.0.1:5999"], &OPTIONS[..]].concat();
    let output = run(synfin(&pair.right).args(arguments));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("1: refused, 0 bytes"), "{text}");
}

fn capture_reads_in_tshark() {
    let pair = VethPair::new(1);
    let file = std::env::temp_dir().join(format!("synfin-peers-{}.pcapng", std::process::id()));
    let path = file.to_string_lossy().into_owned();
    let server = serve(&pair.right, &["echo:7"], &["--capture", &path]);
    assert_eq!(python(&pair.left, ECHO_CLIENT, &["20", "3000"]), "20 connections, 0 errors\n");
    server.end();
    let tshark = |arguments: &[&str]| packets(&path, arguments);
    let checks = ["-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE"];
    let wrong = "_ws.malformed or tcp.checksum.status == 0 or ip.checksum.status == 0";
    let counts = [
        tshark(&[&checks[..], &["-Y", wrong]].concat()),
        tshark(&["-Y", "frame.packet_flags_direction == 1 and tcp.flags.syn == 1"]),
        tshark(&["-Y", "frame.packet_flags_direction == 2 and tcp.flags.syn == 1"]),
    ];
    std::fs::remove_file(&file).expect("the capture is there");
    assert_eq!(counts, [0, 20, 20]);
}

/// The options of connections that a command gives to its listeners, or to what it opens.
fn dscp_and_ttl() {
    let pair = VethPair::new(1);
    let file = std::env::temp_dir().join(format!("synfin-peers-options-{}.pcapng", std::process::id()));
    let path = file.to_string_lossy().into_owned();
    let options = ["--capture", &path, "--dscp", "46", "--ttl", "7"];
    let told = || {
        let sent = "frame.packet_flags_direction == 2 and tcp";
        let so = "ip.dsfield.dscp == 46 and ip.ttl == 7 or ipv6.tclass.dscp == 46 and ipv6.hlim == 7";
        let counts = [format!("{sent} and ({so})"), format!("{sent} and not ({so})")];
        let counts = counts.map(|filter| packets(&path, &["-Y", &filter]));
        std::fs::remove_file(&file).expect("the capture is there");
        counts
    };
    let server = serve(&pair.right, &["echo:7"], &options);
    assert_eq!(python(&pair.left, ECHO_CLIENT, &["20", "64"]), "20 connections, 0 errors\n");
    server.end();
    let [so, otherwise] = told();
    assert!(so >= 40 && otherwise == 0, "serve: {so}, and {otherwise} otherwise");
    let server = pair.left.command("python3").args(["-c", UPPERCASE_SERVER]).stdout(Stdio::piped()).spawn();
    let mut server = Guard(server.expect("python3 starts"));
    let mut ready = [0; 6];
    server.0.stdout.as_mut().expect("is piped").read_exact(&mut ready).expect("the server says ready");
    let arguments =
        [&["connect", "10.77.0.1:5000", "--count", "20", "--send", "hello"], &OPTIONS[..], &options].concat();
    let output = run(synfin(&pair.right).args(arguments));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let [so, otherwise] = told();
    assert!(so >= 40 && otherwise == 0, "connect: {so}, and {otherwise} otherwise");
}

/// How many packets of a capture tshark shows.
fn packets(capture: &str, arguments: &[&str]) -> usize {
    let output = run(Command::new("tshark").args(["-r", capture]).args(arguments));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().count()
}

fn kernel_keeps_its_own_address() {
    let pair = VethPair::new(1);
    let server = serve(&pair.right, &["http:80"], &[]);
    let kernel = pair.right.command("python3").args(["-c", KERNEL_SERVER]).stdout(Stdio::piped()).spawn();
    let mut kernel = Guard(kernel.expect("python3 starts"));
    let mut ready = [0; 6];
    kernel.0.stdout.as_mut().expect("is piped").read_exact(&mut ready).expect("the server says ready");
    assert_eq!(python(&pair.left, KERNEL_CLIENT, &[]), "tcp hello\necho v4\necho v6\n");
    server.end();
}

fn signals_print_and_end() {
    let pair = VethPair::new(1);
    let mut server = serve(&pair.right, &["http:80"], &["--json"]);
    server.signal("USR1");
    let line = server.line();
    assert!(line.starts_with('{') && line.contains("\"mode\":\"skb\"") && line.contains("\"LISTEN\":2"), "{line}");
    server.end();
    assert!(!program_attached(&pair.right));
}

fn control_socket() {
    let pair = VethPair::new(1);
    let path = std::env::temp_dir().join(format!("synfin-peers-{}.sock", std::process::id()));
    let path = path.to_str().unwrap();
    let server = serve(&pair.right, &["echo:7"], &["--control", path]);
    let ask = |words: &[&str]| synfin(&pair.left).args(["control", path]).args(words).output().unwrap();
    assert_eq!(python(&pair.left, ECHO_CLIENT, &["100", "64"]), "100 connections, 0 errors\n");
    let status = String::from_utf8(ask(&["status"]).stdout).unwrap();
    assert!(status.contains("\"established\":100") && status.contains("timestamp-or-sequence"), "{status}");
    let set = ask(&["set", "--time-wait", "strict", "--msl", "1"]);
    assert!(set.status.success(), "{set:?}");
    let status = String::from_utf8(ask(&["status"]).stdout).unwrap();
    assert!(status.contains("\"time_wait\":\"strict\"") && status.contains("\"msl_ms\":1000"), "{status}");
    assert_eq!(ask(&["set", "--msl", "0"]).status.code(), Some(2));
    assert!(ask(&["drain"]).status.success());
    server.ended();
    assert_eq!(ask(&["status"]).status.code(), Some(3));
}

fn half_open() {
    let pair = VethPair::new(2);
    pair.left.ip(&["addr", "add", "10.77.0.21/24", "dev", INTERFACE]);
    let path = std::env::temp_dir().join(format!("synfin-peers-half-open-{}.sock", std::process::id()));
    let path = path.to_str().unwrap();
    let server = serve(&pair.right, &["echo:7"], &["--control", path, "--queues", "2"]);
    let ask = |words: &[&str]| {
        let output = run(synfin(&pair.left).args(["control", path, "half-open"]).args(words));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(python(&pair.left, ECHO_CLIENT, &["10", "64"]), "10 connections, 0 errors\n");
    assert_eq!(ask(&["--by-source"]), "Count  Source\ntotal 0, sources 0\n");
    let client = pair.left.command("python3").args(["-c", DEAF_CLIENT]).stdout(Stdio::piped()).spawn();
    let mut client = Guard(client.expect("python3 starts"));
    let mut ready = [0; 6];
    client.0.stdout.as_mut().expect("is piped").read_exact(&mut ready).expect("the client says ready");
    let comes = |met: &dyn Fn() -> bool| {
        (0..100).any(|_| {
            thread::sleep(Duration::from_millis(100));
            met()
        })
    };
    let counted = "Count  Source\n2      10.77.0.1\n1      10.77.0.21\n1      fd77::1\ntotal 4, sources 3\n";
    assert!(comes(&|| ask(&["--by-source"]) == counted), "{}", ask(&["--by-source"]));
    let table = ask(&[]);
    let row = |peer: &str| {
        let words = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        words.filter(|words| words[0] == "SYN-RECEIVED" && words[2] == peer).map(|words| words[1].to_owned()).collect()
    };
    let rows: Vec<Vec<String>> = ["10.77.0.21:4001", "[fd77::1]:4002"].into_iter().map(row).collect();
    assert_eq!(
        (rows, table.lines().count()),
        (vec![vec!["10.77.0.9:7".into()], vec!["[fd77::9]:7".into()]], 6),
        "{table}"
    );
    assert!(ask(&["--limit", "1"]).ends_with("total 4\n3 more are not shown: see --limit\n"));
    assert!(comes(&|| ask(&["--json"]).matches("\"retries\":1,").count() == 4), "{}", ask(&["--json"]));
    // Nobody is there any more: the next SYN-ACK is answered by a RST.
    client.0.kill().expect("it runs");
    assert!(comes(&|| ask(&[]).ends_with("\ntotal 0\n")), "{}", ask(&[]));
    server.end();
}

fn sigkill_leaves_nothing() {
    let pair = VethPair::new(1);
    let mut server = serve(&pair.right, &["http:80"], &[]);
    assert!(program_attached(&pair.right));
    server.signal("KILL");
    wait(&mut server.child.0);
    assert!(!program_attached(&pair.right));
}

fn bad_input() {
    let pair = VethPair::new(1);
    let refused = |exit: i32, arguments: &[&str], says: &[&str]| {
        let output = run(synfin(&pair.right).args(arguments));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {errors}");
        for word in says {
            assert!(errors.contains(word), "{arguments:?}: {word:?} is not in {errors}");
        }
        if exit == 3 {
            assert_eq!(errors.lines().count(), 1, "{errors}");
        }
    };
    let own = ["--address", "10.77.0.9/24"];
    refused(3, &[&["serve", "echo:7", "--interface", "nosuch0"], &own[..]].concat(), &["nosuch0", "os error 19"]);
    let taken = ["serve", "echo:7", "--interface", INTERFACE, "--address", "10.77.0.2/24"];
    refused(3, &taken, &["10.77.0.2", "os error 98", "ip addr del"]);
    refused(2, &[&["serve", "echo:70000", "--interface", INTERFACE], &own[..]].concat(), &["65535"]);
    refused(
        2,
        &[&["serve", "echo:7", "http:7", "--interface", INTERFACE], &own[..]].concat(),
        &["port 7 is given twice"],
    );
    let core = ["serve", "echo:7", "--interface", INTERFACE, "--cpus", "8000"];
    refused(3, &[&core[..], &own[..]].concat(), &["core 8000"]);
    let server = serve(&pair.right, &["http:80"], &[]);
    refused(3, &[&["serve", "echo:7", "--interface", INTERFACE], &own[..]].concat(), &["os error 16", INTERFACE]);
    server.end();
    let output = run(pair
        .right
        .command("setpriv")
        .args(["--reuid=65534", "--clear-groups", SYNFIN, "serve", "echo:7"])
        .args(OPTIONS));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains("CAP_NET_ADMIN") && errors.lines().count() == 1, "{errors}");
    assert!(!program_attached(&pair.right));
}

/// The first hour: a kernel peer on veth leaves checksums, and with them segments of any size, to hardware that is not there.
fn offloading_peer() {
    let pair = VethPair::new(1);
    let ethtool = |settings: &[&str]| {
        let output = run(pair.left.command("ethtool").args(["-K", INTERFACE]).args(settings));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let mut server = serve_with(&pair.right, &["discard:9"], &[], Stdio::piped());
    // A SYN by hand with the checksum that an offloading kernel leaves: the pseudo-header sum alone.
    ethtool(&["tx", "on"]);
    python(&pair.left, PARTIAL_SYN, &[]);
    ethtool(&["tx", "on", "tso", "on", "gso", "on"]);
    python(&pair.left, SUPER_FRAMES, &[]);
    thread::sleep(Duration::from_millis(300));
    let mut errors = server.child.0.stderr.take().expect("is piped");
    let state = server.end();
    let mut said = String::new();
    errors.read_to_string(&mut said).expect("output is text");
    assert!(state.contains("tcp_checksum_partial 1") && state.contains("too_long 1"), "{state}");
    assert_eq!(said.matches("ethtool -K PEER tx off tso off gso off txvlan off").count(), 3, "{said}");
    assert!(said.contains("larger than the MTU") && said.contains("larger than a UMEM frame"), "{said}");
}

fn two_queues() {
    let pair = VethPair::new(2);
    let server = serve(&pair.right, &["echo:7"], &["--queues", "2", "--mode", "drv", "--json"]);
    assert_eq!(python(&pair.left, ECHO_CLIENT, &["1000", "64"]), "1000 connections, 0 errors\n");
    let state = server.end();
    let accepted: Vec<u64> = state
        .match_indices("\"opens_passive\":")
        .map(|(at, key)| state[at + key.len()..].chars().take_while(char::is_ascii_digit).collect::<String>())
        .map(|digits| digits.parse().expect("a count"))
        .collect();
    assert!(accepted.len() >= 2 && accepted[..2].iter().all(|count| *count > 0), "both shards serve: {state}");
    assert_eq!(accepted[..2].iter().sum::<u64>(), 1000, "{state}");
}

fn queues_left_over() {
    let pair = VethPair::new(2);
    let arguments = [&["serve", "echo:7", "--queues", "1"], &OPTIONS[..]].concat();
    let output = run(synfin(&pair.right).args(arguments));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), errors.lines().count()), (Some(3), 1), "{errors}");
    assert!(errors.contains("--queues 2") && errors.contains("ethtool -L veth0 combined 1"), "{errors}");
}

fn queues_too_few() {
    let pair = VethPair::new(1);
    let arguments = [&["serve", "echo:7", "--queues", "2", "--share-cores", "--idle", "sleep"], &OPTIONS[..]].concat();
    let output = run(synfin(&pair.right).args(arguments));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), errors.lines().count()), (Some(3), 1), "{errors}");
    assert!(errors.contains("2 receive queues are needed") && errors.contains("it has 1; give --queues 1"), "{errors}");
}

/// Starts services and waits until they are announced.
fn serve(netns: &Netns, services: &[&str], more: &[&str]) -> Server {
    serve_with(netns, services, more, Stdio::inherit())
}

fn serve_with(netns: &Netns, services: &[&str], more: &[&str], errors: Stdio) -> Server {
    Server::start(netns, &[&["serve"], services, &OPTIONS, more].concat(), errors)
}

fn program_attached(netns: &Netns) -> bool {
    netns.enter(|| Interface::query(INTERFACE).expect("the interface is there").attached.is_some())
}

const OPTIONS: [&str; 4] = ["--interface", INTERFACE, "--address", "10.77.0.9/24,fd77::9/64"];

/// Opens so many connections of so many bytes each, half over IPv6, and compares what comes back.
const ECHO_CLIENT: &str = r#"
import os, socket, sys, threading
count, size, workers = int(sys.argv[1]), int(sys.argv[2]), 4
errors = []
def one(number):
    family, address = ((socket.AF_INET, "10.77.0.9"), (socket.AF_INET6, "fd77::9"))[number % 2]
    text = os.urandom(size)
    with socket.socket(family) as s:
        s.settimeout(30)
        s.connect((address, 7))
        def send():
            s.sendall(text)
            s.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send) if size > 10000 else None
        sender.start() if sender else send()
        got = bytearray()
        while True:
            piece = s.recv(65536)
            if not piece:
                break
            got += piece
        if sender:
            sender.join()
        if got != text:
            raise ValueError(f"{len(got)} of {size} bytes, or others")
def work(first):
    for number in range(first, count, workers):
        try:
            one(number)
        except Exception as error:
            errors.append(f"{number}: {error}")
threads = [threading.Thread(target=work, args=(first,)) for first in range(workers)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(f"{count} connections, {len(errors)} errors")
[print(error) for error in errors[:10]]
"#;

/// Opens connections on sockets that drop whatever comes in: SYNs that are never followed by an ACK.
const DEAF_CLIENT: &str = r#"
import ctypes, socket, struct, time
drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
ends = [("10.77.0.1", 0, "10.77.0.9"), ("10.77.0.1", 0, "10.77.0.9")]
ends += [("10.77.0.21", 4001, "10.77.0.9"), ("fd77::1", 4002, "fd77::9")]
sockets = []
for source, port, target in ends:
    s = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HP", 1, ctypes.addressof(drop_all)))
    s.bind((source, port))
    s.setblocking(False)
    s.connect_ex((target, 7))
    sockets.append(s)
print("ready", flush=True)
time.sleep(60)
"#;

/// One SYN whose checksum holds only the sum of the pseudo-header.
const PARTIAL_SYN: &str = r#"
import socket, struct
source, target = socket.inet_aton("10.77.0.1"), socket.inet_aton("10.77.0.9")
words = struct.unpack("!4H", source + target)
total = sum(words) + 6 + 20
total = (total & 0xffff) + (total >> 16)
total = (total & 0xffff) + (total >> 16)
segment = struct.pack("!HHIIBBHHH", 40000, 9, 1, 0, 5 << 4, 2, 1000, total, 0)
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as s:
    s.sendto(segment, ("10.77.0.9", 0))
"#;

/// A segment larger than the MTU, as segmentation offload leaves it to the device: one of 1,700 bytes, and one that no UMEM
/// frame holds.
const SUPER_FRAMES: &str = r#"
import socket, struct, time
def mac_of(path):
    return bytes.fromhex(open(path).read().strip().replace(":", ""))
mac = mac_of("/sys/class/net/veth0/address")
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.sendto(b"x", ("10.77.0.9", 9))
neighbor = "00:00:00:00:00:00"
for _ in range(250):
    known = [line.split()[3] for line in open("/proc/net/arp") if line.startswith("10.77.0.9 ")]
    neighbor = known[0] if known else neighbor
    if neighbor != "00:00:00:00:00:00":
        break
    time.sleep(0.02)
def frame(length):
    ends = socket.inet_aton("10.77.0.1") + socket.inet_aton("10.77.0.9")
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0, 64, 6, 0) + ends
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xffff) + (total >> 16)
    header = header[:10] + struct.pack("!H", ~total & 0xffff) + header[12:]
    segment = struct.pack("!HHIIBBHHH", 40000, 9, 1, 1, 5 << 4, 16, 1000, 0, 0) + bytes(length - 40)
    offload = struct.pack("=BBHHHH", 1, 1, 54, 1000, 34, 16)
    return offload + bytes.fromhex(neighbor.replace(":", "")) + mac + b"\x08\x00" + header + segment
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
    s.setsockopt(263, 15, 1)
    s.bind(("veth0", 0x0800))
    s.send(frame(1700))
    s.send(frame(30000))
"#;

/// Answers each connection's first bytes in upper case and closes.
const UPPERCASE_SERVER: &str = r#"
import socket, socketserver, threading
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(self.request.recv(100).upper())
class V4(socketserver.ThreadingTCPServer):
    request_queue_size = 1000
    allow_reuse_address = True
class V6(V4):
    address_family = socket.AF_INET6
servers = [V4(("10.77.0.1", 5000), Handler), V6(("fd77::1", 5000), Handler)]
threads = [threading.Thread(target=server.serve_forever) for server in servers]
[thread.start() for thread in threads]
print("ready", flush=True)
[thread.join() for thread in threads]
"#;

/// The kernel's own server beside synfin, on the kernel's own address.
const KERNEL_SERVER: &str = r#"
import socket
server = socket.create_server(("10.77.0.2", 6000))
print("ready", flush=True)
peer, _ = server.accept()
peer.sendall(peer.recv(100))
peer.close()
"#;

/// Speaks TCP and ICMP echo with the kernel's own addresses.
const KERNEL_CLIENT: &str = r#"
import socket, struct
with socket.create_connection(("10.77.0.2", 6000), timeout=10) as s:
    s.sendall(b"hello")
    print("tcp", s.recv(100).decode())
text = struct.pack("!HH", 77, 1) + b"synfin"
total = sum(struct.unpack("!6H", struct.pack("!HH", 0x0800, 0) + text[:4] + text[4:8])) + struct.unpack("!H", text[8:])[0]
total = (total & 0xffff) + (total >> 16)
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
    s.settimeout(10)
    s.sendto(struct.pack("!BBH", 8, 0, ~total & 0xffff) + text, ("10.77.0.2", 0))
    while True:
        packet, peer = s.recvfrom(200)
        if packet[20] == 0 and packet[24:] == text:
            print("echo v4")
            break
with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as s:
    s.settimeout(10)
    s.sendto(struct.pack("!BBH", 128, 0, 0) + text, ("fd77::2", 0))
    while True:
        packet, peer = s.recvfrom(200)
        if packet[0] == 129 and packet[4:] == text:
            print("echo v6")
            break
"#;
