//! A machine whose tree comes over HTTP: no rsync daemon is there while it installs. It also shows
//! that VERBOSE=1 prints every command.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use lab::installation::{disk_only, install, memory_needed, promised, shut_down, wait_for_login};
use lab::process::Lifetime;
use lab::proof::{Promise, prove};
use lab::services::{free_port, web_server};
use lab::site::{Overrides, Site};
use lab::vm::Machine;
use specs::facts::Firmware;

use crate::on_a_site;

#[test]
fn a_machine_installs_from_an_archive() {
    on_a_site("http", &Overrides::default(), |site| {
        let _server = site.start_server()?;
        let (folder, port) = (&site.directory, free_port()?);
        // The published archives: the lab's own trees differ from them, by its key.
        let files = folder.join("www");
        std::fs::create_dir(&files)?;
        std::os::unix::fs::symlink(&site.artifacts.install, files.join("install"))?;
        let _archives = web_server(folder, port, &files, Lifetime::Scoped)?;
        site.set_arguments(&format!("HSERV=10.0.2.2 HSERV_PORT={port} VERBOSE=1"))?;
        let login = site.login(0);
        let_in(&site.config("vm.configure"), &login.key.with_extension("pub"))?;

        let memory = memory_needed(Firmware::Bios);
        let machine = site.machine("machine", Firmware::Bios, memory, &[10 << 30])?;
        let installation = install(site, &machine, "install")?;
        println!("{}", installation.table());
        for text in ["+ mkfs.ext4 ", "+ chroot /mnt/target grub-install "] {
            let shown = installation.report.iter().any(|line| line.contains(text));
            ensure!(shown, "no `{text}` in:\n{}", installation.report.join("\n"));
        }
        it_is_the_role(site, &machine)
    })
}

/// Gives root the lab's key by the configure file.
fn let_in(configure: &Path, key: &Path) -> Result<()> {
    let key = std::fs::read_to_string(key)?;
    let file = format!(
        "files: [(path: \"/root/.ssh/authorized_keys\", content: {:?}, mode: \"0600\"),",
        key
    );
    let text = std::fs::read_to_string(configure)?;
    let (before, after) = text.split_once("files: [").context("the sample has files")?;
    Ok(std::fs::write(configure, format!("{before}{file}{after}"))?)
}

fn it_is_the_role(site: &Site, machine: &Machine) -> Result<()> {
    let (hostname, address) = promised(site, machine)?;
    let (machine, port) = disk_only(machine, &address)?;
    // Upgrades come by rsync, whatever the installation came by.
    let _rsync_daemon = site.start_rsync_daemon()?;
    let vm = machine.start(site.accelerator, "boot", Lifetime::Scoped)?;
    let login = site.login(port);
    wait_for_login(&vm, &login)?;
    let (firmware, rsync_port) = (machine.firmware, site.ports.rsync);
    prove(&login, &Promise { hostname, address, firmware, rsync_port, secrets: Vec::new() })?;
    shut_down(&vm, &login)
}
