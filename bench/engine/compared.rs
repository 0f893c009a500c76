//! smoltcp doing the same lifecycles in the same run: both ends on one thread, in memory, virtual time.
//!
//! Made to be fair to it: buffers of 128 B (a lifecycle moves 64 B each way), Nagle off, no delayed ACK (the
//! application acts between taking and giving, so ACKs ride on data and FIN anyway), checksums computed and verified at
//! both ends as in synfin, frames passed by exchanging buffers and never copied. Sockets are reused in place, and
//! applications look at their live sockets only.
//!
//! Its TIME-WAIT is a socket with its pair of buffers, for 10 s. It is measured twice: with TIME-WAIT cut short at once
//! by `abort`, which is less work than synfin does; and with a number of sockets kept in TIME-WAIT, of which the oldest
//! is aborted for each connection that opens. Those cost it what sockets cost: it looks each segment's up one by one,
//! and asks all of them what they owe.

use super::world::{Sample, TURNS_PER_CLOCK};
use smoltcp::iface::{Config, Interface, PollIngressSingleResult, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant as Time;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Both ends of smoltcp.
pub(crate) struct Smoltcp {
    client: End,
    server: End,
    /// The client's live connections: the socket of each, and where it stands in its lifecycle.
    live: Vec<(usize, Phase)>,
    /// The client's other sockets: first those that were never used, then those in TIME-WAIT, the oldest first.
    waiting: VecDeque<usize>,
    next_port: u16,
    now_us: i64,
    closed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Asked,
    Closing,
    Acknowledging,
}

impl Smoltcp {
    /// As many sockets at each end as connections are open at a time; the server has a few more, that listen meanwhile, and the
    /// client `time_wait` more, all of which are in TIME-WAIT when this returns.
    pub(crate) fn new(connections: usize, time_wait: usize) -> Result<Smoltcp, String> {
        let mut smoltcp = Smoltcp {
            client: End::new(1, connections + time_wait),
            server: End::new(2, connections + connections / 4 + 4),
            live: (0..connections).map(|socket| (socket, Phase::Opening)).collect(),
            waiting: (connections..connections + time_wait).collect(),
            next_port: PORT_FIRST,
            now_us: 0,
            closed: 0,
        };
        for at in 0..smoltcp.server.handles.len() {
            smoltcp.server.socket(at).listen(80).map_err(|error| format!("smoltcp: {error}"))?;
        }
        for at in 0..connections {
            smoltcp.open(at)?;
        }
        // Each lifecycle that ends puts one socket into TIME-WAIT.
        while smoltcp.closed < time_wait as u64 {
            smoltcp.turn()?;
        }
        Ok(smoltcp)
    }

    /// Sockets in TIME-WAIT beside those of live connections.
    pub(crate) fn time_wait(&mut self) -> usize {
        let Smoltcp { client, waiting, .. } = self;
        waiting.iter().filter(|&&socket| client.socket(socket).state() == State::TimeWait).count()
    }

    /// Measures lifecycles for `duration`.
    pub(crate) fn measure(&mut self, duration: Duration) -> Result<Sample, String> {
        let (closed, frames, begun) = (self.closed, self.frames(), Instant::now());
        while begun.elapsed() < duration {
            for _ in 0..TURNS_PER_CLOCK {
                self.turn()?;
            }
        }
        let (closed, frames, took) = (self.closed - closed, self.frames() - frames, begun.elapsed());
        if closed == 0 {
            return Err("smoltcp: no connection ended within a round".into());
        }
        Ok(Sample {
            lifecycles_per_second: closed as f64 / took.as_secs_f64(),
            ns_per_segment: took.as_nanos() as f64 / frames as f64,
            segments_per_lifecycle: frames as f64 / closed as f64,
        })
    }

    /// Each end takes what has arrived, its application acts, and what is owed leaves.
    fn turn(&mut self) -> Result<(), String> {
        self.now_us += 10;
        let now = Time::from_micros(self.now_us);
        self.client.take(now);
        for at in 0..self.live.len() {
            self.act(at)?;
        }
        self.client.give(now);
        std::mem::swap(&mut self.client.device.sent, &mut self.server.device.received);
        self.server.take(now);
        for at in 0..self.server.handles.len() {
            self.server.serve(at)?;
        }
        self.server.give(now);
        std::mem::swap(&mut self.server.device.sent, &mut self.client.device.received);
        std::mem::swap(&mut self.client.device.spare, &mut self.server.device.spare);
        Ok(())
    }

    /// The client's application on one connection.
    fn act(&mut self, at: usize) -> Result<(), String> {
        let (socket, phase) = &mut self.live[at];
        let socket = self.client.socket(*socket);
        match (*phase, socket.state()) {
            (Phase::Opening, State::Established) => {
                socket.send_slice(&REQUEST).map_err(|error| format!("smoltcp: {error}"))?;
                *phase = Phase::Asked;
            }
            (Phase::Asked, _) if socket.can_recv() => {
                let mut answer = [0; 64];
                let len = socket.recv_slice(&mut answer).map_err(|error| format!("smoltcp: {error}"))?;
                if answer[..len] != REQUEST {
                    return Err("smoltcp: the answer is not the request".into());
                }
                socket.close();
                *phase = Phase::Closing;
            }
            (Phase::Closing, State::TimeWait) => *phase = Phase::Acknowledging,
            (Phase::Acknowledging, _) => {
                // The turn before this one sent the last ACK.
                self.closed += 1;
                self.waiting.push_back(self.live[at].0);
                let oldest = self.waiting.pop_front();
                self.live[at].0 = oldest.ok_or("smoltcp: no socket is left")?;
                return self.open(at);
            }
            (_, State::Closed) => return Err("smoltcp: a connection ended early".into()),
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, at: usize) -> Result<(), String> {
        self.next_port = if self.next_port == u16::MAX { PORT_FIRST } else { self.next_port + 1 };
        let (port, end) = (self.next_port, &mut self.client);
        let socket = end.sockets.get_mut::<Socket<'_>>(end.handles[self.live[at].0]);
        socket.abort();
        let remote = (IpAddress::v4(10, 0, 0, 2), 80);
        socket.connect(end.interface.context(), remote, port).map_err(|error| format!("smoltcp: {error}"))?;
        self.live[at].1 = Phase::Opening;
        Ok(())
    }

    fn frames(&self) -> u64 {
        self.client.device.frames + self.server.device.frames
    }
}

struct End {
    device: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handles: Vec<SocketHandle>,
}

impl End {
    fn new(number: u8, sockets_max: usize) -> End {
        let mut device = Wire::default();
        let mac = EthernetAddress([2, 0, 0, 0, 0, number]);
        let mut interface = Interface::new(Config::new(HardwareAddress::Ethernet(mac)), &mut device, Time::ZERO);
        interface.update_ip_addrs(|addresses| {
            // The list is empty and has room for one.
            let _ = addresses.push(IpCidr::new(IpAddress::v4(10, 0, 0, number), 24));
        });
        let mut sockets = SocketSet::new(Vec::with_capacity(sockets_max));
        let handles = (0..sockets_max)
            .map(|_| {
                let buffer = || SocketBuffer::new(vec![0; BUFFER_BYTES]);
                let mut socket = Socket::new(buffer(), buffer());
                socket.set_nagle_enabled(false);
                socket.set_ack_delay(None);
                sockets.add(socket)
            })
            .collect();
        End { device, interface, sockets, handles }
    }

    fn socket(&mut self, at: usize) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handles[at])
    }

    fn take(&mut self, now: Time) {
        self.interface.poll_maintenance(now);
        while self.interface.poll_ingress_single(now, &mut self.device, &mut self.sockets)
            != PollIngressSingleResult::None
        {}
    }

    fn give(&mut self, now: Time) {
        self.interface.poll_egress(now, &mut self.device, &mut self.sockets);
    }

    /// The server's application on one socket.
    fn serve(&mut self, at: usize) -> Result<(), String> {
        let socket = self.socket(at);
        if socket.can_recv() {
            let mut request = [0; 64];
            let len = socket.recv_slice(&mut request).map_err(|error| format!("smoltcp: {error}"))?;
            socket.send_slice(&request[..len]).map_err(|error| format!("smoltcp: {error}"))?;
        }
        match socket.state() {
            State::CloseWait => socket.close(),
            State::Closed => socket.listen(80).map_err(|error| format!("smoltcp: {error}"))?,
            _ => {}
        }
        Ok(())
    }
}

/// One end's view of the wire.
#[derive(Default)]
struct Wire {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
    /// Buffers of frames that were taken.
    spare: RefCell<Vec<Vec<u8>>>,
    frames: u64,
}

impl Device for Wire {
    type RxToken<'a> = Taken<'a>;
    type TxToken<'a> = Given<'a>;

    fn receive(&mut self, _: Time) -> Option<(Taken<'_>, Given<'_>)> {
        let frame = self.received.pop_front()?;
        self.frames += 1;
        Some((Taken { frame, spare: &self.spare }, Given { sent: &mut self.sent, spare: &self.spare }))
    }

    fn transmit(&mut self, _: Time) -> Option<Given<'_>> {
        Some(Given { sent: &mut self.sent, spare: &self.spare })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.max_transmission_unit = 1514;
        capabilities.medium = Medium::Ethernet;
        capabilities
    }
}

struct Taken<'a> {
    frame: Vec<u8>,
    spare: &'a RefCell<Vec<Vec<u8>>>,
}

impl RxToken for Taken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        let result = read(&self.frame);
        self.spare.borrow_mut().push(self.frame);
        result
    }
}

struct Given<'a> {
    sent: &'a mut VecDeque<Vec<u8>>,
    spare: &'a RefCell<Vec<Vec<u8>>>,
}

impl TxToken for Given<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut buffer = self.spare.borrow_mut().pop().unwrap_or_default();
        buffer.resize(len, 0);
        let result = write(&mut buffer);
        self.sent.push_back(buffer);
        result
    }
}

const REQUEST: [u8; 64] = [0x5a; 64];
const BUFFER_BYTES: usize = 128;
const PORT_FIRST: u16 = 1024;
