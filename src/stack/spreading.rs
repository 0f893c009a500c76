//! Dividing connections anew while the stack runs.

use super::StackError;
use super::commands::{Command, Commands};
use crate::owner::{Owners, Spread};
use std::sync::{Arc, Mutex, PoisonError};

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

    /// From now on `spread` divides connections, if it does not already. On [`StackError::Busy`] the shard named does
    /// not know of the latest change, and others may not: the next call tells them all, and no newer one before.
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

#[cfg(test)]
pub(super) mod tests {
    use super::super::alarm::Alarm;
    use super::*;
    use crate::owner::Rss;

    /// A table that begins with the queue `first` of two.
    pub(in crate::stack) fn rss(first: u16) -> Spread {
        Spread::Rss(Rss::new(&[7; 40], vec![first, 1 - first]).unwrap())
    }

    pub(in crate::stack) fn two_shards() -> ([Arc<Commands>; 2], Divider) {
        let commands = [0, 1].map(|_| Arc::new(Commands::new(Arc::new(Alarm::new().unwrap()))));
        let owners = Arc::new(Owners::new(&rss(0), 2, (1000, 2000)));
        let divider = Divider::new(&commands, &rss(0), &owners);
        (commands, divider)
    }

    /// The numbers of the changes that a shard is told.
    pub(in crate::stack) fn told(commands: &Commands) -> Vec<u32> {
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
}
