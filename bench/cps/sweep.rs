//! Risk beside gain on the wire: every policy with either closer, old segments aimed at each new incarnation, and the positive
//! control without which no figure counts.

use super::args::CpsArgs;
use super::live::Live;
use super::plan::{PEER_OF_KERNEL, TWO_MSL_S, Tuples};
use super::result::{Faults, Sweep, SweepRow};
use super::rounds::{Bench, Ends, RIG, Round, Spec, Stack};
use super::series;
use crate::ends::{AIMED, INCARNATIONS_AIMED, IsnChoice, REACHED};
use crate::failure::Failure;
use crate::payload::Payload;
use crate::policy::{PortRange, Tw};
use crate::risk::rate::Rate;
use crate::role::Closer;

/// Runs every row and the control.
pub(crate) fn measure(bench: &Bench<'_>, args: &CpsArgs, live: &mut Live) -> Result<Sweep, Failure> {
    let cells = cells(args);
    let mut rows = Vec::with_capacity(cells.len());
    for (number, cell) in cells.iter().enumerate() {
        live.doing(format!("risk {}/{} {}", number + 1, cells.len(), cell.name()), "connections/s");
        rows.push(run(bench, args, cell, live)?);
    }
    live.doing("risk, positive control".to_string(), "connections/s");
    let control = run(bench, args, &CONTROL, live)?;
    Ok(Sweep {
        valid: control.old_bytes_accepted > 0,
        tuples: u64::from(PORTS.count()),
        two_msl_s: args.msl.map_or(TWO_MSL_S, |msl| 2.0 * msl),
        faults: Faults {
            loss: args.faults.loss,
            delay_ms: args.faults.delay,
            reorder: args.faults.reorder,
            dup: args.faults.dup,
            inject_old: true,
        },
        rows,
        control: Some(control),
    })
}

/// How long a sweep takes, s: the windows and the time to set up.
pub(crate) fn seconds(args: &CpsArgs) -> f64 {
    let row = |cell: &Cell| WARMUP_S + cell.window_s(args) + SET_UP_S;
    cells(args).iter().chain([&CONTROL]).map(row).sum()
}

/// What one row is played with.
#[derive(Clone, Copy, Debug)]
struct Cell {
    server: Stack,
    tw: Tw,
    closer: Closer,
    timestamps: bool,
    isns: IsnChoice,
    payload: Option<Payload>,
    rst_ends_time_wait: bool,
}

impl Cell {
    fn name(&self) -> String {
        format!("{} server, {}, {} closes", self.server.name(), self.policy(), self.closer.name())
    }

    /// Of the control fewer: each must come again and again, on a slow machine too.
    fn ports(&self) -> PortRange {
        if self.isns == IsnChoice::Aimed { CONTROL_PORTS } else { PORTS }
    }

    /// How long a 4-tuple is held after its close where both ends are told the same, s; `None` where that depends on
    /// what the wire does. A SYN may reopen at once what an OPEN may after the delay only.
    fn held_s(&self, args: &CpsArgs) -> Option<f64> {
        let two_msl_s = args.msl.map_or(TWO_MSL_S, |msl| 2.0 * msl);
        let delay_s = if self.closer == Closer::Client { f64::from(args.tw_delay) / 1000.0 } else { 0.0 };
        match (self.tw, self.timestamps) {
            _ if self.server == Stack::Kernel => (self.isns == IsnChoice::Clocked).then_some(0.0),
            _ if self.rst_ends_time_wait => None,
            (Tw::None, _) => Some(0.0),
            (Tw::Timestamp | Tw::TimestampOrSequence, true) => Some(delay_s.min(two_msl_s)),
            (Tw::TimestampOrSequence, false) if self.closer == Closer::Server => {
                (self.isns == IsnChoice::Clocked).then_some(0.0)
            }
            (Tw::Strict | Tw::RstClose | Tw::Timestamp | Tw::TimestampOrSequence, _) => Some(two_msl_s),
        }
    }

    /// Window of the row, s. Where 4-tuples are held it has two whole times of that, so that the rate in it is the average; where
    /// that would be long, nothing comes back and a glance suffices.
    fn window_s(&self, args: &CpsArgs) -> f64 {
        let usual = if args.inject_old { args.duration.unwrap_or(FULL_WINDOW_S) } else { WINDOW_S };
        match self.held_s(args) {
            Some(held_s) if 2.0 * held_s <= LONGEST_WINDOW_S => usual.max(2.0 * held_s),
            Some(_) => args.duration.filter(|_| args.inject_old).unwrap_or(GLANCE_S),
            None => usual,
        }
    }

    /// Linux decides by itself what a SYN may reuse.
    fn policy(&self) -> &'static str {
        if self.server == Stack::Kernel && self.closer == Closer::Server { "linux" } else { self.tw.name() }
    }
}

/// The rows: a small sweep in the default run, every kind of connection where it was asked for.
fn cells(args: &CpsArgs) -> Vec<Cell> {
    let policies = if args.tw == [Tw::Strict] { ALL.to_vec() } else { args.tw.clone() };
    let mut cells = Vec::new();
    for tw in policies.into_iter().filter(|tw| *tw != Tw::RstClose) {
        for closer in [Closer::Server, Closer::Client] {
            let cell = Cell { tw, closer, ..PLAIN };
            cells.push(cell);
            if args.inject_old {
                cells.push(Cell { timestamps: false, ..cell });
                cells.push(Cell { payload: Some(OUTRUNS), ..cell });
                cells.push(Cell { payload: Some(OUTRUNS), timestamps: false, ..cell });
                cells.push(Cell { isns: IsnChoice::Random, timestamps: false, ..cell });
                cells.push(Cell { payload: Some(OUTRUNS), rst_ends_time_wait: true, ..cell });
            }
        }
    }
    let kernel = Cell { server: Stack::Kernel, ..PLAIN };
    cells.push(kernel);
    cells.push(Cell { timestamps: false, ..kernel });
    if args.inject_old {
        cells.push(Cell { payload: Some(OUTRUNS), ..kernel });
        cells.push(Cell { payload: Some(OUTRUNS), timestamps: false, ..kernel });
        cells.push(Cell { isns: IsnChoice::Random, timestamps: false, ..kernel });
    }
    cells
}

fn run(bench: &Bench<'_>, args: &CpsArgs, cell: &Cell, live: &mut Live) -> Result<SweepRow, Failure> {
    let plain = Spec::new(args, bench.plan, cell.tw);
    let ports = cell.ports();
    let tuples =
        Tuples { ports: u64::from(ports.count()), sources: 1, destinations: 1, rate_max: RATE_MAX, held_s: TWO_MSL_S };
    let spec = Spec {
        closer: cell.closer,
        conns: IN_FLIGHT.min(ports.count() / 2),
        duration_s: cell.window_s(args),
        warmup_s: WARMUP_S,
        tuples,
        source: PEER_OF_KERNEL,
        ports,
        payload: cell.payload.unwrap_or(plain.payload),
        no_timestamps: !cell.timestamps,
        rst_ends_time_wait: cell.rst_ends_time_wait,
        // Each incarnation meets old segments, and each of those asks for an answer: their limit is not what is measured.
        answers_per_second: ANSWERS_PER_SECOND,
        of_client: vec!["--isns".to_string(), cell.isns.name().to_string()],
        ..plain
    };
    let (ends, server) = match cell.server {
        Stack::Kernel | Stack::KernelReuse => (Ends::XdpKernel, "kernel-server"),
        Stack::Synfin | Stack::Echo => (Ends::Xdp, "synfin-server"),
    };
    let round = bench.between(ends, RIG, server, &spec, live)?;
    let held_s = cell.held_s(args);
    let ceiling = held_s.filter(|held_s| *held_s > 0.0).map(|held_s| f64::from(ports.count()) / held_s);
    let limited_by = limited_by(held_s, series::busy_ends(&round)).to_string();
    Ok(SweepRow { ceiling, limited_by, ..row(cell, &spec, &round) })
}

/// What the rate is a figure of; empty where it is not known how busy the ends were.
fn limited_by(held_s: Option<f64>, busy: [Option<f64>; 2]) -> &'static str {
    // Where 4-tuples come back at once, only the machine can be in the way.
    let by_machine = held_s == Some(0.0) || busy.iter().flatten().any(|part| *part >= BUSY);
    match (by_machine, busy) {
        (true, _) => "machine",
        (false, [Some(_), Some(_)]) => "policy",
        (false, _) => "",
    }
}

fn row(cell: &Cell, spec: &Spec, round: &Round) -> SweepRow {
    let incarnations_aimed = round.counted(&[INCARNATIONS_AIMED]);
    // Both ends may have taken old bytes in one incarnation.
    let with_old = (round.client.with_old_bytes + round.server.with_old_bytes).min(incarnations_aimed);
    SweepRow {
        server: cell.server.name().to_string(),
        policy: cell.policy().to_string(),
        closer: cell.closer.name().to_string(),
        timestamps: cell.timestamps,
        isns: cell.isns.name().to_string(),
        rst_ends_time_wait: cell.rst_ends_time_wait,
        payload: (spec.payload.request, spec.payload.response),
        seconds: round.client.seconds,
        cps: round.connections_per_second(),
        ceiling: None,
        limited_by: String::new(),
        connect_latency_us: round.client.connect_latency_us.unwrap_or_default(),
        incarnations: round.counted(&["opens_active"]),
        errors: round.errors_total(),
        syn_retransmits: round.counted(&["retransmitted_syn", "TcpExt.TCPSynRetrans"]),
        stalls_1s: round.client.stalls,
        rsts: round.counted(&["rst_sent", "Tcp.OutRsts"]),
        challenge_acks: round.counted(&["challenge_acks", "TcpExt.TCPChallengeACK"]),
        paws_rejects: round.counted(&PAWS),
        aimed: round.counted(&[AIMED]),
        incarnations_aimed,
        reached_a_window: round.counted(&[REACHED]),
        old_bytes_accepted: round.client.old_bytes + round.server.old_bytes,
        incarnations_with_old_bytes: with_old,
        upper_bound: (incarnations_aimed > 0).then(|| Rate::of(with_old, incarnations_aimed).high),
    }
}

/// What of the ends is not as it is by default.
pub(crate) const LIFTED: &str =
    "synfin's limit of answers to unacceptable segments is lifted here; where Linux serves, its own limits stay";

/// The plain row.
const PLAIN: Cell = Cell {
    server: Stack::Synfin,
    tw: Tw::Strict,
    closer: Closer::Server,
    timestamps: true,
    isns: IsnChoice::Clocked,
    payload: None,
    rst_ends_time_wait: false,
};

/// With nothing to stand against it: what is accepted here shows that the rest would be seen.
const CONTROL: Cell = Cell { tw: Tw::None, timestamps: false, isns: IsnChoice::Aimed, ..PLAIN };

/// Policies of the sweep.
const ALL: [Tw; 4] = [Tw::Strict, Tw::Timestamp, Tw::TimestampOrSequence, Tw::None];

/// More octets than the ISN clock counts until the 4-tuple is opened again.
const OUTRUNS: Payload = Payload { request: 2800, response: 2800 };

/// Segments that the kernel or synfin refused by PAWS.
const PAWS: [&str; 5] =
    ["segments_paws", "TcpExt.PAWSActive", "TcpExt.PAWSEstab", "TcpExt.PAWSOldAck", "TcpExt.PAWSTimewait"];

/// Local ports of the client, each a 4-tuple that is opened over and over.
const PORTS: PortRange = PortRange { first: 40_000, last: 42_047 };
const CONTROL_PORTS: PortRange = PortRange { first: 40_000, last: 40_127 };
/// Connections in flight at most.
const IN_FLIGHT: u32 = 256;
/// Connections per second that TIME-WAIT has room for.
const RATE_MAX: u64 = 200_000;
/// Time before the window, s: each 4-tuple is opened for the first time in it, which no policy hinders.
const WARMUP_S: f64 = 0.3;
/// Window of a row where 4-tuples come back at once, s; in the whole sweep; and where none comes back.
const WINDOW_S: f64 = 0.5;
const FULL_WINDOW_S: f64 = 1.5;
const GLANCE_S: f64 = 0.3;
/// Longest window that is made for 4-tuples to come back, s.
const LONGEST_WINDOW_S: f64 = 5.0;
/// What a row takes beside its window and the time before it, s.
const SET_UP_S: f64 = 0.3;
/// An end that found work in this part of its time had none left for more.
const BUSY: f64 = 0.5;
/// Answers to unacceptable segments per second: more than a shard can be asked for.
const ANSWERS_PER_SECOND: u32 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::super::args::tests::parse;
    use super::*;

    /// Shows B47: what the gain of each row on a wire is a figure of.
    #[test]
    fn every_policy_that_reuses_has_time_to_and_strict_none() {
        let args = parse(&[]).expect("good");
        for cell in cells(&args) {
            let (held_s, window_s) = (cell.held_s(&args).expect("known in the default run"), cell.window_s(&args));
            match cell.tw {
                Tw::Strict if cell.server == Stack::Synfin => assert!(held_s > 10.0 * window_s, "{cell:?}"),
                _ => assert!(window_s >= 2.0 * held_s, "{cell:?}"),
            }
        }
    }

    #[test]
    fn of_an_end_that_may_have_been_busy_no_row_says_that_the_policy_was_in_the_way() {
        let (idle, busy) = (Some(BUSY / 2.0), Some(BUSY));
        assert_eq!(limited_by(Some(1.0), [idle, idle]), "policy");
        assert_eq!((limited_by(Some(1.0), [None, busy]), limited_by(Some(0.0), [idle, None])), ("machine", "machine"));
        assert_eq!((limited_by(Some(1.0), [idle, None]), limited_by(None, [None, None])), ("", ""));
    }

    #[test]
    fn a_longer_delay_makes_a_longer_row_until_nothing_comes_back_in_it() {
        let row = |options: &[&str]| {
            let args = parse(options).expect("good");
            Cell { tw: Tw::Timestamp, closer: Closer::Client, ..PLAIN }.window_s(&args)
        };
        assert_eq!((row(&[]), row(&["--tw-delay", "2000"]), row(&["--tw-delay", "20000"])), (2.0, 4.0, GLANCE_S));
        assert_eq!(row(&["--inject-old", "--duration", "10"]), 10.0);
        assert_eq!(row(&["--msl", "0.2"]), 2.0 * 0.4, "what is older than 2MSL is free");
    }
}
