//! SYN cookies and limits of answers against a hostile wire: B13, B14, T01, T02, T08, T25, T29.

use super::*;
use crate::four_tuple::FourTuple;
use crate::link::Frame;
use crate::seq::Seq;
use crate::tcp::cookie::SynCookies;
use crate::tcp::state::State;
use crate::wire::tcp::{Flags, Options, Segment, SegmentOut, Timestamps};
use crate::wire::{self, Expect, Parsed, Path};

const SYN_ACK: Flags = Flags(Flags::SYN.0 | Flags::ACK.0);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// Sends whatever it is told to over `link`; `tuple` is as the sender sees it. Returns the frame's length, bytes.
pub(super) fn forge(link: &mut MemoryLink, tuple: &FourTuple, seg: &Segment, text: &[u8]) -> usize {
    let mut frame: Frame = link.take().expect("a free frame");
    let path = Path {
        src_mac: link.mac(),
        dst_mac: MacAddress([2, 0, 0, 0, 0, 2]),
        vlan: None,
        addresses: tuple.addresses,
        ttl: 64,
        dscp_ecn: 0,
    };
    let (src_port, dst_port) = (tuple.local_port, tuple.remote_port);
    let Segment { seq, ack, wnd, up, flags, options, .. } = seg;
    let out =
        SegmentOut { src_port, dst_port, seq: *seq, ack: *ack, wnd: *wnd, up: *up, flags: *flags, options, sack: &[] };
    let len = wire::tcp::emit(link.bytes_mut(&mut frame), &path, &out, &[text, &[]]);
    link.send(frame, len).expect("room to send");
    len
}

/// A peer that knows no rules, and a server.
struct Raw {
    link: MemoryLink,
    server: Shard<MemoryLink, Server>,
    now: Now,
    tuple: FourTuple,
}

impl Raw {
    fn new(settings: Settings, limits: Limits, v6: bool) -> Raw {
        let World { server, now, .. } = World::with_settings(&Setup { v6, limits, ..Setup::default() }, settings);
        // The server on a link of its own, whose other end is nobody's.
        let macs = [MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2])];
        let (link, theirs) = pair(MemoryConfig::default(), macs);
        let (here, there) = if v6 { ("fd00::1", "fd00::2") } else { ("10.0.0.1", "10.0.0.2") };
        let config = ShardConfig {
            limits,
            addresses: vec![LocalAddress { address: ip(there), prefix_len: 24 }],
            settings,
            ..ShardConfig::seeded(2)
        };
        let mut server = Shard::new(theirs, server.into_application(), config, now).expect("a server shard");
        server.calls(now).listen(ip(there), 80).expect("a listener");
        Raw { link, server, now, tuple: FourTuple::new(ip(here), 40_000, ip(there), 80) }
    }

    /// Sends segments, lets the server turn once, and returns what it sent with the lengths of the frames.
    fn exchange(&mut self, segments: &[(Segment, &[u8])]) -> Vec<(Segment, usize)> {
        for (seg, text) in segments {
            forge(&mut self.link, &self.tuple, seg, text);
        }
        self.link.flush();
        self.server.turn(self.now);
        self.now = self.now.plus_ms(1);
        self.receive()
    }

    fn receive(&mut self) -> Vec<(Segment, usize)> {
        let mut frames = Vec::with_capacity(256);
        self.link.receive(&mut frames, 256);
        let expect = Expect { mac: self.link.mac(), mtu: 1500, vlan: None, verify_checksums: true };
        let mut segments = Vec::new();
        for frame in frames {
            let bytes = self.link.bytes(&frame);
            if let Ok(Parsed::Tcp(packet)) = wire::parse(bytes, &expect) {
                segments.push((packet.segment, bytes.len()));
            }
            self.link.give_back(frame);
        }
        segments
    }

    /// A cookie's SYN-ACK.
    fn cookie(&mut self, syn: &Segment) -> Segment {
        let answers = self.exchange(&[(*syn, &[])]);
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!((answers[0].0.flags, answers[0].0.ack), (SYN_ACK, syn.seq + 1));
        assert_eq!(self.server.connections_live(), 0, "a SYN leaves no state");
        answers[0].0
    }
}

fn always() -> Settings {
    Settings { syn_cookies: SynCookies::Always, ..Settings::default() }
}

fn limits() -> Limits {
    Setup::default().limits
}

fn syn() -> Segment {
    let timestamps = Some(Timestamps { val: 1000, ecr: 0 });
    let options = Options { mss: Some(1400), window_scale: Some(9), sack_permitted: true, timestamps };
    Segment { seq: Seq(77_000), wnd: 8000, flags: Flags::SYN, options, ..Segment::default() }
}

fn ack_of(syn_ack: &Segment) -> Segment {
    let timestamps = syn_ack.options.timestamps.map(|theirs| Timestamps { val: theirs.ecr + 1, ecr: theirs.val });
    Segment {
        seq: syn_ack.ack,
        ack: syn_ack.seq + 1,
        wnd: 8000,
        flags: Flags::ACK,
        options: Options { timestamps, ..Options::default() },
        ..Segment::default()
    }
}

#[test]
fn must_57_and_must_63_nothing_answers_the_broadcast_address_of_an_own_network() {
    for settings in [Settings::default(), always()] {
        let mut raw = Raw::new(settings, limits(), false);
        // The network's own address may be a host's.
        let answered = |raw: &Raw| raw.server.connections_live() as u64 + raw.server.counters().answers_sent;
        for (remote, answers) in [("10.0.0.255", false), ("10.0.0.0", true), ("10.0.0.254", true)] {
            let before = answered(&raw);
            for port in [80, 81] {
                raw.tuple = FourTuple::new(ip(remote), 40_000, ip("10.0.0.2"), port);
                forge(&mut raw.link, &raw.tuple, &syn(), &[]);
                raw.link.flush();
                raw.server.turn(raw.now);
            }
            assert_eq!(answered(&raw) > before, answers, "{remote}");
        }
        assert_eq!(raw.server.drops().of(crate::counters::DropReason::Address), 2);
    }
}

#[test]
fn b13_whole_connections_by_cookies_end_like_any_others() {
    for (v6, burst) in [(false, 64), (true, 64), (false, 1), (true, 7)] {
        for closer in [Closer::Client, Closer::Server] {
            for timestamps in [true, false] {
                let setup = Setup { closer, connections: 300, v6, burst, ..Setup::default() };
                let mut world = World::with_settings(&setup, Settings { timestamps, ..always() });
                world.run(200_000);
                world.assert_clean();
                let closed = &world.client.application().closed;
                assert!(closed.len() == 300 && closed.iter().all(|reason| *reason == CloseReason::Graceful));
                let counters = world.server.counters();
                assert_eq!((counters.syn_cookies_sent, counters.syn_cookies_accepted), (300, 300));
                assert_eq!((counters.syn_cookies_invalid, counters.syn_cookies_replayed), (0, 0));
                assert_eq!((counters.opens_passive, counters.established, counters.rst_sent), (300, 300, 0));
            }
        }
    }
}

#[test]
fn b13_bulk_by_cookie_uses_the_scaled_window_and_arrives_whole() {
    let limits = Limits { chunks_max: 4096, tcbs_max: 16, ..limits() };
    let setup = Setup { request_bytes: 1 << 20, limits, ..Setup::default() };
    let mut world = World::with_settings(&setup, always());
    world.run(200_000);
    world.assert_clean();
    assert_eq!(world.client.application().closed, [CloseReason::Graceful]);
}

#[test]
fn b13_data_with_or_instead_of_the_third_ack_is_delivered() {
    for v6 in [false, true] {
        let mut raw = Raw::new(always(), limits(), v6);
        let syn_ack = raw.cookie(&syn());
        let third = ack_of(&syn_ack);
        let text = Segment { flags: Flags(Flags::ACK.0 | Flags::PSH.0), ..third };
        let answers = raw.exchange(&[(third, &[]), (text, b"hello")]);
        assert_eq!(raw.server.application().accepted, 1);
        assert_eq!(raw.server.application().pending.values().next().map(Vec::as_slice), Some(&b"hello"[..]));
        assert!(answers.iter().all(|(seg, _)| seg.flags == Flags::ACK));

        let mut raw = Raw::new(always(), limits(), v6);
        let syn_ack = raw.cookie(&syn());
        raw.exchange(&[(Segment { flags: text.flags, ..ack_of(&syn_ack) }, b"first")]);
        assert_eq!(raw.server.application().pending.values().next().map(Vec::as_slice), Some(&b"first"[..]));
        assert_eq!(raw.server.states().tcbs[State::Established as usize], 1);
    }
}

#[test]
fn b13_foreign_guessed_late_or_replayed_ack_makes_nothing_and_gets_a_reset() {
    let mut raw = Raw::new(always(), limits(), false);
    let syn_ack = raw.cookie(&syn());
    let third = ack_of(&syn_ack);
    let refused = |raw: &mut Raw, seg: Segment| {
        let answers = raw.exchange(&[(seg, b"text")]);
        assert_eq!(answers.len(), 1);
        assert_eq!((answers[0].0.flags, answers[0].0.seq), (Flags::RST, seg.ack), "RFC 9293 3.10.7.2");
        assert_eq!(raw.server.connections_live(), 0);
    };
    refused(&mut raw, Segment { ack: third.ack + 1, ..third });
    refused(&mut raw, Segment { seq: third.seq + 1, ..third });
    refused(&mut raw, Segment { options: Options::default(), ..third });
    raw.tuple.local_port += 1;
    refused(&mut raw, third);
    raw.tuple.local_port -= 1;
    assert_eq!(raw.server.counters().syn_cookies_invalid, 4);

    raw.exchange(&[(third, &[])]);
    assert_eq!((raw.server.application().accepted, raw.server.counters().syn_cookies_accepted), (1, 1));
    raw.exchange(&[(Segment { flags: Flags::RST, ..third }, &[])]);
    assert_eq!(raw.server.connections_live(), 0);
    refused(&mut raw, third);
    assert_eq!((raw.server.counters().syn_cookies_replayed, raw.server.application().accepted), (1, 1));

    raw.now = raw.now.plus_ms(120_000);
    raw.tuple.local_port += 2;
    refused(&mut raw, third);
    assert_eq!(raw.server.counters().syn_cookies_invalid, 4, "no cookie is out any more: none is looked for");
}

#[test]
fn b13_a_full_memory_forgets_the_oldest_cookie_counts_it_and_hurts_no_client() {
    let mut raw = Raw::new(always(), Limits { cookies_remembered_max: 8, ..limits() }, false);
    let arrives = |raw: &mut Raw, port: u16, third: Segment, opens: bool| {
        raw.tuple.local_port = port;
        let accepted = raw.server.application().accepted;
        let answers = raw.exchange(&[(third, &[])]);
        assert_eq!(raw.server.application().accepted - accepted, usize::from(opens), "port {port}: {answers:?}");
        raw.exchange(&[(Segment { flags: Flags::RST, ..third }, &[])]);
        assert_eq!(raw.server.connections_live(), 0);
    };
    let mut thirds = Vec::new();
    for port in 40_000..40_009 {
        raw.tuple.local_port = port;
        let third = ack_of(&raw.cookie(&syn()));
        arrives(&mut raw, port, third, true);
        thirds.push((port, third));
    }
    assert_eq!((raw.server.counters().syn_cookies_accepted, raw.server.counters().syn_cookies_forgotten), (9, 1));
    for (port, third) in &thirds[1..] {
        arrives(&mut raw, *port, *third, false);
    }
    let (port, third) = thirds[0];
    arrives(&mut raw, port, third, true);
    assert_eq!((raw.server.counters().syn_cookies_replayed, raw.server.counters().syn_cookies_forgotten), (8, 2));
}

#[test]
fn b13_cookie_too_old_by_two_minutes_is_refused_while_others_are_out() {
    let mut raw = Raw::new(always(), limits(), false);
    let third = ack_of(&raw.cookie(&syn()));
    raw.now = raw.now.plus_ms(120_000);
    raw.cookie(&Segment { seq: Seq(5), ..syn() });
    let answers = raw.exchange(&[(third, &[])]);
    assert_eq!((answers[0].0.flags, raw.server.counters().syn_cookies_invalid), (Flags::RST, 1));
}

#[test]
fn b13_without_room_for_a_tcb_the_ack_is_dropped_and_the_peer_tries_again() {
    let mut raw = Raw::new(always(), Limits { tcbs_max: 1, ..limits() }, false);
    let one = ack_of(&raw.cookie(&syn()));
    raw.tuple.local_port += 1;
    let other = ack_of(&raw.cookie(&syn()));
    raw.exchange(&[(other, &[])]);
    raw.tuple.local_port -= 1;
    assert_eq!(raw.exchange(&[(one, &[])]), []);
    assert_eq!(raw.server.counters().syn_dropped_full, 1);
    raw.tuple.local_port += 1;
    raw.exchange(&[(Segment { flags: Flags::RST, ..other }, &[])]);
    raw.tuple.local_port -= 1;
    raw.exchange(&[(one, &[])]);
    assert_eq!(raw.server.application().accepted, 2);
}

#[test]
fn b44_syn_that_hits_time_wait_uses_its_record_and_not_a_cookie() {
    let setup = Setup { closer: Closer::Server, ports: (40_000, 40_000), ..Setup::default() };
    let mut world = World::with_settings(&setup, always());
    world.run(1000);
    assert_eq!((world.server.time_wait_live(), world.server.counters().syn_cookies_sent), (1, 1));
    world.now = world.now.plus_ms(50);
    let remote = world.client.application().remote;
    world.client.calls(world.now).connect(remote, &ConnectOptions::default()).expect("the client's port is free");
    world.run(1000);
    let counters = world.server.counters();
    assert_eq!((counters.time_wait_reused, counters.syn_cookies_sent, counters.established), (1, 1, 2));
}

#[test]
fn t29_answer_to_a_syn_is_never_longer_than_the_syn() {
    let kept = Settings { syn_cookies: SynCookies::Off, ..always() };
    for (v6, settings) in [(false, always()), (true, always()), (false, kept), (true, kept)] {
        let mut raw = Raw::new(settings, limits(), v6);
        let full = syn().options;
        for bits in 0..16u8 {
            let has = |bit: u8| bits & 1 << bit != 0;
            let options = Options {
                mss: full.mss.filter(|_| has(0)),
                window_scale: full.window_scale.filter(|_| has(1)),
                sack_permitted: has(2),
                timestamps: full.timestamps.filter(|_| has(3)),
            };
            // Each for itself: none is the other one again.
            raw.tuple.local_port += 1;
            let sent = forge(&mut raw.link, &raw.tuple.clone(), &Segment { options, ..syn() }, &[]);
            let answers = raw.exchange(&[]);
            assert_eq!(answers.len(), 1);
            assert_eq!((answers[0].0.flags, answers[0].0.options.mss.is_some()), (SYN_ACK, has(0)));
            assert!(answers[0].1 <= sent.max(60), "{} bytes for {sent}: {options:?}", answers[0].1);
        }
    }
}

/// A 4-tuple that nobody has, somewhere behind the gateway.
fn nobody(number: u32) -> FourTuple {
    let source = u32::from_be_bytes([198, 18, 0, 0]) + number % 0x1_ffff;
    let port = 1024 + (number % 60_000) as u16;
    FourTuple::new(IpAddr::V4(source.into()), port, ip("10.0.0.2"), 80)
}

/// Shows RFC 4987.
#[test]
fn t01_during_a_syn_flood_half_open_is_bounded_and_every_client_connects() {
    let limits = Limits { half_open_max: 64, tcbs_max: 256, ..limits() };
    let setup = Setup { connections: 500, in_flight_max: 8, limits, ..Setup::default() };
    let mut world = World::new(&setup);
    let mut forged = 0u32;
    while forged < 100_000 {
        for _ in 0..40 {
            let seg = Segment { seq: Seq(forged.wrapping_mul(2_654_435_761)), ..syn() };
            forge(world.client.link_mut(), &nobody(forged), &seg, &[]);
            forged += 1;
        }
        world.turn(500);
        assert!(world.server.core.half_open <= 64, "{} half-open", world.server.core.half_open);
        assert!(world.server.connections_live() <= 64 + 64);
    }
    let closed = &world.client.application().closed;
    assert_eq!(closed.len(), 500, "{:?}", world.server.counters());
    assert!(closed.iter().all(|reason| *reason == CloseReason::Graceful));
    let (client, server) = (world.client.counters(), world.server.counters());
    assert_eq!((client.retransmitted_syn, server.syn_dropped_full), (0, 0));
    assert!(server.syn_cookies_sent >= 99_000, "{}", server.syn_cookies_sent);
    assert!(server.syn_cookies_accepted >= 450, "{}", server.syn_cookies_accepted);
    assert!(world.server.link().levels().conserved());
}

#[test]
fn t01_without_cookies_the_same_flood_shuts_clients_out() {
    let limits = Limits { half_open_max: 64, tcbs_max: 256, ..limits() };
    let setup = Setup { connections: 50, in_flight_max: 8, limits, ..Setup::default() };
    let mut world = World::with_settings(&setup, Settings { syn_cookies: SynCookies::Off, ..Settings::default() });
    for round in 0..500 {
        for at in 0..40 {
            forge(world.client.link_mut(), &nobody(round * 40 + at), &syn(), &[]);
        }
        world.turn(500);
    }
    assert!(world.client.application().closed.len() < 50);
    assert!(world.server.counters().syn_dropped_full > 10_000);
}

#[test]
fn b14_half_open_connections_are_listed_and_counted_by_source_and_state() {
    let mut raw = Raw::new(Settings { syn_cookies: SynCookies::Off, ..Settings::default() }, limits(), false);
    for (source, port) in [("10.0.0.1", 1), ("10.0.0.7", 2), ("10.0.0.1", 3), ("10.0.0.1", 4)] {
        raw.tuple = FourTuple::new(ip(source), port, ip("10.0.0.2"), 80);
        let answers = raw.exchange(&[(syn(), &[])]);
        if port == 4 {
            raw.exchange(&[(ack_of(&answers[0].0), &[])]);
        }
    }
    raw.now = raw.now.plus_ms(1020);
    raw.exchange(&[]);
    assert_eq!(raw.server.half_open_by_source(raw.now), [(ip("10.0.0.1"), 2), (ip("10.0.0.7"), 1)]);
    assert_eq!(raw.server.states().tcbs[State::SynReceived as usize], 3);
    for half_open in raw.server.half_open(raw.now) {
        assert_eq!((half_open.tuple.local_port, half_open.retries), (80, 1));
        assert!(half_open.next_in_ms.is_some_and(|wait| (1900..=2000).contains(&wait)), "{half_open:?}");
    }
}

#[test]
fn t02_flood_for_no_connection_leaves_no_state_and_few_answers() {
    let settings = Settings { answers_per_second: 1000, answers_burst: 100, ..Settings::default() };
    let mut world = World::with_settings(&Setup { connections: 0, ..Setup::default() }, settings);
    let began = world.now;
    let kinds = [Flags::ACK, Flags::RST, Flags(Flags::FIN.0 | Flags::ACK.0), Flags::FIN, SYN_ACK, Flags::SYN, Flags(0)];
    for round in 0..1000u32 {
        for at in 0..40 {
            let number = round * 40 + at;
            let mut tuple = nobody(number);
            // SYNs go where nobody listens; anything else also where somebody does.
            let flags = kinds[number as usize % kinds.len()];
            tuple.remote_port = if flags == Flags::SYN || number % 2 == 0 { 81 } else { 80 };
            let seg = Segment { seq: Seq(number), ack: Seq(number), flags, ..Segment::default() };
            forge(world.client.link_mut(), &tuple, &seg, b"some text");
        }
        world.turn(1000);
    }
    let elapsed_ms = (world.now.us() - began.us()) / 1000;
    let counters = world.server.counters();
    assert_eq!((world.server.connections_live(), world.server.core.index.len()), (0, 0));
    let most = 100 + elapsed_ms;
    assert!((most / 2..=most * 11 / 10).contains(&counters.rst_sent), "{} RSTs in {elapsed_ms} ms", counters.rst_sent);
    assert!(counters.rst_suppressed > 20_000);
    assert!(world.server.link().levels().conserved() && world.server.link().levels().in_hand == 0);
}

#[test]
fn t02_resets_are_not_longer_than_what_they_answer() {
    let mut raw = Raw::new(Settings::default(), limits(), false);
    let sent = forge(&mut raw.link, &raw.tuple.clone(), &Segment { flags: Flags::ACK, ..Segment::default() }, &[]);
    let answers = raw.exchange(&[]);
    assert!(answers.len() == 1 && answers[0].1 <= sent.max(60));
}

#[test]
fn t08_one_connections_limit_says_nothing_about_another() {
    let mut raw = Raw::new(Settings { timestamps: false, ..Settings::default() }, limits(), false);
    let mut ends = Vec::new();
    for port in [40_001, 40_002] {
        raw.tuple.local_port = port;
        let answers = raw.exchange(&[(syn(), &[])]);
        let third = ack_of(&answers[0].0);
        raw.exchange(&[(third, &[])]);
        ends.push((port, third));
    }
    assert_eq!(raw.server.application().accepted, 2);
    // The second connection's answers while the first is probed, and while it is not.
    let probe = |raw: &mut Raw, others: u32| {
        let mut answers = 0;
        for turn in 0..400 {
            for (index, (port, third)) in ends.iter().enumerate() {
                raw.tuple.local_port = *port;
                if index == 1 {
                    answers +=
                        raw.exchange(&[(Segment { seq: third.seq + 9, flags: Flags::RST, ..*third }, &[])]).len();
                } else if turn < others {
                    raw.exchange(&[(Segment { seq: third.seq + 9, flags: Flags::SYN, ..*third }, &[])]);
                }
            }
        }
        raw.now = raw.now.plus_ms(5000);
        answers
    };
    let bounds = usize::from(crate::limits::CHALLENGES_MAX / 2)..=2 * usize::from(crate::limits::CHALLENGES_MAX);
    for others in [0, 400] {
        let answers = probe(&mut raw, others);
        assert!(bounds.contains(&answers), "{answers} with {others} probes of the other");
    }
    let counters = raw.server.counters();
    assert!(counters.challenge_acks > 0 && counters.challenge_acks_suppressed > 700);
    assert_eq!(raw.server.states().tcbs[State::Established as usize], 2, "both live on");
}

#[test]
fn t25_unacceptable_acks_do_not_keep_two_shards_talking() {
    let mut world = World::with_settings(&Setup { connections: 1, ..Setup::default() }, Settings::default());
    while world.client.application().live.is_empty() {
        world.turn(50);
    }
    // Both ends quiet, then both out of step.
    let number = world.client.application().live.keys().next().expect("one").number();
    for core in [&mut world.client.core, &mut world.server.core] {
        let tcb = &mut core.connections[number].tcb;
        tcb.rcv_nxt += 1 << 22;
        tcb.rcv_edge += 1 << 22;
        tcb.owed.add(crate::tcp::tcb::Owed::ACK_NOW);
        core.owe(number);
    }
    let before = world.server.counters().segments_sent + world.client.counters().segments_sent;
    for _ in 0..1000 {
        world.turn(50);
    }
    let sent = world.server.counters().segments_sent + world.client.counters().segments_sent - before;
    assert!(sent < 400, "{sent} segments in 1000 turns of 50 us");
}

/// Each on-link source of a SYN pins a neighbour: the other half of the cache is left to those who return a cookie.
#[test]
fn t01_more_on_link_sources_than_neighbours_are_still_answered() {
    let mut raw = Raw::new(Settings::default(), limits(), false);
    for last in 10..60u8 {
        raw.tuple = FourTuple::new(ip(&alloc::format!("10.0.0.{last}")), 40_000, ip("10.0.0.2"), 80);
        let answers = raw.exchange(&[(syn(), &[])]);
        assert_eq!(answers.len(), 1, "source {last}: half-open {}", raw.server.connections_live());
    }
    assert!(raw.server.counters().syn_cookies_sent > 0);
}
