//! Someone edited a CMDB by hand: what that means for the machines that hold its entries.
//!
//! The record rules. An entry that moved is followed. An entry whose mark `used` was removed
//! goes free when its machine has failed; any other machine keeps it, the mark is written
//! again, and the operator is told that `release` is the way. An entry whose values were
//! changed keeps the change.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::Draft;
use super::{Answer, Change, Decision, World};
use crate::cmdb::{Cmdb, Entry};
use crate::diagnostic::{Code, Diagnostic};
use crate::machine::{Holding, Phase, Record, Seconds};
use crate::units::Name;

/// Where an entry is after the edit.
enum Found {
    /// Untouched, at this position.
    Same(usize),
    /// Marked used still, at the same position, with other values.
    Edited(Entry),
    /// At this position, without the mark.
    Unmarked(usize),
    /// No longer there.
    Gone,
}

/// More findings about one file say nothing more.
const MOST: usize = 10;

impl World {
    /// Where the marks `used` of a CMDB, as its file stands, disagree with the machines on
    /// record: what [`World::reconcile`] would settle, and entries that nobody holds and nobody
    /// will get.
    pub fn check_marks(&self, profile: &Name) -> Vec<Diagnostic> {
        let Some(cmdb) = self.cmdb(profile) else { return Vec::new() };
        let mut held = BTreeSet::new();
        let mut findings = Vec::new();
        let mut places = None;
        for record in self.holders_of(profile) {
            let Some((_, holding)) = record.bound_entry() else { continue };
            if cmdb.entry(holding.position).as_ref() == Some(&holding.after) {
                held.insert(holding.position);
                continue;
            }
            let places = places.get_or_insert_with(|| places_of(cmdb));
            let found = find(cmdb, places, holding);
            let name = record.display_name();
            match found {
                Found::Same(position) => drop(held.insert(position)),
                Found::Edited(_) => drop(held.insert(holding.position)),
                Found::Unmarked(position) => {
                    let message = format!(
                        "the mark `used` was removed by hand, and {name} is {} with this entry",
                        record.phase
                    );
                    let help = match record.phase {
                        Phase::Failed => format!("it goes free, and {name} may get another one"),
                        _ => format!(
                            "{name} keeps it and the mark comes back; to free it: \
                             `edeploy-server release {name}`"
                        ),
                    };
                    let finding = cmdb.warning(Code::CheckUsed, position, message);
                    findings.push((position, finding.with_help(help)));
                }
                Found::Gone => {
                    let position = holding.position.min(cmdb.len().saturating_sub(1));
                    let message =
                        format!("the entry of {name}, which is {}, is gone", record.phase);
                    let finding = cmdb.warning(Code::CheckUsed, position, message);
                    let help = format!("put it back, or `edeploy-server release {name}`");
                    findings.push((position, finding.with_help(help)));
                }
            }
        }
        for (position, entry) in cmdb.entries().enumerate() {
            if entry.is_used() && !held.contains(&position) {
                let message = "it carries the mark `used`, and no machine on record holds it";
                let finding = cmdb.warning(Code::CheckUsed, position, message.to_owned());
                let help = "remove the mark if it is free; a machine that the entry names by MAC, \
                            serial or UUID gets it as it is";
                findings.push((position, finding.with_help(help)));
            }
        }
        findings.sort_by_key(|(position, _)| *position);
        findings.into_iter().take(MOST).map(|(_, finding)| finding).collect()
    }

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
fn places_of(cmdb: &Cmdb) -> BTreeMap<String, usize> {
    let entries: Vec<Entry> = cmdb.entries().collect();
    let contents = entries.iter().enumerate().rev();
    contents.map(|(position, entry)| (content(entry), position)).collect()
}

fn content(entry: &Entry) -> String {
    format!("{:?}", entry.fields)
}

fn find(cmdb: &Cmdb, places: &BTreeMap<String, usize>, holding: &Holding) -> Found {
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
