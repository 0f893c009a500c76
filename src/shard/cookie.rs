//! SYN cookies at a listener (B13): a SYN that leaves no state, and the ACK that brings it back.

use super::burst::{Arrival, Burst, IpMarks, Reply};
use super::core::Core;
use super::name::Name;
use crate::tcp::Context;
use crate::tcp::cookie::SynCookies;
use crate::tick::Now;

/// What the ACK of no connection came to at a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Returned {
    /// It brings a cookie: a connection in SYN-RECEIVED, at which the segment has yet to arrive.
    Opens(u32),
    /// It brings a cookie, and there is no room. Dropped: the peer sends again.
    NoRoom,
    /// It brings none.
    Nothing,
}

impl Core {
    /// Whether a SYN gets a cookie now.
    pub(super) fn answers_by_cookie(&self) -> bool {
        let cookies = self.settings.syn_cookies;
        // A half-open connection pins its neighbour: one half of the cache is left to those whose cookies return (T01).
        let neighbors_run_out = self.neighbors.in_use() >= self.limits.neighbors_max / 2;
        (neighbors_run_out && cookies != SynCookies::Off) || cookies.answers(self.half_open, self.limits.half_open_max)
    }

    /// The SYN-ACK in the SYN's own frame, back to where it came from.
    pub(super) fn answer_by_cookie(&mut self, burst: &mut Burst, listener: u32, syn: &Arrival, now: Now) {
        if self.refuses_to_accept(listener) {
            return;
        }
        let options = self.options.get(self.listener_options[listener as usize]);
        let cx = Context { now, settings: &self.settings, options, receive_room: false };
        let syn_ack = self.cookies.syn_ack(&syn.tuple, &syn.segment, &cx);
        self.counters.syn_cookies_sent += 1;
        burst.answers.push(Reply::SynAck { frame: syn.frame, tuple: syn.tuple, syn_ack, marks: IpMarks::of(options) });
    }

    /// A connection from the cookie that the ACK may bring.
    pub(super) fn open_by_cookie(&mut self, listener: u32, ack: &Arrival, now: Now) -> Returned {
        if !self.cookies.may_return(now) {
            return Returned::Nothing;
        }
        let options = self.listener_options[listener as usize];
        let cx = Context { now, settings: &self.settings, options: self.options.get(options), receive_room: false };
        let Some(valid) = self.cookies.accept(&ack.tuple, &ack.segment, &cx) else {
            self.counters.syn_cookies_invalid += 1;
            return Returned::Nothing;
        };
        let period = self.cookies.period(now);
        if self.cookies_seen.contains(valid.mark, period) {
            self.counters.syn_cookies_replayed += 1;
            return Returned::Nothing;
        }
        if self.refuses_to_accept(listener) {
            return Returned::NoRoom;
        }
        if self.time_wait_is_full(ack.tuple.is_v4()) {
            self.counters.syn_dropped_full += 1;
            return Returned::NoRoom;
        }
        let Some(neighbor) = self.neighbor_towards(&ack.tuple, Some((ack.interface, ack.src_mac)), now) else {
            self.counters.syn_dropped_no_neighbor += 1;
            return Returned::NoRoom;
        };
        let name = Name { tuple: ack.tuple, neighbor, hash: ack.hash, origin: listener, user: 0 };
        let Some(number) = self.admit(valid.tcb, name, None, options) else {
            self.counters.syn_dropped_full += 1;
            return Returned::NoRoom;
        };
        self.histories.begin(number, now);
        // Half-open for the moment until the segment has arrived, like any other.
        self.half_open += 1;
        let forgets = self.cookies_seen.insert(valid.mark, period);
        self.counters.syn_cookies_forgotten += u64::from(forgets);
        self.counters.opens_passive += 1;
        self.counters.syn_cookies_accepted += 1;
        Returned::Opens(number)
    }
}
