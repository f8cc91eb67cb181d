//! `edeploy upgrade`: everything in its order, up to the moment when the journal says *ready*.
//! Until then an error leaves nothing behind; from then on see [`super::recover`].

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use specs::plan::Role;
use specs::units::Name;
use specs::upgrade::{Digest, Entry, Kind, Local, Manifest, TreePath, UnitKind};

use super::boot_menu;
use super::commands::{Host, Lock, Progress};
use super::error::{Tried, UpgradeError};
use super::fetch::is_worth_another_try;
use super::identity::Identity;
use super::inquiry::Inquiry;
use super::journal::{Journal, Record};
use super::kept;
use super::layout::{Area, Prepared, PreparedUnit, fetched, inode, remove_all, top_of};
use super::recheck::{Seen, recheck};
use super::recover::{Resumed, arm, disarm};
use super::staging::Builder;
use crate::tree::{join, read_xattrs};
use crate::world::Runner;

/// What an upgrade came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The version that the host has.
    pub version: Name,
    /// The version that it had.
    pub from: Name,
    /// How many paths changed; none when the host had the version already.
    pub changed: usize,
    /// `post` asks for it.
    pub reboot: bool,
    /// Local edits that were replaced, and the folder that keeps them.
    pub kept_aside: Vec<TreePath>,
    /// That folder.
    pub kept_in: Option<PathBuf>,
}

impl<R: Runner, P: Progress> Host<'_, R, P> {
    /// Upgrades the host. What an earlier run left unfinished is finished first.
    pub fn upgrade(&mut self, lock: &Lock, to: &Name) -> Result<Outcome, UpgradeError> {
        let resumed = self.resume(lock, false)?;
        let identity = Identity::read(&self.root)?;
        if identity.version == *to {
            let reboot = matches!(resumed, Resumed::Finished { reboot: true, .. });
            let (version, from) = (to.clone(), to.clone());
            let (kept_aside, kept_in) = (Vec::new(), None);
            return Ok(Outcome { version, from, changed: 0, reboot, kept_aside, kept_in });
        }
        let area = Area::create(&self.root)?;
        match self.upgrade_in(lock, to, &area) {
            Err(error @ UpgradeError::Stopped(_)) => Err(error),
            // Not ready yet: nothing of the host has changed, but for what `pre` stopped.
            Err(error) if !area.file("journal").exists() => {
                if let Err(error) = self.start(&area.stopped()) {
                    tracing::warn!(error = %crate::chain(&error), "a service stays stopped");
                }
                disarm(&self.root)?;
                area.remove()?;
                if !is_worth_another_try(&error) {
                    remove_all(&fetched(self.root.folder()))?;
                }
                Err(error)
            }
            done => done,
        }
    }

    fn upgrade_in(&mut self, lock: &Lock, to: &Name, area: &Area) -> Result<Outcome, UpgradeError> {
        let (mut inquiry, fetched) = match self.gather(to, area) {
            // Somebody replaced the tree meanwhile: the new one may be whole.
            Err(UpgradeError::Damaged { .. }) => self.gather(to, area)?,
            gathered => gathered?,
        };
        self.failpoint.pass()?;
        let (prepared, seen) = self.prepare(&mut inquiry, fetched, area)?;
        self.progress.stage("write the new version to the disk");
        area.write_prepared(&prepared)?;
        area.sync(&prepared)?;
        recheck(self.root.folder(), area, &prepared, &seen)?;
        let mut journal = Journal::open(&area.file("journal.new"))?;
        journal.append(Record::Ready, &mut self.failpoint)?;
        // The journal appears whole, under its name, or not at all.
        let (from, name) = (area.file("journal.new"), area.file("journal"));
        fs::rename(&from, &name).tried("rename", &from)?;
        let folder = fs::File::open(area.folder()).tried("open", &area.folder())?;
        folder.sync_all().tried("sync", &area.folder())?;
        self.failpoint.pass()?;
        let reboot = self.finish(lock, area, &prepared, &mut journal, false)?;
        let kept = kept::folder(self.root.folder(), area.number, prepared.from.as_str());
        Ok(Outcome {
            version: prepared.to,
            from: prepared.from,
            changed: inquiry.plan.changes.len(),
            reboot: reboot.unwrap_or(false),
            kept_in: (!prepared.kept_aside.is_empty()).then_some(kept),
            kept_aside: prepared.kept_aside,
        })
    }

    /// Finds out what changes and fetches it.
    fn gather(
        &mut self,
        to: &Name,
        area: &Area,
    ) -> Result<(Inquiry, BTreeMap<Digest, PathBuf>), UpgradeError> {
        let mut inquiry = self.inquire(to, &area.folder())?;
        self.preflight(&inquiry)?;
        self.failpoint.pass()?;
        self.progress.stage("fetch what changes");
        let (origin, role) = (inquiry.identity.origin()?, inquiry.identity.role());
        let there = Role { name: role.name, version: to.clone() };
        let places = self.fetch_content(&origin, &there, &inquiry.plan, area)?;
        if learn_attributes(&mut inquiry, &places)? {
            // What came is no longer all that is known.
            remove_all(&area.file("manifest"))?;
        }
        Ok((inquiry, places))
    }

    /// Runs `pre`, keeps local edits aside and builds everything.
    fn prepare(
        &mut self,
        inquiry: &mut Inquiry,
        fetched: BTreeMap<Digest, PathBuf>,
        area: &Area,
    ) -> Result<(Prepared, Seen), UpgradeError> {
        let Inquiry { identity, to, plan, .. } = &*inquiry;
        let root = self.root.folder().to_owned();
        let edited = |local| local == Some(Local::Edited);
        let own = |path: &TreePath, change: &specs::upgrade::Change| {
            let folder = |entry: &Option<Entry>| entry.as_ref().is_some_and(Entry::is_folder);
            // Of a folder of the role only owner and mode were edited.
            edited(change.local) && !(folder(&change.before) && to.entries.contains_key(path))
        };
        let kept_aside: Vec<TreePath> = plan
            .changes
            .iter()
            .filter(|(path, change)| own(path, change))
            .map(|(path, _)| path.clone())
            .collect();
        let mut prepared = Prepared {
            role: identity.role.clone(),
            from: identity.version.clone(),
            to: to.version.clone(),
            units: Vec::new(),
            retained: plan.retained.clone(),
            kept_aside,
        };
        self.write_manifests(identity, to, area)?;
        boot_menu::keep(&self.root, area)?;
        self.run_pre(area, &prepared)?;
        self.failpoint.pass()?;
        self.progress.stage("build the new version beside the old");
        let kept = kept::folder(&root, area.number, prepared.from.as_str());
        prepared.kept_aside = kept::keep_aside(&root, &prepared.kept_aside, &kept, |_| None)?;
        let mut builder = Builder::new(&root, plan, fetched);
        for (position, unit) in plan.units.iter().enumerate() {
            let top = top_of(&root, &unit.path)?;
            let parked = area.parked(position, &top);
            if let Some(folder) = parked.parent() {
                let mut builder = fs::DirBuilder::new();
                builder
                    .recursive(true)
                    .mode(0o700)
                    .create(folder)
                    .tried("make the folder", folder)?;
            }
            if matches!(unit.kind, UnitKind::Add | UnitKind::Swap) {
                builder.build(&unit.path, &parked)?;
            }
            let old = inode(&join(&root, &unit.path))?;
            prepared.units.push(PreparedUnit {
                unit: unit.clone(),
                top,
                new: inode(&parked)?,
                old,
            });
        }
        if let Some(program) = &self.program {
            arm(&self.root, program)?;
        }
        Ok((prepared, builder.into_seen()))
    }

    /// Runs `pre` and remembers which services it stopped.
    fn run_pre(&mut self, area: &Area, prepared: &Prepared) -> Result<(), UpgradeError> {
        let before = self.running_services()?;
        let ran = self.run_script("pre", area, prepared).map_err(UpgradeError::Pre);
        let after = self.running_services()?;
        area.write_stopped(before.difference(&after))?;
        ran.map(drop)
    }

    fn write_manifests(
        &self,
        identity: &Identity,
        to: &Manifest,
        area: &Area,
    ) -> Result<(), UpgradeError> {
        let (came, new) = (area.file("manifest"), area.file("manifest.new"));
        if came.exists() {
            fs::rename(&came, &new).tried("rename", &came)?;
        } else {
            fs::write(&new, to.to_text()).tried("write", &new)?;
        }
        let own = area.file("manifest.own");
        if !self.keeps_manifest(&identity.version) && own.exists() {
            fs::copy(&own, area.file("manifest.old")).tried("copy", &own)?;
        }
        Ok(())
    }
}

/// A listing tells no extended attributes: those of what was fetched are taken as they came.
/// Tells whether there were any to learn.
fn learn_attributes(
    inquiry: &mut Inquiry,
    fetched: &BTreeMap<Digest, PathBuf>,
) -> Result<bool, UpgradeError> {
    let mut learned = false;
    for (path, change) in &mut inquiry.plan.changes {
        let Some(after) = &mut change.after else { continue };
        let Kind::File(file) = &after.kind else { continue };
        if after.xattrs.is_none()
            && let Some(place) = fetched.get(&file.digest)
        {
            after.xattrs = Some(read_xattrs(place).tried("read the attributes of", place)?);
            inquiry.to.entries.insert(path.clone(), after.clone());
            learned = true;
        }
    }
    Ok(learned)
}
