//! ndp.
