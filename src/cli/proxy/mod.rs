//! `synfin proxy`: an L4 proxy. What runs on the shards is `application.rs`; `examples/l4_proxy.rs` is the same without settings.

mod access_log;
mod application;
mod backends;
mod checks;
mod config;
mod document;
mod health;
mod notes;
mod pairs;
mod places;
mod proxy_protocol;
mod stack_keys;
mod termination;

#[cfg(test)]
mod config_tests;
#[cfg(test)]
mod tests;

use super::arguments::{PassiveOpens, Proxy as Arguments};
use super::output::{self, say};
use super::session::{self, Session};
use super::{Exit, Failure};
use crate::limits::Limits;
use crate::stack::SharedPorts;
use access_log::Log;
use application::Proxy;
use backends::Shared;
use config::Config;
use notes::Notes;
use serde_json::json;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    proxy(arguments).map_err(in_words_of_the_file)
}

/// What is told of the options of a stack, or of its limits, by the keys that set them here.
pub(super) fn in_words_of_the_file(failure: Failure) -> Failure {
    Failure { message: stack_keys::in_keys(&failure.message), ..failure }.naming(&LIMITS)
}

fn proxy(arguments: &Arguments) -> Result<(), Failure> {
    let config = load(&arguments.config)?;
    if arguments.check {
        say(&format!("ok\n{config}"));
        return Ok(());
    }
    let shards = session::shards(&config.stack)? as usize;
    config.check_time_wait_places(config.stack.time_wait, config.stack.time_wait_full, shards as u32).map_err(
        |problem| {
            let message = format!("--config {}: {problem}; nothing was started", arguments.config.display());
            Failure::new(Exit::Usage, message)
        },
    )?;
    let pairs = config.access_log.as_ref().map_or(0, |_| config.connections_max.div_ceil(shards as u32));
    let notes: Vec<Notes> = (0..shards).map(|_| Notes::new(pairs)).collect();
    let log = Log::open(&config, notes.clone())?;
    let config = Arc::new(config);
    let shared = Arc::new(Shared::new(&config));
    let (made_from, limits) = (Arc::clone(&config), limits(&config, shards as u32));
    let make = move |shard: usize| Proxy::new(&made_from, &shared, &notes[shard], shard, shards);
    let listen = config.listeners.iter().map(|listener| listener.address.port()).collect();
    let ports = SharedPorts { listen, opens: true };
    let mut session = Session::start_within(&config.stack, PassiveOpens::default(), ports, limits, make)?;
    let promised = Arc::clone(&config);
    session.check_policies(move |policies| {
        promised.check_time_wait_places(policies.time_wait, policies.time_wait_full, shards as u32).map_err(|problem| {
            format!("{problem}; connections_max and stack.time_wait_max are read at the start only, and no policy was changed")
        })
    });
    let log = log.write_from(session.now())?;
    announce(&config, &session.mode());
    session.wait(None, || {});
    output::hurry();
    let ended = session.end(config.drain_timeout);
    let lost = log.finish();
    if lost > 0 {
        eprintln!("access log: {lost} lines were lost: the log was slower than the connections");
    }
    let left: usize = ended?.iter().map(Proxy::pairs_live).sum();
    if left > 0 {
        eprintln!("{left} client connections were left without a word, and a line, at the end of the drain");
    }
    Ok(())
}

/// Reads the file; prints every problem with its line if there is any.
fn load(path: &Path) -> Result<Config, Failure> {
    let name = path.display();
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Err(error) => {
            let what = match error.kind() {
                ErrorKind::PermissionDenied => "let this user read it, or name another file",
                _ => "name a file of text",
            };
            return Err(Failure::new(Exit::Usage, format!("--config {name}: {error}; {what}")));
        }
        Ok(bytes) if bytes as u64 > CONFIG_BYTES_MAX => {
            let message = format!("--config {name}: more than {CONFIG_BYTES_MAX} bytes are no configuration");
            return Err(Failure::new(Exit::Usage, message));
        }
        Ok(_) => {}
    }
    Config::parse(&text).map_err(|problems| {
        for problem in &problems {
            eprintln!("{name}:{}: {}", problem.line, problem.message);
        }
        let count = problems.len();
        let problems = if count == 1 { "problem" } else { "problems" };
        Failure::new(Exit::Usage, format!("--config {name}: {count} {problems}, see above; nothing was started"))
    })
}

/// What a shard needs beyond the defaults: two connections for each client, one for each check, and those that have not come
/// that far; room for bytes of them all.
fn limits(config: &Config, shards: u32) -> impl FnOnce(&mut Limits) {
    let pairs = config.connections_max.div_ceil(shards);
    let backends = config.listeners.iter().map(|listener| listener.backends.len() as u32).sum::<u32>();
    let accepting = Limits::default().accept_max;
    let chunks = config.chunks_max().div_ceil(shards);
    move |limits| {
        limits.chunks_max = limits.chunks_max.max(chunks);
        limits.tcbs_max = limits.tcbs_max.max(2 * pairs + 2 * backends + accepting + limits.half_open_max);
        limits.splices_max = limits.splices_max.max(pairs + accepting);
    }
}

fn announce(config: &Config, mode: &str) {
    let (interface, json) = (config.stack.interfaces.names().join(","), config.stack.json);
    let names: Vec<String> =
        config.listeners.iter().map(|listener| format!("{}={}", listener.name, listener.address)).collect();
    if json {
        say(&json!({"proxying": names, "interface": interface, "mode": mode}).to_string());
    } else {
        say(&format!("proxying {} on {interface}, mode {mode}", names.join(" ")));
    }
}

/// What sets the limits of a shard.
const LIMITS: [(&str, &str); 4] = [
    ("time_wait_max", "stack.time_wait_max, divided among the shards"),
    ("tcbs_max", "the default or, if that is more, what connections_max needs, divided among the shards"),
    ("splices_max", "the default or, if that is more, what connections_max needs, divided among the shards"),
    ("chunks_max", "the default or, if that is more, what connections_max needs, divided among the shards"),
];

/// Largest configuration, bytes. Origin: a hundred thousand backends fit. Larger is taken for another file.
const CONFIG_BYTES_MAX: u64 = 16 * 1024 * 1024;
