//! Which port is next: of the lap, of those that are free at once, of the queue, or in a sweep. Each asks the caller about a bounded number.

use super::{Destinations, LapKind, PortStatus, Soonest};
use crate::tick::Tick;

impl Destinations {
    /// Goes on with the lap: each port that is ours is asked about once.
    #[inline(always)]
    pub(super) fn draw_fresh(
        &mut self,
        number: u32,
        soonest: &mut Soonest,
        status: &mut impl FnMut(u16) -> PortStatus,
    ) -> Option<u16> {
        if self.slab[number].kind == LapKind::InOrder {
            return self.draw_in_order(number, soonest, status);
        }
        for _ in 0..FRESH_ASKED_MAX {
            let port = self.owners.next_port(self.shard, &mut self.slab[number].lap)?;
            match status(port) {
                PortStatus::Free | PortStatus::TimeWait { reusable: true, .. } => return Some(port),
                // It joins the queue when it is given back.
                PortStatus::InUse => {}
                PortStatus::NoPlace => self.set_aside(number, port),
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
    /// (B41) or is taken, and goes to the queue.
    #[cold]
    fn draw_in_order(
        &mut self,
        number: u32,
        soonest: &mut Soonest,
        status: &mut impl FnMut(u16) -> PortStatus,
    ) -> Option<u16> {
        let mut lap = self.slab[number].lap;
        let (mut passed, mut count) = ([(0, PortStatus::Free); QUEUED_ASKED_MAX as usize], 0);
        // Before the port that is available soonest: the lap, and how many it has passed; and when that will be.
        let (mut before, mut free_in_ms_least) = ((lap, 0), u32::MAX);
        let mut drawn = None;
        for _ in 0..REPEATED_ASKED_MAX {
            let at = (lap, count);
            let next = if count < passed.len() { self.owners.next_port(self.shard, &mut lap) } else { None };
            let Some(port) = next else { break };
            let status = status(port);
            match status {
                PortStatus::Free | PortStatus::TimeWait { reusable: true, .. } => {
                    drawn = Some(port);
                    break;
                }
                PortStatus::TimeWait { free_in_ms, .. } => {
                    soonest.note(free_in_ms);
                    if free_in_ms < free_in_ms_least {
                        (before, free_in_ms_least) = (at, free_in_ms);
                    }
                    (passed[count], count) = ((port, status), count + 1);
                }
                PortStatus::Busy | PortStatus::NoPlace if count > 0 => {
                    (passed[count], count) = ((port, status), count + 1);
                }
                PortStatus::Busy => self.enqueue(number, port),
                PortStatus::NoPlace => self.set_aside(number, port),
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
        for &(port, status) in &passed[..count] {
            self.keep(number, port, status);
        }
        drawn
    }

    /// Takes the port that has been free for longest. One that somebody has taken meanwhile waits with the others.
    pub(super) fn draw_free(
        &mut self,
        number: u32,
        soonest: &mut Soonest,
        status: &mut impl FnMut(u16) -> PortStatus,
    ) -> Option<u16> {
        for _ in 0..QUEUED_ASKED_MAX {
            let port = self.queues.pop(&mut self.slab[number].free)?;
            match status(port) {
                PortStatus::Free | PortStatus::TimeWait { reusable: true, .. } => return Some(port),
                PortStatus::TimeWait { free_in_ms, .. } => {
                    soonest.note(free_in_ms);
                    self.enqueue(number, port);
                }
                PortStatus::Busy | PortStatus::NoPlace => self.enqueue(number, port),
                PortStatus::InUse => {}
            }
        }
        if !self.slab[number].free.is_empty() {
            soonest.note(0);
        }
        None
    }

    /// Moves those that begin the queue and are free, but have no place in TIME-WAIT, to those that were free at once.
    pub(super) fn set_free_aside(&mut self, number: u32, status: &mut impl FnMut(u16) -> PortStatus) {
        for _ in 0..REPEATED_ASKED_MAX {
            let first = self.queues.iter(&self.slab[number].queue).next();
            let Some(port) = first.filter(|&port| status(port) == PortStatus::NoPlace) else { return };
            self.dequeue(number);
            self.set_aside(number, port);
        }
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
        let mut passed = [PortStatus::Free; QUEUED_ASKED_MAX as usize];
        for (position, port) in (0..QUEUED_ASKED_MAX.min(queued)).zip(self.queues.iter(&self.slab[number].queue)) {
            let status = status(port);
            passed[position as usize] = status;
            match status {
                PortStatus::Free | PortStatus::TimeWait { reusable: true, .. } => {
                    (found, first) = (true, position);
                    break;
                }
                // The next draw sets it aside, or this one, on its way to what is behind it.
                PortStatus::NoPlace => {
                    if first_free_in_ms > 0 {
                        (first, first_free_in_ms) = (position, 0);
                    }
                }
                PortStatus::TimeWait { free_in_ms, .. } => {
                    soonest.note(free_in_ms);
                    if free_in_ms < first_free_in_ms {
                        (first, first_free_in_ms) = (position, free_in_ms);
                    }
                }
                PortStatus::InUse | PortStatus::Busy => {
                    if first_free_in_ms == u32::MAX {
                        first = position + 1;
                    }
                }
            }
        }
        for &status in &passed[..first as usize] {
            if let Some(port) = self.dequeue(number) {
                self.keep(number, port, status);
            }
        }
        if found { self.dequeue(number) } else { None }
    }

    /// Sends those that begin the queue and that somebody else has to its end, many at a time, for they lie side by
    /// side; says how many. Of those that a connection will give back a lap has found one more; they go. A sweep does not step back for
    /// them: where all are taken it would never come to its end.
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
                    self.queues.pop(&mut self.slab[number].queue);
                    self.enqueue(number, port);
                    busy += 1;
                }
                PortStatus::InUse => {
                    self.queues.pop(&mut self.slab[number].queue);
                }
                PortStatus::Free | PortStatus::NoPlace | PortStatus::TimeWait { .. } => {
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

    /// Now and then looks behind those that wait, as far as a draw may, in case the order is another: their 2MSL was longer, or
    /// was restarted (B41). At once where TIME-WAIT has room again and free ports were forgotten while it had none, for they lie
    /// anywhere. Moves nothing but what it finds, for whose place in the queue the first of it waits.
    #[cold]
    pub(super) fn sweep(
        &mut self,
        number: u32,
        now: Tick,
        has_room: bool,
        soonest: &mut Soonest,
        status: &mut impl FnMut(u16) -> PortStatus,
    ) -> Option<u16> {
        let record = &mut self.slab[number];
        let sweep = usize::from(has_room);
        if record.swept[sweep] == 0 {
            let earned = now.since(record.swept_at).saturating_mul(SWEPT_PER_MS);
            let earned = earned.saturating_add(u32::from(record.drawn) * SWEPT_PER_DRAW);
            let finds_free = has_room && record.free_hidden;
            if !finds_free && earned < record.lap.owned() {
                return None;
            }
            record.free_hidden &= !finds_free;
        }
        (record.swept_at, record.drawn) = (now, 0);
        if record.lap.is_done() && record.forgotten > 0 {
            // While TIME-WAIT is full those set aside would keep off the lap for what was forgotten.
            record.free_hidden |= !record.free.is_empty();
            self.queues.clear(&mut record.free);
            self.begin_lap(number);
        }
        let from = self.slab[number].swept[sweep];
        let Ahead { found, mut next, has_free } = self.look_ahead(number, from, soonest, status);
        // It lies as far behind when there is room.
        self.slab[number].free_hidden |= has_free;
        match found {
            Some((Place::Queue(place), _)) => {
                let first = self.dequeue(number)?;
                if let Some(before) = place.checked_sub(1) {
                    self.queues.replace(&self.slab[number].queue, before, first);
                }
                next = next.saturating_sub(1);
            }
            Some((Place::Ahead | Place::Passed, _)) => {}
            None if next > 0 || (has_room && self.slab[number].free_hidden) => soonest.note(0),
            None => {}
        }
        // The next one goes on where this one was.
        self.slab[number].swept[sweep] = next;
        found.map(|(_, port)| port)
    }

    /// Asks about what lies ahead of the lap, about the queue, and about what the lap has passed and the queue has no room for, `from` where
    /// the sweep has come to on.
    fn look_ahead(
        &self,
        number: u32,
        from: u32,
        soonest: &mut Soonest,
        status: &mut impl FnMut(u16) -> PortStatus,
    ) -> Ahead {
        let record = &self.slab[number];
        let ports_of = |mut lap, wanted| {
            core::iter::from_fn(move || if wanted { self.owners.next_port(self.shard, &mut lap) } else { None })
        };
        let in_lap = !record.lap.is_done();
        let waits_ahead = in_lap && record.kind == LapKind::InOrder;
        let ahead = ports_of(record.lap, waits_ahead).map(|port| (Place::Ahead, port));
        let passed = ports_of(record.lap.passed(), in_lap && record.forgotten > 0).map(|port| (Place::Passed, port));
        // Part by part, for the queue knows a shorter way to a place far behind.
        let ahead_len = if waits_ahead { record.lap.left() } else { 0 };
        let first_queued = from.saturating_sub(ahead_len);
        let first_passed = first_queued.saturating_sub(record.queue.len());
        let queued = self.queues.iter_from(&record.queue, first_queued);
        let queued = (first_queued..).zip(queued).map(|(place, port)| (Place::Queue(place), port));
        let ports = ahead.skip(from as usize).chain(queued).chain(passed.skip(first_passed as usize));
        let mut ports = (from..).zip(ports);
        let (mut found, mut has_free) = (None, false);
        for (_, (place, port)) in ports.by_ref().take(REPEATED_ASKED_MAX as usize) {
            match status(port) {
                PortStatus::Free | PortStatus::TimeWait { reusable: true, .. } => {
                    found = Some((place, port));
                    break;
                }
                PortStatus::TimeWait { free_in_ms, .. } => soonest.note(free_in_ms),
                PortStatus::NoPlace => has_free = true,
                PortStatus::InUse | PortStatus::Busy => {}
            }
        }
        Ahead { found, next: ports.next().map_or(0, |(position, _)| position), has_free }
    }

    /// A lap asks about the ports in the order in which they were drawn before: by the last lap, or by the queue since, which then
    /// begins with the oldest. It begins before the queue draws anything out of turn. Free ports that it passed while TIME-WAIT was
    /// full are out of order, and found by a sweep.
    pub(super) fn begin_lap_if_some_were_forgotten(&mut self, number: u32) {
        self.note_whether_the_queue_draws(number);
        let record = &self.slab[number];
        if record.lap.is_done() && record.forgotten > 0 && record.free.is_empty() {
            self.begin_lap(number);
        }
    }

    /// Once it does, the next lap begins with the oldest of the queue.
    #[inline(always)]
    pub(super) fn note_whether_the_queue_draws(&mut self, number: u32) {
        let record = &mut self.slab[number];
        record.queue_draws |= record.lap.is_done() && record.forgotten == 0;
    }

    /// The same, from the front of the queue on where that has drawn.
    fn begin_lap(&mut self, number: u32) {
        let record = &mut self.slab[number];
        let oldest = self.queues.iter(&record.queue).next().filter(|_| record.queue_draws);
        self.queues.clear(&mut record.queue);
        self.owners.again(self.shard, &mut record.lap, oldest);
        (record.kind, record.queue_draws) = (LapKind::InOrder, false);
        (record.forgotten, record.passed, record.swept) = (0, 0, [0; 2]);
    }
}

/// What a sweep has seen.
struct Ahead {
    /// A port that may be drawn.
    found: Option<(Place, u16)>,
    /// Where to go on; 0 at the end.
    next: u32,
    /// A port is free, but has no place in TIME-WAIT.
    has_free: bool,
}

/// Where a sweep finds a port.
#[derive(Clone, Copy)]
enum Place {
    /// In the lap, which comes to it later and asks again.
    Ahead,
    /// In the queue, so far behind the first.
    Queue(u32),
    /// Behind the lap: forgotten, or in the queue, where the sweep came by before its 2MSL ended. Which of the two is not known, so
    /// as many count as forgotten as before: at worst there is a lap too many.
    Passed,
}

/// Ports of the lap that a draw finds taken before it looks into the queue. Each is asked about once in a lap: fewer only make the
/// draws after a change of owners fail, whose lap begins among the ports in use; more make a single draw slower.
pub(super) const FRESH_ASKED_MAX: u32 = 16_384;

/// The same of a lap in order, of the queue and of a sweep, which ask about a port any number of times: what a draw costs while
/// none is free.
pub(super) const REPEATED_ASKED_MAX: u32 = 512;

/// While no port is found where it should be, so many are asked about behind those that wait, per ms and per port drawn.
const SWEPT_PER_MS: u32 = 1;
const SWEPT_PER_DRAW: u32 = 8;

/// Queued ports that a draw asks about before it gives up. Fewer wait for ports whose TIME-WAIT was restarted in a row.
pub(super) const QUEUED_ASKED_MAX: u32 = 8;
