//! The engine alone: one thread plays both ends over a link in memory, through the whole turn. No wire, no system call.
//!
//! Time is virtual and moves with the work: by 2MSL / `resident` per finished connection, so that the TIME-WAIT store
//! holds `resident` records in a steady state, each made, kept for 2MSL and expired.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use synfin::api::{Application, CloseReason, ConnectOptions, Event};
use synfin::ids::Handle;
use synfin::limits::Limits;
use synfin::link::memory::{MemoryConfig, MemoryLink, pair};
use synfin::shard::{Calls, LocalAddress, Secrets, Shard, ShardConfig};
use synfin::tick::Now;
use synfin::wire::ethernet::MacAddress;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineConfig {
    /// Connections open at a time.
    pub live: u32,
    /// TIME-WAIT records to keep in the store; 0 lets each expire at once.
    pub resident: u32,
    /// How long to measure after the store is full.
    pub duration: Duration,
    /// Connections to measure at most; bounds a run under an instruction counter.
    pub connections_max: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EngineResult {
    /// Connections opened, used and closed per second, both ends on this one thread.
    pub lifecycles_per_second: f64,
    /// Time per segment handled, ns: each is built once and taken once.
    pub ns_per_segment: f64,
    /// Segments of one connection, counted.
    pub segments_per_connection: f64,
    /// Connections measured.
    pub connections: u64,
    /// TIME-WAIT records resident at the end.
    pub time_wait_resident: u64,
    /// TIME-WAIT records made and expired over the whole run.
    pub time_wait_created: u64,
    /// See `time_wait_created`.
    pub time_wait_expired: u64,
}

/// Runs one combination.
pub(crate) fn run(config: &EngineConfig) -> Result<EngineResult, String> {
    let mut world = World::new(config)?;
    let fill = u64::from(config.resident) + 2 * u64::from(config.live);
    world.until(|client| client.closed >= fill)?;
    let (closed, segments, begun) = (world.closed(), world.segments(), Instant::now());
    let end = begun + config.duration;
    world.until(|client| client.closed - closed >= config.connections_max || Instant::now() >= end)?;
    let (closed, segments, took) = (world.closed() - closed, world.segments() - segments, begun.elapsed());
    let counters = world.client.counters();
    Ok(EngineResult {
        lifecycles_per_second: closed as f64 / took.as_secs_f64(),
        ns_per_segment: took.as_nanos() as f64 / segments as f64,
        segments_per_connection: segments as f64 / closed as f64,
        connections: closed,
        time_wait_resident: world.client.time_wait_live() as u64,
        time_wait_created: counters.time_wait_created,
        time_wait_expired: counters.time_wait_expired,
    })
}

struct World {
    client: Shard<MemoryLink, Client>,
    server: Shard<MemoryLink, Server>,
    now_ns: u128,
    ns_per_connection: u128,
}

impl World {
    fn new(config: &EngineConfig) -> Result<World, String> {
        let frames = (4 * config.live).clamp(1024, 16_384);
        let link = MemoryConfig { frames, queue_frames: frames, ..MemoryConfig::default() };
        let (a, b) = pair(link, [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])]);
        let (msl_ms, per_connection) = match config.resident {
            0 => (1, 10_000),
            resident => (30_000, 60_000_000_000 / u128::from(resident)),
        };
        let shard = |sources: u32, first: Ipv4Addr, seed, time_wait_max| ShardConfig {
            limits: Limits {
                tcbs_max: 2 * config.live + 64,
                half_open_max: 2 * config.live,
                time_wait_max,
                chunks_max: 2 * config.live + 1024,
                ..Limits::default()
            },
            addresses: (0..sources)
                .map(|at| LocalAddress { address: Ipv4Addr::from_bits(first.to_bits() + at).into(), prefix_len: 8 })
                .collect(),
            secrets: Secrets::from_seed(seed),
            ports: (1024, u16::MAX),
            msl_ms,
            ..ShardConfig::default()
        };
        let sources = sources(config);
        // Room for what is resident, what is reserved by live connections, and what expires within one granule.
        let time_wait_max = config.resident + config.resident / 16 + 4 * config.live + 65_536;
        let client = Client {
            live_max: config.live,
            sources,
            live: 0,
            opened: 0,
            closed: 0,
            faults: 0,
            request: vec![0; 2 * config.live as usize + 64],
        };
        let now = Now::from_us(0);
        let client = Shard::new(a, client, shard(sources, CLIENT, 1, time_wait_max), now);
        let client = client.map_err(|error| error.to_string())?;
        let server = Shard::new(b, Server { faults: 0 }, shard(1, SERVER, 2, 4 * config.live + 1024), now);
        let mut server = server.map_err(|error| error.to_string())?;
        server.calls(now).listen(SERVER.into(), 80).map_err(|error| error.to_string())?;
        Ok(World { client, server, now_ns: 0, ns_per_connection: per_connection })
    }

    /// Turns of both ends until `done`; every turn is checked for connections that did not end as they should.
    fn until(&mut self, mut done: impl FnMut(&Client) -> bool) -> Result<(), String> {
        let mut idle_turns = 0u32;
        while !done(self.client.application()) {
            let closed = self.closed();
            let now = Now::from_us((self.now_ns / 1000) as u64);
            self.client.turn(now);
            self.server.turn(now);
            let ended = u128::from(self.closed() - closed);
            self.now_ns += ended * self.ns_per_connection + 100;
            idle_turns = if ended == 0 { idle_turns + 1 } else { 0 };
            if idle_turns > IDLE_TURNS_MAX {
                return Err(format!("stuck: {:?} {:?}", self.client.counters(), self.server.counters()));
            }
        }
        let faults = self.client.application().faults + self.server.application().faults;
        if faults > 0 {
            return Err(format!("{faults} connections failed: {:?}", self.client.counters()));
        }
        Ok(())
    }

    fn closed(&self) -> u64 {
        self.client.application().closed
    }

    fn segments(&self) -> u64 {
        self.client.counters().segments_received + self.server.counters().segments_received
    }
}

/// Opens, sends 64 bytes, compares the 64 that come back, closes first.
struct Client {
    live_max: u32,
    sources: u32,
    live: u32,
    opened: u64,
    closed: u64,
    faults: u64,
    /// What each record's connection sent.
    request: Vec<u64>,
}

impl Application for Client {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { handle } => {
                let bytes = payload(self.request[handle.number() as usize]);
                self.faults += u64::from(calls.send(handle, &bytes) != Ok(bytes.len()));
            }
            Event::Readable { handle, bytes } => {
                let expected = payload(self.request[handle.number() as usize]);
                self.faults += u64::from(bytes != expected);
                self.faults += u64::from(calls.consume(handle, bytes.len()).is_err());
                self.faults += u64::from(calls.close(handle).is_err());
            }
            Event::Closed { reason, .. } => {
                self.faults += u64::from(reason != CloseReason::Graceful);
                self.live -= 1;
                self.closed += 1;
            }
            Event::Accepted { .. } | Event::Writable { .. } => self.faults += 1,
            Event::PeerClosed { .. } => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        // A burst's worth at a time: the connections spread over their lifecycle.
        for _ in 0..64.min(self.live_max - self.live) {
            let source = Ipv4Addr::from_bits(CLIENT.to_bits() + (self.opened % u64::from(self.sources)) as u32);
            let options = ConnectOptions { local_address: Some(source.into()), ..ConnectOptions::default() };
            match calls.connect(REMOTE, &options) {
                Ok(handle) => self.begin(handle),
                Err(_) => {
                    self.faults += 1;
                    return;
                }
            }
        }
    }
}

impl Client {
    fn begin(&mut self, handle: Handle) {
        self.request[handle.number() as usize] = self.opened;
        self.opened += 1;
        self.live += 1;
    }
}

/// Sends every request back; closes when the peer has.
struct Server {
    faults: u64,
}

impl Application for Server {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Readable { handle, bytes } => {
                self.faults += u64::from(calls.send(handle, bytes) != Ok(bytes.len()));
                self.faults += u64::from(calls.consume(handle, bytes.len()).is_err());
            }
            Event::PeerClosed { handle } => self.faults += u64::from(calls.close(handle).is_err()),
            Event::Closed { reason, .. } => self.faults += u64::from(reason != CloseReason::Graceful),
            Event::Connected { .. } | Event::Writable { .. } => self.faults += 1,
            Event::Accepted { .. } => {}
        }
    }
}

/// 64 bytes, all of them a function of the connection.
fn payload(connection: u64) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (at, word) in bytes.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(connection.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at as u64).to_le_bytes());
    }
    bytes
}

/// Source addresses, so that ports never run out: 1.5 times what TIME-WAIT and live connections hold.
fn sources(config: &EngineConfig) -> u32 {
    let tuples = (u64::from(config.resident) + 4 * u64::from(config.live)) * 3 / 2;
    (tuples / 64_512 + 2) as u32
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
const REMOTE: SocketAddr = SocketAddr::new(IpAddr::V4(SERVER), 80);

/// Turns without an ended connection after which a run is given up: far more than the largest lifecycle needs.
const IDLE_TURNS_MAX: u32 = 10_000_000;
