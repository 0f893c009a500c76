//! What a role process tells the orchestrator: one JSON object per line on its standard output.

use crate::proc::NetCounters;
use crate::role::ErrorKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

/// One line of a role.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Line {
    /// Set up; a peer may start.
    Ready(Ready),
    /// About once a second.
    Second(Second),
    /// The result; the last line.
    Final(Box<Final>),
}

/// What a role has obtained at start.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// The XDP mode that the bind really got, e.g. `skb copy`; `None` for the kernel's stack.
    pub mode: Option<String>,
    /// The interface's Ethernet address.
    #[serde(default)]
    pub mac: Option<String>,
    /// TIME-WAIT of a synfin end: bytes per place of its store and of its share of the index.
    #[serde(default)]
    pub time_wait_bytes: Option<f64>,
}

/// What happened since the last such line.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Second {
    /// Connections (frames, for an echo) per second.
    pub per_second: f64,
    /// Errors since the start.
    pub errors: u64,
    /// Which shard of the end says so.
    #[serde(default)]
    pub shard: usize,
}

/// The result of a role.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Final {
    /// Connections completed within the measured window, both payloads checked.
    pub connections: u64,
    /// Length of the measured window, s.
    pub seconds: f64,
    /// Connections completed from start to end, warm-up and drain included.
    pub connections_total: u64,
    /// Octets received within the measured window (streams only).
    #[serde(default)]
    pub bytes: u64,
    /// Octets sent or received from start to end (streams only).
    #[serde(default)]
    pub bytes_total: u64,
    /// Errors by kind.
    pub errors: BTreeMap<String, u64>,
    /// Connect latency within the measured window; `None` at a server.
    pub connect_latency_us: Option<Latency>,
    /// The histogram behind it: values, ns, and how often each came. What failed counts as 100 s.
    #[serde(default)]
    pub latency_ns: Vec<(u64, u64)>,
    /// Handshakes of about a second or longer within the measured window.
    #[serde(default)]
    pub stalls: u64,
    /// Begin and end of the measured window, ms from the start.
    #[serde(default)]
    pub window_ms: [u64; 2],
    /// What went on over time.
    #[serde(default)]
    pub samples: Vec<Sample>,
    /// Octets of earlier incarnations that were taken for the running one's.
    #[serde(default)]
    pub old_bytes: u64,
    /// Connections in which that happened.
    #[serde(default)]
    pub with_old_bytes: u64,
    /// Frames that the interface sent and received from start to end.
    pub frames_total: u64,
    /// The XDP mode that the bind really got (an echo only; the others say so when they are ready).
    pub mode: Option<String>,
    /// Frames per second, both directions added (an echo only).
    pub frames_per_second: f64,
    /// TIME-WAIT of this end.
    pub time_wait: TimeWait,
    /// Every other counter that is not 0.
    pub counters: BTreeMap<String, u64>,
}

/// An end at one moment; counts are totals since the start.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// When, ms since 1970.
    pub at_ms: u64,
    /// Connections completed.
    pub completed: u64,
    /// Errors.
    pub failed: u64,
    /// TIME-WAIT entries.
    pub time_wait: u64,
    /// Connections that exist.
    pub in_use: u64,
    /// Time spent working, us.
    pub busy_us: u64,
    /// Resident memory, bytes.
    pub rss: u64,
}

/// Percentiles, us.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latency {
    /// Median.
    pub p50: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p999: f64,
    /// The largest.
    #[serde(default)]
    pub max: f64,
}

/// Counts of the same name added.
pub(crate) fn added(counts: impl IntoIterator<Item = (String, u64)>) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for (name, count) in counts {
        *sums.entry(name).or_insert(0) += count;
    }
    sums
}

/// The same counts as `of.name`.
pub(crate) fn named<'a>(of: &'a str, counts: &'a BTreeMap<String, u64>) -> impl Iterator<Item = (String, u64)> + 'a {
    counts.iter().map(move |(name, count)| (format!("{of}.{name}"), *count))
}

/// TIME-WAIT entries of one end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct TimeWait {
    /// Entries made.
    pub created: u64,
    /// Entries that ended after 2MSL.
    pub expired: u64,
    /// Entries that ended early, or connections that skipped TIME-WAIT because it was full.
    pub evicted: u64,
}

impl TimeWait {
    /// Both together.
    pub(crate) fn plus(self, other: TimeWait) -> TimeWait {
        TimeWait {
            created: self.created + other.created,
            expired: self.expired + other.expired,
            evicted: self.evicted + other.evicted,
        }
    }

    /// What the namespace's own TCP did between two readings `elapsed` apart.
    ///
    /// The kernel counts what it makes and what exists, not what ends: before 2MSL whatever is missing ended early.
    pub(crate) fn of_kernel(before: &NetCounters, after: &NetCounters, elapsed: Duration) -> TimeWait {
        let moved = |name: &str| after.get(name).saturating_sub(before.get(name));
        let created = moved("TcpExt.TW") + moved("TcpExt.TWKilled");
        let ended = (before.time_wait_now + created).saturating_sub(after.time_wait_now);
        // With tcp_tw_reuse that is what becomes of them: not for want of room.
        let ended = ended.saturating_sub(moved("TcpExt.TWRecycled"));
        let (expired, early) = if elapsed < KERNEL_TIME_WAIT { (0, ended) } else { (ended, 0) };
        TimeWait { created, expired, evicted: early + moved("TcpExt.TCPTimeWaitOverflow") }
    }
}

impl Final {
    /// Counts one error more, if there is one.
    pub(crate) fn add_error(&mut self, kind: Option<ErrorKind>) {
        if let Some(kind) = kind {
            *self.errors.entry(kind.name().to_string()).or_insert(0) += 1;
        }
    }

    /// All errors.
    pub(crate) fn errors_total(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// Writes one line. A reader that has gone away is no error: the role is about to be stopped.
pub(crate) fn tell(line: &Line) {
    if let Ok(text) = serde_json::to_string(line) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

/// How long the kernel keeps TIME-WAIT (its 2MSL, a constant).
const KERNEL_TIME_WAIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_the_pipe() {
        let line =
            Line::Final(Box::new(Final { connections: 3, errors: [("reset".into(), 2)].into(), ..Final::default() }));
        let text = serde_json::to_string(&line).expect("serializes");
        assert!(!text.contains('\n'));
        let back: Line = serde_json::from_str(&text).expect("parses");
        assert_eq!(back, line);
        let Line::Final(result) = back else { panic!("no final line") };
        assert_eq!(result.errors_total(), 2);
    }

    #[test]
    fn kernel_time_wait_is_what_exists_and_what_has_ended() {
        let mut after = NetCounters { time_wait_now: 90, ..NetCounters::default() };
        after.values.insert("TcpExt.TW".into(), 100);
        after.values.insert("TcpExt.TCPTimeWaitOverflow".into(), 5);
        let of = |seconds| TimeWait::of_kernel(&NetCounters::default(), &after, Duration::from_secs(seconds));
        assert_eq!(of(5), TimeWait { created: 100, expired: 0, evicted: 15 });
        assert_eq!(of(70), TimeWait { created: 100, expired: 10, evicted: 5 });
        after.values.insert("TcpExt.TWRecycled".into(), 8);
        let reused = TimeWait::of_kernel(&NetCounters::default(), &after, Duration::from_secs(5));
        assert_eq!(reused.evicted, 7, "what tcp_tw_reuse has taken has not ended early");
    }
}
