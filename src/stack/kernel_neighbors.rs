//! In shared-address mode the kernel knows the neighbours: a thread asks it for those that shards want, and tells them all.

use super::commands::Command;
use super::questions::Questions;
use super::spreading::Divider;
use crate::link::xdp::{KernelNeighbors, XdpError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The thread. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Asker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Asker {
    /// Asks for the neighbours of interface number `interface`.
    pub(super) fn start(
        interface: u8,
        kernel: KernelNeighbors,
        questions: Arc<Questions>,
        shards: Divider,
    ) -> Result<Asker, XdpError> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            while !stopped.load(Ordering::Relaxed) {
                let mut learned = Vec::new();
                questions.wait(|alarm| learned = kernel.wait(alarm, WAIT));
                learned.extend(questions.take().filter_map(|ip| kernel.ask(ip).map(|mac| (ip, mac))));
                for (ip, mac) in learned {
                    // A shard that is busy asks again.
                    let _ = shards.tell_all(&Command::Learn { interface, ip, mac });
                }
            }
        };
        let thread = std::thread::Builder::new().name("synfin-neighbors".to_owned()).spawn(work);
        let thread = thread.map_err(|source| XdpError::Query { interface: "neighbours".into(), source })?;
        Ok(Asker { stop, thread: Some(thread) })
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// The longest wait, which is how long an end takes.
const WAIT: Duration = Duration::from_millis(100);
