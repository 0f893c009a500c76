//! A stack over AF_XDP: one shard per receive queue of one interface.

use super::kernel_neighbors::Asker;
use super::link_watch::{LinkEvents, LinkWatch};
use super::run::{Drive, Turns};
use super::shared::{SharedPorts, Taken};
use super::spreading::Watch;
use super::{Idle, Running, Seat, Service, ShardSnapshot, StackError, WaitLink, cores, host, probe, run_by};
use crate::link::Link;
use crate::link::capture::{Capture, CaptureConfig, CaptureReader};
use crate::link::xdp::{AttachedMode, Claim, Interface, Mode, Prefix, Steering, Verdicts, XdpConfig, XdpLink};
use crate::link::xdp::{KernelNeighbors, NoRss, kernel_addresses, rss};
use crate::owner::{Rss, Spread};
use crate::shard::{Conflict, ShardConfig};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a stack is made from.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// The interface's name.
    pub interface: String,
    /// Shards, one per queue from 0 on; `None` for one per receive queue of the interface.
    pub queues: Option<usize>,
    /// The cores of the shards, in order; empty for the first that this process may use.
    pub cores: Vec<usize>,
    /// How the XDP program is attached.
    pub mode: Mode,
    /// Sizes of the links.
    pub link: XdpConfig,
    /// Ports of addresses that the kernel keeps; `None` for addresses that are the stack's alone.
    pub shared: Option<SharedPorts>,
    /// Every shard's configuration; the limits are those of one shard.
    pub shard: ShardConfig,
    /// What idle shards do; those that share cores sleep.
    pub idle: Idle,
    /// Whether several shards may run on one core.
    pub share_cores: bool,
    /// Whether frames are copied for a capture, and how.
    pub capture: Option<CaptureConfig>,
}

impl StackConfig {
    /// A stack on `interface` with defaults, and as yet without addresses.
    pub fn new(interface: &str) -> StackConfig {
        StackConfig {
            interface: interface.to_owned(),
            queues: None,
            cores: Vec::new(),
            mode: Mode::Auto,
            link: XdpConfig::default(),
            shared: None,
            shard: ShardConfig::default(),
            idle: Idle::default(),
            share_cores: false,
            capture: None,
        }
    }
}

/// A stack that runs. Dropped, it ends at once and gives the interface's traffic back to the kernel.
#[derive(Debug)]
pub struct Stack<S> {
    _watch: Option<Watch>,
    _asker: Option<Asker>,
    link_watch: LinkWatch,
    umem: Umem,
    // The shards end before the program is detached: fields are dropped in order.
    running: Running<S>,
    spread: &'static str,
    steering: Steering,
    // Given back when the kernel has the traffic again.
    _taken: Option<Taken>,
    readers: Vec<CaptureReader>,
}

/// What a stack has come to.
#[derive(Clone, Debug)]
pub struct StackReport {
    /// The interface, as it was when the program had been attached.
    pub interface: Interface,
    /// How the program is attached, as the kernel says.
    pub mode: AttachedMode,
    /// How connections were divided between shards at the start: by the NIC's `rss`, or by a `symmetric` hash.
    pub spread: &'static str,
    /// What has happened to the interface since.
    pub link_events: LinkEvents,
    /// The memory of the shards' frames.
    pub umem: Umem,
    /// Frames by verdict of the XDP program; `None` when the kernel did not say.
    pub verdicts: Option<Verdicts>,
    /// Each shard.
    pub shards: Vec<ShardSnapshot>,
}

/// The memory of a shard's frames, as it was obtained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Umem {
    /// Bytes per frame.
    pub frame_bytes: u32,
    /// Frames pass without a copy.
    pub zero_copy: bool,
    /// Every shard's frames lie on huge pages.
    pub huge_pages: bool,
}

impl<S: Service> Stack<S> {
    /// Attaches the XDP program, binds a link per queue and starts the shards, in the calling thread's network
    /// namespace. `make` makes each shard's application on the shard's own thread. On error nothing is left behind.
    pub fn start(
        config: &StackConfig,
        make: impl Fn(usize) -> S + Send + Sync + 'static,
    ) -> Result<Stack<S>, StackError> {
        Stack::start_by(config, Turns(make))
    }

    /// As [`Stack::start`], driven by `drive`.
    pub(crate) fn start_by(config: &StackConfig, drive: impl Drive<S>) -> Result<Stack<S>, StackError> {
        let interface = Interface::query(&config.interface)?;
        let cores = shard_cores(config, &interface)?;
        check_kernel_addresses(config)?;
        let addresses: Vec<IpAddr> = config.shard.addresses.iter().map(|own| own.address).collect();
        let shard = ShardConfig { neighbors_elsewhere: config.shared.is_some(), ..config.shard.clone() };
        let taken = config.shared.as_ref().map(|ports| Taken::take(ports, &addresses, shard.ports)).transpose()?;
        let mut steering = Steering::attach(&config.interface, config.mode)?;
        let mut links = Vec::new();
        for queue in 0..cores.len() as u32 {
            let link = XdpLink::bind(&config.interface, queue, config.link)?;
            steering.steer(&link)?;
            if config.idle == Idle::BusyPoll && !config.share_cores {
                link.prefer_busy_poll(BUSY_POLL_FRAMES)?;
            }
            links.push(link);
        }
        claim(&mut steering, config, &addresses)?;
        claim_transparent(config, &mut steering)?;
        if config.shared.is_none()
            && let Some(Conflict { address, mac }) = probe::conflict(&mut links, &config.shard)
        {
            let interface = config.interface.clone();
            return Err(StackError::AddressConflict { address, mac, interface });
        }
        let umem = Umem {
            frame_bytes: config.link.frame_bytes,
            zero_copy: links.iter().all(XdpLink::zero_copy),
            huge_pages: links.iter().all(XdpLink::huge_pages),
        };
        let mut readers = Vec::new();
        let spread = spread(&config.interface, cores.len());
        let idle = if config.share_cores { Idle::Sleep } else { config.idle };
        let running = match config.capture {
            None => run_by(seats(links, &cores), &spread, &shard, idle, drive)?,
            Some(capture) => {
                let wrap = |link| {
                    let (link, reader) = Capture::new(link, capture);
                    readers.push(reader);
                    link
                };
                let links = links.into_iter().map(wrap).collect();
                run_by(seats(links, &cores), &spread, &shard, idle, drive)?
            }
        };
        let asker = match &running.shared.questions {
            None => {
                running.announce()?;
                None
            }
            Some(questions) => {
                let kernel = KernelNeighbors::open(steering.interface())?;
                Some(Asker::start(kernel, Arc::clone(questions), running.divider.clone())?)
            }
        };
        let name = spread.name();
        let watch = watch(&config.interface, &running, spread, cores.len())?;
        let shared = Arc::clone(&running.shared);
        let link_watch = LinkWatch::start(steering.interface().clone(), running.divider.clone(), shared)?;
        Ok(Stack {
            _watch: watch,
            _asker: asker,
            link_watch,
            umem,
            running,
            spread: name,
            steering,
            _taken: taken,
            readers,
        })
    }

    /// The reading ends of the shards' captures, once; empty without a capture.
    pub fn take_capture_readers(&mut self) -> Vec<CaptureReader> {
        std::mem::take(&mut self.readers)
    }

    /// The shards.
    pub fn running(&self) -> &Running<S> {
        &self.running
    }

    /// How the program is attached, as the kernel says.
    pub fn mode(&self) -> AttachedMode {
        self.steering.mode()
    }

    /// What the stack has come to.
    pub fn report(&self) -> StackReport {
        self.report_of(self.running.snapshots())
    }

    /// Takes no new connections, waits until none lives or `within` has passed, and ends. Returns the applications.
    pub fn drain(self, within: Duration) -> Result<(Vec<S>, StackReport), StackError> {
        self.running.drain(within);
        self.join()
    }

    /// Waits until every shard has ended, by itself or by [`Running::drain`]; then the kernel has the traffic again.
    pub fn join(self) -> Result<(Vec<S>, StackReport), StackError> {
        let Stack { running, steering, spread, link_watch, umem, _taken, .. } = self;
        let (services, shards) = running.join()?;
        Ok((services, report(&steering, spread, &link_watch, umem, shards)))
    }

    fn report_of(&self, shards: Vec<ShardSnapshot>) -> StackReport {
        report(&self.steering, self.spread, &self.link_watch, self.umem, shards)
    }
}

fn report(
    steering: &Steering,
    spread: &'static str,
    link: &LinkWatch,
    umem: Umem,
    shards: Vec<ShardSnapshot>,
) -> StackReport {
    let (verdicts, link_events) = (steering.verdicts().ok(), link.events());
    let (interface, mode) = (steering.interface().clone(), steering.mode());
    StackReport { interface, mode, spread, link_events, umem, verdicts, shards }
}

/// How the interface's NIC spreads what it receives, as far as `shards` shards can follow that.
fn spread(interface: &str, shards: usize) -> Spread {
    followed(interface, rss(interface), shards)
}

fn followed(interface: &str, rss: Result<Rss, NoRss>, shards: usize) -> Spread {
    match rss {
        Ok(rss) if rss.queues() <= shards => Spread::Rss(rss),
        Ok(rss) => {
            tracing::info!(
                interface,
                queues = rss.queues(),
                shards,
                "the NIC spreads over more queues than there are shards"
            );
            Spread::Symmetric
        }
        Err(reason) => {
            tracing::debug!(interface, %reason, "connections are divided by the stack's own hash");
            Spread::Symmetric
        }
    }
}

/// Follows what the NIC does later, where it can be followed at all.
fn watch<S>(
    interface: &str,
    running: &Running<S>,
    current: Spread,
    shards: usize,
) -> Result<Option<Watch>, StackError> {
    if shards == 1 || current == Spread::Symmetric {
        return Ok(None);
    }
    let interface = interface.to_owned();
    let read = move || match rss(&interface) {
        // A driver that is being reset has nothing to say for a moment: no reason to divide anew.
        Err(NoRss::Unreadable { .. } | NoRss::Malformed) => None,
        answer => Some(followed(&interface, answer, shards)),
    };
    let watch = Watch::start(running.divider.clone(), WATCH, read);
    watch.map(Some).map_err(|source| StackError::Thread { shard: shards, source })
}

fn seats<L: Link>(links: Vec<L>, cores: &[usize]) -> Vec<Seat<L>> {
    links.into_iter().zip(cores).map(|(link, core)| Seat { link, core: Some(*core) }).collect()
}

/// A core per shard; their number is the number of shards.
fn shard_cores(config: &StackConfig, interface: &Interface) -> Result<Vec<usize>, StackError> {
    let queues = interface.queues as usize;
    let shards = config.queues.unwrap_or(queues).max(1);
    let near = host::interface_node(&interface.name).and_then(host::node_cores);
    let mut cores = config.cores.clone();
    if cores.is_empty() {
        cores = cores::available_cores();
        cores.sort_by_key(|core| near.as_ref().is_some_and(|near| !near.contains(core)));
    }
    for core in &cores {
        cores::check(*core)?;
    }
    if queues > shards {
        return Err(StackError::QueuesLeftOver { interface: interface.name.clone(), queues, shards });
    }
    if config.share_cores {
        cores = cores.iter().copied().cycle().take(shards).collect();
    }
    for far in cores.iter().take(shards).filter(|core| near.as_ref().is_some_and(|near| !near.contains(core))) {
        tracing::warn!(core = far, interface = interface.name, "{FAR}");
    }
    if config.share_cores {
        return Ok(cores);
    }
    cores.truncate(shards);
    let different = cores.iter().collect::<BTreeSet<_>>().len();
    if different < shards {
        let advice = if config.cores.is_empty() {
            "allow more cores, take fewer queues (ethtool -L), or give --share-cores"
        } else {
            "name as many different ones with --cpus, or give --share-cores"
        };
        return Err(StackError::SharedCore { shards, cores: different, advice });
    }
    Ok(cores)
}

/// What arrives for the addresses, or for single ports of them, is the stack's.
fn claim(steering: &mut Steering, config: &StackConfig, addresses: &[IpAddr]) -> Result<(), StackError> {
    for address in addresses {
        match &config.shared {
            None => steering.claim((*address).into(), Claim::Own)?,
            Some(SharedPorts { listen, opens }) => {
                let range = config.shard.ports.0..=config.shard.ports.1;
                for port in listen.iter().copied().chain(range.filter(|_| *opens)) {
                    steering.claim_port(Some(*address), port)?;
                }
            }
        }
    }
    Ok(())
}

/// In own-address mode the kernel must not have the addresses: both would answer for them. In shared-address mode it must.
fn check_kernel_addresses(config: &StackConfig) -> Result<(), StackError> {
    let kernel = kernel_addresses()?;
    for own in &config.shard.addresses {
        if config.shared.is_some() {
            if !kernel.contains(&own.address) {
                let (address, prefix_len, interface) = (own.address, own.prefix_len, config.interface.clone());
                return Err(StackError::AddressNotShared { address, prefix_len, interface });
            }
        } else if kernel.contains(&own.address) {
            let interface = config.interface.clone();
            return Err(StackError::AddressInUse { address: own.address, prefix_len: own.prefix_len, interface });
        }
    }
    Ok(())
}

/// What the stack stands in for is steered to it, but for addresses that the kernel has.
fn claim_transparent(config: &StackConfig, steering: &mut Steering) -> Result<(), StackError> {
    for network in &config.shard.transparent {
        steering.claim(Prefix::new(network.address, network.prefix_len)?, Claim::Own)?;
    }
    if !config.shard.transparent.is_empty() {
        for address in kernel_addresses()? {
            steering.claim(address.into(), Claim::Shared)?;
        }
    }
    Ok(())
}

/// What to tell of a core on another NUMA node than the device.
const FAR: &str = "the core is far from the interface's NUMA node: frames cross between memories; choose one of the cores that \
    `synfin doctor` names with --cpus";

/// Frames that one busy poll may take. Origin: the weight of NAPI; smaller costs system calls, larger makes turns long.
const BUSY_POLL_FRAMES: u32 = 64;

/// How often the NIC is asked whether it spreads otherwise. Smaller troubles the driver; until shards learn of a change, what
/// arrives elsewhere is handed over.
const WATCH: Duration = Duration::from_secs(1);

const _: () = {
    const fn is_send<T: Send + WaitLink>() {}
    is_send::<XdpLink>();
};
