//! What `synfin serve` serves: echo (RFC 862), discard (RFC 863) and a fixed page over HTTP.

use super::arguments::{ServiceAt, ServiceKind};
use crate::api::{Application, ConnectionOptions, Event, ListenError, ListenOptions};
use crate::ids::{Handle, ListenerId};
use crate::shard::Calls;
use crate::stack::Service;
use crate::tick::Now;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All services of one shard.
#[derive(Debug)]
pub(super) struct Services {
    wanted: Vec<ServiceAt>,
    has_v4: bool,
    has_v6: bool,
    listeners: Vec<(ListenerId, ServiceKind)>,
    options: ListenOptions,
    /// Connections whose answer has been sent, and until when the client may take to close, in order (B37).
    lingering: VecDeque<(Now, Handle)>,
    /// When it is as long as this, those that have ended are taken out.
    lingering_max: usize,
}

impl Services {
    pub(super) fn new(wanted: &[ServiceAt], addresses: &[IpAddr], connection: ConnectionOptions) -> Services {
        Services {
            wanted: wanted.to_vec(),
            has_v4: addresses.iter().any(IpAddr::is_ipv4),
            has_v6: addresses.iter().any(IpAddr::is_ipv6),
            listeners: Vec::new(),
            options: ListenOptions { connection, ..ListenOptions::default() },
            lingering: VecDeque::with_capacity(LINGERING_MIN),
            lingering_max: LINGERING_MIN,
        }
    }

    /// A client that never closes its direction is not waited for for ever.
    fn linger(&mut self, calls: &Calls<'_>, handle: Handle, answered: bool) {
        if answered {
            self.lingering.push_back((calls.now().plus_ms(LINGER_MS), handle));
        }
    }

    fn kind_of(&self, listener: ListenerId) -> ServiceKind {
        let found = self.listeners.iter().find(|(id, _)| *id == listener);
        found.map_or(ServiceKind::Discard, |(_, kind)| *kind)
    }
}

impl Service for Services {
    fn start(&mut self, calls: &mut Calls<'_>) -> Result<(), ListenError> {
        for service in &self.wanted {
            if self.has_v4 {
                let listener = calls.listen_with(Ipv4Addr::UNSPECIFIED.into(), service.port, &self.options)?;
                self.listeners.push((listener, service.kind));
            }
            if self.has_v6 {
                let listener = calls.listen_with(Ipv6Addr::UNSPECIFIED.into(), service.port, &self.options)?;
                self.listeners.push((listener, service.kind));
            }
        }
        Ok(())
    }

    fn drain(&mut self, calls: &mut Calls<'_>) {
        for (listener, _) in &self.listeners {
            calls.stop_listening(*listener);
        }
    }
}

impl Application for Services {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        match event {
            Event::Accepted { handle, listener } => remember(calls, handle, Progress::new(self.kind_of(listener))),
            Event::Readable { handle, bytes } => {
                let progress = recall(calls, handle);
                match progress.kind {
                    ServiceKind::Echo => echo(calls, handle, bytes),
                    ServiceKind::Discard => take(calls, handle, bytes.len()),
                    ServiceKind::Http => {
                        let answered = http(calls, handle, bytes, progress);
                        self.linger(calls, handle, answered);
                    }
                }
            }
            Event::Writable { handle } => match recall(calls, handle).kind {
                ServiceKind::Echo => echo_buffered(calls, handle),
                ServiceKind::Http => {
                    let answered = http_send(calls, handle, recall(calls, handle));
                    self.linger(calls, handle, answered);
                }
                ServiceKind::Discard => {}
            },
            Event::PeerClosed { handle } => {
                let progress = recall(calls, handle);
                remember(calls, handle, Progress { peer_closed: true, ..progress });
                match progress.kind {
                    ServiceKind::Echo => echo_buffered(calls, handle),
                    ServiceKind::Discard => close(calls, handle),
                    // A request that was never completed; an answer under way closes by itself.
                    ServiceKind::Http if progress.stage < ANSWERING => close(calls, handle),
                    ServiceKind::Http => {}
                }
            }
            Event::Connected { .. }
            | Event::Closed { .. }
            | Event::Stalled { .. }
            | Event::Urgent { .. }
            | Event::SpliceEnded { .. }
            | Event::Timer { .. } => {}
        }
    }

    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        // Those that have ended leave as soon as they are first, a bounded number per turn.
        for _ in 0..LINGERING_PER_TURN {
            let is_over = |(until, handle): &mut (Now, Handle)| *until <= calls.now() || calls.state(*handle).is_err();
            let Some((_, handle)) = self.lingering.pop_front_if(is_over) else { break };
            close(calls, handle);
        }
        // Behind one that stays: as seldom as the queue doubles.
        if self.lingering.len() >= self.lingering_max {
            self.lingering.retain(|(_, handle)| calls.state(*handle).is_ok());
            self.lingering_max = (2 * self.lingering.len()).max(LINGERING_MIN);
        }
    }
}

/// Sends back what can be sent; the rest stays unread and closes the window until Writable.
fn echo(calls: &mut Calls<'_>, handle: Handle, bytes: &[u8]) {
    if let Ok(sent) = calls.send(handle, bytes) {
        take(calls, handle, sent);
    }
}

/// Sends back what stayed unread; closes when the peer has and nothing is left.
fn echo_buffered(calls: &mut Calls<'_>, handle: Handle) {
    let mut room = [0; PIECE_BYTES];
    for _ in 0..PIECES_PER_EVENT {
        let Ok(unread) = calls.received(handle) else { return };
        let count = unread.len().min(room.len());
        if count == 0 {
            if recall(calls, handle).peer_closed {
                close(calls, handle);
            }
            return;
        }
        room[..count].copy_from_slice(&unread[..count]);
        let Ok(sent) = calls.send(handle, &room[..count]) else { return };
        take(calls, handle, sent);
        if sent < count {
            return;
        }
    }
}

/// Reads up to the empty line that ends the request's header, whatever the request; then answers and closes. Returns whether
/// it has done so.
fn http(calls: &mut Calls<'_>, handle: Handle, bytes: &[u8], progress: Progress) -> bool {
    let mut progress = progress;
    take(calls, handle, bytes.len());
    if progress.stage >= ANSWERING {
        return false;
    }
    for byte in bytes {
        progress.stage = match (progress.stage, byte) {
            // A line ends with LF, with or without CR before it (RFC 9112 2.2).
            (0, b'\n') => 1,
            (1, b'\r') => 2,
            (1 | 2, b'\n') => ANSWERING,
            _ => 0,
        };
        if progress.stage == ANSWERING {
            progress.sent = 0;
            return http_send(calls, handle, progress);
        }
    }
    remember(calls, handle, progress);
    false
}

/// Sends what is left of the answer; returns whether that was all, and this direction is closed.
fn http_send(calls: &mut Calls<'_>, handle: Handle, progress: Progress) -> bool {
    let from = usize::from(progress.sent).min(PAGE.len());
    let Ok(sent) = calls.send(handle, &PAGE[from..]) else { return false };
    remember(calls, handle, Progress { sent: (from + sent) as u16, ..progress });
    if from + sent == PAGE.len() {
        // Only our direction: what the peer still sends is read and dropped, not answered with RST.
        return calls.shutdown_write(handle).is_ok();
    }
    false
}

fn take(calls: &mut Calls<'_>, handle: Handle, count: usize) {
    // Refused only when the connection has just ended; its Closed event follows.
    let _ = calls.consume(handle, count);
}

fn close(calls: &mut Calls<'_>, handle: Handle) {
    // Refused only when the connection is closing or has ended already.
    let _ = calls.close(handle);
}

fn remember(calls: &mut Calls<'_>, handle: Handle, progress: Progress) {
    // Refused only when the connection has just ended; nothing needs to be remembered then.
    let _ = calls.set_user(handle, progress.to_bits());
}

fn recall(calls: &Calls<'_>, handle: Handle) -> Progress {
    Progress::from_bits(calls.user(handle).unwrap_or_default())
}

/// What a service knows of a connection, kept in the connection's own number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Progress {
    kind: ServiceKind,
    peer_closed: bool,
    /// Of an HTTP request: 0 within a line, 1 after LF, 2 after LF CR, then [`ANSWERING`].
    stage: u8,
    /// Of an HTTP answer: bytes sent.
    sent: u16,
}

impl Progress {
    const fn new(kind: ServiceKind) -> Progress {
        Progress { kind, peer_closed: false, stage: 0, sent: 0 }
    }

    const fn to_bits(self) -> u64 {
        self.kind as u64 | (self.peer_closed as u64) << 8 | (self.stage as u64) << 16 | (self.sent as u64) << 32
    }

    const fn from_bits(bits: u64) -> Progress {
        let kind = match bits & 0xff {
            0 => ServiceKind::Echo,
            1 => ServiceKind::Discard,
            _ => ServiceKind::Http,
        };
        Progress { kind, peer_closed: bits >> 8 & 1 == 1, stage: (bits >> 16) as u8, sent: (bits >> 32) as u16 }
    }
}

/// How long a client may take to close after the answer, ms. Origin: the linger of common web servers; smaller resets
/// slow clients.
const LINGER_MS: u64 = 30_000;

/// Clients whose time is looked at per turn. More than a turn can add; larger would hold up the shard.
const LINGERING_PER_TURN: usize = 256;

/// Clients that linger before the queue is first looked through.
const LINGERING_MIN: usize = 4096;

/// Stage of an HTTP connection whose request has been read.
const ANSWERING: u8 = 3;

/// Bytes echoed per step out of the buffer: one full-sized segment.
const PIECE_BYTES: usize = 1460;

/// Steps per event, so that one connection cannot hold up the shard.
const PIECES_PER_EVENT: usize = 64;

/// The page: 13 bytes of text.
const PAGE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\nConnection: close\r\n\r\nhello, world\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_survives_the_connection_number() {
        for kind in [ServiceKind::Echo, ServiceKind::Discard, ServiceKind::Http] {
            let progress = Progress { kind, peer_closed: true, stage: ANSWERING, sent: 99 };
            assert_eq!(Progress::from_bits(progress.to_bits()), progress);
        }
    }

    #[test]
    fn page_says_its_own_length() {
        let page = std::str::from_utf8(PAGE).unwrap();
        let (header, body) = page.split_once("\r\n\r\n").unwrap();
        assert!(header.contains(&format!("Content-Length: {}", body.len())));
    }
}
