//! The lab by hand: what `scripts/lab` runs. Builds everything, boots one machine from the
//! network, lets it install, boots it from its disk, logs in and asks it what it is.

#![expect(clippy::print_stdout, reason = "this program's answer is what it prints")]

mod kept;
mod options;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use lab::artifacts::{Artifacts, BOOT_LIMIT};
use lab::books::Books;
use lab::installation::{Installation, disk_only, install, promised, shut_down, wait_for_login};
use lab::process::Lifetime;
use lab::proof::{Promise, prove};
use lab::say;
use lab::scratch::Scratch;
use lab::site::{Overrides, Ports, Site};
use lab::vm::Machine;

use crate::options::{Options, Work};

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match &options.work {
        Some(Work::Storm(options)) => {
            lab::storm::storm(options).map(|line| println!("storm: OK {line}"))
        }
        Some(Work::BenchServer(options)) => lab::bench::bench(options),
        None if options.stop => kept::stop(),
        None => run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("FAILED: {error:#}"));
            ExitCode::from(3)
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    let artifacts = Artifacts::build()?;
    print_sizes(&artifacts)?;
    // What is kept on purpose has a name that no later run takes away.
    let name = if options.keep { "kept" } else { "site" };
    let directory = Scratch::new(&artifacts.cache.join("lab"), name)?;
    let result = installation_and_boot(options, &artifacts, directory.path());
    let last = match &result {
        Ok(last) if !options.keep => format!("{last} in {} s", start.elapsed().as_secs()),
        Ok(last) => {
            let _ = directory.keep();
            last.clone()
        }
        Err(_) => {
            // The corpse: configuration, logs, disks, consoles.
            say(&format!("everything of it lies in {}", directory.keep().display()));
            return result.map(|_| ());
        }
    };
    println!("lab: OK {last}");
    Ok(())
}

/// Returns the host name, as the machine itself said it, and the rest of the last line.
fn installation_and_boot(
    options: &Options,
    artifacts: &Artifacts,
    directory: &Path,
) -> Result<String> {
    let lifetime = if options.keep { Lifetime::Kept } else { Lifetime::Scoped };
    let overrides = Overrides {
        specs: options.specs.clone(),
        cmdb: options.cmdb.clone(),
        configure: options.configure.clone(),
    };
    let site = Site::new(directory, artifacts, Ports::README, &overrides, lifetime)?;
    let before = Books::read(&site)?;
    let server = site.start_server()?;
    let rsync_daemon = site.start_rsync_daemon()?;
    kept::remember(&[server.id(), rsync_daemon.id()], directory, lifetime)?;

    let memory = options.memory();
    let machine = site.machine("machine", options.firmware(), memory, &options.disks)?;
    println!("lab: machines run under {}", site.accelerator);
    println!("lab: installs by: {}", machine.command_line(site.accelerator, "install"));
    let installation = install(&site, &machine, "install")?;
    print_installation(&installation, memory);

    let (hostname, address) = promised(&site, &machine)?;
    check_books(&site, &machine, &before)?;
    say(&format!("the server says: {}", site.admin(&["show", &hostname])?.replace('\n', "; ")));

    let (machine, port) = disk_only(&machine, &address)?;
    println!("lab: boots by: {}", machine.command_line(site.accelerator, "boot"));
    let vm = machine.start(site.accelerator, "boot", lifetime)?;
    kept::remember(&[vm.id()], directory, lifetime)?;
    let login = site.login(port);
    let start = Instant::now();
    wait_for_login(&vm, &login)?;
    say(&format!("it lets us in after {:.0} s", start.elapsed().as_secs_f64()));
    let firmware = options.firmware();
    let rsync_port = site.ports.rsync;
    let secrets = before.secrets();
    let promise = Promise { hostname, address, firmware, rsync_port, secrets };
    for line in prove(&login, &promise)? {
        println!("lab: {line}");
    }
    let answered = login.run("hostname")?;
    if options.keep {
        println!("lab: the machine runs on; log in by: {}", login.command_line());
        println!("lab: end it by: scripts/lab --stop");
    } else {
        shut_down(&vm, &login)?;
    }
    Ok(format!("{answered} {}, {memory} MiB, {}", promise.address, options.firmware_name()))
}

/// The sizes of what a machine fetches before anything else.
fn print_sizes(artifacts: &Artifacts) -> Result<()> {
    let [kernel, initrd] = artifacts.boot_sizes()?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "lab: vmlinuz {:.1} MiB + initrd.pxe {:.1} MiB = {:.1} MiB of at most {:.0} MiB",
        mib(kernel),
        mib(initrd),
        mib(kernel + initrd),
        mib(BOOT_LIMIT)
    );
    ensure!(kernel + initrd <= BOOT_LIMIT, "kernel and initrd together are too large");
    Ok(())
}

fn print_installation(installation: &Installation, memory: u32) {
    let Installation { took, host_memory, .. } = installation;
    let of_host = host_memory.map(|mib| format!(" (QEMU took {mib} MiB)")).unwrap_or_default();
    println!(
        "lab: installed with {memory} MiB of memory{of_host} in {:.0} s; its steps:",
        secs(*took)
    );
    println!("{}", installation.table());
}

fn secs(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// The CMDB reads as in the README: one more entry is used and names the machine's values. The
/// count is one lower.
fn check_books(site: &Site, machine: &Machine, before: &Books) -> Result<()> {
    let after = Books::read(site)?;
    let entry = after.entry_of(&machine.mac)?;
    let fields: Vec<String> = entry.fields.iter().map(|f| f.key.clone()).collect();
    println!("lab: its CMDB entry now holds {}", fields.join(", "));
    ensure!(after.used().len() == before.used().len() + 1, "not one more entry is used");
    if let (Some(before), Some(after)) = (before.left, after.left) {
        ensure!(after + 1 == before, "the count went from {before} to {after}");
        println!("lab: the count in `state` went from {before} to {after}");
    }
    let text = site.config_text("vm.cmdb").context("reading the CMDB back")?;
    for line in text.lines().take(8) {
        println!("lab:     {line}");
    }
    Ok(())
}
