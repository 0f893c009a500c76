//! What port scanners and other known tricks get: the RFC's answer, and nothing else.

use super::frames::{header_checksum, segment_frame};
use super::*;
use crate::wire::tcp::{Options, SegmentOut};

/// The fields of a segment that a test chooses: its control bits, and how far from what the stack expects it is.
fn segment(flags: u8, seq: i32, ack: i32, len: u16) -> Act {
    Act::Segment(Sent { flags, seq, ack, len, wnd: 60_000, ..Sent::default() })
}

/// Control bits of the scans of nmap and of others, by name.
const NULL: u8 = 0;
const FIN: u8 = Flags::FIN.0;
const SYN: u8 = Flags::SYN.0;
const RST: u8 = Flags::RST.0;
const ACK: u8 = Flags::ACK.0;
const RST_ACK: u8 = RST | ACK;
const XMAS: u8 = FIN | Flags::PSH.0 | Flags::URG.0;
const ALL: u8 = 0xff;

/// The control bits of a probe, its octets of text, and the flags and ACK number of its answer, relative to the probe's SEQ.
type Probe = (u8, u16, Option<(u8, u32)>);

/// Sends `probe` to `world` and demands its answer and no other.
#[track_caller]
fn probe(world: &mut Hostile, sent: Sent, answer: Option<(u8, u32)>) {
    let what = format!("{:?} with {} octets", Flags(sent.flags), sent.len);
    let seq = world.heard[place(sent.port, sent.v6)].ack.0.wrapping_add_signed(sent.seq);
    world.act(&Act::Segment(sent));
    world.assert_whole();
    let said = world.said.iter().map(|packet| (packet.segment.flags.0, packet.segment.ack.0));
    let expected = answer.map(|(flags, ack)| (flags, if flags & ACK != 0 { seq.wrapping_add(ack) } else { 0 }));
    assert_eq!(said.collect::<Vec<_>>(), Vec::from_iter(expected), "{what}");
}

/// RFC 9293 3.10.7.2: what has neither RST, ACK nor SYN is dropped, and of a SYN only the SYN is taken.
#[test]
fn t20_listener_answers_odd_control_bits_as_the_rfc_says() {
    let syn_ack = Some((SYN | ACK, 1));
    let probes: [Probe; 11] = [
        (NULL, 0, None),
        (NULL, 100, None),
        (FIN, 0, None),
        (XMAS, 0, None),
        (SYN | RST, 0, None),
        (RST, 0, None),
        (RST_ACK, 0, None),
        (ALL, 0, None),
        (ACK, 0, Some((RST, 0))),
        (FIN | ACK, 0, Some((RST, 0))),
        (SYN | ACK, 0, Some((RST, 0))),
    ];
    for (v6, (flags, len, answer)) in [false, true].into_iter().flat_map(|v6| probes.map(|probe| (v6, probe))) {
        let mut world = Hostile::new();
        probe(&mut world, Sent { v6, flags, len, ..Sent::default() }, answer);
        assert_eq!(world.stack.connections_live(), 0, "{:?} leaves state", Flags(flags));
        assert_eq!(world.stack.counters().segments_ignored, u64::from(answer.is_none()));
    }
    // A SYN is a SYN, whatever else it carries: text and FIN come again behind the handshake (B02).
    for (flags, len) in [(SYN, 0), (SYN, 100), (SYN | FIN, 0), (SYN | XMAS, 100), (ALL & !RST & !ACK, 100)] {
        let mut world = Hostile::new();
        probe(&mut world, Sent { flags, len, wnd: 60_000, ..Sent::default() }, syn_ack);
        let told = world.stack.application();
        assert_eq!((world.stack.core.half_open, told.accepted, told.received), (1, 0, 0));
        world.act(&segment(ACK, 0, 0, 0));
        assert_eq!((world.stack.application().accepted, world.stack.application().received), (1, 0));
    }
}

/// RFC 9293 3.10.7.1: a RST for everything but a RST, which acknowledges all that the segment occupies.
#[test]
fn t20_closed_port_answers_odd_control_bits_with_reset_but_none_a_reset() {
    let probes: [Probe; 13] = [
        (NULL, 0, Some((RST_ACK, 0))),
        (NULL, 100, Some((RST_ACK, 100))),
        (FIN, 0, Some((RST_ACK, 1))),
        (XMAS, 0, Some((RST_ACK, 1))),
        (SYN, 0, Some((RST_ACK, 1))),
        (SYN, 100, Some((RST_ACK, 101))),
        (SYN | FIN, 0, Some((RST_ACK, 2))),
        (SYN | ACK, 0, Some((RST, 0))),
        (ACK, 0, Some((RST, 0))),
        (FIN | ACK, 100, Some((RST, 0))),
        (SYN | RST, 0, None),
        (RST, 0, None),
        (ALL, 0, None),
    ];
    for (v6, (flags, len, answer)) in [false, true].into_iter().flat_map(|v6| probes.map(|probe| (v6, probe))) {
        let mut world = Hostile::new();
        probe(&mut world, Sent { v6, to_closed: true, flags, len, ..Sent::default() }, answer);
        assert_eq!(world.stack.connections_live(), 0);
        assert_eq!(world.stack.counters().segments_ignored, u64::from(answer.is_none()));
    }
}

/// RFC 9293 3.10.7.4 with RFC 5961: what has no ACK is dropped, a SYN and an inexact RST get a challenge ACK, an exact RST counts.
#[test]
fn t20_open_connection_answers_odd_control_bits_as_the_rfc_says() {
    let open = || {
        let mut world = Hostile::new();
        world.act(&segment(SYN, 0, 0, 0));
        world.act(&segment(ACK, 0, 0, 0));
        assert_eq!(world.stack.application().accepted, 1);
        world
    };
    let challenge = Some((ACK, 0));
    let probes: [Probe; 8] = [
        (NULL, 0, None),
        (NULL, 100, None),
        (FIN, 0, None),
        (XMAS, 100, None),
        (SYN, 0, challenge),
        (SYN, 100, challenge),
        (SYN | FIN, 0, challenge),
        (SYN | ACK, 0, challenge),
    ];
    for (flags, len, answer) in probes {
        let mut world = open();
        probe(&mut world, Sent { flags, len, wnd: 60_000, ..Sent::default() }, answer);
        let told = world.stack.application();
        assert_eq!((world.stack.connections_live(), told.received, told.closed), (1, 0, 0), "{:?}", Flags(flags));
        assert_eq!(world.stack.counters().segments_ignored, u64::from(answer.is_none()));
    }
    for flags in [SYN | RST, RST, RST_ACK, ALL] {
        let mut world = open();
        // One octet beyond RCV.NXT, which the ACK names.
        let inexact = Sent { flags, seq: 1, wnd: 60_000, ..Sent::default() };
        probe(&mut world, inexact.clone(), Some((ACK, u32::MAX)));
        assert_eq!(world.stack.connections_live(), 1, "{:?}", Flags(flags));
        probe(&mut world, Sent { seq: 0, ..inexact }, None);
        assert_eq!((world.stack.connections_live(), world.stack.application().closed), (0, 1), "{:?}", Flags(flags));
    }
}

/// A server that answers our SYN by a bare SYN, with or without an ACK before it, wants to be the client (split handshake). Our open
/// has the port of a listener; it stays an open of ours and is never told as accepted.
#[test]
fn t19_split_handshake_opens_what_was_opened_actively_and_accepts_nothing() {
    for (v6, ack_first) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = Hostile::new();
        // Nothing may depend on what the listener lets in.
        world.act(&Act::Call { port: 0, v6, call: Call::Pause });
        world.act(&Act::Call { port: 0, v6, call: Call::Connect });
        let syn = world.heard[place(0, v6)];
        assert_eq!(syn.flags, Flags::SYN);
        let sent = |flags: u8, seq: i32| Sent { v6, flags, seq, wnd: 60_000, ..Sent::default() };
        if ack_first {
            probe(&mut world, sent(ACK, 0), None);
            assert_eq!(world.stack.counters().segments_ignored, 1, "an ACK of our SYN alone opens nothing");
        }
        probe(&mut world, sent(SYN, 7000), Some((SYN | ACK, 1)));
        let told = world.stack.application();
        assert_eq!((world.stack.connections_live(), told.accepted, told.connected), (1, 0, 0));
        assert_eq!(world.heard[place(0, v6)].seq, syn.seq, "our own SYN again, no new one");
        probe(&mut world, sent(ACK, 0), None);
        let told = world.stack.application();
        assert_eq!((world.stack.connections_live(), told.accepted, told.connected), (1, 0, 1));
        assert_eq!((world.stack.counters().opens_passive, world.stack.counters().opens_active), (0, 1));
        world.end();
    }
}

/// In the middle of it a RST refuses the open (RFC 9293 3.10.7.4): it does not return to the listener on its port.
#[test]
fn t19_split_handshake_that_is_reset_is_refused_and_told_to_who_opened_it() {
    let mut world = Hostile::new();
    world.act(&Act::Call { port: 0, v6: false, call: Call::Connect });
    probe(&mut world, Sent { flags: SYN, wnd: 60_000, ..Sent::default() }, Some((SYN | ACK, 1)));
    // A second SYN, another one, gets a challenge ACK and changes nothing.
    probe(
        &mut world,
        Sent { flags: SYN, seq: 1000, wnd: 60_000, ..Sent::default() },
        Some((ACK, 0u32.wrapping_sub(1000))),
    );
    probe(&mut world, Sent { flags: RST, ..Sent::default() }, None);
    let told = world.stack.application();
    assert_eq!((world.stack.connections_live(), told.accepted, told.connected, told.closed), (0, 0, 0, 1));
    assert_eq!((world.stack.counters().closed_refused, world.stack.core.half_open), (1, 0));
}

#[test]
fn t17_segment_from_the_stack_itself_is_dropped() {
    let mut world = Hostile::new();
    let own = address(STACK, false);
    let tuple = FourTuple::new(own, 80, own, 80);
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
    world.deliver(segment_frame(tuple.addresses, &segment, 0));
    assert_eq!(world.stack.drops().of(DropReason::Address), 1);
    assert_eq!(world.stack.connections_live(), 0);
}

#[test]
fn t22_nothing_that_arrives_ends_or_fills_time_wait() {
    let mut world = Hostile::new();
    for act in [segment(Flags::SYN.0, 0, 0, 0), segment(Flags::ACK.0, 1, 0, 0)] {
        world.act(&act);
    }
    world.call(0, false, Call::ShutDown);
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
        world.deliver(fragment);
        sent += 1;
    }
    assert_eq!(world.stack.drops().of(DropReason::Fragment), sent);
    assert_eq!((world.stack.receiving.free(), world.stack.core.gaps.is_empty()), free);
    world.assert_whole();
}

/// Four peers: one that sends an octet a second, one that never reads, one that sends nothing, one that half-closes and stays.
#[test]
fn t04_peers_that_trickle_and_never_close_take_bounded_memory() {
    let mut world = Hostile::new();
    for port in 0..4 {
        let act = |flags: u8, seq: i32, len: u16, wnd: u16| {
            Act::Segment(Sent { port, flags, seq, len, wnd, ..Sent::default() })
        };
        world.act(&act(Flags::SYN.0, 0, 0, 1000));
        world.act(&act(Flags::ACK.0, 1, 0, 1000));
    }
    assert_eq!(world.stack.connections_live(), 4);
    let trickle =
        |port: u8, flags: u8, len: u16, wnd: u16| Act::Segment(Sent { port, flags, len, wnd, ..Sent::default() });
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
