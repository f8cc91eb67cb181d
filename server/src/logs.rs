//! Stores uploaded logs in LOGDIR: complete or not at all, the one before kept under the time of
//! its last change, never more in all than MAXLOGS. Old ones go as LOGAGE and LOGCOUNT say.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use crate::store::files::{Replacement, absent_as_none, ensure_folder};
use crate::store::lock::Lock;

/// What the names of uploaded logs end in: it makes an upload a log upload.
pub(crate) const SUFFIX: &str = ".log.gz";

/// The lock file in LOGDIR. Of several logs that come at once, perhaps to several processes, each
/// sees the one before it: none overwrites another, and MAXLOGS holds.
const LOCK: &str = ".lock";

/// Why a log was not stored.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the logs in {} would grow beyond {limit} bytes, the limit MAXLOGS of edeploy.conf; \
             remove old ones", folder.display())]
    Full { folder: PathBuf, limit: u64 },
    #[error("the log {} cannot be stored", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("old logs in {} cannot be removed", folder.display())]
    Retire {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Stores `content` as `name`, a safe file name that ends in [`SUFFIX`].
pub(crate) fn store(folder: &Path, name: &str, content: &[u8], limit: u64) -> Result<(), LogError> {
    let path = folder.join(name);
    let failed = |source| LogError::Io { path: path.clone(), source };
    ensure_folder(folder).map_err(failed)?;
    let lock = Lock::open(&folder.join(LOCK)).and_then(Lock::hold).map_err(failed)?;
    if stored_bytes(folder).map_err(failed)? + content.len() as u64 > limit {
        return Err(LogError::Full { folder: folder.to_owned(), limit });
    }
    keep_earlier(folder, name).map_err(failed)?;
    let mut replacement = Replacement::default();
    replacement.write(&path, content).map_err(failed)?;
    replacement.commit().map_err(failed)?;
    drop(lock);
    Ok(())
}

/// Renames a log of the same name to `<stem>.<time of its last change><suffix>`.
fn keep_earlier(folder: &Path, name: &str) -> io::Result<()> {
    let path = folder.join(name);
    let Some(metadata) = absent_as_none(std::fs::metadata(&path))? else { return Ok(()) };
    let modified = Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?;
    let stem = name.strip_suffix(SUFFIX).unwrap_or(name);
    let stamp = modified.strftime("%Y%m%d%H%M%S");
    // Two within a second: the later one gets a number, so that neither is lost.
    let candidates = std::iter::once(format!("{stem}.{stamp}{SUFFIX}"))
        .chain((2..).map(|number| format!("{stem}.{stamp}-{number}{SUFFIX}")));
    for candidate in candidates {
        let kept = folder.join(candidate);
        if absent_as_none(std::fs::symlink_metadata(&kept))?.is_none() {
            return std::fs::rename(&path, kept);
        }
    }
    Ok(())
}

/// Removes the logs of a folder that are older than `age`, and of each name all but the newest
/// `count`. Answers which.
pub(crate) fn retire(
    folder: &Path,
    age: Option<Duration>,
    count: Option<usize>,
) -> Result<Vec<String>, LogError> {
    let failed = |source| LogError::Retire { folder: folder.to_owned(), source };
    if (age, count) == (None, None) || !folder.is_dir() {
        return Ok(Vec::new());
    }
    let lock = Lock::open(&folder.join(LOCK)).and_then(Lock::hold).map_err(failed)?;
    let mut by_stem: BTreeMap<String, Vec<(SystemTime, String)>> = BTreeMap::new();
    for (name, metadata) in stored(folder).map_err(failed)? {
        let modified = metadata.modified().map_err(failed)?;
        by_stem.entry(stem(&name).to_owned()).or_default().push((modified, name));
    }
    let limit = age.and_then(|age| SystemTime::now().checked_sub(age));
    let mut removed = Vec::new();
    for mut logs in by_stem.into_values() {
        logs.sort_unstable();
        let too_many = count.map_or(0, |count| logs.len().saturating_sub(count));
        let too_old = logs.partition_point(|(modified, _)| limit.is_some_and(|it| *modified < it));
        for (_, name) in logs.drain(..too_many.max(too_old)) {
            std::fs::remove_file(folder.join(&name)).map_err(failed)?;
            removed.push(name);
        }
    }
    drop(lock);
    Ok(removed)
}

/// What the logs of one machine have in common: the name, without the time of an earlier one.
fn stem(name: &str) -> &str {
    let stem = name.strip_suffix(SUFFIX).unwrap_or(name);
    let is_stamp = |text: &str| {
        let (time, number) = text.split_once('-').unwrap_or((text, "2"));
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        time.len() == 14 && is_number(time) && !number.is_empty() && is_number(number)
    };
    stem.rsplit_once('.').filter(|(_, stamp)| is_stamp(stamp)).map_or(stem, |(stem, _)| stem)
}

fn stored_bytes(folder: &Path) -> io::Result<u64> {
    Ok(stored(folder)?.iter().map(|(_, metadata)| metadata.len()).sum())
}

/// The logs of a folder.
fn stored(folder: &Path) -> io::Result<Vec<(String, Metadata)>> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.ends_with(SUFFIX)
            && let Some(metadata) = absent_as_none(entry.metadata())?
        {
            logs.push((name, metadata));
        }
    }
    Ok(logs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_log_is_kept_under_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v-p-s.log.gz");
        for text in ["one", "two", "three"] {
            store(folder.path(), "v-p-s.log.gz", text.as_bytes(), 100).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_400_000_000);
            file.set_modified(time).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("v-p-s.log.gz"), "three");
        assert_eq!(read("v-p-s.20140513165320.log.gz"), "one");
        assert_eq!(read("v-p-s.20140513165320-2.log.gz"), "two");
    }

    #[test]
    fn logs_of_one_name_that_come_at_once_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let texts: Vec<String> = (0..8).map(|n| format!("log {n}")).collect();
        std::thread::scope(|scope| {
            for text in &texts {
                let folder = folder.path();
                scope.spawn(move || {
                    store(folder, "v-p-s.log.gz", text.as_bytes(), 1000).unwrap();
                });
            }
        });
        let names = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().path());
        let logs = names.filter(|path| path.to_string_lossy().ends_with(SUFFIX));
        let mut kept: Vec<String> = logs.map(|it| std::fs::read_to_string(it).unwrap()).collect();
        kept.sort();
        assert_eq!(kept, texts);
    }

    #[test]
    fn logs_go_by_age_and_by_count_of_their_name() {
        let day = Duration::from_secs(86_400);
        let ages = [
            ("a.log.gz", 1),
            ("a.20140513165320.log.gz", 2),
            ("a.20140513165320-2.log.gz", 3),
            ("a.b.log.gz", 9),
            ("a.1.log.gz", 9),
            ("other.gz", 99),
        ];
        let all: Vec<&str> = ages.iter().map(|(name, _)| *name).collect();
        for (age, count, gone) in [
            (None, None, vec![]),
            (Some(4), None, vec!["a.b.log.gz", "a.1.log.gz"]),
            (None, Some(1), vec!["a.20140513165320.log.gz", "a.20140513165320-2.log.gz"]),
            (None, Some(2), vec!["a.20140513165320-2.log.gz"]),
            (Some(2), Some(3), all[1..5].to_vec()),
        ] {
            let folder = tempfile::tempdir().unwrap();
            for (name, days) in ages {
                let file = std::fs::File::create(folder.path().join(name)).unwrap();
                // Half a day more: what is two days old is older than two days.
                let age = day * days + day / 2;
                file.set_modified(SystemTime::now() - age).unwrap();
            }
            let age = age.map(|days| day * days);
            let mut removed = retire(folder.path(), age, count).unwrap();
            removed.sort_unstable();
            let mut expected = gone.clone();
            expected.sort_unstable();
            assert_eq!(removed, expected, "{age:?} {count:?}");
            for name in &all {
                assert_eq!(folder.path().join(name).exists(), !gone.contains(name), "{name}");
            }
        }
        assert!(retire(Path::new("/absent"), None, Some(1)).unwrap().is_empty());
    }

    #[test]
    fn logs_cannot_fill_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        store(folder.path(), "a.log.gz", &[0; 60], 100).unwrap();
        let error = store(folder.path(), "b.log.gz", &[0; 60], 100).unwrap_err();
        assert!(matches!(error, LogError::Full { limit: 100, .. }), "{error}");
        assert!(!folder.path().join("b.log.gz").exists());
    }
}
