//! `VERBOSE=1`: every command on the console, as a line to paste, before it is started.
//!
//! The runner tells what it starts by `tracing`; here the console listens. Secrets are replaced as
//! in everything that is printed.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry;

use super::Console;
use crate::world::COMMAND_FIELD;

impl Console {
    /// From now on prints every command that this process starts. Asked a second time, nothing
    /// changes.
    pub fn show_commands(&self) {
        // The only error is that there is a listener already.
        let _ = tracing::subscriber::set_global_default(self.listener());
    }

    fn listener(&self) -> impl Subscriber + Send + Sync + 'static {
        registry().with(Commands(self.clone()))
    }
}

/// Prints what is said of commands, and nothing else.
struct Commands(Console);

impl<S: Subscriber> Layer<S> for Commands {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut found = Found(None);
        event.record(&mut found);
        if let Found(Some(command)) = found {
            self.0.note(&format!("+ {command}"));
        }
    }
}

/// Picks the command out of an event.
struct Found(Option<String>);

impl Visit for Found {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == COMMAND_FIELD {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::console;
    use crate::world::{Cmd, Program, RealRunner, Runner};

    #[test]
    fn commands_are_printed_as_they_start_and_secrets_are_not() {
        let (console, screen) = console();
        console.redact(&["s3cr3t".to_owned()]);
        tracing::subscriber::with_default(console.listener(), || {
            let cmd = Cmd::of(Program::Named("echo".to_owned()), &["a b", "s3cr3t"]);
            RealRunner.run(&cmd.stdin("two\nlines\n")).unwrap();
            tracing::info!("something else");
        });
        assert_eq!(
            screen.text(),
            "[ 12.3s]          + echo 'a b' *** <<'END'\n[ 12.3s]          two\n\
             [ 12.3s]          lines\n[ 12.3s]          END\n"
        );
    }
}
