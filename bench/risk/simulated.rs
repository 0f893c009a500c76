//! The simulated sweep and phases in the shape of the measured ones, for `--sim`.

use super::model::Supply;
use super::rate::Rate;
use super::report::Report;
use super::sweep::{Plan, Played, play, play_aimed};
use super::workload::{End, Isns};
use super::{QUICK_INCARNATIONS, phases};
use crate::cps::machine::Machine;
use crate::cps::report::{Flags, Report as CpsReport};
use crate::cps::result::{Faults, Moment, Run, Sweep, SweepRow};
use crate::failure::Failure;
use crate::policy;
use synfin::tcp::time_wait::Policy;

/// A small sweep over every policy in virtual time.
pub(crate) fn sweep(seed: u64) -> Result<Sweep, Failure> {
    let aimed = play_aimed(seed).map_err(Failure::failed)?;
    let plan = Plan { policies: Policy::ALL.to_vec(), incarnations: QUICK_INCARNATIONS, seed };
    let played = play(&plan).map_err(Failure::failed)?;
    Ok(shaped(&aimed, &played))
}

/// The result that `risk --json` has written, in the shape of a run's: what of it a page can show. `None` if it is none.
pub(crate) fn from_risk(raw: &str) -> Option<CpsReport> {
    let of_risk: Report = serde_json::from_str(raw).ok()?;
    let rows = |rows: &[super::report::Row]| rows.iter().filter_map(super::report::Row::played).collect::<Vec<_>>();
    let (aimed, played) = (rows(&of_risk.aimed), rows(&of_risk.rows));
    let mut report = CpsReport::new(Machine::read(), Flags::default(), &[], &[], &[]);
    report.measurement = false;
    report.seed = of_risk.seed;
    report.command = format!("synfin-bench risk --incarnations {} --seed {}", of_risk.incarnations, of_risk.seed);
    report.sweep = Some(Sweep { valid: of_risk.valid, ..shaped(&aimed, &played) });
    Some(report)
}

/// The phases in virtual time, a moment per second.
pub(crate) fn collapse(supply: &Supply, phases: &policy::Phases) -> Result<Run, Failure> {
    let seconds = phases::play(supply, phases).map_err(Failure::failed)?;
    let moment = |second: &phases::Second| Moment {
        t: f64::from(second.second),
        cps: second.opened as f64,
        failed: second.refused as f64,
        time_wait: second.time_wait,
        free_ports: second.ports_free,
        rss: (0, 0),
    };
    Ok(Run { round: 1, series: seconds.iter().map(moment).collect(), ..Run::default() })
}

/// What was played in the shape of what is measured; the last of `aimed` is the positive control.
fn shaped(aimed: &[Played], played: &[Played]) -> Sweep {
    let control = aimed.last().map(row);
    Sweep {
        valid: control.as_ref().is_some_and(|control| control.old_bytes_accepted > 0),
        tuples: super::world::TUPLES as u64,
        two_msl_s: 2.0 * f64::from(synfin::limits::MSL_MS) / 1000.0,
        faults: Faults { inject_old: true, ..Faults::default() },
        rows: played.iter().map(row).collect(),
        control,
    }
}

fn row(played: &Played) -> SweepRow {
    let (workload, tally) = (&played.cell.workload, &played.tally);
    let seconds = tally.took_us as f64 / 1e6;
    let isns = match workload.isns {
        Isns::Clocked => "clocked",
        Isns::Random(_) => "random",
        Isns::Aimed => "aimed",
    };
    SweepRow {
        server: "synfin".into(),
        policy: played.cell.policy.name().into(),
        closer: if workload.closer == End::Client { "client" } else { "server" }.into(),
        timestamps: workload.timestamps,
        isns: isns.into(),
        rst_ends_time_wait: played.cell.rst_ends_time_wait,
        payload: (workload.request_bytes(), workload.answer_bytes()),
        seconds,
        cps: tally.incarnations as f64 / seconds.max(f64::MIN_POSITIVE),
        incarnations: tally.incarnations,
        errors: tally.client.reset + tally.client.timed_out,
        syn_retransmits: tally.retransmitted_syn,
        aimed: tally.passed.aimed.iter().sum(),
        incarnations_aimed: tally.passed.incarnations_aimed,
        reached_a_window: tally.passed.reached_a_window,
        old_bytes_accepted: tally.old_bytes,
        incarnations_with_old_bytes: tally.incarnations_with_old_bytes,
        upper_bound: (tally.passed.incarnations_aimed > 0)
            .then(|| Rate::of(tally.incarnations_with_old_bytes, tally.passed.incarnations_aimed).high),
        ..SweepRow::default()
    }
}
