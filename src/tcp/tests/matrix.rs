//! B38: eleven states x nine kinds of segment x the edges of the window, with sequence numbers that wrap.
//!
//! [`TABLE`] was written from RFC 9293 3.10.7 (with RFC 5961 and RFC 1337) by hand; nothing in it is computed by the code
//! under test. It is read by columns: the segment begins one before RCV.NXT, at RCV.NXT, at the last octet of the window,
//! one beyond it; then, with a closed window, one before RCV.NXT, at it, one beyond it and far beyond it.
//!
//! A cell says what is sent and, behind `>`, the next state. `-`: nothing; `ack`: <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>; `rst`: the
//! RST of 3.10.7.1; `synack`: our SYN-ACK; `text`: the octet is delivered, an ACK may wait. A row with one cell says that the
//! position does not count. A number names the note below the table that explains a departure from the RFC's letter.

use super::held::{At, Held, Numbered, Reaction, Sent, WINDOW_SHIFT};
use super::*;
use alloc::format;

/// Every segment acknowledges SND.NXT, our FIN included, save `BADACK`, which acknowledges what was never sent. TEXT and NONE
/// carry one octet.
const TABLE: &str = "
CLOSED
  SYN    rst
  SYNACK rst
  ACK    rst
  BADACK rst
  TEXT   rst
  FIN    rst
  RST    -
  RSTACK -
  NONE   rst
LISTEN
  SYN    synack>SYN-RECEIVED
  SYNACK rst
  ACK    rst
  BADACK rst
  TEXT   rst
  FIN    rst
  RST    -
  RSTACK -
  NONE   -
SYN-SENT
  SYN    synack>SYN-RECEIVED
  SYNACK ack>ESTABLISHED
  ACK    -
  BADACK rst
  TEXT   -
  FIN    -
  RST    -
  RSTACK >CLOSED
  NONE   -
SYN-RECEIVED
  SYN    synack:1       >LISTEN          >LISTEN             -:2                 synack:1       >LISTEN           -:2                 -:2
  SYNACK synack:1       >LISTEN          >LISTEN             -:2                 synack:1       >LISTEN           -:2                 -:2
  ACK    -:2            >ESTABLISHED     >ESTABLISHED        -:2                 -:2            >ESTABLISHED      -:2                 -:2
  BADACK -:2            rst              rst                 -:2                 -:2            rst               -:2                 -:2
  TEXT   -:2            text>ESTABLISHED ack>ESTABLISHED     -:2                 -:2            ack>ESTABLISHED:3 -:2                 -:2
  FIN    -:2            ack>CLOSE-WAIT   ack>ESTABLISHED     -:2                 -:2            ack>CLOSE-WAIT:4  -:2                 -:2
  RST    -              >LISTEN          ack                 -                   -              >LISTEN           -                   -
  RSTACK -              >LISTEN          ack                 -                   -              >LISTEN           -                   -
  NONE   -:2            -                -                   -:2                 -:2            -:3               -:2                 -:2
SYN-RECEIVED (active open)
  SYN    synack:1       ack              ack                 ack                 synack:1       ack               ack                 ack
  SYNACK >ESTABLISHED:5 ack              ack                 ack                 >ESTABLISHED:5 ack               ack                 ack
  ACK    ack            >ESTABLISHED     >ESTABLISHED        ack                 ack            >ESTABLISHED      ack                 ack
  BADACK ack            rst              rst                 ack                 ack            rst               ack                 ack
  TEXT   ack            text>ESTABLISHED ack>ESTABLISHED     ack                 ack            ack>ESTABLISHED:3 ack                 ack
  FIN    ack            ack>CLOSE-WAIT   ack>ESTABLISHED     ack                 ack            ack>CLOSE-WAIT:4  ack                 ack
  RST    -              >CLOSED          ack                 -                   -              >CLOSED           -                   -
  RSTACK -              >CLOSED          ack                 -                   -              >CLOSED           -                   -
  NONE   ack            -                -                   ack                 ack            -:3               ack                 ack
ESTABLISHED
  SYN    ack            ack              ack                 ack                 ack            ack               ack                 ack
  SYNACK ack            ack              ack                 ack                 ack            ack               ack                 ack
  ACK    ack            -                -                   ack                 ack            -                 ack                 ack
  BADACK ack            ack              ack                 ack                 ack            ack               ack                 ack
  TEXT   ack            text             ack                 ack                 ack            ack               ack                 ack
  FIN    ack            ack>CLOSE-WAIT   ack                 ack                 ack            ack>CLOSE-WAIT:4  ack                 ack
  RST    -              >CLOSED          ack                 -                   -              >CLOSED           -                   -
  RSTACK -              >CLOSED          ack                 -                   -              >CLOSED           -                   -
  NONE   ack            -                -                   ack                 ack            -:3               ack                 ack
FIN-WAIT-1
  SYN    ack            ack              ack                 ack                 ack            ack               ack                 ack
  SYNACK ack            ack              ack                 ack                 ack            ack               ack                 ack
  ACK    ack            >FIN-WAIT-2      >FIN-WAIT-2         ack                 ack            >FIN-WAIT-2       ack                 ack
  BADACK ack            ack              ack                 ack                 ack            ack               ack                 ack
  TEXT   ack            text>FIN-WAIT-2  ack>FIN-WAIT-2      ack                 ack            ack>FIN-WAIT-2:3  ack                 ack
  FIN    ack            ack>TIME-WAIT    ack>FIN-WAIT-2      ack                 ack            ack>TIME-WAIT:4   ack                 ack
  RST    -              >CLOSED          ack                 -                   -              >CLOSED           -                   -
  RSTACK -              >CLOSED          ack                 -                   -              >CLOSED           -                   -
  NONE   ack            -                -                   ack                 ack            -:3               ack                 ack
FIN-WAIT-2
  SYN    ack            ack              ack                 ack                 ack            ack               ack                 ack
  SYNACK ack            ack              ack                 ack                 ack            ack               ack                 ack
  ACK    ack            -                -                   ack                 ack            -                 ack                 ack
  BADACK ack            ack              ack                 ack                 ack            ack               ack                 ack
  TEXT   ack            text             ack                 ack                 ack            ack               ack                 ack
  FIN    ack            ack>TIME-WAIT    ack                 ack                 ack            ack>TIME-WAIT:4   ack                 ack
  RST    -              >CLOSED          ack                 -                   -              >CLOSED           -                   -
  RSTACK -              >CLOSED          ack                 -                   -              >CLOSED           -                   -
  NONE   ack            -                -                   ack                 ack            -:3               ack                 ack
CLOSE-WAIT
  SYN    ack            ack              ack                 ack                 ack            ack               ack                 ack
  SYNACK ack            ack              ack                 ack                 ack            ack               ack                 ack
  ACK    ack            -                -                   ack                 ack            -                 ack                 ack
  BADACK ack            ack              ack                 ack                 ack            ack               ack                 ack
  TEXT   ack            -                -                   ack                 ack            -:3               ack                 ack
  FIN    ack            -                -                   ack                 ack            -:3               ack                 ack
  RST    -              >CLOSED          ack                 -                   -              >CLOSED           -                   -
  RSTACK -              >CLOSED          ack                 -                   -              >CLOSED           -                   -
  NONE   ack            -                -                   ack                 ack            -:3               ack                 ack
CLOSING
  SYN    ack            ack              ack                 ack                 ack            ack               ack                 ack
  SYNACK ack            ack              ack                 ack                 ack            ack               ack                 ack
  ACK    ack            >TIME-WAIT       >TIME-WAIT          ack                 ack            >TIME-WAIT        ack                 ack
  BADACK ack            ack              ack                 ack                 ack            ack               ack                 ack
  TEXT   ack            >TIME-WAIT       >TIME-WAIT          ack                 ack            >TIME-WAIT:3      ack                 ack
  FIN    ack            >TIME-WAIT       >TIME-WAIT          ack                 ack            >TIME-WAIT:3      ack                 ack
  RST    -              >CLOSED          ack                 -                   -              >CLOSED           -                   -
  RSTACK -              >CLOSED          ack                 -                   -              >CLOSED           -                   -
  NONE   ack            -                -                   ack                 ack            -:3               ack                 ack
LAST-ACK
  SYN    ack            ack              ack                 ack                 ack            ack               ack                 ack
  SYNACK ack            ack              ack                 ack                 ack            ack               ack                 ack
  ACK    ack            >CLOSED          >CLOSED             ack                 ack            >CLOSED           ack                 ack
  BADACK ack            ack              ack                 ack                 ack            ack               ack                 ack
  TEXT   ack            >CLOSED          >CLOSED             ack                 ack            >CLOSED:3         ack                 ack
  FIN    ack            >CLOSED          >CLOSED             ack                 ack            >CLOSED:3         ack                 ack
  RST    -              >CLOSED          ack                 -                   -              >CLOSED           -                   -
  RSTACK -              >CLOSED          ack                 -                   -              >CLOSED           -                   -
  NONE   ack            -                -                   ack                 ack            -:3               ack                 ack
TIME-WAIT
  SYN    ack            ack              synack>SYN-RECEIVED synack>SYN-RECEIVED ack            ack               synack>SYN-RECEIVED synack>SYN-RECEIVED
  SYNACK ack            ack              ack                 ack                 ack            ack               ack                 ack
  ACK    ack            -                ack:6               ack                 ack            -                 ack                 ack
  BADACK ack            -:6              ack                 ack                 ack            -:6               ack                 ack
  TEXT   ack            ack:6            ack:6               ack                 ack            ack               ack                 ack
  FIN    ack            ack              ack                 ack                 ack            ack               ack                 ack
  RST    -              -:7              -:7                 -                   -              -:7               -                   -
  RSTACK -              -:7              -:7                 -                   -              -:7               -                   -
  NONE   ack            ack:6            ack:6               ack                 ack            ack               ack                 ack
";

/// Why cells depart from the RFC's letter.
const NOTES: [&str; 7] = [
    "the peer's SYN again: our SYN-ACK was lost, and it is that which the peer waits for (B12); the RFC says ACK",
    "a half-open connection that nobody knows of answers nothing that is out of its window (T25); the RFC says ACK",
    "closed window: a segment at RCV.NXT still counts for its ACK (MUST-66); what has none is dropped by the fifth check",
    "closed window: a FIN without text is taken, for it needs no room, and the sender can stop probing",
    "simultaneous open: the peer's SYN-ACK repeats the SYN that was taken, its ACK is new (3.5, figure 8)",
    "TIME-WAIT answers whatever is not empty and in order by one ACK (B42); 3.10.7.4 thinks only of the FIN",
    "RFC 1337: a RST does not end TIME-WAIT (B43)",
];

const COLUMNS: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Syn,
    SynAck,
    Ack,
    BadAck,
    Text,
    Fin,
    Rst,
    RstAck,
    None,
}

const KINDS: [(&str, Kind); 9] = [
    ("SYN", Kind::Syn),
    ("SYNACK", Kind::SynAck),
    ("ACK", Kind::Ack),
    ("BADACK", Kind::BadAck),
    ("TEXT", Kind::Text),
    ("FIN", Kind::Fin),
    ("RST", Kind::Rst),
    ("RSTACK", Kind::RstAck),
    ("NONE", Kind::None),
];

/// Shows MUST-11, T22.
#[test]
fn b38_every_state_and_segment_at_every_edge_of_the_window_do_what_the_rfc_says() {
    let edges = [0u32, (1 << 31) - 3, u32::MAX - 2];
    let mut tried = 0;
    for (at, kind, cells) in rows() {
        for (column, cell) in cells.iter().enumerate() {
            for iss in edges {
                for irs in edges {
                    let numbers = Numbered { iss: Seq(iss), irs: Seq(irs) };
                    check(at, kind, column, cell, numbers);
                    tried += 1;
                }
            }
        }
    }
    assert_eq!(tried, At::ALL.len() * KINDS.len() * COLUMNS * 9, "every cell with every number");
}

#[test]
fn every_note_is_needed() {
    let used: Vec<usize> = rows().iter().flat_map(|row| &row.2).filter_map(|cell| note_of(cell).1).collect();
    for note in 1..=NOTES.len() {
        assert!(used.contains(&note), "note {note} explains nothing: {}", NOTES[note - 1]);
    }
    assert!(used.iter().all(|note| (1..=NOTES.len()).contains(note)));
}

/// Drives one cell.
fn check(at: At, kind: Kind, column: usize, cell: &str, numbers: Numbered) {
    let mut held = Held::new(at, numbers);
    if column >= COLUMNS / 2 {
        held.close_window();
    }
    let (rcv_nxt, window) = held.receives(numbers);
    assert!((window == 0) == (column >= COLUMNS / 2) || matches!(at, At::Closed | At::Listen | At::SynSent));
    let seq = match column {
        0 | 4 => rcv_nxt.back(1),
        1 | 5 => rcv_nxt,
        2 => rcv_nxt + (window - 1),
        3 => rcv_nxt + window,
        6 => rcv_nxt + 1,
        _ => rcv_nxt + 1000,
    };
    let snd_nxt = held.snd_nxt(numbers);
    let seg = segment(kind, seq, snd_nxt);
    let snd_wnd = held.snd_wnd();
    let reaction = held.arrives(seg);
    let expected = Expected::of(cell, at);
    let fin_taken = kind == Kind::Fin && (cell.starts_with("ack>CLOSE-WAIT") || cell.starts_with("ack>TIME-WAIT"));
    let opens = at == At::SynSent || cell.ends_with(">SYN-RECEIVED");
    let ack = if opens { seq + 1 } else { rcv_nxt + u32::from(expected.text) + u32::from(fin_taken) };
    // A SYN that opens a connection gets an ISS of its own.
    let own_iss = matches!(at, At::Listen | At::TimeWait);
    let place =
        || format!("{} {kind:?} column {column} iss {} irs {}: {cell}", at.name(), numbers.iss.0, numbers.irs.0);
    assert_sent(&reaction, &expected, &seg, [snd_nxt, ack, numbers.iss], own_iss, &place());
    assert_eq!(reaction.next, expected.next, "{}", place());
    assert_eq!(reaction.text, u16::from(expected.text), "{}", place());
    if let (Some(before), Some(after)) = (snd_wnd, held.snd_wnd()) {
        // A window on a SYN is never scaled, and this SYN says nothing of scaling (RFC 7323 2.2, 2.3).
        let scaled = !matches!(kind, Kind::Syn | Kind::SynAck) && at != At::SynSent;
        let told = u32::from(seg.wnd) << if scaled { WINDOW_SHIFT } else { 0 };
        let opens = matches!(expected.next, "ESTABLISHED" | "CLOSE-WAIT") && expected.next != at.name();
        assert!(after == told || (after == before && !opens), "{}: {before} then {after}", place());
    }
    if at == At::TimeWait {
        // Only the peer's FIN again restarts 2MSL: its number is the one before RCV.NXT (B41).
        assert_eq!(reaction.restarted, kind == Kind::Fin && seq + 1 == rcv_nxt, "{}", place());
    }
}

fn assert_sent(
    reaction: &Reaction,
    expected: &Expected<'_>,
    seg: &Segment,
    numbers: [Seq; 3],
    own_iss: bool,
    place: &str,
) {
    let [snd_nxt, ack, iss] = numbers;
    let sent = |flags, seq, ack| Some(Sent { flags, seq, ack, len: 0 });
    let wanted = match expected.sends {
        "ack" => sent(ACK, snd_nxt, ack),
        "synack" if own_iss => sent(SYN_ACK, reaction.sent.first().map_or(iss, |sent| sent.seq), ack),
        "synack" => sent(SYN_ACK, iss, ack),
        "rst" if seg.flags.ack() => sent(RST, seg.ack, Seq(0)),
        "rst" => sent(Flags(RST.0 | ACK.0), Seq(0), seg.seq + seg.len()),
        "-" => None,
        other => panic!("{place}: no such cell: {other}"),
    };
    assert_eq!(reaction.sent, wanted.into_iter().collect::<Vec<_>>(), "{place}: {reaction:?}");
    assert_eq!(reaction.delayed_ack, expected.text, "{place}");
}

fn segment(kind: Kind, seq: Seq, snd_nxt: Seq) -> Segment {
    let (flags, payload_len) = match kind {
        Kind::Syn => (SYN, 0),
        Kind::SynAck => (SYN_ACK, 0),
        Kind::Ack | Kind::BadAck => (ACK, 0),
        Kind::Text => (PSH_ACK, 1),
        Kind::Fin => (FIN_ACK, 0),
        Kind::Rst => (RST, 0),
        Kind::RstAck => (Flags(RST.0 | ACK.0), 0),
        Kind::None => (Flags(0), 1),
    };
    let ack = if kind == Kind::BadAck { snd_nxt + 1 } else { snd_nxt };
    Segment { seq, ack: if flags.ack() { ack } else { Seq(0) }, wnd: 1000, flags, payload_len, ..Segment::default() }
}

/// A cell, read.
struct Expected<'a> {
    sends: &'a str,
    next: &'a str,
    text: bool,
}

impl<'a> Expected<'a> {
    fn of(cell: &'a str, at: At) -> Expected<'a> {
        let (cell, _) = note_of(cell);
        let (sends, next) = cell.split_once('>').unwrap_or((cell, at.name().trim_end_matches(" (active open)")));
        let (sends, text) = match sends {
            "text" => ("-", true),
            "" => ("-", false),
            other => (other, false),
        };
        Expected { sends, next, text }
    }
}

/// A cell without its note, and the note's number.
fn note_of(cell: &str) -> (&str, Option<usize>) {
    match cell.split_once(':') {
        Some((cell, note)) => (cell, Some(note.parse().expect("a note is a number"))),
        None => (cell, None),
    }
}

/// The table, read: one state and kind per row, a cell per column.
fn rows() -> Vec<(At, Kind, Vec<&'static str>)> {
    let mut rows = Vec::new();
    let mut at = At::Closed;
    for line in TABLE.lines().filter(|line| !line.is_empty()) {
        if !line.starts_with(' ') {
            at = At::ALL.into_iter().find(|at| at.name() == line).expect("the name of a state");
            continue;
        }
        let mut words = line.split_whitespace();
        let name = words.next().expect("a kind");
        let kind = KINDS.iter().find(|(word, _)| *word == name).expect("a kind of segment").1;
        let cells: Vec<&str> = words.collect();
        let cells = if cells.len() == 1 { [cells[0]; COLUMNS].into() } else { cells };
        assert_eq!(cells.len(), COLUMNS, "{line}");
        rows.push((at, kind, cells));
    }
    rows
}
