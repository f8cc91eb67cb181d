//! Digests of files.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use md5::{Digest as _, Md5};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, read};
use specs::upgrade::Digest;

/// How much is read at a time: large enough that calls do not count, small enough for the cache.
const PIECE: usize = 128 * 1024;

/// How a file is digested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// What our manifests hold.
    Blake3,
    /// What a plain rsync server tells.
    Md5,
}

impl Algorithm {
    /// By which a digest was made.
    pub fn of(digest: Digest) -> Option<Algorithm> {
        match digest {
            Digest::Blake3(_) => Some(Algorithm::Blake3),
            Digest::Md5(_) => Some(Algorithm::Md5),
            Digest::Unread => None,
        }
    }
}

thread_local! {
    /// Made once a thread: most files are much smaller than what it takes to make it.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; PIECE]);
}

/// The digest of a file. When it was last read is not noted, where the system allows that.
pub fn hash_file(path: &Path, algorithm: Algorithm) -> io::Result<Digest> {
    let file = open(path)?;
    BUFFER.with_borrow_mut(|piece| match algorithm {
        Algorithm::Blake3 => {
            let mut hasher = blake3::Hasher::new();
            each_piece(&file, piece, |bytes| {
                hasher.update(bytes);
            })?;
            Ok(Digest::Blake3(*hasher.finalize().as_bytes()))
        }
        Algorithm::Md5 => {
            let mut hasher = Md5::new();
            each_piece(&file, piece, |bytes| hasher.update(bytes))?;
            Ok(Digest::Md5(hasher.finalize().into()))
        }
    })
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    match openat(CWD, path, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner may leave the time alone.
        Err(Errno::PERM) => openat(CWD, path, flags, Mode::empty()),
        opened => opened,
    }
}

fn each_piece(file: &OwnedFd, piece: &mut [u8], mut use_it: impl FnMut(&[u8])) -> io::Result<()> {
    loop {
        match read(file, &mut *piece) {
            Ok(0) => return Ok(()),
            Ok(length) => use_it(&piece[..length]),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
