//! What hosts, trees and servers do to an upgrade, and what comes of each.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod upgrade_site;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use agent::host::UpgradeError;
use specs::upgrade::{Kernel, Refusal};
use upgrade_site::{Site, Tree, ready, run};

fn second(tree: &Tree) {
    tree.write("usr/bin/tool", "tool two\n");
    tree.write("etc/tool.conf", "setting = 2\n");
}

fn nothing(_: &Tree) {}

#[test]
fn local_edits_are_replaced_kept_aside_and_listed() {
    if !ready() {
        return;
    }
    let mut site = Site::new(nothing, second);
    let host = site.host();
    host.write("etc/tool.conf", "setting = mine\n");
    host.write("usr/bin/tool", "patched\n");
    host.write("etc/other.conf", "mine, and the version does not change it\n");
    host.remove("usr/bin/sh");
    let outcome = site.upgrade().unwrap();
    let kept: Vec<String> = outcome.kept_aside.iter().map(ToString::to_string).collect();
    assert_eq!(kept, ["etc/other.conf", "etc/tool.conf", "usr/bin/tool"]);
    let folder = outcome.kept_in.unwrap();
    assert_eq!(fs::read_to_string(folder.join("etc/tool.conf")).unwrap(), "setting = mine\n");
    assert_eq!(fs::read_to_string(folder.join("usr/bin/tool")).unwrap(), "patched\n");
    site.check_clean("2.0");
}

#[test]
fn kinds_change_into_each_other_and_back() {
    if !ready() {
        return;
    }
    let mut site = Site::new(
        |tree| {
            for top in ["etc", "usr/share"] {
                tree.write(&format!("{top}/file-to-folder"), "file");
                tree.write(&format!("{top}/folder-to-file/inside"), "inside");
                tree.link(&format!("{top}/link-to-folder"), "tool.conf");
                tree.write(&format!("{top}/folder-to-link/inside"), "inside");
                tree.link(&format!("{top}/link"), "one");
            }
        },
        |tree| {
            for top in ["etc", "usr/share"] {
                tree.write(&format!("{top}/file-to-folder/inside"), "inside");
                tree.write(&format!("{top}/folder-to-file"), "file");
                tree.write(&format!("{top}/link-to-folder/inside"), "inside");
                tree.link(&format!("{top}/folder-to-link"), "file-to-folder");
                tree.link(&format!("{top}/link"), "two");
            }
        },
    );
    let host = site.host();
    host.write("etc/folder-to-file/mine", "mine");
    let kept = site.upgrade().unwrap().kept_in.unwrap();
    assert_eq!(fs::read_to_string(kept.join("etc/folder-to-file/mine")).unwrap(), "mine");
    site.check_clean("2.0");
    site.rollback().unwrap();
    assert_eq!(host.read("etc/folder-to-file/mine"), "mine", "it comes back with its folder");
    site.check_clean_but(&["etc/folder-to-file/mine"]);
}

#[test]
fn hard_links_attributes_and_capabilities_arrive() {
    if !ready() {
        return;
    }
    let memory_has_user_attributes = {
        let probe = tempfile::tempdir_in("/dev/shm").unwrap();
        let file = probe.path().join("file");
        fs::write(&file, "").unwrap();
        rustix::fs::lsetxattr(&file, "user.x", b"y", rustix::fs::XattrFlags::empty()).is_ok()
    };
    let attribute = if memory_has_user_attributes { "user.color" } else { "security.color" };
    let capability = |tree: &Tree, path: &str, text: &str| {
        run("setcap", &[text, &tree.at(path).display().to_string()]);
    };
    let set = |tree: &Tree, path: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::lsetxattr(tree.at(path), attribute, value, flags).unwrap();
    };
    let mut site = Site::new(
        |tree| {
            tree.write("usr/bin/ping", "ping\n");
            tree.write("etc/colored", "same\n");
            set(tree, "etc/colored", b"red");
        },
        |tree| {
            tree.write("usr/bin/ping", "ping\n");
            capability(tree, "usr/bin/ping", "cap_net_raw+ep");
            tree.write("etc/colored", "same\n");
            set(tree, "etc/colored", b"blue");
            tree.write("usr/lib/one", "shared content\n");
            tree.mode("usr/lib/one", 0o4750);
            fs::hard_link(tree.at("usr/lib/one"), tree.at("usr/lib/two")).unwrap();
            tree.write("usr/lib/three", "shared content\n");
            run("chown", &["12:34", &tree.at("usr/lib/three").display().to_string()]);
        },
    );
    let host = site.host();
    site.upgrade().unwrap();
    site.check_clean("2.0");
    let found = |path: &str| fs::metadata(host.at(path)).unwrap();
    assert_eq!(found("usr/lib/one").ino(), found("usr/lib/two").ino());
    assert_ne!(found("usr/lib/one").ino(), found("usr/lib/three").ino());
    assert_eq!(found("usr/lib/one").mode() & 0o7777, 0o4750);
    assert_eq!((found("usr/lib/three").uid(), found("usr/lib/three").gid()), (12, 34));
    let capabilities = run("getcap", &[&host.at("usr/bin/ping").display().to_string()]);
    assert!(capabilities.contains("cap_net_raw"), "{capabilities}");
    site.rollback().unwrap();
    assert_eq!(run("getcap", &[&host.at("usr/bin/ping").display().to_string()]), "");
    site.check_clean("1.0");
}

#[test]
fn scripts_that_fail_leave_the_version_before() {
    if !ready() {
        return;
    }
    let mut site = Site::new(nothing, second);
    site.edge("pre", "#!/bin/sh\necho no database >&2\nexit 3\n");
    let error = site.upgrade().unwrap_err();
    assert!(matches!(error, UpgradeError::Pre(_)), "{error}");
    assert!(agent::chain(&error).contains("no database"), "{}", agent::chain(&error));
    site.check_clean("1.0");
    assert!(!site.host().at(".edeploy/1").exists());

    site.edge("pre", "#!/bin/sh\nexit 0\n");
    site.edge("post", "#!/bin/sh\necho no restart >&2\nexit 4\n");
    let error = site.upgrade().unwrap_err();
    assert!(matches!(error, UpgradeError::Returned { .. }), "{error}");
    assert!(agent::chain(&error).contains("no restart"), "{}", agent::chain(&error));
    site.check_clean("1.0");

    site.edge("post", "#!/bin/sh\nexit 100\n");
    assert!(site.upgrade().unwrap().reboot);
    site.check_clean("2.0");
}

#[test]
fn a_server_that_lies_or_dies_changes_nothing() {
    if !ready() {
        return;
    }
    let mut site = Site::new(nothing, second);
    // The tree changes after its manifest was made.
    site.version("2.0").write("usr/bin/tool", "tool three\n");
    let error = site.upgrade().unwrap_err();
    assert!(matches!(error, UpgradeError::Damaged { .. }), "{error}");
    site.check_clean("1.0");
    site.version("2.0").remove("usr/bin/tool");
    let error = site.upgrade().unwrap_err();
    assert!(matches!(error, UpgradeError::Command { .. }), "{error}");
    site.check_clean("1.0");
    site.version("2.0").write("usr/bin/tool", "tool two\n");
    site.stop_daemon();
    let error = site.upgrade().unwrap_err();
    assert!(matches!(error, UpgradeError::Command { .. }), "{error}");
    site.check_clean("1.0");
}

#[test]
fn hostile_manifests_are_refused() {
    if !ready() {
        return;
    }
    let mut site = Site::new(nothing, second);
    let beside = site.version("2.0").0.parent().unwrap().join("web.manifest");
    let hex = "ab".repeat(32);
    for lines in [
        format!("f 644 0 0 - ../../etc/passwd 1 1 {hex}\n"),
        format!("f 644 0 0 - /etc/passwd 1 1 {hex}\n"),
        format!("l 777 0 0 - etc /tmp\nf 644 0 0 - etc/passwd 1 1 {hex}\n"),
    ] {
        let body = format!("edeploy-manifest 1 web 2.0\n{lines}");
        let digest = blake3::hash(body.as_bytes());
        fs::write(&beside, format!("{body}end {} {digest}\n", lines.lines().count())).unwrap();
        let error = site.upgrade().unwrap_err();
        assert!(matches!(error, UpgradeError::Manifest { .. }), "{error}");
        site.check_clean("1.0");
    }
    site.publish("2.0");
    // A link of the host where the version has a folder: nothing is written through it.
    let host = site.host();
    let elsewhere = tempfile::tempdir().unwrap();
    site.version("2.0").write("opt/app/file", "new\n");
    site.publish("2.0");
    host.link("opt", &elsewhere.path().display().to_string());
    site.upgrade().unwrap();
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    assert_eq!(host.read("opt/app/file"), "new\n");
    site.check_clean("2.0");
}

#[test]
fn what_a_host_cannot_live_without_is_not_removed() {
    if !ready() {
        return;
    }
    let kernel = |tree: &Tree, release: &str| {
        tree.write(&format!("boot/vmlinuz-{release}"), "kernel\n");
        tree.write(&format!("usr/lib/modules/{release}/a.ko"), "module\n");
    };
    let programs = |tree: &Tree| {
        tree.write("usr/lib64/ld-linux-x86-64.so.2", "loader\n");
        tree.write("usr/lib/x86_64-linux-gnu/libc.so.6", "libc\n");
    };
    let refused = |mut site: Site| {
        site.running = Some(Kernel("6.1".to_owned()));
        let error = site.upgrade().unwrap_err();
        site.check_clean("1.0");
        match error {
            UpgradeError::Refused(refusals) => refusals,
            other => panic!("{other}"),
        }
    };
    let all = |tree: &Tree| {
        kernel(tree, "6.1");
        programs(tree);
    };
    let refusals = refused(Site::new(all, |tree| {
        kernel(tree, "6.1");
        tree.remove("usr/lib64/ld-linux-x86-64.so.2");
        tree.remove("usr/lib/x86_64-linux-gnu/libc.so.6");
    }));
    let text = refusals.iter().map(ToString::to_string).collect::<String>();
    assert!(text.contains("`usr/lib64/ld-linux-x86-64.so.2`"), "{text}");
    assert!(text.contains("`usr/lib/x86_64-linux-gnu/libc.so.6`"), "{text}");
    let refusals = refused(Site::new(all, programs));
    assert!(
        matches!(&refusals[..], [Refusal::Kernel { release, paths }]
            if release == "6.1" && paths[0].to_string() == "boot/vmlinuz-6.1"),
        "{refusals:?}"
    );
    let refusals = refused(Site::new(all, |tree| {
        all(tree);
        tree.remove("lib");
        tree.write("lib/real", "folder\n");
    }));
    assert!(matches!(&refusals[..], [Refusal::NotMerged(_), ..]), "{refusals:?}");

    // Another kernel comes: the running one stays beside it, and the way back needs it.
    let mut site = Site::new(all, |tree| {
        kernel(tree, "6.2");
        programs(tree);
    });
    site.running = Some(Kernel("6.1".to_owned()));
    site.upgrade().unwrap();
    let host = site.host();
    assert!(host.exists("boot/vmlinuz-6.1") && host.exists("usr/lib/modules/6.1/a.ko"));
    assert!(host.exists("boot/vmlinuz-6.2") && host.exists("usr/lib/modules/6.2/a.ko"));
    site.check_clean("2.0");
    site.rollback().unwrap();
    assert!(!host.exists("boot/vmlinuz-6.2"));
    site.check_clean("1.0");
}

/// A host on a file system of its own, of so many MiB; unmounted when dropped.
struct Disk(std::path::PathBuf);

impl Disk {
    fn new(folder: &Path, mib: u64) -> Option<Disk> {
        if !Path::new("/dev/loop-control").exists() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "needs loop devices");
            println!("SKIPPED: needs loop devices");
            return None;
        }
        let (image, at) = (folder.join("image"), folder.join("host"));
        fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", "-m", "0", &image.display().to_string()]);
        fs::create_dir(&at).unwrap();
        run("mount", &["-o", "loop", &image.display().to_string(), &at.display().to_string()]);
        Some(Disk(at))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("umount", &["-l", &self.0.display().to_string()]);
    }
}

#[test]
fn disks_that_are_full_read_only_or_hold_immutable_files_are_told_first() {
    if !ready() {
        return;
    }
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let Some(disk) = Disk::new(folder.path(), 24) else { return };
    let (at, outer) = (disk.0.clone(), folder.path().to_owned());
    let inner = tempfile::tempdir_in(&outer).unwrap();
    let mut site = Site::at(inner, at.clone(), nothing, |tree| {
        second(tree);
        let bytes: Vec<u8> =
            (0..3_000_000_u32).flat_map(u32::to_le_bytes).take(12_000_000).collect();
        fs::write(tree.at("usr/share-big"), bytes).unwrap();
    });
    let host = site.host();
    let unfit = |site: &mut Site, reason: &str| {
        let error = site.upgrade().unwrap_err();
        assert!(matches!(error, UpgradeError::Unfit(_)), "{error}");
        assert!(error.to_string().contains(reason), "`{reason}` is not in: {error}");
        assert!(!site.host().at(".edeploy/1").exists());
    };
    host.write("srv/filler", &"x".repeat(8_000_000));
    unfit(&mut site, "the upgrade needs");
    host.remove("srv/filler");

    let tool = host.at("usr/bin/tool").display().to_string();
    run("chattr", &["+i", &tool]);
    unfit(&mut site, "immutable or append-only, see lsattr: `/usr/bin/tool`");
    run("chattr", &["-i", &tool]);

    let mounted = host.at("usr/share-mounted");
    fs::create_dir(&mounted).unwrap();
    run("mount", &["-t", "tmpfs", "none", &mounted.display().to_string()]);
    unfit(&mut site, "is mounted in what the upgrade replaces");
    run("umount", &[&mounted.display().to_string()]);
    fs::remove_dir(&mounted).unwrap();

    let usr = host.at("usr").display().to_string();
    run("mount", &["--bind", &usr, &usr]);
    run("mount", &["-o", "remount,bind,ro", &usr]);
    unfit(&mut site, "is a file system of its own");
    run("umount", &[&usr]);

    run("mount", &["-o", "remount,ro", &at.display().to_string()]);
    let error = site.upgrade().unwrap_err();
    assert!(matches!(error, UpgradeError::File { .. }), "{error}");
    run("mount", &["-o", "remount,rw", &at.display().to_string()]);
    site.check_clean("1.0");

    // And on the same disk, an upgrade with /boot on a file system of its own.
    site.version("2.0").write("boot/vmlinuz-9", "kernel\n");
    site.version("2.0").write("usr/lib/modules/9/a.ko", "module\n");
    site.publish("2.0");
    let boot = host.at("boot").display().to_string();
    run("mount", &["-t", "tmpfs", "-o", "mode=755", "none", &boot]);
    site.upgrade().unwrap();
    site.check_clean("2.0");
    assert_eq!(host.read("boot/vmlinuz-9"), "kernel\n");
    site.rollback().unwrap();
    assert!(!host.exists("boot/vmlinuz-9") && !host.exists("boot/.edeploy"));
    site.check_clean("1.0");
    run("umount", &[&boot]);
}
