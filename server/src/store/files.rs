//! Files as the store reads and writes them: recognised by identity, replaced atomically.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{
    DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown,
};
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

/// Where the new version of a file lies until it is put in its place.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(TEMPORARY);
    PathBuf::from(temporary)
}

impl Replacement {
    /// Writes the new version of `path` beside it. It keeps mode and, where possible, owner of
    /// the old one; a new one is as private as its folder.
    pub(crate) fn write(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        let temporary = temporary(path);
        let old = absent_as_none(std::fs::metadata(path))?;
        let mode = match &old {
            Some(old) => old.mode() & 0o7777,
            None => 0o640 & (folder_of(path)?.mode() | 0o600),
        };
        // Listed first: it is removed again even when writing it fails half-way.
        self.pending.push((temporary.clone(), path.to_owned()));
        absent_as_none(std::fs::remove_file(&temporary))?;
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&temporary)?;
        match old {
            Some(old) => {
                file.set_permissions(Permissions::from_mode(mode))?;
                // Only root may give files away; without it the file is the server's own.
                let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
            }
            None => give_to_owner_of_folder(&file, &temporary),
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

/// Gives a file that root made at `path` to the owner of the folder it is in, so that an
/// operator's command does not leave files that the server's user cannot write. The open file, not
/// what is at the path by now: that user may put a link to anything there.
pub(crate) fn give_to_owner_of_folder(file: &File, path: &Path) {
    if let Ok(folder) = folder_of(path) {
        // Without root it is the server's own, as it should be.
        let _ = fchown(file, Some(folder.uid()), Some(folder.gid()));
    }
}

fn folder_of(path: &Path) -> io::Result<Metadata> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::metadata(folder),
        _ => std::fs::metadata("."),
    }
}

/// Makes sure that there is a folder that only its owner can look into: what is in it holds
/// secrets in plain text.
pub(crate) fn ensure_private_folder(path: &Path) -> io::Result<()> {
    ensure_folder(path)?;
    let metadata = std::fs::metadata(path)?;
    if metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    match std::fs::set_permissions(path, Permissions::from_mode(0o700)) {
        // Someone else's: that is for them to say.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// Makes a folder and those above it that are missing, each as private as the one it is in. What
/// is synced in it is not lost with it: its name is on disk when this returns.
pub(crate) fn ensure_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new("."));
    ensure_folder(above)?;
    let parent = folder_of(path)?;
    match DirBuilder::new().mode(0o755 & (parent.mode() | 0o700)).create(path) {
        Ok(()) => {
            // As with files, what was made and not where a link leads.
            let _ = lchown(path, Some(parent.uid()), Some(parent.gid()));
            File::open(above)?.sync_all()
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

    #[test]
    fn what_is_made_in_a_private_folder_is_private() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().mode() & 0o777;
        let private = folder.path().join(".edeploy");
        std::fs::create_dir(&private).unwrap();
        ensure_private_folder(&private).unwrap();
        ensure_folder(&private.join("machines")).unwrap();
        let paths = [private.join("machines/a.ron"), folder.path().join("a.hw")];
        let mut replacement = Replacement::default();
        for path in &paths {
            replacement.write(path, b"secret").unwrap();
        }
        replacement.commit().unwrap();
        let modes = [&private, &private.join("machines"), &paths[0], &paths[1]];
        assert_eq!(modes.map(|path| mode(path)), [0o700, 0o700, 0o600, 0o640]);
    }

    #[test]
    fn a_link_is_not_followed_when_files_are_given_away() {
        if !nix::unistd::Uid::effective().is_root() {
            assert!(std::env::var_os("CI").is_none(), "only root can give files away");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "root's own").unwrap();
        let theirs = folder.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        lchown(&theirs, Some(12345), Some(12345)).unwrap();
        let path = theirs.join("file");
        let file = File::create(&path).unwrap();
        // Between making and giving away, the folder's owner puts a link in its place.
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        give_to_owner_of_folder(&file, &path);
        assert_eq!(file.metadata().unwrap().uid(), 12345);
        assert_eq!(std::fs::metadata(&victim).unwrap().uid(), 0);
    }
}
