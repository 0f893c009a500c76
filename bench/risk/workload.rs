//! What is played: who closes, what the options are, how sequence numbers move and what the wire does.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use synfin::link::faults::FaultConfig;
use synfin::tcp::time_wait::Policy;

/// One of the two ends.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// Opens connections.
    Client,
    /// Takes them.
    Server,
}

impl End {
    /// The other one.
    pub(super) const fn other(self) -> End {
        match self {
            End::Client => End::Server,
            End::Server => End::Client,
        }
    }
}

/// How an end's initial sequence numbers come about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Isns {
    /// By the stack's own clock and hash (RFC 6528), at both ends.
    Clocked,
    /// Those of this end are random, as if it were another stack: the wire rewrites its sequence numbers.
    Random(End),
    /// Those of both ends are random, under the condition that one old segment's text lies in the window and that its
    /// acknowledgment is acceptable.
    Aimed,
}

/// A kind of connections.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Workload {
    pub name: &'static str,
    /// The end that closes first and so has TIME-WAIT. At the server a SYN meets it (B44), at the client an OPEN (B45).
    pub closer: End,
    pub timestamps: bool,
    /// Whether a connection sends more octets than the ISN clock counts until the next one opens.
    pub outruns: bool,
    pub isns: Isns,
    /// Share of SYN-ACKs that are lost, 0 to 1.
    pub syn_acks_lost: f64,
    /// Whether frames are also lost, duplicated and reordered at random.
    pub faults: bool,
}

/// One workload under one policy.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Cell {
    pub policy: Policy,
    pub workload: Workload,
    /// Whether a RST ends TIME-WAIT (RFC 9293 3.10.7.4) instead of being ignored (RFC 1337).
    pub rst_ends_time_wait: bool,
}

impl Workload {
    /// Octets of a request. Two segments where the ISN clock is to be outrun, so that the second lies beyond the next ISN.
    pub(super) const fn request_bytes(&self) -> u32 {
        if self.outruns { 2 * 1400 } else { 64 }
    }

    /// Octets of an answer.
    pub(super) const fn answer_bytes(&self) -> u32 {
        self.request_bytes()
    }

    /// How long a 4-tuple rests before the next open is tried, us. The ISN clock counts 250 in a millisecond: with at
    /// least one of them it is beyond 64 octets, SYN and FIN, and with five at most not beyond 2,800.
    pub(super) const fn rest_us(&self) -> (u64, u64) {
        if self.outruns { (0, 5000) } else { (1000, 4000) }
    }

    /// What the wire does of itself.
    pub(super) fn fault_config(&self) -> FaultConfig {
        if !self.faults {
            return FaultConfig { held_max: 0, ..FaultConfig::default() };
        }
        FaultConfig {
            loss: 0.01,
            duplication: 0.02,
            reordering: 0.05,
            reordering_us: 500,
            late_duplication: 0.02,
            late_us: 20_000,
            held_max: 4096,
            ..FaultConfig::default()
        }
    }
}

/// Every workload, with timestamps and without.
pub(super) fn all() -> Vec<Workload> {
    let plain = Workload {
        name: "",
        closer: End::Server,
        timestamps: true,
        outruns: false,
        isns: Isns::Clocked,
        syn_acks_lost: 0.0,
        faults: false,
    };
    let active = Workload { closer: End::Client, ..plain };
    let shapes = [
        Workload { name: "server closes", ..plain },
        Workload { name: "client closes", ..active },
        Workload { name: "server closes, ISN clock outrun", outruns: true, ..plain },
        Workload { name: "client closes, ISN clock outrun", outruns: true, ..active },
        Workload { name: "server closes, client's ISNs random", isns: Isns::Random(End::Client), ..plain },
        Workload { name: "client closes, server's ISNs random", isns: Isns::Random(End::Server), ..active },
        Workload { name: "server closes, SYN-ACKs lost", syn_acks_lost: 0.3, ..plain },
        Workload { name: "server closes, faulty wire", faults: true, ..plain },
        Workload { name: "client closes, faulty wire", faults: true, ..active },
    ];
    let without = shapes.map(|workload| Workload { timestamps: false, ..workload });
    shapes.into_iter().zip(without).flat_map(|(with, without)| [with, without]).collect()
}

/// Random ISNs at both ends that have come to where one old text begins at the new connection's first octet. With policy `none`
/// and without timestamps nothing stands against it: the positive control.
pub(super) fn aimed(policy: Policy, timestamps: bool) -> Cell {
    let workload = Workload {
        name: "aimed into the window",
        closer: End::Server,
        timestamps,
        outruns: false,
        isns: Isns::Aimed,
        syn_acks_lost: 0.0,
        faults: false,
    };
    Cell { policy, workload, rst_ends_time_wait: false }
}

/// A policy on the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum PolicyName {
    /// Never before 2MSL is over
    Strict,
    /// Where later timestamps guard it
    Timestamp,
    /// Or, without timestamps, a sequence number beyond; the default of the stack
    TimestampOrSequence,
    /// There is no TIME-WAIT
    None,
}

impl PolicyName {
    /// The policy.
    pub(super) const fn policy(self) -> Policy {
        match self {
            PolicyName::Strict => Policy::Strict,
            PolicyName::Timestamp => Policy::Timestamp,
            PolicyName::TimestampOrSequence => Policy::TimestampOrSequence,
            PolicyName::None => Policy::None,
        }
    }
}
