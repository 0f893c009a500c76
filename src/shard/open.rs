//! Passive and active opens: a record in the slab, an entry in the index, a next hop, a port.

use super::burst::Arrival;
use super::connection::Connection;
use super::core::Core;
use super::name::Name;
use super::route::is_unicast;
use crate::api::{ConnectError, ConnectOptions};
use crate::flow::index::Hash;
use crate::flow::ports::{DestinationKey, DrawError, Left, PortStatus};
use crate::four_tuple::FourTuple;
use crate::ids::{Handle, Kind, NONE, Value};
use crate::neighbor::{Heard, NeighborId};
use crate::tcp::Context;
use crate::tcp::connection_options::OptionsId;
use crate::tcp::tcb::Tcb;
use crate::tcp::time_wait::{self, Numbers};
use crate::tick::{Deadline, Now};
use crate::wire::ethernet::MacAddress;
use ::core::net::{IpAddr, SocketAddr};
use rand::RngExt;

impl Core {
    /// A SYN came to a listener: a half-open connection, if the limits have room. Full is counted, and the peer tries again
    /// (B10). `former` is the TIME-WAIT record that the SYN hit.
    pub(super) fn open_passively(&mut self, listener: u32, syn: &Arrival, former: Option<(Value, Numbers)>, now: Now) {
        let Arrival { tuple, hash, .. } = *syn;
        // The former incarnation's place in TIME-WAIT becomes this one's.
        let full = former.is_none() && self.time_wait_is_full(tuple.is_v4());
        if self.refuses_to_accept(listener) {
            return;
        }
        if full || self.half_open >= self.limits.half_open_max {
            self.counters.syn_dropped_full += 1;
            return;
        }
        let Some(neighbor) = self.neighbor_towards(&tuple, Some((syn.interface, syn.src_mac)), now) else {
            self.counters.syn_dropped_no_neighbor += 1;
            return;
        };
        let options = self.listener_options[listener as usize];
        let cx = Context { now, settings: &self.settings, options: self.options.get(options), receive_room: false };
        let mut tcb = Tcb::open_passively(&tuple, &syn.segment, &cx);
        if let Some((_, numbers)) = &former {
            let random = self.random.random();
            tcb.set_iss(time_wait::iss_beyond(numbers, tcb.iss(), random));
        }
        let name = Name { tuple, neighbor, hash, origin: listener, user: 0 };
        let Some(number) = self.admit(tcb, name, former.map(|(value, _)| value), options) else {
            self.counters.syn_dropped_full += 1;
            return;
        };
        self.histories.begin(number, now);
        self.half_open += 1;
        self.counters.opens_passive += 1;
        self.schedule(number);
    }

    /// OPEN (RFC 9293 3.10.1), active: the SYN leaves at the end of this turn.
    #[inline(always)]
    pub(super) fn open_actively(
        &mut self,
        remote: SocketAddr,
        options: &ConnectOptions,
        now: Now,
    ) -> Result<Handle, ConnectError> {
        if !is_unicast(remote.ip()) || self.routes.is_broadcast(remote.ip()) || remote.port() == 0 {
            return Err(ConnectError::InvalidRemote(remote));
        }
        let quiet_for_ms = self.quiet_for_ms(now);
        if quiet_for_ms > 0 {
            return Err(ConnectError::QuietTime(quiet_for_ms));
        }
        let local = self.local_towards(remote.ip(), options)?;
        if self.connections.len() >= self.connections.max() {
            return Err(ConnectError::TooManyConnections(self.connections.max()));
        }
        let (destination, wanted) = match options.local_port {
            Some(0) => return Err(ConnectError::LocalPortZero),
            Some(port) => {
                let tuple = FourTuple::new(local, port, remote.ip(), remote.port());
                if let Some(shard) = self.destinations.other_owner(&tuple) {
                    return Err(ConnectError::OtherShard { port, shard });
                }
                let wanted = self.wanted(tuple);
                if self.former.may_be_elsewhere(&self.strangers, self.shard, &tuple, wanted.hash) {
                    return Err(ConnectError::PortInUse(port));
                }
                (NONE, wanted)
            }
            None => self.draw_port(local, remote, now)?,
        };
        let port = wanted.tuple.local_port;
        let opened = if self.is_claimed(port) || !self.routes.is_own(local) {
            self.admit_active(&wanted, destination, options, now)
        } else {
            Err(ConnectError::NotClaimed(port))
        };
        match opened {
            Ok(number) => {
                let handle = self.connections[number].handle(number);
                self.counters.opens_active += 1;
                self.histories.begin(number, now);
                self.schedule(number);
                Ok(handle)
            }
            Err(error) => {
                if destination != NONE {
                    let left = if wanted.holder.is_some() { Left::Former } else { Left::Nothing };
                    self.destinations.give_back(destination, port, left, now.tick());
                }
                Err(error)
            }
        }
    }

    #[inline]
    fn admit_active(
        &mut self,
        wanted: &Wanted,
        destination: u32,
        options: &ConnectOptions,
        now: Now,
    ) -> Result<u32, ConnectError> {
        let Wanted { tuple, hash, holder: former } = *wanted;
        if former.is_none() && self.time_wait_is_full(tuple.is_v4()) {
            return Err(self.refuse_without_time_wait());
        }
        let cx = Context { now, settings: &self.settings, options: &options.connection, receive_room: false };
        let mut tcb = Tcb::open_actively(&tuple, &cx);
        if let Some(value) = former {
            let reusable = self.time_wait_numbers(value).filter(|numbers| time_wait::may_open_actively(numbers, &cx));
            let numbers = *reusable.ok_or(ConnectError::PortInUse(tuple.local_port))?;
            let random = self.random.random();
            tcb.set_iss(time_wait::iss_beyond(&numbers, tcb.iss(), random));
            tcb.inherit_ts_recent(&numbers, now);
        }
        if let Some(deadline) = options.deadline {
            let ticks = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX).min(i32::MAX as u32);
            tcb.waits_until = tcb.waits_until.earlier(Deadline::at(now.tick().plus(ticks)));
        }
        let neighbor = self.neighbor_of(&tuple, now)?;
        let set = match self.options.acquire(&options.connection) {
            Ok(set) => set,
            Err(error) => {
                self.neighbors.release(neighbor);
                return Err(error.into());
            }
        };
        // The connection counts for itself.
        let name = Name { tuple, neighbor, hash, origin: destination, user: options.user };
        let admitted = self.admit(tcb, name, former, set);
        self.options.release(set);
        admitted.ok_or(ConnectError::TooManyConnections(self.connections.max()))
    }

    /// A slot with its name and an index entry for a new TCB, in the place of the former incarnation's record where there is one:
    /// the only way in. Without room the neighbour is given back.
    #[inline(always)]
    pub(super) fn admit(&mut self, tcb: Tcb, name: Name, former: Option<Value>, options: OptionsId) -> Option<u32> {
        let hash = name.hash;
        let record = || Connection::new(tcb);
        let admitted = self.connections.insert_with(record).filter(|&number| {
            let own = Value::new(Kind::Tcb, number);
            let indexed = match former {
                Some(former) => self.index.replace(hash, former, own),
                None => self.index.insert(hash, own).is_ok(),
            };
            if !indexed {
                self.connections.remove(number);
            }
            indexed
        });
        match admitted {
            Some(number) => {
                let connection = &mut self.connections[number];
                connection.set_former(former);
                self.connections_v6 += u32::from(!connection.tcb.is_v4());
                connection.tcb.options = self.options.share(options);
                self.names[number] = name;
            }
            None => self.neighbors.release(name.neighbor),
        }
        admitted
    }

    /// The next hop of a connection. One that is not known yet is where `heard_from` says, as an ARP request would: every
    /// shard so learns the neighbours of its own queue, whichever queue their answers arrive on.
    #[inline]
    pub(super) fn neighbor_towards(
        &mut self,
        tuple: &FourTuple,
        heard_from: Option<(u8, MacAddress)>,
        now: Now,
    ) -> Option<NeighborId> {
        if let (true, Some((interface, mac))) = (self.reply_to_sender, heard_from) {
            let neighbor = self.neighbors.resolve_mac(interface, mac, now.tick()).ok()?;
            self.neighbor_interfaces[neighbor.index()] = interface;
            return Some(neighbor);
        }
        let hop = self.routes.next_hop(Some(tuple.local()), tuple.remote())?;
        let neighbor = self.neighbors.resolve(hop, now.tick()).ok()?;
        if self.interface_count > 1 {
            self.neighbor_interfaces[neighbor.index()] = self.routes.interface_of(hop);
        }
        if let Some((interface, mac)) = heard_from.filter(|_| self.neighbors.mac(neighbor).is_none()) {
            self.learn(interface, hop, mac, Heard::Request, now);
        }
        Some(neighbor)
    }

    /// The next hop of an active open.
    #[inline(always)]
    fn neighbor_of(&mut self, tuple: &FourTuple, now: Now) -> Result<NeighborId, ConnectError> {
        self.neighbor_towards(tuple, None, now).ok_or_else(|| {
            match self.routes.next_hop(Some(tuple.local()), tuple.remote()) {
                None => ConnectError::NoRoute(tuple.remote()),
                Some(_) => ConnectError::NeighborsFull(self.limits.neighbors_max),
            }
        })
    }

    /// The local address of an active open: the one asked for, or the one on the way (MUST-43, MUST-44).
    #[inline(always)]
    fn local_towards(&self, remote: IpAddr, options: &ConnectOptions) -> Result<IpAddr, ConnectError> {
        match options.local_address {
            Some(address) if !self.routes.is_local(address) => Err(ConnectError::NotOurAddress(address)),
            Some(address) if address.is_ipv4() != remote.is_ipv4() => Err(ConnectError::NoRoute(remote)),
            Some(address) => Ok(address),
            None => self.routes.source(remote).ok_or(ConnectError::NoRoute(remote)),
        }
    }

    /// Whether what comes to the port of an own address is the stack's; else the kernel has it.
    #[inline]
    pub(super) fn is_claimed(&self, port: u16) -> bool {
        let has = |ranges: &[(u16, u16)]| ranges.iter().any(|(low, high)| (*low..=*high).contains(&port));
        self.claimed.as_deref().is_none_or(has)
    }

    fn wanted(&self, tuple: FourTuple) -> Wanted {
        let hash = self.index.hash(&tuple);
        Wanted { tuple, hash, holder: self.index.find(hash, |value| self.is_record_of(value, &tuple)) }
    }

    /// A 4-tuple whose port no connection towards the remote holds, TIME-WAIT included (B40) unless the policy lets it go
    /// (B45). With a full store only one will do whose place in TIME-WAIT the connection takes over.
    #[inline(always)]
    fn draw_port(&mut self, local: IpAddr, remote: SocketAddr, now: Now) -> Result<(u32, Wanted), ConnectError> {
        let key = DestinationKey { local, remote: remote.ip(), remote_port: remote.port() };
        let full = self.time_wait_is_full(local.is_ipv4());
        let (index, connections, names) = (&self.index, &self.connections, &self.names);
        let (former, strangers, shard) = (&self.former, &self.strangers, self.shard);
        let (time_wait_v4, time_wait_v6) = (&self.time_wait_v4, &self.time_wait_v6);
        let cx = Context::without_connection(now, &self.settings);
        let tuple = |port| FourTuple::new(local, port, remote.ip(), remote.port());
        let mut wanted = None;
        let mut reusable_in_ms: Option<u32> = None;
        let mut waits = |numbers| {
            let (status, in_ms) = waits(numbers, &cx);
            reusable_in_ms = reusable_in_ms.into_iter().chain(in_ms).min();
            status
        };
        let status = |port| {
            let tuple = tuple(port);
            let hash = index.hash(&tuple);
            let holder = index.find(hash, |value| match value.kind() {
                Kind::Tcb => names[value.number()].tuple == tuple,
                Kind::TimeWaitV4 => time_wait_v4[value.number()].tuple() == tuple,
                Kind::TimeWaitV6 => time_wait_v6[value.number()].tuple() == tuple,
            });
            wanted = Some(Wanted { tuple, hash, holder });
            if former.may_be_elsewhere(strangers, shard, &tuple, hash) {
                return PortStatus::Busy;
            }
            match holder.map(|value| (value.kind(), value.number())) {
                None if full => PortStatus::NoPlace,
                None => PortStatus::Free,
                Some((Kind::Tcb, number)) if names[number].is_from_destination(&connections[number].tcb) => {
                    PortStatus::InUse
                }
                Some((Kind::Tcb, _)) => PortStatus::Busy,
                Some((Kind::TimeWaitV4, number)) => waits(&time_wait_v4[number].numbers),
                Some((Kind::TimeWaitV6, number)) => waits(&time_wait_v6[number].numbers),
            }
        };
        let drawn = if full {
            self.destinations.draw_again(&key, now.tick(), status)
        } else {
            self.destinations.draw(&key, now.tick(), status)
        };
        let (destination, port) = drawn.map_err(|error| self.refuse_without_port(error, reusable_in_ms, full))?;
        // Among many entries the line of the index that says whether a port is free is the one that an open waits for.
        if let Some(next) = self.destinations.next_asked(destination) {
            self.index.prefetch(self.index.hash(&tuple(next)));
        }
        // The port that was asked about last is the one drawn.
        let wanted = wanted.filter(|wanted: &Wanted| wanted.tuple.local_port == port);
        Ok((destination, wanted.unwrap_or_else(|| self.wanted(tuple(port)))))
    }

    /// Why there is no port, counted. The first TIME-WAIT that was asked about may be reused in `reusable_in_ms`; `full` says that the
    /// connection would have had to take over a place there.
    #[cold]
    #[inline(never)]
    fn refuse_without_port(&mut self, error: DrawError, reusable_in_ms: Option<u32>, full: bool) -> ConnectError {
        let refused = match error {
            DrawError::DestinationsExhausted => ConnectError::DestinationsExhausted(self.limits.destinations_max),
            DrawError::PortsExhausted { owned: 0, .. } => ConnectError::NoPortOfThisShard(self.shard),
            DrawError::PortsExhausted { .. } if full => return self.refuse_without_time_wait(),
            DrawError::PortsExhausted { owned, in_use, time_wait, next_free_in_ms } => {
                let next_free_in_ms = next_free_in_ms.into_iter().chain(reusable_in_ms).min();
                ConnectError::PortsExhausted { owned, in_use, time_wait, next_free_in_ms }
            }
        };
        self.counters.ports_exhausted += 1;
        refused
    }

    /// The policy `refuse-open` (B46), counted.
    #[cold]
    #[inline(never)]
    fn refuse_without_time_wait(&mut self) -> ConnectError {
        self.counters.opens_refused_time_wait += 1;
        ConnectError::TimeWaitFull(self.limits.time_wait_max)
    }
}

/// What an active open asks for: a 4-tuple, its hash, and what has it now.
struct Wanted {
    tuple: FourTuple,
    hash: Hash,
    holder: Option<Value>,
}

/// How a port in TIME-WAIT may be used, and in how many ms an open may take it before its 2MSL ends. Draws go by the 2MSL alone.
#[inline]
fn waits(numbers: &Numbers, cx: &Context<'_>) -> (PortStatus, Option<u32>) {
    // One whose 2MSL is over goes on having the 4-tuple until the store comes to it.
    let free_in_ms = cx.now.tick().until(numbers.deadline).max(1);
    let reusable_in_ms = time_wait::reusable_in_ms(numbers, cx);
    (PortStatus::TimeWait { free_in_ms, reusable: reusable_in_ms == Some(0) }, reusable_in_ms)
}
