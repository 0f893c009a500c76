//! Role processes: started in a namespace, heard line by line, and never left behind.

use super::live::Live;
use crate::failure::Failure;
use crate::lines::{Final, Line, Ready};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A running role. Dropping it kills it.
pub(crate) struct Role {
    name: String,
    child: Child,
    /// Closing it asks the role to stop.
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
    complaints: Receiver<String>,
}

impl Role {
    /// Starts subcommand `name` of this very program in a namespace.
    pub(crate) fn spawn(namespace: &str, name: &str, args: &[String]) -> Result<Role, Failure> {
        let program = std::env::current_exe();
        let program = program.map_err(|error| Failure::failed(format!("cannot find this program: {error}")))?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(program).arg(name).args(args);
        // A ^C is this program's to answer: it asks the role to stop.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn();
        let mut child =
            child.map_err(|error| Failure::environment(format!("cannot run ip: {error}; install iproute2")))?;
        let stdin = child.stdin.take();
        let lines = follow(child.stdout.take(), |text| serde_json::from_str(&text).ok());
        let complaints = follow(child.stderr.take(), Some);
        Ok(Role { name: name.to_string(), child, stdin, lines, complaints })
    }

    /// Waits until the role is set up.
    pub(crate) fn wait_ready(&mut self, live: &mut Live) -> Result<Ready, Failure> {
        self.wait_ready_within(SET_UP, live)
    }

    /// The same with `more` time beyond what set-up takes by itself.
    pub(crate) fn wait_ready_after(&mut self, more: Duration, live: &mut Live) -> Result<Ready, Failure> {
        self.wait_ready_within(SET_UP + more, live)
    }

    fn wait_ready_within(&mut self, limit: Duration, live: &mut Live) -> Result<Ready, Failure> {
        match self.wait_for(limit, live, |line| matches!(line, Line::Ready(_)))? {
            Line::Ready(ready) => Ok(ready),
            _ => Err(self.broken("said nothing about being ready")),
        }
    }

    /// Waits for the result; on the way its seconds go to the live line.
    pub(crate) fn wait_final(&mut self, limit: Duration, live: &mut Live) -> Result<Final, Failure> {
        match self.wait_for(limit, live, |line| matches!(line, Line::Final(_)))? {
            Line::Final(result) => Ok(*result),
            _ => Err(self.broken("gave no result")),
        }
    }

    /// Asks the role to stop and waits for its result.
    pub(crate) fn stop(mut self, live: &mut Live) -> Result<Final, Failure> {
        self.stdin = None;
        self.wait_final(Duration::from_secs(10), live)
    }

    /// Hears the role until the user interrupts, then asks it to stop and waits for its result.
    pub(crate) fn wait_until_interrupted(mut self, live: &mut Live) -> Result<Final, Failure> {
        while live.check().is_ok() {
            match self.lines.recv_timeout(TICK) {
                Ok(Line::Second(second)) => live.second(&second),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            }
        }
        live.go_on();
        self.stop(live)
    }

    fn wait_for(&mut self, limit: Duration, live: &mut Live, wanted: impl Fn(&Line) -> bool) -> Result<Line, Failure> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            live.check()?;
            match self.lines.recv_timeout(TICK) {
                Ok(line) if wanted(&line) => return Ok(line),
                Ok(Line::Second(second)) => live.second(&second),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            }
        }
        Err(self.broken(&format!("did not answer within {} s", limit.as_secs())))
    }

    /// The role has closed its output: what it said, and the exit code that it gave.
    fn ended(&mut self) -> Failure {
        let status = self.child.wait();
        let exit = status.as_ref().ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
        let said = self.complaints.iter().last();
        let said = said.unwrap_or_else(|| status.map_or_else(|error| error.to_string(), |status| status.to_string()));
        let said = said.trim_start_matches("synfin-bench: ");
        Failure { exit: exit.filter(|code| *code != 0).unwrap_or(1), message: format!("{}: {said}", self.name) }
    }

    fn broken(&self, what: &str) -> Failure {
        let said = self.complaints.try_iter().last().map(|said| format!(" ({said})")).unwrap_or_default();
        Failure::failed(format!("{} {what}{said}; run again, and with --keep to look into the namespaces", self.name))
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.stdin = None;
        let until = Instant::now() + GRACE;
        while Instant::now() < until {
            if let Ok(Some(_)) | Err(_) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(GRACE / 20);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads lines on a thread of their own until the end of the stream; the thread ends with the role.
fn follow<T: Send + 'static>(
    stream: Option<impl std::io::Read + Send + 'static>,
    parse: impl Fn(String) -> Option<T> + Send + 'static,
) -> Receiver<T> {
    let (sender, receiver) = channel();
    if let Some(stream) = stream {
        std::thread::spawn(move || {
            for item in BufReader::new(stream).lines().map_while(Result::ok).filter_map(parse) {
                if sender.send(item).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// How long a role may take to be set up.
const SET_UP: Duration = Duration::from_secs(10);
/// How often the clock and the signals are looked at while a role is silent.
const TICK: Duration = Duration::from_millis(50);
/// How long a role may take to end by itself once its input is closed.
const GRACE: Duration = Duration::from_millis(400);
