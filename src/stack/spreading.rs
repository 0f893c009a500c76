//! Watching how the NIC spreads: an indirection table may change while the stack runs.

use super::StackError;
use super::commands::{Command, Commands};
use crate::owner::{Owners, Spread};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Lets all shards of a stack divide connections anew.
#[derive(Clone, Debug)]
pub(super) struct Divider {
    commands: Vec<Arc<Commands>>,
    ports: (u16, u16),
}

impl Divider {
    pub(super) fn new(commands: &[Arc<Commands>], ports: (u16, u16)) -> Divider {
        Divider { commands: commands.to_vec(), ports }
    }

    /// From now on `spread` divides connections. On [`StackError::Busy`] the shard named does not know of it, and others may not.
    pub(super) fn change(&self, spread: &Spread) -> Result<(), StackError> {
        let owners = Arc::new(Owners::new(spread, self.commands.len() as u16, self.ports));
        self.tell_all(&Command::ChangeOwners(owners))
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
    /// Asks `read` every `interval`, beginning with what `current` says. An answer that says nothing changes nothing.
    pub(super) fn start(
        divider: Divider,
        mut current: Spread,
        interval: Duration,
        read: impl Fn() -> Option<Spread> + Send + 'static,
    ) -> std::io::Result<Watch> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("synfin-watch".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                std::thread::park_timeout(interval);
                let Some(spread) = read() else { continue };
                if spread != current && divider.change(&spread).is_ok() {
                    tracing::warn!(
                        now = spread.name(),
                        "the NIC spreads connections otherwise: shards divide them anew"
                    );
                    current = spread;
                }
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

    #[test]
    fn change_of_the_nic_reaches_every_shard_once() {
        let commands = [0, 1].map(|_| Arc::new(Commands::new(Arc::new(Alarm::new().unwrap()))));
        let divider = Divider::new(&commands, (1000, 2000));
        let changed = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&changed);
        let rss = |first| Spread::Rss(Rss::new(&[7; 40], vec![first, 1 - first]).unwrap());
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
