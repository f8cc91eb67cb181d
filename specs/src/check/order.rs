//! Profiles against each other, and lines that no fact can satisfy.
//!
//! Containment of spec lists is decided where it is plain: every line of the more general list
//! stands, with its variables renamed, in the more special one. Where that is not so, nothing is
//! said.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::Profile;
use crate::catalog::File;
use crate::diagnostic::{Code, Diagnostic};
use crate::lang::{Column, Comparison, Function, Line, Quantity, Spec, Test};
use crate::literal::Document;
use crate::state::Count;

pub(super) fn check(profiles: &[Profile<'_>], state: &Document, findings: &mut Vec<Diagnostic>) {
    for (position, later) in profiles.iter().enumerate() {
        let Some(special) = &later.spec else { continue };
        never_matching(later, special, findings);
        let shadow = profiles[..position].iter().find(|earlier| {
            earlier.spec.as_ref().is_some_and(|general| contains(general, special))
        });
        let Some(earlier) = shadow else { continue };
        let unlimited = earlier.count == Count::Unlimited
            && earlier.cmdb.as_ref().is_none_or(crate::cmdb::Cmdb::is_empty);
        let (first, name) = (&earlier.name, &later.name);
        let equal = earlier.spec.as_ref().is_some_and(|general| contains(special, general));
        if unlimited {
            let message = format!("no machine ever gets {name}: {first} takes all that would fit");
            let finding = state.warning(Code::CheckUnreachable, later.span, message);
            findings.push(finding.with_help(format!("put {name} before {first}")));
        } else if !equal {
            let message = format!(
                "machines that fit {name} fit {first} as well, which comes first: {name} gets \
                 them when {first} has none left"
            );
            let finding = state.warning(Code::CheckOrder, later.span, message);
            findings
                .push(finding.with_help(format!("put {name}, which asks more, before {first}")));
        }
    }
}

/// Lines whose condition is a contradiction.
fn never_matching(profile: &Profile<'_>, spec: &Spec, findings: &mut Vec<Diagnostic>) {
    let file = File::Specs(profile.name.clone()).to_string();
    for column in spec.lines.iter().flat_map(|line| &line.columns) {
        if let Some(Test::Function(function)) = &column.test
            && is_never(function)
        {
            let text = &profile.texts[&file];
            let message = "no value satisfies this: the line never matches";
            let finding = Diagnostic::error(Code::CheckNever, &file, text, column.span, message);
            findings
                .push(finding.with_help("look at the limits: each must leave room for the other"));
        }
    }
}

/// Whether a function is false for every number.
fn is_never(function: &Function) -> bool {
    match function {
        Function::And(parts) => parts.iter().any(is_never) || limits_cross(parts),
        Function::Or(parts) => !parts.is_empty() && parts.iter().all(is_never),
        Function::Range(low, high) => compare(low, high) == Some(Ordering::Greater),
        _ => false,
    }
}

fn compare(one: &Quantity, other: &Quantity) -> Option<Ordering> {
    if one.unit == other.unit { one.number.partial_cmp(&other.number) } else { None }
}

/// Whether a lower limit among these lies above an upper one.
fn limits_cross(parts: &[Function]) -> bool {
    let mut lower: Vec<(&Quantity, bool)> = Vec::new();
    let mut upper: Vec<(&Quantity, bool)> = Vec::new();
    for part in parts {
        match part {
            Function::Compare(Comparison::Greater, limit) => lower.push((limit, false)),
            Function::Compare(Comparison::AtLeast, limit) => lower.push((limit, true)),
            Function::Compare(Comparison::Less, limit) => upper.push((limit, false)),
            Function::Compare(Comparison::AtMost, limit) => upper.push((limit, true)),
            Function::Range(low, high) => {
                lower.push((low, true));
                upper.push((high, true));
            }
            _ => {}
        }
    }
    lower.iter().any(|(low, low_included)| {
        upper.iter().any(|(high, high_included)| match compare(low, high) {
            Some(Ordering::Greater) => true,
            Some(Ordering::Equal) => !(*low_included && *high_included),
            _ => false,
        })
    })
}

/// Whether every machine that fits `special` plainly fits `general`.
fn contains(general: &Spec, special: &Spec) -> bool {
    let mut taken = vec![false; special.lines.len()];
    let mut names = BTreeMap::new();
    general.lines.iter().all(|line| {
        let found = special.lines.iter().enumerate().find_map(|(position, other)| {
            if taken[position] {
                return None;
            }
            let mut names = names.clone();
            same_line(line, other, &mut names).then_some((position, names))
        });
        match found {
            Some((position, renamed)) => {
                taken[position] = true;
                names = renamed;
                true
            }
            None => false,
        }
    })
}

/// Whether the lines are the same once the variables of the first are renamed.
fn same_line<'a>(one: &'a Line, other: &'a Line, names: &mut BTreeMap<&'a str, &'a str>) -> bool {
    one.columns.iter().zip(&other.columns).all(|(one, other)| {
        let same_test = match (test_text(one), test_text(other)) {
            (Some(one), Some(other)) => one == other,
            // A condition that the general line does not make.
            (None, _) => true,
            (Some(_), None) => false,
        };
        same_test
            && match (&one.variable, &other.variable) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(one), Some(other)) => {
                    *names.entry(&one.name).or_insert(&other.name) == other.name
                        && one.cmdb == other.cmdb
                }
            }
    })
}

/// The condition of a column as it is written, without its variable.
fn test_text(column: &Column) -> Option<String> {
    column.test.as_ref()?;
    let text = column.source.as_text();
    match &column.variable {
        Some(_) => text.split_once('=').map(|(_, test)| test.trim().to_owned()),
        None => Some(text),
    }
}
