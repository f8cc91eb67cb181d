//! Whether a host that lost its power in an upgrade kept the promise: it is wholly of one version
//! or the other, at once or when `edeploy upgrade --resume` has run, and nothing of its owner's
//! is lost. Looked at from outside, on the mounted disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process::outcome;

/// What a host was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The old version, as it was found.
    Old,
    /// The new version, as it was found.
    New,
    /// Neither; finishing led back to the old version.
    Returned,
    /// Neither; finishing led on to the new version.
    Finished,
}

impl Verdict {
    /// Whether it has the new version now.
    pub fn is_new(self) -> bool {
        matches!(self, Verdict::New | Verdict::Finished)
    }
}

/// Judges hosts of one upgrade.
#[derive(Debug)]
pub struct Judge {
    /// The program, static.
    pub edeploy: PathBuf,
    /// Manifests as they were published, by version: the old one, the new one.
    pub manifests: [(String, PathBuf); 2],
    /// What may differ from each: what the owner edited and what the machine itself changes.
    pub tolerated: [BTreeSet<String>; 2],
}

impl Judge {
    /// Looks at the host in this folder, finishes what was interrupted and looks again.
    pub fn judge(&self, root: &Path) -> Result<Verdict> {
        let found = self.clean(root)?;
        let status = self.edeploy(root, &["upgrade", "--resume", "--no-reboot"])?.0;
        ensure!(matches!(status, 0 | 100), "--resume ended with {status}");
        let is_new = match self.clean(root)? {
            Ok(is_new) => is_new,
            Err(drifts) => bail!("after --resume the host is of no version: {drifts}"),
        };
        ensure!(!root.join(".edeploy/edeploy").exists(), "something is left to do");
        Ok(match (found, is_new) {
            (Ok(false), false) => Verdict::Old,
            (Ok(true), true) => Verdict::New,
            // It was whole and said so, and had begun to change or not yet written it down.
            (_, true) => Verdict::Finished,
            (_, false) => Verdict::Returned,
        })
    }

    /// Whether a host that is wholly of the version that it says it is has the new one; otherwise
    /// what differs.
    pub fn clean(&self, root: &Path) -> Result<Result<bool, String>> {
        let (status, said) = self.edeploy(root, &["verify", "--json"])?;
        ensure!(matches!(status, 0 | 1), "verify ended with {status}: {said}");
        let said: Value = serde_json::from_str(&said).context("reading what verify says")?;
        let version = said["version"].as_str().unwrap_or_default();
        let place = self.manifests.iter().position(|(name, _)| name == version);
        let Some(place) = place else { bail!("it says that it is {version}") };
        // It must have been compared with what the server published, not with anything else.
        let own = std::fs::read(root.join(format!("var/lib/edeploy/{version}/manifest")))?;
        ensure!(own == std::fs::read(&self.manifests[place].1)?, "its manifest is another one");
        let drifts = said["drifts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let more: Vec<&Value> = drifts
            .iter()
            .filter(|drift| {
                let path = drift["path"].as_str().unwrap_or_default();
                !self.tolerated[place].contains(path)
            })
            .collect();
        Ok(if more.is_empty() { Ok(place == 1) } else { Err(format!("{version}: {more:?}")) })
    }

    /// Runs a command of `edeploy` on the host: its exit code and what it said.
    pub fn edeploy(&self, root: &Path, words: &[&str]) -> Result<(i32, String)> {
        let root = root.display().to_string();
        let line = ["--root", &root].into_iter().chain(words.iter().copied());
        let (code, said, complained) = outcome(&self.edeploy.display().to_string(), line)?;
        Ok((code.context("it was killed")?, said + &complained))
    }
}
