//! A set of marks (keyed hashes) that were seen in this period or the last: fixed in size, forgetting the oldest.
//!
//! A line of eight marks per hash, the newest first; a mark keeps 56 bits, and its low byte says the period. A full line forgets
//! its oldest mark, so the set may miss what it has seen: with half as many as there is room for one in 120, with as many one in
//! seven. It takes one mark for another with 2^-53.

use alloc::boxed::Box;
use alloc::vec;

/// The marks of two periods.
#[derive(Debug)]
pub struct Recent {
    lines: Box<[Line]>,
}

/// Marks of one hash, or [`UNUSED`].
type Line = [u64; 8];

impl Recent {
    /// Room for at least `marks_max` marks, of which each period may take all.
    pub fn new(marks_max: u32) -> Recent {
        Recent { lines: vec![[UNUSED; 8]; lines(marks_max)].into() }
    }

    /// What [`Recent::new`] allocates, bytes.
    pub fn bill(marks_max: u32) -> u64 {
        (lines(marks_max) * size_of::<Line>()) as u64
    }

    /// Whether the mark was seen in `period` or the one before.
    pub fn contains(&self, mark: u64, period: u32) -> bool {
        self.lines[self.line_of(mark)].iter().any(|seen| (seen ^ mark) & !PERIOD == 0 && age(*seen, period) <= 1)
    }

    /// The mark was seen in `period`. Periods may not go back. Returns whether a mark of this period or the one before is
    /// forgotten for it.
    pub fn insert(&mut self, mark: u64, period: u32) -> bool {
        let at = self.line_of(mark);
        let line = &mut self.lines[at];
        line.rotate_right(1);
        let oldest = core::mem::replace(&mut line[0], mark & !PERIOD | u64::from(period as u8));
        oldest != UNUSED && age(oldest, period) <= 1
    }

    fn line_of(&self, mark: u64) -> usize {
        (mark >> 32) as usize & (self.lines.len() - 1)
    }
}

fn lines(marks_max: u32) -> usize {
    (marks_max as usize).div_ceil(8).max(1).next_power_of_two()
}

/// Periods since the mark was seen, modulo 256.
fn age(seen: u64, period: u32) -> u8 {
    (period as u8).wrapping_sub(seen as u8)
}

/// The bits of a mark that say its period.
const PERIOD: u64 = 0xff;

/// No mark. Not zero: zeroed memory would only be promised by the system, and touched by the first burst that needs it.
const UNUSED: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyed_hash::WireHash;
    use alloc::collections::VecDeque;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn mark(number: u64) -> u64 {
        WireHash::new((1, 2)).number(number)
    }

    proptest! {
        /// A queue of eight per line knows which marks are still there.
        #[test]
        fn any_marks_in_any_periods_agree_with_queues(
            marks_max in 0..40u32,
            start in any::<u32>(),
            ops in proptest::collection::vec((0..60u64, prop_oneof![8 => Just(0u32), 2 => 1..3u32, 1 => 254..260u32]), 1..200),
        ) {
            let mut recent = Recent::new(marks_max);
            let mut model = vec![VecDeque::<(u64, u32)>::new(); recent.lines.len()];
            let mut period = start;
            let counts = |seen: u32, period: u32| period.wrapping_sub(seen) % 256 <= 1;
            for (number, later) in ops {
                period = period.wrapping_add(later);
                let line = &mut model[recent.line_of(mark(number))];
                let forgotten = if line.len() == 8 { line.pop_front() } else { None };
                line.push_back((number, period));
                let counted = forgotten.is_some_and(|(_, seen)| counts(seen, period));
                prop_assert_eq!(recent.insert(mark(number), period), counted);
                for other in 0..60 {
                    let line = &model[recent.line_of(mark(other))];
                    let known = line.iter().any(|&(number, seen)| number == other && counts(seen, period));
                    prop_assert_eq!(recent.contains(mark(other), period), known, "{} in {}", other, period);
                }
            }
        }
    }

    #[test]
    fn marks_are_known_for_two_periods() {
        let mut recent = Recent::new(64);
        recent.insert(mark(1), 255);
        assert!(recent.contains(mark(1), 255) && recent.contains(mark(1), 256));
        assert!(!recent.contains(mark(1), 257) && !recent.contains(mark(2), 255));
    }

    #[test]
    fn beyond_its_size_old_marks_go_first() {
        let mut recent = Recent::new(1 << 12);
        for number in 0..1 << 11 {
            recent.insert(mark(number), 7);
        }
        for number in 1 << 11..1 << 14 {
            recent.insert(mark(number), 8);
        }
        assert!((0..1 << 11).filter(|number| recent.contains(mark(*number), 8)).count() < 100);
    }

    #[test]
    fn a_full_line_forgets_its_oldest_mark_and_says_so_while_it_counts() {
        let mut recent = Recent::new(8);
        assert!((0..8).all(|number| !recent.insert(mark(number), 1)));
        assert!(recent.insert(mark(8), 2), "one of the period before");
        let known: Vec<u64> = (0..9).filter(|number| recent.contains(mark(*number), 2)).collect();
        assert_eq!(known, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!((9..16).all(|number| !recent.insert(mark(number), 3)), "those of two periods before count no more");
        assert!(recent.insert(mark(16), 3));
    }

    #[test]
    fn half_full_one_in_a_hundred_is_forgotten_and_full_one_in_six_at_most() {
        for (share, forgotten_max) in [(2, 100), (1, 6)] {
            let mut recent = Recent::new(1 << 14);
            let marks = (1 << 14) / share;
            let forgotten = (0..marks).filter(|number| recent.insert(mark(*number), 7)).count() as u64;
            assert!(forgotten > 0 && forgotten * forgotten_max <= marks, "{forgotten} of {marks}");
            let known = (0..marks).filter(|number| recent.contains(mark(*number), 7)).count() as u64;
            assert_eq!(known + forgotten, marks, "what is not known has been said to be forgotten");
        }
    }

    #[test]
    fn an_empty_set_of_any_size_knows_nothing() {
        for marks_max in [0, 1, 9, 1000] {
            assert!(!Recent::new(marks_max).contains(mark(3), 9));
        }
    }
}
