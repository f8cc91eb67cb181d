//! Somebody else changes a host while its upgrade is prepared: what they did is not lost.

mod upgrade_site;

use std::fs;
use std::path::PathBuf;

use agent::host::{Failpoint, Host, Progress, UpgradeError};
use agent::world::{RealRunner, Root};
use upgrade_site::{Site, Tree, name, ready};

/// Does something as soon as the new version is built beside the old.
struct Meddler<F: FnMut()>(F);

impl<F: FnMut()> Progress for Meddler<F> {
    fn stage(&mut self, what: &str) {
        if what == "write the new version to the disk" {
            (self.0)();
        }
    }

    fn bytes(&mut self, _: u64, _: u64) {}
}

fn upgrade(site: &Site, meanwhile: impl FnMut()) -> Result<(), UpgradeError> {
    let mut host = Host {
        root: Root::new(site.host().0),
        runner: &mut RealRunner,
        progress: &mut Meddler(meanwhile),
        running: None,
        program: Some(PathBuf::from("/bin/true")),
        failpoint: Failpoint::Never,
    };
    let lock = host.lock()?;
    host.upgrade(&lock, &name("2.0")).map(drop)
}

/// The path that is told, what becomes of it, and who does that.
type Case<'a> = (&'a str, &'a str, &'a dyn Fn(&Tree));

fn second(tree: &Tree) {
    tree.write("usr/bin/tool", "tool two\n");
    tree.write("etc/tool.conf", "setting = 2\n");
}

#[test]
fn what_appears_changes_or_goes_meanwhile_is_noticed() {
    if !ready() {
        return;
    }
    let replace = |tree: &Tree| tree.write("usr/share/stays", "replaced\n");
    let cases: [Case; 7] = [
        ("usr/local", "appears", &|tree| tree.write("usr/local/mine", "mine\n")),
        ("usr/share/goes/mine", "appears in what is removed", &|tree| {
            tree.write("usr/share/goes/mine", "mine\n");
        }),
        ("usr/share/stays", "is replaced", &replace),
        ("usr/share/stays", "goes", &|tree| tree.remove("usr/share/stays")),
        ("usr/share", "gets another mode", &|tree| tree.mode("usr/share", 0o700)),
        ("usr/bin/tool", "is edited where it changes", &|tree| {
            fs::write(tree.at("usr/bin/tool"), "tool of mine\n").unwrap();
        }),
        ("etc/tool.conf", "is edited in /etc", &|tree| {
            fs::write(tree.at("etc/tool.conf"), "setting = mine\n").unwrap();
        }),
    ];
    for (path, what, meddle) in cases {
        let mut site = Site::new(
            |tree| {
                tree.write("usr/share/stays", "stays\n");
                tree.write("usr/share/goes/file", "goes\n");
            },
            |tree| {
                tree.write("usr/share/stays", "stays\n");
                second(tree);
            },
        );
        let host = site.host();
        let error = upgrade(&site, || meddle(&host)).unwrap_err();
        let UpgradeError::Meanwhile(changed) = &error else { panic!("{what}: {error}") };
        let changed: Vec<String> = changed.iter().map(ToString::to_string).collect();
        assert_eq!(changed, [path], "{what}");
        assert!(error.to_string().contains(&format!("`/{path}`")), "{error}");
        assert_eq!(site.recorded(), "1.0");
        assert!(!host.exists(".edeploy/1"), "{what}: nothing is left of the upgrade");
        // The next run sees what was done.
        site.upgrade().unwrap();
        assert_eq!(site.recorded(), "2.0");
    }
}

#[test]
fn what_is_written_into_a_file_that_stays_is_not_lost() {
    if !ready() {
        return;
    }
    let mut site = Site::new(
        |tree| tree.write("usr/share/stays", "one\n"),
        |tree| {
            tree.write("usr/share/stays", "one\n");
            second(tree);
        },
    );
    let host = site.host();
    upgrade(&site, || fs::write(host.at("usr/share/stays"), "written\n").unwrap()).unwrap();
    assert_eq!(host.read("usr/share/stays"), "written\n");
    assert_eq!(host.read("usr/bin/tool"), "tool two\n");
    site.check_drifts(&["usr/share/stays changed: content".to_owned()]);
}
