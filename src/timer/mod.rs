//! Deadlines of TCBs: when something is due, never what. `tcp::timeouts` decides what is.

#![forbid(unsafe_code)]

pub mod wheel;
