//! Several links as one, so that one shard drives a queue of each of several interfaces.
//!
//! Each keeps its own memory: a frame's token says whose it is, in the upper bits of its slot, and it goes back there.

use super::{Frame, Levels, Link, LinkCounters};
use crate::limits::INTERFACES_MAX;
use crate::tick::Now;
use crate::wire::ethernet::MacAddress;
use alloc::vec::Vec;

/// The links of one shard, one of each interface.
#[derive(Debug)]
pub struct Several<L> {
    links: Vec<L>,
    /// The link that is asked first for received frames: another one each time, so that none can keep the others waiting.
    first: usize,
}

impl<L: Link> Several<L> {
    /// Joins `links`, at least one and at most [`INTERFACES_MAX`]; others are `None`, as are links that are several already.
    pub fn new(links: Vec<L>) -> Option<Several<L>> {
        let fit = (1..=INTERFACES_MAX).contains(&links.len()) && !L::SEVERAL;
        fit.then_some(Several { links, first: 0 })
    }

    /// The links, by number of the interface.
    pub fn links(&self) -> &[L] {
        &self.links
    }

    /// The link that a frame belongs to, and the frame as that one knows it.
    fn split(&self, frame: &Frame) -> (&L, Frame) {
        (&self.links[usize::from(owner(frame))], untagged(frame))
    }
}

impl<L: Link> Link for Several<L> {
    const SEVERAL: bool = true;

    fn interfaces(&self) -> u8 {
        self.links.len() as u8
    }

    #[inline]
    fn interface_of(&self, frame: &Frame) -> u8 {
        owner(frame)
    }

    fn take_on(&mut self, interface: u8) -> Option<Frame> {
        let link = self.links.get_mut(usize::from(interface))?;
        link.take().map(|frame| tagged(frame, interface))
    }

    fn mac_on(&self, interface: u8) -> MacAddress {
        self.links[usize::from(interface)].mac()
    }

    fn mtu_on(&self, interface: u8) -> usize {
        self.links[usize::from(interface)].mtu()
    }

    fn advance(&mut self, now: Now) {
        self.links.iter_mut().for_each(|link| link.advance(now));
    }

    fn receive(&mut self, burst: &mut Vec<Frame>, max: usize) {
        let end = burst.len() + max;
        self.first = (self.first + 1) % self.links.len();
        let order = (self.first..self.links.len()).chain(0..self.first);
        for interface in order {
            let from = burst.len();
            self.links[interface].receive(burst, end.saturating_sub(from));
            burst[from..].iter_mut().for_each(|frame| frame.slot |= (interface as u32) << SLOT_BITS);
        }
    }

    fn prefetch(&self, frame: &Frame) {
        let (link, frame) = self.split(frame);
        link.prefetch(&frame);
    }

    #[inline]
    fn bytes(&self, frame: &Frame) -> &[u8] {
        let (link, frame) = self.split(frame);
        link.bytes(&frame)
    }

    #[inline]
    fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        self.links[usize::from(owner(frame))].bytes_mut(&mut untagged(frame))
    }

    fn take(&mut self) -> Option<Frame> {
        self.take_on(0)
    }

    fn send(&mut self, frame: Frame, len: usize) -> Result<(), Frame> {
        let interface = owner(&frame);
        let sent = self.links[usize::from(interface)].send(untagged(&frame), len);
        sent.map_err(|frame| tagged(frame, interface))
    }

    fn give_back(&mut self, frame: Frame) {
        self.links[usize::from(owner(&frame))].give_back(untagged(&frame));
    }

    fn flush(&mut self) {
        self.links.iter_mut().for_each(L::flush);
    }

    fn is_behind(&self) -> bool {
        self.links.iter().any(L::is_behind)
    }

    fn mac(&self) -> MacAddress {
        self.mac_on(0)
    }

    fn mtu(&self) -> usize {
        self.mtu_on(0)
    }

    fn frame_bytes_max(&self) -> usize {
        self.links.iter().map(L::frame_bytes_max).min().unwrap_or(0)
    }

    fn levels(&self) -> Levels {
        self.links.iter().map(L::levels).fold(Levels::default(), |all, one| Levels {
            total: all.total + one.total,
            free: all.free + one.free,
            in_hand: all.in_hand + one.in_hand,
            fill: all.fill + one.fill,
            transmit: all.transmit + one.transmit,
        })
    }

    fn counters(&self) -> LinkCounters {
        let mut all = LinkCounters::default();
        self.links.iter().for_each(|link| all.add(&link.counters()));
        all
    }
}

#[inline]
fn owner(frame: &Frame) -> u8 {
    (frame.slot >> SLOT_BITS) as u8
}

#[inline]
fn untagged(frame: &Frame) -> Frame {
    Frame { slot: frame.slot & SLOTS, ..*frame }
}

fn tagged(frame: Frame, interface: u8) -> Frame {
    Frame { slot: frame.slot | u32::from(interface) << SLOT_BITS, ..frame }
}

/// Bits of a slot's number; those above say which link it is of. No UMEM has as many slots.
const SLOT_BITS: u32 = 29;
const SLOTS: u32 = (1 << SLOT_BITS) - 1;

const _: () = assert!(INTERFACES_MAX <= 1 << (u32::BITS - SLOT_BITS));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::memory::{MemoryConfig, MemoryLink, pair};
    use alloc::vec;

    fn mac(last: u8) -> MacAddress {
        MacAddress([2, 0, 0, 0, 0, last])
    }

    /// Two wires: this end's links as one, and the far ends.
    fn two() -> (Several<MemoryLink>, [MemoryLink; 2]) {
        let [(a, far_a), (b, far_b)] = [0, 2].map(|first| pair(MemoryConfig::default(), [mac(first), mac(first + 1)]));
        (Several::new(vec![a, b]).expect("two links"), [far_a, far_b])
    }

    fn send<L: Link>(link: &mut L, interface: u8, byte: u8) {
        let mut frame = link.take_on(interface).expect("a frame");
        link.bytes_mut(&mut frame)[..60].fill(byte);
        link.send(frame, 60).expect("room");
        link.flush();
    }

    fn received<L: Link>(link: &mut L, max: usize) -> Vec<(u8, u8)> {
        let mut burst = Vec::with_capacity(max);
        link.receive(&mut burst, max);
        let seen = burst.iter().map(|frame| (link.interface_of(frame), link.bytes(frame)[0])).collect();
        burst.into_iter().for_each(|frame| link.give_back(frame));
        link.flush();
        seen
    }

    #[test]
    fn frames_leave_and_arrive_on_the_interface_that_they_belong_to() {
        let (mut several, mut far) = two();
        assert_eq!((several.interfaces(), several.mac_on(0), several.mac_on(1)), (2, mac(0), mac(2)));
        for interface in [0, 1] {
            send(&mut several, interface, 10 + interface);
            assert_eq!(received(&mut far[usize::from(interface)], 8), [(0, 10 + interface)]);
            assert_eq!(received(&mut far[usize::from(1 - interface)], 8), []);
            send(&mut far[usize::from(interface)], 0, 20 + interface);
            assert_eq!(received(&mut several, 8), [(interface, 20 + interface)]);
        }
        assert!(several.take_on(2).is_none());
        assert!(several.levels().conserved() && several.levels().in_hand == 0);
        assert_eq!((several.counters().tx_frames, several.counters().rx_frames), (2, 2));
    }

    #[test]
    fn received_frame_goes_back_where_it_came_from() {
        let (mut several, mut far) = two();
        send(&mut far[1], 0, 7);
        let mut burst = Vec::with_capacity(1);
        several.receive(&mut burst, 1);
        let frame = burst.pop().expect("it has come");
        several.send(frame, 60).expect("room");
        several.flush();
        assert_eq!(received(&mut far[1], 8), [(0, 7)]);
        assert_eq!(received(&mut far[0], 8), []);
    }

    #[test]
    fn busy_interface_does_not_keep_the_other_waiting() {
        let (mut several, mut far) = two();
        for _ in 0..8 {
            send(&mut far[0], 0, 1);
        }
        send(&mut far[1], 0, 2);
        let seen: Vec<_> = (0..2).flat_map(|_| received(&mut several, 4)).collect();
        assert!(seen.contains(&(1, 2)), "{seen:?}");
    }

    #[test]
    fn none_and_too_many_are_no_link() {
        assert!(Several::<MemoryLink>::new(vec![]).is_none());
        let links = (0..=INTERFACES_MAX).map(|_| pair(MemoryConfig::default(), [mac(0), mac(1)]).0).collect();
        assert!(Several::new(links).is_none());
    }
}
