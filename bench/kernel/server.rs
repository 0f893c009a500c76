//! The server of the baseline: one request, one response, then the close.

use super::sys::{self, Epoll, More, Ready, Trigger};
use super::{BATCH, SPARE_FILES, Slab, WAIT_MS};
use crate::failure::Failure;
use crate::lines::{Final, Line, TimeWait, tell};
use crate::payload::{PAYLOAD_BYTES, check_request, response};
use crate::proc::{NetCounters, interface_frames};
use crate::role::{Closer, ErrorKind, Meter, RoleArgs, Stop};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Serves until the orchestrator closes standard input.
pub(crate) fn run(args: &RoleArgs) -> Result<Final, Failure> {
    let stop = Stop::begin(args.cpu)?;
    let limit = sys::raise_open_files(2 * u64::from(args.conns) + SPARE_FILES);
    limit
        .map_err(|error| Failure::environment(format!("cannot raise the limit on open files: {error}; run as root")))?;
    let (counters, frames) = (NetCounters::read()?, interface_frames(&args.interface)?);
    let mut server = Server::new(args)?;
    tell(&Line::Ready(crate::lines::Ready::default()));
    server.run(&stop)?;
    let after = NetCounters::read()?;
    Ok(Final {
        frames_total: interface_frames(&args.interface)? - frames,
        time_wait: TimeWait::of_kernel(&counters, &after, server.meter.elapsed(Instant::now())),
        counters: after.grown_since(&counters),
        ..server.meter.result()
    })
}

struct Connection {
    fd: OwnedFd,
    received: u8,
    bytes: [u8; PAYLOAD_BYTES],
}

struct Server<'a> {
    args: &'a RoleArgs,
    listener: OwnedFd,
    epoll: Epoll,
    connections: Slab<Connection>,
    meter: Meter,
}

/// What an event did to a connection.
enum Step {
    Waits,
    Complete,
    Failed(ErrorKind),
}

impl<'a> Server<'a> {
    fn new(args: &'a RoleArgs) -> Result<Server<'a>, Failure> {
        let refused = |error: io::Error| {
            Failure::environment(format!("cannot listen on {}: {error}; is the address on the interface?", args.server))
        };
        let listener = sys::tcp_socket().map_err(refused)?;
        sys::set_option(listener.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1).map_err(refused)?;
        sys::bind(listener.as_fd(), args.server).map_err(refused)?;
        sys::set_option(listener.as_fd(), libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, DEFER_ACCEPT_S)
            .map_err(refused)?;
        sys::listen(listener.as_fd(), BACKLOG).map_err(refused)?;
        let epoll = Epoll::new(BATCH).map_err(refused)?;
        epoll.add(listener.as_fd(), listener.as_raw_fd() as u64, Trigger::LevelIn).map_err(refused)?;
        let connections = Slab::new(2 * args.conns as usize + SPARE_FILES as usize);
        let meter = Meter::start(Duration::ZERO, Duration::from_millis(args.warmup_ms + args.duration_ms))?;
        Ok(Server { args, listener, epoll, connections, meter })
    }

    fn run(&mut self, stop: &Stop) -> Result<(), Failure> {
        while !stop.asked() {
            self.meter.tick(Instant::now());
            let found = self.epoll.wait(WAIT_MS).map_err(|error| Failure::failed(format!("epoll_wait: {error}")))?;
            for index in 0..found {
                match self.epoll.ready(index) {
                    Some(ready) if ready.token == self.listener.as_raw_fd() as u64 => self.accept_waiting(),
                    Some(ready) => self.on_ready(ready),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Accepts at most a batch, and goes as far with each as what has arrived allows.
    fn accept_waiting(&mut self) {
        for _ in 0..BATCH {
            match sys::accept(self.listener.as_fd()) {
                Ok(Some(fd)) => self.begin(Connection { fd, received: 0, bytes: [0; PAYLOAD_BYTES] }),
                Ok(None) => return,
                Err(error) => return self.meter.errors(ErrorKind::of_io(&error), 1),
            }
        }
    }

    fn begin(&mut self, mut connection: Connection) {
        let step = connection.step(self.args.closer);
        match step.unwrap_or_else(|error| Step::Failed(ErrorKind::of_io(&error))) {
            Step::Complete => self.meter.completed(Instant::now()),
            Step::Failed(kind) => self.meter.errors(kind, 1),
            Step::Waits => {
                let raw = connection.fd.as_raw_fd();
                match self.epoll.add(connection.fd.as_fd(), raw as u64, Trigger::EdgeIn) {
                    Ok(()) => self.connections.insert(raw, connection),
                    Err(error) => self.meter.errors(ErrorKind::of_io(&error), 1),
                }
            }
        }
    }

    fn on_ready(&mut self, ready: Ready) {
        let Some(connection) = self.connections.get_mut(ready.token) else { return };
        let step = connection.step(self.args.closer);
        match step.unwrap_or_else(|error| Step::Failed(ErrorKind::of_io(&error))) {
            Step::Waits => return,
            Step::Complete => self.meter.completed(Instant::now()),
            Step::Failed(kind) => self.meter.errors(kind, 1),
        }
        self.connections.remove(ready.token);
    }
}

impl Connection {
    /// Request, response, close, as far as what has arrived allows. Dropping the connection closes it.
    fn step(&mut self, closer: Closer) -> io::Result<Step> {
        let have = usize::from(self.received);
        if have == PAYLOAD_BYTES {
            return self.end_of_stream();
        }
        match sys::recv(self.fd.as_fd(), &mut self.bytes[have..])? {
            None => return Ok(Step::Waits),
            Some(0) => return Ok(Step::Failed(ErrorKind::WrongLength)),
            Some(count) => self.received += count as u8,
        }
        if usize::from(self.received) < PAYLOAD_BYTES {
            return Ok(Step::Waits);
        }
        let Some(identity) = check_request(&self.bytes) else { return Ok(Step::Failed(ErrorKind::WrongByte)) };
        let more = if closer == Closer::Server { More::Follows } else { More::No };
        if sys::send(self.fd.as_fd(), &response(identity), more)? != Some(PAYLOAD_BYTES) {
            return Ok(Step::Failed(ErrorKind::Other));
        }
        Ok(if closer == Closer::Server { Step::Complete } else { Step::Waits })
    }

    /// The client closes first: nothing may come before its FIN.
    fn end_of_stream(&mut self) -> io::Result<Step> {
        let mut more = [0; 1];
        Ok(match sys::recv(self.fd.as_fd(), &mut more)? {
            Some(0) => Step::Complete,
            None => Step::Waits,
            Some(_) => Step::Failed(ErrorKind::WrongLength),
        })
    }
}

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 65_535;
/// How long the kernel may hold a connection back until its request has come, s.
const DEFER_ACCEPT_S: i32 = 5;
