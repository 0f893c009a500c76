//! The control socket: what other processes may ask of a running stack, one line in, one line of JSON out.
//!
//! The socket is served by the thread that waits for signals, a few times in 100 ms, never by a shard. Whoever connects gets one
//! answer. A request is bounded in length and time, and so is the number of clients; further ones wait in the kernel's queue.

mod client;
mod request;
mod serve;

#[cfg(test)]
mod tests;

pub(super) use client::ask;
pub(super) use request::Request;
pub(super) use serve::{Control, Subject};
