//! Watching how the NIC spreads: an indirection table may change while the stack runs.

use super::spreading::Divider;
use crate::owner::Spread;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A thread that asks how the NIC spreads and tells the shards when that has changed. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Asks `read` every `interval`, which has said `current` last: only another answer divides anew, so that a
    /// division by hand stays. An answer that says nothing changes nothing.
    pub(super) fn start(
        divider: Divider,
        mut current: Spread,
        interval: Duration,
        read: impl Fn() -> Option<Spread> + Send + 'static,
    ) -> std::io::Result<Watch> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("synfin-watch".to_owned()).spawn(move || {
            // A shard may not know of the last answer.
            let mut owed = false;
            while !stopped.load(Ordering::Relaxed) {
                std::thread::park_timeout(interval);
                let Some(spread) = read().filter(|spread| owed || *spread != current) else { continue };
                let told = divider.change(&spread);
                if let Err(busy) = &told {
                    tracing::debug!(%busy, "tells the shards again");
                }
                (current, owed) = (spread, told.is_err());
            }
        })?;
        Ok(Watch { stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::commands::Command;
    use super::super::spreading::tests::{rss, told, two_shards};
    use super::*;
    use crate::owner::Owners;
    use std::time::Instant;

    #[test]
    fn division_by_hand_stays_while_the_nic_says_what_it_said() {
        let (commands, divider) = two_shards();
        let watch = Watch::start(divider.clone(), rss(0), Duration::from_millis(1), || Some(rss(0))).unwrap();
        divider.change(&rss(1)).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        drop(watch);
        assert_eq!((told(&commands[0]), told(&commands[1])), (vec![1], vec![1]));
    }

    #[test]
    fn change_of_the_nic_reaches_every_shard_once() {
        let (commands, divider) = two_shards();
        let changed = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&changed);
        // Every other answer says nothing.
        let asked = AtomicBool::new(false);
        let read = move || {
            let answers = asked.fetch_xor(true, Ordering::Relaxed);
            answers.then(|| rss(u16::from(seen.load(Ordering::Relaxed))))
        };
        let watch = Watch::start(divider, rss(0), Duration::from_millis(1), read).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(commands.iter().all(|commands| commands.take().next().is_none()), "nothing has changed");
        changed.store(true, Ordering::Relaxed);
        let expected = Owners::new(&rss(1), 2, (1000, 2000));
        let tuple = crate::four_tuple::FourTuple::default();
        for commands in &commands {
            let deadline = Instant::now() + Duration::from_secs(20);
            let command = loop {
                match commands.take().next() {
                    Some(command) => break command,
                    None => assert!(Instant::now() < deadline, "no command came"),
                }
            };
            let Command::ChangeOwners(owners) = command else { panic!("{command:?}") };
            assert_eq!(
                (owners.shards(), owners.ports(), owners.owner(&tuple)),
                (2, (1000, 2000), expected.owner(&tuple))
            );
        }
        std::thread::sleep(Duration::from_millis(20));
        drop(watch);
        assert!(commands.iter().all(|commands| commands.take().next().is_none()), "one change is told once");
    }
}
