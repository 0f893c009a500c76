//! Health checks of all backends, made by one shard for the whole process: every shard of its own would check as often as
//! there are shards, and they would not agree. The checks go the way that connections go, through the same stack.

use super::backends::Shared;
use super::config::Config;
use super::health::{Health, HealthCheck};
use super::notes::{Note, Notes};
use super::proxy_protocol::ProxyProtocol;
use crate::api::{CloseReason, ConnectError, ConnectOptions, ConnectionOptions};
use crate::ids::Handle;
use crate::shard::Calls;
use crate::tick::Now;
use std::net::SocketAddr;
use std::sync::Arc;

/// The checks of one shard.
#[derive(Debug)]
pub(super) struct Checks {
    checked: Vec<Checked>,
    connection: ConnectionOptions,
    /// No check is due before.
    next: Now,
    shared: Arc<Shared>,
    notes: Notes,
}

/// One backend.
#[derive(Debug)]
struct Checked {
    listener: u16,
    backend: u16,
    address: SocketAddr,
    check: HealthCheck,
    proxy_protocol: ProxyProtocol,
    health: Health,
    due: Now,
    /// The check under way, or one that still closes.
    handle: Option<Handle>,
    /// Its outcome is known.
    is_over: bool,
}

impl Checks {
    /// All checks of the configuration.
    pub(super) fn new(config: &Config, shared: &Arc<Shared>, notes: &Notes) -> Checks {
        let mut checks = Checks::none(shared, notes);
        for (number, listener) in config.listeners.iter().enumerate() {
            let Some(check) = listener.health_check else { continue };
            let checked = listener.backends.iter().enumerate().map(|(backend, to)| Checked {
                listener: number as u16,
                backend: backend as u16,
                address: to.address,
                check,
                proxy_protocol: listener.proxy_protocol,
                health: Health::NEW,
                due: Now::default(),
                handle: None,
                is_over: true,
            });
            checks.checked.extend(checked);
        }
        checks.connection = config.connection();
        checks.next = Now::default();
        checks
    }

    /// No checks: another shard makes them.
    pub(super) fn none(shared: &Arc<Shared>, notes: &Notes) -> Checks {
        Checks {
            checked: Vec::new(),
            connection: ConnectionOptions::DEFAULT,
            next: NEVER,
            shared: Arc::clone(shared),
            notes: notes.clone(),
        }
    }

    /// Begins the checks that are due.
    pub(super) fn begin_due(&mut self, calls: &mut Calls<'_>, user: impl Fn(u32) -> u64) {
        let now = calls.now();
        if now < self.next {
            return;
        }
        self.next = NEVER;
        for index in 0..self.checked.len() {
            if self.checked[index].due <= now {
                self.begin(calls, index, user(index as u32));
            }
            self.next = self.next.min(self.checked[index].due);
        }
    }

    /// The handshake is complete.
    pub(super) fn connected(&mut self, calls: &mut Calls<'_>, index: u32, handle: Handle) {
        let Some(checked) = self.checked.get_mut(index as usize) else { return };
        let header = checked.proxy_protocol.own();
        // Refused only when the connection has just ended; a new one has room for a header.
        let _ = calls.send(handle, header.bytes());
        let _ = calls.close(handle);
        self.ended(index, Ok(()));
    }

    /// The connection is over.
    pub(super) fn closed(&mut self, index: u32, handle: Handle, reason: CloseReason) {
        let Some(checked) = self.checked.get_mut(index as usize) else { return };
        if checked.handle == Some(handle) {
            checked.handle = None;
            self.ended(index, Err(reason.name().to_owned()));
        }
    }

    /// Makes no more checks.
    pub(super) fn stop(&mut self, calls: &mut Calls<'_>) {
        for checked in self.checked.drain(..) {
            // Refused when it has ended.
            let _ = checked.handle.map(|handle| calls.abort(handle));
        }
        self.next = NEVER;
    }

    fn begin(&mut self, calls: &mut Calls<'_>, index: usize, user: u64) {
        let checked = &mut self.checked[index];
        checked.due = calls.now().plus_ms(checked.check.interval.as_millis() as u64);
        match checked.handle {
            // A time-out longer than the interval: one check at a time.
            Some(_) if !checked.is_over => return,
            // The backend accepted and does not close: it has had an interval for that.
            Some(handle) => drop(calls.abort(handle)),
            None => {}
        }
        let options = ConnectOptions {
            deadline: Some(checked.check.timeout),
            user,
            connection: self.connection,
            ..ConnectOptions::default()
        };
        checked.handle = None;
        match calls.connect(checked.address, &options) {
            Ok(handle) => (checked.handle, checked.is_over) = (Some(handle), false),
            Err(error @ (ConnectError::NoRoute(_) | ConnectError::InvalidRemote(_))) => {
                checked.is_over = false;
                self.ended(index as u32, Err(error.to_string()));
            }
            // Nothing was learnt about the backend.
            Err(_) => {}
        }
    }

    fn ended(&mut self, index: u32, outcome: Result<(), String>) {
        let Some(checked) = self.checked.get_mut(index as usize) else { return };
        if std::mem::replace(&mut checked.is_over, true) {
            return;
        }
        if let Some(up) = checked.health.checked(outcome.is_ok(), &checked.check) {
            let (listener, backend) = (checked.listener, checked.backend);
            self.shared.set_up(listener, backend, up);
            let because = outcome.err().unwrap_or_default();
            self.notes.push(Note::Health { listener, backend, up, because });
        }
    }
}

const NEVER: Now = Now::from_us(u64::MAX);
