//! Reading folders, and doing many small things on all processors.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::fs::{lgetxattr, llistxattr, major, minor};
use rustix::io::Errno;
use specs::upgrade::{Digest, Entry, FileEntry, Kind, TreePath, Xattrs};

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

/// What lies in a folder; `None` is the top. Unlisted folders where something else is mounted
/// are no part of the tree.
pub(super) fn read_folder(
    root: &Path,
    folder: Option<&TreePath>,
) -> Result<Vec<(TreePath, Found)>, TreeError> {
    let place = folder.map_or_else(|| root.to_owned(), |folder| join(root, folder));
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TreeError::Read { path, source }
    };
    let mut all = Vec::new();
    for item in fs::read_dir(&place).map_err(failed(&place))? {
        let item = item.map_err(failed(&place))?;
        let name = item.file_name();
        let path = match folder {
            Some(folder) => folder.child(name.as_bytes())?,
            None => TreePath::new(name.as_bytes())?,
        };
        let metadata = match item.metadata() {
            Ok(metadata) => metadata,
            // Files of a running system come and go.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(TreeError::Read { path: item.path(), source }),
        };
        let entry = match entry_of(&item.path(), &metadata) {
            Ok(entry) => entry,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(TreeError::Read { path: item.path(), source }),
        };
        all.push((path, Found { entry, inode: (metadata.dev(), metadata.ino()) }));
    }
    Ok(all)
}

/// What is at a path, a file still unread.
fn entry_of(path: &Path, metadata: &Metadata) -> io::Result<Entry> {
    let file_type = metadata.file_type();
    let kind = if file_type.is_dir() {
        Kind::Folder
    } else if file_type.is_file() {
        Kind::File(FileEntry {
            size: metadata.size(),
            mtime: metadata.mtime(),
            digest: Digest::Unread,
            shared: None,
        })
    } else if file_type.is_symlink() {
        Kind::Link(fs::read_link(path)?.into_os_string().into_vec())
    } else if file_type.is_fifo() {
        Kind::Fifo
    } else if file_type.is_socket() {
        Kind::Socket
    } else {
        let block = file_type.is_block_device();
        Kind::Device { block, major: major(metadata.rdev()), minor: minor(metadata.rdev()) }
    };
    // Links have no permissions of their own.
    let mode = if file_type.is_symlink() { 0o777 } else { metadata.mode() & 0o7777 };
    let xattrs = Some(read_xattrs(path)?);
    Ok(Entry { kind, mode, uid: metadata.uid(), gid: metadata.gid(), xattrs })
}

/// Whether an attribute is part of a tree: labels and signatures belong to one machine's policy.
pub(crate) fn is_ours(name: &str) -> bool {
    !matches!(name, "security.selinux" | "security.ima" | "security.evm" | "security.apparmor")
        && !name.starts_with("trusted.")
}

/// The extended attributes at a path, links not followed.
pub(crate) fn read_xattrs(path: &Path) -> io::Result<Xattrs> {
    let mut names = vec![0; 4096];
    let length = match llistxattr(path, &mut names[..]) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Xattrs::new()),
        Ok(length) => length,
        Err(Errno::RANGE) => {
            names.resize(64 * 1024, 0);
            llistxattr(path, &mut names[..])?
        }
        Err(error) => return Err(error.into()),
    };
    let names = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut xattrs = BTreeMap::new();
    for name in names.filter_map(|name| std::str::from_utf8(name).ok()).filter(|name| is_ours(name))
    {
        let mut value = vec![0; 64 * 1024];
        let length = match lgetxattr(path, name, &mut value[..]) {
            Err(Errno::NODATA) => continue,
            length => length?,
        };
        value.truncate(length);
        xattrs.insert(name.to_owned(), value);
    }
    Ok(xattrs)
}

/// Does the work for each item, on as many threads as there are processors; results in order.
pub(crate) fn parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    // Starting a thread costs more than a few small items do.
    const WORTH_A_THREAD: usize = 8;
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(items.len() / WORTH_A_THREAD);
    if threads < 2 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut mine = Vec::new();
                while let Some(item) = {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    items.get(number).map(|item| (number, item))
                } {
                    mine.push((item.0, work(item.1)));
                }
                results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(mine);
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}
