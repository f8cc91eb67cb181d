//! Back to the version before, offline, from what the last upgrade moved away.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use specs::units::Name;
use specs::upgrade::TreePath;

use super::commands::{Host, Lock, Progress};
use super::error::UpgradeError;
use super::identity::Identity;
use super::journal::{Journal, Phase, phase_of};
use super::kept;
use super::layout::{Area, Prepared};
use super::recover::{Resumed, arm};
use crate::tree::Depth;
use crate::world::Runner;

/// What the journal says of a return that somebody asked for.
pub(super) const REASON: &str = "rollback";

impl<R: Runner, P: Progress> Host<'_, R, P> {
    /// The version that a rollback would lead to.
    pub fn way_back(&self) -> Result<Name, UpgradeError> {
        Ok(self.last_upgrade()?.1.from)
    }

    /// Goes back. Files that were edited since the upgrade are kept aside. Tells the version, and
    /// what was kept.
    pub fn rollback(&mut self, lock: &Lock) -> Result<(Name, Vec<TreePath>), UpgradeError> {
        if let Resumed::Returned(version) = self.resume(lock, false)? {
            return Ok((version, Vec::new()));
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
        self.go_back(&area, &prepared, &mut journal, REASON)?;
        Ok((prepared.from, edited))
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
