//! How long roles had to wait for their CPUs: figures of a crowded machine say little.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The counter of a role that says so, ms.
pub(crate) const COUNTER: &str = "waited_for_cpu_ms";

/// What is to be said if the role that waited longest did so for too large a part of `run_s` seconds. The counters of several
/// roles are `role.counter`.
pub(crate) fn told(counters: &BTreeMap<String, u64>, run_s: f64) -> Option<String> {
    let waited_ms = counters.iter().filter(|(name, _)| name.ends_with(COUNTER)).map(|(_, count)| *count).max();
    let part = waited_ms.unwrap_or(0) as f64 / 1000.0 / run_s.max(f64::MIN_POSITIVE);
    let percent = 100.0 * part;
    (part > PART_MAX).then(|| format!("waited {percent:.0} % of the time for a CPU: something else runs there"))
}

/// The same as a line of warning about `name`.
pub(crate) fn warn(out: &mut String, name: &str, counters: &BTreeMap<String, u64>, run_s: f64) {
    if let Some(told) = told(counters, run_s) {
        let _ = writeln!(out, "WARNING: {name}: {told}");
    }
}

/// Largest part of the time without a word: ksoftirqd and timers take about 1 %.
const PART_MAX: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_that_waited_longest_is_told_of_if_it_was_long() {
        let told = |ms: [u64; 2]| {
            let counters = [("client", ms[0]), ("server", ms[1])].map(|(end, ms)| (format!("{end}.{COUNTER}"), ms));
            let mut out = String::new();
            warn(&mut out, "synfin", &BTreeMap::from(counters), 10.0);
            out
        };
        assert_eq!(told([400, 500]), "");
        assert_eq!(
            told([2500, 100]),
            "WARNING: synfin: waited 25 % of the time for a CPU: something else runs there\n"
        );
    }
}
