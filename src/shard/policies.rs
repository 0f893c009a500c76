//! What may be changed while a shard runs: policies by name, MSL and delay.

use super::{ConfigError, Shard};
use crate::api::Application;
use crate::limits::{MSL_MAX_MS, SYN_ACK_RETRIES_MAX};
use crate::link::Link;
use crate::tcp::Settings;
use crate::tcp::cookie::SynCookies;
use crate::tcp::time_wait::{Full, Policy};
use crate::tick::Now;
use ::core::fmt;

/// The changeable settings of a shard, all of them: who changes one repeats the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policies {
    /// MSL, ms (B40). It holds for TIME-WAIT that begins from then on, or is restarted; what has begun keeps its end. The store
    /// stays laid out for the MSL at start: a record may leave 1/64 of that late.
    pub msl_ms: u32,
    /// When a 4-tuple in TIME-WAIT may be used again before 2MSL is over. What is in TIME-WAIT stays in it.
    pub time_wait: Policy,
    /// How long a 4-tuple stays in TIME-WAIT at least before an active open may take it, ms (B45).
    pub time_wait_delay_ms: u32,
    /// What happens when the TIME-WAIT store is full (B46).
    pub time_wait_full: Full,
    /// RST in TIME-WAIT ends it (RFC 9293 3.10.7.4) instead of being ignored (RFC 1337, B43).
    pub rst_ends_time_wait: bool,
    /// When SYNs are answered by cookies (B13). Cookies that are out stay valid.
    pub syn_cookies: SynCookies,
    /// Retransmissions of a SYN-ACK after which half-open state is removed, 0 to 15 (B11). It holds for those that are half-open, too,
    /// from their next time-out on.
    pub syn_ack_retries: u8,
}

impl Default for Policies {
    fn default() -> Policies {
        Policies::of(&Settings::default())
    }
}

impl Policies {
    /// Whether a shard can have them.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !(1..=MSL_MAX_MS).contains(&self.msl_ms) {
            return Err(ConfigError::BadMsl(self.msl_ms));
        }
        if self.syn_ack_retries > SYN_ACK_RETRIES_MAX {
            return Err(ConfigError::BadSynAckRetries(self.syn_ack_retries));
        }
        Ok(())
    }

    /// Those that `settings` hold.
    pub(crate) fn of(settings: &Settings) -> Policies {
        Policies {
            msl_ms: settings.msl_ms,
            time_wait: settings.time_wait_policy,
            time_wait_delay_ms: settings.time_wait_delay_ms,
            time_wait_full: settings.time_wait_full,
            rst_ends_time_wait: settings.rst_ends_time_wait,
            syn_cookies: settings.syn_cookies,
            syn_ack_retries: settings.syn_ack_retries,
        }
    }
}

impl fmt::Display for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Policies { msl_ms, time_wait_delay_ms, syn_ack_retries, .. } = self;
        let (time_wait, full, cookies) = (self.time_wait.name(), self.time_wait_full.name(), self.syn_cookies.name());
        let rfc1337 = if self.rst_ends_time_wait { "close" } else { "ignore" };
        write!(
            f,
            "time-wait {time_wait}, delay {time_wait_delay_ms} ms, MSL {msl_ms} ms, full store {full}, RST in TIME-WAIT \
             {rfc1337}, SYN cookies {cookies}, SYN-ACK retries {syn_ack_retries}"
        )
    }
}

impl<L: Link, A: Application> Shard<L, A> {
    /// The policies in force.
    pub fn policies(&self) -> Policies {
        Policies::of(&self.core.settings)
    }

    /// Puts other policies into force, between two turns.
    pub fn set_policies(&mut self, policies: &Policies, now: Now) -> Result<(), ConfigError> {
        policies.check()?;
        let settings = &mut self.core.settings;
        if settings.msl_ms != policies.msl_ms {
            settings.msl_since = now;
        }
        *settings = Settings {
            msl_ms: policies.msl_ms,
            time_wait_policy: policies.time_wait,
            time_wait_delay_ms: policies.time_wait_delay_ms,
            time_wait_full: policies.time_wait_full,
            rst_ends_time_wait: policies.rst_ends_time_wait,
            syn_cookies: policies.syn_cookies,
            syn_ack_retries: policies.syn_ack_retries,
            ..*settings
        };
        self.core.destinations.set_two_msl(2 * policies.msl_ms);
        self.core.counters.policies_changed += 1;
        Ok(())
    }
}
