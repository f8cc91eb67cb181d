//! What failed, picked out of the output of the test runner, to be told once more at the very
//! end: there are thousands of lines between a failed test and the last one.

/// How much of a failure is repeated: the beginning of the message, which says what was wanted,
/// and its end, which says what was there (the end of a console, say).
const FIRST_LINES: usize = 5;
const LAST_LINES: usize = 10;

/// What failed so far, and where in the runner's output we are.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    found: Vec<Failure>,
    /// Whether the runner is showing what failed tests said, and not the good ones.
    showing: bool,
}

#[derive(Debug)]
struct Failure {
    name: String,
    lines: Vec<String>,
}

impl Failures {
    /// Takes in one line of the runner's output.
    pub(crate) fn read(&mut self, line: &str) {
        let shown = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
        match (line, shown) {
            ("successes:", _) => self.showing = false,
            // Comes twice: before what they said, and before the list of their names.
            ("failures:", _) => self.showing = !self.showing,
            (_, Some(name)) if self.showing => self.add(name, []),
            _ if line.starts_with("test result: ") => self.showing = false,
            _ if self.showing && !is_noise(line) => {
                if let Some(failure) = self.found.last_mut() {
                    failure.lines.push(line.to_owned());
                }
            }
            _ => {}
        }
    }

    /// Adds something that is no test.
    pub(crate) fn add<'a>(&mut self, name: &str, lines: impl IntoIterator<Item = &'a str>) {
        let lines = lines.into_iter().map(str::to_owned).collect();
        self.found.push(Failure { name: name.to_owned(), lines });
    }

    /// All of them, for a person; empty when nothing failed.
    pub(crate) fn summary(&self) -> String {
        self.found.iter().map(Failure::text).collect()
    }
}

impl Failure {
    fn text(&self) -> String {
        // What the test printed before it gave up is above, in full.
        let panic = self.lines.iter().position(|line| is_panic(line)).unwrap_or_default();
        let lines = &self.lines[panic..];
        let mut text = format!("\nFAILED {}\n", self.name);
        for (number, line) in lines.iter().enumerate() {
            if number < FIRST_LINES || number + LAST_LINES >= lines.len() {
                text.push_str(&format!("    {line}\n"));
            } else if number == FIRST_LINES {
                text.push_str("    […]\n");
            }
        }
        text
    }
}

fn is_panic(line: &str) -> bool {
    line.starts_with("thread '") && line.contains("panicked at ")
}

fn is_noise(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with("note: run with `RUST_BACKTRACE=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_messages_are_repeated_and_good_tests_are_not() {
        let long: Vec<String> = (1..=20).map(|number| format!("line {number}")).collect();
        let output = "test one ... ok\ntest two ... FAILED\ntest three ... FAILED\n\n\
             successes:\n\n---- one stdout ----\nall is well\n\nsuccesses:\n    one\n\n\
             failures:\n\n---- two stdout ----\nprinted before\n\n\
             thread 'two' (71) panicked at tests/e2e/main.rs:53:9:\nno room\n\
             note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n\n\
             ---- three stdout ----\nthread 'three' panicked at a.rs:1:1:\nLONG\n\n\n\
             failures:\n    three\n    two\n\n\
             test result: FAILED. 1 passed; 2 failed; 0 ignored\n\nfailures in prose\n";
        let mut failures = Failures::default();
        output.replace("LONG", &long.join("\n")).lines().for_each(|line| failures.read(line));
        failures.add("lints", ["error: unused"]);
        let middle = "    line 4\n    […]\n    line 11\n";
        let summary = failures.summary();
        assert!(summary.contains(middle), "{summary}");
        let short = summary.replace(middle, "").lines().map(str::to_owned).collect::<Vec<_>>();
        let kept = |line: &&String| !line.starts_with("    line ");
        let short: Vec<&str> = short.iter().filter(kept).map(String::as_str).collect();
        let expected = [
            "",
            "FAILED two",
            "    thread 'two' (71) panicked at tests/e2e/main.rs:53:9:",
            "    no room",
            "",
            "FAILED three",
            "    thread 'three' panicked at a.rs:1:1:",
            "",
            "FAILED lints",
            "    error: unused",
        ];
        assert_eq!(short, expected);
        assert_eq!(Failures::default().summary(), "");
    }
}
