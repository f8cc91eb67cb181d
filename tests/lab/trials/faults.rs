//! Storage that fails: each system call by which the server reads or changes its files fails once,
//! at every place where it occurs, in a run of its own.
//!
//! The places are found by looking: one run without a fault names the files, then the n-th
//! call fails for n = 1, 2, … until a run has no n-th. `strace` makes it fail, in the real
//! server. Whoever is refused is told 503 with the reason; asking again succeeds; in the end
//! entries, count and records agree with what machines were told, and a server that is started
//! anew finds all of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use specs::machine::Phase;

use super::place::{Place, check_files, event, facts_json};
use super::table::{Hardware, News, Nic};
use super::trace::{self, Action};
use crate::process::wait_until;
use crate::storm::client::Answer;
use crate::storm::hall::Programs;

/// A call and how it fails, with the words that the refusal has to hold.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// The system call.
    pub call: &'static str,
    /// The error.
    pub error: &'static str,
    /// What the system says then.
    pub words: &'static str,
}

const fn fault(call: &'static str, error: &'static str, words: &'static str) -> Fault {
    Fault { call, error, words }
}

/// What can fail, and how.
pub const FAULTS: [Fault; 11] = [
    fault("pwrite64", "EIO", "Input/output error"),
    fault("pwrite64", "ENOSPC", "No space left on device"),
    fault("fdatasync", "EIO", "Input/output error"),
    fault("write", "ENOSPC", "No space left on device"),
    fault("write", "EIO", "Input/output error"),
    fault("fsync", "EIO", "Input/output error"),
    fault("rename", "EIO", "Input/output error"),
    fault("unlink", "EROFS", "Read-only file system"),
    fault("mkdir", "EROFS", "Read-only file system"),
    fault("openat", "EMFILE", "Too many open files"),
    fault("openat", "EROFS", "Read-only file system"),
];

/// What became of one fault at all its places.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Failed {
    /// How many places there were.
    pub places: usize,
    /// How many requests were refused because of it.
    pub refused: usize,
}

const MACHINES: Nic = 4;

/// Makes a call fail at each `stride`-th of its places.
pub fn trial(folder: &Path, programs: &Programs, fault: Fault, stride: usize) -> Result<Failed> {
    let paths = files(&folder.join("look"), programs)?;
    let mut failed = Failed::default();
    for place in (1..).step_by(stride) {
        let folder = folder.join(format!("{}-{}-{place}", fault.call, fault.error));
        let (injected, refused) =
            run(&folder, programs, fault, place, &paths).with_context(|| {
                format!("{} fails with {} at place {place}", fault.call, fault.error)
            })?;
        failed.refused += refused;
        if !injected {
            return Ok(failed);
        }
        failed.places += 1;
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(failed)
}

/// The files that a run without faults uses, those that are there for a moment included. They
/// have the same names in every folder.
fn files(folder: &Path, programs: &Programs) -> Result<BTreeSet<PathBuf>> {
    let place = place(folder, programs)?;
    let output = folder.join("trace");
    place.hall.start_under_strace(&trace::options(&output))?;
    live(&place, "")?;
    place.hall.stop()?;
    let text = complete(&output)?;
    let mut paths = BTreeSet::new();
    for event in trace::read(&text, &place.hall.folder)? {
        match event.action {
            Action::Open { path, .. }
            | Action::Write { path, .. }
            | Action::Cut(path, _)
            | Action::Sync(path)
            | Action::Remove(path)
            | Action::MakeFolder(path) => drop(paths.insert(path)),
            Action::Rename(from, to) => paths.extend([from, to]),
            Action::Reply(_) => {}
        }
    }
    let inner = paths.iter().map(|path| path.strip_prefix(&place.hall.folder));
    let inner = inner.map(|path| path.map(Path::to_owned));
    let mut inner: BTreeSet<PathBuf> = inner.collect::<Result<_, _>>()?;
    inner.extend(["state", "kind0.cmdb", "kind0.specs"].map(|name| Path::new("config").join(name)));
    Ok(inner)
}

fn place(folder: &Path, programs: &Programs) -> Result<Place> {
    let place = Place::new(folder, programs.clone(), usize::from(MACHINES), i64::from(MACHINES))?;
    let configuration = place.hall.configuration();
    let settings = std::fs::read_to_string(&configuration)?;
    // `strace` counts calls by thread.
    std::fs::write(&configuration, format!("{settings}WORKERS=1\n"))?;
    Ok(place)
}

fn complete(output: &Path) -> Result<String> {
    wait_until("strace to end", Duration::from_secs(30), || {
        let text = std::fs::read_to_string(output)?;
        Ok(trace::is_complete(&text).then_some(text))
    })
}

/// One run with a fault at one place: whether there was such a place, and how many were refused.
fn run(
    folder: &Path,
    programs: &Programs,
    fault: Fault,
    number: usize,
    paths: &BTreeSet<PathBuf>,
) -> Result<(bool, usize)> {
    let place = place(folder, programs)?;
    let output = folder.join("trace");
    let Fault { call, error, words } = fault;
    let mut options: Vec<String> =
        ["-f", "-o"].map(str::to_owned).into_iter().chain([output.display().to_string()]).collect();
    options.extend(["-e".to_owned(), format!("trace={call}")]);
    options.extend(["-e".to_owned(), format!("inject={call}:error={error}:when={number}")]);
    for path in paths {
        options.extend(["-P".to_owned(), place.hall.folder.join(path).display().to_string()]);
    }
    place.hall.start_under_strace(&options)?;
    let (told, refused) = live(&place, words)?;
    place.hall.stop()?;
    let injected = complete(&output)?.contains("(INJECTED)");
    // As a server that is started anew reads it.
    let standings = check_files(&place.store()?)?;
    for (nic, standing) in told {
        let there = standings.of_nic(nic);
        ensure!(there == Some(standing), "machine {nic} was told {standing:?}, and is {there:?}");
    }
    ensure!(standings.left + standings.counted() as i64 == i64::from(MACHINES), "{standings:?}");
    Ok((injected, refused))
}

type Standing = (Phase, Option<usize>);

/// One life of each kind: how each machine stands in the end, and how many requests were refused.
fn live(place: &Place, words: &str) -> Result<(Vec<(Nic, Standing)>, usize)> {
    let mut refused = 0;
    let mut ask = |request: &[u8]| -> Result<Answer> {
        for _ in 0..100 {
            let answer = place.door().send(request).context("the server went away")?;
            if answer.status == 200 {
                return Ok(answer);
            }
            let reason = String::from_utf8_lossy(&answer.body).into_owned();
            ensure!(answer.status == 503 && reason.contains(words), "{}: {reason}", answer.status);
            refused += 1;
        }
        bail!("refused over and over")
    };
    let mut told = Vec::new();
    for nic in 0..MACHINES {
        let hardware = Hardware { nics: vec![nic], serial: Some(nic), uuid: None };
        let reply = ask(&place.door().upload_request(&facts_json(&hardware)?))?.json();
        let ticket = reply["plan"]["ticket"].as_str().context("no plan")?;
        let entry = reply["plan"]["plan"]["hostname"].as_str().and_then(|it| it.rsplit('-').next());
        let entry: usize = entry.context("no host name")?.parse()?;
        let life: &[News] = match nic {
            0 => &[],
            1 => &[News::Destructive, News::Failed],
            2 => &[News::Harmless, News::Destructive, News::Installed],
            _ => &[News::Failed],
        };
        for (number, news) in life.iter().enumerate() {
            let events = json!([event(*news)]);
            let door = place.door();
            ask(&door.events_request(&"0".repeat(32), ticket, number as u64, &events))?;
        }
        let standing = match nic {
            0 => (Phase::Leased, Some(entry)),
            1 => (Phase::Failed, Some(entry)),
            2 => (Phase::Installed, Some(entry)),
            _ => (Phase::Failed, None),
        };
        told.push((nic, standing));
    }
    Ok((told, refused))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs::{Need, present};
    use crate::trials::shortly;

    #[test]
    fn a_write_or_sync_that_fails_once_is_a_503_and_nothing_more() {
        if !present(&[Need::Program("strace")]) {
            return;
        }
        let failed = shortly(|folder, programs| trial(folder, &programs, FAULTS[2], 3));
        assert!(failed.places > 2 && failed.refused > 0, "{failed:?}");
    }
}
