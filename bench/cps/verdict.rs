//! The prediction before the measurement, and the verdict after it.

use super::args::{CpsArgs, RateChoice};
use super::plan::{Plan, TWO_MSL_S};
use super::report::{Blemish, Report, StackReport};
use super::result::{Busy, LimitedBy, Prediction, Verdict};
use crate::policy::Tw;
use crate::risk::model::Supply;
use crate::role::Mode;
use crate::waited;

/// What arithmetic says of the headline: the first policy asked for.
pub(crate) fn predict(args: &CpsArgs, plan: &Plan) -> Prediction {
    let tw = args.tw.first().copied().unwrap_or(Tw::Strict);
    let rate = if let RateChoice::At(rate) = args.rate { rate } else { plan.tuples.rate_max as f64 };
    let supply = supply(args, plan.tuples.count(), rate);
    let run_s = plan.warmup_s + plan.duration_s;
    of_supply(&supply, tw, run_s)
}

/// What 4-tuples there are, and how long they rest.
pub(crate) fn supply(args: &CpsArgs, tuples: u64, rate: f64) -> Supply {
    let two_msl_s = args.msl.map_or(TWO_MSL_S, |msl| 2.0 * msl);
    Supply { tuples, two_msl_s, delay_s: f64::from(args.tw_delay) / 1000.0, rate, ..Supply::default() }
}

/// The same for a run of `run_s`.
fn of_supply(supply: &Supply, tw: Tw, run_s: f64) -> Prediction {
    let policy = if tw == Tw::RstClose { Tw::None } else { tw }.policy();
    let predicted = supply.predict(policy);
    let expected = predicted.exhausted_after_s.filter(|at| *at < run_s).map(|_| {
        let series = supply.series(&[(policy, run_s.ceil() as u32)], 10);
        let tenths = ((run_s * 10.0) as usize).clamp(1, series.len());
        series[..tenths].iter().sum::<f64>() / run_s
    });
    let Supply { tuples, two_msl_s, rate, .. } = *supply;
    let text = match (predicted.ceiling, predicted.exhausted_after_s) {
        (None, _) => format!("{}: no TIME-WAIT, so no ceiling", tw.name()),
        (Some(ceiling), None) => format!(
            "{}: {tuples} 4-tuples / {:.0} s = {ceiling:.1}/s on average, more than the {rate:.0}/s tried",
            tw.name(),
            predicted.held_s
        ),
        (Some(ceiling), Some(at)) => format!(
            "{}: {tuples} 4-tuples / {:.0} s = {ceiling:.1}/s on average; at {rate:.0}/s they last {at:.2} s, and nothing is \
             free before {:.2} s",
            tw.name(),
            predicted.held_s,
            predicted.free_again_at_s.unwrap_or(predicted.held_s)
        ),
    };
    Prediction {
        policy: tw.name().to_string(),
        tuples,
        held_s: predicted.held_s,
        two_msl_s,
        rate,
        ceiling: predicted.ceiling,
        exhausted_after_s: predicted.exhausted_after_s,
        free_again_at_s: predicted.free_again_at_s,
        expected,
        text,
    }
}

/// What limited the headline: synfin where it was run, the kernel otherwise.
pub(crate) fn judge(args: &CpsArgs, report: &Report) -> Option<Verdict> {
    let (name, stack) = match (&report.stacks.synfin, &report.stacks.kernel) {
        (Some(synfin), _) => ("synfin", synfin),
        (None, kernel) => ("kernel", kernel.as_ref()?),
    };
    let (limited_by, why) = limit(args, report, stack);
    let text = format!("{name}: {:.0} connections/s, {why}", stack.connections_per_second);
    Some(Verdict { limited_by, text, prediction: report.prediction.clone(), untrue: untrue(args.mode, report) })
}

fn limit(args: &CpsArgs, report: &Report, stack: &StackReport) -> (LimitedBy, String) {
    let rate = stack.connections_per_second;
    if stack.refused > 0 {
        let why = format!("{} opens found no free port", stack.refused);
        return (LimitedBy::Ports, why);
    }
    if let RateChoice::At(asked) = args.rate
        && rate >= KEPT_UP * asked
    {
        return (LimitedBy::Rate, format!("of {asked:.0}/s asked for"));
    }
    let of_limit = report.limit.as_ref().and_then(|limit| limit.connections_per_second).map(|limit| rate / limit);
    if let Some(share) = of_limit.filter(|share| *share >= NEAR_LINK) {
        return (LimitedBy::Link, format!("{:.0} % of what the raw echo carries", 100.0 * share));
    }
    let Busy { client, server } = busy(stack);
    let shares = format!("client {:.0} % busy, server {:.0} %", 100.0 * client, 100.0 * server);
    if waited::told(&stack.counters).is_some() {
        return (LimitedBy::Others, format!("{shares}, and waiting for a CPU that something else had"));
    }
    match () {
        () if client.max(server) < NEAR_CPU => {
            (LimitedBy::Rate, format!("{shares}: more connections in flight would give more"))
        }
        () if client >= server => (LimitedBy::CpuClient, shares),
        () => (LimitedBy::CpuServer, shares),
    }
}

/// Means over the rounds.
fn busy(stack: &StackReport) -> Busy {
    let rounds = stack.runs.len().max(1) as f64;
    let sum = |of: fn(&Busy) -> f64| stack.runs.iter().map(|run| of(&run.busy)).sum::<f64>() / rounds;
    Busy { client: sum(|busy| busy.client), server: sum(|busy| busy.server) }
}

/// Why the figures must not be quoted.
fn untrue(mode: Mode, report: &Report) -> Vec<String> {
    let mut reasons = Vec::new();
    for Blemish { name, errors, time_wait_evicted } in report.blemishes() {
        if errors > 0 {
            reasons.push(format!("{name}: {errors} errors"));
        }
        if time_wait_evicted > 0 {
            reasons.push(format!("{name}: {time_wait_evicted} TIME-WAIT entries ended early or were never made"));
        }
    }
    for (name, stack) in report.named() {
        let dropped: u64 = stack.counters.iter().filter(|(name, _)| is_drop(name)).map(|(_, count)| count).sum();
        let frames = stack.segments_per_connection * stack.connections_total as f64;
        if dropped as f64 > DROPS_MAX * frames {
            reasons.push(format!("{name}: {dropped} frames were dropped"));
        }
        reasons.extend(waited::told(&stack.counters).map(|told| format!("{name}: {told}")));
    }
    if let Some(obtained) = report.mode.as_ref().filter(|obtained| !mode.is_obtained(obtained)) {
        reasons.push(format!("mode {} was asked for, {obtained} was obtained", mode.name()));
    }
    // A row by itself may have every 4-tuple in TIME-WAIT: that is what it shows.
    if report.sweep.as_ref().is_some_and(|sweep| sweep.rows.iter().all(|row| row.cps == 0.0)) {
        reasons.push("risk: no connection was completed in any row".to_string());
    }
    if report.sweep.as_ref().is_some_and(|sweep| !sweep.valid) {
        reasons.push("INVALID: the positive control took no old octet, so that none would be seen".to_string());
    }
    reasons
}

/// Frames lost between the wire and the stack.
fn is_drop(counter: &str) -> bool {
    ["xsk.rx_dropped", "xsk.rx_ring_full", "link.tx_full", "link.tx_kick_ebusy"]
        .iter()
        .any(|name| counter.ends_with(name))
}

/// Share of an open loop's rate that counts as all of it.
const KEPT_UP: f64 = 0.98;
/// Share of the echo from which on the link is the limit.
const NEAR_LINK: f64 = 0.9;
/// Share of its time from which on an end's CPU is the limit: the rest is between two looks at the ring.
const NEAR_CPU: f64 = 0.8;
/// Share of frames that may be dropped before the figure means something else.
const DROPS_MAX: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::super::args::tests::parse;
    use super::super::report::tests::report;
    use super::super::result::{Resident, Run};
    use super::*;
    use crate::waited::tests::of_ten_seconds;

    #[test]
    fn one_pair_of_addresses_is_predicted_to_run_out() {
        let args = parse(&["--ports", "32768-60999", "--src-ips", "1", "--rate", "200000"]).expect("good");
        let prediction = predict(&args, &Plan::new(&args).expect("plan"));
        assert!((prediction.ceiling.expect("one") - 470.5).abs() < 0.1);
        assert!((prediction.exhausted_after_s.expect("runs out") - 0.14).abs() < 0.01);
        assert!((prediction.expected.expect("a figure") - 28_232.0 / 3.0).abs() < 10.0, "{prediction:?}");
        let enough = parse(&[]).expect("good");
        assert_eq!(predict(&enough, &Plan::new(&enough).expect("plan")).expected, None);
    }

    #[test]
    fn verdict_names_what_limits() {
        let word = |options: &[&str], change: fn(&mut Report)| {
            let mut report = report();
            let synfin = report.stacks.synfin.as_mut().expect("run");
            synfin.runs = vec![Run { busy: Busy { client: 0.99, server: 0.7 }, ..Run::default() }];
            change(&mut report);
            let args = parse(options).expect("good");
            judge(&args, &report).expect("one").limited_by
        };
        assert_eq!(word(&[], |_| {}), LimitedBy::CpuClient);
        assert_eq!(word(&[], |report| report.stacks.synfin.as_mut().expect("run").refused = 9), LimitedBy::Ports);
        assert_eq!(word(&["--rate", "150000"], |_| {}), LimitedBy::Rate);
        let link = |report: &mut Report| {
            report.limit.as_mut().expect("echo").connections_per_second = Some(160_000.0);
        };
        assert_eq!(word(&[], link), LimitedBy::Link);
        let idle = |report: &mut Report| report.stacks.synfin.as_mut().expect("run").runs.clear();
        assert_eq!(word(&[], idle), LimitedBy::Rate);
        let crowded = |report: &mut Report| {
            let counters = &mut report.stacks.synfin.as_mut().expect("run").counters;
            counters.extend(of_ten_seconds("client.", 3000));
        };
        assert_eq!(word(&[], crowded), LimitedBy::Others);
    }

    #[test]
    fn drops_and_another_mode_make_it_untrue() {
        let mut report = report();
        report.mode = Some("skb copy".into());
        report.stacks.kernel = None;
        report.stacks.synfin.as_mut().expect("run").errors = 0;
        assert_eq!(untrue(Mode::Auto, &report), Vec::<String>::new());
        assert_eq!(untrue(Mode::Zc, &report).len(), 1);
        report.stacks.synfin.as_mut().expect("run").counters.insert("client.xsk.rx_dropped".into(), 1 << 30);
        assert!(untrue(Mode::Auto, &report)[0].contains("dropped"));
    }

    /// On a crowded machine the kernel's rate is too low as well, and the ratio is anything.
    #[test]
    fn waiting_for_a_cpu_makes_it_untrue() {
        for name in ["synfin", "kernel"] {
            let mut report = report();
            (report.stacks.synfin.as_mut().expect("run").errors, report.stacks.kernel.as_mut().expect("run").errors) =
                (0, 0);
            assert_eq!(untrue(Mode::Auto, &report), Vec::<String>::new());
            let stacks = &mut report.stacks;
            let stack = if name == "synfin" { &mut stacks.synfin } else { &mut stacks.kernel };
            stack.as_mut().expect("run").counters.extend(of_ten_seconds("server.", 4000));
            let told = format!("{name}: waited 40 % of the time for a CPU: something else runs there");
            assert_eq!(untrue(Mode::Auto, &report), [told]);
        }
    }

    #[test]
    fn every_part_of_the_run_can_make_it_untrue() {
        let mut report = report();
        let mut other = report.stacks.kernel.take().expect("was run");
        report.stacks.synfin.as_mut().expect("was run").errors = 0;
        (other.errors, other.time_wait_evicted) = (2, 3);
        report.kernel_reuse = Some(other);
        report.resident = Some(Resident { errors: 1, ..Resident::default() });
        let reasons = untrue(Mode::Auto, &report);
        assert!(
            reasons[0] == "kernel-reuse: 2 errors" && reasons[1].starts_with("kernel-reuse: 3 TIME-WAIT"),
            "{reasons:?}"
        );
        assert!(reasons[2].ends_with("beforehand: 1 errors") && reasons.len() == 3, "{reasons:?}");
    }
}
