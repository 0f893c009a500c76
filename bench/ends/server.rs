//! The server: one request, one response, then the close.

use super::{End, Incoming, error_of};
use crate::failure::Failure;
use crate::lines::Final;
use crate::payload::{check_request, response};
use crate::role::{Closer, ErrorKind, Meter, RoleArgs, Stop};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use synfin::api::{Application, CloseReason, Event};
use synfin::ids::Handle;
use synfin::shard::Calls;

/// Serves until the orchestrator closes standard input.
pub(crate) fn run(args: &RoleArgs) -> Result<Final, Failure> {
    let stop = Stop::begin(args.cpu)?;
    let address = *args.server.ip();
    let mut end = End::new(args, Server::new(args)?, vec![address], &[(address, 32)])?;
    let now = end.now();
    let listening = end.shard.calls(now).listen(IpAddr::V4(address), args.server.port());
    listening.map_err(|error| Failure::environment(format!("cannot listen on {}: {error}", args.server)))?;
    end.tell_ready();
    end.turn_while(|_| !stop.asked());
    end.result(end.shard.application().meter.result())
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

/// The application.
pub(crate) struct Server {
    closer: Closer,
    meter: Meter,
    /// By number of the handle; grows to the most connections that there ever were at once.
    states: Vec<State>,
}

impl Server {
    /// A server without connections.
    pub(crate) fn new(args: &RoleArgs) -> Result<Server, Failure> {
        let meter = Meter::start(Duration::ZERO, Duration::from_millis(args.warmup_ms + args.duration_ms))?;
        Ok(Server { closer: args.closer, meter, states: vec![NEW; 4 * args.conns as usize] })
    }

    /// Its errors so far, by kind.
    pub(crate) fn errors(&self) -> BTreeMap<String, u64> {
        self.meter.result().errors
    }

    fn on_accepted(&mut self, handle: Handle) {
        let number = handle.number() as usize;
        if number >= self.states.len() {
            self.states.resize(number + 1, NEW);
        }
        self.states[number] = NEW;
    }

    fn on_readable(&mut self, calls: &mut Calls<'_>, handle: Handle, bytes: &[u8]) {
        let state = &mut self.states[handle.number() as usize];
        let complete = state.incoming.take(bytes);
        if calls.consume(handle, bytes.len()).is_err() {
            return self.fail(calls, handle, ErrorKind::Other);
        }
        match complete {
            Some(true) if !bytes.is_empty() => self.answer(calls, handle),
            Some(_) => {}
            None => self.fail(calls, handle, ErrorKind::WrongLength),
        }
    }

    fn answer(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        let state = &mut self.states[handle.number() as usize];
        let Some(identity) = check_request(&state.incoming.bytes) else {
            return self.fail(calls, handle, ErrorKind::WrongByte);
        };
        state.answered = true;
        let response = response(identity);
        if calls.send(handle, &response) != Ok(response.len()) {
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
                reason => self.meter.errors(error_of(reason), 1),
            }
        }
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

/// A connection of which nothing has come yet.
const NEW: State = State { incoming: Incoming::NONE, answered: false, failed: false };
