//! How the benchmark fails: one line, and an exit code that says whose fault it was.

use std::fmt;

/// A reason to stop, for the user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    /// 1 failed, 2 usage, 3 the environment is not ready, 4 a condition of the user's was met, 130 interrupted.
    pub exit: u8,
    /// Object, errno if any, what to do.
    pub message: String,
}

impl Failure {
    /// The run failed, or its result is no good.
    pub(crate) fn failed(message: impl Into<String>) -> Failure {
        Failure { exit: 1, message: message.into() }
    }

    /// An option that cannot be.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure { exit: 2, message: message.into() }
    }

    /// The machine is not ready.
    pub(crate) fn environment(message: impl Into<String>) -> Failure {
        Failure { exit: 3, message: message.into() }
    }

    /// Whether a run whose figures were printed counts: not with errors.
    pub(crate) fn unless_clean(errors: u64) -> Result<(), Failure> {
        match errors {
            0 => Ok(()),
            errors => Err(Failure::failed(format!("{errors} errors: the figures above are not to be relied on"))),
        }
    }

    /// `--fail-if` was met.
    pub(crate) fn condition(message: impl Into<String>) -> Failure {
        Failure { exit: 4, message: message.into() }
    }

    /// The user stopped it.
    pub(crate) fn interrupted() -> Failure {
        Failure { exit: 130, message: "interrupted".into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
