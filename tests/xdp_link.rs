//! Two AF_XDP links over a veth pair.
mod common;

use common::{INTERFACE, VethPair, privileged_trial};
use std::process::ExitCode;
use synfin::link::xdp::{AttachedMode, Claim, Mode, Steering, XdpConfig, XdpLink};
use synfin::link::{Frame, Link};

fn main() -> ExitCode {
    let trials = vec![
        privileged_trial("skb_frames_cross_both_ways", || frames_cross(Mode::Skb, AttachedMode::Skb)),
        privileged_trial("drv_frames_cross_both_ways", || frames_cross(Mode::Drv, AttachedMode::Drv)),
    ];
    common::run(trials).exit_code()
}

fn frames_cross(mode: Mode, obtained: AttachedMode) {
    let pair = VethPair::new(1);
    let mut left = pair.left.enter(|| End::new(mode, "10.99.0.1"));
    let mut right = pair.right.enter(|| End::new(mode, "10.99.0.2"));
    assert_eq!((left.steering.mode(), right.steering.mode()), (obtained, obtained));
    left.send(10);
    assert_eq!(right.receive(), 10);
    right.send(7);
    assert_eq!(left.receive(), 7);
}

struct End {
    steering: Steering,
    link: XdpLink,
    burst: Vec<Frame>,
}

impl End {
    fn new(mode: Mode, own: &str) -> End {
        let mut steering = Steering::attach(INTERFACE, mode).unwrap();
        let link = XdpLink::bind(INTERFACE, 0, XdpConfig::default()).unwrap();
        steering.steer(&link).unwrap();
        steering.claim(own.parse().unwrap(), Claim::Own).unwrap();
        steering.claim("10.99.0.0/24".parse().unwrap(), Claim::Own).unwrap();
        End { steering, link, burst: Vec::with_capacity(64) }
    }
    fn send(&mut self, n: usize) {
        for _ in 0..n {
            let mut f = self.link.take().unwrap();
            let bytes = self.link.bytes_mut(&mut f);
            bytes[..64].fill(0);
            bytes[12..14].copy_from_slice(&[8, 0]);
            bytes[14] = 0x45;
            bytes[23] = 6;
            bytes[30..34].copy_from_slice(&[10, 99, 0, 2]);
            self.link.send(f, 64).unwrap();
        }
        self.link.flush();
    }
    fn receive(&mut self) -> usize {
        std::thread::sleep(std::time::Duration::from_millis(20));
        self.link.receive(&mut self.burst, 64);
        println!("{:?} {:?} {:?}", self.link.levels(), self.link.counters(), self.steering.verdicts());
        let n = self.burst.len();
        for f in self.burst.drain(..) {
            self.link.give_back(f);
        }
        n
    }
}
