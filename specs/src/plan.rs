//! A plan: everything that will be done to one machine, as a value that can be printed, linted,
//! diffed, stored and sent.
//!
//! A plan holds no choice: disks are named by identity, sizes are absolute, UUIDs are decided.
//! Making one is `plan::build`; looking for contradictions is `plan::lint`; carrying it out is
//! the agent's executor, which only translates.

pub mod build;
mod describe;
pub mod lint;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::facts::Firmware;
use crate::units::{Bytes, FatId, Name, SectorSize, Uuid};

/// The version of the plan format that this code writes and reads.
pub const FORMAT: u32 = 1;

/// Everything that will be done to one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`FORMAT`].
    pub format: u32,
    /// The profile that fitted.
    pub profile: Name,
    /// The host name the machine will have.
    pub hostname: String,
    /// The tree to put on it.
    pub role: Role,
    /// The firmware the boot loader is made for; the agent refuses a plan for the other one.
    pub firmware: Firmware,
    /// Every disk the plan writes to. A step that names another disk is a defect (`plan::lint`).
    pub disks: Vec<PlannedDisk>,
    /// The file system mounted at `/`: how the installed system is found again.
    pub root: Uuid,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// Values that must appear in no log, stored plan or stored fact: whoever writes one of
    /// those replaces them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}

/// A role tree: `<version>/<name>/` on the rsync server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Name of the role, for example `mysql`.
    pub name: Name,
    /// Its version, for example `D12-F.1.0.0`.
    pub version: Name,
}

/// The identity of a disk the plan writes to, as the facts had it. The agent compares all of it
/// with the machine just before the first destructive step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedDisk {
    /// Device path, for example `/dev/vda`. Steps refer to the disk by it.
    pub path: String,
    /// Serial number, when it has one.
    pub serial: Option<String>,
    /// World wide name, when it has one.
    pub wwn: Option<String>,
    /// Size as planned.
    pub size: DiskSize,
    /// Logical sector size; geometry is in these sectors.
    pub sector_size: SectorSize,
}

/// How exactly the facts knew a disk's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskSize {
    /// To the byte.
    Exact(Bytes),
    /// In whole GB rounded down (facts of the original): the disk is at least this large, and
    /// less than one GB larger.
    AtLeast(Bytes),
}

/// One step: an action with a name that reports, logs and fault injection use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Unique within the plan, readable: `table /dev/vda`, `filesystem /srv`.
    pub id: String,
    /// After this many seconds the step has failed.
    pub deadline_seconds: u32,
    /// What is done.
    pub action: Action,
}

/// What a step does. Paths called `path` are absolute inside the system being installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Takes the disk out of use (swap, md, LVM, device-mapper on it) and erases all signatures
    /// and both ends of it. The first destructive step of a disk.
    ClearDisk {
        /// A path of [`Plan::disks`].
        disk: String,
    },
    /// Writes a partition table, then waits until every partition's device node is there.
    WriteTable {
        /// A path of [`Plan::disks`].
        disk: String,
        /// GPT or MBR, with its identifier.
        table: Table,
        /// All partitions, in order, numbered from 1.
        partitions: Vec<Partition>,
    },
    /// Makes a file system or swap area.
    MakeFilesystem {
        /// Device node, for example `/dev/vda2`.
        device: String,
        /// Type, with the identifier it gets.
        filesystem: Filesystem,
        /// Label, at most what the type can hold.
        label: Option<String>,
        /// More arguments for the `mkfs` of the type, as the admin wrote them.
        options: Vec<String>,
    },
    /// Mounts a file system into the tree being installed.
    Mount {
        /// Device node.
        device: String,
        /// Where: `/`, `/boot`, `/srv`.
        path: String,
        /// Type, as `mount -t` names it.
        filesystem: String,
        /// Mount options, comma-separated; empty for the defaults.
        options: String,
    },
    /// Puts the role tree onto the mounted file systems.
    FetchTree {
        /// Which.
        role: Role,
    },
    /// Writes one file. Parent directories are made; links are never followed out of the tree.
    WriteFile {
        /// The file.
        file: File,
    },
    /// Records where the machine came from, which the agent alone knows: SERV, RSERV, RPATH and
    /// RSERV_PORT in `/var/lib/edeploy/conf`, and log, plan, facts and vars under
    /// `/var/log/edeploy`, without secrets.
    RecordInstallation,
    /// Runs a command or script of the admin.
    Run {
        /// The program and its arguments, never a shell line.
        command: Command,
        /// Inside the installed tree, or in the initrd.
        chroot: bool,
        /// `EDEPLOY_<variable>` and others, nothing else is inherited but PATH.
        environment: BTreeMap<String, String>,
    },
    /// Installs the boot loader; always the last step that writes.
    InstallBootLoader {
        /// Where.
        target: BootTarget,
    },
}

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// GUID partition table with this disk identifier.
    Gpt {
        /// The disk GUID.
        id: Uuid,
    },
    /// MBR with this disk identifier.
    Msdos {
        /// The 32-bit identifier.
        id: u32,
    },
}

/// One partition, in sectors of the disk's logical size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// From 1.
    pub number: u32,
    /// First sector.
    pub start: u64,
    /// How many sectors.
    pub sectors: u64,
    /// What it is for.
    pub kind: PartitionKind,
    /// GPT partition name.
    pub label: Option<String>,
    /// GPT unique partition GUID; `None` on MBR.
    pub id: Option<Uuid>,
    /// Marked active in the MBR: some BIOSes start no disk without such a partition.
    #[serde(default, skip_serializing_if = "is_false")]
    pub active: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a partition is for: decides its type code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionKind {
    /// Linux data.
    Linux,
    /// Linux swap.
    Swap,
    /// EFI system partition.
    Esp,
    /// GRUB's core image on GPT under BIOS.
    BiosBoot,
    /// Member of a software RAID.
    Raid,
    /// LVM physical volume.
    Lvm,
}

/// A file system type with the identifier it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filesystem {
    /// ext4.
    Ext4(Uuid),
    /// xfs.
    Xfs(Uuid),
    /// btrfs.
    Btrfs(Uuid),
    /// FAT32.
    Vfat(FatId),
    /// Swap.
    Swap(Uuid),
}

/// A file of the installed system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Absolute path inside the installed system.
    pub path: String,
    /// What it holds.
    pub content: String,
    /// Permission bits, for example `0o644`.
    pub mode: u32,
    /// Owner, numeric.
    pub uid: u32,
    /// Group, numeric.
    pub gid: u32,
}

/// What a `run` step starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Program and arguments.
    Arguments(Vec<String>),
    /// A script file of the configuration directory, carried in the plan.
    Script {
        /// Its file name, for messages.
        name: String,
        /// Its text, first line `#!…`.
        content: String,
    },
}

/// Where the boot loader goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootTarget {
    /// Into the first sectors of this disk.
    Bios {
        /// A path of [`Plan::disks`].
        disk: String,
    },
    /// Into the EFI system partition mounted at `esp`, with a boot entry after the entries that
    /// are there (the network stays first) and the fallback path `EFI/BOOT`.
    Uefi {
        /// Mount point of the ESP, for example `/boot/efi`.
        esp: String,
        /// Label of the firmware's boot entry.
        entry: String,
    },
}

impl DiskSize {
    /// What the disk has for certain.
    pub fn bytes(self) -> Bytes {
        match self {
            DiskSize::Exact(bytes) | DiskSize::AtLeast(bytes) => bytes,
        }
    }
}

/// The device node of partition `number` of `disk`: `/dev/vda1`, `/dev/nvme0n1p1`. The kernel
/// puts a `p` between when the disk's own name ends in a digit.
pub fn partition_device(disk: &str, number: u32) -> String {
    let separator = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("{disk}{separator}{number}")
}

impl Action {
    /// The disk whose data this action destroys. Actions on partitions come after the
    /// [`Action::ClearDisk`] of their disk and destroy nothing that is still there.
    pub fn destroys(&self) -> Option<&str> {
        match self {
            Action::ClearDisk { disk } | Action::WriteTable { disk, .. } => Some(disk),
            _ => None,
        }
    }
}

impl Filesystem {
    /// The name that `mount -t` and fstab use.
    pub fn kind(&self) -> &'static str {
        match self {
            Filesystem::Ext4(_) => "ext4",
            Filesystem::Xfs(_) => "xfs",
            Filesystem::Btrfs(_) => "btrfs",
            Filesystem::Vfat(_) => "vfat",
            Filesystem::Swap(_) => "swap",
        }
    }

    /// The identifier as fstab's `UUID=` wants it.
    pub fn id(&self) -> &str {
        match self {
            Filesystem::Ext4(id)
            | Filesystem::Xfs(id)
            | Filesystem::Btrfs(id)
            | Filesystem::Swap(id) => id.as_str(),
            Filesystem::Vfat(id) => id.as_str(),
        }
    }
}
