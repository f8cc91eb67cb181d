//! The server as the network sees it. One binary, so that it is linked once.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and one that is skipped says so"
)]

mod check;
mod crash;
mod deployment;
mod edit;
mod edits;
mod faults;
mod nested;
mod order;
mod processes;
mod protocol;
mod retention;
mod scenarios;
