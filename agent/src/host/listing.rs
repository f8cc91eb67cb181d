//! The manifest of a tree that has none, from what a plain rsync server tells: everything but
//! extended attributes and device numbers. Its files are known by their MD5 digests.

use specs::upgrade::{Digest, Disk, Entry, FileEntry, Kind, ManifestError, TreePath};

/// What rsync is asked to tell: mode, owner, group, size, time, MD5, what it is, name and link.
pub(super) const FORMAT: &str = "--out-format=%B|%U|%G|%l|%M|%C|%i|%n%L";

/// What such a listing holds, but for devices and the like.
pub fn read(listing: &str) -> Result<Disk, ManifestError> {
    let mut entries = Disk::new();
    for (number, line) in (1..).zip(listing.lines()) {
        let error = |reason| ManifestError::Line { line: number, reason };
        if line.ends_with("|./") {
            continue;
        }
        let Some((name, entry)) = read_line(line).map_err(error)? else { continue };
        let path =
            TreePath::new(&name).map_err(|source| ManifestError::Path { line: number, source })?;
        entries.insert(path, entry);
    }
    Ok(entries)
}

/// Name and entry of a line; `None` for devices and the like, whose numbers are not told.
fn read_line(line: &str) -> Result<Option<(Vec<u8>, Entry)>, &'static str> {
    let fields: Vec<&str> = line.splitn(8, '|').collect();
    let [mode, uid, gid, size, time, digest, what, name] = fields[..] else {
        return Err("not eight fields");
    };
    let mut name = unescape(name);
    let size: u64 = size.parse().map_err(|_| "no size")?;
    let kind = match what.as_bytes().get(1) {
        Some(b'd') => {
            name.pop_if(|last| *last == b'/');
            Kind::Folder
        }
        Some(b'L') => {
            // A name may hold an arrow as well: the size of a link is the length of its target.
            let arrow_and_target = usize::try_from(size).ok().and_then(|size| size.checked_add(4));
            let split = arrow_and_target.and_then(|length| name.len().checked_sub(length));
            let target = name.split_off(split.ok_or("no link target")?).split_off(4);
            Kind::Link(target)
        }
        Some(b'f') => {
            let digest =
                (0..16).map(|at| u8::from_str_radix(digest.get(2 * at..2 * at + 2)?, 16).ok());
            let digest: Option<Vec<u8>> = digest.collect();
            let digest = digest.and_then(|bytes| bytes.try_into().ok()).ok_or("no MD5 digest")?;
            let mtime = seconds(time).ok_or("no time")?;
            Kind::File(FileEntry { size, mtime, digest: Digest::Md5(digest), shared: None })
        }
        _ => return Ok(None),
    };
    let mode = match kind {
        Kind::Link(_) => 0o777,
        _ => permissions(mode).ok_or("no mode")?,
    };
    let uid = uid.parse().map_err(|_| "no owner")?;
    let gid = gid.parse().map_err(|_| "no group")?;
    Ok(Some((name, Entry { kind, mode, uid, gid, xattrs: None })))
}

/// Permission bits from `rwsr-xr-t`.
fn permissions(text: &str) -> Option<u32> {
    let letters: &[u8; 9] = text.as_bytes().first_chunk()?;
    let mut mode = 0;
    for (position, letter) in (0..).zip(letters) {
        let bit = 0o400 >> position;
        let special = [0o4000, 0o2000, 0o1000][position / 3];
        mode |= match letter {
            b'-' => 0,
            b's' | b't' => bit | special,
            b'S' | b'T' => special,
            _ => bit,
        };
    }
    Some(mode)
}

/// Seconds since 1970 from `2026/11/22-06:37:42`, UTC.
fn seconds(text: &str) -> Option<i64> {
    let numbers: Vec<i64> =
        text.split(['/', '-', ':']).map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [year, month, day, hour, minute, second] = numbers[..] else { return None };
    let is_time = (0..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !is_time {
        return None;
    }
    // Days since 1970-03-01 of a year that begins in March, so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// rsync's `\#ooo` for bytes that it does not print.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find("\\#") {
        bytes.extend_from_slice(&rest.as_bytes()[..position]);
        let code = rest.get(position + 2..position + 5);
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[position + 5..];
            }
            None => {
                bytes.extend_from_slice(b"\\#");
                rest = &rest[position + 2..];
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read() {
        let listing = "rwxr-xr-x|0|0|4096|2026/11/22-06:37:42|      |cd+++++++++|./\n\
            rwxrwxrwx|0|0|7|2026/11/22-06:37:42|        |cL+++++++++|a -> b -> usr/bin\n\
            rw-r--r--|1|2|1|1970/01/01-00:00:09|9dd4e461268c8034f5c8564e155c67a6|>f+++++++++|caf\\#351\n\
            rw-r--r--|0|0|0|2026/11/22-06:37:42|    |cD+++++++++|null\n\
            rwxrwsrwt|0|0|4096|2026/11/22-06:37:42|    |cd+++++++++|tmp/\n";
        let entries = read(listing).unwrap();
        let names: Vec<String> = entries.keys().map(TreePath::to_string).collect();
        assert_eq!(names, ["a\\x20->\\x20b", "caf\\xe9", "tmp"]);
        let entry = |name: &str| &entries[&name.parse::<TreePath>().unwrap()];
        assert_eq!(entry("a\\x20->\\x20b").kind, Kind::Link(b"usr/bin".to_vec()));
        assert_eq!(entry("tmp").mode, 0o3777);
        let file = entry("caf\\xe9");
        assert_eq!((file.mode, file.uid, file.gid), (0o644, 1, 2));
        assert_eq!(file.file().unwrap().mtime, 9);
        assert_eq!(seconds("2026/11/22-06:37:42"), Some(1_795_329_462));
        assert!(read("rwx|0|0\n").is_err());
    }

    /// A server that is not ours may say anything.
    #[test]
    fn numbers_that_no_tree_has_are_refused() {
        let md5 = "9dd4e461268c8034f5c8564e155c67a6";
        for (line, expected) in [
            (
                "rwxrwxrwx|0|0|18446744073709551615|2026/11/22-06:37:42||cL+|a -> b".to_owned(),
                "no link target",
            ),
            (format!("rw-r--r--|0|0|1|99999999999999999/11/22-06:37:42|{md5}|>f+|a"), "no time"),
            (format!("rw-r--r--|0|0|1|2026/13/22-06:37:42|{md5}|>f+|a"), "no time"),
        ] {
            let error = read(&line).unwrap_err();
            assert!(
                matches!(error, ManifestError::Line { line: 1, reason } if reason == expected),
                "{error}"
            );
        }
    }
}
