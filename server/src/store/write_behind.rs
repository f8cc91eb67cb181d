//! Brings the readable files up to date while requests go on.
//!
//! What has to be written is copied under the lock, with the byte of the journal up to which it
//! is true. Rendering, writing and syncing happen without the lock; it is taken again for the
//! renames of `state` and CMDBs, so that an admin's edit that came meanwhile is noticed and not
//! overwritten, and for the line in the journal that says how far the files have come. One
//! process at a time does this: it holds the lock `syncer`. Requests never wait for it: however
//! fast they come, one round writes at most a few files for each machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use specs::facts::Facts;
use specs::fleet::{Change, File, Packed};
use specs::units::Name;

use super::files::{FileId, Replacement, absent_as_none, ensure_folder};
use super::sources::text_digest;
use super::{StoreError, records};
use crate::settings::Section;

/// What the journal holds and the readable files do not yet: each with the byte at which the
/// line of its last change begins.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    pub(super) files: BTreeMap<File, u64>,
    pub(super) records: BTreeMap<Name, u64>,
    /// By machine: the name to store them under, and the facts.
    pub(super) facts: BTreeMap<Name, (u64, Name, Arc<Facts>)>,
    /// Names of stored facts whose machines were forgotten.
    pub(super) forgotten_facts: BTreeMap<Name, u64>,
    /// The changes of counts and CMDB entries themselves: a file that an admin edited gets them
    /// as well.
    changes: Vec<(u64, File, Change)>,
}

impl Unwritten {
    /// Whether some machine's record or facts are not written.
    pub(super) fn has_machines(&self) -> bool {
        // Facts are forgotten with a record.
        !(self.records.is_empty() && self.facts.is_empty())
    }

    /// Takes note of a change of this file.
    pub(super) fn changed(&mut self, at: u64, file: File, change: Change) {
        self.files.insert(file.clone(), at);
        self.changes.push((at, file, change));
    }

    /// The changes that a file lacks which holds everything before this byte.
    pub(super) fn lacked_by(&mut self, file: &File, offset: u64) -> Vec<&Change> {
        self.changes.retain(|(at, of, _)| *at >= offset || of != file);
        self.changes.iter().filter(|(_, of, _)| of == file).map(|(.., change)| change).collect()
    }

    /// Those of the changes before this byte that are of `kept` files.
    pub(super) fn kept(&self, offset: u64, kept: &BTreeSet<File>) -> Vec<(u64, Change)> {
        let is_kept = |(at, file, _): &&(u64, File, Change)| *at < offset && kept.contains(file);
        self.changes.iter().filter(is_kept).map(|(at, _, it)| (*at, it.clone())).collect()
    }

    /// Everything before this byte was written; `kept` changes were not.
    pub(super) fn written(&mut self, offset: u64, kept: &[(u64, Change)]) {
        self.files.retain(|_, at| *at >= offset);
        self.changes.retain(|(at, ..)| *at >= offset);
        let mut changes = Vec::new();
        for (at, change) in kept {
            if let Some(file) = change.file() {
                self.files.entry(file.clone()).or_insert(*at);
                changes.push((*at, file, change.clone()));
            }
        }
        // They are the older ones.
        changes.append(&mut self.changes);
        self.changes = changes;
        self.records.retain(|_, at| *at >= offset);
        self.facts.retain(|_, (at, ..)| *at >= offset);
        self.forgotten_facts.retain(|_, at| *at >= offset);
    }
}

/// The world up to a byte of a journal, as far as it is not in the files.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The journal it was taken from.
    pub(super) token: String,
    /// Everything before this byte is in it.
    pub(super) offset: u64,
    pub(super) files: Vec<FileText>,
    /// Files that lag and cannot be written: an admin broke them.
    pub(super) kept: BTreeSet<File>,
    /// `None`: the machine was forgotten. They are unpacked without the lock: that takes longest.
    pub(super) records: Vec<(Name, Option<Packed>)>,
    pub(super) facts: Vec<(Name, Arc<Facts>)>,
    pub(super) forgotten_facts: Vec<Name>,
}

/// A file as it has to be.
#[derive(Debug)]
pub(super) struct FileText {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// The version that will be replaced.
    pub(super) replaces: Option<FileId>,
    pub(super) text: String,
    /// What an admin wrote as `generate(…)`, kept beside the list it became.
    pub(super) original: Option<String>,
}

/// A snapshot whose machines are in their places, and whose files lie synced beside theirs.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) token: String,
    pub(super) offset: u64,
    pub(super) files: Vec<FileText>,
    pub(super) kept: BTreeSet<File>,
    pub(super) replacement: Replacement,
    /// File name to digest.
    pub(super) digests: BTreeMap<String, String>,
    /// Folders whose renames are not synced yet.
    pub(super) folders: BTreeSet<PathBuf>,
}

/// Everything is in its place.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) token: String,
    pub(super) offset: u64,
    pub(super) kept: BTreeSet<File>,
    pub(super) folders: BTreeSet<PathBuf>,
}

impl Snapshot {
    /// Writes all of it, without the lock.
    pub(super) fn write(self, section: &Section) -> Result<Prepared, StoreError> {
        let folders = self.write_machines(section)?;
        let mut replacement = Replacement::default();
        let mut digests = BTreeMap::new();
        for FileText { file, path, text, original, .. } in &self.files {
            let failed = |source| StoreError::Io { path: path.clone(), source };
            if let Some(original) = original {
                let mut kept = path.clone().into_os_string();
                kept.push(".orig");
                let there = absent_as_none(std::fs::read(&kept)).map_err(failed)?;
                if there.as_deref() != Some(original.as_bytes()) {
                    let mut kept_file = Replacement::default();
                    kept_file.write(kept.as_ref(), original.as_bytes()).map_err(failed)?;
                    kept_file.commit().map_err(failed)?;
                }
            }
            replacement.write(path, text.as_bytes()).map_err(failed)?;
            digests.insert(file.to_string(), text_digest(text.as_bytes()));
        }
        replacement
            .sync()
            .map_err(|source| StoreError::Io { path: section.written_dir().to_owned(), source })?;
        let Snapshot { token, offset, files, kept, .. } = self;
        Ok(Prepared { token, offset, files, kept, replacement, digests, folders })
    }

    /// Writes records and facts and puts them in their places; only the holder of `syncer` writes
    /// there, and whoever reads them takes everything after the last `written` from the journal.
    fn write_machines(&self, section: &Section) -> Result<BTreeSet<PathBuf>, StoreError> {
        let machines = records::folder(section);
        let hw_dir = &section.hw_dir;
        let failed = |path: &PathBuf, source| StoreError::Io { path: path.clone(), source };
        let mut replacement = Replacement::default();
        let mut forgotten: Vec<PathBuf> =
            self.forgotten_facts.iter().map(|name| records::facts_path(hw_dir, name)).collect();
        for (machine, record) in &self.records {
            let path = records::path(&machines, machine);
            match record {
                Some(packed) => {
                    let record = packed.unpack().ok_or_else(|| {
                        StoreError::Defect(format!("the record of {machine} cannot be unpacked"))
                    })?;
                    let text = records::text(&record).map_err(|source| failed(&path, source))?;
                    let written = replacement.write(&path, text.as_bytes());
                    written.map_err(|source| failed(&path, source))?;
                }
                None => forgotten.push(path),
            }
        }
        if !self.facts.is_empty() {
            ensure_folder(hw_dir).map_err(|source| failed(hw_dir, source))?;
        }
        for (name, facts) in &self.facts {
            let path = records::facts_path(hw_dir, name);
            let written = replacement.write(&path, records::facts_text(facts).as_bytes());
            written.map_err(|source| failed(&path, source))?;
        }
        replacement.sync().map_err(|source| failed(&machines, source))?;
        let placed = replacement.put_in_place(|_| true);
        let mut folders = placed.map_err(|source| failed(&machines, source))?;
        for path in forgotten {
            let removed = absent_as_none(std::fs::remove_file(&path));
            let is_removed = removed.map_err(|source| failed(&path, source))?.is_some();
            // A record that comes back after a power cut would hold what others were given since.
            // An earlier round that removed it may have ended before the folder was synced.
            if let Some(folder) = path.parent()
                && (is_removed || folder.is_dir())
            {
                folders.insert(folder.to_owned());
            }
        }
        Ok(folders)
    }
}
