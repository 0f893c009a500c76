//! synfin's own ends: one shard over AF_XDP on one pinned thread, with the client or the server as its application.

mod client;
mod server;

pub(crate) use client::{Client, run as run_client};
pub(crate) use server::{Server, run as run_server};

use crate::cps::plan::{PORTS, PREFIX_BITS};
use crate::failure::Failure;
use crate::lines::{Final, Line, Ready, TimeWait, tell};
use crate::payload::PAYLOAD_BYTES;
use crate::proc::interface_frames;
use crate::role::{ErrorKind, RoleArgs};
use rand::TryRng;
use rand::rngs::SysRng;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};
use synfin::api::{Application, CloseReason};
use synfin::counters::Counters;
use synfin::limits::Limits;
use synfin::link::Link;
use synfin::link::xdp::{Claim, Prefix, Steering, XdpConfig, XdpError, XdpLink};
use synfin::shard::{LocalAddress, Secrets, Shard, ShardConfig};
use synfin::tcp::Settings;
use synfin::tick::Now;

/// A shard over AF_XDP with its clock.
pub(crate) struct End<A> {
    // The link leaves its slot before the program goes.
    pub(crate) shard: Shard<XdpLink, A>,
    steering: Steering,
    started: Instant,
    interface: String,
    frames_before: u64,
}

impl<A: Application> End<A> {
    /// Attaches, binds and claims what belongs to these addresses.
    pub(crate) fn new(
        args: &RoleArgs,
        application: A,
        addresses: Vec<Ipv4Addr>,
        claims: &[(Ipv4Addr, u8)],
    ) -> Result<End<A>, Failure> {
        let frames_before = interface_frames(&args.interface)?;
        let mut steering = Steering::attach(&args.interface, args.mode.for_xdp()).map_err(refused)?;
        let link = XdpLink::bind(&args.interface, 0, XdpConfig::default()).map_err(refused)?;
        steering.steer(&link).map_err(refused)?;
        for &(network, bits) in claims {
            let prefix = Prefix::new(IpAddr::V4(network), bits).map_err(refused)?;
            steering.claim(prefix, Claim::Own).map_err(refused)?;
        }
        let seed = SysRng.try_next_u64();
        let seed = seed.map_err(|error| Failure::environment(format!("no random numbers from the system: {error}")))?;
        let started = Instant::now();
        let shard = Shard::new(link, application, config(args, addresses, seed), Now::from_us(0));
        let shard = shard.map_err(|error| Failure::environment(format!("cannot make a shard: {error}")))?;
        Ok(End { shard, steering, started, interface: args.interface.clone(), frames_before })
    }

    /// Says that this end is ready, and in which mode.
    pub(crate) fn tell_ready(&self) {
        let copy = if self.shard.link().zero_copy() { "zero-copy" } else { "copy" };
        tell(&Line::Ready(Ready { mode: Some(format!("{} {copy}", self.steering.mode())) }));
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
        Now::from_us(self.started.elapsed().as_micros() as u64)
    }

    /// Adds what shard, link and interface counted.
    pub(crate) fn result(&self, of_meter: Final) -> Result<Final, Failure> {
        let frames_total = interface_frames(&self.interface)? - self.frames_before;
        let counted = self.shard.counters();
        Ok(Final { frames_total, time_wait: time_wait(counted), counters: self.counters(), ..of_meter })
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        let mut counters = BTreeMap::new();
        let mut add = |name: String, count: u64| {
            if count > 0 {
                counters.insert(name, count);
            }
        };
        self.shard.counters().iter().for_each(|(name, count)| add(name.to_string(), count));
        self.shard.drops().iter().for_each(|(name, count)| add(format!("drop.{name}"), count));
        self.shard.link().counters().iter().for_each(|(name, count)| add(format!("link.{name}"), count));
        if let Ok(xsk) = self.shard.link().statistics() {
            add("xsk.rx_dropped".into(), xsk.rx_dropped);
            add("xsk.rx_ring_full".into(), xsk.rx_ring_full);
            add("xsk.fill_ring_empty".into(), xsk.fill_ring_empty);
        }
        counters
    }
}

/// A payload as it comes in, for one connection.
#[derive(Clone, Copy)]
struct Incoming {
    received: u8,
    bytes: [u8; PAYLOAD_BYTES],
}

impl Incoming {
    const NONE: Incoming = Incoming { received: 0, bytes: [0; PAYLOAD_BYTES] };

    /// Takes bytes; `Some(true)` when the payload is complete, `None` when there are too many.
    #[inline]
    fn take(&mut self, bytes: &[u8]) -> Option<bool> {
        let have = usize::from(self.received);
        let room = self.bytes.get_mut(have..have + bytes.len())?;
        room.copy_from_slice(bytes);
        self.received += bytes.len() as u8;
        Some(usize::from(self.received) == PAYLOAD_BYTES)
    }
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
    ShardConfig {
        limits: Limits {
            tcbs_max,
            time_wait_max: args.time_wait,
            half_open_max: tcbs_max,
            chunks_max: 4 * tcbs_max,
            destinations_max: args.src_ips + 64,
            neighbors_max: args.src_ips + 64,
            ..Limits::default()
        },
        addresses: addresses
            .into_iter()
            .map(|address| LocalAddress { address: IpAddr::V4(address), prefix_len: PREFIX_BITS })
            .collect(),
        ports: PORTS,
        settings: Settings {
            receive_buffer_bytes: args.buffer_bytes,
            send_buffer_bytes: args.buffer_bytes,
            ..Settings::default()
        },
        secrets: Secrets::from_seed(seed),
        ..ShardConfig::default()
    }
}

fn time_wait(counters: &Counters) -> TimeWait {
    TimeWait {
        created: counters.time_wait_created,
        expired: counters.time_wait_expired,
        evicted: counters.time_wait_evicted + counters.time_wait_skipped,
    }
}

fn refused(error: XdpError) -> Failure {
    Failure::environment(error.to_string())
}

/// How long the last segments may take after the last connection.
const SETTLE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_in_pieces_is_put_together_and_too_much_refused() {
        let mut incoming = Incoming::NONE;
        assert_eq!(incoming.take(&[1; 60]), Some(false));
        assert_eq!(incoming.take(&[2; 5]), None);
        assert_eq!(incoming.take(&[2; 4]), Some(true));
        assert_eq!((incoming.bytes[59], incoming.bytes[60]), (1, 2));
        assert_eq!(incoming.take(&[3]), None);
        assert_eq!(incoming.take(&[]), Some(true));
    }
}
