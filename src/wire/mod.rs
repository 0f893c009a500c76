//! Bytes and their meaning: one file per protocol, parse and emit side by side.
//!
//! Panic contract: `parse` never panics, whatever the bytes. An `emit` panics when its buffer is shorter than the
//! length that its own doc states; callers hand whole frames, whose size is asserted once at start. Nothing in this
//! module knows TCP's state. Inside it addresses are source and destination; above it they are local and remote.

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod tcp;
