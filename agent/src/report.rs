//! What a person at the console reads, and the install log that keeps it.
//!
//! One bracketed line per step when it ends, with the time since boot and how long the step took.
//! A step that lasts longer than [`PATIENCE`] announces itself, so that nobody looks at a silent
//! screen, and quick ones take one line each. Everything goes to the console and to the install
//! log alike, with the plan's secrets and control characters replaced; at the end stands a table
//! of durations whose lines begin with `[ time ]`, for people and for the lab.
//!
//! With `VERBOSE=1` every command stands there as well ([`Console::show_commands`]).
//!
//! What the server is told is [`crate::client::EventSender`]'s.

mod commands;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::execute::redact_as;

/// Where the install log is written until it is copied into the installed system.
pub const INSTALL_LOG: &str = "/run/edeploy/install.log";

/// After this time a step that is still running is announced.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Prints to the console and to the install log. Clones share both.
#[derive(Clone)]
pub struct Console {
    state: Arc<Mutex<State>>,
    clock: fn() -> Duration,
}

struct State {
    outputs: Vec<Box<dyn Write + Send>>,
    secrets: Vec<String>,
    running: Option<Running>,
    durations: Vec<StepDuration>,
}

struct Running {
    name: String,
    since: Duration,
    announced: bool,
}

/// How long one step took.
#[derive(Clone)]
struct StepDuration {
    name: String,
    took: Duration,
    succeeded: bool,
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").finish_non_exhaustive()
    }
}

/// The time since boot. Unlike the wall clock it does not jump when the server's time is taken.
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

impl Console {
    /// A console that writes to these outputs and asks `clock` for the time.
    pub fn new(outputs: Vec<Box<dyn Write + Send>>, clock: fn() -> Duration) -> Console {
        let state = State { outputs, secrets: Vec::new(), running: None, durations: Vec::new() };
        Console { state: Arc::new(Mutex::new(state)), clock }
    }

    /// The console of this process: its standard output and the install log, which is appended
    /// to. Steps that last are announced by a thread of its own.
    pub fn of_machine() -> Console {
        let mut outputs: Vec<Box<dyn Write + Send>> = vec![Box::new(io::stdout())];
        let console = match open_log(Path::new(INSTALL_LOG)) {
            Ok(log) => {
                outputs.push(Box::new(log));
                Console::new(outputs, since_boot)
            }
            Err(error) => {
                let console = Console::new(outputs, since_boot);
                console.note(&format!("no install log: cannot write {INSTALL_LOG}: {error}"));
                console
            }
        };
        let announcer = console.clone();
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_millis(500));
                announcer.announce();
            }
        });
        console
    }

    /// From now on these values are printed as `***`.
    pub fn redact(&self, secrets: &[String]) {
        let mut state = self.lock();
        state.secrets.extend(secrets.iter().filter(|secret| !secret.is_empty()).cloned());
    }

    /// The text with every secret replaced.
    pub fn redacted(&self, text: &str) -> String {
        redact(text, &self.lock().secrets)
    }

    /// Prints one line exactly as it is, without time and brackets.
    pub fn line(&self, text: &str) {
        self.lock().print(text);
    }

    /// Prints text that belongs to no step's end: an attempt, a warning. Further lines of it are
    /// indented alike.
    pub fn note(&self, text: &str) {
        let now = (self.clock)();
        let mut state = self.lock();
        // As a whole, since a secret may have several lines.
        for line in redact(text, &state.secrets).lines() {
            state.print(&format!("{}          {line}", stamp(now)));
        }
    }

    /// A step begins.
    pub fn begin(&self, name: &str) {
        let since = (self.clock)();
        self.lock().running = Some(Running { name: name.to_owned(), since, announced: false });
    }

    /// The step that began last succeeded; `detail` says with what result, or is empty.
    pub fn done(&self, detail: &str) {
        self.end("done", detail, true);
    }

    /// The step that began last failed; the error itself is printed by whoever handles it.
    pub fn failed(&self) {
        self.end("FAIL", "", false);
    }

    /// Runs a step: its line says `done`, or `FAIL` when it returns an error.
    pub fn step<T, E>(
        &self,
        name: &str,
        step: impl FnOnce() -> Result<(T, String), E>,
    ) -> Result<T, E> {
        self.begin(name);
        match step() {
            Ok((value, detail)) => {
                self.done(&detail);
                Ok(value)
            }
            Err(error) => {
                self.failed();
                Err(error)
            }
        }
    }

    /// Prints the table of durations.
    pub fn print_durations(&self) {
        let now = (self.clock)();
        let mut state = self.lock();
        let mut total = Duration::ZERO;
        for step in state.durations.clone() {
            total += step.took;
            let failed = if step.succeeded { "" } else { " (failed)" };
            let seconds = step.took.as_secs_f64();
            state.print(&format!("{} [ time ] {seconds:8.2} s  {}{failed}", stamp(now), step.name));
        }
        state.print(&format!("{} [ time ] {:8.2} s  in all", stamp(now), total.as_secs_f64()));
    }

    fn end(&self, word: &str, detail: &str, succeeded: bool) {
        let now = (self.clock)();
        let mut state = self.lock();
        let Some(running) = state.running.take() else { return };
        let took = now.saturating_sub(running.since);
        let blank = if detail.is_empty() { "" } else { " " };
        let name = &running.name;
        let line =
            format!("{} [ {word} ] {name}{blank}{detail} … {:.1}s", stamp(now), took.as_secs_f64());
        state.print(&line);
        state.durations.push(StepDuration { name: running.name, took, succeeded });
    }

    /// Announces the running step when it has lasted a while and was not announced yet.
    fn announce(&self) {
        let now = (self.clock)();
        let mut state = self.lock();
        let Some(running) = &mut state.running else { return };
        if !running.announced && now.saturating_sub(running.since) >= PATIENCE {
            running.announced = true;
            let line = format!("{} [ .... ] {}", stamp(now), running.name);
            state.print(&line);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is a list of lines' worth of text: usable after any panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn print(&mut self, line: &str) {
        // Before control characters are escaped, which would hide a secret that holds some.
        let line = printable(&redact(line, &self.secrets)) + "\n";
        for output in &mut self.outputs {
            // A console that is gone must not stop an installation.
            let _ = output.write_all(line.as_bytes()).and_then(|()| output.flush());
        }
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::options().create(true).append(true).open(path)
}

fn stamp(now: Duration) -> String {
    format!("[{:5.1}s]", now.as_secs_f64())
}

fn redact(text: &str, secrets: &[String]) -> String {
    redact_as(text, secrets, "***")
}

/// Text of a machine or a server may hold anything: control characters are shown, not obeyed.
fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut printable, character| {
        if character.is_control() && character != '\t' {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
        printable
    })
}

/// An in-memory console, for tests of everything that prints.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// What was printed to a console made by [`console`].
    #[derive(Clone, Default)]
    pub(crate) struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Screen {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    /// A console whose clock stands still at 12.34 s.
    pub(crate) fn console() -> (Console, Screen) {
        let screen = Screen::default();
        (Console::new(vec![Box::new(screen.clone())], || Duration::from_millis(12_340)), screen)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::console;
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn one_line_per_step_and_a_table_at_the_end() {
        let (console, screen) = console();
        console.step("network", || Ok::<_, ()>(((), "eth0 10.0.2.15/24".to_owned()))).unwrap();
        console.note("two\nlines");
        console.step("upload", || Err::<((), String), _>("no")).unwrap_err();
        console.print_durations();
        expect_test::expect![[r#"
            [ 12.3s] [ done ] network eth0 10.0.2.15/24 … 0.0s
            [ 12.3s]          two
            [ 12.3s]          lines
            [ 12.3s] [ FAIL ] upload … 0.0s
            [ 12.3s] [ time ]     0.00 s  network
            [ 12.3s] [ time ]     0.00 s  upload (failed)
            [ 12.3s] [ time ]     0.00 s  in all
        "#]]
        .assert_eq(&screen.text());
    }

    #[test]
    fn a_step_that_lasts_is_announced_once() {
        static NOW: AtomicU64 = AtomicU64::new(0);
        let screen = testing::Screen::default();
        let clock = || Duration::from_millis(NOW.load(Ordering::Relaxed));
        let console = Console::new(vec![Box::new(screen.clone())], clock);
        console.begin("tree");
        for now in [1900, 2100, 2600] {
            NOW.store(now, Ordering::Relaxed);
            console.announce();
        }
        NOW.store(9000, Ordering::Relaxed);
        console.done("");
        console.announce();
        assert_eq!(screen.text(), "[  2.1s] [ .... ] tree\n[  9.0s] [ done ] tree … 9.0s\n");
    }

    #[test]
    fn secrets_and_control_characters_are_not_printed() {
        let (console, screen) = console();
        console.redact(&["s3cret".to_owned(), String::new(), "s3cret-longer".to_owned()]);
        console.line("password s3cret-longer, \u{1b}[2Jand s3cret");
        assert_eq!(screen.text(), "password ***, \\u{1b}[2Jand ***\n");
    }

    #[test]
    fn a_secret_of_several_lines_or_with_control_characters_is_not_printed() {
        let (console, screen) = console();
        console.redact(&["top line\nab\nlast line".to_owned(), "tab\u{7}bell".to_owned()]);
        console.note("key: top line\nab\nlast line");
        console.line("'last line' and tab\u{7}bell");
        assert_eq!(screen.text(), "[ 12.3s]          key: ***\n'***' and ***\n");
    }
}
