//! The journal: the truth about everything that changed since the readable files were written.
//!
//! One line a batch: checksum, blank, JSON. A batch is appended and synced before any reply of
//! it leaves. What nobody was promised (how far a machine or the files have come) is not synced,
//! and a power cut may lose some of several such lines and keep others. So each line says up to
//! which byte the journal had been synced before it: damage at or beyond the largest such byte
//! was promised to nobody and is cut off, damage before it is an error. Every process takes over
//! each line once; which lines a file holds already is known by their places in the journal.
//!
//! A `written` line says up to which byte the readable files hold everything: they are written
//! while the journal goes on. Once the journal has grown large and the files have caught up, a
//! new one takes its place: other processes notice by the token in its first line. All of it
//! happens under the lock.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use specs::fleet::Change;
use specs::machine::Seconds;
use specs::units::Token;

/// Beyond this size a journal whose changes are all in the files is replaced by a new one.
const MAX_JOURNAL: u64 = 1 << 20;

/// Beyond this size requests wait until the files have caught up. A hall that asks at once fits in:
/// five thousand machines with the facts of each. What waits for its file is in memory as well.
pub(super) const OVERLONG: u64 = 64 << 20;

/// Hexadecimal digits of a line's checksum.
const CHECKSUM: usize = 16;

/// The first word of a journal, with the version of its format.
const MAGIC: &str = "edeploy-journal-2";

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// Changes that were promised to someone.
    Batch {
        /// When.
        at: Seconds,
        /// In the order in which to apply them.
        changes: Vec<Change>,
    },
    /// These files are about to be put in their places. Whoever finds such a text does not take
    /// it for an admin's edit, and knows how much of the journal it holds.
    Writing {
        /// They hold everything that stands in the journal before this byte.
        offset: u64,
        /// By file name.
        files: BTreeMap<String, Placing>,
    },
    /// The readable files hold everything that stands in the journal before `offset`.
    Written {
        /// In bytes.
        offset: u64,
    },
}

/// A file that is about to be put in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Placing {
    /// Digest of its text.
    pub(super) digest: String,
    /// Digest of the text that it replaces; empty when there is none.
    pub(super) replaces: String,
}

/// The journal, opened and read up to `position`.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    token: String,
    position: u64,
    /// Up to which byte it is known to be on disk.
    synced: u64,
}

/// A line with what it says of those before it.
#[derive(Debug, Deserialize)]
struct Stored {
    /// Up to which byte the journal was on disk when this was written.
    #[serde(default)]
    synced: u64,
    #[serde(flatten)]
    line: Line,
}

/// What reading found.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    /// These lines were added, by this process or others; each with the byte it begins at.
    Lines(Vec<(u64, Line)>),
    /// Another journal took this one's place: all that was read before has to be read again.
    Replaced,
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Reading or writing failed.
    #[error("the journal {} failed", path.display())]
    Io {
        /// The journal.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line that was promised cannot be read.
    #[error(
        "the journal {} is damaged at byte {offset}, before its end: compare it with a backup; \
         moved away, the server goes on from the files as they are",
        path.display()
    )]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Where the damaged line begins.
        offset: u64,
    },
}

impl Journal {
    /// Opens the journal at `path`, or begins one. Nothing of it counts as read yet.
    pub(super) fn open(path: &Path, fresh: impl Fn() -> Token) -> Result<Journal, JournalError> {
        let failed = |source| JournalError::Io { path: path.to_owned(), source };
        let opened =
            super::files::absent_as_none(File::options().read(true).write(true).open(path))
                .map_err(failed)?;
        if let Some(file) = opened {
            let token = read_header(&file).map_err(failed)?;
            if let Some(token) = token {
                let position = header(&token).len() as u64;
                return Ok(Journal {
                    path: path.to_owned(),
                    file,
                    token,
                    position,
                    synced: position,
                });
            }
            // A journal is renamed into its place complete; anything else is not ours.
            return Err(JournalError::Damaged { path: path.to_owned(), offset: 0 });
        }
        Journal::begin(path, &fresh()).map_err(failed)
    }

    /// Puts an empty journal in the place of the one at `path`.
    fn begin(path: &Path, token: &Token) -> io::Result<Journal> {
        let token = token.as_str().to_owned();
        let mut replacement = super::files::Replacement::default();
        replacement.write(path, header(&token).as_bytes())?;
        replacement.commit()?;
        let file = File::options().read(true).write(true).open(path)?;
        let position = header(&token).len() as u64;
        Ok(Journal { path: path.to_owned(), file, token, position, synced: position })
    }

    /// Reads what was added since the last call, and cuts off what a kill left unfinished.
    pub(super) fn read_new(&mut self) -> Result<News, JournalError> {
        let failed = |source| JournalError::Io { path: self.path.clone(), source };
        let current = super::files::absent_as_none(File::open(&self.path)).map_err(failed)?;
        let token = match &current {
            Some(file) => read_header(file).map_err(failed)?,
            None => None,
        };
        if token.as_deref() != Some(&self.token) {
            return Ok(News::Replaced);
        }
        let end = self.file.metadata().map_err(failed)?.len();
        if end < self.position {
            return Ok(News::Replaced);
        }
        if end == self.position {
            return Ok(News::Lines(Vec::new()));
        }
        let length = usize::try_from(end - self.position).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, self.position).map_err(failed)?;
        let (lines, understood, synced) = parse(&bytes, self.position);
        self.synced = self.synced.max(synced);
        if understood < bytes.len() {
            let rest = &bytes[understood..];
            let offset = self.position + understood as u64;
            if self.synced.max(synced_in(rest)) > offset {
                return Err(JournalError::Damaged { path: self.path.clone(), offset });
            }
            self.file.set_len(offset).map_err(failed)?;
        }
        self.position += understood as u64;
        Ok(News::Lines(lines))
    }

    /// Appends a line; `sync` says whether it has to be on disk when this returns. On an error
    /// the journal is as before, as far as the file system lets itself be told.
    pub(super) fn append(&mut self, line: &Line, sync: bool) -> Result<(), JournalError> {
        let result = render(line, self.synced).and_then(|text| {
            self.file.write_all_at(text.as_bytes(), self.position)?;
            if sync {
                self.file.sync_data()?;
            }
            Ok(text.len() as u64)
        });
        match result {
            Ok(length) => {
                self.position += length;
                if sync {
                    self.synced = self.position;
                }
                Ok(())
            }
            Err(source) => {
                // When this fails too, the next reader finds a damaged last line and cuts it off.
                let _ = self.file.set_len(self.position);
                Err(JournalError::Io { path: self.path.clone(), source })
            }
        }
    }

    /// Where the next line will begin.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// What tells this journal from the one before it.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Notes that the readable files hold everything before `offset`. Begins a new journal when
    /// this one is long and `caught_up`: nothing in it is missing in the files.
    pub(super) fn written(
        &mut self,
        offset: u64,
        caught_up: bool,
        fresh: impl Fn() -> Token,
    ) -> Result<(), JournalError> {
        if self.position <= MAX_JOURNAL || !caught_up {
            return self.append(&Line::Written { offset }, false);
        }
        *self = Journal::begin(&self.path, &fresh())
            .map_err(|source| JournalError::Io { path: self.path.clone(), source })?;
        Ok(())
    }
}

fn header(token: &str) -> String {
    format!("{MAGIC} {token}\n")
}

/// The token of a journal's first line; `None` when it has none.
fn read_header(file: &File) -> io::Result<Option<String>> {
    let mut bytes = [0; MAGIC.len() + 1 + 32 + 1];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let token = str::from_utf8(&bytes).ok().and_then(|text| {
        text.strip_prefix(MAGIC)?.strip_prefix(' ')?.strip_suffix('\n').map(str::to_owned)
    });
    Ok(token)
}

fn render(line: &Line, synced: u64) -> io::Result<String> {
    // As `Stored` with the line flattened; by hand, because serde would copy all of it.
    let mut json = serde_json::to_string(line)?;
    json.pop();
    json.push_str(&format!(",\"synced\":{synced}}}"));
    Ok(format!("{} {json}\n", checksum(json.as_bytes())))
}

fn checksum(json: &[u8]) -> String {
    blake3::hash(json).to_hex()[..CHECKSUM].to_owned()
}

/// The intact lines at the beginning, each with its place in a journal of which these bytes
/// begin at `start`, how many bytes they are, and up to which byte they say it was synced.
fn parse(bytes: &[u8], start: u64) -> (Vec<(u64, Line)>, usize, u64) {
    let mut lines = Vec::new();
    let mut synced = 0;
    let mut understood = 0;
    while let Some(length) = bytes[understood..].iter().position(|byte| *byte == b'\n') {
        let Some(stored) = read_line(&bytes[understood..understood + length]) else { break };
        synced = synced.max(stored.synced);
        lines.push((start + understood as u64, stored.line));
        understood += length + 1;
    }
    (lines, understood, synced)
}

/// A line that is intact.
fn read_line(raw: &[u8]) -> Option<Stored> {
    let json = raw.get(CHECKSUM + 1..)?;
    let intact = raw[..CHECKSUM] == *checksum(json).as_bytes() && raw[CHECKSUM] == b' ';
    serde_json::from_slice(json).ok().filter(|_| intact)
}

/// Up to which byte the journal was synced, as the intact lines after a damaged one say.
fn synced_in(bytes: &[u8]) -> u64 {
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(read_line);
    lines.map(|stored| stored.synced).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token::from_bytes([7; 16])
    }

    fn batch(left: i64) -> Line {
        let profile = "vm".parse().unwrap();
        Line::Batch { at: 5, changes: vec![Change::Count { profile, by: left }] }
    }

    fn lines_of(journal: &mut Journal) -> Vec<Line> {
        let News::Lines(lines) = journal.read_new().unwrap() else { panic!("replaced") };
        lines.into_iter().map(|(_, line)| line).collect()
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for line in [batch(3), Line::Written { offset: 7 }] {
            let text = render(&line, 5).unwrap();
            let stored = read_line(text.trim_end().as_bytes()).unwrap();
            assert_eq!((stored.line, stored.synced), (line, 5));
        }
    }

    #[test]
    fn every_prefix_is_a_prefix_of_the_batches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path, token).unwrap();
        let start = usize::try_from(journal.position).unwrap();
        let mut ends = vec![start];
        for left in [3, 2, 1] {
            journal.append(&batch(left), true).unwrap();
            ends.push(usize::try_from(journal.position).unwrap());
        }
        let whole = std::fs::read(&path).unwrap();
        for length in start..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let mut reopened = Journal::open(&path, token).unwrap();
            let complete = ends.iter().filter(|end| **end <= length).count() - 1;
            let expected: Vec<Line> = [3, 2, 1][..complete].iter().map(|n| batch(*n)).collect();
            assert_eq!(lines_of(&mut reopened), expected, "{length}");
            // And it goes on from there.
            reopened.append(&batch(9), true).unwrap();
            let mut again = Journal::open(&path, token).unwrap();
            assert_eq!(lines_of(&mut again).len(), complete + 1);
        }
    }

    #[test]
    fn damage_before_the_end_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path, token).unwrap();
        let start = usize::try_from(journal.position).unwrap();
        journal.append(&batch(3), true).unwrap();
        journal.append(&batch(2), true).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[start + 30] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = Journal::open(&path, token).unwrap().read_new().unwrap_err();
        assert!(matches!(error, JournalError::Damaged { offset, .. } if offset == start as u64));
    }

    #[test]
    fn lines_that_were_promised_to_nobody_are_lost_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut journal = Journal::open(&path, token).unwrap();
        journal.append(&batch(3), true).unwrap();
        let lost = usize::try_from(journal.position).unwrap();
        journal.append(&batch(2), false).unwrap();
        let kept = usize::try_from(journal.position).unwrap();
        journal.append(&Line::Written { offset: 1 }, false).unwrap();
        // A power cut: the page of the second line was not written, that of the third was.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[lost..kept].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        let mut reopened = Journal::open(&path, token).unwrap();
        assert_eq!(lines_of(&mut reopened), [batch(3)]);
        reopened.append(&batch(1), true).unwrap();
        reopened.append(&batch(0), false).unwrap();
        // What was synced later makes the same damage an error.
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[lost..lost + 20].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        let error = Journal::open(&path, token).unwrap().read_new().unwrap_err();
        assert!(matches!(error, JournalError::Damaged { offset, .. } if offset == lost as u64));
    }

    #[test]
    fn processes_see_each_others_lines_and_a_new_journal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let mut one = Journal::open(&path, token).unwrap();
        let mut two = Journal::open(&path, token).unwrap();
        one.append(&batch(3), true).unwrap();
        assert_eq!(lines_of(&mut two), [batch(3)]);
        two.append(&batch(2), true).unwrap();
        assert_eq!(lines_of(&mut one), [batch(2)]);
        one.position = MAX_JOURNAL + 1;
        one.written(0, true, || Token::from_bytes([8; 16])).unwrap();
        assert_eq!(two.read_new().unwrap(), News::Replaced);
        assert_eq!(one.read_new().unwrap(), News::Lines(vec![]));
    }
}
