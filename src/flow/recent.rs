//! A set of marks (keyed hashes) that were seen in this period or the last: fixed in size, forgetting the oldest.
//!
//! One cache line of eight marks per hash; a mark keeps 56 bits, and its low byte says the period. A full line forgets one
//! of its older marks, so the set may miss what it has seen, and takes one mark for another with 2^-53.

use alloc::boxed::Box;
use alloc::vec;

/// The marks of two periods.
#[derive(Debug)]
pub struct Recent {
    lines: Box<[Line]>,
}

/// Marks of one hash, a cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Line([u64; 8]);

impl Recent {
    /// Room for at least `marks_max` marks, of which each period may take all.
    pub fn new(marks_max: u32) -> Recent {
        Recent { lines: vec![Line::default(); lines(marks_max)].into() }
    }

    /// What [`Recent::new`] allocates, bytes.
    pub fn bill(marks_max: u32) -> u64 {
        (lines(marks_max) * size_of::<Line>()) as u64
    }

    /// Whether the mark was seen in `period` or the one before.
    pub fn contains(&self, mark: u64, period: u32) -> bool {
        let Line(marks) = &self.lines[self.line_of(mark)];
        marks.iter().any(|seen| (seen ^ mark) & !PERIOD == 0 && age(*seen, period) <= 1)
    }

    /// The mark was seen in `period`. Periods may not go back.
    pub fn insert(&mut self, mark: u64, period: u32) {
        let at = self.line_of(mark);
        let Line(marks) = &mut self.lines[at];
        let oldest = marks.iter_mut().max_by_key(|seen| if **seen == 0 { u8::MAX } else { age(**seen, period) });
        if let Some(place) = oldest {
            *place = mark & !PERIOD | u64::from(period as u8);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: u64) -> u64 {
        (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn marks_are_known_for_two_periods() {
        let mut recent = Recent::new(64);
        recent.insert(mark(1), 255);
        assert!(recent.contains(mark(1), 255) && recent.contains(mark(1), 256));
        assert!(!recent.contains(mark(1), 257) && !recent.contains(mark(2), 255));
    }

    #[test]
    fn within_its_size_nearly_nothing_is_forgotten_and_beyond_it_old_marks_go_first() {
        let mut recent = Recent::new(1 << 12);
        for number in 0..1 << 11 {
            recent.insert(mark(number), 7);
        }
        let known = (0..1 << 11).filter(|number| recent.contains(mark(*number), 7)).count();
        assert!(known > (1 << 11) * 95 / 100, "{known}");
        for number in 1 << 11..1 << 14 {
            recent.insert(mark(number), 8);
        }
        assert!((0..1 << 11).filter(|number| recent.contains(mark(*number), 8)).count() < 100);
    }

    #[test]
    fn an_empty_set_of_any_size_knows_nothing() {
        for marks_max in [0, 1, 9, 1000] {
            assert!(!Recent::new(marks_max).contains(mark(3), 9));
        }
    }
}
