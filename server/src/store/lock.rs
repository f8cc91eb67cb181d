//! The exclusive file lock under which everything that is stored changes, across all processes:
//! `serve`, CGI programs and the command line.
//!
//! The kernel drops a dead process's lock. Taking it is bounded in time, and fair between
//! processes: whoever wants the lock first takes a place at the turnstile, a second lock, so
//! that a server busy with one batch after the other cannot starve a CGI program.
//!
//! A lock file that was deleted while it was open locks nobody out who opens a new one. So it
//! counts as taken only when it is still the one at its path.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs2::FileExt;

use super::files::{absent_as_none, ensure_folder, give_to_owner_of_folder};

/// How long anyone waits for the lock. A holder needs milliseconds; whoever holds it this long
/// is stopped or stuck in I/O.
pub(super) const LOCK_DEADLINE: Duration = Duration::from_secs(20);

/// The pause between two attempts: short against a batch, long against a system call.
const PAUSE: Duration = Duration::from_millis(1);

/// The lock file, opened.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    file: File,
    turnstile: File,
}

/// The lock, held; given back when dropped.
#[derive(Debug)]
pub(super) struct LockGuard<'a>(&'a File);

impl Lock {
    pub(crate) fn open(path: &Path) -> io::Result<Lock> {
        if let Some(folder) = path.parent() {
            ensure_folder(folder)?;
        }
        let open = |path: &Path| {
            let options = OpenOptions::new().read(true).write(true).clone();
            match options.clone().create_new(true).mode(0o660).open(path) {
                Ok(file) => {
                    give_to_owner_of_folder(&file, path);
                    Ok(file)
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
                Err(error) => Err(error),
            }
        };
        let mut turnstile = path.as_os_str().to_owned();
        turnstile.push(".turn");
        let (file, turnstile) = (open(path)?, open(Path::new(&turnstile))?);
        Ok(Lock { path: path.to_owned(), file, turnstile })
    }

    pub(super) fn acquire(&mut self) -> io::Result<LockGuard<'_>> {
        let deadline = Instant::now() + LOCK_DEADLINE;
        loop {
            take(&self.turnstile, deadline)?;
            let taken = take(&self.file, deadline);
            FileExt::unlock(&self.turnstile)?;
            taken?;
            if self.is_in_place()? {
                return Ok(LockGuard(&self.file));
            }
            *self = Lock::open(&self.path.clone())?;
        }
    }

    /// Whether the file that is open is the one that others find.
    fn is_in_place(&self) -> io::Result<bool> {
        let own = self.file.metadata()?;
        let there = absent_as_none(std::fs::metadata(&self.path))?;
        Ok(there.is_some_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())))
    }
}

impl Lock {
    /// Holds the lock until the value is dropped.
    pub(crate) fn hold(self) -> io::Result<Lock> {
        take(&self.file, Instant::now() + LOCK_DEADLINE)?;
        Ok(self)
    }

    /// Holds the lock until the value is dropped; `None` when someone else does already.
    pub(crate) fn try_hold(self) -> io::Result<Option<Lock>> {
        match self.file.try_lock_exclusive() {
            Ok(()) => Ok(Some(self)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        // Closing the file would do the same; there is nothing to be done about an error.
        let _ = FileExt::unlock(self.0);
    }
}

fn take(file: &File, deadline: Instant) -> io::Result<()> {
    loop {
        match file.try_lock_exclusive() {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_) if Instant::now() >= deadline => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("another process held it for {} s", LOCK_DEADLINE.as_secs()),
                ));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_and_no_one_starves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/lock");
        let counter = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    // A lock of its own, as another process has.
                    let mut lock = Lock::open(&path).unwrap();
                    for _ in 0..50 {
                        let guard = lock.acquire().unwrap();
                        let seen = counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        std::thread::yield_now();
                        let unchanged = counter.load(std::sync::atomic::Ordering::SeqCst);
                        assert_eq!(unchanged, seen + 1);
                        drop(guard);
                    }
                });
            }
        });
        assert_eq!(counter.into_inner(), 200);
    }

    #[test]
    fn a_lock_file_that_was_deleted_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let mut one = Lock::open(&path).unwrap();
        drop(one.acquire().unwrap());
        std::fs::remove_file(&path).unwrap();
        let held = one.acquire().unwrap();
        assert!(Lock::open(&path).unwrap().try_hold().unwrap().is_none(), "it is held");
        drop(held);
        assert!(Lock::open(&path).unwrap().try_hold().unwrap().is_some());
    }
}
