//! Reads a tar archive as a stream of members, each with everything that belongs to it.
//!
//! Headers are read by the `tar` crate. Its own walk over an archive is not used: it cuts the
//! extended records at line ends, and the value of an attribute may hold any byte; a capability
//! would be lost. Formats: POSIX (pax), ustar, and GNU with its long names. Sparse files and what
//! no tree has are refused by name.
//!
//! Knows nothing of the file system: see [`super::unpack`].

use std::io::{self, Read};

use tar::{EntryType, Header};

/// Everything in an archive comes in blocks of this size.
const BLOCK: usize = 512;

/// No extended header of a tree is larger: it holds one path and its attributes.
const LONGEST_EXTENSION: u64 = 1 << 20;

/// What is packed under one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// As it stands in the archive: bytes, mostly relative, trusted by nobody.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Seconds since 1970 and the nanoseconds after that.
    pub(super) mtime: (i64, i64),
    /// Extended attributes by name, access lists among them.
    pub(super) xattrs: Vec<(String, Vec<u8>)>,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file of so many bytes, which follow.
    File(u64),
    Folder,
    /// A symbolic link to this text.
    Link(Vec<u8>),
    /// Another name of the member that was packed under this path.
    HardLink(Vec<u8>),
    Fifo,
    Device {
        block: bool,
        major: u32,
        minor: u32,
    },
}

/// What extended headers say about the member that follows them.
#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, i64)>,
    xattrs: Vec<(String, Vec<u8>)>,
}

/// The members of an archive, one after another. The content of a file is read from the reader
/// itself, between two calls of [`Members::next`]; what of it is not read is passed over.
pub(super) struct Members<R> {
    archive: R,
    /// Bytes of the last member that nobody has read yet, without what fills its last block.
    content: u64,
    padding: u64,
}

impl<R: Read> Members<R> {
    pub(super) fn new(archive: R) -> Members<R> {
        Members { archive, content: 0, padding: 0 }
    }

    /// The next member; nothing behind the mark that ends an archive. An archive without that
    /// mark was cut off: an error.
    pub(super) fn next(&mut self) -> io::Result<Option<Member>> {
        let mut extensions = Extensions::default();
        loop {
            let rest = self.content + self.padding;
            pass_over(&mut self.archive, rest)?;
            (self.content, self.padding) = (0, 0);
            let Some(header) = self.header()? else { return Ok(None) };
            let size = match header.entry_type() {
                // The size of the member itself may be too large for its header.
                kind if is_extension(kind) => header.entry_size()?,
                _ => extensions.size.map_or_else(|| header.entry_size(), Ok)?,
            };
            match header.entry_type() {
                EntryType::XHeader => extensions.read(&self.extension(size)?)?,
                EntryType::GNULongName => {
                    extensions.path = Some(without_zeros(self.extension(size)?));
                }
                EntryType::GNULongLink => {
                    extensions.link = Some(without_zeros(self.extension(size)?));
                }
                // Says nothing about a single member.
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                _ => {
                    let member = member(&header, extensions, size)?;
                    if let Kind::File(size) = member.kind {
                        self.expect_content(size);
                    }
                    return Ok(Some(member));
                }
            }
        }
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        self.archive.read_exact(header.as_mut_bytes()).map_err(cut_off)?;
        let bytes = header.as_bytes();
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        // As it was made: with blanks in place of the sum.
        let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
        let made = sum(&bytes[..148]) + 8 * u32::from(b' ') + sum(&bytes[156..]);
        if header.cksum().ok() != Some(made) {
            return Err(broken("this is no archive, or a header in it is damaged"));
        }
        Ok(Some(header))
    }

    fn expect_content(&mut self, size: u64) {
        self.content = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
    }

    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > LONGEST_EXTENSION {
            return Err(broken("an extended header is too large"));
        }
        self.expect_content(size);
        let mut content = Vec::new();
        self.read_to_end(&mut content)?;
        Ok(content)
    }
}

/// The content of the member that came last. An archive that ends inside it is an error.
impl<R: Read> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.content).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.archive.read(&mut buffer[..wanted])?;
        if length == 0 && wanted > 0 {
            return Err(cut_off(io::ErrorKind::UnexpectedEof.into()));
        }
        self.content -= length as u64;
        Ok(length)
    }
}

impl Extensions {
    /// Takes in the records of a pax header: `<length> <key>=<value>\n`, where the length counts
    /// the whole record.
    fn read(&mut self, mut records: &[u8]) -> io::Result<()> {
        let malformed = || broken("an extended header is malformed");
        while !records.is_empty() {
            let blank = records.iter().position(|&byte| byte == b' ').ok_or_else(malformed)?;
            let length: usize = number(&records[..blank]).ok_or_else(malformed)?;
            let record = records.get(blank + 1..length).ok_or_else(malformed)?;
            let record = record.strip_suffix(b"\n").ok_or_else(malformed)?;
            let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(malformed)?;
            let key = std::str::from_utf8(&record[..equals]).map_err(|_| malformed())?;
            self.set(key, &record[equals + 1..]).ok_or_else(malformed)?;
            records = &records[length..];
        }
        Ok(())
    }

    /// Nothing when the value cannot be what the key says. Unknown keys are somebody else's.
    fn set(&mut self, key: &str, value: &[u8]) -> Option<()> {
        match key {
            "path" => self.path = Some(value.to_vec()),
            "linkpath" => self.link = Some(value.to_vec()),
            "size" => self.size = Some(number(value)?),
            "uid" => self.uid = Some(number(value)?),
            "gid" => self.gid = Some(number(value)?),
            "mtime" => self.mtime = Some(time(value)?),
            // Whoever reads such a file without knowing gets a list of holes for content.
            _ if key.starts_with("GNU.sparse.") => return None,
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                    self.xattrs.push((name.to_owned(), value.to_vec()));
                }
            }
        }
        Some(())
    }
}

/// Puts header and extensions together.
fn member(header: &Header, extensions: Extensions, size: u64) -> io::Result<Member> {
    let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let link = extensions
        .link
        .or_else(|| header.link_name_bytes().map(|name| name.into_owned()))
        .unwrap_or_default();
    let device = |block| -> io::Result<Kind> {
        let number = |number: Option<u32>| number.ok_or_else(|| broken("a device has no number"));
        let (major, minor) = (header.device_major()?, header.device_minor()?);
        Ok(Kind::Device { block, major: number(major)?, minor: number(minor)? })
    };
    let kind = match header.entry_type() {
        // The oldest archives tell a folder by the end of its name.
        EntryType::Regular if path.ends_with(b"/") => Kind::Folder,
        EntryType::Regular | EntryType::Continuous => Kind::File(size),
        EntryType::Directory => Kind::Folder,
        EntryType::Symlink => Kind::Link(link),
        EntryType::Link => Kind::HardLink(link),
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char => device(false)?,
        EntryType::Block => device(true)?,
        other => {
            let path = String::from_utf8_lossy(&path);
            return Err(broken(&format!("`{path}` is of a kind that no tree has ({other:?})")));
        }
    };
    let owner = |number: u64| {
        u32::try_from(number).map_err(|_| broken("a number of an owner is too large"))
    };
    Ok(Member {
        kind,
        mode: header.mode()? & 0o7777,
        uid: extensions.uid.map_or_else(|| owner(header.uid()?), Ok)?,
        gid: extensions.gid.map_or_else(|| owner(header.gid()?), Ok)?,
        mtime: match extensions.mtime {
            Some(mtime) => mtime,
            None => (i64::try_from(header.mtime()?).unwrap_or(0), 0),
        },
        xattrs: extensions.xattrs,
        path,
    })
}

fn is_extension(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::XHeader
            | EntryType::XGlobalHeader
            | EntryType::GNULongName
            | EntryType::GNULongLink
    )
}

/// Seconds, perhaps with a point and more digits.
fn time(value: &[u8]) -> Option<(i64, i64)> {
    let text = std::str::from_utf8(value).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let (seconds, nanoseconds): (i64, i64) = (seconds.parse().ok()?, digits.parse().ok()?);
    if text.starts_with('-') && nanoseconds > 0 {
        // -1.25 is three quarters of a second after -2.
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn without_zeros(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    text.truncate(end);
    text
}

fn pass_over(archive: &mut impl Read, bytes: u64) -> io::Result<()> {
    let passed = io::copy(&mut archive.take(bytes), &mut io::sink())?;
    if passed == bytes { Ok(()) } else { Err(cut_off(io::ErrorKind::UnexpectedEof.into())) }
}

fn cut_off(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends too early")
        }
        _ => error,
    }
}

fn broken(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_may_hold_any_byte() {
        let mut extensions = Extensions::default();
        extensions
            .read(
                b"30 SCHILY.xattr.user.x=a=b\n\0y\n19 path=usr/bin/\xc3\xa9\n20 mtime=17.5000001\n",
            )
            .unwrap();
        assert_eq!(extensions.xattrs, [("user.x".to_owned(), b"a=b\n\0y".to_vec())]);
        assert_eq!(extensions.path.as_deref(), Some("usr/bin/é".as_bytes()));
        assert_eq!(extensions.mtime, Some((17, 500_000_100)));
    }

    #[test]
    fn malformed_records_are_errors_and_no_panics() {
        for records in [
            &b"path=x\n"[..],
            b"99 path=x\n",
            b"3 path=x\n",
            b"10 path=x\n\n",
            b"9 path=x!",
            b"10 size=-1\n",
            b"7 path\n",
            b"18446744073709551616 path=x\n",
            b"24 GNU.sparse.realsize=1\n",
        ] {
            let error = Extensions::default().read(records).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{records:?}");
        }
    }

    #[test]
    fn times_before_1970_and_without_a_fraction() {
        for (text, expected) in [
            ("1700000000", Some((1_700_000_000, 0))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.5", Some((-1, 500_000_000))),
            ("1.1234567899", Some((1, 123_456_789))),
            ("x", None),
            ("1.-5", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_ends_without_its_mark_was_cut_off() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(3);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        builder.append_data(&mut header, "file", &b"abc"[..]).unwrap();
        let whole = builder.into_inner().unwrap();
        let walk = |bytes: &[u8]| -> io::Result<usize> {
            let mut members = Members::new(bytes);
            let mut count = 0;
            while members.next()?.is_some() {
                count += 1;
            }
            Ok(count)
        };
        assert_eq!(walk(&whole).unwrap(), 1);
        for length in [0, 100, 512, 514, 1024] {
            let error = walk(&whole[..length]).unwrap_err();
            assert_eq!(error.to_string(), "the archive ends too early", "{length}");
        }
        let mut damaged = whole.clone();
        damaged[3] ^= 1;
        assert_eq!(walk(&damaged).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
