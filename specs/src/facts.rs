//! What a machine is: an ordered list of `(class, name, key, value)` facts, and typed views of
//! the ones that planning and identity need.
//!
//! `Facts::parse` (in `facts::read`) reads the files and uploads that hold them. Not here: finding
//! facts on a machine (the agent).
//!
//! Beside the keys of the original, the agent reports per disk `bytes` (exact size),
//! `logical_block_size`, `serial` and `wwn-id`, per NIC `permanent` (`yes` when `serial` is the
//! burnt-in address), and `("system", "firmware", "type", "bios" | "uefi")`.
//!
//! A spec keeps away from sticks and virtual media with two more keys of a disk: `removable` (`yes`
//! when its medium comes out) and `transport` (`usb`, `sata`, `sas`, `scsi`, `nvme` or `virtio`;
//! absent where none of them is known), as in `("disk", "$disk", "transport", "not(in(usb))")`. Disks
//! that are removable or attached by USB are listed after the others.

mod read;

pub use read::{MAX_BYTES, MAX_FACTS, MAX_NESTING, MAX_TEXT};

use serde::{Deserialize, Serialize};

use crate::units::{Bytes, Mac, SectorSize};
use crate::value::Value;

/// One fact. Serialises as a list of four.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact(
    /// Class: `disk`, `network`, `system`, `cpu`, …
    pub String,
    /// Name of the thing within its class: `vda`, `eth0`, `product`, …
    pub String,
    /// Key: `size`, `serial`, …
    pub String,
    /// The value as it was reported, with its type.
    pub Value,
);

/// The facts of one machine, in the order in which they were detected: ties in matching are
/// broken by it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Facts(pub Vec<Fact>);

/// The firmware that started the machine; decides the boot partition and the boot loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// Boots the first sector of a disk.
    Bios,
    /// Boots files of an EFI system partition.
    Uefi,
}

/// What the facts say of one disk.
#[derive(Debug, Clone, PartialEq)]
pub struct DiskFacts {
    /// Kernel name without `/dev/`.
    pub name: String,
    /// Exact size; `None` in facts of the original, which hold whole GB only.
    pub bytes: Option<Bytes>,
    /// Whole GB (10^9), rounded down, as the original reports it.
    pub gigabytes: Option<u64>,
    /// Logical sector size, 512 when not reported.
    pub sector_size: SectorSize,
    /// Serial number of the disk itself.
    pub serial: Option<String>,
    /// World wide name.
    pub wwn: Option<String>,
}

impl Facts {
    /// Appends a fact.
    pub fn push(&mut self, class: &str, name: &str, key: &str, value: impl Into<Value>) {
        self.0.push(Fact(class.to_owned(), name.to_owned(), key.to_owned(), value.into()));
    }

    /// The first value of this class, name and key.
    pub fn get(&self, class: &str, name: &str, key: &str) -> Option<&Value> {
        self.0.iter().find(|f| f.0 == class && f.1 == name && f.2 == key).map(|f| &f.3)
    }

    /// As [`Facts::get`], as text.
    pub fn text(&self, class: &str, name: &str, key: &str) -> Option<String> {
        self.get(class, name, key).map(Value::as_text)
    }

    /// The firmware the machine was started by; BIOS when the facts do not say, as in every
    /// file of the original.
    pub fn firmware(&self) -> Firmware {
        match self.text("system", "firmware", "type").as_deref() {
            Some("uefi") => Firmware::Uefi,
            _ => Firmware::Bios,
        }
    }

    /// What is known of the disk with this kernel name; `None` when no fact names it.
    pub fn disk(&self, name: &str) -> Option<DiskFacts> {
        self.0.iter().find(|f| f.0 == "disk" && f.1 == name)?;
        let text = |key: &str| self.text("disk", name, key).filter(|text| !text.is_empty());
        Some(DiskFacts {
            name: name.to_owned(),
            bytes: text("bytes").and_then(|text| text.parse().ok()).map(Bytes),
            gigabytes: text("size").and_then(|text| text.parse().ok()),
            sector_size: text("logical_block_size")
                .and_then(|text| text.parse::<u32>().ok())
                .and_then(|bytes| SectorSize::try_from(bytes).ok())
                .unwrap_or(SectorSize::DEFAULT),
            serial: text("serial"),
            wwn: text("wwn-id"),
        })
    }

    /// The MAC addresses of the machine's NICs, in order, without duplicates.
    pub fn macs(&self) -> Vec<Mac> {
        let mut macs: Vec<Mac> = Vec::new();
        for fact in self.0.iter().filter(|f| f.0 == "network" && f.2 == "serial") {
            if let Ok(mac) = fact.3.text().parse::<Mac>()
                && !macs.contains(&mac)
            {
                macs.push(mac);
            }
        }
        macs
    }
}
