//! The files that people edit, as they stand on disk: noticed when they change, read again, and
//! kept in their last good version while an editor is half-way through saving them.
//!
//! With a STATEDIR, CONFIGDIR is only read and `state` and `*.cmdb` have a rewritten copy in
//! STATEDIR. The copy counts as long as the file in CONFIGDIR is the one it was made from; an
//! edited file in CONFIGDIR counts from then on as it stands, counts included.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use specs::diagnostic::Diagnostic;
use specs::fleet::{File, World};
use tracing::{info, warn};

use super::StoreError;
use super::files::{FileId, Replacement, absent_as_none, temporary};
use super::journal::Placing;
use crate::settings::Section;

/// A broken file that changed less than this ago is taken for half-written, and so is one that
/// vanished less than this ago: its last good version stays in force. After that it is broken or
/// missing, and says so to every machine.
const HALF_WRITTEN: Duration = Duration::from_secs(10);

/// The file names and what the rewritten copies in STATEDIR were made from.
const ORIGINS: &str = "origins.json";

/// What is known of the files on disk.
#[derive(Debug)]
pub(super) struct Sources {
    config_dir: PathBuf,
    written_dir: PathBuf,
    origins_path: PathBuf,
    /// The version of that file that was read last.
    origins_id: Option<FileId>,
    seen: BTreeMap<File, Seen>,
    /// File name to digest of the CONFIGDIR text that the copy in STATEDIR was made from.
    origins: BTreeMap<String, String>,
    /// By file name: what some process put in its place last.
    expected: BTreeMap<String, Expected>,
}

/// A text that some process was about to put in a file's place when it was heard of last.
#[derive(Debug)]
struct Expected {
    placing: Placing,
    /// It holds everything that stands in the journal before this byte,
    offset: u64,
    /// and the text it replaces everything before this one.
    replaced_offset: u64,
}

/// A file that was read, because some person or nobody knows who wrote it.
#[derive(Debug)]
pub(super) struct Reread {
    pub(super) file: File,
    /// It holds everything that stands in the journal before this byte.
    pub(super) holds: u64,
}

/// What counts of a file.
#[derive(Debug)]
pub(super) struct Counting {
    /// `None`: there is no file.
    pub(super) bytes: Option<Vec<u8>>,
    /// Digest of the text in CONFIGDIR, when STATEDIR may hold a copy.
    digest: Option<String>,
}

/// One file as it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Seen {
    configured: Option<FileId>,
    written: Option<FileId>,
    /// Digest of the text in CONFIGDIR; only kept with a STATEDIR.
    digest: Option<String>,
    /// Digest of the text that counts.
    text: Option<String>,
    /// It was not what some process had written last.
    edited: bool,
    /// What is in memory is no longer what this file became.
    distrusted: bool,
    /// The version on disk is broken: it is not overwritten, and looked at again.
    broken: bool,
    /// Since when a file that was there before is not: an editor may be about to put its new
    /// version in place. It is looked at again as well.
    gone: Option<Instant>,
}

impl Seen {
    /// Whether memory holds what this version of the file became.
    fn is_trusted(&self) -> bool {
        self.text.is_some()
            && self.gone.is_none()
            && !(self.broken || self.edited || self.distrusted)
    }
}

impl Sources {
    pub(super) fn open(section: &Section) -> Result<Sources, StoreError> {
        let mut sources = Sources {
            config_dir: section.config_dir.clone(),
            written_dir: section.written_dir().to_owned(),
            origins_path: section.private_dir().join(ORIGINS),
            origins_id: None,
            seen: BTreeMap::new(),
            origins: BTreeMap::new(),
            expected: BTreeMap::new(),
        };
        sources.read_origins()?;
        Ok(sources)
    }

    /// Takes over what other processes noted of the copies in STATEDIR.
    fn read_origins(&mut self) -> Result<(), StoreError> {
        if self.config_dir == self.written_dir {
            return Ok(());
        }
        let failed = |source| StoreError::Io { path: self.origins_path.clone(), source };
        let id = FileId::at(&self.origins_path).map_err(failed)?;
        if id != self.origins_id {
            let text = absent_as_none(std::fs::read(&self.origins_path)).map_err(failed)?;
            let origins = text.map(|text| serde_json::from_slice(&text)).transpose();
            self.origins = origins.map_err(|error| failed(error.into()))?.unwrap_or_default();
            self.origins_id = id;
        }
        Ok(())
    }

    /// Reads what changed on disk into the world. What the server itself wrote is not read: the
    /// world holds it already.
    pub(super) fn refresh(&mut self, world: &mut World) -> Result<Vec<Reread>, StoreError> {
        self.read_origins()?;
        let mut reread = Vec::new();
        let mut done: BTreeSet<File> = BTreeSet::new();
        // `state` names the profiles, configure files name the scripts: until nothing is new.
        loop {
            let files: Vec<File> =
                world.files().into_iter().filter(|file| !done.contains(file)).collect();
            if files.is_empty() {
                return Ok(reread);
            }
            for file in files {
                if let Some(holds) = self.refresh_one(world, &file)? {
                    reread.push(Reread { file: file.clone(), holds });
                }
                done.insert(file);
            }
        }
    }

    /// Looks at one file. When it was read: how much of the journal it holds.
    fn refresh_one(&mut self, world: &mut World, file: &File) -> Result<Option<u64>, StoreError> {
        let (configured, written) = (self.configured_path(file), self.written_path(file));
        let id = |path: &Path| {
            FileId::at(path).map_err(|source| StoreError::Io { path: path.to_owned(), source })
        };
        let configured_id = id(&configured)?;
        let written_id = if configured == written { configured_id } else { id(&written)? };
        let known = self.seen.get(file);
        if known.is_some_and(|seen| {
            let settled = !seen.broken && seen.gone.is_none() && !seen.distrusted;
            settled && seen.configured == configured_id && seen.written == written_id
        }) {
            return Ok(None);
        }
        let first_time = known.is_none();
        let was_broken = known.is_some_and(|seen| seen.broken);
        let Counting { bytes, digest } = self.read(file)?;
        let text = bytes.as_deref().map(text_digest);
        let mut seen = Seen {
            configured: configured_id,
            written: written_id,
            digest,
            text: text.clone(),
            ..Seen::default()
        };
        if let Some(known) = known.filter(|_| bytes.is_none()) {
            let was_there = known.configured.is_some() || known.written.is_some();
            let gone = known.gone.or(was_there.then(Instant::now));
            if gone.is_some_and(|since| since.elapsed() < HALF_WRITTEN) {
                if known.gone.is_none() {
                    warn!(%file, "it vanished; its last good version stays in force for a moment");
                }
                self.seen.insert(file.clone(), Seen { gone, ..seen });
                return Ok(None);
            }
        }
        // What another process wrote may lag behind what this one knows, and is no edit.
        let expected = self.expected.get(&file.to_string());
        let is_ours = expected.is_some_and(|it| Some(&it.placing.digest) == text.as_ref());
        seen.edited = expected.is_some() && !is_ours;
        let ours = bytes.as_deref().filter(|_| is_ours && known.is_some_and(Seen::is_trusted));
        let mut holds = None;
        if let Some(text) = ours.and_then(|bytes| str::from_utf8(bytes).ok()) {
            world.written(file, text);
        } else if let Err(findings) = world.read(file, bytes.as_deref()) {
            seen.broken = true;
            self.keep_or_break(world, file, findings, first_time, was_broken);
        } else {
            holds = Some(self.holds(file, text.as_deref()));
            if !first_time {
                info!(%file, "read again after it changed");
            }
        }
        self.seen.insert(file.clone(), seen);
        Ok(holds)
    }

    /// What counts of a file, as it stands on disk: the copy in STATEDIR, as long as it was made
    /// from what stands in CONFIGDIR.
    pub(super) fn read(&self, file: &File) -> Result<Counting, StoreError> {
        let read = |path: &Path| {
            absent_as_none(std::fs::read(path))
                .map_err(|source| StoreError::Io { path: path.to_owned(), source })
        };
        let (configured, written) = (self.configured_path(file), self.written_path(file));
        let mut bytes = read(&configured)?;
        let mut digest = None;
        if configured != written {
            digest = bytes.as_deref().map(text_digest);
            if digest.is_some() && self.origins.get(&file.to_string()) == digest.as_ref() {
                bytes = read(&written)?;
            }
        }
        Ok(Counting { bytes, digest })
    }

    /// Puts an admin's version of a file where it counts, and says where that is. CONFIGDIR stays
    /// as it is while STATEDIR can hold a copy that counts instead.
    pub(super) fn install(&mut self, file: &File, content: &[u8]) -> Result<PathBuf, StoreError> {
        let Counting { digest, .. } = self.read(file)?;
        let place = match &digest {
            Some(_) => self.written_path(file),
            None => self.configured_path(file),
        };
        // A link keeps leading to the file.
        let path = std::fs::canonicalize(&place).unwrap_or(place);
        let mut replacement = Replacement::default();
        let replaced = replacement.write(&path, content).and_then(|()| replacement.commit());
        replaced.map_err(|source| StoreError::Io { path: path.clone(), source })?;
        // After the copy: it must not count before it is the right one.
        if let Some(digest) = digest {
            self.origins.insert(file.to_string(), digest);
            let failed = |source| StoreError::Io { path: self.origins_path.clone(), source };
            self.new_origins()?.commit().map_err(failed)?;
        }
        Ok(path)
    }

    /// How much of the journal is in a file with this text. One that nobody wrote was made from
    /// what was there last: what was about to be put there, unless that lies beside it still.
    fn holds(&self, file: &File, text: Option<&str>) -> u64 {
        let Some(expected) = self.expected.get(&file.to_string()) else { return 0 };
        let Expected { placing, offset, replaced_offset } = expected;
        let was_placed = match text {
            Some(text) if text == placing.digest => true,
            Some(text) if text == placing.replaces => false,
            // What lies there may as well be of an attempt that came to nothing.
            _ => !std::fs::read(temporary(&self.written_path(file)))
                .is_ok_and(|beside| text_digest(&beside) == placing.digest),
        };
        if was_placed { *offset } else { *replaced_offset }
    }

    /// What is in memory of a file is not what the file became: it is read again.
    pub(super) fn distrust(&mut self, file: &File) {
        if let Some(seen) = self.seen.get_mut(file) {
            seen.distrusted = true;
        }
    }

    /// Decides what a broken file means: its last good version for a moment, then a refusal.
    fn keep_or_break(
        &self,
        world: &mut World,
        file: &File,
        findings: Vec<Diagnostic>,
        first_time: bool,
        was_broken: bool,
    ) {
        let modified = std::fs::metadata(self.configured_path(file))
            .and_then(|metadata| metadata.modified())
            .unwrap_or(SystemTime::UNIX_EPOCH);
        let age = SystemTime::now().duration_since(modified).unwrap_or_default();
        let half_written = !first_time && age < HALF_WRITTEN;
        if !was_broken || !half_written {
            for finding in &findings {
                let finding = finding.one_line();
                if half_written {
                    warn!(finding, "its last good version stays in force for a moment");
                } else {
                    warn!(finding, "this file is broken");
                }
            }
        }
        if !half_written {
            world.set_broken(file, findings);
        }
    }

    /// Whether the version on disk can be replaced: it was understood.
    pub(super) fn is_writable(&self, file: &File) -> bool {
        self.seen.get(file).is_some_and(|seen| !seen.broken && seen.gone.is_none())
    }

    /// Where the rewritten version of a file goes.
    pub(super) fn written_path(&self, file: &File) -> PathBuf {
        match file {
            File::State | File::Cmdb(_) => self.written_dir.join(file.to_string()),
            File::Specs(_) | File::Configure(_) | File::Script(_) => self.configured_path(file),
        }
    }

    fn configured_path(&self, file: &File) -> PathBuf {
        self.config_dir.join(file.to_string())
    }

    /// The version of a file that would be replaced by writing it.
    pub(super) fn version(&self, file: &File) -> Option<FileId> {
        let seen = self.seen.get(file)?;
        // With a STATEDIR an edit shows in CONFIGDIR: both have to be as they were.
        if self.config_dir == self.written_dir { seen.written } else { seen.configured }
    }

    /// Digest of the text of a file that counts; empty when there is none.
    pub(super) fn text(&self, file: &File) -> String {
        self.seen.get(file).and_then(|seen| seen.text.clone()).unwrap_or_default()
    }

    /// Takes note of what some process is about to write, with everything before `offset` in it.
    pub(super) fn expect(&mut self, offset: u64, files: BTreeMap<String, Placing>) {
        for (file, placing) in files {
            let replaced_offset = self.expected.get(&file).map_or(0, |earlier| earlier.offset);
            self.expected.insert(file, Expected { placing, offset, replaced_offset });
        }
    }

    /// The file that says what the rewritten copies were made from, when there is one to write.
    pub(super) fn write_origins<'a>(
        &mut self,
        files: impl Iterator<Item = &'a File>,
    ) -> Result<Option<Replacement>, StoreError> {
        if self.config_dir == self.written_dir {
            return Ok(None);
        }
        let mut changed = false;
        for file in files {
            if let Some(digest) = self.seen.get(file).and_then(|seen| seen.digest.clone()) {
                let earlier = self.origins.insert(file.to_string(), digest.clone());
                changed |= earlier != Some(digest);
            }
        }
        if !changed {
            return Ok(None);
        }
        self.new_origins().map(Some)
    }

    fn new_origins(&self) -> Result<Replacement, StoreError> {
        let failed = |source| StoreError::Io { path: self.origins_path.clone(), source };
        let text =
            serde_json::to_vec_pretty(&self.origins).map_err(|error| failed(error.into()))?;
        let mut replacement = Replacement::default();
        replacement.write(&self.origins_path, &text).map_err(failed)?;
        Ok(replacement)
    }

    /// Takes note that this process wrote a file.
    pub(super) fn written(&mut self, file: &File, digest: &str) -> Result<(), StoreError> {
        let path = self.written_path(file);
        let id = FileId::at(&path).map_err(|source| StoreError::Io { path, source })?;
        let in_place = self.config_dir == self.written_dir;
        if let Some(seen) = self.seen.get_mut(file) {
            seen.written = id;
            seen.text = Some(digest.to_owned());
            seen.edited = false;
            if in_place {
                seen.configured = id;
            }
        }
        Ok(())
    }
}

/// What tells one text from another.
pub(super) fn text_digest(text: &[u8]) -> String {
    blake3::hash(text).to_hex().to_string()
}
