//! The source tree itself.
