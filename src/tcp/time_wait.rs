//! TIME-WAIT on compact records (RFC 9293 3.4.2, 3.10.7.4, RFC 1337, RFC 6191).
//!
//! A record keeps what a re-ACK, PAWS, the reuse rules and the next incarnation's ISS need, and nothing else.

use super::tcb::Tcb;
use super::{Answer, Context, Note, isn};
use crate::four_tuple::FourTuple;
use crate::seq::Seq;
use crate::tick::Tick;
use crate::wire::tcp::{Flags, Segment, Timestamps};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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
    /// Bits: live, timestamps, held by a new incarnation.
    flags: u16,
}

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
    pub fn of(tcb: &Tcb, cx: &Context<'_>) -> Numbers {
        Numbers {
            rcv_nxt: tcb.rcv_nxt,
            snd_nxt: tcb.snd_nxt,
            ts_recent: tcb.ts_recent,
            deadline: deadline(cx),
            wnd: (tcb.rcv_wnd() >> tcb.agreed.rcv_shift).min(65_535) as u16,
            flags: LIVE | if tcb.agreed.timestamps { TIMESTAMPS } else { 0 },
        }
    }
}

/// An IPv4 connection in TIME-WAIT: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
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
    /// The record of a TCB that enters TIME-WAIT now.
    pub fn of(tcb: &Tcb, cx: &Context<'_>) -> TimeWait {
        let numbers = Numbers::of(tcb, cx);
        let FourTuple { local, remote, local_port, remote_port } = tcb.tuple;
        match (local, remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                TimeWait::V4(TimeWaitV4 { local, remote, local_port, remote_port, numbers })
            }
            (local, remote) => {
                let (local, remote) = (as_v6(local), as_v6(remote));
                TimeWait::V6(TimeWaitV6 { local, remote, local_port, remote_port, numbers })
            }
        }
    }
}

impl TimeWaitV4 {
    /// The connection's name.
    pub const fn tuple(&self) -> FourTuple {
        FourTuple::new(IpAddr::V4(self.local), self.local_port, IpAddr::V4(self.remote), self.remote_port)
    }
}

impl TimeWaitV6 {
    /// The connection's name.
    pub const fn tuple(&self) -> FourTuple {
        FourTuple::new(IpAddr::V6(self.local), self.local_port, IpAddr::V6(self.remote), self.remote_port)
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
    /// What to count.
    pub note: Option<Note>,
}

/// RFC 9293 3.10.7.4 for TIME-WAIT: the peer's FIN again is acknowledged again and restarts 2MSL; whatever else carries
/// anything is answered by an ACK and changes nothing (B42); a RST is ignored by default (B43).
pub fn arrives(numbers: &Numbers, tuple: &FourTuple, seg: &Segment, cx: &Context<'_>) -> Arrived {
    if seg.flags.rst() {
        let ends = cx.settings.rst_ends_time_wait && seg.seq == numbers.rcv_nxt;
        let note = Some(if ends { Note::RstAccepted } else { Note::RstIgnored });
        return Arrived { ends, note, ..Arrived::default() };
    }
    let fin_again = seg.flags.fin() && seg.end() == numbers.rcv_nxt && seg.flags.ack();
    if !fin_again && seg.is_empty() && seg.seq == numbers.rcv_nxt {
        // The peer's last ACK or a window update: nothing to say.
        return Arrived::default();
    }
    Arrived {
        answer: Some(acknowledgment(numbers, tuple, cx)),
        restart: fin_again,
        note: fin_again.then_some(Note::TimeWaitRestart),
        ..Arrived::default()
    }
}

/// The ACK that TIME-WAIT repeats.
fn acknowledgment(numbers: &Numbers, tuple: &FourTuple, cx: &Context<'_>) -> Answer {
    let timestamps = numbers.has_timestamps().then(|| Timestamps {
        val: cx.now.tick().0.wrapping_add(isn::timestamp_offset(cx.settings.isn_secret, tuple)),
        ecr: numbers.ts_recent,
    });
    Answer { seq: numbers.snd_nxt, ack: numbers.rcv_nxt, flags: Flags::ACK, wnd: numbers.wnd, timestamps }
}

const fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}
