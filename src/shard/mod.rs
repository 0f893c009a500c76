//! One shard: its link, its tables, its application, and the turn that joins them ([`turn`], the spine).
//!
//! A shard shares nothing. Its containers come from `flow`, `timer` and `neighbor`, its rules from `tcp`, its bytes from
//! `wire`; this floor alone knows them all.

mod accept;
mod announce;
mod arrive;
pub mod bill;
mod burst;
mod calls;
mod clock;
mod connection;
mod cookie;
mod core;
mod exact;
mod expire;
mod find;
mod gaps;
mod half_open;
mod handover;
mod history;
mod icmp;
mod left_over;
mod link_change;
mod name;
mod open;
mod options;
mod parse;
mod policies;
mod pressure;
mod respond;
mod route;
mod sim;
mod splice;
mod strangers;
mod tell;
mod time_wait;
mod timers;
pub mod turn;
mod waiting;

#[cfg(test)]
mod tests;

pub use announce::{Conflict, claimed_by, emit_probe};
pub use bill::Bill;
pub use calls::Calls;
pub use half_open::{HalfOpen, by_source};
pub use handover::Place;
pub use policies::Policies;
pub use route::{Attachment, LocalAddress};
pub use sim::Sim;

use crate::api::Application;
use crate::counters::{Counters, DropReason, Drops};
use crate::flow::chunks::Chunks;
use crate::four_tuple::FourTuple;
use crate::limits::{self, BURST_MAX, Limits};
use crate::link::Link;
use crate::neighbor::{ASKS as NEIGHBOR_ASKS, Heard};
use crate::owner::Owners;
use crate::tcp::Settings;
use crate::tcp::state::State;
use crate::tick::Now;
use crate::wire;
use crate::wire::ethernet::MacAddress;
use ::core::fmt;
use ::core::net::IpAddr;
use ::core::ops::Range;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use burst::Burst;
use core::{Core, TX_RETRY_MS};
use handover::Handover;
use route::Routes;

/// Whether TCP can use an MTU of so many bytes, with IPv6 or without: from the smallest of IPv4 hosts (RFC 791), or of IPv6 links
/// (RFC 8200 5), to the largest of Ethernet.
fn is_mtu(bytes: usize, v6: bool) -> bool {
    let least = if v6 { 1280 } else { 576 };
    (least..=9216).contains(&bytes)
}

/// What a shard is made from.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// How much it may hold.
    pub limits: Limits,
    /// The stack's own addresses; at least one.
    pub addresses: Vec<LocalAddress>,
    /// Networks whose addresses are not the stack's but may be the local ones of its connections, as IP_TRANSPARENT allows: a
    /// proxy so connects onwards from its client's address, or takes connections to any server's. The network must route them
    /// here, and they must not be on this wire: whoever owns them is not asked. Empty by default.
    pub transparent: Vec<LocalAddress>,
    /// Next hops for everything beyond the addresses' networks, at most one per family.
    pub gateways: Vec<IpAddr>,
    /// What the stack has on other interfaces than the first, whose link is [`crate::link::several::Several`] then.
    /// `addresses`, `gateways` and `vlan` are those of the first.
    pub beside: Vec<Attachment>,
    /// MSL, ms.
    pub msl_ms: u32,
    /// How long after its start the shard opens nothing and is silent to SYNs, ms (RFC 9293 3.4.3, B48).
    pub quiet_time_ms: u32,
    /// Local ports for active opens, both included.
    pub ports: (u16, u16),
    /// Secrets of the stack. `None`, the default: what runs shards on threads draws them from the operating system at
    /// each start. A shard that is made without it needs some.
    pub secrets: Option<Secrets>,
    /// How long a neighbour, such as a gateway, may not answer before opens that need it end as unreachable, s: it is
    /// asked once a second. At least 1.
    pub neighbor_timeout_s: u8,
    /// Somebody else asks for neighbours: questions wait for [`Shard::take_questions`], answers come by
    /// [`Shard::learn_neighbor`].
    pub neighbors_elsewhere: bool,
    /// Ranges, both ends included, of the own addresses' ports that are the stack's, where the kernel has the others;
    /// `None` for all. Of what the stack stands in for it has every port.
    pub claimed: Option<Vec<(u16, u16)>>,
    /// What is accepted is answered to the MAC address that its SYN came from, without a route: as behind a load balancer that
    /// forwards frames.
    pub reply_to_sender: bool,
    /// The VLAN that the stack is on.
    pub vlan: Option<u16>,
    /// Verify checksums of received packets; off only where hardware has done so.
    pub verify_checksums: bool,
    /// The protocol's other settings; `mtu`, `msl_ms`, `msl_since` and `isn_secret` are overwritten.
    pub settings: Settings,
}

impl Default for ShardConfig {
    fn default() -> ShardConfig {
        ShardConfig {
            limits: Limits::default(),
            addresses: Vec::new(),
            transparent: Vec::new(),
            gateways: Vec::new(),
            beside: Vec::new(),
            msl_ms: limits::MSL_MS,
            quiet_time_ms: 0,
            ports: limits::PORTS,
            secrets: None,
            neighbor_timeout_s: NEIGHBOR_ASKS,
            neighbors_elsewhere: false,
            claimed: None,
            reply_to_sender: false,
            vlan: None,
            verify_checksums: true,
            settings: Settings::default(),
        }
    }
}

impl ShardConfig {
    /// Defaults with secrets drawn from `seed`: for simulations and tests. On a wire anybody who knows the seed can
    /// guess ISNs, ports and SYN cookies.
    pub fn seeded(seed: u64) -> ShardConfig {
        ShardConfig { secrets: Some(Secrets::from_seed(seed)), ..ShardConfig::default() }
    }

    /// What the stack has on each interface, by its number.
    pub fn attachments(&self) -> Vec<Attachment> {
        let first = Attachment { addresses: self.addresses.clone(), gateways: self.gateways.clone(), vlan: self.vlan };
        [first].into_iter().chain(self.beside.iter().cloned()).collect()
    }

    /// The same with `attachments`, by number of the interface, in place of what it has.
    #[must_use]
    pub fn with_attachments(self, attachments: Vec<Attachment>) -> ShardConfig {
        let mut attachments = attachments.into_iter();
        let Attachment { addresses, gateways, vlan } = attachments.next().unwrap_or_default();
        ShardConfig { addresses, gateways, vlan, beside: attachments.collect(), ..self }
    }

    /// Whether addresses and gateways fit together; a shard is not made of others.
    pub fn check_routes(&self) -> Result<(), ConfigError> {
        Routes::new(&self.attachments())?.with_transparent(&self.transparent).map(|_| ())
    }
}

/// Keys that nobody outside the stack may know. All shards of a stack have the same ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// Key of the connection index (T30).
    pub index: (u64, u64),
    /// Key of ISN and timestamp offsets (RFC 6528).
    pub isn: (u64, u64),
    /// Key of the neighbour cache and of the path MTUs.
    pub neighbors: (u64, u64),
    /// Seed of small random choices (how far an ISS lies beyond its former incarnation).
    pub random: u64,
    /// Key of the ports' random starts (RFC 6056).
    pub ports: (u64, u64),
    /// Key of SYN cookies (B13).
    pub cookies: (u64, u64),
}

impl Secrets {
    /// Secrets drawn from one seed: the same seed replays a simulation exactly. A seed of 64 bits that others may know
    /// is nothing for a wire (RFC 9293 MUST-9, RFC 6528): there, leave [`ShardConfig::secrets`] out.
    pub fn from_seed(seed: u64) -> Secrets {
        use rand::{RngExt, SeedableRng};
        let mut random = rand::rngs::SmallRng::seed_from_u64(seed);
        Secrets {
            index: random.random(),
            isn: random.random(),
            neighbors: random.random(),
            random: random.random(),
            ports: random.random(),
            cookies: random.random(),
        }
    }
}

/// Why a shard cannot be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// No address was given.
    #[error("the stack has no address: give at least one, and one for each of several interfaces")]
    NoAddress,
    /// An address, or its network, that two interfaces have: no route would say which is meant.
    #[error("{0}/{1} of one interface and {2}/{3} of another overlap: each interface needs networks of its own")]
    Overlap(IpAddr, u8, IpAddr, u8),
    /// A gateway beyond the networks of its interface, where there are several.
    #[error("gateway {0} is on no network of its interface: it must be, where there are several interfaces")]
    GatewayElsewhere(IpAddr),
    /// More interfaces than a stack can have, or not as many links as the configuration has interfaces.
    #[error("{links} links for {configured} interfaces: there must be one for each, at most {max}", max = limits::INTERFACES_MAX)]
    Interfaces {
        /// Links.
        links: usize,
        /// Interfaces of the configuration.
        configured: usize,
    },
    /// No secrets were given to a shard that nobody draws some for.
    #[error(
        "the shard has no secrets: draw some from the operating system (stack::random_secrets), or give a seed in a simulation"
    )]
    NoSecrets,
    /// An address that no host can have, such as a network's own or its broadcast address, or a prefix longer than its address.
    #[error("{0}/{1} is no host address with a prefix length")]
    BadAddress(IpAddr, u8),
    /// A network to stand in for with too long a prefix, or of a family of which the stack has no address.
    #[error("{0}/{1} cannot be stood in for: it is no network, or the stack has no address of its family")]
    BadTransparent(IpAddr, u8),
    /// A port range that is empty or begins at 0.
    #[error("ports {0} to {1} are no range: the first must be at least 1 and at most the last")]
    BadPorts(u16, u16),
    /// An MSL of 0 or beyond an hour.
    #[error("an MSL of {0} ms is out of range: 1 to {max}", max = limits::MSL_MAX_MS)]
    BadMsl(u32),
    /// A SYN-ACK that would be sent again for too long.
    #[error("{0} retransmissions of a SYN-ACK are out of range: 0 to {max}", max = limits::SYN_ACK_RETRIES_MAX)]
    BadSynAckRetries(u8),
    /// A send buffer of 0, or a receive buffer that no window can express.
    #[error("send and receive buffers must be at least 1 byte, receive buffers at most {max}", max = limits::BUFFER_BYTES_MAX)]
    BadBuffers,
    /// A burst of 0 or beyond the largest.
    #[error("a burst of {0} frames is out of range: 1 to {max}", max = BURST_MAX)]
    BadBurst(u32),
    /// A limit with which nothing would ever be sent or told.
    #[error("limits.{limit} of {given} lets no connection work: it must be at least {least}")]
    LimitTooSmall {
        /// The limit.
        limit: &'static str,
        /// What it was set to.
        given: u32,
        /// What it must be at least.
        least: u32,
    },
    /// A limit that record numbers cannot express.
    #[error("{given} records are more than {max}: lower limits.{limit}")]
    TooManyRecords {
        /// The limit.
        limit: &'static str,
        /// What it was set to.
        given: u32,
        /// What it may be at most.
        max: u32,
    },
    /// More neighbours than connections can name.
    #[error("{0} neighbours are more than {max}: lower limits.neighbors_max", max = crate::neighbor::ENTRIES_MAX)]
    TooManyNeighbors(u32),
    /// An MTU too small for TCP over the IP versions of which its interface has addresses, or too large for its length fields.
    #[error("an MTU of {0} bytes is out of range: 576 (IPv4) or 1280 (IPv6) to 9216")]
    BadMtu(usize),
    /// The tables do not fit into memory.
    #[error(
        "the tables of a shard need {} bytes and {}; lower limits.{} or add memory\n{bill}",
        bill.total_bytes(), Available(*available_bytes), bill.dearest_limit()
    )]
    NoMemory {
        /// What they are.
        bill: Box<Bill>,
        /// What there is for each shard, bytes; `None` where the allocator refused.
        available_bytes: Option<u64>,
    },
}

/// What there is, in words.
struct Available(Option<u64>);

impl fmt::Display for Available {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes} are available (ENOMEM)"),
            None => f.write_str("the system refused them (ENOMEM; see ulimit -v and vm.overcommit_memory)"),
        }
    }
}

/// One shard over link `L` with application `A`.
pub struct Shard<L, A> {
    link: L,
    application: A,
    core: Core,
    /// Received bytes that the application has not taken. Beside the core, because events borrow it.
    receiving: Chunks,
    burst: Burst,
    handover: Handover,
}

/// Connections by state, under RFC names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StateCounts {
    /// TCBs per state of [`State::ALL`].
    pub tcbs: [u32; State::ALL.len()],
    /// Listeners (LISTEN).
    pub listeners: u32,
    /// TIME-WAIT records.
    pub time_wait: u32,
}

impl StateCounts {
    /// Name and count of all eleven states.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let tcbs = State::ALL.iter().map(|state| (state.name(), self.tcbs[*state as usize]));
        [("LISTEN", self.listeners), ("TIME-WAIT", self.time_wait)].into_iter().chain(tcbs)
    }
}

impl<L: Link, A: Application> Shard<L, A> {
    /// A shard over `link`, alone. All memory is allocated and touched here.
    pub fn new(link: L, application: A, config: ShardConfig, now: Now) -> Result<Shard<L, A>, ConfigError> {
        let place = Place::alone(config.ports);
        Shard::new_among(link, application, config, place, now)
    }

    /// One of several shards, each with a link of its own, between which connections are divided. The function of `place` has
    /// the local ports of `config`.
    pub fn new_among(
        link: L,
        application: A,
        config: ShardConfig,
        place: Place,
        now: Now,
    ) -> Result<Shard<L, A>, ConfigError> {
        let secrets = config.secrets.ok_or(ConfigError::NoSecrets)?;
        let interfaces = interfaces(&link, &config)?;
        for (own, attachment) in interfaces.iter().zip(config.attachments()) {
            let v6 = attachment.addresses.iter().any(|own| own.address.is_ipv6());
            if !is_mtu(own.mtu, v6) {
                return Err(ConfigError::BadMtu(own.mtu));
            }
        }
        let settings = Settings {
            // One for all interfaces: whatever way a segment takes, it passes.
            mtu: interfaces.iter().map(|own| own.mtu as u16).min().unwrap_or(0),
            msl_ms: config.msl_ms,
            msl_since: Now::default(),
            isn_secret: secrets.isn,
            ..config.settings
        };
        let core = Core::new(&config, &secrets, settings, &interfaces, &place, now)?;
        let receiving = Chunks::new(config.limits.chunks_max / 2);
        let burst = Burst::new(&config.limits);
        let handover = Handover::new(place);
        Ok(Shard { link, application, core, receiving, burst, handover })
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.core.counters
    }

    /// Dropped frames by reason.
    pub fn drops(&self) -> &Drops {
        &self.burst.drops
    }

    /// Drop reasons that were seen for the first time since the last call, with the MAC address that sent the frame.
    pub fn first_drops(&mut self) -> impl Iterator<Item = (DropReason, MacAddress)> {
        self.burst.first_drops.drain(..)
    }

    /// From now on `owners`, which [`Owners::changed`] has made of the former, divides connections between the shards of the
    /// stack. Those that are here and now another's live on: its shard asks here about their segments. A change of which the
    /// shard knows already is none.
    pub fn change_owners(&mut self, owners: &Arc<Owners>, now: Now) {
        if owners.changes() <= self.handover.owners().changes() {
            return;
        }
        self.core.destinations.change_owners(owners);
        self.handover.change_owners(owners, self.core.settings.msl_ms.saturating_mul(2), now);
        self.core.former.set(self.handover.former(), owners.changes());
    }

    /// The function that divides connections, and how many former ones are still asked about those they left behind.
    pub fn owners(&self) -> (&Arc<Owners>, usize) {
        (self.handover.owners(), self.handover.former().len())
    }

    /// Shards of the stack that were handed frames in the last turn: one that sleeps has to be woken.
    pub fn handed_to(&self) -> &[u16] {
        self.handover.sent_to()
    }

    /// Whether other shards have handed over frames for the next turn.
    pub fn is_handed(&self) -> bool {
        self.handover.is_pending()
    }

    /// Where the large tables lie, as ranges of addresses, for whoever can put them on huge pages. They stay there.
    pub fn regions(&self) -> impl Iterator<Item = Range<*const u8>> {
        self.core.regions().chain([self.receiving.region()])
    }

    /// The neighbours that the last turn wanted to ask for, each with the number of its interface, where somebody else does
    /// (`neighbors_elsewhere`).
    pub fn take_questions(&mut self) -> impl Iterator<Item = (u8, IpAddr)> {
        self.core.questions.drain(..)
    }

    /// The answer to a question: on interface number `interface`, `ip` is at `mac`. Whoever waited for it goes on in
    /// the next turn.
    pub fn learn_neighbor(&mut self, interface: u8, ip: IpAddr, mac: MacAddress, now: Now) {
        self.core.learn(interface, ip, mac, Heard::Answer, now);
    }

    /// The link.
    pub fn link(&self) -> &L {
        &self.link
    }

    /// The link, to set faults or to advance its time.
    pub fn link_mut(&mut self) -> &mut L {
        &mut self.link
    }

    /// The application.
    pub fn application(&self) -> &A {
        &self.application
    }

    /// The application.
    pub fn application_mut(&mut self) -> &mut A {
        &mut self.application
    }

    /// Connections by state. Walks the TCBs: for reports, not for turns.
    pub fn states(&self) -> StateCounts {
        self.core.states()
    }

    /// TCBs in use: half-open, open, and ended but not yet told. TIME-WAIT is not counted.
    pub fn connections_live(&self) -> usize {
        self.core.connections.len() as usize
    }

    /// Chunks that hold no byte and are promised to none; `limits.chunks_max` when nothing is unread or unacknowledged.
    pub fn chunks_free(&self) -> u32 {
        self.core.sending.free() + self.receiving.free()
    }

    /// Pairs of connections that are spliced.
    pub fn splices_live(&self) -> usize {
        self.core.splices.len() as usize
    }

    /// The most cache lines of the index that a look-up may read now. Reads the whole index: for reports, not for turns.
    pub fn longest_probe(&self) -> u32 {
        self.core.index.longest_probe()
    }

    /// TIME-WAIT records in use.
    pub fn time_wait_live(&self) -> usize {
        self.core.time_wait_len() as usize
    }

    /// Puts a record into TIME-WAIT as if a connection of this name had closed now: for measurements that begin with a
    /// full store.
    /// `false` where there is no room, or the 4-tuple is in use.
    pub fn put_time_wait(&mut self, tuple: FourTuple, now: Now) -> bool {
        self.core.put_time_wait(tuple, now)
    }

    /// The earliest time at which a turn has something to do although nothing arrives; a lower bound.
    pub fn next_deadline(&self, now: Now) -> Option<Now> {
        let retry = self.link.is_behind().then(|| now.plus_ms(TX_RETRY_MS.into()));
        retry.into_iter().chain(self.core.next_deadline(now)).min()
    }

    /// Lets the application make calls outside of events.
    pub fn with_calls<T>(&mut self, now: Now, ask: impl FnOnce(&mut A, &mut Calls<'_>) -> T) -> T {
        let now = self.core.between_turns(now);
        ask(&mut self.application, &mut Calls::new(&mut self.core, &self.receiving, now))
    }

    /// Ends the shard and its link; what the application holds remains.
    pub fn into_application(self) -> A {
        self.application
    }

    /// Aborts every connection that an application knows of: their peers get a RST in the next turn.
    pub fn abort_all(&mut self, now: Now) {
        for number in 0..self.core.connections.max() {
            let handle = self.core.connections.is_live(number).then(|| self.core.connections[number].handle(number));
            if let Some(handle) = handle {
                // Refused where there is nothing to abort: half-open, or ended already.
                let _ = self.calls(now).abort(handle);
            }
        }
    }

    /// The calls, outside of events: to listen and to connect before the first turn.
    pub fn calls(&mut self, now: Now) -> Calls<'_> {
        let now = self.core.between_turns(now);
        Calls::new(&mut self.core, &self.receiving, now)
    }
}

/// What frames of each interface must be like, by its number.
fn interfaces<L: Link>(link: &L, config: &ShardConfig) -> Result<Vec<wire::Expect>, ConfigError> {
    let (links, configured) = (usize::from(link.interfaces()), 1 + config.beside.len());
    if links != configured || links > limits::INTERFACES_MAX {
        return Err(ConfigError::Interfaces { links, configured });
    }
    let vlans = [config.vlan].into_iter().chain(config.beside.iter().map(|attachment| attachment.vlan));
    let expect = |(interface, vlan)| wire::Expect {
        mac: link.mac_on(interface),
        mtu: link.mtu_on(interface),
        vlan,
        verify_checksums: config.verify_checksums,
    };
    Ok((0..).zip(vlans).map(expect).collect())
}
