//! Writes cpio archives in the "newc" format, the one that the kernel unpacks.
//!
//! Reproducible: entries are sorted by path, all belong to root, none has a time, and inode
//! numbers count from 1. Files, folders and symbolic links only; device nodes come with devtmpfs.

use std::collections::BTreeMap;
use std::io::{self, Write};

/// What a path of an archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A folder that everybody may read.
    Folder,
    /// A regular file.
    File {
        /// What it holds.
        content: Vec<u8>,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link to that path.
    Link(String),
}

/// An archive being put together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Archive {
    entries: BTreeMap<String, Entry>,
}

/// The whole archive is a multiple of this, as GNU cpio writes it.
const BLOCK: usize = 512;
const LAST_NAME: &str = "TRAILER!!!";

impl Archive {
    /// Adds an entry at a path without a leading slash, and the folders above it.
    pub(crate) fn add(&mut self, path: &str, entry: Entry) {
        for (at, _) in path.match_indices('/') {
            self.entries.entry(path[..at].to_owned()).or_insert(Entry::Folder);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Adds a regular file.
    pub(crate) fn add_file(&mut self, path: &str, content: Vec<u8>, executable: bool) {
        self.add(path, Entry::File { content, executable });
    }

    /// The archive as bytes. The only error is a file of more than 4 GiB, which the format cannot hold.
    pub(crate) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        for (inode, (path, entry)) in (1_u32..).zip(&self.entries) {
            let (mode, links, content): (u32, u32, &[u8]) = match entry {
                Entry::Folder => (0o040_755, 2, &[]),
                Entry::File { content, executable: true } => (0o100_755, 1, content),
                Entry::File { content, executable: false } => (0o100_644, 1, content),
                Entry::Link(target) => (0o120_777, 1, target.as_bytes()),
            };
            write_member(&mut out, inode, mode, links, path, content)?;
        }
        write_member(&mut out, 0, 0, 1, LAST_NAME, &[])?;
        out.resize(out.len().next_multiple_of(BLOCK), 0);
        Ok(out)
    }
}

/// Thirteen numbers of eight hexadecimal digits, the name, and the content, each padded to four bytes.
fn write_member(
    out: &mut Vec<u8>,
    inode: u32,
    mode: u32,
    links: u32,
    name: &str,
    content: &[u8],
) -> io::Result<()> {
    let fits = |size: usize| {
        u32::try_from(size).map_err(|_| {
            io::Error::new(io::ErrorKind::FileTooLarge, format!("`{name}` is too large for cpio"))
        })
    };
    let (file_size, name_size) = (fits(content.len())?, fits(name.len() + 1)?);
    write!(
        out,
        "070701{inode:08X}{mode:08X}{uid:08X}{gid:08X}{links:08X}{mtime:08X}{file_size:08X}\
         {dev_major:08X}{dev_minor:08X}{rdev_major:08X}{rdev_minor:08X}{name_size:08X}{check:08X}",
        uid = 0,
        gid = 0,
        mtime = 0,
        dev_major = 0,
        dev_minor = 0,
        rdev_major = 0,
        rdev_minor = 0,
        check = 0,
    )?;
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Archive {
        let mut archive = Archive::default();
        archive.add_file("bin/hello", b"hi\n".to_vec(), true);
        archive.add("a-link", Entry::Link("bin/hello".to_owned()));
        archive.add("empty", Entry::Folder);
        archive
    }

    #[test]
    fn bytes_are_golden() {
        let bytes = sample().to_bytes().unwrap();
        let member = |inode: u32, mode: &str, links: u32, size: u32, name: &str, content: &str| {
            let head = format!(
                "070701{inode:08X}{mode}00000000{:08X}{links:08X}00000000{size:08X}{}{:08X}00000000",
                0,
                "0".repeat(32),
                name.len() + 1,
            );
            let mut text = format!("{head}{name}\0");
            text += &"\0".repeat(text.len().next_multiple_of(4) - text.len());
            text += content;
            text + &"\0".repeat(content.len().next_multiple_of(4) - content.len())
        };
        let mut expected = [
            member(1, "0000A1FF", 1, 9, "a-link", "bin/hello"),
            member(2, "000041ED", 2, 0, "bin", ""),
            member(3, "000081ED", 1, 3, "bin/hello", "hi\n"),
            member(4, "000041ED", 2, 0, "empty", ""),
            member(0, "00000000", 1, 0, "TRAILER!!!", ""),
        ]
        .concat()
        .into_bytes();
        expected.resize(1024, 0);
        assert_eq!(String::from_utf8(bytes), String::from_utf8(expected));
    }

    #[test]
    fn gnu_cpio_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = sample().to_bytes().unwrap();
        duct::cmd!("cpio", "--extract", "--quiet", "--make-directories")
            .dir(folder.path())
            .stdin_bytes(bytes)
            .run()
            .expect("GNU cpio (package cpio) unpacks the archive");
        let at = |path: &str| folder.path().join(path);
        assert_eq!(std::fs::read_to_string(at("bin/hello")).unwrap(), "hi\n");
        assert_eq!(std::fs::read_link(at("a-link")).unwrap().to_str(), Some("bin/hello"));
        assert!(at("empty").is_dir());
    }

    #[test]
    fn the_order_of_adding_does_not_matter() {
        let mut other = Archive::default();
        other.add("empty", Entry::Folder);
        other.add("a-link", Entry::Link("bin/hello".to_owned()));
        other.add_file("bin/hello", b"hi\n".to_vec(), true);
        assert_eq!(other.to_bytes().unwrap(), sample().to_bytes().unwrap());
    }
}
