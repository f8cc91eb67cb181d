//! Group `server`: the server under a hall's worth of load, killed, cut off from power, its disk
//! failing, its door besieged. Each prints what it measured.

mod kills;

use std::path::Path;
use std::time::Duration;

use lab::needs::{Need, present};
use lab::process::run_shown;
use lab::storm::hall::{Front, Programs};
use lab::storm::{Options, release_programs, storm};
use lab::trials::{crowd, endurance, faults, full_disk, history, in_folder, power, walk};

/// On a disk, where it is about what a disk does.
const DISK: &str = "/var/tmp";
/// In memory, where it is not: a kill loses nothing that was written, and tens of thousands of
/// syncs that nobody looks at would take their time.
const MEMORY: &str = "/dev/shm";

/// The programs of a release build, built if need be.
fn built() -> Programs {
    let release = ["build", "--release", "--quiet", "--locked", "--package", "server", "--bins"];
    run_shown("cargo", release).unwrap();
    release_programs()
}

fn options() -> Options {
    Options {
        machines: 10_000,
        clients: 64,
        entries: None,
        profiles: 5,
        kills: 20,
        front: Front::Serve,
        facts: 0,
        seed: 7,
        folder: DISK.into(),
        programs: None,
    }
}

#[test]
fn ten_thousand_machines_and_twenty_kills() {
    built();
    println!("{}", storm(&options()).unwrap());
}

#[test]
fn a_storm_through_cgi() {
    if !present(&[Need::Program("lighttpd")]) {
        return;
    }
    built();
    let smaller = Options { machines: 1000, front: Front::Cgi, kills: 3, ..options() };
    println!("{}", storm(&smaller).unwrap());
}

#[test]
fn a_thousand_power_cuts_take_no_reply_back() {
    if !present(&[Need::Program("strace")]) {
        return;
    }
    let programs = built();
    let size = power::Size { machines: 300, kills: 3, cuts: 1000, seed: 3 };
    let trial = |folder: &Path| power::trial(folder, Path::new(MEMORY), programs, size);
    let played = in_folder(Path::new(DISK), trial).unwrap();
    println!("{played:?}");
    assert!(played.cuts == 1000 && played.losses > 500, "{played:?}");
}

#[test]
fn a_hundred_thousand_steps_are_as_the_table_says() {
    let programs = built();
    let steps =
        in_folder(Path::new(MEMORY), |folder| walk::walk(folder, programs, 100_000, 11)).unwrap();
    println!("{steps:?}");
    assert!(steps.kills > 500 && steps.installed > 5000, "{steps:?}");
}

#[test]
fn concurrent_requests_look_as_if_they_had_come_one_by_one() {
    let programs = built();
    let recorded =
        in_folder(Path::new(MEMORY), |folder| history::record(folder, programs, 3000, 5)).unwrap();
    println!("{recorded:?}");
    assert!(recorded.overlaps > recorded.requests && recorded.unanswered > 50, "{recorded:?}");
}

#[test]
fn every_system_call_may_fail_once() {
    if !present(&[Need::Program("strace")]) {
        return;
    }
    let programs = built();
    for fault in faults::FAULTS {
        let trial = |folder: &Path| faults::trial(folder, &programs, fault, 1);
        let failed = in_folder(Path::new(MEMORY), trial).unwrap();
        println!("{} {}: {failed:?}", fault.call, fault.error);
        assert!(failed.places > 0, "{fault:?} happens nowhere");
    }
}

#[test]
fn a_besieged_door_opens_for_honest_machines() {
    if !present(&[Need::Program("prlimit")]) {
        return;
    }
    let programs = built();
    let without = Duration::from_secs(10);
    let siege =
        in_folder(Path::new(DISK), |folder| crowd::siege(folder, programs, without)).unwrap();
    println!("{siege:?}");
}

#[test]
fn facts_that_explode_the_matcher_are_refused_with_the_reason() {
    let programs = built();
    let explosion =
        in_folder(Path::new(DISK), |folder| crowd::explosion(folder, programs)).unwrap();
    println!("{explosion:?}");
}

#[test]
fn ten_minutes_of_load_leave_everything_flat() {
    let programs = built();
    let (long, pause) = (Duration::from_secs(600), Duration::from_secs(10));
    let endure = |folder: &Path| endurance::endure(folder, programs, long, pause);
    let samples = in_folder(Path::new(DISK), endure).unwrap();
    // The first fifth is for getting there.
    let settled = &samples[samples.len() / 5..];
    let [begin, .., end] = settled else { panic!("{samples:?}") };
    println!("{begin:?}\n{end:?}");
    assert!(end.memory < begin.memory * 5 / 4 + (4 << 20), "memory grows: {samples:?}");
    for sample in settled {
        assert!(sample.descriptors <= begin.descriptors + 64, "descriptors: {samples:?}");
        assert!(sample.journal < 40 << 20, "the journal grows: {samples:?}");
        assert!(sample.logs <= 9 << 20, "the logs grow: {samples:?}");
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    if !present(&[Need::Root, Need::LoopDevices, Need::Program("mkfs.ext4")]) {
        return;
    }
    let programs = built();
    let answered = in_folder(Path::new(DISK), |folder| full_disk::trial(folder, programs)).unwrap();
    println!("{answered:?}");
    assert!(answered.refused > 0, "{answered:?}");
}
