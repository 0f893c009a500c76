//! Where frames come from and go to. The same shard runs over every link: memory, AF_XDP, either with faults.
//!
//! ```text
//!            receive                    give_back
//!   kernel ----------> in hand (Frame) -----------> free --> FILL (flush)
//!     ^                 |        ^
//!     |                 | send   | take
//!     +-- flush -- TX <-+        +--- free
//! ```
//! A [`Frame`] is a token for one slot of the link's memory. It is neither `Copy` nor `Clone`: every slot is in exactly
//! one of {FILL or kernel, in hand, TX or kernel, free}, and [`Levels`] must always add up to the whole.

pub mod capture;
pub mod faults;
pub mod memory;
pub mod nics;
mod pool;
pub mod several;
#[cfg(feature = "xdp")]
pub mod xdp;

use crate::tick::Now;
use crate::wire::ethernet::MacAddress;
use alloc::vec::Vec;

/// One frame in hand. Only the link that made it can look inside.
#[derive(Debug)]
#[must_use = "a frame that is neither sent nor given back is lost to its link"]
pub struct Frame {
    /// The slot in the link's memory.
    pub(in crate::link) slot: u32,
    /// Where the Ethernet header begins, bytes from the start of the slot.
    pub(in crate::link) offset: u16,
    /// Length of the frame, bytes; 0 for a frame just taken.
    pub(in crate::link) len: u16,
}

impl Frame {
    /// Length of the received frame, bytes.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether the frame holds nothing yet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Where a link's frames are. `total` is constant and the sum of the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Levels {
    /// Frames of the link's memory.
    pub total: u32,
    /// Ready for use.
    pub free: u32,
    /// Given out as [`Frame`] and not yet back.
    pub in_hand: u32,
    /// In the FILL or RX ring, or with the kernel for reception.
    pub fill: u32,
    /// Queued for transmission or with the kernel, not yet completed.
    pub transmit: u32,
}

impl Levels {
    /// Whether every frame is accounted for.
    pub fn conserved(&self) -> bool {
        self.total == self.free + self.in_hand + self.fill + self.transmit
    }
}

counters! {
    /// What a link counts.
    LinkCounters {
        /// Frames received.
        rx_frames,
        /// Bytes received.
        rx_bytes,
        /// Frames handed over for transmission.
        tx_frames,
        /// Bytes handed over for transmission.
        tx_bytes,
        /// Wake-ups (system calls) to start transmission.
        tx_kicks,
        /// Wake-ups answered EAGAIN: not everything was sent, it stays queued.
        tx_kick_eagain,
        /// Wake-ups answered EBUSY: on veth a packet was dropped.
        tx_kick_ebusy,
        /// Wake-ups answered by another errno.
        tx_kick_failed,
        /// Wake-ups to resume reception.
        rx_kicks,
        /// Frames that could not be handed over for want of ring space.
        tx_full,
        /// Received descriptors that lay outside the UMEM or came twice: refused.
        rx_bad_descriptors,
        /// Completions for frames that were not with the kernel: refused.
        completion_bad_descriptors,
    }
}

counters! {
    /// What the kernel counts for one XSK (`XDP_STATISTICS`), frames.
    KernelCounters {
        /// Received frames dropped for a reason that is not below.
        rx_dropped,
        /// Received frames dropped because the RX ring was full.
        rx_ring_full,
        /// Times FILL was empty when a frame arrived.
        fill_ring_empty,
        /// FILL descriptors that the kernel refused.
        rx_invalid_descriptors,
        /// TX descriptors that the kernel refused.
        tx_invalid_descriptors,
        /// Times TX was found empty.
        tx_ring_empty,
    }
}

/// A source and sink of Ethernet frames with its own memory.
///
/// No call blocks, allocates or reads a clock. `send`, `give_back` only queue; [`Link::flush`] moves.
pub trait Link {
    /// Whether there may be more than one interface behind the link. Where there is not, asking which costs nothing.
    const SEVERAL: bool = false;

    /// Interfaces behind the link, at most [`crate::limits::INTERFACES_MAX`]; the calls that name none mean the first.
    #[inline]
    fn interfaces(&self) -> u8 {
        1
    }

    /// The interface that the frame was received on, or was taken for; it can be sent on no other.
    #[inline]
    fn interface_of(&self, frame: &Frame) -> u8 {
        let _ = frame;
        0
    }

    /// As [`Link::take`], for interface number `interface`.
    #[inline]
    fn take_on(&mut self, interface: u8) -> Option<Frame> {
        let _ = interface;
        self.take()
    }

    /// The Ethernet address of interface number `interface`.
    fn mac_on(&self, interface: u8) -> MacAddress {
        let _ = interface;
        self.mac()
    }

    /// The largest IP packet that may be sent on interface number `interface`, bytes.
    fn mtu_on(&self, interface: u8) -> usize {
        let _ = interface;
        self.mtu()
    }

    /// Tells the time of the turn that begins. Only links that hold frames or stamp them look at it.
    #[inline]
    fn advance(&mut self, now: Now) {
        let _ = now;
    }

    /// Moves up to `max` received frames to the end of `burst`. `burst` has the capacity; the link does not grow it.
    fn receive(&mut self, burst: &mut Vec<Frame>, max: usize);

    /// Asks the processor to load the frame's headers.
    #[inline]
    fn prefetch(&self, frame: &Frame) {
        let _ = frame;
    }

    /// The frame's bytes, from the Ethernet header on.
    fn bytes(&self, frame: &Frame) -> &[u8];

    /// The frame's whole room, from the Ethernet header on: at least [`Link::frame_bytes_max`] bytes.
    fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8];

    /// An empty frame to fill and send, or `None` when none is free or the transmit queue has no room for it.
    fn take(&mut self) -> Option<Frame>;

    /// Copies `bytes` into a frame from [`Link::take`], as if they had been received in it; what has no room is cut off.
    fn copy_in(&mut self, frame: &mut Frame, bytes: &[u8]) {
        let room = self.bytes_mut(frame);
        let len = bytes.len().min(room.len()).min(usize::from(u16::MAX));
        room[..len].copy_from_slice(&bytes[..len]);
        frame.len = len as u16;
    }

    /// Queues the first `len` bytes of `frame` for transmission. Frames from [`Link::take`] always fit; a received frame
    /// that is sent instead of given back may find the queue full and comes back.
    fn send(&mut self, frame: Frame, len: usize) -> Result<(), Frame>;

    /// Returns a frame unused.
    fn give_back(&mut self, frame: Frame);

    /// Transmits what is queued (one burst, one wake-up if asked for), takes completions back and tops up FILL.
    fn flush(&mut self);

    /// Whether a flush has left frames behind that the next may move: it has to come soon, although nothing else is due.
    #[inline]
    fn is_behind(&self) -> bool {
        false
    }

    /// This end's Ethernet address.
    fn mac(&self) -> MacAddress;

    /// The largest IP packet that may be sent, bytes.
    fn mtu(&self) -> usize;

    /// The largest frame that fits, bytes from the Ethernet header on.
    fn frame_bytes_max(&self) -> usize;

    /// Where the frames are.
    fn levels(&self) -> Levels;

    /// What was counted.
    fn counters(&self) -> LinkCounters;
}
