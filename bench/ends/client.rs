//! The client: a closed loop that keeps a number of connections in flight, or an open loop that begins them at a steady rate.

use super::several::{self, Counted, Part};
use super::{End, Metered, OverXdp, error_of};
use crate::cps::plan::{CLIENT_NETWORK, CLIENT_NETWORK_BITS};
use crate::failure::Failure;
use crate::lines::Final;
use crate::meter::{Meter, Pace};
use crate::payload::{Identity, Incoming, Side, Taken, fill};
use crate::policy::Tw;
use crate::role::{Closer, ErrorKind, RoleArgs, Stop};
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};
use synfin::api::{Application, CloseReason, ConnectError, ConnectOptions, Event, ListenError};
use synfin::ids::Handle;
use synfin::link::faults::Faults;
use synfin::shard::Calls;
use synfin::stack::Service;

/// Runs until the window is over and the last connection is closed.
pub(crate) fn run(args: &RoleArgs) -> Result<Final, Failure> {
    if args.queues > 1 {
        return several::run_client(args);
    }
    let stop = Stop::begin(args.cpu)?;
    let client = Client::new(args, None)?;
    if args.faults.any() {
        let (faults, seed) = (args.faults.config(), super::seed(args)?);
        let around = |link| Faults::new(link, faults, faults, seed);
        play(args, &stop, End::over(args, client, sources(args), CLAIM, around)?)
    } else {
        play(args, &stop, End::new(args, client, sources(args), CLAIM)?)
    }
}

fn play<L: OverXdp>(args: &RoleArgs, stop: &Stop, mut end: End<Client, L>) -> Result<Final, Failure> {
    end.tell_ready(args);
    end.shard.application_mut().meter.restart();
    end.run_while(args.phases.as_ref(), |client| !client.ended && !stop.asked())?;
    if stop.asked() {
        return Err(Failure::interrupted());
    }
    end.settle();
    let result = end.shard.application_mut().result();
    end.result(result)
}

/// The addresses that connections come from.
pub(super) fn sources(args: &RoleArgs) -> Vec<Ipv4Addr> {
    (0..args.src_ips.max(1)).map(|index| args.source_address(index)).collect()
}

/// What the client's program takes from the wire.
const CLAIM: (Ipv4Addr, u8) = (CLIENT_NETWORK, CLIENT_NETWORK_BITS);

/// One of the connections in flight.
#[derive(Clone, Copy)]
struct Slot {
    since: Instant,
    incarnation: u64,
    incoming: Incoming,
    /// The handshake is complete.
    connected: bool,
    /// The whole response has come and was right.
    answered: bool,
    /// An error was counted; its end counts no more.
    failed: bool,
}

/// 4-tuples that are opened over and over: slot n has the n-th local port.
#[derive(Clone)]
pub(crate) struct Tuples {
    /// The first local port.
    pub first_port: u16,
    /// The newest incarnation of each, for the wire to know.
    pub incarnations: Arc<[AtomicU32]>,
    /// Text that came in and is no slot's own.
    pub wrong: Vec<Wrong>,
    /// Slots whose port was refused, and when to try again.
    waiting: VecDeque<(Instant, u32)>,
}

impl Tuples {
    /// So many 4-tuples.
    pub(super) fn new(first_port: u16, count: u32) -> Tuples {
        let incarnations = (0..count).map(|_| AtomicU32::new(0)).collect();
        Tuples { first_port, incarnations, wrong: Vec::new(), waiting: VecDeque::with_capacity(count as usize) }
    }
}

/// Text that is not what the server has sent in this incarnation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wrong {
    pub tuple: usize,
    pub incarnation: u32,
    /// Octets of the stream before it.
    pub offset: u32,
    pub bytes: Vec<u8>,
}

/// The application.
#[derive(Clone)]
pub(crate) struct Client {
    pub(super) meter: Meter,
    pub(super) ended: bool,
    /// With fixed 4-tuples a slot is one of them.
    pub(super) tuples: Option<Tuples>,
    args: RoleArgs,
    pace: Pace,
    slots: Vec<Slot>,
    /// Slots that have no connection, the one that has rested longest first.
    idle: VecDeque<u32>,
    in_flight: u32,
    /// Slot by number of the handle; grows to the most connections that there ever were at once.
    slot_by_number: Vec<u32>,
    opened: u32,
    /// After a refusal in the closed loop: when to try again.
    patient_until: Instant,
    request: Vec<u8>,
    /// Added to a slot's number: the clients of several shards have ids of their own.
    first_id: u64,
}

impl Client {
    /// The number of its connections, where it shares a shard with another application.
    pub(crate) const MARK: u64 = 1;

    /// Whether the window is over and the last connection closed, or given up.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// A client with a slot per connection in flight, or per 4-tuple.
    pub(crate) fn new(args: &RoleArgs, tuples: Option<Tuples>) -> Result<Client, Failure> {
        let slots = tuples.as_ref().map_or(args.conns, |tuples| tuples.incarnations.len() as u32);
        let now = Instant::now();
        let slot = Slot {
            since: now,
            incarnation: 0,
            incoming: Incoming::NONE,
            connected: false,
            answered: false,
            failed: false,
        };
        Ok(Client {
            meter: Meter::start(Duration::from_millis(args.warmup_ms), Duration::from_millis(args.duration_ms))?,
            ended: false,
            tuples,
            args: args.clone(),
            pace: Pace::new(args.rate),
            slots: vec![slot; slots as usize],
            idle: (0..slots).collect(),
            in_flight: 0,
            slot_by_number: vec![0; 4 * args.conns as usize],
            opened: 0,
            patient_until: now,
            request: vec![0; args.payload.request as usize],
            first_id: 0,
        })
    }

    /// The same as one of several shards.
    pub(super) fn of_shard(self, shard: usize) -> Client {
        let first_id = shard as u64 * self.slots.len() as u64;
        Client { meter: self.meter.of_shard(shard), first_id, ..self }
    }

    /// What it has come to.
    pub(crate) fn result(&mut self) -> Final {
        self.give_up();
        self.meter.result()
    }

    /// What is still open, or was never begun, has failed.
    fn give_up(&mut self) {
        for _ in 0..u64::from(self.in_flight) + self.pace.overdue(&self.meter) {
            self.meter.failed(ErrorKind::Unfinished, self.meter.window().0);
        }
    }

    /// Begins what is due as far as there are slots; in the closed loop what is refused is tried again later.
    fn open_due(&mut self, calls: &mut Calls<'_>, now: Instant) {
        if let Some(tuples) = &mut self.tuples {
            while let Some((_, slot)) = tuples.waiting.pop_front_if(|(at, _)| *at <= now) {
                self.idle.push_back(slot);
            }
        }
        if now < self.patient_until {
            return;
        }
        while self.in_flight < self.args.conns
            && let Some(since) = self.pace.due(&self.meter, now)
            && let Some(slot) = self.idle.pop_front()
        {
            let (remote, options) = self.next_connection(slot);
            match calls.connect(remote, &options) {
                Ok(handle) => {
                    self.pace.advance();
                    self.begin(slot, handle, since);
                }
                Err(error) => self.refused(slot, error, now),
            }
        }
    }

    /// Where the next connection goes, and from where.
    fn next_connection(&mut self, slot: u32) -> (SocketAddr, ConnectOptions) {
        let number = self.opened;
        self.opened = self.opened.wrapping_add(1);
        let local_address = Some(IpAddr::V4(self.args.source_address(number)));
        let local_port = self.tuples.as_ref().map(|tuples| tuples.first_port + slot as u16);
        (
            SocketAddr::V4(self.args.destination(number)),
            ConnectOptions { local_address, local_port, user: Client::MARK, ..ConnectOptions::default() },
        )
    }

    fn begin(&mut self, slot: u32, handle: Handle, since: Instant) {
        let number = handle.number() as usize;
        if number >= self.slot_by_number.len() {
            self.slot_by_number.resize(number + 1, 0);
        }
        self.slot_by_number[number] = slot;
        self.in_flight += 1;
        let incarnation = self.slots[slot as usize].incarnation + 1;
        if let Some(tuples) = &self.tuples {
            tuples.incarnations[slot as usize].store(incarnation as u32, Relaxed);
        }
        self.slots[slot as usize] =
            Slot { since, incarnation, incoming: Incoming::NONE, connected: false, answered: false, failed: false };
    }

    /// No connection was begun. In an open loop it has failed; in the closed loop nobody waits for a certain one.
    fn refused(&mut self, slot: u32, error: ConnectError, now: Instant) {
        let kind = kind_of(error);
        match &mut self.tuples {
            Some(tuples) if kind == ErrorKind::NoPort => tuples.waiting.push_back((now + TUPLE_PATIENCE, slot)),
            _ => self.idle.push_back(slot),
        }
        if self.pace.is_open_loop() {
            self.pace.advance();
            self.meter.failed(kind, now);
        } else if self.tuples.is_none() {
            self.meter.errors(kind, 1);
            self.patient_until = now + PATIENCE;
        }
    }

    fn slot_of(&self, handle: Handle) -> usize {
        self.slot_by_number[handle.number() as usize] as usize
    }

    fn identity(&self, slot: usize) -> Identity {
        Identity { connection: self.first_id + slot as u64, incarnation: self.slots[slot].incarnation }
    }

    fn on_connected(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        let slot = self.slot_of(handle);
        self.slots[slot].connected = true;
        self.meter.connected(self.slots[slot].since, Instant::now());
        fill(self.identity(slot), Side::Request, 0, &mut self.request);
        if calls.send(handle, &self.request) != Ok(self.request.len()) {
            self.fail(calls, handle, ErrorKind::Other);
        }
    }

    fn on_readable(&mut self, calls: &mut Calls<'_>, handle: Handle, bytes: &[u8]) {
        let slot = self.slot_of(handle);
        let identity = self.identity(slot);
        let offset = self.slots[slot].incoming.received();
        let taken = self.slots[slot].incoming.take(identity, Side::Response, self.args.payload.response, bytes);
        if calls.consume(handle, bytes.len()).is_err() {
            return self.fail(calls, handle, ErrorKind::Other);
        }
        match taken {
            Taken::More => {}
            Taken::Complete(_) => {
                self.slots[slot].answered = true;
                if self.args.closer == Closer::Client {
                    self.close(calls, handle);
                }
            }
            Taken::Wrong => {
                if let Some(tuples) = &mut self.tuples {
                    let incarnation = identity.incarnation as u32;
                    tuples.wrong.push(Wrong { tuple: slot, incarnation, offset, bytes: bytes.to_vec() });
                }
                self.fail(calls, handle, ErrorKind::WrongByte);
            }
            Taken::TooMany => self.fail(calls, handle, ErrorKind::WrongLength),
        }
    }

    fn close(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        let closed = if self.args.tw == Tw::RstClose { calls.abort(handle) } else { calls.close(handle) };
        if closed.is_err() {
            self.fail(calls, handle, ErrorKind::Other);
        }
    }

    /// Counts an error once per connection and ends it.
    fn fail(&mut self, calls: &mut Calls<'_>, handle: Handle, kind: ErrorKind) {
        let slot = self.slot_of(handle);
        self.count_failure(slot, kind);
        // An error here means that the connection has ended already, which is what is wanted.
        let _ = calls.abort(handle);
    }

    fn count_failure(&mut self, slot: usize, kind: ErrorKind) {
        let Slot { failed, connected, .. } = self.slots[slot];
        self.slots[slot].failed = true;
        match (failed, connected) {
            (true, _) => {}
            // Its handshake is in the histogram already.
            (false, true) => self.meter.errors(kind, 1),
            (false, false) => self.meter.failed(kind, Instant::now()),
        }
    }

    fn on_closed(&mut self, handle: Handle, reason: CloseReason) {
        let slot = self.slot_of(handle);
        let Slot { answered, failed, .. } = self.slots[slot];
        match reason {
            CloseReason::Graceful if answered && !failed => self.meter.completed(Instant::now()),
            CloseReason::Aborted if answered && !failed && self.args.tw == Tw::RstClose => {
                self.meter.completed(Instant::now());
            }
            reason => self.count_failure(slot, error_of(reason)),
        }
        self.in_flight -= 1;
        self.idle.push_back(slot as u32);
    }
}

impl Metered for Client {
    fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    fn began(&self) -> Option<Instant> {
        Some(self.meter.started())
    }
}

impl Application for Client {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { handle } => self.on_connected(calls, handle),
            Event::Readable { handle, bytes } => self.on_readable(calls, handle, bytes),
            Event::PeerClosed { handle } if self.args.closer == Closer::Server => {
                if calls.close(handle).is_err() {
                    self.fail(calls, handle, ErrorKind::Other);
                }
            }
            Event::Closed { handle, reason } => self.on_closed(handle, reason),
            Event::PeerClosed { .. } | Event::Accepted { .. } | Event::Writable { .. } => {}
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } | Event::Timer { .. } => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        let now = Instant::now();
        self.meter.tick(now);
        // The first use of a 4-tuple meets no policy: on a slow machine the window waits for it.
        let is_new = self.tuples.is_some() && (self.opened as usize) < self.slots.len();
        if is_new && self.meter.elapsed(now) < FIRST_USES_MAX {
            self.meter.postpone(now + FIRST_USES_LAST);
        }
        if self.meter.is_open(now) || self.pace.is_late(&self.meter) {
            self.open_due(calls, now);
        } else {
            self.ended = self.in_flight == 0;
        }
        // What still waits for a 4-tuple that is in TIME-WAIT at the peer would wait for 2MSL.
        let patience_is_over = self.tuples.is_some() && now >= self.meter.window().1 + TUPLES_DRAIN;
        self.ended |= patience_is_over || self.meter.is_drained(now);
    }
}

impl Service for Client {
    fn start(&mut self, _: &mut Calls<'_>) -> Result<(), ListenError> {
        self.meter.restart();
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.ended
    }
}

impl Part for Client {
    fn counted(mut self) -> Counted {
        self.give_up();
        Counted { meter: self.meter, old_bytes: (0, 0) }
    }
}

fn kind_of(error: ConnectError) -> ErrorKind {
    match error {
        ConnectError::PortsExhausted { .. } | ConnectError::PortInUse(_) => ErrorKind::NoPort,
        _ => ErrorKind::Other,
    }
}

/// How long the closed loop waits when nothing could be opened: as long as a few round trips.
const PATIENCE: Duration = Duration::from_millis(1);
/// How long connections of fixed 4-tuples may take to finish after the window.
const TUPLES_DRAIN: Duration = Duration::from_millis(300);
/// How long the last of these connections take to complete, so that they count in no window.
const FIRST_USES_LAST: Duration = Duration::from_millis(100);
/// How long the window waits for the last 4-tuple to be opened at all.
const FIRST_USES_MAX: Duration = Duration::from_secs(4);
/// How long a refused 4-tuple rests.
const TUPLE_PATIENCE: Duration = Duration::from_millis(20);
