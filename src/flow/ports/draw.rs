//! Which port is next: of the lap, of a lap that repeats, of the queue. Each asks the caller about a bounded number of ports.

use super::{Destinations, LapKind, PortStatus, Soonest};
use crate::tick::Tick;

impl Destinations {
    /// Goes on with the lap: each port that is ours is asked about once.
    #[inline(always)]
    pub(super) fn draw_fresh(
        &mut self,
        number: u32,
        now: Tick,
        soonest: &mut Soonest,
        status: &mut impl FnMut(u16) -> PortStatus,
    ) -> Option<u16> {
        if self.slab[number].kind == LapKind::InOrder {
            return self.draw_in_order(number, now, soonest, status);
        }
        for _ in 0..FRESH_ASKED_MAX {
            let port = self.owners.next_port(self.shard, &mut self.slab[number].lap)?;
            match status(port) {
                PortStatus::Free | PortStatus::TimeWait { reusable: true, .. } => return Some(port),
                // It joins the queue when it is given back.
                PortStatus::InUse => {}
                PortStatus::Busy => self.enqueue(number, port),
                PortStatus::TimeWait { free_in_ms, .. } => {
                    soonest.note(free_in_ms);
                    self.enqueue(number, port);
                }
            }
        }
        if !self.slab[number].lap.is_done() {
            soonest.note(0);
        }
        None
    }

    /// Goes on with a lap whose ports come in the order in which they were drawn: where the first is in TIME-WAIT so are those
    /// behind it, and the lap waits for the one of the next few that is available soonest. What is before that was restarted
    /// (B41) or is taken, and goes to the queue. Now and then the lap goes on all the same, in case the order was another.
    #[cold]
    fn draw_in_order(
        &mut self,
        number: u32,
        now: Tick,
        soonest: &mut Soonest,
        status: &mut impl FnMut(u16) -> PortStatus,
    ) -> Option<u16> {
        let mut lap = self.slab[number].lap;
        let (mut passed, mut count) = ([0; QUEUED_ASKED_MAX as usize], 0);
        // Before the port that is available soonest: the lap, and how many it has passed; and when that will be.
        let (mut before, mut free_in_ms_least) = ((lap, 0), u32::MAX);
        let mut drawn = None;
        for _ in 0..REPEATED_ASKED_MAX {
            let at = (lap, count);
            let next = if count < passed.len() { self.owners.next_port(self.shard, &mut lap) } else { None };
            let Some(port) = next else { break };
            match status(port) {
                PortStatus::Free | PortStatus::TimeWait { reusable: true, .. } => {
                    drawn = Some(port);
                    break;
                }
                PortStatus::TimeWait { free_in_ms, .. } => {
                    soonest.note(free_in_ms);
                    if free_in_ms < free_in_ms_least {
                        (before, free_in_ms_least) = (at, free_in_ms);
                    }
                    (passed[count], count) = (port, count + 1);
                }
                PortStatus::Busy if count > 0 => (passed[count], count) = (port, count + 1),
                PortStatus::Busy => self.enqueue(number, port),
                // It joins the queue when it is given back.
                PortStatus::InUse => {}
            }
        }
        let waits = drawn.is_none() && count > 0;
        if waits {
            (lap, count) = before;
        } else if drawn.is_none() && !lap.is_done() {
            soonest.note(0);
        }
        let record = &mut self.slab[number];
        if waits && now.since(record.swept_at) >= lap.owned() * SWEEP_MS_PER_PORT {
            // The order may be another: whoever draws next asks about the whole lap.
            record.kind = LapKind::Anew;
            record.swept_at = now;
            soonest.note(0);
        }
        record.lap = lap;
        passed[..count].iter().for_each(|&port| self.enqueue(number, port));
        drawn
    }

    /// Takes the port that has been free for longest. One that somebody has taken meanwhile waits with the others.
    pub(super) fn draw_free(&mut self, number: u32, status: &mut impl FnMut(u16) -> PortStatus) -> Option<u16> {
        for _ in 0..QUEUED_ASKED_MAX {
            let port = self.queues.pop(&mut self.slab[number].free)?;
            match status(port) {
                PortStatus::Free | PortStatus::TimeWait { reusable: true, .. } => return Some(port),
                PortStatus::TimeWait { .. } | PortStatus::Busy => self.enqueue(number, port),
                PortStatus::InUse => {}
            }
        }
        None
    }

    /// Takes the port that was given back first, or the first available one close behind it. If there is none, the one that
    /// is available soonest comes to the front: what was before it was restarted (B41) or is taken, and goes to the end. Of those
    /// that a connection will give back a lap has found one more; they go. Only the first `queued` ports are asked about.
    pub(super) fn draw_queued(
        &mut self,
        number: u32,
        queued: u32,
        soonest: &mut Soonest,
        status: &mut impl FnMut(u16) -> PortStatus,
    ) -> Option<u16> {
        let (mut found, mut first, mut first_free_in_ms) = (false, 0, u32::MAX);
        let mut in_use = 0_u32;
        for (position, port) in (0..QUEUED_ASKED_MAX.min(queued)).zip(self.queues.iter(&self.slab[number].queue)) {
            match status(port) {
                PortStatus::Free | PortStatus::TimeWait { reusable: true, .. } => {
                    (found, first) = (true, position);
                    break;
                }
                PortStatus::TimeWait { free_in_ms, .. } => {
                    soonest.note(free_in_ms);
                    if free_in_ms < first_free_in_ms {
                        (first, first_free_in_ms) = (position, free_in_ms);
                    }
                }
                status @ (PortStatus::InUse | PortStatus::Busy) => {
                    in_use |= u32::from(status == PortStatus::InUse) << position;
                    if first_free_in_ms == u32::MAX {
                        first = position + 1;
                    }
                }
            }
        }
        for position in 0..first {
            if let Some(port) = self.dequeue(number)
                && in_use >> position & 1 == 0
            {
                self.enqueue(number, port);
            }
        }
        if found { self.dequeue(number) } else { None }
    }

    /// Sends those that begin the queue and that somebody else has to its end, many at a time, for they lie side by
    /// side; says how many. Of those that a connection will give back a lap has found one more; they go.
    pub(super) fn pass_taken(
        &mut self,
        number: u32,
        queued: u32,
        soonest: &mut Soonest,
        status: &mut impl FnMut(u16) -> PortStatus,
    ) -> u32 {
        let asked_max = REPEATED_ASKED_MAX.min(queued);
        // Those that stay in the queue.
        let mut busy = 0;
        for passed in 0..asked_max {
            let first = self.queues.iter(&self.slab[number].queue).next();
            let Some((port, status)) = first.map(|port| (port, status(port))) else { return passed };
            match status {
                PortStatus::Busy => {
                    self.dequeue(number);
                    self.enqueue(number, port);
                    busy += 1;
                }
                PortStatus::InUse => {
                    self.dequeue(number);
                }
                PortStatus::Free | PortStatus::TimeWait { .. } => {
                    self.slab[number].passed = 0;
                    return passed;
                }
            }
        }
        let record = &mut self.slab[number];
        record.passed = record.passed.saturating_add(busy);
        // Once around all are taken, and it depends on whoever has them. What the lap has just queued was asked about there.
        if asked_max > 0 && u32::from(record.passed) < record.queue.len() {
            soonest.note(0);
        }
        asked_max
    }

    /// Now and then goes around the queue, by as many ports as a draw may ask about, in case one behind those that wait is free:
    /// their 2MSL was longer, or was restarted (B41). Once around, the order is what it was.
    #[cold]
    pub(super) fn sweep(
        &mut self,
        number: u32,
        now: Tick,
        soonest: &mut Soonest,
        status: &mut impl FnMut(u16) -> PortStatus,
    ) -> Option<u16> {
        let record = &mut self.slab[number];
        if record.to_sweep == 0 {
            if now.since(record.swept_at) < record.lap.owned() * SWEEP_MS_PER_PORT {
                return None;
            }
            record.to_sweep = record.queue.len() as u16;
        }
        record.swept_at = now;
        for _ in 0..REPEATED_ASKED_MAX {
            let record = &mut self.slab[number];
            record.to_sweep = record.to_sweep.checked_sub(1)?;
            let port = self.dequeue(number)?;
            match status(port) {
                PortStatus::Free | PortStatus::TimeWait { reusable: true, .. } => return Some(port),
                PortStatus::TimeWait { free_in_ms, .. } => {
                    soonest.note(free_in_ms);
                    self.enqueue(number, port);
                }
                PortStatus::Busy => self.enqueue(number, port),
                PortStatus::InUse => {}
            }
        }
        if self.slab[number].to_sweep > 0 {
            soonest.note(0);
        }
        None
    }

    /// A lap asks about the ports in the order in which they were drawn before: by the last lap, or by the queue since, which then
    /// begins with the oldest. It begins before the queue draws anything out of turn.
    pub(super) fn begin_lap_if_some_were_forgotten(&mut self, number: u32) {
        let record = &mut self.slab[number];
        if !record.lap.is_done() {
            return;
        }
        if record.forgotten == 0 {
            record.queue_draws = true;
            return;
        }
        let oldest = if record.queue_draws { self.queues.iter(&record.queue).next() } else { None };
        self.queues.clear(&mut record.queue);
        self.queues.clear(&mut record.free);
        self.owners.again(self.shard, &mut record.lap, oldest);
        (record.kind, record.queue_draws) = (LapKind::InOrder, false);
        (record.forgotten, record.to_sweep) = (0, 0);
    }
}

/// Ports of the lap that a draw finds taken before it looks into the queue. Each is asked about once in a lap: fewer only make the
/// draws after a change of owners fail, whose lap begins among the ports in use; more make a single draw slower.
pub(super) const FRESH_ASKED_MAX: u32 = 16_384;

/// The same of a lap that repeats, and of the queue, which ask about a port any number of times: what a draw costs
/// while none is free.
pub(super) const REPEATED_ASKED_MAX: u32 = 512;

/// While no port is free, one more is asked about behind those that wait for so many ms: a thousand per second and destination.
const SWEEP_MS_PER_PORT: u32 = 1;

/// Queued ports that a draw asks about before it gives up. Fewer wait for ports whose TIME-WAIT was restarted in a row.
pub(super) const QUEUED_ASKED_MAX: u32 = 8;

const _: () = assert!(QUEUED_ASKED_MAX <= u32::BITS);
