//! A wire between two NICs of several queues each, in memory: what leaves on any queue of one end arrives on the queue that
//! the other end's NIC chooses for it.
//!
//! ```text
//!   shard 0 <-> queue 0 \                    / queue 0 <-> shard 0
//!   shard 1 <-> queue 1  > NIC -- wire -- NIC <  queue 1 <-> shard 1
//! ```
//! Each shard has one end of a [`MemoryLink`]; the other ends are the NICs', and [`Nics::carry`] moves what lies there.

use super::memory::{MemoryConfig, MemoryLink, pair};
use super::{Frame, Link};
use crate::four_tuple::FourTuple;
use crate::owner::{Owners, Spread};
use crate::wire::ethernet::MacAddress;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// How a NIC chooses the queue of a frame that it receives.
#[derive(Debug)]
pub enum Spreader {
    /// TCP by hash; everything else comes to queue 0, as with RSS.
    Hash(Box<Owners>),
    /// The queue of the number on which the other end sent it, as veth does in native mode.
    Same,
    /// Any queue, for every frame anew: the worst that a network can do.
    Random(SmallRng),
}

impl Spreader {
    /// RSS over `queues` queues.
    pub fn hash(spread: &Spread, queues: u16) -> Spreader {
        Spreader::Hash(Box::new(Owners::new(spread, queues, (1, 1))))
    }

    /// Random queues; the same seed gives the same ones.
    pub fn random(seed: u64) -> Spreader {
        Spreader::Random(SmallRng::seed_from_u64(seed))
    }

    fn queue(&mut self, bytes: &[u8], sent_on: usize, queues: usize) -> usize {
        match self {
            Spreader::Hash(owners) => tuple(bytes).map_or(0, |tuple| usize::from(owners.owner(&tuple))) % queues,
            Spreader::Same => sent_on % queues,
            Spreader::Random(random) => random.random_range(0..queues),
        }
    }
}

/// Both NICs and the wire between them.
#[derive(Debug)]
pub struct Nics {
    /// The NICs' ends of the queues' links, of the first end and of the second.
    queues: [Vec<MemoryLink>; 2],
    spreaders: [Spreader; 2],
    burst: Vec<Frame>,
}

/// Joins two ends of `queues` queues each (at least 1); `spreaders` are the NICs of the first and the second. Returns the
/// links of the first end's queues and of the second's, too.
pub fn nics(
    config: MemoryConfig,
    macs: [MacAddress; 2],
    queues: usize,
    spreaders: [Spreader; 2],
) -> (Nics, [Vec<MemoryLink>; 2]) {
    let end = |mac| (0..queues.max(1)).map(|_| pair(config, [mac, mac])).unzip();
    let ((first, first_nic), (second, second_nic)) = (end(macs[0]), end(macs[1]));
    let nics = Nics { queues: [first_nic, second_nic], spreaders, burst: Vec::with_capacity(BURST) };
    (nics, [first, second])
}

impl Nics {
    /// Moves everything that the shards have sent to the queues where it arrives. What finds no room is dropped.
    pub fn carry(&mut self) {
        for (from, to) in [(0, 1), (1, 0)] {
            for queue in 0..self.queues[from].len() {
                while self.carry_burst(from, to, queue) {}
            }
            self.queues[to].iter_mut().for_each(MemoryLink::flush);
        }
    }

    /// Drops everything that the shards of end `end` (0 or 1) have sent.
    pub fn lose(&mut self, end: usize) {
        for queue in &mut self.queues[end] {
            loop {
                queue.receive(&mut self.burst, BURST);
                if self.burst.is_empty() {
                    break;
                }
                self.burst.drain(..).for_each(|frame| queue.give_back(frame));
            }
        }
    }

    /// From now on the NIC of end `end` (0 or 1) chooses queues by `spreader`.
    pub fn respread(&mut self, end: usize, spreader: Spreader) {
        self.spreaders[end] = spreader;
    }

    fn carry_burst(&mut self, from: usize, to: usize, queue: usize) -> bool {
        self.queues[from][queue].receive(&mut self.burst, BURST);
        let some = !self.burst.is_empty();
        for frame in self.burst.drain(..) {
            let bytes = self.queues[from][queue].bytes(&frame);
            let arrives_on = self.spreaders[to].queue(bytes, queue, self.queues[to].len());
            let [first, second] = &mut self.queues;
            let (source, dest) = if from == 0 { (first, second) } else { (second, first) };
            if let Some(mut copy) = dest[arrives_on].take() {
                let bytes = source[queue].bytes(&frame);
                dest[arrives_on].copy_in(&mut copy, bytes);
                if let Err(refused) = dest[arrives_on].send(copy, bytes.len()) {
                    dest[arrives_on].give_back(refused);
                }
            }
            source[queue].give_back(frame);
        }
        some
    }
}

/// The 4-tuple of a TCP segment as its receiver names it, at the places where a NIC finds it; `None` for anything else.
fn tuple(bytes: &[u8]) -> Option<FourTuple> {
    let word = |at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let ip = if word(12)? == VLAN { 18 } else { 14 };
    let byte = |at: usize| bytes.get(ip + at).copied();
    let v4 = |at: usize| Some(IpAddr::from(*bytes.get(ip + at..)?.first_chunk::<4>()?));
    let v6 = |at: usize| Some(IpAddr::from(*bytes.get(ip + at..)?.first_chunk::<16>()?));
    let (protocol, source, dest, ports) = match word(ip - 2)? {
        IPV4 => (byte(9)?, v4(12)?, v4(16)?, ip + usize::from(byte(0)? & 15) * 4),
        IPV6 => (byte(6)?, v6(8)?, v6(24)?, ip + 40),
        _ => return None,
    };
    if protocol == TCP { Some(FourTuple::new(dest, word(ports + 2)?, source, word(ports)?)) } else { None }
}

const VLAN: u16 = 0x8100;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;

/// Frames that move at a time.
const BURST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    const MACS: [MacAddress; 2] = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];

    fn segment(port: u16) -> Vec<u8> {
        let mut frame = vec![0; 54];
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[23] = TCP;
        frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        frame[34..36].copy_from_slice(&port.to_be_bytes());
        frame[36..38].copy_from_slice(&80_u16.to_be_bytes());
        frame
    }

    fn send(link: &mut MemoryLink, bytes: &[u8]) {
        let mut frame = link.take().expect("a frame");
        link.bytes_mut(&mut frame)[..bytes.len()].copy_from_slice(bytes);
        link.send(frame, bytes.len()).expect("room");
        link.flush();
    }

    fn received(link: &mut MemoryLink) -> usize {
        let mut burst = Vec::with_capacity(1024);
        link.receive(&mut burst, 1024);
        burst.drain(..).map(|frame| link.give_back(frame)).count()
    }

    #[test]
    fn frames_arrive_where_the_receivers_nic_says() {
        let spreaders = [Spreader::Same, Spreader::hash(&Spread::Symmetric, 4)];
        let (mut nics, [mut first, mut second]) = nics(MemoryConfig::default(), MACS, 4, spreaders);
        let owners = Owners::new(&Spread::Symmetric, 4, (1, 1));
        let mut expected = [0; 4];
        for port in 1000..1100 {
            let tuple = FourTuple::new([10, 0, 0, 2].into(), 80, [10, 0, 0, 1].into(), port);
            expected[usize::from(owners.owner(&tuple))] += 1;
            send(&mut first[3], &segment(port));
        }
        send(&mut first[2], &[0; 60]);
        expected[0] += 1;
        nics.carry();
        assert_eq!([0, 1, 2, 3].map(|queue| received(&mut second[queue])), expected);
        send(&mut second[2], &segment(7));
        nics.carry();
        assert_eq!([0, 1, 2, 3].map(|queue| received(&mut first[queue])), [0, 0, 1, 0]);
        nics.respread(0, Spreader::random(1));
        (0..400).for_each(|port| send(&mut second[2], &segment(port)));
        nics.carry();
        assert!((0..4).all(|queue| (60..140).contains(&received(&mut first[queue]))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_segment_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..80), ether_type in 0..3usize) {
            let mut bytes = bytes;
            if let Some(field) = bytes.get_mut(12..14) {
                field.copy_from_slice(&[[8, 0], [0x86, 0xdd], [0x81, 0]][ether_type]);
            }
            let _ = tuple(&bytes);
        }
    }
}
