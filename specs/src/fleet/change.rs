//! What a decision changes, as values: the lines of the server's journal.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::File;
use crate::cmdb::Entry;
use crate::facts::{Fact, Facts};
use crate::machine::Record;
use crate::units::Name;
use crate::value::Value;

/// One thing that becomes different. It is made true once, on what it was decided on: a count
/// says how much is taken or given back, so that a number written by hand meanwhile stands, and
/// an entry says which one it replaces, so that it is found in a file sorted meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// The count of a profile in `state`.
    Count {
        /// The profile.
        profile: Name,
        /// How many are given back; negative: taken.
        by: i64,
    },
    /// An entry of a profile's CMDB.
    Entry {
        /// The profile.
        profile: Name,
        /// Where the entry stood, from 0.
        position: usize,
        /// [`Entry::digest`] of what it said; empty when that is not known.
        #[serde(default)]
        replaces: String,
        /// What it says from now on.
        entry: Entry,
        /// How it is written, for an entry that goes back to what it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// A machine's record, new or changed.
    Record {
        /// All of it, facts excepted.
        record: Box<Record>,
    },
    /// A machine is forgotten: record and stored facts go.
    Forget {
        /// Id of the record.
        machine: Name,
        /// Names under which facts are stored that nobody else's facts have, without `.hw`.
        #[serde(default)]
        facts: Vec<Name>,
    },
    /// The facts of a machine, secrets redacted, to be stored beside its record. Absent when
    /// those that are stored already are the same.
    Facts {
        /// Id of the record.
        machine: Name,
        /// The file name to store them under, without `.hw` (it follows product and serial,
        /// which may change while the id stays).
        name: Name,
        /// The facts; shared, because they are many and nobody changes them any more.
        facts: Arc<Facts>,
    },
}

impl Change {
    /// The file that people edit in which this stands.
    pub fn file(&self) -> Option<File> {
        match self {
            Change::Count { .. } => Some(File::State),
            Change::Entry { profile, .. } => Some(File::Cmdb(profile.clone())),
            Change::Record { .. } | Change::Forget { .. } | Change::Facts { .. } => None,
        }
    }
}

/// What tells two lists of facts apart without keeping them: 128 bits in hexadecimal.
pub fn facts_digest(facts: &Facts) -> String {
    // Collected first: hashing thousands of small pieces one by one takes six times as long.
    let mut bytes = Vec::with_capacity(64 * facts.0.len());
    let mut add = |text: &str| {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    };
    for Fact(class, name, key, value) in &facts.0 {
        for text in [class, name, key] {
            add(text);
        }
        // `8` and `"8"` are stored differently.
        match value {
            Value::Text(text) => add(text),
            other => {
                add("not text");
                add(&other.text());
            }
        }
    }
    blake3::hash(&bytes).to_hex()[..32].to_owned()
}
