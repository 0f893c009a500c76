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
    build.args(["build", "--quiet", "--example", name, "--profile"]).current_dir(env!("CARGO_MANIFEST_DIR"));
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
