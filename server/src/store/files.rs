//! Files as the store reads and writes them: recognised by identity, replaced atomically.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

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
    pending: Vec<(std::path::PathBuf, std::path::PathBuf)>,
}

/// The suffix of files that are being written. A leftover of a kill is overwritten.
const TEMPORARY: &str = ".edeploy-new";

impl Replacement {
    /// Writes the new version of `path` beside it. It keeps mode and, where possible, owner of
    /// the old one.
    pub(crate) fn write(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(TEMPORARY);
        let temporary = std::path::PathBuf::from(temporary);
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
    pub(crate) fn commit(mut self) -> io::Result<()> {
        let mut folders: Vec<std::path::PathBuf> = Vec::new();
        for (temporary, path) in &self.pending {
            // The first of these commits what all were written with; the others find it done.
            // `syncfs` would wait for whatever else is being written to the file system.
            File::open(temporary)?.sync_all()?;
            let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        for (temporary, path) in std::mem::take(&mut self.pending) {
            std::fs::rename(temporary, path)?;
        }
        for folder in folders {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
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
