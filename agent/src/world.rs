//! The world outside the program: the one door for subprocesses and the one handle for paths.
//!
//! A command is a value ([`Cmd`]) that a [`Runner`] starts; a path is a text that a [`Root`]
//! resolves below one folder. Whatever is built on these two is tested with a `FakeRunner` and
//! a captured tree, and works on a machine with a [`RealRunner`] and `/`.
//!
//! Deliberately not here: any knowledge of disks, plans or servers. And no shell: a command is
//! an argument vector from end to end.

mod cmd;
#[cfg(test)]
mod fake;
mod real;
mod root;
mod tool;

pub use cmd::{Cmd, Program, quote};
#[cfg(test)]
pub(crate) use fake::FakeRunner;
pub use real::RealRunner;
pub use root::Root;
pub use tool::{SEARCH_PATH, Tool, missing_tools};

use std::io;

/// The field of a trace event in which the real runner names what it starts.
pub(crate) const COMMAND_FIELD: &str = "command";

/// What a command that ended with status 0 printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

/// Starts commands. Without default methods, so that no fake can reach the machine by omission.
pub trait Runner {
    /// Runs the command to its end and returns what it printed.
    fn run(&mut self, cmd: &Cmd) -> Result<Output, CmdError>;

    /// As [`Runner::run`], and hands over every line of standard output as it appears, without
    /// its end. A carriage return ends a line too: that is how progress is shown. The `stdout`
    /// of the result is empty.
    fn run_streaming(
        &mut self,
        cmd: &Cmd,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<Output, CmdError>;

    /// Runs commands that do not depend on each other side by side, all of them to their ends.
    /// What each came to, in their order.
    fn run_all(&mut self, cmds: &[Cmd]) -> Vec<Result<Output, CmdError>>;
}

/// Why a command did not do its work. Every variant holds the line that a person can paste.
#[derive(Debug, thiserror::Error)]
pub enum CmdError {
    /// It could not be started.
    #[error("cannot start `{cmd}`")]
    Start {
        /// The command line.
        cmd: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its output could not be read, or its end not awaited.
    #[error("lost contact with `{cmd}`")]
    Contact {
        /// The command line.
        cmd: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with another status than 0.
    #[error("`{cmd}` exited with {code}{}", last_words(stderr_tail))]
    Exit {
        /// The command line.
        cmd: String,
        /// Its status.
        code: i32,
        /// At most the last 64 KiB of its standard error, of which 1 KiB is shown.
        stderr_tail: String,
    },
    /// It was killed by somebody else.
    #[error("`{cmd}` was killed by signal {signal}{}", last_words(stderr_tail))]
    Signal {
        /// The command line.
        cmd: String,
        /// The signal.
        signal: i32,
        /// At most the last 64 KiB of its standard error, of which 1 KiB is shown.
        stderr_tail: String,
    },
    /// It took too long; it and everything it had started was killed.
    #[error("`{cmd}` did not end within {seconds} s and was killed{}", last_words(stderr_tail))]
    Deadline {
        /// The command line.
        cmd: String,
        /// [`Cmd::deadline`].
        seconds: u64,
        /// At most the last 64 KiB of its standard error, of which 1 KiB is shown.
        stderr_tail: String,
    },
}

impl CmdError {
    /// The same error with its texts changed, for those who must not repeat secrets.
    pub fn map_texts(mut self, change: impl Fn(&str) -> String) -> CmdError {
        match &mut self {
            CmdError::Start { cmd, .. } | CmdError::Contact { cmd, .. } => *cmd = change(cmd),
            CmdError::Exit { cmd, stderr_tail, .. }
            | CmdError::Signal { cmd, stderr_tail, .. }
            | CmdError::Deadline { cmd, stderr_tail, .. } => {
                *cmd = change(cmd);
                *stderr_tail = change(stderr_tail);
            }
        }
        self
    }
}

/// How much of standard error a person is shown.
const SHOWN: usize = 1024;

fn last_words(stderr_tail: &str) -> String {
    let words = tail(stderr_tail.trim(), SHOWN);
    if words.is_empty() { String::new() } else { format!("; its last words: {words}") }
}

/// The end of a text, at most so many bytes, cut between characters.
fn tail(text: &str, bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_long_complaint_is_shown_and_no_half_of_a_secret() {
        let text = "é".repeat(2000);
        assert!(tail(&text, SHOWN).len() <= SHOWN);
        assert_eq!(tail("short", SHOWN), "short");

        // The cut goes through the middle of the secret.
        let stderr_tail = format!("s3cr3t-t0ken{}", "x".repeat(SHOWN - 5));
        let error = CmdError::Exit { cmd: "curl".to_owned(), code: 1, stderr_tail };
        let error = error.map_texts(|text| text.replace("s3cr3t-t0ken", "<secret>"));
        let text = error.to_string();
        assert!(!text.contains("t0ken") && text.contains("xxx"), "{text}");
    }
}
