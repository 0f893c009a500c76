//! The client of the baseline: a closed loop that keeps a number of connections in flight, or an open loop at a steady rate.

use super::settings::Settings;
use super::sys::{self, Epoll, More, Ready, Trigger};
use super::{BATCH, SPARE_FILES, Slab, WAIT};
use crate::failure::Failure;
use crate::lines::{Final, TimeWait};
use crate::meter::{Meter, Pace};
use crate::payload::{Identity, Incoming, Side, Taken, fill};
use crate::policy::Tw;
use crate::proc::{CpuTime, NetCounters, Threads, interface_frames, mac, time_wait_now};
use crate::role::{Closer, ErrorKind, RoleArgs, Stop};
use crate::waited;
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
    Settings::apply(args)?;
    let (counters, frames) = (NetCounters::read()?, interface_frames(&args.interface)?);
    let mut client = Client::new(args)?;
    let ready = crate::lines::Ready { mac: mac(&args.interface), ..crate::lines::Ready::default() };
    waited::ready(ready, Some(Threads::Main));
    client.meter.restart();
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
    open: bool,
    incoming: Incoming,
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
    pace: Pace,
    /// After a refusal in the closed loop: when to try again.
    patient_until: Instant,
    meter: Meter,
    cpu: CpuTime,
    settings: Settings,
    request: Vec<u8>,
    scratch: Vec<u8>,
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
            pace: Pace::new(args.rate),
            patient_until: Instant::now(),
            meter: Meter::start(Duration::from_millis(args.warmup_ms), Duration::from_millis(args.duration_ms))?,
            cpu: CpuTime::new(args.cpu),
            settings: Settings::new(args),
            request: vec![0; args.payload.request as usize],
            scratch: vec![0; args.payload.response as usize + 1],
        })
    }

    fn run_until_drained(&mut self, stop: &Stop) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            self.meter.tick(now);
            self.observe(now)?;
            if self.meter.is_open(now) || self.pace.is_late(&self.meter) {
                self.open_due(now);
            } else if self.in_flight() == 0 {
                break;
            }
            if self.meter.is_drained(now) {
                break;
            }
            if stop.asked() {
                return Err(Failure::interrupted());
            }
            let found =
                self.epoll.wait(self.wait(now)).map_err(|error| Failure::failed(format!("epoll_wait: {error}")))?;
            for index in 0..found {
                if let Some(ready) = self.epoll.ready(index) {
                    self.on_ready(ready);
                }
            }
        }
        for _ in 0..self.in_flight() + self.pace.overdue(&self.meter) {
            self.meter.failed(ErrorKind::Unfinished, self.meter.window().0);
        }
        Ok(())
    }

    fn in_flight(&self) -> u64 {
        u64::from(self.args.conns) - self.idle.len() as u64
    }

    /// Takes a sample if one is due, and puts the phase's setting into force.
    fn observe(&mut self, now: Instant) -> Result<(), Failure> {
        self.settings.follow(self.args, now.duration_since(self.meter.started()))?;
        if self.meter.sample_is_due(now) {
            let (in_flight, busy) = (self.in_flight(), self.cpu.busy());
            self.meter.sample(now, time_wait_now(), in_flight, busy);
        }
        Ok(())
    }

    /// How long nothing needs to be done unless an event comes.
    fn wait(&self, now: Instant) -> Duration {
        if !self.meter.is_open(now) || self.idle.is_empty() {
            return WAIT;
        }
        let until = |at: Instant| at.saturating_duration_since(now).min(WAIT);
        match self.pace.next(&self.meter) {
            Some(at) => until(at),
            None => until(self.patient_until),
        }
    }

    /// Opens what is due as far as there are slots. In the closed loop what is refused is tried again later.
    fn open_due(&mut self, now: Instant) {
        if now < self.patient_until {
            return;
        }
        while let Some(since) = self.pace.due(&self.meter, now)
            && let Some(slot) = self.idle.pop()
        {
            let opened = self.open(slot, since);
            if opened.is_ok() || self.pace.is_open_loop() {
                self.pace.advance();
            }
            let Err(error) = opened else { continue };
            self.idle.insert(0, slot);
            if self.pace.is_open_loop() {
                self.meter.failed(ErrorKind::of_io(&error), now);
                // Each refusal has cost the kernel a search of all ports: the clock has gone on.
                return;
            }
            self.meter.errors(ErrorKind::of_io(&error), 1);
            self.patient_until = now + PATIENCE;
            return;
        }
    }

    fn open(&mut self, slot: u32, since: Instant) -> io::Result<()> {
        let fd = sys::tcp_socket()?;
        sys::set_option(fd.as_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
        sys::bind(fd.as_fd(), SocketAddrV4::new(self.args.source_address(self.opened), 0))?;
        let remote = self.args.destination(self.opened);
        self.opened = self.opened.wrapping_add(1);
        // The ACK of the SYN-ACK then rides on the request.
        sys::set_option(fd.as_fd(), libc::IPPROTO_TCP, libc::TCP_QUICKACK, 0)?;
        sys::room_to_send(fd.as_fd(), self.args.payload.request)?;
        if self.args.tw == Tw::RstClose {
            sys::reset_on_close(fd.as_fd())?;
        }
        self.incarnations[slot as usize] += 1;
        sys::connect(fd.as_fd(), remote)?;
        self.epoll.add(fd.as_fd(), fd.as_raw_fd() as u64, Trigger::Edge)?;
        let raw = fd.as_raw_fd();
        self.connections.insert(raw, Connection { fd, since, slot, open: false, incoming: Incoming::NONE });
        Ok(())
    }

    fn on_ready(&mut self, ready: Ready) {
        let Client { args, connections, incarnations, meter, request, scratch, .. } = self;
        let Some(connection) = connections.get_mut(ready.token) else { return };
        let slot = connection.slot;
        let identity = Identity { connection: u64::from(slot), incarnation: incarnations[slot as usize] };
        let step = connection.step(ready, identity, args, meter, request, scratch);
        let step = step.unwrap_or_else(|error| Step::Failed(ErrorKind::of_io(&error)));
        let open = connection.open;
        match step {
            Step::Waits => return,
            Step::Complete => {
                connections.remove(ready.token);
                meter.completed(Instant::now());
            }
            Step::Failed(kind) => {
                connections.remove(ready.token);
                if open { meter.errors(kind, 1) } else { meter.failed(kind, Instant::now()) }
            }
        }
        self.idle.push(slot);
    }
}

impl Connection {
    /// Handshake, request, response, close, as far as this event allows. Dropping the connection closes it.
    fn step(
        &mut self,
        ready: Ready,
        identity: Identity,
        args: &RoleArgs,
        meter: &mut Meter,
        request: &mut [u8],
        scratch: &mut [u8],
    ) -> io::Result<Step> {
        if ready.failed {
            sys::take_error(self.fd.as_fd())?;
        }
        if !self.open && ready.writable {
            self.open = true;
            meter.connected(self.since, Instant::now());
            fill(identity, Side::Request, 0, request);
            if sys::send(self.fd.as_fd(), request, More::No)? != Some(request.len()) {
                return Ok(Step::Failed(ErrorKind::Other));
            }
        }
        if !self.open || !ready.readable {
            return Ok(Step::Waits);
        }
        let len = args.payload.response;
        while self.incoming.received() < len {
            let count = match sys::recv(self.fd.as_fd(), scratch)? {
                None => return Ok(Step::Waits),
                Some(0) => return Ok(Step::Failed(ErrorKind::WrongLength)),
                Some(count) => count,
            };
            match self.incoming.take(identity, Side::Response, len, &scratch[..count]) {
                Taken::More | Taken::Complete(_) => {}
                Taken::Wrong => return Ok(Step::Failed(ErrorKind::WrongByte)),
                Taken::TooMany => return Ok(Step::Failed(ErrorKind::WrongLength)),
            }
        }
        match args.closer {
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
/// How long the closed loop waits when nothing could be opened.
const PATIENCE: Duration = Duration::from_millis(1);
