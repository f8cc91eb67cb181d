//! A real file system that is full: a small ext4 on a loop device, the server with its state, its
//! facts and its own log on it, and a file that leaves room for nothing.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::place::{Place, check_files, facts_json};
use super::table::{Hardware, Nic};
use crate::process::run;
use crate::storm::client::Answer;
use crate::storm::hall::Programs;

/// Machines that come before the disk is full, and as many that come while it is.
const MACHINES: Nic = 20;

/// What was answered.
#[derive(Debug, Default)]
pub struct Answered {
    /// New machines that were given something although the disk was full.
    pub given: usize,
    /// Machines that were refused meanwhile.
    pub refused: usize,
}

/// A small file system, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path) -> Result<SmallDisk> {
        let image = folder.join("disk");
        std::fs::File::create(&image)?.set_len(16 << 20)?;
        run("mkfs.ext4", ["-q".into(), image.clone().into_os_string()])?;
        let path = folder.join("mounted");
        std::fs::create_dir(&path)?;
        run("mount", ["-o".into(), "loop".into(), image.into(), path.clone().into_os_string()])?;
        Ok(SmallDisk(path))
    }

    /// Leaves room for nothing; the file that takes it.
    fn fill(&self) -> Result<PathBuf> {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path)?;
        // By ever smaller pieces, for what a large one leaves over.
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0x55; size];
            while file.write_all(&piece).and_then(|()| file.sync_all()).is_ok() {}
        }
        Ok(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nothing of it is needed any more.
        let _ = run("umount", [self.0.clone().into_os_string()]);
    }
}

/// Fills the disk under a running server and makes room again.
pub fn trial(folder: &Path, programs: Programs) -> Result<Answered> {
    let disk = SmallDisk::mount(folder)?;
    let all = 2 * MACHINES;
    let place = Place::new(&disk.0.join("hall"), programs, usize::from(all), i64::from(all))?;
    place.hall.start()?;
    let mut told = Vec::new();
    for nic in 0..MACHINES {
        let answer = upload(&place, nic)?;
        told.push(hostname(&answer).with_context(|| format!("{nic}: {}", answer.json()))?);
    }
    let filler = disk.fill()?;
    let mut answered = Answered::default();
    for nic in 0..all {
        let answer = upload(&place, nic)?;
        match (hostname(&answer), told.get(usize::from(nic))) {
            // Whoever holds something holds it still.
            (Some(name), Some(told)) => ensure!(name == *told, "{nic}: {name}, not {told}"),
            (Some(_), None) => answered.given += 1,
            (None, _) => {
                answered.refused += 1;
                let reason = String::from_utf8_lossy(&answer.body).into_owned();
                let explained = answer.status == 503 && reason.contains("No space left on device");
                ensure!(explained, "{nic}: {} {reason}", answer.status);
            }
        }
    }
    std::fs::remove_file(filler)?;
    for nic in MACHINES..all {
        let answer = upload(&place, nic)?;
        told.push(hostname(&answer).with_context(|| format!("{nic}: {}", answer.json()))?);
    }
    place.hall.kill()?;
    let standings = check_files(&place.store()?)?;
    ensure!(standings.left == 0, "{} left", standings.left);
    told.sort();
    told.dedup();
    ensure!(told.len() == usize::from(all), "an entry was given twice");
    Ok(answered)
}

fn upload(place: &Place, nic: Nic) -> Result<Answer> {
    let hardware = Hardware { nics: vec![nic], serial: Some(nic), uuid: None };
    let request = place.door().upload_request(&facts_json(&hardware)?);
    place.door().send(&request).context("the server went away")
}

fn hostname(answer: &Answer) -> Option<String> {
    answer.json()["plan"]["plan"]["hostname"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs::{Need, present};
    use crate::trials::shortly;

    #[test]
    fn a_full_disk_is_told_and_nothing_is_lost() {
        if !present(&[Need::Root, Need::LoopDevices, Need::Program("mkfs.ext4")]) {
            return;
        }
        let answered = shortly(trial);
        assert!(answered.refused > 0, "{answered:?}");
    }
}
