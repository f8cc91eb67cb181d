//! The content of files that is fetched for an upgrade, by rsync. For the manifests see
//! [`super::manifests`].
//!
//! Only content travels: owners, modes and attributes are in the manifest. A content that the
//! tree holds several times is fetched once, and what the host has under the same name is the
//! basis of the transfer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use specs::plan::Role;
use specs::upgrade::{Digest, TreePath, UpgradePlan};

use super::commands::{Host, Progress};
use super::error::{Tried, UpgradeError};
use super::layout::{Area, fetched};
use crate::execute::{Origin, bytes_done};
use crate::tree::{Algorithm, hash_file, join, parallel};
use crate::world::{Cmd, CmdError, Runner, Tool};

/// A slow line and a large version; a stalled connection ends much earlier.
const LONGEST: Duration = Duration::from_secs(12 * 3600);

/// rsync from a daemon that may be gone.
pub(super) fn rsync(args: &[&str], from: &str, to: &Path) -> Cmd {
    let to = to.display().to_string();
    let mut all = vec!["--contimeout=30", "--timeout=120", "--no-motd"];
    all.extend(args);
    all.extend([from, &to]);
    Cmd::new(Tool::Rsync, &all).deadline(LONGEST).why(format!("fetch {from}"))
}

/// rsync's statuses for a connection that did not come about, or broke, or stalled.
const BROKEN: [i32; 5] = [5, 10, 12, 30, 35];

/// Whether what came so far may be of use to another try.
pub(super) fn is_worth_another_try(error: &UpgradeError) -> bool {
    match error {
        UpgradeError::Command { source: CmdError::Exit { code, .. }, .. } => BROKEN.contains(code),
        UpgradeError::Damaged { .. } | UpgradeError::Pre(_) => true,
        _ => false,
    }
}

impl<R: Runner, P: Progress> Host<'_, R, P> {
    /// Fetches the content that the plan needs, but for what an earlier try left, and checks every
    /// file of it. Tells where each content is.
    pub(super) fn fetch_content(
        &mut self,
        origin: &Origin,
        role: &Role,
        plan: &UpgradePlan,
        area: &Area,
    ) -> Result<BTreeMap<Digest, PathBuf>, UpgradeError> {
        let (wanted, folder) = (plan.fetch(), fetched(self.root.folder()));
        let (mut places, missing) = check(plan, wanted.keys(), &folder);
        if !missing.is_empty() {
            let total = missing.iter().filter_map(|path| wanted.get(path)).sum();
            self.fetch_files(origin, role, plan, (&missing, total), area)?;
            self.progress.stage("check what was fetched");
            let (fresh, damaged) = check(plan, &missing, &folder);
            if let Some(path) = damaged.into_iter().next() {
                return Err(UpgradeError::Damaged { path, version: plan.to.to_string() });
            }
            places.extend(fresh);
        }
        Ok(places)
    }

    /// Fetches files, of so many bytes, from the tree of a version.
    fn fetch_files(
        &mut self,
        origin: &Origin,
        role: &Role,
        plan: &UpgradePlan,
        (paths, total): (&[TreePath], u64),
        area: &Area,
    ) -> Result<(), UpgradeError> {
        let list = area.file("fetched.list");
        // From the top of the module: rsync daemons since 3.5 find no file of a list that is
        // relative to a folder in it. What stands before `/./` is not made at the destination.
        let base = origin.rsync_path.trim_matches('/');
        let (module, folder_in_it) = base.split_once('/').unwrap_or((base, ""));
        let prefix = format!("{folder_in_it}/{}/{}/./", role.version, role.name);
        let mut names = Vec::new();
        for path in paths {
            names.extend_from_slice(prefix.trim_start_matches('/').as_bytes());
            names.extend_from_slice(path.as_bytes());
            names.push(0);
        }
        fs::write(&list, names).tried("write", &list)?;
        let (files, basis) = (
            format!("--files-from={}", list.display()),
            format!("--copy-dest={}", self.root.folder().display()),
        );
        // Attributes are in our manifests; of a tree that was only listed they come along.
        let known = |path| plan.changes.get(path).and_then(|c| c.after.as_ref()?.xattrs.as_ref());
        let what = if paths.iter().all(|path| known(path).is_some()) { "-t" } else { "-tX" };
        let args = [
            what,
            "--from0",
            "--no-implied-dirs",
            "--ignore-times",
            // What came of a large file before the line broke is the basis of the next try.
            "--partial",
            "--info=progress2",
            &files,
            &basis,
        ];
        let folder = fetched(self.root.folder()).join("");
        let cmd = rsync(&args, &origin.url(module), &folder);
        let progress = &mut *self.progress;
        let ran = self.runner.run_streaming(&cmd, &mut |line| {
            if let Some(done) = bytes_done(line) {
                progress.bytes(done, total);
            }
        });
        ran.map(drop).map_err(|source| UpgradeError::Command { what: cmd.why.clone(), source })
    }
}

/// Compares what lies in `folder` with the manifest: where each content is, and which paths are
/// not there or not right.
fn check<'a>(
    plan: &UpgradePlan,
    paths: impl IntoIterator<Item = &'a TreePath>,
    folder: &Path,
) -> (BTreeMap<Digest, PathBuf>, Vec<TreePath>) {
    let paths: Vec<&TreePath> = paths.into_iter().collect();
    let expected = |path: &TreePath| Some(plan.changes.get(path)?.after.as_ref()?.file()?.digest);
    let checked = parallel(&paths, |path| {
        let place = join(folder, path);
        let digest = expected(path)?;
        let regular = fs::symlink_metadata(&place).is_ok_and(|metadata| metadata.is_file());
        let found = regular.then(|| hash_file(&place, Algorithm::of(digest)?).ok()).flatten()?;
        (found == digest).then_some((digest, place))
    });
    let (mut places, mut missing) = (BTreeMap::new(), Vec::new());
    for (path, checked) in paths.into_iter().zip(checked) {
        match checked {
            Some((digest, place)) => drop(places.insert(digest, place)),
            None => missing.push(path.clone()),
        }
    }
    (places, missing)
}
