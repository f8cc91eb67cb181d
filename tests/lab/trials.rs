//! Trials of what the server promises: each plays something on the real programs or the real store
//! and compares with what has to be true. Short in the unit tests here, long in `tests/long/server`.
//!
//! [`table`] is the life of machines as a model, and says what every answer has to be. Against
//! it go [`walk`] (all events in any order, with kills in between) and [`history`] (concurrent
//! requests: some order of single ones must explain them). [`power`] loses what was not synced:
//! [`trace`] reads what the kernel saw, [`disk`] forgets. [`faults`] makes system calls fail one
//! by one, [`full_disk`] takes all space, [`crowd`] besieges the door, [`endurance`] goes on for long.

pub mod crowd;
pub mod disk;
pub mod endurance;
pub mod faults;
pub mod full_disk;
pub mod history;
pub mod place;
pub mod power;
pub mod table;
pub mod trace;
pub mod walk;

use std::path::Path;

use anyhow::Result;

#[cfg(test)]
use crate::storm::hall::Programs;

/// Runs a trial in a folder of its own below `parent`. When something is wrong it is kept.
pub fn in_folder<T>(parent: &Path, trial: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let folder = tempfile::Builder::new().prefix("trial.").tempdir_in(parent)?;
    trial(folder.path())
        .map_err(|error| error.context(format!("everything lies in {}", folder.keep().display())))
}

/// As [`in_folder`], for the short ones among the unit tests.
#[cfg(test)]
fn shortly<T>(trial: impl FnOnce(&Path, Programs) -> Result<T>) -> T {
    let programs = crate::storm::debug_programs();
    in_folder(&std::env::temp_dir(), |folder| trial(folder, programs)).expect("the trial is passed")
}

/// A small generator: chance that can be repeated from its seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Thrown the same way for the same seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `sides`.
    pub fn below(&mut self, sides: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or(0) % sides.max(1)
    }

    /// True once in `sides` times.
    pub fn hits(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }
}
