//! synfin's own ends: one shard over AF_XDP on one pinned thread, with the client or the server as its application.

mod client;
mod fill;
mod rig;
mod server;
mod several;

pub(crate) use client::{Client, run as run_client};
pub(crate) use rig::{AIMED, INCARNATIONS_AIMED, IsnChoice, REACHED, RigArgs, run as run_rig};
pub(crate) use server::{Server, run as run_server};
pub(crate) use several::WRONG_SHARD;

use crate::cps::plan::PREFIX_BITS;
use crate::failure::Failure;
use crate::lines::{Final, Ready, TimeWait};
use crate::meter::Meter;
use crate::policy::Phases;
use crate::proc::{Threads, interface_frames};
use crate::role::{ErrorKind, Mode, RoleArgs, obtained};
use crate::waited;
use fill::fill_time_wait;
use rand::TryRng;
use rand::rngs::SysRng;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use synfin::api::{Application, CloseReason};
use synfin::counters::Counters;
use synfin::limits::{self, CHUNK_BYTES, Limits};
use synfin::link::Link;
use synfin::link::faults::Faults;
use synfin::link::xdp::{Claim, Prefix, Steering, XdpConfig, XdpError, XdpLink};
use synfin::shard::{LocalAddress, Policies, Shard, ShardConfig};
use synfin::tcp::Settings;
use synfin::tcp::time_wait::Policy;
use synfin::tick::Now;

/// A shard over AF_XDP with its clock.
pub(crate) struct End<A, L = XdpLink> {
    // The link leaves its slot before the program goes.
    pub(crate) shard: Shard<L, A>,
    clock: Clock,
    attached: Attached,
    idle: Duration,
}

/// The program on the interface, and what the interface had counted before.
pub(crate) struct Attached {
    steering: Steering,
    interface: String,
    frames_before: u64,
}

/// An application that counts what it does.
pub(crate) trait Metered: Application {
    /// The counts.
    fn meter(&mut self) -> &mut Meter;

    /// When its first connection came or was to begin.
    fn began(&self) -> Option<Instant>;
}

/// A link over AF_XDP.
pub(crate) trait OverXdp: Link {
    /// The AF_XDP link below.
    fn xdp(&self) -> &XdpLink;
}

impl OverXdp for XdpLink {
    fn xdp(&self) -> &XdpLink {
        self
    }
}

impl OverXdp for Faults<XdpLink> {
    fn xdp(&self) -> &XdpLink {
        self.inner()
    }
}

impl<A: Application> End<A> {
    /// Attaches, binds and claims what belongs to these addresses.
    pub(crate) fn new(
        args: &RoleArgs,
        application: A,
        addresses: Vec<Ipv4Addr>,
        claim: (Ipv4Addr, u8),
    ) -> Result<End<A>, Failure> {
        End::over(args, application, addresses, claim, |link| link)
    }
}

impl<A: Application, L: OverXdp> End<A, L> {
    /// The same over a link that is put around the AF_XDP link.
    pub(crate) fn over(
        args: &RoleArgs,
        application: A,
        addresses: Vec<Ipv4Addr>,
        claim: (Ipv4Addr, u8),
        around: impl FnOnce(XdpLink) -> L,
    ) -> Result<End<A, L>, Failure> {
        let (link, attached) = Attached::open(args, claim)?;
        let mut shard = make_shard(args, around(link), application, addresses)?;
        fill_time_wait(&mut shard, args)?;
        Ok(End { shard, clock: Clock::start(), attached, idle: Duration::from_micros(args.idle_us) })
    }

    /// Says that this end is ready, and in which mode.
    pub(crate) fn tell_ready(&self, args: &RoleArgs) {
        self.attached.tell_ready(args, self.shard.link().xdp());
    }

    /// Turn after turn, as long as the application says so.
    pub(crate) fn turn_while(&mut self, mut goes_on: impl FnMut(&A) -> bool) {
        while goes_on(self.shard.application()) {
            let now = self.now();
            self.shard.turn(now);
        }
    }

    /// Turns for a while, so that what the peer still sends is answered.
    pub(crate) fn settle(&mut self) {
        let until = Instant::now() + SETTLE;
        self.turn_while(|_| Instant::now() < until);
    }

    /// Now, by the shard's clock.
    pub(crate) fn now(&self) -> Now {
        self.clock.now(Instant::now())
    }

    /// Adds what shard, link and interface counted.
    pub(crate) fn result(&self, of_meter: Final) -> Result<Final, Failure> {
        self.attached.result(of_meter, counters(&self.shard, self.shard.link().xdp()), time_wait(&self.shard))
    }
}

impl<A: Metered, L: OverXdp> End<A, L> {
    /// The same as [`End::turn_while`], with samples, and with phases if there are any.
    pub(crate) fn run_while(
        &mut self,
        phases: Option<&Phases>,
        mut goes_on: impl FnMut(&A) -> bool,
    ) -> Result<(), Failure> {
        while goes_on(self.shard.application()) {
            let instant = Instant::now();
            let now = self.clock.now(instant);
            let busy = self.shard.turn(now).busy;
            self.clock.count(instant, busy);
            observe(&mut self.shard, &self.clock, phases, instant, now)?;
            if !busy && !self.idle.is_zero() {
                std::thread::sleep(self.idle);
            }
        }
        Ok(())
    }
}

/// A shard's clock, and how much of its time it has been busy.
pub(crate) struct Clock {
    started: Instant,
    busy: Duration,
    last: (Instant, bool),
}

impl Clock {
    /// From now on.
    pub(crate) fn start() -> Clock {
        let started = Instant::now();
        Clock { started, busy: Duration::ZERO, last: (started, false) }
    }

    /// The shard's time at `instant`.
    #[inline]
    pub(crate) fn now(&self, instant: Instant) -> Now {
        Now::from_us(instant.duration_since(self.started).as_micros() as u64)
    }

    /// The turn that began at `instant` did or did not find work; it lasts until the next one begins.
    #[inline]
    pub(crate) fn count(&mut self, instant: Instant, busy: bool) {
        if self.last.1 {
            self.busy += instant.duration_since(self.last.0);
        }
        self.last = (instant, busy);
    }
}

/// Takes a sample if one is due, and puts the phase's policy into force.
pub(crate) fn observe<L: Link, A: Metered>(
    shard: &mut Shard<L, A>,
    clock: &Clock,
    phases: Option<&Phases>,
    instant: Instant,
    now: Now,
) -> Result<(), Failure> {
    if let Some(phases) = phases
        && let Some(began) = shard.application().began()
        && let Some(policy) = phases.at(instant.saturating_duration_since(began))
        && shard.policies().time_wait != policy
    {
        let policies = Policies { time_wait: policy, ..shard.policies() };
        shard.set_policies(&policies, now).map_err(|error| Failure::failed(error.to_string()))?;
    }
    let (time_wait, in_use) = (shard.time_wait_live() as u64, shard.connections_live() as u64);
    let meter = shard.application_mut().meter();
    if meter.sample_is_due(instant) {
        meter.sample(instant, time_wait, in_use, clock.busy);
    }
    Ok(())
}

impl Attached {
    /// Attaches the program, binds queue 0 and claims a prefix.
    pub(crate) fn open(args: &RoleArgs, claim: (Ipv4Addr, u8)) -> Result<(XdpLink, Attached), Failure> {
        let frames_before = interface_frames(&args.interface)?;
        let mut steering = Steering::attach(&args.interface, args.mode.for_xdp()).map_err(refused)?;
        let xdp = XdpConfig { zero_copy: args.mode == Mode::Zc, ..XdpConfig::default() };
        let link = XdpLink::bind(&args.interface, 0, xdp).map_err(refused)?;
        steering.steer(&link).map_err(refused)?;
        let prefix = Prefix::new(IpAddr::V4(claim.0), claim.1).map_err(refused)?;
        steering.claim(prefix, Claim::Own).map_err(refused)?;
        Ok((link, Attached { steering, interface: args.interface.clone(), frames_before }))
    }

    /// Says that this end is ready, and in which mode.
    pub(crate) fn tell_ready(&self, args: &RoleArgs, link: &XdpLink) {
        let mode = Some(obtained(self.steering.mode(), link.zero_copy()));
        let (mac, time_wait_bytes) = (Some(link.mac().to_string()), Some(time_wait_bytes(args)));
        waited::ready(Ready { mode, mac, time_wait_bytes }, Some(Threads::Main));
    }

    /// Adds what shard, link and interface counted.
    pub(crate) fn result(
        &self,
        of_meter: Final,
        counters: BTreeMap<String, u64>,
        time_wait: TimeWait,
    ) -> Result<Final, Failure> {
        let frames_total = interface_frames(&self.interface)? - self.frames_before;
        Ok(Final { frames_total, time_wait, counters, ..of_meter })
    }
}

/// Everything that shard and link have counted and that is not 0.
pub(crate) fn counters<L: Link, A: Application>(shard: &Shard<L, A>, xdp: &XdpLink) -> BTreeMap<String, u64> {
    let mut counters = BTreeMap::new();
    let mut add = |name: String, count: u64| {
        if count > 0 {
            counters.insert(name, count);
        }
    };
    shard.counters().iter().for_each(|(name, count)| add(name.to_string(), count));
    shard.drops().iter().for_each(|(name, count)| add(format!("drop.{name}"), count));
    xdp.counters().iter().for_each(|(name, count)| add(format!("link.{name}"), count));
    if let Ok(statistics) = xdp.statistics() {
        add("xsk.rx_dropped".into(), statistics.rx_dropped);
        add("xsk.rx_ring_full".into(), statistics.rx_ring_full);
        add("xsk.fill_ring_empty".into(), statistics.fill_ring_empty);
    }
    counters
}

/// A shard as the options say.
pub(crate) fn make_shard<L: Link, A: Application>(
    args: &RoleArgs,
    link: L,
    application: A,
    addresses: Vec<Ipv4Addr>,
) -> Result<Shard<L, A>, Failure> {
    let seed = seed(args)?;
    let shard = Shard::new(link, application, config(args, addresses, seed), Now::from_us(0));
    shard.map_err(|error| Failure::environment(format!("cannot make a shard: {error}")))
}

/// What this end draws from: the seed given, or the system.
pub(crate) fn seed(args: &RoleArgs) -> Result<u64, Failure> {
    if args.seed > 0 {
        return Ok(args.seed);
    }
    let seed = SysRng.try_next_u64();
    seed.map_err(|error| Failure::environment(format!("no random numbers from the system: {error}")))
}

/// What an end that was not graceful counts as.
pub(crate) fn error_of(reason: CloseReason) -> ErrorKind {
    match reason {
        CloseReason::Graceful => ErrorKind::WrongLength,
        CloseReason::Reset => ErrorKind::Reset,
        CloseReason::Refused => ErrorKind::Refused,
        CloseReason::TimedOut => ErrorKind::TimedOut,
        CloseReason::Aborted | CloseReason::Unreachable => ErrorKind::Other,
    }
}

fn config(args: &RoleArgs, addresses: Vec<Ipv4Addr>, seed: u64) -> ShardConfig {
    let tcbs_max = (4 * args.conns).max(4096);
    // Unacknowledged and unread bytes of one connection at most.
    let chunks_each = args.payload.request.max(args.payload.response).div_ceil(CHUNK_BYTES as u32) + 1;
    ShardConfig {
        limits: Limits {
            tcbs_max,
            time_wait_max: args.time_wait.saturating_add(args.resident),
            half_open_max: tcbs_max,
            chunks_max: (2 * tcbs_max).saturating_mul(chunks_each),
            destinations_max: args.src_ips.saturating_mul(u32::from(args.dst_ports)) + 64,
            neighbors_max: args.src_ips + 64,
            listeners_max: Limits::default().listeners_max.max(args.dst_ports.into()),
            ..Limits::default()
        },
        addresses: addresses
            .into_iter()
            .map(|address| LocalAddress { address: IpAddr::V4(address), prefix_len: PREFIX_BITS })
            .collect(),
        ports: (args.ports.first, args.ports.last),
        msl_ms: args.msl_ms,
        settings: Settings {
            receive_buffer_bytes: args.buffer_bytes,
            send_buffer_bytes: args.buffer_bytes,
            timestamps: !args.no_timestamps,
            time_wait_policy: args.tw.policy(),
            time_wait_delay_ms: args.tw_delay_ms,
            rst_ends_time_wait: args.rst_ends_time_wait,
            answers_per_second: args.answers_per_second,
            answers_burst: args.answers_per_second / (limits::ANSWERS_PER_SECOND / limits::ANSWERS_BURST),
            ..Settings::default()
        },
        ..ShardConfig::seeded(seed)
    }
}

/// What a place in TIME-WAIT costs, bytes: what the tables take more than with a single one.
fn time_wait_bytes(args: &RoleArgs) -> f64 {
    let bytes = |time_wait, resident| {
        let args = RoleArgs { time_wait, resident, ..args.clone() };
        config(&args, vec![*args.server.ip()], 1).bill().total_bytes() as f64
    };
    let places = args.time_wait.saturating_add(args.resident).max(2);
    (bytes(args.time_wait, args.resident) - bytes(1, 0)) / f64::from(places - 1)
}

/// What became of TIME-WAIT. Where there is none by policy nothing was lost.
pub(crate) fn time_wait<L: Link, A: Application>(shard: &Shard<L, A>) -> TimeWait {
    time_wait_of(shard.counters(), shard.policies().time_wait)
}

fn time_wait_of(counted: &Counters, policy: Policy) -> TimeWait {
    let skipped = if policy == Policy::None { 0 } else { counted.time_wait_skipped };
    TimeWait {
        created: counted.time_wait_created,
        expired: counted.time_wait_expired,
        evicted: counted.time_wait_evicted + skipped,
    }
}

fn refused(error: XdpError) -> Failure {
    Failure::environment(error.to_string())
}

/// How long the last segments may take after the last connection.
const SETTLE: Duration = Duration::from_millis(50);
