//! The `synfin` command as the privileged tests run it.

use crate::common::{INTERFACE, Netns};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

/// `synfin serve echo:7`, ended with the test whatever happens.
pub(crate) struct Server {
    pub(crate) child: Guard,
    output: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start(netns: &Netns, address: &str, more: &[&str]) -> Server {
        Server::run(synfin(&mut netns.command(SYNFIN), "serve", "echo:7", address).args(more), "{\"addresses\"")
    }

    /// Another `synfin` that runs until it is ended; its first line begins with `says`.
    pub(crate) fn run(command: &mut Command, says: &str) -> Server {
        let mut child = Guard(spawn(command));
        let (line, output) = first_line(&mut child.0);
        assert!(line.starts_with(says), "{line}");
        Server { child, output }
    }

    /// Ends it in order; returns the state that it prints.
    pub(crate) fn end(mut self) -> String {
        let pid = self.child.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().is_ok_and(|status| status.success()));
        let mut state = String::new();
        self.output.read_to_string(&mut state).expect("output is text");
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

/// Adds the arguments that all have.
pub(crate) fn synfin<'a>(program: &'a mut Command, command: &str, what: &str, address: &str) -> &'a mut Command {
    let options = ["--interface", INTERFACE, "--address", address, "--mode", "drv", "--json"];
    program.args([command, what]).args(options)
}

pub(crate) fn spawn(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).spawn().expect("the command starts")
}

pub(crate) fn first_line(child: &mut Child) -> (String, BufReader<ChildStdout>) {
    let mut output = BufReader::new(child.stdout.take().expect("is piped"));
    let mut line = String::new();
    output.read_line(&mut line).expect("output is text");
    (line, output)
}

pub(crate) fn finish(command: &mut Command) -> Output {
    let output = command.output().expect("the command runs");
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{command:?}: {}{}", said[0], said[1]);
    output
}

/// What each shard of a report counted under `name`.
pub(crate) fn counts(report: &str, name: &str) -> Vec<u64> {
    let key = format!("\"{name}\":");
    let digits = report
        .match_indices(&key)
        .map(|(at, key)| report[at + key.len()..].chars().take_while(char::is_ascii_digit).collect::<String>());
    digits.map(|digits| digits.parse().expect("a count")).collect()
}

pub(crate) const SYNFIN: &str = env!("CARGO_BIN_EXE_synfin");
