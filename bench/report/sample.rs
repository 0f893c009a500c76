//! Results made by hand, for tests of what reads them.

use crate::cps::report::Report;

/// A result with every part.
pub(crate) fn full() -> Report {
    serde_json::from_str(FULL).expect("the sample is a result")
}

/// A result of before there were other parts than the table.
pub(crate) fn plain() -> Report {
    serde_json::from_str(PLAIN).expect("the sample is a result")
}

pub(crate) const FULL: &str = include_str!("../../tests/fixtures/report/full.json");
pub(crate) const PLAIN: &str = include_str!("../../tests/fixtures/report/plain.json");
