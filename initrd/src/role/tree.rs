//! Every path of a tree with what is known of it, links not followed.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use super::{RoleError, failed};

/// The tree itself and all below it, sorted. Everything is looked at before anything is changed,
/// so a file with two names is described the same way under both.
pub(super) fn all(tree: &Path) -> Result<Vec<(PathBuf, Metadata)>, RoleError> {
    let mut paths = vec![tree.to_owned()];
    let mut found = Vec::new();
    while let Some(path) = paths.pop() {
        let metadata = fs::symlink_metadata(&path).map_err(failed("look at", &path))?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).map_err(failed("list", &path))? {
                paths.push(entry.map_err(failed("list", &path))?.path());
            }
        }
        found.push((path, metadata));
    }
    found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}
