//! What is kept of connections for reports only: a column beside the TCBs, as long as the limits say.

use super::core::Core;
use crate::seq::Seq;
use crate::tcp::status::History;
use crate::tcp::{Context, Outcome, round_trip};
use crate::tick::{Now, Tick};
use crate::wire::tcp::Segment;
use alloc::vec;
use alloc::vec::Vec;

/// The histories of a shard, by number of the connection.
#[derive(Debug)]
pub(super) struct Histories {
    kept: Vec<Kept>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    opened_at: Tick,
    min_rtt_us: u32,
    bytes_acked: u64,
    bytes_received: u64,
    total_retrans: u32,
}

impl Histories {
    pub(super) fn new(histories_max: u32) -> Histories {
        Histories { kept: vec![Kept::default(); histories_max as usize] }
    }

    /// Bytes that they take.
    pub(super) fn bill(histories_max: u32) -> u64 {
        u64::from(histories_max) * size_of::<Kept>() as u64
    }

    /// Whether that of connection `number` is kept.
    #[inline]
    pub(super) fn has(&self, number: u32) -> bool {
        (number as usize) < self.kept.len()
    }

    /// The connection begins.
    #[inline]
    pub(super) fn begin(&mut self, number: u32, now: Now) {
        if let Some(kept) = self.kept.get_mut(number as usize) {
            *kept = Kept { opened_at: now.tick(), min_rtt_us: u32::MAX, ..Kept::default() };
        }
    }

    /// A segment was sent again: a SYN, text or a FIN.
    pub(super) fn sent_again(&mut self, number: u32) {
        if let Some(kept) = self.kept.get_mut(number as usize) {
            kept.total_retrans += 1;
        }
    }

    /// What is known of connection `number`.
    pub(super) fn get(&self, number: u32, now: Now) -> Option<History> {
        self.kept.get(number as usize).map(|kept| History {
            age_ms: now.tick().since(kept.opened_at),
            min_rtt_us: (kept.min_rtt_us != u32::MAX).then_some(kept.min_rtt_us),
            bytes_acked: kept.bytes_acked,
            bytes_received: kept.bytes_received,
            total_retrans: kept.total_retrans,
        })
    }
}

/// A segment has met the connection, whose RCV.NXT was `rcv_nxt` before.
#[cold]
pub(super) fn heard(core: &mut Core, number: u32, seg: &Segment, rcv_nxt: Seq, outcome: &Outcome, now: Now) {
    let connection = &core.connections[number];
    let options = core.options.get(connection.tcb.options);
    let cx = Context { now, settings: &core.settings, options, receive_room: false };
    let tcb = &connection.tcb;
    let Some(kept) = core.histories.kept.get_mut(number as usize) else { return };
    kept.bytes_acked += u64::from(outcome.acked_bytes);
    if outcome.text.is_some() {
        kept.bytes_received += u64::from(tcb.rcv_nxt - rcv_nxt - u32::from(outcome.peer_closed));
    }
    if (outcome.acked_bytes > 0 || outcome.established) && tcb.agreed.timestamps() {
        let rtt_ms = round_trip::echoed_ms(tcb, seg, &cx).filter(|rtt_ms| *rtt_ms < 1 << 20);
        kept.min_rtt_us = kept.min_rtt_us.min(rtt_ms.map_or(u32::MAX, |rtt_ms| rtt_ms * 1000));
    }
}
