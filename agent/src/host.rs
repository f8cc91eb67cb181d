//! The command line of installed hosts, `edeploy`: what this host is, and to what it can be
//! upgraded.
//!
//! Everything is read below a [`Root`], so that a repair from another system, and a test, looks
//! at a host the same way as the host itself does. What changes a host will be modules beside
//! `identity` and `edges`; these two change nothing.

mod edges;
mod identity;
pub mod pkgmngr;

pub use edges::{EdgesError, list};
pub use identity::{HostError, Identity};
