//! A peer that sends whatever it likes, at frame level, and sees every answer (T02, T14 to T20, T31). Every frame is accounted
//! for: [`balance`] says how.

mod acts;
mod balance;
mod bursts;
mod frames;
mod probes;

use self::acts::{Act, Call, act};
use self::balance::Together;
use self::bursts::{Ends, ends};
use self::frames::{Sent, place};
use super::*;
use crate::counters::{Counters, DropReason};
use crate::four_tuple::FourTuple;
use crate::ids::ListenerId;
use crate::limits::BURST_MAX;
use crate::seq::Seq;
use crate::tcp::cookie::SynCookies;
use crate::tcp::state::State;
use crate::wire::arp::{Operation, emit_reply};
use crate::wire::tcp::{Flags, Segment};
use crate::wire::{Expect, Parsed, TcpPacket, ndp, parse};
use alloc::collections::BTreeSet;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Sends everything back, and takes every error for what it is.
#[derive(Default)]
struct Tolerant {
    /// It takes note of what it is told, and does nothing.
    holds: bool,
    /// What it was told while it held, but for text, by connection.
    told: BTreeMap<Ends, Vec<Told>>,
    accepted: usize,
    connected: usize,
    closed: usize,
    /// Octets of text.
    received: usize,
}

impl Application for Tolerant {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        if self.holds {
            self.note(calls, &event);
        }
        match event {
            Event::Accepted { .. } => self.accepted += 1,
            Event::Readable { .. } | Event::PeerClosed { .. } if self.holds => {}
            Event::Readable { handle, bytes } => {
                self.received += bytes.len();
                let taken = calls.send(handle, bytes).unwrap_or(bytes.len());
                calls.consume(handle, taken).expect("lent bytes can be consumed");
            }
            // Every other connection is left in CLOSE-WAIT.
            Event::PeerClosed { handle } if handle.number().is_multiple_of(2) => drop(calls.close(handle)),
            Event::Closed { .. } => self.closed += 1,
            Event::Connected { .. } => self.connected += 1,
            Event::Writable { .. }
            | Event::PeerClosed { .. }
            | Event::Stalled { .. }
            | Event::Urgent { .. }
            | Event::SpliceEnded { .. }
            | Event::Timer { .. } => {}
        }
    }
}

/// What an application is told that does not follow from when frames came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Opened,
    PeerClosed,
    Closed(CloseReason),
}

impl Tolerant {
    fn note(&mut self, calls: &Calls<'_>, event: &Event<'_>) {
        let (handle, told) = match *event {
            Event::Accepted { handle, .. } | Event::Connected { handle } => (handle, Told::Opened),
            Event::PeerClosed { handle } => (handle, Told::PeerClosed),
            Event::Closed { handle, reason } => (handle, Told::Closed(reason)),
            Event::Readable { .. }
            | Event::Writable { .. }
            | Event::Stalled { .. }
            | Event::Urgent { .. }
            | Event::SpliceEnded { .. }
            | Event::Timer { .. } => return,
        };
        let tuple = calls.four_tuple(handle).expect("told of what there is");
        self.told.entry(ends(&tuple)).or_default().push(told);
    }
}

struct Hostile {
    wire: MemoryLink,
    stack: Shard<MemoryLink, Tolerant>,
    now: Now,
    /// Frames that the stack takes in one turn.
    burst: usize,
    /// What the stack last said on each connection, by [`place`].
    heard: [Segment; 2 * PORTS as usize],
    /// What the stack has said since the last act began.
    said: Vec<TcpPacket>,
    last: Vec<u8>,
    /// Active opens that were taken.
    opened: usize,
    /// Frames that a connection has taken or a RST has answered, and nothing else has counted.
    passed: u64,
    /// States that were seen, by name.
    seen: BTreeSet<&'static str>,
}

const PEER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const STACK_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

/// The last byte of each end's addresses.
const PEER: u8 = 1;
const STACK: u8 = 2;

/// Chunks, half of them for each direction: few, so that they run out.
const CHUNKS: u32 = 16;

/// Ports of the peer, over each family, from the first on.
const PORTS: u8 = 4;
const FIRST_PORT: u16 = 1000;

fn address(host: u8, v6: bool) -> IpAddr {
    if v6 { [0xfd00, 0, 0, 0, 0, 0, 0, host.into()].into() } else { [10, 0, 0, host].into() }
}

/// Connection `port` as the stack names it.
fn name(port: u8, v6: bool) -> FourTuple {
    FourTuple::new(address(STACK, v6), 80, address(PEER, v6), FIRST_PORT + u16::from(port % PORTS))
}

impl Hostile {
    fn new() -> Hostile {
        Hostile::with_cookies(SynCookies::default())
    }

    fn with_cookies(syn_cookies: SynCookies) -> Hostile {
        // The largest with one of the three, so that both are played.
        let burst = if syn_cookies == SynCookies::Off { BURST_MAX } else { Limits::default().burst };
        let limits = Limits {
            tcbs_max: 16,
            half_open_max: 3,
            accept_max: 4,
            time_wait_max: 64,
            chunks_max: CHUNKS,
            neighbors_max: 4,
            burst,
            ..Limits::default()
        };
        Hostile::with(limits, Settings { syn_cookies, ..Settings::default() })
    }

    fn with(limits: Limits, settings: Settings) -> Hostile {
        let (wire, link) = pair(MemoryConfig::default(), [PEER_MAC, STACK_MAC]);
        let now = Now::from_ms(9_000);
        let own = |v6| LocalAddress { address: address(STACK, v6), prefix_len: if v6 { 64 } else { 24 } };
        let config = ShardConfig { limits, addresses: vec![own(false), own(true)], settings, ..ShardConfig::seeded(0) };
        let mut stack = Shard::new(link, Tolerant::default(), config, now).expect("a shard");
        for v6 in [false, true] {
            stack.calls(now).listen(address(STACK, v6), 80).expect("a listener");
        }
        Hostile {
            wire,
            stack,
            now,
            burst: limits.burst as usize,
            heard: Default::default(),
            said: Vec::new(),
            last: Vec::new(),
            opened: 0,
            passed: 0,
            seen: BTreeSet::new(),
        }
    }

    fn deliver_sent(&mut self, sent: &Sent) {
        let frame = self.frame_sent(sent);
        self.deliver(frame);
    }

    fn frame_sent(&self, sent: &Sent) -> Vec<u8> {
        let name = name(sent.port, sent.v6);
        let snd_una = self.connection(&name).map(|tcb| tcb.snd_una);
        sent.frame(&self.heard[place(sent.port, sent.v6)], snd_una)
    }

    /// One frame in a turn of its own, in which nothing is due.
    fn deliver(&mut self, frame: Vec<u8>) {
        let before = self.before(&frame);
        if self.send(frame) {
            self.stack.turn(self.now);
            let after = before.tuple().and_then(|tuple| self.connection(&tuple));
            self.account(&before, after.as_ref());
        }
    }

    /// Frames that come in one turn, at most one burst.
    fn deliver_together(&mut self, frames: &[Vec<u8>]) {
        self.settle();
        let before = Together::of(self, frames);
        for frame in frames {
            assert!(self.send(frame.clone()), "there is room for a burst");
        }
        self.said.clear();
        self.stack.turn(self.now);
        self.listen();
        self.account_together(&before);
    }

    /// Turns until nothing is due now and every question about neighbours is answered.
    fn settle(&mut self) {
        for _ in 0..8 {
            self.stack.turn(self.now);
            if !self.listen() {
                return;
            }
        }
        panic!("the stack asks for neighbours without end");
    }

    /// The application takes every error for what it is.
    fn call(&mut self, port: u8, v6: bool, call: Call) {
        let name = name(port, v6);
        let remote = SocketAddr::new(name.remote(), name.remote_port);
        let handle = {
            let core = &self.stack.core;
            let mut all = core.connections.iter();
            all.find(|(number, _)| core.names[*number].tuple == name).map(|(number, known)| known.handle(number))
        };
        let listener = ListenerId(u32::from(v6));
        let mut calls = self.stack.calls(self.now);
        match (call, handle) {
            (Call::Connect, _) => {
                let options = ConnectOptions { local_port: Some(80), ..ConnectOptions::default() };
                self.opened += usize::from(calls.connect(remote, &options).is_ok());
            }
            (Call::ShutDown, Some(handle)) => drop(calls.shutdown_write(handle)),
            (Call::Close, Some(handle)) => drop(calls.close(handle)),
            (Call::Abort, Some(handle)) => drop(calls.abort(handle)),
            (Call::Pause, _) => assert!(calls.pause_accepting(listener)),
            (Call::Resume, _) => assert!(calls.resume_accepting(listener)),
            (_, None) => {}
        }
    }

    /// Puts a frame on the wire; returns whether there was room.
    fn send(&mut self, frame: Vec<u8>) -> bool {
        let Some(mut slot) = self.wire.take() else { return false };
        let len = frame.len().min(1600);
        self.wire.bytes_mut(&mut slot)[..len].copy_from_slice(&frame[..len]);
        assert!(self.wire.send(slot, len).is_ok(), "a taken frame fits");
        self.wire.flush();
        self.last = frame;
        true
    }

    /// Takes note of what the stack says; whatever it says is well-formed. Returns whether it was told about a neighbour.
    fn listen(&mut self) -> bool {
        let mut burst = Vec::with_capacity(256);
        let mut answers = Vec::new();
        self.wire.receive(&mut burst, 256);
        for frame in burst {
            // A changed frame may have come from another MAC address, and is answered there.
            let bytes = self.wire.bytes(&frame);
            let mac = MacAddress(bytes[..6].try_into().expect("a header"));
            let mut answer = vec![0; 90];
            match parse(bytes, &Expect { mac, mtu: 1500, vlan: None, verify_checksums: true }) {
                Ok(Parsed::Tcp(packet)) => {
                    self.said.push(packet);
                    let FourTuple { addresses, local_port, remote_port } = packet.tuple;
                    let port = local_port.wrapping_sub(FIRST_PORT);
                    if port < u16::from(PORTS) && remote_port == 80 {
                        self.heard[place(port as u8, !addresses.is_v4())] = packet.segment;
                    }
                }
                Ok(Parsed::Arp(asked)) if asked.operation == Operation::Request => {
                    let len = emit_reply(&mut answer, &asked, PEER_MAC, None);
                    answer.truncate(len);
                    answers.push(answer);
                }
                Ok(Parsed::Ndp(ndp::Packet::Solicitation(asked))) if !asked.src.is_unspecified() => {
                    let len = ndp::emit_advertisement(&mut answer, &asked, PEER_MAC, None);
                    answer.truncate(len);
                    answers.push(answer);
                }
                // An echo reply asks nothing.
                Ok(Parsed::Arp(_) | Parsed::Ndp(_) | Parsed::Echo(_)) | Err(DropReason::IcmpIgnored) => {}
                other => panic!("the stack sent {other:?}"),
            }
            self.wire.give_back(frame);
        }
        self.wire.flush();
        let told = !answers.is_empty();
        for answer in answers {
            self.send(answer);
        }
        told
    }

    /// No frame is lost or left uncounted, nothing grows, and the index holds what is open or in TIME-WAIT.
    fn assert_whole(&self) {
        let core = &self.stack.core;
        assert!(self.stack.link().levels().conserved());
        assert_eq!(
            core.counters.frames_received,
            self.verdicts() + self.passed,
            "a frame was counted twice or not at all"
        );
        assert!(core.half_open <= core.connections.len() && core.connections.len() <= core.limits.tcbs_max);
        let open = core.connections.iter().filter(|(_, known)| known.tcb.state != State::Closed).count() as u32;
        // The record of a former incarnation is kept beside the index while a new one opens (B44).
        let kept = core.connections.iter().filter(|(_, known)| known.former().is_some()).count() as u32;
        assert_eq!(core.index.len() + kept, open + core.time_wait_len());
    }

    /// The peer has gone: time ends everything, and what owes nothing is the application's to end.
    fn end(&mut self) {
        // Who was aborted while it waited to be accepted is told first, and out of the way.
        for v6 in [false, true] {
            self.call(0, v6, Call::Resume);
        }
        self.stack.turn(self.now);
        let open = self.stack.core.connections.iter().map(|(number, known)| known.handle(number));
        for handle in open.collect::<Vec<_>>() {
            // One that nobody has been told of cannot be aborted; it times out.
            let _ = self.stack.calls(self.now).abort(handle);
        }
        for _ in 0..400 {
            self.now = self.now.plus_ms(1_000);
            self.stack.turn(self.now);
            self.listen();
        }
        assert_shard_clean(&self.stack);
        assert_eq!(self.stack.time_wait_live(), 0);
        assert_eq!(self.stack.application().accepted + self.opened, self.stack.application().closed);
    }
}

/// What plays came to together.
#[derive(Default)]
struct Played {
    states: BTreeSet<&'static str>,
    counters: Counters,
    drops: crate::counters::Drops,
}

impl Played {
    /// Plays `acts`, and leaves nothing behind.
    fn play(&mut self, acts: &[Act], syn_cookies: SynCookies) {
        let mut world = Hostile::with_cookies(syn_cookies);
        for act in acts {
            world.act(act);
            world.assert_whole();
        }
        world.end();
        self.states.append(&mut world.seen);
        self.counters.add(world.stack.counters());
        self.drops.add(world.stack.drops());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// No panic, no invalid frame, no growth, no frame unaccounted for; when the peer has gone, time ends everything. T31.
    #[test]
    fn whatever_a_peer_sends_the_stack_stays_whole(
        acts in proptest::collection::vec(act(), 1..120),
        syn_cookies in proptest::sample::select(vec![SynCookies::Always, SynCookies::Off, SynCookies::Auto]),
    ) {
        Played::default().play(&acts, syn_cookies);
    }
}

/// The same acts, drawn the same way, reach every state that a connection can be in, and everything that a frame is counted for.
#[test]
fn whatever_a_peer_sends_reaches_every_state_and_verdict() {
    let mut runner = TestRunner::deterministic();
    let acts = proptest::collection::vec(act(), 60..120);
    let mut played = Played::default();
    for at in 0..120 {
        let acts = acts.new_tree(&mut runner).expect("acts can be drawn").current();
        played.play(&acts, [SynCookies::Always, SynCookies::Off, SynCookies::Auto, SynCookies::Auto][at % 4]);
    }
    // CLOSED is absence: what has ended is told and gone within its turn.
    let live = State::ALL.iter().filter(|state| **state != State::Closed).map(|state| state.name());
    let missed: Vec<_> = live.chain(["TIME-WAIT"]).filter(|name| !played.states.contains(name)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}, seen: {:?}", played.states);
    let Counters { fast_recoveries, time_outs, retransmitted_data, out_of_order_kept, hints_stale, .. } =
        played.counters;
    let more = [
        ("hints_stale", hints_stale),
        ("fast_recoveries", fast_recoveries),
        ("time_outs", time_outs),
        ("retransmitted_data", retransmitted_data),
        ("out_of_order_kept", out_of_order_kept),
    ];
    let counted = balance::verdicts(&played.counters).into_iter().chain(more).chain(played.drops.iter());
    let missed: Vec<_> = counted.filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
    // A checksum left to hardware is nothing that chance makes: `wire::tests` has it.
    let missed: Vec<_> = missed.into_iter().filter(|name| *name != DropReason::TcpChecksumPartial.name()).collect();
    assert!(missed.is_empty(), "never counted: {missed:?}");
}
