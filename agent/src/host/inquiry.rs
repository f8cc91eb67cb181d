//! What an upgrade would do: the edge, both manifests, the disk, and the plan that follows.
//! `test-upgrade` ends here, `upgrade` goes on. Nothing of the host is changed.

use std::fs;
use std::path::{Path, PathBuf};

use specs::plan::Role;
use specs::units::Name;
use specs::upgrade::{self, Inputs, Kernel, Manifest, Refusal, Rules, UpgradePlan, kernel_of};

use super::boot_menu::default_kernel;
use super::commands::{Host, Progress};
use super::error::{Tried, UpgradeError};
use super::identity::Identity;
use super::layout::remove_all;
use crate::tree::{Depth, observe};
use crate::world::Runner;

/// What an upgrade is about to do, and what that is based on.
#[derive(Debug)]
pub struct Inquiry {
    /// The host.
    pub identity: Identity,
    /// The version it is to have.
    pub to: Manifest,
    /// What will be done.
    pub plan: UpgradePlan,
    /// The folder with `exclude`, `add_only`, `pre` and `post`.
    pub edge: PathBuf,
    /// What it takes.
    pub needs: Vec<Needs>,
}

/// What an upgrade takes of one file system.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Needs {
    /// Its top inside the root; empty for the root's own.
    pub top: PathBuf,
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Inodes that are free; `None` where the file system makes them as needed.
    pub free_inodes: Option<u64>,
}

impl Needs {
    /// Whether there is as much.
    pub fn are_met(&self) -> bool {
        self.bytes <= self.free_bytes && self.free_inodes.is_none_or(|free| self.inodes <= free)
    }
}

impl<R: Runner, P: Progress> Host<'_, R, P> {
    /// Finds out what an upgrade to this version would do. What is fetched goes to `folder`.
    pub fn inquire(&mut self, to: &Name, folder: &Path) -> Result<Inquiry, UpgradeError> {
        let identity = Identity::read(&self.root)?;
        let origin = identity.origin()?;
        let here = identity.role();
        let there = Role { name: here.name.clone(), version: to.clone() };
        let edge = folder.join("edge");
        self.progress.stage("fetch the list of changes");
        if !self.fetch_edge(&origin, &here, to, &edge)? {
            return Err(UpgradeError::NoEdge {
                role: here.name.to_string(),
                from: here.version.to_string(),
                to: to.to_string(),
            });
        }
        let rules = rules(&edge, to)?;
        let old = self.own_manifest(&identity, folder)?;
        let file = folder.join("manifest");
        if let Some(old) = &old {
            self.lay_basis(old, folder, &file)?;
        }
        let new = match self.fetch_manifest(&origin, &there, &file)? {
            Some(manifest) => manifest,
            None => {
                // Nothing came: this is still the basis.
                remove_all(&file)?;
                self.list_tree(&origin, &there, folder)?
            }
        };
        check_names(&there, &new)?;
        self.progress.stage("compare with this host");
        let manifests: Vec<&Manifest> = old.iter().chain([&new]).collect();
        let disk = observe(self.root.folder(), &manifests, &rules, Depth::Full)?;
        let running = self.running_kernels(&disk);
        let inputs =
            Inputs { from: old.as_ref(), to: &new, disk: &disk, rules: &rules, running: &running };
        let plan = upgrade::plan(&inputs).map_err(UpgradeError::Refused)?;
        let needs = self.needs(&plan, &disk)?;
        Ok(Inquiry { identity, to: new, plan, edge, needs })
    }

    /// The manifest of the version that the host has: its own copy, else the server's, else what
    /// the server's tree holds. `None` when the server has dropped that version.
    pub(super) fn own_manifest(
        &mut self,
        identity: &Identity,
        folder: &Path,
    ) -> Result<Option<Manifest>, UpgradeError> {
        if let Some(manifest) = self.kept_manifest(&identity.version)? {
            return Ok(Some(manifest));
        }
        let (origin, role) = (identity.origin()?, identity.role());
        if let Some(manifest) = self.fetch_manifest(&origin, &role, &folder.join("manifest.own"))? {
            check_names(&role, &manifest)?;
            return Ok(Some(manifest));
        }
        match self.list_tree(&origin, &role, folder) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(UpgradeError::NoEdge { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts the text of the host's own manifest where the next one arrives as a difference.
    fn lay_basis(&self, own: &Manifest, folder: &Path, file: &Path) -> Result<(), UpgradeError> {
        let kept = Path::new(&manifest_path(&own.version)).to_owned();
        let kept = self.root.resolve(&kept.display().to_string()).tried("find", &kept)?;
        let came = folder.join("manifest.own");
        match [kept, came].into_iter().find(|path| path.is_file()) {
            Some(text) => fs::copy(&text, file).map(drop).tried("copy", &text),
            None => fs::write(file, own.to_text()).tried("write", file),
        }
    }

    /// The manifest that the host keeps of a version.
    pub(super) fn kept_manifest(&self, version: &Name) -> Result<Option<Manifest>, UpgradeError> {
        if !self.keeps_manifest(version) {
            return Ok(None);
        }
        let path = manifest_path(version);
        let text = self.root.read_text(&path).tried("read", Path::new(&path))?;
        let version = version.to_string();
        let manifest =
            Manifest::parse(&text).map_err(|source| UpgradeError::Manifest { version, source })?;
        Ok(Some(manifest))
    }

    /// Whether there is one.
    pub(super) fn keeps_manifest(&self, version: &Name) -> bool {
        self.root.is_file(&manifest_path(version))
    }

    /// The kernels that must be taken to run: the one that does, and the one that the next boot
    /// starts; of a host that is looked at from outside, all of its own.
    fn running_kernels(&self, disk: &upgrade::Disk) -> Vec<Kernel> {
        let mut own: Vec<Kernel> = disk.keys().filter_map(kernel_of).collect();
        own.sort();
        own.dedup();
        let Some(running) = self.running.as_ref().filter(|kernel| own.contains(kernel)) else {
            return own;
        };
        let next = default_kernel(&self.root);
        own.retain(|kernel| kernel == running || Some(kernel) == next.as_ref());
        own
    }
}

/// Where the host keeps the manifest of a version.
pub(super) fn manifest_path(version: &Name) -> String {
    format!("/var/lib/edeploy/{version}/manifest")
}

fn rules(edge: &Path, to: &Name) -> Result<Rules, UpgradeError> {
    let read = |name: &str| {
        let path = edge.join(name);
        match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            // A pattern that is not UTF-8 means nothing that a tree of ours can hold.
            read => read
                .map(|bytes| Some(String::from_utf8_lossy(&bytes).into_owned()))
                .tried("read", &path),
        }
    };
    let exclude = read("exclude")?.ok_or_else(|| UpgradeError::NoExclude(to.to_string()))?;
    Ok(Rules::parse(&exclude, &read("add_only")?.unwrap_or_default()))
}

/// A manifest in the wrong place would make one role of another.
fn check_names(wanted: &Role, manifest: &Manifest) -> Result<(), UpgradeError> {
    if (&wanted.name, &wanted.version) == (&manifest.role, &manifest.version) {
        return Ok(());
    }
    let name = |role: &Name, version: &Name| format!("{role} {version}");
    Err(UpgradeError::Refused(vec![Refusal::Role {
        here: name(&wanted.name, &wanted.version),
        there: name(&manifest.role, &manifest.version),
    }]))
}
