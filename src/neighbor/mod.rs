//! neighbor.
