//! The manifests of both versions and the edge between them: what an upgrade is made from, fetched
//! by rsync.
//!
//! What does not depend on each other is fetched side by side: most of the time of an upgrade that
//! changes little is spent waiting for the server.

use std::fs;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use specs::plan::Role;
use specs::units::Name;
use specs::upgrade::{Manifest, Refusal};

use super::commands::{Host, Progress};
use super::error::{Tried, UpgradeError};
use super::fetch::rsync;
use super::identity::Identity;
use super::layout::remove_all;
use super::listing;
use super::verify::own_rules;
use crate::execute::Origin;
use crate::tree::Glance;
use crate::world::{Cmd, CmdError, Output, Root, Runner, Tool};

/// The rsync module of the metadata.
const METADATA: &str = "metadata";

/// rsync's status for "partial transfer", which a missing source is as well.
const PARTIAL: i32 = 23;

/// About the two lines of a manifest that a changed line costs at most, against the sum that the
/// host sends for each: of 50,000 files of which every tenth changed, 0.8 MB travel instead of
/// the 2 MB of rsync's own choice, which expects longer differences.
const LINES: &str = "--block-size=256";

/// What was fetched.
#[derive(Debug)]
pub(super) struct Manifests {
    /// The folder with `exclude`, `add_only`, `pre` and `post`.
    pub(super) edge: PathBuf,
    /// What the host was made from; `None` when the server has dropped that version.
    pub(super) old: Option<Manifest>,
    /// What it is to become.
    pub(super) new: Manifest,
    /// What the host holds of `old`, if it had that manifest already.
    pub(super) glance: Option<Glance>,
}

/// What the host knows by itself: its manifest, and what its disk holds of that.
type Known = (Manifest, Glance);

impl<R: Runner, P: Progress> Host<'_, R, P> {
    /// Fetches what an upgrade is made from into `folder`.
    pub(super) fn fetch_manifests(
        &mut self,
        identity: &Identity,
        to: &Name,
        folder: &Path,
    ) -> Result<Manifests, UpgradeError> {
        let (origin, here) = (identity.origin()?, identity.role());
        let there = Role { name: here.name.clone(), version: to.clone() };
        let (came, known) = self.fetch_edge(&origin, &here, &there, folder)?;
        let (old, glance) = match known {
            Some((own, glance)) => (Some(own), Some(glance)),
            None => (self.fetch_own_manifest(identity, folder)?, None),
        };
        let file = folder.join("manifest");
        let came = match (came, &old) {
            (Some(came), _) => came,
            (None, old) => {
                if let Some(old) = old {
                    fs::write(&file, old.to_text()).tried("write", &file)?;
                }
                self.try_fetch(&rsync_manifest(&origin, &there, &file))?
            }
        };
        let new = if came {
            read_manifest(&file, to)?
        } else {
            // Nothing came: this is still the basis.
            remove_all(&file)?;
            self.list_tree(&origin, &there, folder)?
        };
        check_names(&there, &new)?;
        Ok(Manifests { edge: folder.join("edge"), old, new, glance })
    }

    /// Fetches the edge and, if the host has a basis for it, the manifest of the new version. While
    /// the server is waited for, the host is looked at.
    ///
    /// Whether the manifest came (`None`: it was not asked for), and what the host knows.
    fn fetch_edge(
        &mut self,
        origin: &Origin,
        here: &Role,
        there: &Role,
        folder: &Path,
    ) -> Result<(Option<bool>, Option<Known>), UpgradeError> {
        let (edge, scripts) = (folder.join("edge"), folder.join("scripts"));
        for folder in [&edge, &scripts] {
            fs::create_dir_all(folder).tried("make the folder", folder)?;
        }
        let mut cmds = vec![
            rsync_edge(origin, here, &there.version, &edge),
            rsync_scripts(origin, there, &scripts),
        ];
        let manifest = folder.join("manifest");
        if self.lay_basis(&here.version, &manifest)? {
            cmds.push(rsync_manifest(origin, there, &manifest));
        }
        let (root, runner) = (&self.root, &mut *self.runner);
        let (ended, known) = thread::scope(|scope| {
            let known = scope.spawn(|| known(root, &here.version));
            let ended = runner.run_all(&cmds);
            (ended, known.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        let mut came = cmds.iter().zip(ended).map(|(cmd, ended)| exists(cmd, ended));
        if came.next().transpose()? != Some(true) {
            return Err(UpgradeError::NoEdge {
                role: here.name.to_string(),
                from: here.version.to_string(),
                to: there.version.to_string(),
            });
        }
        came.next().transpose()?;
        take_over_scripts(&scripts, &edge)?;
        Ok((came.next().transpose()?, known?))
    }

    /// The manifest of the version that the host has, of which it keeps none: the server's, else
    /// what the server's tree holds. `None` when the server has dropped that version.
    pub(super) fn fetch_own_manifest(
        &mut self,
        identity: &Identity,
        folder: &Path,
    ) -> Result<Option<Manifest>, UpgradeError> {
        let (origin, role) = (identity.origin()?, identity.role());
        let file = folder.join("manifest.own");
        if self.try_fetch(&rsync_manifest(&origin, &role, &file))? {
            let manifest = read_manifest(&file, &role.version)?;
            check_names(&role, &manifest)?;
            return Ok(Some(manifest));
        }
        match self.list_tree(&origin, &role, folder) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(UpgradeError::NoEdge { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts the manifest that the host keeps of its version where the next one arrives as a
    /// difference. `false`: it keeps none.
    fn lay_basis(&self, version: &Name, file: &Path) -> Result<bool, UpgradeError> {
        if !self.keeps_manifest(version) {
            return Ok(false);
        }
        let kept = manifest_path(version);
        let kept = self.root.resolve(&kept).tried("find", Path::new(&kept))?;
        fs::copy(&kept, file).tried("copy", &kept)?;
        Ok(true)
    }

    /// Whether the host keeps the manifest of a version.
    pub(super) fn keeps_manifest(&self, version: &Name) -> bool {
        self.root.is_file(&manifest_path(version))
    }

    /// Asks for everything in a tree, against an empty folder, and transfers nothing.
    /// [`UpgradeError::NoEdge`]: there is no such tree.
    fn list_tree(
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
            Err(CmdError::Exit { code: PARTIAL, stderr_tail, .. })
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
    fn try_fetch(&mut self, cmd: &Cmd) -> Result<bool, UpgradeError> {
        exists(cmd, self.runner.run(cmd))
    }
}

/// Where the host keeps the manifest of a version.
pub(super) fn manifest_path(version: &Name) -> String {
    format!("/var/lib/edeploy/{version}/manifest")
}

/// The manifest that a host keeps of a version.
pub(super) fn kept_manifest(root: &Root, version: &Name) -> Result<Option<Manifest>, UpgradeError> {
    let path = manifest_path(version);
    if !root.is_file(&path) {
        return Ok(None);
    }
    let text = root.read_text(&path).tried("read", Path::new(&path))?;
    parse_manifest(&text, version).map(Some)
}

fn known(root: &Root, version: &Name) -> Result<Option<Known>, UpgradeError> {
    let Some(manifest) = kept_manifest(root, version)? else { return Ok(None) };
    let glance = Glance::take(root.folder(), &manifest, own_rules(root, version))?;
    Ok(Some((manifest, glance)))
}

fn read_manifest(file: &Path, version: &Name) -> Result<Manifest, UpgradeError> {
    parse_manifest(&fs::read_to_string(file).tried("read", file)?, version)
}

fn parse_manifest(text: &str, version: &Name) -> Result<Manifest, UpgradeError> {
    let version = version.to_string();
    Manifest::parse(text).map_err(|source| UpgradeError::Manifest { version, source })
}

/// Fetches what the metadata say about an upgrade.
fn rsync_edge(origin: &Origin, here: &Role, to: &Name, folder: &Path) -> Cmd {
    let url = origin.url(&format!("{METADATA}/{}/{}/{to}", here.version, here.name));
    rsync(&["-rtp"], &url, folder)
}

/// Fetches the scripts that a tree brings along for those who come to it.
fn rsync_scripts(origin: &Origin, there: &Role, folder: &Path) -> Cmd {
    let (base, to) = (origin.rsync_path.trim_matches('/'), &there.version);
    let url = origin.url(&format!("{base}/{to}/{}/var/lib/edeploy/{to}", there.name));
    rsync(&["-rtp", "--include=/pre", "--include=/post", "--exclude=*"], &url, folder)
}

/// Fetches the manifest of a version into a file, which may hold another version's as a basis.
fn rsync_manifest(origin: &Origin, role: &Role, file: &Path) -> Cmd {
    let base = origin.rsync_path.trim_matches('/');
    let url = origin.url(&format!("{base}/{}/{}.manifest", role.version, role.name));
    // The list of files is much smaller packed, and rarely all of it is new.
    rsync(&["-tz", "--ignore-times", LINES], url.trim_end_matches('/'), file)
}

/// What a transfer came to. `false`: the source does not exist.
fn exists(cmd: &Cmd, ended: Result<Output, CmdError>) -> Result<bool, UpgradeError> {
    match ended {
        Ok(_) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(source) => Err(UpgradeError::Command { what: cmd.why.clone(), source }),
    }
}

/// Whether rsync's complaint is that the source does not exist.
fn is_missing(error: &CmdError) -> bool {
    let CmdError::Exit { code: PARTIAL, stderr_tail, .. } = error else { return false };
    let no_file =
        stderr_tail.contains("No such file or directory") && stderr_tail.contains("link_stat");
    no_file || stderr_tail.contains("change_dir")
}

/// The scripts of the tree stand in for those that the metadata do not have.
fn take_over_scripts(scripts: &Path, edge: &Path) -> Result<(), UpgradeError> {
    for name in ["pre", "post"] {
        let (from, to) = (scripts.join(name), edge.join(name));
        if from.exists() && fs::symlink_metadata(&to).is_err() {
            fs::rename(&from, &to).tried("take over", &from)?;
        }
    }
    Ok(())
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
