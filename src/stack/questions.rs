//! Questions of shards about neighbours that somebody else asks for.

use super::alarm::Alarm;
use crossbeam::queue::ArrayQueue;
use std::net::IpAddr;

/// What shards want to know, and what wakes who asks for them.
#[derive(Debug)]
pub(super) struct Questions {
    queue: ArrayQueue<IpAddr>,
    alarm: Alarm,
}

impl Questions {
    pub(super) fn new() -> std::io::Result<Questions> {
        Ok(Questions { queue: ArrayQueue::new(QUESTIONS_MAX), alarm: Alarm::new()? })
    }

    /// Asks for `ip`. Where too many are open it is dropped: the shard asks again after a second.
    pub(super) fn push(&self, ip: IpAddr) {
        let _ = self.queue.push(ip);
        self.alarm.ring();
    }
}

/// What asks elsewhere asks the kernel.
#[cfg(feature = "xdp")]
impl Questions {
    /// The questions that are open.
    pub(super) fn take(&self) -> impl Iterator<Item = IpAddr> {
        (0..QUESTIONS_MAX).map_while(|_| self.queue.pop())
    }

    /// Waits by `wait`, which is to end when the descriptor is readable, unless a question is open.
    pub(super) fn wait(&self, wait: impl FnOnce(std::os::fd::BorrowedFd<'_>)) {
        self.alarm.sleep(|| !self.queue.is_empty(), wait);
    }
}

/// Questions that wait at a time. Smaller delays whoever opens to many neighbours by a second; larger bounds nothing.
const QUESTIONS_MAX: usize = 256;
