//! What an acknowledgment says of the round-trip time (RFC 6298, RFC 7323 4.1, Karn).

use super::Context;
use super::sack;
use super::tcb::{Tcb, Timed};
use crate::seq::Seq;
use crate::wire::tcp::Segment;

/// One round-trip measurement: by timestamps (RFC 7323 4.1), otherwise of the one timed segment (Karn, MUST-18). Returns whether
/// the backoff ends: not by an acknowledgment that measures nothing without timestamps (RFC 6298 5), or whose ACK may have been
/// lost before or may be that late. It stays until one that says more.
#[inline(always)]
pub(super) fn measure(tcb: &mut Tcb, seg: &Segment, blocks: &[(Seq, Seq)], cx: &Context<'_>) -> bool {
    let timed = tcb.timed.acknowledged(seg.ack);
    if timed.is_some() {
        tcb.timed = Timed::NONE;
    }
    let timed_ms = timed.map(|sent_at| cx.now.tick().since(sent_at));
    if !tcb.agreed.timestamps() {
        if let Some(rtt_ms) = timed_ms {
            tcb.rto.measured(rtt_ms.saturating_mul(1000));
        }
        return timed_ms.is_some();
    }
    let Some(rtt_ms) = echoed_ms(tcb, seg, cx) else { return true };
    if let Some(since_sent_again_ms) = timed_ms.filter(|_| tcb.retries > 0)
        && !answers_time_out(tcb, seg, blocks, rtt_ms > since_sent_again_ms)
    {
        return false;
    }
    // A forged echo from the future or from before the connection measures nothing.
    if rtt_ms < 1 << 20 {
        tcb.rto.measured(rtt_ms * 1000);
    }
    true
}

/// What a time-out gave up is acknowledged, by an echo of what was sent `before` it or of what was sent again. Returns
/// `false` where that says nothing of the path's time.
#[cold]
#[inline(never)]
fn answers_time_out(tcb: &mut Tcb, seg: &Segment, blocks: &[(Seq, Seq)], before: bool) -> bool {
    let in_fast_recovery = tcb.recovery.has_relapsed();
    if before {
        // No peer delays the ACK of more than a segment, or beyond a second time-out: an earlier ACK was lost, and this says
        // nothing of the path's time; or the path has become slow, and a time-out that stays doubled waits for the ACK that
        // shows it. Taken for a round trip, each such wait would lengthen the next. In fast recovery the peer delays nothing,
        // and what fills a gap acknowledges what lies behind it too: only a D-SACK, an answer to what was sent again, shows
        // that the ACK was lost.
        let lost_ack = in_fast_recovery && sack::duplicate(blocks, seg.ack).is_some();
        if lost_ack || seg.ack - tcb.snd_una > u32::from(tcb.mss) || tcb.retries > 1 {
            if in_fast_recovery && !lost_ack {
                tcb.rto.answered_in_fast_recovery(true);
            }
            return false;
        }
    }
    // RFC 3522: what is acknowledged after a time-out was sent before it.
    match in_fast_recovery {
        true => tcb.rto.answered_in_fast_recovery(before),
        false if before => tcb.rto.was_spurious(),
        false => {}
    }
    true
}

/// How old the timestamp is that the segment echoes, ms (RFC 7323 4.1); a forged one may say anything.
#[inline]
pub fn echoed_ms(tcb: &Tcb, seg: &Segment, cx: &Context<'_>) -> Option<u32> {
    let echo = seg.options.timestamps.filter(|echo| echo.ecr != 0)?;
    Some(tcb.ts_now(cx).wrapping_sub(echo.ecr))
}
