//! The asking side of the control socket.

use super::Request;
use crate::cli::output::say;
use crate::cli::{Exit, Failure};
use crate::observe::half_open;
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Sends `request`, prints the answer.
pub(in crate::cli) fn ask(path: &Path, request: &Request) -> Result<(), Failure> {
    let answer = exchange(path, request).map_err(|error| {
        let what = match error.kind() {
            ErrorKind::PermissionDenied => "it is for the user alone that runs the stack",
            _ => "is the stack running with --control, a proxy with stack.control?",
        };
        let message = format!("control socket {}: {error}; {what}", path.display());
        Failure::new(Exit::Environment, message)
    })?;
    let value: Value = serde_json::from_str(&answer).map_err(|error| {
        Failure::new(Exit::Failed, format!("control socket {}: no answer as synfin gives: {error}", path.display()))
    })?;
    match value.get("error").and_then(Value::as_str) {
        Some(error) => Err(Failure::new(Exit::Failed, error)),
        None => {
            match request {
                Request::HalfOpen(wanted) if !wanted.json => say(half_open::text(&value).trim_end()),
                _ => say(answer.trim_end()),
            }
            Ok(())
        }
    }
}

fn exchange(path: &Path, request: &Request) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    stream.write_all(format!("{}\n", request.line()).as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

/// How long an answer may take. Origin: the server looks every 20 ms and waits at most a quarter of a second for a shard.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Bytes of an answer. Origin: a shard's status has about 6 kB; 256 shards.
const ANSWER_MAX: u64 = 16 << 20;
