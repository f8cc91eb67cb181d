//! The last look at the machine before anything is destroyed: is it still the one that the plan
//! was made for, and can everything in the plan be done?
//!
//! All findings are collected, so that a person mends them at once. Last, when there are none,
//! every disk of the plan is taken out of use and claimed: a disk that cannot be had must be
//! known before another one is wiped.

use std::collections::BTreeMap;

use specs::facts::Firmware;
use specs::plan::{self, Action, DiskSize, Plan, PlannedDisk};
use specs::units::Bytes;

use super::device::{DiskIdentity, kernel_name, stack};
use super::op::Op;
use super::system::{SystemCall, SystemError};
use super::{Executor, Installation, StepError, operations, release};
use crate::archive::ArchiveError;
use crate::world::{Cmd, CmdError, Program, Root, Tool, missing_tools};

/// What stands between the plan and the machine.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// The plan is of another version of this program.
    #[error(
        "the plan has format {found}, this agent reads {}: use an agent of the server's version",
        plan::FORMAT
    )]
    Format {
        /// Of the plan.
        found: u32,
    },
    /// The plan contradicts itself.
    #[error("the plan contradicts itself: {0}")]
    Contradiction(String),
    /// The boot loader of the plan is not one this machine can boot.
    #[error("the plan is for {planned:?} firmware, this machine was started by {found:?}")]
    Firmware {
        /// Of the plan.
        planned: Firmware,
        /// Of the machine.
        found: Firmware,
    },
    /// The initrd lacks programs.
    #[error("programs are missing: {}", .0.join(", "))]
    Tools(Vec<String>),
    /// A disk is not there.
    #[error("disk `{disk}` is not there")]
    DiskMissing {
        /// Path in the plan.
        disk: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A disk is not the one that was planned.
    #[error(
        "disk `{disk}` is another one than planned: its {what} is {found}, planned was {planned}"
    )]
    DiskDiffers {
        /// Path in the plan.
        disk: String,
        /// `serial`, `size`, …
        what: &'static str,
        /// In the plan.
        planned: String,
        /// On the machine.
        found: String,
    },
    /// A disk cannot be written to.
    #[error("disk `{disk}` is read-only")]
    ReadOnly {
        /// Path in the plan.
        disk: String,
    },
    /// Something on a disk is mounted.
    #[error("disk `{disk}` is in use: {device} is mounted at {at}")]
    Mounted {
        /// Path in the plan.
        disk: String,
        /// The device on it.
        device: String,
        /// Mount point.
        at: String,
    },
    /// Something else holds a disk.
    #[error("disk `{disk}` is in use")]
    Claimed {
        /// Path in the plan.
        disk: String,
        /// What the kernel said.
        #[source]
        source: SystemError,
    },
    /// The role tree cannot be had.
    #[error("role tree `{url}` cannot be fetched")]
    Source {
        /// Where it should be.
        url: String,
        /// What rsync said.
        #[source]
        source: CmdError,
    },
    /// The archive of the role tree cannot be had, or not be verified.
    #[error("the role tree cannot be fetched")]
    Archive(#[source] ArchiveError),
    /// rsync did not say how large the role tree is.
    #[error("the size of role tree `{url}` is not in what rsync printed: {printed}")]
    Unmeasured {
        /// Where it is.
        url: String,
        /// The beginning of what it printed.
        printed: String,
    },
    /// A disk with the role tree would not boot.
    #[error(
        "role tree `{url}` would not boot, it has no {}: add it to the recipe of the role and build it again",
        missing.join(", no ")
    )]
    Unbootable {
        /// Where it is.
        url: String,
        /// What it lacks, in words.
        missing: Vec<String>,
    },
    /// The role tree does not fit.
    #[error("role tree `{url}` needs {needed}, the file systems for it have {room}")]
    TooLarge {
        /// Where it is.
        url: String,
        /// Its files, the overhead of file systems, and some room to work in.
        needed: Bytes,
        /// The partitions that its files come to lie on.
        room: Bytes,
    },
}

/// What the server has of the role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// Where it is.
    pub url: String,
    /// What progress counts up to: the bytes of the tree, or of its archive.
    pub fetched: u64,
    /// The bytes of its files. Of an archive that does not say so, those of the archive: what is
    /// in it is larger, by how much nobody knows.
    pub content: u64,
}

/// Looks at everything; what the tree's progress counts up to when all is well. `offer` is what
/// the look at the server came to.
pub(super) fn check(
    executor: &mut Executor<'_>,
    installation: &Installation<'_>,
    offer: Result<Option<Offer>, PreflightError>,
) -> Result<u64, StepError> {
    let plan = installation.plan;
    let mut errors = Vec::new();
    if plan.format != plan::FORMAT {
        errors.push(PreflightError::Format { found: plan.format });
    }
    let notes = plan::lint::lint(plan);
    let wrong = plan::lint::errors(&notes).map(ToString::to_string);
    errors.extend(wrong.map(PreflightError::Contradiction));
    errors.extend(check_firmware(&executor.root, plan));
    errors.extend(check_tools(&executor.root, installation));
    let (held, free): (Vec<&PlannedDisk>, Vec<&PlannedDisk>) =
        plan.disks.iter().partition(|disk| is_held(&executor.root, disk));
    for disk in &plan.disks {
        errors.extend(check_disk(&executor.root, disk));
    }
    if errors.is_empty() {
        errors.extend(free.iter().filter_map(|disk| claim(executor, disk)));
    }
    let offer = offer.unwrap_or_else(|error| {
        errors.push(error);
        None
    });
    errors.extend(offer.as_ref().and_then(|offer| check_room(plan, offer)));
    if errors.is_empty() {
        // Only now, since it changes the machine: nothing is destroyed by it, but somebody who
        // looks at a failed machine should find it as it was.
        for disk in &held {
            executor.run_all(&release::stopping(&executor.root, &disk.path))?;
        }
        errors.extend(held.iter().filter_map(|disk| claim(executor, disk)));
    }
    let fetched = offer.map_or(0, |offer| offer.fetched);
    if errors.is_empty() { Ok(fetched) } else { Err(StepError::Preflight(errors)) }
}

fn check_firmware(root: &Root, plan: &Plan) -> Option<PreflightError> {
    let found = if root.is_dir("/sys/firmware/efi") { Firmware::Uefi } else { Firmware::Bios };
    (found != plan.firmware).then_some(PreflightError::Firmware { planned: plan.firmware, found })
}

fn check_tools(root: &Root, installation: &Installation<'_>) -> Option<PreflightError> {
    let mut needed = Vec::new();
    for step in &installation.plan.steps {
        for op in operations(installation, step) {
            match op {
                Op::Run(cmd) | Op::Fetch(cmd) => needed.extend(tool(&cmd)),
                Op::RunFirst(cmds) => needed.extend(cmds.iter().filter_map(tool)),
                Op::Release { disk } => {
                    needed.extend(release::stopping(root, &disk).iter().filter_map(tool));
                }
                Op::ForgetPartitions { disk } => {
                    needed.extend(release::forgetting(root, &disk).iter().filter_map(tool));
                }
                Op::SettleUdev if root.exists("/run/udev/control") => needed.push(Tool::Udevadm),
                Op::ShowPartitions { .. } => needed.push(Tool::Partx),
                Op::AddBootEntry { .. } => needed.push(Tool::Efibootmgr),
                _ => {}
            }
        }
    }
    let missing = missing_tools(root, &needed);
    let names = missing.iter().map(|tool| tool.program().to_owned()).collect();
    (!missing.is_empty()).then_some(PreflightError::Tools(names))
}

/// The tool that a command takes from the machine itself.
fn tool(cmd: &Cmd) -> Option<Tool> {
    match (&cmd.chroot, &cmd.program) {
        (Some(_), _) => Some(Tool::Chroot),
        (None, Program::Tool(tool)) => Some(*tool),
        (None, Program::Named(_)) => None,
    }
}

/// Compares one disk with the plan, and looks whether anything on it is mounted.
fn check_disk(root: &Root, planned: &PlannedDisk) -> Vec<PreflightError> {
    let path = &planned.path;
    let name = kernel_name(path);
    let found = match DiskIdentity::read(root, name) {
        Ok(found) => found,
        Err(source) => return vec![PreflightError::DiskMissing { disk: path.clone(), source }],
    };
    let mut errors = Vec::new();
    let mut differs = |what, planned: String, found: String| {
        errors.push(PreflightError::DiskDiffers { disk: path.clone(), what, planned, found });
    };
    let (fits, size) = match planned.size {
        DiskSize::Exact(size) => (found.bytes == size, size.to_string()),
        DiskSize::AtLeast(size) => {
            let less_than = size.0.saturating_add(1_000_000_000);
            ((size.0..less_than).contains(&found.bytes.0), format!("{size} or a little more"))
        }
    };
    if !fits {
        differs("size", size, format!("{} ({} bytes)", found.bytes, found.bytes.0));
    }
    if found.sector_size != planned.sector_size.get() {
        let planned = planned.sector_size.get().to_string();
        differs("sector size", planned, found.sector_size.to_string());
    }
    let names = [("serial", &planned.serial, found.serials), ("wwn", &planned.wwn, found.wwns)];
    for (what, planned, found) in names {
        if let Some(planned) = planned
            && !found.iter().any(|found| same_name(found, planned))
        {
            let found = if found.is_empty() { "unknown".to_owned() } else { found.join(" or ") };
            differs(what, planned.clone(), found);
        }
    }
    let read_only = root.read_text(&format!("/sys/class/block/{name}/ro"));
    if read_only.is_ok_and(|text| text.trim() == "1") {
        errors.push(PreflightError::ReadOnly { disk: path.clone() });
    }
    errors.extend(mounted(root, path));
    errors
}

/// udev writes the blanks inside a serial number as `_`, the kernel as they are.
fn same_name(a: &str, b: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join("_");
    plain(a) == plain(b)
}

/// Everything mounted from the disk or from what is built on it.
fn mounted(root: &Root, disk: &str) -> Vec<PreflightError> {
    let devices: BTreeMap<String, String> = stack(root, kernel_name(disk))
        .into_iter()
        .filter_map(|name| {
            let number = root.read_text(&format!("/sys/class/block/{name}/dev")).ok()?;
            Some((number.trim().to_owned(), format!("/dev/{name}")))
        })
        .collect();
    let table = root.read_text("/proc/self/mountinfo").unwrap_or_default();
    let mut errors = Vec::new();
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let source = fields.iter().position(|&field| field == "-").and_then(|i| fields.get(i + 2));
        let (Some(number), Some(at), Some(source)) = (fields.get(2), fields.get(4), source) else {
            continue;
        };
        // btrfs shows a number of its own, so that the source counts as well.
        let by_source = devices.values().find(|device| device == source);
        if let Some(device) = devices.get(*number).or(by_source) {
            let (device, at) = (device.clone(), (*at).to_owned());
            errors.push(PreflightError::Mounted { disk: disk.to_owned(), device, at });
        }
    }
    errors
}

/// Whether RAID, LVM, swap or the like hold the disk.
fn is_held(root: &Root, disk: &PlannedDisk) -> bool {
    !release::stopping(root, &disk.path).is_empty()
}

/// Opens the disk for itself alone.
fn claim(executor: &mut Executor<'_>, disk: &PlannedDisk) -> Option<PreflightError> {
    let call = SystemCall::Claim { disk: disk.path.clone() };
    let claimed = executor.system.call(&call);
    claimed.err().map(|source| PreflightError::Claimed { disk: disk.path.clone(), source })
}

/// Whether the tree can lie where the plan puts it.
fn check_room(plan: &Plan, offer: &Offer) -> Option<PreflightError> {
    let (needed, room) = (needed(offer.content), room(plan));
    let url = offer.url.clone();
    (needed > room).then_some(PreflightError::TooLarge { url, needed, room })
}

/// What a tree of so many bytes takes on a file system that can still be worked with.
fn needed(tree: u64) -> Bytes {
    Bytes(tree.saturating_add(tree / 20).saturating_add(64 << 20))
}

/// Where nearly all of a tree lies. A large file system for data, elsewhere, makes no room for it.
const TREE_FOLDERS: [&str; 4] = ["/", "/usr", "/var", "/opt"];

/// The size of the partitions that the files of the tree come to lie on.
fn room(plan: &Plan) -> Bytes {
    let mounted: Vec<&str> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Mount { device, path, .. } if TREE_FOLDERS.contains(&path.as_str()) => {
                Some(device.as_str())
            }
            _ => None,
        })
        .collect();
    let mut bytes = 0_u64;
    for step in &plan.steps {
        let Action::WriteTable { disk, partitions, .. } = &step.action else { continue };
        let sector = plan.disks.iter().find(|planned| &planned.path == disk);
        let sector = sector.map_or(512, |planned| u64::from(planned.sector_size.get()));
        for partition in partitions {
            let node = plan::partition_device(disk, partition.number);
            if mounted.contains(&node.as_str()) {
                bytes = bytes.saturating_add(partition.sectors.saturating_mul(sector));
            }
        }
    }
    Bytes(bytes)
}
