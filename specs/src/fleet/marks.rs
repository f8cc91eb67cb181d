//! Where the marks `used` of a CMDB disagree with the machines on record, for `check`.
//!
//! [`super::reconcile`] settles such a thing as soon as the server reads the file; here it is only
//! told, with its place, before anything is changed.

use std::collections::BTreeSet;

use super::World;
use super::entries::Places;
use super::reconcile::{Found, find};
use crate::diagnostic::{Code, Diagnostic};
use crate::machine::Phase;
use crate::units::Name;

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
            let places = places.get_or_insert_with(|| Places::of(cmdb));
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
                    findings.push((position, message, help));
                }
                Found::Gone => {
                    let position = holding.position.min(cmdb.len().saturating_sub(1));
                    let message =
                        format!("the entry of {name}, which is {}, is gone", record.phase);
                    let help = format!("put it back, or `edeploy-server release {name}`");
                    findings.push((position, message, help));
                }
            }
        }
        for (position, entry) in cmdb.entries().enumerate() {
            if entry.is_used() && !held.contains(&position) {
                let message = "it carries the mark `used`, and no machine on record holds it";
                let help = "remove the mark if it is free; a machine that the entry names by MAC, \
                            serial or UUID gets it as it is";
                findings.push((position, message.to_owned(), help.to_owned()));
            }
        }
        findings.sort_by_key(|(position, ..)| *position);
        let shown = findings.into_iter().take(MOST);
        let finding = |(position, message, help): (usize, String, String)| {
            cmdb.warning(Code::CheckUsed, position, message).with_help(help)
        };
        shown.map(finding).collect()
    }
}
