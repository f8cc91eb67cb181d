//! Where sites lie: one folder a run below the cache, with room enough, and without what earlier
//! runs of the same name have left.
//!
//! A run holds a lock in its folder. What nobody holds any more was left by a run that failed or
//! was killed; it is kept until the next run of that name, since a disk image is a gigabyte. A
//! folder without a lock is none of ours and stays.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::statvfs;
use tempfile::TempDir;

/// What one machine may write: the role tree comes to about 1 GiB on its disk, an upgrade, a
/// second file system and an installation over the first one to as much again, and other
/// machines are being installed beside it. A full disk stops a machine in the middle.
pub const ROOM_FOR_MACHINE: u64 = 3 << 30;

/// The name of the file that a run holds locked.
const LOCK: &str = "lock";

/// The folder of one run. Removed on drop, unless it is kept.
#[derive(Debug)]
pub struct Scratch {
    directory: TempDir,
    // Released on drop, also when the process dies.
    _lock: Flock<File>,
}

impl Scratch {
    /// Makes `<below>/<name>.<random>` and removes what is left of earlier runs called `name`.
    pub fn new(below: &Path, name: &str) -> Result<Scratch> {
        std::fs::create_dir_all(below).with_context(|| format!("making `{}`", below.display()))?;
        let prefix = format!("{name}.");
        for leftover in abandoned(below, &prefix)? {
            crate::say(&format!("removing what a failed run left: {}", leftover.display()));
            std::fs::remove_dir_all(&leftover)
                .with_context(|| format!("removing `{}`", leftover.display()))?;
        }
        let directory = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(below)
            .with_context(|| format!("making a folder in `{}`", below.display()))?;
        let path = directory.path().join(LOCK);
        let file = File::create(&path).with_context(|| format!("making `{}`", path.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("locking `{}`", path.display()))?;
        Ok(Scratch { directory, _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Leaves the folder for whoever looks, and returns it.
    pub fn keep(self) -> PathBuf {
        self.directory.keep()
    }
}

/// Folders whose names begin so and whose lock nobody holds.
fn abandoned(below: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in
        std::fs::read_dir(below).with_context(|| format!("reading `{}`", below.display()))?
    {
        let entry = entry?;
        let Ok(lock) = File::open(entry.path().join(LOCK)) else { continue };
        let ours = entry.file_name().to_string_lossy().starts_with(prefix);
        if ours && Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_ok() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Fails when the file system of `directory` has less than [`ROOM_FOR_MACHINE`] free.
pub fn ensure_room(directory: &Path) -> Result<()> {
    let statistics = statvfs(directory)
        .with_context(|| format!("asking for the free space of `{}`", directory.display()))?;
    enough(directory, statistics.blocks_available() * statistics.fragment_size(), ROOM_FOR_MACHINE)
}

fn enough(directory: &Path, free: u64, needed: u64) -> Result<()> {
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    ensure!(
        free >= needed,
        "`{}` has {:.1} GiB free and a machine needs {:.1} GiB: make room, or name another \
         folder in EDEPLOY_CACHE",
        directory.display(),
        gib(free),
        gib(needed)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_failure_of_a_name_is_kept_until_its_next_run() {
        let below = tempfile::tempdir().unwrap();
        let failed = Scratch::new(below.path(), "rack").unwrap().keep();
        let other = Scratch::new(below.path(), "rack-of-two").unwrap().keep();
        let foreign = below.path().join("rack.without-lock");
        std::fs::create_dir(&foreign).unwrap();
        let running = Scratch::new(below.path(), "rack").unwrap();
        assert!(!failed.exists() && other.exists() && foreign.exists());
        let beside = Scratch::new(below.path(), "rack").unwrap();
        assert!(running.path().exists(), "somebody holds it");
        let path = beside.path().to_owned();
        drop(beside);
        assert!(!path.exists(), "a good run leaves nothing");
    }

    #[test]
    fn too_little_room_is_told_with_folder_free_and_needed() {
        let directory = Path::new("/cache/lab");
        enough(directory, 3 << 30, 3 << 30).unwrap();
        let error = enough(directory, 2 << 30, 3 << 30).unwrap_err().to_string();
        let expected = "`/cache/lab` has 2.0 GiB free and a machine needs 3.0 GiB: make room, or \
                        name another folder in EDEPLOY_CACHE";
        assert_eq!(error, expected);
    }
}
