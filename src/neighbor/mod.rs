//! Who has a next hop's address: a bounded cache fed by ARP and neighbour discovery alike.
//!
//! The cache decides whom to ask and when; `wire::arp` and `wire::ndp` have the bytes, the shard sends them.

#![forbid(unsafe_code)]

pub mod cache;
mod index;
mod list;

pub use cache::{ASKS, Due, ENTRIES_MAX, Full, Heard, NeighborId, Neighbors};

#[cfg(test)]
mod tests;
