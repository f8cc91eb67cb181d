//! Upgrades of a host below a folder, against a real rsync daemon on loopback: what changes, what
//! stays, and what is left after an interruption at any point.

#![expect(clippy::unwrap_used, reason = "tests")]

mod upgrade_site;

use std::fs::{self, File};
use std::io::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use agent::host::{Failpoint, Resumed, UpgradeError};
use specs::upgrade::Kernel;
use upgrade_site::{Site, Tree, ready, run};

/// What version 2.0 changes in most of these tests: some of everything.
fn second(tree: &Tree) {
    tree.write("usr/bin/tool", "tool two, which is longer\n");
    tree.write("usr/share/new/deep/file", "new\n");
    tree.write("etc/tool.conf", "setting = 2\n");
    tree.write("etc/new.d/a", "a\n");
    tree.write("opt/app/data", "app\n");
    tree.mode("etc/other.conf", 0o600);
    tree.write("srv/data", "of the role, changed\n");
}

fn first(tree: &Tree) {
    tree.write("usr/share/old/file", "old\n");
    tree.write("etc/old.d/a", "a\n");
}

#[test]
fn an_upgrade_and_its_rollback_leave_nothing_but_their_version() {
    if !ready() {
        return;
    }
    let mut site = Site::new(first, second);
    let host = site.host();
    site.check_clean("1.0");
    site.edge("pre", "#!/bin/sh\necho \"$VERS $TO $ROLE\" > /srv/pre\n");
    site.edge(
        "post",
        "#!/bin/sh\nread line < /etc/tool.conf\necho \"$line\" > /srv/post\nexit 100\n",
    );
    host.write("usr/local/mine", "nobody's business\n");
    host.write("etc/mine", "mine\n");

    let report = site.api().test_upgrade(&upgrade_site::name("2.0")).unwrap();
    let names = |paths: &[specs::upgrade::TreePath]| {
        paths.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        names(&report.added),
        [
            "etc/new.d",
            "etc/new.d/a",
            "opt",
            "opt/app",
            "opt/app/data",
            "usr/share/new",
            "usr/share/new/deep",
            "usr/share/new/deep/file"
        ]
    );
    assert_eq!(names(&report.changed), ["etc/other.conf", "etc/tool.conf", "usr/bin/tool"]);
    assert_eq!(
        names(&report.removed),
        ["etc/old.d", "etc/old.d/a", "usr/share/old", "usr/share/old/file"]
    );
    assert_eq!(names(&report.kept), ["srv/data"]);
    assert_eq!((report.fetch_files, report.fetch_bytes, report.reboot), (5, 48, true));
    assert_eq!(report.refused, None);
    assert!(!host.exists(".edeploy"), "a test writes nothing");
    site.check_clean_but(&["etc/mine", "usr/local"]);

    let outcome = site.upgrade().unwrap();
    assert_eq!((outcome.version.as_str(), outcome.reboot), ("2.0", true));
    assert_eq!(host.read("srv/pre"), "1.0 2.0 web\n");
    assert_eq!(host.read("srv/post"), "setting = 2\n", "post sees the new files");
    assert_eq!(host.read("srv/data"), "of the role\n", "excluded");
    assert_eq!(host.read("usr/local/mine"), "nobody's business\n");
    assert_eq!(host.read("etc/mine"), "mine\n");
    assert_eq!(site.recorded(), "2.0");
    site.check_clean_but(&["etc/mine", "usr/local"]);

    // Offline.
    site.stop_daemon();
    host.write("etc/tool.conf", "setting = mine\n");
    host.write("opt/app/uploads/1", "precious\n");
    let kept = site.rollback().unwrap();
    assert_eq!(kept, ["etc/tool.conf", "opt/app/uploads"], "what comes back is not kept");
    assert_eq!(host.read("var/lib/edeploy/kept/1-2.0/etc/tool.conf"), "setting = mine\n");
    assert_eq!(host.read("var/lib/edeploy/kept/1-2.0/opt/app/uploads/1"), "precious\n");
    assert_eq!(host.read("etc/tool.conf"), "setting = 1\n");
    assert_eq!(host.read("usr/share/old/file"), "old\n");
    assert_eq!(site.recorded(), "1.0");
    site.check_clean_but(&["etc/mine", "usr/local"]);
    assert!(matches!(site.rollback(), Err(UpgradeError::NoWayBack(_))));
    let what: Vec<String> = agent::host::history(&agent::world::Root::new(&host.0))
        .unwrap()
        .into_iter()
        .map(|happening| happening.what)
        .collect();
    assert_eq!(what, ["upgraded", "rolled back"]);
}

/// What was kept aside the first time stays as it was, and what the second time replaces is kept
/// as well.
#[test]
fn an_upgrade_after_a_rollback_is_another_one() {
    if !ready() {
        return;
    }
    let mut site = Site::new(first, second);
    let host = site.host();
    for edit in ["first\n", "second\n"] {
        host.write("etc/tool.conf", edit);
        let outcome = site.upgrade().unwrap();
        let kept = outcome.kept_in.unwrap();
        assert_eq!(fs::read_to_string(kept.join("etc/tool.conf")).unwrap(), edit);
        site.rollback().unwrap();
    }
    assert_eq!(host.read("var/lib/edeploy/kept/1-1.0/etc/tool.conf"), "first\n");
    let root = agent::world::Root::new(&host.0);
    let happened = agent::host::history(&root).unwrap();
    let told: Vec<_> = happened.iter().map(|it| (it.number, it.what.as_str())).collect();
    let expected = [(1, "upgraded"), (1, "rolled back"), (2, "upgraded"), (2, "rolled back")];
    assert_eq!(told, expected);
}

#[test]
fn only_what_changes_is_fetched() {
    if !ready() {
        return;
    }
    let big = "0123456789abcdef".repeat(40_000);
    let mut site = Site::new(
        |tree| tree.write("usr/share/big", &big),
        |tree| {
            tree.write("usr/share/big", &big);
            tree.write("usr/share/changed", &"x".repeat(100_000));
            tree.write("usr/share/twin", &"x".repeat(100_000));
            tree.mode("usr/share/big", 0o600);
        },
    );
    site.upgrade().unwrap();
    let sent = site.bytes_sent();
    assert!((100_000..101_000).contains(&sent), "{sent} bytes were sent");
    site.check_clean("2.0");
}

/// The list of a version with so many files has 6 MB, nearly all of it digests, which nothing
/// makes smaller; the host has the list of its own version, and what is new in the next one comes.
#[test]
fn the_list_of_fifty_thousand_files_comes_as_a_difference() {
    if !ready() {
        return;
    }
    let files = |tree: &Tree, changed: &dyn Fn(u32) -> &'static str| {
        for number in 0..50_000 {
            let folder = tree.at(&format!("usr/share/package-{:04}", number / 40));
            if number % 40 == 0 {
                fs::create_dir_all(&folder).unwrap();
            }
            let mut file = File::create(folder.join(format!("file-{number}.txt"))).unwrap();
            let content = changed(number);
            write!(file, "{number} {content}").unwrap();
            // Packages bring the times of their files along.
            let time = if content == "old" { 1_600_000_000 } else { 1_700_000_000 };
            file.set_modified(UNIX_EPOCH + Duration::from_secs(time)).unwrap();
        }
    };
    let mut site = Site::new(
        |tree| files(tree, &|_| "old"),
        // One package of 25 is new, as in a point release.
        |tree| files(tree, &|number| if (number / 40) % 25 == 0 { "new" } else { "old" }),
    );
    // As build-role leaves it in a tree.
    let own = site.manifest("1.0").to_text();
    site.host().write("var/lib/edeploy/1.0/manifest", &own);
    let whole = site.manifest("2.0").to_text().len();
    assert!(whole > 6_000_000, "the list has {whole} bytes");
    site.upgrade().unwrap();
    let sent = site.bytes_of_lists();
    assert!((1..=1 << 20).contains(&sent), "{sent} bytes of {whole} were sent");
    site.check_clean("2.0");
}

#[test]
fn after_a_server_died_in_the_middle_only_the_rest_is_fetched() {
    if !ready() {
        return;
    }
    const SIZE: usize = 100_000;
    let file = |number: u8| format!("usr/share/many/{number:02}");
    let mut site = Site::new(
        |_| {},
        |tree| {
            for number in 0..40 {
                // Each another content, and none that rsync could make smaller.
                let hash =
                    |block: u32| blake3::hash(&[&[number][..], &block.to_le_bytes()].concat());
                let bytes: Vec<u8> =
                    (0..).flat_map(|block| *hash(block).as_bytes()).take(SIZE).collect();
                tree.write(&file(number), "");
                fs::write(tree.at(&file(number)), bytes).unwrap();
            }
        },
    );
    site.check_clean("1.0");
    // Four megabytes would take two seconds: it is dead long before.
    site.restart_daemon(&["--bwlimit=2000"]);
    let killer = site.daemon_killer(&file(9));
    let error = site.upgrade().unwrap_err();
    killer.join().unwrap();
    assert!(matches!(error, UpgradeError::Command { .. }), "{error}");
    site.check_clean("1.0");
    let host = site.host();
    assert!(!host.exists(".edeploy/1") && !host.exists("usr/share/many"));

    let is_there = |number: &u8| {
        let found = fs::metadata(host.at(&format!(".edeploy/fetched/{}", file(*number))));
        found.is_ok_and(|found| found.len() == SIZE as u64)
    };
    let (there, sent) = ((0..40).filter(is_there).count(), site.bytes_sent());
    assert!((10..40).contains(&there), "{there} files are there");
    site.restart_daemon(&[]);
    site.upgrade().unwrap();
    site.check_clean("2.0");
    let (fetched, missing) = (site.bytes_sent() - sent, (40 - there as u64) * SIZE as u64);
    assert!(fetched <= missing + missing / 100, "{fetched} bytes for {missing} that were missing");
    assert!(!host.exists(".edeploy/fetched"), "nothing is left of it");
}

#[test]
fn the_boot_menu_names_a_kernel_that_is_there_at_every_moment() {
    if !ready() {
        return;
    }
    let kernel = |tree: &Tree, release: &str| {
        tree.write(&format!("boot/vmlinuz-{release}"), "kernel\n");
        tree.write(&format!("usr/lib/modules/{release}/a.ko"), "module\n");
    };
    let menu = |release: &str| {
        format!("menuentry 'D' {{\n\tlinux /boot/vmlinuz-{release} root=UUID=x ro\n}}\n")
    };
    let mut site = Site::new(
        |tree| ["6.0", "6.1"].into_iter().for_each(|release| kernel(tree, release)),
        |tree| kernel(tree, "6.2"),
    );
    // One kernel runs, the next boot starts another; both are gone from the new version.
    site.running = Some(Kernel("6.0".to_owned()));
    let host = site.host();
    host.write("boot/grub/grub.cfg", &menu("6.1"));
    host.mode("boot/grub/grub.cfg", 0o400);
    let post = format!("#!/bin/sh\necho \"{}\" > /boot/grub/grub.cfg\nexit 100\n", menu("6.2"));
    site.edge("post", &post);
    let bootable = |when: &str| {
        let text = host.read("boot/grub/grub.cfg");
        let release = text.split("vmlinuz-").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        assert!(host.exists(&format!("boot/vmlinuz-{release}")), "{when}: no {release}");
        release
    };
    let snapshot = site.snapshot();
    for back in [false, true] {
        for point in (0..).step_by(3) {
            if back {
                site.failpoint = Failpoint::Never;
                site.upgrade().unwrap();
            }
            site.failpoint = Failpoint::stop_at(point);
            let done = if back { site.rollback().map(drop) } else { site.upgrade().map(drop) };
            bootable(&format!("back: {back}, stopped at {point}"));
            if done.is_ok() {
                break;
            }
            site.restore(&snapshot);
        }
        assert_eq!(bootable("done"), if back { "6.1" } else { "6.2" });
        site.failpoint = Failpoint::Never;
        assert_eq!(site.recorded(), if back { "1.0" } else { "2.0" });
        site.check_clean_but(&["boot/grub"]);
        if !back {
            site.restore(&snapshot);
        }
    }
    assert_eq!(host.read("boot/grub/grub.cfg"), menu("6.1"));
}

#[test]
fn what_the_installation_put_beside_the_role_is_expected() {
    if !ready() {
        return;
    }
    let mut site = Site::new(first, second);
    let host = site.host();
    host.write("etc/motd.d/role", "web on web01\n");
    host.write("var/lib/edeploy/1.0/manifest", &site.manifest("1.0").to_text());
    agent::host::note_own(&agent::world::Root::new(&host.0)).unwrap();
    site.check_clean("1.0");
    host.write("etc/evil", "not from the installation\n");
    site.check_clean_but(&["etc/evil"]);
    host.remove("etc/evil");
    site.upgrade().unwrap();
    site.check_clean("2.0");
}

#[test]
fn a_plain_rsync_server_is_enough() {
    if !ready() {
        return;
    }
    let mut site = Site::new(first, second);
    for version in ["1.0", "2.0"] {
        fs::remove_file(site.version(version).0.with_extension("manifest")).unwrap_or(());
        let beside = site.version(version).0.parent().unwrap().join("web.manifest");
        if beside.exists() {
            fs::remove_file(beside).unwrap();
        }
    }
    site.upgrade().unwrap();
    site.check_clean("2.0");
    site.rollback().unwrap();
    site.check_clean("1.0");
}

/// Two thousand files, of which every kind of change is made.
fn many(tree: &Tree, version: u32) {
    for number in 0..1900 {
        let text =
            if number % 10 == 0 { format!("{number} {version}\n") } else { format!("{number}\n") };
        tree.write(&format!("usr/share/many/{}/{number}", number % 40), &text);
    }
    for number in 0..100 {
        let text =
            if number % 10 == 0 { format!("{number} {version}\n") } else { format!("{number}\n") };
        tree.write(&format!("etc/many/{number}"), &text);
    }
    tree.write(&format!("boot/vmlinuz-{version}"), "kernel\n");
    tree.write(&format!("usr/lib/modules/{version}/a.ko"), "module\n");
}

/// Stops an upgrade at every second point from `first_point` on. The host is then old or new,
/// whole and says so, and another upgrade completes.
fn check_stops(first_point: usize) {
    if !ready() {
        return;
    }
    let make = |tree: &Tree, version| {
        if version == 1 {
            first(tree);
        } else {
            second(tree);
        }
        many(tree, version);
    };
    let mut site = Site::new(|tree| make(tree, 1), |tree| make(tree, 2));
    site.edge("post", "#!/bin/sh\nexit 0\n");
    let snapshot = site.snapshot();
    let mut resumed_to = std::collections::BTreeSet::new();
    let mut points = (first_point..).step_by(2);
    let stops = loop {
        let point = points.next().unwrap();
        site.failpoint = Failpoint::stop_at(point);
        match site.upgrade() {
            Ok(_) => break point,
            Err(UpgradeError::Stopped(at)) => assert_eq!(at, point),
            Err(error) => panic!("point {point}: {}", agent::chain(&error)),
        }
        site.failpoint = Failpoint::Never;
        let version = check_resumption(&mut site, point);
        if resumed_to.insert(version.clone()) || version == "1.0" {
            site.upgrade().unwrap();
            site.check_clean("2.0");
        }
        site.restore(&snapshot);
    };
    assert!(stops > 40, "only {stops} points");
    assert_eq!(resumed_to.into_iter().collect::<Vec<_>>(), ["1.0", "2.0"]);
    // The way back, stopped at some of its points.
    for point in (first_point..stops).step_by(8) {
        site.failpoint = Failpoint::Never;
        site.upgrade().unwrap();
        site.failpoint = Failpoint::stop_at(point);
        let stopped = site.rollback();
        site.failpoint = Failpoint::Never;
        if stopped.is_ok() {
            break;
        }
        let version = check_resumption(&mut site, point);
        assert!(point < 2 || version == "1.0", "point {point}: {version}");
        site.restore(&snapshot);
    }
}

/// Finishes what was interrupted; the host is then wholly of the version that is returned.
#[track_caller]
fn check_resumption(site: &mut Site, point: usize) -> String {
    match site.resume() {
        Ok(Resumed::Nothing | Resumed::Finished { .. } | Resumed::Returned(_)) => {}
        Ok(other) => panic!("point {point}: {other:?}"),
        Err(error) => panic!("point {point}: {}", agent::chain(&error)),
    }
    let version = site.recorded();
    site.check_clean(&version);
    version
}

#[test]
fn stopped_at_any_even_point_the_host_is_old_or_new() {
    check_stops(0);
}

#[test]
fn stopped_at_any_odd_point_the_host_is_old_or_new() {
    check_stops(1);
}

#[test]
fn the_boot_switches_files_early_and_runs_post_late() {
    if !ready() {
        return;
    }
    let mut site = Site::new(first, second);
    site.edge("post", "#!/bin/sh\necho ran >> /srv/post\n");
    let host = site.host();
    // The first point at which something has been switched and something has not.
    let point = (0..)
        .find(|&point| {
            site.failpoint = Failpoint::stop_at(point);
            assert!(matches!(site.upgrade(), Err(UpgradeError::Stopped(_))));
            host.read("usr/bin/tool").contains("two") && host.read("etc/tool.conf").contains('1')
        })
        .unwrap();
    site.failpoint = Failpoint::Never;
    assert!(host.exists("etc/systemd/system/sysinit.target.wants/edeploy-resume.service"));
    assert!(host.exists(".edeploy/edeploy"), "armed at point {point}");
    assert_eq!(site.resume_early(), Resumed::Switched(upgrade_site::name("2.0")));
    assert_eq!(host.read("etc/tool.conf"), "setting = 2\n");
    assert_eq!(site.recorded(), "1.0", "not before post");
    // After the reboot that follows: no second one.
    assert_eq!(site.resume_early(), Resumed::Nothing);
    assert!(!host.exists("srv/post") && host.exists(".edeploy/edeploy"));
    let version = upgrade_site::name("2.0");
    assert_eq!(site.resume().unwrap(), Resumed::Finished { version, reboot: false });
    assert_eq!(host.read("srv/post"), "ran\n");
    site.check_clean("2.0");
}

/// The power went while the units for the next boot were written.
#[test]
fn what_is_half_written_for_the_next_boot_does_not_stay() {
    if !ready() {
        return;
    }
    let mut site = Site::new(first, second);
    let half = [
        "etc/systemd/system/.edeploy-finish.service.edeploy-new",
        ".edeploy/.made.edeploy-new",
        ".edeploy/edeploy.new",
    ];
    half.iter().for_each(|path| site.host().write(path, "[Unit]\nDescr"));
    assert_eq!(site.resume().unwrap(), Resumed::Nothing);
    assert!(half.iter().all(|path| !site.host().exists(path)));
    site.check_clean("1.0");
}

#[test]
fn a_second_upgrade_at_the_same_time_is_refused() {
    if !ready() {
        return;
    }
    let mut site = Site::new(first, second);
    let lock = site.api().lock().unwrap();
    assert!(matches!(site.upgrade(), Err(UpgradeError::Locked(_))));
    drop(lock);
    site.upgrade().unwrap();
    assert_eq!(
        run("cat", &[&site.host().at("var/lib/edeploy/2.0/exclude").display().to_string()]),
        upgrade_site::EXCLUDE
    );
}

#[test]
fn the_command_killed_in_the_middle_is_finished_from_outside() {
    if !ready() {
        return;
    }
    let mut site = Site::new(first, second);
    let root = site.host().0.display().to_string();
    let edeploy = |arguments: &[&str], dies_at: Option<&str>| {
        let mut all = vec!["--root", &root];
        all.extend(arguments);
        upgrade_site::status(env!("CARGO_BIN_EXE_edeploy"), &all, dies_at)
    };
    assert_eq!(edeploy(&["verify"], None).0, Some(0));
    assert_eq!(edeploy(&["test-upgrade", "2.0"], None).0, Some(0));
    assert_eq!(edeploy(&["upgrade", "9.9"], None).0, Some(3));
    for point in ["3", "9", "14", "20"] {
        assert_eq!(edeploy(&["upgrade", "2.0"], Some(point)).0, None, "it dies at {point}");
    }
    site.host().write("etc/tool.conf", "edited after the power cut\n");
    let (code, said) = edeploy(&["upgrade", "--resume", "--json"], None);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("\"version\":\"2.0\""), "{said}");
    let (code, said) = edeploy(&["verify", "--json"], None);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("\"path\":\"etc/tool.conf\",\"drift\":\"changed\""), "{said}");
    assert_eq!(edeploy(&["upgrade", "2.0"], None).0, Some(0), "there already");
    assert_eq!(edeploy(&["rollback"], None).0, Some(0));
    site.check_clean("1.0");
    assert!(edeploy(&["history"], None).1.contains("rolled back 2.0 -> 1.0"));
    site.edge("post", "#!/bin/sh\nexit 100\n");
    assert_eq!(edeploy(&["upgrade", "2.0"], None).0, Some(100));
}
