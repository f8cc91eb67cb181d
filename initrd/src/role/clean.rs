//! Takes out of a tree what belongs to one machine, or only to the build.
//!
//! A key, an identity or a seed that every machine shared would be worse than none; logs and
//! caches would be fetched by every machine and differ from build to build.

use std::fs;
use std::path::{Path, PathBuf};

use super::{RoleError, failed, tree};

/// Files that go; `*` stands for anything at the start or the end of a name.
const FILES: [&str; 16] = [
    "etc/*-", // passwd- and its like, from before the last account was made
    "etc/.pwd.lock",
    "etc/hostname",
    "etc/resolv.conf",
    "etc/ssh/ssh_host_*",
    "root/.bash_history",
    "root/.wget-hsts",
    "usr/sbin/policy-rc.d",
    "var/cache/debconf/*-old",
    "var/lib/dbus/machine-id",
    "var/lib/dhcp/*.leases",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/lock*",
    "var/lib/systemd/credential.secret",
    "var/lib/systemd/random-seed",
    "var/lib/urandom/random-seed",
];

/// Folders whose content goes, folders included.
const EMPTIED: [&str; 13] = [
    "run",
    "tmp",
    "var/cache/apt",
    "var/cache/dnf",
    "var/cache/fontconfig",
    "var/cache/ldconfig",
    "var/cache/man",
    "var/cache/yum",
    "var/lib/apt/lists",
    "var/lib/dhclient",
    "var/lib/systemd/timers",
    "var/log/journal",
    "var/tmp",
];

/// Folders that lose their files and keep their folders, which services expect to be there.
const WITHOUT_FILES: [&str; 1] = ["var/log"];

/// Folders that apt wants, once it is there.
const OF_APT: [&str; 2] = ["var/lib/apt/lists/partial", "var/cache/apt/archives/partial"];

/// Cleans a tree; returns what it removed, sorted, as paths in the tree.
pub fn clean(tree: &Path) -> Result<Vec<PathBuf>, RoleError> {
    let mut removed = Vec::new();
    for pattern in FILES {
        for path in matching(tree, pattern)? {
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            removed.push(path);
        }
    }
    for folder in EMPTIED {
        for path in children(&tree.join(folder))? {
            let metadata = fs::symlink_metadata(&path).map_err(failed("look at", &path))?;
            let remove = if metadata.is_dir() { fs::remove_dir_all } else { fs::remove_file };
            remove(&path).map_err(failed("remove", &path))?;
            removed.push(path);
        }
    }
    for folder in WITHOUT_FILES.map(|folder| tree.join(folder)) {
        if !is_folder(&folder) {
            continue;
        }
        for (path, _) in tree::all(&folder)?.into_iter().filter(|(_, metadata)| !metadata.is_dir())
        {
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            removed.push(path);
        }
    }
    if is_folder(&tree.join("var/lib/apt")) {
        for folder in OF_APT.map(|folder| tree.join(folder)) {
            fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
        }
    }
    // Empty, not absent: an absent one makes systemd enable every unit that a preset names.
    let identity = tree.join("etc/machine-id");
    if is_folder(&tree.join("etc")) {
        fs::write(&identity, "").map_err(failed("empty", &identity))?;
    }
    let inside = |path: PathBuf| path.strip_prefix(tree).map(Path::to_owned).unwrap_or(path);
    let mut removed: Vec<PathBuf> = removed.into_iter().map(inside).collect();
    removed.sort_unstable();
    Ok(removed)
}

/// What is no folder in the folder of this pattern and has a name as it says.
fn matching(tree: &Path, pattern: &str) -> Result<Vec<PathBuf>, RoleError> {
    let (folder, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let (start, end) = name.split_once('*').unwrap_or((name, ""));
    let fits = |path: &PathBuf| {
        let Some(found) = path.file_name().and_then(|name| name.to_str()) else { return false };
        let named = match name.contains('*') {
            true => {
                found.len() > start.len() + end.len()
                    && found.starts_with(start)
                    && found.ends_with(end)
            }
            false => found == name,
        };
        named && !is_folder(path)
    };
    Ok(children(&tree.join(folder))?.into_iter().filter(fits).collect())
}

/// What is in a folder; nothing when it is not there, or a link out of which the tree would be left.
fn children(folder: &Path) -> Result<Vec<PathBuf>, RoleError> {
    if !is_folder(folder) {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
        paths.push(entry.map_err(failed("list", folder))?.path());
    }
    Ok(paths)
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_belongs_to_a_machine_goes_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path();
        let outside = folder.path().with_extension("outside");
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("keep"), "").unwrap();
        let gone = [
            "etc/passwd-",
            "etc/ssh/ssh_host_rsa_key",
            "etc/ssh/ssh_host_rsa_key.pub",
            "tmp/.hidden/x",
            "var/cache/apt/pkgcache.bin",
            "var/lib/systemd/random-seed",
            "var/log/redis/redis.log",
        ];
        let kept = [
            "etc/-",
            "etc/passwd",
            "etc/ssh/sshd_config",
            "var/cache/debconf/config.dat",
            "var/lib/apt/extended_states",
            "var/lib/dpkg/status",
        ];
        for name in gone.into_iter().chain(kept).chain(["etc/machine-id"]) {
            let path = tree.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "content").unwrap();
        }
        symlink(&outside, tree.join("var/tmp")).unwrap();

        let removed = clean(tree).unwrap();
        let expected: Vec<PathBuf> = gone
            .map(|name| PathBuf::from(name.replace("/.hidden/x", "/.hidden")))
            .into_iter()
            .collect();
        assert_eq!(removed, expected);
        for name in kept {
            assert_eq!(fs::read_to_string(tree.join(name)).unwrap(), "content", "{name}");
        }
        assert_eq!(fs::read_to_string(tree.join("etc/machine-id")).unwrap(), "");
        assert!(tree.join("var/log/redis").is_dir(), "services expect their folders");
        assert!(tree.join("var/lib/apt/lists/partial").is_dir());
        assert!(outside.join("keep").exists(), "a link leads out of the tree");
        fs::remove_dir_all(outside).unwrap();
    }
}
