//! What goes to standard error: an event a line, for the journal, a file or a terminal.
//!
//! systemd's journal has its own clock and wants the priority in front (`<4>`, see sd-daemon(3));
//! whether standard error leads there is said by JOURNAL_STREAM. On a terminal lines have colours. Values
//! from outside are escaped where they are logged; what is left here is that an event never
//! becomes two lines, of which the second would look like another's.

use std::fmt;
use std::io::{self, IsTerminal};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::request::shown;

/// Begins logging. `EDEPLOY_LOG` may say what; `json` writes an object a line.
pub fn start(json: bool) {
    let filter = EnvFilter::try_from_env("EDEPLOY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A log on a disk that is full must cost no answer: the complaint about it would panic.
    let log = log.log_internal_errors(false);
    if json {
        log.json().init();
    } else if is_journal() {
        log.event_format(Lines::for_journal()).init();
    } else if io::stderr().is_terminal() {
        log.init();
    } else {
        log.event_format(Lines::for_files()).init();
    }
}

/// What to put before a line that is no event but says why the program ends.
pub fn fatal_prefix() -> &'static str {
    if is_journal() { priority(Level::ERROR) } else { "" }
}

/// Whether standard error is the stream to the journal that systemd opened: a variable alone would
/// still be there where it leads elsewhere.
fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    let stderr = nix::sys::stat::fstat(io::stderr());
    stderr.is_ok_and(|stderr| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// Events as plain lines.
struct Lines<T> {
    format: Format<Full, T>,
    is_journal: bool,
}

impl Lines<()> {
    fn for_journal() -> Lines<()> {
        let format = tracing_subscriber::fmt::format().without_time().with_level(false);
        Lines { format, is_journal: true }
    }
}

impl Lines<tracing_subscriber::fmt::time::SystemTime> {
    fn for_files() -> Lines<tracing_subscriber::fmt::time::SystemTime> {
        Lines { format: tracing_subscriber::fmt::format(), is_journal: false }
    }
}

impl<S, N, T> FormatEvent<S, N> for Lines<T>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    T: FormatTime,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        if self.is_journal {
            writer.write_str(priority(*event.metadata().level()))?;
        }
        writeln!(writer, "{}", shown(line.trim(), usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::{Arc, Mutex};

    use tracing::{debug, error, info, warn};
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Kept;

        fn make_writer(&'a self) -> Kept {
            self.clone()
        }
    }

    /// What four events look like.
    fn logged<T: FormatTime + Send + Sync + 'static>(lines: Lines<T>) -> String {
        let kept = Kept::default();
        let log = tracing_subscriber::fmt().with_writer(kept.clone()).with_ansi(false);
        let log = log.with_max_level(Level::DEBUG).event_format(lines).finish();
        tracing::subscriber::with_default(log, || {
            error!(error = "no \u{1b}[31mdisk\n", "a\nb");
            warn!("warned");
            info!(status = 200, "request");
            debug!("detail");
        });
        String::from_utf8(kept.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn the_journal_gets_priorities_and_no_time() {
        let expected = "<3>server::logging::tests: a\\nb error=\"no \\u{1b}[31mdisk\\n\"\n\
                        <4>server::logging::tests: warned\n\
                        <6>server::logging::tests: request status=200\n\
                        <7>server::logging::tests: detail\n";
        assert_eq!(logged(Lines::for_journal()), expected);
    }

    #[test]
    fn others_get_time_and_level_and_a_line_an_event() {
        let text = logged(Lines::for_files());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        for (line, level) in lines.iter().zip(["ERROR", "WARN", "INFO", "DEBUG"]) {
            let mut words = line.split_whitespace();
            assert!(words.next().unwrap().parse::<jiff::Timestamp>().is_ok(), "{line}");
            assert_eq!(words.next(), Some(level), "{line}");
            assert!(!line.contains(char::is_control), "{line}");
        }
    }
}
