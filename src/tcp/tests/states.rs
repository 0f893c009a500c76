//! B38: `docs/states.md`, every state x every event, made by driving the functions of `tcp`, and compared with figure 5 of
//! RFC 9293. `SYNFIN_WRITE_DOCS=1 cargo test --lib states` writes the file anew.

use super::held::{At, Held, Numbered, Reaction, Sent, react, small};
use super::*;
use crate::tcp::connection_options::Keepalive;
use crate::tcp::{Note, status};
use crate::tick::Deadline;
use crate::wire::icmp::ErrorKind;
use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use core::time::Duration;
use std::path::Path;

/// The arrows of figure 5 (with its notes 1 to 3), read off the RFC by hand: from, event, what is sent, to.
const FIGURE_5: [(At, &str, &str, &str); 25] = [
    (At::Closed, "OPEN, passive", "-", "LISTEN"),
    (At::Closed, "OPEN, active", "SYN", "SYN-SENT"),
    (At::Listen, "CLOSE", "-", "CLOSED"),
    (At::Listen, "SYN", "SYN,ACK", "SYN-RECEIVED"),
    (At::SynSent, "CLOSE", "-", "CLOSED"),
    (At::SynSent, "SYN", "SYN,ACK", "SYN-RECEIVED"),
    (At::SynSent, "SYN,ACK of ours", "ACK", "ESTABLISHED"),
    (At::SynReceived, "ACK of all that is sent", "-", "ESTABLISHED"),
    (At::SynReceivedActively, "ACK of all that is sent", "-", "ESTABLISHED"),
    (At::SynReceived, "RST at RCV.NXT", "-", "LISTEN"),
    (At::SynReceivedActively, "CLOSE, then ACK of our SYN", "FIN,ACK", "FIN-WAIT-1"),
    (At::Established, "CLOSE", "FIN,ACK", "FIN-WAIT-1"),
    (At::Established, "FIN, ACK of all that is sent", "ACK", "CLOSE-WAIT"),
    (At::FinWait1, "ACK of all that is sent", "-", "FIN-WAIT-2"),
    (At::FinWait1, "FIN, ACK of nothing new", "ACK", "CLOSING"),
    (At::FinWait1, "FIN, ACK of all that is sent", "ACK", "TIME-WAIT"),
    (At::CloseWait, "CLOSE", "FIN,ACK", "LAST-ACK"),
    (At::FinWait2, "FIN, ACK of all that is sent", "ACK", "TIME-WAIT"),
    (At::Closing, "ACK of all that is sent", "-", "TIME-WAIT"),
    (At::LastAck, "ACK of all that is sent", "-", "CLOSED"),
    (At::TimeWait, "2MSL time-out", "-", "CLOSED"),
    (At::Established, "RST at RCV.NXT", "-", "CLOSED"),
    (At::FinWait2, "RST at RCV.NXT", "-", "CLOSED"),
    (At::CloseWait, "RST at RCV.NXT", "-", "CLOSED"),
    (At::Established, "ABORT", "RST,ACK", "CLOSED"),
];

const HEAD: &str = "# Every state and every event

Made by `src/tcp/tests/states.rs`, which drives the functions of `src/tcp/` that a shard calls, and fails when this file differs from what
they do; `SYNFIN_WRITE_DOCS=1 cargo test --lib states` writes it anew. LISTEN is a listener of the shard, CLOSED the absence of a record,
TIME-WAIT a compact record: what is marked with * the shard answers by itself, and `src/shard/tests/states.rs` drives a shard through each
such row.

Compared once by hand with figure 5 of RFC 9293. Each of its arrows occurs, and the same test looks each of them up here:

";

const TAIL: &str = "
Two arrows of the figure are not as drawn. SEND in LISTEN (snd SYN) is not offered: a listener stays a listener, and who wants to send calls
OPEN. CLOSE in SYN-RECEIVED sends its FIN behind the ACK of our SYN, so it passes through ESTABLISHED within one event (3.10.4 allows it
to wait). SEND before ESTABLISHED is refused instead of queued: Connected says when. And three are added by later text: a RST counts only at RCV.NXT (RFC 5961), not at all in TIME-WAIT (RFC 1337, a
setting), and a SYN may open a new incarnation from TIME-WAIT (MAY-2). What each segment does at each edge of the window stands in
`src/tcp/tests/matrix.rs`. A call on a connection of which the end was told, or which no application knows yet, names no connection; what
has come before TIME-WAIT can still be received.
";

/// What can happen, in the order of RFC 9293 3.10: calls, segments, time-outs.
type Happens = fn(&mut Held) -> Option<Reaction>;

const EVENTS: [(&str, Happens); 43] = [
    ("OPEN, passive", |_| None),
    ("OPEN, active", open_actively),
    ("SEND of 10 octets", send),
    ("RECEIVE of 1 octet", receive),
    ("CLOSE", |held| close(held, true)),
    ("CLOSE, then ACK of our SYN", close_during_the_handshake),
    ("shut-down of our direction", |held| close(held, false)),
    ("ABORT", abort),
    ("STATUS", status),
    ("SYN", |held| segment(held, SYN, 0, 0, 0)),
    ("SYN that begins before RCV.NXT", |held| segment(held, SYN, -1, 0, 0)),
    ("SYN beyond RCV.NXT", |held| segment(held, SYN, 1, 0, 0)),
    ("SYN,ACK of ours", |held| segment(held, SYN_ACK, 0, 0, 0)),
    ("SYN,ACK of what was never sent", |held| segment(held, SYN_ACK, 0, 1, 0)),
    ("ACK of all that is sent", |held| segment(held, ACK, 0, 0, 0)),
    ("ACK of nothing new", |held| segment(held, ACK, 0, -1, 0)),
    ("ACK of what was never sent", |held| segment(held, ACK, 0, 1, 0)),
    ("text in order", |held| segment(held, PSH_ACK, 0, 0, 10)),
    ("text out of order", |held| segment(held, PSH_ACK, 100, 0, 10)),
    ("text outside the window", |held| segment(held, PSH_ACK, 2000, 0, 10)),
    ("text without ACK", |held| segment(held, Flags(0), 0, 0, 10)),
    ("FIN, ACK of all that is sent", |held| segment(held, FIN_ACK, 0, 0, 0)),
    ("FIN, ACK of nothing new", |held| segment(held, FIN_ACK, 0, -1, 0)),
    ("FIN again", |held| segment(held, FIN_ACK, -1, 0, 0)),
    ("FIN out of order", |held| segment(held, FIN_ACK, 100, 0, 0)),
    ("RST at RCV.NXT", |held| segment(held, RST, 0, 0, 0)),
    ("RST,ACK at RCV.NXT", |held| segment(held, Flags(RST.0 | ACK.0), 0, 0, 0)),
    ("RST in the window", |held| segment(held, RST, 1, 0, 0)),
    ("RST outside the window", |held| segment(held, RST, 2000, 0, 0)),
    ("ICMP hard error about what is in flight", |held| in_flight(held, ErrorKind::Unreachable { code: 3 })),
    ("ICMP soft error about what is in flight", |held| in_flight(held, ErrorKind::Unreachable { code: 1 })),
    ("ICMP fragmentation needed, 552 octets", |held| in_flight(held, ErrorKind::TooBig { mtu: 552 })),
    ("ICMP source quench", |held| in_flight(held, ErrorKind::SourceQuench)),
    ("ICMP hard error about nothing in flight", not_in_flight),
    ("retransmission time-out", retransmission),
    ("retransmission time-out, the last one (R2)", last_retransmission),
    ("delayed-ACK time-out", delayed_ack),
    ("connect deadline, or FIN-WAIT-2 limit after CLOSE", deadline),
    ("persist time-out behind a closed window", persist),
    ("user time-out of what is under way", user_timeout),
    ("keep-alive time-out", keepalive),
    ("keep-alive time-out, no probe answered", unanswered_keepalives),
    ("2MSL time-out", |_| None),
];

#[test]
fn b38_states_document_says_what_the_code_does() {
    let written = document();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/states.md");
    if std::env::var_os("SYNFIN_WRITE_DOCS").is_some() {
        std::fs::write(&path, &written).expect("docs can be written");
    }
    let committed = std::fs::read_to_string(&path).expect("docs/states.md is there");
    let differs = written.lines().zip(committed.lines()).find(|(code, document)| code != document);
    assert!(
        written == committed,
        "docs/states.md is not what the code does; first difference (code, document): {differs:?}. If the code is right: \
         SYNFIN_WRITE_DOCS=1 cargo test --lib states",
    );
}

#[test]
fn b38_every_arrow_of_figure_5_occurs() {
    for (from, event, sends, to) in FIGURE_5 {
        let reaction = happens(from, event).unwrap_or_else(|| panic!("{}: {event} does nothing", from.name()));
        assert_eq!((sent(&reaction), reaction.next), (sends.to_owned(), to), "{}: {event}", from.name());
    }
}

fn document() -> String {
    let mut text = HEAD.to_owned();
    for (from, event, sends, to) in FIGURE_5 {
        text += &format!("- {} -> {to}: {event}; sends {sends}\n", from.name());
    }
    text += TAIL;
    for from in At::ALL {
        text +=
            &format!("\n## {}\n\n| event | next state | sent | otherwise |\n| --- | --- | --- | --- |\n", from.name());
        for (event, _) in EVENTS {
            if let Some(reaction) = happens(from, event) {
                let star = if of_the_shard(from, event).is_some() { " *" } else { "" };
                let (sent, otherwise) = (sent(&reaction), otherwise(&reaction));
                text += &format!("| {event}{star} | {} | {sent} | {otherwise} |\n", reaction.next);
            }
        }
    }
    text
}

/// What `event` does in a fresh `from`; `None` where there is no such event.
fn happens(from: At, event: &str) -> Option<Reaction> {
    let (_, happens) = EVENTS.iter().find(|(name, _)| *name == event).expect("a listed event");
    of_the_shard(from, event).or_else(|| happens(&mut Held::new(from, NUMBERS)))
}

/// What a shard answers without asking `tcp`; the test of the rows with a star is the shard's.
fn of_the_shard(from: At, event: &str) -> Option<Reaction> {
    let (next, otherwise) = match (from, event) {
        (At::Closed, "OPEN, passive") => ("LISTEN", None),
        (At::Listen, "OPEN, passive") => ("LISTEN", Some("error: in use")),
        (At::Listen, "CLOSE") => ("CLOSED", None),
        (At::SynSent, "RECEIVE of 1 octet") => ("SYN-SENT", Some("error: nothing to receive")),
        (At::SynReceivedActively, "RECEIVE of 1 octet") => ("SYN-RECEIVED", Some("error: nothing to receive")),
        (At::TimeWait, "RECEIVE of 1 octet") => ("TIME-WAIT", None),
        (At::Closed | At::TimeWait, "STATUS") => (from.name(), Some("error: no such connection")),
        (
            At::Closed | At::SynReceived | At::TimeWait,
            "SEND of 10 octets" | "RECEIVE of 1 octet" | "CLOSE" | "shut-down of our direction" | "ABORT",
        ) => (from.name(), Some("error: no such connection")),
        (At::Closed | At::Listen | At::TimeWait, "ICMP hard error about nothing in flight") => {
            (from.name(), Some("ignored"))
        }
        (At::TimeWait, "2MSL time-out") => ("CLOSED", None),
        _ => return None,
    };
    Some(Reaction { ended: otherwise, ..at(next) })
}

fn sent(reaction: &Reaction) -> String {
    let words: Vec<String> = reaction.sent.iter().map(control_bits).collect();
    if words.is_empty() { "-".into() } else { words.join(" then ") }
}

fn control_bits(sent: &Sent) -> String {
    let bits = [(SYN, "SYN"), (Flags::FIN, "FIN"), (RST, "RST"), (ACK, "ACK")];
    let names: Vec<&str> = bits.into_iter().filter(|(bit, _)| sent.flags.has(*bit)).map(|(_, name)| name).collect();
    let text = if sent.len > 0 { format!(" with {} octets", sent.len) } else { String::new() };
    names.join(",") + &text
}

fn otherwise(reaction: &Reaction) -> String {
    let mut words = Vec::new();
    if reaction.established {
        words.push("opened".into());
    }
    if reaction.text > 0 {
        words.push(format!("{} octets delivered", reaction.text));
    }
    if reaction.peer_closed {
        words.push("told that the peer has closed".into());
    }
    if reaction.delayed_ack {
        words.push("an ACK waits".into());
    }
    if reaction.restarted {
        words.push("2MSL starts again".into());
    }
    if let Some(reason) = reaction.ended {
        words.push(reason.into());
    }
    words.join(", ")
}

/// Nothing but a state.
fn at(next: &'static str) -> Reaction {
    Reaction { next, ..Reaction::default() }
}

/// A segment `off` from RCV.NXT that acknowledges `ack` beyond SND.NXT.
fn segment(held: &mut Held, flags: Flags, off: i32, ack: i32, payload_len: u16) -> Option<Reaction> {
    let (rcv_nxt, _) = held.receives(NUMBERS);
    let snd_nxt = held.snd_nxt(NUMBERS);
    let ack = if flags.ack() { Seq(snd_nxt.0.wrapping_add_signed(ack)) } else { Seq(0) };
    let seq = Seq(rcv_nxt.0.wrapping_add_signed(off));
    Some(held.arrives(Segment { seq, ack, wnd: 1000, flags, payload_len, ..Segment::default() }))
}

fn open_actively(held: &mut Held) -> Option<Reaction> {
    let Held::Nobody = held else { return None };
    let settings = small();
    let cx = Context { now: start(), settings: &settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
    let mut end = End::new(Tcb::open_actively(&tuple(), &cx), settings, start());
    Some(react(&mut end, Outcome::default()))
}

/// The end that a call is made on. A connection in TIME-WAIT has ended for its application, and of one that a listener is
/// opening it does not know yet.
fn called(held: &mut Held) -> Option<&mut End> {
    held_tcb(held).filter(|end| !end.tcb.is_half_open_passively())
}

fn held_tcb(held: &mut Held) -> Option<&mut End> {
    match held {
        Held::Tcb(end) => Some(end.as_mut()),
        Held::Nobody | Held::Listener | Held::TimeWait(_) => None,
    }
}

fn send(held: &mut Held) -> Option<Reaction> {
    let before = held.name();
    let end = called(held)?;
    let cx =
        Context { now: end.now, settings: &end.settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
    match calls::send_room(&end.tcb, 10, &cx) {
        Ok(taken) => calls::sent(&mut end.tcb, taken, &cx),
        Err(why) => return Some(Reaction { ended: Some(word(why)), ..at(before) }),
    }
    Some(react(end, Outcome::default()))
}

fn receive(held: &mut Held) -> Option<Reaction> {
    let end = called(held).filter(|end| !end.tcb.syn_is_unacknowledged())?;
    end.tcb.unread_bytes = 1;
    end.consume_all();
    Some(react(end, Outcome::default()))
}

fn close(held: &mut Held, both: bool) -> Option<Reaction> {
    let before = held.name();
    let end = called(held)?;
    let cx =
        Context { now: end.now, settings: &end.settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
    match calls::close(&mut end.tcb, both, &cx) {
        Ok(calls::Closed::FinFollows) => Some(react(end, Outcome::default())),
        Ok(calls::Closed::Gone) => Some(Reaction { ended: Some("aborted"), ..at("CLOSED") }),
        Ok(calls::Closed::Aborts) => abort(held),
        Err(why) => Some(Reaction { ended: Some(word(why)), ..at(before) }),
    }
}

fn close_during_the_handshake(held: &mut Held) -> Option<Reaction> {
    let during =
        matches!(held, Held::Tcb(end) if end.tcb.state == State::SynReceived && !end.tcb.is_half_open_passively());
    during.then(|| close(held, true));
    if during { segment(held, ACK, 0, 0, 0) } else { None }
}

fn abort(held: &mut Held) -> Option<Reaction> {
    let end = called(held)?;
    calls::abort(&mut end.tcb);
    Some(Reaction { ended: Some("aborted"), ..react(end, Outcome::default()) })
}

fn status(held: &mut Held) -> Option<Reaction> {
    let end = held_tcb(held)?;
    let info = status::info(&end.tcb);
    Some(Reaction { ended: Some("told"), next: info.state.name(), ..react(end, Outcome::default()) })
}

fn word(refused: calls::Refused) -> &'static str {
    match refused {
        calls::Refused::NotOpen => "error: not open",
        calls::Refused::Closing => "error: closing",
        calls::Refused::Ended => "error: ended",
    }
}

/// An error about the first octet that is not acknowledged, of a full segment where text may be sent.
fn in_flight(held: &mut Held, kind: ErrorKind) -> Option<Reaction> {
    let end = unacknowledged(held, 536)?;
    Some(error(end, kind, end.tcb.snd_una))
}

fn not_in_flight(held: &mut Held) -> Option<Reaction> {
    let end = held_tcb(held)?;
    Some(error(end, ErrorKind::Unreachable { code: 3 }, end.tcb.snd_nxt))
}

fn error(end: &mut End, kind: ErrorKind, seq: Seq) -> Reaction {
    let out = end.error(kind, seq);
    let meaning = match out.note {
        Some(Note::IcmpSoft) => Some("the reason, should it time out"),
        Some(Note::PathMtuLowered) => Some("smaller segments"),
        Some(Note::PathMtuRefused) => Some("not believed"),
        Some(Note::IcmpUnmatched | Note::SourceQuench) => Some("ignored"),
        _ => None,
    };
    let reaction = react(end, out);
    Reaction { ended: reaction.ended.or(meaning), ..reaction }
}

/// The end with something to send again: `octets` of text where it may be sent, otherwise our SYN or FIN.
fn unacknowledged(held: &mut Held, octets: usize) -> Option<&mut End> {
    let end = held_tcb(held)?;
    if matches!(end.tcb.state, State::Established | State::CloseWait) {
        end.tcb.snd_wnd = 1000;
        end.queue(octets);
        end.sends();
    }
    end.tcb.retransmit_at.is_set().then_some(end)
}

/// The retransmission timer and nothing else comes.
fn retransmission(held: &mut Held) -> Option<Reaction> {
    let end = unacknowledged(held, 10)?;
    let out = end.time_out().1;
    Some(react(end, out))
}

fn last_retransmission(held: &mut Held) -> Option<Reaction> {
    let end = unacknowledged(held, 10)?;
    end.tcb.retries = u8::MAX;
    let out = end.time_out().1;
    Some(react(end, out))
}

fn delayed_ack(held: &mut Held) -> Option<Reaction> {
    let end = called(held).filter(|end| end.tcb.state.can_receive())?;
    let unread = Segment { payload_len: 10, ack: end.tcb.snd_una, ..end.next(PSH_ACK) };
    end.arrives(unread);
    end.sends();
    end.tcb.retransmit_at = Deadline::NONE;
    let out = end.time_out().1;
    Some(react(end, out))
}

fn deadline(held: &mut Held) -> Option<Reaction> {
    let end = called(held)?;
    match end.tcb.state {
        State::SynSent => end.tcb.waits_until = Deadline::at(end.now.tick().plus(10)),
        State::SynReceived if !end.tcb.is_half_open_passively() => {
            end.tcb.waits_until = Deadline::at(end.now.tick().plus(10));
        }
        State::FinWait2 => drop(end.close()),
        State::SynReceived
        | State::Established
        | State::FinWait1
        | State::CloseWait
        | State::Closing
        | State::LastAck
        | State::Closed => return None,
    }
    let out = end.time_out().1;
    Some(react(end, out))
}

/// Text waits behind a closed window, and our FIN behind that where it has been queued.
fn persist(held: &mut Held) -> Option<Reaction> {
    let state = called(held)?.tcb.state;
    let before = match state {
        State::Established | State::FinWait1 | State::Closing => At::Established,
        State::CloseWait | State::LastAck => At::CloseWait,
        State::SynSent | State::SynReceived | State::FinWait2 | State::Closed => return None,
    };
    *held = Held::new(before, NUMBERS);
    let end = called(held)?;
    end.tcb.snd_wnd = 0;
    end.queue(10);
    if matches!(state, State::FinWait1 | State::Closing | State::LastAck) {
        end.shutdown_write();
    }
    if state == State::Closing {
        end.arrives(Segment { wnd: 0, ack: end.tcb.snd_una, ..end.next(FIN_ACK) });
    }
    end.sends();
    assert_eq!(end.tcb.state, state);
    let out = end.time_out().1;
    Some(react(end, out))
}

/// The user time-out is among the options of OPEN, or set where something is under way.
fn user_timeout(held: &mut Held) -> Option<Reaction> {
    let end = called(held)?;
    end.options.user_timeout = Some(Duration::from_millis(500));
    if end.tcb.syn_is_unacknowledged() {
        let crossed = end.tcb.state == State::SynReceived;
        let cx = Context { now: end.now, settings: &end.settings, options: &end.options, receive_room: true };
        end.tcb = Tcb::open_actively(&tuple(), &cx);
        end.sends();
        if crossed {
            end.arrives(Segment { seq: NUMBERS.irs, wnd: 1000, flags: SYN, ..Segment::default() });
            end.sends();
        }
    }
    if matches!(end.tcb.state, State::Established | State::CloseWait) {
        end.queue(10);
        end.sends();
    }
    end.options_change();
    waits(end)
}

fn keepalive(held: &mut Held) -> Option<Reaction> {
    let end = called(held)?;
    end.options.keepalive = Some(Keepalive { idle: Duration::from_secs(2), ..Keepalive::default() });
    end.options_change();
    waits(end)
}

/// The wait ends, where the state has one.
fn waits(end: &mut End) -> Option<Reaction> {
    let waits = end.tcb.waits_until.is_set();
    waits.then(|| {
        let out = end.time_out().1;
        react(end, out)
    })
}

fn unanswered_keepalives(held: &mut Held) -> Option<Reaction> {
    let mut last = keepalive(held);
    while last.as_ref().is_some_and(|reaction| reaction.ended.is_none()) {
        let end = called(held)?;
        let out = end.time_out().1;
        last = Some(react(end, out));
    }
    last
}

const NUMBERS: Numbered = Numbered { iss: Seq(1_000_000), irs: Seq(2_000_000) };
