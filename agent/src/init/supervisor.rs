//! PID 1's children: the agent proper, the shell of the console, and every orphan.
//!
//! The only place besides the agent's runner that starts programs: the runner waits for its
//! children itself, which PID 1 must not, since it waits for everybody's.

use std::io;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::AGENT;
use crate::finish::{Ending, FAILURE_NOTE, Outcome, banner, end, note_failure};
use crate::report::Console;
use crate::world::SEARCH_PATH;

/// Starts the agent proper and waits until it has ended; says how.
pub(super) fn run_agent(console: &Console) -> Outcome {
    let failed = |reason: String| {
        console.note(&reason);
        note_failure(console, &reason);
        Outcome::Failed
    };
    let agent = match start(AGENT, &["run"]) {
        Ok(agent) => agent,
        Err(error) => return failed(format!("cannot start {AGENT}: {error}")),
    };
    match reap_until(agent) {
        Ok(WaitStatus::Exited(_, code)) => {
            let outcome = Outcome::of_code(code);
            // Codes of the agent come with a note of its own; others are nobody's intention.
            if outcome == Outcome::Failed && !Path::new(FAILURE_NOTE).exists() {
                return failed(format!("the agent ended with the unexpected status {code}"));
            }
            outcome
        }
        Ok(WaitStatus::Signaled(_, signal, _)) => failed(format!("the agent died of {signal}")),
        Ok(status) => failed(format!("the agent ended strangely: {status:?}")),
        Err(error) => failed(format!("cannot wait for the agent: {error}")),
    }
}

/// A shell on the console, again and again: leaving it by accident must not lose the machine.
pub(super) fn run_console(console: &Console, outcome: Outcome) -> ! {
    loop {
        for line in banner(outcome).lines() {
            console.line(line);
        }
        // `setsid -c` gives the shell the terminal, and with it job control and ^C.
        match start("busybox", &["setsid", "-c", "busybox", "sh"]).map(reap_until) {
            Ok(_) => thread::sleep(Duration::from_secs(1)),
            Err(error) => {
                console.note(&format!("no shell in this initrd: {error}"));
                end(console, outcome, Ending::Stop);
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "PID 1 waits for all processes at once, which the runner's own waiting would race with"
)]
fn start(program: &str, arguments: &[&str]) -> io::Result<Pid> {
    let child = Command::new(program)
        .args(arguments)
        .current_dir("/")
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("HOME", "/root")
        .env("TERM", "linux")
        .spawn()?;
    i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)
}

/// Reaps whoever ends, until it is this child.
fn reap_until(child: Pid) -> Result<WaitStatus, Errno> {
    loop {
        match waitpid(None, Some(WaitPidFlag::empty())) {
            Ok(status) if status.pid() == Some(child) => return Ok(status),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
