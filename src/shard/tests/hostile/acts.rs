//! What the hostile peer and the stack's application may do, how it is drawn, and how it is done.

use super::frames::{Sent, error_frame, place, question_frame, repair};
use super::*;
use crate::limits::BURST_MAX;

/// One thing that the peer does.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Segment(Sent),
    /// Several frames in one turn.
    Burst(Vec<Act>),
    /// A whole handshake on connection `port`, with the options of [`Sent::options`].
    Open {
        port: u8,
        v6: bool,
        options: u8,
    },
    /// It closes connection `port` after the stack's application has.
    Close {
        port: u8,
        v6: bool,
    },
    /// It sends `count` full segments, acknowledges nothing of what comes back, says that the first of it is missing, and then that the last
    /// was too big for a link.
    Lose {
        port: u8,
        v6: bool,
        count: u8,
        wnd: u16,
    },
    /// It asks for the stack's MAC address.
    Ask {
        v6: bool,
    },
    /// The last frame again, with a byte changed and cut; `repaired` lengths and checksums let it past the parser.
    Changed {
        at: u8,
        to: u8,
        cut: Option<u8>,
        repaired: bool,
    },
    /// Any bytes behind the first `keep` of the last frame.
    Noise {
        keep: usize,
        bytes: Vec<u8>,
        repaired: bool,
    },
    /// An ICMP error that quotes what the stack sent on connection `port`, near what it last said there; of kind 8 an echo request.
    Error {
        port: u8,
        v6: bool,
        kind: u8,
        code: u8,
        mtu: u16,
        seq: i32,
    },
    /// Time passes.
    Wait {
        ms: u16,
    },
    /// The stack's application asks for something on connection `port`.
    Call {
        port: u8,
        v6: bool,
        call: Call,
    },
}

/// What the application may ask for at any time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Connect,
    ShutDown,
    Close,
    Abort,
    Pause,
    Resume,
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    let call = prop_oneof![3 => Just(Call::Connect), 2 => Just(Call::ShutDown), 2 => Just(Call::Close), 1 => Just(Call::Abort),
        1 => Just(Call::Pause), 2 => Just(Call::Resume)];
    let v6 = || proptest::bool::weighted(0.25);
    prop_oneof![
        40 => frame(),
        4 => (0..PORTS, v6(), any::<u8>()).prop_map(|(port, v6, options)| Act::Open { port, v6, options }),
        2 => (0..PORTS, v6()).prop_map(|(port, v6)| Act::Close { port, v6 }),
        2 => (0..PORTS, v6(), 3..12u8, prop_oneof![Just(0), Just(60_000)])
            .prop_map(|(port, v6, count, wnd)| Act::Lose { port, v6, count, wnd }),
        4 => (0..3000u16).prop_map(|ms| Act::Wait { ms }),
        6 => (0..PORTS, v6(), call).prop_map(|(port, v6, call)| Act::Call { port, v6, call }),
        1 => burst().prop_map(Act::Burst),
    ]
}

/// Frames for one turn, most of them of one connection. With each segment that begins where the last ended the peer goes on, so that text,
/// FIN and SYN follow each other in it.
pub(super) fn burst() -> impl Strategy<Value = Vec<Act>> {
    let size = prop_oneof![10 => 1..9usize, 10 => 9..65usize, 1 => 65..=BURST_MAX as usize];
    let acts = size.prop_flat_map(|size| proptest::collection::vec((frame(), proptest::bool::weighted(0.8)), size));
    let focus = (0..PORTS, proptest::bool::weighted(0.25));
    (acts, proptest::option::weighted(0.7, focus), proptest::bool::weighted(0.7)).prop_map(|(acts, focus, steady)| {
        let mut acts = acts;
        for (act, focused) in &mut acts {
            if let Act::Segment(sent) = act {
                (sent.port, sent.v6) = focus.filter(|_| *focused).unwrap_or((sent.port, sent.v6));
                sent.tsval = if steady { 0 } else { sent.tsval };
            }
        }
        acts.into_iter().map(|(act, _)| act).collect()
    })
}

/// One frame in a turn.
fn frame() -> impl Strategy<Value = Act> {
    let seq = prop_oneof![3 => Just(0i32), 2 => -3000..3000i32, 1 => any::<i32>()];
    let kind = prop_oneof![4 => Just(3u8), 1 => Just(4u8), 1 => Just(8u8), 1 => Just(11u8), 1 => Just(12u8)];
    let mtu = prop_oneof![1 => any::<u16>(), 2 => 552..1500u16];
    // Values that some field of a header treats in a way of its own.
    let to = prop_oneof![any::<u8>(), proptest::sample::select(vec![0, 1, 2, 6, 58, 0x81, 0xff])];
    // Where headers have their lengths, protocols, addresses, ports and flags; anywhere in them; anywhere.
    let fields = vec![12u8, 13, 14, 16, 17, 20, 21, 22, 23, 26, 29, 36, 37, 46, 47];
    let at = prop_oneof![2 => proptest::sample::select(fields), 2 => 12..90u8, 1 => any::<u8>()];
    let keep = prop_oneof![Just(0usize), Just(14), Just(34), Just(54), Just(74)];
    let noise = proptest::collection::vec(any::<u8>(), 0..200);
    let v6 = proptest::bool::weighted(0.25);
    prop_oneof![
        12 => sent().prop_map(Act::Segment),
        1 => v6.prop_map(|v6| Act::Ask { v6 }),
        5 => (at, to, proptest::option::weighted(0.3, any::<u8>()), any::<bool>())
            .prop_map(|(at, to, cut, repaired)| Act::Changed { at, to, cut, repaired }),
        1 => (keep, noise, any::<bool>()).prop_map(|(keep, bytes, repaired)| Act::Noise { keep, bytes, repaired }),
        3 => (0..PORTS, v6, kind, prop_oneof![2 => 0..6u8, 1 => Just(4)], mtu, seq)
            .prop_map(|(port, v6, kind, code, mtu, seq)| Act::Error { port, v6, kind, code, mtu, seq }),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let near =
        || prop_oneof![14 => Just(0i32), 2 => -3..3i32, 1 => -6000..0i32, 1 => -70_000..70_000i32, 1 => any::<i32>()];
    // All but our FIN.
    let ack = prop_oneof![6 => near(), 1 => Just(-1i32)];
    let flags = prop_oneof![
        3 => Just(Flags::SYN.0),
        5 => Just(Flags::ACK.0),
        3 => Just(Flags::ACK.0 | Flags::PSH.0),
        2 => Just(Flags::FIN.0 | Flags::ACK.0),
        1 => Just(Flags::SYN.0 | Flags::ACK.0),
        1 => Just(Flags::RST.0),
        1 => any::<u8>(),
    ];
    let len = prop_oneof![Just(0u16), 1..100u16, 1300..1440u16];
    let wnd = prop_oneof![Just(0u16), Just(65_535u16), any::<u16>()];
    let tsval = prop_oneof![5 => Just(0i32), 5 => 0..2000i32, 1 => -2000..0i32, 1 => any::<i32>()];
    let block = (prop_oneof![4 => -6000..1000i32, 1 => any::<i32>()], prop_oneof![4 => 0..3000u16, 1 => any::<u16>()]);
    let sack = prop_oneof![2 => Just(Vec::new()), 1 => proptest::collection::vec(block, 1..5)];
    let to = (0..PORTS, proptest::bool::weighted(0.25), proptest::bool::weighted(0.05));
    let options = (any::<u8>(), proptest::bool::weighted(0.8), proptest::bool::weighted(0.3), tsval, sack);
    (to, flags, near(), ack, len, wnd, options).prop_map(|(to, flags, seq, ack, len, wnd, options)| {
        let ((port, v6, to_closed), (options, as_agreed, withholds, tsval, sack)) = (to, options);
        Sent { port, v6, to_closed, flags, seq, ack, len, wnd, options, as_agreed, withholds, tsval, sack }
    })
}

impl Hostile {
    pub(super) fn act(&mut self, act: &Act) {
        self.settle();
        self.said.clear();
        if let Some(frame) = self.frame_of(act) {
            self.deliver(frame);
        }
        match act {
            Act::Segment(_) | Act::Ask { .. } | Act::Changed { .. } | Act::Noise { .. } | Act::Error { .. } => {}
            Act::Burst(acts) => {
                let frames = self.frames_of(acts);
                frames.chunks(self.burst).for_each(|frames| self.deliver_together(frames));
            }
            Act::Open { port, v6, options } => {
                let (port, v6, options, wnd) = (*port, *v6, *options, 60_000);
                let syn = Sent { port, v6, options, wnd, flags: Flags::SYN.0, ..Sent::default() };
                self.deliver_sent(&syn);
                self.settle();
                self.deliver_sent(&Sent { flags: Flags::ACK.0, options: 0, as_agreed: true, ..syn });
            }
            Act::Close { port, v6 } => {
                self.call(*port, *v6, Call::ShutDown);
                self.settle();
                let flags = Flags::FIN.0 | Flags::ACK.0;
                self.deliver_sent(&Sent { port: *port, v6: *v6, flags, as_agreed: true, ..Sent::default() });
            }
            Act::Lose { port, v6, count, wnd } => self.lose(*port, *v6, *count, *wnd),
            Act::Wait { ms } => self.now = self.now.plus_ms(u64::from(*ms)),
            Act::Call { port, v6, call } => self.call(*port, *v6, *call),
        }
        self.settle();
        self.now = self.now.plus_ms(1);
        let core = &self.stack.core;
        self.seen.extend(core.connections.iter().map(|(_, known)| known.tcb.state.name()));
        self.seen.extend((core.time_wait_len() > 0).then_some("TIME-WAIT"));
    }

    fn lose(&mut self, port: u8, v6: bool, count: u8, wnd: u16) {
        let (flags, as_agreed, withholds) = (Flags::ACK.0, true, true);
        let ack = Sent { port, v6, wnd, flags, as_agreed, withholds, ..Sent::default() };
        for _ in 0..count {
            self.deliver_sent(&Sent { len: 1400, ..ack.clone() });
            self.settle();
        }
        for at in 1..4 {
            self.deliver_sent(&Sent { sack: vec![(-1400 * at, 1400 * at as u16)], ..ack.clone() });
            self.settle();
        }
        let seq = self.heard[place(port, v6)].seq;
        self.deliver(error_frame((port, v6), (3, 4), 1300, seq));
    }

    /// The frame that the act is; `None` if it is anything else.
    fn frame_of(&mut self, act: &Act) -> Option<Vec<u8>> {
        let (mut frame, repaired) = match act {
            Act::Segment(sent) => (self.frame_sent(sent), false),
            Act::Ask { v6 } => (question_frame(*v6), false),
            Act::Changed { at, to, cut, repaired } => {
                let mut frame = self.last.clone();
                if let Some(byte) = frame.get_mut(usize::from(*at)) {
                    *byte = *to;
                }
                if let Some(cut) = cut {
                    frame.truncate(usize::from(*cut));
                }
                (frame, *repaired)
            }
            Act::Noise { keep, bytes, repaired } => {
                let mut frame = self.last[..self.last.len().min(*keep)].to_vec();
                frame.extend_from_slice(bytes);
                (frame, *repaired)
            }
            Act::Error { port, v6, kind, code, mtu, seq } => {
                let seq = self.heard[place(*port, *v6)].seq.0.wrapping_add_signed(*seq);
                (error_frame((*port, *v6), (*kind, *code), *mtu, Seq(seq)), false)
            }
            Act::Burst(_)
            | Act::Open { .. }
            | Act::Close { .. }
            | Act::Lose { .. }
            | Act::Wait { .. }
            | Act::Call { .. } => return None,
        };
        if repaired {
            repair(&mut frame);
        }
        Some(frame)
    }

    /// The frames of a burst, of which the peer has heard no answer: what it sends next follows what it has sent.
    pub(super) fn frames_of(&mut self, acts: &[Act]) -> Vec<Vec<u8>> {
        let (heard, last) = (self.heard, self.last.clone());
        let mut frames = Vec::new();
        for act in acts {
            let Some(frame) = self.frame_of(act) else { continue };
            if let Act::Segment(sent @ Sent { seq: 0, to_closed: false, .. }) = act {
                let flags = Flags(sent.flags);
                let octets = u32::from(sent.len) + u32::from(flags.syn()) + u32::from(flags.fin());
                self.heard[place(sent.port, sent.v6)].ack += octets;
            }
            self.last = frame.clone();
            frames.push(frame);
        }
        (self.heard, self.last) = (heard, last);
        frames
    }
}
