//! The load on both sides of a proxy: clients and the backend in one shard on one core, so that the proxy has the other
//! to itself.

use super::busy::Busy;
use crate::cps::plan::PREFIX_BITS;
use crate::ends::{Client, End, Metered, Server};
use crate::failure::Failure;
use crate::lines::{Final, named};
use crate::role::{RoleArgs, Stop};
use clap::Args;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Instant;
use synfin::api::{Application, Event};
use synfin::shard::Calls;

/// Options of the role.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(super) role: RoleArgs,
    /// Address and first port of the backends, behind the proxy
    #[arg(long, value_name = "IP:PORT")]
    backend: SocketAddrV4,
    /// Backends: one on each port from the first up
    #[arg(long, value_name = "N", default_value_t = 1)]
    backends: u16,
}

/// Runs until the window is over and the last connection is closed.
pub(crate) fn run(args: &LoadArgs) -> Result<Final, Failure> {
    let stop = Stop::begin(args.role.cpu)?;
    let role = &args.role;
    let sources = (0..role.src_ips.max(1)).map(|index| role.source_address(index));
    let addresses = std::iter::once(*args.backend.ip()).chain(sources).collect();
    let load =
        Load { client: Client::new(role, None)?, server: Server::new(role)?, cpu: role.cpu, began: None, busy: None };
    let mut end = End::new(role, load, addresses, (NETWORK, PREFIX_BITS))?;
    let now = end.now();
    for backend in backends(args.backend, args.backends) {
        let listening = end.shard.calls(now).listen(IpAddr::V4(*backend.ip()), backend.port());
        listening.map_err(|error| Failure::environment(format!("cannot listen on {backend}: {error}")))?;
    }
    end.tell_ready(role);
    end.shard.application_mut().client.meter().restart();
    end.turn_while(|load| !load.client.has_ended() && !stop.asked());
    if stop.asked() {
        return Err(Failure::interrupted());
    }
    end.settle();
    let load = end.shard.application_mut();
    let mut result = load.client.result();
    result.errors.extend(named("backend", &load.server.meter().result().errors));
    let Some(busy) = load.busy else {
        return Err(Failure::failed("the measured window never closed"));
    };
    let mut result = end.result(result)?;
    result.counters.insert(BUSY_MS.into(), busy.machine_ms);
    result.counters.insert(LOAD_MS.into(), busy.load_ms);
    Ok(result)
}

/// So many backends, on the ports from the first one's up.
pub(super) fn backends(first: SocketAddrV4, count: u16) -> impl Iterator<Item = SocketAddrV4> {
    (0..count).map(move |more| SocketAddrV4::new(*first.ip(), first.port().saturating_add(more)))
}

struct Load {
    client: Client,
    server: Server,
    cpu: usize,
    /// CPU times when the window began.
    began: Option<Busy>,
    /// What was spent in the window.
    busy: Option<Busy>,
}

impl Load {
    fn measure(&mut self, now: Instant) {
        let (opens_at, closes_at) = self.client.meter().window();
        let is_measured = now >= opens_at && now < closes_at;
        match (self.began, self.busy) {
            (None, _) if is_measured => self.began = Busy::read(self.cpu),
            (Some(began), None) if !is_measured => {
                self.busy = Busy::read(self.cpu).map(|now| now.since(began));
            }
            _ => {}
        }
    }
}

impl Application for Load {
    #[inline]
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event.handle() {
            Some(handle) if calls.user(handle) == Ok(Client::MARK) => self.client.on_event(calls, event),
            Some(_) => self.server.on_event(calls, event),
            None => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        self.client.on_turn(calls);
        self.measure(Instant::now());
    }
}

/// What the load takes from its end of the wire: everything, for no address there is the kernel's.
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 0);
/// The counter of what all CPUs did in the window, ms.
pub(super) const BUSY_MS: &str = "machine_busy_ms";
/// The counter of what the load itself took of that, ms.
pub(super) const LOAD_MS: &str = "load_busy_ms";
