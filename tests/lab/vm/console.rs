//! What a machine writes to its serial port, as a file that grows.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::process::{POLL, last_lines};

/// The serial console of a machine. Reading goes forward: what one `expect` has seen, the next
/// does not see again.
#[derive(Debug)]
pub struct Console {
    path: PathBuf,
    seen: usize,
}

impl Console {
    /// Reads the file that QEMU writes.
    pub fn new(path: &Path) -> Console {
        Console { path: path.to_owned(), seen: 0 }
    }

    /// Where the text lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything so far, without carriage returns and terminal sequences.
    pub fn text(&self) -> String {
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        plain(&String::from_utf8_lossy(&bytes))
    }

    /// The last `count` lines that are not empty.
    pub fn tail(&self, count: usize) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        last_lines(&lines.join("\n"), count)
    }

    /// Waits for a line that holds `needle` and returns that line. `alive` tells whether more
    /// can come; `progress` is told each new line, for whoever watches.
    ///
    /// An error names what was waited for and shows the end of the console.
    pub fn expect(
        &mut self,
        needle: &str,
        deadline: Duration,
        mut alive: impl FnMut() -> Result<bool>,
        mut progress: impl FnMut(&str),
    ) -> Result<String> {
        let start = Instant::now();
        loop {
            // Asked before reading: a machine that ended has written all it will.
            let more = alive()?;
            let text = self.text();
            while let Some(length) = text.get(self.seen..).and_then(|rest| rest.find('\n')) {
                let line = &text[self.seen..self.seen + length];
                self.seen += length + 1;
                progress(line);
                if line.contains(needle) {
                    return Ok(line.to_owned());
                }
            }
            let waited = start.elapsed();
            if !more || waited > deadline {
                let why = if more { "did not come" } else { "can no longer come: QEMU ended" };
                bail!(
                    "`{needle}` {why} after {} s; the end of the console {}:\n{}",
                    waited.as_secs(),
                    self.path.display(),
                    self.tail(40)
                );
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Drops carriage returns, terminal sequences (`ESC [ … letter`, `ESC c`) and other control characters.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                if characters.next() == Some('[') {
                    for inner in characters.by_ref() {
                        if inner.is_ascii_alphabetic() {
                            break;
                        }
                    }
                }
            }
            '\n' | '\t' => out.push(character),
            control if control.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never_ends() -> Result<bool> {
        Ok(true)
    }

    #[test]
    fn terminal_sequences_are_not_text() {
        assert_eq!(plain("\u{1b}[2J\u{1b}[1;31mred\u{1b}[0m\r\nnext\u{1b}c\r\n"), "red\nnext\n");
    }

    #[test]
    fn expecting_goes_forward_and_fails_with_the_tail() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("console");
        std::fs::write(&path, "one: a\r\ntwo\r\none: b\r\n").unwrap();
        let mut console = Console::new(&path);
        let second = Duration::from_secs(1);
        for expected in ["one: a", "one: b"] {
            assert_eq!(console.expect("one:", second, never_ends, |_| {}).unwrap(), expected);
        }
        let error = console.expect("one:", second, || Ok(false), |_| {}).unwrap_err().to_string();
        assert!(error.starts_with("`one:` can no longer come: QEMU ended"), "{error}");
        assert!(error.ends_with("one: a\ntwo\none: b"), "{error}");
    }
}
