//! The application of both ends: does its jobs, and compares every byte with what it must be.

use super::plan::{Closing, Job, Plan};
use crate::api::{Application, CallError, CloseReason, ConnectOptions, Event};
use crate::ids::Handle;
use crate::shard::Calls;
use crate::tick::Now;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;

/// One end.
pub(in crate::shard::tests) struct Peer {
    jobs: Vec<Job>,
    remote: SocketAddr,
    /// Jobs that this end has yet to open, the next one last.
    pub to_open: Vec<usize>,
    /// Who closes first goes on listening until the peer's FIN: CLOSE waits for it for FIN_WAIT_2_MS only.
    patient: bool,
    in_flight_max: usize,
    in_flight: usize,
    live: BTreeMap<Handle, Talk>,
    /// How each connection ended at this end.
    pub ends: Vec<Ending>,
    /// Events in all.
    pub events: u64,
}

/// How a connection ended at one end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard::tests) struct Ending {
    /// Which job it was, if bytes came that said so.
    pub job: Option<usize>,
    /// This end opened it.
    pub opened: bool,
    pub reason: CloseReason,
    /// Bytes received.
    pub received: u32,
}

/// One connection as an end sees it.
#[derive(Debug)]
struct Talk {
    job: Option<usize>,
    opened: bool,
    /// The first bytes up, until they say which job this is.
    head: [u8; 4],
    sent: u32,
    received: u32,
    /// This end has closed its direction.
    closed: bool,
    peer_closed: bool,
    /// Bytes wait that were lent and not taken.
    hungry: bool,
    heard_at: Now,
}

impl Peer {
    pub(in crate::shard::tests) fn new(plan: &Plan, end: usize, remote: SocketAddr) -> Peer {
        let to_open = (0..plan.jobs.len()).rev().filter(|&job| plan.jobs[job].opener == end).collect();
        Peer {
            jobs: plan.jobs.clone(),
            remote,
            to_open,
            patient: plan.fair,
            in_flight_max: plan.in_flight_max,
            in_flight: 0,
            live: BTreeMap::new(),
            ends: Vec::new(),
            events: 0,
        }
    }

    /// The clock has jumped: nobody was silent meanwhile.
    pub(in crate::shard::tests) fn forgive_silence(&mut self, now: Now) {
        self.live.values_mut().for_each(|talk| talk.heard_at = now);
    }

    /// When this end wants a turn although nothing happens.
    pub(in crate::shard::tests) fn wish(&self, now: Now) -> Option<Now> {
        let hungry = self.live.values().any(|talk| talk.hungry);
        let opens = !self.to_open.is_empty() && self.in_flight < self.in_flight_max;
        let idle = self.live.values().map(|talk| talk.heard_at.plus_ms(IDLE_MS)).min();
        if hungry || opens { Some(now.plus_ms(1)) } else { idle }
    }

    fn talk(&mut self, handle: Handle, now: Now) -> &mut Talk {
        let talk = self.live.get_mut(&handle).expect("told of before");
        talk.heard_at = now;
        talk
    }

    fn opened(&mut self, calls: &mut Calls<'_>, handle: Handle, job: Option<usize>) {
        let talk = Talk {
            job,
            opened: job.is_some(),
            head: [0; 4],
            sent: 0,
            received: 0,
            closed: false,
            peer_closed: false,
            hungry: false,
            heard_at: calls.now(),
        };
        assert!(self.live.insert(handle, talk).is_none(), "opened twice");
        self.go_on(calls, handle);
    }

    /// Takes as many of `bytes` as the job bites off, and says how many.
    fn read(&mut self, handle: Handle, bytes: &[u8]) -> usize {
        let talk = self.live.get_mut(&handle).expect("told of before");
        let bite = talk.job.map_or(usize::MAX, |job| self.jobs[job].bite);
        let taken = bytes.len().min(bite);
        assert!(!talk.peer_closed, "bytes after the peer's FIN");
        for &byte in &bytes[..taken] {
            if !talk.opened && talk.received < 4 {
                talk.head[talk.received as usize] = byte;
                if talk.received == 3 {
                    let job = u32::from_be_bytes(talk.head) as usize;
                    assert!(job < self.jobs.len(), "the first bytes name no job: {:?}", talk.head);
                    talk.job = Some(job);
                }
            } else if let Some(job) = talk.job {
                assert_eq!(byte, pattern(job, !talk.opened, talk.received), "job {job}, byte {}", talk.received);
            }
            talk.received += 1;
        }
        if let Some(job) = talk.job {
            let expected = if talk.opened { self.jobs[job].down } else { self.jobs[job].up };
            assert!(talk.received <= expected, "job {job}: more bytes than were sent");
        }
        talk.hungry = taken < bytes.len();
        taken
    }

    /// Sends what may be sent, then closes or aborts if it is time.
    fn go_on(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        let talk = self.live.get_mut(&handle).expect("told of before");
        let Some(number) = talk.job else {
            if talk.peer_closed {
                // Open and close without a byte.
                assert_eq!(talk.received, 0, "a job with bytes begins with its name");
                close(calls, handle, true);
            }
            return;
        };
        let job = self.jobs[number];
        let (outgoing, incoming) = if talk.opened { (job.up, job.down) } else { (job.down, job.up) };
        if talk.opened && job.closing == Closing::Abort && talk.received * 2 >= job.down {
            calls.abort(handle).or_else(ended).expect("live");
            return;
        }
        let allowed = allowed(&job, talk);
        while !talk.closed && talk.sent < allowed {
            let mut bytes = [0; 2000];
            let len = (allowed - talk.sent).min(bytes.len() as u32) as usize;
            for (byte, at) in bytes[..len].iter_mut().zip(talk.sent..) {
                *byte = pattern(number, talk.opened, at);
            }
            let taken = calls.send(handle, &bytes[..len]).or_else(|error| ended(error).map(|()| 0)).expect("open");
            talk.sent += taken as u32;
            if taken < len {
                return;
            }
        }
        let (all_sent, all_received) = (talk.sent == outgoing, talk.received == incoming);
        assert!(!talk.peer_closed || all_received, "job {number}: FIN after {} of {incoming} bytes", talk.received);
        let first = match job.closing {
            Closing::Opener | Closing::Abort => all_sent && all_received && talk.opened,
            Closing::Acceptor => all_sent && all_received && !talk.opened,
            Closing::Halves => false,
        };
        if talk.peer_closed && all_sent {
            talk.closed = true;
            close(calls, handle, true);
        } else if !talk.closed && (first || (job.closing == Closing::Halves && all_sent)) {
            talk.closed = true;
            close(calls, handle, first && !self.patient);
        }
    }

    /// Another bite of what was left.
    fn eat(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        let bytes = calls.received(handle).map(<[u8]>::to_vec).unwrap_or_default();
        if bytes.is_empty() {
            // Another chunk will be told as Readable.
            self.live.get_mut(&handle).expect("live").hungry = false;
            return;
        }
        let taken = self.read(handle, &bytes);
        calls.consume(handle, taken).expect("unread bytes can be taken");
        self.go_on(calls, handle);
    }
}

impl Application for Peer {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        self.events += 1;
        let now = calls.now();
        match event {
            Event::Accepted { handle, .. } => self.opened(calls, handle, None),
            Event::Connected { handle } => {
                let job = calls.user(handle).expect("live") as usize;
                self.opened(calls, handle, Some(job));
            }
            Event::Readable { handle, bytes } => {
                self.talk(handle, now);
                let taken = self.read(handle, bytes);
                calls.consume(handle, taken).expect("lent bytes can be taken");
                self.go_on(calls, handle);
            }
            Event::Writable { handle } => {
                self.talk(handle, now);
                self.go_on(calls, handle);
            }
            Event::PeerClosed { handle } => {
                let talk = self.talk(handle, now);
                assert!(!talk.peer_closed, "the peer closed twice");
                talk.peer_closed = true;
                self.go_on(calls, handle);
            }
            Event::Closed { handle, reason } => {
                let talk = self.live.remove(&handle);
                let opened = talk.as_ref().is_none_or(|talk| talk.opened);
                self.in_flight -= usize::from(opened);
                let job =
                    talk.as_ref().map_or_else(|| calls.user(handle).ok().map(|user| user as usize), |talk| talk.job);
                let received = talk.map_or(0, |talk| talk.received);
                if let (CloseReason::Graceful, Some(job)) = (reason, job) {
                    let expected = if opened { self.jobs[job].down } else { self.jobs[job].up };
                    assert_eq!(received, expected, "job {job} ended gracefully without all bytes");
                }
                self.ends.push(Ending { job, opened, reason, received });
            }
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } | Event::Timer { .. } => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        let now = calls.now();
        while self.in_flight < self.in_flight_max {
            let Some(&job) = self.to_open.last() else { break };
            let options = ConnectOptions { user: job as u64, ..ConnectOptions::default() };
            calls.connect(self.remote, &options).expect("limits have room for every job");
            self.to_open.pop();
            self.in_flight += 1;
        }
        let hungry: Vec<Handle> = self.live.iter().filter(|(_, talk)| talk.hungry).map(|(handle, _)| *handle).collect();
        for handle in hungry {
            self.eat(calls, handle);
        }
        let idle = |talk: &Talk| now >= talk.heard_at.plus_ms(IDLE_MS);
        let idle: Vec<Handle> = self.live.iter().filter(|(_, talk)| idle(talk)).map(|(handle, _)| *handle).collect();
        for handle in idle {
            self.talk(handle, now);
            calls.abort(handle).or_else(ended).expect("live");
        }
    }
}

/// How many bytes this end may have sent by now: a response follows its request, a request the response before.
fn allowed(job: &Job, talk: &Talk) -> u32 {
    let (outgoing, incoming) = if talk.opened { (job.up, job.down) } else { (job.down, job.up) };
    if job.rounds == 0 {
        return outgoing;
    }
    let share = |whole: u32, parts: u32| (u64::from(whole) * u64::from(parts) / u64::from(job.rounds)) as u32;
    let done = (0..=job.rounds).rev().find(|&parts| talk.received >= share(incoming, parts)).unwrap_or(0);
    let ahead = if talk.opened { (done + 1).min(job.rounds) } else { done };
    // The name of the job goes first in any case.
    share(outgoing, ahead).max(if talk.opened { 4.min(outgoing) } else { 0 })
}

/// Byte `at` of one direction of a job.
fn pattern(job: usize, up: bool, at: u32) -> u8 {
    if up && at < 4 {
        return (job as u32).to_be_bytes()[at as usize];
    }
    let number = (job as u64 * 2 + u64::from(up)) << 32 | u64::from(at);
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn close(calls: &mut Calls<'_>, handle: Handle, both: bool) {
    let closed = if both { calls.close(handle) } else { calls.shutdown_write(handle) };
    closed.or_else(ended).expect("open");
}

/// The connection may have ended while the event was on its way.
fn ended(error: CallError) -> Result<(), CallError> {
    if error == CallError::Ended { Ok(()) } else { Err(error) }
}

/// An end gives up a connection of which it has heard nothing for so long, ms: longer than 15 retransmissions take. Without
/// keepalive nothing else tells an end that waits for bytes of a peer that is gone.
const IDLE_MS: u64 = 30 * 60 * 1000;
