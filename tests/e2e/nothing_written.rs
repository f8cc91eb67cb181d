//! Faults before the first write: the machine says what is wrong, obeys ONFAILURE, and its disk
//! is the same byte for byte.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::books::Books;
use lab::disk::{checksum, precious};
use lab::installation::tell;
use lab::process::Lifetime;
use lab::site::{Overrides, Site};
use specs::facts::Firmware;

use crate::{file, on_a_site};

/// From power-on to ONFAILURE, under emulation on busy cores.
const DEADLINE: Duration = Duration::from_secs(300);

/// Boots a machine with a disk that somebody would miss; it must print every text, switch itself
/// off, and leave disk and books as they were.
fn fails_untouched(site: &Site, bytes: u64, texts: &[&str]) -> Result<()> {
    let machine = site.machine("machine", Firmware::Bios, 384, &[bytes])?;
    let image = &machine.disks[0].image;
    precious(image, bytes)?;
    let before = checksum(image)?;
    let mut vm = machine.start(site.accelerator, "fails", Lifetime::Scoped)?;
    vm.watch("in all", DEADLINE, tell)?;
    vm.wait_for_end(Duration::from_secs(60))?;
    let console = vm.console().text();
    for text in texts {
        ensure!(
            console.contains(text),
            "`{text}` is not on the console:\n{}",
            vm.console().tail(40)
        );
    }
    ensure!(checksum(image)? == before, "the disk has changed");
    Ok(())
}

#[test]
fn a_machine_that_fits_nothing_is_told_why() {
    on_a_site("fits-nothing", &Overrides::default(), |site| {
        let _server = site.start_server()?;
        let _rsync_daemon = site.start_rsync_daemon()?;
        // 3 GiB are 3 GB rounded down; the profile wants more than 4.
        fails_untouched(site, 3 << 30, &["vm", "gt(4)", "nearest", "3"])?;
        let books = Books::read(site)?;
        ensure!(books.used().is_empty() && books.left == Some(4), "it took something: {books:?}");
        Ok(())
    });
}

#[test]
fn without_an_rsync_daemon_nothing_is_begun() {
    on_a_site("no-rsync", &Overrides::default(), |site| {
        let _server = site.start_server()?;
        let address = format!("rsync://10.0.2.2:{}", site.ports.rsync);
        fails_untouched(site, 5 << 30, &[&address, "nothing was written"])
    });
}

/// A kernel that was built for other machines: it would install well, and wait for its root file
/// system for ever.
#[test]
fn a_role_whose_kernel_does_not_reach_the_disk_is_refused() {
    on_a_site("no-driver", &Overrides::default(), |site| {
        let versions = site.directory.join("install/D12-F.1.0.0/mysql/usr/lib/modules");
        let versions = fs::read_dir(&versions).with_context(|| versions.display().to_string())?;
        for version in versions {
            let version = version?.path();
            for table in ["modules.alias", "modules.dep"] {
                let (table, other) = (version.join(table), version.join("other"));
                let text = fs::read_to_string(&table)?;
                let others = text.lines().filter(|line| !line.contains("virtio_blk"));
                fs::write(&other, others.map(|line| format!("{line}\n")).collect::<String>())?;
                // A name of its own first: the site's files are the cache's as well.
                fs::rename(&other, &table)?;
            }
        }
        let _server = site.start_server()?;
        let _rsync_daemon = site.start_rsync_daemon()?;
        let wanted = "has no driver `virtio_blk` for /dev/vda in its kernel 6.1.0-";
        fails_untouched(site, 5 << 30, &[wanted, "nothing was written"])
    });
}

#[test]
fn a_plan_that_does_not_fit_the_disk_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let configure = r#"(
        role: (name: "mysql", version: "D12-F.1.0.0"),
        hostname: "{{ hostname }}",
        disks: [(device: "/dev/{{ disk }}", table: gpt, boot: auto, partitions: [
            (label: "root", size: "20GiB", use: filesystem(type: ext4, mount: "/")),
        ])],
    )"#;
    let configure = Some(file(scratch.path(), "vm.configure", configure));
    on_a_site("too-small", &Overrides { configure, ..Overrides::default() }, |site| {
        let _server = site.start_server()?;
        let _rsync_daemon = site.start_rsync_daemon()?;
        fails_untouched(site, 5 << 30, &["/dev/vda", "20 GiB"])?;
        let books = Books::read(site)?;
        ensure!(books.used().is_empty() && books.left == Some(4), "it took something: {books:?}");
        Ok(())
    });
}

/// The boot program got an address; the agent is told to use a VLAN, in which nobody gives any: the
/// switch port that is configured otherwise than the admin believes.
#[test]
fn without_a_dhcp_answer_nothing_is_begun() {
    on_a_site("no-dhcp", &Overrides::default(), |site| {
        let _server = site.start_server()?;
        site.set_arguments("IP=eth0:dhcp@30")?;
        let texts = [
            "eth0.30: no DHCP answer (round 1 of 6, ",
            "eth0.30: no DHCP answer (round 6 of 6, ",
            "no network: no DHCP answer in 6 rounds: eth0.30 (virtio_net): link",
            "power off",
        ];
        fails_untouched(site, 5 << 30, &texts)?;
        let books = Books::read(site)?;
        ensure!(books.used().is_empty() && books.left == Some(4), "it took something: {books:?}");
        Ok(())
    });
}
