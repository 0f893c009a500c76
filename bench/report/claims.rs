//! What may be said of a result, and what not.

use crate::cps::report::Report;

/// Whether the figures may be called by the run's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// They may.
    Valid,
    /// They are there, but no headline is made of them.
    NoHeadline(Vec<String>),
    /// The run has not shown that it would have seen what it looks for.
    Invalid(Vec<String>),
}

impl Standing {
    /// The standing of this result.
    pub(crate) fn of(report: &Report) -> Standing {
        let control = report.sweep.as_ref().filter(|sweep| !sweep.valid);
        if control.is_some() {
            return Standing::Invalid(vec![
                "the positive control took no old octet, so that none would have been seen anywhere".into(),
            ]);
        }
        let mut reasons = report.verdict.as_ref().map(|verdict| verdict.untrue.clone()).unwrap_or_default();
        // The verdict of the run knows more; a file without one is judged by what it says of itself.
        if report.verdict.is_none() {
            reasons.extend(doubts(report));
        }
        if !report.measurement {
            reasons.push("this was simulated: nothing here is a measurement".into());
        }
        if reasons.is_empty() { Standing::Valid } else { Standing::NoHeadline(reasons) }
    }

    /// The word for it.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Standing::Valid => "VALID",
            Standing::NoHeadline(_) => "NO HEADLINE",
            Standing::Invalid(_) => "INVALID",
        }
    }

    /// Why; empty if there is nothing against it.
    pub(crate) fn reasons(&self) -> &[String] {
        match self {
            Standing::Valid => &[],
            Standing::NoHeadline(reasons) | Standing::Invalid(reasons) => reasons,
        }
    }
}

fn doubts(report: &Report) -> Vec<String> {
    let mut found = Vec::new();
    if report.errors_total() > 0 {
        found.push(format!("{} errors were counted", report.errors_total()));
    }
    if let Some(synfin) = &report.stacks.synfin {
        if synfin.time_wait_evicted > 0 {
            found.push(format!("synfin: {} TIME-WAIT entries ended early", synfin.time_wait_evicted));
        }
        if synfin.time_wait_created != synfin.connections_total && !report.is_without_time_wait() {
            let (made, closed) = (synfin.time_wait_created, synfin.connections_total);
            found.push(format!("synfin: {made} TIME-WAIT entries for {closed} connections closed"));
        }
    }
    if let Some(obtained) = &report.mode
        && report.flags.mode != "auto"
        && !obtained.starts_with(&report.flags.mode)
    {
        found.push(format!("mode {} was asked for, {obtained} was obtained", report.flags.mode));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn a_run_whose_control_saw_nothing_is_invalid() {
        let mut report = sample::full();
        assert_eq!(Standing::of(&report), Standing::Valid);
        report.sweep.as_mut().expect("the sample has a sweep").valid = false;
        assert_eq!(Standing::of(&report).word(), "INVALID");
    }

    #[test]
    fn what_makes_a_figure_untrue_takes_the_headline_away() {
        let mut report = sample::plain();
        assert_eq!(Standing::of(&report), Standing::Valid);
        report.flags.mode = "drv".into();
        report.stacks.synfin.as_mut().expect("synfin was run").time_wait_evicted = 3;
        let standing = Standing::of(&report);
        assert_eq!((standing.word(), standing.reasons().len()), ("NO HEADLINE", 2), "{standing:?}");
        let mut simulated = sample::plain();
        simulated.measurement = false;
        assert_eq!(Standing::of(&simulated).word(), "NO HEADLINE");
    }
}
