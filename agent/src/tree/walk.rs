//! Reading folders, and doing many small things on all processors.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, lgetxattr, llistxattr, major, minor, openat,
    readlinkat, statat,
};
use rustix::io::Errno;
use specs::upgrade::{Classifier, Digest, Entry, FileEntry, Kind, Rules, TreePath, Xattrs};

use super::TreeError;

/// What was found at a path.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) entry: Entry,
    /// Device and inode.
    pub(super) inode: (u64, u64),
}

/// The path below a folder.
pub(crate) fn join(root: &Path, path: &TreePath) -> PathBuf {
    root.join(OsStr::from_bytes(path.as_bytes()))
}

/// Reads folders, and remembers buffers from one to the next. One for each thread.
struct Reader<'a> {
    root: &'a Path,
    /// What the kernel says of a folder, piece by piece.
    listing: Vec<MaybeUninit<u8>>,
    names: Names,
    /// The path of what is looked at, for calls that take no folder; ends with a NUL.
    place: Vec<u8>,
    /// Names of attributes.
    attributes: Vec<u8>,
}

/// Room for a few hundred names at a time.
const LISTING: usize = 32 * 1024;

impl<'a> Reader<'a> {
    fn new(root: &'a Path) -> Reader<'a> {
        Reader {
            root,
            listing: vec![MaybeUninit::uninit(); LISTING],
            names: Names::default(),
            place: Vec::new(),
            attributes: vec![0; ATTRIBUTES],
        }
    }

    /// What lies in a folder; `None` is the top. What lies in it is told in the order of inodes,
    /// in which a disk reads them fastest.
    fn read(&mut self, folder: Option<&TreePath>) -> Result<Vec<(TreePath, Found)>, TreeError> {
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
            match self.look(&opened, position) {
                Ok(found) => all.push((path, found)),
                // Files of a running system come and go.
                Err(Errno::NOENT) => {}
                Err(source) => {
                    let (path, source) = (join(self.root, &path), source.into());
                    return Err(TreeError::Read { path, source });
                }
            }
        }
        Ok(all)
    }

    /// What is there, a file still unread.
    fn look(&mut self, folder: &OwnedFd, position: usize) -> Result<Found, Errno> {
        let name = self.names.get(position);
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Folder,
            FileType::RegularFile => Kind::File(FileEntry {
                size: u64::try_from(stat.st_size).unwrap_or_default(),
                mtime: stat.st_mtime,
                digest: Digest::Unread,
                shared: None,
            }),
            FileType::Symlink => Kind::Link(readlinkat(folder, name, Vec::new())?.into_bytes()),
            FileType::Fifo => Kind::Fifo,
            FileType::Socket => Kind::Socket,
            other => Kind::Device {
                block: other == FileType::BlockDevice,
                major: major(stat.st_rdev),
                minor: minor(stat.st_rdev),
            },
        };
        // Links have no permissions of their own.
        let mode = if matches!(kind, Kind::Link(_)) { 0o777 } else { stat.st_mode & 0o7777 };
        let place = CStr::from_bytes_with_nul(&self.place).map_err(|_| Errno::INVAL)?;
        let xattrs = Some(xattrs_at(place, &mut self.attributes)?);
        let entry = Entry { kind, mode, uid: stat.st_uid, gid: stat.st_gid, xattrs };
        Ok(Found { entry, inode: (stat.st_dev, stat.st_ino) })
    }
}

/// The names in one folder.
#[derive(Default)]
struct Names {
    /// Each with its NUL.
    bytes: Vec<u8>,
    /// Inodes, and where their names begin.
    items: Vec<(u64, usize)>,
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
                self.items.push((item.ino(), self.bytes.len()));
                self.bytes.extend_from_slice(name);
            }
        }
        self.items.sort_unstable();
        Ok(())
    }

    fn get(&self, position: usize) -> &CStr {
        let (_, start) = self.items[position];
        CStr::from_bytes_until_nul(&self.bytes[start..]).unwrap_or_default()
    }
}

/// Says of a path, which is a folder or not, whether it counts, and whether to go into it.
pub(super) type Wanted<'a> =
    dyn Fn(&mut Classifier<'_>, &TreePath, bool) -> (bool, bool) + Sync + 'a;

/// Everything below a folder that counts, in no order, looked at by all processors.
pub(super) fn walk(
    root: &Path,
    rules: &Rules,
    wanted: &Wanted<'_>,
) -> Result<Vec<(TreePath, Found)>, TreeError> {
    let queue = Queue::default();
    queue.push(vec![None]);
    let work = || -> Result<Vec<(TreePath, Found)>, TreeError> {
        let mut classifier = rules.classifier();
        let mut reader = Reader::new(root);
        let mut mine = Vec::new();
        while let Some((folder, _turn)) = queue.take() {
            let read = reader.read(folder.as_ref());
            let mut folders = Vec::new();
            for (path, found) in read.inspect_err(|_| queue.give_up())? {
                let is_folder = found.entry.is_folder();
                let (counts, enter) = wanted(&mut classifier, &path, is_folder);
                if enter && is_folder {
                    folders.push(Some(path.clone()));
                }
                if counts {
                    mine.push((path, found));
                }
            }
            queue.push(folders);
        }
        Ok(mine)
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..processors()).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for worker in workers {
            let found = worker.join().unwrap_or_else(|panic| resume_unwind(panic));
            all.extend(found?);
        }
        Ok(all)
    })
}

/// Folders that wait to be read. It ends when none waits and nobody reads one.
#[derive(Default)]
struct Queue {
    state: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    folders: Vec<Option<TreePath>>,
    read_now: usize,
}

/// Somebody reads a folder, until this is dropped.
struct Turn<'a>(&'a Queue);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().read_now -= 1;
        self.0.changed.notify_all();
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next folder; waits for those who may still find some.
    fn take(&self) -> Option<(Option<TreePath>, Turn<'_>)> {
        let mut state = self.state();
        loop {
            if let Some(folder) = state.folders.pop() {
                state.read_now += 1;
                return Some((folder, Turn(self)));
            }
            if state.read_now == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn push(&self, folders: Vec<Option<TreePath>>) {
        self.state().folders.extend(folders);
        self.changed.notify_all();
    }

    /// Nobody reads on.
    fn give_up(&self) {
        self.state().folders.clear();
    }
}

/// Whether an attribute is part of a tree: labels and signatures belong to one machine's policy.
pub(crate) fn is_ours(name: &str) -> bool {
    !matches!(name, "security.selinux" | "security.ima" | "security.evm" | "security.apparmor")
        && !name.starts_with("trusted.")
}

/// Room for the names of attributes; nearly always there are none or one.
const ATTRIBUTES: usize = 1024;

/// The most that the kernel gives for names, or for a value.
const MOST: usize = 64 * 1024;

/// The extended attributes at a path, links not followed.
pub(crate) fn read_xattrs(path: &Path) -> io::Result<Xattrs> {
    let place = CString::new(path.as_os_str().as_bytes())?;
    Ok(xattrs_at(&place, &mut vec![0; ATTRIBUTES])?)
}

fn xattrs_at(place: &CStr, names: &mut Vec<u8>) -> Result<Xattrs, Errno> {
    let length = match llistxattr(place, &mut names[..]) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Xattrs::new()),
        Err(Errno::RANGE) => {
            names.resize(MOST, 0);
            llistxattr(place, &mut names[..])?
        }
        length => length?,
    };
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut xattrs = BTreeMap::new();
    for name in names.filter_map(|name| std::str::from_utf8(name).ok()).filter(|name| is_ours(name))
    {
        let mut value = vec![0; MOST];
        let length = match lgetxattr(place, name, &mut value[..]) {
            Err(Errno::NODATA) => continue,
            length => length?,
        };
        value.truncate(length);
        value.shrink_to_fit();
        xattrs.insert(name.to_owned(), value);
    }
    Ok(xattrs)
}

/// How many threads find something to do.
fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Does the work for each item, on as many threads as there are processors; results in order.
pub(crate) fn parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    parallel_with(items, || (), |(), item| work(item))
}

/// As [`parallel`], with something that each thread makes once and keeps.
pub(super) fn parallel_with<T: Sync, S, R: Send>(
    items: &[T],
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, &T) -> R + Sync,
) -> Vec<R> {
    // Starting a thread costs more than a few small items do.
    const WORTH_A_THREAD: usize = 8;
    let threads = processors().min(items.len() / WORTH_A_THREAD);
    if threads < 2 {
        let mut state = state();
        return items.iter().map(|item| work(&mut state, item)).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let (mut state, mut mine) = (state(), Vec::new());
                while let Some(item) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    items.get(number).map(|item| (number, item))
                } {
                    mine.push((item.0, work(&mut state, item.1)));
                }
                results.lock().unwrap_or_else(PoisonError::into_inner).extend(mine);
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}
