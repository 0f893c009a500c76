//! Words on command lines: when TIME-WAIT may be reused, phases of it, ranges of ports.

use clap::ValueEnum;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use synfin::tcp::time_wait::Policy;

/// What becomes of a closed connection's 4-tuple.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Tw {
    /// Never before 2MSL is over
    Strict,
    /// Where later timestamps guard it
    Timestamp,
    /// Or, without timestamps, a sequence number beyond
    TimestampOrSequence,
    /// There is no TIME-WAIT
    None,
    /// Closed by a RST (as with SO_LINGER 0), so that there is no TIME-WAIT either
    RstClose,
}

impl Tw {
    /// The word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tw::RstClose => "rst-close",
            other => other.policy().name(),
        }
    }

    /// The stack's policy.
    pub(crate) const fn policy(self) -> Policy {
        match self {
            Tw::Strict | Tw::RstClose => Policy::Strict,
            Tw::Timestamp => Policy::Timestamp,
            Tw::TimestampOrSequence => Policy::TimestampOrSequence,
            Tw::None => Policy::None,
        }
    }
}

/// Policies that follow one another, and how long each holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Phases(pub Vec<(Policy, u32)>);

impl Phases {
    /// How long they last together, s.
    pub(crate) fn seconds(&self) -> u32 {
        self.0.iter().map(|(_, seconds)| seconds).sum()
    }

    /// The policy that holds so long after the start; the last one from its beginning on.
    pub(crate) fn at(&self, since_start: Duration) -> Option<Policy> {
        let mut ends = 0;
        let running = self.0.iter().find(|(_, seconds)| {
            ends += u64::from(*seconds);
            since_start < Duration::from_secs(ends)
        });
        running.or(self.0.last()).map(|(policy, _)| *policy)
    }
}

impl FromStr for Phases {
    type Err = String;

    /// Reads `strict:10s,timestamp:10s`.
    fn from_str(text: &str) -> Result<Phases, String> {
        let phase = |phase: &str| {
            let (policy, seconds) = phase.split_once(':').ok_or(format!("{phase}: write it as POLICY:SECONDSs"))?;
            let policy = Policy::from_name(policy).ok_or_else(|| {
                format!("{policy}: no policy; there are strict, timestamp, timestamp-or-sequence, none")
            })?;
            let seconds = seconds.strip_suffix('s').unwrap_or(seconds).parse().ok();
            let seconds = seconds.filter(|seconds| (1..=PHASE_MAX_S).contains(seconds));
            let seconds = seconds.ok_or(format!("{phase}: give 1s to {PHASE_MAX_S}s"))?;
            Ok((policy, seconds))
        };
        text.split(',').map(phase).collect::<Result<_, String>>().map(Phases)
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phases: Vec<String> =
            self.0.iter().map(|(policy, seconds)| format!("{}:{seconds}s", policy.name())).collect();
        f.write_str(&phases.join(","))
    }
}

/// Local ports of a client, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl PortRange {
    /// All that need no privilege.
    pub(crate) const ALL: PortRange = PortRange { first: 1024, last: u16::MAX };

    /// How many there are.
    pub(crate) fn count(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<PortRange, String> {
        let range = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        match range {
            Some((first, last)) if first >= 1 && first <= last => Ok(PortRange { first, last }),
            _ => Err("write it as LO-HI, ports from 1 to 65535, such as 32768-60999".to_string()),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// The longest phase, s.
const PHASE_MAX_S: u32 = 3600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_read_and_refused_with_a_reason() {
        let phases: Phases = "strict:10s,none:5".parse().expect("phases");
        assert_eq!(phases, Phases(vec![(Policy::Strict, 10), (Policy::None, 5)]));
        assert_eq!(phases.to_string().parse(), Ok(phases));
        for (text, reason) in
            [("strict", "POLICY"), ("never:3s", "no policy"), ("none:0s", "give 1s"), ("none:x", "give")]
        {
            assert!(text.parse::<Phases>().expect_err(text).contains(reason), "{text}");
        }
    }

    #[test]
    fn each_phase_holds_for_its_time_and_the_last_for_ever() {
        let phases: Phases = "strict:2s,timestamp:3s".parse().expect("phases");
        let at = |ms| phases.at(Duration::from_millis(ms));
        assert_eq!((at(0), at(1999)), (Some(Policy::Strict), Some(Policy::Strict)));
        assert_eq!((at(2000), at(99_000)), (Some(Policy::Timestamp), Some(Policy::Timestamp)));
        assert_eq!(phases.seconds(), 5);
    }

    #[test]
    fn ports_are_a_range() {
        assert_eq!("32768-60999".parse::<PortRange>().expect("range").count(), 28_232);
        for bad in ["1", "0-5", "9-3", "1-70000", "a-b"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }
}
