//! The answering side of the control socket.

use super::Request;
use crate::cli::{Exit, Failure};
use crate::observe::{half_open, print};
use crate::shard::Policies;
use crate::stack::HalfOpenReport;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is controlled.
pub(in crate::cli) trait Subject {
    /// The state of every shard.
    fn status(&self) -> Value;
    /// The half-open connections of every shard.
    fn half_open(&self) -> HalfOpenReport;
    /// The policies in force.
    fn policies(&self) -> Policies;
    /// Puts others into force, or says why not.
    fn set_policies(&self, policies: &Policies) -> Result<(), String>;
    /// Lets the stack end.
    fn drain(&self);
}

/// The socket and who has connected to it. Dropped, it removes the socket's file.
#[derive(Debug)]
pub(in crate::cli) struct Control {
    path: PathBuf,
    listener: UnixListener,
    clients: Vec<Client>,
}

impl Control {
    /// Makes the socket, for this user alone. A file that a dead process has left is replaced, one that answers is not.
    pub(in crate::cli) fn bind(path: &Path) -> Result<Control, Failure> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Failure::new(Exit::Environment, format!("control socket {}: {what}: {error}", path.display()))
        };
        if UnixStream::connect(path).is_ok() {
            return Err(failed(
                "another process serves it",
                &"choose another path with --control, or end that process",
            ));
        }
        let there = std::fs::symlink_metadata(path);
        if there.as_ref().is_ok_and(std::fs::Metadata::is_dir) {
            return Err(failed("it is a directory", &"give the path of a file in it that is not there yet"));
        }
        if there.is_ok_and(|file| !is_socket(&file)) {
            return Err(failed("there is a file that is no socket", &"choose another path, or remove it"));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed("cannot replace the old one", &error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(path)
            .map_err(|error| failed("cannot be made; its directory must exist and be writable", &error))?;
        let control = Control { path: path.to_owned(), listener, clients: Vec::with_capacity(CLIENTS_MAX) };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| control.listener.set_nonblocking(true))
            .map_err(|error| failed("cannot be set up", &error))?;
        Ok(control)
    }

    /// Takes new clients, reads what has come, answers what is whole. Never blocks.
    pub(in crate::cli) fn serve(&mut self, subject: &impl Subject) {
        while self.clients.len() < CLIENTS_MAX
            && let Ok((stream, _)) = self.listener.accept()
        {
            if stream.set_nonblocking(true).is_ok() {
                let (request, answer) = (Vec::new(), Vec::new());
                self.clients.push(Client { stream, since: Instant::now(), request, answer });
            }
        }
        self.clients.retain_mut(|client| !client.is_over(subject));
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Who removed it before has done what is wanted.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Somebody who has connected: first the request grows, then the answer shrinks.
#[derive(Debug)]
struct Client {
    stream: UnixStream,
    since: Instant,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    /// Reads, answers, writes as far as that goes now; returns whether the client has got all or had its time.
    fn is_over(&mut self, subject: &impl Subject) -> bool {
        if self.answer.is_empty() {
            match self.read() {
                Reading::More if self.since.elapsed() < CLIENT_TIME => return false,
                Reading::More => self.answer(&error(format!("no whole line within {CLIENT_TIME:?}"))),
                Reading::Whole => self.answer(&answer(&self.request, subject)),
                Reading::Cut => {
                    self.answer(&error("the request stops before the end of line: nothing was done".into()))
                }
                Reading::TooLong => {
                    self.discard();
                    self.answer(&error(format!("a request has at most {REQUEST_MAX} bytes")));
                }
                Reading::Gone => return true,
            }
        }
        loop {
            match self.stream.write(&self.answer) {
                Ok(written) if written > 0 => drop(self.answer.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.since.elapsed() >= CLIENT_TIME,
                _ => return true,
            }
            if self.answer.is_empty() {
                return true;
            }
        }
    }

    fn read(&mut self) -> Reading {
        let mut bytes = [0; REQUEST_MAX + 1];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) if self.request.is_empty() => return Reading::Gone,
                Ok(0) => return Reading::Cut,
                Ok(read) => self.request.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Reading::More,
                Err(_) => return Reading::Gone,
            }
            match self.request.iter().position(|byte| *byte == b'\n') {
                Some(end) if end <= REQUEST_MAX => return Reading::Whole,
                None if self.request.len() <= REQUEST_MAX => {}
                _ => return Reading::TooLong,
            }
        }
    }

    /// Takes what is left of a long request, within reason: closing a stream with unread bytes would take the answer away.
    fn discard(&mut self) {
        let mut bytes = [0; REQUEST_MAX];
        let _ = (0..DISCARDS_MAX).find(|_| !matches!(self.stream.read(&mut bytes), Ok(read) if read > 0));
    }

    fn answer(&mut self, answer: &Value) {
        self.answer = format!("{answer}\n").into_bytes();
    }
}

/// How far a request has come.
enum Reading {
    More,
    Whole,
    /// Its sender has closed, or died, in the middle of it: half a number is a number, too.
    Cut,
    TooLong,
    Gone,
}

/// The answer to the first line of `request`.
fn answer(request: &[u8], subject: &impl Subject) -> Value {
    let line = request.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let request = match std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned()).and_then(Request::of) {
        Ok(request) => request,
        Err(wrong) => return error(wrong),
    };
    match request {
        Request::Status => subject.status(),
        Request::HalfOpen(wanted) => {
            let (report, limit) = (subject.half_open(), wanted.limit as usize);
            if wanted.by_source { half_open::by_source(&report, limit) } else { half_open::list(&report, limit) }
        }
        Request::Policies => print::policies(&subject.policies()),
        Request::Set(change) => {
            let policies = change.of(&subject.policies());
            match subject.set_policies(&policies) {
                Ok(()) => print::policies(&policies),
                Err(wrong) => error(wrong),
            }
        }
        Request::Drain => {
            subject.drain();
            json!({"draining": true})
        }
    }
}

fn error(message: String) -> Value {
    json!({ "error": message })
}

fn is_socket(file: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    file.file_type().is_socket()
}

/// Bytes of a request without the end of its line. Origin: several times the longest that means something.
pub(super) const REQUEST_MAX: usize = 1024;

/// Reads that a long request gets. Origin: more than the socket's buffer holds.
const DISCARDS_MAX: usize = 1024;

/// Clients at a time; further ones wait in the kernel's queue. Origin: a few people and a monitor.
pub(super) const CLIENTS_MAX: usize = 16;

/// How long a client may take for its line, or to read the answer.
pub(super) const CLIENT_TIME: Duration = Duration::from_secs(2);
