//! Where the power goes, and what of the last writes is lost.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::log::{Entry, WriteLog};
use crate::dice::Dice;

/// The power goes after so many entries of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// How many.
    pub after: usize,
    /// Decides what of the unflushed writes is there.
    pub seed: u64,
}

/// What becomes of a write that was not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is on the disk.
    Kept,
    /// It is not.
    Lost,
    /// Only so many bytes of its beginning are.
    Torn(u64),
}

/// What a disk of today writes at once, at places that are multiples of it. File systems count on
/// that: xfs does not take a block of a folder that is torn in the middle, whatever its log says.
const BLOCK: u64 = 4096;

impl Cut {
    /// `count` cuts between two positions of the log, in order, the first and the last among
    /// them. Half of them are near a flush: there is where one thing ends and the next begins.
    pub fn choose(log: &WriteLog, from: usize, to: usize, count: usize, seed: u64) -> Vec<Cut> {
        let mut dice = Dice::new(seed);
        let flushes: Vec<usize> = (from..to).filter(|at| log.entries[*at].flush).collect();
        let width = to - from + 1;
        let mut place = |number: usize| match number {
            0 => from,
            1 => to,
            _ if number.is_multiple_of(2) && !flushes.is_empty() => {
                let near = flushes[dice.position(flushes.len())] + 1;
                (near + dice.position(5)).saturating_sub(2).clamp(from, to)
            }
            _ => from + dice.position(width),
        };
        let mut cuts: Vec<Cut> = (0..count)
            .map(|number| Cut { after: place(number), seed: seed ^ ((number as u64) << 32) })
            .collect();
        cuts.sort_unstable();
        cuts
    }

    /// What becomes of each write since the last flush before the cut, by its position in the log.
    pub fn fates(&self, log: &WriteLog) -> Vec<(usize, Fate)> {
        let since = flushed(log, self.after);
        let mut dice = Dice::new(self.seed);
        // Some disks had done nearly everything, some nearly nothing.
        let quarters = dice.below(5);
        (since..self.after)
            .filter(|at| log.entries[*at].length > 0)
            .map(|at| (at, fate(&log.entries[at], quarters, &mut dice)))
            .collect()
    }
}

fn fate(entry: &Entry, quarters: u64, dice: &mut Dice) -> Fate {
    if entry.forced || dice.below(4) < quarters {
        return Fate::Kept;
    }
    // Up to the first place where it may be torn, and how many of those there are.
    let first = BLOCK - entry.offset % BLOCK;
    let places = entry.length.saturating_sub(first).div_ceil(BLOCK);
    if entry.data.is_some() && places > 0 && dice.hits(8) {
        return Fate::Torn(first + BLOCK * dice.below(places));
    }
    Fate::Lost
}

/// Up to which entry all is on the disk when the power goes after `after` entries. A flush that
/// carries a write of its own covers what came before it, not that write.
fn flushed(log: &WriteLog, after: usize) -> usize {
    (0..after).rev().find(|at| log.entries[*at].flush).unwrap_or(0)
}

/// Plays an image forward through a log, from cut to cut.
#[derive(Debug)]
pub struct Cuts<'a> {
    log: &'a WriteLog,
    image: PathBuf,
    /// Entries that are in the image.
    played: usize,
}

impl<'a> Cuts<'a> {
    /// `image` is what the disk held when the log began; it is written to.
    pub fn new(log: &'a WriteLog, image: &Path) -> Cuts<'a> {
        Cuts { log, image: image.to_owned(), played: 0 }
    }

    /// Brings the image to the last flush before a cut, which must not lie before the last one,
    /// and then writes what else the cut left to `disk`, an overlay of the image. Nothing may
    /// hold the image or an older overlay of it open meanwhile.
    pub fn forward(&mut self, cut: &Cut) -> Result<()> {
        let until = flushed(self.log, cut.after);
        ensure!(until >= self.played, "cuts are played in order");
        let image = File::options().write(true).open(&self.image).context("opening the image")?;
        for entry in &self.log.entries[self.played..until] {
            write(self.log, entry, entry.length, &image)?;
        }
        self.played = until;
        Ok(())
    }

    /// Writes what the cut left of the unflushed writes to a disk. Tells how many of them there
    /// were, and how many were kept whole.
    pub fn write_rest(&self, cut: &Cut, disk: &Path) -> Result<(usize, usize)> {
        let disk = File::options().write(true).open(disk).context("opening the disk")?;
        let fates = cut.fates(self.log);
        for (at, fate) in &fates {
            let entry = &self.log.entries[*at];
            match fate {
                Fate::Kept => write(self.log, entry, entry.length, &disk)?,
                Fate::Torn(length) => write(self.log, entry, *length, &disk)?,
                Fate::Lost => {}
            }
        }
        let kept = fates.iter().filter(|(_, fate)| *fate == Fate::Kept).count();
        Ok((fates.len(), kept))
    }
}

/// Writes what an entry wrote, or zeros where it discarded.
fn write(log: &WriteLog, entry: &Entry, length: u64, disk: &File) -> Result<()> {
    let data = match entry.discard {
        true => vec![0; usize::try_from(entry.length)?],
        false => log.data(entry, length)?,
    };
    disk.write_all_at(&data, entry.offset).context("writing to the disk")
}

#[cfg(test)]
mod tests {
    use super::super::log::tests::log;
    use super::*;

    /// Two writes, a flush, then four more, one of them forced, and a last flush.
    fn sample() -> (tempfile::NamedTempFile, WriteLog) {
        let block = |byte| vec![byte; 8192];
        let [a, b, c, d, e, f] = [1, 2, 3, 4, 5, 6].map(block);
        let file = log(&[
            (0, 0, &a),
            (16, 0, &b),
            (0, 1, &[]),
            (0, 0, &c),
            (32, 0, &d),
            (48, 2, &e),
            (64, 0, &f),
            (0, 1, &[]),
        ]);
        let log = WriteLog::open(file.path()).unwrap();
        (file, log)
    }

    #[test]
    fn what_was_flushed_or_forced_is_there_and_the_rest_is_chance() {
        let (_file, log) = sample();
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let cut = Cut { after: 7, seed };
            let fates = cut.fates(&log);
            assert_eq!(fates, cut.fates(&log), "the same seed, the same disk");
            let positions: Vec<usize> = fates.iter().map(|(at, _)| *at).collect();
            assert_eq!(positions, [3, 4, 5, 6]);
            assert_eq!(fates[2].1, Fate::Kept, "forced");
            seen.extend(fates.iter().map(|(at, fate)| format!("{at} {fate:?}")));
        }
        for at in [3, 4, 6] {
            for fate in ["Kept", "Lost", "Torn(4096)"] {
                assert!(seen.contains(&format!("{at} {fate}")), "{seen:?}");
            }
        }
        assert!(Cut { after: 8, seed: 1 }.fates(&log).is_empty(), "flushed");
        assert!(Cut { after: 3, seed: 1 }.fates(&log).is_empty(), "flushed");
    }

    #[test]
    fn the_image_goes_forward_and_each_cut_has_its_disk() {
        let (_file, log) = sample();
        let folder = tempfile::tempdir().unwrap();
        let (image, disk) = (folder.path().join("image"), folder.path().join("disk"));
        crate::disk::blank(&image, 65_536).unwrap();
        let mut cuts = Cuts::new(&log, &image);
        let state = |cuts: &mut Cuts<'_>, cut: Cut| {
            cuts.forward(&cut).unwrap();
            std::fs::copy(&image, &disk).unwrap();
            let (writes, _) = cuts.write_rest(&cut, &disk).unwrap();
            let bytes = std::fs::read(&disk).unwrap();
            let blocks: Vec<u8> = bytes.chunks(4096).map(|block| block[0]).collect();
            (writes, blocks)
        };
        assert_eq!(state(&mut cuts, Cut { after: 0, seed: 1 }), (0, vec![0; 16]));
        let (writes, blocks) = state(&mut cuts, Cut { after: 6, seed: 1 });
        assert_eq!(writes, 3);
        assert_eq!((blocks[2..4].to_vec(), blocks[6..8].to_vec()), (vec![2; 2], vec![5; 2]));
        let all = [3, 3, 2, 2, 4, 4, 5, 5, 6, 6, 0, 0, 0, 0, 0, 0];
        assert_eq!(state(&mut cuts, Cut { after: 8, seed: 9 }), (0, all.to_vec()));
        assert!(cuts.forward(&Cut { after: 1, seed: 1 }).is_err(), "not backwards");
    }

    #[test]
    fn the_first_and_the_last_cut_are_always_among_them() {
        let (_file, log) = sample();
        let cuts = Cut::choose(&log, 1, 8, 20, 5);
        assert_eq!(cuts.len(), 20);
        assert_eq!((cuts[0].after, cuts[19].after), (1, 8));
        assert!(cuts.iter().all(|cut| (1..=8).contains(&cut.after)));
        assert_eq!(cuts, Cut::choose(&log, 1, 8, 20, 5));
    }
}
