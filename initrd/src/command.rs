//! The one door for programs of the building machine.

use std::io;

use duct::IntoExecutablePath;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started, most often because it is not installed.
    #[error("cannot start `{program}`; install the package {package}")]
    Start {
        /// The program.
        program: &'static str,
        /// The Debian package it is in.
        package: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("`{program}` failed; its last words: {last_words}")]
    Failed {
        /// The program.
        program: &'static str,
        /// The end of its standard error.
        last_words: String,
    },
}

/// Runs a program to its end with `input` on its standard input; returns its standard output.
pub(crate) fn run(
    (program, package): (&'static str, &'static str),
    arguments: &[&str],
    input: &str,
) -> Result<String, CommandError> {
    let output = duct::cmd(program.to_executable(), arguments)
        .stdin_bytes(input)
        .stdout_capture()
        .stderr_capture()
        .unchecked()
        .run()
        .map_err(|source| CommandError::Start { program, package, source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr.lines().collect();
    let last_words = lines[lines.len().saturating_sub(8)..].join("\n");
    Err(CommandError::Failed { program, last_words })
}
