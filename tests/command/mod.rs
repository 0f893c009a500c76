//! The `synfin` command and its peers as processes: started in namespaces, waited for, ended with their test.

use crate::common::Netns;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A `synfin` that runs in a namespace, ended with the test whatever happens.
pub(crate) struct Server {
    pub(crate) child: Guard,
}

impl Server {
    /// Starts it and waits until it says what it does.
    pub(crate) fn start(netns: &Netns, arguments: &[&str], errors: Stdio) -> Server {
        let mut command = synfin(netns);
        let child = command.args(arguments).stdout(Stdio::piped()).stderr(errors).spawn().expect("synfin starts");
        let mut server = Server { child: Guard(child) };
        let line = server.line();
        assert!(["serving ", "proxying ", "{\"addresses\""].iter().any(|start| line.starts_with(start)), "{line}");
        server
    }

    /// The next line of its output.
    pub(crate) fn line(&mut self) -> String {
        let output = self.child.0.stdout.as_mut().expect("is piped");
        let mut line = Vec::new();
        let mut byte = [0];
        while output.read(&mut byte).expect("output is readable") == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        // `ip netns exec` replaces itself by the command, so this is the command's own number.
        let output = run(Command::new("kill").args([format!("-{name}"), self.child.0.id().to_string()]));
        assert!(output.status.success());
    }

    /// Ends it in order; returns the state that it prints.
    pub(crate) fn end(self) -> String {
        self.signal("TERM");
        self.ended()
    }

    /// Waits for the end that something else asked for; returns the state that it prints.
    pub(crate) fn ended(mut self) -> String {
        let mut state = String::new();
        self.child.0.stdout.as_mut().expect("is piped").read_to_string(&mut state).expect("output is text");
        assert_eq!(wait(&mut self.child.0).code(), Some(0), "{state}");
        state
    }
}

/// A child that does not outlive its test.
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It has usually ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The command, in a namespace.
pub(crate) fn synfin(netns: &Netns) -> Command {
    netns.command(SYNFIN)
}

/// Runs a Python program to its end; returns its output.
pub(crate) fn python(netns: &Netns, program: &str, arguments: &[&str]) -> String {
    let output = run(netns.command("python3").args(["-c", program]).args(arguments));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a command to its end; panics when it takes too long.
pub(crate) fn run(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = Guard(child.unwrap_or_else(|error| panic!("cannot run {command:?}: {error}")));
    let read = |stream: Option<Box<dyn Read + Send>>| {
        let mut stream = stream.expect("is piped");
        thread::spawn(move || {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).map(|_| bytes).unwrap_or_default()
        })
    };
    let stdout = read(child.0.stdout.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    let stderr = read(child.0.stderr.take().map(|stream| Box::new(stream) as Box<dyn Read + Send>));
    let status = wait(&mut child.0);
    let joined = |thread: thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    Output { status, stdout: joined(stdout), stderr: joined(stderr) }
}

/// Waits for a child; panics when it takes too long.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return status;
        }
        assert!(Instant::now() < deadline, "still running after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The command that is tested.
pub(crate) const SYNFIN: &str = env!("CARGO_BIN_EXE_synfin");

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(120);
