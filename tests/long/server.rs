//! The server under load, killed: what `lab storm` plays, at the size of a hall.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lab::artifacts::checkout;
use lab::process::run_shown;
use lab::storm::fleet::Fleet;
use lab::storm::hall::{Front, Hall, Size};
use lab::storm::{Options, release_programs, storm};

/// Kills at random instants of single allocations.
const KILLS: usize = 1000;

fn built() {
    let release = ["build", "--release", "--quiet", "--locked", "--package", "server", "--bins"];
    run_shown("cargo", release).unwrap();
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
        folder: "/var/tmp".into(),
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
    built();
    let smaller = Options { machines: 1000, front: Front::Cgi, kills: 3, ..options() };
    println!("{}", storm(&smaller).unwrap());
}

/// Each kill is at another instant of one allocation: from before the request is read to after
/// the files were renamed. In the end every machine is given what it was told.
#[test]
fn a_thousand_kills_at_random_instants_of_single_allocations() {
    built();
    let folder = tempfile::Builder::new().prefix("kills.").tempdir_in("/var/tmp").unwrap();
    let size = Size { profiles: 1, entries: KILLS };
    let hall = Hall::new(folder.path(), size, Front::Serve, release_programs()).unwrap();
    let fleet = Fleet::read(&checkout().join("tests/fixtures/corpus"), 0).unwrap();
    let door = hall.door();
    let mut told: Vec<Option<String>> = Vec::new();
    for kill in 0..KILLS {
        hall.start().unwrap();
        let request = door.upload_request(&fleet.facts(kill, 1).unwrap());
        let begun = AtomicBool::new(false);
        let answer = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                begun.store(true, Ordering::SeqCst);
                door.send(&request)
            });
            while !begun.load(Ordering::SeqCst) {
                std::hint::spin_loop();
            }
            // A multiplicative hash spreads the instants over 0 to 8 ms, or to the files' turn.
            let chance = (kill as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let span = if kill % 10 == 0 { 700_000 } else { 8_000 };
            std::thread::sleep(Duration::from_micros(chance % span));
            hall.kill().unwrap();
            asking.join().unwrap()
        });
        let name = answer.map(|answer| {
            assert_eq!(answer.status, 200, "{kill}");
            answer.json()["plan"]["plan"]["hostname"].as_str().unwrap().to_owned()
        });
        told.push(name);
    }
    let answered = told.iter().flatten().count();
    println!("{answered} of {KILLS} were answered before the kill");
    assert!((50..KILLS - 50).contains(&answered), "the instants miss the allocation: {answered}");
    hall.start().unwrap();
    let mut names = std::collections::BTreeSet::new();
    for (number, earlier) in told.into_iter().enumerate() {
        let request = door.upload_request(&fleet.facts(number, 1).unwrap());
        let answer = door.send(&request).unwrap();
        let name = answer.json()["plan"]["plan"]["hostname"].as_str().map(str::to_owned);
        assert!(answer.status == 200 && name.is_some(), "{number}: {}", answer.status);
        assert!(earlier.is_none() || earlier == name, "{number}: {earlier:?}, then {name:?}");
        assert!(names.insert(name), "an entry was given twice");
    }
    hall.stop().unwrap();
    let state = std::fs::read_to_string(folder.path().join("config/state")).unwrap();
    assert!(state.contains(&format!("(\"kind0\", {})", lab::storm::hall::SPARE)), "{state}");
}
