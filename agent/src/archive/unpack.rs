//! Puts the members of an archive below a folder: owners by number, permissions, times, extended
//! attributes (capabilities and access lists among them), hard links, devices.
//!
//! An archive is not trusted, and its checksum is only known when all of it has been unpacked: no
//! path of it may lead out of the folder. Each is opened part by part by the kernel below the
//! folder, through no link at all (`openat2`); a member is always made anew.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, fchmod, fchown, fsetxattr, futimens, linkat, lsetxattr, makedev, mkdirat,
    mknodat, openat, openat2, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::members::{Kind, Member, Members};
use crate::tree::is_ours;

/// Why a member could not be put in place.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive cannot be read.
    #[error("the archive cannot be read")]
    Archive(#[source] io::Error),
    /// A path that is none of a tree.
    #[error("the archive holds `{path}`, which leads out of the tree")]
    Outside {
        /// The path, or the target of a hard link.
        path: String,
    },
    /// The file system refuses it.
    #[error("cannot unpack `{path}`")]
    Member {
        /// Its path below the folder.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Unpacks a whole archive into a folder that is there; returns how many members it had.
pub(super) fn unpack(archive: impl Read, folder: &Path) -> Result<u64, UnpackError> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(CWD, folder, directory, Mode::empty()).map_err(|errno| {
        UnpackError::Member { path: folder.display().to_string(), source: errno.into() }
    })?;
    let mut target = Target { top, parent: None, folders: Vec::new() };
    let mut members = Members::new(archive);
    let mut count = 0;
    while let Some(member) = members.next().map_err(UnpackError::Archive)? {
        let path = inside(&member.path)?;
        let failed = |source| match source {
            Fault::Archive(source) => UnpackError::Archive(source),
            Fault::System(source) => {
                UnpackError::Member { path: path.display().to_string(), source }
            }
            Fault::Outside(path) => UnpackError::Outside { path },
        };
        target.put(&path, &member, &mut members).map_err(failed)?;
        count += 1;
    }
    target.end_folders()?;
    Ok(count)
}

/// What went wrong with one member.
enum Fault {
    /// In the archive.
    Archive(io::Error),
    /// On the disk.
    System(io::Error),
    /// The target of a hard link.
    Outside(String),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Fault {
        Fault::System(errno.into())
    }
}

/// The folder that is filled.
struct Target {
    top: OwnedFd,
    /// The folder of the last member: the next one mostly lies in it as well.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Folders with what is set when nothing is put into them any more.
    folders: Vec<FolderEnd>,
}

/// What putting something into a folder would change, or would be changed by.
struct FolderEnd {
    path: PathBuf,
    times: Timestamps,
    /// Whatever is made in the folder would inherit it.
    default_acl: Option<Vec<u8>>,
}

const DEFAULT_ACL: &str = "system.posix_acl_default";

impl Target {
    fn put(&mut self, path: &Path, member: &Member, content: &mut impl Read) -> Result<(), Fault> {
        let Some(name) = path.file_name() else {
            // The top itself.
            let folder = self.open_folder(Path::new("."), OFlags::RDONLY)?;
            return self.finish_folder(path, folder, member);
        };
        let parent = self.parent_of(path)?;
        match &member.kind {
            Kind::Folder => {
                match mkdirat(&parent, name, Mode::RWXU) {
                    // A mount point, or what mkfs made.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
                let folder = self.open_folder(path, OFlags::RDONLY)?;
                self.finish_folder(path, folder, member)
            }
            Kind::File(size) => put_file(&parent, name, member, *size, content),
            Kind::HardLink(target) => {
                let other = inside(target)
                    .map_err(|_| Fault::Outside(String::from_utf8_lossy(target).into_owned()))?;
                let Some(other_name) = other.file_name() else { return Err(Errno::ISDIR.into()) };
                let other_parent = self.open_folder(folder_of(&other), OFlags::PATH)?;
                Ok(linkat(&other_parent, other_name, &parent, name, AtFlags::empty())?)
            }
            Kind::Link(target) => {
                symlinkat(OsStr::from_bytes(target), &parent, name)?;
                finish_node(&parent, name, member)
            }
            Kind::Fifo => make_node(&parent, name, FileType::Fifo, 0, member),
            Kind::Device { block, major, minor } => {
                let kind = if *block { FileType::BlockDevice } else { FileType::CharacterDevice };
                make_node(&parent, name, kind, makedev(*major, *minor), member)
            }
        }
    }

    /// The open folder that a path lies in.
    fn parent_of(&mut self, path: &Path) -> Result<OwnedFd, Fault> {
        let folder = folder_of(path);
        let fd = match self.parent.take() {
            Some((known, fd)) if known == folder => fd,
            _ => self.open_folder(folder, OFlags::PATH)?,
        };
        let handle = fd.try_clone().map_err(Fault::System)?;
        self.parent = Some((folder.to_owned(), fd));
        Ok(handle)
    }

    fn open_folder(&self, path: &Path, access: OFlags) -> Result<OwnedFd, Fault> {
        let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(openat2(&self.top, path, flags, Mode::empty(), within)?)
    }

    fn finish_folder(
        &mut self,
        path: &Path,
        folder: OwnedFd,
        member: &Member,
    ) -> Result<(), Fault> {
        let folder = File::from(folder);
        finish_file(&folder, member)?;
        let default_acl = member.xattrs.iter().find(|(name, _)| name == DEFAULT_ACL);
        self.folders.push(FolderEnd {
            path: path.to_owned(),
            times: times(member),
            default_acl: default_acl.map(|(_, value)| value.clone()),
        });
        Ok(())
    }

    /// Gives folders what had to wait.
    fn end_folders(&self) -> Result<(), UnpackError> {
        for FolderEnd { path, times, default_acl } in self.folders.iter().rev() {
            let here = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let ended = self.open_folder(here, OFlags::RDONLY).and_then(|folder| {
                if let Some(value) = default_acl {
                    fsetxattr(&folder, DEFAULT_ACL, value, XattrFlags::empty())?;
                }
                Ok(futimens(&folder, times)?)
            });
            if let Err(Fault::System(source)) = ended {
                return Err(UnpackError::Member { path: path.display().to_string(), source });
            }
        }
        Ok(())
    }
}

fn put_file(
    parent: &OwnedFd,
    name: &OsStr,
    member: &Member,
    size: u64,
    content: &mut impl Read,
) -> Result<(), Fault> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
    let mut buffer = [0; 64 * 1024];
    let mut left = size;
    while left > 0 {
        let length = content.read(&mut buffer).map_err(Fault::Archive)?;
        file.write_all(&buffer[..length]).map_err(Fault::System)?;
        left -= length as u64;
    }
    finish_file(&file, member)?;
    Ok(futimens(&file, &times(member))?)
}

/// Owner, permissions and attributes, in this order: a change of owner takes set-user-id bits and
/// capabilities away.
fn finish_file(file: &File, member: &Member) -> Result<(), Fault> {
    fchown(file, Some(Uid::from_raw(member.uid)), Some(Gid::from_raw(member.gid)))?;
    fchmod(file, Mode::from_raw_mode(member.mode))?;
    let now = |name: &str| is_ours(name) && name != DEFAULT_ACL;
    for (name, value) in member.xattrs.iter().filter(|(name, _)| now(name)) {
        fsetxattr(file, name.as_str(), value, XattrFlags::empty())?;
    }
    Ok(())
}

fn make_node(
    parent: &OwnedFd,
    name: &OsStr,
    kind: FileType,
    device: u64,
    member: &Member,
) -> Result<(), Fault> {
    mknodat(parent, name, kind, Mode::RUSR | Mode::WUSR, device)?;
    finish_node(parent, name, member)
}

/// As [`finish_file`], for what cannot be opened.
fn finish_node(parent: &OwnedFd, name: &OsStr, member: &Member) -> Result<(), Fault> {
    let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
    chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if !matches!(member.kind, Kind::Link(_)) {
        chmodat(parent, name, Mode::from_raw_mode(member.mode), AtFlags::empty())?;
    }
    // The kernel sets attributes by path only; this one goes through the folder that is open.
    let here = Path::new("/proc/self/fd").join(parent.as_fd().as_raw_fd().to_string()).join(name);
    for (name, value) in member.xattrs.iter().filter(|(name, _)| is_ours(name)) {
        lsetxattr(&here, name.as_str(), value, XattrFlags::empty())?;
    }
    Ok(utimensat(parent, name, &times(member), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(member: &Member) -> Timestamps {
    let (tv_sec, tv_nsec) = member.mtime;
    let time = Timespec { tv_sec, tv_nsec };
    Timestamps { last_access: time, last_modification: time }
}

/// The path without what means nothing (`./`, doubled slashes); empty for the top itself.
fn inside(path: &[u8]) -> Result<PathBuf, UnpackError> {
    let outside = || UnpackError::Outside { path: String::from_utf8_lossy(path).into_owned() };
    if path.starts_with(b"/") || path.contains(&0) {
        return Err(outside());
    }
    let mut clean = PathBuf::new();
    for part in path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." {
            return Err(outside());
        }
        clean.push(OsStr::from_bytes(part));
    }
    Ok(clean)
}

/// The folder of a path, as the kernel wants it.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lose_what_means_nothing_and_never_lead_out() {
        for (path, expected) in [
            ("./usr//bin/./x", Some("usr/bin/x")),
            ("usr/", Some("usr")),
            ("./", Some("")),
            ("/etc/passwd", None),
            ("usr/../../etc", None),
            ("..", None),
            ("a\0b", None),
        ] {
            let found = inside(path.as_bytes()).ok();
            assert_eq!(found.as_deref(), expected.map(Path::new), "{path:?}");
        }
    }
}
