//! The client: a closed loop that keeps a number of connections in flight.

use super::{End, Incoming, error_of};
use crate::cps::plan::{CLIENT_NETWORK, CLIENT_NETWORK_BITS};
use crate::failure::Failure;
use crate::lines::Final;
use crate::payload::{Identity, check_response, request};
use crate::role::{Closer, ErrorKind, Meter, RoleArgs, Stop};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use synfin::api::{Application, CloseReason, ConnectError, ConnectOptions, Event};
use synfin::ids::Handle;
use synfin::shard::Calls;

/// Runs until the window is over and the last connection is closed.
pub(crate) fn run(args: &RoleArgs) -> Result<Final, Failure> {
    let stop = Stop::begin(args.cpu)?;
    let sources = (0..args.src_ips.max(1)).map(|index| args.source_address(index)).collect();
    let claim = (CLIENT_NETWORK, CLIENT_NETWORK_BITS);
    let mut end = End::new(args, Client::new(args)?, sources, &[claim])?;
    end.tell_ready();
    end.shard.application_mut().restart();
    end.turn_while(|client| !client.has_ended() && !stop.asked());
    if stop.asked() {
        return Err(Failure::interrupted());
    }
    end.settle();
    let result = end.shard.application_mut().result();
    end.result(result)
}

/// One of the connections in flight.
#[derive(Clone, Copy)]
struct Slot {
    since: Instant,
    incarnation: u64,
    incoming: Incoming,
    /// The whole response has come and was right.
    answered: bool,
    /// An error was counted; its end counts no more.
    failed: bool,
}

/// The application.
pub(crate) struct Client {
    args: RoleArgs,
    remote: SocketAddr,
    meter: Meter,
    slots: Vec<Slot>,
    /// Slots that have no connection.
    idle: Vec<u32>,
    /// Slot by number of the handle; grows to the most connections that there ever were at once.
    slot_by_number: Vec<u32>,
    opened: u32,
    ended: bool,
}

impl Client {
    /// The number of its connections, where it shares a shard with another application.
    pub(crate) const MARK: u64 = 1;

    /// A client that has opened nothing yet.
    pub(crate) fn new(args: &RoleArgs) -> Result<Client, Failure> {
        let (since, incoming) = (Instant::now(), Incoming::NONE);
        let slot = Slot { since, incarnation: 0, incoming, answered: false, failed: false };
        Ok(Client {
            args: args.clone(),
            remote: SocketAddr::V4(args.server),
            meter: Meter::start(Duration::from_millis(args.warmup_ms), Duration::from_millis(args.duration_ms))?,
            slots: vec![slot; args.conns as usize],
            idle: (0..args.conns).rev().collect(),
            slot_by_number: vec![0; 4 * args.conns as usize],
            opened: 0,
            ended: false,
        })
    }

    /// The warm-up begins now.
    pub(crate) fn restart(&mut self) {
        self.meter.restart();
    }

    /// Whether `now` lies in the measured window.
    pub(crate) fn is_measured(&self, now: Instant) -> bool {
        self.meter.is_measured(now)
    }

    /// Whether the window is over and the last connection closed, or given up.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// What it has come to; connections that have not ended are errors.
    pub(crate) fn result(&mut self) -> Final {
        let unfinished = self.slots.len() - self.idle.len();
        self.meter.errors(ErrorKind::Unfinished, unfinished as u64);
        self.meter.result()
    }

    /// Opens a connection for every idle slot; what is refused stays idle until the next turn.
    fn open_idle(&mut self, calls: &mut Calls<'_>) {
        while let Some(slot) = self.idle.pop() {
            let local_address = Some(IpAddr::V4(self.args.source_address(self.opened)));
            self.opened = self.opened.wrapping_add(1);
            let options = ConnectOptions { local_address, user: Client::MARK, ..ConnectOptions::default() };
            let since = Instant::now();
            match calls.connect(self.remote, &options) {
                Ok(handle) => self.begin(slot, handle, since),
                Err(error) => {
                    self.idle.push(slot);
                    return self.meter.errors(kind_of(error), 1);
                }
            }
        }
    }

    fn begin(&mut self, slot: u32, handle: Handle, since: Instant) {
        let number = handle.number() as usize;
        if number >= self.slot_by_number.len() {
            self.slot_by_number.resize(number + 1, 0);
        }
        self.slot_by_number[number] = slot;
        let incarnation = self.slots[slot as usize].incarnation + 1;
        self.slots[slot as usize] =
            Slot { since, incarnation, incoming: Incoming::NONE, answered: false, failed: false };
    }

    fn slot_of(&self, handle: Handle) -> usize {
        self.slot_by_number[handle.number() as usize] as usize
    }

    fn identity(&self, slot: usize) -> Identity {
        Identity { connection: slot as u64, incarnation: self.slots[slot].incarnation }
    }

    fn on_connected(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        let slot = self.slot_of(handle);
        self.meter.connected(self.slots[slot].since, Instant::now());
        let request = request(self.identity(slot));
        if calls.send(handle, &request) != Ok(request.len()) {
            self.fail(calls, handle, ErrorKind::Other);
        }
    }

    fn on_readable(&mut self, calls: &mut Calls<'_>, handle: Handle, bytes: &[u8]) {
        let slot = self.slot_of(handle);
        let identity = self.identity(slot);
        let state = &mut self.slots[slot];
        let complete = state.incoming.take(bytes);
        let right = complete == Some(true) && check_response(&state.incoming.bytes, identity);
        state.answered |= right;
        let taken = calls.consume(handle, bytes.len());
        match (complete, right, taken) {
            (_, _, Err(_)) => self.fail(calls, handle, ErrorKind::Other),
            (None, ..) => self.fail(calls, handle, ErrorKind::WrongLength),
            (Some(true), false, _) => self.fail(calls, handle, ErrorKind::WrongByte),
            (Some(true), true, _) if self.args.closer == Closer::Client => self.close(calls, handle),
            (Some(_), ..) => {}
        }
    }

    fn close(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        if calls.close(handle).is_err() {
            self.fail(calls, handle, ErrorKind::Other);
        }
    }

    /// Counts an error once per connection and ends it.
    fn fail(&mut self, calls: &mut Calls<'_>, handle: Handle, kind: ErrorKind) {
        let slot = self.slot_of(handle);
        if !self.slots[slot].failed {
            self.slots[slot].failed = true;
            self.meter.errors(kind, 1);
        }
        // An error here means that the connection has ended already, which is what is wanted.
        let _ = calls.abort(handle);
    }

    fn on_closed(&mut self, handle: Handle, reason: CloseReason) {
        let slot = self.slot_of(handle);
        let state = self.slots[slot];
        if !state.failed {
            match reason {
                CloseReason::Graceful if state.answered => self.meter.completed(Instant::now()),
                reason => self.meter.errors(error_of(reason), 1),
            }
        }
        self.idle.push(slot as u32);
    }
}

impl Application for Client {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { handle } => self.on_connected(calls, handle),
            Event::Readable { handle, bytes } => self.on_readable(calls, handle, bytes),
            Event::PeerClosed { handle } if self.args.closer == Closer::Server => self.close(calls, handle),
            Event::Closed { handle, reason } => self.on_closed(handle, reason),
            Event::PeerClosed { .. } | Event::Accepted { .. } | Event::Writable { .. } => {}
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } | Event::Timer { .. } => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        let now = Instant::now();
        self.meter.tick(now);
        if self.meter.is_open(now) {
            self.open_idle(calls);
        } else {
            self.ended = self.idle.len() == self.slots.len() || self.meter.is_drained(now);
        }
    }
}

fn kind_of(error: ConnectError) -> ErrorKind {
    match error {
        ConnectError::PortsExhausted { .. } | ConnectError::PortInUse(_) => ErrorKind::NoPort,
        _ => ErrorKind::Other,
    }
}
