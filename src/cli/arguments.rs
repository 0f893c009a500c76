//! The command line.

use super::control::Request;
use super::interfaces::{Interfaces, parse_name};
use super::network::Network;
use crate::api::{ConnectionOptions, Keepalive};
use crate::flow::time_wait::RECORDS_MAX;
use crate::limits::{DEADLINE_MAX_MS, Limits, SYN_ACK_RETRIES, SYN_ACK_RETRIES_MAX, TIME_WAIT_DELAY_MS, TTL};
use crate::link::xdp::Mode;
use crate::stack::Idle;
use crate::tcp::congestion::CongestionControl;
use crate::tcp::cookie::SynCookies;
use crate::tcp::time_wait::{Full, Policy};
use clap::builder::ArgPredicate;
use clap::{Args, Parser, Subcommand};
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A kernel-bypass TCP stack on AF_XDP.
#[derive(Parser, Debug)]
#[command(name = "synfin", version, after_help = EXIT_CODES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Run services until SIGTERM or SIGINT; SIGUSR1 prints the state.
    #[command(after_help = SERVE_EXAMPLE)]
    Serve(Serve),
    /// Open connections, send a text, print what comes back and how each ended.
    #[command(after_help = CONNECT_EXAMPLE)]
    Connect(Connect),
    /// Say whether a stack could run on an interface, what hurts, and the command that mends it.
    #[command(after_help = DOCTOR_EXAMPLE)]
    Doctor(Doctor),
    /// Take connections and pass them on to backends, as an L4 load balancer, until SIGTERM or SIGINT.
    #[command(after_help = PROXY_EXAMPLE)]
    Proxy(Proxy),
    /// Ask a running stack for its state, or change its policies, through its control socket.
    #[command(after_help = CONTROL_EXAMPLE)]
    Control(Control),
}

#[derive(Args, Debug)]
pub(super) struct Serve {
    /// What to serve: echo:PORT, discard:PORT or http:PORT.
    #[arg(required = true, value_name = "SERVICE:PORT", value_parser = parse_service)]
    pub(super) services: Vec<ServiceAt>,
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) passive: PassiveOpens,
    /// How long a drain may take after SIGTERM.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = within(0..=u32::MAX))]
    pub(super) drain: u32,
}

/// How the opens of others are answered.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct PassiveOpens {
    /// When SYNs are answered by cookies: auto (past half of the half-open limit), always or off.
    #[arg(long, value_name = "WHEN", default_value = SynCookies::default().name(), value_parser = parse_syn_cookies)]
    pub(super) syn_cookies: SynCookies,
    /// How often a SYN-ACK is sent again, after 1, 2, 4 s and so on, before the half-open connection is given up: 5 do so after 63 s, 0
    /// after one.
    #[arg(long, value_name = "N", default_value_t = SYN_ACK_RETRIES, value_parser = within(0..=SYN_ACK_RETRIES_MAX))]
    pub(super) syn_ack_retries: u8,
}

impl Default for PassiveOpens {
    fn default() -> PassiveOpens {
        PassiveOpens { syn_cookies: SynCookies::default(), syn_ack_retries: SYN_ACK_RETRIES }
    }
}

#[derive(Args, Debug)]
pub(super) struct Connect {
    /// Whom to connect to; an IPv6 address in brackets.
    #[arg(value_name = "IP:PORT", value_parser = parse_remote)]
    pub(super) remote: SocketAddr,
    #[command(flatten)]
    pub(super) common: Common,
    /// Connections to open.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = within(1..=u32::MAX))]
    pub(super) count: u32,
    /// Connections that may be open at a time; with --rate as many as it takes, unless given.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = within(1..=u32::MAX))]
    #[arg(default_value_if("rate", ArgPredicate::IsPresent, "4294967295"))]
    pub(super) parallel: u32,
    /// Open so many connections per second, whether earlier ones have ended or not (open loop).
    #[arg(long, value_name = "N", value_parser = parse_rate)]
    pub(super) rate: Option<f64>,
    /// What to send on each; then this side closes its direction.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) send: String,
    /// Give up on what has not ended by then.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = within(0..=u32::MAX))]
    pub(super) timeout: u32,
}

#[derive(Args, Debug)]
pub(super) struct Doctor {
    /// The network interface.
    #[arg(long, value_name = "IF", value_parser = parse_name)]
    pub(super) interface: String,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Control {
    /// The path that the stack was given with --control.
    #[arg(value_name = "PATH")]
    pub(super) path: PathBuf,
    #[command(subcommand)]
    pub(super) request: Request,
}

#[derive(Args, Debug)]
pub(super) struct Proxy {
    /// The configuration; contrib/proxy.toml is one with everything explained.
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Say whether the configuration is right and what would run, and start nothing; the machine, its interfaces and other files are
    /// not looked at.
    #[arg(long)]
    pub(super) check: bool,
}

#[derive(Args, Debug)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) interfaces: Interfaces,
    /// Cores of the shards, as in 0,2 or 0-3.
    #[arg(long, value_name = "LIST", value_parser = parse_cpus)]
    pub(super) cpus: Option<Cpus>,
    /// Let several shards run on one core; they must sleep when idle.
    #[arg(long)]
    pub(super) share_cores: bool,
    /// Receive queues to use, one shard each; all of the interface's by default.
    #[arg(long, value_name = "N", value_parser = within(1..=256_u32))]
    pub(super) queues: Option<u32>,
    /// How the XDP program is attached: auto, skb or drv.
    #[arg(long, default_value = "auto", value_parser = parse_mode)]
    pub(super) mode: Mode,
    /// Maximum segment lifetime; TIME-WAIT lasts twice as long.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = within(1..=600_u32))]
    pub(super) msl: u32,
    /// How long after the start to open nothing and be silent to SYNs, as RFC 9293 3.4.3 wants after a crash.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = within(0..=3600_u32))]
    pub(super) quiet_time: u32,
    /// When a 4-tuple in TIME-WAIT may be used again: strict, timestamp, timestamp-or-sequence, or none (laboratory only).
    #[arg(long, value_name = "POLICY", default_value = Policy::default().name(), value_parser = parse_policy)]
    pub(super) time_wait: Policy,
    /// How long it stays in TIME-WAIT at least before an active open may take it.
    #[arg(long, value_name = "MS", default_value_t = TIME_WAIT_DELAY_MS, value_parser = within(0..=u32::MAX))]
    pub(super) time_wait_delay: u32,
    /// What happens when the TIME-WAIT store is full: refuse-open, evict-oldest or skip.
    #[arg(long, value_name = "POLICY", default_value = Full::default().name(), value_parser = parse_full)]
    pub(super) time_wait_full: Full,
    /// Entries of the TIME-WAIT store for each IP version, divided among the shards, rounded up; under refuse-open open connections reserve theirs,
    /// and this bounds the closes per second of 4-tuples that do not come again within 2MSL: 17,476 with the defaults.
    #[arg(long, value_name = "N", default_value_t = Limits::default().time_wait_max, value_parser = within(1..=RECORDS_MAX))]
    pub(super) time_wait_max: u32,
    /// What a RST does in TIME-WAIT: ignore (RFC 1337) or close (RFC 9293).
    #[arg(long, value_name = "WHAT", default_value = "ignore", value_parser = ["ignore", "close"])]
    pub(super) rfc1337: String,
    /// Congestion control: cubic (RFC 9438) or reno (RFC 5681).
    #[arg(long, value_name = "NAME", default_value = CongestionControl::default().name(), value_parser = parse_congestion)]
    pub(super) congestion: CongestionControl,
    #[command(flatten)]
    pub(super) network: Network,
    #[command(flatten)]
    pub(super) options: OfConnections,
    /// Write every frame to a pcapng file.
    #[arg(long, value_name = "FILE")]
    pub(super) capture: Option<PathBuf>,
    /// What idle shards do: spin, busy-poll (both take a whole core each) or sleep.
    #[arg(long, value_name = "STRATEGY", default_value = Idle::default().name(), value_parser = parse_idle)]
    pub(super) idle: Idle,
    /// Make a control socket there, for this user alone; `synfin control PATH status` asks.
    #[arg(long, value_name = "PATH")]
    pub(super) control: Option<PathBuf>,
    /// Print JSON, one object per line.
    #[arg(long)]
    pub(super) json: bool,
}

/// Options of every connection.
#[derive(Args, Debug)]
pub(super) struct OfConnections {
    /// Probe connections that are silent for IDLE seconds, every INTERVAL, and end them after COUNT probes without an answer;
    /// off without this, INTERVAL and COUNT are 75 and 10 if left out.
    #[arg(long, value_name = "IDLE[,INTERVAL,COUNT]", value_parser = parse_keepalive)]
    keepalive: Option<Keepalive>,
    /// End connections whose bytes are not acknowledged, or find a closed window, for so long; without it unanswered bytes end them after
    /// some nine minutes, and a closed window that is acknowledged never does.
    #[arg(long, value_name = "SECONDS", value_parser = within(1..=DEADLINE_MAX_MS / 1000))]
    user_timeout: Option<u32>,
    /// Differentiated services code point of what connections send, 0 to 63.
    #[arg(long, value_name = "DSCP", default_value_t = 0, value_parser = within(0..=63_u8))]
    dscp: u8,
    /// TTL, or hop limit, of what connections send.
    #[arg(long, value_name = "TTL", default_value_t = TTL, value_parser = within(1..=u8::MAX))]
    ttl: u8,
}

impl OfConnections {
    /// As the stack takes them.
    pub(super) fn get(&self) -> ConnectionOptions {
        ConnectionOptions {
            keepalive: self.keepalive,
            user_timeout: self.user_timeout.map(|seconds| Duration::from_secs(seconds.into())),
            dscp: self.dscp,
            ttl: self.ttl,
            ..ConnectionOptions::default()
        }
    }
}

/// A list of cores.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Cpus(pub(super) Vec<usize>);

/// What is served on a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ServiceAt {
    pub(super) kind: ServiceKind,
    pub(super) port: u16,
}

/// What a service does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ServiceKind {
    Echo,
    Discard,
    Http,
}

impl ServiceKind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            ServiceKind::Echo => "echo",
            ServiceKind::Discard => "discard",
            ServiceKind::Http => "http",
        }
    }
}

/// A whole number within bounds.
pub(super) fn within<T: Copy + PartialOrd + FromStr + fmt::Display>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
    }
}

fn parse_service(text: &str) -> Result<ServiceAt, String> {
    let (name, port) = text.split_once(':').ok_or("a service is NAME:PORT, as in echo:7")?;
    let kind = match name {
        "echo" => ServiceKind::Echo,
        "discard" => ServiceKind::Discard,
        "http" => ServiceKind::Http,
        _ => return Err(format!("no service {name:?}: there are echo, discard and http")),
    };
    let port = port.parse().ok().filter(|port| *port != 0);
    let port = port.ok_or("the port must be a number from 1 to 65535")?;
    Ok(ServiceAt { kind, port })
}

fn parse_remote(text: &str) -> Result<SocketAddr, String> {
    let remote: SocketAddr =
        text.parse().map_err(|_| "must be IP:PORT with a port from 1 to 65535, an IPv6 address in brackets")?;
    if remote.port() == 0 { Err("the port must be a number from 1 to 65535".into()) } else { Ok(remote) }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.01..=10e6).contains(rate));
    rate.ok_or_else(|| "must be connections per second, from 0.01 to 10000000".to_owned())
}

fn parse_keepalive(text: &str) -> Result<Keepalive, String> {
    let wrong = || "must be IDLE or IDLE,INTERVAL,COUNT, as in 60 or 60,10,3".to_string();
    let numbers: Vec<u64> = text.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    let seconds = Duration::from_secs;
    let keepalive = match numbers[..] {
        [idle] => Keepalive { idle: seconds(idle), ..Keepalive::default() },
        [idle, interval, count] => {
            let count = u8::try_from(count).map_err(|_| format!("{count} probes are too many: 1 to 255"))?;
            Keepalive { idle: seconds(idle), interval: seconds(interval), count }
        }
        _ => return Err(wrong()),
    };
    let options = ConnectionOptions { keepalive: Some(keepalive), ..ConnectionOptions::default() };
    options.check().map(|()| keepalive).map_err(|error| error.to_string())
}

fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let wrong = || format!("{text:?} is no list of cores below {CPUS_MAX}, as in 0,2 or 0-3");
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.parse().map_err(|_| wrong())?;
        let last: usize = last.parse().map_err(|_| wrong())?;
        if first > last || last >= CPUS_MAX {
            return Err(wrong());
        }
        for core in first..=last {
            if cores.contains(&core) {
                return Err(format!("core {core} is listed twice: a shard needs a core of its own"));
            }
            cores.push(core);
        }
    }
    Ok(Cpus(cores))
}

pub(super) fn parse_policy(text: &str) -> Result<Policy, String> {
    let names = Policy::ALL.map(Policy::name).join(", ");
    Policy::from_name(text).ok_or_else(|| format!("no TIME-WAIT policy {text:?}: there are {names}"))
}

pub(super) fn parse_syn_cookies(text: &str) -> Result<SynCookies, String> {
    let names = SynCookies::ALL.map(SynCookies::name).join(", ");
    SynCookies::from_name(text).ok_or_else(|| format!("no {text:?} for SYN cookies: there are {names}"))
}

pub(super) fn parse_full(text: &str) -> Result<Full, String> {
    let names = Full::ALL.map(Full::name).join(", ");
    Full::from_name(text).ok_or_else(|| format!("no policy {text:?} for a full store: there are {names}"))
}

fn parse_congestion(text: &str) -> Result<CongestionControl, String> {
    let names = CongestionControl::ALL.map(CongestionControl::name).join(", ");
    CongestionControl::from_name(text).ok_or_else(|| format!("no congestion control {text:?}: there are {names}"))
}

fn parse_idle(text: &str) -> Result<Idle, String> {
    let names = Idle::ALL.map(Idle::name).join(", ");
    Idle::from_name(text).ok_or_else(|| format!("no idle strategy {text:?}: there are {names}"))
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    text.parse().map_err(|error: crate::link::xdp::XdpError| error.to_string())
}

/// Core numbers lie below this. Origin: the kernel's largest NR_CPUS.
const CPUS_MAX: usize = 8192;

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the environment is not ready (privilege, interface, XDP).";

const SERVE_EXAMPLE: &str = "Example:
  synfin serve echo:7 discard:9 http:80 --interface veth0 --address 10.0.0.2/24,fd00::2/64
  synfin serve echo:7 --interface veth0 --address 10.0.0.2/24 --keepalive 60,10,3 --user-timeout 30
  synfin serve echo:7 --interface eth0=10.0.0.2/24,fd00::2/64 --interface eth1=10.1.0.2/24";

const DOCTOR_EXAMPLE: &str = "Example:
  synfin doctor --interface veth0 --json";

const CONNECT_EXAMPLE: &str = "Example:
  synfin connect 10.0.0.1:7 --interface veth0 --address 10.0.0.2/24 --count 3 --send hello
  synfin connect 10.0.0.1:7 --interface veth0 --address 10.0.0.2/24 --count 10000 --rate 1000 --send hello";

const PROXY_EXAMPLE: &str = "Example:
  synfin proxy --config contrib/proxy.toml --check
  synfin proxy --config contrib/proxy.toml";

const CONTROL_EXAMPLE: &str = "Example:
  synfin control /run/synfin.sock status
  synfin control /run/synfin.sock half-open --by-source --limit 20
  synfin control /run/synfin.sock set --time-wait timestamp --time-wait-delay 0 --msl 5";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    const EXAMPLES: [&str; 5] = [SERVE_EXAMPLE, CONNECT_EXAMPLE, DOCTOR_EXAMPLE, PROXY_EXAMPLE, CONTROL_EXAMPLE];

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn definition_is_consistent_and_examples_parse() {
        Arguments::command().debug_assert();
        for example in EXAMPLES {
            for line in example.lines().skip(1) {
                parse(line).unwrap();
            }
        }
    }

    proptest::proptest! {
        /// T34: whatever is typed, there is a command, or one error that names what is wrong; never a panic.
        #[test]
        fn t34_any_command_line_is_a_command_or_one_error_with_its_place(
            words in proptest::collection::vec(word(), 0..12),
        ) {
            let line = std::iter::once("synfin".to_owned()).chain(words.iter().cloned());
            if let Err(error) = Arguments::try_parse_from(line) {
                let text = error.to_string();
                let says_where = words.iter().any(|word| text.contains(word.as_str())) || text.contains("--") || text.contains("Usage");
                proptest::prop_assert!(!text.is_empty() && says_where, "{words:?}: {text}");
            }
        }
    }

    /// A word of a command line: one that belongs there, one nearly so, or anything.
    fn word() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        let known: Vec<String> = EXAMPLES.iter().flat_map(|text| text.split_whitespace()).map(str::to_owned).collect();
        let options: Vec<String> = Arguments::command()
            .get_subcommands()
            .flat_map(|command| command.get_arguments())
            .filter_map(|argument| argument.get_long().map(|long| format!("--{long}")))
            .collect();
        prop_oneof![
            4 => proptest::sample::select(known),
            3 => proptest::sample::select(options),
            2 => "[0-9a-f.:/,-]{0,24}",
            1 => "\\PC{0,12}",
        ]
    }

    /// Shows T34.
    #[test]
    fn wrong_values_are_refused() {
        for wrong in [
            "synfin serve --interface v --address 10.0.0.2/24",
            "synfin serve echo:0 --interface v --address 10.0.0.2/24",
            "synfin serve echo:65536 --interface v --address 10.0.0.2/24",
            "synfin serve finger:79 --interface v --address 10.0.0.2/24",
            "synfin serve echo:7 --interface v --address 10.0.0.2/33",
            "synfin serve echo:7 --interface v --address 10.0.0.2",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --queues 0",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --cpus 3-1",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --cpus 0-9999999999",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --mode fast",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --syn-cookies sometimes",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --time-wait sometimes",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --time-wait-full grow",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --time-wait-max 0",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --time-wait-max 1073676289",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --rfc1337 maybe",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --congestion bbr",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --keepalive 0",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --keepalive 60,10",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --keepalive 60,10,256",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --keepalive 99999999999999999999",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --keepalive 18446744073709551615,1,1",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --user-timeout 0",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --dscp 64",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --ttl 0",
            "synfin serve echo:7 --interface v --address 10.0.0.2/24 --frame-size 1000",
            "synfin doctor --interface=",
            "synfin connect 10.0.0.1:0 --interface v --address 10.0.0.2/24",
            "synfin connect 10.0.0.1:99999 --interface v --address 10.0.0.2/24",
            "synfin connect 10.0.0.1:7 --interface v --address 10.0.0.2/24 --count 0",
            "synfin connect 10.0.0.1:7 --interface v --address 10.0.0.2/24 --rate 0",
            "synfin connect 10.0.0.1:7 --interface v --address 10.0.0.2/24 --rate NaN",
            "synfin connect 10.0.0.1:7 --interface v --address 10.0.0.2/24 --rate fast",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_that_are_refused_are_told_in_the_unit_that_was_given() {
        for (given, says) in [
            ("0", "a keepalive idle time of 0 s is out of range: 1 s to"),
            ("60,0,3", "a keepalive interval of 0 s"),
            ("9999999", "a keepalive idle time of 9999999 s"),
        ] {
            let line = format!("synfin serve echo:7 --interface v --address 10.0.0.2/24 --keepalive {given}");
            let error = parse(&line).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn store_of_time_wait_is_as_large_as_is_asked_or_refused() {
        let line = "synfin serve echo:7 --interface v --address 10.0.0.2/24 --time-wait-max 1073676288";
        let Command::Serve(serve) = parse(line).unwrap().command else { panic!("serve") };
        assert_eq!(serve.common.time_wait_max, RECORDS_MAX);
    }

    /// Every option that is a number is one of the type that is asked for.
    #[test]
    fn numbers_are_taken_from_the_least_to_the_most_and_others_are_told_the_bounds() {
        for (option, least, most) in [
            ("queues", 1, 256),
            ("msl", 1, 600),
            ("quiet-time", 0, 3600),
            ("time-wait-delay", 0, u32::MAX),
            ("time-wait-max", 1, RECORDS_MAX),
            ("user-timeout", 1, DEADLINE_MAX_MS / 1000),
            ("neighbor-timeout", 1, 60),
            ("dscp", 0, 63),
            ("syn-ack-retries", 0, 15),
            ("ttl", 1, 255),
            ("drain", 0, u32::MAX),
        ] {
            let with = |value: &str| {
                parse(&format!("synfin serve echo:7 --interface v --address 10.0.0.2/24 --{option}={value}"))
            };
            assert!(with(&least.to_string()).is_ok() && with(&most.to_string()).is_ok(), "{option}");
            for wrong in ["", "-1", "1.5", "0x10", "many", "99999999999999999999", &(u64::from(most) + 1).to_string()] {
                let error = with(wrong).unwrap_err().to_string();
                assert!(
                    error.contains(option) && error.contains(&format!("a whole number from {least} to {most}")),
                    "{error}"
                );
            }
        }
    }

    #[test]
    fn b24_b25_options_of_connections_are_taken_over() {
        let line = "synfin serve echo:7 --interface v --address 10.0.0.2/24 --keepalive 60,10,3 --user-timeout 30 --dscp 46 --ttl 1";
        let Command::Serve(serve) = parse(line).unwrap().command else { panic!("serve") };
        let options = serve.common.options.get();
        let seconds = Duration::from_secs;
        assert_eq!(options.keepalive, Some(Keepalive { idle: seconds(60), interval: seconds(10), count: 3 }));
        assert_eq!((options.user_timeout, options.dscp, options.ttl), (Some(seconds(30)), 46, 1));
        assert_eq!(parse_keepalive("7200"), Ok(Keepalive::default()));
    }

    #[test]
    fn cores_are_listed_and_ranged() {
        assert_eq!(parse_cpus("0,4-6"), Ok(Cpus(vec![0, 4, 5, 6])));
        assert!(parse_cpus("1,0-2").is_err());
    }
}
