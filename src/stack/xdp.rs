//! A stack over AF_XDP: one shard per receive queue of one interface, or per queue of each of several.

use super::kernel_neighbors::Asker;
use super::link_watch::{LinkEvents, LinkWatch};
use super::run::{Drive, Turns};
use super::shared::{SharedPorts, Taken};
use super::spread_watch::Watch;
use super::{
    ConflictCheck, Idle, Running, Seat, Service, ShardSnapshot, StackError, WaitLink, cores, host, probe, queues,
    run_by, secrets_of,
};
use crate::link::Link;
use crate::link::capture::{Capture, CaptureConfig, CaptureReader};
use crate::link::several::Several;
use crate::link::xdp::{
    AttachedMode, Claim, Interface, Mode, Prefix, Steering, Verdicts, XdpConfig, XdpError, XdpLink,
};
use crate::link::xdp::{KernelNeighbors, NoRss, kernel_addresses, rss};
use crate::owner::{Rss, Spread};
use crate::shard::{Attachment, ConfigError, Conflict, LocalAddress, ShardConfig};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a stack is made from.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// The first interface's name. Its addresses, gateways and VLAN are those of `shard`.
    pub interface: String,
    /// Other interfaces, each with what the stack has there.
    pub beside: Vec<(String, Attachment)>,
    /// Shards, one per queue from 0 on of every interface; `None` for one per receive queue of the first.
    pub queues: Option<usize>,
    /// The cores of the shards, in order; empty for the first that this process may use.
    pub cores: Vec<usize>,
    /// How the XDP programs are attached.
    pub mode: Mode,
    /// Sizes of the links.
    pub link: XdpConfig,
    /// Ports of addresses that the kernel keeps; `None` for addresses that are the stack's alone.
    pub shared: Option<SharedPorts>,
    /// Every shard's configuration; the limits are those of one shard. `beside`, `neighbors_elsewhere` and
    /// `claimed` are overwritten.
    pub shard: ShardConfig,
    /// What idle shards do; those that share cores must sleep.
    pub idle: Idle,
    /// Whether several shards may run on one core; only with [`Idle::Sleep`].
    pub share_cores: bool,
    /// How it is made sure at the start that no other host has an own address.
    pub conflict_check: ConflictCheck,
    /// Whether frames are copied for a capture, and how.
    pub capture: Option<CaptureConfig>,
}

impl StackConfig {
    /// A stack on `interface` with defaults, and as yet without addresses.
    pub fn new(interface: &str) -> StackConfig {
        StackConfig {
            interface: interface.to_owned(),
            beside: Vec::new(),
            queues: None,
            cores: Vec::new(),
            mode: Mode::Auto,
            link: XdpConfig::default(),
            shared: None,
            shard: ShardConfig::default(),
            idle: Idle::default(),
            share_cores: false,
            conflict_check: ConflictCheck::default(),
            capture: None,
        }
    }

    /// The same on another interface too, where the stack has `attachment`: each shard drives a queue of each interface, so that
    /// connections of one may be spliced to those of another.
    #[must_use]
    pub fn with_interface(mut self, interface: &str, attachment: Attachment) -> StackConfig {
        self.beside.push((interface.to_owned(), attachment));
        self
    }

    /// Name and attachment of every interface, by its number.
    fn interfaces(&self) -> Result<Vec<(String, Attachment)>, StackError> {
        let beside = self.beside.iter().map(|(_, attachment)| attachment.clone()).collect();
        let attachments = ShardConfig { beside, ..self.shard.clone() }.attachments();
        let names = [&self.interface].into_iter().chain(self.beside.iter().map(|(name, _)| name)).cloned();
        let all: Vec<_> = names.zip(attachments).collect();
        match all.iter().enumerate().find(|(number, (name, _))| all[..*number].iter().any(|(other, _)| other == name)) {
            Some((_, (name, _))) => Err(StackError::InterfaceTwice { interface: name.clone() }),
            None => Ok(all),
        }
    }
}

/// A stack that runs. Dropped, it ends at once and gives the interfaces' traffic back to the kernel.
#[derive(Debug)]
pub struct Stack<S> {
    _watch: Option<Watch>,
    _askers: Vec<Asker>,
    link_watches: Vec<LinkWatch>,
    // The shards end before the programs are detached: fields are dropped in order.
    running: Running<S>,
    spread: &'static str,
    bases: Vec<Base>,
    // Given back when the kernel has the traffic again.
    _taken: Option<Taken>,
    readers: Vec<CaptureReader>,
}

/// What a stack has come to.
#[derive(Clone, Debug)]
pub struct StackReport {
    /// Each interface, in the order given.
    pub interfaces: Vec<InterfaceReport>,
    /// How connections were divided between shards at the start: by the NIC's `rss`, or by a `symmetric` hash.
    pub spread: &'static str,
    /// Each shard.
    pub shards: Vec<ShardSnapshot>,
}

/// What has become of one interface of a stack.
#[derive(Clone, Debug)]
pub struct InterfaceReport {
    /// The interface, as it was when the program had been attached.
    pub interface: Interface,
    /// How the program is attached, as the kernel says.
    pub mode: AttachedMode,
    /// What has happened to the interface since.
    pub link_events: LinkEvents,
    /// The memory of the shards' frames.
    pub umem: Umem,
    /// Frames by verdict of the XDP program; `None` when the kernel did not say.
    pub verdicts: Option<Verdicts>,
}

/// The memory of the shards' frames of an interface, as it was obtained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Umem {
    /// Bytes per frame.
    pub frame_bytes: u32,
    /// Frames pass without a copy.
    pub zero_copy: bool,
    /// Every shard's frames lie on huge pages.
    pub huge_pages: bool,
}

/// What a stack holds of an interface beside its links.
#[derive(Debug)]
struct Base {
    steering: Steering,
    umem: Umem,
}

impl<S: Service> Stack<S> {
    /// Attaches the XDP programs, binds a link per queue and starts the shards, in the calling thread's network
    /// namespace. `make` makes each shard's application on the shard's own thread. On error nothing is left behind.
    pub fn start(
        config: &StackConfig,
        make: impl Fn(usize) -> S + Send + Sync + 'static,
    ) -> Result<Stack<S>, StackError> {
        Stack::start_by(config, Turns(make))
    }

    /// As [`Stack::start`], driven by `drive`.
    pub(crate) fn start_by(config: &StackConfig, drive: impl Drive<S>) -> Result<Stack<S>, StackError> {
        check_idle(config.idle, config.share_cores)?;
        let named = config.interfaces()?;
        let queried: Vec<Interface> =
            named.iter().map(|(name, _)| Interface::query(name)).collect::<Result<_, XdpError>>()?;
        let cores = shard_cores(config, &queried)?;
        let secrets = secrets_of(&config.shard)?;
        let shard = ShardConfig {
            beside: config.beside.iter().map(|(_, attachment)| attachment.clone()).collect(),
            neighbors_elsewhere: config.shared.is_some(),
            claimed: config.shared.as_ref().map(|ports| ports.claimed(config.shard.ports)),
            secrets: Some(secrets),
            ..config.shard.clone()
        };
        shard.check_routes()?;
        check_kernel_addresses(config, &named)?;
        let own: Vec<IpAddr> =
            named.iter().flat_map(|(_, attachment)| &attachment.addresses).map(|own| own.address).collect();
        let taken = config.shared.as_ref().map(|ports| Taken::take(ports, &own, shard.ports)).transpose()?;
        let (mut bases, mut links) = (Vec::new(), Vec::new());
        for (name, attachment) in &named {
            let (base, bound) = occupy(config, name, attachment, cores.len(), secrets.random)?;
            bases.push(base);
            links.push(bound);
        }
        let names: Vec<String> = named.into_iter().map(|(name, _)| name).collect();
        let (running, spread, readers) = run_links(config, &shard, (&names, links), &cores, drive)?;
        let mut askers = Vec::new();
        if running.shared.questions.is_empty() {
            running.announce()?;
        }
        for ((questions, base), number) in running.shared.questions.iter().zip(&bases).zip(0..) {
            let kernel = KernelNeighbors::open(base.steering.interface())?;
            askers.push(Asker::start(number, kernel, Arc::clone(questions), running.divider.clone())?);
        }
        let name = spread.name();
        let watch = watch(names, &running, spread, cores.len())?;
        let mut link_watches = Vec::new();
        for (base, number) in bases.iter().zip(0..) {
            let (interface, shared) = (base.steering.interface().clone(), Arc::clone(&running.shared));
            link_watches.push(LinkWatch::start(number, interface, running.divider.clone(), shared)?);
        }
        Ok(Stack { _watch: watch, _askers: askers, link_watches, running, spread: name, bases, _taken: taken, readers })
    }

    /// The reading ends of the shards' captures, once; empty without a capture.
    pub fn take_capture_readers(&mut self) -> Vec<CaptureReader> {
        std::mem::take(&mut self.readers)
    }

    /// The shards.
    pub fn running(&self) -> &Running<S> {
        &self.running
    }

    /// How the program is attached to each interface, as the kernel says.
    pub fn modes(&self) -> impl Iterator<Item = AttachedMode> {
        self.bases.iter().map(|base| base.steering.mode())
    }

    /// What the stack has come to.
    pub fn report(&self) -> StackReport {
        report(&self.bases, self.spread, &self.link_watches, self.running.snapshots())
    }

    /// Takes no new connections, waits until none lives or `within` has passed, and ends. Returns the applications.
    pub fn drain(self, within: Duration) -> Result<(Vec<S>, StackReport), StackError> {
        self.running.drain(within);
        self.join()
    }

    /// Waits until every shard has ended, by itself or by [`Running::drain`]; then the kernel has the traffic again.
    pub fn join(self) -> Result<(Vec<S>, StackReport), StackError> {
        let Stack { running, bases, spread, link_watches, _taken, .. } = self;
        let (services, shards) = running.join()?;
        Ok((services, report(&bases, spread, &link_watches, shards)))
    }
}

fn report(bases: &[Base], spread: &'static str, watches: &[LinkWatch], shards: Vec<ShardSnapshot>) -> StackReport {
    let one = |(base, watch): (&Base, &LinkWatch)| InterfaceReport {
        interface: base.steering.interface().clone(),
        mode: base.steering.mode(),
        link_events: watch.events(),
        umem: base.umem,
        verdicts: base.steering.verdicts().ok(),
    };
    StackReport { interfaces: bases.iter().zip(watches).map(one).collect(), spread, shards }
}

/// Attaches the program to an interface, binds its links and lets it steer to them what the stack has there.
fn occupy(
    config: &StackConfig,
    name: &str,
    attachment: &Attachment,
    shards: usize,
    seed: u64,
) -> Result<(Base, Vec<XdpLink>), StackError> {
    let mut steering = Steering::attach(name, config.mode)?;
    let mut links = Vec::new();
    for queue in 0..shards as u32 {
        let link = XdpLink::bind(name, queue, config.link)?;
        steering.steer(&link)?;
        if config.idle == Idle::BusyPoll {
            link.prefer_busy_poll(BUSY_POLL_FRAMES)?;
        }
        links.push(link);
    }
    steering.set_vlan(attachment.vlan)?;
    claim(&mut steering, config, attachment)?;
    claim_transparent(config, &mut steering)?;
    if config.shared.is_none()
        && let Some(Conflict { address, mac }) = probe::conflict(&mut links, attachment, config.conflict_check, seed)
    {
        return Err(StackError::AddressConflict { address, mac, interface: name.to_owned() });
    }
    let umem = Umem {
        frame_bytes: config.link.frame_bytes,
        zero_copy: links.iter().all(XdpLink::zero_copy),
        huge_pages: links.iter().all(XdpLink::huge_pages),
    };
    Ok((Base { steering, umem }, links))
}

/// Starts the shards over `links`, by interface and queue.
fn run_links<S: Service>(
    config: &StackConfig,
    shard: &ShardConfig,
    (names, mut links): (&[String], Vec<Vec<XdpLink>>),
    cores: &[usize],
    drive: impl Drive<S>,
) -> Result<(Running<S>, Spread, Vec<CaptureReader>), StackError> {
    let spread = spread(names, cores.len());
    let idle = config.idle;
    let mut readers = Vec::new();
    let running = match (config.capture, links.pop()) {
        (None, Some(only)) if links.is_empty() => run_by(seats(only, cores), &spread, shard, idle, drive)?,
        (None, last) => run_by(seats(by_queue(links.into_iter().chain(last))?, cores), &spread, shard, idle, drive)?,
        (Some(capture), last) => {
            let mut wrap = |link| {
                let (link, reader) = Capture::new(link, capture);
                readers.push(reader);
                link
            };
            let wrapped = links.into_iter().chain(last).map(|links| links.into_iter().map(&mut wrap).collect());
            run_by(seats(by_queue(wrapped.collect::<Vec<_>>())?, cores), &spread, shard, idle, drive)?
        }
    };
    Ok((running, spread, readers))
}

/// The links of each queue as one.
fn by_queue<L: Link>(interfaces: impl IntoIterator<Item = Vec<L>>) -> Result<Vec<Several<L>>, StackError> {
    let mut interfaces: Vec<_> = interfaces.into_iter().map(Vec::into_iter).collect();
    let links = interfaces.len();
    let mut queues = Vec::new();
    loop {
        let queue: Vec<L> = interfaces.iter_mut().filter_map(Iterator::next).collect();
        if queue.is_empty() {
            return Ok(queues);
        }
        queues.push(Several::new(queue).ok_or(ConfigError::Interfaces { links, configured: links })?);
    }
}

/// How the NICs spread what they receive, as far as `shards` shards can follow that, and all do it alike.
fn spread(interfaces: &[String], shards: usize) -> Spread {
    common(interfaces.iter().map(|name| followed(name, rss(name), shards)))
}

/// What all of several NICs do. One function divides connections, whichever interface they come by.
fn common(mut spreads: impl Iterator<Item = Spread>) -> Spread {
    let first = spreads.next().unwrap_or(Spread::Symmetric);
    if spreads.all(|spread| spread == first) { first } else { Spread::Symmetric }
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

/// Follows what the NICs do later, where they can be followed at all.
fn watch<S>(
    interfaces: Vec<String>,
    running: &Running<S>,
    current: Spread,
    shards: usize,
) -> Result<Option<Watch>, StackError> {
    if shards == 1 || current == Spread::Symmetric {
        return Ok(None);
    }
    let read = move || {
        let read = |name: &String| match rss(name) {
            // A driver that is being reset has nothing to say for a moment: no reason to divide anew.
            Err(NoRss::Unreadable { .. } | NoRss::Malformed) => None,
            answer => Some(followed(name, answer, shards)),
        };
        let spreads: Option<Vec<Spread>> = interfaces.iter().map(read).collect();
        spreads.map(|spreads| common(spreads.into_iter()))
    };
    let watch = Watch::start(running.divider.clone(), current, WATCH, read);
    watch.map(Some).map_err(|source| StackError::Thread { shard: shards, source })
}

fn seats<L: Link>(links: Vec<L>, cores: &[usize]) -> Vec<Seat<L>> {
    links.into_iter().zip(cores).map(|(link, core)| Seat { link, core: Some(*core) }).collect()
}

/// Shards that share cores must leave them to each other.
pub(crate) fn check_idle(idle: Idle, share_cores: bool) -> Result<(), StackError> {
    match (share_cores, idle) {
        (true, Idle::Spin | Idle::BusyPoll) => Err(StackError::SharedCoreNeverIdle { idle }),
        (true, Idle::Sleep) | (false, _) => Ok(()),
    }
}

/// A core per shard; their number is the number of shards.
fn shard_cores(config: &StackConfig, interfaces: &[Interface]) -> Result<Vec<usize>, StackError> {
    let queues = |interface: &Interface| interface.queues as usize;
    let shards = config.queues.or(interfaces.first().map(queues)).unwrap_or(1).max(1);
    // What is near to the first is taken to be near to all.
    let near = host::interface_node(&config.interface).and_then(host::node_cores);
    let mut cores = config.cores.clone();
    if cores.is_empty() {
        cores = cores::available_cores();
        cores.sort_by_key(|core| near.as_ref().is_some_and(|near| !near.contains(core)));
    }
    for core in &cores {
        cores::check(*core)?;
    }
    let counts: Vec<_> = interfaces.iter().map(|interface| (interface.name.clone(), queues(interface))).collect();
    queues::check(&counts, shards)?;
    if config.share_cores {
        cores = cores.iter().copied().cycle().take(shards).collect();
    }
    for far in cores.iter().take(shards).filter(|core| near.as_ref().is_some_and(|near| !near.contains(core))) {
        tracing::warn!(core = far, interface = config.interface, "{FAR}");
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
fn claim(steering: &mut Steering, config: &StackConfig, attachment: &Attachment) -> Result<(), StackError> {
    for LocalAddress { address, .. } in &attachment.addresses {
        match &config.shared {
            None => steering.claim((*address).into(), Claim::Own)?,
            Some(ports) => {
                let claimed = ports.claimed(config.shard.ports);
                for port in claimed.into_iter().flat_map(|(low, high)| low..=high) {
                    steering.claim_port(Some(*address), port)?;
                }
            }
        }
    }
    Ok(())
}

/// In own-address mode the kernel must not have the addresses: both would answer for them. In shared-address mode it must.
fn check_kernel_addresses(config: &StackConfig, named: &[(String, Attachment)]) -> Result<(), StackError> {
    let kernel = kernel_addresses()?;
    for (name, attachment) in named {
        for LocalAddress { address, prefix_len } in attachment.addresses.iter().copied() {
            let interface = name.clone();
            match (config.shared.is_some(), kernel.contains(&address)) {
                (true, false) => return Err(StackError::AddressNotShared { address, prefix_len, interface }),
                (false, true) => return Err(StackError::AddressInUse { address, prefix_len, interface }),
                (true, true) | (false, false) => {}
            }
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
