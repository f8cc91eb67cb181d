//! What a tree holds: one [`Entry`] per path. The same shape describes a version on the server,
//! a tree being built and what was found on a disk.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::TreePath;
use crate::units::Name;

/// What was found on a disk, or is to be there.
pub type Disk = BTreeMap<TreePath, Entry>;

/// Extended attributes by name. Labels of one machine's security policy are left out of them.
pub type Xattrs = BTreeMap<String, Vec<u8>>;

/// What a version of a role consists of. Its text form is [`Manifest::to_text`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The role.
    pub role: Name,
    /// Its version.
    pub version: Name,
    /// Every path but the top itself. The parent of each is a folder of the same manifest.
    pub entries: Disk,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky bits; 0o777 for links.
    pub mode: u32,
    /// Owner by number.
    pub uid: u32,
    /// Group by number.
    pub gid: u32,
    /// Extended attributes, capabilities and ACLs among them. `None` when nobody has looked:
    /// a listing of a plain rsync server does not tell.
    pub xattrs: Option<Xattrs>,
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File(FileEntry),
    /// A symbolic link and where it points, in bytes.
    Link(Vec<u8>),
    /// A device node.
    Device {
        /// Block device, otherwise character device.
        block: bool,
        /// Its numbers.
        major: u32,
        /// Its numbers.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket. Only found on disks: no manifest lists one.
    Socket,
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Bytes.
    pub size: u64,
    /// Time of the last change, in seconds since 1970.
    pub mtime: i64,
    /// What it holds.
    pub digest: Digest,
    /// Files of one manifest with the same number here are hard links of each other.
    pub shared: Option<u32>,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Digest {
    /// BLAKE3, of our own manifests.
    Blake3([u8; 32]),
    /// MD5, which every rsync server can be asked for.
    Md5([u8; 16]),
    /// Nobody has read it.
    Unread,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, bytes) = match self {
            Digest::Blake3(bytes) => ("", &bytes[..]),
            Digest::Md5(bytes) => ("md5:", &bytes[..]),
            Digest::Unread => return f.write_str("-"),
        };
        f.write_str(prefix)?;
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// In what two entries differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// A file became a folder, and the like.
    Kind,
    /// What a file holds, where a link points, a device's numbers.
    Content,
    /// Permission bits.
    Mode,
    /// Owner or group.
    Owner,
    /// Extended attributes.
    Xattrs,
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Aspect::Kind => "kind",
            Aspect::Content => "content",
            Aspect::Mode => "mode",
            Aspect::Owner => "owner",
            Aspect::Xattrs => "xattrs",
        })
    }
}

impl Entry {
    /// The regular file that it is.
    pub fn file(&self) -> Option<&FileEntry> {
        match &self.kind {
            Kind::File(file) => Some(file),
            _ => None,
        }
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.kind == Kind::Folder
    }

    /// In what it differs from `other`; nothing when both are the same to whoever uses the tree.
    /// Times do not count, nor does who shares an inode with whom.
    pub fn differences(&self, other: &Entry) -> Vec<Aspect> {
        let content = match (&self.kind, &other.kind) {
            (Kind::File(a), Kind::File(b)) => {
                a.size != b.size || a.digest != b.digest || a.digest == Digest::Unread
            }
            (Kind::Link(a), Kind::Link(b)) => a != b,
            (Kind::Device { block, .. }, Kind::Device { block: other_block, .. })
                if block == other_block =>
            {
                self.kind != other.kind
            }
            (a, b) if a == b => false,
            _ => return vec![Aspect::Kind],
        };
        let xattrs = match (&self.xattrs, &other.xattrs) {
            (Some(a), Some(b)) => a != b,
            _ => false,
        };
        let mut aspects = Vec::new();
        for (aspect, differs) in [
            (Aspect::Content, content),
            (Aspect::Mode, self.mode != other.mode),
            (Aspect::Owner, (self.uid, self.gid) != (other.uid, other.gid)),
            (Aspect::Xattrs, xattrs),
        ] {
            if differs {
                aspects.push(aspect);
            }
        }
        aspects
    }

    /// Whether both are the same to whoever uses the tree.
    pub fn same(&self, other: &Entry) -> bool {
        self.differences(other).is_empty()
    }

    /// Whether it can be made from a file with the content of `other`.
    pub fn same_content(&self, other: &Entry) -> bool {
        matches!((self.file(), other.file()), (Some(a), Some(b))
            if a.digest == b.digest && a.digest != Digest::Unread && a.size == b.size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_differ_in_what_users_of_the_tree_see() {
        use Aspect::{Content, Kind as Type, Mode, Owner, Xattrs as Attributes};
        let file = |size, content: &[u8], mtime, shared| {
            let digest = Digest::Blake3(*blake3::hash(content).as_bytes());
            Kind::File(FileEntry { size, mtime, digest, shared })
        };
        let device = |block, minor| Kind::Device { block, major: 8, minor };
        let entry = |kind| Entry { kind, mode: 0o644, uid: 0, gid: 0, xattrs: None };
        let unread =
            || Kind::File(FileEntry { size: 1, mtime: 0, digest: Digest::Unread, shared: None });
        for (one, other, expected) in [
            (file(1, b"a", 0, None), file(1, b"a", 9, Some(7)), &[][..]),
            (file(1, b"a", 0, None), file(1, b"b", 0, None), &[Content]),
            (file(1, b"a", 0, None), file(2, b"a", 0, None), &[Content]),
            // Nobody has looked: it may be anything.
            (unread(), unread(), &[Content]),
            (Kind::Link(b"a".to_vec()), Kind::Link(b"a".to_vec()), &[]),
            (Kind::Link(b"a".to_vec()), Kind::Link(b"b".to_vec()), &[Content]),
            (device(true, 1), device(true, 1), &[]),
            (device(true, 1), device(true, 2), &[Content]),
            (device(true, 1), device(false, 1), &[Type]),
            (Kind::Folder, Kind::Folder, &[]),
            (Kind::Folder, file(1, b"a", 0, None), &[Type]),
            (Kind::Link(b"a".to_vec()), file(1, b"a", 0, None), &[Type]),
        ] {
            let (one, other) = (entry(one), entry(other));
            assert_eq!(one.differences(&other), expected, "{one:?} {other:?}");
            assert_eq!(one.same(&other), expected.is_empty());
        }
        let folder = entry(Kind::Folder);
        let attributes = |value: u8| Some(Xattrs::from([("user.a".to_owned(), vec![value])]));
        for (changed, expected) in [
            (Entry { mode: 0o600, ..folder.clone() }, &[Mode][..]),
            (Entry { uid: 1, ..folder.clone() }, &[Owner]),
            (Entry { gid: 1, ..folder.clone() }, &[Owner]),
            (Entry { mode: 0o600, gid: 1, ..folder.clone() }, &[Mode, Owner]),
            (Entry { xattrs: attributes(1), ..folder.clone() }, &[]),
        ] {
            assert_eq!(folder.differences(&changed), expected, "{changed:?}");
        }
        let names = [Type, Content, Mode, Owner, Attributes].map(|aspect| aspect.to_string());
        assert_eq!(names, ["kind", "content", "mode", "owner", "xattrs"]);
        let (one, other) = (attributes(1), attributes(2));
        let labelled = |xattrs| Entry { xattrs, ..folder.clone() };
        assert_eq!(labelled(one.clone()).differences(&labelled(other)), [Attributes]);
        assert_eq!(labelled(one.clone()).differences(&labelled(one)), []);
    }
}
