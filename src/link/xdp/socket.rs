//! One AF_XDP socket with its UMEM and four rings, as a [`Link`].
//!
//! Invariants:
//! 1. Every descriptor in `descs` and `pristine` lies in this link's UMEM with its whole length inside one slot: it comes
//!    from the UMEM itself, or from RX after [`Slots::received`] has checked it; lengths are set only through the
//!    UMEM's own cursor, which ends with the slot.
//! 2. A descriptor is handed to FILL or TX only as its slot moves there in [`Slots`], so the kernel never has one twice;
//!    a slot's bytes are touched only while [`Slots`] says that it is in hand.
//! 3. The bytes of a slot are reached through `&self` or `&mut self` only, so borrows of them cannot overlap wrongly.
//! 4. `fd` is the socket that the queues keep open; it is used only while they live.

use super::XdpError;
use super::interface::Interface;
use super::setup::{HEADROOM_BYTES, XdpConfig, bind_socket, make_umem};
use super::slots::Slots;
use super::sys::{self, Kick};
use crate::link::{Frame, KernelCounters, Levels, Link, LinkCounters};
use crate::prefetch::prefetch;
use crate::wire::ethernet::MacAddress;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue, Umem};

/// AF_XDP on one queue of one interface.
pub struct XdpLink {
    interface: Interface,
    queue: u32,
    config: XdpConfig,
    slots: Slots,
    /// Each slot's descriptor: where its frame begins, and the length last set.
    descs: Vec<FrameDesc>,
    /// Each slot's descriptor as the UMEM made it, for the rare frame that began elsewhere.
    pristine: Vec<FrameDesc>,
    /// Descriptors queued by `send`, for the next flush.
    staged: Vec<FrameDesc>,
    /// Room for one ring operation.
    scratch: Vec<FrameDesc>,
    counters: LinkCounters,
    zero_copy: bool,
    huge_pages: bool,
    /// Wake-ups that one flush may make: more than one only where the kernel sends 32 frames per wake-up.
    kicks_max: u32,
    /// What the last wake-up was answered: by anything but [`Kick::Done`] it has left frames in TX.
    kicked: Kick,
    fd: RawFd,
    rx: RxQueue,
    tx: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    umem: Umem,
}

impl XdpLink {
    /// Binds a socket to `queue` of `interface` in the calling thread's network namespace and tops up FILL. While
    /// another socket is still bound (the kernel takes up to 50 ms to end one), this waits for up to half a second.
    pub fn bind(interface: &str, queue: u32, config: XdpConfig) -> Result<XdpLink, XdpError> {
        let interface = Interface::query(interface)?;
        config.check()?;
        if queue >= interface.queues {
            return Err(XdpError::NoQueue { interface: interface.name, queue, queues: interface.queues });
        }
        let (umem, pristine, huge_pages) = make_umem(&interface, &config)?;
        let (tx, rx, fill, completion) = bind_socket(&interface, queue, &config, &umem)?;
        let fd = rx.fd().as_raw_fd();
        let mut link = XdpLink {
            slots: Slots::new(config.frames, config.frame_bytes.ilog2(), config.fill, config.tx),
            descs: pristine.clone(),
            pristine,
            staged: Vec::with_capacity(config.tx as usize),
            scratch: vec![FrameDesc::default(); BATCH],
            counters: LinkCounters::default(),
            zero_copy: false,
            huge_pages,
            kicks_max: config.tx.div_ceil(KICK_FRAMES),
            kicked: Kick::Done,
            interface,
            queue,
            config,
            fd,
            rx,
            tx,
            fill,
            completion,
            umem,
        };
        // Before Linux 6.17 a wake-up sends 32 frames whatever is asked for; then there are several.
        if sys::set_transmit_budget(link.poll_fd(), config.tx).is_ok() {
            link.kicks_max = 1;
        }
        link.zero_copy = sys::is_zero_copy(link.poll_fd()).unwrap_or(false);
        link.top_up_fill();
        Ok(link)
    }

    /// The interface, as it was when the link was bound.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The queue it is bound to.
    pub fn queue(&self) -> u32 {
        self.queue
    }

    /// Whether frames pass without a copy, as the kernel says.
    pub fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Whether the frames lie on huge pages.
    pub fn huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// The socket, for poll(2) and for the slot of the XDP program.
    pub fn poll_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: invariant 4; the borrow ends before the queues do.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    /// Sleeps until a frame is there, `alarm` is readable, or `timeout` (rounded up to 1 ms, at most a minute) has passed; false
    /// after the time-out.
    pub fn wait(&self, alarm: Option<BorrowedFd<'_>>, timeout: Duration) -> bool {
        sys::wait_readable(self.poll_fd(), alarm, timeout)
    }

    /// From now on the driver works inside [`XdpLink::busy_poll`] and inside wake-ups rather than by interrupts, at most `budget`
    /// frames at a time (SO_PREFER_BUSY_POLL; Linux 5.11 and later, and a driver that has it).
    pub fn prefer_busy_poll(&self, budget: u32) -> Result<(), XdpError> {
        sys::prefer_busy_poll(self.poll_fd(), budget).map_err(|source| XdpError::BusyPoll {
            interface: self.interface.name.clone(),
            queue: self.queue,
            source,
        })
    }

    /// Lets the driver work now.
    #[inline]
    pub fn busy_poll(&self) {
        sys::kick_receive(self.poll_fd());
    }

    /// What the kernel counts for this socket.
    pub fn statistics(&self) -> io::Result<KernelCounters> {
        let kernel = self.rx.fd().xdp_statistics()?;
        Ok(KernelCounters {
            rx_dropped: kernel.rx_dropped(),
            rx_ring_full: kernel.rx_ring_full(),
            fill_ring_empty: kernel.rx_fill_ring_empty_descs(),
            rx_invalid_descriptors: kernel.rx_invalid_descs(),
            tx_invalid_descriptors: kernel.tx_invalid_descs(),
            tx_ring_empty: kernel.tx_ring_empty_descs(),
        })
    }

    /// Bytes of a slot from where its frame begins.
    #[inline]
    fn room(&self, frame: &Frame) -> usize {
        (self.config.frame_bytes as usize).saturating_sub(frame.offset.into())
    }

    /// Hands what is staged to TX. The ring has room for it (invariant 3 of `slots`); should the kernel say otherwise, it
    /// stays staged.
    fn submit_staged(&mut self) -> bool {
        if self.staged.is_empty() {
            return false;
        }
        // SAFETY: invariants 1 and 2: `send` moved these slots to TX, each once.
        let submitted = unsafe { self.tx.produce(&self.staged) };
        self.staged.drain(..submitted);
        submitted > 0
    }

    /// Wakes the kernel for what is in TX, if it asks for that. In copy mode it always does.
    fn kick_transmit(&mut self, submitted: bool) {
        let outstanding = self.slots.levels().transmit > self.staged.len() as u32;
        let due = submitted || self.kicked != Kick::Done || (self.zero_copy && outstanding);
        if !due || !self.tx.needs_wakeup() {
            return;
        }
        for _ in 0..self.kicks_max {
            self.counters.tx_kicks += 1;
            self.kicked = sys::kick_transmit(self.poll_fd());
            match self.kicked {
                Kick::Done => return,
                Kick::Again => self.counters.tx_kick_eagain += 1,
                Kick::Busy => self.counters.tx_kick_ebusy += 1,
                Kick::Failed => {
                    self.counters.tx_kick_failed += 1;
                    return;
                }
            }
        }
    }

    fn reap_completions(&mut self) {
        loop {
            // SAFETY: this queue and the UMEM belong together; only addresses come back, and they are checked.
            let count = unsafe { self.completion.consume(&mut self.scratch) };
            for desc in &self.scratch[..count] {
                match self.slots.completed(desc.addr()) {
                    Some(slot) => reset(&mut self.descs, &self.pristine, slot, self.config.frame_bytes),
                    None => self.counters.completion_bad_descriptors += 1,
                }
            }
            if count < self.scratch.len() {
                return;
            }
        }
    }

    fn top_up_fill(&mut self) {
        while self.slots.fill_room() > 0 {
            let mut count = 0;
            for desc in &mut self.scratch {
                let Some(slot) = self.slots.fill() else { break };
                *desc = self.descs[slot as usize];
                count += 1;
            }
            // SAFETY: invariants 1 and 2: these slots have just moved to FILL.
            let accepted = unsafe { self.fill.produce(&self.scratch[..count]) };
            for desc in &self.scratch[accepted..count] {
                self.slots.unfill((desc.addr() >> self.config.frame_bytes.ilog2()) as u32);
            }
            if accepted < count {
                return;
            }
        }
    }
}

impl Link for XdpLink {
    fn receive(&mut self, burst: &mut Vec<Frame>, max: usize) {
        let mut left = max.min(burst.capacity() - burst.len());
        while left > 0 {
            let want = left.min(self.scratch.len());
            // SAFETY: this queue and the UMEM belong together; every descriptor is checked before it is used.
            let count = unsafe { self.rx.consume(&mut self.scratch[..want]) };
            for desc in &self.scratch[..count] {
                let len = desc.lengths().data();
                let Some((slot, offset)) = self.slots.received(desc.addr(), len) else {
                    self.counters.rx_bad_descriptors += 1;
                    continue;
                };
                self.descs[slot as usize] = *desc;
                self.counters.rx_frames += 1;
                self.counters.rx_bytes += len as u64;
                burst.push(Frame { slot, offset, len: len as u16 });
            }
            left -= count;
            if count < want {
                return;
            }
        }
    }

    #[inline]
    fn prefetch(&self, frame: &Frame) {
        if let Some(first) = self.bytes(frame).first() {
            prefetch(first);
        }
    }

    #[inline]
    fn bytes(&self, frame: &Frame) -> &[u8] {
        if !self.slots.is_in_hand(frame.slot) {
            return &[];
        }
        // SAFETY: invariants 1 to 3.
        let data = unsafe { self.umem.data(&self.descs[frame.slot as usize]) };
        let bytes = data.contents();
        &bytes[..bytes.len().min(frame.len())]
    }

    #[inline]
    fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        if !self.slots.is_in_hand(frame.slot) {
            return &mut [];
        }
        let room = self.room(frame);
        // SAFETY: invariants 1 to 3.
        let mut data = unsafe { self.umem.data_mut(&mut self.descs[frame.slot as usize]) };
        data.cursor().set_pos(room);
        let contents = data.contents_mut();
        let (pointer, len) = (contents.as_mut_ptr(), contents.len());
        // SAFETY: the same bytes, for as long as `self` is borrowed (invariant 3) instead of for as long as `data`.
        unsafe { std::slice::from_raw_parts_mut(pointer, len) }
    }

    #[inline]
    fn take(&mut self) -> Option<Frame> {
        let slot = self.slots.take()?;
        Some(Frame { slot, offset: HEADROOM_BYTES as u16, len: 0 })
    }

    /// A frame that is shorter than an Ethernet header or longer than its room comes back too.
    #[inline]
    fn send(&mut self, frame: Frame, len: usize) -> Result<(), Frame> {
        let fits = self.slots.is_in_hand(frame.slot) && (FRAME_BYTES_MIN..=self.room(&frame)).contains(&len);
        if !fits || !self.slots.transmit(frame.slot) {
            self.counters.tx_full += 1;
            return Err(frame);
        }
        let desc = &mut self.descs[frame.slot as usize];
        // SAFETY: invariants 1 to 3; the descriptor's length is set, no byte is touched.
        unsafe { self.umem.data_mut(desc) }.cursor().set_pos(len);
        desc.set_options(0);
        // Never grows: `Slots` holds at most `tx` slots in TX, the capacity.
        self.staged.push(*desc);
        self.counters.tx_frames += 1;
        self.counters.tx_bytes += len as u64;
        Ok(())
    }

    #[inline]
    fn give_back(&mut self, frame: Frame) {
        if self.slots.give_back(frame.slot) {
            reset(&mut self.descs, &self.pristine, frame.slot, self.config.frame_bytes);
        }
    }

    fn flush(&mut self) {
        let submitted = self.submit_staged();
        self.kick_transmit(submitted);
        self.reap_completions();
        if self.slots.fill_room() >= FILL_BATCH.min(self.config.fill) || self.slots.levels().fill < self.config.fill / 2
        {
            self.top_up_fill();
        }
        if self.fill.needs_wakeup() {
            self.counters.rx_kicks += 1;
            sys::kick_receive(self.poll_fd());
        }
        debug_assert!(self.slots.levels().conserved(), "{:?}", self.slots.levels());
    }

    /// Not after an error that lasts, such as that of a link that is down: who waits for that end is told of it.
    fn is_behind(&self) -> bool {
        matches!(self.kicked, Kick::Again | Kick::Busy) || !self.staged.is_empty()
    }

    fn mac(&self) -> MacAddress {
        self.interface.mac
    }

    fn mtu(&self) -> usize {
        self.interface.mtu.min(self.frame_bytes_max() - TAGGED_ETHERNET_BYTES)
    }

    fn frame_bytes_max(&self) -> usize {
        self.config.frame_bytes as usize - HEADROOM_BYTES
    }

    fn levels(&self) -> Levels {
        self.slots.levels()
    }

    fn counters(&self) -> LinkCounters {
        self.counters
    }
}

impl fmt::Debug for XdpLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut link = f.debug_struct("XdpLink");
        link.field("interface", &self.interface.name).field("queue", &self.queue).field("levels", &self.levels());
        link.field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// A slot whose frame began elsewhere gets its own descriptor back before it is used again.
#[inline]
fn reset(descs: &mut [FrameDesc], pristine: &[FrameDesc], slot: u32, frame_bytes: u32) {
    let (desc, slot) = (&mut descs[slot as usize], slot as usize);
    if desc.addr() != slot * frame_bytes as usize + HEADROOM_BYTES {
        *desc = pristine[slot];
    }
}

/// Bytes of an Ethernet header without a tag.
const ETHERNET_BYTES: usize = 14;

/// The same with a VLAN tag: the largest packet fits a frame with one too.
const TAGGED_ETHERNET_BYTES: usize = ETHERNET_BYTES + 4;

/// The shortest frame that the kernel sends, bytes.
const FRAME_BYTES_MIN: usize = ETHERNET_BYTES;

/// Descriptors per ring operation. Origin: the largest burst; fewer cost more ring operations, more cost L1.
const BATCH: usize = 256;

/// FILL is topped up when it lacks this many slots: fewer cost a shared cache line per frame, more let it run low.
const FILL_BATCH: u32 = 64;

/// Frames that one wake-up sends before Linux 6.17 (TX_BATCH_SIZE in the kernel's xsk.c).
const KICK_FRAMES: u32 = 32;

const _: () = assert!(BATCH >= crate::limits::BURST_MAX as usize);
