//! B38: `docs/states.md`, every state x every event, made by driving the functions of `tcp`, and compared with figure 5 of
//! RFC 9293. `SYNFIN_WRITE_DOCS=1 cargo test --lib states` writes the file anew.

use super::held::{At, Held, Numbered, Reaction, Sent, react, small};
use super::*;
use crate::tcp::connection_options::Keepalive;
use crate::tcp::time_wait;
use crate::tick::Deadline;
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

Made by `src/tcp/tests/states.rs`, which drives the functions of `src/tcp/` and fails when this file differs from what they do;
`SYNFIN_WRITE_DOCS=1 cargo test --lib states` writes it anew. LISTEN is a listener of the shard, CLOSED the absence of a record, TIME-WAIT
a compact record: their calls and time-outs belong to the shard and are listed for completeness.

Compared once by hand with figure 5 of RFC 9293. Each of its arrows occurs, and the same test looks each of them up here:

";

const TAIL: &str = "
Two arrows of the figure are not as drawn. SEND in LISTEN (snd SYN) is not offered: a listener stays a listener, and who wants to send calls
OPEN. CLOSE in SYN-RECEIVED sends its FIN behind the ACK of our SYN, so it passes through ESTABLISHED within one event (3.10.4 allows it
to wait). SEND before ESTABLISHED is refused instead of queued: Connected says when. And three are added by later text: a RST counts only at RCV.NXT (RFC 5961), not at all in TIME-WAIT (RFC 1337, a
setting), and a SYN may open a new incarnation from TIME-WAIT (MAY-2). What each segment does at each edge of the window stands in
`src/tcp/tests/matrix.rs`.
";

/// What can happen, in the order of RFC 9293 3.10: calls, segments, time-outs.
type Happens = fn(&mut Held) -> Option<Reaction>;

const EVENTS: [(&str, Happens); 36] = [
    ("OPEN, passive", |held| matches!(held, Held::Nobody).then(|| at("LISTEN"))),
    ("OPEN, active", open_actively),
    ("SEND of 10 octets", send),
    ("RECEIVE of 1 octet that is there", receive),
    ("CLOSE", |held| close(held, true)),
    ("CLOSE, then ACK of our SYN", close_during_the_handshake),
    ("shut-down of our direction", |held| close(held, false)),
    ("ABORT", abort),
    ("SYN", |held| segment(held, SYN, 0, 0, 0)),
    ("SYN that begins before RCV.NXT", |held| segment(held, SYN, -1, 0, 0)),
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
    ("retransmission time-out", retransmission),
    ("retransmission time-out, the last one (R2)", last_retransmission),
    ("delayed-ACK time-out", delayed_ack),
    ("connect deadline, or FIN-WAIT-2 limit after CLOSE", deadline),
    ("persist time-out behind a closed window", persist),
    ("user time-out of what is under way", user_timeout),
    ("keep-alive time-out", keepalive),
    ("keep-alive time-out, no probe answered", unanswered_keepalives),
    ("2MSL time-out", two_msl),
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
                text += &format!("| {event} | {} | {} | {} |\n", reaction.next, sent(&reaction), otherwise(&reaction));
            }
        }
    }
    text
}

/// What `event` does in a fresh `from`; `None` where there is no such event.
fn happens(from: At, event: &str) -> Option<Reaction> {
    let mut held = Held::new(from, NUMBERS);
    let (_, happens) = EVENTS.iter().find(|(name, _)| *name == event).expect("a listed event");
    happens(&mut held)
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

/// A call that the state does not allow.
fn refused(held: &Held, why: &'static str) -> Option<Reaction> {
    Some(Reaction { ended: Some(why), ..at(held.name()) })
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
    let mut end = End::new(Tcb::open_actively(tuple(), &cx), settings, start());
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
    let Some(end) = called(held) else { return ended(held) };
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
    if let Held::Listener = held {
        return both.then(|| at("CLOSED"));
    }
    let before = held.name();
    let Some(end) = called(held) else { return ended(held) };
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
    let Some(end) = called(held) else { return ended(held) };
    let owes_reset = calls::abort_owes_reset(&end.tcb);
    end.tcb.end(crate::tcp::state::CloseReason::Aborted);
    end.tcb.owed.set(crate::tcp::tcb::Owed::RESET, owes_reset);
    Some(Reaction { ended: Some("aborted"), ..react(end, Outcome::default()) })
}

/// Calls on what has no connection: nobody has a handle of it.
fn ended(held: &Held) -> Option<Reaction> {
    match held {
        Held::Nobody | Held::TimeWait(_) | Held::Tcb(_) => refused(held, "error: no such connection"),
        Held::Listener => None,
    }
}

fn word(refused: calls::Refused) -> &'static str {
    match refused {
        calls::Refused::NotOpen => "error: not open",
        calls::Refused::Closing => "error: closing",
        calls::Refused::Ended => "error: ended",
    }
}

/// The end with something to send again: text where it may be sent, otherwise our SYN or FIN.
fn unacknowledged(held: &mut Held) -> Option<&mut End> {
    let end = held_tcb(held)?;
    if matches!(end.tcb.state, State::Established | State::CloseWait) {
        end.tcb.snd_wnd = 1000;
        end.queue(10);
        end.sends();
    }
    end.tcb.retransmit_at.is_set().then_some(end)
}

/// The retransmission timer and nothing else comes.
fn retransmission(held: &mut Held) -> Option<Reaction> {
    let end = unacknowledged(held)?;
    let out = end.time_out().1;
    Some(react(end, out))
}

fn last_retransmission(held: &mut Held) -> Option<Reaction> {
    let end = unacknowledged(held)?;
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

fn persist(held: &mut Held) -> Option<Reaction> {
    let end = called(held).filter(|end| matches!(end.tcb.state, State::Established | State::CloseWait))?;
    end.tcb.snd_wnd = 0;
    end.queue(10);
    end.sends();
    let out = end.time_out().1;
    Some(react(end, out))
}

fn user_timeout(held: &mut Held) -> Option<Reaction> {
    let end = called(held).filter(|end| !end.tcb.syn_is_unacknowledged() && end.tcb.state != State::FinWait2)?;
    end.options.user_timeout = Some(Duration::from_millis(500));
    if matches!(end.tcb.state, State::Established | State::CloseWait) {
        end.queue(10);
        end.sends();
    }
    end.options_change();
    let out = end.time_out().1;
    Some(react(end, out))
}

fn keepalive(held: &mut Held) -> Option<Reaction> {
    let end = called(held).filter(|end| end.tcb.state == State::Established)?;
    end.options.keepalive = Some(Keepalive { idle: Duration::from_secs(2), ..Keepalive::default() });
    end.options_change();
    let out = end.time_out().1;
    Some(react(end, out))
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

fn two_msl(held: &mut Held) -> Option<Reaction> {
    let Held::TimeWait(record) = held else { return None };
    let settings = small();
    let cx = Context { now: start(), settings: &settings, options: &ConnectionOptions::DEFAULT, receive_room: true };
    assert_eq!(record.deadline, time_wait::deadline(&cx), "the store drops the record then");
    Some(at("CLOSED"))
}

const NUMBERS: Numbered = Numbered { iss: Seq(1_000_000), irs: Seq(2_000_000) };
