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
use crate::touched::room;
use crate::wire::ethernet::MacAddress;
use crate::wire::tcp::Segment;
use crate::wire::{arp, icmp, ndp};
use alloc::vec::Vec;
use core::mem::size_of;
use core::net::{IpAddr, Ipv4Addr};

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
        let (nobody, unknown) = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), MacAddress::default());
        let tuple = FourTuple::default();
        let request = arp::Packet {
            operation: arp::Operation::Request,
            sender_mac: unknown,
            sender_ip: Ipv4Addr::UNSPECIFIED,
            target_mac: unknown,
            target_ip: Ipv4Addr::UNSPECIFIED,
        };
        let arrival = Arrival {
            tuple,
            segment: Segment::default(),
            frame: 0,
            src_mac: unknown,
            interface: 0,
            hash: Hash::default(),
            hint: None,
            change_count: 0,
        };
        Burst {
            // Only a link can make frames, so that nobody else can write where they will be: 2 kB at most.
            received: Vec::with_capacity(limits.burst as usize),
            frames: room(burst, || None),
            handed: room(handed_max(limits), || 0),
            arrivals: room(burst, || arrival),
            controls: room(burst, || Control { frame: 0, interface: 0, message: Message::Arp(request) }),
            texts: room(burst, || Text { number: 0, frame: 0, offset: 0, len: 0, pieces: 0 }),
            answers: room(burst, || Reply::Arp { frame: 0, request }),
            due: room(expiries, || 0),
            expired_v4: room(expiries, || (0, TimeWaitV4::default())),
            expired_v6: room(expiries, || (0, TimeWaitV6::default())),
            hashes: room(2 * expiries, Hash::default),
            asks: room(burst, || nobody),
            silent: room(burst, || NeighborId::NONE),
            drops: Drops::default(),
            first_drops: room(DropReason::ALL.len(), || (DropReason::ALL[0], unknown)),
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
            + size_of::<IpAddr>()
            + size_of::<NeighborId>();
        let per_expiry =
            size_of::<u32>() + size_of::<(u32, TimeWaitV4)>() + size_of::<(u32, TimeWaitV6)>() + 2 * size_of::<Hash>();
        let once = handed_max(limits) + DropReason::ALL.len() * size_of::<(DropReason, MacAddress)>();
        (frames_max(limits) * per_frame + expire_budget(limits) * per_expiry + once) as u64
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
