//! Which services an upgrade touches: those whose unit file changes, and those whose program does.

use std::collections::BTreeSet;

use specs::upgrade::{TreePath, UpgradePlan};

use crate::world::Root;

/// Where unit files are, the stronger first.
const FOLDERS: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];

/// Their names, sorted.
pub(super) fn touched(root: &Root, plan: &UpgradePlan) -> BTreeSet<String> {
    let changes =
        |path: &str| path.parse::<TreePath>().is_ok_and(|path| plan.changes.contains_key(&path));
    let mut touched = BTreeSet::new();
    for path in plan.changes.keys().map(TreePath::to_string) {
        if let Some((folder, name)) = path.rsplit_once('/')
            && FOLDERS.contains(&folder)
            && name.ends_with(".service")
        {
            touched.insert(name.to_owned());
        }
    }
    for folder in FOLDERS {
        for name in root.names(folder).unwrap_or_default() {
            let text = root.read_text(&format!("{folder}/{name}")).unwrap_or_default();
            if name.ends_with(".service") && programs(&text).any(|program| changes(&program)) {
                touched.insert(name);
            }
        }
    }
    touched
}

/// The programs of a unit file, as paths of a merged tree.
fn programs(unit: &str) -> impl Iterator<Item = String> {
    let lines = unit.lines().filter_map(|line| line.trim().strip_prefix("ExecStart="));
    lines.filter_map(|command| {
        let program =
            command.trim_start_matches(['-', '@', ':', '+', '!']).split_whitespace().next()?;
        let path = program.strip_prefix('/')?;
        let merged = ["bin/", "sbin/", "lib/"].iter().any(|folder| path.starts_with(folder));
        Some(if merged { format!("usr/{path}") } else { path.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_read_from_units() {
        let unit = "[Service]\nExecStart=-/sbin/agetty -o x\nExecStart=@/usr/bin/dbus-daemon dbus\n\
                    ExecStart=relative\nExecStop=/bin/kill\n";
        let found: Vec<String> = programs(unit).collect();
        assert_eq!(found, ["usr/sbin/agetty", "usr/bin/dbus-daemon"]);
    }
}
