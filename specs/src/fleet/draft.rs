//! A decision in the making: sees its own changes, so that two of them add up.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Answer, Change, Decision, World, facts_digest};
use crate::cmdb::Entry;
use crate::facts::Facts;
use crate::machine::{Record, Seconds, system_name};
use crate::secret;
use crate::state::Count;
use crate::units::Name;

/// Changes on top of a world.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) world: &'a World,
    pub(super) now: Seconds,
    /// Taken and given back by this decision.
    counts: BTreeMap<Name, i64>,
    changes: Vec<Change>,
    pub(super) warnings: Vec<String>,
    /// The record of the machine that asks as the world has it, for unpacking it takes time.
    stored: Option<Record>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(world: &'a World, now: Seconds) -> Draft<'a> {
        Draft {
            world,
            now,
            counts: BTreeMap::new(),
            changes: Vec::new(),
            warnings: Vec::new(),
            stored: None,
        }
    }

    /// Takes note of a record as the world has it.
    pub(super) fn remember_stored(&mut self, record: Record) {
        self.stored = Some(record);
    }

    /// The record with this id as the world has it.
    pub(super) fn stored(&self, id: &Name) -> Option<Cow<'_, Record>> {
        match &self.stored {
            Some(stored) if stored.id == *id => Some(Cow::Borrowed(stored)),
            _ => self.world.census.get(id).map(Cow::Owned),
        }
    }

    pub(super) fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    pub(super) fn save(&mut self, record: Record) {
        self.push(Change::Record { record: Box::new(record) });
    }

    /// Writes a record, and the facts that its machine has just sent, where they differ from what is
    /// stored.
    pub(super) fn save_with_facts(&mut self, mut record: Record, facts: &Facts) {
        let digest = facts_digest(facts);
        if record.facts_digest != digest {
            record.facts_digest = digest;
            let name = system_name(facts);
            record.facts_names.retain(|it| *it != name);
            record.facts_names.push(name.clone());
            self.push(Change::Facts {
                machine: record.id.clone(),
                name,
                facts: Arc::new(secret::redacted_facts(facts)),
            });
        }
        if self.stored(&record.id).as_deref() != Some(&record) {
            self.save(record);
        }
    }

    /// The count of a profile as it would be now.
    pub(super) fn count(&self, profile: &Name) -> Option<Count> {
        let drafted = self.counts.get(profile).copied().unwrap_or(0);
        Some(self.world.counts()?.count(profile)?.plus(drafted))
    }

    fn add(&mut self, profile: &Name, by: i64) {
        if let Some(Count::Left(_)) = self.count(profile) {
            *self.counts.entry(profile.clone()).or_default() += by;
        }
    }

    /// Takes one machine from the profile's count for this record, unless it has one already.
    /// Answers whether the record has one afterwards.
    pub(super) fn take_count(&mut self, record: &mut Record) -> bool {
        let Some(assignment) = &mut record.assignment else { return false };
        if !assignment.counted && self.count(&assignment.profile).is_some_and(Count::is_available) {
            assignment.counted = true;
            self.add(&assignment.profile, -1);
        }
        assignment.counted
    }

    /// Gives the record's one back to its profile's count, if it has one. While there is no
    /// count to give it to, the record keeps it.
    pub(super) fn give_count_back(&mut self, record: &mut Record) {
        let Some(assignment) = &mut record.assignment else { return };
        if assignment.counted && self.count(&assignment.profile).is_some() {
            assignment.counted = false;
            self.add(&assignment.profile, 1);
        }
    }

    /// Makes an entry say something else, and what is known of it say which one is meant.
    pub(super) fn set_entry(
        &mut self,
        profile: &Name,
        position: usize,
        entry: Entry,
        text: Option<String>,
    ) {
        let world = self.world;
        let replaced = match world.cmdb(profile) {
            Some(cmdb) => cmdb.entry(position),
            // It cannot be read now: what it was when it could.
            None => {
                let holder = world.census.holder(profile, position);
                holder
                    .as_ref()
                    .and_then(Record::bound_entry)
                    .map(|(_, holding)| holding.after.clone())
            }
        };
        let replaces = replaced.as_ref().map(Entry::digest).unwrap_or_default();
        let profile = profile.clone();
        self.changes.push(Change::Entry { profile, position, replaces, entry, text });
    }

    /// Makes the record's entry what it was before the match; the record keeps the note of it.
    pub(super) fn free_entry(&mut self, record: &mut Record) {
        let Some(assignment) = &mut record.assignment else { return };
        if let Some(holding) = &mut assignment.entry
            && std::mem::take(&mut holding.bound)
        {
            let (entry, text) = (holding.before.clone(), holding.before_text.clone());
            let position = holding.position;
            self.set_entry(&assignment.profile, position, entry, text);
        }
    }

    /// Removes a record that holds nothing any more, and the facts that are stored for it.
    pub(super) fn forget(&mut self, record: Record) {
        self.forget_all(vec![record]);
    }

    /// As [`Draft::forget`]; the other records are looked at once for all.
    pub(super) fn forget_all(&mut self, records: Vec<Record>) {
        let ids: BTreeSet<&Name> = records.iter().map(|record| &record.id).collect();
        let stored = records.iter().flat_map(|it| it.facts_names.iter().chain([&it.id]));
        let mut stored: BTreeSet<Name> = stored.cloned().collect();
        // Names that others' facts have as well stay.
        for other in self.world.census.records().filter(|other| !ids.contains(&other.id)) {
            for name in other.facts_names.iter().chain([&other.id]) {
                stored.remove(name);
            }
        }
        for Record { id, mut facts_names, .. } in records {
            if !facts_names.contains(&id) {
                facts_names.push(id.clone());
            }
            facts_names.retain(|name| stored.contains(name));
            self.push(Change::Forget { machine: id, facts: facts_names });
        }
    }

    /// Ends the decision. What a machine's word alone would lose can be written later.
    pub(super) fn finish(self, answer: Answer) -> Decision {
        let counts = self.counts.into_iter().filter(|(_, by)| *by != 0);
        let mut changes: Vec<Change> =
            counts.map(|(profile, by)| Change::Count { profile, by }).collect();
        changes.extend(self.changes);
        Decision { answer, durable: !changes.is_empty(), changes, warnings: self.warnings }
    }
}
