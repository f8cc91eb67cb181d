//! Loads the drivers of whatever hardware is there, and names the firmware that is missing.
//!
//! The kernel and udev already know which module drives which device, from the modules' own
//! tables; replaying the kernel's announcements (`udevadm trigger`) loads them all in parallel,
//! with the aliases, options and orderings that the distribution maintains. Walking `/sys` for
//! `modalias` ourselves would repeat that, and udev is needed anyway for `/dev/disk/by-*`.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};

use crate::detect::disks;
use crate::report::Console;
use crate::world::{Cmd, CmdError, Program, Root, Runner, Tool};

const UDEVD: &str = "/usr/lib/systemd/systemd-udevd";

/// Slow RAID controllers take half a minute to find their disks.
const SETTLE: Duration = Duration::from_secs(60);

/// So long must the list of disks stay the same, on a machine whose controllers may still search.
const DISKS_AT_REST: Duration = Duration::from_secs(2);

/// How often the list is looked at, and for how long at most.
const DISKS_STEP: Duration = Duration::from_millis(200);
const DISKS_TIMEOUT: Duration = Duration::from_secs(60);

/// Debian packages by the beginning of the firmware files they hold: what network cards of
/// servers ask for. The longest beginning comes first where one is part of another.
const FIRMWARE_PACKAGES: [(&str, &str); 20] = [
    ("bnx2x/", "firmware-bnx2x"),
    ("bnx2x-", "firmware-bnx2x"),
    ("bnx2/", "firmware-bnx2"),
    ("bnx2-", "firmware-bnx2"),
    ("ql2", "firmware-qlogic"),
    ("qed/", "firmware-qlogic"),
    ("qlogic/", "firmware-qlogic"),
    ("phanfw", "firmware-netxen"),
    ("netronome/", "firmware-netronome"),
    ("liquidio/", "firmware-cavium"),
    ("myri10ge", "firmware-myricom"),
    ("rtl_nic/", "firmware-realtek"),
    ("cxgb3/", "firmware-misc-nonfree"),
    ("cxgb4/", "firmware-misc-nonfree"),
    ("e100/", "firmware-misc-nonfree"),
    ("intel/ice/", "firmware-misc-nonfree"),
    ("mellanox/", "firmware-misc-nonfree"),
    ("slicoss/", "firmware-misc-nonfree"),
    ("tehuti/", "firmware-misc-nonfree"),
    ("tigon/", "firmware-misc-nonfree"),
];

/// Starts udev and lets it load every driver. An initramfs without udev keeps the drivers that
/// the kernel has built in.
pub fn load(runner: &mut dyn Runner, root: &Root, console: &Console) -> Result<String, CmdError> {
    if !has_udev(root) {
        console.note(&format!("no {UDEVD} here: only the kernel's own drivers"));
        return Ok("of the kernel".to_owned());
    }
    for cmd in coldplug() {
        runner.run(&cmd)?;
    }
    settle(runner, console);
    mount_firmware_variables(root, console);
    Ok(String::new())
}

/// Whether there is a udev to start; an initramfs made by hand may have none.
pub fn has_udev(root: &Root) -> bool {
    root.is_file(UDEVD)
}

/// The commands that start udev and replay what the kernel announced before it ran.
fn coldplug() -> [Cmd; 3] {
    let udevd = Program::Named(UDEVD.to_owned());
    [
        Cmd::of(udevd, &["--daemon"]).why("loads drivers and makes device links"),
        trigger("subsystems"),
        trigger("devices"),
    ]
}

fn trigger(kind: &str) -> Cmd {
    Cmd::new(Tool::Udevadm, &["trigger", &format!("--type={kind}"), "--action=add"])
        .why(format!("replays the kernel's announcements of {kind}"))
}

/// Waits until udev has nothing to do. A device that never comes to rest must not hold the
/// others: after the deadline the agent goes on with what is there.
pub fn settle(runner: &mut dyn Runner, console: &Console) {
    let timeout = format!("--timeout={}", SETTLE.as_secs());
    let cmd = Cmd::new(Tool::Udevadm, &["settle", &timeout])
        .why("waits for drivers and device links")
        .deadline(SETTLE + Duration::from_secs(5));
    if let Err(error) = runner.run(&cmd) {
        console.note(&format!("going on although udev is still busy: {}", crate::chain(&error)));
    }
}

/// Waits until no more disks are found. udev does not know of a search that goes on behind a
/// driver that has been loaded: SAS topologies, targets that spin up, USB sticks. Machines without
/// such hosts do not wait. Says whether disks were found meanwhile.
pub fn await_disks(root: &Root, console: &Console, sleep: &dyn Fn(Duration)) -> bool {
    let first = disks::names(root);
    if !has_searching_host(root) {
        return false;
    }
    let (mut known, mut at_rest, mut waited) = (first.clone(), Duration::ZERO, Duration::ZERO);
    while at_rest < DISKS_AT_REST && waited < DISKS_TIMEOUT {
        sleep(DISKS_STEP);
        waited += DISKS_STEP;
        let now = disks::names(root);
        at_rest = if now == known { at_rest + DISKS_STEP } else { Duration::ZERO };
        known = now;
    }
    if at_rest < DISKS_AT_REST {
        console.note(&format!(
            "going on although disks still come and go after {} s",
            DISKS_TIMEOUT.as_secs()
        ));
    }
    known != first
}

/// Whether there is a SCSI, SAS or USB storage host. Those of libata, which every PC chipset has,
/// have found their disks when their driver is loaded.
fn has_searching_host(root: &Root) -> bool {
    let hosts = root.names("/sys/class/scsi_host").unwrap_or_default();
    hosts.iter().any(|host| {
        let device = root.resolve(&format!("/sys/class/scsi_host/{host}")).unwrap_or_default();
        !device.components().any(|part| {
            let number = part.as_os_str().to_str().and_then(|part| part.strip_prefix("ata"));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        })
    })
}

/// Boot entries of UEFI firmware are files of a file system of its own.
fn mount_firmware_variables(root: &Root, console: &Console) {
    let variables = "/sys/firmware/efi/efivars";
    if !root.is_dir(variables) || root.names(variables).is_ok_and(|names| !names.is_empty()) {
        return;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let kind = Some("efivarfs");
    if let Err(errno) = mount(kind, Path::new(variables), kind, flags, None::<&str>) {
        console.note(&format!("no boot entry can be made: cannot mount efivarfs: {errno}"));
    }
}

/// The kernel's messages since boot, without their time stamps.
pub fn kernel_log() -> Vec<String> {
    let mut messages = Vec::new();
    let Ok(mut log) =
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open("/dev/kmsg")
    else {
        return messages;
    };
    // One read, one record: `priority,sequence,time,flags;text`, then lines of its properties.
    let mut record = [0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]).into_owned();
                if let Some((_, text)) = text.split_once(';') {
                    messages.push(text.lines().next().unwrap_or_default().to_owned());
                }
            }
            // The oldest records were overwritten while we read: the next read goes on behind.
            Err(error) if error.raw_os_error() == Some(nix::libc::EPIPE) => {}
            Err(_) => break,
        }
    }
    messages
}

/// One sentence per firmware file that a driver asked for in vain: who asked, and what to add.
pub fn missing_firmware(kernel_log: &[String]) -> BTreeSet<String> {
    kernel_log.iter().filter_map(|message| missing_file(message)).collect()
}

fn missing_file(message: &str) -> Option<String> {
    // Debian's kernel and the original one word it differently.
    let (device, rest) = message
        .split_once(": firmware: failed to load ")
        .or_else(|| message.split_once(": Direct firmware load for "))?;
    let file = rest.split_whitespace().next()?;
    let package = FIRMWARE_PACKAGES.iter().find(|(start, _)| file.starts_with(start));
    let advice = match package {
        Some((_, package)) => format!("add the Debian package {package} to the initrd"),
        None => "no package is known to hold it".to_owned(),
    };
    Some(format!("{device}: firmware {file} is missing: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::console;
    use crate::world::FakeRunner;

    #[test]
    fn firmware_that_is_missing_is_named_with_its_package() {
        let log = [
            "bnx2 0000:03:00.0: firmware: failed to load bnx2/bnx2-mips-09-6.2.1b.fw (-2)",
            "firmware_class: See https://wiki.debian.org/Firmware for information about missing firmware",
            "bnx2x 0000:04:00.1: Direct firmware load for bnx2x/bnx2x-e2-7.13.21.0.fw failed with error -2",
            "bnx2 0000:03:00.0: firmware: failed to load bnx2/bnx2-mips-09-6.2.1b.fw (-2)",
            "nic 0000:05:00.0: Direct firmware load for unheard/of.bin failed with error -2",
            "ice 0000:06:00.0: firmware: direct-loading firmware intel/ice/ddp/ice.pkg",
        ]
        .map(str::to_owned);
        let named: Vec<String> = missing_firmware(&log).into_iter().collect();
        assert_eq!(
            named,
            [
                "bnx2 0000:03:00.0: firmware bnx2/bnx2-mips-09-6.2.1b.fw is missing: add the \
                 Debian package firmware-bnx2 to the initrd",
                "bnx2x 0000:04:00.1: firmware bnx2x/bnx2x-e2-7.13.21.0.fw is missing: add the \
                 Debian package firmware-bnx2x to the initrd",
                "nic 0000:05:00.0: firmware unheard/of.bin is missing: no package is known to \
                 hold it",
            ]
        );
    }

    #[test]
    fn udev_is_started_triggered_and_awaited() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let (console, screen) = console();
        let mut runner = FakeRunner::default();
        assert_eq!(load(&mut runner, &root, &console).unwrap(), "of the kernel");
        assert!(runner.transcript.is_empty());
        root.write(UDEVD, b"", 0o755, None).unwrap();
        runner.failing.push("udevadm settle".to_owned());
        load(&mut runner, &root, &console).unwrap();
        expect_test::expect![[r#"
            /usr/lib/systemd/systemd-udevd --daemon
            udevadm trigger --type=subsystems --action=add
            udevadm trigger --type=devices --action=add
            udevadm settle --timeout=60"#]]
        .assert_eq(&runner.transcript.join("\n"));
        assert!(screen.text().contains("going on although udev is still busy: `udevadm settle"));
    }

    /// A machine with one disk and a storage host at this place below `/sys/devices`.
    fn storage(host: Option<&str>) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        add_disk(&root, "vda");
        if let Some(host) = host {
            let class = folder.path().join("sys/class/scsi_host");
            root.create_dirs(&format!("/sys/devices/{host}"), 0o755).unwrap();
            std::fs::create_dir_all(&class).unwrap();
            let target = format!("../../devices/{host}");
            std::os::unix::fs::symlink(target, class.join("host0")).unwrap();
        }
        (folder, root)
    }

    fn add_disk(root: &Root, name: &str) {
        for (file, content) in [("size", "2048"), ("device/model", "x")] {
            let path = format!("/sys/block/{name}/{file}");
            root.write(&path, content.as_bytes(), 0o644, None).unwrap();
        }
    }

    #[test]
    fn disks_are_awaited_where_a_host_may_still_search() {
        use std::cell::Cell;
        let sas = Some("pci0000:00/0000:03:00.0/host0/scsi_host/host0");
        let ata = Some("pci0000:00/0000:00:01.1/ata1/host0/scsi_host/host0");
        // Host; every how many steps a disk is found, and how many; then found, seconds, noted.
        for (host, every, disks, found, seconds, noted) in [
            (None, 1, 1, false, 0.0, false),
            (ata, 1, 1, false, 0.0, false),
            (sas, 1, 0, false, 2.0, false),
            (sas, 5, 3, true, 5.0, false),
            (sas, 9, usize::MAX, true, 60.0, true),
        ] {
            let (_folder, root) = storage(host);
            let (console, screen) = console();
            let steps = Cell::new(0_usize);
            let result = await_disks(&root, &console, &|step| {
                assert_eq!(step, DISKS_STEP);
                steps.set(steps.get() + 1);
                if steps.get().is_multiple_of(every) && steps.get() / every <= disks {
                    add_disk(&root, &format!("sd{}", steps.get()));
                }
            });
            let waited = DISKS_STEP.as_secs_f64() * steps.get() as f64;
            assert_eq!((result, waited), (found, seconds), "{host:?} {every}");
            assert_eq!(screen.text().contains("disks still come and go"), noted, "{host:?}");
        }
    }
}
