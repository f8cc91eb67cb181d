//! `lab storm`: the whole hall asks at once. Machines with the facts of captured ones upload, lose
//! replies, ask twice, report, fail and begin again, while the server is killed and restarted;
//! afterwards the books have to be right.

pub mod client;
pub mod fleet;
pub mod hall;
mod invariants;
mod machine;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::fleet::Fleet;
use self::hall::{Front, Hall, Programs, Size};
use self::machine::Machine;
use crate::artifacts::checkout;
use crate::say;

/// Plays a hall of machines against the server and checks the books afterwards
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  lab storm --machines 10000 --clients 64 --kills 20")]
pub struct Options {
    /// Machines
    #[arg(long, default_value_t = 1000)]
    pub machines: usize,
    /// Machines that talk at once
    #[arg(long, default_value_t = 64)]
    pub clients: usize,
    /// CMDB entries, all profiles together [default: as many as machines]
    #[arg(long)]
    pub entries: Option<usize>,
    /// Profiles, at most 5
    #[arg(long, default_value_t = 5)]
    pub profiles: usize,
    /// How often the server is killed and started again
    #[arg(long, default_value_t = 0)]
    pub kills: usize,
    /// Which front
    #[arg(long, value_enum, default_value = "serve")]
    pub front: Front,
    /// Every machine has at least this many facts
    #[arg(long, default_value_t = 0)]
    pub facts: usize,
    /// Seed of everything that is left to chance
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the deployment lies; kept when something is wrong
    #[arg(long, default_value = "/var/tmp")]
    pub folder: PathBuf,
    /// Folder of edeploy-server and edeploy-cgi
    #[arg(long)]
    pub programs: Option<PathBuf>,
}

/// The programs of a release build.
pub fn release_programs() -> Programs {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| checkout().join("target"), PathBuf::from);
    Programs::in_folder(&target.join("release"))
}

/// The programs that were built together with the test that runs now.
#[cfg(test)]
pub(crate) fn debug_programs() -> Programs {
    let test = std::env::current_exe().expect("a test has a file");
    let folder = test.parent().and_then(std::path::Path::parent).expect("target/debug/deps");
    let programs = Programs::in_folder(folder);
    assert!(programs.server.exists(), "first: cargo build --workspace --bins");
    programs
}

/// Plays it and checks it. One line says what happened.
pub fn storm(options: &Options) -> Result<String> {
    ensure!(
        (1..=fleet::KINDS).contains(&options.profiles),
        "there are 1 to {} profiles",
        fleet::KINDS
    );
    let folder = tempfile::Builder::new().prefix("storm.").tempdir_in(&options.folder)?;
    let programs = options.programs.as_deref().map_or_else(release_programs, Programs::in_folder);
    let entries = options.entries.unwrap_or(options.machines);
    let size = Size { profiles: options.profiles, entries };
    let hall = Hall::new(folder.path(), size, options.front, programs)?;
    match play(options, &hall) {
        Ok(line) => Ok(line),
        Err(error) => {
            let kept = folder.keep();
            Err(error.context(format!("the deployment lies in {}", kept.display())))
        }
    }
}

fn play(options: &Options, hall: &Hall) -> Result<String> {
    let fleet = Fleet::read(&checkout().join("tests/fixtures/corpus"), options.facts)?;
    hall.start()?;
    let door = hall.door();
    let machines: Vec<Mutex<Machine>> = (0..options.machines)
        .map(|number| {
            let facts = fleet.facts(number, options.profiles)?;
            Ok(Mutex::new(Machine::new(number, &door, &facts, options.seed)))
        })
        .collect::<Result<_>>()?;
    let next = AtomicUsize::new(0);
    let finished = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let begun = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..options.clients)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let Some(machine) = machines.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let mut machine =
                            machine.lock().map_err(|_| anyhow::anyhow!("a client panicked"))?;
                        let lived = machine.live(&door);
                        finished.fetch_add(1, Ordering::Relaxed);
                        if lived.is_err() {
                            failed.store(true, Ordering::Relaxed);
                        }
                        lived?;
                    }
                    Ok(())
                })
            })
            .collect();
        for kill in 0..options.kills {
            // Spread over the storm, wherever it has come to.
            let at = (kill + 1) * options.machines / (options.kills + 1);
            while finished.load(Ordering::Relaxed) < at && !failed.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            hall.kill_and_restart().with_context(|| format!("kill number {}", kill + 1))?;
        }
        for worker in workers {
            worker.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(())
    })?;
    let took = begun.elapsed();
    let footprint = hall.footprint()?;
    say("the storm is over; looking at the books");
    hall.stop()?;
    let machines: Vec<Machine> = machines
        .into_iter()
        .map(|machine| machine.into_inner().map_err(|_| anyhow::anyhow!("a client panicked")))
        .collect::<Result<_>>()?;
    let summary = invariants::check(hall, &machines)?;
    let requests: usize = machines.iter().map(|machine| machine.requests).sum();
    Ok(format!(
        "{} machines, {requests} requests in {:.1} s ({:.0}/s), {} kills; {summary}; server {:.1} \
         MiB, {} descriptors",
        machines.len(),
        took.as_secs_f64(),
        requests as f64 / took.as_secs_f64(),
        options.kills,
        footprint.0 as f64 / f64::from(1 << 20),
        footprint.1,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs::{Need, present};

    #[track_caller]
    fn check(front: Front, machines: usize, kills: usize) {
        let programs = debug_programs().server;
        let line = storm(&Options {
            machines,
            clients: 8,
            entries: None,
            profiles: 5,
            kills,
            front,
            facts: 0,
            seed: 1,
            folder: std::env::temp_dir(),
            programs: programs.parent().map(Into::into),
        });
        let used = format!("{machines} entries used, counts exact");
        assert!(line.unwrap().contains(&used));
    }

    #[test]
    fn a_small_storm() {
        check(Front::Serve, 60, 2);
    }

    #[test]
    fn a_small_storm_through_cgi() {
        if present(&[Need::Program("lighttpd")]) {
            check(Front::Cgi, 15, 1);
        }
    }
}
