//! Attaches a file to a loop device, the two `ioctl`s that no crate at hand wraps safely.

#![expect(unsafe_code, reason = "the loop driver is only reachable through raw ioctl numbers")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

// From linux/loop.h: they predate the encoding of sizes and directions in ioctl numbers.
nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
nix::ioctl_write_int_bad!(loop_set_fd, 0x4C00);

/// Attaches `image`, read-only, to a free loop device and returns the device's path. The device
/// holds the file open.
pub(super) fn attach(image: &File) -> io::Result<PathBuf> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    // SAFETY: the request takes no argument; the descriptor is open for the whole call.
    let number = unsafe { loop_ctl_get_free(control.as_raw_fd()) }?;
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let device = File::open(&path)?;
    // SAFETY: the argument is a plain descriptor number, open for the whole call; the kernel
    // takes its own reference.
    unsafe { loop_set_fd(device.as_raw_fd(), image.as_raw_fd()) }?;
    Ok(path)
}
