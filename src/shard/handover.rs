//! Frames between shards: what arrives where its connection is not is copied to the shard that owns it.
//!
//! ```text
//!   a turn here --put--> batch --full queue--> stage 1 of the owner's turn
//!                          ^                     |
//!                          +---- empty queue ----+
//! ```
//! Only a segment that no record here answers for is asked about, so connections at home pay nothing. The owner does
//! with it what it would with one of its own queue; a listener's answer or a RST comes from there alone.
//! TIME-WAIT answers here too, but while former functions are asked only what is its own by the numbers: the 4-tuple may have a new connection
//! elsewhere since, or a newer record.
//!
//! **After a change of owners** the former functions are asked too, the newest first, until no connection of theirs is left: a
//! frame counts how many were asked, and so takes a bounded number of steps. When all have been, the owner has the last word.

use super::burst::{Arrival, Burst, Control, Message};
use super::core::Core;
use super::find::Found;
use super::icmp;
use super::strangers::{FORMER_MAX, Strangers};
use crate::counters::Counters;
use crate::flow::index::Hash;
use crate::four_tuple::FourTuple;
use crate::ids::{Kind, Value};
use crate::limits::Limits;
use crate::link::Link;
use crate::owner::Owners;
use crate::tcp::state::State;
use crate::tcp::time_wait;
use crate::tick::Now;
use crate::touched::room;
use crate::wire::arp::Operation;
use crate::wire::ndp;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use crossbeam::queue::ArrayQueue;

/// One shard's place among those of its stack.
#[derive(Debug)]
pub struct Place {
    mesh: Arc<Mesh>,
    owners: Arc<Owners>,
    shard: u16,
}

impl Place {
    /// The places of all shards between which `owners` divides connections, in order of their numbers.
    pub fn all(owners: &Arc<Owners>, limits: &Limits) -> Vec<Place> {
        let batches = if owners.shards() > 1 { batches(limits) } else { 0 };
        let inboxes = (0..owners.shards()).map(|_| Inbox::new(batches)).collect();
        let mesh = Arc::new(Mesh { inboxes, strangers: Arc::new(Strangers::new(owners.shards())) });
        (0..owners.shards()).map(|shard| Place { mesh: Arc::clone(&mesh), owners: Arc::clone(owners), shard }).collect()
    }

    /// The place of a shard without others, which draws local ports from `ports`.
    pub fn alone(ports: (u16, u16)) -> Place {
        let mesh = Arc::new(Mesh { inboxes: [Inbox::new(0)].into(), strangers: Arc::new(Strangers::new(1)) });
        Place { mesh, owners: Arc::new(Owners::alone(ports)), shard: 0 }
    }

    /// The function that divides connections.
    pub fn owners(&self) -> &Arc<Owners> {
        &self.owners
    }

    /// The shard's number.
    pub fn shard(&self) -> u16 {
        self.shard
    }

    pub(super) fn strangers(&self) -> &Arc<Strangers> {
        &self.mesh.strangers
    }
}

/// Batches that wait for one shard among several.
pub(super) fn batches(limits: &Limits) -> u32 {
    limits.handover_batches_max.max(1)
}

/// Bytes of the frames that wait for one shard, and of their places in its two queues.
pub(super) fn bill(limits: &Limits) -> u64 {
    let place = size_of::<Batch>() + size_of::<usize>();
    u64::from(batches(limits)) * (BATCH_BYTES + BATCH_FRAMES * size_of::<Entry>() + 2 * place) as u64
}

/// One shard's end of the queues.
#[derive(Debug)]
pub(super) struct Handover {
    mesh: Arc<Mesh>,
    shard: u16,
    owners: Arc<Owners>,
    /// The functions that held before, the newest first, while a connection of theirs may be left.
    former: Vec<Arc<Owners>>,
    /// Batches that are being filled, by the shard that they are for.
    open: Box<[Option<Batch>]>,
    /// Shards that were sent something in the last turn.
    sent_to: Vec<u16>,
    /// The batch that is being received, and the frames of it already received.
    reading: Option<(Batch, usize)>,
    /// What the mesh knows of this shard's questions about neighbours.
    asks: bool,
    sweep: Sweep,
}

impl Handover {
    pub(super) fn new(place: Place) -> Handover {
        let Place { mesh, owners, shard } = place;
        let shards = mesh.inboxes.len();
        Handover {
            mesh,
            shard,
            owners,
            former: Vec::with_capacity(FORMER_MAX),
            open: (0..shards).map(|_| None).collect(),
            sent_to: Vec::with_capacity(shards),
            reading: None,
            asks: false,
            sweep: Sweep::default(),
        }
    }

    pub(super) fn owners(&self) -> &Arc<Owners> {
        &self.owners
    }

    /// The functions that held before, the newest first, while a connection of theirs may be left.
    pub(super) fn former(&self) -> &[Arc<Owners>] {
        &self.former
    }

    /// Whether connections that a former function left here are still to be marked: until then draws of other shards fail.
    pub(super) fn is_marking(&self) -> bool {
        !self.former.is_empty() && self.mesh.strangers.marked_to(self.shard) < self.owners.changes()
    }

    /// Shards that were sent something in the last turn and may have to be woken.
    pub(super) fn sent_to(&self) -> &[u16] {
        &self.sent_to
    }

    /// Whether frames wait for this shard.
    pub(super) fn is_pending(&self) -> bool {
        self.reading.is_some() || self.inbox().is_some_and(|inbox| !inbox.full.is_empty())
    }

    /// From now on `owners` divides connections; its former will be asked as well.
    pub(super) fn change_owners(&mut self, owners: &Arc<Owners>, two_msl_ms: u32, now: Now) {
        self.former.truncate(FORMER_MAX - 1);
        self.former.insert(0, core::mem::replace(&mut self.owners, Arc::clone(owners)));
        self.sweep = Sweep::begin(two_msl_ms, now);
        self.set_strangers(true);
    }

    /// Stage 1: frames from other shards, as if the link had received them.
    #[inline]
    pub(super) fn receive<L: Link>(&mut self, link: &mut L, burst: &mut Burst, counters: &mut Counters, max: usize) {
        if !self.is_alone() {
            // Batches that are full leave in the middle of a turn: whoever was sent one is woken after it.
            self.sent_to.clear();
            for _ in 0..max {
                if !self.receive_one(link, burst, counters) {
                    break;
                }
            }
        }
    }

    /// Stage 4: whether the segment is for another shard to answer. It is on its way there then.
    #[inline(always)]
    pub(super) fn takes<L: Link>(
        &mut self,
        link: &L,
        core: &mut Core,
        burst: &Burst,
        arrival: &Arrival,
        found: Found,
    ) -> bool {
        let may_be_for_others = match found {
            Found::Tcb(_) => false,
            Found::TimeWait(_) => !self.former.is_empty(),
            // RFC 9293's cases without a TCB: a SYN for a listener, a RST for nobody.
            Found::Listener(_) | Found::Nobody => !self.is_alone(),
        };
        may_be_for_others && self.takes_among(core, burst, arrival, found, burst.bytes(link, arrival.frame))
    }

    #[inline(never)]
    fn takes_among(&mut self, core: &mut Core, burst: &Burst, arrival: &Arrival, found: Found, bytes: &[u8]) -> bool {
        let from @ (_, asked) = (arrival.interface, burst.asked(arrival.frame));
        let is_for_others = match found {
            Found::TimeWait(value) => self.is_for_others(core, arrival, value, asked),
            Found::Tcb(_) | Found::Listener(_) | Found::Nobody => true,
        };
        is_for_others && self.pass_on(core, &arrival.tuple, from, bytes)
    }

    /// Stage 4: whether the packet, which is no segment, is for another shard alone: an error about a connection that is not
    /// here. What answers a question about a neighbour goes to every shard that asks, for each has a cache of its own.
    #[inline]
    pub(super) fn takes_control(&mut self, core: &mut Core, burst: &Burst, control: &Control, bytes: &[u8]) -> bool {
        let from = (control.interface, burst.asked(control.frame));
        !self.is_alone() && self.takes_control_among(core, from, &control.message, bytes)
    }

    /// Stage 8: batches to their shards.
    #[inline]
    pub(super) fn flush(&mut self, asks: bool) {
        if self.is_alone() {
            return;
        }
        if self.asks != asks {
            self.asks = asks;
            self.inbox().into_iter().for_each(|inbox| inbox.asks.store(asks, Ordering::Relaxed));
        }
        for (shard, open) in self.open.iter_mut().enumerate() {
            if let Some(batch) = open.take() {
                self.mesh.inboxes[shard].publish(batch);
                note_sent(&mut self.sent_to, shard as u16);
            }
        }
    }

    /// Stage 5: looks for connections that a former function left here, some of them at a time. Without any, nobody need ask it.
    #[inline]
    pub(super) fn expire(&mut self, core: &mut Core, now: Now) {
        if self.former.is_empty() {
            return;
        }
        let Handover { sweep, owners, shard, mesh, .. } = &mut *self;
        if sweep.step(core, now, |tuple| owners.owner(tuple) != *shard) {
            mesh.strangers.marked(*shard, owners.changes());
            let left = self.sweep.seen_until_us > now.us();
            self.set_strangers(left);
            if self.mesh.strangers.forget(|| self.mesh.may_have_strangers()) {
                self.former.clear();
                core.former.clear();
            }
        }
    }

    fn is_alone(&self) -> bool {
        self.open.len() == 1
    }

    fn inbox(&self) -> Option<&Inbox> {
        self.mesh.inboxes.get(usize::from(self.shard))
    }

    fn set_strangers(&self, left: bool) {
        self.inbox().into_iter().for_each(|inbox| inbox.strangers.store(left, Ordering::SeqCst));
    }

    /// Puts the next frame into a frame of the link. One that the link has none for waits; with several interfaces it is
    /// dropped, for those behind it may be of another, and its peer sends again.
    fn receive_one<L: Link>(&mut self, link: &mut L, burst: &mut Burst, counters: &mut Counters) -> bool {
        let Some(inbox) = self.mesh.inboxes.get(usize::from(self.shard)) else { return false };
        if self.reading.is_none() {
            self.reading = inbox.full.pop().map(|batch| (batch, 0));
        }
        let Some((batch, done)) = &mut self.reading else { return false };
        let (bytes, Entry { interface, asked, .. }) = batch.frame(*done);
        match link.take_on(interface) {
            Some(mut frame) => {
                link.copy_in(&mut frame, bytes);
                burst.frames.push(Some(frame));
                burst.handed.push(asked);
            }
            None if L::SEVERAL => counters.handover_without_frame += 1,
            None => return false,
        }
        *done += 1;
        if *done == batch.frames.len()
            && let Some((batch, _)) = self.reading.take()
        {
            inbox.recycle(batch);
        }
        true
    }

    fn pass_on(&mut self, core: &mut Core, tuple: &FourTuple, (interface, asked): (u8, u8), bytes: &[u8]) -> bool {
        match self.next(tuple, asked) {
            Next::Here => return false,
            Next::To(shard, asked) => {
                core.counters.wrong_shard += 1;
                core.counters.handover_full += u64::from(!self.put(shard, bytes, (interface, asked)));
            }
            Next::Nowhere => core.counters.handover_lost += 1,
        }
        true
    }

    fn takes_control_among(
        &mut self,
        core: &mut Core,
        (interface, asked): (u8, u8),
        message: &Message,
        bytes: &[u8],
    ) -> bool {
        let is_answer = match message {
            Message::Error(error) => {
                let tuple = icmp::tuple_of(&error.quoted);
                let found = core.index.find(core.index.hash(&tuple), |value| core.is_record_of(value, &tuple));
                let here = found.is_some_and(|value| value.kind() == Kind::Tcb);
                return !here && self.pass_on(core, &tuple, (interface, asked), bytes);
            }
            Message::Arp(packet) => packet.operation == Operation::Reply,
            Message::Ndp(packet) => matches!(packet, ndp::Packet::Advertisement(_)),
            Message::Echo(_) => false,
        };
        // Who claims an own address tells no shard where a neighbour is: it is a conflict once, not once for each shard.
        let claims_ours = match message {
            Message::Arp(packet) => core.routes.is_own(packet.sender_ip.into()),
            Message::Ndp(ndp::Packet::Advertisement(packet)) => core.routes.is_own(packet.target.into()),
            Message::Ndp(ndp::Packet::Solicitation(_)) | Message::Error(_) | Message::Echo(_) => false,
        };
        if is_answer && asked == 0 && !claims_ours {
            for shard in 0..self.open.len() as u16 {
                let asks = self.mesh.inboxes[usize::from(shard)].asks.load(Ordering::Relaxed);
                if asks && shard != self.shard {
                    core.counters.neighbor_answers_shared += 1;
                    core.counters.handover_full += u64::from(!self.put(shard, bytes, (interface, ALL_ASKED)));
                }
            }
        }
        false
    }

    /// Who is to have a segment of `tuple` that no record here answers for, when `asked` functions have been asked.
    fn next(&self, tuple: &FourTuple, asked: u8) -> Next {
        let owner = self.owners.owner(tuple);
        match asked {
            0 if owner != self.shard => return Next::To(owner, 1),
            ALL_ASKED if owner == self.shard => return Next::Here,
            // Two shards that do not know of a change at the same moment disagree; the peer sends again.
            ALL_ASKED => return Next::Nowhere,
            _ => {}
        }
        let former = self.former.iter().map(|owners| owners.owner(tuple)).zip(2..);
        match former.skip(usize::from(asked.saturating_sub(1))).find(|(former, _)| *former != self.shard) {
            Some((former, asked)) => Next::To(former, asked),
            None if owner == self.shard => Next::Here,
            None => Next::To(owner, ALL_ASKED),
        }
    }

    /// Whether the segment that has met a TIME-WAIT record here is to be shown to others first, when `asked` functions have been asked.
    ///
    /// Several shards may have records of one name, so who says nothing of the segment's numbers must not answer it: the ACK of an older record
    /// helps no peer that waits for a newer one's. Such a segment need not come back, for the owner has the last word. But whether a SYN opens
    /// is for a record to say.
    #[cold]
    fn is_for_others(&self, core: &Core, arrival: &Arrival, value: Value, asked: u8) -> bool {
        let Arrival { tuple, hash, segment, .. } = arrival;
        if core.time_wait_numbers(value).is_some_and(|numbers| time_wait::is_own(numbers, segment)) {
            return false;
        }
        let opens = segment.flags.syn() && !segment.flags.ack();
        let need_not_come_back = !opens && asked != ALL_ASKED && self.owners.owner(tuple) != self.shard;
        need_not_come_back || self.may_be_outdated(tuple, *hash, asked)
    }

    /// Whether another shard may have a newer connection of that name than a TIME-WAIT record here, and the segment comes back if none
    /// has.
    fn may_be_outdated(&self, tuple: &FourTuple, hash: Hash, asked: u8) -> bool {
        let owner = self.owners.owner(tuple);
        // No mark tells of what its owner has.
        let newer = (asked == 0 && owner != self.shard)
            || self.mesh.strangers.may_have(hash, self.owners.changes()) != Some(false);
        let mut later = self.former.iter().skip(usize::from(asked.saturating_sub(1))).map(|owners| owners.owner(tuple));
        let comes_back = match asked {
            ALL_ASKED => false,
            _ if owner == self.shard => true,
            0 => later.any(|former| former == self.shard),
            _ => later.any(|former| former != self.shard) && later.any(|former| former == self.shard),
        };
        newer && comes_back
    }

    /// Copies a frame into the batch for `shard`; false if there is none.
    fn put(&mut self, shard: u16, bytes: &[u8], (interface, asked): (u8, u8)) -> bool {
        let place = usize::from(shard);
        let (Some(open), Some(inbox)) = (self.open.get_mut(place), self.mesh.inboxes.get(place)) else { return false };
        if let Some(batch) = open.take_if(|batch| !batch.has_room(bytes.len())) {
            inbox.publish(batch);
            note_sent(&mut self.sent_to, shard);
        }
        if open.is_none() {
            *open = inbox.empty.pop();
        }
        open.as_mut().is_some_and(|batch| batch.push(bytes, interface, asked))
    }
}

/// Notes that a shard was sent something in this turn.
fn note_sent(sent_to: &mut Vec<u16>, shard: u16) {
    if !sent_to.contains(&shard) {
        sent_to.push(shard);
    }
}

/// What becomes of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// It is answered here.
    Here,
    /// It goes to this shard, with so many functions asked.
    To(u16, u8),
    /// It is dropped.
    Nowhere,
}

/// The queues between all shards.
#[derive(Debug)]
struct Mesh {
    inboxes: Box<[Inbox]>,
    strangers: Arc<Strangers>,
}

impl Mesh {
    /// Whether any shard may have connections that a former function left there.
    fn may_have_strangers(&self) -> bool {
        self.inboxes.iter().any(|inbox| inbox.strangers.load(Ordering::SeqCst))
    }
}

/// What waits for one shard, and what it lets the others know.
#[derive(Debug)]
struct Inbox {
    full: ArrayQueue<Batch>,
    empty: ArrayQueue<Batch>,
    /// It has asked for a neighbour.
    asks: AtomicBool,
    /// It may have connections that a former function left there.
    strangers: AtomicBool,
}

impl Inbox {
    fn new(batches: u32) -> Inbox {
        let places = batches.max(1) as usize;
        let inbox = Inbox {
            full: ArrayQueue::new(places),
            empty: ArrayQueue::new(places),
            asks: AtomicBool::new(false),
            strangers: AtomicBool::new(false),
        };
        (0..batches).for_each(|_| inbox.recycle(Batch::new()));
        inbox
    }

    fn publish(&self, batch: Batch) {
        let published = self.full.push(batch);
        debug_assert!(published.is_ok(), "the queue has room for every batch");
    }

    fn recycle(&self, mut batch: Batch) {
        batch.frames.clear();
        let recycled = self.empty.push(batch);
        debug_assert!(recycled.is_ok(), "the queue has room for every batch");
    }
}

/// Where a frame of a batch ends, the interface that it came on, and how many functions were asked about it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    end: u32,
    interface: u8,
    asked: u8,
}

/// Frames that travel together: their bytes end to end, and what is to be known of each.
#[derive(Debug)]
struct Batch {
    bytes: Box<[u8]>,
    frames: Vec<Entry>,
}

impl Batch {
    fn new() -> Batch {
        // Not zero: zeroed memory would come from the system untouched.
        let frames = room(BATCH_FRAMES, || Entry { end: 0, interface: 0, asked: 0 });
        Batch { bytes: vec![UNUSED; BATCH_BYTES].into(), frames }
    }

    fn used(&self) -> usize {
        self.frames.last().map_or(0, |from| from.end as usize)
    }

    fn has_room(&self, len: usize) -> bool {
        self.frames.len() < BATCH_FRAMES && self.used() + len <= BATCH_BYTES
    }

    fn push(&mut self, bytes: &[u8], interface: u8, asked: u8) -> bool {
        let start = self.used();
        let Some(room) = self.bytes.get_mut(start..start + bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.frames.push(Entry { end: (start + bytes.len()) as u32, interface, asked });
        true
    }

    fn frame(&self, number: usize) -> (&[u8], Entry) {
        let start = number.checked_sub(1).map_or(0, |before| self.frames[before].end as usize);
        let from = self.frames[number];
        (&self.bytes[start..from.end as usize], from)
    }
}

/// The search for connections that a former function left here.
#[derive(Clone, Copy, Debug, Default)]
struct Sweep {
    /// The next TCB to be looked at.
    at: u32,
    /// One was seen since the first TCB was looked at.
    seen: bool,
    /// What was seen last may be in TIME-WAIT until then, us.
    seen_until_us: u64,
    keep_us: u64,
}

impl Sweep {
    fn begin(two_msl_ms: u32, now: Now) -> Sweep {
        let keep_us = u64::from(two_msl_ms.max(FORMER_MS_MIN)) * 1000;
        Sweep { at: 0, seen: false, seen_until_us: now.us() + keep_us, keep_us }
    }

    /// Looks at some more; true when all have been looked at.
    fn step(&mut self, core: &Core, now: Now, is_stranger: impl Fn(&FourTuple) -> bool) -> bool {
        if self.at == 0 && core.strangers.is_forgetting() {
            return false;
        }
        let end = core.connections.max().min(self.at.saturating_add(SWEEP_STEP));
        let mut live = 0;
        while self.at < end && live < SWEEP_LIVE {
            let number = self.at;
            self.at += 1;
            if core.connections.is_live(number) {
                live += 1;
                let tcb = &core.connections[number].tcb;
                if tcb.state != State::Closed && is_stranger(&core.names[number].tuple) {
                    self.seen = true;
                    core.strangers.mark(core.names[number].hash);
                }
            }
        }
        if self.at < core.connections.max() {
            return false;
        }
        if self.seen {
            self.seen_until_us = now.us() + self.keep_us;
        }
        (self.at, self.seen) = (0, false);
        true
    }
}

/// Frames of one batch. Origin: the default burst; smaller pays more queue operations, larger delays nothing but costs memory.
const BATCH_FRAMES: usize = 64;

/// What lies in a batch that was never filled.
const UNUSED: u8 = 0xc5;

/// Bytes of one batch. Origin: ten full-sized frames, or 64 short ones three times over; a frame must fit.
const BATCH_BYTES: usize = 16 * 1024;

/// The mark of a frame about which nobody else is to be asked.
const ALL_ASKED: u8 = u8::MAX;

/// How long a former function is asked at least, ms: all shards have learned of the change by then.
const FORMER_MS_MIN: u32 = 10_000;

/// Places of TCBs, and TCBs, that one turn looks at for strangers. More make the turn long, fewer the time until draws
/// know of them.
const SWEEP_STEP: u32 = 4096;
const SWEEP_LIVE: u32 = 64;

const _: () = assert!(FORMER_MAX + 1 < ALL_ASKED as usize);
