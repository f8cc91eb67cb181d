//! Reads trees: the manifest of one that was built, and what a host's disk holds of a version.
//!
//! Both are walks that follow no link and read files in parallel. What is compared with what, and
//! what follows, is [`specs::upgrade`]'s; nothing here writes.

mod hash;
mod walk;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use specs::units::Name;
use specs::upgrade::{Class, Digest, Disk, Kind, Manifest, PathError, Rules, TreePath};

pub use hash::{Algorithm, hash_file};
use walk::{Found, read_folder};
pub(crate) use walk::{is_ours, parallel, read_xattrs};

/// Why a tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Something in it cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A name in it cannot be told to others.
    #[error("a name in the tree")]
    Name(#[from] PathError),
}

/// The manifest of the tree in `folder`: every path, every file read. Sockets are left out, and
/// what `left_out` names in the notation of an `exclude` file.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let folder = std::path::Path::new("/srv/install/D12-F.1.0.1/mysql");
/// let manifest = agent::tree::manifest(folder, &"mysql".parse()?, &"D12-F.1.0.1".parse()?, "")?;
/// std::fs::write("/srv/install/D12-F.1.0.1/mysql.manifest", manifest.to_text())?;
/// # Ok(()) }
/// ```
pub fn manifest(
    folder: &Path,
    role: &Name,
    version: &Name,
    left_out: &str,
) -> Result<Manifest, TreeError> {
    let rules = Rules::parse(left_out, "");
    let mut classifier = rules.classifier();
    let mut found = BTreeMap::new();
    // The folders that a running system fills are part of a tree; what is in them is not.
    let mut wanted = |path: &TreePath, is_folder| {
        let listed = classifier.class(path, is_folder) == Class::Sync;
        (listed || (is_folder && path.parent().is_none()), listed)
    };
    walk(folder, &mut found, &mut wanted)?;
    found.retain(|_, found| found.entry.kind != Kind::Socket);
    number_shared(&mut found);
    let entries = read_files(folder, found, |_, _| Some(Algorithm::Blake3))?;
    Ok(Manifest { role: role.clone(), version: version.clone(), entries })
}

/// How thoroughly a disk is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every file that may be as a version has it is read.
    Full,
    /// A file whose size and time are those of the last manifest is taken to be as there.
    Fast,
}

/// What the disk at `root` holds of the paths in `manifests` that the rules do not keep, and the
/// names of whatever else lies in their folders.
pub fn observe(
    root: &Path,
    manifests: &[&Manifest],
    rules: &Rules,
    depth: Depth,
) -> Result<Disk, TreeError> {
    let mut classifier = rules.classifier();
    let mut found = BTreeMap::new();
    let listed = |path: &TreePath| {
        manifests.iter().any(|manifest| manifest.entries.get(path).is_some_and(|e| e.is_folder()))
    };
    let mut wanted = |path: &TreePath, is_folder| {
        let kept = classifier.class(path, is_folder) == Class::Keep;
        (true, is_folder && !kept && listed(path))
    };
    walk(root, &mut found, &mut wanted)?;
    let as_trusted = |path: &TreePath, size: u64, mtime: i64| {
        let file = manifests.last()?.entries.get(path)?.file()?;
        (depth == Depth::Fast && file.size == size && file.mtime == mtime).then_some(file.digest)
    };
    for (path, found) in &mut found {
        if let Kind::File(file) = &mut found.entry.kind
            && let Some(digest) = as_trusted(path, file.size, file.mtime)
        {
            file.digest = digest;
        }
    }
    read_files(root, found, |path, size| {
        let digests = manifests.iter().filter_map(|manifest| manifest.entries.get(path)?.file());
        let of_size = digests.filter(|file| file.size == size).map(|file| file.digest);
        of_size.filter_map(Algorithm::of).last()
    })
}

/// Walks level by level. `wanted` says of a path whether it counts, and whether to go into it.
fn walk(
    root: &Path,
    all: &mut BTreeMap<TreePath, Found>,
    wanted: &mut dyn FnMut(&TreePath, bool) -> (bool, bool),
) -> Result<(), TreeError> {
    let mut level: Vec<Option<TreePath>> = vec![None];
    while !level.is_empty() {
        let folders = parallel(&level, |folder| read_folder(root, folder.as_ref()));
        level.clear();
        for found in folders {
            for (path, found) in found? {
                let (counts, enter) = wanted(&path, found.entry.is_folder());
                if enter && found.entry.is_folder() {
                    level.push(Some(path.clone()));
                }
                if counts {
                    all.insert(path, found);
                }
            }
        }
    }
    Ok(())
}

/// Gives the files that share an inode a number, in the order of paths.
fn number_shared(all: &mut BTreeMap<TreePath, Found>) {
    let mut names: BTreeMap<(u64, u64), u32> = BTreeMap::new();
    for found in all.values() {
        *names.entry(found.inode).or_default() += 1;
    }
    let mut numbers: BTreeMap<(u64, u64), u32> = BTreeMap::new();
    for found in all.values_mut() {
        if names[&found.inode] > 1
            && let Kind::File(file) = &mut found.entry.kind
        {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            file.shared = Some(*numbers.entry(found.inode).or_insert(next));
        }
    }
}

/// Reads the files that `algorithm` asks for and that nobody has read, each inode once.
fn read_files(
    root: &Path,
    found: BTreeMap<TreePath, Found>,
    algorithm: impl Fn(&TreePath, u64) -> Option<Algorithm>,
) -> Result<Disk, TreeError> {
    let mut jobs: BTreeMap<((u64, u64), Algorithm), &TreePath> = BTreeMap::new();
    let job = |path: &TreePath, found: &Found| {
        let file = found.entry.file().filter(|file| file.digest == Digest::Unread)?;
        Some((found.inode, algorithm(path, file.size)?))
    };
    for (path, found) in &found {
        if let Some(job) = job(path, found) {
            jobs.entry(job).or_insert(path);
        }
    }
    let list: Vec<_> = jobs.iter().collect();
    let digests = parallel(&list, |((_, algorithm), path)| {
        let path = walk::join(root, path);
        hash_file(&path, *algorithm).map_err(|source| TreeError::Read { path, source })
    });
    let mut by_job = BTreeMap::new();
    for ((job, _), digest) in list.into_iter().zip(digests) {
        by_job.insert(*job, digest?);
    }
    let keys: Vec<_> = found.iter().map(|(path, found)| job(path, found)).collect();
    let mut disk = Disk::new();
    for ((path, mut found), job) in found.into_iter().zip(keys) {
        if let (Some(job), Kind::File(file)) = (job, &mut found.entry.kind) {
            file.digest = by_job[&job];
        }
        disk.insert(path, found.entry);
    }
    Ok(disk)
}

#[cfg(test)]
mod tests;
