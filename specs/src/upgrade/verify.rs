//! A manifest against a disk: what is not as the version has it.

use std::cmp::Ordering;
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
    let expected = |path: &TreePath| known.iter().any(|own| path == own || path.is_below(own));
    let mut drifts = Vec::new();
    // Both ascend: one pass over both. What the rules say is only asked of what drifted.
    let mut found = disk.iter().peekable();
    let mut listed = manifest.entries.iter().peekable();
    loop {
        let order = match (listed.peek(), found.peek()) {
            (Some((wanted, _)), Some((there, _))) => wanted.cmp(there),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        let wanted = if order.is_le() { listed.next() } else { None };
        let there = if order.is_ge() { found.next() } else { None };
        let kind = match (wanted, there) {
            (Some((_, entry)), Some((_, found))) => match found.differences(entry) {
                same if same.is_empty() => continue,
                aspects => DriftKind::Changed(aspects),
            },
            (Some(_), None) => DriftKind::Missing,
            (None, _) => DriftKind::Unlisted,
        };
        let Some((path, entry)) = wanted.or(there) else { continue };
        let waived = wanted.is_none() && expected(path);
        if !waived && classifier.class(path, entry.is_folder()) == Class::Sync {
            drifts.push(Drift { path: path.clone(), kind });
        }
    }
    drifts
}
