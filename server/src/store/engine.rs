//! The world of one process, kept equal to journal and files under the lock.
//!
//! Everything here is called with the lock held. After any error the engine is thrown away and
//! opened again: what is in memory is never believed over what is on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use specs::fleet::{Census, Change, Decision, File, World};
use specs::machine::Seconds;
use specs::units::Name;
use tracing::warn;

use super::files::{ensure_folder, ensure_private_folder};
use super::journal::{Journal, Line, News, Placing};
use super::sources::{Reread, Sources};
use super::write_behind::{FileText, Placed, Prepared, Snapshot, Unwritten};
use super::{StoreError, records};
use crate::settings::Section;

/// Fewer records are not worth a thread of their own.
const FEW_RECORDS: usize = 200;

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

impl Engine {
    /// Reads everything, and settles what edits by hand mean.
    pub(super) fn open(section: &Section) -> Result<Engine, StoreError> {
        let (mut engine, cmdbs) = Engine::read(section)?;
        engine.reconcile(&cmdbs);
        Ok(engine)
    }

    /// Reads everything: records, files, and what the journal knows beyond them; and the
    /// profiles whose CMDBs are to be reconciled with the records.
    pub(super) fn read(section: &Section) -> Result<(Engine, BTreeSet<Name>), StoreError> {
        let private = section.private_dir();
        ensure_private_folder(&private)
            .and_then(|()| ensure_folder(&records::folder(section)))
            .map_err(|source| StoreError::Io { path: private.clone(), source })?;
        let mut journal = open_journal(section)?;
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
            world: World::default(),
            sources,
            journal,
            pending: Vec::new(),
            durable: false,
            unwritten: Unwritten::default(),
        };
        // What stands before that is in the files.
        let written = lines.iter().rev().find_map(|(_, line)| match line {
            Line::Written { offset, .. } => Some(*offset),
            Line::Batch { .. } | Line::Writing { .. } => None,
        });
        engine.replay(lines.into_iter().filter(|(at, _)| written.is_none_or(|end| *at >= end)));
        let cmdbs = engine.read_records_and_files()?;
        Ok((engine, cmdbs))
    }

    /// Reads the records of machines, on all processors, and what people have edited: a hall waits
    /// for its server. The profiles whose CMDBs were read.
    fn read_records_and_files(&mut self) -> Result<BTreeSet<Name>, StoreError> {
        let paths = records::paths(&records::folder(&self.section))?;
        // What the journal says of a machine is newer than its file.
        let newer: BTreeSet<Name> = self.unwritten.records.keys().cloned().collect();
        let read = |part: &[PathBuf]| -> Result<Census, StoreError> {
            let mut census = Census::default();
            // One after the other: unpacked, a hall of them would not fit in what it takes later.
            for record in records::read_each(part) {
                let record = record?;
                if !newer.contains(&record.id) {
                    census.insert(&record);
                }
            }
            Ok(census)
        };
        if paths.len() < FEW_RECORDS {
            self.world.census.absorb(read(&paths)?);
            return self.read_files();
        }
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let size = paths.len().div_ceil(threads);
        let (parts, cmdbs) = std::thread::scope(|scope| {
            let parts: Vec<_> = paths.chunks(size).map(|it| scope.spawn(|| read(it))).collect();
            let cmdbs = self.read_files();
            let parts =
                parts.into_iter().map(|it| it.join().unwrap_or_else(|it| resume_unwind(it)));
            (parts.collect::<Result<Vec<Census>, StoreError>>(), cmdbs)
        });
        for part in parts? {
            self.world.census.absorb(part);
        }
        let mut cmdbs = cmdbs?;
        // Machines may hold entries of profiles that `state` does not name any more.
        cmdbs.extend(self.read_files()?);
        Ok(cmdbs)
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
        let cmdbs = self.read_files()?;
        self.reconcile(&cmdbs);
        Ok(())
    }

    /// Reads what people have edited. What the journal holds and such a file does not is made
    /// true in it. The profiles whose CMDBs were read.
    fn read_files(&mut self) -> Result<BTreeSet<Name>, StoreError> {
        let mut cmdbs = BTreeSet::new();
        for Reread { file, holds } in self.sources.refresh(&mut self.world)? {
            let lacked = self.unwritten.lacked_by(&file, holds);
            match &file {
                File::State => {
                    let mut pending: BTreeMap<Name, i64> = BTreeMap::new();
                    for change in lacked {
                        if let Change::Count { profile, by } = change {
                            *pending.entry(profile.clone()).or_default() += by;
                        }
                    }
                    self.world.set_pending_counts(pending);
                }
                File::Cmdb(profile) => {
                    for warning in self.world.reapply(profile, lacked) {
                        warn!("{warning}");
                    }
                    cmdbs.insert(profile.clone());
                }
                File::Specs(_) | File::Configure(_) | File::Script(_) => {}
            }
        }
        Ok(cmdbs)
    }

    /// What a hand edit of these profiles' CMDBs means for the machines that hold entries.
    fn reconcile(&mut self, profiles: &BTreeSet<Name>) {
        for profile in profiles {
            let decision = self.world.reconcile(profile, super::now());
            self.settle(decision);
        }
    }

    /// The world as it is.
    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// Makes changes true in memory; [`Engine::commit`] stores them.
    pub(super) fn apply(&mut self, changes: Vec<Change>, durable: bool) {
        let at = self.journal.position();
        for change in &changes {
            self.apply_one(change, at);
        }
        self.pending.extend(changes);
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

    /// Whether someone was promised what [`Engine::commit`] will store.
    pub(super) fn is_promised(&self) -> bool {
        self.durable
    }

    /// Whether readable files that can be written lag behind the journal.
    pub(super) fn is_behind(&self) -> bool {
        self.unwritten.has_machines()
            || self.unwritten.files.keys().any(|file| self.can_be_written(file))
    }

    /// What cannot be written, because an admin broke or removed the file, stays in the journal.
    fn can_be_written(&self, file: &File) -> bool {
        self.sources.is_writable(file) && self.world.is_good(file)
    }

    /// What the readable files lack; `None` when that is nothing.
    pub(super) fn snapshot(&mut self) -> Result<Option<Snapshot>, StoreError> {
        self.commit(super::now())?;
        if !self.is_behind() {
            return Ok(None);
        }
        let mut files = Vec::new();
        let mut kept = BTreeSet::new();
        for file in self.unwritten.files.keys() {
            let text = if self.can_be_written(file) { self.world.fold(file) } else { None };
            let Some(text) = text else {
                kept.insert(file.clone());
                continue;
            };
            let original = match file {
                File::Cmdb(profile) => {
                    self.world.cmdb(profile).and_then(|cmdb| cmdb.generated_text())
                }
                _ => None,
            };
            files.push(FileText {
                file: file.clone(),
                path: self.sources.written_path(file),
                replaces: self.sources.version(file),
                text,
                original: original.map(str::to_owned),
            });
        }
        let record = |id: &Name| (id.clone(), self.world.census.packed(id));
        let facts = self.unwritten.facts.values();
        Ok(Some(Snapshot {
            token: self.journal.token().to_owned(),
            offset: self.journal.position(),
            files,
            kept,
            records: self.unwritten.records.keys().map(record).collect(),
            facts: facts.map(|(_, name, facts)| (name.clone(), Arc::clone(facts))).collect(),
            forgotten_facts: self.unwritten.forgotten_facts.keys().cloned().collect(),
        }))
    }

    /// Puts the files of a snapshot in their places, those excepted that an admin has edited
    /// since.
    pub(super) fn place(&mut self, prepared: Prepared) -> Result<Placed, StoreError> {
        let Prepared { token, offset, files, mut kept, replacement, digests, mut folders } =
            prepared;
        let failed = |source| StoreError::Io { path: self.section.private_dir(), source };
        let same_journal = self.is_of_this_journal(&token, offset);
        let untouched = |text: &&FileText| {
            same_journal
                && self.sources.is_writable(&text.file)
                && self.sources.version(&text.file) == text.replaces
        };
        let (placed, edited): (Vec<&FileText>, Vec<&FileText>) = files.iter().partition(untouched);
        kept.extend(edited.iter().map(|text| text.file.clone()));
        if !placed.is_empty() {
            let placing = |text: &&FileText| {
                let name = text.file.to_string();
                let digest = digests.get(&name).cloned().unwrap_or_default();
                (name, Placing { digest, replaces: self.sources.text(&text.file) })
            };
            let files: BTreeMap<String, Placing> = placed.iter().map(placing).collect();
            // Synced before the renames: a file that outlives a power cut without this line would
            // pass for an admin's edit, and its counts would be taken once more.
            self.journal.append(&Line::Writing { offset, files: files.clone() }, true)?;
            let paths: BTreeSet<&Path> = placed.iter().map(|text| text.path.as_path()).collect();
            let renamed = replacement.put_in_place(|path| paths.contains(path)).map_err(failed)?;
            folders.extend(renamed);
            for text in &placed {
                self.world.written(&text.file, &text.text);
                let digest = digests.get(&text.file.to_string()).map_or("", String::as_str);
                self.sources.written(&text.file, digest)?;
            }
            self.sources.expect(offset, files);
            let names = placed.iter().map(|text| &text.file);
            if let Some(replacement) = self.sources.write_origins(names)? {
                replacement.commit().map_err(failed)?;
            }
        }
        Ok(Placed { token, offset, kept, folders })
    }

    /// What counts of a file, as it stands on disk; `None` when there is none.
    pub(super) fn stored(&self, file: &File) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.sources.read(file)?.bytes)
    }

    /// Puts an admin's version of a file in its place, and reads it as any edit by hand.
    pub(super) fn install(&mut self, file: &File, content: &[u8]) -> Result<PathBuf, StoreError> {
        let path = self.sources.install(file, content)?;
        self.refresh()?;
        Ok(path)
    }

    /// Takes note that the files hold everything up to the snapshot.
    pub(super) fn note_written(&mut self, placed: &Placed) -> Result<(), StoreError> {
        if !self.is_of_this_journal(&placed.token, placed.offset) {
            return Ok(());
        }
        // What an admin's edit kept out of a file is only in the journal.
        let kept = self.unwritten.kept(placed.offset, &placed.kept);
        self.unwritten.written(placed.offset, &kept);
        self.journal.written(placed.offset, kept)?;
        Ok(())
    }

    /// Whether a snapshot up to this byte was taken from the journal as it is: a backup may have
    /// been put in its place since.
    fn is_of_this_journal(&self, token: &str, offset: u64) -> bool {
        self.journal.token() == token && offset <= self.journal.position()
    }

    fn replay(&mut self, lines: impl IntoIterator<Item = (u64, Line)>) {
        for (at, line) in lines {
            match line {
                Line::Batch { changes, .. } => self.replay_batch(&changes, at),
                Line::Writing { offset, files } => self.sources.expect(offset, files),
                Line::Written { offset, kept } => self.unwritten.written(offset, &kept),
            }
        }
    }

    fn replay_batch(&mut self, changes: &[Change], at: u64) {
        for change in changes {
            if let Change::Entry { profile, .. } = change
                && !self.world.is_in_place(change)
            {
                // Another process has seen an edit that this one has not.
                let file = File::Cmdb(profile.clone());
                self.sources.distrust(&file);
                self.unwritten.changed(at, file, change.clone());
                continue;
            }
            self.apply_one(change, at);
        }
    }

    fn apply_one(&mut self, change: &Change, at: u64) {
        if let Some(file) = self.world.apply(change) {
            self.unwritten.changed(at, file, change.clone());
        }
        match change {
            Change::Record { record } => {
                self.unwritten.records.insert(record.id.clone(), at);
            }
            Change::Forget { machine, facts } => {
                self.unwritten.records.insert(machine.clone(), at);
                self.unwritten.facts.remove(machine);
                let forgotten = facts.iter().map(|name| (name.clone(), at));
                self.unwritten.forgotten_facts.extend(forgotten);
            }
            Change::Facts { machine, name, facts } => {
                self.unwritten.forgotten_facts.remove(name);
                let facts = (at, name.clone(), Arc::clone(facts));
                self.unwritten.facts.insert(machine.clone(), facts);
            }
            Change::Count { .. } | Change::Entry { .. } => {}
        }
    }

    /// Fails the machines that have been silent for longer than the lease.
    pub(super) fn expire(&mut self, now: Seconds) {
        if let Some(decision) = self.world.expire(now, self.section.lease.as_secs()) {
            self.settle(decision);
        }
    }

    /// Takes over a decision that nobody waits for: lost, it is made again. What is given to
    /// others because of it is synced with it.
    fn settle(&mut self, decision: Decision) {
        for warning in &decision.warnings {
            warn!("{warning}");
        }
        self.apply(decision.changes, false);
    }
}

/// Name of the journal in the private folder.
const JOURNAL: &str = "journal";

fn open_journal(section: &Section) -> Result<Journal, StoreError> {
    let fresh = super::random_token()?;
    Ok(Journal::open(&section.private_dir().join(JOURNAL), || fresh.clone())?)
}
