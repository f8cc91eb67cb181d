//! What rsync prints: the sizes of a tree, and how far a transfer has come.

use crate::world::{Cmd, Tool};

/// Seconds without a byte after which rsync gives up.
const STALLED: &str = "--timeout=120";

/// Seconds until the daemon must have answered.
const CONNECT: &str = "--contimeout=30";

/// Fetches a tree into a folder, whole: owners by number, hard links, ACLs and attributes.
pub(super) fn fetch(url: &str, folder: &str) -> Cmd {
    let args = [
        "-aHAX",
        "--numeric-ids",
        "--info=progress2",
        // All files are known before the first is sent, so that progress is of the whole.
        "--no-inc-recursive",
        STALLED,
        CONNECT,
        url,
        folder,
    ];
    Cmd::new(Tool::Rsync, &args).why(format!("fetch {url}"))
}

/// Asks for the names of all files of a tree and for their size, and transfers nothing. `folder`
/// need not exist.
pub(super) fn measure(url: &str, folder: &str) -> Cmd {
    let args = ["-aH", "--dry-run", "--out-format=%n", "--stats", STALLED, CONNECT, url, folder];
    Cmd::new(Tool::Rsync, &args).why(format!("find {url}"))
}

/// The bytes of all files, each of several hard links counted once, from the line of [`measure`]
/// that has them: what [`bytes_done`] arrives at.
pub(super) fn total_size(line: &str) -> Option<u64> {
    let size = line.strip_prefix("Total transferred file size:")?;
    number(size.trim().strip_suffix("bytes")?)
}

/// The bytes done, from a line of `--info=progress2`.
pub(crate) fn bytes_done(line: &str) -> Option<u64> {
    let mut words = line.split_whitespace();
    let bytes = number(words.next()?)?;
    words.next()?.ends_with('%').then_some(bytes)
}

/// A number with thousands separators.
fn number(text: &str) -> Option<u64> {
    text.trim().replace([',', '.'], "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_and_other_lines_are_not() {
        for (line, bytes) in [
            ("      3,000,003 100%  476.84MB/s    0:00:00 (xfr#2, to-chk=0/4)", Some(3_000_003)),
            ("              0   0%    0.00kB/s    0:00:00  ", Some(0)),
            ("receiving file list ... done", None),
            ("12 files", None),
            ("", None),
        ] {
            assert_eq!(bytes_done(line), bytes, "{line}");
        }
    }

    #[test]
    fn sizes_are_read_from_stats() {
        for (line, bytes) in [
            ("Total transferred file size: 3,000,003 bytes", Some(3_000_003)),
            ("Total file size: 3,100,016 bytes", None),
            ("boot/vmlinuz", None),
        ] {
            assert_eq!(total_size(line), bytes, "{line}");
        }
    }
}
