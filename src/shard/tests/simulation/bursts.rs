//! Burst 64 behaves as burst 1: every seed is run with both, end to end and through a relay, and how every connection has ended at each end
//! is compared.
//!
//! On a wire that loses frames for ever luck decides how some end, and a burst moves what luck falls on. So a seed whose own wire
//! has lost something is run again with both bursts over a fair one, where the fate of a frame follows from the frame and
//! whatever is sent for the third time passes. Not compared there is what hangs on when a frame came, each in [`outcomes`] and [`is_left_out`].

use super::*;

/// Runs the plan over its own wire with both bursts, then over a fair one if that lost something.
pub(in crate::shard::tests) fn alike(plan: &Plan, run: fn(&Plan, u32) -> Report) -> Totals {
    let [one, many] = both(plan, run);
    let totals = Totals { retransmitted_by_one: one.retransmitted, ..Totals::of(&many) };
    if !(one.whole && many.whole) {
        return totals.plus(alike_over(&plan.clone().fairly(), run));
    }
    if keeps_order(plan) {
        assert_eq!((one.retransmitted, many.retransmitted), (0, 0), "sent again although everything came in order");
    }
    totals.plus(compare(plan, [&one, &many]))
}

/// All seeds together: there was something to compare, and what burst 64 loses within a turn it would have to send again.
pub(in crate::shard::tests) fn assert_compared(totals: &Totals) {
    assert!(totals.together * 10 > totals.segments, "few frames came with others: {totals:?}");
    let endings = totals.compared + 2 * totals.left_out;
    assert!(endings >= 2 * totals.connections, "not every connection was compared: {totals:?}");
    assert!(totals.left_out * 1000 <= totals.connections, "too many were left out: {totals:?}");
    let more = totals.retransmitted.abs_diff(totals.retransmitted_by_one);
    assert!(more * 10 <= totals.retransmitted_by_one, "one burst sends more again than the other: {totals:?}");
}

fn alike_over(fair: &Plan, run: fn(&Plan, u32) -> Report) -> Totals {
    let [one, many] = both(fair, run);
    let totals = compare(fair, [&one, &many]);
    if one.pressed + many.pressed == 0 {
        return totals;
    }
    // Those that were left out are compared where no chunk is short.
    let roomy = fair.clone().with_chunks_for_all();
    let [one, many] = both(&roomy, run);
    assert_eq!(one.pressed + many.pressed, 0, "chunks for all are short");
    totals.plus(compare(&roomy, [&one, &many]))
}

fn both(plan: &Plan, run: fn(&Plan, u32) -> Report) -> [Report; 2] {
    [1, 64].map(|burst| run(plan, burst))
}

/// Nothing overtakes anything, and nothing comes twice.
fn keeps_order(plan: &Plan) -> bool {
    let FaultConfig { duplication, reordering, late_duplication, delay_us, .. } = plan.faults;
    [duplication, reordering, late_duplication] == [0.0; 3] && delay_us.0 == delay_us.1
}

fn compare(plan: &Plan, reports: [&Report; 2]) -> Totals {
    let left_out = |number: usize| is_left_out(reports, number);
    let [one, many] = reports.map(|report| outcomes(plan, report, &left_out));
    assert_eq!(one, many, "left with burst 1, right with burst 64");
    Totals {
        compared: many.iter().map(|ends| ends.len() as u64).sum(),
        left_out: (0..plan.jobs.len()).filter(|&number| left_out(number)).count() as u64,
        ..Totals::default()
    }
}

/// With one of the bursts the connection was ended for want of chunks, which falls on who has stalled for longest by then (T03),
/// or before the application of one end had heard of it, which falls on who has waited for long enough (B11).
fn is_left_out(reports: [&Report; 2], number: usize) -> bool {
    reports.iter().any(|report| report.was_pressed(number) || report.was_never_met(number))
}

/// How connections have ended at each end, by job: who opened, why, and how many bytes had come.
fn outcomes(plan: &Plan, report: &Report, is_left_out: &impl Fn(usize) -> bool) -> [Vec<Ending>; 2] {
    let mut ends = report.ends.clone();
    for end in &mut ends {
        end.retain(|ending| !ending.job.is_some_and(is_left_out));
        for ending in end {
            let is_aborted = ending.job.is_some_and(|number| plan.jobs[number].closing == Closing::Abort);
            if !is_aborted || !matches!(ending.reason, CloseReason::Aborted | CloseReason::Reset) {
                continue;
            }
            // How much has come by an abort follows from when it is.
            ending.received = 0;
            // A RST is sent once, so that a fair wire may lose it: who has nothing to send then waits, and gives up after IDLE_MS.
            if plan.fair && !ending.opened {
                ending.reason = CloseReason::Reset;
            }
        }
    }
    ends
}
