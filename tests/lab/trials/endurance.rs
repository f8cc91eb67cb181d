//! Load for as long as one likes: memory and descriptors of the server stay flat, its journal and
//! the logs it stores stay bounded, while machines come, install, upload their logs and are
//! released or forgotten.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use server::store::Store;

use super::Dice;
use super::place::{Place, check_files, event, facts_json};
use super::table::{Command, Hardware, News, Nic, Request};
use crate::say;
use crate::storm::hall::Programs;

/// Machines at once.
const CLIENTS: Nic = 16;
/// Different machines of one client: each comes again and again.
const OF_A_CLIENT: Nic = 60;
/// Bytes that logs may take in all, and bytes of one.
const MOST_LOGS: u64 = 8 << 20;
const LOG: usize = 20_000;

/// What was measured at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Since the begin.
    pub at: Duration,
    /// Resident memory in bytes.
    pub memory: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Bytes of the journal.
    pub journal: u64,
    /// Bytes of stored logs.
    pub logs: u64,
    /// Requests so far.
    pub requests: usize,
}

/// Plays for so long, with a sample every `pause`.
pub fn endure(
    folder: &Path,
    programs: Programs,
    long: Duration,
    pause: Duration,
) -> Result<Vec<Sample>> {
    let machines = CLIENTS * OF_A_CLIENT;
    let place = Place::new(folder, programs, usize::from(machines), i64::from(machines))?;
    let configuration = place.hall.configuration();
    let settings = std::fs::read_to_string(&configuration)?;
    std::fs::write(&configuration, format!("{settings}MAXLOGS={MOST_LOGS}\n"))?;
    place.hall.start()?;
    let store = place.store()?;
    let (over, requests) = (AtomicBool::new(false), AtomicUsize::new(0));
    let samples: Mutex<Vec<Sample>> = Mutex::default();
    std::thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (place, store, over, requests) = (&place, &store, &over, &requests);
                scope.spawn(move || {
                    let lived = live(place, store, client, over, requests);
                    over.store(true, Ordering::SeqCst);
                    lived
                })
            })
            .collect();
        let begun = Instant::now();
        let mut measured = Ok(());
        while begun.elapsed() < long && !over.load(Ordering::SeqCst) && measured.is_ok() {
            std::thread::sleep(pause);
            measured = measure(&place, begun, &requests).and_then(|sample| {
                say(&format!("{sample:?}"));
                samples.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.push(sample);
                Ok(())
            });
        }
        over.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        measured
    })?;
    place.hall.stop()?;
    check_files(&store)?;
    samples.into_inner().map_err(|_| anyhow::anyhow!("poisoned"))
}

fn measure(place: &Place, begun: Instant, requests: &AtomicUsize) -> Result<Sample> {
    let (memory, descriptors) = place.hall.footprint()?;
    let journal = place.hall.folder.join("config/.edeploy/journal");
    let mut logs = 0;
    if let Ok(entries) = std::fs::read_dir(place.hall.folder.join("logs")) {
        for entry in entries {
            // One that is put in its place just now has another name a moment later.
            logs += entry?.metadata().map_or(0, |metadata| metadata.len());
        }
    }
    Ok(Sample {
        at: begun.elapsed(),
        memory,
        descriptors,
        journal: std::fs::metadata(journal)?.len(),
        logs,
        requests: requests.load(Ordering::Relaxed),
    })
}

/// The machines of one client, one after the other and over again.
fn live(
    place: &Place,
    store: &Store,
    client: Nic,
    over: &AtomicBool,
    requests: &AtomicUsize,
) -> Result<()> {
    let mut dice = Dice::new(u64::from(client));
    let door = place.door();
    let ask = |request: &[u8]| {
        requests.fetch_add(1, Ordering::Relaxed);
        door.send(request).context("nobody answers")
    };
    while !over.load(Ordering::SeqCst) {
        let number = Nic::try_from(dice.below(usize::from(OF_A_CLIENT)))?;
        let nic = client * OF_A_CLIENT + number;
        let hardware = Hardware { nics: vec![nic], serial: Some(nic), uuid: None };
        let answer = ask(&door.upload_request(&facts_json(&hardware)?))?;
        ensure!(answer.status == 200, "{nic}: {}", answer.json());
        if let Some(ticket) = answer.json()["plan"]["ticket"].as_str() {
            for (number, news) in [News::Destructive, News::Installed].into_iter().enumerate() {
                let events = json!([event(news)]);
                let report = door.events_request(&"0".repeat(32), ticket, number as u64, &events);
                let answer = ask(&report)?;
                ensure!(answer.status == 200, "{nic}: {}", answer.json());
            }
            // Once there are too many it is told so; that is no harm to it.
            let log = "x".repeat(LOG);
            let name = format!("machine-{nic}.log.gz");
            let answer = ask(&door.form_request(&[("file", Some(&name), &log)]))?;
            ensure!(matches!(answer.status, 200 | 503), "{}", answer.status);
        }
        let command = dice.pick(&[Command::Release, Command::Forget, Command::Reinstall]);
        place.decide(store, &Request::Operate(nic, command))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trials::shortly;

    #[test]
    fn a_short_while_leaves_no_descriptor_open() {
        let second = Duration::from_secs(1);
        let samples = shortly(|folder, programs| endure(folder, programs, 4 * second, second));
        let [first, .., last] = samples[..] else { panic!("{samples:?}") };
        assert!(last.descriptors <= first.descriptors + usize::from(CLIENTS), "{samples:?}");
        assert!(last.requests > first.requests && last.logs <= MOST_LOGS, "{samples:?}");
    }
}
