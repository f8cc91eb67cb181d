//! Role trees: from what a distribution's tools installed to what machines are given.
//!
//! A tree comes from `mmdebstrap` (`scripts/build-role`) or from any other tool. [`finish`]
//! makes it a role: accounts get the numbers of the site's table, what belongs to one machine or
//! to the build goes, package managers are switched off, and no file is younger than the
//! packages, so that a second build gives the same bytes. [`publish`] gives it a version: conf,
//! manifest, archive and checksums.
//!
//! Deliberately not here: which packages a role consists of. That is what recipes say.

mod clean;
mod numbers;
mod publish;
mod times;
mod tree;

use std::io;
use std::path::PathBuf;

use agent::host::pkgmngr::PackageManagerError;
use agent::tree::TreeError;
use specs::diagnostic::Diagnostic;
use specs::ids::IdsError;

use crate::command::CommandError;

pub use clean::clean;
pub use numbers::{add_account, renumber_tree};
pub use publish::{Published, publish};
pub use times::{clamp, newest_packaged};

/// Why a tree could not become a role.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// Something in the tree, or beside it.
    #[error("cannot {attempt} `{}`", path.display())]
    File {
        /// What was attempted.
        attempt: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The table of numbers cannot be read.
    #[error("the table of numbers cannot be used:\n{0}")]
    Table(Box<Diagnostic>),
    /// The accounts of the tree cannot have the numbers of the table.
    #[error("cannot give the accounts of the tree their numbers")]
    Numbers(#[from] IdsError),
    /// Files whose owner no account file names: nobody knows which number they should get.
    #[error("no account has the number {kind} {id}, which owns {}; change their owner, or take them out", paths.join(", "))]
    Orphans {
        /// `uid` or `gid`.
        kind: &'static str,
        /// The number.
        id: u32,
        /// Some of the paths.
        paths: Vec<String>,
    },
    /// An access list is damaged.
    #[error("the access list of `{}` cannot be read", .0.display())]
    AccessList(PathBuf),
    /// No package tells how old the tree is.
    #[error("`{}` has no package database to tell its age: set SOURCE_DATE_EPOCH", .0.display())]
    NoAge(PathBuf),
    /// Package managers.
    #[error("cannot switch the package managers of the tree off")]
    PackageManagers(#[from] PackageManagerError),
    /// The manifest.
    #[error("cannot read the tree for its manifest")]
    Manifest(#[from] TreeError),
    /// A program.
    #[error("cannot {attempt}")]
    Program {
        /// What it was for.
        attempt: &'static str,
        /// Why.
        #[source]
        source: CommandError,
    },
}

/// Names what was attempted, for `map_err`.
fn failed(attempt: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RoleError {
    let path = path.into();
    move |source| RoleError::File { attempt, path, source }
}
