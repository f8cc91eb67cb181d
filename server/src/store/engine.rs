//! The world of one process, kept equal to journal and files under the lock.
//!
//! Everything here is called with the lock held. After any error the engine is thrown away and
//! opened again: what is in memory is never believed over what is on disk.

use std::collections::{BTreeMap, BTreeSet};

use specs::facts::Facts;
use specs::fleet::{Change, Decision, File, World};
use specs::machine::Seconds;
use specs::units::Name;
use tracing::warn;

use super::files::{Replacement, absent_as_none, ensure_folder};
use super::journal::{Journal, Line, News};
use super::sources::Sources;
use super::{StoreError, records};
use crate::settings::Section;

/// See the module.
#[derive(Debug)]
pub(super) struct Engine {
    section: Section,
    world: World,
    sources: Sources,
    journal: Journal,
    /// Applied to the world, not in the journal yet.
    pending: Vec<Change>,
    /// Whether something of `pending` was promised to someone.
    durable: bool,
    unwritten: Unwritten,
}

/// What the journal holds and the readable files do not yet.
#[derive(Debug, Default)]
struct Unwritten {
    files: BTreeSet<File>,
    records: BTreeSet<Name>,
    /// By machine: the name to store them under, and the facts.
    facts: BTreeMap<Name, (Name, Facts)>,
    anything: bool,
}

impl Engine {
    /// Reads everything: records, files, and what the journal knows beyond them.
    pub(super) fn open(section: &Section) -> Result<Engine, StoreError> {
        let private = section.private_dir();
        ensure_folder(&machines_dir(section))
            .map_err(|source| StoreError::Io { path: private.clone(), source })?;
        let mut journal = open_journal(section)?;
        let world = World::new(records::read_all(&machines_dir(section))?);
        let sources = Sources::open(section)?;
        let News::Lines(lines) = journal.read_new()? else {
            return Err(StoreError::Broken(format!(
                "{} was replaced while it was being read, without the lock {}",
                private.join(JOURNAL).display(),
                section.lock_file.display()
            )));
        };
        let mut engine = Engine {
            section: section.clone(),
            world,
            sources,
            journal,
            pending: Vec::new(),
            durable: false,
            unwritten: Unwritten::default(),
        };
        let cmdbs = engine.sources.refresh(&mut engine.world)?;
        // What stands before the last `Written` is in the files that were just read.
        let written = lines.iter().rposition(|line| *line == Line::Written);
        engine.replay(lines.into_iter().skip(written.map_or(0, |position| position + 1)));
        engine.reconcile(&cmdbs);
        Ok(engine)
    }

    /// Takes over what other processes and admins changed since.
    pub(super) fn refresh(&mut self) -> Result<(), StoreError> {
        match self.journal.read_new()? {
            News::Replaced => {
                *self = Engine::open(&self.section)?;
                return Ok(());
            }
            News::Lines(lines) => self.replay(lines),
        }
        let cmdbs = self.sources.refresh(&mut self.world)?;
        self.reconcile(&cmdbs);
        Ok(())
    }

    /// The world as it is.
    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// Makes changes true in memory; [`Engine::commit`] stores them.
    pub(super) fn apply(&mut self, changes: &[Change], durable: bool) {
        for change in changes {
            self.apply_one(change);
        }
        self.pending.extend_from_slice(changes);
        self.durable |= durable;
    }

    /// Stores what was applied: when this returns, it is on disk.
    pub(super) fn commit(&mut self, now: Seconds) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let changes = std::mem::take(&mut self.pending);
        let durable = std::mem::take(&mut self.durable);
        self.journal.append(&Line::Batch { at: now, changes }, durable)?;
        Ok(())
    }

    /// Whether the readable files lag behind the journal.
    pub(super) fn is_behind(&self) -> bool {
        self.unwritten.anything
    }

    /// Brings the readable files up to date.
    pub(super) fn write_files(&mut self) -> Result<(), StoreError> {
        self.commit(super::now())?;
        if !self.unwritten.anything {
            return Ok(());
        }
        let files: BTreeSet<File> = self
            .unwritten
            .files
            .iter()
            .filter(|file| self.sources.is_writable(file))
            .cloned()
            .collect();
        let mut replacement = Replacement::default();
        for file in &files {
            self.write_file(file, &mut replacement)?;
        }
        if !files.is_empty() {
            self.sources.write_origins(&files, &mut replacement)?;
        }
        let forgotten = self.write_records(&mut replacement)?;
        let failed = |source| StoreError::Io { path: self.section.private_dir(), source };
        replacement.commit().map_err(failed)?;
        for path in forgotten {
            absent_as_none(std::fs::remove_file(path)).map_err(failed)?;
        }
        for file in &files {
            self.world.written(file);
            self.sources.written(file)?;
        }
        // A file that cannot be written because an admin broke it stays in the journal.
        if files.len() < self.unwritten.files.len() {
            self.unwritten.records.clear();
            self.unwritten.facts.clear();
            self.unwritten.files.retain(|file| !files.contains(file));
            return Ok(());
        }
        self.unwritten = Unwritten::default();
        let fresh = super::random_token()?;
        self.journal.written(|| fresh.clone())?;
        Ok(())
    }

    fn write_file(&self, file: &File, replacement: &mut Replacement) -> Result<(), StoreError> {
        let Some(text) = self.world.text(file) else { return Ok(()) };
        let path = self.sources.written_path(file);
        let failed = |source| StoreError::Io { path: path.clone(), source };
        if let File::Cmdb(profile) = file
            && let Some(generated) = self.world.cmdb(profile).and_then(|cmdb| cmdb.generated_text())
        {
            // What an admin wrote as `generate(…)` is kept beside the list it became.
            let mut original = path.clone().into_os_string();
            original.push(".orig");
            let kept = absent_as_none(std::fs::read(&original)).map_err(failed)?;
            if kept.as_deref() != Some(generated.as_bytes()) {
                replacement.write(original.as_ref(), generated.as_bytes()).map_err(failed)?;
            }
        }
        replacement.write(&path, text.as_bytes()).map_err(failed)
    }

    /// Writes records and facts; returns the files of forgotten machines, to be removed.
    fn write_records(
        &self,
        replacement: &mut Replacement,
    ) -> Result<Vec<std::path::PathBuf>, StoreError> {
        let mut forgotten = Vec::new();
        for machine in &self.unwritten.records {
            let path = records::path(&machines_dir(&self.section), machine);
            let failed = |source| StoreError::Io { path: path.clone(), source };
            match self.world.census.get(machine) {
                Some(record) => {
                    let text = records::text(record).map_err(failed)?;
                    replacement.write(&path, text.as_bytes()).map_err(failed)?;
                }
                None => {
                    forgotten.push(path);
                    forgotten.push(records::facts_path(&self.section.hw_dir, machine));
                }
            }
        }
        let hw_dir = &self.section.hw_dir;
        if !self.unwritten.facts.is_empty() {
            ensure_folder(hw_dir)
                .map_err(|source| StoreError::Io { path: hw_dir.clone(), source })?;
        }
        for (name, facts) in self.unwritten.facts.values() {
            let path = records::facts_path(hw_dir, name);
            replacement
                .write(&path, records::facts_text(facts).as_bytes())
                .map_err(|source| StoreError::Io { path, source })?;
        }
        Ok(forgotten)
    }

    fn replay(&mut self, lines: impl IntoIterator<Item = Line>) {
        for line in lines {
            match line {
                Line::Batch { changes, .. } => {
                    for change in &changes {
                        self.apply_one(change);
                    }
                }
                Line::Written => {
                    for file in &std::mem::take(&mut self.unwritten).files {
                        self.world.written(file);
                    }
                }
            }
        }
    }

    fn apply_one(&mut self, change: &Change) {
        self.unwritten.files.extend(self.world.apply(change));
        self.unwritten.anything = true;
        match change {
            Change::Record { record } => {
                self.unwritten.records.insert(record.id.clone());
            }
            Change::Forget { machine } => {
                self.unwritten.records.insert(machine.clone());
                self.unwritten.facts.remove(machine);
            }
            Change::Facts { machine, name, facts } => {
                self.unwritten.facts.insert(machine.clone(), (name.clone(), facts.clone()));
            }
            Change::Count { .. } | Change::Entry { .. } => {}
        }
    }

    /// What a hand edit of these profiles' CMDBs means for the machines that hold entries.
    fn reconcile(&mut self, profiles: &BTreeSet<Name>) {
        for profile in profiles {
            let decision = self.world.reconcile(profile, super::now());
            self.settle(&decision);
        }
    }

    /// Fails the machines that have been silent for longer than the lease.
    pub(super) fn expire(&mut self, now: Seconds) {
        if let Some(decision) = self.world.expire(now, self.section.lease.as_secs()) {
            self.settle(&decision);
        }
    }

    /// Takes over a decision that nobody waits for.
    fn settle(&mut self, decision: &Decision) {
        for warning in &decision.warnings {
            warn!("{warning}");
        }
        self.apply(&decision.changes, decision.durable);
    }
}

/// Name of the journal in the private folder.
const JOURNAL: &str = "journal";

fn machines_dir(section: &Section) -> std::path::PathBuf {
    section.private_dir().join("machines")
}

fn open_journal(section: &Section) -> Result<Journal, StoreError> {
    let fresh = super::random_token()?;
    Ok(Journal::open(&section.private_dir().join(JOURNAL), || fresh.clone())?)
}
