//! Whether the TIME-WAIT store has the places that the connections of a proxy reserve while they are open (`refuse-open`).

use super::config::{Config, Listener};
use crate::cli::session;
use crate::limits::Limits;
use crate::tcp::time_wait::{Full, Policy};

/// Places that the connections of one shard reserve at most, of one IP version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Places {
    /// For each client that was accepted: its own and that of its connection to a backend.
    pub(super) each: u32,
    /// For connections that are half-open or wait to be accepted, and for health checks.
    pub(super) beside: u32,
}

impl Places {
    /// Those of a shard with these limits that makes the health checks.
    pub(super) fn of(config: &Config, limits: &Limits, v4: bool) -> Places {
        let is_of_it = |listener: &&Listener| listener.address.is_ipv4() == v4;
        let backends = |listener: &Listener| listener.backends.iter().filter(|to| to.address.is_ipv4() == v4).count();
        let listeners = || config.listeners.iter();
        let each = listeners().map(|one| u32::from(is_of_it(&one)) + u32::from(backends(one) > 0)).max().unwrap_or(0);
        let arriving = if listeners().any(|one| is_of_it(&one)) { limits.half_open_max + limits.accept_max } else { 0 };
        let checked: usize = listeners().filter(|one| one.health_check.is_some()).map(backends).sum();
        // A check that closes and the next.
        Places { each, beside: arriving + 2 * checked as u32 }
    }

    /// For so many clients.
    pub(super) fn for_clients(self, clients: u32) -> u32 {
        self.each.saturating_mul(clients).saturating_add(self.beside)
    }
}

impl Config {
    /// That each of `shards` shards has the places that its part of `connections_max` clients reserves, of each IP version.
    /// What is in TIME-WAIT comes on top: how much that is depends on how fast connections close.
    pub(super) fn check_time_wait_places(&self, time_wait: Policy, full: Full, shards: u32) -> Result<(), String> {
        if time_wait == Policy::None || full != Full::RefuseOpen {
            return Ok(());
        }
        let limits = session::limits(&self.stack, shards);
        let clients = self.connections_max.div_ceil(shards);
        let both = [true, false].map(|v4| Places::of(self, &limits, v4));
        let [v4, v6] = both.map(|places| places.for_clients(clients));
        let (needed, there) = (v4.max(v6), limits.time_wait_max);
        if needed <= there {
            return Ok(());
        }
        let (Places { each, beside }, version) = if v4 >= v6 { (both[0], "IPv4") } else { (both[1], "IPv6") };
        let least = (needed - 1).saturating_mul(shards).saturating_add(1);
        // None where the connections beside those of clients take all.
        let fit = |places: Places| there.saturating_sub(places.beside).checked_div(places.each);
        let fewer = match both.into_iter().filter_map(fit).min() {
            None | Some(0) => String::new(),
            Some(fit) => format!(" or lower connections_max to {},", fit.saturating_mul(shards)),
        };
        let whose = if shards == 1 { "the one shard".to_owned() } else { format!("each of {shards} shards") };
        Err(format!(
            "connections_max: while its part of {} clients is open, {whose} may reserve {needed} places in \
             TIME-WAIT of {version} ({each} for each client, {beside} for half-open connections, those that wait to be \
             accepted, and health checks), and stack.time_wait_max gives it {there}: raise that to {least},{fewer} with \
             what is in TIME-WAIT on top; or let stack.time_wait_full be evict-oldest or skip",
            self.connections_max
        ))
    }
}
