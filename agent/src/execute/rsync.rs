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

/// Asks for the sizes of a tree and transfers nothing. `folder` need not exist.
pub(super) fn measure(url: &str, folder: &str) -> Cmd {
    let args = ["-aH", "--dry-run", "--stats", STALLED, CONNECT, url, folder];
    Cmd::new(Tool::Rsync, &args).why(format!("find {url}"))
}

/// Asks which files of a tree fit one of these patterns, which begin at its root. The daemon looks
/// into no other folder.
pub(super) fn list(url: &str, patterns: &[String]) -> Cmd {
    let shown = only(patterns);
    let mut args = vec!["--list-only", "--recursive", "--links"];
    args.extend(shown.iter().map(String::as_str));
    args.extend([STALLED, CONNECT, url]);
    Cmd::new(Tool::Rsync, &args).why(format!("look into {url}"))
}

/// Fetches the files of a tree that fit one of these patterns, and no links, into a folder.
pub(super) fn fetch_some(url: &str, patterns: &[String], folder: &str) -> Cmd {
    let shown = only(patterns);
    let mut args = vec!["--recursive", "--prune-empty-dirs"];
    args.extend(shown.iter().map(String::as_str));
    args.extend([STALLED, CONNECT, url, folder]);
    Cmd::new(Tool::Rsync, &args).why(format!("look into {url}"))
}

/// The arguments that leave out what fits none of these patterns.
fn only(patterns: &[String]) -> Vec<String> {
    let mut shown: Vec<&str> = Vec::new();
    for pattern in patterns {
        // A file is found only where each folder above it is shown as well.
        let folders = pattern.match_indices('/').map(|(end, _)| &pattern[..=end]).skip(1);
        for path in folders.chain([pattern.as_str()]) {
            if !shown.contains(&path) {
                shown.push(path);
            }
        }
    }
    let includes = shown.iter().map(|path| format!("--include={path}"));
    includes.chain(["--exclude=*".to_owned()]).collect()
}

/// The path in a line of [`list`], which comes behind permissions, size, date and time.
pub(super) fn listed(line: &str) -> Option<&str> {
    let mut rest = line;
    for _ in 0..4 {
        rest = rest.trim_start().split_once(' ')?.1;
    }
    Some(rest.split_once(" -> ").map_or(rest, |(link, _)| link))
}

/// The bytes of all files, each of several hard links counted once, from the output of
/// [`measure`]: what [`bytes_done`] arrives at.
pub(super) fn total_size(stats: &str) -> Option<u64> {
    let line =
        stats.lines().find_map(|line| line.trim().strip_prefix("Total transferred file size:"))?;
    number(line.trim().strip_suffix("bytes")?)
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
        let stats =
            "Total file size: 3,100,016 bytes\nTotal transferred file size: 3,000,003 bytes\n";
        assert_eq!(total_size(stats), Some(3_000_003));
        assert_eq!(total_size("nothing"), None);
    }

    #[test]
    fn folders_above_a_pattern_are_shown_once_and_paths_are_read() {
        let patterns = ["/vmlinuz*", "/boot/vmlinuz*", "/boot/kernel-*", "/usr/lib/grub/*/x"];
        assert_eq!(
            list("rsync://h/t/", &patterns.map(str::to_owned)).to_string(),
            "rsync --list-only --recursive --links '--include=/vmlinuz*' --include=/boot/ \
             '--include=/boot/vmlinuz*' '--include=/boot/kernel-*' --include=/usr/ \
             --include=/usr/lib/ --include=/usr/lib/grub/ '--include=/usr/lib/grub/*/' \
             '--include=/usr/lib/grub/*/x' '--exclude=*' --timeout=120 --contimeout=30 \
             rsync://h/t/"
        );
        for (line, path) in [
            (
                "-rw-r--r--     14,186,432 2026/11/16 10:17:40 boot/vmlinuz-6",
                Some("boot/vmlinuz-6"),
            ),
            ("lrwxrwxrwx             33 2026/11/16 10:17:40 vmlinuz -> boot/v", Some("vmlinuz")),
            ("drwxr-xr-x          4,096 2026/11/16 10:17:40 a b", Some("a b")),
            ("welcome", None),
        ] {
            assert_eq!(listed(line), path, "{line}");
        }
    }
}
