//! What the kernel publishes about the namespace that this process is in: `/proc/net` and the interface's own statistics.

use crate::failure::Failure;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// TCP counters of the namespace, by `Table.Name` as in `/proc/net/snmp` and `/proc/net/netstat`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct NetCounters {
    /// Counters.
    pub values: BTreeMap<String, u64>,
    /// TIME-WAIT entries that exist now.
    pub time_wait_now: u64,
}

impl NetCounters {
    /// Reads the counters of this process's namespace.
    pub(crate) fn read() -> Result<NetCounters, Failure> {
        let mut values = BTreeMap::new();
        parse_tables(&text("/proc/net/snmp")?, &mut values);
        parse_tables(&text("/proc/net/netstat")?, &mut values);
        values.retain(|name, _| name.starts_with("Tcp"));
        Ok(NetCounters { values, time_wait_now: parse_time_wait(&text("/proc/net/sockstat")?) })
    }

    /// One counter; 0 when this kernel does not have it.
    pub(crate) fn get(&self, name: &str) -> u64 {
        self.values.get(name).copied().unwrap_or(0)
    }

    /// The counters that grew since `earlier`, by how much. Gauges and settings are left out.
    pub(crate) fn grown_since(&self, earlier: &NetCounters) -> BTreeMap<String, u64> {
        let grown = self.values.iter().map(|(name, &value)| (name.clone(), value.saturating_sub(earlier.get(name))));
        grown.filter(|(name, value)| *value > 0 && !GAUGES.contains(&name.as_str())).collect()
    }
}

/// Frames that `interface` has sent and received since it was made.
pub(crate) fn interface_frames(interface: &str) -> Result<u64, Failure> {
    let mut frames = 0;
    for name in ["tx_packets", "rx_packets"] {
        let path = format!("/sys/class/net/{interface}/statistics/{name}");
        let text = text(&path)?;
        frames += text.trim().parse::<u64>().map_err(|_| Failure::environment(format!("{path} holds no number")))?;
    }
    Ok(frames)
}

/// TIME-WAIT entries of this namespace now; 0 where the kernel does not say.
pub(crate) fn time_wait_now() -> u64 {
    parse_time_wait(&fs::read_to_string("/proc/net/sockstat").unwrap_or_default())
}

/// The Ethernet address of an interface of this namespace.
pub(crate) fn mac(interface: &str) -> Option<String> {
    fs::read_to_string(format!("/sys/class/net/{interface}/address")).ok().map(|text| text.trim().to_string())
}

/// Whether this process is in a network namespace that has a name, as those of the benchmark do and the machine's own does not.
pub(crate) fn in_named_namespace() -> bool {
    let identity = |path: &Path| fs::metadata(path).ok().map(|of| (of.dev(), of.ino()));
    let own = identity(Path::new("/proc/self/ns/net"));
    let named = fs::read_dir("/run/netns").into_iter().flatten().filter_map(Result::ok);
    own.is_some() && named.into_iter().any(|entry| identity(&entry.path()) == own)
}

/// How long a CPU has been busy with anything, since this was made.
pub(crate) struct CpuTime {
    cpu: usize,
    before: Duration,
}

impl CpuTime {
    /// From now on.
    pub(crate) fn new(cpu: usize) -> CpuTime {
        CpuTime { cpu, before: cpu_busy(cpu) }
    }

    /// So far.
    pub(crate) fn busy(&self) -> Duration {
        cpu_busy(self.cpu).saturating_sub(self.before)
    }
}

/// How long a CPU has been busy since the start of the machine; zero where the kernel does not say.
fn cpu_busy(cpu: usize) -> Duration {
    parse_cpu_busy(&fs::read_to_string("/proc/stat").unwrap_or_default(), cpu)
}

/// All that the line of the CPU counts but idle time and waiting for disks, from ticks of 10 ms.
fn parse_cpu_busy(text: &str, cpu: usize) -> Duration {
    let name = format!("cpu{cpu}");
    let line = text.lines().map(str::split_whitespace).find_map(|mut words| (words.next()? == name).then_some(words));
    let ticks = line.into_iter().flatten().map(|word| word.parse::<u64>().unwrap_or(0));
    // user nice system idle iowait irq softirq steal; guest time is in user time already.
    let busy = ticks.take(8).enumerate().filter(|(place, _)| *place != 3 && *place != 4).map(|(_, ticks)| ticks);
    Duration::from_millis(10 * busy.sum::<u64>())
}

/// Threads of this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Threads {
    /// The first one alone.
    Main,
    /// Those of the shards of a stack.
    Shards,
}

/// How long each of these threads has been able to run but had to wait for a CPU, with its number; nothing where the kernel does not say.
pub(crate) fn waits_for_cpu(threads: Threads) -> Vec<(u32, Duration)> {
    let of_task = |number: u32, file: &str| fs::read_to_string(format!("/proc/self/task/{number}/{file}")).ok();
    let numbers = match threads {
        Threads::Main => vec![std::process::id()],
        Threads::Shards => {
            let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
            let numbers = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
            numbers.filter(|number| of_task(*number, "comm").is_some_and(|name| is_shard(&name))).collect()
        }
    };
    numbers.into_iter().filter_map(|number| Some((number, parse_waited(&of_task(number, "schedstat")?)?))).collect()
}

/// Whether a stack gives its shards' threads such a name.
fn is_shard(thread: &str) -> bool {
    thread.trim_end().strip_prefix("synfin-").is_some_and(|shard| shard.parse::<u16>().is_ok())
}

/// The second number of a `schedstat`.
fn parse_waited(text: &str) -> Option<Duration> {
    text.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

/// Adds the pairs of lines `Table: name name` and `Table: value value`; what is no number or negative is left out.
fn parse_tables(text: &str, values: &mut BTreeMap<String, u64>) {
    let mut lines = text.lines();
    while let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
        let (Some((table, names)), Some((same, numbers))) = (names.split_once(':'), numbers.split_once(':')) else {
            continue;
        };
        if table != same {
            continue;
        }
        for (name, number) in names.split_whitespace().zip(numbers.split_whitespace()) {
            if let Ok(number) = number.parse() {
                values.insert(format!("{table}.{name}"), number);
            }
        }
    }
}

/// The number after `tw` in the TCP line of `/proc/net/sockstat`; 0 when it is not there.
fn parse_time_wait(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    let mut words = line.split_whitespace().skip_while(|word| *word != "tw").skip(1);
    words.next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn text(path: &str) -> Result<String, Failure> {
    fs::read_to_string(path)
        .map_err(|error| Failure::environment(format!("cannot read {path}: {error}; is /proc mounted?")))
}

/// Entries of the tables that are no counters.
const GAUGES: [&str; 5] = ["Tcp.RtoAlgorithm", "Tcp.RtoMin", "Tcp.RtoMax", "Tcp.MaxConn", "Tcp.CurrEstab"];

#[cfg(test)]
mod tests {
    use super::*;

    const NETSTAT: &str = "TcpExt: SyncookiesSent TW TCPTimeWaitOverflow\nTcpExt: 0 17 3\nIpExt: InOctets\nIpExt: 99\n";
    const SNMP: &str = "Tcp: RtoMin MaxConn ActiveOpens\nTcp: 200 -1 5\n";

    #[test]
    fn tables_become_named_counters() {
        let mut values = BTreeMap::new();
        parse_tables(NETSTAT, &mut values);
        parse_tables(SNMP, &mut values);
        assert_eq!(values["TcpExt.TCPTimeWaitOverflow"], 3);
        assert_eq!(values["IpExt.InOctets"], 99);
        assert_eq!(values["Tcp.ActiveOpens"], 5);
        assert!(!values.contains_key("Tcp.MaxConn"), "-1 is no count");
    }

    #[test]
    fn broken_tables_are_left_out() {
        let mut values = BTreeMap::new();
        parse_tables("Tcp: A B\nUdp: 1 2\nno colon\nnone here\nTcp: A", &mut values);
        assert!(values.is_empty());
    }

    #[test]
    fn time_wait_is_read_from_sockstat() {
        let text = "sockets: used 30\nTCP: inuse 2 orphan 0 tw 12345 alloc 3 mem 1\nUDP: inuse 1 mem 0\n";
        assert_eq!(parse_time_wait(text), 12345);
        assert_eq!(parse_time_wait("UDP: inuse 1\n"), 0);
    }

    #[test]
    fn busy_time_of_a_cpu_leaves_idle_out() {
        let text = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 100 50 4 5 6 7 0\ncpu1 0 0 1 0 0 0 0 0 0 0\nintr 5\n";
        assert_eq!(parse_cpu_busy(text, 0), Duration::from_millis(210));
        assert_eq!(parse_cpu_busy(text, 1), Duration::from_millis(10));
        assert_eq!(parse_cpu_busy(text, 7), Duration::ZERO);
    }

    #[test]
    fn waiting_time_is_the_second_number() {
        assert_eq!(parse_waited("123456789 2500000000 17\n"), Some(Duration::from_millis(2500)));
        assert_eq!(parse_waited(""), None);
    }

    #[test]
    fn shards_are_told_from_other_threads_of_a_stack_and_waits_are_their_own() {
        for (name, expected) in
            [("synfin-0\n", true), ("synfin-63\n", true), ("synfin-link\n", false), ("synfin\n", false)]
        {
            assert_eq!(is_shard(name), expected, "{name}");
        }
        assert_eq!(waits_for_cpu(Threads::Main).first().map(|(number, _)| *number), Some(std::process::id()));
        // Two threads want the same CPU all the time.
        let cpu = *synfin::stack::available_cores().first().expect("a core");
        let spin = move || {
            assert!(core_affinity::set_for_current(core_affinity::CoreId { id: cpu }));
            let until = std::time::Instant::now() + Duration::from_millis(400);
            while std::time::Instant::now() < until {}
            waits_for_cpu(Threads::Shards)
        };
        let threads = ["synfin-900", "synfin-901"].map(|name| {
            let thread = std::thread::Builder::new().name(name.into());
            thread.spawn(spin).expect("a thread")
        });
        let seen = threads.map(|thread| thread.join().expect("it spins"));
        // Whoever was there last may have been alone then.
        assert!(seen.iter().any(|waits| waits.len() == 2), "{seen:?}");
        let longest = seen.iter().flatten().map(|(_, waited)| *waited).max();
        assert!(longest > Some(Duration::from_millis(50)), "{seen:?}");
    }

    #[test]
    fn only_counters_that_grew_are_told() {
        let of = |pairs: &[(&str, u64)]| NetCounters {
            values: pairs.iter().map(|(name, value)| ((*name).to_string(), *value)).collect(),
            time_wait_now: 0,
        };
        let (before, after) =
            (of(&[("Tcp.A", 5), ("Tcp.B", 5)]), of(&[("Tcp.A", 7), ("Tcp.B", 5), ("Tcp.RtoMin", 200)]));
        assert_eq!(after.grown_since(&before), [("Tcp.A".to_string(), 2)].into());
    }
}
