//! The applications of both ends: request, answer, close, again. What arrives is compared octet by octet.

use super::text::Text;
use super::workload::{End, Workload};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use synfin::api::{Application, CloseReason, ConnectError, ConnectOptions, Event};
use synfin::ids::Handle;
use synfin::shard::Calls;
use synfin::tick::Now;

/// The number of the newest incarnation of each 4-tuple, which the client sets: what both ends measure text against.
pub(crate) type Incarnations = Arc<[AtomicU32]>;

/// Text that is not what the peer has sent in this incarnation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wrong {
    pub tuple: usize,
    /// Who has received it.
    pub to: End,
    pub incarnation: u32,
    /// Octets of the stream before it.
    pub offset: u32,
    pub bytes: Vec<u8>,
}

/// What an end has seen.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize)]
pub(super) struct Seen {
    /// Opens that the stack refused, for want of the port.
    pub refused_connects: u64,
    /// Active opens that completed.
    pub connected: u64,
    /// Connections that have ended.
    pub closed: u64,
    /// Of them by a RST, before or after they were open.
    pub reset: u64,
    /// Of them by a time-out.
    pub timed_out: u64,
    /// Passive opens of an incarnation that had one before, or that the client does not have: an old SYN opened it (B08).
    pub opened_by_old_syn: u64,
    /// Streams that ended before all octets had come: an old FIN was taken.
    pub cut_short: u64,
}

/// Opens each 4-tuple again and again.
pub(super) struct Client {
    pub seen: Seen,
    pub wrong: Vec<Wrong>,
    workload: Workload,
    remote: SocketAddr,
    first_port: u16,
    /// How long to wait after a first, and after any further refusal, ms.
    patience_ms: (u64, u64),
    incarnations: Incarnations,
    tuples: Vec<Stream>,
    /// When each resting tuple is to be opened next, us.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    random: SmallRng,
    scratch: Vec<u8>,
}

/// Takes connections, answers requests.
pub(super) struct Server {
    pub seen: Seen,
    pub wrong: Vec<Wrong>,
    workload: Workload,
    first_port: u16,
    incarnations: Incarnations,
    tuples: Vec<Stream>,
    scratch: Vec<u8>,
}

/// What one end knows of a 4-tuple's connection.
#[derive(Clone, Copy, Default)]
struct Stream {
    handle: Option<Handle>,
    incarnation: u32,
    received: u32,
    closed: bool,
    refusals: u32,
}

impl Client {
    pub(super) fn new(
        workload: &Workload,
        remote: SocketAddr,
        first_port: u16,
        patience_ms: (u64, u64),
        incarnations: Incarnations,
        seed: u64,
    ) -> Client {
        let tuples = incarnations.len();
        Client {
            seen: Seen::default(),
            wrong: Vec::new(),
            workload: *workload,
            remote,
            first_port,
            patience_ms,
            tuples: vec![Stream::default(); tuples],
            due: (0..tuples).map(|tuple| Reverse((tuple as u64 * 20, tuple))).collect(),
            incarnations,
            random: SmallRng::seed_from_u64(seed),
            scratch: vec![0; workload.request_bytes() as usize],
        }
    }

    /// When the next tuple is to be opened, us.
    pub(super) fn next_open_us(&self) -> Option<u64> {
        self.due.peek().map(|Reverse((at_us, _))| *at_us)
    }

    fn open(&mut self, calls: &mut Calls<'_>, tuple: usize) {
        let options = ConnectOptions {
            local_port: Some(self.first_port + tuple as u16),
            user: tuple as u64,
            ..ConnectOptions::default()
        };
        match calls.connect(self.remote, &options) {
            Ok(handle) => {
                let incarnation = self.incarnations[tuple].load(Relaxed) + 1;
                self.incarnations[tuple].store(incarnation, Relaxed);
                self.tuples[tuple] = Stream { handle: Some(handle), incarnation, ..Stream::default() };
                // A second, short segment must not wait for a delayed ACK: the connection is to be quick.
                let _ = calls.set_no_delay(handle, true);
            }
            Err(error) => {
                debug_assert!(matches!(error, ConnectError::PortInUse(_)), "{error}");
                self.seen.refused_connects += 1;
                let refusals = &mut self.tuples[tuple].refusals;
                let wait_ms = if *refusals == 0 { self.patience_ms.0 } else { self.patience_ms.1 };
                *refusals += 1;
                self.due.push(Reverse((calls.now().plus_ms(wait_ms).us(), tuple)));
            }
        }
    }

    fn rest(&mut self, now: Now, tuple: usize) {
        let (least_us, most_us) = self.workload.rest_us();
        let rest_us = self.random.random_range(least_us..=most_us);
        // Opened together, they make fuller bursts.
        let at_us = (now.us() + rest_us).next_multiple_of(OPENS_EVERY_US);
        self.due.push(Reverse((at_us, tuple)));
    }
}

impl Application for Client {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        let Some(handle) = event.handle() else { return };
        let Ok(tuple) = calls.user(handle).map(|user| user as usize) else { return };
        let stream = &mut self.tuples[tuple];
        if stream.handle != Some(handle) {
            return;
        }
        match event {
            Event::Connected { .. } => {
                self.seen.connected += 1;
                Text::of(tuple, stream.incarnation, End::Client).fill(0, &mut self.scratch);
                let sent = calls.send(handle, &self.scratch);
                debug_assert_eq!(sent, Ok(self.scratch.len()), "the send pool has room");
            }
            Event::Readable { bytes, .. } => {
                let len = self.workload.answer_bytes();
                self.wrong.extend(stream.take(calls, tuple, End::Client, bytes, len));
                if stream.received >= len && self.workload.closer == End::Client {
                    stream.close(calls);
                }
            }
            Event::PeerClosed { .. } => {
                self.seen.cut_short += u64::from(stream.received < self.workload.answer_bytes());
                stream.close(calls);
            }
            Event::Closed { reason, .. } => {
                stream.handle = None;
                self.seen.ended(reason);
                self.rest(calls.now(), tuple);
            }
            Event::Accepted { .. } | Event::Writable { .. } => {}
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } | Event::Timer { .. } => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        let now_us = calls.now().us();
        while self.next_open_us().is_some_and(|at_us| at_us <= now_us) {
            let Some(Reverse((_, tuple))) = self.due.pop() else { return };
            self.open(calls, tuple);
        }
    }
}

impl Server {
    pub(super) fn new(workload: &Workload, first_port: u16, incarnations: Incarnations) -> Server {
        Server {
            seen: Seen::default(),
            wrong: Vec::new(),
            workload: *workload,
            first_port,
            tuples: vec![Stream::default(); incarnations.len()],
            incarnations,
            scratch: vec![0; workload.answer_bytes() as usize],
        }
    }

    fn accept(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        let Ok(four_tuple) = calls.four_tuple(handle) else { return };
        let tuple = usize::from(four_tuple.remote_port.wrapping_sub(self.first_port));
        if tuple >= self.tuples.len() || calls.set_user(handle, tuple as u64).is_err() {
            return;
        }
        let _ = calls.set_no_delay(handle, true);
        let incarnation = self.incarnations[tuple].load(Relaxed);
        self.seen.opened_by_old_syn += u64::from(self.tuples[tuple].incarnation == incarnation);
        self.tuples[tuple] = Stream { handle: Some(handle), incarnation, ..Stream::default() };
    }

    /// The whole request is there: the answer.
    fn answer(&mut self, calls: &mut Calls<'_>, tuple: usize) {
        let stream = &mut self.tuples[tuple];
        let Some(handle) = stream.handle else { return };
        Text::of(tuple, stream.incarnation, End::Server).fill(0, &mut self.scratch);
        // Refused where the connection has ended meanwhile.
        let _ = calls.send(handle, &self.scratch);
        if self.workload.closer == End::Server {
            stream.close(calls);
        }
    }
}

impl Application for Server {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        let Some(handle) = event.handle() else { return };
        if let Event::Accepted { .. } = event {
            return self.accept(calls, handle);
        }
        let Ok(tuple) = calls.user(handle).map(|user| user as usize) else { return };
        let Some(stream) = self.tuples.get_mut(tuple).filter(|stream| stream.handle == Some(handle)) else { return };
        match event {
            Event::Readable { bytes, .. } => {
                let len = self.workload.request_bytes();
                let before = stream.received;
                self.wrong.extend(stream.take(calls, tuple, End::Server, bytes, len));
                if before < len && stream.received >= len {
                    self.answer(calls, tuple);
                }
            }
            Event::PeerClosed { .. } => {
                self.seen.cut_short += u64::from(stream.received < self.workload.request_bytes());
                stream.close(calls);
            }
            Event::Closed { reason, .. } => {
                stream.handle = None;
                self.seen.ended(reason);
            }
            Event::Accepted { .. } | Event::Connected { .. } | Event::Writable { .. } => {}
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } | Event::Timer { .. } => {}
        }
    }
}

impl Stream {
    /// Consumes what has come; text that does not belong there is returned.
    fn take(&mut self, calls: &mut Calls<'_>, tuple: usize, to: End, bytes: &[u8], len: u32) -> Option<Wrong> {
        let (incarnation, offset) = (self.incarnation, self.received);
        self.received += bytes.len() as u32;
        if let Some(handle) = self.handle {
            let consumed = calls.consume(handle, bytes.len());
            debug_assert!(consumed.is_ok(), "{consumed:?}");
        }
        let right = Text::of(tuple, incarnation, to.other()).is(offset, bytes, len);
        (!right).then(|| Wrong { tuple, to, incarnation, offset, bytes: bytes.to_vec() })
    }

    fn close(&mut self, calls: &mut Calls<'_>) {
        if let Some(handle) = self.handle.filter(|_| !self.closed) {
            self.closed = true;
            // Refused where the connection has ended already.
            let _ = calls.close(handle);
        }
    }
}

impl Seen {
    /// Both together.
    pub(super) fn plus(self, other: Seen) -> Seen {
        Seen {
            refused_connects: self.refused_connects + other.refused_connects,
            connected: self.connected + other.connected,
            closed: self.closed + other.closed,
            reset: self.reset + other.reset,
            timed_out: self.timed_out + other.timed_out,
            opened_by_old_syn: self.opened_by_old_syn + other.opened_by_old_syn,
            cut_short: self.cut_short + other.cut_short,
        }
    }

    fn ended(&mut self, reason: CloseReason) {
        self.closed += 1;
        match reason {
            CloseReason::Reset | CloseReason::Refused => self.reset += 1,
            CloseReason::TimedOut => self.timed_out += 1,
            _ => {}
        }
    }
}

/// Opens come at multiples of this, us: some 20 hops of the wire.
const OPENS_EVERY_US: u64 = 200;
