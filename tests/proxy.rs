//! `synfin proxy` between kernel clients and real servers: nginx, ab, curl, Python. Clients and backends are in one namespace,
//! the proxy in the other. Needs root.

mod command;
mod common;
#[path = "proxy/programs.rs"]
mod programs;

use command::{Guard, Server, python, run, synfin};
use common::{INTERFACE, Netns, VethPair, privileged_trial};
use programs::*;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};
use synfin::link::xdp::Interface;

fn main() {
    let trials = vec![
        privileged_trial("hundred_thousand_requests_to_nginx_without_an_error", hundred_thousand_requests),
        privileged_trial("nginx_logs_the_client_of_the_proxy_header", nginx_sees_the_client),
        privileged_trial("backend_that_dies_ends_its_connections_and_comes_back", backend_dies),
        privileged_trial("refused_try_goes_to_another_backend", redispatch),
        privileged_trial("no_backend_ends_the_client_after_all_tries", no_backend),
        privileged_trial("half_close_goes_through_in_both_orders", half_close),
        privileged_trial("rst_goes_through_in_both_directions", resets),
        privileged_trial("idle_connections_end_with_the_side_that_was_silent", idle),
        privileged_trial("least_connections_prefers_the_idle_backend", least_connections),
        privileged_trial("sigterm_lets_connections_finish_and_resets_the_rest", drain),
        privileged_trial("slow_reader_slows_the_sender_through_the_proxy", slow_reader),
        privileged_trial("two_shards_agree_on_health", two_shards),
        privileged_trial("example_l4_proxy_carries_every_byte", example),
        privileged_trial("control_socket_refuses_a_policy_that_the_start_would_refuse", refused_policy),
        privileged_trial("wrong_configuration_is_told_whole_and_starts_nothing", wrong_configuration),
    ];
    common::run(trials).exit();
}

/// 25,000 by ab on a connection each, 25,000 by ab kept alive, and as many of either kind by Python, which compares each body.
fn hundred_thousand_requests() {
    let pair = VethPair::new(1);
    let files = Files::new();
    let nginx = nginx(&pair.left, &files, "listen 10.77.0.1:8080");
    let proxy = Proxy::start(&pair.right, &files, &web(&[("one", 8080)], ""));
    for more in [&["-n", "25000", "-c", "64"][..], &["-k", "-n", "25000", "-c", "64"]] {
        let output = run(pair.left.command("ab").arg("-q").args(more).arg("http://10.77.0.9/small"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let holds = |line: &str| text.lines().any(|one| one.split_whitespace().collect::<Vec<_>>().join(" ") == line);
        assert!(
            holds("Complete requests: 25000") && holds("Failed requests: 0") && !text.contains("Non-2xx"),
            "{text}"
        );
    }
    let bodies = files.path("small").to_string_lossy().into_owned();
    assert_eq!(
        python(&pair.left, HTTP_CLIENT, &["25000", "25000", "/small", &bodies]),
        "50000 bodies alike, 0 errors\n"
    );
    let bodies = files.path("large").to_string_lossy().into_owned();
    assert_eq!(python(&pair.left, HTTP_CLIENT, &["50", "50", "/large", &bodies]), "100 bodies alike, 0 errors\n");
    let curl = run(pair.left.command("curl").args(["-sS", "--max-time", "20", "http://10.77.0.9/large"]));
    assert!(curl.stdout == fs::read(files.path("large")).expect("the file is there"), "curl got another body");
    let log = proxy.end();
    let normal = log.iter().filter(|line| line.contains(" -- ")).count();
    assert!(
        normal == log.len() && normal > 50_050,
        "{normal} of {}: {:?}",
        log.len(),
        log.iter().find(|line| !line.contains(" -- "))
    );
    drop(nginx);
}

fn nginx_sees_the_client() {
    let pair = VethPair::new(1);
    let files = Files::new();
    let nginx = nginx(&pair.left, &files, "listen 10.77.0.1:8080 proxy_protocol");
    let listeners = ["v1", "v2"].map(|version| {
        let port = if version == "v1" { 81 } else { 82 };
        format!(
            "[[listeners]]\nname = \"{version}\"\naddress = \"0.0.0.0:{port}\"\nproxy_protocol = \"{version}\"\n\
             backends = [{{ address = \"10.77.0.1:8080\" }}]\nhealth_check = {{ interval = \"100ms\" }}\n\
             [[listeners]]\nname = \"{version}-6\"\naddress = \"[::]:{port}\"\nproxy_protocol = \"{version}\"\n\
             backends = [{{ address = \"10.77.0.1:8080\" }}]\n"
        )
    });
    let proxy = Proxy::start(&pair.right, &files, &listeners.concat());
    for (url, local) in [
        ("http://10.77.0.9:81/small", "50001"),
        ("http://[fd77::9]:81/small", "50002"),
        ("http://10.77.0.9:82/small", "50003"),
        ("http://[fd77::9]:82/small", "50004"),
    ] {
        let curl = run(pair.left.command("curl").args(["-sS", "--max-time", "10", "--local-port", local, url]));
        let body = fs::read(files.path("small")).expect("the file is there");
        assert!(curl.stdout == body, "{url}: {}", String::from_utf8_lossy(&curl.stderr));
    }
    // The checks go on meanwhile and are no broken headers.
    thread::sleep(Duration::from_millis(300));
    proxy.end();
    drop(nginx);
    let seen = fs::read_to_string(files.path("nginx.log")).expect("nginx writes a log");
    let expected = ["10.77.0.1 50001 200", "fd77::1 50002 200", "10.77.0.1 50003 200", "fd77::1 50004 200"];
    assert_eq!(seen.lines().collect::<Vec<_>>(), expected);
    let errors = fs::read_to_string(files.path("nginx.err")).unwrap_or_default();
    assert!(!errors.contains("broken header"), "{errors}");
}

fn backend_dies() {
    let pair = VethPair::new(1);
    let files = Files::new();
    let check = "health_check = { interval = \"100ms\", timeout = \"2s\", rise = 2, fall = 2 }";
    let (proxy, errors) = Proxy::start_with_errors(&pair.right, &files, &web(&[("one", 8001), ("two", 8002)], check));
    let output = play(&pair.left, BACKEND_DIES, &[]);
    assert_eq!(output, "5 reset, 5 went on\n20 to the other\nboth again\n");
    let log = proxy.end();
    let ended = |letters: &str, name: &str| {
        log.iter()
            .filter(|line| line.contains(&format!(" {letters} ")) && line.contains(&format!(" web/{name} ")))
            .count()
    };
    assert_eq!((ended("SD", "one"), ended("SD", "two")), (5, 0), "{log:#?}");
    // Refused may only have been who came before the checks knew of a backend: the program counts the others.
    assert!(log.iter().all(|line| [" -- ", " SD ", " SC "].iter().any(|how| line.contains(how))), "{log:#?}");
    let errors = fs::read_to_string(errors).expect("errors are kept");
    assert!(errors.contains("backend is down") && errors.contains("backend is up"), "{errors}");
}

fn redispatch() {
    let pair = VethPair::new(1);
    let files = Files::new();
    let proxy = Proxy::start(&pair.right, &files, &web(&[("nobody", 8001), ("two", 8002)], ""));
    assert_eq!(play(&pair.left, ECHO_BEHIND, &["8002", "10", "at once"]), "10 echoed, 0 errors\n");
    let log = proxy.end();
    let again = log.iter().filter(|line| line.contains(" web/two ") && line.ends_with("/+1 0/0")).count();
    // The other has been chosen out of turn, so the next turn is that of the first again.
    assert_eq!((again, log.len()), (10, 10), "{log:#?}");
}

fn no_backend() {
    let pair = VethPair::new(1);
    let files = Files::new();
    let silent = "connect_timeout = \"300ms\"\nretries = 1";
    let listeners = [
        web(&[("refuses", 8001)], "retries = 1"),
        // An address that nobody has, and a backend that ignores SYNs.
        named("absent", 81, &[("absent", "10.77.0.77:80")], silent),
        named("silent", 82, &[("silent", "10.77.0.1:8009")], silent),
        named("down", 83, &[("down", "10.77.0.1:8001")], "health_check = { interval = \"100ms\" }"),
    ];
    let proxy = Proxy::start(&pair.right, &files, &listeners.concat());
    thread::sleep(Duration::from_millis(500));
    for port in ["80", "81", "82", "83"] {
        assert_eq!(play(&pair.left, EXPECT_RESET, &[port]), "reset\n", "port {port}");
    }
    let log = proxy.end();
    let line =
        |listener: &str| log.iter().find(|line| line.contains(&format!(" {listener} "))).expect("is logged").clone();
    assert!(line("web").contains(" 0 SC ") && line("web").ends_with("/1 0/0"), "{log:#?}");
    for late in ["absent", "silent"] {
        assert!(line(late).contains(" 0 sC ") && line(late).ends_with("/1 0/0"), "{log:#?}");
    }
    assert!(line("down").contains(" down/<NOSRV> -1/-1/0 0 SC "), "{log:#?}");
}

fn half_close() {
    let pair = VethPair::new(1);
    let files = Files::new();
    let proxy = Proxy::start(&pair.right, &files, &web(&[("one", 8001)], ""));
    let output = play(&pair.left, HALF_CLOSE, &[]);
    assert_eq!(output, "client first: request whole, answer whole\nbackend first: answer whole, request whole\n");
    let log = proxy.end();
    assert_eq!(log.iter().filter(|line| line.contains(" 300000 -- ")).count(), 2, "{log:#?}");
}

fn resets() {
    let pair = VethPair::new(1);
    let files = Files::new();
    let proxy = Proxy::start(&pair.right, &files, &web(&[("one", 8001)], ""));
    assert_eq!(play(&pair.left, RESETS, &[]), "backend heard it\nclient heard it\n");
    let log = proxy.end();
    assert_eq!(log.len(), 2, "{log:#?}");
    assert!(log[0].contains(" 5 CD ") && log[1].contains(" 5 SD "), "{log:#?}");
}

fn idle() {
    let pair = VethPair::new(1);
    let files = Files::new();
    let proxy = Proxy::start(&pair.right, &files, &web(&[("one", 8001)], "idle_timeout = \"400ms\""));
    assert_eq!(play(&pair.left, IDLE, &[]), "kept while it spoke\nreset when it was silent\nreset without a byte\n");
    let log = proxy.end();
    assert!(log.len() == 2 && log[0].contains(" sD ") && log[1].contains(" 0 cD "), "{log:#?}");
}

fn least_connections() {
    let pair = VethPair::new(1);
    let files = Files::new();
    let listener = web(&[("one", 8001), ("two", 8002)], "balance = \"least-connections\"");
    let proxy = Proxy::start(&pair.right, &files, &listener);
    assert_eq!(play(&pair.left, LEAST_CONNECTIONS, &[]), "spread 3 3\nall to the idle one\n");
    proxy.end();
}

fn drain() {
    let pair = VethPair::new(1);
    let files = Files::new();
    let mut proxy = Proxy::start(
        &pair.right,
        &files,
        &format!("{}{}", web(&[("one", 8001)], ""), named("gone", 81, &[("gone", "10.77.0.1:8002")], "")),
    );
    let pid = proxy.server.child.0.id().to_string();
    // It signals the proxy itself, when its connections are as it wants them.
    assert_eq!(play(&pair.left, DRAIN, &[&pid]), "refused\nfinished\nreset\n");
    proxy.has_signal = true;
    let log = proxy.end();
    assert_eq!(log.len(), 2, "{log:#?}");
    assert!(log[0].contains(" -- ") && log[1].contains(" KD "), "{log:#?}");
}

fn slow_reader() {
    let pair = VethPair::new(1);
    let files = Files::new();
    let proxy = Proxy::start(&pair.right, &files, &web(&[("one", 8001)], ""));
    let bytes = 64 * 1024 * 1024;
    let output = play(&pair.left, SLOW_READER, &[&bytes.to_string()]);
    let stalled: u64 =
        output.trim().strip_prefix("all there, sender stalled at ").expect(&output).parse().expect(&output);
    // What two kernels and the proxy hold, not what was to be sent.
    assert!(stalled < 16 * 1024 * 1024, "{stalled}");
    let log = proxy.end();
    assert!(log[0].contains(&format!(" {bytes} -- ")), "{log:#?}");
}

fn two_shards() {
    let pair = VethPair::new(2);
    let files = Files::new();
    let check = "health_check = { interval = \"100ms\", timeout = \"2s\" }";
    let text =
        format!("{}share_cores = true\nmode = \"drv\"\n{}", STACK, web(&[("nobody", 8001), ("two", 8002)], check));
    let proxy = Proxy::start_whole(&pair.right, &files, &text, Stdio::inherit());
    assert_eq!(play(&pair.left, ECHO_BEHIND, &["8002", "200", "settled"]), "200 echoed, 0 errors\n");
    let log = proxy.end();
    // No try was made at the backend that is down, on either shard.
    let at_once = |line: &&String| line.contains(" web/two ") && line.ends_with("/0 0/0");
    assert_eq!(log.iter().rev().take(200).filter(at_once).count(), 200, "{log:#?}");
}

fn example() {
    let pair = VethPair::new(1);
    let test = std::env::current_exe().expect("this test is a file");
    let program = test.ancestors().nth(2).expect("lies in deps").join("examples/l4_proxy");
    assert!(program.exists(), "{} is not built: run cargo build --examples", program.display());
    let arguments = [INTERFACE, "10.77.0.9/24", "80", "10.77.0.1:8001"];
    let mut command = pair.right.command(&program.to_string_lossy());
    let mut child = Guard(command.args(arguments).stdout(Stdio::piped()).spawn().expect("the example starts"));
    let mut said = [0; 8];
    child.0.stdout.as_mut().expect("is piped").read_exact(&mut said).expect("the example says what it does");
    assert_eq!(play(&pair.left, EXPECT_RESET, &["80"]), "reset\n");
    let output = play(&pair.left, HALF_CLOSE, &[]);
    assert_eq!(output, "client first: request whole, answer whole\nbackend first: answer whole, request whole\n");
    assert_eq!(play(&pair.left, RESETS, &[]), "backend heard it\nclient heard it\n");
}

/// Shows B46: there are too few places in TIME-WAIT for the clients, which matters only where opens without one are refused.
fn refused_policy() {
    let pair = VethPair::new(1);
    let files = Files::new();
    let socket = files.path("control");
    let path = socket.to_string_lossy().into_owned();
    let stack = format!("{STACK}control = \"{path}\"\ntime_wait_max = 30000\ntime_wait_full = \"evict-oldest\"\n");
    let text = format!("connections_max = 5000\n{stack}{}", web(&[("one", 8001)], ""));
    let proxy = Proxy::start_whole(&pair.right, &files, &text, Stdio::inherit());
    let ask = |request: &[&str]| {
        let output = run(synfin(&pair.right).args(["control", &path]).args(request));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, errors) = ask(&["set", "--time-wait-full", "refuse-open", "--msl", "7"]);
    let says =
        ["connections_max: ", "raise that to 30480, or lower connections_max to 4760,", "read at the start only"];
    assert!(code == Some(1) && says.iter().all(|says| errors.contains(says)), "{code:?} {errors}");
    let (_, policies, _) = ask(&["policies"]);
    assert!(policies.contains("\"evict-oldest\"") && policies.contains("\"msl_ms\":30000"), "{policies}");
    let (code, policies, errors) = ask(&["set", "--time-wait-full", "skip", "--msl", "7"]);
    assert!(code == Some(0) && policies.contains("\"skip\"") && policies.contains("7000"), "{policies} {errors}");
    proxy.end();
    // The same policy in the file.
    let file = files.path("proxy.toml");
    fs::write(&file, text.replace("evict-oldest", "refuse-open")).expect("the file can be written");
    let output = run(synfin(&pair.right).args(["proxy", "--config", &file.to_string_lossy()]));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && errors.contains("raise that to 30480"), "{errors}");
}

fn wrong_configuration() {
    let pair = VethPair::new(1);
    let files = Files::new();
    let file = files.path("proxy.toml");
    let name = file.to_string_lossy().into_owned();
    let text = format!(
        "{STACK}colour = \"blue\"\n[[listeners]]\nname = \"a\"\naddress = \"10.77.0.9:0\"\nbackends = []\n\
         [[listeners]]\nname = \"b\"\naddress = \"0.0.0.0:80\"\nbackends = [{{ address = \"here:80\" }}]\n\
         [[listeners]]\nname = \"c\"\naddress = \"10.77.0.9:80\"\nbackends = [{{ address = \"10.77.0.1:80\" }}]\n"
    );
    fs::write(&file, text).expect("the file can be written");
    for more in [&[][..], &["--check"]] {
        let output = run(synfin(&pair.right).args(["proxy", "--config", &name]).args(more));
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        let said: Vec<&str> = errors.lines().collect();
        for (line, says) in
            [(4, "unknown key \"colour\""), (5, "no backends"), (7, "port"), (12, "here:80"), (15, "overlaps")]
        {
            let start = format!("{name}:{line}: ");
            assert!(said.iter().any(|one| one.starts_with(&start) && one.contains(says)), "{line} {says}: {errors}");
        }
        assert!(
            said.len() == 6 && said[5].contains("5 problems") && said[5].contains("nothing was started"),
            "{errors}"
        );
    }
    let attached = pair.right.enter(|| Interface::query(INTERFACE).expect("the interface is there").attached.is_some());
    assert!(!attached);
    fs::write(&file, format!("{STACK}{}", web(&[("one", 8001)], ""))).expect("the file can be written");
    let output = run(synfin(&pair.right).args(["proxy", "--check", "--config", &name]));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && text.starts_with("ok\n") && text.contains("backend one at 10.77.0.1:8001"),
        "{text}"
    );
    let output = run(synfin(&pair.right).args(["proxy", "--config", "/nowhere/proxy.toml"]));
    assert_eq!(output.status.code(), Some(2));
    // What the stack says of its options is told in the words of the file.
    let text = format!("{STACK}cpus = 8191\n{}", web(&[("one", 8001)], ""));
    fs::write(&file, text).expect("the file can be written");
    let output = run(synfin(&pair.right).args(["proxy", "--config", &name]));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{errors}");
    assert!(errors.contains("choose among these with stack.cpus") && !errors.contains("--"), "{errors}");
    // Each shard has room for 4,096 that wait to be accepted.
    let text = format!("connections_max = 10000\n{STACK}time_wait_max = 40480\n{}", web(&[("one", 8001)], ""));
    let check = |text: &str| {
        fs::write(&file, text).expect("the file can be written");
        run(synfin(&pair.right).args(["proxy", "--check", "--config", &name])).status.code()
    };
    assert_eq!(check(&text), Some(0));
    assert_eq!(check(&text.replace("[stack]", "[stack]\nqueues = 2")), Some(2));
}

/// A directory of this test, removed with it.
struct Files(PathBuf);

impl Files {
    fn new() -> Files {
        let name = format!("synfin-proxy-{}-{:?}", std::process::id(), thread::current().id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a directory can be made");
        let bytes = |count: u32| (0..count).map(|number| (u64::from(number).pow(2) % 251) as u8).collect::<Vec<_>>();
        fs::write(path.join("small"), bytes(600)).expect("a file can be written");
        fs::write(path.join("large"), bytes(1_000_000)).expect("a file can be written");
        Files(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A proxy with its access log.
struct Proxy {
    server: Server,
    log: PathBuf,
    /// Somebody else has sent SIGTERM.
    has_signal: bool,
}

impl Proxy {
    fn start(netns: &Netns, files: &Files, listeners: &str) -> Proxy {
        Proxy::start_whole(netns, files, &format!("{STACK}{listeners}"), Stdio::inherit())
    }

    /// As [`Proxy::start`]; also where its errors go.
    fn start_with_errors(netns: &Netns, files: &Files, listeners: &str) -> (Proxy, PathBuf) {
        let path = files.path("errors");
        let errors = fs::File::create(&path).expect("a file can be made");
        (Proxy::start_whole(netns, files, &format!("{STACK}{listeners}"), errors.into()), path)
    }

    fn start_whole(netns: &Netns, files: &Files, text: &str, errors: Stdio) -> Proxy {
        let (config, log) = (files.path("proxy.toml"), files.path("access.log"));
        let text = format!("access_log = \"{}\"\ndrain_timeout = \"2s\"\n{text}", log.display());
        fs::write(&config, text).expect("a file can be written");
        let server = Server::start(netns, &["proxy", "--config", &config.to_string_lossy()], errors);
        Proxy { server, log, has_signal: false }
    }

    /// Ends it in order; returns the lines of its log.
    fn end(self) -> Vec<String> {
        if self.has_signal {
            self.server.ended()
        } else {
            self.server.end()
        };
        let log = fs::read_to_string(self.log).expect("the log is there");
        log.lines().map(str::to_owned).collect()
    }
}

/// A listener at port 80 with backends on ports of 10.77.0.1.
fn web(backends: &[(&str, u16)], more: &str) -> String {
    let backends: Vec<(&str, String)> =
        backends.iter().map(|(name, port)| (*name, format!("10.77.0.1:{port}"))).collect();
    let backends: Vec<(&str, &str)> = backends.iter().map(|(name, address)| (*name, address.as_str())).collect();
    named("web", 80, &backends, more)
}

fn named(name: &str, port: u16, backends: &[(&str, &str)], more: &str) -> String {
    let backends: Vec<String> = backends
        .iter()
        .map(|(name, address)| format!("[[listeners.backends]]\nname = \"{name}\"\naddress = \"{address}\"\n"))
        .collect();
    format!("[[listeners]]\nname = \"{name}\"\naddress = \"0.0.0.0:{port}\"\n{more}\n{}", backends.concat())
}

/// Runs a program of clients and backends.
fn play(netns: &Netns, program: &str, arguments: &[&str]) -> String {
    python(netns, &[PEERS, program].concat(), arguments)
}

/// nginx with the files, in the foreground of a namespace, once it listens.
fn nginx(netns: &Netns, files: &Files, listen: &str) -> Guard {
    let root = files.0.display();
    let text = format!(
        "daemon off; master_process off; user root; pid {root}/nginx.pid; error_log {root}/nginx.err;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ log_format client '$proxy_protocol_addr $proxy_protocol_port $status';\n\
         access_log {root}/nginx.log client; keepalive_requests 1000000; server {{ {listen}; root {root}; }} }}\n"
    );
    let config = files.path("nginx.conf");
    fs::write(&config, text).expect("a file can be written");
    let child = netns.command("nginx").arg("-c").arg(&config).spawn();
    let nginx = Guard(child.expect("nginx starts (package nginx-light)"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !netns.enter(|| std::net::TcpStream::connect("10.77.0.1:8080").is_ok()) {
        assert!(Instant::now() < deadline, "nginx does not listen");
        thread::sleep(Duration::from_millis(20));
    }
    // The probe is no request.
    let _ = fs::write(files.path("nginx.log"), "");
    nginx
}

const STACK: &str = "[stack]\ninterface = \"veth0\"\naddress = [\"10.77.0.9/24\", \"fd77::9/64\"]\n";
