//! Watching how the NIC spreads: an indirection table may change while the stack runs.

use super::StackError;
use super::commands::{Command, Commands};
use crate::owner::{Owners, Spread};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Lets all shards of a stack divide connections anew. Each hears of every change, in the same order.
#[derive(Clone, Debug)]
pub(super) struct Divider {
    commands: Vec<Arc<Commands>>,
    latest: Arc<Mutex<Division>>,
}

/// The division that holds last.
#[derive(Debug)]
struct Division {
    spread: Spread,
    owners: Arc<Owners>,
    /// A shard may not know of it.
    owed: bool,
}

impl Divider {
    /// For shards that begin with `owners`, made by `spread`.
    pub(super) fn new(commands: &[Arc<Commands>], spread: &Spread, owners: &Arc<Owners>) -> Divider {
        let latest = Division { spread: spread.clone(), owners: Arc::clone(owners), owed: false };
        Divider { commands: commands.to_vec(), latest: Arc::new(Mutex::new(latest)) }
    }

    /// From now on `spread` divides connections, if it does not already. On [`StackError::Busy`] the shard named does not know of the
    /// latest change, and others may not: the next call tells them all, and no newer one before.
    pub(super) fn change(&self, spread: &Spread) -> Result<(), StackError> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if latest.owed {
                self.tell_all(&Command::ChangeOwners(Arc::clone(&latest.owners)))?;
                latest.owed = false;
            }
            if latest.spread == *spread {
                return Ok(());
            }
            tracing::warn!(now = spread.name(), "the NIC spreads connections otherwise: shards divide them anew");
            *latest = Division { spread: spread.clone(), owners: Arc::new(latest.owners.changed(spread)), owed: true };
        }
    }

    /// Queues `command` for every shard whose queue has a place; the error names the first that has none.
    pub(super) fn tell_all(&self, command: &Command) -> Result<(), StackError> {
        let mut told = Ok(());
        for (shard, commands) in self.commands.iter().enumerate() {
            if !commands.push(command.clone()) {
                told = told.and(Err(StackError::Busy { shard }));
            }
        }
        told
    }
}

/// A thread that asks how the NIC spreads and tells the shards when that has changed. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Asks `read` every `interval`, which has said `current` last: only another answer divides anew, so that a division by hand stays.
    /// An answer that says nothing changes nothing.
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
    use super::super::alarm::Alarm;
    use super::*;
    use crate::owner::Rss;
    use std::time::Instant;

    /// A table that begins with the queue `first` of two.
    fn rss(first: u16) -> Spread {
        Spread::Rss(Rss::new(&[7; 40], vec![first, 1 - first]).unwrap())
    }

    fn two_shards() -> ([Arc<Commands>; 2], Divider) {
        let commands = [0, 1].map(|_| Arc::new(Commands::new(Arc::new(Alarm::new().unwrap()))));
        let owners = Arc::new(Owners::new(&rss(0), 2, (1000, 2000)));
        let divider = Divider::new(&commands, &rss(0), &owners);
        (commands, divider)
    }

    /// The numbers of the changes that a shard is told.
    fn told(commands: &Commands) -> Vec<u32> {
        let number = |command| match command {
            Command::ChangeOwners(owners) => Some(owners.changes()),
            _ => None,
        };
        commands.take().filter_map(number).collect()
    }

    #[test]
    fn shard_whose_queue_is_full_hears_of_each_change_before_the_next_and_of_one_taken_back() {
        let (commands, divider) = two_shards();
        while commands[1].push(Command::Announce) {}
        assert!(matches!(divider.change(&rss(1)), Err(StackError::Busy { shard: 1 })));
        assert!(matches!(divider.change(&rss(0)), Err(StackError::Busy { shard: 1 })));
        assert_eq!((told(&commands[0]), told(&commands[1])), (vec![1, 1], vec![]), "the same one, under one number");
        divider.change(&rss(0)).unwrap();
        assert_eq!((told(&commands[0]), told(&commands[1])), (vec![1, 2], vec![1, 2]));
        divider.change(&rss(0)).unwrap();
        assert!(commands.iter().all(|commands| commands.is_empty()), "nothing has changed");
    }

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
