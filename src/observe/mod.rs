//! What a stack shows: its state as text and as JSON, and captures as files.

#[cfg(feature = "cli")]
pub mod capture;
#[cfg(feature = "cli")]
pub mod half_open;
#[cfg(feature = "cli")]
pub mod print;
