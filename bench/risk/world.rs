//! Two shards, the wire between them, and virtual time.

use super::ends::{Client, Incarnations, Seen, Server};
use super::text;
use super::wire::{Passed, Ports, Wire, path};
use super::workload::{Cell, End};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use synfin::counters::Counters;
use synfin::four_tuple::Addresses;
use synfin::limits::{Limits, MSL_MS, TIME_WAIT_DELAY_MS};
use synfin::link::faults::{FaultConfig, Faults};
use synfin::link::memory::{MemoryConfig, MemoryLink, pair};
use synfin::shard::{LocalAddress, Shard, ShardConfig};
use synfin::tcp::Settings;
use synfin::tick::Now;
use synfin::wire::ethernet::MacAddress;

/// What a cell came to.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
pub(super) struct Tally {
    /// Incarnations: active opens that completed.
    pub incarnations: u64,
    /// Incarnations in which at least one octet of an earlier one was told to an application.
    pub incarnations_with_old_bytes: u64,
    /// Such octets.
    pub old_bytes: u64,
    /// Octets of an earlier incarnation that the peer had given up and that itself opened late, with its own numbers.
    #[serde(default)]
    pub late_bytes: u64,
    /// Octets that nobody had sent: must be 0.
    pub other_bytes: u64,
    pub passed: Passed,
    pub client: Seen,
    pub server: Seen,
    /// Counts of both stacks together.
    pub retransmitted_syn: u64,
    pub time_wait_created: u64,
    pub time_wait_reused: u64,
    /// TIME-WAIT records that a RST ended.
    pub time_wait_ended_by_rst: u64,
    /// Virtual time, us.
    pub took_us: u64,
}

impl Tally {
    /// Both together.
    pub(super) fn plus(self, other: Tally) -> Tally {
        Tally {
            incarnations: self.incarnations + other.incarnations,
            incarnations_with_old_bytes: self.incarnations_with_old_bytes + other.incarnations_with_old_bytes,
            old_bytes: self.old_bytes + other.old_bytes,
            late_bytes: self.late_bytes + other.late_bytes,
            other_bytes: self.other_bytes + other.other_bytes,
            passed: self.passed.plus(other.passed),
            client: self.client.plus(other.client),
            server: self.server.plus(other.server),
            retransmitted_syn: self.retransmitted_syn + other.retransmitted_syn,
            time_wait_created: self.time_wait_created + other.time_wait_created,
            time_wait_reused: self.time_wait_reused + other.time_wait_reused,
            time_wait_ended_by_rst: self.time_wait_ended_by_rst + other.time_wait_ended_by_rst,
            took_us: self.took_us + other.took_us,
        }
    }
}

/// A cell that is being played.
pub(super) struct World {
    client: Shard<Faults<MemoryLink>, Client>,
    server: Shard<Faults<MemoryLink>, Server>,
    wire: Wire<MemoryLink>,
    now: Now,
    /// The last incarnation of each tuple of which an old octet was taken.
    old_in: Vec<u32>,
    tally: Tally,
}

impl World {
    /// Both ends with nothing open. The seed decides everything that is random.
    pub(super) fn new(cell: &Cell, seed: u64) -> Result<World, String> {
        let now = Now::from_ms(5000);
        let memory = MemoryConfig { frames: FRAMES, queue_frames: FRAMES, ..MemoryConfig::default() };
        let macs = [1, 2, 3, 4].map(|last| MacAddress([2, 0, 0, 0, 0, last]));
        // Either end knows the wire by the other end's address: nobody looks at what the wire itself has.
        let (client_link, client_wire) = pair(memory, [macs[0], macs[1]]);
        let (server_link, server_wire) = pair(memory, [macs[1], macs[0]]);
        let there = path(macs[0], macs[1], Addresses::V4 { local: CLIENT, remote: SERVER });
        let back = path(macs[1], macs[0], Addresses::V4 { local: SERVER, remote: CLIENT });
        let incarnations: Incarnations = (0..TUPLES).map(|_| std::sync::atomic::AtomicU32::new(0)).collect();
        let none = FaultConfig { held_max: 0, ..FaultConfig::default() };
        let faults = cell.workload.fault_config();
        let remote = SocketAddr::new(SERVER.into(), SERVER_PORT);
        let patience_ms = (u64::from(TIME_WAIT_DELAY_MS), 2 * u64::from(MSL_MS));
        let client =
            Client::new(&cell.workload, remote, FIRST_PORT, patience_ms, incarnations.clone(), seed.wrapping_add(1));
        let server = Server::new(&cell.workload, FIRST_PORT, incarnations.clone());
        let client_link = Faults::new(client_link, none, faults, seed.wrapping_add(2));
        let server_link = Faults::new(server_link, none, faults, seed.wrapping_add(3));
        let client = Shard::new(client_link, client, shard_config(cell, CLIENT, seed.wrapping_add(4)), now)
            .map_err(|error| error.to_string())?;
        let mut server = Shard::new(server_link, server, shard_config(cell, SERVER, seed.wrapping_add(5)), now)
            .map_err(|error| error.to_string())?;
        server.calls(now).listen(SERVER.into(), SERVER_PORT).map_err(|error| error.to_string())?;
        let wire = Wire::new(
            [client_wire, server_wire],
            [there, back],
            &cell.workload,
            Ports { first: FIRST_PORT, server: SERVER_PORT, fill: text::fill },
            incarnations,
            2 * u64::from(MSL_MS) * 1000,
            seed,
        );
        Ok(World { client, server, wire, now, old_in: vec![0; TUPLES], tally: Tally::default() })
    }

    /// Plays until so many incarnations were open.
    pub(super) fn play(mut self, incarnations: u64) -> Result<Tally, String> {
        let begun = self.now;
        while self.client.application().seen.connected < incarnations {
            self.step()?;
        }
        let (client, server) = (self.client.counters(), self.server.counters());
        let of_both = |count: fn(&Counters) -> u64| count(client) + count(server);
        let live = (self.client.time_wait_live() + self.server.time_wait_live()) as u64;
        let (created, ended) = (of_both(|counters| counters.time_wait_created), of_both(Counters::time_wait_ended));
        if created != ended + live {
            return Err(format!("{created} TIME-WAIT records were made, {ended} have ended, {live} are live"));
        }
        Ok(Tally {
            incarnations: self.client.application().seen.connected,
            passed: self.wire.passed,
            client: self.client.application().seen,
            server: self.server.application().seen,
            retransmitted_syn: of_both(|counters| counters.retransmitted_syn),
            time_wait_created: created,
            time_wait_reused: of_both(|counters| counters.time_wait_reused),
            time_wait_ended_by_rst: of_both(|counters| counters.time_wait_ended_by_rst),
            took_us: self.now.us() - begun.us(),
            ..self.tally
        })
    }

    /// Both ends take what has arrived and say what they owe, then time moves.
    fn step(&mut self) -> Result<(), String> {
        let frames = self.wire.passed.frames;
        self.client.turn(self.now);
        self.wire.pass(End::Client, self.now);
        self.server.turn(self.now);
        self.wire.pass(End::Server, self.now);
        self.explain()?;
        let soon = Now::from_us(self.now.us() + HOP_US);
        self.now = if self.wire.passed.frames != frames { soon } else { self.next().max(soon) };
        Ok(())
    }

    /// When something can happen next.
    fn next(&self) -> Now {
        // A deadline is a lower bound: one that has passed is looked at again in a millisecond.
        let later = |at: Now| if at <= self.now { self.now.plus_ms(1) } else { at };
        [
            self.client.next_deadline(self.now).map(later),
            self.server.next_deadline(self.now).map(later),
            self.client.link().next_due(),
            self.server.link().next_due(),
            self.client.application().next_open_us().map(Now::from_us),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(self.now)
    }

    /// Finds out where text came from that was not the peer's.
    fn explain(&mut self) -> Result<(), String> {
        if self.wire.passed.no_room > 0 {
            return Err(format!("the wire had no room for {} frames", self.wire.passed.no_room));
        }
        let of_client = self.client.application_mut().wrong.drain(..);
        let of_server = self.server.application_mut().wrong.drain(..);
        for wrong in of_client.chain(of_server) {
            let explained = self.wire.explain(wrong.tuple, wrong.to, wrong.incarnation, wrong.offset, &wrong.bytes);
            self.tally.old_bytes += explained.old_bytes;
            self.tally.late_bytes += explained.late_bytes;
            self.tally.other_bytes += explained.other_bytes;
            let is_first = explained.old_bytes > 0 && self.old_in[wrong.tuple] != wrong.incarnation;
            if is_first {
                self.old_in[wrong.tuple] = wrong.incarnation;
                self.tally.incarnations_with_old_bytes += 1;
            }
        }
        Ok(())
    }
}

fn shard_config(cell: &Cell, address: Ipv4Addr, seed: u64) -> ShardConfig {
    let tuples = TUPLES as u32;
    ShardConfig {
        limits: Limits {
            tcbs_max: 4 * tuples,
            half_open_max: 4 * tuples,
            time_wait_max: 8 * tuples,
            chunks_max: 32 * tuples,
            reassemblies_max: tuples,
            ..Limits::default()
        },
        addresses: vec![LocalAddress { address: address.into(), prefix_len: 24 }],
        settings: Settings {
            time_wait_policy: cell.policy,
            rst_ends_time_wait: cell.rst_ends_time_wait,
            timestamps: cell.workload.timestamps,
            // Many connections share a moment of virtual time: the limit of answers is not what is measured.
            answers_per_second: ANSWERS,
            answers_burst: ANSWERS,
            ..Settings::default()
        },
        ..ShardConfig::seeded(seed)
    }
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// 4-tuples, all between the same two addresses. More are slower for the cache, fewer make emptier bursts.
pub(super) const TUPLES: usize = 256;
const FIRST_PORT: u16 = 40_000;
const SERVER_PORT: u16 = 80;

/// From an end to the other, us.
const HOP_US: u64 = 10;

/// Frames of each link.
const FRAMES: u32 = 4096;

const ANSWERS: u32 = 1_000_000_000;
