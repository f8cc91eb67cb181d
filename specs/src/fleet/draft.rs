//! A decision in the making: sees its own changes, so that two of them add up.

use std::collections::BTreeMap;

use super::{Answer, Change, Decision, World};
use crate::machine::{Record, Seconds};
use crate::state::Count;
use crate::units::Name;

/// Changes on top of a world.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) world: &'a World,
    pub(super) now: Seconds,
    counts: BTreeMap<Name, Count>,
    changes: Vec<Change>,
    pub(super) warnings: Vec<String>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(world: &'a World, now: Seconds) -> Draft<'a> {
        Draft { world, now, counts: BTreeMap::new(), changes: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    pub(super) fn save(&mut self, record: Record) {
        self.push(Change::Record { record: Box::new(record) });
    }

    /// The count of a profile as it would be now.
    pub(super) fn count(&self, profile: &Name) -> Option<Count> {
        let drafted = self.counts.get(profile).copied();
        drafted.or_else(|| self.world.counts()?.count(profile))
    }

    fn set_count(&mut self, profile: &Name, count: Count) {
        if self.count(profile) != Some(count) {
            self.counts.insert(profile.clone(), count);
        }
    }

    /// Takes one machine from the profile's count for this record, unless it has one already.
    /// Answers whether the record has one afterwards.
    pub(super) fn take_count(&mut self, record: &mut Record) -> bool {
        let Some(assignment) = &mut record.assignment else { return false };
        if assignment.counted {
            return true;
        }
        match self.count(&assignment.profile).and_then(Count::taken) {
            Some(count) => {
                assignment.counted = true;
                let profile = assignment.profile.clone();
                self.set_count(&profile, count);
                true
            }
            None => false,
        }
    }

    /// Gives the record's one back to its profile's count, if it has one. While there is no
    /// count to give it to, the record keeps it.
    pub(super) fn give_count_back(&mut self, record: &mut Record) {
        let Some(assignment) = &mut record.assignment else { return };
        if assignment.counted
            && let Some(count) = self.count(&assignment.profile)
        {
            let profile = assignment.profile.clone();
            assignment.counted = false;
            self.set_count(&profile, count.given_back());
        }
    }

    /// Makes the record's entry what it was before the match; the record keeps the note of it.
    pub(super) fn free_entry(&mut self, record: &mut Record) {
        let Some(assignment) = &mut record.assignment else { return };
        if let Some(holding) = &mut assignment.entry
            && std::mem::take(&mut holding.bound)
        {
            self.changes.push(Change::Entry {
                profile: assignment.profile.clone(),
                position: holding.position,
                entry: holding.before.clone(),
                text: holding.before_text.clone(),
            });
        }
    }

    /// Ends the decision. What a machine's word alone would lose can be written later.
    pub(super) fn finish(self, answer: Answer) -> Decision {
        let counts = self.counts.into_iter().filter(|(profile, count)| {
            self.world.counts().and_then(|state| state.count(profile)) != Some(*count)
        });
        let mut changes: Vec<Change> =
            counts.map(|(profile, count)| Change::Count { profile, count }).collect();
        changes.extend(self.changes);
        Decision { answer, durable: !changes.is_empty(), changes, warnings: self.warnings }
    }
}
