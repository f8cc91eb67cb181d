//! The extended attributes of what is in a tree.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{fgetxattr, flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;
use specs::upgrade::Xattrs;

/// Whether an attribute is part of a tree: labels and signatures belong to one machine's policy.
pub(crate) fn is_ours(name: &str) -> bool {
    !matches!(name, "security.selinux" | "security.ima" | "security.evm" | "security.apparmor")
        && !name.starts_with("trusted.")
}

/// The extended attributes at a path, links not followed.
pub(crate) fn read_xattrs(path: &Path) -> io::Result<Xattrs> {
    let place = CString::new(path.as_os_str().as_bytes())?;
    Ok(Names::default().at(&place)?)
}

/// The most that the kernel gives for names, or for a value.
const MOST: usize = 64 * 1024;

/// Room for the names of attributes, used for one path after the other.
pub(super) struct Names(Vec<u8>);

impl Default for Names {
    fn default() -> Names {
        // Nearly always there are none or one.
        Names(vec![0; 1024])
    }
}

impl Names {
    /// Those at a path, links not followed.
    pub(super) fn at(&mut self, place: &CStr) -> Result<Xattrs, Errno> {
        self.gather(|names| llistxattr(place, names), |name, value| lgetxattr(place, name, value))
    }

    /// Those of an open file: a third of the time that its path takes.
    pub(super) fn of(&mut self, file: &OwnedFd) -> Result<Xattrs, Errno> {
        self.gather(|names| flistxattr(file, names), |name, value| fgetxattr(file, name, value))
    }

    fn gather(
        &mut self,
        list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
        get: impl Fn(&str, &mut [u8]) -> Result<usize, Errno>,
    ) -> Result<Xattrs, Errno> {
        let length = match list(&mut self.0) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(Xattrs::new()),
            Err(Errno::RANGE) => {
                self.0.resize(MOST, 0);
                list(&mut self.0)?
            }
            length => length?,
        };
        let names = self.0[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
        let names = names.filter_map(|name| std::str::from_utf8(name).ok());
        let mut xattrs = BTreeMap::new();
        for name in names.filter(|name| is_ours(name)) {
            let mut value = vec![0; MOST];
            let length = match get(name, &mut value) {
                Err(Errno::NODATA) => continue,
                length => length?,
            };
            value.truncate(length);
            value.shrink_to_fit();
            xattrs.insert(name.to_owned(), value);
        }
        Ok(xattrs)
    }
}
