//! From one version of a role to the next: manifests, rules, listings, proposals.

use std::fmt::Write;

use specs::metadata::propose;
use specs::upgrade::{Class, Inputs, Kernel, Manifest, Pattern, Rules, TreePath, plan};

/// The manifest that these lines are the body of, in order and with their seal.
fn sealed(lines: &str) -> String {
    let path = |line: &str| line.split_ascii_whitespace().nth(5).unwrap_or_default().to_owned();
    let mut lines: Vec<&str> = lines.lines().collect();
    lines.sort_by_key(|line| path(line));
    let mut text = "edeploy-manifest 1 mysql D12-F.1.0.1\n".to_owned();
    lines.iter().for_each(|line| text.extend([line, "\n"]));
    let digest = blake3::hash(text.as_bytes());
    let _ = writeln!(text, "end {} {digest}", lines.len());
    text
}

/// What is read is written the same; every path stays in the tree and in a folder.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for text in [text, &sealed(text)] {
        let Ok(manifest) = Manifest::parse(text) else { continue };
        let written = manifest.to_text();
        assert_eq!(Manifest::parse(&written).as_ref(), Ok(&manifest), "{written}");
        manifest.entries.keys().for_each(stays_in_the_tree);
    }
    text.lines()
        .flat_map(|line| line.split(' '))
        .filter_map(|it| it.parse().ok())
        .for_each(|path: TreePath| stays_in_the_tree(&path));
}

fn stays_in_the_tree(path: &TreePath) {
    super::wire::crosses_the_network(path);
    let parts = path.as_bytes().split(|byte| *byte == b'/');
    parts.for_each(|part| assert!(![&b""[..], b".", b".."].contains(&part), "{path}"));
    assert_eq!(path.ancestors().count() + 1, path.as_bytes().split(|byte| *byte == b'/').count());
    for folder in path.ancestors() {
        let (start, end) = folder.span();
        assert!(path.is_below(&folder) && start < *path && *path < end, "{path} in {folder:?}");
    }
    if let Some(parent) = path.parent() {
        assert_eq!(parent.child(path.name()).as_ref(), Ok(path));
    }
    for outside in ["..", ".", "", "a/../b", "a//b"] {
        assert!(path.child(outside.as_bytes()).is_err(), "{path}");
    }
}

/// Both files of an edge and paths, one a line, with a zero between: what the kernel and
/// `edeploy` keep is kept whatever the files say, and so is what lies below.
pub fn rules(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parts = text.split('\0');
    let mut part = || parts.next().unwrap_or_default();
    let (exclude, add_only, paths) = (part(), part(), part());
    let rules = Rules::parse(exclude, add_only);
    let mut classifier = rules.classifier();
    for path in paths.lines().filter_map(|path| path.parse::<TreePath>().ok()) {
        for folder in [true, false] {
            let class = classifier.class(&path, folder);
            if let Some(parent) = path.parent()
                && classifier.class(&parent, true) != Class::Sync
            {
                assert_ne!(class, Class::Sync, "{path}");
            }
            // The order of the questions does not change an answer.
            assert_eq!(rules.classifier().class(&path, folder), class, "{path}");
        }
        for line in exclude.lines() {
            let pattern = Pattern::new(line);
            // A pattern without a wildcard means what it says.
            if line == format!("/{path}") && !line.contains(['*', '?', '[', '\\']) {
                assert!(pattern.matches(path.as_bytes(), false), "{line}");
            }
            let _ = pattern.matches(path.as_bytes(), true);
        }
    }
    for ours in ["proc/1", "var/lib/edeploy/conf", ".edeploy/1", "run/x"] {
        if add_only.is_empty() && !exclude.contains('!') {
            let Ok(path) = ours.parse() else { panic!("{ours}") };
            assert_eq!(classifier.class(&path, false), Class::Keep, "{ours}");
        }
    }
}

/// The manifests of two versions, what lies on the disk, `exclude`, `add_only` and the kernels that
/// may be running, with a zero between: an upgrade leaves alone what the rules keep, and after it there is nothing to do.
pub fn upgrade(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parts = text.split('\0');
    let mut part = || parts.next().unwrap_or_default();
    let [from, to, disk] = [part(), part(), part()].map(|text| Manifest::parse(&sealed(text)));
    let (Ok(from), Ok(to), Ok(disk)) = (from, to, disk) else { return };
    let rules = Rules::parse(part(), part());
    let running: Vec<Kernel> = part().lines().map(|release| Kernel(release.to_owned())).collect();
    let inputs = Inputs {
        from: Some(&from),
        to: &to,
        disk: &disk.entries,
        rules: &rules,
        running: &running,
    };
    let Ok(upgrade) = plan(&inputs) else { return };
    let fetched = upgrade.fetch();
    for (path, size) in &fetched {
        let change = &upgrade.changes[path];
        let file = change.after.as_ref().and_then(|entry| entry.file());
        assert!(change.needs_content() && file.is_some_and(|file| file.size == *size), "{path}");
    }
    assert!(upgrade.reboot_hints().iter().all(|path| upgrade.changes.contains_key(path)));
    let mut classifier = rules.classifier();
    let mut after = disk.entries.clone();
    for (path, change) in &upgrade.changes {
        let folder =
            change.after.as_ref().or(change.before.as_ref()).is_some_and(|e| e.is_folder());
        assert_ne!(classifier.class(path, folder), Class::Keep, "{path}");
        assert_eq!(disk.entries.get(path), change.before.as_ref(), "{path}");
        match &change.after {
            Some(entry) => after.insert(path.clone(), entry.clone()),
            None => after.remove(path),
        };
    }
    let again = Inputs { from: Some(&to), disk: &after, ..inputs };
    match plan(&again) {
        Ok(again) => assert!(again.changes.is_empty(), "{again:#?}"),
        Err(refusals) => panic!("{refusals:#?}"),
    }
}

/// Two manifests and the `exclude` of the edge before, with a zero between: every line of what is
/// proposed is a remark, a path from the top, or was there before; names in scripts are plain.
pub fn proposal(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut parts = text.split('\0');
    let mut part = || parts.next().unwrap_or_default();
    let [from, to] = [part(), part()].map(|text| Manifest::parse(&sealed(text)));
    let (Ok(from), Ok(to)) = (from, to) else { return };
    let before = part();
    let proposal = propose(&from, &to, Some(before));
    for line in proposal.exclude.lines() {
        let known = line.is_empty() || line.starts_with(['#', '/']) || line == "lost+found";
        let mut lines = before.lines().map(|line| line.trim_end_matches('\r'));
        assert!(known || lines.any(|before| before == line), "{line:?}");
    }
    for service in &proposal.services {
        let plain = |c: char| c.is_ascii_alphanumeric() || "@._:-".contains(c);
        assert!(service.chars().all(plain) && !service.starts_with('-'), "{service:?}");
    }
    let commands = ["set -e", "systemctl ", "update-grub", "grub2-mkconfig ", "exit 100", "#"];
    for line in proposal.pre.lines().chain(proposal.post.lines()) {
        assert!(commands.iter().any(|start| line.starts_with(start)), "{line:?}");
    }
}

/// What an rsync server lists: everything that is read lies in the tree.
pub fn listing(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(entries) = agent::host::listing::read(&text) else { return };
    for (path, entry) in &entries {
        assert!(entry.mode <= 0o7777, "{path}");
        stays_in_the_tree(path);
    }
}
