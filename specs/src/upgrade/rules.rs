//! The `exclude` and `add_only` files of an edge: what an upgrade keeps its hands off.
//!
//! As with the two rsync runs of the original: what `exclude` does not mean becomes as in the
//! new tree; of the rest, what `add_only` includes is made where it is missing and otherwise left
//! alone. Below an excluded folder nothing is looked at. The first pattern that means a path
//! decides; `- ` and `+ ` before a pattern say exclude and include; `#` and `;` begin remarks;
//! `!` forgets what was said before.

use std::collections::BTreeMap;

use super::{Pattern, TreePath};

/// Never touched, whatever the files say: what the kernel, the running system and `edeploy`
/// itself keep there.
const OURS: [&str; 13] = [
    ".edeploy",
    "/dev",
    "/proc",
    "/run",
    "/sys",
    "/tmp",
    "/var/tmp",
    "/var/lib/edeploy",
    "/var/log/edeploy",
    "/etc/systemd/system/edeploy-*",
    "/etc/systemd/system/sysinit.target.wants/edeploy-*",
    "/etc/systemd/system/multi-user.target.wants/edeploy-finish*",
    "lost+found",
];

/// What an upgrade may do with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It becomes as in the new version.
    Sync,
    /// It is made when it is missing.
    AddOnly,
    /// It stays as it is.
    Keep,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    exclude: Vec<Rule>,
    add_only: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    include: bool,
    pattern: Pattern,
}

impl Rules {
    /// Reads both files. An empty `add_only` adds nothing, as `- *` does. No text is wrong:
    /// every line that is not a remark is a pattern.
    pub fn parse(exclude: &str, add_only: &str) -> Rules {
        let mut ours: Vec<Rule> =
            OURS.iter().map(|text| Rule { include: false, pattern: Pattern::new(text) }).collect();
        ours.extend(read(exclude, false));
        let mut add_only = read(add_only, true);
        if add_only.is_empty() {
            add_only.push(Rule { include: false, pattern: Pattern::new("*") });
        }
        Rules { exclude: ours, add_only }
    }

    /// A classifier of paths.
    pub fn classifier(&self) -> Classifier<'_> {
        Classifier { rules: self, folders: BTreeMap::new() }
    }
}

fn read(text: &str, include: bool) -> Vec<Rule> {
    let mut rules = Vec::new();
    for line in text.lines() {
        match line {
            "!" => rules.clear(),
            _ if line.is_empty() || line.starts_with(['#', ';']) => {}
            _ => {
                let prefixed = line.strip_prefix("- ").map(|rest| (false, rest));
                let prefixed = prefixed.or(line.strip_prefix("+ ").map(|rest| (true, rest)));
                let (include, pattern) = prefixed.unwrap_or((include, line));
                rules.push(Rule { include, pattern: Pattern::new(pattern) });
            }
        }
    }
    rules
}

/// Whether the first rule that means the path includes it; every path that none means is.
fn included(rules: &[Rule], path: &[u8], folder: bool) -> bool {
    rules.iter().find(|rule| rule.pattern.matches(path, folder)).is_none_or(|rule| rule.include)
}

/// Classifies paths and remembers what it found out about folders.
#[derive(Debug, Clone)]
pub struct Classifier<'a> {
    rules: &'a Rules,
    folders: BTreeMap<TreePath, Verdict>,
}

/// What the two lists say, each with what they say of the folders above.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    excluded: bool,
    added: bool,
}

impl Classifier<'_> {
    /// What may be done with `path`, which is or is to be a folder or not.
    pub fn class(&mut self, path: &TreePath, folder: bool) -> Class {
        match self.verdict(path, folder) {
            Verdict { excluded: false, .. } => Class::Sync,
            Verdict { added: true, .. } => Class::AddOnly,
            Verdict { .. } => Class::Keep,
        }
    }

    fn verdict(&mut self, path: &TreePath, folder: bool) -> Verdict {
        if folder && let Some(verdict) = self.folders.get(path) {
            return *verdict;
        }
        let above = match path.parent() {
            Some(parent) => self.verdict(&parent, true),
            None => Verdict { excluded: false, added: true },
        };
        let verdict = Verdict {
            excluded: above.excluded || !included(&self.rules.exclude, path.as_bytes(), folder),
            added: above.added && included(&self.rules.add_only, path.as_bytes(), folder),
        };
        if folder {
            self.folders.insert(path.clone(), verdict);
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(exclude: &str, add_only: &str, cases: &[(&str, Class)]) {
        let rules = Rules::parse(exclude, add_only);
        let mut classifier = rules.classifier();
        for (path, class) in cases {
            let folder = path.ends_with('/');
            let name: TreePath = path.trim_end_matches('/').parse().unwrap();
            assert_eq!(classifier.class(&name, folder), *class, "{path}");
        }
    }

    #[test]
    fn an_excluded_folder_is_kept_with_all_it_holds() {
        use Class::{AddOnly, Keep, Sync};
        let nothing = [("proc/1/x", Keep), ("var/lib/edeploy/conf", Keep), ("var/lib/x", Sync)];
        check("", "", &nothing);
        let exclude = "# data\n/var/lib/mysql\n+ /etc/keep/this\n/etc/keep/*\n/root/\n\n; end\n";
        check(
            exclude,
            "- *\n",
            &[
                ("var/lib/mysql/", Keep),
                ("var/lib/mysql/a/b", Keep),
                ("var/lib/mysql2", Sync),
                ("etc/keep/", Sync),
                ("etc/keep/this", Sync),
                ("etc/keep/that", Keep),
                ("root/x", Keep),
                ("root", Sync),
            ],
        );
        check(
            "/var/",
            "+ /var/\n+ /var/**\n- *\n",
            &[("var/", AddOnly), ("var/lib/x", AddOnly), ("var/tmp/x", AddOnly), ("etc/x", Sync)],
        );
        check("/var\n", "+ /var/lib/\n- *\n", &[("var/lib/x", Keep)]);
        check("/a\n!\n/b\n", "", &[("a", Sync), ("b", Keep), ("dev", Keep)]);
        // A remark is none of the files that are called like it.
        check("#a\n;b\n", "", &[("#a", Sync), (";b", Sync)]);
    }
}
