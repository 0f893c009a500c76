//! The collapse and the recovery on the wire: the policy is switched in the running stack while ports run out.

use super::args::{CpsArgs, RateChoice};
use super::live::Live;
use super::plan::{TWO_MSL_S, Tuples};
use super::result::{Phase, Phases};
use super::rounds::{Bench, Spec, Stack};
use super::series;
use crate::failure::Failure;
use crate::policy::{self, PortRange, Tw};
use crate::risk::model::Supply;
use synfin::limits::PORTS;

/// Runs synfin, and the kernel beside it, through the phases at a rate that takes the last 4-tuple after 5 s.
pub(crate) fn measure(
    bench: &Bench<'_>,
    args: &CpsArgs,
    phases: &policy::Phases,
    live: &mut Live,
) -> Result<Phases, Failure> {
    let (spec, supply) = spec(bench, args, phases);
    let mut run = |stack: Stack, what: &str| -> Result<_, Failure> {
        if !is_run(args, stack) {
            return Ok(None);
        }
        live.doing(format!("phases {what}"), "connections/s");
        let round = bench.round(stack, &spec, live)?;
        Ok(Some(series::run(1, &round, spec.tuples.count())))
    };
    let synfin = run(Stack::Synfin, "synfin")?;
    let kernel = run(Stack::Kernel, "kernel")?;
    Ok(Phases { synfin, kernel, ..predict(&supply, phases) })
}

/// Frames can be lost or delayed on purpose by synfin's side only: with faults there is no kernel to be drawn beside it.
fn is_run(args: &CpsArgs, stack: Stack) -> bool {
    args.stack.contains(&stack) && (stack == Stack::Synfin || !args.faults.any())
}

/// What the model says alone.
pub(crate) fn predict(supply: &Supply, phases: &policy::Phases) -> Phases {
    let tenths = |supply: &Supply| {
        let opened = supply.series(&phases.0, 10);
        opened.into_iter().enumerate().map(|(tenth, opened)| ((tenth + 1) as f64 / 10.0, 10.0 * opened)).collect()
    };
    let mut from_s = 0.0;
    let each = phases.0.iter().map(|(policy, seconds)| {
        let phase = Phase { policy: policy.name().to_string(), from_s, to_s: from_s + f64::from(*seconds) };
        from_s = phase.to_s;
        phase
    });
    Phases {
        rate: supply.rate,
        tuples: supply.tuples,
        two_msl_s: supply.two_msl_s,
        delay_s: supply.delay_s,
        phases: each.collect(),
        predicted: tenths(supply),
        predicted_kernel: tenths(&Supply { two_msl_s: TWO_MSL_S, delay_s: KERNEL_DELAY_S, ..*supply }),
        synfin: None,
        kernel: None,
    }
}

/// The same 4-tuples and pace for a run and for the model.
pub(crate) fn supply(args: &CpsArgs) -> (Supply, PortRange) {
    let ports = if args.ports == PortRange::ALL { PortRange { first: PORTS.0, last: PORTS.1 } } else { args.ports };
    let tuples = u64::from(ports.count()) * u64::from(args.src_ips.unwrap_or(1)) * u64::from(args.dst_ports);
    let rate = if let RateChoice::At(rate) = args.rate { rate } else { (tuples as f64 / EXHAUSTED_AFTER_S).max(1.0) };
    let two_msl_s = 2.0 * args.msl.unwrap_or(MSL_S);
    (Supply { tuples, two_msl_s, delay_s: f64::from(args.tw_delay) / 1000.0, rate, ..Supply::default() }, ports)
}

fn spec(bench: &Bench<'_>, args: &CpsArgs, phases: &policy::Phases) -> (Spec, Supply) {
    let (supply, ports) = supply(args);
    let tuples = Tuples {
        ports: u64::from(ports.count()),
        sources: u64::from(args.src_ips.unwrap_or(1)),
        destinations: u64::from(args.dst_ports),
        rate_max: supply.rate as u64,
        held_s: supply.two_msl_s,
    };
    let spec = Spec {
        conns: IN_FLIGHT,
        duration_s: f64::from(phases.seconds()),
        warmup_s: 0.0,
        rate: supply.rate,
        tuples,
        ports,
        msl_ms: (supply.two_msl_s * 500.0) as u32,
        phases: Some(phases.clone()),
        ..Spec::new(args, bench.plan, Tw::Strict)
    };
    (spec, supply)
}

/// When the 4-tuples run out, s.
const EXHAUSTED_AFTER_S: f64 = 5.0;
/// MSL of the picture unless one is given, s.
const MSL_S: f64 = 3.5;
/// How long Linux lets a 4-tuple rest at least with tcp_tw_reuse 1, s.
const KERNEL_DELAY_S: f64 = 1.0;
/// Connections in flight at most: more than wait at any time, so that nobody is late for want of a place.
const IN_FLIGHT: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::super::args::tests::parse;
    use super::*;

    #[test]
    fn no_kernel_without_faults_is_drawn_beside_synfin_with_them() {
        let run = |options: &[&str]| {
            let args = parse(options).expect("good");
            [Stack::Synfin, Stack::Kernel].map(|stack| is_run(&args, stack))
        };
        assert_eq!(run(&["--phases", "strict:9s"]), [true, true]);
        assert_eq!(run(&["--phases", "strict:9s", "--loss", "0.01"]), [true, false]);
        assert_eq!(run(&["--stack", "kernel"]), [false, true]);
    }
}
