//! Which entry a machine gets.

use super::Cmdb;
use crate::units::Name;
use crate::value::Variables;

/// The machine that wants an entry, and what is known of who holds which.
pub struct Claimant<'a> {
    /// Who holds the entry at a position, by record; `None`: nobody that is known.
    pub holder: Box<dyn Fn(usize) -> Option<Name> + 'a>,
    /// Id of the machine's own record, when it has one.
    pub machine: Option<&'a Name>,
    /// Whether an entry that carries the mark `used` but belongs to no record can be taken for
    /// this machine's own when all variables agree: it names the machine, not just its shape.
    pub identifies: Box<dyn Fn(&super::Entry) -> bool + 'a>,
}

/// What became of the wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This one.
    Entry(usize),
    /// The CMDB is empty, which is as if there were none.
    NoneNeeded,
    /// Entries agree with the `$$` variables, and all belong to others.
    Held {
        /// The first that agrees.
        position: usize,
        /// Id of the record that holds it.
        holder: Name,
    },
    /// No entry agrees with the `$$` variables.
    Unknown,
    /// Every entry is used.
    Exhausted,
}

impl Cmdb {
    /// Chooses the entry of a machine. `keys` are its `$$` variables, `variables` all of them.
    ///
    /// With `$$` variables: the first entry that agrees on all of them and is free, nobody's on
    /// record, or the machine's own. Without: one with equal variables, as in the original, that
    /// is free or names the machine; else the first free. (A machine whose record says what it
    /// holds does not come here.)
    pub fn choose(&self, keys: &Variables, variables: &Variables, who: &Claimant<'_>) -> Choice {
        if self.is_empty() {
            return Choice::NoneNeeded;
        }
        let of_other =
            |position: usize| (who.holder)(position).filter(|holder| Some(holder) != who.machine);
        if !keys.is_empty() {
            return self.choose_by_keys(keys, of_other);
        }
        let claimed = self.agreeing(variables).find(|position| {
            of_other(*position).is_none()
                && (self.free.contains(*position)
                    || self.entry(*position).is_some_and(|entry| (who.identifies)(&entry)))
        });
        let free = || self.free.iter().find(|position| of_other(*position).is_none());
        claimed.or_else(free).map_or(Choice::Exhausted, Choice::Entry)
    }

    fn choose_by_keys(&self, keys: &Variables, of_other: impl Fn(usize) -> Option<Name>) -> Choice {
        let mut held = None;
        for position in self.agreeing(keys) {
            match of_other(position) {
                None => return Choice::Entry(position),
                Some(holder) => {
                    held.get_or_insert(Choice::Held { position, holder });
                }
            }
        }
        held.unwrap_or(Choice::Unknown)
    }

    /// The first free entry that agrees with every one of these values it has a key for, and
    /// has a key for at least one: how an assignment by hand names an entry. Walks the list.
    pub fn find_free(&self, values: &Variables) -> Option<usize> {
        self.free.iter().find(|position| {
            let Some(entry) = self.entry(*position) else { return false };
            let mut named = values
                .iter()
                .filter_map(|(key, wanted)| Some((entry.get(key)?, wanted)))
                .peekable();
            named.peek().is_some() && named.all(|(value, wanted)| value.same_as(wanted))
        })
    }
}

impl std::fmt::Debug for Claimant<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claimant").field("machine", &self.machine).finish_non_exhaustive()
    }
}
