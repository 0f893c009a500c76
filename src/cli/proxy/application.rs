//! The proxy of one shard, run to completion: Accepted, choose a backend, connect, Connected, header, splice. From there on the
//! stack carries the bytes, and the next that is heard is SpliceEnded.

use super::backends::{Chooser, Shared};
use super::checks::Checks;
use super::config::{Config, Listener};
use super::notes::{Ended, Note, Notes};
use super::pairs::{Pair, Pairs, Phase};
use super::termination::{Cause, may_go_elsewhere};
use crate::api::{Application, CloseReason, ConnectOptions, Event, ListenError, ListenOptions, SpliceError};
use crate::ids::{Handle, ListenerId};
use crate::shard::Calls;
use crate::stack::Service;
use crate::tcp::state::State;
use crate::tick::Now;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The application of one shard.
#[derive(Debug)]
pub(super) struct Proxy {
    listeners: Vec<Frontend>,
    shared: Arc<Shared>,
    pairs: Pairs,
    /// When there are so many, accepting pauses.
    pairs_max: usize,
    paused: bool,
    /// Tries that wait, in order: when, number and serial of the pair.
    waiting: VecDeque<(Now, u32, u32)>,
    checks: Checks,
    notes: Notes,
    logs: bool,
    sweep: Sweep,
}

/// One listener.
#[derive(Debug)]
struct Frontend {
    listener: Listener,
    id: Option<ListenerId>,
    chooser: Chooser,
    options: ConnectOptions,
    /// Which of the source addresses is next.
    next_source: usize,
}

/// Where looking for idle pairs has come to. Each is looked at once per period: a pair that is gone before costs nothing.
#[derive(Debug)]
struct Sweep {
    at: u32,
    since: Now,
    period_us: u64,
}

/// Whose connection an event is about, kept in the connection's own number with that of the pair or check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Client = 1,
    Backend,
    Check,
}

impl Proxy {
    /// The proxy of shard number `shard` of `shards`.
    pub(super) fn new(config: &Config, shared: &Arc<Shared>, notes: &Notes, shard: usize, shards: usize) -> Proxy {
        let connection = config.connection();
        let frontend = |(number, listener): (usize, &Listener)| Frontend {
            listener: listener.clone(),
            id: None,
            chooser: Chooser::new(number as u16, listener.balance, shard),
            options: ConnectOptions {
                deadline: Some(listener.connect_timeout),
                connection,
                ..ConnectOptions::default()
            },
            next_source: shard,
        };
        let checks = if shard == 0 { Checks::new(config, shared, notes) } else { Checks::none(shared, notes) };
        let idle_us = config.listeners.iter().map(|listener| listener.idle_timeout.as_micros() as u64).min();
        Proxy {
            listeners: config.listeners.iter().enumerate().map(frontend).collect(),
            shared: Arc::clone(shared),
            pairs: Pairs::default(),
            pairs_max: (config.connections_max as usize).div_ceil(shards),
            paused: false,
            waiting: VecDeque::new(),
            checks,
            notes: notes.clone(),
            logs: config.access_log.is_some(),
            sweep: Sweep {
                at: 0,
                since: Now::default(),
                period_us: (idle_us.unwrap_or(0) / 4).clamp(10_000, 1_000_000),
            },
        }
    }

    /// Client connections that have not ended.
    pub(super) fn pairs_live(&self) -> usize {
        self.pairs.live()
    }

    fn accepted(&mut self, calls: &mut Calls<'_>, client: Handle, id: ListenerId) {
        let listener = self.listeners.iter().position(|frontend| frontend.id == Some(id));
        // Both are there: listeners keep their number after a drain, a connection that is told of its record.
        let (Some(listener), Ok(tuple)) = (listener, calls.four_tuple(client)) else { return };
        let listener = listener as u16;
        let number = self.pairs.insert(client, tuple, listener, calls.now().us());
        self.shared.client_came(listener);
        // Refused only when the client has just ended; Closed follows then, and is about the pair by its handle.
        let _ = calls.set_user(client, Role::Client.with(number));
        if self.pairs.live() >= self.pairs_max {
            self.pause(calls, true);
        }
        self.try_backends(calls, number);
    }

    /// Connects to a backend, after what is refused at once to the next, as often as the retries allow.
    fn try_backends(&mut self, calls: &mut Calls<'_>, number: u32) {
        loop {
            let pair = self.pairs.get(number);
            let (listener, former) = (pair.listener, pair.backend);
            let frontend = &mut self.listeners[usize::from(listener)];
            let Some(backend) = frontend.chooser.choose(&self.shared, former) else {
                return self.give_up(calls, number, Cause::Backend);
            };
            pair.redispatched |= former.is_some_and(|former| former != backend);
            pair.backend = Some(backend);
            pair.phase = Phase::Connecting;
            let remote = frontend.listener.backends[usize::from(backend)].address;
            frontend.options.local_address = frontend.next_source(remote.is_ipv4());
            frontend.options.user = Role::Backend.with(number);
            match calls.connect(remote, &frontend.options) {
                Ok(handle) => {
                    (pair.to_backend, pair.is_counted) = (Some(handle), true);
                    return self.shared.backend_taken(listener, backend);
                }
                Err(error) => {
                    let elsewhere = may_go_elsewhere(&error, pair.retries, frontend.listener.retries);
                    if !self.may_retry(calls, number, Cause::of_refusal(&error), elsewhere) {
                        return;
                    }
                }
            }
        }
    }

    /// A try has failed; the next may be made at once if `elsewhere`. Returns whether it is to be made now; else it waits, or the client is
    /// told.
    fn may_retry(&mut self, calls: &mut Calls<'_>, number: u32, cause: Cause, elsewhere: bool) -> bool {
        let pair = self.pairs.get(number);
        let frontend = &mut self.listeners[usize::from(pair.listener)];
        if pair.retries >= frontend.listener.retries {
            self.give_up(calls, number, cause);
            return false;
        }
        pair.retries += 1;
        // Another backend at once; the same one, which has just failed, or any if the shard is full, after a while.
        if elsewhere && frontend.chooser.has_other(&self.shared, pair.backend) {
            return true;
        }
        pair.phase = Phase::Waiting;
        self.waiting.push_back((calls.now().plus_ms(RETRY_MS), number, pair.serial));
        false
    }

    /// There is no backend for this client.
    fn give_up(&mut self, calls: &mut Calls<'_>, number: u32, cause: Cause) {
        let pair = self.pairs.get(number);
        pair.phase = Phase::Connecting;
        pair.end_by(Some(cause));
        // Refused when the client has ended already.
        let _ = pair.client.map(|client| calls.abort(client));
    }

    fn connected(&mut self, calls: &mut Calls<'_>, number: u32, handle: Handle) {
        let pair = self.pairs.get(number);
        pair.connected_us = Some(calls.now().us());
        pair.active_us = calls.now().us();
        pair.phase = Phase::Sending(0);
        self.send_header(calls, number, handle);
    }

    /// Sends what is left of the header; behind it the two are joined.
    fn send_header(&mut self, calls: &mut Calls<'_>, number: u32, handle: Handle) {
        let pair = self.pairs.get(number);
        let (Phase::Sending(sent), Some(client)) = (pair.phase, pair.client) else { return };
        let proxy_protocol = self.listeners[usize::from(pair.listener)].listener.proxy_protocol;
        let header = proxy_protocol.relayed(pair.tuple.remote_end(), pair.tuple.local_end());
        let rest = header.bytes().get(usize::from(sent)..).unwrap_or_default();
        // Refused when the backend has just ended; its Closed follows.
        let Ok(taken) = (if rest.is_empty() { Ok(0) } else { calls.send(handle, rest) }) else { return };
        if taken < rest.len() {
            pair.phase = Phase::Sending(sent + taken as u8);
            return;
        }
        match calls.splice(client, handle) {
            Ok(()) => pair.phase = Phase::Spliced,
            Err(error) => {
                // One of them has just ended; the other has nobody to talk to.
                let cause = matches!(error, SpliceError::TooMany(_)).then_some(Cause::Resources);
                pair.end_by(cause);
                let _ = calls.abort(client);
                let _ = calls.abort(handle);
            }
        }
    }

    fn client_closed(&mut self, calls: &mut Calls<'_>, number: u32, reason: CloseReason) {
        let pair = self.pairs.get(number);
        pair.client = None;
        pair.closed(Cause::of_client(reason), reason);
        if let (Phase::Connecting | Phase::Sending(_), Some(backend)) = (pair.phase, pair.to_backend) {
            // The handshake, or the header, was for nobody. Refused when the backend has just ended.
            let _ = calls.abort(backend);
        }
        self.end_if_over(calls, number);
    }

    fn backend_closed(&mut self, calls: &mut Calls<'_>, number: u32, reason: CloseReason) {
        let pair = self.pairs.get(number);
        pair.to_backend = None;
        let cause = Cause::of_backend(reason);
        match (pair.phase, pair.client, cause) {
            (Phase::Connecting, Some(_), Some(cause)) if pair.cause.is_none() => {
                self.leave_backend(number);
                if self.may_retry(calls, number, cause, true) {
                    self.try_backends(calls, number);
                }
                return;
            }
            (Phase::Connecting | Phase::Sending(_), Some(client), _) => {
                pair.closed(cause, reason);
                // Refused when the client has just ended.
                let _ = calls.abort(client);
            }
            _ => pair.closed(cause, reason),
        }
        self.end_if_over(calls, number);
    }

    fn splice_ended(&mut self, calls: &Calls<'_>, number: u32, client: Handle, backend: Handle, bytes: (u64, u64)) {
        let pair = self.pairs.get(number);
        (pair.bytes, pair.active_us) = (bytes, calls.now().us());
        // What broke it is told with Closed. Without that at least one end still waits for its last acknowledgment, or
        // both have ended gracefully already.
        let is_over = |handle| calls.state(handle) == Ok(State::Closed);
        if !(is_over(client) && is_over(backend)) {
            pair.phase = Phase::Ending;
        }
    }

    /// A backend whose connection is over has it no longer; when both are over, the pair is noted and freed.
    fn end_if_over(&mut self, calls: &mut Calls<'_>, number: u32) {
        let pair = self.pairs.get(number);
        if pair.to_backend.is_none() && pair.is_counted {
            pair.counts = Some(self.shared.counts(pair.listener, pair.backend));
            self.leave_backend(number);
        }
        let pair = *self.pairs.get(number);
        if pair.client.is_some() || pair.to_backend.is_some() {
            return;
        }
        if self.logs {
            self.notes.push(Note::Ended(self.ended(&pair, calls.now())));
        }
        self.shared.client_went(pair.listener);
        self.pairs.remove(number);
        if self.paused && self.pairs.live() < self.pairs_max {
            self.pause(calls, false);
        }
    }

    fn ended(&self, pair: &Pair, now: Now) -> Ended {
        Ended {
            client: pair.tuple.remote_end(),
            listener: pair.listener,
            backend: pair.backend,
            accepted_us: pair.accepted_us,
            connected_us: pair.connected_us,
            ended_us: now.us(),
            bytes_read: pair.bytes.1,
            termination: pair.termination(),
            counts: pair.counts.unwrap_or_else(|| self.shared.counts(pair.listener, None)),
            retries: pair.retries,
            redispatched: pair.redispatched,
        }
    }

    fn leave_backend(&mut self, number: u32) {
        let pair = self.pairs.get(number);
        if let (Some(backend), true) = (pair.backend, pair.is_counted) {
            pair.is_counted = false;
            self.shared.backend_left(pair.listener, backend);
        }
    }

    fn pause(&mut self, calls: &mut Calls<'_>, pause: bool) {
        self.paused = pause;
        for id in self.listeners.iter().filter_map(|frontend| frontend.id) {
            if pause {
                calls.pause_accepting(id)
            } else {
                calls.resume_accepting(id)
            };
        }
    }

    /// Makes the tries whose time has come.
    fn retry_due(&mut self, calls: &mut Calls<'_>) {
        let now = calls.now();
        while let Some((_, number, serial)) = self.waiting.pop_front_if(|(due, ..)| *due <= now) {
            let pair = self.pairs.get(number);
            if pair.serial == serial && pair.phase == Phase::Waiting && pair.client.is_some() {
                self.try_backends(calls, number);
            }
        }
    }

    /// Looks at as many pairs as the time since the last look is worth, and ends those that were idle for too long.
    fn end_idle(&mut self, calls: &mut Calls<'_>) {
        let now = calls.now();
        for _ in 0..self.sweep.due(u64::from(self.pairs.end()), now) {
            self.sweep.at = (self.sweep.at + 1) % self.pairs.end();
            self.end_if_idle(calls, self.sweep.at);
        }
    }

    fn end_if_idle(&mut self, calls: &mut Calls<'_>, number: u32) {
        let pair = self.pairs.get(number);
        if pair.phase == Phase::Ending {
            return self.end_if_lingering(calls, number);
        }
        let (Phase::Sending(_) | Phase::Spliced, Some(client)) = (pair.phase, pair.client) else { return };
        let now_us = calls.now().us();
        let bytes = calls.spliced_bytes(client).unwrap_or(pair.bytes);
        if bytes != pair.bytes {
            pair.client_was_last = bytes.0 != pair.bytes.0;
            (pair.bytes, pair.active_us) = (bytes, now_us);
            return;
        }
        let timeout = self.listeners[usize::from(pair.listener)].listener.idle_timeout;
        if u128::from(now_us - pair.active_us) >= timeout.as_micros() {
            // Who was to speak next has not.
            pair.end_by(Some(if pair.client_was_last { Cause::BackendTimeout } else { Cause::ClientTimeout }));
            // A splice carries it to the other end.
            let _ = calls.abort(client);
        }
    }

    /// Both sides have closed. What is left is that a peer acknowledges the last bytes, which may take as long as bytes
    /// may take before; a FIN alone, which no reader holds up, is not waited for as long. Nothing that comes now is an
    /// error of the session.
    fn end_if_lingering(&mut self, calls: &mut Calls<'_>, number: u32) {
        let pair = self.pairs.get(number);
        let ends = [pair.client, pair.to_backend].into_iter().flatten();
        let queued = |handle: Handle| calls.info(handle).map_or(0, |info| info.queued);
        let (queued, now_us) = (ends.clone().map(queued).sum(), calls.now().us());
        if queued != pair.queued {
            (pair.queued, pair.active_us) = (queued, now_us);
            return;
        }
        let idle = self.listeners[usize::from(pair.listener)].listener.idle_timeout;
        let timeout = if queued == 0 { idle.min(LINGER) } else { idle };
        if u128::from(now_us - pair.active_us) >= timeout.as_micros() {
            // Refused for one that has just ended.
            ends.for_each(|end| _ = calls.abort(end));
        }
    }
}

impl Sweep {
    /// How many of `count` pairs are to be looked at now. What is more than a turn's worth is due in the next.
    fn due(&mut self, count: u64, now: Now) -> u64 {
        // Behind by more than a period, all are due once.
        let elapsed_us = (now.us() - self.since.us()).min(self.period_us);
        let due = (count * elapsed_us / self.period_us).min(SWEPT_PER_TURN);
        // Without a pair the whole time is spent.
        let spent_us = (due * self.period_us).checked_div(count).unwrap_or(elapsed_us);
        self.since = Now::from_us(now.us() - (elapsed_us - spent_us));
        due
    }
}

impl Frontend {
    /// The local address of the next connection, of the backend's IP version; `None` leaves it to the stack.
    fn next_source(&mut self, v4: bool) -> Option<IpAddr> {
        let sources = &self.listener.source_addresses;
        let count = sources.len();
        let found = (0..count).map(|step| (self.next_source + step) % count).find(|at| sources[*at].is_ipv4() == v4)?;
        self.next_source = found + 1;
        Some(sources[found])
    }
}

impl Service for Proxy {
    fn start(&mut self, calls: &mut Calls<'_>) -> Result<(), ListenError> {
        for frontend in &mut self.listeners {
            let options = ListenOptions { connection: frontend.options.connection, ..ListenOptions::default() };
            let address = frontend.listener.address;
            frontend.id = Some(calls.listen_with(address.ip(), address.port(), &options)?);
        }
        Ok(())
    }

    fn drain(&mut self, calls: &mut Calls<'_>) {
        // The numbers stay: connections that were accepted before are told of later.
        for id in self.listeners.iter().filter_map(|frontend| frontend.id) {
            calls.stop_listening(id);
        }
        self.checks.stop(calls);
    }
}

impl Application for Proxy {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Accepted { handle, listener } => self.accepted(calls, handle, listener),
            Event::Connected { handle } => match Role::of(calls, handle) {
                Some((Role::Backend, number)) => self.connected(calls, number, handle),
                Some((Role::Check, index)) => self.checks.connected(calls, index, handle),
                Some((Role::Client, _)) | None => {}
            },
            Event::Writable { handle } => {
                if let Some((Role::Backend, number)) = Role::of(calls, handle) {
                    self.send_header(calls, number, handle);
                }
            }
            Event::SpliceEnded { a, b, a_to_b, b_to_a } => {
                if let Some((Role::Client, number)) = Role::of(calls, a) {
                    self.splice_ended(calls, number, a, b, (a_to_b, b_to_a));
                }
            }
            Event::Closed { handle, reason } => match Role::of(calls, handle) {
                Some((Role::Client, number)) => self.client_closed(calls, number, reason),
                Some((Role::Backend, number)) => self.backend_closed(calls, number, reason),
                Some((Role::Check, index)) => self.checks.closed(index, handle, reason),
                None => {}
            },
            // What comes before the splice stays unread, and the splice carries it.
            Event::Readable { .. } | Event::PeerClosed { .. } => {}
            Event::Stalled { .. } | Event::Urgent { .. } | Event::Timer { .. } => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        self.retry_due(calls);
        self.checks.begin_due(calls, |index| Role::Check.with(index));
        self.end_idle(calls);
    }
}

impl Role {
    /// As the connection's own number.
    fn with(self, number: u32) -> u64 {
        (self as u64) << 32 | u64::from(number)
    }

    /// Whose connection it is; `None` for one that has no number of ours.
    fn of(calls: &Calls<'_>, handle: Handle) -> Option<(Role, u32)> {
        let user = calls.user(handle).ok()?;
        let role = [Role::Client, Role::Backend, Role::Check].into_iter().find(|role| *role as u64 == user >> 32)?;
        Some((role, user as u32))
    }
}

/// How long the next try to the same backend, or where the shard is full, waits, ms. Origin: HAProxy's; shorter spends all tries while a server
/// restarts.
const RETRY_MS: u64 = 1000;

/// How long a FIN may wait for its acknowledgment. Origin: 7 retransmissions on a path of 100 ms; smaller resets peers that are
/// away for a moment, larger lets peers that have vanished keep more pairs.
const LINGER: Duration = Duration::from_secs(30);

/// Pairs that are looked at in one turn. Larger would hold up the shard; smaller finds idle ones later.
const SWEPT_PER_TURN: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_turn_could_not_look_at_is_looked_at_in_the_next() {
        let mut sweep = Sweep { at: 0, since: Now::default(), period_us: 1_000_000 };
        // 6,000 are due in the first turn, and 60 in each of the others.
        let turns = (100..=1000).map(|ms| Now::from_us(ms * 1000));
        let looked: Vec<u64> = turns.map(|now| sweep.due(60_000, now)).collect();
        assert_eq!(looked[0], SWEPT_PER_TURN);
        assert!(looked.iter().all(|due| *due <= SWEPT_PER_TURN));
        assert_eq!(looked.iter().sum::<u64>(), 60_000);
    }

    #[test]
    fn few_pairs_are_not_forgotten_by_rounding_and_none_take_nothing() {
        let mut sweep = Sweep { at: 0, since: Now::default(), period_us: 1_000_000 };
        let mut looked = |count, from_us: u64| -> u64 {
            (from_us..from_us + 1_000_000).step_by(7).map(|us| sweep.due(count, Now::from_us(us + 7))).sum()
        };
        assert_eq!(looked(0, 0), 0);
        assert!((2..=3).contains(&looked(3, 1_000_000)));
    }
}
