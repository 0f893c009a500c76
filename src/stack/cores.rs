//! Which core a shard's thread runs on.

/// Why a core cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CoreError {
    /// The core is offline, does not exist, or lies outside this process's cpuset.
    #[error(
        "core {core}: it is offline or not allowed for this process, which may use {allowed}; choose among these with --cpus"
    )]
    NotAllowed {
        /// The core.
        core: usize,
        /// The cores that may be used.
        allowed: String,
    },
    /// The kernel refused to pin the thread.
    #[error("core {core}: the kernel refused to pin a thread to it (sched_setaffinity); choose another with --cpus")]
    Refused {
        /// The core.
        core: usize,
    },
}

/// The cores that this process may use, ascending.
pub fn available_cores() -> Vec<usize> {
    let mut cores: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    cores
}

/// Refuses a core that this process may not use.
pub(super) fn check(core: usize) -> Result<(), CoreError> {
    let cores = available_cores();
    if cores.contains(&core) {
        return Ok(());
    }
    let allowed = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    Err(CoreError::NotAllowed { core, allowed })
}

/// Pins the calling thread.
pub(super) fn pin(core: usize) -> Result<(), CoreError> {
    check(core)?;
    let pinned = core_affinity::set_for_current(core_affinity::CoreId { id: core });
    if pinned { Ok(()) } else { Err(CoreError::Refused { core }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_outside_the_cpuset_is_refused_with_those_allowed() {
        let error = check(100_000).unwrap_err();
        assert!(error.to_string().contains(&available_cores()[0].to_string()), "{error}");
        assert_eq!(check(available_cores()[0]), Ok(()));
    }
}
