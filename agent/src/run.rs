//! The agent's life, straight down: boot arguments, drivers, network, facts, upload, plan,
//! installation, report.
//!
//! Each stage makes the value that the next one needs, so none can be skipped or taken out of
//! order; the first that fails ends the life with a [`RunError`]. What was decided by the server
//! is only checked here ([`plan`]) and told; carrying it out is the executor's, what is done with
//! the machine afterwards PID 1's.

mod log;
mod plan;
mod reporter;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_settime};
use specs::event::{DiskState, Event};
use specs::facts::Facts;
use specs::plan::{Action, Plan};
use specs::units::{Token, Uuid};
use specs::wire::{PROTOCOL, Refusal, Reply};

use crate::boot_installed;
use crate::chain;
use crate::client::{self, Answer, Client, ClientError, EventSender, Patience};
use crate::detect;
use crate::drivers;
use crate::execute::{Executor, Failure, Installation, LinuxSystem, Origin, TARGET};
use crate::finish::{FAILURE_NOTE, Outcome, note_failure};
use crate::link::{Keepers, Link, LinkError};
use crate::options::{AgentOptions, OnSuccess, OptionError, RawCmdline};
use crate::report::{Console, INSTALL_LOG, since_boot};
use crate::world::{Cmd, CmdError, RealRunner, Root, Runner, Tool};

pub use plan::PlanError;
use reporter::Reporter;

/// How long an absent server is waited for. A rack may be switched on before its server.
const UPLOAD_PATIENCE: Patience = Patience::of(Duration::from_secs(30 * 60));

/// How long the server is waited for with the report of a failure.
const FAILURE_PATIENCE: Duration = Duration::from_secs(60);

/// How long for what is only good to have.
const LOG_PATIENCE: Patience = Patience::of(Duration::from_secs(20));

/// Why the machine is not installed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The boot arguments are wrong.
    #[error("{}", lines(.0))]
    Options(Vec<OptionError>),
    /// Drivers could not be loaded.
    #[error("cannot load drivers")]
    Drivers(#[source] CmdError),
    /// No network.
    #[error("no network")]
    Network(#[source] LinkError),
    /// No answer that could be used.
    #[error("cannot ask the server")]
    Upload(#[source] ClientError),
    /// The answer was no.
    #[error("refused ({}): {}", .0.status, .0.reason)]
    Refused(Refusal),
    /// The server speaks another protocol.
    #[error(
        "the server speaks protocol {0}, this agent {PROTOCOL}: boot the initrd that belongs to the server"
    )]
    Protocol(u32),
    /// The plan is not for this machine, or contradicts itself.
    #[error("the plan cannot be carried out, nothing was written")]
    Plan(#[source] PlanError),
    /// The installation was begun and failed.
    #[error(transparent)]
    Installation(#[from] Failure),
    /// The installation was carried out, and the server does not want it.
    #[error("the disks hold a complete system, but the server has ended this installation")]
    Disowned(#[source] ClientError),
}

fn lines<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Lives from the boot arguments to the last report; everything a person must know was printed.
pub fn run(console: &Console) -> Outcome {
    // A note of an earlier try would be taken for this one's.
    let _ = fs::remove_file(FAILURE_NOTE);
    report_panics();
    warm_random_numbers();
    let (machine, answer) = match ask(console) {
        Ok(asked) => asked,
        Err(error) => return fail(console, &error),
    };
    let ticket = match &answer.reply {
        Reply::Plan { ticket, .. } => Some(ticket.clone()),
        Reply::Installed { .. } | Reply::Refused(_) => None,
    };
    let outcome = match machine.obey(answer) {
        Ok(outcome) => {
            console.print_durations();
            outcome
        }
        Err(error) => fail(console, &error),
    };
    machine.upload_log(ticket.as_ref());
    outcome
}

/// Tells why the machine is not installed: on the console, in the log, above the shell's prompt.
fn fail(console: &Console, error: &RunError) -> Outcome {
    console.print_durations();
    console.note(&chain(error));
    note_failure(console, &chain(error));
    Outcome::Failed
}

/// A panic ends this process; PID 1 tells why from the note. Printed past the console, whose lock
/// may be held by the thread that panics.
fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = format!("the agent has a defect: {info}");
        let _ = writeln!(std::io::stderr(), "{text}");
        let _ = fs::write(FAILURE_NOTE, text);
    }));
}

/// A kernel without a hardware source of random numbers needs a second of work before it gives
/// any. That second passes while drivers load, not while the server waits for a nonce.
fn warm_random_numbers() {
    std::thread::spawn(client::nonce);
}

/// The kernel loads the driver of a file system when the first one is mounted. It may as well do
/// so while the server is asked for the role; what cannot be loaded is told by the mount.
fn warm_file_systems(plan: &Plan) {
    let mut modules: Vec<&str> = Vec::new();
    for step in &plan.steps {
        let Action::Mount { filesystem, .. } = &step.action else { continue };
        modules.push(filesystem);
        if filesystem == "vfat" {
            // For its short names and for its long ones.
            modules.extend(["nls_cp437", "nls_ascii"]);
        }
    }
    let args = [&["--all", "--quiet"], &modules[..]].concat();
    let load = Cmd::new(Tool::Modprobe, &args).why("load the drivers of file systems");
    std::thread::spawn(move || RealRunner.run(&load));
}

/// Everything up to the server's answer.
fn ask(console: &Console) -> Result<(Machine, Answer), RunError> {
    let root = Root::system();
    let options = console.step("boot arguments", || read_options(&root))?;
    if options.verbose {
        console.show_commands();
    }
    console
        .step("drivers", || {
            drivers::load(&mut RealRunner, &root, console).map(|detail| ((), detail))
        })
        .map_err(RunError::Drivers)?;
    let leases = console
        .step("network", || bring_up_network(&root, console, &options))
        .inspect_err(|_| name_missing_firmware(console))
        .map_err(RunError::Network)?;
    name_missing_firmware(console);
    await_late_disks(&root, console);
    let facts = console.step("facts", || Ok::<_, RunError>(find_facts(&root)))?;
    let client = Client::new(options.server.clone(), console.clone()).map_err(RunError::Upload)?;
    let answer = console
        .step(&format!("upload to {}", options.server.host), || {
            let answer = client.upload(&facts, UPLOAD_PATIENCE)?;
            let detail = describe(&answer.reply);
            Ok((answer, detail))
        })
        .map_err(RunError::Upload)?;
    let console = console.clone();
    Ok((Machine { root, options, facts, client, console, _leases: leases }, answer))
}

fn read_options(root: &Root) -> Result<(AgentOptions, String), RunError> {
    let cmdline = RawCmdline::parse(&root.read_text("/proc/cmdline").unwrap_or_default());
    let options = AgentOptions::parse(&cmdline).map_err(RunError::Options)?;
    let card =
        options.boot_card.as_ref().map(|mac| format!(", started by {mac}")).unwrap_or_default();
    let detail = format!("{}{card}", options.server.url(""));
    Ok((options, detail))
}

fn bring_up_network(
    root: &Root,
    console: &Console,
    options: &AgentOptions,
) -> Result<(Keepers, String), LinkError> {
    let link = Link { root, runner: &|| Box::new(RealRunner), console, sleep: &std::thread::sleep };
    let network = link.up(options)?;
    Ok((Keepers::start(RealRunner, root, console, &network.leases), network.to_string()))
}

fn name_missing_firmware(console: &Console) {
    for sentence in drivers::missing_firmware(&drivers::kernel_log()) {
        console.note(&sentence);
    }
}

/// Controllers find their disks while the network comes up: the late ones are waited for, and
/// then udev, which names them by identity.
fn await_late_disks(root: &Root, console: &Console) {
    if drivers::has_udev(root) {
        console.begin("drivers of late disks");
        drivers::settle(&mut RealRunner, console);
        if drivers::await_disks(root, console, &std::thread::sleep) {
            drivers::settle(&mut RealRunner, console);
        }
        console.done("");
    }
}

fn find_facts(root: &Root) -> (Facts, String) {
    let facts = detect::detect_at(root);
    let disks = detect::disks::names(root).join(" ");
    let detail = format!("{} facts, disks: {disks}", facts.0.len());
    (facts, detail)
}

fn describe(reply: &Reply) -> String {
    match reply {
        Reply::Plan { plan, .. } => format!("profile {}, host {}", plan.profile, plan.hostname),
        Reply::Installed { hostname, .. } => format!("installed as {hostname}"),
        Reply::Refused(refusal) => format!("refused ({})", refusal.status),
    }
}

/// A machine that has asked and was answered.
struct Machine {
    root: Root,
    options: AgentOptions,
    facts: Facts,
    client: Client,
    console: Console,
    /// Renewed as long as this lives: to the last report.
    _leases: Keepers,
}

impl Machine {
    fn obey(&self, answer: Answer) -> Result<Outcome, RunError> {
        if let Some(date) = answer.date {
            set_clock(&self.console, date);
        }
        match answer.reply {
            Reply::Plan { protocol, .. } | Reply::Installed { protocol, .. }
                if protocol != PROTOCOL =>
            {
                Err(RunError::Protocol(protocol))
            }
            Reply::Plan { ticket, plan, .. } => self.install(*plan, &ticket),
            Reply::Installed { hostname, disk, root, .. } => {
                Ok(self.boot_installed(&hostname, &disk, &root))
            }
            Reply::Refused(refusal) => {
                for profile in &refusal.profiles {
                    self.console.note(&format!("{}: {}", profile.profile, profile.reason));
                }
                Err(RunError::Refused(refusal))
            }
        }
    }

    /// Checks the plan, carries it out and tells the server how it went.
    fn install(&self, plan: Plan, ticket: &Token) -> Result<Outcome, RunError> {
        self.console.redact(&plan.secrets);
        let plan = plan::amended(plan, &self.options);
        warm_file_systems(&plan);
        let events = EventSender::start(&self.client, ticket.clone());
        let began = since_boot();
        let checked = self.console.step("plan", || plan::check(&plan, &self.facts));
        let done = checked
            .map_err(RunError::Plan)
            .and_then(|()| self.execute(&plan, &events).map_err(RunError::from));
        if let Err(error) = done {
            self.report_failure(&plan, ticket, &events, &error);
            return Err(error);
        }
        let seconds = (since_boot() - began).as_secs_f64();
        self.report_success(&events, seconds)?;
        let done =
            format!("installed as {} with {} {}", plan.hostname, plan.role.name, plan.role.version);
        self.console.line(&done);
        Ok(self.load_installed(&plan))
    }

    /// The final report of a success. Without it the machine would be installed once more at its
    /// next network boot: the server is waited for as long as it takes, and only its no ends that.
    fn report_success(&self, events: &EventSender, seconds: f64) -> Result<(), RunError> {
        events.send(Event::Installed { seconds });
        let told = self.console.step("report", || events.insist().map(|()| ((), String::new())));
        told.map_err(RunError::Disowned)
    }

    fn execute(&self, plan: &Plan, events: &EventSender) -> Result<(), Failure> {
        let origin = origin(&self.options);
        let installation = Installation {
            plan,
            facts: Some(&self.facts),
            origin: &origin,
            log: Some(Path::new(INSTALL_LOG)),
            target: TARGET.into(),
        };
        let mut reporter = Reporter::new(self.console.clone(), events.clone());
        let mut executor = Executor {
            runner: &mut RealRunner,
            system: &mut LinuxSystem,
            root: self.root.clone(),
            events: &mut reporter,
        };
        executor.execute(&installation).map(drop)
    }

    /// The final report of a failure; where events do not reach the server, the form that the
    /// original knows gives the slot back.
    fn report_failure(&self, plan: &Plan, ticket: &Token, events: &EventSender, error: &RunError) {
        let (step, disks) = match error {
            RunError::Installation(failure) => (failure.step.clone(), failure.disks),
            _ => ("plan".to_owned(), DiskState::Untouched),
        };
        let error = self.console.redacted(&chain(error));
        events.send(Event::Failed { step, error, disks });
        let told = match events.deliver(FAILURE_PATIENCE) {
            // Its slot is no longer ours to give back.
            Err(refused @ ClientError::Refused { .. }) => Err(refused),
            Err(error) => {
                self.console.note(&format!("event report: {}", chain(&error)));
                self.client.report_failure(&self.facts, &plan.profile, ticket, LOG_PATIENCE)
            }
            Ok(()) => Ok(()),
        };
        if let Err(error) = told {
            self.console.note(&format!("the server does not know: {}", chain(&error)));
        }
    }

    /// After an installation, with ONSUCCESS=kexec: the kernel is loaded, or else the firmware
    /// starts it.
    fn load_installed(&self, plan: &Plan) -> Outcome {
        if self.options.on_success != OnSuccess::Kexec {
            return Outcome::Installed;
        }
        match self.load_kernel(&plan.root) {
            Ok(()) => Outcome::KernelLoaded,
            Err(error) => {
                self.console.note(&format!("rebooting instead: {}", chain(&error)));
                Outcome::Installed
            }
        }
    }

    /// A machine that is installed is never installed again by accident: its disk is booted, or
    /// nothing happens at all.
    fn boot_installed(&self, hostname: &str, disk: &str, root: &Uuid) -> Outcome {
        self.console.line(&installed_sentence(hostname, disk));
        match self.load_kernel(root) {
            Ok(()) => Outcome::KernelLoaded,
            Err(error) => {
                self.console.note(&chain(&error));
                self.console.note("stopped: boot this machine from its disk");
                Outcome::Stopped
            }
        }
    }

    fn load_kernel(&self, root: &Uuid) -> Result<(), boot_installed::BootError> {
        self.console.step("kernel of the installed system", || {
            let (runner, system) = (&mut RealRunner, &mut LinuxSystem);
            let kernel = self.options.kexec_kernel.as_deref();
            let entry = boot_installed::load(runner, system, &self.root, root, kernel)?;
            Ok(((), entry.kernel))
        })
    }

    fn upload_log(&self, ticket: Option<&Token>) {
        if !self.options.upload_log {
            return;
        }
        let name = log::file_name(&self.facts);
        let told = log::compressed(&self.console, &self.root)
            .map_err(|error| error.to_string())
            .and_then(|log| {
                let uploaded = self.client.upload_log(&name, &log, ticket, LOG_PATIENCE);
                uploaded.map_err(|error| chain(&error))
            });
        match told {
            Ok(()) => self.console.note(&format!("log uploaded as {name}")),
            Err(reason) => self.console.note(&format!("the log was not uploaded: {reason}")),
        }
    }
}

/// The one sentence that an installed machine answers to a network boot.
fn installed_sentence(hostname: &str, disk: &str) -> String {
    format!(
        "installed as {hostname} on {disk}; booting from disk \
         (to install again: edeploy-server reinstall {hostname})"
    )
}

/// Where trees come from, as the boot arguments say.
pub fn origin(options: &AgentOptions) -> Origin {
    Origin {
        server: options.server.host.clone(),
        rsync_host: options.rsync.host.clone(),
        rsync_port: options.rsync.port,
        rsync_path: options.rsync.path.clone(),
        archives: options.archives.clone(),
    }
}

/// Takes the server's time: file systems and logs shall not be from the year the battery died.
fn set_clock(console: &Console, date: SystemTime) {
    // `Date` has whole seconds; a difference of that size is none.
    let difference = match date.duration_since(SystemTime::now()) {
        Ok(behind) => behind,
        Err(ahead) => ahead.duration(),
    };
    if difference < Duration::from_secs(2) {
        return;
    }
    let Ok(time) = date.duration_since(SystemTime::UNIX_EPOCH) else { return };
    match clock_settime(ClockId::CLOCK_REALTIME, time.into()) {
        Ok(()) => console.note(&format!("clock set to {}", httpdate::fmt_http_date(date))),
        Err(errno) => console.note(&format!("the clock is wrong and cannot be set: {errno}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_of_an_installed_machine() {
        assert_eq!(
            installed_sentence("host03", "/dev/vda"),
            "installed as host03 on /dev/vda; booting from disk (to install again: \
             edeploy-server reinstall host03)"
        );
    }
}
