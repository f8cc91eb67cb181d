//! Someone edited a CMDB by hand: what that means for the machines that hold its entries.
//!
//! The record rules. An entry that moved is followed. An entry whose mark `used` was removed
//! goes free when its machine has failed; any other machine keeps it, the mark is written
//! again, and the operator is told that `release` is the way. An entry whose values were
//! changed keeps the change.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::{Answer, Change, Decision, World};
use crate::cmdb::{Cmdb, Entry};
use crate::machine::{Holding, Phase, Record, Seconds};
use crate::units::Name;

/// Where an entry is after the edit.
pub(super) enum Found {
    /// Untouched, at this position.
    Same(usize),
    /// Marked used still, at the same position, with other values.
    Edited(Entry),
    /// At this position, without the mark.
    Unmarked(usize),
    /// No longer there.
    Gone,
}

impl World {
    /// Compares the CMDB of a profile, as it was just read, with the machines that hold its
    /// entries. The changes are to be applied like any others; no changes: nothing to do.
    pub fn reconcile(&self, profile: &Name, now: Seconds) -> Decision {
        let mut draft = Draft::new(self, now);
        if let Some(cmdb) = self.cmdb(profile) {
            let mut places = None;
            for record in self.holders_of(profile) {
                let Some((_, holding)) = record.bound_entry() else { continue };
                if cmdb.entry(holding.position).as_ref() == Some(&holding.after) {
                    continue;
                }
                let places = places.get_or_insert_with(|| places_of(cmdb));
                let found = find(cmdb, places, holding);
                settle(&mut draft, record, holding, found, profile);
            }
        }
        draft.finish(Answer::Done(format!("{profile}.cmdb was edited by hand")))
    }
}

/// Where each entry stands, by its content.
pub(super) fn places_of(cmdb: &Cmdb) -> BTreeMap<String, usize> {
    let entries: Vec<Entry> = cmdb.entries().collect();
    let contents = entries.iter().enumerate().rev();
    contents.map(|(position, entry)| (content(entry), position)).collect()
}

fn content(entry: &Entry) -> String {
    format!("{:?}", entry.fields)
}

pub(super) fn find(cmdb: &Cmdb, places: &BTreeMap<String, usize>, holding: &Holding) -> Found {
    if let Some(position) = places.get(&content(&holding.after)) {
        return Found::Same(*position);
    }
    let here = cmdb.entry(holding.position);
    let before = holding.before.variables();
    match here {
        Some(entry) if entry.agrees(&before) && !entry.is_used() => {
            Found::Unmarked(holding.position)
        }
        _ => match places.get(&content(&holding.before)) {
            Some(position) => Found::Unmarked(*position),
            None => match here {
                Some(entry) if resembles(&entry, holding) => Found::Edited(entry),
                _ => Found::Gone,
            },
        },
    }
}

/// Whether an entry that is marked used is still the one that was bound: most of its values.
fn resembles(entry: &Entry, holding: &Holding) -> bool {
    let same = holding
        .after
        .fields
        .iter()
        .filter(|field| entry.get(&field.key).is_some_and(|value| value.same_as(&field.value)));
    entry.is_used() && same.count() * 2 > holding.after.fields.len()
}

fn settle(draft: &mut Draft<'_>, record: &Record, holding: &Holding, found: Found, profile: &Name) {
    let now = draft.now;
    let name = record.display_name().to_owned();
    let mut record = record.clone();
    let Some(held) = record.assignment.as_mut().and_then(|it| it.entry.as_mut()) else { return };
    match found {
        Found::Same(position) => held.position = position,
        Found::Edited(entry) => {
            held.after = entry;
            record.note(now, format!("its entry of {profile}.cmdb was edited by hand"));
        }
        Found::Unmarked(_) if record.phase == Phase::Failed => {
            held.bound = false;
            record.note(now, format!("its entry of {profile}.cmdb was freed by hand"));
        }
        Found::Unmarked(position) => {
            held.position = position;
            draft.warnings.push(format!(
                "the mark `used` was removed from entry {} of {profile}.cmdb by hand, but {name} \
                 is {} with it and keeps it; to free it: `edeploy-server release {name}`",
                position + 1,
                record.phase,
            ));
            let profile = profile.clone();
            draft.push(Change::Entry {
                profile,
                position,
                entry: holding.after.clone(),
                text: None,
            });
        }
        Found::Gone => {
            held.bound = false;
            draft.warnings.push(format!(
                "the entry of {name} is no longer in {profile}.cmdb; it gets another one when it \
                 is installed again"
            ));
            record.note(now, format!("its entry of {profile}.cmdb was removed by hand"));
        }
    }
    draft.save(record);
}
