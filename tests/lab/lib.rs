//! The harness: real machines (QEMU), real servers, real disks, for whoever wants to see the
//! product work. The tests of this package and the binary `lab` are its users.
//!
//! Reading order: [`vm`] (a machine), [`boot_files`] (what it fetches), [`services`] (whom it
//! meets), [`artifacts`] (what is built for it), [`site`] (all of these in one folder), [`scratch`]
//! (where that lies), [`installation`] (a machine installs and boots there), [`proof`] and
//! [`books`] (what is asked of it and of the server afterwards), [`upload`] (a machine that never
//! was), [`disk`], [`efi_variables`] and [`ssh`] (how to look), [`storm`] and [`bench`] (the server
//! under load), [`process`] (the door to other programs), [`needs`] (what a test may ask of the
//! machine it runs on).

pub mod artifacts;
pub mod bench;
pub mod books;
pub mod boot_files;
pub mod disk;
pub mod efi_variables;
pub mod installation;
pub mod needs;
pub mod process;
pub mod proof;
pub mod props;
pub mod scratch;
pub mod services;
pub mod site;
pub mod ssh;
pub mod storm;
pub mod upload;
pub mod vm;

/// Tells whoever watches what happens, on standard error and past the test runner's capture:
/// these things take minutes.
pub fn say(text: &str) {
    use std::io::Write;
    // Nobody may be listening any more.
    let _ = writeln!(std::io::stderr(), "lab: {text}");
}
