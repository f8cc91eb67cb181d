//! Whether this host's file systems allow an upgrade: everything that can be known before the
//! first byte is fetched, all findings at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatVfsMountFlags, StatxAttributes, StatxFlags, statvfs, statx};
use specs::upgrade::{Disk, UnitKind, UpgradePlan};

use super::commands::{Host, Progress};
use super::error::{Tried, UpgradeError};
use super::inquiry::{Inquiry, Needs};
use super::layout::{fetched, top_of};
use crate::tree::{join, parallel};
use crate::world::Runner;

/// What a folder, or a file's last block, takes.
const BLOCK: u64 = 4096;

/// Room for journal, lists and what the file system keeps for itself.
const MARGIN: u64 = 1 << 20;

impl<R: Runner, P: Progress> Host<'_, R, P> {
    /// What the plan takes of each file system.
    pub(super) fn needs(
        &self,
        plan: &UpgradePlan,
        disk: &Disk,
    ) -> Result<Vec<Needs>, UpgradeError> {
        let root = self.root.folder();
        let mut sums: BTreeMap<PathBuf, (u64, u64)> = BTreeMap::new();
        let mut add = |top: PathBuf, bytes: u64| {
            let sum = sums.entry(top).or_insert((MARGIN, 16));
            (sum.0, sum.1) = (sum.0 + bytes, sum.1 + 1);
        };
        let fetched = fetched(root);
        for (path, size) in plan.fetch() {
            let there = fs::symlink_metadata(join(&fetched, &path));
            if !there.is_ok_and(|found| found.len() == size) {
                add(PathBuf::new(), size.next_multiple_of(BLOCK));
            }
        }
        for unit in &plan.units {
            let top = top_of(root, &unit.path)?;
            let (start, end) = unit.path.span();
            let below =
                plan.changes.range(start..end).chain(plan.changes.get_key_value(&unit.path));
            for (_, change) in below {
                let Some(after) = &change.after else { continue };
                let size = after.file().map_or(BLOCK, |file| file.size.next_multiple_of(BLOCK));
                // What was fetched to the same file system is moved, everything else is made.
                let moved = top.as_os_str().is_empty() && change.needs_content();
                add(top.clone(), if moved { 0 } else { size });
            }
            if unit.path.as_bytes() == b"usr" {
                let (start, end) = unit.path.span();
                let folders = disk.range(start..end).filter(|(_, entry)| entry.is_folder());
                folders.for_each(|_| add(top.clone(), BLOCK));
            }
        }
        sums.into_iter()
            .map(|(top, (bytes, inodes))| {
                let folder = root.join(&top);
                let free = statvfs(&folder).tried("look at the file system of", &folder)?;
                Ok(Needs {
                    top,
                    bytes,
                    inodes,
                    free_bytes: free.f_bavail.saturating_mul(free.f_frsize),
                    free_inodes: (free.f_files > 0).then_some(free.f_favail),
                })
            })
            .collect()
    }

    /// Refuses what could only fail later.
    pub(super) fn preflight(&self, inquiry: &Inquiry) -> Result<(), UpgradeError> {
        let plan = &inquiry.plan;
        let mut findings = Vec::new();
        for need in inquiry.needs.iter().filter(|need| !need.are_met()) {
            let inodes = need.free_inodes.unwrap_or(u64::MAX);
            findings.push(format!(
                "the file system of `/{}` has {} and {inodes} inodes free, the upgrade needs {} and {}",
                need.top.display(),
                specs::units::Bytes(need.free_bytes),
                specs::units::Bytes(need.bytes),
                need.inodes,
            ));
        }
        findings.extend(self.unwritable(plan)?);
        findings.extend(self.mounted_below(plan)?);
        findings.extend(self.immutable(plan)?);
        if findings.is_empty() { Ok(()) } else { Err(UpgradeError::Unfit(findings)) }
    }

    fn unwritable(&self, plan: &UpgradePlan) -> Result<Vec<String>, UpgradeError> {
        let mut findings = Vec::new();
        for unit in &plan.units {
            let live = join(self.root.folder(), &unit.path);
            let existing = live.ancestors().find(|path| path.exists());
            let Some(existing) = existing else { continue };
            let system = statvfs(existing).tried("look at the file system of", existing)?;
            if system.f_flag.contains(StatVfsMountFlags::RDONLY) {
                findings.push(format!("`/{}` is on a file system mounted read-only", unit.path));
            }
        }
        Ok(findings)
    }

    /// A folder that changes its place takes along what is mounted in it.
    fn mounted_below(&self, plan: &UpgradePlan) -> Result<Vec<String>, UpgradeError> {
        let root = self.root.folder();
        let root = root.canonicalize().tried("find", root)?;
        let table = Path::new("/proc/self/mountinfo");
        let mounts = fs::read_to_string(table).tried("read", table)?;
        let points: Vec<PathBuf> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .map(|point| PathBuf::from(point.replace("\\040", " ")))
            .collect();
        let mut findings = Vec::new();
        for unit in &plan.units {
            if matches!(unit.kind, UnitKind::Attributes { .. }) {
                continue;
            }
            let place = join(&root, &unit.path);
            for point in points.iter().filter(|point| point.starts_with(&place)) {
                let why = if *point == place && unit.path.as_bytes() == b"usr" {
                    "is a file system of its own: only a /usr on the root file system can be \
                     switched in one step"
                } else {
                    "is mounted in what the upgrade replaces: unmount it first, or exclude it"
                };
                findings.push(format!("`{}` {why}", point.display()));
            }
        }
        Ok(findings)
    }

    /// Files that cannot be renamed or linked.
    fn immutable(&self, plan: &UpgradePlan) -> Result<Vec<String>, UpgradeError> {
        let root = self.root.folder();
        let mut paths: Vec<PathBuf> = Vec::new();
        for unit in &plan.units {
            let place = join(root, &unit.path);
            paths.extend(place.parent().map(Path::to_owned));
            match unit.kind {
                UnitKind::Attributes { .. } | UnitKind::Add => paths.push(place),
                UnitKind::Swap | UnitKind::Remove => all_below(&place, &mut paths)?,
            }
        }
        let blocked = parallel(&paths, |path| {
            let flags = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
            statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())
                .is_ok_and(|found| found.stx_attributes.intersects(flags))
        });
        let names: Vec<String> = paths
            .iter()
            .zip(blocked)
            .filter(|(_, blocked)| *blocked)
            .map(|(path, _)| format!("`/{}`", path.strip_prefix(root).unwrap_or(path).display()))
            .collect();
        Ok(match names.as_slice() {
            [] => Vec::new(),
            names => vec![format!("immutable or append-only, see lsattr: {}", names.join(", "))],
        })
    }
}

/// A path and everything below it.
fn all_below(path: &Path, all: &mut Vec<PathBuf>) -> Result<(), UpgradeError> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    all.push(path.to_owned());
    if metadata.is_dir() {
        for item in fs::read_dir(path).tried("read the folder", path)? {
            let item = item.tried("read the folder", path)?;
            if item.file_type().is_ok_and(|kind| kind.is_dir()) {
                all_below(&item.path(), all)?;
            } else {
                all.push(item.path());
            }
        }
    }
    Ok(())
}
