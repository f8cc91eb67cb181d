//! The runner that really starts programs: the only place of the project that does.
//!
//! Every command is the leader of a process group of its own, so that its deadline ends
//! everything it has started, and reads nothing unless it is given something. One thread reads
//! standard output, duct's own reads standard error: no pipe can fill up.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{Cmd, CmdError, Output, Runner, SEARCH_PATH};

/// How much of standard error an error carries.
const STDERR_TAIL: usize = 1024;

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealRunner;

impl Runner for RealRunner {
    fn run(&mut self, cmd: &Cmd) -> Result<Output, CmdError> {
        let mut stdout = Vec::new();
        let output = execute(cmd, &mut |bytes| stdout.extend_from_slice(bytes))?;
        Ok(Output { stdout: String::from_utf8_lossy(&stdout).into_owned(), ..output })
    }

    fn run_streaming(
        &mut self,
        cmd: &Cmd,
        on_line: &mut dyn FnMut(&str),
    ) -> Result<Output, CmdError> {
        let mut line = Vec::new();
        let output = execute(cmd, &mut |bytes| {
            for &byte in bytes {
                if byte == b'\n' || byte == b'\r' {
                    on_line(&String::from_utf8_lossy(&line));
                    line.clear();
                } else {
                    line.push(byte);
                }
            }
        })?;
        if !line.is_empty() {
            on_line(&String::from_utf8_lossy(&line));
        }
        Ok(output)
    }
}

/// Starts the command, hands its standard output over piece by piece, and judges its end.
fn execute(cmd: &Cmd, on_bytes: &mut dyn FnMut(&[u8])) -> Result<Output, CmdError> {
    tracing::debug!(command = %cmd, why = cmd.why, "start");
    let contact = |source| CmdError::Contact { cmd: cmd.to_string(), source };
    let reader = expression(cmd)
        .reader()
        .map_err(|source| CmdError::Start { cmd: cmd.to_string(), source })?;
    let watchdog = Watchdog::start(reader.pids(), cmd.deadline);
    let mut piece = [0; 16 * 1024];
    loop {
        // The read that finds the end also waits for the process.
        match (&reader).read(&mut piece) {
            Ok(0) => break,
            Ok(length) => on_bytes(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(contact(error)),
        }
    }
    let killed = watchdog.stop();
    let finished = reader.try_wait().map_err(contact)?;
    let ended = finished.ok_or_else(|| contact(io::ErrorKind::UnexpectedEof.into()))?;
    let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
    if ended.status.success() {
        return Ok(Output { stdout: String::new(), stderr });
    }
    let (cmd, stderr_tail) = (cmd.to_string(), tail(&stderr).to_owned());
    Err(match (ended.status.code(), killed) {
        (Some(code), _) => CmdError::Exit { cmd, code, stderr_tail },
        (None, Some(deadline)) => {
            CmdError::Deadline { cmd, seconds: deadline.as_secs(), stderr_tail }
        }
        (None, None) => {
            CmdError::Signal { cmd, signal: ended.status.signal().unwrap_or(0), stderr_tail }
        }
    })
}

/// What duct starts: no shell, no inherited variable, a process group of its own.
fn expression(cmd: &Cmd) -> duct::Expression {
    let vector = cmd.argument_vector();
    let mut environment = cmd.environment.clone();
    environment.entry("PATH".to_owned()).or_insert_with(|| SEARCH_PATH.to_owned());
    environment.entry("LC_ALL".to_owned()).or_insert_with(|| "C".to_owned());
    let expression = duct::cmd(&vector[0], &vector[1..])
        .before_spawn(|command| {
            command.process_group(0);
            Ok(())
        })
        .full_env(environment)
        .unchecked()
        .stderr_capture();
    match &cmd.stdin {
        Some(text) => expression.stdin_bytes(text.clone()),
        None => expression.stdin_null(),
    }
}

/// The end of a text, at most [`STDERR_TAIL`] bytes, cut between characters.
fn tail(text: &str) -> &str {
    let mut start = text.len().saturating_sub(STDERR_TAIL);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// Kills process groups unless it is stopped in time.
struct Watchdog {
    stop: mpsc::Sender<()>,
    thread: thread::JoinHandle<Option<Duration>>,
}

impl Watchdog {
    fn start(groups: Vec<u32>, deadline: Duration) -> Watchdog {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || match stopped.recv_timeout(deadline) {
            Err(mpsc::RecvTimeoutError::Timeout) => {
                for group in groups.iter().filter_map(|&group| i32::try_from(group).ok()) {
                    // A group that has just ended by itself is no error.
                    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
                }
                Some(deadline)
            }
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => None,
        });
        Watchdog { stop, thread }
    }

    /// The deadline if it had passed, otherwise nothing.
    fn stop(self) -> Option<Duration> {
        drop(self.stop);
        self.thread.join().ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::Program;
    use super::*;

    fn program(name: &str, args: &[&str]) -> Cmd {
        Cmd::of(Program::Named(name.to_owned()), args)
    }

    #[test]
    fn nothing_is_inherited_and_nothing_is_read() {
        let output = RealRunner.run(&program("env", &[]).variable("A", "b c")).unwrap();
        let mut lines: Vec<&str> = output.stdout.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["A=b c", "LC_ALL=C", &format!("PATH={SEARCH_PATH}")]);
        assert_eq!(RealRunner.run(&program("cat", &[])).unwrap().stdout, "");
        assert_eq!(RealRunner.run(&program("cat", &[]).stdin("x\ny")).unwrap().stdout, "x\ny");
    }

    #[test]
    fn carriage_returns_end_lines() {
        let mut lines = Vec::new();
        let cmd = program("printf", &[r"1%%\r2%%\nend"]);
        RealRunner.run_streaming(&cmd, &mut |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["1%", "2%", "end"]);
    }

    #[test]
    fn the_deadline_kills_the_whole_group() {
        let began = Instant::now();
        // `timeout` starts `sleep` as a child; with --foreground both stay in our group.
        let cmd = program("timeout", &["--foreground", "30", "sleep", "30"])
            .deadline(Duration::from_millis(200));
        let error = RealRunner.run(&cmd).unwrap_err();
        assert!(matches!(error, CmdError::Deadline { .. }), "{error}");
        // The sleeping grandchild holds the pipe: the end comes only when it is dead as well.
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn failures_say_command_status_and_last_words() {
        let error = RealRunner.run(&program("ls", &["/does/not/exist"])).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("`ls /does/not/exist` exited with 2; its last words: "), "{text}");
        let error = RealRunner.run(&program("no-such-program", &[])).unwrap_err();
        assert!(matches!(error, CmdError::Start { .. }), "{error}");
    }

    #[test]
    fn only_the_end_of_a_long_complaint_is_kept() {
        let text = "é".repeat(2000);
        assert!(tail(&text).len() <= STDERR_TAIL);
        assert_eq!(tail("short"), "short");
    }
}
