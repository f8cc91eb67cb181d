//! `edeploy verify`: the disk against the manifest of its version. Offline, once the manifest is
//! on the host: an upgrade puts it there, and so does the first `verify` of a host that was
//! installed without one.

use std::path::Path;

use specs::units::Name;
use specs::upgrade::{self, Drift, Rules};

use super::commands::{Host, Progress};
use super::error::{Tried, UpgradeError};
use super::identity::Identity;
use super::inquiry::manifest_path;
use crate::tree::{Depth, observe};
use crate::world::Runner;

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
        let manifest = match self.kept_manifest(&version)? {
            Some(manifest) => manifest,
            None => {
                let scratch = scratch()?;
                let manifest = self.own_manifest(&identity, scratch.path())?;
                let manifest = manifest.ok_or(UpgradeError::NoManifest(version.to_string()))?;
                // Best effort: a read-only host can be verified as well.
                let text = manifest.to_text();
                let _ = self.root.write(&manifest_path(&version), text.as_bytes(), 0o644, None);
                manifest
            }
        };
        self.progress.stage("compare with the manifest");
        let rules = self.own_rules(&version);
        let disk = observe(self.root.folder(), &[&manifest], &rules, depth)?;
        let drifts = upgrade::verify(&manifest, &disk, &rules, &self.retained(&version));
        Ok(Verified { version, listed: manifest.entries.len(), drifts })
    }

    /// The rules that the version brought along, by an upgrade or in its tree.
    fn own_rules(&self, version: &Name) -> Rules {
        let read = |name: &str| {
            let bytes = self.root.read_bytes(&format!("/var/lib/edeploy/{version}/{name}"));
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        };
        Rules::parse(&read("exclude"), &read("add_only"))
    }
}

/// A folder in memory where there is one: what only looks leaves nothing on the disk.
pub(super) fn scratch() -> Result<tempfile::TempDir, UpgradeError> {
    let memory = Path::new("/run");
    let made = tempfile::Builder::new().prefix("edeploy-").tempdir_in(memory);
    made.or_else(|_| tempfile::tempdir()).tried("make a folder in", memory)
}
