//! All tests, in order of cost: what `scripts/test` runs. The last line counts them.
//!
//! A check that is no `#[test]` (format, lints, the build) counts as one. A test that lacks a
//! need says so with a line `SKIPPED: …` (see `lab::needs`) and is counted as skipped, which the
//! test runner itself cannot do.

#![expect(clippy::print_stdout, reason = "this program's answer is what it prints")]

use std::io::{BufRead, BufReader};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use lab::artifacts::{Artifacts, checkout};
use lab::say;

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

/// Groups of long tests: the modules of `tests/long/`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Group {
    Boot,
    Server,
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
    let mut count = Count::default();
    let start = Instant::now();
    for (name, arguments) in checks() {
        check(&mut count, name, || cargo(&arguments, |_| {}));
    }
    tests(&mut count, "crates", &["--workspace", "--exclude", "lab"]);
    tests(&mut count, "harness", &["-p", "lab", "--lib", "--bins", "--test", "tidy"]);
    check(&mut count, "everything a machine boots", || Artifacts::build().map(|_| true));
    tests(&mut count, "end to end", &["-p", "lab", "--test", "e2e"]);
    if let Some(group) = options.all {
        let group = group.to_possible_value().map(|value| value.get_name().to_owned());
        let filter = format!("{}::", group.unwrap_or_default());
        tests(&mut count, "long", &["-p", "lab", "--test", "long", &filter]);
    }
    say(&format!("all of it took {} s", start.elapsed().as_secs()));
    let Count { passed, failed, skipped, .. } = count;
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

/// Counts something that is right or wrong as a whole.
fn check(count: &mut Count, name: &str, run: impl FnOnce() -> Result<bool>) {
    let start = Instant::now();
    let passed = run().unwrap_or_else(|error| {
        say(&format!("{name}: {error:#}"));
        false
    });
    *(if passed { &mut count.passed } else { &mut count.failed }) += 1;
    let word = if passed { "passed" } else { "FAILED" };
    say(&format!("{name}: {word} in {} s", start.elapsed().as_secs()));
}

/// Runs tests and counts each. A runner that fails without a failed test (it did not compile, or
/// it was killed) counts as one that failed.
fn tests(count: &mut Count, name: &str, arguments: &[&str]) {
    let start = Instant::now();
    let before = count.failed;
    // No two machines more than the processors can emulate at a time; unit tests do not mind.
    let line = ["test", "--locked", "--no-fail-fast"].into_iter().chain(arguments.iter().copied());
    let line: Vec<&str> = line.chain(["--", "--show-output", "--test-threads=2"]).collect();
    let passed = cargo(&line, |line| count.read(line)).unwrap_or_else(|error| {
        say(&format!("{name}: {error:#}"));
        false
    });
    if !passed && count.failed == before {
        count.failed += 1;
    }
    say(&format!("{name}: {} s", start.elapsed().as_secs()));
}

/// Runs cargo, shows what it prints as it prints it, and returns whether it succeeded.
fn cargo(arguments: &[&str], mut line: impl FnMut(&str)) -> Result<bool> {
    let shown = format!("cargo {}", arguments.join(" "));
    say(&format!("running {shown}"));
    let reader = duct::cmd("cargo", arguments)
        .dir(checkout())
        .stderr_to_stdout()
        .unchecked()
        .reader()
        .with_context(|| format!("cannot start `{shown}`"))?;
    let mut reader = BufReader::new(reader);
    let mut bytes = Vec::new();
    // A test may print bytes that are no text.
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        let text = String::from_utf8_lossy(&bytes);
        print!("{text}");
        line(text.trim_end());
        bytes.clear();
    }
    let output = reader.get_ref().try_wait()?.context("cargo closed its output and runs on")?;
    Ok(output.status.success())
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
