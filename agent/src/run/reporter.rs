//! Hands what the executor tells to the console and to the server.

use std::time::{Duration, Instant};

use specs::event::Event;
use specs::units::Bytes;

use crate::client::EventSender;
use crate::execute::{EventSink, Objection};
use crate::report::Console;

/// How often a step that lasts says how far it has come.
const PROGRESS_LINES: Duration = Duration::from_secs(5);

/// How long the server is waited for before the first destructive step. No longer: nothing is
/// lost yet, and a person may wonder.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(5 * 60);

/// See the module.
#[derive(Debug)]
pub(super) struct Reporter {
    console: Console,
    events: EventSender,
    last_progress: Instant,
}

impl Reporter {
    pub(super) fn new(console: Console, events: EventSender) -> Reporter {
        Reporter { console, events, last_progress: Instant::now() }
    }
}

impl EventSink for Reporter {
    fn event(&mut self, event: Event) {
        match &event {
            Event::StepStarted { step, .. } => {
                self.last_progress = Instant::now();
                self.console.begin(step);
            }
            Event::Progress { step, done, total }
                if self.last_progress.elapsed() >= PROGRESS_LINES =>
            {
                self.last_progress = Instant::now();
                self.console.note(&progress_line(step, *done, *total));
            }
            Event::StepEnded { error: None, .. } => self.console.done(""),
            // The error itself is told once, at the end, with the state of the disks.
            Event::StepEnded { error: Some(_), .. } => self.console.failed(),
            Event::Warning { text, .. } => self.console.note(text),
            _ => {}
        }
        self.events.send(event);
    }

    fn confirm(&mut self) -> Result<(), Objection> {
        Ok(self.events.deliver(CONFIRM_PATIENCE)?)
    }

    fn proceed(&mut self) -> Result<(), Objection> {
        Ok(self.events.accepted()?)
    }
}

fn progress_line(step: &str, done: u64, total: Option<u64>) -> String {
    match total {
        Some(total) if total > 0 => {
            let percent = u128::from(done) * 100 / u128::from(total);
            format!("{step}: {} of {} ({percent} %)", Bytes(done), Bytes(total))
        }
        _ => format!("{step}: {}", Bytes(done)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_worded_for_people() {
        assert_eq!(progress_line("tree", 3 << 20, None), "tree: 3 MiB");
        assert_eq!(progress_line("tree", 3 << 20, Some(4 << 20)), "tree: 3 MiB of 4 MiB (75 %)");
        assert_eq!(progress_line("tree", 1, Some(0)), "tree: 1 B");
    }
}
