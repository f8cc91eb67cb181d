//! Everything that touches a machine. Carries plans out and decides nothing.

pub mod finish;
pub mod options;
pub mod report;
pub mod world;
