//! Manifests of real folders, and folders observed against them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

fn names() -> (Name, Name) {
    ("mysql".parse().unwrap(), "D12-F.1.0.1".parse().unwrap())
}

fn path(text: &str) -> TreePath {
    text.parse().unwrap()
}

#[test]
fn a_manifest_tells_everything_about_a_tree() {
    let tree = tempfile::tempdir().unwrap();
    let at = |path: &str| tree.path().join(path);
    fs::create_dir_all(at("usr/bin")).unwrap();
    fs::create_dir_all(at("proc/1")).unwrap();
    fs::write(at("usr/bin/tool"), "content").unwrap();
    fs::set_permissions(at("usr/bin/tool"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::hard_link(at("usr/bin/tool"), at("usr/bin/twin")).unwrap();
    symlink("usr/bin", at("bin")).unwrap();
    symlink("/nowhere", at("usr/dangling")).unwrap();
    fs::write(at("usr/odd name\n"), "").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("usr/socket")).unwrap();

    let (role, version) = names();
    let manifest = manifest(tree.path(), &role, &version, "").unwrap();
    let listed: Vec<String> = manifest.entries.keys().map(TreePath::to_string).collect();
    assert_eq!(
        listed,
        [
            "bin",
            "proc",
            "usr",
            "usr/bin",
            "usr/bin/tool",
            "usr/bin/twin",
            "usr/dangling",
            "usr/odd\\x20name\\x0a"
        ]
    );
    let tool = &manifest.entries[&path("usr/bin/tool")];
    let file = tool.file().unwrap();
    assert_eq!((tool.mode, file.size, file.shared), (0o4711, 7, Some(0)));
    assert_eq!(file.digest, Digest::Blake3(*blake3::hash(b"content").as_bytes()));
    assert_eq!(tool.uid, fs::metadata(tree.path()).unwrap().uid());
    assert_eq!(manifest.entries[&path("usr/bin/twin")], *tool);
    let read = Manifest::parse(&manifest.to_text()).unwrap();
    assert_eq!(read, manifest);
}

#[test]
fn a_disk_is_looked_at_as_far_as_needed() {
    let tree = tempfile::tempdir().unwrap();
    let at = |path: &str| tree.path().join(path);
    fs::create_dir_all(at("usr/kept/deep")).unwrap();
    fs::create_dir_all(at("etc")).unwrap();
    fs::write(at("etc/a"), "aaaa").unwrap();
    fs::write(at("etc/b"), "bb").unwrap();
    let (role, version) = names();
    let known = manifest(tree.path(), &role, &version, "").unwrap();

    fs::create_dir_all(at("home/me/deep")).unwrap();
    fs::write(at("etc/b"), "longer").unwrap();
    // The same size and time, another content: what only a full look finds.
    let time = fs::metadata(at("etc/a")).unwrap().modified().unwrap();
    fs::write(at("etc/a"), "AAAA").unwrap();
    fs::File::options().append(true).open(at("etc/a")).unwrap().set_modified(time).unwrap();

    let rules = Rules::parse("/usr/kept\n", "");
    let look = |depth| observe(tree.path(), &[&known], &rules, depth).unwrap();
    let (full, fast) = (look(Depth::Full), look(Depth::Fast));
    let listed: Vec<String> = full.keys().map(TreePath::to_string).collect();
    assert_eq!(listed, ["etc", "etc/a", "etc/b", "home", "usr", "usr/kept"]);
    assert!(!full[&path("etc/a")].same(&known.entries[&path("etc/a")]));
    assert!(fast[&path("etc/a")].same(&known.entries[&path("etc/a")]));
    assert_eq!(full[&path("etc/b")].file().unwrap().digest, Digest::Unread, "the size tells");
}

/// Whoever writes to a file and gives it its old time back changes the moment of its last change,
/// which cannot be set.
#[test]
fn a_file_is_read_when_it_was_touched_since() {
    let tree = tempfile::tempdir().unwrap();
    let at = |path: &str| tree.path().join(path);
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let write = |path: &str, content: &str| {
        fs::write(at(path), content).unwrap();
        fs::File::options().append(true).open(at(path)).unwrap().set_modified(old).unwrap();
    };
    write("edited", "aaaa");
    fs::write(at("fresh"), "aaaa").unwrap();
    write("resized", "aaaa");
    let (role, version) = names();
    let mut known = manifest(tree.path(), &role, &version, "").unwrap();
    write("edited", "AAAA");
    write("resized", "aaaaa");

    let rules = Rules::parse("", "");
    let same = |depth| {
        let found = observe(tree.path(), &[&known], &rules, depth).unwrap();
        let same = |name: &&str| found[&path(name)].same(&known.entries[&path(name)]);
        ["edited", "fresh", "resized"].into_iter().filter(same).collect::<Vec<_>>()
    };
    let changed = fs::metadata(at("edited")).unwrap().ctime();
    assert_eq!(same(Depth::Since(changed)), ["fresh"], "touched in that second: read");
    assert_eq!(same(Depth::Since(changed + 1)), ["edited", "fresh"], "not since: trusted");
    // A file that bears the time at which it was written may have been written there.
    fs::write(at("fresh"), "AAAA").unwrap();
    let written = fs::metadata(at("fresh")).unwrap();
    let Kind::File(file) = &mut known.entries.get_mut(&path("fresh")).unwrap().kind else {
        panic!("it is a file");
    };
    file.mtime = written.mtime();
    let found = observe(tree.path(), &[&known], &rules, Depth::Since(written.ctime() + 1)).unwrap();
    assert!(!found[&path("fresh")].same(&known.entries[&path("fresh")]), "as old as it looks");
}

/// What an upgrade learns later: which folders the new rules keep, and which ones only the new
/// version has, or only the old rules kept.
#[test]
fn a_glance_becomes_what_a_look_would_have_found() {
    let tree = tempfile::tempdir().unwrap();
    let at = |path: &str| tree.path().join(path);
    for name in ["both/a", "kept-now/a", "kept-before/deep/a", "only-new/deep/a", "nobodys/a"] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), "content").unwrap();
    }
    let (role, version) = names();
    let all = manifest(tree.path(), &role, &version, "").unwrap();
    let without = |folders: &[&str]| {
        let mut manifest = all.clone();
        manifest
            .entries
            .retain(|path, _| !folders.iter().any(|folder| path.to_string().starts_with(folder)));
        manifest
    };
    let (old, new) = (without(&["only-new", "nobodys"]), without(&["nobodys"]));
    let (before, now) = (Rules::parse("/kept-before\n", ""), Rules::parse("/kept-now\n", ""));

    let glance = Glance::take(tree.path(), &old, before).unwrap();
    let moment = fs::metadata(at("both/a")).unwrap().ctime() + 100;
    let manifests = [&old, &new];
    let found = glance.observe(tree.path(), &manifests, &now, moment).unwrap();
    assert_eq!(found, observe(tree.path(), &manifests, &now, Depth::Full).unwrap());
    let listed: Vec<String> = found.keys().map(TreePath::to_string).collect();
    assert_eq!(
        listed,
        [
            "both",
            "both/a",
            "kept-before",
            "kept-before/deep",
            "kept-before/deep/a",
            "kept-now",
            "nobodys",
            "only-new",
            "only-new/deep",
            "only-new/deep/a"
        ]
    );
}
