//! How often something happened, with what that says about its probability.

use serde::{Deserialize, Serialize};
use std::fmt;

/// `hits` of `trials`, with an interval that holds the probability with 95 %.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Rate {
    pub hits: u64,
    pub trials: u64,
    /// Lower end.
    pub low: f64,
    /// Upper end. Of no hits 3 / `trials`: the rule of three.
    pub high: f64,
}

impl Rate {
    /// Wilson's interval, which holds for small counts as well.
    pub(crate) fn of(hits: u64, trials: u64) -> Rate {
        if trials == 0 {
            return Rate { hits, trials, low: 0.0, high: 1.0 };
        }
        let (n, share) = (trials as f64, hits as f64 / trials as f64);
        if hits == 0 {
            return Rate { hits, trials, low: 0.0, high: (3.0 / n).min(1.0) };
        }
        let squared = NORMAL_975 * NORMAL_975;
        let centre = share + squared / (2.0 * n);
        let reach = NORMAL_975 * (share * (1.0 - share) / n + squared / (4.0 * n * n)).sqrt();
        let scale = 1.0 + squared / n;
        Rate { hits, trials, low: ((centre - reach) / scale).max(0.0), high: ((centre + reach) / scale).min(1.0) }
    }
}

impl fmt::Display for Rate {
    /// Nothing tried is no rate; no hit is printed as less than 3 / n.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match *self {
            Rate { trials: 0, .. } => "none aimed".to_owned(),
            Rate { hits: 0, high, .. } => format!("< {high:.1e}"),
            Rate { hits, trials, low, high } => {
                format!("{:.2e} [{low:.1e}, {high:.1e}]", hits as f64 / trials as f64)
            }
        };
        f.pad(&text)
    }
}

/// The standard normal distribution's 97.5th percentile.
const NORMAL_975: f64 = 1.959_964;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_is_wilsons() {
        // From Wilson's formula with a pencil: 10 of 100.
        let rate = Rate::of(10, 100);
        assert!((rate.low - 0.0552).abs() < 1e-4 && (rate.high - 0.1744).abs() < 1e-4, "{rate:?}");
        assert_eq!(Rate::of(100, 100).high, 1.0);
    }

    #[test]
    fn no_hit_is_printed_as_less_than_three_by_n() {
        assert_eq!(Rate::of(0, 3_000_000).to_string(), "< 1.0e-6");
        assert_eq!(Rate::of(0, 0).to_string(), "none aimed");
        assert!(Rate::of(5, 1000).to_string().starts_with("5.00e-3 ["));
    }
}
