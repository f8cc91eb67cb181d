//! A handle on a folder that plays `/`: captured `/sys` and `/proc` trees in tests, the tree
//! being installed, or the machine itself.
//!
//! No path leads out of it: `..` stops at its top, and links are followed as a process inside
//! it would see them, an absolute link starting again at its top. Folders below it are not
//! expected to change between look-up and use; nothing of an installed tree runs meanwhile.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows in one look-up.
const MOST_LINKS: usize = 40;

/// See the module. Paths given to its methods are those inside it, with or without the leading
/// slash; those returned by [`Root::resolve`] are real ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// The folder as a root.
    pub fn new(folder: impl Into<PathBuf>) -> Root {
        Root(folder.into())
    }

    /// The machine itself.
    pub fn system() -> Root {
        Root::new("/")
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Where `path` really is. What does not exist is taken as it is written, so that it can be
    /// made there.
    pub fn resolve(&self, path: &str) -> io::Result<PathBuf> {
        let mut inside = PathBuf::new();
        let mut pending: Vec<PathBuf> = parts(Path::new(path));
        let mut links = 0;
        while let Some(part) = pending.pop() {
            if part.as_os_str() == ".." {
                inside.pop();
                continue;
            }
            let here = inside.join(&part);
            match fs::read_link(self.0.join(&here)) {
                Ok(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        let text = format!("too many links in `{path}`");
                        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
                    }
                    if target.is_absolute() {
                        inside = PathBuf::new();
                    }
                    pending.extend(parts(&target));
                }
                // Not a link, or not there.
                Err(_) => inside = here,
            }
        }
        Ok(self.0.join(inside))
    }

    /// The text of a file.
    pub fn read_text(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(self.resolve(path)?)
    }

    /// The bytes of a file.
    pub fn read_bytes(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.resolve(path)?)
    }

    /// The names in a folder, sorted.
    pub fn names(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names: Vec<String> = fs::read_dir(self.resolve(path)?)?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()?;
        names.sort_unstable();
        Ok(names)
    }

    /// Whether there is anything, links followed.
    pub fn exists(&self, path: &str) -> bool {
        self.resolve(path).is_ok_and(|path| path.exists())
    }

    /// Whether there is a regular file, links followed.
    pub fn is_file(&self, path: &str) -> bool {
        self.resolve(path).is_ok_and(|path| path.is_file())
    }

    /// Whether there is a folder, links followed.
    pub fn is_dir(&self, path: &str) -> bool {
        self.resolve(path).is_ok_and(|path| path.is_dir())
    }

    /// Makes a folder and those above it, with this mode.
    pub fn create_dirs(&self, path: &str, mode: u32) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(mode).create(self.resolve(path)?)
    }

    /// Writes a file so that it is there whole or not at all; folders above it are made with
    /// mode 755. What was there is replaced, a link as well: its target stays as it is.
    pub fn write(
        &self,
        path: &str,
        content: &[u8],
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> io::Result<()> {
        let folder = self.replace(path, content, mode, owner, File::sync_all)?;
        File::open(&folder)?.sync_all()
    }

    /// As [`Root::write`], for whoever flushes the whole file system in the end: to flush each
    /// small file of a tree that was just copied makes the disk write all of the tree first.
    pub fn write_unflushed(
        &self,
        path: &str,
        content: &[u8],
        mode: u32,
        owner: Option<(u32, u32)>,
    ) -> io::Result<()> {
        self.replace(path, content, mode, owner, |_| Ok(())).map(drop)
    }

    /// The folder in which it was done.
    fn replace(
        &self,
        path: &str,
        content: &[u8],
        mode: u32,
        owner: Option<(u32, u32)>,
        flush: impl Fn(&File) -> io::Result<()>,
    ) -> io::Result<PathBuf> {
        let (folder, name) = self.parent_of(path)?;
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
        let temporary = folder.join(temporary_name(&name));
        let written = write_new(&temporary, content, mode, owner)
            .and_then(|file| flush(&file))
            .and_then(|()| fs::rename(&temporary, folder.join(&name)));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written.map(|()| folder)
    }

    /// Where [`Root::write`] leaves what it could not finish, when the power goes in the middle.
    pub fn unfinished(&self, path: &str) -> io::Result<PathBuf> {
        let (folder, name) = self.parent_of(path)?;
        Ok(folder.join(temporary_name(&name)))
    }

    fn parent_of(&self, path: &str) -> io::Result<(PathBuf, String)> {
        let name = Path::new(path).file_name().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("`{path}` names no file"))
        })?;
        let parent = Path::new(path).parent().unwrap_or(Path::new("/"));
        Ok((self.resolve(&parent.to_string_lossy())?, name.to_string_lossy().into_owned()))
    }
}

fn temporary_name(name: &str) -> String {
    format!(".{name}.edeploy-new")
}

fn write_new(
    path: &Path,
    content: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    if let Some((uid, gid)) = owner {
        fchown(&file, Some(uid), Some(gid))?;
    }
    // After chown, which takes set-user-id bits away; not subject to the umask.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file)
}

/// The parts of a path, last first, without root and `.`.
fn parts(path: &Path) -> Vec<PathBuf> {
    let wanted = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().filter(wanted).map(|part| PathBuf::from(part.as_os_str())).rev().collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn no_path_leads_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        symlink("/a", folder.path().join("absolute")).unwrap();
        symlink("../../../../etc", folder.path().join("a/b/up")).unwrap();
        symlink("loop", folder.path().join("loop")).unwrap();
        for (path, inside) in [
            ("/a/b", "a/b"),
            ("a/b/", "a/b"),
            ("../../etc/passwd", "etc/passwd"),
            ("/absolute/b", "a/b"),
            ("/a/b/up/passwd", "etc/passwd"),
            ("/new/file", "new/file"),
        ] {
            assert_eq!(root.resolve(path).unwrap(), folder.path().join(inside), "{path}");
        }
        let error = root.resolve("/loop/x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_a_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let outside = folder.path().join("victim");
        fs::write(&outside, "untouched").unwrap();
        fs::create_dir(folder.path().join("etc")).unwrap();
        symlink(&outside, folder.path().join("etc/link")).unwrap();
        root.write("/etc/link", b"new", 0o640, None).unwrap();
        root.write("/deep/er/file", b"deep", 0o4755, None).unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
        assert_eq!(root.read_text("etc/link").unwrap(), "new");
        let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!(mode("etc/link"), 0o640);
        assert_eq!(mode("deep/er/file"), 0o4755);
        assert_eq!(root.names("etc").unwrap(), ["link"]);
        assert!(root.write("/", b"", 0o644, None).is_err());
    }
}
