//! Everything that touches a machine. Carries plans out and decides nothing.

pub mod apply;
pub mod assignments;
pub mod boot_installed;
pub mod execute;
pub mod host;
pub mod world;
