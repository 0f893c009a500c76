//! Every frame is accounted for: dropped under a reason, counted for what it was, or taken by a connection.

use super::*;
use crate::counters::Counters;
use crate::tcp::tcb::Tcb;
use crate::wire::TcpPacket;

/// What was there before a frame came.
pub(super) struct Before {
    verdicts: u64,
    counters: Counters,
    /// The segment in the frame, if it is one for this stack, the name in it, and the connection that it will meet.
    met: Option<(Segment, FourTuple, Option<Tcb>)>,
    /// Something of that connection has come before its turn, its FIN perhaps.
    keeps: bool,
}

/// What was there before a burst came.
pub(super) struct Together {
    verdicts: u64,
    dropped: u64,
    counters: Counters,
    frames: u64,
    /// Frames that the parser drops, those with a segment, and those with a RST.
    unparsed: u64,
    segments: u64,
    resets: u64,
}

impl Together {
    pub(super) fn of(world: &Hostile, frames: &[Vec<u8>]) -> Together {
        let mut together = Together {
            verdicts: world.verdicts(),
            dropped: world.stack.drops().total(),
            counters: *world.stack.counters(),
            frames: frames.len() as u64,
            unparsed: 0,
            segments: 0,
            resets: 0,
        };
        for frame in frames {
            match parsed(frame) {
                Ok(Parsed::Tcp(packet)) => {
                    together.segments += 1;
                    together.resets += u64::from(packet.segment.flags.rst());
                }
                Ok(_) => {}
                Err(_) => together.unparsed += 1,
            }
        }
        together
    }
}

/// The frame as the stack's parser sees it.
pub(super) fn parsed(frame: &[u8]) -> Result<Parsed, DropReason> {
    parse(frame, &Expect { mac: STACK_MAC, mtu: 1500, vlan: None, verify_checksums: true })
}

/// What a frame is counted under if it is neither dropped by the parser nor taken: each of these counts frames and nothing else, and
/// no frame counts under two.
pub(super) fn verdicts(counters: &Counters) -> [(&'static str, u64); 25] {
    [
        // Segments: of which nothing is taken, or not their text.
        ("segments_ignored", counters.segments_ignored),
        ("segments_out_of_window", counters.segments_out_of_window),
        ("segments_bad_ack", counters.segments_bad_ack),
        ("segments_paws", counters.segments_paws),
        ("segments_out_of_order", counters.segments_out_of_order),
        ("receive_pool_exhausted", counters.receive_pool_exhausted),
        ("challenge_acks", counters.challenge_acks),
        ("rst_accepted", counters.rst_accepted),
        ("rst_ignored", counters.rst_ignored),
        ("time_wait_rst_ignored", counters.time_wait_rst_ignored),
        ("time_wait_acks", counters.time_wait_acks),
        // SYNs, and ACKs that would complete a handshake.
        ("accept_queue_full", counters.accept_queue_full),
        ("syn_dropped_full", counters.syn_dropped_full),
        ("syn_dropped_no_neighbor", counters.syn_dropped_no_neighbor),
        ("syn_returned_to_listen", counters.syn_returned_to_listen),
        ("syn_cookies_sent", counters.syn_cookies_sent),
        // What a cookie opens is taken.
        ("opens_passive", counters.opens_passive - counters.syn_cookies_accepted),
        // What is not TCP.
        ("neighbor_packets", counters.neighbor_packets),
        ("echo_answered", counters.echo_answered),
        ("icmp_unmatched", counters.icmp_unmatched),
        ("icmp_soft", counters.icmp_soft),
        ("icmp_hard", counters.icmp_hard),
        ("icmp_source_quench", counters.icmp_source_quench),
        ("path_mtu_lowered", counters.path_mtu_lowered),
        ("path_mtu_refused", counters.path_mtu_refused),
    ]
}

impl Hostile {
    pub(super) fn before(&self, frame: &[u8]) -> Before {
        let met = match parsed(frame) {
            Ok(Parsed::Tcp(TcpPacket { tuple, segment, .. })) => Some((segment, tuple, self.connection(&tuple))),
            _ => None,
        };
        let mut before = Before { verdicts: self.verdicts(), counters: *self.stack.counters(), met, keeps: false };
        if let Some(tuple) = before.tuple() {
            let core = &self.stack.core;
            let mut all = core.connections.iter();
            before.keeps = all.any(|(number, known)| core.names[number].tuple == tuple && known.gaps().is_some());
        }
        before
    }

    /// One frame has come since `before`, and nothing was due: it was counted once, or taken by a connection, or answered by a RST.
    pub(super) fn account(&mut self, before: &Before, after: Option<&Tcb>) {
        let since = self.stack.counters().since(&before.counters);
        assert_eq!(since.frames_received, 1);
        let counted = self.verdicts() - before.verdicts;
        if counted == 0 {
            // No RST is answered by one (RFC 9293 3.5.2).
            let is_reset = |seg: &Segment| since.rst_sent + since.rst_suppressed > 0 && !seg.flags.rst();
            let answered = since.segments_sent + since.answers_sent > 0;
            let accounted = match &before.met {
                Some((seg, _, _)) if is_reset(seg) => true,
                Some((seg, _, Some(tcb))) if since.challenge_acks_suppressed > 0 => is_challenged(tcb, seg),
                Some((seg, _, Some(tcb))) => was_taken(tcb, after, before.keeps, seg, answered),
                // The ACK that brings a cookie back.
                Some((_, _, None)) => since.syn_cookies_accepted == 1,
                None => false,
            };
            assert!(accounted, "neither counted, taken nor answered: {:?}, {after:?}", before.met);
            self.passed += 1;
        }
    }

    /// The frames of one burst have come since `before`, and nothing was due: as many as could be were counted once, taken by a connection
    /// or answered by a RST, and the peer hears no more than that.
    pub(super) fn account_together(&mut self, before: &Together) {
        let since = self.stack.counters().since(&before.counters);
        assert_eq!((since.turns, since.frames_received), (1, before.frames));
        let counted = self.verdicts() - before.verdicts;
        assert!(counted <= before.frames, "{counted} verdicts on {} frames", before.frames);
        let passed = before.frames - counted;
        let may_pass = before.segments - before.resets + since.challenge_acks_suppressed;
        assert!(passed <= may_pass, "{passed} of {} frames are unaccounted for, {may_pass} may be", before.frames);
        assert!(self.stack.drops().total() - before.dropped >= before.unparsed, "what does not parse is dropped");
        let answerable = before.segments - before.resets;
        assert!(since.rst_sent + since.rst_suppressed <= answerable, "no RST is answered by one: {since:?}");
        assert!(since.answers_sent + since.answers_dropped <= before.frames - before.unparsed, "{since:?}");
        let empty = self.said.iter().filter(|packet| packet.segment.is_empty()).count() as u64;
        assert!(empty <= before.segments, "{empty} ACKs and RSTs for {} segments", before.segments);
        self.passed += passed;
    }

    /// Frames that were dropped or counted.
    pub(super) fn verdicts(&self) -> u64 {
        let counted: u64 = verdicts(self.stack.counters()).iter().map(|(_, count)| count).sum();
        self.stack.drops().total() + counted
    }

    /// The live connection of that name.
    pub(super) fn connection(&self, tuple: &FourTuple) -> Option<Tcb> {
        let core = &self.stack.core;
        let mut all = core.connections.iter().map(|(number, known)| (&core.names[number].tuple, &known.tcb));
        all.find(|(name, tcb)| *name == tuple && tcb.state != State::Closed).map(|(_, tcb)| tcb.clone())
    }
}

impl Before {
    /// The connection that the frame names.
    pub(super) fn tuple(&self) -> Option<FourTuple> {
        let (_, tuple, tcb) = self.met.as_ref()?;
        tcb.is_some().then_some(*tuple)
    }
}

/// Whether a connection has taken of the segment what RFC 9293 lets it: of the first SYN everything, later its acceptable ACK at
/// least, and with text or a FIN an octet of it or an answer. `after` is the connection now, if it has not ended.
fn was_taken(before: &Tcb, after: Option<&Tcb>, keeps: bool, seg: &Segment, answered: bool) -> bool {
    if before.state == State::SynSent {
        return after.is_some_and(|after| after.state != State::SynSent);
    }
    let ack_is_acceptable = seg.flags.ack()
        && !seg.flags.rst()
        && seg.ack.le(before.snd_nxt)
        && seg.ack.ge(before.snd_una.back(before.snd_wnd_max));
    let rest = match after {
        None => may_end(before, keeps, seg),
        Some(after) => seg.is_empty() || after.rcv_nxt != before.rcv_nxt || after.state != before.state || answered,
    };
    seq_is_acceptable(before, seg) && ack_is_acceptable && rest
}

/// Whether an acceptable segment may end the connection, for good or in TIME-WAIT (RFC 9293 3.10.7.4, fifth and eighth check): both FINs
/// have come through with it.
fn may_end(before: &Tcb, keeps: bool, seg: &Segment) -> bool {
    let acknowledges_fin = before.fin_is_sent() && seg.ack == before.snd_nxt;
    let brings_fin = seg.flags.fin() || (keeps && !seg.is_empty());
    match before.state {
        State::FinWait1 => acknowledges_fin && brings_fin,
        State::FinWait2 => brings_fin,
        State::Closing | State::LastAck => acknowledges_fin,
        State::Closed | State::SynSent | State::SynReceived | State::Established | State::CloseWait => false,
    }
}

/// Whether the segment calls for a challenge ACK, which may be held back, and for nothing else: an acceptable RST that is not exact (RFC 5961 3.2),
/// or an acceptable SYN but for that of a half-open connection (4.2).
fn is_challenged(before: &Tcb, seg: &Segment) -> bool {
    let is_syn = seg.flags.syn() && !before.is_half_open_passively();
    let calls = if seg.flags.rst() { seg.seq != before.rcv_nxt } else { is_syn };
    before.state != State::SynSent && calls && seq_is_acceptable(before, seg)
}

fn seq_is_acceptable(before: &Tcb, seg: &Segment) -> bool {
    let in_window = |seq: Seq| before.rcv_nxt.le(seq) && seq.lt(before.rcv_edge);
    let crossed = before.state == State::SynReceived && seg.flags.syn();
    seg.seq == before.rcv_nxt || in_window(seg.seq) || (!seg.is_empty() && in_window(seg.end().back(1))) || crossed
}
