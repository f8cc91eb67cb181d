//! Where an upgrade keeps its things.
//!
//! `/.edeploy/<number>/` of the root file system holds journal, plan and what was built;
//! `/.edeploy/fetched/` what was fetched, which stays for another try when an upgrade fails before
//! it is ready. A unit on another file system is built in a folder of the same name at the top of
//! that one: a rename never crosses file systems.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::syncfs;
use serde::{Deserialize, Serialize};
use specs::units::Name;
use specs::upgrade::{TreePath, Unit};

use super::error::{Tried, UpgradeError};
use super::{history, kept};
use crate::tree::join;
use crate::world::Root;

/// The folder at the top of each file system.
pub(super) const AREA: &str = ".edeploy";

/// An upgrade that is under way, done or undone: the folder with its things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Area {
    root: PathBuf,
    pub(super) number: u32,
}

/// What was prepared: everything that finishing or undoing needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prepared {
    pub(super) role: Name,
    pub(super) from: Name,
    pub(super) to: Name,
    pub(super) units: Vec<PreparedUnit>,
    /// Paths of the running kernel, which stay for now.
    pub(super) retained: Vec<TreePath>,
    /// Local edits, kept below `/var/lib/edeploy/kept/`.
    pub(super) kept_aside: Vec<TreePath>,
}

/// A step, and how to see whether it has been done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PreparedUnit {
    #[serde(flatten)]
    pub(super) unit: Unit,
    /// The top of its file system inside the root; empty for the root's own.
    pub(super) top: PathBuf,
    /// Inode of what was built.
    pub(super) new: Option<u64>,
    /// Inode of what stood there when it was built.
    pub(super) old: Option<u64>,
}

impl Area {
    /// All areas below the root, oldest first.
    pub(super) fn all(root: &Path) -> Result<Vec<Area>, UpgradeError> {
        let folder = root.join(AREA);
        let items = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            items => items.tried("read the folder", &folder)?,
        };
        let mut numbers: Vec<u32> =
            items.filter_map(|item| item.ok()?.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers.into_iter().map(|number| Area { root: root.to_owned(), number }).collect())
    }

    /// Makes the next one. Its number was never used: local edits are kept under it, and the
    /// history counts by it, long after the area itself has gone.
    pub(super) fn create(root: &Root) -> Result<Area, UpgradeError> {
        let past = history::history(root).tried("read the history of", root.folder())?;
        let root = root.folder();
        let last = Area::all(root)?.into_iter().map(|area| area.number);
        let last = last.chain(past.into_iter().map(|happening| happening.number));
        let last = last.chain(kept::numbers(root)?).max().unwrap_or_default();
        let area = Area { root: root.to_owned(), number: last.saturating_add(1) };
        for folder in [area.folder(), fetched(root), area.file("built")] {
            // Copies of files that only root may read lie in there.
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .tried("make the folder", &folder)?;
        }
        Ok(area)
    }

    /// Its folder on the root file system.
    pub(super) fn folder(&self) -> PathBuf {
        self.root.join(AREA).join(self.number.to_string())
    }

    /// A file or folder in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Where the thing of a unit is when it is not in its place.
    pub(super) fn parked(&self, position: usize, top: &Path) -> PathBuf {
        let number = self.number.to_string();
        self.root.join(top).join(AREA).join(number).join("built").join(position.to_string())
    }

    /// Its plan.
    pub(super) fn prepared(&self) -> Result<Prepared, UpgradeError> {
        let path = self.file("plan.json");
        let bytes = fs::read(&path).tried("read", &path)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| UpgradeError::Journal { path, reason: error.to_string() })
    }

    /// Writes its plan; it is on the disk when this returns.
    pub(super) fn write_prepared(&self, prepared: &Prepared) -> Result<(), UpgradeError> {
        let path = self.file("plan.json");
        let bytes = serde_json::to_vec(prepared).map_err(|error| UpgradeError::Journal {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let mut file = fs::File::create(&path).tried("write", &path)?;
        file.write_all(&bytes).tried("write", &path)?;
        file.sync_all().tried("sync", &path)
    }

    /// Remembers services that are to be started again should the version before come back.
    pub(super) fn write_stopped<'a>(
        &self,
        names: impl Iterator<Item = &'a String>,
    ) -> Result<(), UpgradeError> {
        let path = self.file("stopped");
        let text: String = names.map(|name| format!("{name}\n")).collect();
        fs::write(&path, text).tried("write", &path)
    }

    /// Those services.
    pub(super) fn stopped(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file("stopped")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Removes it on all file systems that its plan names, the root's last: as long as that one
    /// is there, the removal can be repeated.
    pub(super) fn remove(&self) -> Result<(), UpgradeError> {
        if let Ok(prepared) = self.prepared() {
            let tops = prepared.units.iter().map(|unit| &unit.top);
            for top in tops.filter(|top| !top.as_os_str().is_empty()) {
                let area = self.root.join(top).join(AREA);
                remove_all(&area.join(self.number.to_string()))?;
                // Stays when another upgrade has things in it.
                let _ = fs::remove_dir(&area);
            }
        }
        remove_all(&self.file("built"))?;
        remove_all(&self.folder())
    }

    /// Writes everything of this upgrade to the disks.
    pub(super) fn sync(&self, prepared: &Prepared) -> Result<(), UpgradeError> {
        let mut tops: Vec<&Path> = prepared.units.iter().map(|unit| unit.top.as_path()).collect();
        // And that of our own records and of local edits, wherever /var is.
        tops.extend([Path::new(""), Path::new("var/lib/edeploy")]);
        let mut synced = Vec::new();
        for top in tops {
            let folder = self.root.join(top);
            let file = fs::File::open(&folder).tried("open", &folder)?;
            let device = file.metadata().tried("look at", &folder)?.dev();
            if !synced.contains(&device) {
                syncfs(&file).tried("sync", &folder)?;
                synced.push(device);
            }
        }
        Ok(())
    }
}

/// Where what is fetched lies until its upgrade is committed, or given up.
pub(super) fn fetched(root: &Path) -> PathBuf {
    root.join(AREA).join("fetched")
}

/// Removes a file or folder; nothing there is no error.
pub(super) fn remove_all(path: &Path) -> Result<(), UpgradeError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.tried("remove", path),
    }
}

/// The top of the file system that holds `path`, relative to the root, which must not be left.
pub(super) fn top_of(root: &Path, path: &TreePath) -> Result<PathBuf, UpgradeError> {
    let device = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.dev());
    let own = device(root).tried("look at", root)?;
    let folders: Vec<TreePath> = path.ancestors().collect();
    // Innermost first; a folder that does not exist yet will be on its parent's.
    let mut here: Option<(u64, PathBuf)> = None;
    for folder in &folders {
        let place = join(root, folder);
        let found = match device(&place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found.tried("look at", &place)?,
        };
        if here.as_ref().is_some_and(|(device, _)| *device != found) {
            break;
        }
        let inside = place.strip_prefix(root).unwrap_or(&place).to_owned();
        here = Some((found, inside));
    }
    Ok(match here {
        Some((device, top)) if device != own => top,
        _ => PathBuf::new(),
    })
}

/// The inode at a path, links not followed.
pub(super) fn inode(path: &Path) -> Result<Option<u64>, UpgradeError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).tried("look at", path),
    }
}
