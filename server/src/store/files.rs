//! Files as the store reads and writes them: recognised by identity, replaced atomically.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What tells one version of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileId {
    fn of(metadata: &Metadata) -> FileId {
        FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The version that is at `path` now; `None` when there is none.
    pub(super) fn at(path: &Path) -> io::Result<Option<FileId>> {
        absent_as_none(std::fs::metadata(path).map(|metadata| FileId::of(&metadata)))
    }
}

/// `None` for what is not there.
pub(crate) fn absent_as_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces files so that after a kill at any instant each is either the old or the new version:
/// all written beside their places and synced, then all renamed, then the folders synced.
#[derive(Debug, Default)]
pub(crate) struct Replacement {
    /// Temporary path and final path.
    pending: Vec<(PathBuf, PathBuf)>,
}

/// Fewer files than this are synced one after the other.
const FEW: usize = 8;
/// Threads that sync many files: they wait, and do not work.
const SYNCERS: usize = 8;

/// The suffix of files that are being written. A leftover of a kill is overwritten.
const TEMPORARY: &str = ".edeploy-new";

impl Replacement {
    /// Writes the new version of `path` beside it. It keeps mode and, where possible, owner of
    /// the old one.
    pub(crate) fn write(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(TEMPORARY);
        let temporary = PathBuf::from(temporary);
        let old = absent_as_none(std::fs::metadata(path))?;
        let mode = old.as_ref().map_or(0o640, |old| old.permissions().mode() & 0o7777);
        // Listed first: it is removed again even when writing it fails half-way.
        self.pending.push((temporary.clone(), path.to_owned()));
        absent_as_none(std::fs::remove_file(&temporary))?;
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&temporary)?;
        match old {
            Some(old) => {
                file.set_permissions(std::fs::Permissions::from_mode(mode))?;
                // Only root may give files away; without it the file is the server's own.
                let _ = std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid()));
            }
            None => give_to_owner_of_folder(&temporary),
        }
        file.write_all(content)
    }

    /// Puts all of them in their places.
    pub(crate) fn commit(self) -> io::Result<()> {
        self.sync()?;
        sync_folders(&self.put_in_place(|_| true)?)
    }

    /// Syncs what was written. Many at once wait for one commit of the file system together;
    /// `syncfs` would wait for whatever else is being written to it.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let sync = |(temporary, _): &(PathBuf, PathBuf)| File::open(temporary)?.sync_all();
        if self.pending.len() < FEW {
            return self.pending.iter().try_for_each(sync);
        }
        let next = AtomicUsize::new(0);
        let work = || -> io::Result<()> {
            while let Some(pair) = self.pending.get(next.fetch_add(1, Ordering::Relaxed)) {
                sync(pair)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..SYNCERS).map(|_| scope.spawn(work)).collect();
            let mut ended = threads.into_iter().map(|thread| thread.join());
            ended.try_for_each(|result| {
                result.unwrap_or_else(|_| Err(io::Error::other("a thread that syncs panicked")))
            })
        })
    }

    /// Renames those that are wanted to their places, the others are dropped. The folders that
    /// have to be synced.
    pub(crate) fn put_in_place(
        mut self,
        wanted: impl Fn(&Path) -> bool,
    ) -> io::Result<BTreeSet<PathBuf>> {
        let mut folders = BTreeSet::new();
        for (temporary, path) in &self.pending {
            if wanted(path) {
                std::fs::rename(temporary, path)?;
                let folder = path.parent().unwrap_or(Path::new("/"));
                if !folders.contains(folder) {
                    folders.insert(folder.to_owned());
                }
            }
        }
        self.pending.retain(|(_, path)| !wanted(path));
        Ok(folders)
    }
}

/// Makes renames in these folders last.
pub(crate) fn sync_folders(folders: &BTreeSet<PathBuf>) -> io::Result<()> {
    folders.iter().try_for_each(|folder| File::open(folder)?.sync_all())
}

/// Gives what root made to the owner of the folder it is in, so that an operator's command does
/// not leave files that the server's user cannot write.
pub(crate) fn give_to_owner_of_folder(path: &Path) {
    if let Some(Ok(folder)) = path.parent().map(std::fs::metadata) {
        // Without root it is the server's own, as it should be.
        let _ = std::os::unix::fs::chown(path, Some(folder.uid()), Some(folder.gid()));
    }
}

/// Makes a folder and those above it that are missing.
pub(crate) fn ensure_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        ensure_folder(parent)?;
    }
    match std::fs::create_dir(path) {
        Ok(()) => {
            give_to_owner_of_folder(path);
            Ok(())
        }
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        for (temporary, _) in &self.pending {
            // Whatever stays is overwritten by the next attempt.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replacement_that_fails_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        std::fs::write(&path, "old").unwrap();
        let mut replacement = Replacement::default();
        replacement.write(&path, b"new").unwrap();
        assert!(replacement.write(&folder.path().join("absent/x"), b"new").is_err());
        drop(replacement);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_replacement_keeps_the_mode_and_changes_the_identity() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
        let before = FileId::at(&path).unwrap();
        let mut replacement = Replacement::default();
        replacement.write(&path, b"new").unwrap();
        replacement.commit().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o604);
        assert_ne!(FileId::at(&path).unwrap(), before);
    }
}
