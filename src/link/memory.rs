//! Two link ends joined in memory: what one flushes the other receives, in order, byte for byte.
//!
//! ```text
//!   slots of A --flush--> batch --full queue--> batch --receive--> slots of B
//!     ^                                           |
//!     +- spare <- batch <------- empty queue -----+        (and the same from B to A)
//! ```
//! Nothing is copied: a slot holds a buffer, the sender's slot gets a spare buffer for it, and the receiver gives its
//! slot's own back for the one it takes. Frames travel in batches, so that the two queue operations and their atomic
//! instructions are paid once per burst. Both ends may live on one thread (then everything is deterministic) or on two.
//! All memory is made by [`pair`].

use super::pool::{Place, Pool};
use super::{Frame, Levels, Link, LinkCounters};
use crate::wire::ethernet::MacAddress;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use crossbeam::queue::ArrayQueue;

/// The size of a memory link; both ends are made alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryConfig {
    /// Frames of each end, at least 1.
    pub frames: u32,
    /// Room of a frame, bytes from the Ethernet header on, at least `mtu` + 18.
    pub frame_bytes: u16,
    /// The largest IP packet, bytes.
    pub mtu: u16,
    /// Frames under way in each direction; more are dropped and counted as `tx_full`.
    pub queue_frames: u32,
}

impl Default for MemoryConfig {
    fn default() -> MemoryConfig {
        MemoryConfig { frames: 4096, frame_bytes: 2048, mtu: 1500, queue_frames: 1024 }
    }
}

/// One end of a link in memory.
#[derive(Debug)]
pub struct MemoryLink {
    config: MemoryConfig,
    mac: MacAddress,
    slots: Vec<Buffer>,
    pool: Pool,
    /// Slot and length of what waits for [`Link::flush`], in order.
    queued: Vec<(u32, u16)>,
    outgoing: Arc<Direction>,
    /// Buffers for the slots of frames that leave, and empty batches; what was used last is taken first, so that a quiet link
    /// stays in the cache.
    spare_buffers: Vec<Buffer>,
    spare: Vec<Batch>,
    incoming: Arc<Direction>,
    /// The batch that is being received, and the frames of it already received.
    reading: Option<(Batch, usize)>,
    counters: LinkCounters,
}

/// Joins two ends. `macs` are the Ethernet addresses of the first and the second.
///
/// A `frames`, `frame_bytes` or `queue_frames` of 0 is taken as 1, and a `frame_bytes` below `mtu` + 18 as that.
pub fn pair(config: MemoryConfig, macs: [MacAddress; 2]) -> (MemoryLink, MemoryLink) {
    let needed = config.mtu.saturating_add(HEADER_BYTES_MAX);
    let config = MemoryConfig {
        frames: config.frames.max(1),
        frame_bytes: config.frame_bytes.max(needed),
        queue_frames: config.queue_frames.max(1),
        ..config
    };
    let there = Arc::new(Direction::new(config.queue_frames));
    let back = Arc::new(Direction::new(config.queue_frames));
    let [first, second] = macs;
    (MemoryLink::new(config, first, &there, &back), MemoryLink::new(config, second, &back, &there))
}

impl MemoryLink {
    fn new(config: MemoryConfig, mac: MacAddress, outgoing: &Arc<Direction>, incoming: &Arc<Direction>) -> MemoryLink {
        MemoryLink {
            config,
            mac,
            slots: buffers(config.frames, config.frame_bytes),
            pool: Pool::new(config.frames),
            queued: Vec::with_capacity(config.frames as usize),
            outgoing: Arc::clone(outgoing),
            spare_buffers: buffers(config.queue_frames, config.frame_bytes),
            spare: (0..config.queue_frames).map(|_| Batch::with_capacity(BATCH_FRAMES)).collect(),
            incoming: Arc::clone(incoming),
            reading: None,
            counters: LinkCounters::default(),
        }
    }

    /// Frames under way to this end, not yet received.
    pub fn pending(&self) -> u32 {
        self.incoming.under_way.load(Ordering::Relaxed)
    }

    /// Puts frames of the batch from `done` on into free slots, as many as there is room for. Returns how many are done then.
    fn unpack(&mut self, batch: &mut Batch, done: usize, burst: &mut Vec<Frame>, room: usize) -> usize {
        let (before, mut bytes) = (burst.len(), 0);
        for (buffer, len) in batch[done..].iter_mut().take(room) {
            let Some(slot) = self.pool.take() else { break };
            core::mem::swap(buffer, &mut self.slots[slot as usize]);
            bytes += u64::from(*len);
            burst.push(Frame { slot, offset: 0, len: *len });
        }
        let count = burst.len() - before;
        self.counters.rx_frames += count as u64;
        self.counters.rx_bytes += bytes;
        done + count
    }

    /// Gives the batch that was received back to the other end, with the buffers that were given for its own.
    fn finish_batch(&mut self, batch: Batch) {
        let count = batch.len() as u32;
        // The queue has room for every batch that exists, so this cannot fail.
        let _ = self.incoming.empty.push(batch);
        self.incoming.under_way.fetch_sub(count, Ordering::Release);
    }

    /// An empty batch for the outgoing direction. The buffers of those that come back are spare again.
    fn empty_batch(&mut self) -> Option<Batch> {
        while let Some(mut batch) = self.outgoing.empty.pop() {
            self.spare_buffers.extend(batch.drain(..).map(|(buffer, _)| buffer));
            self.spare.push(batch);
        }
        self.spare.pop()
    }

    /// Hands the buffers of some slots over; spare ones take their place.
    fn publish(&mut self, mut batch: Batch, frames: &[(u32, u16)]) {
        let mut bytes = 0;
        let spares = self.spare_buffers.drain(self.spare_buffers.len().saturating_sub(frames.len())..);
        batch.extend(frames.iter().zip(spares).map(|(&(slot, len), spare)| {
            bytes += u64::from(len);
            (core::mem::replace(&mut self.slots[slot as usize], spare), len)
        }));
        debug_assert_eq!(batch.len(), frames.len(), "there is a spare buffer for each frame that has room");
        self.counters.tx_bytes += bytes;
        self.counters.tx_frames += frames.len() as u64;
        self.outgoing.under_way.fetch_add(frames.len() as u32, Ordering::Relaxed);
        let published = self.outgoing.full.push(batch);
        debug_assert!(published.is_ok(), "the queue has room for every batch");
    }
}

impl Link for MemoryLink {
    fn receive(&mut self, burst: &mut Vec<Frame>, max: usize) {
        let end = burst.len() + max.min(burst.capacity() - burst.len());
        while burst.len() < end && self.pool.free() > 0 {
            let begun = self.reading.take().or_else(|| self.incoming.full.pop().map(|batch| (batch, 0)));
            let Some((mut batch, done)) = begun else { break };
            let done = self.unpack(&mut batch, done, burst, end - burst.len());
            if done == batch.len() {
                self.finish_batch(batch);
            } else {
                self.reading = Some((batch, done));
            }
        }
    }

    #[inline]
    fn bytes(&self, frame: &Frame) -> &[u8] {
        let from = usize::from(frame.offset);
        &self.slots[frame.slot as usize][from..from + usize::from(frame.len)]
    }

    #[inline]
    fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        &mut self.slots[frame.slot as usize][usize::from(frame.offset)..]
    }

    #[inline]
    fn take(&mut self) -> Option<Frame> {
        self.pool.take().map(|slot| Frame { slot, offset: 0, len: 0 })
    }

    #[inline]
    fn send(&mut self, frame: Frame, len: usize) -> Result<(), Frame> {
        let fits = len <= usize::from(self.config.frame_bytes);
        if !fits || !self.pool.shift(frame.slot, Place::InHand, Place::Transmit) {
            return Err(frame);
        }
        self.queued.push((frame.slot, len as u16));
        Ok(())
    }

    #[inline]
    fn give_back(&mut self, frame: Frame) {
        let given = self.pool.shift(frame.slot, Place::InHand, Place::Free);
        debug_assert!(given, "slot {} was given back twice", frame.slot);
    }

    fn flush(&mut self) {
        if self.queued.is_empty() {
            return;
        }
        let queued = core::mem::take(&mut self.queued);
        // With Acquire, what was received is back among the empty ones: for each frame that has room there is a buffer.
        let under_way = self.outgoing.under_way.load(Ordering::Acquire);
        let room = self.config.queue_frames.saturating_sub(under_way) as usize;
        for frames in queued[..room.min(queued.len())].chunks(BATCH_FRAMES) {
            let Some(batch) = self.empty_batch() else { break };
            self.publish(batch, frames);
        }
        for &(slot, _) in &queued {
            self.pool.shift(slot, Place::Transmit, Place::Free);
        }
        self.counters.tx_full += queued.len().saturating_sub(room) as u64;
        self.queued = queued;
        self.queued.clear();
    }

    fn mac(&self) -> MacAddress {
        self.mac
    }

    fn mtu(&self) -> usize {
        usize::from(self.config.mtu)
    }

    fn frame_bytes_max(&self) -> usize {
        usize::from(self.config.frame_bytes)
    }

    fn levels(&self) -> Levels {
        self.pool.levels()
    }

    fn counters(&self) -> LinkCounters {
        self.counters
    }
}

/// The bytes of one slot.
type Buffer = Box<[u8]>;

/// Frames that travel together, with their lengths.
type Batch = Vec<(Buffer, u16)>;

fn buffers(count: u32, bytes: u16) -> Vec<Buffer> {
    (0..count).map(|_| vec![0; usize::from(bytes)].into()).collect()
}

/// One direction between the ends. Every batch is in exactly one of: the sender's spare or open one, `full`, the
/// receiver's hands, `empty`; there are as many batches as either queue has places.
#[derive(Debug)]
struct Direction {
    full: ArrayQueue<Batch>,
    empty: ArrayQueue<Batch>,
    /// Frames published and not yet received with their batch. Only the sender adds, only the receiver subtracts.
    under_way: AtomicU32,
}

impl Direction {
    fn new(queue_frames: u32) -> Direction {
        let places = queue_frames as usize;
        Direction { full: ArrayQueue::new(places), empty: ArrayQueue::new(places), under_way: AtomicU32::new(0) }
    }
}

/// Ethernet header, one VLAN tag, and the frame check sequence's place, bytes.
const HEADER_BYTES_MAX: u16 = 18;

/// Frames of one batch. Origin: the default burst; smaller pays more queue operations, larger delays nothing but costs memory.
const BATCH_FRAMES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const MACS: [MacAddress; 2] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];

    fn send(link: &mut MemoryLink, bytes: &[u8]) -> bool {
        let Some(mut frame) = link.take() else { return false };
        link.bytes_mut(&mut frame)[..bytes.len()].copy_from_slice(bytes);
        link.send(frame, bytes.len()).is_ok()
    }

    fn receive(link: &mut MemoryLink, max: usize) -> Vec<Vec<u8>> {
        let mut burst = Vec::with_capacity(max);
        link.receive(&mut burst, max);
        burst
            .drain(..)
            .map(|frame| {
                let bytes = link.bytes(&frame).to_vec();
                link.give_back(frame);
                bytes
            })
            .collect()
    }

    #[test]
    fn flushed_frames_arrive_in_order_and_unflushed_stay() {
        let (mut a, mut b) = pair(MemoryConfig::default(), MACS);
        assert!(send(&mut a, b"one") && send(&mut a, b"two"));
        assert_eq!(a.levels().transmit, 2);
        assert!(receive(&mut b, 8).is_empty());
        a.flush();
        assert_eq!((b.pending(), a.levels().free), (2, 4096));
        assert_eq!(receive(&mut b, 1), [b"one"]);
        assert_eq!(receive(&mut b, 8), [b"two"]);
        assert_eq!((b.pending(), b.counters().rx_frames, a.counters().tx_bytes), (0, 2, 6));
        assert_eq!((a.mac(), b.mac()), (MACS[0], MACS[1]));
    }

    #[test]
    fn queue_full_drops_and_counts() {
        let (mut a, mut b) = pair(MemoryConfig { queue_frames: 3, ..MemoryConfig::default() }, MACS);
        for round in 0..5u8 {
            assert!(send(&mut a, &[round]));
            a.flush();
        }
        assert_eq!((a.counters().tx_frames, a.counters().tx_full), (3, 2));
        assert_eq!(receive(&mut b, 8), [[0], [1], [2]]);
        assert!(send(&mut a, &[9]));
        a.flush();
        assert_eq!(receive(&mut b, 8), [[9]]);
    }

    #[test]
    fn receiver_without_free_frames_leaves_them_under_way() {
        let (mut a, mut b) = pair(MemoryConfig { frames: 2, ..MemoryConfig::default() }, MACS);
        for round in 0..2u8 {
            assert!(send(&mut a, &[round]) && send(&mut a, &[round]));
            a.flush();
        }
        let mut burst = Vec::with_capacity(8);
        b.receive(&mut burst, 8);
        assert_eq!((burst.len(), b.levels().in_hand, b.take().is_none()), (2, 2, true));
        for frame in burst.drain(..) {
            b.give_back(frame);
        }
        assert_eq!(receive(&mut b, 8).len(), 2);
    }

    #[test]
    fn received_frame_sent_on_returns_to_its_sender() {
        let (mut a, mut b) = pair(MemoryConfig::default(), MACS);
        assert!(send(&mut a, b"ping"));
        a.flush();
        let mut burst = Vec::with_capacity(1);
        b.receive(&mut burst, 1);
        let mut frame = burst.pop().unwrap();
        b.bytes_mut(&mut frame)[1] = b'o';
        let len = frame.len();
        b.send(frame, len).unwrap();
        b.flush();
        assert_eq!(receive(&mut a, 1), [b"pong"]);
    }

    #[test]
    fn frame_longer_than_its_room_comes_back() {
        let (mut a, _b) = pair(MemoryConfig { frame_bytes: 64, mtu: 64, ..MemoryConfig::default() }, MACS);
        assert_eq!(a.frame_bytes_max(), 82);
        let frame = a.take().unwrap();
        let frame = a.send(frame, 83).unwrap_err();
        assert!(a.send(frame, 82).is_ok());
    }

    #[test]
    fn two_threads_exchange_every_frame() {
        const ROUNDS: u32 = 20_000;
        let (mut a, mut b) = pair(MemoryConfig { queue_frames: 64, ..MemoryConfig::default() }, MACS);
        let echo = std::thread::spawn(move || {
            let mut burst = Vec::with_capacity(16);
            let mut seen = 0;
            while seen < ROUNDS {
                b.receive(&mut burst, 16);
                for frame in burst.drain(..) {
                    let len = frame.len();
                    seen += 1;
                    b.send(frame, len).unwrap();
                }
                b.flush();
                std::thread::yield_now();
            }
            assert_eq!(b.levels().free, b.levels().total);
        });
        let (mut sent, mut expected) = (0u32, 0u32);
        while expected < ROUNDS {
            while sent < ROUNDS && sent - expected < 32 {
                assert!(send(&mut a, &sent.to_be_bytes()));
                sent += 1;
            }
            a.flush();
            for bytes in receive(&mut a, 16) {
                assert_eq!(bytes, expected.to_be_bytes());
                expected += 1;
            }
            std::thread::yield_now();
        }
        echo.join().unwrap();
        assert_eq!(a.counters().tx_full, 0);
    }

    proptest! {
        /// Against a plain queue: order, bytes, the queue's bound, and conservation after every step.
        #[test]
        fn any_sequence_behaves_as_a_bounded_queue(
            steps in proptest::collection::vec((0u8..4, 1usize..700), 1..200), queue_frames in 1u32..80,
        ) {
            let config = MemoryConfig { frames: 64, frame_bytes: 800, mtu: 700, queue_frames };
            let (mut a, mut b) = pair(config, MACS);
            let mut queued: Vec<Vec<u8>> = Vec::new();
            let mut wire: VecDeque<Vec<u8>> = VecDeque::new();
            let mut dropped = 0;
            for (number, (step, size)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => {
                        let bytes = vec![number as u8; size];
                        if send(&mut a, &bytes) {
                            queued.push(bytes);
                        }
                    }
                    2 => {
                        // Frames of a batch that is half received still count as under way.
                        let room = (queue_frames - b.pending()) as usize;
                        let fits = room.min(queued.len());
                        dropped += (queued.len() - fits) as u64;
                        wire.extend(queued.drain(..).take(fits));
                        a.flush();
                    }
                    _ => {
                        let got = receive(&mut b, size % 70);
                        prop_assert_eq!(got.len(), wire.len().min(size % 70));
                        for bytes in got {
                            prop_assert_eq!(Some(bytes), wire.pop_front());
                        }
                    }
                }
                prop_assert!(a.levels().conserved() && b.levels().conserved());
                prop_assert_eq!(a.levels().transmit as usize, queued.len());
                prop_assert_eq!(a.counters().tx_full, dropped);
            }
        }
    }
}
