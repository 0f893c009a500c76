//! The parts of the result that say more than a rate: prediction, verdict, what went on over time, phases, risk, memory.
//!
//! Every part is `null` or empty where it was not run. Times are seconds from the start of the run they belong to.

use crate::lines::Latency;
use serde::{Deserialize, Serialize};

/// What arithmetic says before anything is measured.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Prediction {
    /// The policy that it is about.
    pub policy: String,
    /// 4-tuples: ports x sources x destinations.
    pub tuples: u64,
    /// How long a closed connection's 4-tuple cannot be opened, s.
    pub held_s: f64,
    /// 2MSL, s.
    pub two_msl_s: f64,
    /// Opens per second that are meant to be tried: `--rate`, or the most that the tuples are laid out for.
    pub rate: f64,
    /// Connections per second on average at most, tuples / held; `null` without a ceiling.
    pub ceiling: Option<f64>,
    /// When the last tuple is taken at `rate`, s; `null` if they come back in time.
    pub exhausted_after_s: Option<f64>,
    /// When the first is free again after that, s.
    pub free_again_at_s: Option<f64>,
    /// Connections per second that the ports allow in a run as long as this one; `null` where ports are no limit.
    pub expected: Option<f64>,
    /// The same in one sentence.
    pub text: String,
}

/// What the run was limited by, beside what had been predicted.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// The word.
    pub limited_by: LimitedBy,
    /// Why, in one sentence with the figures that it follows from.
    pub text: String,
    /// What had been predicted.
    pub prediction: Prediction,
    /// Reasons why no headline may be printed: drops, TIME-WAIT evicted, another mode than asked for, a control that
    /// shows nothing.
    pub untrue: Vec<String>,
}

/// What keeps a rate from being higher.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum LimitedBy {
    /// 4-tuples: all are in use or in TIME-WAIT.
    #[serde(rename = "ports")]
    Ports,
    /// The client's CPU.
    #[serde(rename = "cpu(client)")]
    CpuClient,
    /// The server's CPU.
    #[serde(rename = "cpu(server)")]
    CpuServer,
    /// The wire: the raw echo is not much faster.
    #[serde(rename = "link")]
    Link,
    /// What was asked for: the rate of an open loop, or the connections in flight of a closed one.
    #[serde(rename = "rate")]
    Rate,
    /// Whatever else ran on these CPUs.
    #[serde(rename = "others")]
    Others,
}

impl LimitedBy {
    /// The word, as in the JSON file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LimitedBy::Ports => "ports",
            LimitedBy::CpuClient => "cpu(client)",
            LimitedBy::CpuServer => "cpu(server)",
            LimitedBy::Link => "link",
            LimitedBy::Rate => "rate",
            LimitedBy::Others => "others",
        }
    }
}

/// A tenth of a second of a run, both ends together.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// End of the interval, s from the client's start.
    pub t: f64,
    /// Connections completed per second in it.
    pub cps: f64,
    /// Opens refused or failed per second in it.
    pub failed: f64,
    /// TIME-WAIT entries of both ends at its end.
    pub time_wait: u64,
    /// 4-tuples neither in use nor in TIME-WAIT at its end.
    pub free_ports: u64,
    /// Resident memory of the client and of the server process at its end, bytes.
    pub rss: (u64, u64),
}

/// One round over time.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Its number, from 1.
    pub round: u32,
    /// Its tenths of a second, warm-up and drain included; of a long run several tenths together.
    pub series: Vec<Moment>,
    /// CPU time that each end used, as a part of its time: of synfin the turns that found work, of the kernel its whole core.
    pub busy: Busy,
}

/// How busy the ends were within the measured window, 0 to 1.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Busy {
    /// The client.
    pub client: f64,
    /// The server.
    pub server: f64,
}

/// The policy switched in the running stack: the collapse and the recovery.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Phases {
    /// Opens tried per second; who is refused does not try again.
    pub rate: f64,
    /// 4-tuples.
    pub tuples: u64,
    /// 2MSL of synfin, s: short, so that it fits on a page. Linux's is fixed at 60 s.
    pub two_msl_s: f64,
    /// How long a 4-tuple stays out of use at least where reuse is allowed, s.
    pub delay_s: f64,
    /// The phases in order.
    pub phases: Vec<Phase>,
    /// What the model says for synfin, per tenth of a second: time and connections per second.
    pub predicted: Vec<(f64, f64)>,
    /// What the model says for the kernel, with its 2MSL of 60 s.
    pub predicted_kernel: Vec<(f64, f64)>,
    /// synfin on the wire.
    pub synfin: Option<Run>,
    /// The kernel on the same wire: `strict` is tcp_tw_reuse 0, any other policy 1.
    pub kernel: Option<Run>,
}

/// One policy for a while.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Phase {
    /// The policy.
    pub policy: String,
    /// When it begins, s.
    pub from_s: f64,
    /// When it ends, s.
    pub to_s: f64,
}

/// Risk beside gain: few 4-tuples opened over and over, old segments aimed at each new incarnation.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sweep {
    /// Whether the positive control has shown accepted old bytes. If not, no figure of the sweep counts.
    pub valid: bool,
    /// 4-tuples of each row.
    pub tuples: u64,
    /// 2MSL of synfin's ends, s.
    pub two_msl_s: f64,
    /// Faults of the wire.
    pub faults: Faults,
    /// The rows.
    pub rows: Vec<SweepRow>,
    /// The positive control: policy `none`, random ISNs, no timestamps, old text aimed into the window.
    pub control: Option<SweepRow>,
}

/// What was done to frames, by chance.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Faults {
    /// Share lost, 0 to 1, of each direction.
    pub loss: f64,
    /// Delay of each direction, ms.
    pub delay_ms: f64,
    /// Share held back so that later ones overtake them.
    pub reorder: f64,
    /// Share sent twice.
    pub dup: f64,
    /// Whether old segments were aimed at new incarnations.
    pub inject_old: bool,
}

/// One policy with one closer against one server.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SweepRow {
    /// `synfin` or `kernel`; the client is synfin.
    pub server: String,
    /// The policy of synfin's ends.
    pub policy: String,
    /// Who closes first.
    pub closer: String,
    /// Whether timestamps were used.
    pub timestamps: bool,
    /// Whether initial sequence numbers were by the stacks' clocks (`clocked`), random at one end (`random`), or come
    /// to where an old text begins (`aimed`).
    pub isns: String,
    /// Whether a RST ends TIME-WAIT (RFC 9293) instead of being ignored (RFC 1337).
    pub rst_ends_time_wait: bool,
    /// Octets of a request and of a response.
    pub payload: (u32, u32),
    /// Length of the run, s.
    pub seconds: f64,
    /// Connections completed per second.
    pub cps: f64,
    /// Connections per second that the policy allows these 4-tuples on average, 4-tuples / time that one is held;
    /// `null` where they come back at once.
    #[serde(default)]
    pub ceiling: Option<f64>,
    /// What `cps` is a figure of: `policy` where the ends had time left and 4-tuples were wanting, `machine` where they
    /// had not; empty where that is not known.
    #[serde(default)]
    pub limited_by: String,
    /// Connect latency; failures are in it as the largest value.
    pub connect_latency_us: Latency,
    /// Connections opened.
    pub incarnations: u64,
    /// Connections that failed.
    pub errors: u64,
    /// SYNs and SYN-ACKs sent again, both ends.
    pub syn_retransmits: u64,
    /// Connections that took about a second or longer to open.
    pub stalls_1s: u64,
    /// RSTs sent by both ends.
    pub rsts: u64,
    /// Challenge ACKs of both ends.
    pub challenge_acks: u64,
    /// Segments refused by PAWS, both ends.
    pub paws_rejects: u64,
    /// Old segments sent.
    pub aimed: u64,
    /// Incarnations at which an old segment with text was aimed.
    pub incarnations_aimed: u64,
    /// Old segments whose sequence numbers lay in the receiver's window.
    pub reached_a_window: u64,
    /// Octets of earlier incarnations that an application was given.
    pub old_bytes_accepted: u64,
    /// Incarnations in which that happened.
    pub incarnations_with_old_bytes: u64,
    /// Upper bound of incarnations with old bytes / incarnations aimed at, 95 %; with none it is 3 / n. `null` when
    /// none was aimed.
    pub upper_bound: Option<f64>,
}

/// One step of the search for the highest clean rate.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RateStep {
    /// Connections tried per second.
    pub rate: f64,
    /// Connections completed per second.
    pub achieved: f64,
    /// Connect latency from the scheduled time, 99 %, us.
    pub p99_us: f64,
    /// Connections that failed.
    pub errors: u64,
    /// Whether all were served, in time.
    pub clean: bool,
}

/// What TIME-WAIT costs.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// synfin, bytes per entry: record, wheel and index, for the places configured.
    pub synfin_bytes_per_time_wait: Option<f64>,
    /// The kernel, bytes per entry: its slab object; `null` where /proc/slabinfo cannot be read.
    pub kernel_bytes_per_time_wait: Option<f64>,
    /// Resident memory of the end with TIME-WAIT, bytes, highest sample.
    pub synfin_rss_max: Option<u64>,
}

/// TIME-WAIT entries that were there before the run began.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Resident {
    /// Entries.
    pub entries: u64,
    /// Connections per second with them, median.
    pub connections_per_second: f64,
    /// Connections per second with an empty table, median.
    pub connections_per_second_empty: f64,
    /// Errors of both ends in these rounds.
    #[serde(default)]
    pub errors: u64,
    /// TIME-WAIT entries of these rounds that ended early or were never made for want of room.
    #[serde(default)]
    pub time_wait_evicted: u64,
}

/// An interface of the run, as it was while it ran.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Interface {
    /// `client` or `server`.
    pub end: String,
    /// Its name before it was moved; that of the veth end otherwise.
    pub name: String,
    /// Driver.
    pub driver: String,
    /// MTU, bytes.
    pub mtu: u32,
    /// Queues used.
    pub queues: u32,
    /// Descriptors of the RX and TX ring of the hardware; `null` where the driver has none to tell.
    pub rings: Option<(u32, u32)>,
    /// Offloads that are on.
    pub offloads: Vec<String>,
}
