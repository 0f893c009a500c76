//! The server of the baseline: one request, one response, then the close.

use super::sys::{self, Epoll, More, Ready, Trigger};
use super::{BATCH, SPARE_FILES, Slab, WAIT};
use crate::failure::Failure;
use crate::lines::{Final, TimeWait};
use crate::meter::Meter;
use crate::payload::{Incoming, Ledger, Side, Taken, fill};
use crate::policy::Tw;
use crate::proc::{CpuTime, NetCounters, Threads, interface_frames, mac, time_wait_now};
use crate::role::{Closer, ErrorKind, RoleArgs, Stop};
use crate::waited;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Serves until the orchestrator closes standard input.
pub(crate) fn run(args: &RoleArgs) -> Result<Final, Failure> {
    let stop = Stop::begin(args.cpu)?;
    let limit = sys::raise_open_files(2 * u64::from(args.conns) + u64::from(args.dst_ports) + SPARE_FILES);
    limit
        .map_err(|error| Failure::environment(format!("cannot raise the limit on open files: {error}; run as root")))?;
    let (counters, frames) = (NetCounters::read()?, interface_frames(&args.interface)?);
    let mut server = Server::new(args)?;
    let ready = crate::lines::Ready { mac: mac(&args.interface), ..crate::lines::Ready::default() };
    waited::ready(ready, Some(Threads::Main));
    server.run(&stop)?;
    let after = NetCounters::read()?;
    let Ledger { old_bytes, with_old_bytes, .. } = server.work.ledger;
    Ok(Final {
        old_bytes,
        with_old_bytes,
        frames_total: interface_frames(&args.interface)? - frames,
        time_wait: TimeWait::of_kernel(&counters, &after, server.meter.elapsed(Instant::now())),
        counters: after.grown_since(&counters),
        ..server.meter.result()
    })
}

struct Connection {
    fd: OwnedFd,
    incoming: Incoming,
    answered: bool,
}

struct Server<'a> {
    args: &'a RoleArgs,
    listeners: Vec<OwnedFd>,
    epoll: Epoll,
    connections: Slab<Connection>,
    meter: Meter,
    cpu: CpuTime,
    in_use: u64,
    work: Work,
}

/// What every connection works with.
struct Work {
    ledger: Ledger,
    scratch: Vec<u8>,
    response: Vec<u8>,
}

/// What an event did to a connection.
enum Step {
    Waits,
    Complete,
    Failed(ErrorKind),
}

impl<'a> Server<'a> {
    fn new(args: &'a RoleArgs) -> Result<Server<'a>, Failure> {
        let epoll = Epoll::new(BATCH).map_err(|error| Failure::failed(format!("epoll: {error}")))?;
        let mut listeners = Vec::new();
        for port in args.server.port()..args.server.port().saturating_add(args.dst_ports.max(1)) {
            let address = SocketAddrV4::new(*args.server.ip(), port);
            let listener = listen(address, args).map_err(|error| {
                Failure::environment(format!("cannot listen on {address}: {error}; is the address on the interface?"))
            })?;
            epoll
                .add(listener.as_fd(), listener.as_raw_fd() as u64, Trigger::LevelIn)
                .map_err(|error| Failure::failed(format!("epoll: {error}")))?;
            listeners.push(listener);
        }
        Ok(Server {
            args,
            listeners,
            epoll,
            connections: Slab::new(2 * args.conns as usize + SPARE_FILES as usize),
            meter: Meter::start(Duration::ZERO, Duration::from_millis(args.warmup_ms + args.duration_ms))?,
            cpu: CpuTime::new(args.cpu),
            in_use: 0,
            work: Work {
                ledger: Ledger::default(),
                scratch: vec![0; args.payload.request as usize + 1],
                response: vec![0; args.payload.response as usize],
            },
        })
    }

    fn run(&mut self, stop: &Stop) -> Result<(), Failure> {
        while !stop.asked() {
            let now = Instant::now();
            self.meter.tick(now);
            if self.meter.sample_is_due(now) {
                let busy = self.cpu.busy();
                self.meter.sample(now, time_wait_now(), self.in_use, busy);
            }
            let found = self.epoll.wait(WAIT).map_err(|error| Failure::failed(format!("epoll_wait: {error}")))?;
            for index in 0..found {
                let Some(ready) = self.epoll.ready(index) else { continue };
                match self.listeners.iter().position(|listener| listener.as_raw_fd() as u64 == ready.token) {
                    Some(listener) => self.accept_waiting(listener),
                    None => self.on_ready(ready),
                }
            }
        }
        Ok(())
    }

    /// Accepts at most a batch, and goes as far with each as what has arrived allows.
    fn accept_waiting(&mut self, listener: usize) {
        for _ in 0..BATCH {
            match sys::accept(self.listeners[listener].as_fd()) {
                Ok(Some(fd)) => self.begin(Connection { fd, incoming: Incoming::NONE, answered: false }),
                Ok(None) => return,
                Err(error) => return self.meter.errors(ErrorKind::of_io(&error), 1),
            }
        }
    }

    fn begin(&mut self, mut connection: Connection) {
        waited::first_connection();
        let step = connection.step(self.args, &mut self.work);
        if !self.ended(&connection, &step) {
            let raw = connection.fd.as_raw_fd();
            match self.epoll.add(connection.fd.as_fd(), raw as u64, Trigger::EdgeIn) {
                Ok(()) => {
                    self.connections.insert(raw, connection);
                    self.in_use += 1;
                }
                Err(error) => self.meter.errors(ErrorKind::of_io(&error), 1),
            }
        }
    }

    fn on_ready(&mut self, ready: Ready) {
        let Some(connection) = self.connections.get_mut(ready.token) else { return };
        let step = connection.step(self.args, &mut self.work);
        if matches!(step, Ok(Step::Waits)) {
            return;
        }
        if let Some(connection) = self.connections.remove(ready.token) {
            self.in_use -= 1;
            self.ended(&connection, &step);
        }
    }

    /// Counts the end of a connection; `false` if it goes on.
    fn ended(&mut self, connection: &Connection, step: &io::Result<Step>) -> bool {
        let kind = match step {
            Ok(Step::Waits) => return false,
            Ok(Step::Complete) => None,
            Ok(Step::Failed(kind)) => Some(*kind),
            Err(error) => Some(ErrorKind::of_io(error)),
        };
        match kind {
            // That is how this client closes.
            Some(ErrorKind::Reset) if connection.answered && self.args.tw == Tw::RstClose => {
                self.meter.completed(Instant::now());
            }
            Some(kind) => self.meter.errors(kind, 1),
            None => self.meter.completed(Instant::now()),
        }
        true
    }
}

fn listen(address: SocketAddrV4, args: &RoleArgs) -> io::Result<OwnedFd> {
    let listener = sys::tcp_socket()?;
    sys::set_option(listener.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    sys::room_to_send(listener.as_fd(), args.payload.response)?;
    sys::bind(listener.as_fd(), address)?;
    sys::set_option(listener.as_fd(), libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, DEFER_ACCEPT_S)?;
    sys::listen(listener.as_fd(), BACKLOG)?;
    Ok(listener)
}

impl Connection {
    /// Request, response, close, as far as what has arrived allows.
    fn step(&mut self, args: &RoleArgs, work: &mut Work) -> io::Result<Step> {
        let len = args.payload.request;
        while !self.answered {
            let count = match sys::recv(self.fd.as_fd(), &mut work.scratch)? {
                None => return Ok(Step::Waits),
                Some(0) => return Ok(Step::Failed(ErrorKind::WrongLength)),
                Some(count) => count,
            };
            let bytes = &work.scratch[..count];
            match self.incoming.take_from_anyone(Side::Request, len, bytes) {
                Taken::More => {}
                Taken::Wrong => {
                    work.ledger.wrong(self.incoming.identity(), len, bytes);
                    return Ok(Step::Failed(ErrorKind::WrongByte));
                }
                Taken::TooMany => return Ok(Step::Failed(ErrorKind::WrongLength)),
                Taken::Complete(identity) => {
                    work.ledger.complete(identity, len);
                    self.answered = true;
                    fill(identity, Side::Response, 0, &mut work.response);
                    // With the server closing first the FIN rides on the response.
                    let more = if args.closer == Closer::Server { More::Follows } else { More::No };
                    if sys::send(self.fd.as_fd(), &work.response, more)? != Some(work.response.len()) {
                        return Ok(Step::Failed(ErrorKind::Other));
                    }
                    return Ok(if args.closer == Closer::Server { Step::Complete } else { Step::Waits });
                }
            }
        }
        self.end_of_stream()
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
