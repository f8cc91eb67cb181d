//! Which disks and what on them: entries of a configure file become disks of the machine.
//!
//! Every disk is looked up in the facts; what is unknown, ambiguous or named twice is refused,
//! because the plan will erase it. `boot: auto` becomes a partition here.

use super::geometry::{self, Extent, LayoutError, Size, Wish};
use super::{PlanError, Planner, Problem};
use crate::configure::template::Scope;
use crate::configure::{Disk, FilesystemKind, PartitionText, TableKind, Use};
use crate::facts::{DiskFacts, Facts, Firmware};
use crate::plan::{
    DiskSize, Filesystem, Partition, PartitionKind, PlannedDisk, Table, partition_device,
};
use crate::units::{Bytes, FatId, SectorSize, Uuid};

const MIB: u64 = Bytes::MIB.0;

/// Where the EFI system partition is mounted.
pub(super) const ESP_MOUNT: &str = "/boot/efi";

/// A disk of the machine with what shall be on it.
#[derive(Debug)]
pub(super) struct ResolvedDisk {
    /// Its entry in the configure file.
    pub(super) at: String,
    pub(super) planned: PlannedDisk,
    pub(super) kind: TableKind,
    pub(super) table: Table,
    /// `boot: auto`.
    pub(super) boot: bool,
    pub(super) partitions: Vec<Partition>,
    pub(super) volumes: Vec<Volume>,
}

/// Something that is formatted, and perhaps mounted.
#[derive(Debug)]
pub(super) struct Volume {
    /// Its partition in the configure file.
    pub(super) at: String,
    pub(super) device: String,
    pub(super) filesystem: Filesystem,
    pub(super) label: Option<String>,
    pub(super) mount: Option<String>,
    pub(super) mount_options: Vec<String>,
    pub(super) mkfs_options: Vec<String>,
}

/// A partition whose strings are rendered.
struct Rendered {
    at: String,
    label: Option<String>,
    size: Size,
    usage: Use,
}

/// All disks of the configure file, each with geometry and identifiers.
pub(super) fn resolve(planner: &Planner<'_>) -> Result<Vec<ResolvedDisk>, PlanError> {
    let mut disks: Vec<ResolvedDisk> = Vec::new();
    for (position, disk) in planner.configure.machine.disks.iter().enumerate() {
        let at = format!("disks[{position}]");
        for scope in scopes(planner, &at, disk)? {
            let resolved = resolve_disk(planner, &scope, &at, disk)?;
            if disks.iter().any(|other| other.planned.path == resolved.planned.path) {
                let disk = resolved.planned.path;
                return Err(planner.error(&format!("{at}.device"), Problem::DiskTwice { disk }));
            }
            disks.push(resolved);
        }
    }
    Ok(disks)
}

/// One scope per item of `each`, or the plain one.
fn scopes<'a>(planner: &Planner<'a>, at: &str, disk: &Disk) -> Result<Vec<Scope<'a>>, PlanError> {
    let Some(items) = &disk.each else { return Ok(vec![planner.scope.clone()]) };
    items
        .iter()
        .enumerate()
        .map(|(position, item)| {
            let text = match planner.scope.variable(item) {
                Some(value) => value,
                None => planner.line(&planner.scope, &format!("{at}.each[{position}]"), item)?,
            };
            Ok(planner.scope.with_item(text))
        })
        .collect()
}

fn resolve_disk(
    planner: &Planner<'_>,
    scope: &Scope<'_>,
    at: &str,
    disk: &Disk,
) -> Result<ResolvedDisk, PlanError> {
    let device_at = format!("{at}.device");
    let device = planner.line(scope, &device_at, &disk.device)?;
    let facts = find_disk(planner.inputs.facts, &device)
        .map_err(|problem| planner.error(&device_at, problem))?;
    let path = format!("/dev/{}", facts.name);
    let size = disk_size(&facts)
        .ok_or_else(|| planner.error(&device_at, Problem::DiskSize { disk: path.clone() }))?;
    let mut partitions = render_partitions(planner, scope, at, &disk.partitions)?;
    if disk.boot.is_some() {
        add_boot_partition(planner, at, disk.table, &mut partitions)?;
    }
    let nonce = planner.inputs.nonce;
    let table_id = Uuid::derived(nonce, &format!("table {path}"));
    let mut resolved = ResolvedDisk {
        at: at.to_owned(),
        planned: PlannedDisk {
            path,
            serial: facts.serial,
            wwn: facts.wwn,
            size,
            sector_size: facts.sector_size,
        },
        kind: disk.table,
        table: match disk.table {
            TableKind::Gpt => Table::Gpt { id: table_id },
            TableKind::Msdos => Table::Msdos { id: msdos_id(&table_id) },
        },
        boot: disk.boot.is_some(),
        partitions: Vec::new(),
        volumes: Vec::new(),
    };
    let extents = place(planner, &resolved, &partitions)?;
    for (number, (partition, extent)) in (1..).zip(partitions.into_iter().zip(extents)) {
        add_partition(planner, &mut resolved, number, partition, extent)?;
    }
    Ok(resolved)
}

/// The disk of the facts that a device path names.
fn find_disk(facts: &Facts, device: &str) -> Result<DiskFacts, Problem> {
    let unknown = || Problem::UnknownDisk { device: device.to_owned(), known: known_disks(facts) };
    let Some(name) = device.strip_prefix("/dev/") else { return Err(unknown()) };
    let name = match name.strip_prefix("disk/by-id/") {
        Some(link) => disk_by_link(facts, device, link)?.ok_or_else(unknown)?,
        None => name.to_owned(),
    };
    let disk = facts.disk(&name).filter(|_| is_kernel_name(&name)).ok_or_else(unknown)?;
    let twin = known_disks(facts).into_iter().find(|other| {
        *other != name && disk.wwn.is_some() && facts.disk(other).is_some_and(|o| o.wwn == disk.wwn)
    });
    match twin {
        Some(other) => {
            Err(Problem::AmbiguousDisk { device: device.to_owned(), candidates: vec![name, other] })
        }
        None => Ok(disk),
    }
}

/// The one disk that has this link in `/dev/disk/by-id`.
fn disk_by_link(facts: &Facts, device: &str, link: &str) -> Result<Option<String>, Problem> {
    let mut names: Vec<String> = facts
        .0
        .iter()
        .filter(|f| f.0 == "disk" && matches!(f.2.as_str(), "id" | "wwn-id" | "scsi-id"))
        .filter(|f| f.3.as_text() == link)
        .map(|f| f.1.clone())
        .collect();
    names.dedup();
    if names.len() > 1 {
        return Err(Problem::AmbiguousDisk { device: device.to_owned(), candidates: names });
    }
    Ok(names.pop())
}

/// Names of things the facts call disks and the kernel may too, in their order.
fn known_disks(facts: &Facts) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for fact in facts.0.iter().filter(|f| f.0 == "disk" && (f.2 == "size" || f.2 == "bytes")) {
        if is_kernel_name(&fact.1) && !names.contains(&fact.1) {
            names.push(fact.1.clone());
        }
    }
    names
}

/// Whether this can be the name of a whole disk; bays (`1I:1:1`) and `sda{megaraid,0}` cannot.
fn is_kernel_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
}

fn disk_size(facts: &DiskFacts) -> Option<DiskSize> {
    let size = match (facts.bytes, facts.gigabytes) {
        (Some(bytes), _) => DiskSize::Exact(bytes),
        (None, Some(gigabytes)) => DiskSize::AtLeast(Bytes(gigabytes.checked_mul(1_000_000_000)?)),
        (None, None) => return None,
    };
    (size.bytes() > Bytes(0)).then_some(size)
}

/// The 32-bit identifier of an MBR; zero would mean that there is none.
fn msdos_id(id: &Uuid) -> u32 {
    u32::from_str_radix(&id.as_str()[..8], 16).unwrap_or(1).max(1)
}

fn render_partitions(
    planner: &Planner<'_>,
    scope: &Scope<'_>,
    at: &str,
    partitions: &[PartitionText],
) -> Result<Vec<Rendered>, PlanError> {
    if partitions.is_empty() {
        return Err(planner.error(&format!("{at}.partitions"), Problem::NoPartitions));
    }
    let mut rendered = Vec::with_capacity(partitions.len() + 1);
    for (position, partition) in partitions.iter().enumerate() {
        let at = format!("{at}.partitions[{position}]");
        let size_at = format!("{at}.size");
        let size = planner.line(scope, &size_at, &partition.size)?;
        let last = position + 1 == partitions.len();
        let size = Size::parse(&size, last)
            .ok_or_else(|| planner.error(&size_at, Problem::Size { text: size }))?;
        let label = match &partition.label {
            Some(label) => Some(planner.line(scope, &format!("{at}.label"), label)?),
            None => None,
        };
        let usage = render_use(planner, scope, &at, &partition.usage)?;
        rendered.push(Rendered { at, label, size, usage });
    }
    Ok(rendered)
}

fn render_use(
    planner: &Planner<'_>,
    scope: &Scope<'_>,
    at: &str,
    usage: &Use,
) -> Result<Use, PlanError> {
    let Use::Filesystem { kind, mount, mount_options, mkfs_options } = usage else {
        return Ok(usage.clone());
    };
    let all = |field: &str, texts: &[String]| -> Result<Vec<String>, PlanError> {
        let at = |position| format!("{at}.use.{field}[{position}]");
        texts.iter().enumerate().map(|(i, text)| planner.line(scope, &at(i), text)).collect()
    };
    let mount = match mount {
        Some(mount) => Some(planner.line(scope, &format!("{at}.use.mount"), mount)?),
        None => None,
    };
    let mount_options = all("mount_options", mount_options)?;
    if let Some(option) = mount_options.iter().find(|option| !is_mount_option(option)) {
        let problem = Problem::MountOption { option: option.clone() };
        return Err(planner.error(&format!("{at}.use.mount_options"), problem));
    }
    Ok(Use::Filesystem {
        kind: *kind,
        mount,
        mount_options,
        mkfs_options: all("mkfs_options", mkfs_options)?,
    })
}

/// What may stand in the fourth column of fstab.
fn is_mount_option(option: &str) -> bool {
    !option.is_empty() && option.chars().all(|c| c.is_ascii_graphic() && !"#\\'\"".contains(c))
}

/// Adds what the firmware needs to boot from this disk, unless it is there.
fn add_boot_partition(
    planner: &Planner<'_>,
    at: &str,
    table: TableKind,
    partitions: &mut Vec<Rendered>,
) -> Result<(), PlanError> {
    let (usage, mib) = match (planner.inputs.facts.firmware(), table) {
        (Firmware::Bios, TableKind::Msdos) => return Ok(()),
        (Firmware::Bios, TableKind::Gpt) => (Use::BiosBoot, 1),
        (Firmware::Uefi, TableKind::Gpt) => (Use::Esp, 512),
        (Firmware::Uefi, TableKind::Msdos) => {
            return Err(planner.error(&format!("{at}.table"), Problem::UefiNeedsGpt));
        }
    };
    if partitions.iter().all(|partition| partition.usage != usage) {
        let partition = Rendered {
            at: format!("{at}.boot"),
            label: None,
            size: Size::Absolute(Bytes(mib * MIB)),
            usage,
        };
        partitions.insert(0, partition);
    }
    Ok(())
}

/// The least that a thing can live in.
fn minimum(usage: &Use, sector: SectorSize) -> Bytes {
    // FAT32 has at least 65525 clusters, and a cluster at least one sector.
    let fat32 = if sector == SectorSize::DEFAULT { 34 } else { 260 };
    let mib = match usage {
        Use::BiosBoot | Use::Swap => 1,
        Use::Esp | Use::Filesystem { kind: FilesystemKind::Vfat, .. } => fat32,
        Use::Filesystem { kind: FilesystemKind::Ext4, .. } => 8,
        Use::Filesystem { kind: FilesystemKind::Btrfs, .. } => 128,
        Use::Filesystem { kind: FilesystemKind::Xfs, .. } => 300,
    };
    Bytes(mib * MIB)
}

/// Where the partitions of a disk lie.
fn place(
    planner: &Planner<'_>,
    disk: &ResolvedDisk,
    partitions: &[Rendered],
) -> Result<Vec<Extent>, PlanError> {
    let sector = disk.planned.sector_size;
    let wishes: Vec<Wish> = partitions
        .iter()
        .map(|partition| Wish { size: partition.size, minimum: minimum(&partition.usage, sector) })
        .collect();
    let path = || disk.planned.path.clone();
    geometry::lay_out(disk.kind, disk.planned.size.bytes(), sector, &wishes).map_err(|error| {
        let partitions_at = format!("{}.partitions", disk.at);
        match error {
            LayoutError::TooMany { limit } => {
                planner.error(&partitions_at, Problem::TooManyPartitions { disk: path(), limit })
            }
            LayoutError::BeyondMsdos { reach } => planner
                .error(&format!("{}.table", disk.at), Problem::BeyondMsdos { disk: path(), reach }),
            LayoutError::TooSmall { needed } => planner.error(
                &partitions_at,
                Problem::DiskTooSmall { disk: path(), has: disk.planned.size.bytes(), needed },
            ),
            LayoutError::RestTwice { position } => {
                planner.error(&format!("{}.size", partitions[position].at), Problem::RestTwice)
            }
            LayoutError::BelowMinimum { position, given } => planner.error(
                &format!("{}.size", partitions[position].at),
                Problem::PartitionTooSmall { given, minimum: wishes[position].minimum },
            ),
        }
    })
}

/// Adds a placed partition, and the volume on it.
fn add_partition(
    planner: &Planner<'_>,
    disk: &mut ResolvedDisk,
    number: u32,
    rendered: Rendered,
    extent: Extent,
) -> Result<(), PlanError> {
    let Rendered { at, label, usage, .. } = rendered;
    let nonce = planner.inputs.nonce;
    let path = &disk.planned.path;
    let device = partition_device(path, number);
    let id = Uuid::derived(nonce, &format!("partition {path} {number}"));
    let filesystem_id = || Uuid::derived(nonce, &format!("filesystem {device}"));
    let fat_id = || FatId::derived(nonce, &format!("filesystem {device}"));
    let kind = match usage {
        Use::Filesystem { .. } => PartitionKind::Linux,
        Use::Swap => PartitionKind::Swap,
        Use::BiosBoot => PartitionKind::BiosBoot,
        Use::Esp => PartitionKind::Esp,
    };
    let filesystem = match &usage {
        Use::BiosBoot => None,
        Use::Swap => Some(Filesystem::Swap(filesystem_id())),
        Use::Esp => Some(Filesystem::Vfat(fat_id())),
        Use::Filesystem { kind, .. } => Some(match kind {
            FilesystemKind::Ext4 => Filesystem::Ext4(filesystem_id()),
            FilesystemKind::Xfs => Filesystem::Xfs(filesystem_id()),
            FilesystemKind::Btrfs => Filesystem::Btrfs(filesystem_id()),
            FilesystemKind::Vfat => Filesystem::Vfat(fat_id()),
        }),
    };
    check_label(planner, &at, label.as_deref(), filesystem.as_ref())?;
    let gpt = disk.kind == TableKind::Gpt;
    disk.partitions.push(Partition {
        number,
        start: extent.start,
        sectors: extent.sectors,
        kind,
        label: label.clone().filter(|_| gpt),
        id: gpt.then_some(id),
        active: false,
    });
    let Some(filesystem) = filesystem else { return Ok(()) };
    let (mount, mount_options, mkfs_options) = match usage {
        Use::Filesystem { mount, mount_options, mkfs_options, .. } => {
            (mount, mount_options, mkfs_options)
        }
        Use::Esp => (Some(ESP_MOUNT.to_owned()), vec!["umask=0077".to_owned()], Vec::new()),
        Use::Swap | Use::BiosBoot => (None, Vec::new(), Vec::new()),
    };
    disk.volumes.push(Volume { at, device, filesystem, label, mount, mount_options, mkfs_options });
    Ok(())
}

/// A label must fit both the partition table and the file system.
fn check_label(
    planner: &Planner<'_>,
    at: &str,
    label: Option<&str>,
    filesystem: Option<&Filesystem>,
) -> Result<(), PlanError> {
    let Some(label) = label else { return Ok(()) };
    let limit = match filesystem {
        Some(Filesystem::Vfat(_)) => 11,
        Some(Filesystem::Xfs(_)) => 12,
        Some(Filesystem::Ext4(_) | Filesystem::Swap(_)) => 16,
        // GPT's own limit.
        Some(Filesystem::Btrfs(_)) | None => 36,
    };
    let plain = label.starts_with(|c: char| c.is_ascii_alphanumeric())
        && label.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c));
    if plain && label.len() <= limit {
        return Ok(());
    }
    let problem = Problem::Label { label: label.to_owned(), limit };
    Err(planner.error(&format!("{at}.label"), problem))
}
