//! Package managers of a host, switched off and on.
//!
//! A host changes by `edeploy upgrade`; a package installed by hand would be undone by the next
//! one, or make it refuse. So roles come with their package managers switched off: each is a link
//! to one script that says so, and the program itself lies beside it as `NAME.real`. `dpkg`
//! still answers questions, which `update-initramfs` and others ask it.
//!
//! Switching there and back leaves the same inodes under the same names: `edeploy verify` finds
//! nothing. At no moment is there neither program nor script under a name.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::world::Root;

/// The programs that install and remove.
const MANAGERS: [&str; 7] = [
    "/usr/bin/apt",
    "/usr/bin/apt-get",
    "/usr/bin/aptitude",
    "/usr/bin/dnf",
    "/usr/bin/dpkg",
    "/usr/bin/microdnf",
    "/usr/bin/yum",
];

/// The script that stands in for them.
const STUB: &str = "/usr/lib/edeploy/deactivated";

/// The same, from where the programs are: a link that also holds below `--root`.
const STUB_FROM_MANAGERS: &str = "../lib/edeploy/deactivated";

/// What the script holds. Exit code 0, as in the original: automation that tries to install
/// something on every run is to be told, not stopped.
const SCRIPT: &str = r#"#!/bin/sh
# Stands in for a package manager that is switched off; see `edeploy activate-pkgmngr`.
name="${0##*/}"
if [ "$name" = dpkg ]; then
    changes=no
    for argument in "$@"; do
        case "$argument" in
            -i|--install|--unpack|--configure|-r|--remove|-P|--purge|-A|--record-avail) changes=yes ;;
            --triggers-only|--set-selections|--clear-selections|--update-avail|--merge-avail) changes=yes ;;
            --clear-avail|--forget-old-unavail|--add-architecture|--remove-architecture) changes=yes ;;
        esac
    done
    [ "$changes" = yes ] || exec "$0.real" "$@"
fi
echo "$name is deactivated: this host changes by 'edeploy upgrade'; 'edeploy activate-pkgmngr' switches it on" >&2
exit 0
"#;

/// Why package managers could not be switched.
#[derive(Debug, thiserror::Error)]
#[error("cannot switch `{}`", path.display())]
pub struct PackageManagerError {
    /// The program or script.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// What the name of a package manager leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    On,
    Off,
}

/// Switches every package manager of the host off; returns those that were on.
pub fn deactivate(root: &Root) -> Result<Vec<PathBuf>, PackageManagerError> {
    let on = managers(root, State::On)?;
    if on.is_empty() {
        return Ok(on);
    }
    // Written once: a second time would give the file another inode and time for nothing.
    if root.read_bytes(STUB).ok().as_deref() != Some(SCRIPT.as_bytes()) {
        let error = |source| PackageManagerError { path: PathBuf::from(STUB), source };
        root.write(STUB, SCRIPT.as_bytes(), 0o755, Some((0, 0))).map_err(error)?;
    }
    for program in &on {
        let (real, fresh) = (beside(program, "real"), beside(program, "edeploy-new"));
        let switch = || {
            remove_if_there(&real)?;
            remove_if_there(&fresh)?;
            // The program keeps its inode: first a second name, then the link takes the first.
            fs::hard_link(program, &real)?;
            symlink(STUB_FROM_MANAGERS, &fresh)?;
            fs::rename(&fresh, program)
        };
        switch().map_err(|source| PackageManagerError { path: program.clone(), source })?;
    }
    Ok(on)
}

/// Switches every package manager of the host on; returns those that were off.
pub fn activate(root: &Root) -> Result<Vec<PathBuf>, PackageManagerError> {
    let off = managers(root, State::Off)?;
    for program in &off {
        fs::rename(beside(program, "real"), program)
            .map_err(|source| PackageManagerError { path: program.clone(), source })?;
    }
    Ok(off)
}

/// The package managers in this state, each where it really is.
fn managers(root: &Root, wanted: State) -> Result<Vec<PathBuf>, PackageManagerError> {
    let mut programs = Vec::new();
    for manager in MANAGERS {
        let error = |source| PackageManagerError { path: PathBuf::from(manager), source };
        let Some((folder, name)) = manager.rsplit_once('/') else { continue };
        // The folder is looked up inside the root; the name may be a link and is not followed.
        let program = root.resolve(folder).map_err(error)?.join(name);
        let state = match fs::read_link(&program) {
            Ok(target) if target == Path::new(STUB_FROM_MANAGERS) => Some(State::Off),
            // `yum` is a link to `dnf` on many systems: `dnf` is what gets switched.
            Ok(_) => None,
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => None,
            Err(reason) if reason.kind() == io::ErrorKind::InvalidInput => Some(State::On),
            Err(source) => return Err(error(source)),
        };
        if state == Some(wanted) {
            programs.push(program);
        }
    }
    Ok(programs)
}

fn beside(program: &Path, suffix: &str) -> PathBuf {
    let mut name = program.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn host() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        for (name, answer) in [("apt-get", "installing"), ("dpkg", "dpkg says $1")] {
            let script = format!("#!/bin/sh\necho {answer}\n");
            root.write(&format!("/usr/bin/{name}"), script.as_bytes(), 0o755, None).unwrap();
        }
        (folder, root)
    }

    /// Name, inode, mode and content of everything in `/usr/bin`.
    fn listing(root: &Root) -> Vec<(String, u64, u32, Vec<u8>)> {
        let entry = |name: String| {
            let path = root.folder().join("usr/bin").join(&name);
            let metadata = fs::symlink_metadata(&path).unwrap();
            (name, metadata.ino(), metadata.mode(), fs::read(&path).unwrap())
        };
        root.names("/usr/bin").unwrap().into_iter().map(entry).collect()
    }

    fn names(programs: Vec<PathBuf>) -> Vec<String> {
        let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        programs.into_iter().map(name).collect()
    }

    fn answer(root: &Root, arguments: &[&str]) -> (String, String) {
        let program = root.folder().join("usr/bin").join(arguments[0]);
        let output = duct::cmd(program, &arguments[1..]).stdout_capture().stderr_capture().run();
        let output = output.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
        (text(output.stdout), text(output.stderr))
    }

    #[test]
    fn there_and_back_leaves_everything_as_it_was() {
        let (_keep, root) = host();
        let before = listing(&root);
        assert_eq!(names(deactivate(&root).unwrap()), ["apt-get", "dpkg"]);
        let off = listing(&root);
        assert_ne!(off, before);
        assert_eq!(names(deactivate(&root).unwrap()), [""; 0], "a second time does nothing");
        assert_eq!(listing(&root), off);
        assert_eq!(names(activate(&root).unwrap()), ["apt-get", "dpkg"]);
        assert_eq!(listing(&root), before);
        assert_eq!(names(activate(&root).unwrap()), [""; 0]);
        deactivate(&root).unwrap();
        let contents = |listing: Vec<(String, u64, u32, Vec<u8>)>| -> Vec<_> {
            listing.into_iter().map(|(name, _, mode, content)| (name, mode, content)).collect()
        };
        assert_eq!(contents(listing(&root)), contents(off));
    }

    #[test]
    fn what_is_off_says_so_and_dpkg_still_answers_questions() {
        let (_keep, root) = host();
        deactivate(&root).unwrap();
        let (out, err) = answer(&root, &["apt-get", "install", "cowsay"]);
        assert_eq!(out, "");
        assert!(err.starts_with("apt-get is deactivated"), "{err}");
        let (out, _) = answer(&root, &["dpkg", "--print-architecture"]);
        assert_eq!(out, "dpkg says --print-architecture");
        let (out, err) = answer(&root, &["dpkg", "--force-all", "-i", "cowsay.deb"]);
        assert_eq!(out, "");
        assert!(err.starts_with("dpkg is deactivated"), "{err}");
        activate(&root).unwrap();
        assert_eq!(answer(&root, &["apt-get", "install"]).0, "installing");
    }

    #[test]
    fn a_host_without_package_managers_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert_eq!(names(deactivate(&root).unwrap()), [""; 0]);
        assert!(!root.exists(STUB));
    }
}
