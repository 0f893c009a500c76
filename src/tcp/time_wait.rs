//! TIME-WAIT on compact records (RFC 9293 3.4.2, 3.10.7.4, RFC 1337, RFC 6191).
//!
//! A record keeps what a re-ACK, PAWS, the reuse rules and the next incarnation's ISS need, and nothing else.

use super::tcb::Tcb;
use super::{Answer, Context, Note, isn};
use crate::four_tuple::{Addresses, FourTuple};
use crate::seq::Seq;
use crate::tick::Tick;
use crate::wire::tcp::{Flags, Segment, Timestamps};
use core::net::{Ipv4Addr, Ipv6Addr};

/// When a 4-tuple in TIME-WAIT may be used again before 2MSL is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Policy {
    /// Never (RFC 9293 3.4.2 to the letter).
    Strict,
    /// Where both incarnations have timestamps and the new one's are later (RFC 6191).
    Timestamp,
    /// As `Timestamp`; without timestamps, where the SYN's sequence number lies beyond the old connection's (RFC 9293
    /// 3.6.1, MAY-2).
    #[default]
    TimestampOrSequence,
    /// No TIME-WAIT at all. For the laboratory: it gives old duplicates to new connections.
    None,
}

impl Policy {
    /// All policies, the safest first.
    pub const ALL: [Policy; 4] = [Policy::Strict, Policy::Timestamp, Policy::TimestampOrSequence, Policy::None];

    /// The name on command lines and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Policy::Strict => "strict",
            Policy::Timestamp => "timestamp",
            Policy::TimestampOrSequence => "timestamp-or-sequence",
            Policy::None => "none",
        }
    }

    /// The policy of that name.
    pub fn from_name(name: &str) -> Option<Policy> {
        Policy::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

/// What happens when the TIME-WAIT store is full (B46).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Full {
    /// A connection reserves its place when it opens: opens are refused instead.
    #[default]
    RefuseOpen,
    /// The oldest record goes before its time, counted.
    EvictOldest,
    /// The connection goes to CLOSED at once, as Linux does, counted.
    Skip,
}

impl Full {
    /// All of them.
    pub const ALL: [Full; 3] = [Full::RefuseOpen, Full::EvictOldest, Full::Skip];

    /// The name on command lines and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Full::RefuseOpen => "refuse-open",
            Full::EvictOldest => "evict-oldest",
            Full::Skip => "skip",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Full> {
        Full::ALL.into_iter().find(|full| full.name() == name)
    }
}

/// What both families' records keep beside the addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Numbers {
    /// RCV.NXT: beyond the peer's FIN.
    pub rcv_nxt: Seq,
    /// SND.NXT: beyond our FIN.
    pub snd_nxt: Seq,
    /// TS.Recent; meaningful when [`Numbers::has_timestamps`].
    pub ts_recent: u32,
    /// When 2MSL is over.
    pub deadline: Tick,
    /// The window that we last offered, in the header's units.
    pub wnd: u16,
    /// Bits: live, timestamps.
    flags: u16,
}

/// The largest unscaled window; old duplicates of our own lie at most this far beyond what the peer acknowledged.
const WINDOW_MAX: u32 = 65_535;

const LIVE: u16 = 1;
const TIMESTAMPS: u16 = 2;

impl Numbers {
    /// Both sides had agreed on timestamps.
    pub const fn has_timestamps(&self) -> bool {
        self.flags & TIMESTAMPS != 0
    }

    /// The record stands for a connection; a hole does not.
    pub const fn is_live(&self) -> bool {
        self.flags & LIVE != 0
    }

    /// Makes the record a hole.
    pub const fn mark_hole(&mut self) {
        self.flags &= !LIVE;
    }

    /// What a TCB leaves behind when it enters TIME-WAIT.
    #[inline]
    pub fn of(tcb: &Tcb, cx: &Context<'_>) -> Numbers {
        Numbers {
            rcv_nxt: tcb.rcv_nxt,
            snd_nxt: tcb.snd_nxt,
            ts_recent: tcb.ts_recent,
            deadline: deadline(cx),
            wnd: (tcb.rcv_wnd() >> tcb.agreed.rcv_shift()).min(65_535) as u16,
            flags: LIVE | if tcb.agreed.timestamps() { TIMESTAMPS } else { 0 },
        }
    }
}

/// An IPv4 connection in TIME-WAIT: 32 bytes, never in two cache lines. Large allocations begin 16 bytes into a page, so that
/// without the alignment every second record would be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(32))]
pub struct TimeWaitV4 {
    local: Ipv4Addr,
    remote: Ipv4Addr,
    local_port: u16,
    remote_port: u16,
    /// The numbers.
    pub numbers: Numbers,
}

/// An IPv6 connection in TIME-WAIT: 56 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct TimeWaitV6 {
    local: Ipv6Addr,
    remote: Ipv6Addr,
    local_port: u16,
    remote_port: u16,
    /// The numbers.
    pub numbers: Numbers,
}

const _: () = assert!(size_of::<TimeWaitV4>() == 32);
const _: () = assert!(size_of::<TimeWaitV6>() == 56);

impl Default for TimeWaitV4 {
    fn default() -> TimeWaitV4 {
        let nobody = Ipv4Addr::UNSPECIFIED;
        TimeWaitV4 { local: nobody, remote: nobody, local_port: 0, remote_port: 0, numbers: Numbers::default() }
    }
}

impl Default for TimeWaitV6 {
    fn default() -> TimeWaitV6 {
        let nobody = Ipv6Addr::UNSPECIFIED;
        TimeWaitV6 { local: nobody, remote: nobody, local_port: 0, remote_port: 0, numbers: Numbers::default() }
    }
}

/// A record of either family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimeWait {
    /// IPv4.
    V4(TimeWaitV4),
    /// IPv6.
    V6(TimeWaitV6),
}

impl TimeWait {
    /// The record of a TCB of this name that enters TIME-WAIT now.
    #[inline]
    pub fn of(tcb: &Tcb, tuple: &FourTuple, cx: &Context<'_>) -> TimeWait {
        let numbers = Numbers::of(tcb, cx);
        let FourTuple { addresses, local_port, remote_port } = *tuple;
        match addresses {
            Addresses::V4 { local, remote } => {
                TimeWait::V4(TimeWaitV4 { local, remote, local_port, remote_port, numbers })
            }
            Addresses::V6 { local, remote } => {
                TimeWait::V6(TimeWaitV6 { local, remote, local_port, remote_port, numbers })
            }
        }
    }
}

impl TimeWaitV4 {
    /// The connection's name.
    #[inline]
    pub const fn tuple(&self) -> FourTuple {
        let TimeWaitV4 { local, remote, local_port, remote_port, .. } = *self;
        FourTuple { addresses: Addresses::V4 { local, remote }, local_port, remote_port }
    }
}

impl TimeWaitV6 {
    /// The connection's name.
    #[inline]
    pub const fn tuple(&self) -> FourTuple {
        let TimeWaitV6 { local, remote, local_port, remote_port, .. } = *self;
        FourTuple { addresses: Addresses::V6 { local, remote }, local_port, remote_port }
    }
}

/// When a 2MSL that starts now is over.
pub fn deadline(cx: &Context<'_>) -> Tick {
    cx.now.tick().plus(cx.settings.msl_ms.saturating_mul(2))
}

/// What a segment that arrives in TIME-WAIT does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arrived {
    /// The ACK to answer with.
    pub answer: Option<Answer>,
    /// 2MSL starts again (B41).
    pub restart: bool,
    /// The record ends (a RST, where the setting says so).
    pub ends: bool,
    /// A new incarnation may open; the record is kept until its handshake has completed (B44).
    pub reopens: bool,
    /// What to count.
    pub note: Option<Note>,
}

/// Whether the segment's own numbers say that it is of this record's connection: the peer has acknowledged our FIN, and sends nothing beyond
/// its own.
pub fn is_own(numbers: &Numbers, seg: &Segment) -> bool {
    if seg.flags.rst() {
        return seg.seq == numbers.rcv_nxt;
    }
    seg.flags.ack() && !seg.flags.syn() && seg.ack == numbers.snd_nxt && seg.end().le(numbers.rcv_nxt)
}

/// RFC 9293 3.10.7.4 for TIME-WAIT: the peer's FIN again is acknowledged again and restarts 2MSL; whatever else carries
/// anything is answered by an ACK and changes nothing (B42); a RST is ignored by default (B43). TS.Recent follows a FIN that has a later
/// timestamp (RFC 7323 4.3), so that the ACK echoes it and the next incarnation's lie beyond it; the caller keeps it with the new deadline.
pub fn arrives(numbers: &mut Numbers, tuple: &FourTuple, seg: &Segment, cx: &Context<'_>) -> Arrived {
    if seg.flags.rst() {
        let ends = cx.settings.rst_ends_time_wait && seg.seq == numbers.rcv_nxt;
        let note = Some(if ends { Note::RstAccepted } else { Note::RstIgnored });
        return Arrived { ends, note, ..Arrived::default() };
    }
    if seg.flags.syn() && !seg.flags.ack() && reopens(numbers, seg, cx.settings.time_wait_policy) {
        return Arrived { reopens: true, ..Arrived::default() };
    }
    let fin_again = seg.flags.fin() && seg.end() == numbers.rcv_nxt && seg.flags.ack();
    if !fin_again && seg.is_empty() && seg.seq == numbers.rcv_nxt {
        // The peer's last ACK or a window update: nothing to say.
        return Arrived { note: Some(Note::Ignored), ..Arrived::default() };
    }
    if fin_again
        && numbers.has_timestamps()
        && let Some(timestamps) = seg.options.timestamps
    {
        numbers.ts_recent = Seq(numbers.ts_recent).max(Seq(timestamps.val)).0;
    }
    Arrived {
        answer: Some(acknowledgment(numbers, tuple, cx)),
        restart: fin_again,
        note: fin_again.then_some(Note::TimeWaitRestart),
        ..Arrived::default()
    }
}

/// B44: whether a SYN opens a new incarnation. With timestamps on both sides they alone decide: never the sequence number of
/// a SYN whose timestamp is older.
fn reopens(numbers: &Numbers, syn: &Segment, policy: Policy) -> bool {
    let beyond = syn.seq.gt(numbers.rcv_nxt);
    let by_timestamp = match (numbers.has_timestamps(), syn.options.timestamps) {
        (true, Some(timestamps)) => {
            let (new, old) = (Seq(timestamps.val), Seq(numbers.ts_recent));
            Some(new.gt(old) || (new == old && beyond))
        }
        (true, None) | (false, _) => None,
    };
    match policy {
        Policy::Strict => false,
        Policy::Timestamp => by_timestamp.unwrap_or(false),
        Policy::TimestampOrSequence => by_timestamp.unwrap_or(beyond),
        Policy::None => true,
    }
}

/// B45: whether an active open may take the 4-tuple: timestamps guard it, and it has waited long enough.
pub fn may_open_actively(numbers: &Numbers, cx: &Context<'_>) -> bool {
    reusable_in_ms(numbers, cx) == Some(0)
}

/// In how many ms an active open may take the 4-tuple (B45), if nothing restarts its 2MSL; `None` if never while the record
/// lasts.
#[inline]
pub fn reusable_in_ms(numbers: &Numbers, cx: &Context<'_>) -> Option<u32> {
    let delay_ms = cx.settings.time_wait_delay_ms;
    match cx.settings.time_wait_policy {
        Policy::Strict => None,
        Policy::Timestamp | Policy::TimestampOrSequence if !(numbers.has_timestamps() && cx.settings.timestamps) => {
            None
        }
        Policy::Timestamp | Policy::TimestampOrSequence if delay_ms > 0 => {
            let remaining = cx.now.tick().until(numbers.deadline);
            let remaining_then = cx.settings.msl_ms.saturating_mul(2).checked_sub(delay_ms)?;
            // A record from before the last change of MSL ends by the former one; it has waited at least since then.
            let since_change_ms = cx.now.us().saturating_sub(cx.settings.msl_since.us()) / 1000;
            let after_change_ms = u64::from(delay_ms).saturating_sub(since_change_ms) as u32;
            Some(remaining.saturating_sub(remaining_then).max(after_change_ms))
        }
        Policy::Timestamp | Policy::TimestampOrSequence | Policy::None => Some(0),
    }
}

/// The ISS of the next incarnation lies beyond everything that the old one could send: its SND.NXT and a window (B44).
/// `clocked` is the RFC 6528 value, `random` at most 64 Ki.
pub fn iss_beyond(numbers: &Numbers, clocked: Seq, random: u16) -> Seq {
    let floor = numbers.snd_nxt + WINDOW_MAX;
    if clocked.gt(floor) { clocked } else { floor + u32::from(random) + 1 }
}

/// The ACK that TIME-WAIT repeats.
fn acknowledgment(numbers: &Numbers, tuple: &FourTuple, cx: &Context<'_>) -> Answer {
    let timestamps = numbers.has_timestamps().then(|| Timestamps {
        val: cx.now.tick().0.wrapping_add(isn::timestamp_offset(cx.settings.isn_secret, tuple)),
        ecr: numbers.ts_recent,
    });
    Answer { seq: numbers.snd_nxt, ack: numbers.rcv_nxt, flags: Flags::ACK, wnd: numbers.wnd, timestamps }
}
