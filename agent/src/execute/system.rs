//! What only the kernel can do, through system calls: mount, unmount, flush, overwrite, claim.
//!
//! The second seam beside [`crate::world::Runner`], in the same shape: a call is a value whose
//! `Display` is a line to paste, one trait with one method performs it, and a fake fails where
//! it is told to.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::world::{Root, quote};

/// How much is overwritten at each end of a disk: boot code, both GPTs, and the superblocks of
/// md that are kept at the end.
const END: u64 = 1 << 20;

/// How often an unmount is tried; the last user of a file may need a moment to go.
const UNMOUNT_TRIES: u32 = 20;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemCall {
    /// Mounts a file system; the folder is made.
    Mount {
        /// Device node, or the name of a virtual file system.
        source: String,
        /// Where.
        folder: PathBuf,
        /// Type.
        filesystem: String,
        /// Options as `mount -o` takes them.
        options: String,
    },
    /// Shows a folder and what is mounted below it at a second place; the place is made.
    Bind {
        /// What.
        from: String,
        /// Where.
        folder: PathBuf,
    },
    /// Undoes a [`SystemCall::Bind`].
    Unbind {
        /// Where it was.
        folder: PathBuf,
    },
    /// Unmounts everything at or below a folder, last mounted first.
    UnmountBelow(PathBuf),
    /// Overwrites the first and the last MiB of a disk with zeros, and flushes.
    ZeroEnds {
        /// Device node.
        disk: String,
    },
    /// Opens a disk for itself alone and closes it again: an error when anything uses it.
    Claim {
        /// Device node.
        disk: String,
    },
    /// Waits until these block devices are there.
    AwaitNodes {
        /// Device nodes.
        nodes: Vec<String>,
        /// For how long at most.
        deadline: Duration,
    },
    /// Writes everything out; errors are told to nobody.
    Sync,
    /// Writes out the file systems mounted at or below a folder. An error when anything written
    /// to them since they were mounted is not on their disks.
    FlushBelow(PathBuf),
    /// Writes out what block devices hold in memory, likewise.
    FlushDevices {
        /// Device nodes.
        nodes: Vec<String>,
    },
}

/// The kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot do `{call}`")]
pub struct SystemError {
    /// The call as a line to paste.
    pub call: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Performs calls.
pub trait System {
    /// Performs one.
    fn call(&mut self, call: &SystemCall) -> Result<(), SystemError>;
}

impl fmt::Display for SystemCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = |path: &Path| quote(&path.display().to_string());
        match self {
            SystemCall::Mount { source, folder, filesystem, options } => {
                let at = path(folder);
                write!(f, "mkdir -p {at} && mount -t {filesystem} ")?;
                if !options.is_empty() {
                    write!(f, "-o {} ", quote(options))?;
                }
                write!(f, "{} {at}", quote(source))
            }
            SystemCall::Bind { from, folder } => {
                let at = path(folder);
                write!(f, "mkdir -p {at} && mount --rbind --make-rslave {} {at}", quote(from))
            }
            SystemCall::Unbind { folder } => write!(f, "umount --lazy {}", path(folder)),
            SystemCall::UnmountBelow(folder) => write!(f, "umount --recursive {}", path(folder)),
            SystemCall::ZeroEnds { disk } => {
                let disk = quote(disk);
                write!(f, "dd if=/dev/zero of={disk} bs=1M count=1 conv=fsync; ")?;
                write!(f, "dd if=/dev/zero of={disk} bs=512 count=2048 conv=fsync ")?;
                write!(f, "seek=$(( $(blockdev --getsz {disk}) - 2048 ))")
            }
            SystemCall::Claim { disk } => write!(f, "wipefs --no-act {}", quote(disk)),
            SystemCall::AwaitNodes { nodes, .. } => {
                let nodes: Vec<String> = nodes.iter().map(|node| quote(node)).collect();
                write!(f, "ls {}", nodes.join(" "))
            }
            SystemCall::Sync => f.write_str("sync"),
            SystemCall::FlushBelow(folder) => write!(f, "sync --file-system {}", path(folder)),
            SystemCall::FlushDevices { nodes } => {
                let nodes: Vec<String> = nodes.iter().map(|node| quote(node)).collect();
                write!(f, "sync {}", nodes.join(" "))
            }
        }
    }
}

/// The kernel of the running machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinuxSystem;

impl System for LinuxSystem {
    fn call(&mut self, call: &SystemCall) -> Result<(), SystemError> {
        tracing::debug!(%call, "call");
        let result = match call {
            SystemCall::Mount { source, folder, filesystem, options } => {
                mount_at(source, folder, filesystem, options)
            }
            SystemCall::Bind { from, folder } => bind(from, folder),
            SystemCall::Unbind { folder } => {
                umount2(folder, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
                    .map_err(io::Error::from)
            }
            SystemCall::UnmountBelow(folder) => unmount_below(folder),
            SystemCall::ZeroEnds { disk } => zero_ends(disk),
            SystemCall::Claim { disk } => claim(disk),
            SystemCall::AwaitNodes { nodes, deadline } => await_nodes(nodes, *deadline),
            SystemCall::Sync => {
                nix::unistd::sync();
                Ok(())
            }
            SystemCall::FlushBelow(folder) => flush_below(folder),
            SystemCall::FlushDevices { nodes } => {
                nodes.iter().try_for_each(|node| File::open(node)?.sync_all())
            }
        };
        result.map_err(|source| SystemError { call: call.to_string(), source })
    }
}

fn mount_at(source: &str, folder: &Path, filesystem: &str, options: &str) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let (flags, data) = mount_flags(options);
    mount(Some(source), folder, Some(filesystem), flags, Some(data.as_str()))?;
    Ok(())
}

/// The options that are flags of the system call, and the rest, which the file system reads.
/// Those that only fstab's readers know are left out.
fn mount_flags(options: &str) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    for option in options.split(',').map(str::trim) {
        match option {
            "ro" => flags |= MsFlags::MS_RDONLY,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            "dirsync" => flags |= MsFlags::MS_DIRSYNC,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "strictatime" => flags |= MsFlags::MS_STRICTATIME,
            "lazytime" => flags |= MsFlags::MS_LAZYTIME,
            "" | "defaults" | "rw" | "suid" | "dev" | "exec" | "async" | "atime" | "auto"
            | "noauto" | "user" | "nouser" | "users" | "nofail" | "_netdev" => {}
            other if other.starts_with("x-") || other.starts_with("comment=") => {}
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

fn bind(from: &str, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    mount(Some(from), folder, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
    // Otherwise unmounting here would unmount the original's /dev/pts as well.
    let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
    mount(None::<&str>, folder, None::<&str>, slave, None::<&str>)?;
    Ok(())
}

fn unmount_below(folder: &Path) -> io::Result<()> {
    let table = Root::system().read_text("/proc/self/mountinfo")?;
    let mut points = mount_points_below(&table, folder);
    points.reverse();
    for point in points {
        let mut tries = 0;
        loop {
            match umount2(&point, MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) => break,
                Err(nix::Error::EBUSY) if tries < UNMOUNT_TRIES => {
                    tries += 1;
                    thread::sleep(Duration::from_millis(100));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn flush_below(folder: &Path) -> io::Result<()> {
    let table = Root::system().read_text("/proc/self/mountinfo")?;
    for point in mount_points_below(&table, folder) {
        rustix::fs::syncfs(File::open(point)?)?;
    }
    Ok(())
}

/// The mount points at or below `folder`, in the order in which they were mounted.
fn mount_points_below(mountinfo: &str, folder: &Path) -> Vec<PathBuf> {
    let point = |line: &str| line.split(' ').nth(4).map(unescape_octal);
    mountinfo.lines().filter_map(point).filter(|point| point.starts_with(folder)).collect()
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescape_octal(text: &str) -> PathBuf {
    let mut plain = text.to_owned();
    for (escaped, character) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
    {
        plain = plain.replace(escaped, character);
    }
    PathBuf::from(plain)
}

fn zero_ends(disk: &str) -> io::Result<()> {
    let mut device = OpenOptions::new().write(true).open(disk)?;
    if !device.metadata()?.file_type().is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a block device"));
    }
    let size = device.seek(SeekFrom::End(0))?;
    let zeros = vec![0; usize::try_from(END.min(size)).map_err(io::Error::other)?];
    for start in [0, size.saturating_sub(END)] {
        device.seek(SeekFrom::Start(start))?;
        device.write_all(&zeros)?;
    }
    device.sync_all()
}

fn claim(disk: &str) -> io::Result<()> {
    // For reading: when a writer closes a disk, udev reads its partition table again.
    let exclusive = nix::libc::O_EXCL;
    let _: File = OpenOptions::new().read(true).custom_flags(exclusive).open(disk)?;
    Ok(())
}

fn await_nodes(nodes: &[String], deadline: Duration) -> io::Result<()> {
    let until = Instant::now() + deadline;
    let is_there = |node: &str| {
        std::fs::metadata(node).is_ok_and(|metadata| metadata.file_type().is_block_device())
    };
    while let Some(missing) = nodes.iter().find(|node| !is_there(node)) {
        if Instant::now() > until {
            let text = format!("`{missing}` did not appear within {} s", deadline.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_flags_data_or_fstab_only() {
        let (flags, data) = mount_flags("defaults,noatime,ro,subvol=@,x-systemd.automount,nofail");
        assert_eq!(flags, MsFlags::MS_NOATIME | MsFlags::MS_RDONLY);
        assert_eq!(data, "subvol=@");
        assert_eq!(mount_flags(""), (MsFlags::empty(), String::new()));
    }

    #[test]
    fn mount_points_are_those_below_and_unescaped() {
        let table = "21 1 8:1 / / rw - ext4 /dev/a rw\n\
                     22 21 8:2 / /mnt/target rw - ext4 /dev/b rw\n\
                     23 22 8:3 / /mnt/target/a\\040b rw - ext4 /dev/c rw\n\
                     24 21 8:4 / /mnt/target2 rw - ext4 /dev/d rw\n";
        let points = mount_points_below(table, Path::new("/mnt/target"));
        assert_eq!(points, [PathBuf::from("/mnt/target"), PathBuf::from("/mnt/target/a b")]);
    }

    #[test]
    fn what_is_not_a_block_device_is_never_overwritten() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "precious").unwrap();
        let disk = file.path().display().to_string();
        let error = LinuxSystem.call(&SystemCall::ZeroEnds { disk }).unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "precious");
    }
}
