//! Two shards joined in memory, virtual time: the whole turn from frames to events and back.

mod accept;
mod among;
mod calls;
mod capacity;
mod ends;
mod flood;
mod hostile;
mod interfaces;
mod lifecycle;
mod limits;
mod network;
mod old_duplicates;
mod options;
mod path_mtu;
mod policies;
mod precedence;
mod reuse;
mod short_pools;
mod simulation;
mod splice;
mod states;
mod time_wait;
mod timers;

use super::{LocalAddress, Shard, ShardConfig, StateCounts};
use crate::api::{Application, CloseReason, ConnectOptions, Event};
use crate::ids::Handle;
use crate::limits::{Limits, MSL_MS};
use crate::link::Link;
use crate::link::memory::{MemoryConfig, MemoryLink, pair};
use crate::shard::Calls;
use crate::tcp::Settings;
use crate::tick::Now;
use crate::wire::ethernet::MacAddress;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

/// Which end closes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Closer {
    Client,
    Server,
}

/// Answers each whole request with the same bytes back.
struct Server {
    closer: Closer,
    request_bytes: usize,
    pending: BTreeMap<Handle, Vec<u8>>,
    accepted: usize,
    closed: Vec<CloseReason>,
}

impl Application for Server {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Accepted { handle, .. } => {
                self.accepted += 1;
                self.pending.insert(handle, Vec::new());
            }
            Event::Readable { handle, bytes } => {
                let pending = self.pending.get_mut(&handle).expect("accepted before readable");
                pending.extend_from_slice(bytes);
                calls.consume(handle, bytes.len()).expect("lent bytes can be consumed");
                if pending.len() >= self.request_bytes {
                    self.answer(calls, handle);
                }
            }
            Event::Writable { handle } => self.answer(calls, handle),
            Event::PeerClosed { handle } => {
                if self.closer == Closer::Client {
                    calls.close(handle).expect("the peer has closed, this side has not");
                }
            }
            Event::Closed { handle, reason } => {
                self.pending.remove(&handle);
                self.closed.push(reason);
            }
            Event::Connected { .. } => panic!("a server opens nothing"),
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } | Event::Timer { .. } => {}
        }
    }
}

impl Server {
    fn answer(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        let pending = self.pending.get_mut(&handle).expect("accepted");
        let taken = calls.send(handle, pending).expect("open");
        pending.drain(..taken);
        if pending.is_empty() && self.closer == Closer::Server {
            calls.close(handle).expect("open");
        }
    }
}

/// Opens connections, sends a request on each and compares what comes back.
struct Client {
    closer: Closer,
    remote: SocketAddr,
    to_open: usize,
    in_flight_max: usize,
    request: Vec<u8>,
    live: BTreeMap<Handle, (usize, Vec<u8>)>,
    peer_closed: usize,
    closed: Vec<CloseReason>,
    refused: usize,
}

impl Application for Client {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { handle } => {
                self.live.insert(handle, (0, Vec::new()));
                self.push(calls, handle);
            }
            Event::Writable { handle } => self.push(calls, handle),
            Event::Readable { handle, bytes } => {
                let (_, received) = self.live.get_mut(&handle).expect("connected before readable");
                received.extend_from_slice(bytes);
                let whole = received.len() == self.request.len();
                calls.consume(handle, bytes.len()).expect("lent bytes can be consumed");
                if whole && self.closer == Closer::Client {
                    calls.close(handle).expect("open");
                }
            }
            Event::PeerClosed { handle } => {
                self.peer_closed += 1;
                if self.closer == Closer::Server {
                    calls.close(handle).expect("open");
                }
            }
            Event::Closed { handle, reason } => {
                if reason == CloseReason::Graceful {
                    let (_, received) = self.live.remove(&handle).expect("connected before closed");
                    assert_eq!(received, self.request, "every byte once and in order");
                }
                self.live.remove(&handle);
                self.closed.push(reason);
            }
            Event::Accepted { .. } => panic!("a client accepts nothing"),
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } | Event::Timer { .. } => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        while self.to_open > 0 && self.opened() - self.closed.len() < self.in_flight_max {
            if calls.connect(self.remote, &ConnectOptions::default()).is_err() {
                self.refused += 1;
                return;
            }
            self.to_open -= 1;
        }
    }
}

impl Client {
    fn opened(&self) -> usize {
        self.request[..4].iter().fold(0, |n, byte| n << 8 | usize::from(*byte)) - self.to_open
    }

    fn push(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        let (sent, _) = self.live.get_mut(&handle).expect("connected");
        *sent += calls.send(handle, &self.request[*sent..]).expect("open");
    }
}

/// Both ends over one link.
struct World {
    client: Shard<MemoryLink, Client>,
    server: Shard<MemoryLink, Server>,
    now: Now,
}

#[derive(Clone, Debug)]
struct Setup {
    closer: Closer,
    connections: usize,
    in_flight_max: usize,
    request_bytes: usize,
    v6: bool,
    burst: u32,
    limits: Limits,
    ports: (u16, u16),
    msl_ms: u32,
}

impl Default for Setup {
    fn default() -> Setup {
        let limits =
            Limits { tcbs_max: 512, time_wait_max: 4096, chunks_max: 1024, neighbors_max: 16, ..Limits::default() };
        Setup {
            closer: Closer::Client,
            connections: 1,
            in_flight_max: 64,
            request_bytes: 64,
            v6: false,
            burst: 64,
            limits,
            ports: (32_768, 60_999),
            msl_ms: MSL_MS,
        }
    }
}

impl World {
    fn new(setup: &Setup) -> World {
        World::with_settings(setup, Settings::default())
    }

    fn with_settings(setup: &Setup, settings: Settings) -> World {
        World::over(setup, settings, pair(MemoryConfig::default(), MACS))
    }

    /// The client's end of its link and the server's, with the addresses [`MACS`].
    fn over(setup: &Setup, settings: Settings, (a, b): (MemoryLink, MemoryLink)) -> World {
        let now = Now::from_ms(5_000);
        let ((client, client_config), (server, server_config)) = ends(setup, settings);
        let remote = client.remote;
        let client = Shard::new(a, client, client_config, now).expect("a client shard");
        let mut server = Shard::new(b, server, server_config, now).expect("a server shard");
        server.calls(now).listen(remote.ip(), remote.port()).expect("a listener");
        World { client, server, now }
    }

    fn turn(&mut self, step_us: u64) {
        self.client.turn(self.now);
        self.server.turn(self.now);
        self.now = Now::from_us(self.now.us() + step_us);
    }

    /// Turns until every connection has ended on both sides; the bound is in turns.
    fn run(&mut self, turns_max: usize) {
        for _ in 0..turns_max {
            self.turn(50);
            let client = self.client.application();
            if client.to_open == 0 && self.client.connections_live() == 0 && self.server.connections_live() == 0 {
                return;
            }
        }
        panic!(
            "not done after {turns_max} turns: client {:?} {:?}, server {:?} {:?}",
            self.client.states(),
            self.client.counters(),
            self.server.states(),
            self.server.counters()
        );
    }

    /// Nothing is left over but TIME-WAIT.
    #[track_caller]
    fn assert_clean(&self) {
        assert_shard_clean(&self.client);
        assert_shard_clean(&self.server);
    }
}

/// The applications of a setup and the configurations of their shards.
fn ends(setup: &Setup, settings: Settings) -> ((Client, ShardConfig), (Server, ShardConfig)) {
    let (client_ip, server_ip) = if setup.v6 { ("fd00::1", "fd00::2") } else { ("10.0.0.1", "10.0.0.2") };
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let config = |text: &str, seed| ShardConfig {
        limits: Limits { burst: setup.burst, ..setup.limits },
        addresses: vec![LocalAddress { address: address(text), prefix_len: 24 }],
        ports: setup.ports,
        msl_ms: setup.msl_ms,
        // The server answers what comes from elsewhere, too.
        gateways: if seed == 2 { vec![address(client_ip)] } else { Vec::new() },
        settings,
        ..ShardConfig::seeded(seed)
    };
    let mut request: Vec<u8> = (0..setup.request_bytes.max(4)).map(|at| (at * 7) as u8).collect();
    request[..4].copy_from_slice(&(setup.connections as u32).to_be_bytes());
    let client = Client {
        closer: setup.closer,
        remote: SocketAddr::new(address(server_ip), 80),
        to_open: setup.connections,
        in_flight_max: setup.in_flight_max,
        request,
        live: BTreeMap::new(),
        peer_closed: 0,
        closed: Vec::new(),
        refused: 0,
    };
    let server = Server {
        closer: setup.closer,
        request_bytes: setup.request_bytes.max(4),
        pending: BTreeMap::new(),
        accepted: 0,
        closed: Vec::new(),
    };
    ((client, config(client_ip, 1)), (server, config(server_ip, 2)))
}

/// No frame, chunk, TCB, remnant or timer of the shard is left over; TIME-WAIT may be.
#[track_caller]
fn assert_shard_clean<L: Link, A: Application>(shard: &Shard<L, A>) {
    assert_eq!(shard.states().tcbs, StateCounts::default().tcbs);
    assert_eq!(shard.left_over(), [], "{:?}", shard.counters());
}

/// Of the client and of the server.
const MACS: [MacAddress; 2] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];
