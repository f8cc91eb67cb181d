//! `lab bench-host`: how fast a host is compared with its version, and upgraded to one that
//! changes nothing, beside the rsync runs that tell the same.
//!
//! Only ratios are worth something: all commands take turns on the same files, which are in the
//! page cache. The host and the daemon share the processors, as rsync's two ends do.

#![expect(clippy::print_stdout, reason = "the figures are what this command is for")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::dice::Dice;
use crate::process::{Lifetime, outcome, run};
use crate::services::{free_port, rsync_daemon};

const ROLE: &str = "web";

/// Measures verify and upgrades that change nothing, against rsync
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  scripts/bench-host --files 50000")]
pub struct Options {
    /// Files of the host
    #[arg(long, default_value_t = 50_000)]
    files: usize,
    /// Turns of each command
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where the host lies
    #[arg(long, default_value = "/var/tmp")]
    folder: PathBuf,
    /// The `edeploy` to measure: the one that hosts get, small and static
    #[arg(long)]
    edeploy: PathBuf,
}

/// Runs all of it and prints a table.
pub fn bench(options: &Options) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("bench-host.").tempdir_in(&options.folder)?;
    let folder = folder.path();
    let bytes = make_site(folder, options)?;
    let port = free_port()?;
    let (install, metadata) = (folder.join("install"), folder.join("metadata"));
    let _daemon = rsync_daemon(folder, port, &install, &metadata, Lifetime::Scoped)?;
    let host = folder.join("host");
    let conf = format!("VERS={}\nROLE={ROLE}\nRSERV=127.0.0.1\nRSERV_PORT={port}\n", version(0));
    fs::write(host.join("var/lib/edeploy/conf"), conf)?;
    println!("{} files, {} MiB, {} turns", options.files, bytes >> 20, options.rounds);

    let tree = format!("rsync://127.0.0.1:{port}/install/{}/{ROLE}/", version(0));
    let host = host.display().to_string();
    let place = format!("{host}/");
    let edeploy = options.edeploy.display().to_string();
    let mut times = [const { Vec::new() }; 5];
    for round in 0..options.rounds {
        let next = version(round + 1);
        let lines: [Vec<&str>; 5] = [
            vec!["rsync", "-n", "-aHAX", "--checksum", &tree, &place],
            vec![&edeploy, "--root", &host, "verify"],
            vec![&edeploy, "--root", &host, "upgrade", &next],
            vec!["rsync", "-n", "-a", &tree, &place],
            vec![&edeploy, "--root", &host, "verify", "--fast"],
        ];
        for (line, times) in lines.iter().zip(&mut times) {
            times.push(timed(line)?);
        }
    }
    let [checksum, verify, upgrade, quick, fast] = times.map(median);
    let row = |name: &str, time: Duration, than: Duration| {
        let ratio = than.as_secs_f64() / time.as_secs_f64();
        println!("{name:32} {:7.3} s  {ratio:5.2} times as fast", time.as_secs_f64());
    };
    row("rsync -n -aHAX --checksum", checksum, checksum);
    row("edeploy verify", verify, checksum);
    row("edeploy upgrade, nothing changes", upgrade, checksum);
    row("rsync -n -a", quick, quick);
    row("edeploy verify --fast", fast, quick);
    Ok(())
}

fn version(number: usize) -> String {
    format!("B.1.0.{number}")
}

fn timed(line: &[&str]) -> Result<Duration> {
    let start = Instant::now();
    let (code, said, complained) = outcome(line[0], &line[1..])?;
    let took = start.elapsed();
    ensure!(code == Some(0), "`{}`: {code:?} {said} {complained}", line.join(" "));
    Ok(took)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// A tree, the host that is a copy of it, and versions that hold the same. Tells how many bytes.
fn make_site(folder: &Path, options: &Options) -> Result<u64> {
    let tree = folder.join("install").join(version(0)).join(ROLE);
    for name in ["usr/bin", "usr/lib", "var/lib/edeploy"] {
        fs::create_dir_all(tree.join(name))?;
    }
    for name in ["bin", "lib"] {
        symlink(format!("usr/{name}"), tree.join(name))?;
    }
    let mut dice = Dice::new(1);
    let mut all = 0;
    let content: Vec<u8> = (0..1 << 20).map(|_| dice.below(256).to_le_bytes()[0]).collect();
    for number in 0..options.files {
        let place = tree.join(format!("usr/share/package-{:04}/doc", number / 40));
        if number.is_multiple_of(40) {
            fs::create_dir_all(&place)?;
        }
        let length = size(&mut dice);
        let from = dice.position(1 << 19);
        fs::write(place.join(format!("file-{number}.txt")), &content[from..from + length])?;
        all += length as u64;
    }
    let copy = ["-a".into(), tree.clone().into_os_string(), folder.join("host").into_os_string()];
    run("cp", copy)?;
    let edeploy = options.edeploy.display().to_string();
    for number in 0..=options.rounds {
        let name = version(number);
        let place = folder.join("install").join(&name);
        if number > 0 {
            fs::create_dir_all(&place)?;
            symlink(&tree, place.join(ROLE))?;
            let edge = folder.join("metadata").join(version(number - 1)).join(ROLE).join(&name);
            fs::create_dir_all(&edge)?;
            fs::write(edge.join("exclude"), "/srv\n")?;
        }
        let words = ["manifest", &tree.display().to_string(), ROLE, &name];
        let text = run(&edeploy, words).context("making a manifest")?;
        fs::write(place.join(format!("{ROLE}.manifest")), text)?;
    }
    Ok(all)
}

/// As in a Debian system: most files are small, a few hold most of the bytes.
fn size(dice: &mut Dice) -> usize {
    let doublings = [7, 8, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 15, 17][dice.position(14)];
    (1_usize << doublings) + dice.position(1 << doublings)
}
