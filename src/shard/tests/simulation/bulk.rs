//! One connection with much to say, both ways, over a wire that loses.

use super::*;
use crate::tcp::Settings;
use plan::Job;

/// What a transfer took.
#[derive(Clone, Copy, Debug, Default)]
struct Transfer {
    virtual_us: u64,
    segments: u64,
    retransmitted: u64,
    kept: u64,
    time_outs: u64,
    probes: u64,
}

impl Transfer {
    fn plus(self, other: Transfer) -> Transfer {
        Transfer {
            virtual_us: self.virtual_us + other.virtual_us,
            segments: self.segments + other.segments,
            retransmitted: self.retransmitted + other.retransmitted,
            kept: self.kept + other.kept,
            time_outs: self.time_outs + other.time_outs,
            probes: self.probes + other.probes,
        }
    }
}

/// So many bytes up and down over a wire with this round trip that loses this share of its frames. With burst 1 it ends alike, and
/// where nothing is lost nothing is sent again; the figures are those of burst 64.
fn transfer((up, down): (u32, u32), loss: f64, round_trip_us: u64, settings: Settings, seed: u64) -> Transfer {
    let plan = plan((up, down), loss, round_trip_us, settings, seed);
    let [one, many] = [1, 64].map(|burst| transfer_planned(&plan, burst));
    assert!(loss > 0.0 || one.retransmitted + many.retransmitted == 0, "nothing is lost: {one:?}, {many:?}");
    many
}

fn transfer_planned(plan: &Plan, burst: u32) -> Transfer {
    let mut simulation = Simulation::new(plan, burst);
    let started = simulation.now;
    while simulation.ends.iter().any(|end| end.application().ends.is_empty()) {
        let busy = simulation.step();
        simulation.now = simulation.next(busy);
    }
    let virtual_us = simulation.now.us() - started.us();
    simulation.run();
    let counters = [0, 1].map(|end| *simulation.ends[end].counters());
    let report = simulation.report();
    let Job { up, down, .. } = plan.jobs[0];
    let ending = |opened, received| Ending { job: Some(0), opened, reason: CloseReason::Graceful, received };
    assert_eq!(report.ends, [vec![ending(true, down)], vec![ending(false, up)]], "burst {burst}");
    Transfer {
        virtual_us,
        segments: report.segments,
        retransmitted: report.retransmitted,
        kept: report.kept,
        time_outs: counters.iter().map(|counters| counters.time_outs).sum(),
        probes: counters.iter().map(|counters| counters.tail_probes).sum(),
    }
}

fn plan((up, down): (u32, u32), loss: f64, round_trip_us: u64, settings: Settings, seed: u64) -> Plan {
    let delay_us = round_trip_us / 2;
    let faults = FaultConfig { loss, delay_us: (delay_us, delay_us), held_max: 2048, ..FaultConfig::default() };
    Plan {
        seed,
        jobs: vec![Job { opener: 0, up, down, rounds: 0, closing: Closing::Halves, bite: usize::MAX }],
        faults,
        settings,
        limits: Limits { tcbs_max: 4, time_wait_max: 16, chunks_max: 2048, neighbors_max: 4, ..Limits::default() },
        mtu: 1500,
        v6: false,
        fair: false,
        in_flight_max: 1,
    }
}

#[test]
fn b20_bulk_both_ways_arrives_whole_at_every_loss_rate() {
    let bytes = number("SYNFIN_BULK_BYTES").unwrap_or(BULK_BYTES) as u32;
    let seeds = number("SYNFIN_BULK_SEEDS").unwrap_or(1);
    println!("{bytes} bytes each way, {seeds} transfers per line; goodput relative to that without loss");
    println!("| loss % | round trip ms | goodput | seconds | sent again of | time-outs | probes |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for round_trip_ms in [1, 10, 50] {
        let run = |loss| {
            let transfers =
                (0..seeds).map(|seed| transfer((bytes, bytes), loss, round_trip_ms * 1000, Settings::default(), seed));
            transfers.fold(Transfer::default(), Transfer::plus)
        };
        let whole = run(0.0);
        assert_eq!((whole.retransmitted, whole.kept), (0, 0), "nothing is sent again where nothing is lost");
        for loss in [0.0, 0.001, 0.01, 0.05] {
            let took = run(loss);
            println!(
                "| {:.1} | {round_trip_ms} | {:.3} | {:.2} | {} of {} | {} | {} |",
                loss * 100.0,
                whole.virtual_us as f64 / took.virtual_us as f64,
                took.virtual_us as f64 / 1e6 / seeds as f64,
                took.retransmitted,
                took.segments,
                took.time_outs,
                took.probes,
            );
            assert!(took.kept > 0 || loss < 0.01, "a loss leaves something out of order");
        }
    }
}

#[test]
fn b20_bulk_arrives_whole_without_sack_and_without_timestamps() {
    for (sack, timestamps) in [(false, true), (true, false), (false, false)] {
        let settings = Settings { sack, timestamps, ..Settings::default() };
        let bytes = BULK_BYTES as u32 / 4;
        assert!(transfer((bytes, bytes), 0.02, 10_000, settings, 1).kept > 0);
    }
}

#[test]
fn b20_bulk_one_way_on_a_short_path_does_not_live_on_time_outs() {
    let bytes = BULK_BYTES as u32;
    let seeds = number("SYNFIN_BULK_SEEDS").unwrap_or(8);
    let run = |seed| transfer((bytes, 2), 0.05, 200, Settings::default(), seed);
    let took = (0..seeds).map(run).fold(Transfer::default(), Transfer::plus);
    println!("{bytes} bytes one way, 0.2 ms, 5 % lost: {:.3} s, {took:?}", took.virtual_us as f64 / 1e6 / seeds as f64);
    assert!(took.virtual_us < seeds * SHORT_PATH_US_MAX, "{took:?}");
}

/// As after a process was stopped, while its exact deadlines ran: microseconds modulo 2^32 take some of these gaps for a way back.
#[test]
fn b20_exact_deadlines_are_kept_after_the_clock_has_jumped() {
    for minutes in [1, 17, 18, 36, 60, 71, 72, 24 * 60] {
        let plan = plan((BULK_BYTES as u32, 2), 0.05, 200, Settings::default(), minutes);
        let mut simulation = Simulation::new(&plan, 64);
        let (mut jumps, mut exact) = (0, 0);
        while simulation.ends.iter().any(|end| end.application().ends.is_empty()) {
            let busy = simulation.step();
            let now = simulation.now;
            let last = simulation.ends.iter().filter_map(|end| end.core.exact.next_deadline(now)).max();
            assert!(last.is_none_or(|at| at.us() - now.us() < 70_000), "{last:?} at {now:?}, {minutes} min");
            exact += u64::from(last.is_some());
            simulation.now = simulation.next(busy);
            if exact == (jumps + 1) * 40 && jumps < 3 {
                jumps += 1;
                simulation.now = now.plus_ms(minutes * 60_000);
                simulation.ends.iter_mut().for_each(|end| end.application_mut().forgive_silence(simulation.now));
            }
        }
        assert!(jumps == 3 && exact > 160, "{exact} times with exact deadlines, {jumps} jumps of {minutes} min");
        simulation.run();
        let closed = simulation.report().ends;
        assert!(closed.iter().flatten().all(|end| end.reason == CloseReason::Graceful), "{closed:?}");
    }
}

/// What a MiB may take on a short path that loses 5 %, us: with deadlines that are told to a granule of the large wheel
/// it takes 350,000.
const SHORT_PATH_US_MAX: u64 = 280_000;

/// Bytes each way without SYNFIN_BULK_BYTES: enough for many windows, and about a second unoptimised.
const BULK_BYTES: u64 = 1 << 20;
