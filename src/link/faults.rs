//! A link that misbehaves on purpose: loss, delay, reordering, duplication, corruption, capacity, late duplicates.
//!
//! [`Faults`] wraps any link. Over a memory link with virtual time it is the simulator's network; over AF_XDP it is a
//! lossy wire. Everything follows from the seed, the frames and the times told by [`Link::advance`]: the same run again
//! injects the same faults. Frames that wait are copied to a pool of this link's own, so the wrapped link never starves.
//!
//! Per direction, and after every call:
//! `entered + duplicated + late_duplicated = delivered + lost + over_capacity + held_full + held()`.

use super::{Frame, Levels, Link, LinkCounters};
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
            let fate = self.receive.fate(self.now);
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
        let fate = self.transmit.fate(self.now);
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
    fn fate(&mut self, now: Now) -> Fate {
        let config = self.config;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::memory::{MemoryConfig, MemoryLink, pair};
    use proptest::prelude::*;

    const MACS: [MacAddress; 2] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];

    fn wrapped(transmit: FaultConfig, receive: FaultConfig, seed: u64) -> (Faults<MemoryLink>, MemoryLink) {
        let (a, b) = pair(MemoryConfig::default(), MACS);
        (Faults::new(a, transmit, receive, seed), b)
    }

    fn send(link: &mut impl Link, bytes: &[u8]) {
        let mut frame = link.take().unwrap();
        link.bytes_mut(&mut frame)[..bytes.len()].copy_from_slice(bytes);
        link.send(frame, bytes.len()).unwrap();
    }

    fn receive(link: &mut impl Link) -> Vec<Vec<u8>> {
        let mut burst = Vec::with_capacity(256);
        link.receive(&mut burst, 256);
        let take = |frame: Frame| {
            let bytes = link.bytes(&frame).to_vec();
            link.give_back(frame);
            bytes
        };
        burst.drain(..).map(take).collect()
    }

    #[test]
    fn without_faults_frames_pass_unchanged_and_in_order() {
        let (mut a, mut b) = wrapped(FaultConfig::default(), FaultConfig::default(), 1);
        for number in 0..100u8 {
            send(&mut a, &[number; 60]);
            send(&mut b, &[number; 60]);
        }
        a.flush();
        b.flush();
        let expected: Vec<Vec<u8>> = (0..100u8).map(|number| vec![number; 60]).collect();
        assert_eq!(receive(&mut b), expected);
        assert_eq!(receive(&mut a), expected);
        assert_eq!((a.held(), a.transmit_faults().delivered, a.receive_faults().delivered), ((0, 0), 100, 100));
    }

    #[test]
    fn delayed_frame_comes_when_its_time_has() {
        let (mut a, mut b) =
            wrapped(FaultConfig { delay_us: (500, 500), ..Default::default() }, FaultConfig::default(), 1);
        send(&mut a, b"late");
        a.flush();
        assert!(receive(&mut b).is_empty());
        assert_eq!((a.next_due(), a.levels().in_hand), (Some(Now::from_us(500)), 0));
        a.advance(Now::from_us(499));
        a.flush();
        assert!(receive(&mut b).is_empty());
        a.advance(Now::from_us(500));
        a.flush();
        assert_eq!(receive(&mut b), [b"late"]);
    }

    #[test]
    fn capacity_spaces_frames_and_drops_what_the_queue_cannot_hold() {
        let config = FaultConfig { frames_per_second: 1000, queue_frames: 3, ..Default::default() };
        let (mut a, mut b) = wrapped(config, FaultConfig::default(), 1);
        for number in 0..5u8 {
            send(&mut a, &[number]);
        }
        a.flush();
        assert_eq!(receive(&mut b), [[0]]);
        assert_eq!(a.transmit_faults().over_capacity, 2);
        for number in 1..3u8 {
            a.advance(Now::from_ms(u64::from(number)));
            a.flush();
            assert_eq!(receive(&mut b), [[number]]);
        }
    }

    #[test]
    fn corruption_flips_one_bit_and_duplicates_stay_whole() {
        let config = FaultConfig { corruption: 1.0, duplication: 1.0, ..Default::default() };
        let (mut a, mut b) = wrapped(FaultConfig::default(), config, 1);
        send(&mut b, &[0; 60]);
        b.flush();
        let ones: Vec<u32> =
            receive(&mut a).iter().map(|bytes| bytes.iter().map(|byte| byte.count_ones()).sum()).collect();
        assert_eq!(ones, [1, 0]);
    }

    #[test]
    fn held_pool_full_drops_and_counts() {
        let config = FaultConfig { delay_us: (5, 5), held_max: 2, ..Default::default() };
        let (mut a, _b) = wrapped(config, FaultConfig::default(), 1);
        for _ in 0..3 {
            send(&mut a, b"x");
        }
        assert_eq!((a.held().0, a.transmit_faults().held_full), (2, 1));
    }

    fn share() -> impl Strategy<Value = f64> {
        prop_oneof![Just(0.0), 0.0..0.6f64]
    }

    prop_compose! {
        fn config()(
            loss in share(), corruption in share(), duplication in share(), reordering in share(), late in share(),
            low in 0u64..50, span in 0u64..200, rate in prop_oneof![Just(0u64), 10_000u64..1_000_000],
            queue_frames in 1u32..20, held_max in 0u32..40,
        ) -> FaultConfig {
            FaultConfig {
                loss, corruption, duplication, reordering, reordering_us: 300, delay_us: (low, low + span),
                late_duplication: late, late_us: 5000, frames_per_second: rate, queue_frames, held_max,
            }
        }
    }

    fn conserved(counters: FaultCounters, held: usize) -> bool {
        counters.entered + counters.duplicated + counters.late_duplicated
            == counters.delivered + counters.lost + counters.over_capacity + counters.held_full + held as u64
    }

    /// Frames both ways under faults: everything that came out, and the counters.
    fn run(
        transmit: FaultConfig,
        incoming: FaultConfig,
        seed: u64,
        steps: &[(u8, u16)],
    ) -> (Vec<Vec<u8>>, [FaultCounters; 2]) {
        let (mut a, mut b) = wrapped(transmit, incoming, seed);
        let (mut came, mut now) = (Vec::new(), Now::default());
        for (number, &(count, wait_us)) in steps.iter().enumerate() {
            for part in 0..count {
                send(&mut a, &[number as u8, part, 1, 2]);
                send(&mut b, &[number as u8, part, 3, 4]);
            }
            a.flush();
            b.flush();
            now = Now::from_us(now.us() + u64::from(wait_us));
            a.advance(now);
            came.extend(receive(&mut a));
            came.extend(receive(&mut b));
            assert!(a.levels().conserved() && a.levels().free == a.levels().total);
            assert!(conserved(a.transmit_faults(), a.held().0) && conserved(a.receive_faults(), a.held().1));
        }
        (came, [a.transmit_faults(), a.receive_faults()])
    }

    proptest! {
        #[test]
        fn totals_add_up_and_every_seed_replays(
            transmit in config(), incoming in config(), seed: u64,
            steps in proptest::collection::vec((0u8..20, 0u16..400), 1..40),
        ) {
            let first = run(transmit, incoming, seed, &steps);
            let sent: u64 = steps.iter().map(|(count, _)| u64::from(*count)).sum();
            prop_assert_eq!(first.1[0].entered, sent);
            prop_assert_eq!(run(transmit, incoming, seed, &steps), first);
        }
    }
}
