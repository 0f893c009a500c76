//! The states of a connection (RFC 9293 3.3.2, figure 5).

/// The state of a TCB.
///
/// Two of the eleven states have no TCB: LISTEN is a listener, TIME-WAIT a compact record. CLOSED is absence; a TCB is
/// in it only as a remnant, outside the index, until the application has read everything and been told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum State {
    /// No connection.
    #[default]
    Closed,
    /// An active open waits for a matching SYN.
    SynSent,
    /// Both SYNs have been seen, the acknowledgment of ours has not: half-open.
    SynReceived,
    /// Data flows.
    Established,
    /// Our FIN is sent or queued, neither acknowledged nor answered.
    FinWait1,
    /// Our FIN is acknowledged, the peer's has not come.
    FinWait2,
    /// The peer's FIN has come, ours waits for the application.
    CloseWait,
    /// Both FINs have crossed, ours is not acknowledged.
    Closing,
    /// The peer closed first, our FIN is not acknowledged.
    LastAck,
}

impl State {
    /// All states that a TCB can be in.
    pub const ALL: [State; 9] = [
        State::Closed,
        State::SynSent,
        State::SynReceived,
        State::Established,
        State::FinWait1,
        State::FinWait2,
        State::CloseWait,
        State::Closing,
        State::LastAck,
    ];

    /// The RFC's name.
    pub const fn name(self) -> &'static str {
        match self {
            State::Closed => "CLOSED",
            State::SynSent => "SYN-SENT",
            State::SynReceived => "SYN-RECEIVED",
            State::Established => "ESTABLISHED",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::CloseWait => "CLOSE-WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST-ACK",
        }
    }

    /// The application may still send.
    pub const fn can_send(self) -> bool {
        matches!(self, State::Established | State::CloseWait)
    }

    /// Our FIN is queued or sent and not yet acknowledged.
    pub const fn is_closing_ours(self) -> bool {
        matches!(self, State::FinWait1 | State::Closing | State::LastAck)
    }

    /// The peer may still send text.
    pub const fn can_receive(self) -> bool {
        matches!(self, State::Established | State::FinWait1 | State::FinWait2)
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum CloseReason {
    /// Both directions were closed by FIN and acknowledged.
    Graceful,
    /// The peer sent RST.
    Reset,
    /// The peer answered the SYN with RST: nobody listens there.
    Refused,
    /// This side aborted.
    Aborted,
    /// No answer within the retransmission limit or the deadline.
    TimedOut,
    /// There is no way to the peer: no neighbour answers for the next hop, or a router or the peer's host has said so (ICMP).
    Unreachable,
}

impl CloseReason {
    /// The reason as one lower-case word.
    pub const fn name(self) -> &'static str {
        match self {
            CloseReason::Graceful => "graceful",
            CloseReason::Reset => "reset",
            CloseReason::Refused => "refused",
            CloseReason::Aborted => "aborted",
            CloseReason::TimedOut => "timed_out",
            CloseReason::Unreachable => "unreachable",
        }
    }
}
