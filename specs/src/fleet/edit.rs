//! An admin edits a file while the server goes on rewriting it: both are kept, or neither is lost.
//!
//! Three texts: what the editor was opened with, what is there now, and what the admin made of
//! it. What the server did between the first two are marks of CMDB entries and counts of `state`,
//! the same that the journal holds as [`Change`]; they are made true in the admin's text. Anything
//! else was somebody else's edit, and such a one is never merged.

use std::collections::BTreeSet;

use super::{Change, File, World};
use crate::cmdb::{Cmdb, Entry};
use crate::diagnostic::Diagnostic;
use crate::state::{Count, State};
use crate::units::Name;

/// Why an edit does not go together with what became of the file meanwhile.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Conflict {
    /// Not only the server has changed the file.
    #[error("someone else has edited {0} meanwhile")]
    Edited(String),
    /// An entry that the server changed is not in the edited file as it was.
    #[error("the server has changed entry {number} of {file} meanwhile, and the edit does as well")]
    Entry {
        /// The CMDB.
        file: String,
        /// Where the entry stood when the editor was opened, from 1.
        number: usize,
    },
    /// A count that the server changed belongs to a profile that was taken out.
    #[error(
        "the count of {profile} went from {before} to {now} meanwhile, and the edit removes it"
    )]
    Count {
        /// The profile.
        profile: Name,
        /// When the editor was opened.
        before: Count,
        /// Now.
        now: Count,
    },
    /// One of the texts cannot be understood.
    #[error("{0}")]
    Unreadable(String),
}

impl From<Vec<Diagnostic>> for Conflict {
    fn from(findings: Vec<Diagnostic>) -> Conflict {
        Conflict::Unreadable(findings.first().map(Diagnostic::one_line).unwrap_or_default())
    }
}

/// What the file has to say: `edited`, which was made of `base`, with what the server has made
/// of `base` meanwhile, which is `present`.
///
/// # Errors
///
/// The two touch the same entry, or someone else has edited the file.
pub fn merge(file: &File, base: &str, present: &str, edited: &str) -> Result<String, Conflict> {
    if present == base || present == edited {
        return Ok(edited.to_owned());
    }
    match file {
        File::State => merge_state(base, present, edited),
        File::Cmdb(profile) => merge_cmdb(file, profile, base, present, edited),
        // The server never writes these.
        File::Specs(_) | File::Configure(_) | File::Script(_) => {
            Err(Conflict::Edited(file.to_string()))
        }
    }
}

fn merge_state(base: &str, present: &str, edited: &str) -> Result<String, Conflict> {
    let name = File::State.to_string();
    let mut before = State::parse(&name, base)?;
    let now = State::parse(&name, present)?;
    let mut merged = State::parse(&name, edited)?;
    let counts: Vec<(Name, Count)> =
        before.profiles().map(|(profile, count)| (profile.clone(), count)).collect();
    for (profile, count) in counts {
        let (Count::Left(then), Some(Count::Left(left))) = (count, now.count(&profile)) else {
            continue;
        };
        let by = left.saturating_sub(then);
        if by == 0 {
            continue;
        }
        if merged.count(&profile).is_none() {
            let now = Count::Left(left);
            return Err(Conflict::Count { profile, before: count, now });
        }
        before.add(&profile, by);
        merged.add(&profile, by);
    }
    if before.to_text() == present { Ok(merged.to_text()) } else { Err(Conflict::Edited(name)) }
}

fn merge_cmdb(
    file: &File,
    profile: &Name,
    base: &str,
    present: &str,
    edited: &str,
) -> Result<String, Conflict> {
    let name = file.to_string();
    let parse = |text: &str| Cmdb::parse(&name, text, &Default::default());
    let (mut before, now) = (parse(base)?, parse(present)?);
    let mut changes = Vec::new();
    for position in 0..before.len().min(now.len()) {
        let (Some(old), Some(new)) = (before.entry(position), now.entry(position)) else {
            continue;
        };
        let text = now.entry_text(position);
        if old == new && before.entry_text(position) == text {
            continue;
        }
        before.set(position, new.clone(), text.as_deref());
        changes.push(Change::Entry {
            profile: profile.clone(),
            position,
            replaces: old.digest(),
            entry: new,
            text,
        });
    }
    if before.to_text() != present {
        return Err(Conflict::Edited(name));
    }
    let mut world = World::default();
    world.read(file, Some(edited.as_bytes()))?;
    if world.reapply(profile, &changes).is_empty() {
        return Ok(world.text(file).unwrap_or_default());
    }
    let merged = world.cmdb(profile).into_iter().flat_map(Cmdb::entries);
    let merged: BTreeSet<String> = merged.map(|entry| entry.digest()).collect();
    let lost = changes.iter().find_map(|change| match change {
        Change::Entry { position, entry, .. } if !merged.contains(&entry.digest()) => {
            Some(position + 1)
        }
        _ => None,
    });
    Err(Conflict::Entry { file: name, number: lost.unwrap_or_default() })
}

/// What an edit changed, a line each, without any value: what is secret is not known here.
pub fn differences(file: &File, before: &str, after: &str) -> Vec<String> {
    let name = file.to_string();
    let texts = match file {
        File::State => State::parse(&name, before)
            .and_then(|before| Ok(differences_of_state(&before, &State::parse(&name, after)?))),
        File::Cmdb(_) => {
            let parse = |text: &str| Cmdb::parse(&name, text, &Default::default());
            parse(before).and_then(|before| Ok(differences_of_cmdb(&before, &parse(after)?)))
        }
        File::Specs(_) | File::Configure(_) | File::Script(_) => Ok(Vec::new()),
    };
    let mut lines = texts.unwrap_or_default();
    if lines.is_empty() && before != after {
        lines.push(differing_lines(before, after));
    }
    lines
}

fn differences_of_state(before: &State, after: &State) -> Vec<String> {
    let mut lines = Vec::new();
    for (profile, count) in after.profiles() {
        match before.count(profile) {
            None => lines.push(format!("{profile} is new, with count {count}")),
            Some(earlier) if earlier != count => {
                lines.push(format!("the count of {profile} goes from {earlier} to {count}"));
            }
            Some(_) => {}
        }
    }
    let gone = before.profiles().filter(|(profile, _)| after.count(profile).is_none());
    lines.extend(gone.map(|(profile, count)| format!("{profile}, with count {count}, is gone")));
    let order = |state: &State, other: &State| -> Vec<Name> {
        let both = state.profiles().filter(|(profile, _)| other.count(profile).is_some());
        both.map(|(profile, _)| profile.clone()).collect()
    };
    if order(before, after) != order(after, before) {
        lines.push("profiles are tried in another order".to_owned());
    }
    lines
}

/// Entries are known by what they say, as everywhere: one that was edited is one gone and one new.
fn differences_of_cmdb(before: &Cmdb, after: &Cmdb) -> Vec<String> {
    let digests = |cmdb: &Cmdb| {
        let mut digests: Vec<String> = cmdb.entries().map(|entry| Entry::digest(&entry)).collect();
        digests.sort_unstable();
        digests
    };
    let (old, new) = (digests(before), digests(after));
    let (mut gone, mut added) = (0, 0);
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (Some(one), Some(other)) if one == other => drop((left.next(), right.next())),
            (Some(one), Some(other)) if one < other => {
                left.next();
                gone += 1;
            }
            (_, Some(_)) => {
                right.next();
                added += 1;
            }
            (Some(_), None) => {
                left.next();
                gone += 1;
            }
            (None, None) => break,
        }
    }
    let changed = gone.min(added);
    let counted = |count: usize, what: &str| {
        let noun = if count == 1 { "entry" } else { "entries" };
        (count > 0).then(|| format!("{count} {noun} {what}"))
    };
    let lines = [
        counted(changed, "changed"),
        counted(added - changed, "added"),
        counted(gone - changed, "removed"),
    ];
    lines.into_iter().flatten().collect()
}

/// The lines between what the two texts have alike at their beginnings and ends.
fn differing_lines(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let alike = old.iter().zip(&new).take_while(|(one, other)| one == other).count();
    let rest = old[alike..].iter().rev().zip(new[alike..].iter().rev());
    let tail = rest.take_while(|(one, other)| one == other).count();
    let counted = |count: usize| format!("{count} line{}", if count == 1 { "" } else { "s" });
    let (gone, added) = (old.len() - alike - tail, new.len() - alike - tail);
    format!("from line {} on, {} instead of {}", alike + 1, counted(added), counted(gone))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cmdb() -> File {
        File::Cmdb("vm".parse().unwrap())
    }

    #[track_caller]
    fn check(file: &File, [base, present, edited]: [&str; 3], expected: Result<&str, &str>) {
        let merged = merge(file, base, present, edited).map_err(|conflict| conflict.to_string());
        assert_eq!(merged.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn counts_of_both_add_up() {
        let base = "[(\"vm\", 4), (\"hp\", \"*\")]";
        for (present, edited, expected) in [
            (base, "[(\"vm\", 9)]", Ok("[(\"vm\", 9)]")),
            ("[(\"vm\", 3), (\"hp\", \"*\")]", "[(\"vm\", 9)] # more", Ok("[(\"vm\", 8)] # more")),
            ("[(\"vm\", 3), (\"hp\", \"*\")]", "[(\"vm\", \"*\")]", Ok("[(\"vm\", \"*\")]")),
            (
                "[(\"vm\", 3), (\"hp\", \"*\")]",
                "[(\"hp\", 1)]",
                Err("the count of vm went from 4 to 3 meanwhile, and the edit removes it"),
            ),
            (
                "[(\"vm\", 3), (\"hp\", 7)]",
                "[(\"vm\", 9)]",
                Err("someone else has edited state meanwhile"),
            ),
            (
                "[(\"vm\", 3), # three\n(\"hp\", \"*\")]",
                "[(\"vm\", 9)]",
                Err("someone else has edited state meanwhile"),
            ),
        ] {
            check(&File::State, [base, present, edited], expected);
        }
    }

    #[test]
    fn marks_go_to_the_entries_wherever_they_stand() {
        let base = "[\n {'ip': '1'},\n {'ip': '2'},\n]\n";
        let marked = "[\n {'ip': '1', 'used': 1},\n {'ip': '2'},\n]\n";
        for (present, edited, expected) in [
            (
                marked,
                "[\n {'ip': '0'}, # new\n {'ip': '1'},\n {'ip': '3'},\n]\n",
                Ok("[\n {'ip': '0'}, # new\n {'ip': '1', 'used': 1},\n {'ip': '3'},\n]\n"),
            ),
            // What the server writes is not always what stood there, even if it says the same.
            (
                "[\n {\"ip\": '1'},\n {'ip': '2'},\n]\n",
                "[\n {'ip': '1'},\n {'ip': '3'},\n]\n",
                Ok("[\n {\"ip\": '1'},\n {'ip': '3'},\n]\n"),
            ),
            (
                "[\n {'ip': '1', 'used': 1},\n {'ip': '2', 'used': 1},\n]\n",
                "[{'ip': '1'}, {'ip': '7'}]",
                Err(
                    "the server has changed entry 2 of vm.cmdb meanwhile, and the edit does as well",
                ),
            ),
            (
                marked,
                "[{'ip': '7'}, {'ip': '2'}]",
                Err(
                    "the server has changed entry 1 of vm.cmdb meanwhile, and the edit does as well",
                ),
            ),
            (
                "[\n {'ip': '1'},\n]\n",
                "[{'ip': '7'}, {'ip': '2'}]",
                Err("someone else has edited vm.cmdb meanwhile"),
            ),
        ] {
            check(&cmdb(), [base, present, edited], expected);
        }
    }

    #[test]
    fn a_template_that_became_a_list_may_be_made_longer() {
        let base = "generate({'ip': '10.0.0.1-2'})\n";
        let mut server = Cmdb::parse("vm.cmdb", base, &Default::default()).unwrap();
        let mut first = server.entry(0).unwrap();
        first.fields.extend(Entry::default().bound_to(&Default::default()).fields);
        server.set(0, first, None);
        let merged = merge(&cmdb(), base, &server.to_text(), "generate({'ip': '10.0.0.1-3'})\n");
        let merged = Cmdb::parse("vm.cmdb", &merged.unwrap(), &Default::default()).unwrap();
        let used: Vec<bool> = merged.entries().map(|entry| entry.is_used()).collect();
        assert_eq!(used, [true, false, false]);
    }

    #[test]
    fn what_only_people_write_is_not_merged() {
        let specs = File::Specs("vm".parse().unwrap());
        check(&specs, ["a", "b", "c"], Err("someone else has edited vm.specs meanwhile"));
        check(&specs, ["a", "b", "b"], Ok("b"));
    }

    #[test]
    fn differences_are_told_without_values() {
        for (file, before, after, expected) in [
            (
                File::State,
                "[('vm', 4), ('a', 1), ('b', 1)]",
                "[('b', 1), ('vm', 6), ('hp', '*')]",
                "the count of vm goes from 4 to 6; hp is new, with count *; a, with count 1, is \
                 gone; profiles are tried in another order",
            ),
            (
                cmdb(),
                "[{'ip': '1'}, {'ip': '2'}]",
                "[{'ip': '3'}, {'ip': '2'}, {'ip': '4'}]",
                "1 entry changed; 1 entry added",
            ),
            (
                cmdb(),
                "[{'ip': '1'}]",
                "[{'ip': '1'}] # one",
                "from line 1 on, 1 line instead of 1 line",
            ),
            (
                File::Script("a.sh".into()),
                "a\nb\nc\n",
                "a\nx\ny\nc\n",
                "from line 2 on, 2 lines instead of 1 line",
            ),
        ] {
            assert_eq!(differences(&file, before, after).join("; "), expected);
        }
        // Wherever the one that stays comes among the others.
        let entry = |number: usize| format!("{{'ip': '{number}'}}");
        let all = format!("[{}]", (1..=6).map(entry).collect::<Vec<_>>().join(", "));
        for kept in (1..=6).map(|number| format!("[{}]", entry(number))) {
            assert_eq!(differences(&cmdb(), &all, &kept), ["5 entries removed"], "{kept}");
            assert_eq!(differences(&cmdb(), &kept, &all), ["5 entries added"], "{kept}");
        }
    }
}
