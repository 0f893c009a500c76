//! The configuration file of `synfin proxy`: read whole, checked whole, all problems at once.

use super::backends::Balance;
use super::document::{Problem, Problems, Section, number, text};
use super::health::HealthCheck;
use super::proxy_protocol::ProxyProtocol;
use super::stack_keys::read_stack;
use crate::api::ConnectionOptions;
use crate::cli::arguments::Common;
use crate::cli::network::parse_addresses;
use crate::limits::{CHUNK_BYTES, DEADLINE_MAX_MS, Limits};
use crate::shard::LocalAddress;
use crate::tcp::Settings;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// What a proxy is made from.
#[derive(Debug)]
pub(super) struct Config {
    /// The stack, as the options of `synfin serve` have it.
    pub(super) stack: Common,
    /// Client connections of the whole process at a time; further ones wait in the accept queue.
    pub(super) connections_max: u32,
    /// How long connections may take to end after SIGTERM.
    pub(super) drain_timeout: Duration,
    /// Where the access log goes; `None` for nowhere.
    pub(super) access_log: Option<AccessLog>,
    /// At least one.
    pub(super) listeners: Vec<Listener>,
}

/// Where the access log goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum AccessLog {
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

/// Where clients come to, and what becomes of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) balance: Balance,
    /// For each try to connect to a backend.
    pub(super) connect_timeout: Duration,
    /// Without a byte in either direction.
    pub(super) idle_timeout: Duration,
    /// Tries after the first.
    pub(super) retries: u8,
    pub(super) proxy_protocol: ProxyProtocol,
    /// Local addresses towards backends, taken in turn; empty for the stack's own choice.
    pub(super) source_addresses: Vec<IpAddr>,
    pub(super) health_check: Option<HealthCheck>,
    /// At least one.
    pub(super) backends: Vec<Backend>,
}

/// A server behind a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) address: SocketAddr,
}

impl Config {
    /// Reads the text of a file; all that is wrong in it if anything is.
    pub(super) fn parse(text: &str) -> Result<Config, Vec<Problem>> {
        let (root, mut problems) = Problems::parse(text);
        let root = Section::new("", root.get_ref(), &root.span(), &ROOT_KEYS, &mut problems);
        let config = read(&root, &mut problems);
        match (config, problems.into_sorted()) {
            (Some(config), problems) if problems.is_empty() => Ok(config),
            (_, problems) => Err(problems),
        }
    }

    /// Chunks of the whole process for bytes on their way, half of them each way: the default of a shard, and at least
    /// one each way for each client. Origin: the least that the kernel keeps for a socket, 4 kB (`tcp_rmem`,
    /// `tcp_wmem`).
    pub(super) fn chunks_max(&self) -> u32 {
        Limits::default().chunks_max.max(self.connections_max.saturating_mul(2))
    }

    /// Options of connections of clients, backends and checks alike: those of the stack, and bytes go on as they come.
    pub(super) fn connection(&self) -> ConnectionOptions {
        ConnectionOptions { no_delay: true, ..self.stack.options.get() }
    }
}

/// One paragraph: what would run.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interfaces = &self.stack.interfaces;
        writeln!(f, "interface {} at {}", interfaces.names().join(", "), interfaces.address_words().join(", "))?;
        for listener in &self.listeners {
            writeln!(
                f,
                "listener {} at {}: {}, connect {:?}, idle {:?}, {} retries, PROXY protocol {}, health check {}",
                listener.name,
                listener.address,
                listener.balance.name(),
                listener.connect_timeout,
                listener.idle_timeout,
                listener.retries,
                listener.proxy_protocol.name(),
                listener.health_check.map_or("none".into(), |check| check.to_string()),
            )?;
            for backend in &listener.backends {
                writeln!(f, "  backend {} at {}", backend.name, backend.address)?;
            }
        }
        let log = match &self.access_log {
            None => "nowhere".into(),
            Some(AccessLog::Stdout) => "to standard output".into(),
            Some(AccessLog::File(path)) => format!("to {}", path.display()),
        };
        let (connections, drain) = (self.connections_max, self.drain_timeout);
        let pool_bytes = u64::from(self.chunks_max()) * CHUNK_BYTES as u64;
        let buffer_bytes = u64::from(Settings::default().receive_buffer_bytes);
        // A pool each way, of which half is for whoever asks.
        let full = pool_bytes / 2 / 2 / buffer_bytes;
        writeln!(
            f,
            "{} MB for bytes on their way: clients that read nothing hold {} kB each way while they are fewer than {full}, then less",
            pool_bytes / 1_000_000,
            buffer_bytes / 1024
        )?;
        write!(f, "at most {connections} client connections; drain {drain:?}; access log {log}")
    }
}

fn read(root: &Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Config> {
    let stack = read_stack(root, problems);
    let told = problems.len();
    let (connections_max, connections_at) =
        root.get("connections_max", problems, number(1..=16_000_000)).unwrap_or((CONNECTIONS_MAX, root.at));
    let are_clients_known = problems.len() == told;
    let drain_timeout = root.get_or("drain_timeout", DRAIN_TIMEOUT, problems, text(parse_duration));
    let access_log = root.get("access_log", problems, text(parse_access_log)).map(|(log, _)| log);
    // Without an address all of the others would be wrong, too.
    let addresses = stack.as_ref().map(|stack| stack.interfaces.addresses()).filter(|own| !own.is_empty());
    let own = stack.as_ref().zip(addresses.as_deref()).map(|(stack, own)| (own, stack.interfaces.gateways()));
    let mut listeners: Vec<(Listener, usize)> = Vec::new();
    let told = problems.len();
    let sections = root.sections("listeners", &LISTENER_KEYS, problems);
    if sections.as_ref().is_some_and(Vec::is_empty) {
        problems.add(root.at, "no listeners: add a [[listeners]] table");
    }
    for section in sections.into_iter().flatten() {
        let Some((listener, at)) = read_listener(&section, own, problems) else { continue };
        if let Some((other, other_at)) = listeners.iter().find(|(other, _)| overlap(other.address, listener.address)) {
            let line = problems.line(*other_at);
            let message = format!(
                "listeners.address: {} overlaps {} of listener {} in line {line}: one listener per port",
                listener.address, other.address, other.name
            );
            problems.add(at, message);
        }
        if listeners.iter().any(|(other, _)| other.name == listener.name) {
            problems.add(section.at, format_args!("listeners.name: {} is taken by another listener", listener.name));
        }
        listeners.push((listener, at));
    }
    if listeners.len() > Limits::default().listeners_max as usize {
        problems.add(root.at, format_args!("more than {} listeners: leave some out", Limits::default().listeners_max));
    }
    // Of what was wrong a default stands there, or nothing.
    let are_places_known = are_clients_known && problems.len() == told;
    let listeners = listeners.into_iter().map(|(listener, _)| listener).collect();
    let config = Config { stack: stack?, connections_max, drain_timeout, access_log, listeners };
    // Of an interface that is asked only at the start one queue is the least.
    let shards = config.stack.queues.unwrap_or(1);
    if are_places_known
        && let Err(problem) = config.check_time_wait_places(config.stack.time_wait, config.stack.time_wait_full, shards)
    {
        problems.add(connections_at, problem);
    }
    Some(config)
}

type Own<'a> = Option<(&'a [LocalAddress], &'a [IpAddr])>;

fn read_listener(section: &Section<'_, '_>, own: Own<'_>, problems: &mut Problems<'_>) -> Option<(Listener, usize)> {
    let address = section.require("address", problems, text(|text| listener_address(text, own)));
    let name = section.require("name", problems, text(parse_name));
    let sources = section.list("source_addresses", problems, text(|text| source_addresses(text, own)));
    let listener_name = name.as_ref().map_or("without a name", |(name, _)| name).to_owned();
    let backends = read_backends(section, &listener_name, own, problems);
    let health_check = section
        .section("health_check", &HEALTH_CHECK_KEYS, problems)
        .map(|section| read_health_check(&section, problems));
    let balance = section.get_or("balance", Balance::default(), problems, text(Balance::parse));
    let connect_timeout = section.get_or("connect_timeout", CONNECT_TIMEOUT, problems, text(parse_duration));
    let idle_timeout = section.get_or("idle_timeout", IDLE_TIMEOUT, problems, text(parse_duration));
    let retries = section.get_or("retries", RETRIES, problems, number(0..=100)) as u8;
    let proxy_protocol =
        section.get_or("proxy_protocol", ProxyProtocol::default(), problems, text(ProxyProtocol::parse));
    let source_addresses = sources.into_iter().flat_map(|(addresses, _)| addresses).collect();
    let ((address, at), (name, _)) = (address?, name?);
    let listener = Listener {
        name,
        address,
        balance,
        connect_timeout,
        idle_timeout,
        retries,
        proxy_protocol,
        source_addresses,
        health_check,
        backends,
    };
    Some((listener, at))
}

fn read_backends(section: &Section<'_, '_>, listener: &str, own: Own<'_>, problems: &mut Problems<'_>) -> Vec<Backend> {
    let mut backends: Vec<Backend> = Vec::new();
    let tables = section.sections("backends", &BACKEND_KEYS, problems);
    if tables.as_ref().is_some_and(Vec::is_empty) {
        problems
            .add(section.at, format_args!("listener {listener} has no backends: add a [[listeners.backends]] table"));
    }
    let tables = tables.unwrap_or_default();
    if tables.len() > BACKENDS_MAX {
        let message = format!("listener {listener} has more than {BACKENDS_MAX} backends: leave some out");
        problems.add(section.at, message);
    }
    for table in tables {
        let name = table.get("name", problems, text(parse_name));
        let Some((address, at)) = table.require("address", problems, text(|text| backend_address(text, own))) else {
            continue;
        };
        let name = name.map_or_else(|| address.to_string(), |(name, _)| name);
        if backends.iter().any(|other| other.name == name) {
            problems
                .add(at, format_args!("backend {name}: the name is taken by another backend of listener {listener}"));
        }
        if let Some(other) = backends.iter().find(|other| other.address == address) {
            problems.add(at, format_args!("backend {name}: {address} is already that of backend {}", other.name));
        }
        backends.push(Backend { name, address });
    }
    backends
}

fn read_health_check(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> HealthCheck {
    let default = HealthCheck::default();
    HealthCheck {
        interval: section.get_or("interval", default.interval, problems, text(parse_duration)),
        timeout: section.get_or("timeout", default.timeout, problems, text(parse_duration)),
        rise: section.get_or("rise", default.rise, problems, number(1..=1000)),
        fall: section.get_or("fall", default.fall, problems, number(1..=1000)),
    }
}

/// Two listeners would both be meant: the same port, and one address covers the other.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && covers
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let wrong = || {
        let form = "IP:PORT with a port from 1 to 65535, an IPv6 address in brackets; names are not looked up";
        format!("{text:?} is no address: must be {form}")
    };
    let address: SocketAddr = text.parse().map_err(|_| wrong())?;
    if address.port() == 0 { Err(format!("{text:?}: the port must be from 1 to 65535")) } else { Ok(address) }
}

fn listener_address(text: &str, own: Own<'_>) -> Result<SocketAddr, String> {
    let address = socket_address(text)?;
    let Some((own, _)) = own else { return Ok(address) };
    let is_there = |own: &LocalAddress| match address.ip().is_unspecified() {
        true => own.address.is_ipv4() == address.is_ipv4(),
        false => own.address == address.ip(),
    };
    if own.iter().any(is_there) {
        Ok(address)
    } else {
        Err(format!("{} is not among stack.address: add it there", address.ip()))
    }
}

/// One address, or a range of them.
fn source_addresses(text: &str, own: Own<'_>) -> Result<Vec<IpAddr>, String> {
    let range = parse_addresses(&format!("{text}/0"))
        .map_err(|_| format!("{text:?} must be an IP address, or IP-IP with the smaller one first"))?;
    let addresses: Vec<IpAddr> = range.0.iter().map(|one| one.address).collect();
    let Some((own, _)) = own else { return Ok(addresses) };
    match addresses.iter().find(|address| !own.iter().any(|own| own.address == **address)) {
        None => Ok(addresses),
        Some(address) => Err(format!("{address} is not among stack.address: add it there")),
    }
}

fn backend_address(text: &str, own: Own<'_>) -> Result<SocketAddr, String> {
    let address = socket_address(text)?;
    let ip = address.ip();
    let host = LocalAddress { address: ip, prefix_len: if ip.is_ipv4() { 32 } else { 128 } };
    if !host.is_usable() {
        return Err(format!("{ip} is no address of a host on the network: the stack does not reach it"));
    }
    let Some((own, gateways)) = own else { return Ok(address) };
    if own.iter().any(|own| own.address == ip) {
        return Err(format!("{ip} is the stack's own address"));
    }
    let near = own.iter().any(|own| own.holds(ip));
    if own.iter().any(|own| own.is_broadcast(ip)) {
        return Err(format!("{ip} is no address of one host"));
    }
    if near || gateways.iter().any(|gateway| gateway.is_ipv4() == ip.is_ipv4()) {
        return Ok(address);
    }
    Err(format!("no way to {ip}: it is on no network of stack.address, and stack.gateway has none of this IP version"))
}

/// Names stand in the log, where a blank ends a field and a slash separates names.
fn parse_name(text: &str) -> Result<String, String> {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "_.:-".contains(letter);
    if (1..=64).contains(&text.len()) && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no name: 1 to 64 letters, digits or any of _.:-"))
}

fn parse_access_log(text: &str) -> Result<AccessLog, String> {
    match text {
        "" => Err("must be a file's name, or \"-\" for standard output".into()),
        "-" => Ok(AccessLog::Stdout),
        path => Ok(AccessLog::File(path.into())),
    }
}

/// A whole number and its unit.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: must be a number with ms, s, m or h, as in \"5s\", up to 24 days");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    let ms = count.checked_mul(unit_ms).filter(|ms| (1..=u64::from(DEADLINE_MAX_MS)).contains(ms)).ok_or_else(wrong)?;
    Ok(Duration::from_millis(ms))
}

const ROOT_KEYS: [&str; 5] = ["stack", "connections_max", "drain_timeout", "access_log", "listeners"];

const LISTENER_KEYS: [&str; 10] = [
    "name",
    "address",
    "balance",
    "connect_timeout",
    "idle_timeout",
    "retries",
    "proxy_protocol",
    "source_addresses",
    "health_check",
    "backends",
];

const BACKEND_KEYS: [&str; 2] = ["name", "address"];

const HEALTH_CHECK_KEYS: [&str; 4] = ["interval", "timeout", "rise", "fall"];

/// Client connections at a time. Origin: each takes two of a stack's TCBs, which are 128 Ki by default.
const CONNECTIONS_MAX: u32 = 60_000;

/// Origin: as long as common orchestrators wait before they kill.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Origin: a SYN and two more of it (1 + 2 s), with a little to spare.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Origin: longer than common keep-alive times of servers, so that these end idle connections first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Tries after the first. Origin: HAProxy's default.
const RETRIES: u32 = 3;

/// Backends of one listener. Smaller is enough; larger makes the choice of the least loaded dear.
const BACKENDS_MAX: usize = 1024;
