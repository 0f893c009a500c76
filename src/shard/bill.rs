//! What a shard's tables cost, before any is made.

use super::accept::AcceptQueue;
use super::announce::Claims;
use super::burst::{Burst, expire_budget};
use super::connection::{Connection, Owing};
use super::core::{QUESTIONS_MAX, WHEEL_GRANULE_MS, WHEEL_SLOTS};
use super::exact;
use super::gaps::Gaps;
use super::history::Histories;
use super::name::Names;
use super::options::{OptionSets, SETS};
use super::pressure::Pressure;
use super::splice::Splices;
use super::strangers::Strangers;
use super::timers::Timers;
use super::waiting::STARVED_MAX;
use super::{ConfigError, ShardConfig, handover};
use crate::flow::chunks::Chunks;
use crate::flow::index::Index;
use crate::flow::list::List;
use crate::flow::listeners::Listeners;
use crate::flow::path_mtus::PathMtus;
use crate::flow::port_queue::PortPool;
use crate::flow::ports::{DestinationLimits, Destinations};
use crate::flow::recent::Recent;
use crate::flow::slab::Slab;
use crate::flow::time_wait::{RECORDS_MAX, TimeWaitStore};
use crate::four_tuple::Families;
use crate::ids::{Handle, Value};
use crate::limits::{BURST_MAX, Limits, PATH_MTUS_MAX};
use crate::neighbor::{self, Neighbors};
use crate::owner::Owners;
use crate::tcp::connection_options::OptionsId;
use crate::tcp::time_wait::{TimeWaitV4, TimeWaitV6};
use crate::timer::wheel::Wheel;
use ::core::fmt;
use ::core::hint::black_box;
use ::core::mem::size_of;
use ::core::net::IpAddr;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The memory of one shard, table by table. `Display` prints it as a table of its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Bill {
    lines: Vec<Line>,
}

/// One table of a [`Bill`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// What the table holds.
    pub what: &'static str,
    /// The limit that decides how much.
    pub limit: &'static str,
    /// Items at most.
    pub items: u64,
    /// Bytes of the table.
    pub bytes: u64,
}

impl Line {
    /// Bytes per item, all-in; 0 for a table without items.
    pub fn bytes_per_item(&self) -> f64 {
        if self.items == 0 { 0.0 } else { self.bytes as f64 / self.items as f64 }
    }
}

impl Limits {
    /// What these limits cost one shard. `families` are those of its own addresses, `two_msl_ms` says how long TIME-WAIT lasts.
    ///
    /// Frames belong to the link and are not in it.
    pub fn bill(&self, families: Families, two_msl_ms: u32) -> Bill {
        let (time_wait_v4_max, time_wait_v6_max) = self.time_wait_maxima(families);
        let entries = self.index_entries(families);
        let queued_ports_max = self.queued_ports_max(families);
        let destinations = DestinationLimits { destinations_max: self.destinations_max, queued_ports_max, two_msl_ms };
        let destinations = Destinations::bill(&destinations) - PortPool::bill(queued_ports_max, 0);
        let line = |what, limit, items: u32, bytes| Line { what, limit, items: u64::from(items), bytes };
        let neighbors = Neighbors::bill(self.neighbors_max)
            + u64::from(self.neighbors_max) * (size_of::<List<Owing>>() + size_of::<u8>()) as u64;
        let lines = [
            line("TCBs", "tcbs_max", self.tcbs_max, Slab::<Connection>::bill(self.tcbs_max)),
            line("names of TCBs", "tcbs_max", self.tcbs_max, Names::bill(self.tcbs_max)),
            line(
                "TIME-WAIT IPv4",
                "time_wait_max",
                time_wait_v4_max,
                TimeWaitStore::<TimeWaitV4>::bill(time_wait_v4_max, two_msl_ms),
            ),
            line(
                "TIME-WAIT IPv6",
                "time_wait_max",
                time_wait_v6_max,
                TimeWaitStore::<TimeWaitV6>::bill(time_wait_v6_max, two_msl_ms),
            ),
            line("index entries", "time_wait_max", entries, Index::bill(entries)),
            line("ports given back", "time_wait_max", queued_ports_max, PortPool::bill(queued_ports_max, 0)),
            line("chunks", "chunks_max", self.chunks_max, Chunks::bill(self.chunks_max)),
            line(
                "losses and gaps",
                "reassemblies_max",
                self.reassemblies_max.min(self.tcbs_max),
                Slab::<Gaps>::bill(self.reassemblies_max.min(self.tcbs_max)),
            ),
            line(
                "splices",
                "splices_max",
                self.splices_max.min(self.tcbs_max / 2),
                Splices::bill(self.splices_max.min(self.tcbs_max / 2)),
            ),
            line(
                "histories",
                "histories_max",
                self.histories_max.min(self.tcbs_max),
                Histories::bill(self.histories_max.min(self.tcbs_max)),
            ),
            line("timers", "timers_max", self.timers_max, Timers::bill(self.timers_max, expire_budget(self))),
            line("destinations", "destinations_max", self.destinations_max, destinations),
            line(
                "cookies seen",
                "cookies_remembered_max",
                self.cookies_remembered_max,
                Recent::bill(self.cookies_remembered_max),
            ),
            line("path MTUs", "", PATH_MTUS_MAX, PathMtus::bill(PATH_MTUS_MAX)),
            line("neighbours", "neighbors_max", self.neighbors_max, neighbors),
            line(
                "listeners",
                "listeners_max",
                self.listeners_max,
                Listeners::bill(self.listeners_max)
                    + AcceptQueue::bill(self.listeners_max)
                    + u64::from(self.listeners_max) * size_of::<OptionsId>() as u64,
            ),
            line("neighbours asked", "", QUESTIONS_MAX as u32, (QUESTIONS_MAX * size_of::<(u8, IpAddr)>()) as u64),
            line("option sets", "", SETS as u32, OptionSets::bill()),
            line("waiting to send", "", STARVED_MAX as u32, (STARVED_MAX * size_of::<Handle>()) as u64),
            line("paces", "", Pressure::items(), Pressure::bill()),
            line("timer slots", "", WHEEL_SLOTS, Wheel::bill(WHEEL_SLOTS, WHEEL_GRANULE_MS) + exact::bill()),
            line("burst", "burst", self.burst, Burst::bill(self)),
        ];
        Bill { lines: lines.into() }
    }

    /// Whether tables of these sizes can be made at all, and be of use.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.burst == 0 || self.burst > BURST_MAX {
            return Err(ConfigError::BadBurst(self.burst));
        }
        // Half of the chunks are for sending, half for receiving.
        for (limit, given, least) in [
            ("chunks_max", self.chunks_max, 2),
            ("accept_max", self.accept_max, 1),
            ("events_per_turn", self.events_per_turn, 1),
        ] {
            if given < least {
                return Err(ConfigError::LimitTooSmall { limit, given, least });
            }
        }
        for (limit, given, max) in
            [("tcbs_max", self.tcbs_max, Value::NUMBER_MAX), ("time_wait_max", self.time_wait_max, RECORDS_MAX)]
        {
            if given > max {
                return Err(ConfigError::TooManyRecords { limit, given, max });
            }
        }
        if self.neighbors_max > neighbor::ENTRIES_MAX {
            return Err(ConfigError::TooManyNeighbors(self.neighbors_max));
        }
        Ok(())
    }

    /// Entries of the connection index: one for everything that has a 4-tuple.
    pub(super) fn index_entries(&self, families: Families) -> u32 {
        let (time_wait_v4_max, time_wait_v6_max) = self.time_wait_maxima(families);
        self.tcbs_max.saturating_add(time_wait_v4_max).saturating_add(time_wait_v6_max)
    }

    /// Ports that can wait in TIME-WAIT to be drawn again, of both IP versions: none where the shard draws none.
    pub(super) fn queued_ports_max(&self, families: Families) -> u32 {
        let (v4, v6) = self.time_wait_maxima(families);
        v4.saturating_add(v6).min(self.destinations_max.saturating_mul(1 << 16))
    }

    /// TIME-WAIT records over IPv4 and over IPv6: a family without an address needs none.
    pub(super) fn time_wait_maxima(&self, families: Families) -> (u32, u32) {
        let most = |has| if has { self.time_wait_max } else { 0 };
        (most(families.v4), most(families.v6))
    }
}

impl ShardConfig {
    /// What a shard made from this costs.
    pub fn bill(&self) -> Bill {
        self.bill_among(&Owners::alone(self.ports))
    }

    /// What one of several shards costs, its part of what they share included.
    pub fn bill_among(&self, owners: &Owners) -> Bill {
        let addresses = || self.addresses.iter().chain(self.beside.iter().flat_map(|attachment| &attachment.addresses));
        let families = Families {
            v4: addresses().any(|own| own.address.is_ipv4()),
            v6: addresses().any(|own| own.address.is_ipv6()),
        };
        let mut bill = self.limits.bill(families, self.msl_ms.saturating_mul(2));
        let own = addresses().count();
        bill.lines.push(Line { what: "own addresses", limit: "", items: own as u64, bytes: Claims::bill(own) });
        let ports = u64::from(owners.ports().1 - owners.ports().0) + 1;
        let bytes = owners.bytes().div_ceil(owners.shards().into());
        bill.lines.push(Line { what: "ports by class", limit: "", items: ports, bytes });
        if owners.shards() > 1 {
            let (limit, items) = ("handover_batches_max", handover::batches(&self.limits).into());
            bill.lines.push(Line { what: "hand-over", limit, items, bytes: handover::bill(&self.limits) });
            let bytes = Strangers::bill().div_ceil(owners.shards().into());
            bill.lines.push(Line { what: "connections left elsewhere", limit: "", items: 1, bytes });
        }
        bill
    }
}

impl Bill {
    /// Table by table.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// All tables together, bytes.
    pub fn total_bytes(&self) -> u64 {
        self.lines.iter().map(|line| line.bytes).sum()
    }

    /// The limit that costs most.
    pub fn dearest_limit(&self) -> &'static str {
        let cost = |limit| self.lines.iter().filter(|line| line.limit == limit).map(|line| line.bytes).sum::<u64>();
        self.lines
            .iter()
            .map(|line| line.limit)
            .filter(|limit| !limit.is_empty())
            .max_by_key(|&limit| cost(limit))
            .unwrap_or("")
    }

    /// Asks the allocator for all of it at once and gives it back, so that making the tables does not fail half way.
    /// Nothing is touched: whether the memory is really there is asked on floor 4, from the system.
    pub(super) fn reserve(&self) -> Result<(), ConfigError> {
        let refused = || ConfigError::NoMemory { bill: Box::new(self.clone()), available_bytes: None };
        let mut held: Vec<Vec<u8>> = Vec::with_capacity(self.lines.len());
        for line in &self.lines {
            let bytes = usize::try_from(line.bytes).map_err(|_| refused())?;
            let mut table = Vec::new();
            table.try_reserve_exact(bytes).map_err(|_| refused())?;
            held.push(table);
        }
        black_box(&held);
        Ok(())
    }
}

impl fmt::Display for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<17}{:>14}{:>12}{:>18}", "what", "items", "bytes/item", "bytes")?;
        for line in &self.lines {
            writeln!(f, "{:<17}{:>14}{:>12.1}{:>18}", line.what, line.items, line.bytes_per_item(), line.bytes)?;
        }
        write!(f, "{:<43}{:>18}", "total", self.total_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_limits_cost_less_than_256_megabytes() {
        let bill = Limits::default().bill(Families::V4, 60_000);
        assert!(bill.total_bytes() < 256 << 20, "{bill}");
    }

    #[test]
    fn idle_connection_costs_at_most_256_bytes_all_in() {
        let limits = |tcbs_max| Limits { tcbs_max, time_wait_max: 1024, ..Limits::default() };
        let bill = |tcbs_max| limits(tcbs_max).bill(Families::BOTH, 60_000).total_bytes();
        let each = (bill(20_000_000) - bill(10_000_000)) as f64 / 10e6;
        assert!(each <= 256.0, "{each} B");
    }

    #[test]
    fn time_wait_costs_at_most_40_and_64_bytes_all_in() {
        let limits = Limits { tcbs_max: 1024, time_wait_max: 60_000_000, ..Limits::default() };
        for (families, most) in [(Families::V4, 40.0), (Families::V6, 64.0), (Families::BOTH, 40.0 + 64.0)] {
            let bill = limits.bill(families, 60_000);
            let records =
                bill.lines().iter().filter(|line| line.what.starts_with("TIME-WAIT") || line.what.starts_with("index"));
            let each = records.map(|line| line.bytes).sum::<u64>() as f64 / 60e6;
            assert!(each <= most, "{each} B\n{bill}");
        }
    }

    #[test]
    fn two_ip_versions_have_the_places_of_both_and_queues_for_their_ports() {
        let limits = Limits::default();
        let items = |families| {
            let bill = limits.bill(families, 60_000);
            let of = |name: &str| -> u64 {
                bill.lines().iter().filter(|line| line.what.starts_with(name)).map(|line| line.items).sum()
            };
            (of("TIME-WAIT"), of("index entries") - u64::from(limits.tcbs_max), of("ports given back"))
        };
        let each = u64::from(limits.time_wait_max);
        assert_eq!(items(Families::V4), (each, each, each));
        assert_eq!(items(Families::V6), (each, each, each));
        assert_eq!(items(Families::BOTH), (2 * each, 2 * each, 2 * each));
    }

    #[test]
    fn table_has_a_line_for_each_item_and_their_sum() {
        let bill = Limits::default().bill(Families::BOTH, 60_000);
        let text = alloc::format!("{bill}");
        assert_eq!(text.lines().count(), bill.lines().len() + 2);
        assert!(text.lines().last().is_some_and(|last| last.ends_with(&alloc::format!("{}", bill.total_bytes()))));
        assert_eq!(bill.lines().iter().map(|line| line.bytes).sum::<u64>(), bill.total_bytes());
    }

    #[test]
    fn dearest_limit_is_the_one_to_lower() {
        let limits = Limits { time_wait_max: 1, tcbs_max: 1, chunks_max: 100_000, ..Limits::default() };
        assert_eq!(limits.bill(Families::V4, 60_000).dearest_limit(), "chunks_max");
        assert_eq!(
            Limits { time_wait_max: 1 << 29, ..limits }.bill(Families::V4, 60_000).dearest_limit(),
            "time_wait_max"
        );
    }
}
