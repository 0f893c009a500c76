//! Stage 7: what is owed becomes frames, each built once, straight into its place.

use super::burst::{Burst, IpMarks, Reply};
use super::connection::Fact;
use super::core::{Core, QUESTIONS_MAX};
use super::gaps;
use super::history::Histories;
use super::tell::settle_consumed;
use crate::counters::Counters;
use crate::flow::chunks::Chunks;
use crate::four_tuple::FourTuple;
use crate::limits::TTL;
use crate::link::{Frame, Link};
use crate::tcp::cookie::SynAck;
use crate::tcp::output::{self, Plan};
use crate::tcp::{Answer, Context};
use crate::tick::Now;
use crate::wire::ethernet::MacAddress;
use crate::wire::tcp::{Flags, Options, SackBlocks, SegmentOut};
use crate::wire::{self, Expect, Path, arp, ethernet, icmp, ndp};
use ::core::net::IpAddr;

/// One stateless answer, in the frame that it answers. Without room to send it is dropped and counted.
#[inline(always)]
pub(super) fn answer<L: Link>(link: &mut L, core: &mut Core, burst: &mut Burst, reply: &Reply) {
    let place = match reply {
        Reply::Segment { frame, .. }
        | Reply::SynAck { frame, .. }
        | Reply::Arp { frame, .. }
        | Reply::Advertisement { frame, .. }
        | Reply::Echo { frame, .. } => usize::from(*frame),
    };
    let Some(mut frame) = burst.frames[place].take() else { return };
    // It goes back the way that it came.
    let own = &core.interfaces[usize::from(link.interface_of(&frame))];
    let bytes = link.bytes_mut(&mut frame);
    let len = match reply {
        Reply::Segment { tuple, answer, marks, .. } => emit_answer(own, bytes, tuple, answer, *marks),
        Reply::SynAck { tuple, syn_ack, marks, .. } => emit_syn_ack(own, bytes, tuple, syn_ack, *marks),
        Reply::Arp { request, .. } => arp::emit_reply(bytes, request, own.mac, own.vlan),
        Reply::Advertisement { solicitation, .. } => ndp::emit_advertisement(bytes, solicitation, own.mac, own.vlan),
        Reply::Echo { request, .. } => icmp::emit_reply(bytes, request, own, TTL),
    };
    match link.send(frame, len) {
        Ok(()) => core.counters.answers_sent += 1,
        Err(frame) => {
            core.counters.answers_dropped += 1;
            link.give_back(frame);
        }
    }
}

/// Requests for neighbours.
pub(super) fn ask<L: Link>(link: &mut L, core: &mut Core, ip: IpAddr) {
    let interface = core.routes.interface_of(ip);
    if core.neighbors_elsewhere {
        if core.questions.len() < QUESTIONS_MAX {
            core.questions.push((interface, ip));
        }
        return;
    }
    let Some(source) = core.routes.source(ip) else { return };
    let Some(mut frame) = link.take_on(interface) else {
        core.counters.respond_without_frame += 1;
        return;
    };
    let own = &core.interfaces[usize::from(interface)];
    let bytes = link.bytes_mut(&mut frame);
    let len = match (source, ip) {
        (IpAddr::V4(source), IpAddr::V4(ip)) => arp::emit_request(bytes, own.mac, own.vlan, source, ip),
        (IpAddr::V6(source), IpAddr::V6(ip)) => ndp::emit_solicitation(bytes, own.mac, own.vlan, source, ip),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return link.give_back(frame),
    };
    core.counters.neighbor_questions += 1;
    transmit(link, &mut core.counters, frame, len);
}

/// Everything that the first connection on the list of interface number `interface` owes. Returns whether to go on: not without a
/// TX frame.
#[inline(always)]
pub(super) fn first_owing<L: Link>(
    link: &mut L,
    core: &mut Core,
    receiving: &mut Chunks,
    interface: u8,
    now: Now,
) -> bool {
    let place = usize::from(interface);
    let Some(number) = core.owing[place].front() else { return false };
    settle_consumed(core, receiving, number);
    let connection = &core.connections[number];
    if !connection.tcb.owes() {
        // Only something consumed brought it here; no neighbour is needed for that.
        core.owing[place].pop_front(&mut core.connections);
        core.arm(number);
        return true;
    }
    let Some(dst_mac) = core.neighbors.mac(core.names[number].neighbor) else {
        core.wait_for_neighbor(number, now);
        return true;
    };
    if !send_owed(link, core, number, interface, dst_mac, now) {
        // What has left is timed, whenever the rest may.
        gaps::look_after(core, receiving, number, now);
        core.arm(number);
        return false;
    }
    core.owing[place].pop_front(&mut core.connections);
    gaps::look_after(core, receiving, number, now);
    if core.connections[number].facts.has(Fact::TOLD_CLOSED) {
        core.let_go(number);
    } else {
        core.arm(number);
    }
    true
}

/// Everything that a connection owes, segment by segment. Returns `false` if TX frames have run out.
#[inline(always)]
fn send_owed<L: Link>(
    link: &mut L,
    core: &mut Core,
    number: u32,
    interface: u8,
    dst_mac: MacAddress,
    now: Now,
) -> bool {
    // Looked up once: a segment changes its connection, what was sent and what is counted, but no table.
    let Core { connections, names, gaps, sending, settings, options, counters, histories, interfaces, .. } = core;
    let own = &interfaces[usize::from(interface)];
    let (connection, tuple) = (&mut connections[number], &names[number].tuple);
    let options = options.get(connection.tcb.options);
    let cx = Context { now, settings, options, receive_room: false };
    let mut gaps = connection.gaps().map(|attached| &mut gaps[attached]);
    while connection.tcb.owes() {
        let Some(mut frame) = link.take_on(interface) else {
            counters.respond_without_frame += 1;
            return false;
        };
        let board = gaps.as_mut().map(|gaps| &mut gaps.sent);
        // Looked at where it lies: it is large.
        let next = output::next(&mut connection.tcb, board, &cx);
        let Some(plan) = &next else {
            link.give_back(frame);
            continue;
        };
        count(counters, histories, number, plan);
        let sack = gaps.as_mut().and_then(|gaps| gaps.take_blocks(&connection.tcb, plan));
        let text = match plan.text_len {
            0 => NO_TEXT,
            len => sending.slices(&connection.to_send, plan.text_offset, len.into()),
        };
        let segment = SegmentOut {
            src_port: tuple.local_port,
            dst_port: tuple.remote_port,
            seq: plan.seq,
            ack: plan.ack,
            wnd: plan.wnd,
            up: plan.up,
            flags: plan.flags,
            options: &plan.options,
            sack: sack.as_ref().map_or(&[], SackBlocks::as_slice),
        };
        let path = path(own, tuple, dst_mac, IpMarks::of(options));
        let len = wire::tcp::emit(link.bytes_mut(&mut frame), &path, &segment, &text);
        transmit(link, counters, frame, len);
    }
    true
}

/// Frames from `take` always have room in the transmit queue.
#[inline]
pub(super) fn transmit<L: Link>(link: &mut L, counters: &mut Counters, frame: Frame, len: usize) {
    match link.send(frame, len) {
        Ok(()) => {}
        Err(frame) => {
            counters.respond_without_frame += 1;
            link.give_back(frame);
        }
    }
}

#[inline]
fn count(counters: &mut Counters, histories: &mut Histories, number: u32, plan: &Plan) {
    counters.segments_sent += 1;
    if plan.again || plan.flags.rst() {
        count_unusual(counters, histories, number, plan);
    }
}

#[cold]
#[inline(never)]
fn count_unusual(counters: &mut Counters, histories: &mut Histories, number: u32, plan: &Plan) {
    counters.rst_sent += u64::from(plan.flags.rst());
    if plan.again {
        histories.sent_again(number);
        if plan.flags.syn() {
            counters.retransmitted_syn += 1;
        } else if plan.text_len > 0 {
            counters.retransmitted_data += 1;
        } else if plan.flags.fin() {
            counters.retransmitted_fin += 1;
        }
    }
}

/// A segment without a TCB, to whoever sent the frame that it is built in.
#[inline(never)]
fn emit_answer(own: &Expect, bytes: &mut [u8], tuple: &FourTuple, answer: &Answer, marks: IpMarks) -> usize {
    let dst_mac = ethernet::source(bytes);
    let options = Options { timestamps: answer.timestamps, ..Options::default() };
    let segment = SegmentOut {
        src_port: tuple.local_port,
        dst_port: tuple.remote_port,
        seq: answer.seq,
        ack: answer.ack,
        wnd: answer.wnd,
        up: 0,
        flags: Flags(answer.flags.0),
        options: &options,
        sack: &[],
    };
    wire::tcp::emit(bytes, &path(own, tuple, dst_mac, marks), &segment, &NO_TEXT)
}

/// A SYN-ACK that leaves no state, to whoever sent the SYN in whose frame it is built.
#[inline(never)]
fn emit_syn_ack(own: &Expect, bytes: &mut [u8], tuple: &FourTuple, syn_ack: &SynAck, marks: IpMarks) -> usize {
    let dst_mac = ethernet::source(bytes);
    let options = Options {
        mss: syn_ack.mss,
        window_scale: syn_ack.window_scale,
        sack_permitted: syn_ack.sack_permitted,
        timestamps: syn_ack.timestamps,
    };
    let segment = SegmentOut {
        src_port: tuple.local_port,
        dst_port: tuple.remote_port,
        seq: syn_ack.iss,
        ack: syn_ack.ack,
        wnd: syn_ack.wnd,
        up: 0,
        flags: Flags::SYN | Flags::ACK,
        options: &options,
        sack: &[],
    };
    wire::tcp::emit(bytes, &path(own, tuple, dst_mac, marks), &segment, &NO_TEXT)
}

#[inline]
fn path(own: &Expect, tuple: &FourTuple, dst_mac: MacAddress, marks: IpMarks) -> Path {
    let (Expect { mac, vlan, .. }, IpMarks { ttl, dscp }) = (*own, marks);
    Path { src_mac: mac, dst_mac, vlan, addresses: tuple.addresses, ttl, dscp_ecn: dscp << 2 }
}

/// The text of a segment without any.
const NO_TEXT: [&[u8]; 2] = [&[], &[]];
