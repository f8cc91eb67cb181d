//! Images as block devices of this machine, by `qemu-storage-daemon`: it shows an image as a file
//! (FUSE), on which a loop device stands. What the loop device flushes, QEMU sees.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::disk::{LoopDevice, blank};
use crate::process::{Lifetime, Service, run, wait_until};

/// The program, of package `qemu-system-common`.
const DAEMON: &str = "qemu-storage-daemon";

/// How long it may take to begin, or to end.
const MOMENT: Duration = Duration::from_secs(30);

/// How long another test may keep a mount namespace, in which a file system stays mounted.
const OTHERS: Duration = Duration::from_secs(600);

/// Makes an overlay of a raw image: what is written goes to the overlay alone.
pub fn overlay(image: &Path, overlay: &Path) -> Result<()> {
    let words = ["create", "-q", "-f", "qcow2", "-F", "raw", "-b"];
    let paths = [image, overlay].map(|path| path.display().to_string());
    run("qemu-img", words.map(str::to_owned).into_iter().chain(paths)).map(drop)
}

/// The node of an overlay. The host's own disk need not be waited for: it loses no power.
fn node(overlay: &Path) -> Value {
    let file = json!({ "driver": "file", "filename": overlay, "cache": { "no-flush": true } });
    json!({ "driver": "qcow2", "file": file, "cache": { "no-flush": true } })
}

/// Unmounts a file system and waits until the kernel has let go of it. A mount namespace that
/// another program made meanwhile has the mount as well, and keeps the file system alive.
pub fn unmount(device: &Path, folder: &Path) -> Result<()> {
    run("umount", [folder])?;
    let name = device.file_name().context("no name of a device")?;
    let alive = ["ext4", "xfs"].map(|system| Path::new("/sys/fs").join(system).join(name));
    wait_until("a file system to be unmounted everywhere", OTHERS, || {
        Ok((!alive.iter().any(|folder| folder.exists())).then_some(()))
    })
}

/// An overlay as a disk of this machine.
#[derive(Debug)]
pub struct AttachedDisk {
    /// Devices and where they are mounted.
    mounts: Vec<(PathBuf, PathBuf)>,
    device: Option<LoopDevice>,
    daemon: Service,
    file: PathBuf,
}

impl AttachedDisk {
    /// Shows an overlay as the file `<overlay>.disk`.
    pub fn show(overlay: &Path) -> Result<AttachedDisk> {
        AttachedDisk::start(overlay, &node(overlay))
    }

    fn start(overlay: &Path, node: &Value) -> Result<AttachedDisk> {
        let file = overlay.with_extension("disk");
        blank(&file, 0)?;
        let mut node = node.clone();
        node["node-name"] = "disk".into();
        let export = json!({
            "type": "fuse", "id": "export", "node-name": "disk", "mountpoint": file,
            "writable": true,
        });
        let arguments =
            ["--blockdev".to_owned(), node.to_string(), "--export".to_owned(), export.to_string()];
        let log = overlay.with_extension("daemon");
        let arguments = arguments.map(Into::into);
        let daemon = Service::start(DAEMON, DAEMON, &arguments, &log, Lifetime::Scoped)?;
        let disk = AttachedDisk { mounts: Vec::new(), device: None, daemon, file };
        wait_until("a disk to appear", MOMENT, || {
            ensure!(disk.daemon.running()?, "{DAEMON} ended: {}", disk.daemon.log_tail(5));
            Ok((disk.file.metadata()?.len() > 0).then_some(()))
        })?;
        Ok(disk)
    }

    /// The disk as a file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Mounts the file system on the disk, or on this partition of it. The kernel finishes first
    /// what the file system's own journal says.
    pub fn mount(&mut self, partition: Option<u32>, folder: &Path) -> Result<()> {
        if self.device.is_none() {
            self.device = Some(LoopDevice::attach(&self.file, true)?);
        }
        let device = self.device.as_ref().context("no loop device")?;
        let place = partition.map_or(device.path.clone(), |number| device.partition(number));
        std::fs::create_dir_all(folder)?;
        run("mount", [place.as_os_str(), folder.as_os_str()])?;
        self.mounts.push((place, folder.to_owned()));
        Ok(())
    }

    /// Unmounts everything and waits until all of it is in the overlay.
    pub fn detach(mut self) -> Result<()> {
        self.unmount()?;
        drop(self.device.take());
        self.end()
    }

    fn unmount(&mut self) -> Result<()> {
        while let Some((device, folder)) = self.mounts.pop() {
            unmount(&device, &folder)?;
        }
        Ok(())
    }

    fn end(&self) -> Result<()> {
        let id = Pid::from_raw(i32::try_from(self.daemon.id())?);
        kill(id, Signal::SIGTERM).with_context(|| format!("ending {DAEMON}"))?;
        self.daemon.wait_for_end(MOMENT)
    }
}

impl Drop for AttachedDisk {
    fn drop(&mut self) {
        // After a failure; a disk that was detached has nothing of this left.
        for (_, folder) in self.mounts.drain(..).rev() {
            let _ = run("umount", [Path::new("--lazy"), &folder]);
        }
        drop(self.device.take());
        if self.daemon.running().unwrap_or(false) {
            let _ = self.end();
        }
    }
}

/// A disk whose writes and flushes are noted.
#[derive(Debug)]
pub struct Recording {
    /// The disk.
    pub disk: AttachedDisk,
    log: PathBuf,
}

impl Recording {
    /// The block node that notes in `log` what is done to an overlay, for QEMU's `-blockdev` too.
    pub fn node(overlay: &Path, log: &Path) -> Value {
        let file = json!({ "driver": "file", "filename": log, "cache": { "no-flush": true } });
        json!({
            "driver": "blklogwrites",
            "file": node(overlay),
            "log": { "driver": "raw", "file": file },
            "log-sector-size": 512,
            // The number of entries is in the superblock: exact at any time.
            "log-super-update-interval": 1,
        })
    }

    /// Shows an overlay as a disk and notes in `log` what is done to it.
    pub fn start(overlay: &Path, log: &Path) -> Result<Recording> {
        blank(log, 0)?;
        let disk = AttachedDisk::start(overlay, &Recording::node(overlay, log))?;
        Ok(Recording { disk, log: log.to_owned() })
    }

    /// How many entries the log has now.
    pub fn entries(&self) -> Result<usize> {
        Ok(super::log::WriteLog::open(&self.log)?.entries.len())
    }
}
