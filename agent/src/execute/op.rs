//! What a step consists of: the operations that are shown by a dry run and performed by the
//! executor, one for one.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use specs::plan::Partition;

use super::system::SystemCall;
use crate::archive;
use crate::world::{Cmd, quote};

/// One operation. Its `Display` is a line to paste, or, where what is done depends on what the
/// machine holds at that moment, a comment that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Runs a command.
    Run(Cmd),
    /// Runs the first of these commands whose program the installed tree has: distributions
    /// name the same programs differently.
    RunFirst(Vec<Cmd>),
    /// Runs rsync and tells how far it has come.
    Fetch(Cmd),
    /// Fetches an archive over HTTP, verifies and unpacks it in one pass, and tells how far it
    /// has come.
    Unpack(archive::Fetch),
    /// Asks the kernel.
    System(SystemCall),
    /// Takes a disk out of use: swap areas, RAID, LVM and device-mapper on it. Which commands
    /// that takes is read from the machine; none destroys anything.
    Release {
        /// Device node.
        disk: String,
    },
    /// Erases the signatures of the partitions that a disk has, and makes the kernel forget
    /// them.
    ForgetPartitions {
        /// Device node.
        disk: String,
    },
    /// Makes the kernel see the partitions of a table just written, where udev has not done so
    /// already, and waits for their nodes.
    ShowPartitions {
        /// Device node.
        disk: String,
        /// What it shall see.
        partitions: Vec<Partition>,
        /// How long the nodes are waited for.
        deadline: Duration,
    },
    /// Waits for what udev has begun, where udev runs.
    SettleUdev,
    /// Makes a folder of the installed tree, and those above it.
    MakeFolder {
        /// Its path inside the tree.
        path: String,
    },
    /// Writes a file of the installed tree.
    WriteFile {
        /// Its path inside the tree.
        path: String,
        /// What it holds.
        content: String,
        /// Permission bits.
        mode: u32,
        /// Owner and group.
        owner: (u32, u32),
    },
    /// Removes a file of the installed tree.
    RemoveFile {
        /// Its path inside the tree.
        path: String,
    },
    /// Sets keys of a `KEY=VALUE` file of the installed tree and leaves its other lines alone.
    SetKeys {
        /// Its path inside the tree.
        path: String,
        /// Keys and values.
        keys: Vec<(String, String)>,
    },
    /// Copies a text file of the initrd into the tree, without secrets.
    KeepText {
        /// Its path in the initrd.
        from: PathBuf,
        /// Its path inside the tree.
        path: String,
    },
    /// Makes `/dev/disk/by-uuid/<uuid>` unless udev has: `grub-mkconfig` names the root file
    /// system by UUID only if it finds it there.
    LinkByUuid {
        /// The UUID.
        uuid: String,
        /// Device node.
        device: String,
    },
    /// Fails unless one of these files of the tree holds the text.
    Expect {
        /// Paths inside the tree; the first that exists counts.
        paths: Vec<String>,
        /// The text.
        text: String,
    },
    /// Adds a boot entry to the firmware behind those that are there, so that the network stays
    /// first. Older entries with the same label go once it is there. Firmware that does not take
    /// it is warned of: the fallback in EFI/BOOT is in place.
    AddBootEntry {
        /// Disk with the EFI system partition.
        disk: String,
        /// Number of that partition.
        partition: u32,
        /// Label of the entry.
        label: String,
        /// Path of the loader on that partition, with backslashes.
        loader: String,
    },
}

impl Op {
    /// Whether data of a disk may be gone once this has begun, in a step that destroys.
    pub(super) fn destroys(&self) -> bool {
        let claim = matches!(self, Op::System(SystemCall::Claim { .. }));
        !claim && !matches!(self, Op::Release { .. } | Op::SettleUdev)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Run(cmd) | Op::Fetch(cmd) => write!(f, "{cmd}"),
            Op::Unpack(archive::Fetch { urls, folder, .. }) => {
                let urls: Vec<String> = urls.iter().map(|url| quote(url)).collect();
                let folder = quote(&folder.to_string_lossy());
                write!(f, "curl --fail {} | ", urls.join(" || curl --fail "))?;
                write!(f, "tar --extract --zstd --numeric-owner --xattrs '--xattrs-include=*' ")?;
                write!(f, "--directory={folder}  # verified by SHA256SUMS beside it")
            }
            Op::RunFirst(cmds) => {
                let lines: Vec<String> = cmds.iter().map(Cmd::to_string).collect();
                write!(f, "{}", lines.join("  # or: "))
            }
            Op::System(call) => write!(f, "{call}"),
            Op::Release { disk } => {
                write!(f, "# swapoff, vgchange, dmsetup remove and mdadm --stop ")?;
                write!(f, "for what is found on {disk}")
            }
            Op::ForgetPartitions { disk } => {
                write!(f, "# wipefs and partx --delete for the partitions found on {disk}")
            }
            Op::ShowPartitions { disk, .. } => {
                write!(f, "partx --update {}  # unless udev did", quote(disk))
            }
            Op::SettleUdev => f.write_str("udevadm settle  # where udev runs"),
            Op::MakeFolder { path } => write!(f, "mkdir -p $TARGET{}", quote(path)),
            Op::WriteFile { path, content, mode, owner: (uid, gid) } => {
                let at = quote(path);
                write!(f, "install -D -m {mode:04o} -o {uid} -g {gid} /dev/stdin $TARGET{at}")?;
                let end = if content.ends_with('\n') { "END" } else { "\nEND" };
                write!(f, " <<'END'\n{content}{end}")
            }
            Op::RemoveFile { path } => write!(f, "rm $TARGET{}", quote(path)),
            Op::SetKeys { path, keys } => {
                let keys: Vec<String> =
                    keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                write!(f, "# set in $TARGET{path}: {}", keys.join(" "))
            }
            Op::KeepText { from, path } => {
                write!(f, "cp {} $TARGET{}  # without secrets", from.display(), quote(path))
            }
            Op::LinkByUuid { uuid, device } => {
                write!(f, "ln -s {} /dev/disk/by-uuid/{uuid}  # unless udev did", quote(device))
            }
            Op::Expect { paths, text } => {
                let paths: Vec<String> =
                    paths.iter().map(|path| format!("$TARGET{path}")).collect();
                write!(f, "grep -F -q {} {}", quote(text), paths.join(" "))
            }
            Op::AddBootEntry { disk, partition, label, loader } => {
                let (disk, label, loader) = (quote(disk), quote(label), quote(loader));
                write!(f, "efibootmgr --create-only --disk {disk} --part {partition} ")?;
                write!(f, "--label {label} --loader {loader} && ")?;
                write!(f, "efibootmgr --bootorder OLD,NEW  # behind the entries that are there")
            }
        }
    }
}
