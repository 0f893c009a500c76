//! Risk beside gain on the wire: every policy with either closer, old segments aimed at each new incarnation, and the positive
//! control without which no figure counts.

use super::args::CpsArgs;
use super::live::Live;
use super::plan::{PEER_OF_KERNEL, TWO_MSL_S, Tuples};
use super::result::{Faults, Sweep, SweepRow};
use super::rounds::{Bench, Ends, RIG, Round, Spec, Stack};
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
    (cells(args).len() + 1) as f64 * (window_s(args) + WARMUP_S + 0.3)
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
        duration_s: window_s(args),
        warmup_s: WARMUP_S,
        tuples,
        source: PEER_OF_KERNEL,
        ports,
        payload: cell.payload.unwrap_or(plain.payload),
        no_timestamps: !cell.timestamps,
        rst_ends_time_wait: cell.rst_ends_time_wait,
        of_client: vec!["--isns".to_string(), cell.isns.name().to_string()],
        ..plain
    };
    let (ends, server) = match cell.server {
        Stack::Kernel | Stack::KernelReuse => (Ends::XdpKernel, "kernel-server"),
        Stack::Synfin | Stack::Echo => (Ends::Xdp, "synfin-server"),
    };
    let round = bench.between(ends, RIG, server, &spec, live)?;
    Ok(row(cell, &spec, &round))
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

/// Window of a row, s.
fn window_s(args: &CpsArgs) -> f64 {
    if args.inject_old { args.duration.unwrap_or(1.5) } else { 0.8 }
}

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
/// Time before the window, s.
const WARMUP_S: f64 = 0.2;
