//! The main job under UEFI, with names, addresses and a second disk of the caller's own.

use anyhow::{Context, Result, ensure};
use lab::disk::DiskState;
use lab::efi_variables::boot_order;
use lab::installation::{
    disk_only, install, knows_the_card_it_was_started_by, memory_needed, promised, shut_down,
    wait_for_login,
};
use lab::process::Lifetime;
use lab::proof::{Promise, prove};
use lab::site::{Overrides, Site};
use lab::ssh::Login;
use lab::vm::Machine;
use specs::facts::Firmware;

use crate::{file, on_a_site};

const SECRET: &str = "correct-horse-battery";

/// The GPT type of an EFI system partition.
const ESP: &str = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";

const SPECS: &str = r#"[
    ("disk", "$system", "size", "gt(8)"),
    ("disk", "$data", "size", "and(gt(2), lt(8))"),
    ("network", "$nic", "serial", "$mac"),
    ("system", "firmware", "type", "uefi"),
]"#;

const CONFIGURE: &str = r#"(
    role: (name: "mysql", version: "D12-F.1.0.0"),
    hostname: "{{ hostname }}",
    disks: [
        (device: "/dev/{{ system }}", table: gpt, boot: auto, partitions: [
            (label: "root", size: "rest", use: filesystem(type: ext4, mount: "/")),
        ]),
        (device: "/dev/{{ data }}", table: gpt, partitions: [
            (label: "data", size: "rest", use: filesystem(type: xfs, mount: "/srv/data")),
        ]),
    ],
    network: (interfaces: [
        (name: "{{ nic }}", mac: "{{ mac }}", address: static("{{ ip }}/24"), gateway: "10.0.2.2"),
    ]),
    kernel_args: ["console=ttyS0,115200n8"],
    run: [(name: "ssh server", at: after_tree, chroot: true,
           command: ["systemctl", "enable", "ssh.service"])],
)"#;

#[test]
fn a_database_server_with_two_disks() {
    let scratch = tempfile::tempdir().unwrap();
    let cmdb = format!(
        "[{{'ip': '10.0.2.61', 'hostname': 'db01', 'ipmi_password': '{SECRET}'}}]  # Python\n"
    );
    let overrides = Overrides {
        specs: Some(file(scratch.path(), "vm.specs", SPECS)),
        cmdb: Some(file(scratch.path(), "vm.cmdb", &cmdb)),
        configure: Some(file(scratch.path(), "vm.configure", CONFIGURE)),
    };
    on_a_site("uefi", &overrides, |site| {
        let _server = site.start_server()?;
        let _rsync_daemon = site.start_rsync_daemon()?;
        let memory = memory_needed(Firmware::Uefi);
        let machine = site.machine("db", Firmware::Uefi, memory, &[10 << 30, 5 << 30])?;
        let installation = install(site, &machine, "install")?;
        knows_the_card_it_was_started_by(&installation, &machine)?;
        the_network_stays_first(&machine)?;
        the_disks_hold_what_was_configured(&machine)?;
        boots_by(site, &machine, "boot", true)?;
        // A new board has forgotten its boot entries: the fallback path is what is left.
        std::fs::remove_file(machine.variables()).context("forgetting the boot entries")?;
        boots_by(site, &machine, "fallback", false)
    });
}

/// As the installation has left the firmware, before it is started again.
fn the_network_stays_first(machine: &Machine) -> Result<()> {
    let order = boot_order(&machine.variables())?;
    ensure!(order[0].contains("PXE"), "the network is not tried first: {order:?}");
    let ours: Vec<&String> = order.iter().filter(|label| *label == "edeploy").collect();
    ensure!(ours.len() == 1, "not one entry of the installed system: {order:?}");
    Ok(())
}

fn the_disks_hold_what_was_configured(machine: &Machine) -> Result<()> {
    let system = DiskState::read(&machine.disks[0].image)?;
    ensure!(system.table.as_deref() == Some("gpt"), "{system:?}");
    let esp = system.partitions.first().context("no partitions")?;
    ensure!(esp.kind == ESP && esp.sectors == (512 << 20) / 512, "{esp:?}");
    let data = DiskState::read(&machine.disks[1].image)?;
    ensure!(data.partitions.len() == 1, "{data:?}");
    Ok(())
}

fn boots_by(site: &Site, machine: &Machine, run: &str, entry: bool) -> Result<()> {
    let (hostname, address) = promised(site, machine)?;
    ensure!(hostname == "db01" && address == "10.0.2.61", "{hostname} {address}");
    let (machine, port) = disk_only(machine, &address)?;
    let vm = machine.start(site.accelerator, run, Lifetime::Scoped)?;
    let login = site.login(port);
    wait_for_login(&vm, &login)?;
    if entry {
        let rsync_port = site.ports.rsync;
        let secrets = vec![SECRET.to_owned()];
        let firmware = machine.firmware;
        prove(&login, &Promise { hostname, address, firmware, rsync_port, secrets })?;
        the_second_disk_is_mounted(&login)?;
    } else {
        ensure!(login.run("hostname")? == hostname, "it calls itself something else");
    }
    shut_down(&vm, &login)
}

fn the_second_disk_is_mounted(login: &Login) -> Result<()> {
    let mounted = login.run("findmnt --noheadings --output SOURCE,FSTYPE /srv/data")?;
    let words: Vec<&str> = mounted.split_whitespace().collect();
    ensure!(words == ["/dev/vdb1", "xfs"], "/srv/data is `{mounted}`");
    Ok(())
}
