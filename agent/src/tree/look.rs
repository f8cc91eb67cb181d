//! Looks at what lies in one folder.
//!
//! A file whose content is wanted is opened first and asked by its descriptor: to find a path
//! again for each question takes longer than the answers do.

use std::ffi::{CStr, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, Stat, fstat, major, minor, openat, readlinkat,
    statat,
};
use rustix::io::Errno;
use specs::upgrade::{Digest, Entry, FileEntry, Kind, TreePath, Xattrs};

use super::TreeError;
use super::hash::{Algorithm, FileReader, open_quietly};
use super::xattrs;

/// What was found at a path.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) entry: Entry,
    /// Device and inode.
    pub(super) inode: (u64, u64),
    /// When anything about it was last changed, in seconds since 1970.
    pub(super) changed: i64,
}

/// By what the content of a file of this size is to be digested; `None`: not at all.
pub(super) type Content<'a> = Option<&'a (dyn Fn(&TreePath, u64) -> Option<Algorithm> + Sync)>;

/// The path below a folder.
pub(crate) fn join(root: &Path, path: &TreePath) -> PathBuf {
    root.join(OsStr::from_bytes(path.as_bytes()))
}

/// Reads folders, and remembers buffers from one to the next. One for each thread.
pub(super) struct Reader<'a> {
    root: &'a Path,
    content: Content<'a>,
    /// What the kernel says of a folder, piece by piece.
    listing: Vec<MaybeUninit<u8>>,
    names: Names,
    /// The path of what is looked at, for calls that take no folder; ends with a NUL.
    place: Vec<u8>,
    attributes: xattrs::Names,
    files: FileReader,
}

/// Room for a few hundred names at a time.
const LISTING: usize = 32 * 1024;

impl<'a> Reader<'a> {
    pub(super) fn new(root: &'a Path, content: Content<'a>) -> Reader<'a> {
        Reader {
            root,
            content,
            listing: vec![MaybeUninit::uninit(); LISTING],
            names: Names::default(),
            place: Vec::new(),
            attributes: xattrs::Names::default(),
            files: FileReader::default(),
        }
    }

    /// What lies in a folder and counts, as `counts` says of a path that is a folder or not;
    /// `None` is the top. It is told in the order of inodes, in which a disk reads them fastest.
    pub(super) fn read(
        &mut self,
        folder: Option<&TreePath>,
        counts: &mut dyn FnMut(&TreePath, bool) -> bool,
    ) -> Result<Vec<(TreePath, Found)>, TreeError> {
        let place = folder.map_or_else(|| self.root.to_owned(), |folder| join(self.root, folder));
        let failed = |source: Errno| TreeError::Read { path: place.clone(), source: source.into() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(CWD, &place, flags, Mode::empty()).map_err(failed)?;
        self.names.list(&opened, &mut self.listing).map_err(failed)?;
        self.place.clear();
        self.place.extend_from_slice(place.as_os_str().as_bytes());
        self.place.push(b'/');
        let length = self.place.len();
        let mut all = Vec::with_capacity(self.names.items.len());
        for position in 0..self.names.items.len() {
            let name = self.names.get(position);
            self.place.truncate(length);
            self.place.extend_from_slice(name.to_bytes_with_nul());
            let path = match folder {
                Some(folder) => folder.child(name.to_bytes())?,
                None => TreePath::new(name.to_bytes())?,
            };
            match self.look(&opened, position, &path, counts) {
                Ok(Some(found)) => all.push((path, found)),
                // Files of a running system come and go.
                Ok(None) | Err(Errno::NOENT) => {}
                Err(source) => {
                    let (path, source) = (join(self.root, &path), source.into());
                    return Err(TreeError::Read { path, source });
                }
            }
        }
        Ok(all)
    }

    /// What is there; `None` when it does not count.
    fn look(
        &mut self,
        folder: &OwnedFd,
        position: usize,
        path: &TreePath,
        counts: &mut dyn FnMut(&TreePath, bool) -> bool,
    ) -> Result<Option<Found>, Errno> {
        let name = self.names.get(position);
        let stat_it = || statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
        let (kind, stat) = match self.names.kind(position) {
            // Not every file system tells it along with the names.
            FileType::Unknown => {
                let stat = stat_it()?;
                (FileType::from_raw_mode(stat.st_mode), Some(stat))
            }
            kind => (kind, None),
        };
        if !counts(path, kind == FileType::Directory) {
            return Ok(None);
        }
        if kind == FileType::RegularFile
            && let Some(algorithm) = self.content
            && let Ok((file, stat)) = open(folder, name)
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        {
            return self.read_file(&file, &stat, path, algorithm).map(Some);
        }
        let stat = match stat {
            Some(stat) => stat,
            None => stat_it()?,
        };
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Folder,
            FileType::RegularFile => Kind::File(unread(&stat)),
            FileType::Symlink => Kind::Link(readlinkat(folder, name, Vec::new())?.into_bytes()),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            other => Kind::Device {
                block: other == FileType::BlockDevice,
                major: major(stat.st_rdev),
                minor: minor(stat.st_rdev),
            },
        };
        let place = CStr::from_bytes_with_nul(&self.place).map_err(|_| Errno::INVAL)?;
        Ok(Some(found(kind, &stat, self.attributes.at(place)?)))
    }

    /// Everything about an open file, and what it holds; of one with several names that is left to
    /// whoever knows them all.
    fn read_file(
        &mut self,
        file: &OwnedFd,
        stat: &Stat,
        path: &TreePath,
        algorithm: &(dyn Fn(&TreePath, u64) -> Option<Algorithm> + Sync),
    ) -> Result<Found, Errno> {
        let mut entry = unread(stat);
        if stat.st_nlink == 1
            && let Some(algorithm) = algorithm(path, entry.size)
        {
            entry.digest = self.files.digest(file, algorithm)?;
        }
        Ok(found(Kind::File(entry), stat, self.attributes.of(file)?))
    }
}

/// Opens what was a file when the folder was read. By now it may be a pipe that nobody writes to.
fn open(folder: &OwnedFd, name: &CStr) -> Result<(OwnedFd, Stat), Errno> {
    let file = open_quietly(folder, name, OFlags::NOFOLLOW | OFlags::NONBLOCK)?;
    let stat = fstat(&file)?;
    Ok((file, stat))
}

fn unread(stat: &Stat) -> FileEntry {
    FileEntry {
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        mtime: stat.st_mtime,
        digest: Digest::Unread,
        shared: None,
    }
}

fn found(kind: Kind, stat: &Stat, xattrs: Xattrs) -> Found {
    // Links have no permissions of their own.
    let mode = if matches!(kind, Kind::Link(_)) { 0o777 } else { stat.st_mode & 0o7777 };
    let (uid, gid) = (stat.st_uid, stat.st_gid);
    let entry = Entry { kind, mode, uid, gid, xattrs: Some(xattrs) };
    Found { entry, inode: (stat.st_dev, stat.st_ino), changed: stat.st_ctime }
}

/// The names in one folder.
#[derive(Default)]
struct Names {
    /// Each with its NUL.
    bytes: Vec<u8>,
    items: Vec<Item>,
}

struct Item {
    inode: u64,
    kind: FileType,
    /// Where its name begins.
    start: usize,
}

impl Names {
    /// Takes them down, in the order of their inodes.
    fn list(&mut self, folder: &OwnedFd, buffer: &mut [MaybeUninit<u8>]) -> Result<(), Errno> {
        self.bytes.clear();
        self.items.clear();
        let mut listing = RawDir::new(folder, buffer);
        while let Some(item) = listing.next() {
            let item = item?;
            let name = item.file_name().to_bytes_with_nul();
            if !matches!(name, b".\0" | b"..\0") {
                let (inode, kind, start) = (item.ino(), item.file_type(), self.bytes.len());
                self.items.push(Item { inode, kind, start });
                self.bytes.extend_from_slice(name);
            }
        }
        self.items.sort_unstable_by_key(|item| item.inode);
        Ok(())
    }

    fn get(&self, position: usize) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes[self.items[position].start..]).unwrap_or_default()
    }

    fn kind(&self, position: usize) -> FileType {
        self.items[position].kind
    }
}
