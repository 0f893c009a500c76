//! The containers of a shard: fixed in size, laid out and touched at construction, linked by 32-bit numbers.
//!
//! They are generic over the records they hold; records and their rules live in `tcp`, `shard` joins them.
//!
//! | file | holds | cost per item |
//! | --- | --- | --- |
//! | [`slab`] | records with generations | the record |
//! | [`list`] | first-in first-out lists through records of a slab | 8 B in the record |
//! | [`chunks`] | unacknowledged and unread bytes | chunk + 20 B |
//! | [`index`] | 4-tuple hash to kind and number | 6.7 B at its bound |
//! | [`listeners`] | local address and port to listener | 40 B |
//! | [`time_wait`] | TIME-WAIT records by deadline | record + 0.6 B, and one page per slot of the 2MSL |
//! | [`recent`] | marks of accepted SYN cookies, two periods | 8 B |
//! | [`path_mtus`] | path MTU by remote address, ten minutes | 32 B |
//! | [`ports`] | local ports per destination | 119 B per destination |
//! | [`port_queue`] | ports given back | 2.1 B, and 64 B per destination |
//!
//! [`capacity`] says beforehand what a set of ports can carry.
//!
//! None of them panics for what comes from the network: full is a value, a stale number is `None`.

#![forbid(unsafe_code)]

pub mod capacity;
pub mod chunks;
pub mod index;
pub mod list;
pub mod listeners;
pub mod path_mtus;
pub mod port_queue;
pub mod ports;
pub mod recent;
pub mod slab;
pub mod time_wait;
