//! Reads trees: the manifest of one that was built, and what a host's disk holds of a version.
//!
//! Both are walks that follow no link and read files in parallel. What is compared with what, and
//! what follows, is [`specs::upgrade`]'s; nothing here writes.

mod hash;
mod look;
mod observe;
mod parallel;
mod walk;
mod xattrs;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use specs::units::Name;
use specs::upgrade::{Class, Classifier, Digest, Disk, Kind, Manifest, PathError, Rules, TreePath};

use hash::FileReader;
pub use hash::{Algorithm, hash_file};
use look::Found;
pub(crate) use look::join;
pub use observe::{Depth, Glance, observe};
pub(crate) use parallel::parallel;
use parallel::parallel_with;
use walk::walk;
pub(crate) use xattrs::{is_ours, read_xattrs};

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
    // The folders that a running system fills are part of a tree; what is in them is not.
    let wanted = |classifier: &mut Classifier<'_>, path: &TreePath, is_folder| {
        let listed = classifier.class(path, is_folder) == Class::Sync;
        (listed || (is_folder && path.parent().is_none()), listed)
    };
    let algorithm = |_: &TreePath, _| Some(Algorithm::Blake3);
    let mut found = walk(folder, vec![None], &rules, &wanted, Some(&algorithm))?;
    found.retain(|(_, found)| found.entry.kind != Kind::Socket);
    number_shared(&mut found);
    let entries = read_files(folder, found, &algorithm)?;
    Ok(Manifest { role: role.clone(), version: version.clone(), entries })
}

/// Gives the files that share an inode a number, in the order of paths.
fn number_shared(all: &mut [(TreePath, Found)]) {
    let mut names: BTreeMap<(u64, u64), u32> = BTreeMap::new();
    for (_, found) in all.iter() {
        *names.entry(found.inode).or_default() += 1;
    }
    let mut numbers: BTreeMap<(u64, u64), u32> = BTreeMap::new();
    for (_, found) in all {
        if names[&found.inode] > 1
            && let Kind::File(file) = &mut found.entry.kind
        {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            file.shared = Some(*numbers.entry(found.inode).or_insert(next));
        }
    }
}

/// Reads the files that `algorithm` asks for and that nobody has read, each inode once, in the
/// order of inodes.
fn read_files(
    root: &Path,
    mut found: Vec<(TreePath, Found)>,
    algorithm: &dyn Fn(&TreePath, u64) -> Option<Algorithm>,
) -> Result<Disk, TreeError> {
    let mut jobs: Vec<((u64, u64), Algorithm, usize)> = Vec::new();
    for (position, (path, found)) in found.iter().enumerate() {
        if let Some(file) = found.entry.file()
            && file.digest == Digest::Unread
            && let Some(algorithm) = algorithm(path, file.size)
        {
            jobs.push((found.inode, algorithm, position));
        }
    }
    jobs.sort_unstable();
    let groups: Vec<_> = jobs.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)).collect();
    let digests = parallel_with(&groups, FileReader::default, |reader, group| {
        let (_, algorithm, position) = group[0];
        let path = join(root, &found[position].0);
        reader.hash(&path, algorithm).map_err(|source| TreeError::Read { path, source })
    });
    for (group, digest) in groups.iter().zip(digests) {
        let digest = digest?;
        for (_, _, position) in *group {
            if let Kind::File(file) = &mut found[*position].1.entry.kind {
                file.digest = digest;
            }
        }
    }
    Ok(found.into_iter().map(|(path, found)| (path, found.entry)).collect())
}

#[cfg(test)]
mod tests;
