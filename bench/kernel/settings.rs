//! Settings of the kernel's TCP in the namespace of a role, never outside of one.

use crate::failure::Failure;
use crate::policy::Tw;
use crate::proc::in_named_namespace;
use crate::role::RoleArgs;
use std::time::Duration;
use synfin::tcp::time_wait::Policy;

/// What is in force.
pub(super) struct Settings {
    reuses: bool,
}

impl Settings {
    /// What [`Settings::apply`] has put into force.
    pub(super) fn new(args: &RoleArgs) -> Settings {
        Settings { reuses: reuses_at_first(args) }
    }

    /// Ports and reuse as the options say.
    pub(super) fn apply(args: &RoleArgs) -> Result<(), Failure> {
        if !in_named_namespace() {
            return Err(Failure::environment(
                "a role of the kernel changes settings of its network namespace: run it in one of its own, as bench/cps.sh does",
            ));
        }
        write("ip_local_port_range", &format!("{} {}", args.ports.first, args.ports.last))?;
        write_reuse(reuses_at_first(args))
    }

    /// Puts the setting of the phase into force that runs so long after the start.
    pub(super) fn follow(&mut self, args: &RoleArgs, since_start: Duration) -> Result<(), Failure> {
        let Some(policy) = args.phases.as_ref().and_then(|phases| phases.at(since_start)) else { return Ok(()) };
        let reuses = policy != Policy::Strict;
        if reuses != self.reuses {
            self.reuses = reuses;
            write_reuse(reuses)?;
        }
        Ok(())
    }
}

/// Linux knows two policies: `tcp_tw_reuse` 0 and 1, which asks for timestamps and a second of rest.
fn reuses_at_first(args: &RoleArgs) -> bool {
    let policy = args.phases.as_ref().and_then(|phases| phases.at(Duration::ZERO));
    policy.unwrap_or(args.tw.policy()) != Policy::Strict && args.tw != Tw::RstClose
}

fn write_reuse(reuses: bool) -> Result<(), Failure> {
    write("tcp_tw_reuse", if reuses { "1" } else { "0" })
}

fn write(name: &str, value: &str) -> Result<(), Failure> {
    let path = format!("/proc/sys/net/ipv4/{name}");
    std::fs::write(&path, value)
        .map_err(|error| Failure::environment(format!("cannot write {value:?} to {path}: {error}; run as root")))
}
