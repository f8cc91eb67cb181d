//! Why an upgrade must not be carried out: each with the names of what it is about.

use std::fmt;

use super::TreePath;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// No program would start any more.
    Loader(Vec<TreePath>),
    /// No program would start any more.
    Libc(Vec<TreePath>),
    /// The kernel that runs, or its modules, would go and no other come.
    Kernel {
        /// Its release.
        release: String,
        /// What would be removed.
        paths: Vec<TreePath>,
    },
    /// `/bin`, `/sbin` or `/lib` is not a link into `/usr`, so that one exchange of `/usr` would
    /// not switch all programs at once.
    NotMerged(Vec<TreePath>),
    /// A folder becomes something else and holds what `exclude` keeps.
    Protected {
        /// The folder.
        path: TreePath,
        /// What it holds.
        inside: TreePath,
    },
    /// The new version is of another role.
    Role {
        /// The role of this host.
        here: String,
        /// The role of the manifest.
        there: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Loader(paths) => {
                write!(f, "the dynamic loader would be removed: {}", names(paths))
            }
            Refusal::Libc(paths) => write!(f, "the C library would be removed: {}", names(paths)),
            Refusal::Kernel { release, paths } => write!(
                f,
                "the running kernel {release} would be removed and the new version brings no \
                 other with its modules: {}",
                names(paths)
            ),
            Refusal::NotMerged(paths) => write!(
                f,
                "not a link into /usr, here or in the new version: {}; only a merged /usr can be \
                 switched in one step (on the build side: package usrmerge)",
                names(paths)
            ),
            Refusal::Protected { path, inside } => write!(
                f,
                "`{path}` is no folder in the new version, but holds `{inside}`, which exclude \
                 keeps: mend the exclude file of this edge"
            ),
            Refusal::Role { here, there } => {
                write!(f, "the manifest is of role `{there}`, this host's role is `{here}`")
            }
        }
    }
}

/// The first few names, and how many more there are.
fn names(paths: &[TreePath]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = paths.iter().take(SHOWN).map(|path| format!("`{path}`")).collect();
    match paths.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
