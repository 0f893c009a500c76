//! The client whose wire aims old segments: the client's shard over a link in memory, and between it and AF_XDP the wire of the
//! simulated sweep, which knows earlier incarnations and can give an end random initial sequence numbers.
//!
//! ```text
//!   client shard -- faults -- memory link --> wire (history, aim, ISNs) --> AF_XDP --> the server, whatever stack it is
//! ```

use super::client::{Client, Tuples};
use super::{Attached, Clock, counters, make_shard, observe, seed, time_wait};
use crate::failure::Failure;
use crate::lines::Final;
use crate::payload::{Identity, Side, fill};
use crate::risk::wire::{Ports, Wire, path};
use crate::risk::workload::{End, Isns, Workload};
use crate::role::{Closer, RoleArgs, Stop};
use clap::{Args, ValueEnum};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use synfin::four_tuple::Addresses;
use synfin::link::faults::{FaultConfig, Faults};
use synfin::link::memory::{MemoryConfig, MemoryLink, pair};
use synfin::link::xdp::XdpLink;
use synfin::link::{Frame, Levels, Link, LinkCounters};
use synfin::shard::Shard;
use synfin::tick::Now;
use synfin::wire::ethernet::MacAddress;

/// Options of the role.
#[derive(Args, Clone, Debug)]
pub(crate) struct RigArgs {
    /// Those of every role; `--ports` is the range of the 4-tuples
    #[command(flatten)]
    role: RoleArgs,
    /// Ethernet address of the server
    #[arg(long, value_name = "MAC", value_parser = mac)]
    peer_mac: MacAddress,
    /// Where initial sequence numbers come from
    #[arg(long, value_enum, default_value_t = IsnChoice::Clocked)]
    isns: IsnChoice,
}

/// Where initial sequence numbers come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum IsnChoice {
    /// The stacks' clocks
    Clocked,
    /// Those of the end that opens into the other's TIME-WAIT are random
    Random,
    /// They have come to where an old text begins
    Aimed,
}

impl IsnChoice {
    /// The word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            IsnChoice::Clocked => "clocked",
            IsnChoice::Random => "random",
            IsnChoice::Aimed => "aimed",
        }
    }
}

/// Runs until the window is over and the last connection is closed.
pub(crate) fn run(args: &RigArgs) -> Result<Final, Failure> {
    let stop = Stop::begin(args.role.cpu)?;
    let (link, attached) = Attached::open(&args.role, (args.role.source, 32))?;
    let mut rig = Rig::new(args, link)?;
    attached.tell_ready(&args.role, rig.xdp()?);
    rig.shard.application_mut().meter.restart();
    rig.run(&stop)?;
    let result = rig.result();
    attached.result(result, rig.counters()?, time_wait(&rig.shard))
}

struct Rig {
    shard: Shard<Faults<MemoryLink>, Client>,
    wire: Wire<Either>,
    clock: Clock,
    old_bytes: u64,
    with_old_bytes: u64,
}

impl Rig {
    fn new(args: &RigArgs, link: XdpLink) -> Result<Rig, Failure> {
        let role = &args.role;
        let tuples = Tuples::new(role.ports.first, role.ports.count());
        let incarnations = tuples.incarnations.clone();
        let macs = [link.mac(), args.peer_mac];
        // Either end knows the wire by the other end's address: nobody looks at what the wire itself has.
        let memory = MemoryConfig {
            frames: FRAMES,
            queue_frames: FRAMES,
            mtu: link.mtu().min(1500) as u16,
            ..MemoryConfig::default()
        };
        let (near, far) = pair(memory, macs);
        let faults = FaultConfig { held_max: role.faults.config().held_max.max(1), ..role.faults.config() };
        let faulty = Faults::new(near, faults, faults, seed(role)?);
        let shard = make_shard(role, faulty, Client::new(role, Some(tuples))?, vec![role.source])?;
        let (local, remote) = (role.source, *role.server.ip());
        let paths = [
            path(macs[0], macs[1], Addresses::V4 { local, remote }),
            path(macs[1], macs[0], Addresses::V4 { local: remote, remote: local }),
        ];
        let ports = Ports { first: role.ports.first, server: role.server.port(), fill: fill_either };
        let age_max_us = 2000 * u64::from(role.msl_ms);
        let links = [Either::Memory(Box::new(far)), Either::Xdp(Box::new(link))];
        let wire = Wire::new(links, paths, &workload(args), ports, incarnations, age_max_us, seed(role)?);
        Ok(Rig { shard, wire, clock: Clock::start(), old_bytes: 0, with_old_bytes: 0 })
    }

    fn run(&mut self, stop: &Stop) -> Result<(), Failure> {
        while !self.shard.application().ended {
            if stop.asked() {
                return Err(Failure::interrupted());
            }
            self.turn()?;
        }
        let until = Instant::now() + SETTLE;
        while Instant::now() < until {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let instant = Instant::now();
        let now = self.clock.now(instant);
        self.wire.pass(End::Server, now);
        let busy = self.shard.turn(now).busy;
        self.wire.pass(End::Client, now);
        self.clock.count(instant, busy);
        self.explain();
        observe(&mut self.shard, &self.clock, None, instant, now)
    }

    /// Finds out where text came from that was not the server's. What a server answered to an old request is new text at a new
    /// place: the server has counted that.
    fn explain(&mut self) {
        let Some(tuples) = &mut self.shard.application_mut().tuples else { return };
        for wrong in tuples.wrong.drain(..) {
            let explained = self.wire.explain(wrong.tuple, End::Client, wrong.incarnation, wrong.offset, &wrong.bytes);
            self.old_bytes += explained.old_bytes;
            self.with_old_bytes += u64::from(explained.old_bytes > 0);
        }
    }

    fn xdp(&self) -> Result<&XdpLink, Failure> {
        match self.wire.link(End::Server) {
            Either::Xdp(link) => Ok(link),
            Either::Memory(_) => Err(Failure::failed("the rig has no AF_XDP link")),
        }
    }

    fn counters(&self) -> Result<BTreeMap<String, u64>, Failure> {
        let mut counters = counters(&self.shard, self.xdp()?);
        let passed = &self.wire.passed;
        for (name, count) in [
            (AIMED, passed.aimed.iter().sum()),
            (INCARNATIONS_AIMED, passed.incarnations_aimed),
            (REACHED, passed.reached_a_window),
            ("rig.no_room", passed.no_room),
        ] {
            counters.insert(name.to_string(), count);
        }
        Ok(counters)
    }

    fn result(&mut self) -> Final {
        let (old_bytes, with_old_bytes) = (self.old_bytes, self.with_old_bytes);
        Final { old_bytes, with_old_bytes, ..self.shard.application_mut().result() }
    }
}

fn workload(args: &RigArgs) -> Workload {
    let closer = if args.role.closer == Closer::Client { End::Client } else { End::Server };
    // The end that has TIME-WAIT checks the other's number.
    let opener = if closer == End::Client { End::Server } else { End::Client };
    Workload {
        name: "on the wire",
        closer,
        timestamps: !args.role.no_timestamps,
        outruns: false,
        isns: match args.isns {
            IsnChoice::Clocked => Isns::Clocked,
            IsnChoice::Random => Isns::Random(opener),
            IsnChoice::Aimed => Isns::Aimed,
        },
        syn_acks_lost: 0.0,
        faults: false,
    }
}

fn fill_either(tuple: usize, incarnation: u32, from: End, offset: u32, out: &mut [u8]) {
    let side = if from == End::Client { Side::Request } else { Side::Response };
    fill(Identity { connection: tuple as u64, incarnation: u64::from(incarnation) }, side, offset, out);
}

fn mac(text: &str) -> Result<MacAddress, String> {
    let octets: Option<Vec<u8>> = text.split(':').map(|octet| u8::from_str_radix(octet, 16).ok()).collect();
    let octets = octets.and_then(|octets| octets.try_into().ok());
    octets.map(MacAddress).ok_or_else(|| format!("{text:?} is no Ethernet address"))
}

/// A link of the wire: towards the shard, or towards the other machine.
enum Either {
    Memory(Box<MemoryLink>),
    Xdp(Box<XdpLink>),
}

/// Calls the same method of whichever link it is.
macro_rules! either {
    ($self:ident, $link:ident => $call:expr) => {
        match $self {
            Either::Memory($link) => $call,
            Either::Xdp($link) => $call,
        }
    };
}

impl Link for Either {
    fn advance(&mut self, now: Now) {
        either!(self, link => link.advance(now));
    }

    fn receive(&mut self, burst: &mut Vec<Frame>, max: usize) {
        either!(self, link => link.receive(burst, max));
    }

    fn bytes(&self, frame: &Frame) -> &[u8] {
        either!(self, link => link.bytes(frame))
    }

    fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        either!(self, link => link.bytes_mut(frame))
    }

    fn take(&mut self) -> Option<Frame> {
        either!(self, link => link.take())
    }

    fn send(&mut self, frame: Frame, len: usize) -> Result<(), Frame> {
        either!(self, link => link.send(frame, len))
    }

    fn give_back(&mut self, frame: Frame) {
        either!(self, link => link.give_back(frame));
    }

    fn flush(&mut self) {
        either!(self, link => link.flush());
    }

    fn mac(&self) -> MacAddress {
        either!(self, link => link.mac())
    }

    fn mtu(&self) -> usize {
        either!(self, link => link.mtu())
    }

    fn frame_bytes_max(&self) -> usize {
        either!(self, link => link.frame_bytes_max())
    }

    fn levels(&self) -> Levels {
        either!(self, link => link.levels())
    }

    fn counters(&self) -> LinkCounters {
        either!(self, link => link.counters())
    }
}

/// Names of what the wire has done, among the counters of the result.
pub(crate) const AIMED: &str = "rig.aimed";
pub(crate) const INCARNATIONS_AIMED: &str = "rig.incarnations_aimed";
pub(crate) const REACHED: &str = "rig.reached_a_window";

/// Frames of each end of the link in memory.
const FRAMES: u32 = 8192;
/// How long the last segments may take after the last connection.
const SETTLE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_addresses_are_read() {
        assert_eq!(mac("02:00:0a:ff:00:01"), Ok(MacAddress([2, 0, 10, 255, 0, 1])));
        for bad in ["", "02:00", "02:00:0a:ff:00:zz", "02:00:0a:ff:00:01:02"] {
            assert!(mac(bad).is_err(), "{bad}");
        }
    }
}
