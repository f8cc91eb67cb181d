//! The journal of one upgrade: what has irrevocably been reached.
//!
//! One JSON value a line, each synced before the work goes on. A last line that is cut short was
//! never relied on and is ignored.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::{Tried, UpgradeError};

/// Status by which `post` asks for a reboot.
pub(super) const REBOOT: i32 = 100;

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// Everything is prepared and on the disk.
    Ready,
    /// A unit has been switched. Only told to whoever reads the journal: recovery looks at inodes.
    Switched(usize),
    /// All units have, and it is on the disk.
    Applied,
    /// `post` succeeded with this status, 0 or 100.
    Post(i32),
    /// The new version is the host's.
    Committed,
    /// It goes back to the version before, because of this.
    Returning(String),
    /// An interruption ended: somebody went on from here.
    Resumed,
    /// All units have been switched back, and it is on the disk.
    Returned,
    /// Version and history are written, nothing is left to do.
    Settled,
}

/// How far an upgrade has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Nothing of the host has been changed.
    Preparing,
    /// Some units may have been switched.
    Switching,
    /// All have.
    Applied {
        /// The status of `post`, once it succeeded.
        post: Option<i32>,
    },
    /// The new version is the host's.
    Committed {
        /// And is recorded as such.
        settled: bool,
    },
    /// Some units may have been switched back.
    Returning,
    /// All have: the host has the version before.
    Returned {
        /// And it is recorded.
        settled: bool,
    },
}

/// Where a test stops the work, as if the power had gone. Points are counted from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Failpoint {
    /// Nowhere.
    #[default]
    Never,
    /// After so many more points, with [`UpgradeError::Stopped`].
    Stop {
        /// Points to pass.
        after: usize,
        /// Points passed.
        passed: usize,
    },
    /// After so many more points the process dies.
    Abort {
        /// Points to pass.
        after: usize,
        /// Points passed.
        passed: usize,
    },
}

impl Failpoint {
    /// Stops at this point.
    pub fn stop_at(after: usize) -> Failpoint {
        Failpoint::Stop { after, passed: 0 }
    }

    /// Passes a point, or stops there.
    pub(super) fn pass(&mut self) -> Result<(), UpgradeError> {
        match self {
            Failpoint::Never => Ok(()),
            Failpoint::Stop { after, passed } | Failpoint::Abort { after, passed }
                if *passed < *after =>
            {
                *passed += 1;
                Ok(())
            }
            Failpoint::Stop { after, .. } => Err(UpgradeError::Stopped(*after)),
            Failpoint::Abort { .. } => std::process::abort(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    records: Vec<Record>,
}

impl Journal {
    /// Opens the journal of an upgrade, or begins it.
    pub(super) fn open(path: &Path) -> Result<Journal, UpgradeError> {
        let records = read(path)?;
        let mut file =
            OpenOptions::new().create(true).append(true).open(path).tried("open", path)?;
        // Ends a line that a crash may have cut short; empty lines mean nothing.
        file.write_all(b"\n").tried("write", path)?;
        Ok(Journal { path: path.to_owned(), file, records })
    }

    /// Writes a record; it is on the disk when this returns.
    pub(super) fn append(
        &mut self,
        record: Record,
        failpoint: &mut Failpoint,
    ) -> Result<(), UpgradeError> {
        failpoint.pass()?;
        let mut line = serde_json::to_vec(&record).map_err(|error| UpgradeError::Journal {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        line.push(b'\n');
        self.file.write_all(&line).tried("write", &self.path)?;
        self.file.sync_data().tried("sync", &self.path)?;
        self.records.push(record);
        failpoint.pass()
    }

    /// Whether it was interrupted and taken up again; for a way `back`, since that began.
    pub(super) fn was_resumed(&self, back: bool) -> bool {
        let turned = |record: &&Record| back && matches!(record, Record::Returning(_));
        let mut records = self.records.iter().rev().take_while(|record| !turned(record));
        records.any(|record| *record == Record::Resumed)
    }

    /// Whether `post` asked for a reboot.
    pub(super) fn asks_for_reboot(&self) -> bool {
        self.records.contains(&Record::Post(REBOOT))
    }

    /// How far the upgrade has come.
    pub(super) fn phase(&self) -> Phase {
        phase(&self.records)
    }
}

/// The records of a journal; none when there is no journal.
fn read(path: &Path) -> Result<Vec<Record>, UpgradeError> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read.tried("read", path)?,
    };
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    let mut records = Vec::new();
    for line in lines.iter().filter(|line| !line.is_empty()) {
        // A line that a crash cut short was never relied on.
        if let Ok(record) = serde_json::from_slice(line) {
            records.push(record);
        }
    }
    Ok(records)
}

/// How far the upgrade with this journal has come.
pub(super) fn phase_of(path: &Path) -> Result<Phase, UpgradeError> {
    Ok(phase(&read(path)?))
}

fn phase(records: &[Record]) -> Phase {
    let has = |record: &Record| records.contains(record);
    let settled = records.last() == Some(&Record::Settled);
    let returning = records.iter().any(|record| matches!(record, Record::Returning(_)));
    let post = records.iter().rev().find_map(|record| match record {
        Record::Post(status) => Some(*status),
        _ => None,
    });
    if has(&Record::Returned) {
        Phase::Returned { settled }
    } else if returning {
        Phase::Returning
    } else if has(&Record::Committed) {
        Phase::Committed { settled }
    } else if has(&Record::Applied) {
        Phase::Applied { post }
    } else if has(&Record::Ready) {
        Phase::Switching
    } else {
        Phase::Preparing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_a_journal_has_one_meaning() {
        use Record as R;
        let story = [
            (R::Ready, Phase::Switching),
            (R::Switched(0), Phase::Switching),
            (R::Resumed, Phase::Switching),
            (R::Applied, Phase::Applied { post: None }),
            (R::Post(100), Phase::Applied { post: Some(100) }),
            (R::Committed, Phase::Committed { settled: false }),
            (R::Settled, Phase::Committed { settled: true }),
            (R::Returning("rollback".into()), Phase::Returning),
            (R::Returned, Phase::Returned { settled: false }),
            (R::Settled, Phase::Returned { settled: true }),
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        assert_eq!(phase_of(&path).unwrap(), Phase::Preparing);
        for (record, expected) in story {
            // Opened anew each time, after a line that a power cut left half written.
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .and_then(|mut file| file.write_all(br#"{"returning":"ha"#))
                .unwrap();
            let mut journal = Journal::open(&path).unwrap();
            journal.append(record, &mut Failpoint::Never).unwrap();
            assert_eq!(journal.phase(), expected);
            assert_eq!(phase_of(&path).unwrap(), expected);
        }
    }
}
