//! Where CMDB entries stand after someone edited the file by hand: known by what they say, not
//! by their places.
//!
//! Two uses: changes that the journal holds and the edited file does not are made true in it
//! ([`World::reapply`]), and machines are led to the entries they hold ([`World::reconcile`]).
//! Entries that say the same can stand for each other, but never one for two.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, World};
use crate::catalog::Loaded;
use crate::cmdb::{Cmdb, Entry};
use crate::units::Name;

/// The places of entries, by what these say.
#[derive(Debug)]
pub(super) struct Places(BTreeMap<String, BTreeSet<usize>>);

impl Places {
    /// Reads the whole list: for the rare moment after an edit.
    pub(super) fn of(cmdb: &Cmdb) -> Places {
        let mut places = Places(BTreeMap::new());
        for (position, entry) in cmdb.entries().enumerate() {
            places.put(&entry.digest(), position);
        }
        places
    }

    /// The entry with this digest that is nearest to where it stood.
    pub(super) fn nearest(&self, digest: &str, position: usize) -> Option<usize> {
        let there = self.0.get(digest)?;
        let before = there.range(..=position).next_back();
        let after = there.range(position..).next();
        before.into_iter().chain(after).copied().min_by_key(|it| it.abs_diff(position))
    }

    /// Nobody else finds this one.
    pub(super) fn claim(&mut self, digest: &str, position: usize) {
        if let Some(there) = self.0.get_mut(digest) {
            there.remove(&position);
        }
    }

    fn put(&mut self, digest: &str, position: usize) {
        match self.0.get_mut(digest) {
            Some(there) => drop(there.insert(position)),
            None => drop(self.0.insert(digest.to_owned(), BTreeSet::from([position]))),
        }
    }
}

impl World {
    /// Whether the entry that this change replaces stands where it stood when that was decided.
    /// Nothing speaks against it while the file cannot be understood.
    pub fn is_in_place(&self, change: &Change) -> bool {
        let Change::Entry { profile, position, replaces, .. } = change else { return true };
        self.cmdb(profile).is_none_or(|cmdb| digest_at(cmdb, *position) == *replaces)
    }

    /// Makes these changes true in a CMDB that was just read, lacks them, and may have been
    /// edited by hand. Each finds its entry wherever that stands now. A sentence for each that
    /// does not.
    pub fn reapply<'a>(
        &mut self,
        profile: &Name,
        changes: impl IntoIterator<Item = &'a Change>,
    ) -> Vec<String> {
        let mut warnings = Vec::new();
        let cmdb = self.cmdbs.get_mut(profile).and_then(Loaded::good_mut);
        let Some(cmdb) = cmdb else { return warnings };
        let mut places = None;
        for change in changes {
            let Change::Entry { profile: of, position, replaces, entry, text } = change else {
                continue;
            };
            if of != profile {
                continue;
            }
            let in_place = places.is_none() && digest_at(cmdb, *position) == *replaces;
            if in_place {
                cmdb.set(*position, entry.clone(), text.as_deref());
                continue;
            }
            let places = places.get_or_insert_with(|| Places::of(cmdb));
            let digest = entry.digest();
            if let Some(found) = places.nearest(replaces, *position) {
                places.claim(replaces, found);
                places.put(&digest, found);
                cmdb.set(found, entry.clone(), text.as_deref());
            } else if places.nearest(&digest, *position).is_none() {
                warnings.push(format!(
                    "entry {} of {profile}.cmdb was changed by hand before the server had written \
                     what became of it: that is not in the file",
                    position + 1
                ));
            }
        }
        warnings
    }
}

fn digest_at(cmdb: &Cmdb, position: usize) -> String {
    cmdb.entry(position).as_ref().map(Entry::digest).unwrap_or_default()
}
