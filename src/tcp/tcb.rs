//! The TCB: RFC 9293 3.3.1's variables under their names, and what the RFCs beside it add.

use super::congestion::{Conditions, Congestion};
use super::connection_options::OptionsId;
use super::rate::AckBudget;
use super::recovery::Recovery;
use super::rto::Rto;
use super::state::{CloseReason, State};
use super::time_wait::Numbers;
use super::{Context, connection_options, isn};
use crate::bits::Bits;
use crate::four_tuple::FourTuple;
use crate::seq::Seq;
use crate::tick::{CoarseTick, Deadline, Now, Tick};
use core::mem::offset_of;
use core::ops::{Deref, DerefMut};

/// One connection's protocol state. Buffers, lists and timers that it is in belong to the shard, and so do its sockets, which RFC 9293
/// 3.3.1 counts among a TCB's variables: only look-up and headers ask for them, and they lie in the shard's table of names, so that this
/// is small. Here is only of which family they are. Its fields lie as they are written: what every segment asks for ([`Tcb::HOT_BYTES`]),
/// then what sending, acknowledgments and losses change.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct Tcb {
    /// Send unacknowledged.
    pub snd_una: Seq,
    /// Send next: one past the highest octet ever sent.
    pub snd_nxt: Seq,
    /// Where transmission continues: equals `snd_nxt`, and lies before it while lost octets are sent again.
    pub snd_resume: Seq,
    /// One past the last octet of the send buffer: where a queued FIN stands.
    pub send_end: Seq,
    /// Send window, bytes, scale applied.
    pub snd_wnd: u32,
    /// Segment sequence number of the last window update. SND.WL2 is not kept: no update acknowledges more than SND.UNA, and
    /// what acknowledges less than that updates nothing.
    pub snd_wl1: Seq,

    /// Receive next.
    pub rcv_nxt: Seq,
    /// Right edge of the window last offered; the receive window is `rcv_edge - rcv_nxt` and never shrinks (SHLD-14).
    pub rcv_edge: Seq,
    /// Octets received in order that the application has not taken.
    pub unread_bytes: u32,

    /// Last.ACK.sent (RFC 7323 4.3).
    pub last_ack_sent: Seq,
    /// Offset of our timestamp clock (RFC 7323 5.4).
    pub ts_offset: u32,
    /// TS.Recent (RFC 7323 4.3).
    pub ts_recent: u32,

    /// Retransmission or persist deadline (RFC 9293 3.8.1, 3.8.6.1).
    pub retransmit_at: Deadline,
    /// Delayed-ACK deadline (RFC 9293 3.8.6.3).
    pub delayed_ack_at: Deadline,
    /// Until when the connection waits for what must come next (`waits`).
    pub waits_until: Deadline,

    /// Effective send MSS before options, bytes.
    pub mss: u16,
    /// What the SYNs agreed on.
    pub agreed: Agreed,
    /// When TS.Recent was taken: PAWS forgets it after 24 days (RFC 7323 5.5).
    pub ts_recent_at: CoarseTick,
    /// What is owed to the peer.
    pub owed: Owed,

    /// Its state.
    pub state: State,
    /// What is true of it and takes one bit.
    pub facts: Bits<Fact>,
    /// Keepalive probes that have not been answered.
    pub keepalive_probes: u8,
    /// Retransmissions in a row without progress.
    pub retries: u8,
    /// ACKs that unacceptable segments may still bring (RFC 5961 7).
    pub ack_budget: AckBudget,
    /// Why the connection ended; meaningful in CLOSED.
    pub reason: Option<CloseReason>,
    /// Its option set.
    pub options: OptionsId,

    /// The largest window the peer has ever offered, bytes: asked when a window grows, of an ACK older than SND.UNA (RFC 5961 5.2), of text
    /// that is less than a segment and may not go for another reason (SWS avoidance), and by a RST into a closed window.
    pub snd_wnd_max: u32,
    /// With [`Fact::URGENT`] the send urgent pointer: the first octet that is not urgent, or none that is not acknowledged.
    pub snd_up: Seq,
    /// With [`Fact::URGENT`] the receive urgent pointer: the first octet that is not urgent, or none that is still to come.
    pub rcv_up: Seq,

    /// Retransmission time-out.
    pub rto: Rto,
    /// Congestion control.
    pub congestion: Congestion,
    /// Loss recovery.
    pub recovery: Recovery,
    /// A segment that is being timed: its end, and when it was sent. Its acknowledgment measures the round trip where no
    /// timestamps do (Karn: cleared on retransmission), and a probe waits no longer than its time-out. After a time-out, with
    /// timestamps, the first octet that was sent again, to see whether that was spurious (RFC 3522).
    pub timed: Timed,
}

/// A segment whose round trip is measured, or none; then, with nothing in flight, `end` is when the last was acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Timed {
    end: Seq,
    sent_at: Deadline,
}

impl Timed {
    /// No segment is being timed.
    pub const NONE: Timed = Timed { end: Seq(0), sent_at: Deadline::NONE };

    /// No segment is being timed, for all that was sent has been acknowledged, at `now` the last.
    pub const fn over(now: Tick) -> Timed {
        Timed { end: Seq(now.0), ..Timed::NONE }
    }

    /// For how long nothing has been sent, ticks, if all has been acknowledged.
    pub fn silent_for(self, now: Tick) -> Option<u32> {
        (!self.is_on() && self != Timed::NONE).then(|| now.since(Tick(self.end.0)))
    }

    /// The segment that ends before `end` and is sent at `now`.
    #[inline]
    pub const fn segment(end: Seq, now: Tick) -> Timed {
        Timed { end, sent_at: Deadline::at(now) }
    }

    /// Whether a segment is being timed.
    #[inline]
    pub const fn is_on(self) -> bool {
        self.sent_at.is_set()
    }

    /// When the segment was sent, if one is being timed.
    #[inline]
    pub const fn sent_at(self) -> Option<Tick> {
        self.sent_at.tick()
    }

    /// When the segment was sent, if `ack` acknowledges all of it.
    #[inline]
    pub fn acknowledged(self, ack: Seq) -> Option<Tick> {
        self.sent_at.tick().filter(|_| ack.ge(self.end))
    }
}

/// What is true of a connection, in the order in which it becomes so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fact {}

impl Fact {
    /// It was opened by an OPEN call, not by a listener.
    pub const OPENED_ACTIVELY: Bits<Fact> = Bits::bit(0);
    /// The application has closed both directions: it takes no more bytes.
    pub const APP_CLOSED: Bits<Fact> = Bits::bit(1);
    /// A FIN follows the last octet of the send buffer.
    pub const FIN_QUEUED: Bits<Fact> = Bits::bit(2);
    /// An ICMP error has said since the last progress why there may be none (SHLD-25).
    pub const SOFT_ERROR: Bits<Fact> = Bits::bit(3);
    /// A segment of the current MSS has arrived, as far as one can see from here: with Nagle's algorithm at most one segment
    /// in flight is smaller, so whoever acknowledges so many octets at once has had a large one.
    pub const LARGE_ACKNOWLEDGED: Bits<Fact> = Bits::bit(4);
    /// The application has not heard of it: accepting waits for text.
    pub const ACCEPT_DEFERRED: Bits<Fact> = Bits::bit(5);
    /// It runs over IPv6, as its 4-tuple says.
    pub const OVER_IPV6: Bits<Fact> = Bits::bit(6);
    /// Urgent data was sent or has come: its pointers have a meaning from then on.
    pub const URGENT: Bits<Fact> = Bits::bit(7);

    /// What its 4-tuple says.
    #[inline]
    pub(super) const fn of(tuple: &FourTuple) -> Bits<Fact> {
        if tuple.is_v4() { Bits::NONE } else { Fact::OVER_IPV6 }
    }
}

/// How a connection was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Opened {
    /// By a listener.
    #[default]
    Passively,
    /// By an OPEN call.
    Actively,
}

/// What both SYNs agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Agreed {
    options: Bits<Agreed>,
    /// Both shifts, each at most 14: that of windows that we receive in the low half, that of windows that we offer above.
    shifts: u8,
}

impl Agreed {
    /// With window scaling by these shifts, of windows that we receive and that we offer; each at most 14.
    #[must_use]
    pub const fn scaled(self, snd_shift: u8, rcv_shift: u8) -> Agreed {
        let mut options = self.options;
        options.add(Agreed::WINDOW_SCALE);
        Agreed { options, shifts: snd_shift & 15 | rcv_shift << 4 }
    }

    /// Both sides offered timestamps; in SYN-SENT, those of the former incarnation did.
    #[inline]
    pub const fn timestamps(self) -> bool {
        self.options.has(Agreed::TIMESTAMPS)
    }

    /// See [`Agreed::timestamps`].
    pub const fn set_timestamps(&mut self, agreed: bool) {
        self.options.set(Agreed::TIMESTAMPS, agreed);
    }

    /// Both sides offered SACK.
    #[inline]
    pub const fn sack(self) -> bool {
        self.options.has(Agreed::SACK)
    }

    /// See [`Agreed::sack`].
    pub const fn set_sack(&mut self, agreed: bool) {
        self.options.set(Agreed::SACK, agreed);
    }

    /// Both sides offered window scaling.
    #[inline]
    pub const fn window_scale(self) -> bool {
        self.options.has(Agreed::WINDOW_SCALE)
    }

    /// The peer's SYN had an MSS option, so that our SYN-ACK has one too.
    #[inline]
    pub const fn mss(self) -> bool {
        self.options.has(Agreed::MSS)
    }

    /// See [`Agreed::mss`].
    pub const fn set_mss(&mut self, offered: bool) {
        self.options.set(Agreed::MSS, offered);
    }

    /// Shift of windows that we receive.
    #[inline]
    pub const fn snd_shift(self) -> u8 {
        self.shifts & 15
    }

    /// Shift of windows that we offer.
    #[inline]
    pub const fn rcv_shift(self) -> u8 {
        self.shifts >> 4
    }

    const TIMESTAMPS: Bits<Agreed> = Bits::bit(0);
    const SACK: Bits<Agreed> = Bits::bit(1);
    const WINDOW_SCALE: Bits<Agreed> = Bits::bit(2);
    const MSS: Bits<Agreed> = Bits::bit(3);
}

/// What the next turn of transmission owes the peer. A small record, not a bit: how many, and how urgently.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C, align(2))]
pub struct Owed {
    /// What there is one of.
    once: Bits<Owed>,
    /// Duplicate ACKs for segments out of order, one each up to a bound.
    pub duplicate_acks: u8,
}

impl Owed {
    /// Our SYN (SYN-SENT) or SYN-ACK (SYN-RECEIVED).
    pub const SYN: Bits<Owed> = Bits::bit(0);
    /// An ACK that must not be delayed.
    pub const ACK_NOW: Bits<Owed> = Bits::bit(1);
    /// Text has been received: an ACK, which may be delayed.
    pub const ACK: Bits<Owed> = Bits::bit(2);
    /// A RST: the connection was aborted. It is all that a TCB in CLOSED can owe.
    pub const RESET: Bits<Owed> = Bits::bit(3);
    /// Octets or a FIN that windows may now allow.
    pub const DATA: Bits<Owed> = Bits::bit(4);
    /// The first unacknowledged segment again.
    pub const RESEND_FIRST: Bits<Owed> = Bits::bit(5);
    /// A window probe (RFC 9293 3.8.6.1).
    pub const PROBE: Bits<Owed> = Bits::bit(6);
    /// The peer should learn that the window has opened.
    pub const WINDOW_UPDATE: Bits<Owed> = Bits::bit(7);
}

/// Everything but duplicate ACKs is asked for and noted as in a set.
impl Deref for Owed {
    type Target = Bits<Owed>;
    #[inline]
    fn deref(&self) -> &Bits<Owed> {
        &self.once
    }
}

impl DerefMut for Owed {
    #[inline]
    fn deref_mut(&mut self) -> &mut Bits<Owed> {
        &mut self.once
    }
}

/// Most duplicate ACKs owed at a time. Origin: a burst's worth would be an amplifier; three start fast retransmit.
pub const DUPLICATE_ACKS_MAX: u8 = 8;

impl Tcb {
    /// Bytes from its beginning on that every segment asks for.
    pub const HOT_BYTES: usize = offset_of!(Tcb, snd_wnd_max);

    /// A TCB for an active open: SYN-SENT, owing its SYN (RFC 9293 3.10.1).
    #[inline(always)]
    pub fn open_actively(tuple: &FourTuple, cx: &Context<'_>) -> Tcb {
        let isn::Start { iss, ts_offset } = isn::start(cx.settings.isn_secret, tuple, cx.now);
        let mut tcb = Tcb {
            state: State::SynSent,
            facts: Fact::OPENED_ACTIVELY | Fact::of(tuple),
            snd_una: iss,
            snd_nxt: iss,
            snd_resume: iss,
            send_end: iss + 1,
            ts_offset,
            ..Tcb::default()
        };
        let user_timeout = cx.options.user_timeout.map(connection_options::ticks);
        tcb.waits_until = user_timeout.map_or(Deadline::NONE, |wait| Deadline::at(cx.now.tick().plus(wait)));
        tcb.owed.add(Owed::SYN);
        tcb
    }

    /// Another ISS, before anything has been sent.
    pub fn set_iss(&mut self, iss: Seq) {
        debug_assert!(self.snd_nxt == self.iss(), "the SYN has been sent");
        self.snd_una = iss;
        self.snd_nxt = iss;
        self.snd_resume = iss;
        self.send_end = iss + 1;
    }

    /// B45: PAWS guards the new incarnation from the first segment on by what the former one has seen.
    pub fn inherit_ts_recent(&mut self, former: &Numbers, now: Now) {
        if former.has_timestamps() {
            self.ts_recent = former.ts_recent;
            self.ts_recent_at = CoarseTick::of(now.tick());
            self.agreed.set_timestamps(true);
        }
    }

    /// TS.Recent came from the former incarnation: in SYN-SENT it refuses that one's segments (B45). Nothing else can have
    /// agreed on timestamps there.
    pub fn inherits_ts_recent(&self) -> bool {
        self.state == State::SynSent && self.agreed.timestamps()
    }

    /// Whether it runs over IPv4.
    #[inline]
    pub const fn is_v4(&self) -> bool {
        !self.facts.has(Fact::OVER_IPV6)
    }

    /// How it was opened: SYN-RECEIVED remembers whether to fall back to LISTEN (MUST-11).
    #[inline]
    pub fn opened(&self) -> Opened {
        if self.facts.has(Fact::OPENED_ACTIVELY) { Opened::Actively } else { Opened::Passively }
    }

    /// ISS in SYN-SENT and SYN-RECEIVED, the only states whose rules need it: our SYN has not been acknowledged.
    #[inline]
    pub fn iss(&self) -> Seq {
        debug_assert!(self.syn_is_unacknowledged());
        self.snd_una
    }

    /// Octets sent and not acknowledged, SYN and FIN counted.
    #[inline]
    pub fn flight(&self) -> u32 {
        self.snd_nxt - self.snd_una
    }

    /// What congestion control may know.
    #[inline(always)]
    pub fn conditions(&self, cx: &Context<'_>) -> Conditions {
        let mss = u32::from(self.mss);
        let unsent = self.send_end - self.snd_resume;
        Conditions {
            algorithm: cx.settings.congestion,
            mss,
            flight: self.flight(),
            limited: self.snd_resume.lt(self.send_end) && unsent >= mss && self.snd_wnd > self.congestion.cwnd,
            srtt_us: self.rto.srtt_us,
            now: cx.now.tick(),
        }
    }

    /// RCV.WND: octets that the peer may still send.
    #[inline]
    pub fn rcv_wnd(&self) -> u32 {
        self.rcv_edge - self.rcv_nxt
    }

    /// One past the last octet that the application has taken.
    pub fn read_up_to(&self) -> Seq {
        self.rcv_nxt.back(self.unread_bytes + u32::from(self.has_their_fin()))
    }

    /// The peer's FIN has been received in order. Of what ended otherwise than by FINs it is forgotten.
    pub fn has_their_fin(&self) -> bool {
        match self.state {
            State::CloseWait | State::Closing | State::LastAck => true,
            State::Closed => self.reason == Some(CloseReason::Graceful),
            State::SynSent | State::SynReceived | State::Established | State::FinWait1 | State::FinWait2 => false,
        }
    }

    /// IRS in SYN-RECEIVED, the only state whose rules need it: nothing but the SYN has been received.
    #[inline]
    pub fn irs(&self) -> Seq {
        self.rcv_nxt.back(1)
    }

    /// Octets of the send buffer: what is queued and has not been acknowledged.
    #[inline]
    pub fn send_queued_bytes(&self) -> u32 {
        if self.syn_is_unacknowledged() || self.fin_is_acknowledged() { 0 } else { self.send_end - self.snd_una }
    }

    /// The peer has acknowledged our FIN, which stands behind the last octet.
    #[inline]
    pub fn fin_is_acknowledged(&self) -> bool {
        self.snd_una.gt(self.send_end)
    }

    /// Our FIN has been sent at least once.
    #[inline]
    pub fn fin_is_sent(&self) -> bool {
        self.facts.has(Fact::FIN_QUEUED) && self.snd_nxt.gt(self.send_end)
    }

    /// Our SYN has not been acknowledged.
    #[inline]
    pub fn syn_is_unacknowledged(&self) -> bool {
        matches!(self.state, State::SynSent | State::SynReceived)
    }

    /// Half-open by a listener: no application knows of it yet.
    #[inline]
    pub fn is_half_open_passively(&self) -> bool {
        self.state == State::SynReceived && self.opened() == Opened::Passively
    }

    /// Our timestamp clock (RFC 7323 4.1), ms plus the connection's offset.
    #[inline]
    pub fn ts_now(&self, cx: &Context<'_>) -> u32 {
        cx.now.tick().0.wrapping_add(self.ts_offset)
    }

    /// The earliest deadline, for the timer wheel.
    #[inline]
    pub fn deadline(&self) -> Option<Tick> {
        // Asked twice per segment, and most connections have no other.
        if !self.delayed_ack_at.is_set() && !self.waits_until.is_set() {
            return self.retransmit_at.tick();
        }
        self.retransmit_at.earlier(self.delayed_ack_at).earlier(self.waits_until).tick()
    }

    /// Whether anything waits to be transmitted for this connection now.
    #[inline]
    pub fn owes(&self) -> bool {
        self.owed != Owed::default()
    }

    /// Leaves the connection: nothing is owed, no deadline runs.
    #[inline]
    pub fn end(&mut self, reason: CloseReason) {
        self.state = State::Closed;
        self.reason = Some(reason);
        self.owed = Owed::default();
        self.retransmit_at = Deadline::NONE;
        self.delayed_ack_at = Deadline::NONE;
        self.waits_until = Deadline::NONE;
    }

    /// What must hold between any two events, whatever the network says.
    #[track_caller]
    pub fn invariants(&self) {
        if self.state == State::Closed {
            return;
        }
        debug_assert!(self.snd_una.le(self.snd_nxt), "SND.UNA {} beyond SND.NXT {}", self.snd_una, self.snd_nxt);
        debug_assert!(self.snd_una.le(self.snd_resume) && self.snd_resume.le(self.snd_nxt));
        debug_assert!(self.snd_nxt.le(self.send_end + 1), "sent beyond what was queued");
        debug_assert!(self.rcv_nxt.le(self.rcv_edge), "the window offered has shrunk");
        debug_assert!(self.snd_wnd <= self.snd_wnd_max);
        debug_assert!(
            !self.state.is_closing_ours() || self.facts.has(Fact::FIN_QUEUED),
            "{} without a FIN",
            self.state.name()
        );
    }
}
