//! PID 1 of the initrd: makes the place the agent works in, starts the agent proper, waits.
//!
//! Kept small because nothing survives it: it reaps every orphan, starts one child, and when that
//! child has come to its end in whatever way (done, failed, panicked, killed) does what the boot
//! arguments say. The agent proper is a process of its own, so that it may wait for its own
//! commands without PID 1 taking their ends away, and so that its death is an answer too.
//!
//! Works in three places: the real initrd (a squashfs below an overlay), any plain initramfs that
//! holds this program as `/init`, and not at all anywhere else ([`is_init`]).

mod loop_device;
mod root;
mod supervisor;

use std::fs::{self, OpenOptions};
use std::os::fd::AsFd;
use std::process;

use nix::sys::termios::{ControlFlags, InputFlags, SetArg, tcgetattr, tcsetattr};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::finish::{Ending, Outcome, end, note_failure};
use crate::options::{AgentOptions, OnFailure, OnSuccess, RawCmdline};
use crate::report::Console;

pub use root::InitError;

/// Where the agent stands once the root is made; commands of an installed shell find it there.
pub const AGENT: &str = "/usr/sbin/edeploy-agent";

/// Whether this process is PID 1 and so has nobody else to do this work.
pub fn is_init() -> bool {
    process::id() == 1
}

/// The whole life of PID 1.
pub fn main() -> ! {
    let mounted = root::mount_kernel_filesystems();
    take_console();
    let console = Console::of_machine();
    let cmdline = RawCmdline::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
    let on_failure = OnFailure::of(&cmdline);
    let on_success =
        AgentOptions::parse(&cmdline).map_or(OnSuccess::Reboot, |options| options.on_success);

    let made = mounted.and_then(|()| console.step("root", root::make_root));
    let outcome = match made {
        Ok(()) => supervisor::run_agent(&console),
        Err(error) => {
            console.note(&crate::chain(&error));
            note_failure(&console, &crate::chain(&error));
            Outcome::Failed
        }
    };
    match outcome.ending(on_success, on_failure) {
        Ending::Console => supervisor::run_console(&console, outcome),
        ending => end(&console, outcome, ending),
    }
}

/// Lets input and output be the console, which the kernel may not have had when it started us.
fn take_console() {
    if let Ok(console) = OpenOptions::new().read(true).write(true).open("/dev/console") {
        // Whatever of this fails, there is nowhere to say so.
        let _ = ignore_flow_control(&console);
        let _ = dup2_stdin(&console);
        let _ = dup2_stdout(&console);
        let _ = dup2_stderr(&console);
    }
}

/// Lets nobody at the other end of a serial line stop what is printed, and so the installation:
/// noise reads as XOFF, and an unplugged line never says that it is clear to send.
fn ignore_flow_control(terminal: impl AsFd) -> nix::Result<()> {
    let mut settings = tcgetattr(&terminal)?;
    settings.input_flags.remove(InputFlags::IXON);
    settings.control_flags.remove(ControlFlags::CRTSCTS);
    tcsetattr(&terminal, SetArg::TCSANOW, &settings)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::pty::openpty;

    use super::*;

    #[test]
    fn an_xoff_does_not_stop_the_console() {
        let terminal = openpty(None, None).unwrap();
        let mut settings = tcgetattr(&terminal.slave).unwrap();
        settings.input_flags.insert(InputFlags::IXON);
        settings.control_flags.insert(ControlFlags::CRTSCTS);
        tcsetattr(&terminal.slave, SetArg::TCSANOW, &settings).unwrap();
        let mut other_end = fs::File::from(terminal.master);
        let ready = |what| {
            let mut waiting = [PollFd::new(terminal.slave.as_fd(), what)];
            poll(&mut waiting, PollTimeout::ZERO).unwrap() == 1
        };
        // The kernel hands over what was typed a little later.
        let soon = |condition: &dyn Fn() -> bool| {
            (0..200).any(|_| {
                thread::sleep(Duration::from_millis(10));
                condition()
            })
        };
        other_end.write_all(b"\x13").unwrap();
        assert!(soon(&|| !ready(PollFlags::POLLOUT)), "the terminal of this test does not stop");

        ignore_flow_control(&terminal.slave).unwrap();
        let settings = tcgetattr(&terminal.slave).unwrap();
        assert!(!settings.control_flags.contains(ControlFlags::CRTSCTS));
        other_end.write_all(b"\x13\n").unwrap();
        assert!(soon(&|| ready(PollFlags::POLLIN)), "an XOFF is typed text now");
        assert!(ready(PollFlags::POLLOUT));
    }
}
