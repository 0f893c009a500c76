//! Which core a shard's thread runs on.

use super::host;

/// Why a core cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CoreError {
    /// The core is offline, or does not exist.
    #[error(
        "core {core}: it is offline or does not exist, {online} are online; choose among these with --cpus, or set it online with \
         `echo 1 > /sys/devices/system/cpu/cpu{core}/online`"
    )]
    Offline {
        /// The core.
        core: usize,
        /// The cores that are online.
        online: String,
    },
    /// The core lies outside this process's cpuset.
    #[error("core {core}: it is not allowed for this process, which may use {allowed}; choose among these with --cpus")]
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
    let list = |cores: &[usize]| cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    match host::online_cores() {
        Some(online) if !online.contains(&core) => Err(CoreError::Offline { core, online: list(&online) }),
        _ => Err(CoreError::NotAllowed { core, allowed: list(&cores) }),
    }
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
    fn core_that_is_not_online_is_refused_with_those_that_are() {
        let error = check(100_000).unwrap_err();
        assert!(matches!(error, CoreError::Offline { core: 100_000, .. }), "{error}");
        assert!(error.to_string().contains(&available_cores()[0].to_string()), "{error}");
        assert_eq!(check(available_cores()[0]), Ok(()));
    }

    #[test]
    fn core_outside_the_cpuset_is_refused_with_those_allowed() {
        let [first, others @ ..] = &available_cores()[..] else { panic!("no core") };
        // A thread of its own: the test's others keep all cores.
        let refused = std::thread::scope(|scope| {
            scope.spawn(|| pin(*first).and_then(|()| others.iter().try_for_each(|other| check(*other)))).join().unwrap()
        });
        match refused {
            Err(CoreError::NotAllowed { allowed, .. }) => assert_eq!(allowed, first.to_string()),
            other => assert!(others.is_empty(), "{other:?}"),
        }
    }
}
