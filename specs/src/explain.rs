//! Why a machine does not fit a spec: the line that failed, the facts that came nearest, and the
//! smallest change that would make it fit.
//!
//! Told for a person who has no time, in sentences of at most 100 columns, and as data for
//! `--json`. Nothing here decides anything: whether a spec fits is `matching`'s answer alone.
//!
//! A refusal travels to machines and into logs, so no value of a fact under a key named like a
//! secret is told, nor what a line wants of such a value.

mod mend;

pub use mend::{FactChange, Mend, mend};

use serde::Serialize;

use crate::facts::Fact;
use crate::lang::{Column, Function, Line, Quantity, Spec, Test, Truth, tuple_text};
use crate::matching::{BUDGET, Budget, Matcher, NoMatch, Problem, Search};
use crate::secret::{REDACTED, is_secret_key};
use crate::value::{Value, Variables};

/// The names of the columns, as people are told them.
const COLUMNS: [&str; 4] = ["class", "name", "key", "value"];

/// How much each column counts when facts are compared: a fact of the same class and key is
/// nearer than anything else, then one of the same name.
const WEIGHTS: [usize; 4] = [8, 2, 4, 1];

/// How many of the nearest facts are told.
const NEAREST: usize = 3;

/// The widest line of a sentence.
const WIDTH: usize = 100;

/// Why there is no match.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mismatch {
    /// The deepest line reached, from 0: all lines before it can be satisfied together, and with
    /// it they cannot.
    pub line: usize,
    /// The text line of the file it stands on.
    pub number: usize,
    /// What the lines before it bind, in their first assignment.
    pub bound: Variables,
    /// The facts that came nearest to it under those bindings, nearest first.
    pub nearest: Vec<Nearest>,
}

/// A fact that nearly satisfies the line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Nearest {
    /// Its position in the list of facts.
    pub fact: usize,
    /// The first column that fails, from 0; `None` when all hold and another line has the fact.
    pub column: Option<usize>,
    /// What the column wants, as it is written.
    pub expected: String,
    /// What the fact has there.
    pub actual: Value,
    /// Why that is not enough.
    pub why: Why,
}

/// How a fact fails a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The column does not hold.
    Differs,
    /// The function of the column does not apply to such a value.
    NotApplicable(String),
    /// The variable of the column has another value already.
    Bound {
        /// Its name.
        variable: String,
        /// Its value, as text.
        value: String,
    },
    /// All holds, but the fact is taken.
    Taken {
        /// By this line, from 0.
        line: usize,
    },
}

/// Why the spec does not fit; `Ok(None)` when it does.
pub fn explain(matcher: &Matcher<'_>, spec: &Spec) -> Result<Option<Mismatch>, NoMatch> {
    let problem = Problem::complete(matcher, spec);
    let mut budget = Budget::new(BUDGET);
    let count = spec.lines.len();
    // Satisfiable prefixes are followed by unsatisfiable ones only: halve the interval.
    let (mut good, mut bad) = (0, count);
    if let Some(empty) = (0..count).find(|&line| !problem.has_candidates(line)) {
        bad = empty + 1;
    } else if exists(&problem, (0..count).collect(), &mut budget)? {
        return Ok(None);
    }
    while good + 1 < bad {
        let middle = good.midpoint(bad);
        match exists(&problem, (0..middle).collect(), &mut budget)? {
            true => good = middle,
            false => bad = middle,
        }
    }
    let taken = Search::new(&problem, (0..good).collect(), budget).first()?;
    let bound = matcher.matched(spec, taken.clone()).variables;
    let nearest = nearest(matcher, spec, good, &taken, &bound);
    let bound = without_secrets(matcher, bound);
    Ok(Some(Mismatch { line: good, number: spec.lines[good].number, bound, nearest }))
}

/// Whether these lines can be satisfied together.
fn exists(problem: &Problem<'_>, lines: Vec<usize>, budget: &mut Budget) -> Result<bool, NoMatch> {
    if lines.iter().any(|&line| !problem.has_candidates(line)) {
        return Ok(false);
    }
    let mut search = Search::new(problem, lines, *budget);
    let exists = search.exists();
    *budget = search.budget;
    exists
}

fn nearest(
    matcher: &Matcher<'_>,
    spec: &Spec,
    line: usize,
    taken: &[usize],
    bound: &Variables,
) -> Vec<Nearest> {
    let wanted = Wanted::new(matcher, &spec.lines[line], bound);
    let columns = &wanted.line.columns;
    // The nearest so far, and how near they are. Nothing is made of a fact that is not among them.
    let mut ranked: Vec<(usize, f64, usize)> = Vec::with_capacity(NEAREST + 1);
    for fact in 0..matcher.facts().0.len() {
        let holds = |at: usize| wanted.failure(fact, at).is_none();
        let names = [0, 1, 2].map(holds);
        let mut held: usize =
            WEIGHTS.iter().zip(names).filter(|(_, held)| *held).map(|(weight, _)| weight).sum();
        let farthest = ranked.get(NEAREST - 1).map_or(0, |(held, ..)| *held);
        if held + WEIGHTS[VALUE] < farthest {
            continue;
        }
        held += if holds(VALUE) { WEIGHTS[VALUE] } else { 0 };
        let first = names.iter().position(|held| !held).unwrap_or(VALUE);
        let distance = distance(&columns[first], matcher.index().text(fact, first));
        // Facts in their order when all else is equal.
        let nearer = |(other, far, _): &(usize, f64, usize)| {
            other.cmp(&held).then(distance.total_cmp(far)).is_ge()
        };
        let place = ranked.partition_point(nearer);
        ranked.insert(place, (held, distance, fact));
        ranked.truncate(NEAREST);
    }
    let told = ranked.into_iter().map(|(.., fact)| wanted.told(fact, taken));
    told.map(|nearest| nearest.without_secrets(matcher)).collect()
}

/// A line with all that facts are compared to, made once for all of them.
struct Wanted<'a> {
    matcher: &'a Matcher<'a>,
    line: &'a Line,
    /// What a column must say: the text of a literal.
    literals: [Option<String>; 4],
    /// The name of the variable of a column, and its value when earlier lines bind it.
    bound: [Option<(&'a str, Option<String>)>; 4],
}

/// How a column of a fact fails a line.
enum Failure {
    Differs,
    NotApplicable,
    Bound,
}

impl<'a> Wanted<'a> {
    fn new(matcher: &'a Matcher<'a>, line: &'a Line, bound: &Variables) -> Wanted<'a> {
        let column = |at: usize| &line.columns[at];
        let literals = [0, 1, 2, 3].map(|at| match &column(at).test {
            Some(Test::Literal(value)) => Some(value.as_text()),
            _ => None,
        });
        let bound = [0, 1, 2, 3].map(|at| {
            let name = column(at).variable.as_ref()?.name.as_str();
            Some((name, bound.get(name).map(Value::as_text)))
        });
        Wanted { matcher, line, literals, bound }
    }

    /// How a column of a fact does not satisfy the line, when it does not.
    fn failure(&self, fact: usize, at: usize) -> Option<Failure> {
        let index = self.matcher.index();
        let text = index.text(fact, at);
        if self.literals[at].as_deref().is_some_and(|literal| literal != text) {
            return Some(Failure::Differs);
        }
        match index.function(self.line, fact, at) {
            Truth::Yes => {}
            Truth::No => return Some(Failure::Differs),
            Truth::NotApplicable => return Some(Failure::NotApplicable),
        }
        let value = self.value(fact, at)?;
        (value != text).then_some(Failure::Bound)
    }

    /// The value that the variable of a column has, by earlier lines or an earlier column.
    fn value(&self, fact: usize, at: usize) -> Option<&str> {
        let (name, value) = self.bound[at].as_ref()?;
        if let Some(value) = value {
            return Some(value);
        }
        let same =
            |left: &usize| self.bound[*left].as_ref().is_some_and(|(other, _)| other == name);
        (0..at).find(same).map(|left| self.matcher.index().text(fact, left))
    }

    /// Why a fact is near, and not near enough.
    fn told(&self, fact: usize, taken: &[usize]) -> Nearest {
        let failed = (0..4).find_map(|at| Some((at, self.failure(fact, at)?)));
        let (column, why) = match failed {
            Some((at, failure)) => (Some(at), self.why(fact, at, &failure)),
            None => match taken.iter().position(|&other| other == fact) {
                Some(line) => (None, Why::Taken { line }),
                None => (None, Why::Differs),
            },
        };
        let at = column.unwrap_or(VALUE);
        let expected = condition(&self.line.columns[at]);
        Nearest { fact, column, expected, actual: self.matcher.value(fact, at), why }
    }

    fn why(&self, fact: usize, at: usize, failure: &Failure) -> Why {
        let index = self.matcher.index();
        match (failure, &self.line.columns[at].test) {
            (Failure::NotApplicable, Some(Test::Function(function))) => {
                let reason =
                    function.why_not_applicable(index.text(fact, at), index.unit(fact, at));
                reason.map_or(Why::Differs, Why::NotApplicable)
            }
            (Failure::Bound, _) => {
                let variable = self.bound[at].as_ref().map_or("", |(name, _)| name).to_owned();
                Why::Bound { variable, value: self.value(fact, at).unwrap_or_default().to_owned() }
            }
            _ => Why::Differs,
        }
    }
}

/// What a column wants, without the variable it binds.
fn condition(column: &Column) -> String {
    let text = column.source.as_text();
    match (&column.variable, &column.test, text.split_once('=')) {
        (Some(_), Some(_), Some((_, condition))) => condition.to_owned(),
        _ => text,
    }
}

/// How far a value is from a numeric condition: ties among equally near facts.
fn distance(column: &Column, actual: &str) -> f64 {
    let Some(Test::Function(Function::Compare(_, wanted) | Function::Range(wanted, _))) =
        &column.test
    else {
        return 0.0;
    };
    Quantity::parse(actual).map_or(f64::INFINITY, |actual| (actual.number - wanted.number).abs())
}

impl Mismatch {
    /// One sentence, in lines of at most 100 columns: the line that failed and the nearest fact.
    pub fn sentence(&self, matcher: &Matcher<'_>, spec: &Spec) -> String {
        let line = &spec.lines[self.line];
        let wants = shown_line(&line.columns.clone().map(|column| column.source));
        let told = match self.nearest.first() {
            None => "the machine reported no facts at all".to_owned(),
            Some(nearest) => nearest.told(&matcher.facts().0[nearest.fact], spec),
        };
        wrapped(&format!("line {}, {wants}: {told}", self.number))
    }
}

impl Mismatch {
    /// In as few words as there are, on one line: `line 2: disk sda size 80 is not gt(100)`.
    pub fn in_short(&self, matcher: &Matcher<'_>) -> String {
        let number = self.number;
        let Some(nearest) = self.nearest.first() else {
            return format!("line {number}: the machine reported no facts");
        };
        let fact = &matcher.facts().0[nearest.fact];
        let (expected, actual) = (shown(&nearest.expected), shown(&nearest.actual.as_text()));
        let names = [&fact.0, &fact.1, &fact.2].map(|name| shown(name)).join(" ");
        // The value is told with its names; of another column only that column is.
        let subject = match nearest.column {
            Some(VALUE) => format!("{names} {actual}"),
            Some(column) => format!("{} {actual}", COLUMNS[column]),
            None => names,
        };
        let why = match &nearest.why {
            Why::Differs => format!("is not {expected}"),
            Why::NotApplicable(_) => format!("is nothing that {expected} applies to"),
            Why::Bound { variable, value } => {
                format!("is not ${} = {}", shown(variable), shown(value))
            }
            Why::Taken { .. } => "fits, and an earlier line takes it".to_owned(),
        };
        format!("line {number}: {subject} {why}")
    }
}

impl Nearest {
    /// `nearest is (…), whose value is not gt(100)`.
    fn told(&self, fact: &Fact, spec: &Spec) -> String {
        let fact = shown_fact(fact);
        let column = self.column.map_or("", |column| COLUMNS[column]);
        let expected = shown(&self.expected);
        match &self.why {
            Why::Differs => format!("nearest is {fact}, whose {column} is not {expected}"),
            Why::NotApplicable(reason) => {
                format!("nearest is {fact}, where {expected} does not apply: {}", shown(reason))
            }
            Why::Bound { variable, value } => {
                let (variable, value) = (shown(variable), shown(value));
                format!("nearest is {fact}, whose {column} is not ${variable} = {value}")
            }
            Why::Taken { line } => {
                let number = spec.lines[*line].number;
                format!("only {fact} fits it, and line {number} takes that")
            }
        }
    }
}

/// A condition that any text satisfies.
const ANYTHING: &str = "regexp()";

/// The column that may hold a secret.
const VALUE: usize = 3;

fn fact_key<'a>(matcher: &'a Matcher<'_>, fact: usize) -> &'a str {
    &matcher.facts().0[fact].2
}

/// The bindings with those replaced that are values of secrets.
fn without_secrets(matcher: &Matcher<'_>, mut bound: Variables) -> Variables {
    for value in bound.values_mut().filter(|value| is_secret_text(matcher, &value.as_text())) {
        *value = Value::from(REDACTED);
    }
    bound
}

impl Nearest {
    /// The same without values of secrets, wherever they were found.
    fn without_secrets(mut self, matcher: &Matcher<'_>) -> Nearest {
        let secret = |text: &str| is_secret_text(matcher, text);
        let key = fact_key(matcher, self.fact);
        if self.column == Some(VALUE) && is_secret_key(key) {
            self.expected = REDACTED.to_owned();
            self.actual = Value::from(REDACTED);
        } else if secret(&self.actual.as_text()) {
            self.actual = Value::from(REDACTED);
        }
        match &mut self.why {
            Why::NotApplicable(reason) if self.actual.as_text() == REDACTED => {
                *reason = "its value is of another kind".to_owned();
            }
            Why::Bound { value, .. } if secret(value) => *value = REDACTED.to_owned(),
            _ => {}
        }
        self
    }
}

/// Whether a fact under a key that is named like a secret has this value.
fn is_secret_text(matcher: &Matcher<'_>, text: &str) -> bool {
    let mut facts = matcher.index().with_value(text);
    !text.is_empty() && facts.any(|fact| is_secret_key(fact_key(matcher, fact)))
}

/// A fact for a sentence.
fn shown_fact(fact: &Fact) -> String {
    let mut columns = columns_of(fact);
    if is_secret_key(&fact.2) {
        columns[VALUE] = Value::from(REDACTED);
    }
    shown_tuple(columns)
}

/// A line for a sentence: what it wants of a secret is a secret, a variable alone is not.
fn shown_line(columns: &[Value; 4]) -> String {
    let mut columns = columns.clone();
    let value = columns[VALUE].as_text();
    let tells = value != ANYTHING && (!value.starts_with('$') || value.contains('='));
    if tells && is_secret_key(&columns[2].as_text()) {
        columns[VALUE] = Value::from(REDACTED);
    }
    shown_tuple(columns)
}

fn columns_of(fact: &Fact) -> [Value; 4] {
    [fact.0.as_str().into(), fact.1.as_str().into(), fact.2.as_str().into(), fact.3.clone()]
}

/// A tuple for a sentence: long values are cut.
fn shown_tuple(columns: [Value; 4]) -> String {
    tuple_text(columns.map(|value| match value {
        Value::Text(text) => Value::Text(cut(&text)),
        other => other,
    }))
}

/// A text for a sentence: cut, and without control characters.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in cut(text).chars() {
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
    }
    shown
}

/// The first 60 characters.
fn cut(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The text in lines of at most [`WIDTH`] columns, broken at blanks where there are any.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut width = 0;
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        if width > 0 && width + 1 + word.len() > WIDTH {
            lines.push('\n');
            width = 0;
        } else if width > 0 {
            lines.push(' ');
            width += 1;
        }
        while word.len() > WIDTH {
            lines.extend(word.drain(..WIDTH));
            lines.push('\n');
        }
        width += word.len();
        lines.extend(word);
    }
    lines
}

#[cfg(test)]
mod tests;
