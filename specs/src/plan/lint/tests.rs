//! Damaged plans: every damage is found, a good plan has no finding.

use super::*;
use crate::configure::Configure;
use crate::facts::Facts;
use crate::plan::build::{Inputs, plan};
use crate::units::{FatId, Token, Uuid};
use crate::value::Variables;

/// Two disks, UEFI, an ESP, and a file with a secret that only root can read.
const CONFIGURE: &str = r#"(
    role: (name: "base", version: "1"),
    hostname: "a",
    disks: [
        (device: "/dev/vda", table: gpt, boot: auto, partitions: [
            (size: "rest", use: filesystem(type: ext4, mount: "/")),
        ]),
        (device: "/dev/vdb", table: gpt, partitions: [
            (size: "1GiB", use: filesystem(type: ext4, mount: "/srv")),
            (size: "rest", use: filesystem(type: ext4, mount: "/srv/b")),
        ]),
    ],
    files: [(path: "/etc/secret", content: "hunter2", mode: "0600")],
    kernel_args: ["quiet"],
)"#;

fn good() -> Plan {
    let mut facts = Facts::default();
    facts.push("system", "firmware", "type", "uefi");
    for disk in ["vda", "vdb"] {
        facts.push("disk", disk, "bytes", (10_i64 << 30).to_string());
    }
    let inputs = Inputs {
        facts: &facts,
        variables: &Variables::new(),
        profile: &"a".parse().unwrap(),
        nonce: &Token::from_bytes([1; 16]),
        secrets: &["hunter2".to_owned()],
        scripts: &BTreeMap::new(),
    };
    plan(&Configure::parse("a.configure", CONFIGURE).unwrap(), &inputs).unwrap()
}

/// Lints the good plan after a change: one of the notes must hold the expected text.
#[track_caller]
fn check(change: impl FnOnce(&mut Plan), expected: &str) {
    let mut plan = good();
    change(&mut plan);
    let notes = lint(&plan);
    let found: Vec<String> = notes.iter().map(ToString::to_string).collect();
    assert!(found.iter().any(|note| note.contains(expected)), "{expected}: {found:#?}");
}

/// Lints the good plan after a change that it bears.
#[track_caller]
fn fine(change: impl FnOnce(&mut Plan)) {
    let mut plan = good();
    change(&mut plan);
    assert_eq!(lint(&plan), []);
}

/// The position of a step.
fn find(plan: &Plan, id: &str) -> usize {
    plan.steps.iter().position(|step| step.id == id).unwrap_or_else(|| panic!("no step {id}"))
}

fn action<'a>(plan: &'a mut Plan, id: &str) -> &'a mut Action {
    let position = find(plan, id);
    &mut plan.steps[position].action
}

fn partitions<'a>(plan: &'a mut Plan, disk: &str) -> &'a mut Vec<Partition> {
    match action(plan, &format!("table {disk}")) {
        Action::WriteTable { partitions, .. } => partitions,
        other => panic!("{other:?}"),
    }
}

fn file<'a>(plan: &'a mut Plan, path: &str) -> &'a mut File {
    match action(plan, &format!("file {path}")) {
        Action::WriteFile { file } => file,
        other => panic!("{other:?}"),
    }
}

/// Moves the step `id` to right before the step `before`.
fn move_before(plan: &mut Plan, id: &str, before: &str) {
    let step = plan.steps.remove(find(plan, id));
    plan.steps.insert(find(plan, before), step);
}

fn remove(plan: &mut Plan, id: &str) {
    plan.steps.remove(find(plan, id));
}

#[test]
fn a_good_plan_has_no_notes() {
    assert_eq!(lint(&good()), []);
}

#[test]
fn only_disks_of_the_plan_are_touched() {
    check(
        |plan| {
            plan.disks.pop();
        },
        "error: step `clear /dev/vdb`: /dev/vdb is not a disk of the plan",
    );
    check(
        |plan| {
            plan.disks.pop();
        },
        "error: step `table /dev/vdb`: /dev/vdb is not a disk of the plan",
    );
    check(
        |plan| plan.disks.push(plan.disks[0].clone()),
        "error: the disk /dev/vda is listed twice",
    );
    check(
        |plan| plan.disks[0].path = "/etc/passwd".to_owned(),
        "`/etc/passwd` is not the path of a disk",
    );
    check(
        |plan| remove(plan, "table /dev/vdb"),
        "warning: the disk /dev/vdb is listed and gets no",
    );
}

#[test]
fn partitions_lie_within_the_disk_one_after_the_other() {
    check(
        |plan| partitions(plan, "/dev/vdb")[1].start -= 2048,
        "partition 2 overlaps the one before",
    );
    check(
        |plan| partitions(plan, "/dev/vdb")[1].sectors += 4096,
        "partition 2 ends beyond /dev/vdb",
    );
    check(
        |plan| partitions(plan, "/dev/vdb")[1].sectors = u64::MAX,
        "partition 2 is larger than any disk",
    );
    check(|plan| partitions(plan, "/dev/vdb")[1].sectors = 0, "partition 2 is empty");
    check(|plan| partitions(plan, "/dev/vdb")[1].active = true, "only an MBR has an active");
    check(
        |plan| {
            for partition in partitions(plan, "/dev/vdb") {
                partition.active = true;
            }
        },
        "two partitions are marked active",
    );
    check(
        |plan| partitions(plan, "/dev/vdb")[0].start = 34,
        "partition 1 begins within the first MiB",
    );
    check(
        |plan| partitions(plan, "/dev/vdb")[0].start = 2056,
        "warning: step `table /dev/vdb`: partition 1 does not begin on a whole MiB",
    );
    check(|plan| partitions(plan, "/dev/vdb")[1].number = 1, "partition 1 should be number 2");
    check(
        |plan| {
            let id = partitions(plan, "/dev/vdb")[0].id.clone();
            partitions(plan, "/dev/vdb")[1].id = id;
        },
        "is used twice",
    );
    check(
        |plan| {
            let one = partitions(plan, "/dev/vdb")[0].clone();
            let table = action(plan, "table /dev/vdb");
            *table = Action::WriteTable {
                disk: "/dev/vdb".to_owned(),
                table: Table::Msdos { id: 1 },
                partitions: vec![one; 5],
            };
        },
        "an MBR holds four partitions",
    );
}

#[test]
fn a_plan_may_go_to_the_limit() {
    // A GPT keeps 33 sectors at the end of the disk.
    let end = (10 << 30) / 512 - 33;
    let reach = |plan: &mut Plan, end: u64| {
        let last = &mut partitions(plan, "/dev/vdb")[1];
        last.sectors = end - last.start;
    };
    fine(|plan| reach(plan, end));
    check(|plan| reach(plan, end + 1), "partition 2 ends beyond /dev/vdb");
    // An MBR keeps nothing.
    let msdos = |plan: &mut Plan| {
        let mut partitions = partitions(plan, "/dev/vdb").clone();
        partitions[0].active = true;
        partitions[1].sectors = 2048;
        for _ in 0..2 {
            let mut next = partitions[partitions.len() - 1].clone();
            next.number += 1;
            next.start += next.sectors;
            partitions.push(next);
        }
        partitions.iter_mut().for_each(|partition| partition.id = None);
        partitions[3].sectors = end + 33 - partitions[3].start;
        let (disk, table) = ("/dev/vdb".to_owned(), Table::Msdos { id: 1 });
        *action(plan, "table /dev/vdb") = Action::WriteTable { disk, table, partitions };
    };
    fine(msdos);
    check(
        |plan| {
            msdos(plan);
            partitions(plan, "/dev/vdb")[3].sectors += 1;
        },
        "partition 4 ends beyond /dev/vdb",
    );
    check(
        |plan| partitions(plan, "/dev/vdb")[0].start = 2047,
        "partition 1 begins within the first MiB",
    );
    fine(|plan| file(plan, "/etc/hosts").mode = 0o7777);
    fine(|plan| file(plan, "/etc/secret").mode = 0o7770);
    fine(|plan| file(plan, "/etc/default/grub.d/50-edeploy.cfg").mode = 0o600);
    // Nothing is in everything, and gives nothing away.
    fine(|plan| plan.secrets.push(String::new()));
}

#[test]
fn steps_come_in_an_order_that_can_work() {
    check(
        |plan| move_before(plan, "table /dev/vda", "clear /dev/vda"),
        "gets a table before it is cleared",
    );
    check(
        |plan| move_before(plan, "filesystem /", "table /dev/vda"),
        "is not a partition made before",
    );
    check(
        |plan| move_before(plan, "mount /", "filesystem /"),
        "/dev/vda2 holds no file system yet",
    );
    check(|plan| move_before(plan, "mount /srv", "mount /"), "mounted before the root file system");
    check(
        |plan| move_before(plan, "mount /srv/b", "mount /srv"),
        "/srv would hide what is mounted below",
    );
    check(|plan| move_before(plan, "tree", "mount /"), "the tree is fetched before the root");
    check(|plan| move_before(plan, "tree", "mount /srv"), "mounted after the tree was fetched");
    check(
        |plan| move_before(plan, "file /etc/hosts", "tree"),
        "it works on the tree, which is not there yet",
    );
    check(|plan| move_before(plan, "boot loader", "record"), "a step follows the boot loader");
}

#[test]
fn nothing_that_is_needed_is_missing() {
    check(|plan| remove(plan, "clear /dev/vda"), "/dev/vda gets a table before it is cleared");
    check(|plan| remove(plan, "mount /"), "error: no file system is mounted at `/`");
    check(|plan| remove(plan, "tree"), "error: no step fetches the tree");
    check(|plan| remove(plan, "record"), "error: no step records the installation");
    check(|plan| remove(plan, "boot loader"), "error: no step installs the boot loader");
    check(
        |plan| remove(plan, "mount /boot/efi"),
        "no EFI system partition is mounted at /boot/efi",
    );
}

#[test]
fn nothing_happens_twice() {
    let again = |id: &'static str| {
        move |plan: &mut Plan| {
            let position = find(plan, id);
            let mut step = plan.steps[position].clone();
            step.id += " again";
            plan.steps.insert(position + 1, step);
        }
    };
    check(again("clear /dev/vda"), "/dev/vda would be cleared again");
    check(again("table /dev/vda"), "/dev/vda gets two tables");
    check(again("filesystem /"), "/dev/vda2 is formatted twice");
    check(again("mount /"), "two file systems are mounted at /");
    check(again("tree"), "the tree is fetched twice");
    check(|plan| plan.steps[1].id = plan.steps[0].id.clone(), "two steps have this name");
}

#[test]
fn the_parts_agree_with_each_other() {
    let other = Uuid::derived(&Token::from_bytes([9; 16]), "x");
    check(move |plan| plan.root = other, "this is not the root file system that the plan names");
    check(|plan| plan.firmware = Firmware::Bios, "the boot loader is made for another firmware");
    check(
        |plan| plan.role.version = "2".parse().unwrap(),
        "this is not the role that the plan names",
    );
    check(|plan| plan.format = 99, "error: format 99 is not 1");
    check(|plan| plan.steps[0].deadline_seconds = 0, "a deadline of 0 seconds");
    check(
        |plan| {
            if let Action::Mount { filesystem, .. } = action(plan, "mount /srv") {
                *filesystem = "xfs".to_owned();
            }
        },
        "/dev/vdb1 is ext4 and would be mounted as xfs",
    );
    check(
        |plan| {
            if let Action::MakeFilesystem { filesystem, .. } = action(plan, "filesystem /boot/efi")
            {
                *filesystem = Filesystem::Ext4(Uuid::derived(&Token::from_bytes([9; 16]), "x"));
            }
        },
        "an EFI system partition must be FAT",
    );
    check(
        |plan| {
            let id = FatId::derived(&Token::from_bytes([9; 16]), "x");
            if let Action::MakeFilesystem { filesystem, .. } = action(plan, "filesystem /") {
                *filesystem = Filesystem::Vfat(id);
            }
        },
        "/dev/vda2 is vfat and would be mounted as ext4",
    );
    check(|plan| plan.firmware = Firmware::Bios, "made for another firmware");
    check(
        |plan| {
            *action(plan, "boot loader") = Action::InstallBootLoader {
                target: BootTarget::Bios { disk: "/dev/sda".to_owned() },
            };
            plan.firmware = Firmware::Bios;
        },
        "/dev/sda is not a disk of the plan",
    );
}

#[test]
fn files_stay_inside_and_secrets_are_kept() {
    check(
        |plan| file(plan, "/etc/hosts").path = "/etc/../../x".to_owned(),
        "is not a plain absolute path",
    );
    check(
        |plan| file(plan, "/etc/hosts").path = "etc/hosts".to_owned(),
        "is not a plain absolute path",
    );
    check(|plan| file(plan, "/etc/hosts").mode = 0o10000, "is not a mode");
    check(
        |plan| file(plan, "/etc/secret").mode = 0o644,
        "warning: step `file /etc/secret`: /etc/secret holds a secret",
    );
    check(
        |plan| file(plan, "/etc/default/grub.d/50-edeploy.cfg").content.push_str(" key=hunter2"),
        "error: step `file /etc/default/grub.d/50-edeploy.cfg`: a secret among the kernel arguments",
    );
    let run = |command: Command| {
        move |plan: &mut Plan| {
            let action = Action::Run { command, chroot: true, environment: BTreeMap::new() };
            let step = Step { id: "run x".to_owned(), deadline_seconds: 1, action };
            plan.steps.insert(find(plan, "record"), step);
        }
    };
    let arguments =
        |words: &[&str]| Command::Arguments(words.iter().map(|word| (*word).to_owned()).collect());
    check(
        run(arguments(&["curl", "-ua:hunter2"])),
        "warning: step `run x`: a secret among the arguments",
    );
    check(run(arguments(&[])), "there is no program to run");
    fine(run(arguments(&["true"])));
    fine(run(Command::Script { name: "x".to_owned(), content: "#!/bin/sh\n".to_owned() }));
    // Only what runs in the tree has to wait for it.
    for chroot in [true, false] {
        let mut plan = good();
        run(arguments(&["true"]))(&mut plan);
        let position = find(&plan, "run x");
        let command = arguments(&["true"]);
        plan.steps[position].action = Action::Run { command, chroot, environment: BTreeMap::new() };
        move_before(&mut plan, "run x", "tree");
        assert_eq!(errors(&lint(&plan)).count(), usize::from(chroot));
    }
    let script = Command::Script { name: "x".to_owned(), content: "echo".to_owned() };
    check(run(script), "a script without `#!`");
}
