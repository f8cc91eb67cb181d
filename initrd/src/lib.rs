//! Builds `vmlinuz` and `initrd.pxe` from Debian packages, and makes role trees.
//!
//! A manifest says what is in and why; the packages are fetched and unpacked without installing
//! them; libraries and modules that what is named depends on come along; the root becomes a
//! squashfs, which stays compressed in the machine's memory, and goes with the agent and the few
//! modules that mount it into a cpio archive. Needs no privileges.
//!
//! [`role`] does the same for what is installed: it makes a tree a role with a version.
//!
//! Deliberately not here: any logic that runs on the machine. That is the agent's.

mod archive;
mod build;
mod command;
mod cpio;
mod libraries;
mod manifest;
mod modules;
mod own_group;
mod packages;
pub mod role;
mod root;

pub use archive::Compression;
pub use build::{BuildOptions, build, build_group, build_own_group, contents};
pub use command::CommandError;
pub use libraries::LibraryError;
pub use manifest::{Manifest, ManifestError, Part};
pub use modules::ModuleError;
pub use packages::{PackageError, default_cache};
pub use root::RootError;
