//! The server as the network sees it. One binary, so that it is linked once.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod crash;
mod deployment;
mod faults;
mod processes;
mod protocol;
mod scenarios;
