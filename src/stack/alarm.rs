//! Waking a shard that sleeps on its link when another has handed frames over to it.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The alarm of one shard: a pipe that holds at most one byte for each time it went to sleep.
#[derive(Debug)]
pub(super) struct Alarm {
    sleeping: AtomicBool,
    reader: PipeReader,
    writer: PipeWriter,
}

impl Alarm {
    pub(super) fn new() -> io::Result<Alarm> {
        let (reader, writer) = io::pipe()?;
        Ok(Alarm { sleeping: AtomicBool::new(false), reader, writer })
    }

    /// Wakes the shard if it sleeps or is about to. What was handed over before this it sees before it sleeps.
    pub(super) fn ring(&self) {
        if self.sleeping.swap(false, Ordering::SeqCst) {
            // It fails only when the shard has ended.
            let _ = (&self.writer).write(&[0]);
        }
    }

    /// Sleeps by `sleep`, which is to end when the descriptor is readable, unless there is `work` already.
    pub(super) fn sleep(&self, work: impl FnOnce() -> bool, sleep: impl FnOnce(BorrowedFd<'_>)) {
        self.begin();
        if !work() {
            sleep(self.descriptor());
        }
        self.end();
    }

    /// From now on a ring makes [`Alarm::descriptor`] readable, until [`Alarm::end`].
    pub(super) fn begin(&self) {
        self.sleeping.store(true, Ordering::SeqCst);
    }

    /// What is readable when somebody has rung.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    /// The sleeper is awake.
    pub(super) fn end(&self) {
        if !self.sleeping.swap(false, Ordering::SeqCst) {
            // Somebody rang: the byte is there, or will be in a moment.
            let _ = (&self.reader).read(&mut [0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    #[test]
    fn sleeper_is_woken_once_and_a_ring_while_awake_leaves_nothing() {
        let alarm = Alarm::new().unwrap();
        alarm.ring();
        let slept = Cell::new(false);
        alarm.sleep(|| true, |_| slept.set(true));
        assert!(!slept.get(), "there was work");
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !alarm.sleeping.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
                alarm.ring();
                alarm.ring();
            });
            // As a link does: until the descriptor is readable.
            alarm.sleep(
                || false,
                |_| {
                    while alarm.sleeping.load(Ordering::SeqCst) {
                        assert!(began.elapsed() < Duration::from_secs(20));
                        std::thread::yield_now();
                    }
                },
            );
        });
        alarm.sleep(|| true, |_| ());
        assert!(!alarm.sleeping.load(Ordering::SeqCst));
    }
}
