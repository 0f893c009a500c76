//! Stage 5: deadlines. TCBs, TIME-WAIT records and neighbours, each with its budget.

use super::burst::Burst;
use super::core::Core;
use super::exact;
use super::gaps;
use crate::ids::{Kind, Value};
use crate::neighbor::Due;
use crate::tcp::{Context, timeouts};
use crate::tick::Now;

/// Deadlines of TCBs: retransmission, persist, delayed ACK, connect, deferred accept, FIN-WAIT-2.
pub(super) fn connections(core: &mut Core, burst: &mut Burst, now: Now) {
    let budget = core.expire_budget();
    exact::expire(core, now, budget, &mut burst.due);
    due(core, burst, now);
    core.wheel.expire(&mut core.connections, now.tick(), budget, &mut burst.due);
    due(core, burst, now);
}

fn due(core: &mut Core, burst: &mut Burst, now: Now) {
    for number in burst.due.drain(..) {
        core.defer_no_longer(number, now);
        let attached = gaps::for_time_out(core, number, now);
        let board = attached.map(|attached| &mut core.gaps[attached].sent);
        let connection = &mut core.connections[number];
        let options = core.options.get(connection.tcb.options);
        let cx = Context { now, settings: &core.settings, options, receive_room: false };
        let outcome = timeouts::due(&mut connection.tcb, board, &cx);
        if let Some(attached) = attached {
            exact::arm(core, number, attached, now);
        }
        core.settle(number, &outcome, now);
    }
}

/// TIME-WAIT records whose 2MSL is over. Every bucket of the batch is asked for before the first is touched.
pub(super) fn time_wait(core: &mut Core, burst: &mut Burst, now: Now) {
    let budget = core.expire_budget();
    core.time_wait_v4.expire(now.tick(), budget, &mut burst.expired_v4);
    core.time_wait_v6.expire(now.tick(), budget, &mut burst.expired_v6);
    core.counters.time_wait_expired += (burst.expired_v4.len() + burst.expired_v6.len()) as u64;
    let Burst { expired_v4, expired_v6, hashes, .. } = burst;
    let tuples = expired_v4.iter().map(|(_, v4)| v4.tuple()).chain(expired_v6.iter().map(|(_, v6)| v6.tuple()));
    hashes.extend(tuples.map(|tuple| core.index.hash(&tuple)));
    for hash in &*hashes {
        core.index.prefetch(*hash);
    }
    let mut hashes = hashes.drain(..);
    for ((number, record), hash) in expired_v4.drain(..).zip(&mut hashes) {
        core.unindex_time_wait(hash, Value::new(Kind::TimeWaitV4, number), &record.tuple());
    }
    for ((number, record), hash) in expired_v6.drain(..).zip(hashes) {
        core.unindex_time_wait(hash, Value::new(Kind::TimeWaitV6, number), &record.tuple());
    }
}

/// Neighbours to ask for, and those that do not answer.
pub(super) fn neighbors(core: &mut Core, burst: &mut Burst, now: Now) {
    let budget = burst.asks.capacity() - burst.asks.len();
    let Burst { asks, silent, .. } = burst;
    core.neighbors.poll(now.tick(), budget, |due| match due {
        Due::Ask { ip, .. } => asks.push(ip),
        Due::Failed { id, .. } => silent.push(id),
    });
    for id in silent.drain(..) {
        while let Some(number) = core.waiting[id.index()].front() {
            core.fail_waiting(number, now);
        }
    }
}
