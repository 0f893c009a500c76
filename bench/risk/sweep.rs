//! Every workload under every policy, and the positive control.

use super::workload::{Cell, aimed, all};
use super::world::{Tally, World};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use synfin::tcp::time_wait::Policy;

/// A cell and what it came to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Played {
    pub cell: Cell,
    pub tally: Tally,
}

/// How much is played.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub policies: Vec<Policy>,
    /// Incarnations of each policy, over all its cells.
    pub incarnations: u64,
    pub seed: u64,
}

/// Every policy against what is aimed into the window, with timestamps and without; the last one is the positive control.
pub(super) fn play_aimed(seed: u64) -> Result<Vec<Played>, String> {
    let cells = Policy::ALL.into_iter().flat_map(|policy| [true, false].map(|timestamps| aimed(policy, timestamps)));
    cells.map(|cell| World::new(&cell, seed)?.play(AIMED_INCARNATIONS).map(|tally| Played { cell, tally })).collect()
}

/// All cells of the plan, in order, on as many threads as there are processors. A cell's outcome depends on the seed and the cell
/// alone.
pub(super) fn play(plan: &Plan) -> Result<Vec<Played>, String> {
    let cells = cells();
    let of_policy = cells.len() / Policy::ALL.len();
    let each = plan.incarnations.div_ceil(of_policy as u64);
    let chosen: Vec<(usize, Cell)> =
        cells.into_iter().enumerate().filter(|(_, cell)| plan.policies.contains(&cell.policy)).collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(chosen.len())));
    let work = || {
        while let Some((number, cell)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let seed = plan.seed.wrapping_add((*number as u64 + 1) << 32);
            let played = World::new(cell, seed).and_then(|world| world.play(each));
            let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            done.push((*number, played.map(|tally| Played { cell: *cell, tally })));
            eprintln!("risk: {} of {} cells", done.len(), chosen.len());
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, played)| played).collect()
}

/// Every workload under every policy, RFC 1337 on and off. A cell keeps its place, and so its seed, whatever is chosen.
fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for policy in Policy::ALL {
        for workload in all() {
            cells.extend([false, true].map(|rst_ends_time_wait| Cell { policy, workload, rst_ends_time_wait }));
        }
    }
    cells
}

/// Incarnations of each policy at which text is aimed into the window.
const AIMED_INCARNATIONS: u64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::risk::workload::End;

    fn small(policy: Policy) -> Plan {
        Plan { policies: vec![policy], incarnations: 36 * 400, seed: 1 }
    }

    /// Incarnations that took old text, of those at which some was aimed into the window.
    fn took(policy: Policy, timestamps: bool, incarnations: u64) -> (u64, u64) {
        let tally =
            World::new(&aimed(policy, timestamps), 1).and_then(|world| world.play(incarnations)).expect("plays");
        assert_eq!(tally.other_bytes, 0, "{tally:?}");
        (tally.incarnations_with_old_bytes, tally.passed.incarnations_aimed)
    }

    #[test]
    fn b47_the_positive_control_takes_old_octets() {
        let (hits, at) = took(Policy::None, false, 1500);
        assert!(hits > 400 && hits == at, "{hits} of {at}");
    }

    #[test]
    fn b47_timestamps_or_two_msl_guard_against_text_in_the_window() {
        let (hits, at) = took(Policy::Timestamp, true, 1500);
        assert!(hits == 0 && at > 400, "{hits} of {at}");
        assert_eq!(took(Policy::Strict, false, 600), (0, 0), "what could be aimed is older than 2MSL");
    }

    #[test]
    fn b47_without_timestamps_random_isns_are_guarded_against_the_last_incarnation_only() {
        let (hits, at) = took(Policy::TimestampOrSequence, false, AIMED_INCARNATIONS);
        assert!(hits > 0 && hits == at, "{hits} of {at}");
    }

    #[test]
    fn b47_the_default_policy_takes_none_where_rst_is_ignored() {
        let played = play(&small(Policy::default())).expect("plays");
        for Played { cell, tally } in played.iter().filter(|played| !played.cell.rst_ends_time_wait) {
            assert_eq!((tally.old_bytes, tally.server.opened_by_old_syn), (0, 0), "{cell:?} {tally:?}");
        }
        assert!(played.iter().all(|played| played.tally.other_bytes == 0), "{played:?}");
        let reused: u64 = played.iter().map(|played| played.tally.time_wait_reused).sum();
        let aimed: u64 = played.iter().map(|played| played.tally.passed.incarnations_aimed).sum();
        assert!(reused > 2000 && aimed > 3000, "{reused} {aimed}");
    }

    #[test]
    fn b47_without_time_wait_a_connection_that_outran_the_isn_clock_takes_old_octets() {
        let outrun = all().into_iter().find(|workload| workload.outruns && workload.closer == End::Server);
        let workload = super::super::workload::Workload { timestamps: false, ..outrun.expect("there is one") };
        let cell = Cell { policy: Policy::None, workload, rst_ends_time_wait: false };
        let tally = World::new(&cell, 1).and_then(|world| world.play(600)).expect("plays");
        assert!(tally.old_bytes > 0 && tally.other_bytes == 0, "{tally:?}");
    }

    #[test]
    fn the_same_seed_replays_exactly_and_another_does_not() {
        let play = |seed| World::new(&cells()[33], seed).and_then(|world| world.play(500)).expect("plays");
        assert_eq!(play(7), play(7));
        assert_ne!(play(7), play(8));
    }
}
