//! All tests, in order of cost: what `scripts/test` runs. The last line counts them; before it
//! stands once more what failed, and why.
//!
//! A check that is no `#[test]` (format, lints, the build) counts as one. A test that lacks a
//! need says so with a line `SKIPPED: …` (see `lab::needs`) and is counted as skipped, which the
//! test runner itself cannot do.

#![expect(clippy::print_stdout, reason = "this program's answer is what it prints")]

mod failures;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use lab::artifacts::{Artifacts, checkout};
use lab::say;

use crate::failures::Failures;

/// Runs every test; the last line is `N passed, N failed, N skipped`.
#[derive(Debug, Parser)]
#[command(
    name = "scripts/test",
    after_help = "Examples:\n  scripts/test\n  scripts/test --all boot\n\nExit codes: 0 all \
                  passed, 1 some failed, 2 wrong usage. KEEP=1 keeps what the end-to-end tests \
                  leave; CI=true makes a missing need a failure."
)]
struct Options {
    /// Run the long tests of a group as well
    #[arg(long, value_name = "GROUP", value_enum)]
    all: Option<Group>,
}

/// How much of the output of something that is no test is repeated when it fails.
const LAST_LINES: usize = 15;

/// Groups of long tests: the modules of `tests/long/`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Group {
    Boot,
    Language,
}

/// The sum so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Skips of the running binary that its summary will count as passed.
    said_so: u64,
}

impl Count {
    /// Takes in one line of output of the test runner.
    fn read(&mut self, line: &str) {
        if line.starts_with("SKIPPED: ") {
            self.skipped += 1;
            self.said_so += 1;
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let Some((_, counts)) = result.split_once(". ") else { return };
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => {
                    self.passed += number.saturating_sub(self.said_so);
                    self.said_so = 0;
                }
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let mut run = Run::default();
    let start = Instant::now();
    for (name, arguments) in checks() {
        run.check(name, || cargo(&arguments, |_| {}));
    }
    run.tests("crates", &["--workspace", "--exclude", "lab"]);
    run.tests("harness", &["-p", "lab", "--lib", "--bins", "--test", "tidy"]);
    run.check("everything a machine boots", || Artifacts::build().map(|_| Ok(())));
    run.tests("end to end", &["-p", "lab", "--test", "e2e"]);
    if let Some(group) = options.all {
        let group = group.to_possible_value().map(|value| value.get_name().to_owned());
        let filter = format!("{}::", group.unwrap_or_default());
        run.tests("long", &["-p", "lab", "--test", "long", &filter]);
    }
    say(&format!("all of it took {} s", start.elapsed().as_secs()));
    let Count { passed, failed, skipped, .. } = run.count;
    print!("{}", run.failures.summary());
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The checks that come before any test.
fn checks() -> [(&'static str, Vec<&'static str>); 3] {
    let lints = "clippy --workspace --all-targets --quiet --locked -- -D warnings";
    [
        ("format", "fmt --all --check".split(' ').collect()),
        ("lints", lints.split(' ').collect()),
        // Tests of one package may start the binaries of another, which cargo does not build.
        ("build", "build --workspace --bins --quiet --locked".split(' ').collect()),
    ]
}

/// What has been seen so far.
#[derive(Debug, Default)]
struct Run {
    count: Count,
    failures: Failures,
}

impl Run {
    /// Counts something that is right or wrong as a whole.
    fn check(&mut self, name: &str, run: impl FnOnce() -> Result<Ended>) {
        let start = Instant::now();
        let word = match run().unwrap_or_else(|error| Err(format!("{error:#}"))) {
            Ok(()) => {
                self.count.passed += 1;
                "passed"
            }
            Err(words) => {
                self.fail(name, &words);
                "FAILED"
            }
        };
        say(&format!("{name}: {word} in {} s", start.elapsed().as_secs()));
    }

    /// Runs tests and counts each. A runner that fails without a failed test (it did not compile,
    /// or it was killed) counts as one that failed.
    fn tests(&mut self, name: &str, arguments: &[&str]) {
        let start = Instant::now();
        let before = self.count.failed;
        // No two machines more than the processors can emulate at a time; unit tests do not mind.
        let line = ["test", "--locked", "--no-fail-fast"].into_iter().chain(arguments.to_vec());
        let line: Vec<&str> = line.chain(["--", "--show-output", "--test-threads=2"]).collect();
        let ended = cargo(&line, |line| {
            self.count.read(line);
            self.failures.read(line);
        });
        if let Err(words) = ended.unwrap_or_else(|error| Err(format!("{error:#}")))
            && self.count.failed == before
        {
            self.fail(name, &words);
        }
        say(&format!("{name}: {} s", start.elapsed().as_secs()));
    }

    fn fail(&mut self, name: &str, words: &str) {
        self.count.failed += 1;
        self.failures.add(name, words.lines());
    }
}

/// How something ended: well, or with these as its last words.
type Ended = Result<(), String>;

/// Runs cargo and shows what it prints as it prints it.
fn cargo(arguments: &[&str], mut line: impl FnMut(&str)) -> Result<Ended> {
    let shown = format!("cargo {}", arguments.join(" "));
    say(&format!("running {shown}"));
    let reader = duct::cmd("cargo", arguments)
        .dir(checkout())
        // What failed is said by the chain of its errors; tests that panic on purpose are many.
        .env("RUST_BACKTRACE", "0")
        .stderr_to_stdout()
        .unchecked()
        .reader()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let mut reader = BufReader::new(reader);
    let mut bytes = Vec::new();
    let mut last = VecDeque::with_capacity(LAST_LINES);
    // A test may print bytes that are no text.
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        let text = String::from_utf8_lossy(&bytes);
        print!("{text}");
        line(text.trim_end());
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(text.into_owned());
        bytes.clear();
    }
    let output = reader.get_ref().try_wait()?.context("cargo closed its output and runs on")?;
    let good = output.status.success();
    Ok(if good { Ok(()) } else { Err(last.into_iter().collect()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runners_summary_and_our_skips_are_counted() {
        let mut count = Count::default();
        for line in [
            "test one ... ok",
            "SKIPPED: two needs [Root]",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            count.read(line);
        }
        assert_eq!(count, Count { passed: 3, failed: 2, skipped: 2, said_so: 0 });
    }
}
