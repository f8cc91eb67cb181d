//! What an agent tells while it works: steps started and ended, progress, the final report.
//!
//! Progress may be lost; everything else is sent until the server has it. A kind of event that
//! this version does not know is read as [`Event::Unknown`], so that an older server survives a
//! newer agent.

use serde::{Deserialize, Serialize};

/// One thing that happened on a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A step began.
    StepStarted {
        /// [`crate::plan::Step::id`], or the name of a step of the agent's own life.
        step: String,
        /// Whether it destroys data: the first such event moves the machine to `installing`.
        #[serde(default)]
        destructive: bool,
    },
    /// How far a long step has come.
    Progress {
        /// The step.
        step: String,
        /// Bytes done.
        done: u64,
        /// Bytes in all, when known.
        total: Option<u64>,
    },
    /// A step ended.
    StepEnded {
        /// The step.
        step: String,
        /// How long it took.
        seconds: f64,
        /// Why it failed; absent when it did not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// Something is not as it should be, and the installation goes on.
    Warning {
        /// The step.
        step: String,
        /// What a person should know.
        text: String,
    },
    /// The final report: the installation is complete.
    Installed {
        /// How long it took in all.
        seconds: f64,
    },
    /// The final report: the installation failed.
    Failed {
        /// The step it failed in.
        step: String,
        /// The whole error chain, in one line per cause.
        error: String,
        /// In which state the disks were left.
        disks: DiskState,
    },
    /// An event of a newer agent.
    #[serde(other)]
    Unknown,
}

/// In which state a failed installation left the disks of its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskState {
    /// Nothing was written.
    Untouched,
    /// Their partition tables and boot code were cleared: nothing on them boots.
    Cleared,
    /// Clearing failed as well: look before booting from them.
    Unknown,
}
