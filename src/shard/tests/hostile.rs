//! A peer that sends whatever it likes, at frame level, and sees every answer (T02, T14 to T20, T31).

use super::*;
use crate::four_tuple::{Addresses, FourTuple};
use crate::ids::ListenerId;
use crate::seq::Seq;
use crate::tcp::cookie::SynCookies;
use crate::tcp::state::State;
use crate::wire::arp::{Operation, emit_reply};
use crate::wire::tcp::{Flags, Options, Segment, SegmentOut, Timestamps, emit};
use crate::wire::{Expect, Parsed, Path, parse};
use alloc::collections::BTreeSet;
use etherparse::PacketBuilder;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// One thing that the peer does.
#[derive(Clone, Debug)]
enum Act {
    /// A segment on connection `port`, relative to what the stack last said there.
    Segment { port: u8, flags: u8, seq: i32, ack: i32, len: u16, wnd: u16, options: u8 },
    /// The last frame again, with bytes changed and cut.
    Changed { at: u8, to: u8, cut: Option<u8> },
    /// Any bytes.
    Noise(Vec<u8>),
    /// An ICMP error that quotes what the stack sent on connection `port`, near what it last said there.
    Error { port: u8, kind: u8, code: u8, mtu: u16, seq: i32 },
    /// Time passes.
    Wait { ms: u16 },
    /// The stack's application asks for something on connection `port`.
    Call { port: u8, call: Call },
}

/// What the application may ask for at any time.
#[derive(Clone, Copy, Debug)]
enum Call {
    Connect,
    ShutDown,
    Close,
    Abort,
    Pause,
    Resume,
}

fn act() -> impl Strategy<Value = Act> {
    let near = prop_oneof![6 => Just(0i32), 2 => -3..3i32, 1 => -70_000..70_000i32, 1 => any::<i32>()];
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
    let call = prop_oneof![3 => Just(Call::Connect), 2 => Just(Call::ShutDown), 2 => Just(Call::Close), 1 => Just(Call::Abort),
        1 => Just(Call::Pause), 2 => Just(Call::Resume)];
    let seq = prop_oneof![3 => Just(0i32), 2 => -3000..3000i32, 1 => any::<i32>()];
    let kind = prop_oneof![4 => Just(3u8), 1 => Just(4u8), 1 => Just(11u8), 1 => Just(12u8)];
    prop_oneof![
        12 => (0..4u8, flags, near.clone(), near, len, wnd, any::<u8>())
            .prop_map(|(port, flags, seq, ack, len, wnd, options)| Act::Segment { port, flags, seq, ack, len, wnd, options }),
        2 => (any::<u8>(), any::<u8>(), proptest::option::of(any::<u8>())).prop_map(|(at, to, cut)| Act::Changed { at, to, cut }),
        1 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Act::Noise),
        3 => (0..4u8, kind, 0..6u8, any::<u16>(), seq)
            .prop_map(|(port, kind, code, mtu, seq)| Act::Error { port, kind, code, mtu, seq }),
        2 => (0..3000u16).prop_map(|ms| Act::Wait { ms }),
        3 => (0..4u8, call).prop_map(|(port, call)| Act::Call { port, call }),
    ]
}

/// Sends everything back, and takes every error for what it is.
#[derive(Default)]
struct Tolerant {
    accepted: usize,
    closed: usize,
}

impl Application for Tolerant {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Accepted { .. } => self.accepted += 1,
            Event::Readable { handle, bytes } => {
                let taken = calls.send(handle, bytes).unwrap_or(bytes.len());
                calls.consume(handle, taken).expect("lent bytes can be consumed");
            }
            // Every other connection is left in CLOSE-WAIT.
            Event::PeerClosed { handle } if handle.number().is_multiple_of(2) => drop(calls.close(handle)),
            Event::Closed { .. } => self.closed += 1,
            Event::Connected { .. }
            | Event::Writable { .. }
            | Event::PeerClosed { .. }
            | Event::Stalled { .. }
            | Event::Urgent { .. }
            | Event::SpliceEnded { .. }
            | Event::Timer { .. } => {}
        }
    }
}

struct Hostile {
    wire: MemoryLink,
    stack: Shard<MemoryLink, Tolerant>,
    now: Now,
    /// What the stack last said to each port.
    heard: [Segment; 4],
    last: Vec<u8>,
    /// Active opens that were taken.
    opened: usize,
    /// States that were seen, by name.
    seen: BTreeSet<&'static str>,
}

const PEER_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const STACK_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

impl Hostile {
    fn new() -> Hostile {
        Hostile::with_cookies(SynCookies::default())
    }

    fn with_cookies(syn_cookies: SynCookies) -> Hostile {
        let settings = Settings { syn_cookies, ..Settings::default() };
        let (wire, link) = pair(MemoryConfig::default(), [PEER_MAC, STACK_MAC]);
        let now = Now::from_ms(9_000);
        let limits = Limits { tcbs_max: 16, time_wait_max: 64, chunks_max: 64, neighbors_max: 4, ..Limits::default() };
        let addresses = vec![LocalAddress { address: "10.0.0.2".parse().expect("an address"), prefix_len: 24 }];
        let config = ShardConfig { limits, addresses, settings, ..ShardConfig::seeded(0) };
        let mut stack = Shard::new(link, Tolerant::default(), config, now).expect("a shard");
        stack.calls(now).listen("10.0.0.2".parse().expect("an address"), 80).expect("a listener");
        Hostile { wire, stack, now, heard: [Segment::default(); 4], last: Vec::new(), opened: 0, seen: BTreeSet::new() }
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Segment { port, flags, seq, ack, len, wnd, options } => {
                let heard = self.heard[usize::from(*port)];
                let timestamps = heard.options.timestamps.map_or(1, |timestamps| timestamps.ecr);
                let options = Options {
                    mss: (options & 1 != 0).then_some(u16::from(*options) * 9),
                    window_scale: (options & 2 != 0).then_some(options >> 4),
                    timestamps: (options & 4 != 0).then_some(Timestamps { val: timestamps, ecr: 0 }),
                    ..Options::default()
                };
                let segment = SegmentOut {
                    src_port: 1000 + u16::from(*port),
                    dst_port: if *flags == 0x55 { 81 } else { 80 },
                    seq: Seq(heard.ack.0.wrapping_add_signed(*seq)),
                    ack: Seq(heard.end().0.wrapping_add_signed(*ack)),
                    wnd: *wnd,
                    up: *len,
                    flags: Flags(*flags),
                    options: &options,
                    sack: &[],
                };
                let (local, remote) =
                    ("10.0.0.1".parse().expect("an address"), "10.0.0.2".parse().expect("an address"));
                let addresses = Addresses::new(local, remote);
                let path = Path { src_mac: PEER_MAC, dst_mac: STACK_MAC, vlan: None, addresses, ttl: 64, dscp_ecn: 0 };
                let mut frame = vec![0; 1600];
                let text = vec![7; usize::from(*len)];
                let len = emit(&mut frame, &path, &segment, &[&text, &[]]);
                frame.truncate(len);
                self.send(frame);
            }
            Act::Changed { at, to, cut } => {
                let mut frame = self.last.clone();
                if let Some(byte) = frame.get_mut(usize::from(*at)) {
                    *byte = *to;
                }
                if let Some(cut) = cut {
                    frame.truncate(usize::from(*cut));
                }
                self.send(frame);
            }
            Act::Noise(bytes) => self.send(bytes.clone()),
            Act::Error { port, kind, code, mtu, seq } => {
                let heard = self.heard[usize::from(*port)];
                let mut quote = Vec::new();
                let segment = PacketBuilder::ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64);
                let segment = segment.tcp(80, 1000 + u16::from(*port), heard.seq.0.wrapping_add_signed(*seq), 0);
                segment.write(&mut quote, &[]).expect("a packet");
                let mut frame = Vec::new();
                let error = PacketBuilder::ethernet2(PEER_MAC.0, STACK_MAC.0).ipv4([10, 0, 0, 9], [10, 0, 0, 2], 64);
                let [high, low] = mtu.to_be_bytes();
                let error = error.icmpv4_raw(*kind, *code, [0, 0, high, low]);
                error.write(&mut frame, &quote[..28]).expect("a packet");
                self.send(frame);
            }
            Act::Wait { ms } => self.now = self.now.plus_ms(u64::from(*ms)),
            Act::Call { port, call } => self.call(1000 + u16::from(*port), *call),
        }
        self.stack.turn(self.now);
        self.now = self.now.plus_ms(1);
        self.listen();
        let core = &self.stack.core;
        self.seen.extend(core.connections.iter().map(|(_, known)| known.tcb.state.name()));
        self.seen.extend((core.time_wait_len() > 0).then_some("TIME-WAIT"));
    }

    /// The application takes every error for what it is.
    fn call(&mut self, port: u16, call: Call) {
        let remote = SocketAddr::new("10.0.0.1".parse().expect("an address"), port);
        let mut all = self.stack.core.connections.iter();
        let of_port = all.find(|(_, known)| known.tcb.tuple.remote_port == port);
        let handle = of_port.map(|(number, known)| known.handle(number));
        drop(all);
        let mut calls = self.stack.calls(self.now);
        match (call, handle) {
            (Call::Connect, _) => {
                let options = ConnectOptions { local_port: Some(80), ..ConnectOptions::default() };
                self.opened += usize::from(calls.connect(remote, &options).is_ok());
            }
            (Call::ShutDown, Some(handle)) => drop(calls.shutdown_write(handle)),
            (Call::Close, Some(handle)) => drop(calls.close(handle)),
            (Call::Abort, Some(handle)) => drop(calls.abort(handle)),
            (Call::Pause, _) => assert!(calls.pause_accepting(ListenerId(0))),
            (Call::Resume, _) => assert!(calls.resume_accepting(ListenerId(0))),
            (_, None) => {}
        }
    }

    fn send(&mut self, frame: Vec<u8>) {
        let Some(mut slot) = self.wire.take() else { return };
        let len = frame.len().min(1600);
        self.wire.bytes_mut(&mut slot)[..len].copy_from_slice(&frame[..len]);
        assert!(self.wire.send(slot, len).is_ok(), "a taken frame fits");
        self.wire.flush();
        self.last = frame;
    }

    /// Takes note of what the stack says; whatever it says is well-formed.
    fn listen(&mut self) {
        let mut burst = Vec::with_capacity(256);
        let mut answers = Vec::new();
        self.wire.receive(&mut burst, 256);
        for frame in burst {
            // A changed frame may have come from another MAC address, and is answered there.
            let bytes = self.wire.bytes(&frame);
            let mac = MacAddress(bytes[..6].try_into().expect("a header"));
            match parse(bytes, &Expect { mac, mtu: 1500, vlan: None, verify_checksums: true }) {
                Ok(Parsed::Tcp(packet)) => {
                    let port = usize::from(packet.tuple.local_port.wrapping_sub(1000));
                    if let Some(heard) = self.heard.get_mut(port) {
                        *heard = packet.segment;
                    }
                }
                Ok(Parsed::Arp(asked)) if asked.operation == Operation::Request => {
                    let mut answer = vec![0; 60];
                    let len = emit_reply(&mut answer, &asked, PEER_MAC, None);
                    answer.truncate(len);
                    answers.push(answer);
                }
                Ok(Parsed::Arp(_) | Parsed::Echo(_)) => {}
                other => panic!("the stack sent {other:?}"),
            }
            self.wire.give_back(frame);
        }
        self.wire.flush();
        answers.into_iter().for_each(|answer| self.send(answer));
    }

    /// No frame is lost, nothing grows, and the index holds what is open or in TIME-WAIT.
    fn assert_whole(&self) {
        let core = &self.stack.core;
        assert!(self.stack.link().levels().conserved());
        assert!(core.half_open <= core.connections.len() && core.connections.len() <= 16);
        let open = core.connections.iter().filter(|(_, known)| known.tcb.state != State::Closed).count() as u32;
        // The record of a former incarnation is kept beside the index while a new one opens (B44).
        let kept = core.connections.iter().filter(|(_, known)| known.former().is_some()).count() as u32;
        assert_eq!(core.index.len() + kept, open + core.time_wait_len());
    }

    /// The peer has gone: time ends everything, and what owes nothing is the application's to end.
    fn end(&mut self) {
        // Who was aborted while it waited to be accepted is told first, and out of the way.
        self.call(1000, Call::Resume);
        self.stack.turn(self.now);
        for port in 0..4 {
            self.call(1000 + port, Call::Abort);
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

/// Plays `acts`, and leaves nothing behind; returns the states that were seen.
fn play(acts: &[Act], syn_cookies: SynCookies) -> BTreeSet<&'static str> {
    let mut world = Hostile::with_cookies(syn_cookies);
    for act in acts {
        world.act(act);
        world.assert_whole();
    }
    world.end();
    world.seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// No panic, no invalid frame, no growth; when the peer has gone, time ends everything. T31.
    #[test]
    fn whatever_a_peer_sends_the_stack_stays_whole(
        acts in proptest::collection::vec(act(), 1..120),
        always in any::<bool>(),
    ) {
        play(&acts, if always { SynCookies::Always } else { SynCookies::Auto });
    }
}

/// The same acts, drawn the same way, reach every state that a connection can be in.
#[test]
fn whatever_a_peer_sends_reaches_every_state() {
    let mut runner = TestRunner::deterministic();
    let acts = proptest::collection::vec(act(), 60..120);
    let mut seen = BTreeSet::new();
    for _ in 0..120 {
        let acts = acts.new_tree(&mut runner).expect("acts can be drawn").current();
        seen.extend(play(&acts, SynCookies::Auto));
    }
    // CLOSED is absence: what has ended is told and gone within its turn.
    let live = State::ALL.iter().filter(|state| **state != State::Closed).map(|state| state.name());
    let missed: Vec<_> = live.filter(|name| !seen.contains(name)).collect();
    assert!(missed.is_empty() && seen.contains("TIME-WAIT"), "never reached: {missed:?}, seen: {seen:?}");
}

#[test]
fn t20_probes_of_nmap_get_the_answers_of_the_rfc_and_leave_no_state() {
    let answer_to = |flags: u8, dst: u8| {
        let mut world = Hostile::new();
        // The peer is known, so that no ARP is in the way.
        let act = Act::Segment { port: dst, flags, seq: 0, ack: 0, len: 0, wnd: 1000, options: 0 };
        world.act(&act);
        (world.heard[usize::from(dst)].flags, world.stack.connections_live())
    };
    let none = Flags(0);
    assert_eq!(answer_to(0, 0), (none, 0), "null scan at a listener");
    assert_eq!(answer_to(Flags::FIN.0, 0), (none, 0), "FIN scan");
    assert_eq!(answer_to(0x29, 0), (none, 0), "Xmas scan");
    assert_eq!(answer_to(Flags::SYN.0 | Flags::RST.0, 0), (none, 0), "SYN and RST");
    assert_eq!(answer_to(Flags::ACK.0, 0), (Flags::RST, 0), "ACK scan");
}

#[test]
fn t17_segment_from_the_stack_itself_is_dropped() {
    let mut world = Hostile::new();
    let tuple =
        FourTuple::new("10.0.0.2".parse().expect("an address"), 80, "10.0.0.2".parse().expect("an address"), 80);
    let segment = SegmentOut {
        src_port: 80,
        dst_port: 80,
        seq: Seq(1),
        ack: Seq(0),
        wnd: 1000,
        up: 0,
        flags: Flags::SYN,
        options: &Options::default(),
        sack: &[],
    };
    let path =
        Path { src_mac: PEER_MAC, dst_mac: STACK_MAC, vlan: None, addresses: tuple.addresses, ttl: 64, dscp_ecn: 0 };
    let mut frame = vec![0; 200];
    let len = emit(&mut frame, &path, &segment, &[&[], &[]]);
    frame.truncate(len);
    world.send(frame);
    world.stack.turn(world.now);
    assert_eq!(world.stack.drops().of(crate::counters::DropReason::Address), 1);
    assert_eq!(world.stack.connections_live(), 0);
}

/// The fields of a segment that a test chooses: its control bits, and how far from what the stack expects it is.
fn segment(flags: u8, seq: i32, ack: i32, len: u16) -> Act {
    Act::Segment { port: 0, flags, seq, ack, len, wnd: 60_000, options: 0 }
}

#[test]
fn t22_nothing_that_arrives_ends_or_fills_time_wait() {
    let mut world = Hostile::new();
    for act in [segment(Flags::SYN.0, 0, 0, 0), segment(Flags::ACK.0, 1, 0, 0)] {
        world.act(&act);
    }
    world.call(1000, Call::ShutDown);
    world.act(&Act::Wait { ms: 0 });
    world.act(&segment(Flags::FIN.0 | Flags::ACK.0, 0, 0, 0));
    let (time_wait, told) = (world.stack.time_wait_live(), world.stack.application().closed);
    assert_eq!((time_wait, told), (1, 1), "closed first, and over for the application: {:?}", world.stack.counters());
    let entered = world.now;
    let answers = |world: &Hostile| world.stack.counters().answers_sent;
    let before = answers(&world);
    let mut sent = 0;
    for at in 0..200 {
        for flags in
            [Flags::RST.0, Flags::RST.0 | Flags::ACK.0, Flags::SYN.0 | Flags::ACK.0, Flags::FIN.0, Flags::ACK.0, 0]
        {
            world.act(&segment(flags, [0, -1, 1, 50_000][at % 4], [0, -5, 7][at % 3], [0, 0, 100][at % 3]));
            sent += 1;
        }
        // A SYN before what was received opens nothing, by number.
        world.act(&segment(Flags::SYN.0, -1 - at as i32, 0, 0));
        sent += 1;
        assert_eq!((world.stack.time_wait_live(), world.stack.connections_live()), (1, 0), "round {at}");
    }
    assert!(answers(&world) - before <= sent, "an answer at most for each");
    assert_eq!(
        (world.stack.application().accepted, world.stack.application().closed),
        (1, 1),
        "nobody is told anything"
    );
    assert!(world.stack.counters().time_wait_rst_ignored >= 400);
    // 2MSL after the last FIN that was the peer's own again, it ends.
    while world.stack.time_wait_live() == 1 && world.now < entered.plus_ms(130_000) {
        world.act(&Act::Wait { ms: 500 });
    }
    assert_eq!(world.stack.time_wait_live(), 0);
    assert!(world.now >= entered.plus_ms(60_000), "not before 2MSL");
}

#[test]
fn t13_a_flood_of_fragments_takes_no_memory_and_is_counted() {
    let mut world = Hostile::new();
    world.act(&segment(Flags::SYN.0, 0, 0, 0));
    world.act(&segment(Flags::ACK.0, 1, 0, 0));
    world.act(&segment(Flags::ACK.0, 0, 0, 100));
    let whole = world.last.clone();
    let free = (world.stack.receiving.free(), world.stack.core.gaps.is_empty());
    let mut sent = 0;
    // More fragments, first, middle and last, overlapping, of many datagrams.
    for number in 0..3000u16 {
        let mut fragment = whole.clone();
        let more = if number % 3 == 2 { 0 } else { 0x2000 };
        let field = more | (number % 7 * 3 + u16::from(number % 3 != 0));
        if field == 0 {
            continue;
        }
        fragment[18..20].copy_from_slice(&(number % 50).to_be_bytes());
        fragment[20..22].copy_from_slice(&field.to_be_bytes());
        fragment[24..26].fill(0);
        let checksum = header_checksum(&fragment[14..34]);
        fragment[24..26].copy_from_slice(&checksum.to_be_bytes());
        world.send(fragment);
        world.stack.turn(world.now);
        sent += 1;
    }
    assert_eq!(world.stack.drops().of(crate::counters::DropReason::Fragment), sent);
    assert_eq!((world.stack.receiving.free(), world.stack.core.gaps.is_empty()), free);
    world.assert_whole();
}

/// RFC 791's checksum of a header whose checksum field is 0.
fn header_checksum(header: &[u8]) -> u16 {
    let sum: u32 = header.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Four peers: one that sends an octet a second, one that never reads, one that sends nothing, one that half-closes and stays.
#[test]
fn t04_peers_that_trickle_and_never_close_take_bounded_memory() {
    let mut world = Hostile::new();
    for port in 0..4 {
        let act =
            |flags: u8, seq: i32, len: u16, wnd: u16| Act::Segment { port, flags, seq, ack: 0, len, wnd, options: 0 };
        world.act(&act(Flags::SYN.0, 0, 0, 1000));
        world.act(&act(Flags::ACK.0, 1, 0, 1000));
    }
    assert_eq!(world.stack.connections_live(), 4);
    let trickle =
        |port: u8, flags: u8, len: u16, wnd: u16| Act::Segment { port, flags, seq: 0, ack: 0, len, wnd, options: 0 };
    world.act(&trickle(3, Flags::FIN.0 | Flags::ACK.0, 0, 1000));
    for _ in 0..2000 {
        // The stack sends everything back: of what the second peer sends it must keep the echo.
        world.act(&trickle(0, Flags::ACK.0 | Flags::PSH.0, 1, 1000));
        world.act(&trickle(1, Flags::ACK.0 | Flags::PSH.0, 1400, 0));
        world.act(&Act::Wait { ms: 1000 });
        world.assert_whole();
    }
    let core = &world.stack.core;
    let queued: u32 =
        core.connections.iter().map(|(_, known)| known.tcb.send_queued_bytes() + known.tcb.unread_bytes).sum();
    assert!(
        core.connections.len() <= 4 && queued <= 64 * 2048,
        "{queued} bytes in {} connections",
        core.connections.len()
    );
    // The application ends them when it has had enough, and everything is back.
    world.end();
}
