//! What all roles share: their options, how they start and stop, and what can go wrong.

use crate::failure::Failure;
use crate::kernel::sys;
use crate::payload::Payload;
use crate::policy::{Phases, PortRange, Tw};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use synfin::limits;
use synfin::link::faults::FaultConfig;
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
    /// Local ports of the client
    #[arg(long, value_name = "LO-HI", default_value_t = PortRange::ALL)]
    pub ports: PortRange,
    /// Ports that the server listens on, from the one of `--server` up
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub dst_ports: u16,
    /// Bytes of a request and of a response
    #[arg(long, value_name = "REQ:RESP", default_value_t = Payload::default())]
    pub payload: Payload,
    /// When TIME-WAIT may be reused; the kernel's ends know `strict` and, as tcp_tw_reuse 1, any other
    #[arg(long, value_enum, default_value_t = Tw::Strict)]
    pub tw: Tw,
    /// How long a 4-tuple stays in TIME-WAIT at least, ms
    #[arg(long, value_name = "MS", default_value_t = limits::TIME_WAIT_DELAY_MS)]
    pub tw_delay_ms: u32,
    /// MSL of synfin, ms
    #[arg(long, value_name = "MS", default_value_t = limits::MSL_MS)]
    pub msl_ms: u32,
    /// Open loop: connections begun per second, whatever becomes of them; 0 is the closed loop
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    pub rate: f64,
    /// Policies that follow one another, from the first connection on
    #[arg(long, value_name = "LIST")]
    pub phases: Option<Phases>,
    /// What everything random is drawn from; 0 asks the system
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Without the timestamps option
    #[arg(long)]
    pub no_timestamps: bool,
    /// RST in TIME-WAIT ends it
    #[arg(long)]
    pub rst_ends_time_wait: bool,
    /// Answers of a synfin shard to what belongs to no connection or is not acceptable, per second
    #[arg(long, value_name = "N", default_value_t = limits::ANSWERS_PER_SECOND)]
    pub answers_per_second: u32,
    /// TIME-WAIT entries that a synfin end makes before it says that it is ready
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub resident: u32,
    /// Shards of a synfin end, one per queue of the interface
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub queues: u32,
    /// CPUs of several shards; fewer than shards are shared
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub shard_cpus: Vec<usize>,
    /// A synfin end sleeps so long after a turn that found nothing to do, us; 0 spins
    #[arg(long, value_name = "US", default_value_t = 0)]
    pub idle_us: u64,
    /// What is done to frames on synfin's side
    #[command(flatten)]
    pub faults: FaultArgs,
}

/// Faults of the wire, of each direction.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Args, Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct FaultArgs {
    /// Share of frames lost, such as 0.01 or 1%
    #[arg(long, value_name = "P", default_value = "0", value_parser = share)]
    pub loss: f64,
    /// Delay of every frame, ms
    #[arg(long, value_name = "MS", default_value = "0", value_parser = delay_ms)]
    pub delay: f64,
    /// Share of frames held back so that others overtake them
    #[arg(long, value_name = "P", default_value = "0", value_parser = share)]
    pub reorder: f64,
    /// Share of frames sent twice
    #[arg(long, value_name = "P", default_value = "0", value_parser = share)]
    pub dup: f64,
}

impl FaultArgs {
    /// Whether there are any.
    pub(crate) fn any(&self) -> bool {
        *self != FaultArgs::default()
    }

    /// The same, as the link takes it.
    pub(crate) fn config(&self) -> FaultConfig {
        let delay_us = (self.delay * 1000.0) as u64;
        FaultConfig {
            loss: self.loss,
            duplication: self.dup,
            reordering: self.reorder,
            reordering_us: 500,
            delay_us: (delay_us, delay_us),
            // What is in flight for a second at the most frames that a wire carries.
            held_max: if self.any() { 16_384 + (delay_us / 2).min(1 << 20) as u32 } else { 0 },
            ..FaultConfig::default()
        }
    }

    /// The options that say the same.
    pub(crate) fn options(&self) -> Vec<String> {
        let options =
            [("--loss", self.loss), ("--delay", self.delay), ("--reorder", self.reorder), ("--dup", self.dup)];
        let given = options.into_iter().filter(|(_, value)| *value > 0.0);
        given.flat_map(|(name, value)| [name.to_string(), value.to_string()]).collect()
    }
}

/// A share from 0 to 1, or in per cent.
fn share(text: &str) -> Result<f64, String> {
    let (number, whole) = text.strip_suffix('%').map_or((text, 1.0), |number| (number, 100.0));
    let share = number.parse().ok().map(|share: f64| share / whole).filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "give a share from 0 to 1, or per cent, such as 0.01 or 1%".to_string())
}

/// A delay that a run can stand, ms.
fn delay_ms(text: &str) -> Result<f64, String> {
    let delay = text.parse().ok().filter(|delay: &f64| (0.0..=1000.0).contains(delay));
    delay.ok_or_else(|| "give ms from 0 to 1000".to_string())
}

impl RoleArgs {
    /// Source address number `index`, modulo their count.
    pub(crate) fn source_address(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.source).wrapping_add(index % self.src_ips.max(1)))
    }

    /// Where connection number `index` goes: the server's ports in turn, each for a round of the source addresses.
    pub(crate) fn destination(&self, index: u32) -> SocketAddrV4 {
        let port = index / self.src_ips.max(1) % u32::from(self.dst_ports.max(1));
        SocketAddrV4::new(*self.server.ip(), self.server.port().saturating_add(port as u16))
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

/// The CPUs of two ends, `names` for people: one each.
pub(crate) fn two_cpus(cpus: &[usize], names: [&str; 2]) -> Result<(usize, usize), Failure> {
    match *cpus {
        [a, b] if a != b => Ok((a, b)),
        [a, b] => Err(Failure::usage(format!("--cpus {a},{b}: {} and {} need a CPU each", names[0], names[1]))),
        _ => Err(Failure::usage("--cpus: give two, as in 0,1")),
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
    /// Native, and zero-copy or not at all.
    Zc,
}

impl Mode {
    /// The word for it on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::Skb => "skb",
            Mode::Drv => "drv",
            Mode::Zc => "zc",
        }
    }

    /// Whether a bind that got `obtained`, such as `drv copy`, is what was asked for.
    pub(crate) fn is_obtained(self, obtained: &str) -> bool {
        match self {
            Mode::Auto => true,
            Mode::Skb | Mode::Drv => obtained.starts_with(self.name()),
            Mode::Zc => obtained.ends_with("zero-copy"),
        }
    }

    /// The same, as the link takes it.
    pub(crate) fn for_xdp(self) -> xdp::Mode {
        match self {
            Mode::Auto => xdp::Mode::Auto,
            Mode::Skb => xdp::Mode::Skb,
            Mode::Drv | Mode::Zc => xdp::Mode::Drv,
        }
    }
}

/// The mode that a bind has got, in the words of [`Mode::is_obtained`].
pub(crate) fn obtained(attached: xdp::AttachedMode, zero_copy: bool) -> String {
    format!("{attached} {}", if zero_copy { "zero-copy" } else { "copy" })
}

/// Becomes true when standard input ends: the orchestrator has closed its end of the pipe, or is no more.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ties this process to its parent, pins it, and watches standard input.
    pub(crate) fn begin(cpu: usize) -> Result<Stop, Failure> {
        let stop = Stop::begin_unpinned()?;
        if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
            return Err(Failure::environment(format!(
                "cannot run on CPU {cpu}: it is offline or outside the cpuset; choose others with --cpus"
            )));
        }
        Ok(stop)
    }

    /// The same without a CPU of its own, where the shards are pinned.
    pub(crate) fn begin_unpinned() -> Result<Stop, Failure> {
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
    pub(crate) const NAMES: [&'static str; 8] =
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_kind_has_its_name() {
        assert_eq!(ErrorKind::NAMES[ErrorKind::Other as usize], "other");
        assert_eq!(ErrorKind::NAMES[ErrorKind::NoPort as usize], "no_port");
        assert_eq!(ErrorKind::NAMES[ErrorKind::Reset as usize], "reset");
    }

    #[test]
    fn shares_are_read_with_and_without_per_cent() {
        assert_eq!((share("0.01"), share("1%"), share("0")), (Ok(0.01), Ok(0.01), Ok(0.0)));
        for bad in ["2", "-1", "101%", "x", "NaN"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn modes_are_told_from_what_was_obtained() {
        assert!(Mode::Auto.is_obtained("skb copy") && Mode::Drv.is_obtained("drv copy"));
        assert!(!Mode::Zc.is_obtained("drv copy") && Mode::Zc.is_obtained("drv zero-copy"));
        assert!(!Mode::Drv.is_obtained("skb copy"));
    }
}
