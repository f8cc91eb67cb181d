//! The root of the initrd as a list: every path with its content, its size, and the part it is in for.
//!
//! Everything is decided here, before anything is written; the same list becomes the squashfs, an
//! optional group's archive, and what `mkinitrd manifest` prints.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::libraries::{LibraryError, below_usr, needed_by};
use crate::manifest::Part;

/// Where programs of packages are.
const PROGRAM_FOLDERS: [&str; 4] = ["usr/sbin", "usr/bin", "usr/lib/systemd", "usr/lib/udev"];
/// A link that leads through more others is a circle.
const MAX_LINKS: usize = 8;

/// Why the root could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The manifest names something that no package has.
    #[error("`{what}` of `{part}` is in none of its packages")]
    Missing {
        /// What the manifest names.
        what: String,
        /// The part.
        part: String,
    },
    /// A link leads nowhere.
    #[error("the link {0} leads in a circle")]
    Circle(String),
    /// A file could not be read or written.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The libraries of a program could not be found.
    #[error("cannot tell which libraries are needed")]
    Library(#[from] LibraryError),
}

/// What a path of the root holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Bytes { bytes: Vec<u8>, executable: bool },
    Link(String),
}

/// One path, and why it is there.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) content: Content,
    /// The name of the part.
    pub(crate) part: String,
}

/// The list; paths have no leading slash.
#[derive(Debug)]
pub(crate) struct Root<'a> {
    tree: &'a Path,
    pub(crate) items: BTreeMap<String, Item>,
}

impl<'a> Root<'a> {
    /// An empty root, to be filled from the unpacked packages of `tree`.
    pub(crate) fn new(tree: &'a Path) -> Root<'a> {
        Root { tree, items: BTreeMap::new() }
    }

    /// Adds a part's programs, files and applets. Modules are added one by one.
    pub(crate) fn add_part(&mut self, part: &Part) -> Result<(), RootError> {
        let missing =
            |what: &str| RootError::Missing { what: what.to_owned(), part: part.name.clone() };
        for program in &part.programs {
            let path = PROGRAM_FOLDERS
                .iter()
                .map(|folder| format!("{folder}/{program}"))
                .find(|path| self.tree.join(path).symlink_metadata().is_ok())
                .ok_or_else(|| missing(program))?;
            self.add_path(&path, &part.name)?;
        }
        for file in &part.files {
            let path = below_usr(file);
            if self.tree.join(&path).symlink_metadata().is_err() {
                return Err(missing(file));
            }
            self.add_path(&path, &part.name)?;
        }
        for applet in &part.applets {
            self.insert(
                &format!("usr/bin/{applet}"),
                Content::Link("busybox".to_owned()),
                &part.name,
            );
        }
        Ok(())
    }

    /// Adds a file, a folder with all below it, or a link with what it leads to.
    pub(crate) fn add_path(&mut self, path: &str, part: &str) -> Result<(), RootError> {
        let mut path = path.trim_end_matches('/').to_owned();
        for _ in 0..MAX_LINKS {
            let file = self.tree.join(&path);
            let error = |source| RootError::File { path: file.clone(), source };
            let metadata = file.symlink_metadata().map_err(error)?;
            if metadata.is_symlink() {
                let target = fs::read_link(&file).map_err(error)?.to_string_lossy().into_owned();
                let next = resolve(&path, &target);
                self.insert(&path, Content::Link(target), part);
                path = next;
                continue;
            }
            if metadata.is_dir() {
                return self.add_folder(&path, part);
            }
            let bytes = fs::read(&file).map_err(error)?;
            let executable = metadata.permissions().mode() & 0o111 != 0;
            self.insert(&path, Content::Bytes { bytes, executable }, part);
            return Ok(());
        }
        Err(RootError::Circle(path))
    }

    fn add_folder(&mut self, path: &str, part: &str) -> Result<(), RootError> {
        let folder = self.tree.join(path);
        let error = |source| RootError::File { path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(error)? {
            let name = entry.map_err(error)?.file_name().to_string_lossy().into_owned();
            self.add_path(&format!("{path}/{name}"), part)?;
        }
        Ok(())
    }

    /// Adds a path with its content; the first part that names a path is the reason it is in.
    pub(crate) fn insert(&mut self, path: &str, content: Content, part: &str) {
        self.items
            .entry(path.to_owned())
            .or_insert_with(|| Item { content, part: part.to_owned() });
    }

    /// Adds the libraries that what is in needs, and the libraries of these.
    pub(crate) fn add_libraries(&mut self) -> Result<(), RootError> {
        let mut waiting: Vec<(String, String)> = self
            .items
            .iter()
            .filter(|(path, _)| !path.ends_with(".ko"))
            .filter(|(_, item)| matches!(item.content, Content::Bytes { .. }))
            .map(|(path, item)| (path.clone(), item.part.clone()))
            .collect();
        while let Some((path, part)) = waiting.pop() {
            if !self.tree.join(&path).exists() {
                continue;
            }
            for library in needed_by(self.tree, &path)? {
                if !self.items.contains_key(&library) {
                    self.add_path(&library, &part)?;
                    waiting.push((library, part.clone()));
                }
            }
        }
        Ok(())
    }

    /// Writes the root into a folder, which must be empty, with these empty folders besides.
    pub(crate) fn write_to(&self, folder: &Path, empty: &[&str]) -> Result<(), RootError> {
        let make = |path: &Path| {
            fs::create_dir_all(path)
                .map_err(|source| RootError::File { path: path.to_owned(), source })
        };
        for name in empty {
            make(&folder.join(name))?;
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            let path = folder.join(name);
            make(&folder.join("usr").join(name))?;
            symlink(format!("usr/{name}"), &path)
                .map_err(|source| RootError::File { path, source })?;
        }
        for (path, item) in &self.items {
            let path = folder.join(path);
            make(path.parent().unwrap_or(folder))?;
            match &item.content {
                Content::Link(target) => symlink(target, &path),
                Content::Bytes { bytes, executable } => fs::write(&path, bytes).and_then(|()| {
                    let mode = if *executable { 0o755 } else { 0o644 };
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode))
                }),
            }
            .map_err(|source| RootError::File { path, source })?;
        }
        Ok(())
    }
}

/// Where a link at `path` leads, as a path of the tree.
fn resolve(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return below_usr(target);
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            "." | "" => {}
            name => parts.push(name),
        }
    }
    below_usr(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_where_the_kernel_would_go() {
        for (path, target, expected) in [
            ("usr/sbin/mkfs.ext4", "mke2fs", "usr/sbin/mke2fs"),
            ("usr/sbin/ip", "/bin/ip", "usr/bin/ip"),
            ("usr/lib/a/b", "../../bin/c", "usr/bin/c"),
            ("usr/lib64/ld.so", "/lib/x86_64-linux-gnu/ld.so", "usr/lib/x86_64-linux-gnu/ld.so"),
        ] {
            assert_eq!(resolve(path, target), expected, "{path} -> {target}");
        }
    }

    #[test]
    fn a_program_that_no_package_has_is_named_with_its_part() {
        let tree = tempfile::tempdir().unwrap();
        let part = Part {
            name: "tables".to_owned(),
            programs: vec!["sfdisk".to_owned()],
            ..Part::default()
        };
        let error = Root::new(tree.path()).add_part(&part).unwrap_err();
        assert_eq!(error.to_string(), "`sfdisk` of `tables` is in none of its packages");
    }

    #[test]
    fn a_link_comes_with_what_it_leads_to_and_a_circle_is_an_error() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("usr/bin")).unwrap();
        fs::write(tree.path().join("usr/bin/real"), "x").unwrap();
        symlink("real", tree.path().join("usr/bin/name")).unwrap();
        symlink("b", tree.path().join("usr/bin/a")).unwrap();
        symlink("a", tree.path().join("usr/bin/b")).unwrap();
        let mut root = Root::new(tree.path());
        root.add_path("usr/bin/name", "p").unwrap();
        assert_eq!(root.items.keys().collect::<Vec<_>>(), ["usr/bin/name", "usr/bin/real"]);
        assert!(matches!(root.add_path("usr/bin/a", "p"), Err(RootError::Circle(_))));
    }
}
