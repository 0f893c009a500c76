//! What CPUs were busy with, as `/proc/stat` has it.
//!
//! A frame that the load sends is received by the kernel on the load's own CPU, as a softirq: there lies half of the work of the
//! kernel's TCP, or the redirection to AF_XDP. So the load's share is what its CPU did outside softirqs (user and system time of
//! the one thread that runs there), and every softirq of the machine counts as the proxy's.

use std::fs;

/// CPU time, ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Busy {
    /// All CPUs, everything but idling, waiting for disks, and time stolen by the host.
    pub machine_ms: u64,
    /// User and system time of the load's CPU.
    pub load_ms: u64,
}

impl Busy {
    /// Since the machine's start; `None` when the kernel does not say.
    pub(crate) fn read(cpu: usize) -> Option<Busy> {
        parse(&fs::read_to_string("/proc/stat").ok()?, cpu)
    }

    /// From `earlier` to this.
    pub(crate) fn since(self, earlier: Busy) -> Busy {
        Busy {
            machine_ms: self.machine_ms.saturating_sub(earlier.machine_ms),
            load_ms: self.load_ms.saturating_sub(earlier.load_ms),
        }
    }
}

fn parse(stat: &str, cpu: usize) -> Option<Busy> {
    let [user, nice, system, _, _, irq, softirq] = times(stat, "cpu")?;
    let [load_user, load_nice, load_system, ..] = times(stat, &format!("cpu{cpu}"))?;
    Some(Busy {
        machine_ms: (user + nice + system + irq + softirq) * TICK_MS,
        load_ms: (load_user + load_nice + load_system) * TICK_MS,
    })
}

/// User, nice, system, idle, iowait, irq and softirq of the line `name`, in units of [`TICK_MS`].
fn times(stat: &str, name: &str) -> Option<[u64; 7]> {
    let line = stat.lines().find(|line| line.split(' ').next() == Some(name))?;
    let times: Vec<u64> = line.split_whitespace().skip(1).take(7).map(str::parse).collect::<Result<_, _>>().ok()?;
    times.try_into().ok()
}

/// What `/proc/stat` counts in: USER_HZ is 100 on every architecture that the project runs on.
const TICK_MS: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softirqs_of_the_loads_cpu_are_not_the_loads() {
        let stat = "cpu  10 1 20 900 5 2 30 7 0 0\ncpu0 6 1 12 400 5 1 25 7 0 0\ncpu1 4 0 8 500 0 1 5 0 0 0\ncpu10 1 1 1 1 1 1 1 1\nintr 1\n";
        assert_eq!(parse(stat, 0), Some(Busy { machine_ms: 630, load_ms: 190 }));
        assert_eq!(parse(stat, 1), Some(Busy { machine_ms: 630, load_ms: 120 }));
        assert_eq!((parse(stat, 2), parse("cpu 1 2", 0), parse("", 0)), (None, None, None));
    }

    #[test]
    fn this_machine_says_it() {
        let busy = Busy::read(0).expect("there is a CPU 0");
        assert!(busy.machine_ms >= busy.load_ms);
    }
}
