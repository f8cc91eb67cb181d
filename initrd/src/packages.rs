//! Fetches Debian packages and unpacks them, without installing them.
//!
//! `mmdebstrap --variant=extract` does it: it resolves dependencies, checks signatures, runs no
//! maintainer script and needs no privileges. A plain `apt-get download` would leave all three to us.
//! Unpacked trees are kept in the cache under a digest of the packages and their versions.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::command::{CommandError, run};

/// Why packages could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// apt has no index of the release.
    #[error(
        "apt knows no Debian archive of `{0}` here; run `apt-get update`, or give --mirror URL"
    )]
    NoArchive(String),
    /// The archive has no such package, or could not be reached.
    #[error("cannot fetch {0}")]
    Fetch(String, #[source] CommandError),
    /// A program that asks apt failed.
    #[error("cannot ask apt for its archives")]
    Ask(#[source] CommandError),
    /// What was fetched could not be unpacked.
    #[error("cannot unpack packages")]
    Unpack(#[source] CommandError),
    /// The cache could not be used.
    #[error("cannot use {path} of the cache")]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no folder for a cache.
    #[error("there is no home folder for a cache; give --cache DIR")]
    NoHome,
}

/// Where a build keeps what it can use again.
pub fn default_cache() -> Result<PathBuf, PackageError> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("EDEPLOY_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|folder| folder.join("edeploy")))
        .or_else(|| set("HOME").map(|folder| folder.join(".cache/edeploy")))
        .ok_or(PackageError::NoHome)
}

/// Packages to be unpacked.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) suite: &'a str,
    pub(crate) packages: &'a [String],
    /// Archive components, such as `main`.
    pub(crate) components: &'a [&'a str],
    pub(crate) mirror: Option<&'a str>,
}

impl Request<'_> {
    /// The folder that holds the unpacked packages, with everything below `/usr`.
    pub(crate) fn unpack(&self, cache: &Path) -> Result<PathBuf, PackageError> {
        let sources = self.sources()?;
        let policy = ["policy"].into_iter().chain(self.packages.iter().map(String::as_str));
        let versions = run(("apt-cache", "apt"), &policy.collect::<Vec<_>>(), "")
            .map_err(PackageError::Ask)?;
        let candidates: Vec<&str> =
            versions.lines().filter(|line| line.contains("Candidate:")).collect();
        let inputs = format!("{sources}\n{:?}\n{candidates:?}", self.packages);
        let digest = blake3::hash(inputs.as_bytes()).to_hex();
        let tree = cache.join("packages").join(&digest[..16]);
        if tree.is_dir() {
            return Ok(tree);
        }
        self.fetch(&sources, &tree)?;
        Ok(tree)
    }

    /// Lines of an apt sources list: a mirror, or Debian's archives among this machine's own.
    fn sources(&self) -> Result<String, PackageError> {
        let components = self.components.join(" ");
        if let Some(mirror) = self.mirror {
            return Ok(format!("deb {mirror} {} {components}\n", self.suite));
        }
        let format = "$(ORIGIN)|$(CODENAME)|$(IDENTIFIER)|$(REPO_URI)";
        let targets = run(("apt-get", "apt"), &["indextargets", "--format", format], "")
            .map_err(PackageError::Ask)?;
        let mut lines: Vec<String> = targets
            .lines()
            .filter_map(|line| archive_of(line, self.suite))
            .map(|(uri, codename)| format!("deb {uri} {codename} {components}\n"))
            .collect();
        lines.sort_unstable();
        lines.dedup();
        if lines.is_empty() {
            return Err(PackageError::NoArchive(self.suite.to_owned()));
        }
        Ok(lines.concat())
    }

    fn fetch(&self, sources: &str, tree: &Path) -> Result<(), PackageError> {
        let cache_error = |path: &Path| {
            let path = path.to_owned();
            move |source| PackageError::Cache { path, source }
        };
        let folder = tree.parent().unwrap_or(tree);
        fs::create_dir_all(folder).map_err(cache_error(folder))?;
        let work = tempfile::tempdir_in(folder).map_err(cache_error(folder))?;
        let archive = work.path().join("packages.tar");
        let include = format!("--include={}", self.packages.join(","));
        let archive_name = archive.to_string_lossy();
        let fetch = ["--variant=extract", "--quiet", &include, self.suite, &archive_name, "-"];
        run(("mmdebstrap", "mmdebstrap"), &fetch, sources)
            .map_err(|error| PackageError::Fetch(self.packages.join(", "), error))?;

        // Debian 12 packages still name /bin and /lib; links to /usr, made before, gather them.
        let fresh = work.path().join("tree");
        for name in ["bin", "sbin", "lib", "lib64"] {
            let target = fresh.join("usr").join(name);
            fs::create_dir_all(&target).map_err(cache_error(&target))?;
            let link = fresh.join(name);
            std::os::unix::fs::symlink(format!("usr/{name}"), &link).map_err(cache_error(&link))?;
        }
        let fresh_name = fresh.to_string_lossy();
        let unpack = [
            "--extract",
            "--keep-directory-symlink",
            "--no-same-owner",
            "--exclude=./dev/*",
            "--directory",
            &fresh_name,
            "--file",
            &archive_name,
        ];
        run(("tar", "tar"), &unpack, "").map_err(PackageError::Unpack)?;
        fs::rename(&fresh, tree).map_err(cache_error(tree))
    }
}

/// The archive and release of a line of `apt-get indextargets`, if it is Debian's and of that suite.
fn archive_of<'a>(line: &'a str, suite: &str) -> Option<(&'a str, &'a str)> {
    let mut fields = line.split('|');
    let (origin, codename, kind, uri) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let of_suite =
        codename.strip_prefix(suite).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    (origin == "Debian" && kind == "Packages" && of_suite).then_some((uri, codename))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debians_own_archives_of_the_suite_count() {
        for (line, expected) in [
            ("Debian|bookworm|Packages|http://d/debian/", Some(("http://d/debian/", "bookworm"))),
            (
                "Debian|bookworm-security|Packages|http://s/",
                Some(("http://s/", "bookworm-security")),
            ),
            ("Debian|bookworm|DEP-11|http://d/debian/", None),
            ("Debian|trixie|Packages|http://d/debian/", None),
            ("Somebody|bookworm|Packages|http://x/", None),
            ("", None),
        ] {
            assert_eq!(archive_of(line, "bookworm"), expected, "{line}");
        }
    }
}
