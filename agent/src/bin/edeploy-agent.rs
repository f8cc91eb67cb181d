//! `edeploy-agent`: PID 1 of the initrd, the agent proper, the script of `udhcpc`, and the
//! command line for people, in one static program.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent::apply::{self, Applied, ApplyOptions};
use agent::detect;
use agent::execute::{EventSink, Objection, TARGET};
use agent::init;
use agent::link::udhcpc;
use agent::options::{AgentOptions, RawCmdline};
use agent::report::Console;
use agent::run;
use agent::world::Root;
use anyhow::Context;
use clap::{Parser, Subcommand};
use specs::event::Event;

/// Exit code: the command failed.
const FAILED: u8 = 3;

/// Finds out what a machine is, asks the server what it shall be, and makes it so.
#[derive(Debug, Parser)]
#[command(
    name = "edeploy-agent",
    version,
    after_help = "Examples:\n  edeploy-agent detect\n  edeploy-agent apply plan.ron\n\n\
                  As PID 1 of an initrd it needs no arguments.\n\
                  Exit codes: 0 done, 2 wrong usage, 3 failed."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Answer(Question),
    /// Does what the initrd does after it has booted: asks the server and obeys.
    #[command(after_help = "Example, in the console shell of the initrd:\n  edeploy-agent run")]
    Run,
}

/// What is answered with a text.
#[derive(Debug, Subcommand)]
enum Question {
    /// Prints the facts of this machine.
    #[command(after_help = "Example:\n  $ edeploy-agent detect --json\n  \
                            [[\"disk\",\"logical\",\"count\",1],[\"disk\",\"vda\",\"size\",10],…]")]
    Detect {
        /// Print a JSON list of [class, name, key, value].
        #[arg(long)]
        json: bool,
        /// Read a captured tree with `sys`, `proc` and `ip-address.json` instead.
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
    /// Prints every command that a plan stands for; with --write, carries it out.
    #[command(after_help = "Example:\n  edeploy-agent apply plan.ron\n  \
                            edeploy-agent apply plan.ron --write --disk S64GNE0R500123 \\\n    \
                            --arguments 'SERV=10.0.2.2 RSERV_PORT=1515'")]
    Apply {
        /// The plan, in RON.
        plan: PathBuf,
        /// Carry it out. Destroys the disks of the plan.
        #[arg(long)]
        write: bool,
        /// Serial number or WWN of a disk that may be destroyed (outside of the initrd: needed
        /// for each).
        #[arg(long = "disk", value_name = "SERIAL")]
        disks: Vec<String>,
        /// Boot arguments that say where trees come from; as a rule those of the kernel.
        #[arg(long, value_name = "TEXT")]
        arguments: Option<String>,
        /// Where the tree is mounted while it is written.
        #[arg(long, value_name = "DIR", default_value = TARGET)]
        target: PathBuf,
    },
    /// Writes down a DHCP answer; udhcpc calls it.
    #[command(hide = true)]
    DhcpEvent {
        /// `bound`, `renew` or another event of udhcpc.
        event: String,
    },
}

fn main() -> ExitCode {
    if init::is_init() {
        // The kernel hands over boot arguments it does not know: they are no command line.
        init::main();
    }
    let mut words: Vec<String> = std::env::args().collect();
    let name = words.first().and_then(|word| Path::new(word).file_name()?.to_str());
    if name == Some(udhcpc::EVENT_PROGRAM) {
        words.insert(1, udhcpc::EVENT_PROGRAM.to_owned());
    }
    match Arguments::parse_from(words).command {
        Command::Run => run::run(&Console::of_machine()).into(),
        Command::Answer(question) => answer(question),
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the command line")]
fn answer(question: Question) -> ExitCode {
    match text_of(question) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("edeploy-agent: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// Does what was asked for and returns what there is to print.
fn text_of(question: Question) -> anyhow::Result<String> {
    match question {
        Question::Detect { json, root } => {
            let facts = detect::detect_at(&Root::new(root));
            Ok(if json { serde_json::to_string(&facts)? + "\n" } else { detect::table(&facts) })
        }
        Question::Apply { plan, write, disks, arguments, target } => {
            let plan = apply::read_plan(&plan)?;
            let arguments = match arguments {
                Some(text) => text,
                None => std::fs::read_to_string("/proc/cmdline")
                    .context("cannot read the boot arguments")?,
            };
            let options =
                AgentOptions::parse(&RawCmdline::parse(&arguments)).map_err(|errors| {
                    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
                    anyhow::anyhow!(lines.join("\n"))
                })?;
            let origin = run::origin(&options);
            let options = ApplyOptions { write, disks, in_initrd: in_initrd(), origin, target };
            Ok(match apply::run(&plan, &options, &mut Screen)? {
                Applied::Shown(text) => text,
                Applied::Written(receipt) => format!("{} steps done\n", receipt.steps.len()),
            })
        }
        Question::DhcpEvent { event } => {
            let variables: BTreeMap<String, String> = std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect();
            udhcpc::record_event(&Root::system(), &event, &variables)?;
            Ok(format!("{}{event}\n", udhcpc::EVENT_MARK))
        }
    }
}

/// Whether PID 1 is this very program: then the disks are the plan's to destroy.
fn in_initrd() -> bool {
    let identity = |path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity("/proc/1/exe").is_some_and(|init| identity("/proc/self/exe") == Some(init))
}

/// Prints the steps of `apply --write` as they end.
struct Screen;

impl EventSink for Screen {
    #[expect(clippy::print_stderr, reason = "this is the command line")]
    fn event(&mut self, event: Event) {
        if let Event::StepEnded { step, seconds, error } = event {
            let word = if error.is_some() { "FAIL" } else { "done" };
            eprintln!("[ {word} ] {step} … {seconds:.1}s");
        }
    }

    /// Whoever typed `--write` has confirmed.
    fn confirm(&mut self) -> Result<(), Objection> {
        Ok(())
    }

    fn proceed(&mut self) -> Result<(), Objection> {
        Ok(())
    }
}
