//! What the server remembers of one machine: who it is, where in its life it stands, what it
//! holds, and what happened to it.
//!
//! Responsible for the shape of the record and for the words of its life. Which facts make two
//! uploads the same machine is [`identity`]; which event leads to which phase is [`crate::fleet`].
//! The facts themselves are not part of a record: a hall of machines would not fit in memory.
//! They are stored beside it and travel as [`crate::fleet::Change::Facts`].

pub mod identity;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cmdb::Entry;
use crate::event::DiskState;
use crate::units::{Name, Token, Uuid};
use crate::value::Variables;

pub use identity::{FORMER_MACS, Identity, system_name};

/// Seconds since 1970-01-01T00:00:00Z. Always an argument: this crate reads no clock.
pub type Seconds = u64;

/// A record keeps this many lines of history; the oldest go first.
pub const HISTORY_LINES: usize = 100;

/// Where a machine stands in its life (the table in design 5a).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Uploaded, and no profile fitted.
    Unmatched,
    /// Has been given a plan; no destructive step has been reported.
    Leased,
    /// Has begun a destructive step.
    Installing,
    /// Reported a complete installation: boots its own disk.
    Installed,
    /// Reported a failure, or was silent for longer than the lease.
    Failed,
    /// Installed, and to be installed again at its next upload.
    Armed,
    /// Its entry and count were given back by an operator.
    Released,
}

impl Phase {
    /// Whether the machine is expected to report while it is in this phase.
    pub fn is_leased(self) -> bool {
        matches!(self, Phase::Leased | Phase::Installing)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Unmatched => "unmatched",
            Phase::Leased => "leased",
            Phase::Installing => "installing",
            Phase::Installed => "installed",
            Phase::Failed => "failed",
            Phase::Armed => "armed",
            Phase::Released => "released",
        })
    }
}

/// Everything the server remembers of one machine, facts excepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its name among the records, fixed when the machine was first seen: [`system_name`] of
    /// its facts, numbered when that was taken. Safe as a file name.
    pub id: Name,
    /// What tells it from others, as of its last accepted upload.
    pub identity: Identity,
    /// Where it stands.
    pub phase: Phase,
    /// When it entered this phase.
    pub since: Seconds,
    /// When it was last heard of: a lease runs from here.
    pub heard: Seconds,
    /// What it was given; `None` while nothing was, and after a release.
    #[serde(default)]
    pub assignment: Option<Assignment>,
    /// What an operator decided by hand for its next upload.
    #[serde(default)]
    pub pin: Option<Pin>,
    /// Whether the next upload that shares evidence with this record takes it over, even when
    /// some evidence contradicts (`rebind`).
    #[serde(default)]
    pub rebinding: bool,
    /// [`crate::fleet::facts_digest`] of the facts that are stored beside the record.
    #[serde(default)]
    pub facts_digest: String,
    /// The names, without `.hw`, under which its facts were stored, the last one last: they follow
    /// product and serial, which may change.
    #[serde(default)]
    pub facts_names: Vec<Name>,
    /// The failure it reported last without showing a ticket: nobody can tell whether it is true, and
    /// it changes nothing. Gone with the next plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complaint: Option<HistoryLine>,
    /// What happened, oldest first, at most [`HISTORY_LINES`].
    #[serde(default)]
    pub history: Vec<HistoryLine>,
}

/// What a machine was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// The profile that fitted.
    pub profile: Name,
    /// Its entry of the profile's CMDB; `None` when the profile has none.
    pub entry: Option<Holding>,
    /// Host name of the plan.
    pub hostname: String,
    /// Variables of the match and the entry, secret values redacted: for people to look at.
    pub variables: Variables,
    /// Identifiers in the plan derive from it: it lives as long as the assignment.
    pub nonce: Token,
    /// What events, failure and report must show. Replaced when a machine starts over.
    pub ticket: Token,
    /// Whether one is taken from the profile's count for this machine.
    pub counted: bool,
    /// Whether a destructive step has begun since the entry was bound.
    pub destroying: bool,
    /// Number of the next event of this ticket.
    pub next_event: u64,
    /// The step that the machine reported last, for `machines`.
    #[serde(default)]
    pub step: Option<String>,
    /// In which state a failure left the disks; `None` when none was reported.
    #[serde(default)]
    pub disks: Option<DiskState>,
    /// Path of the disk the boot loader goes to.
    pub boot_disk: String,
    /// UUID of the root file system.
    pub root: Uuid,
}

/// A CMDB entry in the hands of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holding {
    /// Where it stands in the CMDB, from 0.
    pub position: usize,
    /// The entry as it was before the match: what `release` restores.
    pub before: Entry,
    /// How it was written then; `None` when it came out of `generate`.
    #[serde(default)]
    pub before_text: Option<String>,
    /// The entry as it stands in the file while it is bound.
    pub after: Entry,
    /// Whether it is still this machine's. A failure before the first destructive step gives
    /// it back and keeps the note, so that the machine gets the same one if it is still free.
    pub bound: bool,
}

/// An assignment by hand, for the machine's next upload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// The only profile that will be tried.
    pub profile: Name,
    /// Values that win over facts and entry; those that a CMDB entry holds choose the entry.
    pub variables: Variables,
}

/// One line of a machine's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistoryLine {
    /// When.
    pub at: Seconds,
    /// What happened, in one sentence without secrets or control characters.
    pub text: String,
}

impl Record {
    /// A machine that has just been seen for the first time.
    pub fn new(id: Name, identity: Identity, now: Seconds) -> Record {
        Record {
            id,
            identity,
            phase: Phase::Unmatched,
            since: now,
            heard: now,
            assignment: None,
            pin: None,
            rebinding: false,
            facts_digest: String::new(),
            facts_names: Vec::new(),
            complaint: None,
            history: Vec::new(),
        }
    }

    /// The name an operator knows it by: its host name while it has one, else its id.
    pub fn display_name(&self) -> &str {
        self.assignment.as_ref().map_or(self.id.as_str(), |assignment| &assignment.hostname)
    }

    /// The CMDB entry that is this machine's: profile and holding.
    pub fn bound_entry(&self) -> Option<(&Name, &Holding)> {
        let assignment = self.assignment.as_ref()?;
        let holding = assignment.entry.as_ref().filter(|holding| holding.bound)?;
        Some((&assignment.profile, holding))
    }

    /// Whether what it was given is still its own: it is tried on that profile alone, and the
    /// entry is nobody else's. A failure before the first destructive step gives all back.
    pub fn is_bound(&self) -> bool {
        self.assignment.as_ref().is_some_and(|assignment| match self.phase {
            Phase::Leased | Phase::Installing | Phase::Installed | Phase::Armed => true,
            Phase::Failed => assignment.destroying,
            Phase::Unmatched | Phase::Released => false,
        })
    }

    /// When anything was heard of it, or it changed.
    pub fn last_seen(&self) -> Seconds {
        let complained = self.complaint.as_ref().map_or(0, |complaint| complaint.at);
        self.heard.max(self.since).max(complained)
    }

    /// Whether forgetting it takes nothing from it: no entry, no count, and nothing that an
    /// operator decided for it.
    pub fn holds_nothing(&self) -> bool {
        let counted = self.assignment.as_ref().is_some_and(|assignment| assignment.counted);
        let bound = self.is_bound() || self.bound_entry().is_some();
        !(bound || counted || self.rebinding || self.pin.is_some())
    }

    /// Enters a phase; the time of entry moves only when the phase changes.
    pub fn enter(&mut self, phase: Phase, now: Seconds) {
        if self.phase != phase {
            self.phase = phase;
            self.since = now;
        }
    }

    /// Adds a line of history, dropping the oldest when there are too many.
    pub fn note(&mut self, now: Seconds, text: impl Into<String>) {
        if self.history.len() >= HISTORY_LINES {
            let surplus = self.history.len() + 1 - HISTORY_LINES;
            self.history.drain(..surplus);
        }
        self.history.push(HistoryLine { at: now, text: text.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_history_stay() {
        let mut record = Record::new("a".parse().unwrap(), Identity::default(), 0);
        let lines = HISTORY_LINES as Seconds;
        for at in 1..=lines + 7 {
            record.note(at, "heard of");
            assert_eq!(record.history.len() as Seconds, at.min(lines));
        }
        let kept: Vec<Seconds> = record.history.iter().map(|line| line.at).collect();
        assert_eq!(kept, (8..=lines + 7).collect::<Vec<_>>());
    }
}
