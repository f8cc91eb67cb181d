//! The runner that really starts programs: the only place of the project that does.
//!
//! Every command is the leader of a process group of its own, so that its deadline ends
//! everything it has started, and reads nothing unless it is given something. A thread reads each
//! of its pipes, so that none can fill up.
//!
//! A daemon that a command leaves behind may hold the pipes open for ever, in a session of its own
//! that no signal to the group reaches. Its output is not waited for: shortly after the command
//! itself has ended, or was killed, what has been read by then is all that counts.

use std::io::{self, PipeReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::resume_unwind;
use std::process::ExitStatus;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{Cmd, CmdError, Output, Runner, SEARCH_PATH, tail};

/// How much of standard error an error carries. More than it shows: whoever takes secrets out
/// must not find half of one at the cut.
const STDERR_TAIL: usize = 64 * 1024;

/// How long the pipes of a command that has ended are read on.
const AFTER_THE_END: Duration = Duration::from_secs(2);

/// How long the end of a command that was killed is waited for.
const AFTER_THE_KILL: Duration = Duration::from_secs(5);

/// How many pieces of output wait for their reader, at most.
const PIECES: usize = 16;

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

    fn run_all(&mut self, cmds: &[Cmd]) -> Vec<Result<Output, CmdError>> {
        thread::scope(|scope| {
            let running: Vec<_> =
                cmds.iter().map(|cmd| scope.spawn(move || RealRunner.run(cmd))).collect();
            let ended = running.into_iter().map(thread::ScopedJoinHandle::join);
            ended.map(|ended| ended.unwrap_or_else(|panic| resume_unwind(panic))).collect()
        })
    }
}

/// What is heard of a running command.
enum Heard {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Ended(ExitStatus),
    Lost(io::Error),
}

/// Starts the command, hands its standard output over piece by piece, and judges its end.
fn execute(cmd: &Cmd, on_bytes: &mut dyn FnMut(&[u8])) -> Result<Output, CmdError> {
    tracing::debug!(command = %cmd, why = cmd.why, "start");
    let (groups, heard) =
        start(cmd).map_err(|source| CmdError::Start { cmd: cmd.to_string(), source })?;
    let mut stderr = Vec::new();
    let mut status = None;
    let mut killed = false;
    let mut until = Instant::now() + cmd.deadline;
    loop {
        match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Heard::Stdout(bytes)) => on_bytes(&bytes),
            Ok(Heard::Stderr(bytes)) => stderr.extend(bytes),
            Ok(Heard::Ended(ended)) => {
                status = Some(ended);
                until = Instant::now() + AFTER_THE_END;
            }
            Ok(Heard::Lost(source)) => {
                kill(&groups);
                return Err(CmdError::Contact { cmd: cmd.to_string(), source });
            }
            // Nobody has its pipes open any more, and its end is known.
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if status.is_some() || killed => break,
            Err(RecvTimeoutError::Timeout) => {
                kill(&groups);
                killed = true;
                until = Instant::now() + AFTER_THE_KILL;
            }
        }
    }
    judge(cmd, status, killed, &String::from_utf8_lossy(&stderr))
}

/// What the end of a command means.
fn judge(
    cmd: &Cmd,
    status: Option<ExitStatus>,
    killed: bool,
    stderr: &str,
) -> Result<Output, CmdError> {
    if status.is_some_and(|status| status.success()) {
        return Ok(Output { stdout: String::new(), stderr: stderr.to_owned() });
    }
    let seconds = cmd.deadline.as_secs();
    let (cmd, stderr_tail) = (cmd.to_string(), tail(stderr, STDERR_TAIL).to_owned());
    Err(match status.and_then(|status| status.code()) {
        Some(code) => CmdError::Exit { cmd, code, stderr_tail },
        None if killed => CmdError::Deadline { cmd, seconds, stderr_tail },
        None => {
            let signal = status.and_then(|status| status.signal()).unwrap_or(0);
            CmdError::Signal { cmd, signal, stderr_tail }
        }
    })
}

/// Starts the command and the threads that listen to it: the process groups to kill, and what is
/// heard. The channel closes when the command has ended and its pipes are closed everywhere.
fn start(cmd: &Cmd) -> io::Result<(Vec<u32>, Receiver<Heard>)> {
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    // The expression holds our copies of the writing ends; they go with it.
    let handle = expression(cmd).stdout_file(stdout_end).stderr_file(stderr_end).start()?;
    let groups = handle.pids();
    let (tell, heard) = mpsc::sync_channel(PIECES);
    listen(stdout, Heard::Stdout, tell.clone());
    listen(stderr, Heard::Stderr, tell.clone());
    thread::spawn(move || {
        let ended = handle.wait().map(|output| output.status);
        tell.send(ended.map_or_else(Heard::Lost, Heard::Ended))
    });
    Ok((groups, heard))
}

/// Reads a pipe to its end, or until nobody wants to hear of it any more.
fn listen(mut pipe: PipeReader, kind: fn(Vec<u8>) -> Heard, tell: SyncSender<Heard>) {
    thread::spawn(move || {
        let mut piece = [0; 16 * 1024];
        loop {
            let heard = match pipe.read(&mut piece) {
                Ok(0) => return,
                Ok(length) => kind(piece[..length].to_vec()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Heard::Lost(error),
            };
            if tell.send(heard).is_err() {
                return;
            }
        }
    });
}

fn kill(groups: &[u32]) {
    for group in groups.iter().filter_map(|&group| i32::try_from(group).ok()) {
        // A group that has just ended by itself is no error.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
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
        .unchecked();
    match &cmd.stdin {
        Some(text) => expression.stdin_bytes(text.clone()),
        None => expression.stdin_null(),
    }
}

#[cfg(test)]
mod tests {
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

    /// Each waits for what the other one does.
    #[test]
    fn commands_run_side_by_side() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe").display().to_string();
        RealRunner.run(&program("mkfifo", &[&pipe])).unwrap();
        let write = program("cp", &["/proc/version", &pipe]).deadline(Duration::from_secs(30));
        let read = program("cat", &[&pipe]).deadline(Duration::from_secs(30));
        let ended = RealRunner.run_all(&[write, program("false", &[]), read]);
        let [Ok(_), Err(CmdError::Exit { code: 1, .. }), Ok(read)] = &ended[..] else {
            panic!("{ended:?}");
        };
        assert!(read.stdout.starts_with("Linux"), "{}", read.stdout);
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
    fn a_daemon_that_keeps_the_pipes_is_not_waited_for() {
        // It leaves session and group, so that no kill reaches it, and ends by itself.
        let shell = |script: &str| program("sh", &["-c", script]);
        let began = Instant::now();
        let output = RealRunner.run(&shell("echo begun; setsid sleep 20 & exit 0")).unwrap();
        assert_eq!(output.stdout, "begun\n");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

        let began = Instant::now();
        let cmd = shell("echo words >&2; setsid sleep 20 & sleep 20");
        let error = RealRunner.run(&cmd.deadline(Duration::from_millis(300))).unwrap_err();
        let CmdError::Deadline { stderr_tail, .. } = error else { panic!("{error}") };
        assert_eq!(stderr_tail, "words\n");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }

    #[test]
    fn failures_say_command_status_and_last_words() {
        let error = RealRunner.run(&program("ls", &["/does/not/exist"])).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("`ls /does/not/exist` exited with 2; its last words: "), "{text}");
        let error = RealRunner.run(&program("no-such-program", &[])).unwrap_err();
        assert!(matches!(error, CmdError::Start { .. }), "{error}");
    }
}
