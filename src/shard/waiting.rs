//! Connections that wait: for a neighbour, in its list instead of that of what is owed, by the same link; for the send pool, in
//! a queue of handles.

use super::connection::{Fact, Owing, Tell};
use super::core::Core;
use crate::flow::list::List;
use crate::ids::Handle;
use crate::neighbor::{Heard, NeighborId};
use crate::tcp::state::{CloseReason, State};
use crate::tcp::tcb::Owed;
use crate::tcp::{Context, End, Outcome, timeouts};
use crate::tick::Now;
use crate::wire::ethernet::MacAddress;
use ::core::net::IpAddr;

impl Core {
    /// The first connection on the list of what is owed goes to the list of its neighbour.
    pub(super) fn wait_for_neighbor(&mut self, number: u32, now: Now) {
        let interface = self.interface_of(number);
        self.owing[interface].remove(&mut self.connections, number);
        self.connections[number].facts.add(Fact::WAITS_FOR_NEIGHBOR);
        let neighbor = self.names[number].neighbor;
        self.waiting[neighbor.index()].push_back(&mut self.connections, number);
        self.neighbors.wanted(neighbor, now.tick());
        self.counters.neighbor_waits += 1;
    }

    /// Whether the address is on a network of interface number `interface`.
    pub(super) fn is_on(&self, address: IpAddr, interface: u8) -> bool {
        self.interface_count == 1 || self.routes.interface_of(address) == interface
    }

    /// The interface that leads to the connection's neighbour: the same for all its life.
    #[inline]
    pub(super) fn interface_of(&self, number: u32) -> usize {
        let interface = || self.neighbor_interfaces[self.names[number].neighbor.index()];
        if self.interface_count == 1 { 0 } else { interface().into() }
    }

    /// What was heard of a neighbour on interface number `interface`; connections that waited for it go on. What is
    /// heard where it cannot be is nothing.
    pub(super) fn learn(&mut self, interface: u8, ip: IpAddr, mac: MacAddress, heard: Heard, now: Now) {
        if !self.is_on(ip, interface) {
            return;
        }
        if let Some(id) = self.neighbors.learn(ip, mac, heard, now.tick()) {
            self.wake_waiting(id);
        }
    }

    /// The connection has made progress by what came from `mac` on interface number `interface`: its neighbour is
    /// there, whichever queue answers to requests arrive on.
    #[inline(always)]
    pub(super) fn heard_from(&mut self, number: u32, interface: u8, mac: MacAddress, now: Now) {
        let neighbor = self.names[number].neighbor;
        if self.interface_count > 1 && self.neighbor_interfaces[neighbor.index()] != interface {
            return;
        }
        if self.neighbors.progressed(neighbor, mac, now.tick()) {
            self.wake_waiting(neighbor);
        }
    }

    /// The neighbour is known: whoever waited for it may send.
    pub(super) fn wake_waiting(&mut self, neighbor: NeighborId) {
        while let Some(number) = self.waiting[neighbor.index()].pop_front(&mut self.connections) {
            self.connections[number].facts.remove(Fact::WAITS_FOR_NEIGHBOR);
            let interface = self.interface_of(number);
            self.owing[interface].push_back(&mut self.connections, number);
        }
    }

    /// The neighbour does not answer. An open that has not completed ends, a passive one without a word; for an open
    /// connection it is a soft error (RFC 9293 3.9.2.2): what it owes is tried again when its time-out comes.
    pub(super) fn fail_waiting(&mut self, number: u32, now: Now) {
        self.owing_remove(number);
        let connection = &mut self.connections[number];
        let options = self.options.get(connection.tcb.options);
        let cx = Context { now, settings: &self.settings, options, receive_room: false };
        match connection.tcb.state {
            State::Closed => {
                connection.tcb.owed = Owed::default();
                if connection.facts.has(Fact::TOLD_CLOSED) {
                    self.let_go(number);
                }
            }
            State::SynSent | State::SynReceived => {
                let half_open = connection.tcb.is_half_open_passively();
                connection.tcb.end(CloseReason::Unreachable);
                let end = if half_open { End::Listen } else { End::Closed(CloseReason::Unreachable) };
                self.settle(number, &Outcome { end: Some(end), ..Outcome::default() }, now);
            }
            _ => {
                timeouts::could_not_send(&mut connection.tcb, &cx);
                self.arm(number);
            }
        }
    }

    /// The send pool is empty and the connection has nothing in it: it is told when chunks have come back. Where too many
    /// wait, it tries again next turn.
    pub(super) fn wait_for_chunks(&mut self, handle: Handle) {
        if self.starved.len() < STARVED_MAX {
            self.starved.push_back(handle);
        } else {
            self.tell_writable(handle);
        }
    }

    /// Tells those who wait for the send pool, first in first out, no more than there are chunks.
    pub(super) fn tell_starved(&mut self) {
        for _ in 0..self.sending.free() {
            let Some(handle) = self.starved.pop_front() else { return };
            self.tell_writable(handle);
        }
    }

    /// Writable, if the connection still waits for it.
    fn tell_writable(&mut self, handle: Handle) {
        let Some(connection) = self.connections.get_mut(handle.number, handle.generation) else { return };
        if connection.tell.take(Tell::WANTS_WRITABLE) {
            connection.tell.add(Tell::WRITABLE);
            self.tell(handle.number);
        }
    }

    /// Removes the connection from the list that it owes or waits in.
    #[inline(always)]
    pub(super) fn owing_remove(&mut self, number: u32) {
        if List::<Owing>::is_linked(&self.connections, number) {
            let (neighbor, interface) = (self.names[number].neighbor, self.interface_of(number));
            let list = if self.connections[number].facts.has(Fact::WAITS_FOR_NEIGHBOR) {
                &mut self.waiting[neighbor.index()]
            } else {
                &mut self.owing[interface]
            };
            list.remove(&mut self.connections, number);
        }
        self.connections[number].facts.remove(Fact::WAITS_FOR_NEIGHBOR);
    }
}

/// Connections that wait for the send pool at a time. Smaller has the rest try every turn; larger costs 8 B each.
pub(super) const STARVED_MAX: usize = 1024;
