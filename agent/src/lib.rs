//! Everything that touches a machine. Carries plans out and decides nothing.
//!
//! Reading order: [`run`] (the agent's life in one page) and what it uses, top to bottom:
//! [`options`], [`drivers`], [`link`], [`detect`], [`client`], [`execute`], [`finish`]. [`init`] is
//! what runs around it as PID 1; [`world`] the two doors to the machine; [`host`], [`tree`] and
//! [`boot_installed`] are about systems that are installed already.

pub mod apply;
pub mod archive;
pub mod assignments;
pub mod boot_installed;
pub mod client;
pub mod detect;
pub mod drivers;
pub mod execute;
pub mod finish;
pub mod host;
pub mod init;
pub mod link;
pub mod options;
pub mod report;
pub mod run;
pub mod tree;
pub mod world;

/// An error with all its causes, outermost first, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
