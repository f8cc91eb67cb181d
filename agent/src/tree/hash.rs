//! Digests of files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use md5::{Digest as _, Md5};
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

/// The digest of a file.
pub fn hash_file(path: &Path, algorithm: Algorithm) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE];
    match algorithm {
        Algorithm::Blake3 => {
            let mut hasher = blake3::Hasher::new();
            each_piece(&mut file, &mut piece, |bytes| {
                hasher.update(bytes);
            })?;
            Ok(Digest::Blake3(*hasher.finalize().as_bytes()))
        }
        Algorithm::Md5 => {
            let mut hasher = Md5::new();
            each_piece(&mut file, &mut piece, |bytes| hasher.update(bytes))?;
            Ok(Digest::Md5(hasher.finalize().into()))
        }
    }
}

fn each_piece(file: &mut File, piece: &mut [u8], mut use_it: impl FnMut(&[u8])) -> io::Result<()> {
    loop {
        match file.read(piece) {
            Ok(0) => return Ok(()),
            Ok(length) => use_it(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
