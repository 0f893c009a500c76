//! Each of the eleven states as the shard holds it, with numbers to choose, and what a segment does there.

use super::*;
use crate::tcp::time_wait::{self, Numbers};
use crate::tcp::{Answer, End as Ends, closed};
use alloc::boxed::Box;

/// The eleven states of RFC 9293 3.3.2; SYN-RECEIVED twice, for it remembers how it was reached (MUST-11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum At {
    Closed,
    Listen,
    SynSent,
    SynReceived,
    SynReceivedActively,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

impl At {
    pub(super) const ALL: [At; 12] = [
        At::Closed,
        At::Listen,
        At::SynSent,
        At::SynReceived,
        At::SynReceivedActively,
        At::Established,
        At::FinWait1,
        At::FinWait2,
        At::CloseWait,
        At::Closing,
        At::LastAck,
        At::TimeWait,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            At::Closed => "CLOSED",
            At::Listen => "LISTEN",
            At::SynSent => "SYN-SENT",
            At::SynReceived => "SYN-RECEIVED",
            At::SynReceivedActively => "SYN-RECEIVED (active open)",
            At::Established => "ESTABLISHED",
            At::FinWait1 => "FIN-WAIT-1",
            At::FinWait2 => "FIN-WAIT-2",
            At::CloseWait => "CLOSE-WAIT",
            At::Closing => "CLOSING",
            At::LastAck => "LAST-ACK",
            At::TimeWait => "TIME-WAIT",
        }
    }
}

/// Where both sides' numbers begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered {
    pub iss: Seq,
    pub irs: Seq,
}

/// A state and what it consists of.
pub(super) enum Held {
    Nobody,
    Listener,
    Tcb(Box<End>),
    TimeWait(Numbers),
}

/// A segment that was sent: its control bits, SEG.SEQ, SEG.ACK and octets of text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sent {
    pub flags: Flags,
    pub seq: Seq,
    pub ack: Seq,
    pub len: u16,
}

impl From<Plan> for Sent {
    fn from(plan: Plan) -> Sent {
        Sent { flags: plan.flags, seq: plan.seq, ack: plan.ack, len: plan.text_len }
    }
}

impl From<Answer> for Sent {
    fn from(answer: Answer) -> Sent {
        Sent { flags: answer.flags, seq: answer.seq, ack: answer.ack, len: 0 }
    }
}

/// What an event did.
#[derive(Debug, Default)]
pub(super) struct Reaction {
    /// The name of the state after it.
    pub next: &'static str,
    pub sent: Vec<Sent>,
    /// Octets of text for the application.
    pub text: u16,
    /// An ACK waits for the delayed-ACK timer.
    pub delayed_ack: bool,
    pub established: bool,
    pub peer_closed: bool,
    /// 2MSL starts again.
    pub restarted: bool,
    /// Why the connection ended, for the application.
    pub ended: Option<&'static str>,
}

impl Held {
    /// The state, reached through the functions that the shard calls.
    pub(super) fn new(at: At, numbers: Numbered) -> Held {
        match at {
            At::Closed => Held::Nobody,
            At::Listen => Held::Listener,
            At::SynSent => Held::Tcb(opened_actively(numbers).into()),
            At::SynReceived => Held::Tcb(opened_passively(numbers).into()),
            At::SynReceivedActively => {
                let mut end = opened_actively(numbers);
                end.arrives(syn_of_peer(numbers));
                end.expect(SYN_ACK);
                Held::Tcb(end.into())
            }
            At::Established | At::FinWait1 | At::FinWait2 | At::CloseWait | At::Closing | At::LastAck => {
                Held::Tcb(synchronized(at, numbers).into())
            }
            At::TimeWait => {
                let mut end = synchronized(At::FinWait2, numbers);
                let out = end.arrives(end.next(FIN_ACK));
                assert_eq!(out.end, Some(Ends::TimeWait));
                Held::TimeWait(Numbers::of(
                    &end.tcb,
                    &Context {
                        now: start(),
                        settings: &small(),
                        options: &ConnectionOptions::DEFAULT,
                        receive_room: true,
                    },
                ))
            }
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Held::Nobody => "CLOSED",
            Held::Listener => "LISTEN",
            Held::Tcb(end) => end.tcb.state.name(),
            Held::TimeWait(_) => "TIME-WAIT",
        }
    }

    /// RCV.NXT and RCV.WND; any numbers where the state has none.
    pub(super) fn receives(&self, numbers: Numbered) -> (Seq, u32) {
        match self {
            Held::Tcb(end) if end.tcb.state != State::SynSent => (end.tcb.rcv_nxt, end.tcb.rcv_wnd()),
            Held::TimeWait(record) => (record.rcv_nxt, u32::from(record.wnd)),
            Held::Tcb(_) | Held::Nobody | Held::Listener => (numbers.irs + 1, 1000),
        }
    }

    /// SND.NXT.
    pub(super) fn snd_nxt(&self, numbers: Numbered) -> Seq {
        match self {
            Held::Tcb(end) => end.tcb.snd_nxt,
            Held::TimeWait(record) => record.snd_nxt,
            Held::Nobody | Held::Listener => numbers.iss + 1,
        }
    }

    /// SND.WND, where there is one.
    pub(super) fn snd_wnd(&self) -> Option<u32> {
        match self {
            Held::Tcb(end) => Some(end.tcb.snd_wnd),
            Held::TimeWait(_) | Held::Nobody | Held::Listener => None,
        }
    }

    /// Offers no window, as after an application that does not read.
    pub(super) fn close_window(&mut self) {
        match self {
            Held::Tcb(end) => end.tcb.rcv_edge = end.tcb.rcv_nxt,
            Held::TimeWait(record) => record.wnd = 0,
            Held::Nobody | Held::Listener => {}
        }
    }

    /// RFC 9293 3.10.7: a segment arrives.
    pub(super) fn arrives(&mut self, seg: Segment) -> Reaction {
        match self {
            Held::Nobody => {
                let sent = closed::arrives(&seg).map(Sent::from).into_iter().collect();
                Reaction { next: "CLOSED", sent, ..Reaction::default() }
            }
            Held::Listener => match listen::arrives(&seg) {
                listen::Listened::Ignored => Reaction { next: "LISTEN", ..Reaction::default() },
                listen::Listened::Refused(answer) => {
                    Reaction { next: "LISTEN", sent: [answer.into()].into(), ..Reaction::default() }
                }
                listen::Listened::Opens => opens(&seg),
            },
            Held::Tcb(end) => {
                let out = end.arrives(seg);
                react(end, out)
            }
            Held::TimeWait(record) => {
                let settings = small();
                let cx = Context {
                    now: start(),
                    settings: &settings,
                    options: &ConnectionOptions::DEFAULT,
                    receive_room: true,
                };
                let arrived = time_wait::arrives(record, &tuple(), &seg, &cx);
                if arrived.reopens {
                    return opens(&seg);
                }
                let next = if arrived.ends { "CLOSED" } else { "TIME-WAIT" };
                let sent = arrived.answer.map(Sent::from).into_iter().collect();
                Reaction { next, sent, restarted: arrived.restart, ..Reaction::default() }
            }
        }
    }
}

/// What came of an event at a TCB: everything that it sends, and where it is then.
pub(super) fn react(end: &mut End, out: Outcome) -> Reaction {
    let sent: Vec<Sent> =
        out.answer.map(Sent::from).into_iter().chain(end.sends().into_iter().map(Sent::from)).collect();
    let (next, ended) = match out.end {
        Some(Ends::TimeWait) => ("TIME-WAIT", None),
        Some(Ends::Listen) => ("LISTEN", None),
        Some(Ends::Closed(reason)) => ("CLOSED", Some(reason.name())),
        None => (end.tcb.state.name(), None),
    };
    Reaction {
        next,
        sent,
        text: out.text.map_or(0, |(_, octets)| octets),
        delayed_ack: end.tcb.delayed_ack_at.is_set(),
        established: out.established,
        peer_closed: out.peer_closed,
        restarted: false,
        ended,
    }
}

/// Without timestamps, with a window of 1000 octets, told as they are: segments may be made up freely.
pub(super) fn small() -> Settings {
    Settings { receive_buffer_bytes: 1000, ..plain() }
}

/// A SYN opens a connection at a listener, or instead of one in TIME-WAIT.
fn opens(syn: &Segment) -> Reaction {
    let settings = small();
    let cx = Context { now: start(), settings: &settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
    let mut end = End::new(Tcb::open_passively(&tuple(), syn, &cx), settings, start());
    react(&mut end, Outcome::default())
}

fn syn_of_peer(numbers: Numbered) -> Segment {
    let options = Options { window_scale: Some(WINDOW_SHIFT), ..Options::default() };
    Segment { seq: numbers.irs, wnd: 0xffff, flags: SYN, options, ..Segment::default() }
}

/// SYN-SENT, its SYN sent.
fn opened_actively(numbers: Numbered) -> End {
    let settings = small();
    let cx = Context { now: start(), settings: &settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
    let mut tcb = Tcb::open_actively(&tuple(), &cx);
    tcb.set_iss(numbers.iss);
    let mut end = End::new(tcb, settings, start());
    end.expect(SYN);
    end
}

/// SYN-RECEIVED by a listener, its SYN-ACK sent.
fn opened_passively(numbers: Numbered) -> End {
    let settings = small();
    let cx = Context { now: start(), settings: &settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
    let mut tcb = Tcb::open_passively(&tuple(), &syn_of_peer(numbers), &cx);
    tcb.set_iss(numbers.iss);
    let mut end = End::new(tcb, settings, start());
    end.expect(SYN_ACK);
    end
}

/// ESTABLISHED or later, everything sent; our FIN, where there is one, is not acknowledged before FIN-WAIT-2.
fn synchronized(at: At, numbers: Numbered) -> End {
    let mut end = opened_actively(numbers);
    let syn_ack = Segment { flags: SYN_ACK, ack: end.tcb.snd_nxt, ..syn_of_peer(numbers) };
    assert!(end.arrives(syn_ack).established);
    end.expect(ACK);
    end.options.no_delay = true;
    if matches!(at, At::CloseWait | At::LastAck) {
        end.arrives(end.next(FIN_ACK));
        end.expect(ACK);
    }
    if matches!(at, At::FinWait1 | At::FinWait2 | At::Closing | At::LastAck) {
        end.shutdown_write();
        end.expect(FIN_ACK);
    }
    if at == At::FinWait2 {
        end.arrives(end.next(ACK));
    }
    if at == At::Closing {
        end.arrives(Segment { ack: end.tcb.snd_una, ..end.next(FIN_ACK) });
        end.expect(ACK);
    }
    end.expect_nothing();
    assert_eq!(end.tcb.state.name(), at.name());
    end
}

/// By how much the peer's windows are scaled, where its SYN has said so.
pub(super) const WINDOW_SHIFT: u8 = 2;
