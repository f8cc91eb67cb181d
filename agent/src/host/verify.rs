//! `edeploy verify`: the disk against the manifest of its version. Offline, once the manifest is
//! on the host: an upgrade puts it there, and so does the first `verify` of a host that was
//! installed without one.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use specs::units::Name;
use specs::upgrade::{self, Class, Drift, Manifest, Rules, TreePath};

use super::commands::{Host, Progress};
use super::error::{Tried, UpgradeError};
use super::identity::Identity;
use super::manifests::{kept_manifest, manifest_path};
use crate::tree::{Depth, TreeError, join, observe};
use crate::world::{Root, Runner};

/// Paths that the installation made, one a line.
const OWN: &str = "/var/lib/edeploy/own";

/// What a look at the disk came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The version that it was compared with.
    pub version: Name,
    /// How many paths the version has.
    pub listed: usize,
    /// What is not as there, in the order of paths.
    pub drifts: Vec<Drift>,
}

impl<R: Runner, P: Progress> Host<'_, R, P> {
    /// Compares the disk with the manifest of the host's version.
    pub fn verify(&mut self, depth: Depth) -> Result<Verified, UpgradeError> {
        let identity = Identity::read(&self.root)?;
        let version = identity.version.clone();
        let manifest = match kept_manifest(&self.root, &version)? {
            Some(manifest) => manifest,
            None => {
                let scratch = scratch()?;
                let manifest = self.fetch_own_manifest(&identity, scratch.path())?;
                let manifest = manifest.ok_or(UpgradeError::NoManifest(version.to_string()))?;
                // Best effort: a read-only host can be verified as well.
                let text = manifest.to_text();
                let _ = self.root.write(&manifest_path(&version), text.as_bytes(), 0o644, None);
                manifest
            }
        };
        self.progress.stage("compare with the manifest");
        let rules = own_rules(&self.root, &version);
        let disk = observe(self.root.folder(), &[&manifest], &rules, depth)?;
        let mut known = self.retained(&version);
        known.extend(own(&self.root));
        let drifts = upgrade::verify(&manifest, &disk, &rules, &known);
        Ok(Verified { version, listed: manifest.entries.len(), drifts })
    }
}

/// Notes what an installation put on a host beside its role, so that `edeploy verify` has nothing
/// to say about it. A role without a manifest is left alone.
pub fn note_own(root: &Root) -> Result<(), UpgradeError> {
    let Identity { version, .. } = Identity::read(root)?;
    let Ok(text) = root.read_text(&manifest_path(&version)) else { return Ok(()) };
    let manifest = Manifest::parse(&text)
        .map_err(|source| UpgradeError::Manifest { version: version.to_string(), source })?;
    let unlisted = unlisted(root.folder(), &manifest, &own_rules(root, &version))?;
    let list: String = unlisted.iter().map(|path| format!("{path}\n")).collect();
    root.write_unflushed(OWN, list.as_bytes(), 0o644, None).tried("write", Path::new(OWN))
}

/// What is there and the version does not list. Names alone are read: an installation has no time
/// to look at every file.
fn unlisted(
    top: &Path,
    manifest: &Manifest,
    rules: &Rules,
) -> Result<BTreeSet<TreePath>, UpgradeError> {
    let mut classifier = rules.classifier();
    let mut unlisted = BTreeSet::new();
    let mut folders = vec![None];
    while let Some(folder) = folders.pop() {
        let place = folder.as_ref().map_or_else(|| top.to_owned(), |folder| join(top, folder));
        for entry in fs::read_dir(&place).tried("read", &place)? {
            let entry = entry.tried("read", &place)?;
            let is_folder = entry.file_type().tried("look at", &entry.path())?.is_dir();
            let name = entry.file_name();
            let path = match &folder {
                Some(folder) => folder.child(name.as_bytes()),
                None => TreePath::new(name.as_bytes()),
            };
            let path = path.map_err(TreeError::Name)?;
            // What a path is to the rules takes longer to find out than all the rest: nearly
            // everything here is a file that the version lists.
            let listed = manifest.entries.contains_key(&path);
            if listed && !is_folder {
                continue;
            }
            match (listed, classifier.class(&path, is_folder)) {
                (false, Class::Sync) => drop(unlisted.insert(path)),
                (true, Class::Sync | Class::AddOnly) => folders.push(Some(path)),
                _ => {}
            }
        }
    }
    Ok(unlisted)
}

/// What was noted.
fn own(root: &Root) -> Vec<TreePath> {
    let list = root.read_text(OWN).unwrap_or_default();
    list.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The rules that the version brought along, by an upgrade or in its tree.
pub(super) fn own_rules(root: &Root, version: &Name) -> Rules {
    let read = |name: &str| {
        let bytes = root.read_bytes(&format!("/var/lib/edeploy/{version}/{name}"));
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    };
    Rules::parse(&read("exclude"), &read("add_only"))
}

/// A folder in memory where there is one: what only looks leaves nothing on the disk.
pub(super) fn scratch() -> Result<tempfile::TempDir, UpgradeError> {
    let memory = Path::new("/run");
    let made = tempfile::Builder::new().prefix("edeploy-").tempdir_in(memory);
    made.or_else(|_| tempfile::tempdir()).tried("make a folder in", memory)
}
