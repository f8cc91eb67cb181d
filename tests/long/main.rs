//! Long.
