//! Requests, in the words of the command line.

use crate::cli::arguments::{parse_full, parse_policy, parse_syn_cookies, within};
use crate::limits::SYN_ACK_RETRIES_MAX;
use crate::shard::Policies;
use crate::tcp::cookie::SynCookies;
use crate::tcp::time_wait::{Full, Policy};
use clap::{Args, Parser, Subcommand};

/// What can be asked.
#[derive(Subcommand, Clone, PartialEq, Eq, Debug)]
pub(in crate::cli) enum Request {
    /// States, counters and policies of every shard, as after SIGUSR1.
    Status,
    /// The half-open connections, those that have waited longest first; SYNs that were answered by cookies leave none.
    HalfOpen(HalfOpen),
    /// The policies in force.
    Policies,
    /// Change policies while the stack runs; what is not named stays.
    Set(Change),
    /// End as after SIGTERM: take no new connections, wait for those that live.
    Drain,
}

/// What is wanted of the half-open connections.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub(in crate::cli) struct HalfOpen {
    /// Count them by source, most first.
    #[arg(long)]
    pub(super) by_source: bool,
    /// Lines at most; what is not shown is counted.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = within(1..=LIMIT_MAX))]
    pub(super) limit: u32,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(super) json: bool,
}

/// Policies that shall change, by the names that `serve` and `connect` know.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
#[group(required = true, multiple = true)]
pub(in crate::cli) struct Change {
    /// Maximum segment lifetime; TIME-WAIT that begins from now on lasts twice as long.
    #[arg(long, value_name = "SECONDS", value_parser = within(1..=600_u32))]
    msl: Option<u32>,
    /// strict, timestamp, timestamp-or-sequence, or none (laboratory only).
    #[arg(long, value_name = "POLICY", value_parser = parse_policy)]
    time_wait: Option<Policy>,
    /// How long a 4-tuple stays in TIME-WAIT at least before an active open may take it.
    #[arg(long, value_name = "MS", value_parser = within(0..=u32::MAX))]
    time_wait_delay: Option<u32>,
    /// refuse-open, evict-oldest or skip.
    #[arg(long, value_name = "POLICY", value_parser = parse_full)]
    time_wait_full: Option<Full>,
    /// What a RST does in TIME-WAIT: ignore or close.
    #[arg(long, value_name = "WHAT", value_parser = ["ignore", "close"])]
    rfc1337: Option<String>,
    /// When SYNs are answered by cookies: auto, always or off.
    #[arg(long, value_name = "WHEN", value_parser = parse_syn_cookies)]
    syn_cookies: Option<SynCookies>,
    /// How often a SYN-ACK is sent again before the half-open connection is given up, those that are half-open now included.
    #[arg(long, value_name = "N", value_parser = within(0..=SYN_ACK_RETRIES_MAX))]
    syn_ack_retries: Option<u8>,
}

/// A line of the socket.
#[derive(Parser, Debug)]
#[command(
    name = "control",
    no_binary_name = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    arg_required_else_help = false
)]
struct Line {
    #[command(subcommand)]
    request: Request,
}

impl Request {
    /// The request of a line, or what is wrong with it, on one line.
    pub(super) fn of(line: &str) -> Result<Request, String> {
        match Line::try_parse_from(line.split_whitespace()) {
            Ok(line) => Ok(line.request),
            Err(error) => {
                let text = error.to_string();
                let said = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
                Err(said.split_whitespace().collect::<Vec<_>>().join(" "))
            }
        }
    }

    /// The request as a line without its end.
    pub(super) fn line(&self) -> String {
        match self {
            Request::Status => "status".to_owned(),
            Request::HalfOpen(HalfOpen { by_source, limit, json }) => {
                let by_source = if *by_source { " --by-source" } else { "" };
                let json = if *json { " --json" } else { "" };
                format!("half-open{by_source} --limit {limit}{json}")
            }
            Request::Policies => "policies".to_owned(),
            Request::Drain => "drain".to_owned(),
            Request::Set(change) => {
                let options = [
                    ("--msl", change.msl.map(|seconds| seconds.to_string())),
                    ("--time-wait", change.time_wait.map(|policy| policy.name().to_owned())),
                    ("--time-wait-delay", change.time_wait_delay.map(|ms| ms.to_string())),
                    ("--time-wait-full", change.time_wait_full.map(|policy| policy.name().to_owned())),
                    ("--rfc1337", change.rfc1337.clone()),
                    ("--syn-cookies", change.syn_cookies.map(|when| when.name().to_owned())),
                    ("--syn-ack-retries", change.syn_ack_retries.map(|retries| retries.to_string())),
                ];
                let options = options.iter().filter_map(|(name, value)| Some(format!(" {name} {}", value.as_ref()?)));
                format!("set{}", options.collect::<String>())
            }
        }
    }
}

impl Change {
    /// `policies` with the changes.
    pub(super) fn of(&self, policies: &Policies) -> Policies {
        Policies {
            msl_ms: self.msl.map_or(policies.msl_ms, |seconds| seconds * 1000),
            time_wait: self.time_wait.unwrap_or(policies.time_wait),
            time_wait_delay_ms: self.time_wait_delay.unwrap_or(policies.time_wait_delay_ms),
            time_wait_full: self.time_wait_full.unwrap_or(policies.time_wait_full),
            rst_ends_time_wait: self.rfc1337.as_ref().map_or(policies.rst_ends_time_wait, |what| what == "close"),
            syn_cookies: self.syn_cookies.unwrap_or(policies.syn_cookies),
            syn_ack_retries: self.syn_ack_retries.unwrap_or(policies.syn_ack_retries),
        }
    }
}

/// Most lines of an answer. Origin: as many as may be half-open by default; with 250 bytes each they are 4 MB, which arrive in time.
const LIMIT_MAX: u32 = 16_384;
