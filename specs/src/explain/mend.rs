//! The smallest change that makes a spec fit a machine.
//!
//! Changes are counted in columns: one column of one line or one fact is less than two of them.
//! Changing a line to accept a fact and changing that fact to satisfy the line cost the same, so
//! the search is over lines only, and the change of the fact is told beside it. When no single
//! line or fact is enough, the answer is which fewest lines stand in the way.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{ANYTHING, VALUE, exists, fact_key, is_secret_text, shown_fact, shown_line, wrapped};
use crate::facts::{Fact, Facts};
use crate::lang::{Column, Comparison, Function, Line, Quantity, Spec, Test};
use crate::matching::{BUDGET, Budget, Match, Matcher, NoMatch, Problem, Search};
use crate::secret::is_secret_key;
use crate::value::Value;

/// What to change.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Mend {
    /// One line, replaced, makes the spec fit.
    Line {
        /// Which, from 0.
        line: usize,
        /// The text line of the file it stands on.
        number: usize,
        /// How many of its columns change.
        columns: usize,
        /// The new line.
        with: [Value; 4],
        /// One fact, replaced instead of the line, does it as well.
        #[serde(skip_serializing_if = "Option::is_none")]
        or_fact: Option<Box<FactChange>>,
    },
    /// No single change is enough.
    Missing {
        /// How many lines no fact is left for.
        count: usize,
        /// Those lines, from 0: without them, or with facts for them, the spec fits.
        lines: Vec<usize>,
    },
}

/// One fact, replaced.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FactChange {
    /// Its position in the list of facts.
    pub fact: usize,
    /// The new fact.
    pub with: Fact,
}

/// The smallest change that makes the spec fit; `Ok(None)` when it fits already.
pub fn mend(matcher: &Matcher<'_>, spec: &Spec) -> Result<Option<Mend>, NoMatch> {
    let problem = Problem::complete(matcher, spec);
    let mut mender = Mender { matcher, spec, problem, budget: Budget::new(BUDGET) };
    let all: Vec<usize> = (0..spec.lines.len()).collect();
    if exists(&mender.problem, all.clone(), &mut mender.budget)? {
        return Ok(None);
    }
    // The last of them first: that is the deepest line reached, which people are told.
    let mut culprits = Vec::new();
    for line in (0..spec.lines.len()).rev() {
        if exists(&mender.problem, without(&all, line), &mut mender.budget)? {
            culprits.push(line);
        }
    }
    for columns in 1..=4 {
        for &line in &culprits {
            if let Some(mend) = mender.change_of(line, columns)? {
                return Ok(Some(mend));
            }
        }
    }
    let lines = match culprits.first() {
        Some(&line) => vec![line],
        None => mender.fewest_in_the_way(&all)?,
    };
    Ok(Some(Mend::Missing { count: lines.len(), lines }))
}

fn without(lines: &[usize], line: usize) -> Vec<usize> {
    lines.iter().copied().filter(|&other| other != line).collect()
}

impl Mend {
    /// One sentence, in lines of at most 100 columns.
    pub fn sentence(&self, spec: &Spec) -> String {
        wrapped(&match self {
            Mend::Line { number, with, or_fact, .. } => {
                let fact = match or_fact {
                    Some(change) => {
                        let fact = shown_fact(&change.with);
                        format!(", or if fact {} were {fact}", change.fact + 1)
                    }
                    None => String::new(),
                };
                format!("it would fit with line {number} {}{fact}", shown_line(with))
            }
            Mend::Missing { count: 1, lines } => {
                format!("it would fit if there were a fact for line {}", numbers(spec, lines))
            }
            Mend::Missing { count, lines } => {
                let numbers = numbers(spec, lines);
                format!("it would fit if there were facts for {count} more lines: {numbers}")
            }
        })
    }
}

/// The text lines these lines stand on: `4, 6, 12 to 19`.
fn numbers(spec: &Spec, lines: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for number in lines.iter().map(|&line| spec.lines[line].number) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let shown = runs.into_iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first} to {last}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

struct Mender<'a> {
    matcher: &'a Matcher<'a>,
    spec: &'a Spec,
    problem: Problem<'a>,
    budget: Budget,
}

impl Mender<'_> {
    /// A change of so many columns of this line that makes the spec fit.
    fn change_of(&mut self, line: usize, columns: usize) -> Result<Option<Mend>, NoMatch> {
        for changed in choices(columns) {
            // A variable is kept if only its condition is in the way: configure may use it.
            for keep_variables in [true, false] {
                let old = &self.spec.lines[line];
                let open = opened(old, changed, keep_variables);
                let Some(found) = self.match_with(line, &open)? else { continue };
                let new = closed(self.matcher, old, &open, changed, found.lines[line]);
                let with = new.columns.clone().map(|column| column.source);
                let or_fact = self.fact_change(line, changed, &found).map(Box::new);
                let number = old.number;
                return Ok(Some(Mend::Line { line, number, columns, with, or_fact }));
            }
        }
        Ok(None)
    }

    /// The first match of the spec with this line in the place of one.
    fn match_with(&mut self, position: usize, line: &Line) -> Result<Option<Match>, NoMatch> {
        let problem = self.problem.with_line(position, line);
        let all = (0..self.spec.lines.len()).collect();
        if !problem.has_candidates(position) {
            return Ok(None);
        }
        let mut search = Search::new(&problem, all, self.budget);
        let first = search.first();
        self.budget = search.budget;
        match first {
            Ok(facts) => Ok(Some(self.matcher.matched(self.spec, facts))),
            Err(NoMatch::Unsatisfied) => Ok(None),
            Err(exhausted) => Err(exhausted),
        }
    }

    /// The same change made to the fact, when its new values can be named.
    fn fact_change(&self, line: usize, changed: [bool; 4], found: &Match) -> Option<FactChange> {
        let position = found.lines[line];
        if is_secret_key(fact_key(self.matcher, position)) {
            return None;
        }
        let mut fact = self.matcher.facts().0[position].clone();
        for at in (0..4).filter(|&at| changed[at]) {
            let column = &self.spec.lines[line].columns[at];
            let wanted = match (&column.variable, &column.test) {
                (_, Some(test)) => example(test)?,
                (Some(variable), None) => self.bound_elsewhere(line, &variable.name, found)?,
                (None, None) => return None,
            };
            if is_secret_text(self.matcher, &wanted.as_text()) {
                return None;
            }
            match at {
                0 => fact.0 = wanted.as_text(),
                1 => fact.1 = wanted.as_text(),
                2 => fact.2 = wanted.as_text(),
                _ => fact.3 = wanted,
            }
        }
        let mut facts: Facts = self.matcher.facts().clone();
        facts.0[position] = fact.clone();
        let fits = Matcher::new(&facts).find(self.spec).is_ok();
        fits.then_some(FactChange { fact: position, with: fact })
    }

    /// The value that the other lines give to a variable.
    fn bound_elsewhere(&self, line: usize, name: &str, found: &Match) -> Option<Value> {
        let lines = self.spec.lines.iter().zip(&found.lines).enumerate();
        lines.filter(|(position, _)| *position != line).find_map(|(_, (other, &fact))| {
            let at = other.columns.iter().position(|column| {
                column.variable.as_ref().is_some_and(|variable| variable.name == name)
            })?;
            Some(self.matcher.value(fact, at))
        })
    }

    /// The fewest lines without which the others can be satisfied. Every set of lines that
    /// cannot be satisfied together must lose one of its own, so only those are tried.
    fn fewest_in_the_way(&mut self, all: &[usize]) -> Result<Vec<usize>, NoMatch> {
        let (hopeless, rest): (Vec<usize>, Vec<usize>) =
            all.iter().partition(|&&line| !self.problem.has_candidates(line));
        let upper = self.greedily_in_the_way(&rest)?;
        let mut best = upper.clone();
        for count in 0..upper.len() {
            let mut seen = BTreeSet::new();
            let mut tries = 2_000;
            if let Some(lines) = self.drop_exactly(&rest, count, &mut seen, &mut tries)? {
                best = lines;
                break;
            }
            if tries == 0 {
                break;
            }
        }
        best.extend(hopeless);
        best.sort_unstable();
        Ok(best)
    }

    /// Lines left out one after the other, each the one at which the list fails.
    fn greedily_in_the_way(&mut self, lines: &[usize]) -> Result<Vec<usize>, NoMatch> {
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        for &line in lines {
            kept.push(line);
            if !exists(&self.problem, kept.clone(), &mut self.budget)? {
                kept.pop();
                dropped.push(line);
            }
        }
        Ok(dropped)
    }

    fn drop_exactly(
        &mut self,
        lines: &[usize],
        count: usize,
        seen: &mut BTreeSet<Vec<usize>>,
        tries: &mut usize,
    ) -> Result<Option<Vec<usize>>, NoMatch> {
        if *tries == 0 || !seen.insert(lines.to_vec()) {
            return Ok(None);
        }
        *tries -= 1;
        if exists(&self.problem, lines.to_vec(), &mut self.budget)? {
            return Ok(Some(Vec::new()));
        }
        if count == 0 {
            return Ok(None);
        }
        let mut core = lines.to_vec();
        for &line in lines {
            let smaller = without(&core, line);
            if !exists(&self.problem, smaller.clone(), &mut self.budget)? {
                core = smaller;
            }
        }
        for line in core {
            let rest = without(lines, line);
            if let Some(mut found) = self.drop_exactly(&rest, count - 1, seen, tries)? {
                found.push(line);
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// All choices of so many columns, the value first: people change values before names.
fn choices(count: usize) -> Vec<[bool; 4]> {
    let mut choices: Vec<[bool; 4]> = (1..16_u8)
        .filter(|bits| bits.count_ones() as usize == count)
        .map(|bits| [8, 4, 2, 1].map(|bit| bits & bit != 0))
        .collect();
    // `true` at the end comes first. Which of the last three are chosen, and how many, says
    // whether the first one is.
    choices.sort_by_key(|choice| [!choice[3], !choice[1], !choice[2]]);
    choices
}

/// The line with these columns open to anything.
fn opened(line: &Line, changed: [bool; 4], keep_variables: bool) -> Line {
    let mut open = line.clone();
    for at in (0..4).filter(|&at| changed[at]) {
        let column = &mut open.columns[at];
        let conditional = column.variable.is_some() && column.test.is_some();
        if !(keep_variables && conditional) {
            column.variable = None;
        }
        column.test = None;
    }
    open
}

/// The open columns closed again around the fact that was found.
fn closed(matcher: &Matcher<'_>, old: &Line, open: &Line, changed: [bool; 4], fact: usize) -> Line {
    let mut new = open.clone();
    for at in (0..4).filter(|&at| changed[at]) {
        let actual = matcher.value(fact, at);
        let condition = match &old.columns[at].test {
            Some(Test::Function(Function::Compare(comparison, _))) => {
                let name = match comparison {
                    Comparison::Greater | Comparison::AtLeast => "ge",
                    Comparison::Less | Comparison::AtMost => "le",
                };
                Quantity::parse(&actual.as_text())
                    .map(|_| Value::Text(format!("{name}({})", actual.as_text().trim())))
            }
            _ => None,
        };
        // A line that had to name a secret accepts anything instead.
        let secret = (at == VALUE && is_secret_key(fact_key(matcher, fact)))
            || is_secret_text(matcher, &actual.as_text());
        let condition = condition
            .or_else(|| Column::literally(&actual))
            .filter(|_| !secret)
            // What cannot be written as itself: anything.
            .unwrap_or_else(|| Value::from(ANYTHING));
        new.columns[at].source = match &new.columns[at].variable {
            Some(variable) => {
                let dollars = if variable.cmdb { "$$" } else { "$" };
                Value::Text(format!("{dollars}{}={}", variable.name, condition.as_text()))
            }
            None => condition,
        };
    }
    new
}

/// A value that satisfies a condition, when one is easily named.
fn example(test: &Test) -> Option<Value> {
    let number = |quantity: &Quantity, more: f64| {
        let number = quantity.number + more;
        quantity.unit.is_none().then(|| Value::Text(number.to_string()))
    };
    match test {
        Test::Literal(value) => Some(value.clone()),
        Test::Function(Function::In(items)) => items.first().map(|item| item.as_str().into()),
        Test::Function(Function::Compare(comparison, quantity)) => match comparison {
            Comparison::Greater => number(quantity, 1.0),
            Comparison::Less => number(quantity, -1.0),
            Comparison::AtLeast | Comparison::AtMost => number(quantity, 0.0),
        },
        Test::Function(Function::Range(low, _)) => number(low, 0.0),
        Test::Function(Function::Network(networks)) => {
            let network = networks.first()?;
            let host = network.hosts().next().unwrap_or_else(|| network.addr());
            Some(Value::Text(host.to_string()))
        }
        Test::Function(_) => None,
    }
}
