//! Someone edited a CMDB by hand: what that means for the machines that hold its entries.
//!
//! The record rules. An entry that moved is followed. An entry whose mark `used` was removed
//! goes free when its machine has failed; any other machine keeps it, the mark is written
//! again, and the operator is told that `release` is the way. An entry whose values were
//! changed keeps the change.

use super::draft::Draft;
use super::entries::Places;
use super::{Answer, Decision, World};
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
            let holds = |record: &Record| -> bool {
                let holding = record.bound_entry().map(|(_, holding)| holding);
                holding.is_some_and(|it| cmdb.entry(it.position).as_ref() == Some(&it.after))
            };
            // Nearly all are where they were, and unpacked they are large: twice one by one.
            let astray: Vec<Record> =
                self.holders_of(profile).filter(|record| !holds(record)).collect();
            if !astray.is_empty() {
                let mut places = Places::of(cmdb);
                for record in self.holders_of(profile).filter(holds) {
                    if let Some((_, holding)) = record.bound_entry() {
                        places.claim(&holding.after.digest(), holding.position);
                    }
                }
                for record in &astray {
                    let Some((_, holding)) = record.bound_entry() else { continue };
                    let found = find(cmdb, &mut places, holding);
                    settle(&mut draft, record, holding, found, profile);
                }
            }
        }
        draft.finish(Answer::Done(format!("{profile}.cmdb was edited by hand")))
    }

    /// The machines that hold entries of this profile.
    pub(super) fn holders_of<'a>(&'a self, profile: &'a Name) -> impl Iterator<Item = Record> + 'a {
        let holds =
            move |record: &Record| record.bound_entry().is_some_and(|(held, _)| held == profile);
        self.census.records().filter(holds)
    }
}

/// Finds the entry of a machine, which nobody else finds from then on.
pub(super) fn find(cmdb: &Cmdb, places: &mut Places, holding: &Holding) -> Found {
    let mut claim = |entry: &Entry| {
        let digest = entry.digest();
        let position = places.nearest(&digest, holding.position)?;
        places.claim(&digest, position);
        Some(position)
    };
    if let Some(position) = claim(&holding.after) {
        return Found::Same(position);
    }
    let here = cmdb.entry(holding.position);
    let before = holding.before.variables();
    match here {
        Some(entry) if entry.agrees(&before) && !entry.is_used() => {
            places.claim(&entry.digest(), holding.position);
            Found::Unmarked(holding.position)
        }
        _ => match claim(&holding.before) {
            Some(position) => Found::Unmarked(position),
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
            draft.set_entry(profile, position, holding.after.clone(), None);
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
