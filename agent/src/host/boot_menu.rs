//! The menu of the boot loader, `grub.cfg`, which belongs to no version and names kernels, which
//! do. Whatever happens, it names one that is there.
//!
//! `post` writes the menu for the kernels of the new version. The menu of before is kept with the
//! upgrade and comes back before the way back begins: its kernel stayed, since
//! [`default_kernel`] counts as one that runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use specs::upgrade::{Kernel, TreePath, kernel_of};

use super::error::{Tried, UpgradeError};
use super::layout::{Area, Prepared};
use crate::boot_installed::{CONFIGS, boot_entry};
use crate::world::Root;

/// The kernel that the boot loader starts when nobody touches a key.
pub(super) fn default_kernel(root: &Root) -> Option<Kernel> {
    CONFIGS.iter().find_map(|config| {
        let entry = boot_entry(&root.read_text(config).ok()?, None).ok()?;
        // GRUB's paths begin at the file system that holds /boot.
        let name = Path::new(&entry.kernel).file_name()?.to_str()?;
        kernel_of(&format!("boot/{name}").parse::<TreePath>().ok()?)
    })
}

/// Keeps the menu as it is.
pub(super) fn keep(root: &Root, area: &Area) -> Result<(), UpgradeError> {
    for config in CONFIGS {
        if root.is_file(config) {
            let live = root.resolve(config).tried("find", Path::new(config))?;
            fs::copy(&live, kept(area, config)).map(drop).tried("copy", &live)?;
        }
    }
    Ok(())
}

/// Puts the menu back, when the upgrade was one of kernels. Of others it stays: somebody may have
/// changed it since.
pub(super) fn put_back(root: &Root, area: &Area, prepared: &Prepared) -> Result<(), UpgradeError> {
    let of_kernels = !prepared.retained.is_empty()
        || prepared.units.iter().any(|unit| kernel_of(&unit.unit.path).is_some());
    for config in CONFIGS.iter().filter(|_| of_kernels) {
        let copy = kept(area, config);
        if !copy.exists() {
            continue;
        }
        let bytes = fs::read(&copy).tried("read", &copy)?;
        let mode = copy.metadata().tried("look at", &copy)?.mode() & 0o7777;
        root.write(config, &bytes, mode, None).tried("write", Path::new(config))?;
    }
    Ok(())
}

fn kept(area: &Area, config: &str) -> PathBuf {
    area.file(&config.trim_start_matches('/').replace('/', "-"))
}
