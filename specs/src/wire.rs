//! What crosses the network between agent and server, and its versions.
//!
//! Inward messages refuse unknown fields only where a typing error would be dangerous; outward
//! replies are tagged. The internal types of the server (records, journal) never cross.

use serde::{Deserialize, Serialize};

pub use crate::dialect::{ron_options, to_ron};
use crate::event::Event;
use crate::plan::Plan;
use crate::units::{Name, Token, Uuid};

/// The protocol this code speaks. An upload or event batch with another number is answered 426.
pub const PROTOCOL: u32 = 1;

/// `Content-Type` of replies.
pub const CONTENT_TYPE: &str = "application/ron";

/// Names of the form fields of an upload.
pub mod field {
    /// The facts: JSON list of 4-lists, RON, or the original's literals. Must carry a file name;
    /// one that ends in `.log.gz` makes the upload a log upload.
    pub const FILE: &str = "file";
    /// Section of edeploy.conf, default `SERVER`.
    pub const SECTION: &str = "section";
    /// Profile whose installation failed; `*` of a machine that never got so far.
    pub const FAILURE: &str = "failure";
    /// Why, in a sentence, when there is no ticket whose events have said it.
    pub const REASON: &str = "reason";
    /// [`super::PROTOCOL`]; absent in uploads of the original's clients.
    pub const PROTOCOL: &str = "protocol";
    /// Version of the agent.
    pub const AGENT: &str = "agent";
    /// 16 random bytes in hexadecimal that the reply repeats.
    pub const NONCE: &str = "nonce";
    /// The ticket of the plan that a failure or log belongs to.
    pub const TICKET: &str = "ticket";
}

/// The reply to an upload of facts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Carry this out. Status 200.
    Plan {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The nonce of the upload; `None` when it had none.
        nonce: Option<Token>,
        /// To be shown with events, failure and logs.
        ticket: Token,
        /// What to do.
        plan: Box<Plan>,
    },
    /// The machine is installed: boot its disk and write nothing. Status 200.
    Installed {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The nonce of the upload; `None` when it had none.
        nonce: Option<Token>,
        /// Its host name.
        hostname: String,
        /// The profile it holds.
        profile: Name,
        /// Path of the disk its boot loader is on, as it was at installation.
        disk: String,
        /// UUID of its root file system.
        root: Uuid,
    },
    /// Nothing will be done, and why. Status 4xx or 5xx.
    Refused(Refusal),
}

/// A refusal that a person can read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// The HTTP status: 400 malformed, 404 section, 409 exhausted or conflict, 411, 413, 422 no
    /// match, 426 protocol, 429, 503.
    pub status: u16,
    /// The nonce of the upload; `None` when it had none.
    pub nonce: Option<Token>,
    /// One sentence: what was refused and what to do.
    pub reason: String,
    /// Per profile in the order of `state`: why it did not fit. Lines of at most 100 columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<ProfileRefusal>,
}

/// Why one profile did not fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProfileRefusal {
    /// The profile.
    pub profile: String,
    /// One sentence: the line that failed, what it wanted and the nearest value.
    pub reason: String,
}

/// The body of `POST …/events`, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventBatch {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Version of the agent.
    pub agent: String,
    /// As in an upload; the reply repeats it.
    pub nonce: Token,
    /// The ticket of the plan.
    pub ticket: Token,
    /// Number of the first event; events are numbered from 0 within a ticket, and a number the
    /// server has already is ignored.
    pub sequence: u64,
    /// The events.
    pub events: Vec<Event>,
}

/// The reply to an [`EventBatch`], as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventReply {
    /// The nonce of the batch.
    pub nonce: Token,
    /// The number of the next event the server expects.
    pub next: u64,
}
