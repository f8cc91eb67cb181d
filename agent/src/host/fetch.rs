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
use super::layout::{Area, fetched};
use super::listing;
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

    /// Asks for everything in a tree, against an empty folder, and transfers nothing.
    /// [`UpgradeError::NoEdge`]: there is no such tree.
    pub(super) fn list_tree(
        &mut self,
        origin: &Origin,
        role: &Role,
        folder: &Path,
    ) -> Result<Manifest, UpgradeError> {
        self.progress.stage("ask for every file, since the role has no manifest");
        let empty = folder.join("empty");
        fs::create_dir_all(&empty).tried("make the folder", &empty)?;
        let url = origin.tree_url(role);
        let args = [
            "-rlptgoD",
            "-n",
            "--checksum",
            "--checksum-choice=md5",
            "--numeric-ids",
            listing::FORMAT,
            "--contimeout=30",
            "--timeout=600",
            "--no-motd",
            &url,
            &empty.join("").display().to_string(),
        ];
        let cmd = Cmd::new(Tool::Rsync, &args)
            .variable("TZ", "UTC0")
            .deadline(Duration::from_secs(3600))
            .why(format!("list {url}"));
        let listing = match self.runner.run(&cmd) {
            Ok(output) => output.stdout,
            Err(CmdError::Exit { code: 23, stderr_tail, .. })
                if stderr_tail.contains("change_dir") =>
            {
                return Err(UpgradeError::NoEdge {
                    role: role.name.to_string(),
                    from: "its tree".to_owned(),
                    to: role.version.to_string(),
                });
            }
            Err(source) => return Err(UpgradeError::Command { what: cmd.why.clone(), source }),
        };
        let version = role.version.to_string();
        let wrong = |source| UpgradeError::Manifest { version, source };
        let entries = listing::read(&listing).map_err(wrong.clone())?;
        let manifest = Manifest { role: role.name.clone(), version: role.version.clone(), entries };
        // Through the text form, which refuses what leads out of the tree.
        Manifest::parse(&manifest.to_text()).map_err(wrong)
    }

    /// `false`: the source does not exist.
    pub(super) fn try_fetch(&mut self, cmd: &Cmd) -> Result<bool, UpgradeError> {
        match self.runner.run(cmd) {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(source) => Err(UpgradeError::Command { what: cmd.why.clone(), source }),
        }
    }

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
