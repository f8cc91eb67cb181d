//! Group `boot`: the main job on disks that hang elsewhere than in the samples.

use anyhow::{Result, ensure};
use lab::artifacts::Artifacts;
use lab::installation::{disk_only, install, memory_needed, promised, shut_down, wait_for_login};
use lab::process::Lifetime;
use lab::site::{Overrides, Ports, Site};
use lab::vm::Bus;
use specs::facts::Firmware;

/// Installs on a disk of this kind, boots from it, and asks where the root file system is.
#[track_caller]
fn check(bus: Bus, firmware: Firmware, device: &str) {
    let run = || -> Result<()> {
        let artifacts = Artifacts::locate();
        artifacts.check()?;
        let scratch = tempfile::tempdir_in(artifacts.cache.join("lab"))?;
        let overrides = Overrides::default();
        let ports = Ports::free()?;
        let site = Site::new(scratch.path(), &artifacts, ports, &overrides, Lifetime::Scoped)?;
        let _server = site.start_server()?;
        let _rsync_daemon = site.start_rsync_daemon()?;
        let memory = memory_needed(firmware);
        let mut machine = site.machine("machine", firmware, memory, &[10 << 30])?;
        machine.disks[0].bus = bus;
        install(&site, &machine, "install")?;
        let (_, address) = promised(&site, &machine)?;
        let (machine, port) = disk_only(&machine, &address)?;
        let vm = machine.start(site.accelerator, "boot", Lifetime::Scoped)?;
        let login = site.login(port);
        wait_for_login(&vm, &login)?;
        let root = login.run("findmnt --noheadings --output SOURCE /")?;
        ensure!(root.starts_with(device), "/ is on {root}, not on {device}");
        shut_down(&vm, &login)
    };
    run().unwrap();
}

#[test]
fn nvme_under_uefi() {
    check(Bus::Nvme, Firmware::Uefi, "/dev/nvme0n1p");
}

#[test]
fn sata_under_bios() {
    check(Bus::Sata, Firmware::Bios, "/dev/sda");
}
