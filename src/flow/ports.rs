//! Local ports for active opens: one record per destination, and a draw that asks about one port, or about eight where all
//! wait; only where ports lie in another order than that in which they come free about more, and never without a bound.
//!
//! A destination starts at a port that a keyed hash chooses (RFC 6056 3.3.3) and takes the ports that this shard owns
//! once around, one by one (`owner`: segments to any other port would arrive at another shard). Ports that come back
//! wait in two queues, of those that are free at once and of those in TIME-WAIT; when the lap is done, the oldest of the
//! first is next, or else of the second. The queues share a bounded pool: a port that finds it full is forgotten, and a
//! destination that forgot one drops its queue and takes another lap, in the order in which the ports were drawn. While TIME-WAIT is
//! full only a port in TIME-WAIT will do; a free one that comes up meanwhile changes from the second queue to the first.
//!
//! Whether a port is free is not known here: the caller looks the 4-tuple up and answers with a [`PortStatus`].

use super::index::{Hash, Index};
use super::list::{Link, Linked, List};
use super::port_queue::{PortPool, PortQueue};
use super::slab::{Record, Slab};
use crate::four_tuple::{Addresses, FourTuple};
use crate::ids::{Kind, Value};
use crate::owner::{Lap, Owners};
use crate::tick::Tick;
use alloc::sync::Arc;
use core::mem::size_of;
use core::net::IpAddr;

/// What a port is taken for: a connection from `local` to `remote`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DestinationKey {
    /// Our address.
    pub local: IpAddr,
    /// The peer's address, of the same family.
    pub remote: IpAddr,
    /// The peer's port, host order.
    pub remote_port: u16,
}

/// What stands against a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortStatus {
    /// Nothing: the 4-tuple is unknown.
    Free,
    /// As little, but TIME-WAIT has no place for what a new connection would leave there.
    NoPlace,
    /// The 4-tuple is in TIME-WAIT.
    TimeWait {
        /// Until the 2MSL ends, ms.
        free_in_ms: u32,
        /// Whether the reuse policy lets a new connection have it now (B45).
        reusable: bool,
    },
    /// A connection has the 4-tuple and gives the port back to its destination.
    InUse,
    /// Somebody has the 4-tuple who gives nothing back.
    Busy,
}

/// What is left of a connection whose port comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// A TIME-WAIT record that begins.
    TimeWait,
    /// The TIME-WAIT record of the former incarnation.
    Former,
    /// Nothing: the 4-tuple is free.
    Nothing,
}

/// Why no port can be drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DrawError {
    /// No port of the range is free for this destination.
    #[error(
        "no local port is free for this destination (of {owned} that this shard owns {in_use} in use, {time_wait} in \
         TIME-WAIT): add a source address or a destination, widen the port range, or allow reuse"
    )]
    PortsExhausted {
        /// Ports of the range that belong to this shard for this destination.
        owned: u32,
        /// Ports that were drawn and not given back.
        in_use: u32,
        /// The others: in TIME-WAIT, as far as is known, or not asked about yet.
        time_wait: u32,
        /// When it is worth another try, ms; `None` if that depends on connections that are open. 0: this draw has not come to the end,
        /// and the next goes on. 1: the pool had no room for some ports, and only the next lap can tell who has them.
        next_free_in_ms: Option<u32>,
    },
    /// Every destination record has a port in use or in TIME-WAIT.
    #[error("all destination records own a port: raise the limit on destinations")]
    DestinationsExhausted,
}

/// The destinations of a shard.
pub struct Destinations {
    slab: Slab<Destination>,
    index: Index,
    queues: PortPool,
    /// Destinations with no port in use and none in TIME-WAIT as far as known: the first gives way to a new one.
    unused: List<Idle>,
    /// Destinations with no port in use whose last TIME-WAIT may go on.
    waiting: List<Idle>,
    /// Whose each port is, and which of the shards this is.
    owners: Arc<Owners>,
    shard: u16,
    /// The owners have changed: a port that comes back may be another shard's now.
    changed: bool,
    two_msl_ms: u32,
    /// How many destinations were made: mixed into where each starts.
    made: u32,
}

/// How a [`Destinations`] is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DestinationLimits {
    /// Destinations that can own a port at a time.
    pub destinations_max: u32,
    /// Ports that can wait in queues; those of all destinations together.
    pub queued_ports_max: u32,
    /// How long a destination's last port may be in TIME-WAIT, ms.
    pub two_msl_ms: u32,
}

impl Destinations {
    /// An empty set of destinations of shard number `shard`. `key` must be secret and random.
    pub fn new(limits: DestinationLimits, key: (u64, u64), owners: Arc<Owners>, shard: u16) -> Destinations {
        let max = limits.destinations_max.min(Value::NUMBER_MAX);
        Destinations {
            slab: Slab::new(max),
            index: Index::new(max, key),
            queues: PortPool::new(limits.queued_ports_max, max),
            unused: List::new(),
            waiting: List::new(),
            owners,
            shard,
            changed: false,
            two_msl_ms: limits.two_msl_ms,
            made: 0,
        }
    }

    /// Bytes that such a set takes: 123 per destination, 64 for its part of the queues, 2.1 per queued port.
    pub const fn bill(limits: &DestinationLimits) -> u64 {
        Slab::<Destination>::bill(limits.destinations_max)
            + Index::bill(limits.destinations_max)
            + PortPool::bill(limits.queued_ports_max, limits.destinations_max)
    }

    /// Draws a local port for a connection, and says which destination it is to be given back to.
    ///
    /// How often `status` is asked, most often once: about 16,384 ports of a first lap or of one after a change of owners, 512 of a
    /// lap in order; 8 that were free at once, 16 that begin the queue and 512 of them that are taken, 512 in a sweep. Where that
    /// leaves some out the draw fails with a next try in 0 ms, which goes on where this one was.
    #[inline(always)]
    pub fn draw(
        &mut self,
        key: &DestinationKey,
        now: Tick,
        mut status: impl FnMut(u16) -> PortStatus,
    ) -> Result<(u32, u16), DrawError> {
        let number = self.destination(key, now)?;
        let mut soonest = Soonest::default();
        self.begin_lap_if_some_were_forgotten(number);
        // What the lap adds to the queue has been asked about.
        let queued = self.slab[number].queue.len();
        let drawn = self
            .draw_fresh(number, &mut soonest, &mut status)
            .or_else(|| self.draw_free(number, &mut soonest, &mut status))
            .or_else(|| self.draw_queued(number, queued, &mut soonest, &mut status))
            .or_else(|| {
                let passed = self.pass_taken(number, queued, &mut soonest, &mut status);
                if passed == 0 { None } else { self.draw_queued(number, queued - passed, &mut soonest, &mut status) }
            })
            .or_else(|| self.sweep(number, now, true, &mut soonest, &mut status));
        self.hand_out(number, drawn, soonest)
    }

    /// As [`Destinations::draw`] while TIME-WAIT is full: only a port will do whose place there the connection takes over. Those that are
    /// free ([`PortStatus::NoPlace`]) are set aside, each once, for when there is room.
    ///
    /// Most often 8 are asked about where none will do; at most 512 that are set aside, as many of a lap as [`Destinations::draw`] asks
    /// about, 8 of the queue and 512 in a sweep.
    pub fn draw_again(
        &mut self,
        key: &DestinationKey,
        now: Tick,
        mut status: impl FnMut(u16) -> PortStatus,
    ) -> Result<(u32, u16), DrawError> {
        let number = self.destination(key, now)?;
        let mut soonest = Soonest::default();
        self.note_whether_the_queue_draws(number);
        self.set_free_aside(number, &mut status);
        let queued = self.slab[number].queue.len();
        // What a first lap has yet to come to was never in TIME-WAIT.
        let lap_has_drawn = self.slab[number].kind != LapKind::First;
        let drawn = if lap_has_drawn { self.draw_fresh(number, &mut soonest, &mut status) } else { None };
        let drawn = drawn
            .or_else(|| self.draw_queued(number, queued, &mut soonest, &mut status))
            .or_else(|| self.sweep(number, now, false, &mut soonest, &mut status));
        self.hand_out(number, drawn, soonest)
    }

    #[inline(always)]
    fn hand_out(&mut self, number: u32, drawn: Option<u16>, mut soonest: Soonest) -> Result<(u32, u16), DrawError> {
        let destination = &mut self.slab[number];
        match drawn {
            Some(port) => {
                destination.drawn = destination.drawn.saturating_add(1);
                destination.in_use += 1;
                if destination.in_use == 1 {
                    self.unlist(number);
                }
                Ok((number, port))
            }
            None => {
                // The next draw begins a lap, which comes to those that were forgotten. Not at once: if all are in use
                // that lap finds nothing either, and a caller told 0 each time would spin.
                if destination.lap.is_done() && destination.forgotten > 0 {
                    soonest.note(1);
                }
                Err(DrawError::PortsExhausted {
                    owned: destination.lap.owned(),
                    in_use: destination.in_use.into(),
                    time_wait: destination.waiting(),
                    next_free_in_ms: soonest.0,
                })
            }
        }
    }

    /// The port that the next draw for this destination asks about first, as far as can be told: its 4-tuple can be asked for ahead.
    #[inline]
    pub fn next_asked(&self, destination: u32) -> Option<u16> {
        let record = &self.slab[destination];
        if record.lap.is_done() {
            let queue = if record.free.is_empty() { &record.queue } else { &record.free };
            self.queues.iter(queue).next()
        } else {
            self.owners.next_port(self.shard, &mut record.lap.clone())
        }
    }

    /// Takes back a port that was drawn, when its connection enters TIME-WAIT or CLOSED.
    #[inline(always)]
    pub fn give_back(&mut self, destination: u32, port: u16, left: Left, now: Tick) {
        if !self.slab.is_live(destination) {
            return;
        }
        if self.joins_queue(destination, port) {
            match left {
                Left::TimeWait | Left::Former => self.enqueue(destination, port),
                Left::Nothing => self.set_aside(destination, port),
            }
        } else if left == Left::Nothing && self.owns(destination, port) {
            // It lies ahead of a lap, which may wait for others before it comes there.
            self.slab[destination].free_hidden = true;
        }
        let record = &mut self.slab[destination];
        record.in_use = record.in_use.saturating_sub(1);
        record.passed = 0;
        if left == Left::TimeWait {
            record.waited_at = now;
        }
        if record.in_use == 0 {
            record.waits = now.since(record.waited_at) < self.two_msl_ms;
            let list = if record.waits { &mut self.waiting } else { &mut self.unused };
            list.push_back(&mut self.slab, destination);
        }
    }

    /// Changes how long a destination's last port may be in TIME-WAIT, ms.
    pub const fn set_two_msl(&mut self, two_msl_ms: u32) {
        self.two_msl_ms = two_msl_ms;
    }

    /// Whose each port is has changed: every destination begins a new lap, and what waited in its queue comes up there.
    pub fn change_owners(&mut self, owners: &Arc<Owners>) {
        self.owners = Arc::clone(owners);
        self.changed = true;
        for number in 0..self.slab.max() {
            let key = self.slab.is_live(number).then(|| self.slab[number].key).flatten();
            if let Some(key) = key {
                let lap = self.lap(&key);
                let record = &mut self.slab[number];
                self.queues.clear(&mut record.queue);
                self.queues.clear(&mut record.free);
                (record.lap, record.kind, record.queue_draws) = (lap, LapKind::Anew, false);
                (record.forgotten, record.passed, record.swept, record.free_hidden) = (0, 0, [0; 2], false);
            }
        }
    }

    /// The shard that owns the connection, if it is not this one.
    pub fn other_owner(&self, tuple: &FourTuple) -> Option<u16> {
        let owner = self.owners.owner(tuple);
        (owner != self.shard).then_some(owner)
    }

    /// Destinations with a port in use, with one that may be in TIME-WAIT, and those that were not evicted since.
    pub fn len(&self) -> u32 {
        self.slab.len()
    }

    /// Whether there is no destination.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Ports that were drawn and not given back, of all destinations. Reads every record: for reports.
    pub fn ports_in_use(&self) -> u64 {
        self.slab.iter().map(|(_, record)| u64::from(record.in_use)).sum()
    }

    /// Nodes of the queues' pool that are neither free nor in a queue: 0, unless some were lost. Walks the pool: for reports.
    pub fn nodes_lost(&self) -> u32 {
        let queued: u32 = self.slab.iter().map(|(_, record)| record.queue.nodes() + record.free.nodes()).sum();
        self.queues.used().abs_diff(queued)
    }

    /// Ports of a destination that were drawn and not given back, and ports given back, not drawn again and not free at once: of those
    /// that were forgotten too many until the next lap, for what a sweep finds is still counted.
    pub fn ports_of(&self, destination: u32) -> (u32, u32) {
        let record = &self.slab[destination];
        (record.in_use.into(), record.queue.len() + u32::from(record.forgotten))
    }

    /// The record of this destination; a new one if there is none.
    #[inline(always)]
    fn destination(&mut self, key: &DestinationKey, now: Tick) -> Result<u32, DrawError> {
        let hash = self.hash(key);
        if let Some(value) = self.index.find(hash, |value| self.slab[value.number()].key == Some(*key)) {
            return Ok(value.number());
        }
        let number = match self.slab.insert() {
            Some(number) => number,
            None => self.evict(now).and_then(|()| self.slab.insert()).ok_or(DrawError::DestinationsExhausted)?,
        };
        if self.index.insert(hash, Value::new(Kind::Tcb, number)).is_err() {
            self.slab.remove(number);
            return Err(DrawError::DestinationsExhausted);
        }
        self.made = self.made.wrapping_add(1);
        let lap = self.lap(key);
        let record = &mut self.slab[number];
        record.key = Some(*key);
        record.lap = lap;
        record.waited_at = Tick(now.0.wrapping_sub(self.two_msl_ms));
        record.swept_at = now;
        self.unused.push_back(&mut self.slab, number);
        Ok(number)
    }

    /// Removes the destination that has been unused for longest, or the first whose last TIME-WAIT has ended meanwhile.
    fn evict(&mut self, now: Tick) -> Option<()> {
        // A TIME-WAIT that began long before the last port came back may be over behind one that goes on.
        let over = |number: &u32| now.since(self.slab[*number].waited_at) >= self.two_msl_ms;
        let waiting = core::iter::successors(self.waiting.front(), |number| self.waiting.after(&self.slab, *number));
        let number = match waiting.take(WAITING_ASKED_MAX).find(over) {
            Some(number) => number,
            None => self.unused.front()?,
        };
        self.unlist(number);
        let record = &mut self.slab[number];
        self.queues.clear(&mut record.queue);
        self.queues.clear(&mut record.free);
        if let Some(key) = record.key.take() {
            self.index.remove(self.hash(&key), Value::new(Kind::Tcb, number));
        }
        self.slab.remove(number);
        Some(())
    }

    /// Takes it off the list of those with no port in use.
    fn unlist(&mut self, number: u32) {
        let list = if self.slab[number].waits { &mut self.waiting } else { &mut self.unused };
        list.remove(&mut self.slab, number);
    }

    /// Takes the first of the queue; a sweep that goes on has come so much less far.
    fn dequeue(&mut self, number: u32) -> Option<u16> {
        let record = &mut self.slab[number];
        record.swept.iter_mut().filter(|swept| **swept > 1).for_each(|swept| *swept -= 1);
        self.queues.pop(&mut record.queue)
    }

    /// Queues a port, or forgets it if the pool is full.
    #[inline(always)]
    fn enqueue(&mut self, number: u32, port: u16) {
        let record = &mut self.slab[number];
        if !self.queues.push(&mut record.queue, port) {
            record.forgotten = record.forgotten.saturating_add(1);
        }
    }

    /// Keeps a port that is free, or would be if it had a place in TIME-WAIT, or forgets it if the pool is full.
    fn set_aside(&mut self, number: u32, port: u16) {
        let record = &mut self.slab[number];
        if !self.queues.push(&mut record.free, port) {
            record.forgotten = record.forgotten.saturating_add(1);
            record.free_hidden = true;
        }
    }

    /// Keeps a port that was passed for when its turn comes; one in use comes back when it is given back.
    fn keep(&mut self, number: u32, port: u16, status: PortStatus) {
        match status {
            PortStatus::InUse => {}
            PortStatus::NoPlace => self.set_aside(number, port),
            PortStatus::Free | PortStatus::TimeWait { .. } | PortStatus::Busy => self.enqueue(number, port),
        }
    }

    /// A lap from a start that nobody else can tell (T10).
    fn lap(&self, key: &DestinationKey) -> Lap {
        let random = self.index.wide_hash(&salted(key, self.made as u16));
        self.owners.lap(self.shard, &Addresses::new(key.local, key.remote), key.remote_port, random)
    }

    /// Whether a port that comes back waits in the queue: not if it is another shard's now, or if the lap, which is not the
    /// first, has yet to come to it.
    #[inline(always)]
    fn joins_queue(&self, destination: u32, port: u16) -> bool {
        let record = &self.slab[destination];
        let is_first = !self.changed && record.kind == LapKind::First;
        is_first || self.owns(destination, port) && self.owners.is_passed(self.shard, &record.lap, port)
    }

    fn owns(&self, destination: u32, port: u16) -> bool {
        let tuple = |key: DestinationKey| FourTuple::new(key.local, port, key.remote, key.remote_port);
        self.slab[destination].key.is_some_and(|key| self.other_owner(&tuple(key)).is_none())
    }

    #[inline]
    fn hash(&self, key: &DestinationKey) -> Hash {
        self.index.hash(&salted(key, 0))
    }
}

/// What is hashed of a destination.
const fn salted(key: &DestinationKey, salt: u16) -> FourTuple {
    FourTuple::new(key.local, salt, key.remote, key.remote_port)
}

/// What is known of one destination.
#[derive(Default)]
struct Destination {
    key: Option<DestinationKey>,
    generation: u32,
    /// The ports of the lap that were not asked about yet.
    lap: Lap,
    kind: LapKind,
    /// The lap is done, and the queues have every port that is not in use: they draw.
    queue_draws: bool,
    /// With no port in use: the list that it is in is that of those whose last TIME-WAIT may go on.
    waits: bool,
    /// A free port lies where only a lap or a sweep comes by: the pool had no room for it, or it came back ahead of the lap.
    free_hidden: bool,
    /// Ports drawn and not given back.
    in_use: u16,
    /// Ports that the pool had no room for.
    forgotten: u16,
    /// Queued ports that were found taken in a row, since one came back or began the queue that was not.
    passed: u16,
    /// How far behind those that wait a sweep has come while TIME-WAIT was full, and one while there was room; 0: none goes on.
    swept: [u32; 2],
    /// Ports drawn since the last sweep.
    drawn: u16,
    /// Ports given back to TIME-WAIT and not drawn again, the oldest first, and ports that were found taken.
    queue: PortQueue,
    /// Ports given back that were free at once, the oldest first.
    free: PortQueue,
    idle: Link,
    /// When a port was given back to TIME-WAIT last.
    waited_at: Tick,
    /// When a sweep asked about ports last.
    swept_at: Tick,
}

/// What is known of the order of a lap's ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum LapKind {
    /// It is the first: what lies ahead has never been drawn.
    #[default]
    First,
    /// Ports in use and in TIME-WAIT lie anywhere.
    Anew,
    /// Ports come in the order in which they were drawn before.
    InOrder,
}

impl Destination {
    /// Ports that were drawn and given back, and were not free at once: in TIME-WAIT, as far as known.
    fn waiting(&self) -> u32 {
        let never_drawn = if self.kind == LapKind::First { self.lap.left() } else { 0 };
        self.lap.owned().saturating_sub(u32::from(self.in_use) + never_drawn + self.free.len())
    }
}

/// Names the lists of destinations with no port in use.
struct Idle;

impl Record for Destination {
    fn generation(&self) -> u32 {
        self.generation
    }

    fn set_generation(&mut self, generation: u32) {
        self.generation = generation;
    }

    fn next_free(&mut self) -> &mut u32 {
        &mut self.swept[0]
    }
}

impl Linked<Idle> for Destination {
    fn link(&self) -> &Link {
        &self.idle
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.idle
    }
}

/// The shortest time after which a port that was asked about is free, ms.
#[derive(Default)]
struct Soonest(Option<u32>);

impl Soonest {
    fn note(&mut self, in_ms: u32) {
        self.0 = Some(self.0.map_or(in_ms, |soonest| soonest.min(in_ms)));
    }
}

/// Destinations that wait of which a new one asks whether they still do.
const WAITING_ASKED_MAX: usize = 8;

const _: () = assert!(size_of::<Destination>() <= 116);

mod draw;
#[cfg(test)]
mod tests;
