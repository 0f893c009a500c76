//! What the hostile peer and the stack's application may do, how it is drawn, and how it is done.

use super::frames::{Sent, error_frame, place, question_frame, repair};
use super::*;

/// One thing that the peer does.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Segment(Sent),
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
        2 => (0..PORTS, v6, any::<u8>()).prop_map(|(port, v6, options)| Act::Open { port, v6, options }),
        1 => (0..PORTS, v6).prop_map(|(port, v6)| Act::Close { port, v6 }),
        1 => (0..PORTS, v6, 3..12u8, prop_oneof![Just(0), Just(60_000)])
            .prop_map(|(port, v6, count, wnd)| Act::Lose { port, v6, count, wnd }),
        1 => v6.prop_map(|v6| Act::Ask { v6 }),
        5 => (at, to, proptest::option::weighted(0.3, any::<u8>()), any::<bool>())
            .prop_map(|(at, to, cut, repaired)| Act::Changed { at, to, cut, repaired }),
        1 => (keep, noise, any::<bool>()).prop_map(|(keep, bytes, repaired)| Act::Noise { keep, bytes, repaired }),
        3 => (0..PORTS, v6, kind, prop_oneof![2 => 0..6u8, 1 => Just(4)], mtu, seq)
            .prop_map(|(port, v6, kind, code, mtu, seq)| Act::Error { port, v6, kind, code, mtu, seq }),
        2 => (0..3000u16).prop_map(|ms| Act::Wait { ms }),
        3 => (0..PORTS, v6, call).prop_map(|(port, v6, call)| Act::Call { port, v6, call }),
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
        match act {
            Act::Segment(sent) => self.deliver_sent(sent),
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
            Act::Ask { v6 } => self.deliver(question_frame(*v6)),
            Act::Changed { at, to, cut, repaired } => {
                let mut frame = self.last.clone();
                if let Some(byte) = frame.get_mut(usize::from(*at)) {
                    *byte = *to;
                }
                if let Some(cut) = cut {
                    frame.truncate(usize::from(*cut));
                }
                self.deliver_bytes(frame, *repaired);
            }
            Act::Noise { keep, bytes, repaired } => {
                let mut frame = self.last[..self.last.len().min(*keep)].to_vec();
                frame.extend_from_slice(bytes);
                self.deliver_bytes(frame, *repaired);
            }
            Act::Error { port, v6, kind, code, mtu, seq } => {
                let seq = self.heard[place(*port, *v6)].seq.0.wrapping_add_signed(*seq);
                self.deliver(error_frame((*port, *v6), (*kind, *code), *mtu, Seq(seq)));
            }
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

    fn deliver_bytes(&mut self, mut frame: Vec<u8>, repaired: bool) {
        if repaired {
            repair(&mut frame);
        }
        self.deliver(frame);
    }
}
