//! What an upgrade would do: the edge, both manifests, the disk, and the plan that follows.
//! `test-upgrade` ends here, `upgrade` goes on. Nothing of the host is changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use specs::units::Name;
use specs::upgrade::{self, Inputs, Kernel, Manifest, Rules, UpgradePlan, kernel_of};

use super::boot_menu::default_kernel;
use super::commands::{Host, Progress};
use super::error::{Tried, UpgradeError};
use super::identity::Identity;
use super::manifests::Manifests;
use crate::execute::CONF;
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
        self.progress.stage("fetch the list of changes");
        let Manifests { edge, old, new, glance } = self.fetch_manifests(&identity, to, folder)?;
        let rules = rules(&edge, to)?;
        self.progress.stage("compare with this host");
        let manifests: Vec<&Manifest> = old.iter().chain([&new]).collect();
        let depth = old.as_ref().map_or(Depth::Full, |_| self.depth());
        let disk = match (glance, depth) {
            (Some(glance), Depth::Since(moment)) => {
                glance.observe(self.root.folder(), &manifests, &rules, moment)?
            }
            _ => observe(self.root.folder(), &manifests, &rules, depth)?,
        };
        let running = self.running_kernels(&disk);
        let inputs =
            Inputs { from: old.as_ref(), to: &new, disk: &disk, rules: &rules, running: &running };
        let plan = upgrade::plan(&inputs).map_err(UpgradeError::Refused)?;
        let needs = self.needs(&plan, &disk)?;
        Ok(Inquiry { identity, to: new, plan, edge, needs })
    }

    /// How closely the disk is looked at: what nobody has touched since the host became its version
    /// is as it was then. That is the moment at which the version was written down.
    fn depth(&self) -> Depth {
        let conf = self.root.resolve(CONF).and_then(fs::metadata);
        conf.map_or(Depth::Full, |conf| Depth::Since(conf.ctime()))
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
