//! Back to the version before, offline, from what the last upgrade moved away.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use specs::units::Name;
use specs::upgrade::{Kernel, TreePath};

use super::commands::{Host, Lock, Progress};
use super::error::UpgradeError;
use super::identity::Identity;
use super::journal::{Journal, Phase, phase_of};
use super::kept;
use super::layout::{Area, Prepared};
use super::manifests::kept_manifest;
use super::recover::{Resumed, arm};
use super::services;
use crate::tree::Depth;
use crate::world::Runner;

/// What the journal says of a return that somebody asked for.
pub(super) const REASON: &str = "rollback";

/// What the way back came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// The version that the host has again.
    pub version: Name,
    /// Whether what runs is to be started anew.
    pub reboot: bool,
    /// Edits since the upgrade that were replaced.
    pub kept_aside: Vec<TreePath>,
    /// The folder that keeps them.
    pub kept_in: Option<PathBuf>,
    /// Services that were restarted.
    pub restarted: Vec<String>,
}

impl<R: Runner, P: Progress> Host<'_, R, P> {
    /// The version that a rollback would lead to.
    pub fn way_back(&self) -> Result<Name, UpgradeError> {
        Ok(self.last_upgrade()?.1.from)
    }

    /// Goes back. Files that were edited since the upgrade are kept aside, and services that run
    /// from files which change are restarted.
    pub fn rollback(&mut self, lock: &Lock) -> Result<RolledBack, UpgradeError> {
        if let Resumed::Returned(version) = self.resume(lock, false)? {
            let reboot = self.lacks_running_kernel();
            let (kept_aside, kept_in, restarted) = (Vec::new(), None, Vec::new());
            return Ok(RolledBack { version, reboot, kept_aside, kept_in, restarted });
        }
        let (area, prepared) = self.last_upgrade()?;
        self.progress.stage("look for edits since the upgrade");
        let verified = self.verify(Depth::Fast)?;
        let units = || prepared.units.iter().enumerate();
        let replaced = |path: &TreePath| {
            units().find(|(_, unit)| *path == unit.unit.path || path.is_below(&unit.unit.path))
        };
        let drifted = verified.drifts.into_iter().map(|drift| drift.path);
        let edited: Vec<TreePath> = drifted.filter(|path| replaced(path).is_some()).collect();
        let returning = |path: &TreePath| {
            let (position, unit) = replaced(path)?;
            let unit_path = &unit.unit.path;
            let rest = path.as_bytes().get(unit_path.as_bytes().len() + 1..).unwrap_or_default();
            Some(area.parked(position, &unit.top).join(OsStr::from_bytes(rest)))
        };
        let kept = kept::folder(self.root.folder(), area.number, prepared.to.as_str());
        let edited = kept::keep_aside(self.root.folder(), &edited, &kept, returning)?;
        if let Some(program) = &self.program {
            arm(&self.root, program)?;
        }
        let mut journal = Journal::open(&area.file("journal"))?;
        self.failpoint.pass()?;
        let touched = self.touched_between(&prepared)?;
        self.stop_running(&touched, &area)?;
        // The way forward took a reboot: so does the way back.
        let reboot = journal.asks_for_reboot();
        let stopped = area.stopped();
        self.go_back(&area, &prepared, &mut journal, REASON)?;
        self.start(&stopped)?;
        Ok(RolledBack {
            version: prepared.from,
            reboot: reboot || self.lacks_running_kernel(),
            kept_in: (!edited.is_empty()).then_some(kept),
            kept_aside: edited,
            restarted: stopped,
        })
    }

    /// The services that an upgrade touched, by what its two versions consist of.
    fn touched_between(&self, prepared: &Prepared) -> Result<BTreeSet<String>, UpgradeError> {
        let manifests =
            (kept_manifest(&self.root, &prepared.from)?, kept_manifest(&self.root, &prepared.to)?);
        Ok(match &manifests {
            (Some(from), Some(to)) => services::touched(&self.root, &services::between(from, to)),
            _ => BTreeSet::new(),
        })
    }

    /// Whether the kernel that runs is none of the host's any more: it could load no module.
    fn lacks_running_kernel(&self) -> bool {
        let modules = |kernel: &Kernel| format!("/usr/lib/modules/{}", kernel.0);
        self.is_running_system()
            && self.running.as_ref().is_some_and(|kernel| !self.root.is_dir(&modules(kernel)))
    }

    fn last_upgrade(&self) -> Result<(Area, Prepared), UpgradeError> {
        let identity = Identity::read(&self.root)?;
        for area in Area::all(self.root.folder())?.into_iter().rev() {
            if phase_of(&area.file("journal"))? == (Phase::Committed { settled: true }) {
                let prepared = area.prepared()?;
                if prepared.to == identity.version && prepared.role == identity.role {
                    return Ok((area, prepared));
                }
            }
        }
        Err(UpgradeError::NoWayBack("no upgrade led to the version of this host"))
    }
}
