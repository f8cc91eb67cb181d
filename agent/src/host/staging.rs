//! Builds what will stand at each changed place, beside the running system.
//!
//! What does not change is linked, not copied: a new `/usr` takes its folders and what was
//! fetched. Nothing that the running system sees is written to, so a file of which only owner,
//! mode or attributes change is a copy.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, XattrFlags, lremovexattr, lsetxattr, makedev, mknodat};
use specs::upgrade::{Change, Digest, Entry, FileEntry, Kind, TreePath, UpgradePlan};

use super::error::{Tried, UpgradeError};
use super::recheck::{Seen, stamp};
use crate::tree::{is_ours, join, read_xattrs};

/// Builds the things of a plan's units.
pub(super) struct Builder<'a> {
    root: &'a Path,
    changes: &'a BTreeMap<TreePath, Change>,
    /// What will newly be in which folder.
    children: BTreeMap<TreePath, Vec<&'a TreePath>>,
    fetched: BTreeMap<Digest, PathBuf>,
    moved: BTreeSet<Digest>,
    shared: BTreeMap<u32, PathBuf>,
    seen: Seen,
}

impl<'a> Builder<'a> {
    /// `fetched` tells where each content is.
    pub(super) fn new(
        root: &'a Path,
        plan: &'a UpgradePlan,
        fetched: BTreeMap<Digest, PathBuf>,
    ) -> Builder<'a> {
        let mut children: BTreeMap<TreePath, Vec<&TreePath>> = BTreeMap::new();
        for (path, change) in &plan.changes {
            if let (Some(parent), Some(_)) = (path.parent(), &change.after) {
                children.entry(parent).or_default().push(path);
            }
        }
        let (moved, shared) = (BTreeSet::new(), BTreeMap::new());
        let seen = Seen::new();
        Builder { root, changes: &plan.changes, children, fetched, moved, shared, seen }
    }

    /// What stood at the changed places while it built.
    pub(super) fn into_seen(self) -> Seen {
        self.seen
    }

    /// Makes at `place` what will stand at `path`.
    pub(super) fn build(&mut self, path: &TreePath, place: &Path) -> Result<(), UpgradeError> {
        let live = join(self.root, path);
        match self.changes.get(path) {
            Some(change) => {
                let stays = change.after.as_ref().is_some_and(Entry::is_folder);
                self.see(path, &live, !stays)?;
                let Some(after) = &change.after else { return Ok(()) };
                self.make(after, change.before.as_ref(), &live, place)?;
                if after.is_folder() {
                    self.fill(path, &live, place)?;
                }
                if let Kind::File(file) = &after.kind
                    && let Some(group) = file.shared
                {
                    self.shared.entry(group).or_insert_with(|| place.to_owned());
                }
                set_attributes(place, after)
            }
            None => {
                let metadata = match fs::symlink_metadata(&live) {
                    // It was there a moment ago, and belongs to nobody here.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    metadata => metadata.tried("look at", &live)?,
                };
                if metadata.is_dir() {
                    fs::create_dir(place).tried("make the folder", place)?;
                    self.fill(path, &live, place)?;
                    copy_attributes(&live, &metadata, place)
                } else {
                    fs::hard_link(&live, place).tried("link", &live)
                }
            }
        }
    }

    /// Notes what stands at a place, and with `below` all that it holds.
    fn see(&mut self, path: &TreePath, live: &Path, below: bool) -> Result<(), UpgradeError> {
        self.seen.insert(path.clone(), stamp(live)?);
        if below && fs::symlink_metadata(live).is_ok_and(|metadata| metadata.is_dir()) {
            for item in fs::read_dir(live).tried("read the folder", live)? {
                let item = item.tried("read the folder", live)?;
                let child = path.child(item.file_name().as_bytes());
                self.see(&child.map_err(crate::tree::TreeError::Name)?, &item.path(), true)?;
            }
        }
        Ok(())
    }

    /// Fills a folder: what is there and does not change, and what is new.
    fn fill(&mut self, path: &TreePath, live: &Path, place: &Path) -> Result<(), UpgradeError> {
        let mut names: BTreeSet<TreePath> =
            self.children.get(path).into_iter().flatten().map(|&child| child.clone()).collect();
        if fs::symlink_metadata(live).is_ok_and(|metadata| metadata.is_dir()) {
            for item in fs::read_dir(live).tried("read the folder", live)? {
                let item = item.tried("read the folder", live)?;
                let child = path.child(item.file_name().as_bytes());
                names.insert(child.map_err(crate::tree::TreeError::Name)?);
            }
        }
        for child in names {
            self.build(&child, &place.join(OsStr::from_bytes(child.name())))?;
        }
        Ok(())
    }

    /// Makes one thing, its attributes still to be set.
    fn make(
        &mut self,
        after: &Entry,
        before: Option<&Entry>,
        live: &Path,
        place: &Path,
    ) -> Result<(), UpgradeError> {
        let node = |kind, device| {
            mknodat(CWD, place, kind, Mode::RUSR, device).tried("make the device", place)
        };
        match &after.kind {
            Kind::Folder => fs::create_dir(place).tried("make the folder", place),
            Kind::Link(target) => {
                symlink(OsStr::from_bytes(target), place).tried("make the link", place)
            }
            Kind::Fifo => node(FileType::Fifo, 0),
            Kind::Socket => Ok(()),
            Kind::Device { block, major, minor } => {
                let kind = if *block { FileType::BlockDevice } else { FileType::CharacterDevice };
                node(kind, makedev(*major, *minor))
            }
            Kind::File(file) => {
                let same = before.is_some_and(|before| before.same_content(after));
                self.make_file(file, same.then_some(live), place)
            }
        }
    }

    fn make_file(
        &mut self,
        file: &FileEntry,
        live: Option<&Path>,
        place: &Path,
    ) -> Result<(), UpgradeError> {
        if let Some(twin) = file.shared.and_then(|group| self.shared.get(&group)) {
            match fs::hard_link(twin, place) {
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {}
                linked => return linked.tried("link", twin),
            }
        }
        if file.size == 0 {
            return File::create(place).map(drop).tried("make", place);
        }
        let source = match live {
            Some(live) => live,
            None => match self.fetched.get(&file.digest) {
                Some(source) => {
                    // The first one takes it as it is; others need attributes of their own.
                    if self.moved.insert(file.digest) && fs::hard_link(source, place).is_ok() {
                        return Ok(());
                    }
                    source
                }
                None => {
                    return Err(io::Error::from(io::ErrorKind::NotFound))
                        .tried("find what was fetched for", place);
                }
            },
        };
        fs::copy(source, place).map(drop).tried("copy", source)
    }
}

/// Gives a place the owner, mode, attributes and time of an entry.
pub(super) fn set_attributes(place: &Path, entry: &Entry) -> Result<(), UpgradeError> {
    lchown(place, Some(entry.uid), Some(entry.gid)).tried("set the owner of", place)?;
    if let Some(wanted) = &entry.xattrs {
        let found = read_xattrs(place).tried("read the attributes of", place)?;
        for name in found.keys().filter(|name| is_ours(name) && !wanted.contains_key(*name)) {
            lremovexattr(place, name.as_str()).tried("remove an attribute of", place)?;
        }
        for (name, value) in wanted.iter().filter(|(name, value)| found.get(*name) != Some(*value))
        {
            lsetxattr(place, name.as_str(), value, XattrFlags::empty())
                .tried("set an attribute of", place)?;
        }
    }
    if matches!(entry.kind, Kind::Link(_)) {
        return Ok(());
    }
    // After the owner, a change of which takes set-id bits away.
    fs::set_permissions(place, Permissions::from_mode(entry.mode))
        .tried("set the mode of", place)?;
    if let Some(file) = entry.file() {
        let seconds = Duration::from_secs(file.mtime.unsigned_abs());
        let epoch = SystemTime::UNIX_EPOCH;
        let time =
            if file.mtime < 0 { epoch.checked_sub(seconds) } else { epoch.checked_add(seconds) };
        if let Some(time) = time {
            let times = FileTimes::new().set_modified(time).set_accessed(time);
            let opened = File::open(place).tried("open", place)?;
            opened.set_times(times).tried("set the time of", place)?;
        }
    }
    Ok(())
}

fn copy_attributes(live: &Path, metadata: &fs::Metadata, place: &Path) -> Result<(), UpgradeError> {
    let xattrs = read_xattrs(live).tried("read the attributes of", live)?;
    let entry = Entry {
        kind: Kind::Folder,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        xattrs: Some(xattrs),
    };
    set_attributes(place, &entry)
}
