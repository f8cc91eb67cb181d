//! Two versions and a disk, compared: what an upgrade will do.
//!
//! Three parties have a say about each path. The new version wins where the rules let it; what
//! the old version had and the new one has not is removed; what neither has belongs to the host
//! and stays. A path that was not as the old version had it is a local edit: it is changed all
//! the same, as the original does, but kept aside and listed.
//!
//! Changes are grouped into [`Unit`]s, the steps that are each carried out by one rename: all of
//! `/usr` is one.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::iter::Peekable;

use serde::{Deserialize, Serialize};

use super::{
    Class, Disk, Entry, Kernel, Kind, Manifest, Refusal, Rules, TreePath, kernel, kernel_of,
};
use crate::units::Name;

/// Names of files without which no program starts.
const LOADERS: [&[u8]; 4] = [b"ld-linux", b"ld-musl-", b"ld64.so.", b"ld.so.1"];
const LIBC: [&[u8]; 2] = [b"libc.so.6", b"libc.musl-"];

/// Links at the top of a merged tree.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Everything that decides what an upgrade does.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The version that the host has. Without it nothing is removed and no edit is noticed.
    pub from: Option<&'a Manifest>,
    /// The version that it is to have.
    pub to: &'a Manifest,
    /// What is on the disk: every path of both that is there, and the names of whatever else lies
    /// in their folders.
    pub disk: &'a Disk,
    /// What is kept.
    pub rules: &'a Rules,
    /// The kernel that runs; several when it is not known which.
    pub running: &'a [Kernel],
}

/// What an upgrade does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradePlan {
    /// The version before.
    pub from: Option<Name>,
    /// The version after.
    pub to: Name,
    /// Every path that changes.
    pub changes: BTreeMap<TreePath, Change>,
    /// The steps, in order. Backwards, in the opposite order, they lead back.
    pub units: Vec<Unit>,
    /// Paths that the new version has otherwise and that the rules keep.
    pub kept: Vec<TreePath>,
    /// Paths of the running kernel that the new version has not: they stay for now.
    pub retained: Vec<TreePath>,
}

/// What becomes of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What is on the disk.
    pub before: Option<Entry>,
    /// What is to be there.
    pub after: Option<Entry>,
    /// What somebody did to it on this host.
    pub local: Option<Local>,
}

/// What somebody did on the host to a path of its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Local {
    /// Changed it, or put it where a version wants something else.
    Edited,
    /// Deleted it.
    Deleted,
}

/// A step that one rename carries out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// The path, with all that lies below it, except for [`UnitKind::Attributes`].
    pub path: TreePath,
    /// What is done.
    pub kind: UnitKind,
}

/// What is done with the path of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitKind {
    /// What was prepared is moved there.
    Add,
    /// What was prepared changes places with what is there.
    Swap,
    /// What is there is moved away.
    Remove,
    /// Owner, mode and attributes of a folder that stays a folder.
    Attributes {
        /// What the folder has.
        before: Box<Entry>,
        /// What it is to have.
        after: Box<Entry>,
    },
}

impl Change {
    /// Whether content must be fetched: nothing on this path of the disk has it.
    pub fn needs_content(&self) -> bool {
        let Some(after) = &self.after else { return false };
        after.file().is_some()
            && !self.before.as_ref().is_some_and(|before| before.same_content(after))
    }
}

impl UpgradePlan {
    /// What must be fetched: one path for each content, however often the tree holds it.
    pub fn fetch(&self) -> BTreeMap<TreePath, u64> {
        let mut seen = BTreeSet::new();
        let wanted = self.changes.iter().filter(|(_, change)| change.needs_content());
        let files =
            wanted.filter_map(|(path, change)| Some((path, change.after.as_ref()?.file()?)));
        files
            .filter(|(_, file)| file.size > 0 && seen.insert(file.digest))
            .map(|(path, file)| (path.clone(), file.size))
            .collect()
    }

    /// What a running system only takes up when it is started again.
    pub fn reboot_hints(&self) -> Vec<&TreePath> {
        let matters = |path: &&TreePath| {
            kernel::is_image(path)
                || LIBC.iter().chain(&LOADERS).any(|start| path.name().starts_with(start))
                || path.as_bytes() == b"usr/lib/systemd/systemd"
        };
        self.changes.keys().filter(matters).collect()
    }
}

/// Compares. All reasons against are told at once.
pub fn plan(inputs: &Inputs<'_>) -> Result<UpgradePlan, Vec<Refusal>> {
    let mut draft = Draft { inputs: *inputs, changes: BTreeMap::new(), kept: Vec::new() };
    draft.compare();
    let mut refusals = draft.displaced();
    draft.keep_inhabited_folders();
    refusals.extend(draft.programs());
    refusals.extend(draft.unmerged());
    let (retained, refused) = draft.kernels();
    refusals.extend(refused);
    draft.keep_inhabited_folders();
    if !refusals.is_empty() {
        return Err(refusals);
    }
    Ok(UpgradePlan {
        from: inputs.from.map(|manifest| manifest.version.clone()),
        to: inputs.to.version.clone(),
        units: units(&draft.changes),
        changes: draft.changes,
        kept: draft.kept,
        retained,
    })
}

struct Draft<'a> {
    inputs: Inputs<'a>,
    changes: BTreeMap<TreePath, Change>,
    kept: Vec<TreePath>,
}

impl Draft<'_> {
    /// Path by path, folders before what they hold.
    fn compare(&mut self) {
        let Inputs { from, to, disk, rules, .. } = self.inputs;
        let mut classifier = rules.classifier();
        let nothing = Disk::new();
        let old_entries = from.map_or(&nothing, |manifest| &manifest.entries);
        for (path, old, new, here) in together(old_entries, &to.entries, disk) {
            let folder = new.or(here).or(old).is_some_and(Entry::is_folder);
            let as_wanted = match (new, here) {
                (Some(new), Some(here)) => new.same(here),
                (None, None) => true,
                _ => false,
            };
            if as_wanted {
                continue;
            }
            match classifier.class(path, folder) {
                Class::Sync => {
                    let local = old.and_then(|old| match here {
                        None => Some(Local::Deleted),
                        Some(here) => (!old.same(here)).then_some(Local::Edited),
                    });
                    // What the new version brings to a place that was the host's.
                    let claimed = from.is_some() && old.is_none() && here.is_some();
                    let local = local.or(claimed.then_some(Local::Edited));
                    self.put(path, here, new, local);
                }
                Class::AddOnly if here.is_none() && new.is_some() && self.has_folder(path) => {
                    self.put(path, None, new, None);
                }
                Class::AddOnly | Class::Keep => {
                    let same_in_both = matches!((old, new), (Some(a), Some(b)) if a.same(b));
                    if !same_in_both {
                        self.kept.push(path.clone());
                    }
                }
            }
        }
    }

    fn put(
        &mut self,
        path: &TreePath,
        here: Option<&Entry>,
        new: Option<&Entry>,
        local: Option<Local>,
    ) {
        let change = Change { before: here.cloned(), after: new.cloned(), local };
        self.changes.insert(path.clone(), change);
    }

    /// Whether the path will lie in a folder.
    fn has_folder(&self, path: &TreePath) -> bool {
        let Some(parent) = path.parent() else { return true };
        let will_be = match self.changes.get(&parent) {
            Some(change) => change.after.as_ref(),
            None => self.inputs.disk.get(&parent),
        };
        will_be.is_some_and(Entry::is_folder)
    }

    /// What lies in folders that become something else goes with them, and is kept aside.
    fn displaced(&mut self) -> Vec<Refusal> {
        let mut classifier = self.inputs.rules.classifier();
        let replaced: Vec<TreePath> = self
            .changes
            .iter()
            .filter(|(_, change)| change.before.as_ref().is_some_and(Entry::is_folder))
            .filter(|(_, change)| change.after.as_ref().is_some_and(|after| !after.is_folder()))
            .map(|(path, _)| path.clone())
            .collect();
        let mut refusals = Vec::new();
        for path in replaced {
            let (start, end) = path.span();
            for (inside, entry) in self.inputs.disk.range(start..end) {
                if classifier.class(inside, entry.is_folder()) != Class::Sync {
                    refusals
                        .push(Refusal::Protected { path: path.clone(), inside: inside.clone() });
                } else if !self.changes.contains_key(inside) {
                    let local = Some(Local::Edited);
                    let change = Change { before: Some(entry.clone()), after: None, local };
                    self.changes.insert(inside.clone(), change);
                }
            }
        }
        refusals
    }

    /// A folder is only removed when nothing stays in it.
    fn keep_inhabited_folders(&mut self) {
        let removed = |change: &Change| change.after.is_none();
        let folders: Vec<TreePath> = self
            .changes
            .iter()
            .filter(|(_, change)| {
                removed(change) && change.before.as_ref().is_some_and(Entry::is_folder)
            })
            .map(|(path, _)| path.clone())
            .collect();
        for path in folders.into_iter().rev() {
            let (start, end) = path.span();
            let stays = |inside: &TreePath| !self.changes.get(inside).is_some_and(removed);
            if self.inputs.disk.range(start..end).any(|(inside, _)| stays(inside)) {
                self.changes.remove(&path);
            }
        }
    }

    fn removed(&self) -> impl Iterator<Item = &TreePath> {
        let gone = |change: &Change| {
            !matches!(
                change.after.as_ref().map(|after| &after.kind),
                Some(Kind::File(_) | Kind::Link(_))
            )
        };
        self.changes.iter().filter(move |(_, change)| gone(change)).map(|(path, _)| path)
    }

    fn programs(&self) -> Vec<Refusal> {
        let named = |starts: &[&[u8]]| -> Vec<TreePath> {
            let fits = |path: &&TreePath| {
                let there = self.inputs.disk.get(*path).is_some_and(|entry| !entry.is_folder());
                there && starts.iter().any(|start| path.name().starts_with(start))
            };
            self.removed().filter(fits).cloned().collect()
        };
        let (loaders, libc) = (named(&LOADERS), named(&LIBC));
        let mut refusals = Vec::new();
        if !loaders.is_empty() {
            refusals.push(Refusal::Loader(loaders));
        }
        if !libc.is_empty() {
            refusals.push(Refusal::Libc(libc));
        }
        refusals
    }

    fn unmerged(&self) -> Option<Refusal> {
        let folder = |tree: &Disk, path: &TreePath| tree.get(path).is_some_and(Entry::is_folder);
        let names = MERGED.iter().filter_map(|name| name.parse().ok());
        let wrong: Vec<TreePath> = names
            .filter(|path| {
                let lost = self.changes.get(path).is_some_and(|change| change.before.is_some());
                lost || folder(self.inputs.disk, path) || folder(&self.inputs.to.entries, path)
            })
            .collect();
        (!wrong.is_empty()).then_some(Refusal::NotMerged(wrong))
    }

    /// Takes the removal of a running kernel back until another one runs; without another one it
    /// is refused.
    fn kernels(&mut self) -> (Vec<TreePath>, Vec<Refusal>) {
        let there = kernel::bootable(&self.inputs.to.entries);
        let (mut retained, mut refusals) = (Vec::new(), Vec::new());
        for running in self.inputs.running {
            let paths: Vec<TreePath> = self
                .changes
                .iter()
                .filter(|(_, change)| change.before.is_some() && change.after.is_none())
                .map(|(path, _)| path)
                .filter(|path| kernel_of(path).as_ref() == Some(running))
                .cloned()
                .collect();
            if paths.is_empty() {
                continue;
            }
            if there.iter().any(|other| other != running) {
                for path in &paths {
                    self.changes.remove(path);
                }
                retained.extend(paths);
            } else {
                refusals.push(Refusal::Kernel { release: running.0.clone(), paths });
            }
        }
        (retained, refusals)
    }
}

/// A path with what two manifests and the disk have there.
type Three<'a> = (&'a TreePath, Option<&'a Entry>, Option<&'a Entry>, Option<&'a Entry>);

/// Every path of two manifests, in order, by one pass over all three.
fn together<'a>(old: &'a Disk, new: &'a Disk, disk: &'a Disk) -> impl Iterator<Item = Three<'a>> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut disk = disk.iter().peekable();
    std::iter::from_fn(move || {
        let next = [old.peek(), new.peek()].into_iter().flatten().map(|(path, _)| *path).min()?;
        while disk.next_if(|(path, _)| *path < next).is_some() {}
        let at = |(path, _): &(&TreePath, &Entry)| *path == next;
        let take = |all: &mut Peekable<btree_map::Iter<'a, TreePath, Entry>>| {
            all.next_if(at).map(|(_, entry)| entry)
        };
        Some((next, take(&mut old), take(&mut new), take(&mut disk)))
    })
}

/// Groups changes into steps: additions to `/boot` first, then all of `/usr` at once, then the
/// rest, removals last.
fn units(changes: &BTreeMap<TreePath, Change>) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut covered: BTreeSet<TreePath> = BTreeSet::new();
    for (path, change) in changes {
        if path.ancestors().any(|folder| covered.contains(&folder)) {
            continue;
        }
        let kind = if path.as_bytes() == b"usr" || path.as_bytes().starts_with(b"usr/") {
            match (path.as_bytes(), change.before.is_some()) {
                (b"usr", false) => UnitKind::Add,
                _ => UnitKind::Swap,
            }
        } else {
            match (&change.before, &change.after) {
                (None, None) => continue,
                (None, Some(_)) => UnitKind::Add,
                (Some(_), None) => UnitKind::Remove,
                (Some(before), Some(after)) if before.is_folder() && after.is_folder() => {
                    UnitKind::Attributes {
                        before: Box::new(before.clone()),
                        after: Box::new(after.clone()),
                    }
                }
                (Some(_), Some(_)) => UnitKind::Swap,
            }
        };
        let in_usr = path.as_bytes().starts_with(b"usr/");
        let path =
            if in_usr { path.ancestors().last().unwrap_or(path.clone()) } else { path.clone() };
        if !matches!(kind, UnitKind::Attributes { .. }) {
            covered.insert(path.clone());
        }
        units.push(Unit { path, kind });
    }
    units.sort_by_key(|unit| match (&unit.kind, unit.path.as_bytes()) {
        (UnitKind::Add, path) if path.starts_with(b"boot") => 0,
        (_, b"usr") => 1,
        (UnitKind::Remove, _) => 3,
        _ => 2,
    });
    units
}

#[cfg(test)]
mod tests;
