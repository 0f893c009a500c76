//! Which port is next: of the lap, of a lap that repeats, of the queue. Each asks the caller about a bounded number of ports.

use super::{Destinations, PortStatus, Soonest};

impl Destinations {
    /// Goes on with the lap: each port that is ours is asked about once.
    #[inline(always)]
    pub(super) fn draw_fresh(
        &mut self,
        number: u32,
        soonest: &mut Soonest,
        status: &mut impl FnMut(u16) -> PortStatus,
    ) -> Option<u16> {
        if self.slab[number].repeats {
            return self.draw_repeated(number, soonest, status);
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

    /// Goes on with a lap that repeats. Its ports come in the order in which they were drawn: where the first is in TIME-WAIT so are
    /// those behind it, and the lap waits for the one of the next few that is available soonest. What is before that was
    /// restarted (B41) or is taken, and goes to the queue.
    #[cold]
    fn draw_repeated(
        &mut self,
        number: u32,
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
        if drawn.is_none() && count > 0 {
            (lap, count) = before;
        } else if drawn.is_none() && !lap.is_done() {
            soonest.note(0);
        }
        self.slab[number].lap = lap;
        passed[..count].iter().for_each(|&port| self.enqueue(number, port));
        drawn
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
        self.owners.again(self.shard, &mut record.lap, oldest);
        (record.forgotten, record.repeats, record.queue_draws) = (0, true, false);
    }
}

/// Ports of the lap that a draw finds taken before it looks into the queue. Each is asked about once in a lap: fewer only make the
/// draws after a change of owners fail, whose lap begins among the ports in use; more make a single draw slower.
pub(super) const FRESH_ASKED_MAX: u32 = 16_384;

/// The same of a lap that repeats, and of the queue, which ask about a port any number of times: what a draw costs
/// while none is free.
pub(super) const REPEATED_ASKED_MAX: u32 = 512;

/// Queued ports that a draw asks about before it gives up. Fewer wait for ports whose TIME-WAIT was restarted in a row.
pub(super) const QUEUED_ASKED_MAX: u32 = 8;

const _: () = assert!(QUEUED_ASKED_MAX <= u32::BITS);
