//! The command line of installed hosts, `edeploy`: what this host is, to what it can be upgraded,
//! and the upgrade itself.
//!
//! Everything is done below a [`Root`](crate::world::Root), so that a repair from another system,
//! and a test, treats a host the same way as the host itself does.
//!
//! An upgrade is prepared beside the running system, in a folder `.edeploy/<number>/` of every
//! file system that it touches, and then switched by renames that a journal leads
//! ([`Journal`](journal::Journal)):
//!
//! 1. [`inquiry`]: fetch the edge and the [`manifests`], look at the disk, compare.
//! 2. [`fetch`]: fetch what changes and check it against the manifest. [`script`]: `pre`.
//! 3. [`staging`]: build what will stand at each changed place; a new `/usr` is a folder of hard
//!    links to what stays and of what was fetched. [`recheck`]: nobody changed the host meanwhile.
//! 4. The journal says *ready*. From here the upgrade is finished, whatever happens.
//! 5. [`switch`]: each place changes with what was built for it, by one rename. What stood there
//!    is kept, so the way back is the same renames again. The journal says *applied*.
//! 6. `post`; the journal says *committed*; version and history are written ([`settle`]).
//!
//! Which renames of step 5 have been done is seen from inode numbers, so every step can be
//! repeated from any point: that is all that [`recover`] does.

mod boot_menu;
mod commands;
mod edges;
mod error;
mod fetch;
mod history;
mod identity;
mod inquiry;
mod journal;
mod kept;
mod layout;
pub mod listing;
mod manifests;
pub mod pkgmngr;
mod preflight;
mod recheck;
mod recover;
mod report;
mod rollback;
mod script;
mod services;
mod settle;
mod staging;
mod switch;
mod upgrade;
mod verify;

pub use commands::{Host, Lock, Progress};
pub use edges::{EdgesError, list};
pub use error::UpgradeError;
pub use history::{Happening, history};
pub use identity::{HostError, Identity};
pub use inquiry::{Inquiry, Needs};
pub use journal::{Failpoint, Phase};
pub use recover::Resumed;
pub use report::{LocalEdit, Report, Space};
pub use rollback::RolledBack;
pub use upgrade::Outcome;
pub use verify::{Verified, note_own};
