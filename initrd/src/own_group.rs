//! Groups of an administrator's own files: a RAID vendor's tool, a firmware that Debian has not.
//!
//! Vendors' tools are in no Debian archive. Whoever has such a package unpacks it into a folder
//! (`dpkg-deb -x ssacli.deb FOLDER`, `rpm2cpio storcli.rpm | cpio -id`), which becomes a group as
//! it lies there. A program whose libraries are neither in the folder nor to be had from the
//! base's packages is refused, by name: it would fail on a machine, in front of nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};

use crate::libraries::{DEFAULT_FOLDERS, LibraryError, below_usr, names_needed};
use crate::root::{Content, Root};

/// Below these nothing of a group would be seen: they are made anew or mounted over at boot.
const HIDDEN: [&str; 6] = ["dev", "proc", "sys", "run", "tmp", "mnt"];

/// What is in the folder, by its path on the machine.
pub(crate) fn read_folder(folder: &Path) -> anyhow::Result<BTreeMap<String, Content>> {
    let mut items = BTreeMap::new();
    let mut pending = vec![String::new()];
    while let Some(above) = pending.pop() {
        let place = folder.join(&above);
        let entries =
            fs::read_dir(&place).with_context(|| format!("cannot read {}", place.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read {}", place.display()))?;
            let file = entry.path();
            let failed = || format!("cannot read {}", file.display());
            let name = entry.file_name().into_string().map_err(|name| {
                anyhow::anyhow!("{} holds a name that is no text: {name:?}", place.display())
            })?;
            let path = if above.is_empty() { name } else { format!("{above}/{name}") };
            let metadata = file.symlink_metadata().with_context(failed)?;
            if metadata.is_dir() {
                pending.push(path);
                continue;
            }
            let content = if metadata.is_symlink() {
                Content::Link(fs::read_link(&file).with_context(failed)?.display().to_string())
            } else if metadata.is_file() {
                let executable = metadata.permissions().mode() & 0o111 != 0;
                Content::Bytes { bytes: fs::read(&file).with_context(failed)?, executable }
            } else {
                bail!("{} is neither file, folder nor link", file.display());
            };
            let first = path.split('/').next().unwrap_or_default();
            ensure!(
                !HIDDEN.contains(&first),
                "{} would not be seen on a machine: /{first} is made anew at boot",
                file.display()
            );
            // The root has /bin and the like as links, which a folder of a group would hide.
            items.insert(below_usr(&path), content);
        }
    }
    ensure!(!items.is_empty(), "there is no file in {}", folder.display());
    Ok(items)
}

/// Adds the libraries that the programs among `items` need and `base` lacks, from the unpacked
/// packages of the base.
pub(crate) fn add_libraries(
    items: &mut BTreeMap<String, Content>,
    base: &Root<'_>,
    tree: &Path,
) -> anyhow::Result<()> {
    let names: BTreeSet<String> =
        items.keys().chain(base.items.keys()).map(|path| base_name(path).to_owned()).collect();
    let mut added = Root::new(tree);
    for (path, content) in &*items {
        let Content::Bytes { bytes, .. } = content else { continue };
        for library in names_needed(path, bytes)? {
            if names.contains(&library) {
                continue;
            }
            let place = DEFAULT_FOLDERS
                .iter()
                .map(|folder| format!("{folder}/{library}"))
                .find(|place| tree.join(place).exists())
                .ok_or(LibraryError::Missing { program: path.clone(), library })
                .context("add the library to the folder")?;
            added.add_path(&place, path)?;
        }
    }
    added.add_libraries()?;
    for (path, item) in added.items {
        if !base.items.contains_key(&path) {
            items.entry(path).or_insert(item.content);
        }
    }
    Ok(())
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A vendor's package as `dpkg-deb -x` leaves it, with a program of known needs.
    fn package() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for made in ["opt/vendor", "sbin", "usr/sbin"] {
            fs::create_dir_all(at(made)).unwrap();
        }
        fs::copy("/proc/self/exe", at("opt/vendor/tool")).unwrap();
        symlink("/opt/vendor/tool", at("sbin/tool")).unwrap();
        fs::write(at("usr/sbin/readme"), "text").unwrap();
        folder
    }

    #[test]
    fn a_folder_becomes_a_group_that_hides_nothing_of_the_base() {
        let folder = package();
        let items = read_folder(folder.path()).unwrap();
        let paths: Vec<&str> = items.keys().map(String::as_str).collect();
        assert_eq!(paths, ["opt/vendor/tool", "usr/sbin/readme", "usr/sbin/tool"]);
        assert!(matches!(items["opt/vendor/tool"], Content::Bytes { executable: true, .. }));
        assert_eq!(items["usr/sbin/tool"], Content::Link("/opt/vendor/tool".to_owned()));

        fs::create_dir(folder.path().join("run")).unwrap();
        fs::write(folder.path().join("run/socket"), "").unwrap();
        let text = read_folder(folder.path()).unwrap_err().to_string();
        assert!(text.contains("run/socket would not be seen on a machine"), "{text}");
        let empty = tempfile::tempdir().unwrap();
        assert!(read_folder(empty.path()).unwrap_err().to_string().contains("no file"));
    }

    #[test]
    fn libraries_come_along_and_one_that_nobody_has_is_named() {
        let (folder, tree) = (package(), tempfile::tempdir().unwrap());
        let place = tree.path().join("usr/lib/x86_64-linux-gnu");
        fs::create_dir_all(&place).unwrap();
        let base = Root::new(tree.path());
        let mut items = read_folder(folder.path()).unwrap();
        let text = format!("{:#}", add_libraries(&mut items, &base, tree.path()).unwrap_err());
        assert!(text.contains("`opt/vendor/tool` needs `lib"), "{text}");

        for library in ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"] {
            fs::write(place.join(library), "").unwrap();
        }
        add_libraries(&mut items, &base, tree.path()).unwrap();
        assert!(items.contains_key("usr/lib/x86_64-linux-gnu/libc.so.6"), "{:?}", items.keys());
    }
}
