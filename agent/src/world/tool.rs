//! The programs that the agent may start: the manifest of the initrd is compared with this list.

use super::Root;

/// Where programs are looked up, in this order, whatever the environment says.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Defines [`Tool`] from one table, so that no variant can be missing from [`Tool::ALL`].
macro_rules! tools {
    ($($(#[$doc:meta])* $variant:ident = $program:literal,)*) => {
        /// A program of the initrd (or of the host the agent runs on).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Tool {
            $($(#[$doc])* $variant,)*
        }

        impl Tool {
            /// Every tool.
            pub const ALL: &[Tool] = &[$(Tool::$variant,)*];

            /// The name of its program.
            pub fn program(self) -> &'static str {
                match self {
                    $(Tool::$variant => $program,)*
                }
            }
        }
    };
}

tools! {
    /// Identifies file systems.
    Blkid = "blkid",
    /// The DHCP client and the shell of the console.
    Busybox = "busybox",
    /// Starts a program in another root.
    Chroot = "chroot",
    /// Device-mapper: takes leftovers of LVM and multipath apart.
    Dmsetup = "dmsetup",
    /// Reads and writes the boot entries of UEFI firmware.
    Efibootmgr = "efibootmgr",
    /// Addresses, links and routes.
    Ip = "ip",
    /// Loads the kernel that is booted next.
    Kexec = "kexec",
    /// Software RAID.
    Mdadm = "mdadm",
    /// Makes btrfs.
    MkfsBtrfs = "mkfs.btrfs",
    /// Makes ext4.
    MkfsExt4 = "mkfs.ext4",
    /// Makes FAT.
    MkfsFat = "mkfs.fat",
    /// Makes xfs.
    MkfsXfs = "mkfs.xfs",
    /// Makes swap areas.
    Mkswap = "mkswap",
    /// Loads kernel modules.
    Modprobe = "modprobe",
    /// Tells the kernel about partitions where it does not look itself.
    Partx = "partx",
    /// Fetches trees.
    Rsync = "rsync",
    /// Writes partition tables.
    Sfdisk = "sfdisk",
    /// Takes swap areas out of use.
    Swapoff = "swapoff",
    /// Waits for device nodes.
    Udevadm = "udevadm",
    /// LVM volume groups.
    Vgchange = "vgchange",
    /// Erases signatures.
    Wipefs = "wipefs",
}

/// The tools among `needed` that are not below `root` in [`SEARCH_PATH`]: all of them at once,
/// so that a person mends the initrd once.
pub fn missing_tools(root: &Root, needed: &[Tool]) -> Vec<Tool> {
    let mut missing: Vec<Tool> =
        needed.iter().copied().filter(|tool| !is_installed(root, tool.program())).collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

fn is_installed(root: &Root, program: &str) -> bool {
    SEARCH_PATH.split(':').any(|folder| root.is_file(&format!("{folder}/{program}")))
}
