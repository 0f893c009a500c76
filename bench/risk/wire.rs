//! The wire between the ends: it passes frames on, gives an end random ISNs where asked, and aims old segments.

use super::ends::Incarnations;
use super::history::{Explained, History, Old, Wanted};
use super::moment::{Moment, Progress};
use super::workload::{End, Isns, Workload};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::Relaxed;
use synfin::four_tuple::Addresses;
use synfin::link::{Frame, Link};
use synfin::seq::Seq;
use synfin::tick::Now;
use synfin::wire::ethernet::MacAddress;
use synfin::wire::tcp::{Flags, Options, Segment, SegmentOut};
use synfin::wire::{Expect, Parsed, Path, parse, tcp};

/// What the wire has done.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Passed {
    /// Old segments sent, by the moment that they were aimed at.
    pub aimed: [u64; Moment::ALL.len()],
    /// Incarnations at which at least one old segment with text was aimed.
    pub incarnations_aimed: u64,
    /// Of all old segments, those with text.
    pub aimed_with_text: u64,
    /// Of all old segments, those whose sequence numbers lay in the receiver's window then.
    pub reached_a_window: u64,
    /// SYN-ACKs lost on purpose.
    pub syn_acks_lost: u64,
    /// Frames of both directions, old ones included.
    #[serde(skip)]
    pub frames: u64,
    /// Frames for which there was no room; must stay 0.
    #[serde(skip)]
    pub no_room: u64,
}

impl Passed {
    /// Both together.
    pub(crate) fn plus(self, other: Passed) -> Passed {
        Passed {
            aimed: std::array::from_fn(|moment| self.aimed[moment] + other.aimed[moment]),
            incarnations_aimed: self.incarnations_aimed + other.incarnations_aimed,
            aimed_with_text: self.aimed_with_text + other.aimed_with_text,
            reached_a_window: self.reached_a_window + other.reached_a_window,
            syn_acks_lost: self.syn_acks_lost + other.syn_acks_lost,
            frames: self.frames + other.frames,
            no_room: self.no_room + other.no_room,
        }
    }
}

/// Both directions of the wire and what it knows of every 4-tuple. Its links may be of memory, or lead to the other end.
pub(crate) struct Wire<L> {
    pub passed: Passed,
    workload: Workload,
    first_port: u16,
    age_max_us: u64,
    /// The wire's end of the client's and of the server's link.
    links: [L; 2],
    paths: [Path; 2],
    server_port: u16,
    fill: Fill,
    connections: Vec<Connection>,
    incarnations: Incarnations,
    /// The options of the last SYN of either end: those of an old one are the same but for its timestamps.
    syn_options: [Options; 2],
    random: SmallRng,
    burst: Vec<Frame>,
    scratch: Vec<u8>,
}

/// A 4-tuple, by what has passed.
struct Connection {
    history: History,
    progress: Progress,
    sides: [Side; 2],
    /// Whether old text was aimed at the running incarnation.
    aimed: bool,
    /// The segment that the ISNs of this incarnation have come to.
    target: Option<Old>,
}

/// One end of a 4-tuple, by the segments that it has sent.
#[derive(Clone, Copy, Default)]
struct Side {
    /// Its ISS, as it sent it.
    iss: Option<Seq>,
    /// What is added to its sequence numbers on the way.
    shift: u32,
    /// What it has acknowledged and the window that it has offered, once it has acknowledged anything.
    window: Option<(Seq, u32)>,
    scale: u8,
}

/// Where connections run, and what they carry.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    /// The client's port of 4-tuple 0; the others follow.
    pub first: u16,
    /// The server's port.
    pub server: u16,
    /// What the ends send.
    pub fill: Fill,
}

/// Writes what an end sends in one incarnation of a 4-tuple, from an offset on.
pub(crate) type Fill = fn(tuple: usize, incarnation: u32, from: End, offset: u32, out: &mut [u8]);

impl<L: Link> Wire<L> {
    /// A wire between `links`, whose other ends are the client's and the server's. Old segments are at most `age_max_us` old.
    pub(crate) fn new(
        links: [L; 2],
        paths: [Path; 2],
        workload: &Workload,
        ports: Ports,
        incarnations: Incarnations,
        age_max_us: u64,
        seed: u64,
    ) -> Wire<L> {
        let connection = || Connection {
            history: History::new(),
            progress: Progress::default(),
            sides: [Side::default(); 2],
            aimed: false,
            target: None,
        };
        Wire {
            passed: Passed::default(),
            workload: *workload,
            first_port: ports.first,
            age_max_us,
            links,
            paths,
            server_port: ports.server,
            fill: ports.fill,
            connections: incarnations.iter().map(|_| connection()).collect(),
            incarnations,
            syn_options: [Options::default(); 2],
            random: SmallRng::seed_from_u64(seed),
            burst: Vec::with_capacity(BURST),
            scratch: vec![0; 2048],
        }
    }

    /// Passes on what `from` has sent.
    pub(crate) fn pass(&mut self, from: End, now: Now) {
        loop {
            let mut burst = std::mem::take(&mut self.burst);
            self.links[from as usize].receive(&mut burst, BURST);
            let count = burst.len();
            for frame in burst.drain(..) {
                self.frame(from, &frame, now);
                self.links[from as usize].give_back(frame);
            }
            self.burst = burst;
            if count == 0 {
                break;
            }
        }
        for link in &mut self.links {
            link.flush();
        }
    }

    /// The link towards an end.
    pub(crate) fn link(&self, end: End) -> &L {
        &self.links[end as usize]
    }

    /// Whose octets these are that `to` should not have received.
    pub(crate) fn explain(&self, tuple: usize, to: End, incarnation: u32, offset: u32, bytes: &[u8]) -> Explained {
        self.connections[tuple].history.explain(self.fill, tuple, to, incarnation, offset, bytes)
    }

    fn frame(&mut self, from: End, frame: &Frame, now: Now) {
        self.passed.frames += 1;
        let expect = Expect { mac: self.paths[from as usize].dst_mac, mtu: 1500, vlan: None, verify_checksums: false };
        let parsed = parse(self.links[from as usize].bytes(frame), &expect);
        let Ok(Parsed::Tcp(packet)) = parsed else { return self.copy(from, frame) };
        let port = if from == End::Client { packet.tuple.remote_port } else { packet.tuple.local_port };
        let tuple = usize::from(port.wrapping_sub(self.first_port));
        if tuple < self.connections.len() {
            self.segment(from, frame, packet.segment, tuple, now);
        }
    }

    fn segment(&mut self, from: End, frame: &Frame, sent: Segment, tuple: usize, now: Now) {
        if sent.flags.syn() {
            self.syn(from, &sent, tuple, now);
        }
        let connection = &mut self.connections[tuple];
        connection.sides[from as usize].note(&sent);
        let [mine, theirs] = [from, from.other()].map(|end| connection.sides[end as usize].shift);
        let segment = Segment { seq: sent.seq + mine, ack: sent.ack.back(theirs), ..sent };
        connection.history.note(from, &segment, now.us());
        let moment = connection.progress.passes(from, &segment);
        if sent.flags.has(Flags::SYN | Flags::ACK)
            && self.workload.syn_acks_lost > 0.0
            && self.random.random::<f64>() < self.workload.syn_acks_lost
        {
            self.passed.syn_acks_lost += 1;
            return;
        }
        let before = moment.filter(|moment| *moment != Moment::TimeWait);
        if let Some(moment) = before {
            self.aim(moment, from, tuple, now);
        }
        if (mine, theirs) == (0, 0) {
            self.copy(from, frame);
        } else {
            self.rewritten(from, frame, tuple, &segment, theirs);
        }
        if moment == Some(Moment::TimeWait) {
            self.aim(Moment::TimeWait, from, tuple, now);
        }
    }

    /// A SYN: where its ISN is new, so is the incarnation, or the server's half of it.
    fn syn(&mut self, from: End, syn: &Segment, tuple: usize, now: Now) {
        self.syn_options[from as usize] = syn.options;
        let connection = &mut self.connections[tuple];
        if connection.sides[from as usize].iss == Some(syn.seq) {
            return;
        }
        if from == End::Client {
            connection.history.begin(self.incarnations[tuple].load(Relaxed));
            connection.progress = Progress::default();
            connection.aimed = false;
            connection.sides.iter_mut().for_each(|side| side.window = None);
            connection.target = match self.workload.isns {
                // Every other ISN comes to an old text; those between keep them apart.
                Isns::Aimed if self.random.random() => {
                    connection.history.draw(End::Client, Wanted::Text, now.us(), self.age_max_us, &mut self.random)
                }
                Isns::Aimed | Isns::Clocked | Isns::Random(_) => None,
            };
        }
        let isn = match (self.workload.isns, connection.target) {
            (Isns::Random(end), _) if end == from => Seq(self.random.random()),
            // The old text begins where the new one does.
            (Isns::Aimed, Some(old)) if from == End::Client => old.seq.back(1),
            (Isns::Aimed, None) if from == End::Client => Seq(self.random.random()),
            _ => syn.seq,
        };
        connection.sides[from as usize].iss = Some(syn.seq);
        connection.sides[from as usize].shift = isn - syn.seq;
        connection.history.set_isn(from, isn);
    }

    /// Sends one old segment at this moment, which a segment of `from` has brought about.
    fn aim(&mut self, moment: Moment, from: End, tuple: usize, now: Now) {
        let connection = &mut self.connections[tuple];
        let to = match moment {
            Moment::SynSent => End::Client,
            Moment::SynReceived => End::Server,
            Moment::TimeWait => connection.progress.closed_first().unwrap_or(from),
            Moment::FirstText | Moment::Middle | Moment::Close if self.random.random() => End::Client,
            Moment::FirstText | Moment::Middle | Moment::Close => End::Server,
        };
        let wanted = if self.random.random() { Wanted::Text } else { Wanted::Any };
        let drawn = match (self.workload.isns, connection.target, connection.sides[End::Server as usize].iss) {
            // As if the server's ISN were random too, and had come to what the old segment acknowledges.
            (Isns::Aimed, Some(old), Some(iss)) if moment == Moment::FirstText => {
                let young = now.us() - old.sent_us <= self.age_max_us;
                young.then_some(Old { ack: iss + 1, ..old })
            }
            // What else is sent again would only disturb the one that is aimed.
            (Isns::Aimed, ..) => None,
            (Isns::Clocked | Isns::Random(_), ..) => {
                connection.history.draw(to.other(), wanted, now.us(), self.age_max_us, &mut self.random)
            }
        };
        let Some(old) = drawn else { return };
        let to = old.from.other();
        let reached = connection.sides[to as usize].reached_by(&old);
        self.passed.aimed[moment as usize] += 1;
        if old.text.1 > 0 {
            self.passed.aimed_with_text += 1;
            self.passed.incarnations_aimed += u64::from(!connection.aimed);
            connection.aimed = true;
        }
        self.passed.reached_a_window += u64::from(reached);
        self.passed.frames += 1;
        self.send_again(&old, tuple);
    }

    /// An old segment as its sender sent it, with the text that it had.
    fn send_again(&mut self, old: &Old, tuple: usize) {
        let (offset, len) = old.text;
        (self.fill)(tuple, old.incarnation, old.from, offset, &mut self.scratch[..usize::from(len)]);
        let mut options = if old.flags.syn() { self.syn_options[old.from as usize] } else { Options::default() };
        options.timestamps = old.timestamps;
        let segment = Segment {
            seq: old.seq,
            ack: old.ack,
            wnd: old.wnd,
            flags: old.flags,
            options,
            payload_len: len,
            ..Segment::default()
        };
        self.emit(old.from, tuple, &segment, &[]);
    }

    /// A frame with other sequence numbers.
    fn rewritten(&mut self, from: End, frame: &Frame, tuple: usize, segment: &Segment, theirs: u32) {
        let bytes = self.links[from as usize].bytes(frame);
        let mut sack = segment.sack_blocks(bytes);
        for (left, right) in &mut sack.blocks {
            (*left, *right) = (left.back(theirs), right.back(theirs));
        }
        let text = segment.payload(bytes);
        self.scratch[..text.len()].copy_from_slice(text);
        self.emit(from, tuple, segment, sack.as_slice());
    }

    /// Builds a segment whose text lies in the scratch.
    fn emit(&mut self, from: End, tuple: usize, segment: &Segment, sack: &[(Seq, Seq)]) {
        let client_port = self.first_port + tuple as u16;
        let (src_port, dst_port) =
            if from == End::Client { (client_port, self.server_port) } else { (self.server_port, client_port) };
        let Segment { seq, ack, wnd, up, flags, ref options, payload_len, .. } = *segment;
        let out = SegmentOut { src_port, dst_port, seq, ack, wnd, up, flags, options, sack };
        let payload = [&self.scratch[..usize::from(payload_len)], &[]];
        let link = &mut self.links[from.other() as usize];
        let sent = link.take().is_some_and(|mut frame| {
            let len = tcp::emit(link.bytes_mut(&mut frame), &self.paths[from as usize], &out, &payload);
            link.send(frame, len).map_err(|frame| link.give_back(frame)).is_ok()
        });
        self.passed.no_room += u64::from(!sent);
    }

    fn copy(&mut self, from: End, frame: &Frame) {
        let [client, server] = &mut self.links;
        let (source, sink) = if from == End::Client { (client, server) } else { (server, client) };
        let bytes = source.bytes(frame);
        let sent = sink.take().is_some_and(|mut frame| {
            sink.bytes_mut(&mut frame)[..bytes.len()].copy_from_slice(bytes);
            sink.send(frame, bytes.len()).map_err(|frame| sink.give_back(frame)).is_ok()
        });
        self.passed.no_room += u64::from(!sent);
    }
}

impl Side {
    /// Notes what a segment of this end says of it.
    fn note(&mut self, segment: &Segment) {
        if segment.flags.syn() {
            self.scale = segment.options.window_scale.unwrap_or(0);
        }
        if segment.flags.ack() && !segment.flags.rst() {
            let scale = if segment.flags.syn() { 0 } else { self.scale };
            self.window = Some((segment.ack, u32::from(segment.wnd) << scale));
        }
    }

    /// Whether any octet of an old segment lies in the window that this end has offered.
    fn reached_by(&self, old: &Old) -> bool {
        let len = u32::from(old.text.1) + u32::from(old.flags.syn()) + u32::from(old.flags.fin());
        let within = |seq: Seq| self.window.is_some_and(|(next, window)| seq - next < window);
        within(old.seq) || (len > 0 && within(old.seq + (len - 1)))
    }
}

/// The path of frames from one end to the other.
pub(crate) fn path(from: MacAddress, to: MacAddress, addresses: Addresses) -> Path {
    Path { src_mac: from, dst_mac: to, vlan: None, addresses, ttl: 64, dscp_ecn: 0 }
}

/// Frames moved at a time.
const BURST: usize = 64;
