//! What a host's disk holds of its versions, looked at as closely as is wanted.

use std::path::Path;

use specs::upgrade::{Class, Classifier, Disk, Entry, FileEntry, Kind, Manifest, Rules, TreePath};

use super::hash::Algorithm;
use super::look::{Content, Found};
use super::walk::walk;
use super::{TreeError, read_files};

/// How thoroughly a disk is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Every file that may be as a version has it is read.
    Full,
    /// A file whose size and time are those of the last manifest is taken to be as there.
    Fast,
    /// So is a file that, besides, nobody has touched since this moment, at which the host had
    /// become what the first manifest lists; in seconds since 1970.
    Since(i64),
}

/// What the disk at `root` holds of the paths in `manifests` that the rules do not keep, and the
/// names of whatever else lies in their folders.
pub fn observe(
    root: &Path,
    manifests: &[&Manifest],
    rules: &Rules,
    depth: Depth,
) -> Result<Disk, TreeError> {
    let algorithm = |path: &TreePath, size| algorithm(manifests, path, size);
    let content: Content<'_> = (depth == Depth::Full).then_some(&algorithm);
    let found = look_into(root, vec![None], manifests, rules, content)?;
    read(root, found, manifests, depth)
}

/// What lay in the folders of a host's own manifest before it was known what else matters. That
/// is nearly always all of it, and to look costs nothing while a server is waited for.
#[derive(Debug)]
pub struct Glance {
    /// By which some folders were left out.
    rules: Rules,
    found: Vec<(TreePath, Found)>,
}

impl Glance {
    /// Looks into the folders of a manifest, but for those that these rules keep.
    pub fn take(root: &Path, own: &Manifest, rules: Rules) -> Result<Glance, TreeError> {
        let found = look_into(root, vec![None], &[own], &rules, None)?;
        Ok(Glance { rules, found })
    }

    /// As [`observe`] with [`Depth::Since`]; the first manifest is the one of [`Glance::take`].
    pub fn observe(
        self,
        root: &Path,
        manifests: &[&Manifest],
        rules: &Rules,
        moment: i64,
    ) -> Result<Disk, TreeError> {
        let Glance { rules: old_rules, mut found } = self;
        let (mut before, mut now) = (old_rules.classifier(), rules.classifier());
        let mut last: (Option<TreePath>, bool) = (None, true);
        found.retain(|(path, _)| {
            let parent = path.parent();
            if parent != last.0 {
                let entered = parent.as_ref().is_none_or(|it| enters(&mut now, manifests, it));
                last = (parent, entered);
            }
            last.1
        });
        let own = manifests.get(..1).unwrap_or_default();
        let missed: Vec<Option<TreePath>> = found
            .iter()
            .filter(|(path, found)| {
                found.entry.is_folder()
                    && enters(&mut now, manifests, path)
                    && !enters(&mut before, own, path)
            })
            .map(|(path, _)| Some(path.clone()))
            .collect();
        if !missed.is_empty() {
            found.extend(look_into(root, missed, manifests, rules, None)?);
            found.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        read(root, found, manifests, Depth::Since(moment))
    }
}

/// Whether a folder is looked into: a version has it, and the rules do not keep it.
fn enters(classifier: &mut Classifier<'_>, manifests: &[&Manifest], path: &TreePath) -> bool {
    let is_folder =
        |manifest: &&Manifest| manifest.entries.get(path).is_some_and(|e| e.is_folder());
    manifests.iter().any(is_folder) && classifier.class(path, true) != Class::Keep
}

/// What lies in these folders, and below as far as versions have folders there.
fn look_into(
    root: &Path,
    folders: Vec<Option<TreePath>>,
    manifests: &[&Manifest],
    rules: &Rules,
    content: Content<'_>,
) -> Result<Vec<(TreePath, Found)>, TreeError> {
    let wanted = |classifier: &mut Classifier<'_>, path: &TreePath, is_folder: bool| {
        (true, is_folder && enters(classifier, manifests, path))
    };
    walk(root, folders, rules, &wanted, content)
}

/// Reads what has not been read and has to be.
fn read(
    root: &Path,
    mut found: Vec<(TreePath, Found)>,
    manifests: &[&Manifest],
    depth: Depth,
) -> Result<Disk, TreeError> {
    match (depth, manifests) {
        (Depth::Fast, [.., manifest]) => trust(&mut found, manifest, |_, _| true),
        (Depth::Since(moment), [manifest, ..]) if have_one_algorithm(manifests) => {
            trust(&mut found, manifest, |found, file| is_untouched(found, file, moment));
        }
        _ => {}
    }
    read_files(root, found, &|path, size| algorithm(manifests, path, size))
}

/// Whether what one of these says of a file can be compared with what another one does.
fn have_one_algorithm(manifests: &[&Manifest]) -> bool {
    let files = manifests.iter().flat_map(|manifest| manifest.entries.values());
    let mut algorithms = files.filter_map(Entry::file).map(|file| Algorithm::of(file.digest));
    let first = algorithms.next();
    algorithms.all(|algorithm| Some(algorithm) == first)
}

/// By what a file of this size can be compared with what the versions have there.
fn algorithm(manifests: &[&Manifest], path: &TreePath, size: u64) -> Option<Algorithm> {
    let digests = manifests.iter().filter_map(|manifest| manifest.entries.get(path)?.file());
    let of_size = digests.filter(|file| file.size == size).map(|file| file.digest);
    of_size.filter_map(Algorithm::of).next_back()
}

/// Whether nobody has touched a file since a moment. What was written in the very second that it
/// bears was written here, and not copied: its time says nothing about its content.
fn is_untouched(found: &Found, file: &FileEntry, moment: i64) -> bool {
    found.changed < moment && file.mtime < found.changed
}

/// Takes files whose size and time are those of the manifest to be as there, if `is_sure` is of
/// them. Both ascend.
fn trust(
    found: &mut [(TreePath, Found)],
    manifest: &Manifest,
    is_sure: impl Fn(&Found, &FileEntry) -> bool,
) {
    let mut listed = manifest.entries.iter().peekable();
    for (path, found) in found {
        while listed.next_if(|(other, _)| *other < path).is_some() {}
        if let Some(file) = found.entry.file()
            && let Some((_, entry)) = listed.next_if(|(other, _)| *other == path)
            && let Some(known) = entry.file()
            && (known.size, known.mtime) == (file.size, file.mtime)
            && is_sure(found, known)
            && let Kind::File(file) = &mut found.entry.kind
        {
            file.digest = known.digest;
        }
    }
}
