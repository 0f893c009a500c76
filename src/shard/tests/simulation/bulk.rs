//! One connection with much to say, both ways, over a wire that loses.

use super::*;
use crate::tcp::Settings;
use plan::Job;

/// What a transfer took.
struct Transfer {
    virtual_us: u64,
    segments: u64,
    retransmitted: u64,
    kept: u64,
    time_outs: u64,
    probes: u64,
}

fn transfer(bytes: u32, loss: f64) -> Transfer {
    let faults = FaultConfig { loss, delay_us: (5000, 5000), held_max: 2048, ..FaultConfig::default() };
    let limits = Limits { tcbs_max: 4, time_wait_max: 16, chunks_max: 2048, neighbors_max: 4, ..Limits::default() };
    let plan = Plan {
        seed: 1,
        jobs: vec![Job { opener: 0, up: bytes, down: bytes, rounds: 0, closing: Closing::Halves, bite: usize::MAX }],
        faults,
        settings: Settings::default(),
        limits,
        mtu: 1500,
        v6: false,
        in_flight_max: 1,
    };
    let mut simulation = Simulation::new(&plan, 64);
    let started = simulation.now;
    while simulation.ends.iter().any(|end| end.application().ends.is_empty()) {
        let busy = simulation.step();
        simulation.now = simulation.next(busy);
    }
    let virtual_us = simulation.now.us() - started.us();
    simulation.run();
    let time_outs = simulation.ends.iter().map(|end| end.counters().time_outs).sum();
    let probes = simulation.ends.iter().map(|end| end.counters().tail_probes).sum();
    let report = simulation.report();
    let ends = report.ends.iter().flatten();
    assert!(ends.clone().count() == 2 && ends.clone().all(|end| end.reason == CloseReason::Graceful), "{report:?}");
    Transfer {
        virtual_us,
        segments: report.segments,
        retransmitted: report.retransmitted,
        kept: report.kept,
        time_outs,
        probes,
    }
}

#[test]
fn b20_bulk_both_ways_arrives_whole_at_every_loss_rate() {
    let bytes = number("SYNFIN_BULK_BYTES").unwrap_or(BULK_BYTES) as u32;
    let whole = transfer(bytes, 0.0);
    assert_eq!((whole.retransmitted, whole.kept), (0, 0), "nothing is sent again where nothing is lost");
    for loss in [0.0, 0.01, 0.05] {
        let took = transfer(bytes, loss);
        println!(
            "{bytes} bytes each way, {:.0} % loss, 10 ms round trip: {:.1} s, goodput {:.3} of lossless, {} of {} \
             segments sent again, {} kept out of order, {} time-outs, {} probes",
            loss * 100.0,
            took.virtual_us as f64 / 1e6,
            whole.virtual_us as f64 / took.virtual_us as f64,
            took.retransmitted,
            took.segments,
            took.kept,
            took.time_outs,
            took.probes,
        );
        assert!(took.kept > 0 || loss == 0.0, "a loss leaves something out of order");
    }
}

/// Bytes each way without SYNFIN_BULK_BYTES: enough for many windows, and about a second unoptimised.
const BULK_BYTES: u64 = 1 << 20;
