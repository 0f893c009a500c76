//! Two shards joined by a wire in memory, in virtual time: for examples, and for tests of applications.

use super::{Calls, ConfigError, LocalAddress, Secrets, Shard, ShardConfig};
use crate::api::Application;
use crate::limits::Limits;
use crate::link::memory::{MemoryConfig, MemoryLink, pair};
use crate::tick::Now;
use crate::wire::ethernet::MacAddress;
use ::core::net::{IpAddr, Ipv4Addr};
use alloc::vec;

/// Two shards on one wire, with the addresses [`Sim::LEFT`] and [`Sim::RIGHT`]. No privilege, no thread, no clock: the same
/// calls come to the same end every time.
pub struct Sim<L, R> {
    /// The one end.
    pub left: Shard<MemoryLink, L>,
    /// The other.
    pub right: Shard<MemoryLink, R>,
    now: Now,
}

impl<L: Application, R: Application> Sim<L, R> {
    /// The address of the left end, in a network of 24 bits.
    pub const LEFT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    /// The address of the right end.
    pub const RIGHT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    /// Two shards for up to a thousand connections each.
    pub fn new(left: L, right: R) -> Result<Sim<L, R>, ConfigError> {
        let limits = Limits { tcbs_max: 1024, time_wait_max: 4096, chunks_max: 4096, ..Limits::default() };
        Sim::with_config(left, right, &ShardConfig { limits, ..ShardConfig::default() })
    }

    /// Two shards with this configuration, but for addresses and secrets.
    pub fn with_config(left: L, right: R, config: &ShardConfig) -> Result<Sim<L, R>, ConfigError> {
        let now = Now::from_ms(1000);
        let macs = [1, 2].map(|last| MacAddress([2, 0, 0, 0, 0, last]));
        let (to_left, to_right) = pair(MemoryConfig::default(), macs);
        let config = |address, seed| ShardConfig {
            addresses: vec![LocalAddress { address, prefix_len: 24 }],
            secrets: Some(Secrets::from_seed(seed)),
            ..config.clone()
        };
        Ok(Sim {
            left: Shard::new(to_left, left, config(Self::LEFT, 1), now)?,
            right: Shard::new(to_right, right, config(Self::RIGHT, 2), now)?,
            now,
        })
    }

    /// The time of the next turn.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The calls of the left end, to listen and to connect.
    pub fn left_calls(&mut self) -> Calls<'_> {
        self.left.calls(self.now)
    }

    /// The calls of the right end.
    pub fn right_calls(&mut self) -> Calls<'_> {
        self.right.calls(self.now)
    }

    /// Lets `ms` milliseconds pass, ten turns each.
    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms * 1000 / TURN_US {
            self.left.turn(self.now);
            self.right.turn(self.now);
            self.now = Now::from_us(self.now.us() + TURN_US);
        }
    }
}

/// From one turn to the next, us.
const TURN_US: u64 = 100;
