//! RFC 9293 3.9.2.2, RFC 1191 and RFC 8201: an ICMP error about one of the connection's segments.
//!
//! Anyone can forge one. It counts only if it quotes a segment that is in flight (RFC 5927 4.1), it ends nothing but an open
//! that has not completed (5.2), and a path MTU is believed only where it can be true (7.2).

use super::state::{CloseReason, State};
use super::tcb::{Fact, Opened, Owed, Tcb, Timed};
use super::{Context, End, Note, Outcome, recovery};
use crate::limits::{PATH_MTU_MIN_V4, PATH_MTU_MIN_V6};
use crate::seq::Seq;
use crate::wire::icmp::{Error, ErrorKind};

/// The error, at the connection that its quoted 4-tuple names. What became of it is the outcome's note.
pub fn arrives(tcb: &mut Tcb, error: &Error, cx: &Context<'_>) -> Outcome {
    let mut out = Outcome::default();
    let seq = error.quoted.seq;
    let in_flight = tcb.state != State::Closed && tcb.snd_una.le(seq) && seq.lt(tcb.snd_nxt);
    out.note = Some(match error.kind {
        ErrorKind::SourceQuench => Note::SourceQuench,
        _ if !in_flight => Note::IcmpUnmatched,
        ErrorKind::TooBig { mtu } => too_big(tcb, mtu, seq, cx),
        ErrorKind::Unreachable { .. } if error.is_hard() => hard(tcb, &mut out),
        ErrorKind::Unreachable { .. } | ErrorKind::TimeExceeded | ErrorKind::ParameterProblem => soft(tcb),
    });
    tcb.invariants();
    out
}

/// A connection that begins on a path of which the MTU is known, bytes of IP packet.
pub fn begin_with_path_mtu(tcb: &mut Tcb, mtu: u16) {
    let mss = mtu.saturating_sub(header_bytes(tcb));
    if mss < tcb.mss {
        tcb.mss = mss;
        // RFC 6928: ten of these segments.
        tcb.congestion.cwnd = tcb.congestion.cwnd.min(10 * u32::from(mss));
    }
}

/// The largest IP packet that the connection sends, bytes.
pub fn packet_bytes(tcb: &Tcb) -> u16 {
    tcb.mss.saturating_add(header_bytes(tcb))
}

/// MUST-56: nothing ends. If the connection times out without having made progress since, this is the reason given
/// (SHLD-25).
fn soft(tcb: &mut Tcb) -> Note {
    tcb.facts.add(Fact::SOFT_ERROR);
    Note::IcmpSoft
}

/// SHLD-26 where the handshake has not completed. A synchronized connection outlives it (RFC 5927 5.2, a named deviation):
/// what can be guessed must not end it, and if nobody is there the retransmission limit ends it anyway.
fn hard(tcb: &mut Tcb, out: &mut Outcome) -> Note {
    let end = match (tcb.state, tcb.opened()) {
        (State::SynReceived, Opened::Passively) => End::Listen,
        (State::SynSent, _) | (State::SynReceived, Opened::Actively) => End::Closed(CloseReason::Unreachable),
        (
            State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait | State::Closing | State::LastAck,
            _,
        ) => return soft(tcb),
        (State::Closed, _) => return Note::IcmpUnmatched,
    };
    tcb.end(CloseReason::Unreachable);
    out.end = Some(end);
    Note::IcmpHard
}

/// "Fragmentation needed" or "packet too big": segments become smaller, and what was too big is sent again at once.
fn too_big(tcb: &mut Tcb, claimed: u32, seq: Seq, cx: &Context<'_>) -> Note {
    let Some(mtu) = believable_mtu(tcb, claimed, seq) else { return Note::PathMtuRefused };
    tcb.mss = mtu - header_bytes(tcb);
    tcb.facts.remove(Fact::LARGE_ACKNOWLEDGED);
    // Not lost by congestion (RFC 1191 6.5): cwnd stays as it is.
    tcb.timed = Timed::NONE;
    tcb.recovery.timed_out(tcb.snd_nxt, false);
    tcb.snd_resume = tcb.snd_una;
    recovery::arm_time_out(tcb, cx);
    tcb.owed.add(Owed::DATA);
    Note::PathMtuLowered
}

/// The path MTU to go on with, bytes of IP packet; `None` where the claim is not believed.
fn believable_mtu(tcb: &Tcb, claimed: u32, seq: Seq) -> Option<u16> {
    let now = u32::from(packet_bytes(tcb));
    let mtu = match (tcb.is_v4(), claimed) {
        // A router older than RFC 1191 does not say what would fit: the next plateau of its section 7.1.
        (true, 0) => PLATEAUS.into_iter().find(|plateau| u32::from(*plateau) < now)?.into(),
        (true, _) => claimed.max(PATH_MTU_MIN_V4.into()),
        // RFC 8201 4: no IPv6 link is that small.
        (false, _) if claimed < PATH_MTU_MIN_V6.into() => return None,
        (false, _) => claimed,
    };
    let quoted_bytes_max = (tcb.snd_nxt - seq).saturating_add(u32::from(header_bytes(tcb)) + TCP_OPTIONS_BYTES_MAX);
    // RFC 5927 7.2: while packets that large arrive, the claim is not believed. A time-out ends that, and brings it again.
    let arrives_all_the_same = tcb.facts.has(Fact::LARGE_ACKNOWLEDGED) && tcb.retries == 0;
    let believed = mtu < now && mtu < quoted_bytes_max && !arrives_all_the_same;
    believed.then_some(mtu as u16)
}

/// Bytes of the IP and TCP headers without options.
fn header_bytes(tcb: &Tcb) -> u16 {
    if tcb.is_v4() { 40 } else { 60 }
}

/// Most bytes of options that a segment of ours has: its data offset has four bits.
const TCP_OPTIONS_BYTES_MAX: u32 = 40;

/// MTUs of common links, bytes (RFC 1191 7.1), none below the smallest that is believed.
const PLATEAUS: [u16; 6] = [8166, 4352, 2002, 1492, 1006, PATH_MTU_MIN_V4];
