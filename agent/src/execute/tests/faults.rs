//! What happens when any part of an installation fails: a fake machine on which everything can.

use specs::event::{DiskState, Event};

use super::*;
use crate::world::{FakeRunner, Tool};

/// A machine as the executor sees it, with a role that has a boot loader.
struct Machine {
    folder: tempfile::TempDir,
    plan: Plan,
    runner: FakeRunner,
    system: FakeSystem,
    listener: Listener,
}

/// Remembers what it was told, and objects where it is told to.
#[derive(Default)]
struct Listener {
    events: Vec<Event>,
    /// How many events had been told when it was asked to confirm.
    confirmed_at: Vec<usize>,
    /// It does not confirm.
    unconfirmed: bool,
    /// It ends the installation at the start of this step.
    ends_at: Option<String>,
}

impl EventSink for Listener {
    fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    fn confirm(&mut self) -> Result<(), Objection> {
        self.confirmed_at.push(self.events.len());
        if self.unconfirmed { Err("this ticket has ended".into()) } else { Ok(()) }
    }

    fn proceed(&mut self) -> Result<(), Objection> {
        match (self.events.last(), &self.ends_at) {
            (Some(Event::StepStarted { step, .. }), Some(end)) if step == end => {
                Err("this ticket has ended".into())
            }
            _ => Ok(()),
        }
    }
}

/// What `efibootmgr` prints on a machine that was installed before.
const BOOT_ENTRIES: &str =
    "BootOrder: 0002,0001,0000\nBoot0000* UiApp\nBoot0001* PXE\nBoot0002* edeploy\n";

/// What it prints when another entry was made.
const WITH_NEW_ENTRY: &str = "BootOrder: 0002,0001,0000\nBoot0000* UiApp\nBoot0001* PXE\n\
                              Boot0002* edeploy\nBoot0003* edeploy\n";

/// What rsync says of the size of a tree.
fn tree_of(bytes: u64) -> String {
    format!("Total transferred file size: {bytes} bytes\n")
}

/// What rsync lists of a tree that boots.
const BOOTS: &str = "-rw-r--r-- 1 2026/11/16 10:17:40 boot/vmlinuz-6.1\n\
                     -rw-r--r-- 1 2026/11/16 10:17:40 usr/sbin/grub-install\n\
                     -rw-r--r-- 1 2026/11/16 10:17:40 usr/sbin/grub2-mkconfig\n\
                     -rw-r--r-- 1 2026/11/16 10:17:40 usr/lib/grub/i386-pc/modinfo.sh\n\
                     -rw-r--r-- 1 2026/11/16 10:17:40 usr/lib/grub/x86_64-efi/modinfo.sh\n";

/// Whether this asks for the role, and fetches nothing.
fn asks(line: &str) -> bool {
    ["rsync -aH --dry-run", "rsync --list-only", "rsync --recursive"]
        .iter()
        .any(|start| line.starts_with(start))
}

/// Writes a file of a fake machine; without the flushing of [`Root::write`], which takes time.
fn put(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path.trim_start_matches('/'));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

impl Machine {
    fn new(firmware: &str) -> Machine {
        // In memory where that can be had: an installation flushes every file it writes.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let plan = vm(firmware);
        let config = format!("linux /vmlinuz root=UUID={}\n", plan.root);
        let mut files = vec![
            ("/mnt/target/usr/sbin/grub-install".to_owned(), String::new()),
            ("/mnt/target/usr/sbin/grub2-mkconfig".to_owned(), String::new()),
            ("/mnt/target/boot/grub2/grub.cfg".to_owned(), config),
        ];
        if firmware == "uefi" {
            files.push(("/sys/firmware/efi/efivars/BootOrder".to_owned(), String::new()));
        }
        files.extend(
            Tool::ALL.iter().map(|t| (format!("/usr/sbin/{}", t.program()), String::new())),
        );
        for (path, text) in files {
            put(folder.path(), &path, &text);
        }
        let runner = FakeRunner::default()
            .answer("rsync -aH --dry-run", &tree_of(2000))
            .answer("rsync --list-only", BOOTS)
            .answer(
                "rsync -aHAX",
                "  1,000  50%  1.00MB/s 0:00:00\n  2,000 100%  1.00MB/s 0:00:00\n",
            )
            .answer("efibootmgr --", "")
            .answer_once("efibootmgr", BOOT_ENTRIES)
            .answer("efibootmgr", WITH_NEW_ENTRY);
        let machine = Machine {
            folder,
            plan,
            runner,
            system: FakeSystem::default(),
            listener: Listener::default(),
        };
        machine.add_disk("vda");
        machine
    }

    /// Puts a disk of 10 GiB into the machine.
    fn add_disk(&self, name: &str) {
        let sectors = ((10_u64 << 30) / 512).to_string();
        for (file, text) in [
            ("size", sectors),
            ("dev", format!("252:{}", u32::from(name.as_bytes()[2] - b'a') * 16)),
            ("queue/logical_block_size", "512".to_owned()),
            ("serial", format!("serial-{name}")),
        ] {
            put(self.folder.path(), &format!("/sys/class/block/{name}/{file}"), &text);
        }
    }

    fn execute(&mut self) -> Result<Receipt, Failure> {
        let (plan, origin) = (self.plan.clone(), origin());
        let installation = Installation {
            plan: &plan,
            facts: None,
            origin: &origin,
            log: None,
            target: self.folder.path().join("mnt/target"),
        };
        Executor {
            runner: &mut self.runner,
            system: &mut self.system,
            root: Root::new(self.folder.path()),
            events: &mut self.listener,
        }
        .execute(&installation)
    }

    /// The steps whose start was told, and whether they destroy.
    fn started(&self) -> Vec<(&str, bool)> {
        let started = self.listener.events.iter().filter_map(|event| match event {
            Event::StepStarted { step, destructive } => Some((step.as_str(), *destructive)),
            _ => None,
        });
        started.collect()
    }
}

#[test]
fn every_command_and_every_call_may_fail() {
    for firmware in ["bios", "uefi"] {
        let mut good = Machine::new(firmware);
        good.execute().unwrap();
        for (number, line) in good.runner.transcript.iter().enumerate() {
            let mut machine = Machine::new(firmware);
            machine.runner.fail_at = Some(number);
            if line.starts_with("efibootmgr") {
                machine.execute().unwrap();
                check_warning(&machine, "injected fault");
                continue;
            }
            let failure = machine.execute().unwrap_err();
            check_failure(&machine, &failure, asks(line));
            let text = crate::chain(&failure);
            assert!(text.contains("exited with 1; its last words: injected fault"), "{text}");
            // Lines name the folder of the machine that ran them; programs are the same.
            let program = line.split(' ').next().unwrap();
            assert!(text.contains(program), "`{program}` is not in: {text}");
        }
        for (number, line) in good.system.transcript.iter().enumerate() {
            let mut machine = Machine::new(firmware);
            machine.system.fail_at = Some(number);
            let failure = machine.execute().unwrap_err();
            // The claim of preflight, and that of the first step before it erases anything.
            check_failure(&machine, &failure, number <= 1);
            assert!(crate::chain(&failure).contains("injected fault"), "{line}: {failure}");
        }
    }
}

#[test]
fn a_partition_that_udev_still_looks_at_is_forgotten_a_little_later() {
    let used = || {
        let machine = Machine::new("bios");
        put(machine.folder.path(), "/sys/class/block/vda/vda1/partition", "1");
        put(machine.folder.path(), "/run/udev/control", "");
        machine
    };
    let mut good = used();
    good.execute().unwrap();
    let forgets = |line: &String| line.starts_with("partx --delete");
    let number = good.runner.transcript.iter().position(forgets).unwrap();
    assert!(good.runner.transcript[number - 1].starts_with("udevadm settle"));
    let mut busy = used();
    busy.runner.fail_at = Some(number);
    busy.execute().unwrap();
    assert_eq!(busy.runner.transcript.iter().filter(|line| forgets(line)).count(), 2);
}

/// A failure names the step that was told last, and the disks are in the state it says.
#[track_caller]
fn check_failure(machine: &Machine, failure: &Failure, untouched: bool) {
    let started = machine.started();
    assert_eq!(started.last().map(|(step, _)| *step), Some(failure.step.as_str()));
    let zeroed = machine.system.transcript.iter().rev().take(2).any(|line| line.starts_with("dd "));
    if untouched {
        assert_eq!(failure.disks, DiskState::Untouched, "{failure}");
        assert!(!zeroed, "{:?}", machine.system.transcript);
        assert!([PREFLIGHT, "clear /dev/vda"].contains(&failure.step.as_str()), "{failure}");
    } else {
        assert_eq!(failure.disks, DiskState::Cleared, "{failure}");
        assert!(zeroed, "{:?}", machine.system.transcript);
    }
}

#[test]
fn nothing_is_destroyed_before_the_server_has_agreed() {
    let mut machine = Machine::new("bios");
    machine.execute().unwrap();
    let [told] = machine.listener.confirmed_at[..] else { panic!("asked once") };
    let first = Event::StepStarted { step: "clear /dev/vda".to_owned(), destructive: true };
    assert_eq!(machine.listener.events[told - 1], first);

    let mut machine = Machine::new("bios");
    machine.listener.unconfirmed = true;
    let failure = machine.execute().unwrap_err();
    check_failure(&machine, &failure, true);
    assert!(matches!(*failure.error, StepError::Unconfirmed(_)), "{failure}");
    assert!(machine.runner.transcript.iter().all(|line| asks(line)));
    let text = crate::chain(&failure);
    assert!(text.contains("nothing was written: this ticket has ended"), "{text}");
}

#[test]
fn a_tree_that_may_not_fit_where_it_lies_destroys_nothing() {
    let gib = |size: u64| tree_of(size << 30);
    // The second disk of 10 GiB is for data alone.
    for (printed, wanted) in [
        (gib(9), None),
        (gib(10), Some("needs 10.5 GiB, the file systems for it have 9.9 GiB")),
        (gib(15), Some("needs 15.8 GiB, the file systems for it have 9.9 GiB")),
        ("motd of the daemon\n".to_owned(), Some("printed: motd of the daemon")),
    ] {
        let mut machine = Machine::new("bios");
        machine.plan = plan(TWO_DISKS, &facts(&["vda", "vdb"], "bios"), &[]);
        machine.add_disk("vdb");
        let config = format!("linux /vmlinuz root=UUID={}\n", machine.plan.root);
        put(machine.folder.path(), "/mnt/target/boot/grub2/grub.cfg", &config);
        machine.runner.answers.insert(0, ("rsync -aH --dry-run".to_owned(), printed));
        match (machine.execute(), wanted) {
            (Ok(_), None) => {}
            (Err(failure), Some(wanted)) => {
                assert_eq!(failure.disks, DiskState::Untouched);
                let text = crate::chain(&failure);
                assert!(text.contains(wanted), "{text}");
            }
            (result, wanted) => panic!("{result:?} instead of {wanted:?}"),
        }
    }
}

#[test]
fn a_tree_that_would_not_boot_destroys_nothing() {
    let mut machine = Machine::new("uefi");
    let text = BOOTS.replace("boot/vmlinuz", "boot/initrd.img").replace("x86_64-efi", "arm64-efi");
    machine.runner.answers.insert(0, ("rsync --list-only".to_owned(), text));
    let failure = machine.execute().unwrap_err();
    assert_eq!((failure.step.as_str(), failure.disks), (PREFLIGHT, DiskState::Untouched));
    let text = crate::chain(&failure);
    let wanted = "has no kernel (/boot/vmlinuz-*, package linux-image-amd64), no GRUB for UEFI \
                  (/usr/lib/grub/x86_64-efi, package grub-efi-amd64-bin): add it to the recipe";
    assert!(text.contains(wanted), "{text}");
}

#[test]
fn no_disk_is_wiped_while_another_cannot_be_had() {
    // The second disk belongs to a RAID, and somebody has it open even when that is stopped.
    for refuses in ["mdadm --stop /dev/md0", "wipefs --no-act /dev/vdb"] {
        let mut machine = Machine::new("bios");
        machine.plan = plan(TWO_DISKS, &facts(&["vda", "vdb"], "bios"), &[]);
        machine.add_disk("vdb");
        put(machine.folder.path(), "/sys/class/block/vdb/holders/md0/x", "");
        put(machine.folder.path(), "/sys/class/block/md0/md/level", "raid1");
        machine.runner.failing.push(refuses.to_owned());
        machine.system.failing.push(refuses.to_owned());
        let failure = machine.execute().unwrap_err();
        assert_eq!((failure.step.as_str(), failure.disks), (PREFLIGHT, DiskState::Untouched));
        assert!(crate::chain(&failure).contains(refuses), "{}", crate::chain(&failure));
        assert!(machine.listener.confirmed_at.is_empty(), "asked before all disks were had");
    }
}

#[test]
fn an_installation_that_the_server_ends_stops_at_the_next_step() {
    for (step, untouched) in [(PREFLIGHT, true), ("tree", false), (FINISH, false)] {
        let mut machine = Machine::new("bios");
        machine.listener.ends_at = Some(step.to_owned());
        let failure = machine.execute().unwrap_err();
        assert_eq!(failure.step, step);
        assert!(matches!(*failure.error, StepError::CalledOff(_)), "{failure}");
        check_failure(&machine, &failure, untouched);
    }
}

#[test]
fn when_clearing_fails_too_both_errors_are_told() {
    let mut machine = Machine::new("bios");
    machine.runner.failing.push("mkfs.ext4".to_owned());
    machine.system.failing.push("sync".to_owned());
    let failure = machine.execute().unwrap_err();
    assert_eq!(failure.disks, DiskState::Unknown);
    let text = crate::chain(&failure);
    for part in ["clearing failed", "`sync`", "mkfs.ext4", "UNKNOWN"] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// The one warning of an installation holds this text.
#[track_caller]
fn check_warning(machine: &Machine, part: &str) {
    let warnings: Vec<&str> = machine
        .listener
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Warning { step, text } if step == "boot loader" => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert!(matches!(warnings[..], [text] if text.contains(part)), "{warnings:?}");
}

#[test]
fn firmware_that_keeps_no_entry_keeps_the_old_one_and_is_warned_of() {
    let mut machine = Machine::new("uefi");
    machine.runner.answers.retain(|(start, _)| start != "efibootmgr");
    machine.runner = machine.runner.answer("efibootmgr", BOOT_ENTRIES);
    machine.execute().unwrap();
    check_warning(&machine, "did not keep the boot entry `edeploy`");
    let deletes = |line: &String| line.contains("--delete-bootnum");
    assert!(!machine.runner.transcript.iter().any(deletes), "{:?}", machine.runner.transcript);
}

#[test]
fn the_network_stays_first_in_the_boot_order() {
    let mut machine = Machine::new("uefi");
    machine.execute().unwrap();
    let lines: Vec<&str> = machine
        .runner
        .transcript
        .iter()
        .map(String::as_str)
        .filter(|line| line.starts_with("efibootmgr"))
        .collect();
    expect![[r#"
        efibootmgr
        efibootmgr --quiet --create-only --disk /dev/vda --part 1 --label edeploy --loader '\EFI\edeploy\grubx64.efi'
        efibootmgr
        efibootmgr --quiet --delete-bootnum --bootnum 0002
        efibootmgr --quiet --bootorder 0001,0000,0003"#]].assert_eq(&lines.join("\n"));
}

#[test]
fn all_that_is_wrong_with_the_machine_is_told_at_once() {
    let mut machine = Machine::new("bios");
    let root = Root::new(machine.folder.path());
    root.write("/sys/class/block/vda/serial", b"other", 0o644, None).unwrap();
    root.write("/sys/class/block/vda/ro", b"1\n", 0o644, None).unwrap();
    root.write("/sys/firmware/efi/x", b"", 0o644, None).unwrap();
    let mounted = b"30 1 252:0 / /data rw - ext4 /dev/vda rw\n";
    root.write("/proc/self/mountinfo", mounted, 0o644, None).unwrap();
    std::fs::remove_file(machine.folder.path().join("usr/sbin/sfdisk")).unwrap();
    machine.runner.answers.insert(0, ("rsync -aH --dry-run".to_owned(), tree_of(99_000_000_000)));
    let text = crate::chain(&machine.execute().unwrap_err()).replace("; ", ";\n");
    let here = machine.folder.path().display().to_string();
    expect![[r#"
        step `preflight` failed;
        disks: nothing was written: the plan cannot be carried out on this machine, nothing was written: the plan is for Bios firmware, this machine was started by Uefi;
        programs are missing: sfdisk;
        disk `/dev/vda` is another one than planned: its serial is other, planned was serial-vda;
        disk `/dev/vda` is read-only;
        disk `/dev/vda` is in use: /dev/vda is mounted at /data;
        role tree `rsync://10.0.2.2:1515/install/D12-F.1.0.0/mysql/` needs 96.8 GiB, the file systems for it have 9.9 GiB"#]].assert_eq(&text.replace(&here, ""));
    assert!(machine.runner.transcript.iter().all(|line| asks(line)));
}
