//! No file of a tree is younger than the youngest file that came in a package.
//!
//! What a build makes itself (caches, the initramfs, the package database) has the time of the
//! build; a second build would differ. The limit comes from the packages, not from a constant,
//! so that a version with newer packages also has newer times and `rsync`'s quick check sees it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::{RoleError, failed, tree};

/// Where dpkg keeps, for each package, which regular files it brought.
const DATABASE: &str = "var/lib/dpkg/info";

/// When the youngest packaged file of the tree was made, in seconds since 1970.
pub fn newest_packaged(tree: &Path) -> Result<i64, RoleError> {
    let database = tree.join(DATABASE);
    let entries = fs::read_dir(&database).map_err(|_| RoleError::NoAge(tree.to_owned()))?;
    let mut newest = None;
    for entry in entries {
        let path = entry.map_err(failed("list", &database))?.path();
        if path.extension().is_none_or(|extension| extension != "md5sums") {
            continue;
        }
        let sums = fs::read_to_string(&path).map_err(failed("read", &path))?;
        for line in sums.lines() {
            let Some((_, name)) = line.split_once("  ") else { continue };
            // Recipes leave manuals and the like out: what is not there tells nothing.
            let Ok(metadata) = fs::symlink_metadata(tree.join(name)) else { continue };
            newest = newest.max(Some(metadata.mtime()));
        }
    }
    newest.ok_or_else(|| RoleError::NoAge(tree.to_owned()))
}

/// Gives everything in the tree that is younger than `limit` that time; returns how many paths.
pub fn clamp(tree: &Path, limit: i64) -> Result<usize, RoleError> {
    let mut clamped = 0;
    for (path, metadata) in tree::all(tree)? {
        let younger = (metadata.mtime(), metadata.mtime_nsec()) > (limit, 0);
        if younger {
            let time = Timespec { tv_sec: limit, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|error| failed("set the time of", &path)(error.into()))?;
            clamped += 1;
        }
    }
    Ok(clamped)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_the_build_made_is_as_old_as_the_youngest_packaged_file() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path();
        fs::create_dir_all(tree.join(DATABASE)).unwrap();
        fs::create_dir_all(tree.join("usr/bin")).unwrap();
        for (name, time) in [("usr/bin/old", 1000), ("usr/bin/new", 2000), ("usr/bin/cache", 9000)]
        {
            fs::write(tree.join(name), name).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(time);
            fs::File::open(tree.join(name)).unwrap().set_modified(time).unwrap();
        }
        symlink("nowhere", tree.join("link")).unwrap();
        assert!(matches!(newest_packaged(tree), Err(RoleError::NoAge(_))));
        let sums = "0123  usr/bin/old\n4567  usr/bin/new\n89ab  usr/share/man/left-out\n";
        fs::write(tree.join(DATABASE).join("p.md5sums"), sums).unwrap();
        fs::write(tree.join(DATABASE).join("p.list"), "/usr/bin/cache\n").unwrap();

        let limit = newest_packaged(tree).unwrap();
        assert_eq!(limit, 2000);
        assert!(clamp(tree, limit).unwrap() > 3);
        assert_eq!(clamp(tree, limit).unwrap(), 0);
        let time = |name: &str| fs::symlink_metadata(tree.join(name)).unwrap().mtime();
        assert_eq!(time("usr/bin/old"), 1000);
        for name in ["usr/bin/new", "usr/bin/cache", "link", "usr", "var/lib/dpkg/info/p.list"] {
            assert_eq!(time(name), 2000, "{name}");
        }
    }
}
