//! How much one series of rounds differs from another, and whether that is more than their spread.

/// A ratio of means with an interval that holds it with 95 %.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Ratio {
    /// Geometric mean of the second by that of the first.
    pub ratio: f64,
    /// Ends of the interval; `None` with fewer than two rounds on either side.
    pub interval: Option<(f64, f64)>,
}

/// What may be said of a ratio.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// The interval holds 1.
    NotSignificant,
    Higher,
    Lower,
    /// There is no interval.
    Unknown,
}

impl Ratio {
    /// Welch's interval on logarithms, so that halving and doubling weigh the same. `None` where a value is not above 0.
    pub(super) fn of(a: &[f64], b: &[f64]) -> Option<Ratio> {
        let (a, b) = (Logs::of(a)?, Logs::of(b)?);
        let difference = b.mean - a.mean;
        let interval = a.error().zip(b.error()).map(|(of_a, of_b)| {
            let error = (of_a + of_b).sqrt();
            // Welch and Satterthwaite's degrees of freedom; those of no spread at all do not matter.
            let freedom = (of_a + of_b).powi(2) / (of_a.powi(2) / (a.count - 1.0) + of_b.powi(2) / (b.count - 1.0));
            let reach = error * student(if freedom.is_finite() { freedom } else { 1.0 });
            ((difference - reach).exp(), (difference + reach).exp())
        });
        Some(Ratio { ratio: difference.exp(), interval })
    }

    /// Whether there is a change at all.
    pub(super) fn change(&self) -> Change {
        match self.interval {
            None => Change::Unknown,
            Some((low, _)) if low > 1.0 => Change::Higher,
            Some((_, high)) if high < 1.0 => Change::Lower,
            Some(_) => Change::NotSignificant,
        }
    }
}

struct Logs {
    count: f64,
    mean: f64,
    /// Of a single value; `None` if there is only one.
    variance: Option<f64>,
}

impl Logs {
    fn of(values: &[f64]) -> Option<Logs> {
        if values.is_empty() || values.iter().any(|value| !(*value > 0.0 && value.is_finite())) {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().map(|value| value.ln()).sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value.ln() - mean).powi(2)).sum();
        Some(Logs { count, mean, variance: (count > 1.0).then(|| squares / (count - 1.0)) })
    }

    /// Square of the mean's standard error.
    fn error(&self) -> Option<f64> {
        self.variance.map(|variance| variance / self.count)
    }
}

/// Student's t, two-sided 95 %, for the next fewer degrees of freedom in the table: never too small.
fn student(freedom: f64) -> f64 {
    STUDENT.iter().rev().find(|(from, _)| freedom >= *from).map_or(STUDENT[0].1, |(_, t)| *t)
}

/// Degrees of freedom, and the 97.5th percentile of Student's t.
const STUDENT: [(f64, f64); 17] = [
    (1.0, 12.706),
    (2.0, 4.303),
    (3.0, 3.182),
    (4.0, 2.776),
    (5.0, 2.571),
    (6.0, 2.447),
    (7.0, 2.365),
    (8.0, 2.306),
    (9.0, 2.262),
    (10.0, 2.228),
    (12.0, 2.179),
    (15.0, 2.131),
    (20.0, 2.086),
    (30.0, 2.042),
    (60.0, 2.000),
    (120.0, 1.980),
    (1e6, 1.960),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_welchs() {
        // With a pencil: logs of a are 0, ln 2, of b ln 4, ln 8: means differ by 2 ln 2, each variance ln(2)^2 / 2,
        // error ln(2) / sqrt(2) for both together, 2 degrees of freedom.
        let ratio = Ratio::of(&[1.0, 2.0], &[4.0, 8.0]).expect("all above 0");
        let error = 2f64.ln() / 2f64.sqrt();
        let (low, high) = ratio.interval.expect("two rounds each");
        assert!((ratio.ratio - 4.0).abs() < 1e-9);
        assert!((low.ln() - (4f64.ln() - 4.303 * error)).abs() < 1e-9, "{low}");
        assert!((high.ln() - (4f64.ln() + 4.303 * error)).abs() < 1e-9, "{high}");
        assert_eq!(ratio.change(), Change::NotSignificant);
    }

    #[test]
    fn a_change_counts_only_outside_the_spread() {
        let noisy = [100.0, 120.0, 80.0];
        let change = |a: &[f64], b: &[f64]| Ratio::of(a, b).expect("all above 0").change();
        assert_eq!(change(&noisy, &[105.0, 125.0, 85.0]), Change::NotSignificant);
        assert_eq!(change(&[100.0, 101.0, 99.0], &[110.0, 111.0, 109.0]), Change::Higher);
        assert_eq!(change(&[100.0, 101.0, 99.0], &[90.0, 91.0, 89.0]), Change::Lower);
        assert_eq!(change(&noisy, &[500.0]), Change::Unknown);
        assert_eq!(change(&noisy, &noisy), Change::NotSignificant);
        assert_eq!(Ratio::of(&noisy, &[0.0, 1.0]), None);
    }

    #[test]
    fn student_is_never_too_small() {
        assert_eq!((student(0.5), student(1.0), student(11.9), student(1e9)), (12.706, 12.706, 2.228, 1.960));
    }
}
