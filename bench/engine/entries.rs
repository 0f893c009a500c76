//! What a TIME-WAIT entry takes, all in: the store and index of a shard filled to their bound, and nothing else in it. The shard
//! is one that opens nothing, so that no place in a queue of drawn ports is in the figure.

use super::world::address;
use crate::failure::Failure;
use std::net::Ipv4Addr;
use synfin::api::{Application, Event};
use synfin::four_tuple::FourTuple;
use synfin::limits::Limits;
use synfin::link::memory::{MemoryConfig, MemoryLink, pair};
use synfin::memory::resident_bytes;
use synfin::shard::{Calls, LocalAddress, Shard, ShardConfig};
use synfin::tick::Now;
use synfin::wire::ethernet::MacAddress;

/// Fills a shard with `entries` records and says what the process has grown by, beyond a shard that has room for one, and how far its look-ups go.
pub(super) fn entries(entries: u32, ipv6: bool) -> Result<(), Failure> {
    let (_alone, empty_bytes) = filled(1, ipv6)?;
    let (shard, full_bytes) = filled(entries, ipv6)?;
    println!(
        "{} TIME-WAIT entries over {}: {:.1} bytes each, with their places in the index; a look-up reads at most {} cache lines of it",
        shard.time_wait_live(),
        if ipv6 { "IPv6" } else { "IPv4" },
        full_bytes.saturating_sub(empty_bytes) as f64 / f64::from(entries),
        shard.longest_probe()
    );
    Ok(())
}

/// A shard with as many records as it has room for, and by how much the process has grown, bytes.
fn filled(entries: u32, ipv6: bool) -> Result<(Shard<MemoryLink, Nothing>, u64), Failure> {
    let before = resident_bytes().unwrap_or(0);
    let mac = |last| MacAddress([2, 0, 0, 0, 0, last]);
    let (link, _) = pair(MemoryConfig::default(), [mac(1), mac(2)]);
    let local = address(LOCAL, 0, ipv6);
    let config = ShardConfig {
        limits: Limits { time_wait_max: entries, destinations_max: 0, ..Limits::default() },
        addresses: vec![LocalAddress { address: local, prefix_len: 8 }],
        ..ShardConfig::seeded(1)
    };
    let begin = Now::from_us(0);
    let mut shard =
        Shard::new(link, Nothing, config, begin).map_err(|error| Failure::environment(error.to_string()))?;
    for number in 0..entries {
        let remote = address(PEERS, number / PORTS, ipv6);
        let tuple = FourTuple::new(local, 80, remote, 1024 + (number % PORTS) as u16);
        if !shard.put_time_wait(tuple, begin) {
            return Err(Failure::failed(format!("TIME-WAIT of {entries} entries took {number} only")));
        }
    }
    Ok((shard, resident_bytes().unwrap_or(0).saturating_sub(before)))
}

/// An application that nothing happens to.
struct Nothing;

impl Application for Nothing {
    fn on_event(&mut self, _calls: &mut Calls<'_>, _event: Event<'_>) {}
}

const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
const PEERS: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

/// Ports of a peer.
const PORTS: u32 = 64_512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_takes_as_many_entries_as_it_has_room_for() {
        for ipv6 in [false, true] {
            let (shard, _) = filled(1000, ipv6).expect("there is room");
            assert_eq!(shard.time_wait_live(), 1000);
        }
    }
}
