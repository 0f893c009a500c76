//! The server: one request, one response, then the close.

use super::several::{self, Counted, Part};
use super::{End, Metered, error_of};
use crate::failure::Failure;
use crate::lines::Final;
use crate::meter::Meter;
use crate::payload::{Identity, Incoming, Ledger, Payload, Side, Taken, fill};
use crate::policy::Tw;
use crate::role::{Closer, ErrorKind, RoleArgs, Stop};
use crate::waited;
use std::net::{IpAddr, SocketAddrV4};
use std::time::{Duration, Instant};
use synfin::api::{Application, CloseReason, Event, ListenError};
use synfin::ids::Handle;
use synfin::shard::Calls;
use synfin::stack::Service;

/// Serves until the orchestrator closes standard input.
pub(crate) fn run(args: &RoleArgs) -> Result<Final, Failure> {
    if args.queues > 1 {
        return several::run_server(args);
    }
    let stop = Stop::begin(args.cpu)?;
    let address = *args.server.ip();
    let mut end = End::new(args, Server::new(args)?, vec![address], (address, 32))?;
    let now = end.now();
    let listening = listen(args.server, args.dst_ports, &mut end.shard.calls(now));
    listening.map_err(|error| Failure::environment(format!("cannot listen on {}: {error}", args.server)))?;
    end.tell_ready(args);
    end.run_while(args.phases.as_ref(), |_| !stop.asked())?;
    let server = end.shard.application();
    let Ledger { old_bytes, with_old_bytes, .. } = server.ledger;
    end.result(Final { old_bytes, with_old_bytes, ..server.meter.result() })
}

/// One connection.
#[derive(Clone, Copy)]
struct State {
    incoming: Incoming,
    /// The response was sent.
    answered: bool,
    /// An error was counted; its end counts no more.
    failed: bool,
}

/// Listens on `ports` ports from the one of `at` up.
fn listen(at: SocketAddrV4, ports: u16, calls: &mut Calls<'_>) -> Result<(), ListenError> {
    let mut ports = at.port()..at.port().saturating_add(ports.max(1));
    ports.try_for_each(|port| calls.listen(IpAddr::V4(*at.ip()), port).map(drop))
}

/// The application.
#[derive(Clone)]
pub(crate) struct Server {
    at: SocketAddrV4,
    ports: u16,
    closer: Closer,
    /// The client ends its connections by a RST.
    peer_resets: bool,
    payload: Payload,
    pub(super) meter: Meter,
    pub(super) ledger: Ledger,
    began: Option<Instant>,
    response: Vec<u8>,
    /// By number of the handle; grows to the most connections that there ever were at once.
    states: Vec<State>,
}

impl Server {
    /// A server without connections.
    pub(crate) fn new(args: &RoleArgs) -> Result<Server, Failure> {
        let meter = Meter::start(Duration::ZERO, Duration::from_millis(args.warmup_ms + args.duration_ms))?;
        Ok(Server {
            at: args.server,
            ports: args.dst_ports,
            closer: args.closer,
            peer_resets: args.tw == Tw::RstClose,
            payload: args.payload,
            meter,
            ledger: Ledger::default(),
            began: None,
            response: vec![0; args.payload.response as usize],
            states: vec![NEW; 4 * args.conns as usize],
        })
    }

    /// The same as one of several shards.
    pub(super) fn of_shard(self, shard: usize) -> Server {
        Server { meter: self.meter.of_shard(shard), ..self }
    }

    fn on_accepted(&mut self, handle: Handle) {
        self.began.get_or_insert_with(|| {
            waited::first_connection();
            Instant::now()
        });
        let number = handle.number() as usize;
        if number >= self.states.len() {
            self.states.resize(number + 1, NEW);
        }
        self.states[number] = NEW;
    }

    fn on_readable(&mut self, calls: &mut Calls<'_>, handle: Handle, bytes: &[u8]) {
        let state = &mut self.states[handle.number() as usize];
        let taken = state.incoming.take_from_anyone(Side::Request, self.payload.request, bytes);
        let identity = state.incoming.identity();
        if calls.consume(handle, bytes.len()).is_err() {
            return self.fail(calls, handle, ErrorKind::Other);
        }
        match taken {
            Taken::Complete(identity) if !bytes.is_empty() => self.answer(calls, handle, identity),
            Taken::Complete(_) | Taken::More => {}
            Taken::Wrong => {
                self.ledger.wrong(identity, self.payload.request, bytes);
                self.fail(calls, handle, ErrorKind::WrongByte);
            }
            Taken::TooMany => self.fail(calls, handle, ErrorKind::WrongLength),
        }
    }

    fn answer(&mut self, calls: &mut Calls<'_>, handle: Handle, identity: Identity) {
        self.ledger.complete(identity, self.payload.request);
        self.states[handle.number() as usize].answered = true;
        fill(identity, Side::Response, 0, &mut self.response);
        if calls.send(handle, &self.response) != Ok(self.response.len()) {
            return self.fail(calls, handle, ErrorKind::Other);
        }
        if self.closer == Closer::Server {
            self.close(calls, handle);
        }
    }

    fn close(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        if calls.close(handle).is_err() {
            self.fail(calls, handle, ErrorKind::Other);
        }
    }

    /// Counts an error once per connection and ends it.
    fn fail(&mut self, calls: &mut Calls<'_>, handle: Handle, kind: ErrorKind) {
        let state = &mut self.states[handle.number() as usize];
        if !state.failed {
            state.failed = true;
            self.meter.errors(kind, 1);
        }
        // An error here means that the connection has ended already, which is what is wanted.
        let _ = calls.abort(handle);
    }

    fn on_closed(&mut self, handle: Handle, reason: CloseReason) {
        let state = self.states[handle.number() as usize];
        if !state.failed {
            match reason {
                CloseReason::Graceful if state.answered => self.meter.completed(Instant::now()),
                CloseReason::Reset if state.answered && self.peer_resets => self.meter.completed(Instant::now()),
                reason => self.meter.errors(error_of(reason), 1),
            }
        }
    }
}

impl Metered for Server {
    fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    fn began(&self) -> Option<Instant> {
        self.began
    }
}

impl Application for Server {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Accepted { handle, .. } => self.on_accepted(handle),
            Event::Readable { handle, bytes } => self.on_readable(calls, handle, bytes),
            Event::PeerClosed { handle } if self.closer == Closer::Client => self.close(calls, handle),
            Event::Closed { handle, reason } => self.on_closed(handle, reason),
            Event::PeerClosed { .. } | Event::Connected { .. } | Event::Writable { .. } => {}
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } | Event::Timer { .. } => {}
        }
    }

    fn on_turn(&mut self, _: &mut Calls<'_>) {
        self.meter.tick(Instant::now());
    }
}

impl Service for Server {
    fn start(&mut self, calls: &mut Calls<'_>) -> Result<(), ListenError> {
        listen(self.at, self.ports, calls)
    }
}

impl Part for Server {
    fn counted(self) -> Counted {
        Counted { meter: self.meter, old_bytes: (self.ledger.old_bytes, self.ledger.with_old_bytes) }
    }
}

/// A connection of which nothing has come yet.
const NEW: State = State { incoming: Incoming::NONE, answered: false, failed: false };
