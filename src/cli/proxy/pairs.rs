//! What a proxy knows of each client connection and of the connection to a backend that goes with it.

use super::backends::Counts;
use super::termination::{Cause, Stage, Termination};
use crate::api::CloseReason;
use crate::four_tuple::FourTuple;
use crate::ids::Handle;

/// The pairs of a shard, by number; those that are free are used again.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    pairs: Vec<Pair>,
    free: Vec<u32>,
    serial: u32,
}

/// A client's connection and a backend's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair {
    /// Told apart from those that had the number before.
    pub(super) serial: u32,
    pub(super) listener: u16,
    /// The backend that is, or was last, tried.
    pub(super) backend: Option<u16>,
    /// The client's connection.
    pub(super) tuple: FourTuple,
    /// `None` when it is over.
    pub(super) client: Option<Handle>,
    /// `None` before it is opened, between tries, and when it is over.
    pub(super) to_backend: Option<Handle>,
    /// It is counted among the connections to `backend`.
    pub(super) is_counted: bool,
    pub(super) phase: Phase,
    pub(super) retries: u8,
    pub(super) redispatched: bool,
    /// The first thing that ended it, other than both sides closing.
    pub(super) cause: Option<(Cause, Stage)>,
    /// One of the two was aborted by this side.
    pub(super) was_aborted: bool,
    pub(super) accepted_us: u64,
    pub(super) connected_us: Option<u64>,
    /// From the client to the backend, and back: counted when the splice ends; until then as last seen.
    pub(super) bytes: (u64, u64),
    /// Bytes that wait for acknowledgment once the splice has ended, as last seen.
    pub(super) queued: u32,
    /// When `bytes`, or `queued`, were last seen to change.
    pub(super) active_us: u64,
    /// The client's bytes changed last.
    pub(super) client_was_last: bool,
    /// The counts when the connection to the backend was over.
    pub(super) counts: Option<Counts>,
}

/// How far a pair has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// A handshake with a backend is under way.
    Connecting,
    /// The next try waits.
    Waiting,
    /// So many bytes of the header have gone to the backend; it is not all.
    Sending(u8),
    /// The stack carries bytes both ways.
    Spliced,
    /// Both directions have ended.
    Ending,
}

impl Pair {
    /// Notes what ended the pair unless something has before. What comes once both sides have closed ends nothing.
    pub(super) fn end_by(&mut self, cause: Option<Cause>) {
        if let (None, Some(cause), Some(stage)) = (self.cause, cause, self.stage()) {
            self.cause = Some((cause, stage));
        }
    }

    /// One of the two has ended.
    pub(super) fn closed(&mut self, cause: Option<Cause>, reason: CloseReason) {
        self.was_aborted |= reason == CloseReason::Aborted;
        self.end_by(cause);
    }

    /// How it ended, once both have.
    pub(super) fn termination(&self) -> Termination {
        match (self.cause, self.was_aborted, self.stage()) {
            (Some((cause, stage)), ..) => Termination::By(cause, stage),
            // The proxy itself never aborts without a cause: the end of a drain does.
            (None, true, Some(stage)) => Termination::By(Cause::Killed, stage),
            (None, ..) => Termination::Normal,
        }
    }

    /// When something that ends the pair now does so; `None` after both sides have closed.
    fn stage(&self) -> Option<Stage> {
        match self.phase {
            Phase::Connecting | Phase::Waiting => Some(Stage::Connecting),
            Phase::Sending(_) | Phase::Spliced => Some(Stage::Data),
            Phase::Ending => None,
        }
    }
}

impl Pairs {
    /// Pairs in use.
    pub(super) fn live(&self) -> usize {
        self.pairs.len() - self.free.len()
    }

    /// Numbers in use lie below this.
    pub(super) fn end(&self) -> u32 {
        self.pairs.len() as u32
    }

    /// A new pair, which waits for its first try.
    pub(super) fn insert(&mut self, client: Handle, tuple: FourTuple, listener: u16, now_us: u64) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        let pair = Pair {
            serial: self.serial,
            listener,
            backend: None,
            tuple,
            client: Some(client),
            to_backend: None,
            is_counted: false,
            phase: Phase::Waiting,
            retries: 0,
            redispatched: false,
            cause: None,
            was_aborted: false,
            accepted_us: now_us,
            connected_us: None,
            bytes: (0, 0),
            queued: 0,
            active_us: now_us,
            client_was_last: false,
            counts: None,
        };
        if let Some(number) = self.free.pop() {
            self.pairs[number as usize] = pair;
            return number;
        }
        self.pairs.push(pair);
        self.pairs.len() as u32 - 1
    }

    /// Frees a pair.
    pub(super) fn remove(&mut self, number: u32) {
        self.pairs[number as usize].client = None;
        self.pairs[number as usize].phase = Phase::Ending;
        self.free.push(number);
    }

    /// The pair, which is in use.
    pub(super) fn get(&mut self, number: u32) -> &mut Pair {
        &mut self.pairs[number as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn pair(phase: Phase) -> Pair {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut pairs = Pairs::default();
        let number = pairs.insert(Handle::from_bits(7), FourTuple::new(here, 80, here, 4000), 0, 0);
        pairs.get(number).phase = phase;
        *pairs.get(number)
    }

    #[test]
    fn first_cause_counts_and_none_after_both_sides_have_closed() {
        let mut broken = pair(Phase::Spliced);
        broken.closed(Cause::of_backend(CloseReason::Reset), CloseReason::Reset);
        broken.closed(Cause::of_client(CloseReason::Aborted), CloseReason::Aborted);
        assert_eq!(broken.termination(), Termination::By(Cause::Backend, Stage::Data));
        let mut late = pair(Phase::Ending);
        late.closed(Cause::of_client(CloseReason::Reset), CloseReason::Reset);
        assert_eq!(late.termination(), Termination::Normal);
        let mut killed = pair(Phase::Connecting);
        killed.closed(None, CloseReason::Aborted);
        assert_eq!(killed.termination(), Termination::By(Cause::Killed, Stage::Connecting));
    }

    #[test]
    fn numbers_are_used_again_and_serials_are_not() {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let tuple = FourTuple::new(here, 80, here, 4000);
        let mut pairs = Pairs::default();
        let one = pairs.insert(Handle::from_bits(1), tuple, 0, 0);
        let two = pairs.insert(Handle::from_bits(2), tuple, 0, 0);
        let serial = pairs.get(one).serial;
        pairs.remove(one);
        assert_eq!((pairs.live(), pairs.end()), (1, 2));
        let again = pairs.insert(Handle::from_bits(3), tuple, 0, 0);
        assert!(again == one && again != two && pairs.get(again).serial != serial);
    }
}
