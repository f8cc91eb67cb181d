//! Looks for contradictions in a plan. The planner makes none; the agent looks all the same
//! before the first step, because a plan may have come from another version or another hand.
//!
//! A lint reads the plan alone. Whether it fits the machine is for the agent to compare.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::configure::TableKind;
use crate::facts::Firmware;
use crate::plan::build::geometry;
use crate::plan::{
    Action, BootTarget, Command, FORMAT, File, Filesystem, Partition, PartitionKind, Plan,
    PlannedDisk, Step, Table, partition_device,
};
use crate::units::Bytes;

/// How bad a note is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Works, and deserves a look.
    Warning,
    /// The plan must not be carried out.
    Error,
}

/// What a lint found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How bad it is.
    pub severity: Severity,
    /// The step it is about; `None`: the plan as a whole.
    pub step: Option<String>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        match &self.step {
            Some(step) => write!(f, "{severity}: step `{step}`: {}", self.what),
            None => write!(f, "{severity}: {}", self.what),
        }
    }
}

/// Everything that is wrong with a plan; empty for a good one.
pub fn lint(plan: &Plan) -> Vec<Note> {
    let mut linter = Linter { plan, notes: Vec::new(), devices: BTreeMap::new() };
    linter.whole_plan();
    let mut seen = Seen::default();
    for step in &plan.steps {
        linter.step(step, &mut seen);
    }
    linter.ending(&seen);
    linter.notes
}

/// The errors among the notes.
pub fn errors(notes: &[Note]) -> impl Iterator<Item = &Note> {
    notes.iter().filter(|note| note.severity == Severity::Error)
}

struct Linter<'a> {
    plan: &'a Plan,
    notes: Vec<Note>,
    /// What every device node is for, once its table is written.
    devices: BTreeMap<String, PartitionKind>,
}

/// What the steps so far have done.
#[derive(Default)]
struct Seen<'a> {
    ids: BTreeSet<&'a str>,
    cleared: BTreeSet<&'a str>,
    tables: BTreeSet<&'a str>,
    formatted: BTreeMap<&'a str, &'a Filesystem>,
    mounted: BTreeMap<&'a str, &'a str>,
    identifiers: BTreeSet<String>,
    trees: usize,
    records: usize,
    boot_loaders: usize,
    last: Option<&'a Action>,
}

impl<'a> Linter<'a> {
    fn note(&mut self, severity: Severity, step: Option<&Step>, what: impl Into<String>) {
        let step = step.map(|step| step.id.clone());
        self.notes.push(Note { severity, step, what: what.into() });
    }

    fn error(&mut self, step: &Step, what: impl Into<String>) {
        self.note(Severity::Error, Some(step), what);
    }

    fn disk(&self, path: &str) -> Option<&'a PlannedDisk> {
        self.plan.disks.iter().find(|disk| disk.path == path)
    }

    fn whole_plan(&mut self) {
        if self.plan.format != FORMAT {
            let what = format!("format {} is not {FORMAT}", self.plan.format);
            self.note(Severity::Error, None, what);
        }
        let mut paths = BTreeSet::new();
        for disk in &self.plan.disks {
            if !paths.insert(&disk.path) {
                let what = format!("the disk {} is listed twice", disk.path);
                self.note(Severity::Error, None, what);
            }
            if !disk.path.starts_with("/dev/") || disk.path.contains("..") {
                let what = format!("`{}` is not the path of a disk", disk.path);
                self.note(Severity::Error, None, what);
            }
        }
    }

    fn step(&mut self, step: &'a Step, seen: &mut Seen<'a>) {
        if !seen.ids.insert(&step.id) {
            self.error(step, "two steps have this name");
        }
        if step.deadline_seconds == 0 {
            self.error(step, "a deadline of 0 seconds cannot be met");
        }
        if matches!(seen.last, Some(Action::InstallBootLoader { .. })) {
            self.error(step, "a step follows the boot loader, which must be the last");
        }
        match &step.action {
            Action::ClearDisk { disk } => self.clear(step, disk, seen),
            Action::WriteTable { disk, table, partitions } => {
                self.table(step, disk, table, partitions, seen);
            }
            Action::MakeFilesystem { device, filesystem, .. } => {
                self.filesystem(step, device, filesystem, seen);
            }
            Action::Mount { device, path, filesystem, .. } => {
                self.mount(step, device, path, filesystem, seen);
            }
            Action::FetchTree { role } => self.tree(step, *role == self.plan.role, seen),
            Action::WriteFile { file } => self.file(step, file, seen),
            Action::RecordInstallation => {
                seen.records += 1;
                self.after_tree(step, seen);
            }
            Action::Run { command, chroot, .. } => self.run(step, command, *chroot, seen),
            Action::InstallBootLoader { target } => self.boot_loader(step, target, seen),
        }
        seen.last = Some(&step.action);
    }

    fn clear(&mut self, step: &Step, disk: &'a str, seen: &mut Seen<'a>) {
        if self.disk(disk).is_none() {
            self.error(step, format!("{disk} is not a disk of the plan and must not be touched"));
        }
        if !seen.cleared.insert(disk) || seen.tables.contains(disk) {
            self.error(step, format!("{disk} would be cleared again"));
        }
    }

    fn table(
        &mut self,
        step: &Step,
        disk: &'a str,
        table: &Table,
        partitions: &[Partition],
        seen: &mut Seen<'a>,
    ) {
        let Some(planned) = self.disk(disk) else {
            let what = format!("{disk} is not a disk of the plan and must not be touched");
            return self.error(step, what);
        };
        if !seen.cleared.contains(disk) {
            self.error(step, format!("{disk} gets a table before it is cleared"));
        }
        if !seen.tables.insert(disk) {
            self.error(step, format!("{disk} gets two tables"));
        }
        let kind = match table {
            Table::Gpt { .. } => TableKind::Gpt,
            Table::Msdos { .. } => TableKind::Msdos,
        };
        if kind == TableKind::Msdos && partitions.len() > 4 {
            self.error(step, "an MBR holds four partitions");
        }
        match partitions.iter().filter(|partition| partition.active).count() {
            0 => {}
            1 if kind == TableKind::Msdos => {}
            1 => self.error(step, "only an MBR has an active partition"),
            _ => self.error(step, "two partitions are marked active"),
        }
        self.geometry(step, planned, kind, partitions);
        for partition in partitions {
            self.identifier(step, partition.id.as_ref().map(|id| id.as_str()), seen);
            self.devices.insert(partition_device(disk, partition.number), partition.kind);
        }
    }

    /// Partitions are numbered from 1 and lie on whole MiB, one after the other, within the disk.
    fn geometry(
        &mut self,
        step: &Step,
        disk: &PlannedDisk,
        kind: TableKind,
        partitions: &[Partition],
    ) {
        let sector = disk.sector_size;
        let (first, _) = geometry::usable(kind, disk.size.bytes(), sector);
        let end = geometry::end(kind, disk.size.bytes(), sector);
        let mut free = 0;
        for (number, partition) in (1..).zip(partitions) {
            let Some(next) = partition.start.checked_add(partition.sectors) else {
                return self.error(step, format!("partition {number} is larger than any disk"));
            };
            if partition.number != number {
                let what = format!("partition {} should be number {number}", partition.number);
                self.error(step, what);
            }
            if partition.sectors == 0 {
                self.error(step, format!("partition {number} is empty"));
            }
            if partition.start < free {
                self.error(step, format!("partition {number} overlaps the one before it"));
            } else if partition.start < first {
                self.error(step, format!("partition {number} begins within the first MiB"));
            }
            if next > end {
                self.error(step, format!("partition {number} ends beyond {}", disk.path));
            }
            if partition.start % Bytes::MIB.sectors(sector) != 0 {
                let what = format!("partition {number} does not begin on a whole MiB");
                self.note(Severity::Warning, Some(step), what);
            }
            free = next;
        }
    }

    fn identifier(&mut self, step: &Step, id: Option<&str>, seen: &mut Seen<'_>) {
        if let Some(id) = id
            && !seen.identifiers.insert(id.to_owned())
        {
            self.error(step, format!("the identifier {id} is used twice"));
        }
    }

    fn filesystem(
        &mut self,
        step: &Step,
        device: &'a str,
        filesystem: &'a Filesystem,
        seen: &mut Seen<'a>,
    ) {
        match (self.devices.get(device), filesystem) {
            (None, _) => self.error(step, format!("{device} is not a partition made before")),
            (Some(PartitionKind::BiosBoot | PartitionKind::Raid | PartitionKind::Lvm), _) => {
                self.error(step, format!("{device} is not meant for a file system"));
            }
            (Some(PartitionKind::Esp), filesystem) if filesystem.kind() != "vfat" => {
                self.error(step, "an EFI system partition must be FAT");
            }
            (Some(_), _) => {}
        }
        if seen.formatted.insert(device, filesystem).is_some() {
            self.error(step, format!("{device} is formatted twice"));
        }
        self.identifier(step, Some(filesystem.id()), seen);
    }

    fn mount(
        &mut self,
        step: &Step,
        device: &'a str,
        path: &'a str,
        filesystem: &str,
        seen: &mut Seen<'a>,
    ) {
        self.path(step, path);
        match seen.formatted.get(device) {
            None => self.error(step, format!("{device} holds no file system yet")),
            Some(made) if made.kind() != filesystem => {
                let what =
                    format!("{device} is {} and would be mounted as {filesystem}", made.kind());
                self.error(step, what);
            }
            Some(made) if path == "/" && made.id() != self.plan.root.as_str() => {
                self.error(step, "this is not the root file system that the plan names");
            }
            Some(_) => {}
        }
        if seen.trees > 0 {
            self.error(step, "a file system is mounted after the tree was fetched");
        }
        if path != "/" && !seen.mounted.contains_key("/") {
            self.error(step, "a file system is mounted before the root file system");
        }
        let inside = format!("{}/", path.trim_end_matches('/'));
        if path != "/" && seen.mounted.keys().any(|mounted| mounted.starts_with(&inside)) {
            self.error(step, format!("{path} would hide what is mounted below it"));
        }
        if seen.mounted.insert(path, device).is_some() {
            self.error(step, format!("two file systems are mounted at {path}"));
        }
    }

    fn tree(&mut self, step: &Step, same_role: bool, seen: &mut Seen<'_>) {
        seen.trees += 1;
        if !seen.mounted.contains_key("/") {
            self.error(step, "the tree is fetched before the root file system is mounted");
        }
        if seen.trees > 1 {
            self.error(step, "the tree is fetched twice");
        }
        if !same_role {
            self.error(step, "this is not the role that the plan names");
        }
    }

    fn file(&mut self, step: &Step, file: &File, seen: &Seen<'_>) {
        self.path(step, &file.path);
        self.after_tree(step, seen);
        if file.mode > 0o7777 {
            self.error(step, format!("{:o} is not a mode", file.mode));
        }
        let boot_arguments = file.path.starts_with("/etc/default/grub");
        if boot_arguments && self.secret_in(&file.content) {
            let what = "a secret among the kernel arguments: every user can read /proc/cmdline";
            self.error(step, what);
        } else if file.mode & 0o004 != 0 && self.secret_in(&file.content) {
            let what = format!("{} holds a secret and everyone can read it", file.path);
            self.note(Severity::Warning, Some(step), what);
        }
    }

    fn run(&mut self, step: &Step, command: &Command, chroot: bool, seen: &Seen<'_>) {
        if chroot {
            self.after_tree(step, seen);
        }
        match command {
            Command::Arguments(arguments) if arguments.iter().any(|text| self.secret_in(text)) => {
                let what = "a secret among the arguments: use the environment";
                self.note(Severity::Warning, Some(step), what);
            }
            Command::Arguments(arguments) if arguments.is_empty() => {
                self.error(step, "there is no program to run");
            }
            Command::Script { content, .. } if !content.starts_with("#!") => {
                self.error(step, "a script without `#!` cannot be started");
            }
            Command::Arguments(_) | Command::Script { .. } => {}
        }
    }

    fn boot_loader(&mut self, step: &Step, target: &BootTarget, seen: &mut Seen<'_>) {
        seen.boot_loaders += 1;
        self.after_tree(step, seen);
        match (target, self.plan.firmware) {
            (BootTarget::Bios { disk }, Firmware::Bios) => {
                if self.disk(disk).is_none() {
                    let what = format!("{disk} is not a disk of the plan and must not be touched");
                    self.error(step, what);
                } else if !seen.tables.contains(disk.as_str()) {
                    self.error(step, format!("{disk} has no partition table"));
                }
            }
            (BootTarget::Uefi { esp, .. }, Firmware::Uefi) => {
                let device = seen.mounted.get(esp.as_str()).copied();
                let kind = device.and_then(|device| self.devices.get(device));
                if kind != Some(&PartitionKind::Esp) {
                    self.error(step, format!("no EFI system partition is mounted at {esp}"));
                }
            }
            _ => self.error(step, "the boot loader is made for another firmware"),
        }
    }

    fn ending(&mut self, seen: &Seen<'_>) {
        let mut missing = |absent: bool, what: &str| {
            if absent {
                self.note(Severity::Error, None, what);
            }
        };
        missing(!seen.mounted.contains_key("/"), "no file system is mounted at `/`");
        missing(seen.trees == 0, "no step fetches the tree");
        missing(seen.records == 0, "no step records the installation");
        missing(seen.boot_loaders == 0, "no step installs the boot loader");
        for disk in &self.plan.disks {
            if !seen.tables.contains(disk.path.as_str()) {
                let what = format!("the disk {} is listed and gets no partition table", disk.path);
                self.note(Severity::Warning, None, what);
            }
        }
    }

    fn after_tree(&mut self, step: &Step, seen: &Seen<'_>) {
        if seen.trees == 0 {
            self.error(step, "it works on the tree, which is not there yet");
        }
    }

    fn path(&mut self, step: &Step, path: &str) {
        let plain = path == "/"
            || path.strip_prefix('/').is_some_and(|relative| {
                relative.split('/').all(|part| !["", ".", ".."].contains(&part))
            });
        if !plain {
            self.error(step, format!("`{path}` is not a plain absolute path"));
        }
    }

    fn secret_in(&self, text: &str) -> bool {
        self.plan.secrets.iter().any(|secret| !secret.is_empty() && text.contains(secret.as_str()))
    }
}

#[cfg(test)]
mod tests;
