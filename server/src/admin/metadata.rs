//! `edeploy-server metadata`: proposes the files of an edge between two versions of a role, and
//! writes them where hosts look for them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use specs::metadata::{Proposal, edge_folder, propose};
use specs::units::Name;
use specs::upgrade::Manifest;

/// An edge, and where versions and edges lie.
#[derive(Debug)]
pub struct Edge {
    /// The version that hosts have.
    pub from: Name,
    /// The version that they are to have.
    pub to: Name,
    /// The role.
    pub role: Name,
    /// The folder of the rsync module `install`: `<version>/<role>.manifest` is read.
    pub install: PathBuf,
    /// The folder of the rsync module `metadata`.
    pub metadata: PathBuf,
}

impl Edge {
    /// What its files should hold.
    pub fn propose(&self) -> anyhow::Result<Proposal> {
        let (from, to) = (self.manifest(&self.from)?, self.manifest(&self.to)?);
        Ok(propose(&from, &to, self.exclude_before()?.as_deref()))
    }

    fn manifest(&self, version: &Name) -> anyhow::Result<Manifest> {
        let path = self.install.join(version.as_str()).join(format!("{}.manifest", self.role));
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "cannot read `{}`; scripts/build-role writes it, or `edeploy` for trees of other tools",
                path.display()
            )
        })?;
        Manifest::parse(&text).with_context(|| format!("in `{}`", path.display()))
    }

    /// The `exclude` of an edge that leads to where this one begins; of several, the first by name.
    fn exclude_before(&self) -> anyhow::Result<Option<String>> {
        let failed = || format!("cannot look for earlier edges in `{}`", self.metadata.display());
        let versions = match fs::read_dir(&self.metadata) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>().with_context(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(failed),
        };
        let mut files: Vec<PathBuf> = versions
            .into_iter()
            .map(|version| {
                let to_here = version.path().join(self.role.as_str()).join(self.from.as_str());
                to_here.join("exclude")
            })
            .filter(|path| path.is_file())
            .collect();
        files.sort_unstable();
        let read = |path: &PathBuf| {
            fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
        };
        files.first().map(read).transpose()
    }

    /// Writes the files; returns those written. An edge that is there is somebody's work and is
    /// not written over.
    pub fn write(&self, proposal: &Proposal) -> anyhow::Result<Vec<PathBuf>> {
        let folder = self.metadata.join(edge_folder(&self.from, &self.role, &self.to));
        if folder.exists() {
            bail!(
                "`{}` is there already: compare it by hand, or remove it first",
                folder.display()
            );
        }
        let parent = folder.parent().unwrap_or(&folder);
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot make `{}`", parent.display()))?;
        // Hosts take an edge from its folder's name: the folder appears with all it holds.
        let fresh = tempfile::Builder::new().prefix(".edge").tempdir_in(parent);
        let fresh = fresh.with_context(|| format!("cannot write into `{}`", parent.display()))?;
        let mut written = Vec::new();
        for (name, text, mode) in files(proposal) {
            let write = |path: &Path| {
                fs::write(path, text)?;
                fs::set_permissions(path, fs::Permissions::from_mode(mode))
            };
            write(&fresh.path().join(name))
                .with_context(|| format!("cannot write {name} of `{}`", folder.display()))?;
            written.push(folder.join(name));
        }
        let put = || {
            fs::set_permissions(fresh.path(), fs::Permissions::from_mode(0o755))?;
            fs::rename(fresh.path(), &folder)
        };
        put().with_context(|| format!("cannot put `{}` in place", folder.display()))?;
        // The folder has another name now: there is nothing left to remove.
        let _ = fresh.keep();
        Ok(written)
    }
}

/// The files of an edge that have a content, with their modes.
fn files(proposal: &Proposal) -> impl Iterator<Item = (&'static str, &str, u32)> {
    let Proposal { exclude, add_only, pre, post, .. } = proposal;
    [
        ("exclude", exclude.as_str(), 0o644),
        ("add_only", add_only, 0o644),
        ("pre", pre, 0o755),
        ("post", post, 0o755),
    ]
    .into_iter()
    .filter(|(_, text, _)| !text.is_empty())
}

/// The proposal for people: each file under its name, then what to look at.
pub fn show(proposal: &Proposal) -> String {
    let shown = files(proposal).map(|(name, text, _)| format!("==> {name} <==\n{text}\n"));
    let notes = proposal.notes.iter().map(|note| format!("note: {note}\n"));
    shown.chain(notes).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(version: &str, lines: &str) -> String {
        let body = format!("edeploy-manifest 1 mysql {version}\n{lines}");
        format!("{body}end {} {}\n", lines.lines().count(), blake3::hash(body.as_bytes()))
    }

    fn edge(folder: &Path) -> Edge {
        let edge = Edge {
            from: "1.0.0".parse().unwrap(),
            to: "1.0.1".parse().unwrap(),
            role: "mysql".parse().unwrap(),
            install: folder.join("install"),
            metadata: folder.join("metadata"),
        };
        let hex = ["aa", "bb"].map(|byte| byte.repeat(32));
        for (version, digest) in ["1.0.0", "1.0.1"].into_iter().zip(hex) {
            let path = edge.install.join(version);
            fs::create_dir_all(&path).unwrap();
            let kernel = format!("d 755 0 0 - boot\nf 644 0 0 - boot/vmlinuz-6.1 1 0 {digest}\n");
            fs::write(path.join("mysql.manifest"), manifest(version, &kernel)).unwrap();
        }
        edge
    }

    #[test]
    fn an_edge_is_written_once_and_the_next_takes_its_lines_over() {
        let folder = tempfile::tempdir().unwrap();
        let edge = edge(folder.path());
        let before = folder.path().join("metadata/0.9.0/mysql/1.0.0");
        fs::create_dir_all(&before).unwrap();
        fs::write(before.join("exclude"), "/opt/ours/\n").unwrap();
        let proposal = edge.propose().unwrap();
        assert!(proposal.reboot && proposal.exclude.contains("\n/opt/ours/\n"), "{proposal:?}");
        assert!(show(&proposal).contains("==> post <=="));

        let written = edge.write(&proposal).unwrap();
        let names: Vec<_> = written.iter().map(|path| path.file_name().unwrap()).collect();
        assert_eq!(names, ["exclude", "add_only", "post"], "an empty pre is no file");
        let post = fs::metadata(&written[2]).unwrap();
        assert_eq!(post.permissions().mode() & 0o777, 0o755);
        let error = edge.write(&proposal).unwrap_err().to_string();
        assert!(error.contains("is there already"), "{error}");
        let left = fs::read_dir(folder.path().join("metadata/1.0.0/mysql")).unwrap().count();
        assert_eq!(left, 1, "no temporary folder is left");
    }

    #[test]
    fn a_version_without_a_manifest_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let edge = Edge { to: "2.0.0".parse().unwrap(), ..edge(folder.path()) };
        let error = format!("{:#}", edge.propose().unwrap_err());
        assert!(error.contains("2.0.0/mysql.manifest"), "{error}");
    }
}
