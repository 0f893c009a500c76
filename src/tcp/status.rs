//! STATUS (RFC 9293 3.9.1.6): what an application may know of a connection, under the names of Linux's `tcp_info`.

use super::state::State;
use super::tcb::{Fact, Tcb};
use super::{output, urgent};

/// A connection at one moment. Sizes are bytes, times as named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info {
    /// Its state.
    pub state: State,
    /// SRTT, us; 0 before the first measurement.
    pub rtt_us: u32,
    /// RTTVAR, us.
    pub rttvar_us: u32,
    /// The time-out in force, ms.
    pub rto_ms: u32,
    /// Times that it has been doubled in a row.
    pub backoff: u8,
    /// Retransmissions in a row without progress.
    pub retransmits: u8,
    /// Keepalive probes that have not been answered.
    pub probes: u8,
    /// Congestion window.
    pub snd_cwnd: u32,
    /// Slow-start threshold; `u32::MAX` before the first loss.
    pub snd_ssthresh: u32,
    /// Effective send MSS before options.
    pub snd_mss: u16,
    /// Send window.
    pub snd_wnd: u32,
    /// Receive window.
    pub rcv_wnd: u32,
    /// Sent and not acknowledged, SYN and FIN counted.
    pub unacked: u32,
    /// Queued and not acknowledged, sent or not.
    pub queued: u32,
    /// Something queued, or a FIN, has not been sent, or has to be sent again.
    pub has_unsent: bool,
    /// Received in order and not taken by the application.
    pub unread: u32,
    /// Up to the end of the peer's urgent data; 0 when there is none.
    pub urgent: u32,
    /// An ICMP error has said that the peer is not reached, and nothing has been acknowledged since (SHLD-25). It ends nothing by itself.
    pub unreachable: bool,
    /// Timestamps were agreed.
    pub timestamps: bool,
    /// SACK was agreed.
    pub sack: bool,
    /// Window scaling was agreed: shift of windows that we receive, and that we offer.
    pub window_scale: Option<(u8, u8)>,
    /// What was kept of its past.
    pub history: Option<History>,
}

/// What is kept of a connection's past, where the limits leave room for it (`limits.histories_max`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct History {
    /// Since the SYN, ms; begins again after 49 days.
    pub age_ms: u32,
    /// The least round trip, us, in steps of 1 ms; `None` without timestamps.
    pub min_rtt_us: Option<u32>,
    /// Octets of ours that the peer has acknowledged.
    pub bytes_acked: u64,
    /// Octets received in order.
    pub bytes_received: u64,
    /// Segments with SYN, text or FIN that were sent again.
    pub total_retrans: u32,
}

/// What there is to know, but for the past.
pub fn info(tcb: &Tcb) -> Info {
    let agreed = tcb.agreed;
    Info {
        state: tcb.state,
        rtt_us: tcb.rto.srtt_us,
        rttvar_us: tcb.rto.rttvar_us,
        rto_ms: tcb.rto.current_ms(),
        backoff: tcb.rto.backoff,
        retransmits: tcb.retries,
        probes: tcb.keepalive_probes,
        snd_cwnd: tcb.congestion.cwnd,
        snd_ssthresh: tcb.congestion.ssthresh,
        snd_mss: tcb.mss,
        snd_wnd: tcb.snd_wnd,
        rcv_wnd: tcb.rcv_wnd(),
        unacked: tcb.flight(),
        queued: tcb.send_queued_bytes(),
        has_unsent: output::has_unsent(tcb),
        unread: tcb.unread_bytes,
        urgent: urgent::bytes_left(tcb),
        unreachable: tcb.facts.has(Fact::SOFT_ERROR),
        timestamps: agreed.timestamps(),
        sack: agreed.sack(),
        window_scale: agreed.window_scale().then(|| (agreed.snd_shift(), agreed.rcv_shift())),
        history: None,
    }
}
