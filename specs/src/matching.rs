//! Whether a machine fits a spec, and which fact each line takes.
//!
//! A match gives every line a fact of its own such that all columns hold and every variable has
//! one value. The answer is fixed by the lists alone: of all such assignments, the first in list
//! order (compare the fact of the first line, then of the second, …). The search is complete and
//! works on the whole list at once (`search`); what it looks at first never shows in the answer.
//!
//! A [`Matcher`] prepares the facts of one machine once, for as many specs as there are. Why
//! nothing matched is found by `explain`, which is slower and only asked for when it is shown.

mod index;
mod problem;
mod search;

pub(crate) use problem::Problem;
pub(crate) use search::{Budget, Search};

use std::sync::Arc;

use crate::facts::Facts;
use crate::lang::Spec;
use crate::value::{Value, Variables};
use index::Index;

/// How much work one question may cost, in candidates looked at: about a tenth of a second, for
/// others wait meanwhile. Real lists take some thousands.
pub const BUDGET: u64 = 5_000_000;

/// The facts of one machine, prepared for matching.
#[derive(Debug)]
pub struct Matcher<'a> {
    facts: &'a Facts,
    index: Arc<Index>,
}

/// The same for one who asks in several places and cannot lend the facts to all of them.
#[derive(Debug)]
pub struct Prepared {
    facts: Facts,
    index: Arc<Index>,
}

impl Prepared {
    /// Prepares these facts.
    pub fn new(facts: Facts) -> Prepared {
        let index = Arc::new(Index::new(&facts));
        Prepared { facts, index }
    }

    /// A matcher, without preparing them again.
    pub fn matcher(&self) -> Matcher<'_> {
        Matcher { facts: &self.facts, index: Arc::clone(&self.index) }
    }
}

/// An assignment that satisfies every line.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// All variables, those of CMDB keys among them.
    pub variables: Variables,
    /// The variables that were written `$$` somewhere: the keys of the CMDB entry.
    pub cmdb_variables: Variables,
    /// For each line, the position of its fact.
    pub lines: Vec<usize>,
}

/// Why there is no match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoMatch {
    /// No assignment exists.
    #[error("the facts do not satisfy all lines")]
    Unsatisfied,
    /// The search was given up: it says nothing about whether an assignment exists.
    #[error("undecided after {BUDGET} steps; make some lines more specific, for example by names")]
    BudgetExhausted,
}

impl<'a> Matcher<'a> {
    /// Prepares these facts.
    pub fn new(facts: &'a Facts) -> Matcher<'a> {
        Matcher { facts, index: Arc::new(Index::new(facts)) }
    }

    /// The facts.
    pub fn facts(&self) -> &'a Facts {
        self.facts
    }

    /// The first assignment, in list order, that satisfies the spec.
    pub fn find(&self, spec: &Spec) -> Result<Match, NoMatch> {
        self.find_within(spec, BUDGET)
    }

    /// As [`Matcher::find`], with a budget of so many steps.
    pub fn find_within(&self, spec: &Spec, budget: u64) -> Result<Match, NoMatch> {
        let problem = Problem::new(self, spec).ok_or(NoMatch::Unsatisfied)?;
        let lines: Vec<usize> = (0..spec.lines.len()).collect();
        let facts = Search::new(&problem, lines, Budget::new(budget)).first()?;
        Ok(self.matched(spec, facts))
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// The match in which each line takes this fact; lines after the last fact are left out.
    pub(crate) fn matched(&self, spec: &Spec, lines: Vec<usize>) -> Match {
        let mut variables = Variables::new();
        let mut cmdb_variables = Variables::new();
        for (line, &fact) in spec.lines.iter().zip(&lines) {
            for (position, column) in line.columns.iter().enumerate() {
                let Some(variable) = &column.variable else { continue };
                variables
                    .entry(variable.name.clone())
                    .or_insert_with(|| self.value(fact, position));
            }
        }
        for (name, _) in spec.variables().into_iter().filter(|(_, cmdb)| *cmdb) {
            if let Some(value) = variables.get(name) {
                cmdb_variables.insert(name.to_owned(), value.clone());
            }
        }
        Match { variables, cmdb_variables, lines }
    }

    /// A column of a fact, with its type.
    pub(crate) fn value(&self, fact: usize, column: usize) -> Value {
        let fact = &self.facts.0[fact];
        match column {
            0 => Value::from(fact.0.as_str()),
            1 => Value::from(fact.1.as_str()),
            2 => Value::from(fact.2.as_str()),
            _ => fact.3.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
