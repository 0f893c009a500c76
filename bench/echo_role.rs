//! The raw echo as roles: what it gives is the limit that connections per second are compared with.

use crate::echo::{Control, EchoConfig, EchoResult, run_generator, run_reflector};
use crate::failure::Failure;
use crate::lines::{Final, Ready};
use crate::proc::Threads;
use crate::role::{Mode, RoleArgs, Stop, obtained};
use crate::waited;
use std::time::Duration;
use synfin::link::xdp::XdpError;

/// Sends back what arrives until it is stopped.
pub(crate) fn reflect(args: &RoleArgs) -> Result<Final, Failure> {
    run(args, REFLECTOR_MAX, run_reflector)
}

/// Sends, and counts what comes back.
pub(crate) fn generate(args: &RoleArgs) -> Result<Final, Failure> {
    run(args, Duration::from_millis(args.duration_ms), run_generator)
}

impl Control for Stop {
    fn ready(&self) {
        waited::ready(Ready::default(), Some(Threads::Main));
    }

    fn stops(&self) -> bool {
        self.asked()
    }
}

fn run(args: &RoleArgs, duration: Duration, end: End) -> Result<Final, Failure> {
    let stop = Stop::begin(args.cpu)?;
    let config = EchoConfig {
        interface: args.interface.clone(),
        queue: 0,
        mode: args.mode.for_xdp(),
        zero_copy: args.mode == Mode::Zc,
        batch: args.batch as usize,
        window: u64::from(args.conns),
        duration,
    };
    let result = end(&config, &stop).map_err(|error| Failure::environment(error.to_string()))?;
    Ok(Final {
        seconds: duration.as_secs_f64(),
        frames_total: result.sent + result.received,
        mode: Some(obtained(result.mode_obtained, result.zero_copy)),
        frames_per_second: result.frames_per_second,
        counters: [("lost".to_string(), result.lost)].into(),
        ..Final::default()
    })
}

/// One end of the echo.
type End = fn(&EchoConfig, &dyn Control) -> Result<EchoResult, XdpError>;

/// Longest time that a reflector runs without being stopped.
const REFLECTOR_MAX: Duration = Duration::from_secs(24 * 3600);
