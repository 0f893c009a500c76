//! synfin: a kernel-bypass TCP stack on AF_XDP for connections that come and go.
//!
//! Six floors, imports point down only (`docs/design.md`):
//!
//! | floor | modules |
//! | --- | --- |
//! | 5 | `cli`, `tokio` (a feature), the benchmark |
//! | 4 | [`stack`], [`memory`], `observe` |
//! | 3 | [`shard`] (one turn: `shard/turn.rs`), [`api`] |
//! | 2 | [`tcp`], [`flow`], [`timer`], [`neighbor`] |
//! | 1 | [`wire`], [`link`] |
//! | 0 | [`limits`], [`bits`], [`seq`], [`tick`], [`four_tuple`], [`keyed_hash`], [`ids`], [`counters`], [`prefetch`], [`toeplitz`], [`owner`], [`touched`] |
//!
//! Without features the library is `no_std` + alloc: floors 0 to 3 without AF_XDP.
#![cfg_attr(not(any(feature = "std", test)), no_std)]

extern crate alloc;

pub mod bits;
#[macro_use]
pub mod counters;
pub mod four_tuple;
pub mod ids;
pub mod keyed_hash;
pub mod limits;
pub mod owner;
pub mod prefetch;
pub mod seq;
pub mod tick;
pub mod toeplitz;
pub mod touched;

pub mod link;
pub mod wire;

pub mod flow;
pub mod neighbor;
pub mod tcp;
pub mod timer;

pub mod api;
pub mod shard;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "std")]
pub mod memory;
#[cfg(feature = "std")]
pub mod observe;
#[cfg(feature = "std")]
pub mod stack;
#[cfg(feature = "tokio")]
pub mod tokio;

/// The README's code compiles as it stands.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// So does the guide's.
#[cfg(doctest)]
#[doc = include_str!("../docs/guide.md")]
struct Guide;
