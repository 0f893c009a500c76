//! What is offered and agreed in the two SYNs (RFC 9293 3.7.1, RFC 2018, RFC 7323), and timestamps after that.

use super::state::State;
use super::tcb::{Agreed, Tcb};
use super::{Context, Settings};
use crate::limits::{CHUNK_BYTES, MSS_DEFAULT_V4, MSS_DEFAULT_V6, MSS_MIN};
use crate::seq::Seq;
use crate::tick::{CoarseTick, Tick};
use crate::wire::tcp::{Options, Segment, Timestamps};

/// The options of our SYN or SYN-ACK. A SYN-ACK repeats only what the SYN offered (RFC 7323 2.5, 3.2), so that it is never longer (T29).
#[inline(always)]
pub fn of_syn(tcb: &Tcb, cx: &Context<'_>) -> Options {
    let answers = tcb.state == State::SynReceived;
    let (mss, sack, scale, timestamps) = if answers {
        (tcb.agreed.mss(), tcb.agreed.sack(), tcb.agreed.window_scale(), tcb.agreed.timestamps())
    } else {
        (true, cx.settings.sack, cx.settings.window_scale, cx.settings.timestamps)
    };
    Options {
        mss: mss.then(|| mss_limit(cx, tcb.is_v4())),
        window_scale: scale.then(|| receive_shift(cx.receive_buffer_bytes())),
        sack_permitted: sack,
        timestamps: timestamps
            .then(|| Timestamps { val: tcb.ts_now(cx), ecr: if answers { tcb.ts_recent } else { 0 } }),
    }
}

/// The options of any other segment.
#[inline]
pub fn of_segment(tcb: &Tcb, cx: &Context<'_>) -> Options {
    Options { timestamps: current_timestamps(tcb, cx), ..Options::default() }
}

/// TSval and TSecr now, where timestamps were agreed.
#[inline]
pub fn current_timestamps(tcb: &Tcb, cx: &Context<'_>) -> Option<Timestamps> {
    tcb.agreed.timestamps().then(|| Timestamps { val: tcb.ts_now(cx), ecr: tcb.ts_recent })
}

/// Takes over what the peer's SYN offers of what we offer too.
#[inline(always)]
pub fn agree(tcb: &mut Tcb, syn: &Segment, cx: &Context<'_>) {
    let offered = &syn.options;
    let v4 = tcb.is_v4();
    let default = if v4 { MSS_DEFAULT_V4 } else { MSS_DEFAULT_V6 };
    tcb.mss = offered.mss.unwrap_or(default).max(MSS_MIN).min(mss_limit(cx, v4));
    tcb.agreed = Agreed::default();
    tcb.agreed.set_mss(offered.mss.is_some());
    tcb.agreed.set_timestamps(offered.timestamps.is_some() && cx.settings.timestamps);
    tcb.agreed.set_sack(offered.sack_permitted && cx.settings.sack);
    if let Some(shift) = offered.window_scale.filter(|_| cx.settings.window_scale) {
        tcb.agreed = tcb.agreed.scaled(shift.min(WINDOW_SHIFT_MAX), receive_shift(cx.receive_buffer_bytes()));
    }
    if let (true, Some(timestamps)) = (tcb.agreed.timestamps(), offered.timestamps) {
        tcb.rto.trust_timestamps();
        tcb.ts_recent = timestamps.val;
        tcb.ts_recent_at = CoarseTick::of(cx.now.tick());
    }
}

/// The largest segment of one connection, bytes before options: the stack's, or less by the connection's options.
#[inline]
fn mss_limit(cx: &Context<'_>, v4: bool) -> u16 {
    own_mss(cx.settings, v4).min(cx.options.mss_max.unwrap_or(u16::MAX))
}

/// The MSS that we announce: what a packet of the MTU can hold (MUST-67, RFC 6691 without options).
#[inline]
pub const fn own_mss(settings: &Settings, v4: bool) -> u16 {
    let headers = if v4 { 40 } else { 60 };
    let mss = settings.mtu.saturating_sub(headers);
    // More than a chunk would not be taken from one segment.
    let mss = if mss as usize > CHUNK_BYTES { CHUNK_BYTES as u16 } else { mss };
    if mss < MSS_MIN { MSS_MIN } else { mss }
}

/// The smallest shift that lets the window field express the whole receive buffer.
#[inline]
pub const fn receive_shift(receive_buffer_bytes: u32) -> u8 {
    // As many fields as the buffer takes, rounded up to a power of two.
    let shift = receive_buffer_bytes.div_ceil(65_535).next_power_of_two().trailing_zeros();
    if shift < WINDOW_SHIFT_MAX as u32 { shift as u8 } else { WINDOW_SHIFT_MAX }
}

/// Whether PAWS refuses the segment (RFC 7323 5.3 R1): an older timestamp, or none although agreed (3.2). RST is exempt.
#[inline]
pub fn paws_refuses(tcb: &Tcb, seg: &Segment, now: Tick) -> bool {
    if !tcb.agreed.timestamps() || seg.flags.rst() {
        return false;
    }
    match seg.options.timestamps {
        None => true,
        Some(timestamps) => Seq(timestamps.val).lt(Seq(tcb.ts_recent)) && !is_outdated(tcb, now),
    }
}

/// RFC 7323 4.3: TS.Recent follows segments that begin at or before the last acknowledgment sent; one that is outdated follows
/// whatever they bring (5.5).
#[inline]
pub fn update_ts_recent(tcb: &mut Tcb, seg: &Segment, now: Tick) {
    let Some(timestamps) = seg.options.timestamps.filter(|_| tcb.agreed.timestamps()) else { return };
    let follows = Seq(timestamps.val).ge(Seq(tcb.ts_recent)) || is_outdated(tcb, now);
    if follows && seg.seq.le(tcb.last_ack_sent) {
        tcb.ts_recent = timestamps.val;
        tcb.ts_recent_at = CoarseTick::of(now);
    }
}

/// TS.Recent is too old to say what is older (RFC 7323 5.5).
#[inline]
fn is_outdated(tcb: &Tcb, now: Tick) -> bool {
    tcb.ts_recent_at.days_until(now) >= TS_RECENT_VALID_DAYS
}

/// Largest window shift. Origin: RFC 7323 2.3; beyond it the window could not be told from the sequence space.
const WINDOW_SHIFT_MAX: u8 = 14;

/// How long TS.Recent stays valid, days. Origin: RFC 7323 5.5.
const TS_RECENT_VALID_DAYS: u32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shift_is_the_smallest_that_covers_the_buffer() {
        assert_eq!([65_535, 65_536, 256 * 1024, u32::MAX].map(receive_shift), [0, 1, 3, 14]);
    }

    /// Shows RFC 6691.
    #[test]
    fn must_67_mss_follows_the_mtu() {
        let settings = Settings { mtu: 1500, ..Settings::default() };
        assert_eq!((own_mss(&settings, true), own_mss(&settings, false)), (1460, 1440));
        assert_eq!(own_mss(&Settings { mtu: 9000, ..settings }, true), 2048);
        assert_eq!(own_mss(&Settings { mtu: 0, ..settings }, true), MSS_MIN);
    }
}
