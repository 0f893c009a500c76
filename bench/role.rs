//! What all roles share: their options, how they start and stop, and the meter that counts while they run.

use crate::failure::Failure;
use crate::kernel::sys;
use crate::lines::{Final, Latency, Line, Second, tell};
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use synfin::link::xdp;

/// Options of a role. The orchestrator fills them in.
#[derive(Args, Clone, Debug)]
pub(crate) struct RoleArgs {
    /// Interface of this end
    #[arg(long, value_name = "IF")]
    pub interface: String,
    /// CPU to run on
    #[arg(long, value_name = "N")]
    pub cpu: usize,
    /// Connections in flight
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub conns: u32,
    /// Who closes first
    #[arg(long, value_enum, default_value_t = Closer::Client)]
    pub closer: Closer,
    /// Measured window, ms
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    pub duration_ms: u64,
    /// Time before the window, ms
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pub warmup_ms: u64,
    /// Address and port of the server
    #[arg(long, value_name = "IP:PORT")]
    pub server: SocketAddrV4,
    /// First source address of the client
    #[arg(long, value_name = "IP")]
    pub source: Ipv4Addr,
    /// Number of source addresses, counted up from the first
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub src_ips: u32,
    /// XDP mode
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    pub mode: Mode,
    /// Frames per ring operation of an echo
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: u32,
    /// Send and receive buffer of a synfin connection, bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256 * 1024)]
    pub buffer_bytes: u32,
    /// TIME-WAIT places of a synfin shard
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    pub time_wait: u32,
}

impl RoleArgs {
    /// Source address number `index`, modulo their count.
    pub(crate) fn source_address(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.source).wrapping_add(index % self.src_ips.max(1)))
    }
}

/// Which end sends the first FIN, and so keeps TIME-WAIT.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Closer {
    /// The client.
    Client,
    /// The server.
    Server,
}

impl Closer {
    /// The word for it on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Closer::Client => "client",
            Closer::Server => "server",
        }
    }
}

/// How the XDP program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// SKB on a single-queue veth, otherwise native.
    Auto,
    /// Generic.
    Skb,
    /// Native.
    Drv,
}

impl Mode {
    /// The word for it on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Skb => "skb",
            Mode::Drv => "drv",
        }
    }

    /// The same, as the link takes it.
    pub(crate) fn for_xdp(self) -> xdp::Mode {
        match self {
            Mode::Auto => xdp::Mode::Auto,
            Mode::Skb => xdp::Mode::Skb,
            Mode::Drv => xdp::Mode::Drv,
        }
    }
}

/// Becomes true when standard input ends: the orchestrator has closed its end of the pipe, or is no more.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ties this process to its parent, pins it, and watches standard input.
    pub(crate) fn begin(cpu: usize) -> Result<Stop, Failure> {
        if !sys::die_with_parent() {
            return Err(Failure::failed("the orchestrator ended before its role began"));
        }
        let stop = Stop::default();
        let seen = stop.clone();
        let watcher = std::thread::Builder::new().name("stdin".into());
        let watch = move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            seen.0.store(true, Ordering::Relaxed);
        };
        watcher.spawn(watch).map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
        if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
            return Err(Failure::environment(format!(
                "cannot run on CPU {cpu}: it is offline or outside the cpuset; choose others with --cpus"
            )));
        }
        Ok(stop)
    }

    /// Whether to stop.
    #[inline]
    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What can go wrong with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ErrorKind {
    /// A RST.
    Reset,
    /// Nobody listens.
    Refused,
    /// No answer.
    TimedOut,
    /// A payload with a wrong byte.
    WrongByte,
    /// The peer closed before the payload was there, or sent more than it.
    WrongLength,
    /// No local port was free.
    NoPort,
    /// Still open when the drain ended.
    Unfinished,
    /// Any other error of a call.
    Other,
}

impl ErrorKind {
    const NAMES: [&'static str; 8] =
        ["reset", "refused", "timed_out", "wrong_byte", "wrong_length", "no_port", "unfinished", "other"];

    /// The name in results.
    pub(crate) fn name(self) -> &'static str {
        ErrorKind::NAMES[self as usize]
    }

    /// The kind of an error that the kernel returned.
    pub(crate) fn of_io(error: &std::io::Error) -> ErrorKind {
        match error.kind() {
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => ErrorKind::Reset,
            std::io::ErrorKind::ConnectionRefused => ErrorKind::Refused,
            std::io::ErrorKind::TimedOut => ErrorKind::TimedOut,
            std::io::ErrorKind::AddrNotAvailable | std::io::ErrorKind::AddrInUse => ErrorKind::NoPort,
            _ => ErrorKind::Other,
        }
    }
}

/// Counts a run: warm-up, measured window, then drain.
pub(crate) struct Meter {
    started: Instant,
    opens_at: Instant,
    closes_at: Instant,
    second: Instant,
    second_total: u64,
    window: u64,
    total: u64,
    errors: [u64; ErrorKind::NAMES.len()],
    latency_ns: Histogram<u64>,
}

impl Meter {
    /// A run that starts now.
    pub(crate) fn start(warmup: Duration, measured: Duration) -> Result<Meter, Failure> {
        let latency_ns = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3);
        let latency_ns = latency_ns.map_err(|error| Failure::failed(format!("no histogram: {error}")))?;
        let started = Instant::now();
        let opens_at = started + warmup;
        let (second, closes_at) = (started, opens_at + measured);
        let errors = [0; ErrorKind::NAMES.len()];
        Ok(Meter { started, opens_at, closes_at, second, second_total: 0, window: 0, total: 0, errors, latency_ns })
    }

    /// Starts anew from now: set-up took its time.
    pub(crate) fn restart(&mut self) {
        let now = Instant::now();
        let (warmup, measured) = (self.opens_at - self.started, self.closes_at - self.opens_at);
        (self.started, self.second, self.opens_at, self.closes_at) = (now, now, now + warmup, now + warmup + measured);
    }

    /// Whether new connections may still be opened.
    #[inline]
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        now < self.closes_at
    }

    /// Whether the window has begun and is not over.
    #[inline]
    pub(crate) fn is_measured(&self, now: Instant) -> bool {
        now >= self.opens_at && now < self.closes_at
    }

    /// Whether the drain is over too.
    pub(crate) fn is_drained(&self, now: Instant) -> bool {
        now >= self.closes_at + DRAIN
    }

    /// A connection is complete.
    #[inline]
    pub(crate) fn completed(&mut self, now: Instant) {
        self.total += 1;
        if now >= self.opens_at && now < self.closes_at {
            self.window += 1;
        }
    }

    /// A handshake took from `since` to `now`.
    #[inline]
    pub(crate) fn connected(&mut self, since: Instant, now: Instant) {
        if now >= self.opens_at && now < self.closes_at {
            self.latency_ns.saturating_record(now.duration_since(since).as_nanos() as u64);
        }
    }

    /// Something went wrong, `count` times.
    pub(crate) fn errors(&mut self, kind: ErrorKind, count: u64) {
        self.errors[kind as usize] += count;
    }

    /// Tells the last second when it is over.
    #[inline]
    pub(crate) fn tick(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.second);
        if elapsed >= SECOND {
            let per_second = (self.total - self.second_total) as f64 / elapsed.as_secs_f64();
            tell(&Line::Second(Second { per_second, errors: self.errors.iter().sum() }));
            (self.second, self.second_total) = (now, self.total);
        }
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        now.duration_since(self.started)
    }

    /// The result, without what only the role knows.
    pub(crate) fn result(&self) -> Final {
        let named = ErrorKind::NAMES.iter().zip(self.errors).filter(|(_, count)| *count > 0);
        let errors: BTreeMap<String, u64> = named.map(|(name, count)| ((*name).to_string(), count)).collect();
        let at = |quantile| self.latency_ns.value_at_quantile(quantile) as f64 / 1000.0;
        let latency = Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) };
        Final {
            connections: self.window,
            seconds: self.closes_at.duration_since(self.opens_at).as_secs_f64(),
            connections_total: self.total,
            errors,
            connect_latency_us: (!self.latency_ns.is_empty()).then_some(latency),
            ..Final::default()
        }
    }
}

/// How long connections that are open at the end of the window may take to finish. Shorter than this turns one lost SYN into an error.
const DRAIN: Duration = Duration::from_millis(2500);
/// Period of the lines that say how it goes.
const SECOND: Duration = Duration::from_secs(1);
/// Largest latency that is told apart, ns.
const LATENCY_MAX_NS: u64 = 100_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meter_counts_the_window_only_and_all_errors() {
        let mut meter = Meter::start(Duration::from_secs(1), Duration::from_secs(2)).expect("histogram");
        let at = |seconds: f64| meter.started + Duration::from_secs_f64(seconds);
        let (before, inside, after) = (at(0.5), at(1.5), at(3.5));
        assert!(
            meter.is_open(inside) && !meter.is_open(after) && !meter.is_drained(after) && meter.is_drained(at(6.0))
        );
        for now in [before, inside, inside, after] {
            meter.completed(now);
            meter.connected(now - Duration::from_micros(100), now);
        }
        meter.errors(ErrorKind::Reset, 2);
        let result = meter.result();
        assert_eq!((result.connections, result.connections_total, result.seconds), (2, 4, 2.0));
        assert_eq!(result.errors, [("reset".to_string(), 2)].into());
        let p50 = result.connect_latency_us.expect("two samples").p50;
        assert!((99.0..101.0).contains(&p50), "{p50}");
    }

    #[test]
    fn every_error_kind_has_its_name() {
        assert_eq!(ErrorKind::NAMES[ErrorKind::Other as usize], "other");
        assert_eq!(ErrorKind::NAMES[ErrorKind::NoPort as usize], "no_port");
        assert_eq!(ErrorKind::NAMES[ErrorKind::Reset as usize], "reset");
    }
}
