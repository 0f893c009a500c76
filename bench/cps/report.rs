//! The result of a run, as it goes to `--json`.

use super::machine::Machine;
use super::plan::Tuples;
use super::result::{Interface, Memory, Phases, Prediction, RateStep, Resident, Run, Sweep, Verdict};
use super::rounds::{Echo, Round};
use super::series;
use super::statistics::{Spread, ratio};
use crate::lines::{Final, Latency, added, named};
use crate::policy::Tw;
use crate::role::FaultArgs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that was measured. Numbers are medians of the rounds unless they say otherwise.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Version of this layout.
    pub schema_version: u32,
    /// Where.
    pub machine: Machine,
    /// The XDP mode that the binds really got; `null` when nothing was bound.
    pub mode: Option<String>,
    /// The options, defaults filled in.
    pub flags: Flags,
    /// Segments of one connection of synfin, counted from the wire.
    pub segments_per_connection: Option<f64>,
    /// The stacks.
    pub stacks: Stacks,
    /// What the wire allows.
    pub limit: Option<Limit>,
    /// Ratios of medians.
    pub ratios: Ratios,
    /// The command that repeats the run.
    #[serde(default)]
    pub command: String,
    /// What everything random was drawn from.
    #[serde(default)]
    pub seed: u64,
    /// False for `--sim`: then nothing here is a measurement.
    #[serde(default = "measured")]
    pub measurement: bool,
    /// What had been predicted for the headline.
    #[serde(default)]
    pub prediction: Prediction,
    /// What limited it; `null` when neither stack was run.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// synfin under each policy asked for, in order; `stacks.synfin` is the first.
    #[serde(default)]
    pub policies: Vec<PolicyReport>,
    /// The kernel with tcp_tw_reuse 1; `stacks.kernel` has 0.
    #[serde(default)]
    pub kernel_reuse: Option<StackReport>,
    /// The search for the highest clean rate, in the order it went.
    #[serde(default)]
    pub rate_search: Vec<RateStep>,
    /// The collapse and the recovery.
    #[serde(default)]
    pub phases: Option<Phases>,
    /// Risk beside gain.
    #[serde(default)]
    pub sweep: Option<Sweep>,
    /// What TIME-WAIT costs.
    #[serde(default)]
    pub memory: Memory,
    /// TIME-WAIT entries that were there before.
    #[serde(default)]
    pub resident: Option<Resident>,
    /// The interfaces.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
}

/// synfin under one policy.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct PolicyReport {
    /// The policy.
    pub policy: String,
    /// What it came to.
    pub stack: StackReport,
}

/// The options of the run.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Flags {
    /// Who closed first.
    pub closer: String,
    /// Measured window of a round, s.
    pub duration_s: f64,
    /// Time before the window, s.
    pub warmup_s: f64,
    /// Rounds.
    pub rounds: u32,
    /// Connections in flight.
    pub conns: u32,
    /// The XDP mode asked for.
    pub mode: String,
    /// CPUs of client and server.
    pub cpus: (usize, usize),
    /// 4-tuples.
    pub tuples: Tuples,
    /// Policies, in the order of `policies`.
    #[serde(default)]
    pub tw: Vec<String>,
    /// MSL of synfin, s.
    #[serde(default)]
    pub msl_s: f64,
    /// How long a 4-tuple rests at least, ms.
    #[serde(default)]
    pub tw_delay_ms: u32,
    /// Local ports of the client.
    #[serde(default)]
    pub ports: String,
    /// Bytes of a request and of a response.
    #[serde(default)]
    pub payload: String,
    /// `max`, `find`, or connections per second of an open loop.
    #[serde(default)]
    pub rate: String,
    /// Queues of the wire and shards of each of synfin's ends.
    #[serde(default = "one")]
    pub queues: u32,
    /// Whether the shards of each end shared a CPU.
    #[serde(default)]
    pub shared_cpus: bool,
    /// Whether synfin's ends slept when there was nothing to do; otherwise they spun.
    #[serde(default)]
    pub sleep: bool,
    /// Faults of synfin's side in the table's rounds.
    #[serde(default)]
    pub faults: FaultArgs,
    /// Interfaces asked for; none is a veth pair.
    #[serde(default)]
    pub nic: Vec<String>,
    /// What was run.
    #[serde(default)]
    pub stack: Vec<String>,
}

/// Both stacks; `null` for one that was not run.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stacks {
    /// This stack.
    pub synfin: Option<StackReport>,
    /// The kernel's TCP.
    pub kernel: Option<StackReport>,
}

/// One stack.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct StackReport {
    /// Connections per second, median.
    pub connections_per_second: f64,
    /// The same with its spread.
    pub connections_per_second_spread: Spread,
    /// The same, round by round.
    pub connections_per_second_rounds: Vec<f64>,
    /// Connect latency, medians of each percentile.
    pub connect_latency_us: Latency,
    /// The same, round by round.
    #[serde(default)]
    pub connect_latency_us_rounds: Vec<Latency>,
    /// Connections completed, all rounds from start to end.
    pub connections_total: u64,
    /// Errors of both ends, all rounds.
    pub errors: u64,
    /// Opens refused because no port was free: no error, but what TIME-WAIT is for.
    #[serde(default)]
    pub refused: u64,
    /// Errors and refusals by end and kind.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// TIME-WAIT entries made, both ends, all rounds.
    pub time_wait_created: u64,
    /// TIME-WAIT entries that lasted 2MSL within their round.
    pub time_wait_expired: u64,
    /// TIME-WAIT entries that ended early or were never made for want of room.
    pub time_wait_evicted: u64,
    /// Segments of one connection, counted from the wire.
    pub segments_per_connection: f64,
    /// Counters of both ends, all rounds.
    pub counters: BTreeMap<String, u64>,
    /// Histogram of connect latencies of all rounds: values, ns, and how often each came. What failed counts as 100 s.
    #[serde(default)]
    pub latency_histogram_ns: Vec<(u64, u64)>,
    /// Handshakes of about a second or longer within the measured windows.
    #[serde(default)]
    pub stalls_1s: u64,
    /// Each round over time.
    #[serde(default)]
    pub runs: Vec<Run>,
}

/// The best raw echo.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// Frames per second, both directions added, median.
    pub frames_per_second: f64,
    /// That divided by the segments of a connection; `null` when synfin was not run.
    pub connections_per_second: Option<f64>,
    /// The frames per second with their spread.
    pub frames_per_second_spread: Spread,
    /// Batch and window of the best echo of each round.
    pub best: Vec<(u32, u32)>,
}

/// Ratios of medians; `null` when one side was not run.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ratios {
    /// Connections per second of synfin and of the kernel.
    pub synfin_to_kernel: Option<f64>,
    /// Connections per second of synfin and of the limit.
    pub synfin_to_limit: Option<f64>,
}

impl Report {
    /// The report of these rounds.
    pub(crate) fn new(machine: Machine, flags: Flags, synfin: &[Round], kernel: &[Round], echo: &[Echo]) -> Report {
        let tuples = flags.tuples.count();
        let stacks = Stacks { synfin: StackReport::new(synfin, tuples), kernel: StackReport::new(kernel, tuples) };
        let segments_per_connection = stacks.synfin.as_ref().map(|synfin| synfin.segments_per_connection);
        let limit = Limit::new(echo, segments_per_connection);
        let rate = |stack: &Option<StackReport>| stack.as_ref().map(|stack| stack.connections_per_second);
        let limit_rate = limit.as_ref().and_then(|limit| limit.connections_per_second);
        let ratios = Ratios {
            synfin_to_kernel: ratio(rate(&stacks.synfin), rate(&stacks.kernel)),
            synfin_to_limit: ratio(rate(&stacks.synfin), limit_rate),
        };
        let modes = synfin.iter().map(|round| &round.mode).chain(echo.iter().map(|echo| &echo.mode));
        let mode = modes.flatten().next().cloned();
        Report {
            schema_version: SCHEMA_VERSION,
            machine,
            mode,
            flags,
            segments_per_connection,
            stacks,
            limit,
            ratios,
            command: String::new(),
            seed: 0,
            measurement: true,
            prediction: Prediction::default(),
            verdict: None,
            policies: Vec::new(),
            kernel_reuse: None,
            rate_search: Vec::new(),
            phases: None,
            sweep: None,
            memory: Memory::default(),
            resident: None,
            interfaces: Vec::new(),
        }
    }

    /// Every stack that was run, with its name; synfin by policy where there are several.
    pub(crate) fn named(&self) -> Vec<(String, &StackReport)> {
        let several = self.policies.len() > 1;
        let policies = self.policies.iter().filter(|_| several);
        let mut named: Vec<(String, &StackReport)> =
            policies.map(|policy| (format!("synfin {}", policy.policy), &policy.stack)).collect();
        named.extend(self.stacks.synfin.iter().filter(|_| !several).map(|stack| ("synfin".to_string(), stack)));
        named.extend(self.stacks.kernel.iter().map(|stack| ("kernel".to_string(), stack)));
        named.extend(self.kernel_reuse.iter().map(|stack| ("kernel-reuse".to_string(), stack)));
        named
    }

    /// Whether the policy of the headline, the first asked for, leaves no TIME-WAIT.
    pub(crate) fn is_without_time_wait(&self) -> bool {
        self.flags.tw.first().is_some_and(|policy| leaves_no_time_wait(policy))
    }

    /// The headline's rate over the kernel's, where the two are alike: the kernel keeps its TIME-WAIT.
    pub(crate) fn ratio_to_kernel(&self) -> Option<f64> {
        self.ratios.synfin_to_kernel.filter(|_| !self.is_without_time_wait())
    }

    /// What every part of the run has counted against itself: all stacks and policies, and the rounds with entries beforehand.
    pub(crate) fn blemishes(&self) -> Vec<Blemish> {
        let of_stack = |(name, stack): (String, &StackReport)| Blemish {
            name,
            errors: stack.errors,
            time_wait_evicted: stack.time_wait_evicted,
        };
        let of_resident = |resident: &Resident| Blemish {
            name: format!("synfin with {} entries in TIME-WAIT beforehand", resident.entries),
            errors: resident.errors,
            time_wait_evicted: resident.time_wait_evicted,
        };
        self.named().into_iter().map(of_stack).chain(self.resident.iter().map(of_resident)).collect()
    }

    /// Errors of all parts of the run.
    pub(crate) fn errors_total(&self) -> u64 {
        self.blemishes().iter().map(|part| part.errors).sum()
    }

    /// The result as conditions see it: with the sums over all parts, of a run that had any.
    pub(crate) fn to_be_judged(&self) -> Result<serde_json::Value, serde_json::Error> {
        let mut value = serde_json::to_value(self)?;
        let parts = self.blemishes();
        if !parts.is_empty() {
            let evicted: u64 = parts.iter().map(|part| part.time_wait_evicted).sum();
            value["total"] = serde_json::json!({ "errors": self.errors_total(), "time_wait_evicted": evicted });
        }
        Ok(value)
    }
}

/// What a part of a run has counted against itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Blemish {
    /// Which part.
    pub name: String,
    /// Errors.
    pub errors: u64,
    /// TIME-WAIT entries that ended early or were never made for want of room.
    pub time_wait_evicted: u64,
}

impl StackReport {
    /// The stack's rounds taken together, `tuples` 4-tuples each; `None` without any.
    pub(crate) fn new(rounds: &[Round], tuples: u64) -> Option<StackReport> {
        let each: Vec<f64> = rounds.iter().map(Round::connections_per_second).collect();
        let spread = Spread::of(each.iter().copied())?;
        let latencies: Vec<Latency> = rounds.iter().filter_map(|round| round.client.connect_latency_us).collect();
        let percentile =
            |of: fn(&Latency) -> f64| Spread::of(latencies.iter().map(of)).map_or(0.0, |spread| spread.median);
        let ends = || rounds.iter().flat_map(|round| [("client", &round.client), ("server", &round.server)]);
        let sum = |of: fn(&Final) -> u64| ends().map(|(_, end)| of(end)).sum();
        Some(StackReport {
            connections_per_second: spread.median,
            connections_per_second_spread: spread,
            connections_per_second_rounds: each,
            connect_latency_us: Latency {
                p50: percentile(|latency| latency.p50),
                p99: percentile(|latency| latency.p99),
                p999: percentile(|latency| latency.p999),
                max: latencies.iter().map(|latency| latency.max).fold(0.0, f64::max),
            },
            connect_latency_us_rounds: latencies,
            connections_total: rounds.iter().map(|round| round.client.connections_total).sum(),
            errors: rounds.iter().map(Round::errors_total).sum(),
            errors_by_kind: added(ends().flat_map(|(end, result)| named(end, &result.errors))),
            time_wait_created: sum(|end| end.time_wait.created),
            time_wait_expired: sum(|end| end.time_wait.expired),
            time_wait_evicted: sum(|end| end.time_wait.evicted),
            segments_per_connection: Spread::of(rounds.iter().map(Round::segments_per_connection))?.median,
            counters: added(ends().flat_map(|(end, result)| named(end, &result.counters))),
            refused: rounds.iter().map(Round::refused).sum(),
            latency_histogram_ns: histogram(rounds),
            stalls_1s: rounds.iter().map(|round| round.client.stalls).sum(),
            runs: (1..).zip(rounds).map(|(number, round)| series::run(number, round, tuples)).collect(),
        })
    }

    /// Whether the kernel skipped TIME-WAIT because its table was full.
    pub(crate) fn time_wait_overflowed(&self) -> bool {
        self.counters.iter().any(|(name, count)| name.ends_with("TCPTimeWaitOverflow") && *count > 0)
    }
}

impl Limit {
    fn new(rounds: &[Echo], segments_per_connection: Option<f64>) -> Option<Limit> {
        let spread = Spread::of(rounds.iter().map(|echo| echo.frames_per_second))?;
        Some(Limit {
            frames_per_second: spread.median,
            connections_per_second: ratio(Some(spread.median), segments_per_connection),
            frames_per_second_spread: spread,
            best: rounds.iter().map(|echo| (echo.batch, echo.window)).collect(),
        })
    }
}

/// Whether nothing of a connection is kept under the policy of that name.
pub(crate) fn leaves_no_time_wait(policy: &str) -> bool {
    [Tw::None, Tw::RstClose].iter().any(|tw| tw.name() == policy)
}

/// The histograms of all rounds together.
fn histogram(rounds: &[Round]) -> Vec<(u64, u64)> {
    let mut counts = BTreeMap::new();
    for &(value, count) in rounds.iter().flat_map(|round| &round.client.latency_ns) {
        *counts.entry(value).or_insert(0) += count;
    }
    counts.into_iter().collect()
}

/// Files of before `--sim` was there are measurements.
fn measured() -> bool {
    true
}

/// Files of before there were several shards.
fn one() -> u32 {
    1
}

/// Version of the layout of [`Report`]: raised when a field changes its meaning or goes away.
const SCHEMA_VERSION: u32 = 1;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::compare::condition::Condition;
    use crate::lines::TimeWait;

    pub(in crate::cps) fn round(connections: u64, errors: u64) -> Round {
        let client = Final {
            connections,
            seconds: 2.0,
            connections_total: connections + 10,
            errors: if errors > 0 { [("reset".to_string(), errors)].into() } else { BTreeMap::new() },
            connect_latency_us: Some(Latency {
                p50: 10.0,
                p99: 20.0,
                p999: connections as f64,
                max: connections as f64,
            }),
            frames_total: 7 * (connections + 10),
            time_wait: TimeWait { created: connections + 10, expired: 0, evicted: 0 },
            counters: [("Tcp.ActiveOpens".to_string(), connections)].into(),
            ..Final::default()
        };
        Round { client, server: Final::default(), mode: Some("skb copy".into()), time_wait_bytes: None }
    }

    pub(in crate::cps) fn report() -> Report {
        let tuples = Tuples { ports: 64_512, sources: 64, destinations: 1, rate_max: 450_000, held_s: 5.0 };
        let flags = Flags {
            closer: "client".into(),
            duration_s: 2.0,
            warmup_s: 0.5,
            rounds: 3,
            conns: 256,
            mode: "auto".into(),
            cpus: (0, 1),
            tuples,
            ..Flags::default()
        };
        let synfin = [round(200_000, 0), round(400_000, 1), round(300_000, 0)];
        let kernel = [round(50_000, 0), round(60_000, 0), round(40_000, 2)];
        let echo =
            |frames_per_second| Echo { frames_per_second, batch: 64, window: 256, mode: Some("skb copy".into()) };
        Report::new(
            Machine::read(),
            flags,
            &synfin,
            &kernel,
            &[echo(2_000_000.0), echo(2_100_000.0), echo(2_200_000.0)],
        )
    }

    #[test]
    fn ratios_are_ratios_of_medians() {
        let report = report();
        assert_eq!(report.ratios.synfin_to_kernel, Some(6.0));
        assert_eq!(report.segments_per_connection, Some(7.0));
        assert_eq!(report.limit.as_ref().and_then(|limit| limit.connections_per_second), Some(300_000.0));
        assert_eq!(report.ratios.synfin_to_limit, Some(0.5));
        assert_eq!(report.errors_total(), 3);
    }

    #[test]
    fn errors_of_later_policies_and_of_rounds_with_entries_beforehand_count() {
        let mut report = report();
        let stack = |errors| StackReport::new(&[round(10, errors)], 9).expect("a round");
        let policy = |policy: &str, errors| PolicyReport { policy: policy.into(), stack: stack(errors) };
        report.stacks = Stacks { synfin: Some(stack(0)), kernel: None };
        report.policies = vec![policy("strict", 0), policy("timestamp", 20)];
        report.kernel_reuse = Some(stack(300));
        report.resident = Some(Resident { entries: 7, errors: 4000, time_wait_evicted: 5, ..Resident::default() });
        assert_eq!(report.errors_total(), 4320);
        let names: Vec<String> = report.blemishes().into_iter().map(|part| part.name).collect();
        let last = "synfin with 7 entries in TIME-WAIT beforehand";
        assert_eq!(names, ["synfin strict", "synfin timestamp", "kernel-reuse", last]);
        let judged = report.to_be_judged().expect("serializes");
        let met = |text: &str| text.parse::<Condition>().expect(text).met(&judged);
        assert!(met("errors>4319 and evicted>4").is_some_and(|why| why.ends_with("errors is 4320 and evicted is 5")));
        assert_eq!(met("errors>4320"), None);
    }

    #[test]
    fn json_has_the_promised_fields() {
        let json = serde_json::to_value(report()).expect("serializes");
        let keys = |pointer: &str| -> Vec<String> {
            let object = json.pointer(pointer).and_then(|value| value.as_object()).expect(pointer);
            object.keys().cloned().collect()
        };
        let found = keys("");
        for field in
            ["flags", "limit", "machine", "mode", "ratios", "schema_version", "segments_per_connection", "stacks"]
        {
            assert!(found.iter().any(|name| name == field), "{field}");
        }
        for stack in ["synfin", "kernel"] {
            let found = keys(&format!("/stacks/{stack}"));
            for field in [
                "connections_per_second",
                "connect_latency_us",
                "errors",
                "time_wait_created",
                "time_wait_expired",
                "time_wait_evicted",
                "counters",
            ] {
                assert!(found.iter().any(|name| name == field), "{stack}.{field}");
            }
            assert!(
                json.pointer(&format!("/stacks/{stack}/connections_per_second")).is_some_and(|value| value.is_number())
            );
            assert_eq!(keys(&format!("/stacks/{stack}/connect_latency_us")), ["max", "p50", "p99", "p999"]);
        }
        for pointer in [
            "/limit/frames_per_second",
            "/limit/connections_per_second",
            "/ratios/synfin_to_kernel",
            "/ratios/synfin_to_limit",
        ] {
            assert!(json.pointer(pointer).is_some_and(|value| value.is_number()), "{pointer}");
        }
    }

    #[test]
    fn stack_that_was_not_run_is_null() {
        let report = Report::new(Machine::read(), report().flags, &[], &[round(10, 0)], &[]);
        let json = serde_json::to_value(report).expect("serializes");
        assert!(
            json["stacks"]["synfin"].is_null() && json["limit"].is_null() && json["mode"].as_str() == Some("skb copy")
                || json["mode"].is_null()
        );
        assert!(json["ratios"]["synfin_to_kernel"].is_null());
        assert_eq!(json["stacks"]["kernel"]["connections_per_second"], 5.0);
    }

    #[test]
    fn skipped_time_wait_is_noticed() {
        let mut skipped = round(10, 0);
        assert_eq!(StackReport::new(&[skipped.clone()], 9).map(|stack| stack.time_wait_overflowed()), Some(false));
        skipped.client.counters.insert("TcpExt.TCPTimeWaitOverflow".into(), 1);
        assert_eq!(StackReport::new(&[skipped], 9).map(|stack| stack.time_wait_overflowed()), Some(true));
    }
}
