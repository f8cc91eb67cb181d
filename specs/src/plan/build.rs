//! Makes a plan: a configure file, the facts of one machine and the variables of its match give
//! everything that will be done, with absolute sizes and decided identifiers.
//!
//! Responsible for the order of the steps and for every refusal that can be known beforehand.
//! `disks` looks disks up and `geometry` places partitions, `system` writes what the
//! installed system needs to start, `network` what it needs to be reached, `admin` what the
//! admin adds. Not here: which profile fits and which CMDB entry is taken.

mod admin;
mod disks;
pub(super) mod geometry;
mod network;
mod problem;
mod system;

use std::collections::BTreeMap;

use crate::configure::template::{Scope, Shape};
use crate::configure::{At, Configure, Moment, TableKind};
use crate::facts::{Facts, Firmware};
use crate::plan::{
    Action, BootTarget, FORMAT, File, Filesystem, PartitionKind, Plan, Role, Step, partition_device,
};
use crate::units::{Name, Token, Uuid};
use crate::value::Variables;

use disks::{ESP_MOUNT, ResolvedDisk, Volume};
pub use problem::Problem;

/// What a plan is made from, beside the configure file.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The machine.
    pub facts: &'a Facts,
    /// What the match bound, merged with the CMDB entry.
    pub variables: &'a Variables,
    /// The profile that fitted.
    pub profile: &'a Name,
    /// The nonce of the allocation: all identifiers derive from it.
    pub nonce: &'a Token,
    /// Values that must appear in no log; they become [`Plan::secrets`].
    pub secrets: &'a [String],
    /// The texts of the script files that [`Configure::scripts`] names, by file name.
    pub scripts: &'a BTreeMap<String, String>,
}

/// Why no plan can be made: nothing has been taken and nothing will be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct PlanError {
    /// The place in the configure file.
    pub at: At,
    /// What is wrong and what to do about it.
    pub problem: Problem,
}

/// Makes the plan of one machine.
///
/// # Errors
///
/// The first thing that cannot be done, with its place in the configure file.
pub fn plan(configure: &Configure, inputs: &Inputs<'_>) -> Result<Plan, PlanError> {
    let scope = Scope::new(inputs.variables, inputs.facts)
        .map_err(|error| PlanError { at: configure.at(""), problem: error.into() })?;
    let planner = Planner { configure, inputs, scope };
    let role = planner.role()?;
    let hostname = planner.hostname()?;
    let disks = disks::resolve(&planner)?;
    let volumes: Vec<&Volume> = disks.iter().flat_map(|disk| &disk.volumes).collect();
    let mounts = planner.mounts(&volumes)?;
    let root = planner.root(&mounts)?;
    let target = planner.boot_target(&disks, &mounts)?;
    let active = active_partition(&disks, &mounts, &target);
    let interfaces = network::resolve(&planner)?;
    let name_servers = network::name_servers(&planner)?;
    let kernel_args = system::kernel_args(&planner)?;

    let mut files = system::files(&hostname, &volumes, &mounts, &interfaces, &kernel_args);
    files.extend(network::files(&interfaces, &name_servers));
    admin::replace_or_add(&mut files, admin::files(&planner)?);
    let runs = |moment: Moment| admin::runs(&planner, moment, &role);

    let mut steps = runs(Moment::BeforeDisks)?;
    steps.extend(disk_steps(&disks, active.as_deref()));
    steps.extend(mounts.iter().map(|mount| mount_step(mount)));
    steps.extend(runs(Moment::BeforeTree)?);
    steps.push(step("tree", 7200, Action::FetchTree { role: role.clone() }));
    steps.extend(files.into_iter().map(file_step));
    if !interfaces.is_empty() {
        steps.push(network::enable_step());
    }
    steps.extend(runs(Moment::AfterTree)?);
    steps.push(step("record", 60, Action::RecordInstallation));
    // grub-mkconfig looks at every disk, and under software emulation everything is slow.
    steps.push(step("boot loader", 600, Action::InstallBootLoader { target }));

    Ok(Plan {
        format: FORMAT,
        profile: inputs.profile.clone(),
        hostname,
        role,
        firmware: inputs.facts.firmware(),
        disks: disks.into_iter().map(|disk| disk.planned).collect(),
        root,
        steps,
        secrets: inputs.secrets.to_vec(),
    })
}

/// The one place that knows all inputs; its methods decide one thing each.
struct Planner<'a> {
    configure: &'a Configure,
    inputs: &'a Inputs<'a>,
    scope: Scope<'a>,
}

impl Planner<'_> {
    fn error(&self, at: &str, problem: Problem) -> PlanError {
        PlanError { at: self.configure.at(at), problem }
    }

    /// Renders the string at `at`, which must be one line.
    fn line(&self, scope: &Scope<'_>, at: &str, text: &str) -> Result<String, PlanError> {
        scope.render(text, Shape::Line).map_err(|error| self.error(at, error.into()))
    }

    /// Renders the string at `at`, which may hold anything.
    fn text(&self, at: &str, text: &str) -> Result<String, PlanError> {
        self.scope.render(text, Shape::Text).map_err(|error| self.error(at, error.into()))
    }

    fn role(&self) -> Result<Role, PlanError> {
        let name = |at: &str, text: &str| -> Result<Name, PlanError> {
            let text = self.line(&self.scope, at, text)?;
            text.parse().map_err(|_| self.error(at, Problem::RoleName { text }))
        };
        let role = &self.configure.machine.role;
        Ok(Role {
            name: name("role.name", &role.name)?,
            version: name("role.version", &role.version)?,
        })
    }

    fn hostname(&self) -> Result<String, PlanError> {
        let name = self.line(&self.scope, "hostname", &self.configure.machine.hostname)?;
        if system::is_hostname(&name) {
            return Ok(name);
        }
        Err(self.error("hostname", Problem::Hostname { name }))
    }

    /// The volumes that are mounted, parents first.
    fn mounts<'v>(&self, volumes: &[&'v Volume]) -> Result<Vec<&'v Volume>, PlanError> {
        let mut by_path: BTreeMap<&str, &Volume> = BTreeMap::new();
        for volume in volumes {
            let Some(path) = volume.mount.as_deref() else { continue };
            let at = format!("{}.use.mount", volume.at);
            if !system::is_mount_point(path) {
                return Err(self.error(&at, Problem::MountPoint { path: path.to_owned() }));
            }
            if by_path.insert(path, volume).is_some() {
                let problem = match path {
                    ESP_MOUNT => Problem::TwoEsps,
                    _ => Problem::MountTwice { path: path.to_owned() },
                };
                return Err(self.error(&at, problem));
            }
        }
        // A path sorts after its parents, because they are its beginning.
        Ok(by_path.into_values().collect())
    }

    fn root(&self, mounts: &[&Volume]) -> Result<Uuid, PlanError> {
        let root = mounts.iter().find(|volume| volume.mount.as_deref() == Some("/"));
        let Some(root) = root else { return Err(self.error("disks", Problem::NoRoot)) };
        match &root.filesystem {
            Filesystem::Ext4(id) | Filesystem::Xfs(id) | Filesystem::Btrfs(id) => Ok(id.clone()),
            Filesystem::Vfat(_) | Filesystem::Swap(_) => {
                Err(self.error(&format!("{}.use", root.at), Problem::RootFilesystem))
            }
        }
    }

    /// Where the boot loader goes: exactly one disk or one EFI system partition.
    fn boot_target(
        &self,
        disks: &[ResolvedDisk],
        mounts: &[&Volume],
    ) -> Result<BootTarget, PlanError> {
        let marked: Vec<&ResolvedDisk> = disks.iter().filter(|disk| disk.boot).collect();
        if let [_, second, ..] = marked[..] {
            return Err(self.error(&format!("{}.boot", second.at), Problem::TwoBootDisks));
        }
        let has = |disk: &ResolvedDisk, kind| disk.partitions.iter().any(|p| p.kind == kind);
        if self.inputs.facts.firmware() == Firmware::Uefi {
            if !disks.iter().any(|disk| has(disk, PartitionKind::Esp)) {
                return Err(self.error("disks", Problem::NoEsp));
            }
            return Ok(BootTarget::Uefi { esp: ESP_MOUNT.to_owned(), entry: "edeploy".to_owned() });
        }
        let bootable = |disk: &&ResolvedDisk| match disk.kind {
            TableKind::Gpt => has(disk, PartitionKind::BiosBoot),
            TableKind::Msdos => true,
        };
        // BIOS boots the disk marked so, else the one with /boot or the root file system on it.
        let boot = ["/boot", "/"].into_iter().find_map(|path| {
            mounts.iter().copied().find(|volume| volume.mount.as_deref() == Some(path))
        });
        let of_boot = disks.iter().find(|disk| {
            boot.is_some_and(|boot| disk.volumes.iter().any(|volume| volume.device == boot.device))
        });
        match marked
            .first()
            .copied()
            .or(of_boot.filter(bootable))
            .or(disks.iter().find(|disk| has(disk, PartitionKind::BiosBoot)))
        {
            Some(disk) => Ok(BootTarget::Bios { disk: disk.planned.path.clone() }),
            None => Err(self.error("disks", Problem::NoBiosBoot)),
        }
    }
}

/// The partition that is marked active where a BIOS starts from an MBR: the one with the kernel,
/// else the first of that disk. GRUB itself does not look at the mark.
fn active_partition(
    disks: &[ResolvedDisk],
    mounts: &[&Volume],
    target: &BootTarget,
) -> Option<String> {
    let BootTarget::Bios { disk: path } = target else { return None };
    let of_boot = |disk: &&ResolvedDisk| disk.planned.path == *path;
    let disk = disks.iter().find(of_boot).filter(|disk| disk.kind == TableKind::Msdos)?;
    let mounted = |at: &str| {
        let volume = mounts.iter().find(|volume| volume.mount.as_deref() == Some(at))?;
        disk.volumes.iter().find(|of_disk| of_disk.device == volume.device)
    };
    let kernel = mounted("/boot").or_else(|| mounted("/"));
    let first = || Some(partition_device(path, disk.partitions.first()?.number));
    kernel.map(|volume| volume.device.clone()).or_else(first)
}

fn step(id: impl Into<String>, deadline_seconds: u32, action: Action) -> Step {
    Step { id: id.into(), deadline_seconds, action }
}

/// Clears every disk before the first table is written, so that no remains of an earlier
/// installation (a volume group over two disks, say) hold a disk or boot.
fn disk_steps(disks: &[ResolvedDisk], active: Option<&str>) -> Vec<Step> {
    let clear = disks.iter().map(|disk| {
        let disk = disk.planned.path.clone();
        step(format!("clear {disk}"), 120, Action::ClearDisk { disk })
    });
    let tables = disks.iter().map(|disk| {
        let path = &disk.planned.path;
        let mut partitions = disk.partitions.clone();
        for partition in &mut partitions {
            partition.active = active == Some(&partition_device(path, partition.number));
        }
        let table = disk.table.clone();
        let action = Action::WriteTable { disk: path.clone(), table, partitions };
        step(format!("table {path}"), 60, action)
    });
    let filesystems = disks.iter().flat_map(|disk| &disk.volumes).map(|volume| {
        let id = match (&volume.filesystem, &volume.mount) {
            (Filesystem::Swap(_), _) => format!("swap {}", volume.device),
            (_, Some(mount)) => format!("filesystem {mount}"),
            (_, None) => format!("filesystem {}", volume.device),
        };
        let action = Action::MakeFilesystem {
            device: volume.device.clone(),
            filesystem: volume.filesystem.clone(),
            label: volume.label.clone(),
            options: volume.mkfs_options.clone(),
        };
        step(id, 600, action)
    });
    clear.chain(tables).chain(filesystems).collect()
}

fn mount_step(volume: &Volume) -> Step {
    let path = volume.mount.clone().unwrap_or_default();
    let action = Action::Mount {
        device: volume.device.clone(),
        path: path.clone(),
        filesystem: volume.filesystem.kind().to_owned(),
        options: volume.mount_options.join(","),
    };
    step(format!("mount {path}"), 60, action)
}

fn file_step(file: File) -> Step {
    step(format!("file {}", file.path), 30, Action::WriteFile { file })
}

#[cfg(test)]
mod tests;
