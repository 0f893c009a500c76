//! Every table of a shard is in memory once it is made, so that no packet waits for a page. Each large table in a process of
//! its own, which looks at its size: memory that another has given back would be there already.
//!
//! What is measured is by how many bytes of touched pages the process grows: those in memory (VmRSS) and those swapped out since
//! (VmSwap), for which a machine short of memory would otherwise make it false. A table that is reserved but not touched lacks
//! from the bill's bytes, one that the bill forgets exceeds them. What is swapped out later is no matter of tables.

use std::env;
use std::net::Ipv4Addr;
use std::process::Command;
use synfin::api::{Application, Event};
use synfin::limits::Limits;
use synfin::link::memory::{MemoryConfig, pair};
use synfin::memory::touched_bytes;
use synfin::shard::{Calls, LocalAddress, Shard, ShardConfig};
use synfin::tick::Now;
use synfin::wire::ethernet::MacAddress;

#[test]
fn every_table_is_as_large_in_memory_as_on_the_bill_before_the_first_packet() {
    if let Some(number) = env::var(CHILD).ok().and_then(|number| number.parse::<usize>().ok()) {
        return check(LARGE[number].1);
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
const LARGE: [Large; 11] = [
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
];

/// The process grows by what the shard's bill says when it is made.
fn check(enlarge: fn(&mut Limits)) {
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
    let address = LocalAddress { address: Ipv4Addr::new(10, 0, 0, 1).into(), prefix_len: 24 };
    let config = ShardConfig { limits, addresses: vec![address], ..ShardConfig::seeded(1) };
    let bill = config.bill();
    let mac = |last| MacAddress([2, 0, 0, 0, 0, last]);
    let (link, _peer) = pair(MemoryConfig::default(), [mac(1), mac(2)]);
    let before = touched_bytes().expect("the system says how large a process is");
    let shard = Shard::new(link, Nothing, config, Now::from_ms(5_000)).expect("a shard");
    let grown = touched_bytes().expect("as before").saturating_sub(before);
    drop(shard);
    let least = bill.total_bytes() - bill.total_bytes() / 50;
    let most = bill.total_bytes() + bill.total_bytes() / 50 + AROUND_BYTES;
    assert!((least..=most).contains(&grown), "grown by {grown} bytes\n{bill}");
}

/// An application that nothing happens to.
struct Nothing;

impl Application for Nothing {
    fn on_event(&mut self, _calls: &mut Calls<'_>, _event: Event<'_>) {}
}

/// What else may come into memory: code that runs for the first time, the allocator's own, the rest of a huge page.
const AROUND_BYTES: u64 = 4 << 20;
