//! TIME-WAIT entries that are there before a run begins.

use crate::failure::Failure;
use crate::role::RoleArgs;
use std::net::Ipv4Addr;
use synfin::api::Application;
use synfin::four_tuple::{Addresses, FourTuple};
use synfin::link::Link;
use synfin::shard::Shard;
use synfin::tick::Now;

/// Puts `args.resident` records into the store, as of connections between the server's address and peers that the run does not
/// have. They begin with the shard's clock, so that they are there for a whole 2MSL of the run.
pub(super) fn fill_time_wait<L: Link, A: Application>(shard: &mut Shard<L, A>, args: &RoleArgs) -> Result<(), Failure> {
    for number in 0..args.resident {
        let (host, port) = (number / PEER_PORTS, number % PEER_PORTS);
        let addresses =
            Addresses::V4 { local: *args.server.ip(), remote: Ipv4Addr::from(u32::from(FIRST_PEER) + host) };
        let tuple = FourTuple { addresses, local_port: args.server.port(), remote_port: FIRST_PORT + port as u16 };
        if !shard.put_time_wait(tuple, Now::from_us(0)) {
            return Err(Failure::failed(format!("--resident {}: TIME-WAIT has room for {number} only", args.resident)));
        }
    }
    Ok(())
}

/// Peers of the records: an address of a network that the run does not use for every 60,000.
const FIRST_PEER: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 1);
const PEER_PORTS: u32 = 60_000;
const FIRST_PORT: u16 = 1024;
