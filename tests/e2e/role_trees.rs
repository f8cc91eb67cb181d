//! A tree that another tool made becomes a role, and its package managers go on and off again.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;

use lab::artifacts::{Artifacts, checkout};
use lab::needs::{Need, present};
use lab::process::{exit_code, run, run_shown};

const TABLE: &str = "uids = {'root': ('0', '0'), 'redis': ('127', '138')}\n\
                     gids = {'root': ('0', ''), 'redis': ('138', '')}\n";

/// A few files as another tool would leave them.
fn foreign_tree(tree: &Path) {
    for (path, content) in [
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\nredis:x:991:990::/:/x\n"),
        ("etc/group", "root:x:0:\nredis:x:990:\n"),
        ("etc/ssh/ssh_host_rsa_key", "secret"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("usr/bin/dnf", "#!/bin/sh\necho dnf\n"),
        ("var/lib/redis/dump.rdb", "data"),
        ("var/log/dnf.log", "yesterday"),
    ] {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    lchown(tree.join("var/lib/redis/dump.rdb"), Some(991), Some(990)).unwrap();
}

#[test]
fn a_tree_of_another_tool_becomes_a_role() {
    if !present(&[Need::Root, Need::Program("mmdebstrap"), Need::Program("zstd")]) {
        return;
    }
    let edeploy = Artifacts::locate().edeploy.display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name).display().to_string();
    let given = folder.path().join("given");
    foreign_tree(&given);
    fs::write(folder.path().join("table"), TABLE).unwrap();

    let script = checkout().join("scripts/build-role").display().to_string();
    let (from, ids, out) = (place("given"), place("table"), place("install"));
    let options = ["--from-tree", &from, "--ids", &ids, "--out", &out, "--edeploy", &edeploy];
    let command = ["SOURCE_DATE_EPOCH=1700000000", &script];
    let rest = ["--version", "F26-A.1.0.0", "cache"];
    run_shown("env", command.into_iter().chain(options).chain(rest)).unwrap();

    let version = folder.path().join("install/F26-A.1.0.0");
    let tree = version.join("cache");
    let owner = fs::metadata(tree.join("var/lib/redis/dump.rdb")).unwrap();
    assert_eq!((owner.uid(), owner.gid(), owner.mtime()), (127, 138, 1_700_000_000));
    assert!(
        !tree.join("etc/ssh/ssh_host_rsa_key").exists() && !tree.join("var/log/dnf.log").exists()
    );
    assert_eq!(fs::read_to_string(tree.join("etc/machine-id")).unwrap(), "");
    assert!(given.join("etc/ssh/ssh_host_rsa_key").exists(), "what was given stays as it is");
    let inside = format!("--chdir={}", version.display());
    run("env", [&inside, "sha256sum", "--check", "--quiet", "SHA256SUMS"]).unwrap();

    let host = tree.display().to_string();
    let says = |words: &[&str]| {
        let words = ["--root", &host].into_iter().chain(words.iter().copied());
        exit_code(&edeploy, words).unwrap()
    };
    assert_eq!(says(&["verify"]), Some(0), "a tree agrees with its manifest");
    assert_eq!(says(&["activate-pkgmngr"]), Some(0));
    assert_eq!(says(&["verify"]), Some(1), "dnf is not what the version has");
    assert_eq!(says(&["deactivate-pkgmngr"]), Some(0));
    assert_eq!(says(&["verify"]), Some(0), "there and back");

    // A version may be a link to the one it equals; nothing is built through it.
    std::os::unix::fs::symlink("F26-A.1.0.0", folder.path().join("install/F26-A.1.0.1")).unwrap();
    let options = ["--from-tree", &from, "--out", &out, "--version", "F26-A.1.0.1", "cache"];
    let script = checkout().join("scripts/build-role").display().to_string();
    assert!(run_shown(&script, options).is_err());
}
