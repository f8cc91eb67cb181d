//! Why an upgrade, or the way back, was not carried out.

use std::path::{Path, PathBuf};
use std::{fmt, io};

use specs::upgrade::{ManifestError, Refusal, TreePath};

use crate::host::HostError;
use crate::tree::TreeError;
use crate::world::CmdError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The host does not know what it is.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Another `edeploy` is changing this host.
    #[error("another upgrade of this host is running (it holds `{}`)", _0.display())]
    Locked(PathBuf),
    /// There is no such edge.
    #[error(
        "there is no upgrade from {from} to {to} of role {role}: `edeploy list` shows those there are"
    )]
    NoEdge {
        /// The role.
        role: String,
        /// This host's version.
        from: String,
        /// The version that was asked for.
        to: String,
    },
    /// The edge has no `exclude`, which an upgrade needs to know what belongs to the host.
    #[error(
        "the edge to {0} has no file `exclude`: an upgrade without it would not know what belongs to this host"
    )]
    NoExclude(String),
    /// A command failed.
    #[error("cannot {what}")]
    Command {
        /// What it was for.
        what: String,
        /// Why.
        #[source]
        source: CmdError,
    },
    /// The manifest is damaged or hostile.
    #[error("the manifest of {version} cannot be used")]
    Manifest {
        /// Of which version.
        version: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// The tree cannot be read.
    #[error("cannot compare this host with its versions")]
    Tree(#[from] TreeError),
    /// The upgrade must not be.
    #[error("refused: {}", Listed(_0))]
    Refused(Vec<Refusal>),
    /// This host's file systems do not allow it.
    #[error("refused: {}", _0.join("; "))]
    Unfit(Vec<String>),
    /// What arrived is not what the manifest says.
    #[error(
        "`{path}` is not what the manifest of {version} says: the tree on the server changed, or is damaged"
    )]
    Damaged {
        /// The path.
        path: TreePath,
        /// The version.
        version: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} `{}`", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another program changed what the upgrade replaces, while it was prepared.
    #[error(
        "changed by another program while the upgrade was prepared: {}; nothing of the upgrade was done, run it again",
        Named(_0)
    )]
    Meanwhile(Vec<TreePath>),
    /// `pre` said no.
    #[error("the script `pre` failed, so nothing was changed")]
    Pre(#[source] CmdError),
    /// Something failed in the middle; everything is as before.
    #[error("the upgrade failed and this host is again what it was, {version}")]
    Returned {
        /// The version that it has again.
        version: String,
        /// Why.
        #[source]
        source: Box<UpgradeError>,
    },
    /// `post` said no.
    #[error("the script `post` failed")]
    Post(#[source] CmdError),
    /// Something failed in the middle, and so did the way back.
    #[error(
        "the upgrade failed ({cause}) and so did the way back: run `edeploy upgrade --resume` when the reason is gone"
    )]
    Stuck {
        /// Why it failed.
        cause: String,
        /// Why the way back failed.
        #[source]
        source: Box<UpgradeError>,
    },
    /// There is no version to go back to.
    #[error("there is no version to go back to: {0}")]
    NoWayBack(&'static str),
    /// Nobody knows what the version consists of.
    #[error("nobody knows what {0} consists of: it is not on this host and no more on the server")]
    NoManifest(String),
    /// The journal holds what this program did not write.
    #[error("`{}` cannot be understood: {reason}", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A failpoint of a test: as if the power had gone.
    #[error("stopped at failpoint {0}")]
    Stopped(usize),
}

struct Listed<'a>(&'a [Refusal]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(Refusal::to_string).collect();
        f.write_str(&texts.join("; "))
    }
}

struct Named<'a>(&'a [TreePath]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More than these help nobody.
        const MOST: usize = 10;
        let names: Vec<String> =
            self.0.iter().take(MOST).map(|path| format!("`/{path}`")).collect();
        f.write_str(&names.join(", "))?;
        match self.0.len().saturating_sub(MOST) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Says of an I/O error what was tried, on what.
pub(super) trait Tried<T> {
    fn tried(self, what: &'static str, path: &Path) -> Result<T, UpgradeError>;
}

impl<T, E: Into<io::Error>> Tried<T> for Result<T, E> {
    fn tried(self, what: &'static str, path: &Path) -> Result<T, UpgradeError> {
        self.map_err(|source| UpgradeError::File {
            what,
            path: path.to_owned(),
            source: source.into(),
        })
    }
}
