//! End to end: real machines boot from the network, install, boot from their disks and are asked
//! what they are. Each test has a site of its own; boots are shared between checks, since each
//! takes its time under emulation.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod first_machine;
mod fronts;
mod nothing_written;
mod over_http;
mod role_trees;
mod static_agent;
mod uefi;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use anyhow::Result;
use lab::artifacts::Artifacts;
use lab::needs::{Need, present};
use lab::process::Lifetime;
use lab::say;
use lab::scratch::Scratch;
use lab::site::{Overrides, Ports, Site};

/// What a machine needs.
const MACHINE: [Need; 6] = [
    Need::Root,
    Need::Program("qemu-system-x86_64"),
    Need::Program("rsync"),
    Need::Program("ssh"),
    Need::File("/usr/lib/PXELINUX/pxelinux.0"),
    Need::File("/usr/share/OVMF/OVMF_CODE_4M.fd"),
];

/// Runs a test on a site of its own. What a failed one leaves stays until the test runs again;
/// KEEP=1 keeps that of a good one as well.
#[track_caller]
fn on_a_site(name: &str, overrides: &Overrides, test: impl FnOnce(&Site) -> Result<()>) {
    if !present(&MACHINE) {
        return;
    }
    let artifacts = Artifacts::locate();
    artifacts.check().unwrap();
    let directory = Scratch::new(&artifacts.cache.join("lab"), name).unwrap();
    let ports = Ports::free().unwrap();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let site = Site::new(directory.path(), &artifacts, ports, overrides, Lifetime::Scoped)?;
        test(&site)
    }));
    let good = matches!(&result, Ok(Ok(())));
    if !good || std::env::var_os("KEEP").is_some() {
        say(&format!("{name}: everything of it lies in {}", directory.keep().display()));
    }
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("{name}: {error:?}"),
        Err(panic) => resume_unwind(panic),
    }
}

/// Writes a file for [`Overrides`] and returns its path; the folder lives as long as the test.
fn file(directory: &std::path::Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}
