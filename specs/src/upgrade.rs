//! From one version of a role to the next: what a tree is, what an edge keeps, what changes.
//!
//! A [`Manifest`] says what a tree holds, path by path. [`Rules`] are the `exclude` and
//! `add_only` files of an edge, with rsync's meaning. [`plan`] compares two manifests with what
//! is on the disk and answers an [`UpgradePlan`], a value that `edeploy test-upgrade` prints and
//! `edeploy upgrade` carries out, or the reasons why it must not be ([`Refusal`]). [`verify`]
//! compares one manifest with the disk.
//!
//! Looking at disks, fetching and the journal are the agent's.

mod diff;
mod kernel;
mod manifest;
mod path;
mod pattern;
mod refusal;
mod rules;
mod text;
mod verify;

pub use diff::{Change, Inputs, Local, Unit, UnitKind, UpgradePlan, plan};
pub use kernel::{Kernel, kernel_of};
pub use manifest::{Aspect, Digest, Disk, Entry, FileEntry, Kind, Manifest, Xattrs};
pub use path::{PathError, TreePath};
pub use pattern::Pattern;
pub use refusal::Refusal;
pub use rules::{Class, Classifier, Rules};
pub use text::ManifestError;
pub use verify::{Drift, DriftKind, verify};
