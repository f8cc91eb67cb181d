//! How often and how long something is tried again.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use super::ClientError;
use crate::report::Console;

/// The longest pause between two attempts: also the longest that a rack waits for a server that
/// has come back.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// How an attempt failed.
#[derive(Debug)]
pub enum Attempt {
    /// It may go better later.
    Again(ClientError),
    /// The answer will not change.
    Final(ClientError),
}

impl From<ClientError> for Attempt {
    fn from(error: ClientError) -> Attempt {
        Attempt::Final(error)
    }
}

/// Until when attempts are made, and how long the pauses between them are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// No attempt begins later than this after the first.
    pub total: Duration,
    /// The first pause; each further one is twice as long, up to 20 s.
    pub first_pause: Duration,
}

impl Patience {
    /// Patience for this long, with pauses from one second on.
    pub const fn of(total: Duration) -> Patience {
        Patience { total, first_pause: Duration::from_secs(1) }
    }

    /// Tries until it works, fails for good, or patience ends; returns the last error. Every
    /// failed attempt is shown.
    pub fn attempt<T>(
        self,
        console: &Console,
        attempt: &mut dyn FnMut(u32) -> Result<T, Attempt>,
    ) -> Result<T, ClientError> {
        let began = Instant::now();
        let mut number = 1;
        loop {
            let error = match attempt(number) {
                Ok(value) => return Ok(value),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(error)) => error,
            };
            let pause = self.next_pause(number);
            if began.elapsed() + pause > self.total {
                return Err(error);
            }
            let left = (self.total - began.elapsed()).as_secs();
            let pause_seconds = pause.as_secs_f64();
            console.note(&format!(
                "attempt {number}: {}; again in {pause_seconds:.1} s (giving up in {left} s)",
                brief(&error)
            ));
            thread::sleep(pause);
            number += 1;
        }
    }

    /// The pause after this attempt.
    pub(super) fn next_pause(self, number: u32) -> Duration {
        self.pause(number, random_fraction())
    }

    /// The pause after this attempt. `fraction` (0 to 1) spreads a rack that was switched on in
    /// one moment: the pause is between half of its length and the whole.
    fn pause(self, number: u32, fraction: f64) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << (number - 1).min(10));
        doubled.min(LONGEST_PAUSE).mul_f64(0.5 + fraction / 2.0)
    }
}

/// An error and its innermost cause: what a person needs of a chain that is printed many times.
pub(super) fn brief(error: &ClientError) -> String {
    let mut innermost: Option<&dyn Error> = None;
    let mut next = error.source();
    while let Some(cause) = next {
        innermost = Some(cause);
        next = cause.source();
    }
    innermost.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

/// Evenly spread from 0 to 1; in the middle where the system has no random numbers.
fn random_fraction() -> f64 {
    let mut byte = [127];
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::console;

    const QUICK: Patience =
        Patience { total: Duration::from_millis(300), first_pause: Duration::from_millis(1) };

    fn again() -> Attempt {
        Attempt::Again(ClientError::Undelivered { left: 1 })
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_are_spread() {
        let patience = Patience::of(Duration::from_secs(600));
        let seconds: Vec<f64> =
            (1..8).map(|number| patience.pause(number, 1.0).as_secs_f64()).collect();
        assert_eq!(seconds, [1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0]);
        assert_eq!(patience.pause(3, 0.0), Duration::from_secs(2));
        assert_eq!(patience.pause(u32::MAX, 1.0), LONGEST_PAUSE);
    }

    #[test]
    fn attempts_are_shown_until_one_works() {
        let (console, screen) = console();
        let value = QUICK.attempt(&console, &mut |number| match number {
            3 => Ok("there"),
            _ => Err(again()),
        });
        assert_eq!(value.unwrap(), "there");
        let text = screen.text();
        assert!(text.contains("attempt 1: 1 events could not be delivered in time; again in"));
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn a_final_answer_is_not_asked_for_again_and_patience_ends() {
        let (console, _) = console();
        let mut attempts = 0;
        let error = QUICK.attempt::<()>(&console, &mut |_| {
            attempts += 1;
            Err(Attempt::Final(ClientError::Nonce { url: "u".to_owned() }))
        });
        assert!(matches!(error, Err(ClientError::Nonce { .. })));
        assert_eq!(attempts, 1);
        let began = Instant::now();
        let error = QUICK.attempt::<()>(&console, &mut |_| Err(again()));
        assert!(matches!(error, Err(ClientError::Undelivered { .. })));
        assert!(began.elapsed() < Duration::from_secs(2));
    }
}
