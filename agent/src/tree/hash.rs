//! Digests of files.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, read, retry_on_intr};
use rustix::path::Arg;
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

/// Digests files, and keeps from one to the next what takes time to make. One for each thread, and
/// no longer than the tree is one and the same: the folder of the last file stays open.
#[derive(Default)]
pub(super) struct FileReader {
    /// Most files are much smaller than what it takes to make it.
    piece: Vec<u8>,
    /// The folder of the last file: to find the next one from here costs a third of the whole path.
    folder: Option<(PathBuf, OwnedFd)>,
}

/// The digest of a file. When it was last read is not noted, where the system allows that.
pub fn hash_file(path: &Path, algorithm: Algorithm) -> io::Result<Digest> {
    FileReader::default().hash(path, algorithm)
}

impl FileReader {
    /// As [`hash_file`].
    pub(super) fn hash(&mut self, path: &Path, algorithm: Algorithm) -> io::Result<Digest> {
        let file = self.open(path)?;
        Ok(self.digest(&file, algorithm)?)
    }

    fn open(&mut self, path: &Path) -> Result<OwnedFd, Errno> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::ISDIR);
        };
        if self.folder.as_ref().is_none_or(|(known, _)| known != parent) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.folder = Some((parent.to_owned(), openat(CWD, parent, flags, Mode::empty())?));
        }
        let Some((_, folder)) = &self.folder else { return Err(Errno::NOENT) };
        open_quietly(folder, name, OFlags::empty())
    }

    /// The digest of what an open file holds from here on.
    pub(super) fn digest(&mut self, file: &OwnedFd, algorithm: Algorithm) -> Result<Digest, Errno> {
        self.piece.resize(PIECE, 0);
        let first = read_piece(file, &mut self.piece)?;
        let is_all = first < PIECE;
        match algorithm {
            // Most files end here, and a hasher is larger than many of them.
            Algorithm::Blake3 if is_all => {
                Ok(Digest::Blake3(*blake3::hash(&self.piece[..first]).as_bytes()))
            }
            Algorithm::Blake3 => {
                let mut hasher = blake3::Hasher::new();
                self.each_piece(file, first, |bytes| {
                    hasher.update(bytes);
                })?;
                Ok(Digest::Blake3(*hasher.finalize().as_bytes()))
            }
            Algorithm::Md5 => {
                let mut hasher = Md5::new();
                self.each_piece(file, first, |bytes| hasher.update(bytes))?;
                Ok(Digest::Md5(hasher.finalize().into()))
            }
        }
    }

    /// The piece that was read, of this length, and all that follow.
    fn each_piece(
        &mut self,
        file: &OwnedFd,
        first: usize,
        mut use_it: impl FnMut(&[u8]),
    ) -> Result<(), Errno> {
        let mut length = first;
        loop {
            use_it(&self.piece[..length]);
            // Only at its end does a file give less than was asked for.
            if length < PIECE {
                return Ok(());
            }
            length = read_piece(file, &mut self.piece)?;
        }
    }
}

/// Opens a file for reading; when it was last read is not noted, where the system allows that.
pub(super) fn open_quietly(
    folder: &OwnedFd,
    name: impl Arg + Copy,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
    match openat(folder, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only the owner may leave the time alone.
        Err(Errno::PERM) => openat(folder, name, flags, Mode::empty()),
        opened => opened,
    }
}

fn read_piece(file: &OwnedFd, piece: &mut [u8]) -> Result<usize, Errno> {
    retry_on_intr(|| read(file, &mut *piece))
}
