//! What a shard counts: one plain `u64` per event and per drop reason, one list of each.
//!
//! A shard has one [`Counters`]; nobody else writes it. Other threads see copies that floor 4 publishes.

/// Declares a struct of `u64` counters with their names, and nothing else.
macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$field_doc])* pub $field: u64,)* }

        impl $name {
            /// Names in the order of [`Self::values`].
            pub const NAMES: &'static [&'static str] = &[$(stringify!($field)),*];

            /// The counts in the order of [`Self::NAMES`].
            pub fn values(&self) -> [u64; Self::NAMES.len()] {
                [$(self.$field),*]
            }

            /// The counters whose values are `values`, in the order of [`Self::NAMES`].
            pub fn from_values(values: [u64; Self::NAMES.len()]) -> Self {
                let [$($field),*] = values;
                Self { $($field),* }
            }

            /// Name and count of every counter.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                Self::NAMES.iter().copied().zip(self.values())
            }

            /// Adds each count of `other`.
            pub fn add(&mut self, other: &Self) {
                $(self.$field = self.$field.wrapping_add(other.$field);)*
            }

            /// Each count less that of an `earlier` copy.
            #[must_use]
            pub fn since(&self, earlier: &Self) -> Self {
                Self { $($field: self.$field.wrapping_sub(earlier.$field)),* }
            }
        }
    };
}

counters! {
    /// Events of one shard.
    Counters {
        /// Turns run.
        turns,
        /// Turns that found nothing to do.
        turns_idle,
        /// Frames taken from the link.
        frames_received,
        /// Frames given to the link.
        frames_sent,
        /// Segments that parsed.
        segments_received,
        /// Segments built from a TCB's state.
        segments_sent,
        /// Stateless answers sent: RST, TIME-WAIT ACK.
        answers_sent,
        /// Stateless answers dropped for want of a TX frame or a neighbour.
        answers_dropped,
        /// Times a TCB stayed on the list of what is owed because no TX frame was free.
        respond_without_frame,
        /// Active opens (OPEN calls that made a TCB).
        opens_active,
        /// Passive opens (SYNs and cookies that made a TCB).
        opens_passive,
        /// Connections that reached ESTABLISHED.
        established,
        /// Pairs of connections that were spliced.
        splices,
        /// Passive opens that came to nothing while half-open: reset, timed out, unreachable, or ended by a SYN (`syn_returned_to_listen`).
        half_open_failed,
        /// Connections that the application was told had ended normally.
        closed_graceful,
        /// Connections ended by a RST from the peer.
        closed_reset,
        /// Connections ended by this side's ABORT.
        closed_aborted,
        /// Connections ended by a time-out.
        closed_timed_out,
        /// Active opens refused by a RST.
        closed_refused,
        /// Connections that ended because no neighbour answered, or an ICMP error said why nobody did.
        closed_unreachable,
        /// SYNs, and ACKs with a cookie, that found the half-open limit, the TCB slab or the TIME-WAIT store full.
        syn_dropped_full,
        /// SYNs, and ACKs with a cookie, that found no neighbour record free or no way back.
        syn_dropped_no_neighbor,
        /// SYNs, and ACKs of SYN-ACKs, ignored because the accept queue was full (B10).
        accept_queue_full,
        /// Deferred connections that were told without text, because their deadline came.
        accept_defer_expired,
        /// SYNs in the window of a half-open connection, which they have ended (RFC 9293 3.10.7.4, fourth).
        syn_returned_to_listen,
        /// SYNs during the quiet time (B48).
        syn_dropped_quiet,
        /// SYNs answered by a cookie (B13).
        syn_cookies_sent,
        /// Cookies that came back and made a connection.
        syn_cookies_accepted,
        /// ACKs at a listener that brought no valid cookie while cookies were out.
        syn_cookies_invalid,
        /// ACKs that brought a cookie that had made a connection before.
        syn_cookies_replayed,
        /// Cookies that had made a connection and were forgotten while they were valid: their ACK could open another. Now and then one is
        /// counted that was valid 256 periods before.
        syn_cookies_forgotten,
        /// TIME-WAIT records made.
        time_wait_created,
        /// TIME-WAIT records that ended after 2MSL.
        time_wait_expired,
        /// TIME-WAIT records that ended because a new incarnation took their 4-tuple.
        time_wait_reused,
        /// TIME-WAIT records that a RST ended before 2MSL, where that is allowed (RFC 1337).
        time_wait_ended_by_rst,
        /// TIME-WAIT records evicted before 2MSL to make room.
        time_wait_evicted,
        /// Connections that went straight to CLOSED instead of TIME-WAIT: the store was full, or the policy is `none`.
        time_wait_skipped,
        /// Restarts of 2MSL by a retransmitted FIN.
        time_wait_restarted,
        /// Segments that arrived in TIME-WAIT and were answered by an ACK.
        time_wait_acks,
        /// RSTs that arrived in TIME-WAIT and were ignored (RFC 1337).
        time_wait_rst_ignored,
        /// SYNs and SYN-ACKs sent again.
        retransmitted_syn,
        /// Data segments sent again.
        retransmitted_data,
        /// FINs sent again.
        retransmitted_fin,
        /// Fast recoveries begun (RFC 6582, RFC 6675).
        fast_recoveries,
        /// Retransmission time-outs of text and FINs.
        time_outs,
        /// Tail loss probes (RFC 8985 7).
        tail_probes,
        /// Times that losses had to be recovered without a scoreboard, by duplicate ACKs alone, for want of a record.
        scoreboards_refused,
        /// Connections that were told R1 retransmissions in a row have brought nothing (MUST-20).
        stalled,
        /// Stretches of urgent data that peers have begun (MUST-32).
        urgent_received,
        /// Keepalive probes sent (B24).
        keepalive_probes,
        /// Connections ended because no keepalive probe was answered.
        keepalive_timeouts,
        /// Connections ended by the user timeout (B25).
        user_timeouts,
        /// Connections with little or no progress ended because send chunks or records were short (T03).
        stalled_ended,
        /// Connections that the application left in CLOSE-WAIT for long (B37).
        close_wait_lasting,
        /// RSTs sent.
        rst_sent,
        /// RSTs and TIME-WAIT ACKs that the shard's limit held back (T02).
        rst_suppressed,
        /// RSTs that ended a connection.
        rst_accepted,
        /// RSTs without an ACK in SYN-SENT. Others that do not count are under `segments_out_of_window`, `challenge_acks` or `time_wait_rst_ignored`.
        rst_ignored,
        /// Challenge ACKs (RFC 5961) owed.
        challenge_acks,
        /// Challenge ACKs and ACKs for unacceptable segments that the connection's limit held back (T08, T25).
        challenge_acks_suppressed,
        /// Segments with an unacceptable sequence number, and a half-open connection's own SYN again.
        segments_out_of_window,
        /// Segments with an unacceptable acknowledgment number.
        segments_bad_ack,
        /// Segments refused by PAWS (RFC 7323 5).
        segments_paws,
        /// Segments that RFC 9293 has dropped in silence: those of which it takes nothing (without ACK, a RST for nobody, no SYN
        /// at a listener or in SYN-SENT, the peer's last ACK again in TIME-WAIT), and text or a FIN behind the peer's FIN.
        segments_ignored,
        /// Segments in the window but not next in order.
        segments_out_of_order,
        /// Segments out of order whose text, or a part of it, was kept until the gap is filled.
        out_of_order_kept,
        /// Segments out of order whose text was not kept, for want of records or chunks.
        out_of_order_refused,
        /// Connections whose text out of order was forgotten because memory was short (T12).
        out_of_order_forgotten,
        /// In-order segments refused because the receive pool had no chunk.
        receive_pool_exhausted,
        /// SEND calls that took less than asked because the send pool had no chunk.
        send_pool_exhausted,
        /// ARP and neighbour-discovery packets taken.
        neighbor_packets,
        /// Questions about neighbours sent: ARP requests, neighbour solicitations.
        neighbor_questions,
        /// Times that another host said that it has an own address (RFC 5227 2.4).
        address_conflicts,
        /// Own addresses told to the neighbours: gratuitous ARP, unsolicited advertisements.
        addresses_announced,
        /// Times a TCB had to wait for a neighbour.
        neighbor_waits,
        /// ICMP errors about no connection, or about a segment that is not in flight (RFC 5927 4.1).
        icmp_unmatched,
        /// ICMP errors that were kept in mind (MUST-56, SHLD-25).
        icmp_soft,
        /// ICMP errors that ended an open that had not completed (SHLD-26).
        icmp_hard,
        /// ICMP source quenches ignored (MUST-55).
        icmp_source_quench,
        /// Times a connection's segments became smaller because a router said so (RFC 1191, RFC 8201).
        path_mtu_lowered,
        /// Path MTUs that were not believed (T27, RFC 5927 7.2).
        path_mtu_refused,
        /// Connections that began with a path MTU learned before.
        path_mtu_known,
        /// Echo requests answered.
        echo_answered,
        /// Frames passed on to another shard, because it owns their 4-tuple or did.
        wrong_shard,
        /// Answers about neighbours copied to another shard that had asked.
        neighbor_answers_shared,
        /// Frames for another shard that found its queue full: dropped.
        handover_full,
        /// Frames about whose owner two shards disagreed, while a new indirection table came into force: dropped.
        handover_lost,
        /// Frames that other shards passed on to this one.
        handover_received,
        /// Frames that other shards passed on, for which their interface had no frame here: dropped. With one interface
        /// they wait.
        handover_without_frame,
        /// OPEN calls refused because no port of this shard was free towards the remote, or no destination record.
        ports_exhausted,
        /// OPEN calls refused because the TIME-WAIT store had no place left for the connection (policy `refuse-open`).
        opens_refused_time_wait,
        /// Times the policies were changed.
        policies_changed,
        /// Hints that were stale when the segment arrived, and were looked up again.
        hints_stale,
    }
}

impl Counters {
    /// Connections that were opened: each has ended, see [`Counters::ended`], or is live.
    pub fn opened(&self) -> u64 {
        self.opens_active + self.opens_passive
    }

    /// Connections that have ended, however that was. Passive opens that came to nothing are not among them.
    pub fn closed(&self) -> u64 {
        self.closed_graceful
            + self.closed_reset
            + self.closed_aborted
            + self.closed_timed_out
            + self.closed_refused
            + self.closed_unreachable
    }

    /// Connections that have ended, and passive opens that came to nothing.
    pub fn ended(&self) -> u64 {
        self.closed() + self.half_open_failed
    }

    /// TIME-WAIT records that have ended, however that was: of those created the others are live.
    pub fn time_wait_ended(&self) -> u64 {
        self.time_wait_expired + self.time_wait_reused + self.time_wait_ended_by_rst + self.time_wait_evicted
    }
}

/// Declares the drop reasons, each with the name under which it is counted.
macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $reason:ident = $name:literal,)*) => {
        /// Why a frame was dropped for what its headers say: each under exactly one of these. What is dropped because of whom it
        /// meets is counted under one of [`Counters`].
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $reason,)* }

        impl DropReason {
            /// Every reason, in order of its number.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$reason),*];

            /// The name under which it is counted.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$reason => $name,)* }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than its headers.
    Truncated = "truncated",
    /// Longer than the MTU allows.
    TooLong = "too_long",
    /// Not for this stack's MAC address.
    NotOurMac = "not_our_mac",
    /// An EtherType that the stack does not speak.
    EtherType = "ether_type",
    /// More than one VLAN tag, or a tag that this stack is not on.
    Vlan = "vlan",
    /// An IPv4 header that contradicts itself.
    Ipv4Header = "ipv4_header",
    /// A wrong IPv4 header checksum.
    Ipv4Checksum = "ipv4_checksum",
    /// A fragment.
    Fragment = "fragment",
    /// An IPv6 header or extension header that the stack does not take.
    Ipv6Header = "ipv6_header",
    /// An upper protocol that the stack does not speak.
    Protocol = "protocol",
    /// A source or destination that no TCP segment may have: broadcast, multicast, loopback, 0/8, source = destination.
    Address = "address",
    /// Not addressed to this stack.
    NotOurAddress = "not_our_address",
    /// A TCP data offset below 5 or past the segment.
    TcpDataOffset = "tcp_data_offset",
    /// Malformed TCP options.
    TcpOptions = "tcp_options",
    /// A wrong TCP checksum.
    TcpChecksum = "tcp_checksum",
    /// A TCP checksum that holds only the pseudo-header sum: the peer left it to hardware that is not there.
    TcpChecksumPartial = "tcp_checksum_partial",
    /// A port 0.
    TcpPort = "tcp_port",
    /// Malformed ICMP or a wrong ICMP checksum.
    Icmp = "icmp",
    /// An ICMP message that asks nothing of this stack.
    IcmpIgnored = "icmp_ignored",
    /// Malformed ARP.
    Arp = "arp",
    /// Malformed neighbour discovery.
    Ndp = "ndp",
}

/// Dropped frames by reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Drops {
        Drops([0; DropReason::ALL.len()])
    }
}

impl Drops {
    /// Counts one frame; returns whether it was the first for this reason.
    #[inline]
    pub fn count(&mut self, reason: DropReason) -> bool {
        let count = &mut self.0[reason as usize];
        *count += 1;
        *count == 1
    }

    /// Frames dropped for `reason`.
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// Frames dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Name and count of every reason.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DropReason::ALL.iter().map(|&reason| (reason.name(), self.of(reason)))
    }

    /// Adds each count of `other`.
    pub fn add(&mut self, other: &Drops) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_one_list() {
        let counters = Counters { hints_stale: 9, turns: 1, ..Counters::default() };
        assert_eq!(counters.iter().next(), Some(("turns", 1)));
        assert_eq!(counters.iter().last(), Some(("hints_stale", 9)));
        assert_eq!(Counters::from_values(counters.values()), counters);
    }

    #[test]
    fn first_drop_of_a_reason_is_told_apart() {
        let mut drops = Drops::default();
        assert!(drops.count(DropReason::TcpChecksum));
        assert!(!drops.count(DropReason::TcpChecksum));
        assert!(drops.count(DropReason::Arp));
        assert_eq!((drops.of(DropReason::TcpChecksum), drops.total()), (2, 3));
    }
}
