//! The text form of a manifest: a file that people can read and compare, and that rsync sends in
//! few bytes to whoever has the one of the version before.
//!
//! ```text
//! edeploy-manifest 1 mysql D12-F.1.0.1
//! d 755 0 0 - usr
//! f 4755 0 0 security.capability=01000002 usr/ping 90200 1700000000 3e1f…
//! f 644 0 0 - usr/twin 5 1700000000 9ab0… 1
//! l 777 0 0 - bin usr/bin
//! c 666 0 0 - dev/null 1:3
//! end 5 77aa…
//! ```
//!
//! Kind (`d f l c b p`), mode in octal, owner, group, attributes (`-`: none, `?`: unknown), path;
//! of a file size, time, digest and, for hard links, the number of its group; of a link its target.
//! Words are escaped, paths strictly ascend, and the last line counts the entries and holds the
//! BLAKE3 digest of everything above it, so that a manifest cut short is noticed.

use std::fmt::Write;
use std::str::SplitAsciiWhitespace;

use super::manifest::{Digest, Disk, Entry, FileEntry, Kind, Manifest, Xattrs};
use super::path::{PathError, TreePath, escape, unescape};
use crate::units::{Name, UnitError};

/// Version of the format.
const FORMAT: &str = "1";

/// Why a text is no manifest. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The first line is something else.
    #[error("not a manifest: the first line is not `edeploy-manifest {FORMAT} ROLE VERSION`")]
    Header,
    /// The role or version is no name.
    #[error("line 1 of the manifest")]
    Name(#[source] UnitError),
    /// The last line is missing or does not fit the others.
    #[error("the manifest is cut short or damaged: {0}")]
    Damaged(&'static str),
    /// A line cannot be read.
    #[error("line {line} of the manifest: {reason}")]
    Line {
        /// Which.
        line: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A path leads out of the tree.
    #[error("line {line} of the manifest")]
    Path {
        /// Which.
        line: usize,
        /// Why.
        #[source]
        source: PathError,
    },
    /// A path lies in something that is not a folder.
    #[error("`{path}` in the manifest lies in `{parent}`, which is not a folder there")]
    Parent {
        /// The path.
        path: TreePath,
        /// What should be its folder.
        parent: TreePath,
    },
}

impl Manifest {
    /// Writes it.
    pub fn to_text(&self) -> String {
        let mut text = format!("edeploy-manifest {FORMAT} {} {}\n", self.role, self.version);
        for (path, entry) in &self.entries {
            write_entry(&mut text, path, entry);
        }
        let digest = blake3::hash(text.as_bytes());
        let _ = writeln!(text, "end {} {digest}", self.entries.len());
        text
    }

    /// Reads it, and checks that it describes a tree that cannot lead out of itself.
    pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
        let (body, count) = checked_body(text)?;
        let mut lines = body.lines();
        let mut header = lines.next().unwrap_or_default().split_ascii_whitespace();
        if (header.next(), header.next()) != (Some("edeploy-manifest"), Some(FORMAT)) {
            return Err(ManifestError::Header);
        }
        let mut name = || header.next().unwrap_or_default().parse::<Name>();
        let role = name().map_err(ManifestError::Name)?;
        let version = name().map_err(ManifestError::Name)?;
        let mut entries: Vec<(TreePath, Entry)> = Vec::with_capacity(count);
        for (line, text) in (2..).zip(lines) {
            let (path, entry) = read_entry(line, text)?;
            if entries.last().is_some_and(|(last, _)| *last >= path) {
                return Err(ManifestError::Line { line, reason: "paths do not ascend" });
            }
            entries.push((path, entry));
        }
        // A map of what is in order already is made at once.
        let manifest = Manifest { role, version, entries: Disk::from_iter(entries) };
        manifest.check_parents()?;
        Ok(manifest)
    }

    /// Every path lies in a folder: nothing can be written through a link of the tree itself.
    pub(super) fn check_parents(&self) -> Result<(), ManifestError> {
        let mut known: &[u8] = b"";
        for path in self.entries.keys() {
            let Some(slash) = path.as_bytes().iter().rposition(|&byte| byte == b'/') else {
                continue;
            };
            // Most have the same parent as the one before.
            let above = &path.as_bytes()[..slash];
            if above == known {
                continue;
            }
            if let Some(parent) = path.parent()
                && !self.entries.get(&parent).is_some_and(Entry::is_folder)
            {
                return Err(ManifestError::Parent { path: path.clone(), parent });
            }
            known = above;
        }
        Ok(())
    }
}

/// Everything above the last line, when that fits it, and how many entries that is.
fn checked_body(text: &str) -> Result<(&str, usize), ManifestError> {
    if !text.starts_with("edeploy-manifest ") {
        return Err(ManifestError::Header);
    }
    let trimmed = text.strip_suffix('\n').ok_or(ManifestError::Damaged("no final line"))?;
    let (_, last) = trimmed.rsplit_once('\n').ok_or(ManifestError::Damaged("no final line"))?;
    let body = &trimmed[..trimmed.len() - last.len()];
    let mut words = last.split_ascii_whitespace();
    if words.next() != Some("end") {
        return Err(ManifestError::Damaged("no final line `end`"));
    }
    let count = body.lines().count() - 1;
    if words.next().and_then(|word| word.parse().ok()) != Some(count) {
        return Err(ManifestError::Damaged("the final line counts other entries"));
    }
    if words.next() != Some(blake3::hash(body.as_bytes()).to_hex().as_str()) {
        return Err(ManifestError::Damaged("the final line has another digest"));
    }
    Ok((body, count))
}

fn write_entry(text: &mut String, path: &TreePath, entry: &Entry) {
    let Entry { kind, mode, uid, gid, xattrs } = entry;
    let (letter, detail) = match kind {
        Kind::Folder => ('d', String::new()),
        Kind::File(FileEntry { size, mtime, digest, shared }) => {
            let group = shared.map(|group| format!(" {group}")).unwrap_or_default();
            ('f', format!(" {size} {mtime} {digest}{group}"))
        }
        Kind::Link(target) => ('l', format!(" {}", escape(target))),
        Kind::Device { block, major, minor } => {
            (if *block { 'b' } else { 'c' }, format!(" {major}:{minor}"))
        }
        Kind::Fifo => ('p', String::new()),
        // A socket lives as long as the process that made it.
        Kind::Socket => return,
    };
    let xattrs = match xattrs {
        None => "?".to_owned(),
        Some(xattrs) if xattrs.is_empty() => "-".to_owned(),
        Some(xattrs) => {
            let words = xattrs.iter().map(|(name, value)| {
                let value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{}={value}", escape(name.as_bytes()).replace(',', "\\x2c"))
            });
            words.collect::<Vec<_>>().join(",")
        }
    };
    let _ = writeln!(text, "{letter} {mode:o} {uid} {gid} {xattrs} {path}{detail}");
}

fn read_entry(line: usize, text: &str) -> Result<(TreePath, Entry), ManifestError> {
    let wrong = |reason| ManifestError::Line { line, reason };
    let mut words = text.split_ascii_whitespace();
    let letter = words.next().unwrap_or_default();
    let mode = words.next().and_then(|word| u32::from_str_radix(word, 8).ok());
    let mode = mode.filter(|mode| *mode <= 0o7777).ok_or(wrong("no mode"))?;
    let uid = number(&mut words).ok_or(wrong("no owner"))?;
    let gid = number(&mut words).ok_or(wrong("no group"))?;
    let xattrs =
        words.next().and_then(read_xattrs).ok_or(wrong("extended attributes cannot be read"))?;
    let path: TreePath = words
        .next()
        .ok_or(wrong("no path"))?
        .parse()
        .map_err(|source| ManifestError::Path { line, source })?;
    let kind = match letter {
        "d" => Kind::Folder,
        "p" => Kind::Fifo,
        "f" => Kind::File(read_file(&mut words).ok_or(wrong("size, time or digest"))?),
        "l" => {
            let target = words.next().and_then(unescape).filter(|target| !target.contains(&0));
            Kind::Link(target.ok_or(wrong("no target of the link"))?)
        }
        "c" | "b" => {
            let numbers = words.next().and_then(|word| word.split_once(':'));
            let numbers = numbers.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            let (major, minor) = numbers.ok_or(wrong("no device numbers"))?;
            Kind::Device { block: letter == "b", major, minor }
        }
        _ => return Err(wrong("unknown kind")),
    };
    match words.next() {
        None => Ok((path, Entry { kind, mode, uid, gid, xattrs })),
        Some(_) => Err(wrong("too many words")),
    }
}

fn number<T: std::str::FromStr>(words: &mut SplitAsciiWhitespace<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

fn read_file(words: &mut SplitAsciiWhitespace<'_>) -> Option<FileEntry> {
    let (size, mtime) = (number(words)?, number(words)?);
    let digest = read_digest(words.next()?)?;
    let shared = match words.next() {
        None => None,
        Some(word) => Some(word.parse().ok()?),
    };
    Some(FileEntry { size, mtime, digest, shared })
}

fn read_digest(word: &str) -> Option<Digest> {
    Some(match word.strip_prefix("md5:") {
        Some(hex) => Digest::Md5(read_bytes(hex)?),
        None => Digest::Blake3(read_bytes(word)?),
    })
}

/// So many bytes from twice as many digits.
fn read_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    let mut wrong = 0;
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (HEX[usize::from(pair[0])], HEX[usize::from(pair[1])]);
        *byte = high << 4 | low & 0xf;
        wrong |= high | low;
    }
    (wrong & NO_DIGIT == 0).then_some(bytes)
}

/// No value of a digit has this bit.
const NO_DIGIT: u8 = 0x80;

/// The values of digits: a manifest consists of them for the most part.
const HEX: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value: u8 = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value as usize] as usize] = value;
        values[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    values
};

fn read_hex(text: &str) -> Option<Vec<u8>> {
    let even = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = |start| u8::from_str_radix(&text[start..start + 2], 16).ok();
    if even { (0..text.len()).step_by(2).map(digits).collect() } else { None }
}

/// `None`: cannot be read. `Some(None)`: unknown to whoever wrote the manifest.
#[expect(clippy::option_option, reason = "both are wanted, and nobody else sees it")]
fn read_xattrs(word: &str) -> Option<Option<Xattrs>> {
    let mut xattrs = Xattrs::new();
    match word {
        "?" => return Some(None),
        "-" => return Some(Some(xattrs)),
        _ => {}
    }
    for pair in word.split(',') {
        let (name, value) = pair.rsplit_once('=')?;
        xattrs.insert(String::from_utf8(unescape(name)?).ok()?, read_hex(value)?);
    }
    Some(Some(xattrs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(lines: &str) -> String {
        let body = format!("edeploy-manifest 1 mysql D12-F.1.0.1\n{lines}");
        let digest = blake3::hash(body.as_bytes());
        format!("{body}end {} {digest}\n", lines.lines().count())
    }

    #[test]
    fn what_is_written_is_read() {
        let hex = "ab".repeat(32);
        let text = sealed(&format!(
            "l 777 0 0 - bin usr/bin\nc 666 0 5 - dev-null 1:3\np 600 0 0 ? pipe\nd 1777 0 0 - usr\n\
             f 4755 1 2 security.capability=0100,user.a\\x20\\x2c=ff usr/a\\x20b 12 -5 {hex}\n\
             f 644 0 0 - usr/twin 5 1700000000 md5:00112233445566778899aabbccddeeff 7\n"
        ));
        let manifest = Manifest::parse(&text).unwrap();
        assert_eq!(manifest.to_text(), text);
        let file = &manifest.entries[&"usr/a\\x20b".parse().unwrap()];
        assert_eq!((file.mode, file.uid, file.gid), (0o4755, 1, 2));
        assert_eq!(file.xattrs.as_ref().unwrap()["user.a ,"], [0xff]);
    }

    #[test]
    fn what_is_damaged_or_hostile_is_refused() {
        let folder = "d 755 0 0 - etc\n";
        let good = sealed(folder);
        let refused = |text: &str| Manifest::parse(text).unwrap_err();
        assert_eq!(refused(""), ManifestError::Header);
        for end in 0..good.len() {
            Manifest::parse(&good[..end]).unwrap_err();
        }
        assert!(matches!(refused(&good.replace("755", "777")), ManifestError::Damaged(_)));
        for (lines, reason) in [
            ("d 755 0 0 - ../etc\n", "line 2 of the manifest"),
            ("d 755 0 0 - /etc\n", "line 2 of the manifest"),
            ("d 755 0 0 - b\nd 755 0 0 - a\n", "line 3 of the manifest: paths do not ascend"),
            ("d 755 0 0 - a\nd 755 0 0 - a\n", "line 3 of the manifest: paths do not ascend"),
            ("d 99999 0 0 - a\n", "line 2 of the manifest: no mode"),
            ("f 644 0 0 - a 1 2 abc\n", "line 2 of the manifest: size, time or digest"),
            ("s 644 0 0 - a\n", "line 2 of the manifest: unknown kind"),
            (
                "d 755 0 0 user.a=abc a\n",
                "line 2 of the manifest: extended attributes cannot be read",
            ),
            (
                "d 755 0 0 user.a=+f a\n",
                "line 2 of the manifest: extended attributes cannot be read",
            ),
            (
                "d 755 0 0 user.a=0g a\n",
                "line 2 of the manifest: extended attributes cannot be read",
            ),
            ("d 755 0 0 user.a a\n", "line 2 of the manifest: extended attributes cannot be read"),
            ("d 644 0 0 - a b\n", "line 2 of the manifest: too many words"),
            (
                "l 777 0 0 - etc /var/evil\nd 755 0 0 - etc/x\n",
                "`etc/x` in the manifest lies in `etc`, which is not a folder there",
            ),
            ("d 755 0 0 - a/b\n", "`a/b` in the manifest lies in `a`, which is not a folder there"),
        ] {
            assert_eq!(refused(&sealed(lines)).to_string(), reason);
        }
    }

    #[test]
    fn every_digit_of_a_digest_counts() {
        // Two wrong ones do not make up for one another, in one byte or in two.
        let wrong =
            [("g", 0), ("G", 63), ("/", 31), (":", 32), ("\u{7f}", 5), ("gg", 2), ("gg", 3)];
        for (wrong, at) in wrong {
            let mut digits = "A".repeat(64);
            let line = |digits: &str| format!("f 644 0 0 - a 1 2 {digits}\n");
            assert!(Manifest::parse(&sealed(&line(&digits))).is_ok());
            digits.replace_range(at..at + wrong.len(), wrong);
            assert!(
                matches!(
                    Manifest::parse(&sealed(&line(&digits))).unwrap_err(),
                    ManifestError::Line { line: 2, reason: "size, time or digest" }
                ),
                "{wrong:?}"
            );
        }
    }
}
