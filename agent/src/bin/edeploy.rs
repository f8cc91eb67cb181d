//! `edeploy`: the command line of an installed host. Parses, calls [`agent::host`], prints.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent::host::{self, Failpoint, Host, Identity, Lock, Progress, Resumed, RolledBack, pkgmngr};
use agent::tree::{self, Depth};
use agent::world::{Cmd, Program, RealRunner, Root, Runner};
use anyhow::Context;
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use specs::units::Name;
use specs::upgrade::{Kernel, TreePath};

/// Exit code: the answer is no.
const NO: u8 = 1;

/// Exit code: the command failed.
const FAILED: u8 = 3;

/// Exit code: done, and a reboot is wanted.
const REBOOT: u8 = 100;

/// Tells what this host is, upgrades it, verifies it, and takes upgrades back.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  edeploy list\n  edeploy test-upgrade D12-F.1.0.1\n  edeploy upgrade D12-F.1.0.1\n  \
                  edeploy verify --fast\n  edeploy --root /mnt upgrade --resume\n\n\
                  Exit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 failed, 100 done and a reboot is wanted."
)]
struct Arguments {
    /// The root folder of the host to look at.
    #[arg(long, value_name = "DIR", default_value = "/", global = true)]
    root: PathBuf,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the version of the role that is installed.
    #[command(after_help = "Example:\n  $ edeploy version\n  D12-F.1.0.0")]
    Version,
    /// Prints the role that is installed.
    #[command(after_help = "Example:\n  $ edeploy role\n  mysql")]
    Role,
    /// Prints the profile that this host was installed as.
    #[command(after_help = "Example:\n  $ edeploy profile\n  vm")]
    Profile,
    /// Lists the versions that this host can be upgraded to, one a line.
    #[command(after_help = "Example:\n  $ edeploy list\n  D12-F.1.0.1\n\n\
                            Asks the rsync daemon RSERV:RSERV_PORT of /var/lib/edeploy/conf.")]
    List,
    /// Switches the package managers of this host on.
    #[command(
        after_help = "Example:\n  # edeploy activate-pkgmngr\n  on: /usr/bin/apt-get /usr/bin/dpkg\n\n\
                      What they change is named by `edeploy verify`, and undone by the next upgrade."
    )]
    ActivatePkgmngr,
    /// Switches them off, as a role comes.
    #[command(
        after_help = "Example:\n  # edeploy deactivate-pkgmngr\n  off: /usr/bin/apt-get /usr/bin/dpkg"
    )]
    DeactivatePkgmngr,
    /// Tells what an upgrade would do, and writes nothing to the host.
    #[command(after_help = "Example:\n  edeploy test-upgrade D12-F.1.0.1")]
    TestUpgrade {
        /// The version.
        version: Name,
    },
    /// Upgrades this host, and reboots it when the version asks for it.
    ///
    /// Interrupted anywhere, the next run or the next boot finishes it or returns to the version
    /// before. Local edits of files that change are kept below /var/lib/edeploy/kept.
    #[command(
        after_help = "Examples:\n  edeploy upgrade D12-F.1.0.1\n  edeploy --root /mnt upgrade --resume"
    )]
    Upgrade {
        /// The version.
        #[arg(required_unless_present = "resume")]
        version: Option<Name>,
        /// Finish what was interrupted, and nothing else.
        #[arg(long, conflicts_with = "version")]
        resume: bool,
        /// With --resume, early in the boot: only switch the files, then boot again.
        #[arg(long, requires = "resume", hide = true)]
        early: bool,
        /// Exit with 100 instead of rebooting.
        #[arg(long)]
        no_reboot: bool,
    },
    /// Compares the disk with the version that is installed; exits with 1 when anything drifted.
    #[command(after_help = "Example:\n  edeploy verify --fast --json")]
    Verify {
        /// Read only files whose size or time differ.
        #[arg(long)]
        fast: bool,
    },
    /// Goes back to the version before the last upgrade, offline, and reboots this host when that
    /// upgrade did.
    ///
    /// Services that run from files which change are restarted. Files that were edited since the
    /// upgrade are kept below /var/lib/edeploy/kept.
    #[command(after_help = "Example:\n  edeploy rollback")]
    Rollback {
        /// Exit with 100 instead of rebooting.
        #[arg(long)]
        no_reboot: bool,
    },
    /// Prints what this host is, and where it can go.
    #[command(after_help = "Example:\n  edeploy report --json")]
    Report,
    /// Lists upgrades and rollbacks, oldest first.
    #[command(after_help = "Example:\n  edeploy history")]
    History,
    /// Prints the manifest of a tree.
    #[command(
        after_help = "Example:\n  edeploy manifest /srv/install/D12-F.1.0.1/mysql mysql D12-F.1.0.1 \\\n    \
                            > /srv/install/D12-F.1.0.1/mysql.manifest"
    )]
    Manifest {
        /// The tree.
        folder: PathBuf,
        /// Its role.
        role: Name,
        /// Its version.
        version: Name,
    },
}

/// What a command has to say: for people and for programs, and its exit code.
struct Answer {
    text: String,
    json: Value,
    code: u8,
}

impl Answer {
    fn new(text: impl Into<String>, json: Value) -> Answer {
        Answer { text: text.into(), json, code: 0 }
    }

    fn no(self) -> Answer {
        Answer { code: NO, ..self }
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the command line")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match answer(&arguments) {
        Ok(answer) => {
            if arguments.json {
                println!("{}", answer.json);
            } else if answer.code == NO && !matches!(arguments.command, Command::Verify { .. }) {
                eprintln!("{}", answer.text);
            } else {
                println!("{}", answer.text);
            }
            ExitCode::from(answer.code)
        }
        Err(error) => {
            eprintln!("edeploy: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn answer(arguments: &Arguments) -> anyhow::Result<Answer> {
    let root = Root::new(&arguments.root);
    if let Command::Manifest { folder, role, version } = &arguments.command {
        let manifest = tree::manifest(folder, role, version, "")?;
        let json = json!({ "role": role, "version": version, "entries": manifest.entries.len() });
        return Ok(Answer::new(manifest.to_text().trim_end(), json));
    }
    let mut bar = Bar::new();
    let mut runner = RealRunner;
    let mut host = Host {
        root: root.clone(),
        runner: &mut runner,
        progress: &mut bar,
        running: running_kernel(),
        program: Some(std::env::current_exe().context("cannot find this very program")?),
        failpoint: failpoint(),
    };
    let answer = match &arguments.command {
        Command::TestUpgrade { version } => {
            let report = host.test_upgrade(version)?;
            let answer = Answer::new(report.to_string(), serde_json::to_value(&report)?);
            Ok(if report.refused.is_some() { answer.no() } else { answer })
        }
        Command::Upgrade { version, early, no_reboot, .. } => {
            let lock = host.lock()?;
            match version {
                Some(version) => upgrade(&mut host, &lock, version, *no_reboot),
                None => resume(&mut host, &lock, *early, *no_reboot),
            }
        }
        Command::Verify { fast } => verify(&mut host, *fast),
        Command::Rollback { no_reboot } => {
            let lock = host.lock()?;
            rollback(&mut host, &lock, *no_reboot)
        }
        Command::ActivatePkgmngr => {
            let _lock = host.lock()?;
            switch(&root, true)
        }
        Command::DeactivatePkgmngr => {
            let _lock = host.lock()?;
            switch(&root, false)
        }
        Command::Report => report(&host),
        Command::History => history(&root),
        _ => {
            drop(host);
            identity(arguments, &root)
        }
    };
    bar.0.finish_and_clear();
    answer
}

/// Switches package managers; what was so already is not named.
fn switch(root: &Root, on: bool) -> anyhow::Result<Answer> {
    let programs = if on { pkgmngr::activate(root)? } else { pkgmngr::deactivate(root)? };
    let names: Vec<String> = programs.iter().map(|path| path.display().to_string()).collect();
    let word = if on { "on" } else { "off" };
    let text = match names.is_empty() {
        true => format!("{word} already"),
        false => format!("{word}: {}", names.join(" ")),
    };
    Ok(Answer::new(text, json!({ "package_managers": word, "switched": names })))
}

/// What the host says of itself.
fn identity(arguments: &Arguments, root: &Root) -> anyhow::Result<Answer> {
    let identity = Identity::read(root).with_context(|| "cannot tell what this host is")?;
    let yes = |key: &str, text: &str| Answer::new(text, json!({ key: text }));
    Ok(match arguments.command {
        Command::Version => yes("version", identity.version.as_str()),
        Command::Role => yes("role", identity.role.as_str()),
        Command::Profile => match &identity.profile {
            Some(profile) => yes("profile", profile.as_str()),
            None => Answer::new(
                "no profile is recorded in /var/log/edeploy/vars",
                json!({ "profile": null }),
            )
            .no(),
        },
        _ => {
            let versions = host::list(&mut RealRunner, &identity)?;
            let json =
                json!({ "version": identity.version, "role": identity.role, "upgrades": versions });
            if versions.is_empty() {
                let from = format!("{} {}", identity.role, identity.version);
                Answer::new(format!("there is no upgrade of {from}"), json).no()
            } else {
                Answer::new(versions.join("\n"), json)
            }
        }
    })
}

fn upgrade(
    host: &mut Host<'_, RealRunner, Bar>,
    lock: &Lock,
    version: &Name,
    no_reboot: bool,
) -> anyhow::Result<Answer> {
    let outcome = host.upgrade(lock, version)?;
    let mut text = kept(outcome.kept_in.as_deref(), &outcome.kept_aside);
    text.push_str(&if outcome.from == outcome.version {
        format!("the version is {version}")
    } else {
        format!("the version is {version}, {} paths changed", outcome.changed)
    });
    let json = json!({
        "from": outcome.from, "version": outcome.version, "changed": outcome.changed,
        "kept_aside": outcome.kept_aside, "reboot": outcome.reboot,
    });
    reboot(host, Answer::new(text, json), outcome.reboot, no_reboot)
}

fn rollback(
    host: &mut Host<'_, RealRunner, Bar>,
    lock: &Lock,
    no_reboot: bool,
) -> anyhow::Result<Answer> {
    let RolledBack { version, reboot: wanted, kept_aside, kept_in, restarted } =
        host.rollback(lock)?;
    let mut text = kept(kept_in.as_deref(), &kept_aside);
    if !restarted.is_empty() {
        text.push_str(&format!("restarted: {}\n", restarted.join(" ")));
    }
    text.push_str(&format!("the version is {version} again"));
    let json = json!({
        "version": version, "kept_aside": kept_aside, "restarted": restarted, "reboot": wanted,
    });
    reboot(host, Answer::new(text, json), wanted, no_reboot)
}

/// Lines for local edits that were replaced.
fn kept(folder: Option<&Path>, paths: &[TreePath]) -> String {
    let Some(folder) = folder else { return String::new() };
    let line = |path: &TreePath| format!("edited here, kept as {}/{path}\n", folder.display());
    paths.iter().map(line).collect()
}

fn resume(
    host: &mut Host<'_, RealRunner, Bar>,
    lock: &Lock,
    early: bool,
    no_reboot: bool,
) -> anyhow::Result<Answer> {
    let (text, version, wanted) = match host.resume(lock, early)? {
        Resumed::Nothing => ("nothing was interrupted".to_owned(), None, false),
        // What runs already may be of the other version.
        Resumed::Switched(version) => (
            format!("the files are those of {version}, `post` is still to run"),
            Some(version),
            true,
        ),
        Resumed::Finished { version, reboot } => {
            (format!("the version is {version}"), Some(version), reboot)
        }
        Resumed::Returned(version) => {
            (format!("the version is {version} again"), Some(version), early)
        }
    };
    reboot(
        host,
        Answer::new(text, json!({ "version": version, "reboot": wanted })),
        wanted,
        no_reboot,
    )
}

/// Reboots the machine if that is wanted and this host is the machine.
fn reboot(
    host: &mut Host<'_, RealRunner, Bar>,
    answer: Answer,
    wanted: bool,
    no_reboot: bool,
) -> anyhow::Result<Answer> {
    if !wanted {
        return Ok(answer);
    }
    if no_reboot || !host.is_running_system() {
        let text = format!("{}; a reboot is wanted", answer.text);
        return Ok(Answer { text, code: REBOOT, ..answer });
    }
    let program = Program::Named("systemctl".to_owned());
    let cmd = Cmd::of(program, &["--no-block", "reboot"]).why("start the new version");
    host.runner.run(&cmd).context("all is done, but the reboot that it needs does not begin")?;
    Ok(Answer { text: format!("{}; rebooting", answer.text), ..answer })
}

fn verify(host: &mut Host<'_, RealRunner, Bar>, fast: bool) -> anyhow::Result<Answer> {
    let verified = host.verify(if fast { Depth::Fast } else { Depth::Full })?;
    let mut text = String::new();
    let width = verified.drifts.iter().map(|drift| drift.path.to_string().len()).max();
    for drift in &verified.drifts {
        let (path, width) = (drift.path.to_string(), width.unwrap_or(0).min(70));
        text.push_str(&format!("{path:<width$}  {}\n", drift.kind));
    }
    let drifted = verified.drifts.len();
    text.push_str(&format!(
        "{drifted} of {} paths drifted from {}",
        verified.listed, verified.version
    ));
    let json = json!({
        "version": verified.version, "listed": verified.listed, "drifts": verified.drifts,
    });
    let answer = Answer::new(text, json);
    Ok(if drifted == 0 { answer } else { answer.no() })
}

fn report(host: &Host<'_, RealRunner, Bar>) -> anyhow::Result<Answer> {
    let identity = Identity::read(&host.root).with_context(|| "cannot tell what this host is")?;
    let back = host.way_back().ok();
    let last = host::history(&host.root)?.pop();
    let or_none = |name: Option<&Name>| name.map_or("none", Name::as_str).to_owned();
    let happened = last.as_ref().map_or("nothing yet".to_owned(), line);
    let text = format!(
        "role      {}\nversion   {}\nprofile   {}\nrollback  {}\nlast      {happened}",
        identity.role,
        identity.version,
        or_none(identity.profile.as_ref()),
        or_none(back.as_ref()),
    );
    let json = json!({
        "role": identity.role, "version": identity.version, "profile": identity.profile,
        "rollback": back, "last": last,
    });
    Ok(Answer::new(text, json))
}

fn history(root: &Root) -> anyhow::Result<Answer> {
    let all = host::history(root)?;
    let lines: Vec<String> = all.iter().map(line).collect();
    Ok(Answer::new(lines.join("\n"), serde_json::to_value(&all)?))
}

fn line(happening: &host::Happening) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(happening.time);
    let host::Happening { what, from, to, reason, resumed, .. } = happening;
    let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let resumed = if *resumed { ", finished after an interruption" } else { "" };
    format!("{}  {what} {from} -> {to}{resumed}{reason}", httpdate::fmt_http_date(time))
}

/// The kernel that runs.
fn running_kernel() -> Option<Kernel> {
    let name = nix::sys::utsname::uname().ok()?;
    name.release().to_str().map(|release| Kernel(release.to_owned()))
}

/// Where tests make the process die: EDEPLOY_FAILPOINT is the number of points to pass.
fn failpoint() -> Failpoint {
    let after = std::env::var("EDEPLOY_FAILPOINT").ok().and_then(|text| text.parse().ok());
    after.map_or(Failpoint::Never, |after| Failpoint::Abort { after, passed: 0 })
}

/// A bar on a terminal; nothing where nobody looks.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Bar {
        if !std::io::stderr().is_terminal() {
            return Bar(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        Bar(bar)
    }
}

impl Progress for Bar {
    fn stage(&mut self, what: &str) {
        self.0.set_style(ProgressStyle::default_spinner());
        self.0.unset_length();
        self.0.set_message(what.to_owned());
    }

    fn bytes(&mut self, done: u64, total: u64) {
        // The template is a constant; should it be wrong, the spinner does.
        let style = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes} {eta}");
        if self.0.length() != Some(total)
            && let Ok(style) = style
        {
            self.0.set_style(style);
            self.0.set_length(total);
        }
        self.0.set_position(done);
    }
}
