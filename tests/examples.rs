//! Every example runs.

mod common;
#[path = "../examples/sim.rs"]
mod sim;

use common::{INTERFACE, VethPair, privileged_trial};
use libtest_mimic::{Failed, Trial};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

fn main() {
    let simulated = || sim::main().map_err(|error| Failed::from(error.to_string()));
    let trials = vec![
        Trial::test("sim_answers_every_request", simulated),
        Trial::test("echo_says_what_is_wrong_with_its_arguments", echo_says_what_is_wrong),
        privileged_trial("echo_returns_what_the_kernel_sends", echo_returns),
        privileged_trial("hyper_answers_10000_requests_of_kernel_clients_and_sleeps_when_idle", hyper_answers),
    ];
    common::run(trials).exit();
}

fn echo_says_what_is_wrong() -> Result<(), Failed> {
    for (arguments, text) in
        [(&["lo"][..], "usage: echo INTERFACE ADDRESS"), (&["lo", "nonsense"], "invalid IP address")]
    {
        let output = Command::new(example("echo")).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() || !said.starts_with("echo: ") || !said.contains(text) {
            return Err(format!("{arguments:?}: {said}").into());
        }
    }
    Ok(())
}

fn echo_returns() {
    let echo = example("echo");
    let pair = VethPair::new(1);
    let child =
        pair.right.command(&echo.to_string_lossy()).args([INTERFACE, "10.77.0.9"]).stdout(Stdio::null()).spawn();
    let _killed = Killed(child.expect("the example starts"));
    let remote = SocketAddr::new("10.77.0.9".parse().expect("an address"), 7);
    let bytes: Vec<u8> = (0..300_000u32).map(|at| (at * 7) as u8).collect();
    let received = pair.left.enter(|| {
        let mut stream = connect(remote);
        let mut writer = stream.try_clone().expect("a second handle");
        thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&bytes).and_then(|()| writer.shutdown(Shutdown::Write)).expect("is taken"));
            let mut received = Vec::new();
            stream.read_to_end(&mut received).expect("comes back");
            received
        })
    });
    assert!(received == bytes, "{} bytes came back", received.len());
}

/// hyper over the adapter: by curl, by ab with and without keep-alive; then its idle process takes next to no CPU.
fn hyper_answers() {
    let server = example("http_server");
    let pair = VethPair::new(1);
    let mut command = pair.right.command(&server.to_string_lossy());
    let child = command.args([INTERFACE, "10.77.0.9"]).stdout(Stdio::null()).spawn();
    let server = Killed(child.expect("the example starts"));
    drop(pair.left.enter(|| connect("10.77.0.9:80".parse().expect("an address"))));

    let curl = pair.left.command("curl").args(["-sS", "-m", "10", "http://10.77.0.9/by/curl"]).output();
    let curl = curl.expect("curl runs");
    assert_eq!(String::from_utf8_lossy(&curl.stdout), "hello, /by/curl\n", "{curl:?}");
    for keep_alive in [&[][..], &["-k"]] {
        let mut ab = pair.left.command("ab");
        ab.args(keep_alive).args(["-q", "-s", "10", "-n", "5000", "-c", "50", "http://10.77.0.9/by/ab"]);
        let output = ab.output().expect("ab runs (package apache2-utils)");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let counts = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
        assert_eq!((counts("Complete requests:"), counts("Failed requests:")), (Some(5000), Some(0)), "{said}");
        assert!(!said.contains("Non-2xx"), "{said}");
    }

    let ticks = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.0.id())).expect("it still runs");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<u32>().expect("a number")).sum::<u32>()
    };
    let before = ticks();
    thread::sleep(Duration::from_secs(2));
    let idle = ticks() - before;
    assert!(idle <= 20, "{idle} of 200 ticks in 2 s without a request");
}

/// A connection as soon as somebody listens, for at most 20 s.
fn connect(remote: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match TcpStream::connect_timeout(&remote, Duration::from_secs(2)) {
            Ok(stream) => {
                stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
                return stream;
            }
            Err(error) => assert!(Instant::now() < deadline, "nobody listens at {remote}: {error}"),
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The program of an example, built in the profile of this test if it is not there yet.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test is a program");
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let program = profile.join("examples").join(name);
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--quiet", "--features", "tokio", "--example", name, "--profile"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    build.arg(match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    });
    assert!(build.status().is_ok_and(|status| status.success()), "cargo build --example {name} fails");
    program
}

/// A process that ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
