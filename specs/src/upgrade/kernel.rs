//! Which files belong to which kernel: one that runs must keep its modules until the next boot.

use std::collections::BTreeSet;

use super::{Disk, TreePath};

/// What the file names in `/boot` begin with, before the release.
const BOOT_FILES: [&str; 8] = [
    "vmlinuz-",
    "vmlinux-",
    "kernel-",
    "initrd.img-",
    "initramfs-",
    "System.map-",
    "config-",
    "symvers-",
];

/// Where modules are, one folder a release.
const MODULES: [&str; 2] = ["usr/lib/modules/", "lib/modules/"];

/// A kernel that may be running on the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel(
    /// Its release, as `uname -r` prints it.
    pub String,
);

/// The release of the kernel that a path belongs to.
pub fn kernel_of(path: &TreePath) -> Option<Kernel> {
    let text = std::str::from_utf8(path.as_bytes()).ok()?;
    if let Some(name) = text.strip_prefix("boot/") {
        let release = BOOT_FILES.iter().find_map(|start| name.strip_prefix(start))?;
        let release = release.strip_suffix(".img").unwrap_or(release);
        return (!release.contains('/')).then(|| Kernel(release.to_owned()));
    }
    let rest = MODULES.iter().find_map(|folder| text.strip_prefix(folder))?;
    Some(Kernel(rest.split('/').next()?.to_owned()))
}

/// The kernels that a tree can boot: those with an image and with modules.
pub(super) fn bootable(tree: &Disk) -> BTreeSet<Kernel> {
    let images: BTreeSet<Kernel> =
        tree.keys().filter(|path| is_image(path)).filter_map(kernel_of).collect();
    let has_modules = |kernel: &Kernel| {
        MODULES.iter().any(|folder| {
            format!("{folder}{}", kernel.0)
                .parse::<TreePath>()
                .is_ok_and(|path| tree.get(&path).is_some_and(super::Entry::is_folder))
        })
    };
    images.into_iter().filter(has_modules).collect()
}

/// Whether it is what a boot loader starts.
pub(super) fn is_image(path: &TreePath) -> bool {
    let name = path.as_bytes().strip_prefix(b"boot/").unwrap_or_default();
    BOOT_FILES[..3].iter().any(|start| name.starts_with(start.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_know_their_kernel() {
        for (path, release) in [
            ("boot/vmlinuz-6.1.0-18-amd64", Some("6.1.0-18-amd64")),
            ("boot/initramfs-4.18.0.img", Some("4.18.0")),
            ("usr/lib/modules/6.1.0-18-amd64", Some("6.1.0-18-amd64")),
            ("usr/lib/modules/6.1.0-18-amd64/kernel/a.ko", Some("6.1.0-18-amd64")),
            ("lib/modules/3.2.0", Some("3.2.0")),
            ("boot/grub/grub.cfg", None),
            ("boot/memtest86+.bin", None),
            ("usr/lib/modules", None),
        ] {
            let kernel = kernel_of(&path.parse().unwrap());
            assert_eq!(kernel.as_ref().map(|kernel| kernel.0.as_str()), release, "{path}");
        }
    }
}
