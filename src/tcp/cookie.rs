//! SYN cookies (RFC 4987 3.6, behaviour B13): a half-open connection whose state is kept by the peer.
//!
//! The SYN-ACK's sequence number is the cookie, and its TSval carries what a cookie has no room for:
//!
//! ```text
//!   ISS    31                                   4   3   2     0
//!         +---------------------------------------+---+--------+
//!         | keyed hash, 28 bits                   | P | MSS    |   P: the period's parity, MSS: a place in a table
//!         +---------------------------------------+---+--------+
//!   TSval  31                             6   5   4   3       0
//!         +---------------------------------+---+---+---------+
//!         | our clock, in steps of 64 ms    | E | S | shift   |   E: ECN (reserved, 0), S: SACK, shift: window scale,
//!         +---------------------------------+---+---+---------+      15 for none
//! ```
//! The hash (SipHash-2-4) is over the 4-tuple, the period, the peer's ISN and all of the bits above, so that a bit that
//! is changed makes another cookie. A period lasts 60 s; each has a secret of its own, and those of this period and the
//! last are valid: a cookie lives for 60 to 120 s. A guess hits with 2^-28.

use super::tcb::{Tcb, Timed};
use super::{Context, output};
use crate::four_tuple::FourTuple;
use crate::keyed_hash::WireHash;
use crate::limits::{COOKIE_PERIOD_MS, MSS_DEFAULT_V4, MSS_DEFAULT_V6, MSS_MIN};
use crate::seq::Seq;
use crate::tick::Now;
use crate::wire::tcp::{Options, Segment, Timestamps};

/// When a SYN is answered by a cookie instead of half-open state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum SynCookies {
    /// While the half-open connections have passed half of their limit.
    #[default]
    Auto,
    /// Every SYN. For the laboratory: without state no SYN-ACK is sent again.
    Always,
    /// Never: beyond the limit SYNs are dropped.
    Off,
}

impl SynCookies {
    /// All of them.
    pub const ALL: [SynCookies; 3] = [SynCookies::Auto, SynCookies::Always, SynCookies::Off];

    /// The name on command lines and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            SynCookies::Auto => "auto",
            SynCookies::Always => "always",
            SynCookies::Off => "off",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<SynCookies> {
        SynCookies::ALL.into_iter().find(|policy| policy.name() == name)
    }

    /// Whether a SYN gets a cookie while `half_open` connections of at most `half_open_max` are half-open.
    pub const fn answers(self, half_open: u32, half_open_max: u32) -> bool {
        match self {
            SynCookies::Auto => half_open >= half_open_max / 2,
            SynCookies::Always => true,
            SynCookies::Off => false,
        }
    }
}

/// The secrets of this period and the last, and whether any cookie is out.
#[derive(Clone, Debug)]
pub struct Cookies {
    /// The stack's secret, from which those of all periods are derived: shards of one stack agree without a word.
    stack_secret: WireHash,
    /// The period of the newer of `secrets`.
    period: u32,
    /// By the parity of their period.
    secrets: [WireHash; 2],
    /// When a cookie was last sent.
    sent_in: Option<u32>,
}

/// The SYN-ACK that carries a cookie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SynAck {
    /// SEG.SEQ: the cookie.
    pub iss: Seq,
    /// SEG.ACK.
    pub ack: Seq,
    /// SEG.WND.
    pub wnd: u16,
    /// Our MSS, where the SYN had one: an answer is never longer than its cause (T29).
    pub mss: Option<u16>,
    /// Our window shift, where it was agreed.
    pub window_scale: Option<u8>,
    /// SACK was agreed.
    pub sack_permitted: bool,
    /// Timestamps with the options' bits, where they were agreed.
    pub timestamps: Option<Timestamps>,
}

/// What a valid cookie brings back.
#[derive(Clone, Debug)]
pub struct Valid {
    /// The TCB in SYN-RECEIVED, its SYN-ACK sent, as it would have been without cookies. The ACK has yet to arrive at it.
    pub tcb: Tcb,
    /// Names this cookie among all; who sees it twice within [`COOKIE_PERIOD_MS`] times two sees a replay.
    pub mark: u64,
}

impl Cookies {
    /// Nothing is out.
    pub fn new(stack_secret: (u64, u64), now: Now) -> Cookies {
        let period = period_of(now);
        let stack_secret = WireHash::new(stack_secret);
        Cookies { period, secrets: derive(&stack_secret, period), stack_secret, sent_in: None }
    }

    /// The period that `now` lies in.
    pub fn period(&mut self, now: Now) -> u32 {
        if self.period != period_of(now) {
            self.period = period_of(now);
            self.secrets = derive(&self.stack_secret, self.period);
        }
        self.period
    }

    /// Whether a cookie that was sent may still come back. While none may, nobody can guess one either.
    pub fn may_return(&self, now: Now) -> bool {
        self.sent_in.is_some_and(|sent_in| period_of(now).wrapping_sub(sent_in) <= 1)
    }

    /// The stateless answer to a SYN. What the timestamp would carry is not agreed without timestamps.
    pub fn syn_ack(&mut self, tuple: &FourTuple, syn: &Segment, cx: &Context<'_>) -> SynAck {
        let period = self.period(cx.now);
        self.sent_in = Some(period);
        let mut tcb = half_open(tuple, syn, cx);
        let place = mss_place(tcb.mss, tuple.is_v4());
        let carried = tcb.agreed.timestamps().then(|| Carried::of(&tcb));
        let iss = self.cookie(tuple, period, syn.seq, place, carried).0;
        tcb.set_iss(iss);
        let ack = tcb.rcv_nxt;
        let timestamps =
            carried.map(|carried| Timestamps { val: carried.into_clock(tcb.ts_now(cx)), ecr: tcb.ts_recent });
        let plan = output::next(&mut tcb, None, cx);
        let (wnd, options) = plan.map_or((0, Options::default()), |plan| (plan.wnd, plan.options));
        SynAck {
            iss,
            ack,
            wnd,
            mss: options.mss.filter(|_| syn.options.mss.is_some()),
            window_scale: options.window_scale,
            sack_permitted: options.sack_permitted,
            timestamps,
        }
    }

    /// The connection whose cookie the ACK brings back, if it is one of ours, for this 4-tuple, this peer's ISN and
    /// these options, and not too old.
    pub fn accept(&mut self, tuple: &FourTuple, seg: &Segment, cx: &Context<'_>) -> Option<Valid> {
        if !seg.flags.ack() || seg.flags.syn() || seg.flags.rst() {
            return None;
        }
        let (irs, iss) = (seg.seq.back(1), seg.ack.back(1));
        let now = self.period(cx.now);
        let period = if iss.0 & PARITY == (now & 1) << PARITY_SHIFT { now } else { now.wrapping_sub(1) };
        let carried = seg.options.timestamps.map(|timestamps| Carried::from_clock(timestamps.ecr));
        let place = (iss.0 & MSS_PLACE) as usize;
        let (cookie, mark) = self.cookie(tuple, period, irs, place, carried);
        if cookie != iss {
            return None;
        }
        let options = Options {
            mss: Some(mss_table(tuple.is_v4())[place]),
            window_scale: carried.and_then(Carried::window_scale),
            sack_permitted: carried.is_some_and(Carried::sack),
            timestamps: seg.options.timestamps,
        };
        let mut tcb = half_open(tuple, &Segment { seq: irs, options, ..Segment::default() }, cx);
        tcb.set_iss(iss);
        // The SYN-ACK has left already: the record only takes note of it. How long ago that was is not known.
        output::next(&mut tcb, None, cx);
        tcb.timed = Timed::NONE;
        Some(Valid { tcb, mark })
    }

    /// The cookie, and the whole hash that it is cut from.
    fn cookie(&self, tuple: &FourTuple, period: u32, irs: Seq, place: usize, carried: Option<Carried>) -> (Seq, u64) {
        let low = (period & 1) << PARITY_SHIFT | place as u32;
        let Carried(carried) = carried.unwrap_or(WITHOUT_TIMESTAMPS);
        let numbers = u64::from(period) << 32 | u64::from(irs.0);
        let hash =
            self.secrets[(period & 1) as usize].tuple_with(tuple, numbers, u64::from(carried) << 8 | u64::from(low));
        (Seq((hash as u32) & !(PARITY | MSS_PLACE) | low), hash)
    }
}

/// The secrets of a period and the one before it, by parity.
fn derive(stack_secret: &WireHash, period: u32) -> [WireHash; 2] {
    let of = |period: u32| {
        let half = |half: u64| stack_secret.number(u64::from(period) << 1 | half);
        WireHash::new((half(0), half(1)))
    };
    let (this, last) = (of(period), of(period.wrapping_sub(1)));
    if period & 1 == 0 { [this, last] } else { [last, this] }
}

/// What the low bits of TSval carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Carried(u8);

impl Carried {
    fn of(tcb: &Tcb) -> Carried {
        let shift = if tcb.agreed.window_scale() { tcb.agreed.snd_shift() } else { NO_SHIFT };
        Carried(shift | if tcb.agreed.sack() { SACK } else { 0 })
    }

    /// From the TSecr that the peer gives back.
    fn from_clock(ecr: u32) -> Carried {
        Carried((ecr & CARRIED) as u8)
    }

    /// The latest TSval that carries the bits and is not past the clock: what follows is never older (RFC 7323 5.3).
    fn into_clock(self, clock: u32) -> u32 {
        let val = clock & !CARRIED | u32::from(self.0);
        let ahead = u32::from(self.0) > clock & CARRIED;
        if ahead { val.wrapping_sub(CARRIED + 1) } else { val }
    }

    fn window_scale(self) -> Option<u8> {
        let shift = self.0 & NO_SHIFT;
        (shift != NO_SHIFT).then_some(shift)
    }

    fn sack(self) -> bool {
        self.0 & SACK != 0
    }
}

/// The TCB that the SYN would make, less what only a timestamp can carry where there is none.
fn half_open(tuple: &FourTuple, syn: &Segment, cx: &Context<'_>) -> Tcb {
    let mut offered = *syn;
    if syn.options.timestamps.is_none() || !cx.settings.timestamps {
        offered.options.window_scale = None;
        offered.options.sack_permitted = false;
    }
    Tcb::open_passively(tuple, &offered, cx)
}

/// The place of the largest MSS that is not larger than `mss`.
fn mss_place(mss: u16, v4: bool) -> usize {
    mss_table(v4).iter().rposition(|entry| *entry <= mss).unwrap_or(0)
}

const fn mss_table(v4: bool) -> &'static [u16; 8] {
    if v4 { &MSS_V4 } else { &MSS_V6 }
}

fn period_of(now: Now) -> u32 {
    (now.us() / (u64::from(COOKIE_PERIOD_MS) * 1000)) as u32
}

/// What peers announce over IPv4: the smallest taken, the default, tunnels, PPPoE, Ethernet, jumbo frames of 9000.
const MSS_V4: [u16; 8] = [MSS_MIN, MSS_DEFAULT_V4, 1200, 1360, 1400, 1440, 1460, 8960];

/// What peers announce over IPv6.
const MSS_V6: [u16; 8] = [MSS_MIN, 536, MSS_DEFAULT_V6, 1340, 1380, 1420, 1440, 8940];

/// Bits of the ISS.
const MSS_PLACE: u32 = 0b111;
const PARITY_SHIFT: u32 = 3;
const PARITY: u32 = 1 << PARITY_SHIFT;

/// Bits of TSval. Bit 5 stays free for ECN.
const CARRIED: u32 = 0x3f;
const SACK: u8 = 0x10;
const NO_SHIFT: u8 = 0x0f;

/// Stands for the carried bits where there are no timestamps; beyond all of them.
const WITHOUT_TIMESTAMPS: Carried = Carried(0xff);

const _: () = assert!(2 * COOKIE_PERIOD_MS <= 120_000, "a cookie is valid for at most two minutes");
