//! The server and the commands of its operators.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use server::admin::metadata::{self, Edge};
use server::admin::{commands, edit, explain, import, machines, match_cmd, verify_cmdb};
use server::handle::Application;
use server::settings::{DEFAULT_PATH, DEFAULT_SECTION, KEYS};
use server::{logging, retention};
use specs::units::Name;

/// The server of eDeploy: tells machines what to install, and operators where they stand.
#[derive(Debug, Parser)]
#[command(name = "edeploy-server", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 failed.

Example:
  edeploy-server serve --config /etc/edeploy.conf --listen 0.0.0.0:9000";

const SERVE: &str = "\
Example:
  edeploy-server serve --config /etc/edeploy.conf";

/// The example, and every key that edeploy.conf may have.
fn serve_help() -> String {
    let width = KEYS.iter().map(|(key, _)| key.len()).max().unwrap_or_default();
    let keys = KEYS.iter().map(|(key, meaning)| format!("  {key:width$}  {meaning}\n"));
    format!("{SERVE}\n\nKeys of edeploy.conf:\n{}", keys.collect::<String>())
}

const EXPLAIN: &str = "\
Examples:
  edeploy-server explain /var/lib/edeploy/config facts.hw
  edeploy-server explain host03 --profile hp
  edeploy-server explain new-config --all /var/lib/edeploy/hw --against /var/lib/edeploy/config";

#[derive(Debug, Args)]
struct Config {
    /// edeploy.conf
    #[arg(long, env = "EDEPLOY_CONF", default_value = DEFAULT_PATH, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct Deployment {
    #[command(flatten)]
    config: Config,
    /// Section of edeploy.conf
    #[arg(long, default_value = DEFAULT_SECTION)]
    section: String,
}

#[derive(Debug, Args)]
struct Machine {
    #[command(flatten)]
    deployment: Deployment,
    /// Host name, serial number, UUID, MAC address or record of the machine
    #[arg(value_name = "M")]
    machine: String,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer machines over HTTP until SIGTERM
    ///
    /// SIGHUP reads the configuration again. The log goes to standard error: with priorities where
    /// that is systemd's journal, with times elsewhere. EDEPLOY_LOG=debug makes it longer.
    #[command(after_help = SERVE, after_long_help = serve_help())]
    Serve {
        #[command(flatten)]
        config: Config,
        /// Address instead of LISTEN of edeploy.conf
        #[arg(long, value_name = "ADDR")]
        listen: Option<SocketAddr>,
        /// Write the log as JSON, one object a line
        #[arg(long)]
        log_json: bool,
    },
    /// List machines: all, `phase=failed`, `profile=vm`, or one by name
    #[command(after_help = "Example:\n  edeploy-server machines phase=failed")]
    Machines {
        #[command(flatten)]
        deployment: Deployment,
        /// Which
        selector: Option<String>,
        /// Stable JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Show everything known of one machine
    #[command(after_help = "Example:\n  edeploy-server show host03")]
    Show {
        #[command(flatten)]
        machine: Machine,
        /// Stable JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the newest log that a machine uploaded
    #[command(after_help = "Example:\n  edeploy-server log host03 | less")]
    Log {
        #[command(flatten)]
        machine: Machine,
    },
    /// Take back what a machine holds: its CMDB entry and its count
    #[command(after_help = "Example:\n  edeploy-server release host03")]
    Release {
        #[command(flatten)]
        machine: Machine,
    },
    /// Let an installed machine be installed once more, with the same entry
    #[command(after_help = "Example:\n  edeploy-server reinstall host03")]
    Reinstall {
        #[command(flatten)]
        machine: Machine,
    },
    /// Give back what a machine holds and forget it
    #[command(after_help = "Example:\n  edeploy-server forget 52:54:00:88:17:3c")]
    Forget {
        #[command(flatten)]
        machine: Machine,
    },
    /// Let the next machine that resembles this one be it (a swapped board or NIC)
    #[command(after_help = "Example:\n  edeploy-server rebind host03")]
    Rebind {
        #[command(flatten)]
        machine: Machine,
    },
    /// Decide by hand what a machine gets at its next upload
    #[command(after_help = "Example:\n  edeploy-server assign host03 vm ip=10.0.2.110")]
    Assign {
        #[command(flatten)]
        machine: Machine,
        /// The only profile that will be tried
        profile: String,
        /// Values that choose the CMDB entry, or win over the facts
        #[arg(value_name = "KEY=VALUE")]
        values: Vec<String>,
    },
    /// Bring state, CMDBs, records and facts on disk up to date, now
    ///
    /// Also removes what LOGAGE, LOGCOUNT, RECORDAGE and RECORDCOUNT of edeploy.conf no longer keep,
    /// and says what; `serve` does that every hour. No record goes of a machine that holds anything.
    #[command(after_help = "Example:\n  edeploy-server sync")]
    Sync {
        #[command(flatten)]
        deployment: Deployment,
    },
    /// Edit a file of the configuration: checked before it is in force, while machines are answered
    ///
    /// Opens a copy in $VISUAL, $EDITOR or the system's editor. What the server writes meanwhile (a
    /// mark `used`, a count) is kept; an edit of the very same entry is refused. The copy of an edit
    /// that is not in force is kept and named; the exit code is 1 then.
    #[command(after_help = "Example:\n  edeploy-server edit vm.cmdb")]
    Edit {
        #[command(flatten)]
        deployment: Deployment,
        /// state, vm.specs, vm.cmdb, vm.configure, a script; or the path of such a file
        file: String,
    },
    /// Check the files of a CONFIGDIR: file, line, column, what is wrong, how to mend it
    ///
    /// Without DIR the marks `used` are held against the machines on record as well. Warnings do
    /// not change the exit code.
    #[command(after_help = "Example:\n  edeploy-server check /var/lib/edeploy/config")]
    Check {
        #[command(flatten)]
        config: Config,
        /// A CONFIGDIR (default: that of edeploy.conf)
        #[arg(value_name = "DIR")]
        folder: Option<PathBuf>,
        /// Stable JSON
        #[arg(long)]
        json: bool,
    },
    /// Show the plan that a machine with these facts would get; changes nothing
    #[command(after_help = "Example:\n  edeploy-server plan /var/lib/edeploy/config facts.hw")]
    Plan {
        #[command(flatten)]
        config: Config,
        /// [DIR] FACTS: a CONFIGDIR (default: that of edeploy.conf), and a file of facts or `-`
        #[arg(num_args = 1..=2, required = true, value_name = "DIR FACTS")]
        paths: Vec<PathBuf>,
        /// The plan as JSON instead of RON
        #[arg(long)]
        json: bool,
    },
    /// Say what an upload of these facts would be answered, and for each profile why; changes nothing
    ///
    /// `--all HWDIR` asks for every machine whose facts are stored there, each as if it came alone
    /// and new; with `--against OLD_DIR` only those are told that get another profile or entry than
    /// OLD_DIR gave them, and the exit code is 1 when there are any.
    #[command(after_help = EXPLAIN)]
    Explain {
        #[command(flatten)]
        config: Config,
        /// [DIR] FACTS: a CONFIGDIR (default: that of edeploy.conf, with the machines it knows), and
        /// a file of facts, `-`, or a machine; with --all only [DIR]
        #[arg(num_args = 0..=2, value_name = "DIR FACTS")]
        paths: Vec<PathBuf>,
        /// Every machine of this folder of facts
        #[arg(long, value_name = "HWDIR")]
        all: Option<PathBuf>,
        /// Only the machines that this CONFIGDIR answers differently
        #[arg(long, value_name = "OLD_DIR", requires = "all")]
        against: Option<PathBuf>,
        /// This profile alone
        #[arg(long, conflicts_with = "all")]
        profile: Option<String>,
        /// Stable JSON
        #[arg(long)]
        json: bool,
    },
    /// Convert an original CONFIGDIR to the native syntax, and report what is left to do
    ///
    /// Exit code 1: something could not be converted, and the report says what.
    #[command(after_help = "Example:\n  edeploy-server import /var/lib/edeploy/config ./config")]
    Import {
        /// The original folder; it is only read
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// A folder that is empty or does not exist yet
        out: PathBuf,
        /// The report as stable JSON
        #[arg(long)]
        json: bool,
    },
    /// Whether an entry with this value is in use: 0 yes, 1 no
    #[command(after_help = "Example:\n  edeploy-server verify-cmdb hostname host03 vm.cmdb")]
    VerifyCmdb {
        /// A key of the entries
        key: String,
        /// Its value
        value: String,
        /// CMDB files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Propose exclude, add_only, pre and post of the edge between two versions of a role
    ///
    /// Compares the manifests that scripts/build-role puts beside trees. Prints; changes nothing
    /// without --write.
    #[command(
        after_help = "Example:\n  edeploy-server metadata D12-F.1.0.0 D12-F.1.0.1 mysql --write"
    )]
    Metadata {
        /// The version that hosts have
        from: Name,
        /// The version that they are to have
        to: Name,
        /// The role
        role: Name,
        /// What the rsync module `install` serves
        #[arg(long, value_name = "DIR", default_value = "/var/lib/debootstrap/install")]
        install: PathBuf,
        /// What the rsync module `metadata` serves
        #[arg(long, value_name = "DIR", default_value = "/var/lib/debootstrap/metadata")]
        metadata: PathBuf,
        /// Write the files where hosts look for them; an edge that is there stays as it is
        #[arg(long)]
        write: bool,
        /// Stable JSON
        #[arg(long)]
        json: bool,
    },
    /// Match one spec list against one list of facts, and say why not
    #[command(after_help = "Example:\n  edeploy-server match vm.specs host03.hw")]
    Match {
        /// A spec list in either syntax
        specs: PathBuf,
        /// Facts as JSON or literals; `-` for standard input
        facts: PathBuf,
        /// Stable JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the entries that a CMDB expression expands to, one a line
    #[command(
        after_help = "Example:\n  edeploy-server generate \"generate({'ip': '10.0.0.1-9'})\""
    )]
    Generate {
        /// A call of `generate`, a list of mappings, or a CMDB file
        #[arg(value_name = "EXPR")]
        expression: String,
        /// One JSON list
        #[arg(long)]
        json: bool,
    },
}

/// What a command answered, for the exit code.
enum Outcome {
    Done,
    No,
}

fn main() -> ExitCode {
    server::memory::settle();
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(is_broken_pipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            let prefix = logging::fatal_prefix();
            drop(writeln!(io::stderr(), "{prefix}edeploy-server: {error:#}"));
            ExitCode::from(3)
        }
    }
}

fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Serve { config, listen, log_json } => {
            logging::start(log_json);
            let application = Application::open(&config.config)?;
            server::serve::serve(application, listen)?;
            Ok(Outcome::Done)
        }
        Command::Machines { deployment, selector, json } => {
            let store = open(&deployment)?;
            let listed = store.look(|world| {
                let records = machines::select(&world.census, selector.as_deref());
                let text = if json {
                    let list: Vec<_> = records.iter().map(machines::summary_json).collect();
                    serde_json::to_string_pretty(&list)?
                } else {
                    machines::table(&records, commands::now(), terminal_width())
                };
                anyhow::Ok((records.len(), text))
            });
            let (count, text) = listed??;
            print(&text)?;
            Ok(if count == 0 && selector.is_some() { Outcome::No } else { Outcome::Done })
        }
        Command::Show { machine, json } => {
            let store = open(&machine.deployment)?;
            let record = commands::find(&store, &machine.machine)?;
            if json {
                print(&serde_json::to_string_pretty(&machines::full_json(&record))?)?;
            } else {
                print(&machines::full_text(&record, commands::now()))?;
            }
            Ok(Outcome::Done)
        }
        Command::Log { machine } => log(&machine),
        Command::Release { machine } => change(&machine, commands::Change::Release),
        Command::Reinstall { machine } => change(&machine, commands::Change::Reinstall),
        Command::Forget { machine } => change(&machine, commands::Change::Forget),
        Command::Rebind { machine } => change(&machine, commands::Change::Rebind),
        Command::Assign { machine, profile, values } => {
            change(&machine, commands::assignment(&profile, &values)?)
        }
        Command::Sync { deployment } => {
            let store = open(&deployment)?;
            for sentence in retention::sweep(&store)? {
                print(&sentence)?;
            }
            store.sync()?;
            Ok(Outcome::Done)
        }
        Command::Edit { deployment, file } => {
            let application = Application::open(&deployment.config.config)?;
            let target = edit::Target::find(&application, &deployment.section, &file)?;
            let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
            let in_force = edit::edit(&target, is_terminal)?;
            Ok(if in_force { Outcome::Done } else { Outcome::No })
        }
        Command::Metadata { from, to, role, install, metadata, write, json } => {
            let edge = Edge { from, to, role, install, metadata };
            let proposal = edge.propose()?;
            let written = if write { edge.write(&proposal)? } else { Vec::new() };
            if json {
                print(&serde_json::to_string_pretty(&proposal)?)?;
            } else {
                print(&metadata::show(&proposal))?;
            }
            for path in written {
                writeln!(io::stderr(), "edeploy-server: wrote {}", path.display())?;
            }
            Ok(Outcome::Done)
        }
        Command::Match { specs, facts, json } => {
            let name = specs.display().to_string();
            let text =
                std::fs::read_to_string(&specs).with_context(|| format!("cannot read {name}"))?;
            let spec = specs::lang::Spec::parse(&name, &text)?;
            let verdict = match_cmd::verdict(&spec, &commands::read_facts(&facts)?);
            print(&if json { serde_json::to_string_pretty(&verdict.json)? } else { verdict.text })?;
            Ok(if verdict.matched { Outcome::Done } else { Outcome::No })
        }
        Command::Generate { expression, json } => {
            // No expression is the name of a file that is there.
            let entries = match Path::new(&expression).is_file() {
                true => {
                    let text = std::fs::read_to_string(&expression)
                        .with_context(|| format!("cannot read {expression}"))?;
                    match_cmd::entries(&expression, &text)?
                }
                false => match_cmd::entries("EXPR", &expression)?,
            };
            let lines: Vec<String> = entries.iter().map(ToString::to_string).collect();
            print(&if json { serde_json::to_string_pretty(&entries)? } else { lines.join("\n") })?;
            Ok(Outcome::Done)
        }
        Command::Check { config, folder, json } => {
            let report = commands::check(&config.config, folder.as_deref())?;
            if json {
                print(&serde_json::to_string_pretty(&report.findings)?)?;
            } else {
                for finding in &report.findings {
                    print(&format!("{finding}\n"))?;
                }
                print(&report.summary())?;
            }
            Ok(if report.has_errors() { Outcome::No } else { Outcome::Done })
        }
        Command::Explain { config, paths, all: Some(hw_dir), against, json, .. } => {
            let folder = match &paths[..] {
                [folder] => folder.clone(),
                [] => commands::config_dir(&config.config)?,
                _ => usage("with --all at most one argument is expected: [DIR]"),
            };
            explain_all(&folder, &hw_dir, against.as_deref(), json)
        }
        Command::Explain { config, paths, profile, json, .. } => {
            let (folder, facts) = match &paths[..] {
                [folder, facts] => (Some(folder.as_path()), facts),
                [facts] => (None, facts),
                _ => usage("FACTS is missing: a file, `-`, or a machine"),
            };
            let trial = explain::explain(&config.config, folder, facts)?;
            if let Some(name) = &profile
                && !trial.profiles.iter().any(|tried| tried.profile.as_str() == name)
            {
                bail!("`state` names no profile `{name}`");
            }
            print(&if json {
                serde_json::to_string_pretty(&explain::json(&trial))?
            } else {
                explain::text(&trial, profile.as_deref(), terminal_width())
            })?;
            Ok(if explain::is_served(&trial) { Outcome::Done } else { Outcome::No })
        }
        Command::Import { folder, out, json } => {
            let report = import::run(&folder, &out)?;
            print(&if json {
                serde_json::to_string_pretty(&import::json(&report))?
            } else {
                import::text(&report)
            })?;
            Ok(if import::is_complete(&report) { Outcome::Done } else { Outcome::No })
        }
        Command::VerifyCmdb { key, value, files } => {
            let deployed = verify_cmdb::is_deployed(&key, &value, &files)?;
            Ok(if deployed { Outcome::Done } else { Outcome::No })
        }
        Command::Plan { config, paths, json } => {
            let (folder, facts) = match &paths[..] {
                [folder, facts] => (Some(folder.as_path()), facts),
                [facts] => (None, facts),
                _ => bail!("one or two arguments are expected: [DIR] FACTS"),
            };
            match commands::plan(&config.config, folder, facts)? {
                Ok(plan) if json => print(&serde_json::to_string_pretty(&plan)?)?,
                Ok(plan) => print(specs::wire::to_ron(&plan)?.trim_end())?,
                Err(refused) => {
                    print(&commands::refusal_text(&refused))?;
                    return Ok(Outcome::No);
                }
            }
            Ok(Outcome::Done)
        }
    }
}

/// Ends with exit code 2, as clap does for what it finds itself.
fn usage(message: &str) -> ! {
    Cli::command().error(ErrorKind::WrongNumberOfValues, message).exit()
}

fn explain_all(
    folder: &Path,
    hw_dir: &Path,
    against: Option<&Path>,
    json: bool,
) -> anyhow::Result<Outcome> {
    let machines = explain::all(folder, hw_dir)?;
    let Some(old) = against else {
        print(&if json {
            serde_json::to_string_pretty(&explain::all_json(&machines))?
        } else {
            explain::all_text(&machines)
        })?;
        let served = machines.iter().all(|it| it.trial.as_ref().is_ok_and(explain::is_served));
        return Ok(if served { Outcome::Done } else { Outcome::No });
    };
    let differences = explain::differences(&explain::all(old, hw_dir)?, &machines);
    print(&if json {
        serde_json::to_string_pretty(&explain::differences_json(&differences))?
    } else {
        explain::differences_text(&differences, machines.len())
    })?;
    Ok(if differences.is_empty() { Outcome::Done } else { Outcome::No })
}

fn open(deployment: &Deployment) -> anyhow::Result<std::sync::Arc<server::store::Store>> {
    let application = Application::open(&deployment.config.config)?;
    application.store(&deployment.section).with_context(|| {
        let (path, section) = (deployment.config.config.display(), &deployment.section);
        format!("{path} has no section `{section}`")
    })
}

fn change(machine: &Machine, change: commands::Change) -> anyhow::Result<Outcome> {
    let store = open(&machine.deployment)?;
    let record = commands::find(&store, &machine.machine)?;
    let answer = commands::carry_out(&store, &record.id, change)?;
    store.sync()?;
    match answer {
        Ok(sentence) => {
            print(&sentence)?;
            Ok(Outcome::Done)
        }
        Err(refused) => {
            print(&commands::refusal_text(&refused))?;
            Ok(Outcome::No)
        }
    }
}

fn log(machine: &Machine) -> anyhow::Result<Outcome> {
    /// More than any installation writes, less than fills a terminal's memory.
    const MOST: u64 = 64 << 20;
    let store = open(&machine.deployment)?;
    let record = commands::find(&store, &machine.machine)?;
    let folder = &store.section().log_dir;
    let newest = machines::newest_log(folder, &record)
        .with_context(|| format!("cannot look for logs in {}", folder.display()))?;
    let Some(path) = newest else {
        print(&format!("{} has uploaded no log to {}", record.display_name(), folder.display()))?;
        return Ok(Outcome::No);
    };
    let text = machines::read_log(&path, MOST)
        .with_context(|| format!("cannot unpack {}", path.display()))?;
    print(&text)?;
    Ok(Outcome::Done)
}

fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.write_all(b"\n")?;
    output.flush()
}

/// The width a table may take: that of the terminal; without one, as wide as it needs.
fn terminal_width() -> Option<u16> {
    io::stdout().is_terminal().then(|| {
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        columns.or_else(|| comfy_table::Table::new().width()).unwrap_or(80)
    })
}
