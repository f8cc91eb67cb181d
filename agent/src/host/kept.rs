//! Keeps local edits aside, in `/var/lib/edeploy/kept/<number>-<version>/`, before an upgrade or
//! the way back replaces them.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use specs::upgrade::TreePath;

use super::error::{Tried, UpgradeError};
use crate::tree::join;

/// Where they are, inside the root.
const KEPT: &str = "var/lib/edeploy/kept";

/// The folder for the edits that an upgrade away from `version` replaces.
pub(super) fn folder(root: &Path, number: u32, version: &str) -> PathBuf {
    root.join(KEPT).join(format!("{number}-{version}"))
}

/// The numbers of the upgrades that kept anything.
pub(super) fn numbers(root: &Path) -> Result<Vec<u32>, UpgradeError> {
    let folder = root.join(KEPT);
    let items = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        items => items.tried("read the folder", &folder)?,
    };
    let number = |name: &str| name.split_once('-')?.0.parse().ok();
    Ok(items.filter_map(|item| number(item.ok()?.file_name().to_str()?)).collect())
}

/// Keeps what is at these paths, folders with all they hold, and tells of which anything was
/// kept. What is not there is left out, what was kept already stays, and so does a file that is
/// the very same one at its place in what comes back, which `returning` tells.
pub(super) fn keep_aside(
    root: &Path,
    paths: &[TreePath],
    folder: &Path,
    returning: impl Fn(&TreePath) -> Option<PathBuf>,
) -> Result<Vec<TreePath>, UpgradeError> {
    let mut kept = Vec::new();
    for path in paths {
        if keep(&join(root, path), &join(folder, path), returning(path).as_deref())? {
            kept.push(path.clone());
        }
    }
    Ok(kept)
}

/// Whether anything was kept.
fn keep(live: &Path, place: &Path, returning: Option<&Path>) -> Result<bool, UpgradeError> {
    let metadata = match fs::symlink_metadata(live) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        metadata => metadata.tried("look at", live)?,
    };
    if metadata.is_dir() {
        let mut kept = false;
        let mut items = fs::read_dir(live).tried("read the folder", live)?.peekable();
        // An empty folder that comes back empty is the same.
        if items.peek().is_none() && returning.is_none_or(|path| !path.is_dir()) {
            fs::create_dir_all(place).tried("make the folder", place)?;
            kept = true;
        }
        for item in items {
            let name = item.tried("read the folder", live)?.file_name();
            let returning = returning.map(|path| path.join(&name));
            kept |= keep(&live.join(&name), &place.join(&name), returning.as_deref())?;
        }
        if kept {
            fs::set_permissions(place, metadata.permissions()).tried("set the mode of", place)?;
        }
        return Ok(kept);
    }
    let same = |path: &Path| {
        fs::symlink_metadata(path)
            .is_ok_and(|other| (other.dev(), other.ino()) == (metadata.dev(), metadata.ino()))
    };
    if returning.is_some_and(same) {
        return Ok(false);
    }
    if fs::symlink_metadata(place).is_ok() {
        return Ok(true);
    }
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent).tried("make the folder", parent)?;
    }
    copy(live, &metadata, place).map(|()| true)
}

fn copy(live: &Path, metadata: &fs::Metadata, place: &Path) -> Result<(), UpgradeError> {
    if metadata.is_symlink() {
        let target = fs::read_link(live).tried("read the link", live)?;
        return symlink(target, place).tried("make the link", place);
    }
    match fs::hard_link(live, place) {
        Ok(()) => Ok(()),
        Err(_) if metadata.is_file() => fs::copy(live, place).map(drop).tried("copy", live),
        // A device or pipe on another file system: nothing that somebody edited.
        Err(_) => Ok(()),
    }
}
