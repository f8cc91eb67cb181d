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
//! while the journal goes on. Once most of a large journal is in the files, that part is cut off:
//! a shorter file with the rest takes its place. Bytes keep their numbers at that, its first line
//! says with which one it begins: so a process that had read as far goes on where it was, and no
//! request waits for files. What cannot be written, because an admin broke or removed its file, is
//! carried along in the `written` line. Another token in the first line means another journal, of
//! which nothing is known. All of it happens under the lock.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use specs::fleet::Change;
use specs::machine::Seconds;
use specs::units::Token;
use tracing::warn;

use super::files::{Replacement, absent_as_none, sync_folders};

/// Beyond this size a journal of which the files hold at least half is cut. Cutting costs two
/// syncs and happens at most as often as files are written.
const MAX_JOURNAL: u64 = 64 << 10;

/// Hexadecimal digits of a line's checksum.
const CHECKSUM: usize = 16;

/// The first word of a journal, with the version of its format.
const MAGIC: &str = "edeploy-journal-3";

/// Length of the first line: magic, token, the number of the first byte after it in as many
/// digits as the largest has, and a checksum.
const HEADER: usize = MAGIC.len() + 1 + 32 + 1 + 20 + 1 + CHECKSUM + 1;

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
    /// The readable files hold everything that stands in the journal before `offset`, but for what
    /// is `kept`.
    Written {
        /// In bytes.
        offset: u64,
        /// Changes of files that an admin broke, removed or edited meanwhile, each with the byte
        /// at which its line began.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kept: Vec<(u64, Change)>,
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

/// The journal, opened and read up to `position`. Bytes are counted from its beginning, whatever
/// was cut off since.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    header: Header,
    position: u64,
    /// Up to which byte it is known to be on disk.
    synced: u64,
    /// Whether the name of its file is known to be on disk: who put it there may have been killed
    /// before it synced the folder.
    is_name_synced: bool,
}

/// The first line.
#[derive(Debug, Clone, PartialEq)]
struct Header {
    /// The same for as long as the journal goes on.
    token: String,
    /// The number of the first byte after this line; those before it were cut off.
    base: u64,
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
        /// Where in the file the damaged line begins.
        offset: u64,
    },
}

impl Journal {
    /// Opens the journal at `path`, or begins one. Nothing of it counts as read yet.
    pub(super) fn open(path: &Path, fresh: impl Fn() -> Token) -> Result<Journal, JournalError> {
        let failed = |source| JournalError::Io { path: path.to_owned(), source };
        let opened =
            absent_as_none(File::options().read(true).write(true).open(path)).map_err(failed)?;
        if let Some(file) = opened {
            // A journal is renamed into its place complete; anything else is not ours.
            let header = Header::read(&file)
                .map_err(failed)?
                .ok_or_else(|| JournalError::Damaged { path: path.to_owned(), offset: 0 })?;
            let base = header.base;
            return Ok(Journal {
                path: path.to_owned(),
                file,
                header,
                position: base,
                synced: base,
                is_name_synced: false,
            });
        }
        let header = Header { token: fresh().as_str().to_owned(), base: 0 };
        let begun = Beginning::write(path, header, &[]).and_then(Beginning::put_in_place);
        begun.map_err(failed)
    }

    /// Reads what was added since the last call, and cuts off what a kill left unfinished.
    pub(super) fn read_new(&mut self) -> Result<News, JournalError> {
        let path = self.path.clone();
        let failed = |source| JournalError::Io { path: path.clone(), source };
        if !self.follow().map_err(failed)? {
            return Ok(News::Replaced);
        }
        let end = self.header.base + self.lines_length().map_err(failed)?;
        if end < self.position {
            return Ok(News::Replaced);
        }
        if end == self.position {
            return Ok(News::Lines(Vec::new()));
        }
        let length = usize::try_from(end - self.position).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, self.place(self.position)).map_err(failed)?;
        let (lines, understood, synced) = parse(&bytes, self.position);
        self.synced = self.synced.max(synced);
        if understood < bytes.len() {
            let rest = &bytes[understood..];
            let offset = self.position + understood as u64;
            if self.synced.max(synced_in(rest)) > offset {
                let offset = self.place(offset);
                return Err(JournalError::Damaged { path: self.path.clone(), offset });
            }
            self.file.set_len(self.place(offset)).map_err(failed)?;
        }
        self.position += understood as u64;
        Ok(News::Lines(lines))
    }

    /// Opens the file that is at the path now, if another process has cut the journal. Whether it
    /// is this journal, with every byte that was not read yet.
    fn follow(&mut self) -> io::Result<bool> {
        let Some(current) = absent_as_none(File::open(&self.path))? else {
            return Ok(false);
        };
        let Some(header) = Header::read(&current)? else { return Ok(false) };
        if header != self.header {
            if header.token != self.header.token || header.base > self.position {
                return Ok(false);
            }
            self.file = File::options().read(true).write(true).open(&self.path)?;
            self.header = header;
            self.is_name_synced = false;
        }
        Ok(true)
    }

    /// Where a byte of the journal lies in its file.
    fn place(&self, byte: u64) -> u64 {
        HEADER as u64 + byte - self.header.base
    }

    fn lines_length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len().saturating_sub(HEADER as u64))
    }

    /// Appends a line; `sync` says whether it has to be on disk when this returns. On an error
    /// the journal is as before, as far as the file system lets itself be told.
    pub(super) fn append(&mut self, line: &Line, sync: bool) -> Result<(), JournalError> {
        let result = render(line, self.synced).and_then(|text| {
            self.file.write_all_at(&text, self.place(self.position))?;
            if sync {
                self.file.sync_data()?;
                self.sync_name()?;
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
                let _ = self.file.set_len(self.place(self.position));
                Err(JournalError::Io { path: self.path.clone(), source })
            }
        }
    }

    fn sync_name(&mut self) -> io::Result<()> {
        if !self.is_name_synced {
            let folder = self.path.parent().unwrap_or(Path::new("."));
            sync_folders(&[folder.to_owned()].into())?;
            self.is_name_synced = true;
        }
        Ok(())
    }

    /// Where the next line will begin.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// What tells this journal from another one.
    pub(super) fn token(&self) -> &str {
        &self.header.token
    }

    /// Notes that the readable files hold everything before `offset` but for what is `kept`, and
    /// cuts that off when it is at least half of a long journal: what is copied is never more than
    /// what is saved.
    pub(super) fn written(
        &mut self,
        offset: u64,
        kept: Vec<(u64, Change)>,
    ) -> Result<(), JournalError> {
        let saved = offset.saturating_sub(self.header.base);
        let copied = self.position.saturating_sub(offset);
        let note = Line::Written { offset, kept };
        if saved + copied <= MAX_JOURNAL || saved < copied {
            return self.append(&note, false);
        }
        let shorter = match self.shorter(offset, &note) {
            Ok(shorter) => shorter,
            // The disk has no room for a copy, say; there may be some for a line.
            Err(error) => {
                warn!(%error, journal = %self.path.display(), "it could not be cut, and stays long");
                return self.append(&note, false);
            }
        };
        *self = shorter
            .put_in_place()
            .map_err(|source| JournalError::Io { path: self.path.clone(), source })?;
        Ok(())
    }

    /// Writes a journal beside this one that begins with byte `base` of it, and ends with `note`.
    fn shorter(&self, base: u64, note: &Line) -> io::Result<Beginning> {
        let mut lines = vec![0; usize::try_from(self.position - base).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut lines, self.place(base))?;
        // What stands before the note is on disk before the note is.
        lines.extend(render(note, self.position)?);
        let header = Header { token: self.header.token.clone(), base };
        Beginning::write(&self.path, header, &lines)
    }
}

/// A journal that lies beside the one whose place it will take.
struct Beginning {
    path: PathBuf,
    header: Header,
    position: u64,
    replacement: Replacement,
}

impl Beginning {
    /// Writes it and syncs it.
    fn write(path: &Path, header: Header, lines: &[u8]) -> io::Result<Beginning> {
        let mut replacement = Replacement::default();
        replacement.write(path, &[header.text().as_bytes(), lines].concat())?;
        replacement.sync()?;
        let position = header.base + lines.len() as u64;
        Ok(Beginning { path: path.to_owned(), header, position, replacement })
    }

    /// Puts it in its place. When this fails, nobody knows whether what was open there before is
    /// the journal still.
    fn put_in_place(self) -> io::Result<Journal> {
        let Beginning { path, header, position, replacement } = self;
        sync_folders(&replacement.put_in_place(|_| true)?)?;
        let file = File::options().read(true).write(true).open(&path)?;
        Ok(Journal { path, file, header, position, synced: position, is_name_synced: true })
    }
}

impl Header {
    fn text(&self) -> String {
        let text = format!("{MAGIC} {} {:020}", self.token, self.base);
        let sum = checksum(text.as_bytes());
        format!("{text} {sum}\n")
    }

    /// The first line of this file; `None` when it has none that is a journal's.
    fn read(file: &File) -> io::Result<Option<Header>> {
        let mut bytes = [0; HEADER];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let header = str::from_utf8(&bytes).ok().and_then(|text| {
            let (text, sum) = text.strip_suffix('\n')?.rsplit_once(' ')?;
            let (token, base) = text.strip_prefix(MAGIC)?.strip_prefix(' ')?.split_once(' ')?;
            let header = Header { token: token.to_owned(), base: base.parse().ok()? };
            (checksum(text.as_bytes()) == sum).then_some(header)
        });
        Ok(header)
    }
}

/// In one buffer: the line of a batch has hundreds of kilobytes.
fn render(line: &Line, synced: u64) -> io::Result<Vec<u8>> {
    let mut text = vec![b' '; CHECKSUM + 1];
    serde_json::to_writer(&mut text, line)?;
    // As `Stored` with the line flattened; by hand, because serde would copy all of it.
    text.pop();
    writeln!(text, ",\"synced\":{synced}}}")?;
    let sum = checksum(&text[CHECKSUM + 1..text.len() - 1]);
    text[..CHECKSUM].copy_from_slice(sum.as_bytes());
    Ok(text)
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
mod tests;
