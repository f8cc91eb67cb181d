//! A real upgrade of a real machine, recorded on its disk; then its power is cut a hundred times.
//! Each disk is mounted and judged from outside, every tenth is booted as well.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::artifacts::{Artifacts, NEXT_VERSIONS, ROLE, VERSION};
use lab::disk::DiskState;
use lab::installed::Installed;
use lab::judge::{Judge, Verdict};
use lab::needs::{Need, present};
use lab::power_cut::log::WriteLog;
use lab::power_cut::{AttachedDisk, Cut, Cuts, NEEDS, overlay, seed};
use lab::process::Lifetime;
use lab::say;
use lab::scratch::Scratch;
use lab::site::{Overrides, Ports, Site};
use lab::vm::Format;

/// How many cuts, and of how many one is booted.
const CUTS: usize = 100;
const BOOTED: usize = 10;

/// The machine may restart in the middle of its first boot, when files were to be switched.
const STARTS: usize = 3;

/// A boot that ends in a restart, under emulation.
const BOOT: Duration = Duration::from_secs(300);

const MACHINE: [Need; 2] = [Need::Program("qemu-system-x86_64"), Need::Program("ssh")];

#[test]
fn a_hundred_power_cuts_of_a_machine() {
    if !present(&NEEDS) || !present(&MACHINE) {
        return;
    }
    let artifacts = Artifacts::build().unwrap();
    artifacts.build_next_versions().unwrap();
    let folder = Scratch::new(&artifacts.cache.join("lab"), "power").unwrap();
    let verdicts = survive(folder.path(), &artifacts).unwrap_or_else(|error| {
        say(&format!("everything of it lies in {}", folder.keep().display()));
        panic!("{error:?}");
    });
    assert_eq!(verdicts.values().sum::<usize>(), CUTS);
    for verdict in [Verdict::Old, Verdict::New, Verdict::Finished] {
        assert!(verdicts.contains_key(&verdict), "the cuts missed a part of it: {verdicts:?}");
    }
}

/// A recorded upgrade.
struct Recorded {
    log: WriteLog,
    /// Entries when it began, and when the command had said that it was done.
    begin: usize,
    done: usize,
    /// What differed from the manifests before and afterwards, on the running machine.
    drifted: [BTreeSet<String>; 2],
}

fn survive(folder: &Path, artifacts: &Artifacts) -> Result<BTreeMap<Verdict, usize>> {
    let seed = seed()?;
    say(&format!("{CUTS} power cuts of a machine, LAB_SEED={seed}"));
    let site =
        Site::new(folder, artifacts, Ports::free()?, &Overrides::default(), Lifetime::Scoped)?;
    let _rsync_daemon = site.start_rsync_daemon()?;
    let _server = site.start_server()?;
    let mut host = Installed::new(&site, "cut")?;
    let image = host.machine.disks[0].image.clone();
    let recorded = record(&mut host, folder)?;
    let Recorded { log, begin, done, drifted } = recorded;
    let versions = [VERSION, NEXT_VERSIONS[0]];
    let manifest =
        |version: &str| site.directory.join(format!("install/{version}/{ROLE}.manifest"));
    let manifests = versions.map(|version| (version.to_owned(), manifest(version)));
    let judge = Judge { edeploy: artifacts.edeploy.clone(), manifests, tolerated: drifted };
    let root = root_partition(&image)?;
    let mut cuts = Cuts::new(&log, &image);
    let mut verdicts = BTreeMap::new();
    let chosen = Cut::choose(&log, begin, log.entries.len(), CUTS, seed);
    for (number, cut) in chosen.iter().enumerate() {
        cuts.forward(cut)?;
        let mut look = || -> Result<Verdict> {
            let upper = folder.join("cut-disk");
            let mut disk = cut_disk(&cuts, cut, &image, &upper)?;
            disk.mount(Some(root), &folder.join("root"))?;
            let verdict = judge.judge(&folder.join("root"))?;
            ensure!(verdict.is_new() || cut.after < done, "what was done is undone");
            disk.detach()?;
            if number % (CUTS / BOOTED) == CUTS / BOOTED / 2 {
                cut_disk(&cuts, cut, &image, &upper)?.detach()?;
                host.machine.disks[0].image = upper.clone();
                host.machine.disks[0].format = Format::Overlay;
                comes_up(&host, &format!("cut{number}"), &judge)?;
            }
            fs::remove_file(upper)?;
            Ok(verdict)
        };
        let verdict = look()
            .with_context(|| format!("{cut:?}; the upgrade is {begin} to {done} of the log"))?;
        *verdicts.entry(verdict).or_default() += 1;
    }
    say(&format!("a machine: {verdicts:?}"));
    Ok(verdicts)
}

/// The disk as a cut left it.
fn cut_disk(cuts: &Cuts<'_>, cut: &Cut, image: &Path, upper: &Path) -> Result<AttachedDisk> {
    overlay(image, upper)?;
    let disk = AttachedDisk::show(upper)?;
    cuts.write_rest(cut, disk.file())?;
    Ok(disk)
}

/// Boots the installed machine, upgrades it and notes what is written. Its image stays as it was.
fn record(host: &mut Installed, folder: &Path) -> Result<Recorded> {
    let (upper, path) = (folder.join("recorded"), folder.join("log"));
    let image = host.machine.disks[0].image.clone();
    overlay(&image, &upper)?;
    fs::File::create(&path)?;
    host.machine.disks[0].image = upper.clone();
    host.machine.disks[0].format = Format::Recorded(path.clone());
    let vm = host.boot("record")?;
    settle(host)?;
    let entries = || -> Result<usize> { Ok(WriteLog::open(&path)?.entries.len()) };
    let before = drifted(host)?;
    let begin = entries()?;
    let [to, _] = NEXT_VERSIONS;
    let answer = host.login.answer(&format!("edeploy upgrade --no-reboot {to}"))?;
    ensure!(matches!(answer.code, Some(0 | 100)), "the upgrade: {answer:?}");
    let done = entries()?;
    let after = drifted(host)?;
    vm.cut_power()?;
    fs::remove_file(&upper)?;
    Ok(Recorded { log: WriteLog::open(&path)?, begin, done, drifted: [before, after] })
}

/// What differs from its version on the running machine, and what any running system writes.
fn drifted(host: &Installed) -> Result<BTreeSet<String>> {
    let answer = host.login.answer("edeploy verify --json")?;
    ensure!(matches!(answer.code, Some(0 | 1)), "verify: {answer:?}");
    let said: serde_json::Value = serde_json::from_str(&answer.said)?;
    let drifts = said["drifts"].as_array().context("no drifts")?;
    Ok(drifts.iter().filter_map(|drift| drift["path"].as_str()).map(str::to_owned).collect())
}

/// Waits until everything that the boot starts has been started.
fn settle(host: &Installed) -> Result<()> {
    // It also says that some unit of a machine without a display failed.
    host.login.answer("systemctl is-system-running --wait").map(drop)
}

/// The machine comes up with this disk, by itself, and an upgrade ends clean.
fn comes_up(host: &Installed, run: &str, judge: &Judge) -> Result<()> {
    let vm = start(host, run)?;
    settle(host)?;
    let [to, _] = NEXT_VERSIONS;
    let answer = host.login.answer(&format!("edeploy upgrade --no-reboot {to}"))?;
    ensure!(matches!(answer.code, Some(0 | 100)), "the upgrade of {run}: {answer:?}");
    let version = host.login.run("edeploy version")?;
    ensure!(version == to, "{run} says that it is {version}");
    let more: Vec<String> = drifted(host)?.difference(&judge.tolerated[1]).cloned().collect();
    ensure!(more.is_empty(), "{run} differs from {to} in {more:?}");
    say(&format!("{run}: up, and {to}"));
    vm.cut_power()
}

/// Starts it until it stays up.
fn start(host: &Installed, run: &str) -> Result<lab::vm::Vm> {
    for number in 1..=STARTS {
        let vm = host.start(&format!("{run}-{number}"))?;
        let up = lab::process::wait_until("the machine to come up or restart", BOOT, || {
            let over = !vm.runs()?;
            Ok((over || host.login.run("true").is_ok()).then_some(!over))
        })?;
        if up {
            return Ok(vm);
        }
    }
    anyhow::bail!("{run} restarted {STARTS} times")
}

/// The number of the partition with the root file system: the largest one.
fn root_partition(image: &Path) -> Result<u32> {
    let state = DiskState::read(image)?;
    let largest = (1..).zip(&state.partitions).max_by_key(|(_, partition)| partition.sectors);
    Ok(largest.context("the disk has no partition")?.0)
}
