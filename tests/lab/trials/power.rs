//! Power cuts: whatever reply had left before is still true after, however much of what was not
//! synced is lost.
//!
//! The real server, and the real command line beside it, run under `strace` while machines live
//! their lives and the server is killed now and then. What the kernel saw is replayed on a disk
//! that forgets ([`super::disk`]) up to random moments; what it may have kept is laid out in a
//! folder, and the store is opened on it. Each machine asks again only when it was answered, so
//! at most one request of it is under way: its record is as the last reply said, or as the
//! next one would have said.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use specs::machine::Phase;

use super::Dice;
use super::disk::Disk;
use super::place::{Place, Standings, check_files, event, facts_json, mac, store};
use super::table::{Hardware, News, Nic};
use super::trace::{self, Action, Event};
use crate::process::{run, wait_until};
use crate::storm::client::Answer;
use crate::storm::hall::Programs;

/// Machines at once.
const CLIENTS: usize = 6;

/// How large the trial is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Machines, and as many entries.
    pub machines: Nic,
    /// Kills of the server while they live.
    pub kills: usize,
    /// Moments at which the power fails.
    pub cuts: usize,
    /// Of everything left to chance.
    pub seed: u64,
}

/// What was played.
#[derive(Debug, Default)]
pub struct Played {
    /// Calls of the kernel that changed files, synced them or sent a reply.
    pub events: usize,
    /// Replies among them.
    pub replies: usize,
    /// Moments at which the power failed.
    pub cuts: usize,
    /// Cuts that the store could tell from an orderly end: something was lost.
    pub losses: usize,
}

/// Phase and entry; `None`: nobody knows the machine.
type Standing = Option<(Phase, Option<usize>)>;

/// What a machine was told, reply by reply: the nonce of the reply, and how it stands from then on.
type Told = Vec<(String, Standing)>;

/// Plays and checks it, with everything below `folder`; what is left of cuts is laid out below
/// `remains`, where writing should be fast.
pub fn trial(folder: &Path, remains: &Path, programs: Programs, size: Size) -> Result<Played> {
    let machines = usize::from(size.machines);
    let left = i64::from(size.machines);
    let place = Place::new(&folder.join("hall"), programs, machines, left)?;
    let disk = Disk::of(&place.hall.folder)?;
    let traces = Traces { folder, count: AtomicUsize::new(0) };
    let told = play(&place, &traces, size)?;
    let events = traces.read(&place.hall.folder)?;
    cut(disk, &events, &told, &place, remains, size)
}

/// The traces of all processes.
struct Traces<'a> {
    folder: &'a Path,
    count: AtomicUsize,
}

impl Traces<'_> {
    /// The name of the next trace.
    fn next(&self) -> String {
        format!("trace-{}", self.count.fetch_add(1, Ordering::SeqCst))
    }

    fn options(&self, name: &str) -> Vec<String> {
        trace::options(&self.folder.join(name))
    }

    /// All events, in order; a reply of the command line has the name of its trace for a nonce.
    fn read(&self, root: &Path) -> Result<Vec<Event>> {
        let mut all = Vec::new();
        for number in 0..self.count.load(Ordering::SeqCst) {
            let name = format!("trace-{number}");
            let path = self.folder.join(&name);
            let text = wait_until("strace to end", Duration::from_secs(60), || {
                let text = std::fs::read_to_string(&path)?;
                Ok(trace::is_complete(&text).then_some(text))
            })?;
            for event in trace::read(&text, root).with_context(|| name.clone())? {
                let action = match event.action {
                    Action::Reply(bytes) => Action::Reply(nonce_of(&bytes, &name)),
                    action => action,
                };
                all.push(Event { action, ..event });
            }
        }
        all.sort_by_key(|event| event.begun);
        Ok(all)
    }
}

/// The nonce that a reply repeats; that of the command line has none.
fn nonce_of(reply: &[u8], trace: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(reply);
    if text.starts_with("HTTP/1.1 503") {
        // It promises nothing.
        return Vec::new();
    }
    match text.split_once("\"nonce\":\"").and_then(|(_, rest)| rest.get(..32)) {
        Some(nonce) => nonce.as_bytes().to_vec(),
        None if text.starts_with("HTTP/") => Vec::new(),
        None => trace.as_bytes().to_vec(),
    }
}

/// All machines live their lives; what each was told.
fn play(place: &Place, traces: &Traces<'_>, size: Size) -> Result<Vec<Told>> {
    let start = || place.hall.start_under_strace(&traces.options(&traces.next()));
    start()?;
    let next = AtomicUsize::new(0);
    let told: Vec<Mutex<Told>> = (0..size.machines).map(|_| Mutex::default()).collect();
    std::thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    while let number = next.fetch_add(1, Ordering::SeqCst)
                        && let Some(told) = told.get(number)
                    {
                        let nic = Nic::try_from(number)?;
                        let mut machine = Machine::new(place, traces, nic, size.seed);
                        machine.live().with_context(|| format!("machine {nic}"))?;
                        *told.lock().map_err(|_| anyhow::anyhow!("a client panicked"))? =
                            machine.told;
                    }
                    Ok(())
                })
            })
            .collect();
        for kill in 1..=size.kills {
            let at = kill * usize::from(size.machines) / (size.kills + 1);
            while next.load(Ordering::SeqCst) < at && !clients.iter().any(|it| it.is_finished()) {
                std::thread::sleep(Duration::from_millis(1));
            }
            place.hall.kill()?;
            start()?;
        }
        for client in clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(())
    })?;
    place.hall.stop()?;
    let all = told.into_iter().map(|it| it.into_inner());
    all.map(|it| it.map_err(|_| anyhow::anyhow!("a client panicked"))).collect()
}

/// One machine of the trial.
struct Machine<'a> {
    place: &'a Place,
    traces: &'a Traces<'a>,
    nic: Nic,
    dice: Dice,
    told: Told,
    /// What it holds.
    entry: Option<usize>,
    ticket: String,
    next_event: u64,
}

impl<'a> Machine<'a> {
    fn new(place: &'a Place, traces: &'a Traces<'a>, nic: Nic, seed: u64) -> Machine<'a> {
        Machine {
            place,
            traces,
            nic,
            dice: Dice::new(seed ^ u64::from(nic) << 32),
            told: Vec::new(),
            entry: None,
            ticket: String::new(),
            next_event: 0,
        }
    }

    fn live(&mut self) -> Result<()> {
        self.upload()?;
        if self.dice.hits(4) {
            self.report(News::Failed, Phase::Failed, false)?;
            self.upload()?;
        }
        self.report(News::Harmless, Phase::Leased, true)?;
        self.report(News::Destructive, Phase::Installing, true)?;
        if self.dice.hits(4) {
            self.report(News::Failed, Phase::Failed, true)?;
            self.upload()?;
        }
        self.report(News::Installed, Phase::Installed, true)?;
        self.upload()?;
        match self.dice.below(20) {
            0 => self.operate("release", Some((Phase::Released, None))),
            1 => self.operate("forget", None),
            2 => self.operate("reinstall", Some((Phase::Armed, self.entry))),
            _ => Ok(()),
        }
    }

    fn upload(&mut self) -> Result<()> {
        let nonce = self.nonce();
        let hardware = Hardware { nics: vec![self.nic], serial: Some(self.nic), uuid: None };
        let facts = facts_json(&hardware)?;
        let request = self
            .place
            .door()
            .form_request(&[("nonce", None, &nonce), ("file", Some("hw.json"), &facts)]);
        let reply = self.ask(&request)?.json();
        let plan = &reply["plan"];
        let hostname = plan["plan"]["hostname"].as_str();
        let installed = reply["installed"]["hostname"].as_str();
        let name = hostname.or(installed).with_context(|| format!("nothing given: {reply}"))?;
        let entry = name.rsplit('-').next().unwrap_or_default().parse()?;
        self.entry = Some(entry);
        if let Some(ticket) = plan["ticket"].as_str() {
            (self.ticket, self.next_event) = (ticket.to_owned(), 0);
        }
        let phase = if hostname.is_some() { Phase::Leased } else { Phase::Installed };
        self.told.push((nonce, Some((phase, self.entry))));
        Ok(())
    }

    fn report(&mut self, news: News, phase: Phase, keeps: bool) -> Result<()> {
        let nonce = self.nonce();
        let events = json!([event(news)]);
        let door = self.place.door();
        let request = door.events_request(&nonce, &self.ticket, self.next_event, &events);
        let answer = self.ask(&request)?;
        // A kill may have taken the reply to the first try, which gave everything back.
        let known = answer.status == 409 && !keeps;
        ensure!(answer.status == 200 || known, "{news:?}: {}", answer.json());
        self.next_event += 1;
        self.entry = self.entry.filter(|_| keeps);
        self.told.push((nonce, Some((phase, self.entry))));
        Ok(())
    }

    /// An operator's command for this machine, in a process of its own.
    fn operate(&mut self, command: &str, after: Standing) -> Result<()> {
        let name = self.traces.next();
        let mut arguments = self.traces.options(&name);
        arguments.push(self.place.hall.programs().server.display().to_string());
        arguments.extend([command, "--config"].map(str::to_owned));
        arguments.push(self.place.hall.configuration().display().to_string());
        arguments.push(mac(self.nic));
        run("strace", arguments)?;
        self.told.push((name, after));
        Ok(())
    }

    /// Asks until someone answers.
    fn ask(&self, request: &[u8]) -> Result<Answer> {
        for _ in 0..1000 {
            match self.place.door().send(request) {
                Some(answer) if answer.status != 503 => return Ok(answer),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        bail!("nobody answers")
    }

    fn nonce(&self) -> String {
        format!("{:016x}{:016x}", self.nic, self.told.len())
    }
}

/// Replays the events, and opens the store on what each of so many cuts leaves.
fn cut(
    mut disk: Disk,
    events: &[Event],
    told: &[Told],
    place: &Place,
    remains: &Path,
    size: Size,
) -> Result<Played> {
    let mut dice = Dice::new(size.seed);
    // Begin and end of each, by time; what ends at the moment that another begins is over.
    let ends = events.iter().enumerate().filter_map(|(n, it)| Some((it.ended?, 0, n)));
    let begins = events.iter().enumerate().map(|(number, event)| (event.begun, 1, number));
    let mut moments: Vec<(u64, u8, usize)> = ends.chain(begins).collect();
    moments.sort_unstable();
    let is_reply = |number: usize| matches!(events[number].action, Action::Reply(_));
    let replies: Vec<usize> = (0..moments.len())
        .filter(|moment| moments[*moment].1 == 1 && is_reply(moments[*moment].2))
        .collect();
    let mut cuts: BTreeMap<usize, usize> = BTreeMap::new();
    for number in 0..size.cuts {
        // Every other one right after a reply has left.
        let moment = match number % 2 {
            0 => dice.pick(&replies),
            _ => dice.below(moments.len()),
        };
        *cuts.entry(moment).or_default() += 1;
    }
    let mut left: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut played = Played { events: events.len(), ..Played::default() };
    for (moment, (time, begins, number)) in moments.iter().enumerate() {
        match (&events[*number].action, begins) {
            (Action::Reply(nonce), 1) => {
                played.replies += 1;
                left.entry(nonce.clone()).or_insert(*time);
            }
            (_, 1) => disk.begin(*number, &events[*number])?,
            _ => disk.end(*number),
        }
        for _ in 0..cuts.get(&moment).copied().unwrap_or(0) {
            let folder = tempfile::tempdir_in(remains)?;
            disk.write_remains(folder.path(), &mut dice)?;
            let checked = check(folder.path(), told, &left, usize::from(size.machines));
            if let Err(error) = checked {
                let kept = folder.keep();
                let place = place.hall.folder.display();
                return Err(error.context(format!(
                    "the power failed at {time} (cut {} with seed {}); what was left lies in {}, \
                     the hall in {place}",
                    played.cuts,
                    size.seed,
                    kept.display()
                )));
            }
            played.cuts += 1;
            played.losses += usize::from(disk.has_unsynced());
        }
    }
    Ok(played)
}

/// Opens the store on what was left: every reply that had left is true.
fn check(
    folder: &Path,
    told: &[Told],
    left: &BTreeMap<Vec<u8>, u64>,
    machines: usize,
) -> Result<()> {
    let store = store(&folder.join("edeploy.conf"))?;
    let standings = check_files(&store)?;
    for (nic, told) in told.iter().enumerate() {
        let nic = Nic::try_from(nic)?;
        let heard = told.iter().take_while(|(nonce, _)| left.contains_key(nonce.as_bytes()));
        let heard = heard.count();
        let before = heard.checked_sub(1).map_or(Some(None), |last| told.get(last).map(|it| it.1));
        let next = told.get(heard).map(|(_, standing)| *standing);
        let there = standings.of_nic(nic);
        ensure!(
            before == Some(there) || next == Some(there),
            "machine {nic} was told {before:?}, would be told {next:?}, and is {there:?}"
        );
    }
    check_count(&standings, machines)
}

fn check_count(standings: &Standings, machines: usize) -> Result<()> {
    let (left, counted) = (usize::try_from(standings.left)?, standings.counted());
    ensure!(left + counted == machines, "{counted} are counted, and {left} of {machines} left");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs::{Need, present};
    use crate::trials::shortly;

    #[test]
    fn power_cuts_take_no_reply_back() {
        if !present(&[Need::Program("strace")]) {
            return;
        }
        let size = Size { machines: 40, kills: 1, cuts: 60, seed: 1 };
        let played = shortly(|folder, programs| trial(folder, folder, programs, size));
        assert!(played.replies > 200 && played.losses > 20, "{played:?}");
    }
}
