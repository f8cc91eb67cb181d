//! What every command works with: the host's root, the door for subprocesses, who is told how
//! far things are, and the lock without which nothing is changed.

use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;

use fs2::FileExt;
use specs::upgrade::Kernel;

use super::error::{Tried, UpgradeError};
use super::journal::Failpoint;
use crate::world::{Root, Runner};

/// Where the lock is.
const LOCK: &str = "/var/lib/edeploy/lock";

/// A host and the means to change it.
#[derive(Debug)]
pub struct Host<'a, R: Runner, P: Progress> {
    /// Its root folder.
    pub root: Root,
    /// Starts rsync and the scripts.
    pub runner: &'a mut R,
    /// Is told how far things are.
    pub progress: &'a mut P,
    /// The kernel that runs, as `uname -r` prints it.
    pub running: Option<Kernel>,
    /// The program that finishes an interrupted upgrade at the next boot: itself. `None`: nothing
    /// is arranged for the next boot.
    pub program: Option<PathBuf>,
    /// Where a test stops it.
    pub failpoint: Failpoint,
}

/// Is told how far things are.
pub trait Progress {
    /// Something begins.
    fn stage(&mut self, what: &str);
    /// So many of so many bytes.
    fn bytes(&mut self, done: u64, total: u64);
}

/// Shows that no other `edeploy` changes this host. A dead process holds no lock.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // At once, also when a child that is just being started has inherited the file.
        let _ = FileExt::unlock(&self.file);
    }
}

impl<R: Runner, P: Progress> Host<'_, R, P> {
    /// Whether it is the system that this program runs on.
    pub fn is_running_system(&self) -> bool {
        self.root == Root::system()
    }

    /// Takes the lock, or says that another has it.
    pub fn lock(&self) -> Result<Lock, UpgradeError> {
        let path = self.root.resolve(LOCK).tried("find", &PathBuf::from(LOCK))?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).tried("make the folder", folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).tried("open", &path)?;
        match file.try_lock_exclusive() {
            Ok(()) => Ok(Lock { file }),
            Err(error) if error.raw_os_error() == fs2::lock_contended_error().raw_os_error() => {
                Err(UpgradeError::Locked(path))
            }
            Err(error) => Err(error).tried("lock", &path),
        }
    }
}
