//! The result of a run, for `--json` and for people.

use super::load::{BUSY_MS, LOAD_MS};
use super::{ProxyKind, Round};
use crate::cps::machine::Machine;
use crate::cps::statistics::{Spread, ratio};
use crate::lines::{Latency, added, named};
use crate::role::Closer;
use crate::waited;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Everything that was measured. Numbers are medians of the rounds unless they say otherwise.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Report {
    /// Version of this layout.
    pub schema_version: u32,
    /// Where.
    pub machine: Machine,
    /// The XDP mode that the load got.
    pub mode: Option<String>,
    /// The options, defaults filled in.
    pub flags: Flags,
    /// Each proxy that was run.
    pub proxies: Vec<ProxyReport>,
    /// Connections per busy CPU-second, synfin to HAProxy, ratio of medians; `null` unless both were run.
    pub to_haproxy: Option<f64>,
}

/// The options of the run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Flags {
    /// Measured window of a round, s.
    pub seconds: f64,
    /// Time before the window, s.
    pub warmup_s: f64,
    /// Rounds.
    pub rounds: u32,
    /// Connections in flight.
    pub conns: u32,
    /// Who closes first.
    pub closer: Closer,
    /// CPUs of load and proxy.
    pub cpus: (usize, usize),
}

/// One proxy.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct ProxyReport {
    /// Which.
    pub proxy: ProxyKind,
    /// Connections through it.
    pub connections_per_second: Spread,
    /// CPUs that the machine was busy with, less the load's share.
    pub busy_cpus: Spread,
    /// CPUs that were the load's share.
    pub load_cpus: Spread,
    /// Connections per second of busy CPU.
    pub connections_per_cpu_second: Spread,
    /// The same, round by round.
    pub connections_per_cpu_second_rounds: Vec<f64>,
    /// From the client's SYN to its handshake, us, medians of the rounds.
    pub connect_latency_us: Latency,
    /// Errors of clients and backend, all rounds.
    pub errors: u64,
    /// Errors by kind and counters of the load, all rounds.
    pub counters: BTreeMap<String, u64>,
}

impl Report {
    /// The rounds taken together.
    pub(crate) fn new(machine: Machine, flags: Flags, rounds: &[Round]) -> Report {
        let mut order: Vec<ProxyKind> = rounds.iter().map(|round| round.proxy).collect();
        order.sort();
        order.dedup();
        let of = |proxy| rounds.iter().filter(move |round| round.proxy == proxy).collect::<Vec<_>>();
        let proxies: Vec<ProxyReport> = order.into_iter().map(|proxy| ProxyReport::new(proxy, &of(proxy))).collect();
        let efficiency = |kind| {
            proxies.iter().find(|proxy| proxy.proxy == kind).map(|proxy| proxy.connections_per_cpu_second.median)
        };
        let to_haproxy = ratio(efficiency(ProxyKind::Synfin), efficiency(ProxyKind::Haproxy));
        let mode = rounds.iter().find_map(|round| round.mode.clone());
        Report { schema_version: SCHEMA_VERSION, machine, mode, flags, proxies, to_haproxy }
    }

    /// Errors of all rounds.
    pub(crate) fn errors_total(&self) -> u64 {
        self.proxies.iter().map(|proxy| proxy.errors).sum()
    }

    /// The table.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let (flags, mode) = (&self.flags, self.mode.as_deref().unwrap_or("no XDP"));
        let _ = writeln!(
            out,
            "clients and backend on CPU {}, the proxy on CPU {}, {mode}, {} connections in flight, the {} closes first; median \
             (min..max) of {} rounds of {} s",
            flags.cpus.0,
            flags.cpus.1,
            flags.conns,
            flags.closer.name(),
            flags.rounds,
            flags.seconds
        );
        let _ = writeln!(
            out,
            "{:<10}{:>26}{:>20}{:>12}{:>30}{:>16}{:>8}",
            "", "connections/s", "busy CPUs", "load CPUs", "connections/busy CPU-second", "p50/p99 us", "errors"
        );
        for proxy in &self.proxies {
            let _ = writeln!(
                out,
                "{:<10}{:>26}{:>20}{:>12.2}{:>30}{:>16}{:>8}",
                proxy.proxy.name(),
                spread(proxy.connections_per_second, 0),
                spread(proxy.busy_cpus, 2),
                proxy.load_cpus.median,
                spread(proxy.connections_per_cpu_second, 0),
                format!("{:.0}/{:.0}", proxy.connect_latency_us.p50, proxy.connect_latency_us.p99),
                proxy.errors
            );
        }
        if let Some(ratio) = self.to_haproxy {
            let _ = writeln!(out, "connections per busy CPU-second, synfin to HAProxy: {ratio:.2}");
        }
        for proxy in &self.proxies {
            waited::warn(&mut out, &format!("load of {}", proxy.proxy.name()), &proxy.counters);
        }
        out
    }
}

impl ProxyReport {
    fn new(proxy: ProxyKind, rounds: &[&Round]) -> ProxyReport {
        let counter = |round: &Round, name: &str| round.load.counters.get(name).copied().unwrap_or(0) as f64;
        let window_ms = |round: &Round| (round.load.seconds * 1000.0).max(f64::MIN_POSITIVE);
        let busy = |round: &Round| (counter(round, BUSY_MS) - counter(round, LOAD_MS)).max(0.0) / window_ms(round);
        let each = |of: &dyn Fn(&Round) -> f64| rounds.iter().map(|round| of(round)).collect::<Vec<f64>>();
        let rate = |round: &Round| round.load.connections as f64 / round.load.seconds.max(f64::MIN_POSITIVE);
        let efficiency = each(&|round| rate(round) / busy(round).max(f64::MIN_POSITIVE));
        let median = |of: fn(&Latency) -> f64| {
            let each = rounds.iter().filter_map(|round| round.load.connect_latency_us.as_ref().map(of));
            Spread::of(each).unwrap_or_default().median
        };
        let counters = rounds.iter().flat_map(|round| round.load.counters.clone());
        let failed = rounds.iter().flat_map(|round| named("error", &round.load.errors));
        ProxyReport {
            proxy,
            connections_per_second: Spread::of(each(&rate)).unwrap_or_default(),
            busy_cpus: Spread::of(each(&busy)).unwrap_or_default(),
            load_cpus: Spread::of(each(&|round| counter(round, LOAD_MS) / window_ms(round))).unwrap_or_default(),
            connections_per_cpu_second: Spread::of(efficiency.iter().copied()).unwrap_or_default(),
            connections_per_cpu_second_rounds: efficiency,
            connect_latency_us: Latency {
                p50: median(|latency| latency.p50),
                p99: median(|latency| latency.p99),
                p999: median(|latency| latency.p999),
                max: median(|latency| latency.max),
            },
            errors: rounds.iter().map(|round| round.load.errors_total()).sum(),
            counters: added(counters.chain(failed)),
        }
    }
}

fn spread(spread: Spread, digits: usize) -> String {
    format!("{:.digits$} ({:.digits$}..{:.digits$})", spread.median, spread.min, spread.max)
}

/// Raised when a field changes its meaning or goes.
const SCHEMA_VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Final;

    fn round(proxy: ProxyKind, connections: u64, busy_ms: u64, load_ms: u64) -> Round {
        let counters = [(BUSY_MS.to_string(), busy_ms), (LOAD_MS.to_string(), load_ms)].into();
        let load = Final { connections, seconds: 2.0, counters, ..Final::default() };
        Round { proxy, load, mode: Some("skb copy".into()) }
    }

    #[test]
    fn efficiency_is_connections_by_what_the_machine_did_beside_the_load() {
        let flags = Flags { seconds: 2.0, warmup_s: 0.3, rounds: 1, conns: 1, closer: Closer::Server, cpus: (0, 1) };
        let rounds = [
            round(ProxyKind::Haproxy, 20_000, 3500, 1500),
            round(ProxyKind::Synfin, 60_000, 3900, 1900),
            round(ProxyKind::Haproxy, 30_000, 3500, 1500),
            round(ProxyKind::Haproxy, 10_000, 3500, 1500),
        ];
        let report = Report::new(Machine::read(), flags, &rounds);
        let [synfin, haproxy] = &report.proxies[..] else { panic!("two proxies") };
        assert_eq!((synfin.connections_per_second.median, synfin.busy_cpus.median), (30_000.0, 1.0));
        assert_eq!(
            (synfin.connections_per_cpu_second.median, haproxy.connections_per_cpu_second.median),
            (30_000.0, 10_000.0)
        );
        assert_eq!(report.to_haproxy, Some(3.0));
        assert!(report.text().contains("synfin to HAProxy: 3.00"), "{}", report.text());
    }
}
