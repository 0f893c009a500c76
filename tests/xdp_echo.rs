//! The raw echo of the benchmark over a veth pair. `SYNFIN_ECHO_MS` sets how long each combination runs.
mod common;
#[path = "../bench/echo.rs"]
mod echo;

use common::{INTERFACE, VethPair, privileged_trial};
use echo::{Control, EchoConfig, run_generator, run_reflector};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;
use synfin::link::xdp::{AttachedMode, Mode};

/// Both ends run for as long as their configuration says.
struct Uncontrolled;

impl Control for Uncontrolled {
    fn ready(&self) {}

    fn stops(&self) -> bool {
        false
    }
}

fn main() -> ExitCode {
    let trials = vec![
        privileged_trial("skb_echo_returns_what_was_sent", || echoes(Mode::Skb, AttachedMode::Skb)),
        privileged_trial("drv_echo_returns_what_was_sent", || echoes(Mode::Drv, AttachedMode::Drv)),
    ];
    common::run(trials).exit_code()
}

fn echoes(mode: Mode, obtained: AttachedMode) {
    let duration = std::env::var("SYNFIN_ECHO_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(400);
    let duration = Duration::from_millis(duration);
    let pair = VethPair::new(1);
    for (batch, window) in [(16, 64), (64, 64), (64, 128), (64, 192), (256, 256)] {
        let config =
            EchoConfig { interface: INTERFACE.into(), queue: 0, mode, zero_copy: false, batch, window, duration };
        // The reflector is there before the generator starts and after it has ended, on a busy machine too.
        let reflector = EchoConfig { duration: duration + Duration::from_millis(800), ..config.clone() };
        let (generated, reflected) = thread::scope(|scope| {
            let reflector = scope.spawn(|| pair.right.enter(|| run_reflector(&reflector, &Uncontrolled).unwrap()));
            thread::sleep(Duration::from_millis(400));
            let generated = pair.left.enter(|| run_generator(&config, &Uncontrolled).unwrap());
            (generated, reflector.join().unwrap())
        });
        eprintln!(
            "{mode:?} batch {batch} window {window}: {:.3} M frames/s, {} lost",
            generated.frames_per_second / 1e6,
            generated.lost
        );
        // A veth end has no zero-copy.
        assert_eq!((generated.mode_obtained, generated.zero_copy), (obtained, false));
        assert!(generated.received > 0, "{generated:?}");
        assert!(generated.sent <= generated.received + generated.lost + window, "{generated:?}");
        assert!(reflected.received >= generated.received && reflected.sent >= generated.received, "{reflected:?}");
    }
}
