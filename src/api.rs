//! What an application sees: events, errors, options. The calls themselves are [`Calls`].
//!
//! An application runs on its shard's thread, to completion: an event never blocks, and every call acts at once.
//!
//! A relay in a few lines. It bounds its memory by what it does not do: bytes that the other end does not take are not
//! consumed, and so close the window. ([`Calls::splice`] does the same inside the stack.)
//!
//! ```
//! use synfin::api::{Application, CallError, CloseReason, ConnectOptions, Event};
//! use synfin::ids::Handle;
//! use synfin::shard::{Calls, ConfigError, Sim};
//! use synfin::tcp::state::State;
//!
//! /// The user number of a connection is its other end.
//! fn relay(calls: &mut Calls<'_>, event: Event<'_>) -> Result<(), CallError> {
//!     let other = |calls: &Calls<'_>, handle| calls.user(handle).map(Handle::from_bits);
//!     match event {
//!         Event::Readable { handle, bytes } => {
//!             let taken = calls.send(other(calls, handle)?, bytes)?;
//!             calls.consume(handle, taken)
//!         }
//!         Event::Writable { handle } => calls.forward(other(calls, handle)?, handle).map(drop),
//!         Event::Connected { handle } => {
//!             let front = other(calls, handle)?;
//!             calls.forward(front, handle)?;
//!             let has_closed = calls.state(front)? == State::CloseWait && calls.info(front)?.unread == 0;
//!             if has_closed { calls.shutdown_write(handle) } else { Ok(()) }
//!         }
//!         // Before Connected it would give the open up.
//!         Event::PeerClosed { handle } if calls.state(other(calls, handle)?)? == State::SynSent => Ok(()),
//!         Event::PeerClosed { handle } => calls.shutdown_write(other(calls, handle)?),
//!         Event::Closed { handle, reason } if reason != CloseReason::Graceful => calls.abort(other(calls, handle)?),
//!         _ => Ok(()),
//!     }
//! }
//!
//! struct Relay;
//!
//! impl Application for Relay {
//!     fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
//!         if let Event::Accepted { handle, .. } = event {
//!             let options = ConnectOptions { user: handle.to_bits(), ..ConnectOptions::default() };
//!             let onwards = calls.connect("10.0.0.1:7".parse().expect("an end"), &options);
//!             // Without a way onwards the client is told at once.
//!             let _ = match onwards {
//!                 Ok(back) => calls.set_user(handle, back.to_bits()),
//!                 Err(_) => calls.abort(handle),
//!             };
//!         } else {
//!             // Refused where an end has gone already: its Closed event follows, or was told.
//!             let _ = relay(calls, event);
//!         }
//!     }
//! }
//!
//! /// Clients and servers: clients say hello, or nothing at all where their user number is 1; servers answer in capitals.
//! #[derive(Default)]
//! struct Ends {
//!     heard: Vec<u8>,
//!     reasons: Vec<CloseReason>,
//! }
//!
//! impl Application for Ends {
//!     fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
//!         let _ = match event {
//!             Event::Connected { handle } if calls.user(handle) == Ok(1) => calls.shutdown_write(handle),
//!             Event::Connected { handle } => calls.send(handle, b"hello").map(drop),
//!             Event::Readable { handle, bytes } if bytes == b"hello" => {
//!                 calls.send(handle, b"HELLO").and_then(|_| calls.consume(handle, 5)).and_then(|()| calls.shutdown_write(handle))
//!             }
//!             Event::Readable { handle, bytes } => {
//!                 self.heard.extend_from_slice(bytes);
//!                 calls.consume(handle, bytes.len())
//!             }
//!             Event::PeerClosed { handle } => calls.close(handle),
//!             Event::Closed { reason, .. } => Ok(self.reasons.push(reason)),
//!             _ => Ok(()),
//!         };
//!     }
//! }
//!
//! let mut sim = Sim::new(Ends::default(), Relay)?;
//! sim.left_calls().listen("10.0.0.1".parse().unwrap(), 7).unwrap();
//! sim.right_calls().listen("10.0.0.2".parse().unwrap(), 80).unwrap();
//! for user in [0, 1] {
//!     let options = ConnectOptions { user, ..ConnectOptions::default() };
//!     sim.left_calls().connect("10.0.0.2:80".parse().unwrap(), &options).unwrap();
//! }
//! sim.run(100);
//! assert_eq!(sim.left.application().heard, b"HELLO");
//! assert_eq!(sim.left.application().reasons, [CloseReason::Graceful; 4]);
//! assert_eq!((sim.left.connections_live(), sim.right.connections_live()), (0, 0));
//! # Ok::<(), ConfigError>(())
//! ```

use crate::ids::{Handle, ListenerId};
use crate::shard::Calls;
pub use crate::tcp::connection_options::{ConnectionOptions, Keepalive, OptionsError};
pub use crate::tcp::state::CloseReason;
pub use crate::tcp::status::{History, Info};
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

/// An application of one shard.
pub trait Application {
    /// Something happened to a connection. Within a connection events come in order: Accepted or Connected first, Closed last.
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>);

    /// Called once per turn, after the turn's events; the place to open connections. Must be quick: it runs even when idle.
    fn on_turn(&mut self, calls: &mut Calls<'_>) {
        let _ = calls;
    }
}

/// A closure is an application without turns of its own.
impl<F: FnMut(&mut Calls<'_>, Event<'_>)> Application for F {
    fn on_event(&mut self, calls: &mut Calls<'_>, event: Event<'_>) {
        self(calls, event);
    }
}

/// What happened to a connection.
#[derive(Debug)]
pub enum Event<'a> {
    /// A passive open completed.
    Accepted {
        /// The new connection.
        handle: Handle,
        /// The listener that it came to.
        listener: ListenerId,
    },
    /// An active open completed.
    Connected {
        /// The connection.
        handle: Handle,
    },
    /// Bytes are there, in order. They are lent until the call returns: what [`Calls::consume`] does not take stays
    /// buffered, closes the window, and can be read later with [`Calls::received`].
    Readable {
        /// The connection.
        handle: Handle,
        /// The next unread bytes.
        bytes: &'a [u8],
    },
    /// There is room to send again, after a SEND that took less than asked.
    Writable {
        /// The connection.
        handle: Handle,
    },
    /// What was sent has not been acknowledged although it was sent again as often as `retries1` says (R1 of RFC 9293 3.8.3,
    /// MUST-20). The stack goes on until R2. The only event that may come before Connected.
    Stalled {
        /// The connection.
        handle: Handle,
    },
    /// The peer has sent urgent data, or more of it after the last has been read (RFC 9293 3.8.5, RFC 6093, MUST-32). It stays
    /// in line: [`Calls::urgent_bytes`] says how many unread and coming bytes lead to its end.
    Urgent {
        /// The connection.
        handle: Handle,
    },
    /// The peer has sent FIN: no bytes follow those already told. Told only when all of them have been consumed.
    PeerClosed {
        /// The connection.
        handle: Handle,
    },
    /// A splice has ended: both directions by FIN, or one end was reset, timed out or was aborted. Closed follows for either.
    SpliceEnded {
        /// The first end.
        a: Handle,
        /// The second.
        b: Handle,
        /// Bytes that were received on `a` and queued to be sent on `b`; what was sent before the splice is not counted.
        a_to_b: u64,
        /// The other way.
        b_to_a: u64,
    },
    /// A timer that [`Calls::start_timer`] has started is over.
    Timer {
        /// What was given with it.
        token: u64,
    },
    /// The connection is over; the handle is stale when the call returns. Told only when all bytes have been consumed,
    /// or are given up by [`Calls::close`] or [`Calls::abort`].
    Closed {
        /// The connection.
        handle: Handle,
        /// Why.
        reason: CloseReason,
    },
}

impl Event<'_> {
    /// The connection that it is of; `None` for a timer, and for a splice, which has two.
    #[inline]
    pub const fn handle(&self) -> Option<Handle> {
        match *self {
            Event::Accepted { handle, .. }
            | Event::Connected { handle }
            | Event::Readable { handle, .. }
            | Event::Writable { handle }
            | Event::Stalled { handle }
            | Event::Urgent { handle }
            | Event::PeerClosed { handle }
            | Event::Closed { handle, .. } => Some(handle),
            Event::SpliceEnded { .. } | Event::Timer { .. } => None,
        }
    }
}

/// How an active open chooses its local end and how long it may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnectOptions {
    /// Local address: one of the stack's, or one that it stands in for ([`ShardConfig::transparent`]). `None` takes the stack's
    /// address on the way to the remote (MUST-44).
    ///
    /// [`ShardConfig::transparent`]: crate::shard::ShardConfig::transparent
    pub local_address: Option<IpAddr>,
    /// Local port; `None` draws one (RFC 6056).
    pub local_port: Option<u16>,
    /// Give up when the handshake has not completed by then; `None` leaves it to the SYN's retransmission limit.
    pub deadline: Option<Duration>,
    /// A number of the application's own, kept with the connection.
    pub user: u64,
    /// The connection's settings.
    pub connection: ConnectionOptions,
}

/// What holds for a listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ListenOptions {
    /// Settings that its connections inherit, from the SYN-ACK on.
    pub connection: ConnectionOptions,
    /// Accepted is told with the first text or the FIN, or without either after this time (TCP_DEFER_ACCEPT); `None` tells it
    /// at once. At most 24 days.
    pub defer_accept: Option<Duration>,
}

/// Why a listener was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is not one of the stack's.
    #[error("{0} is not an address of this stack: listen on one of its addresses or on the unspecified one")]
    NotOurAddress(IpAddr),
    /// Port 0.
    #[error("port 0 cannot be listened on: name a port from 1 to 65535")]
    PortZero,
    /// The kernel keeps the addresses, and the stack did not claim this port of them at its start.
    #[error(
        "port {0} is the kernel's: name it in SharedPorts::listen when the stack starts, or have addresses of its own"
    )]
    NotClaimed(u16),
    /// Somebody listens there already.
    #[error("{0} is in use by another listener: choose another port or stop that listener")]
    InUse(SocketAddr),
    /// The limit on listeners is reached.
    #[error("all {0} listeners are in use: raise limits.listeners_max")]
    TooMany(u32),
    /// The connection options are refused.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

/// Why an active open was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConnectError {
    /// Broadcast, multicast, unspecified, loopback or port 0 (MUST-46).
    #[error("{0} cannot be connected to: it is no unicast address and port")]
    InvalidRemote(SocketAddr),
    /// The quiet time after the start is not over (RFC 9293 3.4.3); what is left of it, ms.
    #[error("the quiet time after the start lasts {0} ms more: try again then, or set it to 0")]
    QuietTime(u64),
    /// Local port 0.
    #[error("local port 0 cannot be used: choose one from 1 to 65535 or let the stack draw one")]
    LocalPortZero,
    /// All neighbours are in use.
    #[error("all {0} neighbours are in use: raise limits.neighbors_max")]
    NeighborsFull(u32),
    /// The local address is neither one of the stack's nor one that it stands in for.
    #[error(
        "{0} is not an address of this stack: choose one of its addresses or none, or let the stack stand in for it (transparent)"
    )]
    NotOurAddress(IpAddr),
    /// No address of the stack is of the remote's family or on the way to it.
    #[error("no route to {0}: the stack has no address of this family on that network and no gateway")]
    NoRoute(IpAddr),
    /// The 4-tuple with the given local port is in use.
    #[error("local port {0} is in use towards this remote: choose another or let the stack draw one")]
    PortInUse(u16),
    /// The kernel keeps the addresses, and the stack did not claim this local port of them at its start.
    #[error(
        "what comes back to local port {0} is the kernel's: set SharedPorts::opens when the stack starts and let the \
         stack draw one, or have addresses of its own"
    )]
    NotClaimed(u16),
    /// What comes back to the given local port arrives at another shard.
    #[error(
        "local port {port} towards this remote belongs to shard {shard}: connect from there, or let the stack draw one"
    )]
    OtherShard {
        /// The given port.
        port: u16,
        /// Whose it is.
        shard: u16,
    },
    /// No local port comes back to this shard.
    #[error(
        "no local port towards this remote comes back to shard {0}: its queue is in no entry of the NIC's indirection table; connect from another \
         shard, or give the queue a share with `ethtool -X`"
    )]
    NoPortOfThisShard(u16),
    /// No local port is free towards this remote.
    #[error(
        "no local port is free towards this remote: of {owned} that this shard owns {in_use} in use, {time_wait} in \
         TIME-WAIT; {}; add local addresses or allow reuse",
        NextTry(*next_free_in_ms)
    )]
    PortsExhausted {
        /// Ports of the range that belong to this shard for this remote.
        owned: u32,
        /// Ports that belong to a connection.
        in_use: u32,
        /// The others: in TIME-WAIT, as far as is known, or not asked about yet.
        time_wait: u32,
        /// When it is worth another try, ms: when the first TIME-WAIT ends or may be reused, of those that were asked about; 0 when
        /// some ports have not been asked about, which the next try will be; 1 when some were lost sight of for want of room, and only the next
        /// look at all can tell. `None` if that depends on connections that are open.
        next_free_in_ms: Option<u32>,
    },
    /// The table of destinations is full of destinations that own ports.
    #[error("all {0} destinations own ports: raise limits.destinations_max")]
    DestinationsExhausted(u32),
    /// The TCB slab is full.
    #[error("all {0} TCBs are in use: raise limits.tcbs_max or close connections")]
    TooManyConnections(u32),
    /// The TIME-WAIT store is full and its policy is to refuse opens.
    #[error(
        "all {0} TIME-WAIT places of this IP version are taken or reserved: raise limits.time_wait_max or choose another policy"
    )]
    TimeWaitFull(u32),
    /// The connection options are refused.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

/// When another try to draw a port is worth it, in words.
struct NextTry(Option<u32>);

impl fmt::Display for NextTry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(0) => f.write_str("worth another try at once"),
            Some(ms) => write!(f, "next try in {ms} ms"),
            None => f.write_str("next try when a connection closes"),
        }
    }
}

/// Why a timer was not started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TimerError {
    /// 24 days or more.
    #[error("a timer of {0:?} is too long: at most 24 days")]
    TooLong(Duration),
    /// All timers are in use.
    #[error("all {0} timers are in use: raise limits.timers_max, or let one timer serve several things")]
    TooMany(u32),
}

/// Why two connections were not spliced; nothing has changed then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SpliceError {
    /// Both handles are the same.
    #[error("a connection cannot be spliced with itself: name two")]
    Itself,
    /// A handle names no connection.
    #[error("{0:?} is stale, the connection has ended and its Closed event was told: abort the other end")]
    Stale(Handle),
    /// The connection has ended.
    #[error("{0:?} has ended: abort the other end and wait for Closed")]
    Ended(Handle),
    /// The handshake has not completed.
    #[error("{0:?} is not yet open: wait for Connected or Accepted")]
    NotOpen(Handle),
    /// Our direction was closed already, so that nothing could be sent there.
    #[error("this side of {0:?} is closed already: splice before closing")]
    Closing(Handle),
    /// The connection is one end of a splice.
    #[error("{0:?} is spliced already: a connection has one other end")]
    AlreadySpliced(Handle),
    /// All splices are in use.
    #[error("all {0} splices are in use: raise limits.splices_max, and limits.tcbs_max to twice that")]
    TooMany(u32),
}

/// Why a call on a connection was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// The handle names no connection: it was closed, and its Closed event told.
    #[error("the handle is stale: the connection has ended and its Closed event was told")]
    Stale,
    /// The connection is not yet open.
    #[error("the connection is not yet open: wait for Connected or Accepted")]
    NotOpen,
    /// This side has closed its direction already.
    #[error("this side has already closed its direction: no more bytes can be sent")]
    Closing,
    /// The connection has ended; only reading and waiting for Closed remain.
    #[error("the connection has ended: only unread bytes can be taken")]
    Ended,
    /// The connection is spliced: its bytes are not the application's any more.
    #[error("the connection is spliced: only abort, options and info work until SpliceEnded")]
    Spliced,
    /// More was consumed than was lent or buffered.
    #[error("{asked} bytes cannot be consumed, only {unread} are unread")]
    TooMuchConsumed {
        /// Bytes asked.
        asked: usize,
        /// Bytes unread.
        unread: usize,
    },
    /// The connection options are refused.
    #[error(transparent)]
    Options(#[from] OptionsError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn ports_exhausted_says_in_words_when_to_try_again() {
        for (next_free_in_ms, words) in [
            (Some(0), "of 9 that this shard owns 2 in use, 7 in TIME-WAIT; worth another try at once; add"),
            (Some(250), "; next try in 250 ms; add"),
            (None, "; next try when a connection closes; add"),
        ] {
            let error = ConnectError::PortsExhausted { owned: 9, in_use: 2, time_wait: 7, next_free_in_ms };
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
