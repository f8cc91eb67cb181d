//! A spec against the facts as tables: per line the facts that it may take, and the values that
//! its variables would have.

use std::collections::BTreeMap;

use super::Matcher;
use super::index::TextId;
use crate::lang::{Line, Spec};

/// The tables of all lines.
#[derive(Debug, Clone)]
pub(crate) struct Problem<'a> {
    matcher: &'a Matcher<'a>,
    variables: BTreeMap<String, usize>,
    pub(super) lines: Vec<Table>,
}

/// The table of one line.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    /// The facts it may take, in order.
    pub(super) facts: Vec<u32>,
    /// Its variables, and for each fact the value it would have.
    pub(super) variables: Vec<(usize, Vec<TextId>)>,
}

impl<'a> Problem<'a> {
    /// The tables of a spec; `None` as soon as a line has no fact at all.
    pub(crate) fn new(matcher: &'a Matcher<'a>, spec: &Spec) -> Option<Problem<'a>> {
        // Most profiles of a fleet fail here, before any table is made, and most of those because
        // of a name that this machine does not have.
        let index = matcher.index();
        if !spec.lines.iter().all(|line| index.knows_texts_of(line)) {
            return None;
        }
        let possible = spec.lines.iter().all(|line| index.candidates(line).next().is_some());
        possible.then(|| Problem::complete(matcher, spec))
    }

    /// The tables of a spec, those without facts as well.
    pub(crate) fn complete(matcher: &'a Matcher<'a>, spec: &Spec) -> Problem<'a> {
        let mut problem = Problem::empty(matcher);
        for line in &spec.lines {
            let table = problem.table(line);
            problem.lines.push(table);
        }
        problem
    }

    fn empty(matcher: &'a Matcher<'a>) -> Problem<'a> {
        Problem { matcher, variables: BTreeMap::new(), lines: Vec::new() }
    }

    /// The same problem with another line in the place of one.
    pub(crate) fn with_line(&self, position: usize, line: &Line) -> Problem<'a> {
        let mut changed = self.clone();
        changed.lines[position] = changed.table(line);
        changed
    }

    /// Whether a line has a fact for itself.
    pub(crate) fn has_candidates(&self, position: usize) -> bool {
        !self.lines[position].facts.is_empty()
    }

    fn table(&mut self, line: &Line) -> Table {
        let index = self.matcher.index();
        let facts: Vec<u32> = index.candidates(line).collect();
        let mut variables: Vec<(usize, Vec<TextId>)> = Vec::new();
        for (position, column) in line.columns.iter().enumerate() {
            let Some(variable) = &column.variable else { continue };
            let fresh = self.variables.len();
            let number = match self.variables.get(&variable.name) {
                Some(&number) => number,
                None => *self.variables.entry(variable.name.clone()).or_insert(fresh),
            };
            if variables.iter().any(|(known, _)| *known == number) {
                continue;
            }
            let values = facts.iter().map(|&fact| index.id(fact, position)).collect();
            variables.push((number, values));
        }
        Table { facts, variables }
    }

    pub(super) fn variable_count(&self) -> usize {
        self.variables.len()
    }

    pub(super) fn fact_count(&self) -> usize {
        self.matcher.facts().0.len()
    }

    pub(super) fn text_count(&self) -> usize {
        self.matcher.index().texts()
    }
}
