//! The tables of a shard, and what moves a connection between them.

use super::accept::AcceptQueue;
use super::announce::Claims;
use super::burst::expire_budget;
use super::connection::{Connection, Fact, Owing, Tell, Telling};
use super::exact::Exact;
use super::find::Found;
use super::gaps::Gaps;
use super::history::Histories;
use super::name::{Name, Names};
use super::options::OptionSets;
use super::pressure::Pressure;
use super::route::Routes;
use super::splice::Splices;
use super::strangers::{Former, Strangers};
use super::timers::Timers;
use super::waiting::STARVED_MAX;
use super::{ConfigError, Place, Policies, Secrets, ShardConfig, StateCounts};
use crate::counters::Counters;
use crate::flow::chunks::Chunks;
use crate::flow::index::Index;
use crate::flow::list::List;
use crate::flow::listeners::Listeners;
use crate::flow::path_mtus::PathMtus;
use crate::flow::ports::{DestinationLimits, Destinations, Left};
use crate::flow::recent::Recent;
use crate::flow::slab::Slab;
use crate::flow::time_wait::TimeWaitStore;
use crate::four_tuple::FourTuple;
use crate::ids::{Handle, Kind, NONE, Value};
use crate::limits::{BUFFER_BYTES_MAX, INTERFACES_MAX, Limits, PATH_MTUS_MAX};
use crate::neighbor::Neighbors;
use crate::tcp::connection_options::OptionsId;
use crate::tcp::cookie::Cookies;
use crate::tcp::rate::AnswerBucket;
use crate::tcp::state::{CloseReason, State};
use crate::tcp::tcb::{Opened, Owed};
use crate::tcp::time_wait::{TimeWaitV4, TimeWaitV6};
use crate::tcp::{End, Note, Outcome, Settings};
use crate::tick::{Now, Tick};
use crate::timer::wheel::{Timed, Wheel};
use crate::touched::{filled, room};
use crate::wire::Expect;
use ::core::net::{IpAddr, Ipv4Addr};
use ::core::ops::Range;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Everything of a shard but its link, its application and the bytes lent to it.
pub(super) struct Core {
    pub settings: Settings,
    pub limits: Limits,
    /// What this end is on each interface and what its frames must be like, by its number; the first where there is only one.
    pub interfaces: [Expect; INTERFACES_MAX],
    /// How many there are.
    pub interface_count: u8,
    /// The largest IP packet that may be sent on each now, bytes.
    pub mtus: [u16; INTERFACES_MAX],
    pub routes: Routes,
    /// When the quiet time after the start is over.
    quiet_until: Now,
    /// The time of the last turn.
    pub turned_at: Now,
    pub connections: Slab<Connection>,
    /// What they are called, by the same numbers.
    pub names: Names,
    /// Those of them over IPv6.
    pub connections_v6: u32,
    /// What is missing, of the connections of which something is.
    pub gaps: Slab<Gaps>,
    pub index: Index,
    pub listeners: Listeners,
    /// Settings of connections, shared by those that have the same.
    pub options: OptionSets,
    /// See [`ShardConfig::claimed`].
    pub claimed: Option<Vec<(u16, u16)>>,
    /// By number of the listener, the options that its connections inherit.
    pub listener_options: Vec<OptionsId>,
    pub time_wait_v4: TimeWaitStore<TimeWaitV4>,
    pub time_wait_v6: TimeWaitStore<TimeWaitV6>,
    pub destinations: Destinations,
    /// Connections that former divisions have left with other shards.
    pub strangers: Arc<Strangers>,
    /// The divisions before this one, while something of theirs may be left, and the number of the last change.
    pub former: Former,
    /// This shard's number.
    pub shard: u16,
    pub neighbors: Neighbors,
    /// The interface of each neighbour.
    pub neighbor_interfaces: Vec<u8>,
    /// See [`ShardConfig::neighbors_elsewhere`].
    pub neighbors_elsewhere: bool,
    /// Neighbours that somebody else is to ask for, each with its interface.
    pub questions: Vec<(u8, IpAddr)>,
    /// See [`ShardConfig::reply_to_sender`].
    pub reply_to_sender: bool,
    /// What neighbours are told of own addresses.
    pub claims: Claims,
    /// What is known to be too large for the way to some peers.
    pub path_mtus: PathMtus,
    pub wheel: Wheel,
    /// Deadlines of connections that have lost something, to the microsecond, by record of what is missing.
    pub exact: Exact,
    /// Octets that peers have not acknowledged.
    pub sending: Chunks,
    /// Who gives way when memory runs short.
    pub pressure: Pressure,
    /// Connections that owe their peer something, by interface, first in first out: one without TX frames keeps no other waiting.
    pub owing: [List<Owing>; INTERFACES_MAX],
    /// Interfaces that had no TX frame for all of it in the last turn.
    pub tx_full: [bool; INTERFACES_MAX],
    /// Connections that wait for a neighbour, by neighbour.
    pub waiting: Vec<List<Owing>>,
    /// Connections with something to tell, first in first out.
    pub telling: List<Telling>,
    /// Connections that wait for the send pool, first in first out.
    pub starved: VecDeque<Handle>,
    /// What is kept of connections for reports only.
    pub histories: Histories,
    /// Timers of the application's own.
    pub timers: Timers,
    /// Connections that are joined to one another.
    pub splices: Splices,
    /// Connections of which the application does not know yet.
    pub accept: AcceptQueue,
    /// Connections in SYN-RECEIVED by passive open.
    pub half_open: u32,
    /// The secrets of SYN cookies.
    pub cookies: Cookies,
    /// Cookies that have made a connection.
    pub cookies_seen: Recent,
    /// What may still be answered for no connection.
    pub answer_bucket: AnswerBucket,
    /// What TIME-WAIT may still answer: its own, so that strangers do not use up the last ACKs of honest peers (B41).
    pub time_wait_bucket: AnswerBucket,
    /// For what must not be guessed from outside but need not be secret for ever.
    pub random: SmallRng,
    pub counters: Counters,
}

impl Core {
    pub(super) fn new(
        config: &ShardConfig,
        secrets: &Secrets,
        settings: Settings,
        interfaces: &[Expect],
        place: &Place,
        now: Now,
    ) -> Result<Core, ConfigError> {
        let limits = config.limits;
        let attachments = config.attachments();
        let routes = Routes::new(&attachments)?.with_transparent(&config.transparent)?;
        let (low, high) = config.ports;
        if low == 0 || low > high {
            return Err(ConfigError::BadPorts(low, high));
        }
        limits.check()?;
        let (time_wait_v4_max, time_wait_v6_max) = limits.time_wait_maxima(routes.families());
        config.bill_among(place.owners()).reserve()?;
        let entries = limits.index_entries(routes.families());
        Policies::of(&settings).check()?;
        if settings.send_buffer_bytes == 0 || !(1..=BUFFER_BYTES_MAX).contains(&settings.receive_buffer_bytes) {
            return Err(ConfigError::BadBuffers);
        }
        let two_msl_ms = 2 * config.msl_ms;
        let queued_ports_max = limits.queued_ports_max(routes.families());
        Ok(Core {
            settings,
            limits,
            interfaces: ::core::array::from_fn(|number| *interfaces.get(number).unwrap_or(&interfaces[0])),
            interface_count: interfaces.len() as u8,
            mtus: ::core::array::from_fn(|number| interfaces.get(number).map_or(0, |own| own.mtu as u16)),
            routes,
            quiet_until: now.plus_ms(config.quiet_time_ms.into()),
            turned_at: now,
            connections: Slab::new(limits.tcbs_max),
            names: Names::new(limits.tcbs_max),
            connections_v6: 0,
            gaps: Slab::new(limits.reassemblies_max.min(limits.tcbs_max)),
            index: Index::new(entries, secrets.index),
            listeners: Listeners::new(limits.listeners_max),
            claimed: config.claimed.clone(),
            options: OptionSets::new(),
            listener_options: filled(limits.listeners_max as usize, OptionsId::default),
            time_wait_v4: TimeWaitStore::new(time_wait_v4_max, two_msl_ms),
            time_wait_v6: TimeWaitStore::new(time_wait_v6_max, two_msl_ms),
            destinations: Destinations::new(
                DestinationLimits { destinations_max: limits.destinations_max, queued_ports_max, two_msl_ms },
                secrets.ports,
                Arc::clone(place.owners()),
                place.shard(),
            ),
            strangers: Arc::clone(place.strangers()),
            former: Former::new(),
            shard: place.shard(),
            neighbors: Neighbors::new(limits.neighbors_max, secrets.neighbors).asking(config.neighbor_timeout_s.max(1)),
            neighbor_interfaces: filled(limits.neighbors_max as usize, || 0),
            neighbors_elsewhere: config.neighbors_elsewhere,
            questions: room(QUESTIONS_MAX, || (0, IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
            reply_to_sender: config.reply_to_sender,
            claims: Claims::new(attachments.iter().flat_map(|at| &at.addresses).map(|own| own.address).collect()),
            path_mtus: PathMtus::new(PATH_MTUS_MAX, secrets.neighbors),
            wheel: Wheel::new(WHEEL_SLOTS, WHEEL_GRANULE_MS, now.tick()),
            exact: Exact::new(now),
            sending: Chunks::new(limits.chunks_max - limits.chunks_max / 2),
            pressure: Pressure::default(),
            owing: [const { List::new() }; INTERFACES_MAX],
            tx_full: [false; INTERFACES_MAX],
            waiting: (0..limits.neighbors_max).map(|_| List::new()).collect(),
            telling: List::new(),
            starved: room(STARVED_MAX, || Handle::from_bits(0)).into(),
            histories: Histories::new(limits.histories_max.min(limits.tcbs_max)),
            timers: Timers::new(limits.timers_max, expire_budget(&limits), now.tick()),
            splices: Splices::new(limits.splices_max.min(limits.tcbs_max / 2)),
            accept: AcceptQueue::new(limits.listeners_max),
            half_open: 0,
            cookies: Cookies::new(secrets.cookies, now),
            cookies_seen: Recent::new(limits.cookies_remembered_max),
            answer_bucket: AnswerBucket::new(&settings, now),
            time_wait_bucket: AnswerBucket::new(&settings, now),
            random: SmallRng::seed_from_u64(secrets.random),
            counters: Counters::default(),
        })
    }

    /// What is left of the quiet time after the start, ms (RFC 9293 3.4.3).
    #[inline]
    pub(super) fn quiet_for_ms(&self, now: Now) -> u64 {
        self.quiet_until.us().saturating_sub(now.us()).div_ceil(1000)
    }

    /// Where the large tables lie, for whoever can put them on huge pages.
    pub(super) fn regions(&self) -> impl Iterator<Item = Range<*const u8>> {
        let time_wait = [self.time_wait_v4.region(), self.time_wait_v6.region()];
        [self.connections.region(), self.names.region(), self.index.region()]
            .into_iter()
            .chain(time_wait)
            .chain([self.sending.region()])
    }

    /// Joins what an event did to a TCB with the tables: events to tell, segments to send, deadlines, the end.
    #[inline(always)]
    pub(super) fn settle(&mut self, number: u32, outcome: &Outcome, now: Now) {
        if outcome.is_unusual() {
            self.settle_unusual(number, outcome, now);
        }
        if outcome.established {
            self.begin(number, now);
        }
        if outcome.acked_bytes > 0 {
            let connection = &mut self.connections[number];
            self.sending.consume(&mut connection.to_send, outcome.acked_bytes);
            if connection.tell.take(Tell::WANTS_WRITABLE) {
                connection.tell.add(Tell::WRITABLE);
                self.tell(number);
            }
        }
        if outcome.peer_closed {
            self.connections[number].tell.add(Tell::PEER_CLOSED);
            self.tell(number);
        }
        match outcome.end {
            None => self.schedule(number),
            Some(end) => self.end(number, end, now),
        }
    }

    /// What few events bring.
    #[cold]
    #[inline(never)]
    fn settle_unusual(&mut self, number: u32, outcome: &Outcome, now: Now) {
        if let Some(note) = outcome.note {
            self.count(note);
        }
        self.counters.challenge_acks_suppressed += u64::from(outcome.challenge_suppressed);
        self.counters.fast_recoveries += u64::from(outcome.recovery_begins);
        if outcome.urgent {
            self.counters.urgent_received += 1;
            self.connections[number].tell.add(Tell::URGENT);
            self.tell(number);
        }
        if outcome.close_wait_lasts && !self.connections[number].facts.has(Fact::CLOSE_WAIT_LASTS) {
            self.connections[number].facts.add(Fact::CLOSE_WAIT_LASTS);
            self.counters.close_wait_lasting += 1;
        }
        if outcome.stalled {
            self.stalled(number, now);
        }
    }

    /// The handshake has completed.
    #[inline(never)]
    fn begin(&mut self, number: u32, now: Now) {
        self.counters.established += 1;
        self.begin_with_path_mtu(number, now);
        self.forget_former(number);
        self.half_open -= u32::from(self.connections[number].tcb.opened() == Opened::Passively);
        self.enter_accept_queue(number, now);
    }

    /// The TCB's life is over: what is left of it goes where `end` says.
    #[inline(never)]
    fn end(&mut self, number: u32, end: End, now: Now) {
        match end {
            End::Listen => {
                self.half_open -= 1;
                self.counters.half_open_failed += 1;
                let left = self.leave_index(number);
                self.retire(number, left, now);
                self.owing_remove(number);
                self.let_go(number);
            }
            End::Closed(reason) => {
                let left = self.leave_index(number);
                self.close(number, reason, left, now);
            }
            End::TimeWait => {
                let left = self.enter_time_wait(number, now);
                self.close(number, CloseReason::Graceful, left, now);
            }
        }
    }

    /// R1 of RFC 9293 3.8.3: the application is told, and the next hop asked for (MUST-20).
    fn stalled(&mut self, number: u32, now: Now) {
        self.counters.stalled += 1;
        let connection = &mut self.connections[number];
        self.neighbors.doubted(self.names[number].neighbor, now.tick());
        if !connection.tcb.is_half_open_passively() {
            connection.tell.add(Tell::STALLED);
            self.tell(number);
        }
    }

    /// Whether whoever listened when the SYN came listens still; what an application opened itself is always wanted.
    #[inline(always)]
    pub(super) fn is_still_wanted(&self, number: u32) -> bool {
        if self.connections[number].tcb.opened() == Opened::Actively {
            return true;
        }
        let Name { tuple, origin, .. } = &self.names[number];
        self.listeners.end(*origin).is_some_and(|(address, port)| {
            let any = address.is_unspecified() && address.is_ipv4() == tuple.is_v4();
            port == tuple.local_port && (any || address == tuple.local())
        })
    }

    /// A connection that has completed its handshake when nobody listens any more: RST, and no application hears of it. What
    /// its last segment brought is not taken.
    pub(super) fn turn_away(&mut self, number: u32, now: Now) {
        self.counters.established += 1;
        self.counters.closed_aborted += 1;
        self.half_open -= 1;
        self.forget_former(number);
        let connection = &mut self.connections[number];
        connection.tcb.end(CloseReason::Aborted);
        connection.tcb.owed.add(Owed::RESET);
        connection.facts.add(Fact::TOLD_CLOSED);
        let left = self.leave_index(number);
        self.retire(number, left, now);
        self.owe(number);
    }

    /// Puts the connection on the list of what is owed and on the wheel, if it has reason to be there.
    #[inline(always)]
    pub(super) fn schedule(&mut self, number: u32) {
        let connection = &self.connections[number];
        if connection.tcb.owes() {
            self.owe(number);
        }
        self.arm(number);
    }

    /// Puts the connection on the wheel for its earliest deadline.
    #[inline(always)]
    pub(super) fn arm(&mut self, number: u32) {
        if let Some(deadline) = self.connections[number].tcb.deadline() {
            self.wheel.arm(&mut self.connections, number, deadline);
        }
    }

    /// Puts the connection on the list of what is owed, unless it is there or waits for its neighbour.
    #[inline(always)]
    pub(super) fn owe(&mut self, number: u32) {
        if !List::<Owing>::is_linked(&self.connections, number) {
            let interface = self.interface_of(number);
            self.owing[interface].push_back(&mut self.connections, number);
        }
    }

    /// Puts the connection on the list of what the application has to be told.
    #[inline]
    pub(super) fn tell(&mut self, number: u32) {
        if !List::<Telling>::is_linked(&self.connections, number) {
            self.telling.push_back(&mut self.connections, number);
        }
    }

    /// The connection has ended for `reason`, its 4-tuple with what is `left`: it becomes a remnant until the application has been told.
    #[inline(always)]
    pub(super) fn close(&mut self, number: u32, reason: CloseReason, left: Left, now: Now) {
        let counter = match reason {
            CloseReason::Graceful => &mut self.counters.closed_graceful,
            CloseReason::Reset => &mut self.counters.closed_reset,
            CloseReason::Refused => &mut self.counters.closed_refused,
            CloseReason::Aborted => &mut self.counters.closed_aborted,
            CloseReason::TimedOut => &mut self.counters.closed_timed_out,
            CloseReason::Unreachable => &mut self.counters.closed_unreachable,
        };
        *counter += 1;
        self.retire(number, left, now);
        if self.connections[number].tcb.owes() {
            self.owe(number);
        } else {
            self.owing_remove(number);
        }
        if self.is_deferred(number) && self.connections[number].has_received_nothing() {
            // It came to nothing before the application heard of it.
            self.drop_from_accept_queue(number);
            if !self.connections[number].tcb.owes() {
                self.let_go(number);
            }
            return;
        }
        let tell = &mut self.connections[number].tell;
        tell.remove(Tell::WRITABLE | Tell::WANTS_WRITABLE);
        tell.add(Tell::CLOSED);
        self.tell(number);
    }

    /// The 4-tuple is free: whoever comes next finds nobody, or the TIME-WAIT of the former incarnation, which this one did
    /// not complete its handshake to replace (RFC 9293 3.6.1).
    #[inline(always)]
    pub(super) fn leave_index(&mut self, number: u32) -> Left {
        let (hash, own) = (self.names[number].hash, Value::new(Kind::Tcb, number));
        let (was_there, left) = match self.connections[number].take_former() {
            None => (self.index.remove(hash, own), Left::Nothing),
            Some(former) => (self.index.replace(hash, own, former), Left::Former),
        };
        debug_assert!(was_there, "a live TCB was not in the index");
        left
    }

    /// Gives back what only a live TCB needs: its timer, its port, its unacknowledged octets.
    #[inline(always)]
    fn retire(&mut self, number: u32, left: Left, now: Now) {
        self.wheel.stop(&mut self.connections, number);
        let connection = &mut self.connections[number];
        self.sending.clear(&mut connection.to_send);
        let name = &mut self.names[number];
        if name.is_from_destination(&connection.tcb) {
            let destination = core::mem::replace(&mut name.origin, NONE);
            self.destinations.give_back(destination, name.tuple.local_port, left, now.tick());
        }
    }

    /// The last step of a remnant, or of a half-open connection that failed: the slot is free.
    #[inline(always)]
    pub(super) fn let_go(&mut self, number: u32) {
        debug_assert!(!self.connections[number].wheel_link().is_armed(), "a timer of what is let go");
        debug_assert!(!self.connections[number].facts.has(Fact::SPLICED), "one end of a splice");
        self.neighbors.release(self.names[number].neighbor);
        self.options.release(self.connections[number].tcb.options);
        self.connections_v6 -= u32::from(!self.connections[number].tcb.is_v4());
        self.connections.remove(number);
    }

    /// Whether the index entry `value` is the record of `tuple`.
    #[inline(always)]
    pub(super) fn is_record_of(&self, value: Value, tuple: &FourTuple) -> bool {
        match value.kind() {
            Kind::Tcb => {
                debug_assert!(self.connections.is_live(value.number()), "a free record in the index");
                self.names[value.number()].tuple == *tuple
            }
            Kind::TimeWaitV4 => self.time_wait_v4[value.number()].tuple() == *tuple,
            Kind::TimeWaitV6 => self.time_wait_v6[value.number()].tuple() == *tuple,
        }
    }

    /// The earliest deadline of any kind; a lower bound.
    pub(super) fn next_deadline(&self, at: Now) -> Option<Now> {
        let now = at.tick();
        let fed = !self.starved.is_empty() && self.sending.free() > 0;
        if fed || !self.telling.is_empty() || self.lags(at) {
            return Some(at);
        }
        // Nothing wakes who waits for a TX frame.
        let owing = self.owing.iter().zip(self.tx_full).filter(|(owing, _)| !owing.is_empty());
        [
            owing.map(|(_, full)| if full { now.plus(TX_RETRY_MS) } else { now }).reduce(Tick::min),
            self.wheel.next_deadline(now),
            self.timers.next_deadline(now),
            self.time_wait_v4.next_deadline(),
            self.time_wait_v6.next_deadline(),
            self.neighbors.next_deadline(),
            self.claims.next_deadline(now),
        ]
        .into_iter()
        .flatten()
        .reduce(Tick::min)
        .map(|tick| at.until_tick(tick))
        .into_iter()
        .chain(self.exact.next_deadline(at))
        .min()
    }

    /// Connections by state.
    pub(super) fn states(&self) -> StateCounts {
        let mut tcbs = [0; State::ALL.len()];
        for (_, connection) in self.connections.iter() {
            tcbs[connection.tcb.state as usize] += 1;
        }
        StateCounts { tcbs, listeners: self.listeners.len(), time_wait: self.time_wait_len() }
    }

    /// Whether one more answer for no connection may leave now (T02).
    pub(super) fn may_answer(&mut self, found: Found, now: Now) -> bool {
        let random = self.random.random();
        let bucket = match found {
            Found::TimeWait(_) => &mut self.time_wait_bucket,
            Found::Tcb(_) | Found::Listener(_) | Found::Nobody => &mut self.answer_bucket,
        };
        let may = bucket.take(&self.settings, now, random);
        self.counters.rst_suppressed += u64::from(!may);
        may
    }

    pub(super) fn count(&mut self, note: Note) {
        let counter = match note {
            Note::RstAccepted => &mut self.counters.rst_accepted,
            Note::RstIgnored => &mut self.counters.rst_ignored,
            Note::ReturnedToListen => &mut self.counters.syn_returned_to_listen,
            Note::ChallengeAck => &mut self.counters.challenge_acks,
            Note::OutOfWindow => &mut self.counters.segments_out_of_window,
            Note::BadAck => &mut self.counters.segments_bad_ack,
            Note::Paws => &mut self.counters.segments_paws,
            Note::Ignored => &mut self.counters.segments_ignored,
            Note::OutOfOrder => &mut self.counters.segments_out_of_order,
            Note::TimedOut => &mut self.counters.time_outs,
            Note::TailProbe => &mut self.counters.tail_probes,
            Note::NoReceiveRoom => &mut self.counters.receive_pool_exhausted,
            Note::TimeWaitRestart => &mut self.counters.time_wait_restarted,
            Note::KeepaliveProbe => &mut self.counters.keepalive_probes,
            Note::KeepaliveTimeout => &mut self.counters.keepalive_timeouts,
            Note::UserTimeout => &mut self.counters.user_timeouts,
            Note::StalledEnded => &mut self.counters.stalled_ended,
            Note::IcmpUnmatched => &mut self.counters.icmp_unmatched,
            Note::IcmpSoft => &mut self.counters.icmp_soft,
            Note::IcmpHard => &mut self.counters.icmp_hard,
            Note::SourceQuench => &mut self.counters.icmp_source_quench,
            Note::PathMtuLowered => &mut self.counters.path_mtu_lowered,
            Note::PathMtuRefused => &mut self.counters.path_mtu_refused,
        };
        *counter += 1;
    }

    /// Deadlines that one turn may treat.
    pub(super) fn expire_budget(&self) -> usize {
        expire_budget(&self.limits)
    }
}

/// Questions about neighbours that wait for somebody else at a time; more are asked again after a second.
pub(super) const QUESTIONS_MAX: usize = 64;

/// Slots of the TCB wheel. Origin: with its granule they span 32 s, past most deadlines; a longer one is looked at again per lap.
pub(super) const WHEEL_SLOTS: u32 = 4096;

/// Granule of the TCB wheel, ms. Smaller costs slots, larger makes a delayed ACK late.
pub(super) const WHEEL_GRANULE_MS: u32 = 8;

/// How long who waits for a TX frame may sleep, ms: completions of a NIC come within microseconds, those of a dead one never.
pub(super) const TX_RETRY_MS: u32 = 1;
