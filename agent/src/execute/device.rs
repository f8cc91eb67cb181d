//! What the kernel knows of a block device, read from `/sys` below a [`Root`].

use std::collections::BTreeMap;
use std::io;

use specs::plan::{Partition, partition_device};
use specs::units::Bytes;

use crate::world::Root;

/// The kernel counts sectors of this size, whatever the disk's own are.
const KERNEL_SECTOR: u64 = 512;

/// What tells one disk from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskIdentity {
    /// Exact size.
    pub bytes: Bytes,
    /// Logical sector size in bytes.
    pub sector_size: u32,
    /// Serial numbers it shows, by the different ways there are; often one, sometimes none.
    pub serials: Vec<String>,
    /// World wide names it shows.
    pub wwns: Vec<String>,
}

impl DiskIdentity {
    /// Reads it for the disk with this kernel name (`vda`).
    pub fn read(root: &Root, name: &str) -> io::Result<DiskIdentity> {
        let folder = format!("/sys/class/block/{name}");
        let number = |file: &str| {
            let text = root.read_text(&format!("{folder}/{file}"))?;
            text.trim().parse::<u64>().map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{folder}/{file}: {error}"))
            })
        };
        let sector_size = number("queue/logical_block_size")?;
        Ok(DiskIdentity {
            bytes: Bytes(number("size")?.saturating_mul(KERNEL_SECTOR)),
            sector_size: u32::try_from(sector_size).map_err(io::Error::other)?,
            serials: serials(root, name, &folder),
            wwns: wwns(root, name, &folder),
        })
    }
}

/// virtio has `serial`, NVMe and MMC `device/serial`, SCSI page 0x80; udev knows those of ATA
/// disks, which it asks directly.
fn serials(root: &Root, name: &str, folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for file in ["serial", "device/serial"] {
        found.extend(root.read_text(&format!("{folder}/{file}")).ok());
    }
    if let Ok(page) = root.read_bytes(&format!("{folder}/device/vpd_pg80")) {
        // Four bytes of header, then the number.
        found.push(String::from_utf8_lossy(page.get(4..).unwrap_or_default()).into_owned());
    }
    for key in ["ID_SCSI_SERIAL", "ID_SERIAL_SHORT"] {
        found.extend(udev_property(root, folder, name, key));
    }
    tidy(found)
}

fn wwns(root: &Root, name: &str, folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for file in ["wwid", "device/wwid"] {
        found.extend(root.read_text(&format!("{folder}/{file}")).ok());
    }
    for key in ["ID_WWN_WITH_EXTENSION", "ID_WWN"] {
        found.extend(udev_property(root, folder, name, key));
    }
    // The kernel writes `naa.5000…`, udev and the facts `0x5000…`: both forms count.
    let hex: Vec<String> = found
        .iter()
        .filter_map(|wwn| wwn.trim().strip_prefix("naa."))
        .map(|digits| format!("0x{digits}"))
        .collect();
    found.extend(hex);
    tidy(found)
}

/// A property from udev's database: a file of `E:KEY=VALUE` lines named by the device number.
fn udev_property(root: &Root, folder: &str, name: &str, key: &str) -> Option<String> {
    let numbers = root.read_text(&format!("{folder}/dev")).ok()?;
    let entries = root.read_text(&format!("/run/udev/data/b{}", numbers.trim())).ok()?;
    let value = entries.lines().find_map(|line| {
        line.strip_prefix("E:")?.strip_prefix(key)?.strip_prefix('=').map(str::to_owned)
    });
    tracing::trace!(name, key, ?value, "udev property");
    value
}

fn tidy(found: Vec<String>) -> Vec<String> {
    let mut tidy: Vec<String> = Vec::new();
    for text in found {
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned();
        if !text.is_empty() && !tidy.contains(&text) {
            tidy.push(text);
        }
    }
    tidy
}

/// The kernel name of a device path: `vda` of `/dev/vda`.
pub(super) fn kernel_name(path: &str) -> &str {
    path.strip_prefix("/dev/").unwrap_or(path)
}

/// The kernel names of a disk's partitions, in order of their names.
pub(super) fn partitions(root: &Root, disk: &str) -> Vec<String> {
    let folder = format!("/sys/class/block/{disk}");
    let names = root.names(&folder).unwrap_or_default();
    names.into_iter().filter(|name| root.exists(&format!("{folder}/{name}/partition"))).collect()
}

/// Whether the kernel has exactly these partitions of a disk (`vda`), where and as large as they
/// shall be.
pub(super) fn has_partitions(root: &Root, disk: &str, wanted: &[Partition]) -> bool {
    let number = |file: &str| root.read_text(file).ok()?.trim().parse::<u64>().ok();
    let folder = format!("/sys/class/block/{disk}");
    let Some(sector) = number(&format!("{folder}/queue/logical_block_size")) else { return false };
    let is_there = |partition: &Partition| {
        let node = partition_device(disk, partition.number);
        [("start", partition.start), ("size", partition.sectors)].iter().all(|(file, sectors)| {
            let found = number(&format!("{folder}/{node}/{file}"));
            found == Some(sectors.saturating_mul(sector) / KERNEL_SECTOR)
        })
    };
    partitions(root, disk).len() == wanted.len() && wanted.iter().all(is_there)
}

/// The kernel names of the devices built on this one, directly.
pub(super) fn holders(root: &Root, device: &str) -> Vec<String> {
    root.names(&format!("/sys/class/block/{device}/holders")).unwrap_or_default()
}

/// The disk, its partitions and everything built on them, each after all that it is built on.
pub(super) fn stack(root: &Root, disk: &str) -> Vec<String> {
    let mut stack = vec![disk.to_owned()];
    let mut pairs = Vec::new();
    let mut next = 0;
    while let Some(device) = stack.get(next).cloned() {
        for name in above(root, &device) {
            if !stack.contains(&name) {
                stack.push(name.clone());
            }
            pairs.push((device.clone(), name));
        }
        next += 1;
    }
    // A device that is reached in several ways lies above the longest of them, which takes no
    // more rounds to find than there are devices.
    let mut layers: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..stack.len() {
        for (below, above) in &pairs {
            let layer = layers.get(below).map_or(1, |layer| layer + 1);
            let known = layers.entry(above.clone()).or_default();
            *known = layer.max(*known);
        }
    }
    stack.sort_by_key(|device| layers.get(device).copied().unwrap_or(0));
    stack
}

/// What lies directly on a device: its partitions, what holds it, and the volumes of a RAID
/// container, which the kernel shows as holders of the container's disks only.
fn above(root: &Root, device: &str) -> Vec<String> {
    let mut above = partitions(root, device);
    above.extend(holders(root, device));
    if root.exists(&format!("/sys/class/block/{device}/md")) {
        let devices = root.names("/sys/class/block").unwrap_or_default();
        above.extend(devices.into_iter().filter(|volume| is_volume_of(root, volume, device)));
    }
    above
}

/// Whether a RAID volume says that its metadata lies in this container (`external:/md127/0`, or
/// with `-` for the slash while it is read-only).
fn is_volume_of(root: &Root, volume: &str, container: &str) -> bool {
    let version = root.read_text(&format!("/sys/class/block/{volume}/md/metadata_version"));
    version.is_ok_and(|version| {
        let place = version.trim().strip_prefix("external:").unwrap_or_default();
        let place = place.strip_prefix(['/', '-']).unwrap_or_default();
        place.split('/').next() == Some(container)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_there_when_place_and_size_agree() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let put = |path: &str, text: &str| {
            let path = format!("/sys/class/block/nvme0n1/{path}");
            root.write(&path, text.as_bytes(), 0o644, None).unwrap();
        };
        let partition = Partition {
            number: 1,
            start: 256,
            sectors: 1000,
            kind: specs::plan::PartitionKind::Linux,
            label: None,
            id: None,
            active: false,
        };
        let check = |wanted: &[Partition]| has_partitions(&root, "nvme0n1", wanted);
        assert!(!check(std::slice::from_ref(&partition)), "nothing is there");
        // The kernel counts in 512 bytes, the table in sectors of the disk.
        put("queue/logical_block_size", "4096\n");
        put("nvme0n1p1/partition", "1\n");
        put("nvme0n1p1/start", "2048\n");
        put("nvme0n1p1/size", "8000\n");
        assert!(check(std::slice::from_ref(&partition)));
        assert!(!check(&[Partition { sectors: 999, ..partition.clone() }]));
        assert!(!check(&[partition.clone(), Partition { number: 2, ..partition.clone() }]));
        assert!(!check(&[]), "one too many");
    }

    #[test]
    fn identity_comes_from_sysfs_and_udev() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let put = |path: &str, text: &[u8]| root.write(path, text, 0o644, None).unwrap();
        put("/sys/class/block/sda/size", b"20480\n");
        put("/sys/class/block/sda/dev", b"8:0\n");
        put("/sys/class/block/sda/queue/logical_block_size", b"512\n");
        put("/sys/class/block/sda/device/vpd_pg80", b"\0\x80\0\x08  ABC123");
        put("/sys/class/block/sda/device/wwid", b"naa.5000c500a1b2c3d4\n");
        put(
            "/run/udev/data/b8:0",
            b"S:disk/by-id/x\nE:ID_SERIAL_SHORT=ABC123\nE:ID_WWN=0x5000c500a1b2c3d4\n",
        );
        let identity = DiskIdentity::read(&root, "sda").unwrap();
        assert_eq!(identity.bytes, Bytes(10 << 20));
        assert_eq!(identity.serials, ["ABC123"]);
        assert_eq!(identity.wwns, ["naa.5000c500a1b2c3d4", "0x5000c500a1b2c3d4"]);
        assert!(DiskIdentity::read(&root, "sdb").is_err());
    }
}
