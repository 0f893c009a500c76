//! Every table of a shard is in memory once it is made, so that no packet waits for a page. Each large table in a process of
//! its own, which looks at its size: memory that another has given back would be there already.
//!
//! What is measured is by how many bytes of touched pages the process grows: those in memory (VmRSS) and those swapped out since
//! (VmSwap), for which a machine short of memory would otherwise make it false. A table that is reserved but not touched lacks
//! from the bill's bytes, one that the bill forgets exceeds them. What is swapped out later is no matter of tables.

use std::env;
use std::process::Command;
use std::sync::Arc;
use synfin::api::{Application, Event};
use synfin::limits::Limits;
use synfin::link::memory::{MemoryConfig, pair};
use synfin::memory::touched_bytes;
use synfin::owner::{Owners, Spread};
use synfin::shard::{Bill, Calls, LocalAddress, Place, Shard, ShardConfig};
use synfin::tick::Now;
use synfin::wire::ethernet::MacAddress;

#[test]
fn every_table_is_as_large_in_memory_as_on_the_bill_before_the_first_packet() {
    if let Some(number) = env::var(CHILD).ok().and_then(|number| number.parse::<usize>().ok()) {
        return check(LARGE[number]);
    }
    let this = env::current_exe().expect("this program");
    let wrong: Vec<String> = (0..LARGE.len())
        .filter_map(|number| {
            let output = Command::new(&this).args(["--nocapture"]).env(CHILD, number.to_string()).output();
            let output = output.expect("this program starts");
            let says = || format!("{}: {}", LARGE[number].0, String::from_utf8_lossy(&output.stderr));
            (!output.status.success()).then(says)
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Set, to the number of a limit, where this program is to make one shard only.
const CHILD: &str = "SYNFIN_TOUCHED";

/// A limit, and what makes its table large.
type Large = (&'static str, fn(&mut Limits));

/// Each is so large that its table takes 16 MB at least, but that of neighbours, of which there cannot be more.
const LARGE: [Large; 14] = [
    ("tcbs_max", |limits| limits.tcbs_max = 200_000),
    ("time_wait_max and index", |limits| limits.time_wait_max = 1_000_000),
    ("destinations_max", |limits| limits.destinations_max = 300_000),
    ("ports given back", |limits| (limits.time_wait_max, limits.destinations_max) = (8_000_000, 200)),
    ("chunks_max", |limits| limits.chunks_max = 16_384),
    ("reassemblies_max", |limits| (limits.tcbs_max, limits.reassemblies_max) = (60_000, 60_000)),
    ("splices_max", |limits| (limits.tcbs_max, limits.splices_max) = (200_000, 100_000)),
    ("histories_max", |limits| (limits.tcbs_max, limits.histories_max) = (500_000, 500_000)),
    ("timers_max", |limits| limits.timers_max = 600_000),
    ("cookies_remembered_max", |limits| limits.cookies_remembered_max = 4_000_000),
    ("neighbors_max", |limits| limits.neighbors_max = 65_535),
    ("listeners_max", |limits| limits.listeners_max = 400_000),
    (IPV6, |limits| limits.time_wait_max = 500_000),
    (SHARDS, |limits| limits.handover_batches_max = 1000),
];

/// Over both IP versions.
const IPV6: &str = "time_wait_max of two IP versions";

/// Both shards of two, and what is handed over between them.
const SHARDS: &str = "handover_batches_max";

/// The process grows by what the bills of its shards say when they are made.
fn check((name, enlarge): Large) {
    let mut limits = Limits {
        tcbs_max: 1000,
        time_wait_max: 1000,
        half_open_max: 1000,
        cookies_remembered_max: 1000,
        chunks_max: 1000,
        reassemblies_max: 100,
        splices_max: 100,
        timers_max: 100,
        destinations_max: 100,
        neighbors_max: 100,
        ..Limits::default()
    };
    enlarge(&mut limits);
    let own = |address: &str| LocalAddress { address: address.parse().expect("an address"), prefix_len: 24 };
    let mut addresses = vec![own("10.0.0.1")];
    if name == IPV6 {
        addresses.push(own("fd00::1"));
    }
    let config = ShardConfig { limits, addresses, ..ShardConfig::seeded(1) };
    let mac = |last| MacAddress([2, 0, 0, 0, 0, last]);
    let (one, other) = pair(MemoryConfig::default(), [mac(1), mac(2)]);
    let links = if name == SHARDS { vec![one, other] } else { vec![one] };
    let before = touched_bytes().expect("the system says how large a process is");
    let owners = Arc::new(Owners::new(&Spread::Symmetric, links.len() as u16, config.ports));
    let places = Place::all(&owners, &limits);
    let bills: Vec<_> = links.iter().map(|_| config.bill_among(&owners)).collect();
    let shards: Vec<_> = links
        .into_iter()
        .zip(places)
        .map(|(link, place)| {
            Shard::new_among(link, Nothing, config.clone(), place, Now::from_ms(5_000)).expect("a shard")
        })
        .collect();
    let grown = touched_bytes().expect("as before").saturating_sub(before);
    drop(shards);
    let billed: u64 = bills.iter().map(Bill::total_bytes).sum();
    let (least, most) = (billed - billed / 50, billed + billed / 50 + AROUND_BYTES);
    assert!((least..=most).contains(&grown), "grown by {grown} bytes\n{}", bills[0]);
}

/// An application that nothing happens to.
struct Nothing;

impl Application for Nothing {
    fn on_event(&mut self, _calls: &mut Calls<'_>, _event: Event<'_>) {}
}

/// What else may come into memory: code that runs for the first time, the allocator's own, the rest of a huge page.
const AROUND_BYTES: u64 = 4 << 20;
