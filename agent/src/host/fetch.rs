//! What is fetched for an upgrade, all by rsync: the edge, manifests, and the content of files.
//!
//! Only content travels: owners, modes and attributes are in the manifest. A content that the
//! tree holds several times is fetched once, and what the host has under the same name is the
//! basis of the transfer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use specs::plan::Role;
use specs::units::Name;
use specs::upgrade::{Digest, Manifest, TreePath, UpgradePlan};

use super::commands::{Host, Progress};
use super::error::{Tried, UpgradeError};
use crate::execute::{Origin, bytes_done};
use crate::tree::{Algorithm, hash_file, join, parallel};
use crate::world::{Cmd, CmdError, Runner, Tool};

/// The rsync module of the metadata.
const METADATA: &str = "metadata";

/// rsync's status for "partial transfer", which a missing source is as well.
const PARTIAL: i32 = 23;

/// A slow line and a large version; a stalled connection ends much earlier.
const LONGEST: Duration = Duration::from_secs(12 * 3600);

/// About the two lines of a manifest that a changed line costs at most, against the sum that the
/// host sends for each: of 50,000 files of which every tenth changed, 0.8 MB travel instead of
/// the 2 MB of rsync's own choice, which expects longer differences.
const LINES: &str = "--block-size=256";

fn rsync(args: &[&str], from: &str, to: &Path) -> Cmd {
    let to = to.display().to_string();
    let mut all = vec!["--contimeout=30", "--timeout=120", "--no-motd"];
    all.extend(args);
    all.extend([from, &to]);
    Cmd::new(Tool::Rsync, &all).deadline(LONGEST).why(format!("fetch {from}"))
}

/// Whether rsync's complaint is that the source does not exist.
fn is_missing(error: &CmdError) -> bool {
    matches!(error, CmdError::Exit { code: PARTIAL, stderr_tail, .. }
        if stderr_tail.contains("No such file or directory") && stderr_tail.contains("link_stat"))
        || matches!(error, CmdError::Exit { code: PARTIAL, stderr_tail, .. }
        if stderr_tail.contains("change_dir"))
}

impl<R: Runner, P: Progress> Host<'_, R, P> {
    /// Fetches the folder of an edge: what the new tree brings for it, then what the metadata
    /// says. `false`: there is no such edge.
    pub(super) fn fetch_edge(
        &mut self,
        origin: &Origin,
        role: &Role,
        to: &Name,
        folder: &Path,
    ) -> Result<bool, UpgradeError> {
        fs::create_dir_all(folder).tried("make the folder", folder)?;
        let base = origin.rsync_path.trim_matches('/');
        let own = origin.url(&format!("{base}/{to}/{}/var/lib/edeploy/{to}", role.name));
        let scripts = ["-rtp", "--include=/pre", "--include=/post", "--exclude=*"];
        self.try_fetch(&rsync(&scripts, &own, folder))?;
        let edge = origin.url(&format!("{METADATA}/{}/{}/{to}", role.version, role.name));
        self.try_fetch(&rsync(&["-rtp"], &edge, folder))
    }

    /// Fetches the manifest of a version into `file`, which may hold another version's as a
    /// basis. `None`: the server has none.
    pub(super) fn fetch_manifest(
        &mut self,
        origin: &Origin,
        role: &Role,
        file: &Path,
    ) -> Result<Option<Manifest>, UpgradeError> {
        let base = origin.rsync_path.trim_matches('/');
        let url = origin.url(&format!("{base}/{}/{}.manifest", role.version, role.name));
        // The list of files is much smaller packed, and rarely all of it is new.
        let args = ["-tz", "--ignore-times", LINES];
        if !self.try_fetch(&rsync(&args, url.trim_end_matches('/'), file))? {
            return Ok(None);
        }
        let text = fs::read_to_string(file).tried("read", file)?;
        let version = role.version.to_string();
        let manifest =
            Manifest::parse(&text).map_err(|source| UpgradeError::Manifest { version, source })?;
        Ok(Some(manifest))
    }

    /// `false`: the source does not exist.
    pub(super) fn try_fetch(&mut self, cmd: &Cmd) -> Result<bool, UpgradeError> {
        match self.runner.run(cmd) {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(source) => Err(UpgradeError::Command { what: cmd.why.clone(), source }),
        }
    }

    /// Fetches the content that the plan needs into `folder` and checks every file of it. Tells
    /// where each content is.
    pub(super) fn fetch_content(
        &mut self,
        origin: &Origin,
        role: &Role,
        plan: &UpgradePlan,
        folder: &Path,
    ) -> Result<BTreeMap<Digest, PathBuf>, UpgradeError> {
        let wanted = plan.fetch();
        let total: u64 = wanted.values().sum();
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let list = folder.with_extension("list");
        // From the top of the module: rsync daemons since 3.5 find no file of a list that is
        // relative to a folder in it. What stands before `/./` is not made at the destination.
        let base = origin.rsync_path.trim_matches('/');
        let (module, folder_in_it) = base.split_once('/').unwrap_or((base, ""));
        let prefix = format!("{folder_in_it}/{}/{}/./", role.version, role.name);
        let mut names = Vec::new();
        for path in wanted.keys() {
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
        let what = if wanted.keys().all(|path| known(path).is_some()) { "-t" } else { "-tX" };
        let args = [
            what,
            "--from0",
            "--no-implied-dirs",
            "--ignore-times",
            "--info=progress2",
            &files,
            &basis,
        ];
        let cmd = rsync(&args, &origin.url(module), &folder.join(""));
        let progress = &mut *self.progress;
        let fetched = self.runner.run_streaming(&cmd, &mut |line| {
            if let Some(done) = bytes_done(line) {
                progress.bytes(done, total);
            }
        });
        fetched.map_err(|source| UpgradeError::Command { what: cmd.why.clone(), source })?;
        self.progress.stage("check what was fetched");
        check(plan, &wanted, folder)
    }
}

/// Compares what was fetched with the manifest.
fn check(
    plan: &UpgradePlan,
    wanted: &BTreeMap<TreePath, u64>,
    folder: &Path,
) -> Result<BTreeMap<Digest, PathBuf>, UpgradeError> {
    let paths: Vec<&TreePath> = wanted.keys().collect();
    let expected = |path: &TreePath| Some(plan.changes.get(path)?.after.as_ref()?.file()?.digest);
    let checked = parallel(&paths, |path| {
        let place = join(folder, path);
        let digest = expected(path)?;
        let regular = fs::symlink_metadata(&place).is_ok_and(|metadata| metadata.is_file());
        let found = hash_file(&place, Algorithm::of(digest)?).ok()?;
        (regular && found == digest).then_some((digest, place))
    });
    let mut places = BTreeMap::new();
    for (path, checked) in paths.into_iter().zip(checked) {
        let (digest, place) = checked.ok_or_else(|| UpgradeError::Damaged {
            path: path.clone(),
            version: plan.to.to_string(),
        })?;
        places.insert(digest, place);
    }
    Ok(places)
}
