//! Keeps DHCP leases for as long as the agent lives.
//!
//! [`udhcpc::ask`] is a question with an end. Once it is answered, a `udhcpc` of its own holds the
//! lease of each interface: it asks for the same address, renews in time, and is started again
//! should it end. Its script ([`udhcpc::record_event`]) writes down what it is given and says on
//! standard output that it did; a thread here listens, and changes the address when it is another.
//!
//! A lease that is lost (the server is gone, or says no) does not take the address away: what is
//! being copied goes on, and the next answer decides. When [`Keepers`] is dropped, nothing of it
//! runs any more; should the agent die before, PID 1 ends whatever is left.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lease::Lease;
use super::udhcpc::{self, EVENT_MARK, LEASES};
use super::{Granted, run_all};
use crate::chain;
use crate::report::Console;
use crate::world::{Cmd, CmdError, Root, Runner, Tool};

/// Before a `udhcpc` that has ended is started again.
const PAUSE: Duration = Duration::from_secs(10);

/// Longer than any installation; the keeper is ended, it does not run out.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long the end of a `udhcpc` is waited for.
const ENDING: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Default)]
pub struct Keepers(Vec<Keeper>);

/// The thread of one interface.
#[derive(Debug)]
struct Keeper {
    root: Root,
    pid_file: String,
    /// Dropped, it tells the thread to end.
    going_on: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keepers {
    /// Starts to keep these leases. `runner` is cloned for each.
    pub fn start<R: Runner + Clone + Send + 'static>(
        runner: R,
        root: &Root,
        console: &Console,
        leases: &[Granted],
    ) -> Keepers {
        let start = |granted: &Granted| {
            let (going_on, ended) = mpsc::channel();
            let pid_file = format!("{LEASES}/{}.pid", granted.interface);
            let mut work = Work {
                runner: runner.clone(),
                root: root.clone(),
                console: console.clone(),
                granted: granted.clone(),
                pid_file: pid_file.clone(),
                ended,
            };
            let thread = thread::spawn(move || work.keep());
            Keeper { root: root.clone(), pid_file, going_on: Some(going_on), thread: Some(thread) }
        };
        Keepers(leases.iter().map(start).collect())
    }
}

impl Drop for Keepers {
    fn drop(&mut self) {
        // All are told before the first is waited for.
        for keeper in &mut self.0 {
            keeper.going_on = None;
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.going_on = None;
        let Some(thread) = self.thread.take() else { return };
        let until = Instant::now() + ENDING;
        // It may be about to start one: it is ended as soon as it is there.
        while !thread.is_finished() && Instant::now() < until {
            if let Some(pid) = process(&self.root, &self.pid_file) {
                // It may just have ended by itself.
                let _ = kill(pid, Signal::SIGTERM);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The process whose number is in the file.
fn process(root: &Root, pid_file: &str) -> Option<Pid> {
    let pid: i32 = root.read_text(pid_file).ok()?.trim().parse().ok()?;
    (pid > 1).then(|| Pid::from_raw(pid))
}

/// What the thread of an interface has.
struct Work<R> {
    runner: R,
    root: Root,
    console: Console,
    granted: Granted,
    pid_file: String,
    ended: Receiver<()>,
}

impl<R: Runner + Clone> Work<R> {
    fn keep(&mut self) {
        loop {
            let reason = match self.hold() {
                Ok(()) => "it ended".to_owned(),
                Err(reason) => reason,
            };
            match self.ended.try_recv() {
                Err(mpsc::TryRecvError::Disconnected) => return,
                Ok(()) | Err(mpsc::TryRecvError::Empty) => {}
            }
            let interface = &self.granted.interface;
            self.console.note(&format!("{interface}: the lease is not renewed: {reason}"));
            if self.ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Runs a `udhcpc` to its end and does what it is told meanwhile.
    fn hold(&mut self) -> Result<(), String> {
        let script = udhcpc::event_link(&self.root).map_err(|error| chain(&error))?;
        // The number of an older process must not be taken for that of this one.
        if let Ok(stale) = self.root.resolve(&self.pid_file) {
            let _ = std::fs::remove_file(stale);
        }
        let cmd = self.udhcpc(&script);
        let mut runner = self.runner.clone();
        let mut held = false;
        let ended = runner.run_streaming(&cmd, &mut |line| match line.strip_prefix(EVENT_MARK) {
            Some("bound" | "renew") => {
                held = true;
                self.take_over();
            }
            // Also said at the very beginning, when there is nothing to lose.
            Some("deconfig") if std::mem::take(&mut held) => {
                let Granted { interface, lease, .. } = &self.granted;
                let address = lease.address;
                self.console.note(&format!(
                    "{interface}: the lease of {address} has ended; kept until there is another"
                ));
            }
            _ => {}
        });
        ended.map(drop).map_err(|error| chain(&error))
    }

    fn udhcpc(&self, script: &str) -> Cmd {
        let Granted { interface, lease, .. } = &self.granted;
        let address = lease.address.addr().to_string();
        let args = [
            "udhcpc",
            "-f",
            "-t",
            "4",
            "-T",
            "2",
            "-A",
            "5",
            "-r",
            &address,
            "-p",
            &self.pid_file,
            "-i",
            interface,
            "-s",
            script,
        ];
        Cmd::new(Tool::Busybox, &args).why("renews the address").deadline(FOR_EVER)
    }

    /// Uses what was recorded last, when it is another lease than before.
    fn take_over(&mut self) {
        let Granted { interface, metric, lease } = &mut self.granted;
        let new = match udhcpc::recorded(&self.root, interface) {
            Ok(new) if new == *lease => return,
            Ok(new) => new,
            Err(reason) => {
                return self.console.note(&format!("{interface}: a lease is not used: {reason}"));
            }
        };
        match change(&mut self.runner, interface, *metric, lease, &new) {
            Ok(()) => {
                self.console
                    .note(&format!("{interface}: {} is now {}", lease.address, new.address));
                *lease = new;
            }
            Err(error) => {
                let (address, reason) = (new.address, chain(&error));
                self.console.note(&format!("{interface}: {address} cannot be set: {reason}"));
            }
        }
    }
}

/// The new address first: there is no moment without one.
fn change(
    runner: &mut dyn Runner,
    interface: &str,
    metric: u32,
    old: &Lease,
    new: &Lease,
) -> Result<(), CmdError> {
    run_all(runner, &new.commands(interface, metric))?;
    if old.address == new.address {
        return Ok(());
    }
    let address = old.address.to_string();
    run_all(runner, &[super::ip(&["address", "delete", &address, "dev", interface])])
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::report::testing::console;
    use crate::world::Output;

    /// An event, and the address that is recorded before it is told.
    type Told = (&'static str, Option<&'static str>);

    /// A `udhcpc` that tells these leases one after another and ends; other commands succeed.
    #[derive(Clone)]
    struct Client {
        root: Root,
        events: Arc<Mutex<Vec<Told>>>,
        transcript: Arc<Mutex<Vec<String>>>,
        told: mpsc::Sender<()>,
    }

    impl Runner for Client {
        fn run(&mut self, cmd: &Cmd) -> Result<Output, CmdError> {
            self.transcript.lock().unwrap().push(cmd.to_string());
            Ok(Output::default())
        }

        fn run_streaming(
            &mut self,
            cmd: &Cmd,
            on_line: &mut dyn FnMut(&str),
        ) -> Result<Output, CmdError> {
            for (event, address) in std::mem::take(&mut *self.events.lock().unwrap()) {
                if let Some(address) = address {
                    let json = serde_json::to_vec(&lease(address)).unwrap();
                    self.root.write(&format!("{LEASES}/eth0"), &json, 0o644, None).unwrap();
                }
                on_line(&format!("{EVENT_MARK}{event}"));
            }
            self.told.send(()).unwrap();
            Err(CmdError::Exit { cmd: cmd.to_string(), code: 1, stderr_tail: "no".to_owned() })
        }

        fn run_all(&mut self, cmds: &[Cmd]) -> Vec<Result<Output, CmdError>> {
            cmds.iter().map(|cmd| self.run(cmd)).collect()
        }
    }

    fn lease(address: &str) -> Lease {
        Lease {
            address: address.parse().unwrap(),
            routers: vec!["10.9.0.1".parse().unwrap()],
            name_servers: Vec::new(),
            domain: None,
        }
    }

    #[test]
    fn another_address_takes_the_place_of_the_old_one_and_a_lost_lease_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        root.create_dirs(LEASES, 0o755).unwrap();
        let (told, all_told) = mpsc::channel();
        let events = vec![
            ("deconfig", None),
            ("bound", Some("10.9.0.20/24")),
            ("renew", Some("10.9.0.20/24")),
            ("deconfig", None),
            ("leasefail", None),
            ("bound", Some("10.9.0.200/24")),
        ];
        let client = Client {
            root: root.clone(),
            events: Arc::new(Mutex::new(events)),
            transcript: Arc::default(),
            told,
        };
        let (console, screen) = console();
        let granted =
            Granted { interface: "eth0".to_owned(), metric: 100, lease: lease("10.9.0.20/24") };
        let keepers = Keepers::start(client.clone(), &root, &console, &[granted]);
        all_told.recv().unwrap();
        drop(keepers);
        assert_eq!(
            client.transcript.lock().unwrap().join("\n"),
            "ip address replace 10.9.0.200/24 dev eth0\n\
             ip route replace default via 10.9.0.1 dev eth0 metric 100\n\
             ip address delete 10.9.0.20/24 dev eth0"
        );
        let text = screen.text();
        for line in [
            "eth0: the lease of 10.9.0.20/24 has ended; kept until there is another",
            "eth0: 10.9.0.20/24 is now 10.9.0.200/24",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(text.matches("has ended").count(), 1, "{text}");
    }
}
