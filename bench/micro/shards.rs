//! What one lifecycle costs with 1, 2, 4 and 8 shards at each end, all on one thread: `cargo bench --bench shards`.
//! With two numbers, `shards N PER_SHARD`, it plays that once, for a tool that counts instructions.

use std::sync::Arc;
use std::time::Instant;
use synfin::api::{Application, ConnectOptions, Event};
use synfin::limits::Limits;
use synfin::link::memory::{MemoryConfig, MemoryLink};
use synfin::link::nics::{Nics, Spreader, nics};
use synfin::owner::{Owners, Rss, Spread};
use synfin::shard::{Calls, LocalAddress, Place, Shard, ShardConfig};
use synfin::tick::Now;
use synfin::wire::ethernet::MacAddress;

fn main() {
    let numbers: Vec<u32> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if let [shards, each] = numbers[..] {
        World::new(shards as u16).play(each);
        return;
    }
    let mut ns: [Vec<u128>; 4] = Default::default();
    for _ in 0..ROUNDS {
        for (shards, ns) in [1_u16, 2, 4, 8].into_iter().zip(&mut ns) {
            let mut world = World::new(shards);
            world.play(WARM_UP / u32::from(shards));
            let began = Instant::now();
            world.play(LIFECYCLES / u32::from(shards));
            ns.push(began.elapsed().as_nanos() / u128::from(LIFECYCLES));
        }
    }
    for (shards, ns) in [1, 2, 4, 8].into_iter().zip(&mut ns) {
        ns.sort_unstable();
        println!("{shards} shards: {} ns per lifecycle of both ends (median of {ROUNDS})", ns[ROUNDS / 2]);
    }
}

/// Both ends, and the NICs between them.
struct World {
    clients: Vec<Shard<MemoryLink, Client>>,
    servers: Vec<Shard<MemoryLink, Server>>,
    nics: Nics,
    now_us: u64,
}

impl World {
    fn new(shards: u16) -> World {
        let key: Vec<u8> = (0..40_u32).map(|at| (at * 151 + 7) as u8).collect();
        let table = (0..128).map(|entry| entry % shards).collect();
        let spread = Spread::Rss(Rss::new(&key, table).expect("a key and a table"));
        let macs = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];
        let spreaders = [0, 1].map(|_| Spreader::hash(&spread, shards));
        let (nics, [left, right]) = nics(MemoryConfig::default(), macs, shards.into(), spreaders);
        let config = |host| {
            let limits = Limits { tcbs_max: 1024, time_wait_max: 32_768, ..Limits::default() };
            let addresses = vec![LocalAddress { address: [10, 0, 0, host].into(), prefix_len: 24 }];
            ShardConfig { limits, addresses, ..ShardConfig::seeded(0) }
        };
        let places = || {
            let owners = Arc::new(Owners::new(&spread, shards, config(1).ports));
            Place::all(&owners, &config(1).limits)
        };
        let now = Now::from_us(BEGIN_US);
        let clients = left.into_iter().zip(places());
        let client = |(link, place)| Shard::new_among(link, Client::default(), config(1), place, now).expect("a shard");
        let clients = clients.map(client).collect();
        let server = |(link, place)| {
            let mut shard = Shard::new_among(link, Server, config(2), place, now).expect("a shard");
            shard.calls(now).listen([10, 0, 0, 2].into(), 80).expect("a listener");
            shard
        };
        let servers = right.into_iter().zip(places()).map(server).collect();
        World { clients, servers, nics, now_us: BEGIN_US }
    }

    /// Plays `each` lifecycles per shard to their end.
    fn play(&mut self, each: u32) {
        self.clients.iter_mut().for_each(|client| client.application_mut().to_open += each);
        while self.clients.iter().any(|client| client.application().to_open + client.application().live > 0) {
            self.now_us += 10;
            let now = Now::from_us(self.now_us);
            for client in &mut self.clients {
                client.turn(now);
            }
            self.nics.carry();
            for server in &mut self.servers {
                server.turn(now);
            }
            self.nics.carry();
        }
        assert!(self.clients.iter().all(|client| client.counters().wrong_shard == 0));
    }
}

/// Opens connections, sends a request on each, and closes when the answer is there.
#[derive(Default)]
struct Client {
    to_open: u32,
    live: u32,
}

impl Application for Client {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { handle } => {
                let _ = calls.send(handle, &[7; 64]);
            }
            Event::Readable { handle, bytes } => {
                let _ = calls.consume(handle, bytes.len());
                let _ = calls.close(handle);
            }
            Event::Closed { .. } => self.live -= 1,
            _ => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        while self.to_open > 0 && self.live < LIVE {
            calls.connect(([10, 0, 0, 2], 80).into(), &ConnectOptions::default()).expect("a port");
            self.to_open -= 1;
            self.live += 1;
        }
    }
}

struct Server;

impl Application for Server {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Readable { handle, bytes } => {
                let _ = calls.consume(handle, bytes.len());
                let _ = calls.send(handle, &[9; 64]);
            }
            Event::PeerClosed { handle } => {
                let _ = calls.close(handle);
            }
            _ => {}
        }
    }
}

/// Lifecycles of a round, and before it. Origin: the ports of one destination suffice for both.
const LIFECYCLES: u32 = 16_000;
const WARM_UP: u32 = 8_000;

const ROUNDS: usize = 5;

/// Connections open at a time, of each shard.
const LIVE: u32 = 32;

const BEGIN_US: u64 = 5_000_000;
