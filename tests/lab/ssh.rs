//! Logging in to an installed machine, as its owner would.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{outcome, run, wait_until};

/// Makes the key pair of a lab, once; returns the private key. The public one lies beside it.
pub fn key(directory: &Path) -> Result<PathBuf> {
    let key = directory.join("key");
    if !key.exists() {
        let arguments = ["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"];
        run(
            "ssh-keygen",
            arguments.map(Into::into).into_iter().chain([key.clone().into_os_string()]),
        )
        .context("making the lab's ssh key")?;
    }
    Ok(key)
}

/// How to log in to one machine.
#[derive(Debug, Clone)]
pub struct Login {
    /// The private key.
    pub key: PathBuf,
    /// The port on 127.0.0.1 that leads to the machine's port 22.
    pub port: u16,
}

/// What a command there came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard output, without the final newline.
    pub said: String,
    /// Its standard error, likewise.
    pub complained: String,
}

impl Login {
    fn arguments(&self) -> Vec<String> {
        // The machine makes its host key when it is installed: there is none to compare with.
        let options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "BatchMode=yes",
            "ConnectTimeout=10",
        ];
        let mut arguments: Vec<String> =
            options.iter().flat_map(|option| ["-o".to_owned(), (*option).to_owned()]).collect();
        arguments.extend(["-i".to_owned(), self.key.display().to_string()]);
        arguments.extend(["-p".to_owned(), self.port.to_string()]);
        arguments.push("root@127.0.0.1".to_owned());
        arguments
    }

    /// The command that a person types to log in.
    pub fn command_line(&self) -> String {
        format!("ssh {}", self.arguments().join(" "))
    }

    /// Runs one command line there and returns its output without the final newline; a command
    /// that fails is an error with what it wrote to its standard error.
    pub fn run(&self, command: &str) -> Result<String> {
        let mut arguments = self.arguments();
        arguments.push(command.to_owned());
        Ok(run("ssh", arguments)?.trim_end().to_owned())
    }

    /// Runs one command line there and tells its exit code and what it wrote, to standard output
    /// and to standard error; no code when the connection ended before the command.
    pub fn answer(&self, command: &str) -> Result<Answer> {
        let mut arguments = self.arguments();
        arguments.push(command.to_owned());
        let (code, said, complained) = outcome("ssh", arguments)?;
        // ssh says 255 of itself.
        Ok(Answer { code: code.filter(|code| *code != 255), said, complained })
    }

    /// Waits until the machine lets us in.
    pub fn wait(&self, deadline: Duration) -> Result<()> {
        let mut last = None;
        wait_until("the machine to answer over ssh", deadline, || match self.run("true") {
            Ok(_) => Ok(Some(())),
            Err(error) => {
                last = Some(error);
                Ok(None)
            }
        })
        .map_err(|error| match last {
            Some(last) => last.context(error.to_string()),
            None => error,
        })
    }
}
