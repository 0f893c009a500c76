//! What runs shards: one pinned thread per shard, a clock read once per turn, published snapshots, an orderly end.
//!
//! [`run`] works over any link; [`Stack::start`] makes AF_XDP links first. The order of an end: [`Running::drain`] lets
//! every shard stop listening and waits until no connection lives or a deadline has passed; then the threads end and
//! with them the links; the XDP program is detached last. A panic in one shard ends all of them, as an error;
//! so does the removal of the interface.

mod alarm;
mod commands;
mod cores;
#[cfg(feature = "xdp")]
pub mod doctor;
mod half_open;
mod host;
#[cfg(feature = "xdp")]
mod kernel_neighbors;
#[cfg(feature = "xdp")]
mod link_watch;
#[cfg(feature = "xdp")]
mod probe;
mod published;
mod questions;
#[cfg(feature = "xdp")]
mod queues;
mod run;
#[cfg(feature = "xdp")]
mod shared;
#[cfg(feature = "xdp")]
mod spread_watch;
mod spreading;
mod wait;
#[cfg(feature = "xdp")]
mod xdp;

#[cfg(test)]
mod tests;

pub use cores::{CoreError, available_cores};
pub use half_open::HalfOpenReport;
#[cfg(feature = "xdp")]
pub use link_watch::LinkEvents;
#[cfg(feature = "xdp")]
pub use probe::ConflictCheck;
pub use published::{ShardSnapshot, Tables};
#[cfg(feature = "xdp")]
pub use shared::SharedPorts;
pub use wait::WaitLink;
#[cfg(feature = "cli")]
pub(crate) use xdp::check_idle;
#[cfg(feature = "xdp")]
pub use xdp::{InterfaceReport, Stack, StackConfig, StackReport, Umem};

use crate::api::{Application, ListenError};
use crate::owner::{Owners, Spread};
use crate::shard::{Calls, ConfigError, Place, Policies, Secrets, ShardConfig};
use crate::tick::Now;
use commands::{Command, Commands};
use half_open::Listing;
use published::Published;
use rand::TryRng;
pub(crate) use run::Drive;
#[cfg(feature = "tokio")]
pub(crate) use run::{ShardLoop, Step};
use run::{Shared, Turns};
use spreading::Divider;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// An application that a stack can start and end.
pub trait Service: Application + Send + 'static {
    /// Called once, before the first turn: the place to listen.
    fn start(&mut self, calls: &mut Calls<'_>) -> Result<(), ListenError>;

    /// Called once when the stack shall end: take no new connections; those that exist may finish. By default the shard stops
    /// listening.
    fn drain(&mut self, calls: &mut Calls<'_>) {
        calls.stop_listening_all();
    }

    /// Whether the application has nothing left to do for a drain but to wait for its connections.
    fn is_drained(&self) -> bool {
        true
    }

    /// Whether the application has done what it was for; its shard then ends by itself.
    fn is_done(&self) -> bool {
        false
    }
}

/// What a shard does when a turn found nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Idle {
    /// Turns again at once: lowest latency, a whole core.
    Spin,
    /// The same, and lets the driver work inside the shard's own system calls (SO_PREFER_BUSY_POLL) instead of by interrupts:
    /// receiving and the stack share one core.
    BusyPoll,
    /// After [`SPIN_US`] without work sleeps until a frame or the next deadline comes.
    #[default]
    Sleep,
}

impl Idle {
    /// Every strategy.
    pub const ALL: [Idle; 3] = [Idle::Spin, Idle::BusyPoll, Idle::Sleep];

    /// Its name on command lines and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Idle::Spin => "spin",
            Idle::BusyPoll => "busy-poll",
            Idle::Sleep => "sleep",
        }
    }

    /// The strategy of that name.
    pub fn from_name(name: &str) -> Option<Idle> {
        Idle::ALL.into_iter().find(|idle| idle.name() == name)
    }
}

/// One shard's place: its link, and the core that its thread is pinned to.
#[derive(Debug)]
pub struct Seat<L> {
    /// The link.
    pub link: L,
    /// The core's number, or `None` to leave the thread to the scheduler.
    pub core: Option<usize>,
}

/// Why a stack could not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// A shard's configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listener was refused.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A core cannot be used.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The operating system gave no randomness for the secrets.
    #[error("no randomness for the secrets: {0}; check that getrandom(2) is allowed here")]
    Randomness(String),
    /// A thread could not be made.
    #[error("shard {shard}: cannot make its thread: {source}; check the limit on processes (ulimit -u)")]
    Thread {
        /// The shard.
        shard: usize,
        /// What the system answered.
        source: std::io::Error,
    },
    /// A shard's async runtime could not be made.
    #[cfg(feature = "tokio")]
    #[error("shard {shard}: cannot make its tokio runtime: {source}; raise the limit on open files (ulimit -n)")]
    Runtime {
        /// The shard.
        shard: usize,
        /// What the system answered.
        source: std::io::Error,
    },
    /// What wakes sleeping shards could not be made.
    #[error("cannot make a pipe: {0}; raise the limit on open files (ulimit -n)")]
    Alarm(std::io::Error),
    /// A shard has not yet obeyed earlier commands.
    #[error("shard {shard}: its queue of commands is full; ask again later")]
    Busy {
        /// The shard.
        shard: usize,
    },
    /// A shard panicked; all were stopped.
    #[error("shard {shard} panicked: {message}; the stack was stopped, please report this")]
    Panicked {
        /// The shard.
        shard: usize,
        /// What the panic said.
        message: String,
    },
    /// The interface went away under the running stack; all shards were stopped.
    #[error(
        "interface {interface}: it was removed while the stack ran (ENODEV, os error 19); make it again, then start the stack anew"
    )]
    InterfaceRemoved {
        /// The interface.
        interface: String,
    },
    /// AF_XDP could not be set up.
    #[cfg(feature = "xdp")]
    #[error(transparent)]
    Xdp(#[from] crate::link::xdp::XdpError),
    /// Two shards would share a core.
    #[error("{shards} shards on {cores} cores: two on one core wait for each other; {advice}")]
    SharedCore {
        /// Shards to be run.
        shards: usize,
        /// Different cores that were given or may be used.
        cores: usize,
        /// What mends it.
        advice: &'static str,
    },
    /// Shards that share cores would take them from each other without end.
    #[error("idle strategy {}: shards that share cores must sleep; take sleep, or leave --share-cores out", .idle.name())]
    SharedCoreNeverIdle {
        /// What they were to do when idle.
        idle: Idle,
    },
    /// An interface was given more than once.
    #[error("interface {interface}: it is given twice; give each once, with all of its addresses")]
    InterfaceTwice {
        /// The interface.
        interface: String,
    },
    /// Frames of some queues would reach no shard.
    #[error(
        "interface {interface}: it has {queues} receive queues and the stack {shards} shards; give --queues {queues}, or {commands}"
    )]
    QueuesLeftOver {
        /// The interface, the first of several.
        interface: String,
        /// Receive queues of each interface.
        queues: usize,
        /// Shards asked for.
        shards: usize,
        /// What gives every interface a queue for each shard.
        commands: String,
    },
    /// Shards would be without a queue.
    #[error(
        "interface {interface}: {shards} receive queues are needed, one for each shard, and it has {queues}; give --queues \
         {queues}, or {commands} if it can have as many"
    )]
    TooFewQueues {
        /// The interface, the first of several.
        interface: String,
        /// Receive queues of each interface.
        queues: usize,
        /// Shards asked for.
        shards: usize,
        /// What gives every interface a queue for each shard.
        commands: String,
    },
    /// Of several interfaces some have more queues than others.
    #[error(
        "receive queues: {counts}, and every interface needs one for each shard; give --queues {least} and {commands}"
    )]
    QueuesDiffer {
        /// How many each has.
        counts: String,
        /// The least of them.
        least: usize,
        /// What gives every interface so many.
        commands: String,
    },
    /// Another host on the wire has an address that the stack shall own.
    #[error(
        "address {address}: host {mac} on the network of interface {interface} has it already; choose another, or end that host's use of it"
    )]
    AddressConflict {
        /// The address.
        address: std::net::IpAddr,
        /// The host's Ethernet address.
        mac: crate::wire::ethernet::MacAddress,
        /// The interface.
        interface: String,
    },
    /// In shared-address mode the kernel has not got an address.
    #[error(
        "address {address}: this host's kernel does not have it, so it cannot be shared (EADDRNOTAVAIL, os error 99); add it with \
         `ip addr add {address}/{prefix_len} dev {interface}`, or leave --shared out"
    )]
    AddressNotShared {
        /// The address.
        address: std::net::IpAddr,
        /// Bits of its prefix.
        prefix_len: u8,
        /// The interface.
        interface: String,
    },
    /// A program of this host has a port that the stack shall listen at.
    #[error("port {port} of {address}: {source}; see `ss -ltnp` for the program that has it, or choose another port")]
    PortTaken {
        /// The address.
        address: std::net::IpAddr,
        /// The port.
        port: u16,
        /// What the kernel answered.
        source: std::io::Error,
    },
    /// The kernel has a connection or listener in the range to open from.
    #[error(
        "ports {low}-{high}: the kernel uses {port} (EADDRINUSE, os error 98); see `ss -tan`, or choose others with --ports"
    )]
    RangeInUse {
        /// The first.
        low: u16,
        /// The last.
        high: u16,
        /// One that is in use.
        port: u16,
    },
    /// Somebody has reserved a part of the range to open from.
    #[error(
        "ports {low}-{high}: {port} is reserved for another (ip_local_reserved_ports); choose others with --ports, or take it out there"
    )]
    RangeReserved {
        /// The first.
        low: u16,
        /// The last.
        high: u16,
        /// One that is reserved.
        port: u16,
    },
    /// The range to open from could not be reserved.
    #[error("{what}: ports cannot be reserved: {source}; run as root, with /run and /proc/sys writable")]
    Reserve {
        /// The file.
        what: String,
        /// What the kernel answered.
        source: std::io::Error,
    },
    /// The kernel has an address that the stack shall own.
    #[error(
        "address {address}: this host's kernel has it already (EADDRINUSE, os error 98); choose another, or remove it \
         with `ip addr del {address}/{prefix_len} dev {interface}`"
    )]
    AddressInUse {
        /// The address.
        address: std::net::IpAddr,
        /// Bits of its prefix.
        prefix_len: u8,
        /// The interface.
        interface: String,
    },
}

/// Starts one shard per seat, between which connections are divided as `spread` says. `make` is called on each shard's
/// own thread, with its number; `config` is for all shards. Returns when every shard is about to take its first turn,
/// or with the first error, after the others have ended.
pub fn run<L, S>(
    seats: Vec<Seat<L>>,
    spread: &Spread,
    config: &ShardConfig,
    idle: Idle,
    make: impl Fn(usize) -> S + Send + Sync + 'static,
) -> Result<Running<S>, StackError>
where
    L: WaitLink + Send + 'static,
    S: Service,
{
    run_by(seats, spread, config, idle, Turns(make))
}

/// As [`run`], driven by `drive`.
pub(crate) fn run_by<L, S>(
    seats: Vec<Seat<L>>,
    spread: &Spread,
    config: &ShardConfig,
    idle: Idle,
    drive: impl Drive<S>,
) -> Result<Running<S>, StackError>
where
    L: WaitLink + Send + 'static,
    S: Service,
{
    let config = &ShardConfig { secrets: Some(secrets_of(config)?), ..config.clone() };
    let owners = Arc::new(Owners::new(spread, seats.len() as u16, config.ports));
    crate::memory::check(&config.bill_among(&owners), seats.len())?;
    let asking = if config.neighbors_elsewhere { 1 + config.beside.len() } else { 0 };
    let shared = Arc::new(Shared::new(Instant::now(), seats.len(), asking).map_err(StackError::Alarm)?);
    let drive = Arc::new(drive);
    let (ready, readies) = mpsc::channel();
    let count = seats.len();
    let commands: Vec<_> = shared.alarms().map(|alarm| Arc::new(Commands::new(Arc::clone(alarm)))).collect();
    let mut running = Running {
        shared: Arc::clone(&shared),
        threads: Vec::new(),
        published: Vec::new(),
        policies: Mutex::new(Policies { msl_ms: config.msl_ms, ..Policies::of(&config.settings) }),
        divider: Divider::new(&commands, spread, &owners),
        commands,
        half_open_max: config.limits.half_open_max,
        lists: Mutex::new(()),
    };
    let places = Place::all(&owners, &config.limits);
    for (shard, (seat, place)) in seats.into_iter().zip(places).enumerate() {
        let published = Arc::new(Published::new());
        running.published.push(Arc::clone(&published));
        let commands = Arc::clone(&running.commands[shard]);
        let (config, shared) = (config.clone(), Arc::clone(&shared));
        let start = run::Start { shard, seat, place, config, idle, published, commands, shared };
        let (drive, ready) = (Arc::clone(&drive), ready.clone());
        let spawned = std::thread::Builder::new()
            .name(format!("synfin-{shard}"))
            .spawn(move || run::shard_thread(start, &*drive, &ready));
        match spawned {
            Ok(thread) => running.threads.push(thread),
            Err(source) => return Err(running.abandon(StackError::Thread { shard, source })),
        }
    }
    drop(ready);
    for _ in 0..count {
        match readies.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(running.abandon(error)),
            // Every thread has ended, so one of them panicked before it was ready.
            Err(mpsc::RecvError) => break,
        }
    }
    Ok(running)
}

/// The secrets that the caller gave, or others at each start.
fn secrets_of(config: &ShardConfig) -> Result<Secrets, StackError> {
    config.secrets.map_or_else(random_secrets, Ok)
}

/// Secrets from the operating system's randomness: what a stack has whose [`ShardConfig::secrets`] are not given.
pub fn random_secrets() -> Result<Secrets, StackError> {
    let draw = || {
        let mut random = rand::rngs::SysRng;
        let mut word = || random.try_next_u64().map_err(|error| StackError::Randomness(error.to_string()));
        Ok::<_, StackError>((word()?, word()?))
    };
    let (random, _) = draw()?;
    Ok(Secrets { index: draw()?, isn: draw()?, neighbors: draw()?, ports: draw()?, cookies: draw()?, random })
}

/// Shards that run. Dropped, it stops them at once; [`Running::drain`] and [`Running::join`] end it in order.
#[derive(Debug)]
pub struct Running<S> {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Option<S>>>,
    published: Vec<Arc<Published>>,
    commands: Vec<Arc<Commands>>,
    policies: Mutex<Policies>,
    divider: Divider,
    half_open_max: u32,
    /// Held by who waits for a list: a shard makes one at a time.
    lists: Mutex<()>,
}

impl<S> Running<S> {
    /// The time that the shards see.
    pub fn now(&self) -> Now {
        self.shared.now()
    }

    /// Whether every shard has ended, by itself or not.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// What each shard has last published, at most 10 ms old; states and histograms are asked for and waited for up to
    /// a quarter of a second.
    pub fn snapshots(&self) -> Vec<ShardSnapshot> {
        let asked: Vec<u32> = self.published.iter().map(|published| published.ask()).collect();
        self.shared.ring_all();
        self.wait_for(|| self.published.iter().zip(&asked).all(|(published, asked)| published.answered(*asked)));
        self.published.iter().map(|published| published.snapshot()).collect()
    }

    /// The half-open connections of each shard (B14), which lists them between turns, some slots at a time; waited for up to a
    /// quarter of a second. What SYN cookies stand for is nowhere, and so not among them.
    pub fn half_open(&self) -> HalfOpenReport {
        let _alone = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let ask = |commands: &Arc<Commands>| {
            let listing = Arc::new(Listing::new(self.half_open_max));
            commands.push(Command::ListHalfOpen(Arc::clone(&listing))).then_some(listing)
        };
        let asked: Vec<Option<Arc<Listing>>> = self.commands.iter().map(ask).collect();
        self.wait_for(|| asked.iter().flatten().all(|listing| listing.is_done()));
        HalfOpenReport { shards: asked.iter().map(|listing| listing.as_ref()?.take()).collect() }
    }

    /// Waits until the shards have answered, or have ended, or have had their time.
    fn wait_for(&self, answered: impl Fn() -> bool) {
        let deadline = Instant::now() + ANSWER_TIME;
        while !answered() && !self.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes no new connections; each shard ends when no connection lives, at the latest after `within`.
    pub fn drain(&self, within: Duration) {
        let deadline_us = self.now().us().saturating_add(within.as_micros() as u64);
        // A second drain may only shorten the first.
        self.shared.drain_until_us.fetch_min(deadline_us, Ordering::Relaxed);
        self.shared.ring_all();
    }

    /// Puts other policies into force, on each shard between two of its turns; those that sleep are woken. On
    /// [`StackError::Busy`] the shards before the one named have them already.
    pub fn set_policies(&self, policies: &Policies) -> Result<(), StackError> {
        policies.check()?;
        let mut last = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        for (shard, commands) in self.commands.iter().enumerate() {
            if !commands.push(Command::SetPolicies(*policies)) {
                return Err(StackError::Busy { shard });
            }
        }
        *last = *policies;
        Ok(())
    }

    /// The policies last set, whether or not each shard has come to obey them yet: what the next change starts from.
    pub fn policies(&self) -> Policies {
        *self.policies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `spread` divides connections between the shards; those that exist stay where they are. Where the
    /// stack follows its NICs, this holds until they spread otherwise. On [`StackError::Busy`] others than the shard
    /// named may know of it already; the next call tells it first of all.
    pub fn divide(&self, spread: &Spread) -> Result<(), StackError> {
        self.divider.change(spread)
    }

    /// Tells the neighbours where the own addresses are, now and once more after 2 s: one shard does it for all.
    pub fn announce(&self) -> Result<(), StackError> {
        self.divider.tell_all(&Command::Announce)
    }

    /// Ends every shard after its turn.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.ring_all();
    }

    /// Waits until every shard has ended; returns their applications and last snapshots.
    pub fn join(mut self) -> Result<(Vec<S>, Vec<ShardSnapshot>), StackError> {
        let services: Vec<S> = self.threads.drain(..).filter_map(|thread| thread.join().ok().flatten()).collect();
        match self.shared.take_failure() {
            Some(error) => Err(error),
            None => Ok((services, self.published.iter().map(|published| published.snapshot()).collect())),
        }
    }

    /// Ends what has started after `error`.
    fn abandon(&mut self, error: StackError) -> StackError {
        self.stop();
        for thread in self.threads.drain(..) {
            // Its panic, if any, came after the error that is reported.
            let _ = thread.join();
        }
        error
    }
}

impl<S> Drop for Running<S> {
    fn drop(&mut self) {
        self.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// How long a question to the shards may take. Origin: many turns that are far too long; whoever asks waits no longer for an
/// application that blocks.
const ANSWER_TIME: Duration = Duration::from_millis(250);

/// How long an idle shard turns before it sleeps, us. Origin: a few round trips on a local wire; smaller adds a wake-up to
/// every exchange, larger costs a core for nothing.
pub const SPIN_US: u64 = 100;
