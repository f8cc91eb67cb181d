//! Gives a finished tree its version and makes what machines fetch.
//!
//! ```text
//! <out>/<version>/<role>/                     the tree, for rsync
//! <out>/<version>/<role>.manifest             what it holds, for `edeploy upgrade`
//! <out>/<version>/<role>-<version>.edeploy    the same tree as an archive, for HTTP
//! <out>/<version>/SHA256SUMS                  of the two files above, for every role of the version
//! ```
//!
//! The tree itself holds its manifest as well, so that a host can `edeploy verify` offline, and a
//! list of what is the host's own there: `edeploy verify` of a fresh host looks at the rest.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use specs::metadata::propose;
use specs::units::Name;

use super::{RoleError, failed, times};
use crate::command::run;

/// Where an installed host finds what it is.
const CONF: &str = "var/lib/edeploy/conf";

/// Checksums of everything of one version that is a file.
const SUMS: &str = "SHA256SUMS";

/// Smaller by a twentieth than the level below; the next one takes twice as long.
const LEVEL: &str = "-3";

/// What was made, for people.
#[derive(Debug)]
pub struct Published {
    /// The manifest beside the tree.
    pub manifest: PathBuf,
    /// How many paths the tree holds.
    pub paths: usize,
    /// The digest of the manifest, which is one of the tree.
    pub digest: String,
    /// The archive.
    pub archive: PathBuf,
    /// Its size in bytes.
    pub archive_bytes: u64,
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} paths, digest {}", self.paths, self.digest)?;
        writeln!(f, "{}", self.manifest.display())?;
        write!(f, "{}: {} MiB", self.archive.display(), self.archive_bytes >> 20)
    }
}

/// Publishes `tree` as a version of a role into `folder`, which is named after the version.
/// `age`: no file that is made here is younger.
pub fn publish(
    tree: &Path,
    folder: &Path,
    role: &Name,
    version: &Name,
    age: i64,
) -> Result<Published, RoleError> {
    write(&tree.join(CONF), &format!("VERS={version}\nROLE={role}\n"))?;
    times::clamp(tree, age)?;
    let manifest = agent::tree::manifest(tree, role, version, "")?;
    let text = manifest.to_text();
    let beside = folder.join(format!("{role}.manifest"));
    let own = format!("var/lib/edeploy/{version}");
    write(&tree.join(&own).join("manifest"), &text)?;
    write(&tree.join(&own).join("exclude"), &propose(&manifest, &manifest, None).exclude)?;
    write(&beside, &text)?;
    times::clamp(tree, age)?;

    let archive = folder.join(format!("{role}-{version}.edeploy"));
    pack(tree, &archive)?;
    let archive_bytes = fs::metadata(&archive).map_err(failed("look at", &archive))?.len();
    add_sums(folder, &[&archive, &beside])?;
    Ok(Published {
        paths: manifest.entries.len(),
        digest: blake3::hash(text.as_bytes()).to_hex().to_string(),
        manifest: beside,
        archive,
        archive_bytes,
    })
}

/// Packs a tree, the same bytes for the same tree: sorted, without the times of access and of
/// status change, and without the number of this process in the names of extra headers.
fn pack(tree: &Path, archive: &Path) -> Result<(), RoleError> {
    let packed = archive.with_extension("edeploy-tar");
    let failed_with = |source| RoleError::Program { attempt: "pack the tree", source };
    let (place, tar, zstd) =
        (tree.to_string_lossy(), packed.to_string_lossy(), archive.to_string_lossy());
    let create = [
        "--create",
        "--format=posix",
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
        "--numeric-owner",
        "--xattrs",
        "--xattrs-include=*",
        "--acls",
        "--sort=name",
        "--directory",
        &place,
        "--file",
        &tar,
        ".",
    ];
    run(("tar", "tar"), &create, "").map_err(failed_with)?;
    // Two threads give the same bytes on any machine; one without threads would give others.
    let compress = ["--quiet", "--force", LEVEL, "-T2", "--rm", &tar, "-o", &zstd];
    run(("zstd", "zstd"), &compress, "").map(drop).map_err(failed_with)
}

/// Replaces the lines of these files in the checksums of their folder.
fn add_sums(folder: &Path, files: &[&Path]) -> Result<(), RoleError> {
    let sums = folder.join(SUMS);
    let mut lines: Vec<String> = match fs::read_to_string(&sums) {
        Ok(text) => text.lines().map(str::to_owned).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed("read", sums)(error)),
    };
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let answer = run(("sha256sum", "coreutils"), &[&file.to_string_lossy()], "")
            .map_err(|source| RoleError::Program { attempt: "make checksums", source })?;
        let sum = answer.split_ascii_whitespace().next().unwrap_or_default();
        lines.retain(|line| line.split_once("  ").is_none_or(|(_, listed)| listed != name));
        lines.push(format!("{sum}  {name}"));
    }
    lines.sort_unstable_by(|a, b| a.get(66..).cmp(&b.get(66..)));
    write(&sums, &(lines.join("\n") + "\n"))
}

/// Writes a file under its name only when it is whole: daemons serve these folders.
fn write(path: &Path, text: &str) -> Result<(), RoleError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(failed("make", folder))?;
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).map_err(failed("write", &fresh))?;
    fs::rename(&fresh, path).map_err(failed("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (Name, Name) {
        ("mysql".parse().unwrap(), "D12-F.1.0.0".parse().unwrap())
    }

    fn tree(folder: &Path) -> PathBuf {
        let tree = folder.join("mysql");
        fs::create_dir_all(tree.join("usr/bin")).unwrap();
        fs::write(tree.join("usr/bin/tool"), "tool").unwrap();
        fs::hard_link(tree.join("usr/bin/tool"), tree.join("usr/bin/twin")).unwrap();
        std::os::unix::fs::symlink("usr/bin", tree.join("bin")).unwrap();
        tree
    }

    #[test]
    fn the_same_tree_gives_the_same_files() {
        let (role, version) = names();
        let publish_one = || {
            let folder = tempfile::tempdir().unwrap();
            let tree = tree(folder.path());
            let published = publish(&tree, folder.path(), &role, &version, 1_700_000_000).unwrap();
            (folder, tree, published)
        };
        let (first, second) = (publish_one(), publish_one());
        for name in ["mysql.manifest", "mysql-D12-F.1.0.0.edeploy", SUMS] {
            let read = |folder: &tempfile::TempDir| fs::read(folder.path().join(name)).unwrap();
            assert_eq!(read(&first.0), read(&second.0), "{name}");
        }
        let (folder, tree, published) = first;
        let beside = fs::read_to_string(&published.manifest).unwrap();
        // No manifest lists anything in that folder, so that this one need not list itself.
        let own = |name: &str| {
            fs::read_to_string(tree.join("var/lib/edeploy/D12-F.1.0.0").join(name)).unwrap()
        };
        assert_eq!(beside, own("manifest"));
        assert!(own("exclude").contains("\n/etc/fstab\n"), "{}", own("exclude"));
        let manifest = specs::upgrade::Manifest::parse(&beside).unwrap();
        assert_eq!(manifest, agent::tree::manifest(&tree, &role, &version, "").unwrap());
        assert_eq!(fs::read_to_string(tree.join(CONF)).unwrap(), "VERS=D12-F.1.0.0\nROLE=mysql\n");

        let again = publish(&tree, folder.path(), &role, &version, 1_700_000_000).unwrap();
        assert_eq!(again.digest, published.digest, "publishing again changes nothing");
        let sums = fs::read_to_string(folder.path().join(SUMS)).unwrap();
        assert_eq!(sums.lines().count(), 2, "{sums}");
        let check = duct::cmd!("sha256sum", "--check", "--quiet", SUMS).dir(folder.path());
        check.run().unwrap();
    }

    #[test]
    fn checksums_of_other_roles_stay() {
        let folder = tempfile::tempdir().unwrap();
        let other = format!("{}  base.manifest\n", "0".repeat(64));
        fs::write(folder.path().join(SUMS), &other).unwrap();
        fs::write(folder.path().join("mysql.manifest"), "x").unwrap();
        for _ in 0..2 {
            add_sums(folder.path(), &[&folder.path().join("mysql.manifest")]).unwrap();
        }
        let sums = fs::read_to_string(folder.path().join(SUMS)).unwrap();
        assert!(sums.starts_with(&other) && sums.lines().count() == 2, "{sums}");
    }
}
