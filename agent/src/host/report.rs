//! What `edeploy test-upgrade` says: everything that an upgrade would do, and what it takes.

use std::fmt;
use std::fs;

use serde::Serialize;
use specs::units::{Bytes, Name};
use specs::upgrade::{Local, TreePath};

use super::commands::{Host, Progress};
use super::error::UpgradeError;
use super::inquiry::{Inquiry, Needs};
use super::services;
use super::verify::scratch;
use crate::world::Runner;

/// See the module. Its JSON form is what `--json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The role.
    pub role: Name,
    /// The version of the host.
    pub from: Name,
    /// The version that was asked for.
    pub to: Name,
    /// Paths that only the new version has.
    pub added: Vec<TreePath>,
    /// Paths that become otherwise.
    pub changed: Vec<TreePath>,
    /// Paths that the new version has no more.
    pub removed: Vec<TreePath>,
    /// Paths that the new version has otherwise and that `exclude` keeps.
    pub kept: Vec<TreePath>,
    /// Paths that somebody edited or deleted on this host and that will be as in the version.
    pub local: Vec<LocalEdit>,
    /// Services whose unit file or program changes.
    pub services: Vec<String>,
    /// Whether a reboot is to be expected.
    pub reboot: bool,
    /// What only takes effect with a reboot.
    pub reboot_for: Vec<TreePath>,
    /// Paths of the running kernel that stay until a later upgrade.
    pub retained: Vec<TreePath>,
    /// Files to fetch.
    pub fetch_files: usize,
    /// Their bytes.
    pub fetch_bytes: u64,
    /// What it takes of each file system.
    pub space: Vec<Space>,
    /// Why the upgrade would be refused on this host.
    pub refused: Option<String>,
}

/// A local edit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocalEdit {
    /// Where.
    pub path: TreePath,
    /// What was done.
    pub what: Local,
}

/// What is needed of a file system, and what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Space {
    /// Its mount point.
    pub mount: String,
    /// The rest.
    #[serde(flatten)]
    pub needs: Needs,
}

impl<R: Runner, P: Progress> Host<'_, R, P> {
    /// Tells what an upgrade to this version would do. Writes nothing to the host.
    pub fn test_upgrade(&mut self, to: &Name) -> Result<Report, UpgradeError> {
        let scratch = scratch()?;
        let inquiry = self.inquire(to, scratch.path())?;
        let refused = self.preflight(&inquiry).err().map(|error| error.to_string());
        Ok(self.report(inquiry, refused))
    }

    fn report(&self, inquiry: Inquiry, refused: Option<String>) -> Report {
        let Inquiry { identity, plan, edge, needs, .. } = inquiry;
        let paths = |before: bool, after: bool| -> Vec<TreePath> {
            let fits = |change: &specs::upgrade::Change| {
                (change.before.is_some(), change.after.is_some()) == (before, after)
            };
            plan.changes.iter().filter(|(_, c)| fits(c)).map(|(path, _)| path.clone()).collect()
        };
        let edits = plan.changes.iter().filter_map(|(path, change)| {
            Some(LocalEdit { path: path.clone(), what: change.local? })
        });
        let post = fs::read_to_string(edge.join("post")).unwrap_or_default();
        let reboot_for: Vec<TreePath> = plan.reboot_hints().into_iter().cloned().collect();
        let fetch = plan.fetch();
        Report {
            role: identity.role.clone(),
            from: identity.version.clone(),
            to: plan.to.clone(),
            added: paths(false, true),
            changed: paths(true, true),
            removed: paths(true, false),
            local: edits.collect(),
            services: services::touched(&self.root, &plan.changes.keys().collect())
                .into_iter()
                .collect(),
            reboot: post.contains("exit 100") || !reboot_for.is_empty(),
            reboot_for,
            fetch_files: fetch.len(),
            fetch_bytes: fetch.values().sum(),
            kept: plan.kept,
            retained: plan.retained,
            space: needs
                .into_iter()
                .map(|needs| Space { mount: format!("/{}", needs.top.display()), needs })
                .collect(),
            refused,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { role, from, to, .. } = self;
        for (mark, paths) in [
            ("add", &self.added),
            ("change", &self.changed),
            ("remove", &self.removed),
            ("keep", &self.kept),
            ("retain", &self.retained),
        ] {
            for path in paths {
                writeln!(f, "{mark:<7} {path}")?;
            }
        }
        for LocalEdit { path, what } in &self.local {
            let words = match what {
                Local::Edited => ("edited", "will be replaced; yours is kept aside"),
                Local::Deleted => ("deleted", "will be there again"),
            };
            writeln!(f, "{:<7} {path} ({})", words.0, words.1)?;
        }
        writeln!(
            f,
            "{role} {from} -> {to}: {} added, {} changed, {} removed, {} kept by exclude, {} local edits",
            self.added.len(),
            self.changed.len(),
            self.removed.len(),
            self.kept.len(),
            self.local.len()
        )?;
        writeln!(f, "fetch: {} files, {}", self.fetch_files, Bytes(self.fetch_bytes))?;
        for Space { mount, needs } in &self.space {
            let inodes =
                needs.free_inodes.map_or_else(|| "any".to_owned(), |free| free.to_string());
            writeln!(
                f,
                "space: {mount} needs {} and {} inodes, has {} and {inodes}",
                Bytes(needs.bytes),
                needs.inodes,
                Bytes(needs.free_bytes),
            )?;
        }
        let services =
            if self.services.is_empty() { "none".to_owned() } else { self.services.join(" ") };
        writeln!(f, "services: {services}")?;
        writeln!(f, "reboot: {}", if self.reboot { "to be expected" } else { "no sign of need" })?;
        write!(
            f,
            "rollback would restore {} paths and remove {}",
            self.changed.len() + self.removed.len(),
            self.added.len()
        )?;
        match &self.refused {
            Some(reason) => write!(f, "\nwould be refused here: {reason}"),
            None => Ok(()),
        }
    }
}
