//! The numbers that bound a shard. Every one says unit, origin, and what breaks if it is smaller or larger.

/// How much a shard may hold. Memory is laid out from this once, at start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// TCBs of one shard (half-open, open and remnants), records of 192 B and names of 56.
    pub tcbs_max: u32,
    /// TIME-WAIT records of one shard of each IP version that it has addresses of: as many of IPv4, 32 B each, and as many of IPv6, 56 B
    /// each. One version's are full without the other's being so.
    pub time_wait_max: u32,
    /// Half-open connections over all listeners of one shard (B10).
    pub half_open_max: u32,
    /// Connections of one shard that are established and of which the application has not been told (B10).
    pub accept_max: u32,
    /// Accepted SYN cookies that a shard remembers for up to two minutes, so that a replayed ACK opens nothing (B13), 8 B each. Half
    /// full it forgets one in 120. Origin: as many as TIME-WAIT has, half of which are two minutes of 4,000 a second. Fewer, and who
    /// has seen an ACK may open a connection with it that its peer's RST then ends (`syn_cookies_forgotten`); more take memory.
    pub cookies_remembered_max: u32,
    /// Chunks of [`CHUNK_BYTES`] for unacknowledged and unread bytes of one shard.
    pub chunks_max: u32,
    /// Connections of one shard of which something may be missing at a time: text out of order, or segments that are lost. Others
    /// have it sent again (SHLD-31, T12), or recover by duplicate ACKs alone. About 0.7 kB each.
    pub reassemblies_max: u32,
    /// Pairs of spliced connections of one shard, 40 B each. More than half of `tcbs_max` are never used.
    pub splices_max: u32,
    /// Timers of one shard's application that run at a time, 32 B each.
    pub timers_max: u32,
    /// TCBs of one shard of which `info` knows age, least round trip and bytes, 32 B each: those of the lowest numbers, which are
    /// taken first. None by default, for it costs every segment of theirs.
    pub histories_max: u32,
    /// Destinations (remote address, remote port, local address) that own a port, of one shard. With 0 it opens only from local
    /// ports that are given, and TIME-WAIT takes 2.1 B less a place.
    pub destinations_max: u32,
    /// Neighbours of one shard, at most 65,535.
    pub neighbors_max: u32,
    /// Listeners of one shard.
    pub listeners_max: u32,
    /// Batches of up to 64 frames or 16 KiB under way to one shard from the others. Fewer drop frames while their owner is in a
    /// long turn; there is one at least, and none for a shard that is alone.
    pub handover_batches_max: u32,
    /// Events told to the application per turn; more wait for the next turn.
    pub events_per_turn: u32,
    /// Frames per ring operation.
    pub burst: u32,
}

impl Default for Limits {
    /// A laptop's worth: under 256 MB for one shard.
    fn default() -> Limits {
        Limits {
            tcbs_max: 128 * 1024,
            time_wait_max: 1024 * 1024,
            half_open_max: 16 * 1024,
            accept_max: 4096,
            cookies_remembered_max: 1024 * 1024,
            chunks_max: 16 * 1024,
            reassemblies_max: 1024,
            splices_max: 64 * 1024,
            timers_max: 16 * 1024,
            histories_max: 0,
            destinations_max: 4096,
            neighbors_max: 4096,
            listeners_max: 256,
            handover_batches_max: 128,
            events_per_turn: 512,
            burst: 64,
        }
    }
}

/// Largest burst, frames. Origin: above 64 the rates of AF_XDP on veth do not rise. Larger costs L1: a parsed segment
/// takes about 150 B.
pub const BURST_MAX: u32 = 256;

/// Interfaces of one stack. Origin: what the upper bits of a frame's token can tell apart. Smaller bounds nothing,
/// larger leaves fewer slots to each.
pub const INTERFACES_MAX: usize = 8;

/// Payload of one chunk, bytes. Origin: one full-sized Ethernet segment and a cache-line multiple; smaller splits every
/// segment, larger wastes memory on small sends.
pub const CHUNK_BYTES: usize = 2048;

/// Stretches of text out of order that one connection holds. Origin: T12; each takes a chunk at least. Smaller has more sent
/// again when losses are scattered, larger makes each segment out of order dearer.
pub const PIECES_MAX: usize = 8;

/// Octets out of order that one connection holds at most. Origin: the default receive buffer; smaller has more sent again after
/// one loss, larger lets one peer take more of the receive pool (T12).
pub const REASSEMBLY_BYTES_MAX: u32 = 256 * 1024;

/// Ranges of a connection's scoreboard (RFC 6675), 12 B each. Origin: T11, CVE-2019-11478: each ACK looks at all of them a few
/// times. Smaller has more sent again when losses are scattered, larger makes each SACK dearer.
pub const SCOREBOARD_RANGES_MAX: usize = 32;

/// Smallest segment size accepted from a peer's MSS option, bytes. Origin: CVE-2019-11479; smaller lets a peer multiply
/// our packets.
pub const MSS_MIN: u16 = 48;

/// Send MSS without an MSS option over IPv4, bytes. Origin: RFC 9293 3.7.1, MUST-15.
pub const MSS_DEFAULT_V4: u16 = 536;

/// Send MSS without an MSS option over IPv6, bytes. Origin: RFC 9293 3.7.1, MUST-15.
pub const MSS_DEFAULT_V6: u16 = 1220;

/// Smallest path MTU that is believed over IPv4, bytes. Origin: T27, Linux's min_pmtu; every host takes 576 (RFC 791), links
/// below are history. Smaller lets a forged error multiply our packets; larger breaks paths that are that small.
pub const PATH_MTU_MIN_V4: u16 = 552;

/// Smallest path MTU that is believed over IPv6, bytes: the least MTU of a link (RFC 8200 5, RFC 8201 4).
pub const PATH_MTU_MIN_V6: u16 = 1280;

/// Path MTUs that a shard remembers, 32 B each. Origin: peers behind tunnels, at a time; smaller has the first flight of a
/// connection to a forgotten one sent twice.
pub const PATH_MTUS_MAX: u32 = 1024;

/// How long a path MTU is remembered, seconds. Origin: RFC 1191 6.3 and RFC 8201 4, ten minutes; smaller loses the first
/// flight more often, larger keeps packets small after the path has become wider.
pub const PATH_MTU_AGE_S: u32 = 600;

/// First retransmission time-out, ms. Origin: RFC 6298 2.1. Smaller resends to distant peers; larger stalls one lost SYN.
pub const RTO_INITIAL_MS: u32 = 1000;

/// Smallest retransmission time-out with timestamps, ms. A named deviation from RFC 6298 2.4 (SHOULD 1 s), as Linux has
/// it. Origin: the longest delayed ACKs that are common; smaller times out on them, larger waits longer after each loss
/// that nothing shows.
pub const RTO_MIN_MS: u32 = 200;

/// Smallest retransmission time-out in loss recovery and after a tail loss probe, on a path whose four round trips are
/// not longer, ms. A named deviation from RFC 6298 2.4 (SHOULD 1 s). ACKs are not delayed there (RFC 5681 4.2). Origin: what schedulers keep from a process that has just
/// slept; smaller times out on them, larger waits for each ACK that was the last to come and is lost. One that was
/// spurious doubles it for the next.
pub const RTO_MIN_RECOVERING_MS: u32 = 5;

/// Smallest retransmission time-out without timestamps, and with them after a time-out that was spurious, ms. Origin:
/// RFC 6298 2.4.
pub const RTO_MIN_PATIENT_MS: u32 = 1000;

/// Largest retransmission time-out, ms. Origin: RFC 6298 2.5 (at least 60 s).
pub const RTO_MAX_MS: u32 = 64_000;

/// Retransmissions of a SYN before an active open times out. Origin: MUST-23, three minutes: 1+2+4+8+16+32+64+64 s (B11).
pub const SYN_RETRIES: u8 = 7;

/// Retransmissions of a SYN-ACK before half-open state is removed, unless set otherwise: after 63 s (B11; a named deviation, half-open
/// state is the attacker's).
pub const SYN_ACK_RETRIES: u8 = 5;

/// The most that they may be set to. Origin: as many as [`DATA_RETRIES`], almost 12 minutes; larger keeps what no client still waits for.
pub const SYN_ACK_RETRIES_MAX: u8 = 15;

/// Retransmissions of data or FIN before the connection times out. Origin: R2 of RFC 9293 3.8.3, at least 100 s
/// (SHLD-11): 15 take 9 minutes from a time-out of 200 ms on, 3.5 from the smallest of fast recovery.
pub const DATA_RETRIES: u8 = 15;

/// R1 of RFC 9293 3.8.3 in retransmissions: after so many the application is told and the next hop asked for. Origin: SHLD-9.
pub const R1_RETRIES: u8 = 3;

/// Silence before the first keepalive probe, ms. Origin: MUST-28, two hours. Smaller sends more for nothing.
pub const KEEPALIVE_IDLE_MS: u64 = 2 * 60 * 60 * 1000;

/// From one keepalive probe to the next, ms. Origin: Linux's tcp_keepalive_intvl.
pub const KEEPALIVE_INTERVAL_MS: u64 = 75_000;

/// Keepalive probes without an answer that end a connection. Origin: Linux's tcp_keepalive_probes.
pub const KEEPALIVE_PROBES: u8 = 10;

/// The farthest deadline of a connection, ms: 24 days. Larger, and ticks could not be compared.
pub const DEADLINE_MAX_MS: u32 = 24 * 24 * 60 * 60 * 1000;

/// TTL and hop limit of what the stack sends. Origin: RFC 1700's recommended default.
pub const TTL: u8 = 64;

/// Maximum segment lifetime, ms (B40). 2MSL is then 60 s, as on Linux; RFC 9293 3.4.2 says 2 minutes for MSL, "arbitrarily".
pub const MSL_MS: u32 = 30_000;

/// Largest MSL that may be set, ms: an hour. Larger, and 2MSL would approach the wrap of ticks.
pub const MSL_MAX_MS: u32 = 3_600_000;

/// Largest receive buffer of a connection, bytes. Origin: RFC 7323 2.3, a window must stay below 2^30.
pub const BUFFER_BYTES_MAX: u32 = 1 << 30;

/// How long a 4-tuple stays in TIME-WAIT at least before an active open may take it, ms (B45). Origin: Linux's
/// tcp_tw_reuse_delay; shorter, and a second of the peer's timestamp clock may not have passed.
pub const TIME_WAIT_DELAY_MS: u32 = 1000;

/// How long FIN-WAIT-2 may last once the application has gone, ms (B37). Origin: Linux's tcp_fin_timeout.
pub const FIN_WAIT_2_MS: u32 = 60_000;

/// How long a connection may stay in CLOSE-WAIT with nothing under way before that is counted, ms (B37); with keepalive, as long as
/// that is idle. Origin: as
/// long as FIN-WAIT-2 at the other end lasts, after which the peer has gone. Smaller counts applications that think;
/// larger finds leaks late.
pub const CLOSE_WAIT_MS: u32 = 60_000;

/// How long one secret makes SYN cookies, ms (B13). A cookie is valid in its period and the next, hence for at most two
/// minutes. Smaller refuses peers with a long round trip; larger gives a guess or a replay more time.
pub const COOKIE_PERIOD_MS: u32 = 60_000;

/// RSTs and TIME-WAIT ACKs of one shard that belong to no connection, per second and at once (T02). Smaller leaves peers
/// waiting for a refusal; larger makes the stack answer floods from forged sources.
pub const ANSWERS_PER_SECOND: u32 = 10_000;

/// See [`ANSWERS_PER_SECOND`].
pub const ANSWERS_BURST: u32 = 1_000;

/// Most ACKs of one connection that unacceptable segments bring in a window of [`CHALLENGE_WINDOW_MS`]; half of it at
/// least. Origin: RFC 5961 7 names 10. Smaller delays a peer that is out of step; larger feeds two stacks that duel (T25).
pub const CHALLENGES_MAX: u8 = 10;

/// The window of [`CHALLENGES_MAX`], ms; each connection's begin at a time of its own (CVE-2016-5696). A power of two.
pub const CHALLENGE_WINDOW_MS: u32 = 1024;

/// Range of local ports for active opens. Origin: Linux's ip_local_port_range (RFC 6056 would take 1024 to 65535; both
/// ends are settings).
pub const PORTS: (u16, u16) = (32_768, 60_999);

const _: () = assert!(BURST_MAX.is_power_of_two());
const _: () = assert!(SCOREBOARD_RANGES_MAX >= 8 && SCOREBOARD_RANGES_MAX < 256);
const _: () = assert!(RTO_MIN_RECOVERING_MS <= RTO_MIN_MS);
const _: () =
    assert!(RTO_MIN_MS <= RTO_MIN_PATIENT_MS && RTO_MIN_PATIENT_MS <= RTO_INITIAL_MS && RTO_INITIAL_MS <= RTO_MAX_MS);
const _: () = assert!(DEADLINE_MAX_MS < i32::MAX as u32);
const _: () = assert!(CHUNK_BYTES.is_multiple_of(64));
