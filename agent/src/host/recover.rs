//! After an interruption: what was prepared is finished, what was not is forgotten, and what was
//! on its way back goes back. Also what arranges that the next boot does this by itself.
//!
//! Early in the boot only files are switched, and the machine boots again: what runs then belongs
//! to one version. `post`, which may start services, runs late in that second boot.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use specs::units::Name;

use super::boot_menu;
use super::commands::{Host, Lock, Progress};
use super::error::{Tried, UpgradeError};
use super::journal::{Journal, Phase, REBOOT, Record, phase_of};
use super::layout::{Area, Prepared, remove_all};
use super::switch::{Direction, switch_all};
use crate::world::{Root, Runner};

/// The program that the units start: in no version's tree, so that no half of one matters.
const PROGRAM: &str = "/.edeploy/edeploy";

/// The folders that were made for the units: no version has them.
const MADE: &str = "/.edeploy/made";

const UNITS: &str = "etc/systemd/system";

/// Name, the target that wants it, and text of the two units.
const ARMS: [(&str, &str, &str); 2] = [
    (
        "edeploy-resume.service",
        "sysinit.target.wants",
        "[Unit]\nDescription=Switch the files of an interrupted eDeploy upgrade\n\
         DefaultDependencies=no\nAfter=local-fs.target\nBefore=sysinit.target systemd-tmpfiles-setup.service\n\
         Conflicts=shutdown.target\nConditionPathExists=/.edeploy/edeploy\n\n\
         [Service]\nType=oneshot\nExecStart=/.edeploy/edeploy upgrade --resume --early\n",
    ),
    (
        "edeploy-finish.service",
        "multi-user.target.wants",
        "[Unit]\nDescription=Finish an interrupted eDeploy upgrade\nAfter=network.target\n\
         ConditionPathExists=/.edeploy/edeploy\n\n\
         [Service]\nType=oneshot\nExecStart=/.edeploy/edeploy upgrade --resume\nTimeoutStartSec=infinity\n",
    ),
];

/// What a resumption came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumed {
    /// Nothing was interrupted.
    Nothing,
    /// The files are those of this version; `post` is still to run.
    Switched(Name),
    /// The host has this version.
    Finished {
        /// The version.
        version: Name,
        /// `post` asks for it.
        reboot: bool,
    },
    /// The host has the version before.
    Returned(Name),
}

impl<R: Runner, P: Progress> Host<'_, R, P> {
    /// Finishes what was interrupted. `early`: only files are switched.
    pub fn resume(&mut self, lock: &Lock, early: bool) -> Result<Resumed, UpgradeError> {
        let mut resumed = Resumed::Nothing;
        for area in Area::all(self.root.folder())? {
            let phase = phase_of(&area.file("journal"))?;
            if phase == Phase::Preparing {
                area.remove()?;
                continue;
            }
            if let Some(result) = self.resume_area(lock, &area, &phase, early)? {
                resumed = result;
            }
        }
        if !early {
            disarm(&self.root)?;
        }
        Ok(resumed)
    }

    fn resume_area(
        &mut self,
        lock: &Lock,
        area: &Area,
        phase: &Phase,
        early: bool,
    ) -> Result<Option<Resumed>, UpgradeError> {
        let prepared = area.prepared()?;
        let mut journal = Journal::open(&area.file("journal"))?;
        let returned = Resumed::Returned(prepared.from.clone());
        match phase {
            Phase::Preparing | Phase::Committed { settled: true } => Ok(None),
            // The files are switched: the rest is for later in this boot, not for another one.
            Phase::Applied { .. } if early => Ok(None),
            Phase::Switching | Phase::Applied { .. } => {
                journal.append(Record::Resumed, &mut self.failpoint)?;
                let reboot = match self.finish(lock, area, &prepared, &mut journal, early) {
                    Ok(Some(reboot)) => reboot,
                    Ok(None) => return Ok(Some(Resumed::Switched(prepared.to))),
                    Err(UpgradeError::Returned { .. }) => return Ok(Some(returned)),
                    Err(error) => return Err(error),
                };
                Ok(Some(Resumed::Finished { version: prepared.to, reboot }))
            }
            Phase::Committed { settled: false } => {
                self.settle_committed(area, &prepared, &mut journal)?;
                Ok(Some(Resumed::Finished { version: prepared.to, reboot: false }))
            }
            Phase::Returning | Phase::Returned { settled: false } => {
                if *phase == Phase::Returning {
                    journal.append(Record::Resumed, &mut self.failpoint)?;
                }
                let stopped = area.stopped();
                self.go_back(area, &prepared, &mut journal, &journal_reason(area))?;
                if !early {
                    self.start(&stopped)?;
                }
                Ok(Some(returned))
            }
            Phase::Returned { settled: true } => {
                area.remove()?;
                Ok(None)
            }
        }
    }

    /// From *ready* to the end. Tells whether a reboot is wanted; `None` when only files were to
    /// be switched. What fails leads back to the version before.
    pub(super) fn finish(
        &mut self,
        _: &Lock,
        area: &Area,
        prepared: &Prepared,
        journal: &mut Journal,
        early: bool,
    ) -> Result<Option<bool>, UpgradeError> {
        match self.go_forward(area, prepared, journal, early) {
            Err(error @ UpgradeError::Stopped(_)) => Err(error),
            Err(error) if matches!(journal.phase(), Phase::Switching | Phase::Applied { .. }) => {
                let (reason, stopped) = (crate::chain(&error), area.stopped());
                match self.go_back(area, prepared, journal, &reason) {
                    Ok(()) => {
                        let version = prepared.from.to_string();
                        if !early && let Err(error) = self.start(&stopped) {
                            tracing::warn!(error = %crate::chain(&error), "a service stays stopped");
                        }
                        Err(UpgradeError::Returned { version, source: Box::new(error) })
                    }
                    Err(stopped @ UpgradeError::Stopped(_)) => Err(stopped),
                    Err(second) => {
                        Err(UpgradeError::Stuck { cause: reason, source: Box::new(second) })
                    }
                }
            }
            done => done,
        }
    }

    fn go_forward(
        &mut self,
        area: &Area,
        prepared: &Prepared,
        journal: &mut Journal,
        early: bool,
    ) -> Result<Option<bool>, UpgradeError> {
        if journal.phase() == Phase::Switching {
            self.progress.stage("switch to the new version");
            let root = self.root.folder().to_owned();
            switch_all(&root, area, prepared, journal, &mut self.failpoint, Direction::Forward)?;
            journal.append(Record::Applied, &mut self.failpoint)?;
        }
        if early {
            return Ok(None);
        }
        let status = match journal.phase() {
            Phase::Applied { post: Some(status) } => status,
            _ => {
                let status = self.run_script("post", area, prepared).map_err(UpgradeError::Post)?;
                area.sync(prepared)?;
                journal.append(Record::Post(status), &mut self.failpoint)?;
                status
            }
        };
        journal.append(Record::Committed, &mut self.failpoint)?;
        self.settle_committed(area, prepared, journal)?;
        Ok(Some(status == REBOOT))
    }

    /// Back to the version before, and all of it written down.
    pub(super) fn go_back(
        &mut self,
        area: &Area,
        prepared: &Prepared,
        journal: &mut Journal,
        reason: &str,
    ) -> Result<(), UpgradeError> {
        if !matches!(journal.phase(), Phase::Returning | Phase::Returned { .. }) {
            journal.append(Record::Returning(reason.to_owned()), &mut self.failpoint)?;
        }
        if journal.phase() == Phase::Returning {
            self.progress.stage("return to the version before");
            boot_menu::put_back(&self.root, area, prepared)?;
            let root = self.root.folder().to_owned();
            switch_all(&root, area, prepared, journal, &mut self.failpoint, Direction::Back)?;
            journal.append(Record::Returned, &mut self.failpoint)?;
        }
        self.settle_returned(area, prepared, journal, reason)
    }
}

/// Why an interrupted return was begun.
fn journal_reason(area: &Area) -> String {
    let text = fs::read_to_string(area.file("journal")).unwrap_or_default();
    let records = text.lines().rev().filter_map(|line| serde_json::from_str(line).ok());
    let reasons = records.filter_map(|record| match record {
        Record::Returning(reason) => Some(reason),
        _ => None,
    });
    reasons.into_iter().next().unwrap_or_default()
}

/// Arranges that the next boot finishes an upgrade.
pub(super) fn arm(root: &Root, program: &Path) -> Result<(), UpgradeError> {
    let units = root.folder().join(UNITS);
    // A host without systemd, such as a bare tree, is finished by hand.
    if !units.is_dir() {
        return Ok(());
    }
    let copy = root.folder().join(PROGRAM.trim_start_matches('/'));
    if copy != program {
        let temporary = copy.with_extension("new");
        fs::copy(program, &temporary).tried("copy", program)?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755))
            .tried("set the mode of", &temporary)?;
        fs::rename(&temporary, &copy).tried("rename", &temporary)?;
    }
    let missing =
        ARMS.iter().map(|(_, wants, _)| *wants).filter(|wants| !units.join(wants).exists());
    let made: String = missing.map(|wants| format!("{wants}\n")).collect();
    if !root.exists(MADE) {
        root.write(MADE, made.as_bytes(), 0o600, None).tried("write", Path::new(MADE))?;
    }
    for (name, wants, text) in ARMS {
        let folder = units.join(wants);
        fs::create_dir_all(&folder).tried("make the folder", &folder)?;
        root.write(&format!("{UNITS}/{name}"), text.as_bytes(), 0o644, None)
            .tried("write", &units.join(name))?;
        match symlink(format!("../{name}"), folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.tried("make the link", &folder.join(name))?,
        }
    }
    Ok(())
}

/// Takes that back, and what the power left of it half written.
pub(super) fn disarm(root: &Root) -> Result<(), UpgradeError> {
    let units = root.folder().join(UNITS);
    let program = root.folder().join(PROGRAM.trim_start_matches('/'));
    let mut gone = vec![program.with_extension("new"), program];
    for (name, wants, _) in ARMS {
        let unfinished = root.unfinished(&format!("{UNITS}/{name}"));
        let unfinished = unfinished.tried("find", &units.join(name))?;
        gone.extend([units.join(wants).join(name), units.join(name), unfinished]);
    }
    gone.push(root.unfinished(MADE).tried("find", Path::new(MADE))?);
    for path in gone {
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.tried("remove", &path)?,
        }
    }
    for wants in root.read_text(MADE).unwrap_or_default().lines() {
        // One that something else was put into stays.
        let _ = fs::remove_dir(units.join(wants));
    }
    remove_all(&root.folder().join(MADE.trim_start_matches('/')))
}
