//! The ends on synfin: a shard over AF_XDP, one connection.

use super::meter::Meter;
use crate::cps::plan::PREFIX_BITS;
use crate::ends::{End, error_of};
use crate::failure::Failure;
use crate::lines::Final;
use crate::role::{ErrorKind, RoleArgs, Stop};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use synfin::api::{Application, CloseReason, ConnectOptions, Event};
use synfin::ids::Handle;
use synfin::shard::Calls;

/// Receives one stream until the orchestrator closes standard input.
pub(crate) fn receive(args: &RoleArgs) -> Result<Final, Failure> {
    let stop = Stop::begin(args.cpu)?;
    let address = *args.server.ip();
    let receiver = Receiver { meter: Meter::new(args), wrong: None };
    let mut end = End::new(args, receiver, vec![address], (address, WHOLE))?;
    let now = end.now();
    let listening = end.shard.calls(now).listen(IpAddr::V4(address), args.server.port());
    listening.map_err(|error| Failure::environment(format!("cannot listen on {}: {error}", args.server)))?;
    end.tell_ready(args);
    end.turn_while(|_| !stop.asked());
    let receiver = end.shard.application();
    let mut result = receiver.meter.result();
    result.add_error(receiver.wrong);
    end.result(result)
}

/// Sends for as long as warm-up and window take, and a little more, then closes and waits until all of it is taken.
pub(crate) fn send(args: &RoleArgs) -> Result<Final, Failure> {
    let stop = Stop::begin(args.cpu)?;
    let sender = Sender {
        remote: SocketAddr::V4(args.server),
        source: IpAddr::V4(args.source),
        takes: sending_time(args),
        piece: vec![PATTERN; PIECE_BYTES],
        handle: None,
        until: None,
        sent: 0,
        ended: None,
    };
    let mut end = End::new(args, sender, vec![args.source], (args.source, WHOLE))?;
    end.tell_ready(args);
    let limit = Instant::now() + sending_time(args) + DRAIN;
    end.turn_while(|sender| sender.ended.is_none() && !stop.asked() && Instant::now() < limit);
    if stop.asked() {
        return Err(Failure::interrupted());
    }
    end.settle();
    let sender = end.shard.application();
    let mut result = Final { bytes_total: sender.sent, ..Final::default() };
    result.add_error(match sender.ended {
        Some(Ok(CloseReason::Graceful)) => None,
        Some(Ok(reason)) => Some(error_of(reason)),
        Some(Err(kind)) => Some(kind),
        None => Some(ErrorKind::Unfinished),
    });
    end.result(result)
}

/// How long a sender sends.
pub(super) fn sending_time(args: &RoleArgs) -> Duration {
    Duration::from_millis(args.warmup_ms + args.duration_ms) + BEYOND
}

/// Takes what comes.
struct Receiver {
    meter: Meter,
    wrong: Option<ErrorKind>,
}

impl Application for Receiver {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Readable { handle, bytes } => {
                self.meter.add(bytes.len());
                if calls.consume(handle, bytes.len()).is_err() {
                    self.wrong = Some(ErrorKind::Other);
                }
            }
            // The connection may have ended at the same moment, which is what is wanted.
            Event::PeerClosed { handle } => _ = calls.close(handle),
            Event::Closed { reason, .. } if reason != CloseReason::Graceful => self.wrong = Some(error_of(reason)),
            Event::Closed { .. } | Event::Accepted { .. } | Event::Connected { .. } | Event::Writable { .. } => {}
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } | Event::Timer { .. } => {}
        }
    }

    fn on_turn(&mut self, _: &mut Calls<'_>) {
        self.meter.sample(Instant::now());
    }
}

/// Sends as much as is taken.
struct Sender {
    remote: SocketAddr,
    source: IpAddr,
    takes: Duration,
    piece: Vec<u8>,
    handle: Option<Handle>,
    /// When it closes.
    until: Option<Instant>,
    sent: u64,
    ended: Option<Result<CloseReason, ErrorKind>>,
}

impl Sender {
    fn send(&mut self, calls: &mut Calls<'_>, handle: Handle) {
        loop {
            match calls.send(handle, &self.piece) {
                Ok(taken) => {
                    self.sent += taken as u64;
                    if taken < self.piece.len() {
                        return;
                    }
                }
                // Closing already, or ended: then Closed follows.
                Err(_) => return,
            }
        }
    }
}

impl Application for Sender {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Connected { handle } | Event::Writable { handle } => self.send(calls, handle),
            Event::Closed { reason, .. } => self.ended = Some(Ok(reason)),
            Event::Readable { .. } => self.ended = Some(Err(ErrorKind::WrongLength)),
            Event::PeerClosed { .. } | Event::Accepted { .. } => {}
            Event::Stalled { .. } | Event::Urgent { .. } | Event::SpliceEnded { .. } | Event::Timer { .. } => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        let now = Instant::now();
        match (self.handle, self.until) {
            (None, _) => {
                let options = ConnectOptions { local_address: Some(self.source), ..ConnectOptions::default() };
                match calls.connect(self.remote, &options) {
                    Ok(handle) => (self.handle, self.until) = (Some(handle), Some(now + self.takes)),
                    Err(_) => self.ended = Some(Err(ErrorKind::Other)),
                }
            }
            (Some(handle), Some(until)) if now >= until => {
                self.until = None;
                if calls.close(handle).is_err() {
                    self.ended = Some(Err(ErrorKind::Other));
                }
            }
            (Some(_), _) => {}
        }
    }
}

/// What one call of SEND offers, bytes.
pub(super) const PIECE_BYTES: usize = 256 * 1024;
/// How long a sender goes on after the window should have closed.
const BEYOND: Duration = Duration::from_millis(300);
/// How long the last bytes may take.
const DRAIN: Duration = Duration::from_secs(5);
/// A prefix of one address.
const WHOLE: u8 = 32;
/// What is sent.
const PATTERN: u8 = 0x5a;

const _: () = assert!(PREFIX_BITS < WHOLE);
