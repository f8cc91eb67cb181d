//! What an upgrade would change, refuse and keep, case by case.

use super::*;
use crate::upgrade::{Digest, FileEntry};

/// A tree from words: `path/` a folder, `path->target` a link, `path=content` a file, with
/// `!mode` behind it.
fn tree(words: &str) -> Disk {
    let entry = |kind, mode| Entry { kind, mode, uid: 0, gid: 0, xattrs: Some(BTreeMap::new()) };
    let mut disk = Disk::new();
    for word in words.split_whitespace() {
        let (word, mode) = word.split_once('!').unwrap_or((word, "755"));
        let mode = u32::from_str_radix(mode, 8).unwrap();
        let (path, entry) = if let Some(path) = word.strip_suffix('/') {
            (path, entry(Kind::Folder, mode))
        } else if let Some((path, target)) = word.split_once("->") {
            (path, entry(Kind::Link(target.as_bytes().to_vec()), 0o777))
        } else {
            let (path, content) = word.split_once('=').unwrap();
            let digest = Digest::Blake3(*blake3::hash(content.as_bytes()).as_bytes());
            let size = content.len() as u64;
            let file = FileEntry { size, mtime: 0, digest, shared: None };
            (path, entry(Kind::File(file), mode))
        };
        disk.insert(path.parse().unwrap(), entry);
    }
    disk
}

fn manifest(version: &str, words: &str) -> Manifest {
    let entries = tree(words);
    Manifest { role: "web".parse().unwrap(), version: version.parse().unwrap(), entries }
}

fn planned(from: &str, to: &str, disk: &str, rules: &Rules) -> Result<UpgradePlan, Vec<Refusal>> {
    let (from, to, disk) = (manifest("1", from), manifest("2", to), tree(disk));
    let running = [Kernel("6.1".to_owned())];
    plan(&Inputs { from: Some(&from), to: &to, disk: &disk, rules, running: &running })
}

/// Changes as `+path`, `~path`, `-path`, with `!` before a local edit and `?` before a local
/// deletion; then the units.
#[track_caller]
fn check(from: &str, to: &str, disk: &str, exclude: &str, changes: &str, units: &str) {
    let rules = Rules::parse(&exclude.replace(' ', "\n"), "");
    let plan = planned(from, to, disk, &rules).unwrap();
    let found: Vec<String> = plan
        .changes
        .iter()
        .map(|(path, change)| {
            let mark = match (&change.before, &change.after) {
                (None, _) => "+",
                (_, None) => "-",
                _ => "~",
            };
            let local = match change.local {
                Some(Local::Edited) => "!",
                Some(Local::Deleted) => "?",
                None => "",
            };
            format!("{local}{mark}{path}")
        })
        .collect();
    assert_eq!(found.join(" "), changes, "changes");
    let found: Vec<String> = plan
        .units
        .iter()
        .map(|unit| match unit.kind {
            UnitKind::Add => format!("add {}", unit.path),
            UnitKind::Swap => format!("swap {}", unit.path),
            UnitKind::Remove => format!("remove {}", unit.path),
            UnitKind::Attributes { .. } => format!("set {}", unit.path),
        })
        .collect();
    assert_eq!(found.join(", "), units, "units");
}

#[test]
fn the_new_version_wins_and_what_no_version_has_stays() {
    check("a=1", "a=1", "a=1 mine=x", "", "", "");
    check(
        "a=1 b=1 c=1",
        "a=2 c=1!600 d=1",
        "a=1 b=1 c=1",
        "",
        "~a -b ~c +d",
        "swap a, swap c, add d, remove b",
    );
    // Gone here already.
    check("a=1 b=1", "a=1", "a=1", "", "", "");
    // Edited here, deleted here, edited to what the new version has, put where one will be.
    check(
        "a=1 b=1 c=1 d=1",
        "a=2 b=1 c=2 d=1 e=1",
        "a=mine c=2 d=mine e=mine",
        "",
        "!~a ?+b !~d !~e",
        "swap a, add b, swap d, swap e",
    );
    check("d/ d/a=1", "", "d/ d/a=1 d/mine=x", "", "-d/a", "remove d/a");
    check("d/ d/a=1", "", "d/ d/a=1", "", "-d -d/a", "remove d");
    check("a=1 k=1", "a=2 k=2", "a=1 k=mine", "/k", "~a", "swap a");
}

#[test]
fn whole_folders_are_one_step_and_all_of_usr_is_one() {
    check("", "n/ n/a=1 n/b/ n/b/c=1", "", "", "+n +n/a +n/b +n/b/c", "add n");
    check("d/!755", "d/!700", "d/", "", "~d", "set d");
    check("d/!755 d/a=1", "d/!700 d/a=1", "d/ d/a=1 d/mine=x", "", "~d", "set d");
    check(
        "d/!755 d/a=1 d/b=1",
        "d/!700 d/b=1",
        "d/ d/a=1 d/b=1",
        "",
        "~d -d/a",
        "set d, remove d/a",
    );
    check("f=1", "f/ f/a=1", "f=1", "", "~f +f/a", "swap f");
    check("", "usr/ usr/a=1", "", "", "+usr +usr/a", "add usr");
    check("usr/!755", "usr/!700", "usr/", "", "~usr", "swap usr");
    check("usrx/", "usrx/ usrx/a=1", "usrx/", "", "+usrx/a", "add usrx/a");
    check("f/ f/a=1", "f=1", "f/ f/a=1 f/mine=x", "", "~f -f/a !-f/mine", "swap f");
    check(
        "usr/ usr/a=1 usr/b=1 etc/ etc/a=1 boot/",
        "usr/ usr/a=2 usr/c=1 etc/ etc/a=2 boot/ boot/x=1",
        "usr/ usr/a=1 usr/b=1 etc/ etc/a=1 boot/",
        "",
        "+boot/x ~etc/a ~usr/a -usr/b +usr/c",
        "add boot/x, swap usr, swap etc/a",
    );
}

#[test]
fn what_is_excluded_is_kept_and_told() {
    let rules = Rules::parse("/k\n/var\n", "+ /var/\n+ /var/*\n- *\n");
    let plan = planned(
        "k=1 same=1 var/ var/old=1",
        "k=2 same=1 var/ var/old=2 var/new=1",
        "k=1 same=1 var/ var/old=1",
        &rules,
    )
    .unwrap();
    let names = |paths: Vec<&TreePath>| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(plan.kept.iter().collect()), ["k", "var/old"]);
    assert_eq!(names(plan.changes.keys().collect()), ["var/new"], "added, since it was missing");
}

#[test]
fn nothing_is_added_below_what_the_host_has_made_a_file() {
    let rules = Rules::parse("/var\n", "+ /var/\n+ /var/*\n- *\n");
    let plan = planned("var/", "var/ var/new=1", "var=mine", &rules).unwrap();
    let kept: Vec<String> = plan.kept.iter().map(ToString::to_string).collect();
    assert_eq!((plan.changes, kept), (BTreeMap::new(), vec!["var/new".to_owned()]));
}

#[test]
fn what_must_not_be_is_refused_with_names() {
    let refused =
        |from, to, exclude: &str| planned(from, to, from, &Rules::parse(exclude, "")).unwrap_err();
    let texts = |refusals: &[Refusal]| {
        refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let loader = "usr/ usr/lib64/ usr/lib64/ld-linux-x86-64.so.2=x usr/lib64/libc.so.6=x";
    let text = texts(&refused(loader, "usr/ usr/lib64/", ""));
    assert!(text.contains("loader would be removed: `usr/lib64/ld-linux-x86-64.so.2`"), "{text}");
    assert!(text.contains("library would be removed: `usr/lib64/libc.so.6`"), "{text}");
    let kernel = "boot/ boot/vmlinuz-6.1=x usr/ usr/lib/ usr/lib/modules/ usr/lib/modules/6.1/";
    // An image without its modules does not replace a kernel.
    let half = "boot/ boot/vmlinuz-6.2=x usr/ usr/lib/ usr/lib/modules/";
    let text = texts(&refused(kernel, half, ""));
    assert!(text.contains("running kernel 6.1") && text.contains("`boot/vmlinuz-6.1`"), "{text}");
    let text = texts(&refused("lib->usr/lib usr/ usr/lib/", "lib/ usr/ usr/lib/", ""));
    assert!(text.contains("in the new version: `lib`"), "{text}");
    let merged = "lib->usr/lib usr/ usr/lib/";
    let text = texts(&refused(merged, "usr/ usr/lib/", ""));
    assert!(text.contains("`lib`"), "{text}");
    let on_disk = planned(merged, merged, "lib/ usr/ usr/lib/", &Rules::parse("/lib", ""));
    assert!(texts(&on_disk.unwrap_err()).contains("`lib`"));
    let text = texts(&refused("f/ f/data=1", "f=1", "/f/data"));
    assert!(text.contains("`f` is no folder in the new version, but holds `f/data`"), "{text}");
}

#[test]
fn a_kernel_that_is_built_anew_changes_like_any_other_file() {
    let tree = |content: &str| {
        format!(
            "boot/ boot/vmlinuz-6.1={content} boot/vmlinuz-6.2=x usr/ usr/lib/ usr/lib/modules/ \
             usr/lib/modules/6.1/ usr/lib/modules/6.2/"
        )
    };
    let (from, to) = (tree("a"), tree("b"));
    check(&from, &to, &from, "", "~boot/vmlinuz-6.1", "swap boot/vmlinuz-6.1");
}

#[test]
fn a_content_is_fetched_once_and_a_mode_not_at_all() {
    let plan = planned(
        "a=1 m=same",
        "a=22 b=22 c=22 m=same!600 empty=",
        "a=1 m=same",
        &Rules::parse("", ""),
    )
    .unwrap();
    let fetch: Vec<(String, u64)> =
        plan.fetch().into_iter().map(|(path, size)| (path.to_string(), size)).collect();
    assert_eq!(fetch, [("a".to_owned(), 2)]);
}
