//! Disks: what they are called, how large they are, and by what they are known again.

use specs::facts::Facts;
use specs::units::Bytes;

use super::{number, value};
use crate::world::Root;

/// `/sys/block/*/size` counts in these, whatever the disk's own sectors are.
const SYSFS_SECTOR: u64 = 512;

/// The names of the machine's disks, sorted: block devices with hardware behind them and room
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
    names
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
    for (key, text) in [("serial", serial(root, name)), ("wwn-id", wwn(root, name))] {
        if let Some(text) = text {
            facts.push("disk", name, key, text);
        }
    }
}
