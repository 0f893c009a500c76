//! RFC 9293 A.1: nothing that IP says of a segment's precedence or security decides what TCP does with it. A stack by RFC 793 would
//! answer each of these by RST: what its third check compared changes from segment to segment here.

use super::options::{Bench, Heard};
use super::*;
use crate::api::ConnectionOptions;
use crate::wire::checksum::Sum;
use crate::wire::tcp::{Flags, Options, Segment};

/// What a segment carries in its IP header.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// DSCP and ECN: IPv4's second octet, IPv6's traffic class. Its first three bits were the precedence (RFC 791 3.1).
    octet: u8,
    /// The classification of a label: RFC 1108's option over IPv4, RFC 5570's over IPv6.
    label: Option<u8>,
}

const SYN_ACK: Flags = Flags(Flags::SYN.0 | Flags::ACK.0);
const FIN_ACK: Flags = Flags(Flags::FIN.0 | Flags::ACK.0);
const PLAIN: Mark = Mark { octet: 0, label: None };

/// Those of a run, one after the other and again from the first: no two neighbours are of one precedence and label.
const MARKS: [Mark; 5] = [
    Mark { octet: 0xe0, label: Some(0x3d) },
    Mark { octet: 0x00, label: Some(0xab) },
    Mark { octet: 0xb8, label: None },
    Mark { octet: 0x20, label: Some(0x5a) },
    Mark { octet: 0xff, label: None },
];

/// Shows RFC 2873, too.
#[test]
fn rfc_9293_a_1_segments_of_any_precedence_and_security_label_are_processed_as_any_other() {
    for v6 in [false, true] {
        for (run, reason) in [
            (opened_by_the_peer as fn(bool, &[Mark]) -> CameTo, CloseReason::Graceful),
            (opened_by_the_stack, CloseReason::Reset),
        ] {
            let plain = run(v6, &[PLAIN]);
            assert_eq!(plain.2, Some(reason));
            for first in 0..MARKS.len() {
                let mut marks = MARKS;
                marks.rotate_left(first);
                assert_eq!(run(v6, &marks), plain, "left with {marks:?}, over IPv6: {v6}");
            }
        }
    }
}

/// What the peer has heard, what the application has heard, and how the connection ended.
type CameTo = (Vec<Heard>, Vec<&'static str>, Option<CloseReason>);

/// A peer that marks what it sends.
struct Marking<'a> {
    bench: Bench,
    marks: core::iter::Cycle<core::slice::Iter<'a, Mark>>,
    heard: Vec<Heard>,
}

impl<'a> Marking<'a> {
    fn new(bench: Bench, marks: &'a [Mark]) -> Marking<'a> {
        Marking { bench, marks: marks.iter().cycle(), heard: Vec::new() }
    }

    /// Sends one segment, and notes the answers; returns the last one.
    fn say(&mut self, seg: &Segment, text: &[u8]) -> Option<Heard> {
        let mark = self.marks.next().expect("marks never end");
        let answers = self.bench.exchange_changed(seg, text, |frame| mark.put_on(frame));
        self.heard.extend(&answers);
        self.bench.seq += seg.len() + text.len() as u32;
        answers.last().copied()
    }

    /// The application takes what has come: that many times the same.
    fn read(&mut self, times: usize) {
        let handle = self.bench.handle();
        let mut calls = self.bench.shard.calls(self.bench.now);
        let mut text = Vec::new();
        while text.len() < times * 4 {
            let piece = calls.received(handle).expect("text").to_vec();
            calls.consume(handle, piece.len()).expect("unread text");
            text.extend(piece);
        }
        assert_eq!(text, b"text".repeat(times));
    }

    fn next(&self, flags: Flags) -> Segment {
        self.bench.next(flags)
    }

    fn came_to(self) -> CameTo {
        let drops = self.bench.shard.drops().total();
        assert_eq!(drops, 0, "no frame is dropped for its marks");
        let application = self.bench.shard.into_application();
        (self.heard, application.events, application.reason)
    }
}

impl Mark {
    fn put_on(self, frame: &mut Vec<u8>) {
        if frame[14] >> 4 == 4 { self.put_on_v4(frame) } else { self.put_on_v6(frame) }
    }

    fn put_on_v4(self, frame: &mut Vec<u8>) {
        frame[15] = self.octet;
        if let Some(label) = self.label {
            // Basic security: type, length, classification level, no protection authority.
            frame.splice(34..34, [130, 4, label, 0]);
            frame[14] = 0x46;
            frame[17] += 4;
        }
        let header = 14..14 + usize::from(frame[14] & 15) * 4;
        frame[24..26].fill(0);
        let sum = Sum::default().bytes(&frame[header]).finish();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }

    fn put_on_v6(self, frame: &mut Vec<u8>) {
        frame[14] = 0x60 | self.octet >> 4;
        frame[15] = self.octet << 4 | frame[15] & 15;
        if let Some(label) = self.label {
            // Hop-by-hop options before TCP: CALIPSO without compartments, and padding. Its checksum (RFC 5570 5.1.6) is not for
            // who skips the option.
            let calipso = [7, 8, 0, 0, 0, 1, 0, label, 0, 0];
            let options = [&[6, 1][..], &calipso, &[1, 2, 0, 0]].concat();
            frame.splice(54..54, options);
            frame[20] = 0;
            frame[19] += 16;
        }
    }
}

/// The peer opens, sends text, and closes first.
fn opened_by_the_peer(v6: bool, marks: &[Mark]) -> CameTo {
    let mut bench = Bench::new(Settings::default(), v6);
    bench.listen(ConnectionOptions::default()).expect("a listener");
    let mut peer = Marking::new(bench, marks);
    let options = Options { mss: Some(1460), ..Options::default() };
    let syn_ack = peer.say(&Segment { options, ..peer.next(Flags::SYN) }, &[]).expect("an answer to the SYN");
    assert_eq!(syn_ack.seg.flags, SYN_ACK);
    peer.bench.ack = syn_ack.seg.seq + 1;
    peer.say(&peer.next(Flags::ACK), &[]);
    for _ in 0..6 {
        peer.say(&peer.next(Flags::ACK), b"text");
    }
    let fin_acked = peer.say(&peer.next(FIN_ACK), &[]).expect("an answer to the FIN");
    assert_eq!(fin_acked.seg.ack, peer.bench.seq, "all is acknowledged");
    peer.read(6);
    let handle = peer.bench.handle();
    peer.bench.shard.calls(peer.bench.now).close(handle).expect("open");
    let fin = peer.bench.turn(1);
    assert!(fin.len() == 1 && fin[0].seg.flags.fin(), "{fin:?}");
    peer.bench.ack = fin[0].seg.end();
    peer.say(&peer.next(Flags::ACK), &[]);
    peer.came_to()
}

/// The stack opens, and the peer's reset ends it, which is one whatever its marks.
fn opened_by_the_stack(v6: bool, marks: &[Mark]) -> CameTo {
    let mut bench = Bench::new(Settings::default(), v6);
    bench.connect(ConnectionOptions::default());
    let mut peer = Marking::new(bench, marks);
    let options = Options { mss: Some(1460), ..Options::default() };
    peer.say(&Segment { options, ..peer.next(SYN_ACK) }, &[]).expect("an answer to the SYN-ACK");
    peer.say(&peer.next(Flags::ACK), b"text");
    peer.say(&peer.next(Flags::ACK), b"text");
    peer.read(2);
    peer.say(&peer.next(Flags(Flags::RST.0 | Flags::ACK.0)), &[]);
    peer.came_to()
}
