//! Reads the log that QEMU's `blklogwrites` and the kernel's dm-log-writes leave of a disk.
//!
//! All numbers are little-endian. The first sector is a superblock: magic, version 1, number of
//! entries (64 bits each), size of a sector (32 bits). Entries follow, each in a sector of its
//! own: first sector on the disk, number of sectors, flags, length of inline data (64 bits each).
//! What was written follows a write; discards, marks and bare flushes have nothing after them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;

/// Everything before this entry is on the disk.
const FLUSH: u64 = 1;
/// This write is on the disk.
const FUA: u64 = 2;
/// The sectors may be forgotten.
const DISCARD: u64 = 4;
/// Says something to whoever reads the log.
const MARK: u64 = 8;

/// What QEMU writes about whole file systems is longer than one line of data; a length beyond
/// this one is a damaged log.
const LONGEST: u64 = 1 << 32;

/// One thing that happened to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where on the disk, in bytes.
    pub offset: u64,
    /// How much was written or discarded, in bytes.
    pub length: u64,
    /// Where the log holds what was written; `None` when nothing was.
    pub data: Option<u64>,
    /// Whether everything before it was on the disk then.
    pub flush: bool,
    /// Whether it was itself on the disk when it was done.
    pub forced: bool,
    /// Whether the sectors were given up.
    pub discard: bool,
}

/// A log of writes.
#[derive(Debug)]
pub struct WriteLog {
    file: File,
    /// What happened, in order.
    pub entries: Vec<Entry>,
}

impl WriteLog {
    /// Reads the entries of a log; what was written stays in the file.
    pub fn open(path: &Path) -> Result<WriteLog> {
        let file = File::open(path).with_context(|| format!("opening `{}`", path.display()))?;
        let entries = read(&file).with_context(|| format!("reading `{}`", path.display()))?;
        Ok(WriteLog { file, entries })
    }

    /// What a write wrote, the first `length` bytes of it; nothing for anything else.
    pub fn data(&self, entry: &Entry, length: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(entry.length.min(length))?];
        let Some(at) = entry.data else { return Ok(Vec::new()) };
        self.file.read_exact_at(&mut bytes, at).context("reading what was written")?;
        Ok(bytes)
    }
}

fn read(file: &File) -> Result<Vec<Entry>> {
    let end = file.metadata()?.len();
    let mut superblock = [0; 28];
    file.read_exact_at(&mut superblock, 0).context("no superblock")?;
    ensure!(number(&superblock, 0) == MAGIC, "this is no log of writes");
    let version = number(&superblock, 1);
    ensure!(version == VERSION, "the log has version {version}, known is {VERSION}");
    let count = number(&superblock, 2);
    let size = superblock[24..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let sector = u64::from(size);
    ensure!(size.is_power_of_two() && sector >= 512, "sectors of {sector} bytes");
    let mut entries = Vec::new();
    let mut at = sector;
    for position in 0..count {
        let mut header = [0; 32];
        file.read_exact_at(&mut header, at)
            .with_context(|| format!("the log ends in entry {position} of {count}"))?;
        let [first, sectors, flags] = [0, 1, 2].map(|index| number(&header, index));
        if flags & !(FLUSH | FUA | DISCARD | MARK) != 0 || sectors > LONGEST / sector {
            bail!("entry {position} is damaged: {sectors} sectors, flags {flags:#x}");
        }
        at += sector;
        let length = sectors * sector;
        let written = length > 0 && flags & (DISCARD | MARK) == 0;
        entries.push(Entry {
            offset: first * sector,
            length,
            data: written.then_some(at),
            flush: flags & FLUSH != 0,
            forced: flags & FUA != 0,
            discard: flags & DISCARD != 0,
        });
        at += if written { length } else { 0 };
        ensure!(at <= end, "the log ends in what entry {position} wrote");
    }
    Ok(entries)
}

/// The 64-bit number at this position.
fn number(bytes: &[u8], index: usize) -> u64 {
    bytes[8 * index..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    /// A log by hand: first sector, flags and content of each entry.
    pub(in crate::power_cut) fn log(entries: &[(u64, u64, &[u8])]) -> tempfile::NamedTempFile {
        let mut bytes = Vec::new();
        for value in [MAGIC, VERSION, entries.len() as u64] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(512_u32.to_le_bytes());
        bytes.resize(512, 0);
        for (first, flags, data) in entries {
            let start = bytes.len();
            for value in [*first, data.len() as u64 / 512, *flags, 0] {
                bytes.extend(value.to_le_bytes());
            }
            bytes.resize(start + 512, 0);
            bytes.extend(if flags & DISCARD == 0 { data } else { &[][..] });
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes).unwrap();
        file
    }

    #[test]
    fn a_log_made_by_hand_is_read() {
        let (ones, twos) = ([1; 1024], [2; 512]);
        let entries: [(u64, u64, &[u8]); 6] = [
            (4, 0, &ones),
            (0, FLUSH, &[]),
            (8, DISCARD, &[0; 2048]),
            (0, MARK, &[]),
            (6, FUA, &twos),
            (7, FLUSH | FUA, &twos),
        ];
        let file = log(&entries);
        let log = WriteLog::open(file.path()).unwrap();
        let shapes: Vec<_> = log
            .entries
            .iter()
            .map(|e| (e.offset, e.length, e.data, e.flush, e.forced, e.discard))
            .collect();
        assert_eq!(
            shapes,
            [
                (2048, 1024, Some(1024), false, false, false),
                (0, 0, None, true, false, false),
                (4096, 2048, None, false, false, true),
                (0, 0, None, false, false, false),
                (3072, 512, Some(4096), false, true, false),
                (3584, 512, Some(5120), true, true, false),
            ]
        );
        assert_eq!(log.data(&log.entries[0], u64::MAX).unwrap(), ones);
        assert_eq!(log.data(&log.entries[5], 100).unwrap(), [2; 100]);
        assert!(log.data(&log.entries[1], u64::MAX).unwrap().is_empty());
    }

    #[test]
    fn what_is_no_log_or_cut_short_is_refused() {
        let refused = |bytes: &[u8]| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(bytes).unwrap();
            format!("{:#}", WriteLog::open(file.path()).unwrap_err())
        };
        let good = std::fs::read(log(&[(4, 0, &[1; 1024])]).path()).unwrap();
        for (at, value, reason) in [
            (0, 9, "this is no log of writes"),
            (8, 9, "version 9"),
            (16, 9, "the log ends in entry 1 of 9"),
            (24, 9, "sectors of"),
            (512 + 16, 16, "entry 0 is damaged"),
        ] {
            let mut bytes = good.clone();
            bytes[at] = value;
            let said = refused(&bytes);
            assert!(said.contains(reason), "{said}");
        }
        assert!(refused(&good[..700]).contains("the log ends in what entry 0 wrote"));
        assert!(refused(&good[..20]).contains("no superblock"));
    }
}
