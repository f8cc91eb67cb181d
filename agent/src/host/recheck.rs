//! Whether the host is still what the new version was built of, looked at just before the switch.
//!
//! A new `/usr` is a folder of links to what stays. What another program puts there, replaces or
//! deletes while the new version is built and written to the disk would be gone with the old
//! folder. What is written *into* a file that stays is not lost: it is the same file. The moment
//! between this look and the exchange remains; what falls into it is parked with the old version.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use specs::upgrade::{TreePath, UnitKind};

use super::error::{Tried, UpgradeError};
use super::layout::{Area, Prepared};
use crate::tree::join;

/// What tells a file from another at the same place, and from itself after a write: inode, mode,
/// size and time of the last change to its content. The link count is no part of it, since the
/// upgrade itself makes links. `None`: nothing is there.
pub(super) type Stamp = Option<(u64, u32, u64, i64, i64)>;

/// What stood at each changed place while the new version was built.
pub(super) type Seen = BTreeMap<TreePath, Stamp>;

/// What is at a place now. Of a folder only that it is this one and its mode count: what is in it
/// is looked at by itself.
pub(super) fn stamp(place: &Path) -> Result<Stamp, UpgradeError> {
    match fs::symlink_metadata(place) {
        // In what is no folder, or no longer one, there is nothing either.
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
        Err(error) => Err(error).tried("look at", place),
        Ok(found) if found.is_dir() => Ok(Some((found.ino(), found.mode(), 0, 0, 0))),
        Ok(found) => {
            Ok(Some((found.ino(), found.mode(), found.size(), found.mtime(), found.mtime_nsec())))
        }
    }
}

/// Refuses to go on when something of what is exchanged has changed since.
pub(super) fn recheck(
    root: &Path,
    area: &Area,
    prepared: &Prepared,
    seen: &Seen,
) -> Result<(), UpgradeError> {
    let mut look = Look { seen, changed: Vec::new() };
    for (position, unit) in prepared.units.iter().enumerate() {
        let path = &unit.unit.path;
        if unit.unit.kind == UnitKind::Swap {
            look.compare(path, &join(root, path), &area.parked(position, &unit.top))?;
        }
    }
    match look.changed {
        changed if changed.is_empty() => Ok(()),
        changed => Err(UpgradeError::Meanwhile(changed)),
    }
}

struct Look<'a> {
    seen: &'a Seen,
    changed: Vec<TreePath>,
}

impl Look<'_> {
    /// Compares what is at a place with what was built for it.
    fn compare(&mut self, path: &TreePath, live: &Path, built: &Path) -> Result<(), UpgradeError> {
        let (now, next) = (stamp(live)?, stamp(built)?);
        let is_folder =
            |place: &Path| fs::symlink_metadata(place).is_ok_and(|found| found.is_dir());
        let folders = (is_folder(live), is_folder(built));
        let as_seen = match self.seen.get(path) {
            Some(seen) => *seen == now,
            // It stays: a folder with its mode, anything else as the very same thing.
            None if folders == (true, true) => now.map(|n| n.1) == next.map(|n| n.1),
            None => now == next,
        };
        if !as_seen {
            self.changed.push(path.clone());
            return Ok(());
        }
        if !folders.0 {
            return Ok(());
        }
        let mut names = names(live)?;
        if folders.1 {
            names.extend(self::names(built)?);
        }
        for name in names {
            let child = path.child(name.as_bytes()).map_err(crate::tree::TreeError::Name)?;
            self.compare(&child, &live.join(&name), &built.join(&name))?;
        }
        Ok(())
    }
}

fn names(folder: &Path) -> Result<BTreeSet<OsString>, UpgradeError> {
    let items = fs::read_dir(folder).tried("read the folder", folder)?;
    items.map(|item| Ok(item.tried("read the folder", folder)?.file_name())).collect()
}
