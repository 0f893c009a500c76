//! Stage 4: the segment meets its record.

use super::announce::claimed_by;
use super::burst::{Arrival, Burst, Control, IpMarks, Message, Reply, Text};
use super::connection::Connection;
use super::cookie::Returned;
use super::core::Core;
use super::find::Found;
use super::gaps;
use super::history;
use super::icmp;
use crate::counters::DropReason;
use crate::flow::chunks::Chunks;
use crate::ids::{Kind, Value};
use crate::link::Link;
use crate::neighbor::Heard;
use crate::tcp::connection_options::OptionsId;
use crate::tcp::listen::Listened;
use crate::tcp::recovery::Sack;
use crate::tcp::state::State;
use crate::tcp::time_wait::Numbers;
use crate::tcp::{Answer, Context, Note, Outcome, closed, listen, syn_sent, synchronized, time_wait};
use crate::tick::Now;
use crate::wire::arp::Operation;
use crate::wire::tcp::Flags;
use crate::wire::{Parsed, ndp};

/// One segment, by the case that find has made of it.
#[inline(always)]
pub(super) fn arrive<L: Link>(
    link: &L,
    core: &mut Core,
    receiving: &mut Chunks,
    burst: &mut Burst,
    arrival: &Arrival,
    found: Found,
    now: Now,
) {
    let defaults = OptionsId::default();
    let (answer, options) = match found {
        Found::Tcb(number) => return connection(link, core, receiving, burst, arrival, number, now),
        Found::TimeWait(value) => (time_wait_record(core, arrival, value, now), defaults),
        Found::Listener(_) | Found::Nobody if is_passed_over(core, burst, arrival, now) => return,
        Found::Listener(listener) => {
            let options = core.listener_options[listener as usize];
            (listening(link, core, receiving, burst, arrival, listener, now), options)
        }
        Found::Nobody => (nobody(core, arrival), defaults),
    };
    if let Some(answer) = answer {
        reply(core, burst, arrival, found, &answer, options, now);
    }
}

/// Notes what is answered without a TCB, as far as the shard's limit lets it.
#[inline(never)]
fn reply(
    core: &mut Core,
    burst: &mut Burst,
    arrival: &Arrival,
    found: Found,
    answer: &Answer,
    options: OptionsId,
    now: Now,
) {
    if is_limited(found, answer) && !core.may_answer(found, now) {
        return;
    }
    core.counters.rst_sent += u64::from(answer.flags.has(Flags::RST));
    let marks = IpMarks::of(core.options.get(options));
    burst.answers.push(Reply::Segment { frame: arrival.frame, tuple: arrival.tuple, answer: *answer, marks });
}

/// Whether a segment for no connection is dropped in silence: from the broadcast address of an own network (MUST-57,
/// MUST-63), or a SYN in the quiet time (RFC 9293 3.4.3).
fn is_passed_over(core: &mut Core, burst: &mut Burst, arrival: &Arrival, now: Now) -> bool {
    if core.routes.is_broadcast(arrival.tuple.remote()) {
        burst.drops.count(DropReason::Address);
        return true;
    }
    let quiet = arrival.segment.flags.syn() && core.quiet_for_ms(now) > 0;
    core.counters.syn_dropped_quiet += u64::from(quiet);
    quiet
}

/// Whether the shard's limit applies (T02): to what no connection has agreed to. A connection's own last ACK or RST, with
/// its numbers, is no stranger's doing.
fn is_limited(found: Found, answer: &Answer) -> bool {
    match found {
        Found::Tcb(_) => answer.flags == Flags::RST,
        Found::TimeWait(_) | Found::Listener(_) | Found::Nobody => true,
    }
}

/// RFC 9293 3.10.7.3 and .4. What few segments need is not inlined.
#[inline(always)]
fn connection<L: Link>(
    link: &L,
    core: &mut Core,
    receiving: &mut Chunks,
    burst: &mut Burst,
    arrival: &Arrival,
    number: u32,
    now: Now,
) {
    let (flags, connection) = (arrival.segment.flags, &core.connections[number]);
    let completes = flags.ack() && !flags.rst() && connection.tcb.is_half_open_passively();
    if completes && core.refuses_to_accept(core.names[number].origin) {
        return;
    }
    // Few segments have any: for the others nothing is read or copied.
    let read;
    let blocks = if arrival.segment.sack.count == 0 {
        &[][..]
    } else {
        read = arrival.segment.sack_blocks(burst.bytes(link, arrival.frame));
        read.as_slice()
    };
    let attached = gaps::for_arrival(core, number, blocks);
    let connection = &mut core.connections[number];
    let receive_room = has_room(receiving, connection);
    let options = connection.tcb.options;
    let cx = Context { now, settings: &core.settings, options: core.options.get(options), receive_room };
    let tcb = &mut connection.tcb;
    let rcv_nxt = tcb.rcv_nxt;
    let sack = (attached.is_some() || !blocks.is_empty())
        .then(|| Sack { board: attached.map(|attached| &mut core.gaps[attached].sent), blocks });
    let mut outcome = Outcome::default();
    match tcb.state {
        State::SynSent => syn_sent::arrives(tcb, &arrival.segment, &cx, &mut outcome),
        State::SynReceived
        | State::Established
        | State::FinWait1
        | State::FinWait2
        | State::CloseWait
        | State::Closing
        | State::LastAck => synchronized::arrives(tcb, &arrival.segment, sack, &cx, &mut outcome),
        // A remnant is outside the index: no segment finds it.
        State::Closed => {
            if let Some(answer) = nobody(core, arrival) {
                reply(core, burst, arrival, Found::Tcb(number), &answer, options, now);
            }
            return;
        }
    }
    if outcome.established && !core.is_still_wanted(number) {
        return core.turn_away(number, now);
    }
    if let Some((skip, len)) = outcome.text {
        let reserved = receiving.reserve(1);
        debug_assert!(reserved, "text was taken without room for it");
        let offset = arrival.segment.payload_offset + skip;
        let pieces = gaps::deliver(core, number, &mut outcome, now);
        burst.texts.push(Text { number, frame: arrival.frame, offset, len, pieces });
    } else if outcome.note == Some(Note::OutOfOrder) {
        let payload = arrival.segment.payload(burst.bytes(link, arrival.frame));
        gaps::keep(core, receiving, number, &arrival.segment, payload, now);
    }
    if core.histories.has(number) {
        history::heard(core, number, &arrival.segment, rcv_nxt, &outcome, now);
    }
    if attached.is_some() || gaps::may_be_new(&outcome) {
        gaps::arrived(core, receiving, number, &arrival.segment, &outcome, now);
    }
    if outcome.established || outcome.acked_bytes > 0 {
        core.heard_from(number, arrival.interface, arrival.src_mac, now);
    }
    core.settle(number, &outcome, now);
    if let Some(answer) = outcome.answer {
        reply(core, burst, arrival, Found::Tcb(number), &answer, options, now);
    }
}

/// Whether there is a chunk for text of the connection (T04): while few are free, not for one that leaves much of it unread. It does not
/// matter whether that is the application's doing, or that of the peer at the other end of a splice.
#[inline]
fn has_room(receiving: &Chunks, connection: &Connection) -> bool {
    receiving.free() > 0 && (!receiving.is_short() || connection.unread.len() < receiving.share_bytes())
}

/// RFC 9293 3.10.7.4, TIME-WAIT.
#[cold]
#[inline(never)]
fn time_wait_record(core: &mut Core, arrival: &Arrival, value: Value, now: Now) -> Option<Answer> {
    let cx = Context::without_connection(now, &core.settings);
    let number = value.number();
    let mut numbers = *core.time_wait_numbers(value)?;
    let arrived = time_wait::arrives(&mut numbers, &arrival.tuple, &arrival.segment, &cx);
    if arrived.reopens {
        return reopen(core, arrival, value, &numbers, now);
    }
    if arrived.restart {
        let deadline = time_wait::deadline(&cx);
        let moved = match value.kind() {
            Kind::TimeWaitV4 => {
                core.time_wait_v4[number].numbers = numbers;
                core.time_wait_v4.restart(number, deadline)
            }
            Kind::TimeWaitV6 | Kind::Tcb => {
                core.time_wait_v6[number].numbers = numbers;
                core.time_wait_v6.restart(number, deadline)
            }
        };
        // Without room for a copy it stays where it is, with the new deadline.
        if let Some(moved) = moved {
            core.index.replace(arrival.hash, value, Value::new(value.kind(), moved));
        }
    }
    if arrived.ends {
        core.counters.time_wait_ended_by_rst += 1;
        core.index.remove(arrival.hash, value);
        core.release_time_wait(value);
    }
    match arrived.note {
        Some(Note::RstIgnored) => core.counters.time_wait_rst_ignored += 1,
        Some(note) => core.count(note),
        None => {}
    }
    core.counters.time_wait_acks += u64::from(arrived.answer.is_some());
    arrived.answer
}

/// B44: a SYN that the policy lets pass opens a new incarnation where somebody listens; the record stays until then.
fn reopen(core: &mut Core, arrival: &Arrival, value: Value, numbers: &Numbers, now: Now) -> Option<Answer> {
    match core.listeners.find(arrival.tuple.local(), arrival.tuple.local_port) {
        Some(listener) => {
            core.open_passively(listener, arrival, Some((value, *numbers)), now);
            None
        }
        None => nobody(core, arrival),
    }
}

/// RFC 9293 3.10.7.1.
#[inline(never)]
fn nobody(core: &mut Core, arrival: &Arrival) -> Option<Answer> {
    let answer = closed::arrives(&arrival.segment);
    core.counters.segments_ignored += u64::from(answer.is_none());
    answer
}

/// RFC 9293 3.10.7.2.
#[inline(never)]
fn listening<L: Link>(
    link: &L,
    core: &mut Core,
    receiving: &mut Chunks,
    burst: &mut Burst,
    arrival: &Arrival,
    listener: u32,
    now: Now,
) -> Option<Answer> {
    match listen::arrives(&arrival.segment) {
        Listened::Ignored => {
            core.count(Note::Ignored);
            None
        }
        Listened::Refused(answer) => match core.open_by_cookie(listener, arrival, now) {
            // With its text and FIN, as if its SYN had been kept.
            Returned::Opens(number) => {
                arrive_again(link, core, receiving, burst, arrival, number, now);
                None
            }
            Returned::NoRoom => None,
            Returned::Nothing => Some(answer),
        },
        Listened::Opens if core.answers_by_cookie() => {
            core.answer_by_cookie(burst, listener, arrival, now);
            None
        }
        Listened::Opens => {
            core.open_passively(listener, arrival, None, now);
            None
        }
    }
}

/// The segment that has made its connection meets it.
#[cold]
#[inline(never)]
fn arrive_again<L: Link>(
    link: &L,
    core: &mut Core,
    receiving: &mut Chunks,
    burst: &mut Burst,
    arrival: &Arrival,
    number: u32,
    now: Now,
) {
    arrive(link, core, receiving, burst, arrival, Found::Tcb(number), now);
}

/// A packet that is not TCP: neighbours, echo and errors.
pub(super) fn control(core: &mut Core, burst: &mut Burst, control: &Control, now: Now) {
    let Control { frame, interface, .. } = *control;
    match control.message {
        Message::Arp(packet) => {
            core.counters.neighbor_packets += 1;
            let is_probe = packet.sender_ip.is_unspecified();
            if !is_probe && core.is_conflict(claimed_by(&Parsed::Arp(packet)), interface, now) {
                return;
            }
            let asks = packet.operation == Operation::Request;
            let heard = if asks { Heard::Request } else { Heard::Answer };
            core.learn(interface, packet.sender_ip.into(), packet.sender_mac, heard, now);
            if asks && core.routes.is_own(packet.target_ip.into()) {
                burst.answers.push(Reply::Arp { frame, request: packet });
            }
        }
        Message::Ndp(packet) => {
            core.counters.neighbor_packets += 1;
            match packet {
                ndp::Packet::Solicitation(solicitation) => {
                    if let Some(mac) = solicitation.source_link {
                        core.learn(interface, solicitation.src.into(), mac, Heard::Request, now);
                    }
                    burst.answers.push(Reply::Advertisement { frame, solicitation });
                }
                ndp::Packet::Advertisement(advertisement) => {
                    if core.is_conflict(claimed_by(&Parsed::Ndp(packet)), interface, now) {
                        return;
                    }
                    if let Some(mac) = advertisement.target_link {
                        core.learn(interface, advertisement.target.into(), mac, Heard::Answer, now);
                    }
                }
            }
        }
        Message::Echo(request) if core.routes.is_broadcast(request.src) => {
            burst.drops.count(DropReason::Address);
        }
        Message::Echo(request) => {
            core.counters.echo_answered += 1;
            burst.answers.push(Reply::Echo { frame, request });
        }
        Message::Error(error) => icmp::arrives(core, &error, now),
    }
}
