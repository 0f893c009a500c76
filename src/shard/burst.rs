//! What one turn holds between its stages: frames in hand, what they mean, and what they call for.

use crate::counters::{DropReason, Drops};
use crate::flow::index::Hash;
use crate::four_tuple::FourTuple;
use crate::ids::Value;
use crate::limits::Limits;
use crate::link::{Frame, Link};
use crate::neighbor::NeighborId;
use crate::tcp::Answer;
use crate::tcp::connection_options::ConnectionOptions;
use crate::tcp::cookie::SynAck;
use crate::tcp::time_wait::{TimeWaitV4, TimeWaitV6};
use crate::wire::ethernet::MacAddress;
use crate::wire::tcp::Segment;
use crate::wire::{arp, icmp, ndp};
use alloc::vec::Vec;
use core::mem::size_of;
use core::net::IpAddr;

/// The working space of a turn. Every vector has its capacity from the start; none grows.
#[derive(Debug)]
pub(super) struct Burst {
    /// Frames as the link delivered them; a place is emptied when its frame is sent back as an answer.
    pub received: Vec<Frame>,
    /// The same frames while the turn works on them.
    pub frames: Vec<Option<Frame>>,
    /// How many functions were asked about each of the first frames, which other shards have handed over.
    pub handed: Vec<u8>,
    /// TCP segments for this stack.
    pub arrivals: Vec<Arrival>,
    /// Everything else that parsed.
    pub controls: Vec<Control>,
    /// Text for applications, in order of arrival.
    pub texts: Vec<Text>,
    /// What is answered from the received frame itself.
    pub answers: Vec<Reply>,
    /// TCBs whose deadline has come.
    pub due: Vec<u32>,
    /// IPv4 TIME-WAIT records whose 2MSL is over.
    pub expired_v4: Vec<(u32, TimeWaitV4)>,
    /// IPv6 TIME-WAIT records whose 2MSL is over.
    pub expired_v6: Vec<(u32, TimeWaitV6)>,
    /// The hashes of their 4-tuples, IPv4 first.
    pub hashes: Vec<Hash>,
    /// Neighbours to be asked for.
    pub asks: Vec<IpAddr>,
    /// Neighbours that have not answered.
    pub silent: Vec<NeighborId>,
    /// Frames dropped so far, by reason.
    pub drops: Drops,
    /// Reasons seen for the first time, for whoever warns.
    pub first_drops: Vec<(DropReason, MacAddress)>,
}

/// A TCP segment with what find has learned of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// Its 4-tuple, as this end sees it.
    pub tuple: FourTuple,
    /// The segment.
    pub segment: Segment,
    /// Its frame's place in the burst.
    pub frame: u16,
    /// Who put the frame on this wire.
    pub src_mac: MacAddress,
    /// The interface that it came on.
    pub interface: u8,
    /// The keyed hash of the 4-tuple.
    pub hash: Hash,
    /// Find's hint: the first entry whose tag fits, and the bucket's change count when it was read.
    pub hint: Option<Value>,
    /// See `hint`.
    pub change_count: u16,
}

/// A packet that is not TCP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Control {
    /// Its frame's place in the burst.
    pub frame: u16,
    /// The interface that it came on.
    pub interface: u8,
    /// What it says.
    pub message: Message,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Message {
    Arp(arp::Packet),
    Ndp(ndp::Packet),
    Echo(icmp::Echo),
    Error(icmp::Error),
}

/// In-order text of one segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    /// The connection.
    pub number: u32,
    /// The frame's place in the burst.
    pub frame: u16,
    /// Where the text begins in the frame, bytes.
    pub offset: u16,
    /// Its length, bytes.
    pub len: u16,
    /// Pieces that came before and follow it.
    pub pieces: u8,
}

/// A reply that is built in the received frame and goes back to the MAC that it came from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    /// A segment without a TCB.
    Segment { frame: u16, tuple: FourTuple, answer: Answer, marks: IpMarks },
    /// A SYN-ACK that carries a cookie.
    SynAck { frame: u16, tuple: FourTuple, syn_ack: SynAck, marks: IpMarks },
    /// An ARP reply.
    Arp { frame: u16, request: arp::Packet },
    /// A neighbour advertisement.
    Advertisement { frame: u16, solicitation: ndp::Solicitation },
    /// An echo reply.
    Echo { frame: u16, request: icmp::Echo },
}

/// What a connection's options put into the IP header.
#[derive(Clone, Copy, Debug)]
pub(super) struct IpMarks {
    pub ttl: u8,
    pub dscp: u8,
}

impl IpMarks {
    pub(super) const fn of(options: &ConnectionOptions) -> IpMarks {
        IpMarks { ttl: options.ttl, dscp: options.dscp }
    }
}

impl Burst {
    pub(super) fn new(limits: &Limits) -> Burst {
        let (burst, expiries) = (frames_max(limits), expire_budget(limits));
        Burst {
            received: Vec::with_capacity(limits.burst as usize),
            frames: Vec::with_capacity(burst),
            handed: Vec::with_capacity(handed_max(limits)),
            arrivals: Vec::with_capacity(burst),
            controls: Vec::with_capacity(burst),
            texts: Vec::with_capacity(burst),
            answers: Vec::with_capacity(burst),
            due: Vec::with_capacity(expiries),
            expired_v4: Vec::with_capacity(expiries),
            expired_v6: Vec::with_capacity(expiries),
            hashes: Vec::with_capacity(2 * expiries),
            asks: Vec::with_capacity(burst),
            silent: Vec::with_capacity(burst),
            drops: Drops::default(),
            first_drops: Vec::with_capacity(DropReason::ALL.len()),
        }
    }

    /// The bytes of the frame in place `place`.
    #[inline]
    pub(super) fn bytes<'a, L: Link>(&self, link: &'a L, place: u16) -> &'a [u8] {
        self.frames[usize::from(place)].as_ref().map_or(&[], |frame| link.bytes(frame))
    }

    /// How many functions were asked about the owner of the frame in place `place`; 0 for one of this shard's own queue.
    #[inline]
    pub(super) fn asked(&self, place: u16) -> u8 {
        self.handed.get(usize::from(place)).copied().unwrap_or(0)
    }

    /// Bytes that the working space takes.
    pub(super) fn bill(limits: &Limits) -> u64 {
        let per_frame = size_of::<Frame>()
            + size_of::<Option<Frame>>()
            + size_of::<Arrival>()
            + size_of::<Control>()
            + size_of::<Text>()
            + size_of::<Reply>()
            + size_of::<IpAddr>();
        let per_expiry =
            size_of::<u32>() + size_of::<(u32, TimeWaitV4)>() + size_of::<(u32, TimeWaitV6)>() + 2 * size_of::<Hash>();
        (frames_max(limits) * per_frame + expire_budget(limits) * per_expiry) as u64
    }
}

/// Frames of a turn that other shards may have handed over: the link has its whole burst besides.
pub(super) fn handed_max(limits: &Limits) -> usize {
    (limits.burst as usize).div_ceil(2)
}

fn frames_max(limits: &Limits) -> usize {
    limits.burst as usize + handed_max(limits)
}

/// Deadlines and TIME-WAIT records that one turn treats: 2.7 times what its segments can create, at least 256.
pub(super) fn expire_budget(limits: &Limits) -> usize {
    (4 * limits.burst as usize).max(256)
}
