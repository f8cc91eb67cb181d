//! After the point of no return: version, manifest, rules and history are written, what is no
//! longer needed is removed. Every step can be repeated.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use specs::units::Name;
use specs::upgrade::{TreePath, kernel_of};

use super::commands::{Host, Progress};
use super::error::{Tried, UpgradeError};
use super::history::{self, Happening};
use super::journal::{Journal, Record};
use super::layout::{Area, Prepared, fetched, remove_all};
use super::manifests::manifest_path;
use super::recover;
use crate::assignments;
use crate::execute::CONF;
use crate::tree::join;
use crate::world::Runner;

impl<R: Runner, P: Progress> Host<'_, R, P> {
    /// The new version is the host's: writes that down.
    pub(super) fn settle_committed(
        &mut self,
        area: &Area,
        prepared: &Prepared,
        journal: &mut Journal,
    ) -> Result<(), UpgradeError> {
        let folder = format!("/var/lib/edeploy/{}", prepared.to);
        for (name, mode) in
            [("exclude", 0o644), ("add_only", 0o644), ("pre", 0o755), ("post", 0o755)]
        {
            self.store(&area.file("edge").join(name), &format!("{folder}/{name}"), mode)?;
        }
        self.store(&area.file("manifest.new"), &manifest_path(&prepared.to), 0o644)?;
        // The way back needs to know what that version was.
        self.store(&area.file("manifest.old"), &manifest_path(&prepared.from), 0o644)?;
        let mut retained = self.remove_retained(&prepared.from)?;
        retained.extend(prepared.retained.iter().cloned());
        let retained: String = retained.iter().map(|path| format!("{path}\n")).collect();
        self.write(&format!("{folder}/retained"), retained.as_bytes(), 0o644)?;
        self.write_version(prepared.to.as_str())?;
        self.tell(area, prepared, journal, "upgraded", None)?;
        for other in Area::all(self.root.folder())?.iter().filter(|other| *other != area) {
            other.remove()?;
        }
        remove_all(&fetched(self.root.folder()))?;
        recover::disarm(&self.root)?;
        journal.append(Record::Settled, &mut self.failpoint)
    }

    /// The version before is the host's again: writes that down and forgets the other.
    pub(super) fn settle_returned(
        &mut self,
        area: &Area,
        prepared: &Prepared,
        journal: &mut Journal,
        reason: &str,
    ) -> Result<(), UpgradeError> {
        self.write_version(prepared.from.as_str())?;
        let rolled_back = reason == super::rollback::REASON;
        let (what, reason) =
            if rolled_back { ("rolled back", None) } else { ("failed", Some(reason.to_owned())) };
        self.tell(area, prepared, journal, what, reason)?;
        recover::disarm(&self.root)?;
        remove_all(&fetched(self.root.folder()))?;
        journal.append(Record::Settled, &mut self.failpoint)?;
        area.remove()
    }

    /// Removes what belongs to a kernel that no longer runs, now that there is no way back to its
    /// version, and returns what must stay for longer.
    fn remove_retained(&self, version: &Name) -> Result<Vec<TreePath>, UpgradeError> {
        let runs = |path: &TreePath| match (&self.running, kernel_of(path)) {
            (Some(running), Some(kernel)) => *running == kernel,
            _ => true,
        };
        let (stays, goes): (Vec<_>, Vec<_>) = self.retained(version).into_iter().partition(runs);
        for path in goes.iter().rev() {
            remove_all(&join(self.root.folder(), path))?;
        }
        Ok(stays)
    }

    /// Paths of an older kernel that stay as long as there is a way back to it, or it runs.
    pub(super) fn retained(&self, version: &Name) -> Vec<TreePath> {
        let list = self.root.read_text(&format!("/var/lib/edeploy/{version}/retained"));
        list.unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn write_version(&self, version: &str) -> Result<(), UpgradeError> {
        let text = self.root.read_text(CONF).tried("read", Path::new(CONF))?;
        let keys = [("VERS".to_owned(), version.to_owned())];
        self.write(CONF, assignments::set(&text, &keys).as_bytes(), 0o644)
    }

    fn tell(
        &self,
        area: &Area,
        prepared: &Prepared,
        journal: &Journal,
        what: &str,
        reason: Option<String>,
    ) -> Result<(), UpgradeError> {
        let backwards = what == "rolled back";
        let (from, to) = (prepared.from.clone(), prepared.to.clone());
        let (from, to) = if backwards { (to, from) } else { (from, to) };
        let happening = Happening {
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            number: area.number,
            what: what.to_owned(),
            from,
            to,
            reason,
            resumed: journal.was_resumed(backwards),
            kept_aside: if what == "upgraded" { prepared.kept_aside.clone() } else { Vec::new() },
        };
        history::add(&self.root, &happening).tried("write the history of", self.root.folder())
    }

    fn store(&self, from: &Path, to: &str, mode: u32) -> Result<(), UpgradeError> {
        match fs::read(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            read => self.write(to, &read.tried("read", from)?, mode),
        }
    }

    fn write(&self, path: &str, content: &[u8], mode: u32) -> Result<(), UpgradeError> {
        self.root.write(path, content, mode, None).tried("write", Path::new(path))
    }
}
