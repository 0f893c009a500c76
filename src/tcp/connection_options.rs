//! What an application may set for one connection, under the names that users of sockets know.

use crate::limits::{
    BUFFER_BYTES_MAX, DATA_RETRIES, DEADLINE_MAX_MS, KEEPALIVE_IDLE_MS, KEEPALIVE_INTERVAL_MS, KEEPALIVE_PROBES,
    MSS_MIN, R1_RETRIES, SYN_RETRIES, TTL,
};
use crate::tick::Tick;
use core::time::Duration;

/// Settings of one connection. Given to `listen_with`, whose connections inherit them, and to `connect`; changed on a live
/// connection by `set_options`, at once. A shard holds 256 different sets, however many connections share them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionOptions {
    /// Nagle's algorithm is off (MUST-17; TCP_NODELAY).
    pub no_delay: bool,
    /// Probes on a silent connection (RFC 9293 3.8.4, B24; SO_KEEPALIVE); `None`, the default, sends none (MUST-25).
    pub keepalive: Option<Keepalive>,
    /// How long what was sent, or a closed window, may stay without progress before the connection ends (RFC 9293 3.9.1,
    /// RFC 5482 on this side alone, B25; TCP_USER_TIMEOUT), with a RST. It stands for `retries2`, whether sooner or later; `None`, the
    /// default, leaves it to that. An open ends by `syn_retries` all the same. 1 ms to 24 days.
    pub user_timeout: Option<Duration>,
    /// R1: retransmissions in a row after which the application is told and the next hop asked for (RFC 9293 3.8.3;
    /// tcp_retries1). 1 to 255; SHLD-9 says at least 3.
    pub retries1: u8,
    /// R2 of text and FIN: retransmissions in a row after which the connection ends where no user timeout is set (MUST-21;
    /// tcp_retries2). 1 to 255; SHLD-11 asks for at least 100 s, which are 8.
    pub retries2: u8,
    /// R2 of the SYN of an active open (MUST-23; TCP_SYNCNT). 1 to 255; fewer than 7 give up before three minutes.
    pub syn_retries: u8,
    /// Differentiated services code point of everything that the connection sends (MUST-48), 0 to 63.
    pub dscp: u8,
    /// TTL, or hop limit, of everything that the connection sends (MUST-49; IP_TTL), 1 to 255.
    pub ttl: u8,
    /// The largest segment to send, and to ask for in the SYN, bytes before options (TCP_MAXSEG); the MTU's if that is less.
    /// At least 48. On a live connection it can only lower what is sent.
    pub mss_max: Option<u16>,
    /// Octets that wait to be sent or acknowledged at most (SO_SNDBUF); `None`, the default, is the stack's. 1 to 2^30.
    pub send_buffer: Option<u32>,
    /// Octets that wait to be taken at most: the largest window offered (SO_RCVBUF); `None`, the default, is the stack's. 1 to
    /// 2^30. On a live connection a window that has been offered stands (SHLD-14), and none is larger than the scale agreed in
    /// the SYNs can express; a buffer of less than two units of that scale counts as two.
    pub receive_buffer: Option<u32>,
}

/// The number of a set of [`ConnectionOptions`] that connections share; 0 is that of the defaults.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OptionsId(pub u8);

/// When a silent connection is probed (RFC 9293 3.8.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keepalive {
    /// Silence before the first probe (MUST-27; TCP_KEEPIDLE). 1 s to 24 days; the default is two hours (MUST-28).
    pub idle: Duration,
    /// From a probe to the next (TCP_KEEPINTVL). 1 s to 24 days.
    pub interval: Duration,
    /// Probes without an answer after which the connection ends (TCP_KEEPCNT). 1 to 255; with 1, one lost ACK ends it (MUST-29).
    pub count: u8,
}

/// Why options are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OptionsError {
    /// A code point of more than six bits.
    #[error("a DSCP of {0} is out of range: 0 to 63")]
    Dscp(u8),
    /// A TTL of 0.
    #[error("a TTL of 0 is out of range: 1 to 255")]
    Ttl,
    /// An MSS that would multiply packets.
    #[error("a largest segment of {0} bytes is out of range: at least {min}", min = MSS_MIN)]
    MssMax(u16),
    /// A keepalive time out of range.
    #[error("a keepalive {name} of {} s is out of range: 1 s to 24 days", time.as_secs_f64())]
    Keepalive {
        /// Which time.
        name: &'static str,
        /// Its value.
        time: Duration,
    },
    /// A user timeout out of range.
    #[error("a user timeout of {} s is out of range: 1 ms to 24 days", .0.as_secs_f64())]
    UserTimeout(Duration),
    /// A buffer of no octet, or one whose window could not be offered (RFC 7323 2.3).
    #[error("a {name} buffer of {bytes} bytes is out of range: 1 to {max}", max = BUFFER_BYTES_MAX)]
    Buffer {
        /// Which.
        name: &'static str,
        /// Its size.
        bytes: u32,
    },
    /// A count of 0.
    #[error("{0} of 0 is out of range: 1 to 255")]
    Zero(&'static str),
    /// All sets of the shard are in use.
    #[error("all {0} different sets of connection options are in use: let connections share their options")]
    TooMany(usize),
}

impl ConnectionOptions {
    /// The defaults.
    pub const DEFAULT: ConnectionOptions = ConnectionOptions {
        no_delay: false,
        keepalive: None,
        user_timeout: None,
        retries1: R1_RETRIES,
        retries2: DATA_RETRIES,
        syn_retries: SYN_RETRIES,
        dscp: 0,
        ttl: TTL,
        mss_max: None,
        send_buffer: None,
        receive_buffer: None,
    };

    /// Whether every value is in its range.
    pub fn check(&self) -> Result<(), OptionsError> {
        let counts = [("retries1", self.retries1), ("retries2", self.retries2), ("syn_retries", self.syn_retries)];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(OptionsError::Zero(name));
        }
        if self.dscp > DSCP_MAX {
            return Err(OptionsError::Dscp(self.dscp));
        }
        if self.ttl == 0 {
            return Err(OptionsError::Ttl);
        }
        if let Some(mss) = self.mss_max.filter(|mss| *mss < MSS_MIN) {
            return Err(OptionsError::MssMax(mss));
        }
        if let Some(timeout) = self.user_timeout.filter(|timeout| !is_within(*timeout, Duration::from_millis(1))) {
            return Err(OptionsError::UserTimeout(timeout));
        }
        for (name, buffer) in [("send", self.send_buffer), ("receive", self.receive_buffer)] {
            if let Some(bytes) = buffer.filter(|bytes| !(1..=BUFFER_BYTES_MAX).contains(bytes)) {
                return Err(OptionsError::Buffer { name, bytes });
            }
        }
        self.keepalive.map_or(Ok(()), |keepalive| keepalive.check())
    }
}

impl Default for ConnectionOptions {
    fn default() -> ConnectionOptions {
        ConnectionOptions::DEFAULT
    }
}

impl Keepalive {
    fn check(&self) -> Result<(), OptionsError> {
        for (name, time) in [("idle time", self.idle), ("interval", self.interval)] {
            if !is_within(time, Duration::from_secs(1)) {
                return Err(OptionsError::Keepalive { name, time });
            }
        }
        if self.count == 0 { Err(OptionsError::Zero("a keepalive count")) } else { Ok(()) }
    }
}

impl Default for Keepalive {
    /// Two hours, 75 s, 10 probes (MUST-28, B24).
    fn default() -> Keepalive {
        Keepalive {
            idle: Duration::from_millis(KEEPALIVE_IDLE_MS),
            interval: Duration::from_millis(KEEPALIVE_INTERVAL_MS),
            count: KEEPALIVE_PROBES,
        }
    }
}

/// A checked time in ticks.
#[inline]
pub(super) fn ticks(time: Duration) -> u32 {
    time.as_secs() as u32 * Tick::PER_SECOND + time.subsec_millis()
}

fn is_within(time: Duration, min: Duration) -> bool {
    time >= min && time.as_millis() <= u128::from(DEADLINE_MAX_MS)
}

/// The largest code point (RFC 2474 3: six bits).
const DSCP_MAX: u8 = 63;

const _: () = assert!(Tick::PER_SECOND == 1000, "ticks are milliseconds");

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows RFC 2525 2.9, RFC 2525 2.11.
    #[test]
    fn b24_must_25_must_28_defaults_are_off_and_two_hours() {
        let defaults = ConnectionOptions::default();
        assert_eq!((defaults.check(), defaults.keepalive, defaults.user_timeout), (Ok(()), None, None));
        let keepalive = Keepalive::default();
        assert_eq!(keepalive.idle, Duration::from_secs(2 * 3600));
        assert_eq!((keepalive.interval, keepalive.count), (Duration::from_secs(75), 10));
        assert_eq!(keepalive.check(), Ok(()));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        let with = |change: fn(&mut ConnectionOptions)| {
            let mut options = ConnectionOptions::default();
            change(&mut options);
            options.check()
        };
        assert_eq!(with(|options| options.dscp = 64), Err(OptionsError::Dscp(64)));
        assert_eq!(with(|options| options.dscp = 63), Ok(()));
        assert_eq!(with(|options| options.ttl = 0), Err(OptionsError::Ttl));
        assert_eq!(with(|options| options.mss_max = Some(47)), Err(OptionsError::MssMax(47)));
        let buffer = |name, bytes| Err(OptionsError::Buffer { name, bytes });
        assert_eq!(with(|options| options.send_buffer = Some(0)), buffer("send", 0));
        assert_eq!(with(|options| options.receive_buffer = Some((1 << 30) + 1)), buffer("receive", (1 << 30) + 1));
        assert_eq!(with(|options| options.receive_buffer = Some(1 << 30)), Ok(()));
        for change in [
            (|options| options.retries1 = 0) as fn(&mut ConnectionOptions),
            |options| options.retries2 = 0,
            |options| options.syn_retries = 0,
            |options| options.keepalive = Some(Keepalive { count: 0, ..Keepalive::default() }),
        ] {
            assert!(matches!(with(change), Err(OptionsError::Zero(_))));
        }
        for time in [Duration::ZERO, Duration::from_micros(999), Duration::from_secs(25 * 86_400), Duration::MAX] {
            let options = ConnectionOptions { user_timeout: Some(time), ..ConnectionOptions::default() };
            assert_eq!(options.check(), Err(OptionsError::UserTimeout(time)));
            for keepalive in
                [Keepalive { idle: time, ..Keepalive::default() }, Keepalive { interval: time, ..Keepalive::default() }]
            {
                let options = ConnectionOptions { keepalive: Some(keepalive), ..ConnectionOptions::default() };
                assert!(matches!(options.check(), Err(OptionsError::Keepalive { .. })), "{time:?}");
            }
        }
    }
}
