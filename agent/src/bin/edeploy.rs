//! `edeploy`: the command line of an installed host. Parses, calls [`agent::host`], prints.

use std::path::PathBuf;
use std::process::ExitCode;

use agent::host::{self, Identity};
use agent::world::{RealRunner, Root};
use anyhow::Context;
use clap::{Parser, Subcommand};
use serde_json::{Value, json};

/// Exit code: the answer is no.
const NO: u8 = 1;

/// Exit code: the command failed.
const FAILED: u8 = 3;

/// Tells what this host is, and to which versions it can be upgraded.
#[derive(Debug, Parser)]
#[command(
    name = "edeploy",
    version,
    after_help = "Examples:\n  edeploy version\n  edeploy list --json\n  edeploy --root /mnt profile\n\n\
                  Exit codes: 0 done, 1 the answer is no, 2 wrong usage, 3 failed."
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
}

/// What a command has to say: for people and for programs, and whether the answer is no.
struct Answer {
    text: String,
    json: Value,
    no: bool,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the command line")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match answer(&arguments) {
        Ok(answer) => {
            if arguments.json {
                println!("{}", answer.json);
            } else if answer.no {
                eprintln!("{}", answer.text);
            } else {
                println!("{}", answer.text);
            }
            if answer.no { ExitCode::from(NO) } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("edeploy: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn answer(arguments: &Arguments) -> anyhow::Result<Answer> {
    let identity = Identity::read(&Root::new(&arguments.root))
        .with_context(|| "cannot tell what this host is")?;
    let yes = |key: &str, text: &str| Answer {
        text: text.to_owned(),
        json: json!({ key: text }),
        no: false,
    };
    Ok(match arguments.command {
        Command::Version => yes("version", identity.version.as_str()),
        Command::Role => yes("role", identity.role.as_str()),
        Command::Profile => match &identity.profile {
            Some(profile) => yes("profile", profile.as_str()),
            None => Answer {
                text: "no profile is recorded in /var/log/edeploy/vars".to_owned(),
                json: json!({ "profile": null }),
                no: true,
            },
        },
        Command::List => {
            let versions = host::list(&mut RealRunner, &identity)?;
            let none = versions.is_empty();
            let from = format!("{} {}", identity.role, identity.version);
            Answer {
                text: if none {
                    format!("there is no upgrade of {from}")
                } else {
                    versions.join("\n")
                },
                json: json!({ "version": identity.version, "role": identity.role, "upgrades": versions }),
                no: none,
            }
        }
    })
}
