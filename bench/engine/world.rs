//! Both ends on one thread over a link in memory, through the whole turn. No wire, no system call, virtual time.
//!
//! Time moves with the work, by as much per lifecycle as the configuration says, and 2MSL lasts for `resident` lifecycles: so the
//! TIME-WAIT store holds `resident` records in a steady state, each made by a whole lifecycle, kept for 2MSL and expired. Worlds of
//! one pace play the same lifecycles, however many records they keep: as long, and with as many ACKs that were delayed.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use synfin::api::{Application, CloseReason, ConnectOptions, Event};
use synfin::ids::Handle;
use synfin::limits::{BURST_MAX, Limits, MSL_MAX_MS};
use synfin::link::memory::{MemoryConfig, MemoryLink, pair};
use synfin::memory::{HugePages, advise_huge_pages};
use synfin::shard::{Calls, LocalAddress, Shard, ShardConfig};
use synfin::tcp::Settings;
use synfin::tcp::time_wait::Full;
use synfin::tick::Now;
use synfin::wire::ethernet::MacAddress;

/// What to play.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorldConfig {
    /// Connections open at a time.
    pub live: u32,
    /// TIME-WAIT records to keep in the store; 0 lets each expire as soon as can be.
    pub resident: u32,
    /// The pace: by how much time moves with each lifecycle, ns.
    pub ns_per_lifecycle: u32,
    /// Whether connections exchange bytes and close; otherwise they stay open and idle.
    pub exchange: bool,
    /// Whether the tables are put on huge pages.
    pub huge_pages: bool,
    /// Over IPv6 instead of IPv4.
    pub ipv6: bool,
    /// How TIME-WAIT records end.
    pub time_wait: TimeWaitEnds,
}

impl WorldConfig {
    /// 2MSL of the client, ms: `resident` lifecycles, at least 2. Twice a whole MSL.
    pub(crate) fn two_msl_ms(&self) -> u32 {
        let ms = u64::from(self.resident) * u64::from(self.ns_per_lifecycle) / 1_000_000;
        (ms.min(2 * u64::from(MSL_MAX_MS)) as u32 & !1).max(2)
    }
}

/// How TIME-WAIT records end, for the most part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum TimeWaitEnds {
    /// After 2MSL: there are 4-tuples and places for all.
    #[default]
    Expired,
    /// By a new incarnation: one source's ports come up again within 2MSL. There must be more of `resident` than those.
    Reused,
    /// To make room: there is place for half of `resident`.
    Evicted,
}

/// What a stretch of time came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Connections opened, used and closed per second, both ends on this one thread.
    pub lifecycles_per_second: f64,
    /// Time per segment handled, ns: each is built once and taken once.
    pub ns_per_segment: f64,
    /// Segments of one connection, counted.
    pub segments_per_lifecycle: f64,
}

/// The two ends and their time.
pub(crate) struct World {
    pub client: Shard<MemoryLink, End>,
    pub server: Shard<MemoryLink, End>,
    /// What became of the wish for huge pages.
    pub huge: HugePages,
    now_ns: u128,
    ns_per_lifecycle: u128,
}

impl World {
    pub(crate) fn new(config: &WorldConfig) -> Result<World, String> {
        let link = MemoryConfig { frames: FRAMES, queue_frames: FRAMES, ..MemoryConfig::default() };
        let (a, b) = pair(link, [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])]);
        let (now, client) = (Now::from_us(0), End::new(true, config));
        let client = Shard::new(a, client, client_config(config), now);
        let client = client.map_err(|error| error.to_string())?;
        let server = End::new(false, config);
        let server = Shard::new(b, server, server_config(config), now);
        let mut server = server.map_err(|error| error.to_string())?;
        server.calls(now).listen(address(SERVER, 0, config.ipv6), 80).map_err(|error| error.to_string())?;
        let huge = match config.huge_pages {
            true => advise_huge_pages(client.regions().chain(server.regions())),
            false => HugePages::default(),
        };
        Ok(World { client, server, huge, now_ns: 0, ns_per_lifecycle: config.ns_per_lifecycle.into() })
    }

    /// What the tables of both ends cost, bytes.
    pub(crate) fn bill_bytes(config: &WorldConfig) -> u64 {
        client_config(config).bill().total_bytes() + server_config(config).bill().total_bytes()
    }

    /// Turns of both ends until `done`; every turn is checked for connections that did not end as they should.
    pub(crate) fn until(&mut self, mut done: impl FnMut(&World) -> bool) -> Result<(), String> {
        let mut idle_turns = 0u32;
        while !done(self) {
            let progress = self.progress();
            self.turn();
            idle_turns = if self.progress() == progress { idle_turns + 1 } else { 0 };
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

    /// Lifecycles until the store holds what it shall; `progress` is told the finished ones now and then.
    pub(crate) fn fill(&mut self, config: &WorldConfig, mut progress: impl FnMut(u64)) -> Result<(), String> {
        let (target, mut told) = (u64::from(config.resident) + 2 * u64::from(config.live) + 1, 0);
        self.until(|world| {
            if world.closed() >= told + PROGRESS_EVERY {
                told = world.closed();
                progress(told);
            }
            world.closed() >= target
        })
    }

    /// Measures lifecycles for `duration`.
    pub(crate) fn measure(&mut self, duration: Duration) -> Result<Sample, String> {
        let (closed, segments, begun) = (self.closed(), self.segments(), Instant::now());
        let mut turns = 0u32;
        self.until(|_| {
            turns = turns.wrapping_add(1);
            turns.is_multiple_of(TURNS_PER_CLOCK) && begun.elapsed() >= duration
        })?;
        let (closed, segments, took) = (self.closed() - closed, self.segments() - segments, begun.elapsed());
        if closed == 0 {
            return Err("no connection ended within a round: measure longer".into());
        }
        Ok(Sample {
            lifecycles_per_second: closed as f64 / took.as_secs_f64(),
            ns_per_segment: took.as_nanos() as f64 / segments as f64,
            segments_per_lifecycle: segments as f64 / closed as f64,
        })
    }

    /// Opens nothing more, closes what is open, and lets the last TIME-WAIT end.
    pub(crate) fn drain(&mut self) -> Result<(), String> {
        self.client.application_mut().live_max = 0;
        self.until(|world| world.client.connections_live() == 0 && world.server.connections_live() == 0)?;
        for _ in 0..DRAIN_TURNS_MAX {
            if self.client.time_wait_live() == 0 {
                break;
            }
            self.now_ns += 1_000_000;
            self.turn();
        }
        Ok(())
    }

    /// Whether both ends have nothing in use any more but TIME-WAIT.
    pub(crate) fn is_clean(&self) -> Result<(), String> {
        match (&*self.client.left_over(), &*self.server.left_over()) {
            ([], []) => Ok(()),
            (client, server) => Err(format!("client: {client:?} left over, server: {server:?}")),
        }
    }

    /// Lifecycles that have ended at the client.
    pub(crate) fn closed(&self) -> u64 {
        self.client.application().closed
    }

    fn turn(&mut self) {
        let steps = |client: &End| client.opened + client.closed;
        let before = steps(self.client.application());
        let now = Now::from_us((self.now_ns / 1000) as u64);
        self.client.turn(now);
        self.server.turn(now);
        // A tick of the wheel has thousands send the ACKs that they have delayed: who gets more than a burst catches up, as the
        // wire would lose what is not taken.
        while self.server.link().pending() >= BURST_MAX {
            self.server.turn(now);
        }
        while self.client.link().pending() >= BURST_MAX {
            self.client.turn(now);
        }
        // Opening moves time as well as closing: timers of connections opened in a row are not due all at once.
        let steps = steps(self.client.application()) - before;
        self.now_ns += u128::from(steps) * self.ns_per_lifecycle / 2 + 100;
    }

    fn progress(&self) -> u64 {
        let client = self.client.application();
        client.closed + client.connected + self.server.application().accepted
    }

    pub(crate) fn segments(&self) -> u64 {
        self.client.counters().segments_received + self.server.counters().segments_received
    }
}

/// One end's application. The client opens, sends 64 bytes, compares the 64 that come back, and closes the connection that has
/// been open for longest; the server sends every request back, and closes when the peer has. One type for both, so that both ends
/// run the same code, as those of other stacks do.
pub(crate) struct End {
    is_client: bool,
    pub live_max: u32,
    pub accepted: u64,
    pub connected: u64,
    pub opened: u64,
    pub closed: u64,
    pub faults: u64,
    exchange: bool,
    ipv6: bool,
    sources: u32,
    live: u32,
    /// Connections that have had their answer, the first one first.
    answered: VecDeque<Handle>,
}

impl End {
    fn new(is_client: bool, config: &WorldConfig) -> End {
        let answered = if is_client && config.exchange { config.live as usize } else { 0 };
        End {
            is_client,
            live_max: if is_client { config.live } else { 0 },
            accepted: 0,
            connected: 0,
            opened: 0,
            closed: 0,
            faults: 0,
            exchange: config.exchange,
            ipv6: config.ipv6,
            sources: sources(config),
            live: 0,
            answered: VecDeque::with_capacity(answered),
        }
    }
}

impl Application for End {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { handle } => {
                self.connected += 1;
                if self.exchange {
                    let bytes = payload(handle);
                    self.faults += u64::from(calls.send(handle, &bytes) != Ok(bytes.len()));
                }
            }
            Event::Accepted { .. } => self.accepted += 1,
            Event::Readable { handle, bytes } => {
                if self.is_client {
                    self.faults += u64::from(bytes != payload(handle));
                    self.answered.push_back(handle);
                } else {
                    self.faults += u64::from(!self.exchange || calls.send(handle, bytes) != Ok(bytes.len()));
                }
                self.faults += u64::from(calls.consume(handle, bytes.len()).is_err());
            }
            Event::PeerClosed { handle } if !self.is_client => {
                self.faults += u64::from(calls.close(handle).is_err());
            }
            Event::PeerClosed { .. } => {}
            Event::Closed { reason, .. } => {
                self.faults += u64::from(reason != CloseReason::Graceful);
                self.live = self.live.wrapping_sub(1);
                self.closed += 1;
            }
            Event::Writable { .. } => self.faults += 1,
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } | Event::Timer { .. } => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        if !self.is_client {
            return;
        }
        // As many as fill a burst at the server: the connections spread over their lifecycle.
        for _ in 0..OPENED_PER_TURN.min(self.live_max.saturating_sub(self.live)) {
            let source = address(CLIENT, (self.opened % u64::from(self.sources)) as u32, self.ipv6);
            let options = ConnectOptions { local_address: Some(source), ..ConnectOptions::default() };
            if calls.connect(SocketAddr::new(address(SERVER, 0, self.ipv6), 80), &options).is_err() {
                self.faults += 1;
                return;
            }
            self.opened += 1;
            self.live += 1;
        }
        if self.live + OPENED_PER_TURN > self.live_max {
            for _ in 0..OPENED_PER_TURN {
                let Some(handle) = self.answered.pop_front() else { break };
                self.faults += u64::from(calls.close(handle).is_err());
            }
        }
    }
}

/// The end that closes first, and so keeps TIME-WAIT.
fn client_config(config: &WorldConfig) -> ShardConfig {
    // Room for what is resident, what live connections reserve, and what expires within one granule.
    let time_wait_max = match (config.exchange, config.time_wait) {
        (true, TimeWaitEnds::Expired | TimeWaitEnds::Reused) => {
            config.resident + config.resident / 32 + config.live + config.live / 16 + 16_384
        }
        (true, TimeWaitEnds::Evicted) => config.resident / 2,
        (false, _) => 1024,
    };
    shard_config(config, sources(config), CLIENT, 1, time_wait_max)
}

/// The other end. Its connections reserve places in TIME-WAIT, though it never needs them.
fn server_config(config: &WorldConfig) -> ShardConfig {
    let time_wait_max = if config.exchange { config.live + config.live / 16 + 8192 } else { 1024 };
    shard_config(config, 1, SERVER, 2, time_wait_max)
}

fn shard_config(config: &WorldConfig, addresses: u32, first: Ipv4Addr, seed: u64, time_wait_max: u32) -> ShardConfig {
    ShardConfig {
        limits: Limits {
            tcbs_max: if config.exchange { config.live + config.live / 16 + 4096 } else { config.live },
            half_open_max: config.live + 4096,
            time_wait_max,
            chunks_max: chunks_max(config),
            ..Limits::default()
        },
        addresses: (0..addresses)
            .map(|at| LocalAddress { address: address(first, at, config.ipv6), prefix_len: 8 })
            .collect(),
        ports: (1024, u16::MAX),
        msl_ms: config.two_msl_ms() / 2,
        settings: Settings {
            time_wait_full: match (config.exchange, config.time_wait) {
                (true, TimeWaitEnds::Expired | TimeWaitEnds::Reused) => Full::RefuseOpen,
                (true, TimeWaitEnds::Evicted) => Full::EvictOldest,
                (false, _) => Full::Skip,
            },
            time_wait_delay_ms: match config.time_wait {
                TimeWaitEnds::Expired | TimeWaitEnds::Evicted => Settings::default().time_wait_delay_ms,
                TimeWaitEnds::Reused => config.two_msl_ms() / 10,
            },
            ..Settings::default()
        },
        ..ShardConfig::seeded(seed)
    }
}

/// Unread and unacknowledged bytes exist between a request and its last ACK only.
fn chunks_max(config: &WorldConfig) -> u32 {
    if config.exchange { (2 * config.live + 1024).min(CHUNKS_MAX) } else { 1024 }
}

/// Address number `at` from `first` on; with `ipv6`, the one of fd00::/8 that ends in it.
pub(super) fn address(first: Ipv4Addr, at: u32, ipv6: bool) -> IpAddr {
    let bits = first.to_bits() + at;
    match ipv6 {
        true => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, (bits >> 16) as u16, bits as u16).into(),
        false => Ipv4Addr::from_bits(bits).into(),
    }
}

/// 64 bytes, all of them a function of the connection's name.
fn payload(handle: Handle) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (at, word) in bytes.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(handle.to_bits().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at as u64).to_le_bytes());
    }
    bytes
}

/// Source addresses, so that ports never run out: 1.5 times what TIME-WAIT and live connections hold, unless ports are to be
/// drawn from TIME-WAIT.
fn sources(config: &WorldConfig) -> u32 {
    if config.time_wait == TimeWaitEnds::Reused {
        return 1;
    }
    let tuples = (u64::from(config.resident) + 4 * u64::from(config.live)) * 3 / 2;
    (tuples / 64_512 + 2) as u32
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);

/// Turns between two looks at the clock, so that it costs nothing.
pub(super) const TURNS_PER_CLOCK: u32 = 64;

/// Connections opened, and closed, per turn. Each takes five segments at the server when the ACK of its answer cannot
/// ride on a FIN: with ten a burst of 64 has room for a little more, so that a backlog ends.
const OPENED_PER_TURN: u32 = 10;

/// Frames of each end. More cool the cache, fewer stall the ends.
const FRAMES: u32 = 1024;

/// Chunks of each end at most, 2 GB. Origin: of a million live connections more than an eighth wait for an acknowledgment at a time, and with a
/// quarter of these chunks some found none.
const CHUNKS_MAX: u32 = 1 << 20;

/// Finished connections between two lines of progress.
const PROGRESS_EVERY: u64 = 10_000_000;

/// Turns without progress after which a run is given up: far more than the longest wait for a timer.
const IDLE_TURNS_MAX: u32 = 50_000_000;

/// Turns of 1 ms in which the last TIME-WAIT must end.
const DRAIN_TURNS_MAX: u32 = 1_000_000;
