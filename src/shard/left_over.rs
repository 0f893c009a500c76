//! What a shard still has in use when it should have nothing: for tests, soaks and reports, which look for leaks.

use super::Shard;
use crate::api::Application;
use crate::flow::list::List;
use crate::link::Link;
use alloc::vec::Vec;

impl<L: Link, A: Application> Shard<L, A> {
    /// What is in use of a shard on which no connection is open and no timer runs, by name: nothing, unless something was
    /// lost. TIME-WAIT records may be there, with their places in the index, and so may ports that wait for theirs to end;
    /// listeners with options of their own count. Walks tables and allocates: not for turns.
    pub fn left_over(&self) -> Vec<(&'static str, u64)> {
        let core = &self.core;
        let (chunks, counters) = (core.limits.chunks_max, &core.counters);
        let time_wait = u64::from(core.time_wait_len());
        let levels = self.link.levels();
        let used = |bounded: u32, free: u32| u64::from(bounded.abs_diff(free));
        let owing = core.owing.iter().chain(&core.waiting).map(List::len).sum::<u32>();
        [
            ("TCBs", u64::from(core.connections.len())),
            ("half-open connections", u64::from(core.half_open)),
            ("connections in the accept queue", u64::from(core.accept.len())),
            ("connections that owe a segment", u64::from(owing)),
            ("connections with something to tell", u64::from(core.telling.len())),
            ("connections on a wheel", u64::from(core.wheel.len() + core.exact.len())),
            ("records of losses and gaps", u64::from(core.gaps.len())),
            ("splices", u64::from(core.splices.len())),
            ("timers", u64::from(core.timers.len())),
            ("sets of options", core.options.in_use() as u64 - 1),
            ("neighbours in use", u64::from(core.neighbors.in_use())),
            ("index entries", u64::from(core.index.len()).abs_diff(time_wait)),
            ("ports in use", core.destinations.ports_in_use()),
            ("nodes of port queues", u64::from(core.destinations.nodes_lost())),
            ("send chunks", used(chunks - chunks / 2, core.sending.free())),
            ("receive chunks", used(chunks / 2, self.receiving.free())),
            ("frames in hand", u64::from(levels.in_hand)),
            (
                "frames lost",
                u64::from(levels.total.abs_diff(levels.free + levels.in_hand + levels.fill + levels.transmit)),
            ),
            ("connections miscounted", counters.opened().abs_diff(counters.ended())),
            (
                "TIME-WAIT records miscounted",
                counters.time_wait_created.abs_diff(counters.time_wait_ended() + time_wait),
            ),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .collect()
    }
}
