//! What each function says of one value.

use std::cmp::Ordering;
use std::net::IpAddr;

use ipnet::IpNet;
use regex::Regex;

use super::quantity::{Quantity, Unit};

/// A function with its arguments.
#[derive(Debug, Clone)]
pub enum Function {
    /// `in(a, b)`: one of these texts.
    In(Vec<String>),
    /// `gt(n)`, `ge(n)`, `lt(n)`, `le(n)`.
    Compare(Comparison, Quantity),
    /// `range(a, b)`: both ends included.
    Range(Quantity, Quantity),
    /// `network(a, b)`: an address in one of these networks.
    Network(Vec<IpNet>),
    /// `regexp(r)`: found anywhere in the text.
    Regexp(Regex),
    /// `not(f)`
    Not(Box<Function>),
    /// `and(f, g)`
    And(Vec<Function>),
    /// `or(f, g)`
    Or(Vec<Function>),
}

/// The four comparisons with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `gt`
    Greater,
    /// `ge`
    AtLeast,
    /// `lt`
    Less,
    /// `le`
    AtMost,
}

/// What a function says of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    Yes,
    /// It does not.
    No,
    /// The question makes no sense (`gt(4)` of `N/A`): no match, and `not` does not make it one.
    NotApplicable,
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Truth {
        if holds { Truth::Yes } else { Truth::No }
    }
}

impl Function {
    /// What the function says of this text of a fact; `unit` is the one such facts are in.
    pub fn of(&self, text: &str, unit: Option<Unit>) -> Truth {
        match self {
            Function::In(items) => items.iter().any(|item| item == text).into(),
            Function::Compare(comparison, argument) => match argument.compare_fact(text, unit) {
                Some(order) => comparison.holds(order).into(),
                None => Truth::NotApplicable,
            },
            Function::Range(low, high) => {
                match (low.compare_fact(text, unit), high.compare_fact(text, unit)) {
                    (Some(low), Some(high)) => (low.is_ge() && high.is_le()).into(),
                    _ => Truth::NotApplicable,
                }
            }
            Function::Network(networks) => match text.trim().parse::<IpAddr>() {
                Ok(address) => networks.iter().any(|network| network.contains(&address)).into(),
                Err(_) => Truth::NotApplicable,
            },
            Function::Regexp(regex) => regex.is_match(text).into(),
            Function::Not(inner) => match inner.of(text, unit) {
                Truth::Yes => Truth::No,
                Truth::No => Truth::Yes,
                Truth::NotApplicable => Truth::NotApplicable,
            },
            Function::And(parts) => first_of(parts, Truth::No, Truth::Yes, text, unit),
            Function::Or(parts) => first_of(parts, Truth::Yes, Truth::No, text, unit),
        }
    }

    /// Why the function does not apply to a text, when it does not.
    pub fn why_not_applicable(&self, text: &str, unit: Option<Unit>) -> Option<String> {
        if self.of(text, unit) != Truth::NotApplicable {
            return None;
        }
        match self {
            Function::Compare(_, argument) | Function::Range(argument, _) => {
                Some(match (Quantity::parse(text), argument.unit) {
                    (Some(_), Some(wanted)) => {
                        format!("`{text}` is not known to be in {} or the like", wanted.name)
                    }
                    _ => format!("`{text}` is not a number"),
                })
            }
            Function::Network(_) => Some(format!("`{text}` is not an address")),
            Function::Not(inner) => inner.why_not_applicable(text, unit),
            Function::And(parts) | Function::Or(parts) => {
                parts.iter().find_map(|part| part.why_not_applicable(text, unit))
            }
            Function::In(_) | Function::Regexp(_) => None,
        }
    }
}

/// `decisive` as soon as one part says so; else not applicable if one is; else `otherwise`.
fn first_of(
    parts: &[Function],
    decisive: Truth,
    otherwise: Truth,
    text: &str,
    unit: Option<Unit>,
) -> Truth {
    let mut answer = otherwise;
    for part in parts {
        match part.of(text, unit) {
            truth if truth == decisive => return decisive,
            Truth::NotApplicable => answer = Truth::NotApplicable,
            _ => {}
        }
    }
    answer
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Greater => order.is_gt(),
            Comparison::AtLeast => order.is_ge(),
            Comparison::Less => order.is_lt(),
            Comparison::AtMost => order.is_le(),
        }
    }
}
