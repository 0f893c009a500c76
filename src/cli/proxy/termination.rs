//! How a session ended, in the two letters of HAProxy's log (section 8.5 of its configuration manual): what ended it, and when.

use crate::api::{CloseReason, ConnectError};

/// What ended a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Termination {
    /// Both sides closed.
    Normal,
    /// Something else, and when.
    By(Cause, Stage),
}

/// The first letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// `C`: the client reset it, or is unreachable.
    Client,
    /// `c`: the client was silent for too long.
    ClientTimeout,
    /// `S`: the backend refused or reset it, is unreachable, or none is up.
    Backend,
    /// `s`: the backend did not answer, or was silent for too long.
    BackendTimeout,
    /// `R`: the proxy is out of connections, ports or memory.
    Resources,
    /// `K`: still open at the end of a drain.
    Killed,
}

/// The second letter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// `C`: the connection to the backend was not complete.
    Connecting,
    /// `D`: bytes could go either way.
    Data,
}

impl Termination {
    /// The two letters.
    pub(super) const fn letters(self) -> [char; 2] {
        let Termination::By(cause, stage) = self else { return ['-', '-'] };
        [cause.letter(), stage.letter()]
    }
}

impl Stage {
    const fn letter(self) -> char {
        match self {
            Stage::Connecting => 'C',
            Stage::Data => 'D',
        }
    }
}

impl Cause {
    const fn letter(self) -> char {
        match self {
            Cause::Client => 'C',
            Cause::ClientTimeout => 'c',
            Cause::Backend => 'S',
            Cause::BackendTimeout => 's',
            Cause::Resources => 'R',
            Cause::Killed => 'K',
        }
    }

    /// Of the end of the client's connection; `None` where its peer did not cause it.
    pub(super) const fn of_client(reason: CloseReason) -> Option<Cause> {
        match reason {
            CloseReason::Graceful | CloseReason::Aborted => None,
            CloseReason::Reset | CloseReason::Refused | CloseReason::Unreachable => Some(Cause::Client),
            CloseReason::TimedOut => Some(Cause::ClientTimeout),
        }
    }

    /// Of the end of the backend's connection.
    pub(super) const fn of_backend(reason: CloseReason) -> Option<Cause> {
        match reason {
            CloseReason::Graceful | CloseReason::Aborted => None,
            CloseReason::Reset | CloseReason::Refused | CloseReason::Unreachable => Some(Cause::Backend),
            CloseReason::TimedOut => Some(Cause::BackendTimeout),
        }
    }

    /// Of a refusal of the stack to connect to a backend.
    pub(super) const fn of_refusal(error: &ConnectError) -> Cause {
        match error {
            ConnectError::InvalidRemote(_) | ConnectError::NoRoute(_) => Cause::Backend,
            ConnectError::QuietTime(_)
            | ConnectError::LocalPortZero
            | ConnectError::NeighborsFull(_)
            | ConnectError::NotOurAddress(_)
            | ConnectError::PortInUse(_)
            | ConnectError::NotClaimed(_)
            | ConnectError::OtherShard { .. }
            | ConnectError::NoPortOfThisShard(_)
            | ConnectError::PortsExhausted { .. }
            | ConnectError::DestinationsExhausted(_)
            | ConnectError::TooManyConnections(_)
            | ConnectError::TimeWaitFull(_)
            | ConnectError::Options(_) => Cause::Resources,
        }
    }
}

/// Whether a refusal to connect to one backend, after `retries` of `retries_max` retries, leaves it worth a try at another at once: not where it
/// is the shard that is full. Without places in TIME-WAIT one other is tried, which may be of the other IP version, or have ports in TIME-WAIT
/// to use again; but not by the only retry, for after a second, too, it goes to another, and a place may have come.
pub(super) const fn may_go_elsewhere(error: &ConnectError, retries: u8, retries_max: u8) -> bool {
    match error {
        ConnectError::TooManyConnections(_) | ConnectError::QuietTime(_) => false,
        ConnectError::TimeWaitFull(_) => retries == 0 && retries_max > 1,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_say_who_and_when() {
        let by = |cause: Option<Cause>, stage| Termination::By(cause.unwrap(), stage).letters();
        assert_eq!(Termination::Normal.letters(), ['-', '-']);
        assert_eq!(by(Cause::of_backend(CloseReason::Reset), Stage::Data), ['S', 'D']);
        assert_eq!(by(Cause::of_backend(CloseReason::TimedOut), Stage::Connecting), ['s', 'C']);
        assert_eq!(by(Cause::of_client(CloseReason::Reset), Stage::Connecting), ['C', 'C']);
        let full = Cause::of_refusal(&ConnectError::TooManyConnections(1));
        assert_eq!(by(Some(full), Stage::Connecting), ['R', 'C']);
        assert_eq!((Cause::of_client(CloseReason::Aborted), Cause::of_backend(CloseReason::Graceful)), (None, None));
    }

    #[test]
    fn full_or_quiet_shard_is_no_reason_to_ask_all_backends_and_lack_of_ports_is() {
        let tries =
            |error: ConnectError| [(0, 1), (0, 2), (1, 2)].map(|(retries, max)| may_go_elsewhere(&error, retries, max));
        assert_eq!(tries(ConnectError::TooManyConnections(1)), [false, false, false]);
        assert_eq!(tries(ConnectError::QuietTime(1)), [false, false, false], "the shard opens nothing to any backend");
        assert_eq!(tries(ConnectError::TimeWaitFull(1)), [false, true, false]);
        let exhausted = ConnectError::PortsExhausted { owned: 1, in_use: 1, time_wait: 0, next_free_in_ms: None };
        assert_eq!(tries(exhausted), [true, true, true]);
    }
}
