//! A manifest against a disk: what is not as the version has it.

use std::fmt;

use serde::Serialize;

use super::{Aspect, Class, Disk, Manifest, Rules, TreePath};

/// One path that is not as the version has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// Where.
    pub path: TreePath,
    /// How.
    #[serde(flatten)]
    pub kind: DriftKind,
}

/// How a path drifted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "drift", content = "differs", rename_all = "snake_case")]
pub enum DriftKind {
    /// It is not there.
    Missing,
    /// No version has it.
    Unlisted,
    /// It differs in these.
    Changed(Vec<Aspect>),
}

impl fmt::Display for DriftKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DriftKind::Missing => f.write_str("missing"),
            DriftKind::Unlisted => f.write_str("unlisted"),
            DriftKind::Changed(aspects) => {
                let words: Vec<String> = aspects.iter().map(Aspect::to_string).collect();
                write!(f, "changed: {}", words.join(", "))
            }
        }
    }
}

/// Everything that drifted, in the order of paths. Only what the rules synchronise counts;
/// `known` are paths that no version has and that are expected, with what lies below: those of an
/// older kernel that wait for the next boot, and what the installation put there.
pub fn verify(manifest: &Manifest, disk: &Disk, rules: &Rules, known: &[TreePath]) -> Vec<Drift> {
    let mut classifier = rules.classifier();
    let mut drifts = Vec::new();
    for (path, entry) in &manifest.entries {
        if classifier.class(path, entry.is_folder()) != Class::Sync {
            continue;
        }
        let kind = match disk.get(path) {
            None => DriftKind::Missing,
            Some(found) => match found.differences(entry) {
                same if same.is_empty() => continue,
                aspects => DriftKind::Changed(aspects),
            },
        };
        drifts.push(Drift { path: path.clone(), kind });
    }
    for (path, entry) in disk {
        let expected = |known: &TreePath| path == known || path.is_below(known);
        if !manifest.entries.contains_key(path)
            && classifier.class(path, entry.is_folder()) == Class::Sync
            && !known.iter().any(expected)
        {
            drifts.push(Drift { path: path.clone(), kind: DriftKind::Unlisted });
        }
    }
    drifts.sort_by(|a, b| a.path.cmp(&b.path));
    drifts
}
