//! The life of machines: every transition of the table in design 5a as a pure function.
//!
//! A transition looks at the [`World`] (what the files say and who holds what), the time and two
//! fresh random tokens, and returns a [`Decision`]: the answer to give, and the changes that
//! make it true. Nothing is changed by deciding. The server journals the changes, applies them
//! with [`World::apply`] and only then lets the answer leave; after a kill it applies those of
//! the journal that the files lack. Counts change by differences and entries are known by what
//! they said, so that what an admin wrote meanwhile stands.
//!
//! Not here: files, locks, the journal, the form of requests.

mod census;
pub mod change;
mod draft;
pub mod edit;
mod entries;
mod marks;
mod operate;
mod reconcile;
mod report;
mod retire;
mod upload;
mod world;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::units::{Name, Token, Uuid};
use crate::wire::ProfileRefusal;

pub use census::{Census, Packed};
pub use change::{Change, facts_digest};
pub use report::Complaint;
pub use retire::Keep;
pub use upload::Untold;
pub use upload::trial::{Chosen, Given, Outcome, Trial, Tried};
pub use world::{File, Loaded, World};

/// Random values of the caller, used where a transition has to make something up.
#[derive(Debug, Clone)]
pub struct Fresh {
    /// For the identifiers of a new plan.
    pub nonce: Token,
    /// For a new ticket.
    pub ticket: Token,
}

/// What a transition decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What to answer, once the changes are on disk.
    pub answer: Answer,
    /// What becomes different, in the order in which to apply it. Empty: nothing to write.
    pub changes: Vec<Change>,
    /// What the log should say beside the answer.
    pub warnings: Vec<String>,
    /// Whether the changes have to be on disk before the answer leaves. Not so when all they
    /// say is how far a machine has come.
    pub durable: bool,
}

/// The answer to a machine or an operator.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Carry this plan out.
    Plan {
        /// Id of the machine's record.
        machine: Name,
        /// What its events have to show.
        ticket: Token,
        /// What to do.
        plan: Box<Plan>,
    },
    /// Installed already: boot the disk.
    Installed {
        /// Id of the machine's record.
        machine: Name,
        /// Its host name.
        hostname: String,
        /// Its profile.
        profile: Name,
        /// Path of the disk its boot loader is on.
        disk: String,
        /// UUID of its root file system.
        root: Uuid,
    },
    /// Events were taken; the number of the next one.
    Recorded {
        /// Id of the machine's record.
        machine: Name,
        /// The number of the next event of this ticket.
        next: u64,
    },
    /// An operator's command was carried out; one sentence says what became of what.
    Done(String),
    /// Nothing was given.
    Refused(Refused),
}

impl Decision {
    /// A refusal that changes nothing.
    fn refused(status: u16, reason: impl Into<String>) -> Decision {
        let refused = Refused { status, reason: reason.into(), profiles: Vec::new() };
        Decision::unchanged(Answer::Refused(refused))
    }

    /// An answer that changes nothing.
    fn unchanged(answer: Answer) -> Decision {
        Decision { answer, changes: Vec::new(), warnings: Vec::new(), durable: false }
    }
}

/// Why nothing was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// HTTP status: 404, 409, 422, or 503 when a file of the configuration is broken.
    pub status: u16,
    /// One sentence.
    pub reason: String,
    /// Per profile, in the order of `state`.
    pub profiles: Vec<ProfileRefusal>,
}
