//! Which backend a connection goes to, and what all shards know of the backends.
//!
//! Counts of connections and health belong to the process: atomics, one cache line per backend, written when a connection
//! begins and ends and when a check changes something. So least connections means those of the whole process, and every
//! shard leaves out the same backends. The turn of the round robin is each shard's own: shared, it would be one more line
//! that all shards write, for an order that nobody sees.

use super::config::Config;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// How a backend is chosen among those that are up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest connections of the process; among equals one after the other.
    LeastConnections,
}

impl Balance {
    const ALL: [Balance; 2] = [Balance::RoundRobin, Balance::LeastConnections];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Balance::RoundRobin => "round-robin",
            Balance::LeastConnections => "least-connections",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Balance, String> {
        let found = Balance::ALL.into_iter().find(|balance| balance.name() == text);
        found.ok_or_else(|| format!("no balance {text:?}: there are round-robin and least-connections"))
    }
}

/// What all shards know.
#[derive(Debug)]
pub(super) struct Shared {
    /// Client connections of the process.
    connections: AtomicU32,
    listeners: Vec<Frontend>,
}

/// One listener.
#[derive(Debug)]
struct Frontend {
    /// Client connections.
    connections: AtomicU32,
    backends: Vec<State>,
}

/// One backend; a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct State {
    up: AtomicBool,
    connections: AtomicU32,
}

/// Connections as the access log has them, the logged one included.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) process: u32,
    pub(super) listener: u32,
    /// To all backends of the listener.
    pub(super) backends: u32,
    /// To the one backend.
    pub(super) backend: u32,
}

impl Shared {
    pub(super) fn new(config: &Config) -> Shared {
        let state = || State { up: AtomicBool::new(true), connections: AtomicU32::new(0) };
        let frontend = |count| Frontend {
            connections: AtomicU32::new(0),
            backends: std::iter::repeat_with(state).take(count).collect(),
        };
        let listeners = config.listeners.iter().map(|listener| frontend(listener.backends.len())).collect();
        Shared { connections: AtomicU32::new(0), listeners }
    }

    /// A client has come to the listener.
    pub(super) fn client_came(&self, listener: u16) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.listeners[usize::from(listener)].connections.fetch_add(1, Ordering::Relaxed);
    }

    /// It has gone.
    pub(super) fn client_went(&self, listener: u16) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        self.listeners[usize::from(listener)].connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection to the backend begins.
    pub(super) fn backend_taken(&self, listener: u16, backend: u16) {
        self.state(listener, backend).connections.fetch_add(1, Ordering::Relaxed);
    }

    /// It has ended.
    pub(super) fn backend_left(&self, listener: u16, backend: u16) {
        self.state(listener, backend).connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// A check has found out that the backend is up, or not.
    pub(super) fn set_up(&self, listener: u16, backend: u16, up: bool) {
        self.state(listener, backend).up.store(up, Ordering::Relaxed);
    }

    /// The counts as they are now.
    pub(super) fn counts(&self, listener: u16, backend: Option<u16>) -> Counts {
        let frontend = &self.listeners[usize::from(listener)];
        let of = |state: &State| state.connections.load(Ordering::Relaxed);
        Counts {
            process: self.connections.load(Ordering::Relaxed),
            listener: frontend.connections.load(Ordering::Relaxed),
            backends: frontend.backends.iter().map(of).sum(),
            backend: backend.map_or(0, |backend| of(&frontend.backends[usize::from(backend)])),
        }
    }

    fn state(&self, listener: u16, backend: u16) -> &State {
        &self.listeners[usize::from(listener)].backends[usize::from(backend)]
    }
}

/// One shard's choice among the backends of one listener.
#[derive(Clone, Debug)]
pub(super) struct Chooser {
    listener: u16,
    balance: Balance,
    /// Whose turn it is.
    next: usize,
}

impl Chooser {
    /// Shards begin at different backends, so that few connections on many shards are spread too.
    pub(super) fn new(listener: u16, balance: Balance, shard: usize) -> Chooser {
        Chooser { listener, balance, next: shard }
    }

    /// Whether another backend than `but` is up.
    pub(super) fn has_other(&self, shared: &Shared, but: Option<u16>) -> bool {
        let backends = &shared.listeners[usize::from(self.listener)].backends;
        let is_other = |(index, state): (usize, &State)| Some(index as u16) != but && state.up.load(Ordering::Relaxed);
        backends.iter().enumerate().any(is_other)
    }

    /// A backend that is up; not `but` if there is another. `None` if none is up.
    pub(super) fn choose(&mut self, shared: &Shared, but: Option<u16>) -> Option<u16> {
        let backends = &shared.listeners[usize::from(self.listener)].backends;
        let count = backends.len();
        let is_up = |index: &usize| backends[*index].up.load(Ordering::Relaxed);
        let others = |index: &usize| Some(*index as u16) != but;
        let mut in_turn = (0..count).map(|step| (self.next + step) % count).filter(is_up).filter(others);
        let found = match self.balance {
            Balance::RoundRobin => in_turn.next(),
            // The first of the least, hence one after the other among equals.
            Balance::LeastConnections => {
                in_turn.min_by_key(|index| backends[*index].connections.load(Ordering::Relaxed))
            }
        };
        let found = found.or_else(|| but.map(usize::from).filter(is_up))?;
        self.next = (found + 1) % count;
        Some(found as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(count: usize) -> Shared {
        let state = || State { up: AtomicBool::new(true), connections: AtomicU32::new(0) };
        let backends = std::iter::repeat_with(state).take(count).collect();
        Shared {
            connections: AtomicU32::new(0),
            listeners: vec![Frontend { connections: AtomicU32::new(0), backends }],
        }
    }

    fn chosen(chooser: &mut Chooser, shared: &Shared, times: usize) -> Vec<u16> {
        (0..times).map(|_| chooser.choose(shared, None).unwrap()).collect()
    }

    #[test]
    fn round_robin_takes_turns_from_the_shards_own_start_and_leaves_out_who_is_down() {
        let shared = shared(3);
        let mut chooser = Chooser::new(0, Balance::RoundRobin, 1);
        assert_eq!(chosen(&mut chooser, &shared, 4), [1, 2, 0, 1]);
        shared.set_up(0, 2, false);
        assert_eq!(chosen(&mut chooser, &shared, 3), [0, 1, 0]);
        shared.set_up(0, 2, true);
        assert_eq!(chosen(&mut chooser, &shared, 2), [1, 2]);
    }

    #[test]
    fn least_connections_takes_the_least_and_turns_among_equals() {
        let shared = shared(3);
        let mut chooser = Chooser::new(0, Balance::LeastConnections, 0);
        shared.backend_taken(0, 1);
        assert_eq!(chosen(&mut chooser, &shared, 4), [0, 2, 0, 2]);
        shared.backend_taken(0, 0);
        shared.backend_taken(0, 0);
        shared.backend_taken(0, 2);
        shared.backend_left(0, 1);
        assert_eq!(chosen(&mut chooser, &shared, 2), [1, 1]);
        shared.set_up(0, 1, false);
        assert_eq!(chosen(&mut chooser, &shared, 1), [2]);
    }

    #[test]
    fn retry_goes_to_another_backend_if_there_is_one() {
        let shared = shared(2);
        let mut chooser = Chooser::new(0, Balance::RoundRobin, 0);
        assert_eq!((chooser.choose(&shared, Some(0)), chooser.choose(&shared, Some(1))), (Some(1), Some(0)));
        shared.set_up(0, 1, false);
        assert_eq!(chooser.choose(&shared, Some(0)), Some(0));
        shared.set_up(0, 0, false);
        assert_eq!(chooser.choose(&shared, Some(0)), None);
    }

    #[test]
    fn counts_include_the_one_that_is_logged() {
        let shared = shared(2);
        shared.client_came(0);
        shared.client_came(0);
        shared.backend_taken(0, 0);
        shared.backend_taken(0, 1);
        assert_eq!(shared.counts(0, Some(1)), Counts { process: 2, listener: 2, backends: 2, backend: 1 });
        shared.client_went(0);
        assert_eq!(shared.counts(0, None), Counts { process: 1, listener: 1, backends: 2, backend: 0 });
    }
}
