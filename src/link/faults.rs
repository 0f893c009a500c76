//! A link that misbehaves on purpose: loss, delay, reordering, duplication, corruption, capacity, late duplicates.
//!
//! [`Faults`] wraps any link. Over a memory link with virtual time it is the simulator's network; over AF_XDP it is a
//! lossy wire. Everything follows from the seed, the frames and the times told by [`Link::advance`]: the same run again
//! injects the same faults. Frames that wait are copied to a pool of this link's own, so the wrapped link never starves.
//!
//! Per direction, and after every call:
//! `entered + duplicated + late_duplicated = delivered + lost + over_capacity + held_full + held()`.

use super::{Frame, Levels, Link, LinkCounters};
use crate::keyed_hash::TableHash;
use crate::tick::Now;
use crate::wire::ethernet::MacAddress;
use alloc::boxed::Box;
use alloc::collections::BinaryHeap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// What is done to the frames of one direction. The default does nothing.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FaultConfig {
    /// Share of frames lost, 0 to 1.
    pub loss: f64,
    /// Share of frames with one bit flipped, 0 to 1.
    pub corruption: f64,
    /// Share of frames sent twice at once, 0 to 1.
    pub duplication: f64,
    /// Share of frames held back so that later ones overtake them, 0 to 1.
    pub reordering: f64,
    /// How long a reordered frame is held beyond its delay at most, us.
    pub reordering_us: u64,
    /// Delay of every frame, us: smallest and largest. A range reorders.
    pub delay_us: (u64, u64),
    /// Share of frames of which a copy comes again later, 0 to 1.
    pub late_duplication: f64,
    /// Age of a late duplicate at most, us.
    pub late_us: u64,
    /// Frames per second that the wire carries; 0 is without bound.
    pub frames_per_second: u64,
    /// Frames that may wait for the wire's capacity; more are dropped.
    pub queue_frames: u32,
    /// Frames that may be held for any reason; a delayed one beyond is dropped, a copy beyond is not made.
    pub held_max: u32,
}

impl Default for FaultConfig {
    fn default() -> FaultConfig {
        FaultConfig {
            loss: 0.0,
            corruption: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            reordering_us: 1000,
            delay_us: (0, 0),
            late_duplication: 0.0,
            late_us: 0,
            frames_per_second: 0,
            queue_frames: 256,
            held_max: 1024,
        }
    }
}

counters! {
    /// What was done to the frames of one direction.
    FaultCounters {
        /// Frames that came to this direction.
        entered,
        /// Frames that left it, copies included.
        delivered,
        /// Frames lost.
        lost,
        /// Frames with a bit flipped.
        corrupted,
        /// Copies made at once.
        duplicated,
        /// Copies made to come late.
        late_duplicated,
        /// Frames held back for others to overtake.
        reordered,
        /// Frames held for any reason, copies not included.
        delayed,
        /// Frames dropped because the wire's queue was full.
        over_capacity,
        /// Frames dropped because no more could be held.
        held_full,
    }
}

/// A link with faults in both directions.
#[derive(Debug)]
pub struct Faults<L> {
    inner: L,
    now: Now,
    transmit: Direction,
    receive: Direction,
    /// Frames of the wrapped link on their way through [`Link::receive`].
    arrived: Vec<Frame>,
}

impl<L: Link> Faults<L> {
    /// Wraps `inner`. Both directions draw from `seed`, each its own sequence.
    pub fn new(inner: L, transmit: FaultConfig, receive: FaultConfig, seed: u64) -> Faults<L> {
        let room = inner.frame_bytes_max();
        Faults {
            transmit: Direction::new(transmit, seed, room),
            receive: Direction::new(receive, !seed, room),
            arrived: Vec::with_capacity(crate::limits::BURST_MAX as usize),
            inner,
            now: Now::default(),
        }
    }

    /// From now on a frame's fate follows from the frame and not from the order of frames: from what `identity` makes of its
    /// bytes, and from how often the same came before. Whatever is sent again is lost or corrupted less than `tries` times.
    #[must_use]
    pub fn by_frame(mut self, identity: fn(&[u8]) -> u64, tries: u8) -> Faults<L> {
        for direction in [&mut self.transmit, &mut self.receive] {
            let seed = direction.random.random();
            direction.by_frame = Some(ByFrame { identity, tries, seed, seen: vec![0; SEEN_MAX].into() });
        }
        self
    }

    /// What was done to frames sent.
    pub fn transmit_faults(&self) -> FaultCounters {
        self.transmit.counters
    }

    /// What was done to frames received.
    pub fn receive_faults(&self) -> FaultCounters {
        self.receive.counters
    }

    /// Frames held for transmission and for reception.
    pub fn held(&self) -> (usize, usize) {
        (self.transmit.due.len(), self.receive.due.len())
    }

    /// When the next held frame is due; `None` when none is held.
    pub fn next_due(&self) -> Option<Now> {
        [&self.transmit, &self.receive].into_iter().filter_map(Direction::next_due).min()
    }

    /// Changes what is done from now on; frames already held stay held. `held_max` stays as at the start.
    pub fn reconfigure(&mut self, transmit: FaultConfig, receive: FaultConfig) {
        self.transmit.config = FaultConfig { held_max: self.transmit.config.held_max, ..transmit };
        self.receive.config = FaultConfig { held_max: self.receive.config.held_max, ..receive };
    }

    /// The wrapped link.
    pub fn inner(&self) -> &L {
        &self.inner
    }

    /// Hands held frames that are due to the wrapped link.
    fn release_transmit(&mut self) {
        while self.transmit.is_due(self.now) {
            let Some(mut frame) = self.inner.take() else { return };
            let Some((slot, len)) = self.transmit.pop_due(self.now) else { return self.inner.give_back(frame) };
            self.inner.bytes_mut(&mut frame)[..len].copy_from_slice(self.transmit.held_bytes(slot, len));
            self.transmit.free.push(slot);
            match self.inner.send(frame, len) {
                Ok(()) => self.transmit.counters.delivered += 1,
                Err(frame) => {
                    self.inner.give_back(frame);
                    self.transmit.counters.lost += 1;
                }
            }
        }
    }

    /// Moves held frames that are due to the burst.
    fn release_receive(&mut self, burst: &mut Vec<Frame>, end: usize) {
        while burst.len() < end && self.receive.is_due(self.now) {
            let Some(mut frame) = self.inner.take() else { return };
            let Some((slot, len)) = self.receive.pop_due(self.now) else { return self.inner.give_back(frame) };
            self.inner.bytes_mut(&mut frame)[..len].copy_from_slice(self.receive.held_bytes(slot, len));
            self.receive.free.push(slot);
            frame.len = len as u16;
            self.receive.counters.delivered += 1;
            burst.push(frame);
        }
    }
}

impl<L: Link> Link for Faults<L> {
    fn advance(&mut self, now: Now) {
        self.now = now;
        self.inner.advance(now);
    }

    fn receive(&mut self, burst: &mut Vec<Frame>, max: usize) {
        let end = burst.len() + max.min(burst.capacity() - burst.len());
        self.release_receive(burst, end);
        let mut arrived = core::mem::take(&mut self.arrived);
        let room = (end - burst.len()).min(arrived.capacity());
        self.inner.receive(&mut arrived, room);
        for mut frame in arrived.drain(..) {
            let len = frame.len();
            self.receive.counters.entered += 1;
            let fate = self.receive.fate(self.now, &self.inner.bytes_mut(&mut frame)[..len]);
            self.receive.copies(self.now, fate, &self.inner.bytes_mut(&mut frame)[..len]);
            match fate.passage {
                Passage::Now => {
                    fate.corrupt(&mut self.inner.bytes_mut(&mut frame)[..len]);
                    self.receive.passed(fate);
                    burst.push(frame);
                }
                Passage::Later(due_us) => {
                    self.receive.delay(fate, due_us, &self.inner.bytes_mut(&mut frame)[..len]);
                    self.inner.give_back(frame);
                }
                Passage::Dropped => self.inner.give_back(frame),
            }
        }
        self.arrived = arrived;
        self.release_receive(burst, end);
    }

    fn prefetch(&self, frame: &Frame) {
        self.inner.prefetch(frame);
    }

    fn bytes(&self, frame: &Frame) -> &[u8] {
        self.inner.bytes(frame)
    }

    fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        self.inner.bytes_mut(frame)
    }

    fn take(&mut self) -> Option<Frame> {
        self.inner.take()
    }

    fn send(&mut self, mut frame: Frame, len: usize) -> Result<(), Frame> {
        if len > self.inner.bytes_mut(&mut frame).len() {
            return Err(frame);
        }
        let fate = self.transmit.fate(self.now, &self.inner.bytes_mut(&mut frame)[..len]);
        match fate.passage {
            Passage::Now => {
                let bytes = &mut self.inner.bytes_mut(&mut frame)[..len];
                // Copied while the bytes are there: copies of a frame that is then refused come all the same.
                self.transmit.copies(self.now, fate, bytes);
                fate.corrupt(bytes);
                if let Err(mut frame) = self.inner.send(frame, len) {
                    fate.corrupt(&mut self.inner.bytes_mut(&mut frame)[..len]);
                    return Err(frame);
                }
                self.transmit.passed(fate);
            }
            Passage::Later(due_us) => {
                let bytes = &self.inner.bytes_mut(&mut frame)[..len];
                self.transmit.copies(self.now, fate, bytes);
                self.transmit.delay(fate, due_us, bytes);
                self.inner.give_back(frame);
            }
            Passage::Dropped => self.inner.give_back(frame),
        }
        self.transmit.counters.entered += 1;
        Ok(())
    }

    fn give_back(&mut self, frame: Frame) {
        self.inner.give_back(frame);
    }

    fn flush(&mut self) {
        self.release_transmit();
        self.inner.flush();
    }

    fn is_behind(&self) -> bool {
        self.inner.is_behind()
    }

    fn mac(&self) -> MacAddress {
        self.inner.mac()
    }

    fn mtu(&self) -> usize {
        self.inner.mtu()
    }

    fn frame_bytes_max(&self) -> usize {
        self.inner.frame_bytes_max()
    }

    fn levels(&self) -> Levels {
        self.inner.levels()
    }

    fn counters(&self) -> LinkCounters {
        self.inner.counters()
    }
}

/// One direction: what is drawn for it, what it holds, what it has counted.
#[derive(Debug)]
struct Direction {
    config: FaultConfig,
    random: SmallRng,
    by_frame: Option<ByFrame>,
    counters: FaultCounters,
    /// Held frames by due time, us, then in the order in which they were held; with slot and length.
    due: BinaryHeap<Reverse<(u64, u64, u32, u16)>>,
    held_count: u64,
    slots: Box<[u8]>,
    room: usize,
    free: Vec<u32>,
    /// When the wire has carried what it was given, ns.
    wire_free_ns: u64,
}

impl Direction {
    fn new(config: FaultConfig, seed: u64, room: usize) -> Direction {
        Direction {
            config,
            random: SmallRng::seed_from_u64(seed),
            by_frame: None,
            counters: FaultCounters::default(),
            due: BinaryHeap::with_capacity(config.held_max as usize),
            held_count: 0,
            slots: vec![0; config.held_max as usize * room].into(),
            room,
            free: (0..config.held_max).rev().collect(),
            wire_free_ns: 0,
        }
    }

    /// Draws what happens to the next frame, and counts it when it is dropped.
    fn fate(&mut self, now: Now, bytes: &[u8]) -> Fate {
        let mut config = self.config;
        if let Some((random, is_spared)) = self.by_frame.as_mut().map(|by_frame| by_frame.take(bytes)) {
            self.random = random;
            if is_spared {
                (config.loss, config.corruption) = (0.0, 0.0);
            }
        }
        if self.happens(config.loss) {
            self.counters.lost += 1;
            return Fate::DROPPED;
        }
        let Some(wire_us) = self.wire(now) else {
            self.counters.over_capacity += 1;
            return Fate::DROPPED;
        };
        let reordered = self.happens(config.reordering);
        let mut due_us = wire_us.saturating_add(self.between(config.delay_us.0, config.delay_us.1));
        if reordered {
            due_us = due_us.saturating_add(self.between(1, config.reordering_us.max(1)));
        }
        let passage = if due_us > now.us() { Passage::Later(due_us) } else { Passage::Now };
        let late = self.happens(config.late_duplication);
        Fate {
            passage,
            reordered,
            corrupt_bit: self.happens(config.corruption).then(|| self.random.random()),
            duplicated: self.happens(config.duplication),
            late_us: late.then(|| self.between(0, config.late_us)),
        }
    }

    /// When the wire has carried one more frame, us; `None` when too many wait for it.
    fn wire(&mut self, now: Now) -> Option<u64> {
        if self.config.frames_per_second == 0 {
            return Some(now.us());
        }
        let gap_ns = (1_000_000_000 / self.config.frames_per_second).max(1);
        let now_ns = now.us().saturating_mul(1000);
        let start_ns = self.wire_free_ns.max(now_ns);
        if (start_ns - now_ns) / gap_ns >= u64::from(self.config.queue_frames) {
            return None;
        }
        self.wire_free_ns = start_ns.saturating_add(gap_ns);
        Some(start_ns / 1000)
    }

    /// Holds the copies of a frame that its fate asks for.
    fn copies(&mut self, now: Now, fate: Fate, bytes: &[u8]) {
        let first_us = if let Passage::Later(due_us) = fate.passage { due_us } else { now.us() };
        if fate.duplicated && self.hold(first_us, bytes).is_some() {
            self.counters.duplicated += 1;
        }
        if let Some(late_us) = fate.late_us
            && self.hold(first_us.saturating_add(late_us), bytes).is_some()
        {
            self.counters.late_duplicated += 1;
        }
    }

    /// Counts a frame that passes at once.
    fn passed(&mut self, fate: Fate) {
        self.counters.delivered += 1;
        self.counters.corrupted += u64::from(fate.corrupt_bit.is_some());
    }

    /// Holds a frame until `due_us`.
    fn delay(&mut self, fate: Fate, due_us: u64, bytes: &[u8]) {
        let Some(held) = self.hold(due_us, bytes) else {
            self.counters.held_full += 1;
            return;
        };
        fate.corrupt(held);
        self.counters.delayed += 1;
        self.counters.corrupted += u64::from(fate.corrupt_bit.is_some());
        self.counters.reordered += u64::from(fate.reordered);
    }

    fn hold(&mut self, due_us: u64, bytes: &[u8]) -> Option<&mut [u8]> {
        if bytes.len() > self.room {
            return None;
        }
        let slot = self.free.pop()?;
        self.due.push(Reverse((due_us, self.held_count, slot, bytes.len() as u16)));
        self.held_count += 1;
        let start = slot as usize * self.room;
        let held = &mut self.slots[start..start + bytes.len()];
        held.copy_from_slice(bytes);
        Some(held)
    }

    fn next_due(&self) -> Option<Now> {
        self.due.peek().map(|Reverse((due_us, ..))| Now::from_us(*due_us))
    }

    fn is_due(&self, now: Now) -> bool {
        self.next_due().is_some_and(|due| due <= now)
    }

    fn pop_due(&mut self, now: Now) -> Option<(u32, usize)> {
        if !self.is_due(now) {
            return None;
        }
        self.due.pop().map(|Reverse((_, _, slot, len))| (slot, usize::from(len)))
    }

    fn held_bytes(&self, slot: u32, len: usize) -> &[u8] {
        let start = slot as usize * self.room;
        &self.slots[start..start + len]
    }

    fn happens(&mut self, share: f64) -> bool {
        // A share of 0 draws nothing, so that an unused fault costs nothing.
        share > 0.0 && self.random.random::<f64>() < share
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        if low >= high { low } else { self.random.random_range(low..=high) }
    }
}

/// Fates that follow from frames.
#[derive(Debug)]
struct ByFrame {
    identity: fn(&[u8]) -> u64,
    tries: u8,
    seed: u64,
    /// How often each frame came, by its hash. Two that share a place spare each other a little.
    seen: Box<[u8]>,
}

impl ByFrame {
    /// What the frame's fate is drawn from, and whether it may be neither lost nor corrupted.
    fn take(&mut self, bytes: &[u8]) -> (SmallRng, bool) {
        let hash = TableHash::new((self.seed, 0)).number((self.identity)(bytes));
        let seen = &mut self.seen[hash as usize % SEEN_MAX];
        *seen = seen.saturating_add(1);
        (SmallRng::seed_from_u64(hash ^ u64::from(*seen)), *seen >= self.tries)
    }
}

/// What happens to one frame.
#[derive(Clone, Copy, Debug)]
struct Fate {
    passage: Passage,
    reordered: bool,
    /// A random number that chooses the bit to flip.
    corrupt_bit: Option<u64>,
    duplicated: bool,
    late_us: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Passage {
    Now,
    /// Due at this time, us.
    Later(u64),
    Dropped,
}

impl Fate {
    const DROPPED: Fate =
        Fate { passage: Passage::Dropped, reordered: false, corrupt_bit: None, duplicated: false, late_us: None };

    /// Flips the chosen bit; done twice it is undone.
    fn corrupt(self, bytes: &mut [u8]) {
        if let Some(choice) = self.corrupt_bit
            && !bytes.is_empty()
        {
            let bit = (choice % (bytes.len() as u64 * 8)) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// Frames whose number of tries is remembered: beyond the frames of one run of the simulator.
const SEEN_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests;
