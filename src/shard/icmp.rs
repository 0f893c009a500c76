//! ICMP errors find the connection that they quote (MUST-54), and path MTUs the connections that begin later.

use super::core::Core;
use crate::four_tuple::FourTuple;
use crate::ids::Kind;
use crate::tcp::{Context, Note, icmp};
use crate::tick::Now;
use crate::wire::icmp::{Error, Quoted};

/// Asks for the index bucket of the connection that the error quotes.
pub(super) fn prefetch(core: &Core, error: &Error) {
    core.index.prefetch(core.index.hash(&tuple_of(&error.quoted)));
}

/// An error about a segment that this stack is said to have sent. Whoever is in TIME-WAIT, or nobody's, has none in flight.
pub(super) fn arrives(core: &mut Core, error: &Error, now: Now) {
    let tuple = tuple_of(&error.quoted);
    let found = core.index.find(core.index.hash(&tuple), |value| core.is_record_of(value, &tuple));
    let Some(number) = found.filter(|value| value.kind() == Kind::Tcb).map(|value| value.number()) else {
        return core.count(Note::IcmpUnmatched);
    };
    let connection = &mut core.connections[number];
    let options = core.options.get(connection.tcb.options);
    let cx = Context { now, settings: &core.settings, options, receive_room: false };
    let tcb = &mut connection.tcb;
    let outcome = icmp::arrives(tcb, error, &cx);
    if outcome.note == Some(Note::PathMtuLowered) {
        core.path_mtus.learn(tuple.remote(), icmp::packet_bytes(tcb), now);
    }
    core.settle(number, &outcome, now);
}

impl Core {
    /// The connection has just been established: its segments are no larger than what is known to arrive.
    #[inline]
    pub(super) fn begin_with_path_mtu(&mut self, number: u32, now: Now) {
        if let Some(mtu) = self.path_mtus.get(self.names[number].tuple.remote(), now) {
            icmp::begin_with_path_mtu(&mut self.connections[number].tcb, mtu);
            self.counters.path_mtu_known += 1;
        }
    }
}

/// The connection as this end names it: the quoted segment was on its way out.
pub(super) fn tuple_of(quoted: &Quoted) -> FourTuple {
    FourTuple::new(quoted.src, quoted.src_port, quoted.dst, quoted.dst_port)
}
