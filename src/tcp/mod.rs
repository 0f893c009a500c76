//! The protocol: one file per section of RFC 9293, pure functions over one record.
//!
//! | RFC 9293 | file |
//! | --- | --- |
//! | 3.3.1 TCB variables | [`tcb`] |
//! | 3.3.2 states | [`state`] |
//! | 3.4.1 initial sequence number | [`isn`] |
//! | 3.4.2, 3.6.1 TIME-WAIT and reuse; its segments | [`time_wait`] |
//! | 3.7.1, RFC 7323, RFC 2018 options | [`options`] |
//! | 3.8.1 retransmission time-out (RFC 6298) | [`rto`] |
//! | 3.8.2 congestion control (RFC 5681, 6928, 9438) | [`congestion`] |
//! | 3.8.2 loss recovery (RFC 6582, SACK by RFC 2018 and 6675) | [`recovery`], [`sack`] |
//! | 3.8.2 losses found by time, tail loss probe (RFC 8985) | `rack` |
//! | 3.8.6 windows, what may be sent now | [`output`] |
//! | RFC 4987 3.6 SYN cookies | [`cookie`] |
//! | RFC 5961 7, limits of answers | [`rate`] |
//! | 3.8.3 to 3.8.5, 3.9.1 settings of one connection | [`connection_options`] |
//! | 3.8.5 urgent data (RFC 6093) | [`urgent`] |
//! | 3.8.4 keepalive, 3.9.1 user timeout | `waits` |
//! | 3.9.2.2 ICMP errors, path MTU (RFC 1191, 8201) | [`icmp`] |
//! | 3.10.1 to 3.10.5 calls | [`calls`] |
//! | 3.9.1.6, 3.10.6 STATUS | [`status`] |
//! | 3.10.7.1 segment arrives, CLOSED | [`closed`] |
//! | 3.10.7.2 segment arrives, LISTEN | [`listen`] |
//! | 3.10.7.3 segment arrives, SYN-SENT | [`syn_sent`] |
//! | 3.10.7.4 segment arrives, other states | [`synchronized`] |
//! | 3.10.7.4, SHLD-31 text and FIN out of order | [`reassembly`] |
//! | 3.10.8 timeouts | [`timeouts`] |
//!
//! A function changes its record, notes what is owed in it, and says the rest in an [`Outcome`]. It sends nothing,
//! reads no clock and knows no container.

#![forbid(unsafe_code)]

pub mod calls;
pub mod closed;
pub mod congestion;
pub mod connection_options;
pub mod cookie;
pub mod icmp;
pub mod isn;
pub mod listen;
pub mod options;
pub mod output;
mod rack;
pub mod rate;
pub mod reassembly;
pub mod recovery;
pub mod round_trip;
pub mod rto;
pub mod sack;
pub mod state;
pub mod status;
pub mod syn_sent;
pub mod synchronized;
pub mod tcb;
pub mod time_wait;
pub mod timeouts;
pub mod urgent;
pub mod waits;

#[cfg(test)]
mod tests;

use self::connection_options::ConnectionOptions;
use self::state::CloseReason;
use crate::seq::Seq;
use crate::tick::Now;
use crate::wire::tcp::{Flags, Timestamps};

/// What every function of this floor may know besides its record and its segment.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The turn's time.
    pub now: Now,
    /// Settings of the stack.
    pub settings: &'a Settings,
    /// Settings of the connection; the defaults where there is none.
    pub options: &'a ConnectionOptions,
    /// Whether the receive pool can take the payload of one more segment.
    pub receive_room: bool,
}

impl<'a> Context<'a> {
    /// What there is to know where no connection is concerned.
    pub const fn without_connection(now: Now, settings: &'a Settings) -> Context<'a> {
        Context { now, settings, options: &ConnectionOptions::DEFAULT, receive_room: false }
    }

    /// The connection's receive buffer: the largest window offered, bytes.
    #[inline]
    pub const fn receive_buffer_bytes(&self) -> u32 {
        match self.options.receive_buffer {
            Some(bytes) => bytes,
            None => self.settings.receive_buffer_bytes,
        }
    }

    /// The connection's send buffer, bytes.
    #[inline]
    pub const fn send_buffer_bytes(&self) -> u32 {
        match self.options.send_buffer {
            Some(bytes) => bytes,
            None => self.settings.send_buffer_bytes,
        }
    }
}

/// Settings of the protocol, the same for every connection of a stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// MSL, ms (B40).
    pub msl_ms: u32,
    /// Since when `msl_ms` has been what it is: what is older in TIME-WAIT may have another end (B45).
    pub msl_since: Now,
    /// Receive buffer of one connection, bytes: the largest window ever offered. Its options may say otherwise.
    pub receive_buffer_bytes: u32,
    /// Send buffer of one connection, bytes. Its options may say otherwise.
    pub send_buffer_bytes: u32,
    /// Offer the timestamps option (RFC 7323).
    pub timestamps: bool,
    /// Offer window scaling (RFC 7323).
    pub window_scale: bool,
    /// Offer selective acknowledgments (RFC 2018).
    pub sack: bool,
    /// RST in TIME-WAIT ends it (RFC 9293 3.10.7.4) instead of being ignored (RFC 1337, B43).
    pub rst_ends_time_wait: bool,
    /// When a 4-tuple in TIME-WAIT may be used again before 2MSL is over.
    pub time_wait_policy: time_wait::Policy,
    /// How long a 4-tuple stays in TIME-WAIT at least before an active open may take it, ms (B45).
    pub time_wait_delay_ms: u32,
    /// What happens when the TIME-WAIT store is full (B46).
    pub time_wait_full: time_wait::Full,
    /// When SYNs are answered by cookies (B13).
    pub syn_cookies: cookie::SynCookies,
    /// R2 of the SYN-ACK of a passive open: retransmissions after which half-open state is removed (B11; tcp_synack_retries), at
    /// most [`crate::limits::SYN_ACK_RETRIES_MAX`].
    pub syn_ack_retries: u8,
    /// How the congestion window grows and falls.
    pub congestion: congestion::CongestionControl,
    /// RSTs and TIME-WAIT ACKs that belong to no connection, per second and shard (T02).
    pub answers_per_second: u32,
    /// How many of them may leave at once.
    pub answers_burst: u32,
    /// Secret of the ISN and of the timestamp offset (RFC 6528, RFC 7323 5.4).
    pub isn_secret: (u64, u64),
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            mtu: 1500,
            msl_ms: crate::limits::MSL_MS,
            msl_since: Now::default(),
            receive_buffer_bytes: 256 * 1024,
            send_buffer_bytes: 256 * 1024,
            timestamps: true,
            window_scale: true,
            sack: true,
            rst_ends_time_wait: false,
            time_wait_policy: time_wait::Policy::default(),
            time_wait_delay_ms: crate::limits::TIME_WAIT_DELAY_MS,
            time_wait_full: time_wait::Full::default(),
            syn_cookies: cookie::SynCookies::default(),
            syn_ack_retries: crate::limits::SYN_ACK_RETRIES,
            congestion: congestion::CongestionControl::default(),
            answers_per_second: crate::limits::ANSWERS_PER_SECOND,
            answers_burst: crate::limits::ANSWERS_BURST,
            isn_secret: (0, 0),
        }
    }
}

/// What an arriving segment, a call or a time-out did, beyond the record itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// The handshake has completed.
    pub established: bool,
    /// In-order payload for the application: bytes to skip at the front of the segment's payload, and how many follow.
    pub text: Option<(u16, u16)>,
    /// Octets of the send buffer that were acknowledged.
    pub acked_bytes: u32,
    /// The peer's FIN was taken in order.
    pub peer_closed: bool,
    /// The TCB's life is over.
    pub end: Option<End>,
    /// A segment to answer with that needs no TCB.
    pub answer: Option<Answer>,
    /// The segment called for an ACK that the connection's limit holds back.
    pub challenge_suppressed: bool,
    /// R1 retransmissions in a row have brought nothing (MUST-20).
    pub stalled: bool,
    /// The application has not closed although the peer did long ago (B37).
    pub close_wait_lasts: bool,
    /// Urgent data begins, of which the application has not heard (MUST-32).
    pub urgent: bool,
    /// Fast recovery begins (RFC 6582, RFC 6675): counted beside what the segment's text is noted for.
    pub recovery_begins: bool,
    /// What else to count.
    pub note: Option<Note>,
}

impl Outcome {
    /// Whether anything happened beside what every connection goes through: handshake, text, acknowledgments, FIN and end.
    #[inline]
    pub const fn is_unusual(&self) -> bool {
        let happened = self.challenge_suppressed | self.stalled | self.close_wait_lasts | self.urgent;
        happened | self.recovery_begins | self.note.is_some()
    }
}

/// Where a connection goes when its TCB ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// TIME-WAIT: a compact record takes over for 2MSL.
    TimeWait,
    /// CLOSED, for this reason.
    Closed(CloseReason),
    /// Back to LISTEN: a half-open connection of which no application knows is gone (MUST-11).
    Listen,
}

/// A segment built from values alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// SEG.SEQ.
    pub seq: Seq,
    /// SEG.ACK; sent only with the ACK bit.
    pub ack: Seq,
    /// The control bits.
    pub flags: Flags,
    /// SEG.WND, as the header holds it.
    pub wnd: u16,
    /// Timestamps, where they were agreed.
    pub timestamps: Option<Timestamps>,
}

/// Events that are only counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// A RST ended a connection.
    RstAccepted,
    /// A RST in SYN-SENT had no ACK.
    RstIgnored,
    /// A SYN in the window ended a half-open connection (RFC 9293 3.10.7.4, fourth).
    ReturnedToListen,
    /// A challenge ACK is owed (RFC 5961).
    ChallengeAck,
    /// The sequence number was unacceptable, or the SYN of a half-open connection came again.
    OutOfWindow,
    /// The acknowledgment number was unacceptable.
    BadAck,
    /// PAWS refused the segment (RFC 7323 5.3).
    Paws,
    /// The RFC has the segment, or its text and FIN behind the peer's FIN, dropped in silence.
    Ignored,
    /// In the window, but not next.
    OutOfOrder,
    /// The retransmission time-out has come (RFC 6298 5.4).
    TimedOut,
    /// A tail loss probe is owed (RFC 8985 7).
    TailProbe,
    /// In order, but the receive pool is empty.
    NoReceiveRoom,
    /// A retransmitted FIN restarts 2MSL (B41).
    TimeWaitRestart,
    /// A keepalive probe is owed.
    KeepaliveProbe,
    /// The last keepalive probe was not answered: the connection ends.
    KeepaliveTimeout,
    /// No progress for the user timeout: the connection ends.
    UserTimeout,
    /// No progress for long while memory is short: the connection ends (T03).
    StalledEnded,
    /// An ICMP error about a segment that is not in flight.
    IcmpUnmatched,
    /// A soft ICMP error, or a hard one that ended nothing.
    IcmpSoft,
    /// An ICMP error ended an open that had not completed.
    IcmpHard,
    /// A source quench (MUST-55).
    SourceQuench,
    /// A path MTU was believed: the MSS is smaller.
    PathMtuLowered,
    /// A path MTU was not believed.
    PathMtuRefused,
}
