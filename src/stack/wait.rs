//! Sleeping until a link has something.

use crate::limits::INTERFACES_MAX;
use crate::link::capture::Capture;
use crate::link::faults::Faults;
use crate::link::memory::MemoryLink;
use crate::link::several::Several;
use crate::link::{KernelCounters, Link};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// A link that an idle shard can sleep on.
pub trait WaitLink: Link {
    /// Sleeps until a frame is there, `alarm` is readable, or `timeout` has passed; may return early. False when there
    /// is nothing to do as far as it knows.
    fn wait(&self, alarm: BorrowedFd<'_>, timeout: Duration) -> bool;

    /// What is readable when a frame is there on interface number `interface`, for a thread that waits for other things
    /// too; `None` where there is no such thing.
    fn descriptor(&self, interface: u8) -> Option<BorrowedFd<'_>> {
        let _ = interface;
        None
    }

    /// Lets the driver work now, where it does so inside system calls of the link (SO_PREFER_BUSY_POLL).
    fn busy_poll(&self) {}

    /// What the kernel counts for the link; zeros where there is no kernel.
    fn kernel_counters(&self) -> KernelCounters {
        KernelCounters::default()
    }
}

#[cfg(feature = "xdp")]
impl WaitLink for crate::link::xdp::XdpLink {
    fn wait(&self, alarm: BorrowedFd<'_>, timeout: Duration) -> bool {
        crate::link::xdp::XdpLink::wait(self, Some(alarm), timeout)
    }

    fn descriptor(&self, _interface: u8) -> Option<BorrowedFd<'_>> {
        Some(self.poll_fd())
    }

    fn busy_poll(&self) {
        crate::link::xdp::XdpLink::busy_poll(self);
    }

    fn kernel_counters(&self) -> KernelCounters {
        self.statistics().unwrap_or_default()
    }
}

impl WaitLink for MemoryLink {
    fn wait(&self, _alarm: BorrowedFd<'_>, timeout: Duration) -> bool {
        // Nothing wakes a memory link; a short nap keeps both ends on one core going.
        if self.pending() == 0 {
            std::thread::sleep(timeout.min(NAP));
        }
        self.pending() > 0
    }
}

impl<L: WaitLink> WaitLink for Capture<L> {
    fn wait(&self, alarm: BorrowedFd<'_>, timeout: Duration) -> bool {
        self.inner().wait(alarm, timeout)
    }

    fn descriptor(&self, interface: u8) -> Option<BorrowedFd<'_>> {
        self.inner().descriptor(interface)
    }

    fn busy_poll(&self) {
        self.inner().busy_poll();
    }

    fn kernel_counters(&self) -> KernelCounters {
        self.inner().kernel_counters()
    }
}

impl<L: WaitLink> WaitLink for Faults<L> {
    fn wait(&self, alarm: BorrowedFd<'_>, timeout: Duration) -> bool {
        // Held frames become due by the clock alone, which the wrapped link does not know.
        let timeout = if self.next_due().is_some() { timeout.min(Duration::from_millis(1)) } else { timeout };
        self.inner().wait(alarm, timeout)
    }

    fn descriptor(&self, interface: u8) -> Option<BorrowedFd<'_>> {
        self.inner().descriptor(interface)
    }

    fn busy_poll(&self) {
        self.inner().busy_poll();
    }

    fn kernel_counters(&self) -> KernelCounters {
        self.inner().kernel_counters()
    }
}

impl<L: WaitLink> WaitLink for Several<L> {
    fn wait(&self, alarm: BorrowedFd<'_>, timeout: Duration) -> bool {
        let entry = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // The kernel passes over an entry whose descriptor is negative.
        let mut asked = [entry(-1); INTERFACES_MAX + 1];
        asked[0].fd = alarm.as_raw_fd();
        for (interface, place) in (0..self.interfaces()).zip(&mut asked[1..]) {
            let Some(descriptor) = self.descriptor(interface) else {
                // Not one that can be waited for: each is given its part of the time.
                let part = timeout / u32::from(self.interfaces());
                return self.links().iter().fold(false, |readable, link| link.wait(alarm, part) | readable);
            };
            place.fd = descriptor.as_raw_fd();
        }
        // Rounded up: a deadline that is less than 1 ms away must not become a spin.
        let millis = timeout.as_micros().div_ceil(1000).min(60_000) as libc::c_int;
        // SAFETY: as many entries as the array has, which outlives the call.
        unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, millis) };
        asked[1..].iter().any(|place| place.revents != 0)
    }

    fn descriptor(&self, interface: u8) -> Option<BorrowedFd<'_>> {
        self.links().get(usize::from(interface)).and_then(|link| link.descriptor(0))
    }

    fn busy_poll(&self) {
        self.links().iter().for_each(L::busy_poll);
    }

    fn kernel_counters(&self) -> KernelCounters {
        let mut all = KernelCounters::default();
        self.links().iter().for_each(|link| all.add(&link.kernel_counters()));
        all
    }
}

/// How long a memory link sleeps at most.
const NAP: Duration = Duration::from_micros(50);
