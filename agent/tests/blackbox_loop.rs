//! Disk in, disk out: plans made from configure files are carried out on loop devices with the
//! real tools and a real rsync daemon, and what is on the disks afterwards is read with others.
//!
//! The boot loader is the one thing played: the role's `grub-install` and `grub-mkconfig` are
//! scripts that record what they were given. The lab boots the real ones.
//!
//! Needs root and loop devices. Without them the tests say that they were skipped; with
//! `CI=true` they fail.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod loop_site;
mod web_server;

use std::fs;
use std::os::unix::fs::MetadataExt;

use agent::execute::{StepError, redact};
use specs::event::{DiskState, Event};

use loop_site::{Site, ready};

/// One disk with everything the planner can put on it.
const EVERYTHING: &str = r#"(
    role: (name: "mysql", version: "D12-F.1.0.0"),
    hostname: "{{ hostname }}",
    disks: [(device: "/dev/{{ disk }}", table: gpt, boot: auto, partitions: [
        (label: "root", size: "300MiB", use: filesystem(type: ext4, mount: "/")),
        (label: "swap", size: "64MiB", use: swap),
        (label: "fast", size: "400MiB", use: filesystem(type: xfs, mount: "/srv/fast", mount_options: ["noatime"])),
        (label: "big", size: "rest", use: filesystem(type: btrfs, mount: "/srv/big")),
    ])],
    files: [
        (path: "/etc/motd.d/role", content: "mysql on {{ hostname }}\n", mode: "0640"),
        (path: "/etc/token", content: "{{ token }}\n", mode: "0600"),
    ],
    run: [
        (name: "in the tree", at: after_tree, chroot: true, command: ["/bin/sh", "-c", "echo $EDEPLOY_hostname > /etc/ran; test -e /proc/self/stat"]),
    ],
)"#;

/// As disks were before GPT.
const ON_MBR: &str = r#"(
    role: (name: "mysql", version: "D12-F.1.0.0"),
    hostname: "{{ hostname }}",
    disks: [(device: "/dev/{{ disk }}", table: msdos, boot: auto, partitions: [
        (size: "32MiB", use: swap),
        (size: "rest", use: filesystem(type: ext4, mount: "/")),
    ])],
)"#;

#[test]
fn the_disk_is_as_the_plan_says() {
    let Some(ready) = ready() else { return };
    let site = Site::new(ready, 1000);
    let plan = site.plan(EVERYTHING);
    let mut events = Vec::new();
    let receipt = site.execute(&plan, &mut events).unwrap();
    assert_eq!(receipt.steps.len(), plan.steps.len() + 3, "with role, preflight and finish");
    assert_eq!(site.mounts(), "", "nothing stays mounted");

    check_table(&site);
    check_filesystems(&site, &plan);

    let tree = site.mount_partition(2);
    let text = |path: &str| fs::read_to_string(tree.join(path)).unwrap();
    assert_eq!(text("etc/motd.d/role"), "mysql on host03\n");
    assert_eq!(text("etc/ran"), "host03\n");
    assert_eq!(text("etc/hostname"), "host03\n");
    assert!(
        text("etc/fstab").contains(&format!("UUID={} / ext4", plan.root)),
        "{}",
        text("etc/fstab")
    );
    let motd = fs::metadata(tree.join("etc/motd.d/role")).unwrap();
    assert_eq!((motd.mode() & 0o7777, motd.uid()), (0o640, 0));
    assert_eq!(fs::read_link(tree.join("etc/link")).unwrap().to_str(), Some("/etc/hostname"));
    let hard = |name: &str| fs::metadata(tree.join(name)).unwrap().ino();
    assert_eq!(hard("etc/hard-1"), hard("etc/hard-2"), "hard links survive the fetch");
    assert_eq!(fs::metadata(tree.join("etc/owned")).unwrap().uid(), 4242, "owners by number");

    let conf = text("var/lib/edeploy/conf");
    let port = site.rsync_port();
    assert_eq!(
        conf,
        format!(
            "VERS=D12-F.1.0.0\nROLE=mysql\nSERV=127.0.0.1\nRSERV=127.0.0.1\nRPATH=install\nRSERV_PORT={port}\n"
        )
    );
    assert!(text("var/log/edeploy/vars").contains("PROFILE=vm\n"));
    assert_eq!(text("etc/token"), "s3cr3t-t0ken\n", "the file itself holds the secret");
    for record in ["plan.ron", "facts.json", "install.log"] {
        let path = format!("var/log/edeploy/{record}");
        assert!(!text(&path).contains("s3cr3t-t0ken"), "{record} must hold no secret");
        assert_eq!(fs::metadata(tree.join(&path)).unwrap().mode() & 0o777, 0o600, "{record}");
    }
    assert!(text("var/log/edeploy/install.log").contains("token is <secret>"));

    // The played boot loader saw the machine's devices and the link it needs.
    assert_eq!(text("boot/grub/install"), format!("--target=i386-pc {}\n", site.disk()));
    let configuration = text("boot/grub/grub.cfg");
    assert!(configuration.contains(&format!("root=UUID={}", plan.root)), "{configuration}");

    check_events(&plan.secrets, &events);
}

#[test]
fn an_mbr_has_an_active_partition() {
    let Some(ready) = ready() else { return };
    let site = Site::new(ready, 200);
    let plan = site.plan(ON_MBR);
    site.execute(&plan, &mut Vec::new()).unwrap();
    let json = site.tool("sfdisk", &["--json", site.disk()]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let table = &json["partitiontable"];
    let active = |position: usize| table["partitions"][position]["bootable"] == true;
    assert_eq!((&table["label"], active(0), active(1)), (&"dos".into(), false, true), "{json}");
}

/// What other tools read from the table.
#[track_caller]
fn check_table(site: &Site) {
    let json: serde_json::Value =
        serde_json::from_str(&site.tool("sfdisk", &["--json", site.disk()])).unwrap();
    let table = &json["partitiontable"];
    assert_eq!(table["label"], "gpt");
    let names: Vec<&str> = table["partitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|partition| partition["name"].as_str().unwrap_or(""))
        .collect();
    assert_eq!(names[1..], ["root", "swap", "fast", "big"]);
    assert_eq!(table["partitions"][0]["type"], "21686148-6449-6E6F-744E-656564454649");
    for partition in table["partitions"].as_array().unwrap() {
        assert_eq!(partition["start"].as_u64().unwrap() % 2048, 0, "aligned to 1 MiB");
    }
}

/// What other tools read from the file systems.
#[track_caller]
fn check_filesystems(site: &Site, plan: &specs::plan::Plan) {
    for (number, kind, label) in
        [(2, "ext4", "root"), (3, "swap", "swap"), (4, "xfs", "fast"), (5, "btrfs", "big")]
    {
        let node = site.partition(number);
        let probe = |tag: &str| {
            let args = ["--probe", "--match-tag", tag, "--output", "value", &node];
            site.tool("blkid", &args).trim().to_owned()
        };
        assert_eq!((probe("TYPE").as_str(), probe("LABEL").as_str()), (kind, label), "{node}");
        let planned = plan.steps.iter().find_map(|step| match &step.action {
            specs::plan::Action::MakeFilesystem { device, filesystem, .. } if *device == node => {
                Some(filesystem.id().to_owned())
            }
            _ => None,
        });
        assert_eq!(Some(probe("UUID")), planned, "{node}");
    }
}

/// What was told: every start has its end, the first destructive step comes after preflight,
/// progress reaches the size of the tree, and no secret is said.
#[track_caller]
fn check_events(secrets: &[String], events: &[Event]) {
    let text = format!("{events:?}");
    assert_eq!(text, redact(&text, secrets));
    let mut started = Vec::new();
    let mut progressed = None;
    for event in events {
        match event {
            Event::StepStarted { step, destructive } => started.push((step.as_str(), *destructive)),
            Event::Progress { done, total, .. } => progressed = Some((*done, *total)),
            Event::StepEnded { step, error, .. } => {
                assert_eq!(started.last().map(|(step, _)| *step), Some(step.as_str()));
                assert_eq!(*error, None, "{step}");
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    let first = started.iter().position(|(_, destructive)| *destructive).unwrap();
    assert_eq!(started[first - 1].0, "preflight");
    let (done, total) = progressed.expect("a fetch tells its progress");
    assert_eq!(Some(done), total);
}

#[test]
fn a_second_installation_replaces_the_first() {
    let Some(ready) = ready() else { return };
    let site = Site::new(ready, 1000);
    site.execute(&site.plan(EVERYTHING), &mut Vec::new()).unwrap();
    let smaller = EVERYTHING.replace("300MiB", "350MiB").replace("64MiB", "32MiB");
    let plan = site.plan(&smaller);
    site.execute(&plan, &mut Vec::new()).unwrap();
    check_table(&site);
    check_filesystems(&site, &plan);
}

#[test]
fn after_a_failure_nothing_boots_and_nothing_is_mounted() {
    let Some(ready) = ready() else { return };
    let site = Site::new(ready, 1000);
    let failing = EVERYTHING.replace("test -e /proc/self/stat", "echo $EDEPLOY_token >&2; exit 7");
    let plan = site.plan(&failing);
    let mut events = Vec::new();
    let failure = site.execute(&plan, &mut events).unwrap_err();
    assert_eq!(failure.disks, DiskState::Cleared, "{failure}");
    let text = agent::chain(&failure);
    assert!(text.contains("exited with 7; its last words: <secret>"), "{text}");
    assert!(!text.contains("s3cr3t"), "{text}");
    assert!(!format!("{events:?}").contains("s3cr3t"), "{events:?}");
    assert_eq!(site.mounts(), "");
    let image = site.image();
    let ends = [&image[..1 << 20], &image[image.len() - (1 << 20)..]];
    assert!(
        ends.iter().all(|end| end.iter().all(|&byte| byte == 0)),
        "boot code and tables are gone"
    );
}

/// A disk whose sectors fail, here for want of room below it: what programs wrote without an
/// error is not on it.
#[test]
fn a_disk_that_does_not_keep_what_is_written_is_not_installed() {
    let Some(ready) = ready() else { return };
    let site = Site::on_thin_disk(ready, 200, 24);
    site.fill_role(40);
    let configure = r#"(
        role: (name: "mysql", version: "D12-F.1.0.0"),
        hostname: "{{ hostname }}",
        disks: [(device: "/dev/{{ disk }}", table: gpt, boot: auto, partitions: [
            (size: "rest", use: filesystem(type: ext4, mount: "/", mkfs_options: ["-O", "^has_journal"])),
        ])],
    )"#;
    let failure = site.execute(&site.plan(configure), &mut Vec::new()).unwrap_err();
    assert_ne!(failure.disks, DiskState::Untouched, "{failure}");
    let text = agent::chain(&failure);
    assert!(text.contains("Input/output error") || text.contains("No space left"), "{text}");
    assert_eq!(site.mounts(), "");
}

#[test]
fn what_cannot_be_done_writes_nothing() {
    let Some(ready) = ready() else { return };
    let site = Site::new(ready, 1000);
    site.tool("mkfs.ext4", &["-q", "-F", site.disk()]);
    let before = site.checksum();
    let good = site.plan(EVERYTHING);

    let mut other_size = good.clone();
    other_size.disks[0].size = specs::plan::DiskSize::Exact(specs::units::Bytes(1 << 40));
    let mut other_serial = good.clone();
    other_serial.disks[0].serial = Some("WD-123".to_owned());
    let absent_role = site.plan(&EVERYTHING.replace("D12-F.1.0.0", "D12-F.9.9.9"));
    let mut contradiction = good.clone();
    contradiction.steps.swap(0, 1);

    for (plan, reason) in [
        (&other_size, "its size is"),
        (&other_serial, "its serial is unknown, planned was WD-123"),
        (&absent_role, "D12-F.9.9.9/mysql/` cannot be fetched"),
        (&contradiction, "the plan contradicts itself"),
    ] {
        check_refusal(&site, plan, reason);
        assert_eq!(site.checksum(), before, "{reason}");
    }
    // Mounted last: mounting writes to the disk itself.
    let _mounted = site.mount(site.disk());
    check_refusal(&site, &good, "is mounted at");
}

#[test]
fn a_role_that_would_not_boot_writes_nothing() {
    let Some(ready) = ready() else { return };
    let site = Site::new(ready, 200);
    site.tool("mkfs.ext4", &["-q", "-F", site.disk()]);
    let (before, good) = (site.checksum(), site.plan(ON_MBR));
    for (gone, reason) in [
        ("boot/vmlinuz-6.1.0", "has no kernel (/boot/vmlinuz-*"),
        ("usr/lib/grub/i386-pc/modinfo.sh", "has no GRUB for BIOS (/usr/lib/grub/i386-pc, package"),
        ("usr/sbin/grub-install", "has no grub-install (package"),
    ] {
        let back = site.without(gone);
        check_refusal(&site, &good, reason);
        assert_eq!(site.checksum(), before, "{reason}");
        back();
    }
    site.execute(&good, &mut Vec::new()).unwrap();
}

#[track_caller]
fn check_refusal(site: &Site, plan: &specs::plan::Plan, reason: &str) {
    let failure = site.execute(plan, &mut Vec::new()).unwrap_err();
    assert_eq!((failure.step.as_str(), failure.disks), ("preflight", DiskState::Untouched));
    assert!(matches!(*failure.error, StepError::Preflight(_)), "{failure:?}");
    let text = agent::chain(&failure);
    assert!(text.contains(reason), "`{reason}` is not in: {text}");
}

/// One partition, and a tree that comes over HTTP.
const SMALL: &str = r#"(
    role: (name: "mysql", version: "D12-F.1.0.0"),
    hostname: "{{ hostname }}",
    disks: [(device: "/dev/{{ disk }}", table: gpt, boot: auto, partitions: [
        (label: "root", size: "rest", use: filesystem(type: ext4, mount: "/")),
    ])],
)"#;

#[test]
fn a_tree_may_come_over_http() {
    let Some(ready) = ready() else { return };
    let mut site = Site::new(ready, 300);
    let server = web_server::WebServer::start();
    site.use_archives(server.port);
    let archive = site.packed_role();
    let plan = site.plan(SMALL);
    let (place, before) = ("/install/D12-F.1.0.0/mysql-D12-F.1.0.0.edeploy", site.checksum());

    // No checksum to verify it with: nothing is begun.
    server.put(place, archive.clone());
    let failure = site.execute(&plan, &mut Vec::new()).unwrap_err();
    assert_eq!(failure.disks, DiskState::Untouched, "{failure}");
    assert_eq!(site.checksum(), before);

    // Not what the list says: the disk is cleared, and the boot loader never came.
    server.put_archive(place, &archive);
    server.put(place, [&archive[..], b"more"].concat());
    let mut events = Vec::new();
    let failure = site.execute(&plan, &mut events).unwrap_err();
    let text = agent::chain(&failure);
    assert_eq!((failure.disks, failure.step.as_str()), (DiskState::Cleared, "tree"), "{text}");

    server.put_archive(place, &archive);
    let mut events = Vec::new();
    site.execute(&plan, &mut events).unwrap();
    let total = Some(archive.len() as u64);
    let whole = |event: &Event| matches!(event, Event::Progress { done, total: of, .. } if Some(*done) == total && *of == total);
    assert!(events.iter().any(whole), "{events:?}");
    let tree = site.mount_partition(2);
    assert_eq!(fs::metadata(tree.join("etc/owned")).unwrap().uid(), 4242, "owners by number");
    assert_eq!(fs::read_to_string(tree.join("etc/hostname")).unwrap(), "host03\n");
    assert_eq!(
        fs::read_to_string(tree.join("boot/grub/install")).unwrap(),
        format!("--target=i386-pc {}\n", site.disk())
    );
}
