//! A link that wakes once for all that has come, as an XSK does under an edge-triggered epoll.

use super::*;
use crate::four_tuple::Addresses;
use crate::link::memory::MemoryLink;
use crate::link::{Frame, Levels, Link, LinkCounters};
use crate::seq::Seq;
use crate::stack::WaitLink;
use crate::wire::tcp::{Flags, Options, SegmentOut, emit};
use crate::wire::{Path, ethernet};
use std::io::{PipeReader, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

/// An end in memory whose other end writes to a pipe when it has sent something.
struct Edged {
    inner: MemoryLink,
    edge: PipeReader,
}

impl WaitLink for Edged {
    fn wait(&self, _alarm: BorrowedFd<'_>, _timeout: Duration) -> bool {
        self.inner.pending() > 0
    }

    fn descriptor(&self, _interface: u8) -> Option<BorrowedFd<'_>> {
        Some(self.edge.as_fd())
    }
}

impl Link for Edged {
    fn receive(&mut self, burst: &mut Vec<Frame>, max: usize) {
        self.inner.receive(burst, max);
    }

    fn bytes(&self, frame: &Frame) -> &[u8] {
        self.inner.bytes(frame)
    }

    fn bytes_mut(&mut self, frame: &mut Frame) -> &mut [u8] {
        self.inner.bytes_mut(frame)
    }

    fn take(&mut self) -> Option<Frame> {
        self.inner.take()
    }

    fn send(&mut self, frame: Frame, len: usize) -> Result<(), Frame> {
        self.inner.send(frame, len)
    }

    fn give_back(&mut self, frame: Frame) {
        self.inner.give_back(frame);
    }

    fn flush(&mut self) {
        self.inner.flush();
    }

    fn mac(&self) -> MacAddress {
        self.inner.mac()
    }

    fn mtu(&self) -> usize {
        self.inner.mtu()
    }

    fn frame_bytes_max(&self) -> usize {
        self.inner.frame_bytes_max()
    }

    fn levels(&self) -> Levels {
        self.inner.levels()
    }

    fn counters(&self) -> LinkCounters {
        self.inner.counters()
    }
}

/// The runtime hears of the whole burst once; turns of 64 frames that are all dropped must not end in sleep.
#[test]
fn syn_behind_a_burst_of_frames_that_are_dropped_is_answered_without_sleep() {
    let macs = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];
    let config = MemoryConfig { frames: 8192, queue_frames: 8192, ..MemoryConfig::default() };
    let (inner, mut peer) = pair(config, macs);
    let (edge, mut sent) = std::io::pipe().unwrap();
    let serve = OnTokio(|_shard: usize, net: Net| async move {
        let listener = net.listen(AT).unwrap();
        while listener.accept().await.is_ok() {}
    });
    let seat = vec![Seat { link: Edged { inner, edge }, core: None }];
    let stack = run_by(seat, &Spread::Symmetric, &super::config(SERVER), Idle::Sleep, serve).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let mut put = |bytes: &[u8]| {
        let mut frame = peer.take().unwrap();
        peer.copy_in(&mut frame, bytes);
        peer.send(frame, bytes.len()).unwrap();
    };
    (0..4000).for_each(|_| put(&[0xff; 60]));
    put(&syn(macs));
    peer.flush();
    let began = Instant::now();
    sent.write_all(&[0]).unwrap();
    let mut burst = Vec::with_capacity(64);
    let answered = loop {
        peer.receive(&mut burst, 64);
        let is_tcp =
            |frame: &Frame| ethernet::source(peer.bytes(frame)) == macs[0] && peer.bytes(frame).get(23) == Some(&6);
        if burst.iter().any(is_tcp) {
            break began.elapsed();
        }
        burst.drain(..).for_each(|frame| peer.give_back(frame));
        peer.flush();
        assert!(began.elapsed() < Duration::from_secs(20), "no answer");
        std::thread::sleep(Duration::from_micros(200));
    };
    stack.stop();
    stack.join().unwrap();
    assert!(answered < Duration::from_millis(250), "after {answered:?}: 62 turns of dropped frames went before");
}

fn syn([to, from]: [MacAddress; 2]) -> Vec<u8> {
    let segment = SegmentOut {
        src_port: 1000,
        dst_port: AT.port(),
        seq: Seq(1),
        ack: Seq(0),
        wnd: 1000,
        up: 0,
        flags: Flags::SYN,
        options: &Options::default(),
        sack: &[],
    };
    let addresses = Addresses::new(CLIENT, SERVER);
    let path = Path { src_mac: from, dst_mac: to, vlan: None, addresses, ttl: 64, dscp_ecn: 0 };
    let mut frame = vec![0; 200];
    let len = emit(&mut frame, &path, &segment, &[&[], &[]]);
    frame.truncate(len);
    frame
}
