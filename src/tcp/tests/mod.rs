//! The state machine, state by state: a fixture per state, reached through the same functions that the shard calls.
//!
//! `expect` says what is sent and that nothing else is.

mod closing;
mod cookie;
mod data;
mod held;
mod hot;
mod icmp;
mod matrix;
mod opening;
mod rate;
mod reassembly;
mod recovery;
mod requirements;
mod states;
mod synchronized;
mod time_wait;
mod timestamps;
mod urgent;
mod waits;

use super::connection_options::ConnectionOptions;
use super::output::{self, Plan};
use super::recovery::Sack;
use super::sack::Scoreboard;
use super::state::State;
use super::tcb::{Fact, Tcb};
use super::{Context, Outcome, Settings, calls, listen, syn_sent, synchronized as others, timeouts};
use crate::four_tuple::FourTuple;
use crate::seq::Seq;
use crate::tick::{Now, Tick};
use crate::wire::tcp::{Flags, Options, Segment, Timestamps};
use alloc::vec::Vec;
use core::net::Ipv4Addr;

const SYN: Flags = Flags::SYN;
const ACK: Flags = Flags::ACK;
const RST: Flags = Flags::RST;
const RST_ACK: Flags = Flags(Flags::RST.0 | Flags::ACK.0);
const FIN_ACK: Flags = Flags(Flags::FIN.0 | Flags::ACK.0);
const SYN_ACK: Flags = Flags(Flags::SYN.0 | Flags::ACK.0);
const PSH_ACK: Flags = Flags(Flags::PSH.0 | Flags::ACK.0);

/// One end with its clock and settings.
struct End {
    tcb: Tcb,
    /// The scoreboard of an end that has one.
    board: Option<Scoreboard>,
    settings: Settings,
    options: ConnectionOptions,
    now: Now,
}

impl End {
    fn new(tcb: Tcb, settings: Settings, now: Now) -> End {
        End { tcb, board: None, settings, options: ConnectionOptions::DEFAULT, now }
    }

    fn arrives(&mut self, seg: Segment) -> Outcome {
        self.arrives_with(seg, &[])
    }

    /// A segment with SACK blocks.
    fn arrives_with(&mut self, seg: Segment, blocks: &[(Seq, Seq)]) -> Outcome {
        let (settings, options) = (self.settings, self.options);
        let cx = Context { now: self.now, settings: &settings, options: &options, receive_room: true };
        let mut out = Outcome::default();
        match self.tcb.state {
            State::SynSent => syn_sent::arrives(&mut self.tcb, &seg, &cx, &mut out),
            _ => {
                // As a shard does: nothing where there is neither.
                let some = self.board.is_some() || !blocks.is_empty();
                let sack = some.then_some(Sack { board: self.board.as_mut(), blocks });
                others::arrives(&mut self.tcb, &seg, sack, &cx, &mut out);
            }
        }
        out
    }

    /// Everything that is owed now.
    fn sends(&mut self) -> Vec<Plan> {
        let (settings, options) = (self.settings, self.options);
        let cx = Context { now: self.now, settings: &settings, options: &options, receive_room: true };
        let mut plans = Vec::new();
        while self.tcb.owes() {
            plans.extend(output::next(&mut self.tcb, self.board.as_mut(), &cx));
            assert!(plans.len() < 1000, "transmission does not end");
        }
        plans
    }

    /// Exactly one segment with these flags is owed.
    #[track_caller]
    fn expect(&mut self, flags: Flags) -> Plan {
        let plans = self.sends();
        assert_eq!(plans.iter().map(|plan| plan.flags).collect::<Vec<_>>(), [flags], "{plans:?}");
        plans[0]
    }

    /// Nothing is owed.
    #[track_caller]
    fn expect_nothing(&mut self) {
        assert_eq!(self.sends(), []);
    }

    fn queue(&mut self, octets: usize) -> usize {
        let (settings, options) = (self.settings, self.options);
        let cx = Context { now: self.now, settings: &settings, options: &options, receive_room: true };
        let taken = calls::send_room(&self.tcb, octets, &cx).expect("may send");
        calls::sent(&mut self.tcb, taken, &cx);
        taken
    }

    /// The options were changed.
    fn options_change(&mut self) {
        let (settings, options) = (self.settings, self.options);
        let cx = Context { now: self.now, settings: &settings, options: &options, receive_room: true };
        calls::options_changed(&mut self.tcb, &cx);
    }

    fn consume_all(&mut self) {
        let (settings, options) = (self.settings, self.options);
        let cx = Context { now: self.now, settings: &settings, options: &options, receive_room: true };
        let unread = self.tcb.unread_bytes;
        calls::received(&mut self.tcb, unread, &cx);
    }

    fn close(&mut self) -> calls::Closed {
        let (settings, options) = (self.settings, self.options);
        let cx = Context { now: self.now, settings: &settings, options: &options, receive_room: true };
        calls::close(&mut self.tcb, true, &cx).expect("may close")
    }

    fn shutdown_write(&mut self) {
        let (settings, options) = (self.settings, self.options);
        let cx = Context { now: self.now, settings: &settings, options: &options, receive_room: true };
        calls::close(&mut self.tcb, false, &cx).expect("may close");
    }

    /// Moves the clock to the next deadline and treats it; returns how long that took, ms.
    fn time_out(&mut self) -> (u32, Outcome) {
        let deadline = self.tcb.deadline().expect("a deadline");
        let waited = self.now.tick().until(deadline);
        self.now = self.now.plus_ms(u64::from(waited));
        let (settings, options) = (self.settings, self.options);
        let cx = Context { now: self.now, settings: &settings, options: &options, receive_room: true };
        (waited, timeouts::due(&mut self.tcb, self.board.as_mut(), &cx))
    }

    /// A segment from the peer that is next in order and acknowledges everything.
    fn next(&self, flags: Flags) -> Segment {
        let timestamps =
            self.tcb.agreed.timestamps().then_some(Timestamps { val: self.tcb.ts_recent, ecr: self.tcb.ts_offset });
        Segment {
            seq: self.tcb.rcv_nxt,
            ack: self.tcb.snd_nxt,
            wnd: 0xffff,
            flags,
            options: Options { timestamps, ..Options::default() },
            ..Segment::default()
        }
    }
}

/// What a planned segment looks like to the peer.
fn as_received(plan: Plan) -> Segment {
    Segment {
        seq: plan.seq,
        ack: plan.ack,
        wnd: plan.wnd,
        up: plan.up,
        flags: plan.flags,
        options: plan.options,
        payload_offset: 0,
        payload_len: plan.text_len,
        ..Segment::default()
    }
}

fn tuple() -> FourTuple {
    FourTuple::new(Ipv4Addr::new(10, 0, 0, 1).into(), 40_000, Ipv4Addr::new(10, 0, 0, 2).into(), 80)
}

fn start() -> Now {
    Now::from_ms(1_000_000)
}

/// SYN-SENT, its SYN sent.
fn syn_sent(settings: Settings) -> (End, Segment) {
    let cx = Context { now: start(), settings: &settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
    let mut client = End::new(Tcb::open_actively(&tuple(), &cx), settings, start());
    let syn = client.expect(SYN);
    (client, as_received(syn))
}

/// SYN-RECEIVED, its SYN-ACK sent.
fn syn_received(settings: Settings, syn: &Segment) -> (End, Segment) {
    assert_eq!(listen::arrives(syn), listen::Listened::Opens);
    let cx = Context { now: start(), settings: &settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
    let mut server = End::new(Tcb::open_passively(&tuple().reversed(), syn, &cx), settings, start());
    let syn_ack = server.expect(SYN_ACK);
    (server, as_received(syn_ack))
}

/// Both ends in ESTABLISHED with nothing owed.
fn established_with(settings: Settings) -> (End, End) {
    let (mut client, syn) = syn_sent(settings);
    let (mut server, syn_ack) = syn_received(settings, &syn);
    assert!(client.arrives(syn_ack).established);
    let ack = client.expect(ACK);
    assert!(server.arrives(as_received(ack)).established);
    server.expect_nothing();
    client.options.no_delay = true;
    assert_eq!((client.tcb.state, server.tcb.state), (State::Established, State::Established));
    (client, server)
}

fn established() -> (End, End) {
    established_with(settings())
}

fn settings() -> Settings {
    Settings { isn_secret: (11, 22), ..Settings::default() }
}

/// Without timestamps and SACK, so that segments may be made up freely.
fn plain() -> Settings {
    Settings { timestamps: false, ..without_sack() }
}

/// By duplicate ACKs and time-outs alone.
fn without_sack() -> Settings {
    Settings { sack: false, ..settings() }
}
