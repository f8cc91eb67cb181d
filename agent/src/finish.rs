//! How it ends: what is done with the machine when the agent proper has come to its end, or died.
//!
//! The decision is a value ([`Ending`]) made from the exit of the agent and the boot arguments; only
//! PID 1 carries it out. Written to be safe at any moment: everything is stopped, synced and
//! unmounted first, whatever state it is in.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, sync};

use crate::options::{OnFailure, OnSuccess};
use crate::report::Console;

/// Where the agent leaves one sentence on why it failed, for the banner of the console.
pub const FAILURE_NOTE: &str = "/run/edeploy/failure";

/// How long a failure stays on the screen before `ONFAILURE=reboot` wipes it; it also keeps a
/// rack of failing machines from asking the server without a pause.
const READING_TIME: Duration = Duration::from_secs(10);

/// How long the disks may take for what is still in memory. A disk that hangs keeps whoever waits
/// for it for ever, and PID 1 is the only one left to do what ONFAILURE says.
const FLUSHING_TIME: Duration = Duration::from_secs(60);

/// How the agent proper came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The machine is installed: what ONSUCCESS says.
    Installed,
    /// The kernel of the installed system is loaded and only has to be jumped to.
    KernelLoaded,
    /// The machine was installed before and its kernel cannot be started from here.
    Stopped,
    /// It is not installed: what ONFAILURE says.
    Failed,
}

/// What is done with the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Restart through the firmware.
    Reboot,
    /// Switch off.
    PowerOff,
    /// Stop with the last lines still on the screen.
    Stop,
    /// Jump into the loaded kernel.
    Kexec,
    /// A shell on the console, until somebody says otherwise.
    Console,
}

impl Outcome {
    /// The exit code that tells it to PID 1.
    pub fn code(self) -> u8 {
        match self {
            Outcome::Installed => 0,
            Outcome::Failed => 3,
            Outcome::KernelLoaded => 10,
            Outcome::Stopped => 11,
        }
    }

    /// What an exit code of the agent means; everything unknown is a failure.
    pub fn of_code(code: i32) -> Outcome {
        [Outcome::Installed, Outcome::KernelLoaded, Outcome::Stopped]
            .into_iter()
            .find(|outcome| i32::from(outcome.code()) == code)
            .unwrap_or(Outcome::Failed)
    }

    /// What is done with the machine now.
    pub fn ending(self, on_success: OnSuccess, on_failure: OnFailure) -> Ending {
        match (self, on_success, on_failure) {
            (Outcome::KernelLoaded, ..) => Ending::Kexec,
            (Outcome::Stopped, ..) => Ending::Stop,
            // The agent loads the kernel itself; when it did not, the firmware finds it.
            (Outcome::Installed, OnSuccess::Kexec | OnSuccess::Reboot, _) => Ending::Reboot,
            (Outcome::Installed, OnSuccess::Halt, _) => Ending::PowerOff,
            (Outcome::Installed, OnSuccess::Console, _) => Ending::Console,
            (Outcome::Failed, _, OnFailure::Halt) => Ending::PowerOff,
            (Outcome::Failed, _, OnFailure::Reboot) => Ending::Reboot,
            (Outcome::Failed, _, OnFailure::Console) => Ending::Console,
        }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        ExitCode::from(outcome.code())
    }
}

/// Leaves the reason of a failure for the banner of the console.
pub fn note_failure(console: &Console, reason: &str) {
    if let Err(error) = fs::write(FAILURE_NOTE, console.redacted(reason)) {
        console.note(&format!("cannot write {FAILURE_NOTE}: {error}"));
    }
}

/// What stands above the prompt of the console shell.
pub fn banner(outcome: Outcome) -> String {
    let failure = fs::read_to_string(FAILURE_NOTE).unwrap_or_default();
    let what = match (outcome, failure.trim()) {
        (Outcome::Failed, "") => "eDeploy: the agent did not finish.".to_owned(),
        (Outcome::Failed, reason) => format!("eDeploy failed: {reason}"),
        _ => "eDeploy: the machine is installed.".to_owned(),
    };
    format!(
        "\n{what}\n\
         \n  edeploy-agent run      try again\
         \n  edeploy-agent detect   what the server is told about this machine\
         \n  /run/edeploy/          install.log and what else was kept\
         \n  reboot -f              restart        poweroff -f   switch off\n"
    )
}

/// Stops, syncs and unmounts everything and ends this boot. Only for PID 1; never returns.
pub fn end(console: &Console, outcome: Outcome, ending: Ending) -> ! {
    if outcome == Outcome::Failed && ending == Ending::Reboot {
        console.note(&format!("reboot in {} s (ONFAILURE=reboot)", READING_TIME.as_secs()));
        thread::sleep(READING_TIME);
    }
    let (mode, words) = match ending {
        Ending::Reboot => (RebootMode::RB_AUTOBOOT, "reboot"),
        Ending::PowerOff => (RebootMode::RB_POWER_OFF, "power off"),
        Ending::Kexec => (RebootMode::RB_KEXEC, "start the installed kernel"),
        Ending::Stop | Ending::Console => (RebootMode::RB_HALT_SYSTEM, "stop"),
    };
    console.note(words);
    stop_processes();
    let unmounting = console.clone();
    let flushed = within(FLUSHING_TIME, move || {
        sync();
        unmount_all(&unmounting);
        sync();
    });
    if !flushed {
        console.note(&format!(
            "a disk does not answer: going on after {} s without unmounting",
            FLUSHING_TIME.as_secs()
        ));
    }
    let Err(error) = reboot(mode);
    console.note(&format!("cannot {words}: {error}"));
    if mode == RebootMode::RB_KEXEC {
        // The firmware's way to the same system.
        let Err(error) = reboot(RebootMode::RB_AUTOBOOT);
        console.note(&format!("cannot reboot: {error}"));
    }
    loop {
        nix::unistd::pause();
    }
}

/// Does the work in a thread of its own and says whether it came to its end in time; if not, the
/// thread is left to itself.
fn within(limit: Duration, work: impl FnOnce() + Send + 'static) -> bool {
    let (done, finished) = mpsc::channel();
    let started = thread::Builder::new().spawn(move || {
        work();
        // Nobody listens any more when it took too long.
        let _ = done.send(());
    });
    started.is_ok() && finished.recv_timeout(limit).is_ok()
}

/// Asks every other process to end, then makes it.
fn stop_processes() {
    let everyone = Pid::from_raw(-1);
    for (signal, pause) in [(Signal::SIGTERM, 300), (Signal::SIGKILL, 100)] {
        // No other process left is not an error here.
        if kill(everyone, signal).is_ok() {
            thread::sleep(Duration::from_millis(pause));
        }
    }
}

/// Unmounts what is mounted from disks, innermost first.
fn unmount_all(console: &Console) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for target in disk_mounts(&mounts).iter().rev() {
        if let Err(error) = umount2(Path::new(target), MntFlags::empty()) {
            console.note(&format!("cannot unmount {target}: {error}"));
        }
    }
}

/// The mount points below `/mnt` in `/proc/self/mounts`, outermost first: the tree being
/// installed. The initrd's own mounts live in memory.
fn disk_mounts(mounts: &str) -> Vec<String> {
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|target| target.starts_with("/mnt/"))
        .map(|target| target.replace("\\040", " "))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_one_ending() {
        use {Ending as E, OnFailure as F, OnSuccess as S, Outcome as O};
        for (outcome, success, failure, expected) in [
            (O::Installed, S::Reboot, F::Halt, E::Reboot),
            (O::Installed, S::Kexec, F::Halt, E::Reboot),
            (O::Installed, S::Halt, F::Console, E::PowerOff),
            (O::Installed, S::Console, F::Halt, E::Console),
            (O::KernelLoaded, S::Halt, F::Halt, E::Kexec),
            (O::Stopped, S::Reboot, F::Reboot, E::Stop),
            (O::Failed, S::Reboot, F::Halt, E::PowerOff),
            (O::Failed, S::Reboot, F::Reboot, E::Reboot),
            (O::Failed, S::Console, F::Console, E::Console),
        ] {
            assert_eq!(outcome.ending(success, failure), expected, "{outcome:?} {success:?}");
        }
    }

    #[test]
    fn exit_codes_come_back_and_unknown_ones_are_failures() {
        for outcome in
            [Outcome::Installed, Outcome::KernelLoaded, Outcome::Stopped, Outcome::Failed]
        {
            assert_eq!(Outcome::of_code(outcome.code().into()), outcome);
        }
        for code in [1, 2, 101, 127, -1] {
            assert_eq!(Outcome::of_code(code), Outcome::Failed, "{code}");
        }
    }

    #[test]
    fn work_that_hangs_is_left_behind() {
        let (release, hanging) = mpsc::channel::<()>();
        let began = std::time::Instant::now();
        let limit = Duration::from_millis(50);
        assert!(!within(limit, move || {
            let _ = hanging.recv();
        }));
        assert!(began.elapsed() >= limit && began.elapsed() < Duration::from_secs(10));
        drop(release);
        assert!(within(Duration::from_secs(10), || {}));
    }

    #[test]
    fn only_the_installed_tree_is_unmounted() {
        let mounts = "proc /proc proc rw 0 0\n/dev/vda2 /mnt/target ext4 rw 0 0\n\
                      /dev/vda3 /mnt/target/srv\\040x xfs rw 0 0\ntmpfs /run tmpfs rw 0 0\n";
        assert_eq!(disk_mounts(mounts), ["/mnt/target", "/mnt/target/srv x"]);
    }
}
