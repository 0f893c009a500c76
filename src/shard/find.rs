//! Stage 3: whose segment it is. Everything is hashed first, then every bucket line is asked for, then every record:
//! the misses of a burst overlap.
//!
//! What find learns is a hint: an earlier segment of the same burst may change the tables. A hint holds while the change
//! count of its bucket does.

use super::burst::{Arrival, Control, Message};
use super::core::Core;
use super::icmp;
use crate::flow::index::Hash;
use crate::four_tuple::FourTuple;
use crate::ids::{Kind, Value};

/// Whose a segment is: RFC 9293's own cases (3.10.7.1 to .4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// 3.10.7.3 and .4: a connection.
    Tcb(u32),
    /// 3.10.7.4, TIME-WAIT: a compact record.
    TimeWait(Value),
    /// 3.10.7.2: a listener.
    Listener(u32),
    /// 3.10.7.1: nobody.
    Nobody,
}

/// Hints for all arrivals of a burst.
#[inline(always)]
pub(super) fn hint_all(core: &Core, arrivals: &mut [Arrival]) {
    for arrival in &mut *arrivals {
        arrival.hash = core.index.hash(&arrival.tuple);
        core.index.prefetch(arrival.hash);
    }
    for arrival in &mut *arrivals {
        arrival.hint = core.index.candidate(arrival.hash);
        arrival.change_count = core.index.change_count(arrival.hash);
        match arrival.hint.map(|value| (value.kind(), value.number())) {
            Some((Kind::Tcb, number)) => {
                core.connections.prefetch(number);
                core.names.prefetch(number);
            }
            Some((Kind::TimeWaitV4, number)) => core.time_wait_v4.prefetch(number),
            Some((Kind::TimeWaitV6, number)) => core.time_wait_v6.prefetch(number),
            None => {}
        }
    }
}

/// Asks for what the errors of a burst will look up.
pub(super) fn prefetch_quoted(core: &Core, controls: &[Control]) {
    for control in controls {
        if let Message::Error(error) = &control.message {
            icmp::prefetch(core, error);
        }
    }
}

/// Whose the segment is now.
#[inline(always)]
pub(super) fn find(core: &mut Core, arrival: &Arrival) -> Found {
    let Arrival { tuple, hash, hint, change_count, .. } = arrival;
    let holds = core.index.change_count(*hash) == *change_count;
    core.counters.hints_stale += u64::from(!holds);
    let value = match hint {
        None if holds => None,
        Some(value) if holds && core.is_record_of(*value, tuple) => Some(*value),
        _ => find_anew(core, *hash, tuple),
    };
    match value {
        Some(value) if value.kind() == Kind::Tcb => Found::Tcb(value.number()),
        Some(value) => Found::TimeWait(value),
        None => match core.listeners.find(tuple.local(), tuple.local_port) {
            Some(listener) => Found::Listener(listener),
            None => Found::Nobody,
        },
    }
}

/// The hint was stale, or of another 4-tuple with the same tag.
#[cold]
#[inline(never)]
fn find_anew(core: &Core, hash: Hash, tuple: &FourTuple) -> Option<Value> {
    core.index.find(hash, |value| core.is_record_of(value, tuple))
}
