//! Proposes the four files of an edge between two versions of a role, from their manifests:
//! `exclude`, `add_only`, `pre` and `post`.
//!
//! A proposal is where an administrator begins: each line says why it is there, and what was
//! written by hand for the edge before comes along. Kept are what belongs to one machine, what
//! services write below `/var`, and configuration that the new version does not change. What it
//! does change is not kept, since the new programs may need it, but is there as a remark that
//! only has to be uncommented.

mod hooks;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

pub use hooks::is_stoppable;

use crate::units::Name;
use crate::upgrade::{Entry, Manifest, TreePath};

/// The four files of an edge, as texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proposal {
    /// What is neither changed nor removed.
    pub exclude: String,
    /// Of that, what is made where it is missing.
    pub add_only: String,
    /// Runs before anything is changed. Empty: nothing to do.
    pub pre: String,
    /// Runs afterwards; ends with 100 when the host is to be rebooted. Empty: nothing to do.
    pub post: String,
    /// Services that are stopped before and started afterwards.
    pub services: Vec<String>,
    /// Whether `post` asks for a reboot.
    pub reboot: bool,
    /// What an administrator should look at.
    pub notes: Vec<String>,
}

/// Proposes the files of the edge `from` -> `to`. `before` is the `exclude` of an edge that led
/// to `from`, whose lines are taken over.
pub fn propose(from: &Manifest, to: &Manifest, before: Option<&str>) -> Proposal {
    let mut notes = Vec::new();
    let exclude = exclude(from, to, before, &mut notes);
    let services = hooks::services(from, to);
    let kernels = hooks::new_kernels(from, to);
    notes.extend(hooks::notes(from, to, &kernels));
    Proposal {
        exclude,
        add_only: ADD_ONLY.to_owned(),
        pre: hooks::pre(&names(from, to), &services),
        post: hooks::post(&names(from, to), &services, to, &kernels),
        reboot: !kernels.is_empty(),
        services,
        notes,
    }
}

/// New folders of services must come to be; what is there is theirs.
const ADD_ONLY: &str = "\
# Of what exclude keeps, this is made where it is missing: folders that new services expect.
+ /var/
+ /var/**
- *
";

/// What the edge is called in remarks; a version by itself when it leads nowhere.
fn names(from: &Manifest, to: &Manifest) -> String {
    if from.version == to.version {
        return format!("{} {}", to.role, to.version);
    }
    format!("{} from {} to {}", to.role, from.version, to.version)
}

/// The lines of `exclude`, in groups with their reason.
fn exclude(
    from: &Manifest,
    to: &Manifest,
    before: Option<&str>,
    notes: &mut Vec<String>,
) -> String {
    let mut text = format!("# What an upgrade of {} leaves alone.\n", names(from, to));
    let mut listed = BTreeSet::new();
    let mut group = |text: &mut String, reason: &str, lines: Vec<String>| {
        let fresh: Vec<String> = lines.into_iter().filter(|l| listed.insert(l.clone())).collect();
        if !fresh.is_empty() {
            let _ = writeln!(text, "\n# {reason}");
            fresh.iter().for_each(|line| text.extend([line, "\n"]));
        }
    };
    for (reason, lines) in tables::MACHINE {
        group(&mut text, reason, lines.iter().map(|line| (*line).to_owned()).collect());
    }
    group(&mut text, "Data and state of services.", state(from, to));
    let configuration = Configuration::compare(from, to);
    let accounts = tables::ACCOUNTS.into_iter();
    let (same, changed): (Vec<&str>, Vec<&str>) =
        accounts.partition(|path| same_at(from, to, path));
    group(
        &mut text,
        "Accounts: the hosts' own stay, and this version changes none.",
        same.into_iter().map(|path| format!("/{path}")).collect(),
    );
    if !changed.is_empty() {
        notes.push(format!(
            "{} changed: accounts that hosts added are kept aside, not in the new file",
            changed.join(", ")
        ));
    }
    group(&mut text, "Configuration that this version does not change.", configuration.same);
    if !configuration.changed.is_empty() {
        let reason =
            "Configuration that this version changes: uncomment what hosts keep as theirs.";
        let _ = writeln!(text, "\n# {reason}");
        for line in &configuration.changed {
            let _ = writeln!(text, "#{line}");
        }
        notes.push(format!(
            "{} configuration files change; edits of hosts are kept aside",
            configuration.changed.len()
        ));
    }
    // A carriage return is the end of a line that an editor of another system wrote.
    let lines = before.unwrap_or_default().lines().map(|line| line.trim_end_matches('\r'));
    let taken_over: Vec<String> = lines.map(str::to_owned).collect();
    let taken_over =
        taken_over.into_iter().filter(|line| !line.is_empty() && !line.starts_with('#'));
    group(&mut text, &format!("From the edge that led to {}.", from.version), taken_over.collect());
    text
}

/// Whether both versions have the same at a path, or neither has anything.
fn same_at(from: &Manifest, to: &Manifest, path: &str) -> bool {
    let Ok(path) = path.parse::<TreePath>() else { return false };
    match (from.entries.get(&path), to.entries.get(&path)) {
        (Some(a), Some(b)) => a.same(b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Folders below `/var/lib` and files in it, but for what the tree's own tools keep there; and
/// whatever else below `/var`, `/srv` and `/opt` does not belong to root.
fn state(from: &Manifest, to: &Manifest) -> Vec<String> {
    let mut lines = BTreeSet::new();
    for (path, entry) in from.entries.iter().chain(&to.entries) {
        let Some(parts) = parts(path) else { continue };
        match parts[..] {
            ["var", "lib", name] if !tables::DATABASES.contains(&name) => {
                lines.insert(line(&["var", "lib", name], entry));
            }
            ["var", "cache" | "spool" | "www", name] => {
                lines.insert(line(&["var", parts[1], name], entry));
            }
            ["srv" | "opt", name] if entry.uid != 0 => {
                lines.insert(line(&[parts[0], name], entry));
            }
            _ => {}
        }
    }
    lines.into_iter().collect()
}

/// The configuration of two versions: lines for what they share, and for what differs.
#[derive(Debug, Default)]
struct Configuration {
    same: Vec<String>,
    changed: Vec<String>,
}

impl Configuration {
    /// Compares below `/etc`, leaving out what programs, not people, keep there. A folder that is
    /// the same as a whole is one line; of others, each file that is the same.
    fn compare(from: &Manifest, to: &Manifest) -> Configuration {
        let mut configuration = Configuration::default();
        let mut tops: BTreeMap<&str, Vec<(&TreePath, bool)>> = BTreeMap::new();
        for (path, entry) in &from.entries {
            let Some(parts) = parts(path) else { continue };
            let ["etc", top, ..] = parts[..] else { continue };
            if tables::PROGRAMS.contains(&top) || tables::ACCOUNTS.contains(&&*format!("etc/{top}"))
            {
                continue;
            }
            let same = to.entries.get(path).is_some_and(|new| new.same(entry));
            tops.entry(top).or_default().push((path, same));
        }
        for (top, paths) in tops {
            let Ok(first) = format!("etc/{top}").parse::<TreePath>() else { continue };
            let Some(entry) = from.entries.get(&first) else { continue };
            if paths.iter().all(|(_, same)| *same) && grows_not(&first, from, to) {
                configuration.same.push(line(&["etc", top], entry));
                continue;
            }
            for (path, same) in paths {
                if from.entries.get(path).is_some_and(Entry::is_folder) {
                    continue;
                }
                let lines = if same { &mut configuration.same } else { &mut configuration.changed };
                lines.push(pattern(path));
            }
        }
        configuration
    }
}

/// Whether the new version has nothing in a folder that the old one has not.
fn grows_not(folder: &TreePath, from: &Manifest, to: &Manifest) -> bool {
    let (start, end) = folder.span();
    to.entries.range(start..end).all(|(path, _)| from.entries.contains_key(path))
}

/// The parts of a path, when it is text.
fn parts(path: &TreePath) -> Option<Vec<&str>> {
    Some(std::str::from_utf8(path.as_bytes()).ok()?.split('/').collect())
}

/// A line for a path: a folder with all it holds, or a file.
fn line(parts: &[&str], entry: &Entry) -> String {
    let end = if entry.is_folder() { "/" } else { "" };
    format!("/{}{end}", escape(&parts.join("/")))
}

fn pattern(path: &TreePath) -> String {
    format!("/{}", escape(&String::from_utf8_lossy(path.as_bytes())))
}

/// Characters that mean more than themselves to rsync, made to mean themselves.
fn escape(path: &str) -> String {
    if !path.contains(['*', '?', '[']) {
        return path.to_owned();
    }
    let special = |c| matches!(c, '*' | '?' | '[' | '\\');
    path.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// The folder of an edge, relative to the metadata module.
pub fn edge_folder(from: &Name, role: &Name, to: &Name) -> String {
    format!("{from}/{role}/{to}")
}

#[cfg(test)]
mod tests;
