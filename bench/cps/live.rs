//! The line that says how it goes, once a second, and the signals that end it.

use crate::failure::Failure;
use crate::lines::Second;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The live line.
pub(crate) struct Live {
    interrupted: Arc<AtomicBool>,
    started: Instant,
    shown: Instant,
    doing: String,
    unit: &'static str,
    /// The last second of each shard.
    last: BTreeMap<usize, Second>,
    on_terminal: bool,
}

impl Live {
    /// Begins, and from now on takes SIGINT, SIGTERM and SIGHUP as a request to stop.
    pub(crate) fn begin() -> Result<Live, Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
            let registered = signal_hook::flag::register(signal, interrupted.clone());
            registered.map_err(|error| Failure::failed(format!("cannot take signal {signal}: {error}")))?;
        }
        let now = Instant::now();
        let on_terminal = std::io::stderr().is_terminal();
        Ok(Live {
            interrupted,
            started: now,
            shown: now,
            doing: String::new(),
            unit: "",
            last: BTreeMap::new(),
            on_terminal,
        })
    }

    /// What is being run now, and what its rate counts.
    pub(crate) fn doing(&mut self, what: String, unit: &'static str) {
        (self.doing, self.unit, self.last) = (what, unit, BTreeMap::new());
    }

    /// A role's second.
    pub(crate) fn second(&mut self, second: &Second) {
        self.last.insert(second.shard, second.clone());
    }

    /// Shows the line when a second is over; an error when the user wants to stop.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        if self.interrupted.load(Ordering::Relaxed) {
            self.clear();
            return Err(Failure::interrupted());
        }
        let now = Instant::now();
        if now.duration_since(self.shown) >= Duration::from_secs(1) {
            self.shown = now;
            self.show(now);
        }
        Ok(())
    }

    /// The user's wish to stop was heard: what follows is the end, and no signal cuts it short. One ^C may come as several: the
    /// terminal's SIGINT, and the SIGTERM of a script that had it too.
    pub(crate) fn go_on(&mut self) {
        self.interrupted = Arc::default();
    }

    /// Takes the line away, so that something else can be printed.
    pub(crate) fn clear(&self) {
        if self.on_terminal {
            eprint!("\r\x1b[K");
        }
    }

    fn show(&self, now: Instant) {
        let elapsed = now.duration_since(self.started).as_secs();
        let seconds = || self.last.values();
        let (rate, errors): (f64, u64) =
            (seconds().map(|second| second.per_second).sum(), seconds().map(|second| second.errors).sum());
        let rate =
            if self.last.is_empty() { "...".to_string() } else { format!("{rate:.0} {}, errors {errors}", self.unit) };
        let line = format!("{elapsed:3} s  {}: {rate}", self.doing);
        if self.on_terminal {
            eprint!("\r\x1b[K{line}");
        } else {
            eprintln!("{line}");
        }
        let _ = std::io::stderr().flush();
    }
}
