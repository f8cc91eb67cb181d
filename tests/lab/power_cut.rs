//! What a disk holds after its power was cut: everything that was flushed, and of what was
//! written since then whatever the disk happened to have done.
//!
//! A [`Recording`] lets a file system work on a copy-on-write overlay of an image while QEMU's
//! `blklogwrites` notes every write and every flush ([`log`]). Afterwards [`Cuts`] plays the
//! image forward from cut to cut and hands out each time a disk of its own, with some of the
//! unflushed writes lost or torn. What is on that disk then is the caller's to judge: nothing
//! here knows of upgrades.

mod cut;
mod disk;
pub mod log;

use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};

pub use self::cut::{Cut, Cuts, Fate};
pub use self::disk::{AttachedDisk, Recording, overlay, unmount};
use crate::needs::Need;

/// What it takes to look at a disk without power.
pub const NEEDS: [Need; 5] = [
    Need::Root,
    Need::LoopDevices,
    Need::File("/dev/fuse"),
    Need::Program("qemu-storage-daemon"),
    Need::Program("qemu-img"),
];

/// What decides where the cuts are: LAB_SEED, else a new one each time.
pub fn seed() -> Result<u64> {
    match std::env::var("LAB_SEED") {
        Ok(text) => text.parse().context("LAB_SEED is no number"),
        Err(_) => Ok(u64::from(UNIX_EPOCH.elapsed()?.subsec_nanos())),
    }
}
