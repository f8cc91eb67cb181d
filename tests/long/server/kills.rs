//! A thousand kills, each at another instant of one allocation: from before the request is read
//! to after the files were renamed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::storm::hall::Programs;
use lab::trials::in_folder;
use lab::trials::place::{Place, check_files};
use lab::trials::table::{Answer, Hardware, Nic, Request};
use specs::machine::Phase;

use super::{DISK, built};

/// How often the server is killed; as many machines ask.
const KILLS: Nic = 1000;

#[test]
fn a_thousand_kills_at_random_instants_of_single_allocations() {
    let programs = built();
    in_folder(Path::new(DISK), |folder| kills(folder, programs)).unwrap();
}

fn kills(folder: &Path, programs: Programs) -> Result<()> {
    let entries = usize::from(KILLS);
    let place = Place::new(folder, programs, entries, i64::from(KILLS))?;
    let mut told: BTreeMap<Nic, usize> = BTreeMap::new();
    for nic in 0..KILLS {
        place.hall.start()?;
        if let Some(entry) = ask_and_kill(&place, nic).with_context(|| format!("kill {nic}"))? {
            told.insert(nic, entry);
        }
    }
    println!("{} of {KILLS} were answered before the kill", told.len());
    ensure!((50..entries - 50).contains(&told.len()), "the instants miss the allocation");
    // As it lies there: what was answered is true, and entries, count and records agree.
    let store = place.store()?;
    let standings = check_files(&store)?;
    let mut stored = 0;
    for nic in 0..KILLS {
        let there = standings.of_nic(nic);
        stored += i64::from(there.is_some());
        match told.get(&nic) {
            Some(entry) => {
                ensure!(there == Some((Phase::Leased, Some(*entry))), "{nic}: {there:?}")
            }
            None => ensure!(
                there.is_none_or(|(phase, entry)| phase == Phase::Leased && entry.is_some())
            ),
        }
    }
    println!("{stored} were stored");
    ensure!(standings.left == i64::from(KILLS) - stored, "{} left", standings.left);
    // And in the end everyone is given what it was told.
    place.hall.start()?;
    let mut entries = BTreeSet::new();
    for nic in 0..KILLS {
        let answer = place.ask(&upload(nic))?;
        let Some(Answer::Plan(entry, _)) = answer else { anyhow::bail!("{nic}: {answer:?}") };
        ensure!(told.get(&nic).is_none_or(|told| *told == entry), "{nic} is to be {entry}");
        ensure!(entries.insert(entry), "entry {entry} was given twice");
    }
    place.hall.stop()?;
    ensure!(check_files(&store)?.left == 0, "the count is wrong");
    Ok(())
}

fn upload(nic: Nic) -> Request {
    Request::Upload(Hardware { nics: vec![nic], serial: Some(nic), uuid: None })
}

/// Kills the server while it answers a machine; the entry, when it was faster.
fn ask_and_kill(place: &Place, nic: Nic) -> Result<Option<usize>> {
    let request = upload(nic);
    let begun = AtomicBool::new(false);
    let answer = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            begun.store(true, Ordering::SeqCst);
            place.ask(&request)
        });
        while !begun.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
        // A multiplicative hash spreads the instants over 0 to 8 ms, or to the files' turn.
        let chance = u64::from(nic).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let span = if nic % 10 == 0 { 700_000 } else { 8_000 };
        std::thread::sleep(Duration::from_micros(chance % span));
        place.hall.kill()?;
        asking.join().map_err(|_| anyhow::anyhow!("the client panicked"))?
    })?;
    match answer {
        Some(Answer::Plan(entry, _)) => Ok(Some(entry)),
        None => Ok(None),
        other => anyhow::bail!("{other:?}"),
    }
}
