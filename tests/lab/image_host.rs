//! An installed host without a machine: a file system on an image that plays the host, two
//! versions of its role of 2,000 files each, and an rsync daemon with both.
//!
//! Between the versions is some of everything: content, modes, links, files that come and go,
//! files that become folders. One file of `/etc` was edited on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::artifacts::Artifacts;
use crate::dice::Dice;
use crate::disk::{LoopDevice, blank};
use crate::judge::{Judge, Verdict};
use crate::power_cut::{AttachedDisk, Cut, Cuts, Recording, log::WriteLog, overlay, seed, unmount};
use crate::process::{Lifetime, Service, run};
use crate::services::{free_port, rsync_daemon};

/// The role of the host, the version it has and the one it gets.
const ROLE: &str = "web";
/// See [`ROLE`].
const FROM: &str = "F.1.0.0";
/// See [`ROLE`].
const TO: &str = "F.1.0.1";

/// What somebody wrote into a file that the new version changes.
const EDIT: &str = "setting = of this host\n";
const EDITED: &str = "etc/tool.conf";

/// Large enough for both versions on either file system; nothing of it is taken before it is
/// written.
const SIZE: u64 = 400 << 20;

/// A file system of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4.
    Ext4,
    /// xfs.
    Xfs,
}

impl FileSystem {
    fn make(self) -> [&'static str; 2] {
        match self {
            FileSystem::Ext4 => ["mkfs.ext4", "-q"],
            FileSystem::Xfs => ["mkfs.xfs", "-q"],
        }
    }
}

/// A host and what is around it.
#[derive(Debug)]
struct ImageHost {
    folder: PathBuf,
    judge: Judge,
    _daemon: Service,
}

impl ImageHost {
    /// Lays everything out below a folder and installs the host.
    fn install(folder: &Path, artifacts: &Artifacts, system: FileSystem) -> Result<ImageHost> {
        let path = |name: &str| folder.join(name);
        let edeploy = artifacts.edeploy.clone();
        let manifest = |version: &str| path(&format!("install/{version}/{ROLE}.manifest"));
        for (version, number) in [(FROM, 1), (TO, 2)] {
            let tree = path(&format!("install/{version}/{ROLE}"));
            fill(&tree, number)?;
            let words = ["manifest", &tree.display().to_string(), ROLE, version];
            fs::write(manifest(version), run(&edeploy.display().to_string(), words)?)?;
        }
        let edge = path(&format!("metadata/{FROM}/{ROLE}/{TO}"));
        fs::create_dir_all(&edge)?;
        fs::write(edge.join("exclude"), "/srv\n")?;
        for name in ["pre", "post"] {
            let script = edge.join(name);
            fs::write(&script, format!("#!/bin/sh\necho \"$VERS $TO\" > /tmp/{name}\n"))?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        }
        let port = free_port()?;
        let (install, metadata) = (path("install"), path("metadata"));
        let daemon = rsync_daemon(folder, port, &install, &metadata, Lifetime::Scoped)?;
        let manifests = [FROM, TO].map(|version| (version.to_owned(), manifest(version)));
        let tolerated = [BTreeSet::from([EDITED.to_owned()]), BTreeSet::new()];
        let judge = Judge { edeploy, manifests, tolerated };
        let host = ImageHost { folder: folder.to_owned(), judge, _daemon: daemon };
        host.make_image(system, port)?;
        Ok(host)
    }

    fn make_image(&self, system: FileSystem, port: u16) -> Result<()> {
        let (image, root) = (self.image(), self.root());
        blank(&image, SIZE)?;
        let [program, quiet] = system.make();
        run(program, [quiet.into(), image.clone().into_os_string()])?;
        fs::create_dir_all(&root)?;
        let device = LoopDevice::attach(&image, true)?;
        run("mount", [device.path.as_os_str(), root.as_os_str()])?;
        let filled = (|| {
            let tree = self.folder.join(format!("install/{FROM}/{ROLE}/"));
            run("rsync", ["-aHAX".as_ref(), tree.as_os_str(), root.as_os_str()])?;
            fs::write(root.join(EDITED), EDIT)?;
            let conf = format!("VERS={FROM}\nROLE={ROLE}\nRSERV=127.0.0.1\nRSERV_PORT={port}\n");
            fs::write(root.join("var/lib/edeploy/conf"), conf)?;
            Ok(())
        })();
        unmount(&device.path, &root)?;
        filled
    }

    fn image(&self) -> PathBuf {
        self.folder.join("image")
    }

    fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// Upgrades the host and records what is written: the log, its position when the upgrade
    /// began and when the command said that it was done. The image stays as it was.
    fn record_upgrade(&self) -> Result<(WriteLog, usize, usize)> {
        let (upper, log) = (self.folder.join("recorded"), self.folder.join("log"));
        overlay(&self.image(), &upper)?;
        let mut recording = Recording::start(&upper, &log)?;
        recording.disk.mount(None, &self.root())?;
        let begin = recording.entries()?;
        let (status, said) = self.judge.edeploy(&self.root(), &["upgrade", TO])?;
        ensure!(status == 0, "the upgrade ended with {status}: {said}");
        let done = recording.entries()?;
        recording.disk.detach()?;
        fs::remove_file(&upper)?;
        Ok((WriteLog::open(&log)?, begin, done))
    }

    /// Does something with the host as it is after a cut, mounted.
    fn after<T>(
        &self,
        cuts: &mut Cuts<'_>,
        cut: &Cut,
        look: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        cuts.forward(cut)?;
        let upper = self.folder.join("cut");
        overlay(&self.image(), &upper)?;
        let mut disk = AttachedDisk::show(&upper)?;
        cuts.write_rest(cut, disk.file())?;
        disk.mount(None, &self.root())?;
        let result = look(&self.root())?;
        disk.detach()?;
        fs::remove_file(&upper)?;
        Ok(result)
    }

    /// What cuts play forward: the image itself.
    fn cuts<'a>(&self, log: &'a WriteLog) -> Cuts<'a> {
        Cuts::new(log, &self.image())
    }
}

/// Upgrades such a host and cuts its power `count` times. Each time it must be of one version, or
/// become so, must still have its owner's edit, and must take the upgrade afterwards. Once the
/// command has said that it is done, only the new version will do. Tells how often it was what.
pub fn survive(
    folder: &Path,
    artifacts: &Artifacts,
    system: FileSystem,
    count: usize,
) -> Result<BTreeMap<Verdict, usize>> {
    let seed = seed()?;
    crate::say(&format!("{count} power cuts on {system:?}, LAB_SEED={seed}"));
    let host = ImageHost::install(folder, artifacts, system)?;
    let (log, begin, done) = host.record_upgrade()?;
    let chosen = Cut::choose(&log, begin, log.entries.len(), count, seed);
    let mut cuts = host.cuts(&log);
    let mut verdicts = BTreeMap::new();
    for cut in chosen {
        let verdict = host
            .after(&mut cuts, &cut, |root| {
                let verdict = host.judge.judge(root)?;
                edit_is_there(root, verdict.is_new())?;
                ensure!(verdict.is_new() || cut.after < done, "what was done is undone");
                let (status, said) = host.judge.edeploy(root, &["upgrade", TO])?;
                ensure!(status == 0, "the upgrade afterwards ended with {status}: {said}");
                ensure!(host.judge.clean(root)? == Ok(true), "and was not whole");
                edit_is_there(root, true)?;
                Ok(verdict)
            })
            .with_context(|| format!("{cut:?}; the upgrade is {begin} to {done} of the log"))?;
        *verdicts.entry(verdict).or_default() += 1;
    }
    crate::say(&format!("{system:?}: {verdicts:?}"));
    Ok(verdicts)
}

/// Whether the owner's edit is somewhere: in its place before, kept aside after.
fn edit_is_there(root: &Path, new: bool) -> Result<()> {
    let kept = format!("var/lib/edeploy/kept/1-{FROM}/{EDITED}");
    let place = if new { kept.as_str() } else { EDITED };
    let found = fs::read_to_string(root.join(place)).with_context(|| format!("no `{place}`"));
    ensure!(found? == EDIT, "`{place}` is not what the owner wrote");
    Ok(())
}

/// A tree of 2,000 files that scripts can run in.
fn fill(tree: &Path, version: u64) -> Result<()> {
    for folder in ["usr/bin", "usr/lib64", "etc/many", "var/lib/edeploy", "srv", "tmp", "boot"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), tree.join(name))?;
    }
    copy_shell(tree)?;
    let mut dice = Dice::new(7);
    for number in 0..1900_u64 {
        let folder = tree.join(format!("usr/share/many/{}", number % 40));
        let changes = if number.is_multiple_of(10) { version } else { 1 };
        // Some come and some go.
        let there = match number % 50 {
            1 => version == 1,
            2 => version == 2,
            _ => true,
        };
        let length = 1 + dice.position(8000);
        if there {
            fs::create_dir_all(&folder)?;
            let text = format!("{number} {changes}\n").repeat(length / 8 + 1);
            fs::write(folder.join(number.to_string()), text)?;
        }
    }
    for number in 0..100_u64 {
        let changes = if number.is_multiple_of(10) { version } else { 1 };
        fs::write(tree.join(format!("etc/many/{number}")), format!("{number} {changes}\n"))?;
    }
    fs::write(tree.join("etc/tool.conf"), format!("setting = {version}\n"))?;
    fs::write(tree.join(format!("boot/vmlinuz-{version}")), "kernel\n")?;
    fs::create_dir_all(tree.join(format!("usr/lib/modules/{version}")))?;
    fs::write(tree.join(format!("usr/lib/modules/{version}/a.ko")), "module\n")?;
    fs::hard_link(tree.join("usr/share/many/3/3"), tree.join("usr/share/twin"))?;
    let other = tree.join("usr/share/kind");
    if version == 1 {
        fs::write(other, "file\n")?;
    } else {
        symlink("twin", other)?;
    }
    let mode = fs::Permissions::from_mode(if version == 1 { 0o755 } else { 0o750 });
    fs::set_permissions(tree.join("usr/share/many/5"), mode)?;
    Ok(())
}

/// The shell of this machine with its libraries, for `pre` and `post`.
fn copy_shell(tree: &Path) -> Result<()> {
    let listing = run("ldd", ["/bin/sh"])?;
    for path in listing.split_whitespace().filter(|word| word.starts_with('/')).chain(["/bin/sh"]) {
        let copy = tree.join("usr").join(path.trim_start_matches("/usr").trim_start_matches('/'));
        fs::create_dir_all(copy.parent().context("no folder")?)?;
        fs::copy(path, &copy).with_context(|| format!("copying `{path}`"))?;
    }
    Ok(())
}
