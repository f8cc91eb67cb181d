//! The lab's one door for other programs: run one to its end, or keep one as a service.
//!
//! A service is a process that this one started and that it ends by its id, on drop at the
//! latest. Should the lab itself die, the kernel ends the service (`setpriv --pdeathsig`); a
//! service that is to outlive the lab (`lab --keep`) gets a session of its own instead.
//! No shell is involved anywhere.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How often something that is waited for is looked at.
pub const POLL: Duration = Duration::from_millis(100);

/// Runs a program to its end and returns what it wrote to its standard output. On failure the
/// error holds the command and the end of what it wrote to its standard error.
pub fn run<A: Into<OsString>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<String> {
    let (shown, output) = captured(program, arguments.into_iter().map(Into::into).collect())?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed ({}): {}", output.status, last_lines(&stderr, 10));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn captured(program: &str, arguments: Vec<OsString>) -> Result<(String, std::process::Output)> {
    let shown = shown(program, &arguments);
    let output = duct::cmd(program, arguments)
        .stdin_null()
        .stdout_capture()
        .stderr_capture()
        .unchecked()
        .run()
        .with_context(|| format!("cannot start `{shown}`"))?;
    Ok((shown, output))
}

/// Runs a program to its end for its exit code alone; `None` when a signal ended it.
pub fn exit_code<A: Into<OsString>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<Option<i32>> {
    Ok(outcome(program, arguments)?.0)
}

/// Runs a program to its end, well or not: its exit code, `None` when a signal ended it, and what
/// it wrote to its standard output and to its standard error.
pub fn outcome<A: Into<OsString>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<(Option<i32>, String, String)> {
    let (_, output) = captured(program, arguments.into_iter().map(Into::into).collect())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

/// As [`run`], with the program's own output shown to whoever watches, on standard error.
pub fn run_shown<A: Into<OsString>>(
    program: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<()> {
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    let shown = shown(program, &arguments);
    let output = duct::cmd(program, arguments)
        .stdin_null()
        .stdout_to_stderr()
        .unchecked()
        .run()
        .with_context(|| format!("cannot start `{shown}`"))?;
    ensure!(output.status.success(), "`{shown}` failed ({})", output.status);
    Ok(())
}

/// A command line as a person would type it.
pub fn shown(program: &str, arguments: &[OsString]) -> String {
    let mut text = program.to_owned();
    for argument in arguments {
        let argument = argument.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
        text.push(' ');
        if !argument.is_empty() && argument.chars().all(plain) {
            text.push_str(&argument);
        } else {
            text.push_str(&format!("'{}'", argument.replace('\'', r"'\''")));
        }
    }
    text
}

/// The last `count` lines of a text.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Looks every [`POLL`] whether `ready` has something, until the deadline.
pub fn wait_until<T>(
    what: &str,
    deadline: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = ready()? {
            return Ok(found);
        }
        if start.elapsed() > deadline {
            bail!("waited {} s for {what}, in vain", deadline.as_secs());
        }
        sleep(POLL);
    }
}

/// What becomes of a service when the lab ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// It ends with the value that stands for it, or with the lab.
    Scoped,
    /// It stays; whoever wants it gone uses its id.
    Kept,
}

/// A program that keeps running beside the lab.
#[derive(Debug)]
pub struct Service {
    name: String,
    log: PathBuf,
    lifetime: Lifetime,
    handle: duct::Handle,
}

impl Service {
    /// Starts a program; everything it prints goes to the file `log`.
    pub fn start(
        name: &str,
        program: &str,
        arguments: &[OsString],
        log: &Path,
        lifetime: Lifetime,
    ) -> Result<Service> {
        // Both wrappers replace themselves by the program: its id is the one that was started.
        let wrapper: &[&str] = match lifetime {
            Lifetime::Scoped => &["setpriv", "--pdeathsig", "KILL", "--"],
            Lifetime::Kept => &["setsid"],
        };
        let line = wrapper
            .iter()
            .map(OsString::from)
            .chain([OsString::from(program)])
            .chain(arguments.iter().cloned());
        let line: Vec<OsString> = line.collect();
        let handle = duct::cmd(&line[0], &line[1..])
            .stdin_null()
            .stderr_to_stdout()
            .stdout_path(log)
            .unchecked()
            .start()
            .with_context(|| format!("cannot start {name}: `{}`", shown(program, arguments)))?;
        Ok(Service { name: name.to_owned(), log: log.to_owned(), lifetime, handle })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.handle.pids().first().copied().unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn running(&self) -> Result<bool> {
        let ended = self.handle.try_wait().with_context(|| format!("waiting for {}", self.name))?;
        Ok(ended.is_none())
    }

    /// Waits until the service accepts connections on `address`.
    pub fn wait_for_port(&self, address: std::net::SocketAddr, deadline: Duration) -> Result<()> {
        wait_until(&format!("{} to listen on {address}", self.name), deadline, || {
            if !self.running()? {
                bail!("{} ended at once: {}", self.name, self.log_tail(10));
            }
            let connected = std::net::TcpStream::connect_timeout(&address, POLL);
            Ok(connected.is_ok().then_some(()))
        })
    }

    /// Waits until it has ended by itself.
    pub fn wait_for_end(&self, deadline: Duration) -> Result<()> {
        wait_until(&format!("{} to end", self.name), deadline, || {
            Ok((!self.running()?).then_some(()))
        })
    }

    /// The last lines it printed.
    pub fn log_tail(&self, count: usize) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        last_lines(&String::from_utf8_lossy(&bytes), count)
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        self.handle.kill().with_context(|| format!("killing {}", self.name))?;
        self.handle.wait().with_context(|| format!("waiting for {} to be gone", self.name))?;
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Scoped {
            // It may have ended by itself; there is nobody left to tell.
            let _ = self.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_is_named_with_its_last_words() {
        let error = run("ls", ["/nowhere at all"]).unwrap_err().to_string();
        assert!(error.starts_with("`ls '/nowhere at all'` failed (exit status: 2)"), "{error}");
        assert!(error.contains("No such file"), "{error}");
    }

    #[test]
    fn a_service_ends_with_its_value() {
        let scratch = tempfile::tempdir().unwrap();
        let log = scratch.path().join("log");
        let arguments = ["600".into()];
        let service = Service::start("sleep", "sleep", &arguments, &log, Lifetime::Scoped).unwrap();
        let process = PathBuf::from(format!("/proc/{}", service.id()));
        assert!(service.running().unwrap() && process.exists());
        drop(service);
        assert!(!process.exists());
    }
}
