//! A series as plain text: a line and a bar per second.

use super::phases::Second;
use std::fmt;

/// Writes what was opened in each second beside the prediction, with what was left.
pub(super) fn write(f: &mut fmt::Formatter<'_>, seconds: &[Second]) -> fmt::Result {
    let most = seconds.iter().map(|second| second.opened).max().unwrap_or(0).max(1);
    writeln!(
        f,
        "{:>4} {:<22} {:>8} {:>9} {:>8} {:>9} {:>10}",
        "s", "policy", "opened", "predicted", "refused", "TIME-WAIT", "free ports"
    )?;
    for second in seconds {
        let bar = "#".repeat((second.opened * BAR / most) as usize);
        writeln!(
            f,
            "{:>4} {:<22} {:>8} {:>9.0} {:>8} {:>9} {:>10} {bar}",
            second.second,
            second.policy,
            second.opened,
            second.predicted,
            second.refused,
            second.time_wait,
            second.ports_free
        )?;
    }
    Ok(())
}

/// Characters of the longest bar.
const BAR: u64 = 40;
