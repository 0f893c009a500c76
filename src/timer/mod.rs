//! Deadlines of TCBs: when something is due, never what. `tcp::timeouts` decides what is.

pub mod wheel;
