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
    variables: BTreeMap<&'a str, usize>,
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
    pub(crate) fn new(matcher: &'a Matcher<'a>, spec: &'a Spec) -> Option<Problem<'a>> {
        let mut problem = Problem::empty(matcher);
        for line in &spec.lines {
            problem.push(line);
            if problem.lines.last().is_some_and(|table| table.facts.is_empty()) {
                return None;
            }
        }
        Some(problem)
    }

    /// The tables of a spec, those without facts as well.
    pub(crate) fn complete(matcher: &'a Matcher<'a>, spec: &'a Spec) -> Problem<'a> {
        let mut problem = Problem::empty(matcher);
        for line in &spec.lines {
            problem.push(line);
        }
        problem
    }

    fn empty(matcher: &'a Matcher<'a>) -> Problem<'a> {
        Problem { matcher, variables: BTreeMap::new(), lines: Vec::new() }
    }

    fn push(&mut self, line: &'a Line) {
        let table = self.table(line, [false; 4]);
        self.lines.push(table);
    }

    /// The same problem, in which some columns of one line may be anything.
    pub(crate) fn relaxed(&self, spec: &'a Spec, line: usize, ignored: [bool; 4]) -> Problem<'a> {
        let mut relaxed = self.clone();
        relaxed.lines[line] = relaxed.table(&spec.lines[line], ignored);
        relaxed
    }

    fn table(&mut self, line: &'a Line, ignored: [bool; 4]) -> Table {
        let index = self.matcher.index();
        let facts = index.candidates(line, ignored);
        let mut variables: Vec<(usize, Vec<TextId>)> = Vec::new();
        for (position, column) in line.columns.iter().enumerate() {
            let Some(variable) = &column.variable else { continue };
            let fresh = self.variables.len();
            let number = *self.variables.entry(&variable.name).or_insert(fresh);
            if ignored[position] || variables.iter().any(|(known, _)| *known == number) {
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
