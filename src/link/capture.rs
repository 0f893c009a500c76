//! A link that copies every frame in and out, with its direction and the turn's time, for somebody else to write down.
//!
//! ```text
//!   Capture (shard's thread) --records--> CaptureReader (a writer's thread)
//!                ^                             |
//!                +---------- blanks -----------+
//! ```
//! All records are made at the start. When none is blank the frame goes on its way uncopied, and is counted as dropped
//! by the capture: a slow disk never slows a shard.

use super::{Frame, Levels, Link, LinkCounters};
use crate::tick::Now;
use crate::wire::ethernet::MacAddress;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use crossbeam::queue::ArrayQueue;

/// The size of a capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CaptureConfig {
    /// Bytes copied of each frame at most.
    pub snap_bytes: u16,
    /// Frames that may wait for the writer.
    pub records: u32,
}

impl Default for CaptureConfig {
    fn default() -> CaptureConfig {
        CaptureConfig { snap_bytes: 2048, records: 8192 }
    }
}

/// Which way a frame went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Received.
    In,
    /// Sent.
    Out,
}

/// One copied frame.
#[derive(Debug)]
pub struct Record {
    /// The time of the turn in which it passed.
    pub now: Now,
    /// Which way it went.
    pub way: Way,
    /// The frame's own length, bytes.
    pub frame_bytes: u32,
    copied: usize,
    room: Box<[u8]>,
}

impl Record {
    /// The bytes that were copied, from the Ethernet header on.
    pub fn bytes(&self) -> &[u8] {
        &self.room[..self.copied]
    }
}

/// A link whose frames are copied.
#[derive(Debug)]
pub struct Capture<L> {
    inner: L,
    now: Now,
    shared: Arc<Shared>,
    /// A blank that a refused send left behind.
    blank: Option<Record>,
}

/// The reading end of a [`Capture`].
#[derive(Debug)]
pub struct CaptureReader {
    shared: Arc<Shared>,
}

impl<L: Link> Capture<L> {
    /// Wraps `inner`; the reader is for one other thread.
    pub fn new(inner: L, config: CaptureConfig) -> (Capture<L>, CaptureReader) {
        let places = config.records.max(1) as usize;
        let shared = Arc::new(Shared {
            records: ArrayQueue::new(places),
            blanks: ArrayQueue::new(places),
            dropped: AtomicU64::new(0),
        });
        for _ in 0..places {
            let room = vec![0; usize::from(config.snap_bytes)].into();
            let blank = Record { now: Now::default(), way: Way::In, frame_bytes: 0, copied: 0, room };
            // There are as many blanks as places, so this cannot fail.
            let _ = shared.blanks.push(blank);
        }
        (Capture { inner, now: Now::default(), shared: Arc::clone(&shared), blank: None }, CaptureReader { shared })
    }

    /// The wrapped link.
    pub fn inner(&self) -> &L {
        &self.inner
    }

    /// A copy of `bytes`, not yet published.
    fn copy(blank: Option<Record>, shared: &Shared, now: Now, way: Way, bytes: &[u8]) -> Option<Record> {
        let mut record = blank.or_else(|| shared.blanks.pop())?;
        let copied = bytes.len().min(record.room.len());
        record.room[..copied].copy_from_slice(&bytes[..copied]);
        record.copied = copied;
        record.now = now;
        record.way = way;
        record.frame_bytes = bytes.len() as u32;
        Some(record)
    }
}

impl CaptureReader {
    /// The oldest record that waits. Give it back with [`CaptureReader::recycle`].
    pub fn next_record(&mut self) -> Option<Record> {
        self.shared.records.pop()
    }

    /// Makes a record blank again.
    pub fn recycle(&mut self, record: Record) {
        // Every record has a place; one of another capture finds none and is freed.
        let _ = self.shared.blanks.push(record);
    }

    /// Frames that passed uncopied because no record was blank.
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

impl<L: Link> Link for Capture<L> {
    fn advance(&mut self, now: Now) {
        self.now = now;
        self.inner.advance(now);
    }

    fn receive(&mut self, burst: &mut Vec<Frame>, max: usize) {
        let first = burst.len();
        self.inner.receive(burst, max);
        for frame in burst.iter().skip(first) {
            let copy = Self::copy(self.blank.take(), &self.shared, self.now, Way::In, self.inner.bytes(frame));
            self.shared.publish(copy);
        }
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
        let room = self.inner.bytes_mut(&mut frame);
        let bytes = &room[..len.min(room.len())];
        let copy = Self::copy(self.blank.take(), &self.shared, self.now, Way::Out, bytes);
        match self.inner.send(frame, len) {
            Ok(()) => {
                self.shared.publish(copy);
                Ok(())
            }
            Err(frame) => {
                self.blank = copy;
                Err(frame)
            }
        }
    }

    fn give_back(&mut self, frame: Frame) {
        self.inner.give_back(frame);
    }

    fn flush(&mut self) {
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

/// What the two ends share. Every record is in exactly one of: `records`, `blanks`, the hands of an end.
#[derive(Debug)]
struct Shared {
    records: ArrayQueue<Record>,
    blanks: ArrayQueue<Record>,
    dropped: AtomicU64,
}

impl Shared {
    fn publish(&self, copy: Option<Record>) {
        let full = match copy {
            Some(record) => self.records.push(record).is_err(),
            None => true,
        };
        if full {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::memory::{MemoryConfig, pair};

    const MACS: [MacAddress; 2] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];

    fn send(link: &mut impl Link, bytes: &[u8]) {
        let mut frame = link.take().unwrap();
        link.bytes_mut(&mut frame)[..bytes.len()].copy_from_slice(bytes);
        link.send(frame, bytes.len()).unwrap();
        link.flush();
    }

    fn receive_one(link: &mut impl Link) {
        let mut burst = Vec::with_capacity(1);
        link.receive(&mut burst, 1);
        link.give_back(burst.pop().unwrap());
    }

    #[test]
    fn both_ways_are_copied_with_time_and_truncated() {
        let (a, mut b) = pair(MemoryConfig::default(), MACS);
        let (mut a, mut reader) = Capture::new(a, CaptureConfig { snap_bytes: 3, records: 4 });
        a.advance(Now::from_us(7));
        send(&mut a, b"hello");
        receive_one(&mut b);
        send(&mut b, b"yo");
        a.advance(Now::from_us(8));
        receive_one(&mut a);
        let out = reader.next_record().unwrap();
        assert_eq!((out.bytes(), out.frame_bytes, out.way, out.now), (&b"hel"[..], 5, Way::Out, Now::from_us(7)));
        let into = reader.next_record().unwrap();
        assert_eq!((into.bytes(), into.frame_bytes, into.way, into.now), (&b"yo"[..], 2, Way::In, Now::from_us(8)));
        assert!(reader.next_record().is_none());
    }

    #[test]
    fn full_capture_drops_and_counts_and_goes_on_after_recycling() {
        let (a, mut b) = pair(MemoryConfig::default(), MACS);
        let (mut a, mut reader) = Capture::new(a, CaptureConfig { snap_bytes: 64, records: 2 });
        for _ in 0..5 {
            send(&mut a, b"x");
            receive_one(&mut b);
        }
        assert_eq!(reader.dropped(), 3);
        let record = reader.next_record().unwrap();
        reader.recycle(record);
        send(&mut a, b"y");
        assert_eq!((reader.dropped(), reader.next_record().unwrap().bytes()), (3, &b"x"[..]));
        assert_eq!(reader.next_record().unwrap().bytes(), b"y");
    }

    #[test]
    fn refused_send_is_not_recorded() {
        let (a, _b) = pair(MemoryConfig::default(), MACS);
        let (mut a, mut reader) = Capture::new(a, CaptureConfig { snap_bytes: 64, records: 1 });
        let frame = a.take().unwrap();
        let frame = a.send(frame, 5000).unwrap_err();
        assert!(reader.next_record().is_none());
        assert!(a.send(frame, 20).is_ok());
        assert_eq!((reader.next_record().unwrap().frame_bytes, reader.dropped()), (20, 0));
    }
}
