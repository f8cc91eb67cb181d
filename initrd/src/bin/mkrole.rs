//! The command line of role trees: what `scripts/build-role` calls, and what an administrator
//! calls on a tree that another tool made.

#![expect(clippy::print_stdout, reason = "this program's answer is what it prints")]

use std::path::PathBuf;
use std::process::ExitCode;

use agent::host::pkgmngr;
use agent::world::Root;
use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use mkinitrd::role;
use specs::ids::Change;
use specs::units::Name;

/// Makes role trees of what a distribution's tools installed.
///
/// Example: mkrole finish /srv/trees/web --ids scripts/roles/ids/D12.tables
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Seconds since 1970: nothing in the tree will be younger [default: the youngest file that
    /// came in a package].
    #[arg(long, env = "SOURCE_DATE_EPOCH", global = true)]
    age: Option<i64>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a tree a role: stable numbers, nothing of one machine, package managers off.
    Finish {
        /// The tree.
        tree: PathBuf,
        /// The table of numbers; without one they stay as they are.
        #[arg(long)]
        ids: Option<PathBuf>,
    },
    /// Gives a finished tree a version: conf, manifest, archive and checksums.
    Publish {
        /// The tree.
        tree: PathBuf,
        /// The folder of the version, where the files are put.
        #[arg(long)]
        out: PathBuf,
        /// The role.
        #[arg(long)]
        role: Name,
        /// Its version.
        #[arg(long)]
        version: Name,
    },
    /// Makes an account inside a tree with the numbers of the table.
    ///
    /// Example: mkrole account TREE --ids D12.tables -- useradd --system jenkins
    Account {
        /// The tree.
        tree: PathBuf,
        /// The table of numbers.
        #[arg(long)]
        ids: PathBuf,
        /// useradd, adduser, groupadd or addgroup, with its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the last words of a program that failed")]
            {
                eprintln!("mkrole: {error:#}");
            }
            ExitCode::from(3)
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let age = |tree: &PathBuf| match arguments.age {
        Some(age) => Ok(age),
        None => role::newest_packaged(tree),
    };
    match &arguments.command {
        Command::Finish { tree, ids } => {
            if !tree.join("etc").is_dir() {
                bail!("`{}` is no tree: it has no etc", tree.display());
            }
            // Before anything is written into the tree.
            let age = age(tree)?;
            if let Some(ids) = ids {
                for Change { kind, name, from, to } in role::renumber_tree(tree, ids)? {
                    println!("{} {name}: {from} becomes {to}", kind.noun());
                }
            }
            println!("{} paths removed", role::clean(tree)?.len());
            pkgmngr::deactivate(&Root::new(tree)).context("cannot finish the tree")?;
            println!("{} paths made as old as the packages", role::clamp(tree, age)?);
        }
        Command::Publish { tree, out, role, version } => {
            println!("{}", role::publish(tree, out, role, version, age(tree)?)?);
        }
        Command::Account { tree, ids, command } => role::add_account(tree, ids, command)?,
    }
    Ok(())
}
