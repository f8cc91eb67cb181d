//! The main job under BIOS, and what must not happen to a machine that is installed: one story,
//! since every boot of it is needed by the next.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::books::{Books, field};
use lab::disk::DiskState;
use lab::installation::{
    Installation, disk_only, install, knows_the_card_it_was_started_by, memory_needed, promised,
    shut_down, tell, wait_for_login,
};
use lab::process::{Lifetime, Service};
use lab::proof::{Promise, prove};
use lab::services::free_port;
use lab::site::{Overrides, Site};
use lab::ssh::Login;
use lab::vm::{Console, Forward, Machine};
use specs::facts::Firmware;

use crate::on_a_site;

/// How long the server stays away after it was first asked.
const ABSENCE: Duration = Duration::from_secs(60);

/// From power-on to the upload, and from power-on to the tree.
const UPLOAD_DEADLINE: Duration = Duration::from_secs(180);

#[test]
fn a_rack_of_two_from_pxe_to_login_and_again() {
    on_a_site("rack", &Overrides::default(), |site| {
        let _rsync_daemon = site.start_rsync_daemon()?;
        let memory = memory_needed(Firmware::Bios);
        let first = site.machine("first", Firmware::Bios, memory, &[10 << 30, 5 << 30])?;

        let (installation, _server) = installs_once_the_server_is_there(site, &first)?;
        knows_the_card_it_was_started_by(&installation, &first)?;
        the_books_read_as_in_the_readme(site, &first)?;
        let files = it_is_what_was_promised(site, &first)?;
        never_named_disk_is_untouched(&first)?;

        // The second machine is independent of the first one's further life.
        std::thread::scope(|scope| -> Result<()> {
            let second = scope.spawn(|| a_reset_in_the_middle_takes_nothing_more(site));
            it_boots_its_disk_from_the_network(site, &first, &files)?;
            let second = second.join().unwrap_or_else(|panic| resume_unwind(panic));
            second.context("the second machine")
        })?;
        reinstall_installs_once(site, &first)
    });
}

/// The agent waits for a server that is not there, and goes on when it is.
fn installs_once_the_server_is_there(
    site: &Site,
    machine: &Machine,
) -> Result<(Installation, Service)> {
    std::thread::scope(|scope| {
        let installation = scope.spawn(|| install(site, machine, "install"));
        let mut console = Console::new(&machine.console("install"));
        console.expect("attempt 1: ", UPLOAD_DEADLINE, || Ok(true), |_| {})?;
        std::thread::sleep(ABSENCE);
        let server = site.start_server()?;
        let installation = installation.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        let waited =
            |line: &String| line.contains("attempt 2: ") && line.contains("Connection refused");
        let report = installation.report.join("\n");
        ensure!(installation.report.iter().any(waited), "no attempt is visible:\n{report}");
        Ok((installation, server))
    })
}

fn the_books_read_as_in_the_readme(site: &Site, machine: &Machine) -> Result<()> {
    let books = Books::read(site)?;
    let entry = books.entry_of(&machine.mac)?;
    let values = [
        ("disk", "vda"),
        ("eth", "eth0"),
        ("hostname", "host03"),
        ("ip", "10.0.2.103"),
        ("mac", &machine.mac),
        ("used", "1"),
    ];
    for (key, value) in values {
        ensure!(field(entry, key)? == value, "`{key}` is not `{value}` in {entry:?}");
    }
    ensure!(books.used().len() == 1 && books.left == Some(3), "{books:?}");
    Ok(())
}

/// Boots from the disk alone and asks; returns what the machine's files are.
fn it_is_what_was_promised(site: &Site, machine: &Machine) -> Result<BTreeSet<String>> {
    let (hostname, address) = promised(site, machine)?;
    let (machine, port) = disk_only(machine, &address)?;
    let vm = machine.start(site.accelerator, "boot", Lifetime::Scoped)?;
    let login = site.login(port);
    wait_for_login(&vm, &login)?;
    let rsync_port = site.ports.rsync;
    let firmware = machine.firmware;
    let promise = Promise { hostname, address, firmware, rsync_port, secrets: Vec::new() };
    prove(&login, &promise)?;
    let files = files_of(&login)?;
    shut_down(&vm, &login)?;
    Ok(files)
}

/// Every file of the root file system with size and time, but for what a running system writes.
fn files_of(login: &Login) -> Result<BTreeSet<String>> {
    let list = "find / -xdev ( -path /var -o -path /tmp -o -path /root ) -prune \
                -o -type f -printf %p\\ %s\\ %T@\\\\n";
    let list = list.replace('(', "\\(").replace(')', "\\)");
    let files: BTreeSet<String> = login.run(&list)?.lines().map(str::to_owned).collect();
    ensure!(files.len() > 1000, "only {} files", files.len());
    Ok(files)
}

fn never_named_disk_is_untouched(machine: &Machine) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let image = &machine.disks[1].image;
    ensure!(image.metadata()?.blocks() == 0, "something was written to the second disk");
    Ok(())
}

/// Network first, and installed: the agent says so and boots the disk.
fn it_boots_its_disk_from_the_network(
    site: &Site,
    machine: &Machine,
    files: &BTreeSet<String>,
) -> Result<()> {
    let disk = DiskState::read(&machine.disks[0].image)?;
    let (hostname, address) = promised(site, machine)?;
    let port = free_port()?;
    let forwards = vec![Forward { port, to: format!("{address}:22") }];
    let machine = Machine { forwards, ..machine.clone() };
    let mut vm = machine.start(site.accelerator, "again", Lifetime::Scoped)?;
    let line = vm.watch(&format!("installed as {hostname} on "), UPLOAD_DEADLINE, tell)?;
    let hint = "booting from disk (to install again: edeploy-server reinstall host03)";
    ensure!(line.contains(hint), "no hint in `{line}`");
    let login = site.login(port);
    wait_for_login(&vm, &login)?;
    ensure!(login.run("hostname")? == hostname);
    let now = files_of(&login)?;
    let changed: Vec<&String> = now.symmetric_difference(files).collect();
    ensure!(changed.is_empty(), "files have changed: {changed:#?}");
    shut_down(&vm, &login)?;
    ensure!(DiskState::read(&machine.disks[0].image)? == disk, "the partition table has changed");
    ensure!(Books::read(site)?.entry_of(&machine.mac)?.get("hostname").is_some());
    Ok(())
}

/// The second machine gets the second entry. Its power is cut while the tree is copied; it
/// installs again, as the same host, and no second count is taken.
fn a_reset_in_the_middle_takes_nothing_more(site: &Site) -> Result<()> {
    let memory = memory_needed(Firmware::Bios);
    let second = site.machine("second", Firmware::Bios, memory, &[10 << 30])?;
    let mut vm = second.start(site.accelerator, "cut", Lifetime::Scoped)?;
    vm.watch("[ .... ] tree", UPLOAD_DEADLINE, tell)?;
    vm.cut_power()?;
    let held = |when: &str| -> Result<()> {
        let books = Books::read(site)?;
        let hostname = field(books.entry_of(&second.mac)?, "hostname")?;
        ensure!(hostname == "host04", "{when} it holds {hostname}");
        ensure!(books.used().len() == 2 && books.left == Some(2), "{when}: {books:?}");
        Ok(())
    };
    held("after the power cut")?;
    install(site, &second, "install")?;
    held("after the installation")?;
    let (_, address) = promised(site, &second)?;
    let (machine, port) = disk_only(&second, &address)?;
    let vm = machine.start(site.accelerator, "boot", Lifetime::Scoped)?;
    let login = site.login(port);
    wait_for_login(&vm, &login)?;
    ensure!(login.run("hostname")? == "host04", "it calls itself something else");
    shut_down(&vm, &login)
}

fn reinstall_installs_once(site: &Site, machine: &Machine) -> Result<()> {
    let left = Books::read(site)?.left;
    site.admin(&["reinstall", "host03"])?;
    let installation = install(site, machine, "reinstall")?;
    println!("{}", installation.table());
    // How long the agent itself took is read, never asserted: cores are shared with others.
    ensure!(installation.agents_own() > 0.0, "the table of durations lacks the agent's steps");
    let books = Books::read(site)?;
    ensure!(field(books.entry_of(&machine.mac)?, "hostname")? == "host03", "{books:?}");
    ensure!(books.left == left, "the count went from {left:?} to {:?}", books.left);
    // Once: the next boot finds it installed.
    let mut vm = machine.start(site.accelerator, "after", Lifetime::Scoped)?;
    vm.watch("installed as host03 on ", UPLOAD_DEADLINE, tell)?;
    vm.cut_power()
}
