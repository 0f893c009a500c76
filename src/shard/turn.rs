//! The spine: one turn of a shard, stage by stage.
//!
//! ```text
//! receive -> parse -> find -> arrive -> expire -> tell -> respond -> transmit
//! ```
//! The same stages in the same order over every link. Time enters once, as a value. Nothing here or below allocates,
//! locks, reads a clock or logs.

use super::burst::handed_max;
use super::tell::Teller;
use super::{Shard, announce, arrive, expire, find, parse, pressure, respond};
use crate::api::Application;
use crate::counters::Counters;
use crate::link::Link;
use crate::tick::Now;

/// What a turn came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TurnReport {
    /// Something arrived, expired, was told or was sent, or other shards wait for what is looked for here; an idle turn
    /// may be followed by sleep.
    pub busy: bool,
}

impl<L: Link, A: Application> Shard<L, A> {
    /// One turn at time `now`. Times must not go back. After a gap of more than 12 days time catches up in the next turns.
    pub fn turn(&mut self, now: Now) -> TurnReport {
        let now = self.core.begin_turn(now);
        let Counters { segments_sent, frames_received, .. } = self.core.counters;
        self.link.advance(now);
        self.receive();
        self.parse();
        self.find();
        self.arrive(now);
        self.expire(now);
        self.tell(now);
        self.respond(now);
        self.transmit();
        self.report(segments_sent, frames_received)
    }

    /// Stage 1: what other shards handed over, and one burst from the link; headers are prefetched before the first is read.
    fn receive(&mut self) {
        let burst = &mut self.burst;
        let max = handed_max(&self.core.limits);
        self.handover.receive(&mut self.link, burst, &mut self.core.counters, max);
        self.core.counters.handover_received += burst.handed.len() as u64;
        self.link.receive(&mut burst.received, self.core.limits.burst as usize);
        self.core.counters.frames_received += burst.received.len() as u64;
        for frame in burst.received.drain(..) {
            self.link.prefetch(&frame);
            burst.frames.push(Some(frame));
        }
    }

    /// Stage 2: each frame to a segment, a control packet or a counted drop.
    fn parse(&mut self) {
        for place in 0..self.burst.frames.len() {
            parse::parse_frame(&self.link, &mut self.burst, &mut self.core, place as u16);
        }
    }

    /// Stage 3: hash all, ask for all buckets, then for all records. What comes out are hints.
    fn find(&mut self) {
        find::prefetch_quoted(&self.core, &self.burst.controls);
        find::hint_all(&self.core, &mut self.burst.arrivals);
    }

    /// Stage 4: each segment meets its record, by RFC 9293's own cases; what another shard owns goes there instead. Neighbours
    /// first: whoever waits for one may go on. What a segment makes a connection owe are bits in its TCB; `Core::settle` puts a
    /// connection that owes anything on the list `core.owing`, which stage 7 works off.
    fn arrive(&mut self, now: Now) {
        let (core, burst, handover) = (&mut self.core, &mut self.burst, &mut self.handover);
        for at in 0..burst.controls.len() {
            let control = burst.controls[at];
            let bytes = burst.bytes(&self.link, control.frame);
            if !handover.takes_control(core, burst, &control, bytes) {
                arrive::control(core, burst, &control, now);
            }
        }
        let arrivals = ::core::mem::take(&mut burst.arrivals);
        for arrival in &arrivals {
            let found = find::find(core, arrival);
            if !handover.takes(&self.link, core, burst, arrival, found) {
                arrive::arrive(&self.link, core, &mut self.receiving, burst, arrival, found, now);
            }
        }
        burst.arrivals = arrivals;
    }

    /// Stage 5: deadlines of connections, TIME-WAIT and neighbours, each with a budget.
    fn expire(&mut self, now: Now) {
        expire::connections(&mut self.core, &mut self.burst, now);
        expire::time_wait(&mut self.core, &mut self.burst, now);
        expire::neighbors(&mut self.core, &mut self.burst, now);
        self.handover.expire(&mut self.core, now);
        pressure::relieve(&mut self.core, &mut self.receiving, now);
    }

    /// Stage 6: events to the application. Its calls act at once; their segments leave in stage 7.
    fn tell(&mut self, now: Now) {
        let budget = self.core.limits.events_per_turn;
        let mut teller = Teller {
            application: &mut self.application,
            core: &mut self.core,
            receiving: &mut self.receiving,
            now,
            budget,
        };
        for text in &self.burst.texts {
            if let Some(frame) = &self.burst.frames[usize::from(text.frame)] {
                let from = usize::from(text.offset);
                teller.text(text, &self.link.bytes(frame)[from..from + usize::from(text.len)]);
            }
        }
        teller.rest();
        teller.timers();
        teller.turn();
        self.burst.texts.clear();
    }

    /// Stage 7: stateless answers in the frames that they answer, then everything that connections owe, interface by
    /// interface, first in first out. Without a TX frame the rest stays on the list.
    fn respond(&mut self, now: Now) {
        let (link, core, burst) = (&mut self.link, &mut self.core, &mut self.burst);
        for at in 0..burst.answers.len() {
            let reply = burst.answers[at];
            respond::answer(link, core, burst, &reply);
        }
        for frame in burst.frames.drain(..).flatten() {
            link.give_back(frame);
        }
        for ip in burst.asks.drain(..) {
            respond::ask(link, core, ip);
        }
        announce::announce_due(link, core, now);
        let interfaces = if L::SEVERAL { core.interface_count } else { 1 };
        for interface in 0..interfaces {
            while respond::first_owing(link, core, &mut self.receiving, interface, now) {}
            let place = usize::from(interface);
            core.tx_full[place] = !core.owing[place].is_empty();
        }
    }

    /// Stage 8: one burst to the link, completions back, the FILL ring (empty frames for the kernel to receive into) topped up;
    /// what was for other shards to them.
    fn transmit(&mut self) {
        self.handover.flush(self.core.neighbors.is_asking());
        self.link.flush();
        debug_assert!(self.link.levels().conserved(), "a frame is lost: {:?}", self.link.levels());
    }

    fn report(&mut self, sent_before: u64, received_before: u64) -> TurnReport {
        let burst = &mut self.burst;
        let counters = &mut self.core.counters;
        counters.frames_sent = self.link.counters().tx_frames;
        // Behind frames that were dropped there may be more. After connections have been divided anew, a shard marks those that
        // it has but no longer owns (see `strangers`); until it has, other shards' draws of ports may fail.
        let busy = self.handover.is_marking()
            || counters.frames_received != received_before
            || !burst.handed.is_empty()
            || counters.segments_sent != sent_before
            || !self.core.telling.is_empty();
        burst.arrivals.clear();
        burst.controls.clear();
        burst.handed.clear();
        burst.answers.clear();
        counters.turns += 1;
        counters.turns_idle += u64::from(!busy);
        TurnReport { busy }
    }
}
