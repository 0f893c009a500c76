//! From the options to a running stack and back: signals, capture, printing, the end.

use super::arguments::{Common, PassiveOpens};
use super::control::{Control, Subject};
use super::output::{self, say};
use super::{Exit, Failure};
use crate::limits::Limits;
use crate::link::capture::CaptureConfig;
use crate::link::xdp::Interface;
use crate::observe::capture::{CaptureFile, CaptureWriter};
use crate::observe::print;
use crate::shard::{Policies, ShardConfig};
use crate::stack::{HalfOpenReport, Service, SharedPorts, Stack, StackConfig, StackError, StackReport, check_idle};
use crate::tcp::Settings;
use crate::tcp::time_wait::Policy;
use crate::tick::Now;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A stack, the signals that steer it, and its capture.
pub(super) struct Session<S> {
    stack: Stack<S>,
    signals: Signals,
    control: Option<Control>,
    capture: Option<CaptureWriter>,
    check: PolicyCheck,
    json: bool,
}

/// Whether other policies may come into force, or what speaks against them.
type PolicyCheck = Box<dyn Fn(&Policies) -> Result<(), String>>;

/// Flags that signals set.
struct Signals {
    end: Arc<AtomicBool>,
    print: Arc<AtomicBool>,
    /// The stack has ended: a signal now ends the process, which only writes.
    over: Arc<AtomicBool>,
}

impl<S: Service> Session<S> {
    /// Starts the stack that the options describe; of addresses that the kernel keeps it has `ports`.
    pub(super) fn start(
        common: &Common,
        passive: PassiveOpens,
        ports: SharedPorts,
        make: impl Fn(usize) -> S + Send + Sync + 'static,
    ) -> Result<Session<S>, Failure> {
        Session::start_within(common, passive, ports, |_| (), make)
    }

    /// As [`Session::start`], with other limits of each shard.
    pub(super) fn start_within(
        common: &Common,
        passive: PassiveOpens,
        ports: SharedPorts,
        change: impl FnOnce(&mut Limits),
        make: impl Fn(usize) -> S + Send + Sync + 'static,
    ) -> Result<Session<S>, Failure> {
        let signals = Signals::register()?;
        let control = common.control.as_deref().map(Control::bind).transpose()?;
        let mut config = config(common, passive, ports)?;
        change(&mut config.shard.limits);
        let mut stack = Stack::start(&config, make)?;
        let readers = stack.take_capture_readers();
        let capture = match &common.capture {
            Some(path) => {
                Some(CaptureFile::create(path)?.write(&common.interfaces.names(), readers, stack.running().now())?)
            }
            None => None,
        };
        Ok(Session { stack, signals, control, capture, check: Box::new(|_| Ok(())), json: common.json })
    }

    /// From now on the control socket refuses policies that `check` refuses: what a start would not take must not come into force by a
    /// way around it.
    pub(super) fn check_policies(&mut self, check: impl Fn(&Policies) -> Result<(), String> + 'static) {
        self.check = Box::new(check);
    }

    /// The time that the shards see.
    pub(super) fn now(&self) -> Now {
        self.stack.running().now()
    }

    /// How the XDP program is attached to each interface.
    pub(super) fn mode(&self) -> String {
        self.stack.modes().map(|mode| mode.to_string()).collect::<Vec<_>>().join(",")
    }

    /// Waits until a signal or the control socket asks to end, every shard has ended by itself, or `within` has passed;
    /// prints the state when asked to. `meanwhile` is called every few milliseconds. Returns whether the shards ended
    /// by themselves.
    pub(super) fn wait(&mut self, within: Option<Duration>, mut meanwhile: impl FnMut()) -> bool {
        let began = Instant::now();
        loop {
            meanwhile();
            if self.stack.running().is_finished() {
                return true;
            }
            if self.signals.end.load(Ordering::Relaxed) || within.is_some_and(|within| began.elapsed() >= within) {
                return false;
            }
            if let Some(control) = &mut self.control {
                control.serve(&Controlled { stack: &self.stack, signals: &self.signals, check: &self.check });
            }
            if self.signals.print.swap(false, Ordering::Relaxed) {
                self.print(&self.stack.report());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Drains for at most `within`, prints the state and ends; returns the applications. Meanwhile the control socket
    /// and the signals are served; who asks to end once more ends it at once. A signal after that, while somebody reads
    /// slowly what is left to be written, ends the process.
    pub(super) fn end(mut self, within: Duration) -> Result<Vec<S>, Failure> {
        if self.signals.end.swap(false, Ordering::Relaxed) {
            output::hurry();
        }
        self.stack.running().drain(within);
        if !self.wait(None, || {}) {
            self.stack.running().drain(Duration::ZERO);
        }
        let Session { stack, signals, capture, json, .. } = self;
        let ended = stack.join();
        signals.over.store(true, Ordering::SeqCst);
        // One that came since the last look has ended nothing.
        if signals.end.load(Ordering::SeqCst) {
            output::hurry();
        }
        let captured = capture.map(CaptureWriter::finish);
        let (services, report) = ended?;
        print_report(&report, json);
        if let Some(captured) = captured {
            let totals = captured?;
            eprintln!("capture: {} frames written, {} dropped", totals.written, totals.dropped);
        }
        Ok(services)
    }

    fn print(&self, report: &StackReport) {
        print_report(report, self.json);
    }
}

/// What the control socket reaches.
struct Controlled<'a, S> {
    stack: &'a Stack<S>,
    signals: &'a Signals,
    check: &'a PolicyCheck,
}

impl<S: Service> Subject for Controlled<'_, S> {
    fn status(&self) -> serde_json::Value {
        print::json(&self.stack.report())
    }

    fn half_open(&self) -> HalfOpenReport {
        self.stack.running().half_open()
    }

    fn policies(&self) -> Policies {
        self.stack.running().policies()
    }

    fn set_policies(&self, policies: &Policies) -> Result<(), String> {
        (self.check)(policies)?;
        self.stack.running().set_policies(policies).map_err(|error| error.to_string())
    }

    fn drain(&self) {
        self.signals.end.store(true, Ordering::Relaxed);
    }
}

impl Signals {
    fn register() -> Result<Signals, Failure> {
        let signals = Signals { end: Arc::default(), print: Arc::default(), over: Arc::default() };
        let failed = |signal: i32, error: std::io::Error| {
            let message = format!("signal {signal}: cannot be handled: {error}; check the sandbox's seccomp rules");
            Failure::new(Exit::Environment, message)
        };
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&signals.over))
                .map_err(|error| failed(signal, error))?;
        }
        for (signal, flag) in [(SIGTERM, &signals.end), (SIGINT, &signals.end), (SIGUSR1, &signals.print)] {
            signal_hook::flag::register(signal, Arc::clone(flag)).map_err(|error| failed(signal, error))?;
        }
        Ok(signals)
    }
}

fn print_report(report: &StackReport, json: bool) {
    if json { say(&print::json(report).to_string()) } else { say(print::text(report).trim_end()) }
}

/// How many shards the options ask for.
pub(super) fn shards(common: &Common) -> Result<u32, Failure> {
    match common.queues {
        Some(queues) => Ok(queues),
        None => {
            let first = common.interfaces.names().first().copied().unwrap_or_default();
            Ok(Interface::query(first).map_err(StackError::from)?.queues.max(1))
        }
    }
}

/// The limits of each of `shards` shards: the whole process keeps to the memory of one shard's defaults.
pub(super) fn limits(common: &Common, shards: u32) -> Limits {
    let whole = Limits::default();
    Limits {
        tcbs_max: (whole.tcbs_max / shards).max(1024),
        time_wait_max: common.time_wait_max.div_ceil(shards),
        half_open_max: (whole.half_open_max / shards).max(256),
        cookies_remembered_max: (whole.cookies_remembered_max / shards).max(1024),
        chunks_max: (whole.chunks_max / shards).max(1024),
        ..whole
    }
}

fn config(common: &Common, passive: PassiveOpens, ports: SharedPorts) -> Result<StackConfig, Failure> {
    check_idle(common.idle, common.share_cores)?;
    let cores = common.cpus.as_ref().map(|cpus| cpus.0.clone()).unwrap_or_default();
    let mut placed = common.interfaces.placed().map_err(|problem| Failure::new(Exit::Usage, problem))?;
    let first = placed.remove(0);
    let mut shard = ShardConfig {
        msl_ms: common.msl * 1000,
        quiet_time_ms: common.quiet_time * 1000,
        settings: Settings {
            time_wait_policy: common.time_wait,
            time_wait_delay_ms: common.time_wait_delay,
            time_wait_full: common.time_wait_full,
            congestion: common.congestion,
            rst_ends_time_wait: common.rfc1337 == "close",
            syn_cookies: passive.syn_cookies,
            syn_ack_retries: passive.syn_ack_retries,
            ..Settings::default()
        },
        ..ShardConfig::default()
    }
    .with_attachments(vec![first.attachment]);
    if common.time_wait == Policy::None {
        eprintln!("{}", print::NO_TIME_WAIT);
    }
    shard.limits = limits(common, shards(common)?);
    let mut config = StackConfig {
        queues: common.queues.map(|queues| queues as usize),
        cores,
        mode: common.mode,
        shard,
        share_cores: common.share_cores,
        idle: common.idle,
        capture: common.capture.as_ref().map(|_| CaptureConfig::default()),
        beside: placed.into_iter().map(|placed| (placed.name, placed.attachment)).collect(),
        ..StackConfig::new(&first.name)
    };
    common.network.apply(&mut config, ports);
    Ok(config)
}

/// How often signals are looked at.
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
