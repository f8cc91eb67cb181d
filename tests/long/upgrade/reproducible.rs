//! The same packages and recipes give the same bytes: tree, archive, checksums and initrd.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use lab::artifacts::{Artifacts, ROLE, VERSION, cache, checkout};
use lab::needs::{Need, present};
use lab::process::run_shown;

/// What a build makes, by name.
fn digests(folder: &Path, names: &[String]) -> BTreeMap<String, blake3::Hash> {
    let digest = |name: &String| {
        let bytes = fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        (name.clone(), blake3::hash(&bytes))
    };
    names.iter().map(digest).collect()
}

/// Two bootstraps, neither of which takes the other's tree from the cache. The manifest holds the
/// digest of every file of the tree, with owner, mode, time and attributes.
#[test]
fn a_role_built_twice_is_the_same_to_the_byte() {
    if !present(&[Need::Root, Need::Program("mmdebstrap")]) {
        return;
    }
    let artifacts = Artifacts::build().unwrap();
    let names =
        [format!("{ROLE}.manifest"), format!("{ROLE}-{VERSION}.edeploy"), "SHA256SUMS".to_owned()];
    let build = || {
        let out = tempfile::tempdir_in(cache()).unwrap();
        let path = |path: &Path| path.display().to_string();
        let (place, edeploy) = (path(out.path()), path(&artifacts.edeploy));
        let options =
            ["--fresh", "--edeploy", &edeploy, "--out", &place, "--version", VERSION, ROLE];
        run_shown(&path(&checkout().join("scripts/build-role")), options).unwrap();
        digests(&out.path().join(VERSION), &names)
    };
    assert_eq!(build(), build());
}

/// From the same unpacked packages, everything else made anew: each build has a cache of its own,
/// or the second would take the first one's root.
#[test]
fn an_initrd_built_twice_is_the_same_to_the_byte() {
    if !present(&[Need::Program("mksquashfs"), Need::Program("mmdebstrap")]) {
        return;
    }
    let artifacts = Artifacts::build().unwrap();
    let builder = artifacts.server.with_file_name("mkinitrd").display().to_string();
    let build = || {
        let out = tempfile::tempdir_in(cache()).unwrap();
        symlink(cache().join("packages"), out.path().join("packages")).unwrap();
        let (place, agent) =
            (out.path().display().to_string(), artifacts.agent.display().to_string());
        let line = ["build", "--agent", &agent, "--out", &place, "--cache", &place];
        run_shown(&builder, line).unwrap();
        let roots = fs::read_dir(out.path().join("roots")).unwrap().count();
        assert!(roots > 0, "the root was made here");
        digests(out.path(), &["vmlinuz".to_owned(), "initrd.pxe".to_owned()])
    };
    assert_eq!(build(), build());
}
