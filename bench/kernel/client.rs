//! The client of the baseline: a closed loop that keeps a number of connections in flight.

use super::sys::{self, Epoll, More, Ready, Trigger};
use super::{BATCH, SPARE_FILES, Slab, WAIT_MS};
use crate::failure::Failure;
use crate::lines::{Final, Line, TimeWait, tell};
use crate::payload::{Identity, PAYLOAD_BYTES, check_response, request};
use crate::proc::{NetCounters, interface_frames};
use crate::role::{Closer, ErrorKind, Meter, RoleArgs, Stop};
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Runs until the window is over and the last connection is closed.
pub(crate) fn run(args: &RoleArgs) -> Result<Final, Failure> {
    let stop = Stop::begin(args.cpu)?;
    let limit = sys::raise_open_files(u64::from(args.conns) + SPARE_FILES);
    limit
        .map_err(|error| Failure::environment(format!("cannot raise the limit on open files: {error}; run as root")))?;
    let (counters, frames) = (NetCounters::read()?, interface_frames(&args.interface)?);
    let mut client = Client::new(args)?;
    tell(&Line::Ready(crate::lines::Ready::default()));
    client.run_until_drained(&stop)?;
    let result = client.meter.result();
    let elapsed = client.meter.elapsed(Instant::now());
    drop(client);
    std::thread::sleep(SETTLE);
    let after = NetCounters::read()?;
    Ok(Final {
        frames_total: interface_frames(&args.interface)? - frames,
        time_wait: TimeWait::of_kernel(&counters, &after, elapsed),
        counters: after.grown_since(&counters),
        ..result
    })
}

struct Connection {
    fd: OwnedFd,
    since: Instant,
    slot: u32,
    received: u8,
    open: bool,
    bytes: [u8; PAYLOAD_BYTES],
}

struct Client<'a> {
    args: &'a RoleArgs,
    epoll: Epoll,
    connections: Slab<Connection>,
    /// Slots that have no connection.
    idle: Vec<u32>,
    /// Uses of each slot.
    incarnations: Vec<u64>,
    opened: u32,
    meter: Meter,
}

/// What an event did to a connection.
enum Step {
    Waits,
    Complete,
    Failed(ErrorKind),
}

impl<'a> Client<'a> {
    fn new(args: &'a RoleArgs) -> Result<Client<'a>, Failure> {
        let epoll = Epoll::new(BATCH).map_err(|error| Failure::failed(format!("epoll: {error}")))?;
        Ok(Client {
            args,
            epoll,
            connections: Slab::new(args.conns as usize + SPARE_FILES as usize),
            idle: (0..args.conns).rev().collect(),
            incarnations: vec![0; args.conns as usize],
            opened: 0,
            meter: Meter::start(Duration::from_millis(args.warmup_ms), Duration::from_millis(args.duration_ms))?,
        })
    }

    fn run_until_drained(&mut self, stop: &Stop) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            self.meter.tick(now);
            if self.meter.is_open(now) {
                self.open_idle();
            } else if self.idle.len() == self.args.conns as usize || self.meter.is_drained(now) {
                break;
            }
            if stop.asked() {
                return Err(Failure::interrupted());
            }
            let found = self.epoll.wait(WAIT_MS).map_err(|error| Failure::failed(format!("epoll_wait: {error}")))?;
            for index in 0..found {
                if let Some(ready) = self.epoll.ready(index) {
                    self.on_ready(ready);
                }
            }
        }
        let unfinished = u64::from(self.args.conns) - self.idle.len() as u64;
        self.meter.errors(ErrorKind::Unfinished, unfinished);
        Ok(())
    }

    /// Opens a connection for every idle slot. One that fails stays idle until the next call.
    fn open_idle(&mut self) {
        for _ in 0..self.idle.len() {
            let Some(slot) = self.idle.pop() else { return };
            if let Err(error) = self.open(slot) {
                self.meter.errors(ErrorKind::of_io(&error), 1);
                self.idle.insert(0, slot);
                return;
            }
        }
    }

    fn open(&mut self, slot: u32) -> io::Result<()> {
        let fd = sys::tcp_socket()?;
        sys::set_option(fd.as_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        sys::bind(fd.as_fd(), SocketAddrV4::new(self.args.source_address(self.opened), 0))?;
        self.opened = self.opened.wrapping_add(1);
        // The ACK of the SYN-ACK then rides on the request.
        sys::set_option(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_QUICKACK, 0)?;
        self.incarnations[slot as usize] += 1;
        let since = Instant::now();
        sys::connect(fd.as_fd(), self.args.server)?;
        self.epoll.add(fd.as_fd(), fd.as_raw_fd() as u64, Trigger::Edge)?;
        let raw = fd.as_raw_fd();
        self.connections
            .insert(raw, Connection { fd, since, slot, received: 0, open: false, bytes: [0; PAYLOAD_BYTES] });
        Ok(())
    }

    fn on_ready(&mut self, ready: Ready) {
        let Some(connection) = self.connections.get_mut(ready.token) else { return };
        let slot = connection.slot;
        let identity = Identity { connection: u64::from(slot), incarnation: self.incarnations[slot as usize] };
        let step = connection.step(ready, identity, self.args.closer, &mut self.meter);
        let step = step.unwrap_or_else(|error| Step::Failed(ErrorKind::of_io(&error)));
        match step {
            Step::Waits => return,
            Step::Complete => {
                self.connections.remove(ready.token);
                self.meter.completed(Instant::now());
            }
            Step::Failed(kind) => {
                self.connections.remove(ready.token);
                self.meter.errors(kind, 1);
            }
        }
        self.idle.push(slot);
    }
}

impl Connection {
    /// Handshake, request, response, close, as far as this event allows. Dropping the connection closes it.
    fn step(&mut self, ready: Ready, identity: Identity, closer: Closer, meter: &mut Meter) -> io::Result<Step> {
        if ready.failed {
            sys::take_error(self.fd.as_fd())?;
        }
        if !self.open && ready.writable {
            self.open = true;
            meter.connected(self.since, Instant::now());
            if sys::send(self.fd.as_fd(), &request(identity), More::No)? != Some(PAYLOAD_BYTES) {
                return Ok(Step::Failed(ErrorKind::Other));
            }
        }
        if !self.open || !ready.readable {
            return Ok(Step::Waits);
        }
        let have = usize::from(self.received);
        if have < PAYLOAD_BYTES {
            match sys::recv(self.fd.as_fd(), &mut self.bytes[have..])? {
                None => return Ok(Step::Waits),
                Some(0) => return Ok(Step::Failed(ErrorKind::WrongLength)),
                Some(count) => self.received += count as u8,
            }
            if usize::from(self.received) < PAYLOAD_BYTES {
                return Ok(Step::Waits);
            }
            if !check_response(&self.bytes, identity) {
                return Ok(Step::Failed(ErrorKind::WrongByte));
            }
        }
        match closer {
            Closer::Client => Ok(Step::Complete),
            Closer::Server if ready.peer_closed => self.end_of_stream(),
            Closer::Server => Ok(Step::Waits),
        }
    }

    /// The peer has sent FIN: nothing may be left before it.
    fn end_of_stream(&mut self) -> io::Result<Step> {
        let mut more = [0; 1];
        Ok(match sys::recv(self.fd.as_fd(), &mut more)? {
            Some(0) => Step::Complete,
            None => Step::Waits,
            Some(_) => Step::Failed(ErrorKind::WrongLength),
        })
    }
}

/// How long the last FINs and ACKs may take after the last close.
const SETTLE: Duration = Duration::from_millis(100);
