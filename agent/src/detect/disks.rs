//! Disks: what they are called, how large they are, and by what they are known again.

use specs::facts::Facts;
use specs::units::Bytes;

use super::{number, value};
use crate::world::Root;

/// `/sys/block/*/size` counts in these, whatever the disk's own sectors are.
const SYSFS_SECTOR: u64 = 512;

/// The names of the machine's disks, sorted, those that may be pulled out last: ties in matching
/// are broken by this order, and a stick left in a port is no system disk. Disks are block devices with hardware behind them and room
/// on them. Not loop, RAM, md and device-mapper devices, drives for removable discs, or the
/// hidden paths of multipath NVMe.
pub fn names(root: &Root) -> Vec<String> {
    let mut names = root.names("/sys/block").unwrap_or_default();
    names.retain(|name| {
        let skipped = ["loop", "ram", "zram", "sr", "fd", "nbd", "md", "dm-"];
        !skipped.iter().any(|kind| name.starts_with(kind))
            && !(name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb")))
            && root.exists(&format!("/sys/block/{name}/device"))
            && number(root, &format!("/sys/block/{name}/hidden")) != Some(1)
            && size(root, name).is_some_and(|size| size.0 > 0)
    });
    names.sort_by_key(|name| is_removable(root, name) || transport(root, name) == Some("usb"));
    names
}

/// Whether the disk itself says that its medium comes out. Hard disks in USB cases say no.
fn is_removable(root: &Root, name: &str) -> bool {
    number(root, &format!("/sys/block/{name}/removable")) == Some(1)
}

/// How the disk is attached, told from the devices on the way to it; nothing when none is known.
fn transport(root: &Root, name: &str) -> Option<&'static str> {
    let path = root.resolve(&format!("/sys/block/{name}")).ok()?;
    let parts: Vec<&str> = path.components().filter_map(|part| part.as_os_str().to_str()).collect();
    let passes = |kind: &str| {
        parts.iter().any(|part| {
            part.strip_prefix(kind).is_some_and(|rest| {
                rest.starts_with(|c: char| c.is_ascii_digit())
                    && rest.chars().all(|c| c.is_ascii_digit() || "-:.".contains(c))
            })
        })
    };
    // From the outside in: what is attached by USB, SATA or SAS is a SCSI disk to the kernel, and
    // a SCSI host may be a virtual one.
    [
        ("usb", "usb"),
        ("ata", "sata"),
        ("end_device-", "sas"),
        ("host", "scsi"),
        ("virtio", "virtio"),
    ]
    .into_iter()
    .find_map(|(device, transport)| passes(device).then_some(transport))
    .or_else(|| name.starts_with("nvme").then_some("nvme"))
}

/// The exact size of a disk.
pub fn size(root: &Root, name: &str) -> Option<Bytes> {
    let sectors: u64 = value(root, &format!("/sys/block/{name}/size"))?.parse().ok()?;
    sectors.checked_mul(SYSFS_SECTOR).map(Bytes)
}

/// The serial number of the disk itself, as its own interface reports it.
pub fn serial(root: &Root, name: &str) -> Option<String> {
    let disk = format!("/sys/block/{name}");
    value(root, &format!("{disk}/serial"))
        .or_else(|| value(root, &format!("{disk}/device/serial")))
        .or_else(|| vital_product_data(root, &format!("{disk}/device/vpd_pg80")))
}

/// The world wide name: `0x…` of SCSI and ATA as `udev` writes it, `eui.…` or `uuid.…` of NVMe.
pub fn wwn(root: &Root, name: &str) -> Option<String> {
    let disk = format!("/sys/block/{name}");
    let wwid = value(root, &format!("{disk}/wwid"))
        .or_else(|| value(root, &format!("{disk}/device/wwid")))?;
    match wwid.split_once('.') {
        Some(("naa", digits)) => Some(format!("0x{digits}")),
        Some(("eui" | "uuid", _)) => Some(wwid),
        // `t10.` and `nvme.` are made of vendor, model and serial: no identity of their own.
        _ => None,
    }
}

/// The text of a page of vital product data: four bytes of header, the last two its length.
fn vital_product_data(root: &Root, path: &str) -> Option<String> {
    let page = root.read_bytes(path).ok()?;
    let length = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
    let text = String::from_utf8_lossy(page.get(4..(4 + length).min(page.len()))?).into_owned();
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

pub(super) fn push_facts(facts: &mut Facts, root: &Root) {
    let names = names(root);
    facts.push("disk", "logical", "count", i64::try_from(names.len()).unwrap_or(i64::MAX));
    for name in names {
        push_disk(facts, root, &name);
    }
}

fn push_disk(facts: &mut Facts, root: &Root, name: &str) {
    if let Some(bytes) = size(root, name).and_then(|size| i64::try_from(size.0).ok()) {
        facts.push("disk", name, "size", bytes / 1_000_000_000);
        facts.push("disk", name, "bytes", bytes);
    }
    for (key, file) in [
        ("vendor", "device/vendor"),
        ("model", "device/model"),
        ("rev", "device/rev"),
        ("rev", "device/firmware_rev"),
    ] {
        if let Some(text) = value(root, &format!("/sys/block/{name}/{file}")) {
            facts.push("disk", name, key, text);
        }
    }
    for key in [
        "logical_block_size",
        "physical_block_size",
        "optimal_io_size",
        "rotational",
        "nr_requests",
    ] {
        if let Some(number) = number(root, &format!("/sys/block/{name}/queue/{key}")) {
            facts.push("disk", name, key, number);
        }
    }
    facts.push("disk", name, "removable", if is_removable(root, name) { "yes" } else { "no" });
    if let Some(transport) = transport(root, name) {
        facts.push("disk", name, "transport", transport);
    }
    for (key, text) in [("serial", serial(root, name)), ("wwn-id", wwn(root, name))] {
        if let Some(text) = text {
            facts.push("disk", name, key, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_that_may_be_pulled_out_come_last_and_say_how_they_are_attached() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let pci = "pci0000:00/0000:00:14.0";
        let block = folder.path().join("sys/block");
        std::fs::create_dir_all(&block).unwrap();
        for (name, path, removable) in [
            ("sda", "usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block", "1"),
            ("sdb", "usb2/2-2/2-2:1.0/host7/target7:0:0/7:0:0:0/block", "0"),
            (
                "sdc",
                "host0/port-0:0/expander-0:0/port-0:0:1/end_device-0:0:1/target0:0:1/block",
                "0",
            ),
            ("sdd", "ata3/host2/target2:0:0/2:0:0:0/block", "0"),
            ("sde", "virtio1/host3/target3:0:0/3:0:0:0/block", "0"),
            ("vda", "virtio2/block", "0"),
            ("nvme0n1", "nvme/nvme0", "0"),
            ("mmcblk0", "mmc_host/mmc0/mmc0:0001/block", "0"),
        ] {
            let device = format!("{pci}/{path}/{name}");
            for (file, content) in
                [("size", "2048"), ("removable", removable), ("device/model", "x")]
            {
                let file = format!("/sys/devices/{device}/{file}");
                root.write(&file, content.as_bytes(), 0o644, None).unwrap();
            }
            std::os::unix::fs::symlink(format!("../devices/{device}"), block.join(name)).unwrap();
        }
        let mut facts = Facts::default();
        push_facts(&mut facts, &root);
        let told: Vec<String> = names(&root)
            .iter()
            .map(|name| {
                let text = |key| facts.text("disk", name, key).unwrap_or_else(|| "-".to_owned());
                format!("{name} {} {}", text("transport"), text("removable"))
            })
            .collect();
        assert_eq!(
            told,
            [
                "mmcblk0 - no",
                "nvme0n1 nvme no",
                "sdc sas no",
                "sdd sata no",
                "sde scsi no",
                "vda virtio no",
                "sda usb yes",
                "sdb usb no",
            ]
        );
    }
}
