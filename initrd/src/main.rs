//! The command line: builds `vmlinuz` and `initrd.pxe`, or optional groups, and prints what is in them.

#![expect(clippy::print_stdout, reason = "this program's answer is what it prints")]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use mkinitrd::{BuildOptions, Manifest, build, build_group, build_own_group, contents};

/// Builds the kernel and the initrd that machines boot over the network, from Debian packages.
///
/// Example: mkinitrd build --agent target/x86_64-unknown-linux-musl/initrd/edeploy-agent --out /srv/tftp
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Where packages and unpacked trees are kept between builds [default: $EDEPLOY_CACHE, or
    /// edeploy in $XDG_CACHE_HOME or ~/.cache].
    #[arg(long, global = true)]
    cache: Option<PathBuf>,
    /// What to put in, in place of the manifest built into this program.
    #[arg(long, global = true)]
    manifest: Option<PathBuf>,
    /// The Debian mirror, in place of Debian's archives among this machine's apt sources.
    #[arg(long, global = true)]
    mirror: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds OUT/vmlinuz and OUT/initrd.pxe.
    Build {
        /// The static agent, which becomes /init.
        #[arg(long)]
        agent: PathBuf,
        /// The folder to write to.
        #[arg(long)]
        out: PathBuf,
        /// How the root is compressed.
        #[arg(long, value_enum, default_value_t)]
        compression: mkinitrd::Compression,
    },
    /// Prints what is in the initrd: size, path and the reason, biggest first.
    Manifest,
    /// Builds OUT/NAME.cpio for each optional group, to be appended to initrd.pxe.
    #[command(
        after_help = "Examples:\n  mkinitrd group infiniband firmware-bnx2x --out /srv/tftp\n  \
                            dpkg-deb -x ssacli_6.30_amd64.deb /tmp/ssacli\n  \
                            mkinitrd group ssacli --files /tmp/ssacli --out /srv/tftp\n\n\
                            The boot loader appends them: INITRD initrd.pxe,infiniband.cpio,ssacli.cpio"
    )]
    Group {
        /// A group of the manifest (`infiniband`, `fibre-channel`), or a firmware package by name;
        /// with --files the name of the group that is made.
        #[arg(required = true)]
        names: Vec<String>,
        /// A folder whose files the group is made of, as they shall lie below /: a RAID vendor's
        /// unpacked package, for example. The libraries of its programs come along.
        #[arg(long, value_name = "DIR")]
        files: Option<PathBuf>,
        /// The folder to write to.
        #[arg(long)]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "the last words of a program that failed")]
            {
                eprintln!("mkinitrd: {error:#}");
            }
            ExitCode::from(3)
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let manifest = match &arguments.manifest {
        Some(path) => Manifest::parse(
            &std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?,
        )
        .with_context(|| format!("in {}", path.display()))?,
        None => Manifest::built_in()?,
    };
    let options = BuildOptions {
        manifest,
        cache: arguments.cache.map_or_else(mkinitrd::default_cache, Ok)?,
        mirror: arguments.mirror,
    };
    match arguments.command {
        Command::Build { agent, out, compression } => {
            print!("{}", build(&options, &agent, &out, compression)?);
        }
        Command::Manifest => print!("{}", contents(&options)?),
        Command::Group { names, files: Some(folder), out } => {
            let [name] = names.as_slice() else {
                anyhow::bail!("--files makes one group: give one name")
            };
            println!("{}", build_own_group(&options, name, &folder, &out)?);
        }
        Command::Group { names, files: None, out } => {
            for name in names {
                println!("{}", build_group(&options, &name, &out)?);
            }
        }
    }
    Ok(())
}
