//! The option sets of a shard: connections know theirs by a number of one byte, and equal options are one set.

use crate::tcp::connection_options::{ConnectionOptions, OptionsError, OptionsId};
use alloc::boxed::Box;

/// All sets of a shard. A set is free again when its last user has gone.
#[derive(Debug)]
pub(super) struct OptionSets {
    /// By number: a byte is always in range.
    sets: Box<[Set; SETS]>,
    /// The set that was asked for last: most opens want it again.
    last: OptionsId,
}

#[derive(Clone, Copy, Debug)]
struct Set {
    options: ConnectionOptions,
    /// Connections and listeners. The defaults have one for ever.
    users: u32,
}

impl OptionSets {
    /// The defaults, and room for 255 more.
    pub(super) fn new() -> OptionSets {
        let mut sets = Box::new([Set { options: ConnectionOptions::DEFAULT, users: 0 }; SETS]);
        sets[0].users = 1;
        OptionSets { sets, last: OptionsId::default() }
    }

    /// Bytes that they take.
    pub(super) const fn bill() -> u64 {
        (SETS * size_of::<Set>()) as u64
    }

    /// The options of a set.
    #[inline]
    pub(super) fn get(&self, id: OptionsId) -> &ConnectionOptions {
        &self.sets[usize::from(id.0)].options
    }

    /// Counts one user of these options; whoever replaces a set or goes calls [`OptionSets::release`].
    #[inline]
    pub(super) fn acquire(&mut self, options: &ConnectionOptions) -> Result<OptionsId, OptionsError> {
        if self.get(self.last) != options || self.sets[usize::from(self.last.0)].users == 0 {
            self.last = self.find_or_make(options)?;
        }
        Ok(self.share(self.last))
    }

    /// Counts one more user of a set that has one.
    #[inline]
    pub(super) fn share(&mut self, id: OptionsId) -> OptionsId {
        self.sets[usize::from(id.0)].users += 1;
        id
    }

    /// Counts one user less.
    #[inline]
    pub(super) fn release(&mut self, id: OptionsId) {
        self.sets[usize::from(id.0)].users -= 1;
    }

    fn find_or_make(&mut self, options: &ConnectionOptions) -> Result<OptionsId, OptionsError> {
        let equal = self.sets.iter().position(|set| set.users > 0 && set.options == *options);
        if let Some(number) = equal {
            return Ok(OptionsId(number as u8));
        }
        options.check()?;
        let free = self.sets.iter().position(|set| set.users == 0).ok_or(OptionsError::TooMany(SETS))?;
        self.sets[free].options = *options;
        Ok(OptionsId(free as u8))
    }

    /// Sets in use, the defaults counted.
    pub(super) fn in_use(&self) -> usize {
        self.sets.iter().filter(|set| set.users > 0).count()
    }
}

/// Sets of a shard: what a byte can number.
pub(super) const SETS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn with_timeout(ms: u64) -> ConnectionOptions {
        ConnectionOptions { user_timeout: Some(Duration::from_millis(ms)), ..ConnectionOptions::default() }
    }

    #[test]
    fn equal_options_are_one_set_until_the_last_user_goes() {
        let mut sets = OptionSets::new();
        assert_eq!(sets.acquire(&ConnectionOptions::default()), Ok(OptionsId(0)));
        let (one, other) = (sets.acquire(&with_timeout(1)), sets.acquire(&with_timeout(2)));
        assert_eq!((one, other), (Ok(OptionsId(1)), Ok(OptionsId(2))));
        assert_eq!(sets.acquire(&with_timeout(1)), one);
        sets.release(OptionsId(1));
        assert_eq!((sets.in_use(), *sets.get(OptionsId(1))), (3, with_timeout(1)));
        sets.release(OptionsId(1));
        assert_eq!(sets.acquire(&with_timeout(3)), Ok(OptionsId(1)), "a free set is used again");
        assert_eq!(sets.acquire(&with_timeout(2)), other);
    }

    #[test]
    fn a_full_table_and_wrong_values_are_errors_and_change_nothing() {
        let mut sets = OptionSets::new();
        assert_eq!(sets.acquire(&with_timeout(0)), Err(OptionsError::UserTimeout(Duration::ZERO)));
        for ms in 1..=255 {
            assert_eq!(sets.acquire(&with_timeout(ms)), Ok(OptionsId(ms as u8)));
        }
        assert_eq!(sets.acquire(&with_timeout(256)), Err(OptionsError::TooMany(256)));
        assert_eq!(sets.acquire(&with_timeout(7)), Ok(OptionsId(7)));
        for _ in 0..2 {
            sets.release(OptionsId(7));
        }
        assert_eq!(sets.acquire(&with_timeout(256)), Ok(OptionsId(7)));
        assert_eq!(sets.acquire(&with_timeout(256)), Ok(OptionsId(7)));
    }
}
