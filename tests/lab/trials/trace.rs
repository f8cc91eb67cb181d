//! What the kernel saw: the writes, renames, syncs and replies of a process, read from the output
//! of `strace`. Each with the time from its beginning to its end, so that several processes can
//! be put side by side.
//!
//! A call that changes files and is not understood here is an error, never passed over.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// The calls that are recorded: all that change files, and those that replies leave by.
const CALLS: &str = "trace=openat,creat,open,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendfile,\
                     copy_file_range,fallocate,truncate,ftruncate,fsync,fdatasync,sync_file_range,rename,\
                     renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,mkdir,\
                     mkdirat";

/// One call, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When it began, in microseconds.
    pub begun: u64,
    /// When it ended; `None`: the process did not live to see it.
    pub ended: Option<u64>,
    /// What it did.
    pub action: Action,
}

/// What a call does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A file is there from now on, empty when `empties`.
    Open {
        /// Its path.
        path: PathBuf,
        /// Whether what it held is dropped.
        empties: bool,
    },
    /// Bytes are written; without an offset at the end.
    Write {
        /// Where to.
        path: PathBuf,
        /// From which byte.
        offset: Option<u64>,
        /// What.
        bytes: Vec<u8>,
    },
    /// A file gets this length.
    Cut(PathBuf, u64),
    /// A file or folder is synced.
    Sync(PathBuf),
    /// The first gets the name of the second.
    Rename(PathBuf, PathBuf),
    /// A name goes.
    Remove(PathBuf),
    /// A folder is made.
    MakeFolder(PathBuf),
    /// Bytes leave over the network or to standard output.
    Reply(Vec<u8>),
}

/// The options of `strace` that write what is read here.
pub fn options(output: &Path) -> Vec<String> {
    let fixed = ["-f", "-ttt", "-T", "-yy", "-s", "100000000", "-e", CALLS, "-o"];
    fixed.iter().map(|it| (*it).to_owned()).chain([output.display().to_string()]).collect()
}

/// Whether the process that is traced has ended and all of it was written.
pub fn is_complete(text: &str) -> bool {
    text.lines().last().is_some_and(|line| line.contains("+++ "))
}

/// The events below `root` that a trace tells of, and all replies, in the order of their begin.
pub fn read(text: &str, root: &Path) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut unfinished: Vec<(&str, u64, &str)> = Vec::new();
    for line in text.lines() {
        let failed = || format!("not understood: {}", line.get(..300).unwrap_or(line));
        // Narrow process numbers are padded.
        let Some((process, rest)) = line.split_once(' ') else { continue };
        let (time, rest) = rest.trim_start().split_once(' ').with_context(failed)?;
        let time = microseconds(time).with_context(failed)?;
        if rest.starts_with("+++") || rest.starts_with("---") {
            continue;
        }
        if let Some(call) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.push((process, time, call));
            continue;
        }
        let (begun, call, result) = if rest.starts_with("<... ") {
            let position = unfinished.iter().position(|(other, ..)| *other == process);
            let (_, begun, call) = unfinished.swap_remove(position.with_context(failed)?);
            (begun, call, rest.split_once(" resumed>").with_context(failed)?.1)
        } else {
            // Texts may hold what looks like a result: the last one is it.
            let end = rest.rfind(" = ").with_context(failed)?;
            (time, rest[..end].trim_end(), &rest[end..])
        };
        let result = result.rsplit_once(" = ").with_context(failed)?.1;
        if result.starts_with("-1 ") {
            continue;
        }
        let ended = match result.rsplit_once(" <") {
            // It had gone on when the process was killed, and nobody saw its end.
            Some((_, "unavailable>")) | None => None,
            Some((_, took)) => Some(begun + microseconds(took.trim_end_matches('>'))?),
        };
        let done = result.split(['<', ' ']).next().and_then(|number| number.parse().ok());
        if let Some(action) = action(call, done, root).with_context(failed)? {
            events.push(Event { begun, ended, action });
        }
    }
    for (_, begun, call) in unfinished {
        if let Some(action) = action(call, None, root)? {
            events.push(Event { begun, ended: None, action });
        }
    }
    events.sort_by_key(|event| event.begun);
    Ok(events)
}

/// `12.000345` as microseconds.
fn microseconds(text: &str) -> Result<u64> {
    let (seconds, fraction) = text.split_once('.').context("no time")?;
    ensure!(fraction.len() == 6, "no time in microseconds");
    Ok(seconds.parse::<u64>()? * 1_000_000 + fraction.parse::<u64>()?)
}

/// An argument of a call.
#[derive(Debug, PartialEq, Eq)]
enum Argument {
    Text(Vec<u8>),
    Word(String),
}

/// What a call did; `None`: nothing to files below `root`.
fn action(call: &str, result: Option<u64>, root: &Path) -> Result<Option<Action>> {
    let (name, rest) = call.split_once('(').context("no call")?;
    let arguments = arguments(rest)?;
    let texts: Vec<&[u8]> = arguments.iter().filter_map(Argument::text).collect();
    let path = |number: usize| -> Result<PathBuf> {
        Ok(PathBuf::from(str::from_utf8(texts.get(number).context("no path")?)?))
    };
    let number = |position: usize| -> Result<u64> {
        let argument = arguments.get(position).and_then(Argument::word);
        argument.and_then(|it| it.parse().ok()).context("no number")
    };
    let target = arguments.first().and_then(Argument::word).and_then(described);
    let target_below = || -> Option<PathBuf> {
        let path = PathBuf::from(target?);
        (path.starts_with(root) && path != root.join("server.log")).then_some(path)
    };
    let bytes = || {
        let text = texts.first().copied().unwrap_or_default();
        let length = result.and_then(|it| usize::try_from(it).ok()).unwrap_or(text.len());
        text[..length.min(text.len())].to_vec()
    };
    Ok(match name {
        "openat" | "open" => {
            let flags =
                arguments.iter().rev().filter_map(Argument::word).find(|w| w.contains("O_"));
            let flags = flags.context("no flags")?;
            let changes = flags.contains("O_CREAT") || flags.contains("O_TRUNC");
            ensure!(!flags.contains("SYNC"), "files that sync by themselves");
            let path = path(0)?;
            let empties = flags.contains("O_TRUNC");
            (changes && path.starts_with(root)).then_some(Action::Open { path, empties })
        }
        "write" | "sendto" => {
            let target = target.unwrap_or_default();
            let standard_output = call.starts_with("write(1<") && !target.starts_with('/');
            if name == "write" && !standard_output {
                target_below().map(|path| Action::Write { path, offset: None, bytes: bytes() })
            } else {
                (standard_output || target.starts_with("TCP")).then(|| Action::Reply(bytes()))
            }
        }
        "pwrite64" => match target_below() {
            Some(path) => Some(Action::Write { path, offset: Some(number(3)?), bytes: bytes() }),
            None => None,
        },
        "ftruncate" => match target_below() {
            Some(path) => Some(Action::Cut(path, number(1)?)),
            None => None,
        },
        "fsync" | "fdatasync" => target_below().map(Action::Sync),
        "rename" | "renameat" | "renameat2" => {
            let (from, to) = (path(0)?, path(1)?);
            (from.starts_with(root) || to.starts_with(root)).then_some(Action::Rename(from, to))
        }
        "unlink" | "unlinkat" => Some(Action::Remove(path(0)?)).filter(|it| it.is_below(root)),
        "mkdir" | "mkdirat" => Some(Action::MakeFolder(path(0)?)).filter(|it| it.is_below(root)),
        _ => {
            let named = texts.iter().any(|it| it.starts_with(root.as_os_str().as_encoded_bytes()));
            if named || target_below().is_some() {
                bail!("nobody has said what `{name}` does to files");
            }
            None
        }
    })
}

impl Action {
    fn is_below(&self, root: &Path) -> bool {
        matches!(self, Action::Remove(path) | Action::MakeFolder(path) if path.starts_with(root))
    }
}

impl Argument {
    fn text(&self) -> Option<&[u8]> {
        match self {
            Argument::Text(text) => Some(text),
            Argument::Word(_) => None,
        }
    }

    fn word(&self) -> Option<&str> {
        match self {
            Argument::Word(word) => Some(word),
            Argument::Text(_) => None,
        }
    }
}

/// What stands in the brackets of `7</some/file>`; nothing for a file that has no name any more.
fn described(word: &str) -> Option<&str> {
    word.split_once('<')?.1.strip_suffix('>')
}

/// The arguments up to the end of the text or of the call.
fn arguments(text: &str) -> Result<Vec<Argument>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'"' {
            let (value, end) = string(bytes, at + 1)?;
            ensure!(!bytes[end..].starts_with(b"..."), "strace cut a text off");
            found.push(Argument::Text(value));
            at = end;
        } else {
            let begin = at;
            let mut depth = 0;
            while at < bytes.len() && (depth > 0 || !matches!(bytes[at], b',' | b')')) {
                match bytes[at] {
                    b'-' if bytes.get(at + 1) == Some(&b'>') => at += 1,
                    b'<' | b'[' | b'{' | b'(' => depth += 1,
                    b'>' | b']' | b'}' | b')' => depth -= 1,
                    _ => {}
                }
                at += 1;
            }
            found.push(Argument::Word(text[begin..at].trim().to_owned()));
        }
        while matches!(bytes.get(at), Some(b',' | b' ' | b')')) {
            at += 1;
        }
    }
    Ok(found)
}

/// The bytes of a string that begins here, and where it ends.
fn string(bytes: &[u8], mut at: usize) -> Result<(Vec<u8>, usize)> {
    let mut value = Vec::new();
    loop {
        match *bytes.get(at).context("a text has no end")? {
            b'"' => return Ok((value, at + 1)),
            b'\\' => {
                let next = *bytes.get(at + 1).context("a text has no end")?;
                at += 2;
                value.push(match next {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'v' => 0x0b,
                    b'f' => 0x0c,
                    b'0'..=b'7' => {
                        let mut code = u32::from(next - b'0');
                        for _ in 0..2 {
                            let Some(digit @ b'0'..=b'7') = bytes.get(at) else { break };
                            code = code * 8 + u32::from(digit - b'0');
                            at += 1;
                        }
                        u8::try_from(code)?
                    }
                    other => other,
                });
            }
            other => {
                value.push(other);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_understood_however_they_are_told() {
        let text = "\
7 1.000001 openat(AT_FDCWD</x>, \"/r/a\", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0640) = 5</r/a> <0.000004>
7 1.000010 write(5</r/a>, \"\\0a\\\"\\n\\3777) = 1 \", 12) = 10 <0.000001>
7   1.000020 fdatasync(6</r/j> <unfinished ...>
8 1.000021 pwrite64(6</r/j>, \"xy\", 2, 40) = 2 <0.000001>
7 1.000030 <... fdatasync resumed>)        = 0 <0.000010>
8 1.000031 sendto(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, \"HTTP/1.1 200\", 12, MSG_NOSIGNAL, NULL, 0) = 12 <0.000001>
8 1.000032 rename(\"/r/a\", \"/r/b\") = -1 ENOENT (No such file or directory) <0.000001>
8 1.000033 unlink(\"/elsewhere\") = 0 <0.000001>
8 1.000034 fsync(6</r/j> <unfinished ...>
9 1.000035 sendto(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, \"HTTP\", 4, MSG_NOSIGNAL, NULL, 0 <unfinished ...>
9 1.000036 <... sendto resumed>) = ? <unavailable>
7 1.000037 +++ killed by SIGKILL +++
";
        let root = Path::new("/r");
        let [a, j] = ["a", "j"].map(|name| root.join(name));
        let event = |begun: u64, took: Option<u64>, action| Event {
            begun: 1_000_000 + begun,
            ended: took.map(|took| 1_000_000 + begun + took),
            action,
        };
        let expected = [
            event(1, Some(4), Action::Open { path: a.clone(), empties: false }),
            event(
                10,
                Some(1),
                Action::Write { path: a, offset: None, bytes: b"\0a\"\n\xff7) = ".to_vec() },
            ),
            event(20, Some(10), Action::Sync(j.clone())),
            event(
                21,
                Some(1),
                Action::Write { path: j.clone(), offset: Some(40), bytes: b"xy".to_vec() },
            ),
            event(31, Some(1), Action::Reply(b"HTTP/1.1 200".to_vec())),
            event(34, None, Action::Sync(j)),
            event(35, None, Action::Reply(b"HTTP".to_vec())),
        ];
        assert_eq!(read(text, root).unwrap(), expected);
        assert!(is_complete(text));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let line = "7 1.000001 fallocate(6</r/j>, 0, 0, 4096) = 0 <0.000001>\n";
        let error = read(line, Path::new("/r")).unwrap_err();
        assert!(format!("{error:#}").contains("`fallocate`"), "{error:#}");
        assert_eq!(read(line, Path::new("/other")).unwrap(), []);
    }
}
