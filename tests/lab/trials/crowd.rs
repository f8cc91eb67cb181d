//! The door besieged: clients that never finish, no descriptors left, facts that explode the
//! matcher. Honest machines are answered all the same, and how fast is measured.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::place::{Place, check_files, facts, facts_json, profile};
use super::table::{Hardware, Nic};
use crate::process::run;
use crate::storm::hall::Programs;

/// Half-sent requests.
const STALLED: usize = 200;
/// Entries, and machines that ask.
const ENTRIES: Nic = 40;

/// What was measured.
#[derive(Debug)]
pub struct Siege {
    /// An upload while others stall.
    pub among_stalled: Duration,
    /// The first upload after there were no descriptors for a while.
    pub after_descriptors: Duration,
    /// Clients that were accepted all the same while there were none.
    pub meanwhile: usize,
}

fn hardware(nic: Nic) -> Hardware {
    Hardware { nics: vec![nic], serial: Some(nic), uuid: None }
}

/// Uploads as machine `nic` and expects a plan; how long it took.
fn upload(place: &Place, nic: Nic) -> Result<Duration> {
    let request = place.door().upload_request(&facts_json(&hardware(nic))?);
    let begun = Instant::now();
    let answer = place.door().send(&request).context("nobody answers")?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.json());
    Ok(begun.elapsed())
}

/// 200 half-sent requests, a client that sends a byte a second, and no descriptors for `without`.
pub fn siege(folder: &Path, programs: Programs, without: Duration) -> Result<Siege> {
    let place = Place::new(folder, programs, usize::from(ENTRIES), i64::from(ENTRIES))?;
    place.hall.start()?;
    upload(&place, 0)?;
    let address = place.door().address;
    let mut stalled = Vec::new();
    for number in 0..STALLED {
        let mut stream = TcpStream::connect(address)?;
        let begun: &[u8] = match number % 3 {
            0 => b"",
            1 => b"POST /upload HT",
            _ => b"POST /upload HTTP/1.1\r\nContent-Length: 900\r\n\r\nxx",
        };
        stream.write_all(begun)?;
        stalled.push(stream);
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let request = place.door().upload_request("[]");
            let Ok(mut stream) = TcpStream::connect(address) else { return };
            for byte in request {
                // The server may have had enough of it; then it is gone.
                if over.load(Ordering::SeqCst) || stream.write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        let result = besiege(&place, without);
        over.store(true, Ordering::SeqCst);
        result
    })
}

fn besiege(place: &Place, without: Duration) -> Result<Siege> {
    let among_stalled = upload(place, 1)?;
    let id = place.hall.id()?;
    let open = std::fs::read_dir(format!("/proc/{id}/fd"))?.count();
    let limit =
        |limit: String| run("prlimit", [format!("--pid={id}"), format!("--nofile={limit}:")]);
    limit(open.to_string())?;
    let begun = Instant::now();
    let mut meanwhile = 0;
    while begun.elapsed() < without {
        let asked = TcpStream::connect(place.door().address);
        // The kernel takes the connection; nobody can take it from the kernel.
        meanwhile += usize::from(asked.is_ok());
        std::thread::sleep(Duration::from_millis(100));
    }
    limit("1024".to_owned())?;
    let after_descriptors = upload(place, 2)?;
    place.hall.stop()?;
    let standings = check_files(&place.store()?)?;
    ensure!(standings.left == i64::from(ENTRIES) - 3, "{standings:?}");
    Ok(Siege { among_stalled, after_descriptors, meanwhile })
}

/// What became of facts that explode the matcher.
#[derive(Debug)]
pub struct Explosion {
    /// How long the refusal took.
    pub refusal: Duration,
    /// Uploads of others meanwhile: the slowest.
    pub slowest: Duration,
    /// How many of those there were.
    pub others: usize,
}

/// A machine whose facts are the hardest question for the spec list: is there a group of
/// `GROUP` that all know each other? There are `GROUP - 1` kinds of people, who know everyone of
/// another kind, so there is not, and nothing short of trying shows it.
pub fn explosion(folder: &Path, programs: Programs) -> Result<Explosion> {
    const GROUP: usize = 10;
    const OF_A_KIND: usize = 11;
    let place = Place::new(folder, programs, usize::from(ENTRIES), i64::from(ENTRIES))?;
    let mut spec = String::from("[\n");
    for one in 0..GROUP {
        for other in 0..one {
            spec.push_str(&format!("    (\"knows\", \"$p{one}\", \"$p{other}\", \"yes\"),\n"));
        }
    }
    spec.push_str("]\n");
    let config = place.hall.folder.join("config");
    std::fs::write(config.join("hard.specs"), spec)?;
    std::fs::copy(config.join("kind0.configure"), config.join("hard.configure"))?;
    let state = format!("[(\"hard\", 9), (\"{}\", {ENTRIES})]\n", profile());
    std::fs::write(config.join("state"), state)?;
    let mut hard = facts(&hardware(1000));
    hard.0.retain(|fact| fact.0 != "system" || fact.1 != "rack");
    let people = (GROUP - 1) * OF_A_KIND;
    for one in 0..people {
        for other in (0..people).filter(|other| other % (GROUP - 1) != one % (GROUP - 1)) {
            hard.push("knows", &format!("p{one}"), &format!("p{other}"), "yes");
        }
    }
    let hard = place.door().upload_request(&serde_json::to_string(&hard)?);
    place.hall.start()?;
    upload(&place, 0)?;
    std::thread::scope(|scope| {
        let exploding = scope.spawn(|| {
            let begun = Instant::now();
            place.door().send(&hard).map(|answer| (begun.elapsed(), answer))
        });
        let mut slowest = Duration::ZERO;
        let mut others = 0;
        while !exploding.is_finished() && others + 1 < ENTRIES {
            others += 1;
            slowest = slowest.max(upload(&place, others)?);
        }
        let ended = exploding.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
        let (refusal, answer) = ended.context("nobody answers")?;
        let body = answer.json();
        let reason = body["refused"]["profiles"][0]["reason"].as_str().unwrap_or_default();
        ensure!(answer.status == 422 && reason.contains("undecided after"), "{body}");
        Ok(Explosion { refusal, slowest, others: usize::from(others) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs::{Need, present};
    use crate::trials::shortly;

    #[test]
    fn a_besieged_door_opens_for_honest_machines() {
        if !present(&[Need::Program("prlimit")]) {
            return;
        }
        let second = Duration::from_secs(1);
        let siege = shortly(|folder, programs| siege(folder, programs, second));
        assert!(siege.meanwhile > 0, "{siege:?}");
    }
}
