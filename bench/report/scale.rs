//! From figures to places in a picture, with marks at round numbers.

/// Maps figures to places along an axis.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Scale {
    /// The figures at both ends.
    values: (f64, f64),
    /// Where they are.
    places: (f64, f64),
    logarithmic: bool,
}

impl Scale {
    /// Equal steps for equal differences.
    pub(super) fn linear(values: (f64, f64), places: (f64, f64)) -> Scale {
        Scale { values, places, logarithmic: false }
    }

    /// Equal steps for equal ratios; all figures are above 0.
    pub(super) fn logarithmic(values: (f64, f64), places: (f64, f64)) -> Scale {
        Scale { values, places, logarithmic: true }
    }

    /// The place of `value`; what lies beyond an end is put at that end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let part = |value: f64| if self.logarithmic { value.max(f64::MIN_POSITIVE).ln() } else { value };
        let (from, to) = (part(self.values.0), part(self.values.1));
        let share = if to > from { ((part(value) - from) / (to - from)).clamp(0.0, 1.0) } else { 0.0 };
        self.places.0 + share * (self.places.1 - self.places.0)
    }
}

/// Round numbers from 0 to the first that is not below `max`: about `most` steps of 1, 2 or 5 times a power of ten.
pub(super) fn ticks(max: f64, most: usize) -> Vec<f64> {
    let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
    let rough = max / most.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|part| part * power).into_iter().find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let count = (max / step - 1e-9).ceil() as u32;
    (0..=count).map(|index| f64::from(index) * step).collect()
}

/// Powers of ten from the one at or below `min` to the one at or above `max`; both are above 0.
pub(super) fn decades(min: f64, max: f64) -> Vec<f64> {
    let from = min.max(1e-12).log10().floor() as i32;
    let to = (max.max(1e-12).log10().ceil() as i32).max(from + 1);
    (from..=to).map(|power| 10f64.powi(power)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_top() {
        assert_eq!(ticks(173_000.0, 5), [0.0, 50_000.0, 100_000.0, 150_000.0, 200_000.0]);
        assert_eq!(ticks(25.0, 5), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]);
        assert_eq!(ticks(0.0, 5).last(), Some(&1.0));
        assert_eq!(ticks(f64::NAN, 5).len(), 6);
        assert_eq!(
            decades(3e-4, 0.2),
            [1e-4, 1e-3, 1e-2, 1e-1, 1.0].map(|power: f64| 10f64.powf(power.log10().round()))
        );
    }

    #[test]
    fn scales_meet_both_ends_and_stay_within() {
        let linear = Scale::linear((0.0, 10.0), (100.0, 0.0));
        assert_eq!((linear.at(0.0), linear.at(5.0), linear.at(20.0)), (100.0, 50.0, 0.0));
        let log = Scale::logarithmic((1.0, 100.0), (0.0, 10.0));
        assert!((log.at(10.0) - 5.0).abs() < 1e-9 && log.at(0.0) == 0.0);
    }
}
