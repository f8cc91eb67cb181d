//! The CMDB of a profile: a list of entries, each handed out to one machine.
//!
//! Responsible for reading the file (literal entries or `generate({…})`), for finding the entry
//! a machine gets without walking the list, and for rewriting the file so that the entries that
//! changed are the only difference. Which machine holds which entry is known to
//! [`crate::fleet`], which also decides when an entry is bound and freed.

use serde::{Deserialize, Serialize};

use crate::value::{Value, Variables};

/// The mark of an entry that was handed out.
pub const USED: &str = "used";

/// One entry: keys and values in the order of the file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Entry(pub Vec<(String, Value)>);

impl Entry {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Whether it carries the mark `used`, whatever its value: as in the original, `used: 0`
    /// counts as used.
    pub fn is_used(&self) -> bool {
        self.get(USED).is_some()
    }

    /// Whether every one of these variables is a key of the entry with the same value.
    pub fn agrees(&self, variables: &Variables) -> bool {
        variables
            .iter()
            .all(|(name, wanted)| self.get(name).is_some_and(|value| value.same_as(wanted)))
    }

    /// The entry as it is stored for a machine with these variables, which win over its own
    /// values: marked used, in alphabetical order as the original writes it.
    #[must_use]
    pub fn bound_to(&self, variables: &Variables) -> Entry {
        let mut merged: Variables = self.0.iter().cloned().collect();
        merged.extend(variables.iter().map(|(name, value)| (name.clone(), value.clone())));
        merged.insert(USED.to_owned(), Value::Integer(1));
        Entry(merged.into_iter().collect())
    }

    /// What the machine gets to see: the entry's values, over which the facts' variables win.
    pub fn merged_with(&self, variables: &Variables) -> Variables {
        self.bound_to(variables).0.into_iter().collect()
    }
}
