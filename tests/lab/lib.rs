//! The harness: real machines (QEMU), real servers, real disks, for whoever wants to see the
//! product work. The tests of this package and the binary `lab` are its users.
//!
//! Reading order: [`vm`] (a machine), [`boot_files`] (what it fetches), [`services`] (whom it
//! meets), [`disk`] and [`ssh`] (how to look at it), [`process`] (the door to other programs),
//! [`needs`] (what a test may ask of the machine it runs on).

pub mod boot_files;
pub mod disk;
pub mod needs;
pub mod process;
pub mod services;
pub mod ssh;
pub mod vm;
